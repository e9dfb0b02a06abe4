"""The command line's door: ``nbannot run | plan | score | compare | list | models | tasks | doctor``.

Results go to stdout; progress and remarks to stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from nbannot.displays import live
from nbannot.doors import recipe
from nbannot.doors.arguments import (
    COMPLETE,
    ERROR,
    INTERRUPTED,
    UNFINISHED,
    USAGE,
    command_line,
    long_options,
)
from nbannot.doors.listing import as_json, facts, headline_words, runs_in, short, table
from nbannot.errors import NbannotError, RunError, RunInterrupted, TaskError, harmless, listed, nearest
from nbannot.study.config import RunConfig, expand
from nbannot.study.settings import SETTINGS
from nbannot.tools.given import path_or


def main(argv: Sequence[str] | None = None) -> int:
    """Do what a command line asks for and return the exit code (`EXIT_CODES`)."""
    _write_what_the_terminal_can_show()
    parser = command_line(DEEDS)
    options = long_options(parser)
    words = [recipe.normal_option(word, options) for word in (sys.argv[1:] if argv is None else argv)]
    if not words:
        parser.print_help(sys.stderr)
        return USAGE
    asked, unknown = parser.parse_known_args(words)
    if unknown:
        name = unknown[0].partition("=")[0]
        hint = nearest(name, options) if name.startswith("-") else ""
        asked.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        with _stopped_by_signal():
            return int(asked.do(asked))
    except RunInterrupted as interrupt:
        write(f"{str(interrupt).splitlines()[0]}\n  The same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        write("stopped. Every finished answer is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except NbannotError as error:
        write(f"{type(error).__name__}: {error}", file=sys.stderr)
        return ERROR
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE


def write(thing: object, *, file: TextIO | None = None) -> None:
    """Write a line to stdout or another stream: the one place that everything for the terminal passes."""
    print(harmless(str(thing)), file=file)


def _write_what_the_terminal_can_show() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


@contextmanager
def _stopped_by_signal() -> Iterator[None]:
    """Let SIGTERM, which clusters send before they kill, end a run as Ctrl-C does."""

    def stop(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- commands ---------------------------------------------------------------------------------------------------


def do_run(asked: argparse.Namespace) -> int:
    """Annotate a task and print the report, or JSON."""
    from nbannot.running.run import run
    from nbannot.running.sweep import sweep

    task, configs = _what_and_how(asked)
    many = len(configs) > 1
    if many and (asked.fresh or asked.retry):
        asked.parser.error("--fresh and --retry are for one run; repetitions of a sweep: --repeat [1,2,3]")
    say = None if asked.quiet else live.say
    failures: Sequence[Any] = ()
    with live.progress(recipe.title(task, configs), quiet=asked.quiet) as tick:
        if many:
            done = sweep(task, configs, tick=tick, say=say)
            runs, failures = done.runs, done.failures
        else:
            options = {"fresh": asked.fresh, "retry": asked.retry, "reason": asked.reason}
            runs = (run(task, configs[0], **options, tick=tick, say=say),)
    for failure in failures:
        write(f"{failure.config.model_id()}: {failure.error}", file=sys.stderr)
    if asked.json:
        told = [facts(one) for one in runs]
        write(as_json(told if many else told[0]))
    else:
        for one in runs:
            write(short(one) if many or one.status == "failed" else f"{one.report()}\n{recipe.summary(one)}")
    complete = not failures and all(one.status == "complete" for one in runs)
    return COMPLETE if complete else UNFINISHED


def do_plan(asked: argparse.Namespace) -> int:
    """Print what a run would send; with a pilot, after sending a few texts to see what they take."""
    from nbannot.running.plan import plan_all

    task, configs = _what_and_how(asked)
    plans = plan_all(task, configs, pilot=asked.pilot)
    write(plans if len(plans) > 1 else plans[0])
    return COMPLETE


def do_score(asked: argparse.Namespace) -> int:
    """Score run folders again: of ours the first metric of each field, of older ones old values beside new ones."""
    from nbannot.comparing.rescoring.places import is_lab_folder, run_places
    from nbannot.comparing.rescoring.rescore import rescore
    from nbannot.record import folder
    from nbannot.record.run import load_run
    from nbannot.running.mending import mend, what_is_wrong

    complete = True
    for place in (found for named in asked.folder for found in run_places(named)):
        if is_lab_folder(place):
            write(
                rescore(place, asked.task, save=asked.metrics_dir is not None, metrics_dir=asked.metrics_dir)
            )
            continue
        one = load_run(place, task=None if asked.task is None else _task_named(asked.task))
        with folder.held(one.folder):
            mend(one, what_is_wrong(one))
        write(short(one))
        complete = complete and one.status == "complete"
    return COMPLETE if complete else UNFINISHED


def _task_named(source: str) -> Any:
    from nbannot.study.task_sources import load_task

    return load_task(source)


def do_compare(asked: argparse.Namespace) -> int:
    """Print how runs differ, text by text."""
    from nbannot.comparing.comparison import compare
    from nbannot.record.run import load_run

    runs = [load_run(place) for place in asked.folder]
    write(compare(runs, metric=asked.metric, column=asked.column))
    return COMPLETE


def do_list(asked: argparse.Namespace) -> int:
    """Print the runs of an output folder, oldest first."""
    rows = runs_in(path_or(RunError, asked.output_root), asked.task)
    if asked.json:
        write(as_json(rows))
    elif rows:
        shown = [{**row, "headline": headline_words(row["headline"])} for row in rows]
        write(table(shown, ("run_id", "task", "model_id", "status", "n_texts", "headline")))
    else:
        write(f"no run in {asked.output_root}", file=sys.stderr)
    return COMPLETE


def do_models(asked: argparse.Namespace) -> int:
    """Print the backends and what can be used here."""
    from nbannot.doors.doctor import available

    rows = [
        {"model": one.backend, "here": "yes" if one.ready else "no", "what": one.found, "to do": one.todo}
        for one in available()
    ]
    write(table(rows, ("model", "here", "what", "to do")))
    return COMPLETE


def do_tasks(asked: argparse.Namespace) -> int:
    """Print the bundled tasks and those of a folder of one's own."""
    from nbannot.study.task_sources import bundled_tasks, load_task

    root = path_or(TaskError, asked.task_root) if asked.task_root else None
    own = sorted(p.parent for p in root.glob("*/codebook.json")) if root else []
    rows = []
    sources: list[str | Path] = [*bundled_tasks(), *own]
    for source in sources:
        try:
            task = load_task(source)
        except NbannotError as error:
            rows.append({"task": str(source), "fields": f"cannot be used: {str(error).splitlines()[0]}"})
            continue
        fields = [f"{f.name} ({f.type})" for f in task.codebook]
        rows.append({"task": str(source), "texts": f"{len(task):,}", "fields": listed(fields, 8)})
    write(table(rows, ("task", "texts", "fields")))
    return COMPLETE


def do_doctor(asked: argparse.Namespace) -> int:
    """Print what is there and what is missing; with a model, how it answers."""
    from nbannot.doors import doctor

    if asked.model is None and (asked.probe or asked.determinism):
        asked.parser.error("which model? nbannot doctor MODEL --probe, e.g. nbannot doctor local --probe")
    findings = doctor.examine(asked.output_root)
    write(doctor.report(findings))
    if asked.model is not None:
        found = doctor.try_model(asked.model, asked.base_url)
        if asked.probe:
            found += doctor.examine_model(asked.model, asked.base_url)
        if asked.determinism:
            found += doctor.examine_determinism(
                asked.model, asked.base_url, texts=asked.texts, repeats=asked.repeats
            )
        write(f"\n{doctor.report(found)}")
        findings += found
    return ERROR if any(finding.state == "problem" for finding in findings) else COMPLETE


def _what_and_how(asked: argparse.Namespace) -> tuple[Any, list[RunConfig]]:
    """Return the task and the configs that a command line asks for; options override a file's settings."""
    from nbannot.running.design import as_task

    typed = {
        name: recipe.value_of(name, text) for name in SETTINGS if (text := getattr(asked, name)) is not None
    }
    if not recipe.is_recipe(asked.what):
        configs = expand(typed)
        return as_task(asked.what, configs[0]), configs
    found = recipe.read_recipe(asked.what)
    configs = expand({**found.settings, **typed})
    return recipe.task_of(found, configs[0]), configs


DEEDS = {
    "run": do_run,
    "plan": do_plan,
    "score": do_score,
    "compare": do_compare,
    "list": do_list,
    "models": do_models,
    "tasks": do_tasks,
    "doctor": do_doctor,
}
"""What each command does."""
