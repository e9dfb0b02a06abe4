"""The reference values of sections 4 and 5 that were handed to the project, through the public doors."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from conftest import DATA
from made_corpora import corpus_of
from made_runs import STANCE, made_run, made_task

import nbannot as nba
from nbannot.inference.shares import GoldTable, matrix_inversion

PLACE = DATA / "stats_vectors.json"


def vector(name: str) -> tuple[Any, Any, float]:
    cases = json.loads(PLACE.read_text(encoding="utf-8"))["vectors"]
    case = next(case for case in cases if case["id"] == name)
    return case["input"], case["expected"], case["tol"]


@pytest.mark.parametrize(("name", "epsilon"), [("alt.all_identical", 0.2), ("alt.eps0_identical", 0)])
def test_alternative_annotator(name, epsilon, tmp_path):
    _, wanted, tol = vector(name)
    labels = ["pro", "anti", "neutral"] * 20
    task = made_task([f"Text {i}." for i in range(60)], STANCE)
    table = pd.DataFrame({"id": task.ids, "S_Stance": labels})
    coders = [nba.load_coder(task, table, name) for name in wanted["annotators"]]
    found = nba.alt_test(made_run(task, {"Stance": labels}, tmp_path), coders=coders, epsilon=epsilon)
    frame = found.frame
    assert frame["coder"].tolist() == wanted["annotators"]
    for column, key in (
        ("p", "p"), ("p_adjusted", "p_by"), ("advantage", "rho_llm"), ("coder_advantage", "rho_human"),
    ):  # fmt: skip
        assert frame[column].tolist() == pytest.approx(wanted[key], abs=tol)
    assert frame["beaten"].tolist() == wanted["rejected"]
    assert found.winning_rate == pytest.approx(wanted["winning_rate"], abs=tol)
    assert found.advantage == pytest.approx(wanted["advantage_prob"], abs=tol)
    assert found.passed is wanted["passed"]


def test_prevalence_of_several_labels(tmp_path):
    given, wanted, tol = vector("prev.poststrat_multiclass")
    run = corpus_of(
        given["gold_rows_human_cols_llm"], given["corpus_counts_by_llm_label"], tmp_path, ("a", "b", "c")
    )
    frame = nba.prevalence(run).frame
    assert frame["naive"].tolist() == pytest.approx(wanted["naive"], abs=tol)
    assert frame["corrected"].tolist() == pytest.approx(wanted["estimate"], abs=tol)
    assert frame["se"].tolist() == pytest.approx(wanted["se"], abs=tol)
    assert frame["se_classical"].tolist() == pytest.approx(wanted["classical_se"], abs=tol)
    limits = frame[["corrected_low", "corrected_high"]].to_numpy().tolist()
    assert [v for pair in limits for v in pair] == pytest.approx(
        [v for p in wanted["ci95"] for v in p], abs=1e-7
    )
    table = GoldTable.of_counts(given["gold_rows_human_cols_llm"], given["corpus_counts_by_llm_label"])
    assert matrix_inversion(table)[0].tolist() == pytest.approx(wanted["matrix_inversion"], abs=tol)


def test_prevalence_worked(tmp_path):
    given, wanted, tol = vector("prev.worked")
    gold = given["gold_table_rows_human_cols_llm"]
    corpus = [free + sum(row[k] for row in gold) for k, free in enumerate(given["unlabelled_counts"])]
    row = nba.prevalence(corpus_of(gold, corpus, tmp_path)).frame.set_index("label").loc["yes"]
    n = given["n_gold"] + given["n_unlabelled"]
    assert row["naive"] == pytest.approx(
        (wanted["naive_llm_share"] * given["n_unlabelled"] + sum(r[1] for r in gold)) / n
    )
    assert row["gold_only"] == pytest.approx(wanted["gold_only"], abs=tol)
    assert [row["gold_only_low"], row["gold_only_high"]] == pytest.approx(wanted["gold_only_wilson"], abs=tol)
    assert row["corrected"] == pytest.approx(wanted["poststrat"], abs=tol)
    assert row["se_classical"] == pytest.approx(wanted["poststrat_se"], abs=tol)
    assert row["ppi"] == pytest.approx(wanted["ppi_lam1"], abs=tol)
    assert [row["ppi_low"], row["ppi_high"]] == pytest.approx(wanted["ppi_lam1_ci"], abs=tol)
    assert row["ppi_tuned"] == pytest.approx(wanted["ppi_pp"], abs=tol)
    assert [row["ppi_tuned_low"], row["ppi_tuned_high"]] == pytest.approx(wanted["ppi_pp_ci"], abs=tol)
    assert 1 - row["false_negative_rate"] == pytest.approx(wanted["sensitivity"], abs=tol)
    assert 1 - row["false_positive_rate"] == pytest.approx(wanted["specificity"], abs=tol)
    inverted = matrix_inversion(GoldTable.of_counts(gold, corpus))[0, 1]
    assert inverted == pytest.approx(wanted["rogan_gladen"], abs=tol)


def test_planning():
    given, wanted, _ = vector("plan.n_for_width")
    for half in given["half_width"]:
        found = [nba.how_many(half_width=half, share=p).n for p in given["p"]]
        assert found == wanted[f"{half:g}"]
    given, wanted, _ = vector("plan.n_for_kappa")
    found = [
        nba.how_many(half_width=half, table=given["expected_confusion"]).n for half in given["half_width"]
    ]
    assert found == wanted["n"]
    given, wanted, _ = vector("plan.mcnemar_n")
    pairs = zip(given["delta"], given["discordant"], strict=True)
    found = [nba.how_many(difference=d, discordant=s, power=given["power"]).n for d, s in pairs]
    assert found == wanted["n"]
    given, wanted, tol = vector("plan.ppi")
    found = [
        nba.how_many(half_width=given["half_width"], share=given["p"], phi=phi, corpus=given["N"]).exact
        for phi in given["phi"]
    ]
    assert found == pytest.approx(wanted["n_with_llm"], abs=tol)


def test_design_based_mean(tmp_path):
    given, wanted, tol = vector("prev.worked")
    gold = given["gold_table_rows_human_cols_llm"]
    corpus = [free + sum(row[k] for row in gold) for k, free in enumerate(given["unlabelled_counts"])]
    row = nba.regress("Kind == 'yes' ~ 1", corpus_of(gold, corpus, tmp_path)).frame.iloc[0]
    assert row["corrected_estimate"] == pytest.approx(wanted["dsl"], abs=tol)
    assert row["corrected_se"] == pytest.approx(wanted["dsl_se"], abs=tol)


@pytest.mark.parametrize(
    ("gold", "corpus", "plain", "tuned"),
    [
        ([[70, 12], [8, 30]], [900, 500],
         (0.32447916666666665, 0.24708794986032778, 0.4018703834730055),
         (0.32099320370370366, 0.25437659356721154, 0.38760981384019577)),
        ([[45, 2], [3, 10]], [1500, 200],
         (0.1313008130081301, 0.05676687617035325, 0.20583474984590694),
         (0.1313008130081301, 0.05676687617035325, 0.20583474984590694)),
        ([[20, 9], [11, 20]], [300, 300],
         (0.5351851851851852, 0.38336710810483937, 0.6870032622655311),
         (0.5222314506172839, 0.40233401992914997, 0.6421288813054179)),
    ],
)  # fmt: skip
def test_prediction_powered_shares_are_those_of_ppi_python(tmp_path, gold, corpus, plain, tuned):
    # ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci(alpha=0.05), lam=1 and lam=None
    row = nba.prevalence(corpus_of(gold, corpus, tmp_path)).frame.set_index("label").loc["yes"]
    assert tuple(row[["ppi", "ppi_low", "ppi_high"]]) == pytest.approx(plain, abs=1e-9)
    assert tuple(row[["ppi_tuned", "ppi_tuned_low", "ppi_tuned_high"]]) == pytest.approx(tuned, abs=1e-9)
