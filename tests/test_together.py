"""Scored answers of a language model: `answer_mode = "score"` means one thing, however many fields a call asks."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from conftest import DEGREE, GATE, QUOTE, STANCE, codebook_of, task_of
from scripted import Scripted, calls, run_with
from serving import Serving

import nbannot
from nbannot.asking.request_reply import Reply

TOPIC = {"name": "Topic", "type": "dropdown", "options": ["road", "tax", "other"]}
TERM = {"name": "Term", "type": "checkbox"}
YES, LEVELS, TOPICS = (0.35, 0.65), (0.4, 0.0, 0.0, 0.25, 0.35), {"road": 0.2, "tax": 0.7, "other": 0.1}


def scored(request):
    """Answer every question with the same probabilities, whatever the order of its options."""
    shares = {2: YES, 5: LEVELS}.get(len(request.options))
    if shares is None:
        shares = tuple(next(p for name, p in TOPICS.items() if name in option) for option in request.options)
    return Reply(
        text=request.options[shares.index(max(shares))],
        finish_reason="stop",
        probabilities=shares,
        input_tokens=10,
    )


def test_closed_fields_are_scored_behind_one_beginning_and_resumed(tmp_path):
    """On a server that fails now and then; the fields of a text follow each other, alike up to the end of the text."""
    task = task_of(40, codebook_of(GATE, TOPIC, DEGREE, QUOTE))
    settings = {"model": "openai/tiny", "answer_mode": "score", "fields_per_query": "all", "max_parallel": 1}
    with Serving(faults={"http_500": 0.1}) as server:
        run = nbannot.run(task, base_url=server.url, output_root=str(tmp_path), **settings)
        answered = [c for c in server.calls if c.path.endswith("/completions") and c.status == 200]
        again = nbannot.run(task, base_url=server.url, output_root=str(tmp_path), **settings)
        assert sum(c.path.endswith("/completions") and c.status == 200 for c in server.calls) == len(answered)
    sent = [c.body["messages"][-1]["content"] for c in answered]
    assert set(run.coding.count()) == {"ok"}
    assert again.coding.answers == run.coding.answers == nbannot.load_run(run.folder).coding.answers
    lines = [line for line in calls(run) if "decisions" in line]
    assert [line["columns"] for line in lines] == [["S_Gate", "S_Topic", "S_Degree"]] * 40
    asked = [message for message in sent if "alone." in message]
    assert len(set(asked)) == len(asked) == 120, "what was answered is not asked a second time"
    same = [
        next(i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b) for pair in pairwise(asked)
    ]
    ends = [message.index("\n</text") for message in asked]
    assert (
        sum(alike > end for alike, end in zip(same, ends, strict=False)) >= 70
    )  # while one waits after a fault, another text comes between
    assert run.config["calibration_used"] == "batch"
    assert all(a.probabilities for column in ("S_Gate", "S_Degree") for a in run.coding.answers[column])


@pytest.mark.parametrize("how", ["one", "section", "all"])
def test_threshold_scale_and_order_are_read_alike(with_model, tmp_path, how):
    task = task_of(2, codebook_of(TERM, TOPIC, DEGREE))

    def labels(**settings):
        model = Scripted(scored, modes=("score", "generate"))
        run = run_with(
            model, with_model, task, tmp_path, answer_mode="score", fields_per_query=how, **settings
        )
        assert nbannot.load_run(run.folder).coding.answers == run.coding.answers
        answers = run.coding.answers
        assert answers["S_Topic"][0].probabilities == pytest.approx((0.2, 0.7, 0.1)), (
            "in the codebook's order"
        )
        return run.run_id, tuple(answers[c][0].value for c in ("S_Term", "S_Topic", "S_Degree"))

    plain = labels()
    assert plain[1] == (1, "tax", -2)
    strict, rounded = labels(threshold=0.7), labels(scale_answer="rounded")
    assert strict[1] == (0, "tax", -2)
    assert rounded[1] == (1, "tax", -2 + math.floor(0.25 * 3 + 0.35 * 4 + 0.5))
    turned = labels(option_order="reversed")
    assert turned[1] == plain[1]
    assert len({run_id for run_id, _ in (plain, strict, rounded, turned)}) == 4


def test_calibration_is_that_of_each_field_and_comes_before_the_threshold(with_model, tmp_path):
    """The same offsets whether fields are asked alone or together, also of one that applies to some texts only."""
    task = task_of(
        80,
        codebook_of(
            GATE, {**DEGREE, "condition": STANCE["condition"]}, {**TERM, "condition": STANCE["condition"]}
        ),
    )

    def answer(request):
        number = sum(map(ord, request.text)) % 7
        shares = (0.3, 0.7) if len(request.options) == 2 and number else (0.6, 0.4)
        if len(request.options) == 5:
            shares = LEVELS
        return Reply(text=request.options[0], finish_reason="stop", probabilities=shares)

    offsets = {}
    for how in ("one", "all"):
        model = Scripted(answer, modes=("score", "generate"))
        run = run_with(
            model, with_model, task, tmp_path, answer_mode="score", fields_per_query=how, threshold=0.55
        )
        offsets[how] = run.config.get("calibration_offsets") or {
            line["calibration"]: line["offset"] for line in _notes(run)
        }
        assert nbannot.load_run(run.folder).coding.answers == run.coding.answers
        gate = run.coding.answers["S_Gate"]
        assert {a.value == int(a.probabilities[1] >= 0.55) for a in gate} == {True}
    assert offsets["one"] == offsets["all"]
    assert set(offsets["one"]) >= {"S_Gate"}


def test_one_question_that_fails_for_good_costs_the_others_nothing(with_model, tmp_path):
    task = task_of(3, codebook_of(TERM, TOPIC, DEGREE))

    def answer(request):
        if len(request.options) == 3:
            return Reply(error="no label probabilities: several options begin with the same token")
        if len(request.options) == 5:
            return Reply(text="", finish_reason="content_filter")
        return scored(request)

    run = run_with(
        Scripted(answer, modes=("score",)),
        with_model,
        task,
        tmp_path,
        answer_mode="score",
        fields_per_query="all",
    )
    got = {column: answers[0] for column, answers in run.coding.answers.items()}
    assert {column: a.status for column, a in got.items()} == {
        "S_Term": "ok", "S_Topic": "invalid", "S_Degree": "refused"
    }  # fmt: skip
    assert "several options begin" in got["S_Topic"].reason


def _notes(run):
    from nbannot.asking.ledger_lines import read_lines

    return [line for line in read_lines(run.folder / "responses.jsonl") if "calibration" in line]
