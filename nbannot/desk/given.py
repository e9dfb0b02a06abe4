"""What a coder is given: texts in an order of the coder's own, columns beside them, a name that can name files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nbannot.errors import DeskError, listed, nearest
from nbannot.study.study_folder import ASSIGNMENT, LOG
from nbannot.study.task import Task


def drawn(seed: int, coder: str, text_id: str) -> bytes:
    """Return a text's place in a coder's order: it depends on nothing but these, so that added texts move no other."""
    return hashlib.sha256(f"nbannot-order:{seed}:{coder}:{text_id}".encode("utf-8", "surrogatepass")).digest()


def ids_of(task: Task, texts: Any) -> list[str]:
    """Return the ids of some texts of a task, in the task's order: ids, or a frame that has them.

    Raises
    ------
    DeskError
        If an id is unknown, or none is given.
    """
    if hasattr(texts, "columns"):
        names = [str(name) for name in texts.columns]
        column = next((name for name in ("text_id", task.id_source) if name in names), None)
        if column is None:
            raise DeskError(
                f"texts has no column 'text_id' or '{task.id_source}'. Its columns: {listed(names)}."
            )
        texts = list(texts[column])
    wanted = [texts] if isinstance(texts, str) else [str(i) for i in _iterated(texts)]
    known = set(task.ids)
    unknown = [i for i in dict.fromkeys(wanted) if i not in known]
    if unknown:
        raise DeskError(
            f"the task '{task.name}' has no text with the id {listed(map(repr, unknown))}.\n"
            f"  Its ids are in task.ids: {listed(task.ids, 3)}."
        )
    if not wanted:
        raise DeskError("texts names no text.\n  Leave it out for all texts.")
    chosen = set(wanted)
    return [i for i in task.ids if i in chosen]


def _iterated(texts: Any) -> Iterable[Any]:
    if isinstance(texts, Task):
        return texts.ids
    if not isinstance(texts, Iterable):
        raise DeskError(f"texts must be ids or a frame with them. Got {type(texts).__name__}.")
    return texts


def coder_name(coder: Any) -> str:
    """Return a coder's name as it names files.

    Raises
    ------
    DeskError
        If it cannot be the name of a file on every system, or would be taken for one of ours.
    """
    name = unicodedata.normalize("NFC", coder).strip() if isinstance(coder, str) else ""
    if (
        not name
        or re.search(r'[/\\:*?"<>|\x00-\x1f\ud800-\udfff]', name)
        or name[0] == "."
        or name[-1] == "."
    ):
        raise DeskError(
            f"a coder's name is used as a file name. Got {coder!r}.\n  Use letters, digits, blanks, - and _."
        )
    if len(name.encode()) > 100:
        raise DeskError(
            f"a coder's name is used as a file name: {len(name.encode())} bytes are too many for one."
        )
    if name.casefold() == Path(ASSIGNMENT).stem:
        raise DeskError(f"'{name}' is the name of the file that says who codes what.\n  Use another name.")
    return name


def refuse_like(folder: Path, name: str) -> None:
    """Raise a DeskError where a coder's name differs in upper and lower case only: on many disks one file."""
    try:
        present = [p.name.removesuffix(LOG) for p in folder.glob(f"*{LOG}")]
    except OSError:
        return
    like = [other for other in present if other != name and other.casefold() == name.casefold()]
    if like:
        raise DeskError(
            f"there is a coder '{like[0]}' already.\n  Write the name as before, or use another one."
        )


def context_columns(task: Task, context: bool | str | Sequence[str]) -> list[str]:
    """Return the columns that are shown beside a text; never one with labels."""
    if context is False or context is None:
        return []
    book = task.codebook
    if context is True:
        wanted = [name for name in (book.header_column, *book.metadata_columns) if name]
        return [name for name in wanted if name in task.other_columns]
    names = [context] if isinstance(context, str) else [str(name) for name in context]
    labels = [name for name in names if name in {f.column for f in book}]
    if labels:
        raise DeskError(f"{listed(map(repr, labels))} holds labels, which a coder must not see.")
    missing = [name for name in names if name not in task.other_columns]
    if missing:
        raise DeskError(
            f"the data has no column {listed(map(repr, missing))}{nearest(missing[0], task.other_columns) or '.'}\n"
            f"  Its columns: {listed(task.other_columns, 12)}."
        )
    return names
