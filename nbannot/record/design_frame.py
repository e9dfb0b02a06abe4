"""A run's labels for other statistics programs: R's ``dsl``, Stata, a regression of one's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nbannot.errors import ScoringError, listed
from nbannot.study.field import Field
from nbannot.study.sampling_weights import scale_of_those_used
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame


def design_frame(run: Any, column: str | None = None, probability: str | None = None) -> Frame:
    """Return one row per text with the model's label, people's, whether it was coded, and with which probability.

    Parameters
    ----------
    column
        A field (name or column); may be left out where only one was asked.
    probability
        Column of the data with the probability with which each text was drawn for coding; when left out, as the task's
        `weights` or its ``sample.csv`` say, else the share of coded texts (a simple random sample).

    Returns
    -------
    pandas.DataFrame
        ``text_id, model, human, coded, probability``, then ``model_<label>, human_<label>, dsl_<label>`` of every
        label as 0 and 1 (of a scale or checkbox one number: ``model_value, human_value, dsl_value``), then the data's
        other columns. ``dsl_*`` is the pseudo-outcome ``model + coded / probability * (human - model)`` of Egami et al.
        (2023); blank where the model has no valid answer. Where texts that were drawn have no label here (dev, or not
        coded yet), `probability` is that of being drawn and used, and ``.attrs["note"]`` says so.

    Raises
    ------
    ScoringError
        If no field is named where several were asked, nothing was coded, or a probability is not one.
    """
    f = run.coding.asked(column)
    if f.type in ("textbox", "span", "multiselect"):
        raise ScoringError(f"'{f.column}' is a {f.type}, whose values are no labels to regress on.")
    model, human = run.coding.values(f.column), run.task.human(f.column)
    chances, note = _of_those_used(*_chances(run, human, probability), human)
    others = [name for name in run.task.other_columns if name != run.task.id_source]
    kept = {name: list(run.task.data[name]) for name in others}
    rows = []
    for i, (text_id, m, h, p) in enumerate(zip(run.task.ids, model, human, chances, strict=True)):
        row: dict[str, Any] = {
            "text_id": text_id,
            "model": m,
            "human": h,
            "coded": int(h is not None),
            "probability": p,
        }
        for name, one, other in _numbers(f, m, h):
            row[f"model_{name}"], row[f"human_{name}"] = one, other
            row[f"dsl_{name}"] = one if one is None or other is None else one + (other - one) / p
        rows.append({**row, **{name: cells[i] for name, cells in kept.items()}})
    named = [name for name, *_ in _numbers(f, None, None)]
    columns = ["text_id", "model", "human", "coded", "probability"]
    columns += [f"{part}_{name}" for name in named for part in ("model", "human", "dsl")]
    frame = make_frame(rows, [*columns, *(name for name in others if name not in columns)])
    if note:
        frame.attrs["note"] = note
    return frame


def _of_those_used(chances: list[float], lost: bool, human: list[Any]) -> tuple[list[float], str]:
    """Return the probabilities with which texts were drawn *and* have a label that counts, and a note on it."""
    weights = [1 / p for p, label in zip(chances, human, strict=True) if label is not None]
    scale = scale_of_those_used(weights, len(human), lost=lost)
    if scale == 1:
        return chances, ""
    note = (
        f"The weights of the {len(weights):,} coded texts sum to {math.fsum(weights):,.0f}, of {len(human):,} texts: "
        "probability is scaled, as if the labels that are missing were missing by chance."
    )
    return [p / scale for p in chances], note


def _numbers(f: Field, model: Any, human: Any) -> list[tuple[str, float | None, float | None]]:
    if f.type in ("likert", "checkbox"):
        return [("value", _float(model), _float(human))]
    return [(str(v), _is(model, v), _is(human, v)) for v in f.labels]


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _is(value: Any, label: Any) -> float | None:
    return None if value is None else float(value == label)


def _chances(run: Any, human: list[Any], probability: str | None) -> tuple[list[float], bool]:
    """Return the probability of every text to be drawn, and whether some that were drawn are known to have no label."""
    coded = sum(value is not None for value in human)
    if not coded:
        raise ScoringError(f"no text of {run.run_id} has a human label in this field.")
    weighting = run.task.weighting() if probability is None else None
    if weighting is not None:
        drawn = [weighting.of.get(i) for i in run.task.ids]
        missing = sum(w is None and v is not None for w, v in zip(drawn, human, strict=True))
        if missing:
            raise ScoringError(
                f"{missing:,} texts with a human label are not in {weighting.source}: nobody knows how probable "
                'they were.\n  Name a column that says it: probability="column".'
            )
        lost = any(w is not None and v is None for w, v in zip(drawn, human, strict=True))
        return [math.nan if w is None else 1 / w for w in drawn], lost
    if probability is None:
        return [coded / len(human)] * len(human), False
    if probability not in run.task.data.columns:
        raise ScoringError(
            f"the data has no column '{probability}'.\n  It has: {listed(run.task.data.columns, 12)}."
        )
    chances, wrong = [], []
    for cell, value in zip(run.task.data[probability], human, strict=True):
        try:
            chance = float(cell)
        except ValueError:
            chance = math.nan
        if value is not None and not 0 < chance <= 1:
            wrong.append(repr(cell))
        chances.append(chance)
    if wrong:
        raise ScoringError(
            f"probabilities must be above 0 and at most 1. '{probability}' has {listed(wrong)}."
        )
    return chances, False
