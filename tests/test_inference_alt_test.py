"""The alternative annotator test: worked by hand, against scipy, its edge cases, and what may not change it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import codebook_of
from made_runs import DEGREE, MARKS, QUOTE, STANCE, made_run, made_task
from scipy import stats
from statsmodels import api as sm

import nbannot as nba
from nbannot.errors import ScoringError
from nbannot.study.task import Task

OPTIONS = ("pro", "anti", "neutral")


def task_with(field: dict[str, Any], n: int) -> Any:
    return made_task([f"Text number {i} of the study." for i in range(n)], field)


def coder(task: Any, name: str, values: list[Any], column: str) -> Any:
    """A person's labels; None: not coded."""
    table = pd.DataFrame({"id": task.ids, column: ["" if v is None else str(v) for v in values]})
    return nba.load_coder(task, table[table[column] != ""], name)


def by_hand(
    model: list[Any], people: dict[str, list[Any]], epsilon: float
) -> tuple[float, float, list[float]]:
    """ω, ρ and p by the definition of the paper, text by text; a missing answer scores 0."""
    p_values, advantages = [], []
    for name, own in people.items():
        wins, losses = [], []
        for i, label in enumerate(own):
            others = [v[i] for other, v in people.items() if other != name and v[i] is not None]
            if label is None or not others:
                continue
            s_model = np.mean([model[i] == o for o in others]) if model[i] is not None else 0.0
            s_coder = np.mean([label == o for o in others])
            wins.append(float(s_model >= s_coder))
            losses.append(float(s_coder >= s_model))
        d = np.array(losses) - np.array(wins)
        p_values.append(float(stats.ttest_1samp(d, epsilon, alternative="less").pvalue))
        advantages.append(float(np.mean(wins)))
    adjusted = stats.false_discovery_control(p_values, method="by")
    return float((adjusted <= 0.05).mean()), float(np.mean(advantages)), p_values


def noisy(rng: np.random.Generator, truth: list[str], right: float, given: float = 1.0) -> list[Any]:
    drawn = [t if rng.random() < right else str(rng.choice(OPTIONS)) for t in truth]
    return [v if rng.random() < given else None for v in drawn]


@pytest.mark.parametrize(("seed", "epsilon", "model_right"), [(1, 0.1, 0.9), (2, 0.15, 0.75), (3, 0.2, 0.6)])
def test_unbalanced_coders_and_missing_answers_by_the_definition(tmp_path, seed, epsilon, model_right):
    rng = np.random.default_rng(seed)
    truth = [str(v) for v in rng.choice(OPTIONS, 90)]
    people = {
        name: noisy(rng, truth, 0.8, given) for name, given in (("anna", 1.0), ("ben", 0.8), ("eve", 0.7))
    }
    model = noisy(rng, truth, model_right, 0.95)
    task = task_with(STANCE, 90)
    run = made_run(task, {"Stance": model}, tmp_path)
    coders = [coder(task, name, v, "S_Stance") for name, v in people.items()]
    found = nba.alt_test(run, "Stance", coders=coders, epsilon=epsilon)
    omega, rho, p = by_hand(model, people, epsilon)
    assert found.winning_rate == pytest.approx(omega)
    assert found.advantage == pytest.approx(rho)
    assert found.passed is (omega >= 0.5)
    assert found.frame["p"].tolist() == pytest.approx(p)
    assert found.advantage_low < rho < found.advantage_high
    assert set(found.sensitivity) == {0.0, 0.05, 0.1, 0.15, 0.2, epsilon}
    again = nba.alt_test(run, "Stance", coders=coders[::-1], epsilon=epsilon)
    assert again.winning_rate == found.winning_rate
    assert again.frame.set_index("coder")["p"].to_dict() == pytest.approx(
        found.frame.set_index("coder")["p"].to_dict()
    )
    renamed = [coder(task, f"x{name}", v, "S_Stance") for name, v in people.items()]
    assert nba.alt_test(run, "Stance", coders=renamed, epsilon=epsilon).frame["p"].tolist() == pytest.approx(
        p
    )
    shown = str(found)
    assert f"ε = {epsilon:g}" in shown
    assert "replace one coder of this pool" in shown
    assert found._repr_html_().count("<table") >= 2
    assert r"\toprule" in found.to_latex()


def test_identical_coders_have_no_variance(tmp_path):
    task = task_with(STANCE, 60)
    same = ["pro", "anti"] * 30
    run = made_run(task, {"Stance": same}, tmp_path)
    coders = [coder(task, name, same, "S_Stance") for name in ("h0", "h1", "h2")]
    found = nba.alt_test(run, coders=coders, epsilon=0.2)
    assert (found.winning_rate, found.advantage, found.passed) == (1.0, 1.0, True)
    assert found.frame["p"].tolist() == [0.0] * 3
    at_zero = nba.alt_test(run, coders=coders, epsilon=0)
    assert (at_zero.winning_rate, at_zero.advantage, at_zero.passed) == (0.0, 1.0, False)
    assert at_zero.frame["p_adjusted"].tolist() == [1.0] * 3


def test_silence_never_helps(tmp_path):
    rng = np.random.default_rng(5)
    truth = [str(v) for v in rng.choice(OPTIONS, 80)]
    task = task_with(STANCE, 80)
    coders = [coder(task, name, noisy(rng, truth, 0.85), "S_Stance") for name in ("a", "b", "c")]
    model = noisy(rng, truth, 0.7)
    silent = [v if v == t or i % 2 else None for i, (v, t) in enumerate(zip(model, truth, strict=True))]
    spoken = nba.alt_test(made_run(task, {"Stance": model}, tmp_path), coders=coders, epsilon=0.1)
    quiet = nba.alt_test(made_run(task, {"Stance": silent}, tmp_path), coders=coders, epsilon=0.1)
    assert quiet.advantage <= spoken.advantage
    assert quiet.frame["n"].tolist() == spoken.frame["n"].tolist() == [80] * 3
    assert "has no valid answer" in str(quiet)


def test_scales_texts_and_spans(tmp_path):
    n = 40
    rng = np.random.default_rng(8)
    truth = rng.integers(1, 6, n)
    sides = {name: np.clip(truth + rng.integers(-1, 2, n), 1, 5) for name in ("a", "b", "c")}
    model = np.clip(truth + rng.integers(-1, 2, n), 1, 5).tolist()
    task = task_with(DEGREE, n)
    coders = [coder(task, name, v.tolist(), "S_Degree") for name, v in sides.items()]
    found = nba.alt_test(made_run(task, {"Degree": model}, tmp_path), coders=coders, epsilon=0.2)
    wins = []
    for name, own in sides.items():
        others = np.column_stack([v for other, v in sides.items() if other != name])
        s_model, s_own = (-np.sqrt(((np.array(v)[:, None] - others) ** 2).mean(1)) for v in (model, own))
        wins.append((s_model >= s_own - 1e-12).mean())
    assert found.advantage == pytest.approx(float(np.mean(wins)))
    assert "RMSE" in found.measure

    task = task_with(QUOTE, n)
    people = [coder(task, name, [f"{name} says {i}" for i in range(n)], "S_Quote") for name in ("ann", "bob")]
    run = made_run(task, {"Quote": [f"ann says {i}" for i in range(n)]}, tmp_path)
    found = nba.alt_test(run, coders=people, epsilon=0.1)
    assert found.frame.set_index("coder")["advantage"].to_dict() == {"ann": 1.0, "bob": 1.0}

    task = task_with(MARKS, n)
    one = '[{"start": 0, "end": 4, "text": "Text", "label": "actor"}]'
    other = '[{"start": 5, "end": 11, "text": "number", "label": "actor"}]'
    people = [
        coder(task, name, [cell] * n, "S_Marks") for name, cell in (("x", one), ("y", one), ("z", other))
    ]
    right = [{"start": 0, "end": 4, "text": "Text", "label": "actor"}]
    found = nba.alt_test(made_run(task, {"Marks": [right] * n}, tmp_path), coders=people, epsilon=0.1)
    assert found.frame.set_index("coder")["coder_advantage"].to_dict() == {"x": 1.0, "y": 1.0, "z": 0.0}
    assert found.passed


def test_few_texts_two_coders_an_expert_and_clusters(tmp_path):
    n = 60
    rng = np.random.default_rng(2)
    truth = [str(v) for v in rng.choice(OPTIONS, n)]
    task = task_with(STANCE, n)
    few = [v if i < 12 else None for i, v in enumerate(truth)]
    given = {"a": noisy(rng, truth, 0.9), "b": noisy(rng, truth, 0.9), "few": few}
    coders = [coder(task, name, values, "S_Stance") for name, values in given.items()]
    run = made_run(task, {"Stance": noisy(rng, truth, 0.9)}, tmp_path)
    found = nba.alt_test(run, coders=coders, epsilon=0.2)
    row = found.frame.set_index("coder").loc["few"]
    assert row["n"] == 12
    assert math.isnan(row["p"])
    assert "fewer than 30" in row["reason"]
    assert found.winning_rate in (0.0, 0.5, 1.0)
    assert "recommended" in str(found)
    ranked = nba.alt_test(run, coders=coders, epsilon=0.2, min_texts=10)
    assert ranked.frame.set_index("coder")["test"]["few"] == "signed rank"
    expert = nba.alt_test(run, coders=coders, epsilon=0.2, expert="b", min_texts=10)
    assert expert.frame["coder"].tolist() == ["a", "few"]


def test_texts_of_one_document_are_one_observation(tmp_path):
    docs, per_doc = 12, 10
    names = [f"d{i // per_doc}" for i in range(docs * per_doc)]
    ids = [f"t{i}" for i in range(len(names))]
    task = Task(pl.DataFrame({"id": ids, "text": ids, "doc": names}), codebook_of(STANCE), "demo")
    rng = np.random.default_rng(11)
    by_doc = rng.random(docs) < 0.4  # whole documents on which the model is wrong
    model = ["anti" if by_doc[i // per_doc] else "pro" for i in range(len(names))]
    coders = [coder(task, name, ["pro"] * len(names), "S_Stance") for name in ("a", "b", "c")]
    run = made_run(task, {"Stance": model}, tmp_path)
    rows = nba.alt_test(run, coders=coders, epsilon=0.9)
    clustered = nba.alt_test(run, coders=coders, epsilon=0.9, cluster="doc")
    d = by_doc.astype(float)
    t = (d.mean() - 0.9) / (d.std(ddof=1) / math.sqrt(docs))
    assert clustered.frame["p"].tolist() == pytest.approx([float(stats.t.cdf(t, docs - 1))] * 3)
    assert clustered.frame["p"][0] > rows.frame["p"][0]
    assert clustered.advantage_high - clustered.advantage_low > rows.advantage_high - rows.advantage_low


def test_letters(tmp_path):
    task = task_with(STANCE, 40)
    same = ["pro", "anti"] * 20
    run = made_run(task, {"Stance": same}, tmp_path)
    a, b = (coder(task, name, same, "S_Stance") for name in "ab")
    with pytest.raises(TypeError, match="epsilon"):
        nba.alt_test(run, coders=[a, b])
    for wrong, words in (
        ({"epsilon": 1.5}, "from 0 to below 1"),
        ({"epsilon": 0.1, "coders": [a]}, "at least two coders"),
        ({"epsilon": 0.1, "coders": [a, b, run]}, "against itself"),
        ({"epsilon": 0.1, "expert": "zoe"}, "not one of the coders"),
        ({"epsilon": 0.1, "min_texts": 50}, "no coder shares 50 texts"),
    ):
        with pytest.raises(ScoringError, match=words):
            nba.alt_test(run, **{"coders": [a, b], **wrong})


def test_names_and_order_change_nothing_and_weights_do(tmp_path):
    rng = np.random.default_rng(8)
    n = 120
    truth = [str(v) for v in rng.choice(OPTIONS, n)]
    people = {name: noisy(rng, truth, 0.85) for name in ("anna", "ben", "eve")}
    hard = np.array([t == "neutral" for t in truth])
    model = [str(rng.choice(OPTIONS)) if h else t for t, h in zip(truth, hard, strict=True)]
    weight = np.where(hard, 4.0, 1.0)  # hard texts were drawn with a fourth of the chance
    texts = [f"Text number {i} of the study." for i in range(n)]
    data = pd.DataFrame({"id": [f"t{i}" for i in range(n)], "text": texts, "w": weight.astype(str),
                         "doc": [f"d{i // 3}" for i in range(n)]})  # fmt: skip
    task = Task(data, codebook_of(STANCE), "demo")
    run = made_run(task, {"Stance": model}, tmp_path)
    coders = [coder(task, name, v, "S_Stance") for name, v in people.items()]

    def test(items, **options):
        return nba.alt_test(run, "Stance", coders=items, epsilon=0.1, n_resamples=200, **options)

    plain = test(coders)
    turned = test([coder(task, new, people[old], "S_Stance")
                   for new, old in (("x", "eve"), ("zoe", "anna"), ("b", "ben"))])  # fmt: skip
    assert (turned.winning_rate, turned.advantage) == (plain.winning_rate, pytest.approx(plain.advantage))
    assert sorted(turned.frame["p"]) == pytest.approx(sorted(plain.frame["p"]))
    weighted = test(coders, weights="w")
    for one in weighted.coders:
        others = [v for name, v in people.items() if name != one.coder]
        own = np.array([[a == b for a, b in zip(people[one.coder], v, strict=True)] for v in others]).mean(0)
        theirs = np.array([[a == b for a, b in zip(model, v, strict=True)] for v in others]).mean(0)
        wins, losses = (theirs >= own).astype(float), (own >= theirs).astype(float)
        fit = sm.WLS(losses - wins, np.ones(n), weights=weight).fit(
            cov_type="HC1"
        )  # the linearised mean, df n - 1
        t = (fit.params[0] - 0.1) / fit.bse[0]
        assert one.advantage == pytest.approx(np.average(wins, weights=weight))
        assert one.p == pytest.approx(stats.t.cdf(t, n - 1))
    assert weighted.advantage < plain.advantage  # it is weak where few texts were drawn
    assert weighted.candidate_agreement < plain.candidate_agreement
    assert any("Weighted by the inverse" in note for note in weighted.notes)
    known = Task(data, codebook_of(STANCE), "demo", weights="w")
    assert nba.alt_test(made_run(known, {"Stance": model}, tmp_path), coders=coders, epsilon=0.1,
                        n_resamples=200).advantage == pytest.approx(weighted.advantage)  # fmt: skip
    by_doc = test(coders, weights="w", cluster="doc")
    assert "weighted t, 40 clusters" in {one.test for one in by_doc.coders}
