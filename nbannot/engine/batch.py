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
import contextlib
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from nbannot.asking.answers import Answer
from nbannot.asking.batch_lines import SentBatch, batches_in, request_name
from nbannot.asking.ledger import Ledger
from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.engine.job import Job, Progress
from nbannot.engine.pace import BudgetSpent, Halted
from nbannot.engine.sending import ASK_AGAIN, Sender, now, read_safely
from nbannot.models.addresses import served_from
from nbannot.models.batch_offers import offer_of
from nbannot.models.batch_service import BatchLook, BatchService, CannotTell, line_of
from nbannot.models.dialect import REFUSED
from nbannot.models.endings import is_refused
from nbannot.models.exchange import Exchange
from nbannot.study.field import Field
from nbannot.tools.json_bytes import unpacked

FIRST_LOOK_S, LONGEST_LOOK_S = 5.0, 60.0
LATE_S = 60.0
"""How long after a broken submission a batch may still appear at the provider."""
SUBMIT_TRIES = 4
LESSONS = 8
"""How often a request is submitted in one session because each refusal taught something."""
REQUEST_TRIES = 3
"""How often a request is submitted in one session where the provider says that trying again may help."""


MARK = 12
"""Characters of a batch's own mark, with which the names of its requests begin."""


class Parked(Exception):
    """The answer comes later: the request is with a provider, or about to be."""


class BatchesOut(Halted):
    """Requests are with the provider, and their answers come later."""

    def __init__(self, words: str, out: int) -> None:
        super().__init__(words)
        self.out = out


@dataclass
class Part:
    """A file of requests that is filled: one batch to be."""

    mark: str
    path: Path
    file: IO[bytes]
    names: list[str] = field(default_factory=list)
    size: int = 0


class BatchSender(Sender):
    """Collects requests instead of sending them, and hands out the results that have come.

    Attributes
    ----------
    out
        Name of a request -> mark of the batch that it is in.
    left
        Names of requests that a batch brought back unanswered: another session submits them again.
    """

    def __init__(
        self, job: Job, model: Model, ledger: Ledger, progress: Progress, kwh: Callable[[], float]
    ) -> None:
        super().__init__(job, model, ledger, progress, kwh)
        self.service: BatchService = model.batches()  # type: ignore[attr-defined]
        self.address = self.service.pool.address
        self.batches = batches_in(ledger.notes)
        self.out = {n: b.mark for b in self.batches.values() if b.is_out for n in b.names}
        if self.out:  # a session that was killed in the middle may have taken a part of the results
            for (text_id, columns, attempt), record in ledger.answered.items():
                self.out.pop(request_name(text_id, columns, attempt, str(record.get("messages_hash"))), None)
        self.left: set[str] = set()
        self.why_left: list[str] = []
        self._parts: list[Part] = []
        self._waiting_names: set[str] = set()
        self._results: dict[str, tuple[str, IO[bytes], int]] = {}
        self._done: set[str] = set()
        self._kept: dict[str, Reply] = {}
        self._tries: Counter[str] = Counter()
        self._lessons: Counter[str] = Counter()
        self._learned = 0
        self._learned_before: dict[str, int] = {}
        self._bound = {"calls": 0.0, "tokens": 0.0, "money": 0.0}
        self.over = ""

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
        if name in self._results:
            taken = self._taken(name, row, group, columns, request, attempt)
            if taken is not None:
                return taken
        elif name in self.out or name in self.left or name in self._waiting_names:
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
        mark, file, place = self._results.pop(name)
        self.out.pop(name, None)
        file.seek(place)
        _, exchange = self.service.read(unpacked(file.readline()))
        if exchange is None:
            self.left.add(name)
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
        if self._learned > self._learned_before.get(mark, 0):
            return True
        learned = self.service.learn(request, exchange)
        self._learned += learned
        return learned

    def _collect(self, name: str, request: Request) -> None:
        """Put a request among those of the next wave, as far as the budget allows."""
        line = self.service.line(name, request)
        size = len(line) + MARK + 2
        if not self._within_budget(size, request.max_tokens):
            return
        before, between, after = self.service.frame
        part = self._parts[-1] if self._parts else None
        room = self.service.size - len(before) - len(after)
        if part is None or len(part.names) >= self.service.requests or part.size + size > room:
            handle, path = tempfile.mkstemp(prefix=f".{self.ledger.path.name}.", dir=self.ledger.path.parent)
            part = Part(secrets.token_hex(MARK // 2), Path(path), os.fdopen(handle, "wb"))
            self._parts.append(part)
            part.file.write(before)
        elif part.names:
            part.file.write(between)
        part.file.write(line.replace(name.encode(), f"{part.mark}-{name}".encode(), 1))
        part.names.append(name)
        part.size += size
        self._waiting_names.add(name)

    def _within_budget(self, size: int, max_tokens: int) -> bool:
        """Return whether one more request keeps the budget, whatever it takes: a byte a token, the longest reply."""
        budget, prices = self.job.config.budget or {}, self.job.config.prices or {}
        if not budget:
            return True
        share = offer_of(self.address).price or 1.0
        cost = size * prices.get("input", 0.0) + max_tokens * prices.get("output", 0.0)
        more = {"calls": 1.0, "tokens": float(size + max_tokens), "money": share * cost / 1e6}
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

    # ---- batches ------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Find out what became of batches whose submission was broken off, before anything is submitted."""
        for batch in list(self.batches.values()):
            if batch.state == "intended":
                await self._recovered(batch)

    async def _recovered(self, batch: SentBatch) -> bool:
        """Return whether a batch is known to be out, or not to be; else it stays as it is."""
        known = {b.provider_id for b in self.batches.values() if b.provider_id}
        late = datetime.fromisoformat(batch.intended) + timedelta(seconds=LATE_S)
        try:
            found = await self.service.find(batch, known)
            if not found and (wait := (late - datetime.now(UTC)).total_seconds()) > 0:
                await asyncio.sleep(min(wait, LATE_S))
                found = await self.service.find(batch, known)
        except CannotTell as why:
            self.progress.message = str(why)
            return False
        self._step(batch, **({"state": "out", "id": found} if found else {"state": "withdrawn"}))
        if not found:
            self._freed(batch)
        return True

    def _step(self, batch: SentBatch, **step: Any) -> None:
        """Write a step of a batch down, for good."""
        line = {"batch": batch.mark, **step, "time": now()}
        self.ledger.note(for_good=True, **line)
        batch.took(line)

    def _freed(self, batch: SentBatch) -> None:
        for name in batch.names:
            if self.out.get(name) == batch.mark:
                del self.out[name]

    async def collect(self) -> dict[str, tuple[SentBatch, BatchLook, IO[bytes]]]:
        """Return the batches that have ended, their results fetched and ready to be taken."""
        ended: dict[str, tuple[SentBatch, BatchLook, IO[bytes]]] = {}
        for batch in list(self.batches.values()):
            if batch.state == "intended" and not await self._recovered(batch):
                continue
            if batch.state != "out":
                continue
            look = await self.service.look(batch.provider_id)
            if look.state == "unknown":
                self.progress.message = (
                    f"{served_from(self.address)} does not say how the batch stands: {look.words}"
                )
            if look.state not in ("ended", "gone"):
                continue
            file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed when its results have been taken
                prefix=f".{self.ledger.path.name}.", dir=self.ledger.path.parent
            )
            fetched = await self.service.fetch(look, file) if look.results else Exchange(200)
            if fetched.error is not None and fetched.status not in (404, 410):
                self.progress.message = f"the results cannot be fetched: {line_of(fetched)}"
                file.close()
                continue
            if fetched.error is not None:
                look = replace(look, state="gone", outcome="gone", words=line_of(fetched))
            self._index(batch, file)
            ended[batch.mark] = batch, look, file
        return ended

    def _index(self, batch: SentBatch, file: IO[bytes]) -> None:
        """Remember where in a file of results each request has its own; an answer goes before an error."""
        names, good = set(batch.names), set()
        place = 0
        file.seek(0)
        for line in file:
            start, place = place, place + len(line)
            if not line.strip():
                continue
            try:
                full, exchange = self.service.read(unpacked(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # no line of a result
            mark, _, name = full.partition("-")
            if mark != batch.mark or name not in names or name in good or self.out.get(name) != batch.mark:
                continue
            self._results[name] = batch.mark, file, start
            if exchange is not None and exchange.error is None:
                good.add(name)

    def settle(self, ended: dict[str, tuple[SentBatch, BatchLook, IO[bytes]]]) -> None:
        """Write down the end of batches whose results have been taken."""
        for batch, look, file in ended.values():
            unread = [name for name in batch.names if self._results.get(name, ("",))[0] == batch.mark]
            for name in unread:  # of questions that are no longer asked
                del self._results[name]
                self.out.pop(name, None)
            missing = [name for name in batch.names if self.out.get(name) == batch.mark]
            self.left.update(missing)
            n_left = len(self.left.intersection(batch.names))
            if n_left:
                words = f" ({look.words})" if look.words else ""
                self.why_left.append(
                    f"{n_left:,} came back unanswered from a batch that {_ended(look)}{words}"
                )
            self._step(batch, state="ended", outcome=look.outcome, answered=len(batch.names) - n_left,
                       **({"unread": len(unread)} if unread else {}))  # fmt: skip
            self._freed(batch)
            file.close()

    async def submit(self) -> None:
        """Submit what has been collected, a batch for each file.

        Raises
        ------
        BatchesOut
            If the provider does not take it.
        """
        parts, self._parts = self._parts, []
        try:
            for part in parts:
                part.file.write(self.service.frame[2])
                part.file.close()
                await self._submitted(part)
        finally:
            self._waiting_names.clear()
            for part in parts:
                part.file.close()
                with contextlib.suppress(OSError):
                    part.path.unlink()

    async def _submitted(self, part: Part) -> None:
        mark = part.mark
        self._learned_before[mark] = self._learned
        for number in range(1, SUBMIT_TRIES + 1):
            batch = SentBatch(mark, tuple(part.names), served_from(self.address), intended=now())
            self.ledger.note(
                for_good=True, batch=mark, state="intended", time=batch.intended, where=batch.where, names=part.names
            )  # fmt: skip
            self.batches[mark] = batch
            self.out.update(dict.fromkeys(part.names, mark))
            provider_id, made = await self.service.submit(
                batch, part.path, lambda batch=batch, **step: self._step(batch, **step)
            )
            if provider_id:
                self._step(batch, state="out", id=provider_id)
                return
            if 400 <= made.status < 500 or (made.status and not made.retriable):
                self._step(batch, state="withdrawn")  # the provider has said no
                self._freed(batch)
            elif not await self._recovered(batch) or batch.state == "out":
                return  # it is out, or it cannot be told: the next session looks again
            if not made.retriable or number == SUBMIT_TRIES:
                raise BatchesOut(
                    f"{served_from(self.address)} does not take the batch of {len(part.names):,} requests: "
                    f"{line_of(made)}",
                    self.n_out,
                )
            wait = made.retry_after_s
            await self.nap(2.0 ** (number - 1) if wait is None else wait)

    def drop(self) -> None:
        """Remove what was collected and not submitted."""
        for part in self._parts:
            part.file.close()
            with contextlib.suppress(OSError):
                part.path.unlink()
        self._parts = []

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

    @property
    def n_out(self) -> int:
        """How many requests are with the provider."""
        return len(self.out)

    def words(self) -> str:
        """Return what is out, and what came back unanswered, and how to go on."""
        said = []
        if self.out:
            marks = set(self.out.values())
            batches = "1 batch" if len(marks) == 1 else f"{len(marks)} batches"
            said.append(
                f"{len(self.out):,} requests are out in {batches} with {served_from(self.address)}; the labels come "
                "later: run the same again to collect them (nbannot batches lists what is out)"
            )
        said += self.why_left
        if self.left:
            said.append("the same run submits them again")
        return "; ".join(said)


def _ended(look: BatchLook) -> str:
    return {"completed": "is complete", "gone": "the provider no longer has"}.get(
        look.outcome, look.outcome or "ended"
    )


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
        await sender.recover()
        pause, until, first = FIRST_LOOK_S, time.monotonic() + wait_s, True
        while True:
            ended = await sender.collect()
            if ended or first:
                first = False
                await one_pass()
                sender.settle(ended)
                sender.check_halted()
                await sender.submit()
                pause = FIRST_LOOK_S
            if sender.over:
                raise BudgetSpent(f"the budget allows no more requests: {sender.over} at most")
            if not sender.out:
                break
            left = until - time.monotonic()
            if left <= 0:
                break
            engine.progress.message = sender.words()
            await sender.nap(min(pause, left))
            pause = min(LONGEST_LOOK_S, pause * 1.5)
        if sender.out or sender.left:
            raise BatchesOut(sender.words(), sender.n_out)
    finally:
        sender.drop()
        await sender.service.pool.close()
