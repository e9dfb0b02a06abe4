"""Samples of texts for people to code, each text with the probability with which it was drawn.

Estimates for the whole corpus need a probability that is known (Horvitz and Thompson 1952); it is written down beside
the ids before anybody codes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nbannot.comparing.align import column_of
from nbannot.errors import DeskError, RunError, listed
from nbannot.report.words import plural
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.study_folder import OUTPUT_ROOT, SAMPLE, study_folder
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, write_atomic
from nbannot.tools.frames import make_frame

Allocation = Literal["proportional", "equal", "neyman"]
ALLOCATIONS = ("proportional", "equal", "neyman")
COLUMNS = ("text_id", "stratum", "probability")
NO_ANSWER = "(no valid answer)"
FEWEST = 2
"""A stratum needs two texts for its variance to be estimated."""


def sample(
    task: Task | str | Path | Any,
    n: int,
    *,
    by: str | None = None,
    run: Any = None,
    cluster: str | None = None,
    allocation: Allocation = "proportional",
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
    replace: bool = False,
) -> Any:
    """Draw texts for people to code; written to ``sample.csv`` and returned as a frame. Blank texts are never drawn.

    Parameters
    ----------
    n
        How many texts; with `cluster` how many clusters, each with all of its texts.
    by
        Strata: a column of the data, or with `run` a field whose label by the model is the stratum.
    run
        A run on these texts.
    cluster
        A column of the data: texts with the same value are drawn together.
    allocation
        Texts per stratum. ``"proportional"`` to its size; ``"equal"`` in each; ``"neyman"`` to size times spread of the
        human labels in it, which makes corrected shares most precise (Neyman 1934). The spread comes from the texts of
        the run that people coded, smoothed; where nobody coded any, it is taken at its largest. Every stratum gets two
        texts at least, where it has them and `n` allows.
    seed
        Of the draw, which does not depend on the order of the data.
    replace
        Write over a sample that is there.

    Returns
    -------
    A frame with ``text_id, stratum, probability``, in the order of the task.

    Raises
    ------
    DeskError
        If there are too few texts, a setting does not fit, or another sample is there already.
    """
    task = as_task(task, RunConfig())
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise DeskError(f"n must be a number of {'clusters' if cluster else 'texts'}, at least 1. Got {n!r}.")
    if allocation not in ALLOCATIONS:
        raise DeskError(f"allocation must be one of {listed(ALLOCATIONS)}. Got {allocation!r}.")
    if allocation != "proportional" and by is None:
        raise DeskError(f"allocation='{allocation}' needs strata: by='a column'.")
    if allocation == "neyman" and run is None:
        raise DeskError("allocation='neyman' needs the model's labels: run=..., by='a field'.")
    strata = _strata(task, by, run)
    units = _units(task, cluster, strata)
    if n > sum(map(len, units.values())):
        total = sum(map(len, units.values()))
        raise DeskError(
            f"n is {n}, but there are only {total} {'clusters' if cluster else 'texts that are not blank'}.\n"
            f"  Draw {total} or fewer."
        )
    if n < len(units):
        kind = "clusters" if cluster else "texts"
        raise DeskError(
            f"n is {n}, and '{by}' has {len(units)} strata: those of which none is drawn would be missing in every "
            f"estimate.\n  Draw {len(units)} {kind} or more, or choose a column with fewer values."
        )
    sizes = {name: len(members) for name, members in units.items()}
    weights = _weights(task, allocation, sizes, by, run, strata)
    shares = allocate(n, sizes, weights)
    draw = random.Random(f"nbannot-sample:{seed}")
    chosen: dict[str, tuple[str, float]] = {}
    for name in sorted(units):
        for unit in draw.sample(sorted(units[name]), shares[name]):
            for text_id in units[name][unit]:
                chosen[text_id] = (name, shares[name] / sizes[name])
    rows = [dict(zip(COLUMNS, (i, *chosen[i]), strict=True)) for i in task.ids if i in chosen]
    _write(study_folder(task, output_root) / SAMPLE, rows, replace)
    return make_frame(rows, COLUMNS)


def allocate(n: int, sizes: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many to draw of each stratum: in proportion to the weights, never more than it has.

    Each gets two first (one, none where `n` is too small for that); the rest goes by largest remainder.

    >>> allocate(10, {"a": 90, "b": 10}, {"a": 90, "b": 10})
    {'a': 8, 'b': 2}
    """
    names = sorted(sizes)
    least = next(k for k in (FEWEST, 1, 0) if sum(min(k, sizes[name]) for name in names) <= n)
    free = [name for name in names if weights[name] > 0 or least == 0]
    fixed: dict[str, int] = {name: min(least, sizes[name]) for name in names if name not in free}
    while True:
        left = n - sum(fixed.values())
        total = sum(weights[name] for name in free) or 1.0
        ideal = {name: left * weights[name] / total for name in free}
        out = {name: sizes[name] for name in free if ideal[name] > sizes[name]}
        out = out or {name: min(least, sizes[name]) for name in free if ideal[name] < min(least, sizes[name])}
        if not out:
            break
        fixed |= out
        free = [name for name in free if name not in out]
    rounded = fixed | {name: math.floor(ideal[name]) for name in free}
    by_remainder = sorted(free, key=lambda name: (-(ideal[name] % 1), name))
    spare = [*by_remainder, *sorted(fixed, key=lambda name: (-weights[name], name))]
    while (missing := n - sum(rounded.values())) > 0:
        for name in [name for name in spare if rounded[name] < sizes[name]][:missing]:
            rounded[name] += 1
    return {name: rounded[name] for name in names}


def _strata(task: Task, by: str | None, run: Any) -> list[str]:
    """Return every text's stratum."""
    if by is None:
        return ["all"] * len(task)
    if run is None:
        return column_of(task, by) or []
    f = run.task.codebook[by]
    labels = dict(zip(run.task.ids, run.coding.values(f.column), strict=True))
    missing = [i for i in task.ids if i not in labels]
    if missing:
        raise DeskError(
            f"the run has no answer to {plural(len(missing), 'text')} of the task: {listed(missing, 3)}.\n"
            "  Draw from the task of the run: nba.sample(run.task, ...)."
        )
    if f.type in ("textbox", "span", "multiselect"):
        raise DeskError(
            f"'{f.name}' has no labels that could serve as strata.\n  Use a checkbox, a dropdown or a scale."
        )
    return [NO_ANSWER if labels[i] is None else str(labels[i]) for i in task.ids]


def _units(task: Task, cluster: str | None, strata: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return stratum -> unit that is drawn -> the ids of its texts."""
    names = column_of(task, cluster) or task.ids
    units: dict[str, dict[str, list[str]]] = {}
    home: dict[Hashable, str] = {}
    for text_id, text, unit, stratum in zip(task.ids, task.texts, names, strata, strict=True):
        if not text.strip():
            continue
        if home.setdefault(unit, stratum) != stratum:
            raise DeskError(
                f"cluster '{unit}' lies in two strata, '{home[unit]}' and '{stratum}'.\n"
                "  Strata of clusters must be something that whole clusters have."
            )
        units.setdefault(stratum, {}).setdefault(unit, []).append(text_id)
    return units


def _weights(
    task: Task, allocation: str, sizes: Mapping[str, int], by: str | None, run: Any, strata: Sequence[str]
) -> dict[str, float]:
    if allocation == "equal":
        return dict.fromkeys(sizes, 1.0)
    if allocation == "proportional" or by is None:
        return {name: float(size) for name, size in sizes.items()}
    human = dict(zip(run.task.ids, run.task.human(by), strict=True))
    f = run.task.codebook[by]
    seen: dict[str, Counter[Any]] = {name: Counter() for name in sizes}
    for text_id, stratum in zip(task.ids, strata, strict=True):
        if human.get(text_id) is not None and stratum in seen:
            seen[stratum][human[text_id]] += 1
    return {name: size * _spread(seen[name], len(f.labels)) for name, size in sizes.items()}


def _spread(counts: Counter[Any], k: int) -> float:
    """Return the standard deviation of the labels of a stratum, √(1 − Σ r²), each label counted once more.

    >>> round(_spread(Counter(), 2), 3), round(_spread(Counter({1: 8, 0: 0}), 2), 3)
    (0.707, 0.424)
    """
    total = sum(counts.values()) + k
    ones = k - len([c for c in counts.values() if c])
    squares = sum(((c + 1) / total) ** 2 for c in counts.values() if c) + ones / total**2
    return math.sqrt(max(0.0, 1 - squares))


def _write(path: Path, rows: Sequence[Mapping[str, Any]], replace: bool) -> None:
    text = csv_text(COLUMNS, [[str(row[name]) for name in COLUMNS] for row in rows])
    if not replace and path.exists() and path.read_bytes() != text.encode():
        raise DeskError(
            f"{path} already holds another sample, and later estimates rely on its probabilities.\n"
            "  Keep it, or overwrite it with replace=True."
        )
    try:
        write_atomic(path, text)
    except RunError as error:
        raise DeskError(str(error)) from None
