"""One label out of several people's votes: majority, unanimity, options and spans one by one, a latent-class model."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbannot.study.field import Field

VOTED = ("checkbox", "dropdown", "likert")
NEAR_TIE = 0.01
"""Of two labels whose probabilities differ by less, neither is taken."""
ITEMS_PER_CLASS = 20
"""Dawid-Skene needs about so many texts per label and coder."""


@dataclass(frozen=True)
class Made:
    """One text's label in one field, and how it came about.

    Attributes
    ----------
    status
        ``agreed`` (all said the same), ``majority``, ``model`` (Dawid-Skene), ``adjudicated``, ``one coder``, or,
        without a label, ``tie``, ``not unanimous``, ``open`` (the field on which it depends is open).
    n_coders, n_agree, share
        Who gave an answer, how many of them this one, and their share (Dawid-Skene: the probability).
    shares
        label -> share of the coders; the soft label.
    """

    label: Any
    status: str
    n_coders: int
    n_agree: int
    share: float
    made_by: str
    shares: Mapping[str, float]


def settled(f: Field, votes: Mapping[str, Mapping[str, Any]], rule: str, notes: list[str]) -> dict[str, Made]:
    """Return text -> label by a rule for one field; what a reader should know of it goes into `notes`."""
    if rule == "dawid-skene" and f.type in VOTED:
        by_model = _by_model(f, votes, notes)
        if by_model is not None:
            return by_model
    if rule == "dawid-skene" and f.type not in VOTED:
        notes.append(f"{f.name}: Dawid-Skene is for one label per text; of a {f.type} the majority stands.")
    if f.type == "multiselect":
        return {i: _options(f, given, rule) for i, given in votes.items()}
    by_vote = _spans if f.type == "span" else _vote
    return {i: by_vote(given, rule) for i, given in votes.items()}


def _vote(given: Mapping[str, Any], rule: str) -> Made:
    """Return the label that most gave; none where two are ahead, or by unanimity where not all agree."""
    tally = Counter(given.values()).most_common()
    n, (label, ahead) = len(given), tally[0]
    shares = {str(value): count / n for value, count in tally}
    if n == 1:
        return Made(label, "one coder", 1, 1, 1.0, next(iter(given)), shares)
    if ahead == n:
        return Made(label, "agreed", n, n, 1.0, names_of(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, ahead, ahead / n, "", shares)
    if tally[1][1] == ahead:
        return Made(None, "tie", n, ahead, ahead / n, "", shares)
    who = [name for name, value in given.items() if value == label]
    return Made(label, "majority", n, ahead, ahead / n, names_of(who), shares)


def _options(f: Field, given: Mapping[str, Any], rule: str) -> Made:
    """Return the options that more than half chose; no label where exactly half chose one of them.

    Where no option has a majority and nobody said that none applies, there is no label either.
    """
    n = len(given)
    tally = Counter(option for value in given.values() for option in value)
    shares = {option: count / n for option, count in tally.most_common()}
    sets = {name: frozenset(value) for name, value in given.items()}
    if len(set(sets.values())) == 1:
        label = next(iter(given.values()))
        return Made(label, "one coder" if n == 1 else "agreed", n, n, 1.0, names_of(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, 0, math.nan, "", shares)
    taken = frozenset(option for option, count in tally.items() if 2 * count > n)
    who = [name for name, own in sets.items() if own == taken]
    if any(2 * count == n for count in tally.values()) or not (taken or who):
        return Made(None, "tie", n, 0, math.nan, "", shares)
    label = [option for option in f.options if option in taken]
    return Made(label, "majority", n, len(who), len(who) / n, names_of(given), shares)


def _spans(given: Mapping[str, Any], rule: str) -> Made:
    n = len(given)
    marked = {name: {(s["start"], s["end"], s["label"]): s for s in value} for name, value in given.items()}
    tally = Counter(place for spans in marked.values() for place in spans)
    shares = {
        json.dumps(place, ensure_ascii=False): count / n for place, count in sorted(tally.items(), key=str)
    }
    same = all(spans.keys() == next(iter(marked.values())).keys() for spans in marked.values())
    if same:
        label = next(iter(given.values()))
        return Made(label, "one coder" if n == 1 else "agreed", n, n, 1.0, names_of(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, 0, math.nan, "", shares)
    taken = {place for place, count in tally.items() if 2 * count > n}
    for start, end, label in set(tally) - taken:
        near = sum(any(a < end and start < b for a, b, _ in spans) for spans in marked.values())
        covered = any(a < end and start < b and label == other for a, b, other in taken)
        if not covered and 2 * (n - near) <= n:
            return Made(None, "tie", n, 0, math.nan, "", shares)
    spans = {place: s for one in marked.values() for place, s in one.items() if place in taken}
    label = [spans[place] for place in sorted(spans, key=lambda p: (p[0], p[1], p[2] or ""))]
    who = [name for name, one in marked.items() if one.keys() == taken]
    return Made(label, "majority", n, len(who), len(who) / n, names_of(given), shares)


def _by_model(f: Field, votes: Mapping[str, Mapping[str, Any]], notes: list[str]) -> dict[str, Made] | None:
    """Return labels by Dawid-Skene; ``None`` where it does not come to rest, with a note."""
    import numpy as np

    from nbannot.measures.dawid_skene import dawid_skene

    names = sorted({name for given in votes.values() for name in given})
    place = {label: number for number, label in enumerate(f.labels)}
    if not votes:
        return {}
    ratings = np.array(
        [[place[given[name]] if name in given else -1 for name in names] for given in votes.values()],
        dtype=np.int64,
    )
    fitted = dawid_skene(ratings, len(f.labels))
    if not fitted.converged:
        notes.append(f"{f.name}: Dawid-Skene did not converge; the majority stands instead.")
        return None
    expected = np.minimum.reduce([fitted.posterior[ratings[:, c] >= 0].sum(0) for c in range(len(names))])
    used = fitted.priors > 1 / len(votes)
    if expected[used].min(initial=math.inf) < ITEMS_PER_CLASS:
        notes.append(
            f"{f.name}: Dawid-Skene needs about {ITEMS_PER_CLASS} texts per label and coder; some coder has "
            f"{expected[used].min():.0f} of a label. Take it as an illustration."
        )
    if fitted.other_starts:
        notes.append(
            f"{f.name}: {fitted.other_starts} of 10 random starts of Dawid-Skene ended at a better solution than the "
            "one that begins with the majority, which is given here."
        )
    decided = {}
    for (i, given), p in zip(votes.items(), fitted.posterior, strict=True):
        first, second = np.argsort(p, kind="stable")[::-1][:2]
        label = f.labels[first]
        agree = sum(value == label for value in given.values())
        shares = {str(value): count / len(given) for value, count in Counter(given.values()).items()}
        near = p[first] - p[second] < NEAR_TIE
        decided[i] = Made(None if near else label, "tie" if near else "model", len(given), agree, float(p[first]),
                        "" if near else f"Dawid-Skene of {names_of(given)}", shares)  # fmt: skip
    return decided


def names_of(names: Any) -> str:
    """Return names as one cell holds them."""
    return ", ".join(names)
