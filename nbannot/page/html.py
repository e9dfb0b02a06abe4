"""Blocks as HTML: everything escaped, no script, no id, no address; readable without its style sheet.

JupyterLab removes style sheets, scripts and SVG from a notebook that is not trusted. What a colour means therefore
stands in an inline style and in words as well; the style sheet below only makes it handsome. Colours are those of the
page around (``--jp-*``, ``--vscode-*``, else inherited), tints are transparent, so that both light and dark suit.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from itertools import groupby
from typing import Any
from unicodedata import bidirectional

from nbannot.page.blocks import (
    Block,
    Bullets,
    Cell,
    Facts,
    Fold,
    Grid,
    Heading,
    Para,
    Scale,
    Section,
    Verbatim,
    as_cell,
)
from nbannot.page.style import style_of
from nbannot.page.widths import width_of

LEFT = "text-align:left"
NOTICE = "border-left:3px solid rgba(70,130,200,.8);padding:.2em 0 .2em .7em"
WARNING = "border-left:3px solid rgba(215,120,20,.9);padding:.2em 0 .2em .7em"
AGREEMENT, ERROR = "46,134,193", "222,110,30"
"""Colours (red, green, blue) of what is right and what is wrong; chosen to differ for the colour-blind, too."""

STRONGEST = 0.55
"""Opacity of the strongest tint: text on it stays legible in light and dark."""

EMPTY = Cell("")
BAR_PIXELS = 140
MAY_SCROLL = 4
"""Tables of so many columns may be wider than the page: they can be reached, and moved, by keyboard."""
LONG_WORD = 40
"""Longer words may be broken anywhere, or they would push the next column out of sight."""
LONG_NAME = 12
"""Longer words may be broken behind _ and /, as names of runs and columns are made with them."""
LONG_TEXT, SHORT_TEXT = 60, 24
"""Longer texts keep some width on a narrow screen, where they would else stand as a column of words."""


def escape(text: object) -> str:
    """Return a text as HTML: nothing in it is markup, and controls are visible.

    >>> escape("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return html.escape(str(text), quote=True).translate(CONTROLS)


CONTROLS = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)), "\ufffd"
)


ONE_WAY = frozenset(("L", "EN", "ES", "ET", "CS", "NSM", "B", "S", "WS", "ON"))
"""Kinds of characters (of the Unicode algorithm for both directions) that leave the text around them as it is."""
JOINT = re.compile(r"([_/])(?=\w)")


def element(name: str, content: str, /, **attributes: Any) -> str:
    """Return an HTML element; `content` is HTML already, attribute values are escaped, empty ones left out.

    >>> element("td", "1", align="right", title="")
    '<td align="right">1</td>'
    """
    attributes_text = "".join(
        f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    return f"<{name}{attributes_text}>{content}</{name}>"


def isolated(text: str) -> str:
    """Return a text as HTML whose direction of writing does not reach beyond it."""
    return f"<bdi>{escape(text)}</bdi>" if may_turn(text) else escape(text)


def may_turn(text: str) -> bool:
    """Return whether a text may be written from right to left, or holds marks of direction."""
    return not text.isascii() and any(bidirectional(c) not in ONE_WAY for c in text)


def breakable(text: str) -> str:
    """Return a cell's text as HTML; long names in it can go on in the next line behind ``_`` and ``/``.

    >>> breakable("mock/a_standard"), breakable("and/or")
    ('mock/<wbr>a_<wbr>standard', 'and/or')
    """
    shown = escape(text)
    if any(len(word) > LONG_NAME for word in text.split()):
        shown = JOINT.sub(r"\1<wbr>", shown)
    return f"<bdi>{shown}</bdi>" if may_turn(text) else shown


def tint(strength: float) -> str:
    """Return the inline style of a tinted background, "" for none; see `Cell.tint`."""
    if not strength:
        return ""
    colour = AGREEMENT if strength > 0 else ERROR
    return f"background-color:rgba({colour},{min(1.0, abs(strength)) * STRONGEST:.2f})"


def page_html(blocks: Iterable[Block], *, styled: bool = True) -> str:
    """Return blocks as one HTML fragment, with its style sheet unless told otherwise."""
    inside = "".join(as_html(block) for block in blocks)
    style = f"<style>{style_of(inside)}</style>" if styled else ""
    return f'<div class="nbannot">{style}{inside}</div>'


@singledispatch
def as_html(block: Any) -> str:
    """Return a block as HTML; the displays register their own kinds of block here."""
    raise TypeError(f"no HTML for {type(block).__name__}")


register: Callable[..., Any] = as_html.register


@register
def _(block: Heading) -> str:
    aside = f" <small>{isolated(block.aside)}</small>" if block.aside else ""
    return element(f"h{block.level + 2}", isolated(block.text) + aside)


@register
def _(block: Para) -> str:
    style = {"notice": NOTICE, "warning": WARNING}.get(block.tone, "")
    text = isolated(block.text)
    if block.tone in ("warning", "strong", "verdict"):
        text = f"<b>{text}</b>"
    return element("p", text, class_={"quiet": "q", "verdict": "v"}.get(block.tone, ""), style=style)


@register
def _(block: Bullets) -> str:
    items = "".join(f"<li>{isolated(item)}</li>" for item in block.items)
    return element("ul", items, class_="q" if block.tone == "quiet" else "")


@register
def _(block: Facts) -> str:
    pairs = "".join(
        f"<dt>{isolated(name)}</dt>{element('dd', isolated(value))}" for name, value in block.pairs
    )
    return f"<dl>{pairs}</dl>"


@register
def _(block: Verbatim) -> str:
    return element("pre", isolated(block.text), tabindex="0")


@register
def _(block: Fold) -> str:
    inside = "".join(as_html(part) for part in block.blocks)
    return f"<details><summary>{isolated(block.title)}</summary>{inside}</details>"


@register
def _(block: Section) -> str:
    inside = "".join(as_html(part) for part in block.blocks)
    aside = f" <small>{isolated(block.aside)}</small>" if block.aside else ""
    title = f"<summary><b>{isolated(block.title)}</b>{aside}</summary>"
    return f'<details class="n"{" open" if block.opened else ""}>{title}{inside}</details>'


@register
def _(block: Grid) -> str:
    header = [as_cell(cell) for cell in block.header]
    caption = f"<caption>{isolated(block.caption)}</caption>" if block.caption else ""
    head = ""
    if any(cell.text for cell in header):
        cells = "".join(_cell("th", c, align) for c, align in zip(header, block.align, strict=True))
        head = f"<thead><tr>{cells}</tr></thead>"
    tinted = any(as_cell(c).tint for row in block.rows if not isinstance(row, str) for c in row)
    body: list[str] = []
    for row in block.rows:
        if isinstance(row, str):
            cell = element("td", isolated(row), class_="q", colspan=len(header), style=LEFT)
        else:
            cell = "".join(
                _cell("th" if names_row(place, as_cell(c)) else "td", as_cell(c), align)
                for place, (c, align) in enumerate(zip(row, block.align, strict=True))
            )
        begins = (
            bool(body)
            and not tinted
            and block.align[0] == "l"
            and not isinstance(row, str)
            and as_cell(row[0]).tone == "strong"
        )
        body.append(element("tr", cell, class_="g" if begins and as_cell(row[0]).text else ""))
    notes = "".join(element("p", isolated(note), class_="q") for note in block.notes)
    table = f"{caption}{head}<tbody>{''.join(body)}</tbody>"
    kind = "h" if block.stacked else "m" if tinted and block.align[1:].strip("r") == "" else ""
    style = f"--w:{_equal_width(header)}em" if kind == "m" else ""
    tabindex = "0" if len(header) >= MAY_SCROLL and not block.stacked else ""
    return (
        element("div", element("table", table, class_=kind, style=style), class_="t", tabindex=tabindex)
        + notes
    )


def _equal_width(header: Sequence[Cell]) -> int:
    """Return the width of the cells of a matrix, all of them as wide as the longest label, in em."""
    return min(8, max(3, *(round(width_of(cell.text) * 0.6) for cell in header[1:])))


def names_row(place: int, cell: Cell) -> bool:
    """Return whether a cell is the heading of its row: a strong first one."""
    return place == 0 and cell.tone == "strong" and bool(cell.text)


def _cell(name: str, cell: Cell, align: str) -> str:
    if cell == EMPTY:  # a column without a name has no heading either
        return "<td></td>"
    text = breakable(cell.text)
    if cell.bar is not None:
        width = round(max(0.0, min(1.0, cell.bar)) * BAR_PIXELS)
        style = f"background-color:rgba({AGREEMENT},.55);width:{width}px"
        text = element("div", "&nbsp;", style=style)
    if cell.scale is not None:
        text = _scale(cell.scale, cell.text)
    if cell.tone == "strong" and text:
        text = f"<b>{text}</b>"
    if cell.share is not None:
        text += _share(cell.share)
    right = align == "r"
    style = ";".join(part for part in (tint(cell.tint), "" if right else LEFT) if part)
    long = any(len(word) > LONG_WORD for word in cell.text.split())
    kinds = {
        "q": cell.tone == "quiet",
        "i": align == "i",
        "w": long,
        "l": len(cell.text) > LONG_TEXT,
        "p": SHORT_TEXT < len(cell.text) <= LONG_TEXT,
    }
    kind = " ".join(kind for kind, holds in kinds.items() if holds)
    scope = "row" if name == "th" and cell.tone == "strong" else ""
    return element(
        name, text, class_=kind, align="right" if right else "", style=style, title=cell.title, scope=scope
    )


def _share(share: float) -> str:
    """Return a share as a thin bar, which stands below the words that say it."""
    filled = f"background-color:{VALUE};padding:1.5px 0;width:{min(1.0, max(0.0, share)):.0%}"
    return f'<div style="background-color:{TRACK}"><div style="{filled}"></div></div>'


SCALE_PIXELS = 150
INSIDE, VALUE, TICK, TRACK, BAND = "#2e86c173", "#2e86c1", "#de6e1e", "#80808029", "#8080806e"
"""Colours of a scale, which are `AGREEMENT` and `ERROR` in fewer letters: a card has many of these cells."""


def _scale(scale: Scale, words: str) -> str:
    """Return a scale as a row of coloured cells: what is left of a style in a notebook that is not trusted."""
    colours = [""] * SCALE_PIXELS
    for limits, colour in ((scale.band or (math.nan, math.nan), BAND), (scale.interval, INSIDE)):
        first, last = (scale.at(limit, SCALE_PIXELS) for limit in limits)
        if first is not None and last is not None:
            colours[first : last + 1] = [colour] * (last + 1 - first)
    for value, colour, half in ((scale.value, VALUE, 2), (scale.tick, TICK, 1)):
        if value is not None and (place := scale.at(value, SCALE_PIXELS)) is not None:
            begin, end = max(0, place - half), min(SCALE_PIXELS, place + half)
            colours[begin:end] = [colour] * (end - begin)
    cells = "".join(
        f'<td style="padding:0;width:{len(list(run))}px{colour and f";background-color:{colour}"}"></td>'
        for colour, run in groupby(colours)
    )
    style = f"background-color:{TRACK};width:{SCALE_PIXELS}px;height:11px;border-spacing:0"
    said = escape(words)
    return f'<table class="s" role="img" title="{said}" style="{style}"><tr>{cells}</tr></table>'
