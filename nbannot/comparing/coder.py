"""A person as a coder: labels from a file or a frame, joined to a task by id, scored and compared like a run."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nbannot.asking.answers import shortened
from nbannot.errors import ScoringError, listed
from nbannot.page.shown import Shown
from nbannot.record.coding import Coding, from_labels
from nbannot.record.scoring import Scored
from nbannot.study.task import ID_COLUMNS, LARGEST_EXACT, OutsideLabels, Task, read_csv


@dataclass(frozen=True, repr=False)
class Coder(Scored, Shown):
    """A person's labels, to be scored and compared like a model's run. Only the texts the person coded count.

    Attributes
    ----------
    task
        The task with the texts that the person's table holds.
    unknown_ids
        Ids in the person's table that the task does not have; their rows are left out.
    """

    _display: ClassVar[str] = "coder_card"

    task: Task
    coding: Coding
    unknown_ids: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """The coder's name."""
        return self.coding.coder

    @property
    def model_id(self) -> str:
        """The coder's name, as it stands in tables beside runs."""
        return f"coder {self.coding.coder}"

    def __repr__(self) -> str:
        unknown = f", {len(self.unknown_ids)} rows with unknown ids left out" if self.unknown_ids else ""
        n = self.coding.count().get("ok", 0)
        return f"<Coder '{self.run_id}' on '{self.task.name}': {n} labels{unknown}>"


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
        A CSV file or a DataFrame with an id column and one or more of the task's label columns, in any order; the
        texts may be left out; where they are there, they must be those of the task under the same ids. Rows whose id
        the task does not have are left out and kept in `Coder.unknown_ids`.
    name
        The coder's name; the file's name when left out.
    id_column
        Where the ids are, if not in a column named as the task's or sample_id, doc_id, item_id, text_id, id.

    Raises
    ------
    TaskError, ScoringError
        If the ids are missing, repeated or stand at other texts than in the task, no text or no label column is
        shared with the task, or a label is outside the codebook.
    """
    is_path = isinstance(labels, str | Path)
    data: Any = read_csv(labels, encoding=encoding) if is_path else labels
    name = name or (Path(labels).stem if is_path else "coder")
    columns = [str(column) for column in data.columns]
    if not any(f.column in columns for f in task.codebook):
        raise ScoringError(
            f"the table of coder '{name}' has no label column of task '{task.name}'.\n"
            f"  Its columns: {listed(columns, 12)}; the labels are in {listed(f.column for f in task.codebook)}."
        )
    whole, ids, unknown = _with_texts(task, data, name, id_column)
    # A person's labels of a test half that is locked are as closed as the task's own.
    known = Task(whole, task.codebook, task.name, ids, outside_labels, split_lock=task.split_lock)
    place = set(known.ids)
    chosen = task.select(ids=[text_id for text_id in task.ids if text_id in place])
    return Coder(chosen, from_labels(chosen, known, name), unknown)


def _with_texts(
    task: Task, data: Any, name: str, id_column: str | None
) -> tuple[Any, str | None, tuple[str, ...]]:
    """Return a coder's rows that the task has, with the task's texts; the name of the id column; unknown ids."""
    have = [str(column) for column in data.columns]
    if id_column is not None and id_column not in have:
        raise ScoringError(
            f"the table of coder '{name}' has no column '{id_column}'.\n  Its columns: {listed(have, 12)}."
        )
    text_column = task.codebook.text_column
    if id_column is None and task.id_source == "text" and task.id_column is None and text_column in have:
        return (
            _columns_of(data, [text_column, *(f.column for f in task.codebook if f.column in have)]),
            None,
            (),
        )
    id_column = id_column or next((c for c in (task.id_source, *ID_COLUMNS) if c in have), None)
    if id_column is None:
        raise ScoringError(
            f"the labels of coder '{name}' have no id column: '{task.id_source}' or {listed(ID_COLUMNS)}.\n"
            f"  Its columns: {listed(have, 12)}. Labels are joined by id: name the column with id_column=..."
        )
    ids = [_id_text(value) for value in data[id_column]]
    texts = dict(zip(task.ids, task.texts, strict=True))
    rows = [row for row, text_id in enumerate(ids) if text_id in texts]
    if not rows:
        raise ScoringError(
            f"coder '{name}' shares no text with task '{task.name}': the ids differ "
            f"({listed(ids, 3)} against {listed(task.ids, 3)})."
        )
    if text_column in have:
        own = list(data[text_column])
        _refuse_other_texts(texts, {ids[row]: own[row] for row in rows}, name, text_column)
    kept = [ids[row] for row in rows]
    added = {id_column: kept, text_column: [texts[text_id] for text_id in kept]}
    return _rows_of(data, rows, added), id_column, tuple(i for i in ids if i not in texts)


def _refuse_other_texts(
    texts: Mapping[str, str], own: Mapping[str, Any], name: str, text_column: str
) -> None:
    """Raise a ScoringError where the coder's table has another text than the task under an id (blank: none)."""
    differing = [
        i
        for i, text in own.items()
        if isinstance(text, str) and text.strip() and _plain(text) != _plain(texts[i])
    ]
    if differing:
        first = differing[0]
        raise ScoringError(
            f"coder '{name}' has another text than the task under {len(differing)} of {len(own)} ids: "
            f"{listed(map(repr, differing), 3)}.\n"
            f"  '{first}' is {shortened(own[first])!r} there, {shortened(texts[first])!r} in the task.\n"
            f"  Labels are joined by id: correct the ids, or leave out the column '{text_column}' if only its wording "
            "changed."
        )


def _plain(text: str) -> str:
    """Return a text as it is compared: white space and the way accents are encoded do not count."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _id_text(value: Any) -> str:
    """Return an id as text; a whole float is what pandas makes of an integer beside a blank.

    >>> _id_text(7.0), _id_text("007")
    ('7', '007')
    """
    if not isinstance(value, float) or not value.is_integer():
        return str(value)
    if abs(value) >= LARGEST_EXACT:
        raise ScoringError(
            f"the ids were read as decimal numbers, which cannot hold so many digits: {value:.0f} may have been "
            'another id.\n  Read them as text: pandas.read_csv(..., dtype="string").'
        )
    return str(int(value))


def _columns_of(data: Any, names: list[str]) -> Any:
    """Return some columns of a pandas or polars frame."""
    return data[names] if hasattr(data, "iloc") else data.select(names)


def _rows_of(data: Any, rows: list[int], added: dict[str, list[str]]) -> Any:
    """Return some rows of a pandas or polars frame with these columns in place."""
    if hasattr(data, "iloc"):
        return data.iloc[rows].assign(**added)
    import polars as pl

    return data[rows].with_columns(*(pl.Series(column, values) for column, values in added.items()))
