"""The best of several runs, corrected for having been chosen by the number that is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.accounting import FieldData
from nbannot.measures.pair_resampling import PairedResampling
from nbannot.measures.paired_statistics import goodness, runs_statistics
from nbannot.measures.result import NAN


@dataclass(frozen=True, slots=True)
class BestRun:
    """The best of several runs chosen and scored on the same texts, and its value corrected for the choice.

    Attributes
    ----------
    best : index of the best run.
    selected_on : its value on all texts; too high, because it was chosen by it.
    corrected : mean value, on the texts left out of a resample, of the run that is best within the resample.
    chosen_share : (runs) how often each run was the best within a resample.
    """

    best: int
    selected_on: float
    corrected: float
    chosen_share: tuple[float, ...]


def best_run_corrected(
    runs: Sequence[FieldData], metric: str, *, n_resamples: int = 2_000, seed: int = 1
) -> BestRun:
    """Return the best run with the bootstrap bias correction of Tsamardinos et al. (2018).

    For when the texts were too few to set a test part aside: it costs no further model call.
    """
    stats = runs_statistics(runs, metric)
    resampling = PairedResampling(runs[0], stats, n_resamples, seed, 0.95)
    if np.isnan(resampling.values).any():
        raise ScoringError(f"{metric} is not defined for every run, so that none can be called the best.")
    chosen, outside = [], []
    for inside, left in resampling.in_and_out():
        within = goodness(metric, resampling.formula(inside))
        without = resampling.formula(left)
        defined = np.flatnonzero(~np.isnan(within).all(axis=1))
        best_within = np.argmax(np.where(np.isnan(within[defined]), -np.inf, within[defined]), axis=1)
        chosen.append(best_within)
        outside.append(without[defined, best_within])
    picked, scored = np.concatenate(chosen), np.concatenate(outside)
    share = np.bincount(picked, minlength=len(runs)) / max(1, len(picked))
    best = int(np.argmax(goodness(metric, resampling.values)))
    corrected = float(np.nanmean(scored)) if not np.isnan(scored).all() else NAN
    return BestRun(best, float(resampling.values[best]), corrected, tuple(share.tolist()))
