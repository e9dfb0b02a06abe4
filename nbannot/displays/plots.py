"""Forest plots: values and paired differences with their intervals, one row each; and axes for every plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading
from nbannot.page.digits import MINUS, NONE, interval, number
from nbannot.page.figure import BLUE, INK, ORANGE, QUIET, Box, Dot, Figure, Line, Mark, Words, text_width
from nbannot.page.fragment import Fragment
from nbannot.page.widths import clipped

NAN = math.nan
NAME_CHARS = 44
NAMES_WIDEST = 150.0
"""Where a name takes more pixels, names stand above their dots, not beside them: the plot stays narrow."""
NAMES_WIDEST_ALONE = 320.0
"""The same of a plot with one panel, which has more room."""
ROW = 26.0
NAMED_ROW = 42.0
PANEL = 220.0
BETWEEN = 40.0
PANEL_CHARS = 34
TOP = 34.0
BAND_LEAST = 2.0


class Point(NamedTuple):
    """One run in a plot; what is not known is ``nan``."""

    name: str
    value: float
    ci_low: float = NAN
    ci_high: float = NAN
    cost: float = NAN
    baseline: float = NAN


def points(rows: Iterable[Any]) -> list[Point]:
    """Return rows as points: mappings with the names of `Point`, or tuples in its order; ``None`` is not known.

    >>> points([("a", 0.5), {"name": "b", "value": 0.6, "cost": None}])[1].cost
    nan
    """
    drawn = []
    for row in rows:
        given = dict(row) if isinstance(row, Mapping) else dict(zip(Point._fields, row, strict=False))
        numbers = {key: NAN if given.get(key) is None else float(given[key]) for key in Point._fields[1:]}
        drawn.append(Point(str(given["name"]), **numbers))
    return drawn


def forest(
    rows: Iterable[Any],
    differences: Iterable[Any] | None = None,
    *,
    title: str = "",
    metric: str = "value",
    reference: str = "",
    verdict: str | Sequence[str] = "",
    digits: int = 2,
    band: tuple[float, float] | None = None,
    heading: str = "",
    best: int | None = None,
) -> Fragment:
    """Return a forest plot: per row a dot and its interval; beside it, if given, paired differences with zero line.

    Parameters
    ----------
    rows
        ``(name, value, ci_low, ci_high, cost, baseline)`` each, as tuples or mappings; see `Point`.
    differences
        As many rows in the same order: the difference of each to the reference, with its interval.
    reference
        The run that the differences are taken to.
    verdict
        One or more sentences that stand below.
    band
        From where to where a shade lies behind the values: what people reach.
    heading
        What the names are; stands above them.
    best
        The row, counted from 0, that is marked as the best one.
    """
    drawn = points(rows)
    paired = points(differences) if differences is not None else []
    figure = forest_figure(drawn, paired, title=title, metric=metric, reference=reference, band=band,
                           heading=heading, best=best)  # fmt: skip
    against = any(not math.isnan(p.baseline) for p in drawn)
    header = [heading, metric, "95% interval", *(["baseline"] if against else [])]
    if paired:
        header += [f"difference to {reference or 'the reference'}", "95% interval"]
    cells = []
    for i, p in enumerate(drawn):
        row = [
            Cell(p.name, "strong" if i == best else "plain"),
            Cell(number(p.value, digits, low=-math.inf, high=math.inf)),
            interval_cell(p, digits),
            *([Cell(number(p.baseline, digits), "quiet")] if against else []),
        ]
        if paired:
            row += [Cell(signed(paired[i].value, digits)), interval_cell(paired[i], digits)]
        cells.append(row)
    sentences = [verdict] if isinstance(verdict, str) else list(verdict)
    blocks: list[Block] = [
        *([Heading(title, 1)] if title else []),
        figure,
        Grid(header, cells, "lri" + "r" * against + "ri" * bool(paired)),
        *([Bullets([s for s in sentences if s])] if any(sentences) else []),
    ]
    return Fragment.of(blocks, figure)


def interval_cell(p: Point, digits: int) -> Cell:
    """Return the interval of a point."""
    return Cell(interval(p.ci_low, p.ci_high, digits), "quiet")


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign.

    >>> signed(0.05), signed(-0.05), signed(0.0), signed(float("nan"))
    ('+0.05', '−0.05', '0.00', '–')
    """
    if math.isnan(value):
        return NONE
    shown = f"{value:+.{digits}f}".replace("-", MINUS)
    return shown.lstrip(f"+{MINUS}") if float(f"{value:.{digits}f}") == 0 else shown


def forest_figure(
    rows: Sequence[Point],
    paired: Sequence[Point] = (),
    *,
    title: str = "",
    metric: str = "value",
    reference: str = "",
    band: tuple[float, float] | None = None,
    heading: str = "",
    best: int | None = None,
) -> Figure:
    """Return the drawing of `forest`, and the same for a narrow page: names above their dots, panels in a column.

    Parameters
    ----------
    heading
        What the names are, e.g. the setting in which the runs differ; stands above them.
    best
        The row that is marked as the best one.
    """
    axis = f"difference to {reference or 'the reference'}"
    panels = [_Panel(rows, metric, BLUE, band=band)]
    panels += [_Panel(paired, axis, ORANGE, zero=True, best=best)] if paired else []
    names = [clipped(p.name, NAME_CHARS) for p in rows]
    widest = max([text_width(name) for name in names] or [0.0])
    beside = widest <= (NAMES_WIDEST if paired else NAMES_WIDEST_ALONE)
    says = f"{title or 'Forest plot'}: {metric} with 95% intervals of {len(rows)} rows"
    says += f"; highest marked: {names[best]}" if best is not None else ""
    says += "; a tick at each baseline" if any(not math.isnan(p.baseline) for p in rows) else ""
    says += "; paired differences beside them" if paired else ""
    says += f"; a band from {band[0]:.2f} to {band[1]:.2f}" if band else ""
    narrow = _forest_above(panels, names, says, heading, best)
    if not beside:
        return replace(_forest_above(panels, names, says, heading, best, across=True), narrow=narrow)
    left = max([text_width(name) for name in [*names, heading]]) + 24
    heights = [TOP + i * ROW + ROW / 2 for i in range(len(rows))]
    bottom = TOP + len(rows) * ROW
    marks: list[Mark] = [Words(left - 14, TOP - 18, heading, "end", 12, QUIET)] if heading else []
    marks += [
        Words(left - 14, y, name, "end", bold=i == best)
        for i, (y, name) in enumerate(zip(heights, names, strict=True))
    ]
    for place, panel in enumerate(panels):
        marks += panel.marks(left + place * (PANEL + BETWEEN), TOP, heights, bottom)
    width = left + len(panels) * (PANEL + BETWEEN) - BETWEEN + 20
    return Figure(width, bottom + 28, marks, says, narrow=narrow)


def _forest_above(
    panels: Sequence[_Panel],
    names: Sequence[str],
    says: str,
    heading: str,
    best: int | None,
    across: bool = False,
) -> Figure:
    """Return a forest plot whose names stand above their dots, in a space that no line of the grid crosses."""
    marks: list[Mark] = []
    left, right, top = 16.0, 16.0, TOP + (16 if heading else 0)
    for place, panel in enumerate(panels):
        if heading and (place == 0 or not across):
            marks.append(Words(left, top - 34, heading, "start", 12, QUIET, True))
        heights = [top + i * NAMED_ROW + NAMED_ROW * 0.72 for i in range(len(names))]
        bottom = top + len(names) * NAMED_ROW
        marks += [
            Words(left, y - NAMED_ROW / 2, name, bold=i == best)
            for i, (y, name) in enumerate(zip(heights, names, strict=True))
            if place == 0 or not across
        ]
        marks += panel.marks(left, top, heights, bottom, NAMED_ROW * 0.24)
        right = max(right, left + PANEL)
        if across:
            left += PANEL + BETWEEN
        else:
            top = bottom + 44 + TOP
    end = bottom if across else top - 44 - TOP
    words = max([text_width(name) for name in [*names, heading]]) + 16
    return Figure(max(right, words) + 20, end + 28, marks, says)


@dataclass(frozen=True)
class _Panel:
    """The axis, dots and intervals of one side of a forest plot."""

    rows: Sequence[Point]
    name: str
    color: str
    zero: bool = False
    band: tuple[float, float] | None = None
    best: int | None = None

    def marks(
        self, left: float, top: float, heights: Sequence[float], bottom: float, half: float | None = None
    ) -> list[Mark]:
        """Return the marks; with `half`, the grid is drawn so far above and below each row and not between them."""
        rows = self.rows
        shown = [v for p in rows for v in (p.value, p.ci_low, p.ci_high, p.baseline)] + [*(self.band or ())]
        known = [v for v in shown if not math.isnan(v)] + ([0.0] if self.zero else [])
        ticks = nice_ticks(min(known, default=0.0), max(known, default=1.0))
        low, high = ticks[0], ticks[-1]

        def x(value: float) -> float:
            return left + (value - low) / (high - low) * PANEL

        pieces = [(top, bottom)] if half is None else [(y - half, y + half) for y in heights]
        marks: list[Mark] = [Words(left, top - 18, clipped(self.name, PANEL_CHARS), "start", 12, QUIET)]
        for start, end in pieces:
            if self.band is not None:
                wide = max(x(self.band[1]) - x(self.band[0]), BAND_LEAST)
                marks.append(Box(x(self.band[0]), start, wide, end - start, QUIET, 0.18))
            marks += [Line(x(t), start, x(t), end) for t in ticks]
            marks += [Line(x(0), start, x(0), end, INK, 1.2, dashed=True)] if self.zero else []
        marks += [Words(x(t), bottom + 14, tick_text(t, ticks), "middle", 11, QUIET) for t in ticks]
        for place, (y, p) in enumerate(zip(heights, rows, strict=True)):
            if not math.isnan(p.baseline):
                marks.append(Line(x(p.baseline), y - 7, x(p.baseline), y + 7, ORANGE, 2))
            if place == self.best:
                at_end = x(0) > left + PANEL * 0.7
                marks.append(
                    Words(
                        x(0) + (-8 if at_end else 8), y, "the best", "end" if at_end else "start", 11, QUIET
                    )
                )
                continue
            if math.isnan(p.value) and math.isnan(p.ci_low):
                marks.append(Words(left + 6, y, "not defined", "start", 11, QUIET))
                continue
            if not (math.isnan(p.ci_low) or math.isnan(p.ci_high)):
                marks.append(Line(x(p.ci_low), y, x(p.ci_high), y, self.color, 2))
                marks += [Line(x(end), y - 4, x(end), y + 4, self.color, 2) for end in (p.ci_low, p.ci_high)]
            if not math.isnan(p.value):
                marks.append(Dot(x(p.value), y, 4.5, self.color))
        return marks


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that span `low` to `high`.

    >>> nice_ticks(0.31, 0.62)
    [0.3, 0.4, 0.5, 0.6, 0.7]
    """
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Return a tick with as many decimals as the ticks need."""
    step = ticks[1] - ticks[0]
    digits = next((d for d in range(7) if abs(round(step, d) - step) < 1e-9 * max(1.0, abs(step))), 6)
    return f"{value:,.{digits}f}".replace("-", MINUS)
