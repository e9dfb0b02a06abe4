"""How a class coded, on one page: how far everybody is, who is like whom and the gold, which texts divide the room."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from nbannot.comparing.people import Labels, people_of
from nbannot.comparing.reliability import Agreements, agreement
from nbannot.desk.labels import said
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.record.differences import same_value
from nbannot.running.design import as_task
from nbannot.study.config import RunConfig
from nbannot.study.study_folder import OUTPUT_ROOT
from nbannot.study.task import Task
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.measures.result import Result
    from nbannot.tools.frames import Frame

HARDEST = 10
STUDENT_COLUMNS = ("coder", "texts", "like the gold", "ci_low", "ci_high", "labels with gold", "like the others",
                   "labels of others", "seconds per text")  # fmt: skip
LABELLED = ("checkbox", "dropdown", "likert", "multiselect")


@dataclass(frozen=True, repr=False)
class ClassPage(Shown):
    """How a class coded."""

    _display: ClassVar[str] = "class_card"

    task: Task
    people: dict[str, Labels]
    agreements: Agreements

    @cached_property
    def students(self) -> Frame:
        """One row per student: texts coded, share like the gold, share like the majority of the others, time per text.

        The shares are over all labels that can be compared, whose number stands beside them, `nan` where none can; the
        interval resamples texts, as the labels of one text are alike. Of a multiselect the very same options are the
        same label, and only the gold is compared.
        """
        rows = []
        for name, labels in self.people.items():
            gold = share_of_labels(self._like_gold(labels))
            majority = [a.majority[name] for a in self.agreements.fields.values() if name in a.majority]
            total = sum(result.n for result in majority)
            others = sum(result.value * result.n for result in majority if result.n)
            rows.append(
                {
                    "coder": name,
                    "texts": sum(map(bool, labels.values())),
                    "like the gold": gold.value,
                    "ci_low": gold.ci_low,
                    "ci_high": gold.ci_high,
                    "labels with gold": gold.n,
                    "like the others": others / total if total else math.nan,
                    "labels of others": total,
                    "seconds per text": self.agreements.seconds.get(name, math.nan),
                }
            )
        return make_frame(rows, STUDENT_COLUMNS)

    @property
    def frame(self) -> Frame:
        """The same as `students`."""
        return self.students

    @cached_property
    def hardest(self) -> Frame:
        """The labels on which the class is most divided: text, field, how many coded it, what they said, the gold."""
        rows = []
        for f in self.task.codebook:
            if f.type not in LABELLED:
                continue
            gold = dict(zip(self.task.ids, self.task.human(f.column), strict=True))
            for text_id in self.task.ids:
                counts = Counter(
                    said(f, row[f.column])
                    for labels in self.people.values()
                    if f.column in (row := labels.get(text_id, {}))
                )
                n = counts.total()
                if len(counts) > 1:
                    words = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
                    known = "" if gold[text_id] is None else said(f, gold[text_id])
                    rows.append({"text": text_id, "field": f.name, "coded by": n, "most said": max(counts.values()) / n,
                                 "labels": words, "gold": known})  # fmt: skip
        rows.sort(
            key=lambda row: (cast(float, row["most said"]), -cast(int, row["coded by"]), str(row["text"]))
        )
        return make_frame(rows[:HARDEST], ("text", "field", "coded by", "most said", "labels", "gold"))

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return `students` as a LaTeX table."""
        return export.to_latex(self.students, caption, label)

    def __repr__(self) -> str:
        return f"<Class of {len(self.people)} on '{self.task.name}'>"

    def _like_gold(self, labels: Labels) -> list[tuple[int, int]]:
        """Return per text how many labels are like the gold, of how many; only texts with one."""
        per_text = {text_id: [0, 0] for text_id in self.task.ids}
        for f in self.task.codebook:
            if f.type not in LABELLED:
                continue
            for text_id, gold in zip(self.task.ids, self.task.human(f.column), strict=True):
                value = labels.get(text_id, {}).get(f.column)
                if gold is not None and value is not None:
                    per_text[text_id][0] += same_value(f, value, gold)
                    per_text[text_id][1] += 1
        return [(same, n) for same, n in per_text.values() if n]


def share_of_labels(per_text: Sequence[tuple[int, int]], seed: int = 1) -> Result:
    """Return the share of labels that are the same, with an interval that resamples texts (jackknife of few texts).

    Parameters
    ----------
    per_text : per text how many labels are the same, and of how many.
    """
    from nbannot.measures.classification import ratio
    from nbannot.measures.intervals import UNIT_RANGE, Intervals, Settings
    from nbannot.measures.resample import FEW_UNITS, sample_rows
    from nbannot.measures.result import Result

    n = sum(of for _, of in per_text)
    if not n:
        return Result(math.nan, reason="no label with a gold one")
    sample = sample_rows(np.array(per_text, dtype=float), None, None, seed)
    intervals = Intervals(
        sample,
        lambda totals: {"share": ratio(totals[..., 0], totals[..., 1])},
        Settings(),
        Result(math.nan, n=n),
    )
    return intervals.result("share", bounds=UNIT_RANGE, jackknife_below=FEW_UNITS)


def class_page(
    task: Task | str | Path | Any,
    *,
    coders: Sequence[str] | None = None,
    seed: int = 1,
    output_root: str | Path = OUTPUT_ROOT,
) -> ClassPage:
    """Return how a class coded a task; everybody in ``coders/``, or only these.

    Raises
    ------
    ScoringError
        If fewer than two people coded.
    """
    task = as_task(task, RunConfig())
    agreements = cast(Agreements, agreement(task, coders=coders, seed=seed, output_root=output_root))
    return ClassPage(task, people_of(task, coders, output_root), agreements)
