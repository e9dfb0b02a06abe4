"""What batches and prompt caches are worth, against providers as documented: `python bench/bench_batch.py [requests]`.

1. A batch of many requests (10,000 unless told; 100,000 take a few minutes) whose process is killed 20 times at random
   moments: how often each request was submitted, and how many answers the ledger has.
2. Tokens paid for per label on a provider with a prompt cache (OpenAI's automatic one, and Anthropic's marked one)
   against one JSON request per field with the whole codebook each time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from batching import Provider
from test_batch import killed_until_done

import nbannot as nba
from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.prompts import core_prompt
from nbannot.asking.request_reply import Request
from nbannot.models.anthropic_wire import Dialect as MessagesDialect
from nbannot.models.dialect import Dialect

READ, WRITE = {"openai": 0.1, "anthropic": 0.1}, {"openai": 1.0, "anthropic": 1.25}
"""Share of the input price of a token that is read from the cache, and written to it, as the providers say."""


def killed(requests: int, kills: int = 20) -> None:
    """Submit and collect many requests, killed at random moments."""
    with tempfile.TemporaryDirectory() as place, Provider(looks=2) as server:
        start = time.perf_counter()
        longest = max(1.0, requests / 10_000)
        out, done = killed_until_done(server, Path(place), "files", requests // 2, 50_000, kills, longest)
        took = time.perf_counter() - start
        answers: Counter[Any] = Counter()
        steps: Counter[str] = Counter()
        for line in read_lines(next(Path(place).glob("many/*/responses.jsonl"))):
            if "text_id" in line:
                answers[line["text_id"], *line["columns"], line["attempt"]] += 1
            elif "batch" in line:
                steps[line["state"]] += 1
        names = server.submitted
        print(f"batch of {len(names):,} requests, killed {done} times, {took:.0f} s: {out.strip()}")
        print(
            f"  submitted more than once: {sum(n > 1 for n in names.values())}; batches {len(server.batches)}"
        )
        print(f"  answers in the ledger: {len(answers):,}, twice: {sum(n > 1 for n in answers.values())}")
        print(f"  steps in the ledger: {dict(steps)}")


def codebook_of(fields: int) -> dict[str, Any]:
    """Return a codebook as long studies have them: every question with a page of guidance and worked examples."""
    rule = (
        "Judge what the text says and not what its author may think. A judgement counts where a word or a phrase "
        "carries it; reported speech counts for the speaker who is quoted; irony counts as what it means. "
    )
    questions = {}
    for number in range(fields):
        options = [f"class {number}{letter}" for letter in "abcd"]
        examples = "".join(
            f"Text: The council spoke of matter {number} for the {n}th time, at length and with some heat.\n"
            f'Response: {{"response": "{options[n % 4]}"}}\n'
            for n in range(8)
        )
        questions[f"annotation_{number + 1}"] = {
            "name": f"Matter {number}", "type": "dropdown", "options": options, "tooltip": rule * 10,
            "example": examples,
        }  # fmt: skip
    section = {"section_name": "S", "section_instruction": rule, "annotations": questions}
    return {"text_column": "text", "section_1": section}


def whole_codebook(task: nba.Task, backend: str, text_first: bool) -> Counter[str]:
    """Return what the provider counts for one request per text and field that holds the whole codebook."""
    fields = list(task.codebook)
    every = core_prompt(fields, use_examples=True, reasons=False)
    server = Provider()
    for text in task.texts:
        for f in fields:
            material = f"Text:\n{text}\n\n"
            prompt = f"{material}{every}" if text_first else f"{every}\n\n{material}"
            request = Request(
                key="", messages=({"role": "user", "content": f"{prompt}\n\nAnswer {f.column} only."},),
                shared=0 if text_first else len(every), schema=f.schema, max_tokens=64,
            )  # fmt: skip
            if backend == "openai":
                server.completion(json.loads(Dialect().body(request, "tiny")))
            else:
                server.message(json.loads(MessagesDialect().body(request, "claude-small-4-20260101")))
    server.close()
    return server.tokens


def paid_for(tokens: Counter[str], backend: str) -> float:
    """Return the tokens of input, each at its share of the full price."""
    sent, read, written = (tokens[name] for name in ("sent", "cached", "stored"))
    return sent - read - written + READ[backend] * read + WRITE[backend] * written


def cached(backend: str, task: nba.Task, what: str) -> None:
    """Compare what is paid for per label: ours, and one JSON request per field with the whole codebook."""
    labels = len(task.texts) * len(list(task.codebook))
    theirs = {first: whole_codebook(task, backend, first) for first in (True, False)}
    print(f"{backend}, {what}: input tokens per label, sent and paid for (cached ones at their price)")
    for words, first in (("text first", True), ("codebook first, so that the provider caches it", False)):
        sent, paid = theirs[first]["sent"] / labels, paid_for(theirs[first], backend) / labels
        print(f"  the whole codebook for each field, {words}: {sent:.0f} sent, {paid:.0f} paid")
    for how in ("one", "all"):
        with tempfile.TemporaryDirectory() as place, Provider() as server:
            model = {"openai": "openai/tiny", "anthropic": "anthropic/claude-small-4"}[backend]
            given = {"base_url": f"{server.url}/v1", "output_root": place, "max_parallel": 8}
            run = nba.run(task, model=model, fields_per_query=how, **given)
            lines = read_lines(run.folder / "responses.jsonl")
            asked = sum(len(line["columns"]) for line in lines if "text_id" in line)
            sent, paid = server.tokens["sent"] / asked, paid_for(server.tokens, backend) / asked
            read = server.tokens["cached"] / server.tokens["sent"]
        ratio = paid_for(theirs[True], backend) / labels / paid
        best = paid_for(theirs[False], backend) / labels / paid
        print(f'  ours, fields_per_query = "{how}": {sent:.0f} sent, {100 * read:.0f} % cached, {paid:.0f} paid: '
              f"{ratio:.1f} and {best:.1f} times fewer")  # fmt: skip


if __name__ == "__main__":
    killed(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    bundled = nba.load_task("policy-sentiment")
    small = nba.Task(bundled.data.select("sample_id", "text").head(40), bundled.codebook, name="small")
    frame = bundled.data.select("text").head(40)
    large = nba.Task(frame, codebook_of(12), name="large")
    for name in READ:
        cached(name, small, "4 fields")
        cached(name, large, "12 fields with guidance and examples")
