"""The form that writes a codebook, by its entries, and tables of texts that bring their codebook along."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import nbannot as nba
from nbannot.errors import CodebookError, TaskError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def type_in(form, **typed: str) -> None:
    for name, text in typed.items():
        form._entries[name].value = text


def test_a_codebook_is_typed_seen_and_saved() -> None:
    form = nba.build_codebook()
    assert "Give the question a name" in form._card.value
    assert 'role="alert"' not in form._card.value  # nothing was typed yet
    with pytest.raises(CodebookError, match="has no name"):
        _ = form.codebook
    type_in(form, section="Tone", instruction="Read twice.", name="Judges", guidance="Does it judge?",
            examples="A fine law.\n=> yes\n---\nIt rains,\nand how.\n=> no")  # fmt: skip
    assert [(e.text, e.response) for e in form.codebook["Judges"].examples] == [
        ("A fine law.", 1),
        ("It rains,\nand how.", 0),
    ]
    form.add(
        "Topics",
        "multiselect",
        options="war = armed\npeace",
        condition="Judges = yes",
        examples='Guns.\n=> ["war"]',
    )
    form.add("Force", "likert", low="-1", high="1", points="1 = strong", condition="Topics = war")
    assert form.fault == ""
    assert "armed" in form._card.value
    force = form.codebook["Force"]
    assert (force.labels, force.option_descriptions) == ((-1, 0, 1), (("1", "strong"),))
    form._show(0)
    type_in(form, name="Evaluates")  # conditions go along
    assert form.codebook["Topics"].condition.column == "Tone_Evaluates"
    assert form.codebook["Evaluates"].instruction == "Read twice."
    type_in(form, examples="A text without an answer")
    assert "a line that begins with =>" in form.fault
    form._save()
    assert not Path("codebook.json").exists()
    type_in(form, examples="")
    Path("codebook.json").write_text("{}")
    form._save()
    assert "is there already" in form._said.value
    assert Path("codebook.json").read_text() == "{}"
    form._save()
    assert nba.Codebook.load("codebook.json") == form.codebook
    again = nba.build_codebook("codebook.json")
    assert again.codebook == form.codebook
    again._remove()
    assert "'Topics': its condition names 'Tone_Evaluates', which does not exist" in again.fault
    again._copy()
    assert [q.name for q in again.questions] == ["Topics", "Topics copy", "Force"]


@pytest.mark.parametrize("name", ["policy-sentiment", "discrete-emotions"])
def test_an_existing_codebook_goes_through_the_form_unchanged(name: str) -> None:
    codebook = nba.load_task(name).codebook
    made = nba.build_codebook(codebook).codebook
    assert not codebook.diff(made)
    assert made.hash == codebook.hash
    assert {k: v for k, v in made.to_dict().items() if k != "section_1"} == {
        k: v for k, v in codebook.to_dict().items() if k != "section_1"
    }


def test_a_table_of_texts_finds_its_codebook(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no file .*gone\.xlsx"):
        nba.load_task(tmp_path / "gone.xlsx")
    with pytest.raises(CodebookError, match="'Tone' has one option, 'a,b': part several by"):
        nba.Codebook.from_table(pd.DataFrame({"name": ["Tone"], "type": ["dropdown"], "options": ["a,b"]}))
    texts = pd.DataFrame({"id": ["a", "b"], "text": ["one", "two"], "Codebook_Judges": ["1", "0"]})
    questions = pd.DataFrame({"name": ["Judges"], "type": ["checkbox"]})
    with pd.ExcelWriter("mine.xlsx") as book:
        texts.to_excel(book, sheet_name="Texts", index=False)
        questions.to_excel(book, sheet_name="Codebook", index=False)
    assert nba.load_task("mine.xlsx").human("Judges") == [1, 0]
    with pd.ExcelWriter("turned.xlsx") as book:  # the codebook first, and columns called like the questions
        questions.to_excel(book, sheet_name="Codebook", index=False)
        texts.rename(columns={"Codebook_Judges": "Judges"}).to_excel(book, sheet_name="Texts", index=False)
    turned = nba.load_task("turned.xlsx")
    assert (turned.texts, turned.human("Judges")) == (["one", "two"], [1, 0])
    assert [f.name for f in nba.Codebook.from_table("turned.xlsx")] == ["Judges"]
    with pd.ExcelWriter("lonely.xlsx") as book:
        questions.to_excel(book, sheet_name="Codebook", index=False)
    with pytest.raises(TaskError, match="has no sheet besides 'Codebook'"):
        nba.load_task("lonely.xlsx")
    texts.to_csv("mine.csv", index=False)
    with pytest.raises(TaskError, match=r"needs a codebook.\n.*a codebook.json in its folder"):
        nba.load_task("mine.csv")
    nba.load_task("mine.xlsx").codebook.save(tmp_path)
    assert nba.load_task("mine.csv").human("Judges") == [1, 0]
