"""Human labels read from their columns: by the codebook, every fault with the texts that have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbannot.errors import TaskError, listed, nearest, problems
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field, plain_word
from nbannot.study.spans import read_span_column

if TYPE_CHECKING:
    import polars as pl

TICKS = frozenset({"x", "✓", "✔", "☑", "☒", "on", "checked", "selected", "ticked"})
"""What tools write for a ticked box, beside 1, true, yes and the name of the box."""
MOST_EXPLAINED = 50
BLANK_MEANS = {"checkbox": "0", "span": "[]", "multiselect": "[]"}
"""What a blank cell stands for where it means "no": no tick, no passage, none of the options."""


def is_tick(field: Field, cell: str) -> bool:
    """Return whether a cell of a checkbox marks it as ticked in words of its own: a tick, or the name of the box."""
    word = plain_word(cell).casefold()
    return word in TICKS or word in (plain_word(field.name).casefold(), plain_word(field.column).casefold())


def read_labels(
    codebook: Codebook,
    data: pl.DataFrame,
    texts: Sequence[str],
    ids: Sequence[str],
    columns: Sequence[str],
) -> tuple[dict[str, list[Any]], list[str], dict[str, int], dict[str, list[str]]]:
    """Return column -> values (``None``: not coded), the faults, column -> repaired spans, column -> cells at fault."""
    values: dict[str, list[Any]] = {}
    faults: list[str] = []
    repaired: dict[str, int] = {}
    outside: dict[str, list[str]] = {}
    for column in columns:
        field, cells = codebook[column], list(data[column])
        read = _read_spans(field, cells, texts) if field.type == "span" else _read(field, cells)
        values[column], wrong, repaired[column] = read
        faults += _lines(field, wrong, ids)
        if wrong:
            outside[column] = [cell for cell, _, _ in wrong]
    return values, faults, repaired, outside


def outside_in_words(outside: Mapping[str, Sequence[str]]) -> str:
    """Return how many labels outside the codebook there are per column, and which, commonest first; "" without any.

    >>> outside_in_words({"Tone": ["Neutral", "?", "Neutral"]})
    "3 in 'Tone' ('Neutral' 2 times, '?')"
    """
    told = []
    for column, cells in outside.items():
        counts = Counter(cells).most_common()
        named = (repr(cut(cell)) + (f" {n:,} times" if n > 1 else "") for cell, n in counts)
        told.append(f"{len(cells):,} in '{column}' ({listed(named, 3)})")
    return "; ".join(told)


def refuse_outside(task: str, faults: Sequence[str]) -> None:
    """Raise the error that lists labels outside the codebook, if there are any."""
    if faults:
        raise TaskError(
            problems(f"human labels of task '{task}' are outside the codebook", faults)
            + '\n  Correct them, or pass outside_labels="not_coded" to treat them as not coded.'
        )


Wrong = list[tuple[str, str, int]]
"""The cell, why it is no label, and its row."""


def _read(field: Field, cells: Sequence[str]) -> tuple[list[Any], Wrong, int]:
    known: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for cell in dict.fromkeys(cells):
        try:
            known[cell] = field.read(cell)
        except ValueError as error:
            # A wrong column has a wrong cell in every row, and no message shows them all.
            why = str(error) if len(faults) < MOST_EXPLAINED else "is no value of this field either"
            known[cell], faults[cell] = None, why
            if field.type == "checkbox" and is_tick(field, cell):
                faults[cell] += (
                    f"; if it marks a tick, and a blank no tick: blank_means_no=[{field.column!r}]"
                )
    wrong = [(cell, faults[cell], i) for i, cell in enumerate(cells) if cell in faults] if faults else []
    return [known[cell] for cell in cells], wrong, 0


def _read_spans(field: Field, cells: Sequence[str], texts: Sequence[str]) -> tuple[list[Any], Wrong, int]:
    values: list[Any] = []
    wrong: Wrong = []
    repaired = 0
    for i, cell_read in enumerate(read_span_column(cells, texts, field.label_options)):
        if isinstance(cell_read, ValueError):
            wrong.append((cells[i], str(cell_read), i))
            cell_read = None, 0
        values.append(cell_read[0])
        repaired += cell_read[1]
    return values, wrong, repaired


def _lines(field: Field, wrong: Wrong, ids: Sequence[str]) -> list[str]:
    """Return one line per (cell, why), with the ids of the texts that have it."""
    rows: dict[tuple[str, str], list[int]] = {}
    for cell, why, row in wrong:
        rows.setdefault((cell, why), []).append(row)
    lines = []
    for (cell, why), where in rows.items():
        shown = cut(cell)
        texts = "text" if len(where) == 1 else f"{len(where)} texts"
        lines.append(f"{field.column}: {shown!r} {why}; {texts} {listed((ids[i] for i in where), 3)}")
    return lines


def cut(cell: str) -> str:
    """Return a cell as a letter names it."""
    return cell if len(cell) <= 60 else cell[:57] + "…"


def fields_where_blank_means_no(
    codebook: Codebook, wanted: bool | str | Sequence[str], columns: Sequence[str]
) -> list[Field]:
    """Return the checkbox, multiselect and span fields, parents first, in which a blank cell is to mean "no".

    Parameters
    ----------
    wanted
        ``True``: all of them that the data has a column for; else names or columns of some.

    Raises
    ------
    TaskError
        If a name is no field of the codebook, or a field of another type.
    """
    if not wanted:
        return []
    able = [f for f in codebook.in_order if f.type in BLANK_MEANS]
    if wanted is True:
        return [f for f in able if f.column in columns]
    names = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    known = [word for f in able for word in (f.column, f.name)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise TaskError(
            f"blank_means_no names {listed(map(repr, unknown))}, which is no checkbox, multiselect or span field"
            f"{nearest(unknown[0], known) or '.'}\n  It takes True, or some of: {listed(f.column for f in able)}."
        )
    return [f for f in able if {f.column, f.name} & set(names) and f.column in columns]


def with_blanks_as_no(
    codebook: Codebook, data: pl.DataFrame, fields: Sequence[Field]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the data with "no" in the blank cells of these fields, and how many there were in each.

    A blank cell stays blank where the question did not apply: its parent has another value, or none.
    """
    import polars as pl

    filled: dict[str, int] = {}
    for field in fields:
        cells = list(data[field.column])
        if field.type == "checkbox":
            cells = ["1" if cell.strip() and is_tick(field, cell) else cell for cell in cells]
        open_rows = _asked(codebook, data, field)
        blank = [not cell.strip() and asked for cell, asked in zip(cells, open_rows, strict=True)]
        filled[field.column] = sum(blank)
        cells = [BLANK_MEANS[field.type] if no else cell for cell, no in zip(cells, blank, strict=True)]
        data = data.with_columns(pl.Series(field.column, cells, dtype=pl.String))
    return data, filled


def _asked(codebook: Codebook, data: pl.DataFrame, field: Field) -> list[bool]:
    """Return per row whether people were asked: the field has no condition, or its parent has the value it wants."""
    is_open = [True] * data.height
    while field.condition is not None:
        condition = field.condition
        parent = codebook[condition.column]
        if parent.column not in data.columns:
            return is_open
        values = _read(parent, list(data[parent.column]))[0]
        is_open = [up and condition.met_by(value) for up, value in zip(is_open, values, strict=True)]
        field = parent
    return is_open
