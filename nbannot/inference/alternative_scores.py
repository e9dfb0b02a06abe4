"""The scores behind the alternative annotator test: every coder, and the candidate, against the remaining ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.comparing.align import Compared, column_of
from nbannot.errors import ScoringError
from nbannot.inference.likeness import SCORES, distances, score, worst_distance
from nbannot.measures.accounting import unit_codes
from nbannot.measures.resample import bootstrap, percentile_limits, sample_rows
from nbannot.measures.result import BoolArray, FloatArray, IntArray
from nbannot.study.field import Field
from nbannot.study.sampling_weights import Weighting

TIED = 1e-12
"""Scores closer than this are equal: they are means of the same numbers in another order."""


@dataclass(frozen=True)
class Table:
    """Scores of candidate and coders; rows are texts, columns the coders who are left out in turn.

    Attributes
    ----------
    candidate, coder
        (n, m) scores against the remaining coders, ``nan`` where the coder has no label or nobody remains.
    answered
        (n,) False where the candidate has no valid answer.
    human_distance, candidate_distance
        (n,) mean distance of people from each other, and of the candidate from people.
    clusters
        (n,) integer codes, or None.
    weights, weighted
        (n,) what each text counts for, or None; and in words.
    """

    candidate: FloatArray
    coder: FloatArray
    answered: BoolArray
    human_distance: FloatArray
    candidate_distance: FloatArray
    clusters: IntArray | None
    measure: str
    field: Field
    n_not_asked: int
    n_single: int
    weights: FloatArray | None = None
    weighted: str = ""

    @property
    def n(self) -> int:
        """Number of texts."""
        return len(self.answered)

    @property
    def n_missing(self) -> int:
        """Texts without a valid answer of the candidate."""
        return int((~self.answered).sum())

    def _rows(self, place: int) -> BoolArray:
        return ~np.isnan(self.coder[:, place])

    def missing(self, place: int) -> int:
        """Return how many of a coder's texts the candidate did not answer."""
        return int((~self.answered & self._rows(place)).sum())

    def weights_of(self, place: int) -> FloatArray | None:
        """Return what a coder's texts count for, 1 on average; None where all count alike."""
        if self.weights is None:
            return None
        own: FloatArray = self.weights[self._rows(place)]
        return own / own.mean() if len(own) and np.ptp(own) > TIED else None

    def indicators(self, place: int) -> tuple[FloatArray, FloatArray, IntArray | None]:
        """Return on a coder's texts: candidate at least as good, coder at least as good (0/1), and the clusters."""
        rows = self._rows(place)
        apart = self.candidate[rows, place] - self.coder[rows, place]
        groups = None if self.clusters is None else np.unique(self.clusters[rows], return_inverse=True)[1]
        return (apart >= -TIED).astype(float), (apart <= TIED).astype(float), groups

    def intervals(
        self, places: Sequence[int], n_resamples: int, seed: int
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the 95% limits of the advantage over these coders, and of the distance to the human ceiling."""
        kept = list(places)
        given = ~np.isnan(self.coder[:, kept])
        wins = np.where(given, self.candidate[:, kept] - self.coder[:, kept] >= -TIED, False)
        paired = ~np.isnan(self.human_distance)
        two = np.column_stack([self.human_distance, self.candidate_distance, np.ones(self.n)])
        stats = np.hstack([wins.astype(float), given.astype(float), np.where(paired[:, None], two, 0.0)])
        m = len(kept)

        def evaluate(totals: FloatArray) -> dict[str, FloatArray]:
            with np.errstate(invalid="ignore", divide="ignore"):
                rho = (totals[:, :m] / totals[:, m : 2 * m]).mean(1)
                means = totals[:, 2 * m : 2 * m + 2] / totals[:, -1:]
            return {"rho": rho, "ceiling": score(self.field, means[:, 1]) - score(self.field, means[:, 0])}

        sample = sample_rows(stats, self.clusters, self.weights, seed)
        drawn = bootstrap(sample, evaluate, n_resamples, seed)
        rho, ceiling = (percentile_limits(drawn[name], 0.95)[:2] for name in ("rho", "ceiling"))
        return rho, ceiling

    def against_the_others(self, n_resamples: int, seed: int) -> list[tuple[float, float, float]]:
        """Return the mean score of the candidate, then of each coder, against the others, with its 95% limits.

        The candidate's is the mean over the coders that it takes the place of, on the texts of each.
        """
        given = ~np.isnan(self.coder)
        m = given.shape[1]
        stats = np.hstack(
            [np.where(given, self.candidate, 0.0), np.where(given, self.coder, 0.0), given.astype(float)]
        )

        def evaluate(totals: FloatArray) -> dict[str, FloatArray]:
            with np.errstate(invalid="ignore", divide="ignore"):
                n = totals[:, 2 * m :]
                model, people = totals[:, :m] / n, totals[:, m : 2 * m] / n
            return {"all": np.column_stack([np.nanmean(model, axis=1), people])}

        sample = sample_rows(stats, self.clusters, self.weights, seed)
        values = evaluate(sample.totals()[None])["all"][0]
        drawn = bootstrap(sample, evaluate, n_resamples, seed)["all"]
        return [(float(v), *percentile_limits(drawn[:, i], 0.95)[:2]) for i, v in enumerate(values)]

    def agreement(self) -> tuple[float, float, float]:
        """Return the score of people against each other, of the candidate against people, and the difference."""
        paired = ~np.isnan(self.human_distance)
        if not paired.any():
            return (float("nan"),) * 3
        w = None if self.weights is None else self.weights[paired]
        means = np.array(
            [np.average(side[paired], weights=w) for side in (self.human_distance, self.candidate_distance)]
        )
        people, model = score(self.field, means).tolist()
        return people, model, model - people


def scored(
    f: Field,
    candidate: Compared,
    coders: Sequence[Compared],
    cluster: str | None,
    expert: str | None,
    weighting: Weighting | None = None,
) -> Table:
    """Return the scores of one field, on the texts of two coders or more that the candidate was given.

    Raises
    ------
    ScoringError
        If one id means different texts, or there is no such text.
    """
    texts = _texts([candidate, *coders])
    values = [dict(zip(c.task.ids, c.coding.values(f.column), strict=True)) for c in coders]
    coded = {i: sum(of_coder.get(i) is not None for of_coder in values) for i in texts}
    given = dict(zip(candidate.task.ids, candidate.coding.given(f.column), strict=True))
    every = [i for i, n in coded.items() if n >= 2]
    kept = [i for i in every if given.get(i)]
    if not kept:
        raise ScoringError(
            f"no text of {f.column} was coded by two coders and given to {candidate.run_id}.\n"
            "  The test leaves one coder out and needs another one to compare with. On an opened test half, load the "
            "coders with the run's own task: load_coder(run.task, ...)."
        )
    answers = dict(zip(candidate.task.ids, candidate.coding.answers[f.column], strict=True))
    model = [answers[i].value for i in kept]
    people = [[of_coder.get(i) for i in kept] for of_coder in values]
    contents = [texts[i] for i in kept]
    unaligned = [answers[i].unaligned for i in kept] if f.type == "span" else None
    answered = np.array([value is not None for value in model], dtype=bool)
    to_model = np.column_stack([distances(f, model, side, contents, unaligned) for side in people])
    has = np.array([[value is not None for value in side] for side in people], dtype=bool).T
    to_model = np.where(has & ~answered[:, None], worst_distance(f), to_model)
    m = len(coders)
    between = np.full((m, m, len(kept)), np.nan)
    for a in range(m):
        for b in range(a):
            between[a, b] = between[b, a] = distances(f, people[a], people[b], contents)
    weights, weighted = (None, "") if weighting is None else weighting.on(kept, [True] * len(kept))
    names = [coder.run_id for coder in coders]
    reference = np.ones(m, dtype=bool) if expert is None else np.array([name == expert for name in names])
    left_out = [place for place in range(m) if names[place] != expert]
    return Table(
        candidate=score(f, np.column_stack([_others(to_model, has, reference, j) for j in left_out])),
        coder=score(f, np.column_stack([_others(between[j].T, has, reference, j) for j in left_out])),
        answered=answered,
        human_distance=_mean(between[np.tril_indices(m, -1)].T),
        candidate_distance=_mean(to_model),
        clusters=None if cluster is None else _clusters([candidate, *coders], cluster, kept),
        measure=SCORES[f.type],
        field=f,
        n_not_asked=len(every) - len(kept),
        n_single=sum(n == 1 for n in coded.values()),
        weights=None if weights is None else np.array(weights),
        weighted=weighted,
    )


def _others(to_others: FloatArray, has: BoolArray, reference: BoolArray, left_out: int) -> FloatArray:
    """Return (n,) mean distances to the reference coders but one; ``nan`` where that one has no label."""
    used = reference.copy()
    used[left_out] = False
    return np.where(has[:, left_out], _mean(to_others[:, used]), np.nan)


def _mean(values: FloatArray) -> FloatArray:
    """Return the means of the rows over what is not ``nan``."""
    known = ~np.isnan(values)
    n = known.sum(1)
    return np.where(n > 0, np.where(known, values, 0.0).sum(1) / np.maximum(n, 1), np.nan)


def _texts(items: Sequence[Compared]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for item in items:
        for text_id, text in zip(item.task.ids, item.task.texts, strict=True):
            if texts.setdefault(text_id, text) != text:
                raise ScoringError(
                    f"{item.run_id} has a different text from the others under the id '{text_id}'.\n"
                    "  Ids must mean the same text: load every coder with the task of the run."
                )
    return texts


def _clusters(items: Sequence[Compared], cluster: str, kept: Sequence[str]) -> IntArray:
    group: dict[str, Any] = {}
    for item in items:
        group |= dict(zip(item.task.ids, column_of(item.task, cluster) or [], strict=True))
    return unit_codes([group[i] for i in kept])
