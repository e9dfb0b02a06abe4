"""A model that answers as a test says and remembers what it was asked, and runs with it."""

from __future__ import annotations

import asyncio
import json

from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.request_reply import ModelInfo, Reply
from nbannot.running.run import run as run_it


class Scripted:
    """A model that answers as a function says and remembers what it was asked."""

    def __init__(self, answer, *, parallel=4, modes=("generate",)):
        self.answer, self.parallel, self.answer_modes = answer, parallel, modes
        self.requests = []

    def info(self):
        return ModelInfo("scripted", "test", energy_measured=False)

    async def open(self):
        pass

    async def ask(self, request):
        self.requests.append(request)
        await asyncio.sleep(0)
        return self.answer(request)

    async def close(self):
        pass


def replying(value):
    return Reply(text=json.dumps({"response": value}), finish_reason="stop")


def well(request):
    """Answer any schema of one field with its first possibility."""
    schema = request.schema["properties"]["response"]
    if "enum" in schema:
        return replying(schema["enum"][0])
    kinds = {"boolean": True, "integer": schema.get("minimum"), "string": "road", "array": []}
    return replying(kinds[schema["type"]])


def run_with(model, use, task, tmp_path, **settings):
    use(model)
    return run_it(task, output_root=str(tmp_path), **settings)


def calls(run):
    return [record for record in read_lines(run.folder / "responses.jsonl") if "text_id" in record]
