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
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from nbannot.asking.answers import Answer, read_reply
from nbannot.asking.decisions import is_decided, read_decisions
from nbannot.asking.ledger import Ledger, Tally
from nbannot.asking.prompts import Prompt, reply_text, reprompt
from nbannot.asking.request_reply import Message, Model, Reply, Request
from nbannot.engine.drive import Tick, drive
from nbannot.engine.job import Job, Outcome, Progress, group_fields, prompt_for
from nbannot.engine.pace import BudgetSpent, Pace, handed_out, pool
from nbannot.engine.schedule import Schedule
from nbannot.errors import NbannotError, RunError
from nbannot.study.codebook import Field

__all__ = ["Engine", "Job", "Outcome", "Progress", "Tick", "annotate", "group_fields"]

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


class ServerGone(NbannotError):
    """The model server has not answered many times in a row."""


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
                plan = Schedule(self)
                await pool(plan.next, self._question, self.pace)
            elif self.job.config.chat_mode == "per_text":
                rows = iter(range(len(self.job.ids)))
                await pool(handed_out(rows), self._conversation, self.pace)
            else:
                history: list[Message] = []
                for row in range(len(self.job.ids)):
                    await self._conversation(row, history)
        finally:
            await self.model.close()

    # ---- one text -------------------------------------------------------------------------------------------------

    async def _question(self, item: tuple[Schedule, int, int]) -> None:
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
        if f.column in self.job.unasked:
            return Answer(f.column, "not_asked", reason=self.job.unasked[f.column])
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
            self._prompts[key] = prompt_for(self.job, group)
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
        scored = bool(prompt.questions) or (bool(prompt.options) and self.job.answer_mode == "score")
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
            questions=prompt.questions,
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
            return stored, self._read(row, group, stored, attempt)
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
            answers = self._read(row, group, reply, attempt)
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

    def _read(self, row: int, group: Sequence[Field], reply: Reply, attempt: int) -> dict[str, Answer]:
        """Return the answer to each field of the group that a reply holds."""
        if is_decided(reply):
            return read_decisions(group, reply.decisions or {}, self.job.reading, attempt)
        return read_reply(group, self.job.originals[row], reply, attempt)

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
    error = drive(engine.run, progress, tick, stop, every_s, grace_s, outcome)
    if isinstance(error, ServerGone | BudgetSpent):
        outcome.stopped = str(error)
    elif isinstance(error, NbannotError):
        raise error
    elif error is not None:
        raise RunError(f"the run stopped: {type(error).__name__}: {error}") from error
    return outcome
