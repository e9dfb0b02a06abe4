"""People's labels of a task as they lie in files, read fast and without a task of each coder's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any

from nbannot.comparing.coder_log import Told, told_by_log
from nbannot.comparing.joining import joined_ids, refuse_other_texts, refuse_repeated
from nbannot.errors import ScoringError, TaskError, listed, nearest, problems
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field
from nbannot.study.reading import read_csv
from nbannot.study.spans import read_spans
from nbannot.study.study_folder import LOG, OUTPUT_ROOT, coder_files, no_coders
from nbannot.study.task import ID_COLUMNS, Task
from nbannot.tools.memory import no_search_for_cycles

Row = dict[str, Any]
"""column -> value of one text, only of fields that were coded."""
Labels = dict[str, Row]
"""text id -> its row, of texts with a label."""


def people_of(
    task: Task, coders: Iterable[str] | None = None, output_root: str | Path = OUTPUT_ROOT
) -> dict[str, Labels]:
    """Return coder -> labels of everybody who coded the task, or of these; see `read_people`."""
    return read_people(task, coders, output_root)[0]


def read_people(
    task: Task, coders: Iterable[str] | None = None, output_root: str | Path = OUTPUT_ROOT
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Return coder -> labels of everybody who coded the task, or of these; and what was left out, one sentence each.

    Raises
    ------
    ScoringError
        If there is nobody, a name is unknown, or a file cannot be read: with coder, file and row.
    """
    files = coder_files(task, output_root)
    if not files:
        raise no_coders(task, output_root)
    if coders is not None:
        wanted = [coders] if isinstance(coders, str) else [str(name) for name in coders]
        unknown = [name for name in wanted if name not in files]
        if unknown:
            raise ScoringError(
                f"no labels of {listed(map(repr, unknown))}{nearest(unknown[0], files) or '.'}\n"
                f"  There are labels of {listed(files, 12)}."
            )
        files = {name: files[name] for name in wanted}
    reader = LabelReader(task)
    with no_search_for_cycles():
        people = {name: reader.read(path, name) for name, path in files.items()}
    return people, tuple(
        f"{name}: {len(ids):,} {'row' if len(ids) == 1 else 'rows'} with ids that the task does not have: "
        f"{listed(map(repr, ids), 3)}, left out."
        for name, ids in reader.unknown.items()
    )


def people_of_desks(
    task: Task, coders: Iterable[str] | None = None, output_root: str | Path = OUTPUT_ROOT
) -> dict[str, Labels]:
    """Return what `people_of` does, with the textboxes in which, as a desk's log tells, there was nothing to write."""
    files = coder_files(task, output_root)
    return {
        name: with_blanks(task, labels, told_by_log(files[name].with_name(f"{name}{LOG}")))
        for name, labels in people_of(task, coders, output_root).items()
    }


def with_blanks(task: Task, labels: Labels, told: Told) -> Labels:
    """Return a coder's labels with the textboxes in which, as the log tells, there was nothing to write."""
    boxes = {f.column for f in task.codebook if f.type == "textbox"}
    known = set(task.ids) if told.blank and boxes else ()
    more: dict[str, Row] = {}
    for i, column in told.blank:
        if i in known and column in boxes and column not in labels.get(i, {}):
            more.setdefault(i, {})[column] = ""
    return {
        **labels,
        **{i: of_applying(task.codebook, {**labels.get(i, {}), **row}) for i, row in more.items()},
    }


class LabelReader:
    """Reads coders' files of one task; a cell that was understood once is not read again.

    Parameters
    ----------
    as_written
        Keep everything that stands there: also of texts that the task does not have, and of fields that do not apply.
    """

    def __init__(self, task: Task, *, as_written: bool = False) -> None:
        self.task, self._all = task, as_written
        self._gated = not as_written and any(f.condition is not None for f in task.codebook)
        self._texts = dict(zip(task.ids, task.texts, strict=True))
        self.unknown: dict[str, list[str]] = {}
        self._known: dict[str, _Known] = {}

    def read(self, path: Path, coder: str) -> Labels:
        """Return a coder's labels; rows of texts that the task does not have are left out.

        Raises
        ------
        ScoringError
            If the file has no ids or no labels, an id repeats, or a label is outside the codebook.
        """
        columns = self._columns(path, coder)
        names = list(columns)
        id_column = self._id_column(names, coder, path)
        ids = columns[id_column]
        for name, column in self.task.codebook.plainly_named(n for n in names if n != id_column).items():
            columns[column] = columns[name]
        fields = [f for f in self.task.codebook if f.column in columns]
        if not fields:
            labels = listed((f.column for f in self.task.codebook), 12)
            raise ScoringError(
                f"coder '{coder}': {path} has no label column of task '{self.task.name}'.\n"
                f"  Its columns: {listed(names, 12)}; the labels are in {labels}."
            )
        ids = self._joined(ids, coder)
        if len(set(ids)) < len(ids):
            try:
                refuse_repeated(dict(enumerate(ids)), f"coder '{coder}' ({path})", 2)
            except TaskError as error:
                raise ScoringError(str(error)) from None
        text_column = self.task.codebook.text_column
        if text_column in columns and not self._all:
            own = {i: text for i, text in zip(ids, columns[text_column], strict=True) if i in self._texts}
            refuse_other_texts(self._texts, own, f"coder '{coder}' ({path})", text_column)
        by_text: Labels = {}
        wrong: list[str] = []
        for f in fields:
            values = self._values(f, columns[f.column], ids, wrong)
            if not by_text:
                by_text = {
                    i: {f.column: value} for i, value in zip(ids, values, strict=True) if value is not None
                }
                continue
            for i, value in zip(ids, values, strict=True):
                if value is not None:
                    by_text.setdefault(i, {})[f.column] = value
        if wrong:
            raise ScoringError(problems(f"coder '{coder}': labels in {path} are outside the codebook", wrong))
        if self._gated:
            by_text = {i: of_applying(self.task.codebook, row) for i, row in by_text.items()}
        known = self._texts
        return (
            by_text
            if self._all or by_text.keys() <= known.keys()
            else {i: r for i, r in by_text.items() if i in known}
        )

    def _joined(self, ids: list[str], coder: str) -> list[str]:
        """Return the task's ids that a coder's ids mean; an id that means none stays as it is."""
        if self._texts.keys() >= set(ids):
            return ids
        joined = joined_ids(ids, self._texts)
        unknown = [i for i, known in zip(ids, joined, strict=True) if known is None]
        if unknown:
            self.unknown[coder] = unknown
        return [known or i for i, known in zip(ids, joined, strict=True)]

    def _columns(self, path: Path, coder: str) -> dict[str, list[str]]:
        """Return a file's columns; one without quotation marks is taken apart at its commas."""
        try:
            return _plain_columns(path) or {
                c.name: c.to_list() for c in read_csv(path, delimiter=None).get_columns()
            }
        except TaskError as error:
            if "has a header but no texts" in str(error):
                return {
                    name: []
                    for name in path.read_text(encoding="utf-8-sig", errors="replace").strip().split(",")
                }
            raise ScoringError(f"coder '{coder}': {error}") from None

    def _id_column(self, names: list[str], coder: str, path: Path) -> str:
        wanted = "text_id" if self.task.id_source == "text" else self.task.id_source
        column = next((name for name in (wanted, *ID_COLUMNS) if name in names), None)
        if column is None:
            raise ScoringError(
                f"coder '{coder}': {path} has no id column '{wanted}' or {listed(ID_COLUMNS)}.\n"
                f"  Its columns: {listed(names, 12)}."
            )
        return column

    def _values(self, f: Field, cells: Sequence[str], ids: Sequence[str], wrong: list[str]) -> list[Any]:
        """Return the values of one column, and enter the cells that have none among the faults, with their rows."""
        if f.type != "span":
            known = self._known.setdefault(f.column, _Known(f))
            values = list(map(known.__getitem__, cells))
            if not known.faults:
                return values
            faults = [
                (n, i, cell, known.faults.get(cell))
                for n, (i, cell) in enumerate(zip(ids, cells, strict=True), 2)
            ]
        else:
            values, faults = [], []
            for n, (i, cell) in enumerate(zip(ids, cells, strict=True), start=2):
                value, fault = None, None
                try:
                    value = read_spans(cell, self._texts[i], f.label_options)[0] if i in self._texts else None
                except ValueError as error:
                    fault = str(error)
                values.append(value)
                faults.append((n, i, cell, fault))
        wrong += [
            f"row {n}, text {i}, {f.name}: {cell[:60]!r} {fault}" for n, i, cell, fault in faults if fault
        ]
        return values


class _Known(dict[str, Any]):
    """The value of every cell that was met; of one that has none, why."""

    def __init__(self, f: Field) -> None:
        super().__init__()
        self._field = f
        self.faults: dict[str, str] = {}

    def __missing__(self, cell: str) -> Any:
        try:
            self[cell] = self._field.read(cell)
        except ValueError as error:
            self[cell], self.faults[cell] = None, str(error)
        return self[cell]


def _plain_columns(path: Path) -> dict[str, list[str]] | None:
    """Return the columns of a CSV file that needs no reader: no quotation mark, even rows; ``None`` for any other."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None
    if '"' in text or "\r" in text:
        return None
    lines = [line for line in text.split("\n") if line]
    header = lines[0].split(",") if lines else []
    width = len(header)
    commas = methodcaller("count", ",")
    if len(lines) < 2 or width < 2 or len(set(header)) < width or set(map(commas, lines)) != {width - 1}:
        return None
    cells = ",".join(lines[1:]).split(",")  # a list per line would take three times as long
    return {name: cells[place::width] for place, name in enumerate(header)}


def of_applying(codebook: Codebook, row: Mapping[str, Any]) -> Row:
    """Return the labels of fields that apply; a field whose parent was not coded counts as applying."""
    return {column: value for column, value in row.items() if _may_apply(codebook, codebook[column], row)}


def _may_apply(codebook: Codebook, f: Field, row: Mapping[str, Any]) -> bool:
    if f.condition is None:
        return True
    parent = codebook[f.condition.column]
    value = row.get(parent.column)
    return (value is None or f.condition.met_by(value)) and _may_apply(codebook, parent, row)
