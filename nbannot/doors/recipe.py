"""What the three doors share: a setting typed as an option, a file of settings, and the words that sum a run up."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import ConfigError, RunError, TaskError
from nbannot.study.config import RunConfig, expand, settings_in
from nbannot.study.faults import refuse_unknown
from nbannot.study.settings import DEFAULTS, LISTS, SETTINGS
from nbannot.study.toml import lines_of, read_toml
from nbannot.tools.given import given_path, parse_json

if TYPE_CHECKING:
    from nbannot.record.run import Run
    from nbannot.study.corpus import Corpus
    from nbannot.study.task import Task

RETRIES = ("invalid", "failed")
"""What a finished run can be asked to ask again."""


def option_help(name: str) -> str:
    """Return what `SETTINGS` says of a setting, its values and its default, for the help of an option."""
    setting, default = SETTINGS[name], DEFAULTS[name]
    says = setting.meaning
    if setting.values and not all(word in says for word in setting.values):
        says = f"{says} ({', '.join(setting.values)})"
    return says if default is None else f"{says}; default {json.dumps(default)}"


def option_kind(name: str) -> dict[str, Any]:
    """Return what argparse is told of the option of a setting: one that takes a list may be given several times."""
    kind = {"metavar": "VALUE", "help": option_help(name).replace("%", "%%")}
    return kind | ({"action": "append"} if name in LISTS else {})


def typed_settings(given: Any) -> dict[str, str]:
    """Return the settings among parsed arguments, as they were typed; an option given several times with commas.

    >>> from types import SimpleNamespace
    >>> none = dict.fromkeys(SETTINGS)
    >>> typed_settings(SimpleNamespace(**none | {"base_url": ["http://gpu1:8000/v1", "http://gpu2:8000/v1"]}))
    {'base_url': 'http://gpu1:8000/v1,http://gpu2:8000/v1'}
    """
    typed = {name: text for name in SETTINGS if (text := getattr(given, name, None)) is not None}
    return {name: text if isinstance(text, str) else ",".join(text) for name, text in typed.items()}


def value_of(name: str, text: str) -> Any:
    """Return the value that an option's text stands for: read as TOML where that fits the setting, else as text.

    >>> value_of("temperature", "0.7"), value_of("model", "mock/7"), value_of("temperature", "[0, 0.7]")
    (0.7, 'mock/7', [0, 0.7])
    >>> value_of("fields", "Direction,Intensity"), value_of("use_examples", "False")
    (['Direction', 'Intensity'], False)
    """
    if text.startswith(("[", "{")):
        listed = _toml(text)
        return _items(name, text) if listed is None and text.startswith("[") else listed or text
    if name in LISTS:
        parts = [part.strip() for part in text.split(",")]
        return parts[0] if name == "base_url" and len(parts) == 1 else parts
    check = SETTINGS[name].check
    for candidate in (_toml(text.lower()), text):
        if candidate is not None and not check(candidate):
            return candidate
    read = _toml(text.lower())
    return text if read is None else read


def normal_option(word: str, known: Collection[str]) -> str:
    """Return an option as it is declared, whichever of - and _ it was written with.

    >>> normal_option("--use-examples=false", ["--use_examples"])
    '--use_examples=false'
    """
    name, equals, value = word.partition("=")
    other = "--" + name.removeprefix("--").replace("-", "_")
    return other + equals + value if name.startswith("--") and name not in known and other in known else word


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return None


def _items(name: str, text: str) -> list[Any]:
    """Return the items of a list whose texts lost their quotation marks to a shell: ``[mock, local]``."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    return parts if name in LISTS else [value_of(name, part) for part in parts]


@dataclass(frozen=True)
class Recipe:
    """What a file of settings says: a run's ``config.json``, or a TOML file with ``task = "..."``.

    Attributes
    ----------
    task
        Bundled name, folder or address of the task; ``""`` if the file names none.
    lines
        Setting -> its line in the file.
    """

    path: Path
    task: str
    settings: Mapping[str, Any]
    lines: Mapping[str, int]

    @property
    def is_run(self) -> bool:
        """Whether it is the ``config.json`` of a run."""
        return self.path.suffix == ".json"


def is_recipe(source: str) -> bool:
    """Return whether a word names a file of settings rather than a task."""
    if not source.endswith((".json", ".toml")):
        return False
    try:
        return not given_path(source).is_dir()
    except ValueError:
        return True  # `read_recipe` says what is wrong with it


def read_recipe(source: str) -> Recipe:
    """Return what a file of settings says.

    Raises
    ------
    ConfigError
        If it cannot be read, or a name in it is no setting; with the line.
    """
    try:
        path = given_path(source)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else why
        raise ConfigError(
            f"cannot read {source if len(source) <= 200 else 'the file'}: {why}.\n"
            "  A run is started from a task, a TOML file with its settings, or the config.json of an earlier run."
        ) from None
    return _read_run(path, text) if path.suffix == ".json" else _read_toml(path, text)


def _read_run(path: Path, text: str) -> Recipe:
    try:
        stored = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from None
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} holds no settings: they are one object, {{...}}.")
    if "run_id" in stored:
        return Recipe(path, "", settings_in(stored), {})
    task = stored.pop("task", "")
    with _in_file(path):
        refuse_unknown(stored)
    return Recipe(path, _task_word(path, task), stored, {})


def _read_toml(path: Path, text: str) -> Recipe:
    with _in_file(path):
        settings = read_toml(text)
        task = settings.pop("task", "")
        lines = lines_of(settings, text)
        expand(settings, lines)
    return Recipe(path, _task_word(path, task), settings, lines)


def _task_word(path: Path, task: Any) -> str:
    if not isinstance(task, str):
        raise ConfigError(f'{path}: task must be a text, e.g. task = "policy-sentiment". Got {task!r}.')
    return task


class _in_file:  # noqa: N801 - reads as a phrase
    """Puts the file's name in front of a `ConfigError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ConfigError):
            raise ConfigError(f"{self.path}: {error}") from None


def task_of(recipe: Recipe, config: RunConfig) -> Task | Corpus:
    """Return the task that a file of settings names, or the task or corpus of the run that a ``config.json`` is of.

    Raises
    ------
    TaskError, RunError
        If it cannot be found any more.
    """
    from nbannot.record.loading import task_of_run
    from nbannot.running.design import as_task
    from nbannot.tools.files import read_json

    if recipe.task:
        return as_task(recipe.task, config)
    stored = read_json(recipe.path) if recipe.is_run else {}
    if "run_id" not in stored:
        raise TaskError(f'{recipe.path} names no task.\n  Add a line: task = "policy-sentiment".')
    if "codebook" not in stored:
        raise RunError(f"{recipe.path} holds no codebook: it is not the config.json of one of our runs.")
    if isinstance(stored.get("corpus"), dict):
        from nbannot.study.corpus_sources import corpus_of_run

        return corpus_of_run(stored)
    return task_of_run(recipe.path.parent, stored)


def title(task: Task | Corpus, configs: Sequence[RunConfig]) -> str:
    """Return what is being worked on, in a few words that leave room for the progress beside them."""
    return f"{task.name} · {configs[0].model if len(configs) == 1 else f'{len(configs)} runs'}"


def summary(run: Run) -> str:
    """Return what one line can say of a run: id, state, texts, answers and where it is."""
    from nbannot.report.words import plural, state_of, statuses

    state, _ = state_of(run)
    return (
        f"run {run.run_id}: {state}; {plural(run.n_texts, 'text')}, {statuses(run.by_status)}; {run.folder}"
    )


def split_line(line: str) -> list[str]:
    """Return the words of a line: quotation marks and brackets hold together, # begins a remark.

    Backslashes are kept as they are, so that a path of Windows can be written.

    >>> split_line('"my task" --temperature [0, 0.7] --model=mock  # try')
    ['my task', '--temperature', '[0, 0.7]', '--model=mock']
    """
    words = []
    for match in _WORD.finditer(line):
        word = match[0]
        if word.startswith("#"):
            break
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(name + equals + _unquoted(value))
    return words


_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\{[^{}]*\}|\S)+""")


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] in "\"'" and word[-1] == word[0] else word


def is_frame(thing: Any) -> bool:
    """Return whether something is a pandas or polars DataFrame, without importing either."""
    names = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(thing).__mro__}
    return bool(names & {"pandas.DataFrame", "polars.DataFrame"})
