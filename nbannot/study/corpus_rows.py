"""The rows of a corpus that a run takes, and which of their texts it asks about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


ROW_NUMBER = "\0row"
"""The column of the number of a row in the corpus, from 0; a name that no file can have."""


@dataclass(frozen=True)
class Chosen:
    """Rows of a corpus, numbered from 0.

    Attributes
    ----------
    n
        How many.
    rows
        Their numbers, ascending; ``None``: all rows of the corpus.
    again, first
        The chosen rows whose text stands before them among the chosen, ascending, and the row where it stands first:
        they are not asked about and get that row's labels.
    digest
        What identifies the choice.
    """

    n: int
    rows: np.ndarray[Any, Any] | None
    again: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]
    digest: str

    @classmethod
    def of(cls, n: int, rows: Sequence[int] | None, repeated: pl.DataFrame) -> Chosen:
        """Return the choice of some rows (``None``: all) of a corpus with these repeated texts."""
        import numpy as np
        import polars as pl

        numbers = None if rows is None else np.asarray(rows, dtype=np.int64)
        if numbers is not None:
            among = pl.Series(numbers)
            repeated = repeated.filter(pl.col("row").is_in(among.implode()))
            repeated = repeated.with_columns(pl.col("row").min().over("first").alias("first"))
        later = repeated.filter(pl.col("row") != pl.col("first")).sort("row")
        of_rows = "all" if numbers is None else hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
        return cls(
            n if numbers is None else len(numbers),
            numbers,
            later["row"].to_numpy(),
            later["first"].to_numpy(),
            of_rows,
        )

    def has(self, rows: pl.Series) -> pl.Series:
        """Return of each row whether it is chosen."""
        import polars as pl

        if self.rows is None:
            return pl.Series([True] * len(rows), dtype=pl.Boolean)
        return rows.is_in(pl.Series(self.rows).implode())

    def number(self, place: int) -> int:
        """Return the number in the corpus of the row at a place of the choice."""
        return place if self.rows is None else int(self.rows[place])
