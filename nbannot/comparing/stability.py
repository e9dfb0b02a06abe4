"""Stability: does a model give the same labels when it is asked the same thing again?

Temperature 0 is no promise: batching, kernels and server updates change answers. It has to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import ScoringError, listed
from nbannot.measures.resample import wilson
from nbannot.page.digits import share
from nbannot.record.differences import same_value
from nbannot.record.folder import CONFIG, run_folders
from nbannot.record.loading import load_run
from nbannot.record.run import Run
from nbannot.study.config import RunConfig
from nbannot.tools.files import read_json
from nbannot.tools.frames import make_frame
from nbannot.tools.given import listed_or

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = ("column", "n", "runs", "flipped", "flip_rate", "ci_low", "ci_high")
SAME = "repeat"


def flip_rate(runs: Sequence[Run]) -> Frame:
    """Return, per field, the share of texts that did not get the same label in every run, with a Wilson interval.

    Parameters
    ----------
    runs
        Two or more repetitions of the same settings on the same texts. Texts to which the field applied in some
        of them only count as flipped; those without a valid answer in any run are left out.

    Returns
    -------
    pandas.DataFrame
        One row per field: column, n (texts), runs, flipped, flip_rate, ci_low, ci_high.

    Raises
    ------
    ScoringError
        If there are fewer than two runs or they have different texts.
    """
    runs = listed_or(ScoringError, runs, "a list of runs")
    if strangers := sorted({type(run).__name__ for run in runs if not isinstance(run, Run)}):
        raise ScoringError(f"stability is that of runs. Got {listed(strangers)}.")
    if len(runs) < 2:
        raise ScoringError(f"stability needs at least two runs. Got {len(runs)}.")
    if any(run.task.ids != runs[0].task.ids for run in runs):
        raise ScoringError("stability needs runs on the same texts.")
    rows = []
    for f in runs[0].coding.fields:
        flipped = n = 0
        for answers in zip(*(run.coding.answers[f.column] for run in runs), strict=True):
            if any(answer.status not in ("ok", "not_applicable") for answer in answers):
                continue
            if all(answer.status == "not_applicable" for answer in answers):
                continue
            n += 1
            flipped += not all(same_value(f, answers[0].value, answer.value) for answer in answers[1:])
        low, high = wilson(flipped, n) if n else (float("nan"), float("nan"))
        share = flipped / n if n else float("nan")
        rows.append(dict(zip(COLUMNS, (f.column, n, len(runs), flipped, share, low, high), strict=True)))
    return make_frame(rows, COLUMNS)


def flip_words(row: Mapping[Any, Any]) -> str:
    """Return a row of `flip_rate` in words: how many texts changed, of how many, and how surely that is known."""
    if not row["n"]:
        return "no text had a valid answer every time"
    low, high = (share(row[name], 1.0) for name in ("ci_low", "ci_high"))
    return (
        f"{row['flipped']} of {row['n']} texts changed in {row['runs']} repetitions "
        f"({share(row['flipped'], row['n'])} [{low}, {high}])"
    )


def repetitions(run: Run) -> list[Run]:
    """Return the finished runs beside this one that differ from it in `repeat` alone, itself included."""
    wanted = _without_repeat(run.config)
    repeats = []
    for place in run_folders(run.folder.parent.parent, run.folder.parent.name):
        config = read_json(place / CONFIG)
        if config.get("status") == "complete" and _without_repeat(config) == wanted:
            repeats.append(run if place == run.folder else load_run(place, task=run.task))
    return sorted(repeats, key=lambda one: int(one.config[SAME]))


def _without_repeat(config: Any) -> dict[str, Any]:
    return {name: value for name, value in (config.get("identity") or {}).items() if name != SAME}


def determinism(
    task: Any, config: RunConfig, *, texts: int = 20, repeats: int = 3, output_root: str | Path
) -> Any:
    """Return the flip rate of a model on some texts of a task, asked `repeats` times.

    Parameters
    ----------
    output_root
        Where the runs are kept; a temporary folder if they are not to be.
    """
    from nbannot.running.sweep import sweep

    return flip_rate(sweep(task, [config], repeats=repeats, limit=texts, output_root=str(output_root)).runs)
