"""Reliability: how far several coders, people or runs, agree with each other; a ceiling for what any score can mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from nbannot.comparing.align import Compared, column_of, given_items, refuse_other_fields
from nbannot.comparing.coder import Coder
from nbannot.comparing.joining import plain
from nbannot.errors import ScoringError, listed
from nbannot.measures.accounting import FieldData, unit_codes
from nbannot.measures.agreement import coder_agreement
from nbannot.measures.classification import accuracy, cohen_kappa, label_counts
from nbannot.measures.field import score_field
from nbannot.measures.intervals import Intervals, Settings
from nbannot.measures.label_field import label_values
from nbannot.measures.ordinal import quadratic_kappa
from nbannot.measures.resample import sample_cells
from nbannot.measures.result import Result
from nbannot.study.field import Field
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame

COLUMNS = (
    "column",
    "coder_a",
    "coder_b",
    "measure",
    "value",
    "ci_low",
    "ci_high",
    "ci_method",
    "n",
    "reason",
)
ALL = "all"
LEVELS = {"checkbox": "nominal", "dropdown": "nominal", "likert": "ordinal"}
"""The level of Krippendorff's alpha by type of field; of spans and texts it is whether there is any."""

PAIRWISE = {
    "checkbox": ("cohen_kappa", "percentage_agreement"),
    "dropdown": ("cohen_kappa", "percentage_agreement"),
    "likert": ("quadratic_kappa", "cohen_kappa", "percentage_agreement"),
    "textbox": ("norm_levenshtein", "presence_f1"),
    "span": ("token_f1", "exact_match_f1", "presence_f1"),
}
LOW_ALPHA = 0.67
"""Krippendorff's lowest alpha for tentative conclusions."""


@dataclass(frozen=True, repr=False)
class Agreement:
    """How far coders agree in one field.

    Attributes
    ----------
    overall
        Over all coders: Krippendorff's alpha at the field's level, percent agreement, Gwet's AC1; `n` counts texts
        with two coders or more. Of spans and texts: whether there is any.
    pairs
        (coder, coder) -> measure -> value, on the texts that both coded.
    majority
        coder -> share of texts on which the coder agrees with the majority of the others; texts on which the others
        tie are left out. Empty for fewer than three coders, and for spans and texts.
    """

    field: Field
    coders: tuple[str, ...]
    overall: Mapping[str, Result]
    pairs: Mapping[tuple[str, str], Mapping[str, Result]]
    majority: Mapping[str, Result]
    notes: tuple[str, ...]

    def frame(self) -> Frame:
        """Return one row per measure: of all coders (``all``), of each pair, of each coder against the others."""
        every = [(ALL, ALL, name, result, result.n_answered) for name, result in self.overall.items()]
        every += [(*pair, name, r, r.n) for pair, found in self.pairs.items() for name, r in found.items()]
        every += [(name, "others", "agreement_with_majority", r, r.n) for name, r in self.majority.items()]
        rows = [
            dict(zip(COLUMNS, (self.field.column, a, b, name, r.value, r.ci_low, r.ci_high, r.ci_method, n, r.reason),
                     strict=True))
            for a, b, name, r, n in every
        ]  # fmt: skip
        return make_frame(rows, COLUMNS)

    def mean(self, measure: str) -> float:
        """Return the mean of a pairwise measure over the pairs in which it is defined; nan if there is none."""
        values = [found[measure].value for found in self.pairs.values() if found[measure].defined]
        return sum(values) / len(values) if values else math.nan

    def __repr__(self) -> str:
        alpha = self.overall["krippendorff_alpha"].value
        return f"<Agreement of {len(self.coders)} coders in {self.field.column}: alpha {alpha:.2f}>"

    def __str__(self) -> str:
        return "\n".join([repr(self)[1:-1], *self.notes])


def agreement(
    coders: Sequence[Compared],
    column: str | None = None,
    *,
    cluster: str | None = None,
    n_resamples: int = 2_000,
    seed: int = 1,
) -> Agreement:
    """Return how far coders agree with each other in one field; human labels of the task play no part.

    A text counts where two coders or more gave a valid answer. "Not applicable" is no answer: the gate has an
    agreement of its own.

    Parameters
    ----------
    coders
        Two or more `Coder` or `Run` of one codebook; they may have different texts.
    column
        The field (name or column); may be left out where all share only one.
    cluster
        Column of the data that says which texts belong together.
    n_resamples, seed
        Of the intervals, which resample texts.

    Raises
    ------
    ScoringError
        If there are fewer than two coders, their codebooks or texts differ, or they do not share the field.
    """
    coders = given_items(coders)
    if len(coders) < 2:
        raise ScoringError(f"agreement needs at least two coders. Got {len(coders)}.")
    refuse_other_fields(coders)
    f = _field(coders, column)
    names = tuple(coder.run_id for coder in coders)
    texts, groups = _texts(coders, cluster)
    values = [_values(coder, f) for coder in coders]
    ratings = [[given.get(text_id) for given in values] for text_id in texts]
    clusters = [groups[text_id] for text_id in texts] if cluster else None
    settings = Settings(n_resamples, seed)
    contents = list(texts.values())
    labels = None if f.type in ("span", "textbox") else list(f.labels)
    units = [[_coded(f, value) for value in unit] for unit in ratings]
    overall = coder_agreement(units, LEVELS.get(f.type, "nominal"), labels, clusters, n_resamples, seed)
    kept = ("krippendorff_alpha", "percent_agreement", "gwet_ac1")
    pairs = {
        (names[a], names[b]): _pair(f, contents, ratings, (a, b), clusters, settings)
        for a, b in combinations(range(len(coders)), 2)
    }
    majority = _majority(names, units, clusters, settings) if f.type in LEVELS and len(coders) > 2 else {}
    return Agreement(
        f, names, {n: overall[n] for n in kept}, pairs, majority, _notes(f, overall, ratings, coders)
    )


def _field(coders: Sequence[Compared], column: str | None) -> Field:
    codebook = coders[0].task.codebook
    shared = [f for f in codebook if all(f.column in coder.coding.answers for coder in coders)]
    if column is None and len(shared) == 1:
        return shared[0]
    if column is None or codebook[column] not in shared:
        what = "name one field" if column is None else f"not every coder coded {codebook[column].column}"
        raise ScoringError(f"{what}.\n  All coded: {listed(f.column for f in shared)}.")
    return codebook[column]


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


def _values(coder: Compared, f: Field) -> dict[str, Any]:
    return dict(zip(_joined(coder), coder.coding.values(f.column), strict=True))


def _coded(f: Field, value: Any) -> Any:
    """Return a value as it enters alpha: of spans and texts whether there is any."""
    if f.type in LEVELS or value is None:
        return value
    return bool(value if f.type == "span" else value.strip())


def _pair(
    f: Field,
    texts: Sequence[str],
    ratings: Sequence[Sequence[Any]],
    pair: tuple[int, int],
    clusters: Sequence[str] | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return the pairwise measures of two coders on the texts that both coded."""
    rows = [i for i, unit in enumerate(ratings) if all(unit[coder] is not None for coder in pair)]
    if not rows:
        return dict.fromkeys(PAIRWISE[f.type], Result(math.nan, reason="no text in common"))
    one, two = ([ratings[i][coder] for i in rows] for coder in pair)
    groups = None if clusters is None else [clusters[i] for i in rows]
    if f.type in LEVELS:
        return _labels(f, one, two, groups, settings)
    if f.type == "span":
        one, two = ([[(s["start"], s["end"], s["label"]) for s in v] for v in side] for side in (one, two))
    where = [texts[i] for i in rows] if f.type == "span" else None
    data = FieldData(f.type, f.labels, one, two, texts=where, clusters=groups)
    found = score_field(data, n_resamples=settings.n_resamples, seed=settings.seed).results
    return {name: found[name] for name in PAIRWISE[f.type]}


def _labels(
    f: Field, one: Sequence[Any], two: Sequence[Any], groups: Sequence[str] | None, settings: Settings
) -> dict[str, Result]:
    """Return kappa and agreement of two complete lists of labels."""
    import numpy as np

    k, n = len(f.labels), len(one)
    place = {label: i for i, label in enumerate(f.labels)}
    cells = np.array([place[a] * k + place[b] for a, b in zip(one, two, strict=True)], dtype=np.int64)
    sample = sample_cells(cells, k * k, None if groups is None else unit_codes(groups), None, settings.seed)
    values = label_values(f.labels) if f.type == "likert" else None

    def evaluate(totals: Any) -> dict[str, Any]:
        tables = totals.reshape(-1, k, k)
        counts = label_counts(np.concatenate([tables, np.zeros((len(tables), k, 1))], axis=-1))
        found = {"cohen_kappa": cohen_kappa(counts), "percentage_agreement": accuracy(counts)}
        return found if values is None else found | {"quadratic_kappa": quadratic_kappa(tables, values)}

    intervals = Intervals(sample, evaluate, settings, Result(math.nan, n=n, n_answered=n))
    return {
        name: intervals.result(
            name,
            proportion_of=n if name == "percentage_agreement" else None,
            bounds=(-1.0, 1.0),
            if_undefined="no variation",
        )
        for name in PAIRWISE[f.type]
    }


def _majority(
    names: Sequence[str],
    units: Sequence[Sequence[Any]],
    clusters: Sequence[str] | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return each coder's agreement with the majority of the others; ties stay unresolved and are left out."""
    found = {}
    for place, name in enumerate(names):
        human, model, groups = [], [], []
        for row, unit in enumerate(units):
            others = [value for other, value in enumerate(unit) if other != place and value is not None]
            most = sorted(((others.count(v), repr(v), v) for v in set(others)), reverse=True)[:2]
            tie = not most or (len(most) == 2 and most[0][0] == most[1][0])
            if unit[place] is not None and not tie:
                human.append(1)
                model.append(int(unit[place] == most[0][2]))
                groups.append(row if clusters is None else clusters[row])
        data = FieldData("checkbox", (0, 1), human, model, clusters=None if clusters is None else groups)
        found[name] = score_field(data, n_resamples=settings.n_resamples, seed=settings.seed).results[
            "accuracy"
        ]
    return found


def _notes(
    f: Field, overall: Mapping[str, Result], ratings: Sequence[Sequence[Any]], coders: Sequence[Compared]
) -> tuple[str, ...]:
    alpha = overall["krippendorff_alpha"]
    counts = [sum(value is not None for value in unit) for unit in ratings]
    notes = [
        f"alpha {LEVELS.get(f.type, 'of whether there is any')}; {alpha.n_answered:,} of {len(ratings):,} texts have "
        f"two coders or more, {sum(counts) / max(1, len(counts)):.1f} coders per text; intervals resample texts"
    ]
    if alpha.value < LOW_ALPHA:
        notes.append(
            f"Alpha is below {LOW_ALPHA}: the coders disagree, so that scores against labels of this kind have a low "
            "ceiling."
        )
    if f.type in LEVELS and overall["percent_agreement"].value > 0.9 and alpha.value < LOW_ALPHA:
        notes.append("Most labels are the same: alpha is low although agreement is high.")
    notes += [
        f"{coder.run_id}: {coder.left_out}, left out."
        for coder in coders
        if isinstance(coder, Coder) and coder.left_out
    ]
    return tuple(notes)
