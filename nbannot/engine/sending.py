"""Sending: one request as often as it takes, within the budget, at the server's pace, each reply written down."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from nbannot.asking.answers import Answer, read_reply
from nbannot.asking.ledger import Ledger, Tally
from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.engine.job import Job, Progress
from nbannot.engine.pace import BudgetSpent, Pace
from nbannot.errors import NbannotError
from nbannot.study.field import Field

SEND_TRIES = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
HOLD_AFTER = 8
"""Failures one after the other from which on every request waits, not only the one that failed."""
GONE_AFTER = 20
"""Failures one after the other from which on the server is gone; of half of all requests, one run in 2,000."""
SILENT_S = 120.0
"""A server that has not answered for so long is gone after fewer, `SEND_TRIES`: each may have been a time-out."""


class ServerGone(NbannotError):
    """The model server has not answered many times in a row."""


def _tokens(tally: Tally) -> tuple[int | None, int | None]:
    return tally.input_tokens, tally.output_tokens


class Sender:
    """Sends the requests of one session of work.

    Parameters
    ----------
    kwh
        Returns the energy used so far, for a budget in kWh.
    """

    def __init__(
        self,
        job: Job,
        model: Model,
        ledger: Ledger,
        progress: Progress,
        kwh: Callable[[], float],
    ) -> None:
        self.job, self.model, self.ledger, self.progress, self.kwh = job, model, ledger, progress, kwh
        self.pace = Pace(max(1, min(model.parallel, job.config.max_parallel or model.parallel)))
        self._failures_in_a_row = 0
        self._failed_at = self._answered_at = 0.0
        self._resume_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tokens_before = _tokens(ledger.tally)

    async def send(
        self, row: int, group: Sequence[Field], columns: tuple[str, ...], request: Request, attempt: int
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return the reply to a request, sent again while that may help, and what it answers."""
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


def _plain(answer: Answer) -> dict[str, Any]:
    plain: dict[str, Any] = {"column": answer.column, "status": answer.status, "value": answer.value}
    if answer.reason:
        plain["reason"] = answer.reason
    if answer.repaired:
        plain["repaired"] = True
    if answer.unaligned:
        plain["unaligned"] = list(answer.unaligned)
    return plain
