"""Tables that people keep: CSV or Excel, every cell as text."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nbannot.errors import TaskError, listed
from nbannot.study.reading import no_file, read_csv

if TYPE_CHECKING:
    import polars as pl

WORKBOOKS = (".xlsx", ".xlsm")
TABLES = (".csv", ".tsv", *WORKBOOKS)
QUESTIONS = ("codebook", "questions")
"""What the sheet of a workbook is called that holds its codebook, one row per question."""


@overload
def read_table(path: str | Path, *, encoding: str = "utf-8", besides: Sequence[str] = ()) -> pl.DataFrame: ...
@overload
def read_table(path: str | Path, *, encoding: str = "utf-8", sheet: Sequence[str]) -> pl.DataFrame | None: ...
def read_table(
    path: str | Path,
    *,
    encoding: str = "utf-8",
    besides: Sequence[str] = (),
    sheet: Sequence[str] | None = None,
) -> pl.DataFrame | None:
    """Return a CSV file, or a sheet of an Excel workbook, the first if none is named, as a polars frame of strings.

    In a workbook a formula is read as the value that was saved with it, a tick as 1 or 0.

    Parameters
    ----------
    besides
        Names of sheets of a workbook, in lower case, that are none of those meant.
    sheet
        Names of the sheet of a workbook, in lower case; ``None`` is returned where there is none.

    Raises
    ------
    TaskError
        If it cannot be read, has no header or no rows, or openpyxl is not installed for a workbook.
    """
    place = Path(path).expanduser()
    return (
        _read_workbook(place, besides, sheet)
        if place.suffix.lower() in WORKBOOKS
        else read_csv(path, encoding=encoding, delimiter=None)
    )


def _read_workbook(path: Path, besides: Sequence[str], named: Sequence[str] | None) -> pl.DataFrame | None:
    import polars as pl

    try:
        import openpyxl
    except ImportError:
        raise TaskError(
            "Excel workbooks are read with openpyxl, which is not installed.\n"
            '  pip install "nbannot[exchange]", or save the sheet as CSV.'
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        titles = {one.title: one.title.strip().casefold() for one in book.worksheets}
        sheets = [
            one
            for one in book.worksheets
            if (titles[one.title] not in besides if named is None else titles[one.title] in named)
        ]
        rows = [
            [_cell(value) for value in row] for one in sheets[:1] for row in one.iter_rows(values_only=True)
        ]
        book.close()
    except FileNotFoundError:
        raise no_file(path) from None
    except Exception as error:  # noqa: BLE001 - openpyxl raises of many kinds for files that are no workbooks
        raise TaskError(f"{path} cannot be read as an Excel workbook: {error}.") from None
    if not sheets and named is not None:
        return None
    if not sheets:
        raise TaskError(f"{path} has no sheet besides {listed(map(repr, titles))}.")
    which = "the first sheet" if named is None and not besides else f"the sheet '{sheets[0].title}'"
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise TaskError(f"{which} of {path} has no rows below a header.")
    header = [name.strip() for name in rows[0]]
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise TaskError(f"{which} of {path} has two columns '{repeated[0]}'.\n  Rename one.")
    width = len(header)
    unnamed = [
        n for n in range(width) if not header[n] and any(r[n : n + 1] not in ([], [""]) for r in rows[1:])
    ]
    if unnamed:
        raise TaskError(f"column {unnamed[0] + 1} of {which} of {path} has cells, but no name.")
    rows = [row + [""] * (width - len(row)) for row in rows]
    return pl.DataFrame(
        {
            name: pl.Series([row[n] for row in rows[1:]], dtype=pl.String)
            for n, name in enumerate(header)
            if name
        }
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
