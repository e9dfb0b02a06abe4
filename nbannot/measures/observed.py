"""Tables of counts of very long scales, held as the cells that rows fall into.

A table of K labels has K x K cells, of which n rows fill n at most. With a scale of 1,000 points nearly all of them are
empty in every resample; here time and memory grow with the rows instead. `nbannot.measures.ordinal` and
`nbannot.measures.classification` have one formula for both forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nbannot.measures.classification import LabelCounts
from nbannot.measures.result import FloatArray, IntArray

FULL_TABLE_UP_TO = 30
"""Up to so many labels, full tables are at least as fast."""


class Cells:
    """Distinct cells of a table, each a human and a model label.

    Parameters
    ----------
    human : (c,) positions of the human labels in the codebook.
    model : (c,) those of the model, -1 for no valid answer.
    also : further labels that have a place although no cell has them.

    Attributes
    ----------
    labels : (L,) positions in the codebook of all these labels, ascending.
    """

    def __init__(self, human: IntArray, model: IntArray, also: Sequence[int] | IntArray = (0,)) -> None:
        answered = model >= 0
        self.labels: IntArray = np.unique(np.concatenate([human, model[answered], also])).astype(np.int64)
        self.human = np.searchsorted(self.labels, human)
        self.model = np.where(answered, np.searchsorted(self.labels, model), -1)
        self._sums = {
            "tp": self._sum_over(self.human, self.human == self.model),
            "row": self._sum_over(self.human, np.ones(len(human), dtype=bool)),
            "col": self._sum_over(self.model, answered),
            "miss": self._sum_over(self.human, ~answered),
        }

    def _sum_over(self, label: IntArray, used: Any) -> Any:
        """Return the sparse (L, c) matrix that adds the used cells up by label."""
        from scipy.sparse import csr_matrix

        cell = np.flatnonzero(used)
        return csr_matrix((np.ones(len(cell)), (label[cell], cell)), shape=(len(self.labels), len(label)))

    def total(self, part: str, counts: FloatArray) -> FloatArray:
        """Return (b, L) sums of (b, c) counts: ``tp``, ``row``, ``col`` or ``miss`` of `LabelCounts`."""
        return np.ascontiguousarray((self._sums[part] @ counts.T).T)

    def label_counts(self, counts: FloatArray) -> LabelCounts:
        """Return the counts by label of (b, c) counts, (b, L) each."""
        return LabelCounts(*(self.total(part, counts) for part in LabelCounts._fields))

    @cached_property
    def levels(self) -> list[tuple[Any, ...]]:
        """What `CellTable.concordance` needs of each binary digit of the human label.

        Cells that differ in the human label differ first in exactly one digit. Per digit: cells sorted by block of
        equal higher digits and then by model label; which of them have a 0; and for the others, where their block
        and their model label begin and end in that order.
        """
        levels = []
        for digit in range(max(1, int(self.human.max(initial=0)).bit_length())):
            block, upper = self.human >> (digit + 1), (self.human >> digit) & 1
            order = np.lexsort((self.model, block))
            is_lower = upper[order] == 0
            right = np.flatnonzero(~is_lower)
            of_block = block[order]
            tie = of_block * (len(self.labels) + 1) + self.model[order]
            starts = (np.searchsorted(keys, keys[right]) for keys in (of_block, tie))
            ends = (np.searchsorted(keys, keys[right], "right") for keys in (tie, of_block))
            levels.append((order, is_lower, right, *starts, *ends))
        return levels


@dataclass(frozen=True)
class CellTable:
    """Resampled counts of cells, all with a model label, in the place of (b, K, K) tables.

    Attributes
    ----------
    cells : the cells.
    counts : (b, c) counts.
    """

    cells: Cells
    counts: FloatArray

    @cached_property
    def margins(self) -> tuple[FloatArray, FloatArray]:
        """(b, L) human and model totals."""
        return self.cells.total("row", self.counts), self.cells.total("col", self.counts)

    def product(self, human: FloatArray, model: FloatArray) -> FloatArray:
        """Return the sum over the cells of count times the human's times the model's of (b, L) or (L,) scores."""
        summed: FloatArray = (self.counts * human[..., self.cells.human] * model[..., self.cells.model]).sum(
            -1
        )
        return summed

    def concordance(self) -> FloatArray:
        """Return (b,) concordant minus discordant pairs, in time that grows with the cells and the digits of L."""
        sums = np.zeros(len(self.counts))
        for order, lower, right, block_start, tie_start, tie_end, block_end in self.cells.levels:
            counts = self.counts[:, order]
            before = np.zeros((len(counts), len(order) + 1))
            np.cumsum(counts * lower, axis=1, out=before[:, 1:])
            less = before[:, tie_start] - before[:, block_start]
            more = before[:, block_end] - before[:, tie_end]
            sums += (counts[:, right] * (less - more)).sum(-1)
        return sums
