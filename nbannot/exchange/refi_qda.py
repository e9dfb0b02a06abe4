"""REFI-QDA projects (``.qdpx``: ATLAS.ti, MAXQDA, NVivo, QualCoder and others): texts, codes and who coded what.

Positions are code points of the plain text, the end not included; there are no quotes to prove them by. Only plain
text sources are read.
Source: REFI-QDA standard 1.5, qdasoftware.org.
"""

from __future__ import annotations

import io
import uuid
import xml.etree.ElementTree as ET
import zipfile
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.files import Folder, Written
from nbannot.exchange.said import GivenText, Project, Said, flat_statements, words_of

NAMESPACE = "urn:QDA-XML:project:1.0"
FILE = "project.qdpx"
ORIGIN = uuid.UUID("6f9a1f0e-6b0a-4d2c-9d0e-0d6f6e626e74")
"""The name space of the identifiers that are written, so that the same project is the same file."""


def fits(folder: Folder) -> bool:
    """Return whether there is a project file."""
    return any(name.endswith((".qde", ".qdpx")) for name in folder.files)


def read(folder: Folder) -> Project:
    """Return the project; every user is a coder."""
    files = dict(folder.files)
    for name in [name for name in files if name.endswith(".qdpx")]:
        with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
            files.update({i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()})
    projects = [name for name in files if name.endswith(".qde")]
    if not projects:
        raise TaskError(f"{folder.place} holds no project.qde.\n  Export the project as REFI-QDA (.qdpx).")
    try:
        root = ET.fromstring(files[projects[0]])
    except ET.ParseError as error:
        raise TaskError(f"{projects[0]} is not valid XML: {error}.\n  Export the project again.") from None
    for node in root.iter():
        node.tag = node.tag.rsplit("}", 1)[-1]
    users = {u.get("guid"): u.get("name") or "" for u in root.iter("User")}
    codes = {c.get("guid"): c.get("name") or "" for c in root.iter("Code")}
    notes = {n.get("guid"): n for n in root.iter("Note")}
    project = Project([], silent=True)
    for number, source in enumerate(root.iter("TextSource"), start=1):
        text = _plain(source, files)
        text_id = folder.ids.get(source.get("guid") or "", source.get("name") or str(number))
        given = GivenText(text_id, text)
        for node in source:
            if node.tag == "PlainTextSelection":
                start, end = int(node.get("startPosition") or 0), int(node.get("endPosition") or 0)
                for coding in node.findall("Coding"):
                    ref = coding.find("CodeRef")
                    label = codes.get(ref.get("targetGUID")) if ref is not None else None
                    mark = {"start": start, "end": end, "text": None, "label": label}
                    _add(
                        given,
                        folder,
                        users,
                        coding.get("creatingUser") or node.get("creatingUser"),
                        Said("mark", "", mark),
                    )
            elif node.tag == "Coding":
                ref = node.find("CodeRef")
                word = codes.get(ref.get("targetGUID"), "") if ref is not None else ""
                _add(given, folder, users, node.get("creatingUser"), Said("choice", "", word))
            elif node.tag == "NoteRef" and folder.word_columns:
                note = notes.get(node.get("targetGUID"))
                if note is not None and note.get("name") in folder.word_columns:
                    words = note.findtext("PlainTextContent") or ""
                    said = Said("words", str(note.get("name")), words)
                    _add(given, folder, users, note.get("creatingUser"), said)
        project.texts.append(given)
    others = sum(
        len(list(root.iter(tag))) for tag in ("PDFSource", "PictureSource", "AudioSource", "VideoSource")
    )
    if others:
        project.notices.append(
            f"{others} sources that are not texts (PDF, pictures, sound, film) are left out."
        )
    return project


def _add(given: GivenText, folder: Folder, users: dict[Any, str], user: str | None, said: Said) -> None:
    if user is not None and user in folder.annotators:
        coder = folder.annotators[user]
    else:
        coder = users.get(user, "")
    given.people.setdefault(coder, []).append(said)


def _plain(source: ET.Element, files: dict[str, bytes]) -> str:
    inside = source.findtext("PlainTextContent")
    if inside is not None:
        return inside
    place = (source.get("plainTextPath") or "").removeprefix("internal://")
    member = next((content for name, content in files.items() if place and name.endswith(place)), None)
    if member is None:
        raise TaskError(
            f"the text of source '{source.get('name')}' is not in the project: {place!r}.\n"
            "  Export it with its sources."
        )
    return member.decode("utf-8-sig")


def write(written: Written) -> dict[str, bytes]:
    """Return file name -> content: one project file."""
    words = words_of(written.codebook)
    root = ET.Element("Project", xmlns=NAMESPACE, name=written.name, origin="nbannot")
    users = ET.SubElement(root, "Users")
    user_of: dict[str, str] = {}
    for coder in written.coders():
        user_of[coder] = _guid("user", coder)
        ET.SubElement(users, "User", guid=user_of[coder], name=coder or "gold")
    written.annotators.update({guid: coder for coder, guid in user_of.items()})
    codes = ET.SubElement(ET.SubElement(root, "CodeBook"), "Codes")
    code_of: dict[str, str] = {}
    for f in written.codebook:
        parent = ET.SubElement(codes, "Code", guid=_guid("field", f.column), name=f.name, isCodable="false")
        if f.tooltip:
            ET.SubElement(parent, "Description").text = f.tooltip
        for word in words[f.column].values():
            code_of[word] = _guid("code", f.column, word)
            ET.SubElement(parent, "Code", guid=code_of[word], name=word, isCodable="true")
    sources = ET.SubElement(root, "Sources")
    notes = ET.Element("Notes")
    files: dict[str, str] = {}
    for text in written.texts:
        guid = _guid("text", text.text_id)
        written.ids[guid] = text.text_id
        files[f"sources/{guid}.txt"] = text.text
        source = ET.SubElement(
            sources, "TextSource", guid=guid, name=text.text_id, plainTextPath=f"internal://{guid}.txt"
        )
        later: list[ET.Element] = []
        for coder, values in (*text.people.items(), *text.models.items()):
            user = user_of[coder]
            marks = [
                s for f in written.codebook for s in flat_statements(f, words[f.column], values.get(f.column))
            ]
            for number, s in enumerate(marks):
                own = _guid("said", text.text_id, coder, number)
                if s.kind == "mark":
                    start, end = s.value["start"], s.value["end"]
                    selection = ET.SubElement(
                        source, "PlainTextSelection", guid=own, name=" ".join(text.text[start:end].split())[:80],
                        startPosition=str(start), endPosition=str(end), creatingUser=user,
                    )  # fmt: skip
                    coding = ET.SubElement(
                        selection,
                        "Coding",
                        guid=_guid("coding", text.text_id, coder, number),
                        creatingUser=user,
                    )
                    ET.SubElement(coding, "CodeRef", targetGUID=code_of[s.value["label"]])
                elif s.kind == "words":
                    note = ET.SubElement(notes, "Note", guid=own, name=s.key, creatingUser=user)
                    ET.SubElement(note, "PlainTextContent").text = s.value
                    later.append(ET.Element("NoteRef", targetGUID=own))
                else:
                    coding = ET.Element("Coding", guid=own, creatingUser=user)
                    ET.SubElement(coding, "CodeRef", targetGUID=code_of[s.value])
                    later.insert(0, coding)
        source.extend(later)
    if len(notes):
        root.append(notes)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        whole = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        for name, content in {"project.qde": whole, **{n: t.encode() for n, t in files.items()}}.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return {FILE: out.getvalue()}


def _guid(*parts: Any) -> str:
    return str(uuid.uuid5(ORIGIN, "\x1f".join(map(str, parts))))
