"""Names of people in texts, looked for on this machine by a spaCy pipeline that the user chose and installed.

What finds names is statistical: it misses some and takes other words for names, so this is advice and never more.
Only where the names are counted is a name ever seen; neither texts nor names are kept, shown or written down.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot.errors import ConfigError, listed

PEOPLE = frozenset({"PERSON", "PER", "PERS", "PRS", "PS", "PERSNAME"})
"""What spaCy's pipelines call a person, in capitals: PERSON (English, Chinese), PER (German, French, Spanish and most
others), PRS (Swedish), PS (Korean), persName (Polish)."""

LEFT_OUT = frozenset(
    {"tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "trainable_lemmatizer"}
    | {"textcat", "textcat_multilabel"}
)
"""Components of spaCy that finding names does not need; without them it is three times as fast."""
FINDERS = frozenset({"ner", "beam_ner", "entity_ruler", "span_ruler"})

MOST_CHARS = 1_000_000
"""So much is read at most, about a quarter of a minute with a small pipeline; of more text, a random sample is read."""
PIECE_CHARS = 50_000
"""A longer text is read in pieces, as a pipeline keeps the whole of what it reads in memory."""
INSTALL = 'pip install "nbannot[names]"'


@dataclass(frozen=True)
class Names:
    """In which texts a pipeline saw names of people; the names themselves are not kept.

    Attributes
    ----------
    finder
        What looked: pipeline and version, and spaCy's.
    n_texts
        How many texts were looked at.
    n_given
        How many there were.
    by_text
        Id -> how many names; only texts in which one was seen.
    whole
        Whether all of each of these texts was read.
    """

    finder: str
    n_texts: int
    n_given: int
    by_text: Mapping[str, int]
    whole: bool = True

    @property
    def words(self) -> str:
        """What was seen, without the names themselves, and how far it can be trusted."""
        n = len(self.by_text)
        of = f"{n:,} of {self.n_texts:,} text{'' if self.n_texts == 1 else 's'}"
        if n:
            of += f" ({listed(list(self.by_text), 3)})"
        if self.n_texts < self.n_given:
            of += f", a random sample of {self.n_given:,},"
        if not self.whole:
            of += f", the first {MOST_CHARS:,} characters of it,"
        return (
            f"What looks like names of people was seen in {of} by {self.finder}, which misses names and takes other "
            "words for names."
        )


def names_in(texts: Sequence[str], ids: Sequence[str], pipeline: str) -> Names:
    """Count what looks like names of people, on this machine.

    Parameters
    ----------
    texts, ids
        The texts and what they are called.
    pipeline
        An installed spaCy pipeline, or the folder of one. Of texts with more than 1,000,000 characters in all, a random
        sample is read, the same every time.

    Raises
    ------
    ConfigError
        If spaCy or the pipeline is not installed, or the pipeline finds no people.
    """
    nlp, finder = finder_of(pipeline)
    places = _sample(texts)
    whole = not places or len(texts[places[0]]) <= MOST_CHARS
    digest = hashlib.sha256()
    for place in places:
        digest.update(f"{len(texts[place])} {texts[place]}".encode("utf-8", "surrogatepass"))
    key = (f"{pipeline} {finder}", digest.digest())
    if key not in _SEEN:
        if len(_SEEN) >= MOST_KEPT:
            _SEEN.clear()
        _SEEN[key] = _counts(nlp, [texts[place][:MOST_CHARS] for place in places])
    seen = {ids[place]: n for place, n in zip(places, _SEEN[key], strict=True) if n}
    return Names(finder, len(places), len(texts), seen, whole)


MOST_KEPT = 16
_SEEN: dict[tuple[str, bytes], list[int]] = {}
"""The numbers (no texts, no names) of what was looked at in this session: plan, run and sweep ask about the same."""


def _sample(texts: Sequence[str]) -> list[int]:
    """Return the positions of the texts that are read, in order: all, or a random sample that is short enough."""
    lengths = [len(text) for text in texts]
    if sum(lengths) <= MOST_CHARS:
        return list(range(len(texts)))
    order = random.Random(1).sample(range(len(texts)), len(texts))
    left = MOST_CHARS
    chosen: list[int] = []
    for place in order:
        left -= lengths[place]
        if left < 0 and chosen:
            break
        chosen.append(place)
    return sorted(chosen)


def _counts(nlp: Any, texts: Sequence[str]) -> list[int]:
    counts = [0] * len(texts)
    for doc, place in nlp.pipe(_pieces(texts), as_tuples=True, batch_size=32):
        counts[place] += sum(1 for name in doc.ents if name.label_.upper() in PEOPLE)
    return counts


def _pieces(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the texts and their positions; long ones in pieces that end between two words where there are any."""
    for place, text in enumerate(texts):
        start = 0
        while start < len(text):
            end = start + PIECE_CHARS
            if end < len(text):
                end = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end)) + 1 or end
            yield text[start:end], place
            start = end


@lru_cache(maxsize=2)
def finder_of(pipeline: str) -> tuple[Any, str]:
    """Return the pipeline, with what finding names needs of it, and what it is called.

    Raises
    ------
    ConfigError
        If spaCy or the pipeline is not installed, or the pipeline finds no people.
    """
    try:
        import spacy
    except ImportError:
        raise ConfigError(
            f'find_names = "{pipeline}" needs spaCy, which is not installed.\n'
            f"  Type: {INSTALL}   and then: python -m spacy download {_named(pipeline)}\n"
            "  Without it: leave find_names out; names are then not looked for."
        ) from None
    try:
        nlp = spacy.load(pipeline)
    except Exception as error:  # noqa: BLE001 - whatever a pipeline of somebody else raises while it is read
        raise ConfigError(_not_loaded(pipeline, error)) from None
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    labels = {
        label
        for name, kind in factories.items()
        if kind in FINDERS
        for label in nlp.pipe_labels.get(name, ())
    }
    own = set(factories.values()) - FINDERS - LEFT_OUT - {"tok2vec", "transformer"}
    if not own and not any(label.upper() in PEOPLE for label in labels):
        what = f"knows only {listed(sorted(labels), 8)}" if labels else "has no component that finds names"
        raise ConfigError(
            f'find_names = "{pipeline}": this pipeline {what}, and no people.\n'
            "  Name one that does, e.g. en_core_web_sm, de_core_news_sm or xx_ent_wiki_sm (many languages)."
        )
    if not own:  # a component of somebody else may read what any other wrote
        for name, kind in factories.items():
            if kind in LEFT_OUT or (kind == "tok2vec" and not _is_heard(nlp, name, factories)):
                nlp.disable_pipe(name)
    called = f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
    return nlp, f"{called} (spaCy {version('spacy')})"


def _is_heard(nlp: Any, name: str, factories: Mapping[str, str]) -> bool:
    """Return whether a component that finds names listens to this one."""
    heard_by = getattr(nlp.get_pipe(name), "listening_components", ())
    return any(factories.get(one) in FINDERS for one in heard_by)


def _named(pipeline: str) -> str:
    return pipeline if re.fullmatch(r"[a-z]{2,3}_\w+", pipeline) else "en_core_web_sm"


def _not_loaded(pipeline: str, error: Exception) -> str:
    from spacy.util import is_package

    start = f'find_names = "{pipeline}"'
    if is_package(pipeline) or Path(pipeline).exists():
        why = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"{start} cannot be loaded by spaCy: {why[0][:200]}\n"
            "  Is it a pipeline, made for this version of spaCy? python -m spacy validate   looks at installed ones."
        )
    return (
        f"{start}: no spaCy pipeline of this name is installed, and there is no such folder.\n"
        f"  Type: python -m spacy download {_named(pipeline)}   (pip install may bring a package of "
        "somebody else's under that name)\n"
        "  One per language, e.g. en_core_web_sm, de_core_news_sm, fr_core_news_sm; xx_ent_wiki_sm for many."
    )
