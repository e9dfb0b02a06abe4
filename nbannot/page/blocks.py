"""Blocks: what a display says, before it is HTML or plain text.

A report or a card is a list of blocks. Every block can write itself as plain text; `nbannot.displays` writes the same
blocks as HTML. So the two renderings cannot say different things.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from nbannot.errors import harmless
from nbannot.page.widths import (
    clean,
    pad,
    width_of,
    wrap,
)

WIDTH = 110
"""Columns of a page of plain text."""

GAP = "  "
NARROWEST = 10
"""A column of words is not made narrower than this."""

WORD = 14
"""A word of a heading up to this is not broken."""
BAR_WIDTH = 12
SCALE_WIDTH = 21
EIGHTHS = " ▏▎▍▌▋▊▉"
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Tone = Literal["plain", "quiet", "strong", "notice", "warning", "verdict"]


class Block(Protocol):
    """A part of a page."""

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the block as lines of plain text, none wider than `width` where that is possible."""


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """Return a share from 0 to 1 as a bar of block characters.

    >>> bar(0.5, 4), bar(0.0, 4)
    ('██', '')
    """
    full, eighth = divmod(round(max(0.0, min(1.0, share)) * width * 8), 8)
    return "█" * full + EIGHTHS[eighth].strip()


@dataclass(frozen=True, slots=True)
class Scale:
    """A value with its interval on a scale, and a tick at what it is held against.

    Attributes
    ----------
    low, high
        The ends of the scale.
    value
        The value; ``nan`` draws the scale alone.
    interval
        The limits of its interval; ``nan`` where there is none.
    tick
        The baseline; ``None`` where there is none.
    band
        From where to where people lie with each other; ``None`` where that is not known.
    """

    low: float
    high: float
    value: float
    interval: tuple[float, float]
    tick: float | None = None
    band: tuple[float, float] | None = None

    def at(self, value: float, steps: int) -> int | None:
        """Return on which of so many steps a value stands, the ends for what lies beyond; ``None`` for ``nan``."""
        if value != value:
            return None
        share = (value - self.low) / (self.high - self.low)
        return min(steps - 1, max(0, int(share * steps)))

    def plain(self) -> str:
        """Return the scale as characters: ``·`` scale, ``░`` people, ``━`` interval, ``●`` value, ``|`` baseline.

        >>> Scale(0, 1, 0.5, (0.25, 0.75), 0.1).plain()
        '··|··━━━━━●━━━━━·····'
        """
        signs = ["·"] * SCALE_WIDTH
        for limits, sign in ((self.band or (math.nan, math.nan), "░"), (self.interval, "━")):
            first, last = (self.at(limit, SCALE_WIDTH) for limit in limits)
            if first is not None and last is not None:
                signs[first : last + 1] = sign * (last + 1 - first)
        for value, sign in ((self.tick, "|"), (self.value, "●")):
            if value is not None and (place := self.at(value, SCALE_WIDTH)) is not None:
                signs[place] = sign
        return "".join(signs)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a `Grid`.

    Attributes
    ----------
    tint
        From -1 to 1: how strongly it is coloured; above 0 for agreement, below 0 for error. Never the only sign.
    bar
        A share from 0 to 1 that is drawn as a bar; the number itself stands in another cell.
    title
        Shown where the pointer rests; never needed.
    scale
        Drawn instead of the text; the numbers themselves stand in other cells.
    share
        From 0 to 1, what the text says: drawn as a thin bar below it.
    """

    text: str
    tone: Tone = "plain"
    tint: float = 0.0
    bar: float | None = None
    title: str = ""
    scale: Scale | None = None
    share: float | None = None

    def plain(self) -> str:
        """Return what stands in the cell in plain text."""
        if self.scale is not None:
            return self.scale.plain()
        return clean(self.text) if self.bar is None else bar(self.bar)


Row = Sequence[Cell | str]


def as_cell(cell: Cell | str) -> Cell:
    """Return a cell given as such or as its text."""
    return cell if isinstance(cell, Cell) else Cell(cell)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 for the page, 2 for a field, 3 inside it; `aside` stands beside it, quieter."""

    text: str
    level: int = 2
    aside: str = ""

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the heading, underlined on the first two levels."""
        words = clean(self.text) + (f"   ({clean(self.aside)})" if self.aside else "")
        shown = wrap(words, width)
        if self.level > 2:
            return ["", *shown]
        rule = "═" * width if self.level == 1 else "─" * width
        return [*([] if self.level == 1 else [""]), *shown, rule]


@dataclass(frozen=True, slots=True)
class Para:
    """A paragraph; a notice or a warning is marked as such in words by whoever writes it."""

    text: str
    tone: Tone = "plain"

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the paragraph, wrapped; notices have a rule at their side."""
        mark = "┃ " if self.tone in ("notice", "warning") else ""
        return [mark + line for line in wrap(clean(self.text), width - len(mark))]


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    tone: Tone = "plain"

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the items, each behind a bullet."""
        return [
            ("• " if number == 0 else "  ") + line
            for item in self.items
            for number, line in enumerate(wrap(clean(item), width - 2))
        ]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are: one pair per line."""

    pairs: Sequence[tuple[str, str]]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return one line per pair, the names in a column of their own."""
        name_width = max((width_of(clean(name)) for name, _ in self.pairs), default=0) + len(GAP)
        return [
            (pad(clean(name), name_width) if number == 0 else " " * name_width) + line
            for name, value in self.pairs
            for number, line in enumerate(wrap(clean(value), width - name_width))
        ]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A text that is shown as it stands, line by line: a prompt, a reply, the text that was annotated."""

    text: str

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the text indented, long lines wrapped."""
        lines = []
        for line in self.text.expandtabs(4).splitlines() or [""]:
            indent = re.match(r" *", line)[0][: width // 2]  # type: ignore[index]
            shown = wrap(harmless(line), width - 4 - len(indent))
            lines += [f"    {indent}{piece}".rstrip() for piece in shown]
        return lines


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks behind a title that opens them; in plain text they stand below it."""

    title: str
    blocks: Sequence[Block]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the title and the blocks, indented."""
        inside = page_lines(self.blocks, width - 2)
        return [clean(self.title), *(f"  {line}".rstrip() for line in inside)]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that can be folded where pages fold; in plain text it stands under its heading."""

    title: str
    blocks: Sequence[Block]
    aside: str = ""
    opened: bool = False

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the heading and the blocks, not indented."""
        return page_lines([Heading(self.title, 2, self.aside), *self.blocks], width)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes
    ----------
    rows
        One sequence of cells per row; a row that is a text runs across all columns, below the row before it.
    align
        One letter per column: ``l`` words, ``r`` numbers, ``i`` intervals, which are never broken.
    notes
        What stands below the table: footnotes, what a sign means.
    stacked
        Whether its rows are blocks on a narrow page: name, numbers, and the scale in the fifth column below them.
    """

    header: Row
    rows: Sequence[Row | str]
    align: str
    caption: str = ""
    notes: Sequence[str] = ()
    stacked: bool = False

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the table, columns aligned, cells of words wrapped where the table would be too wide."""
        header = [as_cell(cell).plain() for cell in self.header]
        body = [row if isinstance(row, str) else [as_cell(cell).plain() for cell in row] for row in self.rows]
        widths = self._widths(header, [row for row in body if not isinstance(row, str)], width)
        lines = wrap(clean(self.caption), width) if self.caption else []
        if any(header):
            lines += [*self._line(header, widths), GAP.join("─" * w for w in widths)]
        for row in body:
            if isinstance(row, str):
                lines += [f"  {line}" for line in wrap(clean(row), width - 2)]
            else:
                lines += self._line(row, widths)
        for note in self.notes:
            lines += wrap(clean(note), width)
        return lines

    def _widths(self, header: list[str], rows: list[list[str]], width: int) -> list[int]:
        """Return the columns' widths: as wide as their cells, words narrower where they have to be."""
        columns = list(zip(header, *rows, strict=True))
        widths = [max(map(width_of, column)) for column in columns]
        least = [
            max([*map(width_of, column[1:]), *map(width_of, column[0].split())], default=0)
            if align in "ri"
            else max([min(natural, NARROWEST), *(min(w, WORD) for w in map(width_of, column[0].split()))])
            for column, align, natural in zip(columns, self.align, widths, strict=True)
        ]
        excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
        while excess > 0:
            slack = [natural - low for natural, low in zip(widths, least, strict=True)]
            widest = max(range(len(widths)), key=lambda i: (slack[i] > 0, widths[i]))
            if slack[widest] <= 0:
                break
            widths[widest] -= 1
            excess -= 1
        return widths

    def _line(self, cells: list[str], widths: list[int]) -> list[str]:
        pieces = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
        return [
            GAP.join(
                pad(piece[number] if number < len(piece) else "", width, align)
                for piece, width, align in zip(pieces, widths, self.align, strict=True)
            ).rstrip()
            for number in range(max(map(len, pieces)))
        ]


class Footnotes:
    """Gives each remark a number and keeps them for the foot of a table."""

    def __init__(self) -> None:
        self._remarks: dict[str, str] = {}

    def mark(self, remark: str) -> str:
        """Return the raised number of a remark, the same one for the same words; "" without a remark.

        >>> notes = Footnotes()
        >>> notes.mark("a"), notes.mark("b"), notes.mark("a"), notes.mark("")
        ('¹', '²', '¹', '')
        """
        if not remark:
            return ""
        new = str(len(self._remarks) + 1).translate(SUPERSCRIPT)
        return self._remarks.setdefault(remark, new)

    @property
    def lines(self) -> tuple[str, ...]:
        """The remarks behind their numbers."""
        return tuple(f"{mark} {remark}" for remark, mark in self._remarks.items())


def page_lines(blocks: Iterable[Block], width: int = WIDTH) -> list[str]:
    """Return blocks as lines of plain text, parted by blank lines."""
    page: list[str] = []
    after_heading = True
    for block in blocks:
        lines = block.lines(width)
        if not lines:
            continue
        if page and not after_heading and lines[0] != "":
            page.append("")
        page += lines
        after_heading = isinstance(block, Heading)
    return page


def page_text(blocks: Iterable[Block], width: int = WIDTH) -> str:
    """Return blocks as plain text."""
    return "\n".join(page_lines(blocks, width)) + "\n"
