"""Closed questions for models that decide: from the codebook to typed questions, from probabilities to answers.

A decision model reads a text and several typed questions at once, and returns a probability for every option. What it
returns is checked here once, whatever model or server it came from; a label outside the codebook cannot come of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from nbannot.asking.answers import Answer, calibrate
from nbannot.asking.option_order import OptionOrder, as_in_codebook, in_order
from nbannot.asking.prompts import Prompt
from nbannot.asking.reply_parts import shortened
from nbannot.asking.request_reply import Decision, Question
from nbannot.study.field import Field
from nbannot.tools.json_bytes import packed

CLOSED = ("checkbox", "dropdown", "likert")
DECIDED = (*CLOSED, "multiselect")
"""What a decision model answers; of a multiselect every option is a question of its own, yes or no."""
OF_OPTION = "\x1e"
"""Stands between the column of a multiselect and one of its options."""
TOLERANCE = 0.02
"""How far from 1 the probabilities of a question may sum up to and still be read as rounded."""

BETWEEN = "\n\n"
KINDS: dict[str, Literal["noul", "choice", "score"]] = {
    "checkbox": "noul",
    "dropdown": "choice",
    "likert": "score",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How probabilities become labels.

    Attributes
    ----------
    threshold
        A checkbox is ticked from this probability of yes on, as it is after calibration.
    scale
        The answer to a likert question: the most probable level (``"modal"``), or the expected one, rounded half up
        (``"rounded"``).
    order, seed
        In which order the options of a dropdown were named (see `nbannot.asking.option_order`); answers always have the
        codebook's.
    """

    threshold: float = 0.5
    scale: Literal["modal", "rounded"] = "modal"
    order: OptionOrder = "codebook"
    seed: int | None = None


PLAIN = Reading()


def typed_question(field: Field, name: str) -> Question:
    """Return a closed field as a typed question; the option descriptions of the codebook become its criteria."""
    described = dict(field.option_descriptions)
    labels = tuple(map(str, field.labels))
    return Question(
        column=field.column,
        name=name,
        kind=KINDS[field.type],
        instructions="\n".join(part for part in (field.instruction.strip(), _asked(field)) if part),
        options=("false", "true") if field.type == "checkbox" else labels,
        descriptions=tuple(described.get(label, "") for label in labels),
    )


def _asked(field: Field) -> str:
    tooltip = field.tooltip.strip()
    return f"{field.name}: {tooltip}" if tooltip else field.name


def typed_questions(group: Sequence[Field]) -> tuple[Question, ...]:
    """Return the questions of one call, each under its field's name, or its column where two have the same name."""
    names = [field.name for field in group]
    questions: list[Question] = []
    for field in group:
        name = field.name if names.count(field.name) == 1 else field.column
        questions += (
            _of_options(field, name) if field.type == "multiselect" else [typed_question(field, name)]
        )
    return tuple(questions)


def _of_options(field: Field, name: str) -> list[Question]:
    """Return a multiselect as one question per option: does it apply?"""
    described = dict(field.option_descriptions)
    asked = "\n".join(part for part in (field.instruction.strip(), _asked(field)) if part)
    return [
        Question(
            column=f"{field.column}{OF_OPTION}{option}",
            name=f"{name}: {option}",
            kind="noul",
            instructions=f"{asked}\nDoes this apply: {option}?",
            options=("false", "true"),
            descriptions=("", described.get(option, "")),
        )
        for option in field.options
    ]


def as_system_one(question: Question) -> dict[str, Any]:
    """Return a question in the form of System One: type, instructions, criteria.

    >>> as_system_one(Question("S_A", "A", "score", "A: how much?", ("1", "2"), ("", "a lot")))
    {'type': 'score', 'instructions': 'A: how much?', 'criteria': ['1', '2: a lot']}
    """
    wire: dict[str, Any] = {"type": question.kind, "instructions": question.instructions}
    pairs = zip(question.options, question.descriptions, strict=True)
    if question.kind == "score":
        wire["criteria"] = [level_words(name, text) for name, text in pairs]
    elif question.kind == "choice":
        wire["criteria"] = {name: text or None for name, text in pairs}
    elif any(question.descriptions):
        wire["criteria"] = {name: text for name, text in pairs if text}
    return wire


def level_words(name: str, description: str) -> str:
    """Return what a level of a scale is called: its number, and what the codebook says of it."""
    return f"{name}: {description}" if description else name


def compose_questions(group: Sequence[Field]) -> Prompt:
    """Return the request for these closed fields as a `Prompt`: the questions as JSON, then the text.

    The model is sent both apart from each other, in the shape that it takes; together they are what the ledger keeps,
    what `plan` shows and what identifies the request.
    """
    questions = typed_questions(group)
    written = packed({"questions": {question.name: as_system_one(question) for question in questions}})
    return Prompt(written.decode() + BETWEEN, "", {}, (), questions=questions)


# ---- from what a model returns to a decision -----------------------------------------------------------------------


def decided(
    question: Question,
    probabilities: Sequence[Any] | None,
    *,
    choice: int | None = None,
    score: Any = None,
    confidence: Any = None,
) -> Decision:
    """Return the decision that a model's numbers amount to, or one that says what is wrong with them.

    Parameters
    ----------
    probabilities
        One per option of the question, in order; for a noul those of no and yes.
    choice
        Position of the option that the model names.
    score, confidence
        As the model gives them; what is no finite number is left out.

    Notes
    -----
    Probabilities that sum to 1 ± 0.02 are taken for rounded ones and divided by their sum; others are no distribution.
    """
    details = {"choice": choice, "score": _finite(score), "confidence": _finite(confidence)}
    if probabilities is None:
        return Decision(**details)  # type: ignore[arg-type]
    if len(probabilities) != len(question.options):
        what = f"{len(probabilities)} probabilities for {len(question.options)} options"
        return Decision(**details, problem=what)  # type: ignore[arg-type]
    numbers = [_finite(p) for p in probabilities]
    for name, number, raw in zip(question.options, numbers, probabilities, strict=True):
        if number is None or not 0 <= number <= 1:
            what = f"the probability of {shortened(name, 30)!r} is {shortened(repr(raw), 30)}"
            return Decision(**details, problem=what)  # type: ignore[arg-type]
    shares = [number for number in numbers if number is not None]
    total = math.fsum(shares)
    if abs(total - 1) > TOLERANCE + 1e-9:
        return Decision(**details, problem=f"probabilities sum to {total:.3g}")  # type: ignore[arg-type]
    return Decision(tuple(share / total for share in shares), **details)  # type: ignore[arg-type]


def _finite(value: Any) -> float | None:
    if type(value) is float:  # nearly always
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# ---- from a decision to an answer ----------------------------------------------------------------------------------


def read_decisions(
    group: Sequence[Field], decisions: Mapping[str, Decision], reading: Reading, attempt: int = 1
) -> dict[str, Answer]:
    """Return the answer to each field of the group (column -> `Answer`) that a model's decisions amount to."""
    return {
        field.column: _chosen(field, decisions, reading, attempt)
        if field.type == "multiselect"
        else _answer(field, decisions.get(field.column), reading, attempt)
        for field in group
    }


def _chosen(field: Field, decisions: Mapping[str, Decision], reading: Reading, attempt: int) -> Answer:
    """Return the options whose probability reaches the threshold; one option without an answer leaves none valid."""
    chosen: list[str] = []
    for option in field.options:
        made = decisions.get(f"{field.column}{OF_OPTION}{option}")
        if made is not None and made.refused:
            reason = f"the model declined to answer for {shortened(option, 40)!r}"
            return Answer(field.column, "refused", reason=reason, attempt=attempt)
        if made is None or made.problem or made.probabilities is None:
            why = (made.problem if made else "") or "no probability"
            reason = f"{why}: for {shortened(option, 40)!r}"
            return Answer(field.column, "invalid", reason=reason, attempt=attempt)
        if made.probabilities[1] >= reading.threshold:
            chosen.append(option)
    return Answer(field.column, "ok", chosen, attempt=attempt)


def _answer(field: Field, made: Decision | None, reading: Reading, attempt: int) -> Answer:
    if made is None:
        return Answer(
            field.column, "invalid", reason="the reply has no answer to this question", attempt=attempt
        )
    if made.refused:
        return Answer(
            field.column, "refused", reason="the model declined to answer this question", attempt=attempt
        )
    if made.problem:
        return Answer(field.column, "invalid", reason=made.problem, attempt=attempt)
    shown = in_order(field, reading.order, reading.seed)
    position = _position(shown, made, reading)
    if position is None:
        return Answer(
            field.column, "invalid", reason="the reply has no probability per option", attempt=attempt
        )
    value, shares = shown.labels[position], made.probabilities
    if shares is not None and shown is not field:
        shares = as_in_codebook(field, shares, reading.order, reading.seed)
    return Answer(field.column, "ok", value, probabilities=shares, attempt=attempt)


def label_of(field: Field, shares: Sequence[float], reading: Reading, best: Any) -> Any:
    """Return the label that a language model's probabilities mean; `best` where the settings say nothing else.

    Parameters
    ----------
    best
        The most probable label.
    """
    if field.type == "checkbox" and reading.threshold != PLAIN.threshold:
        return field.labels[int(shares[1] >= reading.threshold)]
    if field.type == "likert" and reading.scale == "rounded":
        return field.labels[min(len(field.labels) - 1, math.floor(expected(shares) + 0.5))]
    return best


def relabelled(field: Field, answer: Answer, reading: Reading) -> Answer:
    """Return a scored answer with the label that its probabilities mean; any other as it is."""
    if answer.status != "ok" or answer.probabilities is None:
        return answer
    value = label_of(field, answer.probabilities, reading, answer.value)
    return answer if value == answer.value else replace(answer, value=value)


def calibrated_answer(
    field: Field, answer: Answer, offset: Sequence[float] | None, reading: Reading
) -> Answer:
    """Return a scored answer after batch calibration; any other, or without an offset, as it is."""
    if answer.status != "ok" or answer.probabilities is None or offset is None:
        return answer
    best, probabilities = calibrate(field, answer.probabilities, offset)
    value = label_of(field, probabilities, reading, best)
    return Answer(field.column, "ok", value, probabilities=probabilities, attempt=answer.attempt)


def _position(field: Field, made: Decision, reading: Reading) -> int | None:
    """Return which label a decision means; ``None`` where it does not tell."""
    shares, last = made.probabilities, len(field.labels) - 1
    if field.type == "likert" and reading.scale == "rounded":
        level = expected(shares) if shares else made.score
        within = level is not None and 0 <= level <= last
        return min(last, math.floor(level + 0.5)) if level is not None and within else None
    if shares is None:
        within = made.choice is not None and field.type == "dropdown" and 0 <= made.choice <= last
        return made.choice if within else None
    if field.type == "checkbox":
        return int(shares[1] >= reading.threshold)
    most = max(shares)
    tied = [i for i, share in enumerate(shares) if share == most]
    if field.type == "likert":
        middle = expected(shares)
        return min(tied, key=lambda i: (abs(i - middle), i))
    return made.choice if made.choice in tied else tied[0]


def expected(probabilities: Iterable[float]) -> float:
    """Return the expected position on a scale, counted from 0.

    >>> expected([0.5, 0.25, 0.25])
    0.75
    """
    return math.fsum(position * share for position, share in enumerate(probabilities))
