"""The human ceiling on cards and reports, what more labels would bring, the picture of the alternative test."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from conftest import codebook_of

import nbannot as nba

OPTIONS = ["pro", "anti"]
N = 120


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_people_are_a_band_on_card_report_and_alternative_annotator(tmp_path):
    rng = np.random.default_rng(5)
    truth = rng.choice(OPTIONS, N).tolist()
    frame = pl.DataFrame(
        {"id": [f"t{i}" for i in range(N)], "text": [f"Speech {i}." for i in range(N)], "S_Stance": truth}
    )
    task = nba.Task(frame, codebook_of({"name": "Stance", "type": "dropdown", "options": OPTIONS}), "study")
    run = nba.run(task, model="mock")
    assert "people with each other" not in str(run)
    said = {}
    folder = tmp_path / "outputs/study/coders"
    folder.mkdir(parents=True)
    for name, slips in (("anna", 0.05), ("ben", 0.1), ("cleo", 0.2)):
        wrong = rng.random(N) < slips
        said[name] = [OPTIONS[t == "pro"] if w else t for t, w in zip(truth, wrong, strict=True)]
        frame.with_columns(pl.Series("S_Stance", said[name])).select("id", "S_Stance").write_csv(
            folder / f"{name}.csv"
        )
    pairs = [("anna", "ben"), ("anna", "cleo"), ("ben", "cleo")]
    f1 = [sk.f1_score(said[a], said[b], average="macro") for a, b in pairs]
    words = f"people with each other, scored in the same way: Stance {min(f1):.2f} to {max(f1):.2f} (3 pairs)"
    for shown in (str(run), run.report().text):
        assert words in " ".join(shown.split())
        assert "░" in shown
    assert f"people with each other {min(f1):.2f} to {max(f1):.2f}" in run._fragment().html
    row = run.scores.fields["S_Stance"].results["f1_macro"]
    half = (row.ci_high - row.ci_low) / 2
    more = f"200 more human labels would narrow Stance from ±{half:.2f} to about ±{half * (N / (N + 200)) ** 0.5:.2f}"
    for shown in (str(run), run.report().text):
        assert more in " ".join(shown.split())
    coders = [nba.load_coder(task, folder / f"{name}.csv") for name in said]
    test = nba.alt_test(run, coders=coders, epsilon=0.1, n_resamples=200)
    means = [
        np.mean(
            [a == b for other in said if other != name for a, b in zip(said[name], said[other], strict=True)]
        )
        for name in said
    ]
    assert [value for _, value, *_ in test.scores[1:]] == pytest.approx(means)
    assert test.bands() == [(pytest.approx(min(means)), pytest.approx(max(means)))]
    assert f"a band from {min(means):.2f} to {max(means):.2f}" in test._repr_html_()
