"""Prevalence: how many texts of a corpus are what, corrected for the model's errors by a sample that people coded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nbannot.errors import ScoringError, listed
from nbannot.inference.finding import in_range
from nbannot.inference.prevalence_page import MOST_PLOTS, Prevalence, Share
from nbannot.page.digits import share
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.inference.drawn import Measured
    from nbannot.inference.shares import GoldTable
    from nbannot.measures.result import FloatArray
    from nbannot.study.task import Task

CLUSTERS_FEW = 30
"""Below so many clusters an interval is too narrow even with t, and the result says so."""
TOO_FEW = 5
"""Below so many expected human instances the interval is cautious: look at the gold-only one, too."""
LARGE_ERROR = 0.1
"""A share that is right while the model is wrong this often in both directions is right only because errors cancel."""
UNDECLARED = (
    "The coded texts are not a simple random sample of the corpus: the model's labels of them differ from those of the "
    "others more than chance allows. This holds if they were drawn at random within each label of the model (say so: "
    'sampled="by label"), and not if they were chosen otherwise.'
)


def prevalence(
    corpus: Run,
    column: str | None = None,
    *,
    by: str | None = None,
    gold: Run | Task | Coder | None = None,
    sampled: Literal["random", "by label"] | None = None,
    weights: str | None = None,
    probability: str | None = None,
    cluster: str | None = None,
    target: Literal["corpus", "population"] = "corpus",
    reason: str | None = None,
    level: float = 0.95,
) -> Prevalence:
    """Return the share of each label in a corpus, corrected for the model's errors, beside the naive one.

    Parameters
    ----------
    corpus
        A `Run` of the model on every text of the corpus, a random part of which people coded.
    column
        The field (name or column); may be left out where only one was asked. Of texts and spans the share that has any.
        Of a multiselect ``"Field: option"`` is the share with this option, the field alone the share with any.
    by
        Column of the data with groups or times: one set of shares for each, from its own labels.
    gold
        Where the human labels are, if not in the corpus' own data: a `Task` or `Coder` with some of its texts, or a
        `Run` with the same prompt and model on texts drawn with the corpus (they are added to it).
    sampled
        How the coded texts were drawn: ``"random"`` from the corpus, or ``"by label"``: random within each label of
        the model. Left out, it is the first where the model's labels do not speak against it, else the second. With
        known probabilities give one of the next two; a ``sample.csv`` in the task's folder is read by itself.
    weights, probability
        Column of the data with 1 / probability, or the probability, with which each text was drawn for coding.
    cluster
        Column of the data that says which texts belong together (document, author, speaker); the task's own when
        left out.
    target
        ``"corpus"``: these texts; ``"population"``: what they were drawn from.
    reason
        Why the locked test half of the corpus is opened: its labels are the ones that may be used.
    level
        Of the intervals.

    Raises
    ------
    ScoringError
        If the coded texts cannot stand for the corpus; the letter says which condition fails.

    Notes
    -----
    Post-stratification (Holt & Smith 1979; Särndal, Swensson & Wretman 1992; Olofsson et al. 2014): within the texts to
    which the model gives the same label, people's labels of the sample stand for all. Labels of the model with fewer
    than two coded texts are joined with others. Beside it: the coded texts alone (Wilson) and prediction-powered
    inference (Angelopoulos et al. 2023; PPI++), whose intervals are too narrow for rare labels.
    """
    in_range("level", level, 0, 1)
    if target not in ("corpus", "population"):
        raise ScoringError(f"target must be 'corpus' or 'population'. Got {target!r}.")
    load("numpy", "scipy.stats")
    from nbannot.inference.drawn import group_codes
    from nbannot.inference.gold import measured

    labels = measured(
        corpus,
        column,
        gold=gold,
        sampled=sampled,
        weights=weights,
        probability=probability,
        groups=by,
        reason=reason,
    )
    import numpy as np

    cluster = labels.task.cluster_column(cluster)
    groups, names = (
        (np.zeros(len(labels.human), dtype=np.int64), [""]) if by is None else group_codes(labels.column(by))
    )
    rows, merged = _shares(labels, groups, names, level, target == "population", cluster)
    whole = _table(labels, np.zeros_like(groups), 1)
    notes = list(labels.notes)
    notice = UNDECLARED if labels.sampled.endswith("declared") else ""
    notes += [f"Few human labels: {words}." for words in merged]
    if cluster is None:
        notes.append(
            "Texts are taken to be independent; if they share documents or speakers, name the column: cluster=..."
        )
    line = (
        f"post-stratified by model label · {level:.0%} normal intervals, variance of (s+1)/(n+2) · target: {target} · "
        f"gold only: Wilson · sampled: {labels.sampled}"
        + ("" if cluster is None else f" · clustered by {cluster}")
    )
    return Prevalence(
        labels.field, corpus.run_id, by, level, tuple(rows), labels.labels, whole, line, tuple(notes), notice
    )


def _table(labels: Measured, groups: Any, n_groups: int) -> GoldTable:
    """Return the tables of counts of every group."""
    import numpy as np

    from nbannot.inference.shares import GoldTable

    x = len(labels.labels)
    k = x + 1
    stratum = labels.stratum
    corpus = np.bincount(groups * k + stratum, minlength=n_groups * k).reshape(n_groups, k).astype(float)
    gold = labels.gold
    cell = (groups[gold] * x + labels.human[gold]) * k + stratum[gold]
    weight = labels.weights[gold]
    counts, mass, mass2 = (
        np.bincount(cell, w, minlength=n_groups * x * k).reshape(n_groups, x, k).astype(float)
        for w in (np.ones(len(gold)), weight, weight**2)
    )
    return GoldTable(counts, mass, mass2, corpus, labels.equal)


def _shares(
    labels: Measured, groups: Any, names: Sequence[str], level: float, population: bool, cluster: str | None
) -> tuple[list[Share], list[str]]:
    import numpy as np

    from nbannot.inference.shares import clustered_se, post_stratified, ppi
    from nbannot.measures.accounting import unit_codes
    from nbannot.measures.classification import ratio
    from nbannot.measures.resample import normal_quantile, t_quantile

    table = _table(labels, groups, len(names))
    estimate = post_stratified(table, population=population, ordered=labels.field.type == "likert")
    x = len(labels.labels)
    sides = [1 - (1 - level) / 2 / m for m in (1, x if x > 2 else 1)]
    quantiles = np.tile([normal_quantile(side) for side in sides], (len(names), 1))
    se, clusters = estimate.se, None
    if cluster is not None:
        gold = labels.gold
        units = unit_codes(labels.column(cluster))[gold]
        se, clusters = clustered_se(
            estimate,
            table,
            groups[gold],
            labels.human[gold],
            labels.stratum[gold],
            labels.weights[gold],
            units,
        )
        for g, n_clusters in enumerate(clusters.tolist()):
            if n_clusters > 1:
                quantiles[g] = [t_quantile(side, n_clusters - 1) for side in sides]
    shape = estimate.value.shape
    counted, positives = table.counts.sum(2), table.weight.sum(2)
    n_gold = np.broadcast_to(table.counts.sum((1, 2))[:, None], shape)
    mass = np.broadcast_to(positives.sum(1)[:, None], shape)
    n_eff = n_gold if table.equal else np.nan_to_num(ratio(mass**2, table.weight2.sum((1, 2))[:, None]))
    with_label, without = counted, n_gold - counted
    if not table.equal:
        squares = table.weight2.sum(2)
        with_label = np.nan_to_num(ratio(positives**2, squares))
        without = np.nan_to_num(ratio((mass - positives) ** 2, squares.sum(1, keepdims=True) - squares))
    hits, called = np.einsum("gxx->gx", table.weight[:, :, :x]), table.weight[:, :, :x].sum(1)
    only = ratio(positives, mass)
    wrong, missed = ratio(called - hits, mass - positives), ratio(positives - hits, positives)
    half, half_all = (quantiles[:, [m]] * se for m in (0, 1))
    numbers = {
        "naive": ratio(table.corpus[:, :x], table.corpus.sum(1, keepdims=True)),
        "gold_only": only,
        **_wilson("gold_only", only, n_eff, level),
        "corrected": estimate.value,
        "corrected_low": np.clip(estimate.value - half, 0, 1),
        "corrected_high": np.clip(estimate.value + half, 0, 1),
        "corrected_low_all": np.clip(estimate.value - half_all, 0, 1),
        "corrected_high_all": np.clip(estimate.value + half_all, 0, 1),
        "se": se,
        "se_classical": estimate.se_classical,
        "false_positive_rate": wrong,
        **_wilson("false_positive", wrong, without, level),
        "false_negative_rate": missed,
        **_wilson("false_negative", missed, with_label, level),
    }
    for name, tuned in (("ppi", False), ("ppi_tuned", True)):
        numbers |= dict(
            zip((name, f"{name}_low", f"{name}_high"), ppi(table, level, tuned=tuned), strict=True)
        )
    rows = []
    for g, name in enumerate(names):
        for i, label in enumerate(labels.labels):
            here = {key: float(values[g, i]) for key, values in numbers.items()}
            sizes = {"n_gold": int(n_gold[g, i]), "n_corpus": int(table.corpus[g].sum())}
            note = _note(here, sizes["n_gold"], None if clusters is None else int(clusters[g]))
            rows.append(
                Share(group=name, label=label, **here, **sizes, n_human=int(counted[g, i]), note=note)  # type: ignore[arg-type]
            )
    own = np.arange(x + 1)
    merged = [
        f"{'' if name == '' else name + ': '}the texts that the model calls "
        f"{listed((*labels.labels, 'nothing valid')[k] for k in np.flatnonzero(estimate.stratum[g] != own))} "
        "were joined with others"
        for g, name in enumerate(names)
        if (estimate.stratum[g] != own).any()
    ]
    if len(merged) > MOST_PLOTS:
        merged = [*merged[:MOST_PLOTS], f"likewise in {plural(len(merged) - MOST_PLOTS, 'other group')}"]
    return rows, merged


def _wilson(name: str, value: FloatArray, n: FloatArray, level: float) -> dict[str, FloatArray]:
    """Return the Wilson limits of shares, each of its own number of texts, under ``<name>_low`` and ``<name>_high``."""
    import numpy as np

    from nbannot.measures.resample import wilson

    limits = np.array(
        [
            wilson(v * m, m, level) if m else (math.nan, math.nan)
            for v, m in zip(value.ravel(), n.ravel(), strict=True)
        ]
    ).reshape(*value.shape, 2)
    return {f"{name}_low": limits[..., 0], f"{name}_high": limits[..., 1]}


def _note(here: dict[str, float], n_gold: int, clusters: int | None) -> str:
    naive, value, se = here["naive"], here["corrected"], here["se"]
    wrong, missed = here["false_positive_rate"], here["false_negative_rate"]
    if math.isnan(value):
        return "too few human labels for a corrected share" if n_gold else "no human label in it"
    notes = []
    if abs(naive - value) <= se and min(wrong, missed) > LARGE_ERROR:
        notes.append(
            "right by cancellation: the naive share is near the corrected one although the model errs in more than "
            f"{share(LARGE_ERROR, 1)} of the texts either way"
        )
    if min(value, 1 - value) * n_gold < TOO_FEW:
        notes.append("too few coded texts of a kind to estimate well, look at the gold-only interval, too")
    if clusters is not None and clusters < CLUSTERS_FEW:
        notes.append(f"only {clusters} clusters, the interval may be too narrow")
    return "; ".join(notes)
