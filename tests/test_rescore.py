"""Scoring again: our folders and those of the CodeBook Lab package, and the proof of every reason that is named."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import DATA, codebook_of, task_of
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbannot
from nbannot.comparing.rescoring.evidence import evidence, lab_coding
from nbannot.comparing.rescoring.rescore import NOT_REPRODUCED, NOT_THERE, Rescored, rescore
from nbannot.comparing.rescoring.rules import FAULTS, value_under
from nbannot.errors import RunError, ScoringError, TaskError
from nbannot.record.lab import lab_metrics, read_lab_folder
from nbannot.record.scoring import score
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

FAST = {"n_resamples": 200}
RUN_ID = "run_2026-01-02_03-04-05_8c6016e4"

# A small folder in the form of the CodeBook Lab package; values in its table by that package's rules.

GATE = {"name": "Gate", "type": "checkbox"}
AREA = {
    "name": "Area",
    "type": "dropdown",
    "options": ["x", "y", "z"],
    "condition": {"section_key": "section_1", "annotation_key": "annotation_1", "value": 1},
}
DEGREE = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
WHY = {"name": "Why", "type": "textbox"}
MARKS = {"name": "Marks", "type": "span", "label_options": ["actor", "claim"]}
FIELDS = {f["name"]: f for f in (GATE, AREA, DEGREE, WHY, MARKS)}

HUMAN = {
    "Gate": ["1", "1", "1", "0", "", "1"],
    "Area": ["x", "y", "x", "", "", "y"],
    "Degree": ["1", "2", "5", "1", "", "2"],
    "Why": ["Because of A", "b", "c", "d", "e", "f"],
    "Marks": ["[(0,3,actor)]", "[]", "[(0,3,claim)]", "[]", "", "[(0,3,actor)]"],
}
MODEL = {
    "Gate": ["1", "", "1", "0", "1", "0"],
    "Area": ["x", "", "y", "", "x", ""],
    "Degree": ["1.0", "5.0", "5.0", "2.0", "2.0", ""],
    "Why": ["because of a", "b", "None", "d", "x", "g"],
    "Marks": ["[(0,3,actor)]", "[]", "[(0,3,actor);(0,9,claim)]", "[]", "[]", "[(4,9,actor)]"],
}
TEXTS = [f"One three{i}" for i in range(6)]


def spans(cell: str, text: str) -> str:
    """Return ``[(0,3,actor);...]`` as the JSON of a span cell."""
    if not cell.startswith("["):
        return cell
    parts = [part.strip("()").split(",") for part in cell.strip("[]").split(";") if part]
    return json.dumps(
        [
            {
                "start": int(a),
                "end": int(b),
                "text": text[int(a) : int(b)],
                **({"label": label[0]} if label else {}),
            }
            for a, b, *label in parts
        ]
    )


def table(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def lab_folder(
    place: Path,
    *fields: str,
    old: dict[tuple[str, str], float | None],
    order: list[int] | None = None,
    ids: bool = True,
    human: dict[str, list[str]] | None = None,
    model: dict[str, list[str]] | None = None,
) -> Path:
    """Make ``tasks/demo``, ``out/demo/<run>`` and ``out/metrics`` with these fields; return the run's folder."""
    people, said = {**HUMAN, **(human or {})}, {**MODEL, **(model or {})}
    annotations = {
        f"annotation_{i}": {"tooltip": "", "example": "", **FIELDS[f]} for i, f in enumerate(fields, 1)
    }
    section = {"section_name": "S", "section_instruction": "", "annotations": annotations}

    def row(i: int, cells: dict[str, list[str]]) -> dict[str, str]:
        start = {"id": f"t{i}"} if ids else {}
        return {**start, "text": TEXTS[i], **{f"S_{f}": spans(cells[f][i], TEXTS[i]) for f in fields}}

    files = {
        "tasks/demo/codebook.json": json.dumps({"text_column": "text", "section_1": section}),
        "tasks/demo/ground-truth.csv": table([row(i, people) for i in range(6)]),
        f"out/demo/{RUN_ID}/output.csv": table([row(i, said) for i in (order or range(6))]),
        f"out/demo/{RUN_ID}/config.json": json.dumps(
            {"run_id": RUN_ID, "model": "m:latest", "task_name": "demo", "process_textbox": True}
        ),
        "out/metrics/demo_metrics_log.csv": table(
            [
                {
                    "run_id": RUN_ID,
                    "column": f"S_{field}",
                    "annotation_type": FIELDS[field]["type"],
                    "metric": metric,
                    "value": "" if value is None else value,
                }
                for (field, metric), value in old.items()
            ]
        ),
        "out/metrics/demo_metrics_log_runs.csv": table(
            [
                {
                    "run_id": RUN_ID,
                    "label": "demo",
                    "model_id": "m:latest_standard",
                    "temperature": 0.0,
                    "codebook_path": "tasks/demo/codebook.json",
                    "experiment_directory": f"out/demo/{RUN_ID}",
                    "n_queries": 30,
                }
            ]
        ),
    }
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    return place / "out" / "demo" / RUN_ID


def reasons(found: Any) -> dict[tuple[str, str], str]:
    return {(c.column.removeprefix("S_"), c.metric): c.reason for c in found.changes if c.reason != NOT_THERE}


def new(found: Any, field: str, metric: str) -> float:
    return next(c.new.value for c in found.changes if (c.column, c.metric) == (f"S_{field}", metric))


# Statuses


def test_a_blank_is_not_applicable_only_behind_a_gate_that_the_model_closed(tmp_path):
    folder = lab_folder(tmp_path, "Gate", "Area", "Degree", "Why", "Marks", old={("Gate", "accuracy"): 0.5})
    found = rescore(folder, **FAST)
    said = {column: [(a.status, a.reason) for a in given] for column, given in found.coding.answers.items()}
    blank, behind = "no answer in output.csv", "no valid answer to the field on which it depends"
    assert said["S_Gate"] == [("ok", ""), ("invalid", blank), *[("ok", "")] * 4]
    assert said["S_Area"] == [
        ("ok", ""), ("not_asked", behind), ("ok", ""), ("not_applicable", ""), ("ok", ""), ("not_applicable", "")
    ]  # fmt: skip
    assert said["S_Degree"][5] == ("invalid", blank)
    assert said["S_Why"][2] == ("invalid", blank)
    assert found.coding.values("S_Degree") == [1, 5, 5, 2, 2, None]
    assert found.notes[:2] == [
        "S_Why: 1 of 6 cells read 'None', which that package writes for a failed call; taken as no answer.",
        "S_Gate: of 6 texts 1 without a valid answer; the old tables do not say so.",
    ]
    # Area: people say that it applies to 0, 1, 2, 5 (and perhaps to 4): right, no gate, wrong, gate closed
    assert new(found, "Area", "accuracy") == 1 / 4
    assert new(found, "Gate", "accuracy") == 3 / 5
    assert new(found, "Gate", "coverage") == 4 / 5


def test_a_value_outside_the_codebook_is_invalid_and_counted(tmp_path):
    folder = lab_folder(
        tmp_path,
        "Degree",
        "Marks",
        old={("Degree", "accuracy"): 2 / 5, ("Degree", "mae"): None},
        model={"Degree": ["1", "9", "5", "2", "", "2.5"], "Marks": ["[(0,3,actor)]", "[(0,3)]", *["[]"] * 4]},
    )
    found = rescore(folder, **FAST)
    degree, marks = (found.coding.answers[c] for c in ("S_Degree", "S_Marks"))
    assert [a.status for a in degree] == ["ok", "invalid", "ok", "ok", "invalid", "invalid"]
    assert degree[1].reason == "not in the codebook: '9' must be an integer from 1 to 5"
    assert [a.status for a in marks] == ["ok", "invalid", *["ok"] * 4]
    assert new(found, "Degree", "invalid_rate") == 2 / 5
    assert found.scores.fields["S_Degree"].missing_by_reason == {"invalid: not in the codebook": 2}


# The reasons, one by one. Old values are computed here by hand or by the libraries that older programs call.


def test_a_blank_read_as_no(tmp_path):
    """With blanks as "no": people 1 1 1 0 0 1, model 1 0 1 0 1 0: 3 of 6 right, not 3 of 5."""
    from sklearn.metrics import cohen_kappa_score, f1_score

    h, m = [1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 0]
    old = {
        ("Gate", "accuracy"): 3 / 6,
        ("Gate", "f1"): f1_score(h, m, average="macro"),
        ("Gate", "cohen_kappa"): cohen_kappa_score(h, m),
    }
    found = rescore(lab_folder(tmp_path, "Gate", old=old), **FAST)
    unlabelled, blank = (
        "1 text without a human label in this field scored, a blank as 'no'",
        "1 blank answer read as 'no'",
    )
    assert reasons(found) == {
        ("Gate", "accuracy"): unlabelled,  # 1 of 6 texts more; a blank is wrong either way
        ("Gate", "f1_macro"): f"{unlabelled}; {blank}",
        ("Gate", "cohen_kappa"): f"{unlabelled}; {blank}",
    }
    row = found.frame().set_index("metric").loc["accuracy"]
    assert (row["old"], row["new"], row["difference"], row["n"], row["n_answered"]) == pytest.approx(
        (0.5, 0.6, 0.1, 5, 4)
    )


def test_a_blank_read_as_a_label_and_alpha_on_codes(tmp_path):
    import krippendorff
    from sklearn.metrics import f1_score, recall_score

    h, m = ["x", "y", "x", "", "", "y"], ["x", "", "y", "", "x", ""]
    codes = {"": 0, "x": 1, "y": 2}
    old = {
        ("Area", "f1"): f1_score(h, m, average="macro", zero_division=0),
        ("Area", "recall"): recall_score(h, m, average="macro", zero_division=0),
        ("Area", "krippendorff_alpha"): krippendorff.alpha(
            [[codes[v] for v in h], [codes[v] for v in m]], level_of_measurement="interval"
        ),
    }
    found = rescore(lab_folder(tmp_path, "Gate", "Area", old=old), **FAST)
    unlabelled = "2 texts without a human label in this field scored, a blank as a label of its own"
    blank = "3 blank answers read as a label of its own"
    codes_reason = "alpha at interval level on alphabetical label codes"
    said = reasons(found)
    assert said["Area", "f1_macro"] == f"{unlabelled}; {blank}"
    assert said["Area", "krippendorff_alpha"] == f"{unlabelled}; {blank}; {codes_reason}"
    assert found.frame(changed_only=True)["metric"].tolist() == [
        "recall_macro",
        "f1_macro",
        "krippendorff_alpha",
    ]


def test_a_collapsed_scale(tmp_path):
    """[V:likert.qwk_label_trap]: scikit-learn weighs positions among the labels that it sees."""
    from sklearn.metrics import cohen_kappa_score

    h, m = [1, 2, 5, 1], [1, 5, 5, 2]
    old = cohen_kappa_score(h, m, weights="quadratic")
    ours = cohen_kappa_score(h, m, weights="quadratic", labels=[1, 2, 3, 4, 5])
    found = rescore(lab_folder(tmp_path, "Degree", old={("Degree", "quadratic_kappa"): old}), **FAST)
    assert new(found, "Degree", "quadratic_kappa") == pytest.approx(ours)
    assert abs(ours - old) > 0.05
    assert reasons(found) == {
        ("Degree", "quadratic_kappa"): "quadratic weights on the labels seen, not on the full scale"
    }


def test_macro_over_labels_that_people_never_used(tmp_path):
    """x right 2 of 3 times, once z instead; y always right: F1 4/5, 1, 0. Mean of x and y 0.9, of all three 0.6."""
    folder = lab_folder(
        tmp_path,
        "Gate",
        "Area",
        old={("Area", "f1"): 1.8 / 3},
        human={"Gate": ["1"] * 6, "Area": ["x", "y", "x", "y", "x", "y"]},
        model={"Gate": ["1"] * 6, "Area": ["x", "y", "z", "y", "x", "y"]},
    )
    found = rescore(folder, **FAST)
    assert new(found, "Area", "f1_macro") == pytest.approx(0.9)
    assert reasons(found)["Area", "f1_macro"] == "macro over all labels seen, not those that people used"


def test_rows_joined_by_position(tmp_path):
    """The first two rows are swapped in output.csv: by position x-y, y-x, ... are compared."""
    kept = {"Gate": ["1"] * 6, "Area": ["x", "y", "x", "x", "y", "y"]}
    folder = lab_folder(
        tmp_path,
        "Gate",
        "Area",
        old={("Area", "accuracy"): 4 / 6},
        order=[1, 0, 2, 3, 4, 5],
        human=kept,
        model=kept,
    )
    found = rescore(folder, **FAST)
    assert new(found, "Area", "accuracy") == 1.0
    assert reasons(found)["Area", "accuracy"] == "rows joined by position, not by id"


def test_an_answer_outside_the_codebook_counted_as_right(tmp_path):
    """People never say "w", so that it cannot be right; but it is a label more in chance agreement."""
    from sklearn.metrics import cohen_kappa_score

    h, m = ["x", "y", "x", "y", "x", "y"], ["x", "y", "w", "y", "x", "x"]
    folder = lab_folder(
        tmp_path,
        "Gate",
        "Area",
        old={("Area", "cohen_kappa"): cohen_kappa_score(h, m), ("Area", "f1"): 0.5},
        human={"Gate": ["1"] * 6, "Area": h},
        model={"Gate": ["1"] * 6, "Area": m},
    )
    found = rescore(folder, **FAST)
    assert found.coding.answers["S_Area"][2].status == "invalid"
    # x: 2 TP 2, rows 3, columns 3; y: 2 TP 2, rows 3, columns 2; w: 0. Over three labels (2/3 + 4/5 + 0) / 3
    assert reasons(found)["Area", "f1_macro"] == NOT_REPRODUCED
    table_of_old = folder.parents[1] / "metrics" / "demo_metrics_log.csv"
    table_of_old.write_text(table_of_old.read_text().replace(",f1,0.5", f",f1,{(2 / 3 + 4 / 5) / 3!r}"))
    assert reasons(rescore(folder, **FAST))["Area", "f1_macro"] == (
        "1 answer outside the codebook counted; macro over all labels seen, not those that people used"
    )


def test_texts_in_lower_case_and_bleu_of_its_own(tmp_path):
    from Levenshtein import distance
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    answered = [(h.lower(), m) for h, m in zip(HUMAN["Why"], MODEL["Why"], strict=True) if m != "None"]
    levenshtein = sum(1 - distance(h, m) / max(len(h), len(m)) for h, m in answered) / 6
    smoothed = SmoothingFunction().method1
    bleu = sum(sentence_bleu([h.split()], m.split(), smoothing_function=smoothed) for h, m in answered) / 5
    old = {("Why", "norm_levenshtein"): levenshtein, ("Why", "bleu"): bleu, ("Why", "rouge1_f"): None}
    said = reasons(rescore(lab_folder(tmp_path, "Why", old=old), **FAST))
    assert said["Why", "norm_levenshtein"] == "texts put in lower case first"
    assert said["Why", "bleu"] == (
        "texts put in lower case first; 1 blank answer left out; "
        "BLEU from 0 to 1 on white-space tokens, smoothed by 0.1"
    )
    assert said["Why", "rouge1_f"].startswith(("the old table has no value", "extra not installed"))


def test_a_metric_that_is_blank_now_says_why_and_what_the_old_one_was(tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    pairs = [(h, m) for h, m in zip(HUMAN["Why"], MODEL["Why"], strict=True) if m != "None"]
    old = sum(scorer.score(h, m)["rouge1"].fmeasure for h, m in pairs) / 5
    folder = lab_folder(tmp_path, "Why", old={("Why", "rouge1_f"): old})
    assert reasons(rescore(folder, **FAST))["Why", "rouge1_f"] == "1 blank answer left out"
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    assert reasons(rescore(folder, **FAST))["Why", "rouge1_f"].startswith(
        "old: 1 blank answer left out. Now: extra not installed: rouge_score"
    )


def test_empty_span_rows_counted_as_agreement(tmp_path):
    """By text 1, 1 (both empty), 0, 1 (both empty), 1 (not coded, nothing found), 0: mean 4 / 6.

    Text 2: people claim 0-3; the model actor 0-3, then claim 0-9, of which 3-9 are left: nothing shared.
    """
    old = (1 + 1 + 0 + 1 + 1 + 0) / 6
    found = rescore(lab_folder(tmp_path, "Marks", old={("Marks", "char_iou"): old}), **FAST)
    # ours, pooled over the five coded texts: shared 3 + 3 of 3 + (3 + 9) + (3 + 5)
    assert new(found, "Marks", "char_iou") == pytest.approx(6 / 23)
    assert reasons(found)["Marks", "char_iou"] == (
        "1 text without a human label in this field scored, a blank as no spans; one label per character: where spans "
        "overlap, the first one counts; mean over texts, not pooled; 3 texts without a span on either side counted as "
        "full agreement"
    )


def test_what_follows_from_no_rule_is_not_explained(tmp_path):
    folder = lab_folder(
        tmp_path, "Degree", old={("Degree", "accuracy"): 0.123, ("Degree", "spearman_corr"): None}
    )
    found = rescore(folder, **FAST)
    assert reasons(found) == {
        ("Degree", "accuracy"): NOT_REPRODUCED,
        ("Degree", "spearman_corr"): "the old table has no value",
    }


# The words


def test_the_page(tmp_path):
    found = rescore(
        lab_folder(tmp_path, "Gate", old={("Gate", "accuracy"): 0.5, ("Gate", "f1"): 0.9}), **FAST
    )
    page = str(found).replace(str(tmp_path), "/data")
    assert [line.rstrip() for line in page.splitlines() if not set(line) & set("═─")] == [
        f"Scored again: demo (run {RUN_ID}, written by CodeBook Lab)",
        f"folder   /data/out/demo/{RUN_ID}",
        "answers  6 texts × 1 field: 5 valid · 1 invalid",
        "values   2 old values, 2 of them differ",
        "",
        "• S_Gate: of 6 texts 1 without a valid answer; the old tables do not say so.",
        "",
        "Gate",
        "metric      old    new  95% interval    why",
        "accuracy  0.500  0.600  [0.231, 0.882]  a",
        "macro F1  0.900  0.667  [0.332, 1.000]  b",
        "a: 1 text without a human label in this field scored, a blank as 'no'",
        "b: not reproduced: the old value follows from no older rule that is known here",
    ]
    assert repr(found) == f"<Rescored {RUN_ID} (CodeBook Lab): 2 of {len(found.changes)} values differ>"
    assert found.to_csv().count("\n") == len(found.changes) + 1
    assert r"not reproduced" in found.to_latex()
    assert found.to_markdown().count("\n") == 4


# Saving


def files_of(place: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def test_values_are_saved_only_where_the_user_says(tmp_path):
    folder = lab_folder(tmp_path, "Gate", "Area", old={("Gate", "accuracy"): 0.5})
    before = files_of(tmp_path)
    with pytest.raises(ScoringError, match=r"say where its values go, metrics_dir=\.\.\."):
        rescore(folder, save=True, **FAST)
    assert files_of(tmp_path) == before
    found = rescore(folder, save=True, metrics_dir=tmp_path / "mine", **FAST)
    assert {k: v for k, v in files_of(tmp_path).items() if "/mine/" not in k} == before
    tables = {
        kind: pl.read_csv(tmp_path / "mine" / f"demo_metrics_log{kind}.csv")
        for kind in ("", "_runs", "_classes")
    }
    assert set(tables[""]["run_id"]) == {RUN_ID}
    assert tables[""].filter(column="S_Gate", metric="accuracy")["value"].to_list() == [0.6]
    run = tables["_runs"].row(0, named=True)
    assert (run["model_id"], run["n_queries"], run["n_texts"], run["status"]) == (
        "m:latest_standard", 30, 6, "complete"
    )  # fmt: skip
    assert run["n_labels_valid"] == 5 + 3
    assert tables["_classes"].height == 5 * (2 + 3)
    found.save(tmp_path / "mine")
    assert pl.read_csv(tmp_path / "mine" / "demo_metrics_log.csv").height == tables[""].height


def test_the_old_tables_are_replaced_only_when_they_are_named(tmp_path):
    folder = lab_folder(tmp_path, "Gate", old={("Gate", "accuracy"): 0.5})
    old = folder.parents[1] / "metrics"
    rescore(folder, **FAST).save(old)
    assert lab_metrics(old / "demo_metrics_log.csv", RUN_ID)["S_Gate", "accuracy"] == 0.6
    again = rescore(folder, **FAST)
    assert again.frame(changed_only=True).empty
    assert str(again).endswith("Every value is the same as before.\n")


# Folders of ours


def test_a_folder_of_ours(tmp_path):
    task = task_of(12, S_Gate=["1", "0"] * 6, S_Degree=["1", "-2", "0"] * 4)
    run = nbannot.run(task, model="mock", output_root=str(tmp_path), fields=["Gate", "Degree"])
    found = rescore(run.folder)
    assert (found.writer, found.status, found.run_id) == ("nbannot", "complete", run.run_id)
    assert found.frame(changed_only=True).empty
    assert str(found).endswith("Every value is the same as before.\n")
    path = run.metrics_dir / f"{task.name}_metrics_log.csv"
    value = run.scores.fields["S_Gate"].results["accuracy"].value
    right = path.read_text()
    path.write_text(right.replace(f"S_Gate,checkbox,accuracy,{value!r}", "S_Gate,checkbox,accuracy,0.123"))
    changed = rescore(run.folder).frame(changed_only=True)
    assert changed[["metric", "old", "reason"]].values.tolist() == [["accuracy", 0.123, NOT_REPRODUCED]]
    assert changed["new"].tolist() == [value]
    rescore(run.folder, save=True)
    assert path.read_text() == right


def test_a_folder_of_ours_without_its_tables_and_with_another_place_for_them(tmp_path):
    task = task_of(6, S_Gate=["1", "0"] * 3)
    run = nbannot.run(task, model="mock", output_root=str(tmp_path), fields=["Gate"])
    for path in run.metrics_dir.iterdir():
        path.unlink()
    found = rescore(run.folder, save=True, metrics_dir=tmp_path / "mine", **FAST)
    assert found.notes == ["The tidy tables have no values of this run yet."]
    assert set(found.frame()["reason"]) == {NOT_THERE}
    assert sorted(p.name for p in (tmp_path / "mine").glob("*.csv")) == [
        "demo_metrics_log.csv", "demo_metrics_log_classes.csv", "demo_metrics_log_runs.csv"
    ]  # fmt: skip
    assert not list(run.metrics_dir.glob("*.csv"))


# What cannot be scored


def test_what_cannot_be_scored(tmp_path):
    folder = lab_folder(tmp_path, "Gate", old={("Gate", "accuracy"): 0.5})
    with pytest.raises(RunError, match=r"is not a run folder: it has no config\.json"):
        rescore(tmp_path)
    output = folder / "output.csv"
    right = output.read_text()
    for change, words in (
        (("t0,", "t9,"), "output.csv has unknown ids: t9"),
        (("t0,", "t1,"), "output.csv has an id that is there twice"),
        (("One three0", "Two"), "the texts in output.csv are not those of task 'demo'"),
        (("id,text", "nr,text"), "output.csv has no column 'id', by which task 'demo' knows its texts"),
    ):
        output.write_text(right.replace(*change, 1))
        with pytest.raises(ScoringError) as error:
            rescore(folder, **FAST)
        assert words in str(error.value)
    output.write_text(right)
    (tmp_path / "tasks").rename(tmp_path / "elsewhere")
    with pytest.raises(TaskError) as missing:
        rescore(folder)
    assert str(missing.value) == (
        f"the task 'demo' of {folder} is not found: no tasks/demo with a codebook.json in any folder above it.\n"
        '  Name it: rescore(folder, task="path/to/task").'
    )
    assert rescore(folder, tmp_path / "elsewhere" / "demo", **FAST).coding.count() == {"ok": 5, "invalid": 1}
    task = load_task(tmp_path / "elsewhere" / "demo")
    by_hand = Task(task.to_pandas(), task.codebook, "demo")
    assert rescore(folder, by_hand, **FAST).coding.count() == {"ok": 5, "invalid": 1}


def test_texts_without_an_id_column_and_a_run_on_some_of_them(tmp_path):
    folder = lab_folder(tmp_path, "Gate", old={("Gate", "accuracy"): 0.5}, ids=False, order=[4, 2, 0])
    found = rescore(folder, **FAST)
    assert found.coding.task.texts == [TEXTS[0], TEXTS[2], TEXTS[4]]
    assert found.coding.values("S_Gate") == [1, 1, 1]
    assert found.notes[-1] == "The run has 3 of the 6 texts of the task; only these count."


# The package's own output


def sample_folders() -> list[Path]:
    here = DATA / "codebook_lab_logs"
    return sorted(path.parent for path in here.glob("1.*/*/*/config.json"))


@pytest.mark.parametrize("folder", sample_folders(), ids=lambda p: f"{p.parts[-3]}/{p.name[-19:]}")
def test_every_difference_in_the_samples_is_proven(folder):
    found = rescore(folder, **FAST)
    changed = found.frame(changed_only=True)
    assert len(changed) > 0
    assert not changed["reason"].str.startswith(NOT_REPRODUCED).any()
    assert (changed["reason"] != "").all()
    whole = load_task(DATA / "codebook_lab_logs" / "tasks" / folder.parent.name)
    lab = read_lab_folder(folder, whole.codebook)
    old = lab_metrics(
        folder.parents[1] / "metrics" / f"{whole.name}_metrics_log.csv", lab.run_id, canonical=True
    )
    values = {(c.column, c.metric): c.old for c in found.changes}
    for key, value in old.items():
        if key[0] in lab.columns:
            assert values[key] == value or (math.isnan(values[key]) and value is None)


@pytest.mark.parametrize("folder", sample_folders(), ids=lambda p: f"{p.parts[-3]}/{p.name[-19:]}")
def test_the_rules_without_any_deviation_are_ours(folder):
    whole = load_task(DATA / "codebook_lab_logs" / "tasks" / folder.parent.name)
    lab = read_lab_folder(folder, whole.codebook)
    coding = lab_coding(lab, whole)
    scores = score(coding, **FAST)
    for f in coding.fields:
        cells = evidence(lab, whole, coding, f)
        for metric, result in scores.fields[f.column].results.items():
            if metric in FAULTS and not metric.startswith("rouge"):
                value = value_under(cells, metric, frozenset())
                assert value == pytest.approx(result.value, abs=1e-9, nan_ok=True), (f.column, metric)


@pytest.mark.parametrize("version", ["1.3.0", "1.4.0"])
def test_what_the_samples_come_to(version, tmp_path):
    logs = DATA / "codebook_lab_logs"
    folder = next(f for f in sample_folders() if version in f.parts and "restaurant_cebab" in f.parts)
    before = files_of(logs)
    found = rescore(folder, save=True, metrics_dir=tmp_path, **FAST)
    assert files_of(logs) == before
    stored = pl.read_csv(tmp_path / "restaurant_cebab_metrics_log_runs.csv", infer_schema=False).row(
        0, named=True
    )
    assert stored["run_id"] == found.run_id
    assert stored["model_id"].startswith("mock:latest_")
    assert stored["cpu_model"] == "AMD EPYC"


def test_report_in_a_notebook_takes_a_folder_of_codebook_lab(tmp_path):
    folder = lab_folder(tmp_path, "Gate", old={("Gate", "accuracy"): 0.5})
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    try:
        shell.run_line_magic("load_ext", "nbannot")
        found = shell.run_line_magic("report", str(folder))
    finally:
        InteractiveShell.clear_instance()
    assert isinstance(found, Rescored)
    assert str(found) == str(rescore(folder))


def test_a_value_without_a_line_in_the_ledger_counts_as_a_valid_answer(tmp_path):
    """People mend output.csv by hand, or publish it without the ledger: what stands there is what the run said."""
    task = task_of(3, codebook_of(GATE))
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    (run.folder / "responses.jsonl").unlink()
    lines = (run.folder / "output.csv").read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].rpartition(",")[0] + ","
    (run.folder / "output.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    again = nbannot.load_run(run.folder, task=task).coding.answers["S_Gate"]
    before = [answer.value for answer in run.coding.answers["S_Gate"]]
    assert [(a.status, a.value) for a in again] == [("ok", before[0]), ("not_asked", None), ("ok", before[2])]
