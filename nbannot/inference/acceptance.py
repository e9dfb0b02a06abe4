"""Acceptance sample: a co-author checks n labels, and sends the rest back when c or more are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.errors import ScoringError
from nbannot.inference.finding import Finding
from nbannot.page.blocks import Block, Grid, Heading, Para, Row
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

RATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
LARGE_PART = 0.05
"""From this part of the corpus on, drawing without putting back matters."""


@dataclass(frozen=True, repr=False)
class AcceptanceSample(Finding):
    """The chance that a sample rejects the labels: ``rejects[p]`` for every share p of wrong ones."""

    n: int
    c: int
    corpus: int | None
    rejects: dict[float, float]

    @property
    def frame(self) -> Frame:
        """One row per error rate: error_rate, p_reject."""
        rows = [{"error_rate": p, "p_reject": chance} for p, chance in self.rejects.items()]
        return make_frame(rows, ("error_rate", "p_reject"))

    def blocks(self) -> list[Block]:
        """Return the page: the rule and what it catches."""
        rows: list[Row] = [[f"{p:.0%}", f"{chance:.3f}"] for p, chance in self.rejects.items()]
        how = "binomial" if not self._exact else f"hypergeometric, corpus of {self.corpus:,}"
        return [
            Heading("Acceptance sample", 1, f"{self.n} labels, rejected from {self.c} wrong ones on"),
            Grid(["wrong labels", "chance of rejecting"], rows, "rr", notes=[f"Exact ({how}), drawn at random."]),
            Para("A sample that is accepted shows that gross errors are unlikely, not that the labels are right.",
                 "quiet"),
        ]  # fmt: skip

    @property
    def _exact(self) -> bool:
        return self.corpus is not None and self.n > LARGE_PART * self.corpus

    def __repr__(self) -> str:
        return f"<AcceptanceSample: reject when {self.c} of {self.n} differ>"


def acceptance_sample(
    n: int = 20, c: int = 4, *, corpus: int | None = None, rates: tuple[float, ...] = RATES
) -> AcceptanceSample:
    """Return the chance that a check of `n` labels rejects when `c` or more differ, by the true error rate.

    Parameters
    ----------
    n, c
        Labels that are checked, and how many wrong ones reject.
    corpus
        Labels in all; where the sample is more than 5% of them the chance is hypergeometric.
    rates
        True shares of wrong labels, 0 to 1.

    Raises
    ------
    ScoringError
        If the numbers are out of range.

    Examples
    --------
    >>> {p: round(chance, 3) for p, chance in acceptance_sample(20, 4, rates=(0.3, 0.05)).rejects.items()}
    {0.3: 0.893, 0.05: 0.016}
    """
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (n, c))
    if not whole or not 1 <= c <= n or (corpus is not None and corpus < n):
        raise ScoringError(f"1 ≤ c ≤ n ≤ corpus is needed. Got c={c!r}, n={n!r}, corpus={corpus!r}.")
    if any(not 0 <= p <= 1 for p in rates):
        raise ScoringError("rates are shares from 0 to 1.")
    load("scipy.stats")
    from scipy.stats import binom, hypergeom

    exact = corpus is not None and n > LARGE_PART * corpus
    counts = {
        p: float(hypergeom.sf(c - 1, corpus, round(p * (corpus or 0)), n) if exact else binom.sf(c - 1, n, p))
        for p in rates
    }
    return AcceptanceSample(n, c, corpus, counts)
