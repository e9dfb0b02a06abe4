"""Rows without a valid answer in a comparison: counted as wrong, or left out for all runs alike.

The headline values of one run are strict: no valid answer is no right answer. That alone does not keep a run from
winning by silence: precision, F1 and chance-corrected agreement rise when a wrong answer becomes none, and rank and
distance metrics are of the answered rows. Runs are therefore compared as if each of them had answered every row, the
rows without an answer as badly as can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.measures import ordinal
from nbannot.measures.accounting import LABEL_TYPES, Account, FieldData, account
from nbannot.measures.classification import LABEL_METRICS, LabelCounts
from nbannot.measures.label_field import ANSWERED_ONLY
from nbannot.measures.label_metrics import label_values
from nbannot.measures.result import BoolArray, FloatArray, IntArray

WORST_ALREADY = (
    *("accuracy", "percentage_agreement", "recall_macro", "balanced_accuracy", "coverage", "invalid_rate"),
    *("recall_micro", "jaccard", "hamming_loss"),
)
"""Metrics in which no answer is as bad as any wrong one, or which are about the missing answers themselves."""
STEPS = 10
"""The missing answers of one human label are dealt out in at most so many portions."""
STARTS = 6
"""From so many first guesses (all of them one label), the worst end counts."""
PASSES = 4
"""How often every portion is put where it costs most, the others standing."""
SMALL_SCALE = 25
"""Up to so many scale points, all of them are tried as wrong answers."""
CANDIDATES = 20
"""Of very many labels, so many of the rarest and of the most frequent are tried as wrong answers."""

WORDS = {
    "checkbox": "as the wrong value",
    "dropdown": "as the wrong option that costs most",
    "likert": "as the wrong scale point that costs most",
    "textbox": "as a text that shares nothing with people's",
    "span": "as marks of the run's usual length where people marked nothing",
    "multiselect": "as exactly the options that people did not choose",
}
"""What a missing answer counts as in a comparison, by type of field."""


def answered_rows(data: FieldData) -> tuple[BoolArray, BoolArray]:
    """Return (n,) whether a row is a row of the headline, and whether it has a valid answer as well."""
    rows = account(data)
    return rows.reference, rows.reference & (rows.model >= 0)


def answered_by_all(runs: Sequence[FieldData]) -> list[FieldData]:
    """Return the runs with a reference only in the rows to which all of them gave a valid answer."""
    kept = np.logical_and.reduce([answered_rows(run)[1] for run in runs])
    return [with_reference(run, kept) for run in runs]


def counted_as_wrong(data: FieldData, metric: str) -> FieldData:
    """Return a run whose rows without a valid answer have a wrong one, for a comparison in this metric.

    Parameters
    ----------
    metric : a metric of the field's type. Labels and scale points: the wrong ones that lower this metric most (a
        distance: those farthest from people's); texts: similarity 0; spans: as many characters as the run marks on
        average, where people marked nothing; sets: the options that people did not choose.
    """
    rows = account(data)
    missing = rows.reference & (rows.model < 0)
    if not missing.any() or metric in WORST_ALREADY:
        return data
    if data.type in LABEL_TYPES:
        return _wrong_labels(data, rows, missing, metric)
    if data.type == "textbox":
        # Similarities count a missing answer as 0; only presence could gain by it.
        return _wrong_texts(data, missing) if metric == "presence_f1" else data
    if data.type == "multiselect":
        return _opposite_sets(data, missing)
    return _wrong_spans(data, missing, metric)


def with_reference(data: FieldData, kept: BoolArray) -> FieldData:
    """Return the rows with human labels only where they are kept."""
    if data.human_codes is not None:
        return replace(data, human_codes=np.where(kept, data.human_codes, np.int32(-1)))
    human = [value if used else None for value, used in zip(data.human, kept.tolist(), strict=True)]
    return replace(data, human=human)


def _answered_now(data: FieldData, missing: BoolArray, **changes: Any) -> FieldData:
    """Return the run with values in the missing rows, which then neither close nor leave open a gate."""
    if data.model_applies is not None:
        changes["model_applies"] = np.asarray(data.model_applies, dtype=bool) | missing
    if data.gate_unanswered is not None:
        changes["gate_unanswered"] = np.asarray(data.gate_unanswered, dtype=bool) & ~missing
    return replace(data, **changes)


# Labels


def _wrong_labels(data: FieldData, rows: Account, missing: BoolArray, metric: str) -> FieldData:
    if len(data.labels) < 2:
        return data
    model = rows.model.copy()
    if data.type == "likert" and metric in ANSWERED_ONLY:
        model[missing] = _farthest(data, rows, missing, metric)
    else:
        model[missing] = _costliest(rows, missing, metric, len(data.labels))
    return _answered_now(data, missing, human_codes=rows.human, model_codes=model.astype(np.int32))


def _farthest(data: FieldData, rows: Account, missing: BoolArray, metric: str) -> IntArray:
    """Return scale points for the missing rows: those farthest from people's; a human in the middle gets the upper end.

    For ``bias`` the end of the scale that makes the whole bias larger. Chance-corrected and rank measures can fall
    lower still when the points are not all at the ends: from there on, each portion is moved as in `_costliest`.
    """
    values = label_values(data.labels)
    top = len(values) - 1
    human = values[rows.human[missing]]
    if metric == "bias":
        answered = rows.reference & (rows.model >= 0)
        error = (values[rows.model[answered]] - values[rows.human[answered]]).sum()
        up = error + (values[top] - human).sum() >= abs(error - (human - values[0]).sum())
        return np.full(len(human), top if up else 0, dtype=np.int64)
    start = np.where(human - values[0] > values[top] - human, 0, top).astype(np.int64)
    if metric in ("mae", "within_one") or len(values) > SMALL_SCALE:
        return start
    measure = {
        "quadratic_kappa": lambda tables: ordinal.quadratic_kappa(tables, values),
        "krippendorff_alpha": ordinal.alpha_ordinal,
        "spearman_corr": ordinal.spearman,
    }[metric]
    answered_table = _answered_table(rows, len(values))
    of_label, points = rows.human[missing].astype(np.int64), np.arange(len(values))
    ends = [np.where(of_label == end, top - end, end).astype(np.int64) for end in (0, top)]
    places = []
    for first in (start, *ends):
        table = answered_table.copy()
        np.add.at(table, (of_label, first), 1)
        chosen = _moved_to_the_worst(of_label, first, points, *_moves_in_table(table, measure))
        places.append((float(measure(table)), chosen))
    return min(places, key=lambda one: (math.isnan(one[0]), one[0]))[1]


def _costliest(rows: Account, missing: BoolArray, metric: str, k: int) -> IntArray:
    """Return labels for the missing rows, none of them right, each portion where it lowers the metric most."""
    used = rows.reference
    human, model = rows.human, rows.model
    of_label = human[missing].astype(np.int64)
    row = np.bincount(human[used], minlength=k).astype(float)
    tp = np.bincount(human[used & (human == model)], minlength=k).astype(float)
    answered = np.bincount(model[used & (model >= 0)], minlength=k).astype(float)
    candidates = _candidates(row)

    def measure(col: FloatArray) -> FloatArray:
        same = [np.broadcast_to(side, col.shape) for side in (tp, row)]
        return LABEL_METRICS[metric](LabelCounts(same[0], same[1], col, np.zeros_like(col)))

    places = []
    for place, first in enumerate(candidates[:STARTS]):  # the most frequent labels draw most chance agreement
        start = np.where(of_label == first, candidates[place - 1], first).astype(np.int64)
        col = answered + np.bincount(start, minlength=k).astype(float)
        chosen = _moved_to_the_worst(of_label, start, candidates, *_moves_in_counts(col, measure))
        places.append((float(measure(col)), chosen))
    return min(places, key=lambda one: (math.isnan(one[0]), one[0]))[1]


Harm = Callable[[int, int, int, IntArray], FloatArray]
Move = Callable[[int, int, int, int], None]


def _moves_in_table(table: FloatArray, measure: Callable[[FloatArray], FloatArray]) -> tuple[Harm, Move]:
    """Return what a metric is when answers of one human label move in a (K, K) table, and how to move them."""

    def harm(label: int, part: int, before: int, others: IntArray) -> FloatArray:
        tried = np.tile(table, (len(others), 1, 1))
        tried[:, label, before] -= part
        tried[np.arange(len(others)), label, others] += part
        return measure(tried)

    def move(label: int, part: int, before: int, after: int) -> None:
        table[label, before] -= part
        table[label, after] += part

    return harm, move


def _moves_in_counts(col: FloatArray, measure: Callable[[FloatArray], FloatArray]) -> tuple[Harm, Move]:
    """Return the same for (K,) totals of the model, which are all that a wrong answer changes."""

    def harm(label: int, part: int, before: int, others: IntArray) -> FloatArray:
        tried = np.tile(col, (len(others), 1))
        tried[:, before] -= part
        tried[np.arange(len(others)), others] += part
        return measure(tried)

    def move(label: int, part: int, before: int, after: int) -> None:
        col[before] -= part
        col[after] += part

    return harm, move


def _moved_to_the_worst(
    of_label: IntArray,
    start: IntArray,
    candidates: IntArray,
    harm: Harm,
    move: Move,
) -> IntArray:
    """Return answers for rows without one, moved in portions of one human label until no move does more harm."""
    chosen = start.copy()
    portions = [
        (label, part)
        for label in np.unique(of_label).tolist()
        for wrong in np.unique(start[of_label == label]).tolist()
        for part in np.array_split(np.flatnonzero((of_label == label) & (start == wrong)), STEPS)
        if len(part)
    ]
    for _ in range(PASSES):
        moved = False
        for label, part in portions:
            before = int(chosen[part[0]])
            others = candidates[candidates != label]
            value = np.nan_to_num(harm(label, len(part), before, others), nan=np.inf)
            here = np.flatnonzero(others == before)
            worst = int(others[np.argmin(value)])
            if len(here) and value.min() >= value[here[0]] - 1e-12:
                continue
            move(label, len(part), before, worst)
            chosen[part] = worst
            moved = True
        if not moved:
            break
    return chosen


def _answered_table(rows: Account, k: int) -> FloatArray:
    """Return the (K, K) counts of the answered rows."""
    answered = rows.reference & (rows.model >= 0)
    cells = rows.human[answered].astype(np.int64) * k + rows.model[answered]
    return np.bincount(cells, minlength=k * k).reshape(k, k).astype(float)


def _candidates(support: FloatArray) -> IntArray:
    """Return the labels that are tried as wrong answers, the most frequent first; of very many the two ends."""
    order = np.argsort(-support, kind="stable").astype(np.int64)
    return (
        order if len(order) <= 2 * CANDIDATES else np.concatenate([order[:CANDIDATES], order[-CANDIDATES:]])
    )


# Texts and spans


def _wrong_texts(data: FieldData, missing: BoolArray) -> FieldData:
    """Return the run with a text where people wrote none."""
    silent = [not str(value or "").strip() for value in data.human]
    wrong = missing & np.array(silent, dtype=bool)
    model = ["\u2042" if bad else value for value, bad in zip(data.model, wrong.tolist(), strict=True)]
    return _answered_now(data, wrong, model=model)


def _wrong_spans(data: FieldData, missing: BoolArray, metric: str) -> FieldData:
    marked = [sum(end - start for start, end, _ in spans) for spans in data.model if spans is not None]
    usual = max(1, round(sum(marked) / len(marked))) if marked else 1
    assert data.texts is not None
    model = list(data.model)
    wrong = missing.copy()
    label = data.labels[0] if data.labels else None
    for row in np.flatnonzero(missing).tolist():
        people = data.human[row]
        if metric == "presence_f1" and people:  # marks anywhere would count as found
            wrong[row] = False
        else:
            model[row] = _beside(people, len(data.texts[row]), usual, label)
    return _answered_now(data, wrong, model=model)


def _opposite_sets(data: FieldData, missing: BoolArray) -> FieldData:
    """Return the run with the opposite set in every missing row: no other one is worse for any option or distance."""
    model = list(data.model)
    for row in np.flatnonzero(missing).tolist():
        model[row] = [label for label in data.labels if label not in data.human[row]]
    return _answered_now(data, missing, model=model)


def _beside(people: Sequence[Any], length: int, usual: int, label: Any) -> list[tuple[int, int, Any]]:
    """Return marks of `usual` characters in all, as far as there is room outside of people's marks."""
    pieces, place, left = [], 0, usual
    for start, end in [*sorted((start, end) for start, end, _ in people), (length, length)]:
        stop = min(start, place + left)
        if stop > place:
            pieces.append((place, stop, label))
            left -= stop - place
        place = max(place, end)
        if left <= 0:
            break
    return pieces
