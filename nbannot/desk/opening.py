"""Opening a desk: whose, on which texts, in which order, kept where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nbannot.desk.assignment import assigned
from nbannot.desk.classroom import ClassDesk
from nbannot.desk.desk import Desk
from nbannot.desk.given import coder_name, context_columns, drawn, ids_of, refuse_like
from nbannot.desk.labels import Key
from nbannot.errors import DeskError
from nbannot.running.design import as_task
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.study_folder import ASSIGNMENT, CODERS, LOG, OUTPUT_ROOT, study_folder
from nbannot.study.task import Task

Order = Literal["random", "file"]


def code(
    task: Task | str | Path | Any,
    coder: str,
    *,
    texts: Any = None,
    order: Order = "random",
    seed: int = 1,
    context: bool | Sequence[str] = False,
    feedback: bool = False,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
    output_root: str | Path = OUTPUT_ROOT,
    take_over: bool = False,
) -> Desk:
    """Open a coder's desk: in a notebook to be coded with the keyboard, elsewhere by `Desk.answer`.

    Every answer is on disk before the screen says so. The next call goes on at the first open text. The coder sees
    neither other people's labels nor a model's.

    Parameters
    ----------
    task
        A task, its name or folder, or a DataFrame with `codebook`.
    coder
        Who codes; the name of the files in ``coders/``.
    texts
        Only these texts: ids, or a frame with them (`nbannot.sample`). Left out: those that `nbannot.assign` gave to
        this coder, else all that are not blank.
    order
        ``"random"``: an order of this coder's own, drawn by `seed`, the same in every session; ``"file"``: that of the
        task, for texts that follow one another.
    context
        Columns of the data to show beside a text, or True for the codebook's header and metadata columns.
    feedback
        For a class: once a text is done, its gold label, the guidance and how many of the others agreed are shown, and
        the answer stays as it is.
    output_root
        Where the files lie for a task without a folder of its own.
    take_over
        Go on here although another session has this coder's desk; that one stops.

    Raises
    ------
    DeskError
        If the coder's desk is open elsewhere, the files cannot be written, or the coder was given no text.
    """
    task = as_task(task, RunConfig(), codebook)
    name = coder_name(coder)
    folder = study_folder(task, output_root)
    shown = context_columns(task, context)
    keys = items_of(task, name, texts, order, seed, folder)
    place = folder / CODERS
    refuse_like(place, name)
    kind = ClassDesk if feedback else Desk
    return kind(
        task, name, place / f"{name}.csv", place / f"{name}{LOG}", keys, context=shown, take_over=take_over
    )


def items_of(task: Task, coder: str, texts: Any, order: Order, seed: int, folder: Path) -> list[Key]:
    """Return the codings that a coder is to make, in the coder's own order."""
    if order not in ("random", "file"):
        raise DeskError(f"order must be 'random' or 'file'. Got {order!r}.")
    if texts is None:
        given = assigned(folder / CODERS / ASSIGNMENT, coder)
        known = set(task.ids)
        worded = [Key(i) for i, text in zip(task.ids, task.texts, strict=True) if text.strip()]
        keys = [key for key in given if key.text_id in known] if given else worded
        if given and not keys:
            raise DeskError(
                f"none of the texts that {ASSIGNMENT} gives to '{coder}' is in task '{task.name}'."
            )
        if given:
            return keys
    else:
        keys = [Key(i) for i in ids_of(task, texts)]
    return keys if order == "file" else sorted(keys, key=lambda key: drawn(seed, coder, key.text_id))
