"""Distances of sets of options, and Krippendorff's alpha over them, of any number of coders."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.measures.accounting import unit_codes
from nbannot.measures.classification import ratio
from nbannot.measures.intervals import UNIT_RANGE, Intervals, Settings
from nbannot.measures.resample import FEW_UNITS, sample_rows
from nbannot.measures.result import NAN, FloatArray, Result

Options = frozenset[Any]
Distance = Callable[[Options, Options], float]


def jaccard_distance(one: Options, two: Options) -> float:
    """Return 1 - |intersection| / |union|; 0 for two empty sets.

    >>> jaccard_distance(frozenset("ab"), frozenset("bc"))
    0.6666666666666667
    """
    return 1 - len(one & two) / len(one | two) if one | two else 0.0


def masi_distance(one: Options, two: Options) -> float:
    """Return the MASI distance (Passonneau 2006): 1 - Jaccard * monotonicity; 0 for two empty sets.

    Monotonicity is 1 for equal sets, 2/3 where one holds the other, 1/3 where they overlap otherwise, else 0.

    >>> round(masi_distance(frozenset("a"), frozenset("ab")), 4)
    0.6667
    """
    if one == two:
        return 0.0
    if one <= two or two <= one:
        monotonicity = 2 / 3
    else:
        monotonicity = 1 / 3 if one & two else 0.0
    return 1 - (1 - jaccard_distance(one, two)) * monotonicity


@dataclass(frozen=True)
class SetValues:
    """The distinct sets of some ratings, and their (q, q) distances by each rule."""

    values: tuple[Options, ...]
    distances: tuple[FloatArray, ...]


def distinct_sets(
    units: Sequence[Sequence[Options]], rules: Sequence[Distance]
) -> tuple[SetValues, FloatArray]:
    """Return the distinct sets, and per unit the additive statistics of alpha.

    Parameters
    ----------
    units : per unit the sets that its coders gave; units with fewer than two say nothing.
    rules : the distances.

    Returns
    -------
    The sets with their distances, and (units, q + rules) statistics: how often the unit holds each set, and the sum
    of the distances of its ordered pairs over the number of its ratings less one.
    """
    paired = [unit if len(unit) > 1 else () for unit in units]
    place: dict[Options, int] = {}
    for unit in paired:
        for one in unit:
            place.setdefault(one, len(place))
    values = tuple(place)
    tables = tuple(
        np.array([[rule(a, b) for b in values] for a in values], dtype=float).reshape(
            len(values), len(values)
        )
        for rule in rules
    )
    statistics = np.zeros((len(units), len(values) + len(rules)))
    for row, unit in enumerate(paired):
        codes = [place[one] for one in unit]
        np.add.at(statistics[row], codes, 1.0)
        for number, table in enumerate(tables):
            total = table[np.ix_(codes, codes)].sum() if codes else 0.0
            statistics[row, len(values) + number] = total / max(1, len(codes) - 1)
    return SetValues(values, tables), statistics


def alpha_of(totals: FloatArray, sets: SetValues) -> list[FloatArray]:
    """Return Krippendorff's alpha by each rule of (..., q + rules) totals; ``nan`` without variation."""
    q = len(sets.values)
    marginals = totals[..., :q]
    n = marginals.sum(-1)
    alphas = []
    for number, table in enumerate(sets.distances):
        expected = ((marginals @ table) * marginals).sum(-1)
        alphas.append(1 - ratio((n - 1) * totals[..., q + number], expected))
    return alphas


def sets_agreement(
    units: Sequence[Sequence[Options]],
    clusters: Sequence[Hashable] | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    weights: FloatArray | None = None,
) -> dict[str, Result]:
    """Return how far coders of sets agree: ``krippendorff_alpha`` (MASI), ``alpha_jaccard``, ``percent_agreement``.

    Parameters
    ----------
    units : per text the sets that its coders gave.
    clusters : per text what it belongs to; None: texts are independent.
    weights : (texts,) what each counts for, 1 on average; None: all 1.

    Returns
    -------
    Each with its standard error; percent agreement is the share of pairs with the very same set, and the mean over
    texts with two coders or more. `n` counts the texts, `n_answered` those with two coders or more.
    """
    sets, of_alpha = distinct_sets(units, (masi_distance, jaccard_distance))
    q = len(sets.values)
    held = of_alpha[:, :q]
    m = held.sum(1)
    agreeing = (held * (held - 1)).sum(1) / np.maximum(m * (m - 1), 1)
    stats = np.hstack([of_alpha, agreeing[:, None], (m > 1).astype(float)[:, None]])

    def evaluate(totals: FloatArray) -> dict[str, FloatArray]:
        masi, jaccard = alpha_of(totals[..., :-2], sets)
        return {
            "krippendorff_alpha": masi,
            "percent_agreement": ratio(totals[..., -2], totals[..., -1]),
            "alpha_jaccard": jaccard,
        }

    n_paired = int((m > 1).sum())
    blank = Result(NAN, n=len(units), n_answered=n_paired, conventions="alpha with MASI distance")
    sample = sample_rows(stats, None if clusters is None else unit_codes(clusters), weights, settings.seed)
    intervals = Intervals(sample, evaluate, settings, blank)
    return with_errors(
        intervals,
        {
            name: intervals.result(
                name,
                bounds=UNIT_RANGE if name == "percent_agreement" else (-1.0, 1.0),
                if_undefined="no variation" if n_paired else "no unit with two ratings",
                jackknife_below=FEW_UNITS,
            )
            for name in intervals.values
        },
    )


def with_errors(intervals: Intervals, results: dict[str, Result]) -> dict[str, Result]:
    """Return the results with their standard errors."""
    from dataclasses import replace

    return {
        name: replace(result, se=intervals.error(name)) if result.defined else result
        for name, result in results.items()
    }
