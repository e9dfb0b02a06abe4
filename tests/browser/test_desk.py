"""The desk in a real browser: texts coded by keyboard alone, spans by mouse and keys, and what a dead kernel shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from nbannot.comparing.coder_log import read_log

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


def test_texts_are_coded_by_keyboard_alone(open_notebook: Any, tmp_path: Path) -> None:
    page = start(open_notebook, tmp_path)
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
