"""What can go wrong, each as a short letter: what is wrong (with the value seen), where, what to type next.

NbannotError
├── CodebookError     the codebook cannot be used
├── TaskError         the texts or the human labels cannot be used
├── ConfigError       a setting is unknown, out of range or contradicts another
├── ModelError        the model cannot be found, loaded or reached
│   └── ModelUnreached    its server cannot be reached at all, and may be there later
├── RunError          a run folder cannot be written, read or continued
│   └── RunInterrupted    stopped by the user; what is done is kept
├── TableError        a tidy table is not one of ours or cannot be written
├── ScoringError      runs or labels cannot be scored or compared
└── DeskError         an answer of a person cannot be taken or kept
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SHOWN_AT_MOST = 6
LONGEST_WORD = 200
GO_ON = "The same cell or script goes on from there."


STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, or reorder what follows them: C0 and C1 controls, bidi marks, half characters."""


def harmless(text: str) -> str:
    r"""Return a text that may be written to a terminal, wherever it comes from: what would steer it is a ``�``.

    Servers, codebooks and file names can hold escape sequences that write the clipboard or hide a line.

    >>> harmless("tiny\x1b]52;c;ZXZpbA==\x07")
    'tiny�]52;c;ZXZpbA==�'
    """
    return text if text.isascii() and text.isprintable() else STEERING.sub("�", text.replace("\r\n", "\n"))


class NbannotError(Exception):
    """Base of every error that nbannot raises on purpose; shown in notebooks without a traceback."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(harmless(word) if isinstance(word, str) else word for word in words))

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class CodebookError(NbannotError):
    """The codebook cannot be used; the message lists every problem with its section and annotation."""


class TaskError(NbannotError):
    """The texts or the human labels cannot be used."""


class ConfigError(NbannotError):
    """A setting is unknown, out of range or contradicts another; the message lists all of them."""


class ModelError(NbannotError):
    """The model cannot be found, loaded or reached."""


class ModelUnreached(ModelError):
    """The model's server cannot be reached at all; it may be there later."""


class RunError(NbannotError):
    """A run folder cannot be written, read or continued."""


class RunInterrupted(RunError, KeyboardInterrupt):
    """Stopped by the user. Every finished answer is in the run folder; the same call goes on from there.

    Attributes
    ----------
    finished
        What can be looked at: of a run, the run as far as it got; of a sweep, the `Runs` that were finished before.
        ``None`` if there is nothing yet.
    """

    finished: Any = None

    @classmethod
    def after(cls, progress: Any, place: object, finished: Any) -> RunInterrupted:
        """Return it for a run that got as far as its `Progress` says, and is kept in a folder."""
        words = f"stopped: {progress.done:,} of {progress.total:,} answers are kept in {place}.\n  {GO_ON}"
        interrupt = cls(words)
        interrupt.finished = finished
        return interrupt


class TableError(NbannotError):
    """A tidy table is not one of ours, or cannot be written."""


class ScoringError(NbannotError):
    """Runs or labels cannot be scored or compared."""


class DeskError(NbannotError):
    """An answer of a person cannot be taken or kept; what was kept before is untouched."""


@contextmanager
def tidy_interrupt() -> Iterator[None]:
    """Turn an interrupt while nothing is being asked (reading, loading, scoring) into one short letter."""
    try:
        yield
    except RunInterrupted:
        raise
    except KeyboardInterrupt:
        raise RunInterrupted(f"stopped. Every finished answer is kept.\n  {GO_ON}") from None


def listed(items: Iterable[object], at_most: int = SHOWN_AT_MOST) -> str:
    """Return the items as ``a, b, c``, cut after `at_most` with the number left out.

    >>> listed(["a", "b", "c"], at_most=2)
    'a, b and 1 more'
    """
    every = [str(item) for item in items]
    if len(every) <= at_most:
        return ", ".join(every)
    return f"{', '.join(every[:at_most])} and {len(every) - at_most} more"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, or an empty string.

    >>> nearest("modle", ["model", "seed"])
    "; did you mean 'model'?"
    """
    if len(word) > LONGEST_WORD:  # no slip of the finger, and slow to compare
        return ""
    close = difflib.get_close_matches(word, [k for k in known if len(k) <= LONGEST_WORD], n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def problems(what: str, lines: Sequence[str], at_most: int = 2 * SHOWN_AT_MOST) -> str:
    """Return one message for several problems: a headline with their number, then one line each."""
    number = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    shown = [f"  {line}" for line in lines[:at_most]]
    if len(lines) > at_most:
        shown.append(f"  and {len(lines) - at_most} more")
    return "\n".join([f"{what}: {number}.", *shown])
