"""A random sample of texts that is the same every time: drawn by the ids, whatever the order of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def sampled(ids: Sequence[str], n: int, seed: int = 1, strata: Sequence[str] | None = None) -> list[int]:
    """Return the positions of a sample, in input order; all of them where there are no more than `n`.

    A larger sample with the same seed holds the smaller one, unless it is stratified.

    Parameters
    ----------
    strata
        What each text belongs to: every stratum gets its share of the sample (largest remainders), and at least one
        text as far as `n` goes.

    >>> sampled(["a", "b", "c", "d"], 2) == sampled(["a", "b", "c", "d"], 2)
    True
    >>> 9 in sampled(list("abcdefghij"), 3, strata=list("xxxxxxxxyz"))
    True
    """
    order = sorted(range(len(ids)), key=lambda i: (draw(ids[i], seed), i))
    if strata is None:
        return sorted(order[:n])
    of_stratum: dict[str, list[int]] = {}
    for i in order:
        of_stratum.setdefault(strata[i], []).append(i)
    shares = _shares({name: len(members) for name, members in sorted(of_stratum.items())}, min(n, len(ids)))
    return sorted(i for name, members in of_stratum.items() for i in members[: shares[name]])


def draw(text_id: str, seed: int) -> bytes:
    """Return what a text draws: the texts with the lowest are the sample."""
    return hashlib.sha256(f"nbannot-sample:{seed}:{text_id}".encode("utf-8", "surrogatepass")).digest()


def _shares(sizes: dict[str, int], n: int) -> dict[str, int]:
    """Return how many of `n` each stratum gets: one each (the largest first), then by largest remainder."""
    total = sum(sizes.values())
    by_size = sorted(sizes, key=lambda name: -sizes[name])
    given = {name: int(name in by_size[:n]) for name in sizes}
    while sum(given.values()) < n:
        # The stratum that is farthest below its share is next; the order of names decides between equals.
        short = {name: n * size / total - given[name] for name, size in sizes.items() if given[name] < size}
        given[max(short, key=lambda name: short[name])] += 1
    return given
