"""brat: a ``.txt`` and an ``.ann`` per text, a folder per coder, and ``annotation.conf``.

Offsets are code points of the ``.txt``; the quote has a blank for a line break. What is said of a whole text stands as
attributes of a mark ``Document`` over the text.
Source: brat.nlplab.org/standoff.html, brat.nlplab.org/configuration.html.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.files import Folder, Written, file_names
from nbannot.exchange.said import (
    YES_NO,
    GivenText,
    Project,
    Said,
    flat_statements,
    keys_of,
    mark_types,
    slugs,
    statements,
    words_of,
)
from nbannot.study.field import Field

CONF, DOCUMENT = "annotation.conf", "Document"


def fits(folder: Folder) -> bool:
    """Return whether there is an annotation file with its text."""
    return any(path[:-4] + ".txt" in folder.files for path in folder.ending(".ann"))


def read(folder: Folder) -> Project:
    """Return the project; a text that lies in several folders was coded by several people, named after them."""
    project = Project([])
    by_id: dict[str, GivenText] = {}
    stems = [PurePosixPath(path).stem for path in folder.ending(".txt")]
    several = len(stems) > len(set(stems))
    for path in folder.ending(".txt"):
        place = PurePosixPath(path)
        above = place.parent.as_posix().removeprefix(".")
        known = above in folder.annotators
        coder = folder.annotators[above] if known else above if several else ""
        stem = place.stem if several or known else place.with_suffix("").as_posix()
        text = folder.text(path)
        text_id = folder.ids.get(stem, stem)
        given = by_id.setdefault(text_id, GivenText(text_id, text))
        if given.text != text:
            raise TaskError(
                f"the text '{stem}' is not the same in the folders of all coders.\n  Use the same .txt file in each."
            )
        if (name := path[:-4] + ".ann") in folder.files:
            given.people[coder] = _said(folder.text(name), text, text_id, folder, project)
    project.texts = list(by_id.values())
    return project


def _said(ann: str, text: str, text_id: str, folder: Folder, project: Project) -> list[Said]:
    statements: list[Said] = []
    whole = None
    left_out = 0
    for line in ann.split("\n"):
        parts = line.rstrip("\r").split("\t")
        if line.startswith("T") and len(parts) >= 3:
            label, _, places = parts[1].partition(" ")
            if label == DOCUMENT and folder.ids:
                whole = parts[0]
                continue
            pieces = places.split(";")
            if len(pieces) > 1:
                project.notices.append(
                    f"text {text_id}: the {len(pieces)} parts of {parts[0]} are marks of their own."
                )
            for piece in pieces:
                start, end = (int(n) for n in piece.split())
                quote: str | None = parts[2] if len(pieces) == 1 else None
                if quote is not None and re.sub(r"[\r\n]", " ", text[start:end]) == quote:
                    quote = text[start:end]
                statements.append(
                    Said("mark", "", {"start": start, "end": end, "text": quote, "label": label})
                )
        elif line.startswith(("A", "M")) and len(parts) > 1 and whole and parts[1].split()[1:2] == [whole]:
            name, _, *value = parts[1].split()
            statements.append(Said("choice", name, value[0] if value else YES_NO[0]))
        elif line.startswith("#") and len(parts) > 2 and whole and parts[1].split()[1:2] == [whole]:
            name, _, words = parts[2].partition("=")
            statements.append(Said("words", name, json.loads(words)))
        elif line.strip():
            left_out += 1
    if left_out:
        what = (
            "relation, event, attribute or note"
            if left_out == 1
            else "relations, events, attributes and notes"
        )
        project.notices.append(
            f"text {text_id}: {left_out} {what} left out: a codebook has no place for them."
        )
    return statements


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: the configuration, and per coder a folder with the texts and the marks."""
    codebook, keys = written.codebook, keys_of(written.codebook)
    words = words_of(codebook)
    types = mark_types(codebook, words)
    values_of = {f.column: slugs(f.options) for f in codebook if f.type == "dropdown"}
    stems = slugs([text.text_id for text in written.texts])
    written.ids.update({stem: text_id for text_id, stem in stems.items()})
    conf = ["[entities]", *types.values(), DOCUMENT, "[relations]", "[events]", "[attributes]"]
    for f in codebook:
        if f.type in ("checkbox", "dropdown", "likert"):
            own: Any = YES_NO if f.type == "checkbox" else values_of.get(f.column, {}).values() or f.labels
            conf.append(f"{keys[f.column]}\tArg:{DOCUMENT}, Value:{'|'.join(map(str, own))}")
    files = {CONF: "\n".join(conf) + "\n"}
    for coder, folder in file_names(written, "").items():
        for text in written.texts:
            values = {**text.people, **text.models}.get(coder)
            base = f"{folder}/{stems[text.text_id]}"
            if values is None and (text.people or text.models):
                continue
            files[f"{base}.txt"] = text.text
            files[f"{base}.ann"] = ""
            if values is None:
                continue
            lines: list[str] = []
            for f in codebook:
                if f.type == "span":
                    for s in flat_statements(f, words[f.column], values.get(f.column)):
                        a, b = s.value["start"], s.value["end"]
                        quote = re.sub(r"[\r\n]", " ", text.text[a:b])
                        lines.append(f"T{len(lines) + 1}\t{types[s.value['label']]} {a} {b}\t{quote}")
            whole = len(lines) + 1
            marks = [
                s
                for f in codebook
                if f.type != "span"
                for s in _of_document(f, keys[f.column], values.get(f.column))
            ]
            if marks:
                first = re.sub(r"[\r\n]", " ", text.text)
                lines.append(f"T{whole}\t{DOCUMENT} 0 {len(text.text)}\t{first}")
            plain = {keys[column]: own for column, own in values_of.items()}
            for number, s in enumerate(marks, start=1):
                if s.kind == "words":
                    note = json.dumps(s.value, ensure_ascii=True)
                    lines.append(f"#{number}\tAnnotatorNotes T{whole}\t{s.key}={note}")
                else:
                    word = plain[s.key][s.value] if s.key in plain else s.value
                    lines.append(f"A{number}\t{s.key} T{whole} {word}")
            files[f"{base}.ann"] = "".join(line + "\n" for line in lines)
    return files


def _of_document(f: Field, key: str, value: Any) -> list[Said]:
    """Return a value as attributes or notes of a document; several options in one note, for want of another place."""
    if f.type != "multiselect":
        return statements(f, key, value)
    return [Said("words", key, f.to_cell(value))] if value else []
