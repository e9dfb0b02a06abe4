"""The command line's door: ``nbannot run | plan | score | compare | list | models | tasks | doctor``.

Results go to stdout; progress and remarks to stderr. The options of ``run`` and ``plan`` are made from `SETTINGS`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from nbannot import __version__
from nbannot.displays import live
from nbannot.doors import recipe
from nbannot.errors import NbannotError, RunInterrupted, TableError, listed, nearest
from nbannot.study.config import DEFAULTS, SETTINGS, RunConfig, expand

COMPLETE, ERROR, USAGE, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    COMPLETE: "done; for run and score: the run is complete",
    ERROR: "something cannot be used: the message says what and what to type",
    USAGE: "the command line is not understood",
    UNFINISHED: "a run ended partial or failed; the same command goes on from there",
    INTERRUPTED: "interrupted; what is done is kept, the same command goes on from there",
}
"""What a script can read from the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what a command line asks for and return the exit code (`EXIT_CODES`)."""
    _write_what_the_terminal_can_show()
    parser = _parser()
    words = [recipe.normal_option(word, OPTIONS) for word in (sys.argv[1:] if argv is None else argv)]
    if not words:
        parser.print_help(sys.stderr)
        return USAGE
    asked, unknown = parser.parse_known_args(words)
    if unknown:
        name = unknown[0].partition("=")[0]
        hint = nearest(name, OPTIONS) if name.startswith("-") else ""
        asked.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        with _stopped_by_signal():
            return int(asked.do(asked))
    except RunInterrupted as interrupt:
        print(f"{str(interrupt).splitlines()[0]}\n  The same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("stopped. Every finished answer is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except NbannotError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return ERROR
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE


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
            runs = (run(task, configs[0], fresh=asked.fresh, retry=asked.retry, tick=tick, say=say),)
    for failure in failures:
        print(f"{failure.config.model_id()}: {failure.error}", file=sys.stderr)
    if asked.json:
        told = [facts(one) for one in runs]
        _print_json(told if many else told[0])
    else:
        for one in runs:
            print(_short(one) if many or one.status == "failed" else f"{one.report()}\n{recipe.summary(one)}")
    complete = not failures and all(one.status == "complete" for one in runs)
    return COMPLETE if complete else UNFINISHED


def do_plan(asked: argparse.Namespace) -> int:
    """Print what a run would send; with a pilot, after sending a few texts to see what they take."""
    from nbannot.running.plan import plan_all

    task, configs = _what_and_how(asked)
    plans = plan_all(task, configs, pilot=asked.pilot)
    print(plans if len(plans) > 1 else plans[0])
    return COMPLETE


def do_score(asked: argparse.Namespace) -> int:
    """Score run folders again: of ours the first metric of each field, of older ones old values beside new ones."""
    from nbannot.comparing.rescoring.rescore import is_lab_folder, rescore, run_places
    from nbannot.record.run import load_run
    from nbannot.running.scores import save_scores

    complete = True
    for place in (found for named in asked.folder for found in run_places(named)):
        if is_lab_folder(place):
            print(
                rescore(place, asked.task, save=asked.metrics_dir is not None, metrics_dir=asked.metrics_dir)
            )
            continue
        one = load_run(place, task=None if asked.task is None else _task_named(asked.task))
        save_scores(one)
        print(_short(one))
        complete = complete and one.status == "complete"
    return COMPLETE if complete else UNFINISHED


def _task_named(source: str) -> Any:
    from nbannot.study.task import load_task

    return load_task(source)


def do_compare(asked: argparse.Namespace) -> int:
    """Print how runs differ, text by text."""
    from nbannot.comparing.comparison import compare
    from nbannot.record.run import load_run

    runs = [load_run(place) for place in asked.folder]
    print(compare(runs, metric=asked.metric, column=asked.column))
    return COMPLETE


def do_list(asked: argparse.Namespace) -> int:
    """Print the runs of an output folder, oldest first."""
    rows = runs_in(Path(asked.output_root), asked.task)
    if asked.json:
        _print_json(rows)
    elif rows:
        shown = [{**row, "headline": _headline_words(row["headline"])} for row in rows]
        print(_table(shown, ("run_id", "task", "model_id", "status", "n_texts", "headline")))
    else:
        print(f"no run in {asked.output_root}", file=sys.stderr)
    return COMPLETE


def do_models(asked: argparse.Namespace) -> int:
    """Print the backends and what can be used here."""
    from nbannot.doors.doctor import available

    rows = [
        {"model": one.backend, "here": "yes" if one.ready else "no", "what": one.found, "to do": one.todo}
        for one in available()
    ]
    print(_table(rows, ("model", "here", "what", "to do")))
    return COMPLETE


def do_tasks(asked: argparse.Namespace) -> int:
    """Print the bundled tasks and those of a folder of one's own."""
    from nbannot.study.task import bundled_tasks, load_task

    root = Path(asked.task_root) if asked.task_root else None
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
    print(_table(rows, ("task", "texts", "fields")))
    return COMPLETE


def do_doctor(asked: argparse.Namespace) -> int:
    """Print what is there and what is missing; with a model, how it answers."""
    from nbannot.doors import doctor

    if asked.model is None and (asked.probe or asked.determinism):
        asked.parser.error("which model? nbannot doctor MODEL --probe, e.g. nbannot doctor local --probe")
    findings = doctor.examine(asked.output_root)
    print(doctor.report(findings))
    if asked.model is not None:
        found = doctor.try_model(asked.model, asked.base_url)
        if asked.probe:
            found += doctor.examine_model(asked.model, asked.base_url)
        if asked.determinism:
            found += doctor.examine_determinism(
                asked.model, asked.base_url, texts=asked.texts, repeats=asked.repeats
            )
        print(f"\n{doctor.report(found)}")
        findings += found
    return ERROR if any(finding.state == "problem" for finding in findings) else COMPLETE


# ---- what a run is told as --------------------------------------------------------------------------------------


def facts(run: Any) -> dict[str, Any]:
    """Return what ``--json`` tells of a run."""
    return {
        "run_id": run.run_id,
        "task": run.task.name,
        "model_id": run.model_id,
        "status": run.status,
        "folder": str(run.folder),
        "n_texts": len(run.task),
        "answers": run.coding.count(),
        "headline": {
            column: {
                "metric": metric,
                "value": result.value,
                "ci_low": result.ci_low,
                "ci_high": result.ci_high,
                "n": result.n,
                "reason": result.reason,
            }
            for column, (metric, result) in recipe.headline(run).items()
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
        scored = _headlines(output_root / "metrics", name)
        for row in rows:
            if row["task"] == name:
                row["headline"] = scored.get(row["run_id"], {})
    return rows


def _headlines(metrics: Path, task: str) -> dict[str, dict[str, Any]]:
    """Return run id -> column -> metric and value, as the task's long table has them."""
    from nbannot.record import tables
    from nbannot.report.words import HEADLINES

    try:
        table = tables.read_long(metrics, task, canonical=True)
    except TableError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    columns = ("run_id", "column", "annotation_type", "metric", "value")
    for run_id, column, kind, metric, value in zip(*(table[name].tolist() for name in columns), strict=True):
        if kind in HEADLINES and metric == HEADLINES[kind][0]:
            found.setdefault(run_id, {})[column] = {"metric": metric, "value": value}
    return found


def _headline_words(headline: dict[str, Any]) -> str:
    from nbannot.page.digits import number

    return " · ".join(
        f"{column.rpartition('_')[2]} {number(one['value'], low=-math.inf)}"
        for column, one in headline.items()
    )


def _short(run: Any) -> str:
    return "\n".join([recipe.summary(run), *(f"  {line}" for line in recipe.headline_words(run))])


def _print_json(thing: Any) -> None:
    print(json.dumps(_defined(thing), ensure_ascii=False, indent=2))


def _defined(thing: Any) -> Any:
    """Return plain data with ``None`` for numbers that are not defined, which JSON has no word for."""
    if isinstance(thing, dict):
        return {key: _defined(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_defined(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned text; a column that is blank in every row is left out."""
    cells = [[str(row.get(name) if row.get(name) is not None else "") for name in columns] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] for line in cells)]
    lines = [[columns[i].replace("_", " ") for i in kept], *([line[i] for i in kept] for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(kept))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


# ---- reading the command line -----------------------------------------------------------------------------------


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


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog="nbannot",
        description="Annotate texts with language models against a codebook, and learn how far to trust the labels.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nbannot {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, do: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=f"exit codes:\n{codes}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(do=do, parser=sub)
        return sub

    run = command("run", do_run, "annotate a task and print the report")
    _add_what(run)
    run.add_argument("--fresh", action="store_true", help="make a new repetition of a run that exists")
    run.add_argument(
        "--retry", choices=("invalid", "failed"), help="ask again what a finished run has no answer to"
    )
    run.add_argument("--json", action="store_true", help="print JSON instead of the report")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress and no remarks on stderr")
    _add_settings(run)
    plan = command("plan", do_plan, "show what a run would send and what it would take; send nothing")
    _add_what(plan)
    plan.add_argument(
        "--pilot",
        type=_number_from(0),
        default=0,
        metavar="N",
        help="really send the first N texts, and estimate time, tokens and money from them; kept nowhere",
    )
    _add_settings(plan)
    score = command("score", do_score, "score run folders again, without a model")
    score.add_argument(
        "folder",
        nargs="+",
        metavar="FOLDER",
        help="a run folder, a task's folder of runs, or its <task>_metrics_log.csv; also of CodeBook Lab 1.3, 1.4",
    )
    score.add_argument("--task", metavar="FOLDER", help="the task, where it is not found by itself")
    score.add_argument(
        "--metrics_dir",
        metavar="PATH",
        help="where to save the values of an older folder; else they are only shown",
    )
    compare = command("compare", do_compare, "compare runs text by text: who is better, how much, how surely")
    compare.add_argument("folder", nargs="+", metavar="FOLDER", help="a run folder; two or more")
    compare.add_argument("--metric", metavar="NAME", help="else the first one of each field's type")
    compare.add_argument(
        "--column", metavar="NAME", help="a field; else every field that all of them answered"
    )
    listing = command("list", do_list, "list the runs of an output folder")
    listing.add_argument("--task", metavar="NAME", help="only the runs of this task")
    listing.add_argument(
        "--output_root", metavar="PATH", default=DEFAULTS["output_root"], help="folder of the runs"
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    command("models", do_models, "list the models that can be used here")
    tasks = command("tasks", do_tasks, "list the bundled tasks, and your own")
    tasks.add_argument("--task_root", metavar="PATH", help="folder of your own tasks")
    doctor = command("doctor", do_doctor, "say what is there and what is missing; with MODEL, ask it")
    doctor.add_argument(
        "model", nargs="?", metavar="MODEL", help="a model to try, e.g. local or ollama/gemma3:270m"
    )
    doctor.add_argument(
        "--probe", action="store_true", help="ask it up to seven small questions: what can it do?"
    )
    doctor.add_argument(
        "--determinism",
        action="store_true",
        help="ask it the same again: how often does an answer change? (--texts x --repeats, two questions each)",
    )
    doctor.add_argument(
        "--texts",
        type=_number_from(1),
        default=20,
        metavar="N",
        help="texts for --determinism; default 20, of 64",
    )
    doctor.add_argument(
        "--repeats",
        type=_number_from(2),
        default=3,
        metavar="N",
        help="how often each is asked for --determinism; default 3",
    )
    doctor.add_argument("--base_url", metavar="URL", help="address of the model's server")
    doctor.add_argument(
        "--output_root", metavar="PATH", default=DEFAULTS["output_root"], help="folder of the runs"
    )
    return parser


def _number_from(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least this."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number of at least {least} is needed. Got {text!r}")
        return int(text)

    return number


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="CONFIG|TASK",
        help='a TOML file with settings and task = "...", the config.json of a run, a bundled task, or a folder',
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings", "a list of values makes a sweep: --temperature [0,0.7]")
    for name in SETTINGS:
        group.add_argument(f"--{name}", metavar="VALUE", help=recipe.option_help(name).replace("%", "%%"))


OPTIONS = (
    *(
        "--version",
        "--help",
        "--fresh",
        "--retry",
        "--json",
        "--quiet",
        "--task",
        "--metrics_dir",
        "--metric",
        "--column",
        "--probe",
        "--determinism",
        "--texts",
        "--repeats",
        "--pilot",
    ),
    *(f"--{name}" for name in SETTINGS),
)
"""Every long option of any command."""
