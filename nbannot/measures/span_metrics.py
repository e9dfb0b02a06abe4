"""Which totals each span metric needs and its formula; presence of anything, for spans and for text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nbannot.measures.classification import LabelCounts, ratio
from nbannot.measures.result import BoolArray, FloatArray

COLUMNS = (
    *("exact_tp", "exact_human", "exact_model", "exact_human_missing"),
    *("token_tp", "token_human", "token_model", "token_human_missing"),
    *("char_tp", "char_human", "char_model", "iou_sum", "iou_docs"),
    *("partial_exact", "partial_overlap", "partial_exact_labelled", "partial_overlap_labelled"),
    *("exact_tp_unlabelled", "exact_human_unlabelled", "exact_model_unlabelled"),
    *("token_tp_unlabelled", "token_human_unlabelled", "token_model_unlabelled"),
    *("char_tp_unlabelled", "char_human_unlabelled", "char_model_unlabelled"),
    *("presence_tp", "presence_human", "presence_model", "absence_tp", "absence_human", "absence_model"),
    *("presence_missing", "absence_missing"),
)
"""The additive statistics of a text; `<level>_label_tp`, `_human`, `_model` per label follow them."""


def f1_of(tp: FloatArray, human: FloatArray, model: FloatArray) -> FloatArray:
    """Return 2 TP / (human + model)."""
    return ratio(2 * tp, human + model)


def iou_of(shared: FloatArray, human: FloatArray, model: FloatArray) -> FloatArray:
    """Return intersection over union."""
    return ratio(shared, human + model - shared)


def half_credit_f1(
    exact: FloatArray, partial: FloatArray, human: FloatArray, model: FloatArray
) -> FloatArray:
    """Return the F1 that gives half credit to an overlap (MUC, SemEval-2013 task 9.1 "partial")."""
    return ratio(2 * (exact + partial / 2), human + model)


def type_f1(exact: FloatArray, partial: FloatArray, human: FloatArray, model: FloatArray) -> FloatArray:
    """Return the F1 that counts an overlap with the right label as right (SemEval-2013 "type")."""
    return ratio(2 * (exact + partial), human + model)


def _answered_f1(tp: FloatArray, human: FloatArray, missing: FloatArray, model: FloatArray) -> FloatArray:
    return ratio(2 * tp, human - missing + model)


SPAN_METRICS: dict[str, tuple[tuple[str, ...], Callable[..., FloatArray]]] = {
    "token_f1": (("token_tp", "token_human", "token_model"), f1_of),
    "exact_match_f1": (("exact_tp", "exact_human", "exact_model"), f1_of),
    "char_iou": (("char_tp", "char_human", "char_model"), iou_of),
    "token_precision": (("token_tp", "token_model"), ratio),
    "token_recall": (("token_tp", "token_human"), ratio),
    "partial_f1": (("partial_exact", "partial_overlap", "exact_human", "exact_model"), half_credit_f1),
    "presence_f1": (("presence_tp", "presence_human", "presence_model"), f1_of),
}
"""Metric on disk -> the totals it needs and its formula."""

EXTRA_SPAN_METRICS: dict[str, tuple[tuple[str, ...], Callable[..., FloatArray]]] = {
    "exact_match_precision": (("exact_tp", "exact_model"), ratio),
    "exact_match_recall": (("exact_tp", "exact_human"), ratio),
    "char_f1": (("char_tp", "char_human", "char_model"), f1_of),
    "char_iou_mean": (("iou_sum", "iou_docs"), ratio),
    "type_f1": (
        ("partial_exact_labelled", "partial_overlap_labelled", "exact_human", "exact_model"),
        type_f1,
    ),
    "partial_f1_labelled": (
        ("partial_exact_labelled", "partial_overlap_labelled", "exact_human", "exact_model"),
        half_credit_f1,
    ),
    "exact_match_f1_unlabelled": (
        ("exact_tp_unlabelled", "exact_human_unlabelled", "exact_model_unlabelled"),
        f1_of,
    ),
    "token_f1_unlabelled": (
        ("token_tp_unlabelled", "token_human_unlabelled", "token_model_unlabelled"),
        f1_of,
    ),
    "char_iou_unlabelled": (
        ("char_tp_unlabelled", "char_human_unlabelled", "char_model_unlabelled"),
        iou_of,
    ),
    "token_f1_answered": (("token_tp", "token_human", "token_human_missing", "token_model"), _answered_f1),
    "exact_match_f1_answered": (
        ("exact_tp", "exact_human", "exact_human_missing", "exact_model"),
        _answered_f1,
    ),
}


def presence_counts(human: BoolArray, model: BoolArray, answered: BoolArray) -> dict[str, FloatArray]:
    """Return per row the counts of "there is something": both, human, model; the same for "nothing"."""
    counts = {
        "presence_tp": human & model & answered,
        "presence_human": human,
        "presence_model": model & answered,
        "presence_missing": human & ~answered,
        "absence_tp": ~human & ~model & answered,
        "absence_human": ~human,
        "absence_model": ~model & answered,
        "absence_missing": ~human & ~answered,
    }
    return {name: count.astype(float) for name, count in counts.items()}


def presence_label_counts(column: Mapping[str, FloatArray]) -> LabelCounts:
    """Return the counts of the two labels "something" and "nothing" from totals by name."""
    parts = ("tp", "human", "model", "missing")
    return LabelCounts(
        *(np.stack([column[f"{kind}_{part}"] for kind in ("presence", "absence")], axis=-1) for part in parts)
    )
