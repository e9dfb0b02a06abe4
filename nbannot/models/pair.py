"""Two models in one run: a decision model for closed questions, and a language model for texts and passages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from nbannot.asking.request_reply import AnswerMode, Model, ModelInfo, Reply, Request


class Pair:
    """A decision model, and the model that answers what it cannot.

    A request with typed questions goes to the first, any other to the second. The pair bears the name of the first;
    the second stands in ``info().details["text_model"]``, and in `Reply.model` of what it answered.

    Parameters
    ----------
    decider, writer
        The decision model and the language model.
    """

    decides = True
    answer_modes: tuple[AnswerMode, ...] = ("score", "generate")

    def __init__(self, decider: Model, writer: Model) -> None:
        self.decider, self.writer = decider, writer
        self.parallel = max(decider.parallel, writer.parallel)
        self._info: ModelInfo | None = None
        self._name = ""
        if hasattr(writer, "reply_tokens"):
            self.reply_tokens = writer.reply_tokens

    def info(self) -> ModelInfo:
        """Return what the decision model says of itself, and what the other does among its details."""
        if self._info is None:
            first, second = self.decider.info(), self.writer.info()
            self._name = second.full_name
            self._info = replace(
                first,
                is_local=first.is_local and second.is_local,
                energy_measured=first.energy_measured and second.energy_measured,
                notes=(*first.notes, *second.notes, f"Textbox and span fields are answered by {self._name}."),
                details={**first.details, "text_model": {**asdict(second), "full_name": self._name}},
            )
        return self._info

    @property
    def capabilities(self) -> dict[str, Any]:
        """What both were found to take."""
        capabilities = dict(getattr(self.decider, "capabilities", {}))
        return {**capabilities, "text_model": getattr(self.writer, "capabilities", {})}

    async def open(self) -> None:
        """Get both ready."""
        await self.decider.open()
        await self.writer.open()

    async def close(self) -> None:
        """Give back the connections of both."""
        try:
            await self.decider.close()
        finally:
            await self.writer.close()

    async def ask(self, request: Request) -> Reply:
        """Send a request to the model that it is for."""
        if request.questions:
            return await self.decider.ask(request)
        reply = await self.writer.ask(request)
        return replace(reply, model=reply.model or self._name or self.info().full_name)
