"""The desk of one coder: texts one after the other, answers that are on disk before they count.

The log is the truth (`nbannot.desk.log`); the CSV is made whole from it after every answer and is what `load_coder`
reads. A session knows no browser: the desk in the notebook (`nbannot.desk.widget`) sends it the same calls as a script.
"""

from __future__ import annotations

import statistics
import unicodedata
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.desk import changes
from nbannot.desk.kept_csv import KeptCsv, import_csv
from nbannot.desk.labels import (
    Coded,
    Key,
    Ledger,
    applicable,
    question_hash,
    row_of,
    text_hash,
    value_given,
)
from nbannot.desk.log import Log, who_opens
from nbannot.errors import DeskError, RunError, listed, nearest
from nbannot.report.words import plural
from nbannot.study.study_folder import ASSIGNMENT
from nbannot.study.task import Task
from nbannot.tools.files import seen_from_here
from nbannot.tools.frames import make_frame

_open_here: weakref.WeakValueDictionary[Path, Session] = weakref.WeakValueDictionary()
"""The desks of this process by their log: opening one again closes the one before."""


class Session:
    """A coder's desk; made by `nbannot.code`.

    Attributes
    ----------
    task, coder
        What is coded, and by whom.
    items
        The codings to be made, in the coder's own order: text id and which time the text is coded.
    path, log_path
        The labels as CSV, and the log that they are made from.
    notices
        What changed since the last session, one sentence each.
    trouble
        What is wrong with the files at the moment, "" if nothing is.
    """

    def __init__(
        self,
        task: Task,
        coder: str,
        path: Path,
        log_path: Path,
        items: Sequence[Key],
        *,
        context: Sequence[str] = (),
        take_over: bool = False,
    ) -> None:
        self.task, self.coder, self.path, self.log_path = task, coder, path, log_path
        self.items, self.context = list(items), list(context)
        self.trouble = ""
        self._texts = dict(zip(task.ids, task.texts, strict=True))
        self._row_numbers = {text_id: row for row, text_id in enumerate(task.ids)}
        self._given = set(items)
        earlier = _open_here.get(log_path)
        if earlier is not None:
            earlier.close(f"the desk of '{coder}' was opened again; go on there. This answer is not kept.")
        self._log = Log(log_path, f"'{coder}'", take_over=take_over)
        try:
            self._start()
        except BaseException:
            self._log.close("")
            raise
        _open_here[log_path] = self

    def _start(self) -> None:
        self._ledger = Ledger(self._log.lines)
        imported, notices = import_csv(self.task, self.path, self._ledger)
        lost = changes.open_again(self.task, self._ledger, self._texts)
        self.stale = changes.stale_labels(self.task, self._ledger, self._texts)
        self.notices = [*notices, *changes.told(self.task, self._ledger, self.items, self.stale, lost)]
        if self._log.unread:
            numbers = listed(self._log.unread)
            self.notices.append(
                f"{self.log_path.name}: line {numbers} cannot be read; a crash cut it off, or it was damaged."
            )
        questions = changes.described(self.task)
        self._append({**who_opens(), "coder": self.coder, "codebook": self.task.codebook.hash,
                      "questions": questions, "texts": len(self.items)})  # fmt: skip
        for line in imported:
            self._append(line)
        self._log.lines.clear()
        self._done = {key for key in self.items if self._finished(key)}
        self._csv = KeptCsv(self.task, self.path)
        self._csv.begin(self._rows())
        self._write_csv()

    # ---- answers ------------------------------------------------------------------------------------------------

    def answer(
        self, text_id: str, column: str, value: Any, *, repeat: int = 1, seconds: float | None = None
    ) -> None:
        """Keep an answer: it is on disk when this returns.

        Parameters
        ----------
        text_id, column
            The text and the field (column or name).
        value
            What the field takes; spans are a list of ``{"start", "end", "label"}`` in code points of the text, ``[]``
            for nothing found; a textbox takes "" for nothing to write. ``None`` takes an answer back.
        repeat
            Which time the text is coded, where it was assigned twice.
        seconds
            Time since the last action on this text, if it was measured.

        Raises
        ------
        DeskError
            If the field cannot take the value, does not apply, the text is not one of this coder's, or the answer
            cannot be kept.
        """
        key = self._key(text_id, repeat)
        f = self.task.codebook[column]
        coded = self._ledger.of(key)
        kept = value_given(f, self._texts[key.text_id], value)
        if kept is not None and not self.task.codebook.applies(f, coded.values):
            parent = self.task.codebook[f.condition.column] if f.condition else f
            wanted = f.condition.value if f.condition else ""
            raise DeskError(
                f"'{f.name}' does not apply to text '{text_id}': it is asked where '{parent.name}' is {wanted!r}.\n"
                f"  Answer '{parent.name}' first, or leave '{f.name}' out."
            )
        if coded.shown_gold and kept != coded.values.get(f.column):
            raise DeskError(
                f"the gold label of text '{text_id}' was shown: the first answer stays.\n  Go on with the next text."
            )
        self._act(
            {"action": "answer", "column": f.column, "value": kept, "asked_as": question_hash(f)},
            key,
            seconds,
        )

    def undo(self) -> Key | None:
        """Take back the last answer that is not taken back yet; return what it was about, ``None`` if there is none.

        The log keeps both.
        """
        if self._ledger.steps:
            step = self._ledger.steps[-1]
            if self._ledger.of(step.key).shown_gold:
                raise DeskError(
                    f"the gold label of text '{step.key.text_id}' was shown: the first answer stays."
                )
            self._act(
                {
                    "action": "undo",
                    "column": step.column,
                    "value": step.before,
                    "asked_as": step.asked_as or "",
                },
                step.key,
            )
            return step.key
        return None

    def memo(self, text_id: str, words: str, *, repeat: int = 1) -> None:
        """Keep a memo on a text; "" takes it away."""
        self._act({"action": "memo", "memo": str(words)}, self._key(text_id, repeat))

    def flag(self, text_id: str, on: bool = True, *, repeat: int = 1) -> None:
        """Mark a text to come back to, or take the mark away."""
        self._act({"action": "flag", "value": bool(on)}, self._key(text_id, repeat))

    def close(self, why: str = "") -> None:
        """Close the desk, so that it can be opened elsewhere; everything is kept already."""
        self._log.close(why)

    def _act(self, line: Mapping[str, Any], key: Key, seconds: float | None = None) -> None:
        full: dict[str, Any] = {
            "text_id": key.text_id,
            **line,
            "by": self.coder,
            "codebook": self.task.codebook.hash[:16],
            "text": text_hash(self._texts[key.text_id]),
        }
        if key.repeat > 1:
            full["repeat"] = key.repeat
        if seconds is not None:
            full["seconds"] = round(max(0.0, float(seconds)), 3)
        self._append(full)
        (self._done.add if self._finished(key) else self._done.discard)(key)
        if key.repeat == 1 and "column" in full:
            self._csv.put(key.text_id, self._row(key.text_id))
            self._write_csv()

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self._ledger.take(self._log.append(line))
        except DeskError as error:
            self.trouble = str(error)
            raise
        self.trouble = ""

    def _write_csv(self) -> None:
        try:
            self._csv.write()
        except RunError as error:
            self.trouble = f"The answer is kept in {self.log_path.name}, but {error}"

    def _key(self, text_id: str, repeat: int) -> Key:
        key = Key(str(text_id), repeat)
        if key in self._given and key.text_id in self._texts:
            return key
        if key.text_id not in self._texts:
            raise DeskError(
                f"the task '{self.task.name}' has no text with the id '{text_id}'"
                f"{nearest(key.text_id, self._texts) or '.'}\n  The ids are in desk.task.ids."
            )
        which = "" if repeat < 2 else " a second time" if repeat == 2 else f" {repeat} times"
        raise DeskError(
            f"text '{text_id}' was not given to '{self.coder}'{which}.\n"
            f"  The texts to code are in desk.items; who codes what stands in {ASSIGNMENT}."
        )

    # ---- what has been done -------------------------------------------------------------------------------------

    def coded(self, key: Key) -> Coded:
        """Return what one coding has come to."""
        return self._ledger.of(key)

    def text(self, key: Key) -> str:
        """Return the text of a coding."""
        return self._texts[key.text_id]

    def row_number(self, text_id: str) -> int:
        """Return a text's place in the task."""
        return self._row_numbers[text_id]

    def open_fields(self, key: Key) -> list[str]:
        """Return the columns that apply to a text and have no answer yet."""
        values = self._ledger.of(key).values
        return [f.column for f in applicable(self.task.codebook, values) if f.column not in values]

    def is_done(self, key: Key) -> bool:
        """Return whether a coding is finished: every field that applies has an answer."""
        return key in self._done

    def _finished(self, key: Key) -> bool:
        return not self.open_fields(key)

    @property
    def done(self) -> int:
        """How many codings are finished."""
        return len(self._done)

    def first_open(self, after: int = -1) -> int | None:
        """Return the place of the first open coding behind a place, from the start again if there is none."""
        n = len(self.items)
        places = (place % n for place in range(after + 1, after + 1 + n)) if n else ()
        return next((place for place in places if not self.is_done(self.items[place])), None)

    @property
    def flagged(self) -> list[str]:
        """Ids of the texts marked to come back to."""
        marked = {key for key, coded in self._ledger.coded.items() if coded.flagged}
        return [key.text_id for key in self.items if key in marked] if marked else []

    def search(self, words: str) -> list[str]:
        """Return the ids of the coder's texts that hold these words, or have them as their id; case does not count."""
        wanted = _folded(words)
        keys = dict.fromkeys(key.text_id for key in self.items)
        return [i for i in keys if wanted and (wanted in _folded(self._texts[i]) or wanted == _folded(i))]

    @property
    def seconds_left(self) -> float | None:
        """A guess of the seconds that the open texts will take: the median time on a text; ``None`` before 5 texts."""
        taken = [c.seconds for key, c in self._ledger.coded.items() if c.seconds and key in self._done]
        return statistics.median(taken) * (len(self.items) - self.done) if len(taken) >= 5 else None

    @property
    def labels(self) -> Any:
        """The labels, one row per text given: its id, then a column per field; ``None`` where it is not coded.

        This and the CSV say the same. Spans are lists, a textbox without words is "".
        """
        columns = [self._csv.id_column, *(f.column for f in self.task.codebook)]
        rows = [{columns[0]: i, **self._row(i)} for i in self._csv.ids]
        return make_frame(rows, columns, as_they_are=columns[1:])

    @property
    def memos(self) -> Any:
        """The memos: text_id, repeat, memo, flagged."""
        rows = [
            {"text_id": key.text_id, "repeat": key.repeat, "memo": c.memo, "flagged": c.flagged}
            for key, c in self._ledger.coded.items()
            if c.memo or c.flagged
        ]
        return make_frame(rows, ("text_id", "repeat", "memo", "flagged"))

    def _row(self, text_id: str) -> dict[str, Any]:
        return row_of(self.task.codebook, self._ledger.of(Key(text_id)).values)

    def _rows(self) -> dict[str, dict[str, Any]]:
        """Return id -> labels of every text that is given or was coded."""
        coded = [key.text_id for key, c in self._ledger.coded.items() if key.repeat == 1 and c.values]
        given = [key.text_id for key in self.items if key.repeat == 1]
        return {text_id: self._row(text_id) for text_id in dict.fromkeys([*given, *coded])}

    def after(self, key: Key) -> Mapping[str, Any] | None:
        """Return what is shown of a text once it is done, ``None`` for nothing: a desk is blind.

        Else ``tables``, each with a ``title``, ``rows`` of two cells and ``words``; a ``hint``; and
        ``reasons``, where a decision is asked for.
        """
        return None

    def settle(self, key: Key, reason: int | None) -> None:
        """Take the decision on a text, where the desk asks for one."""

    # ---- how it appears -----------------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return in one line what was done, by whom, and where it is kept."""
        n, done = len(self.items), self.done
        again = sum(key.repeat > 1 for key in self.items)
        more = f", {again} of them a second time" if again else ""
        return (
            f"{self.coder}: {done:,} of {plural(n, 'text')} coded{more}; kept in {seen_from_here(self.path)}"
        )

    def __repr__(self) -> str:
        return f"<Desk of '{self.coder}' on '{self.task.name}': {self.done} of {len(self.items)} texts coded>"

    def __str__(self) -> str:
        return "\n".join([self.summary(), *self.notices, *([self.trouble] if self.trouble else [])])


def _folded(words: str) -> str:
    return unicodedata.normalize("NFC", words).casefold().strip()
