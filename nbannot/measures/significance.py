"""Closed-form tests and sample sizes for runs on the same texts, and correction for several comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.resample import normal_quantile
from nbannot.measures.result import NAN, BoolArray, FloatArray

POWER = 0.8
ALPHA = 0.05


class McNemar(NamedTuple):
    """The comparison of two shares on the same rows; `diff` is A minus B."""

    p_mid: float
    p_exact: float
    diff: float
    ci_low: float
    ci_high: float


def mcnemar(only_a: int, only_b: int, n: int, level: float = 0.95) -> McNemar:
    """Return McNemar's mid-p and exact p, and the difference with the Bonett-Price interval.

    Parameters
    ----------
    only_a, only_b : rows that only run A, only run B has right.
    n : all rows.

    Notes
    -----
    The mid-p value (Fagerland, Lydersen and Laake 2013) keeps the level where the exact one is too cautious;
    without any such row p is 1. The interval is the adjusted Wald interval of Bonett and Price (2012).
    """
    from scipy.stats import binom

    discordant, fewer = only_a + only_b, min(only_a, only_b)
    p_exact = p_mid = 1.0
    if discordant:
        at = float(binom.pmf(fewer, discordant, 0.5))
        p_exact = min(1.0, 2 * float(binom.cdf(fewer, discordant, 0.5)))
        p_mid = 1 - at / 2 if only_a == only_b else p_exact - at
    if not n:
        return McNemar(NAN, NAN, NAN, NAN, NAN)
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = normal_quantile((1 + level) / 2) * math.sqrt(max(0.0, (a + b - (a - b) ** 2) / (n + 2)))
    low, high = max(-1.0, a - b - half), min(1.0, a - b + half)
    return McNemar(p_mid, p_exact, (only_a - only_b) / n, low, high)


class CochranQ(NamedTuple):
    """Cochran's Q over the runs: statistic, degrees of freedom, p."""

    statistic: float
    df: int
    p: float


def cochran_q(correct: BoolArray) -> CochranQ:
    """Return Cochran's Q (Cochran 1950) of an (n, runs) table of right answers; ``nan`` when runs never differ."""
    from scipy.special import chdtrc

    table = np.asarray(correct, dtype=float)
    runs = table.shape[1]
    per_run, per_row = table.sum(0), table.sum(1)
    spread = runs * per_row.sum() - (per_row**2).sum()
    if runs < 2 or spread == 0:
        return CochranQ(NAN, max(runs - 1, 0), NAN)
    q = float((runs - 1) * (runs * (per_run**2).sum() - per_run.sum() ** 2) / spread)
    return CochranQ(q, runs - 1, float(chdtrc(runs - 1, q)))


ADJUSTMENTS = ("holm", "bh", "by", "bonferroni")


def adjusted(p: Sequence[float], method: str = "holm") -> FloatArray:
    """Return p values corrected for how many there are; ``nan`` values stay and do not count.

    Parameters
    ----------
    method : ``holm`` (default; the chance of any false finding), ``bonferroni``, ``bh`` and ``by`` (share of false
        findings: Benjamini-Hochberg, Benjamini-Yekutieli).

    >>> adjusted([0.001, 0.04, 0.03]).round(3).tolist()
    [0.003, 0.06, 0.06]
    """
    if method not in ADJUSTMENTS:
        raise ScoringError(f"method must be one of {', '.join(ADJUSTMENTS)}. Got {method!r}.")
    values = np.asarray(p, dtype=float)
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    m = len(known)
    if not m:
        return out
    order = known[np.argsort(values[known], kind="stable")]
    rank = np.arange(1, m + 1)
    if method == "bonferroni":
        out[order] = values[order] * m
    elif method == "holm":
        out[order] = np.maximum.accumulate(values[order] * (m - rank + 1))
    else:
        scale = m * (1 / rank).sum() if method == "by" else m
        out[order] = np.minimum.accumulate((values[order] * scale / rank)[::-1])[::-1]
    out[known] = np.minimum(out[known], 1.0)
    return out


def multiplicities(p: Sequence[float], method: str = "holm") -> FloatArray:
    """Return by how much the level of each interval is divided, so that intervals are adjusted as p values are.

    Holm: the number of comparisons that its step still holds (1 for the last); ``bonferroni``: all of them; ``bh`` and
    ``by``: all of them over those found (false coverage rate, Benjamini and Yekutieli 2005). ``nan`` stays.

    >>> multiplicities([0.001, 0.04, 0.03]).tolist()
    [3.0, 1.0, 2.0]
    """
    values = np.asarray(p, dtype=float)
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    m = len(known)
    if method == "holm":
        out[known[np.argsort(values[known], kind="stable")]] = np.arange(m, 0, -1)
    elif method == "bonferroni":
        out[known] = m
    else:
        significant = max(1, int((adjusted(p, method)[known] < ALPHA).sum()))
        out[known] = m * ((1 / np.arange(1, m + 1)).sum() if method == "by" else 1.0) / significant
    return out


def texts_to_detect(difference: float, discordant: float, power: float = POWER, alpha: float = 0.05) -> int:
    """Return how many texts find this difference in accuracy with the given power (Connor 1987).

    Parameters
    ----------
    difference : in accuracy, above 0.
    discordant : share of texts that exactly one of the two runs has right, at least `difference`.
    """
    if not 0 < difference <= discordant <= 1:
        raise ScoringError(
            "difference must be above 0 and at most the share of discordant texts (at most 1). "
            f"Got {difference} and {discordant}."
        )
    return math.ceil(_connor(difference, discordant, power, alpha) - 1e-9)


def detectable_difference(n: int, discordant: float, power: float = POWER, alpha: float = 0.05) -> float:
    """Return the smallest difference in accuracy that n texts find with the given power.

    Parameters
    ----------
    discordant : share of texts that exactly one run has right. Where a detectable difference would have to be
        larger than it, the share is taken to be the difference itself, the least it can be.

    Returns
    -------
    ``nan`` when not even a difference of 1 would be found.
    """
    if n < 1 or _connor(1.0, 1.0, power, alpha) > n:
        return NAN
    share = discordant if 0 < discordant <= 1 and _connor(discordant, discordant, power, alpha) <= n else None
    low, high = 0.0, 1.0 if share is None else share
    for _ in range(60):
        middle = (low + high) / 2
        if _connor(middle, middle if share is None else share, power, alpha) <= n:
            high = middle
        else:
            low = middle
    return high


def _connor(difference: float, discordant: float, power: float, alpha: float) -> float:
    z_alpha, z_beta = normal_quantile(1 - alpha / 2), normal_quantile(power)
    rest = max(0.0, discordant - difference**2)
    return (z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(rest)) ** 2 / difference**2


def detectable_from_error(se: float, power: float = POWER, alpha: float = 0.05) -> float:
    """Return the smallest difference found with the given power when its standard error is `se`."""
    return (normal_quantile(1 - alpha / 2) + normal_quantile(power)) * se
