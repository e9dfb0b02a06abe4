"""Several checkboxes read as one field whose value is a set of labels."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.accounting import unit_codes
from nbannot.measures.agreement import (
    CoderTotals,
    jaccard_distance,
    krippendorff_alpha,
    masi_distance,
    set_distances,
    unit_statistics,
    value_counts,
)
from nbannot.measures.classification import LabelCounts, f1_per_class, ratio, supported_mean
from nbannot.measures.intervals import Intervals, Settings
from nbannot.measures.resample import sample_rows
from nbannot.measures.result import NAN, FloatArray, Result


def score_sets(
    human: Sequence[Collection[Any]],
    model: Sequence[Collection[Any] | None],
    labels: Sequence[Any],
    clusters: Sequence[Hashable] | None = None,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
) -> dict[str, Result]:
    """Return the metrics of sets of labels, with intervals that resample rows (or clusters).

    Parameters
    ----------
    human : (n) sets of labels, empty for none of them.
    model : (n) sets; None for no valid answer, which is an error in every row (strict).
    labels : the codebook's labels in order.

    Returns
    -------
    ``subset_accuracy, jaccard, hamming_loss, f1_micro, f1_macro, alpha_jaccard, alpha_masi, both_empty_share``.
    Two empty sets have a Jaccard of 1; `both_empty_share` says how many rows that flatters. The alphas are of
    the answered rows. A missing answer misses every human label and gets a Jaccard of 0 and a loss of 1.

    Raises
    ------
    ScoringError
        A human label is not in the codebook, or the columns differ in length.
    """
    known = list(labels)
    outside = {label for row in human for label in row} - set(known)
    if outside or len(human) != len(model):
        raise ScoringError(
            f"the labels {sorted(map(repr, outside))} are not in the codebook {known!r}."
            if outside
            else f"{len(human)} human and {len(model)} model rows do not belong together."
        )
    answered = np.array([row is not None for row in model], dtype=bool)
    h, m = _indicators(human, known), _indicators([row or () for row in model], known)
    sets = [(frozenset(a), None if b is None else frozenset(b)) for a, b in zip(human, model, strict=True)]
    pairs, values = value_counts(sets)
    stats = np.hstack([_row_statistics(h, m, answered), h * m, h, m, unit_statistics(pairs)])
    k, q = len(known), len(values)
    distances = {name: set_distances(values, d) for name, d in _DISTANCES.items()}

    def evaluate(totals: FloatArray) -> Mapping[str, FloatArray]:
        n, subset, jaccard, hamming, empty = np.moveaxis(totals[..., :5], -1, 0)
        tp, row, col = (totals[..., 5 + i * k : 5 + (i + 1) * k] for i in range(3))
        c = LabelCounts(tp, row, col, np.zeros_like(tp))
        coders = CoderTotals.of(totals[..., 5 + 3 * k :], q)
        return {
            "subset_accuracy": ratio(subset, n),
            "jaccard": ratio(jaccard, n),
            "hamming_loss": ratio(hamming, n),
            "f1_micro": ratio(2 * c.correct, c.n + c.n_answered),
            "f1_macro": supported_mean(f1_per_class(c), row),
            **{name: krippendorff_alpha(coders, distance=d) for name, d in distances.items()},
            "both_empty_share": ratio(empty, n),
        }

    codes = None if clusters is None else unit_codes(clusters)
    blank = Result(
        NAN,
        n=len(human),
        n_answered=int(answered.sum()),
        labels_used=tuple(str(label) for label in known),
        conventions="strict (missing=error) · two empty sets agree · alpha: answered rows",
    )
    found = Intervals(
        sample_rows(stats, codes, seed=seed), evaluate, Settings(n_resamples, seed, level), blank
    )
    shares = ("subset_accuracy", "both_empty_share")
    return {
        name: found.result(
            name,
            proportion_of=len(human) if name in shares else None,
            bounds=(-1.0, 1.0) if name.startswith("alpha") else (0.0, 1.0),
            if_undefined="no variation" if len(human) else "no human labels",
        )
        for name in found.values
    }


_DISTANCES = {"alpha_jaccard": jaccard_distance, "alpha_masi": masi_distance}


def _indicators(rows: Sequence[Collection[Any]], labels: Sequence[Any]) -> FloatArray:
    return np.array([[label in row for label in labels] for row in rows], dtype=float).reshape(
        len(rows), len(labels)
    )


def _row_statistics(h: FloatArray, m: FloatArray, answered: FloatArray) -> FloatArray:
    """Return (n, 5): 1, equal sets, Jaccard, share of wrong labels, both empty."""
    union, shared = np.maximum(h, m).sum(1), (h * m).sum(1)
    jaccard = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    wrong = np.abs(h - m).mean(1)
    return np.column_stack(
        [
            np.ones(len(h)),
            np.where(answered, wrong == 0, 0.0),
            np.where(answered, jaccard, 0.0),
            np.where(answered, wrong, 1.0),
            np.where(answered, union == 0, False),
        ]
    ).astype(float)
