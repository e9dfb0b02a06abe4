"""What a tipping point says: the measured rates, how far apart they would have to be, and the page of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.inference.finding import Drawn, Finding, plain
from nbannot.page.blocks import Block, Bullets, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, interval, number
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = ("scenario", "what", "tips_at", "higher_in", "measured", "measured_low", "measured_high", "reason")
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


def _tips_from(one: Tip) -> str:
    if one.tips_at == 0:
        return "so already"
    return number(one.tips_at, 3) + (f", higher in {one.higher_in}" if one.higher_in else "")


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
    term: str = ""

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
                one.reason or _tips_from(one),
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
        corrected = f"{plain(self.difference, 3)} {interval(self.low, self.high, 3)}"
        finding = (
            f"The coefficient of {self.term} is {plain(self.naive, 3)} by the model's labels; with the measured rates, "
            f"the same in both groups, it is {corrected}."
            if self.term
            else f"The model's labels differ by {plain(self.naive, 3)}; with the measured rates, the same in both "
            f"groups, the difference is {corrected}."
        )
        return [
            Heading(f"What would tip {self.outcome} by {self.by}", 1, f"{second} minus {first}"),
            Para(finding, "notice"),
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
