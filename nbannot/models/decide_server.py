"""Decision models of servers: which shape they speak is found by asking them, which limits they have by their refusals.

To find the shape, one small question about a made-up sentence is sent (about 30 tokens), never a text of the study.

A key goes to the host it is for and to no other: a maker's own variable (``TYPESAFE_API_KEY``, ``OPENAI_API_KEY``, …)
to that maker; see `nbannot.models.keys`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nbannot.asking.request_reply import Decision, ModelInfo, Question, Reply, Request
from nbannot.errors import ModelError
from nbannot.models import decide_limits as fit
from nbannot.models.addresses import checked_address, is_loopback, joined, without_end
from nbannot.models.chat import failed_reply, is_too_long, too_long
from nbannot.models.decide_wire import Shape, cut_off, questions_body, read_answers, with_text
from nbannot.models.endings import refusal_of
from nbannot.models.exchange import Exchange
from nbannot.models.http import TIMEOUT_S, Pool, at_once, parallel_for
from nbannot.models.keys import OWN_KEY, key_for
from nbannot.tools.json_bytes import packed

INFO_TIMEOUT_S = 20.0
REFUSED = (400, 413, 422)
MOST_PLANS = 12
"""How often the questions of one text may be arranged anew while each refusal teaches something."""

KEPT_BODIES = 256
HOMES = {"jev": "https://api.typesafe.ai", "gpt": "https://api.openai.com/v1"}
"""Where models live whose names begin like this, when no base_url is given."""

KEY_VARIABLES = (
    OWN_KEY,
    "TYPESAFE_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "FIREWORKS_API_KEY",
    "UPSTAGE_API_KEY",
)
"""The first of these that is set and may go to the address is sent."""

A_QUESTION = Question("probe", "greeting", "noul", "Is this a greeting?", ("false", "true"), ("", ""))
A_TEXT = "Good morning, everyone."


@dataclass
class Outcome:
    """What the calls about one text brought so far."""

    made: dict[str, Decision] = field(default_factory=dict)
    raw: list[Any] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    unanswered: int = 0
    model: str | None = None

    def take(self, exchange: Exchange, questions: Sequence[Question]) -> None:
        """Take one reply."""
        usage = exchange.data.get("usage")
        usage = usage if isinstance(usage, Mapping) else {}
        self.made.update(read_answers(exchange.data, questions))
        self.raw.append(exchange.data.get("answers"))
        self.seconds += exchange.seconds
        self.unanswered += exchange.unanswered
        self.input_tokens = _sum(self.input_tokens, usage.get("input_tokens", usage.get("prompt_tokens")))
        self.output_tokens = _sum(
            self.output_tokens, usage.get("output_tokens", usage.get("completion_tokens"))
        )
        served = exchange.data.get("model")
        self.model = served if isinstance(served, str) and served else self.model


class _Failed(Exception):
    """A call that brought nothing; carries the reply that says so."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


class DecisionServer:
    """A decision model behind a server.

    Parameters
    ----------
    name
        The model's name on that server; may be left out where the server has only one.
    base_url
        Address of the server, with or without ``/v1``, or of the endpoint itself (``…/systemone``, ``…/decisions``).
    max_parallel
        Most requests in flight, up to 128; 32 unless told.

    Raises
    ------
    ModelError
        If there is no address, or it or the key in the environment cannot be one.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        context_size: int | None = None,
        timeout_s: float = TIMEOUT_S,
        max_parallel: int | None = None,
        **_: Any,
    ) -> None:
        self.name = name
        given = checked_address(base_url or _home(name), "base_url")
        self._routes = _routes(given)
        self.address = without_end(given, "/systemone", "/decisions")
        self.parallel = parallel_for(max_parallel)
        self.limits = fit.Limits()
        self.served: Counter[str] = Counter()
        self._split: set[str] = set()
        self._longest: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._context_size = context_size
        self.key = key_for(self.address, *KEY_VARIABLES)
        self._timeout_s = timeout_s
        self._pool = Pool(self.address, key=self.key.key, timeout_s=timeout_s)
        self._route: tuple[str, Shape] | None = None
        self._bodies: dict[tuple[int, ...], tuple[tuple[Question, ...], bytes]] = {}
        self._info: ModelInfo | None = None

    def info(self) -> ModelInfo:
        """Return what the server is, having asked it one small question to find the shape it speaks.

        Raises
        ------
        ModelError
            If it cannot be reached, refuses the key, or answers in no shape of decisions.
        """
        if self._info is None:
            self._info = at_once(self._ask_about())
        return self._info

    @property
    def capabilities(self) -> dict[str, Any]:
        """Shape, limits learned, versions that answered, and signs that texts were cut."""
        known: dict[str, Any] = {
            "shape": self._route[1] if self._route else None,
            "served": dict(self.served),
        }
        if limits := self.limits.told():
            known["limits"] = limits
        if self._split:
            known["asked_in_two_rounds"] = sorted(self._split)
        tokens, shortest, longest, count = self._longest
        if count >= 3 and longest > 1.2 * shortest:
            known["texts_may_be_cut"] = (
                f"{count} texts of {shortest:,} to {longest:,} characters were all counted as {tokens:,} tokens"
            )
        return known

    async def _ask_about(self) -> ModelInfo:
        pool = Pool(self.address, key=self.key.key, timeout_s=INFO_TIMEOUT_S)
        await pool.open()
        replies: list[Exchange] = []
        try:
            for path, shape in self._routes:
                body = with_text(shape, questions_body(shape, self.name, [A_QUESTION]), A_TEXT)
                exchange = await pool.post(path, body)
                replies.append(exchange)
                if exchange.status == 0 or exchange.status in (401, 402, 403, 407):
                    break
                if exchange.error is None and "probe" in read_answers(exchange.data, [A_QUESTION]):
                    self._route = path, shape
                    return self._described(exchange)
        finally:
            await pool.close()
        raise ModelError(self._no_entry(replies))

    def _described(self, exchange: Exchange) -> ModelInfo:
        local, path = is_loopback(self.address), self._route[0] if self._route else ""
        served = exchange.data.get("model")
        notes = []
        if not local:
            notes.append(f"Texts go to {urlsplit(self.address).hostname}.")
            if self.address.startswith("http://"):
                notes.append("Texts and key go to the server unencrypted (http).")
        return ModelInfo(
            name=self.name,
            backend="decide",
            context_size=self._context_size,
            server=served if isinstance(served, str) else None,
            endpoint=joined(self.address, path),
            is_local=local,
            energy_measured=local,
            notes=tuple(notes),
            details={"shape": self._route[1] if self._route else None},
        )

    # ---- requests --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Get ready for requests in the running event loop; finds the shape if nobody asked yet."""
        if self._route is None:
            self._info = await self._ask_about()
        await self._pool.open()

    async def close(self) -> None:
        """Give back the connections."""
        await self._pool.close()

    async def ask(self, request: Request) -> Reply:
        """Return the decisions on every question of a request; failures are in the reply, never raised."""
        if not self._pool.is_open:
            await self.open()
        text = request.messages[-1]["content"][request.shared :]
        done = Outcome()
        try:
            await self._all(text, request.questions, done, MOST_PLANS)
        except _Failed as failed:
            return failed.reply
        if done.model is not None:
            self.served[done.model] += 1
        self._watch(len(text), done.input_tokens)
        return Reply(
            text=packed(done.raw[0] if len(done.raw) == 1 else done.raw).decode(),
            finish_reason="stop",
            input_tokens=done.input_tokens,
            output_tokens=done.output_tokens,
            seconds=done.seconds,
            unanswered=done.unanswered,
            decisions={q.column: done.made[q.column] for q in request.questions if q.column in done.made},
            model=done.model,
        )

    async def _all(self, text: str, questions: Sequence[Question], done: Outcome, plans: int) -> None:
        """Ask every question, split as far as the server's limits want it."""
        known = tuple(fit.fitting(question, self.limits) for question in questions)
        whole = questions if known == tuple(questions) else known
        too_wide = [question for question in whole if fit.is_split(question, self.limits)]
        rest = [q for q in whole if q not in too_wide] if too_wide else whole
        for call in fit.calls(rest, self.limits) if self.limits.version else [tuple(rest)] if rest else []:
            await self._call(text, call, done, plans)
        for question in too_wide:
            done.made[question.column] = await self._in_rounds(text, question, done, plans)

    async def _in_rounds(self, text: str, question: Question, done: Outcome, plans: int) -> Decision:
        """Ask a question of too many options: in groups, then the winners."""
        self._split.add(question.column)
        parts = fit.parts(question, self.limits.options or len(question.options))
        await self._all(text, [part for _, part in parts if len(part.options) > 1], done, plans)
        last = fit.winners(question, parts, done.made)
        if isinstance(last, Decision):
            return last
        await self._all(text, [last[1]], done, plans)
        final = fit.shares_of(last[1], done.made)
        return final if isinstance(final, Decision) else fit.combined(question, parts, done.made, final)

    async def _call(self, text: str, questions: tuple[Question, ...], done: Outcome, plans: int) -> None:
        """Make one call, or find out how these questions can be asked."""
        version = self.limits.version
        exchange = await self._send(text, questions)
        if exchange.error is None:
            if why := cut_off(exchange.data):
                raise _Failed(Reply(error=f"text does not fit: {why}", finish_reason="context"))
            if not isinstance(exchange.data.get("answers"), list | dict):
                raise _Failed(
                    Reply(error="the server's reply has no answers", retriable=True, finish_reason="error")
                )
            done.take(exchange, questions)
            return
        if (refusal := refusal_of(exchange)) is not None:
            raise _Failed(refusal)
        words = exchange.said
        if not fit.is_about_the_questions(words) and (
            exchange.status == 413
            or is_too_long(exchange)
            or (exchange.status in REFUSED and fit.TOO_LONG.search(words))
        ):
            raise _Failed(too_long(None, None, (exchange.error or "").partition(": ")[2]))
        learned = exchange.status in REFUSED and self.limits.learn(words, questions)
        if plans and (learned or (exchange.status in REFUSED and self.limits.version != version)):
            await self._all(text, questions, done, plans - 1)
        elif exchange.status in REFUSED and len(questions) > 1:
            await self._one_by_one(text, questions, done, exchange)
        elif exchange.status in REFUSED and questions[0].column in self.limits.apart:
            done.made[questions[0].column] = _refused(exchange.error)
        else:
            raise _Failed(failed_reply(exchange))

    async def _one_by_one(
        self, text: str, questions: Sequence[Question], done: Outcome, refusal: Exchange
    ) -> None:
        """Ask refused questions each alone, so that one the server does not take costs the others nothing."""
        refused: dict[str, Decision] = {}
        for question in questions:
            try:
                await self._call(text, (question,), done, 0)
            except _Failed as failed:
                if failed.reply.retriable or failed.reply.finish_reason == "context":
                    raise
                refused[question.column] = _refused(failed.reply.error)
        if len(refused) == len(questions):
            raise _Failed(failed_reply(refusal))
        done.made.update(refused)
        self.limits.send_apart([q for q in questions if q.column in refused])

    async def _send(self, text: str, questions: tuple[Question, ...]) -> Exchange:
        assert self._route is not None, "the shape is not known yet"
        path, shape = self._route
        key = tuple(map(id, questions))
        kept = self._bodies.get(key)
        if kept is None or any(a is not b for a, b in zip(kept[0], questions, strict=True)):
            if len(self._bodies) >= KEPT_BODIES:
                self._bodies.clear()
            kept = self._bodies[key] = questions, questions_body(shape, self.name, questions)
        return await self._pool.post(path, with_text(shape, kept[1], text))

    def _watch(self, characters: int, tokens: int | None) -> None:
        """Remember the longest count of tokens, and which texts got it: many of different length were cut."""
        most, shortest, longest, count = self._longest
        if tokens is None or tokens < most:
            return
        if tokens > most:
            self._longest = tokens, characters, characters, 1
        else:
            self._longest = most, min(shortest, characters), max(longest, characters), count + 1

    # ---- words -----------------------------------------------------------------------------------------------------

    def _no_entry(self, replies: Sequence[Exchange]) -> str:
        last = replies[-1]
        if last.status in (401, 403):
            kind = "wants a key, and none is there for it"
            if self.key.key is not None:
                kind = f"refuses the key in {self.key.variable}"
            return f"the server at {self.address} {kind}: {last.error}.\n{self.key.what_to_set()}"
        if last.status in (0, 402, 407):
            hint = "Start the server" if is_loopback(self.address) else "Check the address and the network"
            return f"the server at {self.address} gives no answer: {last.error}.\n  {hint}, or set another base_url."
        there = [one for one in replies if one.status != 404] or replies
        return (
            f"the server at {self.address} answers no decisions with the model '{self.name}': "
            f"{there[0].error or 'its reply has no answer in it'}.\n"
            f"  Tried: {', '.join(f'{path} ({shape})' for path, shape in self._routes)}. "
            "Check base_url and the model's name."
        )

    def __repr__(self) -> str:
        return f"<DecisionServer '{self.name}' at {self.address}>"


def _refused(words: str | None) -> Decision:
    return Decision(problem=f"the server refuses this question: {words}")


def _home(name: str) -> str:
    """Return where a model lives when no address is given."""
    maker = re.split(r"[-/]", name.removeprefix("~"))[0]
    address = os.environ.get("TYPESAFE_BASE_URL", "").strip() if maker in ("jev", "typesafe") else ""
    if address or maker in HOMES:
        return address or HOMES[maker]
    raise ModelError(
        f"decide/{name} is no model of this process, and it is not known which server has it.\n"
        '  Type base_url = "http://localhost:8000/v1" or wherever it is; without a server: model = "decide/sparrow".'
    )


def _routes(address: str) -> list[tuple[str, Shape]]:
    """Return the paths and shapes to try, likeliest first; an address that names the endpoint is believed."""
    base = address.partition("?")[0]
    if base.endswith("/systemone"):
        return [("/systemone", "systemone"), ("/systemone", "decisions")]
    if base.endswith("/decisions"):
        return [("/decisions", "decisions"), ("/decisions", "systemone")]
    begins = [""] if re.search(r"/(v\d+\w*|alpha|beta)$", base) else ["/v1", ""]
    tries: list[tuple[str, Shape]] = [
        ("/systemone", "systemone"),
        ("/decisions", "decisions"),
        ("/decisions", "systemone"),
    ]
    return [(f"{begin}{path}", shape) for begin in begins for path, shape in tries]


def _sum(before: int | None, more: Any) -> int | None:
    """Return a running sum of counts; what is no count is left out."""
    counts = isinstance(more, int) and not isinstance(more, bool) and 0 <= more < 10**9
    return (before or 0) + more if counts else before
