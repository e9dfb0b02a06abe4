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

from nbannot.comparing.people import Row, people_of
from nbannot.comparing.study_folder import ADJUDICATION, CONSENSUS, OUTPUT_ROOT, study_folder, study_folders
from nbannot.desk.decisions import Decision, decisions_in
from nbannot.desk.kept_csv import cells_of, csv_line, id_column_of
from nbannot.desk.log import now
from nbannot.errors import DeskError, RunError, listed, nearest
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.record.folder import run_folders
from nbannot.record.scoring import same_value
from nbannot.report.words import plural
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.field import Field
from nbannot.study.task import Task
from nbannot.tools.files import write_atomic
from nbannot.tools.frames import make_frame

Rule = Literal["majority", "unanimity", "soft", "dawid-skene"]
RULES = ("majority", "unanimity", "soft", "dawid-skene")
VOTED = ("checkbox", "dropdown", "likert")
HISTORY = "consensus.log.jsonl"
COLUMNS = ("text_id", "column", "label", "status", "n_coders", "n_agree", "share", "made_by")
NEAR_TIE = 0.01
"""Of two labels whose probabilities differ by less, neither is taken."""
ITEMS_PER_CLASS = 20
"""Dawid-Skene needs about so many texts per label and coder."""


@dataclass(frozen=True)
class Made:
    """One text's label in one field, and how it came about.

    Attributes
    ----------
    status
        ``agreed`` (all said the same), ``majority``, ``model`` (Dawid-Skene), ``adjudicated``, ``one coder``, or,
        without a label, ``tie``, ``not unanimous``, ``open`` (the field on which it depends is open).
    n_coders, n_agree, share
        Who gave an answer, how many of them this one, and their share (Dawid-Skene: the probability).
    shares
        label -> share of the coders; the soft label.
    """

    label: Any
    status: str
    n_coders: int
    n_agree: int
    share: float
    made_by: str
    shares: Mapping[str, float]


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

        Where its test half is locked, the labels there are these too once it is opened.
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
        raise DeskError(f"rule must be one of {listed(RULES)}{nearest(str(rule), RULES)}. Got {rule!r}.")
    if ties != "open":
        raise DeskError(f"ties stay open: ties='open'. Got {ties!r}.\n  Decide them: nba.adjudicate(task).")
    task = as_task(task, RunConfig())
    people = people_of(task, coders, output_root)
    folder = study_folder(task, output_root)
    decided = decisions_in(folder / ADJUDICATION)
    made: dict[str, dict[str, Made]] = {}
    notes: list[str] = []
    for f in task.codebook.in_order:
        votes = {i: given for i in task.ids if (given := _votes(f.column, i, people))}
        made[f.column] = _made(f, votes, rule, notes)
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


def _made(f: Field, votes: Mapping[str, Mapping[str, Any]], rule: str, notes: list[str]) -> dict[str, Made]:
    if rule == "dawid-skene" and f.type in VOTED:
        by_model = _by_model(f, votes, notes)
        if by_model is not None:
            return by_model
    if rule == "dawid-skene" and f.type not in VOTED:
        notes.append(f"{f.name}: Dawid-Skene is for one label per text; of a {f.type} the majority stands.")
    if f.type == "multiselect":
        return {i: _options(f, given, rule) for i, given in votes.items()}
    by_vote = _spans if f.type == "span" else _vote
    return {i: by_vote(given, rule) for i, given in votes.items()}


def _vote(given: Mapping[str, Any], rule: str) -> Made:
    """Return the label that most gave; none where two are ahead, or by unanimity where not all agree."""
    tally = Counter(given.values()).most_common()
    n, (label, ahead) = len(given), tally[0]
    shares = {str(value): count / n for value, count in tally}
    if n == 1:
        return Made(label, "one coder", 1, 1, 1.0, next(iter(given)), shares)
    if ahead == n:
        return Made(label, "agreed", n, n, 1.0, _names(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, ahead, ahead / n, "", shares)
    if tally[1][1] == ahead:
        return Made(None, "tie", n, ahead, ahead / n, "", shares)
    who = [name for name, value in given.items() if value == label]
    return Made(label, "majority", n, ahead, ahead / n, _names(who), shares)


def _options(f: Field, given: Mapping[str, Any], rule: str) -> Made:
    """Return the options that more than half chose; no label where exactly half chose one of them.

    Where no option has a majority and nobody said that none applies, there is no label either.
    """
    n = len(given)
    tally = Counter(option for value in given.values() for option in value)
    shares = {option: count / n for option, count in tally.most_common()}
    sets = {name: frozenset(value) for name, value in given.items()}
    if len(set(sets.values())) == 1:
        label = next(iter(given.values()))
        return Made(label, "one coder" if n == 1 else "agreed", n, n, 1.0, _names(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, 0, math.nan, "", shares)
    taken = frozenset(option for option, count in tally.items() if 2 * count > n)
    who = [name for name, own in sets.items() if own == taken]
    if any(2 * count == n for count in tally.values()) or not (taken or who):
        return Made(None, "tie", n, 0, math.nan, "", shares)
    label = [option for option in f.options if option in taken]
    return Made(label, "majority", n, len(who), len(who) / n, _names(given), shares)


def _spans(given: Mapping[str, Any], rule: str) -> Made:
    n = len(given)
    marked = {name: {(s["start"], s["end"], s["label"]): s for s in value} for name, value in given.items()}
    tally = Counter(place for spans in marked.values() for place in spans)
    shares = {
        json.dumps(place, ensure_ascii=False): count / n for place, count in sorted(tally.items(), key=str)
    }
    same = all(spans.keys() == next(iter(marked.values())).keys() for spans in marked.values())
    if same:
        label = next(iter(given.values()))
        return Made(label, "one coder" if n == 1 else "agreed", n, n, 1.0, _names(given), shares)
    if rule == "unanimity":
        return Made(None, "not unanimous", n, 0, math.nan, "", shares)
    taken = {place for place, count in tally.items() if 2 * count > n}
    for start, end, label in set(tally) - taken:
        near = sum(any(a < end and start < b for a, b, _ in spans) for spans in marked.values())
        covered = any(a < end and start < b and label == other for a, b, other in taken)
        if not covered and 2 * (n - near) <= n:
            return Made(None, "tie", n, 0, math.nan, "", shares)
    spans = {place: s for one in marked.values() for place, s in one.items() if place in taken}
    label = [spans[place] for place in sorted(spans, key=lambda p: (p[0], p[1], p[2] or ""))]
    who = [name for name, one in marked.items() if one.keys() == taken]
    return Made(label, "majority", n, len(who), len(who) / n, _names(given), shares)


def _by_model(f: Field, votes: Mapping[str, Mapping[str, Any]], notes: list[str]) -> dict[str, Made] | None:
    """Return labels by Dawid-Skene; ``None`` where it does not come to rest, with a note."""
    import numpy as np

    from nbannot.measures.dawid_skene import dawid_skene

    names = sorted({name for given in votes.values() for name in given})
    place = {label: number for number, label in enumerate(f.labels)}
    if not votes:
        return {}
    ratings = np.array(
        [[place[given[name]] if name in given else -1 for name in names] for given in votes.values()],
        dtype=np.int64,
    )
    fitted = dawid_skene(ratings, len(f.labels))
    if not fitted.converged:
        notes.append(f"{f.name}: Dawid-Skene did not come to rest; the majority stands instead.")
        return None
    expected = np.minimum.reduce([fitted.posterior[ratings[:, c] >= 0].sum(0) for c in range(len(names))])
    used = fitted.priors > 1 / len(votes)
    if expected[used].min(initial=math.inf) < ITEMS_PER_CLASS:
        notes.append(
            f"{f.name}: Dawid-Skene needs about {ITEMS_PER_CLASS} texts per label and coder; some coder has "
            f"{expected[used].min():.0f} of a label. Take it as an illustration."
        )
    if fitted.other_starts:
        notes.append(
            f"{f.name}: {fitted.other_starts} of 10 random starts of Dawid-Skene ended at a better solution than the "
            "one that begins with the majority, which is given here."
        )
    decided = {}
    for (i, given), p in zip(votes.items(), fitted.posterior, strict=True):
        first, second = np.argsort(p, kind="stable")[::-1][:2]
        label = f.labels[first]
        agree = sum(value == label for value in given.values())
        shares = {str(value): count / len(given) for value, count in Counter(given.values()).items()}
        near = p[first] - p[second] < NEAR_TIE
        decided[i] = Made(None if near else label, "tie" if near else "model", len(given), agree, float(p[first]),
                        "" if near else f"Dawid-Skene of {_names(given)}", shares)  # fmt: skip
    return decided


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


def _names(names: Any) -> str:
    return ", ".join(names)


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
    revised = before is not None and before != text and bool(models)
    try:
        if before != text:
            line = {"time": now(), "rule": found.rule, "coders": found.coders, "texts": len(ids),
                    "model_outputs_before": models, "revised_after_model_output": revised, "was": before}  # fmt: skip
            write_atomic(history, earlier + json.dumps(line, ensure_ascii=False) + "\n")
            write_atomic(found.path, text)
    except RunError as error:
        raise DeskError(str(error)) from None
    if revised or '"revised_after_model_output": true' in earlier:
        return [
            "Reference revised after model output: labels changed when runs on these texts were there already."
        ]
    return []


def _models_seen(task: Task, output_root: str | Path) -> list[str]:
    """Return the runs on this task that are there already."""
    roots = {Path(output_root), *(folder.parent for folder in study_folders(task, output_root))}
    return sorted({folder.name for root in roots for folder in run_folders(root, task.name)})
