"""Completion in the cells of `nbannot.doors.magic`: options, tasks, models, prompt types, keys and values of the body.

`completions` is a plain function of the cell's text and the cursor; `matcher` makes it one of IPython's. It reads no
data and loads no model, so that it answers while one types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nbannot.doors import recipe
from nbannot.errors import NbannotError
from nbannot.study.config import RunConfig
from nbannot.study.settings import SETTINGS

SETTING_OPTIONS = {f"--{name}": name for name in SETTINGS}
OWN_OPTIONS = (
    "--out",
    "--plan",
    "--pilot",
    "--fresh",
    "--retry",
    "--reason",
    "--quiet",
    "--codebook",
    "--help",
)
AT_MOST = 50
PLAIN = (str, bool, int, float, list, tuple, dict)
"""What a variable of ``setting = $variable`` usually holds."""


def completions(
    text: str, line: int, column: int, variables: Mapping[str, Any]
) -> tuple[list[str], str] | None:
    """Return what can follow in a cell of ours and the fragment it replaces; ``None`` in any other cell.

    Parameters
    ----------
    text
        The whole cell.
    line, column
        Of the cursor, from 0.
    """
    lines = text.split("\n")
    before, after = lines[line][:column], lines[line][column:]
    magic = re.match(r"\s*%{1,2}(annotate|code|compare|report|runs|prompt)\b(.*)", before, re.DOTALL)
    if magic and re.match(r"\s", magic[2]):
        words, fragment = _after_magic(magic[1], magic[2], variables)
    elif line > 0 and re.match(r"\s*%%annotate\b", lines[0]):
        words, fragment = _in_body(lines, line, before, after, variables)
    else:
        return None
    return [word for word in words if word.startswith(fragment)], fragment


def _after_magic(magic: str, before: str, variables: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the candidates on the first line and the fragment before the cursor."""
    fragment = re.match(r"\S*", before[::-1])[0][::-1]  # type: ignore[index]  # backwards: linear in its length
    previous = ["", *before[: len(before) - len(fragment)].split()][-1]
    if magic in ("report", "compare"):
        if previous in ("--field", "--column"):
            return _fields_of_runs(before, variables), fragment
        if previous == "--metric":
            return _metrics(), fragment
        return _runs(magic, fragment, variables), fragment
    if magic == "runs":
        return _runs_tasks(previous), fragment
    if magic == "code":
        return _desk(previous, fragment, variables), fragment
    if magic == "prompt":
        from nbannot.asking.prompts import prompt_types

        return ["--reasons", *prompt_types()], fragment
    if fragment.startswith("-"):
        name, equals, value = fragment.partition("=")
        if equals and name in SETTING_OPTIONS:
            return _values(SETTING_OPTIONS[name], _fields(before, variables)), value
        return [*OWN_OPTIONS, *SETTING_OPTIONS], fragment
    if previous in SETTING_OPTIONS:
        return _values(SETTING_OPTIONS[previous], _fields(before, variables)), fragment
    if previous == "--codebook":
        return _codebooks(fragment, variables), fragment
    if previous in ("-o", "--out", "--pilot", "--reason"):
        return [], fragment
    if previous == "--retry":
        return [*recipe.RETRIES], fragment
    if previous and not previous.startswith("-") and previous != "<<":
        return [*_settings_held(fragment, variables), *OWN_OPTIONS, *SETTING_OPTIONS], fragment
    return _tasks(fragment, variables), fragment


def _settings_held(fragment: str, variables: Mapping[str, Any]) -> list[str]:
    """Return what holds settings, for the word after a task: variables, and files that begin with the fragment."""
    from nbannot.record.run import Run

    held = [name for name, value in _named(variables) if isinstance(value, RunConfig | Run | dict)]
    files = [str(p) for p in sorted(Path().glob(f"{_escaped(fragment)}*.toml"))] if fragment else []
    return [*held, *files, *_files(fragment, "config.json")]


def _fields_of_runs(before: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of the runs that a line names; of every run in a variable where it names none."""
    from nbannot.record.run import Run
    from nbannot.running.sweep import Runs

    held = {name: value for name, value in _named(variables) if isinstance(value, Run | Runs)}
    named = [held[word] for word in before.split() if word in held] or list(held.values())
    runs = [run for one in named for run in (one if isinstance(one, Runs) else [one])]
    return list(dict.fromkeys(f.name for run in runs for f in run.coding.fields)) or _fields(
        before, variables
    )


def _metrics() -> list[str]:
    """Return the metrics that the report shows first for some type of field."""
    from nbannot.report.words import HEADLINES

    return sorted({name for names in HEADLINES.values() for name in names})


def _desk(previous: str, fragment: str, variables: Mapping[str, Any]) -> list[str]:
    """Return what can follow ``%code``."""
    if fragment.startswith("-"):
        return [
            "--coder",
            "--context",
            "--order",
            "--feedback",
            "--take_over",
            "--codebook",
            "--output_root",
            "--out",
        ]
    if previous == "--order":
        return ["random", "file"]
    if previous == "--codebook":
        return _codebooks(fragment, variables)
    free = ("--coder", "--context", "--output_root", "-o", "--out")
    return [] if previous in free else _tasks(fragment, variables)


def _runs(magic: str, fragment: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the variables that hold runs and the run folders; for ``%compare`` also tasks with runs, and options."""
    from nbannot.record.run import Run
    from nbannot.running.sweep import Runs

    if fragment.startswith("-"):
        return ["--metric", "--column"] if magic == "compare" else ["--field"]
    kinds = Run if magic == "report" else (Run, Runs)
    held = [name for name, value in _named(variables) if isinstance(value, kinds)]
    here = [place.parent for place in Path(RunConfig().output_root).glob("*/*/config.json")]
    folders = [str(place) for place in sorted(here, key=_age)][:AT_MOST]
    tasks = sorted({place.parent.name for place in here}) if magic == "compare" else []
    return list(dict.fromkeys([*held, *tasks, *folders, *_paths(fragment, "config.json")]))


def _age(place: Path) -> float:
    """Return a number that is smaller for what was changed later."""
    try:
        return -place.stat().st_mtime
    except OSError:  # gone since it was listed
        return 0.0


def _in_body(
    lines: Sequence[str], line: int, before: str, after: str, variables: Mapping[str, Any]
) -> tuple[list[str], str]:
    """Return the candidates inside the TOML body and the fragment before the cursor."""
    name, equals, _ = before.partition("=")
    if not equals:
        fragment = before.lstrip()
        used = {other.partition("=")[0].strip() for i, other in enumerate(lines[1:], 1) if i != line}
        ending = "" if after.lstrip().startswith("=") else " = "
        return [f"{key}{ending}" for key in SETTINGS if key not in used], fragment
    name = name.strip()
    fragment = re.match(r"[^\[\],=]*", before[::-1])[0][::-1].lstrip()  # type: ignore[index]
    if fragment.startswith("$"):
        return [f"${held}" for held, value in _named(variables) if isinstance(value, PLAIN)], fragment
    if name not in SETTINGS or "#" in fragment:
        return [], fragment
    words = [_quoted(name, word) for word in _values(name, _fields(lines[0], variables))]
    if fragment.startswith('"') and after.startswith('"'):
        words = [word.removesuffix('"') for word in words]
    if not fragment.startswith('"') and fragment:
        words = [word for word in words if not word.startswith('"')] or words
    return words, fragment


def _quoted(name: str, word: str) -> str:
    return word if word in ("true", "false") and name not in ("model", "prompt_type") else f'"{word}"'


def _values(name: str, fields: Sequence[str]) -> list[str]:
    """Return the values that a setting is known to take."""
    if name == "model":
        from nbannot.models.registry import backends

        alone = ("local", "mock")
        return [*alone, *(f"{backend}/" for backend in backends() if backend not in alone)]
    if name == "prompt_type":
        from nbannot.asking.prompts import prompt_types

        return prompt_types()
    if name == "fields":
        return list(fields)
    if SETTINGS[name].values:
        return list(SETTINGS[name].values)
    return ["true", "false"] if not SETTINGS[name].check(True) else []


def _fields(first_line: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of the task on a first line, as far as they are easily had."""
    from nbannot.study.codebook import Codebook
    from nbannot.study.task import Task

    bundled = Path(str(resources.files("nbannot.study") / "tasks"))
    words = [w for w in recipe.split_line(re.sub(r"^\s*%+\w+", "", first_line)) if not w.startswith("-")]
    for word in words:
        held = variables.get(word)
        if isinstance(held, Task):
            return [f.name for f in held.codebook]
        for place in (Path(word), bundled / word):
            if (place / "codebook.json").is_file():
                return _names_in(Codebook, place)
    return []


def _names_in(codebook: Any, place: Path) -> list[str]:
    try:
        return [f.name for f in codebook.load(place)]
    except NbannotError:
        return []


def _tasks(fragment: str, variables: Mapping[str, Any]) -> list[str]:
    """Return bundled tasks, variables that hold texts, and folders and files that begin with the fragment."""
    from nbannot.study.task import Task
    from nbannot.study.task_sources import bundled_tasks

    held = [name for name, value in _named(variables) if isinstance(value, Task) or recipe.is_frame(value)]
    return [*held, *bundled_tasks(), *_paths(fragment, "codebook.json"), *_files(fragment, "config.json")]


def _named(variables: Mapping[str, Any]) -> list[tuple[str, Any]]:
    shell = ("In", "Out", "exit", "quit", "open", "get_ipython")  # IPython's own
    own = list(variables.items())
    return [(name, value) for name, value in own if not name.startswith("_") and name not in shell]


def _paths(fragment: str, inside: str) -> list[str]:
    """Return the folders that begin with the fragment and hold a file, one level deep or two."""
    begun = sorted(p for p in Path().glob(f"{_escaped(fragment)}*") if p.is_dir()) if fragment != "" else []
    begun = begun or [Path(p) for p in ["."] if fragment == ""]
    paths = []
    for place in begun:
        paths += [str(p.parent) for p in (place / inside, *sorted(place.glob(f"*/{inside}"))) if p.is_file()]
    return [p for p in paths if p != "."]


def _files(fragment: str, name: str) -> list[str]:
    """Return the files of a name in the folders that begin with the fragment."""
    if not fragment or Path(fragment).is_absolute():
        return []
    return [str(p) for p in sorted(Path().glob(f"{_escaped(fragment)}*/{name}"))][:AT_MOST]


def _escaped(fragment: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", fragment.removeprefix("./"))


def _codebooks(fragment: str, variables: Mapping[str, Any]) -> list[str]:
    from nbannot.study.codebook import Codebook

    held = [name for name, value in _named(variables) if isinstance(value, Codebook)]
    return held + [str(p) for p in sorted(Path().glob(f"{_escaped(fragment)}*.json"))]


def _runs_tasks(previous: str) -> list[str]:
    from nbannot.study.task_sources import bundled_tasks

    if previous == "--output_root":
        return []
    root = Path(RunConfig().output_root)
    here = (
        sorted(p.name for p in root.iterdir() if p.is_dir() and p.name != "metrics") if root.is_dir() else []
    )
    return list(dict.fromkeys([*here, *bundled_tasks()]))


def matcher(shell: Any) -> Any:
    """Return `completions` as an IPython matcher; ``None`` where IPython is older than 8.6 and has none."""
    try:
        from IPython.core.completer import SimpleCompletion, context_matcher
    except ImportError:
        return None

    @context_matcher(identifier="nbannot")  # type: ignore[untyped-decorator]
    def nbannot_matcher(context: Any) -> dict[str, Any]:
        matches = completions(context.full_text, context.cursor_line, context.cursor_position, shell.user_ns)
        if matches is None:
            return {"completions": []}
        words, fragment = matches
        return {
            "completions": [SimpleCompletion(word, type="nbannot") for word in words],
            "matched_fragment": fragment,
            "suppress": True,
        }

    return nbannot_matcher
