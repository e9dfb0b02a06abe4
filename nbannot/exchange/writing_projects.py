"""A task or a run written as a project of another coding tool, for a second look there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nbannot.errors import RunError, TaskError, listed
from nbannot.exchange.files import SIDECAR, Written, WrittenText
from nbannot.exchange.formats import FORMATS, module_of
from nbannot.study.spreadsheets import QUESTIONS, read_table
from nbannot.study.study_folder import OUTPUT_ROOT, coder_files
from nbannot.study.task import ID_COLUMNS, Task
from nbannot.tools.given import path_or


class Labelled(Protocol):
    """A run, or outputs of a model: a task and what was answered."""

    @property
    def task(self) -> Task: ...
    @property
    def run_id(self) -> str: ...
    @property
    def coding(self) -> Any: ...


def write_project(
    task_or_run: Task | Labelled | Sequence[Labelled],
    path: str | Path,
    format: str | None = None,  # noqa: A002 - the word people look for
    *,
    people: bool | None = None,
    coders: Mapping[str, Any] | None = None,
    output_root: str | Path = OUTPUT_ROOT,
) -> Path:
    """Write texts and labels as a project that another coding tool imports, and return its folder.

    Beside the tool's files lies ``nbannot.json`` with the codebook, the ids and what the tool has no place for (not
    the labels); with it `read_project` reads everything back.

    Parameters
    ----------
    task_or_run
        A task, with the labels of people; or a run or several runs of one task, with the labels of the models.
    path
        A folder; one that holds files is not touched.
    format
        ``"label_studio"``, ``"doccano"``, ``"prodigy"``, ``"brat"``, …
    people
        Whether people's labels are written too: by default of a task, and not of a run, whose second look is blind.
    coders
        Name -> CSV file or frame of a coder, beside the gold; by default everybody who coded the task, found as by
        `nbannot.agreement`: in its own folder and in ``<output_root>/<task>/``.

    Raises
    ------
    TaskError
        If there is no such format, or the runs are of different texts.
    ScoringError
        If one coder has a file in two places.
    RunError
        If the folder holds files or cannot be written.
    """
    if format is None:
        raise TaskError(
            f"which tool is to read the project?\n  Say format=..., one of {listed(FORMATS, 12)}."
        )
    module = module_of(format)
    runs: list[Labelled] = []
    if isinstance(task_or_run, Task):
        task = task_or_run
    else:
        runs = list(task_or_run) if isinstance(task_or_run, Sequence) else [task_or_run]
        if not runs:
            raise TaskError("there is no run to write: the list is empty.\n  Give one run or more.")
        task = runs[0].task
        if any(run.task.ids != task.ids or run.task.codebook != task.codebook for run in runs):
            raise TaskError(
                "the runs are on different texts or use different codebooks.\n  Write each to a folder of its own."
            )
    target = path_or(TaskError, path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} already exists.\n  Nothing was written: choose a new folder.")
    with_people = not runs if people is None else people
    labels = (
        _people(task, coder_files(task, output_root) if coders is None else coders) if with_people else {}
    )
    written = _written(task, labels, runs)
    files: dict[str, str | bytes] = module.write(written)
    files[SIDECAR] = json.dumps(_sidecar(task, written), ensure_ascii=False, indent=1) + "\n"
    try:
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            whole = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            (target / name).write_bytes(whole)
    except OSError as error:
        raise RunError(
            f"cannot write {target}: {error.strerror}.\n  Make room, or choose another folder."
        ) from None
    return target


def _people(task: Task, coders: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return coder -> text id -> column -> value; the gold under ""."""
    people = {}
    if task.has_human_labels:
        people[""] = _values(task)
    for name, labels in coders.items():
        people[name] = _values(_coder_task(task, name, labels))
    return people


def _coder_task(task: Task, name: str, labels: Any) -> Task:
    import polars as pl

    data = read_table(labels, besides=QUESTIONS) if isinstance(labels, str | Path) else labels
    columns = [str(c) for c in data.columns]
    key = next((c for c in (task.id_source, *ID_COLUMNS) if c in columns), None)
    if key is None:
        raise TaskError(
            f"the labels of coder '{name}' have no id column.\n  Call it one of {listed(ID_COLUMNS)}."
        )
    texts = dict(zip(task.ids, task.texts, strict=True))
    ids = [str(i) for i in data[key]]
    rows = [row for row, i in enumerate(ids) if i in texts]
    if not rows:
        raise TaskError(
            f"coder '{name}' shares no text with task '{task.name}': the ids differ.\n"
            f"  The task's ids begin {listed(task.ids, 3)}."
        )
    kept = {f.column: list(data[f.column]) for f in task.codebook if f.column in columns}
    table = {"sample_id": [ids[r] for r in rows], task.codebook.text_column: [texts[ids[r]] for r in rows]}
    table |= {
        column: ["" if cells[r] is None or cells[r] != cells[r] else str(cells[r]) for r in rows]
        for column, cells in kept.items()
    }
    return Task(pl.DataFrame(table), task.codebook, task.name, "sample_id", split_lock=task.split_lock)


def _values(task: Task) -> dict[str, dict[str, Any]]:
    by_column = {f.column: task.human(f.column) for f in task.codebook}
    return {
        text_id: {c: own[row] for c, own in by_column.items() if own[row] is not None}
        for row, text_id in enumerate(task.ids)
        if any(own[row] is not None for own in by_column.values())
    }


def _written(
    task: Task, people: Mapping[str, Mapping[str, dict[str, Any]]], runs: Sequence[Labelled]
) -> Written:
    columns = [c for c in task.other_columns if c not in (task.codebook.text_column, task.id_source)]
    texts = []
    for row, (text_id, text) in enumerate(zip(task.ids, task.texts, strict=True)):
        models = {
            run.run_id: {
                c: own[row].value for c, own in run.coding.answers.items() if own[row].value is not None
            }
            for run in runs
        }
        metadata = {c: str(task.data[c][row]) for c in columns}
        own = {coder: values[text_id] for coder, values in people.items() if text_id in values}
        texts.append(WrittenText(text_id, text, metadata, own, {m: v for m, v in models.items() if v}))
    return Written(task.name, task.codebook, texts)


def _sidecar(task: Task, written: Written) -> dict[str, Any]:
    """Return what the tool's files have no place for: the codebook, names, ids, and who looked and found nothing."""
    spans = [f.column for f in task.codebook if f.type in ("span", "multiselect")]
    return {
        "name": task.name,
        "id_column": task.id_source if task.id_source != "text" else None,
        "codebook": task.codebook.to_dict(),
        "annotators": written.annotators,
        "ids": written.ids,
        "models": [coder for coder, person in written.coders().items() if not person],
        "texts": {
            text.text_id: {
                "metadata": text.metadata,
                "empty": {
                    coder: [c for c in spans if values.get(c) == []]
                    for coder, values in (*text.people.items(), *text.models.items())
                },
            }
            for text in written.texts
        },
    }
