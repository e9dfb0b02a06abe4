"""Keys: where they come from, where they may go, and how they are kept out of everything that is handed on.

A key that other programs use too goes to the hosts it was made for, and to the host that the environment names beside
it; an address in somebody's config.json is no reason to send it. ``NBANNOT_API_KEY_<HOST>`` (the host in capitals,
other characters as ``_``) goes to that host alone, ``NBANNOT_API_KEY`` to the address that is used, and the hosts in
``NBANNOT_KEY_HOSTS`` (separated by commas) get the keys of other programs as well.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlsplit

from nbannot.asking.request_reply import Reply
from nbannot.errors import ModelError

OWN_KEY = "NBANNOT_API_KEY"
HOSTS_VARIABLE = "NBANNOT_KEY_HOSTS"

STANDARD = {
    "OPENAI_API_KEY": (("openai.com",), "OPENAI_BASE_URL"),
    "ANTHROPIC_API_KEY": (("anthropic.com",), "ANTHROPIC_BASE_URL"),
    "HF_TOKEN": (("huggingface.co", "hf.co"), "HF_ENDPOINT"),
    "HUGGING_FACE_HUB_TOKEN": (("huggingface.co", "hf.co"), "HF_ENDPOINT"),
    "OLLAMA_API_KEY": (("ollama.com",), "OLLAMA_HOST"),
    "TYPESAFE_API_KEY": (("typesafe.ai",), "TYPESAFE_BASE_URL"),
    "OPENROUTER_API_KEY": (("openrouter.ai",), ""),
    "FIREWORKS_API_KEY": (("fireworks.ai",), ""),
    "UPSTAGE_API_KEY": (("upstage.ai",), ""),
}
"""Keys of other programs: the domains they were made for, and the variable that may name another host."""

SECRET_NAMES = re.compile(r"(API_?KEY|ACCESS_KEY|SECRET_KEY|AUTH_TOKEN|_TOKEN|_SECRET|PASSWORD|PASSWD)(_|$)")
"""How variables are named that hold secrets, also of models that other packages add."""
KEY_LIKE = re.compile(r"\b(sk|pk|hf|gsk|xai|nvapi|r8|key)([-_])[A-Za-z0-9_*-]{8,}")
LONG = 12
"""Characters from which on a key is found in small and capital letters alike."""
PART = 16
"""Characters of a key that are none of a text, wherever they stand in it."""
LEAST = 4
"""A known key with fewer characters is taken out only where it is said to be one: it is a part of many words."""
PLACEHOLDERS = frozenset({"true", "false", "null", "none", "empty", "not-needed", "response", "reasoning"})
"""What stands for a key where none is needed, and words of the answers themselves."""


class Secret:
    """A key that does not show itself, and that no file can hold."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _USED.add(value)

    def reveal(self) -> str:
        """Return the key, for the header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied: it stays in this process")


_USED: set[str] = set()
"""Every key that was made in this process, from wherever it came."""


# ---- where keys go ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """Which key goes to an address.

    Attributes
    ----------
    variable
        Where it comes from; "" if none is sent.
    kept_back
        Variables that hold a key which is not sent, as the address is not one it was made for.
    made_for
        Variable of another program whose key is made for this address, and which is not set; "" where there is none.
    """

    key: Secret | None
    variable: str
    host: str
    kept_back: tuple[str, ...] = ()
    made_for: str = ""

    def told(self) -> str:
        """Return where which key goes, for people."""
        if self.variable:
            return f"{self.variable} goes to {self.host}"
        if self.kept_back:
            return f"no key goes to {self.host} ({', '.join(self.kept_back)} stays here)"
        return f"no key goes to {self.host}" + (f": {self.made_for} is not set" if self.made_for else "")

    def what_to_set(self) -> str:
        """Return the line that says how a key reaches this host."""
        own = f"{key_name(self.host)} or {OWN_KEY}"
        line = f"  Set {self.made_for or own} before Python starts; never write a key into a notebook."
        if self.kept_back:
            kept = " and ".join(self.kept_back)
            line += f"\n  {kept} is kept for its own host; {HOSTS_VARIABLE}={self.host} sends it here."
        return line

    def no_entry(self, address: str, words: str | None, variables: Sequence[str]) -> str:
        """Return the letter for a server that lets nobody in without a key, or refuses the one it was sent.

        Parameters
        ----------
        words
            What went wrong, as the exchange tells it.
        variables
            The variables in which the backend looks for a key, in their order.
        """
        if self.key is None:
            return f"the server at {address} wants a key, and none is there for it.\n{self.what_to_set()}"
        return (
            f"the server at {address} refuses the key in {self.variable}: {words}.\n"
            f"  The first of these that is set is used: {key_name(self.host)}, {', '.join(variables)}."
        )


def key_name(host: str) -> str:
    """Return the variable with the key of one host.

    >>> key_name("api.together.xyz")
    'NBANNOT_API_KEY_API_TOGETHER_XYZ'
    """
    return f"{OWN_KEY}_{re.sub(r'[^A-Z0-9]', '_', host.upper())}"


def key_for(address: str, *variables: str) -> KeyChoice:
    """Return the key for an address: the host's own, else the first of the variables that may go there.

    Parameters
    ----------
    variables
        `OWN_KEY` and names in `STANDARD`, in this order of preference.

    Raises
    ------
    ModelError
        If what a variable holds cannot be a key.
    """
    host = urlsplit(address).hostname or ""
    kept_back = []
    for variable in (key_name(host), *variables):
        if not os.environ.get(variable, "").strip():
            continue
        if variable in STANDARD and not _may_go(variable, address):
            kept_back.append(variable)
            continue
        return KeyChoice(key_from(variable), variable, host, tuple(kept_back))
    made_for = next((name for name in variables if name in STANDARD and _made_for(name, address)), "")
    return KeyChoice(None, "", host, tuple(kept_back), made_for)


def _made_for(variable: str, address: str) -> bool:
    """Return whether an address is one of the provider's own, for which a key of another program was made."""
    parts = urlsplit(address)
    host = (parts.hostname or "").casefold()
    return parts.scheme == "https" and any(host == d or host.endswith(f".{d}") for d in STANDARD[variable][0])


def _may_go(variable: str, address: str) -> bool:
    """Return whether a key of another program may go to this address."""
    if _made_for(variable, address):
        return True
    place = STANDARD[variable][1]
    parts = urlsplit(address)
    host = (parts.hostname or "").casefold()
    named = os.environ.get(place, "").strip() if place else ""
    own = urlsplit(named if "://" in named else f"http://{named}")
    if named and own.netloc.casefold() == parts.netloc.casefold():
        return True
    allowed = {name.strip().casefold() for name in os.environ.get(HOSTS_VARIABLE, "").split(",")}
    return bool(host) and bool(allowed & {host, parts.netloc.casefold()})


def key_from(*variables: str) -> Secret | None:
    """Return the key in the first of these environment variables that holds one.

    Raises
    ------
    ModelError
        If it cannot be a key.
    """
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if not value:
            continue
        if not re.fullmatch(r"[\x21-\x7e]+", value):
            raise ModelError(
                f"{variable} holds a character that no key has (a space, a line break, a letter with an accent).\n"
                f"  Set {variable} again, with the key alone."
            )
        return Secret(value)
    return None


# ---- masking ----------------------------------------------------------------------------------------------------


def known_secrets() -> list[str]:
    """Return every key that is known here, longest first: used ones, and those in variables named as such."""
    secrets = set(_USED)
    for name, value in os.environ.items():
        value = value.strip()
        ours = name in STANDARD or name == OWN_KEY or name.startswith(f"{OWN_KEY}_")
        if ours or (SECRET_NAMES.search(name.upper()) and len(value) >= 12 and not value.isalpha()):
            secrets.add(value)
    return sorted((s for s in secrets if s and s.casefold() not in PLACEHOLDERS), key=len, reverse=True)


@lru_cache(maxsize=256)
def _spellings(secret: str) -> re.Pattern[str]:
    """Return what finds a key as it is, escaped in JSON, HTML or an address, in hexadecimal, and within base64."""
    if len(secret) < LEAST:
        spellings = (
            r"(?P<said>\b(?:bearer|api[-_ ]?key|token|authorization)\b(?: provided| is| was)?[\s:=\"']{1,4})"
        )
        return re.compile(f"{spellings}{re.escape(secret)}(?![\\w-])", re.I)
    plain = "".join(map(_character, secret))
    within = [
        re.escape(one).replace(r"\+", "[+-]").replace("/", "[/_]") + "[A-Za-z0-9+/_-]?={0,2}"
        for one in _encoded(secret)
    ]
    every = "|".join([plain, *within, *([secret.encode().hex()] if len(secret) >= 8 else [])])
    return re.compile(every, re.I if len(secret) >= LONG else 0)


def _character(c: str) -> str:
    """Return what finds one character of a key, however it is escaped."""
    if c.isalnum():
        return re.escape(c)
    code = "".join(f"[{d}{d.upper()}]" for d in f"{ord(c):02x}")
    named = {html.escape(c), re.escape(c)} - {c, re.escape(c)}
    ways = [
        rf"\\*{re.escape(c)}",
        rf"%(?:25)*{code}",
        rf"\\+u00{code}",
        rf"&#(?:[xX]0*{code}|0*{ord(c)});",
        *named,
    ]
    return f"(?:{'|'.join(ways)})"


def _encoded(secret: str) -> list[str]:
    """Return what base64 makes of a key, alone or behind anything (``Bearer``, a user): the part that is the key's."""
    parts = []
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        parts.append(whole[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6])
    return [part for part in parts if len(part) >= 8]


@lru_cache(maxsize=256)
def _signs(secret: str) -> tuple[str, ...]:
    """Return texts in small letters of which one stands wherever the key stands: quicker to look for than a pattern."""
    if len(secret) < LEAST:
        return ("",)
    run = max(re.findall(r"[^\W_]+", secret) or [""], key=len)
    coded = [max(re.split("[+/]", part), key=len) for part in _encoded(secret)]
    return tuple(one.lower() for one in (run, *coded, secret.encode().hex(), *_parts(secret)))


def _parts(secret: str) -> list[str]:
    """Return parts of a key of which one stands in every piece of it that is longer by half."""
    return [secret[i : i + PART] for i in range(0, len(secret) - PART, PART // 2)]


def _may_stand(secret: str, lowered: str) -> bool:
    return any(sign in lowered for sign in _signs(secret))


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text without these keys, in whatever spelling they stand in it.

    >>> without(["a/bc123"], r"the key a\\/bc123, YS9iYzEyMw")
    'the key …, …'
    """
    for secret in secrets:
        if not _may_stand(secret, text.lower()):
            continue
        pattern = _spellings(secret)
        text = pattern.sub(r"\g<said>…" if "said" in pattern.groupindex else "…", text)
        for part in _parts(secret):
            while (start := text.lower().find(part.lower())) >= 0:
                text = _without_piece(secret, text, start, secret.find(part))
    return text


def _without_piece(secret: str, text: str, start: int, place: int) -> str:
    """Return a text without the piece of a key that stands at `start`, where `place` of the key is."""
    end = start
    while start and place and text[start - 1].lower() == secret[place - 1].lower():
        start, place = start - 1, place - 1
    place += end - start
    while end < len(text) and place < len(secret) and text[end].lower() == secret[place].lower():
        end, place = end + 1, place + 1
    return f"{text[:start]}…{text[end:]}"


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text for people without any known key, what looks like one, and passwords and keys in addresses.

    >>> masked("Incorrect API key provided: sk-proj-0123456789", ["topsecret"])
    'Incorrect API key provided: sk-…'
    >>> masked("http://me:word@host/v1?api-version=1&sig=abc")
    'http://…@host/v1?api-version=1&sig=…'
    """
    text = without([*secrets, *known_secrets()], text)
    text = KEY_LIKE.sub(r"\1\2…", text)
    text = re.sub(r"(?<=//)[^/\s@]{1,500}@", "…@", text)
    return re.sub(
        r"([?&#;][\w.-]{0,40}(?:key|token|secret|sig|signature|password|auth|code)=)[^&\s#'\"]+",
        r"\1…",
        text,
        flags=re.I,
    )


def scrubbed(reply: Reply, secrets: Sequence[str], sent: Callable[[], str]) -> Reply:
    """Return a reply without any known key, as it may be kept; the reply itself where it holds none.

    Parameters
    ----------
    secrets
        See `known_secrets`.
    sent
        Returns what the model was sent: what stands in there is no secret of ours, and stays.
    """
    if not secrets:
        return reply
    parts: dict[str, Any] = {
        name: value
        for name in ("text", "reasoning", "error", "finish_reason", "model", "fingerprint")
        if isinstance(value := getattr(reply, name), str) and value
    }
    problems = {column: made.problem for column, made in (reply.decisions or {}).items() if made.problem}
    standing = _standing_in(secrets, [*parts.values(), *problems.values()])
    if not standing:
        return reply
    prompt = sent()
    secret = [s for s in standing if len(s) < LEAST or s not in prompt]
    changed: dict[str, Any] = {
        name: clean for name, value in parts.items() if (clean := without(secret, value)) != value
    }
    if reply.decisions is not None and problems:
        cleaned = {column: without(secret, words) for column, words in problems.items()}
        if cleaned != problems:
            made = reply.decisions
            changed["decisions"] = {**made, **{c: replace(made[c], problem=w) for c, w in cleaned.items()}}
    return replace(reply, **changed) if changed else reply


def _standing_in(secrets: Sequence[str], texts: Iterable[str]) -> list[str]:
    every = "\n".join(texts)
    lowered = every.lower()
    return [one for one in secrets if _may_stand(one, lowered) and without([one], every) != every]
