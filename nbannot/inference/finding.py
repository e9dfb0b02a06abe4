"""What every finding has in common: a frame, exports, and a page made of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.errors import ScoringError
from nbannot.page.blocks import Block
from nbannot.page.digits import NONE, number
from nbannot.page.latex import tables_latex
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.report.words import plural
from nbannot.study.task import Task

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

Drawn = tuple[str, Sequence[tuple[str, float, float, float]]]
"""A forest plot: what its axis says, and per row a name, a value and the limits of its interval."""


LOCKED = "Locked split: "
"""Begins the note on how often the test half was consulted, which goes with a table wherever it is carried."""

FEWEST_GOLD = 10
"""With fewer human labels no correction is told as a finding."""
MANY = 10**9
"""Degrees of freedom of the texts, which are many."""


class Finding(Shown):
    """A result of this room: shown as a page, read as a frame, carried into a paper as LaTeX, Markdown or CSV."""

    _display: ClassVar[str] = "finding"

    @property
    def frame(self) -> Frame:
        """The numbers, one row each (pandas; ``.to_polars()``)."""
        raise NotImplementedError

    def blocks(self) -> list[Block]:
        """Return what the page says."""
        raise NotImplementedError

    def forests(self) -> list[Drawn]:
        """Return the forest plots of the page."""
        return []

    def bands(self) -> list[tuple[float, float] | None]:
        """Return per forest plot from where to where people's own values lie, behind the others."""
        return [None] * len(self.forests())

    def _repr_html_(self) -> str:
        html: str = self._fragment().html
        return html

    @property
    def _looks(self) -> str:
        notes: Sequence[str] = getattr(self, "notes", ())
        return next((note for note in notes if note.startswith(LOCKED)), "")

    def to_latex(self, caption: str | None = None, label: str | None = None, *, machine: bool = False) -> str:
        """Return the tables of the page as LaTeX for a journal, each with a caption and at most seven columns.

        Parameters
        ----------
        caption, label
            Of the first table.
        machine
            The whole `frame` instead, every column under its name.
        """
        if machine:
            return export.to_latex(self.frame, caption, label, note=self._looks)
        return tables_latex(self.blocks(), caption, label, self._looks)

    def to_markdown(self) -> str:
        """Return the frame as a Markdown table."""
        return export.to_markdown(self.frame, note=self._looks)

    def to_csv(self) -> str:
        """Return the frame as CSV, every digit; how often a test half was consulted is a column of it."""
        return export.to_csv(self.frame, looks=self._looks)


def looks_at(*tasks: Task) -> list[str]:
    """Return how often the opened test halves of these tasks were consulted, for the notes of a finding."""
    locks = [task.split_lock for task in tasks if task.split_lock is not None and task.split_lock.opened]
    return list(dict.fromkeys(f"{LOCKED}{lock.words}." for lock in locks))


def not_weighted(task: Task, what: str) -> list[str]:
    """Return the sentence of a finding that counts all texts alike though they were drawn with different chances."""
    weighting = task.weighting()
    if weighting is None or len({round(w, 9) for w in weighting.of.values()}) < 2:
        return []
    return [
        f"Texts were drawn with different probabilities ({weighting.source}); {what} counts all of them alike, and "
        "describes these texts."
    ]


def p_text(p: float) -> str:
    """Return a p value as it is shown.

    >>> p_text(0.0312), p_text(0.0001), p_text(float("nan"))
    ('0.031', '<0.001', '–')
    """
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def leaves_out(low: float, high: float, value: float) -> bool:
    """Return whether an interval leaves a value out; one that is not defined leaves nothing out.

    >>> leaves_out(0.1, 0.2, 0), leaves_out(-1.0, 1.0, 0), leaves_out(math.nan, math.nan, 0)
    (True, False, False)
    """
    return value < low or value > high


def too_few_gold(n: int, what: str) -> str:
    """Return what stands in place of a verdict on fewer than `FEWEST_GOLD` coded texts."""
    return (
        f"{plural(n, 'text')} with a human label {'is' if n == 1 else 'are'} too few to correct {what} by: take none "
        "of these numbers for a finding. nba.how_many says how many to code."
    )


def plain(value: float, digits: int = 2) -> str:
    """Return a number of any size, with a real minus sign."""
    return number(value, digits, low=-math.inf, high=math.inf)


def in_range(name: str, value: Any, low: float, high: float) -> float:
    """Return a number that must lie between two others, both excluded.

    Raises
    ------
    ScoringError
        If it is no number or lies outside.
    """
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not low < value < high:
        raise ScoringError(f"{name} must be a number between {low:g} and {high:g}. Got {value!r}.")
    return float(value)
