"""A task's setting for texts that belong together: every door uses it, and no later scoring forgets it."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from conftest import codebook_of

import nbannot as nba
from nbannot.doors.cli import main
from nbannot.errors import TaskError

N = 80
STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti"]}


def speeches():
    """Texts of which ten each are one document, with one label: eighty rows that say no more than eight."""
    return pl.DataFrame(
        {
            "id": [f"t{i:03d}" for i in range(N)],
            "text": [f"Speech {i} on the road." for i in range(N)],
            "doc": [f"d{i // 10}" for i in range(N)],
            "S_Stance": ["pro" if i // 10 % 2 else "anti" for i in range(N)],
        }
    )


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def width(frame, metric="accuracy"):
    row = frame[(frame["metric"] == metric) & (frame["column"] == "S_Stance")].iloc[0]
    return row["ci_high"] - row["ci_low"]


def run_of(cluster=None, **settings):
    task = nba.Task(speeches(), codebook_of(STANCE), "study", cluster=cluster)
    return nba.run(task, model="baseline/majority", **settings)


def test_run_report_tables_and_a_later_score_use_the_column_of_the_task(tmp_path):
    plain = run_of()
    independent = width(nba.metrics("study"))
    assert "taken as independent" in plain.report().text

    run = run_of("doc")
    assert run.run_id == plain.run_id  # how it is scored does not make it another run
    together = width(nba.metrics("study"))
    assert together > 1.8 * independent
    assert "the same doc were resampled together" in run.report().text
    assert width(run.metrics) == together

    # A session that knows the folder alone: its scoring, comparison and report are clustered as before.
    assert main(["score", str(run.folder)]) == 0
    assert width(nba.metrics("study")) == together
    again = nba.load_run(run.folder)
    assert again.task.cluster == "doc"
    assert width(again.metrics) == together
    other = run_of("doc", seed=7)
    both = [nba.load_run(run.folder), nba.load_run(other.folder)]
    asked = nba.compare([plain, run_of(None, seed=7)], "accuracy", cluster="doc", n_resamples=300)
    by_setting = nba.compare(both, "accuracy", n_resamples=300)
    off = nba.compare(both, "accuracy", cluster="", n_resamples=300)
    wide, same, narrow = (c.own("S_Stance", "accuracy")[0] for c in (asked, by_setting, off))
    assert (same.ci_low, same.ci_high) == (wide.ci_low, wide.ci_high)
    assert narrow.ci_high - narrow.ci_low < (wide.ci_high - wide.ci_low) / 1.8


def test_what_was_chosen_for_one_scoring_stands_until_something_else_is(tmp_path):
    run = run_of("doc")
    together = width(run.metrics)
    nba.rescore(run.folder, save=True, cluster="")
    assert width(nba.metrics("study")) < together / 1.8
    assert main(["score", str(run.folder)]) == 0
    assert width(nba.load_run(run.folder).metrics) < together / 1.8
    assert width(run_of("doc").metrics) < together / 1.8
    nba.rescore(run.folder, save=True, cluster="doc")
    assert width(nba.metrics("study")) == together


def test_agreement_and_shares_use_it_and_an_unknown_column_is_named(tmp_path):
    task = nba.Task(speeches(), codebook_of(STANCE), "study", cluster="doc")
    flipped = {f"d{i}" for i in (0, 1, 5)}
    said = speeches().with_columns(
        pl.Series(
            "S_Stance",
            [("pro" if s == "anti" else "anti") if d in flipped else s
             for s, d in zip(speeches()["S_Stance"], speeches()["doc"], strict=True)],
        )
    )  # fmt: skip
    coders = [nba.load_coder(task, speeches(), "anna"), nba.load_coder(task, said, "ben")]
    other = dataclasses.replace(task, cluster=None)
    alone = [nba.load_coder(other, speeches(), "anna"), nba.load_coder(other, said, "ben")]
    by_setting = nba.agreement(coders, n_resamples=300).frame
    asked = nba.agreement(alone, cluster="doc", n_resamples=300).frame
    plain = nba.agreement(alone, n_resamples=300).frame
    limits = ["ci_low", "ci_high"]
    assert by_setting[limits].equals(asked[limits])
    assert not by_setting[limits].equals(plain[limits])
    with pytest.raises(TaskError, match=r"no column 'dok' \(cluster\).*doc"):
        nba.Task(speeches(), codebook_of(STANCE), "study", cluster="dok")
