"""A run's scores into its folder and the task's tidy tables."""

from __future__ import annotations

from nbannot.record import folder, tables
from nbannot.record.run import HUMAN_LABELS, Run
from nbannot.report.report import report_text
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, write_atomic


def scores_are_saved(run: Run) -> bool:
    """Return whether report and tables hold the scores against the human labels that the task has now.

    They do not when the run was stopped before it was scored, or when labels were added or corrected since.
    """
    if not (run.folder / folder.REPORT).exists():
        return False
    kept = run.folder / HUMAN_LABELS
    before = kept.read_bytes().decode("utf-8", "surrogatepass") if kept.exists() else ""
    return not run.task.label_columns or before == labels_text(run.task)


def save_scores(run: Run) -> None:
    """Score, put the run into the tidy tables in place of its rows, write the report, keep the human labels."""
    tables.upsert(
        run.metrics_dir,
        run.task.name,
        long=run.scores.long_rows(run.run_id),
        runs=[run.table_row()],
        classes=run.scores.class_rows(run.run_id),
    )
    # After the tables, because they say that the tables have the run, and against which labels.
    write_atomic(run.folder / folder.REPORT, report_text(run))
    if run.task.label_columns:
        write_atomic(run.folder / HUMAN_LABELS, labels_text(run.task))


def labels_text(task: Task) -> str:
    """Return the human labels of a task as they stand in its data, one row per text, as CSV."""
    header = ["text_id", *task.label_columns]
    rows = zip(task.ids, *(list(task.data[name]) for name in task.label_columns), strict=True)
    return csv_text(header, [list(row) for row in rows])
