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
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from nbannot.asking.request_reply import AnswerMode, Message, ModelInfo, Reply, Request
from nbannot.errors import ModelError
from nbannot.models import weights
from nbannot.models.weights import Say, Weights

DEMO_NOTICE = (
    "Embedded demo model (SmolLM2, 135 million parameters). It shows how the tool works; it is not an annotator. "
    "On five human-labelled tasks its agreement with people was close to chance (mean kappa 0.06). "
    "Connect a larger model, and check it against your own human labels, before you use labels."
)
NO_TEMPLATE_NOTICE = (
    "This model file has no chat template, so it may be a base model that was not trained to follow instructions; "
    "it is sent a plain transcript."
)
INSTALL = 'pip install "nbannot[local]"'
CONTEXT_SIZE = 4096
MOST_THREADS = 8
BATCH = 512
STATES_BYTES = 512 << 20
STATES_PREFIX = "nbannot-states-"
LEFTOVER_S = 2 * 24 * 3600
PORT_TIMEOUT_S = 600
LOADED_AT_ONCE = 2
OPTION_BIAS = 100.0
LEAST_SHARE = 1e-30
COMPACT_JSON = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}

Tokens = tuple[int, ...]


class LocalModel:
    """A GGUF model in this process.

    The weights stay loaded after `close`, so that the next run starts at once. One request is worked on at a time.
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
    seed
        For generation at a temperature above 0, where the request has none.
    say
        Told in a sentence what takes time.
    """

    parallel = 1
    answer_modes: tuple[AnswerMode, ...] = ("score", "generate")
    reply_tokens = 128

    def __init__(
        self,
        name: str = "",
        *,
        context_size: int | None = None,
        threads: int | None = None,
        seed: int | None = None,
        say: Say | None = None,
        **_: Any,
    ) -> None:
        self.name = name
        self._context_size = context_size
        self._threads = threads or min(MOST_THREADS, _cpus())
        self._seed = seed
        self._say = say
        self._weights: Weights | None = None
        self._engine: _Engine | None = None

    def info(self) -> ModelInfo:
        """Return what the file says of itself; fetches it if need be, but does not load it.

        Raises
        ------
        ModelError
            If there is no such file or it cannot be fetched or read, or xllamacpp is not installed.
        """
        version = _engine_version()
        found = self._found()
        return ModelInfo(
            name=self._full_name(found),
            backend="local",
            digest=found.digest,
            quantization=found.quantization,
            parameters=_in_words(found.parameters),
            context_size=self._context(found),
            server=f"xllamacpp {version}",
            notes=_notes(found),
            details={
                "title": found.title,
                "architecture": found.architecture,
                "trained_context": found.trained_context,
                "file_size_bytes": found.size,
                "chat_template": "the model's own" if found.has_chat_template else "plain transcript",
                "threads": self._threads,
            },
        )

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
            self._weights = weights.describe(weights.find(self.name, self._say), self._say)
        return self._weights

    def _full_name(self, found: Weights) -> str:
        if self.name in ("", weights.DEFAULT_NAME):
            return weights.DEFAULT_NAME
        return self.name if self.name.startswith("hf://") else Path(found.path).name

    def _context(self, found: Weights) -> int:
        return min(self._context_size or CONTEXT_SIZE, found.trained_context or 1 << 30)

    def _load(self) -> _Engine:
        _engine_version()
        found = self._found()
        return _loaded(found, self._context(found), self._threads)


# --- loading ------------------------------------------------------------------------------------------------------

_LOADED: OrderedDict[tuple[object, ...], _Engine] = OrderedDict()
_LOADING = threading.Lock()


def _loaded(found: Weights, context_size: int, threads: int) -> _Engine:
    """Return the engine for these weights and settings, loaded once in a process; count one more user.

    At most `LOADED_AT_ONCE` engines that nobody uses are kept.
    """
    key = (os.getpid(), found.path, found.digest, context_size, threads)
    with _LOADING:
        engine = _LOADED.get(key)
        if engine is None:
            idle = [known for known, other in _LOADED.items() if other.users == 0]
            for known in idle[: len(_LOADED) + 1 - LOADED_AT_ONCE]:
                _LOADED.pop(known).unload()
            engine = _LOADED[key] = _Engine(found, context_size, threads)
        _LOADED.move_to_end(key)
        engine.users += 1
    return engine


def _engine_version() -> str:
    """Return the version of xllamacpp.

    Raises
    ------
    ModelError
        If it is not installed, or this processor lacks instructions that it needs.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("xllamacpp")
    except PackageNotFoundError:
        raise ModelError(
            "Local models need the package xllamacpp, which is not installed here.\n"
            f"  Type: {INSTALL}\n"
            '  Or use a model that needs nothing: model = "mock".'
        ) from None
    if missing := _missing_instructions():
        raise ModelError(
            f"This computer's processor lacks {', '.join(missing)}, which local models need.\n"
            '  Use a model on a server, e.g. model = "ollama/<name>", or none: model = "mock".'
        )
    return installed


def _missing_instructions(cpuinfo: str = "/proc/cpuinfo") -> list[str]:
    """Return which instruction sets of the x86 builds are missing; unknown (empty) elsewhere than on Linux."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path(cpuinfo).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return []
    return [name for name in ("avx2", "fma", "bmi2") if flags and name not in flags[1].split()]


def _start(found: Weights, context_size: int, threads: int, key: str, states: str) -> Any:
    """Return a running xllamacpp server for one prompt at a time."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # read when the library is loaded: shared CPUs must not spin
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = found.path
    settings.n_ctx = context_size
    settings.n_parallel = 1
    settings.n_batch = settings.n_ubatch = BATCH
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.swa_full = True
    settings.ctx_shift = False
    settings.warmup = False
    settings.cache_ram_mib = 0
    settings.slot_save_path = states + os.sep
    settings.api_keys = [key]
    settings.ui = False
    settings.verbosity = -1
    try:
        return xllamacpp.Server(settings)
    except RuntimeError as error:
        size = f"{found.size / 1e6:,.0f} MB"
        raise ModelError(
            f"The model '{found.path}' ({size}) could not be loaded.\n"
            "  The file may be cut short, of a kind this version does not know, or too large for the memory here.\n"
            f"  Try a smaller context_size (now {context_size}), download it again, or use another .gguf file."
        ) from error


class _StoppedError(Exception):
    """The request was cancelled."""


class _TooLongError(Exception):
    """The prompt is longer than the context."""


class _ServerError(Exception):
    """llama.cpp refused or failed; the message is its own."""


@dataclass(slots=True)
class _Work:
    """One request being worked on: whether to stop, and how many prompt tokens it has cost so far."""

    stop: threading.Event
    evaluated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt as tokens, and where to cut it.

    Attributes
    ----------
    body, tail
        The tokens up to the template's last control token, and the text from there on: what is appended to `tail`
        cannot change the tokens of `body`.
    tokens
        The whole prompt.
    cuts
        Numbers of tokens, rising.
    """

    body: Tokens
    tail: str
    tokens: Tokens
    cuts: tuple[int, ...]


class _Engine:
    """A loaded model. Its `worker` thread does one request at a time."""

    def __init__(self, found: Weights, context_size: int, threads: int) -> None:
        self.users = 0
        self.context_size = context_size
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="nbannot-local")
        self._folder = tempfile.TemporaryDirectory(prefix=STATES_PREFIX, ignore_cleanup_errors=True)
        self._states = _States(Path(self._folder.name))
        key = secrets.token_urlsafe(24)
        self._server: Any = _start(found, context_size, threads, key, self._folder.name)
        self._port = _Port(self._server.listening_address, key)
        self._tokens = lru_cache(1024)(self._port.tokens)
        self._has_template = found.has_chat_template
        self._takes_system = self._port.takes_system_messages()
        self._control = re.compile("|".join(map(re.escape, found.control_tokens)) or r"(?!)")

    def unload(self) -> None:
        """Free the memory; nobody may be using the engine."""
        self.worker.shutdown(wait=True)
        self._server = None
        self._folder.cleanup()

    def reply(self, request: Request, stop: threading.Event) -> Reply:
        """Return the reply to one request, whatever happens; called in the worker thread."""
        start = time.perf_counter()
        work = _Work(stop)
        try:
            prompt = self._prompt(request)
            scored = request.answer_mode == "score" and request.options
            reply = self._score(request, prompt, work) if scored else self._generate(request, prompt, work)
        except _TooLongError as error:
            reply = Reply(error=f"text does not fit: {error}", finish_reason="context")
        except _StoppedError:
            reply = Reply(error="cancelled", retriable=True, finish_reason="cancelled")
        except (_ServerError, RuntimeError, OSError, ValueError, LookupError, HTTPException) as error:
            reply = Reply(
                error=f"the local model failed: {error or type(error).__name__}", finish_reason="error"
            )
        seconds = time.perf_counter() - start
        return replace(reply, evaluated_tokens=work.evaluated_tokens, seconds=seconds)

    # --- answering

    def _score(self, request: Request, prompt: _Prompt, work: _Work) -> Reply:
        """Return the most probable option and the probability of each.

        The options' tokens form a tree. At every branching the model's distribution over the next token is kept to
        the tokens with which some option goes on; an option's probability is the product along its path. That is
        the probability that the model, sampling at temperature 1 and kept to the options, writes this option. Long
        options are not compensated for their length. The distribution at a branching is exact however improbable
        the options are (their log-odds are raised together, so that no other token is among the best); nothing is
        cut off, and no share is below 1e-30.
        """
        replies = [self._tokens(prompt.tail + option, not prompt.body) for option in request.options]
        asked = len(prompt.body) + len(_common_start(replies))
        self._check_length(len(prompt.body) + max(len(reply) for reply in replies), prompt)
        shares = [1.0] * len(replies)
        for path, branches in _branchings(replies):
            tokens = prompt.body + path
            is_first = len(tokens) == asked
            reuse = self._to_last_cut(tokens, prompt, work) if is_first else True
            odds = self._next(tokens, list(branches), reuse, work)
            for token, members in branches.items():
                for member in members:
                    shares[member] *= odds[token]
        probabilities = tuple(share / sum(shares) for share in shares)
        best = probabilities.index(max(probabilities))
        return Reply(
            text=request.options[best],
            finish_reason="stop",
            probabilities=probabilities,
            input_tokens=asked,
            output_tokens=len(prompt.body) + len(replies[best]) - asked,
        )

    def _next(self, tokens: Tokens, candidates: list[int], reuse: bool, work: _Work) -> dict[int, float]:
        """Return how probable each candidate is as the next token, among the candidates; sums to 1."""
        done = self._complete(
            tokens,
            work,
            n_predict=1,
            cache_prompt=reuse,
            n_probs=len(candidates),
            post_sampling_probs=True,
            samplers=["temperature"],
            temperature=1.0,
            seed=0,
            logit_bias=[[token, OPTION_BIAS] for token in candidates],
        )
        found = {entry["id"]: entry["prob"] for entry in done.top}
        shares = {token: max(found.get(token, 0.0), LEAST_SHARE) for token in candidates}
        total = sum(shares.values())
        return {token: share / total for token, share in shares.items()}

    def _generate(self, request: Request, prompt: _Prompt, work: _Work) -> Reply:
        """Return JSON that obeys the schema, unless it is cut at `max_tokens` or at the end of the context.

        Sampling settings that are not given are off: neither top-k nor top-p nor min-p, no repetition penalty.

        The schema is kept by llama.cpp's grammar engine, which drops a schema it cannot read, and in rare cases lets
        a value end early when an option holds both characters that JSON escapes (quotes, backslashes) and such
        outside ASCII; every reply is therefore checked again when it is read.
        """
        self._check_length(len(prompt.tokens) + 1, prompt)
        settings: dict[str, Any] = {
            "n_predict": max(1, request.max_tokens),
            "temperature": request.temperature,
            "top_k": request.top_k or 0,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "min_p": 0.0,
            "samplers": ["top_k", "top_p", "temperature"],
        }
        if request.seed is not None:
            settings["seed"] = request.seed % 2**32
        if request.schema:
            settings["json_schema"] = {**request.schema, "x-guidance": COMPACT_JSON}
        reuse = self._to_last_cut(prompt.tokens, prompt, work)
        done = self._complete(prompt.tokens, work, cache_prompt=reuse, **settings)
        return Reply(
            text=done.text,
            finish_reason=done.finish_reason,
            input_tokens=len(prompt.tokens),
            output_tokens=done.output_tokens,
        )

    def _check_length(self, length: int, prompt: _Prompt) -> None:
        if length > self.context_size:
            raise _TooLongError(
                f"{len(prompt.tokens)} tokens and the answer, of {self.context_size} (context_size); "
                "choose a larger context_size, fewer examples or a shorter text"
            )

    def _complete(self, tokens: Tokens, work: _Work, **settings: Any) -> _Completion:
        """Return what llama.cpp does with these tokens; stops within a batch or a token when told to."""
        done = _Completion()

        def take(chunk: dict[str, Any]) -> bool:
            done.add(chunk)
            return work.stop.is_set()

        if not work.stop.is_set():
            asked = {"prompt": list(tokens), "stream": True, "return_progress": True, **settings}
            self._server.handle_completions(asked, take)
        work.evaluated_tokens += done.evaluated_tokens
        if work.stop.is_set():
            raise _StoppedError
        if done.error:
            raise _ServerError(done.error)
        return done

    # --- prompts

    def _prompt(self, request: Request) -> _Prompt:
        messages, shared = list(request.messages), request.shared
        if not self._takes_system:
            messages, shared = _system_folded(messages, shared)
        text = self._port.templated(messages) if self._has_template else transcript(messages)
        places = _places(text, messages)
        literal = [span for place in places for span in self._control_spellings(text, place)]
        control = [match.start() for match in self._control.finditer(text, places[-1][1] if places else 0)]
        split = control[-1] if control else 0
        body = self._encoded(text[:split], literal) if split else ()
        tokens = body + self._tokens(text[split:], not body)
        cuts = []
        for cut in _cuts(messages, places, shared):
            before = self._encoded(text[:cut], literal)
            cuts.append(len(_common_start([before, tokens])))
        return _Prompt(body, text[split:], tokens, tuple(sorted(set(cuts) - {0})))

    def _control_spellings(self, text: str, place: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Yield where a message spells a control token, which must reach the model as plain text."""
        for match in self._control.finditer(text, *place):
            yield match.span()

    def _encoded(self, text: str, literal: Sequence[tuple[int, int]]) -> Tokens:
        tokens: Tokens = ()
        at = 0
        for start, end in literal:
            if end <= len(text):
                tokens += self._tokens(text[at:start], not tokens) if start > at else ()
                tokens += self._tokens(text[start:end], not tokens, plain=True)
                at = end
        return tokens + (self._tokens(text[at:], not tokens) if at < len(text) else ())

    # --- the state at the cuts

    def _to_last_cut(self, tokens: Tokens, prompt: _Prompt, work: _Work) -> bool:
        """Bring the model to its state after the last cut before the end of `tokens`; ``False`` if there is none.

        The parts between the cuts are evaluated one by one, from the last cut whose state is saved.
        """
        cuts = [cut for cut in prompt.cuts if cut < len(tokens) and tokens[:cut] == prompt.tokens[:cut]]
        reached = self._restored(tokens, cuts)
        for number in range(reached, len(cuts)):
            self._complete(tokens[: cuts[number]], work, n_predict=0, cache_prompt=number > 0)
            if number >= len(cuts) - 2:
                self._save(tokens, cuts[: number + 1])
        return bool(cuts)

    def _restored(self, tokens: Tokens, cuts: list[int]) -> int:
        """Put back the furthest saved state and return how many cuts it covers."""
        for number in range(len(cuts), 0, -1):
            name = _state_name(tokens, cuts[:number])
            if self._states.has(name):
                if self._port.state("restore", name).get("n_restored") == cuts[number - 1]:
                    return number
                self._states.drop(name)
        return 0

    def _save(self, tokens: Tokens, cuts: list[int]) -> None:
        name = _state_name(tokens, cuts)
        saved = self._port.state("save", name)
        self._states.keep(name, int(saved.get("n_written", 0)), whole=saved.get("n_saved") == cuts[-1])


@dataclass(slots=True)
class _Completion:
    """What came back for one request to llama.cpp, chunk by chunk."""

    text: str = ""
    finish_reason: str | None = None
    output_tokens: int = 0
    evaluated_tokens: int = 0
    top: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add one chunk of the stream."""
        if "error" in chunk:
            self.error = str(chunk["error"].get("message", chunk["error"]))
            return
        choice = chunk["choices"][0]
        self.text += choice["text"]
        self.finish_reason = choice["finish_reason"] or self.finish_reason
        if choice["logprobs"] and not self.top:
            self.top = choice["logprobs"]["content"][0].get("top_probs", [])
        self.output_tokens = chunk.get("usage", {}).get("completion_tokens", self.output_tokens)
        self.evaluated_tokens = chunk.get("timings", {}).get("prompt_n", self.evaluated_tokens)


class _Port:
    """The functions of llama.cpp that have no call of their own in xllamacpp, by its loopback port."""

    def __init__(self, address: str, key: str) -> None:
        self._host = address.rpartition("/")[2]
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def tokens(self, text: str, first: bool, plain: bool = False) -> Tokens:
        """Return the tokens of a text; `first` adds what begins a prompt, `plain` knows no control tokens."""
        asked = {"content": text, "add_special": first, "parse_special": not plain}
        return tuple(self._call("POST", "/tokenize", asked)["tokens"])

    def templated(self, messages: Sequence[Message]) -> str:
        """Return the messages in the model's own chat template, up to where its answer begins."""
        asked = {"messages": list(messages), "chat_template_kwargs": {"enable_thinking": False}}
        return str(self._call("POST", "/apply-template", asked)["prompt"])

    def takes_system_messages(self) -> bool:
        """Whether the chat template has a place for a system message."""
        return bool(self._call("GET", "/props")["chat_template_caps"].get("supports_system_role", True))

    def state(self, action: str, name: str) -> dict[str, Any]:
        """Save or restore the state under a name; an empty answer means that it did not work."""
        try:
            return dict(self._call("POST", f"/slots/0?action={action}", {"filename": name}))
        except (_ServerError, OSError, HTTPException):
            return {}

    def _call(self, method: str, path: str, asked: object = None) -> Any:
        connection = HTTPConnection(self._host, timeout=PORT_TIMEOUT_S)
        try:
            connection.request(method, path, None if asked is None else json.dumps(asked), self._headers)
            answer = connection.getresponse()
            content = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status != 200:
            raise _ServerError(_message(content))
        return json.loads(content)


class _States:
    """The saved states: files in a folder that only this user can read, the longest unused dropped first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: OrderedDict[str, int] = OrderedDict()
        _remove_leftovers(folder.parent)

    def has(self, name: str) -> bool:
        """Whether the state is there; it then counts as used."""
        if name in self._sizes:
            self._sizes.move_to_end(name)
        return name in self._sizes

    def keep(self, name: str, size: int, *, whole: bool) -> None:
        """Take in a file that was just written, unless it is not whole (full disk)."""
        try:
            on_disk = (self._folder / name).stat().st_size
        except OSError:
            on_disk = -1
        self._sizes[name] = max(0, on_disk)
        if not whole or size != on_disk:
            self.drop(name)
        while sum(self._sizes.values()) > STATES_BYTES and len(self._sizes) > 1:
            self.drop(next(iter(self._sizes)))

    def drop(self, name: str) -> None:
        """Forget a state and delete its file."""
        self._sizes.pop(name, None)
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left behind; a process that still needs it only computes again."""
    for left in folder.glob(f"{STATES_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(left, ignore_errors=True)


def _state_name(tokens: Tokens, cuts: Sequence[int]) -> str:
    """Return the name of the state after these tokens, cut there: both decide its numbers."""
    content = json.dumps([tokens[: cuts[-1]], list(cuts)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


# --- prompts as text ----------------------------------------------------------------------------------------------


def transcript(messages: Sequence[Message]) -> str:
    """Return the messages as plain text, for models without a chat template.

    >>> transcript([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'Be brief.\\n\\nUser: Hello\\n\\nAssistant:\\n'
    """
    names = {"system": "", "user": "User: ", "assistant": "Assistant:\n"}
    turns = [f"{names[message['role']]}{message['content']}" for message in messages]
    return "\n\n".join([*turns, "Assistant:\n"])


def _system_folded(messages: list[Message], shared: int) -> tuple[list[Message], int]:
    """Return the messages with the system message at the head of the next one, and `shared` counted anew."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages, shared
    head = f"{messages[0]['content']}\n\n"
    first = {"role": messages[1]["role"], "content": head + messages[1]["content"]}
    return [first, *messages[2:]], shared + (len(head) if len(messages) == 2 else 0)


def _places(text: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
    """Return where each message's content stands in the templated text; empty if the template changed one."""
    places = []
    at = 0
    for message in messages:
        content = message["content"].strip()
        start = text.find(content, at)
        if start < 0:
            return []
        at = start + len(content)
        places.append((start, at))
    return places


def _cuts(messages: Sequence[Message], places: Sequence[tuple[int, int]], shared: int) -> list[int]:
    """Return where to cut the text: after each answer of the conversation, and where the shared part ends."""
    if not places:
        return []
    after_answers = [
        end for message, (_, end) in zip(messages, places, strict=True) if message["role"] == "assistant"
    ]
    last = messages[-1]["content"]
    stripped = len(last) - len(last.lstrip())
    start, end = places[-1]
    return [*after_answers, min(end, start + max(0, shared - stripped))]


# --- tokens -------------------------------------------------------------------------------------------------------


def _common_start(sequences: Sequence[Tokens]) -> Tokens:
    """Return the longest beginning that all sequences share.

    >>> _common_start([(1, 2, 3), (1, 2, 4)])
    (1, 2)
    """
    first, last = min(sequences), max(sequences)
    for at, token in enumerate(first):
        if token != last[at]:
            return first[:at]
    return first


def _branchings(sequences: Sequence[Tokens]) -> Iterator[tuple[Tokens, dict[int, list[int]]]]:
    """Yield every branching of the tree of the sequences: the path to it, and which go on with which token.

    Depth first, so that a path comes right after the one it goes on from. Sequences are numbered from 0.

    >>> list(_branchings([(7, 1, 9), (7, 2, 9), (7, 2, 8)]))
    [((7,), {1: [0], 2: [1, 2]}), ((7, 2), {9: [1], 8: [2]})]
    """
    waiting: list[tuple[int, list[int]]] = [(0, list(range(len(sequences))))]
    while waiting:
        depth, members = waiting.pop()
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(sequences[member]) > depth:
                branches.setdefault(sequences[member][depth], []).append(member)
        if len(branches) > 1:
            yield sequences[members[0]][:depth], branches
        waiting += [(depth + 1, together) for together in reversed(branches.values()) if len(together) > 1]


# --- small things -------------------------------------------------------------------------------------------------


def _message(content: str) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return content[:200]


def _notes(found: Weights) -> tuple[str, ...]:
    """Return what people must know of a model before they use its labels."""
    if found.digest == f"sha256:{weights.DEFAULT_MODEL.sha256}":
        return (DEMO_NOTICE,)
    return () if found.has_chat_template else (NO_TEMPLATE_NOTICE,)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_words(parameters: int) -> str:
    """Return a number of parameters as people write it.

    >>> _in_words(134_515_008), _in_words(8_030_261_248)
    ('135M', '8.0B')
    """
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
