"""Label metrics from count tables: accuracy, precision, recall, F1, kappa, alpha, AC1, MCC, baselines.

All functions take `LabelCounts`, whose arrays have any leading dimensions, so that one call serves one table
or ten thousand resampled ones. "Strict": a row without a valid answer is an error. Macro averages go over the
classes that humans used. Undefined values (0/0) are ``nan``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbannot.measures.result import BoolArray, FloatArray


class LabelCounts(NamedTuple):
    """What the label metrics need of a K x (K+1) table of human rows and model columns.

    Attributes
    ----------
    tp : (..., K) diagonal.
    row : (..., K) human totals, rows without an answer included.
    col : (..., K) model totals.
    miss : (..., K) human totals of the rows without an answer.
    """

    tp: FloatArray
    row: FloatArray
    col: FloatArray
    miss: FloatArray

    @property
    def n(self) -> FloatArray:
        """(...) rows with a human label."""
        return total(self.row)

    @property
    def n_answered(self) -> FloatArray:
        """(...) rows with a valid answer among them."""
        return total(self.col)

    @property
    def correct(self) -> FloatArray:
        """(...) rows where both labels are the same."""
        return total(self.tp)

    def answered(self) -> LabelCounts:
        """Return the counts of the answered rows alone."""
        return LabelCounts(self.tp, self.row - self.miss, self.col, np.zeros_like(self.miss))


def total(values: FloatArray) -> FloatArray:
    """Return the sum over the last dimension."""
    summed: FloatArray = values.sum(-1)
    return summed


def label_counts(tables: FloatArray) -> LabelCounts:
    """Return the counts of (..., K, K+1) tables whose last column holds the rows without an answer."""
    tables = np.asarray(tables, dtype=float)
    k = tables.shape[-2]
    return LabelCounts(
        tp=np.einsum("...kk->...k", tables[..., :k]),
        row=tables.sum(-1),
        col=tables[..., :k].sum(-2),
        miss=tables[..., k],
    )


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return numerator / denominator, ``nan`` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    quotient: FloatArray = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def precision_per_class(c: LabelCounts) -> FloatArray:
    """Return (..., K) TP / (TP + FP); ``nan`` for a class that was never predicted."""
    return ratio(c.tp, c.col)


def recall_per_class(c: LabelCounts) -> FloatArray:
    """Return (..., K) TP / human total; ``nan`` for a class that humans never used."""
    return ratio(c.tp, c.row)


def f1_per_class(c: LabelCounts) -> FloatArray:
    """Return (..., K) 2 TP / (2 TP + FP + FN); ``nan`` only for a class that nobody used."""
    return ratio(2 * c.tp, c.row + c.col)


def supported_mean(values: FloatArray, support: FloatArray) -> FloatArray:
    """Return the mean of (..., K) class values over the classes with human support; ``nan`` values count 0."""
    used: BoolArray = support > 0
    return ratio(np.where(used, np.nan_to_num(values), 0.0).sum(-1), used.sum(-1))


def accuracy(c: LabelCounts) -> FloatArray:
    """Return correct / n (strict), which is coverage times the accuracy among the answered."""
    return ratio(c.correct, c.n)


def precision_macro(c: LabelCounts) -> FloatArray:
    """Return the mean precision over classes with human support; a class never predicted counts 0."""
    return supported_mean(precision_per_class(c), c.row)


def recall_macro(c: LabelCounts) -> FloatArray:
    """Return the mean recall over classes with human support (balanced accuracy)."""
    return supported_mean(recall_per_class(c), c.row)


def f1_macro(c: LabelCounts) -> FloatArray:
    """Return the mean of the per-class F1 over classes with human support ("averaged F1")."""
    return supported_mean(f1_per_class(c), c.row)


def f1_weighted(c: LabelCounts) -> FloatArray:
    """Return the mean of the per-class F1 weighted by human support."""
    return ratio((c.row * np.nan_to_num(f1_per_class(c))).sum(-1), c.n)


def f1_micro(c: LabelCounts) -> FloatArray:
    """Return 2 correct / (n + answered); equals accuracy when every row is answered."""
    return ratio(2 * c.correct, c.n + c.n_answered)


def cohen_kappa(c: LabelCounts) -> FloatArray:
    """Return Cohen's kappa (Cohen 1960); rows without an answer disagree and add nothing to chance agreement.

    ``nan`` when both coders used one and the same label only; 0 when one of them is constant.
    """
    n = c.n
    chance = (c.row * c.col).sum(-1)
    return _chance_corrected(c.correct * n - chance, n * n - chance, n * n)


def mcc(c: LabelCounts) -> FloatArray:
    """Return Matthews' correlation for K classes (Gorodkin 2004), "no answer" as a model label of its own.

    ``nan`` when the human or the model labels do not vary.
    """
    n = c.n
    model = n * n - (c.col**2).sum(-1) - c.miss.sum(-1) ** 2
    human = n * n - (c.row**2).sum(-1)
    tiny = 1e-12 * n * n
    model, human = np.where(model > tiny, model, 0.0), np.where(human > tiny, human, 0.0)
    return ratio(c.correct * n - (c.row * c.col).sum(-1), np.sqrt(model * human))


def alpha_nominal(c: LabelCounts) -> FloatArray:
    """Return Krippendorff's nominal alpha of the answered rows; ``nan`` without variation."""
    answered = c.answered()
    values = 2 * answered.n
    marginals = answered.row + answered.col
    expected = values**2 - (marginals**2).sum(-1)
    disagreement = 2 * (answered.n - answered.correct) * (values - 1)
    return _chance_corrected(expected - disagreement, expected, values**2)


def gwet_ac1(c: LabelCounts, n_labels: int | None = None) -> FloatArray:
    """Return Gwet's AC1 (Gwet 2008) over the K codebook labels; rows without an answer disagree.

    A row without an answer enters the chance term with its human label alone, as in Gwet's treatment of
    missing ratings. ``nan`` for a codebook with one label. `n_labels` is K, if `c` leaves unused labels out.
    """
    k = c.row.shape[-1] if n_labels is None else n_labels
    if k < 2:
        return np.full(c.n.shape, np.nan)
    share = ratio((c.row + c.col + c.miss) / 2, c.n[..., None])
    chance = (share * (1 - share)).sum(-1) / (k - 1)
    return ratio(accuracy(c) - chance, 1 - chance)


def pabak(c: LabelCounts, n_labels: int | None = None) -> FloatArray:
    """Return (K p - 1) / (K - 1) with p the strict agreement (Brennan and Prediger 1981; for K = 2 PABAK).

    `n_labels` is K, if `c` leaves unused labels out.
    """
    k = c.row.shape[-1] if n_labels is None else n_labels
    return (k * accuracy(c) - 1) / (k - 1) if k > 1 else np.full(c.n.shape, np.nan)


def coverage(c: LabelCounts) -> FloatArray:
    """Return the share of rows with a valid answer."""
    return ratio(c.n_answered, c.n)


def baseline_accuracy(c: LabelCounts) -> FloatArray:
    """Return the accuracy of always answering the most frequent human label."""
    return ratio(c.row.max(-1), c.n)


def baseline_f1_macro(c: LabelCounts) -> FloatArray:
    """Return the macro F1 of always answering the most frequent human label."""
    most = c.row.max(-1)
    return ratio(ratio(2 * most, most + c.n), (c.row > 0).sum(-1))


LABEL_METRICS = {
    "accuracy": accuracy,
    "precision_macro": precision_macro,
    "recall_macro": recall_macro,
    "f1_macro": f1_macro,
    "percentage_agreement": accuracy,
    "cohen_kappa": cohen_kappa,
    "krippendorff_alpha": alpha_nominal,
    "f1_weighted": f1_weighted,
    "balanced_accuracy": recall_macro,
    "mcc": mcc,
    "gwet_ac1": gwet_ac1,
    "coverage": coverage,
    "baseline_accuracy": baseline_accuracy,
    "baseline_f1_macro": baseline_f1_macro,
}
"""The metrics of checkbox, dropdown and likert that `LabelCounts` decide, by their name on disk."""


def _chance_corrected(numerator: FloatArray, denominator: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the quotient, ``nan`` where the denominator is 0 up to rounding on this scale."""
    return ratio(numerator, np.where(denominator > 1e-12 * scale, denominator, 0.0))
