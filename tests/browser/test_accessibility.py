"""Displays in a browser, in both themes and on a phone: axe-core finds no fault, nothing is cut without a sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import DEGREE, MARKS, QUOTE, STANCE, made_run, made_task

import nbannot
from nbannot import displays
from nbannot.comparing.comparison import compare
from nbannot.engine.job import Progress
from nbannot.page.fragment import Fragment
from nbannot.running.sweep import Runs

axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")

THEMES = {
    "light": ("true", "#ffffff", "rgba(0,0,0,.87)"),
    "dark": ("false", "#111111", "rgba(255,255,255,.87)"),
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>displays</title></head>
<body data-jp-theme-light="{light}" style="background:{paper};color:{ink};--jp-layout-color0:{paper};
--jp-content-font-color1:{ink}"><main><h1>Displays</h1><h2>{name}</h2>{html}</main></body></html>"""
"""A page with the variables that JupyterLab's themes set."""
CUT = """() => [...document.querySelectorAll('.nbannot *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !e.closest('.t');
}).map(e => e.outerHTML.slice(0, 90))"""
"""What reaches beyond the page and stands in no box that can be moved and shows so."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each display."""
    folder = tmp_path_factory.mktemp("shown")
    texts = [
        f"The {word} speaks in the house. It claims a lot, and more than that." for word in "abcdefghijkl"
    ]
    spans = json.dumps([{"start": 0, "end": 3, "text": "The", "label": "actor"}])
    people = {"Stance": ["pro", "anti"] * 6, "Degree": [1, 2, 3, 4, 5, 3] * 2, "Quote": ["a lot"] * 12}
    task = made_task(texts, STANCE, DEGREE, QUOTE, MARKS, **people, Marks=[spans] * 12)
    said: dict[str, list[Any]] = {
        "Stance": ["pro", "anti", "neutral", None] * 3,
        "Degree": [2, 2, 4, None, 1, 3] * 2,
        "Quote": ["a lot", "The", ""] * 4,
        "Marks": [[{"start": 0, "end": 5, "text": "The a", "label": "claim"}]] * 12,
    }
    run = made_run(task, said, folder)
    other = made_run(task, {**said, "Stance": people["Stance"]}, folder, run_id="b1b2c3d4", temperature=0.5)
    labels = {
        "anna": ["pro", "anti"] * 6,
        "ben": ["pro", "anti", "pro"] * 4,
        "dimitri.papadopoulos": ["pro"] * 12,
    }
    coders = [nbannot.made_up_coder(task, name, given, "Stance") for name, given in labels.items()]
    tested = nbannot.alt_test(run, "Stance", coders=coders, epsilon=0.2, min_texts=5)
    return {
        "agreement": nbannot.agreement(coders, "Stance")._fragment(),
        "alternative annotator": tested._fragment(),
        "card": displays.run_card(run),
        "coder": displays.coder_card(coders[0]),
        "how many": nbannot.how_many(half_width=0.05, share=0.3)._fragment(),
        "plan": nbannot.plan(task, model="mock")._fragment(),
        "prevalence": nbannot.prevalence(run, "Stance")._fragment(),
        "progress": displays.progress(Progress(total=48, done=20, calls=20), "demo, mock"),
        "sweep": displays.runs_card(Runs((run, other))),
        "report": run.report(),
        "confusion": run.confusion("Stance"),
        "shares": run.confusion("Stance", share=True),
        "forest": run.forest(),
        "intervals": run.intervals("Stance"),
        "distribution": run.distribution("Stance"),
        "shift": run.shift("Degree"),
        "spans": run.spans("Marks"),
        "pairs": run.pairs("Quote"),
        "disagreements": displays.disagreements(run),
        "comparison": displays.comparison(compare([run, other], column="Stance", n_resamples=200)),
        "task": displays.task_card(task),
        "codebook": displays.codebook_card(task.codebook),
        "tradeoff": displays.tradeoff([("a", 0.5, 0.4, 0.6, 1.0), ("b", 0.6, 0.5, 0.7, 90.0)]),
    }


def faults(page: Any) -> list[str]:
    """Return what axe-core finds on a page, each with where it is."""
    page.evaluate(Path(axe.AXE_FILE_PATH).read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def test_a_report_is_printed_as_pdf(chromium, shown: dict[str, Fragment], tmp_path, monkeypatch):
    import os
    import shutil

    monkeypatch.setenv("CHROMIUM", os.environ.get("CHROMIUM") or str(shutil.which("chromium")))
    pdf = shown["report"].save(tmp_path / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    closed = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page")
    assert closed > 3, "every section is open"


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_no_fault_and_nothing_is_cut(chromium, shown: dict[str, Fragment], theme):
    light, paper, ink = THEMES[theme]
    page = chromium.new_page()
    for name, fragment in shown.items():
        html = fragment.html.replace("<details", "<details open")
        page.set_content(PAGE.format(light=light, paper=paper, ink=ink, name=name, html=html))
        for width in (1280, 420):
            page.set_viewport_size({"width": width, "height": 800})
            assert faults(page) == [], (name, width)
            assert page.evaluate(CUT) == [], (name, width)
    page.close()
