"""Data as spreadsheets, survey tools and pandas leave them: read right, or noticed in words."""

import io
import itertools

import pandas as pd
import polars as pl
import pytest

import nbannot as nba
from nbannot.errors import CodebookError, TaskError
from nbannot.study.field import INTEGER
from nbannot.study.reading import read_csv
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

BOOK = nba.Codebook.build(
    text_column="words",
    sections={
        "M": [
            nba.checkbox("Angry"),
            nba.dropdown("Side", options=["left", "right", "None"], condition=("Angry", 1)),
            nba.likert("Heat", min_value=-2, max_value=2),
            nba.span("Proof", condition=("Angry", 1)),
        ]
    },
)
LOOSE = nba.Codebook.build(text_column="words", sections={"M": [nba.checkbox("Angry"), nba.span("Proof")]})
HEAD = "id,words,M_Angry,M_Side,M_Heat\n"


def frame_of(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame(
        {"id": [f"t{i}" for i in range(n)], "words": [f"word {i}" for i in range(n)], **columns}
    )


def task_of(codebook=BOOK, **columns):
    return Task(frame_of(**columns), codebook, name="demo")


def said(task, word):
    """Return the only notice that holds a word."""
    (found,) = [line for line in task.notices if word in line]
    return found


def written(tmp_path, content, codebook=BOOK):
    codebook.save(tmp_path)
    (tmp_path / "ground-truth.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


class TestFiles:
    @pytest.mark.parametrize("mark", [";", "\t", "|"])
    def test_cells_parted_otherwise(self, tmp_path, mark):
        text = HEAD.replace(",", mark) + mark.join(["7", "one, two", "1", "left", "-1"]) + "\n"
        task = load_task(written(tmp_path, text))
        assert (task.ids, task.texts, task.human("M_Side"), task.human("M_Heat")) == (
            ["7"], ["one, two"], ["left"], [-1])  # fmt: skip

    def test_a_comma_file_stays_one_though_its_header_speaks_of_other_marks(self, tmp_path):
        text = "id,words,a;b;c;d|e,M_Angry\n1,x,q,1\n2,y;z;w;v;u,r,0\n"
        task = load_task(written(tmp_path, text))
        assert task.data.columns == ["id", "words", "a;b;c;d|e", "M_Angry"]
        assert task.texts == ["x", "y;z;w;v;u"]

    @pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
    def test_a_line_that_names_the_mark(self, tmp_path, first):
        text = f"{first}\r\nid;words\r\n1;a\r\n2;b;c\r\n"
        with pytest.raises(
            TaskError, match=r"line 4 has 3 cells, the header has 2.\n  A text with semicolons"
        ):
            load_task(written(tmp_path, text))
        assert load_task(written(tmp_path, text.replace("b;c", "b"))).texts == ["a", "b"]

    @pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-8-sig"])
    def test_a_byte_order_mark_says_the_encoding(self, tmp_path, codec):
        (tmp_path / "x.csv").write_bytes("id,words\n1,Größe 🐎\n".encode(codec))
        assert read_csv(tmp_path / "x.csv").rows() == [("1", "Größe 🐎")]

    def test_columns_without_a_name(self, tmp_path):
        (tmp_path / "x.csv").write_text("id,words,,\n1,a,, \n2,b,,\n", encoding="utf-8")
        assert read_csv(tmp_path / "x.csv").columns == ["id", "words"]
        (tmp_path / "x.csv").write_text(",id,words\n0,1,a\n", encoding="utf-8")  # pandas writes its index so
        assert read_csv(tmp_path / "x.csv").rows() == [("0", "1", "a")]
        (tmp_path / "x.csv").write_text(",words,\n0,a,1\n", encoding="utf-8")
        with pytest.raises(TaskError, match="2 columns without a name"):
            read_csv(tmp_path / "x.csv")

    @pytest.mark.parametrize(
        ("cell", "value"), [("−2", -2), ("+1", 1), ("2.0", 2), ("1,0", 1), ("-2,00", -2), (" 0 ", 0)]
    )
    def test_whole_numbers_as_spreadsheets_write_them(self, cell, value):
        assert task_of(M_Heat=[cell]).human("M_Heat") == [value]

    @pytest.mark.parametrize("cell", ["1,5", "2,000", "1.5", "--1", "− 1"])
    def test_what_is_no_whole_number_is_refused(self, cell):
        assert not INTEGER.fullmatch(cell)
        with pytest.raises(TaskError, match="must be an integer from -2 to 2"):
            task_of(M_Heat=[cell])

    def test_bytes_are_no_text(self):
        with pytest.raises(TaskError, match="column 'words' holds what is no text: bytes"):
            Task(pl.DataFrame({"words": [b"a"]}), BOOK)

    @pytest.mark.parametrize("source", ["x" * 5000, "a\0b", "~nobody-of-this-name/x", "d/" * 3000])
    def test_paths_that_no_file_can_have(self, source):
        for what, error in (
            (load_task, TaskError),
            (nba.Codebook.load, CodebookError),
            (read_csv, TaskError),
        ):
            with pytest.raises(error) as caught:
                what(source)
            assert len(str(caught.value)) < 500

    @pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "9" * 6000 + "}", '{"a": NaN', "", "\x00"])
    def test_json_of_any_shape_gets_a_letter(self, tmp_path, content):
        (tmp_path / "codebook.json").write_text(content, encoding="utf-8")
        with pytest.raises(CodebookError, match="is not JSON"):
            nba.Codebook.load(tmp_path)


class TestForeignLines:
    IDS = '{"ImportId":"QID1"}', "{'ImportId': 'QID2_TEXT'}"

    def test_header_lines_of_qualtrics_are_no_texts(self, tmp_path):
        frame = pd.DataFrame({"ResponseId": ["Response ID", self.IDS[0], "R_1", "R_2"],
                              "words": ["What do you think?", self.IDS[1], "good", "bad"],
                              "M_Angry": ["Is it?", '{"ImportId":"QID3"}', "1", "0"]})  # fmt: skip
        text = io.StringIO()
        frame.to_csv(text, index=False)
        tasks = [Task(frame, BOOK, name="q"), Task(pl.DataFrame(frame.to_dict("list")), BOOK, name="q"),
                 load_task(written(tmp_path, text.getvalue()))]  # fmt: skip
        for task in tasks:
            assert (task.texts, task.human("M_Angry"), task.rows) == (["good", "bad"], [1, 0], (2, 3))
            assert said(task, "Qualtrics").startswith("The first 2 rows are the header of a Qualtrics export")
            assert task.select(limit=1).notices[0] == task.notices[0]
        assert Task(frame[1:], BOOK, name="q").rows == (1, 2)
        with pytest.raises(TaskError, match="the data has no rows"):
            Task(frame[:2], BOOK)

    def test_a_text_that_speaks_of_an_import_id_is_a_text(self):
        task = Task(
            pd.DataFrame({"words": [self.IDS[0], "b"], "n": ["1", "2"], "m": ["x", "y"]}), BOOK, name="q"
        )
        assert len(task) == 2

    def test_the_header_again_and_empty_rows(self):
        frame = pd.DataFrame({"id": ["a", "id", "b", None, ""], "words": ["x", "words", "y", " ", None]})
        task = Task(frame, LOOSE, name="q")
        assert (task.ids, task.id_source, task.rows) == (["a", "b"], "id", (0, 2))
        assert "1 row is the header again" in task.notices[0]
        assert "2 rows are empty in every cell" in task.notices[1]

    def test_a_run_on_such_data_is_found_again(self, tmp_path):
        ids = ",".join(f'"{{""ImportId"":""{name}""}}"' for name in "abc")
        (tmp_path / "survey").mkdir()
        text = f"id,words,M_Angry\nId,Question?,Angry?\n{ids}\n1,good,1\n2,bad,0\n"
        place = written(tmp_path / "survey", text, LOOSE)
        run = nba.run(str(place), model="mock", output_root=str(tmp_path / "out"))
        assert nba.load_run(run.folder).task.human("M_Angry") == [1, 0]
        (place / "ground-truth.csv").unlink()
        assert nba.load_run(run.folder).task.human("M_Angry") == [1, 0]


class TestIds:
    def test_an_id_column_is_never_left_aside_in_silence(self):
        frame = frame_of(M_Heat=["1"] * 4)
        for ids, what in ((["a", "a", "b", "c"], "1 repeated: 'a'"), (["a", "b", None, "c"], "1 blank"),
                          (["a", "a", "", ""], "2 blank and 1 repeated: 'a'")):  # fmt: skip
            task = Task(frame.assign(id=ids), BOOK, name="demo")
            assert task.id_source == "text"
            assert f"The column 'id' does not identify the texts: {what}." in said(task, "'id'")
            assert said(task.select(limit=2), "'id'") == said(task, "'id'")

    def test_documents_with_many_sentences_are_meant_so(self):
        frame = frame_of(M_Heat=["1"] * 20).assign(doc_id=["d1"] * 10 + ["d2"] * 10)
        task = Task(frame, BOOK, name="demo")
        assert (task.id_source, [n for n in task.notices if "doc_id" in n]) == ("id", [])
        nearly = frame.assign(doc_id=["d0", "d0", *(f"d{i}" for i in range(18))])
        assert "'id' is used instead" in said(Task(nearly, BOOK, name="demo"), "doc_id")


class TestNotices:
    def test_boxes_that_were_only_ticked(self):
        task = task_of(M_Angry=["1", "", "1", None, ""])
        assert "In 'M_Angry' every coded text has a 1 and the others are blank (3)" in said(
            task, "not ticked"
        )
        assert not task_of(M_Angry=["1", "0", None]).notices
        assert not task_of(M_Angry=["1", "1"]).notices

    def test_marks_and_nothing(self):
        mark = '[{"start": 0, "end": 4, "text": "word"}]'
        assert "(2), not []" in said(task_of(LOOSE, M_Proof=[mark, "", None]), "'M_Proof'")
        assert not task_of(LOOSE, M_Proof=[mark, "[]", ""]).notices

    def test_options_that_pandas_eats(self):
        text = "id,words,M_Angry,M_Side\n" + "".join(
            f"{i},w{i},1,{'None' if i % 2 else 'left'}\n" for i in range(6)
        )
        eaten = Task(pd.read_csv(io.StringIO(text), dtype=str), BOOK, name="demo")
        assert "no text has the option 'None', and 3 cells are blank" in said(eaten, "keep_default_na=False")
        whole = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        assert not Task(whole, BOOK, name="demo").notices

    def test_a_label_where_the_question_does_not_apply(self):
        task = task_of(M_Angry=["0", "1", "0", ""], M_Side=["left", "right", "", "left"])
        line = said(task, "does not apply")
        assert line.startswith("M_Side: 1 text has a label although 'M_Angry' says")
        assert "(t0)" in line

    def test_a_second_header_line_of_another_tool_is_asked_about(self):
        frame = pd.DataFrame({"words": ["Open-Ended Response", "fine"]})
        assert "'Open-Ended Response': a second header line" in Task(frame, LOOSE, name="q").notices[0]


class TestBlankMeansNo:
    def test_boxes_and_passages(self):
        mark = '[{"start": 0, "end": 4, "text": "word"}]'
        columns = {"M_Angry": ["x", "", "Angry", "1"], "M_Proof": [mark, "", "", "[]"]}
        with pytest.raises(TaskError, match=r"'Angry' must be 1 or 0 .*blank_means_no=\['M_Angry'\]"):
            task_of(LOOSE, **columns)
        task = Task(frame_of(**columns), LOOSE, name="demo", blank_means_no=True)
        assert task.human("M_Angry") == [1, 0, 1, 1]
        assert [len(value) for value in task.human("M_Proof")] == [1, 0, 0, 0]
        assert "1 in 'M_Angry', 2 in 'M_Proof'" in said(task, "asked for")
        assert task.select(limit=2).human("M_Angry") == [1, 0]

    def test_a_question_that_did_not_apply_stays_without_a_label(self):
        columns = {"M_Angry": ["1", "", "0", "1"], "M_Proof": ["", "", "", "[]"]}
        named = Task(frame_of(**columns), BOOK, name="demo", blank_means_no="Proof")
        assert (named.human("M_Angry"), named.human("M_Proof")) == ([1, None, 0, 1], [[], None, None, []])
        every = Task(frame_of(**columns), BOOK, name="demo", blank_means_no=True)
        assert (every.human("M_Angry"), every.human("M_Proof")) == ([1, 0, 0, 1], [[], None, None, []])

    def test_only_fields_that_can_say_no(self):
        with pytest.raises(
            TaskError, match="blank_means_no names 'Sides', which is no checkbox, multiselect or span field"
        ):
            Task(frame_of(M_Heat=["1"]), BOOK, name="demo", blank_means_no=["Angry", "Sides"])

    def test_a_run_keeps_what_was_meant(self, tmp_path):
        book = nba.Codebook.build(text_column="words", sections={"M": [nba.checkbox("Angry")]})
        text = "id,words,M_Angry\n" + "".join(f"{i},w {i},{'1' if i % 3 == 0 else ''}\n" for i in range(9))
        (tmp_path / "ticks").mkdir()
        task = load_task(written(tmp_path / "ticks", text, book), blank_means_no=True)
        run = nba.run(task, model="mock/constant", output_root=str(tmp_path / "out"))
        assert run.task.human("M_Angry").count(0) == 6
        again = nba.load_run(run.folder)
        assert again.task.human("M_Angry") == task.human("M_Angry")
        # As text: no number equals what is not a number.
        assert repr(again.scores.fields["M_Angry"].results) == repr(run.scores.fields["M_Angry"].results)


PARTS = ["---", "Text: a", "Response: b", 'Response: {"response": "bad"}', '"', 'say "x"', "words", ""]


def test_a_worked_example_comes_back_as_it_was_or_is_refused():
    refused = 0
    for lines in itertools.chain.from_iterable(itertools.product(PARTS, repeat=n) for n in (1, 2, 3)):
        text = "\n".join(lines)
        if text != text.strip() or not text:
            continue
        given = [(text, "good"), ("short", "bad"), (text, "bad")]
        try:
            question = nba.dropdown("Tone", options=["good", "bad"], examples=given)
        except CodebookError:
            refused += 1
            continue
        field = next(iter(nba.Codebook.build(text_column="t", sections={"S": [question]})))
        assert [(e.text, e.response) for e in field.examples] == given
    assert refused < 10  # a closing quotation mark, a response and a line of dashes, all inside one text


def test_chains_of_hundreds_of_conditions_are_read_ordered_and_applied():
    n = 500
    questions = [
        nba.checkbox("Q0"),
        *(nba.checkbox(f"Q{i}", condition=(f"Q{i - 1}", 1)) for i in range(1, n)),
    ]
    book = nba.Codebook.build(text_column="words", sections={"S": list(reversed(questions))})
    assert [f.name for f in book.in_order] == [f"Q{i}" for i in range(n)]
    assert book.depth(book[f"Q{n - 1}"]) == n - 1
    values = {f"S_Q{i}": 1 for i in range(n)}
    assert book.applies(book[f"Q{n - 1}"], values)
    assert not book.applies(book[f"Q{n - 1}"], {**values, "S_Q3": 0})
    frame = frame_of(**{f"S_Q{i}": ["1", "1" if i < 400 else "", "0" if i == 5 else "1"] for i in range(n)})
    task = Task(frame, book, name="deep")
    assert task.human_applies("S_Q499") == [True, True, False]
    assert task.human_applies("S_Q5") == [True, True, True]
    assert len([n for n in task.notices if "does not apply" in n]) == 494
    circle = [nba.checkbox("A", condition=("C", 1)), nba.checkbox("B", condition=("A", 1)),
              nba.checkbox("C", condition=("B", 1)), nba.checkbox("D", condition=("A", 1))]  # fmt: skip
    with pytest.raises(CodebookError) as caught:
        nba.Codebook.build(text_column="words", sections={"S": circle})
    assert str(caught.value).count("conditions go in a circle") == 1
