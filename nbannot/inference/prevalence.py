"""Prevalence: how many texts of a corpus are what, corrected for the model's errors by a sample that people coded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import Drawn, Finding, in_range
from nbannot.page.blocks import Block, Bullets, Cell, Fold, Grid, Heading, Para, Row
from nbannot.page.digits import count, decimals, interval, number, share
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.study.codebook import Field
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.inference.gold import Measured
    from nbannot.inference.shares import GoldTable
    from nbannot.measures.result import FloatArray
    from nbannot.study.task import Task

COLUMNS = (
    "label", "naive", "gold_only", "gold_only_low", "gold_only_high", "corrected", "corrected_low", "corrected_high",
    "n_gold", "n_corpus", "se", "se_classical", "corrected_low_all", "corrected_high_all", "ppi", "ppi_low", "ppi_high",
    "ppi_tuned", "ppi_tuned_low", "ppi_tuned_high", "false_positive_rate", "false_positive_low", "false_positive_high",
    "false_negative_rate", "false_negative_low", "false_negative_high", "n_human", "note",
)  # fmt: skip
CLUSTERS_FEW = 30
TOO_FEW = 5
"""Below so many expected human instances the interval is cautious: look at the gold-only one, too."""
LARGE_ERROR = 0.1
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

    @property
    def frame(self) -> Any:
        """One row per label (and group): naive, gold-only and corrected share with intervals, error rates, counts."""
        first = () if self.by is None else (self.by,)
        rows = [{**vars(one), **({} if self.by is None else {self.by: one.group})} for one in self.shares]
        return make_frame(rows, (*first, *COLUMNS))

    def label_next(self, n: int = 60) -> Any:
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
            return "No group has human labels enough for a corrected share."
        moved = max(known, key=lambda s: abs(s.naive - s.corrected))
        where = "" if self.by is None else f" in {self.by} {moved.group}"
        digits = decimals(moved.n_corpus)
        outside = not moved.corrected_low <= moved.naive <= moved.corrected_high
        return (
            f"Counting the model's labels gives {number(moved.naive, digits)} {moved.label}{where}; corrected for its "
            f"errors it is {number(moved.corrected, digits)} "
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
        found: dict[str, list[str]] = {}
        for s in self.shares:
            for note in filter(None, s.note.split("; ")):
                found.setdefault(note, []).append(s.label if self.by is None else f"{s.group} {s.label}")
        return [f"{listed(names)}: {note}." for note, names in found.items()]

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
                    interval(s.corrected_low_all, s.corrected_high_all, digits),
                    number(s.false_positive_rate),
                    number(s.false_negative_rate),
                    count(s.n_gold),
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
            "all at once",
            "FPR",
            "FNR",
            "coded",
        ]
        notes = [
            "FPR, FNR: share of the texts that are not, or are, so labelled by people on which the model errs."
        ]
        if self.by is None:
            return Grid(header, rows, "lrririirrr", notes=notes)
        return Grid([self.by, *header], rows, "llrririirrr", notes=notes)

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


def prevalence(
    corpus: Run,
    column: str | None = None,
    *,
    by: str | None = None,
    gold: Run | Task | Coder | None = None,
    sampled: Literal["random", "by label", "known"] = "random",
    weights: str | None = None,
    probability: str | None = None,
    cluster: str | None = None,
    target: Literal["corpus", "population"] = "corpus",
    level: float = 0.95,
) -> Prevalence:
    """Return the share of each label in a corpus, corrected for the model's errors, beside the naive one.

    Parameters
    ----------
    corpus
        A `Run` of the model on every text of the corpus, a random part of which people coded.
    column
        The field (name or column); may be left out where only one was asked. Of texts and spans the share that has any.
    by
        Column of the data with groups or times: one set of shares for each, from its own labels.
    gold
        Where the human labels are, if not in the corpus' own data: a `Task` or `Coder` with some of its texts, or a
        `Run` with the same prompt and model on texts drawn with the corpus (they are added to it).
    sampled
        How the coded texts were drawn: ``"random"`` from the corpus (checked against the model's labels),
        ``"by label"`` (random within each label of the model). With known probabilities give one of the next two; a
        ``sample.csv`` in the task's folder is read by itself.
    weights, probability
        Column of the data with 1 / probability, or the probability, with which each text was drawn for coding.
    cluster
        Column of the data that says which texts belong together (document, author, speaker).
    target
        ``"corpus"``: these texts; ``"population"``: what they were drawn from.
    level
        Of the intervals.

    Raises
    ------
    ScoringError
        If the coded texts cannot stand for the corpus; the letter says which condition fails.

    Notes
    -----
    Post-stratification (Holt & Smith 1979; Särndal, Swensson & Wretman 1992; Olofsson et al. 2014): within the texts to
    which the model gives the same label, people's labels of the sample stand for all. Labels of the model with fewer
    than two coded texts are joined with others. Beside it: the coded texts alone (Wilson) and prediction-powered
    inference (Angelopoulos et al. 2023; PPI++), whose intervals are too narrow for rare labels.
    """
    in_range("level", level, 0, 1)
    if target not in ("corpus", "population"):
        raise ScoringError(f"target must be 'corpus' or 'population'. Got {target!r}.")
    load("numpy", "scipy.stats")
    from nbannot.inference.gold import group_codes, measured

    found = measured(
        corpus, column, gold=gold, sampled=sampled, weights=weights, probability=probability, groups=by
    )
    import numpy as np

    groups, names = (
        (np.zeros(len(found.human), dtype=np.int64), [""]) if by is None else group_codes(found.column(by))
    )
    rows, merged = _shares(found, groups, names, level, target == "population", cluster)
    whole = _table(found, np.zeros_like(groups), 1)
    notes = list(found.notes)
    notes += [f"Few human labels: {words}." for words in merged]
    if cluster is None:
        notes.append(
            "Texts are taken to be independent; if they share documents or speakers, name the column: cluster=..."
        )
    line = (
        f"post-stratified by model label · {level:.0%} normal intervals, variance of (s+1)/(n+2) · target: {target} · "
        f"gold only: Wilson · sampled: {found.sampled}"
        + ("" if cluster is None else f" · clustered by {cluster}")
    )
    return Prevalence(
        found.field, corpus.run_id, by, level, tuple(rows), found.labels, whole, line, tuple(notes)
    )


def _table(found: Measured, groups: Any, n_groups: int) -> GoldTable:
    """Return the tables of counts of every group."""
    import numpy as np

    from nbannot.inference.shares import GoldTable

    x = len(found.labels)
    k = x + 1
    stratum = np.where(found.model < 0, x, found.model)
    corpus = np.bincount(groups * k + stratum, minlength=n_groups * k).reshape(n_groups, k).astype(float)
    gold = found.gold
    cell = (groups[gold] * x + found.human[gold]) * k + stratum[gold]
    weight = found.weights[gold]
    counts, mass, mass2 = (
        np.bincount(cell, w, minlength=n_groups * x * k).reshape(n_groups, x, k).astype(float)
        for w in (np.ones(len(gold)), weight, weight**2)
    )
    return GoldTable(counts, mass, mass2, corpus, found.equal)


def _shares(
    found: Measured, groups: Any, names: Sequence[str], level: float, population: bool, cluster: str | None
) -> tuple[list[Share], list[str]]:
    import numpy as np

    from nbannot.inference.shares import clustered_se, post_stratified, ppi
    from nbannot.measures.accounting import unit_codes
    from nbannot.measures.classification import ratio
    from nbannot.measures.resample import normal_quantile, t_quantile

    table = _table(found, groups, len(names))
    estimate = post_stratified(table, population=population, ordered=found.field.type == "likert")
    x = len(found.labels)
    tails = [normal_quantile(1 - (1 - level) / 2 / m) for m in (1, x if x > 2 else 1)]
    quantiles = np.tile(tails, (len(names), 1))
    se, clusters = estimate.se, None
    if cluster is not None:
        gold = found.gold
        units = unit_codes(found.column(cluster))[gold]
        stratum = np.where(found.model < 0, x, found.model)[gold]
        se, clusters = clustered_se(
            estimate, table, groups[gold], found.human[gold], stratum, found.weights[gold], units
        )
        for g, n_clusters in enumerate(clusters.tolist()):
            if n_clusters > 1:
                sides = [1 - (1 - level) / 2 / m for m in (1, x if x > 2 else 1)]
                quantiles[g] = [t_quantile(side, n_clusters - 1) for side in sides]
    shape = estimate.value.shape
    counted, positives = table.counts.sum(2), table.weight.sum(2)
    n_gold = np.broadcast_to(table.counts.sum((1, 2))[:, None], shape)
    mass = np.broadcast_to(positives.sum(1)[:, None], shape)
    n_eff = n_gold if table.equal else np.nan_to_num(ratio(mass**2, table.weight2.sum((1, 2))[:, None]))
    hits, called = np.einsum("gxx->gx", table.weight[:, :, :x]), table.weight[:, :, :x].sum(1)
    only = ratio(positives, mass)
    wrong, missed = ratio(called - hits, mass - positives), ratio(positives - hits, positives)
    half, half_all = (quantiles[:, [m]] * se for m in (0, 1))
    numbers = {
        "naive": ratio(table.corpus[:, :x], table.corpus.sum(1, keepdims=True)),
        "gold_only": only,
        **_wilson("gold_only", only, n_eff, level),
        "corrected": estimate.value,
        "corrected_low": np.clip(estimate.value - half, 0, 1),
        "corrected_high": np.clip(estimate.value + half, 0, 1),
        "corrected_low_all": np.clip(estimate.value - half_all, 0, 1),
        "corrected_high_all": np.clip(estimate.value + half_all, 0, 1),
        "se": se,
        "se_classical": estimate.se_classical,
        "false_positive_rate": wrong,
        **_wilson("false_positive", wrong, n_gold - counted, level),
        "false_negative_rate": missed,
        **_wilson("false_negative", missed, counted, level),
    }
    for name, tuned in (("ppi", False), ("ppi_tuned", True)):
        numbers |= dict(
            zip((name, f"{name}_low", f"{name}_high"), ppi(table, level, tuned=tuned), strict=True)
        )
    rows = []
    for g, name in enumerate(names):
        for i, label in enumerate(found.labels):
            here = {key: float(values[g, i]) for key, values in numbers.items()}
            sizes = {"n_gold": int(n_gold[g, i]), "n_corpus": int(table.corpus[g].sum())}
            note = _note(here, sizes["n_gold"], None if clusters is None else int(clusters[g]))
            rows.append(
                Share(group=name, label=label, **here, **sizes, n_human=int(counted[g, i]), note=note)  # type: ignore[arg-type]
            )
    own = np.arange(x + 1)
    merged = [
        f"{'' if name == '' else name + ': '}the texts that the model calls "
        f"{listed((*found.labels, 'nothing valid')[k] for k in np.flatnonzero(estimate.stratum[g] != own))} "
        "were joined with others"
        for g, name in enumerate(names)
        if (estimate.stratum[g] != own).any()
    ]
    if len(merged) > MOST_PLOTS:
        merged = [*merged[:MOST_PLOTS], f"likewise in {plural(len(merged) - MOST_PLOTS, 'other group')}"]
    return rows, merged


def _wilson(name: str, value: FloatArray, n: FloatArray, level: float) -> dict[str, FloatArray]:
    """Return the Wilson limits of shares, each of its own number of texts, under ``<name>_low`` and ``<name>_high``."""
    import numpy as np

    from nbannot.measures.resample import wilson

    limits = np.array(
        [
            wilson(v * m, m, level) if m else (math.nan, math.nan)
            for v, m in zip(value.ravel(), n.ravel(), strict=True)
        ]
    ).reshape(*value.shape, 2)
    return {f"{name}_low": limits[..., 0], f"{name}_high": limits[..., 1]}


def _note(here: dict[str, float], n_gold: int, clusters: int | None) -> str:
    naive, value, se = here["naive"], here["corrected"], here["se"]
    wrong, missed = here["false_positive_rate"], here["false_negative_rate"]
    if math.isnan(value):
        return "too few human labels for a corrected share" if n_gold else "no human label in it"
    notes = []
    if abs(naive - value) <= se and min(wrong, missed) > LARGE_ERROR:
        notes.append(
            "right by cancellation: the naive share is near the corrected one although the model errs in more than "
            f"{share(LARGE_ERROR, 1)} of the texts either way"
        )
    if value * n_gold < TOO_FEW:
        notes.append("too few human instances to estimate; the gold-only interval is beside it")
    if clusters is not None and clusters < CLUSTERS_FEW:
        notes.append(f"only {clusters} clusters, the interval may be too narrow")
    return "; ".join(notes)
