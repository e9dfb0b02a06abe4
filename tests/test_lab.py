"""Folders and tables of the CodeBook Lab package: what is in them, shown on its own output, and how they are read."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA

from nbannot.errors import RunError, TableError
from nbannot.record.lab import SETTINGS, LabRun, lab_metrics, read_lab_folder
from nbannot.study.codebook import Codebook

SAMPLES = DATA / "codebook_lab_logs"
TASKS = SAMPLES / "tasks"
FOLDERS = sorted(path.parent for path in SAMPLES.glob("1.*/*/*/config.json"))

every_folder = pytest.mark.parametrize(
    "folder", FOLDERS, ids=[f"{p.parts[-3]}/{p.name[-19:]}" for p in FOLDERS]
)


def read(folder: Path) -> LabRun:
    return read_lab_folder(folder, TASKS / folder.parent.name)


def human(folder: Path) -> list[dict[str, str]]:
    with (TASKS / folder.parent.name / "ground-truth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def codebook(folder: Path) -> Codebook:
    return Codebook.load(TASKS / folder.parent.name / "codebook.json")


def settings_row(folder: Path, run_id: str) -> dict[str, str]:
    with (folder.parents[1] / "metrics" / f"{folder.parent.name}_metrics_log_runs.csv").open(
        newline=""
    ) as file:
        return next(row for row in csv.DictReader(file) if row["run_id"] == run_id)


def metrics_csv(folder: Path) -> Path:
    return folder.parents[1] / "metrics" / f"{folder.parent.name}_metrics_log.csv"


# The facts that the module names, each on every sample


def test_there_are_samples_of_both_versions() -> None:
    assert {folder.parts[-3] for folder in FOLDERS} == {"1.3.0", "1.4.0"}
    assert len(FOLDERS) == 14


@every_folder
def test_rows_keep_ids_and_order_and_input_columns(folder: Path) -> None:
    run, people = read(folder), human(folder)
    inputs = [name for name in people[0] if name not in {field.column for field in codebook(folder)}]
    assert [{name: row[name] for name in inputs} for row in run.rows] == [
        {name: row[name] for name in inputs} for row in people
    ]
    ids = [row["id"] for row in run.rows]
    assert len(set(ids)) == len(ids)


def test_two_rows_may_hold_one_text() -> None:
    texts = [
        row["text"] for row in read(next(f for f in FOLDERS if f.parent.name == "restaurant_cebab")).rows
    ]
    assert (len(texts), len(set(texts))) == (60, 59)


@every_folder
def test_likert_is_written_as_floats_exactly_where_the_column_has_blanks(folder: Path) -> None:
    run = read(folder)
    for field in codebook(folder):
        if field.type == "likert":
            cells = run.answers(field.column)
            assert all(cell.endswith(".0") == ("" in cells) for cell in cells if cell)
            assert {field.read(cell) for cell in cells} <= {None, *field.labels}


@every_folder
def test_a_textbox_is_never_blank_and_reads_none_only_where_other_calls_failed(folder: Path) -> None:
    run = read(folder)
    for field in codebook(folder):
        if field.type == "textbox" and field.column in run.columns:
            raw = [row[field.column] for row in run.rows]
            assert "" not in raw
            assert "None" not in [row[field.column] for row in human(folder)]
            failed_elsewhere = "" in run.answers("Policy area_Area")
            assert ("None" in raw) == failed_elsewhere
            assert run.answers(field.column) == ["" if cell == "None" else cell for cell in raw]
            assert (
                any(f"{raw.count('None')} of 60 cells read 'None'" in note for note in run.notes)
                == failed_elsewhere
            )


@every_folder
def test_a_gate_that_the_model_closed_leaves_a_blank(folder: Path) -> None:
    run = read(folder)
    for field in codebook(folder):
        if field.condition is not None:
            closed = [row for row in run.rows if row[field.condition.column] != field.condition.value]
            assert closed
            assert {row[field.column] for row in closed} == {""}


@every_folder
def test_spans_are_quotes_at_code_points_and_may_lack_a_label(folder: Path) -> None:
    run = read(folder)
    unlabelled = 0
    for field in codebook(folder):
        if field.type == "span":
            for row in run.rows:
                for span in json.loads(row[field.column]):
                    assert row["text"][span["start"] : span["end"]] == span["text"]
                    unlabelled += "label" not in span
    assert unlabelled == (folder.parts[-3] == "1.3.0" and folder.name.endswith("18-41-35"))


@every_folder
def test_a_type_that_was_switched_off_has_no_column(folder: Path) -> None:
    run = read(folder)
    for field in codebook(folder):
        asked = run.config["process_textbox"] or field.type != "textbox"
        assert (field.column in run.columns) == (field.column in run.rows[0]) == asked
        assert (f"{field.column} ({field.type}) was not asked in this run." in run.notes) == (not asked)


@every_folder
def test_what_each_version_writes_into_its_config(folder: Path) -> None:
    run, written = read(folder), json.loads((folder / "config.json").read_text())
    old = folder.parts[-3] == "1.3.0"
    lacking = {"run_id", "chat_mode", "reasoning", "retry_temperature"}
    assert lacking & set(written) == (set() if old else lacking)
    assert set(run.config) == set(SETTINGS)
    assert all(run.config[name] is None for name in SETTINGS if name not in written)
    if old:
        assert ("temperature" in written, "top_p" in written) == ("temp0.2" in folder.name, False)
    else:
        assert run.config["chat_mode"] in {"per_text", "per_query"}


@every_folder
def test_the_run_id_is_that_of_the_tables(folder: Path) -> None:
    run = read(folder)
    row = settings_row(folder, run.run_id)
    assert row["experiment_directory"].endswith(f"/{folder.name}")
    assert len(run.run_id) == 12 if folder.parts[-3] == "1.3.0" else run.run_id == folder.name
    assert row["label"] == folder.parent.name == run.config["task_name"]
    assert row["model_id"].startswith(f"{run.config['model']}_")
    assert {row["process_textbox"], row["process_span"]} <= {"true", "false"}
    assert row["use_examples"] == str(run.config["use_examples"])


@every_folder
def test_timing_characters_and_energy_are_those_of_the_runs_table(folder: Path) -> None:
    run = read(folder)
    row = settings_row(folder, run.run_id)
    assert run.emissions is not None
    assert {
        "n_queries": str(run.timing["inference_count"]),
        "total_inference_time_s": str(run.timing["total_inference_time"]),
        "total_input_chars": str(run.chars["input_chars"]),
        "total_output_chars": str(run.chars["output_chars"]),
        "total_energy_kwh": run.emissions["energy_consumed"],
        "total_emissions_kg": run.emissions["emissions"],
        "cpu_model": run.emissions["cpu_model"],
    }.items() <= row.items()
    assert run.emissions["run_id"] != run.run_id


@every_folder
def test_their_accuracy_follows_from_the_answers_and_the_human_labels(folder: Path) -> None:
    """The share of rows with the same cell, a blank being a label of its own: rows and columns are read right."""
    run = read(folder)
    values = lab_metrics(metrics_csv(folder), run.run_id)
    for field in codebook(folder):
        if field.type == "dropdown":
            pairs = zip(run.answers(field.column), (row[field.column] for row in human(folder)), strict=True)
            same = sum(ours == theirs for ours, theirs in pairs)
            assert values[field.column, "accuracy"] == pytest.approx(same / len(run.rows), abs=1e-15)


# Reading


@every_folder
def test_metrics_are_read_with_their_names_or_those_of_today(folder: Path) -> None:
    run = read(folder)
    theirs, today = (lab_metrics(metrics_csv(folder), run.run_id, canonical=c) for c in (False, True))
    assert list(theirs.values()) == list(today.values())
    names = {"precision": "precision_macro", "recall": "recall_macro", "f1": "f1_macro"}
    assert list(today) == [(column, names.get(name, name)) for column, name in theirs]
    blank = {column for (column, _), value in theirs.items() if value is None}
    assert blank <= {"Policy area_Reason", "Position_Social scale"}


def write_folder(place: Path, **files: Any) -> tuple[Path, Path]:
    """Make ``out/t/<run>`` and a task with a dropdown and a textbox; return both folders."""
    folder, task = place / "out" / "t" / "m_2026-01-01", place / "task"
    folder.mkdir(parents=True)
    task.mkdir()
    annotations = {
        "annotation_1": {
            "name": "Area",
            "type": "dropdown",
            "options": ["x", "y"],
            "tooltip": "",
            "example": "",
        },
        "annotation_2": {"name": "Why", "type": "textbox", "tooltip": "", "example": ""},
    }
    section = {"section_name": "S", "section_instruction": "", "annotations": annotations}
    (task / "codebook.json").write_text(json.dumps({"text_column": "text", "section_1": section}))
    defaults = {
        "output.csv": "id,text,S_Area,S_Why\n1,a,x,None\n2,b,,so\n",
        "config.json": '{"task_name": "t"}',
    }
    for name, text in {**defaults, **files}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder, task


def test_a_bare_folder_is_read_and_says_what_it_lacks(tmp_path: Path) -> None:
    run = read_lab_folder(*write_folder(tmp_path))
    assert run.run_id == "m_2026-01-01"
    assert run.columns == ("S_Area", "S_Why")
    assert run.rows[0] == {"id": "1", "text": "a", "S_Area": "x", "S_Why": "None"}
    assert run.answers("S_Area") == ["x", ""]
    assert run.answers("S_Why") == ["", "so"]
    assert (run.timing, run.chars, run.emissions) == ({}, {}, None)
    assert run.config == dict.fromkeys(SETTINGS) | {"task_name": "t"}
    assert run.notes == (
        "No run id is recorded; the folder's name 'm_2026-01-01' is used.",
        "S_Why: 1 of 2 cells read 'None', which that package writes for a failed call; taken as no answer.",
    )


def test_the_last_of_several_emission_rows_counts(tmp_path: Path) -> None:
    run = read_lab_folder(
        *write_folder(tmp_path, **{"emissions.csv": "emissions,cpu_model\n1e-06,A\n2e-06,B\n"})
    )
    assert run.emissions == {"emissions": "2e-06", "cpu_model": "B"}
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "task")
    assert read_lab_folder(*write_folder(tmp_path, **{"emissions.csv": "emissions\n"})).emissions is None


def test_a_run_id_is_found_where_the_folder_was_made_elsewhere(tmp_path: Path) -> None:
    folder, task = write_folder(tmp_path)
    metrics = tmp_path / "out" / "metrics"
    metrics.mkdir()
    (metrics / "t_metrics_log_runs.csv").write_text(
        "run_id,experiment_directory\n0123456789ab,D:\\runs\\t\\other\nba9876543210,D:\\runs\\t\\m_2026-01-01\n"
    )
    assert read_lab_folder(folder, task).run_id == "ba9876543210"


@pytest.mark.parametrize("missing", ["config.json", "output.csv"])
def test_a_folder_that_is_no_run(tmp_path: Path, missing: str) -> None:
    folder, task = write_folder(tmp_path, **{missing: None})
    with pytest.raises(RunError) as error:
        read_lab_folder(folder, task)
    assert str(error.value) == (
        f"{folder} is not a run folder: it has no {missing}.\n  Give the folder of one run, not the task's."
    )


def test_the_folder_of_another_task(tmp_path: Path) -> None:
    folder, task = write_folder(tmp_path, **{"output.csv": "id,text,Other\n1,a,x\n"})
    with pytest.raises(
        RunError, match=r"has no column of the codebook in .*\. Its columns are id, text, Other\."
    ):
        read_lab_folder(folder, task)


def test_metrics_of_a_run_that_is_not_there(tmp_path: Path) -> None:
    table = tmp_path / "t_metrics_log.csv"
    table.write_text("run_id,column,annotation_type,metric,value\nabc,S_Area,dropdown,f1,0.5\n")
    assert lab_metrics(table, "abc") == {("S_Area", "f1"): 0.5}
    with pytest.raises(TableError, match=r"has no row of run 'abd'\.\n  It has runs abc\."):
        lab_metrics(table, "abd")
    with pytest.raises(TableError, match=r"A long table is a file <task>_metrics_log\.csv\. Got 'x\.csv'\."):
        lab_metrics(tmp_path / "x.csv", "abc")
