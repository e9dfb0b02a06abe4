"""Plots of several runs: values and differences with their intervals, quality against what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading
from nbannot.page.digits import MINUS, NONE, interval, number
from nbannot.page.figure import BLUE, INK, ORANGE, QUIET, Box, Dot, Figure, Line, Mark, Words, text_width
from nbannot.page.fragment import Fragment
from nbannot.page.widths import clipped

NAN = math.nan
NAME_CHARS = 44
NAME_BESIDE = 17
"""Names of more characters stand above their dots, not beside them: the plot stays narrow and its words legible."""
ROW = 26.0
NAMED_ROW = 40.0
PANEL = 235.0
PANEL_CHARS = 34
TOP = 34.0
BAND_LEAST = 2.0
LOG_FROM = 30.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""


class Point(NamedTuple):
    """One run in a plot; what is not known is ``nan``."""

    name: str
    value: float
    ci_low: float = NAN
    ci_high: float = NAN
    cost: float = NAN


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
) -> Fragment:
    """Return a forest plot: per row a dot and its interval; beside it, if given, paired differences with zero line.

    Parameters
    ----------
    rows
        ``(name, value, ci_low, ci_high, cost)`` each, as tuples or mappings; see `Point`.
    differences
        As many rows in the same order: the difference of each to the reference, with its interval.
    reference
        The run that the differences are taken to.
    verdict
        One or more sentences that stand below.
    band
        From where to where a shade lies behind the values: what people reach.
    """
    drawn = points(rows)
    paired = points(differences) if differences is not None else []
    figure = forest_figure(drawn, paired, title=title, metric=metric, reference=reference, band=band)
    header = ["run", metric, "95% interval"]
    if paired:
        header += [f"difference to {reference or 'the reference'}", "95% interval"]
    cells = []
    for i, p in enumerate(drawn):
        row = [
            Cell(p.name),
            Cell(number(p.value, digits, low=-math.inf, high=math.inf)),
            _interval(p, digits),
        ]
        if paired:
            row += [Cell(signed(paired[i].value, digits)), _interval(paired[i], digits)]
        cells.append(row)
    sentences = [verdict] if isinstance(verdict, str) else list(verdict)
    blocks: list[Block] = [
        *([Heading(title, 1)] if title else []),
        figure,
        Grid(header, cells, "lri" + "ri" * bool(paired)),
        *([Bullets([s for s in sentences if s])] if any(sentences) else []),
    ]
    return Fragment.of(blocks, figure)


def _interval(p: Point, digits: int) -> Cell:
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
) -> Figure:
    """Return the drawing of `forest`."""
    names = [clipped(p.name, NAME_CHARS) for p in rows]
    beside = all(len(name) <= NAME_BESIDE for name in names)
    left = max([text_width(name) for name in names] or [0.0]) + 24 if beside else 24.0
    step, shift = (ROW, 0.0) if beside else (NAMED_ROW, NAMED_ROW / 2)
    heights = [TOP + shift + i * step + ROW / 2 for i in range(len(rows))]
    bottom = TOP + len(rows) * step
    marks: list[Mark] = _panel(rows, left, heights, bottom, metric, BLUE, band=band)
    marks += [
        Words(left - 14, y - shift, name, "end" if beside else "start")
        for y, name in zip(heights, names, strict=True)
    ]
    width = left + PANEL + 20
    if paired:
        start = left + PANEL + 46
        axis = f"difference to {reference or 'the reference'}"
        marks += _panel(paired, start, heights, bottom, axis, ORANGE, zero=True)
        width = start + PANEL + 20
    says = f"{title or 'Forest plot'}: {metric} with 95% intervals of {len(rows)} runs"
    says += ", and paired differences" if paired else ""
    says += f"; a band from {band[0]:.2f} to {band[1]:.2f}" if band else ""
    return Figure(width, bottom + 40, marks, says)


def _panel(
    rows: Sequence[Point],
    left: float,
    heights: Sequence[float],
    bottom: float,
    name: str,
    color: str,
    *,
    zero: bool = False,
    band: tuple[float, float] | None = None,
) -> list[Mark]:
    """Return axis, dots and intervals of one panel."""
    shown = [v for p in rows for v in (p.value, p.ci_low, p.ci_high)] + [*(band or ())]
    known = [v for v in shown if not math.isnan(v)]
    ticks = nice_ticks(
        min([*known, 0.0] if zero else known, default=0.0), max([*known, 0.0] if zero else known, default=1.0)
    )
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * PANEL

    marks: list[Mark] = [Words(left, TOP - 18, clipped(name, PANEL_CHARS), "start", 12, QUIET)]
    if band is not None:
        marks.append(
            Box(x(band[0]), TOP, max(x(band[1]) - x(band[0]), BAND_LEAST), bottom - TOP, QUIET, 0.18)
        )
    marks += [Line(x(t), TOP, x(t), bottom) for t in ticks]
    marks += [Words(x(t), bottom + 14, tick_text(t, ticks), "middle", 11, QUIET) for t in ticks]
    if zero:
        marks.append(Line(x(0), TOP, x(0), bottom, INK, 1.2, dashed=True))
    for y, p in zip(heights, rows, strict=True):
        if math.isnan(p.value):
            marks.append(Words(left + 6, y, "not defined", "start", 11, QUIET))
            continue
        if not (math.isnan(p.ci_low) or math.isnan(p.ci_high)):
            marks.append(Line(x(p.ci_low), y, x(p.ci_high), y, color, 2))
            marks += [Line(x(end), y - 4, x(end), y + 4, color, 2) for end in (p.ci_low, p.ci_high)]
        marks.append(Dot(x(p.value), y, 4.5, color))
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


def pareto(rows: Sequence[Point]) -> list[bool]:
    """Return which rows are in the Pareto set: no other is at least as good and as cheap, and better in one.

    Rows without value or cost are not in it.

    >>> pareto([Point("a", 0.5, cost=1), Point("b", 0.6, cost=2), Point("c", 0.4, cost=2)])
    [True, True, False]
    """
    known = [p for p in rows if not (math.isnan(p.value) or math.isnan(p.cost))]

    def beaten(p: Point) -> bool:
        return any(
            q.value >= p.value and q.cost <= p.cost and (q.value > p.value or q.cost < p.cost) for q in known
        )

    return [not (math.isnan(p.value) or math.isnan(p.cost)) and not beaten(p) for p in rows]


def tradeoff(
    rows: Iterable[Any], *, title: str = "", metric: str = "value", cost: str = "cost", digits: int = 2
) -> Fragment:
    """Return quality against cost: one numbered dot per row with its interval; the Pareto set filled and joined.

    Parameters
    ----------
    rows
        ``(name, value, ci_low, ci_high, cost)`` each, as tuples or mappings; see `Point`.
    cost
        What the cost is and its unit, e.g. ``"seconds per text"``.
    """
    drawn = points(rows)
    best = pareto(drawn)
    figure = tradeoff_figure(drawn, best, title=title, metric=metric, cost=cost)
    cells = [
        [
            Cell(str(i + 1), "quiet"),
            Cell(p.name, "strong" if best[i] else "plain"),
            Cell(number(p.value, digits, low=-math.inf, high=math.inf)),
            _interval(p, digits),
            Cell(cost_text(p.cost)),
            Cell("yes" if best[i] else ""),
        ]
        for i, p in enumerate(drawn)
    ]
    notes = [
        "Pareto set: no other run here is both as good and as cheap. It is read off these texts: intervals that "
        "are wide make it unsure."
    ]
    header = ["", "run", metric, "95% interval", cost, "Pareto set"]
    blocks: list[Block] = [
        *([Heading(title, 1)] if title else []),
        figure,
        Grid(header, cells, "llrirl", notes=notes),
    ]
    return Fragment.of(blocks, figure)


def tradeoff_figure(
    rows: Sequence[Point], best: Sequence[bool], *, title: str = "", metric: str = "value", cost: str = "cost"
) -> Figure:
    """Return the drawing of `tradeoff`; rows without value or cost are not in it."""
    drawn = [(i, p) for i, p in enumerate(rows) if not (math.isnan(p.value) or math.isnan(p.cost))]
    values = [v for _, p in drawn for v in (p.value, p.ci_low, p.ci_high) if not math.isnan(v)] or [0.0, 1.0]
    costs = [p.cost for _, p in drawn] or [0.0, 1.0]
    up = nice_ticks(min(values), max(values))
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > LOG_FROM
    along = _powers(min(costs), max(costs)) if logarithmic else nice_ticks(0.0, max(costs))
    left, top, width, height = 64.0, 40.0, 460.0, 280.0

    def x(value: float) -> float:
        low, high = along[0], along[-1]
        if logarithmic:
            return left + (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) * width
        return left + (value - low) / (high - low) * width

    def y(value: float) -> float:
        return top + height - (value - up[0]) / (up[-1] - up[0]) * height

    marks: list[Mark] = [Words(left - 40, 18, metric, "start", 12, QUIET)]
    marks += [Line(left, y(t), left + width, y(t)) for t in up]
    marks += [Words(left - 8, y(t), tick_text(t, up), "end", 11, QUIET) for t in up]
    marks += [Line(x(t), top + height, x(t), top + height + 4, QUIET) for t in along]
    ticks = [f"{t:g}" for t in along] if logarithmic else [tick_text(t, along) for t in along]
    marks += [
        Words(x(t), top + height + 15, s, "middle", 11, QUIET) for t, s in zip(along, ticks, strict=True)
    ]
    scale = " (logarithmic)" if logarithmic else ""
    marks.append(Words(left + width, top + height + 36, cost + scale, "end", 12, QUIET))
    front = sorted((p for (i, p) in drawn if best[i]), key=lambda p: p.cost)
    marks += [
        Line(x(a.cost), y(a.value), x(b.cost), y(b.value), BLUE, 1.2, dashed=True) for a, b in pairwise(front)
    ]
    for i, p in drawn:
        color = BLUE if best[i] else QUIET
        if not (math.isnan(p.ci_low) or math.isnan(p.ci_high)):
            marks.append(Line(x(p.cost), y(p.ci_low), x(p.cost), y(p.ci_high), color, 1.2))
        marks.append(Dot(x(p.cost), y(p.value), 9, color, filled=best[i]))
        marks.append(
            Words(x(p.cost), y(p.value), str(i + 1), "middle", 10, "#ffffff" if best[i] else INK, True)
        )
    says = f"{title or 'Quality against cost'}: {metric} against {cost} of {len(drawn)} runs"
    return Figure(left + width + 24, top + height + 52, marks, says)


def cost_text(cost: float) -> str:
    """Return a cost with three digits or, from 100 on, as a whole number.

    >>> cost_text(0.02345), cost_text(76421.0), cost_text(float("nan"))
    ('0.0234', '76,421', '–')
    """
    if math.isnan(cost):
        return NONE
    return f"{cost:,.0f}" if abs(cost) >= 100 else f"{cost:.3g}"


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten that span `low` to `high`, above 0."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**i for i in range(first, max(last, first + 1) + 1)]
