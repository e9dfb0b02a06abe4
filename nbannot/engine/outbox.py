"""The batches of a run at its provider: found again, looked at, fetched, settled, submitted, noted in the ledger."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from nbannot.asking.batch_lines import SentBatch, batches_in, request_name
from nbannot.asking.ledger import Ledger
from nbannot.engine.batch_parts import LEAST_QUEUED, MARK, QUEUE_IS_FULL, Part, is_too_large
from nbannot.engine.job import Progress
from nbannot.engine.pace import Halted
from nbannot.engine.sending import now
from nbannot.models.batch_service import BatchLook, BatchService, CannotTell, line_of
from nbannot.models.exchange import Exchange
from nbannot.tools.json_bytes import unpacked

LATE_S = 60.0
"""How long after a broken submission a batch may still appear at the provider."""
GONE_S = 3_600.0
"""How long a provider has to say that it does not have a batch, or its results, until that is believed: one that has
just made them may not find them for a while, and what is believed to be gone is submitted, and paid for, again."""
SUBMIT_TRIES = 4
FETCHES = 2
"""How often results are fetched that are fewer than the provider counts."""


class BatchesOut(Halted):
    """Requests are with the provider and their answers come later, or it does not take them."""


@dataclass
class Fetched:
    """The results of a batch in a file: how many requests have one, and how many of them an answer."""

    look: BatchLook
    file: IO[bytes]
    results: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether there are as many as the provider counts."""
        lines, answers = self.results
        return self.look.state == "gone" or (
            lines >= (self.look.lines or 0) and answers >= (self.look.answers or 0)
        )


class Outbox:
    """What has been submitted, and what is about to be.

    Attributes
    ----------
    out
        Name of a request -> mark of the batch that it is in.
    left
        Names of requests that a batch brought back unanswered: another session submits them again.
    results
        Name of a request -> mark of its batch, the file of results, and the place in it.
    waiting
        Names of requests that are collected for the next batch.
    not_found
        What to say of batches that the provider does not find for now, or of which it sends only a part.
    learned
        How many refusals have taught what to leave out.
    most
        Requests of a batch at most: as the provider says, or as it has shown.
    learned_before
        Mark of a batch of this session -> how many had when it was submitted.
    """

    def __init__(self, service: BatchService, ledger: Ledger, progress: Progress) -> None:
        self.service, self.ledger, self.progress = service, ledger, progress
        self.address = service.pool.address
        self.batches = batches_in(ledger.notes)
        self.out = {n: b.mark for b in self.batches.values() if b.is_out for n in b.names}
        if self.out:  # a session that was killed in the middle may have taken a part of the results
            for (text_id, columns, attempt), record in ledger.answered.items():
                self.out.pop(request_name(text_id, columns, attempt, str(record.get("messages_hash"))), None)
        self.left: set[str] = set()
        self.why_left: list[str] = []
        self.not_found: dict[str, str] = {}
        self.results: dict[str, tuple[str, IO[bytes], int]] = {}
        self.waiting: set[str] = set()
        self.learned = 0
        self.learned_before: dict[str, int] = {}
        self._parts: list[Part] = []
        steps = [line for line in ledger.notes if "batch" in line]
        self.most = min([service.requests, *(line["most"] for line in steps if line.get("most"))])
        for line in steps:
            if isinstance(line.get("lessons"), dict):
                service.recall(line["lessons"])

    def add(self, name: str, line: bytes) -> None:
        """Put a request among those of the next batch."""
        size = len(line) + MARK + 3
        part = self._parts[-1] if self._parts else None
        room = self.service.size - len(self.service.frame[0]) - len(self.service.frame[2])
        if part is None or len(part.names) >= self.most or part.size + size > room:
            part = Part.beside(self.ledger.path, self.service)
            self._parts.append(part)
        part.add(name, line.replace(name.encode(), f"{part.mark}-{name}".encode(), 1), self.service)
        self.waiting.add(name)

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
            look = await self.service.look(batch)
            if look.words and look.outcome == "gone" and not self._is_missing_for_long(batch, look.words):
                continue
            if look.state == "unknown":
                self.progress.message = (
                    f"{self.service.where} does not say how the batch stands: {look.words}"
                )
            if look.state not in ("ended", "gone"):
                continue
            best: Fetched | None = None
            for _ in range(FETCHES):
                fetched = await self._fetched(batch, look)
                if fetched is not None and (best is None or fetched.results > best.results):
                    best, fetched = fetched, best
                if fetched is not None:
                    fetched.file.close()
                if best is not None and best.is_whole:
                    break
            if best is None:
                continue
            self._index(batch, best.file)
            whole = best.is_whole
            ended[batch.mark] = batch, best.look if whole else replace(best.look, state="working"), best.file
            self.not_found.pop(batch.mark, None)
            if not whole:
                lines, answers = best.results
                self.not_found[batch.mark] = self._part_only(batch, best.look, lines, answers)
                if batch.sent != lines:
                    self._step(batch, state="short", sent=lines)
        return ended

    async def _fetched(self, batch: SentBatch, look: BatchLook) -> Fetched | None:
        """Return the results of a batch in a file, and how it stands; ``None`` if they are not to be had for now."""
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed when its results have been taken
            prefix=f".{self.ledger.path.name}.", dir=self.ledger.path.parent
        )
        fetched = await self.service.fetch(look, file) if look.results else Exchange(200)
        if fetched.error is None:
            return Fetched(look, file, self._index(batch, file))
        if fetched.status not in (404, 410):
            self.progress.message = f"the results cannot be fetched: {line_of(fetched)}"
        elif self._is_missing_for_long(batch, line_of(fetched)):
            gone = replace(look, state="gone", outcome="gone", words=line_of(fetched))
            return Fetched(gone, file, (0, 0))
        file.close()
        return None

    def _part_only(self, batch: SentBatch, look: BatchLook, lines: int, answers: int) -> str:
        """Return what to say of results that are fewer than the provider says there are."""
        if lines < (look.lines or 0):
            counts = f"{look.lines:,} results of the batch {batch.provider_id}, and sends {lines:,}"
        else:
            counts = f"{look.answers:,} answers of the batch {batch.provider_id}, and sends {answers:,}"
        return (
            f"{self.service.where} counts {counts}: the others stay with it, as they may be answered and paid for. "
            "Run the same again later; if the provider's own page has no more of them either, "
            'retry = "failed" with delivery = "now" asks them again'
        )

    def _is_missing_for_long(self, batch: SentBatch, words: str) -> bool:
        """Return whether a provider has long said that it does not have something; the first time is written down."""
        if not batch.missing:
            self._step(batch, state="missing")
        since = datetime.now(UTC) - datetime.fromisoformat(batch.missing)
        if since >= timedelta(seconds=GONE_S):
            self.not_found.pop(batch.mark, None)
            return True
        self.not_found[batch.mark] = (
            f"{self.service.where} does not find the batch {batch.provider_id} or its results ({words}); if it says so "
            f"{GONE_S / 60:.0f} minutes after the first time, they are taken to be gone"
        )
        return False

    def _index(self, batch: SentBatch, file: IO[bytes]) -> tuple[int, int]:
        """Remember where in a file of results each request has its own; an answer goes before an error.

        Return how many requests have a result, and how many an answer, also of those that were taken before.
        """
        names, seen, good = set(batch.names), set(), set()
        for name in [name for name, (mark, *_) in self.results.items() if mark == batch.mark]:
            del self.results[name]  # of a file that is not used
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
            if mark != batch.mark or name not in names or name in good:
                continue
            seen.add(name)
            if exchange is not None and exchange.error is None:
                good.add(name)
            if self.out.get(name) == batch.mark:
                self.results[name] = batch.mark, file, start
        return len(seen), len(good)

    def settle(self, ended: dict[str, tuple[SentBatch, BatchLook, IO[bytes]]]) -> None:
        """Write down the end of batches whose results have been taken."""
        for batch, look, file in ended.values():
            unread = [name for name in batch.names if self.results.get(name, ("",))[0] == batch.mark]
            for name in unread:  # of questions that are no longer asked
                del self.results[name]
                self.out.pop(name, None)
            if look.state == "working":  # a part of its results: the rest is still to come
                file.close()
                continue
            missing = [name for name in batch.names if self.out.get(name) == batch.mark]
            self.left.update(missing)
            n_left = len(self.left.intersection(batch.names))
            if n_left:
                words = f" ({look.words})" if look.words else ""
                self.why_left.append(
                    f"{n_left:,} came back unanswered from a batch that {_ended(look)}{words}"
                )
            further: dict[str, Any] = {"unread": len(unread)} if unread else {}
            if self.learned:
                further["lessons"] = self.service.lessons()
            if look.outcome == "failed" and n_left > LEAST_QUEUED and QUEUE_IS_FULL.search(look.words):
                self.most = min(self.most, max(LEAST_QUEUED, -(-len(batch.names) // 2)))
                further["most"] = self.most
                self.why_left[-1] += f"; the next batches hold at most {self.most:,}"
            self._step(
                batch, state="ended", outcome=look.outcome, answered=len(batch.names) - n_left, **further
            )
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
            while parts:
                part = parts[0]
                part.close(self.service)
                halves = await self._submitted(part)
                parts[:1] = halves
                part.drop()
        finally:
            self.waiting.clear()
            for part in parts:
                part.drop()

    async def _submitted(self, part: Part) -> list[Part]:
        """Submit a file; return two halves of it where the provider finds it too large."""
        mark = part.mark
        self.learned_before[mark] = self.learned
        for number in range(1, SUBMIT_TRIES + 1):
            batch = SentBatch(mark, tuple(part.names), self.service.where, intended=now())
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
                return []
            smaller = len(part.names) > 1 and is_too_large(made)
            if 400 <= made.status < 500 or (made.status and not made.retriable):
                self.most = min(self.most, -(-len(part.names) // 2)) if smaller else self.most
                self._step(
                    batch, state="withdrawn", **({"most": self.most} if smaller else {})
                )  # it has said no
                self._freed(batch)
                if smaller:
                    return part.halves(self.ledger.path, self.service)
            elif not await self._recovered(batch) or batch.state == "out":
                return []  # it is out, or it cannot be told: the next session looks again
            if not made.retriable or number == SUBMIT_TRIES:
                raise BatchesOut(
                    f"{self.service.where} does not take the batch of {len(part.names):,} requests: "
                    f"{line_of(made)}"
                )
            wait = made.retry_after_s
            await asyncio.sleep(2.0 ** (number - 1) if wait is None else wait)
        return []

    def drop(self) -> None:
        """Remove what was collected and not submitted."""
        for part in self._parts:
            part.drop()
        self._parts = []

    def words(self) -> str:
        """Return what is out, and what came back unanswered, and how to go on."""
        said = []
        if self.out:
            marks = set(self.out.values())
            batches = "1 batch" if len(marks) == 1 else f"{len(marks)} batches"
            said.append(
                f"{len(self.out):,} requests are out in {batches} with {self.service.where}; the labels come "
                "later: run the same again to collect them (nbannot batches lists what is out)"
            )
            if how := self.service.how(sorted(marks)):
                said.append(how)
        said += self.not_found.values()
        said += self.why_left
        if self.left:
            said.append("the same run submits them again")
        return "; ".join(said)


def _ended(look: BatchLook) -> str:
    return {"completed": "is complete", "gone": "the provider no longer has"}.get(
        look.outcome, look.outcome or "ended"
    )
