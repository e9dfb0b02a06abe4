"""List prices of hosted models, from the dated table of the package ``genai-prices``; none is guessed.

A price is known only where the address is a provider's own: a model of the same name on somebody's server costs
something else, and deployments at Azure bear names of their users. ``pip install -U genai-prices`` brings newer prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from nbannot.asking.request_reply import ModelInfo
from nbannot.models.batch_offers import offer_of
from nbannot.study.config import RunConfig

PACKAGE = "genai-prices"
NAMED_BY_USERS = ("azure", "databricks")
"""Providers at which a model's name is what the user called it, so that no list price belongs to it."""

BATCH = {"processing": "batch"}
"""How the table calls the price of requests that are delivered as a batch."""

CACHE = (0.1, 1.25, 2.0)
"""Of Anthropic's input price: what is read from the cache, kept in it for five minutes, for an hour (as in a batch).
https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read in November 2026. Models since Fable 5.1 read
for less (.025 to .05): where the list has the model, its proportion counts."""

OTHER_MODELS = frozenset({
    "lite", "mini", "nano", "micro", "small", "medium", "large", "pro", "max", "plus", "ultra", "turbo", "fast",
    "flash", "flashx", "air", "thinking", "reasoning", "instruct", "audio", "image", "tts", "live", "realtime",
    "search", "codex", "vision", "deep", "research", "priority", "ft",
})  # fmt: skip
"""Words that make another model of a name: the table knows many by how their names begin, so that it would give a
later, smaller or larger sister the price of the one it knows."""

OUTDATED = {"mistral": ("mistral-large-latest",)}
"""Provider -> names for which the table has the price of an older model than the one that answers to them, seen on 29
November 2026: mistral-large-latest is not Mistral Large 2 (2 and 6 US$) since December 2025."""


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
        The highest price of a million tokens sent, those kept in a cache for long and the dearest hour of the day
        included; ``None``: `input`.
    output_at_most
        The highest price of a million tokens written, likewise; ``None``: `output`.
    long_from, long_input, long_output
        Tokens from which on a request counts as long, and the highest price of a million tokens that such a request
        sends and gets back; 0 where length is no matter.
    batch
        What they cost in a batch; ``None`` where that is not known, or no matter.
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
    output_at_most: float | None = None
    long_from: int = 0
    long_input: float = 0.0
    long_output: float = 0.0
    batch: Prices | None = None
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

    def at_most(self, sent: float, written: float, longest: float = 0.0) -> float:
        """Return what so many tokens cost at most, whatever the provider's cache does.

        Parameters
        ----------
        longest
            Tokens of the longest request among them, at most.
        """
        dearest_in, dearest_out = self.input_at_most or self.input, self.output_at_most or self.output
        if self.long_from and longest >= self.long_from:
            dearest_in, dearest_out = max(dearest_in, self.long_input), max(dearest_out, self.long_output)
        return (sent * dearest_in + written * dearest_out) / 1e6

    def of_run(self, counts: Mapping[str, Any], *, at_least: bool = False) -> float | None:
        """Return what a run cost, from its ``char_counts.json``; ``None`` where tokens that cost something are unknown.

        Where some answers came without their tokens, `at_least` returns what the others cost. What came in a batch,
        what was read from a cache and what was put into it each have a price of their own.
        """
        sent, written = counts.get("input_tokens"), counts.get("output_tokens")
        if counts.get("untold_answers") and not at_least:
            return None
        if (sent is None and self.input) or (written is None and self.output):
            return None
        every = [
            sent or 0,
            written or 0,
            *(counts.get(name) or 0 for name in ("cached_tokens", "cache_write_tokens")),
        ]
        batched = [counts.get(f"batch_{name}") or 0 for name in ("input_tokens", "output_tokens")]
        for name, tokens in zip(("cached_tokens", "cache_write_tokens"), every[2:], strict=True):
            # Runs of earlier versions did not part them: a batch was all of a run, or nearly.
            batched.append(counts.get(f"batch_{name}", min(tokens, batched[0])))
        rest = [n - m for n, m in zip(every, batched, strict=True)]
        return self.of(*rest) + (self.batch or self).of(*batched)

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Prices:
        """Return prices that `to_dict` made plain."""
        batch = kept.get("batch")
        return cls(**{**kept, "batch": cls.from_dict(batch) if batch else None})


def prices_of(config: RunConfig, info: ModelInfo) -> Prices | None:
    """Return what a model's tokens cost: as the settings say, else the provider's list price; ``None``: unknown."""
    address = info.endpoint or ""
    known = None if info.is_local or ", " in address else list_prices(info.name, address)
    if config.prices:
        read = known.cached_input / known.input if known and known.cached_input and known.input else CACHE[0]
        cache = (read, *CACHE[1:]) if info.backend == "anthropic" else None
        own = _given(config.prices, cache, offer_of(address).price)
        return _as_dear_as(known, own) if known else own
    return _with_batch(known, info.name, address)  # several servers: nobody's own address


def _as_dear_as(known: Prices, own: Prices) -> Prices:
    """Return the user's prices, dearer in the proportion of the list's where those of some requests or tokens are.

    A user's price is one number. The list's may be higher for very long requests and for what is put into a cache,
    which some providers do unasked; without them amounts and bounds would be too low.
    """

    def times(dearer: float | None, price: float) -> float:
        return max(1.0, (dearer or 0.0) / price) if price else 1.0

    kept, dearest_in = times(known.cache_write, known.input), times(known.input_at_most, known.input)
    dearest_out = times(known.output_at_most, known.output)

    def as_dear(prices: Prices) -> Prices:
        if prices.cache_write is None:
            prices = replace(
                prices,
                cache_write=kept * prices.input if kept > 1 else None,
                input_at_most=max(prices.input_at_most or 0.0, dearest_in * prices.input),
                output_at_most=max(prices.output_at_most or 0.0, dearest_out * prices.output),
            )
        if not known.long_from:
            return prices
        return replace(
            prices,
            long_from=known.long_from,
            long_input=times(known.long_input, known.input) * (prices.input_at_most or prices.input),
            long_output=times(known.long_output, known.output) * (prices.output_at_most or prices.output),
        )

    dear = replace(as_dear(own), batch=as_dear(own.batch) if own.batch else None)
    if not known.long_from:
        return dear
    return replace(
        dear,
        source=f"{own.source}; for a request of {known.long_from:,} tokens and more, the bound reckons with as "
        "many times as much as the list price has",
    )


def _given(prices: Mapping[str, float], cache: tuple[float, ...] | None, share: float | None) -> Prices:
    """Return the user's prices; Anthropic's cache is reckoned as it documents, every other one as if there was none."""
    sent, written = prices.get("input", 0.0), prices.get("output", 0.0)
    read, kept, for_long = (sent * times for times in cache) if cache else (None, None, None)
    now = Prices(sent, written, read, kept, for_long)
    if share is None:
        return replace(now, batch=replace(now, cache_write=for_long)) if cache else now
    return replace(now, batch=_shared(now, share))


def _shared(prices: Prices, share: float) -> Prices:
    """Return this share of prices, for a batch; a cache there is known of Anthropic alone, and lasts for an hour."""
    known = prices.cache_write is not None and prices.input_at_most is not None
    dearest = share * (prices.input_at_most or prices.input)
    return replace(
        prices,
        input=share * prices.input,
        output=share * prices.output,
        cached_input=share * prices.cached_input if known and prices.cached_input is not None else None,
        cache_write=dearest if known else None,
        input_at_most=dearest,
        output_at_most=share * (prices.output_at_most or prices.output),
        long_input=share * prices.long_input,
        long_output=share * prices.long_output,
        batch=None,
    )


def _with_batch(now: Prices | None, name: str, address: str) -> Prices | None:
    """Return list prices with those of a batch: as the table has them, else as the provider's pages say."""
    if now is None:
        return None
    batch, share = list_prices(name, address, batch=True), offer_of(address).price
    if batch is not None:
        # What is put into a cache in a batch is kept for an hour; a price for that is the highest that there is.
        batch = replace(batch, cache_write=batch.cache_write and batch.input_at_most)
    elif share is not None:
        batch = _shared(now, share)
    else:  # not known: as much as any other, and nothing off for a cache
        batch = replace(now, cached_input=None)
    return replace(now, batch=batch)


def stored_prices(config: Mapping[str, Any]) -> Prices | None:
    """Return the prices that a run's ``config.json`` holds; ``None`` where it has none."""
    if kept := config.get("prices_used"):
        return Prices.from_dict(kept)
    given = config.get("prices")
    return Prices(**given) if given else None


def charged_in(config: Mapping[str, Any], counts: Mapping[str, Any]) -> float | None:
    """Return what the provider says it has charged for a run, in US$; ``None`` where it does not, or prices were given.

    Parameters
    ----------
    config, counts
        The run's ``config.json`` and ``char_counts.json``.
    """
    charged: float | None = counts.get("charged")
    return None if config.get("prices") else charged


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
    Some models cost more per token when a single request is very long. The price here is that of shorter ones;
    `Prices.source` and `Prices.long_from` say from which length on another one holds, and bounds reckon with it.
    """
    if not name or not address:
        return None
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    at = next((p for p in snapshot.providers if _is_at(p.api_pattern, address)), None)
    if at is None or at.id in NAMED_BY_USERS or name in OUTDATED.get(at.id, ()):
        return None
    try:
        _, model = snapshot.find_provider_model(name, at, None, None)
    except LookupError:
        return None
    if _words(name) & OTHER_MODELS - _words(model.id) - _words(*_literals(model.match)):
        return None
    variants = model.price_variants or ()
    if batch and not any(variant.when == BATCH for variant in variants):
        return None
    now, kind = datetime.now(UTC), BATCH if batch else None
    price = model.get_prices(now, kind)
    sent, long_from = _per_million(price.input_mtok)
    written, _ = _per_million(price.output_mtok)
    cached, _ = _per_million(price.cache_read_mtok)
    if batch and all(v.prices.cache_read_mtok is None for v in variants if v.when == BATCH):
        cached = None  # the table fills in the price outside batches, which nobody has published for them
    kept, _ = _per_million(price.cache_write_mtok)
    for_long, _ = _per_million(price.cache_write_1h_mtok)
    if sent is None or written is None:
        return None
    where = f"list price of {at.name}{' for batches' if batch else ''}, table of {PACKAGE} {version(PACKAGE)}"
    if long_from:
        where += f"; more for a request of {long_from:,} tokens and more"
    dearest = max(sent, cached or 0.0, kept or 0.0, for_long or 0.0), written
    if isinstance(model.prices, list):
        times = [now.replace(hour=n // 2, minute=n % 2 * 30 + 15) for n in range(48)]
        hours = [model.get_prices(time, kind) for time in times]
        most = [
            max(_per_million(getattr(hour, side))[0] or 0.0 for hour in hours)
            for side in ("input_mtok", "output_mtok")
        ]
        if most[0] > sent or most[1] > written:
            where += "; more at other hours of the day"
        dearest = max(dearest[0], most[0]), max(written, most[1])
    reads = (price.input_mtok, price.cache_read_mtok, price.cache_write_mtok, price.cache_write_1h_mtok)
    made = Prices(sent, written, cached, kept, *dearest, currency="US$", source=where)
    if not long_from:
        return made
    return replace(
        made,
        long_from=long_from,
        long_input=max(map(_dearest, reads)),
        long_output=_dearest(price.output_mtok),
    )


def _literals(clause: Any) -> list[str]:
    """Return every text that the table's rule for a model's names is made of."""
    parts = getattr(clause, "or_", None) or getattr(clause, "and_", None)
    if parts:
        return [text for part in parts for text in _literals(part)]
    return [text for text in vars(clause).values() if isinstance(text, str)]


def _words(*names: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", " ".join(names).lower()))


def _is_at(pattern: str, address: str) -> bool:
    """Return whether an address is a provider's: the patterns leave open what may follow the host."""
    match = re.match(pattern, address)
    return match is not None and (match[0].endswith("/") or address[match.end() :][:1] in ("", "/", ":", "?"))


def _dearest(price: Any) -> float:
    """Return the highest price of a million tokens, however long a request is; 0 where there is none."""
    tiers = [float(tier.price) for tier in getattr(price, "tiers", ())]
    return max([_per_million(price)[0] or 0.0, *tiers])


def _per_million(price: Any) -> tuple[float | None, int]:
    """Return a price, and from how many tokens in one request on it is another one (0: never)."""
    if price is None:
        return None, 0
    tiers = getattr(price, "tiers", ())
    return float(getattr(price, "base", price)), min((tier.start for tier in tiers), default=0)
