"""How the coded texts of a corpus were drawn: what was declared, what a file says, and what the model's labels say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbannot.comparing.align import column_of
from nbannot.errors import ScoringError, listed
from nbannot.measures.result import FloatArray, IntArray
from nbannot.report.words import plural
from nbannot.study.field import Field
from nbannot.study.sampling_weights import SAMPLE as SAMPLE_FILE
from nbannot.study.sampling_weights import (
    Weighting,
    number_of,
    sample_file,
    scale_of_those_used,
    weighting_of,
)
from nbannot.study.study_folder import study_folders
from nbannot.study.task import Task

NOT_APPLICABLE = "not applicable"
SAMPLED_WORDS = {
    "random": "The texts with a human label are taken to be a random sample of this corpus; the model's labels of "
    "both do not speak against it.",
    "by label": "The texts with a human label are taken to be random among those with the same label of the model.",
    "known": "Every coded text counts by the known probability with which it was drawn.",
}
SAMPLED = tuple(SAMPLED_WORDS)
NOT_RANDOM = 0.001
"""Below this p value, labelled texts are said not to be a random sample of the corpus."""
LEFT_OUT = 5
"""A label of the model without coded texts, where chance would have given so many, was left out on purpose."""


@dataclass(frozen=True)
class Measured:
    """One field of a corpus.

    Attributes
    ----------
    labels : what people and the model could say; ``not applicable`` last where the field has a condition.
    model, human : (N,) positions in `labels`; -1: no valid answer of the model, no human label.
    weights : (N,) 1 / sampling probability of the texts with a human label; all 1 where that is the same for all.
    equal : whether the weights are all the same.
    task : the texts, those added from the gold run included.
    notes : what was checked, and what was left out, one sentence each.
    """

    field: Field
    labels: tuple[str, ...]
    model: IntArray
    human: IntArray
    weights: FloatArray
    equal: bool
    task: Task
    sampled: str
    notes: tuple[str, ...]

    @property
    def stratum(self) -> IntArray:
        """(N,) the model's label, and one after the last where it gave no valid answer."""
        return np.where(self.model < 0, len(self.labels), self.model)

    @property
    def gold(self) -> IntArray:
        """Positions of the texts with a human label."""
        return np.flatnonzero(self.human >= 0)

    def column(self, name: str) -> list[str]:
        """Return a column of the data."""
        return column_of(self.task, name) or []


UNUSED = "have no human label that is used here"
"""In the note on texts that were drawn for people and do not count."""


def with_losses_made_good(weights: FloatArray, n: int, *, lost: bool, notes: list[str]) -> FloatArray:
    """Return the weights of the coded texts that are used, scaled as `scale_of_those_used` says, which is noted.

    Parameters
    ----------
    weights : (n_gold,) 1 / probability of being drawn.
    n : number of texts of the corpus.
    lost : whether it is known that drawn texts do not count.
    """
    scale = scale_of_those_used(weights.tolist(), n, lost=lost)
    if scale != 1:
        notes.append(
            f"The weights of the coded texts that are used sum to {weights.sum():,.0f}, of {n:,} texts: they are "
            "scaled to the corpus, as if those that are missing were missing by chance."
        )
    return weights * scale


def sample_weights(
    task: Task,
    human: IntArray,
    weights: str | None,
    probability: str | None,
    sampled: str | None,
    notes: list[str],
) -> tuple[FloatArray, str | None]:
    """Return the weight of every text, and how the sample was drawn."""
    if weights is not None and probability is not None:
        raise ScoringError(
            "weights= and probability= say the same (weight = 1 / probability): give one of them."
        )
    gold = np.flatnonzero(human >= 0)
    stored = None
    if probability is None and weights is None:
        kept = task.weights
        weights = kept if isinstance(kept, str) else None
        stored = (
            {i: 1 / w for i, w in kept.of.items()}
            if isinstance(kept, Weighting)
            else None
            if weights == ""
            else sample_file(study_folders(task), task.ids)
        )
    if probability is None and not weights:
        if stored is None:
            return np.ones(len(human)), sampled
        outside = [row for row in gold.tolist() if task.ids[row] not in stored]
        if len(outside) == len(gold):
            raise ScoringError(
                f"no text with a human label is in {SAMPLE_FILE}: only texts drawn with a known probability can "
                'correct a share.\n  Have the sample coded, or say how these texts were drawn: weights="column".'
            )
        if outside:
            human[outside] = -1
            notes.append(
                f"{plural(len(outside), 'text')} with a human label are not in {SAMPLE_FILE}: left out."
            )
        open_ = sum(i in stored for i in task.ids) - (len(gold) - len(outside))
        if open_ > 0:
            notes.append(
                f"{plural(open_, 'text')} of {SAMPLE_FILE} {UNUSED}, taken to be so by chance. Where coders disagree "
                "it is not chance: such texts are the hard ones. Decide them first: nba.adjudicate(task)."
            )
        probabilities = np.array([stored.get(i, 1.0) for i in task.ids])
        notes.append(f"Sampling probabilities from {SAMPLE_FILE}.")
        return 1 / probabilities, "known"
    if weights:
        of = weighting_of(task.data[gold.tolist()], [task.ids[row] for row in gold.tolist()], weights).of
        blank = [task.ids[row] for row in gold.tolist() if task.ids[row] not in of]
        if blank:
            raise ScoringError(
                f"{plural(len(blank), 'text')} with a human label have no weight in '{weights}': {listed(blank, 3)}.\n"
                "  A coded text needs 1 / the probability with which it was drawn."
            )
        probabilities = np.ones(len(human))
        probabilities[gold] = [of[task.ids[row]] for row in gold.tolist()]
        notes.append(f"Weights (1 / probability of being sampled) from the column '{weights}'.")
        return probabilities, "known"
    cells = column_of(task, probability) or []
    probabilities = np.ones(len(human))
    wrong = []
    for row in gold.tolist():
        value = number_of(cells[row])
        if not 0 < value <= 1:
            wrong.append(repr(cells[row]))
        probabilities[row] = 1 / value if value else math.inf
    if wrong:
        raise ScoringError(
            f"probabilities must be above 0 and at most 1. Column '{probability}' has {listed(dict.fromkeys(wrong))}."
        )
    notes.append(f"Sampling probabilities from the column '{probability}'.")
    return probabilities, "known"


def weighted_by_label(labels: Measured, groups: str | None) -> Measured:
    """Return the field with weights N_k / n_k, as in a sample that is random within each label of the model."""
    cell, size, _ = _cells(labels, groups)
    corpus = np.bincount(cell, minlength=size)
    chosen = np.bincount(cell[labels.gold], minlength=size)
    weight = np.where(chosen > 0, corpus / np.maximum(chosen, 1), 1.0)[cell]
    return replace(labels, weights=weight, equal=False)


def _cells(labels: Measured, groups: str | None) -> tuple[IntArray, int, int]:
    """Return each text's cell of group and model label, how many cells there are, and how many per group."""
    k = len(labels.labels) + 1
    if groups is None:
        return labels.stratum, k, k
    codes, names = group_codes(labels.column(groups))
    return codes * k + labels.stratum, k * len(names), k


def checked(labels: Measured, groups: str | None, *, declared: bool) -> str:
    """Return how the coded texts may be taken to be drawn: as a random sample, or at random per label of the model.

    Raises
    ------
    ScoringError
        If they differ from the other texts more than chance allows, and are declared to be a random sample or leave out
        a label of the model.
    """
    from scipy.stats import chi2

    is_gold = labels.human >= 0
    cell, size, k = _cells(labels, groups)
    tables = np.array([np.bincount(cell[rows], minlength=size) for rows in (is_gold, ~is_gold)]).reshape(
        2, -1, k
    )
    statistic, df = 0.0, 0
    for g in range(tables.shape[1]):
        one, freedom = _chi_square(tables[:, g])
        statistic, df = statistic + one, df + freedom
    if df == 0 or chi2.sf(statistic, df) >= NOT_RANDOM:
        return "random"
    whole = tables.sum(1)
    share = whole / np.maximum(whole.sum(1, keepdims=True), 1)
    left_out = (whole[0] < 2) & (whole.sum(0) / whole.sum() * whole[0].sum() >= LEFT_OUT)
    if not declared and not left_out.any():
        return "by label"
    names = [*labels.labels, "nothing valid"]
    worst = int(np.argmax(abs(share[0] - share[1])))
    raise ScoringError(
        f"the {int(is_gold.sum()):,} texts with a human label are not a random sample of the {len(is_gold):,} of the "
        f"corpus: the model says {names[worst]!r} of {share[0, worst]:.0%} of them and of {share[1, worst]:.0%} of "
        "the others, more than chance allows.\n"
        '  Drawn per label of the model: sampled="by label". Drawn with known probabilities: probability="column" or '
        'weights="column".\n  Chosen otherwise: they describe only themselves; have a random sample coded.'
    )


def _chi_square(table: IntArray) -> tuple[float, int]:
    """Return chi-square and degrees of freedom of a (2, k) table; columns with a small expectation are pooled."""
    from scipy.stats import chi2_contingency

    if not table.sum(1).all():
        return 0.0, 0
    rare = table.sum(0) * (table.sum(1).min() / table.sum()) < 5
    kept = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    kept = kept[:, kept.sum(0) > 0]
    if kept.shape[1] < 2:
        return 0.0, 0
    test = chi2_contingency(kept, correction=False)
    return float(test.statistic), int(test.dof)


def group_codes(names: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Return each text's group as a position, and the groups in order: numbers by size, words by alphabet."""
    known = sorted(
        set(names),
        key=lambda n: (
            math.isnan(number_of(n)),
            number_of(n) if n and not math.isnan(number_of(n)) else 0,
            n,
        ),
    )
    place = {name: code for code, name in enumerate(known)}
    return np.fromiter((place[n] for n in names), dtype=np.int64, count=len(names)), known
