"""From a sample of units and a set of metrics to `Result`: which interval each number gets, and its warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nbannot.measures.resample import (
    FEW_CLUSTERS,
    Evaluate,
    Sample,
    bootstrap,
    jackknife,
    jackknife_limits,
    percentile_limits,
    wilson,
    zero_width,
)
from nbannot.measures.result import NAN, TOO_NARROW, FloatArray, IntArray, Result

UNDEFINED_SHARE = 0.01
"""Above this share of resamples without a value, the interval is called unreliable."""
SAME_VALUE = "no interval: the value is the same in nearly every resample"
FEW_EFFECTIVE = 30
"""Below this effective n, of at least so many weighted texts, intervals are called too narrow."""
ONE_SIDED = "interval unreliable: nearly all resamples lie on one side of the value, to which it was extended"
UNIT_RANGE = (0.0, 1.0)
ANY_RANGE = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Settings:
    """How intervals are made: resamples, seed, level."""

    n_resamples: int = 10_000
    seed: int = 1
    level: float = 0.95


@dataclass(frozen=True)
class Intervals:
    """The metrics of one sample with their resampled values.

    Attributes
    ----------
    sample, evaluate : the units and the metrics, a function from (b, d) totals to (b,) or (b, K) values.
    settings : resamples, seed, level.
    blank : what every `Result` of this sample has in common (n, n_answered, conventions, labels).
    """

    sample: Sample
    evaluate: Evaluate
    settings: Settings
    blank: Result = field(default_factory=lambda: Result(NAN))

    @cached_property
    def values(self) -> Mapping[str, FloatArray]:
        """The value of every metric on the sample itself, () or (K,) each."""
        return {name: value[0] for name, value in self.evaluate(self.sample.totals()[None]).items()}

    @cached_property
    def _drawn(self) -> dict[str, FloatArray]:
        return bootstrap(self.sample, self.evaluate, self.settings.n_resamples, self.settings.seed)

    @cached_property
    def _left_out(self) -> dict[str, tuple[FloatArray, IntArray]]:
        return jackknife(self.sample, self.evaluate)

    def undefined(self, reason: str) -> Result:
        """Return the Result of a number that is not defined."""
        return replace(self.blank, n_clusters=self.sample.n_clusters, reason=reason)

    def result(
        self,
        name: str,
        index: int | None = None,
        *,
        proportion_of: float | None = None,
        bounds: tuple[float, float] = UNIT_RANGE,
        if_undefined: str = "not defined",
        warning: str = "",
        jackknife_below: int = 0,
        labels_used: tuple[str, ...] | None = None,
    ) -> Result:
        """Return the Result of metric `name` (class `index` of it).

        Parameters
        ----------
        proportion_of : the denominator, for a share of rows: Wilson limits when rows are independent.
        bounds : range of the metric, at which jackknife limits are cut.
        if_undefined : the reason when the value is ``nan``.
        warning : why the interval is unreliable, found elsewhere.
        jackknife_below : use the jackknife for fewer units than this.
        """
        value = float(self.values[name] if index is None else self.values[name][index])
        if math.isnan(value):
            return self.undefined(if_undefined)
        low, high, method, doubt = self._limits(name, index, value, proportion_of, bounds, jackknife_below)
        return replace(
            self.blank,
            value=value,
            ci_low=low,
            ci_high=high,
            ci_method=method,
            n_clusters=self.sample.n_clusters,
            reason="; ".join(dict.fromkeys(part for part in (warning, doubt) if part)),
            labels_used=self.blank.labels_used if labels_used is None else labels_used,
        )

    def error(self, name: str) -> float:
        """Return the standard error of a metric: the standard deviation of its resampled values."""
        return standard_error(self._drawn[name])

    def share(self, value: float, of: float, if_undefined: str) -> Result:
        """Return the Result of a share of rows that was not resampled: Wilson limits when rows are independent."""
        if math.isnan(value):
            return self.undefined(if_undefined)
        low, high = wilson(value * of, of, self.settings.level) if self.sample.simple else (NAN, NAN)
        method = "" if math.isnan(low) else "Wilson"
        return replace(self.undefined(""), value=value, ci_low=low, ci_high=high, ci_method=method)

    def _limits(
        self,
        name: str,
        index: int | None,
        value: float,
        proportion_of: float | None,
        bounds: tuple[float, float],
        jackknife_below: int,
    ) -> tuple[float, float, str, str]:
        """Return low, high, method and what is doubtful about them."""
        level = self.settings.level
        if proportion_of is not None and self.sample.simple:
            return *wilson(value * proportion_of, proportion_of, level), "Wilson", ""
        few = self.few_units
        if self.few_clusters or self.sample.n_units < jackknife_below:
            left_out, counts = self._left_out[name]
            chosen = left_out if index is None else left_out[:, index]
            low, high = jackknife_limits(value, chosen, counts, level, *bounds)
            if not (math.isnan(low) or zero_width(low, high)):
                return low, high, "jackknife t", few
        drawn = self._drawn[name] if index is None else self._drawn[name][:, index]
        low, high, share = percentile_limits(drawn, level)
        if zero_width(low, high):
            if proportion_of is None:
                return NAN, NAN, "", SAME_VALUE
            units = float(self.sample.n_units)
            if self.sample.n_effective is not None:
                proportion_of *= self.sample.n_effective / max(1, self.blank.n)
            units = min(units, proportion_of)
            return *wilson(value * units, units, level), "Wilson on units", few
        doubts = [few]
        if share < 1 - UNDEFINED_SHARE:
            doubts.append(f"interval unreliable: not defined in {1 - share:.0%} of the resamples")
        if not low - 1e-12 <= value <= high + 1e-12:
            doubts.append(ONE_SIDED)
            low, high = min(low, value), max(high, value)
        return low, high, self.sample.method, "; ".join(filter(None, doubts))

    @property
    def few_clusters(self) -> str:
        """The warning about too few clusters, or an empty string."""
        clusters = self.sample.n_clusters
        if clusters is None or clusters >= FEW_CLUSTERS:
            return ""
        return f"only {clusters} clusters: {TOO_NARROW}"

    @property
    def few_units(self) -> str:
        """The warning about too few clusters, or about weights that leave little of many texts; or an empty string."""
        n = self.sample.n_effective
        if self.few_clusters or n is None or n >= FEW_EFFECTIVE or self.blank.n < FEW_EFFECTIVE:
            return self.few_clusters
        return f"effective n only {n:.0f} of {self.blank.n}: {TOO_NARROW}"

    def line(self) -> str:
        """Return how the intervals were made, for the line of conventions."""
        s = self.settings
        unit = "row" if self.sample.n_clusters is None else f"cluster ({self.sample.n_clusters})"
        n = self.sample.n_effective
        weighted = "" if n is None else f"weighted by 1/π (effective n {n:,.0f}) · "
        return (
            f"{weighted}{s.level:.0%} {self.sample.method}, B={s.n_resamples:,}, seed {s.seed}, "
            f"resampling unit={unit}; "
            f"proportions: {'Wilson' if self.sample.simple else 'the same'}"
        )


SMALL_CLASS = 10
"""Below so many human instances a class is too small to estimate."""


def class_row(label: object, parts: Mapping[str, Result], support: int, predicted: int) -> dict[str, Any]:
    """Return the row of one class: value, limits and reason of each part, support, predicted, and its reason."""
    reason = ""
    if 0 < support < SMALL_CLASS:
        reason = f"too few to estimate (n={support})"
    elif not support and predicted:
        reason = f"predicted {predicted} times, never used by humans"
    row: dict[str, Any] = {"label": str(label)}
    row |= {name: part.value for name, part in parts.items()}
    row |= {"support": support, "predicted": predicted, "reason": reason}
    for name, part in parts.items():
        row |= {f"{name}_ci_low": part.ci_low, f"{name}_ci_high": part.ci_high}
        row[f"{name}_reason"] = part.reason or reason
    # What each value is a share of; F1 is twice the hits among what people and model said together.
    row |= {"precision_n": predicted, "recall_n": support, "f1_n": support + predicted}
    return row


def standard_error(drawn: FloatArray) -> float:
    """Return the standard deviation of resampled values, those not defined left out.

    Where all of them are the same, ``nan``: the resamples cannot tell the error, which is not 0.
    """
    defined = drawn[~np.isnan(drawn)]
    if defined.size < 2 or zero_width(float(defined.min()), float(defined.max())):
        return NAN
    return float(defined.std(ddof=1))
