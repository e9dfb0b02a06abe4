"""Projects that `write_project` made, read by the tools' own packages: what they find against what was written.

Run in an environment of its own, with nbannot and: pip install label-studio-sdk pyrefiqda dkpro-cassis
    python bench/check_exchange.py
Packages that are not installed are passed over and named. doccano's client and Prodigy read no files; brat has no
package of its own with a licence.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbannot as nba
from nbannot.exchange.said import keys_of, words_of

TEXTS = {
    "a/1": "Ärger 😀 über\r\nSteuern, sagt Müller.",
    "b 2": "مرحبا 👩‍👩‍👧 world\nline two",
    "c": "looked, nothing found",
}
MARKS = {
    "a/1": [("😀 über\r\nSteuern", "group"), ("Müller", "person")],
    "b 2": [("👩‍👩‍👧 world", "person")],
    "c": [],
}


def made(folder: Path) -> nba.Task:
    """Return a task with every type of field, odd texts, and labels on all of them."""
    import polars as pl

    questions = [
        nba.checkbox("Judges"),
        nba.dropdown("How", options=["good", "très bien", "a/b"]),
        nba.likert("Force", min_value=-2, max_value=2),
        nba.likert("Stars", min_value=1, max_value=5),
        nba.multiselect("Topics", options=["war", "road", "tax"]),
        nba.textbox("Why"),
        nba.span("Who", label_options=["person", "group"]),
    ]
    book = nba.Codebook.build(text_column="text", id_column="id", sections={"S": questions})
    spans = []
    for key, text in TEXTS.items():
        places = [(text.index(quote), quote, label) for quote, label in MARKS[key]]
        spans.append(
            json.dumps([{"start": a, "end": a + len(q), "text": q, "label": x} for a, q, x in places])
        )
    columns = {"id": list(TEXTS), "text": list(TEXTS.values()), "S_Judges": ["1", "0", "1"],
               "S_How": ["a/b", "good", ""],
               "S_Force": ["-2", "0", "2"], "S_Stars": ["5", "1", ""], "S_Topics": ['["war", "tax"]', '["road"]', "[]"],
               "S_Why": ["first\nsecond", "", ""], "S_Who": spans}  # fmt: skip
    book.save(folder)
    pl.DataFrame(columns).write_csv(folder / "ground-truth.csv")
    return nba.load_task(folder)


def label_studio(task: nba.Task, project: Path) -> str:
    """Check configuration and annotations by Label Studio's validator; read them with its converter."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    config = (project / "config.xml").read_text(encoding="utf-8")
    interface = LabelInterface(config)
    interface.validate()
    tasks = json.loads((project / "tasks.json").read_text(encoding="utf-8"))
    regions = [r for t in tasks for a in t["annotations"] for r in a["result"]]
    faults = [message for r in regions for message in interface.validate_region(r, return_errors=True)]
    Converter(config, str(project)).convert(
        str(project / "tasks.json"), str(project / "out"), "JSON_MIN", is_dir=False
    )
    rows = json.loads(next((project / "out").glob("*.json")).read_text(encoding="utf-8"))
    keys = keys_of(task.codebook)
    wrong = []
    for row in rows:
        i = task.ids.index(row["nbannot_id"])
        for f in task.codebook:
            expected, found = task.human(f.column)[i], row.get(keys[f.column])
            if f.type == "span":
                same = [(s["text"], s["labels"][0]) for s in found or []] == [
                    (s["text"], s["label"]) for s in expected
                ]
            elif f.type == "multiselect":
                named = found["choices"] if isinstance(found, dict) else [found] if found else []
                same = named == expected
            elif f.type == "likert":
                same = (next(iter(found[0].values())) if found else None) == expected
            elif f.type == "checkbox":
                same = found == ("yes" if expected else "no")
            else:
                same = (found or None) == (expected or None)
            wrong += [] if same else [f"{row['nbannot_id']}/{f.name}: {found!r} instead of {expected!r}"]
    return f"{len(regions)} regions, {len(faults)} refused; {len(rows)} rows read, {len(wrong)} differ {wrong + faults}"


def refi_qda(task: nba.Task, project: Path) -> str:
    """Read the project with pyrefiqda; compare codings with their codes and places."""
    from pyrefiqda import RefiProject

    with contextlib.chdir(project):  # it unpacks into the working folder
        read = RefiProject.load(str(next(project.glob("*.qdpx"))))
    whole = read.model_dump()
    names: dict[str, str] = {}

    def codes(node: Any) -> None:
        if isinstance(node, dict):
            if "guid" in node and "name" in node and "is_codable" in node:
                names[str(node["guid"])] = node["name"]
            for value in node.values():
                codes(value)
        elif isinstance(node, list):
            for value in node:
                codes(value)

    codes(whole["code_book"])
    found: Counter[tuple[str, str]] = Counter()

    def codings(node: Any, place: str) -> None:
        if isinstance(node, dict):
            if node.get("start_position") is not None:
                place = f"{node['start_position']}-{node['end_position']}"
            for key, value in node.items():
                if key == "code_ref" and value:
                    for one in value if isinstance(value, list) else [value]:
                        target = (
                            one.get("target_guid") or one.get("targetGUID") if isinstance(one, dict) else one
                        )
                        found[names.get(str(target), str(target)), place] += 1
                else:
                    codings(value, place)
        elif isinstance(node, list):
            for value in node:
                codings(value, place)

    codings(whole["sources"], "")
    words = words_of(task.codebook)
    wanted: Counter[tuple[str, str]] = Counter()
    for f in task.codebook:
        for value in task.human(f.column):
            if value is None or f.type == "textbox":
                continue
            for one in value if isinstance(value, list) else [value]:
                if f.type == "span":
                    wanted[words[f.column][one["label"]], f"{one['start']}-{one['end']}"] += 1
                else:
                    wanted[words[f.column][one], ""] += 1
    return f"{found.total()} codings read of {wanted.total()} written, {(wanted - found).total()} missing, " \
           f"{(found - wanted).total()} others {list((wanted - found) + (found - wanted))[:5]}"  # fmt: skip


def inception(task: nba.Task, project: Path) -> str:
    """Read every CAS with dkpro-cassis, as JSON and again as XMI; compare passages with their places."""
    import cassis

    found: Counter[tuple[int, int, str, str]] = Counter()
    for path in sorted((project / "annotation").rglob("*.json")):
        with path.open("rb") as file:
            cas = cassis.load_cas_from_json(file)
        twin = cassis.load_cas_from_xmi(io.BytesIO(cas.to_xmi().encode()), typesystem=cas.typesystem)
        for one in (cas, twin):
            for mark in one.select_all_annotations():
                if hasattr(mark, "label"):
                    found[mark.begin, mark.end, mark.get_covered_text(), mark.label] += 1
    spans = [s for value in task.human("S_Who") for s in value]
    wanted = Counter({(s["start"], s["end"], s["text"], s["label"]): 2 for s in spans})
    return f"{found.total() // 2} passages read of {len(spans)} written, {(wanted - found).total()} missing, " \
           f"{(found - wanted).total()} others"  # fmt: skip


CHECKS: dict[str, tuple[str, Callable[[nba.Task, Path], str]]] = {
    "label_studio": ("label-studio-sdk", label_studio),
    "refi_qda": ("pyrefiqda", refi_qda),
    "inception": ("dkpro-cassis", inception),
}


def main() -> None:
    """Write for each tool, and print what its own package reads."""
    from importlib.metadata import PackageNotFoundError, version

    with tempfile.TemporaryDirectory() as place:
        task = made(Path(place) / "task")
        for tool, (package, check) in CHECKS.items():
            try:
                number = version(re.sub("_", "-", package))
            except PackageNotFoundError:
                print(f"{tool}: {package} is not installed")
                continue
            project = nba.write_project(task, Path(place) / tool, tool)
            print(f"{tool}: {package} {number}: {check(task, project)}")


if __name__ == "__main__":
    main()
