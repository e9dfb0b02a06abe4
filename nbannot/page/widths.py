"""Words in columns of a terminal: how wide they are, cut, padded and wrapped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from nbannot.errors import harmless

ISOLATE = "\u2068{}\u2069"


def width_of(text: str) -> int:
    """Return how many columns a text takes in a terminal: wide characters two, combining ones none.

    >>> width_of("ab"), width_of("日本"), width_of("e\\u0301")
    (2, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if wide(character) else 1


def wide(character: str) -> bool:
    """Return whether a character is a wide one: Chinese, Japanese, Korean, an emoji."""
    return not character.isascii() and unicodedata.east_asian_width(character) in "WF"


def clean(text: str) -> str:
    """Return a text on one line that cannot steer a terminal: white space as single spaces, controls as �.

    >>> clean("a\\n b\\x1b[31m")
    'a b�[31m'
    """
    return harmless(" ".join(text.split()))


def right_to_left(text: str) -> bool:
    """Return whether some of a text is written from right to left."""
    return not text.isascii() and any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)


def _isolated(text: str) -> str:
    return ISOLATE.format(text) if right_to_left(text) else text


def clipped(text: str, at_most: int) -> str:
    """Return a text of at most so many characters, cut with … where it is longer.

    >>> clipped("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= at_most else text[: at_most - 1].rstrip() + "…"


def pad(text: str, width: int, align: str = "l") -> str:
    """Return a text filled up with spaces to `width` columns; ``align`` is ``"l"`` or ``"r"``."""
    space = " " * max(0, width - width_of(text))
    return space + text if align == "r" else text + space


def wrap(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` columns; a longer word is cut.

    What runs from right to left is kept from turning around what stands beside it.

    >>> wrap("one two three", 7)
    ['one two', 'three']
    """
    lines: list[str] = []
    line = ""
    for word in (part for whole in text.split() for part in _parts(whole, width)):
        longer = f"{line} {word}" if line else word
        if line and width_of(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [_isolated(line) for line in ([*lines, line] if line or not lines else lines)]


def _parts(word: str, width: int) -> Iterator[str]:
    """Yield a word, in pieces if it is wider than a line, cut behind one of ``/_-=,`` where it can be."""
    while width_of(word) > width:
        end, columns = 0, 0
        while end < len(word) and (columns := columns + width_of(word[end])) <= width:
            end += 1
        end = max(end, 1)
        seam = max(word.rfind(sign, 0, end) for sign in "/_-=,") + 1
        cut = seam if seam > end // 2 else end
        yield word[:cut]
        word = word[cut:]
    if word:
        yield word
