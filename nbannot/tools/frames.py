"""Frames: what the public doors return as tables. pandas by default, polars with one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    class Frame(pd.DataFrame):
        """A pandas DataFrame that can also be had as a polars one."""

        def to_polars(self) -> pl.DataFrame:
            """Return the same table as a polars DataFrame."""

        def __call__(self) -> Frame:
            """Return the table itself: ``.frame()`` was a method where it is an attribute today."""


WHEN_EMPTY = "when_empty"
"""Key of ``.attrs``: the words that a frame without rows shows in place of its header."""


@cache
def _class() -> Any:
    import pandas as pd

    class Frame(pd.DataFrame):
        """A pandas DataFrame that can also be had as a polars one."""

        @property
        def _constructor(self) -> Any:
            return Frame

        def __repr__(self) -> str:
            return self._in_words() or super().__repr__()

        def _repr_html_(self) -> str | None:
            return escape(words) if (words := self._in_words()) else super()._repr_html_()  # type: ignore[misc]

        def _in_words(self) -> str:
            return self.attrs.get(WHEN_EMPTY, "") if self.empty else ""

        def __call__(self, *_: Any) -> Any:
            # Scripts from before say .frame(); pandas calls what is callable among its arguments with the other table.
            return self

        def to_polars(self) -> Any:
            """Return the same table as a polars DataFrame."""
            import polars as pl

            return pl.DataFrame({str(name): self[name].tolist() for name in self.columns}, strict=False)

    Frame.__qualname__ = (
        "Frame"  # pickle looks the class up by its name in this module, which `__getattr__` answers
    )
    return Frame


def __getattr__(name: str) -> Any:
    if name == "Frame":
        return _class()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def make_frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_they_are: Sequence[str] = ()
) -> Frame:
    """Return rows as a pandas DataFrame with these columns, which also has ``to_polars()``.

    Values of the columns `as_they_are` stay Python's own: 1 beside ``None`` does not become 1.0 beside nan.
    """
    frame: Frame = _class()([[row.get(name) for name in columns] for row in rows], columns=list(columns))
    for name in as_they_are:
        values = _class()({name: [row.get(name) for row in rows]}, dtype=object)[name]
        frame[name] = values
    return frame
