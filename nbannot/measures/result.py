"""One number with everything needed to repeat it, and the scores of one field.

A value that is not defined is ``nan`` and carries its reason; it is never 0 or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NAN = float("nan")
TOO_NARROW = "the interval may be too narrow"
UNRELIABLE = "interval unreliable"
"""Either stands in the reason of a number whose interval must not carry a verdict."""


@dataclass(frozen=True, slots=True)
class Result:
    """One number with its interval, the rows behind it and the conventions used.

    Attributes
    ----------
    value : the number; ``nan`` when it is not defined.
    ci_low, ci_high : limits of the interval; ``nan`` when there is none.
    ci_method : how the limits were made, e.g. ``"Wilson"``; empty without limits.
    n : rows with a human label to which the field applies (for spans and text: texts).
    n_answered : those among them with a valid answer.
    n_clusters : resampled clusters; None when the rows are resampled one by one.
    reason : why the value is not defined or its interval is unreliable; otherwise empty.
    labels_used : the labels that enter the number, in codebook order.
    conventions : the rules of the number, for one printed line.
    se : standard error: the standard deviation of the resampled values; ``nan`` where none was asked for.
    """

    value: float
    ci_low: float = NAN
    ci_high: float = NAN
    ci_method: str = ""
    n: int = 0
    n_answered: int = 0
    n_clusters: int | None = None
    reason: str = ""
    labels_used: tuple[str, ...] = ()
    conventions: str = ""
    se: float = NAN

    @property
    def defined(self) -> bool:
        """True when the value is a number."""
        return not math.isnan(self.value)

    @property
    def unreliable(self) -> bool:
        """True when the interval must carry no verdict: rare labels, few clusters, few heavy texts."""
        return TOO_NARROW in self.reason or UNRELIABLE in self.reason


@dataclass(frozen=True)
class FieldScore:
    """All numbers of one field of one run.

    Attributes
    ----------
    results : the metrics of the outputs contract for the type, all of them, in its order.
    extra : further numbers: answered-only, given both applicable, end to end, sensitivity values.
    per_class : one dictionary per label: ``label, precision, recall, f1, support, predicted`` and
        ``<metric>_ci_low, <metric>_ci_high, <metric>_reason`` for the first three, and ``reason``.
    counts : the audit line; ``n_rows`` is the sum of the six row statuses, further counts follow.
    missing_by_reason : rows without a valid answer, by sub-reason.
    confusion : (K+1, K+1) counts, rows human, columns model; last row: the field does not apply for the
        human; last column: no label from the model. None for text and spans.
    notes : guidance and warnings, one sentence each.
    conventions : one line to print below a table.
    signature : what else decides the numbers (BLEU signature, tokeniser, models).
    """

    results: dict[str, Result]
    extra: dict[str, Result]
    per_class: list[dict[str, Any]]
    counts: dict[str, int]
    missing_by_reason: dict[str, int]
    confusion: NDArray[Any] | None
    notes: list[str]
    conventions: str
    signature: dict[str, Any] = field(default_factory=dict)
