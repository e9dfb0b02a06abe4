"""A formula over a corpus: the outcome and the terms, by the model's labels and by people's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.errors import CodebookError, NbannotError, ScoringError, listed, nearest
from nbannot.inference.gold import one_option
from nbannot.measures.result import FloatArray
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field
from nbannot.study.task import Task

SIDES = re.compile(r"^(?P<left>[^~]+)~(?P<right>[^~]+)$")
OUTCOME = re.compile(
    r"^(?:`(?P<quoted>[^`]+)`|(?P<name>[^\s=!<>]+(?: [^\s=!<>]+)*))\s*(?:(?P<sign>==|!=)\s*(?P<value>.+))?$"
)
EXAMPLE = "\"Stance == 'pro' ~ party + year\""


@dataclass(frozen=True)
class Side:
    """The outcome of a formula: a field (with the value it is compared with), or a column of the data.

    Of a multiselect the field is one option, which counts as 1 where it was chosen; `asked` is its name then.
    """

    text: str
    field: Field | None
    column: str
    value: Any = None
    negated: bool = False
    asked: str = ""


def parsed(formula: str, task: Task) -> tuple[Side, str]:
    """Return the outcome and the right side of a formula.

    Raises
    ------
    ScoringError
        If it is no formula, or the outcome is neither a field nor a column.
    """
    match = SIDES.match(formula) if isinstance(formula, str) else None
    left = OUTCOME.match(match["left"].strip()) if match else None
    if match is None or left is None:
        raise ScoringError(f"a formula is an outcome, ~ and terms, e.g. {EXAMPLE}. Got {formula!r}.")
    name = (left["quoted"] or left["name"]).strip()
    option = one_option(task.codebook, name)
    field = option or field_named(task.codebook, name)
    if field is None and name not in task.data.columns:
        known = [f.name for f in task.codebook] + list(task.data.columns)
        raise ScoringError(
            f"'{name}' is neither a field nor a column{nearest(name, known) or '.'}\n"
            f"  Fields and columns: {listed(known, 12)}."
        )
    if option is not None and left["value"] is None:
        return Side(name, option, name, 1, asked=name), match["right"].strip()
    if field is not None and field.type == "multiselect":
        whole = task.codebook[field.column]
        raise ScoringError(
            f"'{whole.name}' is a multiselect, which has several labels per text; an outcome is one of its options:\n"
            f'  "{whole.name}: {whole.options[0]} ~ {match["right"].strip()}".'
        )
    value = None if left["value"] is None else _value(left["value"].strip(), field, name)
    if value is None and field is not None and field.type in ("dropdown", "textbox", "span"):
        hint = (
            f"e.g. {name} == {field.labels[0]!r}"
            if field.labels
            else "only checkboxes, scales and options can be one"
        )
        raise ScoringError(f"'{name}' has labels that are not numbers: compare it with one of them, {hint}.")
    return Side(match["left"].strip(), field, name, value, left["sign"] == "!="), match["right"].strip()


def field_named(codebook: Codebook, name: str) -> Field | None:
    """Return the field of this name or column, None if there is none."""
    try:
        return codebook[name]
    except CodebookError:
        return None


def _value(text: str, field: Field | None, name: str) -> Any:
    quoted = re.fullmatch(r"(['\"])(.*)\1", text)
    value: Any = quoted[2] if quoted else text
    if field is None:
        return value
    for label in field.labels:
        if str(label) == value or (value in ("True", "False") and label == int(value == "True")):
            return label
    raise ScoringError(
        f"'{value}' is not a label of {name}{nearest(str(value), map(str, field.labels)) or '.'}\n"
        f"  Its labels: {listed(field.labels, 12)}."
    )


def numbers(side: Side, values: Sequence[Any]) -> FloatArray:
    """Return an outcome as numbers, ``nan`` where there is no value."""
    if side.value is not None:
        read = [np.nan if v in (None, "") else float((v == side.value) != side.negated) for v in values]
    else:
        read = [_number(v) for v in values]
    return np.array(read, dtype=float)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def columns_of(right: str, task: Task) -> tuple[list[str], dict[str, Field]]:
    """Return the names that the terms use: columns of the data, and fields, whose labels are the model's or people's.

    Raises
    ------
    ScoringError
        If a name is neither, or the extra is not installed.
    """
    try:
        from formulaic import Formula
        from formulaic.errors import FormulaicError
    except ImportError:
        raise ScoringError(
            "formulas need the package formulaic.\n  Type: pip install 'nbannot[study]'"
        ) from None
    try:
        needed = sorted(str(name) for name in Formula(right).required_variables)
    except (FormulaicError, SyntaxError) as error:
        raise ScoringError(
            f"the terms '{right}' cannot be read: {str(error).splitlines()[0]}\n"
            "  Put names with spaces or signs in `backticks`."
        ) from None
    plain = [
        name for name in needed if name in task.data.columns and field_named(task.codebook, name) is None
    ]
    fields = {name: f for name in needed if (f := field_named(task.codebook, name)) is not None}
    unknown = [name for name in needed if name not in plain and name not in fields]
    if unknown:
        known = [f.name for f in task.codebook] + list(task.data.columns)
        raise ScoringError(
            f"the terms name {listed(map(repr, unknown))}, neither a column nor a field"
            f"{nearest(unknown[0], known) or '.'}\n"
            f"  Fields and columns: {listed(known, 12)}. Put names with spaces in `backticks`."
        )
    return plain, fields


def column_values(cells: Sequence[str]) -> Any:
    """Return a column as numbers where all its cells are, else as words; blanks are missing."""
    import pandas as pd

    filled = [c.strip() for c in cells]
    values = [_number(c) for c in filled]
    if all(c == "" or not np.isnan(v) for c, v in zip(filled, values, strict=True)) and any(filled):
        return pd.Series(values, dtype=float)
    return pd.Series([c or None for c in filled], dtype=object)


def field_values(f: Field, values: Sequence[Any], levels: Sequence[Any]) -> Any:
    """Return a field's labels as a covariate: numbers of checkboxes and scales, else categories with these levels."""
    import pandas as pd

    if f.type in ("checkbox", "likert"):
        return pd.Series([np.nan if v is None else float(v) for v in values], dtype=float)
    if f.type == "dropdown":
        return pd.Series(pd.Categorical(values, categories=list(levels)))
    return pd.Series([np.nan if v is None else float(bool(v)) for v in values], dtype=float)


def matrices(right: str, by_model: Any, by_people: Any) -> tuple[FloatArray, FloatArray, list[str]]:
    """Return the design by the model's labels, that of the coded rows by people's, and the names of the terms.

    Raises
    ------
    ScoringError
        If the terms cannot be computed.
    """
    from formulaic import model_matrix

    try:
        with np.errstate(all="ignore"):
            first = model_matrix(right, by_model, na_action="raise")
            second = first.model_spec.get_model_matrix(by_people)
    except NbannotError:
        raise
    except Exception as error:  # noqa: BLE001 - a formula is the user's program; whatever it raises is about it
        raise ScoringError(f"the terms '{right}' cannot be computed: {str(error).splitlines()[0]}") from None
    if not hasattr(first, "columns"):  # "a | b" makes several designs
        raise ScoringError(
            f"the terms '{right}' make several designs: a regression has only one.\n  Leave out the |."
        )
    x, people = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    names = [str(name) for name in first.columns]
    odd = [
        name
        for name, finite in zip(names, np.isfinite(x).all(0) & np.isfinite(people).all(0), strict=True)
        if not finite
    ]
    if odd:
        raise ScoringError(
            f"the terms {listed(odd)} hold values that are not finite: log of 0, or inf in a column."
        )
    return x, people, names
