"""What a provider's batches are to the engine: submitted, looked at, found again, fetched and read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from nbannot.asking.batch_lines import SentBatch
from nbannot.asking.request_reply import Reply, Request
from nbannot.errors import NbannotError
from nbannot.models.exchange import WORDS, Exchange
from nbannot.models.keys import masked

if TYPE_CHECKING:
    from nbannot.models.http import (
        Pool,  # aiohttp takes a while to load, and no model of this process needs it
    )

TRANSFER_S = 3_600.0
"""Longest time for one file on its way."""
PAGES = 200
"""Most pages of a list of batches that are read."""

Note = Callable[..., None]
"""Writes a step of a batch down, in the ledger."""


class CannotTell(NbannotError):
    """Whether a batch was submitted cannot be told, or not yet."""


@dataclass(frozen=True, slots=True)
class BatchLook:
    """How a batch stands.

    Attributes
    ----------
    state
        ``"gone"``: the provider no longer has it, or its results; ``"unknown"``: it did not say.
    outcome
        Of one that has ended: ``completed``, ``expired``, ``cancelled``, ``failed``.
    words
        What the provider says went wrong.
    results
        Paths of its results.
    lines, answers
        How many results, and how many answers among them, there must be at least by what the provider says; ``None``
        where it says nothing. Fewer than that are a part of the results.
    """

    state: Literal["working", "ended", "gone", "unknown"]
    outcome: str = ""
    words: str = ""
    results: tuple[str, ...] = ()
    lines: int | None = None
    answers: int | None = None


class BatchService(Protocol):
    """The batches of one model at one provider.

    Attributes
    ----------
    requests, size
        Most requests and bytes of one batch.
    where
        Where it is, for people.
    frame
        What stands before, between and behind the requests in what is uploaded.
    """

    pool: Pool
    where: str
    requests: int
    size: int
    frame: tuple[bytes, bytes, bytes]

    def line(self, name: str, request: Request) -> bytes:
        """Return a request as it stands in a batch, under this name."""

    async def submit(self, batch: SentBatch, upload: Path, note: Note) -> tuple[str, Exchange]:
        """Submit a batch; return the provider's name for it, or "", and how it went.

        Parameters
        ----------
        upload
            The file with its requests.
        note
            Called with each step that is to be written down before the next one.
        """

    async def find(self, batch: SentBatch, known: Collection[str]) -> str:
        """Return the provider's name for a batch whose submission was broken off; "" if it was never submitted.

        Parameters
        ----------
        known
            The provider's names of batches that are others of ours.

        Raises
        ------
        CannotTell
            If that cannot be told, or not yet.
        """

    async def look(self, batch: SentBatch) -> BatchLook:
        """Return how a batch stands."""

    async def fetch(self, look: BatchLook, to: IO[bytes]) -> Exchange:
        """Write the results of a batch, one per line, into a file."""

    def read(self, line: dict[str, Any]) -> tuple[str, Exchange | None]:
        """Return the name of a request and how it went; ``None`` if it was not tried."""

    def reply(self, request: Request, exchange: Exchange) -> Reply:
        """Return the reply to a request, as if it had been sent by itself."""

    def learn(self, request: Request, exchange: Exchange) -> bool:
        """Leave out what the provider refuses of a request; return whether it is worth submitting it again."""

    def how(self, marks: Collection[str]) -> str:
        """Return what is to be done about batches that are out, besides coming back; "" for nothing."""

    def lessons(self) -> dict[str, Any]:
        """Return what refusals have taught, as plain data, for another session."""

    def recall(self, lessons: Mapping[str, Any]) -> None:
        """Take up what an earlier session was taught."""


def shown(words: str) -> str:
    """Return a provider's words for people: on one line, without any key, cut."""
    flat = " ".join(masked(words).split())
    return flat if len(flat) <= WORDS else flat[: WORDS - 1] + "…"


def line_of(error: Exchange) -> str:
    """Return why something failed, in one line."""
    return " ".join((error.error or "").split())
