"""The notebook's door: ``%%annotate``, ``%%prompt``, ``%report``, ``%runs``, and their completion.

A cell is read into settings, checked, and given to the same `nbannot.run` that scripts call. The first line says what
goes in and where the result goes; the body is TOML settings. Errors carry the cell's own line numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbannot.displays import live
from nbannot.doors import completion, recipe
from nbannot.errors import (
    ConfigError,
    NbannotError,
    RunInterrupted,
    TaskError,
    listed,
    nearest,
    tidy_interrupt,
)
from nbannot.study.config import SETTINGS, RunConfig, expand, lines_of, read_toml
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.study.task import Task

Magic = TypeVar("Magic", bound=Callable[..., Any])
Option = tuple[tuple[str, ...], dict[str, Any]]


def _option(*names: str, **meaning: Any) -> Option:
    return names, meaning


def _options(*declared: Option) -> Callable[[Magic], Magic]:
    """Give a magic its options, which its help and its parser are made from."""

    def decorate(magic: Magic) -> Magic:
        decorated: Any = magic
        for names, meaning in reversed(declared):
            decorated = argument(*names, **meaning)(decorated)  # type: ignore[no-untyped-call]
        return cast("Magic", magic_arguments()(decorated))  # type: ignore[no-untyped-call]

    return decorate


ANNOTATE = (
    _option("task", nargs="?", metavar="TASK", help="bundled name, folder, variable, or a config.json"),
    _option("-o", "--out", metavar="NAME", help="variable that receives the run; then one line is shown"),
    _option(
        "--plan", action="store_true", help="show what would be sent and what it would take; send nothing"
    ),
    _option(
        "--pilot",
        metavar="N",
        help="with --plan: really send the first N texts, and estimate time, tokens and money from them",
    ),
    _option("--fresh", action="store_true", help="make a new repetition of a run that exists"),
    _option("--retry", choices=("invalid", "failed"), help="ask again what a finished run has no answer to"),
    _option("-q", "--quiet", action="store_true", help="show neither progress nor the closing line"),
    _option("--codebook", metavar="PATH", help="of a DataFrame: a path, or a variable with a Codebook"),
    _option("-h", "--help", action="store_true", help="show this help"),
    *(
        _option(f"--{name}", metavar="VALUE", help=recipe.option_help(name).replace("%", "%%"))
        for name in SETTINGS
    ),
)
"""The options of ``%annotate``: its own, and one per setting."""


@dataclass(frozen=True)
class Order:
    """What a cell asks for.

    Attributes
    ----------
    configs
        One per run; several make a sweep.
    out
        Variable that receives the result; ``None``: it is returned.
    """

    task: Task
    configs: list[RunConfig]
    out: str | None
    plan: bool
    pilot: int
    fresh: bool
    retry: Literal["invalid", "failed"] | None
    quiet: bool


@magics_class
class NbannotMagics(Magics):
    """The magics of nbannot; `last` is the run that a cell made last."""

    last: Any = None

    @property
    def _variables(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.shell.user_ns)  # type: ignore[union-attr]

    @no_var_expand
    @line_cell_magic
    @_options(*ANNOTATE)
    def annotate(self, line: str = "", cell: str | None = None) -> Any:
        """Annotate texts with a language model against a codebook, and score the labels against people's.

        The line says what goes in and where the result goes. The body is settings in TOML; each can also be
        given as an option. The same cell finds, or continues, the same run.

        Examples::

            %%annotate policy-sentiment -o run
            model       = "local"
            temperature = 0

            %annotate policy-sentiment --model mock --limit 10
            %annotate policy-sentiment --plan                   what would be sent, and how long it would take
            %annotate policy-sentiment --plan --pilot 5         the same, after sending 5 texts to see
            %annotate my_frame --codebook codebook.json         texts in a DataFrame
            %annotate outputs/policy-sentiment/a1b2c3d4/config.json     an earlier run again
            %annotate run << policy-sentiment --model mock      another way to write -o run

        A list of values makes a sweep, one run per combination: temperature = [0, 0.7]
        """
        words = recipe.split_line(line.rstrip().removesuffix(";"))
        if {"-h", "--help"} & set(words):
            live.show_text(NbannotMagics.annotate.__doc__ or "")
            return None
        with tidy_interrupt():
            load("polars", "nbannot.running.plan", "nbannot.running.sweep")
            order = read_order(words, cell, self._variables)
        try:
            with tidy_interrupt():
                result = _carry_out(order)
        except RunInterrupted as interrupt:
            if order.out is not None and interrupt.finished is not None:
                self._variables[order.out] = interrupt.finished
            raise
        if not order.plan and result:
            self.last = result[-1] if isinstance(result, Sequence) else result
        if order.out is None:
            return None if line.rstrip().endswith(";") else result
        self._variables[order.out] = result
        if not order.quiet:
            live.say(_told(result))
        return None

    @no_var_expand
    @line_cell_magic
    @_options(
        _option("name", nargs="?", metavar="NAME", help="name of the wording"),
        _option("--reasons", action="store_true", help="let the answer begin with the model's reasoning"),
    )
    def prompt(self, line: str = "", cell: str | None = None) -> Any:
        """Store the wording of a prompt, or show one.

        Examples::

            %%prompt strict
            You are a careful coder.
            {{ core_prompt }}
            Text: {{ text }}

            %prompt strict      show that wording        %prompt      name them all

        Use it with prompt_type = "strict". {{ core_prompt }} is what the codebook says about the question.
        """
        from nbannot.asking import prompts

        asked = _parsed(NbannotMagics.prompt, recipe.split_line(line))
        if cell is None:
            if asked.name is None:
                live.show_text("\n".join(prompts.prompt_types()))
            else:
                live.show_text(prompts.prompt_type(asked.name).template)
            return
        if asked.name is None:
            raise UsageError("%%prompt needs a name: %%prompt NAME")
        prompts.add_prompt(asked.name, cell, reasons=asked.reasons)
        live.say(f'The wording is stored: prompt_type = "{asked.name}"')

    @no_var_expand
    @line_magic
    @_options(
        _option(
            "run",
            nargs="?",
            metavar="RUN",
            help="variable that holds a run, or a run folder; else the last run",
        ),
    )
    def report(self, line: str = "") -> Any:
        """Show the report of a run: its scores against the human labels.

        Examples::

            %report             of the run that a cell made last
            %report run         of the run in a variable
            %report outputs/policy-sentiment/a1b2c3d4
        """
        from nbannot.comparing.rescoring.rescore import is_lab_folder, rescore

        asked = _parsed(NbannotMagics.report, recipe.split_line(line))
        if asked.run is not None and asked.run not in self._variables and is_lab_folder(asked.run):
            return rescore(asked.run)
        return self._run(asked.run).report()

    @no_var_expand
    @line_magic
    @_options(
        _option(
            "runs", nargs="+", metavar="RUN", help="variables that hold runs, or run folders; two or more"
        ),
        _option(
            "--metric", metavar="NAME", help="metric to compare; else the first one of each field's type"
        ),
        _option(
            "--column", metavar="NAME", help="field to compare; else every field that all of them answered"
        ),
    )
    def compare(self, line: str = "") -> Any:
        """Compare runs text by text: who is better, by how much, and whether the texts can tell.

        Examples::

            %compare first second
            %compare runs --metric f1_macro --column Direction      the runs of a sweep
        """
        from nbannot.comparing.comparison import compare
        from nbannot.running.sweep import Runs

        asked = _parsed(NbannotMagics.compare, recipe.split_line(line))
        held = [self._variables.get(name) for name in asked.runs]
        several = [
            [*one] if isinstance(one, Runs) else [self._run(name)]
            for name, one in zip(asked.runs, held, strict=True)
        ]
        return compare([run for some in several for run in some], metric=asked.metric, column=asked.column)

    @no_var_expand
    @line_magic
    @_options(
        _option("task", nargs="?", metavar="TASK", help="name of the task; else that of the last run"),
        _option("--output_root", metavar="PATH", help="folder of the runs"),
    )
    def runs(self, line: str = "") -> Any:
        """Show the runs of a task, with the settings in which they differ.

        Examples::

            %runs policy-sentiment
            %runs                   of the task that was annotated last
        """
        from nbannot import displays
        from nbannot.record import tables

        asked = _parsed(NbannotMagics.runs, recipe.split_line(line))
        if asked.task is None and self.last is None:
            raise UsageError("which task? %runs TASK; nothing was annotated in this session yet")
        name = asked.task or self.last.task.name
        held = self._variables.get(name)
        metrics = Path(asked.output_root or RunConfig().output_root) / "metrics"
        if asked.task is None and asked.output_root is None:
            metrics = self.last.metrics_dir
        return displays.runs_table(tables.read_runs(metrics, getattr(held, "name", name)))

    @no_var_expand
    @line_magic
    @_options(
        _option("task", metavar="TASK", help="bundled name, folder, or variable"),
        _option("--coder", metavar="NAME", help="who codes; required"),
        _option("-o", "--out", metavar="NAME", help="variable that receives the desk, too"),
        _option("--context", metavar="COLUMNS", help="columns to show beside a text, or 'all'"),
        _option("--order", choices=("random", "file"), default="random", help="of the texts; default random"),
        _option("--feedback", action="store_true", help="for a class: the gold label after each text"),
        _option("--take_over", action="store_true", help="go on here although another session has the desk"),
        _option("--codebook", metavar="PATH", help="of a DataFrame: a path, or a variable with a Codebook"),
        _option("--output_root", metavar="PATH", help="folder for tasks without one of their own"),
    )
    def code(self, line: str = "") -> Any:
        """Open a coder's desk: texts are coded with the keyboard, every answer is on disk before the screen says so.

        Examples::

            %code policy-sentiment --coder anna
            %code my-study --coder ben --context pre_sentence,post_sentence
            %code policy-sentiment --coder s01 --feedback       for a class
        """
        from nbannot.desk.opening import code

        asked = _parsed(NbannotMagics.code, recipe.split_line(line))
        if asked.coder is None:
            raise UsageError("who codes? %code TASK --coder NAME")
        config = RunConfig()
        context: Any = True if asked.context == "all" else asked.context and asked.context.split(",")
        desk = code(
            _task(asked.task, asked.codebook, self._variables, config),
            asked.coder,
            order=asked.order,
            context=context or False,
            feedback=asked.feedback,
            output_root=asked.output_root or config.output_root,
            take_over=asked.take_over,
        )
        if asked.out is None:
            return desk
        self._variables[asked.out] = desk
        desk._ipython_display_()
        return None

    def _run(self, named: str | None) -> Any:
        """Return the run that a word names: a variable or a folder; the last one without a word."""
        from nbannot.record.run import Run, load_run

        if named is None:
            if self.last is None:
                raise UsageError("which run? %report NAME; no cell of this session made one yet")
            return self.last
        held = self._variables.get(named)
        if isinstance(held, Run):
            return held
        if named.isidentifier() and not Path(named).exists():
            what = (
                f"variable '{named}' holds no run" if held is not None else f"there is no variable '{named}'"
            )
            raise UsageError(f"{what}; give a run or a run folder")
        return load_run(named)


# ---- from the words of a cell to settings -----------------------------------------------------------------------


def read_order(words: Sequence[str], cell: str | None, variables: Mapping[str, Any]) -> Order:
    """Return what a cell asks for.

    Parameters
    ----------
    words
        The words of the first line after the magic's name.
    cell
        The body, ``None`` for a line magic; its first line is line 2.
    variables
        Of the notebook.

    Raises
    ------
    UsageError
        If the line is not understood.
    NbannotError
        If the task or the settings cannot be used; the message gives the line.
    """
    out, words = _arrow(words)
    given = _parsed(NbannotMagics.annotate, words)
    if given.task is None:
        from nbannot.study.task import bundled_tasks

        raise UsageError(f"which task? %annotate TASK; bundled: {listed(bundled_tasks())}")
    if out and given.out:
        raise UsageError(f"the result goes to one variable: '{out} <<' or '--out {given.out}', not both")
    out = out or given.out
    if out and not out.isidentifier():
        raise UsageError(f"-o takes the name of a variable. Got {out!r}")
    found = recipe.read_recipe(given.task) if recipe.is_recipe(given.task) else None
    settings, lines = _settings(given, cell or "")
    base = dict(found.settings) if found else {}
    configs = expand({**base, **settings}, lines)
    _check_names(configs, lines)
    task = (
        recipe.task_of(found, configs[0])
        if found
        else _task(given.task, given.codebook, variables, configs[0])
    )
    return Order(task, configs, out, given.plan, _pilot(given), given.fresh, given.retry, given.quiet)


def _pilot(given: Any) -> int:
    """Return how many texts a plan may send."""
    if given.pilot is None:
        return 0
    if not given.plan:
        raise UsageError("--pilot goes with --plan: the first texts are sent to estimate what a run takes")
    if not given.pilot.isdecimal() or not int(given.pilot):
        raise UsageError(f"--pilot takes a number of texts, at least 1. Got {given.pilot}")
    return int(given.pilot)


def _arrow(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the variable of ``NAME << ...`` and the words after it."""
    joined = " ".join(words[:2])
    if len(words) > 1 and words[1] == "<<":
        return words[0], list(words[2:])
    if words and words[0].endswith("<<") and words[0] != "<<":
        return words[0].removesuffix("<<"), list(words[1:])
    if "<<" in joined:
        raise UsageError("write NAME << TASK, with the name of the variable in front")
    return None, list(words)


def _parsed(magic: Any, words: Sequence[str]) -> Any:
    """Return the arguments of a magic; an unknown option is answered with the nearest one."""
    parser = magic.parser
    parser.allow_abbrev = False
    known = parser._option_string_actions
    asked = [recipe.normal_option(word, known) for word in words]
    for word in asked:
        name = word.partition("=")[0]
        if re.match(r"-{1,2}[A-Za-z]", name) and name not in known:
            raise UsageError(f"unknown option {name}{nearest(name, known) or f'; see %{parser.prog} --help'}")
    return parser.parse_args(asked)


def _settings(given: Any, body: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings of line and body, and the line of the cell on which each stands.

    Raises
    ------
    ConfigError
        If the body is not TOML, or line and body both give a setting and differ.
    """
    in_body = read_toml(body, first_line=2)
    lines = lines_of(in_body, body, first_line=2)
    typed = {name: getattr(given, name) for name in SETTINGS if getattr(given, name) is not None}
    in_line = {name: recipe.value_of(name, text) for name, text in typed.items()}
    twice = [
        f"  {name}: line 1 says --{name} {typed[name]}, line {lines.get(name, 2)} says {name} = {in_body[name]!r}."
        for name in in_line
        if name in in_body and in_body[name] != in_line[name]
    ]
    if twice:
        raise ConfigError("line and body of the cell contradict each other.\n" + "\n".join(twice))
    return {**in_body, **in_line}, lines | dict.fromkeys(in_line, 1)


def _check_names(configs: Sequence[RunConfig], lines: Mapping[str, int]) -> None:
    """Raise the error of an unknown prompt type or model with the line of the cell on which it stands."""
    from nbannot.asking.prompts import prompt_type
    from nbannot.models.registry import get_model

    checks: dict[str, Callable[[RunConfig], object]] = {
        "prompt_type": lambda config: prompt_type(config.prompt_type),
        "model": get_model,
    }
    for name, check in checks.items():
        for config in configs:
            try:
                check(config)
            except NbannotError as error:
                where = f"line {lines[name]}: " if lines.get(name) else ""
                raise type(error)(f"{where}{error}") from None


def _task(word: str, codebook: str | None, variables: Mapping[str, Any], config: RunConfig) -> Task:
    """Return the task that a word names: a variable, else a folder or bundled name."""
    from nbannot.running.design import as_task
    from nbannot.study.task import Task

    held = variables.get(word)
    if isinstance(held, Task):
        return held
    if recipe.is_frame(held):
        return Task(held, _codebook(word, codebook, variables), name=word)
    if codebook is not None:
        raise UsageError(f"--codebook goes with a DataFrame; '{word}' brings its own codebook")
    try:
        return as_task(word, config)
    except TaskError as error:
        if held is None or isinstance(held, ModuleType):
            raise
        raise TaskError(
            f"variable '{word}' holds a value of type {type(held).__name__}, and there is no task of that name.\n"
            "  %annotate takes a Task or a DataFrame: nbannot.load_task(...), Task(frame, codebook)."
        ) from error


def _codebook(frame: str, named: str | None, variables: Mapping[str, Any]) -> Any:
    """Return the codebook of a frame: from a variable or a path."""
    from nbannot.study.codebook import Codebook

    if named is None:
        raise TaskError(
            f"the DataFrame '{frame}' needs a codebook.\n"
            f"  Type: %annotate {frame} --codebook codebook.json (a path, or a variable that holds a Codebook)."
        )
    held = variables.get(named)
    if isinstance(held, Codebook):
        return held
    return Codebook.from_dict(held, where=named) if isinstance(held, dict) else Codebook.load(named)


# ---- from settings to results -----------------------------------------------------------------------------------


def _carry_out(order: Order) -> Any:
    """Return the plan, the run or the runs that a cell asks for."""
    from nbannot.running.plan import plan
    from nbannot.running.run import run
    from nbannot.running.sweep import sweep

    many = len(order.configs) > 1
    if many and (order.fresh or order.retry):
        option = "--fresh" if order.fresh else "--retry"
        raise ConfigError(
            f"{option} is for one run, and lists of values make {len(order.configs)}.\n"
            "  Further repetitions of a sweep: repeat = [1, 2, 3]."
        )
    if order.plan:
        plans = [plan(order.task, config, pilot=order.pilot) for config in order.configs]
        if many:
            least, most = sum(p.calls_at_least for p in plans), sum(p.calls_at_most for p in plans)
            live.say(f"{len(plans)} runs, {least:,} to {most:,} calls in all")
        return plans if many else plans[0]
    say = None if order.quiet else _once
    with live.progress(recipe.title(order.task, order.configs), quiet=order.quiet) as tick:
        if many:
            return sweep(order.task, order.configs, tick=tick, say=say)
        return run(order.task, order.configs[0], fresh=order.fresh, retry=order.retry, tick=tick, say=say)


_told_before: set[str] = set()


def _once(line: str) -> None:
    """Show a line the first time it is said in a session: a model's notice is not news in the next cell."""
    if line not in _told_before:
        _told_before.add(line)
        live.say(line)


def _told(result: Any) -> str:
    """Return the line that stands for a result which is kept in a variable."""
    from nbannot.record.run import Run

    if not isinstance(result, Run):
        return repr(result)
    return "\n".join([recipe.summary(result), *(f"  {line}" for line in recipe.headline_words(result))])


# ---- coming and going -------------------------------------------------------------------------------------------

MAGICS = {"line": ("annotate", "code", "compare", "prompt", "report", "runs"), "cell": ("annotate", "prompt")}


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion; CodeCarbon looks at the processor after this cell, not during it."""
    unload_ipython_extension(shell)
    shell.register_magics(NbannotMagics(shell))
    found = completion.matcher(shell)
    if found is not None:
        shell.Completer.custom_matchers.append(found)

    def warm(*_: Any) -> None:
        from nbannot.engine import energy

        shell.events.unregister("post_run_cell", warm)
        energy.prewarm()

    shell.events.register("post_run_cell", warm)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion away."""
    for kind, names in MAGICS.items():
        for name in names:
            held = shell.magics_manager.magics[kind].get(name)
            if type(getattr(held, "__self__", None)).__module__ == __name__:
                del shell.magics_manager.magics[kind][name]
    matchers = getattr(shell.Completer, "custom_matchers", [])
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != "nbannot"]
