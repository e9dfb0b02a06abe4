"""Cells and records of the tidy tables: how a value stands in a cell, and a row in a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from nbannot.errors import TableError, nearest
from nbannot.record.columns import LOWER_CASE_BOOLEANS, TABLES

Row: TypeAlias = Mapping[str, object]

_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


def csv_record(cells: Iterable[str]) -> str:
    """Return one RFC 4180 record without its line end; cells with a comma, quote or line break are quoted.

    >>> print(csv_record(["a", "b, c", 'the "d" row', "", "e"]))
    a,"b, c","the ""d"" row",,e
    """
    row = list(cells)
    if _NEEDS_QUOTES.search("".join(row)):
        row = [_quoted(cell) if _NEEDS_QUOTES.search(cell) else cell for cell in row]
    return ",".join(row)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def cell_text(column: str, value: object) -> str:
    """Return how a value stands in a cell: blank for ``None`` and nan, else the shortest text that reads back.

    >>> [cell_text("value", value) for value in (None, float("nan"), 0.1, 3)]
    ['', '', '0.1', '3']
    >>> cell_text("use_examples", True), cell_text("process_span", True)
    ('True', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower() if column in LOWER_CASE_BOOLEANS else str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return "" if value != value else float.__repr__(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return cell_text(column, value.item())
    raise TableError(
        f"A cell holds text, a number, true or false, or nothing. Got a {type(value).__name__} in {column!r}."
        "\n  Turn it into text first, for example with json.dumps()."
    )


def lines_of(kind: str, rows: Sequence[Row]) -> tuple[list[str], set[str]]:
    """Return the rows as records of a table's own columns, and the run ids in them."""
    table = TABLES[kind]
    records: list[str] = []
    keys: set[tuple[str, ...]] = set()
    ids: set[str] = set()
    for row in rows:
        for name in row:
            if name not in table.columns:
                raise TableError(
                    f"The {kind} table has no column {name!r}{nearest(name, table.columns) or '.'}"
                    f"\n  Its columns are {', '.join(table.columns)}."
                )
        cells = {name: cell_text(name, row.get(name)) for name in table.columns}
        key = tuple(cells[name] for name in table.key)
        if key in keys:
            raise TableError(
                f"The {kind} table takes one row per {', '.join(table.key)}. Got two for {', '.join(key)}."
                "\n  Keep one of them."
            )
        keys.add(key)
        ids.add(_checked_run_id(cells["run_id"]))
        records.append(csv_record(cells.values()))
    return records, ids


def _checked_run_id(run_id: str) -> str:
    if not run_id or run_id != run_id.strip() or _NEEDS_QUOTES.search(run_id):
        raise TableError(
            f"A run id is a name without commas, quotes, line breaks or outer spaces. Got {run_id!r}."
            "\n  Give the name of the run's folder."
        )
    return run_id
