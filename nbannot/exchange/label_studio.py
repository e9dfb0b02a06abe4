"""Label Studio: the labelling configuration (XML) and the JSON export, with several annotators and predictions.

The browser counts UTF-16 units; every passage carries its quote, by which its place is proven.
Source: labelstud.io/guide/export, labelstud.io/guide/task_format, labelstud.io/tags.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.files import Folder, Written, one_line
from nbannot.exchange.said import UNLABELLED, YES_NO, Control, GivenText, Project, Said, keys_of, statements
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field

CONFIG, TASKS = "config.xml", "tasks.json"


def fits(folder: Folder) -> bool:
    """Return whether the files are an export of Label Studio."""
    return any(_is_task(item) for path in folder.ending(".json") for item in folder.items(path)[:1])


def _is_task(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("data"), dict)
        and (
            "annotations" in item
            or "predictions" in item
            or "completions" in item
            or set(item) <= {"data", "id"}
        )
    )


def read(folder: Folder) -> Project:
    """Return the project; a configuration beside the export declares its controls."""
    controls: dict[str, Control] = {}
    text_key = None
    for path in folder.ending(".xml"):
        controls, text_key = read_config(folder.text(path))
    project = Project([], controls, told=True)
    for path in folder.ending(".json"):
        for number, item in enumerate(folder.items(path)):
            if _is_task(item):
                project.texts.append(_text(item, number, text_key, folder, project))
    return project


def read_config(xml: str) -> tuple[dict[str, Control], str | None]:
    """Return the controls that a configuration declares, and the key of the data that holds the text.

    Raises
    ------
    TaskError
        If it is not XML.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise TaskError(
            f"the labelling configuration is not valid XML: {error}.\n"
            "  Copy it again from Settings, Labeling Interface, Code."
        ) from None
    controls: dict[str, Control] = {}
    text_key = None

    def walk(node: ET.Element, condition: tuple[str, str] | None) -> None:
        nonlocal text_key
        if (
            node.get("visibleWhen") == "choice-selected"
            and node.get("whenTagName")
            and node.get("whenChoiceValue")
        ):
            condition = (str(node.get("whenTagName")), str(node.get("whenChoiceValue")))
        name = node.get("name") or ""
        value = node.get("value") or ""
        if node.tag in ("Text", "HyperText") and value.startswith("$"):
            text_key = text_key or value[1:]
        labels = [str(c.get("alias") or c.get("value")) for c in node.iter() if c.tag in ("Label", "Choice")]
        if node.tag in ("Labels", "HyperTextLabels"):
            controls[name] = Control("mark", labels, condition=condition)
        elif node.tag == "Choices":
            several = node.get("choice") == "multiple"
            controls[name] = Control("choice", labels, several, condition=condition)
        elif node.tag == "Rating":
            controls[name] = Control(
                "number", scale=(1, int(node.get("maxRating") or 5)), condition=condition
            )
        elif node.tag == "Number":
            low, high = node.get("min"), node.get("max")
            scale = (int(float(low)), int(float(high))) if low and high else None
            controls[name] = Control("number", scale=scale, condition=condition)
        elif node.tag == "TextArea":
            controls[name] = Control("words", condition=condition)
        for child in node:
            walk(child, condition)

    walk(root, None)
    return controls, text_key


def _text(
    item: Mapping[str, Any], number: int, text_key: str | None, folder: Folder, project: Project
) -> GivenText:
    data = item["data"]
    key = text_key if text_key in data else next((k for k in ("text", "Text") if k in data), None)
    key = key or next((k for k, v in data.items() if isinstance(v, str) and not k.endswith("id")), None)
    if key is None:
        raise TaskError(
            f"task {item.get('id', number)} of the export has no text in its data.\n"
            "  Export the whole project, as JSON."
        )
    text_id = str(data.get("nbannot_id") or data.get("id") or item.get("id") or number + 1)
    kept = {k: one_line(v) for k, v in data.items() if k not in (key, "nbannot_id", "id")}
    given_text = GivenText(text_id, str(data[key]), kept)
    given = [*(item.get("annotations") or item.get("completions") or [])]
    for one in sorted(given, key=lambda a: str(a.get("updated_at") or a.get("created_at") or "")):
        if one.get("was_cancelled") or one.get("skipped"):
            continue
        coder = _coder(one, folder.annotators)
        said = _said(one.get("result") or [], text_id, project)
        if coder in given_text.people:
            project.notices.append(f"text {text_id}: '{coder}' has two annotations; the later one is taken.")
        given_text.people[coder] = said
        if one.get("ground_truth"):
            given_text.people[""] = said
    for one in item.get("predictions") or []:
        given_text.models[str(one.get("model_version") or "model")] = _said(
            one.get("result") or [], text_id, project
        )
    return given_text


def _coder(one: Mapping[str, Any], known: Mapping[str, str]) -> str:
    for number in (one.get("import_id"), one.get("id")):
        if str(number) in known:
            return known[str(number)]
    who = one.get("completed_by")
    if isinstance(who, dict):
        return str(who.get("email") or who.get("username") or f"annotator_{who.get('id')}")
    return f"annotator_{who}" if who is not None else ""


def _said(results: list[Mapping[str, Any]], text_id: str, project: Project) -> list[Said]:
    statements: list[Said] = []
    for one in results:
        value, key, kind = one.get("value") or {}, str(one.get("from_name") or ""), one.get("type")
        if kind in ("labels", "hypertextlabels"):
            place = value.get("globalOffsets") or value
            for label in value.get(kind) or [UNLABELLED]:
                mark = {"start": place.get("start"), "end": place.get("end"), "text": value.get("text")}
                statements.append(Said("mark", key, {**mark, "label": label}))
        elif kind == "choices":
            statements += [Said("choice", key, word) for word in value.get("choices", [])]
        elif kind in ("rating", "number"):
            number = float(value[kind])
            statements.append(Said("number", key, int(number) if number.is_integer() else number))
        elif kind == "textarea":
            words = value.get("text")
            statements.append(Said("words", key, "\n".join(words) if isinstance(words, list) else str(words)))
        else:
            note = f"Label Studio's '{kind}' results have no place in a codebook and are left out (text {text_id})."
            project.notices.append(note)
    return statements


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: the configuration and the tasks to import."""
    codebook, keys = written.codebook, keys_of(written.codebook)
    tasks: list[dict[str, Any]] = []
    number = 0
    for text in written.texts:
        annotations, predictions = [], []
        for coder, values in text.people.items():
            number += 1
            written.annotators[str(number)] = coder
            one = {"id": number, "ground_truth": coder == "", "was_cancelled": False}
            annotations.append({**one, "result": _results(codebook, keys, values, text.text)})
        for model, values in text.models.items():
            predictions.append(
                {"model_version": model, "result": _results(codebook, keys, values, text.text)}
            )
        data = {**text.metadata, "nbannot_id": text.text_id, "text": text.text}
        task = {"id": len(tasks) + 1, "data": data}  # Label Studio's own converter wants an id
        tasks.append({**task, "annotations": annotations, "predictions": predictions})
    return {CONFIG: config(codebook), TASKS: json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"}


def _results(
    codebook: Codebook, keys: Mapping[str, str], values: Mapping[str, Any], text: str
) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for f in codebook:
        spoken = statements(f, keys[f.column], values.get(f.column))
        if f.type == "multiselect" and spoken:  # one result holds all choices of a control
            chosen = {"choices": [said.value for said in spoken]}
            base = {"id": f"r{len(results) + 1}", "from_name": keys[f.column], "to_name": "text"}
            results.append({**base, "type": "choices", "value": chosen})
            continue
        for said in spoken:
            kind, value = _value(f, said, text)
            base = {"id": f"r{len(results) + 1}", "from_name": said.key, "to_name": "text", "type": kind}
            results.append({**base, "value": value})
    return results


def _value(f: Field, said: Said, text: str) -> tuple[str, dict[str, Any]]:
    if said.kind == "mark":
        start, end = said.value["start"], said.value["end"]
        place = {"start": utf16(text[:start]), "end": utf16(text[:end]), "text": text[start:end]}
        return "labels", {**place, "labels": [said.value["label"]]}
    if said.kind == "words":
        return "textarea", {"text": [said.value]}
    if said.kind == "number":
        kind = "rating" if f.min_value == 1 else "number"
        return kind, {kind: said.value}
    return "choices", {"choices": [said.value]}


def utf16(text: str) -> int:
    """Return the length of a text in UTF-16 units."""
    return len(text) + sum(c > "\uffff" for c in text)


def config(codebook: Codebook) -> str:
    """Return the labelling configuration of a codebook."""
    keys = keys_of(codebook)
    root = ET.Element("View")
    ET.SubElement(root, "Text", name="text", value="$text")
    for section in codebook.sections:
        ET.SubElement(root, "Header", value=section.name)
        for f in section.fields:
            place = ET.SubElement(root, "View")
            if f.condition is not None:
                parent, wanted = codebook[f.condition.column], f.condition.value
                if parent.type in ("checkbox", "dropdown", "multiselect"):
                    word = YES_NO[0 if wanted else 1] if parent.type == "checkbox" else str(wanted)
                    place.attrib.update(
                        visibleWhen="choice-selected", whenTagName=keys[parent.column], whenChoiceValue=word
                    )
            ET.SubElement(place, "Header", value=f.name, size="5")
            own = {"name": keys[f.column], "toName": "text"}
            if f.type == "span":
                control = ET.SubElement(place, "Labels", own)
                for label in f.label_options or (UNLABELLED,):
                    ET.SubElement(control, "Label", value=label)
            elif f.type == "textbox":
                ET.SubElement(place, "TextArea", own, maxSubmissions="1")
            elif f.type == "likert" and f.min_value == 1:
                ET.SubElement(place, "Rating", own, maxRating=str(f.max_value))
            elif f.type == "likert":
                ET.SubElement(place, "Number", own, min=str(f.min_value), max=str(f.max_value), step="1")
            else:
                control = ET.SubElement(
                    place, "Choices", own, choice="multiple" if f.type == "multiselect" else "single"
                )
                for word in YES_NO if f.type == "checkbox" else f.options:
                    ET.SubElement(control, "Choice", value=word)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
