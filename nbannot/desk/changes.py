"""What changed under labels that were given before: the codebook, the texts, the file. Told, with what it touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbannot.desk.labels import Key, Ledger, question_hash, still_fits, text_hash
from nbannot.errors import listed
from nbannot.report.words import plural
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.study.task import Task


def described(task: Task) -> dict[str, Any]:
    """Return what the first line of a session says of the questions: column -> hash and labels."""
    return {f.column: {"hash": question_hash(f), "labels": list(map(str, f.labels))} for f in task.codebook}


def stale_labels(task: Task, ledger: Ledger, texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return column -> ids of the texts whose label was given to other words of the question, or to another text."""
    stale: dict[str, list[str]] = {}
    hashes = {f.column: question_hash(f) for f in task.codebook}
    for key, coded in ledger.coded.items():
        if key.repeat > 1 or key.text_id not in texts:
            continue
        edited = bool(coded.of_text) and coded.of_text != text_hash(texts[key.text_id])
        for column in coded.values:
            asked_as = coded.asked_as.get(column)
            if column in hashes and (edited or (asked_as and asked_as != hashes[column])):
                stale.setdefault(column, []).append(key.text_id)
    return stale


def open_again(task: Task, ledger: Ledger, texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return column -> ids of the texts whose label the question or the text cannot have any more.

    These labels are taken out of the state; the log keeps them.
    """
    reopened: dict[str, list[str]] = {}
    for key, coded in ledger.coded.items():
        text = texts.get(key.text_id)
        for f in task.codebook:
            if text is None or f.column not in coded.values:
                continue
            if not still_fits(f, text, coded.values[f.column]):
                del coded.values[f.column]
                coded.asked_as.pop(f.column, None)
                reopened.setdefault(f.column, []).append(key.text_id)
    return reopened


def told(
    task: Task,
    ledger: Ledger,
    given: Sequence[Key],
    stale: Mapping[str, list[str]],
    lost: Mapping[str, list[str]],
) -> list[str]:
    """Return what a coder should know before going on, one sentence each."""
    texts = dict(zip(task.ids, task.texts, strict=True))
    before = (ledger.opened or {}).get("questions")
    lines = _questions(task, before, ledger, stale, lost) if before else []
    edited = [
        key.text_id
        for key, coded in ledger.coded.items()
        if key.repeat == 1 and coded.values and key.text_id in texts
        and coded.of_text not in ("", text_hash(texts[key.text_id]))
    ]  # fmt: skip
    if edited:
        lines.append(
            f"{plural(len(edited), 'text')} changed after being coded: {listed(edited)}. Look at the labels again."
        )
    known = {key.text_id for key in given}
    gone = sorted(
        {key.text_id for key, coded in ledger.coded.items() if coded.values and key.text_id not in known}
    )
    if gone:
        lines.append(
            f"{plural(len(gone), 'coded text')} {'is' if len(gone) == 1 else 'are'} not among the texts given here: "
            f"{listed(gone)}. The labels stay in the files."
        )
    number = (ledger.opened or {}).get("texts")
    if number is not None and number < len(given):
        lines.append(f"{plural(len(given) - number, 'text')} came since the last session.")
    return lines


def _questions(
    task: Task,
    before: Mapping[str, Any],
    ledger: Ledger,
    stale: Mapping[str, list[str]],
    lost: Mapping[str, list[str]],
) -> list[str]:
    """Return one sentence per question that is new, gone or another one than in the last session."""
    lines = []
    codebook = {f.column: f for f in task.codebook}
    for f in task.codebook:
        was = before.get(f.column)
        if was is None:
            lines.append(f"The codebook has a new question, '{f.name}': every text is open there.")
        elif was["hash"] != question_hash(f):
            lines.append(_other(f, was, len(stale.get(f.column, ())), lost.get(f.column, [])))
    for column in before:
        if column not in codebook:
            n = sum(column in coded.values for coded in ledger.coded.values())
            lines.append(
                f"The codebook has no '{column}' any more; {plural(n, 'label')} of it stay in the log."
            )
    return lines


def _other(f: Field, was: Mapping[str, Any], n_stale: int, lost: Sequence[str]) -> str:
    labels = list(map(str, f.labels))
    away = [label for label in was["labels"] if label not in labels]
    new = [label for label in labels if label not in was["labels"]]
    what = "; ".join(
        part for part in (f"without {listed(map(repr, away))}" if away else "",
                          f"with {listed(map(repr, new))}" if new else "") if part
    ) or "its words or its condition"  # fmt: skip
    sentence = (
        f"The question '{f.name}' changed ({what}); {plural(n_stale, 'label')} were given to the old one."
    )
    if lost:
        sentence += (
            f" {plural(len(lost), 'text')} {'is' if len(lost) == 1 else 'are'} open again: {listed(lost)}."
        )
    return sentence
