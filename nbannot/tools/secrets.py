"""Keys in addresses: addresses are settings and are written down, keys are not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, unquote

IN_ADDRESS = re.compile(
    r"\b(?:(?:sk|pk|rk|hf|gsk|xai|nvapi|r8|ghp|gho|glpat)[-_](?=[\w-]*[0-9A-Z])[\w-]{12,}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,})"
)
"""What is a key wherever it stands in an address."""
SECRET_PARAMETERS = re.compile(
    r"(key|token|secret|sig|signature|password|passwd|pwd|auth|authorization|code|credential|sas)s?$", re.I
)
"""How the parameters of an address end that hold keys."""
PARAMETER = re.compile(r"([\w.~-]+)(=|%3D)([^;&/?#\s\"']+)", re.I)
MASK = "…"


def key_place(parts: SplitResult, known: Iterable[str] = ()) -> str:
    """Return the part of an address in which a password or a key stands, or ``""``.

    Parameters
    ----------
    known
        Keys that are known to be keys, whatever they look like.

    >>> from urllib.parse import urlsplit
    >>> key_place(urlsplit("https://host/v1?sig=abc")), key_place(urlsplit("https://host/v1?api-version=2"))
    ('query', '')
    """
    if "@" in parts.netloc:
        return "part before the @"
    if parts.fragment:
        return "part behind the #"
    keys = list(known)
    for place, part in (("host", parts.netloc), ("path", parts.path), ("query", parts.query)):
        plain = unquote(part)
        if IN_ADDRESS.search(plain) or any(_stands_in(key, plain) for key in keys):
            return place
        if place != "host" and any(SECRET_PARAMETERS.search(name) for name, *_ in PARAMETER.findall(plain)):
            return place
    held = any(SECRET_PARAMETERS.search(name) and value for name, value in parse_qsl(parts.query))
    return "query" if held else ""


def _stands_in(key: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text) is not None


def without_keys(line: str) -> str:
    """Return a line for a message, with what may be a password or a key in its addresses left out.

    >>> without_keys("https://me:pw@host/sk-proj-0123456789abcdef/v1?sig=abc&v=2#x")
    'https://…@host/…/v1?sig=…&v=2#…'
    """
    line = re.sub(r"//[^/\s@]*@", f"//{MASK}@", line)
    line = re.sub(r"(//[^\s#\"']*#)[^\s\"']+", rf"\1{MASK}", line)
    line = PARAMETER.sub(
        lambda match: f"{match[1]}{match[2]}{MASK}" if SECRET_PARAMETERS.search(match[1]) else match[0], line
    )
    return IN_ADDRESS.sub(MASK, line)
