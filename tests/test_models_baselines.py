"""Supervised baselines: out of fold, never from a text's own label, and honest where there is nothing to learn from."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import types
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from asking import ask

import nbannot
from nbannot.asking.prompts import reply_schema
from nbannot.asking.request_reply import Model, Request
from nbannot.errors import ModelError
from nbannot.models.baselines import LABELLED, BaselineModel, folds
from nbannot.study.codebook import Codebook
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

CODEBOOK = {
    "text_column": "text",
    "section_1": {
        "section_name": "S",
        "annotations": {
            "annotation_1": {"name": "Good", "type": "checkbox"},
            "annotation_2": {"name": "Kind", "type": "dropdown", "options": ["a|b", "c", "d"]},
            "annotation_3": {"name": "Much", "type": "likert", "min_value": -1, "max_value": 1},
            "annotation_4": {"name": "Why", "type": "textbox"},
        },
    },
}
GOOD_WORDS, BAD_WORDS = ["splendid", "welcome", "fair"], ["dreadful", "harmful", "unfair"]


def made_task(n: int = 60, coded: int | None = None, **columns: list[Any]) -> Task:
    """Return a task whose texts give their label away by one word; only the first `coded` have human labels."""
    drawing = random.Random(7)
    good = [drawing.random() < 0.6 for _ in range(n)]
    words = [drawing.choice(GOOD_WORDS if g else BAD_WORDS) for g in good]
    frame = {
        "id": [f"t|{i}" for i in range(n)],
        "text": [f"Number {i}: a {word} plan." for i, word in enumerate(words)],
        "S_Good": [str(int(g)) for g in good],
        "S_Kind": ["a|b" if g else "c" for g in good],
        "S_Much": ["1" if g else "-1" for g in good],
        **columns,
    }
    data = pd.DataFrame(frame)
    if coded is not None:
        data.loc[coded:, ["S_Good", "S_Kind", "S_Much"]] = ""
    return Task(data, Codebook.from_dict(CODEBOOK), "made")


def fitted(kind: str, task: Task) -> BaselineModel:
    model = BaselineModel(kind)
    model.fit(task, list(task.codebook))
    return model


def question(task: Task, row: int, *columns: str, attempt: int = 1) -> Request:
    fields = [task.codebook[column] for column in columns]
    return Request(
        key=f"{task.ids[row]}|{'+'.join(columns)}|{attempt}",
        messages=({"role": "user", "content": task.texts[row]},),
        shared=0,
        schema=reply_schema(fields, reasons=False),
        text=task.texts[row],
    )


def predictions(kind: str, task: Task, column: str) -> list[Any]:
    replies = ask(fitted(kind, task), *(question(task, row, column) for row in range(len(task))))
    return [json.loads(reply.text)["response"] for reply in replies]


# ---- folds ------------------------------------------------------------------------------------------------


def test_folds_are_alike_in_their_labels():
    classes = [0] * 25 + [1] * 10 + [2] * 5
    fold_of = folds([f"text {i}" for i in range(40)], classes)
    assert Counter(fold_of) == dict.fromkeys(range(5), 8)
    for c, each in ((0, 5), (1, 2), (2, 1)):
        assert Counter(f for f, own in zip(fold_of, classes, strict=True) if own == c) == dict.fromkeys(
            range(5), each
        )


def test_folds_depend_on_the_texts_and_not_on_their_order():
    texts, classes = [f"text {i}" for i in range(30)], [i % 3 for i in range(30)]
    straight = dict(zip(texts, folds(texts, classes), strict=True))
    turned = dict(zip(texts[::-1], folds(texts[::-1], classes[::-1]), strict=True))
    assert straight == turned


def test_the_same_wording_is_never_on_both_sides():
    texts = [f"text {i % 7}" for i in range(35)]
    fold_of = folds(texts, [i % 2 for i in range(35)])
    assert len(set(zip(texts, fold_of, strict=True))) == 7
    assert folds(["a", "b"], [0, 0]) == [1, 0] or folds(["a", "b"], [0, 0]) == [0, 1]


# ---- what is predicted ------------------------------------------------------------------------------------


def test_the_commonest_label():
    task = made_task(60, coded=40)
    human = [value for value in task.human("S_Good") if value is not None]
    assert human.count(1) > human.count(0)
    assert predictions("majority", task, "S_Good") == [True] * 60
    assert predictions("majority", task, "S_Kind") == ["a|b"] * 60
    assert predictions("majority", task, "S_Much") == [1] * 60


def test_a_tie_goes_to_the_first_label_of_the_codebook():
    task = made_task(10, S_Kind=["d", "c"] * 5)
    assert predictions("majority", task, "S_Kind") == ["c"] * 10


def test_words_that_give_the_label_away_are_learned():
    task = made_task(100)
    assert predictions("tfidf-lr", task, "S_Good") == [bool(v) for v in task.human("S_Good")]
    assert predictions("tfidf-lr", task, "S_Kind") == task.human("S_Kind")
    assert predictions("tfidf-lr", task, "S_Much") == task.human("S_Much")


def test_texts_without_a_label_are_predicted_from_all_that_have_one():
    whole, task = made_task(100), made_task(100, coded=50)
    predicted = predictions("tfidf-lr", task, "S_Good")
    assert predicted[50:] == [bool(v) for v in whole.human("S_Good")][50:]
    assert task.human("S_Good")[50:] == [None] * 50


def test_a_texts_own_label_is_not_learned_from():
    """With labels drawn by lot nothing can be learned, unless a text's own label is seen."""
    drawing = random.Random(3)
    labels = [str(drawing.randint(0, 1)) for _ in range(200)]
    texts = [" ".join(drawing.choices("abcdefghij", k=6)) + f" w{i}" for i in range(200)]
    task = made_task(200, S_Good=labels, text=texts)
    right = sum(
        p == bool(h)
        for p, h in zip(predictions("tfidf-lr", task, "S_Good"), task.human("S_Good"), strict=True)
    )
    # 200 lots: mean 100, standard deviation 7
    assert 72 <= right <= 128


def test_the_regression_is_that_of_scikit_learn_on_the_same_folds():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline

    task = load_task("policy-sentiment")
    column = "Policy Sentiment_Direction"
    human = task.human(column)
    assert None not in human
    f = task.codebook[column]
    fold_of = folds(task.texts, [f.labels.index(v) for v in human])
    pipeline = make_pipeline(
        TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    )
    expected = cross_val_predict(pipeline, task.texts, human, cv=PredefinedSplit(fold_of))
    assert predictions("tfidf-lr", task, column) == list(expected)


def test_a_script_without_spaces():
    drawing = random.Random(5)
    good = [drawing.random() < 0.5 for _ in range(60)]
    texts = [
        f"这项政策第{i}号对所有市民来说实在是非常{'好' if g else '坏'}而且影响深远的决定"
        for i, g in enumerate(good)
    ]
    task = made_task(60, text=texts, S_Good=[str(int(g)) for g in good])
    predicted = predictions("tfidf-lr", task, "S_Good")
    assert sum(p == g for p, g in zip(predicted, good, strict=True)) >= 55


def test_texts_without_words_fall_back_to_the_majority():
    task = made_task(20, text=["!" * (i + 1) for i in range(20)], S_Good=["1"] * 12 + ["0"] * 8)
    assert predictions("tfidf-lr", task, "S_Good") == [True] * 20


def test_only_where_the_field_applies_is_learned_from():
    task = load_task("policy-sentiment")
    dependent = next(f for f in task.codebook if f.condition is not None and f.type != "textbox")
    model = fitted("majority", task)
    column = dependent.column
    pairs = zip(task.human(column), task.human_applies(column), strict=True)
    applies = [value is not None and yes for value, yes in pairs]
    assert model.info().details["n_labels"][dependent.column] == sum(applies)


# ---- embeddings -------------------------------------------------------------------------------------------


def test_embeddings(monkeypatch):
    """A stand-in for sentence-transformers: two coordinates that tell good words from bad ones."""
    asked: list[str] = []

    class SentenceTransformer:
        def __init__(self, name: str) -> None:
            asked.append(name)
            if name == "nowhere":
                raise OSError("nowhere is not a folder and no model\nmore lines")

        def encode(self, texts: list[str], **_: Any) -> Any:
            return np.array([[float(any(w in t.split() for w in GOOD_WORDS)), 0.5] for t in texts])

    package = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    monkeypatch.setattr("nbannot.models.baselines.version", lambda name: "1.0")
    task = made_task(60)
    assert predictions("embed-lr", task, "S_Good") == [bool(v) for v in task.human("S_Good")]
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]
    info = fitted("embed-lr/my/folder", task).info()
    assert info.details["embedding_model"] == "my/folder"
    assert info.full_name == "baseline/embed-lr/my/folder"
    reply = ask(fitted("embed-lr/nowhere", task), question(task, 0, "S_Good"))[0]
    assert reply.error == "the embedding model nowhere cannot be used: nowhere is not a folder and no model"


def test_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError) as raised:
        BaselineModel("embed-lr").info()
    assert str(raised.value) == (
        "baseline/embed-lr needs the package sentence-transformers, which is not installed.\n"
        '  pip install "nbannot[textbox]"'
    )


# ---- what cannot be answered ------------------------------------------------------------------------------


def test_what_it_cannot_do_it_says():
    task = made_task(20)
    model = fitted("majority", task)
    questions = [
        (model, ["S_Why"]),
        (model, ["S_Good", "S_Why"]),
        (BaselineModel("majority"), ["S_Good"]),
        (fitted("majority", made_task(20, S_Good=[""] * 20)), ["S_Good"]),
        (fitted("majority", made_task(20, S_Good=["1"] + [""] * 19)), ["S_Good"]),
    ]
    replies = [ask(asked, question(task, 0, *columns))[0] for asked, columns in questions]
    assert [reply.error for reply in replies] == [
        "not a label field: S_Why; a baseline predicts checkbox, dropdown, likert, multiselect fields",
        "not a label field: S_Why; a baseline predicts checkbox, dropdown, likert, multiselect fields",
        "a baseline learns from human labels, and was given none",
        "a baseline learns from human labels, and 'S_Good' has none: two texts are needed",
        "a baseline learns from human labels, and 'S_Good' has 1: two texts are needed",
    ]
    assert {reply.finish_reason for reply in replies} == {"context"}
    elsewhere = Request("elsewhere|S_Good|1", (), 0, question(task, 0, "S_Good").schema)
    reply = ask(model, elsewhere)[0]
    assert reply.error == "not a question of the task: elsewhere|S_Good|1"
    assert not reply.retriable
    with pytest.raises(ModelError) as raised:
        fitted("tfidf-lr", made_task(20, coded=1))
    assert str(raised.value) == (
        "baseline/tfidf-lr learns from human labels, and task 'made' has none for it here.\n"
        "  It needs at least two texts with a human label in a checkbox, dropdown, likert, multiselect field."
    )
    with pytest.raises(ModelError) as raised:
        BaselineModel("majorty")
    assert str(raised.value) == (
        "there is no baseline 'majorty'; did you mean 'majority'?\n"
        "  Type one of: baseline/majority, baseline/tfidf-lr, baseline/embed-lr."
    )


def test_several_fields_in_one_call():
    task = made_task(40)
    reply = ask(fitted("tfidf-lr", task), question(task, 3, "S_Good", "S_Kind", "S_Much"))[0]
    assert json.loads(reply.text) == {
        "S_Good": bool(task.human("S_Good")[3]),
        "S_Kind": task.human("S_Kind")[3],
        "S_Much": task.human("S_Much")[3],
    }


# ---- what it is, and a run --------------------------------------------------------------------------------


def test_info_says_what_it_learns_from():
    task = made_task(60, coded=50)
    model = fitted("tfidf-lr", task)
    assert isinstance(model, Model)
    assert model.learns_from_labels
    info = model.info()
    assert info.full_name == "baseline/tfidf-lr"
    assert info.notes[0].startswith("Supervised baseline: it learns from the human labels of this task.")
    assert info.details["n_labels"] == {"S_Good": 50, "S_Kind": 50, "S_Much": 50}
    assert info.is_local
    assert info.digest == fitted("tfidf-lr", task).info().digest
    assert info.digest != fitted("tfidf-lr", made_task(60, coded=49)).info().digest, (
        "other labels, another run"
    )
    assert info.digest != fitted("majority", task).info().digest
    assert BaselineModel("majority").info().digest is None


def test_a_run_answers_every_label_field(tmp_path):
    settings = {"output_root": str(tmp_path), "process_span": False}
    run = nbannot.run("policy-sentiment", model="baseline/tfidf-lr", **settings)
    assert run.status == "complete"
    by_type = {f.column: f.type for f in run.task.codebook}
    for column, answers in run.coding.answers.items():
        statuses = {answer.status for answer in answers}
        assert statuses <= (
            {"ok", "not_applicable"} if by_type[column] in LABELLED else {"not_asked", "not_applicable"}
        )
    assert run.config["model_info"]["details"]["learns_from_labels"] is True
    again = nbannot.run("policy-sentiment", model="baseline/tfidf-lr", fresh=True, **settings)
    assert again.run_id != run.run_id
    assert again.labels["value"].equals(run.labels["value"])


def test_the_commonest_label_agrees_with_the_metric_of_that_name(tmp_path):
    run = nbannot.run("policy-sentiment", model="baseline/majority", output_root=str(tmp_path))
    values = run.metrics.set_index(["column", "metric"])["value"]
    for column in ("Policy Sentiment_Explicit evaluation", "Policy Sentiment_Direction"):
        assert values[column, "accuracy"] == values[column, "baseline_accuracy"]


def test_a_run_over_some_texts_learns_from_all_and_other_labels_make_another_run(tmp_path):
    few = {"model": "baseline/tfidf-lr", "limit": 8, "process_textbox": False, "output_root": str(tmp_path)}
    run = nbannot.run(made_task(100), **few)
    assert run.status == "complete"
    assert run.config["model_info"]["details"]["n_labels"]["S_Good"] == 100
    assert run.coding.answers["S_Good"][0].value == run.task.human("S_Good")[0]
    assert nbannot.run(made_task(100), **few).run_id == run.run_id
    assert nbannot.run(made_task(100, coded=90), **few).run_id != run.run_id
    with pytest.raises(ModelError, match="task 'made' has none for it here"):
        nbannot.run(made_task(100, coded=0), **few)


def test_waiting_for_the_learning_of_another_request_is_no_time_of_ones_own(monkeypatch):
    task = made_task(20)
    model = fitted("majority", task)

    def slowly(f):
        time.sleep(0.2)
        return [f.labels[0]] * len(task)

    monkeypatch.setattr(model, "_predict", slowly)

    async def at_once():
        return await asyncio.gather(*(model.ask(question(task, row, "S_Good")) for row in range(8)))

    seconds = sorted(reply.seconds for reply in asyncio.run(at_once()))
    assert seconds[-1] >= 0.2
    assert sum(seconds[:-1]) < seconds[-1]
