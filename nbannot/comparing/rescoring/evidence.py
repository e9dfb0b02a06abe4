"""Evidence: the answers of an older run as a coding, and beside them every cell as the older program saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbannot.asking.answers import Answer
from nbannot.errors import ScoringError, listed
from nbannot.record.coding import Coding
from nbannot.record.lab import LabRun
from nbannot.study.field import Field
from nbannot.study.spans import read_spans
from nbannot.study.task import Task

BLANK = "no answer in output.csv"
OUTSIDE = "not in the codebook"


class Pair(NamedTuple):
    """One human cell and one model cell, as text and as what we make of them.

    Attributes
    ----------
    human, model : values; ``None`` where the human label does not count, and without a valid answer.
    """

    human_cell: str
    human: Any
    model_cell: str
    model: Any
    text: str


@dataclass(frozen=True)
class Evidence:
    """One field of an older run.

    Attributes
    ----------
    by_id
        The rows, joined by id.
    by_position
        The rows as they are joined when only their place counts; ``None`` where that is the same.
    """

    field: Field
    by_id: Sequence[Pair]
    by_position: Sequence[Pair] | None


def lab_coding(run: LabRun, task: Task) -> Coding:
    """Return the answers of an older run as a coding of the texts it has, joined by id.

    A blank is not applicable where the run's own answer closed the gate, and no valid answer elsewhere. A value that
    the codebook does not have is an invalid answer.

    Raises
    ------
    ScoringError
        If the ids of ``output.csv`` are repeated or not those of the task, or its texts differ.
    """
    place = {text_id: row for row, text_id in enumerate(_ids(run, task))}
    unknown = [text_id for text_id in place if text_id not in set(task.ids)]
    if unknown or len(place) < len(run.rows):
        what = f"unknown ids: {listed(unknown, 3)}" if unknown else "an id that is there twice"
        raise ScoringError(
            f"{run.folder}: output.csv has {what}.\n  Score it against the task that it was made from."
        )
    chosen = task.select(ids=list(place))
    rows = [place[text_id] for text_id in chosen.ids]
    text_column = task.codebook.text_column
    if [run.rows[row].get(text_column) for row in rows] != chosen.texts:
        raise ScoringError(
            f"{run.folder}: the texts in output.csv are not those of task '{task.name}'.\n"
            "  The data changed after the run; score it against the data it was made from."
        )
    answers: dict[str, list[Answer]] = {}
    for f in task.codebook.in_order:
        if f.column in run.columns:
            cells = run.answers(f.column)
            answers[f.column] = [
                _answer(f, cells[row], text, answers, number)
                for number, (row, text) in enumerate(zip(rows, chosen.texts, strict=True))
            ]
    in_order = {f.column: answers[f.column] for f in task.codebook if f.column in answers}
    return Coding(chosen, in_order, run.run_id)


def _ids(run: LabRun, task: Task) -> list[str]:
    """Return the id of every row of ``output.csv``."""
    text_column = task.codebook.text_column
    if task.id_source == "text" and text_column in run.rows[0]:  # ids that are made from the texts
        import polars as pl

        texts = pl.DataFrame({text_column: [row[text_column] for row in run.rows]})
        every = tuple(range(texts.height))
        return Task(texts, task.codebook, task.name, task.id_column, rows=every).ids
    if task.id_source in run.rows[0]:
        return [row[task.id_source] for row in run.rows]
    raise ScoringError(
        f"{run.folder}: output.csv has no column '{task.id_source}', by which task '{task.name}' knows its texts.\n"
        f"  Its columns: {listed(run.rows[0], 12)}."
    )


def _answer(f: Field, cell: str, text: str, above: Mapping[str, Sequence[Answer]], row: int) -> Answer:
    if not cell.strip():
        return _blank(f, above, row)
    try:
        value = read_spans(cell, text, f.label_options)[0] if f.type == "span" else f.read(cell)
    except ValueError as error:
        return Answer(f.column, "invalid", reason=f"{OUTSIDE}: {cell[:60]!r} {error}")
    return Answer(f.column, "ok", value)


def _blank(f: Field, above: Mapping[str, Sequence[Answer]], row: int) -> Answer:
    parents = above.get(f.condition.column) if f.condition else None
    if f.condition is None or parents is None:
        return Answer(f.column, "invalid", reason=BLANK)
    parent = parents[row]
    if parent.status == "not_applicable" or (parent.status == "ok" and not f.condition.met_by(parent.value)):
        return Answer(f.column, "not_applicable")
    if parent.status != "ok":
        return Answer(f.column, "not_asked", reason="no valid answer to the field on which it depends")
    return Answer(f.column, "invalid", reason=BLANK)


def evidence(run: LabRun, task: Task, coding: Coding, f: Field) -> Evidence:
    """Return one field's cells in both joins; `task` is the whole ground truth in its order."""
    people, applies = task.human(f.column), task.human_applies(f.column)
    cells = list(task.data[f.column]) if f.column in task.data.columns else [""] * len(task)
    human = [(c, v if a else None) for c, v, a in zip(cells, people, applies, strict=True)]
    answers = dict(zip(coding.task.ids, coding.answers[f.column], strict=True))
    ids = _ids(run, task)
    text_column = task.codebook.text_column
    model = [
        (cell, answers[text_id].value, row[text_column])
        for cell, text_id, row in zip(run.answers(f.column), ids, run.rows, strict=True)
    ]
    place = {text_id: row for row, text_id in enumerate(ids)}
    joined = [(h, model[place[i]]) for i, h in zip(task.ids, human, strict=True) if i in place]
    by_place = [(h, m) for h, m in zip(human, model, strict=False)]
    by_id = [Pair(*h, *m) for h, m in joined]
    same = task.ids[: len(ids)] == ids
    return Evidence(f, by_id, None if same else [Pair(*h, *m) for h, m in by_place])
