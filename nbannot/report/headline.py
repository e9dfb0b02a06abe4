"""The headline: of each field one metric beside its baseline, and in one sentence what they come to.

Every door says it with these words: the card's title, the first table of a report, the line on a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from nbannot.asking.applies import NOT_REACHED, never_asked
from nbannot.page.blocks import Block, Cell, Footnotes, Grid, Row, Scale
from nbannot.page.digits import MINUS, NONE, count, interval_of, share, value_of
from nbannot.report.fields import n_reference, value_cells
from nbannot.report.words import (
    BASELINE,
    HEADLINES,
    metric_words,
    plural,
    statuses,
    variation_of,
    weighted_counts,
)

if TYPE_CHECKING:
    from nbannot.measures.result import FieldScore, Result
    from nbannot.record.scoring import Scored
    from nbannot.study.field import Field

FEWEST_LABELS = 10
"""With fewer human labels no interval carries a verdict."""
MORE_LABELS = 200
"""So many more human labels are told to narrow the intervals."""


@dataclass(frozen=True, slots=True)
class Band:
    """From where to where pairs of people lie in a metric, and how many pairs there are."""

    low: float
    high: float
    pairs: int


NO_BANDS: Mapping[str, Band] = MappingProxyType({})
FROM_CHANCE = frozenset({"cohen_kappa", "quadratic_kappa", "krippendorff_alpha", "spearman_corr"})
"""Metrics of which 0 is what answering without looking comes to."""
MARKS = {
    "▲": "the whole interval lies above the baseline",
    "≈": "the interval contains the baseline",
    "▼": "the whole interval lies below the baseline",
    "?": "undecided: no interval to judge by, or only one of too few labels, one that may be too narrow, or one of the "
    "answered texts that does not hold with the missing ones at their worst",
}
BASELINE_WORDS = (
    "baseline: the better of always giving the commonest label and dealing out the labels at random"
)
LOW_COVERAGE = 0.9
"""Below this share of answered texts the sentence says how many were answered."""


@dataclass(frozen=True)
class Headline:
    """What is said first of one field.

    Attributes
    ----------
    baseline
        What answering without looking at the text scores in this metric: always the commonest human label, or as many
        of each label as were given, dealt out at random, whichever scores more. ``None`` where there is no such value.
    better
        Whether the whole interval lies above the baseline, and can be relied on; ``None`` without a baseline.
    n, answered
        Texts with a human label to which the field applies, and those among them with a valid answer.
    variation
        A sentence where people did not use all labels; where they used one alone, nothing is better than a baseline.
    at_worst
        Of a metric of the answered texts alone: the same with every missing answer as wrong as it can be, where many
        are missing. What is better than the baseline by its silence is not called better.
    unasked
        Why the run was set up to ask this field of no text; such a field has no score, for a zero would be a verdict.
    """

    field: Field
    metric: str
    result: Result | None
    baseline: float | None
    better: bool | None
    n: int
    answered: int
    variation: str = ""
    unasked: str = ""
    at_worst: Result | None = None

    @property
    def undecided(self) -> bool:
        """Whether the interval must carry no verdict: too few human labels, unreliable, or good by silence alone."""
        if self.result is None or self.baseline is None:
            return False
        by_silence = (
            self.at_worst is not None
            and self.result.ci_low > self.baseline
            and not self.at_worst.ci_low > self.baseline
        )
        return self.n < FEWEST_LABELS or self.result.unreliable or by_silence

    @property
    def mark(self) -> str:
        """How the interval lies to the baseline, as a key of `MARKS`; "" where there is nothing to say."""
        if self.better is None or self.result is None or self.baseline is None:
            return ""
        low, high = self.result.ci_low, self.result.ci_high
        if math.isnan(low):
            return "?"
        if low <= self.baseline <= high:
            return "≈"
        return "?" if self.undecided else "▲" if self.better else "▼"


def headlines(of: Scored) -> list[Headline]:
    """Return the headline of every field of the run, in codebook order."""
    return [
        _headline(f, of.scores.fields[f.column], never_asked(of.coding.answers[f.column]))
        for f in of.coding.fields
    ]


def _headline(f: Field, score: FieldScore, unasked: str) -> Headline:
    name = HEADLINES[f.type][0]
    if unasked:
        return Headline(f, name, None, None, None, 0, 0, unasked=unasked)
    n, answered = n_reference(score), score.results["coverage"].n_answered
    result = score.results[name] if n else None
    variation = variation_of(score)
    one_label = score.confusion is not None and sum(row["support"] > 0 for row in score.per_class) == 1
    if result is None or not result.defined or one_label:
        return Headline(f, name, result, None, None, n, answered, variation)
    baseline = baseline_of(name, score)
    one = Headline(
        f,
        name,
        result,
        baseline,
        None,
        n,
        answered,
        variation,
        at_worst=score.extra.get(f"{name}_worst_case"),
    )
    # A missing limit compares as False: what has no interval is not better.
    return one if baseline is None else replace(one, better=result.ci_low > baseline and not one.undecided)


def baseline_of(name: str, score: FieldScore) -> float | None:
    """Return what answering without looking at the text scores in a metric; ``None`` where there is no such value."""
    if name in FROM_CHANCE:
        return 0.0
    twin = score.results.get(BASELINE.get(name, ""))
    if twin is None or not twin.defined:
        return None
    return max(twin.value, dealt_out(score, n_reference(score))) if name == "f1_macro" else twin.value


def dealt_out(score: FieldScore, n: int) -> float:
    """Return the macro F1 to be expected if the labels that were given had been dealt out to the texts at random.

    With s texts of a class among n and p predictions of it, s * p / n are right by chance: F1 = 2sp / (n (s + p)).
    """
    classes = [weighted_counts(row, n) for row in score.per_class if row["support"]]
    return sum(2 * s * p / (n * (s + p)) for s, p, n in classes) / len(classes) if classes else 0.0


def verdict(of: Scored) -> str:
    """Return in one sentence what a run's, or a person's, labels come to on these texts."""
    texts = plural(len(of.task), "text")
    if not of.task.has_human_labels:
        if not len(of.task):
            return "No human labels: answers to look at, nothing to score"
        return f"No human labels on {texts}: answers to look at, nothing to score"
    if unanswered := without_any_answer(of):
        return unanswered
    rows = headlines(of)
    scored = [one for one in rows if one.n]
    judged = [one for one in scored if one.better is not None]
    if not scored:
        return f"No human label for any field that was asked, on {texts}"
    coded = judged[0].n if len(judged) == 1 else max(one.n for one in scored)
    texts = texts if coded == len(of.task) else f"{count(coded)} of {texts}"
    if judged:
        better, worse, undecided = (sum(one.mark == mark for one in judged) for mark in "▲▼?")
        if len(judged) == 1:
            how = "better" if better else "worse" if worse else "not better"
            how = "not shown to be better" if undecided else how
            sentence = f"{judged[0].field.name} {how} than the baseline on {texts}"
        else:
            sentence = f"{better or 'none'} of {plural(len(judged), 'field')} better than the baseline"
            told = [f"{n} {what}" for n, what in ((worse, "worse"), (undecided, "undecided")) if n]
            sentence += "".join(f", {part}" for part in told) + ("," if told else "") + f" on {texts}"
        if without := [one.field.name for one in scored if one.better is None]:
            sentence += f" ({without[0] if len(without) == 1 else plural(len(without), 'field')} without one)"
    elif any(one.variation for one in scored):
        sentence = f"people used one label only on {texts}: no agreement measure means anything here"
    else:
        against = "it" if len(scored) == 1 else "them"
        sentence = f"{_named_value(scored)} on {texts}: no baseline to hold {against} against"
    n_asked, answered = sum(one.n for one in scored), sum(one.answered for one in scored)
    before = ["so far"] if open_answers(of) else []
    if n_asked and answered / n_asked < LOW_COVERAGE:
        before.append(f"{share(answered, n_asked)} answered")
    sentence = f"{', '.join(before)}: {sentence}" if before else sentence
    return sentence[0].upper() + sentence[1:]


def _named_value(scored: Sequence[Headline]) -> str:
    """Return what a field came to, of several how many there are."""
    one = scored[0]
    if len(scored) > 1 or one.result is None:
        return f"{plural(len(scored), 'field')} scored"
    return f"{one.field.name}: {metric_words(one.metric)} {value_of(one.metric, one.result)}"


def without_any_answer(of: Scored) -> str:
    """Return, where there is no valid answer at all, in a sentence what there is instead; "" where there is one.

    Every score would be a zero then, which says nothing of the model.
    """
    counts = of.coding.count()
    if any(counts.get(status) for status in ("ok", "not_applicable")):
        return ""
    texts = plural(len(of.task), "text")
    came = {status: n for status, n in counts.items() if status not in ("not_asked", "failed")}
    if any(came.values()):
        return f"No valid answer on {texts}: {statuses(came)}"
    return f"No answer yet on {texts}: nothing to look at, nothing to score"


def open_answers(of: Scored) -> int:
    """Return how many answers may still come: those that failed, and those the run did not get to."""
    return sum(
        answer.status == "failed" or (answer.status == "not_asked" and NOT_REACHED in answer.reason)
        for answers in of.coding.answers.values()
        for answer in answers
    )


def scale_of(rows: list[Headline]) -> tuple[float, float]:
    """Return the ends of the scale on which all headlines are drawn: 0 to 1, lower where an interval reaches there."""
    limits = [one.result.ci_low for one in rows if one.result is not None]
    least = min((low for low in limits if not math.isnan(low)), default=0.0)
    return (-1.0 if least < -0.5 else -0.5 if least < 0 else 0.0), 1.0


def look_blocks(of: Scored, bands: Mapping[str, Band] = NO_BANDS) -> list[Block]:
    """Return the table that comes first: per field the headline metric beside its baseline, and what was answered.

    Parameters
    ----------
    bands
        column -> what people reach with each other.
    """
    if not of.task.has_human_labels or without_any_answer(of):
        return []
    headline_rows = headlines(of)
    scale = scale_of(headline_rows)
    notes = Footnotes()
    rows: list[Row | str] = []
    for one in headline_rows:
        name = Cell(one.field.name, "strong", title=one.field.column)
        if not one.n or one.result is None:
            words = "not asked" if one.unasked else "no human labels"
            rows.append([name, Cell(words, "quiet"), "", "", "", "", ""])
            rows += [f"{one.field.name}: {one.unasked}"] if one.unasked else []
            continue
        value, limits = value_cells(one.metric, one.result, notes)
        band = bands.get(one.field.column)
        people = None if band is None else (band.low, band.high)
        drawn = Scale(*scale, one.result.value, (one.result.ci_low, one.result.ci_high), one.baseline, people)
        words = f"{value.text} {limits.text}" + (
            "" if one.baseline is None else f", baseline {one.baseline:.2f}"
        )
        words += "" if band is None else f", people with each other {band.low:.2f} to {band.high:.2f}"
        given = f"{count(one.answered)} of {count(one.n)}"
        rows.append(
            [
                name,
                Cell(metric_words(one.metric), "quiet"),
                Cell(value.text, "quiet" if one.variation and one.better is None else "strong"),
                limits,
                Cell(words, scale=drawn),
                _against(one),
                Cell(given, "quiet" if one.answered == one.n else "plain", share=one.answered / one.n),
            ]
        )
        rows += [one.variation] if one.variation else []
    ends = f"{f'{scale[0]:g}'.replace('-', MINUS)} to {scale[1]:g}"
    header = ["field", "metric", "value", "95% interval", ends, "baseline", "answered"]
    marks = [
        f"{mark} {words}" for mark, words in MARKS.items() if any(one.mark == mark for one in headline_rows)
    ]
    several = any(one.field.type == "multiselect" for one in headline_rows)
    words = f"{BASELINE_WORDS}; of a multiselect, always every option" if several else BASELINE_WORDS
    explained = [f"{words}; {', '.join(marks)}"] if marks else []
    explained += [*people_words(headline_rows, bands), *(of.scores.settings.get("weighted") or ())]
    return [Grid(header, rows, "llriirr", notes=[*notes.lines, *explained], stacked=True)]


def people_words(rows: Sequence[Headline], bands: Mapping[str, Band]) -> list[str]:
    """Return what the grey band is: what two people reach with each other, per field."""
    known = [(one.field.name, band) for one in rows if (band := bands.get(one.field.column)) is not None]
    if not known:
        return []
    told = "; ".join(
        f"{name} {band.low:.2f}" + ("" if band.pairs == 1 else f" to {band.high:.2f}")
        + f" ({plural(band.pairs, 'pair')})"
        for name, band in known
    )  # fmt: skip
    return [f"░ people with each other, scored in the same way: {told}"]


def more_labels(of: Scored) -> str:
    """Return what so many more human labels would make of the headline intervals; "" where there are none.

    Half-widths fall with the root of the number of texts, as long as the new ones are drawn like the old.
    """
    told = []
    for one in headlines(of):
        half = (one.result.ci_high - one.result.ci_low) / 2 if one.result is not None else math.nan
        if math.isnan(half) or not one.n:
            continue
        narrower = half * math.sqrt(one.n / (one.n + MORE_LABELS))
        told.append(f"{one.field.name} from ±{half:.2f} to about ±{narrower:.2f}")
    return f"{MORE_LABELS} more human labels would narrow {'; '.join(told)}" if told else ""


def _against(one: Headline) -> Cell:
    """Return how a value lies to its baseline, in words and, where it is not above it, tinted."""
    if one.baseline is None:
        return Cell(NONE, "quiet")
    words = f"{one.baseline:.2f} {one.mark}"
    return Cell(words, "quiet" if one.better else "plain", 0.0 if one.better else -0.45)


def lines(of: Scored) -> list[str]:
    """Return one short line per field for a terminal or a log, with baseline, coverage and n.

    Without any answer it is the one line that says so.
    """
    if unanswered := without_any_answer(of):
        return [unanswered]
    parts = []
    for one in headlines(of):
        if not one.n or one.result is None:
            continue
        words = f"{one.field.name}: {metric_words(one.metric)} {value_of(one.metric, one.result)}"
        words += f" {interval_of(one.metric, one.result)}" if one.result.ci_method else ""
        words += f" ({one.result.reason})" if one.result.reason else ""
        if one.baseline is not None:
            words += f", baseline {one.baseline:.2f} {one.mark}"
        words += f", answered {count(one.answered)} of {count(one.n)}"
        parts.append(". ".join(filter(None, (words, one.variation))))
    return parts
