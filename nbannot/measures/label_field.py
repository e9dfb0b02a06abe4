"""The numbers of a checkbox, dropdown or likert field: strict headline, answered-only, conditional views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.measures import classification as cls
from nbannot.measures import ordinal
from nbannot.measures.accounting import (
    MISSING_COLUMNS,
    Account,
    FieldData,
    account,
    count_table,
    table_cells,
    units_of,
)
from nbannot.measures.classification import LABEL_METRICS, LabelCounts, label_counts
from nbannot.measures.intervals import ANY_RANGE, UNIT_RANGE, Intervals, Settings
from nbannot.measures.label_report import class_rows, notes_of, small_classes
from nbannot.measures.resample import sample_cells
from nbannot.measures.result import NAN, FieldScore, FloatArray, Result

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
FEW_UNITS = 50
"""Alpha gets a jackknife interval below this number of texts."""
LOW_COVERAGE = 0.98


def score_labels(data: FieldData, settings: Settings) -> FieldScore:
    """Return all numbers of a checkbox, dropdown or likert field."""
    rows = account(data)
    k = len(data.labels)
    headline = _headline(data, rows, settings)
    table = headline.sample.totals().reshape(k, k + MISSING_COLUMNS)
    counts = label_counts(_strict(table))
    small = small_classes(data, rows)
    warning = f"interval unreliable: {'; '.join(small)}" if small else ""
    names = LIKERT_NAMES if data.type == "likert" else LABEL_NAMES
    results = {name: _result(headline, name, counts, data.labels, warning) for name in names}
    return FieldScore(
        results=results,
        extra=_extra(data, rows, headline, counts, settings),
        per_class=list(class_rows(data, headline, rows)),
        counts=rows.counts,
        missing_by_reason=rows.missing_by_reason,
        confusion=_confusion(data, rows),
        notes=notes_of(data, rows, counts, headline, small),
        conventions=headline.blank.conventions,
        signature={"labels": [str(label) for label in data.labels]},
    )


def label_values(labels: tuple[Any, ...]) -> FloatArray:
    """Return the scale points of a likert field as numbers."""
    return np.array([float(label) for label in labels])


def ordinal_metrics(tables: FloatArray, values: FloatArray) -> dict[str, FloatArray]:
    """Return the Likert metrics of (..., K, K) tables of answered rows, by their name on disk."""
    return {
        "krippendorff_alpha": ordinal.alpha_ordinal(tables),
        "spearman_corr": ordinal.spearman(tables),
        "quadratic_kappa": ordinal.quadratic_kappa(tables, values),
        "mae": ordinal.mean_absolute_error(tables, values),
        "bias": ordinal.bias(tables, values),
        "within_one": ordinal.within_one(tables, values),
    }


def _strict(tables: FloatArray) -> FloatArray:
    """Return (..., K, K+1) tables: all reasons for having no answer in one column."""
    missing = tables[..., -MISSING_COLUMNS:].sum(-1, keepdims=True)
    return np.concatenate([tables[..., :-MISSING_COLUMNS], missing], axis=-1)


def _headline(data: FieldData, rows: Account, settings: Settings) -> Intervals:
    """Return the intervals of everything that is computed on the rows where the human says it applies."""
    used = rows.reference
    k = len(data.labels)
    sample = sample_cells(
        table_cells(rows, k)[used],
        k * (k + MISSING_COLUMNS),
        *units_of(data, used),
        settings.seed,
    )
    values = label_values(data.labels) if data.type == "likert" else None

    def evaluate(totals: FloatArray) -> Mapping[str, FloatArray]:
        return _evaluate(totals.reshape(-1, k, k + MISSING_COLUMNS), values)

    blank = Result(
        NAN,
        n=int(used.sum()),
        n_answered=rows.counts["scored"],
        labels_used=tuple(str(label) for label in data.labels),
    )
    bare = Intervals(sample, evaluate, settings, blank)
    used_labels = int(np.count_nonzero(np.bincount(rows.human[used], minlength=k)))
    parts = [
        "strict (missing=error)",
        f"macro over {used_labels}/{k} codebook classes with human labels",
        f"alpha {'ordinal' if values is not None else 'nominal'}, answered rows",
        *(["rank and distance metrics: answered rows, full scale"] if values is not None else []),
        *(["weighted by 1/π"] if data.weights is not None else []),
        bare.line(),
    ]
    return Intervals(sample, evaluate, settings, replace(blank, conventions=" · ".join(parts)))


def _evaluate(tables: FloatArray, values: FloatArray | None) -> dict[str, FloatArray]:
    """Return every metric of (b, K, K+3) tables; their last columns: missing, gate closed, gate unanswered."""
    strict = label_counts(_strict(tables))
    answered, both = strict.answered(), label_counts(tables[..., :-2])
    found = {name: metric(strict) for name, metric in LABEL_METRICS.items()}
    found |= {
        "invalid_rate": cls.ratio(tables[..., [-3, -1]].sum((-2, -1)), strict.n),
        "f1_per_class": cls.f1_per_class(strict),
        "precision_per_class": cls.precision_per_class(strict),
        "recall_per_class": cls.recall_per_class(strict),
        "f1_micro": cls.f1_micro(strict),
        "pabak": cls.pabak(strict),
        "accuracy_answered": cls.accuracy(answered),
        "f1_macro_answered": cls.f1_macro(answered),
        "cohen_kappa_answered": cls.cohen_kappa(answered),
        "gwet_ac1_answered": cls.gwet_ac1(answered),
        "accuracy_given_both": cls.accuracy(both),
        "f1_macro_given_both": cls.f1_macro(both),
        "cohen_kappa_given_both": cls.cohen_kappa(both),
        "missed_gate_rate": cls.ratio(tables[..., -2].sum(-1), strict.n),
    }
    if values is not None:
        squares = tables[..., :-MISSING_COLUMNS]
        worst = ordinal.farthest_imputed(_strict(tables), values)
        found |= {
            "alpha_nominal": found["krippendorff_alpha"],
            **ordinal_metrics(squares, values),
            "alpha_interval": ordinal.alpha_interval(squares, values),
            "kendall_tau_b": ordinal.kendall_tau_b(squares),
            "linear_kappa": ordinal.linear_kappa(squares, values),
            "mae_worst_case": ordinal.mean_absolute_error(worst, values),
            "within_one_worst_case": ordinal.within_one(worst, values),
            "quadratic_kappa_worst_case": ordinal.quadratic_kappa(worst, values),
            "spearman_worst_case": ordinal.spearman(worst),
        }
    return found


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
    supported = tuple(str(label) for label, n_k in zip(labels, counts.row, strict=True) if n_k > 0)
    return intervals.result(
        name,
        proportion_of=proportion_of,
        bounds=_bounds(name),
        if_undefined=_why_undefined(n, n_answered, answered_only, len(labels)),
        warning=warning if macro and name != "baseline_f1_macro" else "",
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
    found = {name: _result(headline, name, counts, data.labels) for name in names}
    if not conditional:
        return found
    return found | _given_both(headline, rows) | _end_to_end(data, rows, headline.blank, settings)


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
    sample = sample_cells(
        cells[used],
        (k + 1) * (k + MISSING_COLUMNS),
        *units_of(data, used),
        settings.seed,
    )

    def evaluate(totals: FloatArray) -> Mapping[str, FloatArray]:
        tables = totals.reshape(-1, k + 1, k + MISSING_COLUMNS)
        unanswered = tables[..., [k, k + 2]].sum(-1, keepdims=True)
        na_last = np.concatenate([tables[..., :k], tables[..., k + 1 : k + 2], unanswered], axis=-1)
        whole = label_counts(na_last)
        gate = label_counts(_gate_tables(tables, k))
        return {
            "accuracy_end_to_end": cls.accuracy(whole),
            "f1_macro_end_to_end": cls.f1_macro(LabelCounts(*(part[..., :k] for part in whole))),
            "f1_macro_end_to_end_with_na": cls.f1_macro(whole),
            "cohen_kappa_end_to_end": cls.cohen_kappa(whole),
            "gate_accuracy": cls.accuracy(gate),
            "gate_f1": cls.f1_per_class(gate)[..., 0],
            "gate_f1_macro": cls.f1_macro(gate),
            "gate_kappa": cls.cohen_kappa(gate),
        }

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


def _gate_tables(tables: FloatArray, k: int) -> FloatArray:
    """Return (..., 2, 3) tables of "applies": human rows; model columns, the last one without a valid answer."""
    model = np.stack([tables[..., : k + 1].sum(-1), tables[..., k + 1], tables[..., k + 2]], axis=-1)
    return np.stack([model[..., :k, :].sum(-2), model[..., k, :]], axis=-2)


def _confusion(data: FieldData, rows: Account) -> FloatArray:
    """Return the (K+1, K+1) counts of rows, without weights."""
    return _strict(count_table(rows, len(data.labels))).astype(np.int64)
