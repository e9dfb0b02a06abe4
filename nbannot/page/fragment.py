"""A fragment: something to look at, as HTML for a notebook and as plain text for everywhere else."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError, listed
from nbannot.page.blocks import Block, page_text
from nbannot.page.figure import Figure
from nbannot.page.html import page_html
from nbannot.page.latex import tables_latex
from nbannot.page.markdown import page_markdown
from nbannot.tools.files import write_for_user
from nbannot.tools.given import path_or

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{margin:2em auto;max-width:66em;padding:0 1em;background:Canvas;
color:CanvasText}}@page{{size:A4;margin:15mm}}@media print{{body{{margin:0;max-width:none}}}}</style></head>
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
    blocks
        What both are made of.
    """

    html: str
    text: str
    figures: tuple[Figure, ...] = ()
    blocks: tuple[Block, ...] = field(default=(), compare=False)

    @property
    def figure(self) -> Figure | None:
        """The first plot in it; ``None`` for displays without one."""
        return self.figures[0] if self.figures else None

    @classmethod
    def of(cls, blocks: Iterable[Block], *figures: Figure, styled: bool = True) -> Fragment:
        """Return the fragment that shows these blocks; without the style sheet where that is not worth its size."""
        blocks = list(blocks)
        return cls(page_html(blocks, styled=styled), page_text(blocks), figures, tuple(blocks))

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
        """Write the display to a file, by its ending.

        ``.html``
            A page; printed from a browser, every section is open.
        ``.pdf``
            That page, printed by a browser of the Chromium family that is on this machine.
        ``.docx``
            A Word document with real tables (``pip install 'nbannot[word]'``).
        ``.md``, ``.txt``
            Markdown with real tables, plain text.

        Raises
        ------
        NbannotError
            If the file name ends in something else, what the format needs is missing, or it cannot be written.
        """
        target = path_or(NbannotError, path)
        writers: dict[str, Callable[[], str | bytes]] = {
            ".html": lambda: self._page(target.stem),
            ".txt": lambda: self.text,
            ".md": lambda: page_markdown(self.blocks),
            ".docx": lambda: self._docx(target.stem),
            ".pdf": lambda: self._pdf(target.stem),
        }
        if target.suffix.lower() not in writers:
            hint = " A plot is saved by .figure.save(path)." if self.figure is not None else ""
            raise NbannotError(
                f"a display is saved as {listed(writers)}. Got '{target.name}'.\n"
                f"  Write save('{target.stem}.html').{hint}"
            )
        content = writers[target.suffix.lower()]()
        write_for_user(target, content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
        return target

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return every table of the display as LaTeX for a journal; see `nbannot.page.latex.tables_latex`."""
        return tables_latex(self.blocks, caption, label)

    def _page(self, title: str) -> str:
        return PAGE.format(title=html.escape(title), body=self.html)

    def _docx(self, title: str) -> bytes:
        from nbannot.page.word import page_docx

        return page_docx(self.blocks, title)

    def _pdf(self, title: str) -> bytes:
        from nbannot.page.printed import pdf_of

        return pdf_of(self._page(title))
