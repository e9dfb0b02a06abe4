"""Lines of a ledger: what is read from each, and what of a reply is written into it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from nbannot.asking.request_reply import Decision, Message, Reply
from nbannot.errors import RunError
from nbannot.tools.json_bytes import packed, unpacked

COMPACT = (b'{"text_id":"', b'","columns":', b',"raw":')


SPACED = (b'{"text_id": "', b'", "columns": ', b', "raw": ')
"""Where the line of a call begins, where its columns and answers follow, and where the reply and the messages do.

None of them can stand inside a string of JSON, where their quotation marks would be escaped. Lines have spaces where
they were written with the standard library.
"""


MANY_HEADS = 20_000


READ_AHEAD = 2**17


Found = TypeVar("Found")


def messages_hash(messages: Sequence[Message]) -> str:
    """Return what identifies a list of messages: the first 16 hex characters of the SHA-256 of their JSON."""
    return hashlib.sha256(packed(messages, sort_keys=True)).hexdigest()[:16]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a ledger in order; nothing for a file that does not exist, a torn last line left out.

    Raises
    ------
    RunError
        If a line before the last one cannot be read: the file was changed by something else.
    """
    for number, line in _whole_lines(path):
        yield _record(path, number, line)


def read_calls(path: Path, read: Callable[[Mapping[str, Any]], Found]) -> Iterator[tuple[str, Found]]:
    """Yield the text id of every call and what `read` makes of the record, in order; else as `read_lines`.

    Parameters
    ----------
    read
        Gets ``columns``, ``attempt`` and ``answers`` of a record. The rest of a line, what was sent and replied, is
        not taken apart, and lines that differ in their id alone are read once: of millions, few are different.
    """
    known: dict[bytes, Found] = {}
    for number, line in _whole_lines(path):
        begin, columns, body = COMPACT if line.startswith(COMPACT[0]) else SPACED
        middle = line.find(columns)
        end = line.find(body, middle)
        name, head = line[len(begin) : middle], line[middle:end]
        if middle < 0 or end < 0 or not line.startswith(begin) or line[-2:] != b"}\n" or b"\\" in name:
            record = _record(path, number, line)
            if "text_id" in record:
                yield record["text_id"], read(record)
            continue
        head_read = known.get(head)
        if head_read is None:
            if len(known) >= MANY_HEADS:
                known.clear()
            head_read = known[head] = read(_head(head) or _record(path, number, line))
        try:
            text_id = name.decode("utf-8")
        except UnicodeDecodeError:
            _record(path, number, line)
            raise
        yield text_id, head_read


def read_notes(path: Path, first: str) -> Iterator[dict[str, Any]]:
    """Yield the lines whose first member has this name, in order; the others, all calls, are not taken apart."""
    begin = tuple(packed({first: ""})[:-3] + blank for blank in (b"", b" "))
    for number, line in _whole_lines(path):
        if line.startswith(begin):
            yield _record(path, number, line)


def _head(head: bytes) -> dict[str, Any] | None:
    """Return columns, attempt and answers of a line, ``None`` if they cannot be read by themselves."""
    try:
        record: dict[str, Any] = unpacked(b'{"text_id":"' + head + b"}")
    except (ValueError, RecursionError):
        return None
    return record if _complete(record) else None


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every line that ends."""
    try:
        lines: IO[bytes]
        if path.suffix == ".gz":
            lines = cast(IO[bytes], gzip.open(path, "rb"))  # noqa: SIM115 - closed by what reads it
        else:
            lines = path.open("rb", buffering=READ_AHEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}.\n  Choose another output_root.") from None
    with lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            yield number, line


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = unpacked(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not _complete(record):
        raise RunError(
            f"{path}, line {number} is not a record of ours.\n"
            "  The file was changed by something else; start again with fresh = true, or mend the line."
        )
    return record


def _complete(record: Mapping[str, Any]) -> bool:
    """Return whether a record of a call has what identifies it; other records are always complete."""
    if "text_id" not in record:
        return True
    return (
        isinstance(record["text_id"], str)
        and isinstance(record.get("columns"), list)
        and isinstance(record.get("attempt"), int)
    )


def messages_of(record: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[Message]:
    """Return the messages of a record exactly as they were sent.

    Raises
    ------
    RunError
        If the line with the beginning of a prompt is gone.
    """
    messages = []
    for message in record["messages"]:
        mark = message.get("prefix")
        if mark is not None and mark not in prefixes:
            raise RunError(
                f"the ledger has lost the line with the shared beginning {mark}.\n"
                "  The file was changed by something else; start again with fresh = true."
            )
        start = prefixes[mark] if mark is not None else ""
        messages.append({"role": message["role"], "content": start + message["content"]})
    return messages


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
        cached_tokens=record.get("cached_tokens"),
        cache_write_tokens=record.get("cache_write_tokens"),
        charged=record.get("charged"),
        seconds=record.get("seconds") or 0.0,
        model=record.get("model"),
        fingerprint=record.get("fingerprint"),
        decisions=_decisions_of(record.get("decisions")),
        server=record.get("server"),
    )


def _decisions_of(stored: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Decision] | None:
    if stored is None:
        return None
    decisions = {}
    for column, kept in stored.items():
        shares = kept.get("probabilities")
        decisions[column] = Decision(**{**kept, "probabilities": tuple(shares) if shares else None})
    return decisions


def decisions_kept(decisions: Mapping[str, Decision]) -> dict[str, dict[str, Any]]:
    """Return decisions as plain data, what is not told left out."""
    return {
        column: {
            name: value
            for name in Decision.__slots__
            if (value := getattr(made, name)) is not None and value != "" and value is not False
        }
        for column, made in decisions.items()
    }
