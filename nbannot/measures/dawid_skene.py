"""The latent-class model of Dawid and Skene (1979): true labels and every coder's errors, from labels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbannot.measures.result import FloatArray, IntArray

FLOOR = 1e-9
"""Added to every cell of an error table, so that a label that a coder never gave is not impossible."""
MOST_STEPS = 2_000
"""EM creeps near its end; what has not come to rest by then is told as not converged."""
CLOSE_ENOUGH = 1e-10
"""The log-likelihood per unit has come to rest when a step adds less than this."""
N_STARTS = 10
"""EM ends at the optimum nearest to its start: others than the majority are tried, and a better one is told."""


@dataclass(frozen=True)
class DawidSkene:
    """The fitted model.

    Attributes
    ----------
    posterior : (units, K) probability of each label.
    priors : (K,) share of each label.
    errors : (coders, K, K) probability that a coder gives label l (last) to a unit of label k.
    loglik : the log-likelihood.
    converged : whether it came to rest.
    other_starts : how many of the further, random starts ended at a clearly higher likelihood; above 0 the solution
        that begins with the majority is not the best one.
    """

    posterior: FloatArray
    priors: FloatArray
    errors: FloatArray
    loglik: float
    converged: bool
    other_starts: int


def dawid_skene(ratings: IntArray, k: int, *, n_starts: int = N_STARTS, seed: int = 1) -> DawidSkene:
    """Fit the model by expectation-maximisation that begins with the share of votes.

    Parameters
    ----------
    ratings : (units, coders) labels as 0 … k-1, -1 where a coder gave none; every unit needs one at least.
    k : number of labels.
    n_starts, seed : further starts, with the votes mixed with noise, to see whether another solution is better.
    """
    given = np.eye(k)[np.maximum(ratings, 0)] * (ratings >= 0)[..., None]
    votes = given.sum(1) / np.maximum(given.sum((1, 2)), 1)[:, None]
    best = _fit(given, votes)
    draw = np.random.default_rng(seed)
    better = 0
    for _ in range(n_starts):
        noise = draw.dirichlet(np.ones(k), size=len(ratings))
        other = _fit(given, 0.5 * votes + 0.5 * noise)
        better += other[3] > best[3] + 1e-3 * len(ratings)
    return DawidSkene(*best, other_starts=better)


def _fit(given: FloatArray, start: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float, bool]:
    posterior, before, converged = start, -np.inf, False
    for _ in range(MOST_STEPS):
        priors = posterior.mean(0)
        counts = np.einsum("ik,icl->ckl", posterior, given) + FLOOR
        errors = counts / counts.sum(-1, keepdims=True)
        joint = np.log(priors + FLOOR) + np.einsum("icl,ckl->ik", given, np.log(errors))
        top = joint.max(1, keepdims=True)
        each = np.exp(joint - top)
        posterior = each / each.sum(1, keepdims=True)
        loglik = float((top[:, 0] + np.log(each.sum(1))).sum())
        if loglik - before < CLOSE_ENOUGH * len(given):
            converged = True
            break
        before = loglik
    return posterior, priors, errors, loglik, converged
