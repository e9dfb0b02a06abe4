"""The ledger ``responses.jsonl``: one line per model call, written and flushed before the answer counts.

It is what makes resume, audit, replay and re-scoring possible. The part of a prompt that is the same for every text is
written once, in a line of its own, and referred to by its hash. A torn last line (the process was killed while writing)
is ignored on reading and cut off before the next line is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from nbannot.asking.ledger_lines import (
    decisions_kept,
    messages_hash,
    read_lines,
    reply_of,
)
from nbannot.asking.request_reply import Reply, Request
from nbannot.errors import RunError
from nbannot.tools.json_bytes import packed

FILE = "responses.jsonl"
APPENDING = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)


Key = tuple[str, tuple[str, ...], int]
"""Text id, columns, attempt."""


TOLD = ("input_tokens", "output_tokens", "evaluated_tokens", "cached_tokens", "cache_write_tokens", "charged")
"""What replies tell of their tokens, and of what was charged for them."""


@dataclass
class Usage:
    """What calls add up to. Tokens are ``None`` while no reply has told them; `first` and `last` are times.

    `untold` counts the answers that came without their tokens, `unbilled` those without what was charged for them.
    """

    calls: int = 0
    retries: int = 0
    input_chars: int = 0
    output_chars: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    evaluated_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    charged: float | None = None
    untold: int = 0
    unbilled: int = 0
    first: str = ""
    last: str = ""
    reasoned: bool = False
    by_model: dict[str, dict[str, float]] = field(default_factory=dict)

    def add_tokens(self, more: Mapping[str, Any]) -> None:
        """Add what was told of tokens and of what they cost."""
        for name in TOLD:
            if (told := more.get(name)) is not None:
                setattr(self, name, (getattr(self, name) or 0) + told)

    def char_counts(self) -> dict[str, Any]:
        """Return characters and tokens, for ``char_counts.json``, and how much of them is not known."""
        names = ("input_chars", "output_chars", "input_tokens", "output_tokens")
        every: dict[str, Any] = {name: getattr(self, name) for name in names}
        for name in ("cached_tokens", "cache_write_tokens"):
            if (tokens := getattr(self, name)) is not None:
                every[name] = tokens
        if self.input_tokens is not None and self.untold:
            every["untold_answers"] = self.untold
        if self.charged is not None and not self.unbilled:
            every["charged"] = self.charged
        return every


@dataclass
class Tally(Usage):
    """What all calls of a run add up to, over every session.

    `served` counts the answers by what they say of the model and the configuration that made them, `by_model` parts
    calls, tokens and seconds by what they say of the model, `by_server` counts the answers of a run on several servers
    by where they came from (0 for one that was asked in vain), and `energy` has the kWh of a decision model and a text
    model while each was asked. Calls that came in a batch have no time of their own; they and their tokens are counted
    apart too.
    """

    batched: int = 0
    batch_input_tokens: int = 0
    batch_output_tokens: int = 0
    batch_cached_tokens: int = 0
    batch_cache_write_tokens: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    served: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    by_server: Counter[str] = field(default_factory=Counter)
    energy: dict[str, float] = field(default_factory=dict)

    def add_energy(self, note: Mapping[str, Any]) -> None:
        """Add what a note says of energy, if it does."""
        if "energy_kwh" in note:
            self.energy[note["used_by"]] = self.energy.get(note["used_by"], 0.0) + note["energy_kwh"]

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one record of a call."""
        reasoning = record.get("reasoning") or ""
        self.calls += 1
        self.retries += record["attempt"] > 1 or record.get("error") is not None
        self.input_chars += record.get("input_chars") or 0
        ended = str(record.get("finish_reason") or "").partition(":")[0]
        # Of a filter, raw is what the filter said and not the model, unless the model had written something.
        written = ended != "content_filter" or bool(record.get("output_tokens"))
        if written:
            self.output_chars += len(record.get("raw") or "") + len(reasoning)
        if record.get("error") is None and written:
            self.untold += record.get("input_tokens") is None or record.get("output_tokens") is None
            self.unbilled += record.get("charged") is None
        self.add_tokens(record)
        if record.get("batch"):
            self.batched += 1
            self.batch_input_tokens += record.get("input_tokens") or 0
            self.batch_output_tokens += record.get("output_tokens") or 0
            self.batch_cached_tokens += record.get("cached_tokens") or 0
            self.batch_cache_write_tokens += record.get("cache_write_tokens") or 0
        else:
            self.seconds.append(record.get("seconds") or 0.0)
        if (model := record.get("model")) is not None:
            own = self.by_model.setdefault(
                model, {"calls": 0, "input_tokens": 0, "output_tokens": 0, "seconds": 0.0}
            )
            own["calls"] += 1
            for name in ("input_tokens", "output_tokens", "seconds"):
                own[name] += record.get(name) or 0
        time = record.get("time") or ""
        if time and (time < self.first or not self.first):
            self.first = time
        if time > self.last:
            self.last = time
        self.reasoned = self.reasoned or bool(reasoning)
        if record.get("error") is None and (record.get("model") or record.get("fingerprint")):
            self.served[record.get("model"), record.get("fingerprint")] += 1
        if (
            server := record.get("server")
        ) is not None:  # one that answered nothing was sent a text all the same
            self.by_server[server] += record.get("error") is None


class Ledger:
    """The ledger of one run, open for appending.

    Parameters
    ----------
    path
        The file; made if it does not exist.

    Attributes
    ----------
    answered
        The replies that earlier sessions left: key -> record without its messages. Calls that failed are not in it.
    lost
        What became of the file, where it is no longer in its place; else "".
    notes
        The lines of earlier sessions that are no calls, e.g. calibrations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered: dict[Key, dict[str, Any]] = {}
        self.notes: list[dict[str, Any]] = []
        self.tally = Tally()
        self._prefixes: set[str] = set()
        self._marks: dict[str, str] = {}
        self._file = -1
        self.lost = ""
        self._replaced = False
        self._read()
        try:
            self._file = os.open(path, APPENDING | os.O_CREAT, 0o644)
            self._cut_torn_line()
            self._size = os.fstat(self._file).st_size
            self._inodes = os.path.samestat(os.fstat(self._file), os.stat(path))
        except OSError as error:
            if self._file >= 0:
                os.close(self._file)
            raise RunError(f"cannot write {path}: {error.strerror}.\n  Choose another output_root.") from None

    def _read(self) -> None:
        for record in read_lines(self.path):
            if "prefix" in record:
                self._prefixes.add(record["prefix"])
                continue
            if "text_id" not in record:
                self.notes.append(record)
                self.tally.add_energy(record)
                continue
            self.tally.add(record)
            if record.get("error") is not None:
                continue
            key = (record["text_id"], tuple(record["columns"]), record["attempt"])
            record.pop("messages", None)
            self.answered[key] = record  # the last: an earlier one was an answer to other messages

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            start = max(0, end - 65536)
            block = (
                os.pread(self._file, end - start, start) if hasattr(os, "pread") else self._block(start, end)
            )
            if (at := block.rfind(b"\n")) >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)

    def _block(self, start: int, end: int) -> bytes:
        os.lseek(self._file, start, os.SEEK_SET)
        return os.read(self._file, end - start)

    def find(self, request: Request, columns: tuple[str, ...], text_id: str, attempt: int) -> Reply | None:
        """Return the reply that an earlier session got to exactly this request, or ``None``."""
        record = self.answered.get((text_id, columns, attempt)) if self.answered else None
        if record is None or record.get("messages_hash") != messages_hash(request.messages):
            return None
        return reply_of(record)

    def append(
        self,
        request: Request,
        reply: Reply,
        *,
        text_id: str,
        columns: Sequence[str],
        attempt: int,
        repeat: int,
        answers: Sequence[Mapping[str, Any]],
        time: str,
        batch: str | None = None,
    ) -> None:
        """Write one call; on return the line is with the operating system.

        Parameters
        ----------
        batch
            The mark of the batch that it came in.

        Raises
        ------
        RunError
            If it cannot be written (disk full, folder gone); what was written before stays good.
        """
        record: dict[str, Any] = {
            "text_id": text_id,
            "columns": list(columns),
            "attempt": attempt,
            "repeat": repeat,
            "status": next((a["status"] for a in answers if a["status"] != "ok"), "ok"),
            "answers": list(answers),
            "raw": reply.text,
            "reasoning": reply.reasoning,
            "finish_reason": reply.finish_reason,
            "probabilities": reply.probabilities,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "evaluated_tokens": reply.evaluated_tokens,
            "seconds": None if batch is not None else round(reply.seconds, 6),
            "input_chars": sum(len(message["content"]) for message in request.messages),
            "error": reply.error,
            "time": time,
            "messages_hash": messages_hash(request.messages),
            "messages": self._shortened(request),
        }
        for name in ("cached_tokens", "cache_write_tokens", "charged"):
            if (told := getattr(reply, name)) is not None:
                record[name] = told
        if batch is not None:
            record["batch"] = batch
        if reply.decisions is not None:
            record["decisions"] = decisions_kept(reply.decisions)
        if reply.model is not None:
            record["model"] = reply.model
        if reply.fingerprint is not None:
            record["fingerprint"] = reply.fingerprint
        if reply.server is not None:
            record["server"] = reply.server
        self._write(record)
        self.tally.add(record)

    def note(self, *, for_good: bool = False, **content: Any) -> None:
        """Write a line that is no call, e.g. the calibration of a field.

        Parameters
        ----------
        for_good
            Return only when the line, and all before it, is on the disk: what follows cannot be taken back.
        """
        self._write(content)
        if for_good:
            with contextlib.suppress(OSError):  # not every place can promise it
                os.fsync(self._file)
        self.tally.add_energy(content)

    def _shortened(self, request: Request) -> list[dict[str, str]]:
        messages: list[dict[str, str]] = [dict(message) for message in request.messages]
        last = messages[-1]["content"]
        prefix, rest = last[: request.shared], last[request.shared :]
        if prefix:
            mark = self._marks.get(prefix) or self._mark(prefix)
            messages[-1] = {"role": messages[-1]["role"], "prefix": mark, "content": rest}
        return messages

    def _mark(self, prefix: str) -> str:
        """Return the hash of a beginning of prompts, which is written down when it is new."""
        mark = hashlib.sha256(prefix.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if mark not in self._prefixes:
            self._write({"prefix": mark, "content": prefix})
            self._prefixes.add(mark)
        self._marks[prefix] = mark
        return mark

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._put(packed(record) + b"\n")
        except OSError as error:
            raise RunError(
                f"cannot write {self.path}: {error.strerror}.\n"
                "  Everything before is kept; make room and run the same again to go on."
            ) from None

    def _put(self, data: bytes) -> None:
        """Write a line whole or not at all: a part of one must never have another line behind it."""
        if os.fstat(self._file).st_size < self._size:
            self.check()  # cut by something else: what follows must not be joined to the rest of a line
        done = os.write(self._file, data)
        if done < len(data):
            self._put_rest(data, done)
        self._size += len(data)

    def _put_rest(self, data: bytes, done: int) -> None:
        """Write what is left of a line, or take back what has been written of it."""
        end = os.fstat(self._file).st_size
        start = end - done
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            if os.fstat(self._file).st_size == start + done:
                os.ftruncate(self._file, start)
            raise

    def check(self) -> None:
        """Raise if the file that is written is no longer the one that the next session will find.

        May be called from another thread than the one that writes.

        Raises
        ------
        RunError
            If it was deleted, moved, replaced or cut by something else.
        """
        size, file = self._size, self._file  # read before the file is looked at: it only grows
        if self.lost:
            raise RunError(self.lost)
        if file < 0:
            return
        ours = os.fstat(file)
        try:
            there = os.stat(self.path)
        except OSError as error:
            self._lose(
                f"is gone ({error.strerror}): it was deleted or moved while the run was at work.\n"
                "  Nothing more was asked. If its folder was moved, the answers went with it: move it back and run "
                "the same again."
            )
        if ours.st_size < size:
            self._lose(
                f"was cut while the run was at work: {ours.st_size:,} of {size:,} bytes are left.\n"
                "  Nothing more was asked. What is left counts; run the same again to ask for the rest."
            )
        # Some network drives number a file anew each time it is looked at: there the numbers say nothing.
        if self._inodes and not os.path.samestat(ours, there):
            self._replaced = True
            back = (
                "The answers since then were added to the new file: run the same again to go on."
                if self._put_back()
                else "It holds something else; put the file back, or start again with fresh = true."
            )
            self._lose(f"was replaced by another program while the run was at work.\n  {back}")

    def _lose(self, what: str) -> NoReturn:
        self.lost = f"{self.path} {what}"
        raise RunError(self.lost)

    def _put_back(self) -> bool:
        """Add what the file in our place lacks, if it is an earlier copy of ours; return whether it is one."""
        try:
            with open(os.dup(self._file), "rb") as own, open(self.path, "r+b") as other:
                own.seek(0)
                ours, theirs = own.read(), other.read()
                if not ours.startswith(theirs):
                    return False
                other.write(ours[len(theirs) :])
                os.fsync(other.fileno())
                return True
        except OSError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether the file is open and still in its place."""
        return self._file >= 0 and not self.lost

    def let_go(self) -> None:
        """Close the file without a word, after something went wrong; doing so again does nothing."""
        if self._file >= 0:
            if self._replaced:
                self._put_back()  # what came between the look and the end of the work
            file, self._file = self._file, -1
            os.close(file)

    def close(self) -> None:
        """Make sure that everything is on the disk, and close the file; closing again does nothing."""
        if self._file < 0:
            return
        self.check()
        file, self._file = self._file, -1
        try:
            os.fsync(file)
        except OSError as error:
            raise RunError(
                f"cannot write {self.path}: {error.strerror}.\n"
                "  The last answers may be missing; run the same again to go on."
            ) from None
        finally:
            os.close(file)
