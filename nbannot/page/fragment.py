"""A fragment: something to look at, as HTML for a notebook and as plain text for everywhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError, listed
from nbannot.page.blocks import Block, page_text
from nbannot.page.figure import Figure
from nbannot.page.html import page_html
from nbannot.tools.files import write_for_user
from nbannot.tools.given import path_or

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{margin:2em auto;max-width:66em;padding:0 1em;background:Canvas;
color:CanvasText}}</style></head>
<body>{body}</body></html>
"""


@dataclass(frozen=True, repr=False)
class Fragment:
    """A display: the same content as an HTML fragment and as plain text.

    Attributes
    ----------
    html
        One ``<div class="nbannot">`` without scripts, ids or addresses; every text in it is escaped.
    text
        Its twin in plain text.
    figures
        The plots in it, each to be saved as SVG, PNG or PDF.
    """

    html: str
    text: str
    figures: tuple[Figure, ...] = ()

    @property
    def figure(self) -> Figure | None:
        """The first plot in it; ``None`` for displays without one."""
        return self.figures[0] if self.figures else None

    @classmethod
    def of(cls, blocks: Iterable[Block], *figures: Figure, styled: bool = True) -> Fragment:
        """Return the fragment that shows these blocks; without the style sheet where that is not worth its size."""
        blocks = list(blocks)
        return cls(page_html(blocks, styled=styled), page_text(blocks), figures)

    def bundle(self) -> dict[str, str]:
        """Return both renderings by MIME type, as a notebook wants them."""
        return {"text/html": self.html, "text/plain": self.text}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.bundle()

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    def save(self, path: str | Path) -> Path:
        """Write the display to a file: a page (``.html``), plain text (``.txt``) or Markdown (``.md``).

        Raises
        ------
        NbannotError
            If the file name ends in something else, or cannot be written.
        """
        target = path_or(NbannotError, path)
        contents = {
            ".html": PAGE.format(title=html.escape(target.stem), body=self.html),
            ".txt": self.text,
            ".md": f"{_fence(self.text)}text\n{self.text}{_fence(self.text)}\n",
        }
        if target.suffix.lower() not in contents:
            hint = " A plot is saved by .figure.save(path)." if self.figure is not None else ""
            raise NbannotError(
                f"a display is saved as {listed(contents)}. Got '{target.name}'.\n"
                f"  Write save('{target.stem}.html').{hint}"
            )
        write_for_user(target, contents[target.suffix.lower()].encode("utf-8", "replace"))
        return target


def _fence(text: str) -> str:
    """Return a Markdown fence that does not occur in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return fence
