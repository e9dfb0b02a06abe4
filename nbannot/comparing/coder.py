"""A person, or a model run elsewhere, as a coder: labels from a file or a frame, joined to a task by id.

They are scored and compared like a run. What a person left blank was not coded; what a model left blank is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from nbannot.asking.answers import Answer
from nbannot.comparing.joining import id_text, joined_ids, joined_texts, refuse_other_texts, refuse_repeated
from nbannot.errors import ScoringError, TaskError, harmless, listed, problems
from nbannot.page.shown import Shown
from nbannot.record.coding import Coding, from_labels
from nbannot.record.scoring import Scored
from nbannot.study.field import Field
from nbannot.study.spans import read_spans
from nbannot.study.spreadsheets import QUESTIONS, read_table
from nbannot.study.task import ID_COLUMNS, OutsideLabels, Task


@dataclass(frozen=True, repr=False)
class Coder(Scored, Shown):
    """Labels made elsewhere, to be scored and compared like a run. Of a person only the coded texts count.

    Attributes
    ----------
    task
        The task with the texts that a person's table holds; of a model's outputs with all its texts.
    unknown_ids
        Ids in the table that the task does not have; their rows are left out.
    n_given
        Number of texts of the task that the table was joined to.
    outside
        Which labels outside the codebook count as not coded, in words.
    """

    _display: ClassVar[str] = "coder_card"

    task: Task
    coding: Coding
    unknown_ids: tuple[str, ...] = ()
    n_given: int = 0
    outside: str = ""

    @property
    def run_id(self) -> str:
        """The coder's name."""
        return self.coding.coder

    @property
    def by_person(self) -> bool:
        """Whether this is a person, whose blanks are no errors."""
        return self.coding.by_person

    @property
    def model_id(self) -> str:
        """The coder's name, as it stands in tables beside runs."""
        return f"coder {self.coding.coder}" if self.by_person else self.coding.coder

    @property
    def left_out(self) -> str:
        """Which rows of the table have unknown ids, and which labels are outside the codebook, in words; "" if none."""
        n = len(self.unknown_ids)
        ids = listed((repr(i) for i in self.unknown_ids), 3)
        rows = f"{n:,} {'row' if n == 1 else 'rows'} with ids that the task does not have: {ids}" if n else ""
        labels = f"labels outside the codebook: {self.outside}" if self.outside else ""
        return "; ".join(filter(None, (rows, labels)))

    def __repr__(self) -> str:
        unknown = f", {len(self.unknown_ids)} rows with unknown ids left out" if self.unknown_ids else ""
        n = self.coding.count().get("ok", 0)
        what = "Coder" if self.by_person else "Outputs"
        return f"<{what} '{harmless(self.run_id)}' on '{self.task.name}': {n} labels{unknown}>"


def load_coder(
    task: Task,
    labels: str | Path | Any,
    name: str | None = None,
    *,
    id_column: str | None = None,
    encoding: str = "utf-8",
    outside_labels: OutsideLabels = "error",
) -> Coder:
    """Return one person's labels on a task.

    Parameters
    ----------
    labels
        A CSV file, an Excel workbook or a DataFrame with an id column and one or more of the task's label columns, in
        any order, by their full name (``Letter_Tone``) or the field's alone (``Tone``); the texts may be left out;
        where they are there, they must be those of the task under the same ids. Rows whose id the task does not have
        are left out and kept in `Coder.unknown_ids`.
    name
        The coder's name; the file's name when left out.
    id_column
        Where the ids are, if not in a column named as the task's or sample_id, doc_id, item_id, text_id, id.

    Raises
    ------
    TaskError, ScoringError
        If the ids are missing, repeated or stand at other texts than in the task, no text or no label column is
        shared with the task, or a label is outside the codebook: with the coder, the file and the row.
    """
    table = _Table.of(task, labels, name, "coder", id_column, encoding)
    if outside_labels == "error":
        _refuse_outside(table)
    # A person's labels of a test half that is locked are as closed as the task's own.
    known = Task(
        table.with_texts(), task.codebook, task.name, _ID, outside_labels, split_lock=task.split_lock
    )
    place = set(known.ids)
    chosen = task.select(ids=[text_id for text_id in task.ids if text_id in place])
    said = from_labels(chosen, known, table.name)
    return Coder(chosen, said, table.unknown, len(task), known.outside_words)


def load_outputs(
    task: Task,
    labels: str | Path | Any,
    name: str | None = None,
    *,
    id_column: str | None = None,
    encoding: str = "utf-8",
) -> Coder:
    """Return the outputs of a model that was run elsewhere, to be scored and compared like a run of our own.

    As for a run, every text of the task counts: a blank cell, a text that the table does not have, and a value
    outside the codebook are answers that are not valid. A child of a question that the model itself answered
    otherwise does not apply.

    Parameters
    ----------
    labels, name, id_column, encoding
        As for `load_coder`. Spans: ``[]`` says that nothing was found; a blank says nothing.

    Raises
    ------
    TaskError, ScoringError
        If the ids are missing, repeated or stand at other texts than in the task, or no text or no label column is
        shared with the task.
    """
    table = _Table.of(task, labels, name, "outputs", id_column, encoding)
    answers: dict[str, list[Answer]] = {}
    for f in table.fields:
        cells: dict[str, str] = dict(zip(table.ids.values(), table.cells(f.column), strict=True))
        answers[f.column] = [
            _answer(f, cells.get(text_id), text, answers, row)
            for row, (text_id, text) in enumerate(zip(task.ids, task.texts, strict=True))
        ]
    return Coder(task, Coding(task, answers, table.name), table.unknown, len(task))


def _answer(f: Field, cell: str | None, text: str, above: Mapping[str, Sequence[Answer]], row: int) -> Answer:
    """Return the answer that a cell of a model's outputs holds."""
    if cell is not None and cell.strip():
        try:
            value = read_spans(cell, text, f.label_options)[0] if f.type == "span" else f.read(cell)
        except ValueError as error:
            return Answer(f.column, "invalid", reason=f"not an option: {cell[:60]!r} {error}")
        return Answer(f.column, "ok", value)
    if f.condition is not None and f.condition.column in above:
        parent = above[f.condition.column][row]
        if parent.status == "not_applicable" or (
            parent.status == "ok" and not f.condition.met_by(parent.value)
        ):
            return Answer(f.column, "not_applicable")
    return Answer(f.column, "invalid", reason="blank" if cell is not None else "not in the table")


_ID = "sample_id"


@dataclass(frozen=True)
class _Table:
    """Somebody's table joined to a task.

    Attributes
    ----------
    data
        A pandas or polars frame.
    ids
        Row of the table -> id of the task's text that it is about; rows about no text of the task are not there.
    first_row
        How the first row is counted where the table comes from: 2 in a file with a header, 0 in a frame.
    """

    task: Task
    data: Any
    name: str
    who: str
    ids: Mapping[int, str]
    unknown: tuple[str, ...]
    first_row: int

    @classmethod
    def of(
        cls, task: Task, labels: Any, name: str | None, kind: str, id_column: str | None, encoding: str
    ) -> _Table:
        is_path = isinstance(labels, str | Path)
        data: Any = read_table(labels, encoding=encoding, besides=QUESTIONS) if is_path else labels
        name = name or (Path(labels).stem if is_path else kind)
        whose = f"{kind} '{name}'" + (f" ({labels})" if is_path else "")
        data = _with_label_columns(data, task)
        columns = [str(column) for column in data.columns]
        if not any(f.column in columns for f in task.codebook):
            raise ScoringError(
                f"the table of {whose} has no label column of task '{task.name}'.\n"
                f"  Its columns: {listed(columns, 12)}; the labels are in {listed(f.column for f in task.codebook)}."
            )
        given, ids = _found_ids(task, data, whose, id_column)
        rows = {row: text_id for row, text_id in enumerate(ids) if text_id is not None}
        if not ids:
            raise ScoringError(f"the table of {whose} has no rows: nothing is coded in it yet.")
        if not rows:
            raise ScoringError(
                f"{whose} shares no text with task '{task.name}': the ids differ "
                f"({listed(given, 3)} against {listed(task.ids, 3)})."
            )
        first_row = 2 if is_path else 0
        text_column = task.codebook.text_column
        if text_column in columns:
            own = list(data[text_column])
            texts = dict(zip(task.ids, task.texts, strict=True))
            refuse_other_texts(
                texts, {text_id: own[row] for row, text_id in rows.items()}, whose, text_column
            )
        refuse_repeated(rows, whose, first_row)
        unknown = tuple(i for i, text_id in zip(given, ids, strict=True) if text_id is None)
        return cls(task, data, name, whose, rows, unknown, first_row)

    @property
    def fields(self) -> list[Field]:
        """The fields whose column the table has, in codebook order."""
        return [f for f in self.task.codebook if f.column in map(str, self.data.columns)]

    def with_texts(self) -> Any:
        """Return the labels of the known rows with the task's ids and texts, as a frame of the same kind."""
        texts = dict(zip(self.task.ids, self.task.texts, strict=True))
        kept = list(self.ids.values())
        names = [f.column for f in self.fields]
        added = {_ID: kept, self.task.codebook.text_column: [texts[i] for i in kept]}
        return _rows_of(self.data, list(self.ids), names, added)

    def cells(self, column: str) -> list[str]:
        """Return one column of the known rows as text, as a task reads it."""
        return list(self._as_task.data[column])

    @cached_property
    def _as_task(self) -> Task:
        return Task(self.with_texts(), self.task.codebook, self.task.name, _ID, "not_coded")


def _found_ids(
    task: Task, data: Any, whose: str, id_column: str | None
) -> tuple[list[str], list[str | None]]:
    """Return the ids that stand in a table, and the id of the task that each of them means."""
    have = [str(column) for column in data.columns]
    if id_column is not None and id_column not in have:
        raise ScoringError(
            f"the table of {whose} has no column '{id_column}'.\n  Its columns: {listed(have, 12)}."
        )
    text_column = task.codebook.text_column
    if id_column is None and task.id_source == "text" and task.id_column is None and text_column in have:
        texts = ["" if text is None or text != text else str(text) for text in data[text_column]]
        return [text[:40] for text in texts], joined_texts(texts, task.texts, task.ids)
    id_column = id_column or next((c for c in (task.id_source, *ID_COLUMNS) if c in have), None)
    if id_column is None:
        raise ScoringError(
            f"the labels of {whose} have no id column: '{task.id_source}' or {listed(ID_COLUMNS)}.\n"
            f"  Its columns: {listed(have, 12)}. Labels are joined by id: name the column with id_column=..."
        )
    ids = [id_text(value) for value in data[id_column]]
    return ids, joined_ids(ids, task.ids)


def _refuse_outside(table: _Table) -> None:
    """Raise a TaskError that names coder, file and rows where labels are outside the codebook."""
    lines = list(_outside(table))
    if lines:
        raise TaskError(
            problems(f"labels of {table.who} are outside the codebook of task '{table.task.name}'", lines)
            + '\n  Correct them, or pass outside_labels="not_coded" to treat them as not coded.'
        )


def _outside(table: _Table) -> Iterator[str]:
    """Yield one line per column, cell and fault, with the rows and ids that have it."""
    texts = dict(zip(table.task.ids, table.task.texts, strict=True))
    for f in table.fields:
        rows: dict[tuple[str, str], list[str]] = {}
        for (row, text_id), cell in zip(table.ids.items(), table.cells(f.column), strict=True):
            try:
                _ = read_spans(cell, texts[text_id], f.label_options) if f.type == "span" else f.read(cell)
            except ValueError as error:
                where = f"row {row + table.first_row} (text {text_id})"
                rows.setdefault((cell if len(cell) <= 60 else cell[:57] + "…", str(error)), []).append(where)
        for (cell, why), places in rows.items():
            yield f"{f.column}: {cell!r} {why}; {listed(places, 3)}"


def refuse_no_task(task: Any) -> None:
    """Raise a TaskError where something else stands in the place of a task."""
    if not isinstance(task, Task):
        raise TaskError(
            f"the task comes first: nba.load_task(...) or nba.Task(...) returns it. Got {type(task).__name__}."
        )


def _with_label_columns(data: Any, task: Task) -> Any:
    """Return a pandas or polars frame in which columns that bear a field's plain name have that of its labels."""
    refuse_no_task(task)
    if not hasattr(data, "columns"):
        raise TaskError(f"labels are a path, or a pandas or polars frame. Got {type(data).__name__}.")
    taken = {task.id_source, *ID_COLUMNS}
    names = [name for name in data.columns if isinstance(name, str) and name not in taken]
    meant = task.codebook.plainly_named(names)
    return data.rename(columns=meant) if hasattr(data, "iloc") else data.rename(meant)


def _rows_of(data: Any, rows: list[int], names: list[str], added: Mapping[str, list[str]]) -> Any:
    """Return some rows and columns of a pandas or polars frame, with these columns added."""
    if hasattr(data, "iloc"):
        return data.iloc[rows][names].assign(**added)
    import polars as pl

    return (
        data[rows]
        .select(names)
        .with_columns(*(pl.Series(column, values) for column, values in added.items()))
    )
