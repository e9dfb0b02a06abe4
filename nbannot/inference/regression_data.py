"""What a regression works on: outcome and terms by the model's labels for all texts, by people's for the coded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.errors import ScoringError
from nbannot.inference.drawn import NOT_APPLICABLE, Measured
from nbannot.inference.formula import (
    Side,
    column_values,
    columns_of,
    field_values,
    matrices,
    numbers,
    parsed,
)
from nbannot.inference.gold import measured
from nbannot.inference.moments import Family, Fit, Sampled, fit
from nbannot.measures.accounting import unit_codes
from nbannot.measures.result import BoolArray, FloatArray, IntArray
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.study.field import Field


@dataclass(frozen=True)
class RegressionData:
    """Designs and outcomes of the rows that are used.

    Attributes
    ----------
    x, y : (N, p), (N,) by the model's labels, surrogates where there are none.
    answered : (N,) whether every label of the model is a valid answer.
    rows : (n,) positions of the coded texts; `gold_x`, `gold_y` by people's labels; `weight` 1 / probability.
    """

    terms: list[str]
    x: FloatArray
    y: FloatArray
    answered: BoolArray
    rows: IntArray
    gold_x: FloatArray
    gold_y: FloatArray
    weight: FloatArray
    equal: bool
    clusters: IntArray | None
    notes: list[str]

    def fits(self, family: Family) -> dict[str, Fit]:
        """Return the corrected, the naive and the gold-only regression."""
        groups = self.clusters
        sampled = Sampled(self.rows, self.gold_x, self.gold_y, self.weight)
        use = self.answered
        return {
            "corrected": fit(family, self.x, self.y, clusters=groups, sampled=sampled),
            "naive": fit(family, self.x[use], self.y[use], clusters=_recoded(groups, use)),
            "gold_only": fit(
                family, self.gold_x, self.gold_y, None if self.equal else self.weight,
                clusters=_recoded(groups, self.rows),
            ),
        }  # fmt: skip


def _recoded(groups: IntArray | None, rows: Any) -> IntArray | None:
    return None if groups is None else np.unique(groups[rows], return_inverse=True)[1]


def regression_data(formula: str, corpus: Run, *, cluster: str | None, **design: Any) -> RegressionData:
    """Return the data of a regression; `design` as in `measured`.

    Raises
    ------
    ScoringError
        If the formula names no field, cannot be read, or leaves no text.
    """
    side, right = parsed(formula, corpus.task)
    plain, fields = columns_of(right, corpus.task)
    named = list(dict.fromkeys([*([side.field] if side.field else []), *fields.values()]))
    if not named:
        raise ScoringError(
            "the formula names no field of the codebook, so it has no label of the model to correct.\n"
            "  Put a field on either side of the ~."
        )
    if side.field is not None and side.field.column in {f.column for f in fields.values()}:
        raise ScoringError(
            f"'{side.text}' cannot be explained by its own field.\n  Name other fields or columns as terms."
        )
    labels = {
        f.column: measured(corpus, (f is side.field and side.asked) or f.column, **design) for f in named
    }
    first = labels[named[0].column]
    task = first.task
    gold = np.logical_and.reduce([m.human >= 0 for m in labels.values()])
    notes = list(first.notes)
    columns = {name: column_values(list(task.data[name])) for name in plain}
    usable = np.ones(len(task), dtype=bool)
    for values in columns.values():
        usable &= ~values.isna().to_numpy()
    clusters = None
    if cluster is not None:
        names = first.column(cluster)
        usable &= np.array([bool(n.strip()) for n in names])
        clusters = unit_codes(names)
    y, gold_y, answered = _outcome(side, task, labels, notes)
    usable &= ~np.isnan(y)
    if side.field is None:
        gold_y = y
    dropped = int((~usable).sum())
    if dropped:
        notes.append(f"{plural(dropped, 'text')} with a blank in a column of the formula: left out.")
    by_model, by_people = dict(columns), dict(columns)
    for name, f in fields.items():
        m = labels[f.column]
        model, people = labels_at(f, m, m.model), labels_at(f, m, m.human)
        answered &= m.model >= 0
        seen = {*model, *people}
        present = [label for label in (*f.labels, NOT_APPLICABLE) if label in seen]
        levels = present or list(f.labels)
        filled = [_most(model) if v is None else v for v in model]
        by_model[name] = field_values(f, filled, levels)
        by_people[name] = field_values(
            f, [a if b is None else b for a, b in zip(filled, people, strict=True)], levels
        )
    rows = np.flatnonzero(gold & usable)
    kept = np.flatnonzero(usable)
    if not len(rows):
        raise ScoringError(
            "no text with a human label is left: in all of them a column of the formula is blank.\n"
            "  Fill those columns in, or take the term out."
        )
    import pandas as pd

    frames = [pd.DataFrame(columns_, index=range(len(task))) for columns_ in (by_model, by_people)]
    x, gold_x, terms = matrices(right, frames[0].loc[kept], frames[1].loc[rows])
    weight = first.weights[rows] if not first.equal else np.full(len(rows), len(kept) / len(rows))
    unanswered = int((~answered[kept]).sum())
    if unanswered:
        notes.append(
            f"{plural(unanswered, 'text')} without a valid answer of the model: left out of the naive regression, "
            "given the mean or most frequent answer as a surrogate in the corrected one."
        )
    if cluster is None:
        notes.append("Texts are taken to be independent; if they share authors or documents: cluster=...")
    return RegressionData(
        terms, x, y[kept], answered[kept], np.searchsorted(kept, rows), gold_x, gold_y[rows], weight, first.equal,
        None if clusters is None else np.unique(clusters[kept], return_inverse=True)[1], notes,
    )  # fmt: skip


def _outcome(
    side: Side, task: Any, labels: dict[str, Measured], notes: list[str]
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return the outcome by the model (the mean where there is no answer), by people, and where the model answered."""
    if side.field is None:
        y = numbers(side, list(task.data[side.column]))
        if np.isnan(y).all():
            raise ScoringError(
                f"the outcome '{side.text}' is not a number: compare it with a value, e.g. {side.column} == 'x'."
            )
        return y, y, np.ones(len(y), dtype=bool)
    m = labels[side.field.column]
    y, people = (numbers(side, labels_at(side.field, m, codes)) for codes in (m.model, m.human))
    answered = ~np.isnan(y)
    if np.isnan(people[m.human >= 0]).any():
        raise ScoringError(
            f"{side.field.column} does not apply to some texts, and has no number there.\n"
            f"  Compare it with a label, which makes it 0 there, e.g. {side.field.name} == {side.field.labels[0]!r}."
        )
    if not answered.any():
        raise ScoringError(f"the model has no valid answer in {side.field.column}.")
    return np.where(answered, y, float(y[answered].mean())), people, answered


def labels_at(f: Field, m: Measured, codes: IntArray) -> list[Any]:
    """Return labels by their positions; None for none."""
    labels: Sequence[Any] = f.labels if f.type not in ("textbox", "span", "multiselect") else (0, 1)
    known = [*labels, NOT_APPLICABLE]
    return [known[code] if code >= 0 else None for code in codes.tolist()]


def _most(values: Sequence[Any]) -> Any:
    known = [v for v in values if v is not None]
    if not known:
        raise ScoringError("the model has no valid answer in a field of the terms.")
    return max(dict.fromkeys(known), key=known.count)
