"""The confusions of one field: as a matrix, or the most frequent pairs of many labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbannot.page.blocks import (
    Cell,
    Grid,
    Row,
    as_cell,
)
from nbannot.page.digits import (
    count,
    share,
)
from nbannot.page.widths import width_of
from nbannot.report.words import (
    plural,
)
from nbannot.study.field import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbannot.measures.result import FieldScore


MATRIX_AT_MOST = 12
"""With more labels the most frequent confusions are listed instead of the whole matrix."""
PAIRS_SHOWN = 15
HEADER_CHARS = 72
"""Where columns as wide as the longest name take more than this, those of a matrix bear numbers instead."""


def confusion_grid(f: Field, score: FieldScore, who: str = "model") -> Grid:
    """Return the confusion matrix, or its most frequent errors where there are many labels."""
    labels = [str(label) for label in f.labels]
    assert score.confusion is not None  # of fields with labels
    if len(labels) > MATRIX_AT_MOST:
        return error_pairs(labels, score.confusion, who=who)
    return with_numbers(matrix_grid(labels, score.confusion.tolist(), who), len(labels))


def with_numbers(matrix: Grid, n: int) -> Grid:
    """Return a matrix whose first n rows and columns are numbered alike, where their names would make it too wide."""
    names = [as_cell(cell) for cell in matrix.header[1 : n + 1]]
    if n * max(width_of(name.text) for name in names) <= HEADER_CHARS:
        return matrix
    rows = [
        row if isinstance(row, str) or i >= n
        else [replace(first := as_cell(row[0]), text=f"{i + 1} {first.text}"), *row[1:]]
        for i, row in enumerate(matrix.rows)
    ]  # fmt: skip
    numbers = [Cell(str(i + 1), title=name.text) for i, name in enumerate(names)]
    return replace(matrix, header=[matrix.header[0], *numbers, *matrix.header[n + 1 :]], rows=rows)


def matrix_grid(
    labels: Sequence[str], table: Sequence[Sequence[int]], who: str = "model", share_of_row: bool = False
) -> Grid:
    """Return a confusion matrix whose cells are tinted by their share of the row, which they may also say.

    The last row and column (the field does not apply; no label) are left out where they are empty.
    """
    k = len(labels)
    empty_column = not any(row[k] for row in table[:k])
    empty_row = not any(table[k])
    names = [*labels, "no label"][: k + (not (empty_column and empty_row))]
    rows: list[Row] = []
    for i, row in enumerate(table[: k + (not empty_row)]):
        total = sum(row)
        cells = [Cell(names[i] if i < k else "does not apply", "strong")]
        for j, n in enumerate(row[: len(names)]):
            right = i == j
            tint = (n / total if total else 0.0) * (1 if right else -1)
            cells.append(
                Cell(
                    (share(n, total) if share_of_row else count(n)) if n else "·",
                    "strong" if right and n else "plain",
                    tint,
                )
            )
        rows.append([*cells, Cell(count(total), "quiet")])
    its = "the model" if who == "model" else who
    notes = [
        f"Rows: human labels; columns: {its}'s. Cells are {'shares of their row' if share_of_row else 'texts'}."
    ]
    if not (empty_column and empty_row):
        notes.append(f"no label: no valid answer, or {its} said that it does not apply.")
    if not empty_row:
        notes.append("does not apply: by the human labels.")
    return Grid(
        [f"human ↓  {who} →", *names, "texts"],
        rows,
        "l" + "r" * (len(names) + 1),
        caption="Confusion matrix",
        notes=notes,
    )


def error_pairs(
    labels: Sequence[str], table: NDArray[Any], at_most: int = PAIRS_SHOWN, who: str = "model"
) -> Grid:
    """Return the most frequent pairs of a human label and another label of the model."""
    k = len(labels)
    names = [*labels, "no label"]
    human, model = (places.tolist() for places in table[:k].nonzero())
    pairs = [(int(table[i, j]), i, j) for i, j in zip(human, model, strict=True) if i != j]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows: list[Row] = [
        [labels[i], names[j], count(n), Cell(share(n, int(table[i].sum())), "quiet")]
        for n, i, j in pairs[:at_most]
    ]
    rest = sum(n for n, _, _ in pairs[at_most:])
    notes = [f"{plural(rest, 'further error')} in {len(pairs) - at_most} other pairs."] if rest else []
    return Grid(
        ["human", who, "texts", "of that human label"],
        rows,
        "llrr",
        caption=f"Most frequent confusions (of {k} labels)",
        notes=notes,
    )
