"""Lines of a table that are no texts: further header lines of survey tools, the header again, empty rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

IMPORT_ID = re.compile(r"\s*\{\s*[\"']ImportId[\"']\s*:")
"""A cell of the third header line of a Qualtrics export."""


def without_foreign_lines(data: pl.DataFrame, text_column: str) -> tuple[pl.DataFrame, list[int], list[str]]:
    """Return the table without lines that are no texts, the positions of those kept, and a sentence on each kind.

    Qualtrics writes the questions and import ids below the names of the columns; files that were joined repeat the
    header; spreadsheets leave rows without anything in them.
    """
    import polars as pl

    notices: list[str] = []
    out: set[int] = set()
    if data.height and data.width:
        ids = next((i for i in range(min(3, data.height)) if _import_ids(data.row(i))), None)
        if ids is not None:
            out |= set(range(ids + 1))
            notices.append(
                f"The first {_first(ids + 1)} header of a Qualtrics export (questions, import ids): left out."
            )
        again = data[text_column].eq(text_column).arg_true().to_list() if data.width > 1 else []
        again = [i for i in again if i not in out and list(data.row(i)) == data.columns]
        if again:
            out |= set(again)
            notices.append(f"{_rows(len(again))} the header again, not a text: left out.")
        empty = data.select(pl.all_horizontal(pl.all().str.strip_chars() == "")).to_series().arg_true()
        rows = [i for i in empty.to_list() if i not in out]
        if (
            rows and data.width > 1 and len(rows) < data.height
        ):  # one column: a list of texts, each in its place
            out |= set(rows)
            notices.append(f"{_rows(len(rows))} empty in every cell: left out.")
    kept = [i for i in range(data.height) if i not in out]
    if out:
        data = data[kept] if kept else data.clear()
    return data, kept, notices


def _import_ids(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and sum(bool(IMPORT_ID.match(cell)) for cell in filled) * 2 > len(filled)


def _rows(n: int) -> str:
    return "1 row is" if n == 1 else f"{n:,} rows are"


def _first(n: int) -> str:
    return "row is the" if n == 1 else f"{n} rows are the"
