"""Where model servers are: addresses as people write them, this machine, and the way through a proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit, urlunsplit

from nbannot.errors import ModelError
from nbannot.models.keys import LEAST, key_name, known_secrets, masked
from nbannot.tools.secrets import key_place, without_keys

ENDS = ("/chat/completions", "/completions", "/models", "/responses", "/systemone", "/decisions")
"""Ends of the addresses to which questions go; people copy them along with the server's address."""


def checked_address(address: str, source: str) -> str:
    """Return the address of a server without the slash at its end; a query that holds no key stays.

    Parameters
    ----------
    source
        Where it comes from, for the error.

    Raises
    ------
    ModelError
        If it is no http(s) address, or holds a password or a key: addresses are written into ``config.json``.
    """
    try:
        parts = urlsplit(address.strip())
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        named = False
    if not named:
        raise ModelError(
            f"{source} must be an address such as http://localhost:8000/v1. Got '{masked(address)}'.\n"
            "  Write it with http:// or https:// in front."
        )
    if parts.username is not None or parts.password is not None:
        raise ModelError(
            f"{source} holds a password; addresses are written into config.json.\n"
            "  Take out what stands before the @, and put the key into NBANNOT_API_KEY."
        )
    if parts.fragment:
        raise ModelError(
            f"{source} has a part behind a #, which no server is sent; addresses are written into config.json.\n"
            f"  Take it out; a key belongs in {key_name(parts.hostname or '')}."
        )
    if place := key_place(parts, [key for key in known_secrets() if len(key) >= 2 * LEAST]):
        raise ModelError(
            f"{source} holds a key in its {place}; addresses are written into config.json.\n"
            f"  Take it out, and put the key into {key_name(parts.hostname or '')}."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), parts.query, ""))


def joined(address: str, path: str) -> str:
    """Return an address with a path added in front of its query.

    >>> joined("https://host/v1", "/models"), joined("https://host/x?api-version=1", "/files?limit=2")
    ('https://host/v1/models', 'https://host/x/files?api-version=1&limit=2')
    """
    base, _, query = address.partition("?")
    path, _, further = path.partition("?")
    queries = "&".join(filter(None, (query, further)))
    return f"{base}{path}{'?' if queries else ''}{queries}"


def served_from(address: str) -> str:
    """Return what identifies the place of a server: host and path, without scheme, port, user, ``/v1`` and `ENDS`.

    >>> served_from("http://localhost:8000/v1/"), served_from("http://127.0.0.1:9")
    ('this machine', 'this machine')
    >>> served_from("http://localhost:8000/v1/chat/completions")
    'this machine'
    >>> served_from("https://user@gate.example.org:444/eu/v1?api-version=2")
    'gate.example.org/eu?api-version=2'
    """
    address = address.strip()
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host = parts.hostname or ""
    except ValueError:
        return address
    here = host == "0.0.0.0" or is_loopback(address if "//" in address else f"http://{address}")
    path = without_end(parts.path.rstrip("/"), *ENDS).removesuffix("/v1")
    return ("this machine" if here else host) + path + (f"?{parts.query}" if parts.query else "")


def door_of(address: str) -> str:
    """Return what identifies one server: as `served_from`, with its port.

    >>> door_of("http://localhost:8000/v1/"), door_of("http://127.0.0.1:8001")
    ('this machine:8000', 'this machine:8001')
    """
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host, mark, path = served_from(address).partition("/")
    return f"{host}:{port}{mark}{path}"


def without_end(address: str, *ends: str) -> str:
    """Return an address without the first of these ends that its path has; its query stays.

    >>> without_end("http://host/v1/chat/completions?v=1", "/chat/completions", "/models")
    'http://host/v1?v=1'
    """
    base, mark, query = address.partition("?")
    end = next((end for end in ends if base.endswith(end)), "")
    return f"{base.removesuffix(end)}{mark}{query}"


def is_loopback(address: str) -> bool:
    """Return whether an address leads to this machine.

    A tunnel or a container that listens on the loopback address counts as this machine: it cannot be told apart.
    """
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def not_reached(address: str, words: str | None) -> str:
    """Return the letter for a model server that cannot be reached, with what went wrong and what to do."""
    hint = "Start the server" if is_loopback(address) else "Check the address and the network"
    if "is not trusted" in (words or ""):
        hint = "Name the file with your institution's certificates in SSL_CERT_FILE"
    return f"the model server at {address} cannot be reached: {words}.\n  {hint}, or set another base_url."


def proxy_for(address: str) -> str | None:
    """Return the proxy that the environment names for an address, or ``None``; ``NO_PROXY`` is respected.

    Raises
    ------
    ModelError
        If it is no address, or of a kind that cannot be used.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    if is_loopback(address) or urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        named = bool(urlsplit(proxy).hostname) and (urlsplit(proxy).port or 1) > 0
    except ValueError:
        named = False
    if not named:
        raise ModelError(
            f"the proxy for {host} is not an address: '{without_keys(proxy)}'.\n"
            f"  Write HTTPS_PROXY or ALL_PROXY as http://host:port, or add {host} to NO_PROXY."
        )
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise ModelError(
            f"the proxy for {host} is of the kind '{urlsplit(proxy).scheme}', which is not supported.\n"
            f"  Name an http proxy in HTTPS_PROXY, or add {host} to NO_PROXY."
        )
    return proxy
