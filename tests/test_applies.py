"""Which questions are asked of a text, and why not."""

from __future__ import annotations

import pytest
from conftest import GATE, STANCE, codebook_of

from nbannot.asking.answers import Answer
from nbannot.asking.applies import NOT_REACHED, why_not_asked

BOOK = codebook_of(GATE, STANCE)  # the stance is asked where the gate is ticked
YES, NO = Answer("S_Gate", "ok", 1), Answer("S_Gate", "ok", 0)
BLANK, LEFT_OUT = "the text is blank", "it depends on 'Gate', which is left out of this run"
NO_ANSWER = "no valid answer to 'Gate', on which it depends"


@pytest.mark.parametrize(
    ("text", "parent", "never", "status", "reason"),
    [
        ("words", YES, "", None, ""),
        ("words", NO, "", "not_applicable", ""),
        (" \n", YES, "", "not_asked", BLANK),
        (" \n", YES, "nobody can", "not_asked", BLANK),
        ("words", YES, "nobody can", "not_asked", "nobody can"),
        ("words", None, "", "not_asked", LEFT_OUT),
        ("words", Answer("S_Gate", "not_applicable"), "", "not_applicable", ""),
        ("words", Answer("S_Gate", "invalid", reason="?"), "", "not_asked", NO_ANSWER),
        ("words", Answer("S_Gate", "failed", reason=NOT_REACHED), "", "not_asked", NO_ANSWER),
        ("words", Answer("S_Gate", "not_asked", reason="text does not fit"), "", "not_asked", NO_ANSWER),
        ("words", Answer("S_Gate", "not_asked", reason=NOT_REACHED), "", "not_asked", NOT_REACHED),
    ],
)
def test_a_field_that_depends_on_another(text, parent, never, status, reason):
    answer = why_not_asked(BOOK["Stance"], text, BOOK, parent, never)
    assert (answer.status, answer.reason) == (status, reason) if status else answer is None


def test_a_field_that_depends_on_none_is_asked_of_every_text_with_words():
    assert why_not_asked(BOOK["Gate"], "words", BOOK, None) is None
    assert why_not_asked(BOOK["Gate"], "", BOOK, None).reason == BLANK
