"""Progress: a bar with a line of words, drawn anew about ten times a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbannot.page.blocks import WIDTH, Block
from nbannot.page.digits import count, duration, share
from nbannot.page.fragment import Fragment
from nbannot.page.html import as_html, element, isolated
from nbannot.page.widths import clean

if TYPE_CHECKING:
    from nbannot.engine.job import Progress


@dataclass(frozen=True, slots=True)
class Gauge:
    """How much of something is done, and a line of words on it."""

    done: int
    total: int
    words: str

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the words, on one line."""
        return [clean(self.words)]


@as_html.register
def _(block: Gauge) -> str:
    style = "display:block;width:26em;max-width:100%"
    bar = element("progress", "", value=str(block.done), max=str(max(block.total, 1)), style=style)
    return element("div", f"{bar}{isolated(block.words)}")


def progress(progress: Progress, title: str = "") -> Fragment:
    """Return how far a run is: a bar, what is done, what went wrong, and how long it will take."""
    p = progress
    finished = p.total > 0 and p.done >= p.total
    parts = [title] if title else []
    if finished:
        parts.append(f"{count(p.done)} answers in {duration(p.elapsed_s)}")
    else:
        parts.append(f"{count(p.done)} of {count(p.total)} answers ({share(p.done, p.total)})")
        left = p.remaining_s
        parts.append(duration(p.elapsed_s) + (f", about {duration(left)} left" if left else ""))
    asides: Sequence[tuple[int, str]] = (
        (p.cached, f"{'reply' if p.cached == 1 else 'replies'} kept from before"),
        (p.not_ok, "without a valid answer"),
        (p.retries, "asked again"),
    )
    parts += [f"{count(n)} {words}" for n, words in asides if n]
    if p.message:
        parts.append(p.message)
    blocks: list[Block] = [Gauge(p.done, p.total, " · ".join(parts))]
    return Fragment.of(blocks, styled=False)
