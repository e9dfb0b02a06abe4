"""Tables for Excel and LibreOffice: every text a text, so that none of it is run as a formula.

What a model, a server or a data set wrote can begin with ``=``; opened from a CSV file, a spreadsheet runs it. A
workbook says of each cell what it is, and needs no guess of delimiter, encoding or decimal sign.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from nbannot.errors import TableError
from nbannot.record.export import Grid, grid_of, is_number, shown_as, to_csv
from nbannot.tools.files import write_for_user
from nbannot.tools.given import path_or

if TYPE_CHECKING:
    from nbannot.record.run import Run

MOST_ROWS, MOST_COLUMNS, LONGEST = 1_048_576, 16_384, 32_767
"""Of one sheet: rows, columns, and characters of a cell."""
CUT = " … (cut here: a cell holds no more)"
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
ESCAPED = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
"""``_x0041_`` stands for a character in a workbook; a text that says so keeps its underscore."""
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
PARTS = {
    "[Content_Types].xml": f'''{HEAD}<Types xmlns="{PACKAGE}/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>
<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{KIND}.worksheet+xml"/></Types>''',
    "_rels/.rels": f'''{HEAD}<Relationships xmlns="{PACKAGE}/relationships">
<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>''',
    "xl/workbook.xml": f'''{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>
<sheet name="Table" sheetId="1" r:id="r1"/></sheets></workbook>''',
    "xl/_rels/workbook.xml.rels": f'''{HEAD}<Relationships xmlns="{PACKAGE}/relationships">
<Relationship Id="r1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>''',
}
"""Everything of a workbook with one sheet but the sheet."""


def spreadsheet(table: Run | Any, path: str | Path) -> Path:
    """Write a table for a spreadsheet and return where: a workbook (``.xlsx``), or CSV with its formulas defused.

    Parameters
    ----------
    table
        A pandas or polars frame, a list of dicts, or a run: then what its ``output.csv`` holds.
    path
        Where to; an existing file is replaced. In ``.xlsx`` every text stays as it is, cut after 32,767 characters,
        which is all that a cell holds. In ``.csv`` a text that a spreadsheet would run as a formula gets an apostrophe
        in front.

    Raises
    ------
    TableError
        If the file name ends in something else, the table is too large for a sheet, or the file cannot be written.
    """
    target = path_or(TableError, path)
    kind = target.suffix.lower()
    if kind not in (".xlsx", ".csv"):
        raise TableError(
            f"a spreadsheet is saved as .xlsx or .csv. Got '{target.name}'.\n"
            f"  Write spreadsheet(table, '{target.stem}.xlsx')."
        )
    frame = _output_of(table) if hasattr(table, "coding") else table
    content = (
        _workbook(grid_of(frame))
        if kind == ".xlsx"
        else to_csv(frame, for_spreadsheet=True).encode("utf-8-sig")
    )
    write_for_user(target, content)
    return target


def _output_of(run: Run) -> list[dict[str, str]]:
    header, rows = run.coding.output_rows()
    return [dict(zip(header, row, strict=True)) for row in rows]


def _workbook(grid: Grid) -> bytes:
    if len(grid.rows) >= MOST_ROWS or len(grid.names) > MOST_COLUMNS:
        raise TableError(
            f"a sheet holds {MOST_ROWS - 1:,} rows below its header and {MOST_COLUMNS:,} columns. "
            f"Got {len(grid.rows):,} and {len(grid.names):,}.\n  Save it as .csv, or in parts."
        )
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in PARTS.items():
            book.writestr(zipfile.ZipInfo(name), part)  # without a date: the same table is the same file
        sheet = zipfile.ZipInfo("xl/worksheets/sheet1.xml")
        sheet.compress_type = zipfile.ZIP_DEFLATED
        with book.open(sheet, "w") as lines:
            lines.write(f'{HEAD}<worksheet xmlns="{MAIN}"><sheetData>'.encode())
            lines.write(_row(grid.names, grid.names))
            for row in grid.rows:
                lines.write(_row(grid.names, row))
            lines.write(b"</sheetData></worksheet>")
    return written.getvalue()


def _row(names: Sequence[str], values: Iterable[object]) -> bytes:
    cells = "".join(_cell(name, value) for name, value in zip(names, values, strict=True))
    return f"<row>{cells}</row>".encode()


def _cell(name: str, value: object) -> str:
    if is_number(value) and math.isfinite(float(value)):  # type: ignore[arg-type]  # is_number says that it is one
        return f"<c><v>{shown_as(name, value, None)}</v></c>"
    text = shown_as(name, value, None)
    if len(text) > LONGEST:
        text = text[: LONGEST - len(CUT)] + CUT
    text = ESCAPED.sub("_x005F_", NOT_XML.sub("�", text)).replace("\r", "_x000D_")
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>' if text else "<c/>"
