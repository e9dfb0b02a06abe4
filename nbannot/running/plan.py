"""The plan of a run: what it would send and what that would take. Nothing is sent to make it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Unpack

from nbannot.asking.prompts import compose
from nbannot.asking.request_reply import Message
from nbannot.page.shown import Shown
from nbannot.record import folder
from nbannot.record.run import COMPLETE
from nbannot.running.design import Design, as_task, design
from nbannot.running.run import run
from nbannot.study.config import RunConfig
from nbannot.study.keywords import Settings
from nbannot.tools.files import read_json

CHARS_PER_TOKEN = 4.0
"""A stated estimate for English; other languages take more tokens per character."""


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What a run would send.

    Attributes
    ----------
    calls_at_least, calls_at_most
        Model calls without retries; conditional fields are asked only where they apply, hence two numbers.
    input_chars
        Characters sent at most, without the chat history of `per_text` and `continuous`.
    input_tokens, output_tokens
        Tokens at most: from a pilot's own counts, else estimated at four characters each (output: unknown).
    seconds
        Estimate from a pilot, else from the newest earlier run with the same model on this task; ``None`` if there
        is neither.
    money
        Estimate from the tokens and the setting `prices`; output tokens are known from a pilot only. ``None`` without
        prices.
    pilot_texts
        How many texts were really sent to make the estimates; 0 without a pilot.
    first_messages
        Column -> messages of the first text exactly as they would be sent (for `per_query`).
    """

    _display: ClassVar[str] = "plan_card"

    design: Design
    calls_at_least: int
    calls_at_most: int
    input_chars: int
    seconds: float | None
    seconds_per_call: float | None
    input_tokens: int
    output_tokens: int | None
    money: float | None
    pilot_texts: int
    first_messages: dict[str, list[Message]]

    @property
    def run_id(self) -> str:
        """The id that the run will have."""
        return self.design.run_id

    @property
    def state(self) -> str:
        """What is there already: "new", "complete" or "can be continued"."""
        stored = read_json(self.design.folder / folder.CONFIG)
        if not stored:
            return "new"
        return "complete" if stored.get("status") == COMPLETE else "can be continued"

    def __repr__(self) -> str:
        return f"<Plan of run {self.run_id}: {self.calls_at_least:,} to {self.calls_at_most:,} calls>"


def plan(
    task: Any,
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    codebook: Any = None,
    pilot: int = 0,
    **settings: Unpack[Settings],
) -> Plan:
    """Return what `run` with the same arguments would send.

    Parameters
    ----------
    task, config, codebook, settings
        As for `run`.
    pilot
        Really send this many texts, into a temporary folder, and estimate time, tokens and money from them.
        0: nothing is sent; the model is asked what it is, no more.

    Raises
    ------
    NbannotError
        As `run` would, before anything is sent.
    """
    config = RunConfig.of(config, **settings)
    whole = as_task(task, config, codebook)
    chosen, _ = design(whole, config)
    job = chosen.job
    n = len(job.ids)
    prompts = [
        compose(job.kind, group, use_examples=config.use_examples, code=job.code) for group in job.groups
    ]
    always = [group for group in job.groups if all(f.condition is None for f in group)]
    at_most = n * len(job.groups)
    chars = sum(n * len(p.about("")) + sum(map(len, job.texts)) for p in prompts)
    tokens: tuple[int, int | None] = (round(chars / CHARS_PER_TOKEN), None)
    per_call = seconds_per_call(Path(config.output_root) / chosen.task.name, config.model)
    if pilot:
        per_call, tokens = _piloted(whole, config, min(pilot, n), at_most)
    prices = config.prices or {}
    money = (tokens[0] * prices.get("input", 0.0) + (tokens[1] or 0) * prices.get("output", 0.0)) / 1e6
    return Plan(
        design=chosen,
        calls_at_least=n * len(always),
        calls_at_most=at_most,
        input_chars=chars,
        seconds=None if per_call is None else per_call * at_most,
        seconds_per_call=per_call,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        money=money if prices else None,
        pilot_texts=min(pilot, n),
        first_messages={
            "+".join(f.column for f in group): [{"role": "user", "content": prompt.about(job.texts[0])}]
            for group, prompt in zip(job.groups, prompts, strict=True)
        },
    )


def _piloted(task: Any, config: RunConfig, texts: int, at_most: int) -> tuple[float, tuple[int, int | None]]:
    """Return seconds per call and the tokens of the whole run, from a run on the first texts."""
    chosen = task.select(config.limit, config.ids, config.split)
    with tempfile.TemporaryDirectory(prefix="nbannot-pilot-") as place:
        done = run(chosen, config.change(limit=texts, ids=None, split=None, output_root=place))
        timing, counts = done.timing, read_json(done.folder / folder.CHARS)
        calls = max(1, timing["inference_count"])
        rate = at_most / calls
        sent = counts["input_tokens"] or counts["input_chars"] / CHARS_PER_TOKEN
        back = counts["output_tokens"]
        spent = done.progress.asking_s
    return spent / calls, (round(sent * rate), None if back is None else round(back * rate))


def seconds_per_call(runs: Path, model: str) -> float | None:
    """Return the wall time per call of the newest earlier run of a task with this model; ``None`` without one."""
    for place in reversed(folder.run_folders(runs.parent, runs.name)):
        if read_json(place / folder.CONFIG).get("model") == model:
            timing = read_json(place / folder.TIMING)
            if timing.get("inference_count") and timing.get("wall_time"):
                return float(timing["wall_time"] / timing["inference_count"])
    return None
