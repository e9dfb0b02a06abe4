"""Tasks: every cell as it was written, ids that last, human labels by the codebook, and what is refused and why."""

# ruff: noqa: E501 (messages are written as people read them)

import csv
import datetime
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import GATE, codebook_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import CodebookError, TaskError
from nbannot.study.codebook import Codebook
from nbannot.study.questions import checkbox, dropdown, likert, span, textbox
from nbannot.study.reading import read_csv
from nbannot.study.spans import make_span
from nbannot.study.task import Task
from nbannot.study.task_sources import bundled_tasks, load_task

DATA = Path(__file__).parent / "data"
SETS = sorted(
    path.parent for path in DATA.rglob("ground-truth.csv") if (path.parent / "codebook.json").exists()
)

CODEBOOK = Codebook.build(
    text_column="text",
    sections={
        "S": [
            checkbox("C"),
            dropdown("D", options=["None", "NA", "null", "No", "1"], condition=("C", 1)),
            likert("L", min_value=1, max_value=5, condition=("D", "No")),
            textbox("T"),
            span("P", label_options=["x"]),
        ]
    },
)
SIMPLE = Codebook.build(text_column="text", sections={"S": [checkbox("C")]})


def task_of(codebook=CODEBOOK, *, name="task", id_column=None, outside_labels="error", **columns):
    return Task(pl.DataFrame(columns), codebook, name, id_column, outside_labels)


def refusal(what, *args, **more):
    with pytest.raises(TaskError) as caught:
        what(*args, **more)
    return str(caught.value)


def folder_with(tmp_path, content, codebook=CODEBOOK):
    codebook.save(tmp_path)
    (tmp_path / "ground-truth.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def csv_of(rows):
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue()


class TestReadCsv:
    def read(self, tmp_path, content, **more):
        path = tmp_path / "a.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_csv(path, **more)

    def test_every_cell_stays_the_text_it_was(self, tmp_path):
        cells = [
            "None",
            "NA",
            "null",
            "No",
            "1",
            "1.0",
            "007",
            "nan",
            "",
            " ",
            " a ",
            "true",
            "1e5",
            "2024-01-01",
        ]
        frame = self.read(tmp_path, "id,v\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells)))
        assert frame["v"].to_list() == cells
        assert set(frame.dtypes) == {pl.String}

    @given(
        st.lists(
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=2),
            min_size=1,
            max_size=8,
        )
    )
    @settings(max_examples=60)
    def test_whatever_a_csv_writer_writes_is_read_back(self, tmp_path_factory, rows):
        frame = self.read(tmp_path_factory.mktemp("csv"), csv_of([["a", "b"], *rows]))
        assert frame.rows() == [tuple(row) for row in rows]

    def test_line_breaks_in_quoted_cells_are_kept_as_they_are(self, tmp_path):
        frame = self.read(tmp_path, b'text,v\r\n"one\r\ntwo\nthree\rfour",x\r\n')
        assert frame.rows() == [("one\r\ntwo\nthree\rfour", "x")]

    @pytest.mark.parametrize(
        "content",
        [
            b"text,v\na,1\n",
            b"text,v\r\na,1\r\n",
            b"text,v\ra,1\r",
            b"text,v\na,1",
            b"\n\ntext,v\n\na,1\n\n",
            b"\xef\xbb\xbftext,v\na,1\n",
        ],
    )
    def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(self, tmp_path, content):
        frame = self.read(tmp_path, content)
        assert (frame.columns, frame.rows()) == (["text", "v"], [("a", "1")])

    @pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf_8", "utf-8-sig"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_utf8_by_any_name_with_or_without_mark(self, tmp_path, encoding, mark):
        assert self.read(tmp_path, mark + "text\nGröße 🐎\n".encode(), encoding=encoding).rows() == [
            ("Größe 🐎",)
        ]

    def test_utf_16_without_its_mark_is_known_by_its_zeros(self, tmp_path):
        for codec in ("utf-16-le", "utf-16-be"):
            assert self.read(tmp_path, "id,text\nä,Größe 🐎\n".encode(codec)).rows() == [("ä", "Größe 🐎")]

    @pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le"])
    def test_another_encoding_that_is_named(self, tmp_path, encoding):
        content = 'text,v\n"Größe,\r\nMaß",1\n'.encode(encoding)
        assert self.read(tmp_path, content, encoding=encoding).rows() == [("Größe,\r\nMaß", "1")]

    def test_more_rows_than_one_piece_holds(self, tmp_path):
        frame = self.read(tmp_path, "text,n\n" + "".join(f"t,{i}\n" for i in range(100_001)))
        assert frame["n"].to_list() == [str(i) for i in range(100_001)]

    @pytest.mark.parametrize(
        ("content", "letter"),
        [
            (b"", "{p} is empty.\n  It needs a header line and one line per text."),
            (b"\xef\xbb\xbf\r\n\r\n", "{p} is empty.\n  It needs a header line and one line per text."),
            (b"  \n", "{p} is empty.\n  It needs a header line and one line per text."),
            (b"text,v\n", "{p} has a header but no texts.\n  It needs one line per text below the header."),
            (b"text,v", "{p} has a header but no texts.\n  It needs one line per text below the header."),
            (
                b"text,v\na,1\nb, c,1\n",
                "{p}: line 3 has 3 cells, the header has 2.\n  A text with commas or line breaks must stand in double quotes.",
            ),
            (
                b'text,v\n"a\nb",1\nc\n',
                "{p}: line 4 has 1 cells, the header has 2.\n  A text with commas or line breaks must stand in double quotes.",
            ),
            (
                b"text,v,text\na,1,b\n",
                "{p}: the header has 'text' more than once.\n  Give each column its own name.",
            ),
            (
                b"text;v\na;1\n",
                "{p}: the header has one column, 'text;v'; its cells seem to be separated by ';'.\n  Save it with commas between the cells, or read it with pandas and pass the frame to nba.Task:\n  frame = pd.read_csv('{p}', sep=';', dtype=str)",
            ),
            (
                b'text,v\n"a,1\n',
                '{p}: line 2 is not CSV: unexpected end of data.\n  A cell with quotes stands in double quotes, and each quote in it is doubled: "say ""yes""".',
            ),
            (
                b'text,v\n"a" b,1\n',
                '{p}: line 2 is not CSV: \',\' expected after \'"\'.\n  A cell with quotes stands in double quotes, and each quote in it is doubled: "say ""yes""".',
            ),
            (
                b"text,v\na,1\nGr\xf6\xdfe,1\n",
                '{p} is not utf-8: byte 0xf6 in line 3.\n  Save it as UTF-8, or say what it is: load_task(..., encoding="cp1252").',
            ),
        ],
    )
    def test_files_that_are_no_table_say_where_and_what_to_do(self, tmp_path, content, letter):
        assert refusal(self.read, tmp_path, content) == letter.format(p=tmp_path / "a.csv")

    def test_a_wrong_byte_far_down_is_found_at_its_line(self, tmp_path):
        content = b"text,v\n" + b"a,1\n" * 60_000 + b"\x80,1\n"
        assert "byte 0x80 in line 60002" in refusal(self.read, tmp_path, content)

    def test_an_encoding_that_does_not_fit_or_exist(self, tmp_path):
        assert refusal(self.read, tmp_path, b"text\na\n", encoding="utf-16").startswith(
            f"{tmp_path / 'a.csv'} is not utf-16: "
        )
        assert (
            refusal(self.read, tmp_path, b"text\na\n", encoding="utf-9")
            == "unknown encoding 'utf-9'.\n  Try 'utf-8', 'cp1252' or 'latin-1'."
        )

    def test_no_file_and_no_file_to_read(self, tmp_path):
        assert (
            refusal(read_csv, tmp_path / "b.csv") == f"no file {tmp_path / 'b.csv'}.\n  Look at the spelling."
        )
        (tmp_path / "anna.csv").write_text("text\na\n")
        assert refusal(read_csv, tmp_path / "ana.csv").startswith(
            f"no file {tmp_path / 'ana.csv'}; did you mean 'anna.csv'?"
        )
        assert refusal(read_csv, tmp_path) == f"{tmp_path} cannot be read: Is a directory."


class TestFrames:
    """pandas and polars bring types; a task holds the text that each value stands for."""

    def test_what_pandas_makes_of_label_columns(self):
        spans = [{"start": 0, "end": 1, "text": "a", "label": "x"}]
        frame = pd.DataFrame(
            {
                "text": ["a", "b", "c"],
                "S_C": pd.array([True, False, None], dtype="boolean"),
                "S_D": pd.Categorical(["No", None, "1"]),
                "S_L": [3.0, np.nan, 5.0],
                "S_T": ["said", None, np.nan],
                "S_P": [spans, [], None],
            }
        )
        task = Task(frame, CODEBOOK)
        assert task.human("C") == [1, 0, None]
        assert task.human("D") == ["No", None, "1"]
        assert task.human("L") == [3, None, 5]
        assert all(type(v) is int for v in task.human("C")[:2] + task.human("L")[::2])
        assert task.human("T") == ["said", None, None]
        assert task.human("P") == [[make_span("a", 0, 1, "x")], [], None]

    @pytest.mark.parametrize(
        "column",
        [
            pd.array([1, None, 5], dtype="Int64"),
            pd.array([1, None, 5], dtype="Float64"),
            np.array([1, np.nan, 5], dtype="float32"),
            pd.array([1, None, 5], dtype=object),
            pd.array([np.int16(1), np.nan, np.float32(5)], dtype=object),
            pd.array(["1", None, "5.0"], dtype="string"),
            pd.array(["1", "", " 5 "], dtype=object),
            pd.Categorical([1, None, 5]),
        ],
        ids=lambda c: str(getattr(c, "dtype", "")),
    )
    def test_a_scale_in_any_pandas_dress(self, column):
        assert Task(pd.DataFrame({"text": list("abc"), "S_L": column}), CODEBOOK).human("L") == [1, None, 5]

    @pytest.mark.parametrize(
        "column",
        [
            pl.Series([1, None, 5], dtype=pl.Int8),
            pl.Series([1, None, 5], dtype=pl.UInt64),
            pl.Series([1.0, None, 5.0], dtype=pl.Float32),
            pl.Series([1.0, float("nan"), 5.0]),
            pl.Series(["1", None, "5"]),
            pl.Series(["1", None, "5"], dtype=pl.Categorical),
            pl.Series(["1", None, "5"], dtype=pl.Enum(["1", "5"])),
            pl.Series([1, None, 5], dtype=pl.Object),
        ],
        ids=lambda c: str(c.dtype),
    )
    def test_a_scale_in_any_polars_dress(self, column):
        frame = pl.DataFrame({"text": list("abc")}).with_columns(column.alias("S_L"))
        assert Task(frame, CODEBOOK).human("L") == [1, None, 5]

    def test_polars_booleans_and_structs(self):
        spans = [{"start": 0, "end": 1, "text": "a", "label": "x"}]
        task = task_of(text=["a", "b", "c"], S_C=[True, False, None], S_P=[spans, [], None])
        assert task.human("C") == [1, 0, None]
        assert task.human("P") == [[make_span("a", 0, 1, "x")], [], None]

    def test_span_lists_as_numpy_arrays(self):
        spans = np.array(
            [{"start": np.int64(0), "end": np.int64(1), "text": "a", "label": "x"}], dtype=object
        )
        column = pd.Series([spans, np.array([], dtype=object)], dtype=object)
        task = Task(pd.DataFrame({"text": ["a", "b"], "S_P": column}), CODEBOOK)
        assert task.human("P") == [[make_span("a", 0, 1, "x")], []]

    def test_metadata_are_kept_as_their_text(self):
        day = datetime.datetime(2024, 5, 1, 12, 30)
        columns = {
            "text": ["a", "b"],
            "when": [day, None],
            "day": [day.date(), None],
            "yes": [True, False],
            "share": [0.25, float("inf")],
            "big": [2**62 + 1, -1],
            "tags": [["x", "ü"], []],
        }
        want = {
            "text": ["a", "b"],
            "when": ["2024-05-01 12:30:00", ""],
            "day": ["2024-05-01", ""],
            "yes": ["True", "False"],
            "share": ["0.25", "inf"],
            "big": ["4611686018427387905", "-1"],
            "tags": ['["x", "ü"]', "[]"],
        }
        for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
            task = Task(frame, SIMPLE)
            assert task.to_polars().to_dict(as_series=False) == want
            assert task.other_columns == list(columns)
            assert task.to_pandas().to_dict("list") == want

    def test_texts_that_look_like_nothing_are_texts(self):
        texts = ["nan", "None", "NaT", "<NA>", ""]
        assert Task(pd.DataFrame({"text": texts}), SIMPLE).texts == texts
        assert task_of(SIMPLE, text=texts).texts == texts

    def test_a_named_index_is_a_column_and_an_unnamed_one_is_not(self):
        frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index([7, 8], name="sample_id"))
        assert Task(frame, SIMPLE).ids == ["7", "8"]
        assert Task(frame.rename_axis(None), SIMPLE).other_columns == ["text"]
        assert Task(frame.assign(sample_id=[1, 2]), SIMPLE).ids == ["1", "2"]

    def test_the_frame_of_the_caller_is_left_alone(self):
        frame = pd.DataFrame({"text": ["a"], "S_C": [True]})
        before = frame.copy()
        Task(frame, SIMPLE)
        pd.testing.assert_frame_equal(frame, before)

    @pytest.mark.parametrize(
        ("data", "letter"),
        [
            (
                ["a"],
                'data must be a pandas or polars DataFrame. Got list.\n  A file is read with load_task("folder"), a list of texts with Task(pandas.DataFrame({"text": texts}), …).',
            ),
            (pd.DataFrame({"text": []}), "the data has no rows.\n  It needs one row per text."),
            (pl.DataFrame({"text": []}), "the data has no rows.\n  It needs one row per text."),
            (
                pd.DataFrame([["a", "b"]], columns=["text", "text"]),
                "the data has the column 'text' more than once.\n  Give each column its own name.",
            ),
            (
                pd.DataFrame([["a", "b", "c"]], columns=["text", 1, "1"]),
                "the data has the column '1' more than once.\n  Give each column its own name.",
            ),
            (
                pd.DataFrame({"txt": ["a"], "v": ["b"]}),
                "the data has no column 'text' (the codebook's text_column); did you mean 'txt'?\n  Its columns: txt, v.",
            ),
            (
                pl.DataFrame({"a": ["a"]}),
                "the data has no column 'text' (the codebook's text_column).\n  Its columns: a.",
            ),
            (
                pd.DataFrame({"text": pd.Series(["ok", "a\ud83d"], dtype=object)}),
                "column 'text', row 2: half a character ('a\\ud83d').\n  The text was cut inside an emoji, or read in a wrong encoding: read it again.",
            ),
        ],
        ids=["list", "pandas empty", "polars empty", "twice", "twice as text", "near", "far", "half"],
    )
    def test_data_that_cannot_be_used(self, data, letter):
        assert refusal(Task, data, SIMPLE) == letter

    def test_the_codebook_may_be_a_dictionary_or_a_path(self, tmp_path):
        frame = pd.DataFrame({"text": ["a"], "S_C": [1]})
        path = SIMPLE.save(tmp_path)
        assert Task(frame, SIMPLE.to_dict()).codebook == Task(frame, path).codebook == SIMPLE

    @pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a:b"])
    def test_a_name_that_is_no_folder_name(self, name):
        assert (
            refusal(task_of, SIMPLE, name=name, text=["a"])
            == f"a task's name is used as a folder name. Got {name!r}.\n  Use letters, digits, - and _."
        )


class TestIds:
    def test_the_first_of_the_known_columns_that_is_unique(self):
        task = task_of(SIMPLE, text=["a", "b"], id=["1", "2"], doc_id=["x", "x"], text_id=["p", "q"])
        assert (task.ids, task.id_source) == (["p", "q"], "text_id")

    @pytest.mark.parametrize("ids", [["1", "1"], ["1", ""], ["1", " "]])
    def test_a_known_column_that_is_not_unique_is_passed_over(self, ids):
        task = task_of(SIMPLE, text=["a", "b"], id=ids)
        assert task.id_source == "text"

    def test_the_codebook_names_it_and_the_caller_overrules(self):
        named = Codebook.from_dict({**SIMPLE.to_dict(), "id_column": "key"})
        columns = {"text": ["a", "b"], "key": [1, 2], "other": ["p", "q"], "id": ["8", "9"]}
        assert task_of(named, **columns).ids == ["1", "2"]
        assert task_of(named, id_column="other", **columns).ids == ["p", "q"]

    def test_ids_that_pandas_made_floats_are_integers_again(self):
        assert Task(pd.DataFrame({"text": ["a", "b"], "id": [1.0, 2.0]}), SIMPLE).ids == ["1", "2"]

    def test_ids_from_the_texts_are_stable_and_count_repeats(self):
        task = task_of(SIMPLE, text=["a", "b", "a"])
        assert task.ids == ["ca978112ca1b-1", "3e23e8160039-1", "ca978112ca1b-2"]  # sha256 of a, b, a
        assert task.id_source == "text"

    @given(st.lists(st.sampled_from(["a", "b", "a ", ""]), min_size=1, max_size=12))
    def test_ids_are_unique_and_a_text_keeps_its_id_when_others_are_added(self, texts):
        ids = task_of(SIMPLE, text=texts).ids
        assert len(set(ids)) == len(texts)
        assert task_of(SIMPLE, text=[*texts, "c"]).ids[:-1] == ids
        assert sorted(task_of(SIMPLE, text=texts[::-1]).ids) == sorted(ids)

    def test_the_text_column_may_identify(self):
        assert task_of(SIMPLE, id_column="text", text=["a", "b"]).ids == ["a", "b"]

    def test_a_label_column_never_identifies(self):
        codebook = Codebook.build(text_column="text", sections={"sample": [textbox("id")]})
        columns = {"text": ["a", "b"], "sample_id": ["p", "q"]}
        assert task_of(codebook, **columns).id_source == "text"
        assert (
            refusal(task_of, codebook, id_column="sample_id", **columns)
            == "'sample_id' holds the labels of a field and cannot identify texts.\n  Name another id_column."
        )

    def test_ids_that_repeat_or_are_missing_are_refused(self):
        assert refusal(task_of, SIMPLE, id_column="key", text=list("abcd"), key=["1", "1", "", "2"]) == (
            "ids in column 'key' must be unique and not blank. Got 1 blank and 1 repeated: '1'.\n"
            "  Labels are joined by id: give every text its own, or name another id_column."
        )
        assert refusal(task_of, SIMPLE, id_column="kex", text=["a"], key=["1"]) == (
            "the data has no column 'kex' (the id_column); did you mean 'key'?\n  Its columns: text, key."
        )


class TestHuman:
    def test_values_by_column_or_name_in_row_order(self):
        task = task_of(
            text=["a", "b", "c"],
            S_C=["yes", "0", ""],
            S_D=["None", "NA", "null"],
            S_L=["5", "", "1.0"],
            S_T=[" x ", "", " "],
            S_P=["[]", "", '[{"text": "c", "label": "x"}]'],
        )
        assert task.human("S_C") == task.human("C") == [1, 0, None]
        assert task.human("D") == ["None", "NA", "null"]
        assert task.human("L") == [5, None, 1]
        assert task.human("T") == [" x ", None, None]
        assert task.human("P") == [[], None, [make_span("c", 0, 1, "x")]]
        assert task.label_columns == ["S_C", "S_D", "S_L", "S_T", "S_P"]
        assert (task.other_columns, task.has_human_labels, task.repaired_spans) == (["text"], True, 1)

    def test_columns_in_any_order_give_codebook_order(self):
        task = task_of(S_L=["1"], meta=["m"], S_C=["1"], text=["a"])
        assert (task.label_columns, task.other_columns) == (["S_C", "S_L"], ["meta", "text"])

    def test_without_human_labels(self):
        task = task_of(text=["a", "b"])
        assert (task.label_columns, task.has_human_labels, task.repaired_spans) == ([], False, 0)
        assert task.human("C") == [None, None]
        assert task.human_applies("L") == [True, True]
        assert not task_of(text=["a"], S_C=[""]).has_human_labels

    def test_a_misspelled_field_is_the_error_of_the_codebook(self):
        with pytest.raises(CodebookError, match=r"the codebook has no field 'S_K'; did you mean 'S_\w'\?"):
            task_of(text=["a"]).human("S_K")

    def test_what_is_handed_out_can_be_changed_without_harm(self):
        task = task_of(text=["a"], S_C=["1"])
        task.human("C").append("spoilt")
        assert task.human("C") == [1]

    def test_fields_apply_by_the_human_labels_of_their_parents(self):
        # D hangs on C = 1, L hangs on D = No
        task = task_of(
            text=list("abcdef"),
            S_C=["1", "1", "0", "0", "", ""],
            S_D=["No", "NA", "No", "", "No", ""],
        )
        assert task.human_applies("C") == [True] * 6
        assert task.human_applies("D") == [True, True, False, False, True, True]
        assert task.human_applies("L") == [True, False, False, False, True, True]

    def outside(self):
        return {
            "text": list("abcdef"),
            "id": list("123456"),
            "S_C": ["1", "2", "2", "", "2", "2"],
            "S_D": ["None", "none", "NULL", "nO", "", "1"],
            "S_L": ["1", "6", "", "2.5", "", ""],
            "S_P": ['[{"text": "a", "label": "x"}]'] * 2 + ["[]", "", "{", '[{"text": "f"}]'],
        }

    def test_labels_outside_the_codebook_are_listed_with_their_texts(self):
        assert (
            refusal(task_of, name="mine", **self.outside())
            == """\
human labels of task 'mine' are outside the codebook: 9 problems.
  S_C: '2' must be 1 or 0 (or true/false, yes/no); 4 texts 2, 3, 5 and 1 more
  S_D: 'none' must be one of None, NA, null, No, 1; did you mean 'None'?; text 2
  S_D: 'NULL' must be one of None, NA, null, No, 1; text 3
  S_D: 'nO' must be one of None, NA, null, No, 1; text 4
  S_L: '6' must be an integer from 1 to 5; text 2
  S_L: '2.5' must be an integer from 1 to 5; text 4
  S_P: '[{"text": "a", "label": "x"}]' the quote 'a' is not in the text; text 2
  S_P: '{' is not JSON (Expecting property name enclosed in double quotes); text 5
  S_P: '[{"text": "f"}]' label None is not one of x; text 6
  Correct them, or pass outside_labels="not_coded" to treat them as not coded."""
        )

    def test_the_switch_treats_them_as_not_coded_and_keeps_the_others(self):
        task = task_of(outside_labels="not_coded", **self.outside())
        assert task.human("C") == [1, None, None, None, None, None]
        assert task.human("D") == ["None", None, None, None, None, "1"]
        assert task.human("L") == [1, None, None, None, None, None]
        assert task.human("P") == [[make_span("a", 0, 1, "x")], None, [], None, None, None]
        (told,) = [notice for notice in task.notices if "outside the codebook" in notice]
        assert "count as not coded, as asked for: " in told
        assert "2 in 'S_L' ('6', '2.5')" in told, "a label that vanishes is told, or its class is gone unseen"
        assert "1 in 'S_L' ('6')" in " ".join(task.select(ids=["2"]).notices)

    def test_thousands_of_different_wrong_labels_are_cut_with_a_count(self):
        rows = 20_000
        letter = refusal(task_of, text=["a"] * rows, S_L=[f"wrong {i}" for i in range(rows)])
        assert len(letter.splitlines()) == 1 + 12 + 1 + 1
        assert letter.splitlines()[-2] == "  and 19988 more"

    def test_a_switch_that_does_not_exist(self):
        assert (
            refusal(task_of, outside_labels="ignore", text=["a"])
            == "outside_labels must be 'error' or 'not_coded'. Got 'ignore'."
        )


class TestSelect:
    def task(self):
        return task_of(
            text=["a", "b", "a", "c", "a"],
            S_C=["1", "0", "1", "", "0"],
            S_P=['[{"text": "a", "label": "x"}]', "", "", "", "[]"],
        )

    def test_ids_from_texts_stay_what_they_were(self):
        task = self.task()
        some = task.select(ids=[task.ids[4], task.ids[2]])
        assert some.ids == [task.ids[2], task.ids[4]]  # in input order
        assert (some.texts, some.human("C"), some.rows, some.id_source) == (
            ["a", "a"],
            [1, 0],
            (2, 4),
            "text",
        )

    def test_the_rows_of_a_selection_of_a_selection_are_those_of_the_data(self):
        task = self.task()
        twice = task.select(ids=task.ids[1:]).select(ids=[task.ids[4]])
        assert (twice.rows, twice.ids, twice.human("C")) == ((4,), [task.ids[4]], [0])

    def test_human_labels_and_repairs_are_those_of_the_selection(self):
        task = self.task()
        assert task.repaired_spans == 1
        assert task.select(limit=1).human("P") == [[make_span("a", 0, 1, "x")]]
        assert task.select(ids=task.ids[1:]).repaired_spans == 0

    def test_a_limit(self):
        task = self.task()
        assert task.select(limit=2).ids == task.ids[:2]
        assert task.select(limit=99).ids == task.ids
        assert (len(task.select(limit=0)), task.select(limit=0).human("C")) == (0, [])
        assert task.select() is task

    def test_the_two_halves_are_disjoint_complete_and_fixed_by_the_id(self):
        ids = [f"t{i}" for i in range(400)]
        task = task_of(SIMPLE, text=["a"] * 400, id=ids)
        dev, test = task.select(split="dev"), task.select(split="test")
        assert set(dev.ids) | set(test.ids) == set(ids)
        assert not set(dev.ids) & set(test.ids)
        assert len(dev) == len(test) == 200
        sizes = [len(task_of(SIMPLE, text=["a"] * n, id=ids[:n]).select(split="test")) for n in (1, 2, 63)]
        assert sizes == [0, 1, 31]
        turned = task_of(SIMPLE, text=["a"] * 400, id=ids[::-1])
        assert set(turned.select(split="dev").ids) == set(dev.ids)
        assert task.select(split="dev", limit=3).ids == dev.ids[:3]
        assert task.select(ids=ids[:50], split="dev").ids == [i for i in ids[:50] if i in set(dev.ids)]

    def test_numbers_are_ids_too(self):
        task = task_of(SIMPLE, text=["a", "b"], id=[10, 11])
        assert task.select(ids=[11]).texts == task.select(ids="11").texts == ["b"]

    def test_a_declared_id_that_the_caller_gave_stays(self):
        task = task_of(SIMPLE, id_column="key", text=["a", "b"], key=["x", "y"], id=["1", "2"])
        assert task.select(ids=["y"]).ids == ["y"]

    @pytest.mark.parametrize(
        ("what", "letter"),
        [
            (
                {"ids": ["x", 9]},
                "the task 'task' has no text with the id 9, x.\n  Its ids are in task.ids: 1, 2.",
            ),
            ({"limit": -1}, "limit must be 0 or more texts. Got -1."),
            ({"split": "train"}, "split must be 'dev' or 'test'. Got 'train'."),
        ],
    )
    def test_what_cannot_be_selected(self, what, letter):
        assert refusal(task_of(SIMPLE, text=["a", "b"], id=["1", "2"]).select, **what) == letter


class TestHash:
    def test_it_is_stable_and_the_same_from_any_frame(self, tmp_path):
        columns = {"text": ["a", "b"], "id": ["1", "2"]}
        want = "96019575a42a04f36eb644a43211f9ae640d55abf213e05ea6519215d213ced1"
        assert task_of(SIMPLE, **columns).data_hash() == want
        assert Task(pd.DataFrame(columns), SIMPLE).data_hash() == want
        assert load_task(folder_with(tmp_path, "id,text\n1,a\n2,b\n", SIMPLE)).data_hash() == want

    def test_it_changes_with_ids_texts_order_selection_and_named_columns(self):
        task = task_of(SIMPLE, text=["a", "b"], id=["1", "2"], meta=["x", "y"])
        others = [
            task_of(SIMPLE, text=["a", "c"], id=["1", "2"], meta=["x", "y"]),
            task_of(SIMPLE, text=["a", "b"], id=["1", "3"], meta=["x", "y"]),
            task_of(SIMPLE, text=["b", "a"], id=["2", "1"], meta=["y", "x"]),
            task.select(limit=1),
        ]
        hashes = {task.data_hash(), task.data_hash(["meta"]), *(other.data_hash() for other in others)}
        assert len(hashes) == 6

    def test_it_does_not_change_with_labels_or_unnamed_columns(self):
        assert (
            task_of(SIMPLE, text=["a"], id=["1"]).data_hash()
            == task_of(SIMPLE, S_C=["1"], meta=["x"], id=["1"], text=["a"]).data_hash()
        )

    def test_cells_cannot_run_into_each_other(self):
        one = task_of(SIMPLE, text=["a", "b"], id=["1", "2"], meta=["x\x1ey", ""])
        two = task_of(SIMPLE, text=["a", "b"], id=["1", "2"], meta=["x", "\x1ey"])
        assert one.data_hash(["meta"]) != two.data_hash(["meta"])


class TestLoad:
    @pytest.mark.parametrize("name", bundled_tasks())
    def test_bundled_tasks(self, name):
        task = load_task(name)
        assert task.name == name
        assert task.has_human_labels
        assert (task.id_source, task.repaired_spans) == ("sample_id", 0)
        assert abs(len(task.select(split="dev")) - len(task.select(split="test"))) <= 1

    def test_there_are_two(self):
        assert bundled_tasks() == ["discrete-emotions", "policy-sentiment"]

    @pytest.mark.parametrize("folder", SETS, ids=lambda p: str(p.relative_to(DATA)))
    def test_real_sets(self, folder):
        task = load_task(folder)
        with (folder / "ground-truth.csv").open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert task.texts == [row["text"] for row in rows]
        assert task.ids == [row["id"] for row in rows]
        assert task.has_human_labels
        assert all(span["text"] for column in task.label_columns for span in self.spans(task, column))

    @staticmethod
    def spans(task, column):
        is_span = task.codebook[column].type == "span"
        return [s for spans in task.human(column) if is_span for s in spans or ()]

    def test_a_folder_by_path_by_text_and_below_a_root(self, tmp_path, monkeypatch):
        place = folder_with(tmp_path / "study", "id,text,S_C\n1,a,1\n", SIMPLE)
        monkeypatch.chdir(tmp_path)
        for source, root in (
            (place, None),
            (str(place), None),
            ("study", None),
            ("study/", None),
            ("study", "nowhere"),
        ):
            task = load_task(source, task_root=root)
            assert (task.name, task.path, task.human("C")) == ("study", place, [1])
        monkeypatch.chdir(place)
        assert load_task(".").name == "study"
        assert load_task("study", task_root=tmp_path).path == place

    def test_a_folder_of_outputs_with_a_bundled_name_does_not_hide_the_task(self, tmp_path, monkeypatch):
        (tmp_path / "policy-sentiment").mkdir()
        monkeypatch.chdir(tmp_path)
        assert len(load_task("policy-sentiment")) >= 60
        folder_with(tmp_path / "policy-sentiment", "text\na\n", SIMPLE)
        assert len(load_task("policy-sentiment")) == 1

    def test_settings_reach_the_file(self, tmp_path):
        content = "key,text,S_C\nx,Größe,9\n".encode("cp1252")
        place = folder_with(tmp_path, content, SIMPLE)
        task = load_task(place, encoding="cp1252", id_column="key", outside_labels="not_coded")
        assert (task.ids, task.texts, task.human("C")) == (["x"], ["Größe"], [None])

    def test_what_is_no_task(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert refusal(load_task, "policy-sentimant") == (
            "no task 'policy-sentimant'; did you mean 'policy-sentiment'?\n"
            "  Bundled tasks: discrete-emotions, policy-sentiment. "
            "A task of your own is a folder with codebook.json and ground-truth.csv."
        )
        assert refusal(load_task, "zzz").startswith("no task 'zzz'.\n")
        assert refusal(load_task, tmp_path) == (
            f"the folder {tmp_path} is no task: it has no codebook.json.\n"
            "  A task is a folder with codebook.json and ground-truth.csv."
        )
        SIMPLE.save(tmp_path)
        assert refusal(load_task, tmp_path) == (
            f"no file {tmp_path / 'ground-truth.csv'}.\n"
            "  A task is a folder with codebook.json and ground-truth.csv."
        )


class TestHub:
    def hub(self, monkeypatch, answer):
        asked = []

        def download(*args, **settings):
            asked.append((args, settings))
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        return asked

    def test_a_dataset_is_fetched_and_bears_its_own_name(self, tmp_path, monkeypatch):
        snapshot = folder_with(tmp_path / "0123abcd", "id,text,S_C\n1,a,1\n", SIMPLE)
        asked = self.hub(monkeypatch, snapshot)
        task = load_task("hf://datasets/owner/my-study")
        assert (task.name, task.human("C")) == ("my-study", [1])
        assert asked[0][0] == ("owner/my-study",)
        assert asked[0][1]["repo_type"] == "dataset"
        assert set(asked[0][1]["allow_patterns"]) >= {"codebook.json", "ground-truth.csv"}

    @pytest.mark.parametrize(
        "address", ["hf://models/a/b", "hf://datasets/a", "hf://datasets/a/b/c", "hf://datasets//b"]
    )
    def test_an_address_of_another_shape(self, address):
        assert (
            refusal(load_task, address)
            == f"a task on the Hub is hf://datasets/<owner>/<name>. Got '{address}'."
        )

    def test_what_cannot_be_fetched(self, monkeypatch):
        self.hub(monkeypatch, OSError("no route to host\nat length"))
        assert refusal(load_task, "hf://datasets/a/b") == (
            "cannot fetch hf://datasets/a/b from the Hugging Face Hub: no route to host\n"
            "  Check the name and the connection; a private one needs `hf auth login`."
        )

    def test_a_name_that_the_hub_does_not_allow(self):
        assert refusal(load_task, "hf://datasets/a b/c").startswith("cannot fetch hf://datasets/a b/c from")

    def test_a_dataset_without_the_table(self, tmp_path, monkeypatch):
        self.hub(monkeypatch, SIMPLE.save(tmp_path).parent)
        assert refusal(load_task, "hf://datasets/a/b") == (
            "hf://datasets/a/b has no ground-truth.csv.\n  A task is codebook.json and ground-truth.csv."
        )


def test_a_task_written_as_csv_is_the_task(tmp_path):
    spans = json.dumps([make_span("a, b", 0, 1, "x")])
    task = task_of(
        text=["a, b", 'say "c"\r\n'], id=["1", "2"], S_C=["1", ""], S_D=["NA", ""], S_P=[spans, "[]"]
    )
    frame = task.to_pandas()
    loaded = load_task(folder_with(tmp_path, csv_of([list(frame.columns), *frame.values.tolist()])))
    assert (loaded.texts, loaded.ids, loaded.data_hash()) == (task.texts, task.ids, task.data_hash())
    assert all(loaded.human(f.column) == task.human(f.column) for f in CODEBOOK)


def test_a_task_is_equal_to_itself_and_can_be_a_key():
    task = task_of(text=["a"])
    assert task == task
    assert task != task_of(text=["a"])
    assert {task: 1}[task] == 1
    assert repr(task) == "<Task 'task': 1 texts, 5 fields>"


@pytest.mark.parametrize("typed", ["human_Directoin", "S_Directoin", "Direction", "s_direction", "Dirction"])
def test_a_mistyped_label_column_is_asked_about(typed):
    import polars as pl

    from nbannot.displays.cards import task_card

    codebook = codebook_of({"name": "Direction", "type": "dropdown", "options": ["a", "b"]})
    task = Task(
        pl.DataFrame({"text": ["one", "two"], "source": ["x", "y"], typed: ["a", "b"]}), codebook, "demo"
    )
    assert task.notices == (
        f"The column '{typed}' is kept as metadata; human labels stand in 'S_Direction': did you mean that? "
        "Then rename it.",
    )
    assert f"The column '{typed}' is kept as metadata" in task_card(task).text


def test_columns_that_are_no_labels_blank_texts_and_names_of_tasks():
    import polars as pl

    codebook = codebook_of({"name": "Direction", "type": "dropdown", "options": ["a", "b"]})
    data = {
        "text": ["one", " "],
        "directions_given": ["x", "y"],
        "S_Direction": ["a", ""],
        "Direction": ["", ""],
    }
    assert Task(pl.DataFrame(data), codebook, "demo").notices == (
        "1 of 2 texts are blank: no model is asked about them.",
    )
    (named,) = Task(pl.DataFrame({"text": ["one"]}), codebook).notices
    assert "no name" in named


def test_marks_without_a_quote_are_told_where_programs_count_differently():
    import polars as pl

    codebook = codebook_of({"name": "Mark", "type": "span", "label_options": ["x"]})

    def told(text, *marks):
        data = {"id": ["t"], "text": [text], "S_Mark": [json.dumps(marks)]}
        return [n for n in Task(pl.DataFrame(data), codebook, "demo").notices if "without a quote" in n]

    bare = {"start": 2, "end": 4, "label": "x"}
    assert not told("plain words", bare)
    assert not told("gr\u00fcne Worte", bare)
    for text in ("\U0001f44d no, no", "a\r\nno, no", "u\u0308 no, no"):
        (notice,) = told(text, bare)
        assert "In 'S_Mark' some marks have offsets without a quote (1)" in notice
    assert not told("\U0001f44d no, ja", {**bare, "text": "no"})


def test_a_mistyped_label_column_empties_nothing_of_a_finished_run(tmp_path):
    import polars as pl

    from nbannot.running.run import run

    codebook = codebook_of({"name": "Direction", "type": "dropdown", "options": ["a", "b"]})
    data = {"id": ["t1", "t2"], "text": ["one", "two"]}
    options = {"model": "mock", "output_root": str(tmp_path)}
    first = run(Task(pl.DataFrame({**data, "S_Direction": ["a", "b"]}), codebook, "demo"), **options)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert first.folder / "human_labels.csv" in files
    before = {p: p.read_bytes() for p in files}
    again = run(Task(pl.DataFrame({**data, "S_Directoin": ["a", "b"]}), codebook, "demo"), **options)
    assert again.run_id == first.run_id
    # The misspelt column is metadata now, and stands in output.csv beside the answers.
    of_the_data = {first.folder / "output.csv", first.folder / "config.json"}
    assert b"S_Directoin" in (first.folder / "output.csv").read_bytes()
    assert {p for p in files if p.read_bytes() != before[p]} == of_the_data
    assert "did you mean" in str(again)
    # Nor does it where a table is gone and is written again.
    (table,) = (p for p in files if p.name.endswith("_metrics_log.csv"))
    table.unlink()
    run(Task(pl.DataFrame({**data, "S_Directoin": ["a", "b"]}), codebook, "demo"), **options)
    assert table.read_bytes() == before[table]


def test_a_number_too_large_to_be_exact_is_not_written_out_with_invented_digits():
    data = pd.DataFrame({"id": [1234567890123456789.0, 7.0], "text": ["a", "b"]})
    task = Task(data, codebook_of(GATE), "demo")
    assert task.ids == ["1.2345678901234568e+18", "7"]
