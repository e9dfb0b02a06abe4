"""Local models: any GGUF file, run inside this process by llama.cpp (the package xllamacpp), without a server or a key.

Two ways of answering. *Score* reads off how probable each possible reply is and generates nothing; *generate* writes
JSON that cannot leave the schema. Both see the same prompt: the messages in the model's own chat template (a plain
transcript where it has none).

Same question, same numbers. Floating-point results depend on how a prompt is cut into batches, so that answers of an
ordinary server with a prompt cache move with the order of the questions. Here every prompt is cut at the same places
(after each earlier answer of a conversation, and where the part ends that is the same for every text), each part is
evaluated as a batch of its own, and the model's state at the cuts is saved and put back bit by bit. What is shared is
read once, and the numbers do not depend on what was asked before, in which order, or in which process.

llama.cpp opens a port on the loopback address for its tokenizer and state functions; it is locked with a random key.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.models import weights
from nbannot.models.gguf import Say, Weights, describe
from nbannot.models.local_engine import LocalEngine, loaded_engine
from nbannot.models.local_start import engine_version

DEMO_NOTICE = (
    "Embedded demo model (SmolLM2, 135 million parameters). It shows how the tool works; it is not an annotator. "
    "On five human-labelled tasks its agreement with people was close to chance (mean kappa 0.06). "
    "Connect a larger model, and check it against your own human labels, before you use labels."
)
NO_TEMPLATE_NOTICE = (
    "This model file has no chat template, so it may be a base model that was not trained to follow instructions; "
    "it is sent a plain transcript."
)
CONTEXT_SIZE = 4096
MOST_THREADS = 8
MOST_AT_ONCE = 16


class LocalModel:
    """A GGUF model in this process.

    The weights stay loaded after `close`, so that the next run starts at once.
    `Reply.evaluated_tokens` counts the prompt tokens that were really computed, shared parts included when they are
    new; `Reply.input_tokens` the whole prompt; `Reply.output_tokens` the tokens of the answer.

    The model is not asked to reason before the answer, as the answer is bound to the schema from its first
    character; a schema with a ``reasoning`` property gives it room to do so.

    Parameters
    ----------
    name
        What `nbannot.models.weights.find` understands: empty, a path, or ``hf://...``.
    context_size
        Longest prompt and answer together, in tokens; 4096 unless told, never more than the model was trained for.
    threads
        Number of CPU threads; all CPUs up to 8 unless told. The numbers do not depend on it.
    max_parallel
        How many requests are read at once, up to 16; one unless told. Worth it on a graphics card. The numbers do not
        depend on it: where this model's would, which is tried when it is loaded, one is read after the other.
    seed
        For generation at a temperature above 0, where the request has none.
    say
        Told in a sentence what takes time.
    """

    answer_modes: tuple[AnswerMode, ...] = ("score", "generate")
    reply_tokens = 128

    def __init__(
        self,
        name: str = "",
        *,
        context_size: int | None = None,
        threads: int | None = None,
        max_parallel: int | None = None,
        seed: int | None = None,
        say: Say | None = None,
        **_: Any,
    ) -> None:
        self.name = name
        self._context_size = context_size
        self.parallel = min(max_parallel or 1, MOST_AT_ONCE)
        self._threads = threads or min(MOST_THREADS, _cpus())
        self._seed = seed
        self._say = say
        self._weights: Weights | None = None
        self._engine: LocalEngine | None = None
        self._told: dict[str, Any] = {}

    def info(self) -> ModelInfo:
        """Return what the file says of itself; fetches it if need be, but does not load it.

        Raises
        ------
        ModelError
            If there is no such file or it cannot be fetched or read, or xllamacpp is not installed.
        """
        version = engine_version()
        weights = self._found()
        return ModelInfo(
            name=self._full_name(weights),
            backend="local",
            digest=weights.digest,
            quantization=weights.quantization,
            parameters=_in_words(weights.parameters),
            context_size=self._context(weights),
            server=f"xllamacpp {version}",
            notes=_notes(weights),
            details={
                "title": weights.title,
                "architecture": weights.architecture,
                "trained_context": weights.trained_context,
                "file_size_bytes": weights.size,
                "chat_template": "the model's own" if weights.has_chat_template else "plain transcript",
                "threads": self._threads,
            },
        )

    @property
    def capabilities(self) -> dict[str, Any]:
        """How many requests are read at once, where more than one was asked for."""
        if self.parallel == 1 or self._engine is None:
            return self._told
        self._told = {"read_at_once": self._engine.at_once}
        return self._told

    async def open(self) -> None:
        """Load the weights, unless they still are.

        Raises
        ------
        ModelError
            If that does not work.
        """
        if self._engine is None:
            self._engine = await asyncio.to_thread(self._load)

    async def close(self) -> None:
        """Let go of the model; its weights stay loaded for the next run."""
        if self._engine is not None:
            self._told = self.capabilities
            self._engine.users -= 1
            self._engine = None

    async def ask(self, request: Request) -> Reply:
        """Return the model's reply; a cancelled request stops computing and leaves the model ready for the next."""
        if self._engine is None:
            return Reply(error="the model is not open", finish_reason="error")
        stop = threading.Event()
        if request.seed is None and self._seed is not None:
            request = replace(request, seed=self._seed)
        working = self._engine.worker.submit(self._engine.reply, request, stop)
        try:
            return await asyncio.wrap_future(working)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _found(self) -> Weights:
        if self._weights is None:
            self._weights = describe(weights.find(self.name, self._say), self._say)
        return self._weights

    def _full_name(self, weights_file: Weights) -> str:
        if self.name in ("", weights.DEFAULT_NAME):
            return weights.DEFAULT_NAME
        file = Path(weights_file.path).name
        if not self.name.startswith("hf://"):
            return file
        return self.name if self.name.lower().endswith(".gguf") else f"{self.name}/{file}"

    def _context(self, weights: Weights) -> int:
        return min(self._context_size or CONTEXT_SIZE, weights.trained_context or 1 << 30)

    def _load(self) -> LocalEngine:
        engine_version()
        weights = self._found()
        return loaded_engine(weights, self._context(weights), self._threads, self.parallel)


def _notes(weights_file: Weights) -> tuple[str, ...]:
    """Return what people must know of a model before they use its labels."""
    if weights_file.digest == f"sha256:{weights.DEFAULT_MODEL.sha256}":
        return (DEMO_NOTICE,)
    return () if weights_file.has_chat_template else (NO_TEMPLATE_NOTICE,)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_words(parameters: int) -> str:
    """Return a number of parameters as people write it.

    >>> _in_words(134_515_008), _in_words(8_030_261_248)
    ('135M', '8.0B')
    """
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
