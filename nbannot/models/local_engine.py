"""A loaded local model: scores options, or writes JSON that cannot leave the schema; same question, same numbers."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nbannot.asking.request_reply import Reply, Request
from nbannot.models.gguf import Weights
from nbannot.models.local_port import STATES_PREFIX, Completion, Port, ServerError, States, state_name
from nbannot.models.local_prompts import (
    Tokens,
    branchings,
    common_start,
    cut_places,
    message_places,
    system_folded,
    transcript,
)
from nbannot.models.local_slots import KeptPrefixes, Slot
from nbannot.models.local_start import engine_build, started

LOADED_AT_ONCE = 2
OPTION_BIAS = 100.0
"""Added to the options' logits alike: it lifts them above all other tokens and leaves their ratios as they were."""
LEAST_SHARE = 1e-30
"""Stands for a probability that was too small to be told, of which a logarithm is taken later."""
COMPACT_JSON = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}

LOADED: OrderedDict[tuple[object, ...], LocalEngine] = OrderedDict()
_LOADING = threading.Lock()


def loaded_engine(weights: Weights, context_size: int, threads: int, at_once: int = 1) -> LocalEngine:
    """Return the engine for these weights and settings, loaded once in a process; count one more user.

    At most `LOADED_AT_ONCE` engines that nobody uses are kept.
    """
    key = (os.getpid(), weights.path, weights.digest, context_size, threads, at_once)
    with _LOADING:
        engine = LOADED.get(key)
        if engine is None:
            idle = [known for known, other in LOADED.items() if other.users == 0]
            for known in idle[: len(LOADED) + 1 - LOADED_AT_ONCE]:
                LOADED.pop(known).unload()
            engine = LOADED[key] = LocalEngine(weights, context_size, threads, at_once)
        LOADED.move_to_end(key)
        engine.users += 1
    return engine


class StoppedError(Exception):
    """The request was cancelled."""


class ReadAgainError(Exception):
    """The model did not go on from what it held: it cannot forget a part of what it has read."""


class TooLongError(Exception):
    """The prompt is longer than the context."""


@dataclass(slots=True)
class Work:
    """One request being worked on: whether to stop, where it is read, how many prompt tokens it has cost so far."""

    stop: threading.Event
    slot: Slot | None = None
    evaluated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
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
    lasting
        How many tokens are instructions and codebook alone, and may be kept between sessions; 0 for none.
    by_text
        Whether the last cut is behind the text that the request is about.
    """

    body: Tokens
    tail: str
    tokens: Tokens
    cuts: tuple[int, ...]
    lasting: int = 0
    by_text: bool = False


class LocalEngine:
    """A loaded model. Each of its `worker` threads does one request at a time."""

    def __init__(self, weights: Weights, context_size: int, threads: int, at_once: int = 1) -> None:
        self.users = 0
        self.context_size = context_size
        self._folder = tempfile.TemporaryDirectory(prefix=STATES_PREFIX, ignore_cleanup_errors=True)
        self._states = States(Path(self._folder.name))
        key = secrets.token_urlsafe(24)
        self._server: Any = started(weights, context_size, threads, at_once, key, self._folder.name)
        self._port = Port(self._server.listening_address, key)
        self._tokens = lru_cache(1024)(self._port.tokens)
        self._has_template = weights.has_chat_template
        self._takes_system = self._port.takes_system_messages()
        self._kept = KeptPrefixes(weights.digest, f"{engine_build()}|{at_once}")
        self._goes_on = True
        self._disk = threading.RLock()
        self._slots = [Slot(number) for number in range(at_once)]
        self.at_once = at_once if at_once == 1 or self._same_in_company() else 1
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self._slots[: self.at_once]:
            self._free.put(slot)
        self.worker = ThreadPoolExecutor(self.at_once, thread_name_prefix="nbannot-local")
        self._control = re.compile("|".join(map(re.escape, weights.control_tokens)) or r"(?!)")

    def unload(self) -> None:
        """Free the memory; nobody may be using the engine."""
        self.worker.shutdown(wait=True)
        self._server = None
        self._folder.cleanup()

    def reply(self, request: Request, stop: threading.Event) -> Reply:
        """Return the reply to one request, whatever happens; called in the worker thread."""
        start = time.perf_counter()
        work = Work(stop, self._free.get())
        try:
            prompt = self._prompt(request)
            try:
                reply = self._answer(request, prompt, work)
            except ReadAgainError:
                reply = self._answer(request, prompt, work)
        except TooLongError as error:
            reply = Reply(error=f"text does not fit: {error}", finish_reason="context")
        except StoppedError:
            reply = Reply(error="cancelled", retriable=True, finish_reason="cancelled")
        except (ServerError, RuntimeError, OSError, ValueError, LookupError, HTTPException) as error:
            reply = Reply(
                error=f"the local model failed: {error or type(error).__name__}", finish_reason="error"
            )
        finally:
            if work.slot is not None:
                self._free.put(work.slot)
        seconds = time.perf_counter() - start
        return replace(reply, evaluated_tokens=work.evaluated_tokens, seconds=seconds)

    # --- answering

    def _answer(self, request: Request, prompt: TokenisedPrompt, work: Work) -> Reply:
        scored = request.answer_mode == "score" and request.options
        return self._score(request, prompt, work) if scored else self._generate(request, prompt, work)

    def _score(self, request: Request, prompt: TokenisedPrompt, work: Work) -> Reply:
        """Return the most probable option and the probability of each.

        The options' tokens form a tree. At every branching the model's distribution over the next token is kept to
        the tokens with which some option goes on; an option's probability is the product along its path. That is
        the probability that the model, sampling at temperature 1 and kept to the options, writes this option. Long
        options are not compensated for their length. The distribution at a branching is exact however improbable
        the options are (their log-odds are raised together, so that no other token is among the best); nothing is
        cut off, and no share is below 1e-30.
        """
        replies = [self._tokens(prompt.tail + option, not prompt.body) for option in request.options]
        counted = len(prompt.body) + len(common_start(replies))
        self._check_length(len(prompt.body) + max(len(reply) for reply in replies), prompt)
        shares = [1.0] * len(replies)
        for path, branches in branchings(replies):
            tokens = prompt.body + path
            is_first = len(tokens) == counted
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
            input_tokens=counted,
            output_tokens=len(prompt.body) + len(replies[best]) - counted,
        )

    def _next(self, tokens: Tokens, candidates: list[int], reuse: bool, work: Work) -> dict[int, float]:
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
        probabilities = {entry["id"]: entry["prob"] for entry in done.top}
        if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in probabilities.values()):
            raise ServerError("llama.cpp told numbers that are no probabilities")
        shares = {token: max(probabilities.get(token, 0.0), LEAST_SHARE) for token in candidates}
        total = sum(shares.values())
        return {token: share / total for token, share in shares.items()}

    def _generate(self, request: Request, prompt: TokenisedPrompt, work: Work) -> Reply:
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

    def _check_length(self, length: int, prompt: TokenisedPrompt) -> None:
        if length > self.context_size:
            raise TooLongError(
                f"{len(prompt.tokens)} tokens and the answer, of {self.context_size} (context_size); "
                "choose a larger context_size, fewer examples or a shorter text"
            )

    def _complete(self, tokens: Tokens, work: Work, **settings: Any) -> Completion:
        """Return what llama.cpp does with these tokens; stops within a batch or a token when told to."""
        done = Completion()
        slot = self._slot(work)
        trusted, cuts = slot.trusted, slot.cuts if settings.get("cache_prompt") else ()
        slot.holds((), ())

        def take(chunk: dict[str, Any]) -> bool:
            done.add(chunk)
            return work.stop.is_set()

        if not work.stop.is_set():
            payload = {
                "prompt": list(tokens),
                "id_slot": slot.number,
                "stream": True,
                "return_progress": True,
                **settings,
            }
            self._server.handle_completions(payload, take)
        work.evaluated_tokens += done.evaluated_tokens
        if work.stop.is_set():
            raise StoppedError
        if done.error:
            raise ServerError(done.error)
        if trusted and done.evaluated_tokens > len(tokens) - trusted:
            self._goes_on = False
            raise ReadAgainError
        slot.holds(tokens, tuple(cut for cut in cuts if cut <= len(tokens)))
        return done

    def _slot(self, work: Work) -> Slot:
        return work.slot if work.slot is not None else self._slots[0]

    def _same_in_company(self) -> bool:
        """Try whether prompts that are read together get the numbers that each gets alone, to the bit.

        It depends on how the weights are stored and on the processor whether they do.
        """
        fox = "The quick brown fox jumps over the lazy dog while nine wizards play chess. "
        words = self._tokens(fox * 4, True)
        prompts = [words[: 7 + 13 * slot.number % (len(words) - 7)] for slot in self._slots]
        candidates = list(dict.fromkeys(words))[:8]

        def read(slot: Slot, tokens: Tokens) -> dict[int, float]:
            return self._next(tokens, candidates, False, Work(threading.Event(), slot))

        alone = [read(self._slots[0], tokens) for tokens in prompts]
        with ThreadPoolExecutor(len(self._slots)) as company:
            return list(company.map(read, self._slots, prompts)) == alone

    # --- prompts

    def _prompt(self, request: Request) -> TokenisedPrompt:
        messages, shared, by_text = list(request.messages), request.shared, request.shared_by_text
        if not self._takes_system:
            messages, shared = system_folded(messages, shared)
            by_text += shared - request.shared if by_text else 0
        text = self._port.templated(messages) if self._has_template else transcript(messages)
        places = message_places(text, messages)
        literal = [span for place in places for span in self._control_spellings(text, place)]
        control = [match.start() for match in self._control.finditer(text, places[-1][1] if places else 0)]
        split = control[-1] if control else 0
        body = self._encoded(text[:split], literal) if split else ()
        tokens = body + self._tokens(text[split:], not body)
        cuts = []
        for cut in cut_places(messages, places, shared, by_text):
            before = self._encoded(text[:cut], literal)
            cuts.append(len(common_start([before, tokens])))
        alone = len(messages) == 1 or [message["role"] for message in messages[:-1]] == ["system"]
        lasting = cuts[0] if cuts and alone and shared else 0
        return TokenisedPrompt(
            body, text[split:], tokens, tuple(sorted(set(cuts) - {0})), lasting, bool(by_text and places)
        )

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

    def _to_last_cut(self, tokens: Tokens, prompt: TokenisedPrompt, work: Work) -> bool:
        """Bring the model to its state after the last cut before the end of `tokens`; ``False`` if there is none.

        The parts between the cuts are evaluated one by one, from the last cut whose state is saved.
        """
        cuts = [cut for cut in prompt.cuts if cut < len(tokens) and tokens[:cut] == prompt.tokens[:cut]]
        slot = self._slot(work)
        reached = self._reached(tokens, cuts, prompt, slot)
        for number in range(reached, len(cuts)):
            self._complete(tokens[: cuts[number]], work, n_predict=0, cache_prompt=number > 0)
            slot.holds(tokens[: cuts[number]], tuple(cuts[: number + 1]))
            of_a_text = (
                prompt.by_text and number == len(cuts) - 1
            )  # gone on from, and read again where it cannot be
            if number >= len(cuts) - 2 and not of_a_text:
                self._save(tokens, cuts[: number + 1], prompt, slot)
        return bool(cuts)

    def _reached(self, tokens: Tokens, cuts: list[int], prompt: TokenisedPrompt, slot: Slot) -> int:
        """Return how many cuts the slot has behind it, having put back the furthest saved state if need be."""
        for number in range(len(cuts), 0, -1):
            name, cut = state_name(tokens, cuts[:number]), cuts[number - 1]
            self._states.has(name)  # it counts as used
            if self._goes_on and slot.goes_on_from(tokens, cuts[:number]):
                slot.trusted = cut
                return number
            with self._disk:
                there = self._states.has(name)
                if not there and cut == prompt.lasting and self._kept.fetch(name, self._states.path(name)):
                    self._states.keep(name, self._states.path(name).stat().st_size, whole=True)
                    there = self._states.has(name)
                if there:
                    if self._port.state("restore", name, slot.number).get("n_restored") == cut:
                        slot.holds(tokens[:cut], tuple(cuts[:number]))
                        return number
                    self._states.drop(name)
                    slot.holds((), ())
        return 0

    def _save(self, tokens: Tokens, cuts: list[int], prompt: TokenisedPrompt, slot: Slot) -> None:
        name = state_name(tokens, cuts)
        with self._disk:  # slots that read the same beginning at once would write over each other
            if self._states.has(name):
                return
            saved = self._port.state("save", name, slot.number)
            self._states.keep(name, int(saved.get("n_written", 0)), whole=saved.get("n_saved") == cuts[-1])
            if cuts[-1] == prompt.lasting and self._states.has(name):
                self._kept.keep(name, self._states.path(name))
