"""How objects of the core appear in a notebook without knowing that notebooks exist.

An object that can be shown inherits `Shown` and names its display; the display itself lives in `nbannot.displays`,
which is loaded, by its name, only when something asks for a picture of the object. It is the one hop of the house:
every other import runs towards rooms that are read earlier.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.tools.imports import load

if TYPE_CHECKING:
    from pathlib import Path

    from nbannot.page.fragment import Fragment


class Shown:
    """Mixin: HTML in a notebook and the same words as plain text everywhere else."""

    _display: ClassVar[str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle: dict[str, str] = self._fragment().bundle()
        return bundle

    def _fragment(self) -> Fragment:
        return show(self._display, self)

    def save(self, path: str | Path) -> Path:
        """Write what is shown to a file, by its ending: ``.html``, ``.pdf``, ``.docx``, ``.md`` or ``.txt``.

        Raises
        ------
        NbannotError
            If the file name ends in something else, what the format needs is missing, or it cannot be written.
        """
        return self._fragment().save(path)

    def __str__(self) -> str:
        return str(self._fragment().text)


def show(display: str, *things: Any) -> Fragment:
    """Return the fragment that a display of `nbannot.displays` makes of these things."""
    load("nbannot.displays")
    fragment: Fragment = getattr(sys.modules["nbannot.displays"], display)(*things)
    return fragment


@contextmanager
def watching(title: str, tick: Any) -> Iterator[Any]:
    """Give the tick that was asked for; where there is none and IPython is running, one that shows progress."""
    if tick is not None or "IPython" not in sys.modules:
        yield tick
        return
    load("nbannot.displays.live")
    with sys.modules["nbannot.displays.live"].progress(title) as shown:
        yield shown
