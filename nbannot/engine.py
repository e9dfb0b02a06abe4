"""The engine: asks every question that applies, many at once, and writes every reply down before it counts.

The only room with asyncio (besides a model's own client). `annotate` runs the work in a thread of its own, so that it
behaves the same in a script, in a terminal and inside a notebook's running event loop, and so that an interrupt
reaches the caller at once.

Order of work: a question is asked of a text when every question it depends on has been answered for that text. Among
those that are ready, the earliest question of the codebook goes first, over all texts, so that servers can reuse the
beginning that its prompts share. A field whose scored answers are calibrated waits until it is known to which texts it
applies; its first 32 texts are the calibration set.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from nbannot.answers import Answer, batch_offset, calibrate, read_reply
from nbannot.codebook import Codebook, Field
from nbannot.config import RunConfig
from nbannot.errors import NbannotError, RunError
from nbannot.ledger import Ledger, Tally
from nbannot.models.base import AnswerMode, Message, Model, Reply, Request
from nbannot.prompts import Prompt, PromptType, compose, reply_text, reprompt

CALIBRATION_TEXTS = 32
SEND_TRIES = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
HOLD_AFTER = 8
"""Failures one after the other from which on every request waits, not only the one that failed."""
NO_REPLY = Reply()
GONE_AFTER = 20
"""Failures one after the other from which on the server is gone; of half of all requests, one run in 2,000."""
SILENT_S = 120.0
"""A server that has not answered for so long is gone after fewer, `SEND_TRIES`: each may have been a time-out."""
ASK_AGAIN = {
    "reprompt": ("invalid", "refused"),
    "identical": ("invalid", "refused"),
    "temperature": ("invalid", "refused", "truncated"),
}
"""Retry strategy -> statuses that are asked again. What ran on to max_tokens runs on again unless it is warmer."""


@dataclass(frozen=True)
class Job:
    """Everything that is to be asked: plain data, no model and no folder.

    Attributes
    ----------
    texts
        What is sent, one per id: the text, with metadata in front where that was asked for.
    originals
        The texts themselves, in which quotes are located.
    groups
        Fields that are asked in one call, in an order in which parents come before what depends on them.
    """

    codebook: Codebook
    config: RunConfig
    kind: PromptType
    ids: Sequence[str]
    texts: Sequence[str]
    originals: Sequence[str]
    groups: tuple[tuple[Field, ...], ...]
    answer_mode: AnswerMode
    calibrated: bool
    max_tokens: int

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field that is asked."""
        return tuple(f for group in self.groups for f in group)


def group_fields(codebook: Codebook, fields: Sequence[Field], how: str) -> tuple[tuple[Field, ...], ...]:
    """Return the fields grouped by call: one each, by section, or all; fields never share a call with their parents."""
    chosen = [f for f in codebook.in_order if f in fields]
    if how == "one":
        return tuple((f,) for f in chosen)
    grouped: dict[tuple[str, int], list[Field]] = {}
    for f in chosen:
        grouped.setdefault((f.section if how == "section" else "", codebook.depth(f)), []).append(f)
    return tuple(tuple(group) for _, group in sorted(grouped.items(), key=lambda item: item[0][1]))


@dataclass
class Progress:
    """How far a run is; the engine writes it, displays read it.

    `total` and `done` count answers (texts x fields); those that turn out not to apply count as done.
    """

    total: int = 0
    done: int = 0
    calls: int = 0
    cached: int = 0
    retries: int = 0
    not_ok: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    asking_since: float | None = None
    message: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    @property
    def asking_s(self) -> float:
        """Seconds since the model was ready and the first question could be asked."""
        return 0.0 if self.asking_since is None else time.monotonic() - self.asking_since

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace of what was really asked; ``None`` before anything is known."""
        fresh = self.done * self.calls / (self.calls + self.cached) if self.calls else 0
        return (self.total - self.done) * self.asking_s / fresh if fresh else None


@dataclass
class Outcome:
    """What a session of work left behind.

    Attributes
    ----------
    answers
        column -> one `Answer` per text, ``None`` where the work did not get that far.
    stopped
        Why it ended early; "" when everything was asked.
    offsets
        column -> calibration offset per label.
    """

    answers: dict[str, list[Answer | None]]
    progress: Progress
    stopped: str = ""
    interrupted: bool = False
    offsets: dict[str, tuple[float, ...]] = field(default_factory=dict)


class ServerGone(NbannotError):
    """The model server has not answered many times in a row."""


class BudgetSpent(NbannotError):
    """The next call would go beyond the budget."""


def _tokens(tally: Tally) -> tuple[int | None, int | None]:
    return tally.input_tokens, tally.output_tokens


class Engine:
    """One session of work on a `Job`."""

    def __init__(
        self,
        job: Job,
        model: Model,
        ledger: Ledger,
        progress: Progress,
        ask_again: bool = False,
        kwh: Callable[[], float] = lambda: 0.0,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.job, self.model, self.ledger, self.progress = job, model, ledger, progress
        self.answers: dict[str, list[Answer | None]] = {f.column: [None] * len(job.ids) for f in job.fields}
        self.offsets: dict[str, tuple[float, ...]] = {}
        self._prompts: dict[tuple[str, ...], Prompt] = {}
        self._failures_in_a_row = 0
        self._failed_at = self._answered_at = 0.0
        self._resume_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        progress.total = len(job.ids) * len(job.fields)
        self.pace = Pace(max(1, min(model.parallel, job.config.max_parallel or model.parallel)))
        self.ask_again, self.kwh, self.ready = ask_again, kwh, ready
        self._tokens_before = _tokens(ledger.tally)

    async def run(self) -> None:
        """Ask everything that is not answered yet."""
        await asyncio.gather(self.model.open(), asyncio.to_thread(self.ready))
        self.progress.asking_since = time.monotonic()
        try:
            if self.job.config.chat_mode == "per_query":
                plan = _Schedule(self)
                await _pool(plan.next, self._question, self.pace)
            elif self.job.config.chat_mode == "per_text":
                rows = iter(range(len(self.job.ids)))
                await _pool(_from(rows), self._conversation, self.pace)
            else:
                history: list[Message] = []
                for row in range(len(self.job.ids)):
                    await self._conversation(row, history)
        finally:
            await self.model.close()

    # ---- one text -------------------------------------------------------------------------------------------------

    async def _question(self, item: tuple[_Schedule, int, int]) -> None:
        plan, number, row = item
        group = plan.applicable(number, row)
        try:
            found, reply = await self.ask(row, group, ())
        except BaseException:
            plan.lost()
            raise
        plan.answered(number, row, found, reply)

    async def _conversation(self, row: int, history: list[Message] | None = None) -> None:
        """Ask every question about one text in one conversation; only accepted answers stay in it.

        When the conversation no longer fits the context window, its oldest turns leave it, half of them at a time,
        but never a turn about the text at hand.
        """
        talk: list[Message] = [] if history is None else history
        own = 0
        for group in self.job.groups:
            asked = self.settle(row, group)
            if not asked:
                continue
            found, reply = await self.ask(row, asked, talk, again=own > 0)
            while reply.finish_reason == "context" and len(talk) > own:
                older = len(talk) - own
                del talk[: max(2, older // 4 * 2)]
                found, reply = await self.ask(row, asked, talk, again=own > 0)
            for answer in found.values():
                self.put(row, answer)
            if all(answer.status == "ok" for answer in found.values()):
                prompt = self.prompt(asked)
                content = prompt.again if own else prompt.about(self.job.texts[row])
                talk.append({"role": "user", "content": content})
                talk.append({"role": "assistant", "content": _said(asked, found)})
                own += 2

    def settle(self, row: int, group: Sequence[Field]) -> tuple[Field, ...]:
        """Return the fields of the group that are to be asked of a text; give the others their status."""
        asked = []
        for f in group:
            why = self.not_asked(row, f)
            if why is None:
                asked.append(f)
            else:
                self.put(row, why)
        return tuple(asked)

    def not_asked(self, row: int, f: Field) -> Answer | None:
        """Return the answer of a field that is not asked of this text, or ``None`` if it is to be asked."""
        if not self.job.originals[row].strip():
            return Answer(f.column, "not_asked", reason="the text is blank")
        if f.condition is None:
            return None
        parent = self.answers.get(f.condition.column)
        if parent is None:
            name = self.job.codebook[f.condition.column].name
            return Answer(
                f.column, "not_asked", reason=f"it depends on '{name}', which is left out of this run"
            )
        above = parent[row]
        if above is None:
            raise RuntimeError(f"{f.column} was reached before the field it depends on")
        if above.status == "not_applicable" or (above.status == "ok" and above.value != f.condition.value):
            return Answer(f.column, "not_applicable")
        if above.status != "ok":
            name = self.job.codebook[f.condition.column].name
            return Answer(f.column, "not_asked", reason=f"no valid answer to '{name}', on which it depends")
        return None

    def put(self, row: int, answer: Answer) -> None:
        """Take an answer into the sheet."""
        self.answers[answer.column][row] = answer
        self.progress.done += 1
        self.progress.not_ok += answer.status not in ("ok", "not_applicable")

    # ---- one question ---------------------------------------------------------------------------------------------

    def prompt(self, group: Sequence[Field]) -> Prompt:
        """Return the prompt for these fields, made once."""
        key = tuple(f.column for f in group)
        if key not in self._prompts:
            self._prompts[key] = compose(self.job.kind, group, use_examples=self.job.config.use_examples)
        return self._prompts[key]

    def request(
        self,
        row: int,
        group: Sequence[Field],
        history: Sequence[Message],
        attempt: int = 1,
        problem: str = "",
        again: bool = False,
    ) -> Request:
        """Return the request that asks these fields of one text."""
        config, columns = self.job.config, tuple(f.column for f in group)
        prompt = self._prompts.get(columns) or self.prompt(group)
        content = prompt.again if again else prompt.about(self.job.texts[row])
        if problem and config.retry_strategy == "reprompt":
            content = reprompt(content, problem)
        temperature, seed = config.temperature, config.seed
        if attempt > 1 and config.retry_strategy == "temperature":
            temperature = config.retry_temperature
        if seed is not None:
            seed = (seed + 1_000_003 * (config.repeat - 1) + attempt - 1) % 2**32
        scored = bool(prompt.options) and self.job.answer_mode == "score"
        return Request(
            key=f"{self.job.ids[row]}|{'+'.join(columns)}|{attempt}",
            messages=(*history, {"role": "user", "content": content}),
            shared=len(prompt.before),
            schema=prompt.schema,
            options=prompt.options if scored else (),
            answer_mode="score" if scored else "generate",
            text=self.job.originals[row],
            temperature=temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            seed=seed,
            max_tokens=self.job.max_tokens,
            reasoning=config.reasoning,
        )

    async def ask(
        self, row: int, group: Sequence[Field], history: Sequence[Message], *, again: bool = False
    ) -> tuple[dict[str, Answer], Reply]:
        """Return the first valid answer to each field, asking again as configured, and the last reply."""
        found: dict[str, Answer] = {}
        left: Sequence[Field] = group
        problem, reply = "", NO_REPLY
        attempt, allowed, stored = 0, self.job.config.retries + 1, None
        while left:
            attempt += 1
            request = self.request(row, left, history, attempt, problem, again)
            columns = tuple(f.column for f in left)
            before, stored = stored, self.ledger.find(request, columns, self.job.ids[row], attempt)
            if attempt > allowed and stored is None:
                if before is None or not self.ask_again:
                    break
                allowed = attempt + self.job.config.retries
            self.progress.retries += attempt > 1 and stored is None
            reply, answers = await self._one_call(row, left, columns, request, attempt, stored)
            found.update(answers)
            left = [f for f in left if answers[f.column].status in ASK_AGAIN[self.job.config.retry_strategy]]
            if request.answer_mode == "score":
                break
            problem = answers[left[0].column].reason if left else ""
        return found, reply

    async def _one_call(
        self,
        row: int,
        group: Sequence[Field],
        columns: tuple[str, ...],
        request: Request,
        attempt: int,
        stored: Reply | None,
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return the reply to one request and what it answers: the stored one of an earlier session, or a new one."""
        if stored is not None:
            self.progress.cached += 1
            return stored, read_reply(group, self.job.originals[row], stored, attempt)
        for number in range(1, SEND_TRIES + 1):
            await self._pause()
            self._check_budget()
            sent = time.monotonic()
            self.progress.in_flight += 1
            try:
                reply = await self.model.ask(request)
            finally:
                self.progress.in_flight -= 1
                self._next_waiting()
            self.progress.calls += 1
            answers = read_reply(group, self.job.originals[row], reply, attempt)
            self.ledger.append(
                request,
                reply,
                text_id=self.job.ids[row],
                columns=columns,
                attempt=attempt,
                repeat=self.job.config.repeat,
                answers=[_plain(answer) for answer in answers.values()],
                time=_now(),
            )
            if reply.error is None:
                self._failures_in_a_row, self._answered_at = 0, time.monotonic()
                self.pace.well()
                break
            if reply.finish_reason != "context":
                self._count_failure(sent, reply)
            if not reply.retriable:
                break
            self.pace.trouble(sent)
            if number < SEND_TRIES:
                self.progress.retries += 1
                self._hold(reply)
                if reply.retry_after_s is None:
                    await self._rest(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (number - 1)))
        return reply, answers

    async def _rest(self, seconds: float) -> None:
        """Wait before a request is sent again, and leave its place in flight to another one meanwhile."""
        self.pace.resting += 1
        self.pace.changed()
        try:
            await asyncio.sleep(seconds * random.uniform(0.5, 1))
        finally:
            self.pace.resting -= 1

    def _minutes_left_s(self) -> float:
        """Return the seconds that a budget in minutes leaves."""
        return max(
            0.0, (self.job.config.budget or {}).get("minutes", math.inf) * 60 - self.progress.elapsed_s
        )

    def _check_budget(self) -> None:
        """Stop the run, cleanly, before a call that the budget does not allow."""
        if self.job.config.budget:
            spent = self.spent()
            over = [f"{name} {spent[name]:.6g} of {most:g}" for name, most in self.job.config.budget.items()
                    if spent[name] >= most]  # fmt: skip
            if over:
                self._next_waiting(everyone=True)
                raise BudgetSpent(f"the budget is spent: {', '.join(over)}")

    def spent(self) -> dict[str, float]:
        """Return what this session has used of everything that a budget can limit; kWh, slow to measure, if it does."""
        tally, prices = self.ledger.tally, self.job.config.prices or {}
        tokens = [(t or 0) - (b or 0) for t, b in zip(_tokens(tally), self._tokens_before, strict=True)]
        return {
            "calls": self.progress.calls + self.progress.in_flight,
            "tokens": sum(tokens),
            "money": sum(
                n * prices.get(name, 0.0) / 1e6 for n, name in zip(tokens, ("input", "output"), strict=True)
            ),
            "minutes": self.progress.elapsed_s / 60,
            "kwh": self.kwh() if "kwh" in (self.job.config.budget or {}) else 0.0,
        }

    def _hold(self, reply: Reply) -> None:
        """Keep every request back for as long as the server asks, and for a while when it answers none."""
        wait = reply.retry_after_s or 0.0
        if self._failures_in_a_row > HOLD_AFTER:
            wait = max(wait, FIRST_WAIT_S * 2.0 ** min(2, self._failures_in_a_row - HOLD_AFTER - 1))
        if wait:
            self._resume_at = max(self._resume_at, time.monotonic() + min(wait, LONGEST_WAIT_S))

    async def _pause(self) -> None:
        """Wait until requests may be sent, and there is a place in flight."""
        while True:
            if (left := self._resume_at - time.monotonic()) > 0:
                await asyncio.sleep(min(left + random.random() * min(0.05, left), self._minutes_left_s()))
                self._check_budget()
            elif self.progress.in_flight >= self.pace.size:
                self._waiting.append(asyncio.get_running_loop().create_future())
                await self._waiting[-1]
            else:
                return

    def _next_waiting(self, *, everyone: bool = False) -> None:
        """Let those who wait for a place look again: as many as there are places, or everyone."""
        free = (
            self.pace.size - self.progress.in_flight + 1
        )  # one more: an answer may just make the pace faster
        while self._waiting and (free > 0 or everyone):
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                free -= 1

    def _count_failure(self, sent: float, reply: Reply) -> None:
        """Count a failure unless it says nothing new, and give up when the server is gone.

        Requests that were in flight together fail together: they count as one, unless sending again cannot help. A
        request that was sent before the last answer came says nothing about the server after it.
        """
        now = time.monotonic()
        if sent < self._answered_at or (reply.retriable and sent < self._failed_at):
            return
        self._answered_at = self._answered_at or sent
        self._failures_in_a_row, self._failed_at = self._failures_in_a_row + 1, now
        silent = self._failures_in_a_row >= SEND_TRIES and now - self._answered_at > SILENT_S
        if silent or self._failures_in_a_row >= GONE_AFTER:
            raise ServerGone(
                f"the model has not answered {self._failures_in_a_row} times in a row; last: {reply.error}"
            )


def _now() -> str:
    """Return the time in UTC, ISO 8601 with milliseconds."""
    now = time.time()
    return f"{_second(int(now))}.{int(now % 1 * 1000):03d}+00:00"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _said(group: Sequence[Field], found: Mapping[str, Answer]) -> str:
    """Return the accepted answers as the model's turn in a conversation."""
    if len(group) == 1:
        return reply_text(group[0], found[group[0].column].value)
    return json.dumps({f.column: f.to_json(found[f.column].value) for f in group}, ensure_ascii=False)


def _plain(answer: Answer) -> dict[str, Any]:
    plain: dict[str, Any] = {"column": answer.column, "status": answer.status, "value": answer.value}
    if answer.reason:
        plain["reason"] = answer.reason
    if answer.repaired:
        plain["repaired"] = True
    if answer.unaligned:
        plain["unaligned"] = list(answer.unaligned)
    return plain


class _Schedule:
    """Which question goes next in `per_query`: ready ones, earliest question first, over all texts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.groups = engine.job.groups
        n = len(engine.job.ids)
        of_column = {f.column: number for number, group in enumerate(self.groups) for f in group}
        self.parents: list[set[int]] = [
            {of_column[f.condition.column] for f in group if f.condition and f.condition.column in of_column}
            for group in self.groups
        ]
        self.children = [[c for c, ps in enumerate(self.parents) if g in ps] for g in range(len(self.groups))]
        self.ready: list[deque[int]] = [deque() for _ in self.groups]
        self.asked: dict[tuple[int, int], tuple[Field, ...]] = {}
        self.open = [n] * len(self.groups)
        self.pilots: dict[int, _Pilot] = {}
        self.news = asyncio.Event()
        self.out = 0
        for number, group in enumerate(self.groups):
            if engine.job.calibrated and engine.prompt(group).options:
                self.pilots[number] = _Pilot(group[0])
        for number in range(len(self.groups)):
            if not self.parents[number]:
                for row in range(n):
                    self.reach(number, row)

    async def next(self) -> tuple[_Schedule, int, int] | None:
        """Return the next question, waiting for answers it depends on; ``None`` when all have been handed out."""
        while True:
            for number, rows in enumerate(self.ready):
                if rows:
                    self.out += 1
                    return self, number, rows.popleft()
            if self.out == 0:
                self.news.set()
                return None
            self.news.clear()
            await self.news.wait()

    def applicable(self, number: int, row: int) -> tuple[Field, ...]:
        """Return the fields of the group that are asked of this text."""
        return self.asked.pop((number, row), self.groups[number])

    def reach(self, number: int, row: int) -> None:
        """A text has come to a group: all it depends on is known."""
        group = self.groups[number]
        asked = self.engine.settle(row, group)
        if not asked:
            self.closed(number, row)
            return
        if len(asked) < len(group):
            self.asked[number, row] = asked
        pilot = self.pilots.get(number)
        if pilot is None:
            self.ready[number].append(row)
        else:
            pilot.waiting.append(row)
            self.start_pilot(number)

    def start_pilot(self, number: int) -> None:
        """Start calibrating a field once it is known to which texts it applies."""
        pilot = self.pilots[number]
        decided = all(self.open[parent] == 0 for parent in self.parents[number])
        reached = len(pilot.waiting) + (len(self.engine.job.ids) - self.open[number])
        if pilot.started or not decided or reached < len(self.engine.job.ids):
            return
        pilot.started = True
        pilot.waiting.sort()
        if len(pilot.waiting) < CALIBRATION_TEXTS:
            self.ready[number].extend(pilot.waiting)
            del self.pilots[number]
        else:
            pilot.rows = pilot.waiting[:CALIBRATION_TEXTS]
            self.ready[number].extend(pilot.rows)
        self.news.set()

    def answered(self, number: int, row: int, found: dict[str, Answer], reply: Reply) -> None:
        """Take the answers of one call, and what now becomes possible."""
        self.out -= 1
        pilot = self.pilots.get(number)
        if pilot is None:
            self.take(number, row, found)
        elif pilot.offset is not None:
            self.take(number, row, self.calibrated(pilot, found))
        else:
            pilot.found[row] = found
            if len(pilot.found) == len(pilot.rows):
                self.freeze(number)
        self.news.set()

    def freeze(self, number: int) -> None:
        """Fix the calibration from the pilot texts, then let the other texts go."""
        pilot = self.pilots[number]
        column = pilot.asked.column
        known = [pilot.found[row][column].probabilities for row in pilot.rows]
        pilot.offset = (
            batch_offset([p for p in known if p]) if any(known) else tuple(0.0 for _ in pilot.asked.labels)
        )
        self.engine.offsets[column] = pilot.offset
        note = {
            "calibration": column,
            "labels": list(pilot.asked.labels),
            "offset": list(pilot.offset),
            "text_ids": [self.engine.job.ids[row] for row in pilot.rows],
        }
        if note not in self.engine.ledger.notes:
            self.engine.ledger.note(**note)
        for row in pilot.rows:
            self.take(number, row, self.calibrated(pilot, pilot.found.pop(row)))
        self.ready[number].extend(pilot.waiting[CALIBRATION_TEXTS:])

    def calibrated(self, pilot: _Pilot, found: dict[str, Answer]) -> dict[str, Answer]:
        answer = found[pilot.asked.column]
        if answer.status != "ok" or answer.probabilities is None or pilot.offset is None:
            return found
        value, probabilities = calibrate(pilot.asked, answer.probabilities, pilot.offset)
        return {
            answer.column: Answer(
                answer.column, "ok", value, probabilities=probabilities, attempt=answer.attempt
            )
        }

    def lost(self) -> None:
        """A question came to no answer: whoever waits for one must look again."""
        self.out -= 1
        self.news.set()

    def take(self, number: int, row: int, found: dict[str, Answer]) -> None:
        for answer in found.values():
            self.engine.put(row, answer)
        self.closed(number, row)

    def closed(self, number: int, row: int) -> None:
        """A group is done with a text: reach the groups that depend on it."""
        self.open[number] -= 1
        for child in self.children[number]:
            if all(
                self.engine.answers[f.column][row] is not None
                for p in self.parents[child]
                for f in self.groups[p]
            ):
                self.reach(child, row)
        if number in self.pilots:
            self.start_pilot(number)
        for child in self.children[number]:
            if child in self.pilots:
                self.start_pilot(child)


@dataclass
class _Pilot:
    """The calibration of one field: the texts waiting for it, those it is measured on, and the offset once fixed."""

    asked: Field
    waiting: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    found: dict[int, dict[str, Answer]] = field(default_factory=dict)
    offset: tuple[float, ...] | None = None
    started: bool = False


def _from(items: Iterator[int]) -> Callable[[], Coroutine[Any, Any, int | None]]:
    async def next_item() -> int | None:
        return next(items, None)

    return next_item


class Pace:
    """How many requests are in flight: more while all goes well, half as many when the server is in trouble.

    Parameters
    ----------
    most
        Never more than this.

    Attributes
    ----------
    resting
        How many wait before they are sent again: they hold no place.
    changed
        Called when one begins to rest.
    """

    START = 32

    def __init__(self, most: int) -> None:
        self.most = most
        self.resting = 0
        self.changed: Callable[[], None] = lambda: None
        self.size = min(most, self.START)
        self._room = float(self.size)
        self._doubling = True
        self._calm_from = 0.0

    def well(self) -> None:
        """A reply came: one more for every reply at first, later one more for a whole round of replies."""
        self._room = min(self.most, self._room + (1.0 if self._doubling else 1.0 / max(self._room, 1.0)))
        self.size = int(self._room)

    def trouble(self, sent: float) -> None:
        """The server was overloaded by a request sent at this (monotonic) time; one halving per round of requests."""
        self._doubling = False
        if sent < self._calm_from:
            return
        self._calm_from = time.monotonic()
        self._room = max(1.0, self._room / 2)
        self.size = int(self._room)


async def _pool(
    next_item: Callable[[], Coroutine[Any, Any, Any]], do: Callable[[Any], Awaitable[None]], pace: Pace
) -> None:
    """Do every item with as many workers as `pace` says; the first error stops them all and is raised as it is.

    When a budget is spent, what is in flight is waited for: it has been paid.
    """
    failure: BaseException | None = None
    tasks: set[asyncio.Task[None]] = set()
    exhausted = False

    async def worker() -> None:
        nonlocal exhausted
        while len(tasks) <= pace.size + pace.resting:
            item = await next_item()
            if item is None:
                exhausted = True
                return
            await do(item)
            grow()

    def grow() -> None:
        while not exhausted and len(tasks) < pace.size + pace.resting:
            tasks.add(asyncio.create_task(worker()))

    pace.changed = grow
    grow()
    try:
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks -= done
            failures = [task.exception() for task in done if task.exception() is not None]
            failure = failure or next(iter(failures), None)
            exhausted = exhausted or failure is not None
            if failure is not None and not isinstance(failure, BudgetSpent):
                break
            grow()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        raise failure


# ---- from the caller's thread to the event loop and back ----------------------------------------------------------

Tick = Callable[[Progress], None]


def annotate(
    job: Job,
    model: Model,
    ledger: Ledger,
    *,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    ask_again: bool = False,
    kwh: Callable[[], float] = lambda: 0.0,
    ready: Callable[[], None] = lambda: None,
    every_s: float = 0.1,
    grace_s: float = 5.0,
) -> Outcome:
    """Do the job and return what came of it.

    An interrupt, a dead server or a spent budget is in the outcome, not raised.

    Parameters
    ----------
    tick
        Called in the caller's thread about every `every_s` seconds, and once at the end.
    stop
        An event that another thread can set to end the work early.
    ask_again
        Give questions whose attempts ended without a valid answer in an earlier session another round.
    kwh
        Returns the energy used so far, for a budget in kWh.
    ready
        Called once, in a thread, while the model gets ready; nothing is asked before it returns.
    grace_s
        How long open requests may take to end after an interrupt.

    Raises
    ------
    NbannotError
        If the model cannot be used at all or the ledger cannot be written.
    """
    progress = Progress()
    engine = Engine(job, model, ledger, progress, ask_again, kwh, ready)
    outcome = Outcome(engine.answers, progress, offsets=engine.offsets)
    error = _drive(engine.run, progress, tick, stop, every_s, grace_s, outcome)
    if isinstance(error, ServerGone | BudgetSpent):
        outcome.stopped = str(error)
    elif isinstance(error, NbannotError):
        raise error
    elif error is not None:
        raise RunError(f"the run stopped: {type(error).__name__}: {error}") from error
    return outcome


def _drive(
    work: Callable[[], Coroutine[Any, Any, None]],
    progress: Progress,
    tick: Tick | None,
    stop: threading.Event | None,
    every_s: float,
    grace_s: float,
    outcome: Outcome,
) -> BaseException | None:
    """Run a coroutine in its own loop on a worker thread while the calling thread shows progress and listens."""
    box: dict[str, Any] = {}
    ready, done = threading.Event(), threading.Event()
    context = contextvars.copy_context()

    def worker() -> None:
        async def main() -> None:
            box["task"], box["loop"] = asyncio.current_task(), asyncio.get_running_loop()
            ready.set()
            await work()

        try:
            with asyncio.Runner() as runner:
                context.run(runner.run, main())
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread
            box["error"] = error
        finally:
            ready.set()
            done.set()

    threading.Thread(target=worker, name="nbannot-engine", daemon=True).start()
    deadline: float | None = None
    while True:
        try:
            while not done.wait(every_s):
                if tick:
                    tick(progress)
                if stop is not None and stop.is_set() and deadline is None:
                    deadline = _cancel(box, ready, grace_s, outcome)
                if deadline is not None and time.monotonic() > deadline:
                    break
            break
        except KeyboardInterrupt:
            if deadline is not None:
                break
            deadline = _cancel(box, ready, grace_s, outcome)
    if tick:
        tick(progress)
    error = box.get("error")
    return None if isinstance(error, asyncio.CancelledError) else _single(error)


def _cancel(box: dict[str, Any], ready: threading.Event, grace_s: float, outcome: Outcome) -> float:
    outcome.interrupted = True
    outcome.stopped = "stopped by the user"
    ready.wait(1)
    if "loop" in box:
        box["loop"].call_soon_threadsafe(box["task"].cancel)
    return time.monotonic() + grace_s


def _single(error: BaseException | None) -> BaseException | None:
    """Return the one error in a group of one, without the chain that makes notebooks print raw tracebacks."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
