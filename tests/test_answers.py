"""Answers: whatever a model says becomes a value of the codebook or a named reason, never a guess, never a crash."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbannot.asking.answers import (
    STATUSES,
    Answer,
    batch_offset,
    calibrate,
    folded,
    read_reply,
)
from nbannot.asking.prompts import answer_object
from nbannot.asking.reply_parts import parts_of, shortened, split_thinking, thinking_in
from nbannot.asking.request_reply import Reply
from nbannot.study.field import Field


def field(kind: Any, name: str = "F", **changes: Any) -> Field:
    return Field(f"S_{name}", name, "S", "", kind, "section_1 / annotation_1", **changes)


CHECKBOX = field("checkbox", "C")
DROPDOWN = field("dropdown", "D", options=("positive", "negative", "mixed", "no clear sentiment"))
LIKERT = field("likert", "L", min_value=-2, max_value=5)
TEXTBOX = field("textbox", "T")
SPANS = field("span", "H")
LABELLED = field("span", "A", label_options=("actor", "claim"))
ALL = (CHECKBOX, DROPDOWN, LIKERT, TEXTBOX, SPANS, LABELLED)
TEXT = "The mayor said: “Rents rise.” The mayor, Zoë 🏠, was silent; the MAYOR left."


def read(f: Field, raw: str, text: str = TEXT, **reply: Any) -> Answer:
    return read_reply([f], text, Reply(raw, **reply))[f.column]


def seen(f: Field, raw: str, text: str = TEXT, **reply: Any) -> tuple[Any, ...]:
    """Return status, value and (where there is none) the reason."""
    answer = read(f, raw, text, **reply)
    assert answer.column == f.column
    assert (answer.status == "ok") == (answer.reason == "")
    assert answer.status == "ok" or answer.value is None
    return (answer.status, answer.value if answer.status == "ok" else answer.reason)


def reply_of(value: Any, **further: Any) -> str:
    return json.dumps({**further, "response": value}, ensure_ascii=False)


def legal(f: Field, value: Any, text: str) -> bool:
    """Return whether the codebook has this value, by rules of the test's own."""
    if f.type == "checkbox":
        return type(value) is int and value in (0, 1)
    if f.type == "dropdown":
        return value in f.options
    if f.type == "likert":
        return type(value) is int and f.min_value <= value <= f.max_value
    if f.type == "textbox":
        return isinstance(value, str) and value.encode("utf-8").decode() == value
    return isinstance(value, list) and all(
        text[s["start"] : s["end"]] == s["text"] != ""
        and (s["label"] in f.label_options if f.label_options else s["label"] is None)
        for s in value
    )


# ---- one value of each type -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value", "repaired"),
    [
        ("true", 1, False), ("false", 0, False), ("1", 1, True), ("0", 0, True), ("1.0", 1, True), ('"yes"', 1, True),
        ('" NO "', 0, True), ('"True"', 1, True), ("[true]", 1, True),
    ],
)  # fmt: skip
def test_checkbox(raw: str, value: int, repaired: bool) -> None:
    answer = read(CHECKBOX, f'{{"response": {raw}}}')
    assert (answer.status, answer.value, type(answer.value), answer.repaired) == ("ok", value, int, repaired)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("null", "null"), ("2", "2"), ("-0.0", "-0.0"), ("0.5", "0.5"), ('"maybe"', '"maybe"'), ('""', '""'),
        ("NaN", "NaN"), ("{}", "{}"), ('"true."', '"true."'), ("[[true]]", "[true]"),
    ],
)  # fmt: skip
def test_no_checkbox(raw: str, shown: str) -> None:
    assert seen(CHECKBOX, f'{{"response": {raw}}}') == ("invalid", f"not true or false: {shown}")


@pytest.mark.parametrize(
    ("raw", "value", "repaired"),
    [
        ("3", 3, False), ("-2", -2, False), ("0", 0, False), ("-0", 0, False), ("3.0", 3, True),
        ("3e0", 3, True), ('"3"', 3, True),
        ('" +3 "', 3, True), ('"3.0"', 3, True), ('"-2"', -2, True), ("[3]", 3, True), ('"３"', 3, True),
        ('"−2"', -2, True), ('"3,0"', 3, True),
    ],
)  # fmt: skip
def test_likert(raw: str, value: int, repaired: bool) -> None:
    answer = read(LIKERT, f'{{"response": {raw}}}')
    assert (answer.status, answer.value, type(answer.value), answer.repaired) == ("ok", value, int, repaired)


@pytest.mark.parametrize(
    ("raw", "options", "expected"),
    [
        ("2.5", ["1", "2.5"], "2.5"), ("1.0", ["1.0", "2"], "1.0"),
        ("1.0", ["1", "1.0"], "1.0"), ("2.5", ["2", "3"], None), ("NaN", ["nan", "x"], None),
        ("true", ["True", "1"], None), ("2.5", ["2,5", "25"], None), ("1e20", ["1e+20", "x"], "1e+20"),
    ],
)  # fmt: skip
def test_a_number_that_is_an_option_is_it_and_no_other(
    raw: str, options: list[str], expected: str | None
) -> None:
    assert read(field("dropdown", options=tuple(options)), f'{{"response": {raw}}}').value == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("3.5", "not an integer: 3.5"),
        ('"3.5"', 'not an integer: "3.5"'),
        ("true", "not an integer: true"),
        ("null", "not an integer: null"),
        ("NaN", "not an integer: NaN"),
        ("Infinity", "not an integer: Infinity"),
        ("-Infinity", "not an integer: -Infinity"),
        ("1e999", "not an integer: Infinity"),
        ('"4/5"', 'not an integer: "4/5"'),
        ('"3 (agree)"', 'not an integer: "3 (agree)"'),
        ('"three"', 'not an integer: "three"'),
        ('"1e0"', 'not an integer: "1e0"'),
        ('"NaN"', 'not an integer: "NaN"'),
        ("6", "out of range: 6 is not from -2 to 5"),
        ("-3", "out of range: -3 is not from -2 to 5"),
        ("7.0", "out of range: 7 is not from -2 to 5"),
        ("1e300", "out of range: 1000000000000000052… is not from -2 to 5"),
        ("9" * 4000, "out of range: 9999999999999999999… is not from -2 to 5"),
        ('"' + "9" * 5000 + '"', 'not an integer: "' + "9" * 58 + "…"),
        ("[]", "no answer: []"),
        ("[3, 3]", "several answers: [3, 3]"),
        ('{"value": 3}', 'not an integer: {"value": 3}'),
    ],
)
def test_no_likert(raw: str, reason: str) -> None:
    assert seen(LIKERT, f'{{"response": {raw}}}') == ("invalid", reason)


def test_a_number_that_python_will_not_read_is_not_json() -> None:
    assert seen(LIKERT, '{"response": ' + "9" * 5000 + "}")[1].startswith('not JSON: \'{"response": 999')


@pytest.mark.parametrize(
    ("raw", "value", "repaired"),
    [
        ('"negative"', "negative", False),
        ('" Negative\\n"', "negative", True),
        ('"NO CLEAR SENTIMENT"', "no clear sentiment", True),
        ('["mixed"]', "mixed", True),
    ],
)
def test_dropdown(raw: str, value: str, repaired: bool) -> None:
    answer = read(DROPDOWN, f'{{"response": {raw}}}')
    assert (answer.status, answer.value, answer.repaired) == ("ok", value, repaired)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('"neg"', 'not an option: "neg"'),
        ('"negative."', 'not an option: "negative."'),
        ('"positive/negative"', 'not an option: "positive/negative"'),
        ('"no  clear sentiment"', 'not an option: "no clear sentiment"'),
        ('""', 'not an option: ""'),
        ("null", "not an option: null"),
        ("true", "not an option: true"),
        ("0", "not an option: 0"),
        ('["mixed", "mixed"]', 'several answers: ["mixed", "mixed"]'),
        ("[]", "no answer: []"),
        ('{"label": "mixed"}', 'not an option: {"label": "mixed"}'),
        ('"' + "x" * 100 + '"', 'not an option: "' + "x" * 58 + "…"),
        ('"\\ud83d"', 'not an option: "�"'),
    ],
)
def test_no_dropdown(raw: str, reason: str) -> None:
    assert seen(DROPDOWN, f'{{"response": {raw}}}') == ("invalid", reason)


def test_options_that_differ_in_case_or_form_only() -> None:
    twins = field("dropdown", options=("Yes", "yes", "caf\u00e9", "stra\u00dfe", " padded "))
    assert seen(twins, reply_of("yes")) == ("ok", "yes")
    assert seen(twins, reply_of("Yes")) == ("ok", "Yes")
    assert seen(twins, reply_of("YES")) == ("invalid", 'not an option: "YES"')
    assert seen(twins, reply_of("cafe\u0301")) == ("ok", "caf\u00e9")
    assert seen(twins, reply_of("STRASSE")) == ("ok", "stra\u00dfe")
    assert seen(twins, reply_of("padded")) == ("ok", " padded ")
    assert folded("E\u0301") == "\u00e9"


def test_options_that_look_like_something_else() -> None:
    odd = field("dropdown", options=("1", "2", "02", "None", "null", "true", "NaN"))
    assert seen(odd, reply_of(1)) == ("ok", "1")
    assert read(odd, reply_of(1)).repaired
    assert seen(odd, reply_of("02")) == ("ok", "02")
    assert seen(odd, reply_of(2)) == ("ok", "2")
    assert seen(odd, reply_of(1.0)) == ("invalid", "not an option: 1.0")
    assert seen(odd, reply_of(None)) == ("invalid", "not an option: null")
    assert seen(odd, reply_of(True)) == ("invalid", "not an option: true")
    assert seen(odd, '{"response": NaN}') == ("invalid", "not an option: NaN")
    assert seen(odd, reply_of("none")) == ("ok", "None")


def test_textbox() -> None:
    assert seen(TEXTBOX, reply_of(" Rents rise. ")) == ("ok", "Rents rise.")
    assert seen(TEXTBOX, reply_of("")) == ("ok", "")
    assert seen(TEXTBOX, reply_of('a {"response": "b"} <think>c</think> d')) == (
        "ok",
        'a {"response": "b"} <think>c</think> d',
    )
    assert seen(TEXTBOX, '{"response": "a\nb\\u00e9"}') == ("ok", "a\nbé")
    assert seen(TEXTBOX, reply_of(3)) == ("invalid", "not a text: 3")
    assert seen(TEXTBOX, reply_of(None)) == ("invalid", "not a text: null")
    assert seen(TEXTBOX, reply_of(["a"])) == ("invalid", 'not a text: ["a"]')


def test_a_text_that_no_file_could_hold_is_repaired() -> None:
    half = read(TEXTBOX, '{"response": "home \\ud83c and \\u0000\\u001b"}')
    assert (half.value, half.repaired) == ("home � and ��", True)
    whole = read(TEXTBOX, '{"response": "home \\ud83c\\udfe0"}')
    assert (whole.value, whole.repaired) == ("home 🏠", False)


# ---- spans ------------------------------------------------------------------------------------------------------


def spans(f: Field, *quotes: Any, text: str = TEXT) -> Any:
    answer = read(f, reply_of(list(quotes)), text)
    assert answer.status == "ok", answer.reason
    return [(s["start"], s["end"], s["text"], s["label"]) for s in answer.value]


def test_quotes_are_placed_in_the_text() -> None:
    assert spans(SPANS) == []
    assert spans(SPANS, {"text": "Rents rise."}) == [(17, 28, "Rents rise.", None)]
    assert spans(SPANS, "Rents rise.", {"text": "The mayor", "label": "actor"}) == [
        (0, 9, "The mayor", None),
        (17, 28, "Rents rise.", None),
    ]
    assert spans(LABELLED, {"text": "Zoë 🏠", "label": "actor"}) == [(41, 46, "Zoë 🏠", "actor")]
    assert spans(LABELLED, {"label": "claim", "text": "was silent", "why": "x"}) == [
        (48, 58, "was silent", "claim")
    ]


def test_a_quote_that_occurs_more_than_once() -> None:
    first, second = (4, 9, "mayor", "actor"), (34, 39, "mayor", "actor")
    quote = {"text": "mayor", "label": "actor"}
    assert spans(LABELLED, quote) == [first]
    assert spans(LABELLED, quote, quote) == [first, second]
    assert spans(LABELLED, quote, quote, quote) == [first, second]
    assert spans(LABELLED, {**quote, "start": 30, "end": 31}) == [second]
    assert spans(LABELLED, {**quote, "start": 10**30}) == [second]
    assert spans(LABELLED, {**quote, "start": -5}) == [first]
    assert spans(LABELLED, {**quote, "start": "30"}) == [second]
    assert spans(LABELLED, {**quote, "start": None, "end": [1]}) == [first]
    other = {"text": "mayor", "label": "claim"}
    assert spans(LABELLED, quote, other) == [first, (4, 9, "mayor", "claim")]


def test_offsets_never_decide_against_the_quote() -> None:
    assert spans(SPANS, {"text": "silent", "start": 0, "end": 3}) == [(52, 58, "silent", None)]


def test_quotes_put_right() -> None:
    said = read(SPANS, reply_of([{"text": '"rents  RISE."'}]))
    assert [s["text"] for s in said.value] == ["“Rents rise.”"]
    assert said.repaired
    label = read(LABELLED, reply_of([{"text": "mayor", "label": " Actor"}]))
    assert [s["label"] for s in label.value] == ["actor"]
    assert label.repaired
    assert not read(LABELLED, reply_of([{"text": "mayor", "label": "actor"}])).repaired
    assert not read(SPANS, reply_of([{"text": "mayor", "label": "anything"}])).repaired


def test_quotes_that_are_not_in_the_text() -> None:
    some = read(SPANS, reply_of(["mayor", "the king", "\ud800"]))
    assert [s["text"] for s in some.value] == ["mayor"]
    assert some.unaligned == ("the king", "�")
    assert seen(SPANS, reply_of(["the king", "queen"])) == (
        "invalid",
        "no such quote in the text: 'the king', 'queen'",
    )
    assert seen(SPANS, reply_of([str(n) for n in range(5)])) == (
        "invalid",
        "no such quote in the text: '0', '1', '2' and 2 more",
    )
    assert seen(SPANS, reply_of(["", "  "])) == ("invalid", "no such quote in the text: '', ''")
    assert seen(SPANS, reply_of(["x"]), text="") == ("invalid", "no such quote in the text: 'x'")


@pytest.mark.parametrize(
    ("f", "raw", "reason"),
    [
        (SPANS, '"mayor"', 'not a list of passages: "mayor"'),
        (SPANS, "null", "not a list of passages: null"),
        (SPANS, '{"text": "mayor"}', 'not a list of passages: {"text": "mayor"}'),
        (SPANS, "[3]", "a passage without its text: 3"),
        (SPANS, "[null]", "a passage without its text: null"),
        (SPANS, '[{"start": 4, "end": 9}]', 'a passage without its text: {"start": 4, "end": 9}'),
        (SPANS, '[{"text": ["mayor"]}]', 'a passage without its text: {"text": ["mayor"]}'),
        (LABELLED, '["mayor"]', 'a passage without its text: "mayor"'),
        (
            LABELLED,
            '[{"text": "mayor"}]',
            "a passage with a label that is no option: null; the labels are actor, claim",
        ),
        (
            LABELLED,
            '[{"text": "mayor", "label": "king"}]',
            'a passage with a label that is no option: "king"; the labels are actor, claim',
        ),
        (
            LABELLED,
            '[{"text": "mayor", "label": ["actor"]}]',
            'a passage with a label that is no option: ["actor"]; the labels are actor, claim',
        ),
        (
            LABELLED,
            '[{"text": "mayor", "label": "actor"}, {"text": "silent", "label": null}]',
            "a passage with a label that is no option: null; the labels are actor, claim",
        ),
    ],
)
def test_no_spans(f: Field, raw: str, reason: str) -> None:
    assert seen(f, f'{{"response": {raw}}}') == ("invalid", reason)


# ---- what stands around the answer ------------------------------------------------------------------------------

NEGATIVE = '{"response": "negative"}'
POSITIVE = '{"response": "positive"}'


@pytest.mark.parametrize(
    "raw",
    [
        NEGATIVE,
        f"\ufeff{NEGATIVE}",
        f"```json\n{NEGATIVE}\n```",
        f"Sure! Here it is:\n{NEGATIVE}\nI hope that helps {{you}}.",
        f"The sets {{a, b}} and {{}} matter. {NEGATIVE}",
        f'{{"note": "positive"}} {NEGATIVE}',
        f"{NEGATIVE}\n{NEGATIVE}",
        f"{NEGATIVE}{{broken",
        f"[{NEGATIVE}]",
        '{\n  "reasoning": "maybe {\\"response\\": \\"positive\\"}",\n  "response": "negative"\n}',
        '{"response": "negative", "response": "negative"}',
        f"<think>maybe {POSITIVE}</think>{NEGATIVE}",
        f"<think>maybe {{broken</think>{NEGATIVE}",
        f"<THINKING>maybe {POSITIVE}</THINKING>\n{NEGATIVE}",
        f"<think>a <think>b</think> {POSITIVE}</think>{NEGATIVE}",
        f"maybe {POSITIVE}, who knows </think> {NEGATIVE}",
        f'maybe {{"response": …}} or so </think> {NEGATIVE}',
        f"{NEGATIVE} <think>or {POSITIVE}",
        f"{NEGATIVE} <think>or {POSITIVE}</think>",
        f"<think>\n</think>\n\n{NEGATIVE}",
    ],
)
def test_the_answer_is_found(raw: str) -> None:
    assert seen(DROPDOWN, raw) == ("ok", "negative")
    assert seen(DROPDOWN, raw, finish_reason="length") == ("ok", "negative")
    assert not read(DROPDOWN, raw).repaired


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("positive", "not JSON: 'positive'"),
        ('"positive"', "not JSON: '\"positive\"'"),
        ("The answer is positive.", "not JSON: 'The answer is positive.'"),
        ("Response: positive", "not JSON: 'Response: positive'"),
        ('["positive"]', "not JSON: '[\"positive\"]'"),
        ("a { b", "not JSON: 'a { b'"),
        ("{response: positive}", "not JSON: '{response: positive}'"),
        ("{'response': 'positive'}", "not JSON: \"{'response': 'positive'}\""),
        ('{"response": positive}', "not JSON: '{\"response\": positive}'"),
        ('{"response": "positive"', "not JSON: '{\"response\": \"positive\"'"),
        ('{"response": "positive",}', "not JSON: '{\"response\": \"positive\",}'"),
        ('"{\\"response\\": \\"positive\\"}"', "not JSON: '\"{\\\\\"response\\\\\": \\\\\"positive\\\\\"}\"'"),
        ("{}", "the answer has no key 'response': '{}'"),
        ('{"Response": "positive"}', "the answer has no key 'response': '{\"Response\": \"positive\"}'"),
        ('{"a": {"response": "mixed"}}', "the answer has no key 'response': '{\"a\": {\"response\": \"mixed\"}}'"),
        ('{"response": "positive", "response": "negative"}', "several answers: 'response' is given twice"),
        ('{"response": {"response": "positive"}}', 'not an option: {"response": "positive"}'),
        ("<think>It is positive.</think>", "the reply ended with its thinking"),
        (f"<think>It is {POSITIVE}", "the reply ended with its thinking"),
        (f"It is {POSITIVE}</think>", "the reply ended with its thinking"),
        (f"<think>{POSITIVE}</think> It is positive.", "not JSON: 'It is positive.'"),
        (f"<think>a</think>b<think>{POSITIVE}", "not JSON: 'b'"),
    ],
)  # fmt: skip
def test_no_answer(raw: str, reason: str) -> None:
    assert seen(DROPDOWN, raw) == ("invalid", reason)
    truncated = "the reply ended at max_tokens before the answer was whole"
    expected = ("invalid", reason) if reason.startswith("not an option") else ("truncated", truncated)
    assert seen(DROPDOWN, raw, finish_reason="length") == expected


@pytest.mark.parametrize(
    "raw",
    [
        '{"reasoning": "maybe {\\"response\\": \\"positive\\"}", "resp',
        '{"reasoning": "x", "notes": {"response": "positive"}, "resp',
        '{"reasoning": "x", "notes": [{"response": "positive"}',
        "{'reasoning': 'maybe {\"response\": \"positive\"}', 'response': 'negative'}",
        "{reasoning: {\"response\": \"positive\"}, response: negative}",
        "{reasoning: {\"response\": \"positive\"}, respo",
        "{ {\"response\": \"positive\"} }",
        '{"x": "</think>", "inner": {"response": "positive"}',
        '{"x": "</think>", "inner": {"response": "positive"},',
        '{"x": "</think>", "inner": {"response": "positive"}, tru',
        "{'x': '</think>', 'inner': {\"response\": \"positive\"}",
        '{"x": 1 "inner": {"response": "positive"}}',
        '{"x": 1, "x": 2} {"response": "positive"}',
        '{"x": ' + "[" * 100_000 + ' {"response": "positive"}',
        '{"x": ' + "9" * 5000 + '} {"response": "positive"}',
    ],
)  # fmt: skip
def test_what_stands_inside_something_broken_is_no_answer(raw: str) -> None:
    for finish_reason, status in ((None, "invalid"), ("stop", "invalid"), ("length", "truncated")):
        assert read(DROPDOWN, raw, finish_reason=finish_reason).status == status


def test_the_same_number_as_another_type_is_another_answer() -> None:
    assert seen(CHECKBOX, '{"response": 1, "response": true}') == (
        "invalid",
        "several answers: 'response' is given twice",
    )


@pytest.mark.parametrize("depth", [10, 200, 400, 900, 990, 5000, 200_000])
def test_lists_in_lists_never_raise(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for f in ALL:
        assert read(f, f'{{"response": {deep}}}').status == "invalid"
        assert read(f, f'{{"response": [{deep}, {{"text": "mayor", "label": {deep}}}]}}').status == "invalid"
        assert read(f, f'{{"response": {deep}, "response": {deep}}}').status == "invalid"


def test_several_fields_in_one_reply() -> None:
    group = (CHECKBOX, DROPDOWN, LIKERT)

    def said(raw: str, **reply: Any) -> list[tuple[str, Any]]:
        found = read_reply(group, TEXT, Reply(raw, **reply), attempt=3)
        assert list(found) == [f.column for f in group]
        assert {a.attempt for a in found.values()} == {3}
        return [(a.status, a.reason or a.value) for a in found.values()]

    assert said('{"S_L": 2, "S_C": true, "S_D": "mixed"}') == [("ok", 1), ("ok", "mixed"), ("ok", 2)]
    assert said('{"S_C": true, "S_D": "x"}') == [
        ("ok", 1),
        ("invalid", 'not an option: "x"'),
        ("invalid", "the answer has no key 'S_L'"),
    ]
    assert said('{"S_C": true}{"S_D": "mixed"}')[1:] == [
        ("invalid", "the answer has no key 'S_D'"),
        ("invalid", "the answer has no key 'S_L'"),
    ]
    assert (
        said('{"response": true}') == [("invalid", "the answer has no key 'S_C': '{\"response\": true}'")] * 3
    )
    cut = "the reply ended at max_tokens before the answer was whole"
    assert said('{"S_C": true, "S_D": "mi', finish_reason="length") == [("truncated", cut)] * 3
    assert (
        said('{"S_C": true, "S_C": false, "S_D": "mixed", "S_L": 1}')
        == [("invalid", "several answers: 'S_C' is given twice")] * 3
    )
    assert said("", error="no route to host") == [("failed", "no route to host")] * 3


# ---- replies that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        "I'm sorry, but I can't help with that.", "I am sorry.", "I’m sorry", "Sorry, no.", "**Sorry**", "I can't.",
        "I cannot do that.", "I can’t", "I won't", "I am unable to", "As an AI language model, I", "I must decline.",
        "I apologize, but I cannot label this.", "I'm not able to judge this.", "I’m unable to process hate speech.",
        "I do not feel comfortable coding this.", "Unfortunately, I can't.", "As a responsible AI, I will not answer.",
        "Es tut mir leid, dabei kann ich nicht helfen.", "Lo siento, no puedo.", "Je suis désolée, c'est non.",
        "对不起，我无法回答。", "抱歉。", "申し訳ありませんが、お答えできません。",
        "<think>hm {\"response\": \"positive\"}</think>\nI'm sorry, I can't.", "  I   CANNOT say",
    ],
)  # fmt: skip
def test_refusals(raw: str) -> None:
    assert seen(DROPDOWN, raw) == ("refused", "the reply declines to answer")


@pytest.mark.parametrize(
    "raw",
    [
        "I can say it is positive.",
        "As an aide, he",
        "Sorryness",
        "I canter on",
        "I wonted",
        "Unfortunately, the tone is bad.",
        "Leider ist der Ton schlecht.",
        "As an air of hope, it",
    ],
)
def test_prose_is_no_refusal(raw: str) -> None:
    assert seen(DROPDOWN, raw) == ("invalid", f"not JSON: {raw!r}")


def test_a_reply_without_an_answer_says_how_the_provider_ended_it() -> None:
    assert seen(DROPDOWN, "", finish_reason="OTHER") == (
        "invalid",
        "the reply is empty (finish_reason 'OTHER')",
    )
    assert seen(DROPDOWN, "", finish_reason="stop") == ("invalid", "the reply is empty")


def test_a_refusal_with_an_answer_is_an_answer() -> None:
    assert seen(DROPDOWN, f"I'm sorry, I can't be sure: {NEGATIVE}") == ("ok", "negative")
    assert seen(DROPDOWN, "I'm sorry {") == ("invalid", 'not JSON: "I\'m sorry {"')


def test_what_the_server_says_goes_first() -> None:
    assert seen(DROPDOWN, NEGATIVE, error="time-out after 120 s") == ("failed", "time-out after 120 s")
    assert seen(DROPDOWN, "", error="") == ("failed", "no reply")
    assert seen(DROPDOWN, NEGATIVE, finish_reason="refusal") == ("refused", "the server reports a refusal")
    assert seen(DROPDOWN, NEGATIVE, finish_reason="content_filter") == (
        "refused",
        "the server reports a refusal",
    )
    assert seen(DROPDOWN, "", finish_reason="context") == (
        "not_asked",
        "the text does not fit the context window",
    )
    assert seen(DROPDOWN, "", finish_reason="context", error="5000 tokens of 4096") == (
        "not_asked",
        "5000 tokens of 4096",
    )
    assert seen(DROPDOWN, "", finish_reason="length")[0] == "truncated"


@pytest.mark.parametrize(
    "shares", [(math.nan, 1.0), (math.inf, 0.0), (0.6, 0.6), (1.5, -0.5), (0.0, 0.0), (0.5, 0.4)]
)
def test_probabilities_that_are_none_choose_no_label(shares: tuple[float, ...]) -> None:
    status, reason = seen(CHECKBOX, reply_of(True), probabilities=shares)
    assert status == "invalid"
    assert reason.startswith("label probabilities that are none: ")
    assert read(CHECKBOX, reply_of(True), probabilities=(0.2, 0.8)).probabilities == (0.2, 0.8)


# ---- thoughts, drafts and second answers ---------------------------------------------------------------------------

MARKS = [
    ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<thought>", "</thought>"), ("<seed:think>", "</seed:think>"),
    ("<reasoning>", "</reasoning>"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<longcat_think>", "</longcat_think>"), ("<Analysis>", "</Analysis>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary to=x <|constrain|>json<|message|>", "<|call|>"), ("<|channel>thought\n", "<channel|>"),
    ("analysisWe weigh: ", "assistantfinal"), ("<unused94>thought\n", "<unused95>"),
    ("Here is my thought process: ", "Here is my response: "), ('<details type="reasoning" done="true">', "</details>"),
]  # fmt: skip


@pytest.mark.parametrize(("opened", "closed"), MARKS)
def test_a_draft_in_a_thought_is_no_answer(opened: str, closed: str) -> None:
    whole = f"{opened}Perhaps {POSITIVE}? No.{closed}{NEGATIVE}"
    assert seen(DROPDOWN, whole) == ("ok", "negative")
    assert seen(DROPDOWN, f"{opened}Perhaps {POSITIVE}? N") == (
        "invalid",
        "the reply ended with its thinking",
    )
    assert "Perhaps" in thinking_in(whole)
    thought, rest = split_thinking(whole)
    assert thought is not None
    assert POSITIVE in thought
    assert seen(DROPDOWN, rest) == ("ok", "negative")
    for cut in range(len(opened) + 1, len(whole)):
        assert read(DROPDOWN, whole[:cut]).status != "ok"


@pytest.mark.parametrize(("opened", "closed"), MARKS[:10])
def test_a_reply_may_begin_inside_its_thoughts(opened: str, closed: str) -> None:
    assert seen(DROPDOWN, f"Perhaps {POSITIVE}? No.{closed}{NEGATIVE}") == ("ok", "negative")


@pytest.mark.parametrize(
    "raw",
    [
        f"{POSITIVE}\n\nOn second thoughts:\n{NEGATIVE}",
        f"[{POSITIVE}, {NEGATIVE}]",
        f"```json\n{POSITIVE}\n```\nFinal:\n```json\n{NEGATIVE}\n```",
        f"<draft2>{POSITIVE}</draft2><answer>{NEGATIVE}</answer>",
        f'{POSITIVE} {{"response": "perhaps"}}',
        f'{POSITIVE} {{"response": null}}',
        f'{POSITIVE} Or {{"response": "neg',
        f'{POSITIVE} Or {{"response": neg}}',
    ],
)
def test_two_answers_are_none(raw: str) -> None:
    status, reason = seen(DROPDOWN, raw)
    assert status == "invalid"
    assert reason.startswith("several answers: ")


@pytest.mark.parametrize(
    "raw",
    [
        f"{NEGATIVE} {NEGATIVE}",
        f"{NEGATIVE}\n{NEGATIVE[:16]}",
        f'{NEGATIVE} {{"response": "Negative "}}',
        f'{NEGATIVE} {{"reasoning": "as I said", "response": "negative"}}',
        f'{NEGATIVE} {{"note": "positive"}}',
        f'The form is {{"response": "…"}}. {NEGATIVE}',
    ],
)
def test_the_same_answer_twice_is_one(raw: str) -> None:
    assert seen(DROPDOWN, raw) == ("ok", "negative")


def test_each_field_of_a_group_has_its_own_answers() -> None:
    group = (CHECKBOX, DROPDOWN)
    found = read_reply(group, TEXT, Reply('{"S_C": true, "S_D": "mixed"} {"S_C": true, "S_D": "positive"}'))
    assert [(a.status, a.reason or a.value) for a in found.values()] == [
        ("ok", 1),
        ("invalid", 'several answers: "mixed" and "positive"'),
    ]


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.type)
def test_the_form_of_an_answer_is_no_answer(f: Field) -> None:
    said = "the reply repeats the format and gives no answer"
    for reasons in (True, False):
        assert seen(f, f"Like this: {answer_object([f], reasons=reasons)}") == ("invalid", said)
    group = (f, field("textbox", "Z"))
    assert read_reply(group, TEXT, Reply(answer_object(group, reasons=False)))["S_Z"].reason == said
    if f.type == "textbox":
        assert seen(f, '{"response": "..."}') == ("invalid", said)
    if f.type == "span":
        assert seen(f, '{"response": [{"text": "…", "label": "…"}]}', text="so … on") == ("invalid", said)


def test_an_option_that_looks_like_the_form_is_an_option() -> None:
    dots = field("dropdown", "D", options=("…", "no"))
    assert seen(dots, reply_of("…")) == ("ok", "…")


def test_an_answer_among_the_reasoning_is_named() -> None:
    status, reason = seen(DROPDOWN, "", reasoning=NEGATIVE)
    assert status == "invalid"
    assert reason.startswith("the reply is empty, the model only thought: an answer stands in its reasoning")
    assert seen(DROPDOWN, " ", reasoning="Let me see.") == (
        "invalid",
        "the reply is empty, the model only thought (11 characters of reasoning)",
    )
    assert seen(DROPDOWN, "", reasoning="Let me", finish_reason="length") == (
        "truncated",
        "the reply ended at max_tokens before the answer was whole; all of it was thinking",
    )
    status, reason = seen(DROPDOWN, "", output_tokens=1024, finish_reason="length")
    assert status == "truncated"
    assert "all 1,024 tokens of it were thinking that is not shown" in reason
    assert seen(DROPDOWN, POSITIVE, reasoning=NEGATIVE) == ("ok", "positive")


# ---- properties -------------------------------------------------------------------------------------------------

STRINGS = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS | st.sampled_from(["positive", "mayor", "3"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["text", "label", "start", "end", "response", "x"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
GOOD: dict[str, st.SearchStrategy[Any]] = {
    CHECKBOX.column: st.booleans(),
    DROPDOWN.column: st.sampled_from(DROPDOWN.options),
    LIKERT.column: st.integers(-2, 5),
    TEXTBOX.column: st.sampled_from(
        ['a "b" {c}', '{"response": "positive"}', "x</think>{", "<think>", "}", "é🏠", "\\", "mixed"]
    ),
    SPANS.column: st.lists(st.sampled_from(["mayor", "Rents rise.", "Zoë 🏠"]).map(lambda q: {"text": q}), max_size=3),
    LABELLED.column: st.lists(
        st.fixed_dictionaries(
            {"text": st.sampled_from(["mayor", "silent"]), "label": st.sampled_from(["actor", "claim"])}
        ),
        max_size=3,
    ),
}  # fmt: skip
PIECES = st.sampled_from(
    ["{", "}", "[", "]", '"', ":", ",", "response", '"response"', "true", "1", "positive", '"positive"', POSITIVE,
     '"text"', '"mayor"', "<think>", "</think>", "\\", "\n", " ", "```json", "null", "-", "e9", "\ud800", "🏠"]
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.sampled_from(ALL),
    st.lists(PIECES, max_size=25).map("".join) | STRINGS,
    st.none() | st.sampled_from(["stop", "length"]),
)
def test_no_reply_raises_or_makes_up_a_value(f: Field, raw: str, finish_reason: str | None) -> None:
    answer = read(f, raw, finish_reason=finish_reason)
    assert answer.status in STATUSES
    if answer.status == "ok":
        assert legal(f, answer.value, TEXT)
        assert not answer.reason
    else:
        assert answer.value is None
        assert answer.reason.encode("utf-8")


@settings(max_examples=300)
@given(st.sampled_from(ALL), JSON, STRINGS)
def test_no_value_raises_or_is_made_up(f: Field, value: Any, text: str) -> None:
    answer = read(f, json.dumps({"response": value}), text)
    assert answer.status in ("ok", "invalid")
    assert answer.value is None if answer.status == "invalid" else legal(f, answer.value, text)
    answer.reason.encode("utf-8")
    json.dumps([answer.reason, answer.unaligned], ensure_ascii=False).encode("utf-8")


@st.composite
def whole_replies(draw: st.DrawFn) -> tuple[Field, str]:
    """Return a field and a valid reply to it, dressed as models dress them."""
    f = draw(st.sampled_from(ALL))
    thought = draw(
        st.sampled_from(["", 'maybe {"response": "positive"}', "{", "}", '"', '</think>{"response": 1}'])
    )
    content: dict[str, Any] = {}
    if draw(st.booleans()):
        content["reasoning"] = thought
    if draw(st.booleans()):
        content["inner"] = {"response": draw(GOOD[f.column])}
    content["response"] = draw(GOOD[f.column])
    if draw(st.booleans()):
        content["after"] = [{"response": draw(GOOD[f.column])}]
    body = json.dumps(content, indent=draw(st.none() | st.integers(0, 2)), ensure_ascii=draw(st.booleans()))
    before = draw(
        st.sampled_from(
            ["", "```json\n", "Here it is: ", "{so} ", "<think>{} or {" + POSITIVE + "</think>", "\n"]
        )
    )
    return f, before + body


@settings(max_examples=150)
@given(whole_replies())
@example((DROPDOWN, '{"reasoning": "maybe {\\"response\\": \\"positive\\"}", "response": "negative"}'))
@example((DROPDOWN, f"<think>{POSITIVE}</think>{NEGATIVE}"))
@example((CHECKBOX, '{"reasoning": "</think>", "inner": {"response": false}, "response": true}'))
@example((LIKERT, '{"response": 1.0e0}'))
def test_no_cut_of_a_valid_reply_is_another_answer(made: tuple[Field, str]) -> None:
    f, raw = made
    whole = read(f, raw)
    assert whole.status == "ok", whole.reason
    for cut in range(len(raw)):
        for finish_reason in ("length", None):
            answer = read(f, raw[:cut], finish_reason=finish_reason)
            assert answer.status in (("truncated",) if finish_reason else ("invalid", "refused"))


def test_no_cut_of_a_reply_to_several_fields_is_an_answer() -> None:
    raw = 'So: {"reasoning": "{\\"S_C\\": true} </think>", "S_C": false, "S_D": "mixed", "S_L": 1, "x": {"S_C": true}}'
    group = (CHECKBOX, DROPDOWN, LIKERT)
    assert [a.value for a in read_reply(group, TEXT, Reply(raw)).values()] == [0, "mixed", 1]
    for cut in range(len(raw)):
        answers = read_reply(group, TEXT, Reply(raw[:cut])).values()
        assert {a.status for a in answers} == {"invalid"}


@given(STRINGS, st.lists(st.sampled_from(["response", "x"]), min_size=1))
def test_a_reply_has_objects_with_a_key_or_a_reason(raw: str, keys: list[str]) -> None:
    found = parts_of(raw, keys)
    assert bool(found.objects) != bool(found.why)
    assert all(any(key in item for key in keys) for item in found.objects)


def test_a_long_reply_is_read_in_linear_time() -> None:
    for raw in (
        "{" * 200_000,
        "{}" * 100_000,
        '{"a":' * 100_000,
        "<think>" * 50_000,
        "{a} " * 50_000,
        "x" * 10**6,
    ):
        assert read(DROPDOWN, raw).status == "invalid"


def test_shortened() -> None:
    assert shortened("a\n b\t c") == "a b c"
    assert shortened("x" * 61) == "x" * 59 + "…"
    assert shortened("\ud800\x00") == "��"


# ---- scored answers ---------------------------------------------------------------------------------------------


def test_probabilities_are_kept_where_they_fit_the_labels() -> None:
    assert read(CHECKBOX, '{"response": true}', probabilities=(0.2, 0.8)).probabilities == (0.2, 0.8)
    assert read(CHECKBOX, '{"response": true}', probabilities=(0.2, 0.7, 0.1)).probabilities is None
    assert read(TEXTBOX, '{"response": "a"}').probabilities is None


def test_calibration() -> None:
    # mean over two texts: (0.8, 0.2); a text with (0.7, 0.3) leans to the second: 0.3/0.2 > 0.7/0.8
    offset = batch_offset([(0.9, 0.1), (0.7, 0.3)])
    assert offset == pytest.approx((math.log(0.8), math.log(0.2)))
    value, after = calibrate(CHECKBOX, (0.7, 0.3), offset)
    assert value == 1
    assert after == pytest.approx((0.875 / 2.375, 1.5 / 2.375))
    assert calibrate(CHECKBOX, (0.7, 0.3), (0.0, 0.0)) == (0, pytest.approx((0.7, 0.3)))
    assert calibrate(CHECKBOX, (0.5, 0.5), (0.0, 0.0))[0] == 0
    assert calibrate(CHECKBOX, (1.0, 0.0), batch_offset([(1.0, 0.0)])) == (0, pytest.approx((0.5, 0.5)))


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(sum),
    st.lists(st.floats(-30, 0), min_size=4, max_size=4),
)
def test_calibrated_probabilities_sum_to_one_and_the_value_is_the_most_probable(
    weights: list[float], offset: list[float]
) -> None:
    probabilities = [w / sum(weights) for w in weights]
    value, after = calibrate(DROPDOWN, probabilities, offset)
    assert sum(after) == pytest.approx(1)
    assert after[DROPDOWN.options.index(value)] == max(after)
