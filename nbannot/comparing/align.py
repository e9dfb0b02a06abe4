"""Alignment: several coders on the same texts in the same order, with the same human labels. Else no comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbannot.asking.applies import never_asked
from nbannot.comparing.coder import Coder
from nbannot.errors import ScoringError, listed, nearest
from nbannot.measures.accounting import FieldData
from nbannot.record.run import Run
from nbannot.record.scoring import field_data
from nbannot.study.field import Field
from nbannot.study.sampling_weights import Weighting
from nbannot.study.task import Task
from nbannot.tools.given import listed_or

Compared = Run | Coder


def given_items(items: Any) -> list[Compared]:
    """Return runs and coders as a list; a ScoringError where something else was given."""
    wanted = "\n  Give a list; a folder becomes a run by load_run(...), people's labels a coder by load_coder(...)."
    if isinstance(items, Run | Coder):
        raise ScoringError(f"one {type(items).__name__} was given, not a list.{wanted}")
    given: list[Compared] = listed_or(ScoringError, items, "a list of runs and coders")
    strangers = sorted({type(item).__name__ for item in given if not isinstance(item, Run | Coder)})
    if strangers:
        raise ScoringError(f"only runs and coders can be compared. Got {listed(strangers)}.{wanted}")
    return given


def refuse_other_fields(items: Sequence[Compared]) -> None:
    """Raise a ScoringError where one is given twice or the codebooks differ."""
    ids = [item.run_id for item in items]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        people = any(isinstance(item, Coder) and item.run_id in twice for item in items)
        hint = "\n  Give people different names: load_coder(..., name=...)." if people else ""
        raise ScoringError(f"a run is given more than once: {listed(twice)}.{hint}")
    if len({item.task.codebook.hash for item in items}) > 1:
        raise ScoringError(
            "runs with different codebooks cannot be compared: their fields do not mean the same thing.\n"
            "  flip_rate([...]) counts the labels that changed; each run's own report says what they are worth."
        )


def shared_fields(items: Sequence[Compared]) -> list[Field]:
    """Return the fields that all of them answered, in the order of the codebook.

    One that a run was set up to ask of no text (a textbox, with a decision model) is not among them: it has no score.
    """
    return [f for f in items[0].task.codebook if all(_asked(item, f.column) for item in items)]


def _asked(item: Compared, column: str) -> bool:
    answers = item.coding.answers.get(column)
    return answers is not None and not never_asked(answers)


def shared_field(items: Sequence[Compared], column: str | None, lacking: str, how: str = "") -> Field:
    """Return a field that all of them answered, the only one where none is named.

    Parameters
    ----------
    lacking
        How to say that one of them has no answers in a column, which follows: ``"not every coder coded"``.
    how
        What to say after that, before the fields that can be named.

    Raises
    ------
    ScoringError
        If not all of them answered it, or none is named where they share several or none.
    """
    codebook, shared = items[0].task.codebook, shared_fields(items)
    if column is None and len(shared) == 1:
        return shared[0]
    if column is None or codebook[column] not in shared:
        what = "name one field" if column is None else f"{lacking} {codebook[column].column}"
        what += f', e.g. column="{shared[0].name}"' if column is None and shared else ""
        raise ScoringError(f"{what}{how}.\n  All coded: {listed(f.column for f in shared)}.")
    return codebook[column]


def on_the_same_texts(items: Sequence[Compared], fields: Sequence[Field]) -> list[Compared]:
    """Return the items on their common texts, in one order; runs must have the very same, people may have fewer.

    Raises
    ------
    ScoringError
        If texts or the human labels of these fields differ, or there is no common text.
    """
    tasks = [item.task for item in items]
    runs = [item for item in items if isinstance(item, Run)]
    for run in runs[1:]:
        if run.task.ids != runs[0].task.ids or run.task.texts != runs[0].task.texts:
            raise ScoringError(
                f"runs {runs[0].run_id} ({len(runs[0].task)} texts) and {run.run_id} ({len(run.task)} texts) were made "
                "on different texts.\n  Compare runs with the same data, limit, ids and split."
            )
    first = (runs or items)[0].task
    common = set.intersection(*(set(task.ids) for task in tasks))
    if not common:
        raise ScoringError("these coders share no text.")
    base = first if len(common) == len(first) else first.select(ids=[i for i in first.ids if i in common])
    columns = _with_conditions(base, fields)
    return [_moved(item, base, columns) for item in items]


def _with_conditions(task: Task, fields: Sequence[Field]) -> list[str]:
    """Return the columns of the fields and of all fields on which they depend."""
    columns: list[str] = []
    waiting = list(fields)
    while waiting:
        f = waiting.pop()
        if f.column not in columns:
            columns.append(f.column)
            if f.condition is not None:
                waiting.append(task.codebook[f.condition.column])
    return columns


def _moved(item: Compared, base: Task, columns: Sequence[str]) -> Compared:
    """Return an item with the texts of `base`, in its order, found by id."""
    if item.task is base:
        return item
    place = {text_id: row for row, text_id in enumerate(item.task.ids)}
    rows = [place[text_id] for text_id in base.ids]
    for text_id, row, text in zip(base.ids, rows, base.texts, strict=True):
        if item.task.texts[row] != text:
            raise ScoringError(
                f"{item.run_id} has a different text from the others under the id '{text_id}'.\n"
                "  Ids must mean the same text: load every coder with the task of the runs."
            )
    for column in columns:
        human = item.task.human(column)
        if [human[row] for row in rows] != base.human(column):
            raise ScoringError(
                f"{item.run_id} has different human labels from the others in '{column}'.\n"
                "  The labels were changed in between: load all of them with the same task."
            )
    answers = {
        column: [answers_of[row] for row in rows] for column, answers_of in item.coding.answers.items()
    }
    return replace(item, task=base, coding=replace(item.coding, task=base, answers=answers))


def aligned(
    items: Sequence[Compared], f: Field, clusters: Sequence[str] | None, weighting: Weighting | None
) -> list[FieldData]:
    """Return one field of every item, with a reference only where every person was given the question."""
    import numpy as np

    given = np.logical_and.reduce([item.coding.given(f.column) for item in items])
    fields = [field_data(item.coding, f, clusters) for item in items]
    reference = field_data(replace(items[0].coding, by_person=False), f, clusters).human
    human = [value if asked else None for value, asked in zip(reference, given, strict=True)]
    coded = [value is not None for value in human]
    weights = None if weighting is None else weighting.on(items[0].task.ids, coded)[0]
    return [
        replace(data, human=human, weights=None if weights is None else np.array(weights)) for data in fields
    ]


def column_of(task: Task, name: str | None) -> list[str] | None:
    """Return a column of the data, ``None`` if none is asked for."""
    if name is None:
        return None
    if name not in task.data.columns:
        columns = task.data.columns
        raise ScoringError(
            f"the data has no column '{name}'{nearest(name, columns) or '.'}\n  Its columns: {listed(columns, 12)}."
        )
    return list(task.data[name])
