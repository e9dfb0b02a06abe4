"""The order of work in `per_query`, and the calibration of scored answers that it waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nbannot.asking.answers import Answer, batch_offset
from nbannot.asking.decisions import calibrated_answer
from nbannot.asking.ledger import Ledger
from nbannot.asking.prompts import Prompt
from nbannot.asking.request_reply import Reply
from nbannot.engine.job import Job
from nbannot.study.field import Field

CALIBRATION_TEXTS = 32
"""Answers from which the calibration of a field is taken, before any of its labels stands; with fewer there is none."""


class Sheet(Protocol):
    """The answers so far and where they go: what a schedule needs of the engine."""

    job: Job
    ledger: Ledger
    answers: dict[str, list[Answer | None]]
    offsets: dict[str, tuple[float, ...]]

    def settle(self, row: int, group: Sequence[Field]) -> tuple[Field, ...]:
        """Return the fields of the group that are to be asked of a text; give the others their status."""
        ...

    def put(self, row: int, answer: Answer) -> None:
        """Take an answer into the sheet."""
        ...

    def prompt(self, group: Sequence[Field]) -> Prompt:
        """Return the prompt for these fields."""
        ...

    def changes_model(self, deciding: bool) -> None:
        """Hear that from now on the decision model is asked, or the text model."""
        ...


class Schedule:
    """Which question goes next in `per_query`: ready ones, earliest question first, over all texts."""

    def __init__(self, engine: Sheet) -> None:
        self.engine = engine
        self.groups = engine.job.groups
        n = len(engine.job.ids)
        of_column = {f.column: number for number, group in enumerate(self.groups) for f in group}
        self.parents: list[set[int]] = [
            {of_column[f.condition.column] for f in group if f.condition and f.condition.column in of_column}
            for group in self.groups
        ]
        self.children = [[c for c, ps in enumerate(self.parents) if g in ps] for g in range(len(self.groups))]
        self.ready: list[deque[int]] = [deque() for _ in self.groups]
        self.asked: dict[tuple[int, int], tuple[Field, ...]] = {}
        self.open = [n] * len(self.groups)
        self.pilots: dict[int, Pilot] = {}
        self.news = asyncio.Event()
        self.out = 0
        self.parked: list[tuple[int, int]] = []
        asked_by = [bool(engine.prompt(group).questions) for group in self.groups]
        self.two_models = bool(engine.job.config.text_model) and True in asked_by and False in asked_by
        self.deciding: bool | None = None
        frozen = {n["calibration"]: tuple(n["offset"]) for n in engine.ledger.notes if n.get("frozen")}
        for number, group in enumerate(self.groups):
            prompt = engine.prompt(group)
            if engine.job.calibrated and (prompt.options or prompt.endings or len(prompt.questions) == 1):
                settled = {f.column: frozen[f.column] for f in group if f.column in frozen}
                if not settled:
                    self.pilots[number] = Pilot(group)
                elif offsets := {column: offset for column, offset in settled.items() if offset}:
                    # Fixed on other texts before: a corpus is asked about block by block.
                    self.pilots[number] = Pilot(group, offsets=offsets, started=True)
                    engine.offsets.update(offsets)
        for number in range(len(self.groups)):
            if not self.parents[number]:
                for row in range(n):
                    if not self.reach(number, row):
                        self.closed(number, row)

    async def next(self) -> tuple[Schedule, int, int] | None:
        """Return the next question, waiting for answers it depends on; ``None`` when all have been handed out."""
        while True:
            for number in self._at_hand():
                if rows := self.ready[number]:
                    self.out += 1
                    return self, number, rows.popleft()
            if self.out == 0:
                self.news.set()
                return None
            self.news.clear()
            await self.news.wait()

    def _at_hand(self) -> Sequence[int]:
        """Return the groups that may be asked now, in order: where two models answer, those of one after the other.

        So that what each has used can be told apart; a decision model goes first, and is done before the other begins.
        """
        if not self.two_models:
            return range(len(self.groups))
        there = [number for number, rows in enumerate(self.ready) if rows]
        decided = [number for number in there if self.engine.prompt(self.groups[number]).questions]
        wanted = bool(decided)
        if there and self.out == 0 and wanted != self.deciding:
            self.deciding = wanted
            self.engine.changes_model(self.deciding)
        return [number for number in there if (number in decided) == self.deciding]

    def applicable(self, number: int, row: int) -> tuple[Field, ...]:
        """Return the fields of the group that are asked of this text."""
        return self.asked.pop((number, row), self.groups[number])

    def reach(self, number: int, row: int) -> bool:
        """A text has come to a group: all it depends on is known. Return whether anything is asked of it."""
        group = self.groups[number]
        fields = self.engine.settle(row, group)
        if not fields:
            return False
        if len(fields) < len(group):
            self.asked[number, row] = fields
        pilot = self.pilots.get(number)
        if pilot is None or pilot.offsets:
            self.ready[number].append(row)
        else:
            pilot.waiting.append(row)
            self.start_pilot(number)
        return True

    def start_pilot(self, number: int) -> None:
        """Start calibrating the fields of a group once it is known to which texts they apply."""
        pilot = self.pilots[number]
        decided = all(self.open[parent] == 0 for parent in self.parents[number])
        reached = len(pilot.waiting) + (len(self.engine.job.ids) - self.open[number])
        if pilot.started or not decided or reached < len(self.engine.job.ids):
            return
        pilot.started = True
        pilot.waiting.sort()
        for f in self.groups[number]:
            asked = [row for row in pilot.waiting if f in self.asked.get((number, row), self.groups[number])]
            if len(asked) >= CALIBRATION_TEXTS:
                pilot.of[f.column] = asked[:CALIBRATION_TEXTS]
        pilot.rows = sorted({row for rows in pilot.of.values() for row in rows})
        if pilot.rows:
            self.ready[number].extend(pilot.rows)
        else:
            self.ready[number].extend(pilot.waiting)
            del self.pilots[number]
        self.news.set()

    def answered(self, number: int, row: int, answers: dict[str, Answer], reply: Reply) -> None:
        """Take the answers of one call, and what now becomes possible."""
        self.out -= 1
        pilot = self.pilots.get(number)
        if pilot is None:
            self.take(number, row, answers)
        elif pilot.offsets:
            self.take(number, row, self.calibrated(pilot, answers))
        else:
            pilot.found[row] = answers
            if len(pilot.found) == len(pilot.rows):
                self.freeze(number)
        self.news.set()

    def freeze(self, number: int) -> None:
        """Fix the calibration from the pilot texts, then let the other texts go."""
        pilot = self.pilots[number]
        for f in pilot.fields:
            if f.column in pilot.of:
                self.measure(f, pilot)
        for row in pilot.rows:
            self.take(number, row, self.calibrated(pilot, pilot.found.pop(row)))
        begun = set(pilot.rows)
        self.ready[number].extend(row for row in pilot.waiting if row not in begun)

    def measure(self, f: Field, pilot: Pilot) -> None:
        """Fix the calibration of one field, and write it down."""
        rows = pilot.of[f.column]
        known = [pilot.found[row][f.column].probabilities for row in rows]
        offset = batch_offset([p for p in known if p]) if any(known) else tuple(0.0 for _ in f.labels)
        pilot.offsets[f.column] = self.engine.offsets[f.column] = offset
        note: dict[str, Any] = {
            "calibration": f.column,
            "labels": list(f.labels),
            "offset": list(offset),
            "text_ids": [self.engine.job.ids[row] for row in rows],
        }
        if note not in self.engine.ledger.notes:
            self.engine.ledger.note(**note)

    def calibrated(self, pilot: Pilot, answers: dict[str, Answer]) -> dict[str, Answer]:
        """Return the answers of one text with the calibration of their fields."""
        return {
            f.column: calibrated_answer(
                f, answers[f.column], pilot.offsets.get(f.column), self.engine.job.reading
            )
            for f in pilot.fields
            if f.column in answers
        }

    def park(self, number: int, row: int, group: Sequence[Field]) -> None:
        """Put a question aside whose answer comes later; see `resume`."""
        if len(group) < len(self.groups[number]):
            self.asked[number, row] = tuple(group)
        self.parked.append((number, row))
        self.lost()

    def resume(self) -> None:
        """Take up again what was put aside."""
        parked, self.parked = sorted(self.parked), []
        for number, row in parked:
            self.ready[number].append(row)

    def lost(self) -> None:
        """A question came to no answer: whoever waits for one must look again."""
        self.out -= 1
        self.news.set()

    def take(self, number: int, row: int, answers: dict[str, Answer]) -> None:
        for answer in answers.values():
            self.engine.put(row, answer)
        self.closed(number, row)

    def closed(self, number: int, row: int) -> None:
        """A group is done with a text: reach the groups that depend on it."""
        self.open[number] -= 1
        # Depth first as a recursion would go, which chains of a thousand conditions would break.
        path = [(number, iter(self.children[number]))]
        while path:
            group, children = path[-1]
            for child in children:
                if self.known(child, row) and not self.reach(child, row):
                    self.open[child] -= 1
                    path.append((child, iter(self.children[child])))
                    break
            else:
                path.pop()
                for pilot in (group, *self.children[group]):
                    if pilot in self.pilots:
                        self.start_pilot(pilot)

    def known(self, number: int, row: int) -> bool:
        """Return whether everything is known of a text that a group depends on."""
        parents = (f for parent in self.parents[number] for f in self.groups[parent])
        return all(self.engine.answers[f.column][row] is not None for f in parents)


@dataclass
class Pilot:
    """The calibration of the fields of one call.

    Attributes
    ----------
    waiting, rows
        The texts that wait for it, and those that go first: of each field the first 32 to which it applies.
    of, offsets
        column -> the texts it is measured on, and its offset once fixed; a field of fewer texts has neither.
    """

    fields: tuple[Field, ...]
    waiting: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    found: dict[int, dict[str, Answer]] = field(default_factory=dict)
    of: dict[str, list[int]] = field(default_factory=dict)
    offsets: dict[str, tuple[float, ...]] = field(default_factory=dict)
    started: bool = False
