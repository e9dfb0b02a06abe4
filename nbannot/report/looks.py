"""What was made on a locked test half: how often it was consulted, and intervals that pay for every look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nbannot.page.blocks import Block, Facts, Grid, Heading, Para, Row
from nbannot.page.digits import count, decimals, interval, number
from nbannot.report.words import metric_words
from nbannot.study.split import level_of_look
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.record.run import Run
    from nbannot.study.split import Lock

FIRST_METRICS = {
    "checkbox": ("accuracy", "f1_macro"),
    "dropdown": ("accuracy", "f1_macro"),
    "likert": ("quadratic_kappa",),
    "textbox": ("norm_levenshtein",),
    "span": ("token_f1",),
    "multiselect": ("f1_macro", "percentage_agreement"),
}
"""The numbers that are shown with an interval for this look, by type of field."""


def _doubts(run: Run, lock: Lock) -> list[Block]:
    """Return what speaks against the log of the looks: lines that are gone or edited, a run that knows of more."""
    doubts = [f"{fault[0].upper()}{fault[1:]}." for fault in lock.faults]
    if run.kept_look > lock.n_looks:
        doubts.append(
            f"This run's own record says that it was look {run.kept_look}, and {lock.n_looks} are known: looks are "
            "missing from the log."
        )
    return [Para(" ".join(doubts), "notice")] if doubts else []


def test_half_blocks(run: Run) -> list[Block]:
    """Return the looks at the test half, and this run's first numbers with the interval of its look.

    Empty for a run that was not made on an opened test half.
    """
    lock = run.task.split_lock
    if lock is None or not lock.opened or not run.task.has_human_labels:
        return []
    load("nbannot.measures.field")
    from nbannot.measures.field import score_field
    from nbannot.record.scoring import field_data

    k = max(1, lock.look_of(run.run_id), run.kept_look)
    level = level_of_look(k)
    rows: list[Row] = []
    for f in run.coding.fields:
        score = run.scores.fields[f.column]
        wide = score_field(field_data(run.coding, f), level=level)
        for name in FIRST_METRICS[f.type]:
            plain, paid = score.results[name], wide.results[name]
            digits = decimals(plain.n)
            rows.append(
                [
                    f.name,
                    metric_words(name),
                    number(plain.value, digits, low=-math.inf, high=math.inf),
                    interval(plain.ci_low, plain.ci_high, digits),
                    interval(paid.ci_low, paid.ci_high, digits),
                    count(plain.n),
                ]
            )
    looks = lock.looks
    facts = [
        (
            f"look {number_}",
            f"{look.get('time', '')}, {look.get('run_id') or 'no run'}: {look.get('reason', '')}",
        )
        for number_, look in enumerate(looks, start=1)
    ]
    config = next((look.get("config") for look in looks if look.get("run_id") == run.run_id), "")
    header = ["field", "", "", "if this were the only look", f"{level:.1%}, for look {k}", "n"]
    return [
        Heading("Looks at the test half", 2, lock.words),
        *_doubts(run, lock),
        Grid(header, rows, "llriir"),
        Para(
            "The interval of look k has the level 1 − 0.05 · 6 / (π² k²): over all looks together, however many come, "
            "the error rate stays within 5%.",
            "quiet",
        ),
        Facts([*facts, *([("frozen configuration", f"SHA-256 {config}")] if config else [])]),
    ]
