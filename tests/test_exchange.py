"""Projects of other tools: what each tool documents is read right, and what is written comes back whole."""

import io
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest

import nbannot as nba
from nbannot.errors import RunError, TaskError
from nbannot.exchange.formats import FORMATS
from nbannot.exchange.writing_projects import _people
from nbannot.study.study_folder import coder_files

DATA = Path(__file__).parent / "data"
CLOSED = {"options": ["yes", "no", "très bien"]}
ODD_TEXTS = {
    "a/1": "Ärger 😀 über\r\nSteuern, sagt Müller.",
    "b 2": "مرحبا 👩‍👩‍👧 world\nline two",
    "c": "nobody looked",
    "d": "looked, nothing found",
}


def labels_of(task: nba.Task) -> dict:
    """Return coder -> text id -> column -> value, as a project would be written with them; the gold under ""."""
    return _people(task, coder_files(task))


def odd_task(folder: Path) -> nba.Task:
    """Return a task with every kind of field, text and gap, in a folder of its own with two coders."""
    codebook = nba.Codebook.build(
        text_column="body",
        id_column="key",
        sections={
            "Tone": [
                nba.checkbox("Judges"),
                nba.dropdown("How", options=["good", "très bien", "a/b"], condition=("Judges", 1)),
                nba.dropdown("Again", options=["good", "bad"]),
                nba.likert("Force", min_value=-2, max_value=2),
                nba.likert("Stars", min_value=1, max_value=5),
                nba.textbox("Why"),
                nba.multiselect("Topics", options=["war", "très bien", "a/b"]),
            ],
            "Marks": [nba.span("Who", label_options=["person", "good"]), nba.span("Heat")],
        },
    )

    def span(key: str, quote: str, label: str | None) -> dict:
        start = ODD_TEXTS[key].index(quote)
        return {"start": start, "end": start + len(quote), "text": quote, "label": label}

    who = [json.dumps([span("a/1", "😀 über\r\nSteuern", "good"), span("a/1", "Müller", "person")])]
    who += [json.dumps([span("b 2", "👩‍👩‍👧 world", "person")]), "", "[]"]
    gold = pl.DataFrame(
        {
            "key": list(ODD_TEXTS),
            "body": list(ODD_TEXTS.values()),
            "when, or so": ["1", "", "x\ty", '"q"'],
            "Tone_Judges": ["1", "0", "", "0"],
            "Tone_How": ["a/b", "", "", ""],
            "Tone_Again": ["good", "bad", "", ""],
            "Tone_Force": ["-2", "0", "", "2"],
            "Tone_Stars": ["5", "", "", "1"],
            "Tone_Why": ["first\nsecond: 'x'", "", "", ""],
            "Tone_Topics": ['["war", "a/b"]', "[]", "", '["très bien"]'],
            "Marks_Who": who,
            "Marks_Heat": [json.dumps([span("a/1", "Ärger 😀", None)]), "", "", ""],
        }
    )
    codebook.save(folder)
    gold.write_csv(folder / "ground-truth.csv")
    (folder / "coders").mkdir()
    for name, keep in (("gold", [0, 1]), ("Zoë, 2nd", [1, 3])):
        gold[keep].drop("body", "when, or so").rename({"key": "sample_id"}).write_csv(
            folder / "coders" / f"{name}.csv"
        )
    return nba.load_task(folder)


@pytest.mark.parametrize("tool", FORMATS)
def test_everything_that_is_written_comes_back(tool, tmp_path):
    if tool == "inception":
        pytest.importorskip("cassis")
    tasks = [odd_task(tmp_path / "odd"), nba.load_task(DATA / "uk_group_mentions")]
    for number, task in enumerate(
        tasks[:1] if tool == "inception" else tasks
    ):  # cassis takes 20 s for the second
        project, target = tmp_path / f"{tool}{number}", tmp_path / f"back{number}"
        nba.write_project(task, project, tool)
        back = nba.read_project(project, to=target)
        assert (back.ids, back.texts, back.codebook) == (task.ids, task.texts, task.codebook)
        assert labels_of(back) == labels_of(task)
        for column in task.other_columns:
            assert list(back.data[column]) == list(task.data[column])
        assert sorted(p.name for p in (target / "coders").iterdir()) == sorted(
            p.name for p in (task.path / "coders").iterdir()
        )
        assert nba.read_project(project, tool, to=target).ids == task.ids  # the same again changes nothing
    with pytest.raises(RunError, match="already exists"):
        nba.write_project(task, project, tool)
    (target / "codebook.json").write_text("{}")
    with pytest.raises(RunError, match=r"other content: codebook.json"):
        nba.read_project(project, to=target)


def written(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def lines(*items: dict) -> str:
    return "\n".join(json.dumps(item) for item in items)


def test_label_studio_as_its_guide_has_it(tmp_path):
    text = "🎉 To have faith is to trust yourself"
    config = """<View><Text name="t" value="$body"/>
      <Labels name="ner" toName="t"><Label value="Verb"/><Label value="Noun"/></Labels>
      <Choices name="tone" toName="t" choice="single"><Choice value="Calm"/><Choice value="Angry"/></Choices>
      <View visibleWhen="choice-selected" whenTagName="tone" whenChoiceValue="Angry">
        <Rating name="how" toName="t" maxRating="3"/></View>
      <Choices name="topic" toName="t" choice="multiple"><Choice value="A"/><Choice value="B"/></Choices></View>"""

    def result(kind, name, **value):
        return {"id": "x", "from_name": name, "to_name": "t", "type": kind, "value": value}

    faith = result(
        "labels", "ner", start=11, end=16, text="faith", labels=["Noun"]
    )  # UTF-16: one more than here
    export = [
        {
            "id": 7,
            "data": {"body": text, "page": 3},
            "annotations": [
                {"id": 1, "completed_by": {"id": 4, "email": "ann@x.org"}, "result": [
                    faith, result("choices", "tone", choices=["Angry"]), result("rating", "how", rating=2),
                    result("choices", "topic", choices=["B"])]},
                {"id": 2, "completed_by": 9, "result": [result("choices", "tone", choices=["Calm"])]},
                {"id": 3, "completed_by": 5, "was_cancelled": True, "result": [faith]},
            ],
            "predictions": [{"model_version": "bert", "result": [faith]}],
        }
    ]  # fmt: skip
    written(tmp_path / "p", **{"config.xml": config, "export.json": json.dumps(export)})
    task = nba.read_project(tmp_path / "p", to=tmp_path / "t")
    assert [f.column for f in task.codebook] == [f"Labels_{n}" for n in ("ner", "tone", "how", "A", "B")]
    assert task.codebook["how"].condition.value == "Angry"
    assert task.ids == ["7"]
    assert list(task.data["page"]) == ["3"]
    assert not task.has_human_labels
    people = labels_of(task)
    assert set(people) == {"ann@x.org", "annotator_9"}
    span = {"start": 10, "end": 15, "text": "faith", "label": "Noun"}
    ann = {"Labels_ner": [span], "Labels_tone": "Angry", "Labels_how": 2, "Labels_A": 0, "Labels_B": 1}
    assert people["ann@x.org"]["7"] == ann
    assert people["annotator_9"]["7"] == {"Labels_ner": [], "Labels_tone": "Calm"}
    assert nba.load_outputs(task, tmp_path / "t/models/bert.csv").coding.values("Labels_ner") == [[span]]


def test_doccano_as_its_documentation_has_it(tmp_path):
    one = {"id": 1, "text": "EU rejects German call", "label": [[0, 2, "ORG"], [11, 17, "MISC"]]}
    other = {"id": 1, "text": "EU rejects German call", "label": []}
    written(tmp_path / "p", **{"ann.jsonl": lines(one), "bob.jsonl": lines(other)})
    task = nba.read_project(tmp_path / "p", to=tmp_path / "t")
    quotes = [(s["text"], s["label"]) for s in labels_of(task)["ann"]["1"]["Labels_Passages"]]
    assert quotes == [("EU", "ORG"), ("German", "MISC")]
    assert "bob" not in labels_of(task)  # an empty list may as well not have been looked at
    task = nba.read_project(tmp_path / "p", to=tmp_path / "t2", blank_means_no=True)
    assert labels_of(task)["bob"] == {"1": {"Labels_Passages": []}}
    file = written(tmp_path, **{"all.jsonl": lines({"id": 4, "text": "x", "label": ["a", "b"]},
                                                   {"id": 5, "text": "y", "label": ["a"]})}) / "all.jsonl"  # fmt: skip
    task = nba.read_project(file, to=tmp_path / "t3")
    assert task.human("Labels_a") == [1, 1]
    assert task.human("Labels_b") == [1, 0]
    beyond = written(tmp_path, **{"far.jsonl": lines({"id": 1, "text": "x", "label": [[0, 9, "A"]]})})
    with pytest.raises(TaskError, match="0"):
        nba.read_project(beyond / "far.jsonl", to=tmp_path / "t4")
    assert not (tmp_path / "t4").exists()


def test_prodigy_as_its_documentation_has_it(tmp_path):
    base = {"text": "Hello Apple", "_input_hash": 5, "answer": "accept"}
    rows = [
        {
            **base,
            "spans": [{"start": 6, "end": 11, "label": "ORG", "token_start": 1}],
            "_session_id": "d-ann",
        },
        {**base, "spans": [], "_session_id": "d-bob"},
        {**base, "spans": [], "answer": "ignore", "_session_id": "d-eve"},
    ]
    file = written(tmp_path, **{"ner.jsonl": lines(*rows)}) / "ner.jsonl"
    people = labels_of(nba.read_project(file, to=tmp_path / "t"))
    assert {c: len(v["1"]["Labels_Passages"]) for c, v in people.items()} == {"d-ann": 1, "d-bob": 0}
    rows = [
        {"text": t, "label": "ANGRY", "answer": a}
        for t, a in (("x", "accept"), ("y", "reject"), ("z", "ignore"))
    ]
    file = written(tmp_path, **{"cat.jsonl": lines(*rows)}) / "cat.jsonl"
    assert nba.read_project(file, to=tmp_path / "t2").human("Labels_ANGRY") == [1, 0, None]


def test_brat_as_its_manual_has_it(tmp_path):
    text = "Sony Japan\nand others"
    ann = "T1\tOrganization 0 4\tSony\nT2\tPlace 5 14\tJapan and\n"
    ann += "R1\tOrigin Arg1:T1 Arg2:T2\t\n#1\tAnnotatorNotes T1\tx\n"
    written(tmp_path / "p", **{"sub/d.txt": text, "sub/d.ann": ann, "e.txt": "none", "e.ann": ""})
    task = nba.read_project(tmp_path / "p", to=tmp_path / "t")
    spans = dict(zip(task.ids, task.human("Passages"), strict=True))
    assert [(s["text"], s["label"]) for s in spans["sub/d"]] == [
        ("Sony", "Organization"),
        ("Japan\nand", "Place"),
    ]
    assert spans["e"] is None
    assert "2 relations" in (tmp_path / "t/notes.txt").read_text()
    wrong = written(
        tmp_path / "w",
        **{"d.txt": text, "d.ann": "T1\tOrganization 0 4\tJapan\nT2\tPlace 5 9\tSony\nT3\tX 0 2\tNo\n"},
    )
    with pytest.raises(TaskError, match="No"):
        nba.read_project(wrong, to=tmp_path / "t2")


def test_refi_qda_as_the_standard_has_it(tmp_path):
    qde = """<?xml version="1.0" encoding="utf-8"?><Project xmlns="urn:QDA-XML:project:1.0" name="p">
    <Users><User guid="u1" name="Ann"/></Users><CodeBook><Codes><Code guid="c1" name="Fear" isCodable="true"/></Codes>
    </CodeBook><Sources><TextSource guid="s1" name="Talk" plainTextPath="internal://s1.txt">
    <PlainTextSelection guid="p1" name="x" startPosition="2" endPosition="8" creatingUser="u1">
    <Coding guid="k1" creatingUser="u1"><CodeRef targetGUID="c1"/></Coding></PlainTextSelection></TextSource></Sources>
    </Project>"""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("project.qde", qde)
        archive.writestr("sources/s1.txt", "😀 afraid of it")
    written(tmp_path, **{"p.qdpx": out.getvalue()})
    task = nba.read_project(tmp_path / "p.qdpx", to=tmp_path / "t")
    assert task.human("Passages") == [[{"start": 2, "end": 8, "text": "afraid", "label": "Fear"}]]
    assert set(labels_of(task)) == {"", "Ann"}
    assert task.ids == ["Talk"]


def test_inception_as_cassis_has_it(tmp_path):
    cassis = pytest.importorskip("cassis")
    types = cassis.load_dkpro_core_typesystem()
    entity = types.get_type("de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity")
    cas = cassis.Cas(types)
    cas.sofa_string, cas.sofa_mime = "😀 Sony in Japan", "text/plain"
    cas.add(entity(begin=2, end=6, value="ORG"))
    files = {"annotation/d.txt/ann.json": cas.to_json(), "annotation/d.txt/bob.xmi": cas.to_xmi()}
    types.to_xml(tmp_path / "TypeSystem.xml")
    files["annotation/d.txt/TypeSystem.xml"] = (tmp_path / "TypeSystem.xml").read_bytes()
    people = labels_of(nba.read_project(written(tmp_path / "p", **files), to=tmp_path / "t"))
    assert set(people) == {"ann", "bob"}
    span = {"start": 2, "end": 6, "text": "Sony", "label": "ORG"}
    assert people["ann"] == people["bob"] == {"d.txt": {"Labels_Passages": [span]}}


def test_potato_as_its_documentation_has_it(tmp_path):
    state = {
        "user_id": "annotator_1",
        "instance_id_to_label_to_value": {"item_001": {"sentiment": {"labels": {"positive": True}}}},
        "instance_id_to_span_to_value": {
            "item_001": {"ner": [{"start": 0, "end": 5, "label": "PERSON", "text": "Alice"}]}
        },
    }  # fmt: skip
    files = {"data/items.jsonl": lines({"id": "item_001", "text": "Alice smiles", "source": "web"})}
    files["annotation_output/annotator_1/user_state.json"] = json.dumps(state)
    task = nba.read_project(written(tmp_path / "p", **files), to=tmp_path / "t")
    assert task.human("sentiment") == ["positive"]
    assert list(task.data["source"]) == ["web"]
    assert task.human("ner")[0][0]["text"] == "Alice"


def test_a_run_is_written_for_a_blind_second_look(tmp_path):
    run = nba.run("policy-sentiment", model="mock", limit=4, output_root=tmp_path / "out")
    project = nba.write_project(run, tmp_path / "p", "label_studio")
    tasks = json.loads((project / "tasks.json").read_text())
    assert all(t["annotations"] == [] and len(t["predictions"]) == 1 for t in tasks)
    back = nba.read_project(project, to=tmp_path / "t")
    assert not back.has_human_labels
    assert not (tmp_path / "t/coders").exists()
    outputs = nba.load_outputs(back, tmp_path / f"t/models/{run.run_id}.csv")
    for field in run.coding.fields:
        if field.column in outputs.coding.answers:
            assert outputs.coding.values(field.column) == run.coding.values(field.column)


def test_what_cannot_be_read_is_said_in_words(tmp_path):
    for name, content, word in [
        ("x.txt", "hello", "no project of a tool"),
        ("x.json", "{", "not valid JSON"),
        ("y.jsonl", lines({"id": 1, "text": "t", "label": [[0, 1, "Q"]]}), "'Q' is no label"),
    ]:
        file = written(tmp_path, **{name: content}) / name
        codebook = nba.Codebook.build(
            text_column="text", sections={"S": [nba.span("M", label_options=["A"])]}
        )
        with pytest.raises(TaskError, match=word):
            nba.read_project(file, to=tmp_path / "t", codebook=codebook)
    number = {"type": "number", "from_name": "n", "value": {"number": None}}
    for name, content in {
        "s1.jsonl": lines({"id": 1, "text": "x y", "label": [[0, 1]]}),
        "s2.json": json.dumps([{"data": {"text": "x"}, "annotations": [{"result": [number]}]}]),
        "s3/x.ann": "T1\tFoo 0 x\tabc\n",
        "s4.qdpx": "no archive",
    }.items():
        written(tmp_path, **{name: content, "s3/x.txt": "abc"})
        with pytest.raises(TaskError, match="that can be read here"):
            nba.read_project(tmp_path / name.partition("/")[0], to=tmp_path / "t")
    assert not (tmp_path / "t").exists()
    with pytest.raises(TaskError, match="no project at"):
        nba.read_project(tmp_path / "absent")
    with pytest.raises(TaskError, match="did you mean 'doccano'"):
        nba.read_project(tmp_path / "x.txt", "docano")


@pytest.mark.parametrize("tool", FORMATS)
def test_a_frame_goes_out_with_everybody_who_coded_it_in_the_notebook(tool, tmp_path, monkeypatch):
    if tool == "inception":
        pytest.importorskip("cassis")
    monkeypatch.chdir(tmp_path)
    codebook = nba.Codebook.build(
        text_column="text",
        sections={
            "S": [nba.dropdown("Tone", options=["pro", "anti"]), nba.textbox("Why"), nba.textbox("Else")]
        },
    )
    texts = pl.DataFrame({"id": ["a", "b"], "text": ["One text.", "Another."]})
    task = nba.Task(texts, codebook, name="talks")
    for coder, tone in (("ann", "pro"), ("bob", "anti")):
        desk = nba.code(task, coder=coder)
        desk.answer("a", "Tone", tone)
        desk.answer("a", "Why", f"{coder}: two\nlines")
        desk.answer("a", "Else", "more")
        desk.close()
    project = nba.write_project(task, tmp_path / "out", format=tool)
    want = {c: {"a": {"S_Tone": t, "S_Why": f"{c}: two\nlines", "S_Else": "more"}}
            for c, t in (("ann", "pro"), ("bob", "anti"))}  # fmt: skip
    assert labels_of(nba.read_project(project, to=tmp_path / "back")) == want
    if tool in (
        "doccano",
        "prodigy",
        "refi_qda",
    ):  # without nbannot's own file the codebook tells what is free words
        (project / "nbannot.json").unlink()
        back = nba.read_project(project, to=tmp_path / "bare", codebook=codebook)
        found = sorted(labels_of(back).values(), key=str)
        assert [list(rows.values()) for rows in found] == sorted(
            [list(r.values()) for r in want.values()], key=str
        )


def test_a_comment_that_names_no_textbox_is_told(tmp_path):
    two = nba.Codebook.build(text_column="text", sections={"S": [nba.textbox("Why"), nba.textbox("Else")]})
    one = nba.Codebook.build(text_column="text", sections={"S": [nba.textbox("Why")]})
    line = {"id": 1, "text": "x", "label": [], "Comments": ["S_Why: because", "look again"]}
    file = written(tmp_path / "p", **{"all.jsonl": lines(line)}) / "all.jsonl"
    task = nba.read_project(file, to=tmp_path / "t", codebook=two)
    assert (task.human("Why"), task.human("Else")) == (["because"], [None])
    assert "'look again' names no textbox" in (tmp_path / "t" / "notes.txt").read_text(encoding="utf-8")
    file = written(tmp_path / "q", **{"all.jsonl": lines({**line, "Comments": ["one", "two"]})}) / "all.jsonl"
    assert nba.read_project(file, to=tmp_path / "u", codebook=one).human("Why") == ["one\ntwo"]
