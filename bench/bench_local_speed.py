"""Labels of the embedded model against llama.cpp's own speed of reading: how much time goes on anything but the model.

The closed fields of `policy-sentiment` are scored (prefix reused), field by field and all behind one beginning. Right
after each text, llama.cpp itself reads the very tokens that were read for it, behind the same beginnings, with nothing
around it; the two take turns, so that other work on the machine slows both alike. The ratio is the time that llama.cpp
says it read (`prompt_ms`) to the time that the labels took: 1 would be labels that cost nothing beside the reading. CPU
time is that of the process. The first text, with which beginnings are read, is left out.

    python bench/bench_local_speed.py [number of texts, 6 unless told]
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nbannot.asking.prompts import compose, compose_apart, prompt_type
from nbannot.asking.request_reply import Request
from nbannot.models.local import LocalModel
from nbannot.models.local_engine import LocalEngine
from nbannot.models.together import Together
from nbannot.study.task_sources import load_task

os.environ["NBANNOT_PREFIXES"] = "off"
SCORED = ("checkbox", "dropdown", "likert")


def requests(number: int, *, together: bool) -> list[list[Request]]:
    """Return the requests of each text."""
    task = load_task("policy-sentiment")
    fields = [field for field in task.codebook.fields if field.type in SCORED]
    kind, made = prompt_type("standard"), []
    if together:
        prompts = [(compose_apart(kind, fields, use_examples=True), "all")]
    else:
        prompts = [(compose(kind, [field], use_examples=True), field.column) for field in fields]
    for text_id, text in list(zip(task.ids, task.texts, strict=True))[:number]:
        made.append(
            [
                Request(
                    key=f"{text_id}|{name}|1",
                    messages=({"role": "user", "content": prompt.about(text)},),
                    shared=len(prompt.before),
                    schema=prompt.schema,
                    options=prompt.options,
                    endings=prompt.endings,
                    answer_mode="score",
                    text=text,
                )
                for prompt, name in prompts
            ]
        )
    return made


class Watch:
    """Writes down what llama.cpp is asked to read, and how long it says that took."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine, self.read, self.calls = engine, 0.0, []
        self._handle: Callable[..., Any] = engine._server.handle_completions
        self._restore = engine._port.state
        engine._port.state = self.state  # type: ignore[method-assign]
        engine._server = self

    def state(self, action: str, name: str, slot: int = 0) -> dict[str, Any]:
        self.calls.append((action, name, slot))
        return self._restore(action, name, slot)

    def handle_completions(self, payload: dict[str, Any], take: Callable[[Any], bool]) -> None:
        self.calls.append(("read", payload, 0))
        self._handle(payload, take)

    def again(self, calls: Iterable[Any]) -> tuple[float, int, float]:
        """Return the seconds that the same reading takes by itself, its tokens, and its CPU seconds."""
        seconds, tokens, cpu = 0.0, 0, 0.0
        for what, payload, slot in calls:
            if what == "save":
                continue
            if what != "read":
                self._restore(what, payload, slot)
                continue
            told: dict[str, Any] = {}

            def take(chunk: dict[str, Any], told: dict[str, Any] = told) -> bool:
                told.update(chunk.get("timings") or {})
                return False

            begin = time.process_time()
            self._handle(payload, take)
            cpu += time.process_time() - begin
            seconds += told.get("prompt_ms", 0.0) / 1000
            tokens += told.get("prompt_n", 0)
        return seconds, tokens, cpu


async def measure(number: int, watch: Watch, model: LocalModel, *, together: bool) -> None:
    """Print the ratio of one way of asking."""
    asked = Together(model) if together else model
    texts = requests(number, together=together)
    wall = cpu = read = read_cpu = 0.0
    labels = tokens = 0
    for text_number, of_text in enumerate(texts):
        watch.calls.clear()
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for request in of_text:
            reply = await asked.ask(request)
            if reply.error:
                raise SystemExit(reply.error)
            labels += (len(request.endings) or 1) if text_number else 0
        took, used = time.perf_counter() - begin, time.process_time() - begin_cpu
        seconds, count, bare_cpu = watch.again(list(watch.calls)) if text_number else (0.0, 0, 0.0)
        if text_number:
            wall, cpu, read, read_cpu = wall + took, cpu + used, read + seconds, read_cpu + bare_cpu
            tokens += count
    how = "all fields behind one beginning" if together else "field by field"
    print(
        f"{how:32} {labels} labels, {tokens / labels:5.1f} tokens each; {labels / wall:5.2f} labels/s; "
        f"reading alone {tokens / read:5.0f} tokens/s; ratio {read / wall:.2f} (aim 0.8), of CPU time "
        f"{read_cpu / cpu:.2f} ({1000 * cpu / labels:.0f} ms a label)",
        flush=True,
    )


async def main(number: int) -> None:
    """Measure both ways."""
    model = LocalModel()
    await model.open()
    assert model._engine is not None
    watch = Watch(model._engine)

    print(f"{model.info().full_name}, {model.info().server}, {model.info().details['threads']} threads; load average "
          f"{Path('/proc/loadavg').read_text()[:14] if Path('/proc/loadavg').exists() else 'unknown'}")  # fmt: skip
    for together in (False, True):
        await measure(number, watch, model, together=together)
    model._engine._server = watch._handle.__self__  # type: ignore[attr-defined]
    await model.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 6))
