"""What answered: the models and configurations that replies name, and whether they changed while a run was at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

MOST_NAMED = 6
WEIGHTS_CHANGED = "The weights changed while the run was at work"


def served_by(served: Counter[tuple[str | None, str | None]]) -> list[dict[str, Any]]:
    """Return the models and configurations that answered, most answers first."""
    return [
        {"model": model, "fingerprint": fingerprint, "answers": number}
        for (model, fingerprint), number in served.most_common()
    ]


def answered_by(by_server: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return how many answers came from each of several servers, most first, under the name in ``config.json``."""
    return {"answered_by": dict(Counter(by_server).most_common())} if by_server else {}


def changes(
    served: Counter[tuple[str | None, str | None]], digest: str | None = None, digest_now: str | None = None
) -> list[str]:
    """Return what to tell of a run whose answers do not all come from one model, in sentences.

    Parameters
    ----------
    digest, digest_now
        What identified the weights before the run, and at its end.

    >>> changes(Counter({("a", None): 5, ("b", None): 2}))
    ['More than one model answered: a (5 answers), b (2 answers).']
    """
    changed = []
    models = _summed(served, 0)
    prints = _summed(served, 1)
    if len(models) > 1:
        changed.append(f"More than one model answered: {_named(models)}.")
    elif len(prints) > 1:
        changed.append(
            f"The server's configuration (system_fingerprint) was not the same for all answers: {_named(prints)}."
        )
    if digest and digest_now and digest != digest_now:
        changed.append(f"{WEIGHTS_CHANGED}: {digest[:19]} before, {digest_now[:19]} at its end.")
    return changed


def _summed(served: Counter[tuple[str | None, str | None]], which: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for key, number in served.items():
        name = key[which]
        if name:
            counts[name] += number
    return counts


def _named(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{name} ({number} answer{'' if number == 1 else 's'})" for name, number in most[:MOST_NAMED]]
    if len(most) > MOST_NAMED:
        words.append(f"{len(most) - MOST_NAMED} more")
    return ", ".join(words)
