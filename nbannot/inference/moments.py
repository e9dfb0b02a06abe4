"""Regressions by their moment conditions: on one set of labels, or on a model's corrected by people's of a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nbannot.measures.result import FloatArray, IntArray

Family = Literal["ols", "logit", "poisson"]
STEPS, PRECISION = 100, 1e-10
"""Newton's steps at the most, and how small the last must be, relative to the coefficients."""
LARGEST = 30.0
"""Linear predictors beyond this mean that a logit separates, or a count explodes."""


@dataclass(frozen=True)
class Fit:
    """Coefficients with their covariance; `reason` says why there are none."""

    beta: FloatArray
    covariance: FloatArray
    n: int
    df: int
    reason: str = ""

    @property
    def se(self) -> FloatArray:
        """(p,) standard errors."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


def _nothing(p: int, n: int, reason: str) -> Fit:
    return Fit(np.full(p, np.nan), np.full((p, p), np.nan), n, 0, reason)


def _mean(family: Family, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean of the outcome and its derivative at linear predictors."""
    if family == "ols":
        return eta, np.ones_like(eta)
    eta = np.clip(eta, -LARGEST, LARGEST)
    if family == "poisson":
        return np.exp(eta), np.exp(eta)
    mu = 1 / (1 + np.exp(-eta))
    return mu, mu * (1 - mu)


@dataclass(frozen=True)
class Sampled:
    """What people said of the sampled rows, beside what the model said of the same rows.

    Attributes
    ----------
    rows : (n,) positions of the sampled rows among all.
    x, y : (n, p) and (n,) design and outcome by people's labels.
    weight : (n,) 1 / probability of being sampled.
    """

    rows: IntArray
    x: FloatArray
    y: FloatArray
    weight: FloatArray


def fit(
    family: Family,
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray | None = None,
    clusters: IntArray | None = None,
    sampled: Sampled | None = None,
) -> Fit:
    """Return a regression with robust (HC2 for least squares, else HC1) or clustered errors.

    Parameters
    ----------
    x, y : (N, p) design and (N,) outcome; with `sampled`, those by the model's labels.
    sampled : the rows that people coded: every moment is corrected by ``(moment by people - moment by the model) /
        probability`` there, which for an outcome is least squares on the pseudo-outcome of Egami et al. (2023).

    Notes
    -----
    Degrees of freedom are those of the sampled rows, which carry the uncertainty.
    """
    n, p = x.shape
    size = n if sampled is None else len(sampled.rows)
    if size <= p:
        return _nothing(p, size, f"{size} coded texts for {p} coefficients")
    if np.linalg.matrix_rank(x) < p:
        return _nothing(p, size, "the terms cannot be told apart (collinear)")
    w = np.ones(n) if weight is None else weight

    def moments(beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        mu, slope = _mean(family, x @ beta)
        per_row, bread = (w * (y - mu))[:, None] * x, (x * (w * slope)[:, None]).T @ x
        if sampled is None:
            return per_row, bread
        rows, v = sampled.rows, sampled.weight
        mu_s, slope_s = _mean(family, sampled.x @ beta)
        by_people = (v * (sampled.y - mu_s))[:, None] * sampled.x
        by_model = (v * (y[rows] - mu[rows]))[:, None] * x[rows]
        per_row = per_row.copy()
        per_row[rows] += by_people - by_model
        more = (sampled.x * (v * slope_s)[:, None]).T @ sampled.x - (
            x[rows] * (v * slope[rows])[:, None]
        ).T @ x[rows]
        return per_row, bread + more

    beta, reason = _solved(moments, _start(family, x, y), family, x)
    if reason:
        return _nothing(p, size, reason)
    per_row, bread = moments(beta)
    inverse = np.linalg.inv(bread)
    plain = sampled is None or bool((sampled.x == x[sampled.rows]).all())
    if clusters is not None:
        g = int(clusters.max()) + 1
        sums = np.column_stack([np.bincount(clusters, column, minlength=g) for column in per_row.T])
        sums = sums[np.bincount(clusters, minlength=g) > 0]
        meat = sums.T @ sums * (len(sums) / max(1, len(sums) - 1)) * ((n - 1) / (n - p))
        size = min(size, len(sums) + p - 1)
    elif family == "ols" and plain and weight is None:
        leverage = np.einsum("ij,jk,ik->i", x, np.linalg.inv(x.T @ x), x)
        meat = (per_row / np.maximum(1 - leverage, 1e-9)[:, None]).T @ per_row
    else:
        meat = per_row.T @ per_row * n / (n - p)
    return Fit(beta, inverse @ meat @ inverse.T, size, size - p)


def _start(family: Family, x: FloatArray, y: FloatArray) -> FloatArray:
    if family != "poisson":
        return np.zeros(x.shape[1])
    start = np.linalg.lstsq(x, np.log(np.maximum(y, 0) + 0.5), rcond=None)[0]
    return np.asarray(start, dtype=np.float64)


def _solved(
    moments: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    beta: FloatArray,
    family: Family,
    x: FloatArray,
) -> tuple[FloatArray, str]:
    """Return the root of the moments by Newton steps that are halved while they do not help; or why there is none."""
    at, bread = moments(beta)
    for _ in range(STEPS):
        try:
            step = np.linalg.solve(bread, at.sum(0))
        except np.linalg.LinAlgError:
            return beta, "the moments cannot be solved: too few coded texts for these terms"
        before = float(abs(at.sum(0)).max())
        for _ in range(20):
            value, new_bread = moments(beta + step)
            if float(abs(value.sum(0)).max()) <= before or family == "ols":
                break
            step = step / 2
        beta, at, bread = beta + step, value, new_bread
        if float(abs(step).max()) < PRECISION * (1 + float(abs(beta).max())):
            if family != "ols" and float(abs(x @ beta).max()) >= LARGEST:
                return beta, "the outcome is separated by the terms"
            return beta, ""
    return beta, "the moments have no solution that was found: too few coded texts, or a separated outcome"
