"""doccano: JSON lines with spans as ``[start, end, label]``, and labels of whole texts; one file per coder.

Offsets are code points, as doccano counts them; the lines have no quotes to prove them by.
Source: doccano.github.io/doccano, "Export dataset".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbannot.exchange.files import Folder, Written, coder_of_file, file_names, one_line
from nbannot.exchange.said import GivenText, Project, Said, flat_statements, words_of

LABELS = ("label", "labels", "entities", "cats")
OWN = {"id", "text", "data", "Comments", "nbannot_id", "relations", *LABELS}


def fits(folder: Folder) -> bool:
    """Return whether the files are lines of doccano."""
    first = (item for path in folder.ending(".jsonl", ".json") for item in folder.items(path)[:1])
    return any(
        isinstance(i, dict) and isinstance(i.get("text", i.get("data")), str) and any(k in i for k in LABELS)
        and not {"answer", "_task_hash", "label_annotations"} & set(i)
        for i in first
    )  # fmt: skip


def read(folder: Folder) -> Project:
    """Return the project; several files are several coders, named after their files."""
    project = Project([])
    by_id: dict[str, GivenText] = {}
    paths = folder.ending(".jsonl", ".json")
    for path in paths:
        coder = coder_of_file(folder, path, len(paths))
        for number, item in enumerate(folder.items(path)):
            text = str(item.get("text", item.get("data", "")))
            text_id = str(item.get("nbannot_id") or item.get("id") or number + 1)
            kept = {k: one_line(v) for k, v in item.items() if k not in OWN}
            given = by_id.setdefault(text_id, GivenText(text_id, text, kept))
            given.people[coder] = _said(item, folder, project)
            if item.get("relations"):
                project.notices.append(f"relations of text {text_id} have no place in a codebook: left out.")
    project.texts = list(by_id.values())
    return project


def _said(item: Mapping[str, Any], folder: Folder, project: Project) -> list[Said]:
    statements: list[Said] = []
    for key in LABELS:
        for one in item.get(key) or []:
            if isinstance(one, list):
                statements.append(
                    Said("mark", "", {"start": one[0], "end": one[1], "text": None, "label": one[2]})
                )
            elif isinstance(one, dict):
                start, end = one.get("start_offset"), one.get("end_offset")
                mark = {"start": start, "end": end, "text": None, "label": one.get("label")}
                statements.append(Said("mark", "", mark))
            else:
                statements.append(Said("choice", "", str(one)))
    statements += _words(item, folder, project)
    return statements


def _words(item: Mapping[str, Any], folder: Folder, project: Project) -> list[Said]:
    """Return the comments on a text: of the textbox they name, else of the only one there is."""
    comments = [str(c) for c in item.get("Comments") or []]
    if not folder.word_columns:
        return [Said("words", "", "\n".join(comments))] if comments else []
    named = [(c, column) for c in comments for column in folder.word_columns if c.startswith(f"{column}: ")]
    statements = [Said("words", column, c.removeprefix(f"{column}: ")) for c, column in named]
    rest = [c for c in comments if c not in dict(named)]
    if rest and not statements and len(folder.word_columns) == 1:
        return [Said("words", folder.word_columns[0], "\n".join(rest))]
    project.notices += [
        f"text {item.get('nbannot_id') or item.get('id')}: the comment {c[:60]!r} names no textbox: left out."
        for c in rest
    ]
    return statements


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: a file of JSON lines per coder and model."""
    words = words_of(written.codebook)
    kinds = {f.type == "span" for f in written.codebook if f.type != "textbox"}
    files: dict[str, str] = {}
    for coder, name in file_names(written, ".jsonl").items():
        lines = []
        for number, text in enumerate(written.texts, start=1):
            values = {**text.people, **text.models}.get(coder)
            if values is None and (text.people or text.models):
                continue
            statements = [
                s
                for f in written.codebook
                for s in flat_statements(f, words[f.column], (values or {}).get(f.column))
            ]
            marks = [
                [s.value["start"], s.value["end"], s.value["label"]] for s in statements if s.kind == "mark"
            ]
            chosen = [s.value for s in statements if s.kind == "choice"]
            labels = {"entities": marks, "cats": chosen} if len(kinds) > 1 else {"label": marks or chosen}
            comments = [f"{s.key}: {s.value}" for s in statements if s.kind == "words"]
            line = {"id": number, "text": text.text, **labels, "Comments": comments, **text.metadata}
            lines.append(json.dumps({**line, "nbannot_id": text.text_id}, ensure_ascii=False))
        files[name] = "\n".join(lines) + "\n"
    return files
