"""The desk without a browser: what is kept, where, and what is told; kills, disks and other sessions."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbannot as nba
from nbannot.comparing.coder_log import read_log
from nbannot.desk.kept_csv import cells_of
from nbannot.desk.labels import Key, Ledger, row_of
from nbannot.errors import DeskError
from nbannot.study.reading import read_csv

TEXTS = ["A👍🏽b\r\ncafé fine", "plain", "nothing", "last"]
SECTIONS = {
    "S": [
        nba.checkbox("Judges", "Does it judge?"),
        nba.dropdown("Side", options=["None", "for", "against"], condition=("Judges", 1)),
        nba.likert("Force", min_value=-2, max_value=2, condition=("Side", "for")),
        nba.textbox("Why"),
        nba.span("Who", label_options=["group", "state"]),
    ]
}


def made(sections: Any = SECTIONS, texts: list[str] = TEXTS, name: str = "study", **columns: Any) -> nba.Task:
    book = nba.Codebook.build(text_column="text", sections=sections)
    ids = [f"t{i}" for i in range(1, len(texts) + 1)]
    return nba.Task(pd.DataFrame({"id": ids, "text": texts, **columns}), book, name=name)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_as_log(desk: Any) -> bool:
    """Return whether the CSV holds what the log amounts to, made here by another way."""
    ledger = Ledger(read_log(desk.log_path)[0])
    table = read_csv(desk.path)
    book = desk.task.codebook
    wanted = {i: cells_of(book, row_of(book, ledger.of(Key(i)).values)) for i in table["id"]}
    return all(list(row[1:]) == wanted[row[0]] for row in table.iter_rows())


def test_all_five_types_reach_log_csv_and_load_coder() -> None:
    task = made()
    desk = nba.code(task, coder="anna")
    spans = [
        {"start": np.int64(5), "end": 6, "label": "group"},
        {"start": 1, "end": 3, "label": "state", "text": "👍🏽"},
    ]
    for column, value in [
        ("Judges", True),
        ("Side", "for"),
        ("Force", -2),
        ("Why", 'a, "b"\r\nc'),
        ("Who", spans),
    ]:
        desk.answer("t1", column, value)
    desk.answer("t2", "Judges", "no")
    desk.answer("t2", "Why", "  ")
    desk.answer("t2", "Who", [])
    assert desk.path == Path.cwd() / "outputs/study/coders/anna.csv"
    assert (desk.is_done(Key("t1")), desk.is_done(Key("t2")), desk.done) == (True, True, 2)
    coder = nba.load_coder(task, desk.path)
    values = {f.name: coder.coding.values(f.column)[:2] for f in task.codebook}
    quotes = [
        {"start": 1, "end": 3, "text": "👍🏽", "label": "state"},
        {"start": 5, "end": 6, "text": TEXTS[0][5], "label": "group"},
    ]
    assert values == {"Judges": [1, 0], "Side": ["for", None], "Force": [-2, None], "Why": ['a, "b"\r\nc', None],
                      "Who": [quotes, []]}  # fmt: skip
    frame = desk.labels
    assert [frame["S_Judges"][i] for i in range(3)] == [1, 0, None]
    assert list(frame.columns) == ["id", "S_Judges", "S_Side", "S_Force", "S_Why", "S_Who"]
    assert frame["S_Who"][0] == quotes
    assert frame["S_Why"][1] == ""
    assert same_as_log(desk)
    lines = read_log(desk.log_path)[0]
    assert [line["action"] for line in lines][:2] == ["open", "answer"]
    assert {"time", "session", "text_id", "column", "value", "by", "codebook", "text"} <= lines[1].keys()


def test_a_field_that_stops_applying_leaves_the_csv_and_comes_back() -> None:
    desk = nba.code(made(), coder="anna")
    for column, value in [("Judges", 1), ("Side", "for"), ("Force", 2)]:
        desk.answer("t1", column, value)
    desk.answer("t1", "Judges", 0)
    assert list(read_csv(desk.path).row(0)) == ["t1", "0", "", "", "", ""]
    desk.answer("t1", "Judges", 1)
    assert list(read_csv(desk.path).row(0)) == ["t1", "1", "for", "2", "", ""]
    assert desk.undo() == Key("t1")
    assert desk.undo() == Key("t1")
    assert list(read_csv(desk.path).row(0)) == ["t1", "1", "for", "2", "", ""]
    desk.close()
    again = nba.code(made(), coder="anna")  # undo goes on across sessions
    for _ in range(3):
        again.undo()
    assert again.undo() is None
    assert list(read_csv(again.path).row(0)) == ["t1", "", "", "", "", ""]
    assert same_as_log(again)


REFUSED = [
    ("t1", "Side", "for", "'Side' does not apply to text 't1': it is asked where 'Judges' is 1."),
    ("t1", "Judges", 2, "'Judges': 2 must be 1 or 0"),
    ("t1", "Judges", "", "'Judges' takes 1 or 0. Got a blank"),
    ("t1", "Judges", 1.5, "'Judges': 1.5 must be 1 or 0"),
    ("t9", "Judges", 1, "the task 'study' has no text with the id 't9'.\n  The ids"),
    (
        "t2",
        "Who",
        [{"start": 0, "end": 6, "label": "group"}],
        "'Who': start and end must be places in the text",
    ),
    (
        "t2",
        "Who",
        [{"start": 0, "end": 2, "label": "them"}],
        "'Who': a span needs one of the labels group, state.",
    ),
    (
        "t2",
        "Who",
        [{"start": 0, "end": 2, "label": "group", "text": "la"}],
        "'Who': from 0 to 2 the text reads 'pl', not 'la'.",
    ),
    ("t2", "Who", [{"start": True, "end": 2, "label": "group"}], "'Who': start and end must be places"),
    ("t2", "Who", "plain", "'Who' takes a list of spans"),
    ("t2", "Why", 7, "'Why' takes a text. Got 7."),
    ("t2", "Why", "half \ud83d", "half a character"),
]


@pytest.mark.parametrize(
    ("text_id", "column", "value", "words"), REFUSED, ids=[f"{r[1]}-{r[2]!r}" for r in REFUSED]
)
def test_what_no_answer_can_be_is_refused_and_leaves_nothing(
    text_id: str, column: str, value: Any, words: str
) -> None:
    desk = nba.code(made(), coder="anna")
    before = desk.log_path.read_bytes(), desk.path.read_bytes()
    with pytest.raises(DeskError) as letter:
        desk.answer(text_id, column, value)
    assert words in str(letter.value)
    assert (desk.log_path.read_bytes(), desk.path.read_bytes()) == before


def test_the_order_is_the_coders_own_and_added_texts_move_no_other() -> None:
    texts = [f"text {i}" for i in range(60)]
    small, large = made(texts=texts[:50]), made(texts=texts)
    anna, ben = (nba.code(small, coder=c).items for c in ("anna", "ben"))
    assert anna != ben
    assert sorted(anna) == sorted(ben) == sorted(Key(i) for i in small.ids)
    more = nba.code(large, coder="anna")
    assert [key for key in more.items if key in set(anna)] == anna
    assert more.notices == ["10 texts came since the last session."]
    assert nba.code(small, coder="cy", order="file").items == [Key(i) for i in small.ids]
    assert [k.text_id for k in nba.code(small, coder="di", texts=["t3", "t1"], order="file").items] == [
        "t1",
        "t3",
    ]


def test_a_codebook_that_changed_is_told_with_what_it_touches() -> None:
    desk = nba.code(made(), coder="anna")
    for i, side in [("t1", "for"), ("t2", "None"), ("t3", "for")]:
        desk.answer(i, "Judges", 1)
        desk.answer(i, "Side", side)
    desk.close()
    other = [dict(q) for q in SECTIONS["S"] if q["name"] not in ("Force", "Why")]
    other[1]["options"] = ["for", "against", "mixed"]
    other.append(nba.checkbox("New"))
    again = nba.code(made({"S": other}), coder="anna")
    [side, new, force, why] = again.notices
    assert side == (
        "The question 'Side' changed (without 'None'; with 'mixed'); 2 labels were given to the old one. "
        "1 text is open again: t2."
    )
    assert new == "The codebook has a new question, 'New': every text is open there."
    assert force.startswith("The codebook has no 'S_Force' any more; 0 labels")
    assert why.startswith("The codebook has no 'S_Why' any more")
    assert again.open_fields(Key("t2")) == ["S_Side", "S_Who", "S_New"]
    assert again.stale == {"S_Side": ["t1", "t3"]}
    again.answer("t1", "Side", "for")  # given to the new question: no longer stale
    again.close()
    assert nba.code(made({"S": other}), coder="anna").stale == {"S_Side": ["t3"]}


def test_texts_that_changed_or_went_are_told_and_their_labels_stay() -> None:
    desk = nba.code(made(), coder="anna")
    desk.answer("t2", "Judges", 1)
    desk.answer("t2", "Who", [{"start": 0, "end": 5, "label": "group"}])
    desk.answer("t4", "Judges", 0)
    desk.close()
    again = nba.code(made(texts=[TEXTS[0], "much plainer", "nothing"]), coder="anna")
    assert again.notices == [
        "1 text changed after being coded: t2. Look at the labels again.",
        "1 coded text is not among the texts given here: t4. The labels stay in the files.",
    ]
    assert again.open_fields(Key("t2")) == [
        "S_Side",
        "S_Why",
        "S_Who",
    ]  # the span's words are gone, the rest stays
    assert list(read_csv(again.path)["S_Judges"]) == ["", "1", "", "0"]


def test_labels_from_elsewhere_are_taken_over_and_hand_edits_are_put_aside() -> None:
    folder = Path("outputs/study/coders")
    folder.mkdir(parents=True)
    path = folder / "ben.csv"
    path.write_text("id,S_Judges,S_Side\r\nt3,1,against\r\nt1,0,\r\nzz,1,\r\n")
    desk = nba.code(made(), coder="ben")
    assert desk.notices[0] == "4 labels of 3 texts were in ben.csv already."
    assert list(read_csv(path)["S_Side"]) == ["", "", "against", "", ""]
    assert list(read_csv(path)["id"]) == ["t1", "t2", "t3", "t4", "zz"]
    desk.answer("t2", "Judges", 1)
    desk.close()
    path.write_bytes(path.read_bytes().replace(b"t1,0", b"t1,1"))
    again = nba.code(made(), coder="ben")
    assert "ben.csv was changed outside the desk (1 text: t1)" in again.notices[0]
    assert b"t1,1" in (folder / "ben.csv.changed-1").read_bytes()
    assert read_csv(path)["S_Judges"][0] == "0"
    path = folder / "cy.csv"
    path.write_bytes(b"id,S_Judges\r\nt1,maybe\r\n")
    before = path.read_bytes()
    with pytest.raises(DeskError, match=r"(?s)coder 'cy'.*row 2, text t1, Judges: 'maybe'.*overwritten"):
        nba.code(made(), coder="cy")
    assert path.read_bytes() == before


def test_a_torn_line_is_no_answer_and_the_log_goes_on_behind_it() -> None:
    desk = nba.code(made(), coder="anna")
    desk.answer("t1", "Judges", 1)
    desk.close()
    with desk.log_path.open("ab") as log:
        log.write(b'{"action": "answer", "text_id": "t2", "column": "S_Jud')
    desk.path.unlink()  # the CSV can always be made again
    again = nba.code(made(), coder="anna")
    assert again.notices == []
    again.answer("t3", "Judges", 0)
    again.close()
    third = nba.code(made(), coder="anna")
    assert list(read_csv(third.path)["S_Judges"]) == ["1", "", "0", ""]
    assert "line 3 cannot be read" in third.notices[0]


def test_a_second_session_is_told_and_one_that_was_taken_over_stops() -> None:
    first = nba.code(made(), coder="anna")
    first.answer("t1", "Judges", 1)
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import nbannot as nba
from test_desk import made
try:
    nba.code(made(), coder="anna")
except nba.NbannotError as letter:
    print(letter)
second = nba.code(made(), coder="anna", take_over=True)
second.answer("t2", "Judges", 0)
print(second.labels["S_Judges"].tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    told, _, labels = done.stdout.strip().partition("\n[")
    assert told.startswith("'anna' is being coded in another session since "), done.stderr
    assert f"(process {os.getpid()} on " in told
    assert labels == "1, 0, None, None]"
    with pytest.raises(DeskError, match=r"has taken over; this answer is not kept"):
        first.answer("t3", "Judges", 1)
    with pytest.raises(DeskError, match=r"has taken over"):
        first.answer("t3", "Judges", 1)
    third = nba.code(made(), coder="anna")
    assert list(read_csv(third.path)["S_Judges"]) == ["1", "0", "", ""]
    assert "t3" not in third.log_path.read_text()


def test_opening_again_in_one_session_closes_the_desk_before() -> None:
    first = nba.code(made(), coder="anna")
    second = nba.code(made(), coder="anna")
    with pytest.raises(DeskError, match="opened again; go on there"):
        first.answer("t1", "Judges", 1)
    second.answer("t1", "Judges", 1)
    assert same_as_log(second)


@pytest.mark.parametrize("gone", ["outputs", "outputs/study/coders/anna.log.jsonl"])
def test_what_was_coded_is_written_again_where_the_folder_was_deleted(gone: str) -> None:
    desk = nba.code(made(), coder="anna")
    desk.answer("t1", "Judges", 1)
    desk.answer("t2", "Judges", 0)
    before = desk.log_path.read_text()
    shutil.rmtree(gone) if Path(gone).is_dir() else Path(gone).unlink()
    desk.answer("t3", "Judges", 1)
    assert desk.log_path.read_text().startswith(before)
    assert same_as_log(desk)
    again = nba.code(made(), coder="anna")
    assert again.labels["S_Judges"].tolist().count(1) == 2
    with pytest.raises(DeskError, match="opened again; go on there"):
        desk.answer("t1", "Judges", 0)


def test_a_disk_that_fails_stops_coding_with_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = nba.code(made(), coder="anna")
    desk.answer("t1", "Judges", 1)
    before = desk.log_path.read_bytes(), desk.path.read_bytes()
    whole = os.write

    def half(handle: int, content: Any) -> int:
        if len(content) < 40:
            raise OSError(28, "No space left on device")
        return whole(handle, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(DeskError, match=r"not kept: cannot write .*: No space left on device"):
        desk.answer("t2", "Judges", 1)
    assert "Judges" in desk.open_fields(Key("t2"))[0]
    assert desk.trouble.startswith("not kept")
    assert (desk.log_path.read_bytes(), desk.path.read_bytes()) == before
    monkeypatch.undo()
    desk.answer("t2", "Judges", 1)  # with room again, the same answer is taken
    assert desk.trouble == ""
    assert same_as_log(desk)


def test_a_folder_that_cannot_be_made_is_a_letter() -> None:
    Path("outputs").write_text("a file")
    with pytest.raises(DeskError, match=r"cannot write .*anna\.log\.jsonl"):
        nba.code(made(), coder="anna")


def test_a_task_keeps_its_labels_in_its_own_folder_if_that_takes_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    made().codebook.save(folder)
    (folder / "ground-truth.csv").write_text("id,text\nt1,one\n")
    assert nba.code("mine", coder="anna").path == folder / "coders/anna.csv"
    folder.chmod(0o555)
    assert nba.code("mine", coder="ben").path == tmp_path / "outputs/mine/coders/ben.csv"
    assert (
        nba.code("policy-sentiment", coder="ben").path == tmp_path / "outputs/policy-sentiment/coders/ben.csv"
    )


@pytest.mark.parametrize("name", ["", "a/b", "..", "x.", "assignment", "a\x00b", 7, "é" * 80])
def test_names_that_cannot_name_files_are_refused(name: Any) -> None:
    with pytest.raises(DeskError):
        nba.code(made(), coder=name)
    nba.code(made(), coder="Anna Müller-2")
    with pytest.raises(DeskError, match="there is a coder 'Anna Müller-2' already"):
        nba.code(made(), coder="anna müller-2")


def test_memos_flags_search_and_time() -> None:
    desk = nba.code(made(), coder="anna", order="file")
    desk.memo("t2", "hm")
    desk.flag("t3")
    desk.flag("t2")
    desk.flag("t2", False)
    assert desk.flagged == ["t3"]
    assert desk.memos.to_dict("records") == [
        {"text_id": "t2", "repeat": 1, "memo": "hm", "flagged": False},
        {"text_id": "t3", "repeat": 1, "memo": "", "flagged": True},
    ]
    assert (desk.search("CAFÉ"), desk.search("t4"), desk.search(" ")) == (["t1"], ["t4"], [])
    assert desk.seconds_left is None


def test_what_the_browser_gets_holds_nobody_elses_labels(tmp_path: Path) -> None:
    marks = [f"MARK{i}" for i in range(5)]
    other = nba.span("Who", label_options=["group", "state"])
    sections = {"S": [nba.textbox("Why"), other]}
    task = made(sections, S_Why=[f"{marks[0]} gold"] * 4, model_label=[marks[1]] * 4, secret=[marks[2]] * 4)
    ben = nba.code(task, coder="ben", output_root=tmp_path / "outputs")
    ben.answer("t1", "Why", marks[3])
    nba.run(task, model="mock", output_root=tmp_path / "outputs")
    (tmp_path / "outputs/study/consensus.csv").write_text(f"id,S_Why\nt1,{marks[4]}\n")
    desk = nba.code(task, coder="anna", output_root=tmp_path / "outputs", context=["model_label"])
    sent = json.dumps(desk.widget.get_state(), default=str)
    assert marks[1] in sent  # what was asked for is shown: the marker would be found
    plain = nba.code(task, coder="anna", output_root=tmp_path / "outputs")
    widget = plain.widget
    seen = []
    widget.send = lambda content, buffers=None: seen.append(content)
    for place, text_id in enumerate(task.ids):
        for message in (
            {"act": "go"},
            {"act": "answer", "column": "S_Why", "value": "x", "seconds": 1},
            {"act": "search", "words": "a"},
            {"act": "answer", "column": "S_Who", "value": []},
            {"act": "undo"},
            {"act": "open"},
        ):
            widget._on_message(widget, {"n": text_id, "place": place, **message})
            seen.append(json.dumps(widget.get_state(), default=str))
    assert len(seen) == 4 * 6 * 2
    assert not [mark for mark in marks if mark in str(seen)]
    with pytest.raises(DeskError, match="holds labels, which a coder must not see"):
        nba.code(task, coder="anna", context=["S_Why"])


KILLED = """
import sys; sys.path.insert(0, {here!r})
import random, nbannot as nba
from test_desk import made
desk = nba.code(made(texts=[f"text {{i}}" for i in range(40)]), coder="anna")
print("ready", flush=True)
draw = random.Random({seed})
while True:
    i = f"t{{draw.randint(1, 40)}}"
    value = draw.choice([0, 1])
    desk.answer(i, "Judges", value)
    print(i, value, flush=True)
"""


def killed(seed: int, n_answers: int) -> list[tuple[str, int]]:
    """Kill a session at a random moment; return the answers that it had confirmed."""
    script = KILLED.format(here=str(Path(__file__).parent), seed=seed)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        session.stdout.readline()
        lines = [session.stdout.readline() for _ in range(n_answers)]
        time.sleep(random.Random(seed).random() * 0.01)
        session.send_signal(signal.SIGKILL)
        lines += session.stdout.read().splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines if len(line.split()) == 2]


@pytest.mark.slow
def test_a_killed_session_loses_nothing_that_it_confirmed() -> None:
    confirmed = killed(7, 20)
    desk = nba.code(made(texts=[f"text {i}" for i in range(40)]), coder="anna")
    answers = [(li["text_id"], li["value"]) for li in read_log(desk.log_path)[0] if li["action"] == "answer"]
    assert len(confirmed) >= 20
    assert len(answers) - len(confirmed) in (0, 1)  # at most the one that was being confirmed
    assert answers[: len(confirmed)] == confirmed
    assert same_as_log(desk)


def test_the_desk_is_shown_as_anywidget_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colab loads widgets only where a bundle carries anywidget's note, and after its manager was switched on."""
    from types import ModuleType, SimpleNamespace

    monkeypatch.chdir(tmp_path)
    output, switched = ModuleType("google.colab.output"), []
    output.enable_custom_widget_manager = lambda: switched.append(True)  # type: ignore[attr-defined]
    output._widgets = SimpleNamespace(_installed_url="https://somewhere/manager.js")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    shown: list[Any] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda given, **more: shown.append((given, more.get("metadata")))
    )
    desk = nba.code("policy-sentiment", coder="anna")
    desk._ipython_display_()
    data, metadata = shown[0]
    view = "application/vnd.jupyter.widget-view+json"
    assert data[view]["model_id"] == desk.widget.model_id
    assert "text/html" in data
    assert metadata[view]["colab"]["custom_widget_manager"]["url"].endswith("manager.js")
    assert switched
    desk.close()
