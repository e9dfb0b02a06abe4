"""The plan of a run: what it would send and what that would take. Nothing is sent to make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nbannot import folder
from nbannot.config import RunConfig
from nbannot.models.base import Message
from nbannot.prompts import compose
from nbannot.run import COMPLETE, Design, as_task, design
from nbannot.shown import Shown

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
    input_tokens
        The same in tokens, estimated at four characters each.
    seconds
        Estimate from earlier runs with the same model on this task's output folder; ``None`` if there is none.
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
    first_messages: dict[str, list[Message]]

    @property
    def input_tokens(self) -> int:
        """Tokens sent at most, estimated from the characters."""
        return round(self.input_chars / CHARS_PER_TOKEN)

    @property
    def run_id(self) -> str:
        """The id that the run will have."""
        return self.design.run_id

    @property
    def state(self) -> str:
        """What is there already: "new", "complete" or "can be continued"."""
        stored = folder.read_json(self.design.folder / folder.CONFIG)
        if not stored:
            return "new"
        return "complete" if stored.get("status") == COMPLETE else "can be continued"

    def __repr__(self) -> str:
        return f"<Plan of run {self.run_id}: {self.calls_at_least:,} to {self.calls_at_most:,} calls>"


def plan(task: Any, config: RunConfig | None = None, /, *, codebook: Any = None, **settings: Any) -> Plan:
    """Return what `run` with the same arguments would send; see `Plan`. The model is asked what it is, no more."""
    config = (config or RunConfig()).change(**settings)
    chosen, _ = design(as_task(task, config, codebook), config)
    job = chosen.job
    n = len(job.ids)
    prompts = [compose(job.kind, group, use_examples=config.use_examples) for group in job.groups]
    text_chars = sum(map(len, job.texts))
    always = [group for group in job.groups if all(f.condition is None for f in group)]
    at_most = n * len(job.groups)
    chars = sum(n * (len(p.before) + len(p.after)) + text_chars for p in prompts)
    per_call = seconds_per_call(Path(config.output_root) / chosen.task.name, config.model)
    first = {
        "+".join(f.column for f in group): [{"role": "user", "content": prompt.about(job.texts[0])}]
        for group, prompt in zip(job.groups, prompts, strict=True)
    }
    seconds = None if per_call is None else per_call * at_most
    return Plan(chosen, n * len(always), at_most, chars, seconds, per_call, first)


def seconds_per_call(runs: Path, model: str) -> float | None:
    """Return the wall time per call of the newest earlier run of a task with this model; ``None`` without one."""
    for place in reversed(folder.run_folders(runs.parent, runs.name)):
        if folder.read_json(place / folder.CONFIG).get("model") == model:
            timing = folder.read_json(place / folder.TIMING)
            if timing.get("inference_count"):
                return float(timing["wall_time"] / timing["inference_count"])
    return None
