"""Blocks as a Word document (.docx), by python-docx: headings, tables with rules as journals have them, plots."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import Any

from nbannot.errors import NbannotError, harmless
from nbannot.page.blocks import Block, Bullets, Cell, Facts, Fold, Grid, Heading, Para, Section, Verbatim
from nbannot.page.figure import Figure
from nbannot.page.markdown import in_words, joined
from nbannot.page.widths import clean

MARGIN_CM = 2.0
TEXT_PT, TABLE_PT, SMALL_PT = 10, 8.5, 8
PICTURE_CM = 16.0
COLUMNS_AT_MOST = 8
"""A table with more of them has each interval in the cell of its value."""
PIXELS_PER_CM = 96 / 2.54


def page_docx(blocks: Iterable[Block], title: str) -> bytes:
    """Return blocks as the content of a ``.docx`` file.

    Raises
    ------
    NbannotError
        If python-docx is not installed.
    """
    try:
        from docx import Document
        from docx.shared import Cm, Pt
    except ImportError:
        raise NbannotError(
            "a display is saved as .docx by python-docx, which is not installed.\n"
            "  Type: pip install 'nbannot[word]'   or save it as .html, which Word opens too"
        ) from None
    document = Document()
    document.core_properties.title, document.core_properties.author = title, ""
    document.styles["Normal"].font.size = Pt(TEXT_PT)
    for section in document.sections:
        section.left_margin = section.right_margin = Cm(MARGIN_CM)
        section.top_margin = section.bottom_margin = Cm(MARGIN_CM)
    for block in blocks:
        _write(block, document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


@singledispatch
def _write(block: Any, document: Any) -> None:
    """Write a block into a document; what has no form of its own as its plain text."""
    _fixed(document, "\n".join(block.lines()))


@_write.register
def _(block: Heading, document: Any) -> None:
    document.add_heading(_line(block.text) + (f" ({_line(block.aside)})" if block.aside else ""), block.level)


@_write.register
def _(block: Para, document: Any) -> None:
    run = document.add_paragraph().add_run(_line(block.text))
    run.bold = block.tone in ("strong", "verdict", "warning")
    run.italic = block.tone == "notice"


@_write.register
def _(block: Bullets, document: Any) -> None:
    for item in block.items:
        document.add_paragraph(_line(item), style="List Bullet")


@_write.register
def _(block: Facts, document: Any) -> None:
    for name, value in block.pairs:
        paragraph = document.add_paragraph()
        paragraph.add_run(f"{_line(name)}: ").italic = True
        paragraph.add_run(_line(value))


@_write.register
def _(block: Verbatim, document: Any) -> None:
    _fixed(document, harmless(block.text))


@_write.register
def _(block: Fold, document: Any) -> None:
    document.add_paragraph().add_run(_line(block.title)).bold = True
    for inside in block.blocks:
        _write(inside, document)


@_write.register
def _(block: Section, document: Any) -> None:
    for inside in (Heading(block.title, 2, block.aside), *block.blocks):
        _write(inside, document)


@_write.register
def _(block: Figure, document: Any) -> None:
    from docx.shared import Cm

    try:
        picture = block.content("png")
    except NbannotError:  # without matplotlib: its words and its table
        document.add_paragraph(_line(block.says))
        if block.twin is not None:
            _write(block.twin, document)
        return
    shape = document.add_picture(io.BytesIO(picture), Cm(min(PICTURE_CM, block.width / PIXELS_PER_CM)))
    shape._inline.docPr.set("descr", block.says)  # what a screen reader says


@_write.register
def _(block: Grid, document: Any) -> None:
    header, rows, align = in_words(block)
    if len(header) > COLUMNS_AT_MOST:
        header, rows, align = joined(block)
    if block.caption:
        document.add_paragraph().add_run(_line(block.caption)).bold = True
    named = any(cell.text for cell in header)
    table = document.add_table(rows=0, cols=len(header))
    if named:
        _row(table, header, align)
    for row in rows:
        if isinstance(row, str):
            cells = table.add_row().cells
            _fill(cells[0].merge(cells[-1]), Cell(row, "quiet"), "l")
        else:
            _row(table, row, align)
    _rules(table, named)
    for note in block.notes:
        _small(document.add_paragraph().add_run(_line(note)), SMALL_PT)
    document.add_paragraph()


def _row(table: Any, cells: Sequence[Cell], align: str) -> None:
    for place, cell, side in zip(table.add_row().cells, cells, align, strict=True):
        _fill(place, cell, side)


def _fill(place: Any, cell: Cell, align: str) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    paragraph = place.paragraphs[0]
    paragraph.paragraph_format.space_after = Pt(0)
    if align == "r":
        paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    run = paragraph.add_run(_line(cell.text))
    run.bold = cell.tone == "strong"
    _small(run, TABLE_PT)


def _rules(table: Any, named: bool) -> None:
    """Draw lines above and below the table and below its header, and say that the header is one."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    if not table.rows:
        return
    last = len(table.rows) - 1
    for place, sides in ((0, ["top", *(["bottom"] if named else [])]), (last, ["bottom"])):
        for cell in table.rows[place].cells:
            properties = cell._tc.get_or_add_tcPr()
            borders = properties.find(qn("w:tcBorders"))
            if borders is None:
                borders = OxmlElement("w:tcBorders")
                properties.append(borders)
            for side in sides:
                line = OxmlElement(f"w:{side}")
                line.set(qn("w:val"), "single")
                line.set(qn("w:sz"), "6")
                borders.append(line)
    if named:
        repeated = OxmlElement("w:tblHeader")
        repeated.set(qn("w:val"), "true")
        table.rows[0]._tr.get_or_add_trPr().append(repeated)


def _fixed(document: Any, text: str) -> None:
    if text:
        run = document.add_paragraph().add_run(_xml(text))
        run.font.name = "Courier New"
        _small(run, SMALL_PT)


def _small(run: Any, points: float) -> None:
    from docx.shared import Pt

    run.font.size = Pt(points)


def _line(text: str) -> str:
    return _xml(clean(text))


def _xml(text: str) -> str:
    """Return a text without what cannot stand in XML."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff" and c < "\ufffe") or c > "\uffff"
                   else "\ufffd" for c in text)  # fmt: skip
