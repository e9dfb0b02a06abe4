"""Texts that carry the marks of a prompt: a model may take what follows one for a part of the prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbannot.errors import listed

MARKS = re.compile(
    r"^[ \t]*(?:Text|Response):"  # what stands before a text and before an answer
    r"|</?text\b[^<>\n]{0,40}>"  # the fence around a text
    r"|\{\s{0,9}\"response\"\s{0,9}:"  # the beginning of an answer
    r"|<\|[^<>|\n]{1,40}\|>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?think(?:ing)?>",  # turns of a chat
    re.MULTILINE | re.IGNORECASE,
)
SIGNS = (
    "text:",
    "response:",
    "<text",
    "</text",
    '"response"',
    "<|",
    "inst]",
    "sys>>",
    "think>",
    "thinking>",
    "_of_turn>",
)
"""One of these stands in each mark, in lower case: texts without them, which is most, need no closer look."""


def marks_in(text: str) -> list[str]:
    """Return the marks of prompts that a text contains, each once, in the order of the text.

    >>> marks_in('Text: a [INST] in a post\\nResponse: {"response": 1} and another [INST]')
    ['Text:', '[INST]', 'Response:', '{"response":']
    """
    lowered = text.lower()
    if not any(sign in lowered for sign in SIGNS):
        return []
    return list(dict.fromkeys(mark.strip() for mark in MARKS.findall(text)))


def marks_notice(texts: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return one sentence on how many texts contain marks of prompts and which; nothing where none does."""
    by_text = {text_id: marks for text_id, text in zip(ids, texts, strict=True) if (marks := marks_in(text))}
    if not by_text:
        return []
    kinds = dict.fromkeys(mark for marks in by_text.values() for mark in marks)
    return [
        f"{len(by_text):,} of {len(texts):,} texts contain marks that prompts are made of "
        f"({listed(map(repr, kinds), 4)}): {listed(by_text, 3)}. Each text stands in a fence of its own, but a model "
        "may still take them for the prompt's: look at its answers to these texts."
    ]
