"""The probability of every option, where a model gave one: ``probabilities.parquet`` beside ``output.csv``.

A table in Parquet, because it holds a row per text, field and option. Values are those that decided the labels: after
calibration, where there was one. What a maker calls ``confidence`` is in the ledger and in no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.answers import Answer
from nbannot.errors import RunError
from nbannot.record.coding import Coding
from nbannot.record.folder import PROBABILITIES as FILE
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load
from nbannot.tools.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

LONG_COLUMNS = ("text_id", "column", "option", "probability")


def save_probabilities(coding: Coding, folder: Path) -> None:
    """Write the file whole, or remove it where no answer has probabilities any more.

    Raises
    ------
    RunError
        If it cannot be written; an old one is untouched.
    """
    path = folder / FILE
    columns = _columns(coding)
    try:
        if not columns["text_id"]:
            path.unlink(missing_ok=True)
            return
        load("polars")
        import polars as pl

        table = pl.DataFrame(
            columns, schema=dict(zip(LONG_COLUMNS, (pl.String,) * 3 + (pl.Float64,), strict=True))
        )
        write_parquet(table, path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}.\n  Make room, or choose another output_root."
        ) from None


def with_probabilities(coding: Coding, folder: Path) -> Coding:
    """Return the coding with the probabilities that its folder holds; the same one where there are none.

    Raises
    ------
    RunError
        If the file is not one of ours.
    """
    path = folder / FILE
    if not path.exists():
        return coding
    load("polars")
    import polars as pl

    try:
        table = read_parquet(path, columns=list(LONG_COLUMNS))
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror}.\n"
            "  Remove it: the labels are in output.csv, and the probabilities of every call in responses.jsonl."
        ) from None
    answers: dict[str, Sequence[Answer]] = dict(coding.answers)
    row_of = {text_id: row for row, text_id in enumerate(coding.task.ids)}
    for f in coding.fields:
        own = table.filter(pl.col("column") == f.column)
        if own.height:
            answers[f.column] = _completed(f, list(answers[f.column]), own, row_of)
    return replace(coding, answers=answers)


def _completed(f: Field, answers: list[Answer], own: Any, row_of: Mapping[str, int]) -> list[Answer]:
    place = {f.to_cell(label): i for i, label in enumerate(f.labels)}
    known: dict[int, dict[int, float]] = {}
    for text_id, option, share in zip(own["text_id"], own["option"], own["probability"], strict=True):
        if text_id in row_of and option in place:
            known.setdefault(row_of[text_id], {})[place[option]] = share
    for row, shares in known.items():
        if len(shares) == len(place) and answers[row].status == "ok":
            given = tuple(shares[i] for i in range(len(place)))
            answers[row] = replace(answers[row], probabilities=given)
    return answers


def _columns(coding: Coding) -> dict[str, list[Any]]:
    """Return the long table, column by column."""
    columns: dict[str, list[Any]] = {name: [] for name in LONG_COLUMNS}
    for f in coding.fields:
        names = [f.to_cell(label) for label in f.labels]
        for text_id, answer in zip(coding.task.ids, coding.answers[f.column], strict=True):
            if answer.probabilities is not None:
                columns["text_id"] += [text_id] * len(names)
                columns["column"] += [f.column] * len(names)
                columns["option"] += names
                columns["probability"] += answer.probabilities
    return columns


def probability_frame(coding: Coding, *, wide: bool) -> Frame:
    """Return every probability: a row per text, field and option, or (`wide`) a row per text.

    Wide columns are called ``<column>=<option>``; a text without a probability has a blank.
    """
    if not wide:
        columns = _columns(coding)
        rows = [dict(zip(LONG_COLUMNS, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return make_frame(rows, LONG_COLUMNS)
    names = ["text_id"]
    by_text: list[dict[str, Any]] = [{"text_id": text_id} for text_id in coding.task.ids]
    for f in coding.fields:
        if all(answer.probabilities is None for answer in coding.answers[f.column]):
            continue
        own = [f"{f.column}={f.to_cell(label)}" for label in f.labels]
        names += own
        for row, answer in zip(by_text, coding.answers[f.column], strict=True):
            row.update(zip(own, answer.probabilities or (), strict=False))
    return make_frame(by_text, names)
