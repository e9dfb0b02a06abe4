"""Pictures of notebooks at work for README and gallery; made only when PICTURES names the folder to put them in.

``PICTURES=docs/images python -m pytest tests/browser/test_gallery.py`` with the embedded model takes some minutes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

PICTURES = os.environ.get("PICTURES")
pytestmark = pytest.mark.skipif(not PICTURES, reason="PICTURES names no folder for pictures")

TIDY = """
.jp-NotebookPanel-toolbar, .jp-Notebook .jp-cell-toolbar {display: none !important}
.jp-Notebook .jp-Collapser {visibility: hidden}
.jp-Cell.jp-mod-active, .jp-Cell.jp-mod-selected {background: none !important; border-color: transparent !important}
.jp-OutputArea-output.jp-mod-scrolled, .jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea
  {max-height: none !important; box-shadow: none !important; overflow: visible !important}
"""
LOCAL = """%%annotate policy-sentiment -o run
model       = "local"      # embedded: no server, no key, no account
prompt_type = "standard"
temperature = 0
limit       = 32"""


def picture(page: Any, name: str, *, clip: Any = None) -> None:
    """Save what a page, or one element of it, shows."""
    page.add_style_tag(content=TIDY)
    page.evaluate("() => document.activeElement && document.activeElement.blur()")
    page.wait_for_timeout(500)
    (clip or page).screenshot(path=Path(str(PICTURES)) / f"{name}.png")


def linked(jupyter: Any) -> None:
    """Let the runs of earlier picture sessions be found again, where PICTURE_RUNS names their folder."""
    runs = os.environ.get("PICTURE_RUNS")
    if runs and not (jupyter.work / "outputs").exists():
        (jupyter.work / "outputs").symlink_to(runs)


def test_quickstart(open_notebook, jupyter):
    linked(jupyter)
    cells = [
        "# How do texts judge public policy?",
        "%load_ext nbannot",
        LOCAL.replace(" -o run", ""),
        "%report",
    ]
    page = open_notebook(*cells, title="policy-sentiment", width=1140, height=1560)
    picture(page, "quickstart")
