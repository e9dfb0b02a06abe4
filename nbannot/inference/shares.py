"""Shares of a corpus from a model's labels of all texts and people's labels of some: estimators on tables of counts.

Every table is (G, X, K): groups, labels people used, labels the model used (its last column is "no valid answer").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbannot.measures.classification import ratio
from nbannot.measures.resample import normal_quantile
from nbannot.measures.result import FloatArray, IntArray

FEWEST_IN_STRATUM = 2
"""One coded text has no variance: a stratum below this is pooled with others."""


@dataclass(frozen=True)
class GoldTable:
    """People's labels of the sampled texts, by the model's label, and the corpus.

    Attributes
    ----------
    counts : (G, X, K) number of texts with a human label.
    weight, weight2 : (G, X, K) sums of their weights (1 / sampling probability) and of the squared weights.
    corpus : (G, K) texts of the corpus by the model's label, those with a human label among them.
    equal : whether all weights are the same.
    """

    counts: FloatArray
    weight: FloatArray
    weight2: FloatArray
    corpus: FloatArray
    equal: bool = True

    @classmethod
    def of_counts(cls, counts: FloatArray, corpus: FloatArray) -> GoldTable:
        """Return the table of one group, drawn with equal probability, from (X, K) counts and (K,) corpus counts."""
        table = np.asarray(counts, dtype=float)[None]
        return cls(table, table, table, np.asarray(corpus, dtype=float)[None])


@dataclass(frozen=True)
class Estimate:
    """A share per group and label with its standard error, all (G, X); ``nan`` where nothing can be said.

    Attributes
    ----------
    se : with the smoothed shares (s + 1) / (n + 2), which do not vanish where the sample shows no error.
    se_classical : with the shares themselves and n - 1, as survey textbooks have it.
    stratum : (G, K) the column in which each column's texts ended: its own, or that of the stratum it was joined with,
        because it holds fewer than two human labels.
    """

    value: FloatArray
    se: FloatArray
    se_classical: FloatArray
    stratum: IntArray


def post_stratified(table: GoldTable, *, population: bool = False, ordered: bool = False) -> Estimate:
    """Return shares post-stratified by the model's label (Holt & Smith 1979; Olofsson et al. 2014).

    Parameters
    ----------
    population : the target is what the corpus was drawn from: no finite-population factor, and the spread between
        strata is added.
    ordered : neighbouring columns are alike, so that a sparse stratum is joined with its neighbour.

    Notes
    -----
    ``p_x = sum_k w_k r_xk``; ``SE² = sum_k w_k² r~(1 - r~) / n_k (1 - n_k / N_k)`` with ``r~ = (s + 1) / (n_k + 2)``.
    For a label on which the sample shows no error at all, (s + 2) / (n_k + 4): with a true error of 3 / n, which one
    sample in twenty does not show, the first formula covers too rarely (`bench/bench_inference.py`).
    Where weights differ within a stratum, n_k is the effective number and the last factor is left out.
    """
    given = table
    table, stratum = _merged(table, ordered)
    n, corpus = table.counts.sum(1), table.corpus
    total = corpus.sum(1, keepdims=True)
    share = ratio(corpus, total)
    used = corpus > 0
    mass, mass2 = table.weight.sum(1), table.weight2.sum(1)
    r = np.where(used[:, None], ratio(table.weight, mass[:, None]), 0.0)
    n_eff = ratio(mass**2, mass2)
    alike = abs(n_eff - n) <= 1e-9 * n
    n_eff = np.where(alike, n, n_eff)
    finite = np.where(alike & (not population), 1 - ratio(n, corpus), 1.0)
    more = np.where(_without_error(given), 2.0, 1.0)[..., None]
    smooth = (r * n_eff[:, None] + more) / (n_eff[:, None] + 2 * more)
    parts = {}
    for name, p, size in (("se", smooth, n_eff), ("classical", r, np.maximum(n_eff - 1, 0))):
        spread = ratio((share**2 * finite)[:, None] * p * (1 - p), np.broadcast_to(size[:, None], p.shape))
        parts[name] = np.where(used[:, None], np.where(finite[:, None] == 0, 0.0, spread), 0.0)
    value = (r * share[:, None]).sum(2)
    if population:
        between = ratio((share[:, None] * (r - value[..., None]) ** 2).sum(2), total)
        parts = {name: np.concatenate([part, between[..., None]], 2) for name, part in parts.items()}
    sparse = used & (n < FEWEST_IN_STRATUM) & (n < corpus)
    nothing = sparse.any(1)[:, None] | (total == 0)
    return Estimate(
        np.where(nothing, np.nan, value),
        np.where(nothing, np.nan, np.sqrt(parts["se"].sum(2))),
        np.where(nothing, np.nan, np.sqrt(parts["classical"].sum(2))),
        stratum,
    )


def _without_error(table: GoldTable) -> FloatArray:
    """Return (G, X) True for labels that people and the model gave to the very same texts of the sample."""
    x = table.counts.shape[1]
    hits = np.einsum("gxx->gx", table.counts[:, :, :x])
    same: FloatArray = (table.counts.sum(2) == hits) & (table.counts[:, :, :x].sum(1) == hits) & (hits > 0)
    return same


def _merged(table: GoldTable, ordered: bool) -> tuple[GoldTable, IntArray]:
    """Return the table with every stratum of fewer than two human labels joined with another one of its group."""
    n = table.counts.sum(1)
    sparse = (n < FEWEST_IN_STRATUM) & (table.corpus > 0)
    groups = np.flatnonzero(sparse.any(1)).tolist()
    stratum = np.tile(np.arange(n.shape[1]), (len(n), 1))
    if not groups:
        return table, stratum
    counts, weight, weight2, corpus = (
        a.copy() for a in (table.counts, table.weight, table.weight2, table.corpus)
    )
    for g in groups:
        for source, target in joins(counts[g].sum(0), corpus[g], ordered):
            for part in (counts, weight, weight2):
                part[g, :, target] += part[g, :, source]
                part[g, :, source] = 0
            corpus[g, target] += corpus[g, source]
            corpus[g, source] = 0
            stratum[g, stratum[g] == source] = target
    return GoldTable(counts, weight, weight2, corpus, table.equal), stratum


def joins(n: FloatArray, corpus: FloatArray, ordered: bool) -> list[tuple[int, int]]:
    """Return which strata are joined with which, in order: those with fewer than two human labels with a rest.

    Sparse strata are pooled first; if the pool is still too small it joins the stratum with the fewest labels. On an
    ordered scale each joins its nearest neighbour.
    """
    joined: list[tuple[int, int]] = []
    n, corpus = n.copy(), corpus.copy()

    def join(source: int, target: int) -> None:
        joined.append((source, target))
        n[target] += n[source]
        corpus[target] += corpus[source]
        n[source] = corpus[source] = 0

    last = len(n) - 1
    while True:
        sparse = [k for k in range(len(n)) if corpus[k] > 0 and n[k] < FEWEST_IN_STRATUM]
        others = [k for k in range(len(n)) if corpus[k] > 0 and k not in sparse]
        if not sparse or len(sparse) + len(others) < 2:
            return joined
        first = sparse[0]
        if ordered and first != last and [k for k in others + sparse[1:] if k != last]:
            near = [k for k in others + sparse[1:] if k != last]
            join(first, min(near, key=lambda k: (abs(k - first), k)))
        elif len(sparse) > 1:
            join(sparse[1], first)
        else:
            join(first, min(others, key=lambda k: (n[k], k)))


def clustered_se(
    estimate: Estimate,
    table: GoldTable,
    group: IntArray,
    human: IntArray,
    model: IntArray,
    weight: FloatArray,
    cluster: IntArray,
) -> tuple[FloatArray, IntArray]:
    """Return (G, X) standard errors in which texts of one cluster are one observation, and (G,) clusters.

    Linearised: ``u_i = w_k v_i / V_k (y_i - r_k)`` summed per cluster. Never below the error of independent texts.

    Parameters
    ----------
    group, human, model, weight, cluster : (n,) of the texts with a human label.
    """
    g_n, x_n, k_n = table.counts.shape
    se, clusters = estimate.se.copy(), np.zeros(g_n, dtype=np.int64)
    for g in range(g_n):
        rows = group == g
        codes = np.unique(cluster[rows], return_inverse=True)[1]
        clusters[g] = int(codes.max()) + 1 if len(codes) else 0
        if clusters[g] < 2:
            se[g] = np.nan
            continue
        place = estimate.stratum[g][model[rows]]
        share = np.bincount(estimate.stratum[g], table.corpus[g], minlength=k_n) / table.corpus[g].sum()
        mass = np.bincount(place, weight[rows], minlength=k_n).astype(float)
        pull = share[place] * weight[rows] / mass[place]
        for x in range(x_n):
            y = (human[rows] == x).astype(float)
            r = ratio(np.bincount(place, weight[rows] * y, minlength=k_n).astype(float), mass)[place]
            sums = np.bincount(codes, pull * (y - r))
            spread = clusters[g] / (clusters[g] - 1) * float((sums**2).sum())
            se[g, x] = max(float(estimate.se[g, x]), spread**0.5)
    return se, clusters


def ppi(
    table: GoldTable, level: float = 0.95, tuned: bool = True
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return prediction-powered shares and their limits (Angelopoulos et al. 2023, PPI++ where `tuned`), (G, X) each.

    Notes
    -----
    The unlabelled texts are those of the corpus without a human label. ``nan`` without any, without gold, or with
    unequal sampling probabilities. Normal quantiles, as in the papers: too narrow for rare classes and few labels.
    """
    x = table.counts.shape[1]
    square = table.counts[:, :, :x]
    n = table.counts.sum((1, 2))[:, None]
    y, f = table.counts.sum(2), square.sum(1)
    both = np.einsum("gxx->gx", square)
    unlabelled = table.corpus[:, :x] - f
    n_free = table.corpus.sum(1)[:, None] - n
    y_mean, f_mean, both_mean, free_mean = ratio(y, n), ratio(f, n), ratio(both, n), ratio(unlabelled, n_free)
    covariance = both_mean - y_mean * f_mean
    pooled = ratio(f + unlabelled, n + n_free)
    pooled_variance = ratio(pooled * (1 - pooled) * (n + n_free), n + n_free - 1)
    tuning = np.clip(np.nan_to_num(ratio(covariance, (1 + ratio(n, n_free)) * pooled_variance)), 0, 1)
    lam = tuning if tuned else np.ones_like(y)
    value = lam * free_mean + y_mean - lam * f_mean
    rest = y_mean - 2 * lam * both_mean + lam**2 * f_mean - (y_mean - lam * f_mean) ** 2
    se = np.sqrt(lam**2 * ratio(free_mean * (1 - free_mean), n_free) + ratio(np.maximum(rest, 0), n))
    half = normal_quantile((1 + level) / 2) * se
    if not table.equal:
        value = np.full_like(value, np.nan)
    return (
        value,
        np.where(np.isnan(value), np.nan, value - half),
        np.where(np.isnan(value), np.nan, value + half),
    )


def matrix_inversion(table: GoldTable) -> FloatArray:
    """Return (G, X) shares by inverting P(model's label | human label) (Rogan & Gladen 1978).

    For gold from *another* population whose error rates are taken to be the same. May leave 0 to 1; ``nan`` where
    the table cannot be inverted. Answers that are none are left out.
    """
    x = table.counts.shape[1]
    square, corpus = table.counts[:, :, :x], table.corpus[:, :x]
    given = ratio(square, square.sum(2, keepdims=True))
    share = ratio(corpus, corpus.sum(1, keepdims=True))
    shares = np.full(share.shape, np.nan)
    for g in range(len(share)):
        transposed = given[g].T
        if np.isfinite(transposed).all() and abs(np.linalg.det(transposed)) > 1e-9:
            shares[g] = np.linalg.solve(transposed, share[g])
    return shares


def neyman(table: GoldTable, more: int) -> FloatArray:
    """Return (K,) how many of `more` further labels each stratum of the first group should get.

    ``n_k`` in proportion to ``w_k sqrt(sum_x r~(1 - r~))``, above what a stratum has already, at most what it holds.
    """
    n, corpus = table.counts[0].sum(0), table.corpus[0]
    smooth = (table.counts[0] + 1) / (n + 2)
    need = ratio(corpus, np.asarray(corpus.sum())) * np.sqrt((smooth * (1 - smooth)).sum(0))
    room = np.maximum(corpus - n, 0)
    given = np.zeros(len(n))
    for _ in range(min(int(more), int(room.sum()))):
        gain = np.where(given < room, need**2 / np.maximum(n + given, 0.5) / (n + given + 1), -1.0)
        given[int(np.argmax(gain))] += 1
    return given
