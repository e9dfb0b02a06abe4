"""The tree of errors, and the small pieces of wording that every message is made of."""

import inspect

import pytest

from nbannot import errors
from nbannot.errors import NbannotError, listed, nearest, problems

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, NbannotError) and kind is not NbannotError
}


def test_the_tree_at_the_top_of_the_file_is_the_tree_of_the_code():
    drawn = {}
    above = ["NbannotError"]
    for line in (errors.__doc__ or "").splitlines():
        if "── " not in line:
            continue
        depth = line.index("── ") // 4 + 1
        name = line.split("── ")[1].split()[0]
        above[depth:] = [name]
        drawn[name] = above[depth - 1]
    assert drawn == {name: kind.__mro__[1].__name__ for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_every_error_is_caught_by_its_base_and_says_what_it_is(kind):
    with pytest.raises(NbannotError, match="the line"):
        raise kind("the line")
    assert kind.__doc__


def test_in_a_notebook_an_error_is_its_message_without_a_traceback():
    assert errors.TaskError("no column 'x'.\n  Its columns: y.")._render_traceback_() == [
        "TaskError: no column 'x'.\n  Its columns: y."
    ]


def test_an_interrupted_run_stops_like_a_keyboard_interrupt():
    assert issubclass(errors.RunInterrupted, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        raise errors.RunInterrupted("stopped")


@pytest.mark.parametrize(
    ("items", "at_most", "shown"),
    [
        ([], 6, ""),
        (["a"], 6, "a"),
        ([1, 2, 3], 3, "1, 2, 3"),
        ([1, 2, 3, 4], 3, "1, 2, 3 and 1 more"),
        (range(10), 6, "0, 1, 2, 3, 4, 5 and 4 more"),
        (iter("abc"), 2, "a, b and 1 more"),
    ],
)
def test_lists_are_cut_with_a_count(items, at_most, shown):
    assert listed(items, at_most) == shown


def test_the_nearest_known_word_is_suggested_and_nothing_far():
    assert nearest("temprature", ["seed", "temperature"]) == "; did you mean 'temperature'?"
    assert nearest("banana", ["seed", "temperature"]) == ""
    assert nearest("x", []) == ""


def test_problems_are_counted_and_one_to_a_line():
    assert problems("it fails", ["one"]) == "it fails: 1 problem.\n  one"
    assert problems("it fails", ["one", "two"]) == "it fails: 2 problems.\n  one\n  two"
    assert problems("it fails", list("abcd"), at_most=2) == "it fails: 4 problems.\n  a\n  b\n  and 2 more"


def test_an_interrupt_becomes_a_short_letter():
    said = "The same cell or script goes on from there"
    with pytest.raises(errors.RunInterrupted, match=said) as caught, errors.tidy_interrupt():
        raise KeyboardInterrupt
    assert len(caught.value._render_traceback_()) == 1
    assert caught.value.__suppress_context__
    with pytest.raises(errors.RunInterrupted, match=r"^told already$"), errors.tidy_interrupt():
        raise errors.RunInterrupted("told already")
