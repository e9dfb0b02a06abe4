"""The lock on the labels of a task's test half: what `Task` can do with the split of `nbannot.study.split`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast
from weakref import WeakValueDictionary

from nbannot.errors import TaskError, listed, nearest
from nbannot.study import split


class Closing(Protocol):
    """What holds labels in memory that a lock has to hide."""

    def close_test_half(self, output_root: str | Path = split.OUTPUTS) -> None:
        """Hide the labels of a test half that was locked since."""


OWN_LABELS = "_own_labels"
"""Marks a task whose human labels are not those of its folder."""
ALIVE: WeakValueDictionary[int, Closing] = WeakValueDictionary()
"""What was made in this session and holds labels, by `id`: a lock closes its test half in all of it."""


class Lockable:
    """Mixin of `Task`."""

    split_lock: split.Lock | None

    if TYPE_CHECKING:
        data: Any

        @property
        def ids(self) -> list[str]: ...

    @property
    def _task(self) -> Any:
        return self

    def lock(
        self,
        test: float = 0.5,
        *,
        by: str | None = None,
        stratify: str | Sequence[str] | None = None,
        seed: int = 1,
        output_root: str | Path = split.OUTPUTS,
    ) -> Self:
        """Split the texts into a dev and a test half, once for all, and hide the human labels of the test half.

        From here on the labels of the test half are blank wherever they could be read, runs are made on dev unless
        ``split="test"`` is asked for with a ``reason``, and every look at the test half is counted.

        Parameters
        ----------
        test
            Share of the texts in the test half, between 0 and 1.
        by
            Column of the data whose values stay together in one half (document, author, speaker); the task's
            `cluster` when left out, ``""`` for none.
        stratify
            Fields or columns that both halves shall have alike.
        seed
            Another one makes another split.
        output_root
            Where the split is kept if the task has no folder of its own: ``<output_root>/<task>/split.json``. Other
            sessions of this user find it by the texts, whatever folder they work in and whatever the task is called.

        Returns
        -------
        Task
            This task, which is changed in place.

        Raises
        ------
        TaskError
            If the task was locked in another way, is a part of a task, or a column does not exist.
        """
        task = self._task
        if task.__dict__.get("_is_part"):
            raise TaskError("only a whole task can be locked: this one holds some of its texts.")
        if not isinstance(test, int | float) or isinstance(test, bool) or not 0 < test < 1:
            raise TaskError(f"test must be a share between 0 and 1. Got {test!r}.")
        named = [] if stratify is None else [stratify] if isinstance(stratify, str) else list(stratify)
        alike = [self._column(name) for name in named]
        if by is None:
            by = task.cluster if self.split_lock is None else self.split_lock.settings.get("by")
        by = by or None
        wanted = {"test": test, "by": by, "stratify": alike, "seed": seed}
        if self.split_lock is not None:
            split.refuse_other_settings(self.split_lock, wanted)
            return self
        labelled = [any(cells) for cells in zip(*(task.data[c] for c in task.label_columns), strict=True)]
        columns = [list(task.data[name]) for name in alike]
        strata = [json.dumps(row) for row in zip(labelled or [False] * len(task), *columns, strict=True)]
        units = task.ids if by is None else list(task.data[self._column(by)])
        place = split.place_of(self._origin, task.name, output_root)
        split.put_signpost(place, task.name, output_root)
        new_lock = split.make_lock(
            place, task.ids, task.data, task.label_columns, wanted, units, strata, self.examples(),
            split.gone_splits(task.texts, task.label_columns),
        )  # fmt: skip
        if not split.enter(place, task.ids, task.texts, task.label_columns):
            task._reading_notices.append(
                "The split could not be entered in your data folder (NBANNOT_DATA names another one): a session in "
                "another working folder will not see that this task is locked."
            )
        object.__setattr__(self, "split_lock", new_lock)
        self._hide()
        for other in list(ALIVE.values()):
            other.close_test_half(output_root)
        return self

    def close_test_half(self, output_root: str | Path = split.OUTPUTS) -> None:
        """Hide the labels of a test half that was locked after this task was made, in this very session."""
        if self.split_lock is None:
            self.sealed(output_root)

    @property
    def _origin(self) -> Path | None:
        """The folder of the task, also where it does not read its labels from there."""
        folder: Path | None = self.__dict__.get("_folder", self._task.path)
        return folder

    def _find_lock(self, output_root: str | Path = split.OUTPUTS, *, by_name: bool = True) -> None:
        """Find the lock that was made of this task before: where a split of this name lies, else by its texts."""
        task = self._task
        for place in split.places_of(self._origin, task.name, output_root) if by_name else ():
            kept = split.find_lock(place, self.ids, self.data, task.label_columns)
            if kept is not None:
                split.enter(place, task.ids, task.texts, task.label_columns)
                object.__setattr__(self, "split_lock", kept)
                return
        found = split.find_lock_of_texts(task.ids, task.texts, task.data, task.label_columns)
        object.__setattr__(self, "split_lock", found)
        gone = split.gone_splits(task.texts, task.label_columns) if found is None and not task.rows else []
        if gone:
            looks = sum(int(one["looks"]) for one in gone)
            task._reading_notices.append(
                f"These texts had a locked split, made {gone[-1]['created'][:10] or 'before'} and consulted "
                f"{'once' if looks == 1 else f'{looks} times' if looks else 'never'}; its split.json is gone, so no "
                "label is hidden. Put the file back; a new task.lock() will say that there was another one."
            )

    def sealed(self, output_root: str | Path = split.OUTPUTS) -> Self:
        """Return this task, changed in place: the labels are hidden of a test half that was locked under its name."""
        if self.split_lock is None:
            self._find_lock(output_root)
        if self.split_lock is not None:
            self._hide()
        return self

    def _hide(self) -> None:
        self._seal()
        for name in ("_human", "_repaired", "_applies", "_test_ids", "notices"):
            self.__dict__.pop(name, None)
        self._task.read_labels()

    def _seal(self) -> None:
        """Blank the labels of a test half that is locked, so that nothing reads them."""
        if self.split_lock is not None:
            sealed = self.split_lock.sealed(self.data, self.ids, self._task.label_columns)
            object.__setattr__(self, "data", sealed)

    def _column(self, name: str) -> str:
        """Return the column that a field's or a column's name means."""
        columns = list(self.data.columns)
        known = {f.name: f.column for f in self._task.codebook if f.column in columns}
        if name not in columns and name not in known:
            raise TaskError(
                f"the data has no column '{name}'{nearest(name, [*columns, *known]) or '.'}\n"
                f"  Its columns: {listed(columns, 12)}."
            )
        return name if name in columns else known[name]

    def examples(self) -> set[str]:
        """Return the ids of texts that stand in the codebook as worked examples."""
        task = self._task
        shown = {example.text.strip() for f in task.codebook for example in f.examples} - {""}
        return {i for i, text in zip(task.ids, task.texts, strict=True) if text.strip() in shown}

    def opened(self, reason: str, run_id: str = "", config: str = "", metric: str = "all") -> Self:
        """Return the task with the human labels of its test half, and record the look in ``test_log.jsonl``.

        Raises
        ------
        TaskError
            If there is no reason, or the look cannot be recorded.
        """
        if self.split_lock is None or self.split_lock.opened:
            return self
        self.split_lock.note(reason, run_id, config, metric)
        return self._with_test_labels(self.split_lock)

    def as_opened_for(self, run_id: str) -> Self:
        """Return the task as it was opened for a run before; as it is if it never was."""
        lock = self.split_lock
        return (
            self if lock is None or lock.opened or not lock.look_of(run_id) else self._with_test_labels(lock)
        )

    def _with_test_labels(self, lock: split.Lock) -> Self:
        task = self._task
        rows = tuple(range(len(task))) if task.rows is None else task.rows
        data = lock.restored(task.data, task.ids)
        opened = replace(task, data=data, rows=rows, split_lock=lock.open())
        for name in ("_identified", "_reading_notices"):
            opened.__dict__[name] = getattr(task, name)
        for name in ("_is_part", OWN_LABELS):
            opened.__dict__[name] = task.__dict__.get(name, False)
        return cast(Self, opened)

    @cached_property
    def _test_ids(self) -> Collection[str]:
        return split.test_half(self.ids) if self.split_lock is None else self.split_lock.test_ids

    def lock_words(self) -> str:
        """Return which half of a locked split this is, and how often the test half was consulted; "" without a lock."""
        lock = self.split_lock
        if lock is None:
            return ""
        held = sum(i in lock.test_ids for i in self.ids)
        where = (
            "dev half"
            if not held
            else "test half"
            if held == len(self.ids)
            else f"{held:,} texts of the test half"
        )
        state = "" if not held or lock.opened else ", human labels hidden"
        return f"Locked split, {where}{state}: {lock.words}."
