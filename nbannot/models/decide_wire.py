"""Decisions on the wire: typed questions in the two shapes that servers take, and what their answers amount to.

``systemone`` (TypeSafe's Jev, Fireworks, Upstage, OpenRouter, SGLang, llama.cpp and many local servers): ``state``,
questions and answers by name. ``decisions`` (OpenAI, Fireworks, gateways): ``input``, questions and answers in order.
Answers are read whatever the shape: by name where they have one, else by their place. Nothing is guessed from likeness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nbannot.asking.answers import folded
from nbannot.asking.decisions import as_system_one, decided, level_words
from nbannot.asking.reply_parts import shortened
from nbannot.asking.request_reply import Decision, Question
from nbannot.tools.json_bytes import packed

Shape = Literal["systemone", "decisions"]
KINDS = {"noul": "noul", "predicate": "noul", "choice": "choice", "score": "score"}
TWICE = object()
"""Stands for two answers to one question that are not the same."""


def questions_body(shape: Shape, model: str, questions: Sequence[Question]) -> bytes:
    """Return the beginning of a request: everything but the text, which `with_text` adds."""
    if shape == "systemone":
        body: dict[str, Any] = {"questions": {q.name: as_system_one(q) for q in questions}}
    else:
        body = {"questions": [as_openai(q) for q in questions]}
    return packed({"model": model, **body} if model else body)[:-1]


def with_text(shape: Shape, body: bytes, text: str) -> bytes:
    """Return a whole request."""
    key = b'"state":' if shape == "systemone" else b'"input":'
    return body + b"," + key + packed(text) + b"}"


def as_openai(question: Question) -> dict[str, Any]:
    """Return a question in OpenAI's form; what a yes and a no mean has no place of its own there.

    >>> as_openai(Question("S_A", "A", "noul", "Is it?", ("false", "true"), ("", "it is")))
    {'type': 'predicate', 'name': 'A', 'instructions': 'Is it?\\ntrue: it is'}
    """
    pairs = list(zip(question.options, question.descriptions, strict=True))
    form = {"type": "predicate", "name": question.name, "instructions": question.instructions}
    if question.kind == "noul":
        meant = [f"{name}: {text}" for name, text in pairs if text]
        return {**form, "instructions": "\n".join([question.instructions, *meant])}
    key, word = ("choices", "value") if question.kind == "choice" else ("levels", "label")
    listed = [{word: name, "description": text} if text else {word: name} for name, text in pairs]
    return {**form, "type": question.kind, key: listed}


# ---- answers -------------------------------------------------------------------------------------------------------


def read_answers(data: Mapping[str, Any], questions: Sequence[Question]) -> dict[str, Decision]:
    """Return column -> decision for every question that a reply answers; a question may be missing."""
    entries = _by_question(data.get("answers"), [question.name for question in questions])
    return {q.column: read_answer(q, entries[q.name]) for q in questions if q.name in entries}


def _by_question(answers: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the answers by the names of the questions, which a server may give back written another way."""
    if isinstance(answers, Sequence) and not isinstance(answers, str):
        named = [entry.get("name") if isinstance(entry, Mapping) else None for entry in answers]
        if len(answers) == len(names) and not any(named):
            return dict(zip(names, answers, strict=True))
        pairs = [(name, entry) for name, entry in zip(named, answers, strict=True) if isinstance(name, str)]
    elif isinstance(answers, Mapping):
        pairs = list(answers.items())
    else:
        return {}
    entries: dict[str, Any] = {}
    alike: dict[str, Any] = {}
    for given, entry in pairs:
        place = position(given, names)
        if place is not None:
            found = entries if given == names[place] else alike
            same = names[place] not in found or found[names[place]] == entry
            found[names[place]] = entry if same else TWICE
    return alike | entries


def position(given: Any, names: Sequence[str]) -> int | None:
    """Return which of the names is meant: exactly this one, else the only one that is the same when `folded`."""
    if not isinstance(given, str | int) or isinstance(given, bool):
        return None
    word = str(given)
    if word in names:
        return names.index(word)
    alike = [i for i, name in enumerate(names) if folded(name) == folded(word)]
    return alike[0] if len(alike) == 1 else None


def read_answer(question: Question, raw: Any) -> Decision:
    """Return the decision that one answer of a server amounts to."""
    if raw is TWICE:
        return Decision(problem="the reply answers this question twice, and not alike")
    if not isinstance(raw, Mapping):
        return Decision(problem=f"the answer is no object: {_shown(raw)}")
    if raw.get("type") == "refusal" or raw.get("refusal"):
        return Decision(refused=True)
    if raw.get("error"):
        return Decision(problem=f"the server could not answer this question: {_shown(raw['error'])}")
    kind = raw.get("type")
    if isinstance(kind, str) and KINDS.get(kind, question.kind) != question.kind:
        return Decision(problem=f"the answer is one to another question: a {shortened(kind, 40)}")
    if question.kind == "noul":
        return _yes_or_no(question, raw)
    details = {"score": raw.get("score"), "confidence": raw.get("confidence")}
    choice = position(raw.get("choice"), question.options)
    if question.kind == "choice" and choice is None and isinstance(raw.get("choice"), str):
        return Decision(problem=f"not an option: {_shown(raw['choice'])}")
    given = raw.get("probabilities")
    if not given:
        return decided(question, None, choice=choice, **details)
    shares = _told_elsewhere(question, raw) or _aligned(question, given)
    if isinstance(shares, str):
        return Decision(problem=shares)
    return decided(question, shares, choice=choice, **details)


def _yes_or_no(question: Question, raw: Mapping[str, Any]) -> Decision:
    yes = raw.get("noul", raw.get("probability"))
    if yes is None and isinstance(raw.get("probabilities"), Mapping):
        yes = raw["probabilities"].get("true")
    if yes is None:
        return Decision(problem="the reply has no probability of yes")
    usable = isinstance(yes, int | float) and not isinstance(yes, bool) and 0 <= yes <= 1
    if not usable:
        return Decision(problem=f"the probability of yes is {_shown(yes)}")
    return decided(question, [1.0 - float(yes), float(yes)], confidence=raw.get("confidence"))


def _told_elsewhere(question: Question, raw: Mapping[str, Any]) -> str:
    """Return what is wrong where the reply itself says that the levels of a scale have other places; "" if nothing is.

    System One tells them in a `legend` (place -> words), OpenAI's shape in the entries (`value` and `label`).
    """
    legend, listed = raw.get("legend"), raw.get("probabilities")
    if question.kind != "score":
        return ""
    pairs = list(legend.items()) if isinstance(legend, Mapping) else []
    if isinstance(legend, Sequence) and not isinstance(legend, str):
        pairs = list(enumerate(legend))
    if isinstance(listed, Sequence) and not isinstance(listed, str):
        entries = [entry for entry in listed if isinstance(entry, Mapping)]
        pairs = [(e["value"], e["label"]) for e in entries if "value" in e and "label" in e] or pairs
    numbers = [place for place, _ in pairs]
    if len(pairs) != len(question.options):
        return ""
    words = [
        level_words(option, text)
        for option, text in zip(question.options, question.descriptions, strict=True)
    ]
    for (number, name), place in zip(pairs, _places(question, numbers), strict=True):
        told = position(name, words)
        if told is not None and place is not None and told != place:
            return f"the reply says that level {_shown(number)} is {_shown(name)}, which was asked as another one"
    return ""


def _aligned(question: Question, given: Any) -> list[Any] | str:
    """Return the numbers in the order of the question's options, or why they cannot be told apart."""
    if isinstance(given, Mapping):
        if question.kind != "score" and tuple(given) == question.options:  # as nearly every server sends them
            return list(given.values())
        pairs = list(given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str):
        if all(isinstance(p, int | float) for p in given):
            return list(given)
        pairs = [_entry(entry) for entry in given]
    else:
        return f"the probabilities are {_shown(given)}"
    names, count = [name for name, _ in pairs], len(question.options)
    places = _places(question, names)
    if None in places:
        return f"the reply names an option that was not asked: {_shown(names[places.index(None)])}"
    if len(set(places)) < len(places):
        return "the reply names an option twice"
    missing = [question.options[i] for i in range(count) if i not in places]
    if missing:
        return f"the reply has no probability of {shortened(missing[0], 40)!r}"
    of_place = {place: share for place, (_, share) in zip(places, pairs, strict=True)}
    return [of_place[i] for i in range(count)]


def _entry(entry: Any) -> tuple[Any, Any]:
    if not isinstance(entry, Mapping):
        return None, None
    name = next(
        (entry[key] for key in ("value", "label", "option", "name") if entry.get(key) is not None), None
    )
    return name, entry.get("probability")


def _places(question: Question, names: Sequence[Any]) -> list[int | None]:
    """Return which options names mean; the levels of a scale are named by their place, their number or their words."""
    if question.kind != "score":
        return [position(name, question.options) for name in names]
    if {str(name) for name in names} == {str(i) for i in range(len(question.options))}:
        return [int(name) for name in names]
    pairs = zip(question.options, question.descriptions, strict=True)
    words = [level_words(option, text) for option, text in pairs]
    spelled = [position(name, words) for name in names]
    return [position(n, question.options) if s is None else s for n, s in zip(names, spelled, strict=True)]


def cut_off(data: Mapping[str, Any]) -> str:
    """Return what a reply says of having read only a part of the text; "" if it says nothing of it."""
    usage = data.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    dropped = usage.get("state_tokens_dropped")
    if isinstance(dropped, int) and not isinstance(dropped, bool) and dropped > 0:
        return f"the server left out {dropped:,} tokens of it"
    if usage.get("truncated") is True or data.get("truncated") is True:
        return "the server says that it left out a part of it"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return shortened(json.dumps(value, ensure_ascii=False, default=str))
