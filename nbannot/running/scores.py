"""A run's scores into its folder and the task's tidy tables, and whether they are still there as they were written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from nbannot.record import folder, tables
from nbannot.record.loading import load_run, task_in_folder
from nbannot.record.run import TEST_LOOK, Run
from nbannot.report.report import report_text
from nbannot.running.standard_files import output_text
from nbannot.study.locked import OWN_LABELS
from nbannot.study.sampling_weights import KEPT_WEIGHTS
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, read_json, write_atomic, write_json

SAVED, SCORING = "saved", "scoring"
KEPT = (SAVED, SCORING)
"""What ``config.json`` says of the last scoring, and a later session leaves as it is."""


def scores_are_saved(run: Run) -> bool:
    """Return whether report and tables hold the scores against the human labels that the task has now.

    They do not when the run was stopped before it was scored, when labels were added or corrected since, or when one
    of the files was lost or changed by hand. A task without any label column does not take away those that the folder
    holds: more often than not the column is misspelt.
    """
    try:
        report = (run.folder / folder.REPORT).read_bytes()
    except OSError:
        return False
    kept = run.folder / folder.HUMAN_LABELS
    before = kept.read_bytes() if kept.exists() else b""
    if run.task.label_columns and before != labels_text(run.task, run.scoring.get("weights")).encode(
        "utf-8", "surrogatepass"
    ):
        return False
    rows = tables.rows_of(run.metrics_dir, run.task.name, run.run_id)
    saved = run.config.get(SAVED)
    if not isinstance(saved, dict):  # written before this was kept
        return bool(report) and bool(rows["runs"])
    scoring = run.config.get(SCORING)
    if not isinstance(scoring, dict) or scoring.get("of") != _scored_content(run):
        return False
    if bool(scoring.get(OWN_LABELS[1:])) != run.task.has_own_labels:
        return False
    if run.task.cluster and scoring.get("cluster") != run.scoring.get("cluster", run.task.cluster):
        return False
    if run.scoring.get("weights", _weights_of_task(run)) != scoring.get("weights"):
        return False
    return saved.get("report") == _digest(report) and saved.get("tables") == _of_rows(rows)


def save_scores(run: Run, output: str | None = None) -> None:
    """Score, put the run into the tidy tables in place of its rows, write the report, keep the human labels.

    Where the task has no label column, the labels that the folder holds are scored against.

    Parameters
    ----------
    output
        The content of ``output.csv``, where the caller has it at hand.
    """
    if not run.task.label_columns and (run.folder / folder.HUMAN_LABELS).exists():
        run = load_run(run.folder, task=task_in_folder(run.folder, run.config))
    of = _scored_content(run, output)
    earlier = run.config.get(SCORING)
    if isinstance(earlier, dict) and earlier.get("of") == of:
        _keep_extras(run)
    tables.upsert(
        run.metrics_dir,
        run.task.name,
        long=run.scores.long_rows(run.run_id),
        runs=[run.table_row()],
        classes=run.scores.class_rows(run.run_id),
    )
    # After the tables, because they say that the tables have the run, and against which labels.
    report = report_text(run)
    write_atomic(run.folder / folder.REPORT, report)
    if run.task.label_columns:
        write_atomic(run.folder / folder.HUMAN_LABELS, labels_text(run.task, run.scoring.get("weights")))
    saved = {
        "report": _digest(report.encode("utf-8", "surrogatepass")),
        "tables": _of_rows(tables.rows_of(run.metrics_dir, run.task.name, run.run_id)),
    }
    cluster = run.scores.settings.get("cluster")
    weights = run.scores.settings.get("weights")
    scoring = {
        "cluster": cluster,
        "of_task": bool(cluster) and cluster == run.task.cluster,
        "weights": weights,
        "weights_of_task": bool(weights) and weights == run.task.weights,
        "of": of,
        **(
            {OWN_LABELS[1:]: True, "notices": list(run.task._reading_notices)}
            if run.task.has_own_labels
            else {}
        ),
        **_look(run),
    }
    config = read_json(run.folder / folder.CONFIG)
    write_json(run.folder / folder.CONFIG, config | {SAVED: saved, SCORING: scoring})


def _look(run: Run) -> dict[str, Any]:
    """Return which look at a locked test half this scoring is: the run's own record, whatever becomes of the log."""
    lock = run.task.split_lock
    k = lock.look_of(run.run_id) if lock is not None and lock.opened else 0
    before = (
        (run.config.get(SCORING) or {}).get(TEST_LOOK) if isinstance(run.config.get(SCORING), dict) else None
    )
    return {TEST_LOOK: max(k, before or 0)} if k or before else {}


def _keep_extras(run: Run) -> None:
    """Keep the optional text metrics of an earlier scoring of the same labels where they cannot be computed here."""
    from nbannot.measures.result import Result
    from nbannot.measures.text_extras import EXTRA_NAMES

    for row in tables.rows_of(run.metrics_dir, run.task.name, run.run_id)["long"]:
        score = run.scores.fields.get(row["column"])
        if score is None or row["metric"] not in EXTRA_NAMES or "value" not in row:
            continue
        if not score.results[row["metric"]].defined:
            score.results[row["metric"]] = Result(
                value=float(row["value"]),
                ci_low=float(row.get("ci_low", "nan")),
                ci_high=float(row.get("ci_high", "nan")),
                ci_method=row.get("ci_method", ""),
                n=int(row.get("n", 0)),
                n_answered=int(row.get("n_answered", 0)),
                reason="of an earlier scoring",
            )


def _scored_content(run: Run, output: str | None = None) -> str:
    """Return a digest of what a scoring compares: the answers and people's labels."""
    if run.task.label_columns:
        labels = labels_text(run.task).encode("utf-8", "surrogatepass")
    else:
        kept = run.folder / folder.HUMAN_LABELS
        labels = kept.read_bytes() if kept.exists() else b""
    output = output_text(run.coding) if output is None else output
    return _digest(output.encode("utf-8", "surrogatepass") + labels)


def _of_rows(rows: dict[str, list[dict[str, str]]]) -> str:
    return _digest(json.dumps(rows, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _weights_of_task(run: Run) -> str | None:
    weighting = run.task.weighting()
    return None if weighting is None else weighting.source


def labels_text(task: Task, weights: str | None = None) -> str:
    """Return the human labels of a task as they stand in its data, one row per text, as CSV.

    Where texts count for different numbers of others, that is the last column.
    """
    header = ["text_id", *task.label_columns]
    columns = [list(task.data[name]) for name in task.label_columns]
    weighting = task.weighting(weights)
    if weighting is not None:
        header.append(KEPT_WEIGHTS)
        columns.append([str(weighting.of.get(i, "")) for i in task.ids])
    rows = zip(task.ids, *columns, strict=True)
    return csv_text(header, [list(row) for row in rows])
