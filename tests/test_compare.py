"""Comparison: what is refused, what is counted, and what is said, on runs whose every answer is known."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import codebook_of
from made_runs import answer, made_run, made_task

from nbannot.asking.answers import Answer
from nbannot.comparing.coder import load_coder, load_outputs
from nbannot.comparing.comparison import compare
from nbannot.comparing.reliability import agreement
from nbannot.errors import NbannotError, ScoringError, TaskError
from nbannot.measures.paired_statistics import LOWER_IS_BETTER
from nbannot.measures.significance import adjusted
from nbannot.page.blocks import Grid, as_cell
from nbannot.study.task import Task

STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti", "neutral"]}
DEGREE = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
GATE = {"name": "Gate", "type": "checkbox"}
HOW = {
    "name": "How",
    "type": "dropdown",
    "options": ["x", "y"],
    "condition": {"section_key": "section_1", "annotation_key": "annotation_1", "value": 1},
}
QUOTE = {"name": "Quote", "type": "textbox"}
MARKS = {"name": "Marks", "type": "span", "label_options": ["actor", "claim"]}
FAST = {"n_resamples": 500}

ids = (f"{n:07x}a" for n in itertools.count())


def texts(n):
    return [f"Text {i}." for i in range(n)]


def run_on(task, tmp_path, name="model", **answers):
    return made_run(task, answers, tmp_path / name, run_id=next(ids), model_id=name)


def stance_task(n=20, **columns):
    """Return texts that people called pro (first half) and anti (second half)."""
    task = made_task(texts(n), STANCE, Stance=["pro"] * (n // 2) + ["anti"] * (n - n // 2))
    return replace(task, data=task.data.with_columns(**{k: pl.Series(v) for k, v in columns.items()}))


def bold_differences(compared):
    """Return the differences that the table of pairs sets in bold: those that are called one."""
    grids = (block for block in compared._fragment().blocks if isinstance(block, Grid))
    cells = (as_cell(cell) for grid in grids for row in grid.rows for cell in row)
    return [cell.text for cell in cells if cell.tone == "strong" and cell.text.startswith(("+", "−"))]


def right_in(task, rows):
    """Return stances that are right in these rows and wrong in all others."""
    other = {"pro": "anti", "anti": "pro"}
    return [value if i in rows else other[value] for i, value in enumerate(task.human("S_Stance"))]


def pair_of(task, tmp_path, a, b):
    """Return two runs that are right in the rows a and b."""
    return [run_on(task, tmp_path, name, Stance=right_in(task, rows)) for name, rows in (("A", a), ("B", b))]


# The numbers


def test_a_pair_of_runs_by_hand(tmp_path):
    """17 and 11 of 20 right, 8 only by A, 2 only by B: p = 2 P(X <= 2) - P(X = 2) = (2 * 56 - 45) / 1024."""
    task = stance_task()
    runs = pair_of(task, tmp_path, range(17), {*range(9), 17, 18})
    row = compare(runs, "accuracy").frame.iloc[0]
    assert (row["value_a"], row["value_b"], row["diff"]) == pytest.approx((0.85, 0.55, 0.30))
    assert row["n_discordant"] == 10
    assert row["p"] == row["p_adjusted"] == pytest.approx(67 / 1024)
    assert (row["p_method"], row["ci_method"], row["n"]) == ("McNemar mid-p", "Bonett-Price", 20)
    # Bonett and Price: p1 = 9/22, p2 = 3/22, d = 6/22, half = 1.96 sqrt((p1 + p2 - d^2) / 22)
    half = 1.959964 * math.sqrt((12 / 22 - (6 / 22) ** 2) / 22)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((6 / 22 - half, 6 / 22 + half), abs=1e-6)


def test_runs_that_differ_in_a_setting_that_their_model_does_not_take_are_told_apart_from_others(tmp_path):
    task = made_task(["a", "b", "c", "d"], GATE, Gate=[True, False, True, False])
    deaf = {"capabilities": {"dropped": {"temperature": "does not support 0"}}}
    cold, warm = (
        made_run(
            task,
            {"Gate": [True, True, True, False]},
            tmp_path / str(t),
            run_id=f"run{t}",
            temperature=t,
            **deaf,
        )
        for t in (0.0, 1.0)
    )
    assert any(
        "did not take it, so that it makes no difference" in note for note in compare([cold, warm]).notes
    )
    same = made_run(
        task, {"Gate": [True, True, True, True]}, tmp_path / "s", run_id="same", temperature=0.0, **deaf
    )
    assert not any("did not take it" in note for note in compare([cold, same]).notes)


def test_f1_is_that_of_scikit_learn_and_the_order_of_runs_only_turns_the_sign(tmp_path):
    from sklearn.metrics import f1_score

    task = stance_task(40)
    rng = np.random.default_rng(5)
    one, two = (
        np.where(rng.random(40) < share, task.human("S_Stance"), "neutral").tolist() for share in (0.9, 0.5)
    )
    runs = [run_on(task, tmp_path, name, Stance=v) for name, v in (("A", one), ("B", two))]
    row, turned = (compare(order, **FAST).frame.iloc[0] for order in (runs, runs[::-1]))
    used = ["pro", "anti"]
    for column, said in (("value_a", one), ("value_b", two)):
        assert row[column] == pytest.approx(
            f1_score(task.human("S_Stance"), said, labels=used, average="macro", zero_division=0)
        )
    assert turned["diff"] == -row["diff"]
    assert turned["p"] == row["p"]
    assert (turned["ci_low"], turned["ci_high"]) == pytest.approx(
        (-row["ci_high"], -row["ci_low"]), abs=0.03
    )  # other random draws


def test_missing_answers_are_errors_in_every_run_on_the_same_n(tmp_path):
    task = stance_task(10)
    refusing = [answer("S_Stance", None, "refused") if i < 4 else "anti" for i in range(10)]
    runs = [
        run_on(task, tmp_path, "A", Stance=refusing),
        run_on(task, tmp_path, "B", Stance=right_in(task, range(10))),
    ]
    row = compare(runs, "accuracy").frame.iloc[0]
    assert (row["n"], row["value_a"], row["value_b"]) == (10, 0.5, 1.0)


def test_every_comparison_shown_is_in_the_family(tmp_path):
    task = made_task(texts(12), STANCE, DEGREE, Stance=["pro", "anti"] * 6, Degree=[1, 2, 3, 4, 5, 3] * 2)
    rng = np.random.default_rng(1)
    runs = [
        run_on(
            task,
            tmp_path,
            name,
            Stance=rng.choice(["pro", "anti"], 12).tolist(),
            Degree=rng.integers(1, 6, 12).tolist(),
        )
        for name in "ABC"
    ]
    compared = compare(runs, ["accuracy", "mae"], **FAST)
    frame = compared.frame
    assert list(compared.results) == [("S_Stance", "accuracy"), ("S_Degree", "accuracy"), ("S_Degree", "mae")]
    assert compared.family == len(frame) == 9
    for method in ("holm", "bh"):
        frame = compare(runs, ["accuracy", "mae"], adjust=method, family="all", **FAST).frame
        assert frame["p_adjusted"].tolist() == pytest.approx(adjusted(frame["p"], method).tolist())
        frame = compare(runs, ["accuracy", "mae"], adjust=method, **FAST).frame
        for _, of_field in frame.groupby("column"):
            assert of_field["p_adjusted"].tolist() == pytest.approx(adjusted(of_field["p"], method).tolist())
    assert compared.families == {"S_Stance": 3, "S_Degree": 6}
    how = (
        "same rows, A minus B · 95% paired bootstrap, B=500, seed 1, resampling unit=row · p and intervals: "
    )
    assert (
        compared.conventions == how + "Holm over the comparisons of each field (3 in S_Stance, 6 in S_Degree)"
    )
    assert compare(runs, "mae", **FAST).conventions == how + "Holm over all 3 comparisons"
    assert (
        "after Holm over 9 comparisons" not in compared.verdicts[0]
    )  # sentences of three runs name the best


def test_clusters_are_resampled_together_and_few_of_them_are_named(tmp_path):
    task = stance_task(40, author=[f"a{i // 4}" for i in range(40)])
    runs = pair_of(task, tmp_path, range(38), range(12, 40))
    alone, together = (compare(runs, "f1_macro", cluster=c, **FAST).frame.iloc[0] for c in (None, "author"))
    assert together["ci_high"] - together["ci_low"] > alone["ci_high"] - alone["ci_low"]
    assert together["reason"] == "only 10 clusters: interval and p may be too optimistic"
    accuracy = compare(runs, "accuracy", cluster="author", **FAST)
    assert accuracy.frame.iloc[0]["p_method"] == "exact randomisation"
    assert "resampling unit=cluster (10)" in accuracy.conventions


def test_weights_are_those_of_the_sampling(tmp_path):
    """Right in the rows 0-4 with weight 1 and 5 with weight 5: (5 + 5) / (5 + 15 * 5) = 1/8."""
    task = stance_task(20, w=["1"] * 5 + ["5"] * 15)
    runs = pair_of(task, tmp_path, range(6), range(5))
    row = compare(runs, "accuracy", weights="w", **FAST).frame.iloc[0]
    assert (row["value_a"], row["value_b"]) == pytest.approx((10 / 80, 5 / 80))
    compared = compare(runs, "accuracy", weights="w", **FAST)
    assert "by the inverse of the known probabilities" in compared.conventions
    assert [own.value for own in compared.own("S_Stance", "accuracy")] == pytest.approx([10 / 80, 5 / 80])


def test_a_conditional_field_is_compared_where_people_say_that_it_applies(tmp_path):
    """Four texts apply. A has 3 right, 1 wrong; B closed the gate on one (a miss), 2 right, 1 wrong."""
    task = made_task(texts(6), GATE, HOW, Gate=[1, 1, 1, 1, 0, 0], How=["x", "y", "x", "y", "", ""])
    na = answer("S_How", None, "not_applicable")
    runs = [
        run_on(task, tmp_path, "A", Gate=[1, 1, 1, 1, 0, 1], How=["x", "y", "x", "x", na, "y"]),
        run_on(task, tmp_path, "B", Gate=[1, 1, 0, 1, 0, 0], How=["x", "y", na, "x", na, na]),
    ]
    row = compare(runs, "accuracy", "How").frame.iloc[0]
    assert (row["n"], row["value_a"], row["value_b"], row["n_discordant"]) == (4, 0.75, 0.5, 1)


def test_own_intervals_are_those_of_the_compared_rows(tmp_path):
    task = stance_task()
    runs = pair_of(task, tmp_path, range(17), range(10))
    compared = compare(runs, "accuracy", n_resamples=10_000)
    for run, own in zip(runs, compared.own("S_Stance", "accuracy"), strict=True):
        alone = run.scores.fields["S_Stance"].results["accuracy"]
        assert (own.value, own.ci_low, own.ci_high) == (alone.value, alone.ci_low, alone.ci_high)


@pytest.mark.parametrize("kind", ["textbox", "span"])
def test_texts_and_spans_are_compared_by_their_headline(tmp_path, kind):
    task = made_task(
        ["The council decided.", "Nothing here.", "People object."],
        QUOTE,
        MARKS,
        Quote=["council", "", "people"],
        Marks=['[{"start": 4, "end": 11, "text": "council", "label": "actor"}]', "[]", "[]"],
    )
    found = [{"start": 4, "end": 11, "text": "council", "label": "actor"}]
    runs = [
        run_on(task, tmp_path, "A", Quote=["council", "", "people"], Marks=[found, [], []]),
        run_on(task, tmp_path, "B", Quote=["council", "no", "x"], Marks=[[], [], found]),
    ]
    column, metric = {"textbox": ("Quote", "norm_levenshtein"), "span": ("Marks", "token_f1")}[kind]
    row = compare(runs, column=column, **FAST).frame.iloc[0]
    # textbox: a blank cell is "not coded", two texts count: A (1 + 1) / 2, B (1 + 0 for "x") / 2
    assert (row["metric"], row["value_a"]) == (metric, 1.0)
    assert row["value_b"] == pytest.approx(1 / 2 if kind == "textbox" else 0)


# What is said


def sentence(compared):
    assert len(compared.verdicts) == 1
    return compared.verdicts[0]


def test_a_difference(tmp_path):
    task = stance_task(60)
    runs = pair_of(task, tmp_path, range(24, 60), range(54))
    assert sentence(compare(runs, "accuracy")) == (
        "Stance, accuracy on 60 texts: B is higher than A by 0.30 (0.90 against 0.60; 95% interval of the difference "
        "+0.13 to +0.45; p < 0.001; 30 texts decide)."
    )


def test_no_difference_is_no_equality(tmp_path):
    task = stance_task()
    runs = pair_of(task, tmp_path, range(16), range(3, 18))
    assert sentence(compare(runs, "accuracy")) == (
        "Stance, accuracy on 20 texts: A and B cannot be told apart (0.80 against 0.75; 95% interval of the difference "
        "−0.19 to +0.28; p = 0.688). That is not evidence that they are equal: with this many texts, only a "
        "difference of about 0.35 or more would show."
    )


def test_runs_with_the_same_answers(tmp_path):
    task = stance_task()
    runs = pair_of(task, tmp_path, range(16), range(16))
    for metric, value in (("accuracy", "0.80"), ("f1_macro", "0.79")):
        compared = compare(runs, metric, **FAST)
        assert sentence(compared).endswith(f": A and B are the same on every text ({value}).")
        assert compared.frame.iloc[0]["p"] == 1.0
        assert len(compared.as_good_as_best()) == 2


def test_lower_is_better_for_errors(tmp_path):
    people = [1, 2, 3, 4, 5] * 6
    task = made_task(texts(30), DEGREE, Degree=people)
    near, far = [*people[:-3], 3, 3, 3], [6 - v for v in people]
    runs = [run_on(task, tmp_path, name, Degree=v) for name, v in (("near", near), ("far", far))]
    for order, limits in ((runs, "+1.72 to +2.85"), (runs[::-1], "+1.77 to +2.80")):  # other random draws
        compared = compare(order, "mae", **FAST)
        # far: 6 x (4 + 2 + 0 + 2 + 4) / 30 = 2.4; near: 0 + 1 + 2 over 30 = 0.1
        assert sentence(compared) == (
            "Degree, mean absolute error on 30 texts: near is lower (better) than far by 2.30 (0.10 against 2.40; "
            f"95% interval of the difference {limits}; p < 0.001; 24 texts decide)."
        )
        assert [run.model_id for run in compared.as_good_as_best()] == ["near"]
        best = compared.ranking().set_index("name")
        assert (best.loc["near", "diff_to_best"], best.loc["near", "as_good_as_best"]) == (0.0, True)
        assert best.loc["far", "diff_to_best"] == pytest.approx(2.3)


def test_many_runs_with_an_error_measure(tmp_path):
    people = [1, 2, 3, 4, 5] * 6
    task = made_task(texts(30), DEGREE, Degree=people)
    near = [*people[:-3], 3, 3, 3]
    answers = {"near": near, "nearer": [*people[:-1], 4], "far": [6 - v for v in people]}
    runs = [run_on(task, tmp_path, name, Degree=v) for name, v in answers.items()]
    compared = compare(runs, "mae", **FAST)
    assert sentence(compared).startswith(
        "Degree, mean absolute error on 30 texts: best (lowest) is nearer (0.03). "
        "Not distinguishable from it: near (0.10)."
    )
    [shown] = re.findall(r'<p class="v"><b>(.*?)</b></p>', compared._repr_mimebundle_()["text/html"])
    assert shown.endswith("is nearer (0.03). Not distinguishable from it: near (0.10)."), (
        "no best one without that"
    )
    assert {run.model_id for run in compared.as_good_as_best("Degree")} == {"near", "nearer"}


def test_a_bias_is_best_near_zero_and_has_a_sign(tmp_path):
    people = [2, 3, 4] * 10
    task = made_task(texts(30), DEGREE, Degree=people)
    answers = {"high": [v + 1 for v in people], "low": [*(v - 1 for v in people[:20]), *people[20:]]}
    runs = [run_on(task, tmp_path, name, Degree=v) for name, v in answers.items()]
    said = sentence(compare(runs, "bias", margin=0.1, **FAST))
    assert said.startswith(
        "Degree, bias (model − human) on 30 texts: high has a higher bias than low by 1.67 (+1.00 against −0.67; "
    )
    assert "at most" not in said
    runs.append(run_on(task, tmp_path, "mixed", Degree=people))
    assert ": closest to 0 is mixed (0.00)." in sentence(compare(runs, "bias", **FAST))


def test_three_runs_one_ahead(tmp_path):
    task = stance_task(60)
    answers = {"good": range(57), "poor": range(30), "poorer": range(24)}
    runs = [run_on(task, tmp_path, k, Stance=right_in(task, v)) for k, v in answers.items()]
    compared = compare(runs, "accuracy")
    assert sentence(compared) == (
        "Stance, accuracy on 60 texts: best is good (0.95). Worse than it, every other run: poor (0.50), poorer (0.40) "
        "(p < 0.05 after Holm over 3 comparisons). Chosen on these same texts, its value is too favourable on "
        "average; corrected for the choice: 0.95."
    )
    # right by 57, 30, 24; 24 texts by all, 6 by two, 27 by one: 2 (3 x 4725 - 111^2) / (3 x 111 - 267)
    assert compared.notes == [
        "Stance: People gave no text the label neutral: no agreement measure says anything about it here.",
        "Stance, accuracy: Cochran's Q over all 3 runs = 56.18, df = 2, p < 0.001.",
        "p values and intervals of differences are adjusted for the number of comparisons: an interval leaves out 0 "
        "exactly where the adjusted p is below .05.",
    ]


def test_ties_for_the_best_are_all_named(tmp_path):
    task = stance_task(60)
    answers = {"one": range(57), "two": range(3, 60), "poor": range(24)}
    runs = [run_on(task, tmp_path, k, Stance=right_in(task, v)) for k, v in answers.items()]
    compared = compare(runs, "accuracy")
    assert sentence(compared).startswith(
        "Stance, accuracy on 60 texts: best are one (0.95), two (0.95). Worse than them, every other run: poor (0.40) "
        "(p < 0.05 after Holm over 3 comparisons)."
    )
    assert [run.model_id for run in compared.as_good_as_best()] == ["one", "two"]


def test_costs_are_told_where_one_takes_strictly_least(tmp_path):
    task = stance_task(60)
    runs = [
        run_on(task, tmp_path, name, Stance=right_in(task, range(50 + i))) for i, name in enumerate("ABC")
    ]
    for run, seconds in zip(runs, (3.0, 2.0, 2.0), strict=True):
        run.__dict__["timing"] = {"total_inference_time": seconds}
        run.__dict__["energy"] = {"total_energy_kwh": seconds * 1e-3 if run is not runs[2] else 1e-3}
    said = sentence(compare(runs, "accuracy"))
    assert "Among these, least energy: C." in said
    assert "model time" not in said
    ranking = compare(runs, "accuracy").ranking()
    assert ranking["seconds"].tolist() == [3.0, 2.0, 2.0]


def test_what_is_not_defined_is_said(tmp_path):
    task = made_task(texts(6), STANCE, DEGREE, Stance=["pro"] * 6, Degree=[1, 2, 3, 4, 5, 1])
    answers = {"A": [3] * 6, "B": [1, 2, 3, 4, 5, 5], "C": [5, 4, 3, 2, 1, 1]}
    runs = [run_on(task, tmp_path, k, Stance=["pro"] * 6, Degree=v) for k, v in answers.items()]
    two = compare(runs[:2], "spearman_corr", "Degree", **FAST)
    assert sentence(two) == (
        "Degree, Spearman correlation on 6 texts: no difference can be computed; it is not defined for A."
    )
    assert math.isnan(two.ranking().iloc[0]["diff_to_best"])
    assert sentence(compare(runs, "spearman_corr", "Degree", **FAST)).endswith("Not defined for A.")
    assert sentence(compare(runs, "cohen_kappa", "Stance", **FAST)) == (
        "Stance, Cohen's kappa on 6 texts: not defined for any run."
    )


def test_a_field_without_human_labels_is_left_out_or_said(tmp_path):
    task = made_task(texts(4), STANCE, DEGREE, Stance=["pro"] * 4, Degree=[""] * 4)
    runs = [
        run_on(task, tmp_path, name, Stance=["pro", "anti", "pro", "pro"], Degree=[1, 2, 3, 4])
        for name in "AB"
    ]
    assert [key[0] for key in compare(runs, **FAST).results] == ["S_Stance"]
    assert sentence(compare(runs, column="Degree", **FAST)) == (
        "Degree, quadratic kappa: no text with a human label, nothing to compare."
    )


def test_what_is_not_defined_is_no_comparison_of_the_family(tmp_path):
    task = made_task(texts(6), STANCE, DEGREE, Stance=["pro", "anti"] * 3, Degree=[1, 2, 3, 4, 5, 1])
    answers = {"A": [3] * 6, "B": [1, 2, 3, 4, 5, 5]}
    runs = [run_on(task, tmp_path, k, Stance=["pro"] * 6, Degree=v) for k, v in answers.items()]
    compared = compare(runs, ["accuracy", "spearman_corr"], **FAST)
    assert len(compared.frame) == 3
    assert compared.family == compared.frame["p"].notna().sum() == 2
    assert "one comparison per field" in compared.conventions


def test_a_label_that_is_too_rare_for_a_macro_average_is_named(tmp_path):
    task = made_task(texts(30), STANCE, Stance=["pro"] * 27 + ["anti"] * 3)
    runs = [
        run_on(task, tmp_path, k, Stance=["pro"] * v + ["anti"] * (30 - v)) for k, v in (("A", 28), ("B", 25))
    ]
    compared = compare(runs, ["f1_macro", "accuracy"], **FAST)
    f1, accuracy = compared.frame["reason"]
    assert f1 == "interval unreliable: class anti has n=3"
    assert accuracy == ""
    assert compared.notes[1] == (
        "Stance, macro F1: intervals unreliable, too few texts of some labels (class anti has n=3)."
    )


def test_labels_that_warrant_no_verdict_give_none(tmp_path):
    """One label only, too few texts, a label too rare: the numbers are there, and nobody is called better."""
    one = made_task(texts(40), STANCE, Stance=["pro"] * 40)
    given = {"A": ["pro"] * 40, "B": ["pro"] * 15 + ["anti"] * 25, "C": ["pro"] * 10 + ["anti"] * 30}
    runs = [run_on(one, tmp_path / "one", k, Stance=v) for k, v in given.items()]
    for compared in (compare(runs[:2], **FAST, margin=0.1), compare(runs, "accuracy", **FAST, margin=0.1)):
        (verdict,) = compared.verdicts
        assert verdict.endswith("People used one label only: these texts cannot say which is better.")
        assert not re.search("higher|[Ww]orse|best|p <|shown", verdict)
        assert compared.as_good_as_best() == list(compared.runs)
        assert set(compared.frame["a_not_inferior"]) == set(compared.frame["b_not_inferior"]) == {None}
        assert set(compared.frame["reason"]) == {"people used one label only"}
        assert not bold_differences(compared)
    answered = compare(
        [runs[0], run_on(one, tmp_path / "one", "D", Stance=["pro"] * 10 + [None] * 30)], "coverage", **FAST
    )
    assert "is higher than" in answered.verdicts[0], "who answers is told apart whatever people said"
    assert bold_differences(answered)

    people = ["pro", "anti"] * 20
    few = made_task(texts(8), STANCE, Stance=people[:8])
    wrong = ["anti", "pro"] * 4
    pair = [run_on(few, tmp_path / "few", k, Stance=v) for k, v in (("A", people[:8]), ("B", wrong))]
    compared = compare(pair, "accuracy", **FAST, margin=0.1)
    assert compared.frame["p"][0] < 0.05
    assert "Do not rely on that: only 8 texts with a human label." in compared.verdicts[0]
    assert not bold_differences(compared)
    assert compared.frame["b_not_inferior"].tolist() == [False]
    assert compared.frame["a_not_inferior"].tolist() == [None]

    rare = made_task(texts(40), STANCE, Stance=["pro"] * 31 + ["anti"] * 9)
    said = {"A": ["pro"] * 31 + ["anti"] * 9, "B": ["pro"] * 40}
    compared = compare([run_on(rare, tmp_path / "rare", k, Stance=v) for k, v in said.items()], **FAST)
    assert "Do not rely on that: class anti has n=9." in compared.verdicts[0]
    assert "some labels have fewer than 10 human labels" in compared.to_latex("ranking")

    topics = {"name": "Topics", "type": "multiselect", "options": ["war", "peace"]}
    both = made_task(texts(40), topics, Topics=['["war"]'] * 36 + ['["war", "peace"]'] * 4)
    said = {"A": list(both.human("S_Topics")), "B": [("peace",)] * 40}
    compared = compare([run_on(both, tmp_path / "sets", k, Topics=v) for k, v in said.items()], **FAST)
    assert "Do not rely on that: option peace has n=4." in compared.verdicts[0]


def test_fields_that_nobody_coded_in_common_are_left_out(tmp_path):
    task = made_task(texts(4), STANCE, DEGREE, Stance=["pro"] * 4, Degree=[1, 2, 3, 4])
    ada = load_coder(
        task, pl.DataFrame({"id": task.ids, "S_Stance": ["pro"] * 4, "S_Degree": ["1", "2", "", ""]}), "A"
    )
    bo = load_coder(
        task, pl.DataFrame({"id": task.ids, "S_Stance": ["anti"] * 4, "S_Degree": ["", "", "3", "4"]}), "B"
    )
    assert list(compare([ada, bo], **FAST).results) == [("S_Stance", "f1_macro")]
    only = [
        replace(c, coding=replace(c.coding, answers={"S_Degree": c.coding.answers["S_Degree"]}))
        for c in (ada, bo)
    ]
    with pytest.raises(ScoringError, match="there is no text with a human label that all of these coded"):
        compare(only, **FAST)


def test_two_runs_of_one_model_are_told_apart_by_their_ids(tmp_path):
    task = stance_task()
    runs = [run_on(task, tmp_path, "same", Stance=right_in(task, range(k))) for k in (10, 18)]
    compared = compare(runs, "accuracy")
    assert compared.names == {run.run_id: f"same [{run.run_id}]" for run in runs}
    assert all(run.run_id in sentence(compared) for run in runs)


def test_a_p_value_is_not_rounded_across_the_line(tmp_path):
    """[V:cmp.mcnemar.15_6]: 15 against 6 discordant texts, mid-p .0525."""
    task = stance_task(100)
    runs = pair_of(task, tmp_path, {*range(15), *range(21, 80)}, {*range(15, 21), *range(21, 80)})
    assert "p = 0.052)" in sentence(compare(runs, "accuracy"))
    many = compare(runs, "accuracy")
    pair = replace(many.results["S_Stance", "accuracy"].pairs[0], p_adjusted=0.04996)
    found = replace(many.results["S_Stance", "accuracy"], pairs=[pair])
    assert "p = 0.0500;" in sentence(replace(many, results={("S_Stance", "accuracy"): found}))


# A declared margin


def test_a_margin_asks_whether_the_worse_run_is_good_enough(tmp_path):
    task = stance_task(400)
    runs = pair_of(task, tmp_path, range(360), range(356))
    enough, unknown = (compare(runs, "accuracy", margin=m) for m in (0.05, 0.01))
    assert sentence(enough).endswith("B is shown to be at most 0.05 worse than A.")
    assert sentence(unknown).endswith(
        "It is not shown that B is at most 0.01 worse than A: it may be 0.02 worse."
    )
    row = enough.frame.iloc[0]
    assert (row["a_not_inferior"], row["b_not_inferior"]) == (True, True)
    assert unknown.frame.iloc[0]["b_not_inferior"] == False  # noqa: E712 - numpy's False
    assert enough.ranking()["not_inferior_to_best"].tolist() == [True, True]
    assert "a_not_inferior" not in compare(runs, "accuracy").frame
    assert enough.notes[1:] == [
        "Margin 0.05: a run is shown to be good enough where the 95% interval of the difference lies within it. "
        "That holds only if the margin was declared before looking."
    ]


def test_a_margin_turns_round_for_errors(tmp_path):
    people = [1, 2, 3, 4, 5] * 40
    task = made_task(texts(200), DEGREE, Degree=people)
    good, bad = [*people[:-1], 4], [*people[:-60], *(3 for _ in range(60))]
    runs = [run_on(task, tmp_path, k, Degree=v) for k, v in (("bad", bad), ("good", good))]
    row = compare(runs, "mae", margin=0.1, **FAST).frame.iloc[0]
    assert (row["a_not_inferior"], row["b_not_inferior"]) == (False, True)
    assert compare(runs, "mae", margin=0.1, **FAST).verdicts[0].endswith("worse.")


def test_a_margin_with_several_runs(tmp_path):
    task = stance_task(400)
    runs = [
        run_on(task, tmp_path, k, Stance=right_in(task, range(v)))
        for k, v in (("A", 360), ("B", 357), ("C", 320))
    ]
    said = sentence(compare(runs, "accuracy", margin=0.05))
    assert "Shown to be at most 0.05 worse than the best: B. Not shown to be at most 0.05 worse: C." in said


# People


def people_task(tmp_path):
    """Return a task of 20 texts and a run that is right in 15 of them."""
    task = stance_task()
    return task, run_on(task, tmp_path, "M", Stance=right_in(task, range(15)))


def test_only_texts_that_every_person_coded_count(tmp_path):
    """Ada coded 0-9, Bo 5-14 (10 left blank): texts 5-9 and 11-14 less what Ada lacks = 5-9."""
    task, run = people_task(tmp_path)
    stances = task.human("S_Stance")
    ada = load_coder(task, pd.DataFrame({"id": task.ids[:10], "S_Stance": stances[:10]}), "Ada")
    cells = ["", *stances[6:15]]
    bo = load_coder(task, pd.DataFrame({"id": task.ids[5:15], "S_Stance": cells}), "Bo")
    compared = compare([run, ada, bo], "accuracy")
    frame = compared.frame
    assert frame["n"].tolist() == [4, 4, 4]  # 6-9
    assert frame["value_a"].tolist() == [1.0, 1.0, 1.0]
    assert "Only texts that Ada and Bo coded count: 4 of 20 in Stance." in compared.notes
    assert compare([run, ada], "accuracy").frame["n"].tolist() == [10]


def test_what_people_reach_is_a_band_behind_the_models(tmp_path):
    """Of 20 texts the model has 15 right, Ada 18 and Bo 16: the band runs from 0.80 to 0.90."""
    task, run = people_task(tmp_path)
    other = {"pro": "anti", "anti": "pro"}

    def person(name, slips):
        said = [other[s] if i < slips else s for i, s in enumerate(task.human("S_Stance"))]
        return load_coder(task, pd.DataFrame({"id": task.ids, "S_Stance": said}), name)

    ada, bo = person("Ada", 2), person("Bo", 4)
    compared = compare([run, ada, bo], "accuracy")
    assert compared.ceiling("S_Stance", "accuracy") == pytest.approx((0.8, 0.9))
    figure = compared.figures["S_Stance", "accuracy"]
    assert "a band from 0.80 to 0.90" in figure.svg()
    assert "against the same labels, 0.80 to 0.90" in compared._fragment().text
    assert compare([run, ada], "accuracy").ceiling("S_Stance", "accuracy") is None
    assert compare([ada, bo], "accuracy").ceiling("S_Stance", "accuracy") is None


def test_an_invalid_answer_of_a_run_still_counts_beside_people(tmp_path):
    task, _ = people_task(tmp_path)
    run = run_on(task, tmp_path, "M", Stance=[None] * 10 + right_in(task, range(20))[10:])
    ada = load_coder(
        task, pd.DataFrame({"id": task.ids[:12], "S_Stance": task.human("S_Stance")[:12]}), "Ada"
    )
    row = compare([run, ada], "accuracy").frame.iloc[0]
    assert (row["n"], row["value_a"], row["value_b"]) == (12, pytest.approx(2 / 12), 1.0)


def test_the_order_and_the_id_column_of_a_coder_do_not_matter(tmp_path):
    task, run = people_task(tmp_path)
    turned = list(range(20))[::-1]
    rows = {"S_Stance": [right_in(task, range(4, 20))[i] for i in turned]}
    names = [task.ids[i] for i in turned]
    tables = [
        pd.DataFrame({"id": names, **rows}),
        pl.DataFrame({"sample_id": names, **rows}),
        pl.DataFrame({"text": task.texts[::-1], "doc_id": names, **rows}),
    ]
    expected = None
    for table in tables:
        frame = compare([load_coder(task, table, "Ada"), run], "accuracy").frame
        expected = frame if expected is None else expected
        pd.testing.assert_frame_equal(frame, expected)
    assert expected.iloc[0][["value_a", "value_b", "n_discordant"]].tolist() == [0.8, 0.75, 9]
    odd = pd.DataFrame({"unit": names, **rows})
    with pytest.raises(ScoringError, match="name the column with id_column="):
        load_coder(task, odd, "Ada")
    with pytest.raises(ScoringError, match="has no column 'units'"):
        load_coder(task, odd, "Ada", id_column="units")
    pd.testing.assert_frame_equal(
        compare([load_coder(task, odd, "Ada", id_column="unit"), run], "accuracy").frame, expected
    )


def test_a_coder_whose_ids_stand_at_other_texts_is_refused():
    task = stance_task(4)
    table = pd.DataFrame({"id": task.ids, "text": task.texts, "S_Stance": task.human("S_Stance")})
    same = table.assign(text=[f" {text.replace(' ', chr(10))}" for text in task.texts]).iloc[::-1]
    same.iloc[0, 1] = None
    assert load_coder(task, same, "Ada").metrics.set_index("metric")["value"]["accuracy"] == 1
    for frame in (pd.DataFrame, pl.DataFrame):
        wrong = table.to_dict("list") | {"id": [task.ids[i] for i in (1, 0, 2, 3)]}
        with pytest.raises(ScoringError, match="has another text than the task under 2 of 4 ids") as caught:
            load_coder(task, frame(wrong), "Ada")
        assert "is 'Text 0.' there, 'Text 1.' in the task" in str(caught.value)
    del wrong["text"]
    assert load_coder(task, pl.DataFrame(wrong), "Ada").coding.count() == {"ok": 4}


def test_ids_that_a_float_cannot_hold_are_refused():
    """2**53 + 1 beside a blank becomes 2**53, which is another text's id."""
    big = [2**53, 2**53 + 1, 2**53 + 2]
    task = Task(
        pd.DataFrame({"id": big, "text": texts(3), "S_Stance": ["pro"] * 3}), codebook_of(STANCE), "big"
    )
    table = pd.DataFrame({"id": [2**53 + 1, None], "S_Stance": ["pro", "anti"]})
    with pytest.raises(
        ScoringError, match="cannot hold so many digits: 9007199254740992 may have been another"
    ):
        load_coder(task, table, "Ada")
    assert load_coder(task, table.assign(id=["9007199254740993", ""]), "Ada").task.ids == ["9007199254740993"]


def test_a_coder_of_a_task_in_another_order_is_put_in_order(tmp_path):
    """The same texts, loaded from a file that is sorted the other way round: joined by id, never by place."""
    task, run = people_task(tmp_path)
    turned = Task(task.data.reverse(), task.codebook, task.name)
    ada = load_coder(turned, pl.DataFrame({"id": turned.ids, "S_Stance": turned.human("S_Stance")}), "Ada")
    frame = compare([run, ada], "accuracy").frame
    assert frame.iloc[0][["value_a", "value_b"]].tolist() == [0.75, 1.0]


def test_other_texts_or_labels_under_the_same_ids_are_refused(tmp_path):
    task, run = people_task(tmp_path)
    other = Task(task.data.with_columns(text=pl.lit("Other.")), task.codebook, task.name)
    ada = load_coder(other, pl.DataFrame({"id": task.ids, "S_Stance": task.human("S_Stance")}), "Ada")
    with pytest.raises(ScoringError, match="Ada has a different text from the others under the id 't0'"):
        compare([run, ada])
    relabelled = Task(task.data.with_columns(S_Stance=pl.lit("pro")), task.codebook, task.name)
    bo = load_coder(relabelled, pl.DataFrame({"id": task.ids, "S_Stance": task.human("S_Stance")}), "Bo")
    with pytest.raises(ScoringError, match=r"Bo has different human labels from the others in 'S_Stance'"):
        compare([run, bo])


def test_unknown_ids_are_left_out_and_kept(tmp_path):
    task, _ = people_task(tmp_path)
    coder = load_coder(
        task, pl.DataFrame({"id": ["t1", "zz", "t0"], "S_Stance": ["pro", "pro", "anti"]}), "Ada"
    )
    assert coder.unknown_ids == ("zz",)
    assert coder.task.ids == ["t0", "t1"]
    assert coder.coding.values("S_Stance") == ["anti", "pro"]
    assert repr(coder) == "<Coder 'Ada' on 'demo': 2 labels, 1 rows with unknown ids left out>"


def test_ids_that_pandas_made_floats_of(tmp_path):
    data = pl.DataFrame({"id": ["7", "8"], "text": ["a", "b"], "S_Stance": ["pro", "anti"]})
    task = Task(data, codebook_of(STANCE), "demo")
    labels = pd.DataFrame({"id": [7.0, 8.0, np.nan], "S_Stance": ["pro", None, "pro"]})
    coder = load_coder(task, labels, "Ada")
    assert coder.coding.values("S_Stance") == ["pro", None]


def test_texts_without_ids_are_joined_by_their_text(tmp_path):
    data = pl.DataFrame({"text": ["a", "b", "c"], "S_Stance": ["pro", "anti", "pro"]})
    task = Task(data, codebook_of(STANCE), "demo")
    labels = pd.DataFrame({"id": [1, 2], "text": ["c", "a"], "S_Stance": ["anti", "pro"]})
    coder = load_coder(task, labels, "Ada")
    assert coder.task.texts == ["a", "c"]
    assert coder.coding.values("S_Stance") == ["pro", "anti"]


def test_a_file_of_labels(tmp_path):
    task, run = people_task(tmp_path)
    path = tmp_path / "ada.csv"
    path.write_text("sample_id,S_Stance\nt3,pro\nt0,\nt1,anti\n", encoding="utf-8-sig")
    coder = load_coder(task, path)
    assert coder.run_id == "ada"
    assert coder.coding.count() == {"not_asked": 1, "ok": 2}
    assert compare([coder, run], "accuracy").frame.iloc[0][["n", "value_a"]].tolist() == [2, 0.5]
    path.write_text("sample_id,S_Stance\nt3,pro\nt0,maybe\n")
    with pytest.raises(TaskError, match="'maybe' must be one of pro, anti, neutral") as caught:
        load_coder(task, path)
    assert "coder 'ada'" in str(caught.value)
    assert "ada.csv" in str(caught.value)
    assert "row 3 (text t0)" in str(caught.value)
    pd.read_csv(path).to_excel(tmp_path / "book.xlsx", index=False)
    book = load_coder(task, tmp_path / "book.xlsx", outside_labels="not_coded")
    lenient = load_coder(task, path, outside_labels="not_coded")
    assert (book.run_id, book.coding.answers) == ("book", lenient.coding.answers)
    assert lenient.coding.count() == {"not_asked": 1, "ok": 1}
    assert "labels outside the codebook: 1 in 'S_Stance'" in lenient.left_out
    assert lenient.left_out in str(lenient)
    assert re.search(r"\n1 of 1 answered +percentage agreement", str(lenient))
    path.write_text("sample_id,S_Stance\nt3,pro\nt3,anti\n")
    with pytest.raises(
        TaskError, match=r"coder 'ada' \(.*ada.csv\) must be unique. Got 1 repeated: 't3' \(rows 2, 3\)"
    ):
        load_coder(task, path)
    path.write_text("sample_id,S_Stance\nq3,pro\n")
    with pytest.raises(
        ScoringError, match=r"shares no text with task 'demo': the ids differ \(q3 against t0,"
    ):
        load_coder(task, path)
    path.write_text("sample_id,Position\nt3,pro\n")
    with pytest.raises(ScoringError, match="has no label column of task 'demo'"):
        load_coder(task, path)


def test_a_person_on_a_conditional_field(tmp_path):
    """The gate that Ada closed on an applicable text is her miss; the one that she left blank is no question to her."""
    task = made_task(texts(6), GATE, HOW, Gate=[1, 1, 1, 1, 0, 0], How=["x", "y", "x", "y", "", ""])
    na = answer("S_How", None, "not_applicable")
    run = run_on(task, tmp_path, "M", Gate=[1, 1, 1, 1, 0, 0], How=["x", "y", "x", "y", na, na])
    labels = pl.DataFrame(
        {"id": task.ids, "S_Gate": ["1", "0", "1", "", "0", "0"], "S_How": ["x", "", "x", "", "", ""]}
    )
    row = compare([load_coder(task, labels, "Ada"), run], "accuracy", "How").frame.iloc[0]
    assert (row["n"], row["value_a"], row["value_b"]) == (3, pytest.approx(2 / 3), 1.0)


# What is refused


LIST = "  Give a list; a folder becomes a run by load_run(...), people's labels a coder by load_coder(...)."


def test_what_cannot_be_compared(tmp_path):
    task = stance_task()
    run = run_on(task, tmp_path, "A", Stance=right_in(task, range(15)))
    other = run_on(stance_task(18), tmp_path, "B", Stance=["pro"] * 18)
    elsewhere = made_task(texts(20), DEGREE, Degree=[1] * 20)
    third = run_on(elsewhere, tmp_path, "C", Degree=[1] * 20)
    relabelled = Task(task.data.with_columns(S_Stance=pl.lit("pro")), task.codebook, task.name)
    fourth = run_on(relabelled, tmp_path, "D", Stance=["pro"] * 20)
    for runs, words in (
        ([], "a comparison needs at least two runs. Got 0."),
        ([run], "a comparison needs at least two runs. Got 1."),
        (run, f"one Run was given, not a list.\n{LIST}"),
        ([run, "folder"], f"only runs and coders can be compared. Got str.\n{LIST}"),
        ([run, run], f"a run is given more than once: {run.run_id}."),
        (
            [run, third],
            "runs with different codebooks cannot be compared: their fields do not mean the same thing.\n"
            "  flip_rate([...]) counts the labels that changed; each run's own report says what they are worth.",
        ),
        (
            [run, other],
            f"runs {run.run_id} (20 texts) and {other.run_id} (18 texts) were made on different texts.\n"
            "  Compare runs with the same data, limit, ids and split.",
        ),
        (
            [run, fourth],
            f"{fourth.run_id} has different human labels from the others in 'S_Stance'.\n"
            "  The labels were changed in between: load all of them with the same task.",
        ),
    ):
        with pytest.raises(ScoringError) as error:
            compare(runs)
        assert str(error.value) == words


def test_what_cannot_be_asked(tmp_path):
    task = made_task(texts(4), STANCE, DEGREE, Stance=["pro"] * 4, Degree=[1, 2, 3, 4])
    runs = [run_on(task, tmp_path, name, Stance=["pro"] * 4, Degree=[1, 2, 3, 4]) for name in "AB"]
    del runs[1].coding.answers["S_Degree"]
    known = "accuracy, precision_macro, recall_macro, f1_macro, percentage_agreement, cohen_kappa, krippendorff_alpha, "
    known += "f1_weighted, balanced_accuracy, mcc, gwet_ac1, coverage, invalid_rate"
    for options, words in (
        (
            {"metric": "f1"},
            f"'f1' is no metric of a dropdown.\n  Compare one of {known}.",
        ),
        (
            {"metric": "f1_macr"},
            f"'f1_macr' is no metric of a dropdown; did you mean 'f1_macro'?\n  Compare one of {known}.",
        ),
        ({"metric": ["accuracy", "mae"]}, f"'mae' is no metric of a dropdown.\n  Compare one of {known}."),
        ({"column": "Degree"}, "not every run answered S_Degree.\n  All answered: S_Stance."),
        (
            {"cluster": "autor"},
            "the data has no column 'autor'.\n  Its columns: id, text, S_Stance, S_Degree.",
        ),
        ({"margin": 0}, "margin must be a number above 0, in units of the metric. Got 0."),
        ({"adjust": "none"}, "adjust must be 'holm' or 'bh'. Got 'none'."),
        ({"n_resamples": 0}, "n_resamples must be 1 or more. Got 0."),
        (
            {"weights": "text"},
            "weights must be numbers above 0. Column 'text' has 'Text 0.', 'Text 1.', 'Text 2.', 'Text 3.'.\n"
            "  A weight is 1 / the probability with which the text was drawn.",
        ),
    ):
        with pytest.raises(NbannotError) as error:
            compare(runs, **options)
        assert str(error.value) == words
    compared = compare(runs, **FAST)
    with pytest.raises(ScoringError, match=r"'S_Degree' was not compared.\n  Compared: S_Stance\."):
        compared.as_good_as_best("Degree")
    with pytest.raises(ScoringError, match=r"table must be 'pairs' or 'ranking'\. Got 'all'\."):
        compared.to_csv("all")


def test_people_who_share_nothing_and_people_of_one_name(tmp_path):
    task, _ = people_task(tmp_path)
    ada, bo, ada_again = (
        load_coder(task, pl.DataFrame({"id": task.ids[a:b], "S_Stance": ["pro"] * (b - a)}), name)
        for name, a, b in (("Ada", 0, 5), ("Bo", 5, 9), ("Ada", 0, 5))
    )
    with pytest.raises(ScoringError, match="these coders share no text"):
        compare([ada, bo])
    with pytest.raises(
        ScoringError, match=r"more than once: Ada\.\n  Give people different names: load_coder"
    ):
        compare([ada, ada_again])


# Tables and displays


def test_tables_for_a_paper(tmp_path):
    task = stance_task()
    compared = compare(pair_of(task, tmp_path, range(17), range(10)), "accuracy")
    assert (
        compared.to_csv().splitlines()[0].startswith("column,metric,run_a,run_b,value_a,value_b,diff,ci_low")
    )
    assert r"S\_Stance & accuracy" in compared.to_latex(machine=True)
    pairs = compared.to_latex()
    head = (
        r"A & B & A $-$ B & 95\% interval & p (Holm) & \shortstack[r]{texts that \\ decide} & detectable \\"
    )
    assert "\\small\n\\caption{Stance, accuracy" in pairs, "seven columns in smaller type"
    assert head in pairs
    ranked = compared.to_latex("ranking", caption="Two runs")
    assert r"\caption{Two runs}" in ranked
    assert r" & accuracy & 95\% interval & baseline & to the best & 95\% interval & p (Holm) \\" in ranked
    for table in (pairs, ranked):
        assert r"{\footnotesize 20 texts with a human label.}" in table
    assert "20 texts with a human label." in compared.save(tmp_path / "two.md").read_text(encoding="utf-8")
    assert compared.to_markdown("ranking").count("\n") == 4
    assert compared.frame.to_polars().height == 1


def test_the_display_says_which_correction_it_shows(tmp_path):
    task = stance_task()
    runs = [
        run_on(task, tmp_path, k, Stance=right_in(task, range(v))) for k, v in (("A", 17), ("B", 9), ("C", 4))
    ]
    holm, bh = (str(compare(runs, "accuracy", adjust=a)) for a in ("holm", "bh"))
    assert "p (Holm)" in holm
    assert "p (BH)" in bh
    assert "p (Holm)" not in bh
    assert "Cochran's Q over all 3 runs" in holm
    assert repr(compare(runs, "accuracy")) == "<Comparison of 3 runs: 1 metrics, 3 comparisons>"


def test_a_null_of_two_equally_good_runs_is_rejected_as_rarely_as_promised(tmp_path):
    """300 pairs of runs that are right with the same chance: at most 5 % + 3 standard errors are told apart."""
    from nbannot.measures.significance import mcnemar

    rng = np.random.default_rng(0)
    right = rng.random((300, 2, 80)) < 0.7
    only_a, only_b = ((right[:, i] & ~right[:, 1 - i]).sum(1) for i in (0, 1))
    told = [mcnemar(int(a), int(b), 80).p_mid < 0.05 for a, b in zip(only_a, only_b, strict=True)]
    assert 0.01 < np.mean(told) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_answers_kept_by_the_run_are_what_is_compared(tmp_path):
    task = stance_task(4)
    runs = pair_of(task, tmp_path, range(4), range(2))
    changed = dict(runs[1].coding.answers)
    changed["S_Stance"] = [Answer("S_Stance", "ok", v) for v in right_in(task, range(4))]
    better = replace(runs[1], coding=replace(runs[1].coding, answers=changed))
    assert compare([runs[0], better], "accuracy").frame.iloc[0]["diff"] == 0.0


def test_an_interval_and_its_p_never_say_two_things(tmp_path):
    """Runs with 0 to 6 mistakes in 60, all compared, and one that never answers."""
    from made_runs import STANCE, made_run, made_task

    people = ["pro", "anti"] * 30
    task = made_task([f"Text {i}." for i in range(60)], STANCE, Stance=people)
    runs = [
        made_run(
            task,
            {"Stance": ["neutral" if i < wrong else v for i, v in enumerate(people)]},
            tmp_path,
            run_id=f"a1b2c3d{n}",
            model_id=f"mock-{n}",
        )
        for n, wrong in enumerate((0, 6, 3, 4, 5))
    ]
    runs.append(made_run(task, {"Stance": [None] * 60}, tmp_path, run_id="a1b2c3d9", model_id="silent"))
    found = compare(runs, metric=["accuracy", "f1_macro"], n_resamples=1_000)
    frame = found.frame
    assert set(found.families.values()) == {30}
    leaves_out_0 = (frame["ci_low"] > 0) | (frame["ci_high"] < 0)
    has_interval = frame["ci_low"].notna()
    assert has_interval.sum() == 29  # all texts right against none: the same difference in every resample
    assert (leaves_out_0 == (frame["p_adjusted"] < 0.05))[has_interval].all()
    ranking = found.ranking()
    shown = ranking[ranking["ci_high"].notna()]
    assert (shown["ci_high"] >= 0).tolist() == shown["as_good_as_best"].tolist()
    assert "Stance: silent has no valid answer on these texts" in " ".join(found.notes)
    assert "Worse than it: silent (0.00) (p < 0.05 after Holm over 30 comparisons)." in found.verdicts[0]


def test_no_line_explains_what_does_not_disagree(tmp_path):
    from made_runs import stance_run

    one, two = stance_run(tmp_path), stance_run(tmp_path, run_id="b1b2c3d4")
    found = compare([one, two], n_resamples=200)
    assert "The p value decides." not in str(found)
    assert "no valid answer" not in " ".join(found.notes)


def test_runs_are_named_by_what_differs_and_long_names_are_cut_alike(tmp_path):
    from made_runs import stance_run

    def names(*settings):
        runs = [
            stance_run(tmp_path, run_id=f"a1b2c3d{n}", model_id=f"id{n}", **one)
            for n, one in enumerate(settings)
        ]
        return list(compare(runs, metric="accuracy", n_resamples=50).names.values())

    assert names({"temperature": 0.0}, {"temperature": 0.7}) == ["temperature = 0", "temperature = 0.7"]
    assert names({"model": "mock/a", "seed": 1}, {"model": "mock/b", "seed": 1}) == ["mock/a", "mock/b"]
    assert names({"model": "mock/a"}, {"model": "mock/b", "prompt_type": "persona"}) == [
        "mock/a, prompt_type = standard",
        "mock/b, prompt_type = persona",
    ]
    assert names({}, {}) == ["id0", "id1"]
    long = "openai/" + "x" * 60
    cut = names({"model": f"{long}-one"}, {"model": f"{long}-two"})
    assert [len(name) for name in cut] == [44, 44]
    assert cut[0].startswith("openai/xxx")
    assert cut[0].endswith("-one")
    same = names({"model": f"a{long}{long}"}, {"model": f"a{long}b{long}"})
    assert same == [f"{same[0][:44]} [a1b2c3d0]", f"{same[0][:44]} [a1b2c3d1]"]


def test_a_text_that_a_coder_left_blank_is_no_answer_where_people_say_it_does_not_apply():
    cells = {"S_Gate": ["1", "0", "0", "1"], "S_How": ["x", "", "", "y"]}
    data = pl.DataFrame({"id": list("abcd"), "text": ["t"] * 4, **cells})
    task = Task(data, codebook_of(GATE, HOW), "gated")
    ada = load_coder(
        task, pl.DataFrame({"id": list("abcd"), "S_Gate": ["1", "0", "", ""], "S_How": ["x", "", "", ""]})
    )
    score = ada.scores.fields["S_How"]
    assert (score.counts["na_na"], score.counts["no_reference"]) == (1, 2)
    assert (score.counts["spurious"], score.counts["missing"]) == (0, 0)
    assert score.extra["gate_accuracy"].n == 2


# Missing answers


def test_a_run_does_not_win_by_refusing_what_it_would_get_wrong(tmp_path):
    """The same model twice: once it answers all of 120 texts, once it refuses two of three that it gets wrong."""
    rng = np.random.default_rng(5)
    people = {
        "Stance": rng.choice(["pro", "anti", "neutral"], 120).tolist(),
        "Degree": rng.integers(1, 6, 120).tolist(),
    }
    task = made_task(texts(120), STANCE, DEGREE, **people)
    said = {
        "Stance": [
            v if rng.random() < 0.7 else str(rng.choice(["pro", "anti", "neutral"])) for v in people["Stance"]
        ],
        "Degree": [v if rng.random() < 0.6 else int(rng.integers(1, 6)) for v in people["Degree"]],
    }
    silent = {
        name: [
            v if v == h or i % 3 == 0 else None
            for i, (v, h) in enumerate(zip(said[name], people[name], strict=True))
        ]
        for name in said
    }
    runs = [run_on(task, tmp_path, "silent", **silent), run_on(task, tmp_path, "talks", **said)]
    metrics = ["f1_macro", "cohen_kappa", "mcc", "gwet_ac1", "krippendorff_alpha", "precision_macro", "f1_weighted",
               "quadratic_kappa", "spearman_corr", "mae", "within_one"]  # fmt: skip
    compared = compare(runs, metrics, **FAST)
    assert len(compared.results) == 7 + 11
    frame, ranking = compared.frame, compared.ranking()
    n_silent = {f"S_{name}": sum(v is not None for v in silent[name]) for name in silent}
    for place, (key, found) in enumerate(compared.results.items()):
        assert key[1] not in LOWER_IS_BETTER or found.values[1] <= found.values[0], key
        assert key[1] in LOWER_IS_BETTER or found.values[1] >= found.values[0] - 1e-12, key
        row = frame.iloc[place]
        assert (row["coverage_a"], row["coverage_b"]) == (n_silent[key[0]] / 120, 1.0)
        # the two are one model, so that they are the same wherever both answered
        assert (row["n_both_answered"], row["diff_both_answered"]) == (n_silent[key[0]], 0.0)
        sentence = compared.verdicts[place]
        assert f"answered: silent {n_silent[key[0]]} and talks 120" in sentence
        assert not re.search(r"silent is (higher|lower \(better\))", sentence)
    assert set(ranking["coverage"]) == {1.0, *(n / 120 for n in n_silent.values())}
    assert "silent (" in str(compared)
    mae = compared.results["S_Degree", "mae"].values[0]
    worst = [
        max(h - 1, 5 - h) if v is None else abs(v - h)
        for v, h in zip(silent["Degree"], people["Degree"], strict=True)
    ]
    assert mae == pytest.approx(sum(worst) / 120)


def test_which_is_better_is_left_open_where_it_depends_on_the_missing_answers(tmp_path):
    """One run is right on all of the 60 texts it answers, the other on 68 of all 80, 51 of the 60 among them."""
    people = [1, 2, 3, 4, 5] * 16
    task = made_task(texts(80), DEGREE, Degree=people)
    few = [v if i < 60 else None for i, v in enumerate(people)]
    all_ = [v % 5 + 1 if i % 20 in (0, 7, 13) else v for i, v in enumerate(people)]
    runs = [run_on(task, tmp_path, "few", Degree=few), run_on(task, tmp_path, "all", Degree=all_)]
    compared = compare(runs, "mae", **FAST)
    row = compared.frame.iloc[0]
    # few: 4 x 16 texts at 4, 3, 2, 3, 4 points off: 20 x 3.2 = 64 over 80; all: 12 of 80, a fifth of them 4 points off
    assert row["value_a"] == pytest.approx(0.8)
    assert row["n_both_answered"] == 60
    assert row["diff_both_answered"] < 0 < row["diff"]
    assert "On the 60 texts that both few and all answered it is the other way round" in compared.verdicts[0]
    assert compared.verdicts[0].endswith(
        "Which is better depends on the texts that one of them did not answer."
    )


def test_people_who_used_one_label_make_every_comparison_say_so(tmp_path):
    task = made_task(texts(30), STANCE, Stance=["pro"] * 30)
    runs = [
        run_on(task, tmp_path, k, Stance=["pro"] * n + ["anti"] * (30 - n)) for k, n in (("A", 30), ("B", 27))
    ]
    compared = compare(runs, **FAST)
    words = "People gave all 30 texts the same label (pro): no agreement measure means anything here."
    assert compared.notes[0] == f"Stance: {words}"
    assert words in " ".join(str(compared).split())
    assert words in " ".join(str(runs[0]).split())
    assert words in " ".join(str(runs[0].report()).split())


# Ids that travelled


def test_ids_are_joined_whatever_a_system_did_to_them(tmp_path):
    """Taken apart (macOS), with white space and a byte-order mark (spreadsheets), as floats (a blank beside them)."""
    names = ["Käthe.txt", "Ångström.txt", "7", "plain.txt"]
    task = Task(
        pl.DataFrame({"id": names, "text": texts(4), "S_Stance": ["pro", "anti", "pro", "anti"]}),
        codebook_of(STANCE),
        "names",
    )
    travelled = [
        unicodedata.normalize("NFD", names[0]),
        f"\ufeff{unicodedata.normalize('NFD', names[1])} ",
        "7.0",
        "plain.txt\u00a0",
        "who",
    ]
    coder = load_coder(
        task, pl.DataFrame({"id": travelled, "S_Stance": ["pro", "anti", "anti", "anti", "pro"]}), "Mac"
    )
    assert coder.task.ids == names
    assert coder.coding.values("S_Stance") == ["pro", "anti", "anti", "anti"]
    assert coder.unknown_ids == ("who",)
    card = " ".join(str(coder).split())
    assert "left out 1 row with ids that the task does not have: 'who'" in card
    assert "texts 4 of 4 of the task" in card
    both = agreement(
        [coder, load_coder(task, pl.DataFrame({"id": names, "S_Stance": ["pro"] * 4}), "Win")], "Stance"
    )
    # pro pro, anti pro, anti pro, anti pro
    assert both.pairs["Mac", "Win"]["percentage_agreement"].value == 0.25
    assert "4 of 4 texts have two coders or more" in both.notes[0]
    assert "Mac: 1 row with ids that the task does not have: 'who', left out." in both.notes


def test_two_texts_that_one_id_could_mean_are_not_guessed():
    ids = ["é", unicodedata.normalize("NFD", "é"), "b"]
    task = Task(
        pl.DataFrame({"id": ids, "text": texts(3), "S_Stance": ["pro"] * 3}), codebook_of(STANCE), "twins"
    )
    coder = load_coder(
        task, pl.DataFrame({"id": [ids[1], "é ", "b"], "S_Stance": ["anti", "pro", "pro"]}), "A"
    )
    assert coder.coding.values("S_Stance") == ["anti", "pro"]
    assert coder.unknown_ids == ("é ",)


def test_texts_without_ids_are_joined_however_they_are_encoded():
    task = Task(
        pl.DataFrame({"text": ["Schön.", "Schön.", "Und so"], "S_Stance": ["pro", "anti", "pro"]}),
        codebook_of(STANCE),
        "german",
    )
    apart = unicodedata.normalize("NFD", "Schön.")
    coder = load_coder(
        task,
        pl.DataFrame(
            {"text": [apart, "Und  so\r\n", apart, apart], "S_Stance": ["pro", "anti", "anti", "pro"]}
        ),
        "Mac",
    )
    assert coder.coding.values("S_Stance") == ["pro", "anti", "anti"]
    assert len(coder.unknown_ids) == 1


def test_agreement_joins_coders_of_two_copies_of_a_task():
    ids = ["Zoë", "Max"]
    tasks = [
        Task(
            pl.DataFrame({"id": [unicodedata.normalize(form, i) for i in ids], "text": texts(2)}),
            codebook_of(STANCE),
            form,
        )
        for form in ("NFC", "NFD")
    ]
    coders = [
        load_coder(task, pl.DataFrame({"id": task.ids, "S_Stance": ["pro", last]}), task.name)
        for task, last in zip(tasks, ("anti", "pro"), strict=True)
    ]
    assert agreement(coders, "Stance").pairs["NFC", "NFD"]["percentage_agreement"].value == 0.5


# Outputs of models run elsewhere


def test_what_a_model_left_blank_elsewhere_is_an_error(tmp_path):
    """10 texts: 5 right, 2 wrong, 1 blank, 1 that the codebook does not have, 1 not in the file."""
    task = stance_task(10)
    people = task.human("S_Stance")
    said = [*people[:5], "anti" if people[5] == "pro" else "pro", "neutral", "", "pro-ish"]
    path = tmp_path / "gpt.csv"
    pl.DataFrame({"id": task.ids[:9], "S_Stance": said}).write_csv(path)
    outputs = load_outputs(task, path)
    assert outputs.coding.count() == {"ok": 7, "invalid": 3}
    scores = outputs.metrics.set_index("metric")
    assert scores.loc["accuracy", "value"] == 0.5
    assert (scores.loc["coverage", "value"], scores.loc["accuracy", "n"]) == (0.7, 10)
    assert load_coder(task, path, outside_labels="not_coded").metrics.set_index("metric").loc[
        "accuracy", "value"
    ] == pytest.approx(5 / 7)
    run = run_on(task, tmp_path, "M", Stance=right_in(task, range(6)))
    compared = compare([outputs, run], "accuracy")
    assert compared.frame.iloc[0][["value_a", "value_b", "n", "coverage_a"]].tolist() == [0.5, 0.6, 10, 0.7]
    assert not [note for note in compared.notes if note.startswith("Only texts that")]
    assert "demo: gpt" in str(outputs)
    assert "coder" not in str(outputs)


def test_a_child_of_outputs_does_not_apply_where_the_model_closed_the_gate():
    task = made_task(texts(3), GATE, HOW, Gate=[1, 1, 0], How=["x", "y", ""])
    outputs = load_outputs(
        task, pd.DataFrame({"id": task.ids, "S_Gate": [1, 0, None], "S_How": ["x", None, None]}), "m"
    )
    assert [a.status for a in outputs.coding.answers["S_Gate"]] == ["ok", "ok", "invalid"]
    assert [a.status for a in outputs.coding.answers["S_How"]] == ["ok", "not_applicable", "invalid"]
