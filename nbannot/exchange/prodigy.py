"""Prodigy: JSON lines as ``db-out`` gives them, with spans, choices and sessions.

Offsets are code points, as spaCy counts them. Only accepted answers count as coded; rejected and ignored ones do not,
but for a yes or no to one label.
Source: prodi.gy/docs/api-interfaces, prodi.gy/docs/named-entity-recognition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbannot.exchange.files import Folder, Written, one_line
from nbannot.exchange.said import YES_NO, GivenText, Project, Said, flat_statements, words_of

FILE = "prodigy.jsonl"
MARKS = ("answer", "_task_hash", "_input_hash", "_session_id", "accept")


def fits(folder: Folder) -> bool:
    """Return whether the files are lines of Prodigy."""
    first = (item for path in folder.ending(".jsonl", ".json") for item in folder.items(path)[:1])
    return any(
        isinstance(i, dict) and isinstance(i.get("text"), str) and any(k in i for k in MARKS) for i in first
    )


def read(folder: Folder) -> Project:
    """Return the project; every session is a coder."""
    project = Project([], told=True)
    by_key: dict[Any, GivenText] = {}
    for path in folder.ending(".jsonl", ".json"):
        for item in folder.items(path):
            meta = item.get("meta") or {}
            own = meta.get("nbannot_id") or meta.get("id") or item.get("id")
            key = str(own) if own is not None else item.get("_input_hash") or item["text"]
            if key not in by_key:
                kept = {k: one_line(v) for k, v in meta.items() if k not in ("nbannot_id", "id")}
                by_key[key] = GivenText(str(own or len(by_key) + 1), item["text"], kept)
            given, coder = by_key[key], str(item.get("_session_id") or item.get("_annotator_id") or "")
            coder = folder.annotators.get(coder, coder)
            said = _said(item, folder)
            if said is not None:
                given.people.setdefault(coder, []).extend(said)
    project.texts = list(by_key.values())
    return project


def _said(item: Mapping[str, Any], folder: Folder) -> list[Said] | None:
    answer = item.get("answer", "accept")
    asks_one = isinstance(item.get("label"), str) and "spans" not in item
    if asks_one and answer in ("accept", "reject"):
        return [Said("choice", item["label"], YES_NO[answer == "reject"])]
    if answer != "accept":
        return None
    statements: list[Said] = []
    for span in item.get("spans") or []:
        quote = span.get("text")
        mark = {"start": span.get("start"), "end": span.get("end"), "text": quote, "label": span.get("label")}
        statements.append(Said("mark", "", mark))
    statements += [Said("choice", "", str(word)) for word in item.get("accept") or []]
    for column in folder.word_columns:
        if isinstance(item.get(column), str):
            statements.append(Said("words", column, item[column]))
    if isinstance(item.get("user_input"), str):
        statements.append(Said("words", "", item["user_input"]))
    return statements


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: one line per text and coder, and per text where nobody coded it."""
    words = words_of(written.codebook)
    options = [
        {"id": word, "text": word}
        for f in written.codebook
        if f.type not in ("span", "textbox")
        for word in words[f.column].values()
    ]
    lines = []
    for text in written.texts:
        own: list[tuple[str | None, dict[str, Any]]] = [*text.people.items(), *text.models.items()]
        for coder, values in own or [(None, {})]:
            marks = [
                s for f in written.codebook for s in flat_statements(f, words[f.column], values.get(f.column))
            ]
            line: dict[str, Any] = {"text": text.text, "meta": {**text.metadata, "nbannot_id": text.text_id}}
            if any(f.type == "span" for f in written.codebook):
                line["spans"] = [
                    {key: s.value[key] for key in ("start", "end", "text", "label")}
                    for s in marks
                    if s.kind == "mark"
                ]
            if options:
                line |= {"options": options, "accept": [s.value for s in marks if s.kind == "choice"]}
            line |= {s.key: s.value for s in marks if s.kind == "words"}
            if coder is not None:
                line |= {"answer": "accept", "_session_id": coder or None}
            else:
                line["answer"] = "ignore"
            lines.append(json.dumps(line, ensure_ascii=False))
    return {FILE: "\n".join(lines) + "\n"}
