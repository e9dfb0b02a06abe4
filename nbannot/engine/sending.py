"""Sending: one request as often as it takes, within the budget, at the server's pace, each reply written down."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from nbannot.asking.answers import Answer, read_reply
from nbannot.asking.decisions import PLAIN, Reading, read_decisions, relabelled
from nbannot.asking.ledger import Ledger
from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.engine.job import Job, Progress, used_since
from nbannot.engine.pace import BudgetSpent, Halted, is_cancelled
from nbannot.engine.servers import Server, ServerGone, Servers
from nbannot.models.exchange import ACCOUNT, BROKE
from nbannot.models.keys import known_secrets, scrubbed
from nbannot.study.field import Field

ASK_AGAIN = {
    "reprompt": ("invalid", "refused"),
    "identical": ("invalid", "refused"),
    "temperature": ("invalid", "refused", "truncated"),
}
"""Retry strategy -> statuses that are asked again. What ran on to max_tokens runs on again unless it is warmer."""
SEND_TRIES = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
HOLD_AFTER = 8
"""Failures one after the other from which on every request waits, not only the one that failed."""
GONE_AFTER = 20
"""Failures one after the other from which on the server is gone; of half of all requests, one run in 2,000."""
PATIENT = frozenset({200, 402, 429, 529})
"""HTTP statuses of a server that is there: one without an answer, and those that ask for patience (529: Anthropic;
402, where it may be sent again: OpenRouter)."""
ABOUT_THE_TEXT = frozenset({400, 403, 406, 409, 411, 413, 414, 418, 422, 424, 431, 451})
"""HTTP statuses that say nothing about the next text; others speak of the server, the key, the address or the model."""
HTTP_STATUS = re.compile(r"HTTP (\d{3})\b")
LOOK_AGAIN_S = 1.0
UNANSWERED = "the server closed the connection without a reply; the request was sent again at once"
in_flight = attrgetter("in_flight")
SILENT_S = 120.0
"""A server that has not answered for so long is gone after fewer, `SEND_TRIES`: each may have been a time-out."""


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
        self.job, self.ledger, self.progress, self.kwh = job, ledger, progress, kwh
        self.servers = Servers(model, job.config.max_parallel, lambda: self._next_waiting(everyone=True))
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._before = replace(ledger.tally)
        self._secrets: Sequence[str] | None = None
        self._halted = ""
        self.batch: str | None = None
        self._unanswered = getattr(model, "unanswered_words", UNANSWERED)

    async def send(
        self, row: int, group: Sequence[Field], columns: tuple[str, ...], request: Request, attempt: int
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return the reply to a request, sent again while that may help, and what it answers."""
        number = 0
        tried: list[Server] = []
        while True:
            number += 1
            server = await self._place(tried)
            self._check_budget()
            sent = time.monotonic()
            self.progress.in_flight += 1
            server.in_flight += 1
            try:
                reply = await self._asked(server, request)
            finally:
                self.progress.in_flight -= 1
                server.in_flight -= 1
                self._next_waiting()
            came = time.monotonic()  # what is sent from now on was sent after this reply
            self.progress.calls += 1 + reply.unanswered
            self.progress.retries += reply.unanswered
            if reply.error is None and not self.job.config.budget:
                await _others_first()  # never after a failure: another model may be there by now
            reply, answers = self._written(row, group, columns, request, attempt, reply)
            if reply.error is None:
                server.answered(came)
                self._next_waiting()  # an answer may have made the pace faster
                break
            if reply.finish_reason != "context":
                self._count_failure(server, sent, reply)
            if not (reply.retriable or self._is_of_the_server(reply)):
                break
            server.pace.trouble(sent)
            if number >= SEND_TRIES:
                break
            self.progress.retries += 1
            self._hold(server, reply)
            tried.append(server)
            if any(other not in tried for other in self.servers.there):
                continue  # at once, elsewhere
            tried.clear()
            if reply.retry_after_s is None:
                await self._rest(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (number - 1)))
        return reply, answers

    def _is_of_the_server(self, reply: Reply) -> bool:
        """Return whether a failure, which sending again to one server would not mend, says nothing of the others."""
        known = reply.finish_reason == "context" or _is_about_the_text(reply)
        return self.servers.several and not known

    async def _asked(self, server: Server, request: Request) -> Reply:
        """Return the model's reply; whatever a backend raises over one request is the failure of this request."""
        try:
            reply = await server.model.ask(request)
            return reply if server.name is None else replace(reply, server=server.name)
        except ServerGone:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            given_up = "the model's backend gave the request up"
            return Reply(error=given_up, retriable=True, finish_reason="error", server=server.name)
        except Exception as error:  # noqa: BLE001 - a backend may be anybody's
            words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return Reply(
                error=f"the model's backend failed: {words}", finish_reason="error", server=server.name
            )

    def _written(
        self,
        row: int,
        group: Sequence[Field],
        columns: tuple[str, ...],
        request: Request,
        attempt: int,
        reply: Reply,
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return a reply without any key, and its answers, once both are in the ledger.

        What is asked for is read before keys are taken out: a short key may be a part of many words.
        """
        text = self.job.originals[row]
        answers = read_safely(group, text, reply, attempt, self.job.reading)
        clean = scrubbed(reply, self._known(), lambda: "\n".join(m["content"] for m in request.messages))
        if clean is not reply:
            masked = read_safely(group, text, clean, attempt, self.job.reading)
            closed = {f.column for f in group if f.type != "textbox"}
            answers = {
                column: answer if answer.status == "ok" and column in closed else masked[column]
                for column, answer in answers.items()
            }
        if reply.unanswered:
            lost = Reply(error=self._unanswered, retriable=True, finish_reason="error", server=reply.server)
            nothing = read_safely(group, text, lost, attempt)
            for _ in range(reply.unanswered):
                self._append(request, lost, row, columns, attempt, nothing)
        self._append(request, clean, row, columns, attempt, answers)
        return clean, answers

    def _append(
        self,
        request: Request,
        reply: Reply,
        row: int,
        columns: tuple[str, ...],
        attempt: int,
        answers: Mapping[str, Answer],
    ) -> None:
        self.ledger.append(
            request,
            reply,
            text_id=self.job.ids[row],
            columns=columns,
            attempt=attempt,
            repeat=self.job.config.repeat,
            answers=[_plain(answer) for answer in answers.values()],
            time=now(),
            batch=self.batch,
        )

    def _known(self) -> Sequence[str]:
        """Return every known key; looked for once, when the model is open."""
        if self._secrets is None:
            self._secrets = known_secrets()
        return self._secrets

    def halt(self, why: str) -> None:
        """Send nothing more; what is in flight is waited for. Called in the event loop."""
        self._halted = why
        for server in self.servers.each:
            server.resume_at = 0.0
        self._next_waiting(everyone=True)

    async def _rest(self, seconds: float) -> None:
        """Wait before a request is sent again, and leave its place in flight to another one meanwhile."""
        if is_cancelled():
            raise asyncio.CancelledError
        self.servers.resting += 1
        self.servers.changed()
        try:
            await asyncio.sleep(seconds * random.uniform(0.5, 1))
        finally:
            self.servers.resting -= 1

    def _minutes_left_s(self) -> float:
        """Return the seconds that a budget in minutes leaves."""
        return max(
            0.0, (self.job.config.budget or {}).get("minutes", math.inf) * 60 - self.progress.elapsed_s
        )

    def _check_budget(self) -> None:
        """Stop the run, cleanly, before a call that the budget does not allow, or after `halt`."""
        if self._halted:
            self._next_waiting(everyone=True)
            raise Halted(self._halted)
        if self.job.config.budget:
            spent = self.spent()
            over = [f"{name} {spent[name]:.6g} of {most:g}" for name, most in self.job.config.budget.items()
                    if spent[name] >= most]  # fmt: skip
            if over:
                self._next_waiting(everyone=True)
                raise BudgetSpent(f"the budget is spent: {', '.join(over)}")

    def spent(self) -> dict[str, float]:
        """Return what this session has used of everything that a budget can limit; kWh, slow to measure, if it does."""
        tokens, money = used_since(self._before, self.ledger.tally, self.job)
        return {
            "calls": self.progress.calls + self.progress.in_flight,
            "tokens": tokens,
            "money": money,
            "minutes": self.progress.elapsed_s / 60,
            "kwh": self.kwh() if "kwh" in (self.job.config.budget or {}) else 0.0,
        }

    def _hold(self, server: Server, reply: Reply) -> None:
        """Keep every request back for as long as its server asks, and for a while when it answers none."""
        wait = reply.retry_after_s or 0.0
        if _status(reply) in (429, 529) and not wait:
            wait = FIRST_WAIT_S * 2.0 ** min(max(server.failures - 1, 0), 3)
        if server.failures > HOLD_AFTER:
            wait = max(wait, FIRST_WAIT_S * 2.0 ** min(2, server.failures - HOLD_AFTER - 1))
        if wait:
            server.resume_at = max(server.resume_at, time.monotonic() + min(wait, LONGEST_WAIT_S))

    async def _place(self, tried: Sequence[Server]) -> Server:
        """Return the server that gets the next request, once it may be sent one and has a place.

        Raises
        ------
        ServerGone
            If none of several servers is there any more.
        """
        while True:
            if is_cancelled():
                raise asyncio.CancelledError
            now, there = time.monotonic(), self.servers.candidates(tried)
            free = [one for one in there if one.resume_at <= now and one.in_flight < one.pace.size]
            if free:
                return min(free, key=in_flight) if len(free) > 1 else free[0]
            if self.servers.gone:
                raise ServerGone(self.servers.gone)
            held = [one.resume_at - now for one in there]
            if all(left > 0 for left in held):
                left = min(held, default=LOOK_AGAIN_S)
                wait = left + random.random() * min(0.05, left)
                await asyncio.sleep(min(wait, self._minutes_left_s(), LOOK_AGAIN_S))
                self._check_budget()
            else:
                self._waiting.append(asyncio.get_running_loop().create_future())
                await self._waiting[-1]

    def _next_waiting(self, *, everyone: bool = False) -> None:
        """Let those who wait for a place look again: as many as there are places, or everyone."""
        free = self.servers.size - self.progress.in_flight
        while self._waiting and (free > 0 or everyone):
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                free -= 1

    def _count_failure(self, server: Server, sent: float, reply: Reply) -> None:
        """Count a failure unless it says nothing new, and give up when the server is gone.

        Requests that were in flight together fail together: they count as one, unless sending again cannot help. A
        request that was sent before the last answer came says nothing about the server after it. One that was refused
        for what it holds says nothing about the server at all, and a server that asks for patience, or answers
        without an answer, is there: it is gone only when it has done nothing else for long. One of several servers is
        left out instead, and soon; at a broken connection of whatever age, as another model may be there by now.
        """
        now, status = time.monotonic(), _status(reply)
        if _is_about_the_text(reply):
            return
        patient = status in PATIENT and reply.retriable
        new = sent >= server.answered_at or (reply.error or "").startswith(BROKE)
        if new and not patient and self.servers.is_too_much(server, silent=not status):
            self.servers.leave_out(server, reply.error or "")
        if sent < server.answered_at or (reply.retriable and sent < server.failed_at):
            return
        server.answered_at = server.answered_at or sent
        server.failures, server.failed_at = server.failures + 1, now
        silent = server.failures >= SEND_TRIES and now - server.answered_at > SILENT_S
        if silent or (server.failures >= GONE_AFTER and not patient):
            if self.servers.several:
                self.servers.leave_out(server, reply.error or "")
                return
            closed = reply.finish_reason == ACCOUNT
            who = "the provider has refused this account" if closed else "the model has not answered"
            raise ServerGone(f"{who} {server.failures} times in a row; last: {reply.error}")


def read_safely(
    group: Sequence[Field], text: str, reply: Reply, attempt: int, reading: Reading = PLAIN
) -> dict[str, Answer]:
    """Return what a reply answers; one that cannot be read at all is an invalid answer, and stops nothing.

    Parameters
    ----------
    reading
        How probabilities become labels.
    """
    try:
        if reply.error is None and reply.decisions is not None:
            return read_decisions(group, reply.decisions, reading, attempt)
        answers = read_reply(group, text, reply, attempt)
        return {f.column: relabelled(f, answers[f.column], reading) for f in group}
    except Exception as error:  # noqa: BLE001 - one reply must not end a run
        reason = f"the reply could not be read: {type(error).__name__}"
        return {f.column: Answer(f.column, "invalid", reason=reason, attempt=attempt) for f in group}


async def _others_first() -> None:
    """Let the requests that were waiting for a place leave before a reply is read and written down.

    A cancellation that comes meanwhile takes effect afterwards (`is_cancelled`): the reply has been paid.
    """
    for _ in range(2):  # the request is made in the first round; aiohttp writes it in the second
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


def _is_about_the_text(reply: Reply) -> bool:
    """Return whether a failure says nothing about the next text."""
    return _status(reply) in ABOUT_THE_TEXT and reply.finish_reason != ACCOUNT


def _status(reply: Reply) -> int:
    """Return the HTTP status of a failure, 0 where there was none."""
    match = HTTP_STATUS.match(reply.error or "")
    return int(match[1]) if match else 0


def now() -> str:
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
