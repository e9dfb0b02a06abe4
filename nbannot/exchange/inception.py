"""INCEpTION: one UIMA CAS (JSON 0.4 or XMI) per text and annotator, read and written with dkpro-cassis.

Passages are annotations of a layer with a feature that holds the label. What is said of a whole text has no layer of
its own in INCEpTION: it is an annotation of the layer ``TextLabel`` over the text, with ``field`` and ``value``.
Source: inception-project.github.io, user guide, "Formats"; dkpro-cassis.
"""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.files import Folder, Written, file_names
from nbannot.exchange.said import (
    GivenText,
    Project,
    Said,
    flat_statements,
    keys_of,
    slugs,
    statements,
    words_of,
)

PASSAGE, WHOLE = "webanno.custom.Passage", "webanno.custom.TextLabel"
NO_LABELS = (
    "Sentence",
    "Token",
    "DocumentMetaData",
    "DocumentAnnotation",
    "POS",
    "Lemma",
    "Dependency",
    "TagsetDescription",
)
FEATURES = ("value", "label", "identifier")


def fits(folder: Folder) -> bool:
    """Return whether there is a CAS."""
    return any(
        b"http://www.omg.org/XMI" in c[:2000] for n, c in folder.files.items() if n.endswith(".xmi")
    ) or any(b"%FEATURE_STRUCTURES" in folder.files[n] for n in folder.ending(".json"))


def read(folder: Folder) -> Project:
    """Return the project; the files of a text lie in a folder named after it, each named after its annotator."""
    cassis = _cassis()
    project = Project([])
    by_id: dict[str, GivenText] = {}
    for path in folder.ending(".json", ".xmi"):
        content = folder.files[path]
        place = PurePosixPath(path)
        if path.endswith(".json"):
            if b"%FEATURE_STRUCTURES" not in content:
                continue
            cas = cassis.load_cas_from_json(io.BytesIO(content))
        else:
            near = [n for n in folder.files if n.endswith("TypeSystem.xml")]
            own = [n for n in near if PurePosixPath(n).parent == place.parent] or near
            if not own:
                raise TaskError(
                    f"{path} has no TypeSystem.xml beside it.\n  Export as UIMA CAS JSON, or with it."
                )
            cas = cassis.load_cas_from_xmi(
                io.BytesIO(content), typesystem=cassis.load_typesystem(io.BytesIO(folder.files[own[0]]))
            )
        in_folder = place.parent.name not in ("", "annotation", "curation")
        document = place.parent.name if in_folder else place.stem
        text_id = folder.ids.get(document, document)
        coder = place.stem if in_folder else ""
        coder = folder.annotators.get(coder, "" if coder == "CURATION_USER" else coder)
        if in_folder and coder in ("INITIAL_CAS",):
            coder = ""
        given = by_id.setdefault(text_id, GivenText(text_id, cas.sofa_string or ""))
        given.people[coder] = _said(cas)
    project.texts = list(by_id.values())
    return project


def _said(cas: Any) -> list[Said]:
    statements: list[Said] = []
    for one in cas.select_all_annotations():
        name = str(one.type.name)
        if not hasattr(one, "begin") or name.rsplit(".", 1)[-1] in NO_LABELS:
            continue
        if name == WHOLE:
            statements.append(Said("words" if one.kind == "words" else "choice", one.field, one.value))
            continue
        features = [f.name for f in one.type.all_features]
        label = next((one[key] for key in FEATURES if key in features and isinstance(one[key], str)), None)
        if label is None:
            own = [f.name for f in one.type.features]
            label = next((one[key] for key in own if isinstance(one[key], str)), name.rsplit(".", 1)[-1])
        quote = one.get_covered_text()
        statements.append(
            Said("mark", "", {"start": one.begin, "end": one.end, "text": quote, "label": label})
        )
    return statements


def write(written: Written) -> dict[str, str]:
    """Return file name -> content: a folder per text with a CAS in JSON per annotator."""
    cassis = _cassis()
    codebook, keys, words = written.codebook, keys_of(written.codebook), words_of(written.codebook)
    stems = slugs([text.text_id for text in written.texts])
    written.ids.update({stem: text_id for text_id, stem in stems.items()})
    types = cassis.TypeSystem()
    passage = types.create_type(PASSAGE, "uima.tcas.Annotation")
    types.create_feature(passage, "label", "uima.cas.String")
    whole = types.create_type(WHOLE, "uima.tcas.Annotation")
    for feature in ("field", "kind", "value"):
        types.create_feature(whole, feature, "uima.cas.String")
    files: dict[str, str] = {}
    names = file_names(written, "")
    for text in written.texts:
        given = {**text.people, **text.models} or {coder: {} for coder in names}
        for coder, values in given.items():
            cas = cassis.Cas(types)
            cas.sofa_string, cas.sofa_mime = text.text, "text/plain"
            for f in codebook:
                for s in (
                    flat_statements(f, words[f.column], values.get(f.column)) if f.type == "span" else ()
                ):
                    cas.add(passage(begin=s.value["start"], end=s.value["end"], label=s.value["label"]))
                for s in statements(f, keys[f.column], values.get(f.column)) if f.type != "span" else ():
                    cas.add(whole(begin=0, end=len(text.text), field=s.key, kind=s.kind, value=str(s.value)))
            files[f"annotation/{stems[text.text_id]}/{names[coder]}.json"] = cas.to_json()
    return files


def _cassis() -> Any:
    try:
        import cassis
    except ImportError:
        raise TaskError(
            "INCEpTION's files are read and written with dkpro-cassis, which is not installed.\n"
            '  pip install "nbannot[exchange]"'
        ) from None
    return cassis
