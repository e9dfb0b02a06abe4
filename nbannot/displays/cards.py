"""Cards: what a codebook asks, what a task holds, what a run would send, and what a run found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbannot.displays.fragment import Fragment
from nbannot.report import cost_facts, model_words, status_blocks
from nbannot.report.blocks import Block, Bullets, Cell, Facts, Footnotes, Grid, Heading, Para, Row
from nbannot.report.digits import count, share
from nbannot.report.fields import LABEL_TYPES, baseline_value, n_reference, reasons_of, value_cells
from nbannot.report.words import (
    CARD_METRICS,
    by_number,
    metric_words,
    model_notes,
    plural,
    settings_shown,
    state_of,
    statuses,
)

if TYPE_CHECKING:
    from nbannot.codebook import Field
    from nbannot.metrics.result import FieldScore
    from nbannot.run import Run

LABELS_ON_A_CARD = 6


def run_card(run: Run) -> Fragment:
    """Return a run's card: settings, answers, headline metrics beside the baseline, time, energy, folder."""
    blocks: list[Block] = [
        Heading(f"{run.task.name}: {model_words(run)}", 1, aside=f"run {run.run_id}, {state_of(run)[0]}"),
        *(Para(note, "notice") for note in model_notes(run.config)),
        *status_blocks(run),
        Facts(
            [
                (
                    "settings",
                    ", ".join(f"{name} = {value}" for name, value in settings_shown(run.config)[1:]),
                ),
                ("texts", f"{count(len(run.task))} × {plural(len(run.coding.fields), 'field')}"),
                ("answers", _answers(run)),
            ]
        ),
        *_scores(run),
        Facts([*cost_facts(run), ("folder", str(run.folder))]),
    ]
    return Fragment.of(blocks)


def _answers(run: Run) -> str:
    said = statuses(run.coding.count())
    reasons: dict[str, int] = {}
    for f in run.coding.fields:
        for reason, n in reasons_of(run, f).items():
            reasons[reason] = reasons.get(reason, 0) + n
    return f"{said} ({'; '.join(by_number(reasons, 4))})" if reasons else said


def _scores(run: Run) -> list[Block]:
    if not run.task.has_human_labels:
        return [
            Para("No human labels: the answers can be looked at, not scored.", "notice"),
            Bullets([f"{f.name}: {_spread(_model_counts(run, f))}" for f in run.coding.fields if f.labels]),
        ]
    notes = Footnotes()
    rows: list[Row | str] = []
    for f in run.coding.fields:
        rows += _field_rows(f, run.scores.fields[f.column], notes)
    header = ["field", "metric", "value", "95% interval", "always the majority", "answered"]
    return [Grid(header, rows, "llrlrr", notes=notes.lines)]


def _field_rows(f: Field, score: FieldScore, notes: Footnotes) -> list[Row | str]:
    n = n_reference(score)
    if not n:
        return [[Cell(f.name, "strong"), "no human labels", "", "", "", ""]]
    rows: list[Row | str] = []
    for place, name in enumerate(CARD_METRICS[f.type]):
        result = score.results[name]
        first = place == 0
        rows.append(
            [
                Cell(f.name if first else "", "strong", title=f.column if first else ""),
                metric_words(name),
                *value_cells(name, result, notes),
                Cell(baseline_value(score, name) if f.type in LABEL_TYPES else "", "quiet"),
                Cell(
                    f"{count(score.results['coverage'].n_answered)} of {count(n)}" if first else "", "quiet"
                ),
            ]
        )
    if f.type in LABEL_TYPES:
        people = [(str(entry["label"]), int(entry["support"])) for entry in score.per_class]
        model = [(str(entry["label"]), int(entry["predicted"])) for entry in score.per_class]
        rows.append(f"people: {_spread(people)} | model: {_spread(model)}")
    return rows


def _model_counts(run: Run, f: Field) -> list[tuple[str, int]]:
    values = run.coding.values(f.column)
    return [(str(label), values.count(label)) for label in f.labels]


def _spread(counts: Sequence[tuple[str, int]]) -> str:
    """Return labels with their shares on one line; the rarest ones of many together."""
    total = sum(n for _, n in counts)
    if not total:
        return "nothing"
    shown = list(counts)
    if len(counts) > LABELS_ON_A_CARD:
        kept = sorted(counts, key=lambda item: -item[1])[: LABELS_ON_A_CARD - 1]
        shown = [*kept, (f"{len(counts) - len(kept)} others", total - sum(n for _, n in kept))]
    return ", ".join(f"{label}: {share(n, total)}" for label, n in shown)
