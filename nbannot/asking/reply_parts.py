"""What a raw reply is made of: what the model thinks aloud, what it says, and the JSON objects in what it says.

A draft in a thought is no answer. Thoughts stand between marks, of which every family of models has its own:
``<think>``, ``[THINK]``, ``<seed:think>``, ``<|begin_of_thought|>``, ``◁think▷``, the channels of harmony and others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

THINK = r"(?:ant)?think(?:ing|_fast|_faster)?|thoughts?|thought_process"
"""Names that one and the same thought may be opened and closed with."""

NAMES = (
    rf"(?:{THINK}|reason(?:ing)?(?:_content|_trace)?|rationale|reflect(?:ion|ing)?|analysis|scratch_?pad|"
    r"(?:inner_|internal_)?monologue|deliberation|chain_of_thought|cot|cot_budget_reflect|drafts?)"
)
MARK = re.compile(
    rf"<\|?(?:(?P<close4>end)|begin|start)(?:_of)?_(?P<name4>{NAMES})\|?>"
    rf"|<\|?(?P<close>/)?\|?(?:(?!no_)\w{{1,20}}[:|_])?(?P<name>{NAMES})(?:\s[^<>{{}}]{{0,80}})?(?P<alone>/)?\|?>"
    rf"|\[(?P<close2>/)?(?P<name2>{THINK}|reasoning)\]"
    rf"|◁(?P<close3>/)?(?P<name3>{NAMES})▷"
    r"|<(?P<close5>/)?(?P<name5>details)(?:\s[^<>{}]{0,80})?>"
    r"|<\|channel\|?>\s*(?P<channel>\w+)(?:\s*(?:<\|constrain\|>)?\s*\w*\s*<\|message\|>)?"
    r"|(?P<turn><\|(?:end|return|call|start)\|>|<channel\|>)"
    r"|(?P<granite>here(?: is|['’]s) my (?P<granite_name>thought process|response):)"
    r"|(?P<unused><unused9(?P<unused_number>[45])>)"
    r"|\{",
    re.IGNORECASE,
)
"""What parts a reply: where thinking aloud begins and ends, and the brace that may open the answer."""

BARE_HARMONY = re.compile(r"\s*analysis(?=\W|[A-Z])(?:(?!assistantfinal).)*assistantfinal", re.DOTALL)
"""Harmony as servers write it that leave out special tokens: ``analysis…assistantfinal{…}``."""

BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z]\w*[\s'’])")
"""The same, cut off before its end."""

OBJECT = re.compile(r"\{\s*[\"}]")
"""A brace that opens a JSON object."""

BRACE = re.compile("[{}]")

UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
"""What no table can hold: control characters and halves of surrogate pairs."""


@dataclass(slots=True)
class Parts:
    """The parts of one reply.

    Attributes
    ----------
    objects
        The whole JSON objects that the model says and that have one of the keys, in order.
    why
        Why there is none, or why none counts; "" where `objects` can be read.
    thoughts
        What stands between the marks of thinking, in order.
    said
        The rest.
    """

    objects: list[dict[str, Any]] = field(default_factory=list)
    why: str = ""
    thoughts: list[str] = field(default_factory=list)
    said: str = ""


SHORT = 200
"""Characters of a reply up to which what it says is kept: answers to closed questions say the same again and again."""


class SeveralAnswers(ValueError):
    """One object gives a key twice, with different values; its text is the reason."""


def parts_of(raw: str, keys: Sequence[str] = (), formats: Sequence[str] = ()) -> Parts:
    """Return the parts of a reply.

    Thinking may begin before the reply does, and end after it. An object that starts and is not whole ends the search,
    and braces that hold no JSON are passed over with all that is in them: what stands inside either is no answer.

    Parameters
    ----------
    keys
        What an answer is given under; objects without any of them are passed over.
    formats
        The prompt's own lines that show how an answer looks; a reply that quotes one has not answered with it.
    """
    if len(raw) > SHORT:
        return _Reader(raw.strip(), keys, formats).parts()
    return _parts_of_short(raw, tuple(keys), tuple(formats))


@lru_cache(maxsize=256)
def _parts_of_short(raw: str, keys: tuple[str, ...], formats: tuple[str, ...]) -> Parts:
    return _Reader(raw.strip(), keys, formats).parts()


def split_thinking(text: str) -> tuple[str | None, str]:
    """Return the thinking at the beginning of a reply, and the rest.

    It begins with a mark or, where the prompt has already opened it, with the reply. A reply that never ends its
    thinking is given back as it is.

    >>> split_thinking("<think>Hm.</think>{}"), split_thinking("Hm.[/THINK]{}"), split_thinking('{"a": "</think>"}')
    (('Hm.', '{}'), ('Hm.', '{}'), (None, '{"a": "</think>"}'))
    """
    if len(text) > SHORT:
        return _split_thinking(text)
    return _split_short(text)


def _split_thinking(text: str) -> tuple[str | None, str]:
    reader = _Reader(text, (), ())
    end = reader.end_of_first_thought()
    if not end:
        return None, text
    return "\n".join(text[a:b] for a, b in reader.thoughts).strip() or None, text[end:].lstrip()


_split_short = lru_cache(maxsize=256)(_split_thinking)


def thinking_in(raw: str) -> str:
    """Return what a reply thinks aloud: between marks of thinking, or under the answer's key ``reasoning``."""
    parts = parts_of(raw, ("reasoning",))
    reasons = [item["reasoning"] for item in parts.objects if isinstance(item["reasoning"], str)]
    return "\n".join([*parts.thoughts, *reasons])


class _Reader:
    """Reads one reply from its beginning to its end, once."""

    def __init__(self, text: str, keys: Sequence[str], formats: Sequence[str]) -> None:
        self.text, self.keys, self.formats = text, keys, formats
        self.found = Parts()
        self.open: list[str] = []
        self.said: list[tuple[int, int]] = []
        self.thoughts: list[tuple[int, int]] = []
        self.depths: Counter[str] = Counter()
        self.since = 0
        self.first_raw = ""
        self.final = self.searched = False

    def parts(self) -> Parts:
        text, parts, at = self.text, self.found, 0
        if bare := BARE_HARMONY.match(text):
            at = bare.end()
            self._end_thought(0, at)
        elif BARE_ANALYSIS.match(text):
            self._push("channel")
        while match := MARK.search(text, at):
            at = match.end()
            if match[0] != "{":
                self._mark(match)
            elif not self.open and not parts.why and not self.searched:
                at = self._brace(match.start())
        (self.thoughts if self.open else self.said).append((self.since, len(text)))
        parts.said = "\n".join(text[a:b] for a, b in self.said).strip()
        parts.thoughts = [thought for a, b in self.thoughts if (thought := text[a:b].strip())]
        if parts.why:
            parts.objects = []
        elif not parts.objects:
            parts.why = self._nothing()
        return parts

    def end_of_first_thought(self) -> int:
        """Return where the thinking ends with which the reply begins, or 0 if it does not begin so or never ends."""
        if bare := BARE_HARMONY.match(self.text):
            self._end_thought(0, bare.end())
            return bare.end()
        for match in MARK.finditer(self.text):
            if match[0] == "{" and not self.open:
                return 0
            if match[0] == "{":
                continue
            if not self.open and _opens(match) and self.text[: match.start()].strip():
                return 0
            self._mark(match)
            if self.thoughts and not self.open:
                return match.end()
        return 0

    # ---- marks --------------------------------------------------------------------------------------------------

    def _mark(self, match: re.Match[str]) -> None:
        """Take one mark of thinking into account."""
        if match["alone"]:
            return
        if match["channel"]:
            self._channel(match)
        elif match["turn"]:
            self._close("channel", match, known=True)
        elif _opens(match):
            self._open(_name(match), match)
        else:
            name = _name(match)
            self._close(name, match, known=name in ("granite", "details"))

    def _channel(self, match: re.Match[str]) -> None:
        """Take the beginning of a channel into account: only what is said in the final one is said to the reader."""
        if match["channel"].casefold() != "final":
            self._close("channel", match, known=True)
            self._open("channel", match)
        elif self.open:
            self.open.clear()
            self.depths.clear()
            self._end_thought(self.since, match.start(), match.end())
        elif not self.final:
            self._end_thought(0, match.start(), match.end())
        if match["channel"].casefold() == "final":
            self.final = True

    def _open(self, name: str, match: re.Match[str]) -> None:
        if not self.open:
            self.said.append((self.since, match.start()))
            self.since = match.end()
        self._push(name)

    def _push(self, name: str) -> None:
        self.open.append(name)
        self.depths[name] += 1

    def _close(self, name: str, match: re.Match[str], *, known: bool = False) -> None:
        """Close a thought and all that was opened inside it.

        Parameters
        ----------
        known
            Whether the mark says nothing where no such thought is open; else the reply began inside its thoughts.
        """
        if self.depths[name]:
            while self.open[-1] != name:
                self.depths[self.open.pop()] -= 1
            self.depths[self.open.pop()] -= 1
            if not self.open:
                self._end_thought(self.since, match.start(), match.end())
        elif not self.open and not known:
            self._end_thought(0, match.start(), match.end())

    def _end_thought(self, start: int, end: int, after: int | None = None) -> None:
        """Take the text from `start` to `end` as thought; from the very beginning, nothing has been said before."""
        if start == 0:
            self.said.clear()
            self.thoughts.clear()
            self.found.objects, self.found.why, self.first_raw = [], "", ""
            self.searched = False
        self.thoughts.append((start, end))
        self.since = end if after is None else after

    # ---- objects ------------------------------------------------------------------------------------------------

    def _brace(self, start: int) -> int:
        """Look at the brace at `start`, and return where the search goes on."""
        for line in self.formats:
            if self.text.startswith(line, start):
                return start + len(line)
        item, why, end = object_at(self.text, start)
        if item is not None and any(key in item for key in self.keys):
            self.found.objects.append(item)
            self.first_raw = self.first_raw or self.text[start:end]
        elif why and not self.found.objects:
            self.found.why = why
        elif why and self._second(start):
            self.found.why = (
                f"several answers: a second one begins and is not whole: {shortened(self.text[start:])!r}"
            )
        elif why:
            self.searched = True
        return end

    def _second(self, start: int) -> bool:
        """Return whether what breaks off at `start` is an answer other than the first."""
        rest = self.text[start:].rstrip("` \n")
        named = any(
            json.dumps(key, ensure_ascii=form)[:-1] in rest for key in self.keys for form in (True, False)
        )
        return named and not self.first_raw.startswith(rest)

    def _nothing(self) -> str:
        """Return why a reply in which no object broke off, and none had the key, holds no answer."""
        answer_text = self.found.said
        if not self.text:
            return "the reply is empty"
        if not answer_text:
            return "the reply ended with its thinking"
        if not self.keys or not OBJECT.search(answer_text):
            return _not_json(answer_text)
        if any(line in answer_text for line in self.formats):
            return "the reply repeats the format and gives no answer"
        return f"the answer has no key {self.keys[0]!r}: {shortened(answer_text)!r}"


def _name(match: re.Match[str]) -> str:
    """Return the name of a mark; that of all that mean thinking is the same."""
    if match["granite"]:
        return "granite"
    if match["unused"]:
        return "unused"
    name = next(match[group] for group in ("name", "name2", "name3", "name4", "name5") if match[group])
    return "think" if re.fullmatch(THINK, name, re.IGNORECASE) else name.casefold()


def _opens(match: re.Match[str]) -> bool:
    if match["channel"]:
        return match["channel"].casefold() != "final"
    if match["granite"]:
        return match["granite_name"].casefold() != "response"
    if match["unused"]:
        return match["unused_number"] == "4"
    return not match["turn"] and not any(
        match[group] for group in ("close", "close2", "close3", "close4", "close5", "alone")
    )


def object_at(text: str, start: int) -> tuple[dict[str, Any] | None, str, int]:
    """Return the object that begins at `start`, or ``None`` and why it is not whole, and where the search goes on.

    Raises nothing; an object that gives a key twice with different values is not whole.
    """
    if not OBJECT.match(text, start):
        end = _closing(text, start)
        return (None, "", end) if end else (None, _not_json(text), len(text))
    try:
        value, end = _DECODER.raw_decode(text, start)
    except SeveralAnswers as several:
        return None, str(several), len(text)
    except json.JSONDecodeError as error:  # up to where it fails all was JSON: a mark in there is in a string
        return (
            None,
            _not_json(text),
            len(text) if error.msg.startswith("Unterminated") else max(error.pos, start + 1),
        )
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists
        return None, _not_json(text), len(text)
    return value, "", end


def _not_json(said: str) -> str:
    return f"not JSON: {shortened(said)!r}"


def _closing(text: str, start: int) -> int:
    """Return where the brace that opens at `start` is closed again, or 0."""
    level = 0
    for match in BRACE.finditer(text, start):
        level += 1 if match[0] == "{" else -1
        if not level:
            return match.end()
    return 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members and (type(members[key]) is not type(value) or members[key] != value):
            raise SeveralAnswers(f"several answers: {shortened(key)!r} is given twice")
        members[key] = value
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_object, strict=False)


def shortened(text: str, length: int = 60) -> str:
    """Return the text on one line, cut after `length` characters; what cannot be written becomes �."""
    flat = " ".join(UNWRITABLE.sub("�", text[: 100 * length]).split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
