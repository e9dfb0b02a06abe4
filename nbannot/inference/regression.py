"""Regression on a corpus that a model labelled, corrected by the texts that people coded (Egami et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import (
    FEWEST_GOLD,
    Drawn,
    Finding,
    in_range,
    leaves_out,
    p_text,
    plain,
    too_few_gold,
)
from nbannot.page.blocks import Block, Bullets, Cell, Fold, Grid, Heading, Para, Row
from nbannot.page.digits import count, interval
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.inference.moments import Fit
    from nbannot.study.task import Task
    from nbannot.tools.frames import Frame

ESTIMATORS = ("corrected", "naive", "gold_only")
COLUMNS = (
    "term",
    *(f"{one}_{part}" for one in ESTIMATORS for part in ("estimate", "low", "high", "se", "p")),
)
FAMILIES = {"ols": "least squares", "logit": "logit", "poisson": "Poisson"}
FEW_CLUSTERS = 30
"""Below so many clusters of coded texts clustered errors are too small even with t."""
LIMITS = (
    "Corrected: unbiased for the regression that people's labels of the whole corpus would give, whatever errors the "
    "model makes; the naive coefficients hold only if it makes none that matter.",
    "Intervals cover the sampling of texts and of those that people coded, not people's disagreement, nor another "
    "prompt or model. A coefficient is an association, whoever labelled the texts.",
)


@dataclass(frozen=True, repr=False)
class Regression(Finding):
    """The result of `regress`.

    Attributes
    ----------
    terms
        Names of the coefficients.
    fits
        corrected, naive, gold_only -> `Fit`.
    n, n_gold
        Texts in it, and those with a human label.
    """

    formula: str
    family: str
    level: float
    terms: tuple[str, ...]
    fits: dict[str, Fit]
    n: int
    n_gold: int
    errors: str
    notes: tuple[str, ...]

    def _limits(self, name: str) -> list[tuple[float, float, float, float, float]]:
        """Return estimate, low, high, standard error and p of every term."""
        import numpy as np
        from scipy.stats import t

        fit = self.fits[name]
        if fit.reason:
            return [(math.nan,) * 5 for _ in self.terms]
        # An error of 0 is one that the texts cannot tell: a group of one text, of which all answers are the same.
        known = np.where(fit.se > 1e-12 * np.maximum(1, np.abs(fit.beta)), fit.se, math.nan)
        half = float(t.ppf((1 + self.level) / 2, fit.df)) * known
        with_p = zip(fit.beta.tolist(), half.tolist(), known.tolist(), strict=True)
        return [(b, b - h, b + h, se, float(2 * t.sf(abs(b) / se, fit.df))) for b, h, se in with_p]

    @property
    def frame(self) -> Frame:
        """One row per term: estimate, low, high, se and p of the corrected, naive and gold-only regression."""
        by_name = {name: self._limits(name) for name in ESTIMATORS}
        rows = [
            {
                "term": term,
                **{
                    f"{name}_{part}": value
                    for name in ESTIMATORS
                    for part, value in zip(
                        ("estimate", "low", "high", "se", "p"), by_name[name][i], strict=True
                    )
                },
            }
            for i, term in enumerate(self.terms)
        ]
        return make_frame(rows, COLUMNS)

    def forests(self) -> list[Drawn]:
        """Return the coefficients with their intervals, corrected above naive above gold only."""
        limits = {name: self._limits(name) for name in ESTIMATORS}
        rows = [
            (f"{term}: {name.replace('_', ' ')}", *limits[name][i][:3])
            for i, term in enumerate(self.terms)
            if term != "Intercept"
            for name in ESTIMATORS
        ]
        return [("coefficient", rows)] if rows else []

    def blocks(self) -> list[Block]:
        """Return the page: what moved, the coefficients, what was checked and what limits it."""
        limits = {name: self._limits(name) for name in ESTIMATORS}
        rows: list[Row] = []
        for i, term in enumerate(self.terms):
            cells: list[Cell | str] = [term]
            for name in ESTIMATORS:
                b, low, high, _, p = limits[name][i]
                tone: Literal["strong", "quiet"] = "strong" if name == "corrected" else "quiet"
                cells += [Cell(plain(b, 3), tone), Cell(interval(low, high, 3), tone)]
                if name == "corrected":
                    cells.append(p_text(p))
            rows.append(cells)
        inside = f"{self.level:.0%}"
        header = ["", "corrected", inside, "p", "naive", inside, "gold only", inside]
        reasons = [
            f"{name.replace('_', ' ')}: {fit.reason}." for name, fit in self.fits.items() if fit.reason
        ]
        return [
            Heading(self.formula, 1, f"{FAMILIES[self.family]}, {count(self.n)} texts, {count(self.n_gold)} coded"),
            Para(self.verdict, "notice"),
            Grid(header, rows, "lrirriri", notes=reasons),
            Fold("What was checked", [Bullets(self.notes)]),
            Bullets(LIMITS, "quiet"),
            Para(f"Conventions: {FAMILIES[self.family]} on the moments corrected by the known sampling probabilities; "
                 f"{self.errors} errors; {inside} t intervals", "quiet"),
        ]  # fmt: skip

    @property
    def verdict(self) -> str:
        """What the correction changed, in a sentence."""
        if self.fits["corrected"].reason:
            return f"No corrected regression: {self.fits['corrected'].reason}."
        if self.n_gold < FEWEST_GOLD:
            return too_few_gold(self.n_gold, "a coefficient")
        corrected, naive = self._limits("corrected"), self._limits("naive")
        moved = [
            term
            for term, (_, low, high, *_), (b, *_) in zip(self.terms, corrected, naive, strict=True)
            if term != "Intercept" and leaves_out(low, high, b)
        ]
        clear = [
            term
            for term, (_, low, high, *_) in zip(self.terms, corrected, strict=True)
            if term != "Intercept" and leaves_out(low, high, 0)
        ]
        differs = f"Corrected intervals leave out 0 for {', '.join(clear)}." if clear else (
            "No corrected interval leaves out 0."
        )  # fmt: skip
        return differs + (f" The naive coefficient lies outside for {', '.join(moved)}." if moved else "")

    def __repr__(self) -> str:
        terms = plural(len(self.terms), "term")
        return f"<Regression {self.formula!r}: {terms}, {self.n:,} texts, {self.n_gold:,} coded>"


def regress(
    formula: str,
    corpus: Run,
    *,
    family: Literal["ols", "logit", "poisson"] = "ols",
    gold: Run | Task | Coder | None = None,
    sampled: Literal["random", "by label"] | None = None,
    weights: str | None = None,
    probability: str | None = None,
    cluster: str | None = None,
    reason: str | None = None,
    level: float = 0.95,
) -> Regression:
    """Regress a label on columns of the data (or on other labels), corrected for the model's errors.

    Parameters
    ----------
    formula
        ``"Stance == 'pro' ~ party + year"``: a field, or its comparison with one label, then terms as in R (formulaic).
        A field among the terms is the model's label, corrected like the outcome. Of a multiselect the outcome is one
        option, ``"Topics: war ~ party"``: 1 where it was chosen.
    corpus, gold, sampled, weights, probability, reason
        As in `prevalence`. People must have coded, on the sampled texts, every field that the formula names.
    family
        ``"ols"`` (of 0 or 1: differences of shares), ``"logit"`` or ``"poisson"``.
    cluster
        Column of the data that says which texts belong together (the task's own when left out), for clustered
        errors; else robust ones (HC2).
    level
        Of the intervals.

    Raises
    ------
    ScoringError
        If the formula cannot be read, or the coded texts cannot stand for the corpus.

    Notes
    -----
    Egami, Hinck, Stewart & Wei, "Using Imperfect Surrogates for Downstream Inference", NeurIPS 2023. A text without a
    valid answer of the model gets the mean answer as its surrogate, which costs precision and no bias.
    """
    in_range("level", level, 0, 1)
    if family not in FAMILIES:
        raise ScoringError(f"family must be one of {', '.join(FAMILIES)}. Got {family!r}.")
    load("numpy", "pandas", "scipy.stats")
    from nbannot.inference.gold import given_corpus
    from nbannot.inference.regression_data import regression_data

    cluster = given_corpus(corpus, formula).task.cluster_column(cluster)
    data = regression_data(
        formula, corpus, gold=gold, sampled=sampled, weights=weights, probability=probability, cluster=cluster,
        reason=reason,
    )  # fmt: skip
    if family != "ols":
        _refuse_outcome(family, data.gold_y.tolist())
    fits = data.fits(family)
    return Regression(
        formula=formula,
        family=family,
        level=level,
        terms=tuple(data.terms),
        fits=fits,
        n=len(data.y),
        n_gold=len(data.rows),
        errors="robust (HC2)" if cluster is None and family == "ols" else "robust" if cluster is None
        else f"clustered by {cluster}",
        notes=(*data.notes, *_cautions(fits["corrected"], data.terms)),
    )  # fmt: skip


def _cautions(fit: Fit, terms: Sequence[str]) -> list[str]:
    """Return what limits a corrected regression because few texts were coded, one sentence each."""
    if fit.reason:
        return []
    notes = []
    lost = [term for term, b in zip(terms, fit.beta.tolist(), strict=True) if math.isnan(b)]
    if lost:
        notes.append(
            f"No corrected coefficient for {listed(lost)}: the coded texts say nothing of "
            f"{'it' if len(lost) == 1 else 'them'} (none of that kind was coded)."
        )
    if fit.floored:
        notes.append(
            f"Few errors of the model among the coded texts bear on {listed(terms[j] for j in fit.floored)}: the "
            "interval is as wide as their smoothed rate makes it. More coded texts would narrow it."
        )
    if fit.clusters is not None and fit.clusters < FEW_CLUSTERS:
        notes.append(f"The coded texts come from only {fit.clusters} clusters: intervals may be too narrow.")
    return notes


def _refuse_outcome(family: str, y: Sequence[float]) -> None:
    bad = [v for v in y if not math.isnan(v) and (v < 0 or (family == "logit" and v not in (0.0, 1.0)))]
    if bad:
        wanted = "0 or 1: compare the field with a label" if family == "logit" else "counts of at least 0"
        raise ScoringError(f"the outcome of a {FAMILIES[family]} regression is {wanted}. Got {bad[0]:g}.")
