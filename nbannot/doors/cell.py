"""From the words of a cell to settings: the options of the magics, and what a cell asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments

from nbannot.doors import recipe
from nbannot.errors import ConfigError, NbannotError, TaskError, listed, nearest
from nbannot.study.config import RunConfig, expand
from nbannot.study.settings import SETTINGS
from nbannot.study.toml import lines_of, read_toml

if TYPE_CHECKING:
    from nbannot.study.corpus import Corpus
    from nbannot.study.task import Task

Magic = TypeVar("Magic", bound=Callable[..., Any])
Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*names: str, **meaning: Any) -> Option:
    """Return an option as `options` takes it: its names, and what argparse is told of it."""
    return names, meaning


def options(*declared: Option) -> Callable[[Magic], Magic]:
    """Give a magic its options, which its help and its parser are made from."""

    def decorate(magic: Magic) -> Magic:
        decorated: Any = magic
        for names, meaning in reversed(declared):
            decorated = argument(*names, **meaning)(decorated)  # type: ignore[no-untyped-call]
        return cast("Magic", magic_arguments()(decorated))  # type: ignore[no-untyped-call]

    return decorate


ANNOTATE = (
    option(
        "task",
        nargs="?",
        metavar="TASK",
        help="bundled name, folder, a config.json, or a variable (Task, DataFrame, Run, path)",
    ),
    option(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="settings to begin with: a variable (RunConfig, dict, Run) or a file; line and body go before them",
    ),
    option(
        "-o",
        "--out",
        metavar="NAME",
        help="variable that receives the run, too; its card is shown all the same",
    ),
    option(
        "--plan", action="store_true", help="show what would be sent and what it would take; send nothing"
    ),
    option(
        "--pilot",
        metavar="N",
        help="with --plan: really send the first N texts, and estimate time, tokens and money from them",
    ),
    option("--fresh", action="store_true", help="make a new repetition of a run that exists"),
    option("--retry", choices=recipe.RETRIES, help="ask again what a finished run has no answer to"),
    option(
        "--reason", metavar="WHY", help="why the locked test half is looked at (split = test); it is counted"
    ),
    option(
        "-q",
        "--quiet",
        action="store_true",
        help="show neither progress nor notices; of %%%%annotate, or with -o, no card either (the run is in _)",
    ),
    option("--codebook", metavar="PATH", help="of a DataFrame: a path, or a variable with a Codebook"),
    option("-h", "--help", action="store_true", help="show this help"),
    *(option(f"--{name}", **recipe.option_kind(name)) for name in SETTINGS),
)
"""The options of ``%annotate``: its own, and one per setting."""


DOLLAR = re.compile(r"\$[^\W\d]\w*")
SET_BY_VARIABLE = re.compile(r"\s*(?P<name>\w+)\s*=\s*\$(?P<variable>[^\W\d]\w*)\s*(#.*)?$")
NOTHING_IN_BODY = """the body of the cell is empty: settings go there, one per line. Add for instance
  model = "local"      # or "ollama/...", "openai/...", "mock"; see `nbannot models`
  temperature = 0
or write %annotate {task} with one %: then every setting is at its default."""


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

    task: Task | Corpus
    configs: list[RunConfig]
    out: str | None
    plan: bool
    pilot: int
    fresh: bool
    retry: Literal["invalid", "failed"] | None
    quiet: bool
    reason: str | None = None


def read_order(
    given: Any,
    out: str | None,
    cell: str | None,
    variables: Mapping[str, Any],
    last_task: Task | None = None,
) -> Order:
    """Return what a cell asks for.

    Parameters
    ----------
    given
        The arguments of the first line, as `parsed`.
    out
        The variable in front of ``<<``; see `arrow`.
    cell
        The body, ``None`` for a line magic; its first line is line 2.
    variables
        Of the notebook.
    last_task
        The task that was annotated last; a line that names settings alone means it.

    Raises
    ------
    UsageError
        If the line is not understood.
    NbannotError
        If the task or the settings cannot be used; the message gives the line.
    """
    if given.task is None:
        from nbannot.study.task_sources import bundled_tasks

        raise UsageError(
            f"which task? %annotate TASK: a folder, a variable, or a bundled one ({listed(bundled_tasks())})"
        )
    if out and given.out:
        raise UsageError(f"the result goes to one variable: '{out} <<' or '--out {given.out}', not both")
    out = out or given.out
    if out and not out.isidentifier():
        raise UsageError(f"-o takes the name of a variable. Got {out!r}")
    word = _pointed_at(given.task, variables)
    held = variables.get(word)
    recipe_text = recipe.read_recipe(word) if recipe.is_recipe(word) else None
    settings, lines = _settings(given, cell or "", variables)
    base = dict(recipe_text.settings) if recipe_text else {}
    if given.config is not None:
        base |= _settings_named(given.config, variables)
    elif isinstance(held, RunConfig):
        base |= held.to_dict()
    elif cell is not None and not settings and not recipe_text:
        raise UsageError(NOTHING_IN_BODY.format(task=given.task))
    configs = expand({**base, **settings}, lines)
    _check_names(configs, lines)
    task: Task | Corpus
    if recipe_text:
        task = recipe.task_of(recipe_text, configs[0])
    elif isinstance(held, RunConfig):
        task = _task_beside(word, last_task)
    else:
        task = task_named(word, given.codebook, variables, configs[0])
    return Order(
        task, configs, out, given.plan, _pilot(given), given.fresh, given.retry, given.quiet, given.reason
    )


def _pilot(given: Any) -> int:
    """Return how many texts a plan may send."""
    if given.pilot is None:
        return 0
    if not given.plan:
        raise UsageError("--pilot goes with --plan: the first texts are sent to estimate what a run takes")
    if not given.pilot.isdecimal() or not int(given.pilot):
        raise UsageError(f"--pilot takes a number of texts, at least 1. Got {given.pilot}")
    return int(given.pilot)


def arrow(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the variable of ``NAME << ...`` and the words after it."""
    joined = " ".join(words[:2])
    if len(words) > 1 and words[1] == "<<":
        return words[0], list(words[2:])
    if words and words[0].endswith("<<") and words[0] != "<<":
        return words[0].removesuffix("<<"), list(words[1:])
    if "<<" in joined:
        raise UsageError("write NAME << TASK, with the name of the variable in front")
    return None, list(words)


def parsed(magic: Any, words: Sequence[str]) -> Any:
    """Return the arguments of a magic; an unknown option is answered with the nearest one."""
    parser = magic.parser
    parser.allow_abbrev = False
    known = parser._option_string_actions
    options = [recipe.normal_option(word, known) for word in words]
    for word in options:
        name = word.partition("=")[0]
        if re.match(r"-{1,2}[A-Za-z]", name) and name not in known:
            raise UsageError(f"unknown option {name}{nearest(name, known) or f'; see %{parser.prog} --help'}")
    return parser.parse_args(options)


def _settings(given: Any, body: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings of line and body, and the line of the cell on which each stands.

    Raises
    ------
    ConfigError
        If the body is not TOML, names a variable that is not there, or line and body both give a setting and differ.
    """
    in_body = _read_body(body, variables)
    lines = lines_of(in_body, body, first_line=2)
    typed = recipe.typed_settings(given)
    in_line = {
        name: _value_in(text[1:], variables, f"line 1: --{name} {text}")
        if DOLLAR.fullmatch(text)
        else recipe.value_of(name, text)
        for name, text in typed.items()
    }
    twice = [
        f"  {name}: line 1 says --{name} {typed[name]}, line {lines.get(name, 2)} says {name} = {in_body[name]!r}."
        for name in in_line
        if name in in_body and in_body[name] != in_line[name]
    ]
    if twice:
        raise ConfigError("line and body of the cell contradict each other.\n" + "\n".join(twice))
    return {**in_body, **in_line}, lines | dict.fromkeys(in_line, 1)


def _read_body(body: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a body; ``name = $variable`` takes the value that a variable holds.

    A body with such a line is no TOML, so that one which is has no `$` but inside of a text, and is left alone.
    """
    try:
        settings = read_toml(body, first_line=2)
    except ConfigError as error:
        lines = body.split("\n")
        pointers = {i: match for i, line in enumerate(lines) if (match := SET_BY_VARIABLE.match(line))}
        for i, match in pointers.items():
            lines[i] = f'{match["name"]} = ""'
        try:
            settings = read_toml("\n".join(lines), first_line=2)
        except ConfigError as other:
            raise ConfigError(f"{other}{_dollar_elsewhere(lines)}") from error
        for i, match in pointers.items():
            where = f"line {i + 2}: {match['name']} = ${match['variable']}"
            settings[match["name"]] = _value_in(match["variable"], variables, where)
        return settings
    for name, value in settings.items():
        if isinstance(value, str) and DOLLAR.fullmatch(value) and value[1:] in variables:
            line = lines_of([name], body, first_line=2)[name]
            raise ConfigError(
                f'line {line}: {name} = "{value}" is a text.\n'
                f"  The value of the variable, without quotation marks: {name} = {value}"
            )
    return settings


def _dollar_elsewhere(lines: Sequence[str]) -> str:
    """Return what to type where a variable stands for less than a whole setting, or for all of them; else ""."""
    if any(DOLLAR.fullmatch(line.strip()) for line in lines):
        return "\n  A variable with settings stands on the first line: %%annotate TASK CONFIG."
    if any(re.search(r"=.*\$[^\W\d]", line) for line in lines):
        return (
            "\n  A variable stands for a whole setting: model = $models, where models is a value or a list."
        )
    return ""


def _value_in(name: str, variables: Mapping[str, Any], where: str) -> Any:
    """Return what a variable holds as plain data, as settings take it."""
    if name not in variables:
        raise ConfigError(f"{where}: there is no variable '{name}'{nearest(name, variables) or '.'}")
    value = variables[name]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, a pandas column
        value = value.tolist()
    elif isinstance(value, Path):
        value = str(value)
    return list(value) if isinstance(value, tuple | range) else value


def _pointed_at(word: str, variables: Mapping[str, Any]) -> str:
    """Return what stands for a word: of a variable with a path, the path; with a run, the run's ``config.json``."""
    from nbannot.record.run import Run

    name = word[1:] if DOLLAR.fullmatch(word) else word
    held = variables.get(name)
    if isinstance(held, Run):
        return str(held.folder / "config.json")
    return str(held) if isinstance(held, str | Path) else name


def _settings_named(word: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the word after the task stands for."""
    from nbannot.record.run import Run

    held = variables.get(word[1:] if DOLLAR.fullmatch(word) else word)
    if isinstance(held, Run):
        held = held.config
    if isinstance(held, RunConfig | Mapping):
        return RunConfig.of(held).to_dict()
    place = str(held) if isinstance(held, str | Path) else word
    if recipe.is_recipe(place):
        return dict(recipe.read_recipe(place).settings)
    what = "which is none of these"
    if held is not None:
        what = f"which holds a value of type {type(held).__name__}"
    elif word.removeprefix("$").isidentifier():
        what = "and there is no such variable"
    more = nearest(word, variables) or "; a task with a space in its name stands in quotation marks"
    raise UsageError(
        "the word after the task names settings: a variable with a RunConfig, a dict or a run, or a .json or .toml "
        f"file. Got '{word}', {what}{more}"
    )


def _task_beside(word: str, last_task: Task | None) -> Task:
    if last_task is None:
        raise UsageError(
            f"'{word}' holds settings, and nothing was annotated in this session yet: %annotate TASK {word}"
        )
    return last_task


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


def task_named(
    word: str, codebook: str | None, variables: Mapping[str, Any], config: RunConfig
) -> Task | Corpus:
    """Return the task or corpus that a word names: a variable, else a folder or bundled name."""
    from nbannot.running.design import as_task
    from nbannot.study.corpus import Corpus
    from nbannot.study.task import Task

    held = variables.get(word)
    if isinstance(held, Task | Corpus):
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
    if named.isidentifier() and held is None and not Path(named).exists():
        raise UsageError(
            f"--codebook {named}: there is no such variable and no such file{nearest(named, variables)}"
        )
    return Codebook.from_dict(held, where=named) if isinstance(held, dict) else Codebook.load(named)
