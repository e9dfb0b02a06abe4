"""A language model that answers every closed question about a text after one shared beginning, each with probabilities.

The codebook's questions and the text are the same for all of them; what differs is the last line, which names the
question. They are asked one after the other, so that a model that keeps what it has read (the local one, and servers
with a prompt cache) reads the text once. No question sees the answer to another one.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbannot.asking.answers import are_probabilities
from nbannot.asking.request_reply import AnswerMode, Decision, Ending, Model, ModelInfo, Reply, Request
from nbannot.models.endings import is_refused
from nbannot.models.logprobs import alike

REFUSALS = ("refusal", "content_filter")
MOST_BEGUN = 1024
"""Texts of which some questions are answered and others are to be sent again."""


@dataclass
class Begun:
    """What the questions about one text brought so far."""

    made: dict[str, Decision] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)


class Together:
    """A language model whose scored answers come several at a time.

    Requests without `Request.endings` go to the model as they are.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parallel = model.parallel
        self.answer_modes: tuple[AnswerMode, ...] = model.answer_modes
        self._begun: OrderedDict[str, Begun] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["model"], name)

    def info(self) -> ModelInfo:
        """Return what the model says of itself."""
        return self.model.info()

    async def open(self) -> None:
        """Get the model ready."""
        await self.model.open()

    async def close(self) -> None:
        """Give back what the model holds."""
        self._begun.clear()
        await self.model.close()

    async def ask(self, request: Request) -> Reply:
        """Ask every question of a request and return the decisions on all of them.

        A question that fails for good is a decision that says why; the others count. Where one fails and may be sent
        again, the whole request is to be sent again, and those that were answered are not asked a second time.
        """
        if not request.endings:
            return await self.model.ask(request)
        begun = self._begun.pop(request.key, None) or Begun()
        for ending in request.endings:
            if ending.column in begun.made:
                continue
            reply = await self.model.ask(alone(request, ending))
            if reply.error is not None and (
                reply.retriable or reply.finish_reason in ("context", "cancelled")
            ):
                if begun.made and reply.retriable:
                    self._begun[request.key] = begun
                    while len(self._begun) > MOST_BEGUN:
                        self._begun.popitem(last=False)
                return reply
            begun.replies.append(reply)
            begun.made[ending.column] = decision_of(reply, ending)
        if all(reply.error is not None for reply in begun.replies):
            return begun.replies[0]
        return _joined(begun)


def alone(request: Request, ending: Ending) -> Request:
    """Return the request that asks one of the questions; what all endings begin with counts to the text."""
    last = request.messages[-1]
    common = alike([one.text for one in request.endings]) if len(request.endings) > 1 else 0
    return replace(
        request,
        key=f"{request.key}|{ending.column}",
        messages=(*request.messages[:-1], {**last, "content": last["content"] + ending.text}),
        schema=ending.schema,
        options=ending.options,
        endings=(),
        shared_by_text=len(last["content"]) + common,
    )


def decision_of(reply: Reply, ending: Ending) -> Decision:
    """Return what the reply to one question amounts to."""
    if reply.error is not None:
        return Decision(problem=reply.error)
    if (reply.finish_reason or "").partition(":")[0] in REFUSALS:
        return Decision(refused=True)
    shares = reply.probabilities
    if shares is None or len(shares) != len(ending.options):
        return Decision(problem="the reply has no probability per option")
    if not are_probabilities(shares):
        return Decision(problem="label probabilities that are none")
    return Decision(tuple(shares))


def _joined(begun: Begun) -> Reply:
    replies = begun.replies
    told: Mapping[str, Any] = {
        column: made.probabilities or made.problem or "refused" for column, made in begun.made.items()
    }
    return Reply(
        text=json.dumps(told, ensure_ascii=False),
        finish_reason="stop",
        input_tokens=_sum(replies, "input_tokens"),
        output_tokens=_sum(replies, "output_tokens"),
        evaluated_tokens=_sum(replies, "evaluated_tokens"),
        cached_tokens=_sum(replies, "cached_tokens"),
        cache_write_tokens=_sum(replies, "cache_write_tokens"),
        charged=_sum(replies, "charged"),
        seconds=sum(reply.seconds for reply in replies),
        model=replies[-1].model,
        fingerprint=replies[-1].fingerprint,
        unanswered=sum(reply.unanswered for reply in replies),
        decisions=begun.made,
    )


def _sum(replies: Iterable[Reply], name: str) -> Any:
    """Return the sum of what replies tell; ``None`` where an answer does not tell it."""
    told = [(getattr(reply, name), reply.error is None and not is_refused(reply)) for reply in replies]
    if any(count is None and answered for count, answered in told):
        return None
    known = [count for count, _ in told if count is not None]
    return sum(known) if known else None
