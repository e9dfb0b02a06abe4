"""Rows without a valid answer in a comparison: counted as wrong, or left out for all runs alike.

The headline values of one run are strict: no valid answer is no right answer. That alone does not keep a run from
winning by silence: precision, F1 and chance-corrected agreement rise when a wrong answer becomes none, and rank and
distance metrics are of the answered rows. Runs are therefore compared as if each of them had answered every row, the
rows without an answer as badly as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.measures.accounting import LABEL_TYPES, Account, FieldData, account
from nbannot.measures.classification import LABEL_METRICS, LabelCounts
from nbannot.measures.label_field import ANSWERED_ONLY, label_values
from nbannot.measures.result import BoolArray, FloatArray, IntArray

WORST_ALREADY = (
    *("accuracy", "percentage_agreement", "recall_macro", "balanced_accuracy", "coverage", "invalid_rate"),
)
"""Metrics in which no answer is as bad as any wrong one, or which are about the missing answers themselves."""
STEPS = 10
"""The missing answers of one human label are dealt out in at most so many portions."""
CANDIDATES = 20
"""Of very many labels, so many of the rarest and of the most frequent are tried as wrong answers."""

WORDS = {
    "checkbox": "as the wrong value",
    "dropdown": "as the wrong option that costs most",
    "likert": "as the scale point farthest from people's",
    "textbox": "as a text that shares nothing with people's",
    "span": "as marks of the run's usual length where people marked nothing",
}
"""What a missing answer counts as in a comparison, by type of field."""


def answered_rows(data: FieldData) -> tuple[BoolArray, BoolArray]:
    """Return (n,) whether a row is a row of the headline, and whether it has a valid answer as well."""
    rows = account(data)
    return rows.reference, rows.reference & (rows.model >= 0)


def answered_by_all(runs: Sequence[FieldData]) -> list[FieldData]:
    """Return the runs with a reference only in the rows to which all of them gave a valid answer."""
    kept = np.logical_and.reduce([answered_rows(run)[1] for run in runs])
    return [_with_reference(run, kept) for run in runs]


def counted_as_wrong(data: FieldData, metric: str) -> FieldData:
    """Return a run whose rows without a valid answer have a wrong one, for a comparison in this metric.

    Parameters
    ----------
    metric : a metric of the field's type. Scale: the point farthest from people's (``bias``: the end towards which
        the run errs); other labels: the wrong ones that lower this metric most; texts: similarity 0; spans: as many
        characters as the run marks on average, where people marked nothing.
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
    return _wrong_spans(data, missing, metric)


def _with_reference(data: FieldData, kept: BoolArray) -> FieldData:
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
    """Return the scale points of the missing rows; a human in the exact middle gets the upper end."""
    values = label_values(data.labels)
    top = len(values) - 1
    human = values[rows.human[missing]]
    if metric == "bias":
        answered = rows.reference & (rows.model >= 0)
        error = (values[rows.model[answered]] - values[rows.human[answered]]).sum()
        # Without a sign of its own, the end that lies farther from people on the whole.
        up = error > 0 or (error == 0 and (values[top] - human).sum() >= (human - values[0]).sum())
        return np.full(len(human), top if up else 0, dtype=np.int64)
    return np.where(human - values[0] > values[top] - human, 0, top).astype(np.int64)


def _costliest(rows: Account, missing: BoolArray, metric: str, k: int) -> IntArray:
    """Return labels for the missing rows, none of them right, each portion where it lowers the metric most."""
    used = rows.reference
    human, model = rows.human, rows.model
    counts = LabelCounts(
        tp=np.bincount(human[used & (human == model)], minlength=k).astype(float),
        row=np.bincount(human[used], minlength=k).astype(float),
        col=np.bincount(model[used & (model >= 0)], minlength=k).astype(float),
        miss=np.bincount(human[missing], minlength=k).astype(float),
    )
    candidates = _candidates(counts.row)
    chosen = np.zeros(int(missing.sum()), dtype=np.int64)
    of_label = human[missing]
    portions = [
        (label, part)
        for label in np.unique(of_label).tolist()
        for part in np.array_split(np.flatnonzero(of_label == label), STEPS)
        if len(part)
    ]
    for label, part in portions:
        others = candidates[candidates != label]
        col = np.tile(counts.col, (len(others), 1))
        col[np.arange(len(others)), others] += len(part)
        miss = counts.miss.copy()
        miss[label] -= len(part)
        rest = (np.broadcast_to(side, col.shape) for side in (counts.tp, counts.row))
        value: FloatArray = LABEL_METRICS[metric](LabelCounts(*rest, col, np.broadcast_to(miss, col.shape)))
        worst = int(others[np.argmin(np.nan_to_num(value, nan=np.inf))])
        chosen[part] = worst
        counts = counts._replace(miss=miss, col=col[np.flatnonzero(others == worst)[0]])
    return chosen


def _candidates(support: FloatArray) -> IntArray:
    """Return the labels that are tried as wrong answers: those that people used, or any two where they used one."""
    order = np.argsort(-support, kind="stable")
    used = order[: max(2, int((support > 0).sum()))]
    if len(used) > 2 * CANDIDATES:
        used = np.concatenate([used[:CANDIDATES], used[-CANDIDATES:]])
    return used.astype(np.int64)


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


def _beside(people: Sequence[Any], length: int, usual: int, label: Any) -> list[tuple[int, int, Any]]:
    """Return marks of `usual` characters in all, as far as there is room outside of people's marks."""
    found, place, left = [], 0, usual
    for start, end in [*sorted((start, end) for start, end, _ in people), (length, length)]:
        stop = min(start, place + left)
        if stop > place:
            found.append((place, stop, label))
            left -= stop - place
        place = max(place, end)
        if left <= 0:
            break
    return found
