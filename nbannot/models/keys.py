"""Keys: where they come from, and how they are kept out of everything that is handed on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from nbannot.errors import ModelError

SECRET_VARIABLES = (
    "NBANNOT_API_KEY",
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OLLAMA_API_KEY",
)
KEY_LIKE = re.compile(r"\b(sk|pk|hf|gsk|xai|nvapi|r8|key)([-_])[A-Za-z0-9_*-]{8,}")


class Secret:
    """A key that does not show itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key, for the header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


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


def _known_secrets() -> list[str]:
    """Return the keys in the environment, longest first."""
    names = [name for name in os.environ if name in SECRET_VARIABLES or name.startswith("NBANNOT_API_KEY_")]
    found = {os.environ[name].strip() for name in names}
    return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text for people without any known key, what looks like one, and passwords in addresses.

    >>> masked("Incorrect API key provided: sk-proj-0123456789", ["topsecret"])
    'Incorrect API key provided: sk-…'
    """
    for secret in [*secrets, *_known_secrets()]:
        text = text.replace(secret, "…")
    text = KEY_LIKE.sub(r"\1\2…", text)
    return re.sub(r"(?<=//)[^/\s@]+@", "…@", text)


def without(secret: bytes, raw: bytes) -> bytes:
    """Return a reply without the key it was asked with.

    A short key may be a word of the reply (servers without keys are given ``EMPTY`` or ``not-needed``): it stays.
    """
    if len(secret) < 16 or not any(chr(c).isdigit() for c in secret):
        return raw
    return raw.replace(secret, "…".encode()).replace(secret.replace(b"/", b"\\/"), "…".encode())
