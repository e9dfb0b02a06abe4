"""What the value of a setting must be: each check returns that in words, or "" if a value is fine."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from nbannot.tools.given import path_fault
from nbannot.tools.secrets import key_place

REASONING_WORDS = ("minimal", "low", "medium", "high")
SECRET = re.compile("key|token|passw|secret", re.IGNORECASE)

Check = Callable[[Any], str]
"""Returns what a value must be, or "" if it is fine."""


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """Return a check for a number from `low` to `high`."""
    kind = "an integer" if whole else "a number"
    if high == float("inf"):
        rule = f"must be {kind} of at least {low}"
    else:
        rule = f"must be {kind} from {low} to {high}"

    def check(value: Any) -> str:
        right = isinstance(value, int) if whole else isinstance(value, int | float)
        return "" if right and not isinstance(value, bool) and low <= value <= high else rule

    return check


def one_of(*words: str) -> Check:
    """Return a check for one of these words."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def word(value: Any) -> str:
    """Check for a text that is not blank, on one line."""
    if not isinstance(value, str) or not value.strip() or not _writable(value):
        return "must be a text"
    return "must be a text without line breaks or tabs" if re.search("[\x00-\x1f\x7f]", value) else ""


def folder(value: Any) -> str:
    """Check for a path that a folder can have."""
    if fault := word(value):
        return fault
    return f"must be a path of a folder; this one {fault}" if (fault := path_fault(value)) else ""


def _writable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    return not re.search("[\ud800-\udfff]", text)


def address(value: Any) -> str:
    """Check for the address of a server; what it holds is written down, so it may hold no password or key."""
    if isinstance(value, str) and re.search(r",\s*https?://", value):
        return 'must be one address; several are a list, ["http://gpu1:8000/v1", "http://gpu2:8000/v1"]'
    if word(value) or not re.fullmatch(r"https?://[^/\s]\S*", value):
        return "must be an address such as http://localhost:11434"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "must be an address such as http://localhost:11434"
    return "is written to config.json and may hold no password or key" if key_place(parts) else ""


def addresses(value: Any) -> str:
    """Check for the address of a server, or a list of several."""
    if not isinstance(value, tuple | list):
        return address(value)
    if not value:
        return "must be an address such as http://localhost:11434, or a list of them"
    if fault := next((fault for one in value if (fault := address(one))), ""):
        return fault
    return "must name every server once" if len(set(value)) < len(value) else ""


def truth(value: Any) -> str:
    """Check for true or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def words(value: Any) -> str:
    """Check for a list of texts that is not empty."""
    right = isinstance(value, tuple) and value and all(isinstance(v, str) and _writable(v) for v in value)
    return "" if right else 'must be a list of texts, e.g. ["a", "b"]'


def amounts(*names: str) -> Check:
    """Return a check for a table of positive numbers with these names."""
    rule = (
        f"must be a table with one or more of {', '.join(names)}, each a number of at least 0, "
        f"e.g. {{{names[0]}=3}}"
    )

    def check(value: Any) -> str:
        right = isinstance(value, dict) and value and set(value) <= set(names)
        fine = right and all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < float("inf")
            for n in value.values()
        )
        return "" if fine else rule

    return check


def reasoning_word(value: Any) -> str:
    """Check for true, false or an effort word."""
    right = isinstance(value, bool) or value in REASONING_WORDS
    return "" if right else f"must be true, false or one of {', '.join(REASONING_WORDS)}"


@cache
def countries() -> frozenset[str]:
    """Return the ISO 3166-1 alpha-3 codes (pycountry comes with CodeCarbon)."""
    import pycountry

    return frozenset(country.alpha_3 for country in pycountry.countries)


def country(value: Any) -> str:
    """Check for a real ISO 3166-1 alpha-3 country code."""
    if isinstance(value, str) and re.fullmatch("[A-Z]{3}", value) and value in countries():
        return ""
    return "must be an ISO 3166-1 alpha-3 country code in capitals, such as DEU, FRA or USA"
