"""List prices of hosted models, from the dated table of the package ``genai-prices``; none is guessed.

A price is known only where the address is a provider's own: a model of the same name on somebody's server costs
something else, and deployments at Azure bear names of their users. ``pip install -U genai-prices`` brings newer prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from nbannot.asking.request_reply import ModelInfo
from nbannot.study.config import RunConfig

PACKAGE = "genai-prices"
NAMED_BY_USERS = ("azure", "databricks")
"""Providers at which a model's name is what the user called it, so that no list price belongs to it."""

BATCH = {"processing": "batch"}
"""How the table calls the price of requests that are delivered as a batch."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost.

    Attributes
    ----------
    input, output
        Per million tokens sent and written.
    cached_input
        Per million tokens that the provider read from its cache; ``None`` where it has no price of its own.
    cache_write
        Per million tokens that the provider wrote to its cache, likewise.
    input_at_most
        The highest price of a million tokens sent, those kept in a cache for long included; ``None``: `input`.
    currency
        "" for prices that the user gave, whose unit is not known here.
    source
        Where they come from, in words.
    """

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None
    cache_write: float | None = None
    input_at_most: float | None = None
    currency: str = ""
    source: str = "the setting prices"

    def of(self, sent: float, written: float, cached: float = 0.0, kept: float = 0.0) -> float:
        """Return what so many tokens cost; of those `sent`, so many were read from a cache or put into it.

        >>> Prices(input=2.0, output=8.0, cached_input=0.5).of(1_000_000, 500_000, cached=400_000)
        5.4
        """
        again = self.input if self.cached_input is None else self.cached_input
        first = self.input if self.cache_write is None else self.cache_write
        return (
            (sent - cached - kept) * self.input + cached * again + kept * first + written * self.output
        ) / 1e6

    def at_most(self, sent: float, written: float) -> float:
        """Return what so many tokens cost at most, whatever the provider's cache does."""
        return (sent * (self.input_at_most or self.input) + written * self.output) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return asdict(self)


def prices_of(config: RunConfig, info: ModelInfo) -> Prices | None:
    """Return what a model's tokens cost: as the settings say, else the provider's list price; ``None``: unknown."""
    if config.prices:
        return Prices(config.prices.get("input", 0.0), config.prices.get("output", 0.0))
    if info.is_local or ", " in (info.endpoint or ""):  # several servers: nobody's own address
        return None
    return list_prices(info.name, info.endpoint or "")


def stored_prices(config: Mapping[str, Any]) -> Prices | None:
    """Return the prices that a run's ``config.json`` holds; ``None`` where it has none."""
    if kept := config.get("prices_used"):
        return Prices(**kept)
    given = config.get("prices")
    return Prices(**given) if given else None


def list_prices(name: str, address: str, *, batch: bool = False) -> Prices | None:
    """Return today's list price of a provider's model, ``None`` where the table has no such address or model.

    Parameters
    ----------
    name
        The model's name at the provider.
    address
        The server's address.
    batch
        Whether requests are delivered as a batch; ``None`` is returned where no batch price is published.

    Notes
    -----
    Some models cost more per token when a single request is very long. The price here is that of shorter ones, and
    `Prices.source` says from which length on another one holds.
    """
    if not name or not address:
        return None
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    at = next((p for p in snapshot.providers if _is_at(p.api_pattern, address)), None)
    if at is None or at.id in NAMED_BY_USERS:
        return None
    try:
        _, model = snapshot.find_provider_model(name, at, None, None)
    except LookupError:
        return None
    variants = model.price_variants or ()
    if batch and not any(variant.when == BATCH for variant in variants):
        return None
    price = model.get_prices(datetime.now(UTC), BATCH if batch else None)
    sent, long_from = _per_million(price.input_mtok)
    written, _ = _per_million(price.output_mtok)
    cached, _ = _per_million(price.cache_read_mtok)
    kept, _ = _per_million(price.cache_write_mtok)
    for_long, _ = _per_million(price.cache_write_1h_mtok)
    if sent is None or written is None:
        return None
    where = f"list price of {at.name}{' for batches' if batch else ''}, table of {PACKAGE} {version(PACKAGE)}"
    if long_from:
        where += f"; more for a request of {long_from:,} tokens and more"
    return Prices(sent, written, cached, kept, max(sent, kept or 0.0, for_long or 0.0), "US$", where)


def _is_at(pattern: str, address: str) -> bool:
    """Return whether an address is a provider's: the patterns leave open what may follow the host."""
    match = re.match(pattern, address)
    return match is not None and (match[0].endswith("/") or address[match.end() :][:1] in ("", "/", ":", "?"))


def _per_million(price: Any) -> tuple[float | None, int]:
    """Return a price, and from how many tokens in one request on it is another one (0: never)."""
    if price is None:
        return None, 0
    tiers = getattr(price, "tiers", ())
    return float(getattr(price, "base", price)), min((tier.start for tier in tiers), default=0)
