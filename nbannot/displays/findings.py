"""Findings: the page that a result of `nbannot.inference` writes, with its plots behind the first sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbannot.displays.plots import Point, forest_figure
from nbannot.page.blocks import Block
from nbannot.page.figure import Figure
from nbannot.page.fragment import Fragment

if TYPE_CHECKING:
    from nbannot.inference.finding import Finding

BEFORE_THE_PLOT = 2


def finding(found: Finding) -> Fragment:
    """Return a finding: what it says, its forest plots, its tables, and what limits it."""
    blocks: list[Block] = found.blocks()
    figures = [
        forest_figure([Point(*row) for row in rows], metric=axis, band=band)
        for (axis, rows), band in zip(found.forests(), found.bands(), strict=True)
    ]
    own = [block for block in blocks if isinstance(block, Figure)]
    return Fragment.of([*blocks[:BEFORE_THE_PLOT], *figures, *blocks[BEFORE_THE_PLOT:]], *figures, *own)
