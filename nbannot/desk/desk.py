"""The desk that a person sits at: a session, and how it appears in a notebook."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from nbannot.desk.session import Session


class Desk(Session):
    """A coder's desk: a `Session` that shows itself in a notebook."""

    @cached_property
    def widget(self) -> Any:
        """The desk in the notebook."""
        from nbannot.desk.widget import DeskWidget

        return DeskWidget(self)

    def _ipython_display_(self) -> None:
        self.widget.show()
