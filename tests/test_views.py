"""The tidy tables as frames."""

from dataclasses import replace

import pandas as pd
import polars as pl
import pytest
from conftest import DEGREE, GATE, codebook_of, task_of

import nbannot as nba
from nbannot.errors import TableError


@pytest.fixture
def made(tmp_path):
    task = task_of(8, codebook_of(GATE, DEGREE), S_Gate=["1", "0"] * 4)
    runs = nba.sweep(task, model=["mock/a", "mock/b"], temperature=[0, 0.5], output_root=str(tmp_path))
    return task, runs, tmp_path


def test_tables_come_as_pandas_or_polars(made):
    task, runs, root = made
    assert isinstance(nba.metrics(task, output_root=root), pd.DataFrame)
    assert isinstance(nba.runs("demo", output_root=root, polars=True), pl.DataFrame)
    assert set(nba.runs(task, output_root=root)["run_id"]) == {run.run_id for run in runs}
    assert len(nba.joined(task, output_root=root)) == len(nba.metrics(task, output_root=root))


def test_pivot_lays_a_metric_out_along_settings(made):
    task, runs, root = made
    table = nba.pivot(task, "accuracy", rows="column", columns=["model_id"], output_root=root)
    for run in runs:
        assert table.loc["S_Gate", run.model_id] == run.scores.fields["S_Gate"].results["accuracy"].value
    with pytest.warns(
        UserWarning, match=r"mean of several runs: 2 of 4\. The runs differ in model_id: put that"
    ):
        by_temperature = nba.pivot(task, "accuracy", columns="temperature", output_root=root)
    assert by_temperature.attrs["n_runs"].loc["S_Gate"].tolist() == [2, 2]


def test_what_is_not_there_is_named(made):
    task, _, root = made
    with pytest.raises(TableError, match="no metric 'f1_makro' in the tables; did you mean 'f1_macro'"):
        nba.pivot(task, "f1_makro", output_root=root)
    with pytest.raises(TableError, match="no column nope"):
        nba.pivot(task, "accuracy", rows="nope", output_root=root)


def test_a_pivot_without_a_task_takes_the_only_one(made):
    task, _, root = made
    table = nba.pivot("accuracy", columns=["model_id", "temperature"], output_root=root)
    assert table.equals(nba.pivot(task, "accuracy", columns=["model_id", "temperature"], output_root=root))
    nba.run(replace(task, name="other"), model="mock", output_root=str(root))
    with pytest.raises(
        TableError, match=r'which task\? Type pivot\("<task>", "<metric>"\)(?s:.*)demo, other'
    ):
        nba.pivot("accuracy", output_root=root)
    with pytest.raises(TableError, match="There are no tables yet"):
        nba.pivot("accuracy", output_root=root / "elsewhere")


def test_frames_of_runs_and_comparisons_can_be_pickled(made):
    import pickle

    _, runs, _ = made
    for frame in (runs[0].labels, runs[0].metrics, nba.compare(runs).frame()):
        again = pickle.loads(pickle.dumps(frame))
        pd.testing.assert_frame_equal(again, frame)
        assert again.to_polars().height == len(frame)
