"""Blocks as HTML: everything escaped, no script, no id, no address; readable without its style sheet.

JupyterLab removes style sheets, scripts and SVG from a notebook that is not trusted. What a colour means therefore
stands in an inline style and in words as well; the style sheet below only makes it handsome. Colours are those of the
page around (``--jp-*``, ``--vscode-*``, else inherited), tints are transparent, so that both light and dark suit.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from functools import singledispatch
from itertools import groupby
from typing import Any

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

STYLE = """
.nbannot{font-family:var(--jp-content-font-family,var(--vscode-font-family,system-ui,sans-serif));font-size:13px;
line-height:1.45;color:var(--jp-content-font-color1,var(--vscode-editor-foreground,inherit));max-width:70em;
overflow-x:auto;overflow-wrap:break-word;font-variant-numeric:tabular-nums;print-color-adjust:exact}
.nbannot *{box-sizing:border-box}
.nbannot h3,.nbannot h4,.nbannot h5{font-weight:600;line-height:1.25;margin:0}
.nbannot h3{font-size:17px;margin:.2em 0 .45em}
.nbannot h4{font-size:15px;margin:1.5em 0 .35em;padding-top:.8em;border-top:1px solid rgba(128,128,128,.35)}
.nbannot h5{font-size:13px;margin:1em 0 .2em}
.nbannot h3 small,.nbannot h4 small,.nbannot h5 small{font-weight:400;font-size:12px;opacity:.72;margin-left:.5em;
display:inline-block}
.nbannot p{margin:.45em 0;max-width:52em}
.nbannot ul{margin:.45em 0;padding-left:1.3em;max-width:52em}
.nbannot li{margin:.15em 0}
.nbannot table{border-collapse:collapse;border:0;margin:.55em 0;font-size:13px;display:table;width:auto}
.nbannot .t{overflow-x:auto}
.nbannot caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0 .25em;white-space:nowrap}
.nbannot thead{border-bottom:1px solid rgba(128,128,128,.55)}
.nbannot tr,.nbannot tbody tr:nth-child(n){background:none}
.nbannot th,.nbannot td{padding:.18em .75em .18em 0;vertical-align:top;border:0;max-width:34em;white-space:normal;
text-align:left;line-height:1.4}
.nbannot th{font-weight:400;opacity:.72;vertical-align:bottom}
.nbannot tbody th{opacity:1}
.nbannot th[align=right],.nbannot td[align=right]{text-align:right}
.nbannot td[align=right]{white-space:nowrap}
.nbannot td.q+td.q,.nbannot td.i{padding-left:0}
.nbannot td.i{white-space:nowrap}
.nbannot td.w{overflow-wrap:anywhere;min-width:14em}
.nbannot table.m td,.nbannot table.m th{padding:.28em .6em}
.nbannot table.m td:first-child,.nbannot table.m th:first-child{padding-left:0}
.nbannot table.m td[align=right]{min-width:3em}
.nbannot table.s{margin:.3em 0}
.nbannot table.f td{max-width:54em}
.nbannot tr.g td{border-top:1px solid rgba(128,128,128,.25)}
.nbannot table.f td:first-child{opacity:.72;white-space:nowrap;padding-right:1.2em}
.nbannot .q{opacity:.72}
.nbannot pre{white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;font-size:12px;margin:.4em 0;
padding:.5em .7em;background:rgba(128,128,128,.1);border:0;color:inherit;max-height:32em;overflow:auto}
.nbannot details{margin:.5em 0}
.nbannot summary{cursor:pointer}
.nbannot details.n{margin:.6em 0;padding-top:.55em;border-top:1px solid rgba(128,128,128,.35)}
.nbannot details.n>summary{font-size:15px}.nbannot summary small{font-size:12px;opacity:.72;margin-left:.5em}
.nbannot img{max-width:100%;height:auto;background:none}
@media (max-width:600px){.nbannot img{max-width:none}
.nbannot th,.nbannot td{padding-right:.5em}.nbannot td.l{min-width:12em}}
@media print{.nbannot,.nbannot table{color:#1b1b1b;background:#fff}.nbannot td{overflow-wrap:anywhere}
.nbannot td.l,.nbannot td.w{min-width:0}.nbannot pre{max-height:none;overflow:visible}
.nbannot,.nbannot .t{overflow:visible;max-width:none}
.nbannot details::details-content{content-visibility:visible;block-size:auto}
.nbannot table{font-size:11px}.nbannot tr,.nbannot img{break-inside:avoid}}
""".replace("\n", "")
"""The style sheet: every rule stands below ``.nbannot``."""

LEFT = "text-align:left"
NOTICE = "border-left:3px solid rgba(70,130,200,.8);padding:.2em 0 .2em .7em"
WARNING = "border-left:3px solid rgba(215,120,20,.9);padding:.2em 0 .2em .7em"
AGREEMENT, ERROR = "46,134,193", "222,110,30"
"""Colours (red, green, blue) of what is right and what is wrong; chosen to differ for the colour-blind, too."""

STRONGEST = 0.62
"""Opacity of the strongest tint: text on it stays legible in light and dark."""

BAR_PIXELS = 140
LONG_WORD = 40
"""Longer words may be broken anywhere, or they would push the next column out of sight."""
LONG_NAME = 12
"""Longer words may be broken behind _ and /, as names of runs and columns are made with them."""
LONG_TEXT = 60
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
    return escape(text) if text.isascii() else f"<bdi>{escape(text)}</bdi>"


def breakable(text: str) -> str:
    """Return a cell's text as HTML; long names in it can go on in the next line behind ``_`` and ``/``.

    >>> breakable("mock/a_standard"), breakable("and/or")
    ('mock/<wbr>a_<wbr>standard', 'and/or')
    """
    shown = escape(text)
    if any(len(word) > LONG_NAME for word in text.split()):
        shown = JOINT.sub(r"\1<wbr>", shown)
    return shown if text.isascii() else f"<bdi>{shown}</bdi>"


def tint(strength: float) -> str:
    """Return the inline style of a tinted background, "" for none; see `Cell.tint`."""
    if not strength:
        return ""
    colour = AGREEMENT if strength > 0 else ERROR
    return f"background-color:rgba({colour},{min(1.0, abs(strength)) * STRONGEST:.2f})"


def page_html(blocks: Iterable[Block], *, styled: bool = True) -> str:
    """Return blocks as one HTML fragment, with its style sheet unless told otherwise."""
    inside = "".join(as_html(block) for block in blocks)
    style = f"<style>{STYLE}</style>" if styled else ""
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
    if block.tone in ("warning", "strong"):
        text = f"<b>{text}</b>"
    return element("p", text, class_="q" if block.tone == "quiet" else "", style=style)


@register
def _(block: Bullets) -> str:
    items = "".join(f"<li>{isolated(item)}</li>" for item in block.items)
    return element("ul", items, class_="q" if block.tone == "quiet" else "")


@register
def _(block: Facts) -> str:
    rows = "".join(
        f"<tr>{element('td', isolated(name), style=LEFT)}{element('td', isolated(value), style=LEFT)}</tr>"
        for name, value in block.pairs
    )
    return f'<table class="f"><tbody>{rows}</tbody></table>'


@register
def _(block: Verbatim) -> str:
    return element("pre", isolated(block.text))


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
        cells = "".join(_cell("th", cell, align) for cell, align in zip(header, block.align, strict=True))
        head = f"<thead><tr>{cells}</tr></thead>"
    tinted = any(as_cell(c).tint for row in block.rows if not isinstance(row, str) for c in row)
    body: list[str] = []
    for row in block.rows:
        if isinstance(row, str):
            cell = element("td", isolated(row), class_="q", colspan=len(header), style=LEFT)
        else:
            cell = "".join(_cell("td", as_cell(c), align) for c, align in zip(row, block.align, strict=True))
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
    return element("div", element("table", table, class_="m" if tinted else ""), class_="t") + notes


def _cell(name: str, cell: Cell, align: str) -> str:
    text = breakable(cell.text)
    if cell.bar is not None:
        width = round(max(0.0, min(1.0, cell.bar)) * BAR_PIXELS)
        style = f"background-color:rgba({AGREEMENT},.55);width:{width}px"
        text = element("div", "&nbsp;", style=style)
    if cell.scale is not None:
        text = _scale(cell.scale, cell.text)
    if cell.tone == "strong":
        text = f"<b>{text}</b>"
    right = align == "r"
    style = ";".join(part for part in (tint(cell.tint), "" if right else LEFT) if part)
    long = any(len(word) > LONG_WORD for word in cell.text.split())
    kinds = {"q": cell.tone == "quiet", "i": align == "i", "w": long, "l": len(cell.text) > LONG_TEXT}
    kind = " ".join(kind for kind, holds in kinds.items() if holds)
    return element(name, text, class_=kind, align="right" if right else "", style=style, title=cell.title)


SCALE_PIXELS = 150
INSIDE, VALUE, TICK = f"rgba({AGREEMENT},.45)", f"rgb({AGREEMENT})", f"rgb({ERROR})"


def _scale(scale: Scale, words: str) -> str:
    """Return a scale as a row of coloured cells: what is left of a style in a notebook that is not trusted."""
    colours = [""] * SCALE_PIXELS
    first, last = (scale.at(limit, SCALE_PIXELS) for limit in scale.interval)
    if first is not None and last is not None:
        colours[first : last + 1] = [INSIDE] * (last + 1 - first)
    for value, colour, half in ((scale.value, VALUE, 2), (scale.tick, TICK, 1)):
        if value is not None and (place := scale.at(value, SCALE_PIXELS)) is not None:
            begin, end = max(0, place - half), min(SCALE_PIXELS, place + half)
            colours[begin:end] = [colour] * (end - begin)
    cells = "".join(
        f'<td style="padding:0;width:{len(list(run))}px{colour and f";background-color:{colour}"}"></td>'
        for colour, run in groupby(colours)
    )
    style = f"background-color:rgba(128,128,128,.16);width:{SCALE_PIXELS}px;height:11px;border-spacing:0"
    return f'<table class="s" title="{escape(words)}" style="{style}"><tbody><tr>{cells}</tr></tbody></table>'
