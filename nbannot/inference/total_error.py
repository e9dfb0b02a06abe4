"""The whole error: how far a number would move with other texts, another prompt, another model, another repeat.

An interval that resamples texts alone is too narrow for a claim that is not about one prompt of one model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import MANY, Drawn, Finding, looks_at, plain
from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading, Para, Row
from nbannot.page.digits import count, interval, share
from nbannot.report.words import plural
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.inference.grid import Estimator
    from nbannot.record.run import Run
    from nbannot.tools.frames import Frame

COLUMNS = ("component", "levels", "df", "variance", "sd", "share", "holds")
TEXTS, REST, CODERS = "texts", "repeat and rest", "coders"
FEW_LEVELS = 6
"""The variance between fewer prompts or models than this is hardly known, and the result says so."""
LIMITS = (
    "A facet counts as drawn from a population of prompts, models or coders like those in the grid; one that is held "
    "fixed limits the claim to its levels.",
    "A variance from few levels is itself uncertain: its degrees of freedom stand beside it.",
)


@dataclass(frozen=True)
class Component:
    """One source of variance: its levels, degrees of freedom, variance of one level, and whether it is held fixed."""

    name: str
    levels: int
    df: float
    variance: float
    fixed: bool = False


@dataclass(frozen=True, repr=False)
class TotalError(Finding):
    """The result of `total_error`.

    Attributes
    ----------
    estimate
        Mean over the runs of the grid.
    texts_low, texts_high
        Its 95% interval over texts alone: what is usually printed.
    low, high
        Its whole interval, over texts and every facet that is not held fixed.
    one_run_low, one_run_high
        The whole interval of a single run, around the mean.
    components
        `Component` of texts, facets, interactions, and what is left.
    df
        Degrees of freedom of the whole interval (Satterthwaite 1946).
    half_width
        Half of the whole interval, before it is cut at the range of the statistic.
    bootstrap_low, bootstrap_high
        The whole interval by a hierarchical bootstrap: levels of every facet that is not held fixed, then texts.
    """

    name: str
    estimate: float
    texts_low: float
    texts_high: float
    low: float
    high: float
    one_run_low: float
    one_run_high: float
    df: float
    components: tuple[Component, ...]
    n_runs: int
    n_texts: int
    half_width: float
    designs: tuple[tuple[str, float, str], ...]
    notes: tuple[str, ...]
    bootstrap_low: float
    bootstrap_high: float

    @property
    def frame(self) -> Frame:
        """One row per component: levels, df, variance and sd of one level, its share of one run's, whether fixed."""
        total = sum(one.variance for one in self.components if not one.fixed)
        rows = [
            {
                "component": one.name,
                "levels": one.levels,
                "df": one.df if one.df < MANY else math.inf,
                "variance": one.variance,
                "sd": math.sqrt(one.variance),
                "share": one.variance / total if total and not one.fixed else 0.0,
                "holds": one.fixed,
            }
            for one in self.components
        ]
        return make_frame(rows, COLUMNS)

    def forests(self) -> list[Drawn]:
        """Return the usual interval inside the whole one."""
        return [
            (
                self.name,
                [
                    ("texts alone", self.estimate, self.texts_low, self.texts_high),
                    ("the whole error", self.estimate, self.low, self.high),
                    ("by bootstrap", self.estimate, self.bootstrap_low, self.bootstrap_high),
                    ("of a single run", self.estimate, self.one_run_low, self.one_run_high),
                ],
            )
        ]

    def blocks(self) -> list[Block]:
        """Return the page: the two intervals, where the variance is, what would narrow it."""
        rows: list[Row] = [
            [
                row["component"],
                count(row["levels"]),
                "–" if math.isinf(row["df"]) else f"{row['df']:.0f}",
                plain(row["sd"], 4),
                Cell(share(row["share"], 1.0), bar=None),
                "held fixed" if row["holds"] else "",
            ]
            for row in self.frame.to_dict("records")
        ]
        more: list[Row] = [[what, f"±{half:.3f}", price] for what, half, price in self.designs]
        half = self.half_width
        return [
            Heading(
                f"The whole error of {self.name}",
                1,
                f"{plural(self.n_runs, 'run')}, {count(self.n_texts)} texts",
            ),
            Para(
                f"{plain(self.estimate, 3)}: over other texts alone {interval(self.texts_low, self.texts_high, 3)}, "
                f"over everything that is not held fixed {interval(self.low, self.high, 3)} (by a hierarchical "
                f"bootstrap {interval(self.bootstrap_low, self.bootstrap_high, 3)}); a single run "
                f"{interval(self.one_run_low, self.one_run_high, 3)}.",
                "notice",
            ),
            Grid(["source", "levels", "df", "sd of one", "share", ""], rows, "lrrrrl"),
            *([Grid(["what would narrow it", f"from ±{half:.3f} to", "price"], more, "lrl")] if more else []),
            *([Bullets(self.notes)] if self.notes else []),
            Bullets(LIMITS, "quiet"),
        ]

    def __repr__(self) -> str:
        return f"<TotalError of {self.name}: {self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}], {self.n_runs} runs>"


def total_error(
    runs: Sequence[Run],
    statistic: str | Estimator | None = None,
    column: str | None = None,
    *,
    facets: Mapping[str, str | Sequence[str]] | None = None,
    fixed: str | Sequence[str] = (),
    coders: Sequence[Coder] = (),
    cluster: str | None = None,
    label_price: float | None = None,
    seed: int = 1,
) -> TotalError:
    """Split the variance of a number over texts, prompts, models, repeats and coders, and give its whole interval.

    Parameters
    ----------
    runs
        A sweep: runs on the same texts.
    statistic
        A metric's name (``"accuracy"`` when left out, of scales and texts the first metric of their type), the share of
        a label as ``"share: pro"``, or a function of a `Run` that returns a number, or ``(number, standard error)``.
    column
        The field of the metric or share; may be left out where only one was asked.
    facets
        Facets of one's own: name -> settings. Else model, prompt (every other setting that decides) and repeat.
    fixed
        Facets whose levels are the claim, such as ``"model"`` for this very model: they are not resampled.
    coders
        People, each of whom in turn is the reference of the metric: a facet of its own.
    cluster
        Column of the data that says which texts belong together (the task's own when left out).
    label_price
        What one label by people costs, in the money of the runs' `prices`: what would narrow the interval is told with
        its price. Calls are told with theirs where the runs know their cost.
    seed
        Of the random blocks of texts of the jackknife, and of the bootstrap.

    Raises
    ------
    ScoringError
        If there are fewer than two runs, they have other texts, or differ in nothing.

    Notes
    -----
    Variance components by REML (in a balanced grid: analysis of variance), the error over texts by a jackknife with all
    runs paired, the whole interval with Student's t at Satterthwaite's degrees of freedom; beside it a hierarchical
    bootstrap, which assumes no normal distribution and counts interactions rather too high. Messing, arXiv 2604.11581;
    Brennan, Generalizability Theory, 2001.
    """
    load("numpy", "scipy.stats")
    from nbannot.inference.grid import components, facets_of, given_runs, same_texts
    from nbannot.inference.grid_values import grid_values
    from nbannot.inference.hierarchical import hierarchical

    items = given_runs(runs, 2)
    same_texts(items)
    levels = facets_of(items, facets)
    held = {fixed} if isinstance(fixed, str) else set(fixed)
    given = grid_values(items, statistic, column, coders, cluster, seed)
    n_coders = given.values.shape[1]
    cells = {
        facet: [level for level in of_runs for _ in range(n_coders)] for facet, of_runs in levels.items()
    }
    if n_coders > 1:
        cells[CODERS] = [str(j) for _ in items for j in range(n_coders)]
    unknown = held - {*cells, "model", "prompt", "repeat", CODERS}
    if unknown:
        raise ScoringError(
            f"fixed= names {listed(sorted(unknown))}, in which these runs do not differ.\n"
            f"  They differ in: {listed(cells)}."
        )
    if not cells:
        raise ScoringError(
            "these runs do not differ in any setting that decides their answers.\n"
            "  Take runs of a sweep: nba.sweep(task, model=[...], prompt_type=[...])."
        )
    y = given.values.ravel()
    nested = {facet: of for facet, of in cells.items() if facet != "repeat"}
    sizes, df, rest, negative = components(y, nested)
    n_texts = len(items[0].task) if given.n_texts is None else given.n_texts
    estimated = [Component(TEXTS, n_texts, given.df, given.variance)]
    for facet, variance in sizes.items():
        parts = facet.split(" × ")
        n_levels = len(set(zip(*(nested[part] for part in parts), strict=True)))
        estimated.append(Component(facet, n_levels, df[facet], variance, all(part in held for part in parts)))
    rest_name, rest_fixed = _rest(nested, len(y), held, "repeat" in cells)
    estimated.append(Component(rest_name, len(y), max(1, len(y) - 1 - sum(df.values())), rest, rest_fixed))
    prices = _Prices(label_price, _call_price(items))
    found = _result(given.name, float(y.mean()), estimated, given.bounds, negative, items, held, prices)
    free = {facet: of for facet, of in cells.items() if facet not in held}
    drawn = hierarchical(y, free, given.residuals, given.variance, found.df, seed)
    low, high = (min(max(v, given.bounds[0]), given.bounds[1]) for v in (drawn.low, drawn.high))
    notes = (*found.notes, f"Hierarchical bootstrap: {drawn.how}.")
    return replace(found, bootstrap_low=low, bootstrap_high=high, notes=notes)


@dataclass(frozen=True)
class _Prices:
    """What a label by people, and a call of a model on one text, costs; None where that is not known."""

    label: float | None
    call: float | None

    def words(self, labels: int, calls: int) -> str:
        """Return so many labels and calls in words, with their price."""
        told = []
        for n, words, each in (
            (labels, plural(labels, "label by people", "labels by people"), self.label),
            (calls, plural(calls, "call"), self.call),
        ):
            if n:
                told.append(words + ("" if each is None else f" ({n * each:,.2f} at {each:.2g} each)"))
        return ", ".join(told)


def _call_price(runs: Sequence[Run]) -> float | None:
    """Return the mean cost of a run per text, where all of them know it."""
    costs = [run.cost for run in runs]
    known = [cost / max(1, len(run.task)) for cost, run in zip(costs, runs, strict=True) if cost is not None]
    return sum(known) / len(known) if len(known) == len(runs) else None


def _rest(nested: Mapping[str, Sequence[str]], n: int, held: set[str], repeated: bool) -> tuple[str, bool]:
    """Return what the residual of the grid is called, and whether it is held: what has a level of its own per cell."""
    alone = [facet for facet, levels in nested.items() if len(set(levels)) == n]
    if alone:
        return ", ".join(alone), all(facet in held for facet in alone)
    facets = list(nested)
    pairs = [(a, b) for i, b in enumerate(facets) for a in facets[:i]
             if len(set(zip(nested[a], nested[b], strict=True))) == n]  # fmt: skip
    if pairs:
        return ", ".join(f"{a} × {b}" for a, b in pairs), all(a in held and b in held for a, b in pairs)
    return REST, repeated and "repeat" in held


def _result(
    name: str,
    estimate: float,
    parts: Sequence[Component],
    bounds: tuple[float, float],
    negative: Sequence[str],
    runs: Sequence[Run],
    held: set[str],
    prices: _Prices,
) -> TotalError:
    texts = parts[0]
    mean = [one.variance / (1 if one is texts else one.levels) for one in parts]
    kept = [i for i, one in enumerate(parts) if not one.fixed]
    low, high, df = whole_limits(estimate, [mean[i] for i in kept], [parts[i].df for i in kept])
    one_low, one_high, _ = whole_limits(
        estimate, [parts[i].variance for i in kept], [parts[i].df for i in kept]
    )
    text_low, text_high, _ = whole_limits(estimate, [texts.variance], [texts.df])
    limits = [min(max(v, bounds[0]), bounds[1]) for v in (text_low, text_high, low, high, one_low, one_high)]
    notes = [f"{listed(negative)}: estimated below 0, set to 0."] if negative else []
    few = [one.name for one in parts[1:] if one.name != REST and one.levels < FEW_LEVELS and not one.fixed]
    if few:
        notes.append(
            f"Few levels of {listed(few)}: the whole interval uses t with {df:.1f} degrees of freedom."
        )
    holds = sorted(held) or ["nothing"]
    notes.append(f"Holds fixed: {listed(holds)}. The grid is taken as crossed; repeats are what is left.")
    notes += looks_at(*(run.task for run in runs))
    designs = _designs(parts, mean, kept, estimate, runs, prices)
    return TotalError(
        name=name,
        estimate=estimate,
        texts_low=limits[0],
        texts_high=limits[1],
        low=limits[2],
        high=limits[3],
        one_run_low=limits[4],
        one_run_high=limits[5],
        df=df,
        components=tuple(parts),
        n_runs=len(runs),
        n_texts=texts.levels,
        half_width=high - estimate,
        designs=tuple(designs),
        notes=tuple(notes),
        bootstrap_low=math.nan,
        bootstrap_high=math.nan,
    )


def whole_limits(
    estimate: float, variances: Sequence[float], df: Sequence[float], at_least: float = 0.0
) -> tuple[float, float, float]:
    """Return the 95% t interval of a sum of variances, and Satterthwaite's degrees of freedom."""
    from scipy.stats import t

    total = sum(variances)
    if total <= 0:
        return estimate, estimate, math.inf
    freedom = max(at_least, total**2 / sum(v**2 / d for v, d in zip(variances, df, strict=True) if v > 0))
    half = float(t.ppf(0.975, freedom)) * math.sqrt(total)
    return estimate - half, estimate + half, freedom


def _designs(
    parts: Sequence[Component],
    mean: Sequence[float],
    kept: Sequence[int],
    estimate: float,
    runs: Sequence[Run],
    prices: _Prices,
) -> list[tuple[str, float, str]]:
    """Return what one more level of each facet, and a quarter more texts, would make of the half-width."""
    n_texts = parts[0].levels
    more_texts = max(20, n_texts // 4)
    options: list[tuple[str, dict[str, float], str]] = [
        (f"{more_texts} more human labels", {TEXTS: n_texts / (n_texts + more_texts)},
         prices.words(more_texts, more_texts * len(runs)))
    ]  # fmt: skip
    per_level: dict[str, int] = {
        name: one.levels
        for one in parts[1:]
        if " × " not in one.name and one.name != REST
        for name in one.name.split(", ")
    }
    for name, k in per_level.items():
        touched = [one for one in parts[1:] if name in re.split(" × |, ", one.name) or one is parts[-1]]
        factors = {one.name: k / (k + 1) for one in touched}
        calls = n_texts * max(1, len(runs) // max(1, k))
        price = prices.words(n_texts, 0) if name == CODERS else prices.words(0, calls)
        options.append((f"one more {name}", factors, price))
    designs = []
    *_, at_least = whole_limits(estimate, [mean[i] for i in kept], [parts[i].df for i in kept])
    for words, factors, price in options:
        new = [mean[i] * factors.get(parts[i].name, 1.0) for i in kept]
        _, high, _ = whole_limits(estimate, new, [_more_df(parts[i], factors) for i in kept], at_least)
        designs.append((words, high - estimate, price))
    return designs


def _more_df(one: Component, factors: Mapping[str, float]) -> float:
    return one.df + 1 if one.name in factors and one.name not in (TEXTS, REST) else one.df
