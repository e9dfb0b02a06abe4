"""Scoring again without a model: run folders of ours and of the CodeBook Lab package, old values beside new ones.

Why an old value differs is said only where it is proven: where the older rule, recomputed, gives the old value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nbannot import __version__
from nbannot.comparing.rescoring.evidence import Evidence, evidence, lab_coding
from nbannot.comparing.rescoring.places import metrics_dir, old_values, task_of
from nbannot.comparing.rescoring.rules import SAME, explain
from nbannot.errors import NbannotError, RunError, ScoringError
from nbannot.measures.result import Result
from nbannot.measures.text_extras import TextExtras
from nbannot.page.blocks import Block, Bullets, Facts, Grid, Heading, Para
from nbannot.page.digits import decimals, interval, number
from nbannot.page.shown import Shown
from nbannot.record import export, tables
from nbannot.record.coding import Coding
from nbannot.record.folder import CONFIG
from nbannot.record.lab import LabRun, read_lab_folder
from nbannot.record.loading import load_run
from nbannot.record.run import Run
from nbannot.record.scoring import Scores, score
from nbannot.report.words import metric_words, plural
from nbannot.running.scores import save_scores
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task
from nbannot.tools.files import read_json
from nbannot.tools.frames import make_frame
from nbannot.tools.given import path_or

__all__ = ["Change", "Rescored", "rescore"]

COLUMNS = ("column", "annotation_type", "metric", "old", "new", "difference", "ci_low", "ci_high", "n", "n_answered",
           "reason")  # fmt: skip
NOT_REPRODUCED = "not reproduced: the old value follows from no older rule that is known here"
NOT_THERE = "not in the old table"


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one field: the value that a table held and the one recomputed.

    Attributes
    ----------
    old
        nan where the table has no value.
    reason
        Why they differ, as far as it is proven; empty where they are the same.
    """

    column: str
    annotation_type: str
    metric: str
    old: float
    new: Result
    reason: str

    @property
    def same(self) -> bool:
        """Whether both are the same number, or both are not defined."""
        return _same(self.old, self.new.value)


@dataclass(frozen=True, repr=False)
class Rescored(Shown):
    """A run folder scored again.

    Attributes
    ----------
    writer
        ``"nbannot"`` or ``"CodeBook Lab"``.
    run
        The run, for folders of ours; else ``None``.
    changes
        One per field and metric.
    notes
        What a reader of the numbers should know, one sentence each.
    """

    _display: ClassVar[str] = "rescored"

    folder: Path
    run_id: str
    writer: str
    scores: Scores
    changes: Sequence[Change]
    notes: Sequence[str]
    run: Run | None = None
    lab: LabRun | None = None

    @property
    def coding(self) -> Coding:
        """The answers, with a status each."""
        return self.scores.coding

    @property
    def status(self) -> str:
        """The run's status; older runs are taken as complete."""
        return self.run.status if self.run else "complete"

    def frame(self, *, changed_only: bool = False) -> Any:
        """Return one row per field and metric: old, new, difference (new minus old), interval, n, reason.

        Parameters
        ----------
        changed_only
            Leave out what is the same and what the old table does not have.
        """
        rows = [
            {
                "column": c.column,
                "annotation_type": c.annotation_type,
                "metric": c.metric,
                "old": c.old,
                "new": c.new.value,
                "difference": c.new.value - c.old,
                "ci_low": c.new.ci_low,
                "ci_high": c.new.ci_high,
                "n": c.new.n,
                "n_answered": c.new.n_answered,
                "reason": c.reason,
            }
            for c in self.changes
            if not (changed_only and (c.same or c.reason == NOT_THERE))
        ]
        return make_frame(rows, COLUMNS)

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return what changed as a LaTeX table."""
        return export.to_latex(self.frame(changed_only=True), caption, label)

    def to_markdown(self) -> str:
        """Return what changed as a Markdown table."""
        return export.to_markdown(self.frame(changed_only=True))

    def to_csv(self) -> str:
        """Return every value as CSV."""
        return export.to_csv(self.frame())

    def save(self, metrics_dir: str | Path | None = None) -> Path:
        """Put the recomputed values into the tidy tables, in place of the run's rows there; return their folder.

        Parameters
        ----------
        metrics_dir
            Where the tables are or are to be. For folders of ours their own by default; for folders of another
            program it must be named, and only what is there is changed.

        Raises
        ------
        ScoringError
            If no folder is named for a run of another program.
        """
        if self.run is not None and metrics_dir is None:
            save_scores(self.run)
            return self.run.metrics_dir
        if metrics_dir is None:
            raise ScoringError(
                f"{self.folder} is a folder of the CodeBook Lab package: say where its values go, metrics_dir=...\n"
                "  Its own files are left as they are unless you name its own metrics folder."
            )
        tables.upsert(
            metrics_dir,
            self.coding.task.name,
            long=self.scores.long_rows(self.run_id),
            runs=[self.run.table_row() if self.run else _lab_row(self)],
            classes=self.scores.class_rows(self.run_id),
        )
        return Path(metrics_dir)

    def blocks(self) -> list[Block]:
        """Return the comparison of old and new values as blocks of a page."""
        changed = [c for c in self.changes if not c.same and c.reason != NOT_THERE]
        both = [c for c in self.changes if not math.isnan(c.old)]
        blocks: list[Block] = [
            Heading(
                f"Scored again: {self.coding.task.name}", 1, f"run {self.run_id}, written by {self.writer}"
            ),
            Facts(
                [
                    ("folder", str(self.folder)),
                    ("answers", _counted(self.coding)),
                    ("values", f"{plural(len(both), 'old value')}, {len(changed)} of them differ"),
                ]
            ),
            *([Bullets(list(self.notes), "quiet")] if self.notes else []),
        ]
        for column, of_field in _by_column(changed):
            blocks += [Heading(self.coding.task.codebook[column].name), _grid(of_field)]
        if both and not changed:
            blocks.append(Para("Every value is the same as before."))
        return blocks

    def __repr__(self) -> str:
        changed = sum(not c.same and c.reason != NOT_THERE for c in self.changes)
        return f"<Rescored {self.run_id} ({self.writer}): {changed} of {len(self.changes)} values differ>"


def rescore(
    folder: str | Path,
    task: Task | str | Path | None = None,
    *,
    save: bool = False,
    metrics_dir: str | Path | None = None,
    extras: bool | TextExtras = False,
    cluster: str | None = None,
    weights: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 1,
) -> Rescored:
    """Score a run folder again, without a model: one of ours, or of the CodeBook Lab package (1.3, 1.4).

    Parameters
    ----------
    folder
        The run folder.
    task
        The task it was made from, or its folder; looked for where the run says it was when left out.
    save
        Put the values into the tidy tables; see `Rescored.save`.
    metrics_dir
        Where those tables are to be.
    extras
        Also fetch the weights of optional text metrics that are not on this machine; what is here is computed anyway.
    cluster
        Column of the data that says which texts belong together; as at the last scoring when left out, "" for none.
    weights
        Column of the data with one over the probability with which each text was drawn; as at the last scoring when
        left out, "" for none.
    n_resamples, seed
        Of the intervals.

    Raises
    ------
    RunError, TaskError, ScoringError
        If there is no run, its task is not found, or texts and ids are not those of the task.
    """
    place = path_or(ScoringError, folder)
    config = read_json(place / CONFIG)
    if not config:
        raise RunError(f"{place} is not a run folder: it has no {CONFIG}.\n  Give the folder of one run.")
    known = load_task(task) if isinstance(task, str | Path) else task
    ours = "identity" in config
    options = {
        "extras": TextExtras() if extras is True else extras or True,
        "cluster": cluster,
        "weights": weights,
        "n_resamples": n_resamples,
        "seed": seed,
    }
    rescored = _ours(place, known, options) if ours else _labs(place, config, known, options)
    if save:
        rescored.save(metrics_dir)
    return rescored


def _ours(place: Path, task: Task | None, options: Mapping[str, Any]) -> Rescored:
    run = load_run(place, task=task)
    kept = {name: column for name, column in run.scoring.items() if options[name] is None}
    options = {**options, **kept}
    scores = score(run.coding, **options)
    run.__dict__["scores"] = scores
    old = old_values(run.metrics_dir, run.task.name, run.run_id)
    changes = list(_changes(scores, old, {}))
    notes = [] if old else ["The tidy tables have no values of this run yet."]
    return Rescored(place, run.run_id, "nbannot", scores, changes, notes, run=run)


def _labs(place: Path, config: Mapping[str, Any], task: Task | None, options: Mapping[str, Any]) -> Rescored:
    whole = task or task_of(place, config)
    lab = read_lab_folder(place, whole.codebook)
    coding = lab_coding(lab, whole)
    scores = score(coding, **options)
    old = old_values(metrics_dir(place), str(config.get("task_name") or whole.name), lab.run_id)
    cells = {f.column: evidence(lab, whole, coding, f) for f in coding.fields}
    changes = list(_changes(scores, old, cells))
    notes = [*lab.notes, *_invisible(coding)]
    if not old:
        notes.append(f"No old values of run {lab.run_id} were found in {metrics_dir(place)}.")
    if len(coding.task) < len(whole):
        notes.append(
            f"The run has {len(coding.task)} of the {len(whole)} texts of the task; only these count."
        )
    return Rescored(place, lab.run_id, "CodeBook Lab", scores, changes, notes, lab=lab)


def _changes(
    scores: Scores, old: Mapping[tuple[str, str], float], cells: Mapping[str, Evidence]
) -> Iterator[Change]:
    for column, scores_of in scores.fields.items():
        for metric, result in scores_of.results.items():
            before = old.get((column, metric))
            value = math.nan if before is None else before
            reason = NOT_THERE if before is None else _why(cells.get(column), metric, value, result)
            yield Change(column, scores.type_of(column), metric, value, result, reason)


def _why(cells: Evidence | None, metric: str, old: float, new: Result) -> str:
    if _same(old, new.value):
        return new.reason if math.isnan(old) else ""
    if math.isnan(old):
        return "the old table has no value"
    proven = explain(cells, metric, old) if cells else None
    if math.isnan(new.value):
        before = f"old: {'; '.join(proven)}. " if proven else "" if proven == [] else f"{NOT_REPRODUCED}. "
        return f"{before}Now: {new.reason}"
    return "; ".join(proven) if proven else NOT_REPRODUCED


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME or (math.isnan(one) and math.isnan(other))


def _invisible(coding: Coding) -> list[str]:
    """Return what the old tables do not show: answers that are not valid."""
    notes = []
    for f in coding.fields:
        counts = coding.count(f.column)
        bad = {status: counts[status] for status in ("invalid", "not_asked") if counts.get(status)}
        if bad:
            parts = {"invalid": "without a valid answer", "not_asked": "behind a gate without a valid answer"}
            listed_counts = ", ".join(f"{n:,} {parts[status]}" for status, n in bad.items())
            notes.append(
                f"{f.column}: of {len(coding.task):,} texts {listed_counts}; the old tables do not say so."
            )
    return notes


def _lab_row(rescored: Rescored) -> dict[str, Any]:
    """Return the row of the runs table: what the older table says of the run, and what we know of the data."""
    task, coding = rescored.coding.task, rescored.coding
    row: dict[str, Any] = {}
    name = task.name
    try:
        for stored in tables.read_runs(metrics_dir(rescored.folder), name, polars=True).iter_rows(named=True):
            if stored["run_id"] == rescored.run_id:
                row = {c: stored[c] for c in tables.RUNS_COLUMNS if c in stored}
    except NbannotError:
        pass
    if not row and rescored.lab is not None:
        row = {c: v for c, v in rescored.lab.config.items() if c in tables.RUNS_COLUMNS}
        row |= {
            "label": name,
            "model_id": rescored.lab.config["model"],
            "experiment_directory": str(rescored.folder),
        }
    return row | {
        "run_id": rescored.run_id,
        "ground_truth_path": str(task.path / "ground-truth.csv") if task.path else None,
        "n_texts": len(task),
        "n_labels_valid": coding.count().get("ok", 0),
        "status": "complete",
        "codebook_hash": task.codebook.hash,
        "data_hash": task.data_hash(),
        "nbannot_version": __version__,
    }


def _counted(coding: Coding) -> str:
    from nbannot.report.words import statuses

    return f"{plural(len(coding.task), 'text')} × {plural(len(coding.fields), 'field')}: {statuses(coding.count())}"


def _by_column(changes: Sequence[Change]) -> list[tuple[str, list[Change]]]:
    columns = dict.fromkeys(c.column for c in changes)
    return [(column, [c for c in changes if c.column == column]) for column in columns]


def _grid(changes: Sequence[Change]) -> Grid:
    """Return the values that differ, and below the table each reason once, with a letter."""
    reasons = list(dict.fromkeys(c.reason for c in changes))
    rows = []
    for c in changes:
        digits = decimals(c.new.n) + 1
        wide = {"low": -math.inf, "high": math.inf}
        rows.append(
            [
                metric_words(c.metric),
                number(c.old, digits, **wide),
                number(c.new.value, digits, **wide),
                interval(c.new.ci_low, c.new.ci_high, digits),
                _letter(reasons.index(c.reason)),
            ]
        )
    notes = [f"{_letter(i)}: {reason}" for i, reason in enumerate(reasons)]
    return Grid(["metric", "old", "new", "95% interval", "why"], rows, "lrril", notes=notes)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index + 1)
