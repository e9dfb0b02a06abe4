"""A grid of runs on the same texts: which prompt, model and repeat each is, its value, and its parts over texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbannot.errors import ScoringError, listed
from nbannot.measures.accounting import unit_codes
from nbannot.measures.result import FloatArray, IntArray
from nbannot.record.run import Run
from nbannot.study.settings import DEFAULTS, SETTINGS
from nbannot.tools.given import listed_or

Estimator = Callable[[Run], Any]
REPEATS = ("repeat", "seed")
MODELS = ("model", "base_url")


@dataclass(frozen=True)
class Estimate:
    """What an estimator said of one run; `se` is ``nan`` where it said none, `reason` why there is no value."""

    value: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    reason: str = ""


def read_estimate(given: Any) -> Estimate:
    """Return what an estimator returned as numbers: a number, ``(value, se)``, ``(value, low, high)`` or a mapping.

    Raises
    ------
    ScoringError
        If it is something else.
    """
    z = 1.959963984540054
    if given is None:
        return Estimate(math.nan, reason="the estimator returned nothing")
    if isinstance(given, Mapping):
        parts = {
            name: float(given[name]) for name in ("value", "estimate", "low", "high", "se") if name in given
        }
        value, low, high, se = (parts.get(name, math.nan) for name in ("value", "low", "high", "se"))
        known = Estimate(parts.get("estimate", value), low, high, se)
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) in (2, 3):
        numbers = [float(v) for v in given]
        known = Estimate(numbers[0], se=numbers[1])
        if len(numbers) == 3:
            known = Estimate(numbers[0], numbers[1], numbers[2])
    else:
        try:
            known = Estimate(float(given))
        except (TypeError, ValueError):
            raise ScoringError(
                "an estimator returns a number, (value, se), (value, low, high), or a mapping with value, low, high, "
                f"se. Got {type(given).__name__}."
            ) from None
    if math.isnan(known.se) and not math.isnan(known.low):
        return replace(known, se=(known.high - known.low) / (2 * z))
    if math.isnan(known.low) and not math.isnan(known.se):
        return replace(known, low=known.value - z * known.se, high=known.value + z * known.se)
    return known


def given_runs(runs: Any, least: int) -> list[Run]:
    """Return runs as a list.

    Raises
    ------
    ScoringError
        If there are fewer than `least`, or something else was given.
    """
    if isinstance(runs, Run):
        raise ScoringError(
            "one Run was given, not a list of them.\n  Give the runs of a sweep, or [run, ...]."
        )
    listed_runs = listed_or(ScoringError, runs, "a list of runs")
    strangers = sorted({type(one).__name__ for one in listed_runs if not isinstance(one, Run)})
    if strangers:
        raise ScoringError(
            f"only runs can be combined here. Got {listed(strangers)}.\n  A folder becomes a run by nba.load_run(...)."
        )
    if len(listed_runs) < least:
        raise ScoringError(
            f"this needs at least {least} runs. Got {len(listed_runs)}.\n  nba.sweep(...) makes several."
        )
    ids = [run.run_id for run in listed_runs]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ScoringError(f"a run is given more than once: {listed(twice)}.")
    return listed_runs


def facets_of(
    runs: Sequence[Run], named: Mapping[str, str | Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Return facet -> each run's level: model, prompt (every other setting that decides the answers), repeat.

    Parameters
    ----------
    named
        Facets of one's own: name -> settings.

    Raises
    ------
    ScoringError
        If a setting does not exist.
    """
    if named is None:
        rest = [
            name
            for name, setting in SETTINGS.items()
            if setting.decides and name not in (*REPEATS, *MODELS, "limit", "ids", "split")
        ]
        named = {"prompt": [*rest, "prompt_hash"], "model": [*MODELS, "model_digest"], "repeat": REPEATS}
    facets = {}
    for facet, settings in named.items():
        names = [settings] if isinstance(settings, str) else list(settings)
        unknown = [n for n in names if n not in SETTINGS and n not in ("prompt_hash", "model_digest")]
        if unknown:
            raise ScoringError(
                f"facet '{facet}' names {listed(unknown)}, which is not a setting.\n  The settings: docs/settings.md."
            )
        levels = [repr([run.config.get(n, DEFAULTS.get(n)) for n in names]) for run in runs]
        if len(set(levels)) > 1:
            facets[facet] = levels
    return facets


def same_texts(runs: Sequence[Run]) -> None:
    """Raise a ScoringError where runs were made on different texts."""
    for run in runs[1:]:
        if run.task.ids != runs[0].task.ids:
            raise ScoringError(
                f"runs {runs[0].run_id} and {run.run_id} were made on different texts.\n"
                "  Take runs of one sweep, or with the same limit, ids and split."
            )


def part_of(run: Run, rows: Sequence[int]) -> Run:
    """Return a run on some of its texts."""
    task = run.task.select(ids=[run.task.ids[row] for row in rows])
    answers = {column: [given[row] for row in rows] for column, given in run.coding.answers.items()}
    return replace(run, task=task, coding=replace(run.coding, task=task, answers=answers))


def blocks_of(n: int, clusters: Sequence[str] | None, at_most: int, seed: int) -> list[IntArray]:
    """Return random blocks of rows (of whole clusters) of about the same size, at most so many."""
    units = np.arange(n) if clusters is None else unit_codes(clusters)
    size = int(units.max()) + 1 if n else 0
    block = np.random.default_rng(seed).permutation(size) % min(at_most, size)
    return [np.flatnonzero(block[units] == b) for b in range(min(at_most, size))]


def components(
    y: FloatArray, facets: Mapping[str, Sequence[str]]
) -> tuple[dict[str, float], dict[str, int], float, list[str]]:
    """Return variance components of a crossed grid by REML, their degrees of freedom, the rest, and those set to 0.

    Parameters
    ----------
    y : (N,) one value per cell.
    facets : facet -> (N,) levels; the product of two facets enters as their interaction where it is not the rest.

    Notes
    -----
    Iterated MINQUE, which is REML; in a balanced grid it is the analysis of variance.
    """
    n = len(y)
    designs: dict[str, FloatArray] = {}
    codes = {name: unit_codes(levels) for name, levels in facets.items()}
    terms: dict[str, IntArray] = dict(codes)
    names = list(codes)
    for i, a in enumerate(names):
        for b in names[:i]:
            terms[f"{b} × {a}"] = unit_codes(list(zip(codes[b].tolist(), codes[a].tolist(), strict=True)))
    df: dict[str, int] = {}
    for name, levels in terms.items():
        k = int(levels.max()) + 1
        if 1 < k < n:
            designs[name] = (levels[:, None] == levels[None]).astype(float)
            df[name] = (
                k - 1
                if " × " not in name
                else max(1, k - 1 - sum(df.get(part, 0) for part in name.split(" × ")))
            )
    matrices = [*designs.values(), np.eye(n)]
    sigma = np.zeros(len(matrices))
    sigma[-1] = 1.0
    ones = np.ones((n, 1))
    for _ in range(100):
        v = sum(s * m for s, m in zip(sigma, matrices, strict=True))
        inverse = np.linalg.pinv(v)
        p = inverse - inverse @ ones @ ones.T @ inverse / float((ones.T @ inverse @ ones)[0, 0])
        products = [p @ m for m in matrices]
        s = np.array([[float((a * b.T).sum()) for b in products] for a in products])
        q = np.array([float(y @ p @ m @ p @ y) for m in matrices])
        solution = np.linalg.lstsq(s, q, rcond=None)[0]
        kept = np.maximum(solution, 0.0)
        if kept.max() <= 0:
            break
        before, sigma = sigma, kept.copy()
        sigma[-1] = max(kept[-1], 1e-4 * float(kept.max()))  # a rest of 0 leaves nothing to weigh by
        if np.allclose(sigma, before, rtol=1e-8):
            break
    negative = [name for name, value in zip(designs, solution, strict=False) if value < 0]
    sizes = dict(zip(designs, kept.tolist(), strict=False))
    return sizes, df, float(kept[-1]), negative


def differing_settings(runs: Sequence[Run]) -> list[str]:
    """Return the settings that are not the same in all runs."""
    return [
        name for name in SETTINGS if len({repr(run.config.get(name, DEFAULTS[name])) for run in runs}) > 1
    ]
