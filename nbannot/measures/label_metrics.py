"""Every metric of a label field from its counts: from full tables, or from the observed cells of a long codebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbannot.measures import classification as cls
from nbannot.measures import ordinal
from nbannot.measures.accounting import MISSING_COLUMNS
from nbannot.measures.classification import LABEL_METRICS, LabelCounts, label_counts
from nbannot.measures.observed import Cells, CellTable
from nbannot.measures.ordinal import Tables
from nbannot.measures.resample import Evaluate
from nbannot.measures.result import FloatArray, IntArray


def label_values(labels: tuple[Any, ...]) -> FloatArray:
    """Return the scale points of a likert field as numbers."""
    return np.array([float(label) for label in labels])


def strict_tables(tables: FloatArray) -> FloatArray:
    """Return (..., K, K+1) tables: all reasons for having no answer in one column."""
    missing = tables[..., -MISSING_COLUMNS:].sum(-1, keepdims=True)
    return np.concatenate([tables[..., :-MISSING_COLUMNS], missing], axis=-1)


def from_tables(k: int, values: FloatArray | None) -> Evaluate:
    """Return what computes every metric of flat (b, K * (K+3)) tables.

    The last columns of a table: missing, gate closed, gate unanswered.
    """

    def evaluate(totals: FloatArray) -> dict[str, FloatArray]:
        tables = totals.reshape(-1, k, k + MISSING_COLUMNS)
        strict = strict_tables(tables)
        statistics = _of_labels(label_counts(strict), label_counts(tables[..., :-2]), k)
        statistics |= _of_classes(label_counts(strict))
        statistics |= _of_gates(
            tables[..., [-3, -1]].sum((-2, -1)), tables[..., -2].sum(-1), tables.sum((-2, -1))
        )
        if values is not None:
            worst = ordinal.farthest_imputed(strict, values)
            statistics |= _of_scale(statistics, tables[..., :-MISSING_COLUMNS], worst, values)
        return statistics

    return evaluate


def from_cells(places: IntArray, k: int, values: FloatArray | None, classes: IntArray) -> Evaluate:
    """Return what computes the same metrics of (b, c) counts of the cells at these places of the flat table.

    Parameters
    ----------
    classes : positions of the labels whose precision, recall and F1 are computed, in this order.
    """
    human, column = np.divmod(places, k + MISSING_COLUMNS)
    model = np.where(column < k, column, -1)
    answered, no_gate = np.flatnonzero(column < k), np.flatnonzero(column <= k)
    strict_cells = Cells(human, model, also=np.append(classes, 0))
    both_cells = None if len(no_gate) == len(column) else Cells(human[no_gate], model[no_gate])
    of_class = np.searchsorted(strict_cells.labels, classes)
    invalid, closed = ((column == k) | (column == k + 2)).astype(float), (column == k + 1).astype(float)
    scored_cells = Cells(human[answered], model[answered])
    worst_cells = scored_cells
    if values is not None and len(answered) < len(column):
        low_end = values - values[0] > values[-1] - values
        worst_cells = Cells(human, np.where(column < k, column, np.where(low_end[human], 0, k - 1)))

    def evaluate(counts: FloatArray) -> dict[str, FloatArray]:
        strict = strict_cells.label_counts(counts)
        both = strict if both_cells is None else both_cells.label_counts(counts[:, no_gate])
        statistics = _of_labels(strict, both, k)
        statistics |= _of_classes(LabelCounts(*(part[:, of_class] for part in strict)))
        statistics |= _of_gates(counts @ invalid, counts @ closed, strict.n)
        if values is not None:
            scored = CellTable(scored_cells, counts[:, answered])
            worst = scored if worst_cells is scored_cells else CellTable(worst_cells, counts)
            statistics |= _of_scale(statistics, scored, worst, values)
        return statistics

    return evaluate


def end_to_end_tables(k: int) -> Evaluate:
    """Return what computes the metrics with "does not apply" as a value of flat (b, (K+1) * (K+3)) tables."""

    def evaluate(totals: FloatArray) -> dict[str, FloatArray]:
        tables = totals.reshape(-1, k + 1, k + MISSING_COLUMNS)
        unanswered = tables[..., [k, k + 2]].sum(-1, keepdims=True)
        whole = label_counts(
            np.concatenate([tables[..., :k], tables[..., k + 1 : k + 2], unanswered], axis=-1)
        )
        model = np.stack([tables[..., : k + 1].sum(-1), tables[..., k + 1], tables[..., k + 2]], axis=-1)
        gate = np.stack([model[..., :k, :].sum(-2), model[..., k, :]], axis=-2)
        return _of_the_whole(whole, np.arange(k + 1) < k, gate)

    return evaluate


def end_to_end_cells(places: IntArray, k: int) -> Evaluate:
    """Return what computes the same of (b, c) counts of the cells at these places of the flat table."""
    human, column = np.divmod(places, k + MISSING_COLUMNS)
    cells = Cells(human, np.where(column < k, column, np.where(column == k + 1, k, -1)))
    kind = np.where(human < k, 0, 3) + np.where(column <= k, 0, column - k)

    def evaluate(counts: FloatArray) -> dict[str, FloatArray]:
        gate = (counts @ np.eye(6)[kind]).reshape(-1, 2, 3)
        return _of_the_whole(cells.label_counts(counts), cells.labels < k, gate)

    return evaluate


def _of_labels(strict: LabelCounts, both: LabelCounts, k: int) -> dict[str, FloatArray]:
    made = {metric: metric(strict) for metric in set(LABEL_METRICS.values()) - {cls.gwet_ac1}}
    made[cls.gwet_ac1] = cls.gwet_ac1(strict, k)
    answered = strict.answered()
    values = {
        **{name: made[metric] for name, metric in LABEL_METRICS.items()},
        "f1_micro": cls.f1_micro(strict),
        "pabak": cls.pabak(strict, k),
        "accuracy_answered": cls.accuracy(answered),
        "f1_macro_answered": cls.f1_macro(answered),
        "cohen_kappa_answered": cls.cohen_kappa(answered),
        "gwet_ac1_answered": cls.gwet_ac1(answered, k),
    }
    same = both is strict
    return values | {
        f"{name}_given_both": values[name] if same else LABEL_METRICS[name](both)
        for name in ("accuracy", "f1_macro", "cohen_kappa")
    }


def _of_classes(strict: LabelCounts) -> dict[str, FloatArray]:
    return {
        "f1_per_class": cls.f1_per_class(strict),
        "precision_per_class": cls.precision_per_class(strict),
        "recall_per_class": cls.recall_per_class(strict),
    }


def _of_gates(invalid: FloatArray, closed: FloatArray, n: FloatArray) -> dict[str, FloatArray]:
    return {"invalid_rate": cls.ratio(invalid, n), "missed_gate_rate": cls.ratio(closed, n)}


def _of_scale(
    statistics: dict[str, FloatArray], scored: Tables, worst: Tables, values: FloatArray
) -> dict[str, FloatArray]:
    """Return the Likert metrics of the answered rows, and with every missing answer as far off as can be."""
    of_points: dict[str, Callable[[Tables, FloatArray], FloatArray]] = {
        "quadratic_kappa": ordinal.quadratic_kappa,
        "mae": ordinal.mean_absolute_error,
        "within_one": ordinal.within_one,
    }
    scale = {name: metric(scored, values) for name, metric in of_points.items()}
    scale["spearman_corr"] = ordinal.spearman(scored)
    far = scale
    if worst is not scored:
        far = {name: metric(worst, values) for name, metric in of_points.items()}
        far["spearman_corr"] = ordinal.spearman(worst)
    return {
        "alpha_nominal": statistics["krippendorff_alpha"],
        "krippendorff_alpha": ordinal.alpha_ordinal(scored),
        "bias": ordinal.bias(scored, values),
        **scale,
        "alpha_interval": ordinal.alpha_interval(scored, values),
        "kendall_tau_b": ordinal.kendall_tau_b(scored),
        "linear_kappa": ordinal.linear_kappa(scored, values),
        **{f"{name.removesuffix('_corr')}_worst_case": value for name, value in far.items()},
    }


def _of_the_whole(whole: LabelCounts, applies: Any, gate_tables: FloatArray) -> dict[str, FloatArray]:
    gate = label_counts(gate_tables)
    return {
        "accuracy_end_to_end": cls.accuracy(whole),
        "f1_macro_end_to_end": cls.f1_macro(LabelCounts(*(part[..., applies] for part in whole))),
        "f1_macro_end_to_end_with_na": cls.f1_macro(whole),
        "cohen_kappa_end_to_end": cls.cohen_kappa(whole),
        "gate_accuracy": cls.accuracy(gate),
        "gate_f1": cls.f1_per_class(gate)[..., 0],
        "gate_f1_macro": cls.f1_macro(gate),
        "gate_kappa": cls.cohen_kappa(gate),
    }
