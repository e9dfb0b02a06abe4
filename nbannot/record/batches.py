"""The batches of the runs in an output folder, as their ledgers have them: what is out, since when, and with whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.batch_lines import SentBatch, batches_in
from nbannot.asking.ledger_lines import read_notes
from nbannot.errors import RunError
from nbannot.record import folder
from nbannot.record.run import COMPLETE
from nbannot.tools.files import read_json
from nbannot.tools.frames import WHEN_EMPTY, make_frame
from nbannot.tools.given import path_or

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

IN_PART = "in part"
WAY_ON = (
    f'"{IN_PART}": the provider counts more results than it sends. To collect the rest: the same run again; if its own '
    'page has no more of them either, retry = "failed" with delivery = "now" asks them again'
)

COLUMNS = ("run_id", "task", "model_id", "batch", "requests", "state", "answered", "submitted", "ended", "where",
           "folder")  # fmt: skip


def batch_rows(
    output_root: str | Path, task: str | None = None, *, ended: bool = False
) -> list[dict[str, Any]]:
    """Return one row per batch that is out, oldest run first; see `batches`."""
    rows = []
    for place in folder.run_folders(path_or(RunError, output_root), task):
        known = batches_in(read_notes(place / folder.LEDGER, "batch")).values()
        if not known:
            continue
        config = read_json(place / folder.CONFIG)
        model_id, complete = config.get("model_id"), config.get("status") == COMPLETE
        for batch in known:
            if batch.state == "withdrawn" or not ((batch.is_out and not complete) or ended):
                continue
            state = _state_of(batch, complete)
            answered = batch.answered if batch.state == "ended" else batch.sent
            rows.append(
                {
                    "run_id": place.name,
                    "task": place.parent.name,
                    "model_id": model_id,
                    "batch": batch.provider_id or None,
                    "requests": len(batch.names),
                    "state": state,
                    "answered": answered if answered >= 0 else None,
                    "submitted": batch.submitted or batch.intended,
                    "ended": batch.ended or None,
                    "where": batch.where,
                    "folder": str(place),
                }
            )
    return rows


def _state_of(batch: SentBatch, complete: bool) -> str:
    """Return how a batch stands, in a word or two."""
    if not batch.is_out:
        return batch.outcome or "ended"
    if complete:  # its questions were asked otherwise
        return "not collected"
    if batch.state == "intended":
        return "perhaps out"
    return "out" if batch.sent < 0 else IN_PART


def batches(output_root: str | Path = "outputs", *, task: str | None = None, ended: bool = False) -> Frame:
    """Return the batches that are out, one row each; no provider is asked.

    The same run again, or ``nbannot run <folder>/config.json``, asks the provider and collects what has come.

    Parameters
    ----------
    output_root
        Folder of the runs.
    task
        Only runs of this task.
    ended
        Also batches whose results have been collected.

    Returns
    -------
    Frame
        Columns ``run_id, task, model_id, batch`` (the provider's name for it), ``requests, state`` (``out``; ``perhaps
        out`` where its submission was broken off; ``in part`` where the provider counts more results than it sends,
        `answered` of them; ``not collected`` where its run was completed without it; else how it ended), ``answered,
        submitted, ended`` (UTC), ``where, folder``. A batch of a complete run is not out.
    """
    frame = make_frame(batch_rows(output_root, task, ended=ended), COLUMNS)
    if frame.empty:
        frame.attrs[WHEN_EMPTY] = none_out(output_root, task, ended=ended)
    return frame


def none_out(output_root: str | Path, task: str | None, *, ended: bool) -> str:
    """Return the sentence that stands for a table of batches without a row."""
    what = "no batch was submitted" if ended else "no batch is out"
    return f"{what} in {output_root}{f' for the task {task!r}' if task else ''}"
