"""The tidy tables: what stands on disk, who may write at once, what survives a crash, and what is read back."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import TableError
from nbannot.record import csv_store, tables
from nbannot.record.columns import safe_run_id
from nbannot.record.csv_store import upsert
from nbannot.record.tables import joined, read_classes, read_long, read_runs
from nbannot.study.settings import SETTINGS

SAMPLES = DATA / "codebook_lab_logs"
SAMPLE_TASKS = ("restaurant_cebab", "uk_group_mentions", "uk_manifesto_policy")

LONG = "t_metrics_log.csv"
RUNS = "t_metrics_log_runs.csv"
CLASSES = "t_metrics_log_classes.csv"

LONG_HEADER = "run_id,column,annotation_type,metric,value,n,n_answered,ci_low,ci_high,ci_method,reason,note"
RUNS_HEADER = (
    "run_id,timestamp,label,model_id,quantization_type,temperature,top_p,prompt_type,use_examples,chat_mode,"
    "reasoning,process_textbox,process_span,codebook_path,experiment_directory,n_queries,"
    "total_inference_time_s,avg_inference_time_per_query_s,total_input_chars,avg_input_chars_per_query,"
    "total_output_chars,avg_output_chars_per_query,total_energy_kwh,avg_energy_kwh_per_query,"
    "total_emissions_kg,avg_emissions_kg_per_query,cpu_model,gpu_model,ground_truth_path,seed,repeat,split,"
    "n_texts,n_labels_valid,input_tokens,output_tokens,wall_time_s,status,codebook_hash,data_hash,"
    "prompt_hash,model_digest,nbannot_version"
)
RUNS_HEADER += "," + ",".join(tables.RUNS_COLUMNS[RUNS_HEADER.count(",") + 1 :])
CLASSES_HEADER = "run_id,column,annotation_type,label,metric,value,n,ci_low,ci_high,reason"


CHILD = """
    import os, resource, signal, sys
    from pathlib import Path
    from nbannot.record import csv_store, tables
    from nbannot.errors import TableError
    folder, more = Path(sys.argv[1]), sys.argv[2:]

    def put(run_id, n_metrics=3):
        row = {"run_id": run_id, "column": "C", "annotation_type": "dropdown", "value": 0.5}
        long = [{**row, "metric": f"m{i}"} for i in range(n_metrics)]
        classes = [{**row, "label": "a\\nb", "metric": "precision"}]
        tables.upsert(folder, "t", long=long, runs=[{"run_id": run_id}], classes=classes)
"""


def metric(run_id: str, name: str = "f1_macro", value: object = 0.5, **more: object) -> dict[str, object]:
    row = {"run_id": run_id, "column": "Policy Sentiment_Direction", "annotation_type": "dropdown"}
    return {**row, "metric": name, "value": value, **more}


def label(run_id: str, name: str, value: float = 0.5) -> dict[str, object]:
    return {**metric(run_id, "precision", value), "label": name, "n": 4}


def put(folder: Path, run_id: str, *, value: object = 0.5, n_metrics: int = 3) -> None:
    long = [metric(run_id, f"m{i}", value) for i in range(n_metrics)]
    upsert(folder, "t", long=long, runs=[{"run_id": run_id}], classes=[label(run_id, "mixed, or both")])


def lines(folder: Path, name: str = LONG) -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def ids_in(folder: Path, name: str = LONG) -> list[str]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return [cells[0] for cells in csv.reader(file)][1:]


def child(code: str, folder: Path, *more: object) -> subprocess.Popen[str]:
    """Start `code` in a process of its own, with the folder and `more` as its arguments."""
    arguments = [str(argument) for argument in (folder, *more)]
    program = textwrap.dedent(CHILD) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def assert_whole(folder: Path, runs: dict[str, int]) -> None:
    """One header, every run with exactly its number of metrics, one runs row, one class row, and nothing else."""
    assert [lines(folder, name)[0] for name in (LONG, RUNS, CLASSES)] == [
        LONG_HEADER,
        RUNS_HEADER,
        CLASSES_HEADER,
    ]
    assert Counter(ids_in(folder)) == runs
    assert len(pd.read_csv(folder / LONG, dtype=str)) == sum(runs.values())
    for name in (RUNS, CLASSES):
        assert sorted(ids_in(folder, name)) == sorted(runs)


# What stands on disk


def test_the_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    assert ",".join(tables.LONG_COLUMNS) == LONG_HEADER
    assert ",".join(tables.RUNS_COLUMNS) == RUNS_HEADER
    assert set(SETTINGS) <= set(tables.RUNS_COLUMNS)
    assert len(set(tables.RUNS_COLUMNS)) == len(tables.RUNS_COLUMNS)
    assert tables.RUNS_COLUMNS[43:47] == ("model", "backend", "top_k", "max_tokens")
    assert tables.RUNS_COLUMNS[-5:] == (
        "cluster",
        "weights",
        "test_look",
        "test_configurations",
        "model_changes",
    )
    assert ",".join(tables.CLASS_COLUMNS) == CLASSES_HEADER
    put(tmp_path, "a1b2c3d4")
    assert_whole(tmp_path, {"a1b2c3d4": 3})


def test_the_bytes_of_a_row(tmp_path: Path) -> None:
    row = metric(
        "a1b2c3d4", value=1 / 3, n=60, ci_low=float("nan"), reason='no "human" instance, none\nat all'
    )
    run = {"run_id": "a1b2c3d4", "use_examples": True, "process_textbox": True, "process_span": False}
    upsert(
        tmp_path,
        "t",
        long=[row],
        runs=[{**run, "reasoning": False, "codebook_path": Path("a/b")}],
        classes=[],
    )
    assert (tmp_path / LONG).read_bytes() == (
        LONG_HEADER + "\na1b2c3d4,Policy Sentiment_Direction,dropdown,f1_macro,0.3333333333333333,60,,,,,"
        '"no ""human"" instance, none\nat all",\n'
    ).encode()
    assert lines(tmp_path, RUNS)[1].startswith("a1b2c3d4,,,,,,,,True,,False,true,false,a/b,")
    assert lines(tmp_path, CLASSES) == [CLASSES_HEADER]


@settings(deadline=None)
@given(value=st.floats(allow_nan=False))
def test_a_float_reads_back_to_the_last_bit(value: float) -> None:
    assert float(tables.cell_text("value", value)) == value


@settings(deadline=None)
@given(cells=st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=2))
def test_any_text_survives_a_record(cells: list[str]) -> None:
    record = tables.csv_record(cells) + "\n"
    assert next(csv.reader(io.StringIO(record, newline=""))) == cells


def test_numpy_scalars_are_plain_numbers_and_other_things_are_refused() -> None:
    import numpy as np

    values = (np.float64(0.1), np.int64(3), np.bool_(True), np.float64("nan"), -0.0, float("inf"))
    assert [tables.cell_text("value", value) for value in values] == ["0.1", "3", "True", "", "-0.0", "inf"]
    with pytest.raises(TableError, match=r"Got a list in 'value'\.\n  Turn it into text first"):
        tables.cell_text("value", [1])


def test_scoring_again_replaces_and_leaves_other_rows_byte_for_byte(tmp_path: Path) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        put(tmp_path, run_id)
    with (tmp_path / LONG).open("a") as file:
        file.write('dddddddd,"odd  quoting",dropdown,m0,0.50000\n')
    put(tmp_path, "bbbbbbbb", value=0.75, n_metrics=2)
    after = lines(tmp_path)
    assert [line for line in after if line.startswith("b")] == [
        f"bbbbbbbb,Policy Sentiment_Direction,dropdown,m{i},0.75,,,,,,," for i in range(2)
    ]
    assert 'dddddddd,"odd  quoting",dropdown,m0,0.50000' in after
    assert ids_in(tmp_path).count("aaaaaaaa") == ids_in(tmp_path).count("cccccccc") == 3
    assert sorted(ids_in(tmp_path, RUNS)) == ["aaaaaaaa", "bbbbbbbb", "cccccccc"]
    assert [path.name for path in tmp_path.glob(".*") if not path.name.endswith(".lock")] == []


def test_a_run_named_in_one_table_loses_its_rows_in_all_unless_a_table_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "aaaaaaaa")
    upsert(tmp_path, "t", long=[], runs=[{"run_id": "aaaaaaaa", "status": "failed"}], classes=None)
    assert ids_in(tmp_path) == []
    assert ids_in(tmp_path, RUNS) == ids_in(tmp_path, CLASSES) == ["aaaaaaaa"]
    assert ",failed," in lines(tmp_path, RUNS)[1]


def test_many_runs_in_one_call_replace_the_old_ones(tmp_path: Path) -> None:
    names = [f"{i:07d}a" for i in range(30)]
    for name in names[:10]:
        put(tmp_path, name)
    long = [metric(name, value=0.25) for name in names]
    upsert(tmp_path, "t", long=long, runs=[{"run_id": name} for name in names], classes=[])
    assert ids_in(tmp_path) == ids_in(tmp_path, RUNS) == names
    assert ids_in(tmp_path, CLASSES) == []


def test_a_run_id_that_begins_another_is_not_that_other(tmp_path: Path) -> None:
    for name in ("run_1", "run_11", "run_1"):
        put(tmp_path, name)
    assert_whole(tmp_path, {"run_1": 3, "run_11": 3})


def test_nothing_to_write_writes_nothing(tmp_path: Path) -> None:
    upsert(tmp_path / "metrics", "t", long=[], runs=[], classes=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [metric("a1b2c3d4", valeu=1)],
            "The long table has no column 'valeu'; did you mean 'value'?\n  Its columns are",
        ),
        (
            [metric("a1b2c3d4"), metric("a1b2c3d4")],
            "takes one row per run_id, column, annotation_type, metric. Got two",
        ),
        (
            [metric("a,b")],
            "A run id is a name without commas, quotes, line breaks or outer spaces. Got 'a,b'.\n  Give",
        ),
        ([{"metric": "f1_macro"}], "Got ''."),
    ],
)
def test_a_row_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(TableError) as error:
        upsert(tmp_path, "t", long=rows, runs=[], classes=[])
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_task_name_is_one_folder_name(tmp_path: Path) -> None:
    for name in ("", "../x", "a/b", "a\\b"):
        with pytest.raises(TableError, match="A task name is one folder name"):
            upsert(tmp_path, name, long=[metric("a1b2c3d4")], runs=[], classes=[])


# Older and foreign tables


@pytest.mark.parametrize("version", ["1.3.0", "1.4.0"])
@pytest.mark.parametrize("task", SAMPLE_TASKS)
def test_an_older_table_is_brought_up_to_date_without_losing_a_cell(
    tmp_path: Path, version: str, task: str
) -> None:
    folder = tmp_path / "metrics"
    shutil.copytree(SAMPLES / version / "metrics", folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    suffixes = ("", "_runs")
    before = [pd.read_csv(folder / f"{task}_metrics_log{s}.csv", dtype=str) for s in suffixes]
    upsert(
        folder,
        task,
        long=[metric("a1b2c3d4")],
        runs=[{"run_id": "a1b2c3d4"}],
        classes=[label("a1b2c3d4", "x")],
    )
    after = [pd.read_csv(folder / f"{task}_metrics_log{s}.csv", dtype=str) for s in suffixes]
    assert [list(frame.columns) for frame in after] == [LONG_HEADER.split(","), RUNS_HEADER.split(",")]
    for old, new in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(old, new.iloc[:-1][list(old.columns)])
        assert new.iloc[:-1][[name for name in new if name not in old]].isna().all(axis=None)
        assert new["run_id"].iloc[-1] == "a1b2c3d4"
    again = before[0]["run_id"].iloc[0]
    upsert(folder, task, long=[metric(again)], runs=[{"run_id": again}], classes=[])
    assert list(read_runs(folder, task)["run_id"]).count(again) == 1
    assert list(read_long(folder, task)["run_id"]).count(again) == 1


@pytest.mark.parametrize("version", ["1.3.0", "1.4.0"])
def test_older_tables_are_read_as_they_are_and_with_the_names_of_today_on_request(version: str) -> None:
    folder, task = SAMPLES / version / "metrics", "uk_manifesto_policy"
    plain, today = read_long(folder, task), read_long(folder, task, canonical=True)
    assert list(plain.columns) == LONG_HEADER.split(",")[:5]
    assert {"precision", "recall", "f1"} <= set(plain["metric"])
    assert {"precision_macro", "recall_macro", "f1_macro"} <= set(today["metric"])
    assert not {"precision", "recall", "f1"} & set(today["metric"])
    assert "bertscore_f1" in set(today["metric"])
    assert plain["value"].isna().sum() == 45
    assert len(joined(folder, task)) == len(plain)
    assert ("chat_mode" in read_runs(folder, task)) == (version == "1.4.0")
    assert len(read_classes(folder, task)) == 0
    assert list(read_classes(folder, task).columns) == CLASSES_HEADER.split(",")


def test_canonical_names_are_for_labels_of_older_runs_only(tmp_path: Path) -> None:
    rows = [
        metric("run_1", "f1"),
        metric("a1b2c3d4", "f1"),
        metric("1dc4a2f63492", "recall"),
        {**metric("run_1", "precision"), "annotation_type": "span"},
    ]
    upsert(tmp_path, "t", long=rows, runs=[], classes=[])
    want = ["f1_macro", "f1", "recall_macro", "precision"]
    assert read_long(tmp_path, "t", canonical=True)["metric"].to_list() == want
    assert read_long(tmp_path, "t", canonical=True, polars=True)["metric"].to_list() == want
    assert [line.split(",")[3] for line in lines(tmp_path)[1:]] == ["f1", "f1", "recall", "precision"]


def test_unknown_columns_are_kept_at_the_end(tmp_path: Path) -> None:
    (tmp_path / LONG).write_text(
        'mine,run_id,column,annotation_type,metric,value\n"a, b",old1,C,dropdown,f1,0.50\n'
    )
    put(tmp_path, "a1b2c3d4", n_metrics=1)
    put(tmp_path, "b1b2c3d4", n_metrics=1)
    assert lines(tmp_path) == [
        LONG_HEADER + ",mine",
        'old1,C,dropdown,f1,0.50,,,,,,,,"a, b"',
        "a1b2c3d4,Policy Sentiment_Direction,dropdown,m0,0.5,,,,,,,,",
        "b1b2c3d4,Policy Sentiment_Direction,dropdown,m0,0.5,,,,,,,,",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + LONG_HEADER.replace(",", ",") + "\r\n" + "a1b2c3d4,C,dropdown,f1_macro,0.5,,,,,,,\r\n",
        '"run_id","column","annotation_type","metric","value"\n"a1b2c3d4","C","dropdown","f1_macro",0.5\n',
        LONG_HEADER + '\n"a1b2c3d4","C","dropdown","f1_macro","0.5",,,,,,,\n',
    ],
    ids=["spreadsheet", "R", "quoted rows"],
)
def test_a_table_saved_by_another_program_gets_no_doubled_run(tmp_path: Path, text: str) -> None:
    (tmp_path / LONG).write_bytes(text.encode())
    assert read_long(tmp_path, "t")["run_id"].to_list() == ["a1b2c3d4"]
    assert read_long(tmp_path, "t", polars=True)["value"].to_list() == [0.5]
    put(tmp_path, "a1b2c3d4", n_metrics=2)
    assert lines(tmp_path)[0] == LONG_HEADER
    assert ids_in(tmp_path) == ["a1b2c3d4"] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,text\n1,hello\n", "has no column run_id. It begins 'id,text'."),
        (b"run_id;column;metric\n", "Its cells seem to be separated by ';'."),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "has no column run_id"),
        (
            LONG_HEADER.encode() + b"\na1b2c3d4,Qualit\xe4t,dropdown,f1,1,,,,,,\n",
            "is not UTF-8 text: byte 0xe4",
        ),
        (
            b"run_id,metric\na1b2c3d4,\xff\n",
            "is not UTF-8 text: byte 0xff in the line that begins 'a1b2c3d4,",
        ),
        (b"run_id,value,value\na,1,2\n", "names a column twice: value."),
        (b"run_id,value\na,1\nb,2,3\n", "has 2 columns in its first line and 3 cells in line 3."),
        (
            b'run_id,value\na,"1\nb,2\nc,3\n',
            "opens a quote in line 2 and never closes it; the line begins 'a,\"1'.",
        ),
        (b"hello", "has no column run_id. It begins 'hello'."),
    ],
)
def test_what_is_not_such_a_table_is_named_and_not_touched(tmp_path: Path, data: bytes, message: str) -> None:
    put(tmp_path, "cccccccc")
    (tmp_path / LONG).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(TableError) as error:
        put(tmp_path, "a1b2c3d4")
    assert message in str(error.value)
    assert "Nothing was changed." in str(error.value)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.glob(".*") if not path.name.endswith(".lock")] == []
    for polars in (False, True):
        with pytest.raises(TableError):
            read_long(tmp_path, "t", polars=polars)


def test_a_value_that_is_no_number_is_an_error_not_a_blank(tmp_path: Path) -> None:
    (tmp_path / LONG).write_text(f"{LONG_HEADER}\na1b2c3d4,C,dropdown,f1_macro,high,,,,,,\n")
    for polars in (False, True):
        with pytest.raises(TableError, match=r"cannot be read: .*high"):
            read_long(tmp_path, "t", polars=polars)


# Crashes


@pytest.mark.parametrize("cut", range(1, 70))
def test_a_torn_last_line_is_cut_and_never_merged(tmp_path: Path, cut: int) -> None:
    put(tmp_path, "aaaaaaaa")
    put(tmp_path, "bbbbbbbb", n_metrics=1)
    torn = (tmp_path / LONG).read_bytes()[:-cut]
    (tmp_path / LONG).write_bytes(torn)
    kept = torn[: torn.rfind(b"\n") + 1].decode().splitlines()
    for polars in (False, True):
        assert len(read_long(tmp_path, "t", polars=polars)) == len(kept) - 1
    put(tmp_path, "cccccccc", n_metrics=1)
    assert lines(tmp_path) == [*kept, "cccccccc,Policy Sentiment_Direction,dropdown,m0,0.5,,,,,,,"]


@pytest.mark.parametrize("left", [0, 1, 8, 30, len(LONG_HEADER)])
def test_a_torn_header_is_completed(tmp_path: Path, left: int) -> None:
    (tmp_path / LONG).write_text(LONG_HEADER[:left])
    put(tmp_path, "aaaaaaaa")
    assert_whole(tmp_path, {"aaaaaaaa": 3})


def test_a_record_torn_inside_a_quoted_line_break_is_cut(tmp_path: Path) -> None:
    upsert(tmp_path, "t", long=[metric("aaaaaaaa", reason="one\ntwo\nthree")], runs=[], classes=[])
    whole = (tmp_path / LONG).read_bytes()
    (tmp_path / LONG).write_bytes(whole[: whole.index(b"three")])
    put(tmp_path, "bbbbbbbb")
    assert ids_in(tmp_path) == ["bbbbbbbb"] * 3


KILLED_IN_AN_APPEND = """
    kind, share = more[0], float(more[1])
    append = csv_store._append

    def killed(path, step):
        if path.name.endswith(tables.TABLES[kind].suffix):
            block = step["block"].encode()
            with path.open("ab") as file:
                file.write(block[: int(share * len(block))])
            os.kill(os.getpid(), signal.SIGKILL)
        append(path, step)

    csv_store._append = killed
    put("bbbbbbbb", n_metrics=2)
"""


@pytest.mark.parametrize("kind", ["runs", "long", "classes"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.75, 1.0])
def test_a_write_killed_in_the_middle_is_finished_by_the_next(
    tmp_path: Path, kind: str, share: float
) -> None:
    put(tmp_path, "aaaaaaaa")
    assert child(KILLED_IN_AN_APPEND, tmp_path, kind, share).wait() == -signal.SIGKILL
    put(tmp_path, "cccccccc")
    assert ids_in(tmp_path) == ["aaaaaaaa"] * 3 + ["bbbbbbbb"] * 2 + ["cccccccc"] * 3
    assert sorted(ids_in(tmp_path, RUNS)) == ["aaaaaaaa", "bbbbbbbb", "cccccccc"]
    assert read_classes(tmp_path, "t")["label"].to_list() == ["mixed, or both", "a\nb", "mixed, or both"]


def test_a_reader_finishes_what_a_killed_writer_left(tmp_path: Path) -> None:
    put(tmp_path, "aaaaaaaa")
    assert child(KILLED_IN_AN_APPEND, tmp_path, "long", 0.6).wait() == -signal.SIGKILL
    assert len(joined(tmp_path, "t")) == 5
    assert list(read_classes(tmp_path, "t")["label"]) == ["mixed, or both", "a\nb"]


def test_rows_that_a_lockless_program_added_meanwhile_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "aaaaaaaa")
    path = tmp_path / LONG
    size = path.stat().st_size
    ours = "bbbbbbbb,C,dropdown,m,0.5,,,,,,\nbbbbbbbb,C,dropdown,n,0.5,,,,,,\n"
    theirs = "run_1,C,dropdown,f1,0.5\n"
    for begun, want in (("", theirs + ours), (ours, ours + theirs), (ours[:32], ours[:32] + theirs)):
        path.write_bytes(path.read_bytes()[:size] + (begun + theirs).encode())
        (tmp_path / ".t_metrics_log.journal").write_text(json.dumps({"long": {"size": size, "block": ours}}))
        read_long(tmp_path, "t")
        assert path.read_bytes()[size:].decode() == want
        assert not (tmp_path / ".t_metrics_log.journal").exists()


def test_a_note_torn_in_writing_means_nothing_had_begun(tmp_path: Path) -> None:
    put(tmp_path, "aaaaaaaa")
    before = contents(tmp_path)
    (tmp_path / ".t_metrics_log.journal").write_text('{"long": {"size": 3, "blo')
    assert len(read_long(tmp_path, "t")) == 3
    assert contents(tmp_path) == before
    assert not (tmp_path / ".t_metrics_log.journal").exists()


def test_kills_at_random_moments_leave_only_whole_runs(tmp_path: Path) -> None:
    code = """
        print("ready", flush=True)
        for number in range(int(more[0]), 10**6):
            put(f"{number % 40:07d}a", n_metrics=4)
    """
    moments = random.Random(4)
    for start in range(0, 260, 13):
        writer = child(code, tmp_path, start)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(moments.uniform(0.001, 0.06))
        writer.kill()
        writer.communicate()
        put(tmp_path, "after000", n_metrics=4)
        assert_whole(tmp_path, dict.fromkeys(ids_in(tmp_path, RUNS), 4))
    assert len(ids_in(tmp_path, RUNS)) > 5  # how far each writer came is the machine's business


# No right, no space


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Make a folder unwritable for this process, also where the tests run as root."""
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that any user may look into."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)
    folder = tmp_path / "metrics"
    folder.mkdir()
    return folder


def test_a_folder_without_write_access_is_a_clear_error(open_folder: Path) -> None:
    put(open_folder, "aaaaaaaa")
    put(open_folder, "bbbbbbbb")
    before = contents(open_folder)
    (open_folder / ".t_metrics_log.lock").unlink()
    with without_rights(open_folder):
        with pytest.raises(TableError) as error:
            put(open_folder, "cccccccc")
        assert len(read_long(open_folder, "t")) == 6
    assert str(error.value) == (
        f"Cannot write the tables of 't' in {open_folder}: Permission denied.\n  No row was lost or torn. "
        "Get the right to write there, close the table where another program has it open, then score the run again."
    )
    assert contents(open_folder) == before


LITTLE_SPACE = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(more[1]), -1))
    try:
        put(more[0], n_metrics=50)
    except TableError as error:
        print(error)
"""


@pytest.mark.parametrize("run_id", ["cccccccc", "aaaaaaaa"], ids=["append", "replace"])
@pytest.mark.parametrize("room", [10, 300, 900])
def test_a_full_disk_leaves_the_old_tables(tmp_path: Path, run_id: str, room: int) -> None:
    """The operating system itself stops the write, part of the way through (a limit on the size of files)."""
    put(tmp_path, "aaaaaaaa", n_metrics=400)
    before = contents(tmp_path)
    limit = (tmp_path / LONG).stat().st_size + room
    if run_id == "aaaaaaaa":
        limit = len(LONG_HEADER) + room
    message = child(LITTLE_SPACE, tmp_path, run_id, limit).communicate()[0]
    assert "File too large.\n  No row was lost or torn. Free some space there, then score" in message
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.glob(".*") if not path.name.endswith(".lock")] == []
    put(tmp_path, run_id)
    assert ids_in(tmp_path).count(run_id) == 3


@pytest.mark.parametrize("failing", ["runs", "long", "classes"])
def test_a_failure_in_one_table_is_taken_back_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    put(tmp_path, "aaaaaaaa")
    before = contents(tmp_path)
    append = csv_store._append

    def full(path: Path, step: csv_store.Step) -> None:
        append(path, step)
        if path.name.endswith(tables.TABLES[failing].suffix):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_store, "_append", full)
        with pytest.raises(
            TableError, match=r"No space left on device\.\n  No row was lost or torn\. Free some space"
        ):
            put(tmp_path, "bbbbbbbb")
    assert contents(tmp_path) == before
    put(tmp_path, "bbbbbbbb")
    assert_whole(tmp_path, {"aaaaaaaa": 3, "bbbbbbbb": 3})


def test_a_failed_first_write_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(TableError, match="Free some space there"):
        put(tmp_path, "aaaaaaaa")
    assert contents(tmp_path) == {}


def test_a_table_that_is_busy_for_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_store, "LOCK_TIMEOUT_S", 0.05)
    with (
        csv_store._locked(tmp_path, "t", 1.0),
        pytest.raises(TableError, match=r"were busy for 0 seconds\.\n  Another program"),
    ):
        put(tmp_path, "aaaaaaaa")


# Many at once


def test_a_hundred_processes_at_once(tmp_path: Path) -> None:
    """Without waiting for the disk itself, which orders nothing between processes and takes most of the time."""
    code = """
        os.fsync = lambda _: None
        for number in range(100):
            if os.fork() == 0:
                for i in range(20):
                    put(f"{number:04d}{i:03d}a")
                put("shared00")
                os._exit(0)
        print(sorted({os.wait()[1] for _ in range(100)}))
    """
    assert child(code, tmp_path).communicate()[0] == "[0]\n"
    runs = {f"{number:04d}{i:03d}a": 3 for number in range(100) for i in range(20)}
    assert_whole(tmp_path, runs | {"shared00": 3})


def test_threads_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for i in range(20):
            put(tmp_path, f"{number:04d}{i:03d}a")
        put(tmp_path, "shared00")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = {f"{n:04d}{i:03d}a": 3 for n in range(12) for i in range(20)}
    assert_whole(tmp_path, runs | {"shared00": 3})


# Reading


MERGE_EXAMPLE = """
import pandas as pd
metrics = pd.read_csv("outputs/metrics/policy-sentiment_metrics_log.csv")
runs = pd.read_csv("outputs/metrics/policy-sentiment_metrics_log_runs.csv")
joined = metrics.merge(runs, on="run_id")
view = joined[(joined["column"] == "Policy Sentiment_Direction") & (joined["metric"] == "f1_macro")]
view[["model_id", "chat_mode", "reasoning", "use_examples", "value"]]
"""


@pytest.mark.parametrize(
    "ids", [("a1b2c3d4", "b1b2c3d4"), ("12345678", "00345678"), ("12345678",), ("1e234567",)]
)
def test_the_join_that_every_user_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, run_id in enumerate(ids):
        run = {"run_id": run_id, "model_id": f"m{number}", "chat_mode": "per_text", "use_examples": True}
        rows = [metric(run_id, value=number / 4), metric(run_id, "accuracy", 1.0)]
        upsert("outputs/metrics", "policy-sentiment", long=rows, runs=[run], classes=[])
    found: dict[str, pd.DataFrame] = {}
    exec(MERGE_EXAMPLE, found)
    view = found["view"]
    assert view["model_id"].to_list() == [f"m{n}" for n in range(len(ids))]
    assert view["value"].to_list() == [n / 4 for n in range(len(ids))]
    assert view["use_examples"].to_list() == [True] * len(ids)
    assert view.pivot_table(index="model_id", values="value").shape == (len(ids), 1)


@pytest.mark.parametrize("polars", [False, True])
def test_ids_that_look_like_numbers_stay_text(tmp_path: Path, polars: bool) -> None:
    ids = ["12345678", "1e234567", "00000001", "2e345678"]
    for run_id in ids:
        put(tmp_path, run_id, n_metrics=1)
    assert read_long(tmp_path, "t", polars=polars)["run_id"].to_list() == ids
    assert read_runs(tmp_path, "t", polars=polars)["run_id"].to_list() == ids
    assert joined(tmp_path, "t", polars=polars)["run_id"].to_list() == ids


def test_a_plain_read_makes_two_unsafe_ids_one(tmp_path: Path) -> None:
    """Why run ids should be `safe_run_id`: this is pandas' doing, which no table can prevent."""
    for run_id in ("1e000010", "10e00009"):
        put(tmp_path, run_id, n_metrics=1)
    metrics, runs = pd.read_csv(tmp_path / LONG), pd.read_csv(tmp_path / RUNS)
    assert len(metrics.merge(runs, on="run_id")) == 4
    assert not safe_run_id("1e000010")
    assert not safe_run_id("10e00009")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.text("0123456789abcdef", min_size=8, max_size=8)
        | st.from_regex(r"[0-9]{1,6}[a-f][0-9]{1,6}", fullmatch=True),
        min_size=1,
    )
)
def test_a_safe_id_is_text_to_pandas_and_polars_even_alone(ids: list[str]) -> None:
    for run_id in ids:
        text = f"run_id,x\n{run_id},1\n"
        as_text = pd.read_csv(io.StringIO(text))["run_id"].to_list() == [run_id]
        as_text &= pl.read_csv(text.encode())["run_id"].to_list() == [run_id]
        assert as_text or not safe_run_id(run_id)


@pytest.mark.parametrize(
    ("run_id", "safe"),
    [
        ("a1b2c3d4", True),
        ("1234567a", True),
        ("e1234567", True),
        ("1e2e3456", True),
        ("12345678", False),
        ("1e234567", False),
        ("123456e7", False),
        ("1d234567", False),
        ("1234567e", False),
        ("1234567d", False),
        ("1234567f", False),
        ("A1B2C3D4", False),
        ("a1b2c3d4e", False),
        ("a1b2c3d4\n", False),
    ],
)
def test_safe_run_ids(run_id: str, safe: bool) -> None:
    assert safe_run_id(run_id) is safe


def test_types_and_blanks(tmp_path: Path) -> None:
    rows = [
        metric("a1b2c3d4", value=None, reason="no variation"),
        metric("a1b2c3d4", "kappa", -0.1, n=3, ci_low=-1),
    ]
    run = {"run_id": "a1b2c3d4", "use_examples": False, "seed": 2**60 + 1, "temperature": 0, "n_queries": 12}
    upsert(
        tmp_path,
        "t",
        long=rows,
        runs=[run],
        classes=[label("a1b2c3d4", word) for word in ("NA", "None", "1")],
    )
    long, runs, classes = read_long(tmp_path, "t"), read_runs(tmp_path, "t"), read_classes(tmp_path, "t")
    assert [str(long[name].dtype) for name in ("value", "ci_low", "ci_high", "n")] == ["float64"] * 3 + [
        "Int64"
    ]
    assert math.isnan(long["value"][0])
    assert long["reason"].to_list() == ["no variation", ""]
    assert (runs["seed"][0], runs["temperature"][0], runs["use_examples"][0]) == (2**60 + 1, 0.0, False)
    assert classes["label"].to_list() == ["NA", "None", "1"]
    both = read_long(tmp_path, "t", polars=True), read_runs(tmp_path, "t", polars=True)
    assert both[0].schema["value"] == both[0].schema["ci_high"] == pl.Float64
    assert both[0]["value"].to_list() == [None, -0.1]
    assert both[0]["n"].to_list() == [None, 3]
    assert both[0]["reason"].to_list() == ["no variation", ""]
    assert both[1].select("seed", "temperature", "use_examples").row(0) == (2**60 + 1, 0.0, False)
    assert read_classes(tmp_path, "t", polars=True)["label"].to_list() == ["NA", "None", "1"]


@pytest.mark.parametrize("polars", [False, True])
def test_a_setting_that_is_no_number_or_flag_stays_text(tmp_path: Path, polars: bool) -> None:
    runs = [
        {"run_id": "a1b2c3d4", "reasoning": "high", "temperature": "default", "seed": 2**70},
        {"run_id": "b1b2c3d4", "reasoning": True, "temperature": 0.5, "seed": 1},
    ]
    upsert(tmp_path, "t", long=[], runs=runs, classes=[])
    frame = read_runs(tmp_path, "t", polars=polars)
    assert frame["reasoning"].to_list() == ["high", "True"]
    assert frame["temperature"].to_list() == ["default", "0.5"]
    assert frame["seed"].to_list() == [str(2**70), "1"]


def test_a_doubled_run_in_the_runs_table_is_not_joined(tmp_path: Path) -> None:
    put(tmp_path, "a1b2c3d4")
    with (tmp_path / RUNS).open("a") as file:
        file.write(lines(tmp_path, RUNS)[1] + "\n")
    with pytest.raises(TableError, match=r"has more than one row for a1b2c3d4\.\n  Keep one row"):
        joined(tmp_path, "t")
    put(tmp_path, "a1b2c3d4")
    assert len(joined(tmp_path, "t")) == 3


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"Task 'policy' has no long table in .*\. There is none of any task\.\n  Run and"
    ):
        read_long(tmp_path, "policy")
    upsert(tmp_path, "policies", long=[metric("a1b2c3d4")], runs=[], classes=[])
    with pytest.raises(TableError) as error:
        read_long(tmp_path, "policy")
    assert str(error.value) == (
        f"Task 'policy' has no long table in {tmp_path}; did you mean 'policies'? Tasks with one: policies."
        "\n  Run and score the task first, or give the outputs folder where you did."
    )
    with pytest.raises(TableError, match="has no classes table"):
        read_classes(tmp_path, "policy")


def test_importing_and_writing_need_no_frame_library() -> None:
    code = (
        "import sys, tempfile; from nbannot.record import tables;"
        "tables.upsert(tempfile.mkdtemp(), 't', long=[{'run_id': 'a1b2c3d4', 'metric': 'm'}], runs=[], classes=[]);"
        "print([m for m in ('pandas', 'polars', 'numpy', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
