"""Tipping point: how differently wrong in two groups would the model have to be for the finding to change?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import in_range
from nbannot.inference.tipping_page import Rates, Tip, TippingPoint
from nbannot.record.run import Run
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.study.task import Task

STEPS = 80


def corrected_difference(
    called: Sequence[float], sensitivity: Sequence[float], specificity: Sequence[float]
) -> float:
    """Return ``p_1 - p_0`` with ``p_g = (q_g + Sp_g - 1) / (Se_g + Sp_g - 1)``; ``nan`` where a model knows nothing.

    >>> round(corrected_difference([0.3, 0.5], [0.8, 0.8], [0.9, 0.9]), 4)
    0.2857
    """
    shares = []
    for q, se, sp in zip(called, sensitivity, specificity, strict=True):
        if se + sp - 1 <= 0:
            return math.nan
        shares.append((q + sp - 1) / (se + sp - 1))
    return shares[1] - shares[0]


def differential(
    called: Sequence[float],
    sensitivity: float,
    specificity: float,
    rate: Literal["sensitivity", "specificity"],
) -> float:
    """Return how far apart the two groups' rates have to be, half each way, for the difference to vanish; signed.

    ``d = 2 J (a_1 - a_0) / (a_1 + a_0)`` for sensitivities and ``d = 2 J (a_1 - a_0) / (a_1 + a_0 - 2 J)`` for
    specificities, with ``a_g = q_g + Sp - 1`` and ``J = Se + Sp - 1``; ``nan`` where none within [0, 1] does.
    """
    j = sensitivity + specificity - 1
    first, second = (q + specificity - 1 for q in called)
    below = first + second - (0.0 if rate == "sensitivity" else 2 * j)
    if j <= 0 or below == 0:
        return math.nan
    d = 2 * j * (second - first) / below
    return d if within(sensitivity if rate == "sensitivity" else specificity, d) else math.nan


def within(rate: float, apart: float) -> bool:
    """Return whether both groups' rates stay within [0, 1] when they are so far apart."""
    return rate - abs(apart) / 2 >= 0 and rate + abs(apart) / 2 <= 1


def tipping_point(
    formula: str,
    corpus: Run,
    *,
    gold: Run | Task | Coder | None = None,
    sampled: Literal["random", "by label"] | None = None,
    term: str | None = None,
    family: Literal["ols", "logit", "poisson"] = "ols",
    cluster: str | None = None,
    weights: str | None = None,
    probability: str | None = None,
    reason: str | None = None,
    level: float = 0.95,
    draws: int = 5,
    seed: int = 1,
) -> TippingPoint:
    """Return how wrong, and how differently wrong between two groups, the model would have to be to change a finding.

    Parameters
    ----------
    formula
        ``"Stance == 'pro' ~ party"``: an outcome of 0 or 1, and one column with two groups; with more terms, another
        `family` or a `term`, the regression of `regress`, of which one coefficient is asked about.
    term
        Which coefficient, as `regress` names it; the first one when left out. The rates may differ between the texts
        that it sets apart: those of its two values, else above and up to its median.
    family, cluster
        As in `regress`.
    corpus, gold, sampled, weights, probability, reason
        As in `prevalence`; the coded texts give the error rates in each group.
    level
        Of the intervals.
    draws, seed
        Of the outcomes that are drawn at other rates for a regression; the same draws at every rate.

    Raises
    ------
    ScoringError
        If there are not two groups, the outcome is not 0 or 1, or a group has no coded text of either kind.

    Notes
    -----
    Rogan & Gladen (1978) in each group. Three scenarios: sensitivities apart, specificities apart (both half each way
    around the rate measured over both groups), and both rates of both groups worse by the same amount, from the rates
    measured in each. For a regression the outcome of every text is drawn given the model's label, at the rates in
    question, and the coefficient estimated again; the distance of the rates is found by bisection.
    """
    in_range("level", level, 0, 1)
    load("numpy", "scipy.stats")
    from nbannot.inference.gold import given_corpus

    given_corpus(corpus, formula)
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 2:
        raise ScoringError(f"draws must be a whole number of at least 2. Got {draws!r}.")
    design: dict[str, Any] = {
        "gold": gold, "sampled": sampled, "weights": weights, "probability": probability, "reason": reason,
    }  # fmt: skip
    if term is not None or family != "ols" or cluster is not None or not _two_groups(formula, corpus.task):
        return _of_regression(formula, corpus, term, family, cluster, level, draws, seed, design)
    import numpy as np

    from nbannot.inference.drawn import group_codes
    from nbannot.inference.formula import numbers, parsed
    from nbannot.inference.gold import measured
    from nbannot.inference.regression_data import labels_at

    side, by = parsed(formula, corpus.task)
    by = by.strip("`")
    if side.field is None:
        raise ScoringError(f"'{side.column}' is not a field, so this finding uses no label of the model.")
    labels = measured(corpus, side.asked or side.field.column, **design)
    codes, names = group_codes(labels.column(by))
    if len(names) != 2:
        raise ScoringError(
            f"a tipping point compares two groups. Column '{by}' has {len(names)}: {listed(map(repr, names))}.\n"
            "  Keep only two of them, or name a column with two values."
        )
    y, human = (numbers(side, labels_at(side.field, labels, which)) for which in (labels.model, labels.human))
    known = ~np.isnan(y)
    if not np.isin(y[known], (0, 1)).all():
        raise ScoringError(f"the outcome must be 0 or 1: compare {side.field.name} with one label.")
    rows = [known & (codes == g) for g in (0, 1)]
    rates = (
        _rates(names[0], y[rows[0]], human[rows[0]], labels.weights[rows[0]], level),
        _rates(names[1], y[rows[1]], human[rows[1]], labels.weights[rows[1]], level),
    )
    _refuse_unmeasured(rates)
    notes = list(labels.notes)
    if unanswered := int((~known).sum()):
        notes.append(f"{unanswered:,} texts without a valid answer of the model are left out.")
    return _tipped(side.text, by, (names[0], names[1]), rates, level, notes)


def _two_groups(formula: str, task: Task) -> bool:
    """Return whether a formula compares the groups of one column, and does nothing else."""
    from nbannot.inference.formula import parsed

    return parsed(formula, task)[1].strip("`") in task.data.columns


def _of_regression(
    formula: str,
    corpus: Run,
    term: str | None,
    family: Literal["ols", "logit", "poisson"],
    cluster: str | None,
    level: float,
    draws: int,
    seed: int,
    design: dict[str, Any],
) -> TippingPoint:
    from nbannot.inference.formula import parsed
    from nbannot.inference.moments import fit
    from nbannot.inference.regression_data import regression_data
    from nbannot.inference.tipping_regression import answered_outcome, coefficient, people
    from nbannot.measures.resample import normal_quantile

    side, _ = parsed(formula, corpus.task)
    if side.field is None:
        raise ScoringError(f"'{side.column}' is not a field, so this finding uses no label of the model.")
    data = regression_data(formula, corpus, cluster=corpus.task.cluster_column(cluster), **design)
    y = answered_outcome(data)
    one, names = coefficient(data, family, term, draws, seed)
    human, used = people(data), data.answered
    weight = _with_ones(data)
    rates = tuple(
        _rates(names[g], data.y[rows], human[rows], weight[rows], level)
        for g in (0, 1)
        if (rows := used & (one.group == g)).any()
    )
    _refuse_unmeasured(rates)
    groups = None if data.clusters is None else data.clusters[used]
    naive = fit(family, data.x[used], y, clusters=None if groups is None else _codes(groups))
    notes = [
        *data.notes,
        f"Outcomes drawn {draws} times at every rate (seed {seed}); the rates depend on the model's label and on the "
        "two groups alone.",
    ]
    at = one.at(normal_quantile((1 + level) / 2))
    name = data.terms[one.place]
    return _tipped(
        side.text, name, names, (rates[0], rates[1]), level, notes, at, float(naive.beta[one.place]), name
    )


def _codes(groups: Any) -> Any:
    import numpy as np

    return np.unique(groups, return_inverse=True)[1]


def _with_ones(data: Any) -> Any:
    """Return (N,) the weights of the coded texts, 1 elsewhere."""
    import numpy as np

    weight = np.ones(len(data.y))
    weight[data.rows] = data.weight
    return weight


def _refuse_unmeasured(rates: Sequence[Rates]) -> None:
    missing = [one.group for one in rates if not one.n_positive or not one.n_negative]
    if missing or len(rates) < 2:
        raise ScoringError(
            f"no error rates can be measured in {listed(missing)}: people must have coded texts with that "
            "label and without it."
        )


def _rates(group: str, y: Any, human: Any, weight: Any, level: float) -> Rates:
    """Return the rates of a group, its coded texts weighted; intervals have their effective n."""
    from nbannot.measures.resample import wilson

    def right(rows: Any, hits: Any) -> tuple[float, float, float]:
        w = weight[rows]
        if not len(w):
            return math.nan, math.nan, math.nan
        value = float((w * hits[rows]).sum() / w.sum())
        n = float(w.sum() ** 2 / (w**2).sum())
        return value, *wilson(value * n, n, level)

    positive, negative = human == 1, human == 0
    return Rates(
        group, len(y), float(y.mean()) if len(y) else math.nan, *right(positive, y), *right(negative, 1 - y),
        int(positive.sum()), int(negative.sum()),
    )  # fmt: skip


def _tipped(
    outcome: str,
    by: str,
    groups: tuple[str, str],
    rates: tuple[Rates, Rates],
    level: float,
    notes: list[str],
    drawn: Callable[[Sequence[float], Sequence[float]], tuple[float, float]] | None = None,
    naive: float = math.nan,
    term: str = "",
) -> TippingPoint:
    from nbannot.measures.resample import normal_quantile

    z = normal_quantile((1 + level) / 2)
    called = [one.called for one in rates]
    n_pos, n_neg = sum(one.n_positive for one in rates), sum(one.n_negative for one in rates)
    se = sum(one.sensitivity * one.n_positive for one in rates) / n_pos
    sp = sum(one.specificity * one.n_negative for one in rates) / n_neg
    if se + sp <= 1:
        raise ScoringError(
            f"sensitivity {se:.2f} and specificity {sp:.2f} are no better than chance: these labels carry no "
            "information."
        )

    def at(se_pair: Sequence[float], sp_pair: Sequence[float]) -> tuple[float, float]:
        """Return the difference (or coefficient) and its half-width at these rates."""
        if drawn is not None:
            return drawn(se_pair, sp_pair)
        d = corrected_difference(called, se_pair, sp_pair)
        variance = sum(
            q * (1 - q) / one.n / (a + b - 1) ** 2
            for q, one, a, b in zip(called, rates, se_pair, sp_pair, strict=True)
            if a + b > 1
        )
        return d, z * math.sqrt(variance)

    base, half = at((se, se), (sp, sp))
    tips = []
    for name, apart, rate in (
        ("sensitivity", lambda d: ((se - d / 2, se + d / 2), (sp, sp)), se),
        ("specificity", lambda d: ((se, se), (sp - d / 2, sp + d / 2)), sp),
    ):
        own = [getattr(one, name) for one in rates]
        limits = _newcombe(rates, name)
        clear = abs(base) > half
        if drawn is None:
            to_zero = differential(called, se, sp, name)  # type: ignore[arg-type]
            to_unsure = _first(apart, at, to_zero, rate, base) if clear else 0.0
        else:
            to_unsure, to_zero = _crossings(apart, at, 2 * min(rate, 1 - rate))
        for what, d in (("the interval reaches 0", to_unsure), ("the sign changes", to_zero)):
            no = "none within [0, 1]" if math.isnan(d) else ""
            side = groups[int(d > 0)] if d else ""
            apart_already = own[1] - own[0]
            if not no and clear and d * apart_already > 0 and abs(apart_already) >= abs(d):
                notes.append(f"As measured, the two {name[:-1]}ies are apart by more than it takes: {what}.")
            tips.append(Tip(f"{name} apart", what, abs(d), "" if no else side, own[1] - own[0], *limits, no))
    worse = _common(rates, at, 1000 if drawn is None else 24)
    for what, c in worse.items():
        tips.append(Tip("both worse in both", what, c, reason="none within [0, 1]" if math.isnan(c) else ""))
    return TippingPoint(
        outcome, by, groups, naive if term else called[1] - called[0], base, base - half, base + half, tuple(tips),
        rates, level, tuple(notes), term,
    )  # fmt: skip


def _crossings(
    apart: Callable[[float], Any], at: Callable[..., tuple[float, float]], most: float
) -> tuple[float, float]:
    from nbannot.inference.tipping_regression import crossings

    found = crossings(lambda d: at(*apart(d)), most)
    return found["the interval reaches 0"], found["the sign changes"]


def _newcombe(rates: tuple[Rates, Rates], name: str) -> tuple[float, float]:
    """Return the limits of the measured difference of two rates (Newcombe 1998, from the Wilson limits)."""
    (p0, l0, h0), (p1, l1, h1) = (
        (getattr(one, name), getattr(one, f"{name}_low"), getattr(one, f"{name}_high")) for one in rates
    )
    d = p1 - p0
    return d - math.hypot(p1 - l1, h0 - p0), d + math.hypot(h1 - p1, p0 - l0)


def _first(
    apart: Callable[[float], Any],
    at: Callable[..., tuple[float, float]],
    to_zero: float,
    rate: float,
    base: float,
) -> float:
    """Return the smallest distance of the rates at which the interval reaches 0, before the sign changes."""
    far = to_zero
    if math.isnan(far):  # go as far as the rates allow, in the direction in which the difference shrinks
        most = 2 * min(rate, 1 - rate)
        ends = [(d, at(*apart(d))) for d in (most, -most)]
        reached = [d for d, (value, half) in ends if not math.isnan(value) and abs(value) <= half]
        if not reached:
            return math.nan
        far = reached[0]
    low, high = 0.0, far
    for _ in range(STEPS):
        middle = (low + high) / 2
        value, half = at(*apart(middle))
        if math.isnan(value) or abs(value) <= half or (value > 0) != (base > 0):
            high = middle
        else:
            low = middle
    return high


def _common(
    rates: tuple[Rates, Rates], at: Callable[..., tuple[float, float]], steps: int
) -> dict[str, float]:
    """Return by how much both rates of both groups have to fall for the interval to reach 0, and for another sign."""
    first = at([one.sensitivity for one in rates], [one.specificity for one in rates])
    points = {"the interval reaches 0": math.nan, "the sign changes": math.nan}
    most = min((one.sensitivity + one.specificity - 1) / 2 for one in rates)
    for step in range(steps + 1):
        c = most * step / steps
        value, half = at([one.sensitivity - c for one in rates], [one.specificity - c for one in rates])
        if math.isnan(value):
            break
        if math.isnan(points["the interval reaches 0"]) and abs(value) <= half:
            points["the interval reaches 0"] = c
        if (value > 0) != (first[0] > 0):
            points["the sign changes"] = c
            break
    return points
