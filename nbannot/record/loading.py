"""A run from its folder: the task it was made from, what its ledger says, what its scores were weighted by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError, RunError, ScoringError
from nbannot.record import folder
from nbannot.record.corpus_run import load_corpus_run
from nbannot.record.run import FAILED, PARTIAL, Run, status_of
from nbannot.record.state import state_of_folder
from nbannot.study.codebook import Codebook
from nbannot.study.locked import OWN_LABELS
from nbannot.study.reading import read_csv
from nbannot.study.sampling_weights import KEPT_WEIGHTS, Weighting, number_of
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task
from nbannot.tools.given import path_or


def load_run(place: str | Path, *, task: Task | None = None) -> Run:
    """Return a run from its folder, ready to be scored, shown and compared; no model is needed.

    Parameters
    ----------
    place
        The run folder.
    task
        The task it was made from; found through the folder's ``config.json`` when left out.

    Raises
    ------
    RunError
        If the folder holds no run, or its data cannot be found.
    ScoringError
        If the data are not those it was made from.
    """
    path = path_or(RunError, place)
    config = folder.read_config(path, beside_a_task=task is not None)
    if isinstance(config.get("corpus"), dict):
        return load_corpus_run(path, config)
    if task is not None:
        own = {"task_name": task.name, "codebook": task.codebook.source, "codebook_hash": task.codebook.hash}
        config = {**own, "model_info": {}, **config}
    kept = config.get("scoring")
    labels_kept = task is None and isinstance(kept, dict) and bool(kept.get(OWN_LABELS[1:]))
    whole = task or (task_in_folder(path, config) if labels_kept else task_of_run(path, config))
    if labels_kept and isinstance(kept, dict):
        whole.__dict__[OWN_LABELS] = True
        whole._reading_notices.extend(
            line for line in kept.get("notices") or () if line not in whole._reading_notices
        )
    if task is None and isinstance(kept, dict) and kept.get("of_task"):
        object.__setattr__(
            whole, "cluster", kept["cluster"]
        )  # a setting of the task, which its files do not hold
    if isinstance(kept, dict) and kept.get("weights") and whole.weighting() is None:
        whole = with_kept_weights(whole, path, kept["weights"])
    # A task that is read from the run's folder holds the selected texts only; half of them is no half of the whole.
    whole_again = whole.path is None and task is None
    chosen = whole.selected({**config, "split": None} if whole_again else config)
    if config.get("split") == "test":
        chosen = chosen.as_opened_for(config["run_id"])
    if not _same_data(chosen, config):
        raise ScoringError(
            f"the texts of run {path.name} are not those of task '{chosen.name}'.\n"
            "  The data changed after the run; score it against the data it was made from."
        )
    state = state_of_folder(chosen, path, config)
    if state.calls:
        config = {**config, "status": status_of(state.coding)}
    if config.get("out") and config.get("status") == FAILED:
        config = {**config, "status": PARTIAL}  # nothing has come back so far
    return Run(path, config, chosen, state.coding, calls=state.calls, unfitting=state.unfitting)


def with_kept_weights(task: Task, path: Path, source: str) -> Task:
    """Return a task that does not know it with what its texts counted for when a run was last scored."""
    labels = folder.HUMAN_LABELS
    if source in task.data.columns:
        return task.scored_by(weights=source)
    if not (path / labels).exists() or KEPT_WEIGHTS not in (table := read_csv(path / labels)).columns:
        return task
    cells = zip(table["text_id"], table[KEPT_WEIGHTS], strict=True)
    return task.scored_by(weights=Weighting({i: number_of(cell) for i, cell in cells if cell}, source))


def _same_data(task: Task, config: Mapping[str, Any]) -> bool:
    sent = config.get("metadata_columns") or ()
    if "data_hash" not in config:  # made by hand: the texts in output.csv are compared instead
        return True
    return set(sent) <= set(task.data.columns) and task.data_hash(sent) == config["data_hash"]


def task_of_run(path: Path, config: Mapping[str, Any]) -> Task:
    """Return the task a run was made from: its own folder if it is still there and the same, else the run's copy."""
    source = config.get("ground_truth_path")
    if source and Path(source).exists():
        try:
            task = load_task(Path(source).parent)
            chosen = task.selected(config)
            if _same_data(chosen, config) and task.codebook.hash == config["codebook_hash"]:
                return task
        except NbannotError:
            pass
    return task_in_folder(path, config)


def task_in_folder(path: Path, config: Mapping[str, Any]) -> Task:
    """Return the task as the run folder itself holds it: texts from ``output.csv``, people's labels from its copy."""
    codebook = Codebook.from_dict(config["codebook"], where=str(path / folder.CONFIG))
    if not (path / folder.OUTPUT).exists():
        raise RunError(
            f"{path} has no {folder.OUTPUT}, in which its texts are.\n"
            f"  Give the data: load_run({path.name!r}, task=...), or run the same again, which writes it anew."
        )
    output = read_csv(path / folder.OUTPUT)
    data = output.drop([f.column for f in codebook if f.column in output.columns])
    if (path / folder.HUMAN_LABELS).exists():
        labels = read_csv(path / folder.HUMAN_LABELS).drop("text_id", KEPT_WEIGHTS, strict=False)
        data = data.hstack(labels)
    task = Task(data, codebook, config["task_name"], path=None, rows=tuple(range(data.height)))
    # The folder holds the selected texts only: selecting again must find them all.
    return dataclasses.replace(task, rows=tuple(range(len(task)))).sealed()
