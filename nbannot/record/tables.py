"""The tidy tables: every run's settings and numbers as rows that any program can join on ``run_id``.

A task has three tables in ``outputs/metrics``: *long* (one row per metric of a column), *runs* (one row per
run) and *classes* (one row per metric of a label). `upsert` replaces the rows of whole runs, from any number of
processes at once; `read_long`, `read_runs`, `read_classes` and `joined` give frames back.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, TypeAlias

from nbannot.errors import TableError, listed, nearest
from nbannot.record.cells import cell_text as cell_text
from nbannot.record.cells import csv_record as csv_record
from nbannot.record.columns import CLASS_COLUMNS as CLASS_COLUMNS
from nbannot.record.columns import FLAGS, FLOATS, INTEGERS, MEASURES, canonical_metric
from nbannot.record.columns import LONG_COLUMNS as LONG_COLUMNS
from nbannot.record.columns import MORE_SETTINGS as MORE_SETTINGS
from nbannot.record.columns import RUNS_COLUMNS as RUNS_COLUMNS
from nbannot.record.columns import TABLES as TABLES
from nbannot.record.columns import safe_run_id as safe_run_id
from nbannot.record.columns import table_path as table_path
from nbannot.record.csv_file import WINDOW, decoded, header_columns, records, whole_part
from nbannot.record.csv_store import finish_if_left_open
from nbannot.record.csv_store import rows_of as rows_of
from nbannot.record.csv_store import upsert as upsert

Frame: TypeAlias = Any
"""A pandas data frame, or a polars one where `polars=True` was asked for."""


def read_long(
    metrics_dir: str | Path, task_name: str, *, canonical: bool = False, polars: bool = False
) -> Frame:
    """Return the long table of a task: one row per run, column, annotation type and metric.

    `run_id` is always text, ``value``, ``ci_low`` and ``ci_high`` are floats (nan where blank), counts are
    integers, `reason` is ``""`` where nothing needs one. An older table is given with the columns it has.

    Parameters
    ----------
    canonical
        Give the ``precision``, ``recall``, ``f1`` of older runs their names of today (`canonical_metric`).
    polars
        Return a polars frame; pandas otherwise.

    Raises
    ------
    TableError
        If the task has no such table yet, or the file is not one.
    """
    frame = _read(metrics_dir, task_name, "long", polars)
    return _with_canonical_metrics(frame, polars) if canonical else frame


def read_runs(metrics_dir: str | Path, task_name: str, *, polars: bool = False) -> Frame:
    """Return the runs table of a task: one row of settings, times and counts per run; types as in `read_long`."""
    return _read(metrics_dir, task_name, "runs", polars)


def read_classes(metrics_dir: str | Path, task_name: str, *, polars: bool = False) -> Frame:
    """Return the class table of a task: one row per run, column, label and metric; labels are always text.

    Tasks scored by older packages only have no such table: the frame is then empty.
    """
    return _read(metrics_dir, task_name, "classes", polars)


def joined(
    metrics_dir: str | Path, task_name: str, *, canonical: bool = False, polars: bool = False
) -> Frame:
    """Return the long table with every run's settings beside each metric (inner join on `run_id`).

    Raises
    ------
    TableError
        As `read_long`; also where the runs table has a run twice, which would double its metrics.
    """
    metrics = read_long(metrics_dir, task_name, canonical=canonical, polars=polars)
    runs = read_runs(metrics_dir, task_name, polars=polars)
    ids = runs["run_id"].to_list()
    if len(set(ids)) < len(ids):
        twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
        raise TableError(
            f"{table_path(metrics_dir, task_name, 'runs')} has more than one row for {listed(twice)}."
            "\n  Keep one row per run_id; scoring the run again does that."
        )
    if polars:
        return metrics.join(runs, on="run_id", how="inner", maintain_order="left")
    return metrics.merge(runs, on="run_id")


def _read(metrics_dir: str | Path, task_name: str, kind: str, polars: bool) -> Frame:
    path = table_path(metrics_dir, task_name, kind)
    finish_if_left_open(Path(metrics_dir), task_name)
    if not path.exists():
        if kind != "classes" or not table_path(metrics_dir, task_name, "long").exists():
            raise _no_table(path, task_name, kind)
        data = csv_record(CLASS_COLUMNS).encode() + b"\n"
    else:
        data = path.read_bytes()
    header_columns(path, next(records(data[:WINDOW]), data[:WINDOW]))
    data = whole_part(path, data).removeprefix(b"\xef\xbb\xbf")
    if not data.isascii():
        decoded(path, data)
    try:
        return _polars_frame(data) if polars else _pandas_frame(data)
    except _Unreadable as error:
        raise TableError(f"{path} cannot be read: {error}.\n  Mend it, or score its runs again.") from error


def _no_table(path: Path, task_name: str, kind: str) -> TableError:
    suffix = TABLES[kind].suffix
    others = sorted(p.name.removesuffix(suffix) for p in path.parent.glob(f"*{suffix}"))
    there = f"Tasks with one: {listed(others)}" if others else "There is none of any task"
    return TableError(
        f"Task {task_name!r} has no {kind} table in {path.parent}{nearest(task_name, others) or '.'} {there}."
        "\n  Run and score the task first, or give the outputs folder where you did."
    )


class _Unreadable(Exception):
    """A table reader's own complaint, on its way to a `TableError`."""


def _pandas_frame(data: bytes) -> Frame:
    import pandas as pd

    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, na_values=[""])
    except pd.errors.ParserError as error:
        raise _Unreadable(error) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise _Unreadable("its rows have more cells than its first line has columns")
    for name in frame.columns:
        if name in MEASURES | FLOATS:
            frame[name] = _pandas_cast(frame[name], "float64", needed=name in MEASURES)
        elif name in INTEGERS:
            frame[name] = _pandas_cast(frame[name], "Int64", needed=False)
        elif name in FLAGS:
            words = frame[name].str.lower()
            if words.isin(["true", "false"]).eq(words.notna()).all():
                frame[name] = words.map({"true": True, "false": False}).astype("boolean")
        elif name in ("reason", "note"):
            frame[name] = frame[name].fillna("")
    return frame


def _pandas_cast(cells: Frame, dtype: str, *, needed: bool) -> Frame:
    """Return the cells as numbers; as they are where one of them is no such number and none is needed."""
    try:
        return cells.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        if needed:
            raise _Unreadable(error) from error
        return cells


def _polars_frame(data: bytes) -> Frame:
    import polars as pl

    try:
        frame = pl.read_csv(data, infer_schema=False, null_values=[""])
    except pl.exceptions.PolarsError as error:
        raise _Unreadable(error) from error
    casts: list[pl.Series] = []
    for cells in frame:
        if cells.name in MEASURES | FLOATS:
            casts.append(_polars_cast(cells, pl.Float64, needed=cells.name in MEASURES))
        elif cells.name in INTEGERS:
            casts.append(_polars_cast(cells, pl.Int64, needed=False))
        elif cells.name in FLAGS:
            words = cells.str.to_lowercase()
            if words.drop_nulls().is_in(["true", "false"]).all():
                casts.append(words.eq("true"))
        elif cells.name in ("reason", "note"):
            casts.append(cells.fill_null(""))
    return frame.with_columns(casts)


def _polars_cast(cells: Frame, dtype: Any, *, needed: bool) -> Frame:
    import polars as pl

    try:
        return cells.cast(dtype)
    except pl.exceptions.PolarsError as error:
        if needed:
            raise _Unreadable(error) from error
        return cells


def _with_canonical_metrics(frame: Frame, polars: bool) -> Frame:
    columns = (frame[name].to_list() for name in ("run_id", "annotation_type", "metric"))
    names = [canonical_metric(*cells) for cells in zip(*columns, strict=True)]
    if polars:
        import polars as pl

        return frame.with_columns(pl.Series("metric", names))
    return frame.assign(metric=names)
