"""What `calibration` found: a row per form of the probabilities, a reliability table and plot, and the page."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nbannot.errors import ScoringError
from nbannot.inference.finding import Finding
from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, interval, number
from nbannot.page.figure import BLUE, INK, QUIET, Dot, Figure, Line, Mark, Words
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

SIDE, LEFT, TOP = 240.0, 46.0, 20.0
LIMITS = (
    "ECE is never 0 on so few answers: the null ECE is what a perfectly calibrated model with these probabilities "
    "would get; only an ECE well above it says that the probabilities mislead.",
    "Calibration says whether probabilities can be believed on average, not whether labels are right: a model that "
    "says .5 and is right half of the time is calibrated. It holds for texts like these.",
)


@dataclass(frozen=True)
class Calibrated:
    """One form of the probabilities on the same texts: as told, or after a fit on dev; the columns of `.frame`.

    Attributes
    ----------
    form, fitted_on, parameter
        What was done, on how many texts of dev (0: nothing was fitted), and the fitted value (``nan`` without one).
    ece, ece_null, ece_equal_mass, ece_equal_mass_null
        Expected calibration error of the given label's probability, in bins of equal width and of equal mass, and what
        perfect calibration gets on as many answers.
    brier, log_loss
        Over all options: 0 (best) to 2; and in natural logarithms.
    auroc
        How well probabilities tell right labels from wrong ones; .5 is chance, ``nan`` where all are of a kind.
    """

    form: str
    fitted_on: int
    parameter: float
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    mean_probability: float
    ece: float
    ece_null: float
    ece_equal_mass: float
    ece_equal_mass_null: float
    brier: float
    brier_low: float
    brier_high: float
    log_loss: float
    auroc: float


@dataclass(frozen=True)
class Bin:
    """Labels that were given with about the same probability: what it was on average, and how many were right."""

    form: str
    above: float
    up_to: float
    n: int
    mean_probability: float
    share_right: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, repr=False)
class Calibration(Finding):
    """The result of `calibration`.

    Attributes
    ----------
    forms
        One `Calibrated` as told, and one per fit if a dev run was given.
    bins
        The reliability table: one `Bin` per form and filled bin.
    temperature, threshold
        What was fitted on dev; ``nan`` without a dev run (and, for the threshold, for all but checkboxes).
    notes
        What was checked and left out, one sentence each.
    """

    field: Field
    run_id: str
    level: float
    forms: tuple[Calibrated, ...]
    bins: tuple[Bin, ...]
    temperature: float
    threshold: float
    notes: tuple[str, ...]

    @property
    def frame(self) -> Frame:
        """One row per form of the probabilities; the columns are the attributes of `Calibrated`."""
        return make_frame([vars(one) for one in self.forms], tuple(f.name for f in fields(Calibrated)))

    @property
    def table(self) -> Frame:
        """The reliability table: one row per form and bin; the columns are the attributes of `Bin`."""
        return make_frame([vars(one) for one in self.bins], tuple(f.name for f in fields(Bin)))

    def blocks(self) -> list[Block]:
        """Return the page: what was found, the reliability plot and table, every form, and what limits it."""
        told = self.forms[0]
        gap = told.mean_probability - told.accuracy
        way = "surer than right" if gap > 0 else "less sure than right"
        sentence = (
            f"{count(told.n)} labels were given with probability {number(told.mean_probability)} on average, and "
            f"{number(told.accuracy)} {interval(told.accuracy_low, told.accuracy_high)} of them were right"
            + (f": {way} by {number(abs(gap))}." if abs(gap) >= 0.005 else ".")
            + f" ECE {number(told.ece)}; perfectly calibrated, a model would get {number(told.ece_null)} here."
        )
        rows: list[Row] = [
            [
                Cell(one.form, "strong" if one.fitted_on == 0 else "plain"),
                f"fitted on dev, n = {count(one.fitted_on)}" if one.fitted_on else "",
                number(one.ece),
                Cell(number(one.ece_null), "quiet"),
                number(one.brier, high=2),
                interval(one.brier_low, one.brier_high),
                number(one.log_loss, high=math.inf),
                number(one.auroc) if not math.isnan(one.auroc) else NONE,
                number(one.accuracy),
            ]
            for one in self.forms
        ]
        inside = f"{self.level:.0%}"
        own = [one for one in self.bins if one.form == told.form]
        table: list[Row] = [
            [
                f"{one.above:.1f} to {one.up_to:.1f}",
                count(one.n),
                number(one.mean_probability),
                number(one.share_right),
                interval(one.ci_low, one.ci_high),
            ]
            for one in own
        ]
        header = ["probabilities", "", "ECE", "null", "Brier", inside, "log loss", "AUROC", "right"]
        return [
            Heading("Calibration", 1, f"{self.field.name}, {self.run_id}"),
            Para(sentence, "notice"),
            reliability_figure(own),
            Grid(["probability", "labels", "mean", "share right", inside], table, "lrrri"),
            Grid(header, rows, "llrrrirrr"),
            *([Bullets(self.notes)] if self.notes else []),
            Bullets(LIMITS, "quiet"),
        ]

    def plot(self, form: str = "as told") -> Figure:
        """Return the reliability plot of one form, with ``.save("plot.svg")``.

        Raises
        ------
        ScoringError
            If there is no such form.
        """
        own = [one for one in self.bins if one.form == form]
        if not own:
            names = ", ".join(one.form for one in self.forms)
            raise ScoringError(f"unknown form '{form}'.\n  Known here: {names}.")
        return reliability_figure(own)

    def __repr__(self) -> str:
        told = self.forms[0]
        return (
            f"<Calibration of {self.field.name}: ECE {told.ece:.3f}, null {told.ece_null:.3f}, n = {told.n}>"
        )


def reliability_figure(bins: list[Bin]) -> Figure:
    """Return the drawing: share right with its interval over mean probability; on the diagonal they are the same."""

    def x(value: float) -> float:
        return LEFT + value * SIDE

    def y(value: float) -> float:
        return TOP + (1 - value) * SIDE

    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    marks: list[Mark] = [Line(x(t), y(0), x(t), y(1)) for t in ticks]
    marks += [Line(x(0), y(t), x(1), y(t)) for t in ticks]
    marks += [Words(x(t), y(0) + 14, f"{t:g}", "middle", 11, QUIET) for t in ticks]
    marks += [Words(x(0) - 8, y(t), f"{t:g}", "end", 11, QUIET) for t in ticks]
    marks.append(Line(x(0), y(0), x(1), y(1), INK, 1.2, dashed=True))
    for one in bins:
        at = x(one.mean_probability)
        marks.append(Line(at, y(one.ci_low), at, y(one.ci_high), BLUE, 2))
        marks.append(Dot(at, y(one.share_right), 4.5, BLUE))
    marks.append(Words(x(0.5), y(0) + 32, "probability of the label", "middle", 12, QUIET))
    marks.append(Words(x(0), TOP - 10, "share right", "start", 12, QUIET))
    says = f"Reliability: share of right labels over their probability, {len(bins)} bins; the diagonal is perfect"
    return Figure(LEFT + SIDE + 20, TOP + SIDE + 46, marks, says)
