"""Decision models in this process: the bundled sparrow, and what every engine has in common.

An engine reads all of a text or none of it: what it would cut off in silence is told apart as a text that does not fit.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from nbannot.asking.decisions import as_system_one, decided
from nbannot.asking.request_reply import Decision, ModelInfo, Question, Reply, Request
from nbannot.errors import ModelError
from nbannot.tools.imports import load

MOST_LEVELS = 10
"""Most levels of a scale that sparrow takes; a longer scale is asked as a choice."""

KEPT = 1024
"""How many pieces of text a model remembers the vector of: questions, options, and the text at hand."""

QUESTION_ROOM = 48
"""Tokens that an encoder of sparrow's adds to a question and a text."""


class Decider(Protocol):
    """A decision model in this process, made from its name and the run's settings."""

    def info(self) -> ModelInfo:
        """Return what it is; loads it.

        Raises
        ------
        ModelError
            If it cannot be loaded; the message says what to type.
        """

    def too_long(self, text: str, questions: Sequence[Question]) -> str:
        """Return why the model would not read all of the text; "" if it does."""

    def probabilities(self, text: str, question: Question) -> Sequence[float]:
        """Return one number per option of the question, in order."""


class LocalDecisions:
    """An engine of this process as a model: one text after the other, all of its questions at once."""

    parallel = 1

    def __init__(self, engine: Decider) -> None:
        self._engine = engine
        self._name = ""

    def info(self) -> ModelInfo:
        """Return what the engine says of itself."""
        return self._engine.info()

    @property
    def capabilities(self) -> dict[str, Any]:
        """What was found about the engine while it was asked."""
        return getattr(self._engine, "capabilities", {})

    async def open(self) -> None:
        """Load the weights, off the event loop."""
        self._name = (await asyncio.to_thread(self._engine.info)).full_name

    async def close(self) -> None:
        """Do nothing: the weights stay."""

    async def ask(self, request: Request) -> Reply:
        """Return the decisions on every question of a request."""
        await asyncio.sleep(0)  # an interrupt is heard between two texts
        start = time.perf_counter()
        text = request.messages[-1]["content"][request.shared :]
        if why := self._engine.too_long(text, request.questions):
            return Reply(error=f"text does not fit: {why}", finish_reason="context")
        made = {question.column: self._decide(text, question) for question in request.questions}
        results = {column: one.probabilities or one.problem for column, one in made.items()}
        return Reply(
            text=json.dumps(results, ensure_ascii=False),
            finish_reason="stop",
            seconds=time.perf_counter() - start,
            decisions=made,
            model=self._name or None,
        )

    def _decide(self, text: str, question: Question) -> Decision:
        if len(question.options) == 1:
            return decided(question, [1.0])
        try:
            return decided(question, [float(p) for p in self._engine.probabilities(text, question)])
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is this question's answer
            return Decision(problem=f"the model failed on this question: {type(error).__name__}: {error}")


@lru_cache(maxsize=2)
def _loaded(path: Path, changed_ns: int, size: int) -> tuple[Any, str]:
    """Return the model in a file and the digest of the file; the next run of the process has them at once."""
    import sparrow_decider

    model = sparrow_decider.Decider.load(str(path))
    if model.static:  # a text is read once for all its questions, a question once for all texts
        model.static._pool = lru_cache(KEPT)(model.static._pool)
    return model, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Sparrow:
    """The decision models of `sparrow-decider`: numpy alone, two of them inside the package.

    Parameters
    ----------
    name
        ``sparrow`` (the package's default), the name of one of its models, or the path of a ``.sparrow`` file.

    Raises
    ------
    ModelError
        If the package is not installed, or has no such model.
    """

    def __init__(self, name: str, **_: Any) -> None:
        if importlib.util.find_spec("sparrow_decider") is None:
            raise ModelError(
                f"decide/{name} needs the package sparrow-decider, which is not installed.\n"
                '  pip install "nbannot[decide]"'
            )
        self._asked_for = None if name == "sparrow" else name
        self._model: Any = None
        self._info: ModelInfo | None = None
        self.capabilities: dict[str, Any] = {}

    def info(self) -> ModelInfo:
        """Return name, digest and package of the model; loads it."""
        if self._info is None:
            load("numpy", "sparrow_decider")
            import sparrow_decider

            try:
                path = Path(sparrow_decider._resolve(self._asked_for))
                file = path.stat()
                self._model, digest = _loaded(path, file.st_mtime_ns, file.st_size)
                if self._model.static:
                    self._model.static._pool.cache_clear()  # what a run takes does not depend on those before it
            except (OSError, ValueError, KeyError) as error:
                known = ", ".join(f"decide/{name}" for name in sparrow_decider.available_models())
                raise ModelError(
                    f"there is no decision model '{self._asked_for}' that can be loaded "
                    f"({type(error).__name__}).\n  Here are: {known}."
                ) from None
            self._info = ModelInfo(
                name=path.stem,
                backend="decide",
                digest=digest,
                quantization="int8",
                context_size=self._longest(),
                server=f"sparrow-decider {version('sparrow-decider')}",
                notes=(
                    f"decide/{path.stem} is a toy of {path.stat().st_size / 1e6:.1f} MB, which reads English: it shows "
                    "how a run works. On human-coded sets its labels agree with people little better than chance.",
                ),
                details={"package": "sparrow-decider", "file": path.name},
            )
        return self._info

    def _longest(self) -> int:
        return int(self._model.static.max_len if self._model.static else self._model.max_len)

    def too_long(self, text: str, questions: Sequence[Question]) -> str:
        """Return why the model would not read all of the text; "" if it does."""
        most = self._longest()
        if self._model.static:
            tokens = len(text) if len(text) <= most else len(self._model.static.tok.encode(text, 100 * most))
        else:
            longest = max(self._tokens(json.dumps(as_system_one(q), ensure_ascii=False)) for q in questions)
            tokens = self._tokens(text) + longest + QUESTION_ROOM
        return f"about {tokens:,} tokens of {most:,}" if tokens > most else ""

    def _tokens(self, text: str) -> int:
        return len(self._model.tok.encode(text))

    def probabilities(self, text: str, question: Question) -> Sequence[float]:
        """Return one number per option of the question, in order; a scale of many levels is asked as a choice."""
        form = asked_as_choice(question, MOST_LEVELS, self.capabilities) or as_system_one(question)
        _kind, _names, _descriptions, shares = self._model.probs(text, form)
        return [float(share) for share in shares]


def asked_as_choice(question: Question, most: int, capabilities: dict[str, Any]) -> dict[str, Any] | None:
    """Return a scale of more levels than a model takes as a choice in System One's form; ``None`` for any other.

    Parameters
    ----------
    capabilities
        Where the question is noted.
    """
    if question.kind != "score" or len(question.options) <= most:
        return None
    noted = capabilities.setdefault("scales_asked_as_choice", [])
    if question.column not in noted:
        noted.append(question.column)
    criteria = dict(zip(question.options, question.descriptions, strict=True))
    return {**as_system_one(question), "type": "choice", "criteria": criteria}
