"""A comparison of runs: per field and metric the values, the paired differences, a verdict, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nbannot.comparing.names import short_names
from nbannot.comparing.verdict import NOT_APART, SURE, verdict_sentences
from nbannot.displays.cost_plots import cost_text, pareto, tradeoff_figure
from nbannot.displays.plots import Point, forest_figure, signed
from nbannot.measures.paired_statistics import LOWER_IS_BETTER
from nbannot.page.blocks import Block, Cell, Fold, Footnotes, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, decimals, interval, number
from nbannot.page.figure import Figure
from nbannot.page.fragment import Fragment
from nbannot.report.fields import brief
from nbannot.report.words import metric_words, plural

if TYPE_CHECKING:
    from nbannot.comparing.align import Compared
    from nbannot.comparing.found import Comparison
    from nbannot.measures.pair_result import ManyResult

PAIRS_SHOWN = 60


def comparison(compared: Comparison) -> Fragment:
    """Return a comparison: a verdict in words, a forest plot of values and paired differences, the pairs, the cost."""
    blocks: list[Block] = [
        Heading(
            "Comparison",
            1,
            f"{plural(len(compared.runs), 'run')}, {plural(len(compared.results), 'metric')}, "
            f"{plural(compared.family, 'paired comparison')}",
        )
    ]
    figures: list[Figure] = []
    heading, short = short_names(compared.runs)
    for column, metric in compared.results:
        first, *further = verdict_sentences(compared, (column, metric))
        if further and further[0].startswith(NOT_APART):  # a best one that is not shown to be one
            first = f"{first} {further.pop(0)}"
        f = compared.runs[0].task.codebook[column]
        result = compared.results[column, metric]
        digits = decimals(result.pairs[0].n if result.pairs else 0)
        values = _values(compared, (column, metric), short)
        figure = _forest(compared, (column, metric), values, digits, heading)
        figures.append(figure)
        blocks += [
            Heading(f.name, 2, metric_words(metric)),
            Para(first, "verdict"),
            *([Para(" ".join(further), "notice")] if further else []),
            figure,
            *_band_words(compared.ceiling(column, metric), digits),
            _pairs_grid(compared, (column, metric), digits, heading, short),
            *_cost(compared, values, metric),
        ]
    blocks += [Para(note, "quiet") for note in compared.notes]
    blocks.append(Para(f"Conventions: {compared.conventions}", "quiet"))
    return Fragment.of(blocks, *figures)


def _values(compared: Comparison, key: tuple[str, str], names: dict[str, str]) -> list[Point]:
    """Return every run's value with its own interval, on the rows of the comparison; and its coverage by its name."""
    coverage = compared.coverage(key[0])
    every = zip(compared.runs, compared.own(*key), coverage, compared.baselines(*key), strict=True)
    missing = min(coverage, default=1.0) < 1
    return [
        Point(
            names[run.run_id] + (f" ({_answered(of)} answered)" if missing else ""),
            own.value,
            own.ci_low,
            own.ci_high,
            baseline=math.nan if baseline is None else baseline,
        )
        for run, own, of, baseline in every
    ]


def _answered(coverage: float) -> str:
    """Return a coverage in percent that is 100% only where nothing is missing.

    >>> _answered(1.0), _answered(0.9994), _answered(0.775)
    ('100%', '99.9%', '78%')
    """
    if coverage < 1 and f"{coverage:.0%}" == "100%":
        return f"{min(coverage, 0.999):.1%}"
    return f"{coverage:.0%}"


def _forest(
    compared: Comparison, key: tuple[str, str], values: list[Point], digits: int, heading: str
) -> Figure:
    """Return the plot: values at the left, differences to the best run at the right, the best first; and as a table."""
    result, words = compared.results[key], metric_words(key[1])
    best = result.best
    to_best = {pair.run_b: pair for pair in result.to_best}
    differences = []
    for place, (run, point) in enumerate(zip(compared.runs, values, strict=True)):
        pair = to_best.get(run.run_id)
        if pair is None:
            differences.append(Point(point.name, 0.0 if place == best else math.nan))
        else:
            differences.append(Point(point.name, -pair.diff, -pair.ci_high, -pair.ci_low))
    notes = Footnotes()
    own = compared.own(*key)
    order = order_of(values, lower_is_better=key[1] in LOWER_IS_BETTER, best=best)
    against = any(not math.isnan(v.baseline) for v in values)
    p_of = {run: pair.p_adjusted for run, pair in to_best.items()}

    def marked(i: int) -> str:
        pair = to_best.get(compared.runs[i].run_id)
        return notes.mark(brief(pair.reason)) if pair is not None else ""

    rows: list[Row] = [
        [
            values[i].name,
            number(values[i].value, digits, low=-math.inf, high=math.inf),
            interval(values[i].ci_low, values[i].ci_high, digits) + notes.mark(brief(own[i].reason)),
            *([number(values[i].baseline, digits)] if against else []),
            "best" if i == best else signed(differences[i].value, digits),
            "" if i == best else interval(differences[i].ci_low, differences[i].ci_high, digits) + marked(i),
            "" if i == best else _p(p_of.get(compared.runs[i].run_id, math.nan)),
        ]
        for i in order
    ]
    of_difference = _interval_words(compared, key[0])
    p_name = "p (Holm)" if compared.adjust == "holm" else "p (BH)"
    header = [heading or "run", words, "95% interval", *(["baseline"] if against else [])]
    columns = [*header, "to the best", of_difference, p_name]
    told = [*notes.lines, _n_words(result)]
    twin = Grid(columns, rows, "lri" + "r" * against + "rir", notes=told)
    paired = [differences[i] for i in order] if best is not None else []
    drawn = forest_figure(
        [values[i] for i in order], paired, metric=words, reference="the best", band=compared.ceiling(*key),
        heading=heading, best=None if best is None else order.index(best),
    )  # fmt: skip
    return replace(drawn, twin=twin)


def order_of(values: list[Point], *, lower_is_better: bool, best: int | None) -> list[int]:
    """Return the rows from the best value to the worst; undefined ones last, the first of equals where it stood."""
    sign = 1 if lower_is_better else -1

    def rank(i: int) -> tuple[bool, float, bool]:
        value = values[i].value
        return math.isnan(value), 0.0 if math.isnan(value) else sign * value, i != best

    return sorted(range(len(values)), key=rank)


def _band_words(band: tuple[float, float] | None, digits: int) -> list[Block]:
    """Return what the band behind the values is."""
    if band is None:
        return []
    low, high = (number(end, digits, low=-math.inf, high=math.inf) for end in band)
    words = (
        f"Band: what the people who are compared reach against the same labels, {low} to {high}. A model beyond it has "
        "no room left that these labels could show; where the labels were made from theirs, the band lies too high."
    )
    return [Para(words, "quiet")]


def _interval_words(compared: Comparison, column: str) -> str:
    return "95% interval (adjusted)" if compared.families[column] > 1 else "95% interval"


def _pairs_grid(
    compared: Comparison, key: tuple[str, str], digits: int, heading: str, names: dict[str, str]
) -> Grid:
    result = compared.results[key]
    notes = Footnotes()
    rows: list[Row] = []
    for pair in result.pairs[:PAIRS_SHOWN]:
        sure = pair.p_adjusted < SURE and not pair.doubt
        rows.append(
            [
                names.get(pair.run_a, pair.run_a),
                number(pair.value_a, digits, low=-math.inf, high=math.inf),
                names.get(pair.run_b, pair.run_b),
                number(pair.value_b, digits, low=-math.inf, high=math.inf),
                Cell(signed(pair.diff, digits), "strong" if sure else "plain"),
                Cell(interval(pair.ci_low, pair.ci_high, digits) + notes.mark(brief(pair.reason)), "quiet"),
                _p(pair.p_adjusted),
                count(pair.n_discordant),
                Cell(number(pair.mdd, digits, high=math.inf), "quiet"),
            ]
        )
    rest = len(result.pairs) - len(rows)
    p = "p (Holm)" if compared.adjust == "holm" else "p (BH)"
    header = [
        "A",
        "",
        "B",
        "",
        "A − B",
        _interval_words(compared, key[0]),
        p,
        "texts that decide",
        "detectable",
    ]
    more = [f"… and {plural(rest, 'more pair')}: see frame()."] if rest > 0 else []
    detectable = (
        "detectable: the smallest true difference that this many texts would find with a power of 80%."
    )
    caption = f"Pairs of runs, by {heading}" if heading else ""
    return Grid(header, rows, "lrlrrirrr", caption, [*notes.lines, _n_words(result), detectable, *more])


def _n_words(result: ManyResult) -> str:
    """Return on how many texts, as it must stand below the table wherever that is carried."""
    n = result.pairs[0].n if result.pairs else 0
    return f"{plural(n, 'text')} with a human label." if n else "No text with a human label."


def _p(p: float) -> str:
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cost(compared: Comparison, values: list[Point], metric: str) -> list[Block]:
    """Return quality against time, tokens and energy, as far as at least two runs tell what they took."""
    from nbannot.comparing.took import energy_of, seconds_of, tokens_of

    known = [
        (name, costs)
        for name, costs in (
            ("model time, s", _spent(compared, seconds_of)),
            ("tokens", _spent(compared, tokens_of)),
            _energy(_spent(compared, energy_of)),
        )
        if sum(not math.isnan(cost) for cost in costs) > 1
    ]
    if not known:
        return []
    blocks: list[Block] = []
    cells: list[list[Cell | str]] = [[str(i + 1), p.name] for i, p in enumerate(values)]
    for name, costs in known:
        rows = [p._replace(cost=cost) for p, cost in zip(values, costs, strict=True)]
        best = pareto(rows)
        blocks.append(tradeoff_figure(rows, best, metric=metric_words(metric), cost=name))
        for row, cost, chosen in zip(cells, costs, best, strict=True):
            row.append(Cell(("◆ " if chosen else "") + cost_text(cost), "strong" if chosen else "plain"))
    notes = [
        "◆ in the Pareto set: no other run here is both as good and as cheap, as far as these texts tell."
    ]
    header = ["", "run", *(name for name, _ in known)]
    grid = Grid(header, cells, "ll" + "r" * len(known), notes=notes)
    return [Fold("Quality against cost", [*blocks, grid])]


def _spent(compared: Comparison, cost: Callable[[Compared], float | None]) -> list[float]:
    every = [cost(run) for run in compared.runs]
    return [math.nan if value is None else float(value) for value in every]


def _energy(kwh: list[float]) -> tuple[str, list[float]]:
    """Return energies in the unit that suits the largest of them, and its name."""
    most = max((value for value in kwh if not math.isnan(value)), default=0.0)
    factor, unit = next(((f, u) for f, u in ((1.0, "kWh"), (1e3, "Wh")) if most * f >= 1), (1e6, "mWh"))
    return f"energy, {unit}", [value * factor for value in kwh]
