"""The columns of the tidy tables, what each holds, and the names of their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from nbannot.errors import TableError
from nbannot.study.config import RunConfig
from nbannot.study.settings import SETTINGS

LONG_COLUMNS = (
    *("run_id", "column", "annotation_type", "metric", "value"),
    *("n", "n_answered", "ci_low", "ci_high", "ci_method", "reason", "note"),
)
_CONTRACT_COLUMNS = (
    *("run_id", "timestamp", "label", "model_id", "quantization_type", "temperature", "top_p", "prompt_type"),
    *("use_examples", "chat_mode", "reasoning", "process_textbox", "process_span", "codebook_path"),
    *("experiment_directory", "n_queries", "total_inference_time_s", "avg_inference_time_per_query_s"),
    *("total_input_chars", "avg_input_chars_per_query", "total_output_chars", "avg_output_chars_per_query"),
    *("total_energy_kwh", "avg_energy_kwh_per_query", "total_emissions_kg", "avg_emissions_kg_per_query"),
    *("cpu_model", "gpu_model"),
    *("ground_truth_path", "seed", "repeat", "split", "n_texts", "n_labels_valid", "input_tokens"),
    *("output_tokens", "wall_time_s", "status", "codebook_hash", "data_hash", "prompt_hash", "model_digest"),
    "nbannot_version",
)
_KINDS = {f.name: set(str(f.type).split(" | ")) for f in fields(RunConfig) if f.name in SETTINGS}
NUMBERS = frozenset(name for name, kinds in _KINDS.items() if kinds <= {"int", "float", "None"})
"""The settings that are numbers: blank where they are unset. Every other one is then written as `UNSET`."""

UNSET = "unset"

_FIRST = (
    *("top_k", "max_tokens", "context_size", "answer_mode", "calibration", "fields_per_query", "retries"),
    *(
        "retry_strategy",
        "retry_temperature",
        "metadata_columns",
        "limit",
        "sample",
        "base_url",
        "country_iso_code",
    ),
)
MORE_SETTINGS = tuple(
    name
    for name in dict.fromkeys((*_FIRST, *SETTINGS))
    if name in SETTINGS and name not in (*_CONTRACT_COLUMNS, "model", "cluster", "weights")
)
"""The settings behind the columns of the contract, in its order; new ones come last."""

RUNS_COLUMNS = (
    *_CONTRACT_COLUMNS,
    *("model", "backend", *MORE_SETTINGS),
    *("cost", "energy_wh_per_valid_label", "energy_wh_per_correct_label"),
    *("cluster", "weights", "test_look", "test_configurations"),
    "model_changes",
)


def setting_cell(name: str, value: object) -> object:
    """Return a setting as the runs table has it: grouping by one that takes words or switches drops no run.

    >>> setting_cell("reasoning", None), setting_cell("top_k", None), setting_cell("fields", ["a", "b"])
    ('unset', None, '["a", "b"]')
    """
    if value is None:
        return None if name in NUMBERS else UNSET
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
    if isinstance(value, Iterable):
        return json.dumps(list(value), ensure_ascii=False)
    return str(value)


CLASS_COLUMNS = (
    *("run_id", "column", "annotation_type", "label", "metric", "value"),
    *("n", "ci_low", "ci_high", "reason"),
)

LOWER_CASE_BOOLEANS = frozenset({"process_textbox", "process_span"})
"""Written ``true`` / ``false``; every other truth value is ``True`` / ``False``, as in older logs."""

FLAGS = frozenset({"use_examples", "reasoning", "process_textbox", "process_span"})
MEASURES = frozenset({"value", "ci_low", "ci_high"})
INTEGERS = frozenset(
    {
        *("n", "n_answered", "n_queries", "total_input_chars", "total_output_chars", "seed", "repeat"),
        *("n_texts", "n_labels_valid", "input_tokens", "output_tokens", "test_look", "test_configurations"),
        *(name for name in MORE_SETTINGS if name in NUMBERS and "int" in _KINDS[name]),
    }
)
FLOATS = frozenset(
    {
        "temperature",
        "top_p",
        "wall_time_s",
        "cost",
        "energy_wh_per_valid_label",
        "energy_wh_per_correct_label",
    }
    | {name for name in MORE_SETTINGS if name in NUMBERS and "float" in _KINDS[name]}
    | {"total_inference_time_s", "total_energy_kwh", "total_emissions_kg"}
    | {name for name in RUNS_COLUMNS if name.startswith("avg_")}
)

OLD_METRIC_NAMES = {"precision": "precision_macro", "recall": "recall_macro", "f1": "f1_macro"}
LABEL_TYPES = frozenset({"checkbox", "dropdown", "likert"})


class Table(NamedTuple):
    """One kind of table: its file name after the task's name, its columns, and what makes a row unique."""

    suffix: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


TABLES = {
    "runs": Table("_metrics_log_runs.csv", RUNS_COLUMNS, ("run_id",)),
    "long": Table("_metrics_log.csv", LONG_COLUMNS, ("run_id", "column", "annotation_type", "metric")),
    "classes": Table(
        "_metrics_log_classes.csv", CLASS_COLUMNS, ("run_id", "column", "annotation_type", "label", "metric")
    ),
}  # in writing order: whoever sees a run's metrics finds its settings too


def table_path(metrics_dir: str | Path, task_name: str, kind: str) -> Path:
    """Return where the ``"long"``, ``"runs"`` or ``"classes"`` table of a task is kept."""
    if not task_name or task_name != Path(task_name).name or "\\" in task_name:
        raise TableError(
            f"A task name is one folder name. Got {task_name!r}."
            "\n  Give the name alone, such as 'policy-sentiment'."
        )
    return Path(metrics_dir) / f"{task_name}{TABLES[kind].suffix}"


def safe_run_id(run_id: str) -> bool:
    """Return whether a run id is 8 lower-case hex characters that no table reader takes for a number.

    ``12345678`` is read as an integer, ``1e000010`` and ``10e00009`` as the same float (so that two runs become
    one), ``1e234567`` by some as infinity: that is what a plain ``read_csv`` of pandas or polars makes of a column,
    or of the part of it that is looked at, with only such ids. A merge then joins wrong rows or none. ``d`` as an
    exponent (Stata, Fortran) and ``d`` or ``f`` as a suffix (Java) are avoided as well.

    >>> [safe_run_id(name) for name in ("a1b2c3d4", "12345678", "1e234567", "A1B2C3D4", "a1b2")]
    [True, False, False, False, False]
    """
    return bool(
        re.fullmatch(r"[0-9a-f]{8}", run_id) and not re.fullmatch(r"[0-9]+(?:[de][0-9]*)?[df]?", run_id)
    )


def canonical_metric(run_id: str, annotation_type: str, metric: str) -> str:
    """Return today's name of a metric: ``precision``, ``recall``, ``f1`` of labels are macro values in older runs.

    A run id that is not 8 lower-case hex characters is an older one.

    >>> canonical_metric("run_2026-11-23_18-41-08_8c6016e4", "dropdown", "f1")
    'f1_macro'
    >>> canonical_metric("a1b2c3d4", "dropdown", "f1")
    'f1'
    """
    if annotation_type in LABEL_TYPES and not re.fullmatch(r"[0-9a-f]{8}", run_id):
        return OLD_METRIC_NAMES.get(metric, metric)
    return metric
