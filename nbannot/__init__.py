"""nbannot: annotate texts with language models against your own codebook, and learn how far to trust the labels.

The public names are below; each is imported only when it is used, so that ``import nbannot`` and
``%load_ext nbannot`` stay light.
"""

from __future__ import annotations

import sys
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "add_prompt": "asking.prompts",
    "adjudicate": "desk.adjudication",
    "agreement": "comparing.reliability",
    "assign": "desk.assignment",
    "bundled_tasks": "study.task",
    "checkbox": "study.codebook",
    "class_page": "desk.classroom",
    "code": "desk.opening",
    "Codebook": "study.codebook",
    "compare": "comparing.comparison",
    "consensus": "desk.consensus",
    "configure": "doors.form.configure",
    "determinism": "comparing.stability",
    "dropdown": "study.codebook",
    "flip_rate": "comparing.stability",
    "joined": "record.views",
    "likert": "study.codebook",
    "load_coder": "comparing.coder",
    "load_run": "record.run",
    "load_task": "study.task",
    "metrics": "record.views",
    "NbannotError": "errors",
    "pivot": "record.views",
    "plan": "running.plan",
    "prompt_types": "asking.prompts",
    "rescore": "comparing.rescoring.rescore",
    "Run": "record.run",
    "run": "running.run",
    "RunConfig": "study.config",
    "runs": "record.views",
    "sample": "desk.sample",
    "span": "study.codebook",
    "sweep": "running.sweep",
    "Task": "study.task",
    "textbox": "study.codebook",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nbannot' has no attribute '{name}'")
    from nbannot.tools.imports import load

    room = f"nbannot.{_PUBLIC[name]}"
    load(room)
    value = getattr(sys.modules[room], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext nbannot``."""
    from nbannot.doors import magic

    magic.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again: ``%unload_ext nbannot``."""
    from nbannot.doors import magic

    magic.unload_ipython_extension(ipython)
