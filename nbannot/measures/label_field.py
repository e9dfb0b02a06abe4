"""The numbers of a checkbox, dropdown or likert field: strict headline, answered-only, conditional views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.measures.accounting import (
    MISSING_COLUMNS,
    Account,
    FieldData,
    account,
    confusion_table,
    table_cells,
    units_of,
)
from nbannot.measures.classification import LabelCounts
from nbannot.measures.intervals import ANY_RANGE, SMALL_CLASS, UNIT_RANGE, Intervals, Settings
from nbannot.measures.label_metrics import (
    end_to_end_cells,
    end_to_end_tables,
    from_cells,
    from_tables,
    label_values,
)
from nbannot.measures.label_report import class_rows, notes_of, small_classes
from nbannot.measures.observed import FULL_TABLE_UP_TO
from nbannot.measures.resample import FEW_UNITS, sample_cells, sample_observed
from nbannot.measures.result import NAN, BoolArray, FieldScore, FloatArray, IntArray, Result

LABEL_NAMES = (
    *("accuracy", "precision_macro", "recall_macro", "f1_macro", "percentage_agreement", "cohen_kappa"),
    *("krippendorff_alpha", "f1_weighted", "balanced_accuracy", "mcc", "gwet_ac1", "coverage"),
    *("invalid_rate", "baseline_accuracy", "baseline_f1_macro"),
)
LIKERT_NAMES = (
    *LABEL_NAMES[:7],
    *("spearman_corr", "quadratic_kappa"),
    *LABEL_NAMES[7:],
    *("mae", "bias", "within_one"),
)
"""The metrics of the outputs contract, in its order: the older names first, then ours."""

MACRO = ("precision_macro", "recall_macro", "f1_macro", "balanced_accuracy", "baseline_f1_macro")
SHARES = (
    "accuracy",
    "percentage_agreement",
    "coverage",
    "invalid_rate",
    "missed_gate_rate",
    "baseline_accuracy",
)
ANSWERED_ONLY = ("krippendorff_alpha", "spearman_corr", "quadratic_kappa", "mae", "bias", "within_one")
UNBOUNDED = ("mae", "bias", "mae_worst_case")
SIGNED = ("kappa", "alpha", "mcc", "ac1", "spearman", "kendall", "pabak")
"""Parts of the names of metrics that may fall below 0."""
LOW_COVERAGE = 0.98
"""Below this a scale gets the worst case as well: every missing answer as wrong as it can be."""
MANY_CLASSES = 200
"""With more labels, the rows of classes too small to estimate are not resampled: they would be nearly all of them."""


def score_labels(data: FieldData, settings: Settings) -> FieldScore:
    """Return all numbers of a checkbox, dropdown or likert field."""
    rows = account(data)
    headline, classes = _headline(data, rows, settings)
    counts = _counts(data, rows)
    small = small_classes(data, rows)
    warning = f"interval unreliable: {'; '.join(small)}" if small else ""
    names = LIKERT_NAMES if data.type == "likert" else LABEL_NAMES
    results = {name: _result(headline, name, counts, data.labels, warning) for name in names}
    return FieldScore(
        results=results,
        extra=_extra(data, rows, headline, counts, settings),
        per_class=list(class_rows(data, headline, counts, rows, classes)),
        counts=rows.counts,
        missing_by_reason=rows.missing_by_reason,
        confusion=confusion_table(rows, len(data.labels)),
        notes=notes_of(data, rows, counts, headline, small),
        conventions=headline.blank.conventions,
        signature={"labels": [str(label) for label in data.labels]},
    )


def _headline(data: FieldData, rows: Account, settings: Settings) -> tuple[Intervals, IntArray]:
    """Return the intervals of everything that is computed on the rows where the human says it applies.

    With them, the labels whose precision, recall and F1 they hold, in this order.
    """
    used = rows.reference
    k = len(data.labels)
    places = table_cells(rows, k)[used]
    values = label_values(data.labels) if data.type == "likert" else None
    support = np.bincount(rows.human[used], minlength=k)
    classes = np.flatnonzero(support >= (SMALL_CLASS if k > MANY_CLASSES else 0))
    if k <= FULL_TABLE_UP_TO:
        sample = sample_cells(places, k * (k + MISSING_COLUMNS), *units_of(data, used), settings.seed)
        evaluate = from_tables(k, values)
    else:
        sample, observed = sample_observed(places, *units_of(data, used), settings.seed)
        evaluate = from_cells(observed, k, values, classes)
    blank = Result(
        NAN,
        n=int(used.sum()),
        n_answered=rows.counts["scored"],
        labels_used=tuple(str(label) for label in data.labels),
    )
    bare = Intervals(sample, evaluate, settings, blank)
    used_labels = int(np.count_nonzero(support))
    parts = [
        "strict (missing=error)",
        f"macro over {used_labels}/{k} codebook classes with human labels",
        f"alpha {'ordinal' if values is not None else 'nominal'}, answered rows",
        *(["rank and distance metrics: answered rows, full scale"] if values is not None else []),
        bare.line(),
    ]
    return Intervals(sample, evaluate, settings, replace(blank, conventions=" · ".join(parts))), classes


def _counts(data: FieldData, rows: Account) -> LabelCounts:
    """Return the (K,) counts of the rows of the headline, weighted if they have weights."""
    used = rows.reference
    weights = units_of(data, used)[1]
    human, model = rows.human[used].astype(np.int64), rows.model[used].astype(np.int64)

    def by_label(labels: IntArray, where: BoolArray) -> FloatArray:
        of_row = None if weights is None else weights[where]
        return np.bincount(labels[where], of_row, minlength=len(data.labels)).astype(float)

    every = np.ones(len(human), dtype=bool)
    return LabelCounts(
        tp=by_label(human, human == model),
        row=by_label(human, every),
        col=by_label(model, model >= 0),
        miss=by_label(human, model < 0),
    )


def _result(
    intervals: Intervals, name: str, counts: LabelCounts, labels: tuple[Any, ...], warning: str = ""
) -> Result:
    """Return one number of the headline rows with the interval that its kind gets."""
    answered_only = name in ANSWERED_ONLY or name.endswith("_answered")
    n, n_answered = intervals.blank.n, intervals.blank.n_answered
    proportion_of = None
    if name in SHARES:
        proportion_of = n
    elif name in ("within_one", "accuracy_answered"):
        proportion_of = n_answered
    macro = name in MACRO or name.startswith("f1_macro")
    warning = warning if macro and name != "baseline_f1_macro" else ""
    if (
        answered_only
        and proportion_of is None
        and "alpha" not in name
        and 0 < n_answered < min(n, SMALL_CLASS)
    ):
        few = f"interval unreliable: only {n_answered} of {n} texts answered"
        warning = "; ".join(filter(None, (few, warning)))
    supported = tuple(str(label) for label, n_k in zip(labels, counts.row, strict=True) if n_k > 0)
    return intervals.result(
        name,
        proportion_of=proportion_of,
        bounds=_bounds(name),
        if_undefined=_why_undefined(n, n_answered, answered_only, len(labels)),
        warning=warning,
        jackknife_below=FEW_UNITS if "alpha" in name else 0,
        labels_used=supported if macro else None,
    )


def _bounds(name: str) -> tuple[float, float]:
    if name in UNBOUNDED:
        return ANY_RANGE
    return (-1.0, 1.0) if any(part in name for part in SIGNED) else UNIT_RANGE


def _why_undefined(n: int, n_answered: int, answered_only: bool, n_labels: int) -> str:
    if n == 0:
        return "no human labels"
    if answered_only and n_answered == 0:
        return "no answer"
    return "only one label in the codebook" if n_labels == 1 else "no variation"


def _extra(
    data: FieldData, rows: Account, headline: Intervals, counts: LabelCounts, settings: Settings
) -> dict[str, Result]:
    """Return the numbers beside the contract: answered-only, sensitivity, conditional views, worst case."""
    names = ["f1_micro", "pabak", "accuracy_answered", "f1_macro_answered", "cohen_kappa_answered"]
    names.append("gwet_ac1_answered")
    if data.type == "likert":
        names += ["alpha_nominal", "alpha_interval", "kendall_tau_b", "linear_kappa"]
        if float(headline.values["coverage"]) < LOW_COVERAGE:
            names += ["mae_worst_case", "within_one_worst_case", "quadratic_kappa_worst_case"]
            names.append("spearman_worst_case")
    conditional = any(rows.counts[name] for name in ("na_na", "missed_gate", "spurious"))
    if conditional:
        names.append("missed_gate_rate")
    results = {name: _result(headline, name, counts, data.labels) for name in names}
    if not conditional:
        return results
    return results | _given_both(headline, rows) | _end_to_end(data, rows, headline.blank, settings)


def _given_both(headline: Intervals, rows: Account) -> dict[str, Result]:
    """Return the numbers over the rows where the human and the model say that the field applies."""
    n = rows.counts["scored"] + rows.counts["missing"] - rows.counts["missing_gate"]
    line = "rows where the human and the model say that it applies"
    both = replace(headline, blank=replace(headline.blank, n=n, conventions=line))
    return {
        name: both.result(
            name,
            proportion_of=n if name == "accuracy_given_both" else None,
            bounds=_bounds(name),
            if_undefined="no variation" if n else "no text where people and model say that it applies",
        )
        for name in ("accuracy_given_both", "f1_macro_given_both", "cohen_kappa_given_both")
    }


def _end_to_end(data: FieldData, rows: Account, blank: Result, settings: Settings) -> dict[str, Result]:
    """Return the field with "does not apply" as a value, and the gate itself, over all coded rows."""
    k = len(data.labels)
    cells = table_cells(rows, k)
    used = cells >= 0
    if k <= FULL_TABLE_UP_TO:
        width = (k + 1) * (k + MISSING_COLUMNS)
        sample = sample_cells(cells[used], width, *units_of(data, used), settings.seed)
        evaluate = end_to_end_tables(k)
    else:
        sample, observed = sample_observed(cells[used], *units_of(data, used), settings.seed)
        evaluate = end_to_end_cells(observed, k)
    c = rows.counts
    n = int(used.sum())
    line = "over all coded rows, 'does not apply' is a value"
    with_value = c["scored"] + c["na_na"] + c["missed_gate"] + c["spurious"] - c["spurious_unanswered"]
    own = replace(blank, n=n, n_answered=with_value, conventions=line)
    views = Intervals(sample, evaluate, settings, own)
    shares = ("accuracy_end_to_end", "gate_accuracy")
    return {
        name: views.result(
            name,
            proportion_of=n if name in shares else None,
            bounds=_bounds(name),
            if_undefined="no human labels" if not n else "no variation",
        )
        for name in views.values
    }
