"""What providers say of their batches: the share of the usual price, and how large one may be. Data with its source.

Read in November 2026. Where a provider's own pages of different dates differ, the price stays unknown (Groq: 25 or
50 % off); limits are rather too small than too large, as a wave is cut into as many batches as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Offer:
    """What one provider says of its batches.

    Attributes
    ----------
    hosts
        Domains whose addresses are this provider's.
    price
        Share of the price of a request that is answered at once; ``None`` where it is not known.
    requests, size
        Most requests and bytes of one batch.
    source
        Where that is said.
    """

    name: str
    hosts: tuple[str, ...]
    price: float | None
    requests: int
    size: int
    source: str = ""


OFFERS = (
    Offer("OpenAI", ("api.openai.com",), 0.5, 50_000, 200_000_000,
          "https://developers.openai.com/api/docs/guides/batch"),
    Offer("Anthropic", ("api.anthropic.com",), 0.5, 100_000, 256_000_000,
          "https://platform.claude.com/docs/en/build-with-claude/batch-processing"),
    Offer("Azure", ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"), 0.5, 50_000,
          200_000_000, "https://learn.microsoft.com/azure/foundry/openai/how-to/batch"),
    Offer("Mistral", ("api.mistral.ai",), 0.5, 100_000, 200_000_000,
          "https://docs.mistral.ai/studio-api/batch-processing"),
    Offer("Groq", ("api.groq.com",), None, 50_000, 200_000_000, "https://console.groq.com/docs/batch"),
)  # fmt: skip
READ = "November 2026"
UNKNOWN = Offer("this server", (), None, 50_000, 100_000_000)
"""For an address that is none of theirs: limits that all of them take, and no word of the price."""


def offer_of(address: str | None) -> Offer:
    """Return the offer of the provider at an address.

    >>> offer_of("https://api.openai.com/v1").price, offer_of("http://gpu1:8000/v1").price
    (0.5, None)
    """
    host = (urlsplit(address).hostname or "") if address else ""
    for offer in OFFERS:
        if any(host == domain or host.endswith(f".{domain}") for domain in offer.hosts):
            return offer
    return UNKNOWN
