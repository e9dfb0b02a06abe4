"""Comparison of runs on the same texts: paired differences with intervals, a verdict in words, and what it costs.

People can be compared like runs (`load_coder`): then only the texts that every person in the comparison coded count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.comparing.align import (
    Compared,
    aligned,
    column_of,
    given_items,
    on_the_same_texts,
    refuse_other_fields,
    weights_of,
)
from nbannot.comparing.coder import Coder, load_coder
from nbannot.comparing.names import names_of
from nbannot.comparing.verdict import ADJUSTMENT_WORDS, energy_of, notes_on, seconds_of, tokens_of, verdict
from nbannot.errors import ScoringError, listed, nearest
from nbannot.measures.accounting import account
from nbannot.measures.field import FieldData, TextExtras, score_field
from nbannot.measures.label_field import MACRO
from nbannot.measures.label_report import small_classes
from nbannot.measures.paired import ManyResult, PairResult, adjust_pairs, best_run_corrected, compare_many
from nbannot.measures.paired_statistics import LOWER_IS_BETTER, comparable_metrics
from nbannot.measures.result import Result
from nbannot.measures.text_extras import EXTRA_NAMES
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

__all__ = ["Coder", "Compared", "Comparison", "compare", "energy_of", "load_coder", "seconds_of", "tokens_of"]

HEADLINE = {
    "checkbox": "f1_macro",
    "dropdown": "f1_macro",
    "likert": "quadratic_kappa",
    "textbox": "norm_levenshtein",
    "span": "token_f1",
}
"""The metric that is compared when none is named, by type of field."""

LEVEL = 0.05
"""Below this adjusted p value, two runs are called different."""

PAIR_COLUMNS = ("column", "metric", "run_a", "run_b", "value_a", "value_b", "diff", "ci_low", "ci_high", "ci_method",
                "p", "p_adjusted", "p_method", "n", "n_discordant", "mdd", "reason")  # fmt: skip
MARGIN_COLUMNS = ("a_not_inferior", "b_not_inferior")
RUN_COLUMNS = ("column", "metric", "run", "name", "value", "diff_to_best", "ci_low", "ci_high", "p_adjusted",
               "as_good_as_best", "seconds", "tokens", "energy_kwh")  # fmt: skip

Key = tuple[str, str]
"""A column and a metric."""


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Runs compared on the same texts.

    Attributes
    ----------
    results
        (column, metric) -> every pair of runs in it.
    corrected
        (column, metric) -> the best value corrected for having been chosen on these texts; nan where undefined.
    data
        column -> the rows of each run that were compared.
    family
        Number of comparisons over which p values are adjusted: every one shown that is defined.
    adjust
        ``"holm"`` or ``"bh"`` (Benjamini-Hochberg).
    margin
        How much worse still counts as good enough; ``None`` if no margin was declared.
    """

    _display: ClassVar[str] = "comparison"

    runs: tuple[Compared, ...]
    results: Mapping[Key, ManyResult]
    corrected: Mapping[Key, float]
    data: Mapping[str, Sequence[FieldData]]
    family: int
    conventions: str
    adjust: str = "holm"
    margin: float | None = None
    settings: Mapping[str, Any] | None = None

    @cached_property
    def names(self) -> dict[str, str]:
        """Run id -> short readable name: what differs between the runs, with the id where two have the same name."""
        return names_of(self.runs)

    def field(self, column: str) -> Field:
        """Return a compared field by its column."""
        return self.runs[0].task.codebook[column]

    def frame(self) -> Frame:
        """Return one row per pair of runs: values, difference with interval, p, p adjusted, n, n_discordant, mdd.

        With a margin also ``a_not_inferior`` and ``b_not_inferior``: whether the run is shown to be at most the margin
        worse than the other.
        """
        more = MARGIN_COLUMNS if self.margin is not None else ()
        rows = [
            {
                "column": column,
                **{name: getattr(pair, name) for name in PAIR_COLUMNS if name != "column"},
                **dict(zip(more, self.not_inferior(pair), strict=False)),
            }
            for (column, _), found in self.results.items()
            for pair in found.pairs
        ]
        return make_frame(rows, (*PAIR_COLUMNS, *more))

    def ranking(self) -> Frame:
        """Return one row per run: value, difference to the best with interval, whether it is as good, and its cost.

        With a margin also ``not_inferior_to_best``.
        """
        more = ("not_inferior_to_best",) if self.margin is not None else ()
        return make_frame([row for key in self.results for row in self._ranked(key)], (*RUN_COLUMNS, *more))

    def _ranked(self, key: Key) -> list[dict[str, Any]]:
        found = self.results[key]
        to_best = {pair.run_b: pair for pair in found.to_best}
        rows = []
        for number, (run, value) in enumerate(zip(self.runs, found.values, strict=True)):
            pair = to_best.get(run.run_id)
            is_best = number == found.best
            rows.append(
                {
                    "column": key[0],
                    "metric": key[1],
                    "run": run.run_id,
                    "name": run.model_id,
                    "value": value,
                    "diff_to_best": 0.0 - pair.diff if pair else 0.0 if is_best else math.nan,
                    "ci_low": 0.0 - pair.ci_high if pair else math.nan,
                    "ci_high": 0.0 - pair.ci_low if pair else math.nan,
                    "p_adjusted": pair.p_adjusted if pair else math.nan,
                    "as_good_as_best": number in found.not_distinguishable,
                    "seconds": seconds_of(run),
                    "tokens": tokens_of(run),
                    "energy_kwh": energy_of(run),
                    "not_inferior_to_best": self.not_inferior(pair)[1] if pair else is_best or None,
                }
            )
        return rows

    def not_inferior(self, pair: PairResult) -> tuple[bool | None, bool | None]:
        """Return whether A, and whether B, is shown to be at most the margin worse than the other.

        ``None`` without a margin, without an interval, and for a bias, which has no better direction.
        """
        if self.margin is None or pair.metric == "bias" or math.isnan(pair.ci_low):
            return None, None
        a, b = pair.ci_low > -self.margin, pair.ci_high < self.margin
        return (b, a) if pair.metric in LOWER_IS_BETTER else (a, b)

    def own(self, column: str, metric: str) -> list[Result]:
        """Return every run's own value with its interval, on the rows, clusters and weights of the comparison."""
        return [{**score.results, **score.extra}[metric] for score in self._own_scores[column]]

    @cached_property
    def _own_scores(self) -> dict[str, list[Any]]:
        settings = dict(self.settings or {})
        return {
            column: [score_field(data, **settings) for data in of_runs]
            for column, of_runs in self.data.items()
        }

    @property
    def verdicts(self) -> list[str]:
        """A plain sentence or two per field and metric."""
        return [verdict(self, key) for key in self.results]

    @property
    def notes(self) -> list[str]:
        """What else a reader should know: omnibus tests, which texts count, what the margin and p values mean."""
        return notes_on(self)

    @cached_property
    def figures(self) -> dict[Key, Any]:
        """(column, metric) -> its forest plot; ``figures[key].save("name.pdf")`` writes it (.svg, .png, .pdf)."""
        return dict(zip(self.results, self._fragment().figures, strict=True))

    def as_good_as_best(self, column: str | None = None) -> list[Compared]:
        """Return the runs that cannot be told from the best one in a field (the first one when left out).

        Raises
        ------
        ScoringError
            If the field was not compared.
        """
        wanted = next(iter(self.results))[0] if column is None else self.field(column).column
        keys = [key for key in self.results if key[0] == wanted]
        if not keys:
            raise ScoringError(
                f"'{wanted}' was not compared.\n  Compared: {listed(dict.fromkeys(k[0] for k in self.results))}."
            )
        return [self.runs[i] for i in self.results[keys[0]].not_distinguishable]

    def to_latex(
        self,
        table: Literal["pairs", "ranking"] = "pairs",
        caption: str | None = None,
        label: str | None = None,
    ) -> str:
        """Return the pairs (`frame`) or the runs (`ranking`) as a LaTeX table; see `nbannot.record.export.to_latex`."""
        return export.to_latex(self._table(table), caption, label)

    def to_markdown(self, table: Literal["pairs", "ranking"] = "pairs") -> str:
        """Return the pairs (`frame`) or the runs (`ranking`) as a Markdown table."""
        return export.to_markdown(self._table(table))

    def to_csv(self, table: Literal["pairs", "ranking"] = "pairs") -> str:
        """Return the pairs (`frame`) or the runs (`ranking`) as CSV, every digit."""
        return export.to_csv(self._table(table))

    def _table(self, table: str) -> Any:
        if table not in ("pairs", "ranking"):
            raise ScoringError(f"table must be 'pairs' or 'ranking'. Got {table!r}.")
        return self.frame() if table == "pairs" else self.ranking()

    def __repr__(self) -> str:
        return (
            f"<Comparison of {len(self.runs)} runs: {len(self.results)} metrics, {self.family} comparisons>"
        )


def compare(
    runs: Sequence[Compared],
    metric: str | Sequence[str] | None = None,
    column: str | Sequence[str] | None = None,
    *,
    cluster: str | None = None,
    weights: str | None = None,
    margin: float | None = None,
    adjust: Literal["holm", "bh"] = "holm",
    n_resamples: int = 10_000,
    seed: int = 1,
    extras: bool | TextExtras = False,
) -> Comparison:
    """Compare runs (and people) on the same texts.

    Parameters
    ----------
    runs
        Two or more `Run` or `Coder` of the same task.
    metric
        One or more metric names; the headline metric of each field's type when left out (`HEADLINE`).
    column
        One or more fields (name or column); every field with human labels that all of them answered when left out.
    cluster
        Column of the data that says which texts belong together (document, author, thread).
    weights
        Column of the data with one over the probability with which each text was sampled.
    margin
        How much worse, in units of the metric, is still good enough; to be declared before looking. Adds for every
        pair whether non-inferiority is shown: the interval of the difference lies within the margin.
    adjust
        How p values are corrected over everything shown: ``"holm"`` (chance of any false finding) or ``"bh"``
        (share of false findings, Benjamini-Hochberg; to explore).
    n_resamples, seed
        Of the paired bootstrap and the randomisation.
    extras
        For the optional text metrics; as in `score`.

    Raises
    ------
    ScoringError
        If there are fewer than two runs, they differ in texts, codebook or human labels, or have no such metric.
    """
    items = given_items(runs)
    _check(items, margin, adjust, n_resamples)
    refuse_other_fields(items)
    fields = _fields(items, column)
    items = on_the_same_texts(items, fields)
    chosen = _metrics(fields, metric)
    task = items[0].task
    clusters, weighting = column_of(task, cluster), weights_of(task, weights)
    results: dict[Key, ManyResult] = {}
    corrected: dict[Key, float] = {}
    data = {f.column: aligned(items, f, clusters, weighting) for f in fields if chosen[f.column]}
    if column is None:
        data = _coded_by_all(data)
    names = [item.run_id for item in items]
    for key, of_runs in data.items():
        for name in chosen[key]:
            found = compare_many(
                of_runs, name, n_resamples=n_resamples, seed=seed, names=names, extras=extras
            )
            results[key, name] = _warned(found, of_runs[0])
            corrected[key, name] = _corrected(of_runs, name, found, seed)
    results = _adjusted(results, adjust)
    family = sum(not math.isnan(pair.p) for found in results.values() for pair in found.pairs)
    settings = {"n_resamples": n_resamples, "seed": seed, "extras": extras}
    line = _conventions(results, family, adjust, weights)
    return Comparison(tuple(items), results, corrected, data, family, line, adjust, margin, settings)


def _check(items: Sequence[Compared], margin: float | None, adjust: str, n_resamples: int) -> None:
    if len(items) < 2:
        raise ScoringError(f"a comparison needs at least two runs. Got {len(items)}.")
    if margin is not None and not 0 < margin < math.inf:
        raise ScoringError(f"margin must be a number above 0, in units of the metric. Got {margin}.")
    if adjust not in ADJUSTMENT_WORDS:
        raise ScoringError(f"adjust must be 'holm' or 'bh'. Got {adjust!r}.")
    if n_resamples < 1:
        raise ScoringError(f"n_resamples must be 1 or more. Got {n_resamples}.")


def _fields(items: Sequence[Compared], column: str | Sequence[str] | None) -> list[Field]:
    codebook = items[0].task.codebook
    shared = [f for f in codebook if all(f.column in item.coding.answers for item in items)]
    if column is None:
        task = items[0].task
        fields = [f for f in shared if any(value is not None for value in task.human(f.column))]
        if not fields:
            raise ScoringError("these runs share no field that has human labels.")
        return fields
    wanted = [codebook[name] for name in ([column] if isinstance(column, str) else column)]
    absent = [f.column for f in wanted if f not in shared]
    if absent:
        raise ScoringError(
            f"not every run answered {listed(absent)}.\n  All answered: {listed(f.column for f in shared)}."
        )
    return wanted


def _metrics(fields: Sequence[Field], metric: str | Sequence[str] | None) -> dict[str, list[str]]:
    """Return column -> the metrics to compare it in: the headline of its type, or those named that its type has."""
    if metric is None:
        return {f.column: [HEADLINE[f.type]] for f in fields}
    named = list(dict.fromkeys([metric] if isinstance(metric, str) else metric))
    known = {f.type: comparable_metrics(f.type) for f in fields}
    every = dict.fromkeys(name for names in known.values() for name in names)
    unknown = [name for name in named if name not in every]
    if unknown or not named:
        kinds = listed(dict.fromkeys(f"a {kind}" for kind in known))
        raise ScoringError(
            f"{listed(map(repr, unknown)) or 'no name'} is no metric of {kinds}"
            f"{(nearest(unknown[0], every) if unknown else '') or '.'}\n  Compare one of {', '.join(every)}."
        )
    return {f.column: [name for name in named if name in known[f.type]] for f in fields}


def _coded_by_all(data: Mapping[str, list[FieldData]]) -> dict[str, list[FieldData]]:
    """Return the fields in which some text has a human label that counts for all of these coders."""
    found = {column: of_runs for column, of_runs in data.items() if account(of_runs[0]).reference.any()}
    if not found:
        raise ScoringError("there is no text with a human label that all of these coded.")
    return found


def _warned(found: ManyResult, data: FieldData) -> ManyResult:
    """Return the result with a reason at every interval of a macro average over a label that is too rare."""
    small = small_classes(data, account(data)) if found.metric in MACRO else []
    if not small:
        return found

    def warned(pair: PairResult) -> PairResult:
        reasons = [pair.reason, f"interval unreliable: {'; '.join(small)}"]
        return replace(pair, reason="; ".join(filter(None, reasons)))

    return replace(found, pairs=list(map(warned, found.pairs)), to_best=list(map(warned, found.to_best)))


def _corrected(data: Sequence[FieldData], metric: str, found: ManyResult, seed: int) -> float:
    undefined = found.best is None or any(math.isnan(value) for value in found.values)
    if undefined or metric in EXTRA_NAMES or len(found.runs) < 3:
        return math.nan
    return best_run_corrected(data, metric, seed=seed).corrected


def _adjusted(results: Mapping[Key, ManyResult], method: str) -> dict[Key, ManyResult]:
    """Return the results with p adjusted over everything that the comparison shows."""

    def over_all(of: Callable[[ManyResult], list[PairResult]]) -> list[list[PairResult]]:
        sizes = [len(of(found)) for found in results.values()]
        flat = iter(adjust_pairs([pair for found in results.values() for pair in of(found)], method))
        return [[next(flat) for _ in range(size)] for size in sizes]

    pairs, to_best = over_all(lambda r: r.pairs), over_all(lambda r: r.to_best)
    adjusted = {}
    for (key, found), all_pairs, best_pairs in zip(results.items(), pairs, to_best, strict=True):
        same = {pair.run_b for pair in best_pairs if not pair.p_adjusted < LEVEL}
        kept = tuple(
            i
            for i, (name, value) in enumerate(zip(found.runs, found.values, strict=True))
            if not math.isnan(value) and (i == found.best or name in same)
        )
        adjusted[key] = replace(found, pairs=all_pairs, to_best=best_pairs, not_distinguishable=kept)
    return adjusted


def _conventions(results: Mapping[Key, ManyResult], family: int, adjust: str, weights: str | None) -> str:
    """Return the line of the paired comparison, with the size of the whole family."""
    how = next(iter(results.values())).conventions.rpartition(" · ")[0]
    with_best = sum(len(found.to_best) for found in results.values())
    words = ADJUSTMENT_WORDS[adjust]
    parts = [how, f"{words} over all {family} comparisons" if family > 1 else "one comparison"]
    if 0 < with_best < family:
        parts.append(f"as good as the best: {words} over the {with_best} comparisons with it")
    return " · ".join([*parts, *([f"weighted by {weights}"] if weights else [])])
