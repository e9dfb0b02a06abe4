"""What one can look at in a run or a coder's labels: each look is a display, made when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nbannot.page.shown import Shown, show
from nbannot.record.differences import Difference, chosen, differences
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbannot.page.fragment import Fragment
    from nbannot.record.coding import Coding
    from nbannot.study.task import Task
    from nbannot.tools.frames import Frame


DIFFERENCE_COLUMNS = (
    "text_id",
    "column",
    "human",
    "model",
    "status",
    "reason",
    "distance",
    "probability",
    "text",
)


class Coded(Protocol):
    """A run or a coder, as far as a browser of its disagreements needs to know it."""

    task: Task
    coding: Coding


@dataclass(frozen=True, repr=False)
class Disagreements(Shown):
    """The texts on which a coder and people differ: shown a page at a time, `frame` has all of them as data.

    Attributes
    ----------
    column
        A field's name or column; every scored field if ``None``.
    human, model, status
        Only these labels, only answers with this status; ``None`` for all.
    where
        Only texts whose metadata have these values: column -> a value, or a list of them.
    sort
        ``None`` for the order of the texts, ``"distance"`` or ``"probability"``.
    page, per_page
        Which part is shown; pages count from 1.
    """

    _display: ClassVar[str] = "disagreements_page"

    of: Coded
    column: str | None = None
    human: Any = None
    model: Any = None
    status: str | None = None
    where: Mapping[str, Any] | None = None
    sort: str | None = None
    page: int = 1
    per_page: int = 25

    @cached_property
    def _page(self) -> Fragment:
        return show("disagreements_page", self)

    def _fragment(self) -> Fragment:
        return self._page

    @property
    def every(self) -> list[Difference]:
        """All texts on which they differ, whatever was chosen; not kept, as a test half may be closed meanwhile."""
        coding = self.of.coding
        fields = coding.fields if self.column is None else [coding.asked(self.column)]
        return differences(self.of.task, coding, fields)

    @property
    def rows(self) -> list[Difference]:
        """The chosen ones of all pages, sorted."""
        return chosen(
            self.every,
            self.of.task,
            human=self.human,
            model=self.model,
            status=self.status,
            where=self.where,
            sort=self.sort,
        )

    @property
    def frame(self) -> Frame:
        """One row per text and field on which they differ, sorted: labels, status, distance, text (pandas).

        ``distance`` is 1 for another label, on a scale the share of its steps, for passages and sets what only one
        side has among what either has, for texts the share of characters to be changed; missing without a valid answer.
        """
        rows = [one._asdict() | {"column": one.field.column} for one in self.rows]
        return make_frame(
            [{name: row[name] for name in DIFFERENCE_COLUMNS} for row in rows], DIFFERENCE_COLUMNS
        )

    def __len__(self) -> int:
        return len(self.rows)

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
        where: Mapping[str, Any] | None = None,
        sort: str | None = None,
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
        where
            Only texts whose metadata have these values, e.g. ``{"party": "Labour", "year": [2019, 2024]}``.
        sort
            ``"distance"``: the furthest apart first, from 1 (another label, the other end of a scale, no character in
            common) down; ``"probability"``: first where the model was surest of its answer, where it told how sure.
            Left out: in the order of the texts.
        page, per_page
            Which part to show; pages count from 1.

        Raises
        ------
        ScoringError
            If the field was not asked, or there is no such label, status, column, order or page.
        """
        browser = Disagreements(self, column, human, model, status, where, sort, page, per_page)
        _ = browser._page  # what does not exist is said here, not when it is looked at
        return browser

    def confusion(self, column: str | None = None, *, share: bool = False) -> Fragment:
        """Return the confusion matrix of a field: people's labels in rows, the coder's in columns.

        Parameters
        ----------
        column
            A field's name or column; the only field of such a type when left out, here and in all plots of one field.
        share
            Whether the cells are shares of their row, in percent, instead of texts.
        """
        return show("confusion", self, column, share)

    def forest(self) -> Fragment:
        """Return the plot of every field's headline metric: value, interval, and a tick at the baseline."""
        return show("fields_forest", self)

    def intervals(self, column: str | None = None) -> Fragment:
        """Return the plot of how a field's interval narrows with more human labels: measured, and to be expected."""
        return show("intervals", self, column)

    def distribution(self, column: str | None = None) -> Fragment:
        """Return how often people and the coder gave each label of a field."""
        return show("label_distribution", self, column)

    def shift(self, column: str | None = None) -> Fragment:
        """Return how far, and to which side, the coder's answers on a scale lie from people's."""
        return show("likert_view", self, column)

    def spans(self, column: str | None = None, text_id: str | None = None) -> Fragment:
        """Return what people and the coder marked, on the texts themselves."""
        return show("span_view", self, column, text_id)

    def pairs(self, column: str | None = None) -> Fragment:
        """Return what people and the coder wrote, side by side, the least similar first."""
        return show("text_pairs", self, column)
