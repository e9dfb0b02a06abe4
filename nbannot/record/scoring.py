"""Scoring: one coding against the human labels of its task, field by field.

Rows are all texts with a human label; a missing or unusable answer is an error in the headline values, and coverage is
always beside them. The numbers come from `nbannot.measures`; here they get their names, rows and words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.answers import Answer
from nbannot.asking.applies import never_asked
from nbannot.errors import ScoringError, listed, nearest
from nbannot.record.coding import NOT_CODED, Coding, probability_of
from nbannot.record.differences import same_value
from nbannot.record.looks import Looks
from nbannot.study.field import Field
from nbannot.study.locked import ALIVE
from nbannot.study.sampling_weights import Weighting
from nbannot.study.split import OUTPUTS
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.measures.accounting import FieldData
    from nbannot.measures.result import FieldScore, Result
    from nbannot.measures.text_extras import TextExtras
    from nbannot.tools.frames import Frame

SCORING = ("nbannot.measures.field", "scipy.special")
"""What scoring imports, which takes a while: a run begins with it while the model answers."""

METRIC_COLUMNS = ("column", "annotation_type", "metric", "value", "ci_low", "ci_high", "ci_method", "n",
                  "n_answered", "reason", "note")  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """All numbers of one coding.

    Attributes
    ----------
    fields
        column -> `FieldScore`, in codebook order.
    """

    coding: Coding
    fields: Mapping[str, FieldScore]
    settings: Mapping[str, Any]

    def type_of(self, column: str) -> str:
        """Return the type of a scored field."""
        return self.coding.task.codebook[column].type

    def long_rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return the rows of the long table: one per column and metric; of a field that was asked of no text, blank."""
        return [
            {
                "run_id": run_id,
                "column": column,
                "annotation_type": self.type_of(column),
                "metric": name,
                **_row(_unscored(result, why) if why else result),
            }
            for column, score in self.fields.items()
            for why in [never_asked(self.coding.answers[column])]
            for name, result in score.results.items()
        ]

    def class_rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return the rows of the class table: one per column, label and metric."""
        return [
            {
                "run_id": run_id,
                "column": column,
                "annotation_type": self.type_of(column),
                "label": entry["label"],
                "metric": metric,
                "value": entry[metric],
                "n": entry.get(f"{metric}_n", sum(of.get("support", 0) for of in score.per_class)),
                "ci_low": entry.get(f"{metric}_ci_low"),
                "ci_high": entry.get(f"{metric}_ci_high"),
                "reason": entry.get(f"{metric}_reason", "") if math.isnan(entry[metric]) else "",
            }
            for column, score in self.fields.items()
            if not never_asked(self.coding.answers[column])
            for entry in score.per_class
            for metric in ("precision", "recall", "f1", "support", "predicted")
        ]

    def frame(self) -> Frame:
        """Return one row per field and metric, with interval, n and reason."""
        return make_frame(self.long_rows(""), METRIC_COLUMNS)


def _unscored(result: Result, why: str) -> Result:
    """Return a result of a field that was asked of no text: a 0 in the tables would be a verdict on the model."""
    nan = math.nan
    return replace(result, value=nan, ci_low=nan, ci_high=nan, ci_method="", reason=f"not asked: {why}")


def _row(result: Result) -> dict[str, Any]:
    return {
        "value": result.value,
        "n": result.n,
        "n_answered": result.n_answered,
        "ci_low": result.ci_low,
        "ci_high": result.ci_high,
        "ci_method": result.ci_method,
        "reason": "" if result.defined else result.reason,
        "note": result.reason if result.defined else "",
    }


class Scored(Looks):
    """What everything with a coding can tell: its labels, their scores, and where it differs from people."""

    task: Task
    coding: Coding

    def __post_init__(self) -> None:
        ALIVE[id(self)] = self

    def close_test_half(self, output_root: str | Path = OUTPUTS) -> None:
        """Hide the human labels of a test half that was locked since, and forget the scores that were made with them.

        Scores, tables and displays that are asked for from here on are those of dev; what was shown stays shown.
        """
        self.task.close_test_half(output_root)
        lock = self.task.split_lock
        if lock is None or lock.opened or lock.test_ids.isdisjoint(self.task.ids):
            return
        self.__dict__.pop("scores", None)
        if self.coding.by_person:
            closed = Answer("", "not_asked", reason=NOT_CODED)
            answers = {
                column: [
                    replace(closed, column=column) if i in lock.test_ids else answer
                    for i, answer in zip(self.task.ids, given, strict=True)
                ]
                for column, given in self.coding.answers.items()
            }
            object.__setattr__(self, "coding", replace(self.coding, answers=answers))

    @property
    def labels(self) -> Frame:
        """Every answer: one row per text and field with value, status, reason, attempts (pandas; ``.to_polars()``)."""
        return self.coding.frame()

    @property
    def failures(self) -> Frame:
        """The answers that are neither valid nor not applicable, and why."""
        return self.coding.frame(("invalid", "refused", "truncated", "failed", "not_asked"))

    @cached_property
    def scores(self) -> Scores:
        """Every metric of every field against the human labels."""
        return score(self.coding, **self.scoring)

    @property
    def scoring(self) -> dict[str, Any]:
        """How the coding is scored, where that was chosen before."""
        return {}

    @property
    def metrics(self) -> Frame:
        """One row per field and metric with interval, n and reason (pandas; ``.to_polars()``)."""
        return self.scores.frame()

    def table(self) -> Frame:
        """Return one row per text: id, text, and for each field what people and model said, side by side (pandas).

        Per field: ``<column> human``, ``<column> model``, ``<column> status``, ``<column> probability`` (of the
        model's label, where it was scored) and ``<column> agree`` (``None`` where there is nothing to compare).
        ``.to_csv("table.csv")`` and ``.to_excel("table.xlsx")`` keep it; in ``output.csv`` the model's labels bear
        the names under which a task has people's.
        """
        rows: list[dict[str, Any]] = [
            {"text_id": text_id, "text": text}
            for text_id, text in zip(self.task.ids, self.task.texts, strict=True)
        ]
        for f in self.coding.fields:
            labelled = f.column in self.task.label_columns
            people = self.task.human(f.column) if labelled else [None] * len(rows)
            applies = self.task.human_applies(f.column) if labelled else [True] * len(rows)
            every = zip(rows, self.coding.answers[f.column], people, applies, strict=True)
            for row, answer, human, applicable in every:
                row[f"{f.column} human"] = human if applicable else None
                row[f"{f.column} model"] = answer.value
                row[f"{f.column} status"] = answer.status
                row[f"{f.column} probability"] = probability_of(f, answer)
                row[f"{f.column} agree"] = _agree(f, answer, human, applicable)
        sides = ("human", "model", "status", "probability", "agree")
        names = [f"{f.column} {side}" for f in self.coding.fields for side in sides]
        return make_frame(rows, ("text_id", "text", *names))


def _agree(f: Field, answer: Answer, human: Any, applicable: bool) -> bool | None:
    """Return whether model and people say the same; ``None`` where people say nothing."""
    if not applicable:
        return answer.status == "not_applicable"
    return None if human is None else same_value(f, answer.value, human)


def field_data(
    coding: Coding, f: Field, clusters: Sequence[Any] | None = None, weighting: Weighting | None = None
) -> FieldData:
    """Return one field of a coding beside the human labels, row by row."""
    load(*SCORING)
    import numpy as np

    from nbannot.measures.accounting import FieldData

    task = coding.task
    answers = coding.answers[f.column]
    given = coding.given(f.column)
    human = [v if g else None for v, g in zip(task.human(f.column), given, strict=True)]
    applies = [a or not g for a, g in zip(task.human_applies(f.column), given, strict=True)]
    model = [answer.value for answer in answers]
    coded = [value is not None for value in human]
    weights = None if weighting is None else weighting.on(task.ids, coded)[0]
    if f.type == "span":
        human, model = [_triples(v) for v in human], [_triples(v) for v in model]
    return FieldData(
        type=f.type,
        labels=f.labels,
        human=human,
        model=model,
        human_applies=np.array(applies, dtype=bool),
        model_applies=np.array([a.status != "not_applicable" for a in answers], dtype=bool),
        gate_unanswered=_gate_unanswered(coding, f),
        texts=task.texts if f.type == "span" else None,
        missing_reason=[_why_missing(a.status, a.reason) for a in answers],
        clusters=clusters,
        weights=None if weights is None else np.array(weights),
        unaligned=[list(a.unaligned) for a in answers] if f.type == "span" else None,
    )


def _gate_unanswered(coding: Coding, f: Field) -> Any:
    """Return per text whether there is no valid answer to the question on which the field depends; None: no such."""
    import numpy as np

    if f.condition is None or f.condition.column not in coding.answers:
        return None
    above = coding.answers[f.condition.column]
    return np.array([a.status not in ("ok", "not_applicable") for a in above], dtype=bool)


def _triples(spans: Any) -> list[tuple[int, int, str | None]] | None:
    return None if spans is None else [(s["start"], s["end"], s["label"]) for s in spans]


def _why_missing(status: str, reason: str) -> str:
    if status in ("ok", "not_applicable"):
        return ""
    kind = reason.split(":")[0]
    return f"{status}: {kind}" if kind and status in ("invalid", "not_asked") else status


def score(
    coding: Coding,
    *,
    cluster: str | None = None,
    weights: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 1,
    extras: bool | TextExtras = True,
) -> Scores:
    """Return every metric of every field that was asked, against the task's human labels.

    Parameters
    ----------
    cluster
        Column of the data that says which texts belong together (document, author, thread): they are resampled
        together for the intervals. The task's own setting when left out, ``""`` for none.
    weights
        Column of the data with one over the probability with which each text was drawn; the task's own setting, or its
        ``sample.csv``, when left out, ``""`` for none.
    n_resamples, seed
        Of the bootstrap.
    extras
        Compute the optional text metrics, as far as the extra `textbox` is installed and weights are on this machine;
        `TextExtras` names other weights, or allows to fetch them.

    Raises
    ------
    ScoringError
        If the cluster column does not exist.
    """
    load("nbannot.measures.field")
    from nbannot.measures.field import score_field

    weighting = coding.task.weighting(weights)
    asked, cluster = cluster, coding.task.cluster_column(cluster)
    clusters = None
    if cluster is not None:
        columns = coding.task.data.columns
        if cluster not in columns:
            raise ScoringError(
                f"the data has no column '{cluster}'{nearest(cluster, columns) or '.'}\n"
                f"  Its columns: {listed(columns, 12)}."
            )
        clusters = list(coding.task.data[cluster])
    fields = {
        f.column: score_field(
            field_data(coding, f, clusters, weighting), n_resamples=n_resamples, seed=seed, extras=extras
        )
        for f in coding.fields
    }
    used = asked if asked == "" else cluster
    counted = weights if weighting is None else weighting.source
    return Scores(
        coding,
        fields,
        {
            "n_resamples": n_resamples,
            "seed": seed,
            "cluster": used,
            "weights": counted,
            "weighted": list(dict.fromkeys(_weighting_words(coding, weighting))),
        },
    )


def _weighting_words(coding: Coding, weighting: Weighting | None) -> Iterator[str]:
    """Yield how each field was weighted, in words; nothing where every text counts alike."""
    for f in coding.fields if weighting is not None else ():
        coded = [
            v is not None and g
            for v, g in zip(coding.task.human(f.column), coding.given(f.column), strict=True)
        ]
        words = weighting.on(coding.task.ids, coded)[1] if weighting is not None else ""
        if words:
            yield words
