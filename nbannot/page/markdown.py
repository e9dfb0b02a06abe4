"""Blocks as Markdown (GitHub's form): headings, real tables, everything escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatch
from typing import Any

from nbannot.errors import harmless
from nbannot.page.blocks import Bullets, Cell, Facts, Fold, Grid, Heading, Para, Section, Verbatim, as_cell
from nbannot.page.widths import clean

AUTOLINK = re.compile(r"((?:https?|ftp|mailto|xmpp|www))([:.])", re.IGNORECASE)
"""What GitHub turns into a link by itself."""
LINE_START = re.compile(r"^(\s*)([-+#>=]|\d+[.)])", re.MULTILINE)
"""What at the beginning of a line would be a list, a heading, a quotation or a rule."""


def page_markdown(blocks: Iterable[Any]) -> str:
    """Return blocks as Markdown."""
    return "\n\n".join(part for block in blocks if (part := as_markdown(block))) + "\n"


def markdown_text(text: str) -> str:
    """Return text that a Markdown table shows as it is: marks of Markdown, HTML and mathematics are escaped.

    So are words that would become links by themselves, and characters that steer a terminal are taken out.
    """
    escaped = re.sub(r"[\\|*`<&\[\]~$@]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", harmless(text))
    escaped = AUTOLINK.sub(r"\g<1>\\\g<2>", escaped)
    return "<br>".join(escaped.splitlines())


def in_words(grid: Grid) -> tuple[list[Cell], list[list[Cell] | str], str]:
    """Return a table's header, rows and alignment without the columns that are only drawn: bars and scales.

    The numbers that they draw stand in other columns.
    """
    rows: list[list[Cell] | str] = [
        row if isinstance(row, str) else [as_cell(c) for c in row] for row in grid.rows
    ]
    cells = [row for row in rows if not isinstance(row, str)]
    kept = [
        i
        for i in range(len(grid.header))
        if not any(row[i].bar is not None or row[i].scale is not None for row in cells)
    ]
    header = [as_cell(grid.header[i]) for i in kept]
    short: list[list[Cell] | str] = [row if isinstance(row, str) else [row[i] for i in kept] for row in rows]
    return header, short, "".join(grid.align[i] for i in kept)


def joined(grid: Grid) -> tuple[list[Cell], list[list[Cell] | str], str]:
    """Return a table in words in which a column without a heading stands in the cells of the one before it.

    0.96 and [0.82, 0.99] become 0.96 [0.82, 0.99], 30 and 50% become 30 (50%).
    """
    header, rows, align = in_words(grid)
    groups: list[list[int]] = []
    for place, cell in enumerate(header):
        if groups and not cell.text and header[groups[-1][0]].text:
            groups[-1].append(place)
        else:
            groups.append([place])
    short: list[list[Cell] | str] = [
        row if isinstance(row, str) else [_together([row[i] for i in group]) for group in groups]
        for row in rows
    ]
    return [header[group[0]] for group in groups], short, "".join(align[group[0]] for group in groups)


def _together(cells: list[Cell]) -> Cell:
    words = cells[0].text
    for cell in cells[1:]:
        if cell.text:
            words += f" {cell.text}" if cell.text.startswith("[") or not words else f" ({cell.text})"
    return replace(cells[0], text=words)


def fenced(text: str) -> str:
    """Return a text in a fence that does not occur in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


@singledispatch
def as_markdown(block: Any) -> str:
    """Return a block as Markdown; what has no form of its own, e.g. marked passages, as plain text in a fence."""
    lines = block.lines()
    return fenced("\n".join(lines)) if lines else ""


@as_markdown.register
def _(block: Heading) -> str:
    aside = f" ({_line(block.aside)})" if block.aside else ""
    return f"{'#' * block.level} {_line(block.text)}{aside}"


@as_markdown.register
def _(block: Para) -> str:
    words = _line(block.text)
    if block.tone in ("notice", "warning"):
        return f"> {words}"
    return f"**{words}**" if block.tone in ("strong", "verdict") else words


@as_markdown.register
def _(block: Bullets) -> str:
    return "\n".join(f"- {_line(item)}" for item in block.items)


@as_markdown.register
def _(block: Facts) -> str:
    return "\n".join(f"- {_line(name)}: {_line(value)}" for name, value in block.pairs)


@as_markdown.register
def _(block: Verbatim) -> str:
    return fenced(harmless(block.text))


@as_markdown.register
def _(block: Fold) -> str:
    return page_markdown([Para(block.title, "strong"), *block.blocks]).rstrip()


@as_markdown.register
def _(block: Section) -> str:
    return page_markdown([Heading(block.title, 2, block.aside), *block.blocks]).rstrip()


@as_markdown.register
def _(block: Grid) -> str:
    header, rows, align = in_words(block)
    lines = [_row(header), "| " + " | ".join("---:" if a == "r" else "---" for a in align) + " |"]
    blank = [Cell("")] * (len(header) - 1)
    lines += [_row([Cell(row), *blank] if isinstance(row, str) else row) for row in rows]
    caption = [f"**{_line(block.caption)}**", ""] if block.caption else []
    notes = [line for note in block.notes for line in ("", _line(note))]
    return "\n".join([*caption, *lines, *notes])


def _row(cells: Iterable[Cell]) -> str:
    shown = [
        f"**{words}**" if cell.tone == "strong" and words else words
        for cell in cells
        for words in [markdown_text(clean(cell.text))]
    ]
    return f"| {' | '.join(shown)} |"


def _line(text: str) -> str:
    """Return text as part of a paragraph: on one line, and at its beginning no mark of a list or a heading."""
    return LINE_START.sub(r"\1\\\2", markdown_text(clean(text)))
