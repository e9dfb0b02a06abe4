"""Planning: how many texts people should code, before they do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbannot.errors import ScoringError
from nbannot.inference.finding import Finding, in_range
from nbannot.measures.significance import POWER, texts_to_detect
from nbannot.page.blocks import Block, Grid, Heading, Para, Row
from nbannot.page.digits import count
from nbannot.report.words import plural
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = ("question", "n", "exact", "assumed")
MOST_TEXTS = 100_000_000
GOALS = (
    "how_many(half_width=.05, share=.8) for a share or an accuracy; how_many(half_width=.1, table=[[…], …]) for a "
    "kappa; how_many(difference=.05, discordant=.15) between two runs; how_many(half_width=.03, share=.15, phi=.8, "
    "corpus=10_000) for a share with the model's labels"
)
LIMITS = {
    "share": "Wilson interval of a simple random sample; for the accuracy of a model put the one you expect. A label "
    "that is to be reported by itself needs 30, better 50, texts of its own.",
    "kappa": "Fleiss, Cohen & Everitt's (1969) error of the table you expect, scaled; another table needs another n.",
    "difference": "Connor (1987) for McNemar's test on the same texts; `discordant` is the share of texts that exactly "
    "one of the two runs has right.",
    "with model": "phi is the correlation of the model's and people's labels (0 or 1), as in another sample; the "
    "labels go to a random sample of the corpus.",
}


@dataclass(frozen=True, repr=False)
class Plan(Finding):
    """How many texts are needed.

    Attributes
    ----------
    n
        Texts to be coded by people, rounded up.
    exact
        Before rounding, where there is a closed form.
    question, assumed
        What it answers, and under what assumptions, in words.
    without_model
        Texts needed without the model's labels; None where they play no part.
    """

    n: int
    exact: float
    question: str
    assumed: str
    goal: str
    without_model: int | None = None

    @property
    def frame(self) -> Frame:
        """One row: question, n, exact, assumed."""
        return make_frame([{name: getattr(self, name) for name in COLUMNS}], COLUMNS)

    def blocks(self) -> list[Block]:
        """Return the page: the number, what it assumes, what limits it."""
        rows: list[Row] = [[self.question, count(self.n), self.assumed]]
        if self.without_model is not None:
            rows.append(["the same without the model's labels", count(self.without_model), "Wald interval"])
        return [
            Heading("How many texts to code", 1),
            Para(f"{plural(self.n, 'text')}: {self.question}.", "notice"),
            Grid(["", "texts", "assumed"], rows, "lrl"),
            Para(LIMITS[self.goal], "quiet"),
        ]

    def __int__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"<Plan: {self.n:,} texts, {self.question}>"


def how_many(
    *,
    half_width: float | None = None,
    share: float | None = None,
    table: Sequence[Sequence[float]] | None = None,
    difference: float | None = None,
    discordant: float | None = None,
    power: float = POWER,
    phi: float | None = None,
    corpus: int | None = None,
    level: float = 0.95,
) -> Plan:
    """Return how many texts people have to code for an interval of a given width, or to find a difference.

    Parameters
    ----------
    half_width
        Half the width of the interval that is wanted: ``.05`` for ±5 points.
    share
        The share or accuracy that is expected, 0 to 1; ``.5`` where nothing is known.
    table
        Expected counts of two coders, or of people (rows) and model (columns): then the interval is that of kappa.
    difference, discordant, power
        In accuracy between two runs on the same texts; the share of texts that exactly one of them has right; the
        chance of finding it.
    phi, corpus
        Correlation of the model's and people's labels (0/1), and how many texts the model labels: then the interval is
        that of a share corrected with the model's labels.
    level
        Of the interval (and of the test: 1 - level).

    Raises
    ------
    ScoringError
        If the numbers do not say which of these questions is meant, or one is out of range.

    Examples
    --------
    >>> how_many(half_width=0.05, share=0.8).n, how_many(difference=0.05, discordant=0.15).n
    (245, 469)
    """
    in_range("level", level, 0, 1)
    if difference is not None or discordant is not None:
        return _difference(difference, discordant, power, level, half_width)
    if half_width is None:
        raise ScoringError(f"say what is wanted.\n  {GOALS}.")
    half = in_range("half_width", half_width, 0, 1)
    if table is not None:
        return _kappa(table, half, level)
    p = in_range("share", 0.5 if share is None else share, 0, 1)
    if phi is not None or corpus is not None:
        return _with_model(p, half, phi, corpus, level)
    n = _smallest(lambda m: _wilson_half(p, m, level) <= half)
    aim = f"a share of about {p:.3g} to ±{half:.3g}"
    return Plan(n, float(n), aim, f"simple random sample, {level:.0%} Wilson interval", "share")


def _wilson_half(p: float, n: int, level: float) -> float:
    from nbannot.measures.resample import normal_quantile

    z2 = normal_quantile((1 + level) / 2) ** 2
    return math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)


def _smallest(enough: Any) -> int:
    """Return the smallest number of texts from which on it is enough."""
    high = 1
    while not enough(high):
        high *= 2
        if high > MOST_TEXTS:
            raise ScoringError(f"more than {MOST_TEXTS:,} texts would be needed: ask for a wider interval.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _kappa(table: Sequence[Sequence[float]], half: float, level: float) -> Plan:
    load("numpy", "scipy.stats")
    import numpy as np

    from nbannot.measures.agreement import kappa_error
    from nbannot.measures.resample import normal_quantile

    counts = np.asarray(table, dtype=float)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] and len(counts) > 1
    if not square or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() <= 0:
        raise ScoringError("table must be a square table of counts, one row and one column per label.")
    if counts.sum(1) @ counts.sum(0) >= counts.sum() ** 2:
        raise ScoringError("kappa is not defined for this table: all texts have the same label.")
    error = kappa_error(counts, level=level)
    exact = float(counts.sum()) * (normal_quantile((1 + level) / 2) * error.se / half) ** 2
    return Plan(
        max(2, math.ceil(exact - 1e-9)), exact, f"a kappa of about {error.kappa:.2f} to ±{half:.3g}",
        f"{level:.0%} interval, the table of {int(counts.sum())} texts that was given", "kappa",
    )  # fmt: skip


def _difference(
    difference: float | None, discordant: float | None, power: float, level: float, half_width: float | None
) -> Plan:
    if difference is None or discordant is None or half_width is not None:
        raise ScoringError(
            "for a difference give difference= and discordant= (the share of texts that exactly one run has right), "
            f"and no half_width.\n  {GOALS}."
        )
    in_range("power", power, 0, 1)
    n = texts_to_detect(difference, discordant, power, 1 - level)
    return Plan(
        n, float(n), f"a difference of {difference:.3g} in accuracy is found with a power of {power:.0%}",
        f"the runs differ on {discordant:.0%} of the texts, test at {1 - level:.0%}", "difference",
    )  # fmt: skip


def _with_model(p: float, half: float, phi: float | None, corpus: int | None, level: float) -> Plan:
    from nbannot.measures.resample import normal_quantile

    if phi is None or corpus is None:
        raise ScoringError(f"phi= and corpus= go together.\n  {GOALS}.")
    if not isinstance(phi, int | float) or not -1 <= phi <= 1:
        raise ScoringError(f"phi is a correlation, from -1 to 1. Got {phi!r}.")
    if not isinstance(corpus, int) or isinstance(corpus, bool) or corpus < 1:
        raise ScoringError(f"corpus must be a number of texts. Got {corpus!r}.")
    alone = (normal_quantile((1 + level) / 2) / half) ** 2 * p * (1 - p)
    low, high = 0.0, alone
    for _ in range(200):  # the right side grows with n, so there is one point where both sides meet
        n = (low + high) / 2
        low, high = (n, high) if alone * (1 - phi**2 * corpus / (corpus + n)) > n else (low, n)
    exact = (low + high) / 2
    return Plan(
        max(1, math.ceil(exact - 1e-9)), exact, f"a share of about {p:.3g} to ±{half:.3g}, with the model's labels",
        f"phi {phi:.3g}, {corpus:,} texts labelled by the model, {level:.0%} interval", "with model",
        math.ceil(alone - 1e-9),
    )  # fmt: skip
