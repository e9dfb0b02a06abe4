"""Settings written as TOML: read with a sentence for the commonest slips, and the line on which each stands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from nbannot.errors import ConfigError
from nbannot.study.checks import SECRET
from nbannot.study.settings import SETTINGS
from nbannot.tools.secrets import without_keys

SLIPS = (
    (re.compile(r"=\s*(True|False|TRUE|FALSE)\b"), "TOML writes true and false in small letters"),
    (re.compile(r"=\s*(None|null)\b"), "TOML has no None: leave the setting out"),
    (re.compile(r"^\s*\w+\s*:"), "TOML separates name and value by =, not by a colon"),
    (re.compile(r"=\s*[“”„‘’«»]"), 'quotation marks are straight ones: name = "text"'),
    (re.compile(r'=\s*"[^"]*\\'), "a path is written with / or in single quotation marks: 'C:\\data'"),
    (re.compile(r"=\s*(\"[^\"]*|'[^']*)$"), "the closing quotation mark is missing"),
    (re.compile(r"=\s*\("), "a list stands in square brackets: [0, 0.7]"),
    (re.compile(r"=\s*[+-]?\.\d"), "a number needs a digit before its point: 0.7"),
    (re.compile(r"=.*,\s*(#.*)?$"), "no comma at the end of a line"),
    (re.compile(r"=\s*[A-Za-z_/~][^\"'\[\]{},#]*\s*(#.*)?$"), 'a text needs quotation marks: name = "text"'),
    (re.compile(r"=\s*$"), "the value is missing"),
)


def read_toml(text: str, first_line: int = 1) -> dict[str, Any]:
    """Return the settings in a TOML text; `first_line` is the number of its first line in the cell or file.

    Raises
    ------
    ConfigError
        With line and column, and a sentence of its own for the commonest slips.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(
            "lists in lists in lists, too deep to read.\n  Give one value, or one list."
        ) from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        lines = text.split("\n")
        match = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        last = max((row for row, line in enumerate(lines, start=1) if line.strip()), default=1)
        row, column = (int(match[1]), int(match[2])) if match else (last, len(lines[last - 1]) + 1)
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        if not isinstance(error, tomllib.TOMLDecodeError):
            what = "A number has thousands of digits"
        shown = lines[row - 1].strip() if row <= len(lines) else ""
        if what.startswith("Cannot overwrite"):
            hint = "a setting is given once; several values to try stand in a list: [0, 0.7]"
        else:  # a line of thousands of characters is no slip of the finger, and slow to compare
            hint = next((why for slip, why in SLIPS if slip.search(shown)), "") if len(shown) < 1_000 else ""
        tail = f"\n    {_line_for_message(shown)}" + (f"\n  {hint}." if hint else "")
        raise ConfigError(f"line {row + first_line - 1}, column {column}: {what}.{tail}") from None


def _line_for_message(line: str) -> str:
    name = re.match(r"[\w.-]*", line)[0]  # type: ignore[index]  # it matches everything
    secret = SECRET.search(name) and name not in SETTINGS
    shown = line if len(line) <= 200 else line[:199] + "…"
    return f"{name} …" if secret else without_keys(shown)


def line_of(name: str, text: str) -> int:
    """Return the number (from 1) of the line of a TOML text that sets `name`, or 0."""
    for number_, line in enumerate(text.split("\n"), start=1):
        if re.match(rf"\[*\s*[\"']?{re.escape(name)}[\"']?\s*[].=]", line.lstrip()):
            return number_
    return 0


def lines_of(names: Iterable[str], text: str, first_line: int = 1) -> dict[str, int]:
    """Return the line (counted from `first_line`) of each name that a TOML text sets."""
    lines = {name: line_of(name, text) for name in names}
    return {name: line + first_line - 1 for name, line in lines.items() if line}


def as_toml(value: Any) -> str:
    """Return a value as TOML: JSON but for tables, and for a character that TOML wants escaped."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {as_toml(number)}" for name, number in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
