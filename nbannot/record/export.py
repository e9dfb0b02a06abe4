"""Tables on their way out: any frame or list of rows as LaTeX for a paper, Markdown for a README, or CSV.

A pandas or polars frame (polars needs no pandas) or a list of dicts goes in, text comes out. A frame's index is
part of the table where it has a name or holds words, as after a pivot; plain row numbers are left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

from nbannot.errors import TableError
from nbannot.page.latex import latex_row, latex_text
from nbannot.page.markdown import markdown_text
from nbannot.record.cells import cell_text, csv_record

Digits: TypeAlias = int | Mapping[str, int] | None

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, also in full width."""
BLANKS = " \t\r\n\x0b\x0c\xa0\u200b\ufeff'\""
"""What some spreadsheets skip in front of one."""
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
LOOKS = "looks"
"""The column of a CSV that says how often the test half was consulted."""


class Grid(NamedTuple):
    """A table as column names and rows of Python values."""

    names: list[str]
    rows: list[list[object]]


def to_latex(
    frame: Any, caption: str | None = None, label: str | None = None, *, digits: Digits = 3, note: str = ""
) -> str:
    r"""Return a frame as a LaTeX table with booktabs rules (``\usepackage{booktabs}``), everything escaped.

    Parameters
    ----------
    frame
        A pandas or polars frame, or a list of dicts; blank where a value is missing.
    caption, label
        With either, a ``table`` environment is put around the ``tabular``; the caption is escaped, too.
    digits
        Decimals of numbers that are not whole: one number for all columns, or a dict by column name; ``None``
        gives every digit. What would round to zero keeps so many significant digits instead.
    note
        A sentence below the table.

    Raises
    ------
    TableError
        If `frame` is something else, or has no columns.

    Examples
    --------
    >>> print(to_latex([{"field": "A_B", "kappa": 0.61234}, {"field": "C & D", "kappa": -0.1}]))
    \begin{tabular}{lr}
    \toprule
    field & kappa \\
    \midrule
    A\_B & 0.612 \\
    C \& D & $-0.100$ \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    grid = grid_of(frame)
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in _right_aligned(grid))}}}",
        r"\toprule",
        latex_row(latex_text(name) for name in grid.names),
        r"\midrule",
        *(latex_row(_latex_cell(*cell, digits) for cell in _cells(grid, row)) for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if note:
        lines += ["", rf"\smallskip {{\footnotesize {latex_text(note)}}}"]
    if caption is not None or label is not None:
        head = [r"\begin{table}", r"\centering"]
        head += [] if caption is None else [rf"\caption{{{latex_text(caption)}}}"]
        head += [] if label is None else [rf"\label{{{label}}}"]
        lines = [*head, *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def to_markdown(frame: Any, *, digits: Digits = 3, note: str = "") -> str:
    """Return a frame as a Markdown table (GitHub's form); parameters as in `to_latex`.

    >>> print(to_markdown([{"field": "A_B", "kappa": 0.61234}, {"field": "C | D", "kappa": None}]))
    | field | kappa |
    | --- | ---: |
    | A_B | 0.612 |
    | C \\| D |  |
    <BLANKLINE>
    """
    grid = grid_of(frame)
    rows = [
        [markdown_text(name) for name in grid.names],
        ["---:" if right else "---" for right in _right_aligned(grid)],
        *(
            [markdown_text(shown_as(name, value, digits)) for name, value in _cells(grid, row)]
            for row in grid.rows
        ),
    ]
    below = f"\n{markdown_text(note)}\n" if note else ""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + below


def to_csv(frame: Any, *, for_spreadsheet: bool = False, looks: str = "") -> str:
    r"""Return a frame as CSV: RFC 4180 quoting, ``\n`` line ends, every digit, blanks where a value is missing.

    Parameters
    ----------
    for_spreadsheet
        Whether a spreadsheet is to open it: a text that it would run as a formula gets an apostrophe in front (see
        `defused`), so that it is no longer, character by character, what the model or the data said. For reading it
        back, and for every other program, leave this out.
    looks
        How often the test half on which the numbers were made was consulted: a last column, ``looks``, in every row.

    >>> to_csv([{"text": "a, b", "value": 0.1}, {"text": None, "value": 2}])
    'text,value\n"a, b",0.1\n,2\n'
    """
    grid = grid_of(frame)
    if looks:
        grid = Grid([*grid.names, LOOKS], [[*row, looks] for row in grid.rows])
    rows = [
        grid.names,
        *([shown_as(name, value, None) for name, value in _cells(grid, row)] for row in grid.rows),
    ]
    if for_spreadsheet:
        values: list[Sequence[object]] = [grid.names, *grid.rows]
        words = [[not is_number(value) for value in row] for row in values]
        rows = [
            [defused(cell) if word else cell for cell, word in zip(row, of, strict=True)]
            for row, of in zip(rows, words, strict=True)
        ]
    return "".join(f"{csv_record(row)}\n" for row in rows)


def defused(text: str) -> str:
    """Return a text that a spreadsheet shows and does not run: one that would begin a formula gets an apostrophe.

    >>> defused("=1+1"), defused("a = b")
    ("'=1+1", 'a = b')
    """
    begins = text.lstrip(BLANKS).startswith(FORMULA) or text[:1] in ("\t", "\r")
    return f"'{text}" if begins and not NUMBER.fullmatch(text) else text


def grid_of(frame: Any) -> Grid:
    """Return column names and rows of Python values, missing ones as ``None``."""
    if hasattr(frame, "iter_rows"):
        grid = Grid(list(frame.columns), [list(row) for row in frame.iter_rows()])
    elif hasattr(frame, "reset_index"):
        grid = _pandas_grid(frame)
    elif isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
        names = list(dict.fromkeys(name for row in frame for name in row))
        grid = Grid([str(name) for name in names], [[row.get(name) for name in names] for row in frame])
    else:
        raise TableError(
            f"Only a pandas frame, a polars frame or a list of dicts can be exported. Got {type(frame).__name__}."
            "\n  Make it one of these, for example pandas.DataFrame(...)."
        )
    if not grid.names:
        raise TableError(
            "There is nothing to export: the table has no columns.\n  Give one with at least one column."
        )
    return grid


def _pandas_grid(frame: Any) -> Grid:
    table = frame.to_frame() if frame.ndim == 1 else frame
    index = table.index
    names = [_flat(name) for name in table.columns]
    cells = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    if index.nlevels == 1 and index.name is None and (len(index) == 0 or index.inferred_type == "integer"):
        return Grid(names, cells)
    labels = [list(key) if index.nlevels > 1 else [key] for key in index]
    heads = ["" if name is None else str(name) for name in index.names]
    return Grid([*heads, *names], [[*key, *row] for key, row in zip(labels, cells, strict=True)])


def _flat(name: object) -> str:
    """Return a column name as one text; the levels of a pivoted frame are joined."""
    return ", ".join(str(level) for level in name if level != "") if isinstance(name, tuple) else str(name)


def _cells(grid: Grid, row: list[object]) -> Iterable[tuple[str, object]]:
    return zip(grid.names, row, strict=True)


def _right_aligned(grid: Grid) -> list[bool]:
    """Return for each column whether it holds numbers (and nothing else)."""
    columns = ([row[i] for row in grid.rows if not _missing(row[i])] for i in range(len(grid.names)))
    return [bool(cells) and all(is_number(cell) for cell in cells) for cells in columns]


def is_number(value: object) -> bool:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))


def shown_as(name: str, value: object, digits: Digits) -> str:
    """Return a value as plain text, numbers with the digits asked for."""
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, Real) and not isinstance(value, Integral):
        return _decimal(float(value), digits.get(name) if isinstance(digits, Mapping) else digits)
    if value is None or isinstance(value, str | Integral):
        return cell_text("", value)
    return str(value)


def _decimal(number: float, digits: int | None) -> str:
    if digits is None or not math.isfinite(number):
        return cell_text("", number)
    fixed = f"{number:.{digits}f}"
    if float(fixed) != 0:
        return fixed
    return f"{number:.{max(digits, 1)}g}" if number else fixed.lstrip("-")


def _latex_cell(name: str, value: object, digits: Digits) -> str:
    shown = shown_as(name, value, digits)
    if not is_number(value):
        return latex_text(shown)
    if (power := re.fullmatch(r"(.+)e([+-]\d+)", shown)) is not None:
        return rf"${power[1]} \times 10^{{{int(power[2])}}}$"
    shown = shown.replace("inf", r"\infty")
    return f"${shown}$" if shown.startswith(("-", "\\")) else shown
