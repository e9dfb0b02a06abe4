"""What `prevalence` found: one share per label and group, and the page that says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import FEWEST_GOLD, Drawn, Finding, leaves_out, too_few_gold
from nbannot.page.blocks import Block, Bullets, Cell, Fold, Grid, Heading, Para, Row
from nbannot.page.digits import count, decimals, interval, number
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.inference.shares import GoldTable
    from nbannot.tools.frames import Frame

COLUMNS = (
    "label", "naive", "gold_only", "gold_only_low", "gold_only_high", "corrected", "corrected_low", "corrected_high",
    "n_gold", "n_corpus", "se", "se_classical", "corrected_low_all", "corrected_high_all", "ppi", "ppi_low", "ppi_high",
    "ppi_tuned", "ppi_tuned_low", "ppi_tuned_high", "false_positive_rate", "false_positive_low", "false_positive_high",
    "false_negative_rate", "false_negative_low", "false_negative_high", "n_human", "note",
)  # fmt: skip
MOST_PLOTS = 4
LIMITS = (
    "Corrected: post-stratified by the model's label, for this corpus; people's labels are what is true, and the "
    "intervals cover the sampling of the texts that people coded, not their disagreement, nor another prompt or model.",
    "The naive share counts the model's labels as if they were right; its error does not shrink with more texts.",
)


@dataclass(frozen=True)
class Share:
    """One label's share in one group; the attributes are the columns of `Prevalence.frame`.

    Attributes
    ----------
    naive
        Share of the texts that the model gives this label.
    corrected
        Post-stratified by the model's label; `se` with the variance floor, `se_classical` without.
    corrected_low_all, corrected_high_all
        Limits that hold for all labels of the group at once (Bonferroni).
    gold_only
        From the coded texts alone (Wilson).
    false_positive_rate, false_negative_rate
        Of the model for this label, from the coded texts (Wilson): wrong among those that are not, missed among those
        that are.
    """

    group: str
    label: str
    naive: float
    gold_only: float
    gold_only_low: float
    gold_only_high: float
    corrected: float
    corrected_low: float
    corrected_high: float
    n_gold: int
    n_corpus: int
    se: float
    se_classical: float
    corrected_low_all: float
    corrected_high_all: float
    ppi: float
    ppi_low: float
    ppi_high: float
    ppi_tuned: float
    ppi_tuned_low: float
    ppi_tuned_high: float
    false_positive_rate: float
    false_positive_low: float
    false_positive_high: float
    false_negative_rate: float
    false_negative_low: float
    false_negative_high: float
    n_human: int
    note: str


@dataclass(frozen=True, repr=False)
class Prevalence(Finding):
    """The result of `prevalence`.

    Attributes
    ----------
    shares
        One `Share` per group and label.
    by
        The column of the groups, or None.
    table
        The counts of the whole corpus from which it was made: people's labels by the model's.
    """

    field: Field
    run_id: str
    by: str | None
    level: float
    shares: tuple[Share, ...]
    labels: tuple[str, ...]
    table: GoldTable
    conventions: str
    notes: tuple[str, ...]
    notice: str = ""

    @property
    def frame(self) -> Frame:
        """One row per label (and group): naive, gold-only and corrected share with intervals, error rates, counts."""
        first = () if self.by is None else (self.by,)
        rows = [{**vars(one), **({} if self.by is None else {self.by: one.group})} for one in self.shares]
        return make_frame(rows, (*first, *COLUMNS))

    def label_next(self, n: int = 60) -> Frame:
        """Return where the next `n` human labels would narrow the shares most: one row per label of the model.

        Columns: model_label, n_gold, n_corpus, label_next. Drawn so, they are random within each label of the model:
        say ``sampled="by label"`` afterwards.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ScoringError(f"n must be a whole number of at least 1. Got {n!r}.")
        from nbannot.inference.shares import neyman

        more = neyman(self.table, n).tolist()
        counts, corpus = self.table.counts[0].sum(0).tolist(), self.table.corpus[0].tolist()
        rows = [
            {"model_label": name, "n_gold": int(a), "n_corpus": int(b), "label_next": int(c)}
            for name, a, b, c in zip((*self.labels, "no valid answer"), counts, corpus, more, strict=True)
            if b
        ]
        return make_frame(rows, ("model_label", "n_gold", "n_corpus", "label_next"))

    def forests(self) -> list[Drawn]:
        """Return a plot of the corrected shares; with groups one per label, for the largest ones."""
        if self.by is None:
            rows = [(s.label, s.corrected, s.corrected_low, s.corrected_high) for s in self.shares]
            return [("corrected share", rows)]
        size = dict.fromkeys(self.labels, 0.0)
        for s in self.shares:
            size[s.label] += 0 if math.isnan(s.corrected) else s.corrected * s.n_corpus
        largest = sorted(self.labels, key=lambda label: -size[label])[:MOST_PLOTS]
        return [
            (f"{label}: corrected share", [(s.group, s.corrected, s.corrected_low, s.corrected_high)
                                           for s in self.shares if s.label == label])
            for label in largest
        ]  # fmt: skip

    def blocks(self) -> list[Block]:
        """Return the page: the shares, error rates, where to label next, what was checked and what limits it."""
        texts, coded = count(self.table.corpus.sum()), count(self.table.counts.sum())
        aside = f"{self.run_id}: {texts} texts, {coded} with a human label"
        return [
            Heading(f"Prevalence of {self.field.name}", 1, aside),
            Para(self.verdict, "notice"),
            self._grid(),
            *([Para(self.notice, "warning")] if self.notice else []),
            *([Bullets(self.warnings)] if self.warnings else []),
            Para(self._next()),
            Fold("How often the model errs (Wilson intervals)", [self._errors()]),
            Fold("What was checked", [Bullets(self.notes)]),
            Bullets(LIMITS, "quiet"),
            Para(f"Conventions: {self.conventions}", "quiet"),
        ]

    @property
    def verdict(self) -> str:
        """The largest correction in a sentence."""
        known = [s for s in self.shares if not math.isnan(s.corrected)]
        if not known:
            return "No group has enough human labels for a corrected share."
        enough = [s for s in known if s.n_gold >= FEWEST_GOLD]
        if not enough:
            return too_few_gold(max(s.n_gold for s in known), "a share")
        moved = max(enough, key=lambda s: abs(s.naive - s.corrected))
        where = "" if self.by is None else f" in {self.by} {moved.group}"
        digits = decimals(moved.n_corpus)
        outside = leaves_out(moved.corrected_low, moved.corrected_high, moved.naive)
        return (
            f'Counting the model\'s labels gives {number(moved.naive, digits)} for "{moved.label}"{where}; corrected '
            f"for its errors it is {number(moved.corrected, digits)} "
            f"{interval(moved.corrected_low, moved.corrected_high, digits)}"
            + (
                ": the naive share lies outside the interval."
                if outside
                else ". No share moves further than this."
            )
        )

    @property
    def warnings(self) -> list[str]:
        """What a reader of the shares should know about single ones."""
        by_warning: dict[str, list[str]] = {}
        for s in self.shares:
            for note in filter(None, s.note.split("; ")):
                by_warning.setdefault(note, []).append(s.label if self.by is None else f"{s.group} {s.label}")
        return [f"{listed(names)}: {note}." for note, names in by_warning.items()]

    def _grid(self) -> Grid:
        rows: list[Row] = []
        for s in self.shares:
            digits = decimals(s.n_corpus)
            rows.append(
                [
                    *([] if self.by is None else [s.group]),
                    s.label,
                    Cell(number(s.naive, digits), "quiet"),
                    number(s.gold_only),
                    Cell(interval(s.gold_only_low, s.gold_only_high), "quiet"),
                    Cell(number(s.corrected, digits), "strong"),
                    interval(s.corrected_low, s.corrected_high, digits),
                    count(s.n_gold),  # before the others: a journal's table keeps the first seven columns
                    interval(s.corrected_low_all, s.corrected_high_all, digits),
                    number(s.false_positive_rate),
                    number(s.false_negative_rate),
                ]
            )
        inside = f"{self.level:.0%}"
        header = [
            "label",
            "naive",
            "gold only",
            inside,
            "corrected",
            inside,
            "coded",
            "all at once",
            "FPR",
            "FNR",
        ]
        notes = [
            "FPR, FNR: share of the texts that are not, or are, so labelled by people on which the model errs.",
            f"all at once: {inside} intervals that hold for all labels together.",
        ]
        if self.by is None:
            return Grid(header, rows, "lrriririrr", notes=notes)
        return Grid([self.by, *header], rows, "llrriririrr", notes=notes)

    def _errors(self) -> Grid:
        inside = f"{self.level:.0%}"
        rows: list[Row] = [
            [
                *([] if self.by is None else [s.group]),
                s.label,
                number(s.false_positive_rate),
                interval(s.false_positive_low, s.false_positive_high),
                count(s.n_gold - s.n_human),
                number(s.false_negative_rate),
                interval(s.false_negative_low, s.false_negative_high),
                count(s.n_human),
            ]
            for s in self.shares
        ]
        header = ["label", "false positives", inside, "of", "false negatives", inside, "of"]
        if self.by is None:
            return Grid(header, rows, "lrirrir")
        return Grid([self.by, *header], rows, "llrirrir")

    def _next(self, n: int = 60) -> str:
        rows = [row for row in self.label_next(n).to_dict("records") if row["label_next"]]
        if not rows:
            return "Every text of the corpus has a human label: there is nothing left to correct."
        words = ", ".join(f"{row['label_next']} that the model calls {row['model_label']}" for row in rows)
        return f"Where {n} more human labels would narrow this most: {words} (at random among those)."

    def __repr__(self) -> str:
        groups = "" if self.by is None else f" by {self.by}"
        return f"<Prevalence of {self.field.column}{groups} in {self.run_id}: {len(self.shares)} shares>"
