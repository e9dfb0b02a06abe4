"""What a run would still send, and what that can take at most: counted from the prompts, nothing is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbannot.asking.applies import NOT_REACHED
from nbannot.asking.prompts import Prompt
from nbannot.engine.job import Job, prompt_for
from nbannot.record import folder
from nbannot.record.loading import load_run
from nbannot.study.config import RunConfig
from nbannot.study.task import Task
from nbannot.tools.files import read_json

CHARS_PER_TOKEN = 4.0
"""A stated estimate for English; other languages take more tokens per character."""
MESSAGE_TOKENS = 32
"""More than any known chat template adds to a message."""
REPROMPT_BYTES = 1_000
"""More than the remark on an answer that could not be used adds to a message."""
USUAL_REPLY_CHARS = 40
"""What an accepted answer is taken to be long in a conversation, where it counts as an estimate and not a bound."""

Open = Sequence[Sequence[bool]]
"""Group by group, whether it is still to be asked of each text."""


@dataclass(frozen=True)
class Load:
    """What is left to be sent.

    Attributes
    ----------
    calls_at_least, calls_at_most
        Calls without repetitions; conditional fields are asked only where they apply.
    chars
        Characters of the messages, conversations included (with answers of a usual length).
    input_tokens_at_most, output_tokens_at_most
        Bounds, repetitions of invalid answers included: no tokeniser makes more tokens than bytes, no reply is longer
        than ``max_tokens``. Not in them: requests sent again because a connection broke.
    """

    calls_at_least: int
    calls_at_most: int
    chars: int
    input_tokens_at_most: int
    output_tokens_at_most: int


def load_of(job: Job, still_open: Open) -> Load:
    """Return what these questions would send."""
    prompts = [prompt_for(job, group) for group in job.groups]
    counted = _alone if job.config.chat_mode == "per_query" else _in_conversation
    chars, size = counted(job, prompts, still_open)
    for prompt, rows in zip(
        prompts, still_open, strict=True
    ):  # what comes once more with every further question
        if prompt.endings:
            again_chars, again_size = counted(job, [prompt], [rows])
            further, ends = len(prompt.endings) - 1, "".join(ending.text for ending in prompt.endings)
            chars += further * again_chars + sum(rows) * len(ends)
            size += further * again_size + sum(rows) * (_bytes(ends) + further * MESSAGE_TOKENS)
    return _load(job, prompts, [sum(rows) for rows in still_open], chars, size)


def load_of_many(job: Job, texts: int, chars: int, size: int) -> Load:
    """Return what every question would send about so many texts, asked one by one.

    Parameters
    ----------
    chars, size
        Characters and bytes of what is sent of the texts, over all of them.
    """
    asked = [group for group in job.groups if not all(f.column in job.unasked for f in group)]
    prompts = [prompt_for(job, group) for group in asked]
    framed = [(p.about(""), max(1, len(p.endings)), "".join(e.text for e in p.endings)) for p in prompts]
    most = sum((times - 1) * texts * MESSAGE_TOKENS for _, times, _ in framed)
    return _load(
        replace(job, groups=tuple(asked)),
        prompts,
        [texts] * len(asked),
        sum(times * (texts * len(frame) + chars) + texts * len(ends) for frame, times, ends in framed),
        sum(times * (texts * _bytes(frame) + size) + texts * _bytes(ends) for frame, times, ends in framed)
        + most,
    )


def _load(job: Job, prompts: Sequence[Prompt], calls: Sequence[int], chars: int, size: int) -> Load:
    schemas = sum(n * len(json.dumps(prompt.schema)) for n, prompt in zip(calls, prompts, strict=True))
    attempts = job.config.retries + 1
    again = REPROMPT_BYTES if job.config.retry_strategy == "reprompt" and attempts > 1 else 0
    most = sum(calls)
    always = [
        n for n, group in zip(calls, job.groups, strict=True) if all(f.condition is None for f in group)
    ]
    return Load(
        calls_at_least=sum(always),
        calls_at_most=most,
        chars=chars,
        input_tokens_at_most=attempts * (size + schemas + most * (MESSAGE_TOKENS + again)),
        output_tokens_at_most=attempts * most * job.max_tokens,
    )


def _alone(job: Job, prompts: Sequence[Prompt], still_open: Open) -> tuple[int, int]:
    """Return characters and bytes of questions that are asked one by one."""
    sizes = [(len(text), _bytes(text)) for text in job.texts]
    chars = size = 0
    for prompt, rows in zip(prompts, still_open, strict=True):
        frame = prompt.about("")
        sizes_open = [of for of, is_open in zip(sizes, rows, strict=True) if is_open]
        chars += len(sizes_open) * len(frame) + sum(of[0] for of in sizes_open)
        size += len(sizes_open) * _bytes(frame) + sum(of[1] for of in sizes_open)
    return chars, size


def _in_conversation(job: Job, prompts: Sequence[Prompt], still_open: Open) -> tuple[int, int]:
    """Return characters and bytes of conversations: every question carries those before it and their answers.

    In ``continuous`` the conversation goes on over all texts. A context window that is known bounds what one request
    can hold; without one, nothing is taken to leave the conversation.
    """
    window = job.config.context_size
    reply = job.max_tokens + MESSAGE_TOKENS  # as tokens, which is what the bound counts
    chars = size = talk_chars = talk_size = 0
    for row, text in enumerate(job.texts):
        if job.config.chat_mode == "per_text":
            talk_chars = talk_size = 0
        begun = False
        for prompt, rows in zip(prompts, still_open, strict=True):
            if not job.originals[row].strip():
                continue
            content = prompt.again if begun else prompt.about(text)
            of = _bytes(content)
            if rows[row]:
                chars += talk_chars + len(content)
                size += min(talk_size + of, window) if window else talk_size + of
            talk_chars += len(content) + USUAL_REPLY_CHARS
            talk_size += of + MESSAGE_TOKENS + reply
            begun = True
    return chars, size


def longest_request(job: Job, longest: int = 0) -> int:
    """Return the tokens of the longest request, at most: its bytes; a conversation is taken to be all one request.

    Parameters
    ----------
    longest
        Bytes of the longest text, where the job does not hold all of them.
    """
    prompts = [prompt_for(job, group) for group in job.groups]
    frames = [
        _bytes(p.about("")) + _bytes("".join(e.text for e in p.endings)) + len(json.dumps(p.schema))
        for p in prompts
    ]
    texts = [_bytes(text) for text in job.texts]
    whole = max(frames, default=0) + max(longest, *texts, 0) + MESSAGE_TOKENS + REPROMPT_BYTES
    if job.config.chat_mode == "per_query":
        return whole
    turns = len(prompts) * (1 if job.config.chat_mode == "per_text" else len(texts))
    return turns * (whole + job.max_tokens + MESSAGE_TOKENS)


def room_for_text(job: Job, per_char: float, window: int | None) -> float | None:
    """Return the characters that a text may have, about, to fit a context window with its question and the answer.

    Parameters
    ----------
    per_char
        Tokens per character, about.
    window
        Tokens of the window; ``None`` where it is not known, and so is what this returns.
    """
    if not window:
        return None
    taken = 0.0
    if not job.decides:  # which puts its questions in a form of its own
        prompts = [prompt_for(job, group) for group in job.groups]
        frames = [len(p.about("")) + max((len(e.text) for e in p.endings), default=0) for p in prompts]
        taken = max(frames, default=0) * per_char + job.max_tokens
    return max(0.0, (window - taken) / per_char)


def too_long_in_words(n: int, of: int, window: int | None) -> list[str]:
    """Return what to say of texts that may not fit a context window."""
    return [
        f"About {n:,} of {of:,} texts may be too long, with prompt and answer, for a context of {window:,} tokens. "
        "What does not fit is not asked about: cut the texts, or set a longer context_size."
    ] * bool(n)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def all_open(job: Job) -> Open:
    """Return every question of a new run: blank texts are not asked about, nor what depends on a field left out."""
    columns = {f.column for f in job.fields} - set(job.unasked)
    there = [bool(text.strip()) for text in job.originals]
    none = [False] * len(there)
    return [
        there
        if any(f.column in columns and (f.condition is None or f.condition.column in columns) for f in group)
        else none
        for group in job.groups
    ]


def still_open(job: Job, task: Task, place: Path) -> Open:
    """Return what an earlier session in this folder left to be asked; all of it where there was none."""
    everything = all_open(job)
    if not (place / folder.CONFIG).exists() or not (place / folder.OUTPUT).exists():
        return everything
    answers = load_run(place, task=task).coding.answers
    waiting: dict[str, list[bool]] = {}
    for f in job.fields:  # parents come first
        given = answers.get(f.column)
        above = waiting.get(f.condition.column) if f.condition is not None else None
        waiting[f.column] = [
            given is None
            or given[row].status == "failed"
            or given[row].reason == NOT_REACHED
            or (above is not None and above[row])
            for row in range(len(task))
        ]
    return [
        [there and any(waiting[f.column][row] for f in group) for row, there in enumerate(rows)]
        for group, rows in zip(job.groups, everything, strict=True)
    ]


SAME = (
    "model",
    "chat_mode",
    "fields_per_query",
    "reasoning",
    "max_tokens",
    "max_parallel",
    "workers",
    "base_url",
)
"""Settings that a run must share, with prompt and answer mode as used, to be taken as the measure of another one."""


@dataclass(frozen=True)
class Pace:
    """What a call took: seconds of wall time, tokens per character sent, tokens of a reply; ``None`` = not told."""

    seconds: float
    tokens_per_char: float | None
    output_tokens: float | None

    @classmethod
    def of(cls, seconds: float, calls: int, counts: Mapping[str, Any]) -> Pace:
        """Return the pace of a run that made some calls, from its ``char_counts.json``."""
        sent, chars, back = (counts.get(name) for name in ("input_tokens", "input_chars", "output_tokens"))
        return cls(
            seconds / calls,
            sent / chars if sent and chars else None,
            None if back is None else back / calls,
        )


def earlier_pace(config: RunConfig, task_name: str, answer_mode: str | None, prompt_hash: str) -> Pace | None:
    """Return the pace of the newest earlier run with this model, prompt and answer mode (``None``: any)."""
    wanted = {name: value for name, value in config.to_dict().items() if name in SAME}
    for place in reversed(folder.run_folders(Path(config.output_root), task_name)):
        stored = read_json(place / folder.CONFIG)
        same = all(stored.get(name) == value for name, value in wanted.items())
        if not same or stored.get("prompt_hash") != prompt_hash:
            continue
        if answer_mode is not None and stored.get("answer_mode_used") != answer_mode:
            continue
        timing = read_json(place / folder.TIMING)
        calls = timing.get("inference_count")
        if calls and timing.get("wall_time") and timing.get("total_inference_time") is not None:
            return Pace.of(timing["wall_time"], calls, read_json(place / folder.CHARS))
    return None
