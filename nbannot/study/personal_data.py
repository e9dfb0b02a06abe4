"""Personal data that a program can see in texts, looked for on this machine before anything is sent.

E-mail addresses, telephone numbers (in international form, or behind a word such as "phone"), bank accounts, payment
cards and numbers of identity of several countries: only what has a shape and, where it has one, a check digit. Names of
people are looked for where the user named a pipeline for them (`nbannot.study.names`); addresses and everything else
that tells who somebody is are not seen. It is advice, no proof that a text holds none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from nbannot.errors import TaskError, listed
from nbannot.page.shown import Shown
from nbannot.study.faults import complete
from nbannot.study.names import Names, names_in
from nbannot.tools.given import listed_or

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}(?![\w-])")
TELEPHONE = re.compile(
    r"\b(?:tel|telephone|phone|mobile|mob|cell|fax|telefon|handy|t[ée]l[ée]phone|t[ée]l|call)\b\W{0,3}"
    r"(?:(?:no|nr|number|us|me|on|at|is)\b\W{0,3}){0,2}(?!(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d\b)"
    r"((?:\d[ ().\-/]{0,2}){6,14}\d)",
    re.I,
)
"""A number as it is written within a country, behind a word that says what it is."""

TWO_DIGITS = re.compile(r"\d\d")
ACCOUNT = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}")
"""What an account can be the beginning of: words in capitals may follow it."""
CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
IDENTITY = (
    (re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), "stdnum.us.ssn"),
    (re.compile(r"(?<!\w)\d{6}[-+]\d{4}(?![\w-])"), "stdnum.se.personnummer"),
    (re.compile(r"(?<!\w)\d{6}[-+A-FU-Y]\d{3}[0-9A-Z](?!\w)"), "stdnum.fi.hetu"),
    (re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z](?!\w)"), "stdnum.it.codicefiscale"),
    (re.compile(r"(?<!\w)[12] ?\d{2} ?\d{2} ?\d[0-9AB] ?\d{3} ?\d{3} ?\d{2}(?!\w)"), "stdnum.fr.nir"),
    (re.compile(r"(?<!\w)\d{8}-?[A-Z](?!\w)"), "stdnum.es.dni"),
    (re.compile(r"(?<![\w.])756\.\d{4}\.\d{4}\.\d{2}(?!\w)"), "stdnum.ch.ssn"),
    (re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"), "stdnum.br.cpf"),
    (re.compile(r"(?<![\w.])\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}(?!\w)"), "stdnum.be.nn"),
    (re.compile(r"(?<![\w-])\d{6}-\d{4}(?![\w-])"), "stdnum.dk.cpr"),
    (re.compile(r"(?<![\w.,/-])\d{6} ?\d{5}(?![\w-]|[.,]\d)"), "stdnum.no.fodselsnummer"),
    (re.compile(r"(?<![\w.,/-])\d{11}(?![\w-]|[.,]\d)"), "stdnum.pl.pesel"),
    (re.compile(r"(?<!\w)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d{2}){3} ?[A-D](?!\w)"), ""),
)
"""Numbers that identify a person, each with its check: United States, Sweden, Finland, Italy, France, Spain,
Switzerland, Brazil, Belgium, Denmark, Norway, Poland, and the United Kingdom's, which has none."""

KINDS = ("e-mail address", "telephone number", "bank account", "payment card", "number of identity")
MOST_NAMED = 3
REPLACE_IT = "Take them out first, or take a model on this machine."


@dataclass(frozen=True, repr=False)
class PersonalData(Shown):
    """What was seen in which texts; the data themselves are not kept.

    Attributes
    ----------
    n_texts
        How many texts were looked at.
    by_text
        Id -> kind -> how many; only texts in which something was seen.
    names
        In which texts there seem to be names of people; None where they were not looked for.
    """

    _display: ClassVar[str] = "personal_data_card"

    n_texts: int
    by_text: Mapping[str, Mapping[str, int]]
    names: Names | None = None

    @property
    def seen(self) -> bool:
        """Whether anything was seen."""
        return bool(self.by_text or (self.names and self.names.by_text))

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> how many in all texts, in the order of `KINDS`."""
        every = {kind: sum(kinds.get(kind, 0) for kinds in self.by_text.values()) for kind in KINDS}
        return {kind: n for kind, n in every.items() if n}

    @property
    def words(self) -> str:
        """What was seen, without the data themselves; "" where nothing was and names were not looked for."""
        return " ".join(part for part in (self._shapes_words, self.names.words if self.names else "") if part)

    @property
    def _shapes_words(self) -> str:
        if not self.by_text:
            return ""
        what = listed([f"{n:,} {plural_of(kind, n)}" for kind, n in self.counts.items()], len(KINDS))
        ids = list(self.by_text)
        return (
            f"{len(ids):,} of {self.n_texts:,} texts seem to hold personal data: {what} "
            f"({listed(ids, MOST_NAMED)}). {self.not_looked_for}"
        )

    @property
    def not_looked_for(self) -> str:
        """What was not looked for, in one sentence."""
        return f"{'Addresses' if self.names else 'Names and addresses'} are not looked for."

    def __repr__(self) -> str:
        return f"<PersonalData: {self.words or f'nothing seen in {self.n_texts:,} texts'}>"


def plural_of(kind: str, n: int) -> str:
    """Return the kind as it is named for so many.

    >>> plural_of("e-mail address", 2), plural_of("number of identity", 2), plural_of("payment card", 1)
    ('e-mail addresses', 'numbers of identity', 'payment card')
    """
    if n == 1:
        return kind
    first, of, rest = kind.partition(" of ")
    return f"{first}{'es' if first.endswith('s') else 's'}{of}{rest}"


def personal_data(
    texts: Any, ids: Sequence[str] | None = None, *, find_names: str | None = None
) -> PersonalData:
    """Look for personal data in texts, on this machine; nothing is sent and nothing found is kept.

    Parameters
    ----------
    texts
        A `Task`, or texts.
    ids
        The names of the texts; their positions from 1 on when left out.
    find_names
        A spaCy pipeline, installed or a folder, that looks for names of people as well (``pip install
        "nbannot[names]"``); of more than 1,000,000 characters in all it reads a random sample. None: the one that
        ``NBANNOT_FIND_NAMES`` names, as for a run; without one names are not looked for.

    Returns
    -------
    PersonalData
        Which texts hold how many of which kind. It is advice: what has no shape of its own (places, jobs) is not seen,
        a number may only look like one, and a pipeline misses names and takes other words for names.

    Raises
    ------
    ConfigError
        If `find_names` is no pipeline that is installed and finds people.

    Examples
    --------
    >>> personal_data(["Write to ada@example.org or +44 20 7946 0958.", "No."]).counts
    {'e-mail address': 1, 'telephone number': 1}
    """
    if hasattr(texts, "texts") and hasattr(texts, "ids"):
        texts, ids = texts.texts, texts.ids
    texts = listed_or(TaskError, texts, "a list of texts, or a task,")
    if strangers := sorted({type(text).__name__ for text in texts if not isinstance(text, str)}):
        raise TaskError(f"texts must be strings. Got {listed(strangers)}.")
    names = list(ids) if ids is not None else [str(n) for n in range(1, len(texts) + 1)]
    seen = {name: kinds for name, text in zip(names, texts, strict=True) if (kinds := kinds_in(text))}
    pipeline = complete({"find_names": find_names})["find_names"]
    return PersonalData(len(texts), seen, names_in(texts, names, pipeline) if pipeline else None)


def kinds_in(text: str) -> dict[str, int]:
    """Return kind -> how many a text seems to hold; each stretch of the text counts once."""
    every = {"e-mail address": sum(1 for _ in EMAIL.finditer(text)) if "@" in text else 0}
    if TWO_DIGITS.search(text):
        taken: list[tuple[int, int]] = []
        for kind, places in (
            ("bank account", _accounts(text)),
            ("payment card", _passing(CARD, "stdnum.luhn", text)),
            (
                "number of identity",
                (place for shape, check in IDENTITY for place in _passing(shape, check, text)),
            ),
            ("telephone number", _telephones(text)),
        ):
            for start, end in places:
                if all(end <= a or b <= start for a, b in taken):
                    taken.append((start, end))
                    every[kind] = every.get(kind, 0) + 1
    return {kind: every[kind] for kind in KINDS if every.get(kind)}


def _accounts(text: str) -> Iterable[tuple[int, int]]:
    """Return where a text has a bank account: the longest beginning of what has its shape that passes its check."""
    valid = import_module("stdnum.iban").is_valid
    place = 0
    while match := ACCOUNT.search(text, place):
        start, whole = match.span()
        ends = [end for end in range(whole, start + 14, -1) if not text[end : end + 1].isalnum()]
        if (end := next((end for end in ends if valid(text[start:end])), 0)) > 0:
            yield start, end
        place = end or start + 4


def _passing(shape: re.Pattern[str], check: str, text: str) -> Iterable[tuple[int, int]]:
    """Return where a text has something of a shape that its check lets pass."""
    for match in shape.finditer(text):
        if not check or _check(check)(match[0]):
            yield match.span()


@cache
def _check(module: str) -> Callable[[str], bool]:
    valid = import_module(module).is_valid
    if (
        module == "stdnum.luhn"
    ):  # every tenth number passes it: cards begin with the digits of their companies
        return lambda number: number[0] in "3456" and valid(re.sub(r"\D", "", number))
    return valid  # type: ignore[no-any-return]


def _telephones(text: str) -> Iterable[tuple[int, int]]:
    yield from (match.span(1) for match in TELEPHONE.finditer(text))
    if "+" in text:
        from phonenumbers import PhoneNumberMatcher

        yield from ((match.start, match.end) for match in PhoneNumberMatcher(text, None))
