"""Stability: flip rates by hand."""

import pytest
from conftest import DEGREE, GATE, STANCE, codebook_of, task_of

import nbannot
from nbannot.comparing.stability import determinism, flip_rate, repetitions
from nbannot.errors import ScoringError
from nbannot.study.config import RunConfig


def test_a_deterministic_model_never_flips(tmp_path):
    table = determinism(
        task_of(12, codebook_of(GATE)), RunConfig(model="mock"), texts=10, output_root=tmp_path
    )
    row = table.iloc[0]
    assert (row["n"], row["runs"], row["flipped"], row["flip_rate"], row["ci_low"]) == (10, 3, 0, 0.0, 0.0)
    assert row["ci_high"] == pytest.approx(0.2775, abs=1e-4)  # Wilson, 0 of 10


def test_flips_are_counted_by_text(tmp_path):
    task = task_of(40, codebook_of(GATE, STANCE, DEGREE))
    runs = nbannot.sweep(task, model="mock", temperature=1.5, repeats=2, output_root=str(tmp_path))
    table = flip_rate(runs.runs).set_index("column")
    for column in ("S_Gate", "S_Degree"):
        a, b = (run.coding.values(column) for run in runs)
        assert table.loc[column, "flipped"] == sum(x != y for x, y in zip(a, b, strict=True))
        assert table.loc[column, "n"] == 40
    assert table.loc["S_Degree", "flipped"] > 0
    assert [run.run_id for run in repetitions(runs[1])] == [run.run_id for run in runs]


def test_the_card_of_a_repetition_says_how_often_answers_changed(tmp_path):
    task = task_of(20, codebook_of(GATE))
    first, second = nbannot.sweep(task, model="mock", repeats=2, output_root=str(tmp_path))
    assert "0 of 20 texts changed in 2 repetitions (0% [0%, 16%])" in str(second)
    assert "repetitions" not in str(first)


def test_one_run_or_other_texts_are_refused(tmp_path):
    one = nbannot.run(task_of(3, codebook_of(GATE)), model="mock", output_root=str(tmp_path))
    other = nbannot.run(task_of(4, codebook_of(GATE)), model="mock", output_root=str(tmp_path))
    with pytest.raises(ScoringError, match="at least two runs"):
        flip_rate([one])
    with pytest.raises(ScoringError, match="the same texts"):
        flip_rate([one, other])
