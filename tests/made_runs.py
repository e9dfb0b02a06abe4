"""Runs made by hand, without a model: every label is known, so that what a display says can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from conftest import codebook_of

from nbannot.asking.answers import Answer
from nbannot.record.coding import Coding
from nbannot.record.run import Run
from nbannot.study.config import RunConfig
from nbannot.study.task import Task

STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti", "neutral"]}
DEGREE = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
QUOTE = {"name": "Quote", "type": "textbox"}
MARKS = {"name": "Marks", "type": "span", "label_options": ["actor", "claim"]}

HOSTILE = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(2)">',
    "שלום עולם, <b>bold</b>",
    "👩‍👩‍👧‍👦 emoji \x1b[31mred\x1b[0m",
    "Donaudampfschifffahrt" * 40,
)


def answer(column: str, value: Any, status: str = "ok", reason: str = "") -> Answer:
    """Return an answer; without a value and a status of its own it is invalid."""
    if value is None and status == "ok":
        status, reason = "invalid", "not an option: 'maybe'"
    return Answer(column, status, value, reason=reason)  # type: ignore[arg-type]


def made_task(
    texts: list[str], *annotations: dict[str, Any], name: str = "demo", **labels: list[Any]
) -> Task:
    """Return a task; `labels` are cells by the field's name, "" for not coded."""
    data = {"id": [f"t{i}" for i in range(len(texts))], "text": texts}
    data |= {f"S_{field}": [str(cell) for cell in cells] for field, cells in labels.items()}
    return Task(pl.DataFrame(data), codebook_of(*annotations), name)


def made_run(task: Task, answers: dict[str, list[Any]], folder: Path, **config: Any) -> Run:
    """Return a run with these values (or `Answer`s) by the field's name."""
    given = {
        f"S_{field}": [v if isinstance(v, Answer) else answer(f"S_{field}", v) for v in values]
        for field, values in answers.items()
    }
    settings = RunConfig(model="mock").to_dict()
    stored = {
        "run_id": "a1b2c3d4",
        "status": "complete",
        "last_call": "2026-01-02T03:04:05+00:00",
        "model_info": {"name": "", "backend": "mock", "is_local": True, "notes": ["A model for tests."]},
        "model_id": "mock_standard",
        "energy": "estimated by CodeCarbon",
        **settings,
        **config,
    }
    return Run(folder, stored, task, Coding(task, given, str(stored["run_id"])))


def stance_run(folder: Path, **config: Any) -> Run:
    """Return a run on 20 texts: 12 right, 6 wrong, 2 invalid. Human: 12 pro, 8 anti; "neutral" only by the model.

    pro: 9 right, 2 anti, 1 invalid; anti: 3 right, 3 pro, 1 neutral, 1 invalid.
    """
    people = ["pro"] * 12 + ["anti"] * 8
    model = ["pro"] * 9 + ["anti"] * 2 + [None] + ["anti"] * 3 + ["pro"] * 3 + ["neutral"] + [None]
    task = made_task([f"Text {i}." for i in range(20)], STANCE, Stance=people)
    return made_run(task, {"Stance": model}, folder, **config)


def hostile_run(folder: Path) -> Run:
    """Return a run whose names, labels, texts and answers are markup, controls, right-to-left and very long."""
    options = list(HOSTILE[:3])
    stance = {
        "name": HOSTILE[0],
        "type": "dropdown",
        "options": options,
        "tooltip": HOSTILE[1],
        "option_descriptions": {options[0]: HOSTILE[1]},
        "example": f'Text: \n"{HOSTILE[1]}"\n\nResponse: \n{{"response": "x"}}',
    }
    quote = {**QUOTE, "name": HOSTILE[1]}
    marks = {**MARKS, "name": HOSTILE[2], "label_options": options}
    n = len(HOSTILE)
    codebook = codebook_of(stance, quote, marks)
    first, second, third = (f.column for f in codebook)
    data = {
        "id": [f"{text[:9]}{i}" for i, text in enumerate(HOSTILE)],
        "text": list(HOSTILE),
        first: [options[i % 3] for i in range(n)],
        second: list(HOSTILE),
        third: ["[]"] * n,
    }
    task = Task(pl.DataFrame(data), codebook, "demo")
    places = ((0, 7, options[0]), (2, 12, options[1]))
    spans = [
        [{"start": a, "end": b, "text": t[a:b], "label": label} for a, b, label in places] for t in HOSTILE
    ]
    given = {
        first: [
            answer(first, None, "invalid", HOSTILE[1]),
            *(answer(first, options[(i + 1) % 3]) for i in range(1, n)),
        ],
        second: [answer(second, t[::-1]) for t in HOSTILE],
        third: [answer(third, s) for s in spans],
    }
    run = made_run(task, {}, folder, stopped=HOSTILE[1])
    return Run(folder, {**run.config, "status": "partial"}, task, Coding(task, given, "a1b2c3d4"))
