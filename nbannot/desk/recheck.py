"""After an edit of the codebook: how many of the labels that stand would be others today?

Adjudicated texts are the codebook's own test cases. Where its words change, a random sample of them is asked again in
the fields that the edit touches, by people (blind) or by a model, and the share of stale labels is estimated.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.comparing.coder_log import read_log
from nbannot.desk.decisions import decisions_in
from nbannot.desk.desk import Desk
from nbannot.desk.given import coder_name, drawn, refuse_like
from nbannot.desk.kept_csv import labels_in
from nbannot.desk.labels import Key, Ledger, question_hash
from nbannot.desk.stale import StaleLabels, stale_labels
from nbannot.errors import DeskError, RunError, listed
from nbannot.record.differences import same_value
from nbannot.report.words import plural
from nbannot.running.design import as_task
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.reading import read_csv
from nbannot.study.study_folder import ADJUDICATION, LOG, OUTPUT_ROOT, SAMPLE, study_folder
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, write_atomic

if TYPE_CHECKING:
    from nbannot.study.field import Field

FOLDER = "recheck"
COLUMNS = ("text_id", "probability")


@dataclass(frozen=True)
class Recheck:
    """A sample of labelled texts that is to be asked again; made by `recheck`.

    Attributes
    ----------
    columns
        The fields that the edit touches.
    cases
        Text id -> column -> the label that stands, of every text that could be drawn.
    ids
        The texts that were drawn, each with the same probability.
    what
        What changed, one sentence each.
    folder
        Where the sample and the new labels lie.
    """

    task: Task
    columns: tuple[str, ...]
    cases: Mapping[str, Mapping[str, Any]]
    ids: tuple[str, ...]
    what: tuple[str, ...]
    folder: Path
    before: Codebook | None = None

    def code(self, coder: str, *, take_over: bool = False) -> Desk:
        """Open a desk on the sample, with the touched questions and those on which they depend.

        The label that stands is not shown. What is answered lies in `folder`, apart from the coder's other labels.
        """
        name = coder_name(coder)
        refuse_like(self.folder, name)
        keys = sorted((Key(i) for i in self.ids), key=lambda key: drawn(1, name, key.text_id))
        return Desk(self._asked(self.task.codebook), name, self.folder / f"{name}.csv", self.folder / f"{name}{LOG}",
                    keys, take_over=take_over)  # fmt: skip

    def stale(self, coder: str) -> StaleLabels:
        """Return which share of the standing labels a person would give otherwise today, with intervals.

        Raises
        ------
        DeskError
            If the person has answered nothing yet.
        """
        name = coder_name(coder)
        path = self.folder / f"{name}.csv"
        labels = labels_in(self._asked(self.task.codebook), path) if path.exists() else {}
        if not any(labels.get(i) for i in self.ids):
            raise DeskError(f"'{name}' has answered nothing yet.\n  Open the desk: recheck.code('{name}').")
        return self._stale(name, labels, person=True)

    def ask(self, model: str, **settings: Any) -> StaleLabels:
        """Ask a model under today's words; with the codebook from before, under those too.

        With both, a label counts as stale where the model's own answer moved with the words; without, where it differs
        from the label that stands, which a model's errors do as well.

        Parameters
        ----------
        model, settings
            As in `nbannot.run`.
        """
        from nbannot.running.run import run

        new = run(self._asked(self.task.codebook), model=model, **settings)
        labels = _answers(new)
        if self.before is None:
            return self._stale(f"model {new.run_id}", labels, person=False)
        old = _answers(run(self._asked(self.before), model=model, **settings))
        cases = {
            i: {c: v for c, v in old[i].items() if c in self.cases[i]} for i in self.ids if i in self.cases
        }
        return self._stale(f"model {new.run_id}", labels, person=False, stood=cases)

    def _stale(
        self,
        who: str,
        labels: Mapping[str, Mapping[str, Any]],
        *,
        person: bool,
        stood: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> StaleLabels:
        book = self.task.codebook
        before = self.cases if stood is None else stood
        parts = []
        for column in self.columns:
            f = book[column]
            n_cases = sum(column in row for row in self.cases.values())
            pairs = [
                (i, before[i][column], now)
                for i in self.ids
                if column in before.get(i, {}) and (now := _now(book, f, labels.get(i, {}))) is not OPEN
            ]
            parts.append((f, n_cases, [(i, was, now, not _same(f, was, now)) for i, was, now in pairs]))
        own = stood is not None
        return stale_labels(who, parts, self.what, by_person=person, against_itself=own)

    def _asked(self, codebook: Codebook) -> Task:
        """Return the drawn texts as a task that asks the touched fields, and those above them, and knows no label."""
        wanted: set[str] = set()
        for column in self.columns:
            f: Field | None = codebook[column]
            while f is not None:
                wanted.add(f.column)
                f = codebook[f.condition.column] if f.condition else None
        raw = codebook.to_dict()
        for section in codebook.sections:
            notes = raw[section.key]["annotations"]
            for f in section.fields:
                if f.column not in wanted:
                    del notes[f.where.split(" / ")[1]]
            if not notes:
                del raw[section.key]
        task = self.task.select(ids=list(self.ids))
        data = task.data.drop([c for c in task.label_columns if c in task.data.columns])
        return replace(task, data=data, codebook=Codebook.from_dict(raw), split_lock=None)

    def __repr__(self) -> str:
        names = listed(self.task.codebook[c].name for c in self.columns)
        drawn_of = f"{len(self.ids):,} of {plural(len(self.cases), 'labelled text')}"
        return f"<Recheck of {names}: {drawn_of} to be asked again; .code('anna') or .ask(model=...)>"


OPEN: Any = object()
"""No answer yet; where a question does not apply any more, that is an answer."""


def _now(book: Codebook, f: Field, row: Mapping[str, Any]) -> Any:
    """Return the label of today; None where the question does not apply, `OPEN` where it was not answered."""
    if f.column in row:
        return row[f.column]
    above = f
    while above.condition is not None:
        above = book[above.condition.column]
        if above.column in row:
            return OPEN if book.applies(f, row) else None
    return OPEN


def _same(f: Field, was: Any, now: Any) -> bool:
    return now is not None and same_value(f, was, now)


def _answers(run: Any) -> dict[str, dict[str, Any]]:
    """Return text id -> column -> valid answer of a run."""
    rows: dict[str, dict[str, Any]] = {i: {} for i in run.task.ids}
    for column, answers in run.coding.answers.items():
        for text_id, answer in zip(run.task.ids, answers, strict=True):
            if answer.status == "ok":
                rows[text_id][column] = answer.value
    return rows


def recheck(
    task: Task | str | Path | Any,
    n: int = 40,
    *,
    before: Codebook | str | Path | None = None,
    columns: Sequence[str] | None = None,
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
) -> Recheck:
    """Draw labelled texts that an edit of the codebook touches, to be asked again.

    The labels are those that an adjudicator decided, whose log knows the words of each question as it was then; where
    nobody adjudicated, the task's human labels, and then `before` says what the words were.

    Parameters
    ----------
    task
        The task with the codebook as it is today.
    n
        How many texts to draw at random, each with the same probability; all of them where there are not more.
    before
        The codebook from before the edit: a `Codebook` or the path of one. Left out: what changed is read off the
        adjudicator's log.
    columns
        Only these fields (names or columns).
    seed
        Of the draw. A sample that was drawn for the same edit before is taken again.

    Raises
    ------
    DeskError
        If nothing is labelled, no labelled field is touched, or `before` is needed.
    """
    task = as_task(task, RunConfig())
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise DeskError(f"n must be a number of texts, at least 1. Got {n!r}.")
    folder = study_folder(task, output_root)
    old = None if before is None else before if isinstance(before, Codebook) else Codebook.load(before)
    cases, touched, what = _touched(task, folder, old)
    if columns is not None:
        named = {task.codebook[name].column for name in ([columns] if isinstance(columns, str) else columns)}
        touched = [column for column in touched if column in named]
    if not touched:
        raise DeskError("no labelled question has changed since its labels were given: nothing to ask again.")
    cases = {i: {c: v for c, v in row.items() if c in touched} for i, row in cases.items()}
    cases = {i: row for i, row in cases.items() if row}
    place = folder / FOLDER / _name_of(task.codebook, touched)
    ids = _drawn(place / SAMPLE, sorted(cases), n, seed)
    return Recheck(
        task, tuple(touched), cases, tuple(i for i in task.ids if i in ids), tuple(what), place, old
    )


def _touched(
    task: Task, folder: Path, before: Codebook | None
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return the standing labels, the columns whose words changed since, and what changed."""
    known = {f.column for f in task.codebook}
    decided = decisions_in(folder / ADJUDICATION)
    ids = set(task.ids)
    cases = {i: {c: v for c, v in d.values.items() if c in known} for i, d in decided.items() if i in ids}
    changes = [] if before is None else [c for c in before.diff(task.codebook).changes if c.column in known]
    if not cases:
        if before is None:
            raise DeskError(
                f"nobody adjudicated '{task.name}' yet, so that nothing tells what the codebook said before.\n"
                "  Give it: recheck(task, before='codebook-before.json'). The human labels are then the test cases."
            )
        cases = {
            i: {f.column: v for f in task.codebook if (v := task.human(f.column)[row]) is not None}
            for row, i in enumerate(task.ids)
        }
        if not any(cases.values()):
            raise DeskError(f"'{task.name}' has no labels that could be stale.")
    if before is not None:
        touched = dict.fromkeys(c.column for c in changes)
        labelled = {c for row in cases.values() for c in row}
        return cases, [c for c in touched if c in labelled], [str(change) for change in changes]
    hashes = {f.column: question_hash(f) for f in task.codebook}
    ledger = Ledger(read_log(folder / ADJUDICATION)[0])
    stale: dict[str, int] = {}
    for text_id, row in cases.items():
        for column in row:
            asked_as = ledger.of(Key(text_id)).asked_as.get(column)
            stale[column] = stale.get(column, 0) + bool(asked_as and asked_as != hashes[column])
    touched_columns = [f.column for f in task.codebook if stale.get(f.column)]
    what = [
        f"{task.codebook[c].name}: {plural(stale[c], 'adjudicated label')} were given under a different wording "
        "of the question"
        for c in touched_columns
    ]
    return cases, touched_columns, what


def _name_of(codebook: Codebook, columns: Sequence[str]) -> str:
    """Return the name of the folder of an edit: it follows from the words of the touched questions as they are now."""
    words = "\n".join(question_hash(codebook[c]) for c in columns)
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def _drawn(path: Path, ids: Sequence[str], n: int, seed: int) -> set[str]:
    """Return the sample that is kept for this edit, or a new one that is written down before anybody answers."""
    if path.exists():
        kept = {str(i) for i in read_csv(path)["text_id"]}
        return kept & set(ids)
    chosen = set(random.Random(f"nbannot-recheck:{seed}").sample(list(ids), min(n, len(ids))))
    rows = [[i, repr(len(chosen) / len(ids))] for i in ids if i in chosen]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, csv_text(COLUMNS, rows))
    except (OSError, RunError) as error:
        raise DeskError(
            f"the sample cannot be kept: {error}.\n  Make room, or make the folder writable."
        ) from None
    return chosen
