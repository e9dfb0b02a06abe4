"""What only a browser can show: real clicks and keys on the form, colours, saved, untrusted and hostile notebooks."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=30_000)

BEGIN = "import nbannot as nba\nfrom nbannot import displays\n%load_ext nbannot"
SLOW = "mock?slow_s=0.15&parallel=2"
FORM = 'form = nba.configure("policy-sentiment", model="{model}", limit={limit})\nform'

NEW_CELL = """async (source) => {
  const {commands, shell} = window.jupyterapp;
  const notebook = shell.currentWidget.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  await commands.execute('notebook:insert-cell-below');
  notebook.activeCell.model.sharedModel.setSource(source);
  return await commands.execute('notebook:run-cell');
}"""
COLOURS = """(element) => {
  const parse = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  let at = element, back = [0, 0, 0, 0];
  for (; at && back.length > 3 && back[3] < 1; at = at.parentElement)
    back = parse(getComputedStyle(at).backgroundColor);
  let seen = parse(getComputedStyle(element).color), opacity = 1;
  for (at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  const alpha = (seen.length > 3 ? seen[3] : 1) * opacity;
  return [seen.slice(0, 3).map((c, i) => c * alpha + back[i] * (1 - alpha)), back.slice(0, 3)];
}"""
UNNAMED = """() => [...document.querySelectorAll(
  '.nbannot-form input, .nbannot-form select, .nbannot-form textarea, .nbannot-form button')]
  .filter(e => !(e.labels && [...e.labels].some(l => l.textContent.trim())) && !e.textContent.trim()
             && !e.getAttribute('aria-label'))
  .map(e => e.outerHTML)"""
FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || !e.closest('.nbannot-form')) return '';
  return e.tagName === 'BUTTON' ? e.textContent.trim() : e.labels && e.labels[0] ? e.labels[0].textContent.trim() : '?';
}"""


def contrast(of: Any) -> float:
    """Return the contrast ratio of a text and what is behind it (WCAG 2; 4.5 is enough for body text)."""

    def light(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(light(colour) for colour in of.evaluate(COLOURS))
    return (high + 0.05) / (low + 0.05)


def last_output(page: Any) -> Any:
    return page.locator(".jp-Notebook .jp-Cell").last.locator(".jp-Cell-outputArea")


def run_id_in(text: str) -> str:
    found = re.search(r"\brun ([0-9a-f]{8})\b", text)
    assert found, text
    return found[1]


def unfold(page: Any) -> None:
    """Open what the form has folded away."""
    for fold in page.locator(".nbannot-fold").all():
        fold.click()


def test_run_and_price_are_in_view_on_a_small_screen(open_notebook):
    page = open_notebook(BEGIN, FORM.format(model="mock/form0", limit=3), width=1280, height=720)
    expect(page.locator(".nbannot-plan")).to_contain_text("calls")
    page.locator(".nbannot-task").scroll_into_view_if_needed()
    for part in (".nbannot-task", ".nbannot-model", ".nbannot-run", ".nbannot-plan"):
        place = page.locator(part).bounding_box()
        assert place is not None
        assert place["y"] + place["height"] <= 720, part
    run, plan = (page.locator(f".nbannot-{part}").bounding_box()["y"] for part in ("run", "plan"))
    assert run < plan < page.locator(".nbannot-sample").bounding_box()["y"]


def test_fill_run_stop_continue_and_run_the_cell(open_notebook):
    page = open_notebook(BEGIN, FORM.format(model=SLOW, limit=12), height=1400)
    status, run, stop = (page.locator(f".nbannot-{name}") for name in ("status", "run", "stop"))
    plan = page.locator(".nbannot-plan")
    expect(plan).to_contain_text("24 to 48 calls")

    unfold(page)
    temperature = page.get_by_label("Temperature")
    temperature.fill("0, 3")
    expect(page.locator(".nbannot-temperature [role=alert]")).to_contain_text("must be a number from 0 to 2")
    expect(run).to_be_disabled()
    temperature.fill("0.5")
    expect(page.locator(".nbannot-temperature [role=alert]")).to_have_count(0)
    page.get_by_label("Prompt", exact=True).select_option("persona")
    expect(page.locator(".nbannot-prompt pre")).to_contain_text("You are an experienced researcher")
    page.get_by_label("Evidence (textbox)").uncheck()
    expect(plan).to_contain_text("24 to 36 calls")

    run.click()
    expect(status).to_contain_text(re.compile(r"[1-9]\d* of 36 answers"))
    stop.click()
    expect(status).to_contain_text(re.compile(r"stopped: [1-9]\d* of 36 answers are kept"))
    results = page.locator(".jp-OutputArea-output .nbannot").filter(has_text="policy-sentiment · mock")
    expect(results).to_contain_text("still open")
    expect(run).to_have_text("Continue")
    run.click()
    expect(status).to_contain_text("complete; 12 texts")
    expect(results.first).to_contain_text("complete")
    made = run_id_in(results.first.inner_text())
    report = page.locator("details").filter(has_text="Report on policy-sentiment")
    report.locator("summary").first.click()
    expect(report.get_by_text("What the intervals cover")).to_be_visible()

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".nbannot-copy").click()
    cell = page.locator(".nbannot-cell textarea")
    expect(cell).to_have_value(re.compile("^%%annotate policy-sentiment\n"))
    text = cell.input_value()
    page.wait_for_function("async (text) => (await navigator.clipboard.readText()) === text", arg=text)
    assert page.evaluate(NEW_CELL, text)
    expect(last_output(page)).to_contain_text("policy-sentiment · mock")
    assert run_id_in(last_output(page).inner_text()) == made


def test_by_keyboard_alone(open_notebook):
    page = open_notebook(BEGIN, FORM.format(model="mock/form1", limit=3), height=1400)
    expect(page.locator(".nbannot-plan")).to_contain_text("calls")
    assert page.evaluate(UNNAMED) == []
    page.get_by_label("Task", exact=True).focus()
    passed = [page.evaluate(FOCUSED)]
    while passed[-1] != "Max tokens" and len(passed) < 40:
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED).startswith("Sampling"):
            page.keyboard.press("Space")
            expect(page.get_by_label("Temperature")).to_be_visible()
        if page.evaluate(FOCUSED) == "Temperature":
            page.keyboard.press("ControlOrMeta+A")
            page.keyboard.type("0, 0.5")
        passed.append(page.evaluate(FOCUSED))
    wanted = [
        "Task",
        "Model",
        "Run",
        "Sample (random)",
        "Limit (first texts)",
        "Prompt",
        "Examples",
        "Chat mode",
        "Reasoning",
        "Temperature",
        "Seed",
    ]
    assert [name for name in passed if name in wanted] == wanted
    expect(page.locator(".nbannot-plan")).to_contain_text("2 runs")
    while page.evaluate(FOCUSED) != "Run" and len(passed) < 80:
        page.keyboard.press("Shift+Tab")
        passed.append(page.evaluate(FOCUSED))
    page.keyboard.press("Enter")
    expect(page.locator(".nbannot-status")).to_contain_text("2 runs made, 0 failed")
    expect(page.locator(".nbannot-run")).to_be_focused()  # handed to Stop meanwhile, and back


def test_lists_keep_their_keys_and_show_where_the_focus_is(open_notebook):
    page = open_notebook(BEGIN, FORM.format(model="mock/form2", limit=3), "1 + 1", height=1400)
    plan = page.locator(".nbannot-plan")
    expect(plan).to_contain_text("calls")
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUSED) == "Prompt"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Shift+ArrowDown")
    expect(prompt).to_have_values(["standard", "persona"])
    expect(plan).to_contain_text("2 runs")
    page.keyboard.press("c")
    expect(prompt).to_have_values(["CoT"])
    assert page.evaluate(FOCUSED) == "Prompt"
    task = page.get_by_label("Task", exact=True)
    assert task.evaluate("e => [...e.list.options].map(o => o.value)") == [
        "discrete-emotions",
        "policy-sentiment",
    ]
    task.focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("discrete-emotions")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Primary emotion (dropdown)")).to_be_visible()
    expect(page.locator(".nbannot-form")).to_have_count(1)
    assert page.evaluate(FOCUSED) == "Task"
    assert page.evaluate(outline) == "solid"


def test_dark_and_narrow(open_notebook):
    page = open_notebook(
        BEGIN,
        FORM.format(model="mock", limit=6),
        'run = nba.run("policy-sentiment", model="mock", limit=6)\nrun',
        height=1400,
    )
    unfold(page)
    expect(page.locator(".nbannot-prompt pre")).to_be_visible()
    page.get_by_label("Max tokens").fill("many")
    open_notebook.dark(page)
    seen = {
        name: contrast(page.locator(where).first)
        for name, where in {
            "card": ".jp-RenderedHTMLCommon .nbannot td",
            "quiet": ".jp-RenderedHTMLCommon .nbannot td.q",
            "heading": ".jp-RenderedHTMLCommon .nbannot h3",
            "label": ".nbannot-temperature label",
            "typed": ".nbannot-temperature input",
            "option": ".nbannot-prompt_type select",
            "ticked": ".nbannot-fields label",
            "title": ".nbannot-title",
            "fault": ".nbannot-fault",
            "prompt": ".nbannot-prompt pre",
        }.items()
    }
    assert {name: ratio for name, ratio in seen.items() if ratio < 4.5} == {}
    page.emulate_media(media="print")
    cell = page.locator(".jp-RenderedHTMLCommon .nbannot td").first
    assert cell.evaluate(COLOURS)[1] == [255, 255, 255], "a browser prints no background of the page"
    assert contrast(cell) > 4.5
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 430, "height": 900})
    page.wait_for_timeout(300)
    too_wide = """() => [...document.querySelectorAll('.nbannot-form, .nbannot-form .nbannot-row')]
      .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => [e.className, e.scrollWidth, e.clientWidth])"""
    assert page.evaluate(too_wide) == []


HOSTILE = """
import polars as pl
texts = [
    "<script>window.hacked = 1</script> the first",
    '<img src=x onerror="window.hacked = 2"> the second',
    "שלום עולם, <b>bold</b> \\u202e reversed",
    "👩‍🔬 emoji & </pre></div><svg onload='window.hacked = 3'>",
]
option = "<img src=x onerror=window.hacked=4>"
fields = {
    "annotation_1": {"name": "Kind <u>u</u>", "type": "dropdown", "tooltip": "<b>t</b>", "options": [option, "plain"]},
    "annotation_2": {"name": "Marks", "type": "span", "tooltip": "", "label_options": ["<em>a</em>", "b"]},
    "annotation_3": {"name": "Words", "type": "textbox", "tooltip": ""},
}
section = {"section_name": "<i>S</i>", "section_instruction": "<script>window.hacked=5</script>", "annotations": fields}
labels = {"<i>S</i>_Kind <u>u</u>": [option, "plain"] * 2}
frame = pl.DataFrame({"id": list("abcd"), "text": texts, **labels})
task = nba.Task(frame, {"text_column": "text", "section_1": section}, "hostile")
run = nba.run(task, model="mock")
"""


def test_hostile_texts_stay_text(open_notebook):
    kind = "run.coding.fields[0].column"
    page = open_notebook(
        BEGIN, HOSTILE, "task", "run", "run.report()", f"displays.disagreements(run, {kind})",
        "displays.span_view(run, run.coding.fields[1].column)", "displays.text_pairs(run, run.coding.fields[2].column)",
        f"displays.confusion(run, {kind})", 'form = nba.configure(task, model="mock")\nform',
    )  # fmt: skip
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    expect(page.locator(".nbannot-prompt pre")).to_contain_text(
        "<script>window.hacked = 1</script> the first"
    )
    page.locator(".nbannot-run").click()
    expect(page.locator(".nbannot-status")).to_contain_text("complete")
    shown = page.locator(".jp-Notebook").inner_text()
    for text in ("<script>window.hacked = 1</script>", "<b>bold</b>", "שלום עולם", "👩‍🔬", "<em>a</em>"):
        assert text in shown
    assert page.evaluate("() => window.hacked") is None
    assert dialogs == []
    made = """() => [...document.querySelectorAll('.nbannot script, .nbannot b b, .nbannot u, .nbannot i, .nbannot em, '
      + '.nbannot svg, .nbannot img:not([src^="data:image/svg+xml;base64,"])')].map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(made) == []


RESULTS = ("policy-sentiment · mock", "Report on policy-sentiment", "Confusion: Direction", "run-by-form")


def seen_in(page: Any) -> str:
    page.locator(".jp-Notebook .jp-OutputArea-output").first.wait_for()
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget.context.isReady")
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session") is None
    return str(page.locator(".jp-Notebook").inner_text())


def test_a_saved_notebook_without_kernel_and_untrusted(open_notebook, save):
    page = open_notebook(
        BEGIN, '%%annotate policy-sentiment -o run\nmodel = "mock"\nlimit = 12', "run", "%report",
        'displays.confusion(run, "Direction")', "%runs", FORM.format(model="mock/run-by-form", limit=4),
    )  # fmt: skip
    page.locator(".nbannot-run").click()
    expect(page.locator(".nbannot-status")).to_contain_text("complete; 4 texts")
    expect(page.locator(".jp-RenderedHTMLCommon").filter(has_text="mock/run-by-form")).not_to_have_count(0)
    save(page)
    open_notebook.end_kernel(page)
    path = open_notebook.path()
    book = nbformat.read(path, as_version=4)

    trusted = open_notebook.page(path, without_kernel=True)
    text = seen_in(trusted)
    assert [word for word in RESULTS if word not in text] == []
    assert trusted.locator(".jp-OutputArea .nbannot style").count() > 0

    book.cells.append(nbformat.v4.new_markdown_cell("from someone else"))
    other = open_notebook.path("_untrusted")
    nbformat.write(book, other)
    untrusted = open_notebook.page(other, without_kernel=True)
    text = seen_in(untrusted)
    assert [word for word in RESULTS if word not in text] == []
    assert untrusted.locator(".jp-OutputArea .nbannot style").count() == 0
    tinted = """() => [...document.querySelectorAll('.jp-OutputArea td')]
      .filter(e => /rgba\\(46, 134, 193/.test(e.style.backgroundColor)).length"""
    assert untrusted.evaluate(tinted) > 0


def test_interrupt_and_run_again(open_notebook, command):
    cell = f'%%annotate policy-sentiment -o run\nmodel = "{SLOW}"\nlimit = 12\nseed = 7'
    page = open_notebook(BEGIN, cell, 'print("af" + "ter")', run=False)
    page.evaluate("() => { window.ran = window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    expect(page.locator(".jp-Notebook")).to_contain_text(re.compile(r"[1-9]\d* of 48 answers"))
    command(page, "notebook:interrupt-kernel")
    expect(page.locator(".jp-Notebook")).to_contain_text(re.compile(r"stopped: \d+ of 48 answers are kept"))
    assert page.evaluate("() => window.ran") is False
    shown = page.locator(".jp-Notebook").inner_text()
    assert "Traceback" not in shown
    assert "after" not in shown
    assert page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    shown = page.locator(".jp-Notebook").inner_text()
    assert "on 12 texts" in shown
    assert "kept from before" in shown
    assert "after" in shown


def test_in_jupyterlab(open_notebook):
    page = open_notebook(BEGIN, FORM.format(model="mock", limit=4), lab=True)
    page.locator(".nbannot-run").click()
    expect(page.locator(".nbannot-status")).to_contain_text("complete; 4 texts")
    expect(page.locator(".jp-RenderedHTMLCommon .nbannot h3").first).to_contain_text(
        "policy-sentiment · mock"
    )
