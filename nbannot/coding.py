"""A coding: one coder's labels of a task's texts, whoever the coder is: a model's run or a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.answers import Answer
from nbannot.codebook import Field
from nbannot.errors import ScoringError, listed
from nbannot.folder import LEDGER, OUTPUT
from nbannot.frames import make_frame
from nbannot.ledger import read_lines
from nbannot.spans import read_spans
from nbannot.task import Task, read_csv

NOT_REACHED = "the run did not get this far"
LABEL_COLUMNS = ("text_id", "column", "value", "status", "reason", "repaired", "unaligned", "attempt")


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
    def complete(self) -> bool:
        """Whether every answer is final: nothing left that asking again could still bring."""
        return not any(
            answer.status == "failed" or answer.reason == NOT_REACHED
            for answers in self.answers.values()
            for answer in answers
        )

    def frame(self, statuses: Iterable[str] | None = None) -> Any:
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
            }
            for column, answers in self.answers.items()
            for text_id, answer in zip(self.task.ids, answers, strict=True)
            if wanted is None or answer.status in wanted
        ]
        return make_frame(rows, LABEL_COLUMNS)

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


def from_session(task: Task, answers: Mapping[str, Sequence[Answer | None]], coder: str = "") -> Coding:
    """Return the coding that a session of the engine left; what it did not reach gets a status that says so."""
    filled = {
        f.column: [a or Answer(f.column, "not_asked", reason=NOT_REACHED) for a in answers[f.column]]
        for f in task.codebook
        if f.column in answers
    }
    return Coding(task, filled, coder)


def from_folder(task: Task, folder: Path, columns: Sequence[str], coder: str = "") -> Coding:
    """Return the coding that a run folder holds: values from ``output.csv``, statuses from the ledger.

    Raises
    ------
    ScoringError
        If the texts of the folder are not those of the task.
    """
    ids, cells = _output_cells(task, folder, columns)
    last = _last_answers(folder / LEDGER)
    answers: dict[str, list[Answer]] = {}
    for f in task.codebook.in_order:
        if f.column in columns:
            answers[f.column] = [
                _stored(f, cell, text_id, text, last, answers, row)
                for row, (cell, text_id, text) in enumerate(
                    zip(cells[f.column], ids, task.texts, strict=True)
                )
            ]
    return Coding(task, {f.column: answers[f.column] for f in task.codebook if f.column in answers}, coder)


def _output_cells(task: Task, folder: Path, columns: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    output = read_csv(folder / OUTPUT)
    missing = [name for name in columns if name not in output.columns]
    if missing:
        raise ScoringError(f"{folder / OUTPUT} has no column {listed(missing)}.")
    text_column = task.codebook.text_column
    if text_column in output.columns and list(output[text_column]) != task.texts:
        raise ScoringError(
            f"the texts in {folder / OUTPUT} are not those of task '{task.name}'.\n"
            "  The data changed after the run; score it against the data it was made from."
        )
    return task.ids, {name: list(output[name]) for name in columns}


def _last_answers(ledger: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the answer that counts per text and column: the first valid one, else the last one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in read_lines(ledger):
        for answer in record.get("answers", ()):
            key = (record["text_id"], answer["column"])
            if key not in found or found[key]["status"] != "ok":
                found[key] = {**answer, "attempt": record["attempt"]}
    return found


def _stored(
    f: Field,
    cell: str,
    text_id: str,
    text: str,
    last: Mapping[tuple[str, str], Mapping[str, Any]],
    above: Mapping[str, Sequence[Answer]],
    row: int,
) -> Answer:
    record = last.get((text_id, f.column))
    if record is None:
        return _never_asked(f, text, above, row)
    attempt = record["attempt"]
    if record["status"] != "ok":
        return Answer(f.column, record["status"], reason=record.get("reason", ""), attempt=attempt)
    value: Any = ""
    if cell or f.type != "textbox":
        value = read_spans(cell, text, f.label_options)[0] if f.type == "span" else f.read(cell)
    return Answer(
        f.column,
        "ok",
        value,
        repaired=record.get("repaired", False),
        unaligned=tuple(record.get("unaligned", ())),
        attempt=attempt,
    )


def _never_asked(f: Field, text: str, above: Mapping[str, Sequence[Answer]], row: int) -> Answer:
    if not text.strip():
        return Answer(f.column, "not_asked", reason="the text is blank")
    if f.condition is not None and f.condition.column in above:
        parent = above[f.condition.column][row]
        if parent.status == "not_applicable" or (parent.status == "ok" and parent.value != f.condition.value):
            return Answer(f.column, "not_applicable")
        if parent.status != "ok":
            return Answer(f.column, "not_asked", reason="no valid answer to the field on which it depends")
    return Answer(f.column, "not_asked", reason=NOT_REACHED)


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
        return Answer(f.column, "not_asked", reason="not coded by this coder")
    if not applies[row]:
        return Answer(f.column, "not_applicable")
    if values[row] is None:
        return Answer(f.column, "not_asked", reason="not coded by this coder")
    return Answer(f.column, "ok", values[row])
