"""The log of the looks at a locked test half, and what shows that it was shortened or edited.

``test_log.jsonl`` beside ``split.json`` has one line per look, and each line holds the hash of the one before it. The
looks are witnessed in two more places: ``split.json`` counts them and holds the hash of the last line, and a copy of
every line is kept in the user's data folder. A line that is gone from the log and stands in the copy still counts; one
that only ``split.json`` knows of counts as a look that is lost. Whoever can write all three places can still lie: a
log is evidence for honest people, no safe.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError, TaskError
from nbannot.study import split_registry
from nbannot.tools.files import read_json, write_json

SPLIT_FILE, LOG_FILE = "split.json", "test_log.jsonl"
ENTRY = ("run_id", "config", "metric", "reason")
"""What makes two looks the same one."""


@dataclass(frozen=True)
class Log:
    """The looks at a test half, as far as they are known.

    Attributes
    ----------
    looks
        The known looks in their order: those of the log, and those of the copy that the log lacks.
    lost
        How many more ``split.json`` counts.
    faults
        What is wrong with the log, in words; empty where nothing is.
    """

    looks: list[dict[str, Any]]
    lost: int
    faults: tuple[str, ...]


def read_log(folder: Path, split_hash: str) -> Log:
    """Return the looks at the test half of the split in a folder.

    Parameters
    ----------
    split_hash
        Hash of the ids of the test half: where the chain of the lines begins.

    Raises
    ------
    TaskError
        If a line of the log is not JSON.
    """
    own = _lines(folder / LOG_FILE)
    copy = _lines(_copy(folder, split_hash), strict=False)
    known, kept = set(own), set(copy)
    missing = [line for line in copy if line not in known]
    lines = [*copy, *(line for line in own if line not in kept)] if missing else own
    looks = [json.loads(line) for line in lines]
    order = sorted(range(len(looks)), key=lambda i: str(looks[i].get("time", "")))  # stable
    counted = _counted(folder)
    faults = []
    if missing:
        faults.append(
            f"{len(missing)} of these looks {_are(len(missing))} no longer in {LOG_FILE} as {_they(len(missing))} "
            f"{_were(len(missing))} written, and {_are(len(missing))} counted from the copy in the user's data folder"
        )
    lost = max(0, int(counted.get("n", 0)) - len(looks))
    if lost:
        faults.append(f"{lost} more {_are(lost)} counted in {SPLIT_FILE} and gone from {LOG_FILE}")
    broken = _broken(own, split_hash)
    if broken and not missing:
        faults.append(f"line {broken} of {LOG_FILE} does not follow on the one before it: the log was edited")
    elif (
        own
        and not missing
        and not lost
        and counted.get("n") == len(own)
        and counted.get("last") != _hash(own[-1])
    ):
        faults.append(f"the last line of {LOG_FILE} was edited")
    return Log([looks[i] for i in order], lost, tuple(faults))


def append(folder: Path, split_hash: str, entry: Mapping[str, Any]) -> None:
    """Append a look to the log, then to its copy, then count it in ``split.json``.

    Raises
    ------
    TaskError
        If the log cannot be written.
    """
    path = folder / LOG_FILE
    before = _lines(path)
    stored = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **entry,
        "before": _hash(before[-1]) if before else split_hash,
    }
    line = json.dumps(stored, ensure_ascii=False)
    known = read_log(folder, split_hash)
    try:
        _append(path, line)
    except OSError as error:
        raise TaskError(
            f"cannot write {path}: {error.strerror}.\n  The test half stays closed: a look has to be recorded."
        ) from None
    copy = _copy(folder, split_hash)
    with suppress(OSError):  # a home that takes no files: split.json still counts
        copy.parent.mkdir(parents=True, exist_ok=True)
        held = set(_lines(copy, strict=False))
        for one in (*before, line):
            if one not in held:
                _append(copy, one)
    with suppress(OSError, NbannotError):
        whole = read_json(folder / SPLIT_FILE)
        counted = {"n": len(known.looks) + known.lost + 1, "last": _hash(line)}
        write_json(folder / SPLIT_FILE, {**whole, "looks": counted})


def earlier_looks(folder: Path, split_hash: str) -> int:
    """Return how many looks at a split that is gone stand in the copy."""
    return len(_lines(_copy(folder, split_hash), strict=False))


def _append(path: Path, line: str) -> None:
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)  # a line that was cut off was never a look
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _lines(path: Path, *, strict: bool = True) -> list[str]:
    """Return the lines of a log; a torn last one is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        if strict:
            raise
        return []
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            is_look = bool(line.strip()) and isinstance(json.loads(line), dict)
        except json.JSONDecodeError:
            if strict and number < text.count("\n"):
                raise TaskError(
                    f"{path}, line {number} is not JSON: the file was changed by something else."
                ) from None
            continue
        if is_look:
            lines.append(line.rstrip("\r"))
    return lines


def _broken(lines: Sequence[str], split_hash: str) -> int:
    """Return the first line (from 1) that does not hold the hash of the one before it; 0 if every one does.

    Lines of a version that wrote no hashes can only stand at the beginning.
    """
    before, chained = split_hash, False
    for number, line in enumerate(lines, start=1):
        told = json.loads(line).get("before")
        if told is None and chained:
            return number
        if told is not None and told != before:
            return number
        chained |= told is not None
        before = _hash(line)
    return 0


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()


def _copy(folder: Path, split_hash: str) -> Path:
    return split_registry.path_of(folder).with_suffix(f".{split_hash[:12]}.jsonl")


def _counted(folder: Path) -> dict[str, Any]:
    path = folder / SPLIT_FILE
    try:
        state = path.stat()
    except OSError:
        return {}
    return _counter(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=32)
def _counter(path: Path, *_state: int) -> dict[str, Any]:
    counted = read_json(path).get("looks")
    return counted if isinstance(counted, dict) else {}


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _they(n: int) -> str:
    return "it" if n == 1 else "they"
