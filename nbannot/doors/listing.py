"""Runs told in a line, in a table and as JSON, for the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbannot.doors import recipe
from nbannot.errors import STEERING, RunError, TableError


def facts(run: Any) -> dict[str, Any]:
    """Return what ``--json`` tells of a run."""
    from nbannot.report.headline import headlines, verdict

    return {
        "run_id": run.run_id,
        "task": run.task.name,
        "model_id": run.model_id,
        "status": run.status,
        "folder": str(run.folder),
        "n_texts": run.n_texts,
        "answers": run.by_status,
        "verdict": verdict(run),
        "headline": {
            one.field.column: {
                "metric": one.metric,
                "value": one.result.value,
                "ci_low": one.result.ci_low,
                "ci_high": one.result.ci_high,
                "baseline": math.nan if one.baseline is None else one.baseline,
                "n": one.n,
                "answered": one.answered,
                "reason": one.result.reason,
            }
            for one in headlines(run)
            if one.result is not None
        },
    }


def runs_in(output_root: Path, task: str | None = None) -> list[dict[str, Any]]:
    """Return the runs of an output folder, oldest first, with the first metric of each field from the tables."""
    from nbannot.record import folder
    from nbannot.tools.files import read_json

    rows: list[dict[str, Any]] = []
    for place in folder.run_folders(output_root, task):
        config = read_json(place / folder.CONFIG)
        rows.append(
            {
                "run_id": place.name,
                "task": place.parent.name,
                "model_id": config.get("model_id"),
                "status": config.get("status"),
                "n_texts": config.get("n_texts"),
                "created": config.get("created"),
                "folder": str(place),
            }
        )
    for name in {row["task"] for row in rows}:
        scored = headlines_of(output_root / "metrics", name)
        for row in rows:
            if row["task"] == name:
                row["headline"] = scored.get(row["run_id"], {})
    return rows


def runs_to_compare(output_root: Path, task: str) -> list[Any]:
    """Return finished runs of a task with the same texts, oldest first: those that the latest such pair had.

    Raises
    ------
    RunError
        If fewer than two are there.
    """
    from nbannot.record import folder
    from nbannot.record.loading import load_run

    runs = [
        one
        for place in folder.run_folders(output_root, task)
        if (one := load_run(place)).status == "complete"
    ]
    same: list[Any] = []
    for last in reversed(runs):
        same = [one for one in runs if set(one.task.ids) == set(last.task.ids)]
        if len(same) > 1:
            break
    if len(same) < 2:
        raise RunError(
            f"there are not two finished runs of '{task}' on the same texts in {output_root}.\n"
            "  Make another one, e.g. with another model, or name runs: %compare FIRST SECOND."
        )
    return same


def headlines_of(metrics: Path, task: str) -> dict[str, dict[str, Any]]:
    """Return run id -> column -> first metric of the field, as the long table has it: value, interval, n, reason."""
    from nbannot.record import tables
    from nbannot.report.words import HEADLINES

    try:
        table = tables.read_long(metrics, task, canonical=True)
    except TableError:
        return {}
    values: dict[str, dict[str, Any]] = {}
    shown = ("metric", "value", "ci_low", "ci_high", "n", "n_answered", "note")
    columns = ["run_id", "column", "annotation_type", *shown]
    there = [name for name in columns if name in table]
    for row in table[there].to_dict("records"):
        if row["metric"] == HEADLINES.get(row["annotation_type"], ("",))[0]:
            found = {name: row.get(name, math.nan) for name in shown}
            values.setdefault(row["run_id"], {})[row["column"]] = found
    return values


def headline_words(headline: dict[str, Any]) -> str:
    """Return the first metric of each field in one line."""
    from nbannot.page.digits import number

    return " · ".join(
        f"{column.rpartition('_')[2]} {number(one['value'], low=-math.inf)}"
        for column, one in headline.items()
    )


def short(run: Any) -> str:
    """Return a run in a line, and a line per field."""
    from nbannot.report.headline import lines

    return "\n".join([recipe.summary(run), *(f"  {line}" for line in lines(run))])


def shelf() -> str:
    """Return the weights that are on this machine, and small open models that one line would fetch."""
    from nbannot.models.hub import fetched_before, gigabytes, machine_memory, memory_of
    from nbannot.models.shelf import READ_ON, SHELF

    memory = machine_memory()
    here = [f"  {name}  {gigabytes(size)}" for name, size in fetched_before()]
    lines = ["Fetched from the Hugging Face Hub before:", *here, ""] if here else []
    lines.append(
        f"Small open models that run here, as their makers describe them (read on {READ_ON}; not measured by us):"
    )
    for one in SHELF:
        size = "size: the Hub says it before anything is fetched"
        if one.size:
            size = f"{one.file} {gigabytes(one.size)}, takes about {gigabytes(memory_of(one.size))} of memory"
        lines += [
            "",
            f'  model = "{one.name}"',
            f"    {one.parameters}; {size}",
            f"    languages: {one.languages}; licence: {one.licence}",
            f"    claim: {one.claim}",
            f"    {'  '.join(one.sources)}",
        ]
    return "\n".join(
        [
            *lines,
            "",
            f"Each such line fetches, once, the most precise file that leaves half of this machine's "
            f"{gigabytes(memory)} free. Whether a model can code your texts, only your own human labels tell.",
        ]
    )


def as_json(thing: Any) -> str:
    """Return plain data as JSON for a terminal, numbers that are not defined as null."""
    written = json.dumps(_defined(thing), ensure_ascii=False, indent=2)
    return STEERING.sub(
        lambda match: f"\\u{ord(match[0]):04x}", written
    )  # the same text, which steers no terminal


def _defined(thing: Any) -> Any:
    """Return plain data with ``None`` for numbers that are not defined, which JSON has no word for."""
    if isinstance(thing, dict):
        return {key: _defined(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_defined(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned text; a column that is blank in every row is left out."""
    cells = [[str(row.get(name) if row.get(name) is not None else "") for name in columns] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] for line in cells)]
    lines = [[columns[i].replace("_", " ") for i in kept], *([line[i] for i in kept] for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(kept))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
