"""Rows: one field of a run beside the human labels, text by text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbannot.errors import ScoringError, listed
from nbannot.page.blocks import Cell
from nbannot.page.digits import NONE, number
from nbannot.report.words import STATUS_WORDS
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.record.differences import Difference
    from nbannot.record.scoring import Scored


class Row(NamedTuple):
    """One text with both labels; `human` is ``None`` where people did not code it or it does not apply.

    `probability` is that of the model's label, after calibration if there was one; ``None`` where none was told.
    """

    text_id: str
    text: str
    human: Any
    model: Any
    status: str
    reason: str
    agrees: bool
    probability: float | None = None


def field_of(run: Scored, column: str | None, kinds: tuple[str, ...] = (), display: str = "") -> Field:
    """Return the field with this name or column, which must have been asked; without one, the only one of its kind.

    Raises
    ------
    ScoringError
        If the field was not asked, its type is none of `kinds`, or it is not clear which one is meant.
    CodebookError
        If the codebook has no such field.
    """
    fitting = [a for a in run.coding.fields if not kinds or a.type in kinds]
    names = listed(a.name for a in fitting)
    if column is None and len(fitting) > 1:
        raise ScoringError(f'name one field, e.g. "{fitting[0].name}".\n  Such fields here: {names}.')
    if column is None and fitting:
        return fitting[0]
    f = run.coding.fields[0] if column is None else run.coding.asked(column)
    if kinds and f.type not in kinds:
        raise ScoringError(
            f"{display} is for fields of type {' or '.join(kinds)}; '{f.name}' is a {f.type}.\n"
            + (f"  Such fields here: {names}." if fitting else "  There is no such field here.")
        )
    return f


def rows_of(run: Scored, f: Field) -> Iterator[Row]:
    """Yield every text with the field's two labels, in the order of the texts."""
    from nbannot.record.coding import probability_of
    from nbannot.record.differences import both_labels, same_value

    for text_id, text, answer, known in both_labels(run.task, run.coding, f):
        agrees = known is not None and same_value(f, answer.value, known)
        sure = probability_of(f, answer)
        yield Row(text_id, text, known, answer.value, answer.status, answer.reason, agrees, sure)


def shown_value(f: Field, value: Any) -> str:
    """Return a value of a field as people read it; spans as their quotes with labels."""
    if value is None:
        return NONE
    if f.type == "multiselect" and isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    if f.type != "span" or not isinstance(value, list | tuple):
        return str(value) if value != "" else "(empty)"
    quotes = [f"“{s.get('text', '')}”" + (f" {s['label']}" if s.get("label") else "") for s in value]
    return " · ".join(quotes) or "(nothing)"


def model_cell(f: Field, row: Row | Difference) -> Cell:
    """Return the model's label, or why there is none."""
    if row.status == "ok":
        return Cell(shown_value(f, row.model))
    words = STATUS_WORDS.get(row.status, row.status)
    return Cell(f"{NONE} {words}" + (f": {row.reason}" if row.reason else ""), "quiet")


def probability_cells(rows: Sequence[Row | Difference]) -> tuple[list[str], list[list[Cell | str]], str]:
    """Return header, cells per row and alignment of the model's probabilities, with a bar; nothing if none was told."""
    if all(row.probability is None for row in rows):
        return [], [[] for _ in rows], ""
    cells: list[list[Cell | str]] = [
        [Cell(NONE, "quiet"), ""]
        if row.probability is None
        else [Cell(number(row.probability), "quiet"), Cell("", bar=row.probability)]
        for row in rows
    ]
    return ["probability", ""], cells, "rl"


def who_of(of: Scored, article: str = "") -> str:
    """Return who gave the labels that are held against people's: ``model``, or a person's name as a coder."""
    return f"coder {of.coding.coder}" if of.coding.by_person else f"{article}model"
