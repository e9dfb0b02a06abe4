"""Regressions by their moment conditions: on one set of labels, or on a model's corrected by people's of a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nbannot.measures.result import BoolArray, FloatArray, IntArray

Family = Literal["ols", "logit", "poisson"]
STEPS, PRECISION = 100, 1e-10
"""Newton's steps at the most, and how small the last must be, relative to the coefficients."""
FEW_ERRORS = 10.0
"""A coefficient that fewer errors of the model than this bear on has no variance that could be estimated from them."""
LARGEST = 30.0
"""Linear predictors beyond this mean that a logit separates, or a count explodes."""


@dataclass(frozen=True)
class Fit:
    """Coefficients with their covariance; `reason` says why there are none.

    Attributes
    ----------
    beta, covariance : (p,), (p, p); ``nan`` for coefficients that the coded texts do not tell apart.
    floored : positions of the coefficients whose error was raised to what the error rate of the sample allows.
    clusters : how many clusters the coded texts come from; None without clusters.
    """

    beta: FloatArray
    covariance: FloatArray
    n: int
    df: int
    reason: str = ""
    floored: tuple[int, ...] = ()
    clusters: int | None = None

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
    Degrees of freedom are those of the sampled rows (or of their clusters), which carry the uncertainty.

    Where few errors of the model bear on a coefficient (fewer than 10, counted as (sum c²)² / sum c⁴ of their pulls
    c), the sample says little of their variance, and nothing where it shows none. The error is then at least that
    of errors spread over the coded texts with the smoothed rate (k + 1) / (n + 2), or (k + 2) / (n + 4) where there is
    none: the floor of the shares (`nbannot.inference.shares`), for coefficients.
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
    inverse: FloatArray = np.asarray(np.linalg.inv(bread), dtype=np.float64)
    n_clusters = None
    plain = sampled is None or bool((sampled.x == x[sampled.rows]).all())
    if clusters is not None:
        g = int(clusters.max()) + 1
        sums = np.column_stack([np.bincount(clusters, column, minlength=g) for column in per_row.T])
        sums = sums[np.bincount(clusters, minlength=g) > 0]
        meat = sums.T @ sums * (len(sums) / max(1, len(sums) - 1)) * ((n - 1) / (n - p))
        n_clusters = len(np.unique(clusters if sampled is None else clusters[sampled.rows]))
        if n_clusters < 2:
            return _nothing(p, size, "all coded texts are of one cluster")
        size = min(size, n_clusters + p - 1)
    elif family == "ols" and plain and weight is None:
        leverage = np.einsum("ij,jk,ik->i", x, np.linalg.inv(x.T @ x), x)
        meat = (per_row / np.maximum(1 - leverage, 1e-9)[:, None]).T @ per_row
    else:
        meat = per_row.T @ per_row * n / (n - p)
    covariance = inverse @ meat @ inverse.T
    if sampled is None:
        return Fit(beta, covariance, size, size - p, clusters=n_clusters)
    covariance, floored = _with_floor(covariance, inverse, family, x, y, beta, sampled)
    lost = _not_told_apart(sampled.x)
    beta[lost] = np.nan
    covariance[lost] = covariance[:, lost] = np.nan
    return Fit(beta, covariance, size, size - p, "", tuple(j for j in floored if not lost[j]), n_clusters)


def _not_told_apart(x: FloatArray) -> BoolArray:
    """Return (p,) True for the coefficients on which the rows of a design say nothing."""
    _, singular, right = np.linalg.svd(np.linalg.qr(x, mode="r"), full_matrices=True)
    rank = int((singular > singular.max(initial=0.0) * max(x.shape) * np.finfo(float).eps).sum())
    return np.asarray((abs(right[rank:]) > 1e-8).any(0), dtype=bool)


def _with_floor(
    covariance: FloatArray,
    inverse: FloatArray,
    family: Family,
    x: FloatArray,
    y: FloatArray,
    beta: FloatArray,
    sampled: Sampled,
) -> tuple[FloatArray, list[int]]:
    """Return the covariance with the errors of coefficients raised on which few errors bear, and which these are."""
    rows, v = sampled.rows, sampled.weight[:, None]
    by_model = (y - _mean(family, x @ beta)[0])[:, None] * x
    by_people = (sampled.y - _mean(family, sampled.x @ beta)[0])[:, None] * sampled.x
    apart = by_people - by_model[rows]
    wrong = (sampled.y != y[rows]) | (sampled.x != x[rows]).any(1)
    k, n = int(wrong.sum()), len(rows)
    rate = (k + 1) / (n + 2) if k else 2 / (n + 4)
    size = (sampled.x**2).sum(1)
    if k:
        scale = float((apart[wrong] ** 2).sum() / size[wrong].sum())
    else:  # an error changes an outcome by one; a label among the terms by its coefficient, too
        scale = (
            1.0
            if (sampled.x == x[rows]).all() and family != "poisson"
            else 1.0 + float((beta[1:] ** 2).max(initial=0.0))
        )
    chance = v * np.maximum(
        v - 1, 0
    )  # (1 - probability) / probability²: nothing is left to chance where all are coded
    meat = by_model.T @ by_model + rate * scale * (chance * sampled.x).T @ sampled.x
    least = np.diag(inverse @ meat @ inverse.T)
    pull = ((v * apart) @ inverse.T) ** 2
    total = pull.sum(0)
    bearing = np.divide(total**2, (pull**2).sum(0), out=np.zeros_like(total), where=total > 0)
    own = np.diag(covariance)
    raised = (bearing < FEW_ERRORS) & (least > own)
    factor = np.sqrt(np.where(raised, least / np.maximum(own, np.finfo(float).tiny), 1.0))
    lifted = covariance * factor[:, None] * factor[None, :]
    lifted[np.diag_indices_from(lifted)] = np.where(raised, least, own)
    return lifted, np.flatnonzero(raised).tolist()


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
    return beta, "no solution of the moments was found: too few coded texts, or a separated outcome"
