"""What the batches of all providers share: the model knows what a request looks like, and learns from refusals."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nbannot.asking.request_reply import Request
from nbannot.models.addresses import served_from
from nbannot.models.batch_offers import offer_of
from nbannot.models.batch_service import TRANSFER_S
from nbannot.models.exchange import Exchange
from nbannot.models.http import Pool


class ProviderBatches:
    """The batches of a model behind a provider's address."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.pool: Pool = model.new_pool(TRANSFER_S)
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
