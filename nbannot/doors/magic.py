"""The notebook's door: ``%%annotate``, ``%%prompt``, ``%report``, ``%runs``, and their completion.

A cell is read into settings, checked, and given to the same `nbannot.run` that scripts call. The first line says what
goes in and where the result goes; the body is TOML settings. Errors carry the cell's own line numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbannot.displays import live
from nbannot.doors import completion, recipe
from nbannot.doors.cell import ANNOTATE, Order, arrow, option, options, parsed, read_order, task_named
from nbannot.doors.listing import headlines_of, runs_to_compare
from nbannot.errors import (
    ConfigError,
    RunInterrupted,
    tidy_interrupt,
)
from nbannot.study.config import RunConfig
from nbannot.tools.imports import load

if TYPE_CHECKING:
    pass


@magics_class
class NbannotMagics(Magics):
    """The magics of nbannot; `last` is the run that a cell made last, `last_sweep` the sweep if it made one."""

    last: Any = None
    last_sweep: Any = None
    last_task: Any = None  # the whole one: a run's own task has only the texts that were selected

    @property
    def _variables(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.shell.user_ns)  # type: ignore[union-attr]

    @no_var_expand
    @line_cell_magic
    @options(*ANNOTATE)
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

        A variable instead of a value, in the body or after an option: temperature = $t, --model $name
        Settings that are in a variable, or those of an earlier run: %annotate policy-sentiment config
        """
        words = recipe.split_line(line.rstrip().removesuffix(";"))
        if {"-h", "--help"} & set(words):
            live.show_text(NbannotMagics.annotate.__doc__ or "")
            return None
        with tidy_interrupt():
            load("polars", "nbannot.running.plan", "nbannot.running.sweep")
            out, words = arrow(words)
            given = parsed(NbannotMagics.annotate, words)
            order = read_order(given, out, cell, self._variables, self.last_task)
        self.last_task = order.task
        try:
            with tidy_interrupt():
                result = _carry_out(order)
        except RunInterrupted as interrupt:
            if interrupt.finished is not None:
                finished = interrupt.finished
                self._remember(finished)
                self.shell.displayhook.update_user_ns(finished)  # type: ignore[union-attr]  # as if returned
                if order.out is not None:
                    self._variables[order.out] = finished
                named = f"_ (or {order.out})" if order.out is not None else "_"
                one = hasattr(finished, "run_id")
                what = "what is there; %report shows its report" if one else "the runs that are finished"
                interrupt.args = (f"{interrupt}\n  {named} shows {what}.",)
            raise
        if not order.plan and result:
            self._remember(result)
        if order.out is not None:
            self._variables[order.out] = result
        # A name does not make it silent: people judge by what a cell shows. -q does, and a semicolon, as everywhere;
        # what was made is in _ all the same. A plan is nothing but what it shows, and the value of a line may be
        # assigned, run = %annotate ... -q: these are returned.
        unseen = order.quiet and (order.out is not None or (cell is not None and not order.plan))
        if unseen or line.rstrip().endswith(";"):
            self.shell.displayhook.update_user_ns(result)  # type: ignore[union-attr]
            return None
        return result

    @no_var_expand
    @line_cell_magic
    @options(
        option("name", nargs="?", metavar="NAME", help="name of the wording"),
        option("--reasons", action="store_true", help="let the answer begin with the model's reasoning"),
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

        arguments = parsed(NbannotMagics.prompt, recipe.split_line(line))
        if cell is None:
            if arguments.name is None:
                live.show_text("\n".join(prompts.prompt_types()))
            else:
                live.show_text(prompts.prompt_type(arguments.name).template)
            return
        if arguments.name is None:
            raise UsageError("%%prompt needs a name: %%prompt NAME")
        prompts.add_prompt(arguments.name, cell, reasons=arguments.reasons)
        live.say(f'The wording is stored: prompt_type = "{arguments.name}"')

    @no_var_expand
    @line_magic
    @options(
        option(
            "run",
            nargs="?",
            metavar="RUN",
            help="variable that holds a run, or a run folder; else the last run",
        ),
        option("--field", metavar="NAME", help="report on this field alone"),
    )
    def report(self, line: str = "") -> Any:
        """Show the report of a run: its scores against the human labels.

        Examples::

            %report             of the run that a cell made last
            %report run         of the run in a variable
            %report outputs/policy-sentiment/a1b2c3d4
            %report run --field Direction
        """
        from nbannot.comparing.rescoring.places import is_lab_folder
        from nbannot.comparing.rescoring.rescore import rescore

        arguments = parsed(NbannotMagics.report, recipe.split_line(line))
        if (
            arguments.run is not None
            and arguments.run not in self._variables
            and is_lab_folder(arguments.run)
        ):
            return rescore(arguments.run)
        return self._run(arguments.run).report(arguments.field)

    @no_var_expand
    @line_magic
    @options(
        option(
            "runs",
            nargs="*",
            metavar="RUN",
            help="variables that hold runs, run folders, or the name of a task; else the last sweep",
        ),
        option("--metric", metavar="NAME", help="metric to compare; else the first one of each field's type"),
        option(
            "--column", metavar="NAME", help="field to compare; else every field that all of them answered"
        ),
    )
    def compare(self, line: str = "") -> Any:
        """Compare runs text by text: who is better, by how much, and whether the texts can tell.

        Examples::

            %compare first second
            %compare runs --metric f1_macro --column Direction      the runs of a sweep
            %compare                                                the last sweep, or the runs of the last task
            %compare policy-sentiment                               every run of a task that can be compared
        """
        from nbannot.comparing.comparison import compare

        arguments = parsed(NbannotMagics.compare, recipe.split_line(line))
        several = [self._several(name) for name in arguments.runs] or [self._last_several()]
        return compare(
            [run for some in several for run in some], metric=arguments.metric, column=arguments.column
        )

    def _several(self, named: str) -> list[Any]:
        """Return the runs that a word of ``%compare`` names: a variable, a run folder, or a task."""
        from nbannot.running.sweep import Runs
        from nbannot.study.task import Task

        held = self._variables.get(named)
        if isinstance(held, Runs):
            return [*held]
        root = Path(RunConfig().output_root)
        name = held.name if isinstance(held, Task) else named
        if isinstance(held, Task) or (held is None and (root / name).is_dir() and "/" not in name):
            return runs_to_compare(root, name)
        return [self._run(named)]

    def _last_several(self) -> list[Any]:
        """Return the runs of the last sweep; where a single run came last, those of its task."""
        if self.last is None:
            raise UsageError("which runs? %compare RUN RUN, or %compare TASK; this session made none yet")
        if self.last_sweep is not None:
            return [*self.last_sweep]
        return runs_to_compare(self.last.folder.parent.parent, self.last.task.name)

    def _remember(self, made: Any) -> None:
        self.last_sweep = made if isinstance(made, Sequence) else None
        self.last = made[-1] if isinstance(made, Sequence) else made

    @no_var_expand
    @line_magic
    @options(
        option("task", nargs="?", metavar="TASK", help="name of the task; else that of the last run"),
        option("--output_root", metavar="PATH", help="folder of the runs"),
    )
    def runs(self, line: str = "") -> Any:
        """Show the runs of a task: the settings in which they differ, and what each field's labels scored.

        Examples::

            %runs policy-sentiment
            %runs                   of the task that was annotated last
        """
        from nbannot import displays
        from nbannot.record import tables

        arguments = parsed(NbannotMagics.runs, recipe.split_line(line))
        if arguments.task is None and self.last is None:
            raise UsageError("which task? %runs TASK; nothing was annotated in this session yet")
        name = arguments.task or self.last.task.name
        held = self._variables.get(name)
        metrics = Path(arguments.output_root or RunConfig().output_root) / "metrics"
        if arguments.task is None and arguments.output_root is None:
            metrics = self.last.metrics_dir
        task = getattr(held, "name", name)
        return displays.runs_table(tables.read_runs(metrics, task), headlines_of(metrics, task))

    @no_var_expand
    @line_magic
    @options(
        option("task", metavar="TASK", help="bundled name, folder, or variable"),
        option("--coder", metavar="NAME", help="who codes; required"),
        option("-o", "--out", metavar="NAME", help="variable that receives the desk, too"),
        option("--context", metavar="COLUMNS", help="columns to show beside a text, or 'all'"),
        option("--order", choices=("random", "file"), default="random", help="of the texts; default random"),
        option("--feedback", action="store_true", help="for a class: the gold label after each text"),
        option("--take_over", action="store_true", help="go on here although another session has the desk"),
        option("--codebook", metavar="PATH", help="of a DataFrame: a path, or a variable with a Codebook"),
        option("--output_root", metavar="PATH", help="folder for tasks without one of their own"),
    )
    def code(self, line: str = "") -> Any:
        """Open a coder's desk: texts are coded with the keyboard, every answer is on disk before the screen says so.

        Examples::

            %code policy-sentiment --coder anna
            %code my-study --coder ben --context pre_sentence,post_sentence
            %code policy-sentiment --coder s01 --feedback       for a class
        """
        from nbannot.desk.opening import code

        arguments = parsed(NbannotMagics.code, recipe.split_line(line))
        if arguments.coder is None:
            raise UsageError("who codes? %code TASK --coder NAME")
        config = RunConfig()
        context: Any = (
            True if arguments.context == "all" else arguments.context and arguments.context.split(",")
        )
        desk = code(
            task_named(arguments.task, arguments.codebook, self._variables, config),
            arguments.coder,
            order=arguments.order,
            context=context or False,
            feedback=arguments.feedback,
            output_root=arguments.output_root or config.output_root,
            take_over=arguments.take_over,
        )
        if arguments.out is None:
            return desk
        self._variables[arguments.out] = desk
        desk._ipython_display_()
        return None

    def _run(self, named: str | None) -> Any:
        """Return the run that a word names: a variable or a folder; the last one without a word."""
        from nbannot.record.loading import load_run
        from nbannot.record.run import Run

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


# ---- from settings to results -----------------------------------------------------------------------------------


def _carry_out(order: Order) -> Any:
    """Return the plan, the run or the runs that a cell asks for."""
    from nbannot.running.plan import plan_all
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
        plans = plan_all(order.task, order.configs, pilot=order.pilot)
        return plans if many else plans[0]
    say = None if order.quiet else _once
    with live.progress(recipe.title(order.task, order.configs), quiet=order.quiet) as tick:
        if many:
            return sweep(order.task, order.configs, tick=tick, say=say)
        return run(
            order.task,
            order.configs[0],
            fresh=order.fresh,
            retry=order.retry,
            reason=order.reason,
            tick=tick,
            say=say,
        )


_told_before: set[str] = set()


def _once(line: str) -> None:
    """Show a line the first time it is said in a session: a model's notice is not news in the next cell."""
    if line not in _told_before:
        _told_before.add(line)
        live.say(line)


# ---- coming and going -------------------------------------------------------------------------------------------

MAGICS = {"line": ("annotate", "code", "compare", "prompt", "report", "runs"), "cell": ("annotate", "prompt")}


def _with_a_body(lines: list[str]) -> list[str]:
    """Give a cell that is its first line alone a blank body: IPython refuses it before we can say what to add."""
    if lines and re.match(r"%%annotate\b", lines[0]) and not any(line.strip() for line in lines[1:]):
        return [lines[0].rstrip("\n") + "\n", "\n", "\n"]
    return lines


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion; what a first run needs is got ready after this cell, not during it."""
    unload_ipython_extension(shell)
    shell.register_magics(NbannotMagics(shell))
    shell.input_transformers_cleanup.append(_with_a_body)
    matcher = completion.matcher(shell)
    if matcher is not None:
        shell.Completer.custom_matchers.append(matcher)

    def warm(*_: Any) -> None:
        from nbannot.engine import energy
        from nbannot.tools.imports import load_aside

        shell.events.unregister("post_run_cell", warm)
        energy.prewarm()
        load_aside("nbannot.running.run", "nbannot.models.http", "nbannot.measures.field")

    shell.events.register("post_run_cell", warm)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion away."""
    for kind, names in MAGICS.items():
        for name in names:
            held = shell.magics_manager.magics[kind].get(name)
            if type(getattr(held, "__self__", None)).__module__ == __name__:
                del shell.magics_manager.magics[kind][name]
    cleanup = shell.input_transformers_cleanup
    cleanup[:] = [one for one in cleanup if getattr(one, "__name__", "") != _with_a_body.__name__]
    matchers = getattr(shell.Completer, "custom_matchers", [])
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != "nbannot"]
