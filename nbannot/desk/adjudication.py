"""Adjudication: the texts on which coders differ, answered blind first, then seen with the others, then decided.

The queue mixes in texts on which all agreed (else the labels would drift towards whoever is disputed), names are hidden
and shuffled, and a model is heard only where that was asked for, never before the first answer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.comparing.people import Labels, people_of_desks
from nbannot.desk.decisions import REASONS, Decision, decisions_in, proposals
from nbannot.desk.desk import Desk
from nbannot.desk.given import coder_name, context_columns, drawn
from nbannot.desk.labels import Key, row_of, said
from nbannot.errors import DeskError, listed
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.study_folder import ADJUDICATION, OUTPUT_ROOT, study_folder
from nbannot.study.task import Task
from nbannot.tools.files import seen_from_here
from nbannot.tools.frames import make_frame

LABELS = "adjudication.csv"
ONE_BY_ONE = 4
"""So many voices stand in a row each; more of them are counted."""
COLUMNS = ("text_id", "column", "first", "decision", "moved", "reason", "words", "disputed", "by", "time")


class Adjudication(Desk):
    """The desk of an adjudicator: a text is done when it is decided.

    Attributes
    ----------
    items
        The queue; which of its texts are disputed is not to be seen.
    """

    def __init__(self, task: Task, coder: str, folder: Path, items: Sequence[Key], voices: Mapping[str, Labels],
                 disputed: set[str], seed: int, **more: Any) -> None:  # fmt: skip
        self._voices, self._disputed, self._seed = voices, disputed, seed
        super().__init__(task, coder, folder / LABELS, folder / ADJUDICATION, items, **more)

    def voices(self, text_id: str) -> dict[str, list[Any]]:
        """Return what the others said of a text, column -> values in a shuffled order; only after the own answers.

        Raises
        ------
        DeskError
            If the text has no answer of the adjudicator's own yet.
        """
        key = self._key(text_id, 1)
        if self.open_fields(key):
            names = listed(self.task.codebook[column].name for column in self.open_fields(key))
            raise DeskError(
                f"answer text '{text_id}' first ({names}); the others' labels are shown afterwards."
            )
        if not self.coded(key).first:
            self._act({"action": "shown", "first": row_of(self.task.codebook, self.coded(key).values)}, key)
        return self._heard(text_id)

    def decide(self, text_id: str, reason: str = "", words: str = "") -> None:
        """Decide a text: the adjudicator's answers as they are now stand.

        Parameters
        ----------
        reason
            Why people differed: one of the reasons in `nbannot.desk.decisions.REASONS`, or a part that only one of
            them has. May be left out where nobody differed.
        words
            More on it, for the codebook.
        """
        key = self._key(text_id, 1)
        heard = self.voices(text_id)
        values = row_of(self.task.codebook, self.coded(key).values)
        meant = [r for r in REASONS if reason and reason.casefold() in r]
        whole = reason if reason in REASONS else meant[0] if len(meant) == 1 else None
        if whole is None and (reason or self._differs(heard, values)):
            which = f"\n  It could be {' or '.join(map(repr, meant))}." if meant else ""
            raise DeskError(f"reason must be one of {listed(REASONS)}. Got {reason!r}.{which}")
        first, disputed = self.coded(key).first, text_id in self._disputed
        record = {
            "first": first,
            "reason": whole or "",
            "words": words,
            "disputed": disputed,
            "voices": heard,
        }
        self._act({"action": "decide", "values": values, **record}, key)

    @property
    def frame(self) -> Any:
        """One row per decided text and field: first answer, decision, whether it moved, reason."""
        rows = [
            {"column": column, "first": d.first.get(column), "decision": d.values.get(column),
             "moved": column in d.moved, **{n: getattr(d, n) for n in ("text_id", *COLUMNS[5:])}}
            for d in self.decisions.values()
            for column in dict.fromkeys([*d.first, *d.values])
        ]  # fmt: skip
        return make_frame(rows, COLUMNS, as_they_are=["first", "decision"])

    @property
    def decisions(self) -> dict[str, Decision]:
        """Text id -> its last decision."""
        return decisions_in(self.log_path)

    @property
    def proposals(self) -> list[str]:
        """What the reasons suggest for the codebook, one sentence per field."""
        return proposals(self.decisions, {f.column: f.name for f in self.task.codebook})

    def settle(self, key: Key, reason: int | None) -> None:
        """Decide a text with the number of a reason."""
        self.decide(key.text_id, "" if reason is None else REASONS[reason])

    def after(self, key: Key) -> Mapping[str, Any] | None:
        """Return what the others said, and the reasons to choose from."""
        heard = self.voices(key.text_id)
        own = row_of(self.task.codebook, self.coded(key).values)
        tables = []
        for f in self.task.codebook:
            rows = [["you", said(f, own[f.column])]] if f.column in own else []
            rows += _in_rows([said(f, value) for value in heard.get(f.column, ())])
            if rows:
                tables.append({"title": f.name, "rows": rows, "words": ""})
        return {
            "tables": tables,
            "reasons": list(REASONS),
            "needs_reason": self._differs(heard, own),
            "hint": "A digit gives the reason, e changes your answer, Enter decides and goes on.",
        }

    def summary(self) -> str:
        """Return in one line how far the adjudication is."""
        place = seen_from_here(self.log_path)
        return f"{self.coder}: {self.done:,} of {len(self.items):,} texts decided; kept in {place}"

    def _finished(self, key: Key) -> bool:
        return self.coded(key).decided

    def _heard(self, text_id: str) -> dict[str, list[Any]]:
        names = sorted(self._voices)
        random.Random(f"nbannot-voices:{self._seed}:{text_id}").shuffle(names)
        heard: dict[str, list[Any]] = {}
        for name in names:
            for column, value in self._voices[name].get(text_id, {}).items():
                heard.setdefault(column, []).append(value)
        return heard

    def _differs(self, heard: Mapping[str, list[Any]], own: Mapping[str, Any]) -> bool:
        free = {f.column for f in self.task.codebook if f.type == "textbox"}
        return any(
            value != own.get(column)
            for column, values in heard.items()
            if column not in free
            for value in values
        )


def adjudicate(
    task: Task | str | Path | Any,
    adjudicator: str = "adjudicator",
    *,
    agreements: float = 0.25,
    coders: Sequence[str] | None = None,
    model: Any = None,
    context: bool | Sequence[str] = False,
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
    take_over: bool = False,
) -> Adjudication:
    """Open the desk of an adjudicator on the texts on which coders differ.

    Parameters
    ----------
    adjudicator
        Who decides; stands with every decision.
    agreements
        How many texts on which all agreed are mixed in, as a share of the disputed ones (from 0 to 1); at least one,
        unless it is 0.
    coders
        Only these people.
    model
        A run that is one of the voices, hidden among the others.
    context, output_root, take_over
        As in `nbannot.code`.
    seed
        Of the queue and of the order in which voices are shown.

    Raises
    ------
    ScoringError, DeskError
        If fewer than two people coded the task, or nobody differs.
    """
    task = as_task(task, RunConfig())
    if isinstance(agreements, bool) or not isinstance(agreements, int | float) or not 0 <= agreements <= 1:
        raise DeskError(f"agreements must be a share from 0 to 1. Got {agreements!r}.")
    name = coder_name(adjudicator)
    voices = people_of_desks(task, coders, output_root)
    if len(voices) < 2:
        raise DeskError(f"one coder alone, '{next(iter(voices))}', disagrees with nobody: two are needed.")
    if name in voices:
        raise DeskError(
            f"'{name}' is one of the coders, and would be judging their own labels.\n  Name another adjudicator."
        )
    disputed, agreed = _parted(task, voices)
    folder = study_folder(task, output_root)
    earlier = decisions_in(folder / ADJUDICATION)
    if not disputed and not earlier:
        raise DeskError(
            f"nobody disagrees: all texts of '{task.name}' with two coders or more have the same labels."
        )
    n_agreed = min(len(agreed), max(1, round(agreements * len(disputed)))) if agreements else 0
    mixed_in = random.Random(f"nbannot-agreed:{seed}").sample(sorted(agreed), n_agreed)
    ids = sorted({*disputed, *mixed_in, *(i for i in earlier if i in set(task.ids))},
                 key=lambda i: drawn(seed, name, i))  # fmt: skip
    heard = dict(voices)
    if model is not None:
        heard[f"model {model.run_id}"] = _labels_of(model)
    return Adjudication(task, name, folder, [Key(i) for i in ids], heard, disputed, seed,
                        context=context_columns(task, context), take_over=take_over)  # fmt: skip


def _parted(task: Task, voices: Mapping[str, Labels]) -> tuple[set[str], set[str]]:
    """Return the ids of the texts on which people differ, and of those on which two or more agree."""
    columns = [f.column for f in task.codebook if f.type != "textbox"]
    disputed, agreed = set(), set()
    for text_id in task.ids:
        rows = [row for labels in voices.values() if (row := labels.get(text_id))]
        said_of = [[row[column] for row in rows if column in row] for column in columns]
        if any(value != values[0] for values in said_of for value in values):
            disputed.add(text_id)
        elif any(len(values) > 1 for values in said_of):
            agreed.add(text_id)
    return disputed, agreed


def _labels_of(run: Any) -> Labels:
    """Return a run's valid answers as labels."""
    labels: Labels = {text_id: {} for text_id in run.task.ids}
    for column, answers in run.coding.answers.items():
        for text_id, answer in zip(run.task.ids, answers, strict=True):
            if answer.status == "ok":
                labels[text_id][column] = answer.value
    return labels


def _in_rows(voices: list[str]) -> list[list[str]]:
    """Return who said what, without names: a voice a row, or, of many, how many said the same, most of them first.

    >>> _in_rows(["no", "yes"])
    [['coder 1', 'no'], ['coder 2', 'yes']]
    >>> _in_rows(["no", "yes", "no", "no", "yes"])
    [['3 of 5 coders', 'no'], ['2 of 5 coders', 'yes']]
    """
    if len(voices) <= ONE_BY_ONE:
        return [[f"coder {n}", words] for n, words in enumerate(voices, start=1)]
    return [[f"{n} of {len(voices)} coders", words] for words, n in Counter(voices).most_common()]
