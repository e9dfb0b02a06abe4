"""What people and programs give, JSON and paths, read so that whatever is wrong with it is one short reason."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError

LONGEST_NAME, LONGEST_PATH = 255, 3_500
"""Bytes that a file system takes for one name, and for a folder with room for what is put into it."""


def parse_json(text: str, **more: Any) -> Any:
    """Return what a JSON text holds; `more` goes to `json.loads`.

    Raises
    ------
    ValueError
        With a short reason: where it is no JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text, **more)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("lists or objects nested too deep to read") from None
    except ValueError:
        raise ValueError("a number has thousands of digits") from None


def path_fault(path: str | os.PathLike[str]) -> str:
    """Return why no file can have this path on any system, or ``""``.

    >>> path_fault("runs"), path_fault("a" * 300)
    ('', 'has a name of 300 bytes; a file name has at most 255')
    """
    text = os.fspath(path)
    if "\0" in text:
        return "holds a NUL character"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return ""  # a name that is no UTF-8 on disk: Python writes it so, and finds the file again
    longest = max(len(name.encode()) for name in text.replace("\\", "/").split("/"))
    if longest > LONGEST_NAME:
        return f"has a name of {longest:,} bytes; a file name has at most {LONGEST_NAME}"
    whole = len(text.encode())
    return f"has {whole:,} bytes; at most {LONGEST_PATH:,} can be used" if whole > LONGEST_PATH else ""


def given_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that someone typed, with ``~`` for a home.

    Raises
    ------
    ValueError
        With a short reason, if it is no path or no file can have it.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"a path is a text or a pathlib.Path. Got {type(path).__name__}")
    if fault := path_fault(path):
        raise ValueError(f"the path {_cut(os.fspath(path))!r} {fault}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"the path {_cut(os.fspath(path))!r} names a home that does not exist") from None


def path_or(error: type[NbannotError], path: str | os.PathLike[str]) -> Path:
    """Return a path that someone typed; raise this error if no file can have it."""
    try:
        return given_path(path)
    except ValueError as fault:
        raise error(f"{fault}.\n  Give another path.") from None


def listed_or(error: type[NbannotError], items: Any, wanted: str) -> list[Any]:
    """Return what someone gave as a list; raise this error, which says what is `wanted`, where it is none.

    >>> listed_or(NbannotError, ("a", "b"), "a list of names")
    ['a', 'b']
    """
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise error(f"{wanted} is needed. Got {type(items).__name__}.")
    return list(items)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
