"""What one can look at in a run or a coder's labels: each look is a display, made when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nbannot.page.shown import Shown, show

if TYPE_CHECKING:
    from nbannot.page.fragment import Fragment
    from nbannot.tools.frames import Frame


class Differs(Protocol):
    """A run or a coder, as far as a browser of its disagreements needs to know it."""

    def differing(self, column: str | None = None) -> Frame:
        """Return the texts on which it and people differ."""


@dataclass(frozen=True, repr=False)
class Disagreements(Shown):
    """The texts on which a coder and people differ: shown a page at a time, `frame` has all of them as data.

    Attributes
    ----------
    column
        A field's name or column; every scored field if ``None``.
    human, model, status
        Only these labels, only answers with this status; ``None`` for all.
    page, per_page
        Which part is shown; pages count from 1.
    """

    _display: ClassVar[str] = "disagreements_page"

    of: Differs
    column: str | None = None
    human: Any = None
    model: Any = None
    status: str | None = None
    page: int = 1
    per_page: int = 25

    @cached_property
    def _page(self) -> Fragment:
        return show("disagreements_page", self)

    def _fragment(self) -> Fragment:
        return self._page

    @property
    def frame(self) -> Frame:
        """One row per text and field on which they differ: both labels, status, reason, text (pandas)."""
        rows = self.of.differing(self.column)
        for name, wanted in (("human", self.human), ("model", self.model), ("status", self.status)):
            if wanted is not None:
                rows = rows[rows[name].map(str) == str(wanted)]
        return rows.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return str(self)


class Looks:
    """The looks that a run and a coder share."""

    def disagreements(
        self: Any,
        column: str | None = None,
        *,
        human: Any = None,
        model: Any = None,
        status: str | None = None,
        page: int = 1,
        per_page: int = 25,
    ) -> Disagreements:
        """Return the texts on which the coder and people differ, to read a page at a time; ``.frame`` is the data.

        Parameters
        ----------
        column
            A field's name or column; every scored field when left out.
        human, model
            Only these labels: together they are one cell of the confusion matrix.
        status
            Only answers with this status, e.g. ``"invalid"``.
        page, per_page
            Which part to show; pages count from 1.

        Raises
        ------
        ScoringError
            If the field was not asked, or there is no such label, status or page.
        """
        browser = Disagreements(self, column, human, model, status, page, per_page)
        _ = browser._page  # what does not exist is said here, not when it is looked at
        return browser

    def confusion(self, column: str, *, share: bool = False) -> Fragment:
        """Return the confusion matrix of a field: people's labels in rows, the coder's in columns.

        Parameters
        ----------
        share
            Whether the cells are shares of their row, in percent, instead of texts.
        """
        return show("confusion", self, column, share)

    def forest(self) -> Fragment:
        """Return the plot of every field's headline metric: value, interval, and a tick at the baseline."""
        return show("fields_forest", self)

    def intervals(self, column: str) -> Fragment:
        """Return the plot of how a field's interval narrows with more human labels: measured, and to be expected."""
        return show("intervals", self, column)

    def distribution(self, column: str) -> Fragment:
        """Return how often people and the coder gave each label of a field."""
        return show("label_distribution", self, column)

    def shift(self, column: str) -> Fragment:
        """Return how far, and to which side, the coder's answers on a scale lie from people's."""
        return show("likert_view", self, column)

    def spans(self, column: str, text_id: str | None = None) -> Fragment:
        """Return what people and the coder marked, on the texts themselves."""
        return show("span_view", self, column, text_id)

    def pairs(self, column: str) -> Fragment:
        """Return what people and the coder wrote, side by side, the least similar first."""
        return show("text_pairs", self, column)
