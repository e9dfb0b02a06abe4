"""The command line's door: ``nbannot run | corpus | plan | score | compare | list | batches | models | doctor`` …

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
    CORPUS,
    ERROR,
    INTERRUPTED,
    UNFINISHED,
    USAGE,
    command_line,
    long_options,
)
from nbannot.doors.listing import as_json, facts, headline_words, runs_in, shelf, short, table
from nbannot.errors import NbannotError, RunError, RunInterrupted, TaskError, harmless, listed, nearest
from nbannot.study.config import RunConfig, expand
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
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        name = unknown[0].partition("=")[0]
        hint = nearest(name, options) if name.startswith("-") else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        with _stopped_by_signal():
            return int(arguments.do(arguments))
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


def do_run(arguments: argparse.Namespace) -> int:
    """Annotate a task and print the report, or JSON."""
    return _done(arguments, *_what_and_how(arguments))


def do_corpus(arguments: argparse.Namespace) -> int:
    """Annotate a corpus and print the report, or JSON; with --plan, print what that would send."""
    from nbannot.running.plan import plan_all
    from nbannot.study.corpus_sources import corpus

    typed = _typed(arguments)
    if arguments.config is not None:
        read = recipe.read_recipe(arguments.config)
        if read.task:
            raise RunError(
                f"{arguments.config} names a task, and a corpus is named by its files.\n"
                f"  nbannot run {arguments.config} runs that task; else take the line out."
            )
        typed = {**read.settings, **typed}
    configs = expand(typed)
    named = arguments.texts[0] if len(arguments.texts) == 1 else arguments.texts
    texts = corpus(named, arguments.codebook, **{name: getattr(arguments, name) for name in CORPUS})
    if not arguments.plan:
        return _done(arguments, texts, configs)
    plans = plan_all(texts, configs, pilot=arguments.pilot)
    write(plans if len(plans) > 1 else plans[0])
    return COMPLETE


def _done(arguments: argparse.Namespace, task: Any, configs: list[RunConfig]) -> int:
    """Run one or several configs, print what came of them, and return the exit code."""
    from nbannot.running.run import run
    from nbannot.running.sweep import sweep

    many = len(configs) > 1
    if many and (arguments.fresh or arguments.retry):
        arguments.parser.error(
            "--fresh and --retry are for one run; repetitions of a sweep: --repeat [1,2,3]"
        )
    say = None if arguments.quiet else live.say
    failures: Sequence[Any] = ()
    with live.progress(recipe.title(task, configs), quiet=arguments.quiet) as tick:
        if many:
            done = sweep(task, configs, tick=tick, say=say)
            runs, failures = done.runs, done.failures
        else:
            options = {"fresh": arguments.fresh, "retry": arguments.retry, "reason": arguments.reason}
            runs = (run(task, configs[0], **options, tick=tick, say=say),)
    for failure in failures:
        write(f"{failure.config.model_id()}: {failure.error}", file=sys.stderr)
    if arguments.json:
        printed = [facts(one) for one in runs]
        write(as_json(printed if many else printed[0]))
    else:
        for one in runs:
            brief = many or not one.coding.count().get("ok")
            write(short(one) if brief else f"{one.report()}\n{recipe.summary(one)}")
    complete = not failures and all(one.status == "complete" for one in runs)
    return COMPLETE if complete else UNFINISHED


def do_plan(arguments: argparse.Namespace) -> int:
    """Print what a run would send; with a pilot, after sending a few texts to see what they take."""
    from nbannot.running.plan import plan_all

    task, configs = _what_and_how(arguments)
    plans = plan_all(task, configs, pilot=arguments.pilot)
    write(plans if len(plans) > 1 else plans[0])
    return COMPLETE


def do_score(arguments: argparse.Namespace) -> int:
    """Score run folders again: of ours the first metric of each field, of older ones old values beside new ones."""
    from nbannot.comparing.rescoring.places import is_lab_folder, run_places
    from nbannot.comparing.rescoring.rescore import rescore
    from nbannot.record import folder
    from nbannot.record.loading import load_run
    from nbannot.running.mending import mend, what_is_wrong

    complete = True
    for place in (place_of for named in arguments.folder for place_of in run_places(named)):
        if is_lab_folder(place):
            write(
                rescore(
                    place,
                    arguments.task,
                    save=arguments.metrics_dir is not None,
                    metrics_dir=arguments.metrics_dir,
                )
            )
            continue
        one = load_run(place, task=None if arguments.task is None else _task_named(arguments.task))
        with folder.held(one.folder):
            mend(one, what_is_wrong(one))
        write(short(one))
        complete = complete and one.status == "complete"
    return COMPLETE if complete else UNFINISHED


def _task_named(source: str) -> Any:
    from nbannot.study.task_sources import load_task

    return load_task(source)


def do_compare(arguments: argparse.Namespace) -> int:
    """Print how runs differ, text by text."""
    from nbannot.comparing.comparison import compare
    from nbannot.record.loading import load_run

    runs = [load_run(place) for place in arguments.folder]
    write(compare(runs, metric=arguments.metric, column=arguments.column))
    return COMPLETE


def do_list(arguments: argparse.Namespace) -> int:
    """Print the runs of an output folder, oldest first."""
    rows = runs_in(path_or(RunError, arguments.output_root), arguments.task)
    if arguments.json:
        write(as_json(rows))
    elif rows:
        shown = [{**row, "headline": headline_words(row["headline"])} for row in rows]
        write(table(shown, ("run_id", "task", "model_id", "status", "n_texts", "headline")))
    else:
        write(f"no run in {arguments.output_root}", file=sys.stderr)
    return COMPLETE


def do_batches(arguments: argparse.Namespace) -> int:
    """Print the batches that are out, oldest run first."""
    from nbannot.record.batches import IN_PART, WAY_ON, batch_rows, none_out

    rows = batch_rows(arguments.output_root, arguments.task, ended=arguments.ended)
    if arguments.json:
        write(as_json(rows))
    elif rows:
        columns = (
            "run_id",
            "task",
            "model_id",
            "batch",
            "requests",
            "state",
            "answered",
            "submitted",
            "where",
        )
        write(table(rows, columns))
        write("to collect: the same cell again, or nbannot run FOLDER/config.json", file=sys.stderr)
        if any(row["state"] == IN_PART for row in rows):
            write(WAY_ON, file=sys.stderr)
    else:
        write(none_out(arguments.output_root, arguments.task, ended=arguments.ended), file=sys.stderr)
    return COMPLETE


def do_worker_setup(arguments: argparse.Namespace) -> int:
    """Print or write a Slurm job that starts workers, and say how a run finds them."""
    from nbannot.doors.worker_setup import Job
    from nbannot.tools.files import write_atomic

    job = Job(
        arguments.workers,
        arguments.cpus,
        arguments.gpus,
        arguments.time,
        arguments.memory,
        arguments.partition,
        arguments.scheduler_file,
    )
    name = arguments.output or "nbannot-workers.sh"
    script = job.script(name)
    if arguments.output:
        write_atomic(path_or(RunError, arguments.output), script)
    else:
        write(script.rstrip("\n"))
    where = "" if arguments.output else f"save it as {name}, "
    write(
        f'{where}submit it with sbatch {name}; then workers = "{arguments.scheduler_file}"', file=sys.stderr
    )
    return COMPLETE


def do_models(arguments: argparse.Namespace) -> int:
    """Print the backends, the weights that are here, and a short shelf of small open models."""
    from nbannot.doors.doctor import available

    rows = [
        {"model": one.backend, "here": "yes" if one.ready else "no", "what": one.found, "to do": one.todo}
        for one in available()
    ]
    write(table(rows, ("model", "here", "what", "to do")))
    write(f"\n{shelf()}")
    return COMPLETE


def do_tasks(arguments: argparse.Namespace) -> int:
    """Print the bundled tasks and those of a folder of one's own."""
    from nbannot.study.task_sources import bundled_tasks, load_task

    root = path_or(TaskError, arguments.task_root) if arguments.task_root else None
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


def do_doctor(arguments: argparse.Namespace) -> int:
    """Print what is there and what is missing; with a model, how it answers."""
    from nbannot.doors import doctor

    if arguments.model is None and (arguments.probe or arguments.determinism):
        arguments.parser.error("which model? nbannot doctor MODEL --probe, e.g. nbannot doctor local --probe")
    findings = doctor.examine(arguments.output_root)
    write(doctor.report(findings))
    if arguments.model is not None:
        typed = recipe.typed_settings(arguments)
        where = {
            name: recipe.value_of(name, typed[name]) for name in ("base_url", "workers") if name in typed
        }
        address = RunConfig(**where).base_url
        found = doctor.try_model(arguments.model, address, where.get("workers"))
        if arguments.probe:
            found += doctor.examine_model(arguments.model, address)
        if arguments.determinism:
            found += doctor.examine_determinism(
                arguments.model, address, texts=arguments.texts, repeats=arguments.repeats
            )
        write(f"\n{doctor.report(found)}")
        findings += found
    return ERROR if any(finding.state == "problem" for finding in findings) else COMPLETE


def _what_and_how(arguments: argparse.Namespace) -> tuple[Any, list[RunConfig]]:
    """Return the task and the configs that a command line asks for; options override a file's settings."""
    from nbannot.running.design import as_task

    typed = _typed(arguments)
    if not recipe.is_recipe(arguments.what):
        configs = expand(typed)
        return as_task(arguments.what, configs[0]), configs
    read = recipe.read_recipe(arguments.what)
    configs = expand({**read.settings, **typed})
    return recipe.task_of(read, configs[0]), configs


def _typed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were typed as options."""
    return {name: recipe.value_of(name, text) for name, text in recipe.typed_settings(arguments).items()}


DEEDS = {
    "run": do_run,
    "corpus": do_corpus,
    "plan": do_plan,
    "score": do_score,
    "compare": do_compare,
    "list": do_list,
    "batches": do_batches,
    "worker-setup": do_worker_setup,
    "models": do_models,
    "tasks": do_tasks,
    "doctor": do_doctor,
}
"""What each command does."""
