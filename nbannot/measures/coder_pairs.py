"""All pairs of many coders at once, as matrices; and every coder against the majority of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbannot.measures.classification import ratio
from nbannot.measures.result import FloatArray, IntArray

EXACT = 2**24
"""Single precision counts exactly up to here, in half the time."""


def label_planes(codes: IntArray, k: int) -> FloatArray:
    """Return (k, units, coders) planes of zeros and ones: who gave which label; `codes` is -1 for none."""
    return np.stack([(codes == label) for label in range(k)]).astype(float)


def pair_matrices(
    codes: IntArray,
    k: int,
    values: Sequence[float] | FloatArray | None = None,
    weights: FloatArray | None = None,
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return measure -> (coders, coders) matrix over the units that both coded, and the numbers of those units.

    Parameters
    ----------
    codes : (units, coders) labels as 0 … k-1, -1 for none.
    values : the scale points in the order of the labels, for the quadratic kappa as well.
    weights : (units,) what each unit counts for; None: all 1. The numbers of units are not weighted.

    Returns
    -------
    ``percentage_agreement``, ``cohen_kappa`` (Cohen 1960) and, with `values`, ``quadratic_kappa`` (Cohen 1968); ``nan``
    where a pair shares no unit or does not vary.
    """
    planes = label_planes(codes, k)
    counted = planes.astype(np.float32) if len(codes) < EXACT else planes
    rated = counted.sum(0)
    shared = (rated.T @ rated).astype(np.float64)
    if weights is not None:  # each product of two coders' columns holds a unit's weight once
        counted = planes = planes * np.sqrt(weights)[:, None]
        rated = counted.sum(0)
    n = (rated.T @ rated).astype(np.float64)
    stacked = counted.reshape(-1, codes.shape[1])
    agreed = (stacked.T @ stacked).astype(np.float64)
    # Label counts of a on what b coded, too.
    shares = np.matmul(counted.transpose(0, 2, 1), rated).astype(np.float64)
    chance = ratio((shares * shares.transpose(0, 2, 1)).sum(0), n * n)
    observed = ratio(agreed, n)
    matrices = {
        "percentage_agreement": observed,
        "cohen_kappa": ratio(observed - chance, np.where(1 - chance > 1e-12, 1 - chance, 0.0)),
    }
    if values is not None:
        points = np.asarray(values, dtype=float)
        x = np.tensordot(points, planes, 1)
        squares = np.tensordot(points**2, planes, 1)
        mean, mean_square = (ratio(m.T @ rated, n) for m in (x, squares))
        apart = mean_square + mean_square.T - 2 * ratio(x.T @ x, n)
        expected = mean_square + mean_square.T - 2 * mean * mean.T
        matrices["quadratic_kappa"] = 1 - ratio(apart, np.where(expected > 1e-12, expected, 0.0))
    return matrices, shared


def against_majority(codes: IntArray, k: int) -> tuple[IntArray, IntArray]:
    """Return per coder on how many units the others have a majority, and on how many of these the coder gives it.

    Where two labels are ahead among the others there is none.
    """
    planes = label_planes(codes, k)
    totals = planes.sum(-1)  # (k, units)
    n, same = np.zeros(codes.shape[1], dtype=np.int64), np.zeros(codes.shape[1], dtype=np.int64)
    for coder in range(codes.shape[1]):
        others = totals - planes[..., coder]
        most = others.max(0)
        decided = (most > 0) & ((others == most).sum(0) == 1) & (codes[:, coder] >= 0)
        n[coder] = decided.sum()
        same[coder] = (others.argmax(0)[decided] == codes[decided, coder]).sum()
    return n, same
