"""The ledger: every finished call survives, whatever cuts the file, and is read back exactly as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbannot.asking.ledger import FILE, Ledger
from nbannot.asking.ledger_lines import (
    messages_hash,
    messages_of,
    prefixes_in,
    read_calls,
    read_lines,
    reply_of,
)
from nbannot.asking.request_reply import Message, Reply, Request
from nbannot.errors import RunError

BEFORE = "Instructions — with “quotes” and\nlines.\n\nText:\n"


def request(
    text: str = "A text.", before: str = BEFORE, history: tuple[Message, ...] = (), **changes: Any
) -> Request:
    content = {"role": "user", "content": f"{before}{text}\n\nResponse:\n"}
    return Request(key="k", messages=(*history, content), shared=len(before), schema={}, **changes)


def put(
    ledger: Ledger, text_id: str, reply: Reply | None = None, asked: Request | None = None, attempt: int = 1
) -> None:
    reply = reply or Reply('{"response": true}', seconds=0.25)
    status = "failed" if reply.error is not None else "ok"
    ledger.append(
        asked or request(f"Text of {text_id}."),
        reply,
        text_id=text_id,
        columns=["S_A"],
        attempt=attempt,
        repeat=1,
        answers=[{"column": "S_A", "status": status, "value": 1}],
        time="2030-01-01T00:00:00.000+00:00",
    )


def filled(path: Path, number: int = 3) -> bytes:
    ledger = Ledger(path)
    for n in range(number):
        put(ledger, f"t{n}")
    ledger.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


def ids(ledger: Ledger) -> list[str]:
    return [text_id for text_id, _, _ in ledger.answered]


# ---- there and back ---------------------------------------------------------------------------------------------


def test_a_call_is_one_line_and_the_shared_beginning_another(path: Path) -> None:
    filled(path, 2)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [sorted(line)[:2] for line in lines] == [
        ["content", "prefix"],
        ["answers", "attempt"],
        ["answers", "attempt"],
    ]
    assert lines[0]["content"] == BEFORE
    assert path.read_text(encoding="utf-8").count("Instructions") == 1
    expected = {
        "text_id": "t0", "columns": ["S_A"], "attempt": 1, "repeat": 1, "status": "ok", "raw": '{"response": true}',
        "error": None, "seconds": 0.25,
    }  # fmt: skip
    assert {key: lines[1][key] for key in expected} == expected


def test_a_line_is_with_the_operating_system_when_append_returns(path: Path) -> None:
    ledger = Ledger(path)
    for n in range(3):
        put(ledger, f"t{n}")
        assert [r["text_id"] for r in read_lines(path) if "text_id" in r] == [f"t{i}" for i in range(n + 1)]
    ledger.close()


def test_replies_come_back_as_they_were(path: Path) -> None:
    reply = Reply(
        '{"response": "é\u2028\x85\r\n"}',
        reasoning="",
        finish_reason="length",
        probabilities=(0.1, 0.9),
        input_tokens=0,
        output_tokens=7,
        evaluated_tokens=3,
        seconds=1.5,
    )
    ledger = Ledger(path)
    put(ledger, "t0", reply)
    put(ledger, "t1", Reply())
    ledger.close()
    again = Ledger(path)
    assert again.find(request("Text of t0."), ("S_A",), "t0", 1) == reply
    assert again.find(request("Text of t1."), ("S_A",), "t1", 1) == Reply()
    again.close()


TEXTS = st.text(max_size=30)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", BEFORE, "Other beginning\n", "Other"]),
            TEXTS,
            st.lists(TEXTS, max_size=2),
            TEXTS,
        ),
        max_size=6,
    )
)
def test_messages_come_back_exactly_as_they_were_sent(calls: list[tuple[str, str, list[str], str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        sent: list[tuple[Message, ...]] = []
        ledger = Ledger(path)
        for n, (before, text, turns, raw) in enumerate(calls):
            history = tuple(
                {"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)
            )
            asked = request(text, before, history)
            put(ledger, f"t{n}", Reply(raw), asked)
            sent.append(asked.messages)
        ledger.close()
        prefixes = prefixes_in(path)
        records = [record for record in read_lines(path) if "text_id" in record]
        assert [messages_of(record, prefixes) for record in records] == [list(messages) for messages in sent]
        assert [record["messages_hash"] for record in records] == [
            messages_hash(messages) for messages in sent
        ]
        assert [reply_of(record).text for record in records] == [raw for *_, raw in calls]
        assert set(prefixes.values()) == {before for before, *_ in calls} - {""}


def test_two_beginnings_in_two_sessions_are_written_once_each(path: Path) -> None:
    for session in range(2):
        ledger = Ledger(path)
        for n, before in enumerate(["one\n", "two\n", "one\n"]):
            put(ledger, f"t{session}{n}", asked=request("x", before))
        ledger.close()
    assert sorted(prefixes_in(path).values()) == ["one\n", "two\n"]
    assert sum("prefix" in record for record in read_lines(path)) == 2


def test_half_of_a_surrogate_pair_is_kept(path: Path) -> None:
    ledger = Ledger(path)
    odd = request("lone \ud83d here", "before \udc00 too ")
    put(ledger, "t0", Reply("cut emoji \ud83d", reasoning="\udfff"), odd)
    put(ledger, "t1")
    ledger.close()
    path.read_text(encoding="utf-8")
    again = Ledger(path)
    assert again.find(odd, ("S_A",), "t0", 1) == Reply("cut emoji \ud83d", reasoning="\udfff")
    first = next(record for record in read_lines(path) if "text_id" in record)
    assert messages_of(first, prefixes_in(path)) == list(odd.messages)
    again.close()


def test_find_wants_exactly_this_request(path: Path) -> None:
    filled(path)
    ledger = Ledger(path)
    assert ledger.find(request("Text of t0."), ("S_A",), "t0", 1) is not None
    assert ledger.find(request("Text of t0!"), ("S_A",), "t0", 1) is None
    assert ledger.find(request("Text of t0."), ("S_B",), "t0", 1) is None
    assert ledger.find(request("Text of t0."), ("S_A", "S_B"), "t0", 1) is None
    assert ledger.find(request("Text of t0."), ("S_A",), "t1", 1) is None
    assert ledger.find(request("Text of t0."), ("S_A",), "t0", 2) is None
    ledger.close()


def test_failed_calls_are_written_but_not_answered(path: Path) -> None:
    ledger = Ledger(path)
    put(ledger, "t0", Reply(error="time-out", retriable=True))
    put(ledger, "t1", Reply(error=""))
    put(ledger, "t2", Reply(error="time-out"))
    put(ledger, "t2")
    put(ledger, "t3")
    put(ledger, "t3", Reply(error="time-out"))
    ledger.close()
    again = Ledger(path)
    assert ids(again) == ["t2", "t3"]
    assert [r["status"] for r in read_lines(path) if "text_id" in r] == ["failed"] * 3 + [
        "ok",
        "ok",
        "failed",
    ]
    assert [reply_of(r).error for r in read_lines(path) if "text_id" in r][:2] == ["time-out", ""]
    again.close()


def test_the_last_reply_to_a_question_that_changed_is_the_one_that_is_found(path: Path) -> None:
    # In a conversation the messages change when an earlier answer does: the question is asked anew.
    old, new = request("x", history=({"role": "user", "content": "old"},)), request("x")
    for asked, raw in ((old, "old"), (new, "new")):
        ledger = Ledger(path)
        assert ledger.find(asked, ("S_A",), "t0", 1) is None
        put(ledger, "t0", Reply(raw), asked)
        ledger.close()
    ledger = Ledger(path)
    assert ledger.find(new, ("S_A",), "t0", 1) == Reply("new")
    ledger.close()


def test_notes_are_neither_calls_nor_beginnings(path: Path) -> None:
    ledger = Ledger(path)
    put(ledger, "t0")
    ledger.note(calibration="S_A", offset=[-0.5, -1.0])
    ledger.close()
    again = Ledger(path)
    assert again.notes == [{"calibration": "S_A", "offset": [-0.5, -1.0]}]
    assert ids(again) == ["t0"]
    again.close()


def test_what_a_filter_said_is_not_what_the_model_wrote(path: Path) -> None:
    ledger = Ledger(path)
    put(ledger, "t0", Reply("The prompt was blocked.", finish_reason="content_filter: SAFETY"))
    put(ledger, "t1", Reply("cut in the mid", finish_reason="content_filter", output_tokens=4))
    assert ledger.tally.output_chars == len("cut in the mid")
    ledger.close()


def test_the_tally_counts_every_session(path: Path) -> None:
    ledger = Ledger(path)
    put(ledger, "t0", Reply("12345", reasoning="678", input_tokens=10, output_tokens=2, seconds=0.5))
    put(ledger, "t0", Reply("1", seconds=0.25), attempt=2)
    ledger.close()
    again = Ledger(path)
    assert (again.tally.calls, again.tally.retries, again.tally.output_chars) == (2, 1, 9)
    assert again.tally.input_chars == 2 * len(request("Text of t0.").messages[0]["content"])
    assert (again.tally.input_tokens, again.tally.output_tokens, again.tally.evaluated_tokens) == (
        10,
        2,
        None,
    )
    assert (list(again.tally.seconds), again.tally.reasoned) == ([0.5, 0.25], True)
    assert again.tally == ledger.tally
    again.close()


# ---- a torn tail ------------------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_of_its_last_line_loses_that_line_only(path: Path, tmp_path: Path) -> None:
    whole = filled(path)
    start = whole[:-1].rfind(b"\n") + 1
    torn = tmp_path / "torn.jsonl"
    for cut in range(start, len(whole)):
        torn.write_bytes(whole[:cut])
        assert [r["text_id"] for r in read_lines(torn) if "text_id" in r] == ["t0", "t1"]
        ledger = Ledger(torn)
        assert ids(ledger) == ["t0", "t1"]
        assert torn.read_bytes() == whole[:start]
        put(ledger, "t2")
        ledger.close()
        assert torn.read_bytes() == whole
    torn.write_bytes(whole)
    ledger = Ledger(torn)
    assert ids(ledger) == ["t0", "t1", "t2"]
    ledger.close()
    assert torn.read_bytes() == whole


def test_a_file_cut_at_any_byte_at_all_can_be_continued(path: Path, tmp_path: Path) -> None:
    whole = filled(path, 2)
    torn = tmp_path / "torn.jsonl"
    for cut in range(0, len(whole), 7):
        torn.write_bytes(whole[:cut])
        ledger = Ledger(torn)
        done = ids(ledger)
        for text_id in ("t0", "t1"):
            if text_id not in done:
                put(ledger, text_id)
        ledger.close()
        assert torn.read_bytes() == whole


@pytest.mark.parametrize(
    "tail", [b"\x00" * 70_000, b"x" * 65_536, b"x" * 65_535, b"x" * 200_000, "é".encode()[:1], b"{"]
)
@pytest.mark.parametrize("lines", [0, 2])
def test_a_long_or_unreadable_tail_is_cut_off(path: Path, lines: int, tail: bytes) -> None:
    whole = filled(path, lines)
    path.write_bytes(whole + tail)
    ledger = Ledger(path)
    assert path.read_bytes() == whole
    assert len(ledger.answered) == lines
    ledger.close()


def test_without_pread_the_tail_is_cut_off_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filled(path)
    path.write_bytes(whole + b"x" * 100_000)
    monkeypatch.delattr(os, "pread")  # as on Windows
    ledger = Ledger(path)
    put(ledger, "t3")
    ledger.close()
    assert path.read_bytes().startswith(whole)
    assert [r["text_id"] for r in read_lines(path) if "text_id" in r] == ["t0", "t1", "t2", "t3"]


# ---- a file that is not ours ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"oops", b"", b"3", b"[]", b'"text"', b"\xff\xfe", b'{"text_id": "t9"}',
     b'{"text_id": 9, "columns": [], "attempt": 1}', b"[" * 100_000, b"9" * 5000,
     b'{"text_id": "t9", "columns": "S_A", "attempt": 1}'],
    ids=range(11),
)  # fmt: skip
def test_a_foreign_line_before_the_end_is_named(path: Path, line: bytes) -> None:
    whole = filled(path, 1)
    path.write_bytes(whole + line + b"\n" + whole)
    with pytest.raises(RunError) as caught:
        Ledger(path)
    assert str(caught.value) == (
        f"{path}, line 3 is not a record of ours.\n"
        "  The file was changed by something else; start again with fresh = true, or mend the line."
    )
    assert path.read_bytes() == whole + line + b"\n" + whole


def test_windows_line_ends_are_read(path: Path) -> None:
    path.write_bytes(filled(path).replace(b"\n", b"\r\n"))
    ledger = Ledger(path)
    assert ids(ledger) == ["t0", "t1", "t2"]
    ledger.close()


def test_a_beginning_that_is_gone_is_said_not_left_out(path: Path) -> None:
    filled(path, 1)
    record = next(record for record in read_lines(path) if "text_id" in record)
    mark = record["messages"][-1]["prefix"]
    with pytest.raises(RunError) as caught:
        messages_of(record, {})
    assert str(caught.value) == (
        f"the ledger has lost the line with the shared beginning {mark}.\n"
        "  The file was changed by something else; start again with fresh = true."
    )


def test_no_file_is_an_empty_ledger(path: Path) -> None:
    assert list(read_lines(path)) == []
    assert prefixes_in(path) == {}
    ledger = Ledger(path)
    assert (ledger.answered, ledger.notes) == ({}, [])
    ledger.close()
    assert path.read_bytes() == b""


# ---- places that cannot be written ------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        Ledger(path)
    return str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "gone" / FILE
    assert refused(path) == f"cannot write {path}: No such file or directory.\n  Choose another output_root."


def test_a_folder_in_the_place_of_the_file(path: Path) -> None:
    path.mkdir()
    assert refused(path) == f"cannot read {path}: Is a directory.\n  Choose another output_root."


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / FILE
    assert refused(path) == f"cannot read {path}: Not a directory.\n  Choose another output_root."


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs Linux's /proc, where not even root makes files"
)
def test_a_folder_in_which_nobody_may_write() -> None:
    path = Path("/proc/self") / FILE
    assert refused(path).startswith(f"cannot write {path}: ")


def test_a_read_only_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> int:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "open", no)
    assert refused(path) == f"cannot write {path}: Read-only file system.\n  Choose another output_root."


def test_a_full_disk_in_the_middle_of_a_line_leaves_no_part_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = filled(path)
    ledger = Ledger(path)
    write, room = os.write, [100]

    def full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, os.strerror(28))
        done = write(file, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", full)
    for n in (3, 4):  # requests that were in flight end after the disk is full
        with pytest.raises(RunError) as caught:
            put(ledger, f"t{n}")
        assert str(caught.value) == (
            f"cannot write {path}: No space left on device.\n"
            "  Everything before is kept; make room and run the same again to go on."
        )
        assert path.read_bytes() == whole
    monkeypatch.setattr(os, "write", write)
    put(ledger, "t5")
    ledger.close()
    again = Ledger(path)
    assert ids(again) == ["t0", "t1", "t2", "t5"]
    assert again.tally.calls == 4 == ledger.tally.calls
    again.close()


def test_a_write_in_pieces_is_a_whole_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:9]))
    filled(path)
    assert len(list(read_lines(path))) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_real_limit_on_the_file_size_then_more_room(path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import resource, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_ledger import Ledger, put
        from nbannot.errors import RunError
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        ledger = Ledger(Path({str(path)!r}))
        n = 0
        try:
            while True:
                put(ledger, f"t{{n}}")
                n += 1
        except RunError as error:
            print(n, error, sep="\\n")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    number, *message = done.stdout.splitlines()
    assert message == [
        f"cannot write {path}: File too large.",
        "  Everything before is kept; make room and run the same again to go on.",
    ]
    assert path.read_bytes().endswith(b"}\n")
    ledger = Ledger(path)
    assert ids(ledger) == [f"t{n}" for n in range(int(number))]
    assert int(number) > 3
    put(ledger, "more")
    ledger.close()
    assert len(list(read_lines(path))) == int(number) + 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_loses_no_finished_call(path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_ledger import Ledger, put
        ledger = Ledger(Path({str(path)!r}))
        for n in range(10**6):
            put(ledger, f"t{{n}}")
            print(n, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(50)]
        process.kill()
    ledger = Ledger(path)
    assert len(told) == 50
    assert ids(ledger) == [f"t{n}" for n in range(len(ledger.answered))]
    assert len(ledger.answered) >= 50
    ledger.close()


# ---- closing ----------------------------------------------------------------------------------------------------


def test_closing_twice_does_nothing_and_a_closed_ledger_writes_nowhere(path: Path, tmp_path: Path) -> None:
    ledger = Ledger(path)
    put(ledger, "t0")
    ledger.close()
    other = (tmp_path / "other").open("wb")  # takes over the number of the closed file
    ledger.close()
    with pytest.raises(RunError, match="Bad file descriptor"):
        put(ledger, "t1")
    other.write(b"still open")
    other.close()
    assert (tmp_path / "other").read_bytes() == b"still open"


def test_a_disk_that_fails_at_the_end_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(_: int) -> None:
        raise OSError(5, os.strerror(5))

    ledger = Ledger(path)
    monkeypatch.setattr(os, "fsync", no)
    with pytest.raises(RunError) as caught:
        ledger.close()
    assert str(caught.value) == (
        f"cannot write {path}: Input/output error.\n"
        "  The last answers may be missing; run the same again to go on."
    )


def test_speed_of_ten_thousand_appends(path: Path) -> None:
    ledger = Ledger(path)
    asked, start = request("A text of some length. " * 20), time.perf_counter()
    for n in range(10_000):
        put(ledger, f"t{n}", asked=asked)
    written = time.perf_counter() - start
    ledger.close()
    start = time.perf_counter()
    again = Ledger(path)
    opened = time.perf_counter() - start
    again.close()
    print(
        f"\n10,000 appends: {written:.2f} s; read again: {opened:.2f} s; {path.stat().st_size / 1e6:.1f} MB"
    )
    assert len(again.answered) == 10_000


# ---- calls without what was sent and replied ----------------------------------------------------------------------

AWKWARD = ['t"1', "back\\slash", "é", '","columns":', ',"raw":', "", "a\nb"]


def answers_in(record: Any) -> tuple[Any, ...]:
    return (record["columns"], record["attempt"], record["answers"])


@given(st.lists(st.tuples(st.sampled_from(AWKWARD), st.sampled_from(AWKWARD), st.integers(1, 3)), max_size=8))
def test_calls_are_what_the_whole_lines_say(tmp_path_factory: pytest.TempPathFactory, calls: Any) -> None:
    path = tmp_path_factory.mktemp("ledger") / FILE
    ledger = Ledger(path)
    for name, value, attempt in calls:
        answers = [{"column": value, "status": "ok", "value": [{"text": value}]}]
        ledger.append(
            request(value), Reply(value), text_id=name, columns=[value], attempt=attempt, repeat=1, answers=answers,
            time="",
        )  # fmt: skip
    ledger.note(calibration={})
    ledger.close()
    whole = [(r["text_id"], answers_in(r)) for r in read_lines(path) if "text_id" in r]
    assert list(read_calls(path, answers_in)) == whole
    assert len(whole) == len(calls)


@pytest.mark.parametrize("broken", [b'"attempt":1', b'"columns":["S_A"]', b'"t1"', b'"status":"ok"'])
def test_a_call_that_cannot_be_read_is_named_by_its_line(path: Path, broken: bytes) -> None:
    lines = filled(path).splitlines(keepends=True)
    lines[2] = lines[2].replace(broken, b"\xff")
    path.write_bytes(b"".join(lines))
    with pytest.raises(RunError, match="line 3 is not a record of ours"):
        list(read_calls(path, answers_in))


def test_calls_of_a_torn_or_absent_ledger(path: Path) -> None:
    assert list(read_calls(path, answers_in)) == []
    whole = filled(path)
    path.write_bytes(whole[:-5])
    assert [text_id for text_id, _ in read_calls(path, answers_in)] == ["t0", "t1"]


def test_calls_of_a_ledger_with_spaces(path: Path) -> None:
    filled(path)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    whole = [(r["text_id"], answers_in(r)) for r in records if "text_id" in r]
    assert list(read_calls(path, answers_in)) == whole
