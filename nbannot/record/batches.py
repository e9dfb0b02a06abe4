"""The batches of the runs in an output folder, as their ledgers have them: what is out, since when, and with whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.batch_lines import batches_in
from nbannot.asking.ledger_lines import read_notes
from nbannot.errors import RunError
from nbannot.record import folder
from nbannot.tools.files import read_json
from nbannot.tools.frames import make_frame
from nbannot.tools.given import path_or

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

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
        model_id = read_json(place / folder.CONFIG).get("model_id")
        for batch in known:
            if batch.state == "withdrawn" or not (batch.is_out or ended):
                continue
            state = {"intended": "perhaps out", "out": "out"}.get(batch.state, batch.outcome or "ended")
            rows.append(
                {
                    "run_id": place.name,
                    "task": place.parent.name,
                    "model_id": model_id,
                    "batch": batch.provider_id or None,
                    "requests": len(batch.names),
                    "state": state,
                    "answered": batch.answered if batch.state == "ended" else None,
                    "submitted": batch.submitted or batch.intended,
                    "ended": batch.ended or None,
                    "where": batch.where,
                    "folder": str(place),
                }
            )
    return rows


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
        out`` where its submission was broken off; else how it ended), ``answered, submitted, ended`` (UTC), ``where,
        folder``.
    """
    return make_frame(batch_rows(output_root, task, ended=ended), COLUMNS)
