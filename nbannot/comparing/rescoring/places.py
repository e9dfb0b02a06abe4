"""Where the runs of an older scoring lie, with their task and their old values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbannot.errors import ScoringError, TableError, TaskError
from nbannot.record import tables
from nbannot.record.folder import CONFIG, OUTPUT, run_folders
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task
from nbannot.tools.files import read_json
from nbannot.tools.given import path_or


def is_lab_folder(place: str | Path) -> bool:
    """Return whether a folder is a run folder that another program of this form, CodeBook Lab, wrote."""
    folder = path_or(ScoringError, place)
    config = read_json(folder / CONFIG)
    return bool(config) and "identity" not in config and (folder / OUTPUT).is_file()


def run_places(place: str | Path) -> list[Path]:
    """Return the run folders that a path names: itself, those in a task's folder, those of a task's table."""
    path = path_or(ScoringError, place)
    names = [path.name.removesuffix(t.suffix) for t in tables.TABLES.values() if path.name.endswith(t.suffix)]
    if path.is_file() and names:
        return run_folders(path.absolute().parent.parent, names[0]) or [path]
    if path.is_dir() and not (path / CONFIG).is_file():
        return run_folders(path.absolute().parent, path.absolute().name) or [path]
    return [path]


def metrics_dir(place: Path) -> Path:
    """Return where the tidy tables of a run folder are."""
    return place.absolute().parent.parent / "metrics"


def task_of(place: Path, config: Mapping[str, Any]) -> Task:
    """Return the task of an older run: the runs table names its codebook, by a path from where the run was made."""
    name = str(config.get("task_name") or place.absolute().parent.name)
    named = [f"tasks/{name}"]
    if tables.table_path(metrics_dir(place), name, "runs").exists():
        rows = tables.read_runs(metrics_dir(place), name, polars=True).iter_rows(named=True)
        named += [
            str(row["codebook_path"]).replace("\\", "/").rpartition("/")[0]
            for row in rows
            if row["codebook_path"]
        ]
    for above in place.absolute().parents:
        for path in dict.fromkeys(named):
            if (above / path / "codebook.json").is_file():
                return load_task(above / path)
    raise TaskError(
        f"the task '{name}' of {place} is not found: no {' and no '.join(dict.fromkeys(named))} with a codebook.json "
        "in any folder above it.\n"
        '  Name it: rescore(folder, task="path/to/task").'
    )


def old_values(metrics_dir: Path, task_name: str, run_id: str) -> dict[tuple[str, str], float]:
    """Return (column, metric) -> the value in the long table; nan where it is blank."""
    try:
        table = tables.read_long(metrics_dir, task_name, canonical=True, polars=True)
    except TableError:
        return {}
    return {
        (row["column"], row["metric"]): math.nan if row["value"] is None else float(row["value"])
        for row in table.iter_rows(named=True)
        if row["run_id"] == run_id
    }
