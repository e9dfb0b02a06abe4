"""Label probabilities from the log-probabilities of a chat completion, where they can be had exactly.

A chat server writes its answer token by token and tells, for each place, the most probable tokens. Where the possible
answers part at one place, the probabilities of the tokens there, kept to those that begin one of the answers, are the
probabilities of the answers. Where they do not (an answer is missing among the tokens told, or a token begins several
answers) nothing is reckoned from what is missing: the reason is given instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

NEGLIGIBLE = 1e-3
"""Share of probability that may fall on tokens which begin several answers, and by which a sum may exceed 1."""

ROUNDING = 1e-6
"""By how much a log-probability may lie above 0."""

VALUE = re.compile(r'^\s*(?:```(?:json)?\s*)?\{\s*"response"\s*:\s*')
"""What stands before the value; llama.cpp's tokens have the fence of Markdown in front, which its text leaves out."""


class NoScore(ValueError):
    """Why the probabilities cannot be had."""


def option_probabilities(content: object, options: Sequence[str]) -> tuple[float, ...]:
    """Return the probability of each option, in order, summing to 1.

    Parameters
    ----------
    content
        ``choices[0].logprobs.content`` of a chat completion.
    options
        Every possible reply as JSON text ``{"response": ...}``.

    Raises
    ------
    NoScore
        If they cannot be had exactly.
    """
    tokens = _tokens(content)
    text = "".join(token for token, _ in tokens)
    begin = VALUE.match(text)
    if begin is None:
        raise NoScore("the reply does not begin as one of the options does")
    start = begin.end()
    values = [json.dumps(json.loads(option)["response"], ensure_ascii=False) + "}" for option in options]
    parting = start + alike(values)
    at = 0
    for token, top in tokens:
        if at + len(token) > parting:
            rests = [(text[:start] + value)[at:] for value in values]
            return _shares(rests, top)
        at += len(token)
    raise NoScore("the reply ends before the options part")


def alike(texts: Sequence[str]) -> int:
    """Return how many characters all texts have in common at their beginning."""
    lowest, highest = min(texts), max(texts)
    pairs = zip(lowest, highest, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(lowest))


def _tokens(content: object) -> list[tuple[str, Mapping[str, float]]]:
    """Return the tokens of a reply, each with the probable ones at its place and their log-probabilities."""
    if not isinstance(content, list) or not content:
        raise NoScore("the server returns no log-probabilities")
    try:
        return [(str(item["token"]), _top(item)) for item in content]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise NoScore("the server returns log-probabilities in a form that is not known") from None


def _top(item: Mapping[str, Any]) -> dict[str, float]:
    entries = [item, *(item.get("top_logprobs") or [])]
    if any(isinstance(other["logprob"], bool) for other in entries):
        raise TypeError("true and false are no numbers")
    return {str(other["token"]): float(other["logprob"]) for other in entries}


def _shares(rests: Sequence[str], top: Mapping[str, float]) -> tuple[float, ...]:
    """Return each option's share of the probability, from what may come next and what each option goes on with."""
    _check(top)
    mass = [0.0] * len(rests)
    unclear = 0.0
    for token, logprob in top.items():
        begun = [
            i for i, rest in enumerate(rests) if token and (rest.startswith(token) or token.startswith(rest))
        ]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(logprob)
        elif begun:
            unclear += math.exp(logprob)
    total = sum(mass)
    if not all(mass):
        missing = mass.count(0.0)
        raise NoScore(
            f"{missing} of {len(mass)} options are not among the {len(top)} tokens that the server tells"
        )
    if unclear > NEGLIGIBLE * total:
        raise NoScore("several options begin with the same token")
    return tuple(share / total for share in mass)


def _check(top: Mapping[str, float]) -> None:
    """Complain of numbers that are no log-probabilities of tokens of which only one can come."""
    broken = next((p for p in top.values() if not math.isfinite(p) or p > ROUNDING), None)
    if broken is not None:
        raise NoScore(f"the server tells {broken:g} as a log-probability, which must be finite and at most 0")
    total = math.fsum(math.exp(p) for p in top.values())
    if total > 1 + NEGLIGIBLE:
        raise NoScore(f"the server tells probabilities that sum to {total:.4g}, more than 1")
