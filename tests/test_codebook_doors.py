"""A codebook as Markdown and from a table, what differs between two, and tasks from a table of texts."""

import builtins

import pandas as pd
import pytest

import nbannot as nba
from nbannot.errors import CodebookError, TaskError

QUESTIONS = pd.DataFrame(
    [
        ("Tone", "Judges", "checkbox", "Does it judge?", "", "", "", "", ""),
        ("", "Direction", "dropdown", "Which way?", "for", "in favour", "", "", "Judges = yes"),
        ("", "", "", "", "against", "not in favour", "", "", ""),
        ("Marks", "Force", "likert", "", "", "", "-2", "2", "Direction = for"),
        ("", "Who", "span", "", "person | party; left", "", "", "", ""),
    ],
    columns=["Section", "Question", "Type", "Guidance", "Options", "Description", "Min", "Max", "Condition"],
)


def built(**changed) -> nba.Codebook:
    options = changed.get("options", {"for": "in favour", "against": "not in favour"})
    tone = [
        nba.checkbox("Judges", "Does it judge?"),
        nba.dropdown("Direction", "Which way?", options=options, condition=("Judges", 1)),
    ]
    marks = [
        nba.likert("Force", min_value=-2, max_value=2, condition=("Direction", "for")),
        nba.span("Who", label_options=["person", "party; left"]),
    ]
    return nba.Codebook.build(text_column="text", sections={"Tone": tone, "Marks": marks})


def test_a_table_of_questions_is_the_codebook_built_by_hand(tmp_path):
    QUESTIONS.to_csv(tmp_path / "q.csv", index=False)
    assert not built().diff(nba.Codebook.from_table(QUESTIONS))
    assert nba.Codebook.from_table(tmp_path / "q.csv").hash == built().hash
    bad = QUESTIONS.assign(Type=["tick", "", "", "likert", "span"], Min=["", "", "", "low", ""])
    with pytest.raises(CodebookError, match=r"(?s)2 problems.*'tick'.*'low'"):
        nba.Codebook.from_table(bad)
    with pytest.raises(CodebookError, match="no column name, type"):
        nba.Codebook.from_table(pd.DataFrame({"a": ["x"]}))


def test_a_diff_says_what_changed_and_which_labels_it_touches():
    new = built(options={"for": "in favour", "against": "against it", "mixed": ""})
    found = {change.what: change.labels for change in built().diff(new).changes}
    assert found == {
        "has mixed as well now": ("for", "against"),
        "describes against otherwise": ("against",),
    }
    assert built().diff(new).columns == ("Tone_Direction",)
    assert repr(built().diff(built())) == "No question differs."
    gone = new.diff(built()).changes[0]
    assert (gone.what, gone.labels) == ("no longer has mixed", ("mixed",))


def test_markdown_holds_every_word_a_coder_reads():
    words = built().to_markdown()
    for line in ("## Tone", "### Direction", "Which way?", "- **for**: in favour", "*a point from -2 to 2*"):
        assert line in words.splitlines()
    assert "Asked only where Tone_Judges is 1." in words


def test_a_task_from_a_table_and_from_a_workbook(tmp_path, monkeypatch):
    pytest.importorskip("openpyxl")
    table = pd.DataFrame({"id": [1, 2], "text": ["good 😀", "bad"], "Tone_Judges": [True, None]})
    table.to_excel(tmp_path / "mine.xlsx", index=False)
    QUESTIONS.to_excel(tmp_path / "questions.xlsx", index=False)
    table.assign(Tone_Judges=["1", ""]).to_csv(tmp_path / "mine.csv", index=False)
    for name in ("mine.xlsx", "mine.csv"):
        task = nba.load_task(tmp_path / name, codebook=tmp_path / "questions.xlsx")
        assert (task.name, task.ids, task.texts) == ("mine", ["1", "2"], ["good 😀", "bad"])
        assert task.human("Judges") == [1, None]
    with pytest.raises(TaskError, match="needs a codebook"):
        nba.load_task(tmp_path / "mine.csv")
    (tmp_path / "no.xlsx").write_text("text")
    with pytest.raises(TaskError, match="cannot be read as an Excel workbook"):
        nba.load_task(tmp_path / "no.xlsx", codebook=built())
    plain = builtins.__import__

    def without(name, *more, **named):
        if name == "openpyxl":
            raise ImportError(name)
        return plain(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TaskError, match="openpyxl"):
        nba.load_task(tmp_path / "mine.xlsx", codebook=built())
