"""What the logs of coding desks tell beside the labels: texts that were coded twice, and the time they took.

One line of JSON per action; `nbannot.desk.log` writes them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import DeskError, listed
from nbannot.report.words import plural

Line = dict[str, Any]


def read_log(path: Path) -> tuple[list[Line], list[int]]:
    """Return the lines of a log, and the numbers of those that cannot be read.

    A last line that was cut off was never confirmed to anybody and is passed over in silence.

    Raises
    ------
    DeskError
        If the file is there and cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise DeskError(f"cannot read {path}: {error.strerror}.") from None
    lines: list[Line] = []
    unread: list[int] = []
    parts = raw.split(b"\n")
    for number, part in enumerate(parts, start=1):
        if not part.strip():
            continue
        try:
            line = json.loads(part)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif number < len(parts):
            unread.append(number)
    return lines, unread


def changed_outside(name: str, texts: Sequence[str]) -> str:
    """Return in words that a coder's file and log do not agree."""
    return (
        f"{name}.csv has labels that the desk never kept ({plural(len(texts), 'text')}: {listed(texts, 3)}): it was "
        "changed outside, and counts here as it stands. The desk goes by the log and puts such a file aside."
    )


@dataclass(frozen=True)
class Told:
    """What a coder's log tells.

    Attributes
    ----------
    twice
        column -> text id -> the values of the first and of the second coding.
    seconds
        Median time on a text; ``None`` where it was not measured.
    given
        Every value that a text had in a column at any time, as `_plain` writes it: text id, column -> values.
    blank
        Text id and column of textboxes in which there was nothing to write; in a CSV that is a blank like "not coded".
    """

    twice: dict[str, dict[str, tuple[Any, Any]]]
    seconds: float | None
    given: dict[tuple[str, str], set[str]]
    blank: list[tuple[str, str]]

    def never_said(self, labels: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the texts with a label in a coder's file that the log beside it never had; none without a log."""
        if not self.given:
            return []
        return [
            i
            for i, row in labels.items()
            if any(_plain(value) not in self.given.get((i, column), ()) for column, value in row.items())
        ]


def _plain(value: Any) -> str:
    """Return a value of a log or of a file in one way of writing: marks by their places, numbers and words alike."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return str(sorted(str((m.get("start"), m.get("end"), m.get("label"))) for m in value))
    return str(sorted(map(str, value)) if isinstance(value, list) else value)


def told_by_log(path: Path) -> Told:
    """Return what a coder's log tells; nothing where there is none."""
    values: dict[tuple[str, str, int], Any] = {}
    times: dict[str, float] = {}
    given: dict[tuple[str, str], set[str]] = {}
    for line in read_log(path)[0]:
        if "text_id" not in line:
            continue
        text_id, repeat = str(line["text_id"]), int(line.get("repeat", 1))
        times[text_id] = times.get(text_id, 0.0) + float(line.get("seconds") or 0.0)
        if line.get("action") in ("answer", "import", "undo"):
            values[text_id, str(line["column"]), repeat] = line.get("value")
            given.setdefault((text_id, str(line["column"])), set()).add(_plain(line.get("value")))
    blank = [(i, column) for (i, column, repeat), value in values.items() if repeat == 1 and value == ""]
    twice: dict[str, dict[str, tuple[Any, Any]]] = {}
    for (text_id, column, repeat), second in values.items():
        first = values.get((text_id, column, 1))
        if repeat == 2 and first is not None and second is not None:
            twice.setdefault(column, {})[text_id] = (first, second)
    measured = [seconds for seconds in times.values() if seconds]
    return Told(twice, statistics.median(measured) if measured else None, given, blank)
