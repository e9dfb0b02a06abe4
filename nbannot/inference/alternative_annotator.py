"""The alternative annotator test: may a model stand in for one of these coders? (Calderon, Reichart & Dror 2025)

Each coder in turn is left out and compared with the candidate: who agrees better with the remaining coders? The coder
is *beaten* when the candidate is shown to be worse on fewer than a share ε of the texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbannot.comparing.align import Compared, given_items, refuse_other_fields, shared_field
from nbannot.errors import ScoringError, listed
from nbannot.inference.alternative_page import Against, AltTest
from nbannot.inference.finding import looks_at
from nbannot.record.run import Run
from nbannot.report.report import model_name
from nbannot.report.words import plural
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.measures.result import FloatArray, IntArray

FEWEST_TEXTS = 30
"""Below this the t-test of the paper is replaced by its signed-rank test."""
FEWEST_CODERS = 3
EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2)
EPSILON_WORDS = (
    "0.2 for experts, 0.15 for trained coders, 0.1 for crowd workers, less where people agree little"
)


def alt_test(
    candidate: Compared,
    column: str | None = None,
    *,
    coders: Sequence[Compared],
    epsilon: float,
    expert: str | None = None,
    cluster: str | None = None,
    weights: str | None = None,
    q: float = 0.05,
    min_texts: int = FEWEST_TEXTS,
    n_resamples: int = 2_000,
    seed: int = 1,
) -> AltTest:
    """Test whether a model (or a person) may stand in for one of these coders in one field.

    Parameters
    ----------
    candidate
        A `Run`, or a `Coder`.
    column
        The field (name or column); may be left out where all share only one.
    coders
        Two or more (better three) `Coder`; the labels of the task itself play no part.
    epsilon
        By how much the candidate may be worse and still count as equal, from 0 to below 1, because it costs less: 0.2
        for experts, 0.15 for trained coders, 0.1 for crowd workers. To be chosen before looking, so it has no default.
    expert
        Name of the one coder who is right by definition: candidate and other coders are compared with them alone.
    cluster
        Column of the data that says which texts belong together (the task's own when left out); the test is
        then a t test on the cluster jackknife.
    weights
        Column of the data with 1 / the probability with which each text was drawn for the coders (the task's own, or
        its ``sample.csv``, when left out; ``""`` for none): shares, the t test and intervals are weighted by it.
    q
        False discovery rate over the coders (Benjamini & Yekutieli 2001).
    min_texts
        Coders with fewer texts are reported, but not tested. Below 30 texts a signed-rank test takes the place of the
        t test.
    n_resamples, seed
        Of the bootstrap intervals over texts.

    Raises
    ------
    ScoringError
        If there are fewer than two coders, the candidate is one of them, they share no field or no text, or a number
        is out of range.

    Notes
    -----
    Calderon, Reichart & Dror, "The Alternative Annotator Test for LLM-as-a-Judge", ACL 2025. There, texts without an
    answer of the model are dropped; here they count, with the worst score, so that nobody passes by silence.
    """
    items = given_items(coders)
    _check(candidate, items, epsilon, q, min_texts, expert)
    refuse_other_fields([candidate, *items])
    load("numpy", "scipy.stats")
    from nbannot.inference.alternative_scores import scored

    how = ': alt_test(candidate, "...", coders=...)'
    f = shared_field([candidate, *items], column, "not all of them coded", how)
    cluster = candidate.task.cluster_column(cluster)
    table = scored(f, candidate, items, cluster, expert, candidate.task.weighting(weights))
    names = [item.run_id for item in items if item.run_id != expert]
    by_epsilon = {
        e: _adjusted([_against(n, i, table, e, min_texts) for i, n in enumerate(names)], q)
        for e in sorted({*EPSILONS, float(epsilon)})
    }
    coders_found = by_epsilon[float(epsilon)]
    if all(one.reason for one in coders_found):
        raise ScoringError(
            f"no coder shares {min_texts} texts with another coder and {candidate.run_id}: "
            f"{listed(f'{one.coder} {one.n}' for one in coders_found)}.\n"
            f"  Code more texts twice, or lower min_texts (a signed-rank test is used below {FEWEST_TEXTS})."
        )
    kept = [place for place, one in enumerate(coders_found) if not one.reason]
    rho, ceiling = table.intervals(kept, n_resamples, seed)
    over = {e: _winning_rate(tested) for e, tested in by_epsilon.items()}
    people, model, difference = table.agreement()
    scores = table.against_the_others(n_resamples, seed)
    return AltTest(
        field=f,
        candidate=_name(candidate),
        epsilon=float(epsilon),
        winning_rate=over[float(epsilon)],
        advantage=sum(coders_found[i].advantage for i in kept) / len(kept),
        advantage_low=rho[0],
        advantage_high=rho[1],
        coders=tuple(coders_found),
        sensitivity=over,
        human_agreement=people,
        candidate_agreement=model,
        ceiling_difference=difference,
        ceiling_low=ceiling[0],
        ceiling_high=ceiling[1],
        n=table.n,
        measure=table.measure,
        notes=(
            *_notes(table, coders_found, cluster, expert),
            *([table.weighted] if table.weighted else []),
            *looks_at(candidate.task),
        ),
        scores=tuple((name, *one) for name, one in zip([_name(candidate), *names], scores, strict=True)),
    )


def _name(item: Compared) -> str:
    """Return what the candidate is called: a model without its settings, which the run's id stands for."""
    return f"{model_name(item)} [{item.run_id}]" if isinstance(item, Run) else item.model_id


def _check(
    candidate: Any, coders: Sequence[Compared], epsilon: Any, q: Any, min_texts: Any, expert: str | None
) -> None:
    given_items([candidate])
    number_like = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not number_like or not 0 <= epsilon < 1:
        raise ScoringError(
            f"epsilon must be a number from 0 to below 1. Got {epsilon!r}.\n  Usual: {EPSILON_WORDS}."
        )
    if not isinstance(q, int | float) or not 0 < q < 1:
        raise ScoringError(f"q must be a number between 0 and 1. Got {q!r}.")
    if not isinstance(min_texts, int) or isinstance(min_texts, bool) or min_texts < 2:
        raise ScoringError(f"min_texts must be a whole number of at least 2. Got {min_texts!r}.")
    names = [item.run_id for item in coders]
    if candidate.run_id in names:
        raise ScoringError(
            f"{candidate.run_id} cannot be tested against itself: take it out of coders=[...]."
        )
    if len(coders) < 2:
        raise ScoringError(
            f"the test needs at least two coders, preferably three. Got {len(coders)}.\n"
            "  Have another person code: nba.code(task, coder=NAME)."
        )
    if expert is not None and expert not in names:
        raise ScoringError(f"expert='{expert}' is not one of the coders: {listed(names)}.")


def _against(name: str, place: int, table: Any, epsilon: float, min_texts: int) -> Against:
    wins, losses, groups = table.indicators(place)
    n, missing, weights = len(wins), table.missing(place), table.weights_of(place)
    if n < min_texts:
        reason = f"not tested: {plural(n, 'text')}, fewer than {min_texts}"
        return Against(
            name, n, missing, *_means(wins, losses, weights), math.nan, math.nan, False, "", reason
        )
    d = losses - wins
    p, test = one_sided_p(d, epsilon, groups, weights)
    return Against(name, n, missing, *_means(wins, losses, weights), p, math.nan, False, test)


def _means(
    wins: FloatArray, losses: FloatArray, weights: FloatArray | None = None
) -> tuple[float, float, float]:
    if not len(wins):
        return math.nan, math.nan, math.nan
    if weights is not None:
        wins, losses = weights * wins, weights * losses
    return float(wins.mean()), float(losses.mean()), float((losses - wins).mean())


def one_sided_p(
    d: FloatArray, epsilon: float, groups: IntArray | None, weights: FloatArray | None = None
) -> tuple[float, str]:
    """Return p of "the mean of `d` is ε or more", and the name of the test.

    Where `d` does not vary, p is 0 for a mean below ε and 1 otherwise. With weights it is a t test on the
    linearised mean (Särndal, Swensson & Wretman 1992), also for few texts: the signed-rank test knows no weights.
    """
    import numpy as np
    from scipy import stats

    if weights is not None and np.ptp(d) > 0:
        mean = float((weights * d).sum() / weights.sum())
        pull = weights * (d - mean)
        sums = pull if groups is None else np.bincount(groups, pull)[np.bincount(groups) > 0]
        g = len(sums)
        if g < 2:
            return 1.0, "one cluster: no test"
        se = math.sqrt(g / (g - 1) * float((sums**2).sum())) / float(weights.sum())
        words = "weighted t" if groups is None else f"weighted t, {g} clusters"
        return (float(stats.t.cdf((mean - epsilon) / se, g - 1)) if se else float(mean >= epsilon)), words
    mean = float(d.mean())
    if np.ptp(d) == 0:
        return (0.0 if mean < epsilon else 1.0), "no variation"
    if groups is not None:
        sums, sizes = np.bincount(groups, d), np.bincount(groups)
        sums, sizes = sums[sizes > 0], sizes[sizes > 0]
        g = len(sums)
        if g < 2:
            return 1.0, "one cluster: no test"
        left_out = (d.sum() - sums) / (len(d) - sizes)
        se = math.sqrt((g - 1) / g * float(((left_out - left_out.mean()) ** 2).sum()))
        if se == 0:
            return (0.0 if mean < epsilon else 1.0), "no variation"
        return float(stats.t.cdf((mean - epsilon) / se, g - 1)), f"cluster jackknife t, {g} clusters"
    if len(d) < FEWEST_TEXTS:
        return float(stats.wilcoxon(d - epsilon, alternative="less").pvalue), "signed rank"
    return float(stats.ttest_1samp(d, epsilon, alternative="less").pvalue), "t"


def _adjusted(tested: Sequence[Against], q: float) -> list[Against]:
    from dataclasses import replace

    from nbannot.measures.significance import adjusted

    every = adjusted([one.p for one in tested], "by").tolist()
    return [
        replace(one, p_adjusted=p, beaten=not math.isnan(p) and p <= q)
        for one, p in zip(tested, every, strict=True)
    ]


def _winning_rate(tested: Sequence[Against]) -> float:
    known = [one for one in tested if not one.reason]
    return sum(one.beaten for one in known) / len(known)


def _notes(table: Any, coders: Sequence[Against], cluster: str | None, expert: str | None) -> tuple[str, ...]:
    tested = [one for one in coders if not one.reason]
    notes = []
    if expert is not None:
        notes.append(f"Everybody is compared with {expert} alone, whose labels are taken to be right.")
    if table.n_missing:
        notes.append(
            f"On {table.n_missing} of {table.n} texts the candidate has no valid answer: the worst score there is."
        )
    if table.n_not_asked:
        notes.append(f"{plural(table.n_not_asked, 'text')} that the candidate was not given: left out.")
    if table.n_single and expert is None:
        notes.append(f"{plural(table.n_single, 'text')} with a single coder: left out.")
    skipped = [one.coder for one in coders if one.reason]
    if skipped:
        notes.append(f"Too few texts to be tested, and not in the winning rate: {listed(skipped)}.")
    if len(tested) < FEWEST_CODERS:
        notes.append(
            f"Only {plural(len(tested), 'coder')} tested: three or more are recommended, and the winning rate can only "
            f"be a multiple of 1/{len(tested)}."
        )
    elif len(tested) < 10:
        notes.append(f"With {len(tested)} coders the winning rate can only be a multiple of 1/{len(tested)}.")
    if cluster is None:
        notes.append(
            "Texts are taken to be independent; if they share documents or authors, name the column: cluster=..."
        )
    return tuple(notes)
