"""Calibration: the numbers of a run's probabilities, fits on dev that are tried elsewhere, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_runs import STANCE, made_run, made_task

import nbannot as nba
from nbannot.asking.answers import Answer
from nbannot.errors import ScoringError
from nbannot.measures import calibration as measure
from nbannot.record.coding import Coding
from nbannot.study.task import Task

TICK = {"name": "Tick", "type": "checkbox"}
VECTOR = next(
    case
    for case in json.loads((Path(__file__).parent / "data/stats_vectors.json").read_text("utf-8"))["vectors"]
    if case["id"] == "calib.small"
)


def ticked(folder, yes, truth, *, first=0, threshold=0.5, **config):
    """Return a run of a checkbox with these probabilities of yes, and people's labels; ids count from `first`."""
    task = made_task([f"Text {first + i}." for i in range(len(yes))], TICK, Tick=[int(t) for t in truth])
    ids = [f"t{first + i}" for i in range(len(yes))]
    task = Task(task.data.with_columns(pl.Series("id", ids)), task.codebook, task.name)
    answers = [
        Answer("S_Tick", "ok", int(p >= threshold), probabilities=(1 - float(p), float(p))) for p in yes
    ]
    return made_run(task, {"Tick": answers}, folder, threshold=threshold, **config)


def test_the_public_door_gives_the_reference_values(tmp_path):
    given, expected = VECTOR["input"], VECTOR["expected"]
    truth = [int(right) for right in given["correct"]]
    found = nba.calibration(ticked(tmp_path, given["conf"], truth), "Tick")
    told = found.forms[0]
    assert told.ece == pytest.approx(expected["ece_10_right_closed"])
    assert told.brier == pytest.approx(2 * expected["brier_binary"])
    assert told.auroc == pytest.approx(expected["auroc_correctness"])
    assert told.mean_probability - told.accuracy == pytest.approx(expected["mean_conf_minus_acc"])
    assert sum(one.n for one in found.bins) == 10
    assert found.bins[0].up_to == 0.5
    assert found.bins[0].n == 1
    assert "Reliability" in found.plot().says
    assert "0.24" in str(found)
    assert list(found.frame["ece"]) == [told.ece]


def overconfident(seed, n, sharpness=2.5):
    """Return told probabilities of yes and outcomes: the truth is at temperature `sharpness`."""
    draw = np.random.default_rng(seed)
    real = draw.uniform(0.02, 0.98, n)
    odds = (real / (1 - real)) ** sharpness
    return odds / (1 + odds), draw.random(n) < real


def test_a_temperature_is_learned_on_dev_and_tried_on_other_texts(tmp_path):
    dev = ticked(tmp_path / "dev", *overconfident(4, 1500), run_id="dddddddd")
    test = ticked(tmp_path / "test", *overconfident(2, 1500), first=1500)
    found = nba.calibration(test, "Tick", dev=dev)
    told, softer = found.forms[:2]
    assert found.temperature == pytest.approx(2.5, abs=0.25)  # its standard deviation is .14
    assert told.ece > 3 * told.ece_null
    assert softer.ece < 2 * softer.ece_null
    assert softer.log_loss < told.log_loss
    assert (told.fitted_on, softer.fitted_on) == (0, 1500)
    assert softer.accuracy == told.accuracy
    assert "fitted on dev, n = 1,500" in str(found)
    assert "dddddddd" in str(found)


def test_a_threshold_comes_from_dev_whatever_the_test_half_says(tmp_path):
    yes = np.linspace(0.05, 0.95, 19)
    dev = ticked(tmp_path / "dev", yes, yes > 0.28)
    found = nba.calibration(ticked(tmp_path / "test", yes, yes > 0.72, first=100), "Tick", dev=dev)
    assert found.threshold == pytest.approx(0.275)
    assert found.forms[-1].accuracy == pytest.approx(10 / 19)
    assert measure.fitted_threshold([0.2, 0.8], [1, 1]) == 0.5


def test_labels_after_batch_calibration_are_those_of_the_runs_threshold(tmp_path):
    yes, truth = overconfident(5, 60)
    dev = ticked(tmp_path / "dev", yes, truth)
    kept = {"threshold": 0.8, "first": 100}
    found = nba.calibration(ticked(tmp_path / "a", yes, truth, **kept), "Tick", dev=dev)
    odds = (yes / yes.mean()) / ((1 - yes) / (1 - yes).mean())
    labels = odds / (1 + odds) >= 0.8
    form = next(form for form in found.forms if form.form == "batch calibration")
    assert form.accuracy == pytest.approx((labels == truth).mean())
    assert form.accuracy != pytest.approx(((odds >= 1) == truth).mean())


def test_a_temperature_at_the_end_of_the_search_is_no_good_news(tmp_path):
    yes = np.tile([0.1, 0.9], 20)
    dev = ticked(tmp_path / "dev", yes, yes < 0.5)
    found = nba.calibration(ticked(tmp_path / "test", yes, yes < 0.5, first=100), "Tick", dev=dev)
    assert found.temperature > 19
    assert "said no more of people's labels than equal ones do" in str(found).replace("\n  ", " ")


def test_what_cannot_be_said_is_refused_with_what_to_type(tmp_path):
    yes, truth = overconfident(3, 40)
    run = ticked(tmp_path, yes, truth)
    with pytest.raises(ScoringError, match="40 texts are in both"):
        nba.calibration(run, "Tick", dev=run)
    with pytest.raises(ScoringError, match="another way on dev: prompt_hash differ"):
        nba.calibration(run, "Tick", dev=ticked(tmp_path, yes, truth, first=90, prompt_hash="x"))
    with pytest.raises(ScoringError, match="at least 10"):
        nba.calibration(ticked(tmp_path, yes[:9], truth[:9]), "Tick")
    task = made_task(["a", "b"], STANCE, Stance=["pro", "anti"])
    with pytest.raises(ScoringError, match=r'holds no probabilities[^.]*\.\n.*answer_mode = "score"'):
        nba.calibration(made_run(task, {"Stance": ["pro", "pro"]}, tmp_path))


def test_a_closed_test_half_stays_closed_and_a_look_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = nba.load_task("policy-sentiment")
    task.lock(0.5)
    run = nba.run(task, model="mock", fields=["Direction"], answer_mode="score", split="dev")
    assert nba.calibration(run).forms[0].n <= 32
    whole = run_on_everything(run, nba.load_task("policy-sentiment"))
    with pytest.raises(ScoringError, match="closed"):
        nba.calibration(whole)
    looks = len(whole.task.split_lock.looks)
    assert nba.calibration(whole, reason="the paper").forms[0].n == 64
    assert len(whole.task.split_lock.looks) == looks + 1


def run_on_everything(run, task):
    column = run.coding.fields[0].column
    one = next(a for a in run.coding.answers[column] if a.status == "ok")
    return replace(run, task=task, coding=Coding(task, {column: [one] * len(task)}, run.run_id))


def test_probabilities_stand_quietly_beside_the_labels_that_they_decided(tmp_path):
    run = nba.run(
        "policy-sentiment", model="decide/sparrow", fields=["Direction"], limit=12, output_root=tmp_path
    )
    for one in (run, nba.load_run(run.folder)):
        text = one.disagreements("Direction")
        row = text.frame.iloc[0]
        column = one.coding.fields[0].column
        answer = one.coding.answers[column][one.task.ids.index(row["text_id"])]
        sure = max(answer.probabilities)
        for shown in (str(text), str(one.show(row["text_id"]))):
            assert "probability" in shown
            assert f"{sure:.2f}" in shown
    plain = nba.run("policy-sentiment", model="mock", fields=["Direction"], answer_mode="generate", limit=12,
                    output_root=tmp_path)  # fmt: skip
    assert "probability" not in str(plain.disagreements("Direction"))
