"""The engine of comparisons: the runs' statistics side by side, drawn together or exchanged between two runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbannot.measures.accounting import FieldData, account, units_of
from nbannot.measures.paired_statistics import Formula, RowStatistics
from nbannot.measures.resample import BLOCK_CELLS, Sample, sample_rows
from nbannot.measures.result import FloatArray

EXHAUSTIVE = 2**14
"""Up to this many different exchanges, all of them are tried and p is exact."""
_EXACT_FLOAT32 = 2**24
"""Whole numbers below this are exact in single precision, which multiplies twice as fast."""
_TOLERANCE = 1e-12
"""Two orders of adding the same numbers differ by less: such an exchange counts as equally large."""


class PairedResampling:
    """The runs' statistics side by side, resampled and exchanged together."""

    def __init__(
        self, first: FieldData, stats: Sequence[RowStatistics], n_resamples: int, seed: int, level: float
    ) -> None:
        used = account(first).reference
        self.level, self.seed, self.n_resamples = level, seed, n_resamples
        self.formula: Formula = stats[0].formula
        self.width = stats[0].rows.shape[1]
        self.n = int(used.sum())
        self.sample: Sample = sample_rows(np.hstack([s.rows for s in stats]), *units_of(first, used), seed)
        assert self.sample.stats is not None
        self.units = self.sample.stats.reshape(-1, len(stats), self.width)
        self.totals = np.tensordot(self.sample.counts.astype(float), self.units, axes=1)
        self.values: FloatArray = self.formula(self.totals)
        self._exchanged: FloatArray | None = None
        self._resampled: FloatArray | None = None

    @property
    def resampled(self) -> FloatArray:
        """(B, runs) values in each resample."""
        if self._resampled is None:
            rng = np.random.default_rng(self.seed)
            blocks = (self._sums(self.sample.draws(rng, size)) for size in self._blocks())
            self._resampled = np.concatenate([self.formula(block) for block in blocks])
        return self._resampled

    def exchanged(self, a: int, b: int) -> tuple[FloatArray, FloatArray]:
        """Return (B, d) totals of two runs whose answers were exchanged for a random half of the units."""
        if self._exchanged is None:
            rng = np.random.default_rng([self.seed, 2])
            blocks = [self._sums(self._halves(rng, size)) for size in self._blocks()]
            self._exchanged = np.concatenate(blocks)
        moved = self._exchanged[:, a] - self._exchanged[:, b]
        return self.totals[a] - moved, self.totals[b] + moved

    def in_and_out(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield (b, runs, d) totals of the units that resamples drew, and of those that they left out."""
        rng = np.random.default_rng(self.seed)
        n, first = self.sample.n_units, np.cumsum(self.sample.counts) - self.sample.counts
        for size in self._blocks():
            picks = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(size)])
            sides = (np.add.reduceat(side, first, axis=1) for side in (picks, (picks == 0).astype(np.int64)))
            inside, left = (self._sums(side.astype(np.float64)) for side in sides)
            yield inside, left

    def _halves(self, rng: np.random.Generator, size: int) -> FloatArray:
        counts = self.sample.counts
        if (counts == 1).all():
            bits = rng.integers(0, 2, (size, len(counts)), dtype=np.uint8)
            return bits.astype(np.float64)
        return rng.binomial(counts, 0.5, (size, len(counts))).astype(np.float64)

    def _blocks(self) -> Iterator[int]:
        size = max(1, BLOCK_CELLS // max(1, len(self.units), self.units[0].size if len(self.units) else 1))
        for first in range(0, self.n_resamples, size):
            yield min(size, self.n_resamples - first)

    def _sums(self, weights: FloatArray) -> FloatArray:
        """Return (b, runs, d) weighted sums of the units, in single precision where that is exact."""
        flat: NDArray[Any] = self.units.reshape(len(self.units), -1)
        largest = float(np.abs(flat).max(initial=0.0)) * self.sample.n_units
        if largest < _EXACT_FLOAT32 and (flat == np.round(flat)).all():
            weights, flat = weights.astype(np.float32), flat.astype(np.float32)
        sums: FloatArray = (weights @ flat).astype(np.float64)
        return sums.reshape(len(weights), *self.units.shape[1:])

    def line(self) -> str:
        """Return the conventions of the comparison."""
        unit = "row" if self.sample.n_clusters is None else f"cluster ({self.sample.n_clusters})"
        return (
            f"same rows, A minus B · {self.level:.0%} paired bootstrap, B={self.n_resamples:,}, seed {self.seed}, "
            f"resampling unit={unit}"
        )


def randomisation(resampling: PairedResampling, a: int, b: int) -> tuple[float, str]:
    """Return the two-sided p value of exchanging the answers of two runs, and how it was made."""
    observed = abs(float(resampling.values[a] - resampling.values[b])) - _TOLERANCE
    moves = resampling.units[:, a] - resampling.units[:, b]
    differing = np.flatnonzero((moves != 0).any(axis=1))
    counts = resampling.sample.counts[differing]
    if not len(differing):
        return 1.0, "no text differs"
    if np.log1p(counts).sum() <= math.log(EXHAUSTIVE) + _TOLERANCE:
        taken = np.array(list(product(*(range(count + 1) for count in counts.tolist()))), dtype=float)
        moved = taken @ moves[differing]
        weight = np.exp(_log_choose(counts, taken) - counts.sum() * math.log(2))
        far = _difference(resampling.formula, resampling.totals[a] - moved, resampling.totals[b] + moved)
        return min(1.0, float(weight[~(far < observed)].sum())), "exact randomisation"
    far = _difference(resampling.formula, *resampling.exchanged(a, b))
    hits = int((~(far < observed)).sum())
    return (1 + hits) / (1 + resampling.n_resamples), "approximate randomisation"


def _difference(formula: Formula, a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the absolute difference; ``nan`` where one is not defined, which counts as far."""
    return np.abs(formula(a) - formula(b))


def _log_choose(counts: NDArray[np.int64], taken: FloatArray) -> FloatArray:
    """Return the log of the product of binomial coefficients."""
    factorials = np.array([math.lgamma(i + 1) for i in range(int(counts.max()) + 1)])
    chosen = taken.astype(int)
    ways: FloatArray = (factorials[counts] - factorials[chosen] - factorials[counts - chosen]).sum(axis=1)
    return ways
