"""Pictures of notebooks at work for README and gallery; made only when PICTURES names the folder to put them in.

``PICTURES=docs/images python -m pytest tests/browser/test_gallery.py`` makes them with the embedded model, in some
minutes; with PICTURE_RUNS, the ``outputs`` folder of an earlier time, at once.
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
.jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea {max-height: none !important}
.jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea::after {display: none !important}
"""
BEGIN = "import nbannot as nba\nfrom nbannot import displays\n%load_ext nbannot"
QUICKSTART = """%%annotate policy-sentiment
model       = "local"      # embedded: no server, no key, no account
prompt_type = "standard"
temperature = 0
limit       = 32"""
RUNS = """run = nba.run("policy-sentiment", model="local", limit=32)
feelings = nba.run("discrete-emotions", model="local", limit=12)
runs = [
    run,
    nba.run("policy-sentiment", model="local", limit=32, prompt_type="persona"),
    nba.run("policy-sentiment", model="local", limit=32, use_examples=False),
]"""
CODERS = """task, field = run.task, run.task.codebook["Direction"]

def coder(name, wrong_every):  # made up: with the human labels but for every so many texts
    said = [field.labels[i % 4] if i % wrong_every == 0 else label for i, label in enumerate(task.human(field.column))]
    return nba.made_up_coder(task, name, said, "Direction")

coders = [coder("anna", 5), coder("ben", 4), coder("chen", 3)]"""
GALLERY = {
    "report": ("run.report()", 1000),
    "confusion": ('displays.confusion(run, "Direction")', 700),
    "disagreements": ('displays.disagreements(run, "Direction", per_page=8)', 700),
    "spans": ('displays.span_view(feelings, "Roles", limit=6)', 900),
    "show": ("feelings.show(feelings.task.ids[3])", 700),
    "comparison": ('nba.compare(runs, metric="f1_macro", column="Direction")', 1000),
    "agreement": ('nba.agreement(coders, "Direction")', 700),
}
"""Picture -> the cell, and how much of it is shown, in pixels."""


@pytest.fixture
def notebook(open_notebook, jupyter):
    """Open notebooks, with the runs of an earlier time where PICTURE_RUNS names their folder."""
    earlier = os.environ.get("PICTURE_RUNS")
    if earlier and not (jupyter.work / "outputs").exists():
        (jupyter.work / "outputs").symlink_to(earlier)
    return open_notebook


def picture(page: Any, name: str, **clip: float) -> None:
    """Save what a page, or a part of it, shows."""
    page.add_style_tag(content=TIDY)
    page.evaluate("() => document.activeElement && document.activeElement.blur()")
    page.wait_for_timeout(500)
    options: dict[str, Any] = {"clip": clip} if clip else {}
    page.screenshot(path=Path(str(PICTURES)) / f"{name}.png", **options)


def picture_of_cell(page: Any, number: int, name: str, at_most: float) -> None:
    """Save what a cell shows, down to some height."""
    page.add_style_tag(content=TIDY)
    box = page.locator(".jp-Notebook .jp-Cell").nth(number).bounding_box()
    box["height"] = min(box["height"], at_most)
    picture(page, name, **box)


def test_quickstart(notebook):
    cells = ["# How do texts judge public policy?", "%load_ext nbannot", QUICKSTART, "%report"]
    page = notebook(*cells, title="policy-sentiment", width=1140, height=1560)
    picture(page, "quickstart")


def test_gallery(notebook):
    page = notebook(
        BEGIN, f"{RUNS}\n{CODERS}", *(cell for cell, _ in GALLERY.values()), width=1100, height=9000
    )
    for number, (name, (_, at_most)) in enumerate(GALLERY.items(), start=2):
        picture_of_cell(page, number, name, at_most)


def test_form(notebook):
    cell = 'form = nba.configure("policy-sentiment", model="local", limit=32)\nform'
    page = notebook(BEGIN, cell, width=1100, height=2000)
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("Temperature").fill("0, 0.7")
    page.get_by_label("Chat mode").select_option(
        ["per_query: each question alone", "per_text: one chat per text"]
    )
    page.get_by_text("4 runs, one for each").wait_for()
    picture_of_cell(page, 1, "form", 1100)


def test_desk(notebook):
    cell = 'nba.code("discrete-emotions", coder="anna", order="file")'
    page = notebook(BEGIN, cell, width=1100, height=1400)
    page.locator(".nba-root").focus()
    to_the_word = [*["Control+ArrowRight"] * 7, "ArrowRight", "Control+Shift+ArrowRight"]
    for key in [
        *"." * 7,
        "4",
        "Enter",
        "3",
        "Enter",
        *to_the_word,
        "1",
    ]:  # "I feel lonely on Thursday evenings."
        page.keyboard.press(key)
    page.locator(".nba-spans li").wait_for()
    picture_of_cell(page, 1, "desk", 760)
