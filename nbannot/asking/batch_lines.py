"""What a ledger says of batches: which requests are with a provider, and what became of those that were.

Each step of a batch is a line of its own, written before the step that follows it: ``intended`` with the names of its
requests, ``file`` where one was uploaded, ``out`` with the provider's name for it, ``ended`` when its results are in
the ledger, or ``withdrawn`` when it is certain that it was never submitted. ``missing`` says when the provider first
did not find it, ``short`` how many results it sent of a batch that has more by its own count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nbannot.asking.ledger_lines import messages_hash
from nbannot.asking.request_reply import Message

BatchState = Literal["intended", "out", "ended", "withdrawn"]


@dataclass
class SentBatch:
    """One batch as the ledger has it.

    Attributes
    ----------
    mark
        Our own name for it, drawn at random; it begins the name of each of its requests at the provider.
    names
        Of its requests; see `request_name`.
    where
        The address that it went to.
    file, provider_id
        What the provider calls the uploaded file, and the batch; "" before it has said so.
    intended, submitted, missing, ended
        Times, UTC, ISO 8601; "" before.
    outcome
        How it ended, in one word.
    answered
        How many of its requests were answered.
    sent
        How many results the provider sent of an ended batch that has more by its own count; -1: no such thing.
    """

    mark: str
    names: tuple[str, ...] = field(repr=False)
    where: str
    state: BatchState = "intended"
    file: str = ""
    provider_id: str = ""
    intended: str = ""
    submitted: str = ""
    missing: str = ""
    ended: str = ""
    outcome: str = ""
    answered: int = 0
    sent: int = -1

    @property
    def is_out(self) -> bool:
        """Whether the provider has it, or may have it."""
        return self.state in ("intended", "out")

    def took(self, line: Mapping[str, Any]) -> None:
        """Take note of a step."""
        time = str(line.get("time") or "")
        match line.get("state"):
            case "file":
                self.file = str(line["file"])
            case "out":
                self.state, self.provider_id, self.submitted = "out", str(line["id"]), time
            case "missing":
                self.missing = time
            case "short":
                self.sent = int(line.get("sent") or 0)
            case "ended":
                self.state, self.ended = "ended", time
                self.outcome, self.answered = str(line.get("outcome") or ""), int(line.get("answered") or 0)
            case "withdrawn":
                self.state, self.ended = "withdrawn", time


def batches_in(notes: Iterable[Mapping[str, Any]]) -> dict[str, SentBatch]:
    """Return the batches that lines of a ledger tell of, by mark, in the order in which they were sent."""
    batches: dict[str, SentBatch] = {}
    for line in notes:
        mark = line.get("batch")
        if not isinstance(mark, str) or "text_id" in line:
            continue
        if line.get("state") == "intended":
            names, where = tuple(line.get("names") or ()), str(line.get("where") or "")
            batches[mark] = SentBatch(mark, names, where, intended=str(line.get("time") or ""))
        elif mark in batches:
            batches[mark].took(line)
    return batches


def request_name(
    text_id: str, columns: Sequence[str], attempt: int, messages: Sequence[Message] | str
) -> str:
    """Return what names a request in a batch: the same in every session, of 20 characters that every provider takes.

    Parameters
    ----------
    messages
        What is sent, or its hash as the ledger has it.
    """
    sent = messages if isinstance(messages, str) else messages_hash(messages)
    parts = "\x1f".join((text_id, *columns, str(attempt), sent))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:20]
