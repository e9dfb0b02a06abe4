"""Tipping point: how differently wrong in two groups would the model have to be for the finding to change?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import Drawn, Finding, in_range, plain
from nbannot.page.blocks import Block, Bullets, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, interval, number
from nbannot.record.run import Run
from nbannot.tools.frames import Frame, make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.study.task import Task

COLUMNS = ("scenario", "what", "tips_at", "higher_in", "measured", "measured_low", "measured_high", "reason")
STEPS = 80
LIMITS = (
    "The rates are taken to be those of people's labels, apart by so much around what was measured; the intervals of "
    "the difference cover the sampling of texts at these rates, not how well the rates are known.",
    "A tipping point far outside the measured interval speaks for the finding; it does not show that it is true.",
)


@dataclass(frozen=True)
class Rates:
    """How often the model is right in one group: of what people call so (sensitivity), and of the rest."""

    group: str
    n: int
    called: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    n_positive: int
    n_negative: int


@dataclass(frozen=True)
class Tip:
    """Where the finding tips: how far apart the rates, in which group the higher one; ``nan`` where nothing does it.

    `measured` is the second group's rate minus the first's, with its interval.
    """

    scenario: str
    what: str
    tips_at: float
    higher_in: str = ""
    measured: float = math.nan
    measured_low: float = math.nan
    measured_high: float = math.nan
    reason: str = ""


@dataclass(frozen=True, repr=False)
class TippingPoint(Finding):
    """The result of `tipping_point`.

    Attributes
    ----------
    difference
        Between the groups (second minus first), corrected with the rates measured over both; with its interval.
    naive
        The difference of the model's shares.
    tips
        One `Tip` per scenario and change.
    rates
        The measured rates of each group.
    """

    outcome: str
    by: str
    groups: tuple[str, str]
    naive: float
    difference: float
    low: float
    high: float
    tips: tuple[Tip, ...]
    rates: tuple[Rates, ...]
    level: float
    notes: tuple[str, ...]

    @property
    def frame(self) -> Frame:
        """One row per scenario and change: how far the rates have to be apart, and how far they were measured to be."""
        return make_frame([vars(one) for one in self.tips], COLUMNS)

    def forests(self) -> list[Drawn]:
        """Return the measured rates of both groups with their intervals."""
        rows = [
            (
                f"{one.group}: {name}",
                getattr(one, name),
                getattr(one, f"{name}_low"),
                getattr(one, f"{name}_high"),
            )
            for name in ("sensitivity", "specificity")
            for one in self.rates
        ]
        return [("measured rate", rows)]

    def blocks(self) -> list[Block]:
        """Return the page: the finding, what would tip it beside what was measured, the rates."""
        rows: list[Row] = [
            [
                one.scenario,
                one.what,
                one.reason
                or number(one.tips_at, 3) + (f", higher in {one.higher_in}" if one.higher_in else ""),
                plain(one.measured, 3) if not math.isnan(one.measured) else NONE,
                interval(one.measured_low, one.measured_high, 3),
            ]
            for one in self.tips
        ]
        rates: list[Row] = [
            [
                one.group,
                number(one.called, 3),
                number(one.sensitivity),
                interval(one.sensitivity_low, one.sensitivity_high),
                number(one.specificity),
                interval(one.specificity_low, one.specificity_high),
                f"{count(one.n_positive)} + {count(one.n_negative)}",
            ]
            for one in self.rates
        ]
        first, second = self.groups
        inside = f"{self.level:.0%}"
        return [
            Heading(f"What would tip {self.outcome} by {self.by}", 1, f"{second} minus {first}"),
            Para(
                f"The model's labels differ by {plain(self.naive, 3)}; with the measured rates, the same in both "
                f"groups, the difference is {plain(self.difference, 3)} {interval(self.low, self.high, 3)}.",
                "notice",
            ),
            Grid(
                ["how wrong", "what changes", "tips from", f"{second} minus {first}, measured", inside],
                rows,
                "lllri",
            ),
            Grid(["", "called so", "sensitivity", inside, "specificity", inside, "coded"], rates, "lrririr"),
            *([Bullets(self.notes)] if self.notes else []),
            Bullets(LIMITS, "quiet"),
        ]

    def __repr__(self) -> str:
        return f"<TippingPoint of {self.outcome} by {self.by}: difference {self.difference:.3f}>"


def corrected_difference(
    called: Sequence[float], sensitivity: Sequence[float], specificity: Sequence[float]
) -> float:
    """Return ``p_1 - p_0`` with ``p_g = (q_g + Sp_g - 1) / (Se_g + Sp_g - 1)``; ``nan`` where a model knows nothing.

    >>> round(corrected_difference([0.3, 0.5], [0.8, 0.8], [0.9, 0.9]), 4)
    0.2857
    """
    shares = []
    for q, se, sp in zip(called, sensitivity, specificity, strict=True):
        if se + sp - 1 <= 0:
            return math.nan
        shares.append((q + sp - 1) / (se + sp - 1))
    return shares[1] - shares[0]


def differential(
    called: Sequence[float],
    sensitivity: float,
    specificity: float,
    rate: Literal["sensitivity", "specificity"],
) -> float:
    """Return how far apart the two groups' rates have to be, half each way, for the difference to vanish; signed.

    ``d = 2 J (a_1 - a_0) / (a_1 + a_0)`` for sensitivities and ``d = 2 J (a_1 - a_0) / (a_1 + a_0 - 2 J)`` for
    specificities, with ``a_g = q_g + Sp - 1`` and ``J = Se + Sp - 1``; ``nan`` where none within [0, 1] does.
    """
    j = sensitivity + specificity - 1
    first, second = (q + specificity - 1 for q in called)
    below = first + second - (0.0 if rate == "sensitivity" else 2 * j)
    if j <= 0 or below == 0:
        return math.nan
    d = 2 * j * (second - first) / below
    return d if within(sensitivity if rate == "sensitivity" else specificity, d) else math.nan


def within(rate: float, apart: float) -> bool:
    """Return whether both groups' rates stay within [0, 1] when they are so far apart."""
    return rate - abs(apart) / 2 >= 0 and rate + abs(apart) / 2 <= 1


def tipping_point(
    formula: str,
    corpus: Run,
    *,
    gold: Run | Task | Coder | None = None,
    sampled: Literal["random", "by label"] | None = None,
    reason: str | None = None,
    level: float = 0.95,
) -> TippingPoint:
    """Return how wrong, and how differently wrong between two groups, the model would have to be to change a finding.

    Parameters
    ----------
    formula
        ``"Stance == 'pro' ~ party"``: an outcome of 0 or 1, and one column with two groups.
    corpus, gold, sampled, reason
        As in `prevalence`; the coded texts give the error rates in each group.
    level
        Of the intervals.

    Raises
    ------
    ScoringError
        If there are not two groups, the outcome is not 0 or 1, or a group has no coded text of either kind.

    Notes
    -----
    Rogan & Gladen (1978) in each group. Three scenarios: sensitivities apart, specificities apart (both half each way
    around the rate measured over both groups), and both rates of both groups worse by the same amount, from the rates
    measured in each.
    """
    in_range("level", level, 0, 1)
    load("numpy", "scipy.stats")
    import numpy as np

    from nbannot.inference.drawn import group_codes
    from nbannot.inference.formula import numbers, parsed
    from nbannot.inference.gold import measured
    from nbannot.inference.regression_data import labels_at

    side, by = parsed(formula, corpus.task)
    by = by.strip("`")
    if side.field is None:
        raise ScoringError(f"'{side.column}' is no field: there is no label of the model in this finding.")
    labels = measured(corpus, side.field.column, gold=gold, sampled=sampled, reason=reason)
    codes, names = group_codes(labels.column(by))
    if len(names) != 2:
        raise ScoringError(
            f"a tipping point compares two groups. Column '{by}' has {len(names)}: {listed(map(repr, names))}.\n"
            "  Take a part of the texts, or a column with two values."
        )
    y, human = (numbers(side, labels_at(side.field, labels, which)) for which in (labels.model, labels.human))
    known = ~np.isnan(y)
    if not np.isin(y[known], (0, 1)).all():
        raise ScoringError(f"the outcome must be 0 or 1: compare {side.field.name} with one label.")
    rows = [known & (codes == g) for g in (0, 1)]
    rates = (
        _rates(names[0], y[rows[0]], human[rows[0]], level),
        _rates(names[1], y[rows[1]], human[rows[1]], level),
    )
    missing = [one.group for one in rates if not one.n_positive or not one.n_negative]
    if missing:
        raise ScoringError(
            f"no rates can be measured in {listed(missing)}: texts that people call so, and others, must be coded."
        )
    notes = list(labels.notes)
    if unanswered := int((~known).sum()):
        notes.append(f"{unanswered:,} texts without a valid answer of the model are left out.")
    return _tipped(side.text, by, (names[0], names[1]), rates, level, notes)


def _rates(group: str, y: Any, human: Any, level: float) -> Rates:
    from nbannot.measures.resample import wilson

    positive, negative = human == 1, human == 0
    hits, rejected = float(y[positive].sum()), float((1 - y[negative]).sum())
    n_pos, n_neg = int(positive.sum()), int(negative.sum())
    return Rates(
        group, len(y), float(y.mean()) if len(y) else math.nan,
        hits / n_pos if n_pos else math.nan, *wilson(hits, n_pos, level),
        rejected / n_neg if n_neg else math.nan, *wilson(rejected, n_neg, level), n_pos, n_neg,
    )  # fmt: skip


def _tipped(
    outcome: str, by: str, groups: tuple[str, str], rates: tuple[Rates, Rates], level: float, notes: list[str]
) -> TippingPoint:
    from nbannot.measures.resample import normal_quantile

    z = normal_quantile((1 + level) / 2)
    called = [one.called for one in rates]
    n_pos, n_neg = sum(one.n_positive for one in rates), sum(one.n_negative for one in rates)
    se = sum(one.sensitivity * one.n_positive for one in rates) / n_pos
    sp = sum(one.specificity * one.n_negative for one in rates) / n_neg
    if se + sp <= 1:
        raise ScoringError(
            f"sensitivity {se:.2f} and specificity {sp:.2f} are no better than chance: the labels say nothing here."
        )

    def at(se_pair: Sequence[float], sp_pair: Sequence[float]) -> tuple[float, float]:
        """Return the difference and its half-width at these rates."""
        d = corrected_difference(called, se_pair, sp_pair)
        variance = sum(
            q * (1 - q) / one.n / (a + b - 1) ** 2
            for q, one, a, b in zip(called, rates, se_pair, sp_pair, strict=True)
            if a + b > 1
        )
        return d, z * math.sqrt(variance)

    base, half = at((se, se), (sp, sp))
    tips = []
    for name, apart, rate in (
        ("sensitivity", lambda d: ((se - d / 2, se + d / 2), (sp, sp)), se),
        ("specificity", lambda d: ((se, se), (sp - d / 2, sp + d / 2)), sp),
    ):
        own = [getattr(one, name) for one in rates]
        limits = _newcombe(rates, name)
        to_zero = differential(called, se, sp, name)  # type: ignore[arg-type]
        clear = abs(base) > half
        to_unsure = _first(apart, at, to_zero, rate, base) if clear else 0.0
        for what, d in (("the interval reaches 0", to_unsure), ("the sign changes", to_zero)):
            no = "none within [0, 1]" if math.isnan(d) else ""
            side = groups[int(d > 0)] if d else ""
            apart_already = own[1] - own[0]
            if not no and clear and d * apart_already > 0 and abs(apart_already) >= abs(d):
                notes.append(f"As measured, the two {name[:-1]}ies are apart by more than it takes: {what}.")
            tips.append(Tip(f"{name} apart", what, abs(d), "" if no else side, own[1] - own[0], *limits, no))
    worse = _common(rates, at)
    for what, c in worse.items():
        tips.append(Tip("both worse in both", what, c, reason="none within [0, 1]" if math.isnan(c) else ""))
    return TippingPoint(
        outcome, by, groups, called[1] - called[0], base, base - half, base + half, tuple(tips), rates, level,
        tuple(notes),
    )  # fmt: skip


def _newcombe(rates: tuple[Rates, Rates], name: str) -> tuple[float, float]:
    """Return the limits of the measured difference of two rates (Newcombe 1998, from the Wilson limits)."""
    (p0, l0, h0), (p1, l1, h1) = (
        (getattr(one, name), getattr(one, f"{name}_low"), getattr(one, f"{name}_high")) for one in rates
    )
    d = p1 - p0
    return d - math.hypot(p1 - l1, h0 - p0), d + math.hypot(h1 - p1, p0 - l0)


def _first(
    apart: Callable[[float], Any],
    at: Callable[..., tuple[float, float]],
    to_zero: float,
    rate: float,
    base: float,
) -> float:
    """Return the smallest distance of the rates at which the interval reaches 0, before the sign changes."""
    far = to_zero
    if math.isnan(far):  # go as far as the rates allow, in the direction in which the difference shrinks
        most = 2 * min(rate, 1 - rate)
        ends = [(d, at(*apart(d))) for d in (most, -most)]
        reached = [d for d, (value, half) in ends if not math.isnan(value) and abs(value) <= half]
        if not reached:
            return math.nan
        far = reached[0]
    low, high = 0.0, far
    for _ in range(STEPS):
        middle = (low + high) / 2
        value, half = at(*apart(middle))
        if math.isnan(value) or abs(value) <= half or (value > 0) != (base > 0):
            high = middle
        else:
            low = middle
    return high


def _common(rates: tuple[Rates, Rates], at: Callable[..., tuple[float, float]]) -> dict[str, float]:
    """Return by how much both rates of both groups have to fall for the interval to reach 0, and for another sign."""
    first = at([one.sensitivity for one in rates], [one.specificity for one in rates])
    points = {"the interval reaches 0": math.nan, "the sign changes": math.nan}
    most = min((one.sensitivity + one.specificity - 1) / 2 for one in rates)
    for step in range(1001):
        c = most * step / 1000
        value, half = at([one.sensitivity - c for one in rates], [one.specificity - c for one in rates])
        if math.isnan(value):
            break
        if math.isnan(points["the interval reaches 0"]) and abs(value) <= half:
            points["the interval reaches 0"] = c
        if (value > 0) != (first[0] > 0):
            points["the sign changes"] = c
            break
    return points
