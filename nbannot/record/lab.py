"""Run folders and metric tables that the CodeBook Lab package (1.3, 1.4) wrote, read as plain data for re-scoring.

What such a folder holds, seen in folders of both versions (`tests/test_lab.py` shows each on the sample logs):

- ``output.csv`` keeps the input columns, ids included, and the rows in the order of ``ground-truth.csv``; two rows
  may hold the same text, so only the id tells them apart. Label columns hold the model's answers.
- A likert column with any blank cell is written as floats (``3.0``), one without as integers (``3``).
- A dropdown or likert blank is no valid answer or not applicable; which of the two is not recorded. Where the
  model itself closed a gate, the field behind it is blank.
- A textbox is never blank: it reads ``None`` in just those runs where failed calls left other fields blank.
  Nothing tells such a cell from an answer "None"; it is taken as no answer and counted in `LabRun.notes`.
- Spans are JSON lists of ``start``, ``end``, ``text``, ``label`` in code points, half open; a span may lack its
  label where labels are asked for.
- A field type that was switched off (``process_textbox``, ``process_span``) has no column at all.
- ``config.json`` of 1.3 has no ``run_id``, ``chat_mode``, ``reasoning`` or ``retry_temperature``, and
  ``temperature``, ``top_p`` only where they were set. Its run id (12 hex characters) stands in the runs table only,
  beside the name of the folder.
- In the runs table `model_id` is the model with settings added to its name (``mock:latest_temp0.0_standard``), and
  `label` is the task; the model's own name is in ``config.json``.
- ``run_id`` in ``emissions.csv`` is CodeCarbon's, not the run's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from nbannot.errors import RunError, TableError, listed
from nbannot.record.columns import TABLES, table_path
from nbannot.record.folder import CHARS, CONFIG, EMISSIONS, OUTPUT, TIMING
from nbannot.record.tables import read_long, read_runs
from nbannot.study.codebook import Codebook
from nbannot.study.reading import read_csv
from nbannot.tools.files import read_json

SETTINGS = (
    *("run_id", "model", "prompt_type", "use_examples", "temperature", "top_p", "chat_mode", "reasoning"),
    *("process_textbox", "process_span", "country_iso_code", "task_name"),
    *("retries", "retry_strategy", "retry_temperature"),
)
"""Every setting of version 1.4; those that a folder of 1.3 lacks are ``None``."""

FAILED_TEXT = "None"
"""What that package writes into a textbox cell when the call failed."""


@dataclass(frozen=True)
class LabRun:
    """One run folder of the CodeBook Lab package.

    Attributes
    ----------
    run_id
        As in that package's tables; the folder's name where no table names it.
    config
        ``config.json``, with ``None`` for every one of `SETTINGS` that it lacks.
    columns
        Label columns that the run filled, in codebook order; the other columns of `rows` are the input's.
    rows
        ``output.csv`` as it stands, one dict of text per row.
    timing, chars
        ``timing_data.json`` and ``char_counts.json``; empty where the file is missing.
    emissions
        The last row of CodeCarbon's table; ``None`` where there is none.
    notes
        What a reader of the numbers should know about this folder, one sentence each.
    """

    folder: Path
    run_id: str
    config: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    timing: dict[str, Any]
    chars: dict[str, Any]
    emissions: dict[str, str] | None
    notes: tuple[str, ...]
    _textboxes: frozenset[str]

    def answers(self, column: str) -> list[str]:
        """Return one label column as text, blank where there is no answer (also where a textbox call failed)."""
        cells = [row[column] for row in self.rows]
        if column in self._textboxes:
            return ["" if cell == FAILED_TEXT else cell for cell in cells]
        return cells


def read_lab_folder(folder: str | Path, task_folder: str | Path | Codebook) -> LabRun:
    """Return a run folder of the CodeBook Lab package; `task_folder` holds the run's ``codebook.json``, or is it.

    Raises
    ------
    RunError
        If the folder has no ``config.json`` or ``output.csv``, or none of the codebook's columns is in it.
    CodebookError, TaskError
        If the codebook or ``output.csv`` cannot be read.
    """
    folder = Path(folder)
    for name in (CONFIG, OUTPUT):
        if not (folder / name).is_file():
            raise RunError(
                f"{folder} is not a run folder: it has no {name}.\n  Give the folder of one run, not the task's."
            )
    config = dict.fromkeys(SETTINGS) | read_json(folder / CONFIG)
    codebook = (
        task_folder
        if isinstance(task_folder, Codebook)
        else Codebook.load(Path(task_folder) / "codebook.json")
    )
    codebook_place = "hand" if isinstance(task_folder, Codebook) else task_folder
    rows = _rows(folder / OUTPUT)
    columns = tuple(field.column for field in codebook if field.column in rows[0])
    if not columns:
        raise RunError(
            f"{folder / OUTPUT} has no column of the codebook in {codebook_place}."
            f" Its columns are {listed(rows[0])}.\n  Give the folder of the task that was annotated in this run."
        )
    textboxes = frozenset(field.column for field in codebook if field.type == "textbox")
    run_id, settings = _run_id(folder, config)
    return LabRun(
        folder=folder,
        run_id=run_id,
        config=config,
        columns=columns,
        rows=rows,
        timing=read_json(folder / TIMING),
        chars=read_json(folder / CHARS),
        emissions=_last_row(folder / EMISSIONS),
        notes=(
            *([] if settings else [f"No run id is recorded; the folder's name {run_id!r} is used."]),
            *_notes(codebook, columns, rows),
        ),
        _textboxes=textboxes,
    )


def lab_metrics(
    metrics_csv: str | Path, run_id: str, *, canonical: bool = False
) -> dict[tuple[str, str], float | None]:
    """Return that package's own values of one run: (column, metric) -> value, ``None`` where it is blank.

    Parameters
    ----------
    metrics_csv
        The long table, ``<task>_metrics_log.csv``.
    canonical
        Give ``precision``, ``recall``, ``f1`` their names of today (``f1_macro``).

    Raises
    ------
    TableError
        If the file is not such a table or has no row of the run.
    """
    path = Path(metrics_csv)
    suffix = TABLES["long"].suffix
    if not path.name.endswith(suffix):
        raise TableError(
            f"A long table is a file <task>{suffix}. Got {path.name!r}.\n  Give the path of that file."
        )
    table = read_long(path.parent, path.name.removesuffix(suffix), canonical=canonical, polars=True)
    rows = [row for row in table.iter_rows(named=True) if row["run_id"] == run_id]
    if not rows:
        there = listed(dict.fromkeys(table["run_id"].to_list()))
        raise TableError(f"{path} has no row of run {run_id!r}.\n  It has runs {there}.")
    return {(row["column"], row["metric"]): row["value"] for row in rows}


def _rows(path: Path) -> list[dict[str, str]]:
    return list(read_csv(path).iter_rows(named=True))


def _last_row(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    return rows[-1] if rows else None


def _run_id(folder: Path, config: dict[str, Any]) -> tuple[str, bool]:
    """Return the run's id, and whether it is recorded: in ``config.json`` or, for 1.3, in the runs table."""
    if config["run_id"] is not None:
        return str(config["run_id"]), True
    metrics_dir = folder.absolute().parent.parent / "metrics"
    task_name = str(config["task_name"])
    if table_path(metrics_dir, task_name, "runs").exists():
        for row in read_runs(metrics_dir, task_name, polars=True).iter_rows(named=True):
            if PureWindowsPath(row["experiment_directory"] or "").name == folder.absolute().name:
                return row["run_id"], True
    return folder.absolute().name, False


def _notes(codebook: Codebook, columns: Iterable[str], rows: list[dict[str, str]]) -> Iterable[str]:
    for field in codebook:
        if field.column not in columns:
            yield f"{field.column} ({field.type}) was not asked in this run."
        elif field.type == "textbox":
            failed = sum(row[field.column] == FAILED_TEXT for row in rows)
            if failed:
                yield (
                    f"{field.column}: {failed} of {len(rows)} cells read {FAILED_TEXT!r}, "
                    "which that package writes for a failed call; taken as no answer."
                )
