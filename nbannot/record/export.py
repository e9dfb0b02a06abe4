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
from nbannot.record.cells import cell_text, csv_record

Digits: TypeAlias = int | Mapping[str, int] | None

LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "{}&%$#_"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


class _Grid(NamedTuple):
    names: list[str]
    rows: list[list[object]]


def to_latex(frame: Any, caption: str | None = None, label: str | None = None, *, digits: Digits = 3) -> str:
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
    grid = _grid(frame)
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in _right_aligned(grid))}}}",
        r"\toprule",
        _latex_row(_latex_text(name) for name in grid.names),
        r"\midrule",
        *(_latex_row(_latex_cell(*cell, digits) for cell in _cells(grid, row)) for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption is not None or label is not None:
        head = [r"\begin{table}", r"\centering"]
        head += [] if caption is None else [rf"\caption{{{_latex_text(caption)}}}"]
        head += [] if label is None else [rf"\label{{{label}}}"]
        lines = [*head, *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def to_markdown(frame: Any, *, digits: Digits = 3) -> str:
    """Return a frame as a Markdown table (GitHub's form); parameters as in `to_latex`.

    >>> print(to_markdown([{"field": "A_B", "kappa": 0.61234}, {"field": "C | D", "kappa": None}]))
    | field | kappa |
    | --- | ---: |
    | A_B | 0.612 |
    | C \\| D |  |
    <BLANKLINE>
    """
    grid = _grid(frame)
    rows = [
        [_markdown_text(name) for name in grid.names],
        ["---:" if right else "---" for right in _right_aligned(grid)],
        *(
            [_markdown_text(_shown(name, value, digits)) for name, value in _cells(grid, row)]
            for row in grid.rows
        ),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_csv(frame: Any) -> str:
    r"""Return a frame as CSV: RFC 4180 quoting, ``\n`` line ends, every digit, blanks where a value is missing.

    >>> to_csv([{"text": "a, b", "value": 0.1}, {"text": None, "value": 2}])
    'text,value\n"a, b",0.1\n,2\n'
    """
    grid = _grid(frame)
    rows = [
        grid.names,
        *([_shown(name, value, None) for name, value in _cells(grid, row)] for row in grid.rows),
    ]
    return "".join(f"{csv_record(row)}\n" for row in rows)


def _grid(frame: Any) -> _Grid:
    """Return column names and rows of Python values, missing ones as ``None``."""
    if hasattr(frame, "iter_rows"):
        grid = _Grid(list(frame.columns), [list(row) for row in frame.iter_rows()])
    elif hasattr(frame, "reset_index"):
        grid = _pandas_grid(frame)
    elif isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
        names = list(dict.fromkeys(name for row in frame for name in row))
        grid = _Grid([str(name) for name in names], [[row.get(name) for name in names] for row in frame])
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


def _pandas_grid(frame: Any) -> _Grid:
    table = frame.to_frame() if frame.ndim == 1 else frame
    index = table.index
    names = [_flat(name) for name in table.columns]
    cells = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    if index.nlevels == 1 and index.name is None and (len(index) == 0 or index.inferred_type == "integer"):
        return _Grid(names, cells)
    labels = [list(key) if index.nlevels > 1 else [key] for key in index]
    heads = ["" if name is None else str(name) for name in index.names]
    return _Grid([*heads, *names], [[*key, *row] for key, row in zip(labels, cells, strict=True)])


def _flat(name: object) -> str:
    """Return a column name as one text; the levels of a pivoted frame are joined."""
    return ", ".join(str(level) for level in name if level != "") if isinstance(name, tuple) else str(name)


def _cells(grid: _Grid, row: list[object]) -> Iterable[tuple[str, object]]:
    return zip(grid.names, row, strict=True)


def _right_aligned(grid: _Grid) -> list[bool]:
    """Return for each column whether it holds numbers (and nothing else)."""
    columns = ([row[i] for row in grid.rows if not _missing(row[i])] for i in range(len(grid.names)))
    return [bool(cells) and all(_is_number(cell) for cell in cells) for cells in columns]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))


def _shown(name: str, value: object, digits: Digits) -> str:
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


def _latex_row(cells: Iterable[str]) -> str:
    r"""Return one row; ``[`` and ``*`` at its start are kept from being read as an option of the ``\\`` before."""
    row = " & ".join(cells)
    return rf"{{{row[0]}}}{row[1:]} \\" if row.startswith(("[", "*")) else rf"{row} \\"


def _latex_cell(name: str, value: object, digits: Digits) -> str:
    shown = _shown(name, value, digits)
    if not _is_number(value):
        return _latex_text(shown)
    if (power := re.fullmatch(r"(.+)e([+-]\d+)", shown)) is not None:
        return rf"${power[1]} \times 10^{{{int(power[2])}}}$"
    shown = shown.replace("inf", r"\infty")
    return f"${shown}$" if shown.startswith(("-", "\\")) else shown


def _latex_text(text: str) -> str:
    return re.sub(r"-(?=-)", "-{}", " ".join(text.split()).translate(LATEX))


def _markdown_text(text: str) -> str:
    """Return text that a Markdown table shows as it is: marks of Markdown, HTML and mathematics are escaped."""
    escaped = re.sub(r"[\\|*`<&\[\]~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    return "<br>".join(escaped.splitlines())
