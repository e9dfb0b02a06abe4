"""The tipping point of a coefficient: the outcome is drawn anew at other error rates, and the regression made again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.errors import ScoringError, listed, nearest
from nbannot.inference.moments import Family, fit
from nbannot.inference.regression_data import RegressionData
from nbannot.measures.result import BoolArray, FloatArray, IntArray

At = Callable[[Sequence[float], Sequence[float]], tuple[float, float]]
BISECTIONS = 14
"""Halvings of the distance between rates: to 1/16,000 of what the rates allow."""


@dataclass(frozen=True)
class Coefficient:
    """One coefficient of a regression whose outcome the model labelled.

    Attributes
    ----------
    group : (N,) 0 or 1: which of two groups of texts the rates may differ between.
    uniform : (N, draws) fixed random numbers, so that rates alone move the estimate.
    """

    data: RegressionData
    family: Family
    place: int
    group: IntArray
    uniform: FloatArray

    @property
    def used(self) -> BoolArray:
        """(N,) whether the model answered."""
        return self.data.answered

    @property
    def called(self) -> list[float]:
        """Per group the share of texts that the model calls so."""
        return [float(self.data.y[self.used & (self.group == g)].mean()) for g in (0, 1)]

    def at(self, z: float) -> At:
        """Return what gives the coefficient and its half-width at sensitivities and specificities of the groups.

        The truth of each text is drawn given the model's label: with the predictive value that the rates have at the
        group's share. Over draws the variance is within + (1 + 1/m) between (Rubin 1987). ``nan`` where no share
        within [0, 1] fits the rates.
        """
        used = self.used
        x, y, group = self.data.x[used], self.data.y[used], self.group[used]
        clusters = (
            None
            if self.data.clusters is None
            else np.unique(self.data.clusters[used], return_inverse=True)[1]
        )
        called = self.called

        def estimate(se_pair: Sequence[float], sp_pair: Sequence[float]) -> tuple[float, float]:
            chance = np.zeros(len(y))
            for g, (q, se, sp) in enumerate(zip(called, se_pair, sp_pair, strict=True)):
                j = se + sp - 1
                share = (q + sp - 1) / j if j > 0 else math.nan
                if not (0 <= share <= 1 and 0 <= se <= 1 and 0 <= sp <= 1):
                    return math.nan, math.nan
                so = se * share / q if q else 0.0
                not_so = (1 - se) * share / (1 - q) if q < 1 else 0.0
                chance = np.where(group == g, np.where(y == 1, min(1.0, so), min(1.0, not_so)), chance)
            fits = [
                fit(self.family, x, (column < chance).astype(float), clusters=clusters)
                for column in self.uniform[used].T
            ]
            if any(one.reason for one in fits):
                return math.nan, math.nan
            values = np.array([one.beta[self.place] for one in fits])
            within = np.mean([one.covariance[self.place, self.place] for one in fits])
            between = values.var(ddof=1) * (1 + 1 / len(values))
            return float(values.mean()), z * math.sqrt(within + between)

        return estimate


def coefficient(
    data: RegressionData, family: Family, term: str | None, draws: int, seed: int
) -> tuple[Coefficient, tuple[str, str]]:
    """Return a term of a regression, and the names of the two groups of texts that it sets apart.

    A term of two values sets these apart; another one the texts above its median from the rest.

    Raises
    ------
    ScoringError
        If there is no such term, or it does not vary.
    """
    terms = [name for name in data.terms if name != "Intercept"]
    name = term or (terms[0] if terms else "Intercept")
    if name not in terms:
        raise ScoringError(
            f"the formula has no term '{name}'{nearest(name, terms) or '.'}\n  Its terms: {listed(terms, 12)}."
        )
    place = data.terms.index(name)
    values = np.unique(data.x[:, place])
    if len(values) < 2:
        raise ScoringError(f"the term '{name}' has the same value in every text.\n  Name one that varies.")
    cut = values[0] if len(values) == 2 else float(np.median(data.x[:, place]))
    group = (data.x[:, place] > cut).astype(np.int64)
    names = ("others", name) if len(values) == 2 else (f"{name} up to {cut:g}", f"{name} above {cut:g}")
    uniform = np.random.default_rng(seed).random((len(data.y), draws))
    return Coefficient(data, family, place, group, uniform), names


def people(data: RegressionData) -> FloatArray:
    """Return (N,) people's outcome of the coded texts, ``nan`` elsewhere."""
    human = np.full(len(data.y), np.nan)
    human[data.rows] = data.gold_y
    return human


def crossings(at: Callable[[float], tuple[float, float]], most: float) -> dict[str, float]:
    """Return the signed distances of two rates, smallest first, from which on the interval reaches 0, the sign changes.

    Parameters
    ----------
    at : value and half-width at a distance; ``nan`` where the rates are impossible.
    most : the largest distance that rates within [0, 1] can have.
    """
    base, _ = at(0.0)
    found = {"the interval reaches 0": math.nan, "the sign changes": math.nan}

    def reached(what: str, d: float) -> bool:
        value, half = at(d)
        if what == "the sign changes":
            return (value > 0) != (base > 0)
        return abs(value) <= half or (value > 0) != (base > 0)

    for sign in (1, -1):
        end = sign * most
        for _ in range(BISECTIONS):  # back to where the rates are possible
            if not math.isnan(at(end)[0]):
                break
            end *= 0.8
        else:
            continue
        for what, before in found.items():
            if not reached(what, end):
                continue
            low, high = 0.0, end
            if not reached(what, 0.0):
                for _ in range(BISECTIONS):
                    middle = (low + high) / 2
                    low, high = (low, middle) if reached(what, middle) else (middle, high)
            else:
                high = 0.0
            if math.isnan(before) or abs(high) < abs(before):
                found[what] = high
    return found


def answered_outcome(data: RegressionData) -> Any:
    """Return the model's outcome of the texts that it answered, and refuse one that is not 0 or 1.

    Raises
    ------
    ScoringError
        If the outcome has other values.
    """
    y = data.y[data.answered]
    if not np.isin(y, (0, 1)).all():
        raise ScoringError("the outcome must be 0 or 1: compare the field with one label.")
    return y
