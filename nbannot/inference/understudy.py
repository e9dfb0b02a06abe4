"""Understudy: which model may take over when this one is gone, and be as good within a margin declared before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.comparing.align import (
    Compared,
    aligned,
    column_of,
    given_items,
    on_the_same_texts,
    refuse_other_fields,
)
from nbannot.comparing.comparison import HEADLINE
from nbannot.comparing.names import names_of
from nbannot.comparing.took import energy_of, seconds_of
from nbannot.errors import ScoringError
from nbannot.inference.finding import Drawn, Finding, looks_at, plain
from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading, Para, Row
from nbannot.page.digits import count, interval
from nbannot.record.run import Run
from nbannot.report.words import metric_words
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = ("run", "name", "value", "value_of_final", "difference", "low", "high", "equivalent", "not_inferior", "n",
           "seconds", "energy_kwh", "reason")  # fmt: skip
LIMITS = (
    "Equivalent: the interval of the paired difference lies within the margin on both sides (two one-sided tests); "
    "that no difference is found is not this.",
    "Equally good on average is not the same labels: a finding may still move; see multiverse and prevalence.",
)


@dataclass(frozen=True)
class Candidate:
    """A candidate against the final run; the attributes are the columns of `Understudy.frame`."""

    run: str
    name: str
    value: float
    value_of_final: float
    difference: float
    low: float
    high: float
    equivalent: bool
    not_inferior: bool
    n: int
    seconds: float | None
    energy_kwh: float | None
    reason: str


@dataclass(frozen=True, repr=False)
class Understudy(Finding):
    """The result of `understudy`: one `Candidate` per run that may take over, the most equal ones first."""

    field: Field
    metric: str
    margin: float
    level: float
    final: str
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        """One row per candidate: values, paired difference with its 1 - 2 alpha interval, equivalent, cost."""
        return make_frame([vars(one) for one in self.candidates], COLUMNS)

    def forests(self) -> list[Drawn]:
        """Return the differences to the final run with their intervals."""
        axis = f"difference in {metric_words(self.metric)}"
        return [(axis, [(one.name, one.difference, one.low, one.high) for one in self.candidates])]

    def blocks(self) -> list[Block]:
        """Return the page: who may take over, the differences, what limits it."""
        fit = [one.name for one in self.candidates if one.equivalent]
        who = ", ".join(fit) if fit else "none of them is shown to be"
        sentence = f"As good as {self.final} within ±{self.margin:g}: {who}."
        rows: list[Row] = [
            [
                Cell(one.name, "strong" if one.equivalent else "plain"),
                plain(one.value, 3),
                plain(one.difference, 3),
                interval(one.low, one.high, 3),
                "equivalent"
                if one.equivalent
                else "not inferior"
                if one.not_inferior
                else one.reason or "not shown",
                count(one.n),
            ]
            for one in self.candidates
        ]
        header = ["candidate", metric_words(self.metric), "difference", f"{self.level:.0%}", "", "n"]
        return [
            Heading("Understudy", 1, f"{self.field.name}, margin ±{self.margin:g}"),
            Para(sentence, "notice"),
            Grid(header, rows, "lrrilr"),
            Bullets((*self.notes, *LIMITS), "quiet"),
        ]

    def __repr__(self) -> str:
        fit = sum(one.equivalent for one in self.candidates)
        return f"<Understudy of {self.final}: {fit} of {len(self.candidates)} candidates equivalent>"


def understudy(
    final: Run,
    candidates: Sequence[Compared],
    *,
    margin: float,
    column: str | None = None,
    metric: str | None = None,
    cluster: str | None = None,
    alpha: float = 0.05,
    n_resamples: int = 10_000,
    seed: int = 1,
) -> Understudy:
    """Return which candidates are shown to be as good as the final run, within a margin, on the same texts.

    Parameters
    ----------
    final
        The run that is to be replaced.
    candidates
        Runs of other models (or settings, or people) on the same texts.
    margin
        How much better or worse still counts as equal, in units of the metric; declared before looking, no default.
    column, metric
        The field, and one of its metrics; the first metric of its type when left out.
    cluster
        Column of the data that says which texts belong together (the task's own when left out).
    alpha
        Of each of the two one-sided tests: the interval has the level 1 - 2 alpha.

    Raises
    ------
    ScoringError
        If the margin is not above 0, there is no candidate, or runs have other texts.
    """
    if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 < margin < float("inf"):
        raise ScoringError(f"margin must be a number above 0, in units of the metric. Got {margin!r}.")
    if not 0 < alpha < 0.5:
        raise ScoringError(f"alpha must be between 0 and 0.5. Got {alpha!r}.")
    items = given_items([final, *given_items(candidates)])
    if len(items) < 2:
        raise ScoringError("there is no candidate: the list of runs is empty.\n  Give at least one run.")
    refuse_other_fields(items)
    f = final.coding.asked(column)
    absent = [item.run_id for item in items if f.column not in item.coding.answers]
    if absent:
        raise ScoringError(f"'{f.column}' was not asked in {', '.join(absent)}.")
    items = on_the_same_texts(items, [f])
    from nbannot.measures.paired import compare_two

    weighting = items[0].task.weighting()
    data = aligned(items, f, column_of(items[0].task, items[0].task.cluster_column(cluster)), weighting)
    name = metric or HEADLINE[f.type]
    names = names_of(items)
    rates = []
    for item, own in zip(items[1:], data[1:], strict=True):
        pair = compare_two(own, data[0], name, level=1 - 2 * alpha, n_resamples=n_resamples, seed=seed)
        known = pair.ci_low == pair.ci_low
        rates.append(
            Candidate(
                item.run_id, names[item.run_id], pair.value_a, pair.value_b, pair.diff, pair.ci_low, pair.ci_high,
                known and -margin < pair.ci_low and pair.ci_high < margin, known and pair.ci_low > -margin, pair.n,
                seconds_of(item), energy_of(item), pair.reason,
            )
        )  # fmt: skip
    notes = looks_at(final.task)
    if weighting is not None and (
        words := weighting.on(final.task.ids, [h is not None for h in data[0].human])[1]
    ):
        notes.append(words)
    rates.sort(key=lambda one: (not one.equivalent, -one.value if one.value == one.value else 0.0))
    return Understudy(f, name, float(margin), 1 - 2 * alpha, names[final.run_id], tuple(rates), tuple(notes))
