"""Questions whose names and options no model has seen, for `decide/sparrow`; used by a test and a measurement."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

from conftest import codebook_of

from nbannot.asking.decisions import Reading, compose_questions, read_decisions
from nbannot.asking.request_reply import Request
from nbannot.models.decide import DecideModel

ODD = ['"quoted"', "naïve", "naive", "ja\u200d", "🙂", "日本", "{}", "true", "false", "0", "1. a", "<b>", "\\n", "a—b",
       "Yes", "yes", " lead", "x" * 300, "null", "NaN", "Ⅳ", "IV", "a\tb", "-", "“x”", "%s", "{{ text }}"]  # fmt: skip
TEXTS = ["The tax is unfair.", "", "日本 " * 40, "battery: 6% and a road = 3", "x" * 500]
EACH = 8


def outside_the_codebook(questions: int) -> int:
    """Ask so many questions in calls of eight; return how many answers are no label, or have no distribution."""
    draw, model = random.Random(3), DecideModel("sparrow")

    async def every() -> int:
        await model.open()
        bad = 0
        for _ in range(questions // EACH):
            book = codebook_of(*(_annotation(draw, i) for i in range(EACH)))
            prompt = compose_questions(book.fields)
            message = {"role": "user", "content": prompt.about(draw.choice(TEXTS))}
            reply = await model.ask(
                Request("k", (message,), len(prompt.before), {}, questions=prompt.questions)
            )
            for column, answer in read_decisions(book.fields, reply.decisions or {}, Reading()).items():
                inside = answer.status == "ok" and answer.value in book[column].labels
                bad += not (inside and math.isclose(sum(answer.probabilities or ()), 1))
        return bad

    return asyncio.run(every())


def _annotation(draw: random.Random, number: int) -> dict[str, Any]:
    kind = draw.choice(("dropdown", "dropdown", "likert", "checkbox"))
    own: dict[str, dict[str, Any]] = {
        "likert": {"min_value": -2, "max_value": draw.randint(-1, 14)},
        "dropdown": {"options": draw.sample(ODD, draw.randint(1, 12))},
    }
    name = f"Q{number} {draw.choice(ODD)!r}"
    return {"name": name, "type": kind, "tooltip": draw.choice(ODD), **own.get(kind, {})}
