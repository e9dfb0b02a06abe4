"""Where a coding and people differ, and how far apart they are: chosen by label, status and metadata, and sorted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbannot.asking.answers import STATUSES, Answer
from nbannot.errors import ScoringError, listed, nearest
from nbannot.record.coding import Coding, probability_of
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.study.task import Task

SORTS = {
    "distance": "the furthest apart first, no label last",
    "probability": "the model's surest answer first, those without a probability last",
}
"""By what disagreements are sorted instead of by text -> what comes first."""
DISTANCES = {
    "likert": "steps between the two, of all the steps of the scale",
    "multiselect": "options that only one side chose, of all that either chose (1 − Jaccard)",
    "span": "characters that only one side marked with that label, of all that either marked",
    "textbox": "edits from one to the other, of the longer's characters (Levenshtein)",
}
"""Type of a field -> what its distance is; every other type has only 1, another label."""


class Difference(NamedTuple):
    """One text on which a coding and people differ.

    Attributes
    ----------
    distance
        From 0 to 1, as far apart as two answers can be; see `DISTANCES`. ``None`` where there is no valid answer.
    probability
        That of the model's label, after calibration if there was one; ``None`` where none was told.
    """

    field: Field
    text_id: str
    text: str
    human: Any
    model: Any
    status: str
    reason: str
    distance: float | None
    probability: float | None


def both_labels(task: Task, coding: Coding, f: Field) -> Iterator[tuple[str, str, Answer, Any]]:
    """Yield id, text, answer and human label of every text, in their order; ``None`` for a label that does not count.

    It counts where the field applies and the coder was given the text.
    """
    columns = (
        coding.answers[f.column],
        task.human(f.column),
        task.human_applies(f.column),
        coding.given(f.column),
    )
    for text_id, text, answer, human, applies, given in zip(task.ids, task.texts, *columns, strict=True):
        yield text_id, text, answer, human if applies and given else None


def differences(task: Task, coding: Coding, fields: Sequence[Field]) -> list[Difference]:
    """Return where the coding and people differ, field by field in the order of the texts.

    Only texts that people coded, to which the field applies and which the coder was given.
    """
    found: list[Difference] = []
    for f in fields:
        for text_id, text, answer, human in both_labels(task, coding, f):
            if human is None or same_value(f, answer.value, human):
                continue
            apart = distance(f, human, answer.value)
            sure = probability_of(f, answer)
            found.append(
                Difference(f, text_id, text, human, answer.value, answer.status, answer.reason, apart, sure)
            )
    return found


def chosen(
    found: Sequence[Difference],
    task: Task,
    *,
    human: Any = None,
    model: Any = None,
    status: str | None = None,
    where: Mapping[str, Any] | None = None,
    sort: str | None = None,
) -> list[Difference]:
    """Return the differences with these labels, this status and this metadata, sorted.

    Raises
    ------
    ScoringError
        If there is no such status, column or order.
    """
    _known("status", status, STATUSES)
    _known("sort", sort, SORTS)
    ids = _ids_where(task, where or {})
    kept = [
        one
        for one in found
        if _is(one.human, human)
        and _is(one.model, model)
        and status in (None, one.status)
        and (ids is None or one.text_id in ids)
    ]
    if sort is None:
        return kept
    return sorted(
        kept, key=lambda one: -1.0 if (value := getattr(one, sort)) is None else value, reverse=True
    )


def distance(f: Field, human: Any, model: Any) -> float | None:
    """Return how far two answers to a field are apart, from 0 to 1; ``None`` where one of them is missing.

    Two ways of cutting the same marked characters into spans are 0 apart.
    """
    if human is None or model is None:
        return None
    if f.type == "likert":
        return float(abs(human - model) / (f.max_value - f.min_value))
    if f.type == "textbox":
        from nbannot.measures.text import levenshtein_similarity

        return 1 - levenshtein_similarity(human, model)
    if f.type in ("span", "multiselect"):
        one, other = (_marked(value) if f.type == "span" else set(value) for value in (human, model))
        either = one | other
        return len(one ^ other) / len(either) if either else 0.0
    return float(human != model)


def same_value(f: Field, one: Any, other: Any) -> bool:
    """Return whether two values of a field are the same; spans by offsets and labels, in any order."""
    if one is None or other is None or f.type not in ("span", "multiselect"):
        return bool(one == other)
    if f.type == "multiselect":
        return set(one) == set(other)
    return {(s["start"], s["end"], s["label"]) for s in one} == {
        (s["start"], s["end"], s["label"]) for s in other
    }


def _marked(spans: Sequence[Mapping[str, Any]]) -> set[tuple[int, Any]]:
    return {(place, span["label"]) for span in spans for place in range(span["start"], span["end"])}


def _known(name: str, value: Any, values: Mapping[str, Any] | Sequence[str]) -> None:
    if value is not None and value not in values:
        there_are = f"\n  There are: {listed(list(values), 10)}."
        raise ScoringError(f"there is no {name} '{value}'{nearest(str(value), values) or '.'}{there_are}")


def _is(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return True
    if isinstance(value, list) and not isinstance(wanted, list):
        return str(wanted) in value
    return value is not None and str(value) == str(wanted)


def _ids_where(task: Task, where: Mapping[str, Any]) -> set[str] | None:
    """Return the texts whose metadata have these values, each one or a list of them; ``None`` for all texts."""
    if not where:
        return None
    kept = set(task.ids)
    for column, wanted in where.items():
        if column not in task.other_columns:
            raise ScoringError(
                f"the data has no column '{column}' (where){nearest(column, task.other_columns) or '.'}\n"
                f"  Its columns: {listed(task.other_columns, 12)}."
            )
        several = isinstance(wanted, list | tuple | set | frozenset)
        values = {_cell(value) for value in (wanted if several else [wanted])}
        cells = map(_cell, task.data[column])
        kept &= {text_id for text_id, cell in zip(task.ids, cells, strict=True) if cell in values}
    return kept


def _cell(value: Any) -> str:
    """Return a value of a metadata column as text; ``None`` is an empty cell."""
    return "" if value is None else str(value)
