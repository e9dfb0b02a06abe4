"""Labels of several people in plain tables: a column per coder, a column that names the coder, or a table each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nbannot.comparing.people import Labels
from nbannot.errors import ScoringError, listed, nearest, problems
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field
from nbannot.study.reading import as_text
from nbannot.study.task import ID_COLUMNS

CODER_COLUMNS = ("coder", "annotator", "rater", "worker", "coder_id", "annotator_id", "worker_id")
LEVELS = ("nominal", "ordinal", "interval", "ratio")
LABEL = "label"


def labels_in_tables(
    source: Any, *, coder: str | None, coders: Sequence[str] | None, id_column: str | None, column: str | None
) -> dict[str, Labels]:
    """Return coder -> text id -> column -> cell, as text.

    Parameters
    ----------
    source
        One frame (long with a column that names the coder, else wide), or a list or dictionary of one per coder.
    coder
        Of a long frame: the column with the names; found by itself where it is called coder, annotator, rater, worker.
    coders
        Of a wide frame: the columns with the labels; left out: all but the ids.
    column
        The field: of a wide frame its name, else the column to read.

    Raises
    ------
    ScoringError
        If there are no ids, a column is missing, or somebody coded a text twice: with coder and row.
    """
    return _whole_numbers(_labels(source, coder, coders, id_column, column))


def _labels(
    source: Any, coder: str | None, coders: Sequence[str] | None, id_column: str | None, column: str | None
) -> dict[str, Labels]:
    if isinstance(source, Mapping):
        frames = {str(name): as_text(frame) for name, frame in source.items()}
        return {name: _own(frame, name, id_column, column) for name, frame in frames.items()}
    if isinstance(source, Sequence):
        frames = {f"coder {n}": as_text(frame) for n, frame in enumerate(source, start=1)}
        return {name: _own(frame, name, id_column, column) for name, frame in frames.items()}
    table = as_text(source)
    names = list(table.columns)
    if not table.height:
        raise ScoringError(f"the table has no rows, only the header {listed(names, 12)}.")
    if coder is None and coders is None:
        coder = next((name for name in CODER_COLUMNS if name in names), None)
    if coder is not None:
        return _long(table, _known(coder, names), _id_column(names, id_column), column)
    ids = _id_column(names, id_column)
    columns = (
        [_known(name, names) for name in coders] if coders is not None else [n for n in names if n != ids]
    )
    if len(columns) < 2:
        raise ScoringError(
            f"a table with a column per coder needs two of them. Got {listed(columns) or 'none'}.\n"
            "  If one column names the coder, say which: coder='...'."
        )
    people = {name: _rows(table, ids, {column or LABEL: name}, name) for name in columns}
    if coders is None:
        _refuse_other_columns(people)
    return people


def _refuse_other_columns(people: Mapping[str, Labels]) -> None:
    """Raise where a column that nobody named as a coder's hardly has a value in common with the others."""
    own = {
        name: {re.sub(r"^(-?\d+)\.0+$", r"\1", cell) for row in labels.values() for cell in row.values()}
        for name, labels in people.items()
    }
    common = Counter(cell for cells in own.values() for cell in cells)
    odd = [name for name, cells in own.items() if 2 * sum(common[c] > 1 for c in cells) < len(cells)]
    others = [name for name in own if name not in odd]
    if odd and len(others) > 1:
        raise ScoringError(
            f"most of what stands in {listed(map(repr, odd), 4)} stands in no other column: are these labels of a "
            f"coder?\n  Say which columns are: coders={others!r}."
        )


def nearly_the_same(people: Mapping[str, Labels]) -> tuple[str, ...]:
    """Return a sentence per column of which some labels differ in capital letters or blanks alone."""
    seen: dict[str, set[str]] = {}
    for labels in people.values():
        for row in labels.values():
            for column, cell in row.items():
                seen.setdefault(column, set()).add(cell)
    twins: dict[str, list[str]] = {}
    for column, cells in seen.items():
        forms: dict[str, list[str]] = {}
        for cell in sorted(cells):
            forms.setdefault(" ".join(cell.casefold().split()), []).append(cell)
        twins[column] = next((form for form in forms.values() if len(form) > 1), [])
    return tuple(
        f"{column}: {listed(map(repr, form), 4)} count as different labels, as there is no codebook to say "
        "that they are one."
        for column, form in twins.items()
        if form
    )


def _whole_numbers(people: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return the cells with ``1.0`` read as 1 in columns of numbers: tables write it so where a cell is blank."""
    columns = dict.fromkeys(column for labels in people.values() for row in labels.values() for column in row)
    cells = {
        c: {row[c] for labels in people.values() for row in labels.values() if c in row} for c in columns
    }
    numbers = {column for column in columns if _numbers(cells[column]) is not None}
    return {
        name: {
            i: {c: re.sub(r"\.0+$", "", cell) if c in numbers else cell for c, cell in row.items()}
            for i, row in labels.items()
        }
        for name, labels in people.items()
    }


def fields_of(people: Mapping[str, Labels], level: str) -> list[Field]:
    """Return a field per column that tables hold, with the values that occur as its labels, in their order.

    Raises
    ------
    ScoringError
        If the level is unknown, or needs numbers and there are others.
    """
    if level not in LEVELS:
        raise ScoringError(
            f"level must be one of {listed(LEVELS)}. Got {level!r}{nearest(level, LEVELS) or '.'}"
        )
    columns = dict.fromkeys(column for labels in people.values() for row in labels.values() for column in row)
    return [_field(column, people, level) for column in columns]


def as_values(people: Mapping[str, Labels], fields: Sequence[Field]) -> dict[str, Labels]:
    """Return the cells of plain tables as values of their fields."""
    scales = {f.column for f in fields if f.type == "likert"}
    return {
        name: {
            i: {c: int(float(cell)) if c in scales else cell for c, cell in row.items()}
            for i, row in labels.items()
        }
        for name, labels in people.items()
    }


def read_by_codebook(people: Mapping[str, Labels], codebook: Codebook) -> dict[str, Labels]:
    """Return the cells of plain tables as a codebook reads them; columns that it does not have are left out.

    Raises
    ------
    ScoringError
        If a cell is outside the codebook: with coder and text.
    """
    columns = {column for labels in people.values() for row in labels.values() for column in row}
    if columns == {LABEL} and len(codebook) == 1:
        people = {c: {i: {codebook.fields[0].column: row[LABEL]} for i, row in labels.items() if row}
                  for c, labels in people.items()}  # fmt: skip
    elif not columns & {name for f in codebook for name in (f.column, f.name)}:
        names = listed((f.name for f in codebook), 12)
        if columns <= {LABEL}:
            raise ScoringError(
                f"say which question the coders answered, one of {names}:\n"
                f"  nba.agreement(table, '{codebook.fields[0].name}', ...)."
            )
        raise ScoringError(
            f"no column of the tables is a field of the codebook.\n  Their columns: {listed(sorted(columns), 12)}; "
            f"its fields: {names}."
        )
    wrong: list[str] = []
    coders: dict[str, Labels] = {}
    for name, labels in people.items():
        of_coder = coders.setdefault(name, {})
        for text_id, row in labels.items():
            read = of_coder.setdefault(text_id, {})
            for f in codebook:
                cell = row.get(f.column, row.get(f.name))
                if cell is None:
                    continue
                try:
                    value = f.read(cell)
                except ValueError as error:
                    wrong.append(f"coder '{name}', text {text_id}, {f.name}: {cell!r} {error}")
                    continue
                if value is not None:
                    read[f.column] = value
    if wrong:
        raise ScoringError(problems("labels are outside the codebook", wrong))
    return coders


def _field(column: str, people: Mapping[str, Labels], level: str) -> Field:
    cells = {row[column] for labels in people.values() for row in labels.values() if column in row}
    numbers = _numbers(cells)
    if numbers is None and level != "nominal":
        odd = [
            f"{row[column]!r} of coder '{name}', text {text_id}"
            for name, labels in people.items()
            for text_id, row in labels.items()
            if column in row and _numbers({row[column]}) is None
        ]
        raise ScoringError(f"level '{level}' needs numbers. Column '{column}' has {listed(odd, 3)}.")
    whole = numbers is not None and all(number.is_integer() for number in numbers)
    if level != "nominal" and whole and numbers and max(numbers) - min(numbers) < 1_000:
        low, high = int(min(numbers)), int(max(numbers))
        return Field(column, column, "", "", "likert", "", min_value=low, max_value=max(high, low + 1))
    ordered = sorted(cells, key=float) if numbers is not None else sorted(cells)
    return Field(column, column, "", "", "dropdown", "", options=tuple(ordered))


def _numbers(cells: set[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ScoringError(
            f"the table has no column '{name}'{nearest(name, names) or '.'}\n  Its columns: {listed(names, 12)}."
        )
    return name


def _id_column(names: Sequence[str], wanted: str | None) -> str:
    if wanted is not None:
        return _known(wanted, names)
    column = next((name for name in ID_COLUMNS if name in names), None)
    if column is None:
        raise ScoringError(
            f"the table has no id column: one of {listed(ID_COLUMNS)}.\n"
            f"  Its columns: {listed(names, 12)}. Say which it is: id_column='...'."
        )
    return column


def _own(table: Any, name: str, id_column: str | None, column: str | None) -> Labels:
    names = list(table.columns)
    try:
        ids = _id_column(names, id_column)
        columns = [_known(column, names)] if column else [n for n in names if n != ids]
    except ScoringError as error:
        raise ScoringError(f"coder '{name}': {error}") from None
    return _rows(table, ids, {n: n for n in columns}, name)


def _rows(table: Any, ids: str, columns: Mapping[str, str], coder: str) -> Labels:
    """Return the labels in some columns of a table, field -> column, of one coder."""
    labels: Labels = {}
    for number, text_id in enumerate(table[ids].to_list(), start=1):
        if text_id in labels:
            raise ScoringError(f"coder '{coder}', row {number}: the id '{text_id}' is there twice.")
        labels[text_id] = {}
    for field, column in columns.items():
        for text_id, cell in zip(labels, table[column].to_list(), strict=True):
            if cell.strip():
                labels[text_id][field] = cell.strip()
    return labels


def _long(table: Any, coder: str, ids: str, column: str | None) -> dict[str, Labels]:
    names = list(table.columns)
    columns = [_known(column, names)] if column else [n for n in names if n not in (coder, ids)]
    coders: dict[str, Labels] = {}
    cells = [table[n].to_list() for n in columns]
    for number, (who, text_id) in enumerate(zip(table[coder].to_list(), table[ids].to_list(), strict=True)):
        if not who.strip():
            raise ScoringError(f"row {number + 1}: '{coder}' is blank, nobody said this.")
        labels = coders.setdefault(who, {})
        if text_id in labels:
            raise ScoringError(f"coder '{who}', row {number + 1}: text '{text_id}' was coded before.")
        labels[text_id] = {
            n: of_column[number].strip()
            for n, of_column in zip(columns, cells, strict=True)
            if of_column[number].strip()
        }
    return dict(sorted(coders.items()))
