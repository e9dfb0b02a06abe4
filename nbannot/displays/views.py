"""Views of one field with labels: the confusion matrix, the labels' distribution, a Likert field's errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbannot.displays.rows import field_of, rows_of, who_of
from nbannot.page.blocks import Block, Cell, Facts, Grid, Heading, Para, Row
from nbannot.page.digits import count, share, value_of
from nbannot.page.figure import BLUE, INK, ORANGE, QUIET, RULE, Box, Figure, Line, Mark, Words, text_width
from nbannot.page.fragment import Fragment
from nbannot.page.html import STRONGEST
from nbannot.page.widths import clipped
from nbannot.report.confusion import MATRIX_AT_MOST, error_pairs, matrix_grid, with_numbers
from nbannot.report.fields import LABEL_TYPES, metric_grid, n_reference
from nbannot.report.words import plural
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.record.scoring import Scored

PAIRS = 50
FIGURE_AT_MOST = 100
"""With more labels there is no image, whose size grows with their square, but only the list."""
LABEL_CHARS = 28
ROW_HEIGHT = 26.0
HALF_WIDTH = 190.0


def confusion(run: Scored, column: str | None = None, share_of_row: bool = False) -> Fragment:
    """Return the confusion matrix of a checkbox, dropdown or likert field as a heat map.

    Cells are tinted by their share of the row: blue where model and people agree, orange where they do not. With
    more than 12 labels the most frequent confusions stand below the image, with more than 100 instead of it.

    Parameters
    ----------
    share_of_row
        Whether the cells are shares of their row, in percent, instead of texts.

    Raises
    ------
    ScoringError
        If the field was not asked or has no labels.
    """
    f = field_of(run, column, LABEL_TYPES, "confusion")
    score = run.scores.fields[f.column]
    n = n_reference(score)
    head: list[Block] = [Heading(f"Confusion: {f.name}", 1, plural(n, "text") + " with a human label")]
    if not n or score.confusion is None:
        return Fragment.of([*head, Para("No human labels: nothing to compare with.")])
    labels = [str(label) for label in f.labels]
    accuracy = score.results["percentage_agreement"]
    right = int(score.confusion.diagonal()[:-1].sum())
    caption = Para(
        f"The same label for {count(right)} of {plural(n, 'text')} ({value_of('accuracy', accuracy)}); "
        f"a valid answer for {count(accuracy.n_answered)}."
    )
    if len(labels) > FIGURE_AT_MOST:
        return Fragment.of([*head, error_pairs(labels, score.confusion, PAIRS, who_of(run)), caption])
    table = score.confusion.tolist()
    figure = heat_map(labels, table, f"Confusion matrix of {f.name}", who_of(run), share_of_row)
    if len(labels) <= MATRIX_AT_MOST:
        matrix = with_numbers(matrix_grid(labels, table, who_of(run), share_of_row), len(labels))
        return Fragment.of([*head, replace(matrix, caption=""), caption], figure)
    return Fragment.of(
        [*head, figure, error_pairs(labels, score.confusion, PAIRS, who_of(run)), caption], figure
    )


def heat_map(
    labels: Sequence[str],
    table: Sequence[Sequence[int]],
    says: str,
    who: str = "model",
    share_of_row: bool = False,
) -> Figure:
    """Return a confusion matrix as a figure; the labels of the columns are numbered where there are many."""
    grid = matrix_grid(labels, table, share_of_row=share_of_row)
    rows = [
        [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        for row in grid.rows
        if not isinstance(row, str)
    ]
    names = [clipped(row[0].text, LABEL_CHARS) for row in rows]
    across = [clipped(str(cell), LABEL_CHARS) for cell in grid.header[1:-1]]
    numbered = len(across) > MATRIX_AT_MOST
    if numbered:
        names = [f"{i + 1}  {name}" if i < len(labels) else name for i, name in enumerate(names)]
        across = [str(i + 1) if i < len(labels) else "–" for i in range(len(across))]
    size = 26.0 if numbered else max(44.0, *(text_width(name, 11) + 12 for name in across))
    left, top = max(text_width(name) for name in [*names, "human"]) + 24, 58.0
    marks: list[Mark] = [
        Words(left, 16, who, "start", 12, QUIET),
        Words(left - 12, 40, "human", "end", 12, QUIET),
    ]
    marks += [Words(left + (j + 0.5) * size, 40, name, "middle", 11, INK) for j, name in enumerate(across)]
    for i, row in enumerate(rows):
        y = top + i * ROW_HEIGHT
        marks.append(Words(left - 12, y + ROW_HEIGHT / 2, names[i], "end", 12, INK))
        for j, cell in enumerate(row[1:-1]):
            x = left + j * size
            color = BLUE if cell.tint > 0 else ORANGE
            marks.append(Box(x + 1, y + 1, size - 2, ROW_HEIGHT - 2, RULE, 0.25))
            marks.append(
                Box(x + 1, y + 1, size - 2, ROW_HEIGHT - 2, color, round(abs(cell.tint) * STRONGEST, 3))
            )
            if cell.text != "·":
                middle = (x + size / 2, y + ROW_HEIGHT / 2)
                marks.append(Words(*middle, cell.text, "middle", 11, INK, cell.tone == "strong"))
    across_width = max(len(across) * size, text_width(who))
    return Figure(left + across_width + 16, top + len(rows) * ROW_HEIGHT + 14, marks, says)


def label_distribution(run: Scored, column: str | None = None) -> Fragment:
    """Return how often people and the model gave each label: on the texts both could label, and on all texts.

    Raises
    ------
    ScoringError
        If the field was not asked or has no labels.
    """
    f = field_of(run, column, (*LABEL_TYPES, "multiselect"), "label_distribution")
    people, model, every = distributions(run, f)
    who = who_of(run)
    scored = sum(people.values())
    more = sum(every.values()) > sum(model.values())
    header = [
        "label",
        *(["people", "", "", who, "", ""] if scored else []),
        *([f"{who}, all texts", "", ""] if more else []),
    ]
    rows: list[Row] = [
        [
            str(label),
            *([*_bar(people, label), *_bar(model, label)] if scored else []),
            *(_bar(every, label) if more else []),
        ]
        for label in f.labels
    ]
    sides = 2 * bool(scored) + more
    blocks: list[Block] = [
        Heading(f"Labels: {f.name}", 1, f"{f.type}, {f.level}"),
        Grid(header, rows, "l" + "rrl" * sides, notes=_coverage(run, f, scored, model)),
    ]
    names = [str(label) for label in f.labels]
    pairs = [(people[label], (model if scored else every)[label]) for label in f.labels]
    figure = butterfly(
        names, pairs, "people", who, f"Labels of {f.name} given by people and by {who_of(run, 'the ')}"
    )
    return Fragment.of(blocks, figure)


def distributions(run: Scored, f: Field) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """Return the labels of people, of the model on the same texts, and of the model on all texts."""
    rows = list(rows_of(run, f))
    coded = [row for row in rows if row.human is not None]
    return (
        _tally(row.human for row in coded),
        _tally(row.model for row in coded if row.model is not None),
        _tally(row.model for row in rows if row.model is not None),
    )


def _tally(values: Iterable[Any]) -> Counter[Any]:
    """Return how often each label was given; of sets of options, how often each option was chosen."""
    return Counter(label for value in values for label in (value if isinstance(value, list) else [value]))


def _bar(counts: Counter[Any], label: Any) -> list[Cell]:
    total = sum(counts.values())
    part = counts[label] / total if total else 0.0
    return [Cell(count(counts[label])), Cell(share(counts[label], total), "quiet"), Cell("", bar=part)]


def _coverage(run: Scored, f: Field, scored: int, model: Counter[Any]) -> list[str]:
    weighted = ["Each text is counted once, not weighted."] if run.scores.settings.get("weighted") else []
    if f.type == "multiselect":
        return ["Shares are of all options chosen; a text may have several, or none.", *weighted]
    return [*_coverage_note(run, scored, model), *weighted]


def _coverage_note(run: Scored, scored: int, model: Counter[Any]) -> list[str]:
    missing = scored - sum(model.values())
    if missing <= 0:
        return []
    return [
        f"{who_of(run, 'The ')} gave no label for {count(missing)} of the {count(scored)} texts that people labelled."
    ]


def likert_view(run: Scored, column: str | None = None) -> Fragment:
    """Return a Likert field's distribution, and how far and in which direction the model errs.

    Raises
    ------
    ScoringError
        If the field was not asked or is no likert.
    """
    f = field_of(run, column, ("likert",), "likert_view")
    score = run.scores.fields[f.column]
    n = n_reference(score)
    if not n:
        return label_distribution(run, column)
    people, model, _ = distributions(run, f)
    rows: list[Row] = [[str(point), *_bar(people, point), *_bar(model, point)] for point in f.labels]
    blocks: list[Block] = [
        Heading(f"Scale: {f.name}", 1, f"{f.min_value} to {f.max_value}, {plural(n, 'text')}"),
        Grid(
            ["point", "people", "", "", who_of(run), "", ""],
            rows,
            "lrrlrrl",
            notes=_coverage_note(run, n, model),
        ),
        *_errors(run, f),
        metric_grid(f.type, score, ("bias", "mae", "within_one", "percentage_agreement", "quadratic_kappa")),
    ]
    pairs = [(people[point], model[point]) for point in f.labels]
    says = f"Scale points of {f.name} given by people and by {who_of(run, 'the ')}"
    return Fragment.of(blocks, butterfly([str(p) for p in f.labels], pairs, "people", who_of(run), says))


def _errors(run: Scored, f: Field) -> list[Block]:
    """Return how many scale points the answers are off, and in which direction."""
    rows = [row for row in rows_of(run, f) if row.human is not None and row.model is not None]
    errors = Counter(row.model - row.human for row in rows)
    n = len(rows)
    widest = max((abs(step) for step in errors), default=0)
    steps: list[Row] = [
        [
            Cell(_step(step), "strong" if step == 0 else "plain"),
            count(errors[step]),
            Cell(share(errors[step], n), "quiet"),
            Cell("", bar=errors[step] / n if n else 0.0),
        ]
        for step in range(-widest, widest + 1)
    ]
    directions = {
        "too low": sum(k for step, k in errors.items() if step < 0),
        "exact": errors[0],
        "too high": sum(k for step, k in errors.items() if step > 0),
    }
    return [
        Grid(
            [f"{who_of(run)} − human", "texts", "", ""], steps, "rrrl", caption="How far the answers are off"
        ),
        Facts([(name, f"{count(k)} ({share(k, n)})") for name, k in directions.items()]),
    ]


def _step(step: int) -> str:
    if step == 0:
        return "0 (exact)"
    return f"+{step}" if step > 0 else f"−{-step}"


def butterfly(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], left_name: str, right_name: str, says: str
) -> Figure:
    """Return two distributions back to back, one bar each per name, in shares of their own totals."""
    totals = [max(1, sum(pair[side] for pair in pairs)) for side in (0, 1)]
    most = max((pair[side] / totals[side] for pair in pairs for side in (0, 1)), default=0) or 1.0
    middle = max([text_width(clipped(name, LABEL_CHARS)) for name in names] or [0]) + 28
    center = HALF_WIDTH + 60
    marks: list[Mark] = [
        Words(center - middle / 2, 18, left_name, "end", 12, QUIET),
        Words(center + middle / 2, 18, right_name, "start", 12, QUIET),
    ]
    for i, (name, pair) in enumerate(zip(names, pairs, strict=True)):
        y = 34 + i * ROW_HEIGHT
        marks.append(Words(center, y + ROW_HEIGHT / 2, clipped(name, LABEL_CHARS), "middle"))
        for side, color in ((0, BLUE), (1, ORANGE)):
            length = pair[side] / totals[side] / most * (HALF_WIDTH - middle / 2)
            start = center + middle / 2 if side else center - middle / 2 - length
            marks.append(Box(start, y + 4, length, ROW_HEIGHT - 8, color, 0.75))
            end = start + length + 6 if side else start - 6
            words = f"{share(pair[side], totals[side])}"
            marks.append(Words(end, y + ROW_HEIGHT / 2, words, "start" if side else "end", 11, QUIET))
    bottom = 34 + len(names) * ROW_HEIGHT
    marks += [Line(x, 30, x, bottom) for x in (center - middle / 2, center + middle / 2)]
    return Figure(2 * center, bottom + 14, marks, says)
