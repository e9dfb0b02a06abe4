"""What runs are called in a comparison: by the settings in which they differ, short enough for a table."""

from __future__ import annotations

from collections.abc import Sequence

from nbannot.comparing.align import Compared
from nbannot.record.run import Run
from nbannot.report.words import setting_text
from nbannot.study.settings import DEFAULTS, SETTINGS

NAME_CHARS = 44


def names_of(runs: Sequence[Compared]) -> dict[str, str]:
    """Return run id -> short name: the settings in which the runs differ, or the model id; each name is another one."""
    names = _by_settings(runs)
    if len(set(names)) < len(names):
        names = [run.model_id for run in runs]
    short = [shortened(name) for name in names]
    return {
        run.run_id: name if short.count(name) == 1 else f"{name} [{run.run_id}]"
        for run, name in zip(runs, short, strict=True)
    }


def short_names(runs: Sequence[Compared]) -> tuple[str, dict[str, str]]:
    """Return what the runs differ in, as a heading, and run id -> the values alone; the names of `names_of` else.

    The heading is "" where the names say by themselves what they are.
    """
    differing = _differing(runs)
    values = [
        ", ".join(setting_text(run.config.get(name, DEFAULTS[name])) for name in differing)
        if isinstance(run, Run)
        else run.model_id
        for run in runs
    ]
    if not differing or len(set(values)) < len(values) or max(map(len, values)) > NAME_CHARS:
        return "", names_of(runs)
    return ", ".join(differing), {run.run_id: value for run, value in zip(runs, values, strict=True)}


def _differing(runs: Sequence[Compared]) -> list[str]:
    """Return the settings that are not the same in all runs."""
    configs = [run.config for run in runs if isinstance(run, Run)]
    return [
        name
        for name, setting in SETTINGS.items()
        if (setting.decides or name == "repeat")
        and len({repr(config.get(name, DEFAULTS[name])) for config in configs}) > 1
    ]


def _by_settings(runs: Sequence[Compared]) -> list[str]:
    """Return for each run the settings that are not the same in all of them; a model by its name alone."""
    differing = _differing(runs)
    return [
        ", ".join(
            setting_text(run.config.get(name, DEFAULTS[name]))
            if name == "model"
            else f"{name} = {setting_text(run.config.get(name, DEFAULTS[name]))}"
            for name in differing
        )
        or run.model_id
        if isinstance(run, Run)
        else run.model_id
        for run in runs
    ]


def shortened(name: str, at_most: int = NAME_CHARS) -> str:
    """Return a name with … in its middle where it is too long: begin and end tell models apart.

    >>> shortened("openai/a-very-long-model-name-instruct", 21)
    'openai/a-v…e-instruct'
    """
    if len(name) <= at_most:
        return name
    half = (at_most - 1) // 2
    return f"{name[:half]}…{name[-(at_most - 1 - half) :]}"
