"""A conditional field in the report: every row of numbers speaks of one set of texts and labels, and rows add up."""

import random

import numpy as np
import pytest
from conftest import GATE, STANCE, codebook_of
from made_runs import answer, made_run
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from nbannot.report.fields import conditional_grid
from nbannot.report.report import report_text
from nbannot.study.task import Task

N = 60
LABELS = ["pro", "anti", "neutral"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import polars as pl

    rng = random.Random(3)
    gate = [rng.randint(0, 1) for _ in range(N)]
    stance = [rng.choice(LABELS) if g else "" for g in gate]
    data = {"id": [f"t{i}" for i in range(N)], "text": [f"Text {i}" for i in range(N)]}
    data |= {"S_Gate": [str(g) for g in gate], "S_Stance": stance}
    task = Task(pl.DataFrame(data), codebook_of(GATE, STANCE), "demo")
    said = [None if rng.random() < 0.1 else g if rng.random() < 0.7 else 1 - g for g in gate]
    answers = [
        answer("S_Stance", None, "not_asked" if s is None else "not_applicable")
        if not s
        else answer("S_Stance", None if rng.random() < 0.2 else rng.choice(LABELS))
        for s in said
    ]
    return made_run(task, {"Gate": said, "Stance": answers}, tmp_path_factory.mktemp("run"))


def sides(run):
    """Return human and model labels of every text: NA not applicable, - no valid answer, ? none to the gate."""
    task, found = run.task, run.coding.answers["S_Stance"]
    human = [
        "NA" if not a else v
        for v, a in zip(task.human("S_Stance"), task.human_applies("S_Stance"), strict=True)
    ]
    words = {"not_applicable": "NA", "not_asked": "?"}
    model = [words.get(a.status, a.value or "-") for a in found]
    return np.array(human), np.array(model)


def shown(run, words):
    """Return accuracy, macro F1 and kappa of a row of the table as they are shown."""
    grid = conditional_grid(run.scores.fields["S_Stance"])
    row = next(row for row in grid.rows if row[0].text.startswith(words))
    return [row[i].text.rstrip("¹²³").replace("−", "-") for i in (1, 3, 5)] + [row[7].text]


def test_each_row_is_scikit_learns_on_its_own_texts_and_labels(run):
    human, model = sides(run)
    known = [label for label in LABELS if label in human]
    both = (human != "NA") & (model != "NA") & (model != "?")
    assert both.any()
    assert (human == "NA").any()
    assert (model == "-").any()
    assert ((model == "?") & (human != "NA")).any()
    assert ((model == "?") & (human == "NA")).any()
    for words, rows, labels in (
        ("people say", human != "NA", known),
        ("people and model", both, [label for label in LABELS if label in human[both]]),
        ("all, “does not", np.ones(N, bool), [*known, "NA"]),
    ):
        h, m = human[rows], np.where(model == "?", "-", model)[rows]
        f1 = f1_score(h, m, labels=labels, average="macro", zero_division=0)
        kappa = cohen_kappa_score(h, m)
        expected = [f"{v:.2f}" for v in (accuracy_score(h, m), f1, kappa)] + [str(len(h))]
        if words.startswith("people say"):  # the closed gate is an error there, not a label
            expected[2] = f"{cohen_kappa_score(h, np.where(m == 'NA', '-', m)):.2f}"
        assert shown(run, words) == expected
    answered = np.where(model == "?", "-", model)
    alone = f1_score(human, answered, labels=known, average="macro", zero_division=0)
    assert shown(run, "all, F1 of the other")[1] == f"{alone:.2f}"
    gate = [np.where(side == "NA", 0, np.where(side == "?", 2, 1)) for side in (human, model)]
    f1 = f1_score(*gate, average="macro", labels=[0, 1])
    expected = [accuracy_score(*gate), f1, cohen_kappa_score(*gate)]
    assert shown(run, "whether it applies") == [*(f"{v:.2f}" for v in expected), str(N)]


def test_coverage_invalid_answers_and_closed_gates_add_up(run):
    score = run.scores.fields["S_Stance"]
    parts = [score.results["coverage"], score.results["invalid_rate"], score.extra["missed_gate_rate"]]
    assert all(0 < part.value < 1 for part in parts)
    assert sum(part.value for part in parts) == pytest.approx(1)
    c = score.counts
    text = " ".join(report_text(run).split())
    assert (
        f"a valid answer for {c['scored']} of {c['scored'] + c['missing'] + c['missed_gate']} texts" in text
    )
    assert (
        f"{c['missing']} without one; for {c['missed_gate']} the model said that the question does not apply"
        in text
    )
