"""What a comparison found: pairs of runs, a ranking, verdicts in words, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.comparing.align import Compared
from nbannot.comparing.coder import Coder
from nbannot.comparing.names import names_of
from nbannot.comparing.took import energy_of, seconds_of, tokens_of
from nbannot.comparing.verdict import notes_on, verdict
from nbannot.errors import ScoringError, listed
from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.missing_answers import answered_rows
from nbannot.measures.pair_result import ManyResult, PairResult
from nbannot.measures.paired_statistics import LOWER_IS_BETTER
from nbannot.measures.result import FieldScore, Result
from nbannot.page.blocks import Grid, Heading
from nbannot.page.figure import Figure
from nbannot.page.latex import tables_latex
from nbannot.page.shown import Shown, show
from nbannot.record import export
from nbannot.report.headline import baseline_of
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.page.fragment import Fragment
    from nbannot.tools.frames import Frame

PAIR_COLUMNS = ("column", "metric", "run_a", "run_b", "value_a", "value_b", "diff", "ci_low", "ci_high", "ci_method",
                "ci_level", "p", "p_adjusted", "p_method", "n", "n_discordant", "mdd", "reason")  # fmt: skip
BOTH_COLUMNS = ("coverage_a", "coverage_b", "n_both_answered", "diff_both_answered", "ci_low_both_answered",
                "ci_high_both_answered", "p_adjusted_both_answered")  # fmt: skip
MARGIN_COLUMNS = ("a_not_inferior", "b_not_inferior")
RUN_COLUMNS = ("column", "metric", "run", "name", "value", "coverage", "diff_to_best", "ci_low", "ci_high",
               "p_adjusted", "as_good_as_best", "seconds", "tokens", "energy_kwh")  # fmt: skip

Key = tuple[str, str]
"""A column and a metric."""


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Runs compared on the same texts.

    Attributes
    ----------
    results
        (column, metric) -> every pair of runs in it; answers that a run did not give are counted as wrong ones, so
        that none wins by silence (`nbannot.measures.missing_answers`).
    both_answered
        (column, metric) -> (run, run) -> the same pair on the texts to which both gave a valid answer; only pairs in
        which an answer is missing.
    corrected
        (column, metric) -> the best value corrected for having been chosen on these texts; nan where undefined.
    data
        column -> the rows of each run that were compared, with the answers that it gave.
    scored
        (column, metric) -> the same rows with every missing answer counted as a wrong one.
    families
        column -> number of comparisons over which its p values and intervals are adjusted: every one shown that is
        defined, of this field or of all fields.
    adjust
        ``"holm"`` or ``"bh"`` (Benjamini-Hochberg).
    margin
        How much worse still counts as good enough; ``None`` if no margin was declared.
    """

    _display: ClassVar[str] = "comparison"

    runs: tuple[Compared, ...]
    results: Mapping[Key, ManyResult]
    both_answered: Mapping[Key, Mapping[tuple[str, str], PairResult]]
    corrected: Mapping[Key, float]
    data: Mapping[str, Sequence[FieldData]]
    scored: Mapping[Key, Sequence[FieldData]]
    families: Mapping[str, int]
    conventions: str
    adjust: str = "holm"
    margin: float | None = None
    settings: Mapping[str, Any] | None = None

    @cached_property
    def names(self) -> dict[str, str]:
        """Run id -> short readable name: what differs between the runs, with the id where two have the same name."""
        return names_of(self.runs)

    @property
    def family(self) -> int:
        """Number of paired comparisons that are shown and defined."""
        return sum(not math.isnan(pair.p) for result in self.results.values() for pair in result.pairs)

    def field(self, column: str) -> Field:
        """Return a compared field by its column."""
        return self.runs[0].task.codebook[column]

    @cached_property
    def answered(self) -> dict[str, tuple[int, ...]]:
        """Column -> on how many of the compared texts each run gave a valid answer."""
        return {
            column: tuple(int(answered_rows(data)[1].sum()) for data in of_runs)
            for column, of_runs in self.data.items()
        }

    def coverage(self, column: str) -> tuple[float, ...]:
        """Return on which share of the compared texts each run gave a valid answer; nan without texts."""
        n = int(answered_rows(self.data[column][0])[0].sum())
        return tuple(answers / n if n else math.nan for answers in self.answered[column])

    @cached_property
    def frame(self) -> Frame:
        """One row per pair of runs: values, difference with interval, p, p adjusted, n, n_discordant, mdd.

        Values are with every missing answer counted as a wrong one; ``coverage_a`` and ``coverage_b`` say how many
        there are, and the columns that end on ``both_answered`` are of the texts that both answered.
        With a margin also ``a_not_inferior`` and ``b_not_inferior``: whether the run is shown to be at most the margin
        worse than the other.
        """
        more = MARGIN_COLUMNS if self.margin is not None else ()
        rows = [
            {
                "column": column,
                **{name: getattr(pair, name) for name in PAIR_COLUMNS if name != "column"},
                **self._where_both_answered((column, metric), pair),
                **dict(zip(more, self.not_inferior(pair), strict=False)),
            }
            for (column, metric), result in self.results.items()
            for pair in result.pairs
        ]
        return make_frame(rows, (*PAIR_COLUMNS, *BOTH_COLUMNS, *more))

    def _where_both_answered(self, key: Key, pair: PairResult) -> dict[str, Any]:
        share = dict(zip(self.results[key].runs, self.coverage(key[0]), strict=True))
        both = self.both(key, pair)
        values = (
            share[pair.run_a],
            share[pair.run_b],
            both.n,
            both.diff,
            both.ci_low,
            both.ci_high,
            both.p_adjusted,
        )
        return dict(zip(BOTH_COLUMNS, values, strict=True))

    def both(self, key: Key, pair: PairResult) -> PairResult:
        """Return a pair on the texts that both answered: itself where no answer is missing."""
        return self.both_answered[key].get((pair.run_a, pair.run_b), pair)

    def ranking(self) -> Frame:
        """Return one row per run: value, coverage, difference to the best with interval, whether as good, its cost.

        The value is with every missing answer counted as a wrong one.

        With a margin also ``not_inferior_to_best``.
        """
        more = ("not_inferior_to_best",) if self.margin is not None else ()
        return make_frame([row for key in self.results for row in self._ranked(key)], (*RUN_COLUMNS, *more))

    def _ranked(self, key: Key) -> list[dict[str, Any]]:
        result = self.results[key]
        to_best = {pair.run_b: pair for pair in result.to_best}
        coverage = self.coverage(key[0])
        rows = []
        for number, (run, value) in enumerate(zip(self.runs, result.values, strict=True)):
            pair = to_best.get(run.run_id)
            is_best = number == result.best
            rows.append(
                {
                    "column": key[0],
                    "metric": key[1],
                    "run": run.run_id,
                    "name": run.model_id,
                    "value": value,
                    "coverage": coverage[number],
                    "diff_to_best": 0.0 - pair.diff if pair else 0.0 if is_best else math.nan,
                    "ci_low": 0.0 - pair.ci_high if pair else math.nan,
                    "ci_high": 0.0 - pair.ci_low if pair else math.nan,
                    "p_adjusted": pair.p_adjusted if pair else math.nan,
                    "as_good_as_best": number in result.not_distinguishable,
                    "seconds": seconds_of(run),
                    "tokens": tokens_of(run),
                    "energy_kwh": energy_of(run),
                    "not_inferior_to_best": self.not_inferior(pair)[1] if pair else is_best or None,
                }
            )
        return rows

    def not_inferior(self, pair: PairResult) -> tuple[bool | None, bool | None]:
        """Return whether A, and whether B, is shown to be at most the margin worse than the other.

        ``None`` without a margin, without an interval, where the interval that would show it must carry no verdict
        (`reason`), and for a bias, which has no better direction.
        """
        if self.margin is None or pair.metric == "bias" or math.isnan(pair.ci_low):
            return None, None
        if pair.one_label:
            return None, None
        shown = None if pair.doubt else True
        a = shown if pair.ci_low > -self.margin else False
        b = shown if pair.ci_high < self.margin else False
        return (b, a) if pair.metric in LOWER_IS_BETTER else (a, b)

    def own(self, column: str, metric: str) -> list[Result]:
        """Return every run's own value with its interval, on the rows, clusters and weights of the comparison.

        As in the differences, every missing answer counts as a wrong one.
        """
        return [{**score.results, **score.extra}[metric] for score in self._own_scores[column, metric]]

    def baselines(self, column: str, metric: str) -> list[float | None]:
        """Return what each run's labels would score had they been given without reading; ``None`` where undefined."""
        return [baseline_of(metric, score) for score in self._own_scores[column, metric]]

    def ceiling(self, column: str, metric: str) -> tuple[float, float] | None:
        """Return from where to where people's values lie, where models are compared with two people or more."""
        people = [isinstance(run, Coder) and run.by_person for run in self.runs]
        if all(people) or sum(people) < 2:
            return None
        own = zip(people, self.own(column, metric), strict=True)
        values = [result.value for by_person, result in own if by_person and result.defined]
        return (min(values), max(values)) if len(values) > 1 else None

    @cached_property
    def _own_scores(self) -> dict[Key, list[FieldScore]]:
        settings = dict(self.settings or {})
        made: dict[int, FieldScore] = {}  # the same rows are scored once for all metrics
        for data in (data for of_runs in self.scored.values() for data in of_runs):
            if id(data) not in made:
                made[id(data)] = score_field(data, **settings)
        return {key: [made[id(data)] for data in of_runs] for key, of_runs in self.scored.items()}

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

    def forest(self, column: str | None = None, metric: str | None = None) -> Any:
        """Return the forest plot of a field and metric, the first ones when left out; ``.save("name.pdf")`` keeps it.

        Raises
        ------
        ScoringError
            If that was not compared.
        """
        return self.figures[self._key(column, metric)]

    def cost(
        self,
        column: str | None = None,
        metric: str | None = None,
        *,
        per: Literal["time", "tokens", "energy"] = "time",
    ) -> Fragment:
        """Return the plot of quality against what it costs: model seconds, tokens or kWh of each run.

        Raises
        ------
        ScoringError
            If that was not compared, or `per` is something else.
        """
        costs = {
            "time": ("model time, s", seconds_of),
            "tokens": ("tokens", tokens_of),
            "energy": ("energy, kWh", energy_of),
        }
        if per not in costs:
            raise ScoringError(f"per must be one of {listed(costs)}. Got {per!r}.")
        key = self._key(column, metric)
        words, cost_of = costs[per]
        own = zip(self.runs, self.own(*key), strict=True)
        rows = [
            {
                "name": self.names[run.run_id],
                "value": r.value,
                "ci_low": r.ci_low,
                "ci_high": r.ci_high,
                "cost": cost_of(run),
            }
            for run, r in own
        ]
        return show("costs_of", rows, self.field(key[0]).name, key[1], words)

    def _key(self, column: str | None, metric: str | None) -> Key:
        wanted = None if column is None else self.field(column).column
        for key in self.results:
            if wanted in (None, key[0]) and metric in (None, key[1]):
                return key
        compared = (f"{self.field(c).name} {m}" for c, m in self.results)
        raise ScoringError(f"'{column}' {metric or ''} was not compared.\n  Compared: {listed(compared)}.")

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
        *,
        machine: bool = False,
    ) -> str:
        """Return the pairs or the runs as LaTeX for a journal: a table per field and metric.

        Parameters
        ----------
        table
            ``"pairs"``: both runs with their values, difference, interval, p. ``"ranking"``: each run with its value
            and interval, baseline, difference to the best with interval and p.
        caption, label
            Of the first table; the others are called by field and metric.
        machine
            One table with every column of `frame` or `ranking` under its name instead.

        Raises
        ------
        ScoringError
            If there is no such table.
        """
        frame = self._table(table)
        if machine:
            return export.to_latex(frame, caption, label, note=self._note)
        kept = [
            block
            for block in self._fragment().blocks
            if isinstance(block, Heading)
            or (isinstance(block, Grid) if table == "pairs" else isinstance(block, Figure))
        ]
        return tables_latex(kept, caption, label, self._note)

    def to_markdown(self, table: Literal["pairs", "ranking"] = "pairs") -> str:
        """Return the pairs (`frame`) or the runs (`ranking`) as a Markdown table."""
        return export.to_markdown(self._table(table), note=self._note)

    def to_csv(self, table: Literal["pairs", "ranking"] = "pairs") -> str:
        """Return the pairs (`frame`) or the runs (`ranking`) as CSV, every digit; looks at a test half are a column."""
        return export.to_csv(self._table(table), looks=self._looks)

    @property
    def _note(self) -> str:
        """What must stand below a table wherever it is carried: looks at the test half, and what texts count for."""
        weighted = [
            f"{part}."
            for part in self.conventions.split(" · ")
            if part.startswith(("Weighted by", "Not weighted"))
        ]
        return " ".join(filter(None, [self._looks, *weighted]))

    @property
    def _looks(self) -> str:
        """How often the test half was consulted, as it must stand below every number that was made on it."""
        lock = self.runs[0].task.split_lock
        return f"{lock.words[0].upper()}{lock.words[1:]}." if lock is not None and lock.opened else ""

    def _table(self, table: str) -> Any:
        if table not in ("pairs", "ranking"):
            raise ScoringError(f"table must be 'pairs' or 'ranking'. Got {table!r}.")
        return self.frame if table == "pairs" else self.ranking()

    def __repr__(self) -> str:
        return (
            f"<Comparison of {len(self.runs)} runs: {len(self.results)} metrics, {self.family} comparisons>"
        )
