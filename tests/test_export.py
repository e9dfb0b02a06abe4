"""Tables on their way out: what LaTeX, Markdown and CSV look like, and that no cell changes its meaning."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbannot.errors import TableError
from nbannot.record.export import to_csv, to_latex, to_markdown

ROWS = [
    {"column": "Policy Sentiment_Direction", "f1_macro": 0.61234, "n": 64, "note": "50% & more"},
    {"column": "Emotion_Anger", "f1_macro": None, "n": 44, "note": None},
    {"column": "Emotion_Fear", "f1_macro": -0.00002, "n": 44, "note": "[a|b]"},
]
FRAMES = {"rows": ROWS, "pandas": pd.DataFrame(ROWS), "polars": pl.DataFrame(ROWS)}


MARKS = st.text("a1 `*_[]()<>&|\\~$!#;:'\"-=./", max_size=16)
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=12)


def cells_of(latex: str) -> list[list[str]]:
    body = latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    return [line.removesuffix(" \\\\").split(" & ") for line in body.splitlines()]


@pytest.mark.parametrize("kind", FRAMES)
def test_latex(kind: str) -> None:
    assert to_latex(FRAMES[kind], "F1 by field_1", "tab:f1_x") == (
        "\\begin{table}\n\\centering\n\\caption{F1 by field\\_1}\n\\label{tab:f1_x}\n"
        "\\begin{tabular}{lrrl}\n\\toprule\ncolumn & f1\\_macro & n & note \\\\\n\\midrule\n"
        "Policy Sentiment\\_Direction & 0.612 & 64 & 50\\% \\& more \\\\\n"
        "Emotion\\_Anger &  & 44 &  \\\\\n"
        "Emotion\\_Fear & $-2 \\times 10^{-5}$ & 44 & [a\\textbar{}b] \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


@pytest.mark.parametrize("kind", FRAMES)
def test_markdown(kind: str) -> None:
    assert to_markdown(FRAMES[kind], digits=2) == (
        "| column | f1_macro | n | note |\n| --- | ---: | ---: | --- |\n"
        "| Policy Sentiment_Direction | 0.61 | 64 | 50% \\& more |\n"
        "| Emotion_Anger |  | 44 |  |\n"
        "| Emotion_Fear | -2e-05 | 44 | \\[a\\|b\\] |\n"
    )


@pytest.mark.parametrize("kind", FRAMES)
def test_csv(kind: str) -> None:
    assert to_csv(FRAMES[kind]) == (
        "column,f1_macro,n,note\nPolicy Sentiment_Direction,0.61234,64,50% & more\n"
        "Emotion_Anger,,44,\nEmotion_Fear,-2e-05,44,[a|b]\n"
    )


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.12345, 3, "0.123"),
        (0.12345, None, "0.12345"),
        (0.12345, {"x": 1}, "0.1"),
        (0.12345, {"y": 1}, "0.12345"),
        (1.2345e-5, 3, "1.23e-05"),
        (0.0004, 3, "0.0004"),
        (0.0, 2, "0.00"),
        (-0.0, 2, "0.00"),
        (3, 2, "3"),
        (np.float64(1 / 3), 2, "0.33"),
        (np.int64(7), 2, "7"),
        (True, 2, "True"),
        (float("inf"), 2, "inf"),
        (float("nan"), 2, ""),
    ],
)
def test_digits(value: object, digits: object, shown: str) -> None:
    assert to_markdown([{"x": value}], digits=digits).splitlines()[2] == f"| {shown} |"  # type: ignore[arg-type]


def test_a_caption_or_a_label_alone_makes_a_table_environment() -> None:
    assert "\\caption" not in to_latex([{"a": 1}], label="tab:a")
    assert "\\label" not in to_latex([{"a": 1}], caption="A")
    assert to_latex([{"a": 1}]).startswith("\\begin{tabular}{r}\n")


@pytest.mark.parametrize("first", ["[]", "*", "[0.5ex] x"])
def test_a_row_never_begins_with_what_the_line_before_would_take_as_its_option(first: str) -> None:
    table = to_latex([{first: first, "b": 1}])
    assert not re.search(r"(\\\\|rule)\s*[\[*]", table)
    assert cells_of(table)[0][0] == f"{{{first[0]}}}{first[1:]}"


@settings(deadline=None)
@given(MARKS | ANY_TEXT)
def test_no_latex_command_or_special_sign_comes_from_a_cell(text: str) -> None:
    [[cell]] = cells_of(to_latex([{"a": text}]))
    for mark in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\textless{}"):
        cell = cell.replace(mark, "·")
    for mark in (r"\textgreater{}", r"\textbar{}", *(f"\\{sign}" for sign in "{}&%$#_"), "-{}", "{[}", "{*}"):
        cell = cell.replace(mark, "·")
    assert not set(cell) & set("\\{}&%$#_~^<>|")
    assert "--" not in cell


def test_numbers_in_latex_are_set_as_numbers() -> None:
    table = to_latex([{"a": -1.5, "b": 3.2e-9, "c": float("-inf"), "d": -3}])
    assert cells_of(table) == [["$-1.500$", "$3.2 \\times 10^{-9}$", "$-\\infty$", "$-3$"]]


@settings(max_examples=400, deadline=None)
@example(["<b>x</b>", "&amp;", "~~x~~", "_x_", "[a](b)", "`x`", "*x*", "a|b", "\\*"])
@given(st.lists(MARKS | ANY_TEXT, min_size=1, max_size=4))
def test_a_markdown_reader_gets_every_cell_back(cells: list[str]) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt("gfm-like", {"linkify": False})
    tokens = reader.parse(to_markdown([{f"c{i}": cell for i, cell in enumerate(cells)}]))
    inline = [token for token in tokens if token.type == "inline"][len(cells) :]
    read = ["".join(part.content for part in token.children) for token in inline]
    spaces = re.compile(r"\s+")
    assert [spaces.sub("", text) for text in read] == [spaces.sub("", cell) for cell in cells]
    assert {part.type for token in inline for part in token.children} <= {"text", "text_special"}


def test_line_breaks() -> None:
    assert to_markdown([{"a": "one\ntwo"}]).splitlines()[2] == "| one<br>two |"
    assert cells_of(to_latex([{"a": "one\ntwo"}])) == [["one two"]]
    assert to_csv([{"a": "one\r\ntwo"}]) == 'a\n"one\r\ntwo"\n'


@settings(deadline=None)
@given(st.lists(st.lists(st.text() | st.integers() | st.none(), min_size=2, max_size=2), min_size=1))
def test_csv_reads_back(rows: list[list[object]]) -> None:
    text = to_csv([{"a": a, "b": b} for a, b in rows])
    read = list(
        csv.reader(
            io.StringIO(text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"), newline="")
        )
    )
    assert read == [["a", "b"], *(["" if cell is None else str(cell) for cell in row] for row in rows)]


def test_an_index_counts_where_it_says_something() -> None:
    frame = pd.DataFrame(
        {"model": ["m1", "m1", "m2"], "metric": ["f1", "acc", "f1"], "value": [0.5, 0.75, 0.25]}
    )
    assert to_csv(frame[frame["metric"] == "f1"]) == "model,metric,value\nm1,f1,0.5\nm2,f1,0.25\n"
    assert (
        to_csv(frame.pivot_table(index="model", columns="metric", values="value"))
        == "model,acc,f1\nm1,0.75,0.5\nm2,,0.25\n"
    )
    by_two = frame.set_index(["model", "metric"])
    assert to_csv(by_two) == "model,metric,value\nm1,f1,0.5\nm1,acc,0.75\nm2,f1,0.25\n"
    assert (
        to_csv(frame.groupby("model")["value"].agg(["min", "max"]))
        == "model,min,max\nm1,0.5,0.75\nm2,0.25,0.25\n"
    )
    assert to_csv(by_two["value"]) == to_csv(by_two)
    assert to_csv(frame.describe()[["value"]]).splitlines()[:2] == [",value", "count,3.0"]
    deep = frame.pivot_table(index="model", columns=["metric"], values=["value"])
    assert to_csv(deep).splitlines()[0] == 'model,"value, acc","value, f1"'


def test_missing_values_and_types_of_pandas_and_polars() -> None:
    frame = pd.DataFrame(
        {"n": pd.array([1, None], dtype="Int64"), "b": pd.array([None, True], dtype="boolean")}
    )
    frame["day"] = pd.to_datetime(["2026-01-02", None])
    frame["kind"] = pd.Categorical(["x", None])
    assert to_csv(frame) == "n,b,day,kind\n1,,2026-01-02 00:00:00,x\n,True,,\n"
    assert to_latex(frame).startswith("\\begin{tabular}{rlll}")
    spans = pl.DataFrame({"spans": [[{"start": 1, "text": "ä"}], []]})
    assert to_csv(spans) == 'spans\n"[{""start"": 1, ""text"": ""ä""}]"\n[]\n'


def test_rows_with_different_names_and_no_rows() -> None:
    assert to_csv([{"a": 1}, {"b": 2}]) == "a,b\n1,\n,2\n"
    for empty in (pd.DataFrame(columns=["a", "b"]), pl.DataFrame(schema=["a", "b"])):
        assert to_csv(empty) == "a,b\n"
        assert to_markdown(empty) == "| a | b |\n| --- | --- |\n"


@pytest.mark.parametrize("nothing", [[], pd.DataFrame(), pl.DataFrame()])
def test_nothing_to_export(nothing: object) -> None:
    with pytest.raises(TableError, match="There is nothing to export: the table has no columns"):
        to_latex(nothing)


@pytest.mark.parametrize("other", [3, "text", [1, 2], {"a": 1}])
def test_what_cannot_be_exported(other: object) -> None:
    with pytest.raises(
        TableError, match=r"a list of dicts can be exported\. Got (int|str|list|dict)\.\n  Make it"
    ):
        to_csv(other)


def test_rows_need_no_frame_library() -> None:
    code = (
        "import sys; from nbannot.record import export; export.to_latex([{'a': 1.5}]);"
        "print([m for m in ('pandas', 'polars', 'numpy', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
