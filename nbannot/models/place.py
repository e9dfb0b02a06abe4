"""Where texts may go, and whose servers they are: what is refused before anything leaves this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from nbannot.errors import ModelError, listed
from nbannot.models.addresses import is_loopback
from nbannot.study.config import RunConfig

LOCAL_ONLY_VARIABLE = "NBANNOT_LOCAL_ONLY"
HOSTS_VARIABLE = "NBANNOT_ALLOWED_HOSTS"

OPERATORS = {
    "api.anthropic.com": "Anthropic, United States",
    "api.openai.com": "OpenAI, United States",
    "*.openai.azure.com": "Microsoft, United States",
    "*.services.ai.azure.com": "Microsoft, United States",
    "*.googleapis.com": "Google, United States",
    "api.mistral.ai": "Mistral AI, France",
    "api.deepseek.com": "DeepSeek, China",
    "api.groq.com": "Groq, United States",
    "openrouter.ai": "OpenRouter, United States, which passes texts on to other companies",
    "router.huggingface.co": "Hugging Face, United States, which passes texts on to other companies",
    "api.together.xyz": "Together AI, United States",
    "api.fireworks.ai": "Fireworks AI, United States",
    "api.cohere.com": "Cohere, Canada",
    "api.x.ai": "xAI, United States",
    "dashscope*.aliyuncs.com": "Alibaba Cloud, China",
    "api.moonshot.cn": "Moonshot AI, China",
    "api.upstage.ai": "Upstage, South Korea",
    "api.cerebras.ai": "Cerebras, United States",
    "api.scaleway.ai": "Scaleway, France",
    "chat-ai.academiccloud.de": "GWDG, Germany",
}
"""Host -> who runs it, and the country in which that company sits; where texts are processed may be another one."""


def host_of(address: str) -> str:
    """Return the host of an address, also of one without ``http://``; "" where there is none."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def operator_of(address: str) -> str:
    """Return who runs a well-known host and where that company sits; "" for any other host.

    >>> operator_of("https://api.mistral.ai/v1"), operator_of("http://gpu1:8000/v1")
    ('Mistral AI, France', '')
    """
    host = host_of(address)
    return next((who for pattern, who in OPERATORS.items() if fnmatchcase(host, pattern)), "")


def is_local_only() -> bool:
    """Return whether the environment says, for every run, that texts stay on this machine and at its allowed hosts."""
    return os.environ.get(LOCAL_ONLY_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def allowed_by_environment() -> list[str]:
    """Return the hosts that the environment allows beside this machine."""
    return os.environ.get(HOSTS_VARIABLE, "").replace(",", " ").split()


def check_place(config: RunConfig, name: str, addresses: Iterable[str | None]) -> None:
    """Refuse a model whose server texts may not go to.

    The switch of a department (``NBANNOT_LOCAL_ONLY=1`` in the environment) cannot be undone by a setting: the hosts it
    allows are those of ``NBANNOT_ALLOWED_HOSTS`` alone.

    Parameters
    ----------
    name
        The model, for the error.
    addresses
        Where its servers are; ``None`` for one that does not say where it is.

    Raises
    ------
    ModelError
        If one of them is neither this machine nor allowed.
    """
    by_environment = is_local_only()
    if not by_environment and not config.local_only:
        return
    allowed = [*allowed_by_environment(), *(() if by_environment else config.allowed_hosts or ())]
    for address in addresses:
        host = host_of(address or "").lower()
        if address and is_loopback(address if "//" in address else f"//{address}"):
            continue
        if any(fnmatchcase(host, pattern.lower()) for pattern in allowed if host):
            continue
        why = f"{LOCAL_ONLY_VARIABLE} is set on this machine" if by_environment else "local_only = true"
        ask = f"ask whoever set it, or whoever may add the host to {HOSTS_VARIABLE}" if by_environment else (
            f'allow the host: allowed_hosts = ["{host}"]' if host else "leave local_only out"
        )  # fmt: skip
        raise ModelError(
            f"'{name}' would send texts to {host or 'a place it does not name'}, and {why}: nothing was sent.\n"
            f'  Take a model on this machine, e.g. model = "local", or {ask}.'
            + (f"\n  Allowed beside this machine: {listed(allowed)}." if allowed else "")
        )
