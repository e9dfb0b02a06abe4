"""The state of a run: whatever ends its sessions, every file has what the ledger has; damaged files are mended."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pickle
import random
import shutil
import signal
import threading
from pathlib import Path

import pytest
from conftest import DEGREE, GATE, STANCE, codebook_of, task_of

import nbannot
from nbannot.asking.applies import NOT_DECIDED
from nbannot.asking.ledger import Ledger
from nbannot.asking.request_reply import ModelInfo, Reply
from nbannot.errors import NbannotError, RunError, RunInterrupted, ScoringError, TaskError
from nbannot.record import folder
from nbannot.record.coding import NOT_CALIBRATED
from nbannot.record.columns import setting_cell
from nbannot.record.state import read_state
from nbannot.tools.files import name_fault

TEXTS = 10
VALUES = {"S_Gate": ("true", "false"), "S_Stance": ("pro", "anti", "neutral"), "S_Degree": (-2, -1, 0, 1, 2)}


class Moody:
    """A model that answers well, badly, or not at all, as a seeded draw says; a session can end at any of its calls."""

    parallel, answer_modes = 3, ("generate",)

    def __init__(self, seed, trouble=0.5):
        self.draw, self.trouble, self.calls, self.at_call = random.Random(seed), trouble, 0, {}
        self.context = 4096

    def info(self):
        return ModelInfo("moody", "test", energy_measured=False, context_size=self.context)

    async def open(self):
        pass

    async def close(self):
        pass

    async def ask(self, request):
        self.calls += 1
        await asyncio.sleep(0)
        if (act := self.at_call.get(self.calls)) is not None:
            act()
        if self.draw.random() < self.trouble:
            return self.draw.choice(
                [
                    Reply(text="I could say a lot about that.", finish_reason="stop"),
                    Reply(text="", finish_reason="content_filter"),
                    Reply(error="HTTP 400: no", retriable=False),
                    Reply(text='{"response": "cut he', finish_reason="length"),
                ]
            )
        column = request.key.split("|")[1]
        return Reply(text=json.dumps({"response": self.draw.choice(VALUES[column])}), finish_reason="stop")


def ledger_of(place):
    lines = (place / "responses.jsonl").read_bytes().split(b"\n")[:-1]
    return [record for record in map(json.loads, lines) if "text_id" in record]


def said(place):
    """Return (text id, column) -> the label that counts, from raw replies alone."""
    found = {}
    for record in ledger_of(place):
        if record["error"] is None:
            try:
                value = json.loads(record["raw"])["response"]
            except ValueError:
                continue
            value = {"true": "1", "false": "0"}.get(value, str(value))
            found[record["text_id"], record["columns"][0]] = value
    return {
        (text_id, column): value
        for (text_id, column), value in found.items()
        if column != "S_Stance" or found.get((text_id, "S_Gate")) == "1"
    }


def written(place):
    with (place / "output.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(row["id"], column): row[column] for row in rows for column in VALUES if row[column]}


def of_table(root, metric):
    rows = csv.DictReader((root / "metrics" / "demo_metrics_log.csv").open(newline="", encoding="utf-8"))
    return {row["column"]: float(row[metric_name]) for row in rows if row["metric"] == metric
            for metric_name in ("value",) if row["value"]}  # fmt: skip


def interrupt():
    raise KeyboardInterrupt


def broken():
    raise RuntimeError("out of a clear sky")


def labelled_task():
    draw = random.Random(5)
    gates = [draw.choice("01") for _ in range(TEXTS)]
    return task_of(
        TEXTS,
        codebook_of(GATE, STANCE, DEGREE),
        S_Gate=gates,
        S_Stance=[draw.choice(["pro", "anti"]) if g == "1" else "" for g in gates],
        S_Degree=[str(draw.randint(-2, 2)) for _ in range(TEXTS)],
    )


def damage(draw, place, root):
    """Take away, empty or change one of the files that follow from the ledger."""
    names = [
        "output.csv",
        "classification_reports.txt",
        "timing_data.json",
        "char_counts.json",
        "human_labels.csv",
    ]
    tables = [f"demo_metrics_log{end}.csv" for end in ("", "_runs", "_classes")]
    path = draw.choice([place / name for name in names] + [root / "metrics" / name for name in tables])
    if not path.exists():
        return
    how = draw.choice(["gone", "empty", "changed"])
    if how == "gone":
        path.unlink()
    elif how == "empty" and path.suffix == ".csv" and path.parent == place:
        path.write_bytes(b"")
    elif path.parent == place and path.suffix != ".json":
        path.write_bytes(path.read_bytes().replace(b"1", b"0").replace(b"anti", b"pro"))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_ends_a_session_every_file_has_what_the_ledger_has(tmp_path, with_model, monkeypatch, seed):
    monkeypatch.setattr("nbannot.record.scoring.Scored.scoring", {"n_resamples": 50}, raising=False)
    monkeypatch.setattr("nbannot.record.run.Run.scoring", {"n_resamples": 50})
    monkeypatch.setattr("nbannot.engine.sending.GONE_AFTER", 4)
    draw, task = random.Random(seed), labelled_task()
    mode, retries = draw.choice(["per_query", "per_query", "per_text"]), draw.choice([0, 1])
    known: set[tuple[str, str]] = set()
    place = None
    for session in range(7):
        last = session == 6
        model = with_model(Moody(f"{seed} {session}", 0.0 if last else draw.choice([0.1, 0.5, 0.9])))
        stop, settings, tick = threading.Event(), {}, None
        cause = "nothing" if last else draw.choice(["budget", "stop", "error", "ctrl-c", "gone", "nothing"])
        at = draw.randint(1, 25)
        if cause == "budget":
            settings["budget"] = {"calls": at}
        elif cause in ("stop", "error"):
            model.at_call[at] = stop.set if cause == "stop" else broken
        elif cause == "ctrl-c":
            model.at_call[at] = lambda: os.kill(os.getpid(), signal.SIGINT)
        elif cause == "gone":
            model.trouble = 1.0
        run = None
        try:
            run = nbannot.run(
                task, model="mock", output_root=str(tmp_path), chat_mode=mode, retries=retries, stop=stop, tick=tick,
                retry="invalid" if last else draw.choice([None, "invalid", "failed"]), **settings,
            )  # fmt: skip
        except RunInterrupted:
            assert cause in ("stop", "ctrl-c")
        except RunError:
            assert cause == "error"
        (place,) = tmp_path.glob("demo/????????")
        right = said(place)
        assert known <= set(right), "the test itself lost labels"
        loaded = nbannot.load_run(place, task=task)
        labels = {
            (text_id, column): str(value)
            for column in loaded.coding.answers
            for text_id, value in zip(task.ids, loaded.coding.values(column), strict=True)
            if value is not None
        }
        assert labels == right, f"session {session}, {cause}"
        if (place / "output.csv").exists():
            assert written(place) == right, f"session {session}, {cause}"
            coverage = of_table(tmp_path, "coverage")
            human = {column: task.human(column) for column in VALUES}
            wanted = {
                column: sum((text_id, column) in right for text_id, said_by in zip(task.ids, values, strict=True)
                            if said_by is not None) / sum(v is not None for v in values)
                for column, values in human.items()
                if column != "S_Stance"
            }  # fmt: skip
            assert {column: coverage[column] for column in wanted} == pytest.approx(wanted)
        if run is not None:
            assert run.coding.answers == loaded.coding.answers
            assert run.status == loaded.status == json.loads((place / "config.json").read_text())["status"]
        known = set(right)
        damage(draw, place, tmp_path)
    assert nbannot.load_run(place, task=task).status == "complete"


def test_a_finished_run_is_mended_from_its_ledger(tmp_path):
    task = labelled_task()
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    names = ("output.csv", "classification_reports.txt", "human_labels.csv", "char_counts.json")
    before = {name: (run.folder / name).read_bytes() for name in names}
    told: list[str] = []

    def again():
        told.clear()
        found = nbannot.run(task, model="mock", output_root=str(tmp_path), say=told.append)
        assert {name: (found.folder / name).read_bytes() for name in before} == before
        assert of_table(tmp_path, "accuracy") == accuracy
        assert not [p.name for p in found.folder.iterdir() if p.name not in (*folder.FILES, folder.LOCK)]

    accuracy = of_table(tmp_path, "accuracy")
    again()
    assert told == []
    (run.folder / "output.csv").write_bytes(before["output.csv"].replace(b",pro,", b",anti,"))
    again()
    assert told == ["written again from the ledger: output.csv"]
    for name in names:
        (run.folder / name).unlink()
        again()
    (run.folder / "classification_reports.txt").write_text("all is well")
    again()
    long = tmp_path / "metrics" / "demo_metrics_log.csv"
    text = long.read_text(encoding="utf-8")
    value = next(line for line in text.splitlines() if ",accuracy," in line)
    long.write_text(text.replace(value, value.replace(",0.", ",9.", 1)), encoding="utf-8")
    again()
    shutil.rmtree(tmp_path / "metrics")
    again()
    (run.folder / "config.json").unlink()
    model_calls = len(ledger_of(run.folder))
    del before["classification_reports.txt"]  # the energy of one more session is in it
    again()
    assert len(ledger_of(run.folder)) == model_calls


def test_a_ledger_that_was_cut_is_refused_and_one_that_is_gone_leaves_what_output_says(tmp_path):
    task = labelled_task()
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    whole = (run.folder / "responses.jsonl").read_bytes()
    (run.folder / "responses.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:7]))
    with pytest.raises(RunError, match=r"was cut or replaced: it has \d+ calls, of the \d+ that timing_data"):
        nbannot.load_run(run.folder, task=task)
    (run.folder / "responses.jsonl").write_bytes(whole.replace(b'"value":"pro"', b'"value":"prO"'))
    with pytest.raises(RunError, match="holds an answer to S_Stance that is none: 'prO'"):
        nbannot.load_run(run.folder, task=task)
    (run.folder / "responses.jsonl").unlink()
    assert nbannot.load_run(run.folder, task=task).coding.values("S_Degree") == run.coding.values("S_Degree")
    output = run.folder / "output.csv"
    output.write_text(output.read_text(encoding="utf-8").replace(",pro,", ",perhaps,"), encoding="utf-8")
    with pytest.raises(ScoringError, match=r"text t\d+, column S_Stance: 'perhaps'"):
        nbannot.load_run(run.folder, task=task)


def test_a_label_is_not_lost_to_a_failure_and_a_failure_counts_only_where_it_is_asked_again(tmp_path):
    task = task_of(3, codebook_of(GATE))
    lines = [
        ("t00000", 1, "invalid", None),
        ("t00000", 2, "ok", 1),
        ("t00000", 3, "failed", None),
        ("t00001", 1, "invalid", None),
        ("t00001", 2, "failed", None),
        ("t00002", 1, "failed", None),
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {"text_id": i, "columns": ["S_Gate"], "attempt": n,
                 "answers": [{"column": "S_Gate", "status": s, "value": v}], "raw": ""}
            ) + "\n"
            for i, n, s, v in lines
        )
    )  # fmt: skip
    statuses = {}
    for retries in (0, 1, 2):
        state = read_state(task, path, {"columns_asked": ["S_Gate"], "retries": retries})
        statuses[retries] = [answer.status for answer in state.coding.answers["S_Gate"]]
    asked_again = ["ok", "failed", "failed"]
    assert statuses == {0: ["ok", "invalid", "failed"], 1: asked_again, 2: asked_again}


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced", "cut"])
def test_a_ledger_that_goes_away_midway_is_noticed(tmp_path, with_model, what):
    task, model = task_of(300, codebook_of(GATE)), with_model(Moody(1, 0.0))
    model.parallel = 1
    original = model.ask

    async def slow(request):
        await asyncio.sleep(0.01)
        return await original(request)

    model.ask = slow

    def go_away():
        (ledger,) = tmp_path.glob("demo/????????/responses.jsonl")
        if what == "deleted":
            shutil.rmtree(ledger.parent)
        elif what == "moved":
            ledger.parent.rename(tmp_path / "elsewhere")
        elif what == "replaced":
            shutil.copy(ledger, tmp_path / "copy")
            (tmp_path / "copy").replace(ledger)
        else:
            os.truncate(ledger, 10)

    model.at_call[9] = go_away
    with pytest.raises(RunError, match="is gone" if what in ("deleted", "moved") else f"was {what}"):
        nbannot.run(task, model="mock", output_root=str(tmp_path))
    assert model.calls < 150, "it was noticed within a second"
    places = list(tmp_path.glob("demo/????????"))
    if what in ("deleted", "moved"):
        assert places == []
        kept = tmp_path / "elsewhere"
        assert what == "deleted" or len(ledger_of(kept)) >= model.calls - 1
        return
    assert not (places[0] / "output.csv").exists()
    if what == "replaced":
        assert len(ledger_of(places[0])) >= model.calls - 1, "what came after the copy was added to it"
    assert nbannot.run(task, model="mock", output_root=str(tmp_path)).status == "complete"


def test_an_answer_that_did_not_fit_is_asked_again_when_the_server_changes(tmp_path, with_model):
    task, model = task_of(4, codebook_of(GATE)), with_model(Moody(1, 0.0))
    original = model.ask

    async def small(request):
        if request.key.startswith("t00002") and model.context < 8000:
            return Reply(error="text does not fit: 5000 tokens of 4096", finish_reason="context")
        return await original(request)

    model.ask = small
    go = lambda **more: nbannot.run(task, model="mock", output_root=str(tmp_path), **more)  # noqa: E731
    first = go()
    assert (first.status, first.coding.count()) == ("complete", {"ok": 3, "not_asked": 1})
    assert first.unfitting == nbannot.load_run(first.folder, task=task).unfitting == 1
    calls = len(ledger_of(first.folder))
    assert go().coding.count() == {"ok": 3, "not_asked": 1}
    assert len(ledger_of(first.folder)) == calls, "the same server is not asked again"
    model.context = 8192
    done = go()
    assert (done.coding.count(), done.unfitting) == ({"ok": 4}, 0)


def test_leftovers_of_a_killed_start_are_swept_and_a_stranger_is_refused(tmp_path):
    task = task_of(2, codebook_of(GATE))
    place = nbannot.plan(task, model="mock", output_root=str(tmp_path)).design.folder
    place.mkdir(parents=True)
    for name in (".config.json.a_b8cd1e", ".output.csv.00000000", ".lock", ".writable.0123456789ab"):
        (place / name).write_text("half")
    (place / "thesis.docx").write_text("mine")
    with pytest.raises(RunError, match=r"no config\.json of ours, but thesis\.docx"):
        nbannot.run(task, model="mock", output_root=str(tmp_path))
    (place / "thesis.docx").unlink()
    assert nbannot.run(task, model="mock", output_root=str(tmp_path)).status == "complete"
    assert {p.name for p in place.iterdir()} <= {*folder.FILES, folder.LOCK}


def test_a_folder_has_the_files_of_the_list(tmp_path):
    run = nbannot.run(labelled_task(), model="mock", output_root=str(tmp_path), prompt_type="CoT")
    there = {p.name for p in run.folder.iterdir()} - {folder.LOCK}
    assert there <= set(folder.FILES)
    assert set(folder.FILES) - there <= {folder.TRACES, folder.EMISSIONS, folder.PROBABILITIES}
    spec = (Path(__file__).parents[1] / "docs" / "run-folder.md").read_text(encoding="utf-8")
    assert [name for name in folder.FILES if name not in spec] == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("metrics", "tidy tables"), ("Metrics", "tidy tables"), ("a\0b", "has '\\x00' in it"), ("a:b", "folder"),
        ("x" * 300, "300 bytes"), ("ä" * 100, "200 bytes"), ("con", "device"), ("LPT1.txt", "device"),
        ("com¹", "device"), ("end.", "takes away"), (" blank", "takes away"), ("bell\x07", "in it"),
        ("\u2028", "in it"),
    ],
)  # fmt: skip
def test_a_name_that_no_folder_can_have_gets_a_letter(tmp_path, name, fault):
    base = task_of(2, codebook_of(GATE))
    with pytest.raises(TaskError) as error:
        nbannot.run(nbannot.Task(base.data, base.codebook, name), model="mock", output_root=str(tmp_path))
    assert fault in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_names_that_every_system_has_are_taken():
    assert [
        name_fault(n) for n in ("conference", "nul-hypothesis", "a b", "Zürich", "x.y", "auxiliary", "com10")
    ] == [""] * 7


def test_the_table_lays_people_and_model_side_by_side(tmp_path):
    task = labelled_task()
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    table = run.table()
    assert len(table) == TEXTS
    for row, text_id in zip(table.to_dict("records"), task.ids, strict=True):
        number = task.ids.index(text_id)
        assert row["S_Degree human"] == task.human("S_Degree")[number]
        assert row["S_Degree model"] == run.coding.values("S_Degree")[number]
        assert row["S_Degree agree"] == (row["S_Degree human"] == row["S_Degree model"])
        if task.human("S_Gate")[number] == 0:
            assert row["S_Stance agree"] == (row["S_Stance status"] == "not_applicable")
    again = pickle.loads(pickle.dumps(table))
    assert again.equals(table)


def test_scoring_again_keeps_the_cluster_of_the_scoring_before(tmp_path):
    base = labelled_task()
    data = base.data.with_columns(author=base.data["id"].str.slice(5, 1))
    task = nbannot.Task(data, base.codebook, "demo")
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    nbannot.rescore(run.folder, task, cluster="author", save=True)
    clustered = nbannot.load_run(run.folder, task=task)
    assert clustered.scores.settings["cluster"] == "author"
    assert nbannot.rescore(run.folder, task).scores.settings["cluster"] == "author"
    assert nbannot.rescore(run.folder, task, cluster="").scores.settings["cluster"] == ""


def test_an_unset_setting_drops_no_run_from_a_grouping(tmp_path):
    task = labelled_task()
    for reasoning in (None, False):
        nbannot.run(task, model="mock", output_root=str(tmp_path), reasoning=reasoning)
    joined = nbannot.joined(task, output_root=tmp_path)
    grouped = (
        joined[joined["metric"] == "accuracy"].groupby(["model", "chat_mode", "reasoning"])["value"].count()
    )
    assert sorted(key[2] for key in grouped.index) == ["False", "unset"]
    assert grouped.sum() == 6
    assert [setting_cell(n, None) for n in ("split", "top_k", "calibration", "limit")] == [
        "unset",
        None,
        "unset",
        None,
    ]


def test_a_reason_stands_beside_blanks_and_a_note_beside_values(tmp_path):
    run = nbannot.run(labelled_task(), model="mock", output_root=str(tmp_path))
    rows = run.metrics.to_dict("records")
    assert all(bool(row["reason"]) == (row["value"] != row["value"]) for row in rows)
    assert any(row["note"] for row in rows)
    assert all(row["value"] == row["value"] for row in rows if row["note"])
    classes = csv.DictReader(
        (tmp_path / "metrics" / "demo_metrics_log_classes.csv").open(newline="", encoding="utf-8")
    )
    by_label: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in classes:
        by_label.setdefault((row["column"], row["label"]), {})[row["metric"]] = row
        assert bool(row["reason"]) == (row["value"] == "")
    for of in by_label.values():
        support, predicted = float(of["support"]["value"]), float(of["predicted"]["value"])
        assert float(of["precision"]["n"]) == predicted
        assert float(of["recall"]["n"]) == support
        assert float(of["f1"]["n"]) == support + predicted


def test_simultaneous_starts_do_the_work_once(tmp_path):
    code = (
        "import sys, nbannot\n"
        "from nbannot.errors import NbannotError\n"
        "try:\n"
        "    print(nbannot.run('policy-sentiment', model='mock', limit=4, output_root=sys.argv[1]).status)\n"
        "except NbannotError as error:\n"
        "    print('refused' if 'another process' in str(error) else error)\n"
    )
    import subprocess
    import sys

    made = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate(timeout=100)[0].strip().splitlines()[-1] for process in made]
    assert set(told) <= {"complete", "refused"}
    assert "complete" in told
    (place,) = tmp_path.glob("policy-sentiment/????????")
    keys = [(r["text_id"], tuple(r["columns"]), r["attempt"]) for r in ledger_of(place)]
    assert len(keys) == len(set(keys))


def test_a_ledger_says_what_became_of_it(tmp_path):
    book = Ledger(tmp_path / "responses.jsonl")
    book.note(calibration="x", offset=[0.0])
    book.check()
    (tmp_path / "responses.jsonl").unlink()
    for _ in range(2):
        with pytest.raises(NbannotError, match="is gone"):
            book.check()
    assert not book.is_open
    book.let_go()
    book.let_go()


def test_a_folder_made_by_hand_is_a_run_beside_its_task(tmp_path):
    """`output.csv` and a few words in `config.json`, as scripts make them: a value is an answer, a blank is none."""
    task = task_of(4, codebook_of(DEGREE), S_Degree=["1", "2", "-1", "0"])
    place = tmp_path / "made"
    place.mkdir()
    said = task.to_pandas()[["id", "text"]].assign(S_Degree=["1", "", "-1", "2"])
    said.to_csv(place / "output.csv", index=False)
    few = {"run_id": "made", "columns_asked": ["S_Degree"], "model": "made/by-hand"}
    (place / "config.json").write_text(json.dumps(few), encoding="utf-8")
    run = nbannot.load_run(place, task=task)
    assert run.coding.values("S_Degree") == [1, None, -1, 2]
    assert run.scores.fields["S_Degree"].results["coverage"].value == 0.75
    with pytest.raises(RunError, match="does not say of its run: task_name"):
        nbannot.load_run(place)
    other = task_of(4, codebook_of(DEGREE), S_Degree=["1", "2", "-1", "0"], text=["other"] * 4)
    with pytest.raises(ScoringError, match="are not those of task"):
        nbannot.load_run(place, task=other)


def test_of_two_answers_that_are_no_labels_the_later_one_stands(tmp_path):
    run = nbannot.run(
        "policy-sentiment",
        model="mock?wrong=1",
        limit=3,
        fields=["Direction"],
        retries=2,
        output_root=tmp_path,
    )
    assert {answer.attempt for answer in run.coding.answers["Policy Sentiment_Direction"]} == {3}
    assert {answer.status for answer in run.coding.answers["Policy Sentiment_Direction"]} == {"invalid"}


def test_a_folder_from_before_a_threshold_could_be_set_is_read_with_the_usual_one(tmp_path):
    run = nbannot.run(
        "policy-sentiment", model="decide/sparrow", fields=["Explicit evaluation"], output_root=tmp_path
    )
    config = json.loads((run.folder / "config.json").read_text("utf-8"))
    del config["threshold"]
    (run.folder / "config.json").write_text(json.dumps(config), "utf-8")
    again = nbannot.load_run(run.folder)
    assert again.coding.answers == run.coding.answers
    assert {answer.value for answer in again.coding.answers["Policy Sentiment_Explicit evaluation"]} == {0, 1}


def test_a_line_about_a_text_that_the_task_does_not_have_is_nobodys_answer(tmp_path):
    settings = {"model": "mock", "fields": ["Direction"], "output_root": tmp_path}
    run = nbannot.run("policy-sentiment", limit=3, **settings)
    ledger = run.folder / folder.LEDGER
    lines = ledger.read_text("utf-8").splitlines()
    call = json.loads(next(line for line in lines if '"text_id"' in line))
    for label in ("positive", "negative", "mixed"):  # one of them would be another label for any text
        answers = [{**call["answers"][0], "value": label}]
        stranger = json.dumps(call | {"text_id": "stranger", "answers": answers})
        ledger.write_text("\n".join([*lines, stranger]) + "\n", "utf-8")
        assert nbannot.load_run(run.folder).coding.answers == run.coding.answers


def scored_lines(tmp_path, n, *notes, blank=0, probabilities=(0.6, 0.4), calibration="batch"):
    """Return the state of a run whose ledger holds a scored answer 0 to each of n texts, and these lines after."""
    texts = [f"text {i}" if i >= blank else " " for i in range(n)]
    task = task_of(n, codebook_of(GATE), text=texts)
    ledger = Ledger(tmp_path / "responses.jsonl")
    for i, text_id in enumerate(task.ids):
        if i >= blank:
            given = {"column": "S_Gate", "status": "ok", "value": 0}
            decisions = {"S_Gate": {"probabilities": probabilities}}
            ledger.note(text_id=text_id, columns=["S_Gate"], attempt=1, answers=[given], decisions=decisions)
    for note in notes:
        ledger.note(**note)
    ledger.close()
    config = {"columns_asked": ["S_Gate"], "answer_mode_used": "score", "calibration_used": calibration}
    return read_state(task, tmp_path / "responses.jsonl", config).coding.answers["S_Gate"]


def test_an_answer_is_calibrated_as_the_ledger_says_and_says_so_where_that_is_still_to_come(tmp_path):
    offset = {"calibration": "S_Gate", "offset": [2.0, 0.0]}
    cases = {
        "too few texts for a calibration": ((31,), {}, {(0, "")}),
        "and a blank one is none": ((33,), {"blank": 2}, {(0, ""), (None, "the text is blank")}),
        "enough, but it has not come": ((32,), {}, {(0, NOT_CALIBRATED)}),
        "more than enough": ((40,), {}, {(0, NOT_CALIBRATED)}),
        "it has come": ((32, offset), {}, {(1, "")}),
        "and was settled elsewhere": ((4, {**offset, "frozen": True}), {}, {(1, "")}),
        "none, settled elsewhere": ((40, {**offset, "offset": [], "frozen": True}), {}, {(0, "")}),
        "another column's": ((32, {**offset, "calibration": "S_Other"}), {}, {(0, NOT_CALIBRATED)}),
        "no calibration wanted": ((40, offset), {"calibration": "none"}, {(0, "")}),
        "shares of other options": ((40, offset), {"probabilities": (0.3, 0.3, 0.4)}, {(0, "")}),
        "shares of other options, no calibration": ((40,), {"probabilities": (0.3, 0.3, 0.4)}, {(0, "")}),
    }
    for i, (case, (lines, kwargs, expected)) in enumerate(cases.items()):
        (tmp_path / str(i)).mkdir()
        answers = scored_lines(tmp_path / str(i), *lines, **kwargs)
        assert {(answer.value, answer.reason) for answer in answers} == expected, case
        shares = {len(answer.probabilities or ()) for answer in answers if answer.status == "ok"}
        assert shares == ({0} if case.startswith("shares of other") else {2}), case


def test_a_folder_published_without_its_ledger_still_says_what_was_not_asked(tmp_path):
    run = nbannot.run("policy-sentiment", model="decide/sparrow", limit=4, output_root=tmp_path)
    closed = run.coding.answers["Policy Sentiment_Evidence"]
    assert {(answer.status, answer.reason) for answer in closed} == {("not_asked", NOT_DECIDED)}
    (run.folder / folder.LEDGER).unlink()
    assert nbannot.load_run(run.folder).coding.answers["Policy Sentiment_Evidence"] == closed
