"""Joining by id: which text of a task each row of somebody else's table is about.

Ids travel through spreadsheets, file systems and operating systems. What these do to them (accents taken apart, white
space around them, a byte-order mark, ``7.0`` for ``7``) is undone where it leaves exactly one text; nothing else is.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbannot.asking.reply_parts import shortened
from nbannot.errors import ScoringError, TaskError, listed
from nbannot.study.reading import LARGEST_EXACT


def plain(text: str) -> str:
    """Return a text as it is compared: white space, a byte-order mark and the encoding of accents do not count.

    >>> plain(" Mu\\u0308ller.txt\\u00a0") == "M\\u00fcller.txt"
    True
    """
    return " ".join(unicodedata.normalize("NFC", text.replace("\ufeff", "")).split())


def id_text(value: Any) -> str:
    """Return an id as text, "" for none; a whole float is what pandas makes of an integer beside a blank.

    >>> id_text(7.0), id_text("007"), id_text(None), id_text(float("nan"))
    ('7', '007', '', '')
    """
    # pandas.NA first: it is neither equal to itself nor not.
    if value is None or str(value) == "<NA>" or value != value:
        return ""
    if not isinstance(value, float) or not value.is_integer():
        return str(value)
    if abs(value) >= LARGEST_EXACT:
        raise ScoringError(
            f"the ids were read as decimal numbers, which cannot hold so many digits: {value:.0f} may have been "
            'another id.\n  Read them as text: pandas.read_csv(..., dtype="string").'
        )
    return str(int(value))


def joined_ids(ids: Sequence[str], known: Iterable[str]) -> list[str | None]:
    """Return for each id the one of `known` that it means, ``None`` where none, or more than one, could be meant.

    >>> joined_ids(["a ", "7.0", "7", "b", ""], ["a", "7"])
    ['a', '7', '7', None, None]
    """
    exact = set(known)
    forms = Counter(plain(i) for i in exact)
    loose = {plain(i): i for i in exact if forms[plain(i)] == 1 and plain(i)}

    def find(text_id: str) -> str | None:
        if text_id in exact:
            return text_id
        form = plain(text_id)
        return loose.get(form) or (
            loose.get(form[:-2]) if form.endswith(".0") and form[:-2].isdigit() else None
        )

    return [find(text_id) for text_id in ids]


def joined_texts(
    texts: Sequence[str], task_texts: Sequence[str], task_ids: Sequence[str]
) -> list[str | None]:
    """Return the ids of texts that stand in a table without ids: the n-th of equal texts is the n-th of the task."""
    places: dict[str, list[str]] = {}
    for text, text_id in zip(task_texts, task_ids, strict=True):
        places.setdefault(plain(text), []).append(text_id)
    seen: Counter[str] = Counter()
    ids: list[str | None] = []
    for text in map(plain, texts):
        same = places.get(text, [])
        ids.append(same[seen[text]] if seen[text] < len(same) else None)
        seen[text] += 1
    return ids


def refuse_repeated(ids: Mapping[int, str], who: str, first_row: int) -> None:
    """Raise a TaskError that names whose table says something twice of one text, and in which rows.

    Parameters
    ----------
    ids : row of the table -> the id of the task's text that it is about.
    first_row : how the first row is counted where the table comes from.
    """
    rows: dict[str, list[int]] = {}
    for row, text_id in ids.items():
        rows.setdefault(text_id, []).append(row + first_row)
    twice = {text_id: where for text_id, where in rows.items() if len(where) > 1}
    if twice:
        shown = [f"{text_id!r} (rows {listed(where, 4)})" for text_id, where in twice.items()]
        raise TaskError(
            f"the ids of {who} must be unique. Got {len(twice)} repeated: {listed(shown, 3)}.\n"
            "  Labels are joined by id: keep one row per text, or name another id_column."
        )


def refuse_other_texts(texts: Mapping[str, str], own: Mapping[str, Any], who: str, text_column: str) -> None:
    """Raise a ScoringError where a table has another text than the task under an id (blank: none)."""
    differing = [
        i
        for i, text in own.items()
        if isinstance(text, str) and text.strip() and plain(text) != plain(texts[i])
    ]
    if differing:
        first = differing[0]
        raise ScoringError(
            f"{who} has another text than the task under {len(differing)} of {len(own)} ids: "
            f"{listed(map(repr, differing), 3)}.\n"
            f"  '{first}' is {shortened(own[first])!r} there, {shortened(texts[first])!r} in the task.\n"
            f"  Labels are joined by id: correct the ids, or leave out the column '{text_column}' if only its wording "
            "changed."
        )
