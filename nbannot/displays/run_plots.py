"""Plots of one run: all its fields beside their baselines, and how an interval narrows with the human labels."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from nbannot.displays.plots import Point, forest
from nbannot.displays.rows import field_of, who_of
from nbannot.errors import ScoringError
from nbannot.page.blocks import Heading, Para
from nbannot.page.digits import count, decimals
from nbannot.page.fragment import Fragment
from nbannot.report.fields import n_reference
from nbannot.report.headline import baseline_of, headlines, verdict
from nbannot.report.words import HEADLINES, metric_words
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.record.scoring import Scored

NAN = math.nan
FEWEST = 25
"""The plot of intervals begins with so many texts, and doubles them."""
EXPECTED = (2, 4)
"""For so many times the texts there are, the interval is said that is to be expected."""
RESAMPLES = 2_000


def fields_forest(run: Scored) -> Fragment:
    """Return the headline metric of every field with its interval, and a tick at its baseline.

    Fields of different types have different metrics: what is compared is each value with its own baseline.
    """
    rows = [one for one in headlines(run) if one.n and one.result is not None]
    if not rows:
        return Fragment.of([Heading("Fields", 1), Para(f"{verdict(run)}.")])
    drawn = [
        Point(
            f"{one.field.name}, {metric_words(one.metric)}",
            one.result.value if one.result is not None else NAN,
            one.result.ci_low if one.result is not None else NAN,
            one.result.ci_high if one.result is not None else NAN,
            baseline=NAN if one.baseline is None else one.baseline,
        )
        for one in rows
    ]
    return forest(
        [point._asdict() for point in drawn],
        title=f"Fields: {run.task.name}",
        metric="value",
        heading="field, metric",
        verdict=f"{verdict(run)}. The tick is the baseline.",
        digits=decimals(max(one.n for one in rows)),
    )


def intervals(run: Scored, column: str | None = None) -> Fragment:
    """Return how a field's headline interval narrows with the number of human labels.

    Up to the texts there are it is measured, on random parts each of which holds the one before it (seed 1); for twice
    and four times as many it is the half-width of all texts, divided by the root of 2 and of 4.

    Raises
    ------
    ScoringError
        If the field was not asked, or no text has a human label.
    """
    load("nbannot.measures.field")
    from nbannot.measures.accounting import account
    from nbannot.measures.field import score_field
    from nbannot.measures.missing_answers import with_reference
    from nbannot.record.scoring import field_data

    f = field_of(run, column)
    name, whole = HEADLINES[f.type][0], run.scores.fields[f.column]
    settings = run.scores.settings
    cluster = settings.get("cluster")
    clusters = list(run.task.data[cluster]) if cluster else None
    data = field_data(run.coding, f, clusters, run.task.weighting(settings.get("weights")))
    labelled = [int(i) for i in account(data).reference.nonzero()[0]]
    n = len(labelled)
    if not n:
        raise ScoringError(f"'{f.name}' has no human labels.\n  Without them there is no interval to draw.")
    random.Random(1).shuffle(labelled)
    rows = []
    sizes = [size for k in range(40) if (size := FEWEST * 2**k) < n]
    for size in sizes:
        kept = account(data).reference & False
        kept[labelled[:size]] = True
        part = score_field(with_reference(data, kept), n_resamples=RESAMPLES, extras=False)
        result, baseline = part.results[name], baseline_of(name, part)
        rows.append(Point(f"{count(size)} texts", result.value, result.ci_low, result.ci_high,
                          baseline=NAN if baseline is None else baseline))  # fmt: skip
    result, baseline = whole.results[name], baseline_of(name, whole)
    line = NAN if baseline is None else baseline
    rows.append(Point(f"all {count(n)} texts", result.value, result.ci_low, result.ci_high, baseline=line))
    half = (result.ci_high - result.ci_low) / 2
    middle = (result.ci_high + result.ci_low) / 2
    for times in EXPECTED if not math.isnan(half) else ():
        narrow = half / math.sqrt(times)
        rows.append(Point(f"{count(n * times)}, expected", NAN, middle - narrow, middle + narrow))
    words = (
        f"Measured on random parts of the {count(n_reference(whole))} texts with a human label, each part in the next; "
        "expected: the interval of all texts, narrowed by the root of how many times as many there are, as long as "
        "the new ones are drawn like the old."
    )
    return forest(
        [point._asdict() for point in rows],
        title=f"Intervals: {f.name}",
        metric=f"{metric_words(name)} of the {who_of(run)}",
        heading="human labels",
        verdict=words,
        digits=decimals(n),
    )
