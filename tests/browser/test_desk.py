"""The desk in a real browser: texts coded by keyboard alone, spans by mouse and keys, and what a dead kernel shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA
from playwright.sync_api import expect

from nbannot.comparing.coder_log import read_log
from nbannot.comparing.people import LabelReader
from nbannot.desk.decisions import decisions_in
from nbannot.study.task_sources import load_task

START = """
import nbannot as nba, os
task = nba.load_task("policy-sentiment")
desk = nba.code(task, coder="anna", output_root={root!r}, order="file")
desk
"""


def start(open_notebook: Any, root: Path, source: str = START, **options: Any) -> Any:
    page = open_notebook(source.format(root=str(root)), **options)
    page.locator(".nba-root").wait_for()
    page.locator(".nba-root").focus()
    return page


def labels(root: Path, coder: str = "anna") -> dict[str, dict[str, Any]]:
    """Return text -> column -> the value that the log ends with."""
    [log] = root.glob(f"*/coders/{coder}.log.jsonl")
    found: dict[str, dict[str, Any]] = {}
    for line in read_log(log)[0]:
        if line["action"] == "answer":
            found.setdefault(line["text_id"], {})[line["column"].split("_", 1)[1]] = line["value"]
    return found


@pytest.mark.parametrize("lab", [False, True], ids=["notebook", "lab"])
def test_texts_are_coded_by_keyboard_alone(open_notebook: Any, tmp_path: Path, lab: bool) -> None:
    page = start(open_notebook, tmp_path, lab=lab)
    head = page.locator(".nba-head")
    expect(head).to_contain_text("text 1 of 64")
    page.keyboard.type("1")
    page.keyboard.press("Enter")  # keys run ahead of the kernel: none is lost, none lands in the next text
    for key in ["2", "Enter", "3", "Enter"]:
        page.keyboard.press(key)
    page.locator(".nba-field.active textarea").wait_for()
    page.keyboard.type("a, b")
    page.keyboard.press("Enter")
    expect(head).to_contain_text("text 2 of 64")
    for key in ["0", "Enter", "4", "Enter"]:
        page.keyboard.press(key)
    expect(head).to_contain_text("text 3 of 64")  # the two other questions do not apply
    expect(head).to_contain_text("2 done")
    page.keyboard.press("Backspace")
    expect(head).to_contain_text("text 2 of 64")
    page.keyboard.press("f")
    expect(head).to_contain_text("flagged")
    page.keyboard.press("m")
    page.keyboard.type("why? ask mB")
    page.keyboard.press("Enter")
    expect(head).to_contain_text("memo")
    page.keyboard.press("?")
    expect(page.locator(".nba-panel")).to_contain_text("Codebook")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(head).to_contain_text("1 done")
    assert labels(tmp_path)["ps001"] == {
        "Explicit evaluation": 1, "Direction": "negative", "Intensity": 3, "Evidence": "a, b"
    }  # fmt: skip


TEXTS = [
    "A👍🏽b\r\ncafé 👩‍👩‍👧 met the council, then the workers.",
    "قالت الحكومة إن العمال غاضبون today.",
    "The pensioners of Leeds",
]
SPANS = """
import nbannot as nba, pandas as pd
texts = {texts!r}
book = nba.Codebook.build(text_column="text", sections={{"G": [nba.span("Who", label_options=["group", "state"])]}})
task = nba.Task(pd.DataFrame({{"id": ["t1", "t2", "t3"], "text": texts}}), book, name="marks")
desk = nba.code(task, coder="anna", output_root={root!r}, order="file")
desk
"""
BOX = """(word) => { const walk = document.createTreeWalker(document.querySelector('.nba-text'), NodeFilter.SHOW_TEXT);
  const nodes = []; let n, all = ''; while ((n = walk.nextNode())) { nodes.push([n, all.length]); all += n.data; }
  const at = i => { const [node, start] = nodes.filter(x => x[1] <= i).pop(); return [node, i - start]; };
  const i = all.indexOf(word), r = document.createRange(), [last, end] = at(i + word.length - 1);
  r.setStart(...at(i)); r.setEnd(last, end + 1);
  const b = r.getClientRects(), f = b[0], l = b[b.length - 1];
  return [f.left, l.right, f.top + f.height / 2]; }"""


def drag(page: Any, word: str) -> None:
    left, right, y = page.evaluate(BOX, word)
    page.mouse.move(left + 0.5, y)
    page.mouse.down()
    page.mouse.move((left + right) / 2, y, steps=4)
    page.mouse.move(right - 0.5, y, steps=4)
    page.mouse.up()


def test_spans_by_mouse_and_keys_have_the_places_that_python_counts(
    open_notebook: Any, tmp_path: Path
) -> None:
    source = SPANS.format(texts=TEXTS, root=str(tmp_path))
    page = open_notebook(source)
    page.locator(".nba-root").wait_for()
    head = page.locator(".nba-head")
    drag(page, "council")
    page.keyboard.press("2")
    drag(page, "the council, then")  # overlaps the first
    page.keyboard.press("1")
    page.keyboard.press("Home")
    page.keyboard.press("End")  # of the last line
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")  # "workers." and nothing of what stands before
    page.keyboard.press("1")
    expect(page.locator(".nba-spans li")).to_have_count(3)
    page.keyboard.press("Enter")
    expect(head).to_contain_text("text 2 of 3")
    drag(page, "العمال")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(head).to_contain_text("text 3 of 3")
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.press("1")
    page.keyboard.press("Delete")  # the caret is at its end
    page.keyboard.press("Enter")
    expect(head).to_contain_text("3 done")
    found = labels(tmp_path)
    places = {i: [(s["start"], s["end"], s["label"]) for s in row["Who"]] for i, row in found.items()}
    one, two = TEXTS[0], TEXTS[1]
    assert places == {
        "t1": [
            (one.index("the council"), one.index("the council") + 17, "group"),
            (one.index("council"), one.index("council") + 7, "state"),
            (one.index("workers."), len(one), "group"),
        ],
        "t2": [(two.index("العمال"), two.index("العمال") + 6, "group")],
        "t3": [],
    }
    for text_id, row in found.items():
        text = TEXTS[int(text_id[1]) - 1]
        assert all(text[s["start"] : s["end"]] == s["text"] for s in row["Who"])


def test_a_dead_kernel_is_said_and_what_was_done_stays(open_notebook: Any, tmp_path: Path, save: Any) -> None:
    page = open_notebook(START.format(root=str(tmp_path)), "import os; print('process', os.getpid())")
    root, status = page.locator(".nba-root"), page.locator(".nba-status")
    root.focus()
    for key in ["0", "Enter", "4", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator(".nba-head")).to_contain_text("text 2 of 64")
    kept = page.locator(".jp-OutputArea").get_by_text("anna: 1 of 64 texts coded; kept in")
    expect(kept).to_be_visible()
    save(page)
    process = int(page.locator(".jp-OutputArea").get_by_text("process").inner_text().split()[-1])
    os.kill(process, signal.SIGKILL)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("NOT KEPT", timeout=4_000)
    expect(page.locator(".nba-root.dead")).to_be_visible(timeout=10_000)
    page.keyboard.press("2")
    expect(status).to_contain_text("NOT KEPT")
    book = json.loads(open_notebook.path().read_text())
    held = [output.get("data", {}) for cell in book["cells"] for output in cell["outputs"]]
    desk = next(d for d in held if "application/vnd.jupyter.widget-view+json" in d)
    assert "Desk of anna" in "".join(desk["text/html"])
    assert any("anna: 1 of 64 texts coded" in "".join(d.get("text/plain", "")) for d in held)
    assert sum(map(len, labels(tmp_path).values())) == 2


def test_four_hundred_pixels_in_the_dark_and_the_order_of_focus(open_notebook: Any, tmp_path: Path) -> None:
    page = open_notebook(START.format(root=str(tmp_path)), width=400, height=900)
    open_notebook.dark(page)
    root = page.locator(".nba-root")
    root.wait_for()
    sizes = root.evaluate("e => [e.scrollWidth, e.clientWidth, getComputedStyle(e).color]")
    assert sizes[0] <= sizes[1] + 1
    assert min(int(n) for n in sizes[2].split("(")[1].split(",")[:3]) > 150  # light on dark
    text, field = page.locator(".nba-text").bounding_box(), page.locator(".nba-field").first.bounding_box()
    assert field["y"] >= text["y"] + text["height"] - 1  # below, not beside
    root.focus()
    seen = []
    for _ in range(3):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("() => document.activeElement.className || document.activeElement.type"))
    assert [name for name in seen if name != "nba-guide"][:2] == [
        "nba-text",
        "radio",
    ]  # guidance that scrolls is reached
    assert page.locator("[role=status][aria-live=polite]").count() == 1
    assert page.get_by_role("radiogroup", name="Direction").count() == 1
    page.get_by_label("yes").check()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".nba-status")).to_contain_text("kept")


CLASS = """
import nbannot as nba
task = nba.load_task("policy-sentiment").select(limit=2)
nba.code(task, coder="ben", output_root={root!r}).answer("ps001", "Explicit evaluation", 1)
nba.code(task, coder="anna", output_root={root!r}, order="file", feedback=True)
"""


def test_a_class_sees_the_gold_after_a_text_and_the_answer_stays(open_notebook: Any, tmp_path: Path) -> None:
    page = start(open_notebook, tmp_path, CLASS)
    assert page.locator(".nba-panel").count() == 0
    for key in ["0", "Enter", "4", "Enter"]:
        page.keyboard.press(key)
    panel = page.locator(".nba-panel")
    expect(panel).to_contain_text("0 of 1 others said the same")
    expect(panel.locator("tr", has_text="gold").first).to_contain_text("yes")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator(".nba-head")).to_contain_text("text 2 of 2")


MANY = """
import nbannot as nba, pandas as pd
book = nba.Codebook.build(text_column="text", sections={{"S": [nba.checkbox("Judges")]}})
texts = [f"Text {{i}}: the council decided." for i in range(9_999)] + ["long " * 10_000]
frame = pd.DataFrame({{"id": [f"t{{i:05d}}" for i in range(10_000)], "text": texts}})
desk = nba.code(nba.Task(frame, book, name="many"), coder="anna", output_root={root!r}, order="file")
desk
"""
PRESSED = """async () => {
  const root = document.querySelector('.nba-root'), head = () => document.querySelector('.nba-head').textContent;
  const press = key => root.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
  const taken = [];
  for (let i = 0; i < 30; i++) {
    const before = head().match(/text (\\d+)/)[1];
    press('1');
    const began = performance.now();
    press('Enter');
    while (head().match(/text (\\d+)/)[1] === before) await new Promise(r => requestAnimationFrame(r));
    await new Promise(r => requestAnimationFrame(r));
    taken.push(performance.now() - began);
  }
  return taken.sort((a, b) => a - b);
}"""


def test_ten_thousand_texts_stay_quick(open_notebook: Any, tmp_path: Path) -> None:
    page = start(open_notebook, tmp_path, MANY)
    expect(page.locator(".nba-head")).to_contain_text("text 1 of 10000")
    taken = page.evaluate(PRESSED.replace("\\\\", "\\"))
    print(f"key to next text: median {taken[15]:.0f} ms, worst {taken[-1]:.0f} ms")
    assert taken[0] < 100  # the quickest: other work on the machine only adds


REAL = """
import shutil, nbannot as nba
task = nba.load_task({source!r})
desk = nba.code(task, coder="hand", output_root={root!r}, order="file", texts={ids!r})
desk
"""


def given(
    name: str, coder: str, n: int, root: Path, column: str
) -> tuple[Any, list[str], dict[str, dict[str, Any]]]:
    """Return a set with only its texts to code, ids of texts that a coder labelled, and the labels."""
    for file in ("codebook.json", "ground-truth.csv"):
        (root / name).mkdir(exist_ok=True)
        shutil.copy(DATA / name / file, root / name / file)
    whole = load_task(root / name)
    read = LabelReader(whole).read(DATA / name / "coders" / f"{coder}.csv", coder)
    ids = [i for i in whole.ids if read.get(i, {}).get(column) not in (None, [])][:n]
    return whole, ids, read


def test_a_manifesto_is_coded_by_keys_alone_as_an_expert_did(open_notebook: Any, tmp_path: Path) -> None:
    """NBANNOT_DESK_TEXTS=50 for the length of a sitting."""
    n = int(os.environ.get("NBANNOT_DESK_TEXTS", "6"))
    task, ids, read = given("uk_manifesto_policy", "expert_slot_1", n, tmp_path, "Policy area_Area")
    folder = str(tmp_path / "uk_manifesto_policy")
    page = start(
        open_notebook, tmp_path, REAL.replace("{source!r}", repr(folder)).replace("{ids!r}", repr(ids))
    )
    began = time.monotonic()
    for place, text_id in enumerate(ids):
        expect(page.locator(".nba-head")).to_contain_text(f"text {place + 1} of {len(ids)}")
        row = read[text_id]
        for f in task.codebook:
            if f.column in row:
                page.keyboard.press(str(f.labels.index(row[f.column]) + 1))
            elif f.type != "textbox":
                continue
            page.keyboard.press("Enter")  # nothing to write, for the textbox
    expect(page.locator(".nba-head")).to_contain_text(f"{len(ids)} done")
    print(f"{len(ids)} texts by keyboard: {time.monotonic() - began:.1f} s")
    [path] = tmp_path.glob("*/coders/hand.csv")
    mine = LabelReader(task).read(path, "hand")
    assert {i: mine[i] for i in ids} == {i: read[i] for i in ids}


def test_group_mentions_are_marked_where_a_coder_marked_them(open_notebook: Any, tmp_path: Path) -> None:
    """NBANNOT_DESK_SPANS=20 for the length of a sitting."""
    n, column = int(os.environ.get("NBANNOT_DESK_SPANS", "4")), "Group mentions_Mentions"
    task, ids, read = given("uk_group_mentions", "coder_1", n, tmp_path, column)
    folder = str(tmp_path / "uk_group_mentions")
    page = start(
        open_notebook, tmp_path, REAL.replace("{source!r}", repr(folder)).replace("{ids!r}", repr(ids))
    )
    labels = task.codebook["Mentions"].labels
    for place, text_id in enumerate(ids):
        expect(page.locator(".nba-head")).to_contain_text(f"text {place + 1} of {len(ids)}")
        for number, span in enumerate(read[text_id][column], start=1):
            select(page, span["start"], span["end"])
            page.keyboard.press(str(labels.index(span["label"]) + 1))
            expect(page.locator(".nba-spans li")).to_have_count(number)
        page.keyboard.press("Enter")
    expect(page.locator(".nba-head")).to_contain_text(f"{len(ids)} done")
    [path] = tmp_path.glob("*/coders/hand.csv")
    mine = LabelReader(task).read(path, "hand")
    assert {i: mine[i][column] for i in ids} == {i: read[i][column] for i in ids}


PLACE = """([start, end]) => {
  const walk = document.createTreeWalker(document.querySelector('.nba-text'), NodeFilter.SHOW_TEXT);
  const nodes = []; let n, all = ''; while ((n = walk.nextNode())) { nodes.push([n, all.length]); all += n.data; }
  const units = Array.from(all).map(c => c.length);
  const unit = p => units.slice(0, p).reduce((a, b) => a + b, 0);
  const at = i => { const [node, from] = nodes.filter(x => x[1] <= i).pop(); return [node, i - from]; };
  const side = (i, right) => { const r = document.createRange(), [node, k] = at(right ? i - 1 : i);
    r.setStart(node, k); r.setEnd(node, k + 1); const b = r.getClientRects(), c = b[b.length - 1];
    return [right ? c.right : c.left, c.top + c.height / 2]; };
  return [side(unit(start), false), side(unit(end), true)]; }"""


def select(page: Any, start: int, end: int) -> None:
    """Drag the mouse over a passage, which may run over several lines."""
    (left, top), (right, bottom) = page.evaluate(PLACE, [start, end])
    page.mouse.move(left + 0.5, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, (top + bottom) / 2, steps=3)
    page.mouse.move(right - 0.5, bottom, steps=3)
    page.mouse.up()


def test_an_adjudicator_sees_the_others_only_after_the_own_answer(open_notebook: Any, tmp_path: Path) -> None:
    source = """
import nbannot as nba
task = nba.load_task("policy-sentiment")
for coder, value in (("anna", "positive"), ("ben", "mixed")):
    for text in ("ps001", "ps002"):
        nba.code(task, coder=coder, output_root={root!r}).answer(text, "Direction", value)
        nba.code(task, coder=coder, output_root={root!r}).answer(text, "Explicit evaluation", 0)
nba.adjudicate(task, "dora", output_root={root!r}, agreements=0)
"""
    page = start(open_notebook, tmp_path, source)
    page.set_viewport_size({"width": 1100, "height": 560})
    root, panel = page.locator(".nba-root"), page.locator(".nba-panel")
    assert "coder 1" not in root.inner_text()
    for key in ["0", "Enter", "2", "Enter"]:
        page.keyboard.press(key)
    expect(panel).to_contain_text("coder 2")
    expect(panel).to_be_in_viewport()  # below the questions, where nobody looks by chance
    assert not {"anna", "ben"} & set(panel.inner_text().split())
    page.keyboard.press("Enter")
    expect(page.locator(".nba-status")).to_contain_text("choose a reason first")
    for key in ["e", "ArrowDown", "3", "Enter", "2", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator(".nba-head")).to_contain_text("1 done")
    expect(page.locator(".nba-head")).to_be_in_viewport()
    [decision] = decisions_in(next(tmp_path.glob("*/adjudication.jsonl"))).values()
    assert (decision.first["Policy Sentiment_Direction"], decision.values["Policy Sentiment_Direction"]) == (
        "negative", "mixed"
    )  # fmt: skip
    assert (decision.reason, decision.by, decision.moved) == (
        "the text is ambiguous", "dora", ["Policy Sentiment_Direction"]
    )  # fmt: skip


def test_a_page_that_is_loaded_again_and_a_second_tab_go_on_together(
    open_notebook: Any, tmp_path: Path, save: Any
) -> None:
    page = start(open_notebook, tmp_path)
    for key in ["0", "Enter", "4", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator(".nba-head")).to_contain_text("text 2 of 64")
    save(page)
    page.reload()
    page.locator(".nba-root").wait_for(timeout=60_000)
    expect(page.locator(".nba-head")).to_contain_text("text 2 of 64")
    other = open_notebook.page(open_notebook.path())
    other.locator(".nba-root").wait_for(timeout=60_000)
    other.locator(".nba-root").focus()
    for key in ["0", "Enter", "4", "Enter"]:
        other.keyboard.press(key)
    expect(page.locator(".nba-head")).to_contain_text("text 3 of 64")
    page.locator(".nba-root").focus()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(other.locator(".nba-status")).not_to_contain_text("NOT KEPT")
    expect(other.locator(".nba-field").first).to_contain_text("✓")
    assert list(labels(tmp_path)) == ["ps001", "ps002", "ps003"]


EVERY = """
import nbannot as nba, pandas as pd
book = nba.Codebook.build(text_column="text", sections={{"S": [
    nba.multiselect("Topics", "What is it about?", options={{"war": "armed conflict", "tax": "", "road": ""}}),
    nba.checkbox("Judges", "Does it judge?", condition=("Topics", "tax")),
    nba.dropdown("Side", options=["for", "against"]),
    nba.likert("Force", min_value=1, max_value=5),
    nba.span("Who", label_options=["person", "group"]),
    nba.textbox("Why"),
]}})
texts = pd.DataFrame({{"id": ["a", "b", "c"], "text": ["War and tax 😀", "Roads.", "Nothing of these."]}})
nba.code(nba.Task(texts, book, name="every"), coder="anna", output_root={root!r}, order="file")
"""


def test_all_that_apply_by_keyboard_and_a_screen_reader_can_follow(
    open_notebook: Any, tmp_path: Path
) -> None:
    base = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    page = start(open_notebook, tmp_path, EVERY)
    status = page.locator(".nba-status")

    def faults(where: str) -> list[str]:
        page.evaluate(Path(base.AXE_FILE_PATH).read_text(encoding="utf-8"))
        found = page.evaluate("where => axe.run(where)", where)["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    assert page.get_by_role("group", name="Topics: all that apply").get_by_role("checkbox").count() == 3
    for key in ["1", "3", "2", "3"]:  # the same key takes an option back
        page.keyboard.press(key)
    expect(page.locator(".nba-field.active .nba-quiet").first).to_have_text("2 chosen")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("kept · “Topics”: war, tax")
    expect(page.locator(".nba-field.active legend")).to_contain_text("Judges")  # asked, as tax is among them
    assert labels(tmp_path)["a"] == {"Topics": ["war", "tax"]}
    assert faults(".nba-desk") == []
    for key in ["1", "Enter", "2", "Enter", "3", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator(".nba-field.active legend")).to_contain_text("Who")
    page.keyboard.press("Shift+Control+ArrowRight")
    page.keyboard.press("1")
    assert faults(".nba-desk") == []
    for key in ["Enter", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator(".nba-head")).to_contain_text("text 2 of 3")
    page.keyboard.press("Enter")  # nothing chosen: none applies
    expect(status).to_contain_text("kept · “Topics”: none of them")
    assert labels(tmp_path)["b"] == {"Topics": []}
    page.get_by_label("road").check()  # by mouse, after the fact
    page.keyboard.press("Enter")
    expect(status).to_contain_text("kept · “Topics”: road")
    for panel in ("?", "m", "/"):
        page.locator(".nba-root").focus()
        page.keyboard.press(panel)
        page.locator(".nba-panel").wait_for()
        assert faults(".nba-desk") == [], panel
        page.keyboard.press("Escape")
    page.set_viewport_size({"width": 400, "height": 900})
    open_notebook.dark(page)
    assert faults(".nba-desk") == []
    assert labels(tmp_path)["b"] == {"Topics": ["road"]}


WIDER = """e => [...e.querySelectorAll('*')].filter(i => !i.closest('table') && i.getBoundingClientRect().right >
  e.getBoundingClientRect().right + 1).map(i => i.outerHTML.slice(0, 120))"""
"""What of a form sticks out of it, tables aside, which scroll."""


def test_a_codebook_is_typed_beside_its_card(open_notebook: Any, tmp_path: Path) -> None:
    base = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    place = tmp_path / "codebook.json"
    page = open_notebook(f"import nbannot as nba\nform = nba.build_codebook(path={str(place)!r})\nform")
    form = page.locator(".nbannot-form")
    form.wait_for()
    form.get_by_label("Question", exact=True).fill("Topics")
    form.get_by_label("Answer").select_option(label="all options that apply (multiselect)")
    form.get_by_label("Options").fill("war = armed\ntax")
    card = form.locator(".nbannot")
    expect(card).to_contain_text("all that apply of: war, tax")
    form.get_by_label("Guidance").fill("What is it <b>about</b>?")
    expect(card).to_contain_text("Topics: guidance")
    form.get_by_role("button", name="Add").click()
    expect(form.get_by_role("alert")).to_contain_text("has no name")
    form.get_by_label("Question", exact=True).fill("Force")
    form.get_by_label("Answer").select_option(label="a point on a scale (likert)")
    form.get_by_label("from").fill("1")
    form.get_by_label("to", exact=True).fill("5")
    form.get_by_label("Only if").fill("Topics = war")
    expect(card).to_contain_text("where Topics = war")
    page.evaluate(Path(base.AXE_FILE_PATH).read_text(encoding="utf-8"))
    rules = "{ rules: { 'heading-order': { enabled: false } } }"  # the headings of the page around it are not known
    found = page.evaluate(f"() => axe.run('.nbannot-form', {rules})")["violations"]
    assert [(one["id"], [n["html"][:160] for n in one["nodes"]]) for one in found] == []
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status")).to_contain_text("Saved")
    assert [f["type"] for f in json.loads(place.read_text())["section_1"]["annotations"].values()] == [
        "multiselect",
        "likert",
    ]
    page.set_viewport_size({"width": 400, "height": 900})
    open_notebook.dark(page)
    assert form.evaluate(WIDER) == []
