"""For teaching: coders whose mistakes are known because they were made up, and guesses that are checked.

Nothing here is a study: whoever has seen what a metric says about a coder of their own making is harder to fool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nbannot.comparing.coder import Coder, load_coder, refuse_no_task
from nbannot.errors import ScoringError, listed
from nbannot.page.blocks import Para
from nbannot.page.fragment import Fragment
from nbannot.record.scoring import Scored
from nbannot.report.words import HEADLINES
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame


def made_up_coder(
    task: Task, name: str, labels: Sequence[Any] | Callable[[Any], Any] | str, field: str | None = None
) -> Coder:
    """Return a coder who codes as told: made up, to see what the metrics say of known mistakes.

    Parameters
    ----------
    name
        What the coder is called.
    labels
        One label per text, in the task's order; a function from the human label of a text to the coder's; or one
        label for all texts. ``None`` and ``""`` mean that a text was not coded.
    field
        The field that is coded; needed where the task has several.

    Raises
    ------
    ScoringError
        If it is not clear which field is meant, or there is not one label per text.
    TaskError
        If a label is outside the codebook.

    Examples
    --------
    >>> import nbannot, pandas as pd
    >>> call = nbannot.dropdown("Call", options=["now", "later"])
    >>> book = nbannot.Codebook.build(text_column="text", sections={"A": [call]})
    >>> calls = nbannot.Task(pd.DataFrame({"text": ["a", "b"], "A_Call": ["now", "later"]}), book, "calls")
    >>> made_up_coder(calls, "Sleepy", "later").scores.fields["A_Call"].results["accuracy"].value
    0.5
    """
    refuse_no_task(task)
    fields = list(task.codebook)
    if field is None and len(fields) > 1:
        raise ScoringError(
            f"which field does '{name}' code? The task has {listed([f.name for f in fields])}.\n"
            f"  Type: made_up_coder(task, {name!r}, labels, field={fields[0].name!r})."
        )
    chosen = fields[0] if field is None else task.codebook[field]
    if callable(labels):
        given = [labels(label) for label in task.human(chosen.column)]
    else:
        given = [labels] * len(task) if isinstance(labels, str) else list(labels)
    if len(given) != len(task):
        raise ScoringError(
            f"'{name}' needs one label for each of the {len(task):,} texts. Got {len(given):,}."
        )
    column = task.codebook.id_column or "id"
    rows = [{column: i, chosen.column: _cell(label)} for i, label in zip(task.ids, given, strict=True)]
    return load_coder(task, make_frame(rows, [column, chosen.column]), name)


def _cell(label: Any) -> str:
    """Return a label as it stands in a table; passages as JSON."""
    return "" if label is None else json.dumps(label) if isinstance(label, list) else str(label)


def check_guess(
    guess: Any,
    value: float | Scored,
    field: str | None = None,
    metric: str | None = None,
    within: float = 0.05,
) -> Fragment:
    """Return whether a guess that a reader typed before looking comes near to the value.

    Parameters
    ----------
    guess
        A number; ``...`` stands for "not typed yet".
    value
        A number, or a run or coder whose metric was guessed.
    field, metric
        Which one of a run: the first field and the first metric of its type when left out.
    within
        How far off still counts as near; 0 where a count has to be exact.
    """
    if isinstance(value, Scored):
        chosen = value.coding.fields[0] if field is None else value.task.codebook[field]
        value = value.scores.fields[chosen.column].results[metric or HEADLINES[chosen.type][0]].value
    if guess is ...:
        words = "Predict first: type a number in place of ... and run this cell again. Then read on."
        return Fragment.of([Para(words, "notice")])
    try:
        off = abs(float(guess) - value)
    except (TypeError, ValueError):
        return Fragment.of([Para(f"A guess is a number, such as 0.5. Got {guess!r}.", "warning")])
    digits = 0 if within == 0 and float(value).is_integer() and float(guess).is_integer() else 2  # a count
    if off <= within + 1e-9:  # 0.75 and 0.70 are 0.05 apart to a reader
        return Fragment.of([Para(f"Well predicted: it is {value:,.{digits}f}.", "notice")])
    side = "lower" if float(guess) > value else "higher"
    words = (
        f"It is {value:,.{digits}f}, {side} than you thought by {off:,.{digits}f}. What did you not think of?"
    )
    return Fragment.of([Para(words, "notice")])
