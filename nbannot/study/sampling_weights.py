"""The known probabilities with which texts were drawn for people, as weights: one over the probability.

They come from a column of the data (`Task.weights`), or from the ``sample.csv`` that `nbannot.sample` wrote beside the
labels of people. Where all coded texts had the same chance there is nothing to weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import TaskError, listed, nearest
from nbannot.study.reading import read_csv

SAMPLE = "sample.csv"
KEPT_WEIGHTS = "sampling_weight"
"""The column of ``human_labels.csv`` in a run folder that keeps the weights with which it was scored."""
SAME = 1e-9
"""Weights that differ by less than this share are the same."""


@dataclass(frozen=True)
class Weighting:
    """What each text counts for.

    Attributes
    ----------
    of : id -> 1 / probability, above 0; only texts that could be drawn.
    source : the column of the data, or the file, that says it.
    """

    of: Mapping[str, float]
    source: str

    def on(self, ids: Sequence[str], coded: Sequence[bool]) -> tuple[list[float] | None, str]:
        """Return the weight of every text, and in words what was done.

        Parameters
        ----------
        coded
            Per text whether people gave it a label.

        Returns
        -------
        The weights are ``None`` where the coded texts had one and the same chance, or where some of them were not
        drawn, so that nobody knows theirs; the words then say so. They are 1 on average over the coded texts.
        """
        own = [self.of.get(i) for i in ids]
        there = [w for w, c in zip(own, coded, strict=True) if c]
        if not there:
            return None, ""
        unknown = sum(w is None for w in there)
        if unknown > len(there) / 2:  # a sample that was drawn for something else
            return None, ""
        if unknown:
            return None, (
                f"Not weighted: {unknown:,} of {len(there):,} texts with a human label are not in {self.source}, so "
                "that nobody knows how probable they were. The numbers describe these texts only."
            )
        known = [w for w in there if w is not None]
        if max(known) - min(known) <= SAME * max(known):
            return None, ""
        mean, square = sum(known) / len(known), sum(w * w for w in known)
        effective = sum(known) ** 2 / square
        words = (
            f"Weighted by the inverse of the known probabilities with which texts were drawn ({self.source}); "
            f"effective n {effective:,.0f} of {len(known):,}."
        )
        return [1.0 if w is None else w / mean for w in own], words


def scale_of_those_used(weights: Sequence[float], n: int, *, lost: bool) -> float:
    """Return what the weights of the coded texts are to be multiplied by where drawn texts have no label that is used.

    Parameters
    ----------
    weights
        1 / probability of being drawn, of the coded texts that are used.
    n
        Number of texts of the corpus.
    lost
        Whether it is known that drawn texts do not count (dev, examples, not coded); else it is seen from the sum.

    Notes
    -----
    A text that was drawn with probability p and is used with probability q counts 1 / (p q): with 1 / p alone only the
    share q of the model's errors would be corrected. q is taken to be the same for all (Hájek's estimator).
    """
    total = math.fsum(weights)
    by_chance = 4 * math.sqrt(math.fsum(w * max(w - 1, 0.0) for w in weights))
    whole = (not lost and abs(total - n) <= by_chance) or abs(total - n) <= SAME * n
    return 1.0 if whole else n / total


def weighting_of(data: Any, ids: Sequence[str], column: str) -> Weighting:
    """Return a column of the data as weights; a blank cell is a text that was not drawn.

    Raises
    ------
    TaskError
        If there is no such column, or a cell is no number above 0.
    """
    if column not in data.columns:
        raise TaskError(
            f"the data has no column '{column}' (weights){nearest(column, data.columns) or '.'}\n"
            f"  Its columns: {listed(data.columns, 12)}."
        )
    weights, wrong = {}, []
    for i, cell in zip(ids, data[column], strict=True):
        if not cell.strip():
            continue
        weights[i] = number_of(cell)
        if not 0 < weights[i] < math.inf:
            wrong.append(repr(cell))
    if wrong:
        raise TaskError(
            f"weights must be numbers above 0. Column '{column}' has {listed(dict.fromkeys(wrong))}.\n"
            "  A weight is 1 / the probability with which the text was drawn."
        )
    return Weighting(weights, column)


def sample_file(folders: Sequence[Path], ids: Sequence[str]) -> dict[str, float] | None:
    """Return id -> probability from the first ``sample.csv`` in these folders that has any of the ids; else None.

    Raises
    ------
    TaskError
        If its columns are others, or a probability is not above 0 and at most 1.
    """
    path = next((p for folder in folders if (p := folder / SAMPLE).exists()), None)
    if path is None:
        return None
    table = read_csv(path)
    if not {"text_id", "probability"} <= set(table.columns):
        raise TaskError(f"{path} needs the columns text_id and probability. It has {listed(table.columns)}.")
    known = set(ids)
    probabilities = {
        i: number_of(p) for i, p in zip(table["text_id"], table["probability"], strict=True) if i in known
    }
    if not probabilities:  # the sample of another corpus of this name
        return None
    wrong = [i for i, p in probabilities.items() if not 0 < p <= 1]
    if wrong:
        raise TaskError(f"{path}: probabilities must be above 0 and at most 1. Wrong at {listed(wrong, 3)}.")
    return probabilities


def number_of(cell: str) -> float:
    """Return a cell as a number, ``nan`` where it is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan
