"""What a model can do, found out by asking it a few small questions: schema, seed, probabilities, reasoning, context.

`probe` is for ``nbannot doctor MODEL``: it sends up to seven short requests, which a paid server will charge for, and
reports what came back. What cannot be told from the replies is ``None``, never a guess.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.models.http import at_once

COLOURS = ("red", "green", "blue")
MAX_TOKENS = 256

SCHEMA = {
    "type": "object",
    "properties": {"response": {"type": "string", "enum": list(COLOURS)}},
    "required": ["response"],
    "additionalProperties": False,
}
FREE = {
    "type": "object",
    "properties": {"response": {"type": "string"}},
    "required": ["response"],
    "additionalProperties": False,
}
OPTIONS = tuple(json.dumps({"response": colour}) for colour in COLOURS)

AGAINST_THE_SCHEMA = (
    "Which animal says meow? Answer with one word of plain text, not with JSON.\n\nText:\nmeow\n\nResponse:\n"
)
BY_LOT = (
    "Write a made-up sentence of ten words that nobody has written before. Respond with one JSON object and nothing "
    'else: {"response": "…"}\n\nText:\n-\n\nResponse:\n'
)
A_COLOUR = (
    'Which colour has the sky at noon? Respond with one JSON object and nothing else: {"response": "…"} with one of '
    '"red", "green", "blue".\n\nText:\nthe sky at noon\n\nResponse:\n'
)


def probe(model: Model) -> dict[str, Any]:
    """Return what a model can do, as plain data that can be shown and recorded.

    Returns
    -------
    dict
        ``model``, ``context_size``, ``answer_modes``; ``schema_obeyed``, ``seed_obeyed``, ``label_probabilities``;
        ``reasoning_on``, ``reasoning_off`` (whether reasoning comes when asked for, and stays away when not);
        ``tokens_counted``; ``seconds`` (median of a reply), ``seconds_in_all``; ``capabilities`` (what a server
        was found to refuse); ``problems`` (what went wrong, one sentence each). Entries are ``None`` where the replies
        do not tell.

    Raises
    ------
    ModelError
        If the model cannot be found, loaded or reached.
    """
    info = model.info()
    start = time.perf_counter()
    replies = at_once(_ask(model))
    problems = [f"{name}: {reply.error}" for name, reply in replies.items() if reply.error is not None]
    seconds = sorted(reply.seconds for reply in replies.values() if reply.error is None)
    capabilities = getattr(model, "capabilities", {})
    came = _reasoned(replies["reasoning off"])
    return {
        "model": info.full_name,
        "context_size": info.context_size,
        "answer_modes": list(model.answer_modes),
        "schema_obeyed": _obeyed(replies["schema"]),
        "seed_obeyed": _seeded(replies["seed"], replies["same seed"], replies["other seed"]),
        "label_probabilities": _scored(replies.get("probabilities")),
        "reasoning_on": _reasoned(replies["reasoning on"]),
        "reasoning_off": None if came is None or capabilities.get("unswitched") else not came,
        "tokens_counted": any(reply.input_tokens is not None for reply in replies.values()),
        "seconds": seconds[len(seconds) // 2] if seconds else None,
        "seconds_in_all": time.perf_counter() - start,
        "capabilities": capabilities,
        "problems": problems,
    }


def _requests(model: Model) -> dict[str, Request]:
    plain = Request(
        key="probe|schema|1",
        messages=({"role": "user", "content": AGAINST_THE_SCHEMA},),
        shared=0,
        schema=SCHEMA,
        text="meow",
        seed=1,
        max_tokens=MAX_TOKENS,
    )
    lot = replace(
        plain,
        key="probe|seed|1",
        messages=({"role": "user", "content": BY_LOT},),
        schema=FREE,
        temperature=1.0,
        text=BY_LOT,
    )
    sky = replace(
        plain,
        key="probe|reasoning|1",
        messages=({"role": "user", "content": A_COLOUR},),
        text="the sky at noon",
    )
    made = {
        "schema": plain,
        "seed": lot,
        "same seed": lot,
        "other seed": replace(lot, seed=2),
        "reasoning on": replace(sky, reasoning=True, max_tokens=4 * MAX_TOKENS),
        "reasoning off": replace(sky, reasoning=False),
    }
    if "score" in model.answer_modes:
        made["probabilities"] = replace(sky, answer_mode="score", options=OPTIONS)
    return made


async def _ask(model: Model) -> dict[str, Reply]:
    """Return the replies, asked for one after the other."""
    await model.open()
    try:
        return {name: await model.ask(request) for name, request in _requests(model).items()}
    finally:
        await model.close()


def _obeyed(reply: Reply) -> bool | None:
    """Return whether a reply is one of the colours, although the question asked for something else in plain text."""
    if reply.error is not None:
        return None
    try:
        answer = json.loads(reply.text)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and list(answer) == ["response"] and answer["response"] in COLOURS


def _seeded(first: Reply, same: Reply, other: Reply) -> bool | None:
    """Return whether the same seed gives the same and another seed another; ``None`` where all are the same."""
    if any(reply.error is not None for reply in (first, same, other)):
        return None
    if first.text != same.text:
        return False
    return True if other.text != first.text else None


def _scored(reply: Reply | None) -> bool:
    return reply is not None and reply.error is None and reply.probabilities is not None


def _reasoned(reply: Reply) -> bool | None:
    return None if reply.error is not None else bool(reply.reasoning)
