"""What a comparison of runs comes to: one pair, and every pair in one metric."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nbannot.measures.result import NAN, UNRELIABLE
from nbannot.measures.significance import (
    CochranQ,
)

OPTIMISTIC = "interval and p may be too optimistic"
"""Ends the reason of a pair with too few clusters, or with weights that leave little of its texts."""
ONE_LABEL = "people used one label only"
"""Begins the reason of a pair on texts that cannot say which of two runs is better."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """The difference of two runs on the same texts, A minus B.

    Attributes
    ----------
    run_a, run_b : names of the runs.
    value_a, value_b, diff : the two values and A minus B; ``nan`` with a reason when not defined.
    ci_low, ci_high, ci_method : interval of the difference, adjusted as p is; it holds 0 exactly where p_adjusted
        is not below 1 minus the level of the family.
    ci_level : the level of this one interval that the adjustment makes, .95 or more.
    p, p_method : two-sided test of no difference; p_adjusted over the whole family.
    n, n_clusters : texts with a human label; clusters that were resampled, or None.
    n_discordant : texts that decide: for accuracy those that exactly one run has right, else those whose
        statistics differ.
    mdd : the smallest true difference that so many texts find with a power of 80 %, at the adjusted level.
    reason : why a value is missing or unreliable.
    """

    run_a: str
    run_b: str
    metric: str
    value_a: float
    value_b: float
    diff: float
    ci_low: float = NAN
    ci_high: float = NAN
    ci_method: str = ""
    ci_level: float = NAN
    p: float = NAN
    p_method: str = ""
    n: int = 0
    n_discordant: int = 0
    mdd: float = NAN
    n_clusters: int | None = None
    p_adjusted: float = NAN
    reason: str = ""

    @property
    def doubt(self) -> str:
        """Why p and interval must carry no verdict by themselves; "" where they can."""
        parts = self.reason.split("; ")
        told = (part for part in parts if part.endswith(OPTIMISTIC) or part.startswith(ONE_LABEL))
        if certain := next(told, ""):
            return certain
        _, unreliable, rare = self.reason.partition(f"{UNRELIABLE}: ")
        return rare if unreliable else ""

    @property
    def one_label(self) -> bool:
        """Whether people gave all of these texts the same label: no difference says then who is better."""
        return ONE_LABEL in self.reason

    def non_inferior(self, margin: float) -> bool | None:
        """Return True when A is shown to be at most `margin` worse than B; None without an interval.

        For metrics where higher is better. Declare the margin before looking; "not significant" is not this.
        """
        return None if math.isnan(self.ci_low) else self.ci_low > -abs(margin)


@dataclass(frozen=True)
class ManyResult:
    """All pairs of runs in one metric.

    Attributes
    ----------
    runs, values : names and values.
    pairs : every pair, p and interval adjusted over the family.
    best : index of the best value; None when none is defined.
    to_best : the pairs with the best run among them, turned to best minus other.
    not_distinguishable : indices of the runs that cannot be told from the best within the family, with the best.
    cochran : Cochran's Q over all runs, for accuracy of independent unweighted rows; otherwise None.
    conventions : one line.
    """

    metric: str
    runs: tuple[str, ...]
    values: tuple[float, ...]
    pairs: list[PairResult]
    best: int | None
    to_best: list[PairResult] = field(default_factory=list)
    not_distinguishable: tuple[int, ...] = ()
    cochran: CochranQ | None = None
    conventions: str = ""
