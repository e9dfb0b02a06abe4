"""Import paths from before the rooms: they still lead to the names, and say where these are now.

Scripts that reached below the public names (`from nbannot.codebook import Codebook`) go on working until 0.2. Names
that are public functions today (`run`, `plan`, `compare` …) were modules, too, and are not among these paths.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "answers": ("asking.answers", "asking.reply_parts"),
    "codebook": ("study.codebook", "study.questions", "study.field", "study.codebook_reader"),
    "coding": ("record.coding",),
    "config": ("study.config", "study.settings", "study.toml"),
    "energy": ("engine.energy",),
    "folder": ("record.folder", "tools.files"),
    "ledger": ("asking.ledger", "asking.ledger_lines"),
    "models.base": ("asking.request_reply",),
    "prompts": ("asking.prompts",),
    "scoring": ("record.scoring",),
    "spans": ("study.spans",),
    "task": ("study.task", "study.task_sources", "study.reading"),
}
"""Old path below ``nbannot`` -> the files that hold its names now."""


class _Finder(MetaPathFinder, Loader):
    """Finds the old paths, after every other finder has found nothing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.removeprefix("nbannot.") in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        homes = MOVED[module.__name__.removeprefix("nbannot.")]

        def found(name: str) -> Any:
            for home in homes:
                if not name.startswith("__") and hasattr(room := import_module(f"nbannot.{home}"), name):
                    warnings.warn(
                        f"{module.__name__}.{name} is in nbannot.{home} now; the public names of nbannot stay.",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    return getattr(room, name)
            raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")

        vars(module)["__getattr__"] = found


def install() -> None:
    """Let the old paths be found; once per session."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
