"""The mock model: obeys the schema, repeats itself, and fails exactly as often as it is told to."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.errors import ModelError
from nbannot.models.mock import FAULTS, NOTE, REFUSAL, MockModel, read_name

TEXT = "The council raised rents again. “A scandal”, said Zoë 🏠 of the tenants' union; the mayor was silent."
DIRECTIONS = ["positive", "negative", "mixed", "no clear sentiment"]
SPANS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "label": {"enum": ["actor", "claim"]},
            "start": {"type": "integer"},
            "end": {"type": "integer"},
        },
    },
}


def schema_of(response: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"response": response}, "required": ["response"]}


def request_for(number: int, response: dict[str, Any], **changes: Any) -> Request:
    messages = ({"role": "user", "content": f"Code this text.\n{TEXT} ({number})"},)
    key = f"t{number}|Section_Field|1"
    made = Request(
        key=key, messages=messages, shared=16, schema=schema_of(response), text=f"{TEXT} ({number})"
    )
    return replace(made, **changes)


def ask(model: MockModel, *requests: Request) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        return await asyncio.gather(*(model.ask(request) for request in requests))

    return asyncio.run(all_of_them())


def values(model: MockModel, response: dict[str, Any], number: int = 200, **changes: Any) -> list[Any]:
    replies = ask(model, *(request_for(i, response, **changes) for i in range(number)))
    return [json.loads(reply.text)["response"] for reply in replies]


def without_seconds(reply: Reply) -> Reply:
    return replace(reply, seconds=0.0)


def test_is_a_model() -> None:
    model = MockModel("")
    assert isinstance(model, Model)
    assert model.info().notes == (NOTE,)
    assert model.info().backend == "mock"
    assert model.info().full_name == "mock"
    assert MockModel("b?wrong=0.1").info().full_name == "mock/b?wrong=0.1"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_obeys_the_schema_and_uses_every_value(temperature: float) -> None:
    model = MockModel("")
    assert set(values(model, {"enum": DIRECTIONS}, temperature=temperature)) == set(DIRECTIONS)
    assert set(values(model, {"type": "boolean"}, temperature=temperature)) == {True, False}
    scale = {"type": "integer", "minimum": -2, "maximum": 2}
    assert set(values(model, scale, temperature=temperature)) == {-2, -1, 0, 1, 2}


def test_strings_and_quotes_stand_in_the_text() -> None:
    requests = [request_for(i, {"type": "string"}) for i in range(100)]
    passages = [json.loads(reply.text)["response"] for reply in ask(MockModel(""), *requests)]
    assert all(
        passage and passage in request.text for passage, request in zip(passages, requests, strict=True)
    )
    assert len(set(passages)) > 20

    requests = [request_for(i, SPANS) for i in range(100)]
    answers = [json.loads(reply.text)["response"] for reply in ask(MockModel(""), *requests)]
    assert {len(spans) for spans in answers} == {0, 1, 2, 3}
    for request, spans in zip(requests, answers, strict=True):
        for span in spans:
            assert request.text[span["start"] : span["end"]] == span["text"]
            assert span["label"] in {"actor", "claim"}


def test_empty_text_gives_empty_passages() -> None:
    assert values(MockModel(""), {"type": "string"}, 1, text="  ") == [""]
    assert values(MockModel(""), SPANS, 1, text="") == [[]]


def test_room_to_reason_comes_first_and_is_filled() -> None:
    schema = {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "response": {"enum": DIRECTIONS}},
    }
    (reply,) = ask(MockModel(""), request_for(1, {}, schema=schema))
    answer = json.loads(reply.text)
    assert list(answer) == ["reasoning", "response"]
    assert answer["reasoning"] in TEXT + " (1)"
    assert reply.reasoning is None
    (reply,) = ask(MockModel(""), request_for(1, {}, schema=schema, reasoning=True))
    assert reply.reasoning is not None
    assert "drawing lots" in reply.reasoning


def test_other_schema_words() -> None:
    model = MockModel("")
    assert values(model, {"const": 7}, 1) == [7]
    assert values(model, {"type": "null"}, 1) == [None]
    assert set(values(model, {"anyOf": [{"type": "null"}, {"const": "x"}]}, 40)) == {None, "x"}
    assert all(len(passage) <= 4 for passage in values(model, {"type": "string", "maxLength": 4}, 40))
    assert {len(items) for items in values(model, {**SPANS, "minItems": 2, "maxItems": 2}, 40)} == {2}


def test_scores_every_option_and_names_the_best() -> None:
    options = tuple(json.dumps({"response": value}) for value in DIRECTIONS)
    scored = [
        request_for(i, {"enum": DIRECTIONS}, options=options, answer_mode="score", temperature=t)
        for i in range(50)
        for t in (0.0, 1.0)
    ]
    for request, reply in zip(scored, ask(MockModel(""), *scored), strict=True):
        assert reply.probabilities is not None
        assert sum(reply.probabilities) == pytest.approx(1)
        assert reply.text == options[reply.probabilities.index(max(reply.probabilities))]
        if request.temperature == 0:
            (generated,) = ask(MockModel(""), replace(request, answer_mode="generate"))
            assert generated.text == reply.text


def test_same_answer_at_temperature_zero_whatever_the_attempt() -> None:
    first = request_for(1, {"enum": DIRECTIONS})
    again = [replace(first, key=f"t1|Section_Field|{attempt}", seed=attempt) for attempt in range(1, 20)]
    assert len({reply.text for reply in ask(MockModel(""), *again)}) == 1


def test_asking_again_in_other_words_after_the_text_changes_nothing() -> None:
    first = request_for(1, {"enum": DIRECTIONS})
    for end in range(10):
        content = first.messages[0]["content"] + f"\n(An earlier answer could not be used: {end}.)"
        again = replace(first, messages=({"role": "user", "content": content},))
        assert ask(MockModel(""), first)[0].text == ask(MockModel(""), again)[0].text


def test_instructions_before_the_text_matter() -> None:
    field = {"enum": DIRECTIONS}
    first = values(MockModel(""), field)
    history = ({"role": "user", "content": "Another question"}, {"role": "assistant", "content": "{}"})
    asked = [request_for(i, field) for i in range(200)]
    after = ask(MockModel(""), *(replace(r, messages=(*history, *r.messages)) for r in asked))
    assert sum(json.loads(r.text)["response"] != v for r, v in zip(after, first, strict=True)) > 40


def test_attempt_and_seed_matter_above_temperature_zero() -> None:
    first = request_for(1, {"enum": DIRECTIONS}, temperature=1.0)
    attempts = [replace(first, key=f"t1|Section_Field|{attempt}") for attempt in range(1, 40)]
    seeds = [replace(first, seed=seed) for seed in range(40)]
    assert len({reply.text for reply in ask(MockModel(""), *attempts)}) == 4
    assert len({reply.text for reply in ask(MockModel(""), *seeds)}) == 4
    assert [r.text for r in ask(MockModel(""), *seeds)] == [r.text for r in ask(MockModel(""), *seeds)]


def test_low_temperature_stays_close_to_the_best_answer() -> None:
    field = {"enum": DIRECTIONS}
    best = values(MockModel(""), field)

    def kept(temperature: float) -> int:
        drawn = values(MockModel(""), field, temperature=temperature)
        return sum(a == b for a, b in zip(best, drawn, strict=True))

    assert kept(0.05) > kept(5.0)


def test_variants_and_seeds_are_other_models_that_agree_more_than_by_chance() -> None:
    field = {"enum": DIRECTIONS}
    first = values(MockModel(""), field, 1000)
    for other in (MockModel("b"), MockModel("", seed=7)):
        second = values(other, field, 1000)
        agreement = sum(a == b for a, b in zip(first, second, strict=True)) / 1000
        by_chance = sum(Counter(first)[v] * Counter(second)[v] for v in DIRECTIONS) / 1000**2
        assert by_chance + 0.05 < agreement < 0.9


def test_repeats_itself_in_another_process() -> None:
    code = (
        "import asyncio; from nbannot.asking.request_reply import Request; from nbannot.models.mock import MockModel;"
        "r = Request('k|f|1', ({'role': 'user', 'content': 'hello'},), 0, {'type': 'integer', 'minimum': 0,"
        " 'maximum': 999}); print(asyncio.run(MockModel('').ask(r)).text)"
    )
    once, twice = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in "ab"
    )
    assert once.stdout == twice.stdout
    assert once.stdout.strip().isdigit()


@pytest.mark.parametrize("fault", list(FAULTS))
def test_fault_comes_as_often_as_asked_and_spares_the_other_calls(fault: str) -> None:
    requests = [request_for(i, {"enum": DIRECTIONS}) for i in range(2000)]
    clean = [without_seconds(reply) for reply in ask(MockModel(""), *requests)]
    faulty = [without_seconds(reply) for reply in ask(MockModel(f"?{fault}=0.2"), *requests)]
    spoilt = sum(a != b for a, b in zip(clean, faulty, strict=True)) / 2000
    # standard error of 0.2 at n = 2000 is 0.009; four of them
    assert spoilt == pytest.approx(0.2, abs=0.036)


def test_faults_do_not_overlap_and_a_second_attempt_can_succeed() -> None:
    name = "?wrong=0.1&silent=0.1&malformed=0.1&refuse=0.1&error=0.1&truncate=0.1&prose=0.1&multiple=0.1"
    requests = [request_for(i, {"enum": DIRECTIONS}) for i in range(300)]
    clean = [reply.text for reply in ask(MockModel(""), *requests)]
    faulty = [reply.text for reply in ask(MockModel(name), *requests)]
    left = [i for i in range(300) if faulty[i] != clean[i]]
    assert 200 < len(left) < 280
    for attempt in range(2, 40):
        replies = ask(
            MockModel(name), *(replace(requests[i], key=f"t{i}|Section_Field|{attempt}") for i in left)
        )
        left = [i for i, reply in zip(left, replies, strict=True) if reply.text != clean[i]]
    assert left == []


def test_an_error_can_pass_when_the_same_request_is_sent_again() -> None:
    model = MockModel("?error=0.5")
    left = [request_for(i, {"enum": DIRECTIONS}) for i in range(200)]
    failed = []
    for _ in range(5):
        replies = ask(model, *left)
        left = [request for request, reply in zip(left, replies, strict=True) if reply.error]
        failed.append(len(left))
    # about 100, 50, 25, 12, 6 of 200
    assert 70 < failed[0] < 130
    assert failed[4] < failed[2] < failed[0] / 2 < 130 / 2
    assert all(reply.error for reply in ask(MockModel("?error=1"), *left, *left))


def only(fault: str, response: dict[str, Any], **changes: Any) -> Reply:
    return ask(MockModel(f"?{fault}=1"), request_for(1, response, **changes))[0]


def test_what_each_fault_looks_like() -> None:
    field = {"enum": DIRECTIONS}
    assert only("silent", field).text == ""
    assert only("refuse", field).text == REFUSAL
    assert only("refuse", field).finish_reason == "refusal"
    assert only("prose", field).text.startswith("Let me think")
    assert "{" not in only("prose", field).text
    error = only("error", field)
    assert error.retriable
    assert "mock server failed" in (error.error or "")
    assert only("truncate", field).finish_reason == "length"
    assert only("malformed", field).finish_reason == "stop"
    for fault in ("truncate", "malformed"):
        with pytest.raises(json.JSONDecodeError):
            json.loads(only(fault, field).text)
    objects = [json.loads(line)["response"] for line in only("multiple", field).text.splitlines()]
    assert len(objects) == 2
    assert set(objects) <= set(DIRECTIONS)
    scored = only("wrong", field, options=('{"response": "positive"}',), answer_mode="score")
    assert scored.probabilities is None


def test_wrong_values_break_the_schema() -> None:
    def wrong(response: dict[str, Any]) -> Any:
        return json.loads(only("wrong", response).text)["response"]

    assert wrong({"enum": DIRECTIONS}) not in DIRECTIONS
    assert not isinstance(wrong({"type": "boolean"}), bool)
    assert wrong({"type": "integer", "minimum": 1, "maximum": 5}) == 6
    assert wrong({"type": "integer"}) == "many"
    assert not isinstance(wrong({"type": "string"}), str)
    (span,) = wrong(SPANS)
    assert span["text"] not in TEXT


def test_slowness_and_parallelism() -> None:
    model = MockModel("?slow_s=0.05&parallel=4")
    assert model.parallel == 4
    assert MockModel("").parallel == 32
    replies = ask(model, *(request_for(i, {"type": "boolean"}) for i in range(4)))
    assert all(0.05 <= reply.seconds < 1 for reply in replies)


def test_token_counts_are_words() -> None:
    (reply,) = ask(MockModel(""), request_for(1, {"enum": ["one two"]}))
    assert (reply.text, reply.output_tokens) == ('{"response": "one two"}', 3)
    assert reply.input_tokens == 3 + len(f"{TEXT} (1)".split())


def test_unknown_keyword_settings_are_ignored() -> None:
    assert MockModel("x", context_size=1, threads=2, base_url="y", timeout_s=1, other=3).name == "x"


def test_bad_names() -> None:
    with pytest.raises(ModelError) as error:
        read_name("a?wrogn=0.1&silent=2&slow_s=x&parallel=0")
    assert str(error.value) == (
        "The model name 'mock/a?wrogn=0.1&silent=2&slow_s=x&parallel=0' cannot be used: 4 problems.\n"
        "  unknown parameter 'wrogn'; did you mean 'wrong'? Known: wrong, silent, malformed, refuse, error, "
        "truncate, prose, multiple, slow_s, parallel.\n"
        "  silent must be a proportion from 0 to 1. Got '2'.\n"
        "  slow_s must be a number of seconds from 0. Got 'x'.\n"
        "  parallel must be a whole number from 1. Got '0'."
    )
    with pytest.raises(ModelError, match=r"must add up to at most 1\. Got 1\.2"):
        read_name("?wrong=0.6&silent=0.6")
