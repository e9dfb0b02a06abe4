"""Made-up replies by the thousand: reading one never raises, and a label is one that the reply says, and says alone.

What is right is known here without the reader: replies are put together from thoughts, prose and answers, and broken
afterwards; of whole ones the answer is known, of broken ones every answer that can be found by trying each brace.
``NBANNOT_FUZZ=60000`` makes as many.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Sequence
from typing import Any

from nbannot.asking.answers import STATUSES, read_reply
from nbannot.asking.request_reply import Reply
from nbannot.study.field import Field

NUMBER = int(os.environ.get("NBANNOT_FUZZ", "3000"))
OPTIONS = ("good", "bad", "mixed", "none of it")
TEXT = "The mayor said no. The mayor left, and so did Zoë 🏠."


def field(kind: Any, **changes: Any) -> Field:
    return Field("S_F", "F", "S", "", kind, "section_1 / annotation_1", **changes)


DROPDOWN, LIKERT = field("dropdown", options=OPTIONS), field("likert", min_value=1, max_value=7)
CHECKBOX, TEXTBOX = field("checkbox"), field("textbox")
SPANS = field("span", label_options=("actor", "claim"))
VALUES: dict[str, list[Any]] = {
    "dropdown": list(OPTIONS),
    "likert": [1, 2, 3, 7],
    "checkbox": [True, False],
    "textbox": ["because", "a {b} \"c\"", "<think>", "é🏠"],
    "span": [[], [{"text": "mayor", "label": "actor"}], [{"text": "no", "label": "claim"}]],
}  # fmt: skip
FIELDS = (DROPDOWN, LIKERT, CHECKBOX, TEXTBOX, SPANS)

THOUGHTS = [
    ("<think>", "</think>"), ("<thinking>\n", "\n</thinking>"), ("[THINK]", "[/THINK]"), ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"), ("<reasoning>", "</reasoning>"), ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<scratchpad>", "</scratchpad>"), ("<Reflection>", "</Reflection>"), ("<unused94>thought\n", "<unused95>"),
]  # fmt: skip
PROSE = [
    "",
    "So:",
    "\n",
    "I would say ",
    "It is {unclear}. ",
    "```json\n",
    "\n```",
    "[",
    "]",
    ", ",
    "Correction:\n",
]
PIECES = ["{", "}", '"', ":", "[", "]", "\\", "<think>", "</think>", '{"response": ', "response", "null", "NaN",
          "1e999", "9" * 400, "\ud83d", "\x00", "<|end|>", "[/THINK]", "</", "[" * 300, '{"x":' * 300, "…",
          "true or false"]  # fmt: skip

REASONS = ["", "{", '{"response": "bad"}', "</think>"]
SHARES: list[tuple[float, ...]] = [(math.nan, 1.0), (0.5, 0.5), (math.inf, 0.0), (3.0, -2.0), (1.0,) * 4]


def answer_of(value: Any, draw: random.Random, reasons: Sequence[str] = REASONS) -> str:
    whole = {"response": value}
    if draw.random() < 0.3:
        whole = {"reasoning": draw.choice(reasons), **whole}
    return json.dumps(whole, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, None, 1]))


def made(f: Field, draw: random.Random) -> tuple[str, list[Any]]:
    """Return a whole reply and what it says, draft for draft left out."""
    parts, said = [], []
    values = VALUES[f.type]
    if draw.random() < 0.5:
        opened, closed = draw.choice(THOUGHTS)
        thought = "".join(
            draw.choice([answer_of(draw.choice(values[:2]), draw, REASONS[:3]), "Hm. ", "{ ", "} "])
            for _ in range(3)
        )
        parts.append(f"{opened}{thought}{closed}")
    for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 2, 2, 3])):
        parts.append(draw.choice(PROSE))
        value = draw.choice(values) if not said or draw.random() < 0.5 else said[0]
        said.append(value)
        parts.append(answer_of(value, draw))
    parts.append(draw.choice(["", "", "\n", "\n```", " That is all."]))
    return "".join(parts), said


def broken(raw: str, draw: random.Random) -> str:
    """Return the reply with one to four things done to it."""
    for _ in range(draw.randint(1, 4)):
        a, b = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
        b = min(b, a + 40)
        match draw.randrange(5):
            case 0:
                raw = raw[:a] + raw[b:]
            case 1:
                raw = raw[:b] + raw[a:b] + raw[b:]
            case 2:
                raw = raw[:a] + draw.choice(PIECES) + raw[a:]
            case 3:
                raw = raw[:a]
            case _:
                raw = raw[:a] + raw[b:] + raw[a:b]
    return raw


def meaning(f: Field, value: Any) -> Any:
    """Return what a value of a reply means, as the codebook has it, or a word of its own where it means nothing."""
    if isinstance(value, list) and len(value) == 1 and f.type != "span":
        value = value[0]
    if f.type == "span":
        return [(s["text"], s["label"]) for s in value] if isinstance(value, list) else "nothing"
    if f.type == "checkbox":
        return {"true": 1, "1": 1, "1.0": 1, "yes": 1, "false": 0, "0": 0, "0.0": 0, "no": 0}.get(
            str(value).strip().casefold(), "nothing"
        )
    if f.type == "likert":
        try:
            return int(float(value)) if not isinstance(value, bool) else "nothing"
        except (TypeError, ValueError, OverflowError):
            return "nothing"
    if f.type == "dropdown":
        return {o.casefold(): o for o in OPTIONS}.get(str(value).strip().casefold(), "nothing")
    return value.strip() if isinstance(value, str) else "nothing"


def objects_in(raw: str) -> list[Any]:
    """Return every answer that can be found by trying each brace."""
    found = []
    for start in (i for i, sign in enumerate(raw) if sign == "{"):
        try:
            item, _ = json.JSONDecoder(strict=False).raw_decode(raw, start)
        except (ValueError, RecursionError):
            continue
        if "response" in item:
            found.append(item["response"])
    return found


def plain(f: Field, value: Any) -> Any:
    return [(s["text"], s["label"]) for s in value] if f.type == "span" else value


def check_whole(f: Field, raw: str, said: list[Any], context: str) -> None:
    answer = read_reply([f], TEXT, Reply(raw, finish_reason="stop"))["S_F"]
    meant = [meaning(f, value) for value in said]
    if meant and all(m == meant[0] for m in meant):
        assert answer.status == "ok", (context, answer.reason)
        assert plain(f, answer.value) == meant[0], context
    elif meant:
        assert answer.status == "invalid", context
        assert answer.reason.startswith("several answers"), (context, answer.reason)
    else:
        assert answer.status == "invalid", context


def check_broken(f: Field, raw: str, reply: Reply, context: str) -> None:
    answer = read_reply([f], TEXT, reply)["S_F"]
    assert answer.status in STATUSES, context
    json.dumps([answer.reason, answer.value, answer.unaligned], ensure_ascii=False).encode()
    if answer.status != "ok":
        assert answer.value is None, context
        assert answer.reason, context
        return
    assert reply.error is None, context
    if answer.probabilities is not None:
        assert math.isclose(math.fsum(answer.probabilities), 1, abs_tol=1e-3), context
    if f.type in ("dropdown", "likert", "checkbox"):
        assert answer.value in f.labels, context
        carried = [meaning(f, value) for value in objects_in(raw)]
        assert answer.value in carried, context
        if not any(mark in raw for pair in THOUGHTS for mark in pair) and "reasoning" not in raw:
            own = [
                m for m, v in zip(carried, objects_in(raw), strict=True) if v not in ("…", "true or false")
            ]
            assert all(m == answer.value for m in own), context


def test_no_reply_raises_and_no_label_is_one_that_it_does_not_say_alone() -> None:
    for number in range(NUMBER):
        draw = random.Random(f"reply {number}")
        f = draw.choice(FIELDS)
        raw, said = made(f, draw)
        context = f"reply {number}: {f.type} {raw!r}"
        if number % 3 == 0:
            check_whole(f, raw, said, context)
            continue
        raw = broken(raw, draw)
        reply = Reply(
            raw,
            reasoning=draw.choice([None, None, "", raw, "Hm."]),
            error=draw.choice([None] * 9 + ["no route to host"]),
            finish_reason=draw.choice(["stop", "stop", "length", None, "tool_calls"]),
            probabilities=draw.choice([None] * 3 + SHARES),
        )  # fmt: skip
        check_broken(f, raw, reply, f"reply {number}: {f.type} {raw!r}")
