"""The files of requests that are filled for a provider: one for each batch, halved where it finds one too large."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from nbannot.models.batch_service import BatchService
from nbannot.models.exchange import Exchange

MARK = 12
"""Characters of a batch's own mark, with which the names of its requests begin."""
LEAST_QUEUED = 100
"""Requests below which a batch is not made smaller for a queue that is full: others may have filled it."""
TOO_LARGE = re.compile(
    r"too (large|big|many)|exceed[^.]{0,60}\b(max\w*|limit|size)|max\w* [^.]{0,30}(size|requests)", re.I
)
QUEUE_IS_FULL = re.compile(
    r"enqueued|token[_ ]?limit|queue[^.]{0,30}(full|limit)|file [^.]{0,20}too (large|big)", re.I
)
"""How providers say that a batch as a whole holds more than the account may have waiting (OpenAI, Azure)."""


@dataclass
class Part:
    """A file of requests that is filled: one batch to be.

    Attributes
    ----------
    places
        Of each request, where in the file it begins, and its bytes.
    """

    mark: str
    path: Path
    file: IO[bytes]
    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0

    @classmethod
    def beside(cls, ledger: Path, service: BatchService) -> Part:
        """Return an empty one beside the ledger, where there is room for what comes back."""
        handle, path = tempfile.mkstemp(prefix=f".{ledger.name}.", dir=ledger.parent)
        part = cls(secrets.token_hex(MARK // 2), Path(path), os.fdopen(handle, "wb"))
        part.file.write(service.frame[0])
        return part

    def add(self, name: str, line: bytes, service: BatchService) -> None:
        """Add a request, whose line bears its name once, with the mark in front of it."""
        if self.names:
            self.file.write(service.frame[1])
        self.places.append((self.file.tell(), len(line)))
        self.file.write(line)
        self.names.append(name)
        self.size += len(line) + 2

    def close(self, service: BatchService) -> None:
        """End the file."""
        if not self.file.closed:
            self.file.write(service.frame[2])
            self.file.close()

    def halves(self, ledger: Path, service: BatchService) -> list[Part]:
        """Return two files with half of the requests each, which bear marks of their own."""
        middle = len(self.names) // 2
        made = []
        with self.path.open("rb") as whole:
            for half in (slice(None, middle), slice(middle, None)):
                part = Part.beside(ledger, service)
                for name, (start, size) in zip(self.names[half], self.places[half], strict=True):
                    whole.seek(start)
                    part.add(
                        name, whole.read(size).replace(self.mark.encode(), part.mark.encode(), 1), service
                    )
                part.close(service)
                made.append(part)
        return made

    def drop(self) -> None:
        """Remove the file."""
        self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def is_too_large(made: Exchange) -> bool:
    """Return whether a provider does not take a batch for its size."""
    wrong = made.status in (400, 422) and TOO_LARGE.search(made.said)
    return made.status == 413 or (bool(wrong) and not made.is_of_account)
