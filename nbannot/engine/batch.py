"""Delivery by batch: requests are collected in waves, submitted, and answered whenever the provider has them ready.

A wave holds every request that can be made by now: a question that depends on another one, and what follows from a
calibration, is in the wave after it. A pass over the open questions takes the results that are there, writes them into
the ledger by the same code as any reply, and collects what can be asked next; whatever is with the provider is passed
over. So a later session, in another process or on another machine, does the same as the one that submitted.

Nothing is submitted twice: the names of a batch's requests are in the ledger before it is submitted. Where a session
ended between that line and the next one, the provider is asked what became of it before anything else is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbannot.asking.answers import Answer
from nbannot.asking.batch_lines import request_name
from nbannot.asking.ledger import Ledger
from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.engine.job import Job, Progress
from nbannot.engine.outbox import BatchesOut, Outbox
from nbannot.engine.pace import BudgetSpent, Halted
from nbannot.engine.sending import ASK_AGAIN, Sender, read_safely
from nbannot.models.batch_service import BatchService
from nbannot.models.dialect import REFUSED
from nbannot.models.endings import is_refused
from nbannot.models.exchange import Exchange
from nbannot.study.field import Field
from nbannot.tools.json_bytes import unpacked

FIRST_LOOK_S, LONGEST_LOOK_S = 5.0, 60.0
LESSONS = 8
"""How often a request is submitted in one session because each refusal taught something."""
REQUEST_TRIES = 3
"""How often a request is submitted in one session where the provider says that trying again may help."""


class Parked(Exception):
    """The answer comes later: the request is with a provider, or about to be."""


class BatchSender(Sender):
    """Collects requests instead of sending them, and hands out the results that have come.

    Attributes
    ----------
    over
        What of the budget would be exceeded by the next request; "" while none is.
    """

    def __init__(
        self, job: Job, model: Model, ledger: Ledger, progress: Progress, kwh: Callable[[], float]
    ) -> None:
        super().__init__(job, model, ledger, progress, kwh)
        self.service: BatchService = _service(model, job.config.delivery, ledger.path.parent)
        self.outbox = Outbox(self.service, ledger, progress)
        self.over = ""
        self._done: set[str] = set()
        self._kept: dict[str, Reply] = {}
        self._tries: Counter[str] = Counter()
        self._lessons: Counter[str] = Counter()
        self._bound = {"calls": 0.0, "tokens": 0.0, "money": 0.0}

    # ---- one request --------------------------------------------------------------------------------------------

    async def send(
        self, row: int, group: Sequence[Field], columns: tuple[str, ...], request: Request, attempt: int
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return the reply to a request if a batch has brought it.

        Raises
        ------
        Parked
            If it is in a batch, or will be in the next one.
        """
        name = request_name(self.job.ids[row], columns, attempt, request.messages)
        if (kept := self._kept.get(name)) is not None:
            return kept, read_safely(group, self.job.originals[row], kept, attempt, self.job.reading)
        if name in self.outbox.results:
            taken = self._taken(name, row, group, columns, request, attempt)
            if taken is not None:
                return taken
        elif name in self.outbox.out or name in self.outbox.left or name in self.outbox.waiting:
            raise Parked
        if name in self._done:
            raise RuntimeError(f"a request of text {self.job.ids[row]} would be submitted twice")
        self._collect(name, request)
        raise Parked

    def _taken(
        self,
        name: str,
        row: int,
        group: Sequence[Field],
        columns: tuple[str, ...],
        request: Request,
        attempt: int,
    ) -> tuple[Reply, dict[str, Answer]] | None:
        """Return the result that a batch brought, once it is in the ledger; ``None`` if it is to be sent again."""
        mark, file, place = self.outbox.results.pop(name)
        self.outbox.out.pop(name, None)
        file.seek(place)
        _, exchange = self.service.read(unpacked(file.readline()))
        if exchange is None:
            self.outbox.left.add(name)
            raise Parked
        if (
            exchange.error is not None
            and self._taught(mark, request, exchange)
            and self._lessons[name] < LESSONS
        ):
            self._lessons[name] += 1
            return None
        self.batch = mark
        reply, answers = self._written(
            row, group, columns, request, attempt, replace(self.service.reply(request, exchange), seconds=0.0)
        )
        self.progress.calls += 1
        self._tries[name] += 1
        if reply.error is not None and reply.retriable and self._tries[name] < REQUEST_TRIES:
            self.progress.retries += 1
            return None
        self._done.add(name)
        asked_again = any(a.status in ASK_AGAIN[self.job.config.retry_strategy] for a in answers.values())
        if asked_again or self.job.config.chat_mode != "per_query":
            self._kept[name] = reply
        return reply, answers

    def _taught(self, mark: str, request: Request, exchange: Exchange) -> bool:
        """Return whether a refusal taught what to leave out: now, or one of the same batch before it."""
        if exchange.status not in REFUSED or is_refused(self.service.reply(request, exchange)):
            return False
        if self.outbox.learned > self.outbox.learned_before.get(mark, 0):
            return True
        learned = self.service.learn(request, exchange)
        self.outbox.learned += learned
        return learned

    def _collect(self, name: str, request: Request) -> None:
        """Put a request among those of the next wave, as far as the budget allows."""
        line = self.service.line(name, request)
        if self._within_budget(len(line), request.max_tokens):
            self.outbox.add(name, line)

    def _within_budget(self, size: int, max_tokens: int) -> bool:
        """Return whether one more request keeps the budget, whatever it takes: a byte a token, the longest reply."""
        budget, prices = self.job.config.budget or {}, self.job.prices
        if not budget:
            return True
        cost = (prices.batch or prices).at_most(size, max_tokens, size) if prices else 0.0
        more = {"calls": 1.0, "tokens": float(size + max_tokens), "money": cost}
        then = {name: self._bound[name] + more[name] for name in more}
        if self.progress.elapsed_s / 60 >= budget.get("minutes", float("inf")):
            self.over = f"minutes {budget['minutes']:g}"
        over = [
            f"{name} {then[name]:.6g} of {budget[name]:g}"
            for name in then
            if then[name] > budget.get(name, 1e300)
        ]
        if over:
            self.over = ", ".join(over)
        if self.over:
            return False
        self._bound = then
        return True

    async def nap(self, seconds: float) -> None:
        """Wait, unless the work is halted meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check_halted()
            await asyncio.sleep(min(left, 1.0))

    def check_halted(self) -> None:
        """Raise if the work was halted."""
        if self._halted:
            raise Halted(self._halted)


def _service(model: Any, delivery: str, folder: Path) -> BatchService:
    """Return the batches of a model: its provider's, or files in the folder of the run."""
    if delivery == "file":
        from nbannot.models.batch_local import LocalBatches

        return LocalBatches(model, folder)
    batches: BatchService = model.batches()
    return batches


async def deliver(engine: Any, sender: BatchSender, one_pass: Callable[[], Any]) -> None:
    """Do the work in waves, for as long as this session may wait.

    Parameters
    ----------
    one_pass
        Asks every open question once: those without an answer yet are kept for the next pass.

    Raises
    ------
    BatchesOut
        If requests are still with the provider, or came back unanswered.
    BudgetSpent
        If the budget does not allow the rest.
    """
    wait_s = engine.job.config.batch_wait * 60
    await sender.service.pool.open()
    try:
        await sender.outbox.recover()
        pause, until, first = FIRST_LOOK_S, time.monotonic() + wait_s, True
        while True:
            ended = await sender.outbox.collect()
            if ended or first:
                first = False
                await one_pass()
                sender.outbox.settle(ended)
                sender.check_halted()
                await sender.outbox.submit()
                pause = FIRST_LOOK_S
            if sender.over:
                raise BudgetSpent(f"the budget allows no more requests: {sender.over} at most")
            if not sender.outbox.out:
                break
            left = until - time.monotonic()
            if left <= 0:
                break
            engine.progress.message = sender.outbox.words()
            await sender.nap(min(pause, left))
            pause = min(LONGEST_LOOK_S, pause * 1.5)
        if sender.outbox.out or sender.outbox.left:
            raise BatchesOut(sender.outbox.words())
    finally:
        sender.outbox.drop()
        await sender.service.pool.close()
