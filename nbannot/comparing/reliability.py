"""Reliability: how far several coders, people or runs, agree with each other; a ceiling for what any score can mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.comparing.align import Compared, column_of, given_items, refuse_other_fields, shared_field
from nbannot.comparing.coder import Coder
from nbannot.comparing.coder_log import Told, changed_outside, told_by_log
from nbannot.comparing.coder_tables import (
    as_values,
    fields_of,
    labels_in_tables,
    nearly_the_same,
    read_by_codebook,
)
from nbannot.comparing.field_agreement import COLUMNS, LOW_ALPHA, Agreement, field_agreement
from nbannot.comparing.joining import plain
from nbannot.comparing.people import Labels, read_people, with_blanks
from nbannot.errors import ScoringError, listed
from nbannot.measures.intervals import Settings
from nbannot.measures.resample import wilson
from nbannot.measures.result import Result
from nbannot.page.latex import first_table_latex
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.record.run import Run
from nbannot.running.design import as_task
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.field import Field
from nbannot.study.sampling_weights import Weighting
from nbannot.study.spreadsheets import TABLES, read_table
from nbannot.study.study_folder import LOG, OUTPUT_ROOT, coder_files
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame
from nbannot.tools.memory import no_search_for_cycles

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

__all__ = ["LOW_ALPHA", "Agreement", "Agreements", "agreement"]

Level = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True)
class AgainstPeople:
    """A run among people, in one field.

    Attributes
    ----------
    majority
        The share of texts on which the run gives the label that most people gave; ties are left out.
    mean_kappa
        The mean of its kappa (Cohen's) with each person.
    """

    majority: Result
    mean_kappa: float


@dataclass(frozen=True, repr=False)
class Agreements(Shown):
    """How far the coders of a task agree, field by field.

    Attributes
    ----------
    fields
        column -> `Agreement`.
    runs
        (run, column) -> the run among the people.
    alone
        (coder, column) -> agreement of a coder with the own second coding.
    seconds
        coder -> median seconds on a text, where the desk measured them.
    """

    _display: ClassVar[str] = "agreement_card"

    name: str
    coders: tuple[str, ...]
    fields: Mapping[str, Agreement]
    runs: Mapping[tuple[str, str], AgainstPeople]
    alone: Mapping[tuple[str, str], Result]
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()

    def __getitem__(self, column: str) -> Agreement:
        """Return the agreement in a field, by its column or name."""
        named = [a for a in self.fields.values() if column in (a.field.column, a.field.name)]
        if len(named) != 1:
            raise ScoringError(f"there is no field '{column}' here. The fields: {listed(self.fields, 12)}.")
        return named[0]

    @cached_property
    def frame(self) -> Frame:
        """One row per measure and field: of all coders (``all``), pairs, each coder against the others, alone, runs."""
        import pandas as pd

        parts = [agreed.frame for agreed in self.fields.values()]
        further = [
            *(
                ((column, coder, coder, "agreement_with_oneself"), result)
                for (coder, column), result in self.alone.items()
            ),
            *(
                ((column, run, "people", "agreement_with_majority"), a.majority)
                for (run, column), a in self.runs.items()
            ),
        ]
        rows = [
            dict(
                zip(
                    COLUMNS,
                    (*names, r.value, r.ci_low, r.ci_high, r.ci_method, r.se, r.n, r.reason),
                    strict=True,
                )
            )
            for names, r in further
        ]
        kept = [part for part in [*parts, make_frame(rows, COLUMNS)] if len(part)]
        joined: Frame = pd.concat(kept, ignore_index=True) if kept else make_frame([], COLUMNS)
        return joined

    @property
    def summary(self) -> Frame:
        """One row per field: alpha with interval, percent agreement, AC1, coders, texts.

        `of` says what they are about: the ``labels``, or, where answers are no labels, whether there is ``any passage``
        or ``any text``.
        """
        columns = (
            "field",
            "of",
            "alpha",
            "ci_low",
            "ci_high",
            "percent_agreement",
            "gwet_ac1",
            "n_coders",
            "n_texts",
        )
        rows = []
        for agreed in self.fields.values():
            alpha, percent, ac1 = (
                agreed.overall[n] for n in ("krippendorff_alpha", "percent_agreement", "gwet_ac1")
            )
            values = (agreed.field.name, agreed.presence or "labels", alpha.value, alpha.ci_low, alpha.ci_high,
                      percent.value, ac1.value, len(agreed.coders), alpha.n_answered)  # fmt: skip
            rows.append(dict(zip(columns, values, strict=True)))
        return make_frame(rows, columns)

    def to_latex(self, caption: str | None = None, label: str | None = None, *, machine: bool = False) -> str:
        """Return the table of all fields as LaTeX for a journal; with `machine` every column of `summary`."""
        if machine:
            return export.to_latex(self.summary, caption, label)
        words = f"Agreement of {len(self.coders)} coders: {self.name}"
        return first_table_latex(self._fragment().blocks, caption or words, label)

    def __repr__(self) -> str:
        alphas = [f"{a.field.name} {a.overall['krippendorff_alpha'].value:.2f}" for a in self.fields.values()]
        return f"<Agreement of {len(self.coders)} coders on '{self.name}': alpha {listed(alphas)}>"


def agreement(
    source: Any,
    column: str | None = None,
    *,
    coders: Sequence[str] | None = None,
    runs: Run | Sequence[Run] = (),
    coder: str | None = None,
    id_column: str | None = None,
    codebook: Codebook | None = None,
    level: Level = "nominal",
    cluster: str | None = None,
    weights: str | None = None,
    n_resamples: int = 2_000,
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
) -> Agreement | Agreements:
    """Return how far coders agree with each other; human labels of the task play no part.

    A text counts where two coders or more gave a valid answer. "Not applicable" is no answer: the gate has an
    agreement of its own.

    Parameters
    ----------
    source
        A task, its name or folder: everybody in its ``coders/`` is read. Or one table (a pandas or polars frame, a CSV
        file, an Excel workbook) with ids and either a column that names the coder or a column per coder. Or a table per
        coder, in a list or a dictionary by name. Or two or more `Coder` or `Run` of one codebook.
    column
        Only this field (name or column). For coders and runs given as such it may be left out where all share only
        one.
    coders
        Of a task: only these people. Of a table with a column per coder: those columns.
    runs
        Of a task: runs that are shown against the people; they are not among the coders.
    coder, id_column
        Of tables: the columns with the names and the ids, where they are not found by themselves.
    codebook
        Of tables: what their cells mean.
    level
        Of tables without a codebook: nominal, or, for numbers, ordinal, interval, ratio.
    cluster
        Column of the data that says which texts belong together (the task's own when left out).
    weights
        Column of the data with one over the probability with which each text was drawn; the task's own, or its
        ``sample.csv``, when left out, ``""`` for none.
    n_resamples, seed
        Of the intervals, which resample texts. Those of a pair are made when it is looked at.

    Returns
    -------
    `Agreement` in one field for coders and runs given as such, else `Agreements` in all fields.

    Raises
    ------
    ScoringError
        If there are fewer than two coders, their codebooks or texts differ, a file or a table cannot be read (with
        coder, file and row), or they do not share the field.
    """
    settings = Settings(n_resamples, seed)
    if isinstance(source, Run | Coder) or _are_compared(source):
        return _of_compared(source, column, cluster, weights, settings)
    if isinstance(source, str | Path) and Path(source).suffix.lower() in TABLES:
        source = read_table(Path(source).expanduser())
    if isinstance(source, Task | str | Path):
        task = as_task(source, RunConfig())
        chosen = [runs] if isinstance(runs, Run) else list(runs)
        return _of_task(task, column, coders, chosen, cluster, weights, settings, output_root)
    if named := "cluster" if cluster is not None else "weights" if weights is not None else "":
        raise ScoringError(
            f"{named}= names a column of a task's data.\n  Give the task: agreement(task, {named}=...)."
        )
    people = labels_in_tables(source, coder=coder, coders=coders, id_column=id_column, column=column)
    _refuse_few(people)
    notes = () if codebook is not None else nearly_the_same(people)
    if codebook is not None:
        people = read_by_codebook(people, codebook)
        fields = [
            f
            for f in codebook
            if any(f.column in row for labels in people.values() for row in labels.values())
        ]
    else:
        fields = fields_of(people, level)
        people = as_values(people, fields)
    ids = dict.fromkeys(text_id for labels in people.values() for text_id in labels)
    agreed = _agreed(fields, people, dict.fromkeys(ids, ""), None, settings, None if codebook else level)
    return Agreements("tables", tuple(people), agreed, {}, {}, {}, notes)


def _are_compared(source: Any) -> bool:
    """Return whether a list holds coders and runs, or nothing that could be a table."""
    if not isinstance(source, Sequence) or isinstance(source, str):
        return False
    return not source or not all(
        hasattr(item, "columns") and not isinstance(item, Run | Coder) for item in source
    )


def _of_compared(
    coders: Sequence[Compared],
    column: str | None,
    cluster: str | None,
    weights: str | None,
    settings: Settings,
) -> Agreement:
    coders = given_items(coders)
    _refuse_few(coders)
    refuse_other_fields(coders)
    f = shared_field(coders, column, "not every coder coded")
    cluster = coders[0].task.cluster_column(cluster)
    weighting = coders[0].task.weighting(weights)
    texts, groups = _texts(coders, cluster)
    values = [dict(zip(_joined(c), c.coding.values(f.column), strict=True)) for c in coders]
    names = [c.run_id for c in coders]
    agreed = field_agreement(f, names, values, texts, groups if cluster else None, settings, None, weighting)
    left_out = [f"{c.run_id}: {c.left_out}, left out." for c in coders if isinstance(c, Coder) and c.left_out]
    return replace(agreed, notes=(*agreed.notes, *left_out))


def _of_task(
    task: Task,
    column: str | None,
    coders: Sequence[str] | None,
    runs: Sequence[Run],
    cluster: str | None,
    weights: str | None,
    settings: Settings,
    output_root: str | Path,
) -> Agreements:
    people, notes = read_people(task, coders, output_root)
    _refuse_few(people, "\n  Another person codes in nba.code(task, coder=NAME).")
    told = {
        name: told_by_log(path.with_name(f"{name}{LOG}"))
        for name, path in coder_files(task, output_root).items()
    }
    odd = {name: unsaid for name in people if (unsaid := told[name].never_said(people[name]))}
    people = {name: with_blanks(task, labels, told[name]) for name, labels in people.items()}
    fields = [task.codebook[column]] if column else list(task.codebook)
    used = [f for f in fields if sum(_coded(labels, f.column) for labels in people.values()) > 1]
    if not used:
        raise ScoringError(
            f"no two coders of '{task.name}' coded {'this field' if column else 'the same field'}."
        )
    groups = column_of(task, task.cluster_column(cluster))
    coded = set().union(*people.values())
    texts = {i: text for i, text in zip(task.ids, task.texts, strict=True) if i in coded}
    clusters = dict(zip(task.ids, groups, strict=True)) if groups is not None else None
    with no_search_for_cycles():
        agreed = _agreed(used, people, texts, clusters, settings, None, task.weighting(weights))
    alone = {(n, c): r for n in people for c, r in _alone(told[n], used).items()}
    seconds = {name: told[name].seconds for name in people if told[name].seconds is not None}
    among = {(run.run_id, f.column): among_people(run, f, people, settings) for run in runs for f in used
             if f.type in ("checkbox", "dropdown", "likert") and f.column in run.coding.answers}  # fmt: skip
    notes += tuple(changed_outside(name, ids) for name, ids in odd.items())
    return Agreements(task.name, tuple(people), agreed, among, alone, seconds, notes)  # type: ignore[arg-type]


def _coded(labels: Labels, column: str) -> bool:
    return any(column in row for row in labels.values())


def _by_coder(people: Mapping[str, Labels], column: str) -> dict[str, dict[str, Any]]:
    """Return name -> text id -> label of those who coded a column."""
    by_coder = {
        name: {i: row[column] for i, row in labels.items() if column in row}
        for name, labels in people.items()
    }
    return {name: given for name, given in by_coder.items() if given}


def _agreed(
    fields: Sequence[Field],
    people: Mapping[str, Labels],
    texts: Mapping[str, str],
    clusters: Mapping[str, str] | None,
    settings: Settings,
    level: str | None,
    weighting: Weighting | None = None,
) -> dict[str, Agreement]:
    agreements = {}
    for f in fields:
        labels = _by_coder(people, f.column)
        agreements[f.column] = field_agreement(
            f, list(labels), list(labels.values()), texts, clusters, settings, level, weighting
        )
    return agreements


def _alone(told: Told, fields: Sequence[Field]) -> dict[str, Result]:
    """Return column -> share of the texts coded twice that got the same label both times."""
    results = {}
    for f in fields:
        pairs = list(told.twice.get(f.column, {}).values())
        if pairs and f.type != "textbox":
            same = sum(first == second for first, second in pairs)
            low, high = wilson(same, len(pairs))
            results[f.column] = Result(same / len(pairs), low, high, "Wilson", len(pairs), len(pairs))
    return results


def among_people(run: Run, f: Field, people: Mapping[str, Labels], settings: Settings) -> AgainstPeople:
    """Return a run against the majority of the people and against each of them; a missing answer agrees with nobody."""
    answers = dict(zip(run.task.ids, run.coding.values(f.column), strict=True))
    same = n = 0
    for text_id, answer in answers.items():
        given = [row[f.column] for labels in people.values() if f.column in (row := labels.get(text_id, {}))]
        counts = sorted((given.count(value) for value in set(given)), reverse=True)
        if counts and (len(counts) == 1 or counts[0] > counts[1]):
            n += 1
            same += answer is not None and given.count(answer) == counts[0]
    low, high = wilson(same, n, settings.level) if n else (math.nan, math.nan)
    majority = Result(same / n if n else math.nan, low, high, "Wilson" if n else "", n, n,
                      reason="" if n else "no text with a majority")  # fmt: skip
    by_coder = _by_coder(people, f.column)
    texts = dict.fromkeys(answers, "")
    inside = [{i: v for i, v in of_coder.items() if i in texts} for of_coder in (answers, *by_coder.values())]
    kappas = field_agreement(f, [run.run_id, *by_coder], inside, texts, None, Settings(1)).matrices[
        "cohen_kappa"
    ][0, 1:]
    defined = [float(kappa) for kappa in kappas if not math.isnan(kappa)]
    return AgainstPeople(majority, sum(defined) / len(defined) if defined else math.nan)


def _refuse_few(coders: Any, more: str = "") -> None:
    if len(coders) < 2:
        names = [str(getattr(coder, "run_id", coder)) for coder in coders]
        raise ScoringError(
            f"agreement needs at least two coders. Got {len(coders)}{': ' if names else ''}{listed(names)}.{more}"
        )


def _texts(coders: Sequence[Compared], cluster: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return id -> text of all coders' texts, and id -> cluster; one id must be one text."""
    texts: dict[str, str] = {}
    groups: dict[str, str] = {}
    for coder in coders:
        ids = _joined(coder)
        for text_id, text in zip(ids, coder.task.texts, strict=True):
            if plain(texts.setdefault(text_id, text)) != plain(text):
                raise ScoringError(f"coders have different texts under the id '{text_id}'.")
        groups |= dict(zip(ids, column_of(coder.task, cluster) or ids, strict=True))
    return texts, groups


def _joined(coder: Compared) -> list[str]:
    """Return a coder's ids in the form in which all coders are joined; as they are where two would become one."""
    ids = [plain(text_id) for text_id in coder.task.ids]
    return ids if len(set(ids)) == len(ids) else coder.task.ids
