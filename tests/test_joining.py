"""Which text of a task a row of somebody's table is about: by id, by text, and what is refused."""

from __future__ import annotations

import math

import numpy
import pandas
import pytest

from nbannot.comparing.joining import id_text, joined_ids, joined_texts, refuse_other_texts, refuse_repeated
from nbannot.errors import ScoringError, TaskError


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        (["a", "b"], ["b", "a"], ["a", "b"]),
        (["a ", "\ufeffb"], ["a", "b"], ["a", "b"]),
        (["7.0"], ["7"], ["7"]),
        (["7.0"], ["7", "7.0"], ["7.0"]),
        (["123"], ["1"], [None]),  # the end of a number that is no ".0" is never taken off
        (["a.0"], ["a"], [None]),  # nor the ".0" of what is no number
        ([" a", "a"], ["a", "a "], [None, "a"]),  # two could be meant; one is written so
        (["e\u0301"], ["\u00e9"], ["\u00e9"]),
        ([""], [""], [""]),
        ([" "], [""], [None]),
    ],
)
def test_an_id_means_one_text_or_none(given, known, meant):
    assert joined_ids(given, known) == meant


@pytest.mark.parametrize("value", [2.0**53, -(2.0**60)])
def test_an_id_that_became_a_number_too_large_is_refused(value):
    with pytest.raises(ScoringError, match="may have been another id"):
        id_text(value)


def test_the_nth_of_equal_texts_is_the_nth_of_the_task():
    known = ["same", "other", "same"]
    given = ["same", "same", "same", "same", "new"]
    assert joined_texts(given, known, ["1", "2", "3"]) == ["1", "3", None, None, None]


def test_who_says_something_twice_and_where():
    with pytest.raises(TaskError, match=r"ids of anna must be unique\. Got 1 repeated: 'a' \(rows 2, 4\)"):
        refuse_repeated({0: "a", 1: "b", 2: "a"}, "anna", 2)
    refuse_repeated({0: "a", 1: "b"}, "anna", 2)
    refuse_repeated({}, "anna", 2)


def test_an_id_is_the_text_that_it_was_written_as():
    given = [
        7.0,
        -7.0,
        7.5,
        7,
        "007",
        "7.0",
        None,
        math.nan,
        pandas.NA,
        pandas.NaT,
        numpy.float64(3),
        "nan",
        "",
    ]
    assert [id_text(value) for value in given] == [
        *("7", "-7", "7.5", "7", "007", "7.0"),
        *("", "", "", ""),
        *("3", "nan", ""),
    ]
    largest = 2.0**53 - 1
    assert id_text(largest) == "9007199254740991"


def test_another_text_under_an_id_is_refused_and_the_first_is_shown():
    task = {i: f"text {i}" for i in "abcde"}
    refuse_other_texts(task, {"a": " text\u00a0a ", "b": "", "c": None, "d": math.nan}, "anna", "text")
    with pytest.raises(ScoringError) as refused:
        refuse_other_texts(
            task, {"a": "text a", "c": "one", "b": "two", "d": "three", "e": "four"}, "anna", "words"
        )
    assert "another text than the task under 4 of 5 ids: 'c', 'b', 'd' and 1 more" in str(refused.value)
    assert "'c' is 'one' there, 'text c' in the task" in str(refused.value)
    assert "leave out the column 'words'" in str(refused.value)
