"""`run`: the same call finds or continues the same run, whatever ended the one before; what it refuses to touch."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import DEGREE, GATE, MARKS, QUOTE, STANCE, codebook_of, task_of
from scripted import Scripted, replying, run_it, run_with, well

import nbannot
from nbannot.asking.ledger_lines import read_lines
from nbannot.errors import ConfigError, RunError, RunInterrupted
from nbannot.record.loading import load_run
from nbannot.record.tables import read_long
from nbannot.running.design import design
from nbannot.study.config import RunConfig
from nbannot.study.task import Task


def test_a_finished_run_comes_back_without_a_call(tmp_path, with_model):
    task = task_of(3)
    first = run_with(Scripted(well), with_model, task, tmp_path)
    second_model = Scripted(well)
    second = run_with(second_model, with_model, task, tmp_path)
    assert second.run_id == first.run_id
    assert second_model.requests == []
    assert second.labels.to_csv() == first.labels.to_csv()


def test_labels_that_come_later_reach_the_tables_the_report_and_the_folder(tmp_path, with_model):
    """Labels decide no answer, so the run is found again; its saved scores must be those against today's labels."""
    data = {"text": [f"text {i}" for i in range(6)]}
    said: list[str] = []
    for labels in ([], ["1", "0", "1", "", "", ""], ["1"] * 6, ["1"] * 6):
        task = Task(
            pd.DataFrame(data | ({"S_Gate": labels} if labels else {})), codebook_of(GATE), name="demo"
        )
        model = Scripted(well)
        run = run_with(model, with_model, task, tmp_path)
        kept = read_long(tmp_path / "metrics", "demo").set_index("metric")
        shown = run.metrics.set_index("metric")
        for column in ("value", "n"):
            assert kept[column].to_dict() == pytest.approx(shown[column].to_dict(), nan_ok=True)
        said.append((run.folder / "classification_reports.txt").read_text())
        moved = load_run(run.folder, task=None).metrics.set_index("metric")
        assert moved["value"].to_dict() == pytest.approx(shown["value"].to_dict(), nan_ok=True)
    assert model.requests == []
    assert len(set(said)) == 3
    before = (run.folder / "classification_reports.txt").stat().st_mtime_ns
    run_with(Scripted(well), with_model, task, tmp_path)
    assert (run.folder / "classification_reports.txt").stat().st_mtime_ns == before


def test_fresh_makes_the_next_repetition(tmp_path, with_model):
    task = task_of(2, codebook_of(GATE))
    ids = [run_with(Scripted(well), with_model, task, tmp_path, temperature=1).run_id]
    for _ in range(2):
        with_model(Scripted(well))
        ids.append(run_it(task, output_root=str(tmp_path), temperature=1, fresh=True).run_id)
    assert len(set(ids)) == 3
    repeats = sorted(json.loads(p.read_text())["repeat"] for p in tmp_path.glob("demo/*/config.json"))
    assert repeats == [1, 2, 3]


def test_a_folder_of_another_config_is_never_written_into(tmp_path, with_model):
    task = task_of(2, codebook_of(GATE))
    run = run_with(Scripted(well), with_model, task, tmp_path)
    path = run.folder / "config.json"
    config = json.loads(path.read_text())
    config["identity"]["temperature"] = 0.5
    path.write_text(json.dumps(config))
    before = {p.name: p.read_bytes() for p in run.folder.iterdir()}
    with pytest.raises(RunError, match=r"other settings \(temperature\); nothing was written"):
        run_with(Scripted(well), with_model, task, tmp_path)
    assert {p.name: p.read_bytes() for p in run.folder.iterdir()} == before


def test_a_folder_that_is_not_ours_is_refused(tmp_path, with_model):
    task = task_of(2, codebook_of(GATE))
    model = with_model(Scripted(well))
    plan, _ = design(task, RunConfig(output_root=str(tmp_path)), model)
    plan.folder.mkdir(parents=True)
    (plan.folder / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds no config\.json of ours"):
        run_it(task, output_root=str(tmp_path))


def test_a_path_that_cannot_be_written_is_a_clear_error(tmp_path, with_model):
    (tmp_path / "file").write_text("x")
    with_model(Scripted(well))
    with pytest.raises(RunError, match=r"cannot write into .*\n  Choose another folder: output_root"):
        run_it(task_of(1, codebook_of(GATE)), output_root=str(tmp_path / "file"))


def test_a_full_disk_keeps_what_is_done_and_the_run_goes_on_later(tmp_path, with_model, monkeypatch):
    task = task_of(30, codebook_of(GATE))
    real = os.write

    def full(handle, data):
        if full.left <= 0 and b'"text_id"' in data:
            raise OSError(28, "No space left on device")
        full.left -= 1
        return real(handle, data)

    full.left = 12
    monkeypatch.setattr("nbannot.asking.ledger.os.write", full)
    with pytest.raises(RunError, match="No space left on device"):
        run_with(Scripted(well), with_model, task, tmp_path)
    monkeypatch.setattr("nbannot.asking.ledger.os.write", real)
    model = Scripted(well)
    run = run_with(model, with_model, task, tmp_path)
    assert run.status == "complete"
    assert 15 <= len(model.requests) <= 19


def test_two_processes_on_one_run_are_kept_apart(tmp_path, with_model):
    from filelock import FileLock

    task = task_of(2, codebook_of(GATE))
    model = with_model(Scripted(well))
    plan, _ = design(task, RunConfig(output_root=str(tmp_path)), model)
    plan.folder.mkdir(parents=True)
    with FileLock(plan.folder / ".lock"), pytest.raises(RunError, match="another process is working on run"):
        run_it(task, output_root=str(tmp_path))


SCRIPT = """
import sys
import threading
sys.path.insert(0, sys.argv[2])
from conftest import task_of, codebook_of, GATE, STANCE, DEGREE
import nbannot, nbannot.engine.energy
nbannot.engine.energy.prewarm = lambda: None  # CodeCarbon takes seconds to start, and is not what is tried here
nbannot.engine.energy.Meter.start = lambda self: None
task = task_of(int(sys.argv[3]), codebook_of(GATE, STANCE, DEGREE))
print("go", flush=True)
run = nbannot.run(task, model=sys.argv[4], output_root=sys.argv[1])
print(run.status, flush=True)
"""


def start(tmp_path, n=500, model="mock/?slow_s=0.002"):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent), str(n), model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "go\n"
    return process


def test_kill_at_random_moments_loses_nothing_and_asks_nothing_twice(tmp_path):
    undisturbed = start(tmp_path / "a")
    assert undisturbed.communicate(timeout=120)[0].strip() == "complete"
    chance = random.Random(7)
    place = tmp_path / "b" / "demo"
    kills = 0
    for _ in range(30):
        process = start(tmp_path / "b")
        ledgers = list(place.glob("*/responses.jsonl"))
        size = ledgers[0].stat().st_size if ledgers else 0
        more = chance.randrange(10_000, 60_000)
        while process.poll() is None:
            ledgers = ledgers or list(place.glob("*/responses.jsonl"))
            if ledgers and kills < 10 and ledgers[0].stat().st_size > size + more:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        out = process.communicate(timeout=60)[0]
        if "complete" in out:
            break
    assert kills >= 5
    [a], [b] = (tmp_path / "a").glob("demo/*/output.csv"), place.glob("*/output.csv")
    assert a.read_bytes() == b.read_bytes()
    keys = [
        (r["text_id"], tuple(r["columns"]), r["attempt"])
        for r in read_lines(b.parent / "responses.jsonl")
        if "text_id" in r
    ]
    assert len(keys) == len(set(keys))


def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path, model="mock/?slow_s=0.02&parallel=4")
    place = tmp_path / "demo"
    while not any(p.stat().st_size > 50_000 for p in place.glob("*/responses.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "RunInterrupted: stopped:" in error
    assert "The same cell or script goes on from there." in error
    [config] = place.glob("*/config.json")
    assert json.loads(config.read_text())["status"] == "partial"
    assert (
        start(tmp_path, model="mock/?slow_s=0.02&parallel=4").communicate(timeout=60)[0].strip() == "complete"
    )


def test_reasoning_traces_are_written_for_chain_of_thought(tmp_path):
    run = nbannot.run(
        task_of(2, codebook_of(GATE)), model="mock", prompt_type="CoT", output_root=str(tmp_path)
    )
    lines = [json.loads(line) for line in (run.folder / "reasoning_traces.jsonl").read_text().splitlines()]
    assert [line["text_id"] for line in sorted(lines, key=lambda r: r["row_num"])] == ["t00000", "t00001"]
    names = (
        "text_id row_num column annotation_name annotation_type attempt chat_mode prompt_chars response_chars"
    )
    assert list(lines[0]) == [*names.split(), "inference_time_s", "reasoning"]
    assert all(line["reasoning"] for line in lines)


def test_every_type_of_field_goes_through(tmp_path):
    book = codebook_of(GATE, STANCE, DEGREE, QUOTE, MARKS)
    run = nbannot.run(task_of(20, book), model="mock", output_root=str(tmp_path))
    assert run.status == "complete"
    assert {a.status for answers in run.coding.answers.values() for a in answers} <= {"ok", "not_applicable"}
    loaded = nbannot.load_run(run.folder)
    assert loaded.labels.to_csv() == run.labels.to_csv()


def test_retry_invalid_gives_only_the_invalid_ones_another_round(tmp_path, with_model):
    task = task_of(4, codebook_of(DEGREE))
    bad = Scripted(lambda r: replying(99) if "number 2:" in r.text else well(r))
    first = run_with(bad, with_model, task, tmp_path, retries=1)
    assert first.status == "complete"
    assert len(bad.requests) == 5
    good = Scripted(lambda r: replying(1) if r.key.endswith("|4") else replying(99))
    with_model(good)
    second = run_it(task, output_root=str(tmp_path), retries=1, retry="invalid")
    assert [r.key for r in good.requests] == ["t00002|S_Degree|3", "t00002|S_Degree|4"]
    assert second.coding.values("S_Degree") == [-2, -2, 1, -2]
    quiet = Scripted(well)
    assert run_with(quiet, with_model, task, tmp_path, retries=1).coding.values("S_Degree") == [-2, -2, 1, -2]
    assert quiet.requests == []


def test_a_run_stopped_between_its_last_answer_and_its_scores_is_scored_by_the_next_call(
    tmp_path, with_model, monkeypatch
):
    task = task_of(4, codebook_of(GATE), S_Gate=["1", "0", "1", "1"])

    def stopped(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for room in ("run", "mending"):
            patch.setattr(f"nbannot.running.{room}.save_scores", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_with(Scripted(well), with_model, task, tmp_path)
    assert not list(tmp_path.glob("metrics/*"))
    quiet = Scripted(well)
    run = run_with(quiet, with_model, task, tmp_path)
    assert quiet.requests == []
    assert (run.folder / "classification_reports.txt").exists()
    assert nbannot.runs(task, output_root=tmp_path)["run_id"].tolist() == [run.run_id]


def test_what_the_run_says_of_itself(tmp_path, with_model):
    """config.json: settings, origin and versions; what decides no answer finds the same run."""
    task = task_of(3, codebook_of(GATE), S_Gate=["1", "0", "1"])
    words: list[str] = []
    run = run_with(Scripted(well), with_model, task, tmp_path, country_iso_code="FRA", say=words.append)
    config = json.loads((run.folder / "config.json").read_text())
    assert config["run_id"] == run.run_id == run.folder.name
    assert (config["status"], config["n_texts"], config["columns_asked"]) == ("complete", 3, ["S_Gate"])
    assert config["energy"] == "not measured: the model runs on another machine"
    assert config["codebook"] == task.codebook.source
    assert config["packages"]["polars"]
    assert (config["first_call"], config["last_call"]) == (run.config["first_call"], run.config["last_call"])
    quiet = Scripted(well)
    again = run_with(quiet, with_model, task, tmp_path, country_iso_code="DEU", say=words.append)
    assert (again.run_id, quiet.requests, words) == (run.run_id, [], [])


def test_an_event_of_another_thread_ends_the_run_and_the_partial_one_is_at_hand(tmp_path, with_model):
    stop = threading.Event()

    class Stopping(Scripted):
        async def ask(self, request):
            if len(self.requests) == 4:
                stop.set()
            await asyncio.sleep(0.02)
            return await super().ask(request)

    task = task_of(40, codebook_of(GATE))
    with pytest.raises(RunInterrupted, match=r"answers are kept in .*\n.* goes on from there") as letter:
        run_with(Stopping(well, parallel=1), with_model, task, tmp_path, stop=stop)
    part = letter.value.finished
    assert part.status == "partial"
    done = part.coding.count()["ok"]
    rest = Scripted(well)
    assert run_with(rest, with_model, task, tmp_path).coding.count() == {"ok": 40}
    assert len(rest.requests) == 40 - done


def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(tmp_path, with_model):
    with_model(Scripted(well))
    with pytest.raises(ConfigError, match=r"retry must be 'invalid' or 'failed'\. Got 'all'"):
        run_it(task_of(1, codebook_of(GATE)), output_root=str(tmp_path), retry="all")
    assert list(tmp_path.iterdir()) == []
