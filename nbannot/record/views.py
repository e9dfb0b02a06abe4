"""The tidy tables as frames: `metrics`, `runs`, `joined`, `pivot`. pandas by default, polars with one word."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from nbannot.errors import TableError, listed, nearest
from nbannot.record import tables

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SETTINGS = (
    *(
        "model_id",
        "model_digest",
        "temperature",
        "top_p",
        "prompt_type",
        "use_examples",
        "chat_mode",
    ),
    *("reasoning", "seed", "repeat", "split", "n_texts", "codebook_hash", "data_hash", "prompt_hash"),
    *tables.MORE_SETTINGS,
)
"""Columns of the runs table by which runs are told apart."""


@overload
def metrics(
    task: Any, *, output_root: str | Path = "outputs", polars: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def metrics(task: Any, *, output_root: str | Path = "outputs", polars: Literal[True]) -> pl.DataFrame: ...
def metrics(task: Any, *, output_root: str | Path = "outputs", polars: bool = False) -> Any:
    """Return the long table of a task: one row per run, field and metric.

    Parameters
    ----------
    task
        A task or its name.
    polars
        Return a polars frame instead of a pandas one.

    Raises
    ------
    TableError
        If there is no such table yet.
    """
    return tables.read_long(_folder(output_root), _name(task), canonical=True, polars=polars)


@overload
def runs(
    task: Any, *, output_root: str | Path = "outputs", polars: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def runs(task: Any, *, output_root: str | Path = "outputs", polars: Literal[True]) -> pl.DataFrame: ...
def runs(task: Any, *, output_root: str | Path = "outputs", polars: bool = False) -> Any:
    """Return the runs table of a task: one row per run with its settings, counts, times and energy."""
    return tables.read_runs(_folder(output_root), _name(task), polars=polars)


@overload
def joined(
    task: Any, *, output_root: str | Path = "outputs", polars: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def joined(task: Any, *, output_root: str | Path = "outputs", polars: Literal[True]) -> pl.DataFrame: ...
def joined(task: Any, *, output_root: str | Path = "outputs", polars: bool = False) -> Any:
    """Return the long table with the settings of each run beside every value."""
    return tables.joined(_folder(output_root), _name(task), canonical=True, polars=polars)


def pivot(
    task: Any,
    metric: str | None = None,
    *,
    rows: str | Sequence[str] = "column",
    columns: str | Sequence[str] = "model_id",
    output_root: str | Path = "outputs",
) -> pd.DataFrame:
    """Return one metric laid out along any settings (pandas).

    Parameters
    ----------
    task
        A task or its name; may be left out, ``pivot("f1_macro")``, where the tables of one task alone are there.
    metric
        A metric name, e.g. ``"f1_macro"``.
    rows, columns
        Columns of the joined table: ``"column"`` (the field), ``"model_id"``, ``"temperature"``, ``"chat_mode"``, …

    Returns
    -------
    pandas.DataFrame
        The values. Where several runs share a cell it holds their mean, a warning says so, and the frame's
        ``attrs["n_runs"]`` is the number of runs in each cell.

    Raises
    ------
    TableError
        If the metric or a column does not exist.
    """
    if metric is None:
        task, metric = _only_task(_folder(output_root)), str(task)
    table = joined(task, output_root=output_root)
    known = sorted(set(table["metric"]))
    if metric not in known:
        raise TableError(
            f"no metric '{metric}' in the tables{nearest(metric, known) or '.'}\n  There are: {listed(known, 40)}."
        )
    by = [[name] if isinstance(name, str) else list(name) for name in (rows, columns)]
    absent = [name for name in by[0] + by[1] if name not in table.columns]
    if absent:
        raise TableError(
            f"no column {listed(absent)} in the tables.\n  There are: {listed(table.columns, 60)}."
        )
    chosen = table[table["metric"] == metric]
    laid_out = {
        how: chosen.pivot_table(
            index=by[0], columns=by[1], values="value", aggfunc=how, dropna=False, observed=True
        )
        for how in ("mean", "count")
    }
    means, n_runs = laid_out["mean"], laid_out["count"]
    means.attrs["n_runs"] = n_runs
    if (shared := int((n_runs > 1).to_numpy().sum())) > 0:
        differing = [
            name
            for name in SETTINGS
            if name in chosen.columns and name not in by[0] + by[1] and chosen[name].nunique(dropna=False) > 1
        ]
        warnings.warn(
            f"cells that are the mean of several runs: {shared} of {n_runs.size}"
            + (
                f". The runs differ in {listed(differing)}: put that into rows or columns."
                if differing
                else "."
            ),
            stacklevel=2,
        )
    return means


def _only_task(folder: Path) -> str:
    """Return the task that has tables in the folder, where there is one alone."""
    suffix = tables.TABLES["long"].suffix
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    if len(names) != 1:
        there = f"There are tables of {listed(names)}" if names else "There are no tables yet"
        raise TableError(f'which task? Type pivot("<task>", "<metric>").\n  {there} in {folder}.')
    return names[0]


def _folder(output_root: str | Path) -> Path:
    return Path(output_root) / "metrics"


def _name(task: Any) -> str:
    return str(getattr(task, "name", task))
