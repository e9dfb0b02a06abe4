"""Which questions are asked of a text: one rule, for the engine that asks and for whoever reads its ledger."""

from __future__ import annotations

from collections.abc import Iterable

from nbannot.asking.answers import Answer
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field

BLANK = "the text is blank"
NOT_REACHED = "the run did not get this far"
NOT_DECIDED = "a decision model answers no open questions, and the run has no text_model"
LEFT_OUT = "which is left out of this run"


def why_not_asked(
    f: Field, text: str, codebook: Codebook, parent: Answer | None, never: str = ""
) -> Answer | None:
    """Return the answer of a field that is not asked of a text, ``None`` where it is to be asked.

    Parameters
    ----------
    parent
        The answer to the field on which this one depends; ``None`` where that field is left out of the run, and
        where there is no such field.
    never
        Why the field is asked of no text at all; "" where it is asked.
    """
    if not text.strip():
        return Answer(f.column, "not_asked", reason=BLANK)
    if never:
        return Answer(f.column, "not_asked", reason=never)
    if f.condition is None:
        return None
    name = codebook[f.condition.column].name
    if parent is None:
        return Answer(f.column, "not_asked", reason=f"it depends on '{name}', {LEFT_OUT}")
    if parent.status == "not_applicable" or (parent.status == "ok" and not f.condition.met_by(parent.value)):
        return Answer(f.column, "not_applicable")
    if parent.status == "ok":
        return None
    if parent.status == "not_asked" and parent.reason == NOT_REACHED:
        return Answer(f.column, "not_asked", reason=NOT_REACHED)
    return Answer(f.column, "not_asked", reason=f"no valid answer to '{name}', on which it depends")


def never_asked(answers: Iterable[Answer]) -> str:
    """Return why a field was asked of no text, as the run was set up; "" where it was asked, or could have been."""
    reasons = {answer.reason if answer.status == "not_asked" else "" for answer in answers} - {BLANK}
    reason = reasons.pop() if len(reasons) == 1 else ""
    return reason if reason == NOT_DECIDED or reason.endswith(LEFT_OUT) else ""
