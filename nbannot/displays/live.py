"""Live progress: one display in a notebook, one line on a terminal's stderr, nothing where nobody is looking.

A `Live` is the `tick` of a run. It draws only from the thread that calls it, only when something changed, and its
last state stays: in a saved notebook as HTML that needs no script.
"""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from nbannot.errors import harmless

if TYPE_CHECKING:
    from nbannot.engine.drive import Tick
    from nbannot.engine.job import Progress

AT_LEAST_EVERY_S = 1.0
"""Drawn again after this time even if no answer came, so that the clock does not stand still."""
AT_MOST_EVERY_S = 0.1


class Place(Protocol):
    """Where progress is drawn."""

    def draw(self, fragment: Any) -> None:
        """Show this state instead of the last one."""

    def end(self) -> None:
        """Leave the last state as it is."""


class NotebookPlace:
    """One display of the cell, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, fragment: Any) -> None:
        """Show this state instead of the last one."""
        if self._handle is None:
            self._handle = _display(fragment.bundle(), raw=True, display_id=True)
        else:
            self._handle.update(fragment.bundle(), raw=True)

    def end(self) -> None:
        """Do nothing: the display stays."""


class TerminalPlace:
    """One line on stderr, written over itself."""

    def __init__(self) -> None:
        self._width = 0

    def draw(self, fragment: Any) -> None:
        """Write this state over the last one."""
        line = harmless(" ".join(str(fragment.text).split()))[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{line.ljust(self._width)}")
        sys.stderr.flush()
        self._width = len(line)

    def end(self) -> None:
        """Go on to a new line."""
        if self._width:
            sys.stderr.write("\n")
            sys.stderr.flush()


class Live:
    """Draws the `Progress` it is called with.

    Parameters
    ----------
    title
        What is being worked on.
    """

    def __init__(self, title: str, place: Place) -> None:
        self.title, self._place = title, place
        self._drawn: tuple[Any, ...] = ()
        self._at = float("-inf")
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        """Draw the state unless it was drawn a moment ago or nothing changed."""
        self._last = progress
        age = time.monotonic() - self._at
        changed = _state(progress) != self._drawn
        if age >= (AT_MOST_EVERY_S if changed else AT_LEAST_EVERY_S):
            self._draw(progress)

    def close(self) -> None:
        """Draw the last state, without a guess of the time left, and leave it."""
        if self._last is not None:
            self._draw(_ended(self._last))
        self._place.end()

    def _draw(self, progress: Progress) -> None:
        from nbannot import displays

        self._place.draw(displays.progress(progress, self.title))
        self._drawn, self._at = _state(progress), time.monotonic()


def _ended(progress: Progress) -> Progress:
    """Return the state to leave behind: work that ended early has no pace (no calls) and so no time left."""
    if progress.done >= progress.total:
        return progress
    words = ", ".join(word for word in (progress.message, "stopped") if word)
    return replace(progress, calls=0, message=words)


def _state(progress: Progress) -> tuple[Any, ...]:
    return (progress.done, progress.calls, progress.cached, progress.retries, progress.message)


def _display(*args: Any, **options: Any) -> Any:
    from IPython.display import display

    return display(*args, **options)  # type: ignore[no-untyped-call]


def shell() -> Any:
    """Return the running IPython shell, or ``None``; IPython is not imported for it."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def in_notebook() -> bool:
    """Return whether a kernel runs this, so that displays reach a notebook."""
    return getattr(shell(), "kernel", None) is not None


def place() -> Place | None:
    """Return where progress can be drawn here, or ``None`` if nobody would see it."""
    if in_notebook():
        return NotebookPlace()
    return TerminalPlace() if sys.stderr is not None and sys.stderr.isatty() else None


def unseen(progress: Progress) -> None:
    """Show nothing: the `tick` of a run that is to be quiet."""


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Tick]:
    """Give a `tick` that shows progress while the block runs; one that shows nothing where nobody would see it."""
    where = None if quiet else place()
    if where is None:
        yield unseen
        return
    live = Live(title, where)
    try:
        yield live
    finally:
        live.close()


def say(line: str) -> None:
    """Show a few words: as an output of the cell in a notebook or in IPython, on stderr elsewhere."""
    line = harmless(line)
    if shell() is not None:
        words = f'<div class="nbannot" style="white-space: pre-wrap">{html.escape(line)}</div>'
        _display({"text/plain": line, "text/html": words}, raw=True)
    else:
        sys.stderr.write(f"{line}\n")


def show_text(text: str) -> None:
    """Show a text in type of one width, such as help or the wording of a prompt."""
    _display({"text/plain": harmless(text)}, raw=True)
