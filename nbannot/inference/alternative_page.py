"""What the alternative annotator test found, and the page that says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.inference.finding import Drawn, Finding, p_text
from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading, Para, Row
from nbannot.page.digits import count, decimals, interval, number
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = ("coder", "n", "n_missing", "advantage", "coder_advantage", "difference", "p", "p_adjusted", "beaten",
           "test", "reason")  # fmt: skip
PASSES_FROM = 0.5
"""The paper: a model may stand in where it wins against at least half of the annotators."""
LIMITS = (
    "The test says whether the candidate may replace one coder of this pool on texts like these; not that its labels "
    "are right, nor that shares or coefficients made from them are unbiased (for that: prevalence, regress).",
    "ε decides much of the result and has to be chosen, and justified, before looking.",
    "Testing several models and keeping those that pass is a selection; compare models by their advantage, on texts "
    "that did not choose them.",
)


@dataclass(frozen=True)
class Against:
    """The candidate against one coder who is left out.

    Attributes
    ----------
    n, n_missing
        Texts, and those among them on which the candidate has no valid answer (the worst score).
    advantage, coder_advantage
        Share of texts on which the candidate, or the coder, agrees at least as well with the others.
    difference
        Mean of coder wins minus candidate wins; the test asks whether it is below ε.
    """

    coder: str
    n: int
    n_missing: int
    advantage: float
    coder_advantage: float
    difference: float
    p: float
    p_adjusted: float
    beaten: bool
    test: str
    reason: str = ""


@dataclass(frozen=True, repr=False)
class AltTest(Finding):
    """The result of `alt_test`.

    Attributes
    ----------
    winning_rate
        Share of the tested coders that are beaten (ω), 0 to 1; the test is passed from one half on.
    advantage
        Probability that the candidate is as good as a coder of the pool chosen at random, or better (ρ), 0 to 1,
        with its 95% interval over texts.
    coders
        One `Against` per coder.
    sensitivity
        ε -> winning rate.
    human_agreement, candidate_agreement
        Mean score of people against each other, and of the candidate against people, on the same texts; with the
        paired interval of the difference it says how far the candidate is from the human ceiling.
    scores
        Name, mean score against the other coders, and its 95% limits: of the candidate, then of every coder.
    """

    field: Field
    candidate: str
    epsilon: float
    winning_rate: float
    advantage: float
    advantage_low: float
    advantage_high: float
    coders: tuple[Against, ...]
    sensitivity: Mapping[float, float]
    human_agreement: float
    candidate_agreement: float
    ceiling_difference: float
    ceiling_low: float
    ceiling_high: float
    n: int
    measure: str
    notes: tuple[str, ...]
    scores: tuple[tuple[str, float, float, float], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the winning rate is one half or more."""
        return self.winning_rate >= PASSES_FROM

    @property
    def frame(self) -> Frame:
        """One row per coder: n, advantages, difference, p (also adjusted), whether beaten, why not tested."""
        return make_frame([vars(one) for one in self.coders], COLUMNS)

    @property
    def sensitivity_frame(self) -> Frame:
        """One row per ε: winning rate and whether the test would be passed."""
        rows = [
            {"epsilon": e, "winning_rate": w, "passed": w >= PASSES_FROM, "chosen": e == self.epsilon}
            for e, w in self.sensitivity.items()
        ]
        return make_frame(rows, ("epsilon", "winning_rate", "passed", "chosen"))

    @property
    def verdict(self) -> str:
        """The result in a sentence or two."""
        tested = [one for one in self.coders if not one.reason]
        beaten = sum(one.beaten for one in tested)
        word = "passes" if self.passed else "does not pass"
        digits = decimals(self.n)
        return (
            f"{self.candidate} {word} at ε = {self.epsilon:g}: it is shown to do as well as {beaten} of "
            f"{len(tested)} coders (winning rate {number(self.winning_rate)}; from 0.50 on it passes). On "
            f"{number(self.advantage, digits)} {interval(self.advantage_low, self.advantage_high, digits)} of the "
            "texts it agrees with the others as well as a coder does, or better."
        )

    def forests(self) -> list[Drawn]:
        """Return the candidate and the coders, each against the others."""
        return [(self.measure, list(self.scores))] if len(self.scores) > 1 else []

    def bands(self) -> list[tuple[float, float] | None]:
        """Return the human ceiling: from where to where the coders' own scores lie."""
        people = [value for _, value, *_ in self.scores[1:] if not math.isnan(value)]
        return [(min(people), max(people)) if len(people) > 1 else None]

    def blocks(self) -> list[Block]:
        """Return the page: verdict, coders, sensitivity, ceiling, limits."""
        digits = decimals(self.n)
        rows: list[Row] = [
            [
                one.coder,
                Cell(
                    "beaten" if one.beaten else one.reason or "not beaten",
                    "strong" if one.beaten else "plain",
                ),
                count(one.n),
                number(one.advantage, digits),
                number(one.coder_advantage, digits),
                p_text(one.p),
                p_text(one.p_adjusted),
            ]
            for one in self.coders
        ]
        header = ["coder left out", "", "texts", "candidate ≥ coder", "coder ≥ candidate", "p", "p (BY)"]
        over: list[Row] = [
            [
                Cell(f"{e:g}", "strong" if e == self.epsilon else "plain"),
                number(w),
                ("passes" if w >= PASSES_FROM else "does not pass")
                + (", chosen" if e == self.epsilon else ""),
            ]
            for e, w in self.sensitivity.items()
        ]
        return [
            Heading("Alternative annotator test", 1, f"{self.field.name}: {self.candidate}"),
            Para(self.verdict, "notice"),
            Grid(
                header,
                rows,
                "llrrrrr",
                notes=[f"Score against the others: {self.measure}; ties count for both."],
            ),
            Grid(["ε", "winning rate", ""], over, "rrl", caption="How the result depends on ε"),
            Para(self._ceiling()),
            *([Bullets(self.notes)] if self.notes else []),
            Bullets(LIMITS, "quiet"),
        ]

    def _ceiling(self) -> str:
        digits = decimals(self.n)
        means = (self.human_agreement, self.candidate_agreement, self.ceiling_difference)
        if any(math.isnan(value) for value in means):
            return "Human ceiling: not defined, no text was coded by two people."
        low, high = (-math.inf, math.inf)
        people, model, apart = (number(value, digits, low=low, high=high) for value in means)
        return (
            f"Human ceiling ({self.measure}): people with each other {people}, the candidate with people {model}; "
            f"difference {apart} {interval(self.ceiling_low, self.ceiling_high, digits)} (paired over texts)."
        )

    def __repr__(self) -> str:
        word = "passed" if self.passed else "not passed"
        return f"<AltTest of {self.candidate} in {self.field.column}: ω {self.winning_rate:.2f}, {word}>"
