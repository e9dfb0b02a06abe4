"""Sweeps: one run per combination of settings; a run that fails does not stop the others, a finished one is reused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, overload

from nbannot.engine.drive import Tick
from nbannot.engine.job import Progress
from nbannot.errors import GO_ON, ConfigError, NbannotError, RunInterrupted, tidy_interrupt
from nbannot.page.shown import Shown
from nbannot.record.run import Run
from nbannot.running.design import Say, as_task
from nbannot.running.run import run
from nbannot.study.config import RunConfig, expand
from nbannot.study.corpus import Corpus
from nbannot.study.faults import settings_error
from nbannot.study.keywords import Grid
from nbannot.study.settings import DEFAULTS, SETTINGS
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame


@dataclass(frozen=True)
class Failure:
    """A config of a sweep that came to no run, and why."""

    config: RunConfig
    error: str


@dataclass(frozen=True, repr=False)
class Runs(Shown, Sequence[Run]):
    """The runs of a sweep, in the order of their configs, and what failed.

    Attributes
    ----------
    runs
        Every run that exists, also partial ones (see `Run.status`).
    failures
        Configs that came to no run at all.
    """

    _display: ClassVar[str] = "runs_card"

    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        return self.runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    @property
    def differing(self) -> list[str]:
        """The settings that are not the same in all configs, in the order of `SETTINGS`."""
        configs = [run.config for run in self.runs] + [failure.config.to_dict() for failure in self.failures]
        return [name for name in SETTINGS if len({repr(c.get(name, DEFAULTS[name])) for c in configs}) > 1]

    def frame(self, metric: str | None = None) -> Frame:
        """Return one row per config: run id, what differs, status; with `metric`, its value per field.

        Parameters
        ----------
        metric
            A metric name, e.g. ``"f1_macro"``; one column per field that has it.
        """
        differing = self.differing
        rows: list[dict[str, Any]] = []
        for one in self.runs:
            row = {
                "run_id": one.run_id,
                **{n: one.config.get(n) for n in differing},
                "status": one.status,
                "error": "",
            }
            rows.append(row | (_values(one, metric) if metric else {}))
        for failure in self.failures:
            settings = failure.config.to_dict()
            row = {"run_id": "", **{n: settings[n] for n in differing}, "status": "failed"}
            rows.append(row | {"error": failure.error})
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return make_frame(rows, columns)

    def __repr__(self) -> str:
        bad = f", {len(self.failures)} failed" if self.failures else ""
        return f"<Runs: {len(self.runs)} runs{bad}; differing in {', '.join(self.differing) or 'nothing'}>"


def _values(one: Run, metric: str) -> dict[str, float]:
    return {
        column: score.results[metric].value
        for column, score in one.scores.fields.items()
        if metric in score.results
    }


def configs_of(
    configs: Iterable[RunConfig | Mapping[str, Any]] | Mapping[str, Any] | None,
    repeats: int,
    settings: Mapping[str, Any],
) -> list[RunConfig]:
    """Return every config of a sweep: a list of configs, or one per combination of the listed values.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range, or nothing would be run.
    """
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise settings_error([f"repeats must be an integer of at least 1. Got {repeats!r}."])
    if configs is None or isinstance(configs, Mapping):
        every = expand({**(configs or {}), **settings})
    else:
        every = []
        for config in [configs] if isinstance(configs, str | RunConfig) else configs:
            if isinstance(config, Mapping):
                every.extend(expand({**config, **settings}))
            else:
                every.append(RunConfig.of(config, **settings))
    if not every:
        raise ConfigError("a sweep needs at least one config. Got an empty list.")
    return [c.change(repeat=c.repeat + again) for c in every for again in range(repeats)]


@tidy_interrupt()
def sweep(
    task: Task | Any,
    configs: Iterable[RunConfig | Mapping[str, Any]] | Mapping[str, Any] | None = None,
    /,
    *,
    repeats: int = 1,
    codebook: Any = None,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    say: Say | None = None,
    **settings: Unpack[Grid],
) -> Runs:
    """Run a task under every combination of the listed values.

    Parameters
    ----------
    task
        As for `run`.
    configs
        A list of configs or settings; or one set of settings in which a list stands for several values.
    repeats
        How many repetitions of each config.
    settings
        Settings for all of them; a list stands for several values: ``temperature=[0, 0.7]``.

    Returns
    -------
    Runs
        In the order of the configs. A config that fails is in `Runs.failures` and does not stop the others.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range: before anything is sent.
    RunInterrupted
        If the user stops it; finished runs are kept (`RunInterrupted.finished`) and found again by the same call.
    """
    every = configs_of(configs, repeats, settings)
    whole = task if isinstance(task, Corpus) else as_task(task, every[0], codebook)
    runs: list[Run] = []
    failures: list[Failure] = []
    for number, config in enumerate(every, start=1):
        if stop is not None and stop.is_set():
            words = f"stopped before run {number} of {len(every)}; the runs before it are kept.\n  {GO_ON}"
            raise _interrupted(words, runs, failures)
        try:
            runs.append(run(whole, config, tick=_numbered(tick, number, len(every)), stop=stop, say=say))
        except RunInterrupted as interrupt:
            raise _interrupted(f"run {number} of {len(every)}: {interrupt}", runs, failures) from None
        except NbannotError as error:
            failures.append(Failure(config, str(error)))
            if say:
                say(f"run {number} of {len(every)} failed: {str(error).splitlines()[0]}")
    return Runs(tuple(runs), tuple(failures))


def _interrupted(words: str, runs: Sequence[Run], failures: Sequence[Failure]) -> RunInterrupted:
    """Return the interrupt of a sweep, with what was finished before it."""
    interrupt = RunInterrupted(words)
    if runs:
        interrupt.finished = Runs(tuple(runs), tuple(failures))
    return interrupt


def _numbered(tick: Tick | None, number: int, of: int) -> Callable[[Progress], None] | None:
    """Return a tick that says which run of the sweep it speaks of."""
    if tick is None:
        return None

    def told(progress: Progress) -> None:
        progress.message = f"run {number} of {of}"
        tick(progress)

    return told
