"""Calibration: do labels that were given with probability .8 turn out right eight times in ten?

Probabilities are those of the label that was given (for ECE, AUROC and the risk-coverage curve) or of every label (for
the Brier score and the fits). Sources: Brier 1950; Guo et al. 2017 (ECE, temperature); Geifman & El-Yaniv 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nbannot.measures.result import NAN, FloatArray, IntArray

BINS = 10
"""Ten bins of equal width are what the field reports as ECE."""
LEAST = 1e-12
"""A probability of 0 is taken for this one where its logarithm is needed."""
TEMPERATURES = (0.05, 20.0)
"""The search ends there: beyond, probabilities are all but one-hot or all but equal."""


def equal_width(confidence: ArrayLike, bins: int = BINS) -> IntArray:
    """Return each value's bin, 0 to bins - 1: bins of equal width, closed on the right (0 is in the first).

    >>> equal_width([0.0, 0.1, 0.11, 1.0]).tolist()
    [0, 0, 1, 9]
    """
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, np.asarray(confidence, dtype=float), side="left")


def equal_mass(confidence: ArrayLike, bins: int = BINS) -> IntArray:
    """Return each value's bin, 0 to bins - 1: as many values in each as can be, in ascending order.

    >>> equal_mass([0.9, 0.5, 0.7, 0.6], 2).tolist()
    [1, 0, 1, 0]
    """
    order = np.argsort(np.asarray(confidence, dtype=float), kind="stable")
    bin_of = np.empty(len(order), dtype=np.int64)
    for number, rows in enumerate(np.array_split(order, bins)):
        bin_of[rows] = number
    return bin_of


def calibration_error(confidence: ArrayLike, right: ArrayLike, bin_of: IntArray) -> float:
    """Return the expected calibration error: mean over answers of |share right - mean confidence| of their bin.

    ``nan`` without answers. It is biased upwards: see `null_error`.
    """
    sure, correct = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if not len(sure):
        return NAN
    return float(np.abs(np.bincount(bin_of, correct) - np.bincount(bin_of, sure)).sum() / len(sure))


def null_error(
    confidence: ArrayLike,
    binned: Callable[[FloatArray], IntArray] = equal_width,
    *,
    draws: int = 1000,
    seed: int = 1,
) -> float:
    """Return the mean calibration error of a perfectly calibrated model with these confidences.

    Outcomes are drawn `draws` times, each right with its stated probability. A few answers never fit their bins
    exactly, so an error of this size says nothing against a model.
    """
    sure = np.asarray(confidence, dtype=float)
    if not len(sure):
        return NAN
    bin_of, draw = binned(sure), np.random.default_rng(seed)
    stated = np.bincount(bin_of, sure)
    total = 0.0
    for _ in range(draws):
        total += float(np.abs(np.bincount(bin_of, draw.random(len(sure)) < sure) - stated).sum())
    return total / draws / len(sure)


def brier(probabilities: ArrayLike, truth: Sequence[int] | IntArray) -> float:
    """Return the multi-class Brier score, 0 (best) to 2: mean over texts of the summed squared error of all labels.

    Parameters
    ----------
    probabilities
        (n, K), rows summing to 1.
    truth
        (n,) positions of the true labels.

    Notes
    -----
    For two labels it is twice the binary score of `brier_binary`.
    """
    shares = np.asarray(probabilities, dtype=float)
    if not len(shares):
        return NAN
    hit = np.zeros_like(shares)
    hit[np.arange(len(shares)), np.asarray(truth)] = 1.0
    return float(((shares - hit) ** 2).sum(1).mean())


def brier_binary(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return the binary Brier score, 0 (best) to 1: mean squared difference of confidence and outcome (0 or 1)."""
    gap = np.asarray(confidence, dtype=float) - np.asarray(right, dtype=float)
    return float((gap**2).mean()) if len(gap) else NAN


def log_loss(probabilities: ArrayLike, truth: Sequence[int] | IntArray) -> float:
    """Return the mean negative log of the true labels' probabilities (natural logarithm)."""
    shares = np.asarray(probabilities, dtype=float)
    if not len(shares):
        return NAN
    given = shares[np.arange(len(shares)), np.asarray(truth)]
    return float(-np.log(np.maximum(given, LEAST)).mean())


def auroc(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return how often a right answer is surer than a wrong one, ties counting half; ``nan`` if all are of a kind."""
    correct = np.asarray(right, dtype=bool)
    good, bad = int(correct.sum()), int((~correct).sum())
    if not good or not bad:
        return NAN
    _, place, tied = np.unique(np.asarray(confidence, dtype=float), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(tied) - (tied - 1) / 2)[place]
    return float((ranks[correct].sum() - good * (good + 1) / 2) / (good * bad))


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> dict[str, FloatArray]:
    """Return the risk-coverage curve at every distinct confidence, falling.

    ``threshold``; ``coverage``: share of answers at least so sure; ``risk``: share of those that are wrong. Answers
    with the same confidence are never parted.
    """
    sure, wrong = np.asarray(confidence, dtype=float), 1 - np.asarray(right, dtype=float)
    order = np.argsort(-sure, kind="stable")
    falling, errors = sure[order], np.cumsum(wrong[order])
    last = np.append(np.flatnonzero(np.diff(falling)), len(sure) - 1) if len(sure) else np.zeros(0, dtype=int)
    return {
        "threshold": falling[last],
        "coverage": (last + 1) / max(1, len(sure)),
        "risk": errors[last] / (last + 1),
    }


# ---- fits ------------------------------------------------------------------------------------------------------------


def at_temperature(probabilities: ArrayLike, temperature: float) -> FloatArray:
    """Return (n, K) probabilities to the power of 1 / temperature, summing to 1: above 1 they are less sure.

    >>> at_temperature([[0.8, 0.2]], 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=float), LEAST)) / temperature
    shares = np.exp(logs - logs.max(1, keepdims=True))
    scaled: FloatArray = shares / shares.sum(1, keepdims=True)
    return scaled


def fitted_temperature(probabilities: ArrayLike, truth: Sequence[int] | IntArray) -> float:
    """Return the temperature, .05 to 20, with the least log loss on these texts (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(at_temperature(probabilities, math.exp(log_temperature)), truth)

    limits = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    optimum: Any = minimize_scalar(loss, bounds=limits, method="bounded")
    return math.exp(float(optimum.x))


def fitted_threshold(yes: ArrayLike, truth: ArrayLike) -> float:
    """Return the threshold of `yes`, between two told probabilities, with the highest kappa on these texts.

    Among equally good ones that nearest to .5 is taken; .5 where no threshold is better than chance.
    """
    sure, positive = np.asarray(yes, dtype=float), np.asarray(truth, dtype=float)
    steps = np.unique(sure)
    tried = np.append((steps[:-1] + steps[1:]) / 2, 0.5)
    kappas = [round(two_way_kappa(sure >= one, positive), 12) for one in tried]
    best = max(kappas)
    if best <= 0:
        return 0.5
    return float(
        min((t for t, k in zip(tried, kappas, strict=True) if k == best), key=lambda t: abs(t - 0.5))
    )


def two_way_kappa(model: ArrayLike, human: ArrayLike) -> float:
    """Return Cohen's kappa of two columns of 0 and 1; 0 where one of them never varies."""
    a, b = np.asarray(model, dtype=float), np.asarray(human, dtype=float)
    p, q = a.mean(), b.mean()
    chance = p * q + (1 - p) * (1 - q)
    return 0.0 if chance >= 1 else float(((a == b).mean() - chance) / (1 - chance))
