"""Which text of a task a row of somebody's table is about: by id, by text, and what is refused."""

from __future__ import annotations

import pytest

from nbannot.comparing.joining import id_text, joined_ids, joined_texts, refuse_repeated
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
    assert joined_texts(["same", "same", "same", "new"], known, ["1", "2", "3"]) == ["1", "3", None, None]


def test_who_says_something_twice_and_where():
    with pytest.raises(TaskError, match=r"ids of anna must be unique\. Got 1 repeated: 'a' \(rows 2, 4\)"):
        refuse_repeated({0: "a", 1: "b", 2: "a"}, "anna", 2)
    refuse_repeated({0: "a", 1: "b"}, "anna", 2)
