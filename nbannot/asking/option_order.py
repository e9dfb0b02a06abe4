"""The order in which options are named to a model: that of the codebook, turned round, or drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from nbannot.study.field import Field

OptionOrder = Literal["codebook", "reversed", "random"]


def in_order(field: Field, order: OptionOrder, seed: int | None = None) -> Field:
    """Return the field as it is asked: options to choose from in this order, any other field as it is.

    A drawn order is the same for every text, and follows from the seed (0 where there is none) and the column. Levels
    of a scale, and yes and no, keep their order.
    """
    if order == "codebook" or field.type not in ("dropdown", "multiselect"):
        return field
    options = list(field.options)
    if order == "reversed":
        options.reverse()
    else:
        random.Random(f"{seed or 0} {field.column}").shuffle(options)
    return replace(field, options=tuple(options))


def as_in_codebook(
    field: Field, told: Sequence[float], order: OptionOrder, seed: int | None = None
) -> tuple[float, ...]:
    """Return what was told of each option as asked (see `in_order`), one per label of the field in codebook order."""
    by_label = dict(zip(in_order(field, order, seed).labels, told, strict=True))
    return tuple(by_label[label] for label in field.labels)
