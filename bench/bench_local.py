"""How much the shared prefix and label scoring save with the embedded model, in one run on this machine.

Three ways to code the checkbox, dropdown and likert fields of `policy-sentiment`, with the codebook's examples:

- scored, prefix reused: what nbannot does;
- scored, no reuse: the whole prompt is read for every label;
- naive loop: one JSON generation per field, no reuse.

The first text, with which the shared parts are read, is left out of the table. The ways take turns text by text, so
that other work on the machine slows all of them alike.

    python bench/bench_local.py [number of texts, 5 unless told]
"""

from __future__ import annotations

import asyncio
import platform
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nbannot.asking.prompts import compose, prompt_type
from nbannot.asking.request_reply import Reply, Request
from nbannot.models.local import LocalModel
from nbannot.models.local_engine import TokenisedPrompt, Work
from nbannot.study.task_sources import load_task

SCORED = ("checkbox", "dropdown", "likert")


@dataclass
class Tally:
    """What one way has cost."""

    labels: int = 0
    evaluated_tokens: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def add(self, reply: Reply, cpu_s: float) -> None:
        """Add one label."""
        if reply.error:
            raise SystemExit(reply.error)
        self.labels += 1
        self.evaluated_tokens += (reply.evaluated_tokens or 0) + (
            0 if reply.probabilities else reply.output_tokens or 0
        )
        self.seconds += reply.seconds
        self.cpu_s += cpu_s

    def line(self, name: str, naive: Tally) -> str:
        """Return a row of the table."""
        n, faster = self.labels, (naive.seconds / naive.labels) / (self.seconds / self.labels)
        columns = (
            f"{self.evaluated_tokens / n:15.1f}",
            f"{self.seconds / n:14.3f}",
            f"{self.cpu_s / n:10.3f}",
        )
        return f"{name:24} {' '.join(columns)} {n / self.seconds:10.2f} {faster:9.1f}x"


def requests(number: int) -> list[list[Request]]:
    """Return the requests of each text, one per field."""
    task = load_task("policy-sentiment")
    fields = [field for field in task.codebook.fields if field.type in SCORED]
    prompts = [(field, compose(prompt_type("standard"), [field], use_examples=True)) for field in fields]
    return [
        [
            Request(
                key=f"{text_id}|{field.column}|1",
                messages=({"role": "user", "content": prompt.about(text)},),
                shared=len(prompt.before),
                schema=prompt.schema,
                options=prompt.options,
                answer_mode="score",
                text=text,
                max_tokens=32,
            )
            for field, prompt in prompts
        ]
        for text_id, text in list(zip(task.ids, task.texts, strict=True))[:number]
    ]


def without_reuse(model: LocalModel, request: Request) -> Reply:
    """Return the reply of a model that reads every prompt from its first token."""
    engine = model._engine
    assert engine is not None
    start = time.perf_counter()
    work = Work(threading.Event())
    prompt = replace(engine._prompt(request), cuts=())
    answer: Callable[[Request, TokenisedPrompt, Work], Reply] = (
        engine._score if request.options else engine._generate
    )
    reply = answer(request, prompt, work)
    return replace(reply, evaluated_tokens=work.evaluated_tokens, seconds=time.perf_counter() - start)


async def main(number: int) -> None:
    """Measure and print."""
    started = time.perf_counter()
    model = LocalModel()
    info = model.info()
    await model.open()
    loaded = time.perf_counter()
    texts = requests(number)

    async def scored_without_reuse(request: Request) -> Reply:
        return without_reuse(model, request)

    async def naive_loop(request: Request) -> Reply:
        return without_reuse(model, replace(request, options=(), answer_mode="generate"))

    ways = {
        "scored, prefix reused": model.ask,
        "scored, no reuse": scored_without_reuse,
        "naive loop": naive_loop,
    }
    tallies = {name: Tally() for name in ways}
    warm = [await model.ask(request) for request in texts[0]]
    print(
        f"{info.full_name} {info.quantization}, {info.server}, {info.details['threads']} threads, {platform.machine()}"
    )
    print(
        f"load {loaded - started:.2f} s, first answer {warm[0].seconds:.2f} s ({warm[0].evaluated_tokens} tokens)"
    )
    once = sum(reply.evaluated_tokens or 0 for reply in warm)
    print(f"read once, with the first text: {once} tokens for {len(warm)} fields; not in the table")
    for fields in texts[1:]:
        for name, way in ways.items():
            for request in fields:
                before = time.process_time()
                reply = await way(request)
                tallies[name].add(reply, time.process_time() - before)
    await model.close()
    naive = tallies["naive loop"]
    print(f"{naive.labels} labels each ({len(texts) - 1} texts, {len(texts[0])} fields)")
    print(f"{'':24} {'tokens/label':>15} {'seconds/label':>14} {'CPU s':>10} {'labels/s':>10} {'speed':>10}")
    for name, tally in tallies.items():
        print(tally.line(name, naive))
    print(f"peak memory {peak_megabytes():.0f} MB")


def peak_megabytes() -> float:
    """Return the largest memory this process has held, in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
