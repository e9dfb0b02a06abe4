"""The documentation as a site: `make docs`. Sphinx reads the pages, the docstrings and the stored lessons; nothing runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbannot

HERE = Path(__file__).parent

project = "nbannot"
author = "The nbannot authors"
project_copyright = "The nbannot authors, GPL-3.0-or-later"
release = version = nbannot.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["generate.py", "_build"]
suppress_warnings = ["misc.highlighting_failure"]  # a cell with a shell command is no plain Python

# Lessons are shown as they are stored: make notebooks runs them, and a site must not depend on a model.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
default_role = "code"  # one pair of backticks in a docstring is code, as in Markdown

html_theme = "furo"
html_title = "nbannot"
html_static_path = []
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}  # it stands outside every landmark of the page
linkcheck_ignore = [r"https?://.*"]  # built and checked without a network


def _lessons(app: object) -> None:
    """Copy the lessons beside the pages, where Sphinx can see them; they are kept once, in notebooks/."""
    place = HERE / "lessons"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for lesson in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copy(lesson, place / lesson.name)
    shutil.copy(HERE.parent / "notebooks" / "README.md", place / "index.md")


def _links(app: object, page: str, source: list[str]) -> None:
    """Lead links between docs/ and notebooks/, which hold in the repository, to the same pages of the site."""
    found = source[0].replace("](../notebooks/README.md", "](/lessons/index.md")
    found = found.replace("](../notebooks/", "](/lessons/").replace("](../docs/", "](/")
    source[0] = found.replace("](README.md", "](index.md") if page.startswith("lessons/") else found


ROOMS = {
    "study": "Codebook, task, settings",
    "asking": "Prompts",
    "models": "Models",
    "running": "Running",
    "record": "Runs and tables",
    "comparing": "Comparing",
    "inference": "From labels to findings",
    "desk": "People code",
    "exchange": "Other tools",
    "doors": "The form",
    "errors": "Errors",
}
"""Room -> heading of its public names, in the order of a study; a room that is missing here stops the build."""


def _reference(app: object) -> None:
    """Write the page of the public names, room by room, from the table that the package itself uses."""
    by_room: dict[str, list[tuple[str, str]]] = {room: [] for room in ROOMS}
    for name, home in nbannot._PUBLIC.items():
        by_room[home.split(".")[0]].append((name, f"nbannot.{home}.{name}"))
    lines = ["# Reference", "", "Every public name: `import nbannot as nba`, then `nba.<name>`.", ""]
    for room, names in by_room.items():
        lines += [f"## {ROOMS[room]}", ""] if names else []
        for name, dotted in sorted(names, key=lambda pair: pair[0].lower()):
            found = getattr(nbannot, name)
            kind = "autoclass" if isinstance(found, type) else "autofunction"
            members = ["   :members:", "   :inherited-members: Exception"] if kind == "autoclass" else []
            lines += [f"### {name}", "", "```{eval-rst}", f".. {kind}:: {dotted}", *members, "```", ""]
    (HERE / "api.md").write_text("\n".join(lines), encoding="utf-8")


ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    '<pre id="codecell': '<pre tabindex="0" id="codecell',
    "<pre><span>": '<pre tabindex="0"><span>',
    'class="table-wrapper': 'tabindex="0" class="table-wrapper',
    '<div id="search-results">': '<h1>Search</h1><div id="search-results">',
    "<th></th>": "<td></td>",
    '<th class="head"><p></p></th>': "<td></td>",
}
"""What theme and extensions write -> what a reader by ear or keyboard needs: `tests/browser/test_docs_site.py`."""


def _accessible(app: Any, error: Exception | None) -> None:
    """Mend, in every page that was written, what axe-core finds fault with."""
    for page in Path(app.outdir).rglob("*.html") if error is None and app.builder.name == "html" else ():
        written = mended = page.read_text(encoding="utf-8")
        for theirs, ours in ACCESSIBLE.items():
            mended = mended.replace(theirs, ours)
        if mended != written:
            page.write_text(mended, encoding="utf-8")


def setup(app: object) -> None:
    """Hook in what is made from the code and the lessons before the pages are read."""
    app.connect("builder-inited", _lessons)  # type: ignore[attr-defined]
    app.connect("source-read", _links)  # type: ignore[attr-defined]
    app.connect("builder-inited", _reference)  # type: ignore[attr-defined]
    app.connect("build-finished", _accessible)  # type: ignore[attr-defined]
