"""The order of options: told to the model as it is set, kept nowhere else; another run only where a request changes."""

from __future__ import annotations

import json

import pytest
from conftest import GATE, codebook_of, task_of

import nbannot as nba
from nbannot.asking.decisions import Reading, compose_questions, decided, read_decisions
from nbannot.asking.option_order import in_order
from nbannot.study.task import Task

OPTIONS = ["town", "river", "sea", "road", "hill"]
PLACE = {
    "name": "Place",
    "type": "dropdown",
    "options": OPTIONS,
    "option_descriptions": {"river": "water that runs", "hill": "ground that rises"},
}
BOOK = codebook_of(PLACE)


def run(tmp_path, order, model="mock", **settings):
    task = task_of(12, BOOK)
    return nba.run(task, model=model, option_order=order, output_root=tmp_path, **settings)


def first_call(made):
    lines = (made.folder / "responses.jsonl").read_text("utf-8").splitlines()
    return next(line for line in map(json.loads, lines) if "prefix" in line)["content"]


@pytest.mark.parametrize("mode", ["generate", "score"])
def test_a_model_is_told_the_order_and_tables_keep_the_codebooks(tmp_path, mode):
    runs = {order: run(tmp_path, order, answer_mode=mode) for order in ("codebook", "reversed", "random")}
    told = {order: first_call(made) for order, made in runs.items()}
    assert '"town", "river", "sea", "road", "hill"' in told["codebook"]
    assert '"hill", "road", "sea", "river", "town"' in told["reversed"]
    assert told["reversed"].index("ground that rises") < told["reversed"].index("water that runs")
    assert len({made.run_id for made in runs.values()}) == 3
    assert run(tmp_path, "random", answer_mode=mode, seed=5).run_id != runs["random"].run_id
    for made in runs.values():
        assert made.coding.count() == {"ok": 12}
        assert made.coding.fields[0].options == tuple(OPTIONS)
        if mode == "score":
            column = made.coding.answers["S_Place"]
            assert all(a.probabilities[OPTIONS.index(a.value)] == max(a.probabilities) for a in column)


@pytest.mark.parametrize("order", ["reversed", "random"])
def test_a_decision_is_read_back_into_the_codebooks_order(order):
    f = BOOK.fields[0]
    asked = in_order(f, order, 3)
    assert sorted(asked.options) == sorted(OPTIONS)
    assert asked.options != f.options
    question = compose_questions([asked]).questions[0]
    shares = {"town": 0.1, "river": 0.15, "sea": 0.05, "road": 0.5, "hill": 0.2}
    made = decided(question, [shares[name] for name in question.options])
    answer = read_decisions([f], {f.column: made}, Reading(order=order, seed=3))[f.column]
    assert answer.value == "road"
    assert answer.probabilities == (0.1, 0.15, 0.05, 0.5, 0.2)


def test_sparrow_reads_the_names_not_their_places(tmp_path):
    plain, turned = (run(tmp_path, order, model="decide/sparrow") for order in ("codebook", "reversed"))
    assert list(nba.flip_rate([plain, turned])["flipped"]) == [0]
    for a, b in zip(plain.coding.answers["S_Place"], turned.coding.answers["S_Place"], strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-6)
    again = nba.load_run(turned.folder)
    assert [a.probabilities for a in again.coding.answers["S_Place"]] == [
        pytest.approx(a.probabilities) for a in turned.coding.answers["S_Place"]
    ]


def test_where_no_dropdown_is_asked_it_is_the_same_run(tmp_path):
    task = Task(task_of(4, codebook_of(GATE)).data, codebook_of(GATE), "gates")
    ids = {nba.plan(task, model="mock", option_order=order).run_id for order in ("codebook", "reversed")}
    assert len(ids) == 1
