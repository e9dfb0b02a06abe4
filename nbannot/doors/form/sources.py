"""What the form can choose from: where the texts come from, and which models are here."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.displays import live
from nbannot.errors import NbannotError
from nbannot.models.registry import backends, split_name
from nbannot.study.config import RunConfig
from nbannot.study.settings import DEFAULTS

if TYPE_CHECKING:
    from nbannot.study.task import Task

LOOK_S = 0.5
"""Longest wait for a server that may not be there."""


@dataclass(frozen=True)
class Source:
    """Where the form's texts come from: a task, and the words after ``%%annotate`` that name it.

    Attributes
    ----------
    missing
        What has to be put into a variable before a cell can name the task; "" for nothing.
    """

    task: Task
    words: str
    missing: str = ""

    @classmethod
    def of(cls, given: Any, codebook: Any, root: str | None) -> Source:
        """Return the source that `configure` was given."""
        from nbannot.running.design import as_task
        from nbannot.study.task import Task

        config = RunConfig(task_root=root)
        held = _variables()
        if isinstance(given, str | Path):
            held_task = held.get(str(given))
            task = as_task(held_task if isinstance(held_task, Task) else given, config, codebook)
            return cls(task, _quoted(str(given)))
        name = next((key for key, value in held.items() if value is given), "")
        task = as_task(given, config, codebook)
        if isinstance(given, Task):
            word = name or (str(given.path) if given.path and given.rows is None else "")
            return cls(given, _quoted(word or _identifier(given.name)), "" if word else "task")
        book = str(codebook) if isinstance(codebook, str | Path) else ""
        book = book or next((key for key, value in held.items() if value is codebook), "")
        task = Task(given, task.codebook, name=name) if name else task
        missing = [what for what, there in (("DataFrame", name), ("codebook", book)) if not there]
        words = f"{name or 'frame'} --codebook {_quoted(book or 'codebook')}"
        return cls(task, words, " and the ".join(missing))


def opened(given: Any) -> tuple[Any, dict[str, Any]]:
    """Return the task of an earlier run, and its settings; anything else stays as it is, with no settings.

    An earlier run is a `Run`, its folder, or a file of settings (``config.json``, TOML).
    """
    from nbannot.doors import recipe
    from nbannot.record.folder import CONFIG
    from nbannot.record.run import Run
    from nbannot.study.task import Task
    from nbannot.study.task_sources import bundled_tasks, load_task

    place = given.folder / CONFIG if isinstance(given, Run) else given
    if not isinstance(place, str | Path):
        return given, {}
    if (Path(place) / CONFIG).is_file():
        place = Path(place) / CONFIG
    if not recipe.is_recipe(str(place)):
        return given, {}
    read = recipe.read_recipe(str(place))
    settings = {name: value for name, value in read.settings.items() if value != DEFAULTS[name]}
    task = read.task or recipe.task_of(read, RunConfig.of(settings))
    if isinstance(task, Task) and task.name in bundled_tasks() and task.path == load_task(task.name).path:
        task = task.name  # a cell says it by its name, not by where the package is
    return task, settings


def _variables() -> dict[str, Any]:
    """Return the variables of the notebook; none outside of one."""
    held = getattr(live.shell(), "user_ns", {})
    return {name: value for name, value in list(held.items()) if not name.startswith("_")}


def _quoted(word: str) -> str:
    return f'"{word}"' if any(c.isspace() or c == "#" for c in word) else word


def _identifier(name: str) -> str:
    made = "".join(c if c.isalnum() else "_" for c in name)
    return made if made.isidentifier() else f"task_{made}"


def known_tasks() -> list[str]:
    """Return the bundled tasks and the variables of the notebook that hold one."""
    from nbannot.study.task import Task
    from nbannot.study.task_sources import bundled_tasks

    return [*(name for name, value in _variables().items() if isinstance(value, Task)), *bundled_tasks()]


def models_here(base_url: str | None = None) -> list[tuple[str, str]]:
    """Return what can be used here as (in words, name): embedded, of a running Ollama, servers of the environment.

    Waits `LOOK_S` at most for the Ollama server; asks nobody else.
    """
    there = backends()
    models: list[tuple[str, str]] = []
    if "local" in there and find_spec("xllamacpp"):
        models.append(("local: embedded, on this machine", "local"))
    if "ollama" in there:
        models += [(name, name) for name in ollama_models()]
    if base_url or os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        models.append(("openai/…: type the model's name", "openai/"))
    if "anthropic" in there and os.environ.get("ANTHROPIC_API_KEY"):
        models.append(("anthropic/…: type the model's name", "anthropic/"))
    if "hf" in there and (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")):
        models.append(("hf/…: type the model's name", "hf/"))
    if "baseline" in there:
        models.append(("baseline/majority: no language model", "baseline/majority"))
    own = ("anthropic", "local", "ollama", "openai", "hf", "baseline", "mock", "replay")
    models += [(f"{name}/…: type the model's name", f"{name}/") for name in there if name not in own]
    return [*models, ("mock: made-up answers, to try things", "mock")]


def ollama_models() -> list[str]:
    """Return the models of the Ollama server that runs here or at ``OLLAMA_HOST``; none where there is none."""
    from nbannot.models.ollama_server import HOST_VARIABLE, host_address

    try:
        address = host_address(os.environ.get(HOST_VARIABLE, ""))
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{address}/api/tags", timeout=LOOK_S) as reply:
            entries = json.load(reply)["models"]
        return sorted(f"ollama/{entry['name']}" for entry in entries)
    except (OSError, ValueError, LookupError, TypeError, NbannotError):
        return []


def known_without_asking(model: str, listed: Sequence[str]) -> bool:
    """Return whether a model can say what it is without a download, a server start or a question to a stranger."""
    backend, name = split_name(model)
    if backend == "local":
        from nbannot.models import weights
        from nbannot.tools.files import cache_folder

        if name in ("", weights.DEFAULT_NAME):
            return (cache_folder() / "models" / weights.DEFAULT_MODEL.file_name).exists()
        return Path(name).expanduser().is_file()
    return backend in ("mock", "baseline", "replay") or model in listed
