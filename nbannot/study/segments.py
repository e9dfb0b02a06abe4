"""Long documents cut into sentences, paragraphs or windows, each with the characters of the document that it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from nbannot.errors import TaskError

Cut = Callable[[str], Iterator[tuple[int, int]]]
"""Yields begin and end (characters, half open) of every segment of a document; never a blank one."""

SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”）]*|\n)\s*")
"""What ends a sentence: a full stop and its like before white space, one of East Asian scripts, the end of a line."""
PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
WINDOW = re.compile(r"([1-9]\d{0,8})\s+(words?|characters?)")
WORD = re.compile(r"\S+")


def cut_by(segment: str) -> Cut:
    """Return what cuts a document as asked for.

    Parameters
    ----------
    segment
        ``"sentences"``, ``"paragraphs"`` (blank lines part them), ``"200 words"`` or ``"1000 characters"``. A window of
        characters ends between words where there is white space in its second half. Sentences end at a full stop before
        white space: an abbreviation ends one, too.

    Raises
    ------
    TaskError
        If it is none of these.

    >>> list(cut_by("sentences")("One. Two!  Three"))
    [(0, 4), (5, 9), (11, 16)]
    >>> list(cut_by("2 words")("a b c"))
    [(0, 3), (4, 5)]
    """
    if segment == "sentences":
        return lambda text: _between(text, SENTENCE_END)
    if segment == "paragraphs":
        return lambda text: _between(text, PARAGRAPH_END)
    window = WINDOW.fullmatch(segment.strip()) if isinstance(segment, str) else None
    if window is None:
        raise TaskError(
            f"segment cuts documents into 'sentences', 'paragraphs' or windows. Got {segment!r}.\n"
            "  A window is written '200 words' or '1000 characters'."
        )
    size = int(window[1])
    return lambda text: _words(text, size) if window[2].startswith("w") else _characters(text, size)


def _between(text: str, end: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    begin = 0
    for match in end.finditer(text):
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, len(text))


def _words(text: str, size: int) -> Iterator[tuple[int, int]]:
    begin = end = n = 0
    for word in WORD.finditer(text):
        begin = begin if n else word.start()
        end, n = word.end(), n + 1
        if n == size:
            yield begin, end
            n = 0
    if n:
        yield begin, end


def _characters(text: str, size: int) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(text):
        end = min(begin + size, len(text))
        if end < len(text) and not text[end].isspace():
            gap = next((at for at in range(end, begin + size // 2, -1) if text[at - 1].isspace()), end)
            end = gap
        yield from _trimmed(text, begin, end)
        begin = end


def _trimmed(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretch without white space at its ends; nothing where nothing is left."""
    piece = text[begin:end]
    if stripped := piece.strip():
        begin += len(piece) - len(piece.lstrip())
        yield begin, begin + len(stripped)
