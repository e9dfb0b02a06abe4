"""Quality against what it costs: one dot per run, the runs that no other one beats in both joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from nbannot.displays.plots import Point, interval_cell, nice_ticks, points, tick_text
from nbannot.page.blocks import Block, Cell, Grid, Heading
from nbannot.page.digits import NONE, number
from nbannot.page.figure import BLUE, INK, PAPER, QUIET, Dot, Figure, Line, Mark, Words
from nbannot.page.fragment import Fragment
from nbannot.report.words import metric_words

WIDE, NARROW = 460.0, 240.0
"""Pixels of the axis of costs, also on a phone."""
LOG_FROM = 30.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""


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
            interval_cell(p, digits),
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


def costs_of(rows: Sequence[Mapping[str, Any]], field: str, metric: str, cost: str) -> Fragment:
    """Return quality against cost of the runs of a comparison."""
    words = metric_words(metric)
    return tradeoff(rows, title=f"{field}: {words} against {cost.split(',')[0]}", metric=words, cost=cost)


def tradeoff_figure(
    rows: Sequence[Point],
    best: Sequence[bool],
    *,
    title: str = "",
    metric: str = "value",
    cost: str = "cost",
    width: float = WIDE,
) -> Figure:
    """Return the drawing of `tradeoff`; rows without value or cost are not in it."""
    drawn = [(i, p) for i, p in enumerate(rows) if not (math.isnan(p.value) or math.isnan(p.cost))]
    values = [v for _, p in drawn for v in (p.value, p.ci_low, p.ci_high) if not math.isnan(v)] or [0.0, 1.0]
    costs = [p.cost for _, p in drawn] or [0.0, 1.0]
    up = nice_ticks(min(values), max(values))
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > LOG_FROM
    along = (
        _powers(min(costs), max(costs))
        if logarithmic
        else nice_ticks(0.0, max(costs), 5 if width == WIDE else 3)
    )
    left, top, height = 64.0, 40.0, 280.0 if width == WIDE else 220.0

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
        marks.append(Words(x(p.cost), y(p.value), str(i + 1), "middle", 10, PAPER if best[i] else INK, True))
    says = f"{title or 'Quality against cost'}: {metric} against {cost} of {len(drawn)} runs"
    small = None
    if width == WIDE:
        small = tradeoff_figure(rows, best, title=title, metric=metric, cost=cost, width=NARROW)
    return Figure(left + width + 24, top + height + 52, marks, says, narrow=small)


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
