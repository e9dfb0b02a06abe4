"""Figures: a drawing of lines, bars, dots and words, shown as an image and saved as SVG, PNG or PDF.

The SVG is written here. PNG and PDF are drawn from the same marks by matplotlib, where it is installed.

The image on a page has both sets of colours in it and takes the ones of the theme around it: the style sheet of the
page (`nbannot.page.html`) says to the image whether that is dark. Without style sheet it is a light card. What is saved
is always light, as paper is.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nbannot.errors import NbannotError
from nbannot.page.blocks import WIDTH, Block
from nbannot.page.html import as_html, element, escape
from nbannot.page.markdown import as_markdown, markdown_text
from nbannot.page.widths import wide
from nbannot.tools.files import write_for_user
from nbannot.tools.given import path_or

INK, QUIET, RULE, PAPER = "#22262b", "#5b636e", "#d4d8dd", "#ffffff"
BLUE, ORANGE = "#1f77b4", "#d1661a"
DARK = {
    INK: "#e6e9ed",
    QUIET: "#aab2bc",
    RULE: "#3d444c",
    PAPER: "#111111",
    BLUE: "#5fb0e8",
    ORANGE: "#f29a55",
}
"""Each colour as it is drawn where the page is dark."""
NARROW = 600
"""Pages of fewer pixels are shown the narrow drawing of a figure that has one."""
SHRINKS_TO = 460
"""Wider drawings are not made smaller on a narrow page, where their words would be illegible, but can be moved."""
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
CHAR_WIDTH, WIDE_CHAR = 0.56, 1.0
"""Width of an average character in units of the font size, for margins; of a Chinese, Japanese or Korean one."""
CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "PingFang SC", "Hiragino Sans",
             "Microsoft YaHei", "Malgun Gothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
             "Arial Unicode MS")  # fmt: skip
"""Fonts that matplotlib is to try for what its own lacks."""

Anchor = Literal["start", "middle", "end"]
SAVED_AS = (".svg", ".png", ".pdf")


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str = RULE
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    color: str
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A circle, filled or open."""

    x: float
    y: float
    r: float = 4.5
    color: str = BLUE
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Words:
    """A text at a point."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    size: float = 12.0
    color: str = INK
    bold: bool = False


Mark = Line | Box | Dot | Words


@dataclass(frozen=True)
class Figure:
    """A drawing; `y` grows downwards, units are pixels.

    Attributes
    ----------
    says
        What it shows, in words: the alternative text of the image.
    twin
        The same numbers for plain text; ``None`` where a table beside the image says them in both.
    narrow
        The same drawing for a narrow page, e.g. of a phone.
    """

    width: float
    height: float
    marks: Sequence[Mark]
    says: str
    twin: Block | None = None
    narrow: Figure | None = None

    def svg(self, *, themed: bool = False) -> str:
        """Return the drawing as SVG; themed, it has the colours of a dark page in it, too."""
        style = f"<style>{_dark_rules(self.marks)}</style>" if themed else ""
        inside = "".join(_svg_of(mark) for mark in self.marks)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{escape(FONT)}" role="img">'
            f"<title>{escape(self.says)}</title>{style}"
            f'<rect class="p" width="100%" height="100%" rx="4" fill="{PAPER}"/>{inside}</svg>'
        )

    def image(self) -> str:
        """Return an HTML image that holds the drawing itself: it survives where bare SVG is removed."""
        size = f"{self.width:g}"
        image = element("img", "", src=self._address(), alt=self.says, width=size).removesuffix("</img>")
        if self.narrow is None:
            return image
        small = element("source", "", media=f"(max-width:{NARROW}px)", srcset=self.narrow._address())
        return element("picture", small.removesuffix("</source>") + image)

    def _address(self) -> str:
        drawing = self.svg(themed=True).encode("utf-8", "replace")
        return f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"

    def save(self, path: str | Path) -> Path:
        """Write the drawing to a file: ``.svg``, or by matplotlib ``.png`` or ``.pdf``.

        Raises
        ------
        NbannotError
            If the file name ends in something else, matplotlib is needed and missing, or the file cannot be written.
        """
        target = path_or(NbannotError, path)
        kind = target.suffix.lower()
        if kind not in SAVED_AS:
            raise NbannotError(
                f"a figure is saved as {', '.join(SAVED_AS)}. Got '{target.name}'.\n"
                f"  Write save('{target.stem}.svg')."
            )
        write_for_user(target, self.content(kind[1:]))
        return target

    def content(self, kind: str) -> bytes:
        """Return the drawing as the content of a file of this kind: svg, png or pdf."""
        return self.svg().encode("utf-8", "replace") if kind == "svg" else self._by_matplotlib(kind)

    def _by_matplotlib(self, kind: str) -> bytes:
        try:
            from matplotlib import rc_context
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure as Canvas
        except ImportError:
            raise NbannotError(
                f"a figure is saved as .{kind} by matplotlib, which is not installed.\n"
                "  Save it as .svg, or type: pip install matplotlib"
            ) from None
        out = io.BytesIO()
        given_fonts = rc_context({"pdf.fonttype": 42, "font.family": _fonts()})
        with warnings.catch_warnings(record=True) as told, given_fonts:
            warnings.simplefilter("always")
            canvas = Canvas(figsize=(self.width / 96, self.height / 96), dpi=96, facecolor=PAPER)
            FigureCanvasAgg(canvas)
            axes = canvas.add_axes((0, 0, 1, 1))
            axes.set_xlim(0, self.width)
            axes.set_ylim(self.height, 0)
            axes.axis("off")
            for mark in self.marks:
                _draw(axes, mark)
            canvas.savefig(out, format=kind, dpi=192)
        if any("missing from" in str(warning.message) for warning in told):
            warnings.warn(
                "no font of this machine has every character of the plot: boxes stand for them. Install Noto Sans CJK, "
                "or save it as .svg, which takes the fonts of whoever opens it",
                stacklevel=4,
            )
        return out.getvalue()

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the twin in plain text, if there is one."""
        return self.twin.lines(width) if self.twin is not None else []


@as_markdown.register
def _(block: Figure) -> str:
    return "\n\n".join([f"*{markdown_text(block.says)}*", *([as_markdown(block.twin)] if block.twin else [])])


@as_html.register
def _(block: Figure) -> str:
    scrolls = block.narrow is None and block.width > SHRINKS_TO
    return element("p", block.image(), class_="t" if scrolls else "", tabindex="0" if scrolls else "")


def text_width(text: str, size: float = 12.0) -> float:
    """Return about how many pixels a text takes.

    >>> round(text_width("ab")), round(text_width("日本"))
    (13, 24)
    """
    return sum(WIDE_CHAR if wide(character) else CHAR_WIDTH for character in text) * size


def _dark_rules(marks: Sequence[Mark]) -> str:
    """Return the rules by which the drawing changes its colours on a dark page."""
    used = {mark.color for mark in marks} | {PAPER}
    rules = "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}'
        for light, dark in DARK.items()
        if light in used
    )
    return f"@media (prefers-color-scheme:dark){{{rules}.p{{fill:none}}}}"


def _fonts() -> list[str]:
    """Return the fonts that matplotlib draws with: its own one, then those of this machine for what that lacks."""
    from matplotlib import font_manager

    here = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in here)]


def _svg_of(mark: Mark) -> str:
    if isinstance(mark, Line):
        dash = ' stroke-dasharray="4 3"' if mark.dashed else ""
        return (
            f'<line x1="{mark.x1:.1f}" y1="{mark.y1:.1f}" x2="{mark.x2:.1f}" y2="{mark.y2:.1f}" '
            f'stroke="{mark.color}" stroke-width="{mark.width:g}"{dash}/>'
        )
    if isinstance(mark, Box):
        return (
            f'<rect x="{mark.x:.1f}" y="{mark.y:.1f}" width="{mark.width:.1f}" height="{mark.height:.1f}" '
            f'fill="{mark.color}" fill-opacity="{mark.opacity:g}"/>'
        )
    if isinstance(mark, Dot):
        fill = mark.color if mark.filled else PAPER
        return (
            f'<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{mark.r:g}" fill="{fill}" '
            f'stroke="{mark.color}" stroke-width="1.5"/>'
        )
    weight = ' font-weight="600"' if mark.bold else ""
    return (
        f'<text x="{mark.x:.1f}" y="{mark.y:.1f}" font-size="{mark.size:g}" fill="{mark.color}" '
        f'text-anchor="{mark.anchor}" dominant-baseline="central"{weight}>{escape(mark.text)}</text>'
    )


def _draw(axes: Any, mark: Mark) -> None:
    """Draw a mark with matplotlib; a pixel is 0.75 points."""
    if isinstance(mark, Line):
        axes.plot(
            [mark.x1, mark.x2],
            [mark.y1, mark.y2],
            color=mark.color,
            linewidth=mark.width * 0.75,
            linestyle="--" if mark.dashed else "-",
            solid_capstyle="butt",
        )
    elif isinstance(mark, Box):
        axes.fill_between(
            [mark.x, mark.x + mark.width],
            mark.y,
            mark.y + mark.height,
            color=mark.color,
            alpha=mark.opacity,
            linewidth=0,
        )
    elif isinstance(mark, Dot):
        axes.plot(
            [mark.x],
            [mark.y],
            marker="o",
            markersize=mark.r * 1.5,
            markerfacecolor=mark.color if mark.filled else PAPER,
            markeredgecolor=mark.color,
            markeredgewidth=1.1,
        )
    else:
        axes.text(
            mark.x,
            mark.y,
            mark.text.replace("$", r"\$"),
            fontsize=mark.size * 0.75,
            color=mark.color,
            ha={"start": "left", "middle": "center", "end": "right"}[mark.anchor],
            va="center",
            fontweight="bold" if mark.bold else "normal",
        )
