"""The commands of the command line with their options; those of ``run`` and ``plan`` are made from `SETTINGS`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from nbannot import __version__
from nbannot.doors import recipe
from nbannot.errors import harmless
from nbannot.study.settings import DEFAULTS, SETTINGS

COMPLETE, ERROR, USAGE, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    COMPLETE: "done; for run and score: the run is complete",
    ERROR: "something cannot be used: the message says what and what to type",
    USAGE: "the command line is not understood",
    UNFINISHED: "a run ended partial or failed; the same command goes on from there",
    INTERRUPTED: "interrupted; what is done is kept, the same command goes on from there",
}
"""What a script can read from the exit code."""


class Parser(argparse.ArgumentParser):
    """A parser whose messages, which repeat what was typed, steer no terminal."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(harmless(message), file)


class Help(argparse.RawDescriptionHelpFormatter):
    """Help whose column of meanings begins behind the longest command, too, which argparse takes for less indented."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2


Do = Callable[[argparse.Namespace], int]


def command_line(deeds: Mapping[str, Do]) -> argparse.ArgumentParser:
    """Return the parser; `deeds` says what each command does."""
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = Parser(
        prog="nbannot",
        description="Annotate texts with language models against a codebook, and learn how far to trust the labels.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nbannot {__version__}")
    commands = parser.add_subparsers(parser_class=Parser, title="commands", metavar="COMMAND", required=True)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=f"exit codes:\n{codes}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(do=deeds[name], parser=sub)
        return sub

    run = command("run", "annotate a task and print the report")
    _add_what(run)
    _add_how(run)
    run.add_argument(
        "--reason", metavar="WHY", help="why the locked test half is looked at (--split test); it is counted"
    )
    _add_settings(run)
    corpus = command("corpus", "annotate more texts than fit into memory, from files")
    _add_corpus(corpus)
    _add_how(corpus)
    corpus.set_defaults(reason=None)
    corpus.add_argument("--plan", action="store_true", help="show what it would send and take; send nothing")
    _add_pilot(corpus)
    _add_settings(corpus)
    plan = command("plan", "show what a run would send and take; send nothing")
    _add_what(plan)
    _add_pilot(plan)
    _add_settings(plan)
    score = command("score", "score run folders again, without a model")
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
    compare = command("compare", "compare runs text by text: who is better, and how surely")
    compare.add_argument("folder", nargs="+", metavar="FOLDER", help="a run folder; two or more")
    compare.add_argument("--metric", metavar="NAME", help="else the first one of each field's type")
    compare.add_argument(
        "--column", metavar="NAME", help="a field; else every field that all of them answered"
    )
    listing = command("list", "list the runs of an output folder")
    listing.add_argument("--task", metavar="NAME", help="only the runs of this task")
    _add_output_root(listing)
    listing.add_argument("--json", action="store_true", help="print JSON")
    batches = command("batches", "list the batches that are out with providers")
    batches.add_argument("--task", metavar="NAME", help="only those of this task's runs")
    batches.add_argument("--ended", action="store_true", help="also those that have been collected")
    _add_output_root(batches)
    batches.add_argument("--json", action="store_true", help="print JSON")
    setup = command("worker-setup", "write a Slurm job that starts workers for runs")
    for name, default, about in (
        ("workers", 4, "processes, each with the model once"),
        ("cpus", 8, "processors of each"),
    ):
        setup.add_argument(
            f"--{name}",
            type=_number_from(1),
            default=default,
            metavar="N",
            help=f"{about}; default {default}",
        )
    setup.add_argument(
        "--gpus", type=_number_from(0), default=0, metavar="N", help="graphics cards of each; default 0"
    )
    setup.add_argument("--time", default="02:00:00", help="longest time of the job; default 02:00:00")
    setup.add_argument("--memory", default="", help="for each processor, e.g. 4G; else the site's own")
    setup.add_argument("--partition", default="", help="else the site's own")
    setup.add_argument(
        "--scheduler_file",
        default="nbannot-scheduler.json",
        metavar="PATH",
        help="where runs find the workers; default nbannot-scheduler.json, here",
    )
    setup.add_argument("--output", metavar="PATH", help="write the script to this file; else it is printed")
    command("models", "list the models that can be used here")
    tasks = command("tasks", "list the bundled tasks, and your own")
    tasks.add_argument("--task_root", metavar="PATH", help="folder of your own tasks")
    doctor = command("doctor", "say what is there and what is missing; with MODEL, ask it")
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
    for name in ("base_url", "workers"):
        doctor.add_argument(f"--{name}", **recipe.option_kind(name))
    _add_output_root(doctor)
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


CORPUS = {
    "name": "name of its runs' folder; else that of the files",
    "id_column": "column that identifies a text; else found, else the number of the row",
    "segment": 'cut long documents: "sentences", "paragraphs", "200 words", "1000 characters"',
    "duplicates": "the same text is asked about once (default), or each time",
    "revision": "branch, tag or commit of a dataset on the Hub",
    "outside_labels": "human labels that the codebook does not have: error (default), or not_coded",
}
"""The options of a corpus, as `nbannot.corpus` has them."""


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "texts",
        nargs="+",
        metavar="TEXTS",
        help='Parquet, CSV or JSONL files, a pattern ("speeches/*.parquet"), a folder, or hf://datasets/owner/name',
    )
    parser.add_argument("--codebook", required=True, metavar="PATH", help="the codebook.json")
    parser.add_argument("--config", metavar="PATH", help="a TOML file with settings; options override it")
    choices = {"duplicates": ("once", "each"), "outside_labels": ("error", "not_coded")}
    for name, about in CORPUS.items():
        kind: dict[str, Any] = {"metavar": "VALUE"}
        if name in choices:
            kind = {"choices": choices[name], "default": choices[name][0]}
        parser.add_argument(f"--{name}", help=about, **kind)


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="make a new repetition of a run that exists")
    parser.add_argument(
        "--retry", choices=recipe.RETRIES, help="ask again what a finished run has no answer to"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the report")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no remarks on stderr")


def _add_pilot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pilot",
        type=_number_from(0),
        default=0,
        metavar="N",
        help="really send the first N texts, and estimate time, tokens and money from them; kept nowhere",
    )


def _add_output_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output_root", metavar="PATH", default=DEFAULTS["output_root"], help="folder of the runs"
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings", "a list of values makes a sweep: --temperature [0,0.7]")
    for name in SETTINGS:
        group.add_argument(f"--{name}", **recipe.option_kind(name))


def long_options(parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """Return every long option of a parser and of its commands."""
    options: dict[str, None] = {}
    for action in parser._actions:
        options |= dict.fromkeys(word for word in action.option_strings if word.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                options |= dict.fromkeys(long_options(command))
    return tuple(options)
