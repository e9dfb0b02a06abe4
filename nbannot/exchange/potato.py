"""Potato: the items, and per user a ``user_state.json`` with labels and spans of schemas.

Source: potatoannotator.readthedocs.io, "Data formats" and "Export formats".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.files import Folder, Written, file_names, one_line
from nbannot.exchange.said import UNLABELLED, GivenText, Project, Said, keys_of, statements

STATE, ITEMS = "user_state.json", "data/items.jsonl"
LABELS, SPANS = "instance_id_to_label_to_value", "instance_id_to_span_to_value"


def fits(folder: Folder) -> bool:
    """Return whether there is the state of a user."""
    return any(PurePosixPath(name).name == STATE for name in folder.files)


def read(folder: Folder) -> Project:
    """Return the project; every user is a coder."""
    project = Project([])
    by_id: dict[str, GivenText] = {}
    for path in folder.ending(".json", ".jsonl"):
        if PurePosixPath(path).name == STATE:
            continue
        for item in folder.items(path):
            if isinstance(item, dict) and isinstance(item.get("text"), str) and "id" in item:
                kept = {k: one_line(v) for k, v in item.items() if k not in ("id", "text")}
                by_id.setdefault(str(item["id"]), GivenText(str(item["id"]), item["text"], kept))
    for path in folder.ending(STATE):
        for state in folder.items(path):
            user = str(state.get("user_id") or PurePosixPath(path).parent.name)
            coder = folder.annotators.get(user, user)
            for text_id in dict.fromkeys([*(state.get(LABELS) or {}), *(state.get(SPANS) or {})]):
                if text_id not in by_id:
                    raise TaskError(
                        f"'{user}' coded the item {text_id!r}, whose text is not in the project.\n"
                        "  Give the folder that holds both the data files and the annotation output."
                    )
                own = by_id[text_id].people.setdefault(coder, [])
                own += _labels((state.get(LABELS) or {}).get(text_id) or {})
                own += _spans((state.get(SPANS) or {}).get(text_id) or {})
    project.texts = list(by_id.values())
    return project


def _labels(schemas: Mapping[str, Any]) -> list[Said]:
    statements: list[Said] = []
    for schema, given in schemas.items():
        labels = given.get("labels", given) if isinstance(given, dict) else {str(given): True}
        for label, value in labels.items():
            if value is True or value == "true" or (isinstance(value, str) and value == label):
                statements.append(Said("choice", schema, label))
            elif label in ("text_box", "text") and isinstance(value, str):
                statements.append(Said("words", schema, value))
            elif value not in (False, None, "", "false"):
                statements.append(Said("choice", schema, str(value)))
    return statements


def _spans(schemas: Mapping[str, Any]) -> list[Said]:
    return [
        Said(
            "mark",
            schema,
            {
                "start": one.get("start"),
                "end": one.get("end"),
                "text": one.get("text"),
                "label": one.get("label") or one.get("name") or UNLABELLED,
            },
        )
        for schema, marks in schemas.items()
        for one in marks
    ]


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: the items, a state per user, and the schemas as a configuration in JSON."""
    codebook, keys = written.codebook, keys_of(written.codebook)
    items = [{**t.metadata, "id": t.text_id, "text": t.text} for t in written.texts]
    files = {ITEMS: "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)}
    for coder, user in file_names(written, "").items():
        labels: dict[str, Any] = {}
        spans: dict[str, Any] = {}
        for t in written.texts:
            values = {**t.people, **t.models}.get(coder)
            if values is None:
                continue
            labels[t.text_id] = {}
            spans[t.text_id] = {}
            for f in codebook:
                for s in statements(f, keys[f.column], values.get(f.column)):
                    if s.kind == "mark":
                        mark = {key: s.value[key] for key in ("start", "end", "label", "text")}
                        spans[t.text_id].setdefault(s.key, []).append(mark)
                    elif s.kind == "words":
                        labels[t.text_id][s.key] = {"labels": {"text_box": s.value}}
                    else:
                        labels[t.text_id].setdefault(s.key, {"labels": {}})["labels"][str(s.value)] = True
        state = {"user_id": user, LABELS: labels, SPANS: spans}
        files[f"annotation_output/{user}/{STATE}"] = json.dumps(state, ensure_ascii=False, indent=1) + "\n"
    files["config.yaml"] = json.dumps(_config(written, keys), ensure_ascii=False, indent=1) + "\n"
    return files


def _config(written: Written, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration; JSON is YAML too."""
    schemas = []
    for f in written.codebook:
        own: dict[str, Any] = {"name": keys[f.column], "description": f.tooltip or f.name}
        if f.type == "span":
            own |= {"annotation_type": "span", "labels": list(f.label_options or (UNLABELLED,))}
        elif f.type == "textbox":
            own |= {"annotation_type": "text"}
        else:
            labels = ["yes", "no"] if f.type == "checkbox" else [str(label) for label in f.labels]
            kind = "multiselect" if f.type == "multiselect" else "radio"
            own |= {"annotation_type": kind, "labels": labels}
        schemas.append(own)
    return {
        "annotation_task_name": written.name,
        "data_files": [ITEMS],
        "item_properties": {"id_key": "id", "text_key": "text"},
        "output_annotation_dir": "annotation_output/",
        "annotation_schemes": schemas,
    }
