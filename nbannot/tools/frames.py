"""Frames: what the public doors return as tables. pandas by default, polars with one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any


@cache
def _class() -> Any:
    import pandas as pd

    class Frame(pd.DataFrame):
        """A pandas DataFrame that can also be had as a polars one."""

        @property
        def _constructor(self) -> Any:
            return Frame

        def to_polars(self) -> Any:
            """Return the same table as a polars DataFrame."""
            import polars as pl

            return pl.DataFrame({str(name): self[name].tolist() for name in self.columns}, strict=False)

    return Frame


def make_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """Return rows as a pandas DataFrame with these columns, which also has ``to_polars()``."""
    return _class()([[row.get(name) for name in columns] for row in rows], columns=list(columns))
