"""Requests for the tests of models, made by hand, and how to ask them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from nbannot.asking.request_reply import Model, Reply, Request

LABELS = ["for", "against", "neither"]
SCHEMA = {
    "type": "object",
    "properties": {"response": {"type": "string", "enum": LABELS}},
    "required": ["response"],
    "additionalProperties": False,
}


def request(number: int = 1, text: str = "", **changes: Any) -> Request:
    """Return a request to code one text; by its number, or the text itself."""
    text = text or f"The minister spoke {number} times."
    made = Request(
        key=f"t{number}|S_A|1",
        messages=({"role": "user", "content": f"Code this text.\n\nText:\n{text}\n\nResponse:\n"},),
        shared=23,
        schema=SCHEMA,
        text=text,
        seed=1,
    )
    return replace(made, **changes)


def ask(model: Model, *requests: Request) -> list[Reply]:
    """Return the replies of a model that is asked everything at once."""

    async def every() -> list[Reply]:
        await model.open()
        try:
            return await asyncio.gather(*(model.ask(r) for r in requests))
        finally:
            await model.close()

    return asyncio.run(every())
