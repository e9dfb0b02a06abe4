"""How far coders agree in one field: over all of them, pair by pair, each against the majority of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.measures.accounting import FieldData, unit_codes
from nbannot.measures.agreement import counts_agreement, scott_pi
from nbannot.measures.classification import accuracy, cohen_kappa, label_counts
from nbannot.measures.coder_pairs import against_majority, pair_matrices
from nbannot.measures.field import score_field
from nbannot.measures.intervals import Intervals, Settings
from nbannot.measures.label_metrics import label_values
from nbannot.measures.ordinal import quadratic_kappa
from nbannot.measures.resample import sample_cells, wilson
from nbannot.measures.result import Result
from nbannot.measures.set_distances import sets_agreement
from nbannot.page.latex import first_table_latex
from nbannot.page.shown import Shown
from nbannot.record import export
from nbannot.study.field import Field
from nbannot.study.sampling_weights import Weighting
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.measures.result import FloatArray, IntArray
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
    "se",
    "n",
    "reason",
)
ALL = "all"
ALL_WROTE = "a blank counts as not coded, so that everybody who is counted wrote something"
PRESENCE = {"span": "any passage", "textbox": "any text"}
"""What coders agree on, over all of them, where answers are no labels: whether there is one, not which."""
LEVELS = {"checkbox": "nominal", "dropdown": "nominal", "likert": "ordinal"}
"""The level of Krippendorff's alpha by type of field; of spans and texts it is whether there is any."""

PAIRWISE = {
    "checkbox": ("cohen_kappa", "percentage_agreement"),
    "dropdown": ("cohen_kappa", "percentage_agreement"),
    "likert": ("quadratic_kappa", "cohen_kappa", "percentage_agreement"),
    "textbox": ("norm_levenshtein", "presence_f1"),
    "span": ("token_f1", "exact_match_f1", "presence_f1"),
    "multiselect": ("krippendorff_alpha", "jaccard", "percentage_agreement"),
}
OVERALL = (
    *("krippendorff_alpha", "percent_agreement", "gwet_ac1"),
    *("fleiss_kappa", "krippendorff_alpha_interval", "alpha_jaccard"),
)
INTERVALS_UP_TO = 100
"""For more pairs, tables give their values without intervals; a pair that is looked at has them."""

FEWEST_TEXTS = 10
"""With fewer texts that have two coders, no alpha carries a verdict."""
LOW_ALPHA = 0.67
"""Krippendorff's lowest alpha for tentative conclusions."""


class Pairs(Mapping[tuple[str, str], Mapping[str, Result]]):
    """(coder, coder) -> measure -> value with its interval, which is made when the pair is looked at."""

    def __init__(self, names: Sequence[str], made: Callable[[int, int], Mapping[str, Result]]) -> None:
        self._place = {name: number for number, name in enumerate(names)}
        self._keys = list(combinations(names, 2))
        self._known = set(self._keys)
        self._made = made
        self._held: dict[tuple[str, str], Mapping[str, Result]] = {}

    def __getitem__(self, pair: tuple[str, str]) -> Mapping[str, Result]:
        if pair not in self._known:
            raise KeyError(pair)
        if pair not in self._held:
            self._held[pair] = self._made(self._place[pair[0]], self._place[pair[1]])
        return self._held[pair]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@dataclass(frozen=True, repr=False)
class Agreement(Shown):
    """How far coders agree in one field.

    Attributes
    ----------
    overall
        Over all coders: Krippendorff's alpha at the field's level (of a likert also interval alpha), percent
        agreement, Gwet's AC1, Fleiss' kappa (with missing ratings in Gwet's form), each with its standard error;
        `n` counts texts with two coders or more. Of spans and texts: whether there is any. Of a multiselect: alpha with
        MASI distance, alpha with Jaccard distance, and the share of pairs with the very same options.
    pairs
        (coder, coder) -> measure -> value, on the texts that both coded; of labels also Scott's pi.
    majority
        coder -> share of texts on which the coder agrees with the majority of the others; texts on which the others
        tie are left out. Empty for fewer than three coders, and for spans, texts and sets of options.
    matrices
        measure -> (coders, coders) values of all pairs, without intervals; empty for spans and texts.
    shared
        (coders, coders) numbers of texts that both coded; ``None`` for spans and texts.
    """

    _display: ClassVar[str] = "field_agreement_card"

    field: Field
    coders: tuple[str, ...]
    overall: Mapping[str, Result]
    pairs: Pairs
    majority: Mapping[str, Result]
    notes: tuple[str, ...]
    matrices: Mapping[str, FloatArray]
    shared: FloatArray | None

    @property
    def presence(self) -> str:
        """What the measures of all coders are about where it is not the answer itself: "any passage", "any text"."""
        return PRESENCE.get(self.field.type, "")

    @cached_property
    def frame(self) -> Frame:
        """One row per measure: of all coders (``all``), of each pair, of each coder against the others.

        Of more than 100 pairs without intervals; `pairs` has them. Of spans and texts the measures of all coders are
        called ``presence_…``: they tell whether coders found anything, not whether it was the same.
        """
        of = "presence_" if self.presence else ""
        every = [(ALL, ALL, of + name, result, result.n_answered) for name, result in self.overall.items()]
        every += [
            (*pair, name, r, r.n) for pair, measures in self._of_pairs() for name, r in measures.items()
        ]
        every += [(name, "others", "agreement_with_majority", r, r.n) for name, r in self.majority.items()]
        rows = [
            dict(zip(COLUMNS, (self.field.column, a, b, name, r.value, r.ci_low, r.ci_high, r.ci_method, r.se, n,
                               r.reason), strict=True))
            for a, b, name, r, n in every
        ]  # fmt: skip
        return make_frame(rows, COLUMNS)

    def _of_pairs(self) -> Iterator[tuple[tuple[str, str], Mapping[str, Result]]]:
        if self.shared is None or len(self.pairs) <= INTERVALS_UP_TO:
            yield from self.pairs.items()
            return
        for a, b in combinations(range(len(self.coders)), 2):
            n = int(self.shared[a, b])
            yield (
                (self.coders[a], self.coders[b]),
                {
                    name: Result(
                        float(self.matrices[name][a, b]), n=n, reason="" if n else "no text in common"
                    )
                    for name in PAIRWISE[self.field.type]
                },
            )

    def to_latex(self, caption: str | None = None, label: str | None = None, *, machine: bool = False) -> str:
        """Return the measures of all coders as LaTeX for a journal; with `machine` every row of `frame`."""
        if machine:
            return export.to_latex(self.frame, caption, label)
        words = f"Agreement of {len(self.coders)} coders: {self.field.name}"
        return first_table_latex(self._fragment().blocks, caption or words, label)

    def mean(self, measure: str) -> float:
        """Return the mean of a pairwise measure over the pairs in which it is defined; nan if there is none."""
        if self.shared is None:
            values = [
                measures[measure].value for measures in self.pairs.values() if measures[measure].defined
            ]
        else:
            matrix = self.matrices[measure]
            pairs = [float(matrix[a, b]) for a, b in combinations(range(len(self.coders)), 2)]
            values = [value for value in pairs if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def __repr__(self) -> str:
        alpha = self.overall["krippendorff_alpha"].value
        return f"<Agreement of {len(self.coders)} coders in {self.field.column}: alpha {alpha:.2f}>"


def field_agreement(
    f: Field,
    names: Sequence[str],
    values: Sequence[Mapping[str, Any]],
    texts: Mapping[str, str],
    clusters: Mapping[str, str] | None = None,
    settings: Settings = Settings(2_000),  # noqa: B008 - frozen
    level: str | None = None,
    weighting: Weighting | None = None,
) -> Agreement:
    """Return how far coders agree in one field.

    Parameters
    ----------
    values
        Per coder id -> value, ``None`` or absent where there is none.
    texts
        id -> text, of all texts.
    clusters
        id -> what it belongs to; ``None``: texts are independent.
    level
        Of alpha, if not that of the field's type.
    weighting
        What each text counts for; ``None``: all the same.
    """
    import numpy as np

    ids = list(texts)
    groups = None if clusters is None else [clusters[text_id] for text_id in ids]
    is_label = f.type in LEVELS
    known: tuple[Any, ...] = f.labels if is_label else (False, True)
    codes = _codes(f, ids, values, known)
    level = level or LEVELS.get(f.type, "nominal")
    weights, weighted = (
        (None, "") if weighting is None else weighting.on(ids, [bool(row.max() >= 0) for row in codes])
    )
    per_text = None if weights is None else dict(zip(ids, weights, strict=True))
    mass = None if weights is None else np.array(weights)
    if f.type == "multiselect":
        results = _of_sets(ids, values, groups, mass, settings)
    else:
        results = counts_agreement(_counts(codes, len(known)), known, level, groups, settings, mass)
    if f.type == "textbox" and not any(value == "" for side in values for value in side.values()):
        results = {
            name: Result(math.nan, n=r.n, n_answered=r.n_answered, reason=ALL_WROTE)
            for name, r in results.items()
        }
    overall = {name: results[name] for name in OVERALL if name in results}

    def pair(a: int, b: int) -> Mapping[str, Result]:
        return _pair(f, ids, (values[a], values[b]), texts, clusters, per_text, settings)

    matrices: dict[str, FloatArray] = {}
    shared: FloatArray | None = None
    if is_label:
        points = label_values(f.labels) if f.type == "likert" else None
        matrices, shared = pair_matrices(codes, len(known), points, mass)
    majority = _majority(names, codes, known, groups, mass, settings) if is_label and len(names) > 2 else {}
    notes = (*_notes(f, overall, codes, level), *([weighted] if weighted else []))
    return Agreement(f, tuple(names), overall, Pairs(names, pair), majority, notes, matrices, shared)


def _of_sets(
    ids: Sequence[str],
    values: Sequence[Mapping[str, Any]],
    groups: Sequence[str] | None,
    weights: FloatArray | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return the agreement of all coders in which options apply."""
    units = [[frozenset(side[i]) for side in values if side.get(i) is not None] for i in ids]
    results = sets_agreement(units, groups, settings, weights)
    n = results["krippendorff_alpha"]
    return results | {
        "gwet_ac1": Result(math.nan, n=n.n, n_answered=n.n_answered, reason="not for sets of options")
    }


def _codes(
    f: Field, ids: Sequence[str], values: Sequence[Mapping[str, Any]], known: Sequence[Any]
) -> IntArray:
    """Return (texts, coders) labels as numbers, -1 for none."""
    import numpy as np

    row = {text_id: number for number, text_id in enumerate(ids)}
    place = {label: number for number, label in enumerate(known)}
    codes = np.full((len(ids), len(values)), -1, dtype=np.int64)
    for coder, of_coder in enumerate(values):
        given = (
            of_coder
            if None not in of_coder.values()
            else {i: v for i, v in of_coder.items() if v is not None}
        )
        labels = given.values() if f.type in LEVELS else [_coded(f, value) for value in given.values()]
        codes[[row[i] for i in given], coder] = [place[label] for label in labels]
    return codes


def _counts(codes: IntArray, k: int) -> FloatArray:
    import numpy as np

    return np.stack([(codes == label).sum(1) for label in range(k)], axis=1).astype(float)


def _coded(f: Field, value: Any) -> Any:
    """Return a value as it enters alpha: of spans and texts whether there is any."""
    if f.type in LEVELS or value is None:
        return value
    return bool(value if f.type in ("span", "multiselect") else value.strip())


def _pair(
    f: Field,
    ids: Sequence[str],
    sides: tuple[Mapping[str, Any], Mapping[str, Any]],
    texts: Mapping[str, str],
    clusters: Mapping[str, str] | None,
    per_text: Mapping[str, float] | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return the pairwise measures of two coders on the texts that both coded."""
    import numpy as np

    both = [i for i in ids if all(side.get(i) is not None for side in sides)]
    if not both:
        return dict.fromkeys(PAIRWISE[f.type], Result(math.nan, reason="no text in common"))
    one, two = ([side[i] for i in both] for side in sides)
    groups = None if clusters is None else [clusters[i] for i in both]
    weights = None if per_text is None else np.array([per_text[i] for i in both])
    if f.type in LEVELS:
        return _labels(f, one, two, groups, weights, settings)
    if f.type == "span":
        one, two = ([[(s["start"], s["end"], s["label"]) for s in v] for v in side] for side in (one, two))
    where = [texts[i] for i in both] if f.type == "span" else None
    data = FieldData(f.type, f.labels, one, two, texts=where, clusters=groups, weights=weights)
    results = score_field(data, n_resamples=settings.n_resamples, seed=settings.seed).results
    return {name: results[name] for name in PAIRWISE[f.type]}


def _labels(
    f: Field,
    one: Sequence[Any],
    two: Sequence[Any],
    groups: Sequence[str] | None,
    weights: FloatArray | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return kappa and agreement of two complete lists of labels."""
    import numpy as np

    k, n = len(f.labels), len(one)
    place = {label: i for i, label in enumerate(f.labels)}
    cells = np.array([place[a] * k + place[b] for a, b in zip(one, two, strict=True)], dtype=np.int64)
    sample = sample_cells(
        cells, k * k, None if groups is None else unit_codes(groups), weights, settings.seed
    )
    values = label_values(f.labels) if f.type == "likert" else None

    def evaluate(totals: Any) -> dict[str, Any]:
        tables = totals.reshape(-1, k, k)
        counts = label_counts(np.concatenate([tables, np.zeros((len(tables), k, 1))], axis=-1))
        statistics_of = {
            "cohen_kappa": cohen_kappa(counts),
            "percentage_agreement": accuracy(counts),
            "scott_pi": scott_pi(tables),
        }
        return (
            statistics_of
            if values is None
            else statistics_of | {"quadratic_kappa": quadratic_kappa(tables, values)}
        )

    intervals = Intervals(sample, evaluate, settings, Result(math.nan, n=n, n_answered=n))
    return {
        name: replace(
            intervals.result(
                name,
                proportion_of=n if name == "percentage_agreement" else None,
                bounds=(-1.0, 1.0),
                if_undefined="no variation",
            ),
            se=intervals.error(name),
        )
        for name in (*PAIRWISE[f.type], "scott_pi")
    }


def _majority(
    names: Sequence[str],
    codes: IntArray,
    known: Sequence[Any],
    groups: Sequence[str] | None,
    weights: FloatArray | None,
    settings: Settings,
) -> dict[str, Result]:
    """Return each coder's agreement with the majority of the others; ties stay unresolved and are left out."""
    if groups is not None or weights is not None:
        return {
            name: _resampled_majority(codes, coder, len(known), groups, weights, settings)
            for coder, name in enumerate(names)
        }
    results = {}
    for name, n, same in zip(names, *against_majority(codes, len(known)), strict=True):
        if not n:
            results[name] = Result(math.nan, reason="no text on which the others have a majority")
            continue
        low, high = wilson(float(same), float(n), settings.level)
        results[name] = Result(same / n, low, high, "Wilson", int(n), int(n))
    return results


def _resampled_majority(
    codes: IntArray,
    coder: int,
    k: int,
    groups: Sequence[str] | None,
    weights: FloatArray | None,
    settings: Settings,
) -> Result:
    human, model, kept = [], [], []
    others = _counts(codes, k)
    for row, code in enumerate(codes[:, coder]):
        counts = others[row].copy()
        if code >= 0:
            counts[code] -= 1
        most = counts.max()
        if code >= 0 and most > 0 and (counts == most).sum() == 1:
            human.append(1)
            model.append(int(counts.argmax() == code))
            kept.append(row)
    data = FieldData(
        "checkbox",
        (0, 1),
        human,
        model,
        clusters=None if groups is None else [groups[row] for row in kept],
        weights=None if weights is None else weights[kept],
    )
    return score_field(data, n_resamples=settings.n_resamples, seed=settings.seed).results["accuracy"]


def _notes(f: Field, overall: Mapping[str, Result], codes: IntArray, level: str) -> tuple[str, ...]:
    alpha = overall["krippendorff_alpha"]
    n, given = len(codes), int((codes >= 0).sum())
    what = level if f.type in LEVELS else "of whether there is any"
    if f.type == "multiselect":
        what = "with MASI distance, of the options chosen"
    notes = [
        f"alpha {what}; {alpha.n_answered:,} of {n:,} texts have two coders or more, {given / max(1, n):.1f} coders "
        "per text; intervals resample texts"
    ]
    if alpha.defined and alpha.n_answered < FEWEST_TEXTS:
        notes.append("So few texts with two coders or more do not tell how far the coders agree.")
    elif alpha.value < LOW_ALPHA:
        notes.append(
            f"Alpha is below {LOW_ALPHA}: the coders disagree, so that scores against labels of this kind have a low "
            "ceiling."
        )
    if (
        f.type in LEVELS
        and overall["percent_agreement"].value > 0.9
        and alpha.value < LOW_ALPHA
        and alpha.n_answered >= FEWEST_TEXTS
    ):
        notes.append("Most labels are the same: alpha is low although agreement is high.")
    return tuple(notes)
