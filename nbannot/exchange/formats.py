"""Which tools are known, and which one a project comes from: by what is in the files, not by their names."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from nbannot.errors import TaskError, listed, nearest
from nbannot.exchange.files import Folder

FORMATS = {
    "label_studio": "label_studio",
    "prodigy": "prodigy",
    "doccano": "doccano",
    "brat": "brat",
    "refi_qda": "refi_qda",
    "inception": "inception",
    "potato": "potato",
}
"""Name of a format -> its file here; in the order in which they are tried."""


def module_of(name: str) -> ModuleType:
    """Return the file that reads and writes a format.

    Raises
    ------
    TaskError
        If there is no such format.
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain not in FORMATS:
        raise TaskError(
            f"unknown format '{name}'{nearest(plain, FORMATS) or '.'}\n  Known: {listed(FORMATS, 12)}."
        )
    return import_module(f"nbannot.exchange.{FORMATS[plain]}")


def found_format(folder: Folder) -> str:
    """Return the name of the format that a project's files are in.

    Raises
    ------
    TaskError
        If they are in none that is known.
    """
    for name in FORMATS:
        if module_of(name).fits(folder):
            return name
    raise TaskError(
        f"{folder.place} holds no project of a tool that can be read here.\n"
        f"  Known: {listed(FORMATS, 12)}; say which with format=... Its files: {listed(folder.files, 4)}."
    )
