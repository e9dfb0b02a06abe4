"""Comparison of runs on the same texts: paired differences with intervals, a verdict in words, and what it costs.

People can be compared like runs (`load_coder`): then only the texts that every person in the comparison coded count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from nbannot.codebook import Field
from nbannot.coding import Coding, from_labels
from nbannot.errors import ScoringError, listed, nearest
from nbannot.frames import make_frame
from nbannot.metrics.field import FieldData
from nbannot.metrics.paired import ManyResult, PairResult, adjust_pairs, best_run_corrected, compare_many
from nbannot.metrics.paired_statistics import comparable_metrics
from nbannot.run import Run
from nbannot.scoring import Scored, field_data
from nbannot.shown import Shown
from nbannot.task import ID_COLUMNS, OutsideLabels, Task, read_csv

HEADLINE = {
    "checkbox": "f1_macro",
    "dropdown": "f1_macro",
    "likert": "quadratic_kappa",
    "textbox": "norm_levenshtein",
    "span": "token_f1",
}
"""The metric that is compared when none is named, by type of field."""

PAIR_COLUMNS = ("column", "metric", "run_a", "run_b", "value_a", "value_b", "diff", "ci_low", "ci_high", "ci_method",
                "p", "p_adjusted", "p_method", "n", "n_discordant", "mdd", "reason")  # fmt: skip
RUN_COLUMNS = ("column", "metric", "run", "name", "value", "diff_to_best", "ci_low", "ci_high", "p_adjusted",
               "as_good_as_best", "seconds", "tokens", "energy_kwh")  # fmt: skip


@dataclass(frozen=True, repr=False)
class Coder(Scored, Shown):
    """A person's labels, to be scored and compared like a model's run. Only the texts the person coded count."""

    _display: ClassVar[str] = "coder_card"

    task: Task
    coding: Coding

    @property
    def run_id(self) -> str:
        """The coder's name."""
        return self.coding.coder

    @property
    def model_id(self) -> str:
        """The coder's name, as it stands in tables beside runs."""
        return f"coder {self.coding.coder}"

    def __repr__(self) -> str:
        return f"<Coder '{self.run_id}' on '{self.task.name}': {self.coding.count().get('ok', 0)} labels>"


def load_coder(
    task: Task,
    labels: str | Path | Any,
    name: str | None = None,
    *,
    encoding: str = "utf-8",
    outside_labels: OutsideLabels = "error",
) -> Coder:
    """Return one person's labels on a task.

    Parameters
    ----------
    labels
        A CSV file or a DataFrame with the task's id column and one or more label columns; the texts may be left out.
    name
        The coder's name; the file's name when left out.

    Raises
    ------
    TaskError, ScoringError
        If the ids are missing or repeated, no text is shared with the task, or a label is outside the codebook.
    """
    is_path = isinstance(labels, str | Path)
    data = read_csv(labels, encoding=encoding) if is_path else labels
    name = name or (Path(labels).stem if is_path else "coder")
    whole, id_column = _with_texts(task, data, name)
    known = Task(whole, task.codebook, task.name, id_column, outside_labels)
    place = set(known.ids)
    chosen = task.select(ids=[text_id for text_id in task.ids if text_id in place])
    return Coder(chosen, from_labels(chosen, known, name))


def _with_texts(task: Task, data: Any, name: str) -> tuple[Any, str | None]:
    """Return a coder's table with the task's texts, found by id, and the name of its id column."""
    import polars as pl

    have = [str(column) for column in data.columns]
    id_column = next((c for c in (task.id_source, *ID_COLUMNS) if c in have), None)
    if id_column is None:
        if task.id_source == "text" and task.codebook.text_column in have:
            return data, None
        raise ScoringError(
            f"the labels of coder '{name}' have no id column: '{task.id_source}' or {listed(ID_COLUMNS)}.\n"
            f"  Its columns: {listed(have, 12)}. Labels are joined by id."
        )
    ids = [str(value) for value in data[id_column]]
    texts = dict(zip(task.ids, task.texts, strict=True))
    shared = [text_id in texts for text_id in ids]
    if not any(shared):
        raise ScoringError(
            f"coder '{name}' shares no text with task '{task.name}': the ids differ "
            f"({listed(ids, 3)} against {listed(task.ids, 3)})."
        )
    columns = {
        str(column): [
            None if v is None or v != v else v for v, kept in zip(data[column], shared, strict=True) if kept
        ]
        for column in data.columns
    }
    columns[task.codebook.text_column] = [
        texts[text_id] for text_id, kept in zip(ids, shared, strict=True) if kept
    ]
    return pl.DataFrame(columns, strict=False), id_column


Compared = Run | Coder


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Runs compared on the same texts.

    Attributes
    ----------
    results
        (column, metric) -> every pair of runs in it.
    corrected
        (column, metric) -> the best value corrected for having been chosen on these texts; nan where undefined.
    family
        Number of comparisons over which p values are adjusted (Holm): everything shown.
    """

    _display: ClassVar[str] = "comparison"

    runs: tuple[Compared, ...]
    results: dict[tuple[str, str], ManyResult]
    corrected: dict[tuple[str, str], float]
    family: int
    conventions: str

    @cached_property
    def names(self) -> dict[str, str]:
        """Run id -> short readable name."""
        return {run.run_id: run.model_id for run in self.runs}

    def frame(self) -> Any:
        """Return one row per pair of runs: values, difference with interval, p, p adjusted, n, n_discordant, mdd."""
        rows = [
            {"column": column, **{name: getattr(pair, name) for name in PAIR_COLUMNS if name != "column"}}
            for (column, _), found in self.results.items()
            for pair in found.pairs
        ]
        return make_frame(rows, PAIR_COLUMNS)

    def ranking(self) -> Any:
        """Return one row per run: value, difference to the best with interval, whether it is as good, and its cost."""
        return make_frame([row for key in self.results for row in self._ranked(key)], RUN_COLUMNS)

    def _ranked(self, key: tuple[str, str]) -> list[dict[str, Any]]:
        found = self.results[key]
        to_best = {pair.run_b: pair for pair in found.to_best}
        rows = []
        for number, (run, value) in enumerate(zip(self.runs, found.values, strict=True)):
            pair = to_best.get(run.run_id)
            rows.append(
                {
                    "column": key[0],
                    "metric": key[1],
                    "run": run.run_id,
                    "name": run.model_id,
                    "value": value,
                    "diff_to_best": -pair.diff if pair else 0.0,
                    "ci_low": -pair.ci_high if pair else math.nan,
                    "ci_high": -pair.ci_low if pair else math.nan,
                    "p_adjusted": pair.p_adjusted if pair else math.nan,
                    "as_good_as_best": number in found.not_distinguishable,
                    "seconds": seconds_of(run),
                    "tokens": tokens_of(run),
                    "energy_kwh": energy_of(run),
                }
            )
        return rows

    @property
    def verdicts(self) -> list[str]:
        """A plain sentence or two per field and metric."""
        return [verdict(self, key) for key in self.results]

    def as_good_as_best(self, column: str | None = None) -> list[Compared]:
        """Return the runs that cannot be told from the best one in a field (the first one when left out)."""
        key = next(
            k for k in self.results if column is None or self.runs[0].task.codebook[column].column == k[0]
        )
        return [self.runs[i] for i in self.results[key].not_distinguishable]

    def __repr__(self) -> str:
        return (
            f"<Comparison of {len(self.runs)} runs: {len(self.results)} metrics, {self.family} comparisons>"
        )


def seconds_of(run: Compared) -> float | None:
    """Return the seconds of model time a run took; ``None`` for a person."""
    return run.timing.get("total_inference_time") if isinstance(run, Run) else None


def tokens_of(run: Compared) -> int | None:
    """Return the tokens a run sent and received, where the server told."""
    if not isinstance(run, Run):
        return None
    from nbannot.folder import CHARS, read_json

    counts = read_json(run.folder / CHARS)
    known = [counts.get("input_tokens"), counts.get("output_tokens")]
    return sum(known) if None not in known else None  # type: ignore[arg-type]


def energy_of(run: Compared) -> float | None:
    """Return the energy a run took, kWh; ``None`` where it was not measured."""
    return run.energy.get("total_energy_kwh") if isinstance(run, Run) else None


def compare(
    runs: Sequence[Compared],
    metric: str | Sequence[str] | None = None,
    column: str | Sequence[str] | None = None,
    *,
    cluster: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 1,
) -> Comparison:
    """Compare runs (and people) on the same texts.

    Parameters
    ----------
    runs
        Two or more `Run` or `Coder` of the same task.
    metric
        One or more metric names; the headline metric of each field's type when left out (`HEADLINE`).
    column
        One or more fields (name or column); every field that all of them answered when left out.
    cluster
        Column of the data that says which texts belong together.
    n_resamples, seed
        Of the paired bootstrap and the randomisation.

    Raises
    ------
    ScoringError
        If there are fewer than two runs, they differ in texts, codebook or human labels, or have no such metric.
    """
    items = list(runs)
    if len(items) < 2:
        raise ScoringError(f"a comparison needs at least two runs. Got {len(items)}.")
    items = _named_apart(_on_the_same_texts(items))
    fields = _fields(items, column)
    clusters = _clusters(items[0].task, cluster)
    results: dict[tuple[str, str], ManyResult] = {}
    corrected: dict[tuple[str, str], float] = {}
    for f in fields:
        data = _aligned(items, f, clusters)
        for name in _metrics(f, metric, single=len(fields) == 1):
            found = compare_many(
                data, name, n_resamples=n_resamples, seed=seed, names=[r.run_id for r in items]
            )
            results[f.column, name] = found
            corrected[f.column, name] = _corrected(data, name, found, seed)
    if not results:
        raise ScoringError(f"no field of these runs has the metric {metric!r}.")
    results = _adjusted(results)
    family = sum(len(found.pairs) for found in results.values())
    line = next(iter(results.values())).conventions
    return Comparison(tuple(items), results, corrected, family, line)


def _named_apart(items: list[Compared]) -> list[Compared]:
    ids = [item.run_id for item in items]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ScoringError(f"a run is given more than once: {listed(twice)}.")
    return items


def _on_the_same_texts(items: list[Compared]) -> list[Compared]:
    """Return the items on their common texts; runs must have the very same, people may have fewer."""
    tasks = [item.task for item in items]
    if len({task.codebook.hash for task in tasks}) > 1:
        raise ScoringError(
            "runs with different codebooks cannot be compared; their fields do not mean the same."
        )
    of_runs = [item for item in items if isinstance(item, Run)]
    for run in of_runs[1:]:
        if run.task.ids != of_runs[0].task.ids or run.task.texts != of_runs[0].task.texts:
            a, b = of_runs[0], run
            raise ScoringError(
                f"runs {a.run_id} ({len(a.task)} texts) and {b.run_id} ({len(b.task)} texts) were made on different "
                "texts.\n  Compare runs with the same data, limit, ids and split."
            )
    common = set.intersection(*(set(task.ids) for task in tasks))
    if not common:
        raise ScoringError("these coders share no text.")
    return [item if len(item.task) == len(common) else _restricted(item, common) for item in items]


def _restricted(item: Compared, common: set[str]) -> Compared:
    rows = [i for i, text_id in enumerate(item.task.ids) if text_id in common]
    task = item.task.select(ids=[item.task.ids[i] for i in rows])
    answers = {column: [found[i] for i in rows] for column, found in item.coding.answers.items()}
    return replace(item, task=task, coding=replace(item.coding, task=task, answers=answers))


def _fields(items: Sequence[Compared], column: str | Sequence[str] | None) -> list[Field]:
    codebook = items[0].task.codebook
    shared = [f for f in codebook if all(f.column in item.coding.answers for item in items)]
    if column is None:
        human = items[0].task.label_columns
        fields = [f for f in shared if f.column in human]
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


def _metrics(f: Field, metric: str | Sequence[str] | None, *, single: bool) -> list[str]:
    """Return the metrics to compare a field in: those named that its type has."""
    if metric is None:
        return [HEADLINE[f.type]]
    named = [metric] if isinstance(metric, str) else list(metric)
    if single:
        return named
    return [name for name in named if name in comparable_metrics(f.type)]


def _clusters(task: Task, cluster: str | None) -> list[str] | None:
    if cluster is None:
        return None
    if cluster not in task.data.columns:
        raise ScoringError(f"the data has no column '{cluster}'{nearest(cluster, task.data.columns)}.")
    return list(task.data[cluster])


def _aligned(items: Sequence[Compared], f: Field, clusters: list[str] | None) -> list[FieldData]:
    """Return one field of every item, with a reference only where every person was given the question."""
    import numpy as np

    given = np.logical_and.reduce([item.coding.given(f.column) for item in items])
    found = [field_data(item.coding, f, clusters) for item in items]
    human = [
        value if asked else None for value, asked in zip(items[0].task.human(f.column), given, strict=True)
    ]
    for item in items[1:]:
        if item.task.human(f.column) != items[0].task.human(f.column):
            raise ScoringError(
                f"runs {items[0].run_id} and {item.run_id} have different human labels in '{f.column}'.\n"
                "  The labels were changed between the runs: load both with the same task."
            )
    reference = field_data(replace(items[0].coding, by_person=False), f, clusters).human
    masked = [None if value is None else kept for value, kept in zip(human, reference, strict=True)]
    return [replace(data, human=masked) for data in found]


def _corrected(data: Sequence[FieldData], metric: str, found: ManyResult, seed: int) -> float:
    if found.best is None or any(math.isnan(value) for value in found.values):
        return math.nan
    return best_run_corrected(data, metric, seed=seed).corrected


def _adjusted(results: dict[tuple[str, str], ManyResult]) -> dict[tuple[str, str], ManyResult]:
    """Return the results with p adjusted over everything that the comparison shows."""

    def over_all(of: Callable[[ManyResult], list[PairResult]]) -> list[list[PairResult]]:
        sizes = [len(of(found)) for found in results.values()]
        flat = iter(adjust_pairs([pair for found in results.values() for pair in of(found)]))
        return [[next(flat) for _ in range(size)] for size in sizes]

    pairs, to_best = over_all(lambda r: r.pairs), over_all(lambda r: r.to_best)
    adjusted = {}
    for (key, found), all_pairs, best_pairs in zip(results.items(), pairs, to_best, strict=True):
        same = {pair.run_b for pair in best_pairs if not pair.p_adjusted < 0.05}
        kept = tuple(
            i
            for i, (name, value) in enumerate(zip(found.runs, found.values, strict=True))
            if not math.isnan(value) and (i == found.best or name in same)
        )
        adjusted[key] = replace(found, pairs=all_pairs, to_best=best_pairs, not_distinguishable=kept)
    return adjusted


def verdict(comparison: Comparison, key: tuple[str, str]) -> str:
    """Return what a comparison says about one field and metric, in plain words."""
    found = comparison.results[key]
    f = comparison.runs[0].task.codebook[key[0]]
    if found.best is None:
        return f"{f.name}, {key[1]}: not defined for any run ({found.pairs[0].reason})."
    n = found.pairs[0].n
    digits = 2 if n < 1_000 else 3
    if len(found.runs) == 2:
        return _verdict_of_two(comparison, f, found, digits)
    best = found.best
    same = [i for i in found.not_distinguishable if i != best]
    values = found.values
    parts = [
        f"{f.name}, {key[1]} on {n:,} texts: best is {_name(comparison, best)} ({values[best]:.{digits}f})."
    ]
    if same:
        others = listed((f"{_name(comparison, i)} ({values[i]:.{digits}f})" for i in same), 5)
        parts += [f"Not distinguishable from it: {others}.", _cheapest(comparison, found.not_distinguishable)]
    else:
        parts.append("It is distinguishable from every other run.")
    chosen = comparison.corrected[key]
    if not math.isnan(chosen):
        parts.append(
            "Chosen on these same texts, its value is too favourable on average; "
            f"corrected for the choice: {chosen:.{digits}f}."
        )
    return " ".join(part for part in parts if part)


def _verdict_of_two(comparison: Comparison, f: Field, found: ManyResult, digits: int) -> str:
    pair = found.pairs[0]
    if math.isnan(pair.diff):
        return f"{f.name}, {found.metric}: no difference can be computed ({pair.reason})."
    high, low = (0, 1) if pair.diff >= 0 else (1, 0)
    one, other = _name(comparison, high), _name(comparison, low)
    limits = (pair.ci_low, pair.ci_high) if pair.diff >= 0 else (-pair.ci_high, -pair.ci_low)
    numbers = (
        f"{found.values[high]:.{digits}f} against {found.values[low]:.{digits}f}; 95% interval of the difference "
        f"{limits[0]:+.{digits}f} to {limits[1]:+.{digits}f}; "
        + (f"p = {pair.p_adjusted:.3f}" if pair.p_adjusted >= 0.001 else "p < 0.001")
        + (f" after Holm over {comparison.family} comparisons" if comparison.family > 1 else "")
    )
    lead = f"{f.name}, {found.metric} on {pair.n:,} texts: {one}"
    if pair.p_adjusted < 0.05:
        by = f"{abs(pair.diff):.{digits}f}"
        return f"{lead} is higher than {other} by {by} ({numbers}; {pair.n_discordant:,} texts decide)."
    return (
        f"{lead} and {other} cannot be told apart ({numbers}). That is not evidence that they are equal: "
        f"so many texts would show a difference of about {pair.mdd:.{digits}f} or more."
    )


def _name(comparison: Comparison, index: int) -> str:
    run = comparison.runs[index]
    same = [other for other in comparison.runs if other.model_id == run.model_id]
    return run.model_id if len(same) == 1 else f"{run.model_id} [{run.run_id}]"


def _cheapest(comparison: Comparison, indices: Sequence[int]) -> str:
    """Return which of the runs that cannot be told from the best takes least."""
    told = []
    costs: list[tuple[str, Callable[[Compared], float | None]]] = [
        ("model time", seconds_of), ("tokens", tokens_of), ("energy", energy_of)
    ]  # fmt: skip
    for what, cost in costs:
        known = {i: cost(comparison.runs[i]) for i in indices}
        if all(value is not None for value in known.values()) and len(known) > 1:
            least = min(known, key=lambda i: known[i] or 0.0)
            told.append(f"least {what}: {_name(comparison, least)}")
    return f"Among these, {'; '.join(told)}." if told else ""
