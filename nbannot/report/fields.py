"""One field of a run as blocks: its numbers, what they are to be compared with, and where the errors are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nbannot.asking.applies import never_asked
from nbannot.page.blocks import Block, Bullets, Cell, Facts, Fold, Footnotes, Grid, Para, Row, Section
from nbannot.page.digits import (
    NONE,
    count,
    decimals,
    interval,
    interval_of,
    number,
    share,
    value_of,
)
from nbannot.page.widths import clipped
from nbannot.report.confusion import confusion_grid
from nbannot.report.words import (
    ANSWERED_TWIN,
    BASELINE,
    HEADLINES,
    by_number,
    metric_words,
    plural,
    statuses,
    weighted_counts,
)
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.measures.result import FieldScore, Result
    from nbannot.record.run import Run


QUESTION_CHARS = 200
FEW_IN_A_CLASS = "interval unreliable: some labels have fewer than 10 human labels"
TOO_FEW = "too few to estimate: fewer than 10 human labels"
LABEL_TYPES = ("checkbox", "dropdown", "likert")
AUDIT = (
    ("scored", "scored"),
    ("missing", "without a valid answer"),
    ("missed_gate", "where the model said it does not apply, against the people"),
    ("na_na", "not applicable for both"),
    ("spurious", "answered where people say it does not apply"),
    ("no_reference", "without a human label"),
)
"""Row status -> words, in the order of the audit line."""

CONDITIONAL_VIEWS = (
    ("people say it applies (headline)", ("accuracy", "f1_macro", "cohen_kappa")),
    (
        "people and model say it applies",
        ("accuracy_given_both", "f1_macro_given_both", "cohen_kappa_given_both"),
    ),
    (
        "all, “does not apply” as a label",
        ("accuracy_end_to_end", "f1_macro_end_to_end_with_na", "cohen_kappa_end_to_end"),
    ),
    ("all, F1 of the other labels only", ("", "f1_macro_end_to_end", "")),
    ("whether it applies (two labels)", ("gate_accuracy", "gate_f1_macro", "gate_kappa")),
)
"""The rows of `conditional_grid`: words, and accuracy, macro F1 and kappa over the same texts and labels."""


def field_section(run: Run, f: Field, *, opened: bool) -> Section:
    """Return the section of one field that was asked."""
    return Section(f.name, _field_blocks(run, f), f"{f.type}, {f.level}", opened)


def _field_blocks(run: Run, f: Field) -> list[Block]:
    score = run.scores.fields[f.column]
    head: list[Block] = [
        *([Para(clipped(f.tooltip or f.instruction, QUESTION_CHARS))] if f.tooltip or f.instruction else []),
        Para(where_asked(f), "quiet"),
    ]
    if unasked := never_asked(run.coding.answers[f.column]):
        return [*head, Para(f"Not asked: {unasked}.")]
    if not n_reference(score):
        return [*head, *unscored_blocks(run, f)]
    blocks = [*head, metric_grid(f.type, score), *_baseline(f, score)]
    if f.type in LABEL_TYPES:
        blocks += [class_grid(score), confusion_grid(f, score)]
    elif score.per_class:
        blocks.append(class_grid(score))
    if f.type in ("textbox", "span", "multiselect"):
        blocks.append(sides_grid(f, score))
    if "accuracy_end_to_end" in score.extra:
        blocks.append(conditional_grid(score))
    blocks.append(Facts(answer_facts(run, f, score)))
    blocks.append(Bullets(score.notes))
    further = further_grid(f.type, score)
    if further.rows:
        blocks.append(Fold("Further numbers", [further]))
    blocks.append(Para(f"Conventions: {score.conventions}", "quiet"))
    return blocks


def n_reference(score: FieldScore) -> int:
    """Return the number of texts with a human label to which the field applies."""
    return sum(score.counts[name] for name in ("scored", "missing", "missed_gate"))


def where_asked(f: Field) -> str:
    """Return the field's column and when it is asked, on one line."""
    words = f"column {f.column}"
    if f.condition is not None:
        words += f" · asked only where {f.condition.column} = {f.condition.value}"
    return words


def unscored_blocks(run: Run, f: Field) -> list[Block]:
    """Return what can be said of a field without human labels."""
    blocks: list[Block] = [Para("No human labels: nothing to score. What the model answered:")]
    if f.type in (*LABEL_TYPES, "multiselect"):
        values = [value for value in run.coding.values(f.column) if value is not None]
        total = len(values)
        rows: list[Row] = []
        for label in f.labels:
            n = sum(label in value for value in values) if f.type == "multiselect" else values.count(label)
            rows.append(
                [Cell(str(label)), count(n), share(n, total), Cell("", bar=n / total if total else 0)]
            )
        blocks.append(Grid(["label", "model", "", ""], rows, "lrrl"))
    else:
        filled = [bool(value) for value in run.coding.values(f.column) if value is not None]
        what = "marked something" if f.type == "span" else "wrote something"
        blocks.append(Para(f"It {what} in {count(sum(filled))} of {plural(len(filled), 'text')}."))
    return [*blocks, Facts([("answers", answers_line(run, f))])]


def metric_grid(kind: str, score: FieldScore, names: Sequence[str] = ()) -> Grid:
    """Return the headline metrics with interval, baseline and n; undefined ones as "–" with the reason below."""
    shown = [
        name
        for name in names or HEADLINES[kind]
        if name in score.results and (score.results[name].defined or not _optional(name))
    ]
    answered = _shows_answered(score)
    against = kind in (*LABEL_TYPES, "multiselect")
    notes = Footnotes()
    rows = [
        [
            Cell(metric_words(name), "strong" if place == 0 else "plain"),
            *value_cells(name, score.results[name], notes),
            *([Cell(baseline_value(score, name), "quiet")] if against else []),
            *([Cell(_answered_value(score, name), "quiet")] if answered else []),
            Cell(_n_of(name, score.results[name]), "quiet"),
            Cell(name, "quiet"),
        ]
        for place, name in enumerate(shown)
    ]
    header = [
        *("metric", "value", "95% interval"),
        *(["majority"] if against else []),
        *(["answered only"] if answered else []),
        *("texts", "in the tables"),
    ]
    align = "lri" + "r" * against + "r" * answered + "rl"
    return Grid(header, rows, align, notes=notes.lines)


def value_cells(name: str, result: Result, notes: Footnotes) -> tuple[Cell, Cell]:
    """Return a number and its interval; the mark of a remark stands behind what it is about."""
    mark = notes.mark(brief(result.reason))
    if not result.defined:
        return Cell(NONE + mark), Cell("")
    return Cell(value_of(name, result)), Cell(interval_of(name, result) + mark, "quiet")


def brief(reason: str) -> str:
    """Return a reason with the labels that have few texts counted as one; the notes name them.

    >>> brief("interval unreliable: class 1 has n=6; class 2 has n=7; only 9 clusters")
    'interval unreliable: some labels have fewer than 10 human labels; only 9 clusters'
    """
    parts = reason.split("; ")
    few = [
        part for part in parts if re.fullmatch(r"(interval unreliable: )?(class|option) .* has n=\d+", part)
    ]
    others = [part for part in parts if part not in few]
    without = any(part.startswith("no interval") for part in others)
    return "; ".join([*([FEW_IN_A_CLASS] if few and not without else []), *others])


def _optional(name: str) -> bool:
    return name.startswith(("rouge", "cosine", "bertscore"))


def _shows_answered(score: FieldScore) -> bool:
    coverage = score.results["coverage"]
    return coverage.defined and coverage.value < 1


def baseline_value(score: FieldScore, name: str) -> str:
    """Return what always giving the majority answer would score in this metric; "" where that is not told."""
    twin = score.results.get(BASELINE.get(name, ""))
    return value_of(name, twin) if twin is not None else ""


def _answered_value(score: FieldScore, name: str) -> str:
    twin = score.extra.get(ANSWERED_TWIN.get(name, ""))
    return value_of(name, twin) if twin is not None else ""


def _n_of(name: str, result: Result) -> str:
    from nbannot.measures.label_field import ANSWERED_ONLY

    if (name in ANSWERED_ONLY or name == "alpha_jaccard") and result.n_answered < result.n:
        return f"{count(result.n_answered)} of {count(result.n)}"
    return count(result.n)


def _baseline(f: Field, score: FieldScore) -> list[Block]:
    """Return what a model that always gives the majority answer would score, and the coverage, in a sentence."""
    coverage = score.results["coverage"]
    n = n_reference(score)
    sentence = (
        f"Coverage: a valid answer for {count(coverage.n_answered)} of {plural(n, 'text')} with a human label "
        f"({share(coverage.n_answered, n)}){_not_covered(score)}."
    )
    if f.type in LABEL_TYPES:
        most = max(score.per_class, key=weighted_counts)
        sentence += (
            f" Majority baseline: always answering “{most['label']}” would reach an accuracy of "
            f"{value_of('accuracy', score.results['baseline_accuracy'])} and a macro F1 of "
            f"{value_of('f1_macro', score.results['baseline_f1_macro'])}."
        )
    if f.type == "multiselect":
        sentence += (
            " Baseline: always choosing every option would reach a macro F1 of "
            f"{value_of('f1_macro', score.results['baseline_f1_macro'])}; always choosing people's most frequent set "
            "of options, a percentage agreement of "
            f"{value_of('percentage_agreement', score.results['baseline_accuracy'])}."
        )
    return [Para(sentence)]


def _not_covered(score: FieldScore) -> str:
    """Return where the texts are that the coverage leaves out, so that all add up; only on a conditional field."""
    missing, closed = score.counts["missing"], score.counts["missed_gate"]
    if not closed:
        return ""
    return (
        f"; {count(missing)} without one; for {count(closed)} the model said that the question does not apply"
    )


NOT_WEIGHTED = "Support and predicted count texts, each once; precision, recall and F1 are weighted."


def class_grid(score: FieldScore) -> Grid:
    """Return precision, recall and F1 with intervals, support and predicted per label, with both distributions."""
    notes = Footnotes()
    digits = decimals(n_reference(score))
    humans = sum(entry["support"] for entry in score.per_class)
    models = sum(entry["predicted"] for entry in score.per_class)
    if "jaccard" in score.results:  # a text may have several options: shares are of texts
        humans, models = n_reference(score), score.results["coverage"].n_answered
    rows: list[Row] = []
    for entry in score.per_class:
        remark = TOO_FEW if str(entry["reason"]).startswith("too few") else entry["reason"]
        cells = [Cell(str(entry["label"]) + notes.mark(remark))]
        for name in ("precision", "recall", "f1"):
            low, high = entry[f"{name}_ci_low"], entry[f"{name}_ci_high"]
            mark = notes.mark(entry[f"{name}_reason"]) if low != low else ""
            undefined = entry[name] != entry[name]
            cells += [
                Cell(number(entry[name], digits) + (mark if undefined else "")),
                Cell("" if undefined else interval(low, high, digits) + mark, "quiet"),
            ]
        for name, whole in (("support", humans), ("predicted", models)):
            part = entry[name]
            cells += [Cell(count(part)), Cell(share(part, whole), "quiet")]
        rows.append(cells)
    header = ["label", "precision", "", "recall", "", "F1", "", "support", "", "predicted", ""]
    return Grid(
        header, rows, "lriririrrrr", caption="Per label (support: human labels; predicted: the model's)",
        notes=[*notes.lines, *([NOT_WEIGHTED] if any("weights" in entry for entry in score.per_class) else [])],
    )  # fmt: skip


def sides_grid(f: Field, score: FieldScore) -> Grid:
    """Return how often people and model wrote or marked something at all."""
    c = score.counts
    n = n_reference(score)
    did = {"span": "marked", "multiselect": "chose"}.get(f.type, "wrote")
    rows: list[Row] = [
        [f"both {did} something", count(c["both"]), Cell(share(c["both"], n), "quiet")],
        [f"only people {did} something", count(c["human_only"]), Cell(share(c["human_only"], n), "quiet")],
        [
            f"only the model {did} something",
            count(c["model_only"]),
            Cell(share(c["model_only"], n), "quiet"),
        ],
        ["neither", count(c["both_empty"]), Cell(share(c["both_empty"], n), "quiet")],
    ]
    if c["unanswered"]:
        rows.append(["no valid answer", count(c["unanswered"]), Cell(share(c["unanswered"], n), "quiet")])
    notes = []
    if f.type == "span":
        notes.append(
            f"Spans: {count(c['human_spans'])} by people, {count(c['model_spans'])} by the model"
            + (f"; {plural(c['unaligned'], 'quote')} of the model not in the text" if c["unaligned"] else "")
            + (
                f"; {count(c['ambiguous'])} of the model's stand more than once in their text"
                if c["ambiguous"]
                else ""
            )
            + (f"; {plural(c['duplicates'], 'repeated span')} counted once" if c["duplicates"] else "")
            + "."
        )
    return Grid(["who", "texts", ""], rows, "lrr", notes=notes)


def conditional_grid(score: FieldScore) -> Grid:
    """Return the ways to look at a conditional field, and the question on which it depends; one label set per row."""
    notes = Footnotes()
    every = {**score.results, **score.extra}
    rows: list[Row] = []
    for words, names in CONDITIONAL_VIEWS:
        values = [every[name] if name else None for name in names]
        cells = [Cell(words)]
        for name, result in zip(names, values, strict=True):
            cells += value_cells(name, result, notes) if result is not None else (Cell(""), Cell(""))
        n = next(result.n for result in values if result is not None)
        rows.append([*cells, Cell(count(n), "quiet")])
    return Grid(
        ["which texts", "accuracy", "", "macro F1", "", "kappa", "", "texts"],
        rows,
        "lriririr",
        caption="A conditional field can be read in several ways",
        notes=notes.lines,
    )


def answer_facts(run: Run, f: Field, score: FieldScore) -> list[tuple[str, str]]:
    """Return how many answers came and why others did not, and the audit line."""
    facts = [("answers", answers_line(run, f))]
    reasons = reasons_of(run, f)
    if reasons:
        facts.append(("no valid answer", "; ".join(by_number(reasons))))
    repaired = sum(answer.repaired for answer in run.coding.answers[f.column])
    if repaired:
        facts.append(
            ("repaired", f"{plural(repaired, 'answer')} fitted after case, white space or type was put right")
        )
    c = score.counts
    parts = [f"{count(c[name])} {words}" for name, words in AUDIT if c[name]]
    facts.append(("rows", f"{count(c['n_rows'])} = {' + '.join(parts)}"))
    return facts


def answers_line(run: Run, f: Field) -> str:
    """Return how many answers of a field have each status."""
    return statuses(run.coding.count(f.column))


def reasons_of(run: Run, f: Field) -> dict[str, int]:
    """Return status and reason -> number, of the answers of a field that are neither valid nor not applicable."""
    counts: dict[str, int] = {}
    for answer in run.coding.answers[f.column]:
        if answer.status in ("ok", "not_applicable"):
            continue
        kind = answer.reason.split(":")[0] if answer.status == "invalid" else answer.reason
        reason = f"{answer.status.replace('_', ' ')}: {kind}" if kind else answer.status
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def further_grid(kind: str, score: FieldScore) -> Grid:
    """Return every other number of the field: the rest of the contract, answered-only and sensitivity values."""
    notes = Footnotes()
    shown = {*HEADLINES[kind], *ANSWERED_TWIN.values(), *_TOLD_ELSEWHERE}
    blank: dict[str, list[str]] = {}
    rows: list[Row] = []
    for name, result in _every(score):
        if name in shown and (result.defined or not _optional(name)):
            continue
        if _optional(name) and not result.defined:
            blank.setdefault(result.reason, []).append(name)
            continue
        rows.append(
            [
                metric_words(name),
                *value_cells(name, result, notes),
                Cell(_n_of(name, result), "quiet"),
                Cell(name if name in score.results else "", "quiet"),
            ]
        )
    absent = [f"{', '.join(names)}: {reason}" for reason, names in blank.items()]
    header = ["metric", "value", "95% interval", "texts", "in the tables"]
    return Grid(header, rows, "lrirl", notes=[*notes.lines, *absent])


_TOLD_ELSEWHERE = (
    *(name for _, names in CONDITIONAL_VIEWS for name in names if name != "accuracy"),
    "baseline_accuracy",
    "baseline_f1_macro",
)


def _every(score: FieldScore) -> Iterable[tuple[str, Any]]:
    yield from score.results.items()
    yield from score.extra.items()
