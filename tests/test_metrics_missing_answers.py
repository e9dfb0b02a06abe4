"""Missing answers counted as wrong ones: nothing that a run leaves out may be worth more than the worst answer."""

import numpy as np
import pytest

from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.missing_answers import answered_by_all, counted_as_wrong
from nbannot.measures.paired_statistics import comparable_metrics, goodness, runs_statistics

ABC = ("a", "b", "c")


def value_of(data, metric):
    stats = runs_statistics([data, data], metric)[0]
    return float(stats.formula(stats.rows.sum(0)[None])[0])


def test_no_wrong_answer_is_worse_than_a_missing_one():
    """Random fields of 2 to 6 labels: refusing some of the wrong answers never raises any metric."""
    rng = np.random.default_rng(3)
    for trial in range(40):
        k, n = int(rng.integers(2, 7)), int(rng.integers(20, 120))
        kind = ("dropdown", "likert")[trial % 2]
        labels = tuple(range(1, k + 1)) if kind == "likert" else tuple("abcdef"[:k])
        people = [labels[i] for i in rng.choice(k, n, p=rng.dirichlet(np.ones(k)))]
        skill, skew = rng.uniform(0.2, 0.95), rng.dirichlet(np.ones(k))
        said = [v if rng.random() < skill else labels[rng.choice(k, p=skew)] for v in people]
        silent = [v if v == h or rng.random() < 0.4 else None for v, h in zip(said, people, strict=True)]
        for metric in set(comparable_metrics(kind)) - {"coverage", "invalid_rate"}:
            one, two = FieldData(kind, labels, people, said), FieldData(kind, labels, people, silent)
            values = np.array([value_of(one, metric), value_of(counted_as_wrong(two, metric), metric)])
            talks, refuses = goodness(metric, values)
            assert np.isnan(refuses) or refuses <= talks + 1e-9, (metric, people, said, silent)


def test_two_labels_leave_one_wrong_answer():
    people = ["a"] * 6 + ["b"] * 4
    data = FieldData("dropdown", ("a", "b"), people, ["a"] * 4 + [None] * 2 + ["b"] * 3 + [None])
    # a: 4 right, 2 counted as b, and one b counted as a; b: 3 right, 1 counted as a
    assert value_of(counted_as_wrong(data, "f1_macro"), "f1_macro") == pytest.approx(
        (2 * 4 / (6 + 5) + 2 * 3 / (4 + 5)) / 2
    )
    assert value_of(data, "f1_macro") == pytest.approx((2 * 4 / (6 + 4) + 2 * 3 / (4 + 3)) / 2)


def test_a_bias_grows_by_what_is_missing():
    data = FieldData("likert", (1, 2, 3, 4, 5), [1, 2, 3, 4, 5, 3], [2, 3, 3, 4, 5, None])
    # errors 1, 1, 0, 0, 0; the missing one at 5 adds 2, at 1 it would cancel them
    assert value_of(counted_as_wrong(data, "bias"), "bias") == pytest.approx(4 / 6)
    assert value_of(data, "bias") == pytest.approx(2 / 5)


def test_missing_spans_and_texts_are_wrong_marks_and_no_likeness():
    texts = ["abcdefghij"] * 3
    people = [[(0, 4, None)], [(0, 4, None)], []]
    data = FieldData("span", (), people, [[(0, 4, None)], None, None], texts=texts)
    wrong = counted_as_wrong(data, "char_iou")
    assert wrong.model[1] == [(4, 8, None)]
    assert wrong.model[2] == [(0, 4, None)]
    # 4 of 4 + 8 characters in one, 0 of 8 and 0 of 4 in the others
    assert value_of(wrong, "char_iou") == pytest.approx(4 / 16)
    assert counted_as_wrong(data, "presence_f1").model[1] is None
    silent = FieldData("textbox", (), ["x", ""], [None, None])
    assert value_of(counted_as_wrong(silent, "presence_f1"), "presence_f1") == 0
    assert counted_as_wrong(silent, "norm_levenshtein") is silent


def test_one_label_and_full_coverage_stay_as_they_are():
    only = FieldData("dropdown", ("a",), ["a", "a"], ["a", None])
    full = FieldData("dropdown", ABC, list("abc"), list("aab"))
    assert counted_as_wrong(only, "f1_macro") is only
    assert counted_as_wrong(full, "f1_macro") is full


def test_closed_gates_are_missing_answers_too():
    applies = np.array([True, True, True, False])
    data = FieldData(
        "dropdown", ABC, ["a", "b", "c", None], ["a", "b", None, None],
        human_applies=applies, model_applies=np.array([True, True, False, False]),
    )  # fmt: skip
    counts = score_field(counted_as_wrong(data, "f1_macro"), n_resamples=20).counts
    assert (counts["scored"], counts["missed_gate"], counts["na_na"]) == (3, 0, 1)


def test_texts_that_all_answered():
    people = list("abca")
    runs = [
        FieldData("dropdown", ABC, people, model) for model in (["a", None, "c", "b"], ["a", "b", "b", None])
    ]
    for data in answered_by_all(runs):
        assert data.human == ["a", None, "c", None]


def test_a_thousand_labels_take_no_time():
    labels = tuple(f"label {i}" for i in range(1_000))
    rng = np.random.default_rng(0)
    people = [labels[i] for i in rng.integers(0, 1_000, 600)]
    said = [v if rng.random() < 0.5 else None for v in people]
    wrong = counted_as_wrong(FieldData("dropdown", labels, people, said), "f1_macro")
    assert (wrong.model_codes >= 0).all()
