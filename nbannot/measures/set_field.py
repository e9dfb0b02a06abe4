"""The numbers of a multiselect field: sets of options per text, pooled per option, with intervals that resample texts.

Strict, as everywhere: no valid answer misses every option that people chose, and shares no set with them. It is no
empty set: where people chose nothing, a model that did not answer is wrong too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.errors import ScoringError, listed
from nbannot.measures.accounting import MISSING, Account, FieldData, account, units_of
from nbannot.measures.classification import (
    LabelCounts,
    f1_per_class,
    precision_per_class,
    ratio,
    recall_per_class,
    supported_mean,
)
from nbannot.measures.intervals import SMALL_CLASS, Intervals, Settings, class_row
from nbannot.measures.resample import FEW_UNITS, sample_rows
from nbannot.measures.result import NAN, BoolArray, FieldScore, FloatArray, Result
from nbannot.measures.set_distances import SetValues, alpha_of, distinct_sets, jaccard_distance, masi_distance

SET_NAMES = (
    *("f1_macro", "f1_micro", "precision_macro", "recall_macro", "precision_micro", "recall_micro"),
    *("jaccard", "percentage_agreement", "hamming_loss"),
    *("krippendorff_alpha", "alpha_jaccard", "both_empty_share"),
    *("coverage", "invalid_rate", "baseline_f1_macro", "baseline_accuracy"),
)
"""The metrics of a multiselect in the tables, in this order."""
SET_SHARES = ("percentage_agreement", "both_empty_share", "coverage", "invalid_rate", "baseline_accuracy")
SET_MACRO = ("f1_macro", "precision_macro", "recall_macro")
ANSWERED_SETS = ("krippendorff_alpha", "alpha_jaccard")
ROW_NAMES = ("n", "answered", "missing", "equal", "jaccard", "hamming", "both_empty", "equal_answered",
             "jaccard_answered", "commonest", "empty_human", "empty_model")  # fmt: skip
"""The additive statistics of a row, before those of each option."""
DISTANCES = {"krippendorff_alpha": masi_distance, "alpha_jaccard": jaccard_distance}


def score_sets(data: FieldData, settings: Settings) -> FieldScore:
    """Return all numbers of a multiselect field."""
    rows = account(data)
    k, used = len(data.labels), rows.reference
    stats, sets = row_statistics(data, rows)
    sample = sample_rows(stats, *units_of(data, used), settings.seed)
    n, n_answered = int(used.sum()), rows.counts["scored"]
    labels = tuple(str(label) for label in data.labels)
    bare = Intervals(
        sample,
        lambda totals: evaluate(totals, k, sets),
        settings,
        Result(NAN, n=n, n_answered=n_answered, labels_used=labels),
    )
    chosen = [stats[:, len(ROW_NAMES) + i * k :][:, :k] for i in (1, 2)]
    support, predicted = (side.sum(0).astype(int) for side in chosen)
    weights = units_of(data, used)[1]
    weighted = None if weights is None else (weights @ chosen[0], weights @ chosen[1], float(weights.sum()))
    supported = int((support > 0).sum())
    conventions = [
        "strict (missing=every option of people missed, no set shared)",
        f"macro over {supported}/{k} options that people chose",
        "two empty sets agree (Jaccard 1)",
        "percentage agreement: the very same set",
        "alpha with MASI or Jaccard distance, answered rows",
        bare.line(),
    ]
    intervals = replace(bare, blank=replace(bare.blank, conventions=" · ".join(conventions)))
    small = [
        f"option {label} has n={s}" for label, s in zip(labels, support, strict=True) if 0 < s < SMALL_CLASS
    ]
    warning = f"interval unreliable: {'; '.join(small)}" if small else ""
    of_label = tuple(label for label, s in zip(labels, support, strict=True) if s)
    counts = rows.counts | _more_counts(stats)
    return FieldScore(
        results={name: _result(intervals, name, warning, of_label) for name in SET_NAMES},
        extra={
            name: _result(intervals, name, warning if "macro" in name else "", of_label)
            for name in ("f1_macro_answered", "jaccard_answered", "accuracy_answered")
        },
        per_class=_per_option(data, intervals, support, predicted, weighted),
        counts=counts,
        missing_by_reason=rows.missing_by_reason,
        confusion=None,
        notes=_notes(counts, n, small, intervals),
        conventions=intervals.blank.conventions,
        signature={"labels": list(labels)},
    )


def row_statistics(data: FieldData, rows: Account) -> tuple[FloatArray, SetValues]:
    """Return per reference row the additive statistics, and the distinct sets that the answered rows hold.

    The columns are those of `ROW_NAMES`, then per option: chosen by both, by people, by the model (wherever it
    answered), by people where the model answered; then how often the answered row holds each distinct set, and the
    distance of its two sets by each rule.
    """
    used = np.flatnonzero(rows.reference).tolist()
    answered = rows.model[rows.reference] >= 0
    people = [data.human[row] for row in used]
    model = [data.model[row] if ok else () for row, ok in zip(used, answered.tolist(), strict=True)]
    _refuse_strangers(people, data.labels, used)
    h, m = (_indicators(side, data.labels) for side in (people, model))
    yes = answered.astype(float)
    union, shared = np.maximum(h, m).sum(1), (h * m).sum(1)
    jaccard = np.where(union > 0, shared / np.maximum(union, 1), 1.0) * yes
    wrong = np.abs(h - m).mean(1) if len(data.labels) else np.zeros(len(h))
    equal = (wrong == 0) * yes
    counted: Counter[frozenset[Any]] = Counter()
    weights = units_of(data, rows.reference)[1]
    for one, weight in zip(people, np.ones(len(people)) if weights is None else weights, strict=True):
        counted[frozenset(one)] += weight
    first = max(counted, key=lambda one: counted[one], default=frozenset())
    none_human, none_model = h.sum(1) == 0, m.sum(1) == 0
    invalid, losses = rows.status[rows.reference] == MISSING, np.where(answered, wrong, 1.0)
    neither = none_human & none_model & answered
    per_row = [np.ones(len(h)), yes, invalid, equal, jaccard, losses, neither, equal, jaccard,
               [frozenset(one) == first for one in people], none_human, none_model & answered]  # fmt: skip
    pairs = [
        (frozenset(a), frozenset(b)) if ok else ()
        for a, b, ok in zip(people, model, answered.tolist(), strict=True)
    ]
    sets, of_sets = distinct_sets(pairs, tuple(DISTANCES.values()))
    columns = np.column_stack([np.asarray(column, dtype=float) for column in per_row])
    return np.hstack([columns, h * m, h, m, h * yes[:, None], of_sets]), sets


def evaluate(totals: FloatArray, k: int, sets: SetValues) -> Mapping[str, FloatArray]:
    """Return every metric of a multiselect of (..., d) totals."""
    column = {name: totals[..., i] for i, name in enumerate(ROW_NAMES)}
    first = len(ROW_NAMES)
    tp, human, model, human_answered = (totals[..., first + i * k : first + (i + 1) * k] for i in range(4))
    counts, answered = _counts(tp, human, model), _counts(tp, human_answered, model)
    f1, precision, recall = f1_per_class(counts), precision_per_class(counts), recall_per_class(counts)
    hits = tp.sum(-1)
    n = column["n"]
    everything = ratio(2 * human, human + n[..., None])
    return {
        "f1_macro": supported_mean(f1, human),
        "f1_micro": ratio(2 * hits, human.sum(-1) + model.sum(-1)),
        "precision_macro": supported_mean(np.nan_to_num(precision), human),
        "recall_macro": supported_mean(recall, human),
        "precision_micro": ratio(hits, model.sum(-1)),
        "recall_micro": ratio(hits, human.sum(-1)),
        "jaccard": ratio(column["jaccard"], n),
        "percentage_agreement": ratio(column["equal"], n),
        "hamming_loss": ratio(column["hamming"], n),
        "both_empty_share": ratio(column["both_empty"], n),
        "coverage": ratio(column["answered"], n),
        "invalid_rate": ratio(column["missing"], n),
        "baseline_f1_macro": supported_mean(everything, human),
        "baseline_accuracy": ratio(column["commonest"], n),
        "f1_macro_answered": supported_mean(f1_per_class(answered), human_answered),
        "jaccard_answered": ratio(column["jaccard_answered"], column["answered"]),
        "accuracy_answered": ratio(column["equal_answered"], column["answered"]),
        "option_f1": f1,
        "option_precision": precision,
        "option_recall": recall,
        **dict(zip(DISTANCES, alpha_of(totals[..., first + 4 * k :], sets), strict=False)),
    }


def _counts(tp: FloatArray, human: FloatArray, model: FloatArray) -> LabelCounts:
    return LabelCounts(tp, human, model, np.zeros_like(tp))


def _indicators(rows: Sequence[Collection[Any]], labels: Sequence[Any]) -> FloatArray:
    """Return (n, K) 1 where a row holds a label."""
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(rows), len(labels)))
    for i, row in enumerate(rows):
        for label in row:
            table[i, place[label]] = 1.0
    return table


def _refuse_strangers(people: Sequence[Collection[Any]], labels: Sequence[Any], rows: Sequence[int]) -> None:
    strangers = Counter(repr(label) for row in people for label in row if label not in labels)
    if strangers:
        where = [row for row, one in zip(rows, people, strict=True) if set(one) - set(labels)]
        raise ScoringError(
            f"{sum(strangers.values())} human labels are not in the codebook: {listed(strangers)}.\n"
            f"  rows: {listed(where)}; the codebook has {listed(map(repr, labels))}\n"
            "  Correct the labels or the codebook, or blank these labels to treat them as not coded."
        )


def _result(intervals: Intervals, name: str, warning: str, of_label: tuple[str, ...]) -> Result:
    n, n_answered = intervals.blank.n, intervals.blank.n_answered
    answered_only = name in ANSWERED_SETS or name.endswith("_answered")
    reason = "no variation"
    if n == 0:
        reason = "no human labels"
    elif answered_only and n_answered == 0:
        reason = "no answer"
    elif name in ANSWERED_SETS:
        reason = "no variation"
    elif "precision" in name:
        reason = "the model chose no option"
    elif "macro" in name or "recall" in name:
        reason = "people chose no option in any text"
    elif name == "f1_micro":
        reason = "no option chosen on either side"
    proportion_of = n if name in SET_SHARES else n_answered if name == "accuracy_answered" else None
    macro = name in SET_MACRO or name.startswith("f1_macro")
    return intervals.result(
        name,
        proportion_of=proportion_of,
        bounds=(-1.0, 1.0) if name in ANSWERED_SETS else (0.0, 1.0),
        if_undefined=reason,
        warning=warning if macro else "",
        jackknife_below=FEW_UNITS if name in ANSWERED_SETS else 0,
        labels_used=of_label if macro else None,
    )


def _per_option(
    data: FieldData,
    intervals: Intervals,
    support: Any,
    predicted: Any,
    weighted: tuple[FloatArray, FloatArray, float] | None,
) -> list[dict[str, Any]]:
    """Return per option precision, recall and F1 as a yes-or-no label; support and predicted count texts."""
    never = {"precision": "never predicted", "recall": "no human instance", "f1": "never used"}
    rows = []
    for index, label in enumerate(data.labels):
        counts = {"precision": int(predicted[index]), "recall": int(support[index])}
        parts = {
            name: intervals.result(
                f"option_{name}", index, proportion_of=counts.get(name), if_undefined=never[name]
            )
            for name in never
        }
        row = class_row(label, parts, counts["recall"], counts["precision"])
        if weighted is not None:
            row["weights"] = float(weighted[0][index]), float(weighted[1][index]), weighted[2]
        rows.append(row)
    return rows


def _more_counts(stats: FloatArray) -> dict[str, int]:
    column = {name: stats[:, i] for i, name in enumerate(ROW_NAMES)}
    chose, answered = column["empty_human"] == 0, column["answered"] == 1
    some: BoolArray = answered & (column["empty_model"] == 0)
    return {
        "both_empty": int(column["both_empty"].sum()),
        "human_only": int((chose & answered & ~some).sum()),
        "model_only": int((~chose & some).sum()),
        "both": int((chose & some).sum()),
        "unanswered": int((~answered).sum()),
    }


def _notes(counts: Mapping[str, int], n: int, small: Sequence[str], intervals: Intervals) -> list[str]:
    notes = [
        "f1_macro is the headline (every option that people chose counts the same); f1_micro counts every choice the "
        "same; jaccard and percentage_agreement (the very same options) look at whole texts."
    ]
    if n and counts["both_empty"]:
        notes.append(
            f"In {counts['both_empty'] / n:.0%} of the texts neither side chose an option: Jaccard and percentage "
            "agreement count them as right, F1 leaves them out."
        )
    if small:
        notes.append(f"Intervals unreliable: {listed(small, 6)}.")
    if intervals.few_units:
        notes.append(f"{intervals.few_units.capitalize()}.")
    return notes
