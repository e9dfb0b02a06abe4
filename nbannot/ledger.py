"""The ledger ``responses.jsonl``: one line per model call, written and flushed before the answer counts.

It is what makes resume, audit, replay and re-scoring possible. The part of a prompt that is the same for every text is
written once, in a line of its own, and referred to by its hash. A torn last line (the process was killed while writing)
is ignored on reading and cut off before the next line is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.errors import RunError
from nbannot.models.base import Message, Reply, Request

FILE = "responses.jsonl"


def messages_hash(messages: Sequence[Message]) -> str:
    """Return what identifies a list of messages: the first 16 hex characters of the SHA-256 of their JSON."""
    text = json.dumps(list(messages), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a ledger in order; nothing for a file that does not exist, a torn last line left out.

    Raises
    ------
    RunError
        If a line before the last one cannot be read: the file was changed by something else.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line.decode("utf-8"))
            except (UnicodeDecodeError, json.JSONDecodeError):
                raise RunError(
                    f"{path}, line {number} is not a record of ours.\n"
                    "  The file was changed by something else; start again with fresh = true, or mend the line."
                ) from None
            if isinstance(record, dict):
                yield record


def messages_of(record: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[Message]:
    """Return the messages of a record exactly as they were sent."""
    return [
        {"role": m["role"], "content": prefixes.get(m.get("prefix", ""), "") + m["content"]}
        for m in record["messages"]
    ]


def prefixes_in(path: Path) -> dict[str, str]:
    """Return the shared beginnings of prompts that a ledger holds, by their hash."""
    return {record["prefix"]: record["content"] for record in read_lines(path) if "prefix" in record}


def reply_of(record: Mapping[str, Any]) -> Reply:
    """Return the reply that a record holds."""
    probabilities = record.get("probabilities")
    return Reply(
        text=record.get("raw") or "",
        reasoning=record.get("reasoning"),
        error=record.get("error"),
        finish_reason=record.get("finish_reason"),
        probabilities=tuple(probabilities) if probabilities else None,
        input_tokens=record.get("input_tokens"),
        output_tokens=record.get("output_tokens"),
        evaluated_tokens=record.get("evaluated_tokens"),
        seconds=record.get("seconds") or 0.0,
    )


Key = tuple[str, tuple[str, ...], int]
"""Text id, columns, attempt."""


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered: dict[Key, dict[str, Any]] = {}
        self._prefixes: set[str] = set()
        self._read()
        try:
            self._file = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644
            )
            self._cut_torn_line()
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}.\n  Choose another output_root.") from None

    def _read(self) -> None:
        for record in read_lines(self.path):
            if "prefix" in record:
                self._prefixes.add(record["prefix"])
            if "text_id" not in record or record.get("error") is not None:
                continue
            key = (record["text_id"], tuple(record["columns"]), record["attempt"])
            record.pop("messages", None)
            self.answered.setdefault(key, record)

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
        record = self.answered.get((text_id, columns, attempt))
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
    ) -> None:
        """Write one call; on return the line is with the operating system.

        Raises
        ------
        RunError
            If it cannot be written (disk full, folder gone); what was written before stays good.
        """
        self._write(
            {
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
                "seconds": round(reply.seconds, 6),
                "error": reply.error,
                "time": time,
                "messages_hash": messages_hash(request.messages),
                "messages": self._shortened(request),
            }
        )

    def note(self, **content: Any) -> None:
        """Write a line that is no call, e.g. the calibration of a field."""
        self._write(content)

    def _shortened(self, request: Request) -> list[dict[str, str]]:
        messages: list[dict[str, str]] = [dict(message) for message in request.messages]
        last = messages[-1]["content"]
        prefix, rest = last[: request.shared], last[request.shared :]
        if prefix:
            mark = hashlib.sha256(prefix.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if mark not in self._prefixes:
                self._write({"prefix": mark, "content": prefix})
                self._prefixes.add(mark)
            messages[-1] = {"role": messages[-1]["role"], "prefix": mark, "content": rest}
        return messages

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False)
        try:
            data = line.encode("utf-8") + b"\n"
        except UnicodeEncodeError:  # half of a surrogate pair in a reply: JSON can say it in ASCII
            data = json.dumps(record).encode("ascii") + b"\n"
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            raise RunError(
                f"cannot write {self.path}: {error.strerror}.\n"
                "  Everything before is kept; make room and run the same again to go on."
            ) from None

    def close(self) -> None:
        """Make sure that everything is on the disk, and close the file."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
