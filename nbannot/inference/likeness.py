"""How alike two values of a field are, text by text, for every type of field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbannot.measures.accounting import FieldData, account
from nbannot.measures.result import FloatArray
from nbannot.measures.set_distances import jaccard_distance
from nbannot.measures.span_field import row_statistics
from nbannot.measures.span_metrics import COLUMNS
from nbannot.measures.text import levenshtein_similarities
from nbannot.study.field import Field

SCORES = {
    "checkbox": "agreement",
    "dropdown": "agreement",
    "likert": "−RMSE",
    "textbox": "mean normalised Levenshtein similarity",
    "span": "mean token F1",
    "multiselect": "mean Jaccard similarity",
}
"""What a coder's score against the others is, by type of field."""


def distances(
    f: Field,
    one: Sequence[Any],
    other: Sequence[Any],
    texts: Sequence[str],
    unaligned: Sequence[Any] | None = None,
) -> FloatArray:
    """Return (n,) distances of two coders' values, ``nan`` where one of them has none.

    0 or 1 for labels, the squared difference for scales, 1 - similarity for texts, spans and sets of options (two empty
    ones: 0).

    Parameters
    ----------
    unaligned
        Per text the quotes of `one` that are nowhere in the text: wrong tokens.
    """
    both = np.array([a is not None and b is not None for a, b in zip(one, other, strict=True)], dtype=bool)
    result = np.full(len(both), np.nan)
    rows = np.flatnonzero(both).tolist()
    if not rows:
        return result
    a, b = [one[row] for row in rows], [other[row] for row in rows]
    if f.type in ("checkbox", "dropdown"):
        result[rows] = [float(x != y) for x, y in zip(a, b, strict=True)]
    elif f.type == "likert":
        result[rows] = (np.array(a, dtype=float) - np.array(b, dtype=float)) ** 2
    elif f.type == "multiselect":
        pairs = zip(a, b, strict=True)
        result[rows] = [jaccard_distance(frozenset(x), frozenset(y)) for x, y in pairs]
    elif f.type == "textbox":
        result[rows] = 1 - levenshtein_similarities(b, a)
    else:
        quotes = None if unaligned is None else [list(unaligned[row]) for row in rows]
        result[rows] = 1 - _token_f1(f, b, a, [texts[row] for row in rows], quotes)
    return result


def _token_f1(f: Field, human: list[Any], model: list[Any], texts: list[str], quotes: Any) -> FloatArray:
    """Return (n,) labelled token F1 of the spans in each text; 1 where neither side marked anything."""
    data = FieldData("span", f.labels, _triples(human), _triples(model), texts=texts, unaligned=quotes)
    stats = row_statistics(data, account(data))[0]
    column = {name: stats[:, place] for place, name in enumerate(COLUMNS)}
    size = column["token_human"] + column["token_model"]
    return np.where(size > 0, 2 * column["token_tp"] / np.maximum(size, 1), 1.0)


def _triples(spans: list[Any]) -> list[list[tuple[int, int, Any]]]:
    return [[(s["start"], s["end"], s["label"]) for s in of_text] for of_text in spans]


def worst_distance(f: Field) -> float:
    """Return the distance of a missing answer: the largest that two values can have."""
    return float(f.max_value - f.min_value) ** 2 if f.type == "likert" else 1.0


def score(f: Field, mean_distance: FloatArray) -> FloatArray:
    """Return the score that a mean distance stands for, higher being better; see `SCORES`."""
    return -np.sqrt(mean_distance) if f.type == "likert" else 1 - mean_distance
