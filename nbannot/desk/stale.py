"""The share of labels that would be others under today's codebook, estimated from a random sample of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.study.field import Field
    from nbannot.tools.frames import Frame

Answered = tuple[str, Any, Any, bool]
"""A text's id, the label that stood, that of today (None: the question does not apply), whether it is another one."""
COLUMNS = ("column", "labels", "asked", "changed", "share", "low", "high", "ci_method")


@dataclass(frozen=True)
class StaleField:
    """One field: of `labels` that stand, `asked` were asked again and `changed` came out otherwise.

    Attributes
    ----------
    share, low, high
        The estimated share of all labels of the field that are stale, with its 95% interval.
    """

    field: Field
    labels: int
    asked: int
    changed: int
    share: float
    low: float
    high: float
    method: str
    answers: tuple[Answered, ...]

    @property
    def moves(self) -> list[tuple[str, int]]:
        """How often each label became which other one, in words, the most frequent first."""
        pairs = Counter(
            f"{_words(was)} → {'does not apply' if now is None else _words(now)}"
            for _, was, now, changed in self.answers
            if changed
        )
        return pairs.most_common()


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(v.get("text", v)) if isinstance(v, dict) else str(v) for v in value) or "none"
    return str(value)


@dataclass(frozen=True, repr=False)
class StaleLabels(Shown):
    """The estimated share of stale labels, per field that an edit of the codebook touches.

    Attributes
    ----------
    who
        Who was asked again.
    what
        What changed in the codebook, one sentence each.
    notes
        How to read it, one sentence each.
    """

    _display: ClassVar[str] = "stale_labels_card"

    who: str
    fields: tuple[StaleField, ...]
    what: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def frame(self) -> Frame:
        """One row per field: labels that stand, asked again, changed, share with interval."""
        rows = [
            dict(zip(COLUMNS, (f.field.column, f.labels, f.asked, f.changed, f.share, f.low, f.high, f.method),
                     strict=True))
            for f in self.fields
        ]  # fmt: skip
        return make_frame(rows, COLUMNS)

    @cached_property
    def changed(self) -> Frame:
        """One row per label that came out otherwise: text_id, column, was, now (None: does not apply any more)."""
        rows = [
            {"text_id": i, "column": f.field.column, "was": was, "now": now}
            for f in self.fields
            for i, was, now, changed in f.answers
            if changed
        ]
        return make_frame(rows, ("text_id", "column", "was", "now"), as_they_are=["was", "now"])

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return `frame` as a LaTeX table."""
        return export.to_latex(self.frame, caption, label)

    def __repr__(self) -> str:
        parts = [
            f"{f.field.name} {f.share:.0%} [{f.low:.0%}, {f.high:.0%}]"
            if f.asked
            else f"{f.field.name} not asked"
            for f in self.fields
        ]
        return f"<Stale labels by {self.who}: {', '.join(parts)}>"


def stale_labels(
    who: str,
    parts: Sequence[tuple[Field, int, Sequence[Answered]]],
    what: Sequence[str],
    *,
    by_person: bool,
    against_itself: bool = False,
) -> StaleLabels:
    """Return the estimate from (field, number of standing labels, those that were asked again)."""
    fields = tuple(_estimated(*part) for part in parts)
    notes = []
    if by_person:
        notes.append(
            "A second look moves labels too, without any edit: compare with how often this person repeats a label "
            "(nba.agreement, texts coded twice)."
        )
    elif against_itself:
        notes.append(
            "A label counts as stale where the model's own answer moved with the words. Models move with words that "
            "mean the same as well: let people look at the texts below."
        )
    else:
        notes.append(
            "The model's answer is held against the label that stands: its errors count as stale labels. Give "
            "before= to hold it against its own answer under the old words."
        )
    if any(f.asked < f.labels for f in fields):
        notes.append(
            "Intervals: exact, for a random sample out of a finite number of labels (hypergeometric)."
        )
    return StaleLabels(who, fields, tuple(what), tuple(notes))


def _estimated(f: Field, labels: int, answers: Sequence[Answered]) -> StaleField:
    n = len(answers)
    changed = sum(one[3] for one in answers)
    if not n:
        return StaleField(f, labels, 0, 0, math.nan, math.nan, math.nan, "", ())
    low, high = exact_limits(changed, n, labels)
    method = "all asked" if n == labels else "exact (hypergeometric)"
    return StaleField(f, labels, n, changed, changed / n, low, high, method, tuple(answers))


def exact_limits(changed: int, n: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact limits of a share of `of` labels from `n` that were drawn without putting back.

    The limits are all shares under which a result as low or as high as this one has a probability of at least half the
    rest to the level (Clopper and Pearson 1934, with the hypergeometric distribution); where all were asked there is
    nothing to estimate.

    >>> [round(limit, 3) for limit in exact_limits(5, 20, 1000)]
    [0.088, 0.488]
    >>> exact_limits(0, 19, 20), exact_limits(5, 20, 20)
    ((0.0, 0.05), (0.25, 0.25))
    """
    import numpy as np
    from scipy.stats import hypergeom

    possible = np.arange(changed, of - (n - changed) + 1)  # how many of all may be stale, given what was seen
    tail = (1 - level) / 2
    from_below = hypergeom.sf(changed - 1, of, possible, n) >= tail
    from_above = hypergeom.cdf(changed, of, possible, n) >= tail
    kept = possible[from_below & from_above]
    return float(kept.min()) / of, float(kept.max()) / of
