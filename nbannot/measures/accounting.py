"""One status per row and field before any metric, and the count table that the label metrics come from.

Rows of the table are human labels (K codebook labels, then "does not apply"); columns are model labels
(K codebook labels, then "no valid answer", then "the run closed the gate", then "the run did not answer
the gate": no valid answer to the question on which the field depends).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbannot.errors import ScoringError, listed, problems
from nbannot.measures.result import BoolArray, FloatArray, IntArray

LABEL_TYPES = ("checkbox", "dropdown", "likert")
TYPES = (*LABEL_TYPES, "textbox", "span", "multiselect")

SCORED, MISSING, NO_REFERENCE, NA_NA, MISSED_GATE, SPURIOUS = range(6)
STATUS_NAMES = ("scored", "missing", "no_reference", "na_na", "missed_gate", "spurious")

MISSING_COLUMNS = 3
"""Columns of the count table after the codebook labels."""

NO_ANSWER = "no answer"
NOT_AN_OPTION = "invalid: not an option"

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class FieldData:
    """One field of one run against the human labels; row i is the same text everywhere.

    Attributes
    ----------
    type : checkbox, dropdown, likert, textbox, span or multiselect.
    labels : the codebook's labels in order: ``(0, 1)``, the options, the full likert range, the span labels
        (empty: spans without labels); empty for textbox.
    human, model : values or None (None: no human label; no valid answer). Checkbox 0/1, dropdown str,
        likert int, textbox str (``""`` is an answer: nothing), span list of ``(start, end, label)``, multiselect
        list of options.
    human_applies, model_applies : (n,) bool; False where the human labels, or the run itself, closed the
        gate of a conditional field. None: the field applies everywhere; for the run: wherever it applies
        for the human or the run gave a value.
    gate_unanswered : (n,) bool; True where the run gave no valid answer to the question on which the field
        depends, so that it did not say whether the field applies. None: nowhere.
    texts : the exact texts, needed for spans.
    missing_reason : why there is no valid answer, per row ("" where there is one).
    clusters : what rows share (document, author, thread), per row; None: rows are independent.
    weights : (n,) inverse sampling probabilities; None: all 1.
    unaligned : spans: per row the number of quotes that could not be located, or the quotes themselves.
    human_codes, model_codes : (n,) int32 positions in `labels`, -1 for none, instead of `human` and `model`.
    """

    type: str
    labels: tuple[Any, ...] = ()
    human: Sequence[Any] = ()
    model: Sequence[Any] = ()
    human_applies: BoolArray | None = None
    model_applies: BoolArray | None = None
    gate_unanswered: BoolArray | None = None
    texts: Sequence[str] | None = None
    missing_reason: Sequence[str] | None = None
    clusters: Sequence[Hashable] | None = None
    weights: FloatArray | None = None
    unaligned: Sequence[int | Sequence[str]] | None = None
    human_codes: Codes | None = None
    model_codes: Codes | None = None

    def __post_init__(self) -> None:
        lines = _shape_problems(self)
        if lines:
            raise ScoringError(problems("The rows of this field cannot be scored", lines))

    @property
    def n_rows(self) -> int:
        """Number of rows, whatever their status."""
        return len(self.human if self.human_codes is None else self.human_codes)


@dataclass(frozen=True)
class Account:
    """The status of every row of a field.

    Attributes
    ----------
    status : (n,) int8, positions in `STATUS_NAMES`.
    human, model : (n,) int32 label positions, -1 for none; for text and spans 0 (a value) or -1.
    gate_unanswered : (n,) True where the run did not say whether the field applies.
    counts : rows per status, ``n_rows`` first; the statuses add up to it. ``spurious_unanswered`` are those of
        `spurious` without a valid answer, ``missing_gate`` those of `missing` without an answer to the gate.
    missing_by_reason : rows with status `missing`, by sub-reason, most frequent first.
    ignored_human : human values in rows that the human labels say do not apply (not used).
    """

    status: NDArray[np.int8]
    human: Codes
    model: Codes
    gate_unanswered: BoolArray
    counts: dict[str, int]
    missing_by_reason: dict[str, int]
    ignored_human: int

    @property
    def reference(self) -> BoolArray:
        """(n,) True for the rows of the headline: the field applies and there is a human label."""
        return np.isin(self.status, (SCORED, MISSING, MISSED_GATE))


def account(data: FieldData) -> Account:
    """Return one status per row of `data`, with an audit line that adds up.

    Raises
    ------
    ScoringError
        A human label is not in the codebook; the values and rows are listed.
    """
    human_applies = np.ones(data.n_rows, dtype=bool)
    if data.human_applies is not None:
        human_applies = np.asarray(data.human_applies, dtype=bool)
    human, model, not_options = _coded(data, human_applies)
    model_applies = human_applies | (model >= 0)
    if data.model_applies is not None:
        model_applies = np.asarray(data.model_applies, dtype=bool)
    unanswered = np.zeros(data.n_rows, dtype=bool)
    if data.gate_unanswered is not None:
        unanswered = np.asarray(data.gate_unanswered, dtype=bool) & model_applies & (model < 0)
    open_gate = human_applies & (human >= 0)
    status = np.full(data.n_rows, NO_REFERENCE, dtype=np.int8)
    status[open_gate & (model >= 0) & model_applies] = SCORED
    status[open_gate & (model < 0) & model_applies] = MISSING
    status[open_gate & ~model_applies] = MISSED_GATE
    status[~human_applies & ~model_applies] = NA_NA
    status[~human_applies & model_applies] = SPURIOUS
    per_status = np.bincount(status, minlength=len(STATUS_NAMES))
    counts = {"n_rows": data.n_rows, **dict(zip(STATUS_NAMES, per_status.tolist(), strict=True))}
    assert counts["n_rows"] == sum(counts[name] for name in STATUS_NAMES)
    counts["spurious_unanswered"] = int(((status == SPURIOUS) & (model < 0)).sum())
    counts["missing_gate"] = int(((status == MISSING) & unanswered).sum())
    return Account(
        status=status,
        human=human,
        model=np.where(model_applies, model, np.int32(-1)),
        gate_unanswered=unanswered,
        counts=counts,
        missing_by_reason=_reasons(data, status, not_options),
        ignored_human=int((~human_applies & (human >= 0)).sum()),
    )


def confusion_table(rows: Account, n_labels: int) -> NDArray[np.int32]:
    """Return the (K+1, K+1) table of counts over the rows that have a human label or do not apply.

    Row K: the field does not apply for the human. Column K: no label from the run, whatever the reason. Rows without
    a human label are left out.
    """
    cells = table_cells(rows, n_labels)
    human, column = np.divmod(cells[cells >= 0], n_labels + MISSING_COLUMNS)
    # Of 10,000 labels the system gives memory only where rows are, if nothing else is written.
    table = np.zeros((n_labels + 1, n_labels + 1), dtype=np.int32)
    np.add.at(table, (human, np.minimum(column, n_labels)), 1)
    return table


def table_cells(rows: Account, n_labels: int) -> IntArray:
    """Return per row its flat cell in the (K+1, K+3) table, -1 for rows without a human label."""
    human = np.where(rows.reference, rows.human, n_labels).astype(np.int64)
    closed = np.isin(rows.status, (MISSED_GATE, NA_NA))
    model = np.where(rows.model >= 0, rows.model, n_labels).astype(np.int64)
    model[closed] = n_labels + 1
    model[rows.gate_unanswered] = n_labels + 2
    return np.where(rows.status == NO_REFERENCE, -1, human * (n_labels + MISSING_COLUMNS) + model)


def is_missing(value: object) -> bool:
    """Return True for None and for a float ``nan``."""
    return value is None or (isinstance(value, float) and value != value)


def units_of(data: FieldData, used: BoolArray) -> tuple[IntArray | None, FloatArray | None]:
    """Return cluster codes and weights of the `used` rows, None for what the field does not have."""
    clusters = None if data.clusters is None else unit_codes(data.clusters)[used]
    return clusters, None if data.weights is None else np.asarray(data.weights, dtype=float)[used]


def unit_codes(clusters: Iterable[Hashable]) -> IntArray:
    """Return integer codes 0..G-1 of cluster names, in order of appearance; every None is its own cluster."""
    codes: dict[Hashable, int] = {}
    names = (("none", row) if name is None else ("name", name) for row, name in enumerate(clusters))
    return np.fromiter((codes.setdefault(name, len(codes)) for name in names), dtype=np.int64)


def _coded(data: FieldData, human_applies: BoolArray) -> tuple[Codes, Codes, BoolArray]:
    """Return human codes, model codes and the rows whose model value is not a codebook label."""
    if data.human_codes is not None and data.model_codes is not None:
        human, model = (np.asarray(codes, dtype=np.int32) for codes in (data.human_codes, data.model_codes))
    elif data.type in LABEL_TYPES:
        positions = _Positions({label: code for code, label in enumerate(data.labels)} | {None: -1})
        human, model = _encode(data.human, positions), _encode(data.model, positions)
    else:
        human, model = (
            np.fromiter((-is_missing(value) for value in values), dtype=np.int32, count=len(values))
            for values in (data.human, data.model)
        )
        return human, model, np.zeros(data.n_rows, dtype=bool)
    outside = (human < -1) | (human >= len(data.labels))
    if (outside & human_applies).any():
        _refuse_human_labels(data, np.flatnonzero(outside & human_applies))
    not_options = (model < -1) | (model >= len(data.labels))
    return (
        np.where(outside, np.int32(-1), human),
        np.where(not_options, np.int32(-1), model),
        not_options,
    )


class _Positions(dict[Any, int]):
    """Positions of the labels in the codebook; -2 for anything else."""

    def __missing__(self, value: object) -> int:
        return -2


def _encode(values: Sequence[Any], positions: _Positions) -> Codes:
    """Return the position of each value in the codebook, -1 for none and -2 for a value outside it."""
    find = positions.__getitem__
    try:
        codes = np.fromiter(map(find, values), dtype=np.int32, count=len(values))
    except TypeError:  # a list or a dictionary where a label belongs
        places = (find(value) if _hashable(value) else -2 for value in values)
        codes = np.fromiter(places, dtype=np.int32, count=len(values))
    for row in np.flatnonzero(codes == -2).tolist():
        if is_missing(values[row]):
            codes[row] = -1
    return codes


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _refuse_human_labels(data: FieldData, bad: NDArray[np.intp]) -> None:
    values = data.human if data.human_codes is None else data.human_codes
    counts = Counter(repr(values[row]) for row in bad)
    raise ScoringError(
        f"{len(bad)} human labels are not in the codebook: {listed(counts)}.\n"
        f"  rows: {listed(bad.tolist())}; the codebook has {listed(map(repr, data.labels))}\n"
        "  Correct the labels or the codebook, or blank these labels to treat them as not coded."
    )


def _reasons(data: FieldData, status: NDArray[np.int8], not_options: BoolArray) -> dict[str, int]:
    missing = np.flatnonzero(status == MISSING).tolist()
    given = data.missing_reason
    fallback = (NOT_AN_OPTION if outside else NO_ANSWER for outside in not_options[missing])
    named = [] if given is None else [given[row] for row in missing]
    counts = Counter((named[i] if named else "") or other for i, other in enumerate(fallback))
    return dict(counts.most_common())


def _shape_problems(data: FieldData) -> list[str]:
    lines = []
    if data.type not in TYPES:
        lines.append(f"type must be one of {', '.join(TYPES)}. Got {data.type!r}.")
    if data.type in (*LABEL_TYPES, "multiselect") and not data.labels:
        lines.append(f"a {data.type} needs its codebook labels; `labels` is empty.")
    if len(set(data.labels)) < len(data.labels):
        lines.append(f"`labels` holds a label twice: {listed(map(repr, data.labels))}.")
    if (data.human_codes is None) != (data.model_codes is None):
        lines.append("`human_codes` and `model_codes` are given together or not at all.")
    if data.human_codes is not None and data.type not in LABEL_TYPES:
        lines.append(f"codes are for checkbox, dropdown and likert. Got type {data.type!r}.")
    if data.type == "span" and data.texts is None:
        lines.append("a span field needs `texts`.")
    names = (
        "human_applies",
        "model_applies",
        "gate_unanswered",
        "texts",
        "missing_reason",
        "clusters",
        "weights",
        "unaligned",
    )
    values = ("model",) if data.human_codes is None else ("model_codes",)
    for name in (*values, *names):
        column = getattr(data, name)
        if column is not None and len(column) != data.n_rows:
            lines.append(f"`{name}` has {len(column)} rows; the human labels have {data.n_rows}.")
    if data.weights is not None and not (np.isfinite(data.weights) & (np.asarray(data.weights) > 0)).all():
        lines.append("`weights` must be finite and above 0.")
    return lines
