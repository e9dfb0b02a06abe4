"""What a server of decisions takes at once, learned from its refusals, and how questions are split to fit.

No limit is assumed: makers differ and change theirs. A refusal in words ("at most 26 options") is believed; one
without a number halves what was sent.

A question with too many options is asked in two rounds: its options in groups, then the winners of the groups against
each other. Each group is weighted so that its winner has what it won by: the ratio of two options of a group is that of
the group, the ratio of two winners that of the second round. A model whose ratios do not depend on the options beside
them (a softmax of one number per option) gets its own probabilities back, and the winner of the second round is the
answer.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbannot.asking.request_reply import Decision, Question

TOO_MANY = re.compile(
    r"too (many|large|long)|at most|max|exceed|limit|more than|up to|between|no longer", re.I
)
OPTIONS = re.compile(r"option|choice|label|criteri|categor", re.I)
LEVELS = re.compile(r"level|scale|score", re.I)
QUESTIONS = re.compile(r"question", re.I)
TOO_LONG = re.compile(
    r"(state|text|input|prompt|request|document)\b[^.]{0,60}(too (long|large|big)|exceed|longer than|does not fit)|"
    r"(tokens|characters)\b[^.]{0,60}(exceed|at most|max|limit|more than|>)|"
    r"(exceed|at most|max|limit|more than)[^.]{0,60}\b(tokens|characters)",
    re.I,
)
"""A text that the model does not read whole, which no other arrangement of the questions mends."""

A_LENGTH = re.compile(r"token|character|context|byte|\b(state|text|document)\b", re.I)
LONG_WORDS = re.compile(
    r"\b(option|choice|label|level|criteri\w*|categor\w+|instruction|description|name)s?\b[^.]{0,40}"
    r"\b(too long|longer than|length|characters)|\bcharacters\b[^.]{0,20}\b(option|choice|label|level|name)",
    re.I,
)
"""Words of a question that are too long, which neither another text nor fewer options mend."""

NUMBER_AFTER = re.compile(
    r"(?:at most|max\w*|limit\w*|up to|more than|between|exceed\w*|>|<=?|≤)\D{0,24}?(\d+)(?:\D{1,5}(\d+))?",
    re.I,
)
FEWEST = 2


@dataclass
class Limits:
    """What a server was found to take in one request.

    Attributes
    ----------
    options, levels, questions
        Most of each; ``None`` where it has refused none.
    apart
        Columns whose questions are sent alone, since the server refused them together with others.
    version
        Counts changes, so that a request under way when something was learned is planned again.
    """

    options: int | None = None
    levels: int | None = None
    questions: int | None = None
    apart: set[str] = field(default_factory=set)
    version: int = 0

    def learn(self, words: str, sent: Sequence[Question]) -> bool:
        """Take a server's refusal of these questions; return whether they can now be asked another way."""
        if not TOO_MANY.search(words) or LONG_WORDS.search(words):
            return False
        scales = [len(q.options) for q in sent if q.kind == "score"]
        choices = [len(q.options) for q in sent if q.kind == "choice"]
        for name, about, counts in (
            ("levels", LEVELS, scales),
            ("options", OPTIONS, choices),
            ("questions", QUESTIONS, [len(sent)]),
        ):
            most = max(counts, default=0)
            least = 1 if name == "questions" else FEWEST
            if most > least and about.search(words):
                limit = max(least, min(_told(words, most), most - 1))
                known = getattr(self, name)
                setattr(self, name, limit if known is None else min(known, limit))
                self.version += 1
                return True
        return False

    def send_apart(self, questions: Sequence[Question]) -> None:
        """Send these questions alone from now on."""
        self.apart.update(question.column for question in questions)
        self.version += 1

    def told(self) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        known = {"options": self.options, "levels": self.levels, "questions": self.questions}
        return {name: value for name, value in known.items() if value is not None} | (
            {"asked_apart": sorted(self.apart)} if self.apart else {}
        )


def is_about_the_questions(words: str) -> bool:
    """Return whether a refusal is about what is asked, though it may say that the request or input is too large.

    >>> is_about_the_questions("the request has 12 questions, which exceeds the maximum of 10")
    True
    >>> is_about_the_questions("state and questions exceed 512 tokens")
    False
    """
    counted = any(about.search(words) for about in (OPTIONS, LEVELS, QUESTIONS))
    return bool(LONG_WORDS.search(words)) or (counted and not A_LENGTH.search(words))


def _told(words: str, most: int) -> int:
    """Return the limit below `most` that the words name, else half of it."""
    for match in NUMBER_AFTER.finditer(words):
        numbers = [int(n) for n in match.groups() if n and FEWEST <= int(n) < most]
        if numbers:
            return max(numbers)
    return most // 2


def fitting(question: Question, limits: Limits) -> Question:
    """Return the question in a form that the server takes: a scale of too many levels becomes a choice."""
    if question.kind == "score" and limits.levels is not None and len(question.options) > limits.levels:
        return replace(question, kind="choice")
    return question


def is_split(question: Question, limits: Limits) -> bool:
    """Return whether a question has more options than the server takes."""
    return question.kind == "choice" and limits.options is not None and len(question.options) > limits.options


def calls(questions: Sequence[Question], limits: Limits) -> list[tuple[Question, ...]]:
    """Return the questions by call: together as far as the server takes them together."""
    alone = [(question,) for question in questions if question.column in limits.apart]
    others = [question for question in questions if question.column not in limits.apart]
    size = limits.questions or max(1, len(others))
    return [tuple(others[i : i + size]) for i in range(0, len(others), size)] + alone


def parts(question: Question, most: int) -> list[tuple[list[int], Question]]:
    """Return a question of too many options in groups: (positions of the options, question about them).

    >>> five = Question("S_A", "A", "choice", "Which?", tuple("abcde"), ("",) * 5)
    >>> [places for places, _ in parts(five, 3)]
    [[0, 1], [2, 3, 4]]
    """
    count = len(question.options)
    groups = -(-count // most)
    bounds = [round(i * count / groups) for i in range(groups + 1)]
    spans = [list(range(a, b)) for a, b in itertools.pairwise(bounds)]
    return [
        (places, _about(question, places, f"{question.name} ({number})"))
        for number, places in enumerate(spans, start=1)
    ]


def _about(question: Question, places: Sequence[int], name: str) -> Question:
    return replace(
        question,
        column=f"{question.column}\x1f{name}",
        name=name,
        options=tuple(question.options[i] for i in places),
        descriptions=tuple(question.descriptions[i] for i in places),
    )


def winners(
    question: Question, asked: Sequence[tuple[list[int], Question]], made: Mapping[str, Decision]
) -> tuple[list[int], Question] | Decision:
    """Return the question about the winners of the groups, or what went wrong in one of them."""
    best = []
    for places, part in asked:
        shares = shares_of(part, made)
        if isinstance(shares, Decision):
            return shares
        best.append(places[shares.index(max(shares))])
    return best, _about(question, best, question.name)


def shares_of(part: Question, made: Mapping[str, Decision]) -> tuple[float, ...] | Decision:
    """Return the probabilities of a part, or the decision without any."""
    if len(part.options) == 1:
        return (1.0,)
    decision = made.get(part.column)
    if decision is None:
        return Decision(problem="the reply has no answer to a part of this question")
    if decision.probabilities is None:
        unasked = Decision(problem="the reply has no probability per option for a part of this question")
        return decision if decision.problem or decision.refused else unasked
    return decision.probabilities


def combined(
    question: Question,
    asked: Sequence[tuple[list[int], Question]],
    made: Mapping[str, Decision],
    final: Sequence[float],
) -> Decision:
    """Return the decision of both rounds: shares within the groups, weighted as their winners stand to each other."""
    shares = [0.0] * len(question.options)
    for (places, part), won in zip(asked, final, strict=True):
        within = shares_of(part, made)
        if isinstance(within, Decision):
            return within
        most = max(within)
        for place, share in zip(places, within, strict=True):
            shares[place] = won * share / most
    total = math.fsum(shares)
    best = max(range(len(final)), key=lambda group: final[group])
    winner = max(asked[best][0], key=lambda place: shares[place])
    return Decision(probabilities=tuple(share / total for share in shares), choice=winner)
