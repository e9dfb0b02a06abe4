"""Where model servers are: addresses as people write them, this machine, and the way through a proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit, urlunsplit

from nbannot.errors import ModelError
from nbannot.models.keys import masked


def checked_address(address: str, source: str) -> str:
    """Return the address of a server without the slash at its end.

    Parameters
    ----------
    source
        Where it comes from, for the error.

    Raises
    ------
    ModelError
        If it is no http(s) address, or holds a password.
    """
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(
            f"{source} must be an address such as http://localhost:8000/v1. Got '{masked(address)}'.\n"
            "  Write it with http:// or https:// in front."
        )
    if parts.username is not None or parts.password is not None:
        raise ModelError(
            f"{source} holds a password; addresses are written into config.json.\n"
            "  Take out what stands before the @, and put the key into NBANNOT_API_KEY."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


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


def proxy_for(address: str) -> str | None:
    """Return the proxy that the environment names for an address, or ``None``; ``NO_PROXY`` is respected.

    Raises
    ------
    ModelError
        If it is of a kind that cannot be used.
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
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise ModelError(
            f"the proxy for {host} is of the kind '{urlsplit(proxy).scheme}', which is not supported.\n"
            f"  Name an http proxy in HTTPS_PROXY, or add {host} to NO_PROXY."
        )
    return proxy
