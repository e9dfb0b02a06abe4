"""A coder's labels as CSV, made whole from the log after every answer; and labels that came from elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.comparing.coder_log import Line
from nbannot.comparing.people import LabelReader, Labels
from nbannot.desk.labels import Ledger, question_hash, text_hash
from nbannot.errors import DeskError, ScoringError, TaskError, listed
from nbannot.report.words import plural
from nbannot.study.codebook import Codebook
from nbannot.study.reading import read_csv
from nbannot.study.task import Task
from nbannot.tools.files import write_atomic


def id_column_of(task: Task) -> str:
    """Return the name of the id column in files about this task."""
    return "text_id" if task.id_source == "text" else task.id_source


def cells_of(codebook: Codebook, row: Mapping[str, Any]) -> list[str]:
    """Return one text's labels as cells, a blank for what is not coded."""
    return [f.to_cell(row.get(f.column)) for f in codebook]


def csv_line(cells: Sequence[str]) -> str:
    """Return cells as one line of CSV (RFC 4180)."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


class KeptCsv:
    """A CSV file with one row per text; a row that changes is written anew, the file is replaced whole."""

    def __init__(self, task: Task, path: Path) -> None:
        self.task, self.path = task, path
        self.id_column = id_column_of(task)
        self._lines: dict[str, str] = {}
        self._header = csv_line([self.id_column, *(f.column for f in task.codebook)])

    @property
    def ids(self) -> list[str]:
        """The ids of the rows, in their order."""
        return list(self._lines)

    def begin(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take all rows: the texts of the task in its order, then those that it does not have any more."""
        known = set(self.task.ids)
        ordered = [i for i in self.task.ids if i in rows] + [i for i in rows if i not in known]
        for text_id in ordered:
            self.put(text_id, rows[text_id])

    def put(self, text_id: str, row: Mapping[str, Any]) -> None:
        """Take the labels of one text."""
        self._lines[text_id] = csv_line([text_id, *cells_of(self.task.codebook, row)])

    def write(self) -> None:
        """Write the file whole or not at all; a RunError if it cannot be written."""
        write_atomic(self.path, self._header + "".join(self._lines.values()))


def import_csv(task: Task, path: Path, ledger: Ledger) -> tuple[list[Line], list[str]]:
    """Return log lines for labels in a coder's CSV that the log does not know, and what to tell of them.

    A file without a log was made elsewhere: its labels are taken over. In one that the log belongs to, a cell that the
    log has never had was changed by hand: the log goes on ruling, and the changed file is put aside.
    """
    if not path.exists():
        return [], []
    if ledger.opened is None:
        labels = labels_in(task, path)
        texts = dict(zip(task.ids, task.texts, strict=True))
        lines = [
            _import_line(task, texts.get(text_id), text_id, column, value)
            for text_id, row in labels.items()
            for column, value in row.items()
        ]
        notice = (
            f"{plural(len(lines), 'label')} of {plural(len(labels), 'text')} were in {path.name} already."
        )
        return lines, [notice] if labels else []
    other = _changed_by_hand(path, ledger)
    if not other:
        return [], []
    aside = next(
        p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.changed-{n}")).exists()
    )
    try:
        aside.write_bytes(path.read_bytes())
    except OSError as error:
        raise DeskError(
            f"cannot write {aside}: {error.strerror}.\n  Make room, or make the folder writable."
        ) from None
    return [], [
        f"{path.name} was changed outside the desk ({other}). The log prevails; the changed file is kept as "
        f"{aside.name}. To use its labels, give them as answers."
    ]


def _changed_by_hand(path: Path, ledger: Ledger) -> str:
    """Return where a coder's file has a cell that its log never had, "" for nowhere.

    A file may lag behind its log, where a session was killed between the two; so any value of the past will do.
    """
    try:
        table = read_csv(path)
    except TaskError as error:
        return "" if "has a header but no texts" in str(error) else "it is no table any more"
    ids, *columns = table.columns
    past = {place: {_cell(value) for value in values} for place, values in ledger.history.items()}
    odd = [
        row[ids]
        for row in table.iter_rows(named=True)
        if any(row[c] and row[c] not in past.get((row[ids], c), ()) for c in columns)
    ]
    return f"{plural(len(odd), 'text')}: {listed(odd)}" if odd else ""


def _cell(value: Any) -> str:
    """Return a value as it stood in a cell, whichever field it belonged to."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def labels_in(task: Task, path: Path) -> Labels:
    """Return the labels in a coder's file, by text id; a DeskError where it cannot be understood."""
    try:
        return LabelReader(task, as_written=True).read(path, path.stem)
    except ScoringError as error:
        raise DeskError(
            f"{error}\n  This file would be overwritten: correct it, or move it elsewhere."
        ) from None


def _import_line(task: Task, text: str | None, text_id: str, column: str, value: Any) -> Line:
    line: Line = {"action": "import", "text_id": text_id, "column": column, "value": value,
                  "asked_as": question_hash(task.codebook[column])}  # fmt: skip
    return line if text is None else line | {"text": text_hash(text)}
