"""Long scales: the form on observed cells equals that on full tables, and many labels are scored in seconds."""

from __future__ import annotations

import numpy as np
import pytest

from nbannot.measures import label_field
from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field

LABELS = (1, 2, 3, 5, 8, 9)


def _rows(seed: int, kind: str, **given: object) -> FieldData:
    rng = np.random.default_rng(seed)
    n = 120
    human = rng.integers(0, 5, n)
    model = np.clip(human + rng.integers(-2, 3, n), 0, 5)
    missing, closed = rng.random(n) < 0.15, rng.random(n) < 0.1
    unanswered = ~closed & (rng.random(n) < 0.1)
    labels = LABELS if kind == "likert" else tuple("abcdef")
    value = [labels[i] for i in human]
    answers = [
        None if gone else labels[i] for i, gone in zip(model, missing | closed | unanswered, strict=True)
    ]
    value[3:6] = [None] * 3
    return FieldData(
        kind,
        labels,
        value,
        answers,
        human_applies=rng.random(n) < 0.85,
        model_applies=~closed,
        gate_unanswered=unanswered,
        **given,
    )


def _numbers(data: FieldData) -> list[tuple[object, ...]]:
    found = score_field(data, n_resamples=60, seed=4)
    every = {**found.results, **found.extra}
    rows = [(name, r.value, r.ci_low, r.ci_high, r.ci_method, r.reason, r.n) for name, r in every.items()]
    return rows + [tuple(row.values()) for row in found.per_class]


def _same(one: list[tuple[object, ...]], two: list[tuple[object, ...]]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x == (pytest.approx(y, abs=1e-12, rel=0, nan_ok=True) if isinstance(y, float) else y), (
                a,
                b,
            )


@pytest.mark.parametrize("kind", ["likert", "dropdown"])
@pytest.mark.parametrize("shape", ["rows", "clusters", "weights", "one label", "nothing"])
def test_observed_cells_give_what_full_tables_give(kind, shape, monkeypatch):
    rng = np.random.default_rng(8)
    given: dict[str, object] = {}
    if shape == "clusters":
        given["clusters"] = [f"c{i}" for i in rng.integers(0, 40, 120)]
    if shape == "weights":
        given["weights"] = rng.integers(1, 4, 120).astype(float)
    data = _rows(5, kind, **given)
    if shape == "one label":
        data = FieldData(kind, data.labels, [data.labels[2]] * 30, [data.labels[2]] * 29 + [None])
    if shape == "nothing":
        data = FieldData(kind, data.labels, [None] * 5, [data.labels[0]] * 5)
    full = _numbers(data)
    monkeypatch.setattr(label_field, "FULL_TABLE_UP_TO", 0)
    _same(_numbers(data), full)


@pytest.mark.parametrize(("kind", "k"), [("likert", 10_000), ("dropdown", 1_000)])
def test_many_labels_are_scored_without_their_full_table(kind, k):
    rng = np.random.default_rng(2)
    human = rng.integers(0, k, 2_000).astype(np.int32)
    model = np.clip(human + rng.integers(-k // 50, k // 50, 2_000), 0, k - 1).astype(np.int32)
    labels = tuple(range(k)) if kind == "likert" else tuple(f"o{i}" for i in range(k))
    found = score_field(FieldData(kind, labels, human_codes=human, model_codes=model), n_resamples=100)
    assert found.results["accuracy"].value == (human == model).mean()
    assert found.confusion is not None
    assert found.confusion.sum() == 2_000
    if kind == "likert":
        from scipy.stats import kendalltau, spearmanr

        assert found.results["mae"].value == pytest.approx(np.abs(human - model).mean(), abs=1e-9)
        assert found.results["bias"].value == pytest.approx((model - human).mean(), abs=1e-9)
        assert found.results["spearman_corr"].value == pytest.approx(spearmanr(human, model)[0], abs=1e-12)
        assert found.extra["kendall_tau_b"].value == pytest.approx(kendalltau(human, model)[0], abs=1e-12)
        off, apart = ((human - model) ** 2).mean(), ((human[:, None] - model[None].astype(float)) ** 2).mean()
        assert found.results["quadratic_kappa"].value == pytest.approx(1 - off / apart, abs=1e-12)


@pytest.mark.parametrize(
    "metric", ["spearman_corr", "krippendorff_alpha", "gwet_ac1", "f1_macro", "cohen_kappa"]
)
def test_comparisons_on_observed_cells_are_those_on_full_tables(metric, monkeypatch):
    from nbannot.measures import paired_statistics
    from nbannot.measures.paired import compare_two

    one = _rows(5, "likert")
    other = FieldData("likert", one.labels, one.human, list(one.model)[::-1], human_applies=one.human_applies)
    first = FieldData("likert", one.labels, one.human, one.model, human_applies=one.human_applies)
    full = compare_two(first, other, metric, n_resamples=40)
    monkeypatch.setattr(paired_statistics, "FULL_TABLE_UP_TO", 0)
    observed = compare_two(first, other, metric, n_resamples=40)
    for name in ("value_a", "diff", "ci_low", "ci_high", "p"):
        assert getattr(observed, name) == pytest.approx(getattr(full, name), abs=1e-12)
