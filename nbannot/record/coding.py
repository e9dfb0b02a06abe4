"""A coding: one coder's labels of a task's texts, whoever the coder is: a model's run or a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.answers import Answer
from nbannot.asking.applies import NOT_REACHED, why_not_asked
from nbannot.asking.decisions import expected
from nbannot.errors import ScoringError, listed
from nbannot.record.folder import OUTPUT
from nbannot.study.field import Field
from nbannot.study.reading import read_csv
from nbannot.study.spans import read_spans
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

NOT_CALIBRATED = "not calibrated yet: the run ended before its calibration texts were answered"
ASKED_AGAIN = "no valid answer so far: the run ended before its further attempts"
OPEN = (NOT_REACHED, NOT_CALIBRATED, ASKED_AGAIN)
"""Why an answer is not the last word: the same run goes on from there."""
NOT_CODED = "not coded by this coder"
LABEL_COLUMNS = ("text_id", "column", "value", "status", "reason", "repaired", "unaligned", "attempt")
PROBABILITY_COLUMNS = ("probability", "expected")
"""Of the label that was given, and the expected level of a scale; only where a model gave probabilities."""


@dataclass(frozen=True)
class Coding:
    """One coder's answers, aligned with the texts of a task.

    Attributes
    ----------
    answers
        column -> one `Answer` per text of the task, in the task's order. A column that was not asked is not there.
    coder
        A run id or a person's name.
    by_person
        Whether the coder is a person: a text that a person was not given is no error of theirs.
    """

    task: Task
    answers: Mapping[str, Sequence[Answer]]
    coder: str = ""
    by_person: bool = False

    @property
    def fields(self) -> list[Field]:
        """The fields that were asked, in codebook order."""
        return [f for f in self.task.codebook if f.column in self.answers]

    def asked(self, name: str | None) -> Field:
        """Return a field that was asked, the only one where none is named.

        Raises
        ------
        CodebookError
            If the codebook has no such field.
        ScoringError
            If it was not asked, or none is named and several were asked.
        """
        asked = listed(f.column for f in self.fields)
        if name is None:
            if len(self.fields) != 1:
                named = f', e.g. column="{self.fields[0].name}"' if self.fields else ""
                raise ScoringError(f"name one field{named}.\n  Asked: {asked}.")
            return self.fields[0]
        f = self.task.codebook[name]
        if f.column not in self.answers:
            raise ScoringError(
                f"'{f.column}' was not asked{self.coder and f' in {self.coder}'}.\n  Asked: {asked}."
            )
        return f

    def values(self, column: str) -> list[Any]:
        """Return the values of one field, one per text; ``None`` where there is no valid answer."""
        return [answer.value for answer in self.answers[column]]

    def given(self, column: str) -> list[bool]:
        """Return per text whether the coder was given the question: always, except for a person who left it blank."""
        return [not self.by_person or answer.status != "not_asked" for answer in self.answers[column]]

    def count(self, column: str | None = None) -> dict[str, int]:
        """Return how many answers have each status, for one field or all."""
        counts: dict[str, int] = {}
        for name in [column] if column else self.answers:
            for answer in self.answers[name]:
                counts[answer.status] = counts.get(answer.status, 0) + 1
        return counts

    @property
    def n_open(self) -> int:
        """How many answers are not final: asking again could still bring one."""
        return sum(
            answer.status == "failed" or answer.reason in OPEN
            for answers in self.answers.values()
            for answer in answers
        )

    @property
    def complete(self) -> bool:
        """Whether every answer is final."""
        return not self.n_open

    def frame(self, statuses: Iterable[str] | None = None) -> Frame:
        """Return one row per text and field: id, column, value, status, reason, repaired, unaligned, attempt."""
        wanted = None if statuses is None else set(statuses)
        rows = [
            {
                "text_id": text_id,
                "column": column,
                "value": answer.value,
                "status": answer.status,
                "reason": answer.reason,
                "repaired": answer.repaired,
                "unaligned": len(answer.unaligned),
                "attempt": answer.attempt,
                **_told(self.task.codebook[column], answer),
            }
            for column, answers in self.answers.items()
            for text_id, answer in zip(self.task.ids, answers, strict=True)
            if wanted is None or answer.status in wanted
        ]
        shares = any(a.probabilities for answers in self.answers.values() for a in answers)
        return make_frame(rows, (*LABEL_COLUMNS, *PROBABILITY_COLUMNS) if shares else LABEL_COLUMNS)

    def output_rows(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of ``output.csv``: every input column but the labels, then one per field."""
        codebook, data = self.task.codebook, self.task.data
        kept = self.task.other_columns
        header = kept + [f.column for f in codebook]
        columns = [list(data[name]) for name in kept]
        for f in codebook:
            answers = self.answers.get(f.column)
            blank = [""] * len(self.task)
            columns.append([f.to_cell(a.value) for a in answers] if answers is not None else blank)
        return header, [list(row) for row in zip(*columns, strict=True)]


def probability_of(f: Field, answer: Answer) -> float | None:
    """Return the probability of the label that was given; ``None`` where no model told it."""
    if answer.probabilities is None or answer.value not in f.labels:
        return None
    return answer.probabilities[f.labels.index(answer.value)]


def _told(f: Field, answer: Answer) -> dict[str, float | None]:
    details = {"probability": probability_of(f, answer)}
    if f.type == "likert" and answer.probabilities is not None:
        details["expected"] = f.min_value + expected(answer.probabilities)
    return details


def from_output(
    task: Task,
    folder: Path,
    columns: Sequence[str],
    coder: str = "",
    unasked: Mapping[str, str] | None = None,
) -> Coding:
    """Return the coding that the ``output.csv`` of a run folder holds: a value is a valid answer, a blank is none.

    Parameters
    ----------
    unasked
        column -> why a field was asked of no text.

    Raises
    ------
    ScoringError
        If its texts are not those of the task, or a cell is not a value of its field.
    """
    output = read_csv(folder / OUTPUT)
    missing = [name for name in columns if name not in output.columns]
    if missing:
        raise ScoringError(f"{folder / OUTPUT} has no column {listed(missing)}.")
    text_column = task.codebook.text_column
    if text_column not in output.columns or not output[text_column].equals(task.data[text_column]):
        raise ScoringError(
            f"the texts in {folder / OUTPUT} are not those of task '{task.name}'.\n"
            "  The data changed after the run; score it against the data it was made from."
        )
    answers: dict[str, list[Answer]] = {}
    for f in task.codebook.in_order:
        if f.column not in columns:
            continue
        above = answers.get(f.condition.column) if f.condition else None
        answers[f.column] = []
        for row, cell in enumerate(output[f.column]):
            parent = above[row] if above is not None else None
            answers[f.column].append(
                _from_cell(f, cell, task, row, parent, folder, (unasked or {}).get(f.column, ""))
            )
    return Coding(task, {f.column: answers[f.column] for f in task.codebook if f.column in answers}, coder)


def _from_cell(
    f: Field, cell: str, task: Task, row: int, parent: Answer | None, folder: Path, never: str
) -> Answer:
    if not cell:
        why = why_not_asked(f, task.texts[row], task.codebook, parent, never)
        return why or Answer(f.column, "not_asked", reason=NOT_REACHED)
    try:
        value = read_spans(cell, task.texts[row], f.label_options)[0] if f.type == "span" else f.read(cell)
    except ValueError as error:
        raise ScoringError(
            f"{folder / OUTPUT}, text {task.ids[row]}, column {f.column}: {cell[:60]!r} {error}.\n"
            "  The file was changed by something else; mend the cell, or put the file back."
        ) from None
    return Answer(f.column, "ok", value)


def from_labels(task: Task, coder_task: Task, coder: str) -> Coding:
    """Return a person's labels as a coding of `task`, joined by id; texts the person did not code are missing.

    Parameters
    ----------
    coder_task
        The person's labels as a task with the same codebook; it may hold fewer texts, in any order.

    Raises
    ------
    ScoringError
        If the person coded no text of the task.
    """
    place = {text_id: row for row, text_id in enumerate(coder_task.ids)}
    if not any(text_id in place for text_id in task.ids):
        raise ScoringError(
            f"coder '{coder}' shares no text with task '{task.name}': the ids differ "
            f"({listed(coder_task.ids, 3)} against {listed(task.ids, 3)})."
        )
    answers: dict[str, list[Answer]] = {}
    for f in task.codebook:
        if f.column not in coder_task.label_columns:
            continue
        values, applies = coder_task.human(f.column), coder_task.human_applies(f.column)
        answers[f.column] = [_said(f, values, applies, place.get(text_id)) for text_id in task.ids]
    return Coding(task, answers, coder, by_person=True)


def _said(f: Field, values: Sequence[Any], applies: Sequence[bool], row: int | None) -> Answer:
    if row is None:
        return Answer(f.column, "not_asked", reason=NOT_CODED)
    if not applies[row]:
        return Answer(f.column, "not_applicable")
    if values[row] is None:
        return Answer(f.column, "not_asked", reason=NOT_CODED)
    return Answer(f.column, "ok", values[row])
