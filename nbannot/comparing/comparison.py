"""Comparison of runs on the same texts: paired differences with intervals, a verdict in words, and what it costs.

People can be compared like runs (`load_coder`): then only the texts that every person in the comparison coded count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from nbannot.comparing.align import (
    Compared,
    aligned,
    column_of,
    given_items,
    on_the_same_texts,
    refuse_other_fields,
    shared_fields,
)
from nbannot.comparing.coder import Coder, load_coder
from nbannot.comparing.found import Comparison, Key
from nbannot.comparing.took import energy_of, seconds_of, tokens_of
from nbannot.comparing.verdict import ADJUSTMENT_WORDS
from nbannot.comparing.warranted import with_doubts
from nbannot.errors import ScoringError, listed, nearest
from nbannot.measures.accounting import FieldData, account
from nbannot.measures.best_run import best_run_corrected
from nbannot.measures.missing_answers import WORDS, answered_by_all, answered_rows, counted_as_wrong
from nbannot.measures.pair_result import ManyResult, PairResult
from nbannot.measures.paired import Paired, adjust_family, paired
from nbannot.measures.paired_statistics import comparable_metrics
from nbannot.measures.text_extras import EXTRA_NAMES, TextExtras
from nbannot.report.words import HEADLINES
from nbannot.study.field import Field

__all__ = ["Coder", "Compared", "Comparison", "compare", "energy_of", "load_coder", "seconds_of", "tokens_of"]

HEADLINE = {kind: names[0] for kind, names in HEADLINES.items()}
"""The metric that is compared when none is named, by type of field."""

MANY_PAIRS = 20
"""Above so many pairs of runs each gets fewer resamples, so that a comparison of fifty takes seconds."""
FEWER_RESAMPLES = 2_000
"""With more pairs than these, the texts that both runs of each answered are resampled so often."""


def compare(
    runs: Sequence[Compared],
    metric: str | Sequence[str] | None = None,
    column: str | Sequence[str] | None = None,
    *,
    cluster: str | None = None,
    weights: str | None = None,
    margin: float | None = None,
    adjust: Literal["holm", "bh"] = "holm",
    family: Literal["field", "all"] = "field",
    n_resamples: int = 10_000,
    seed: int = 1,
    extras: bool | TextExtras = False,
) -> Comparison:
    """Compare runs (and people) on the same texts.

    An answer that a run did not give (invalid, refused, cut off, failed) counts as a wrong one, the worst that the
    metric knows, so that no run wins by silence; beside it stands every pair on the texts that both answered.

    Parameters
    ----------
    runs
        Two or more `Run` or `Coder` of the same task.
    metric
        One or more metric names; the headline metric of each field's type when left out (`HEADLINE`).
    column
        One or more fields (name or column); every field with human labels that all of them answered when left out.
    cluster
        Column of the data that says which texts belong together (document, author, thread); the task's own setting
        when left out, ``""`` for none.
    weights
        Column of the data with one over the probability with which each text was drawn; the task's own setting, or its
        ``sample.csv``, when left out, ``""`` for none.
    margin
        How much worse, in units of the metric, is still good enough; to be declared before looking. Adds for every
        pair whether non-inferiority is shown: the interval of the difference lies within the margin.
    adjust
        How p values and intervals of differences are corrected over a family: ``"holm"`` (chance of any false
        finding) or ``"bh"`` (share of false findings, Benjamini-Hochberg; to explore).
    family
        Over what: ``"field"``, every comparison shown of one field (the default), or ``"all"``, of all fields.
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
    _check(items, margin, adjust, family, n_resamples)
    refuse_other_fields(items)
    fields = _fields(items, column)
    items = on_the_same_texts(items, fields)
    chosen = _metrics(fields, metric)
    task = items[0].task
    cluster = task.cluster_column(cluster)
    clusters, weighting = column_of(task, cluster), task.weighting(weights)
    data = {f.column: aligned(items, f, clusters, weighting) for f in fields if chosen[f.column]}
    if column is None:
        data = _coded_by_all(data)
    names = [item.run_id for item in items]
    settings: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed, "extras": extras}
    scored = {
        (key, name): _all_answered(of_runs, name) for key, of_runs in data.items() for name in chosen[key]
    }
    tested = {key: paired(runs, key[1], names=names, **settings) for key, runs in scored.items()}
    fewer = min(n_resamples, FEWER_RESAMPLES) if math.comb(len(items), 2) > MANY_PAIRS else n_resamples
    both = {
        key: _where_both_answered(data[key[0]], key[1], names, settings | {"n_resamples": fewer})
        for key in tested
    }
    results: dict[Key, ManyResult] = {}
    both_answered: dict[Key, dict[tuple[str, str], PairResult]] = {}
    families: dict[str, int] = {}
    for keys in _families(list(tested), family):
        adjusted = dict(zip(keys, adjust_family([tested[key] for key in keys], adjust), strict=True))
        results |= {key: with_doubts(one, data[key[0]][0]) for key, one in adjusted.items()}
        both_answered |= _adjusted(both, keys, adjust)
        size = sum(not math.isnan(pair.p) for one in adjusted.values() for pair in one.pairs)
        families |= {key[0]: size for key in keys}
    corrected = {key: _corrected(scored[key], key[1], one, seed) for key, one in results.items()}
    weighted = [
        words
        for of_runs in data.values()
        if weighting is not None
        and (words := weighting.on(task.ids, [value is not None for value in of_runs[0].human])[1])
    ]
    line = _conventions(results, families, family, adjust, list(dict.fromkeys(weighted)), _missing(data))
    return Comparison(
        tuple(items),
        results,
        both_answered,
        corrected,
        data,
        scored,
        families,
        line,
        adjust,
        margin,
        settings,
    )


def _all_answered(runs: Sequence[FieldData], metric: str) -> list[FieldData]:
    return [counted_as_wrong(run, metric) for run in runs]


def _families(keys: Sequence[Key], family: str) -> list[list[Key]]:
    if family == "all":
        return [list(keys)]
    return [[key for key in keys if key[0] == column] for column in dict.fromkeys(key[0] for key in keys)]


def _where_both_answered(
    runs: Sequence[FieldData], metric: str, names: Sequence[str], settings: Mapping[str, Any]
) -> dict[tuple[str, str], Paired]:
    """Return the pairs of runs in which an answer is missing, on the texts that both answered."""
    if metric in ("coverage", "invalid_rate"):
        return {}
    pairs = {}
    complete = [bool((rows == answered).all()) for rows, answered in map(answered_rows, runs)]
    for a, b in combinations(range(len(runs)), 2):
        if complete[a] and complete[b]:
            continue
        two = answered_by_all([runs[a], runs[b]])
        pairs[names[a], names[b]] = paired(two, metric, names=(names[a], names[b]), **settings)
    return pairs


def _adjusted(
    both: Mapping[Key, Mapping[tuple[str, str], Paired]], keys: Sequence[Key], adjust: str
) -> dict[Key, dict[tuple[str, str], PairResult]]:
    """Return the pairs on the texts that both answered, adjusted over all of them in a family."""
    flat = iter(adjust_family([one for key in keys for one in both[key].values()], adjust))
    return {key: {names: next(flat).pairs[0] for names in both[key]} for key in keys}


def _missing(data: Mapping[str, Sequence[FieldData]]) -> list[str]:
    """Return the types of fields in which a run gave no valid answer to a compared text."""
    kinds = [
        of_runs[0].type
        for of_runs in data.values()
        if any((rows != answered).any() for rows, answered in map(answered_rows, of_runs))
    ]
    return list(dict.fromkeys(kinds))


def _check(
    items: Sequence[Compared], margin: float | None, adjust: str, family: str, n_resamples: int
) -> None:
    if len(items) < 2:
        raise ScoringError(f"a comparison needs at least two runs. Got {len(items)}.")
    if margin is not None and not 0 < margin < math.inf:
        raise ScoringError(f"margin must be a number above 0, in units of the metric. Got {margin}.")
    if adjust not in ADJUSTMENT_WORDS:
        raise ScoringError(f"adjust must be 'holm' or 'bh'. Got {adjust!r}.")
    if family not in ("field", "all"):
        raise ScoringError(f"family must be 'field' or 'all'. Got {family!r}.")
    if n_resamples < 1:
        raise ScoringError(f"n_resamples must be 1 or more. Got {n_resamples}.")


def _fields(items: Sequence[Compared], column: str | Sequence[str] | None) -> list[Field]:
    codebook = items[0].task.codebook
    shared = shared_fields(items)
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
    coded = {column: of_runs for column, of_runs in data.items() if account(of_runs[0]).reference.any()}
    if not coded:
        raise ScoringError("there is no text with a human label that all of these coded.")
    return coded


def _corrected(data: Sequence[FieldData], metric: str, result: ManyResult, seed: int) -> float:
    undefined = result.best is None or any(math.isnan(value) for value in result.values)
    if undefined or metric in EXTRA_NAMES or len(result.runs) < 3:
        return math.nan
    return best_run_corrected(data, metric, seed=seed).corrected


def _conventions(
    results: Mapping[Key, ManyResult],
    families: Mapping[str, int],
    family: str,
    adjust: str,
    weighted: Sequence[str],
    missing: Sequence[str],
) -> str:
    """Return the line of the paired comparison, with the size of each family."""
    how = next(iter(results.values())).conventions
    words = ADJUSTMENT_WORDS[adjust]
    if max(families.values()) < 2:
        adjusting = "one comparison" if len(families) == 1 else "one comparison per field"
    elif family == "all" or len(families) == 1:
        adjusting = f"p and intervals: {words} over all {max(families.values())} comparisons"
    else:
        sizes = ", ".join(f"{size} in {column}" for column, size in families.items())
        adjusting = f"p and intervals: {words} over the comparisons of each field ({sizes})"
    counted = [f"missing answers counted {WORDS[kind]}" for kind in missing]
    return " · ".join([how, adjusting, *counted, *(words.rstrip(".") for words in weighted)])
