"""What the batches of all providers share: the model knows what a request looks like, and learns from refusals."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from nbannot.asking.request_reply import Request
from nbannot.models.addresses import served_from
from nbannot.models.batch_offers import offer_of
from nbannot.models.batch_service import TRANSFER_S
from nbannot.models.exchange import Exchange
from nbannot.models.http import Pool


class Batched(Protocol):
    """What the batches need of the model that also asks by itself."""

    name: str
    address: str
    dialect: Any

    def new_pool(self, timeout_s: float) -> Pool: ...
    def body(self, request: Request) -> bytes: ...


class ProviderBatches:
    """The batches of a model behind a provider's address."""

    def __init__(self, model: Batched) -> None:
        self.model = model
        self.pool = model.new_pool(TRANSFER_S)
        self.where = served_from(model.address)
        offer = offer_of(model.address)
        self.requests, self.size = offer.requests, offer.size

    def learn(self, request: Request, exchange: Exchange) -> bool:
        """Leave out what the provider refuses of a request."""
        learned: bool = self.model.dialect.learn(request, exchange)
        return learned

    def how(self, marks: Collection[str]) -> str:
        """Return nothing: the provider does it."""
        return ""

    def lessons(self) -> dict[str, Any]:
        """Return what refusals have taught, as plain data."""
        lessons: dict[str, Any] = self.model.dialect.lessons()
        return lessons

    def recall(self, lessons: Mapping[str, Any]) -> None:
        """Take up what an earlier session was taught."""
        self.model.dialect.recall(lessons)
