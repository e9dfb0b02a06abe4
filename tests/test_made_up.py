"""Coders made up for teaching, and guesses that are checked."""

import pandas as pd
import pytest

import nbannot as nba
from nbannot.errors import ScoringError, TaskError


def helpline():
    book = nba.Codebook.build(
        text_column="text",
        id_column="id",
        sections={
            "Line": [
                nba.dropdown("Call", options=["now", "later"]),
                nba.likert("Tone", min_value=1, max_value=5),
                nba.span("Place"),
            ]
        },
    )
    frame = pd.DataFrame({
        "id": ["a", "b", "c", "d"], "text": ["at the port", "in town", "here", "there"],
        "Line_Call": ["now", "later", "later", "later"], "Line_Tone": [5, 4, 3, 2],
        "Line_Place": ['[{"start": 7, "end": 11, "text": "port", "label": null}]', "[]", "[]", "[]"],
    })  # fmt: skip
    return nba.Task(frame, book, name="helpline")


def value(coder, column, metric):
    return coder.scores.fields[column].results[metric].value


def test_a_made_up_coder_codes_as_told():
    task = helpline()
    assert value(nba.made_up_coder(task, "Sleepy", "later", "Call"), "Line_Call", "accuracy") == 0.75
    strict = nba.made_up_coder(task, "Strict", lambda points: points - 1, "Tone")
    assert value(strict, "Line_Tone", "bias") == -1
    partly = nba.made_up_coder(task, "Partly", ["now", "now", "later", None], "Call")
    assert [answer.status for answer in partly.coding.answers["Line_Call"]].count("ok") == 3
    same = nba.made_up_coder(task, "Same", lambda spans: spans, "Place")
    assert value(same, "Line_Place", "token_f1") == 1
    with pytest.raises(ScoringError, match=r"which field does 'X' code\? The task has Call, Tone, Place"):
        nba.made_up_coder(task, "X", "later")
    with pytest.raises(ScoringError, match=r"one label for each of the 4 texts\. Got 1"):
        nba.made_up_coder(task, "X", ["later"], "Call")
    with pytest.raises(TaskError, match="must be one of now, later"):
        nba.made_up_coder(task, "X", "soon", "Call")


def test_a_guess_is_checked_once_it_is_typed():
    coder = nba.made_up_coder(helpline(), "Sleepy", "later", "Call")
    assert "type a number in place of ..." in str(nba.check_guess(..., coder))
    assert "Well predicted: it is 0.75." in str(nba.check_guess(0.7, coder, "Call", "accuracy"))
    assert "It is 0.75, lower than you thought by 0.15." in str(
        nba.check_guess(0.9, coder, metric="accuracy")
    )
    assert "It is 0.50, higher than you thought by 0.50." in str(nba.check_guess("0", 0.5))
    assert "It is 48, higher than you thought by 2." in str(nba.check_guess(46, 48, within=0))
    assert "A guess is a number, such as 0.5. Got 'much'." in str(nba.check_guess("much", 0.5))
