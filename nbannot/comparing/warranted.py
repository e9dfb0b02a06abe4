"""When a difference between runs must carry no verdict: people used one label, or there is too little to go by."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from nbannot.measures.accounting import LABEL_TYPES, Account, FieldData, account
from nbannot.measures.intervals import SMALL_CLASS
from nbannot.measures.label_field import MACRO
from nbannot.measures.label_report import small_classes
from nbannot.measures.pair_result import ONE_LABEL, ManyResult, PairResult
from nbannot.measures.result import UNRELIABLE
from nbannot.report.words import plural

OF_ANSWERS = ("coverage", "invalid_rate")
"""Metrics that look at the answers alone, whatever people said."""


def with_doubts(result: ManyResult, data: FieldData) -> ManyResult:
    """Return the result with a reason at every pair whose p and interval must carry no verdict by themselves.

    Where people used one label only, no run is told from the best.
    """
    rows = account(data)
    used = np.flatnonzero(rows.reference).tolist()
    if not used:
        return result
    few = [f"only {plural(len(used), 'text')} with a human label"] if len(used) < SMALL_CLASS else []
    rare = [*few, *_rare(data, rows, result.metric)]
    one_label = result.metric not in OF_ANSWERS and _one_label(data, rows)
    reasons = [*([ONE_LABEL] if one_label else []), *([f"{UNRELIABLE}: {'; '.join(rare)}"] if rare else [])]
    if not reasons:
        return result

    def doubted(pair: PairResult) -> PairResult:
        return replace(pair, reason="; ".join(filter(None, [pair.reason, *reasons])))

    result = replace(
        result, pairs=list(map(doubted, result.pairs)), to_best=list(map(doubted, result.to_best))
    )
    if not one_label:
        return result
    defined = tuple(i for i, value in enumerate(result.values) if not math.isnan(value))
    return replace(result, not_distinguishable=defined)


def _one_label(data: FieldData, rows: Account) -> bool:
    if data.type in LABEL_TYPES:
        return len(np.unique(rows.human[rows.reference])) == 1
    if data.type == "multiselect":
        return len({frozenset(data.human[row]) for row in np.flatnonzero(rows.reference).tolist()}) == 1
    return False


def _rare(data: FieldData, rows: Account, metric: str) -> list[str]:
    """Return what is too rare for a metric's interval, in the words in which a score says it."""
    if metric in OF_ANSWERS:
        return []
    if data.type in LABEL_TYPES:
        return small_classes(data, rows) if metric in MACRO else []
    used = np.flatnonzero(rows.reference).tolist()
    if data.type == "multiselect" and metric in MACRO:
        chosen = Counter(label for row in used for label in set(data.human[row]))
        return [
            f"option {label} has n={n}" for label in data.labels if 0 < (n := chosen[label]) < SMALL_CLASS
        ]
    if data.type == "span":
        marked = sum(bool(data.human[row]) for row in used)
        return [f"{plural(marked, 'text')} with human spans"] if marked < SMALL_CLASS else []
    return []
