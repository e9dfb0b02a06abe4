"""How objects of the core appear in a notebook without knowing that notebooks exist.

An object that can be shown inherits `Shown` and names its display; the display itself lives in `nbannot.displays`,
which is imported only when something asks for a picture of the object.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar


class Shown:
    """Mixin: HTML in a notebook and the same words as plain text everywhere else."""

    _display: ClassVar[str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle: dict[str, str] = self._fragment().bundle()
        return bundle

    def _fragment(self) -> Any:
        from nbannot import displays  # the one hop towards the displays, taken only when something is shown

        return getattr(displays, self._display)(self)

    def __str__(self) -> str:
        return str(self._fragment().text)


@contextmanager
def watching(title: str, tick: Any) -> Iterator[Any]:
    """Give the tick that was asked for; where there is none and IPython is running, one that shows progress."""
    if tick is not None or "IPython" not in sys.modules:
        yield tick
        return
    from nbannot.displays import live  # the second hop: towards what shows progress

    with live.progress(title) as shown:
        yield shown
