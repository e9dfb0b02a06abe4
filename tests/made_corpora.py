"""Corpora made from tables of counts: how often people and the model said what, on coded texts and on all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from conftest import codebook_of
from made_runs import made_run

from nbannot.study.task import Task


def corpus_of(
    gold: Sequence[Sequence[int]],
    corpus: Sequence[int],
    folder: Path,
    options: Sequence[str] = ("no", "yes"),
    **columns: Any,
) -> Any:
    """Return a run on a corpus; `gold` are counts (human x model), `corpus` counts by the model's label, gold included.

    One more model column than options holds texts without a valid answer.
    """
    model: list[Any] = []
    human: list[str] = []
    names = [*options, None]
    for k in range(len(corpus)):
        for x, option in enumerate(options):
            model += [names[k]] * gold[x][k]
            human += [option] * gold[x][k]
        rest = corpus[k] - sum(row[k] for row in gold)
        model += [names[k]] * rest
        human += [""] * rest
    return run_of(model, human, folder, options, **columns)


def run_of(
    model: Sequence[Any],
    human: Sequence[str],
    folder: Path,
    options: Sequence[str],
    config: Any = None,
    **columns: Any,
) -> Any:
    """Return a run on texts with these labels of the model and of people ("" for none)."""
    ids = [f"t{i}" for i in range(len(model))]
    data = {"id": ids, "text": [f"text {i}" for i in ids], "S_Kind": list(human), **columns}
    field = {"name": "Kind", "type": "dropdown", "options": list(options)}
    task = Task(pl.DataFrame(data), codebook_of(field), "demo")
    return made_run(task, {"Kind": list(model)}, folder, **(config or {}))
