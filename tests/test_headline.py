"""What is said first: a verdict in one sentence, each field beside its baseline. Runs whose truth is known."""

import math
import random
import re

import pytest
from conftest import DEGREE, GATE, codebook_of
from made_runs import QUOTE, STANCE, answer, made_run, made_task

from nbannot.asking.applies import NOT_DECIDED
from nbannot.comparing.comparison import compare
from nbannot.displays.cards import run_card
from nbannot.errors import ScoringError
from nbannot.report.headline import dealt_out, headlines, lines, look_blocks, verdict

N = 60
PEOPLE = (["pro"] * 30 + ["anti"] * 20 + ["neutral"] * 10)[:N]
TEXTS = [f"text {i}" for i in range(N)]
LABELS = ["pro", "anti", "neutral"]


def right(share: float) -> list[str]:
    """Return answers of which this share is the human label, and the others the next label."""
    return [
        label if i % 10 < share * 10 else LABELS[(LABELS.index(label) + 1) % 3]
        for i, label in enumerate(PEOPLE)
    ]


def stance(tmp_path, values, people=PEOPLE, **kwargs):
    task = made_task(TEXTS[: len(people)], STANCE, Stance=people)
    return made_run(task, {"Stance": values}, tmp_path, **kwargs)


def test_good_at_chance_and_below(tmp_path):
    dealt = PEOPLE[:]
    random.Random(3).shuffle(dealt)
    found = [
        stance(tmp_path / str(i), values)
        for i, values in enumerate((right(0.9), dealt, right(0.1), right(0.0)))
    ]
    assert [headlines(run)[0].mark for run in found] == ["▲", "≈", "▼", "?"]
    assert [verdict(run) for run in found] == [
        "Stance better than the baseline on 60 texts",
        "Stance not better than the baseline on 60 texts",
        "Stance worse than the baseline on 60 texts",
        "Stance not shown to be better than the baseline on 60 texts",
    ]


def test_an_interval_of_rare_labels_or_of_few_texts_carries_no_verdict(tmp_path):
    """Nine of ten are right: with ten of each label that is better than the baseline, with nine nobody can tell."""
    for n, mark in ((10, "▲"), (9, "?")):
        people = ["pro"] * 50 + ["anti"] * n
        said = [*["pro"] * 45, *["anti"] * 5, *["anti"] * (n - 1), "pro"]
        run = stance(tmp_path / str(n), said, people=people)
        assert headlines(run)[0].mark == mark, n
    assert verdict(run) == "Stance not shown to be better than the baseline on 59 texts"
    assert "? undecided:" in "\n".join(look_blocks(run)[0].lines())
    assert run.scores.fields["S_Stance"].results["f1_macro"].ci_low > headlines(run)[0].baseline
    degrees = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    for n, mark in ((10, "▲"), (9, "?")):
        task = made_task(
            TEXTS[:n],
            STANCE,
            {**DEGREE, "min_value": 1, "max_value": 5},
            Degree=degrees[:n],
            Stance=PEOPLE[:n],
        )
        run = made_run(task, {"Stance": PEOPLE[:n], "Degree": [2, *degrees[1:n]]}, tmp_path / f"degree{n}")
        assert headlines(run)[1].mark == mark, n


def test_the_baseline_is_what_dealing_out_the_same_labels_scores(tmp_path):
    """Mean over many deals, each scored as it is; a majority baseline alone would call guessing a success."""
    dealt = PEOPLE[:]
    values = []
    for seed in range(200):
        random.Random(seed).shuffle(dealt)
        f1 = []
        for label in LABELS:
            tp = sum(h == m == label for h, m in zip(PEOPLE, dealt, strict=True))
            f1.append(2 * tp / (PEOPLE.count(label) + dealt.count(label)))
        values.append(sum(f1) / 3)
    run = stance(tmp_path, dealt)
    score = run.scores.fields["S_Stance"]
    assert dealt_out(score, N) == pytest.approx(sum(values) / 200, abs=0.02)
    assert headlines(run)[0].baseline == pytest.approx(1 / 3)  # 30/60, 20/60, 10/60 on both sides: their mean
    assert score.results["baseline_f1_macro"].value < 0.25


def test_one_label_means_nothing_whatever_the_value(tmp_path):
    run = stance(tmp_path, ["pro"] * 20, people=["pro"] * 20)
    assert verdict(run) == "People used one label only on 20 texts: no agreement measure means anything here"
    (found,) = headlines(run)
    assert (found.better, found.mark) == (None, "")
    assert "People gave all 20 texts the same label (pro)" in lines(run)[0]


def test_what_is_good_by_silence_is_not_called_better(tmp_path):
    """Quadratic kappa is of the answered texts: right on 20 of 50 was better than the baseline, wrong on the others."""
    degrees = [1 + i % 5 for i in range(50)]
    task = made_task(TEXTS[:50], {**DEGREE, "min_value": 1, "max_value": 5}, Degree=degrees)
    for answered, mark in ((50, "▲"), (47, "▲"), (20, "?")):
        said = [value if i < answered else None for i, value in enumerate(degrees)]
        said[0] = 2
        run = made_run(task, {"Degree": said}, tmp_path / str(answered))
        (one,) = headlines(run)
        assert (one.mark, one.result.ci_low > one.baseline) == (mark, True), answered
    assert verdict(run) == "40% answered: Degree not shown to be better than the baseline on 50 texts"


def test_a_run_that_answers_little_says_so(tmp_path):
    silent = [value if i % 3 == 0 else None for i, value in enumerate(right(1.0))]
    run = stance(tmp_path, silent)
    assert verdict(run).startswith("33% answered: Stance ")
    assert lines(run)[0].endswith("answered 20 of 60")


def test_refused_by_all_and_no_labels_at_all(tmp_path):
    run = stance(tmp_path, [answer("S_Stance", None, "refused")] * N)
    assert verdict(run) == "No valid answer on 60 texts: 60 refused"
    assert look_blocks(run) == [], "a table of zeros says nothing of the model"
    assert " 0.00 " not in run.report().text + str(run)
    open_ = answer("S_Stance", None, "not_asked", "the run did not get this far")
    stopped = stance(tmp_path / "stopped", [open_] * N, status="failed", stopped="interrupted")
    assert verdict(stopped) == "No answer yet on 60 texts: nothing to look at, nothing to score"
    assert " 0.00 " not in stopped.report().text + str(stopped)
    partial = stance(tmp_path / "partial", [*right(1.0)[:40], *[open_] * 20], status="partial")
    assert verdict(partial) == "So far, 67% answered: Stance better than the baseline on 60 texts"
    unlabelled = made_run(made_task(TEXTS, STANCE), {"Stance": right(1.0)}, tmp_path / "none")
    assert verdict(unlabelled) == "No human labels on 60 texts: answers to look at, nothing to score"
    assert look_blocks(unlabelled) == []


def test_one_line_of_a_run_without_an_answer_has_no_zeros(tmp_path):
    refused = [answer("S_Stance", None, "refused", "I cannot")] * N
    assert lines(stance(tmp_path, refused)) == ["No valid answer on 60 texts: 60 refused"]


def test_a_field_that_the_run_was_set_up_not_to_ask_has_no_score(tmp_path):
    """A decision model writes no text: a zero for the quotes would read as a verdict on it."""
    task = made_task(TEXTS, STANCE, QUOTE, Stance=PEOPLE, Quote=["some words"] * N)
    closed = [answer("S_Quote", None, "not_asked", NOT_DECIDED)] * (N - 1)
    blank = answer("S_Quote", None, "not_asked", "the text is blank")
    run = made_run(task, {"Stance": right(0.9), "Quote": [blank, *closed]}, tmp_path)
    assert verdict(run) == "Stance better than the baseline on 60 texts"
    assert [one.unasked for one in headlines(run)] == ["", NOT_DECIDED]
    assert len(lines(run)) == 1
    assert f"Quote: {NOT_DECIDED}" in look_blocks(run)[0].rows
    assert f"Not asked: {NOT_DECIDED}." in run.report().text
    assert " 0.00 " not in run.report("Quote").text
    rows = [row for row in run.scores.long_rows("r") if row["column"] == "S_Quote"]
    assert rows
    assert all(math.isnan(row["value"]) and row["reason"] == f"not asked: {NOT_DECIDED}" for row in rows)
    asked = made_run(
        task, {"Stance": right(0.9), "Quote": ["some words"] * N}, tmp_path / "asked", run_id="b1b2c3d4"
    )
    assert set(compare([run, asked], n_resamples=50).data) == {"S_Stance"}
    with pytest.raises(ScoringError, match="not every run answered S_Quote"):
        compare([run, asked], column="Quote")
    gated = [answer("S_Quote", None, "not_asked", "no valid answer to 'Stance', on which it depends")] * N
    counted = made_run(task, {"Stance": right(0.9), "Quote": gated}, tmp_path / "gated")
    assert [one.unasked for one in headlines(counted)] == ["", ""], "a gate that fails is the model's doing"


def test_several_fields_are_counted_and_those_without_a_baseline_are_not(tmp_path):
    people = {"Stance": PEOPLE, "Degree": [1 + i % 5 for i in range(N)], "Quote": ["some words"] * N}
    task = made_task(TEXTS, STANCE, {**DEGREE, "min_value": 1, "max_value": 5}, QUOTE, **people)
    said = {"Stance": right(0.9), "Degree": [5 - i % 5 for i in range(N)], "Quote": ["some words"] * N}
    run = made_run(task, said, tmp_path)
    assert verdict(run) == "1 of 2 fields better than the baseline, 1 worse, on 60 texts (Quote without one)"
    marks = {one.field.name: one.mark for one in headlines(run)}
    assert marks == {"Stance": "▲", "Degree": "▼", "Quote": ""}
    third = made_run(
        task,
        {**said, "Stance": [v if i % 3 == 0 else None for i, v in enumerate(said["Stance"])]},
        tmp_path / "l",
    )
    bars = re.findall(r"(\d+) of 60<div[^>]*><div[^>]*width:(\d+)%", run_card(third).html)
    assert bars == [("20", "33"), ("60", "100"), ("60", "100")]
    only_text = made_run(
        made_task(TEXTS, QUOTE, Quote=people["Quote"]), {"Quote": said["Quote"]}, tmp_path / "q"
    )
    assert (
        verdict(only_text) == "Quote: Levenshtein similarity 1.00 on 60 texts: no baseline to hold it against"
    )


def test_a_checkbox_that_is_always_ticked_is_not_better(tmp_path):
    codebook_of(GATE)
    task = made_task(TEXTS, GATE, Gate=["1"] * 57 + ["0"] * 3)
    run = made_run(task, {"Gate": [1] * N}, tmp_path)
    (found,) = headlines(run)
    assert run.scores.fields["S_Gate"].results["accuracy"].value == 0.95
    assert found.better is False
