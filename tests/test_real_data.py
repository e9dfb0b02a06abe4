"""Real human-coded sets: every coder scored as a run, two compared, values held against independent computations."""

from __future__ import annotations

import csv
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DATA

from nbannot.comparing.coder import Coder, load_coder
from nbannot.comparing.comparison import HEADLINE, compare
from nbannot.comparing.reliability import agreement
from nbannot.record.scoring import Scores, score
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

SETS = {
    name: len(list((DATA / name / "coders").glob("*.csv")))
    for name in ("restaurant_cebab", "uk_manifesto_policy", "uk_group_mentions", "eu_coal_debate")
}
"""Set -> how many coders its sample has."""
STATUSES = ("scored", "missing", "no_reference", "na_na", "missed_gate", "spurious")

every_set = pytest.mark.parametrize("name", SETS)


@cache
def loaded(name: str) -> tuple[Task, list[Coder]]:
    place = DATA / name
    task = load_task(place)
    return task, [load_coder(task, path) for path in sorted((place / "coders").glob("*.csv"))]


@cache
def scored(name: str) -> dict[str, Scores]:
    return {coder.run_id: score(coder.coding, n_resamples=200) for coder in loaded(name)[1]}


def cells(path: Path, id_column: str) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[id_column]: row for row in csv.DictReader(file)}


def both(name: str, coder: Coder, column: str) -> tuple[list[str], list[str]]:
    """Return the ground truth's and the coder's cells where both are filled, read with the csv module alone."""
    place = DATA / name
    truth = cells(place / "ground-truth.csv", "id")
    said = cells(place / "coders" / f"{coder.run_id}.csv", "sample_id")
    pairs = [(truth[i][column], row[column]) for i, row in said.items() if truth[i][column] and row[column]]
    return [h for h, _ in pairs], [m for _, m in pairs]


@every_set
def test_all_is_read_and_every_row_has_one_status(name):
    task, coders = loaded(name)
    assert len(coders) == SETS[name]
    for coder in coders:
        assert coder.unknown_ids == ()
        for f in coder.coding.fields:
            found = scored(name)[coder.run_id].fields[f.column]
            assert found.counts["n_rows"] == sum(found.counts[s] for s in STATUSES) == len(coder.task)
            assert found.counts["missing"] == 0
    assert {f.column for f in task.codebook} == {f.column for c in coders for f in c.coding.fields}


@every_set
def test_a_persons_blank_is_no_missing_answer(name):
    """Coverage is 1: what a person was not asked is no error of theirs."""
    defined = 0
    for found in scored(name).values():
        for one in found.fields.values():
            coverage = one.results["coverage"]
            assert coverage.value == 1.0 or (
                math.isnan(coverage.value) and coverage.reason == "no human labels"
            )
            defined += coverage.defined
    assert defined >= SETS[name]


@pytest.mark.parametrize("name", ["restaurant_cebab", "eu_coal_debate", "uk_manifesto_policy"])
def test_label_metrics_are_those_of_scikit_learn(name):
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

    _, coders = loaded(name)
    checked = 0
    for coder in coders:
        for f in coder.coding.fields:
            if f.type not in ("dropdown", "likert"):
                continue
            human, model = both(name, coder, f.column)
            results = scored(name)[coder.run_id].fields[f.column].results
            assert results["accuracy"].n == len(human)
            if not human:
                assert math.isnan(results["accuracy"].value)
                continue
            checked += 1
            used = sorted(set(human))
            assert results["accuracy"].value == pytest.approx(accuracy_score(human, model), abs=1e-12)
            assert results["f1_macro"].value == pytest.approx(
                f1_score(human, model, labels=used, average="macro", zero_division=0), abs=1e-12
            )
            if len(set(human) | set(model)) > 1:
                kappa = cohen_kappa_score(human, model)
                assert results["cohen_kappa"].value == pytest.approx(kappa, abs=1e-12)
            if f.type == "likert" and len(set(human)) > 1:
                h, m = [int(v) for v in human], [int(v) for v in model]
                kappa = cohen_kappa_score(h, m, labels=list(f.labels), weights="quadratic")
                assert results["quadratic_kappa"].value == pytest.approx(kappa, abs=1e-12)
                assert results["bias"].value == pytest.approx(np.mean(np.subtract(m, h)), abs=1e-12)
    assert checked >= SETS[name]


def test_span_metrics_are_those_of_plain_sets():
    name = "uk_group_mentions"
    task, coders = loaded(name)
    (f,) = task.codebook
    texts = dict(zip(task.ids, task.texts, strict=True))
    place = DATA / name
    truth = cells(place / "ground-truth.csv", "id")
    for coder in coders:
        said = cells(place / "coders" / f"{coder.run_id}.csv", "sample_id")
        exact, token = np.zeros(3), np.zeros(3)
        for text_id, row in said.items():
            sides = [json.loads(truth[text_id][f.column]), json.loads(row[f.column])]
            spans = [{(s["start"], s["end"], s["label"]) for s in side} for side in sides]
            words = [
                {
                    (word.start(), s["label"])
                    for s in side
                    for word in re.finditer(r"\w+|[^\w\s]", texts[text_id])
                    if word.start() < s["end"] and word.end() > s["start"]
                }
                for side in sides
            ]
            for total, (h, m) in ((exact, spans), (token, words)):
                total += len(h & m), len(h), len(m)
        results = scored(name)[coder.run_id].fields[f.column].results
        for metric, (shared, human, model) in (("exact_match_f1", exact), ("token_f1", token)):
            assert results[metric].value == pytest.approx(2 * shared / (human + model), abs=1e-12)
        assert results["token_f1"].n == len(said)


def test_alpha_of_the_experts_is_that_of_the_krippendorff_package():
    """Six exchangeable slots: alpha is meaningful, a single slot's kappa is not."""
    import krippendorff

    task, coders = loaded("uk_manifesto_policy")
    for column, level in (
        ("Policy area_Area", "nominal"),
        ("Position_Economic scale", "ordinal"),
        ("Position_Social scale", "ordinal"),
    ):
        f = task.codebook[column]
        rows = [dict(zip(c.task.ids, c.coding.values(column), strict=True)) for c in coders]
        codes = [[np.nan if row.get(i) is None else f.labels.index(row[i]) for i in task.ids] for row in rows]
        expected = krippendorff.alpha(codes, level_of_measurement=level)
        found = agreement(coders, column, n_resamples=200)
        assert found.overall["krippendorff_alpha"].value == pytest.approx(expected, abs=1e-9)
        if level == "nominal":
            assert expected == 1.0  # the set was chosen for unanimous areas
        else:
            assert 0.67 < expected < 0.9


def test_many_sparse_coders_have_an_alpha_and_pairs():
    import krippendorff

    task, coders = loaded("eu_coal_debate")
    f = task.codebook["Subsidy debate_Position"]
    most = sorted(coders, key=lambda c: -len(c.task))[:5]
    found = agreement(most, n_resamples=200)
    rows = [dict(zip(c.task.ids, c.coding.values(f.column), strict=True)) for c in most]
    codes = [[np.nan if row.get(i) is None else f.labels.index(row[i]) for i in task.ids] for row in rows]
    assert found.overall["krippendorff_alpha"].value == pytest.approx(
        krippendorff.alpha(codes, level_of_measurement="nominal"), abs=1e-9
    )
    assert len(found.pairs) == 10
    assert len(found.majority) == 5


def test_two_workers_compared_like_statsmodels_does():
    """Accuracy of two crowd workers on the sentences that both judged: McNemar on the discordant ones."""
    from statsmodels.stats.contingency_tables import mcnemar

    name, column = "eu_coal_debate", "Subsidy debate_Position"
    one, two = loaded(name)[1][:2]
    place = DATA / name
    truth = cells(place / "ground-truth.csv", "id")
    a, b = (cells(place / "coders" / f"{c.run_id}.csv", "sample_id") for c in (one, two))
    common = [i for i in a if i in b and truth[i][column] and a[i][column] and b[i][column]]
    right = np.array([[side[i][column] == truth[i][column] for side in (a, b)] for i in common])
    only_a, only_b = (int((right[:, k] & ~right[:, 1 - k]).sum()) for k in (0, 1))
    row = compare([one, two], "accuracy").frame().iloc[0]
    assert (row["n"], row["n_discordant"]) == (len(common), only_a + only_b)
    assert (row["value_a"], row["value_b"]) == pytest.approx(tuple(right.mean(0)))
    exact = mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue
    assert (
        exact / 2 < row["p"] < exact
    )  # mid-p is below the exact p, by half the probability of the table itself


@every_set
def test_two_coders_are_compared_in_their_headline_metric(name):
    _, coders = loaded(name)
    compared = compare(coders[:2], n_resamples=500)
    assert len(compared.verdicts) == len(compared.results) > 0
    for (column, metric), found in compared.results.items():
        assert metric == HEADLINE[compared.field(column).type]
        assert found.pairs[0].n > 0
        assert found.pairs[0].ci_low <= found.pairs[0].ci_high or math.isnan(found.pairs[0].ci_low)
    for own in (own for key in compared.results for own in compared.own(*key)):
        assert own.n_answered == own.n


@every_set
def test_agreement_does_not_depend_on_the_order_of_coders(name):
    task, coders = loaded(name)
    f = next(f for f in task.codebook if f.column in coders[0].coding.answers)
    some = coders[:3]
    values: list[Any] = [
        agreement(order, f.column, n_resamples=50).overall["krippendorff_alpha"].value
        for order in (some, some[::-1])
    ]
    assert values[0] == pytest.approx(values[1], nan_ok=True)
