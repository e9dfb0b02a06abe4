"""One label out of several people's: by majority, unanimity or a latent-class model, with decisions above all of them.

A tie stays open: there is no label that nobody decided on. Every label says who made it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from nbannot.comparing.people import Row, people_of_desks
from nbannot.desk.decisions import Decision, decisions_in
from nbannot.desk.kept_csv import cells_of, csv_line, id_column_of
from nbannot.desk.log import now
from nbannot.desk.votes import Made, settled
from nbannot.errors import DeskError, RunError, listed, nearest
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.record.differences import same_value
from nbannot.record.folder import run_folders
from nbannot.report.words import plural
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.field import Field
from nbannot.study.locked import OWN_LABELS
from nbannot.study.study_folder import ADJUDICATION, CONSENSUS, OUTPUT_ROOT, study_folder, study_folders
from nbannot.study.task import Task
from nbannot.tools.files import write_atomic
from nbannot.tools.frames import make_frame

Rule = Literal["majority", "unanimity", "soft", "dawid-skene"]
RULES = ("majority", "unanimity", "soft", "dawid-skene")
HISTORY = "consensus.log.jsonl"
REVISED = (
    "Reference revised after model output: labels were changed when runs on these texts already existed."
)
COLUMNS = ("text_id", "column", "label", "status", "n_coders", "n_agree", "share", "made_by")


@dataclass(frozen=True, repr=False)
class Consensus(Shown):
    """The labels that several people's come to.

    Attributes
    ----------
    made
        column -> text id -> label and how it came about; texts that nobody coded are not there.
    notes
        What to know of it, one sentence each.
    """

    _display: ClassVar[str] = "consensus_card"

    base: Task
    rule: str
    coders: tuple[str, ...]
    made: Mapping[str, Mapping[str, Made]]
    notes: tuple[str, ...]
    path: Path

    @cached_property
    def frame(self) -> Any:
        """One row per text and field: label, status, n_coders, n_agree, share, made_by.

        Of a test half that is locked the label is left out, and the status is ``locked``.
        """
        hidden = self._hidden
        rows = [
            {"text_id": i, "column": column, **{n: getattr(m, n) for n in COLUMNS[2:]}}
            | ({"label": None, "status": LOCKED} if i in hidden else {})
            for column, of_text in self.made.items()
            for i, m in of_text.items()
        ]
        return make_frame(rows, COLUMNS, as_they_are=["label"])

    @cached_property
    def soft(self) -> Any:
        """One row per text, field and label that a coder gave: text_id, column, label, share."""
        rows = [
            {"text_id": i, "column": column, "label": label, "share": share}
            for column, of_text in self.made.items()
            for i, m in of_text.items()
            if i not in self._hidden
            for label, share in m.shares.items()
        ]
        return make_frame(rows, ("text_id", "column", "label", "share"))

    @property
    def open(self) -> Any:
        """The rows of `frame` on which there is no label yet."""
        frame = self.frame
        undecided = [m.label is None for of_text in self.made.values() for m in of_text.values()]
        return frame[undecided].reset_index(drop=True)

    @property
    def _hidden(self) -> Collection[str]:
        """Ids of texts whose labels are closed: they are settled and kept in the file, and not told here."""
        lock = self.base.split_lock
        return () if lock is None or lock.opened else lock.test_ids

    @cached_property
    def task(self) -> Task:
        """The task with these labels as its human labels; a text without one is not coded.

        Where its test half is locked, the labels there are these too once it is opened. Where labels were revised after
        model output, the cards and reports of its runs say so.
        """
        import polars as pl

        kept = self.base.data.select(self.base.other_columns)
        cells = {
            f.column: [
                f.to_cell(m.label if (m := self.made[f.column].get(i)) else None) for i in self.base.ids
            ]
            for f in self.base.codebook
        }
        columns = [pl.Series(name, values, dtype=pl.String) for name, values in cells.items()]
        data, lock = kept.with_columns(columns), self.base.split_lock
        closed = None if lock is None else lock.holding(data, self.base.ids, list(cells))
        task = replace(self.base, data=data, split_lock=closed)
        task.__dict__["_identified"] = (self.base.ids, self.base.id_source)
        task.__dict__[OWN_LABELS] = True
        if REVISED in self.notes:  # cards and reports tell the notices of their task
            task._reading_notices.append(REVISED)
        return task

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return how the labels came about, per field, as a LaTeX table."""
        return export.to_latex(self.counts, caption, label)

    @property
    def counts(self) -> Any:
        """One row per field: how many labels of each status."""
        tallies = {
            column: Counter(m.status for m in of_text.values()) for column, of_text in self.made.items()
        }
        statuses = [s for s in STATUSES if any(s in tally for tally in tallies.values())]
        rows = [
            {"field": self.base.codebook[column].name, **{s: tally[s] for s in statuses}}
            for column, tally in tallies.items()
        ]
        return make_frame(rows, ("field", *statuses))

    def __repr__(self) -> str:
        n = sum(m.label is None for of_text in self.made.values() for m in of_text.values())
        return (
            f"<Consensus of {len(self.coders)} coders on '{self.base.name}' by {self.rule}: {n} labels open>"
        )


LOCKED = "locked"
STATUSES = ("agreed", "majority", "model", "adjudicated", "one coder", "tie", "not unanimous", "open")


def consensus(
    task: Task | str | Path | Any,
    rule: Rule = "majority",
    *,
    ties: Literal["open"] = "open",
    coders: Sequence[str] | None = None,
    output_root: str | Path = OUTPUT_ROOT,
) -> Consensus:
    """Return one label out of several people's, and write it to ``consensus.csv``.

    What was there before stays in the history beside it.

    Parameters
    ----------
    rule
        ``"majority"``: the most frequent label; ``"unanimity"``: only where all said the same; ``"soft"``: as the
        majority, with the shares in `Consensus.soft` as the result to work with; ``"dawid-skene"``: a latent-class
        model of true labels and every coder's errors, for checkboxes, dropdowns and scales; the others go by majority.
        Decisions of an adjudication stand above any rule.
    ties
        ``"open"``: no label. There is no other way here: a tie is for `nbannot.adjudicate`.
    coders
        Only these people.

    Notes
    -----
    Free words are the same or they are not. An option of a multiselect is taken where more than half of the coders
    chose it; where exactly half did, the text is open. A span is taken where more than half of the coders marked
    exactly it; where half or fewer did, and not more than half left its place unmarked, the text is open. A field that
    depends on an open one is open.

    Raises
    ------
    ScoringError, DeskError
        If nobody coded the task, or a setting is unknown.
    """
    if rule not in RULES:
        raise DeskError(
            f"rule must be one of {listed(RULES)}. Got {rule!r}{nearest(str(rule), RULES) or '.'}"
        )
    if ties != "open":
        raise DeskError(f"ties stay open: ties='open'. Got {ties!r}.\n  Decide them: nba.adjudicate(task).")
    task = as_task(task, RunConfig())
    people = people_of_desks(task, coders, output_root)
    folder = study_folder(task, output_root)
    decided = decisions_in(folder / ADJUDICATION)
    made: dict[str, dict[str, Made]] = {}
    notes: list[str] = []
    for f in task.codebook.in_order:
        votes = {i: given for i in task.ids if (given := _votes(f.column, i, people))}
        made[f.column] = settled(f, votes, rule, notes)
        _decide(task, f, made, decided, votes)
    ordered = {f.column: made[f.column] for f in task.codebook}
    notes += _notes(ordered, decided)
    made_one = Consensus(task, rule, tuple(people), ordered, tuple(notes), folder / CONSENSUS)
    if closed := {i for of_text in ordered.values() for i in of_text if i in made_one._hidden}:
        notes.append(
            f"The split is locked: the labels of {plural(len(closed), 'text')} of the test half are settled and kept "
            "in the file; here they are closed until that half is opened with a reason."
        )
    return replace(made_one, notes=(*notes, *_keep(made_one, output_root)))


def _votes(column: str, text_id: str, people: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    """Return coder -> value of everybody who gave one."""
    return {
        name: labels[text_id][column] for name, labels in people.items() if column in labels.get(text_id, {})
    }


def _decide(
    task: Task,
    f: Field,
    made: dict[str, dict[str, Made]],
    decided: Mapping[str, Decision],
    votes: Mapping[str, Mapping[str, Any]],
) -> None:
    """Put decisions above votes, and take away labels of fields that do not apply by the labels above them."""
    of_field = made[f.column]
    for text_id, decision in decided.items():
        if f.column in decision.values:
            before = of_field.get(text_id)
            n, shares = (before.n_coders, before.shares) if before else (0, {})
            value = decision.values[f.column]
            agree = sum(same_value(f, one, value) for one in votes.get(text_id, {}).values())
            share = agree / n if n else math.nan
            of_field[text_id] = Made(value, "adjudicated", n, agree, share, decision.by, shares)
        elif text_id in of_field and set(decision.values) & {g.column for g in task.codebook}:
            del of_field[text_id]  # the adjudicator's answers above it say that it does not apply
    if f.condition is None:
        return
    parents = made[f.condition.column]
    for text_id, m in list(of_field.items()):
        parent = parents.get(text_id)
        if parent is None or m.status == "adjudicated":
            continue
        if parent.label is None:
            of_field[text_id] = replace(m, label=None, status="open", made_by="")
        elif not f.condition.met_by(parent.label):
            del of_field[text_id]


def _notes(made: Mapping[str, Mapping[str, Made]], decided: Mapping[str, Decision]) -> list[str]:
    open_texts = {i for of_text in made.values() for i, m in of_text.items() if m.label is None}
    notes = []
    if open_texts:
        notes.append(
            f"{plural(len(open_texts), 'text')} have an open label: decide them with nba.adjudicate(task)."
        )
    if decided:
        who = listed(sorted({d.by for d in decided.values()}))
        notes.append(f"Decided by {who}: {plural(len(decided), 'text')}.")
    return notes


def _keep(found: Consensus, output_root: str | Path) -> list[str]:
    """Write the labels and, where they changed, one line of history; return what to tell of it."""
    task = found.base
    ids = [i for i in task.ids if any(i in of_text for of_text in found.made.values())]
    rows = {
        i: {c: m.label for c, t in found.made.items() if (m := t.get(i)) and m.label is not None} for i in ids
    }
    header = csv_line([id_column_of(task), *(f.column for f in task.codebook)])
    text = header + "".join(csv_line([i, *cells_of(task.codebook, rows[i])]) for i in ids)
    history = found.path.with_name(HISTORY)
    before = found.path.read_bytes().decode("utf-8", "replace") if found.path.exists() else None
    models = _models_seen(task, output_root)
    earlier = history.read_text(encoding="utf-8") if history.exists() else ""
    changed = before != text if before is not None else _unlike_the_labels_that_were(found)
    revised = changed and bool(models)
    try:
        if before != text:
            line = {"time": now(), "rule": found.rule, "coders": found.coders, "texts": len(ids),
                    "model_outputs_before": models, "revised_after_model_output": revised, "was": before}  # fmt: skip
            write_atomic(history, earlier + json.dumps(line, ensure_ascii=False) + "\n")
            write_atomic(found.path, text)
    except RunError as error:
        raise DeskError(str(error)) from None
    if revised or '"revised_after_model_output": true' in earlier:
        return [REVISED]
    return []


def _unlike_the_labels_that_were(found: Consensus) -> bool:
    """Return whether a text has another label now than the human one with which the task came."""
    for column, of_text in found.made.items():
        f = found.base.codebook[column]
        for text_id, human in zip(found.base.ids, found.base.human(column), strict=True):
            m = of_text.get(text_id)
            if human is not None and m and m.label is not None and not same_value(f, human, m.label):
                return True
    return False


def _models_seen(task: Task, output_root: str | Path) -> list[str]:
    """Return the runs on this task that are there already."""
    roots = {Path(output_root), *(folder.parent for folder in study_folders(task, output_root))}
    return sorted({folder.name for root in roots for folder in run_folders(root, task.name)})
