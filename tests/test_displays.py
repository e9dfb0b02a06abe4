"""Displays: safe in any notebook, the same words in HTML and plain text, fast, and true to the scores."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import polars as pl
import pytest
from conftest import GATE, codebook_of
from made_runs import (
    DEGREE,
    HOSTILE,
    MARKS,
    QUOTE,
    STANCE,
    answer,
    hostile_run,
    made_run,
    made_task,
    stance_run,
)

import nbannot
from nbannot import displays
from nbannot.displays.cost_plots import pareto
from nbannot.displays.plots import PANEL, Point, nice_ticks, points
from nbannot.displays.tables import PARTLY
from nbannot.doors.listing import headlines_of
from nbannot.engine.job import Progress
from nbannot.errors import NbannotError, ScoringError
from nbannot.page.blocks import Cell, Grid, Para
from nbannot.page.figure import Dot, Words, text_width
from nbannot.page.fragment import Fragment
from nbannot.page.html import as_html, element, escape, page_html, tint
from nbannot.page.style import STYLE, whole_style
from nbannot.record.tables import read_runs
from nbannot.study.task import Task

VOID = {"img", "br", "wbr", "source"}
TAGS = {"div", "style", "h3", "h4", "h5", "small", "p", "b", "ul", "li", "table", "caption", "thead", "tbody", "tr",
        "th", "td", "bdi", "wbr", "pre", "dl", "dt", "dd", "details", "summary", "progress", "img", "span", "picture",
        "source"}  # fmt: skip
ATTRIBUTES = {"class", "style", "title", "align", "colspan", "value", "max", "src", "alt", "width", "open",
              "srcset", "media", "scope", "role", "aria-label", "tabindex"}  # fmt: skip


class Checker(HTMLParser):
    """Reads a fragment as a browser would and notes everything that does not belong there."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.words, self.roots = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        if not self.open:
            self.roots += 1
        if tag not in TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES or (
                name in ("src", "srcset") and not value.startswith("data:image/svg+xml;base64,")
            ):
                self.faults.append(f"{tag} {name}={value}")
            if name == "style" and re.search(r"url|expression|<|>", value or ""):
                self.faults.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def read(fragment):
    """Return the words of a fragment's HTML, which must be safe, balanced and one element."""
    checker = Checker()
    checker.feed(fragment.html)
    checker.close()
    assert not checker.faults
    assert not checker.open
    assert checker.roots == 1
    assert fragment.html.startswith('<div class="nbannot">')
    assert "\x1b" not in fragment.html + fragment.text
    return " ".join("".join(checker.words).split())


@pytest.fixture
def run(tmp_path):
    return stance_run(tmp_path)


@pytest.fixture
def rich(tmp_path):
    """A run with a field of every type on six texts."""
    spans = json.dumps([{"start": 0, "end": 3, "text": "The", "label": "actor"}])
    task = made_task(
        [f"The {word} speaks. It claims a lot." for word in "abcdef"],
        STANCE, DEGREE, QUOTE, MARKS,
        Stance=["pro", "anti", "pro", "anti", "pro", ""], Degree=[1, 2, 3, 4, 5, 3],
        Quote=["a lot", "speaks", "a", "It", "", "claims"], Marks=[spans, spans, "[]", "[]", spans, ""],
    )  # fmt: skip
    marked = [[{"start": 0, "end": 5, "text": "The a", "label": "actor"}]] * 3 + [[]] * 3
    return made_run(
        task,
        {
            "Stance": ["pro", "pro", "pro", None, "anti", "neutral"],
            "Degree": [2, 2, 4, None, 1, 3],
            "Quote": ["a lot", "The", "b", "", "x", "claims"],
            "Marks": marked,
        },
        tmp_path,
    )


def every_display(run):
    """Return each display that a run with a dropdown, a textbox and a span field has."""
    label, text, span = (
        next(f.column for f in run.coding.fields if f.type == t) for t in ("dropdown", "textbox", "span")
    )
    return {
        "codebook": displays.codebook_card(run.task.codebook),
        "task": displays.task_card(run.task),
        "run": displays.run_card(run),
        "report": displays.report(run),
        "confusion": displays.confusion(run, label),
        "distribution": displays.label_distribution(run, label),
        "disagreements": displays.disagreements(run, label),
        "all": displays.disagreements(run),
        "pairs": displays.text_pairs(run, text),
        "spans": displays.span_view(run, span),
        "metrics": displays.metric_table(run),
        "runs": displays.runs_table([{"run_id": "a1b2c3d4", "label": HOSTILE[0], "model_id": HOSTILE[1], "seed": 1}]),
        "forest": displays.forest([(HOSTILE[0], 0.5), (HOSTILE[2], 0.6)], title=HOSTILE[1], verdict=HOSTILE[0]),
        "tradeoff": displays.tradeoff([(HOSTILE[1], 0.5, 0.4, 0.6, 2.0)], metric=HOSTILE[0], cost=HOSTILE[1]),
        "progress": displays.progress(Progress(total=5, done=2, message=HOSTILE[1]), HOSTILE[0]),
    }  # fmt: skip


def test_hostile_texts_labels_and_names_stay_words(tmp_path):
    for name, fragment in every_display(hostile_run(tmp_path)).items():
        said = read(fragment)
        assert name == "progress" or len(fragment.html) < 100_000
        if name not in ("progress", "tradeoff"):
            assert "<script>alert(1)</script>" in said, name
            assert "<script>alert(1)</script>" in fragment.text or "<script>" in fragment.text, name


def test_every_display_of_a_plain_run_is_safe_too(rich):
    for fragment in every_display(rich).values():
        read(fragment)


def test_a_plan_shows_the_prompts_as_they_are_and_safely(tmp_path):
    task = hostile_run(tmp_path).task
    fragment = displays.plan_card(nbannot.plan(task, model="mock", output_root=str(tmp_path)))
    said = read(fragment)
    assert "nothing was sent" in said
    assert HOSTILE[0] in said
    assert "nowhere: they stay on this machine" in said
    assert "no earlier run with this model, prompt and answer mode to estimate from" in fragment.text


def test_plan_card_counts_calls_and_tells_what_is_there(tmp_path):
    plan = nbannot.plan("policy-sentiment", model="mock", output_root=str(tmp_path))
    text = displays.plan_card(plan).text
    assert "128 to 256: conditional fields are asked only where they apply" in text
    assert "new: nothing has been asked yet" in text
    assert f"about {plan.input_tokens:,} tokens" in text
    assert "First prompt of Policy Sentiment_Direction" in text


def test_fragment_bundle_and_saving(tmp_path):
    fragment = Fragment.of([Para("<b>")])
    assert fragment.bundle() == {"text/html": fragment.html, "text/plain": "<b>\n"}
    assert fragment._repr_mimebundle_() == fragment.bundle()
    assert str(fragment) == repr(fragment) == "<b>\n"
    page = fragment.save(tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert fragment.html in page
    assert fragment.save(tmp_path / "a.txt").read_text() == "<b>\n"
    assert fragment.save(tmp_path / "a.md").read_text() == "\\<b>\n"


def test_a_report_as_markdown_and_for_word_has_its_tables(run, tmp_path):
    docx = pytest.importorskip("docx", reason="python-docx is optional")
    report = run.report()
    markdown = report.save(tmp_path / "a.md").read_text(encoding="utf-8")
    assert "| **Stance** | macro F1 | **0.61** | \\[0.36, 0.81\\]¹ | 0.45 ≈ | 18 of 20 |" in markdown
    assert "\n## Stance (dropdown, nominal)\n" in markdown
    document = docx.Document(str(report.save(tmp_path / "a.docx")))
    first = [[cell.text for cell in row.cells] for row in document.tables[0].rows]
    assert first[:2] == [
        ["field", "metric", "value", "95% interval", "baseline", "answered"],
        ["Stance", "macro F1", "0.61", "[0.36, 0.81]¹", "0.45 ≈", "18 of 20"],
    ]
    assert {"Stance (dropdown, nominal)", "How the run was made"} <= {p.text for p in document.paragraphs}
    hostile = displays.forest([(HOSTILE[3], 0.5, 0.4, 0.6), (HOSTILE[4], 0.6)], title=HOSTILE[0])
    drawn = docx.Document(str(hostile.save(tmp_path / "b.docx")))
    assert HOSTILE[0] in {p.text for p in drawn.paragraphs}


def test_a_report_in_latex_is_what_a_journal_takes(run, tmp_path):
    assert r"Stance & macro F1 & 0.61 & [0.36, 0.81]$^{1}$ & 0.45 $\approx$ & 18 of 20 \\" in run.to_latex()
    tables = run.to_latex("Stance", label="tab:stance").split(r"\begin{table}")[1:]
    assert all(len(table.split(r"\begin{tabular}{")[1].split("}")[0]) <= 7 for table in tables)
    assert r"\label{tab:stance}" in tables[0]
    assert r"\caption{Stance: Per label (support: human labels; predicted: the model's)}" in tables[1]
    assert r"] & 12 (60\%) & 12 (67\%) \\" in tables[1]
    wide = Grid(["human", *"abcdefghi"], [["a", *[Cell("1", tint=0.5)] * 9]], "l" + "r" * 9)
    assert "{lrrrrrrrrr}" in Fragment.of([wide]).to_latex(), "no label of a matrix is left out"


def test_without_word_or_a_browser_the_letter_says_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(NbannotError, match=r"pip install 'nbannot\[word\]'"):
        run.report().save(tmp_path / "a.docx")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(NbannotError, match=r"save\('….html'\) and print that from any browser"):
        run.report().save(tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_saving_as_something_else_says_what_is_possible(tmp_path):
    with pytest.raises(NbannotError) as caught:
        displays.forest([("a", 0.5)]).save(tmp_path / "a.png")
    assert str(caught.value) == (
        "a display is saved as .html, .txt, .md, .docx, .pdf. Got 'a.png'.\n"
        "  Write save('a.html'). A plot is saved by .figure.save(path)."
    )
    with pytest.raises(NbannotError, match="cannot write"):
        Fragment.of([]).save(tmp_path / "no" / "a.txt")


def test_snapshot_of_a_small_table():
    grid = Grid(
        ["a", "n"], [[Cell("<x>", "strong"), Cell("1", tint=0.5)], "note"], "lr", caption="C", notes=["n"]
    )
    assert as_html(grid) == (
        '<div class="t"><table class="m" style="--w:3em"><caption>C</caption><thead><tr>'
        '<th style="text-align:left">a</th><th align="right">n</th></tr></thead><tbody><tr>'
        '<th style="text-align:left" scope="row"><b>&lt;x&gt;</b></th>'
        '<td align="right" style="background-color:rgba(46,134,193,0.28)">1</td></tr>'
        '<tr><td class="q" colspan="2" style="text-align:left">note</td></tr></tbody></table></div><p class="q">n</p>'
    )


def test_builders_escape_attributes_and_controls():
    assert element("td", "x", title='"><script>') == '<td title="&quot;&gt;&lt;script&gt;">x</td>'
    assert escape("a\x00\x1b\ud800b") == "a\ufffd\ufffd\ufffdb"
    assert tint(0.0) == ""
    assert tint(-1.0) == "background-color:rgba(222,110,30,0.55)"


def test_the_style_sheet_stays_below_the_root_class():
    style = whole_style().replace("\n", "")
    assert re.search("<style>(.*)</style>", page_html([]))[1] == STYLE.replace("\n", "")
    assert "url(" not in style
    assert "@import" not in style
    bare = re.sub(r"@media [^{]*\{(.*?\})\}", r"\1", style)
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", bare)
    assert all(part.strip().startswith(".nbannot") for found in selectors for part in found.split(","))


def test_the_run_card(run):
    text = displays.run_card(run).text
    assert text.startswith("demo · mock (complete · A model for tests)\n")
    assert "Stance not better than the baseline on 20 texts" in text.splitlines()
    # Dealt out at random: pro 2 * 12 * 12 / (20 * 24) = .600, anti 2 * 8 * 5 / (20 * 13) = .308; mean .454.
    assert re.search(r"Stance +macro F1 +0\.61 +\[0\.36, 0\.81\]¹ +·+━+\|━+●━+·+ +0\.45 ≈ +18 of 20", text)
    assert "┃ A model for tests." in text
    assert re.search(r"Stance +macro F1 +0\.61 +\[0\.36, 0\.81\]¹ +0\.38\n", text)
    assert "people: pro: 60%, anti: 40%, neutral: 0% | model: pro: 67%, anti: 28%, neutral: 6%" in text
    assert "18 valid · 2 invalid (2 × invalid: not an option)" in text
    assert re.search(r"energy +not measured", text)


def test_a_run_without_human_labels_has_a_card(tmp_path):
    task = made_task(["a", "b"], STANCE)
    text = displays.run_card(made_run(task, {"Stance": ["pro", "anti"]}, tmp_path)).text
    assert "No human labels" in text
    assert "Stance  pro: 50%, anti: 50%, neutral: 0%" in text


def test_a_remote_model_is_named_with_its_address(tmp_path):
    info = {"name": "m", "backend": "openai", "endpoint": "https://example.org/v1", "is_local": False}
    run = stance_run(tmp_path, model_info=info, energy="not measured: the model runs on another machine")
    text = displays.run_card(run).text
    assert "https://example.org/v1 (another machine)" in text
    assert "not measured: the model runs on another machine" in text


def test_the_task_card(rich):
    text = displays.task_card(rich.task).text
    assert "demo (6 texts, 4 fields)" in text
    assert re.search(r"Stance +dropdown +always +5 +pro: 60%, anti: 40%", text)
    assert re.search(r"Marks +span +always +5 +3 spans in 3 texts", text)


def test_the_codebook_card():
    codebook = codebook_of(
        {**STANCE, "tooltip": "Which side?", "example": 'Text: \n"A."\n\nResponse: \n{"response": "pro"}'}
    )
    text = displays.codebook_card(codebook).text
    assert "Stance  dropdown  pro, anti, neutral  always         1" in text
    assert "Which side?" in text
    assert re.search(r"A\. +pro", text)


def test_a_matrix_that_would_be_too_wide_has_numbered_columns(tmp_path):
    labels = [f"a long label {i}" for i in range(6)]
    field = {"name": "Frame", "type": "dropdown", "options": labels}
    task = made_task([f"t{i}" for i in range(12)], field, Frame=labels * 2)
    run = made_run(task, {"Frame": [*labels, None, *labels[1:]]}, tmp_path)
    shown = displays.confusion(run, "Frame")
    assert re.search(r"model → +1 +2 +3 +4 +5 +6 +no label +texts\n", shown.text)
    assert re.search(r"\n1 a long label 0 +1 +· .*\n2 a long label 1 +· +2 ", shown.text)
    gate = made_run(made_task(["a"], GATE, Gate=["1"]), {"Gate": [1]}, tmp_path / "short")
    short = displays.confusion(gate, "Gate")
    assert re.search(r"model → +0 +1 +texts", short.text)
    [people] = [m for m in short.figure.marks if isinstance(m, Words) and m.text == "human"]
    assert people.x > text_width("human"), "a heading that is longer than the labels is not cut"


def test_confusion_tints_by_share_of_the_row(run):
    fragment = displays.confusion(run, "Stance")
    cells = re.findall(
        r'<td align="right"(?: style="background-color:rgba\((.*?)\)")?>(?:<b>)?(\d+|·)', fragment.html
    )
    assert cells[:2] == [("46,134,193,0.41", "9"), ("222,110,30,0.09", "2")]
    assert "The same label for 12 of 20 texts (0.60); a valid answer for 18." in fragment.text
    assert fragment.figure is not None


def test_many_labels_become_a_picture_and_a_list(tmp_path):
    options = [f"label {i}" for i in range(15)]
    field = {"name": "Topic", "type": "dropdown", "options": options}
    people = [options[i % 15] for i in range(30)]
    run = made_run(made_task(["t"] * 30, field, Topic=people), {"Topic": people[1:] + people[:1]}, tmp_path)
    fragment = displays.confusion(run, "Topic")
    read(fragment)
    assert 'src="data:image/svg+xml;base64,' in fragment.html
    assert "Most frequent confusions (of 15 labels)" in fragment.text


def test_likert_view_counts_the_errors_by_direction(rich):
    text = displays.likert_view(rich, "Degree").text
    assert rich.shift().text == text  # the only scale needs no name
    with pytest.raises(ScoringError, match=r'name one field, e\.g\. "'):
        rich.confusion()
    assert re.search(r"too low +1 \(20%\)", text)
    assert re.search(r"exact +2 \(40%\)", text)
    assert re.search(r"too high +2 \(40%\)", text)
    assert re.search(r"−4 +1 +20%", text)
    assert re.search(r"\+1 +2 +40%", text)
    assert "The model gave no label for 1 of the 6 texts that people labelled." in text


def test_label_distribution_is_on_the_same_texts(rich):
    text = displays.label_distribution(rich, "Stance").text
    # people coded 5 texts; the model answered 4 of these, and 5 of all 6
    assert re.search(r"pro +3 +60% +\S+ +3 +75% +\S+ +3 +60%", text)
    assert re.search(r"neutral +0 +0% +0 +0% +1 +20%", text)


def test_disagreements_are_those_of_the_run(rich):
    for column in (None, "Stance", "Degree", "Quote", "Marks"):
        fragment = displays.disagreements(rich, column, per_page=100)
        frame = rich.disagreements(column).frame
        assert f"{len(frame)} of " in fragment.text
        assert fragment.html.count("<tr") - 1 == len(frame)


def test_disagreements_can_be_narrowed_down(run):
    assert (
        "3 with human = anti, model = pro"
        in displays.disagreements(run, "Stance", human="anti", model="pro").text
    )
    text = displays.disagreements(run, "Stance", status="invalid").text
    assert "2 with status = invalid" in text
    assert text.count("– invalid: not an option: 'maybe'") == 2
    assert "Nothing fits." in displays.disagreements(run, "Stance", human="neutral").text
    assert "anti → pro 3×; pro → anti 2×" in displays.disagreements(run, "Stance").text


def test_pages_hold_every_disagreement_once(run):
    seen = [
        text_id
        for page in (1, 2, 3)
        for text_id in re.findall(
            r"\bt\d+", displays.disagreements(run, "Stance", page=page, per_page=3).text
        )
    ]
    assert seen == list(run.disagreements("Stance").frame["text_id"])
    assert "Page 1 of 3. Next: page=2." in displays.disagreements(run, "Stance", per_page=3).text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: displays.disagreements(r, "Stance", page=9), "page must be an integer from 1 to 1. Got 9."),
        (lambda r: displays.disagreements(r, "Stance", human="por"), "has no label 'por'; did you mean 'pro'?"),
        (lambda r: displays.disagreements(r, "Stance", status="bad"), "there is no status 'bad'"),
        (lambda r: r.disagreements(sort="distanse"), "there is no sort 'distanse'; did you mean 'distance'?"),
        (lambda r: r.disagreements(where={"prty": "Left"}), "the data has no column 'prty' (where)"),
        (lambda r: displays.likert_view(r, "Stance"), "is for fields of type likert; 'Stance' is a dropdown."),
        (lambda r: displays.span_view(r, "Stance"), "span_view is for fields of type span; 'Stance' is a dropdown."),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_said(run, call, said):
    with pytest.raises(ScoringError, match=re.escape(said)):
        call(run)


def test_disagreements_are_sorted_by_distance_and_chosen_by_metadata(tmp_path):
    def marked(*places: tuple[int, int], label: str = "actor") -> list[dict[str, Any]]:
        return [{"start": a, "end": b, "text": TEXT[a:b], "label": label} for a, b in places]

    TEXT = "The minister speaks in the house."
    people = {"Degree": [1, 5, 2, 3], "Quote": ["abcd"] * 4, "Marks": [json.dumps(marked((0, 10)))] * 4}
    task = made_task([TEXT] * 4, STANCE, DEGREE, QUOTE, MARKS, Stance=["pro"] * 4, **people)
    task = replace(task, data=task.data.with_columns(party=pl.Series(["Left", "Right", "Left", None])))
    said = {
        "Stance": ["anti", "pro", None, "pro"],
        "Degree": [2, 1, None, 3],
        "Quote": ["abxx", "abcd", "", "abcx"],
        "Marks": [marked((0, 5)), marked((0, 4), (4, 10)), marked((0, 10), label="claim"), marked((5, 15))],
    }
    run = made_run(task, said, tmp_path)

    def apart(column: str) -> list[tuple[str, float]]:
        frame = run.disagreements(column, sort="distance").frame
        return [(one, round(far, 3)) for one, far in zip(frame["text_id"], frame["distance"], strict=True)]

    assert apart("Degree")[:2] == [("t1", 1.0), ("t0", 0.25)]
    assert apart("Degree")[2][0] == "t2", "no label has no distance and comes last"
    assert math.isnan(apart("Degree")[2][1])
    assert apart("Quote") == [("t2", 1.0), ("t0", 0.5), ("t3", 0.25)]
    # other label: nothing in common; 5 of 15 characters in common; 5 of 10; the same ones, cut in two
    assert apart("Marks") == [("t2", 1.0), ("t3", round(10 / 15, 3)), ("t0", 0.5), ("t1", 0.0)]
    text = str(run.disagreements("Degree", sort="distance"))
    assert re.search(r"t1 +5 +1 +1\.00", text)
    assert "steps between the two, of all the steps of the scale" in " ".join(text.split())
    left = run.disagreements(where={"party": "Left"})
    assert set(left.frame["text_id"]) == {"t0", "t2"}
    assert f"{len(left)} with party = Left" in str(left)
    assert set(run.disagreements(where={"party": ["Right", None]}).frame["text_id"]) == {"t1", "t3"}


def test_a_thousand_disagreements_are_shown_a_page_at_a_time(tmp_path):
    n = 1000
    task = made_task([f"Text {i} " + "word " * 60 for i in range(n)], STANCE, Stance=["pro"] * n)
    run = made_run(task, {"Stance": ["anti"] * n}, tmp_path)
    fragment = displays.disagreements(run, "Stance", per_page=500)
    assert "1,000 of 1,000 labels by people (100%)" in fragment.text
    assert len(fragment.html.encode()) < 1_000_000
    assert len(displays.disagreements(run, "Stance").html.encode()) < 100_000


def test_text_pairs_start_with_the_least_similar(rich):
    lines = displays.text_pairs(rich, "Quote").text.splitlines()
    values = [line.split()[1] for line in lines if re.match(r"t\d ", line)]
    assert values == sorted(values)
    assert any(re.match(r"t0 +1\.00 +a lot +a lot", line) for line in lines)


SPAN_TEXT = """\
Spans: Marks (1 of 1 text with marked passages)
══════════════════════════════════════════════════════════════════════════════════════════════════════════════
H marked by people, M by the model; a = actor, c = claim. A passage begins with its letter (* without a label)
and goes on as ─.

t0 (2 by people, 2 by the model)
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
  The minister 😀 said taxes fall.
H a───────────
H     c────────────────
M a───────────         c──────────
"""


def span_run(folder, text, human, model):
    def spans(places):
        return [{"start": a, "end": b, "text": text[a:b], "label": label} for a, b, label in places]

    task = made_task([text], MARKS, Marks=[json.dumps(spans(human))])
    return made_run(task, {"Marks": [spans(model)]}, folder)


def test_spans_that_overlap_are_legible_in_plain_text(tmp_path):
    text = "The minister 😀 said taxes fall."
    human, model = [(0, 12, "actor"), (4, 20, "claim")], [(0, 12, "actor"), (20, 31, "claim")]
    assert displays.span_view(span_run(tmp_path, text, human, model), "Marks").text == SPAN_TEXT


def test_spans_that_overlap_are_legible_in_html(tmp_path):
    text = "The minister said <b> taxes."
    fragment = displays.span_view(
        span_run(tmp_path, text, [(0, 12, "actor"), (4, 17, "claim")], [(0, 12, "actor")]), "Marks"
    )
    assert "H+M actor The H claim minister" in read(fragment)
    passage = fragment.html[fragment.html.index("white-space:pre-wrap;line-height") :]
    pieces = re.findall(r'<span style="background-color:rgba\((.*?)\);(.*?)" title="(.*?)">', passage)
    assert [title for _, _, title in pieces] == [
        "H actor, M actor", "H actor, H claim, M actor", "H claim",
    ]  # fmt: skip
    assert "border-bottom" in pieces[0][1]
    assert "border-top" in pieces[0][1]
    assert "border-top" not in pieces[2][1]
    shown = re.sub("<small.*?</small>|<.*?>", "", passage[passage.index(">") + 1 : passage.index("</p>")])
    assert html.unescape(shown) == text


def test_spans_in_text_from_right_to_left_are_quoted(tmp_path):
    text = "השר אמר שהמסים ירדו"
    shown = displays.span_view(span_run(tmp_path, text, [(0, 3, "actor")], [(4, 7, "claim")]), "Marks").text
    assert "H actor: “השר”" in shown
    assert "M claim: “אמר”" in shown


def test_long_texts_keep_their_marks_over_line_breaks(tmp_path):
    text = "word " * 60
    shown = displays.span_view(span_run(tmp_path, text, [(95, 215, "actor")], []), "Marks").text
    assert (
        sum(
            line.count("─") + line.count("a")
            for line in shown.splitlines()
            if line.startswith("H ") and "by" not in line
        )
        == 120
    )


def test_one_text_by_its_id(rich):
    assert "t1 (1 by people, 1 by the model)" in displays.span_view(rich, "Marks", text_id="t1").text
    with pytest.raises(ScoringError, match="there is no text 't9'"):
        displays.span_view(rich, "Marks", text_id="t9")


def test_metric_tables(run, rich):
    assert re.search(
        r"Stance +macro F1 +0\.61 +\[0\.36, 0\.81\]¹ +20 +f1_macro", displays.metric_table(run).text
    )
    text = displays.metric_table([rich, rich]).text
    assert "mock_standard [a1b2c3d4]" in text
    assert "compare(runs)" in text


def test_runs_table_shows_only_what_differs():
    rows = [
        {"run_id": "aaaaaaaa", "label": "demo", "model_id": "m_standard", "temperature": 0.0, "seed": 1,
         "wall_time_s": 3.2, "total_energy_kwh": 1e-6, "codebook_hash": "x", "timestamp": "2026-01-02T03:04:05"},
        {"run_id": "bbbbbbbb", "label": "demo", "model_id": "m_standard_temp=0.7", "temperature": 0.7, "seed": 1,
         "wall_time_s": 75.0, "total_energy_kwh": None, "codebook_hash": "y", "timestamp": "2026-01-02T04:04:05"},
    ]  # fmt: skip
    expected = """\
Runs of demo (2 runs)
══════════════════════════════════════════════════════════════════════════════════════════════════════════════
run_id    temperature  model_id                   time  energy  timestamp
────────  ───────────  ───────────────────  ──────────  ──────  ────────────────
aaaaaaaa            0  m_standard                3.2 s   1 mWh  2026-01-02 03:04
bbbbbbbb          0.7  m_standard_temp=0.7  1 min 15 s       –  2026-01-02 04:04

The same in all: seed = 1.
"""
    assert displays.runs_table(rows).text == expected
    assert displays.runs_table(pl.DataFrame(rows)).text == expected
    assert displays.runs_table(pd.DataFrame(rows)).text == expected
    assert "There are no runs yet." in displays.runs_table([]).text


def test_values_of_runs_say_why_they_are_not_reliable_and_what_was_not_answered(tmp_path, monkeypatch):
    """A decision model is not asked for the evidence: the table of runs showed a score of 0.00 for it."""
    monkeypatch.chdir(tmp_path)
    nbannot.run("policy-sentiment", model="decide/sparrow", sample=12)
    metrics = tmp_path / "outputs" / "metrics"
    told = displays.runs_table(
        read_runs(metrics, "policy-sentiment"), headlines_of(metrics, "policy-sentiment")
    ).text
    of_run = headlines_of(metrics, "policy-sentiment").popitem()[1]
    assert math.isnan(of_run["Policy Sentiment_Evidence"]["value"])
    silent = {
        **of_run["Policy Sentiment_Evidence"],
        "value": 0.0,
    }  # a model that was asked and never answered
    rows = displays.runs_table([{"run_id": "a1b2c3d4"}], {"a1b2c3d4": {"S_Evidence": silent}}).text
    assert f"– (0/{silent['n']:.0f})" in rows
    assert not re.search(r"0\.00\s+12 ", told)
    assert PARTLY in told
    assert "]¹" in told
    assert "¹ interval unreliable: some labels have fewer than 10 human labels" in told


def test_progress_in_one_line():
    now = time.monotonic()
    done = Progress(
        total=192, done=42, calls=42, retries=2, not_ok=3, cached=10, started=now - 23, asking_since=now - 21
    )
    fragment = displays.progress(done, "demo · mock")
    assert fragment.text == (
        "demo · mock · 42 of 192 answers (22%) · 23 s, about 1 min 33 s left · 10 replies kept from before · "
        "3 without a valid answer · 2 asked again\n"
    )
    assert '<progress value="42" max="192" style=' in fragment.html
    assert len(fragment.html) < 500
    assert "5 answers in" in displays.progress(Progress(total=5, done=5)).text
    assert " · 1 reply kept from before" in displays.progress(Progress(total=5, done=5, cached=1)).text
    assert '<progress value="0" max="1" style=' in displays.progress(Progress()).html


def test_forest_plot_of_values_and_differences():
    rows = [("small", 0.31, 0.25, 0.37), ("large", 0.71, 0.65, 0.77), {"name": "none", "value": None}]
    paired = [("small", -0.40, -0.48, -0.32), ("large", 0.0), ("none", None)]
    fragment = displays.forest(rows, paired, metric="macro F1", reference="large", verdict="large is higher.")
    read(fragment)
    assert re.search(r"small +0\.31 +\[0\.25, 0\.37\] +−0\.40 +\[−0\.48, −0\.32\]", fragment.text)
    assert re.search(r"none +– +– +– +–", fragment.text)
    assert "• large is higher." in fragment.text
    svg = fragment.figure.svg()
    assert svg.count("<circle") == 4
    assert svg.count("not defined") == 2


def test_the_image_holds_the_figure():
    fragment = displays.forest([("a & b", 0.5, 0.4, 0.6)])
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', fragment.html)[1]
    drawn = base64.b64decode(data).decode()
    assert re.sub("<style>.*?</style>", "", drawn) == fragment.figure.svg()
    assert "@media (prefers-color-scheme:dark)" in drawn, "the image takes the colours of a dark theme"
    assert "a &amp; b" in fragment.figure.svg()


def test_dots_stand_at_their_values():
    figure = displays.forest([("a", 0.2), ("b", 0.4)]).figure
    left, right = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', figure.svg()))
    # ticks from 0.20 to 0.40 over the panel
    assert right - left == pytest.approx(PANEL, abs=0.2)


def test_a_forest_plot_of_usual_names_is_shown_at_its_full_size():
    rows = [("baseline/tfidf-lr", -0.125, -0.38, 0.375), ("mock", 0.2)]
    figure = displays.forest(rows, rows, reference="baseline/tfidf-lr").figure
    assert figure.width < 52 * 13, "the width of a paragraph: a wider one is made smaller, its words too"
    assert figure.narrow.width < 360, "and a phone is shown one in which the panels stand below each other"
    assert as_html(figure).startswith('<p><picture><source media="(max-width:600px)" srcset="data:image/svg')


def test_long_names_stand_above_their_dots_so_that_the_plot_stays_narrow():
    def drawn(chars):
        rows, paired = [("m" * chars, 0.2), ("mock", 0.4)], [("m" * chars, -0.2), ("mock", 0.0)]
        return displays.forest(rows, paired).figure

    def heights(figure, name):
        [at] = [mark.y for mark in figure.marks if isinstance(mark, Words) and mark.text == name]
        return at, sorted({mark.y for mark in figure.marks if isinstance(mark, Dot)})

    beside, above = drawn(17), drawn(44)
    assert above.width < beside.width < 52 * 13
    at, dots = heights(beside, "mock")
    assert at == dots[1]
    at, dots = heights(above, "mock")
    assert dots[0] < at < dots[1]


def test_intervals_narrow_with_the_texts_measured_and_expected(tmp_path):
    people = ["pro", "anti", "neutral"] * 40
    answers = [label if i % 4 else "pro" for i, label in enumerate(people)]
    run = made_run(
        made_task([f"t{i}" for i in range(120)], STANCE, Stance=people), {"Stance": answers}, tmp_path
    )
    fragment = run.intervals("Stance")
    read(fragment)
    rows = re.findall(r"^(\S[\d,a-z ]+?)  +(\S+) +\[(\S+), (\S+)\] ", fragment.text, re.MULTILINE)
    assert [name for name, *_ in rows] == [
        "25 texts", "50 texts", "100 texts", "all 120 texts", "240, expected", "480, expected",
    ]  # fmt: skip
    widths = {name: float(high) - float(low) for name, _, low, high in rows}
    score = run.scores.fields["S_Stance"].results["f1_macro"]
    assert widths["all 120 texts"] == pytest.approx(score.ci_high - score.ci_low, abs=0.011)
    assert widths["480, expected"] == pytest.approx((score.ci_high - score.ci_low) / 2, abs=0.011)
    assert widths["25 texts"] > widths["100 texts"]
    read(run.forest())
    assert re.search(r"Stance, macro F1 +0\.8\d +\[.*?\] +0\.3\d", run.forest().text)
    shares = run.confusion("Stance", share=True).text
    assert re.search(r"anti +25% +75% +· +40", shares)


def test_pareto_set_and_tradeoff():
    rows = [
        ("cheap", 0.31, None, None, 0.02),
        ("good", 0.71, None, None, 1.5),
        ("worse", 0.30, None, None, 1.2),
        ("?", 0.9),
    ]
    assert pareto(points(rows)) == [True, True, False, False]
    assert pareto([Point("a", 0.5, cost=1.0), Point("b", 0.5, cost=1.0)]) == [True, True]
    fragment = displays.tradeoff(rows, metric="macro F1", cost="seconds per text")
    read(fragment)
    assert "logarithmic" in fragment.figure.svg()
    assert re.search(r"2 +good +0\.71 +– +1\.5 +yes", fragment.text)
    assert re.search(r"4 +\? +0\.90 +– +–", fragment.text)


def test_ticks_span_the_values():
    for low, high in ((0.0, 0.0), (-0.3, 0.02), (3.0, 97.0), (0.123456, 0.123457), (1e-9, 5e-7)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low + 1e-9
        assert ticks[-1] >= high - 1e-9
        assert 2 <= len(ticks) <= 9


def test_figures_without_any_value_are_drawn(tmp_path):
    assert "not defined" in displays.forest([("a", math.nan)]).figure.svg()
    assert displays.tradeoff([("a", math.nan)]).figure.save(tmp_path / "a.svg").read_text().startswith("<svg")
    assert displays.forest([]).figure.height > 0


def test_png_needs_matplotlib_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(NbannotError) as caught:
        displays.forest([("a", 0.5)]).figure.save(tmp_path / "a.png")
    assert str(caught.value) == (
        "a figure is saved as .png by matplotlib, which is not installed.\n"
        "  Save it as .svg, or type: pip install matplotlib"
    )
    with pytest.raises(NbannotError, match=r"Write save\('a\.svg'\)"):
        displays.forest([("a", 0.5)]).figure.save(tmp_path / "a.gif")


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_png_and_pdf_by_matplotlib(tmp_path, kind, begins, run):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    path = displays.confusion(run, "Stance").figure.save(tmp_path / f"a.{kind}")
    assert path.read_bytes().startswith(begins)
    with pytest.warns(UserWarning, match="no font of this machine has every character"):
        displays.forest([("\U000e0fff\u0378", 0.5)]).figure.save(tmp_path / f"b.{kind}")  # which no font has


def test_a_comparison_of_two_runs(rich, tmp_path):
    other = made_run(
        rich.task,
        {"Stance": ["pro", "anti", "pro", "anti", "pro", "pro"]},
        tmp_path,
        run_id="b1b2c3d4",
        model_id="good",
    )
    from nbannot.comparing.comparison import compare

    fragment = displays.comparison(
        compare([rich, other], metric="accuracy", column="Stance", n_resamples=200)
    )
    read(fragment)
    assert "good" in fragment.text
    assert re.search(r"mock_standard \(80% answered\) +0\.40 +\[.*?\] +0\.60 +−0\.60", fragment.text)
    assert "p (Holm)" in fragment.text
    assert fragment.figure is not None


def test_every_plot_of_a_comparison_is_saved_by_its_metric(rich, tmp_path):
    from nbannot.comparing.comparison import compare

    better = {"Stance": ["pro", "anti", "pro", "anti", "pro", "pro"]}
    other = made_run(rich.task, better, tmp_path, run_id="b1b2c3d4", model_id="good")
    found = compare([rich, other], metric=["accuracy", "f1_macro"], column="Stance", n_resamples=200)
    column = rich.task.codebook["Stance"].column
    assert list(found.figures) == [(column, "accuracy"), (column, "f1_macro")]
    for (_, metric), words in zip(found.figures, ("accuracy", "macro F1"), strict=True):
        svg = found.figures[column, metric].save(tmp_path / f"{metric}.svg").read_text(encoding="utf-8")
        assert f">{words}</text>" in svg


def test_a_sweep_and_a_coder_have_cards(tmp_path):
    from nbannot.comparing.coder import load_coder
    from nbannot.running.sweep import sweep

    runs = sweep("policy-sentiment", model="mock", temperature=[0, 0.7], limit=6, output_root=str(tmp_path))
    text = displays.runs_card(runs).text
    read(displays.runs_card(runs))
    assert re.search(r"run_id +temperature", text)
    assert all(run.run_id in text for run in runs)
    assert "2 runs, complete" in text
    assert re.search(r"0\.7 +0\.\d\d \[0\.\d\d, 0\.\d\d\]", text), "no value without its interval"
    task = runs[0].task
    coder = load_coder(task, task.data.select([task.id_source, *task.label_columns]), "Ada")
    card = displays.coder_card(coder).text
    assert "policy-sentiment: coder Ada" in card
    assert "bias (coder Ada − human)" in card


def test_objects_of_the_core_show_themselves(tmp_path):
    run = nbannot.run("policy-sentiment", model="mock", limit=4, output_root=str(tmp_path))
    for shown in (run, run.task, run.task.codebook, nbannot.plan("policy-sentiment", model="mock", limit=4)):
        bundle = shown._repr_mimebundle_()
        assert bundle["text/html"].startswith('<div class="nbannot">')
        assert bundle["text/plain"] == str(shown)
    assert (run.folder / "classification_reports.txt").read_text(encoding="utf-8") == run.report().text


def test_without_style_sheet_the_meaning_is_still_there(run):
    bare = re.sub("<style>.*?</style>", "", displays.confusion(run, "Stance").html)
    assert "background-color:rgba(" in bare
    assert "Rows: human labels; columns: the model" in bare


def test_importing_the_displays_is_light():
    code = (
        "import sys, nbannot.displays\n"
        "heavy = ('numpy', 'pandas', 'polars', 'sklearn', 'scipy', 'matplotlib', 'IPython')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_display_is_exported():
    assert set(displays.__all__) >= {"Fragment", "Figure", "progress", "run_card", "report"}
    assert all(getattr(displays, name) for name in displays.__all__)
    assert callable(displays.progress)
    assert callable(displays.comparison)
    assert callable(displays.report)


def test_an_empty_task_field_has_nothing_to_compare(tmp_path):
    task = made_task(["a", "b"], STANCE, QUOTE, MARKS)
    run = made_run(task, {"Stance": ["pro", "anti"], "Quote": ["x", ""], "Marks": [[], []]}, tmp_path)
    assert isinstance(run.task, Task)
    assert "nothing to compare with" in displays.confusion(run, "Stance").text
    assert "No human labels to differ from." in displays.disagreements(run).text
    assert "No human labels: what the model wrote." in displays.text_pairs(run, "Quote").text
    assert "Neither people nor the model marked anything." in displays.span_view(run, "Marks").text
    assert answer("S_Stance", None).status == "invalid"


def test_a_task_says_where_it_lies_without_the_place_of_the_package(tmp_path, monkeypatch):
    bundled = nbannot.load_task("policy-sentiment")
    text = displays.task_card(bundled).text
    assert re.search(r"folder +bundled with nbannot\n", text)
    assert re.search(r"other columns +source, policy_area\n", text)
    copied = tmp_path / "mine"
    shutil.copytree(bundled.path, copied)
    assert str(copied) in displays.task_card(nbannot.load_task(copied)).text
    monkeypatch.chdir(tmp_path)
    assert re.search(r"folder +mine\n", displays.task_card(nbannot.load_task("mine")).text)


def test_a_condition_is_told_by_name_where_that_is_enough():
    text = displays.codebook_card(nbannot.load_task("policy-sentiment").codebook).text
    assert "where Explicit evaluation = 1" in text


def test_displays_of_a_person_do_not_speak_of_a_model(tmp_path):
    from nbannot.comparing.coder import load_coder
    from nbannot.displays.cards import coder_card
    from nbannot.displays.spans import span_view
    from nbannot.displays.texts import disagreements, text_pairs
    from nbannot.displays.views import confusion, label_distribution, likert_view

    n = 12
    people = {
        "Stance": ["pro", "anti"] * 6,
        "Degree": [1, 2, 3] * 4,
        "Quote": ["one", "two"] * 6,
        "Marks": ["[]", '[{"start": 0, "end": 4, "text": "Text", "label": "actor"}]'] * 6,
    }
    task = made_task([f"Text {i}." for i in range(n)], STANCE, DEGREE, QUOTE, MARKS, **people)
    own = {f"S_{name}": list(reversed(list(map(str, cells)))) for name, cells in people.items()}
    own["S_Stance"][0] = ""
    ada = load_coder(task, pl.DataFrame({"id": task.ids, **own}), "Ada")
    shown = [
        coder_card(ada),
        confusion(ada, "Stance"),
        label_distribution(ada, "Stance"),
        likert_view(ada, "Degree"),
        disagreements(ada, "Stance"),
        text_pairs(ada, "Quote"),
        span_view(ada, "Marks"),
    ]
    for fragment in shown:
        assert "model" not in fragment.text.replace("bias (model − human)", "")
        assert "Ada" in fragment.text


def test_one_text_shows_both_labels_and_exactly_what_was_sent(tmp_path):
    import nbannot as nba

    run = nba.run("policy-sentiment", model="mock", limit=3, fields=["Direction"], output_root=str(tmp_path))
    shown = displays.one_text(run, run.task.ids[1])
    said = run.coding.answers["Policy Sentiment_Direction"][1].value
    people = run.task.human("Policy Sentiment_Direction")[1]
    assert re.search(rf"Direction +{re.escape(people)} +{re.escape(said)} +(agree|differ)", shown.text)
    assert run.task.texts[1] in " ".join(shown.text.split())
    assert "Direction: attempt 1, ok" in shown.text
    assert shown.html.count("<details>") == 1
    assert run.task.texts[0] not in shown.text
    with pytest.raises(ScoringError, match=r"there is no text 'ps999'"):
        displays.one_text(run, "ps999")


def test_one_text_marks_the_spans_of_both_sides(tmp_path):
    import nbannot as nba

    run = nba.run("discrete-emotions", model="mock", limit=6, output_root=str(tmp_path))
    shown = displays.one_text(run, run.task.ids[2]).text
    for f in run.coding.fields:
        assert f"{f.name}:" in shown or re.search(rf"^{re.escape(f.name)} ", shown, re.MULTILINE)
