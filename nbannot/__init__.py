"""nbannot: annotate texts with language models against your own codebook, and learn how far to trust the labels.

The public names are below; each is imported only when it is used, so that ``import nbannot`` and
``%load_ext nbannot`` stay light.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "add_prompt": "prompts",
    "agreement": "reliability",
    "alt_test": "inference",
    "bundled_tasks": "task",
    "checkbox": "codebook",
    "Codebook": "codebook",
    "compare": "compare",
    "configure": "widget",
    "determinism": "stability",
    "dropdown": "codebook",
    "flip_rate": "stability",
    "joined": "views",
    "likert": "codebook",
    "load_coder": "compare",
    "load_run": "run",
    "load_task": "task",
    "metrics": "views",
    "NbannotError": "errors",
    "pivot": "views",
    "plan": "plan",
    "prompt_types": "prompts",
    "rescore": "rescore",
    "Run": "run",
    "run": "run",
    "RunConfig": "config",
    "runs": "views",
    "span": "codebook",
    "sweep": "sweep",
    "Task": "task",
    "textbox": "codebook",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nbannot' has no attribute '{name}'")
    from nbannot.imports import load

    room = f"nbannot.{_PUBLIC[name]}"
    load(room)
    value = getattr(sys.modules[room], name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps ``nbannot.run`` and ``nbannot.metrics`` the functions when something imports the rooms of these names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _PUBLIC:
            value = getattr(import_module(f"nbannot.{_PUBLIC[name]}"), name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext nbannot``."""
    from nbannot import magic

    magic.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again: ``%unload_ext nbannot``."""
    from nbannot import magic

    magic.unload_ipython_extension(ipython)
