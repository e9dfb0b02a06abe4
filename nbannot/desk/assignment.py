"""Who codes what: texts that all coders share, texts of their own, texts that a coder gets twice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.desk.given import coder_name, drawn, ids_of
from nbannot.desk.labels import Key
from nbannot.errors import DeskError, RunError, TaskError, listed
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.reading import read_csv
from nbannot.study.study_folder import ASSIGNMENT, CODERS, OUTPUT_ROOT, study_folder
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, write_atomic
from nbannot.tools.frames import make_frame
from nbannot.tools.given import listed_or

COLUMNS = ("text_id", "coder", "order", "repeat")


def assign(
    task: Task | str | Path | Any,
    coders: Sequence[str],
    *,
    texts: Any = None,
    overlap: int | None = None,
    repeat: int = 0,
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
    replace: bool = False,
) -> Any:
    """Say who codes which texts, in which order; written to ``coders/assignment.csv`` and returned as a frame.

    Parameters
    ----------
    coders
        Their names.
    texts
        Ids, or a frame with them (`nbannot.sample`); left out: all texts.
    overlap
        How many texts every coder gets, drawn at random; the others are dealt out evenly, each to one coder. Left out:
        everybody codes everything.
    repeat
        How many of a coder's texts the coder gets a second time, unmarked and late, for the agreement with oneself.
    seed
        Of the draw. The order is another one for every coder.
    replace
        Write over an assignment that is there.

    Returns
    -------
    A frame with ``text_id, coder, order, repeat``: `order` from 1, `repeat` 1 for the first time and 2 for the second.

    Raises
    ------
    DeskError
        If a name is given twice, a number does not fit, or an assignment is there already.
    """
    task = as_task(task, RunConfig())
    if isinstance(coders, str):
        raise DeskError(f'coders is a list of names. Got {coders!r}.\n  Write coders=["{coders}"].')
    names = [coder_name(coder) for coder in listed_or(DeskError, coders, "a list of coders' names")]
    _refuse_numbers(names, overlap, repeat)
    ids = list(task.ids) if texts is None else ids_of(task, texts)
    shuffled = sorted(ids)
    random.Random(f"nbannot-assign:{seed}").shuffle(shuffled)
    shared = shuffled if overlap is None else shuffled[:overlap]
    if overlap is not None and overlap > len(ids):
        raise DeskError(
            f"overlap is {overlap}, but there are only {len(ids)} texts.\n"
            "  Give fewer, or leave it out: then everybody gets every text."
        )
    rest = shuffled[len(shared) :]
    rows = []
    for place, name in enumerate(names):
        own = [*shared, *rest[place :: len(names)]]
        if repeat > len(own):
            raise DeskError(
                f"repeat is {repeat}, but '{name}' gets only {len(own)} texts.\n  Give {len(own)} or fewer."
            )
        own.sort(key=lambda text_id, name=name: drawn(seed, name, text_id))  # type: ignore[misc]
        keys = _with_repeats(own, repeat, random.Random(f"nbannot-repeat:{seed}:{name}"))
        rows += [
            {"text_id": key.text_id, "coder": name, "order": order, "repeat": key.repeat}
            for order, key in enumerate(keys, start=1)
        ]
    path = study_folder(task, output_root) / CODERS / ASSIGNMENT
    text = csv_text(COLUMNS, [[str(row[column]) for column in COLUMNS] for row in rows])
    _refuse_other(path, text, replace)
    try:
        write_atomic(path, text)
    except RunError as error:
        raise DeskError(str(error)) from None
    return make_frame(rows, COLUMNS)


def assigned(path: Path, coder: str) -> list[Key]:
    """Return the codings that an assignment gives to a coder, in their order; none if there is no assignment.

    Raises
    ------
    DeskError
        If it cannot be read, or gives this coder nothing.
    """
    if not path.exists():
        return []
    try:
        table = read_csv(path)
    except TaskError as error:
        raise DeskError(str(error)) from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DeskError(
            f"{path} has no column {listed(missing)}.\n  It is written by nba.assign(task, coders=[...])."
        )
    drawn: list[tuple[int, Key]] = []
    names: dict[str, None] = {}
    for number, row in enumerate(table.iter_rows(named=True), start=2):
        names[row["coder"]] = None
        if row["coder"] != coder:
            continue
        if not (row["order"].isdecimal() and row["repeat"].isdecimal()):
            raise DeskError(f"{path}, row {number}: order and repeat must be whole numbers.")
        drawn.append((int(row["order"]), Key(row["text_id"], int(row["repeat"]))))
    if not drawn:
        raise DeskError(
            f"{path.name} gives '{coder}' no text; it names {listed(names)}.\n"
            "  Assign the coder too, or say which texts: nba.code(task, coder=..., texts=task.ids)."
        )
    return [key for _, key in sorted(drawn)]


def _with_repeats(own: Sequence[str], repeat: int, draw: random.Random) -> list[Key]:
    """Return a coder's codings; second ones stand in the last part, each far behind the first one of its text."""
    if not repeat:
        return [Key(i) for i in own]
    early = list(own[: max(repeat, (len(own) + 1) // 2)])
    again = draw.sample(early, repeat)
    keys = [Key(i) for i in own]
    first_place = {key: place for place, key in enumerate(keys)}
    half = len(own) // 2
    for text_id in again:
        at = draw.randint(max(half, first_place[Key(text_id)] + 1), len(keys))
        while at < len(keys) and keys[at - 1].text_id == text_id:
            at += 1
        keys.insert(at, Key(text_id, 2))
        first_place = {key: place for place, key in enumerate(keys)}
    return keys


def _refuse_numbers(names: Sequence[str], overlap: int | None, repeat: int) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    numbers: Mapping[str, Any] = {"overlap": 0 if overlap is None else overlap, "repeat": repeat}
    if not names:
        raise DeskError('coders is empty.\n  Name them: coders=["anna", "ben"].')
    if twice:
        raise DeskError(f"coders names {listed(map(repr, twice))} more than once.")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DeskError(f"{name} must be a number of texts, 0 or more. Got {value!r}.")


def _refuse_other(path: Path, text: str, replace: bool) -> None:
    """Raise a DeskError where another assignment is there: what people were given must not change silently."""
    if replace or not path.exists() or path.read_bytes() == text.encode():
        return
    raise DeskError(
        f"there is another assignment in {path}.\n"
        "  Keep it, or overwrite it with replace=True. Labels already given are kept either way."
    )
