"""Prompts of local models: as text, where they are cut, and the tree that the tokens of several replies form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbannot.asking.request_reply import Message

Tokens = tuple[int, ...]


def transcript(messages: Sequence[Message]) -> str:
    """Return the messages as plain text, for models without a chat template.

    >>> transcript([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'Be brief.\\n\\nUser: Hello\\n\\nAssistant:\\n'
    """
    names = {"system": "", "user": "User: ", "assistant": "Assistant:\n"}
    turns = [f"{names[message['role']]}{message['content']}" for message in messages]
    return "\n\n".join([*turns, "Assistant:\n"])


def system_folded(messages: list[Message], shared: int) -> tuple[list[Message], int]:
    """Return the messages with the system message at the head of the next one, and `shared` counted anew."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages, shared
    head = f"{messages[0]['content']}\n\n"
    first = {"role": messages[1]["role"], "content": head + messages[1]["content"]}
    return [first, *messages[2:]], shared + (len(head) if len(messages) == 2 else 0)


def message_places(text: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
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


def cut_places(
    messages: Sequence[Message], places: Sequence[tuple[int, int]], shared: int, shared_by_text: int = 0
) -> list[int]:
    """Return where to cut the text: after each answer, where the shared part ends, and where one text's does."""
    if not places:
        return []
    after_answers = [
        end for message, (_, end) in zip(messages, places, strict=True) if message["role"] == "assistant"
    ]
    last = messages[-1]["content"]
    stripped = len(last) - len(last.lstrip())
    start, end = places[-1]
    ends = [shared, shared_by_text] if shared_by_text else [shared]
    return [*after_answers, *(min(end, start + max(0, length - stripped)) for length in ends)]


def common_start(sequences: Sequence[Tokens]) -> Tokens:
    """Return the longest beginning that all sequences share.

    >>> common_start([(1, 2, 3), (1, 2, 4)])
    (1, 2)
    """
    first, last = min(sequences), max(sequences)
    for at, token in enumerate(first):
        if token != last[at]:
            return first[:at]
    return first


def branchings(sequences: Sequence[Tokens]) -> Iterator[tuple[Tokens, dict[int, list[int]]]]:
    """Yield every branching of the tree of the sequences: the path to it, and which go on with which token.

    Depth first, so that a path comes right after the one it goes on from. Sequences are numbered from 0.

    >>> list(branchings([(7, 1, 9), (7, 2, 9), (7, 2, 8)]))
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
