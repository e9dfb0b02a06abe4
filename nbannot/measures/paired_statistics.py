"""Which additive statistics of a row a metric needs, so that runs on the same rows can be resampled together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nbannot.errors import ScoringError, listed, nearest
from nbannot.measures import ordinal
from nbannot.measures.accounting import MISSING, Account, FieldData, account
from nbannot.measures.classification import LABEL_METRICS, LabelCounts, f1_per_class, gwet_ac1, ratio
from nbannot.measures.label_field import LABEL_NAMES, LIKERT_NAMES
from nbannot.measures.label_metrics import label_values
from nbannot.measures.observed import FULL_TABLE_UP_TO, Cells, CellTable
from nbannot.measures.result import BoolArray, FloatArray
from nbannot.measures.set_distances import SetValues
from nbannot.measures.set_field import ANSWERED_SETS, ROW_NAMES, SET_NAMES
from nbannot.measures.set_field import evaluate as evaluate_sets
from nbannot.measures.set_field import row_statistics as set_statistics
from nbannot.measures.span_field import SPAN_NAMES, row_statistics
from nbannot.measures.span_metrics import COLUMNS, EXTRA_SPAN_METRICS, SPAN_METRICS
from nbannot.measures.text_extras import EXTRA_NAMES, TextExtras
from nbannot.measures.text_field import TEXT_NAMES, TextRows, text_statistics

Positions = NDArray[np.intp]
Formula = Callable[[FloatArray], FloatArray]

LOWER_IS_BETTER = ("mae", "invalid_rate", "hamming_loss")
SHARES = ("accuracy", "percentage_agreement")
NOT_COMPARED = ("baseline_accuracy", "baseline_f1_macro", "both_empty_share")
"""What is of the texts, not of a run."""


@dataclass(frozen=True)
class RowStatistics:
    """The additive statistics of one run's reference rows for one metric.

    Attributes
    ----------
    rows : (n, d) statistics.
    formula : (..., d) totals to (...) values.
    """

    rows: FloatArray
    formula: Formula


def comparable_metrics(kind: str) -> tuple[str, ...]:
    """Return the metrics in which runs of a field of this type can be compared."""
    names = {
        "likert": LIKERT_NAMES,
        "textbox": TEXT_NAMES,
        "span": (*SPAN_NAMES, *EXTRA_SPAN_METRICS),
        "multiselect": SET_NAMES,
    }
    left_out = (*NOT_COMPARED, *(ANSWERED_SETS if kind == "multiselect" else ()))
    return tuple(name for name in names.get(kind, LABEL_NAMES) if name not in left_out)


def goodness(metric: str, values: FloatArray) -> FloatArray:
    """Return values that are higher for better runs."""
    if metric not in ("bias", *LOWER_IS_BETTER):
        return values
    return np.negative(np.abs(values) if metric == "bias" else values).astype(np.float64)


def runs_statistics(
    runs: Sequence[FieldData], metric: str, extras: bool | TextExtras = False
) -> list[RowStatistics]:
    """Return the statistics of each run for one metric, with the same columns in all.

    Raises
    ------
    ScoringError
        The metric is not one of the field's type, or the runs are not on the same rows.
    """
    known = comparable_metrics(runs[0].type)
    if metric not in known:
        raise ScoringError(
            f"unknown metric {metric!r} for a {runs[0].type}{nearest(metric, known) or '.'}\n"
            f"  Compare one of {', '.join(known)}."
        )
    accounts = [account(run) for run in runs]
    _same_rows(runs, accounts)
    if runs[0].type == "textbox":
        return [_text(run, rows, metric, extras) for run, rows in zip(runs, accounts, strict=True)]
    if runs[0].type == "span":
        return [_spans(run, rows, metric) for run, rows in zip(runs, accounts, strict=True)]
    if runs[0].type == "multiselect":
        return [_sets(run, rows, metric) for run, rows in zip(runs, accounts, strict=True)]
    if runs[0].type == "likert" and metric in ("spearman_corr", "krippendorff_alpha"):
        return _tables(runs, accounts, metric)
    labels = np.arange(len(runs[0].labels))
    if len(labels) > FULL_TABLE_UP_TO:
        used = accounts[0].reference
        labels = np.unique(np.concatenate([codes[used] for a in accounts for codes in (a.human, a.model)]))
        labels = labels[labels >= 0] if labels.max(initial=-1) >= 0 else np.zeros(1, dtype=np.int64)
    return [_labels(run, rows, metric, labels) for run, rows in zip(runs, accounts, strict=True)]


def correct_rows(run: FieldData) -> FloatArray:
    """Return (n,) 1 where a label run has the human label, 0 elsewhere, over its reference rows."""
    rows = account(run)
    used = rows.reference
    right: BoolArray = rows.human[used] == rows.model[used]
    return right.astype(np.float64)


def _same_rows(runs: Sequence[FieldData], accounts: Sequence[Account]) -> None:
    """Raise a ScoringError naming the first run that is not on the rows of the first."""
    first = runs[0]
    for number, (run, rows) in enumerate(zip(runs, accounts, strict=True)):
        reason = ""
        if run.n_rows != first.n_rows:
            reason = f"{run.n_rows} rows instead of {first.n_rows}"
        elif (run.type, run.labels) != (first.type, first.labels):
            reason = "another field type or other labels"
        elif (rows.reference != accounts[0].reference).any():
            different = np.flatnonzero(rows.reference != accounts[0].reference).tolist()
            reason = f"other rows with a human label (rows {listed(different)})"
        elif (rows.human != accounts[0].human).any() or _other_human_texts(run, first):
            reason = "other human labels"
        elif not _same(run.clusters, first.clusters) or not _same(run.weights, first.weights):
            reason = "other clusters or weights"
        if reason:
            raise ScoringError(
                f"the runs are not on the same rows: run {number} has {reason}.\n"
                "  Score all runs against the same ground truth and the same selection of texts, then compare."
            )


def _other_human_texts(run: FieldData, first: FieldData) -> bool:
    if run.type not in ("textbox", "span", "multiselect") or run.human is first.human:
        return False
    return list(run.human) != list(first.human)


def _same(one: object, two: object) -> bool:
    if one is None or two is None:
        return one is two
    return one is two or bool(np.array_equal(np.asarray(one), np.asarray(two)))


def _labels(run: FieldData, rows: Account, metric: str, labels: Positions) -> RowStatistics:
    """Return the counts by label; columns are these labels, of a long codebook those that any run uses."""
    used, k = rows.reference, len(labels)
    human, model = rows.human[used], rows.model[used]
    n, answered = len(human), model >= 0
    if metric in SHARES:
        return _shares((human == model).astype(float))
    if metric == "coverage":
        return _shares(answered.astype(float))
    if metric == "invalid_rate":
        return _shares((rows.status[used] == MISSING).astype(float))
    if run.type == "likert" and metric not in LABEL_METRICS:
        return _distances(run, human.astype(np.intp), model.astype(np.intp), metric)
    compute = LABEL_METRICS[metric]
    if compute is gwet_ac1:
        compute = partial(gwet_ac1, n_labels=len(run.labels))
    right, of_human, of_model = human == model, np.searchsorted(labels, human), np.searchsorted(labels, model)
    parts = np.zeros((4, n, k))
    row = np.arange(n)
    parts[0, row[right], of_human[right]] = 1
    parts[1, row, of_human] = 1
    parts[2, row[answered], of_model[answered]] = 1
    parts[3, row[~answered], of_human[~answered]] = 1

    def formula(totals: FloatArray) -> FloatArray:
        return compute(LabelCounts(*(totals[..., i * k : (i + 1) * k] for i in range(4))))

    return RowStatistics(np.hstack(list(parts)), formula)


def _shares(hits: FloatArray) -> RowStatistics:
    return RowStatistics(
        np.column_stack([hits, np.ones(len(hits))]), lambda totals: ratio(totals[..., 0], totals[..., 1])
    )


def _distances(run: FieldData, human: Positions, model: Positions, metric: str) -> RowStatistics:
    values = label_values(run.labels)
    values = values - values.mean()
    answered = (model >= 0).astype(float)
    x, y = values[human] * answered, values[model] * answered
    if metric == "quadratic_kappa":
        return RowStatistics(
            np.column_stack([answered, x, y, x * x, y * y, x * y]), _quadratic_kappa_of_moments
        )
    per_row = {
        "mae": np.abs(y - x),
        "bias": y - x,
        "within_one": (np.abs(y - x) <= 1) * answered,
    }
    return RowStatistics(
        np.column_stack([per_row[metric], answered]), lambda totals: ratio(totals[..., 0], totals[..., 1])
    )


def _quadratic_kappa_of_moments(totals: FloatArray) -> FloatArray:
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    expected = n * (xx + yy) - 2 * x * y
    tiny = 1e-12 * n * (xx + yy)
    return 1 - ratio(n * (xx + yy - 2 * xy), np.where(expected > tiny, expected, 0.0))


def _tables(runs: Sequence[FieldData], accounts: Sequence[Account], metric: str) -> list[RowStatistics]:
    """Return one-hot cells of the answered rows; columns are the cells that any run uses."""
    k = len(runs[0].labels)
    cells = []
    for rows in accounts:
        human, model = rows.human[rows.reference].astype(np.int64), rows.model[rows.reference]
        cells.append(np.where(model >= 0, human * k + model, -1))
    columns = np.unique(np.concatenate(cells))
    columns = columns[columns >= 0] if columns.max(initial=-1) >= 0 else np.zeros(1, dtype=np.int64)
    measure = ordinal.spearman if metric == "spearman_corr" else ordinal.alpha_ordinal

    observed = Cells(*np.divmod(columns, k)) if k > FULL_TABLE_UP_TO else None

    def formula(totals: FloatArray) -> FloatArray:
        if observed is not None:
            flat = totals.reshape(-1, len(columns))
            return measure(CellTable(observed, flat)).reshape(totals.shape[:-1])
        tables = totals
        if len(columns) < k * k:
            tables = np.zeros((*totals.shape[:-1], k * k))
            tables[..., columns] = totals
        return measure(tables.reshape(*totals.shape[:-1], k, k))

    return [RowStatistics((cell[:, None] == columns[None]).astype(float), formula) for cell in cells]


def _text(run: FieldData, rows: Account, metric: str, extras: bool | TextExtras) -> RowStatistics:
    stats = text_statistics(TextRows.of(run, rows), extras if metric in EXTRA_NAMES else False)
    column = stats.columns
    if metric == "coverage":
        return _shares(column["presence_model"] + column["absence_model"])
    if metric == "presence_f1":
        presence = [column[f"presence_{part}"] for part in ("tp", "human", "model")]
        return RowStatistics(np.column_stack(presence), _presence_f1)
    if metric in stats.reasons:
        raise ScoringError(f"{metric} cannot be compared: {stats.reasons[metric]}.")
    return RowStatistics(
        np.column_stack([column[metric], column["n"]]), lambda totals: ratio(totals[..., 0], totals[..., 1])
    )


def _presence_f1(totals: FloatArray) -> FloatArray:
    tp, human, model = (totals[..., i : i + 1] for i in range(3))
    return f1_per_class(LabelCounts(tp, human, model, np.zeros_like(tp)))[..., 0]


def _spans(run: FieldData, rows: Account, metric: str) -> RowStatistics:
    stats = row_statistics(run, rows)[0]
    column = {name: stats[:, index] for index, name in enumerate(COLUMNS)}
    if metric == "coverage":
        return _shares(column["presence_model"] + column["absence_model"])
    needed, compute = (SPAN_METRICS | EXTRA_SPAN_METRICS)[metric]
    return RowStatistics(
        np.column_stack([column[name] for name in needed]),
        lambda totals: compute(*np.moveaxis(totals, -1, 0)),
    )


def _sets(run: FieldData, rows: Account, metric: str) -> RowStatistics:
    k = len(run.labels)
    stats = set_statistics(run, rows)[0][:, : len(ROW_NAMES) + 4 * k]  # without what alpha needs

    def formula(totals: FloatArray) -> FloatArray:
        return evaluate_sets(totals, k, SetValues((), ()))[metric]

    return RowStatistics(stats, formula)
