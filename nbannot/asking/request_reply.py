"""What a model is to the rest of the house: it takes a `Request` and returns a `Reply`. Nothing else is shared.

A backend is a class with the members of `Model`. Built-in ones and those of other packages come through the same
door: the entry-point group ``nbannot.models``, whose name is the part of ``<backend>/<name>`` before the slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Message = dict[str, str]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": str}``."""

AnswerMode = Literal["score", "generate"]


@dataclass(frozen=True, slots=True)
class Question:
    """One closed question to a decision model: what to judge, and every answer that there is.

    Attributes
    ----------
    column
        The field that it asks.
    name
        What the question is called in the request; decision models read it.
    kind
        ``"noul"`` (yes or no), ``"choice"`` (one of several) or ``"score"`` (a level of a scale).
    options
        One name per label of the field, in codebook order; ``("false", "true")`` for a noul.
    descriptions
        One text per option, "" where the codebook has none.
    """

    column: str
    name: str
    kind: Literal["noul", "choice", "score"]
    instructions: str
    options: tuple[str, ...]
    descriptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a prompt that asks a language model one of several closed questions about the same text.

    Attributes
    ----------
    text
        What follows the last message of the request.
    schema, options
        As in `Request`, for this question alone.
    """

    column: str
    text: str
    schema: Mapping[str, Any]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a decision model made of one question.

    Attributes
    ----------
    probabilities
        One per option of the question, summing to 1; ``None`` where there is no usable distribution.
    choice
        Position of the option that the model itself names.
    score
        Expected level as the model gives it, counted from 0.
    confidence
        The model's own measure, whose meaning differs from maker to maker; never a probability.
    refused
        Whether the model declined this question.
    problem
        Why there is no answer; "" when there is one.
    """

    probabilities: tuple[float, ...] | None = None
    choice: int | None = None
    score: float | None = None
    confidence: float | None = None
    refused: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model, complete in itself.

    Attributes
    ----------
    key
        What identifies the request inside its run, e.g. ``"ps001|Policy Sentiment_Direction|1"``. Not sent.
    messages
        The chat so far; the last one is the user's.
    shared
        How many characters at the start of the last message are the same for every text (instructions and
        examples); a server that keeps its prompt cache need not read them again.
    schema
        JSON schema that the reply must obey.
    options
        For ``answer_mode = "score"``: every possible reply as JSON text, in codebook order; otherwise empty.
    text
        The text being annotated, as it stands in the messages.
    questions
        For a decision model: the closed questions about the text, which is the rest of the last message after
        `shared`; otherwise empty.
    endings
        For closed questions that are scored one by one after the same beginning (see `nbannot.models.together`).
    shared_by_text
        How many characters at the start of the last message are the same for every question about this text; 0 where
        that is not known.
    """

    key: str
    messages: tuple[Message, ...]
    shared: int
    schema: Mapping[str, Any]
    options: tuple[str, ...] = ()
    answer_mode: AnswerMode = "generate"
    text: str = ""
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int = 512
    reasoning: bool | str | None = None
    questions: tuple[Question, ...] = ()
    endings: tuple[Ending, ...] = ()
    shared_by_text: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one `Request`; never an exception.

    Attributes
    ----------
    text
        The raw reply. For a scored answer: the most probable option.
    error
        Why there is no reply (network, server, time-out); ``None`` when there is one.
    retriable
        Whether sending the same request again may help (only with `error`).
    finish_reason
        ``"stop"``, ``"length"``, ``"refusal"``, ``"content_filter"`` (a filter refused this text, for good; the
        provider's own word may follow after a colon) or what the server said; with `error`, ``"account"`` where the
        provider refuses the account, as it will every other request, and else ``"error"`` or ``"context"``.
    probabilities
        For a scored answer: one number per option of the request, in order, summing to 1.
    evaluated_tokens
        Tokens of the prompt that were read anew: all but those that the server had kept from earlier prompts.
    cached_tokens, cache_write_tokens
        Tokens of the prompt that a provider read from its prompt cache, and those that it wrote to it: both have
        prices of their own, and both are counted in `input_tokens`. ``None`` where it does not tell.
    charged
        What the provider itself says that it has charged for the request, in US$; ``None`` where it does not tell.
    seconds
        Time from sending to the full reply, waiting in our own queue left out.
    model, fingerprint
        What the reply itself says of the model that answered, and of its configuration.
    unanswered
        How often the request was sent before on a connection that the server closed without a reply: it may have
        worked on it.
    decisions
        For a decision model, and where a request has `endings`: column -> `Decision`, for every question of it.
        For a decision model: column -> `Decision`, for every question of the request.
    server
        Which of several servers it came from.
    """

    text: str = ""
    reasoning: str | None = None
    error: str | None = None
    retriable: bool = False
    retry_after_s: float | None = None
    finish_reason: str | None = None
    probabilities: tuple[float, ...] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    evaluated_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    charged: float | None = None
    seconds: float = 0.0
    model: str | None = None
    fingerprint: str | None = None
    unanswered: int = 0
    decisions: Mapping[str, Decision] | None = None
    server: str | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model says of itself, for ``config.json``, the card and the run's identity.

    `name` is what follows the slash in ``<backend>/<name>``, in full (the default spelled out).
    `digest` identifies the weights (``"sha256:..."``) and is part of the run id when known.
    """

    name: str
    backend: str
    digest: str | None = None
    quantization: str | None = None
    parameters: str | None = None
    context_size: int | None = None
    server: str | None = None
    endpoint: str | None = None
    is_local: bool = True
    energy_measured: bool = True
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """``<backend>/<name>``, or the backend alone where there is no name."""
        return f"{self.backend}/{self.name}" if self.name else self.backend


@runtime_checkable
class Model(Protocol):
    """A language model behind one door. Made by the registry from its name and the run's settings.

    Attributes
    ----------
    parallel
        How many requests are worth having in flight at once (1 = one after another).
    answer_modes
        The ways it can answer, best first.

    Notes
    -----
    Optional members: ``reply_tokens`` (the longest reply to allow where `max_tokens` is unset),
    ``fit(task, fields)`` (learn from the human labels of the task before it is asked; for supervised baselines),
    ``digest_now()`` (a coroutine: the digest of the weights that the server has now, asked at the end of a session)
    ``batches()`` (the provider's batches: `nbannot.models.batch_service.BatchService`, for ``delivery = "batch"``),
    ``key`` (which key goes where: `nbannot.models.keys.KeyChoice`) and ``decides`` (true for a decision model, which is
    sent `Request.questions` and replies with `Reply.decisions`) with ``writes`` (true if it nevertheless answers
    textbox and span fields).
    """

    parallel: int
    answer_modes: tuple[AnswerMode, ...]

    def info(self) -> ModelInfo:
        """Return what is known of the model; loads or contacts it if that is needed.

        Raises
        ------
        ModelError
            If it cannot be found, loaded or reached; the message says what to type.
        """

    async def open(self) -> None:
        """Get ready for requests in the running event loop (connections, weights)."""

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""

    async def close(self) -> None:
        """Give back connections; weights may stay loaded for the next run."""
