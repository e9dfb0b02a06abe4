"""The human ceiling of a run: what people who coded the same texts reach with each other in its headline metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from nbannot.comparing.people import people_of
from nbannot.errors import NbannotError
from nbannot.record.run import Run
from nbannot.report.headline import Band
from nbannot.report.words import HEADLINES
from nbannot.study.field import Field
from nbannot.study.study_folder import coder_files

MOST_PAIRS, MOST_TEXTS, FEWEST = 10, 5_000, 20
"""A card is shown at once: of more pairs the first ones are taken, of more texts none; below so few texts there is no
band."""


def bands_of(run: Run) -> dict[str, Band]:
    """Return column -> from where to where pairs of coders lie in the field's headline metric; empty without coders.

    Each pair is scored as a run is, one of the two as the reference, on the run's texts that both coded. Coders' files
    that cannot be read are passed over here: `agreement` says what is wrong with them.
    """
    if len(run.task) > MOST_TEXTS:
        return {}
    try:
        root = run.config.get("output_root") or run.folder.parent.parent
        if len(coder_files(run.task, root)) < 2:
            return {}
        people = people_of(run.task, None, root)
    except NbannotError:
        return {}
    bands = {}
    for f in run.coding.fields:
        sides = [{i: row[f.column] for i, row in one.items() if f.column in row} for one in people.values()]
        values = [
            v for a, b in list(combinations(sides, 2))[:MOST_PAIRS] if (v := _pair(run, f, a, b)) is not None
        ]
        if values:
            bands[f.column] = Band(min(values), max(values), len(values))
    return bands


def _pair(run: Run, f: Field, one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Return the headline metric of two people on the texts that both coded."""
    from nbannot.measures.accounting import FieldData
    from nbannot.measures.field import score_field

    rows = [n for n, i in enumerate(run.task.ids) if one.get(i) is not None and other.get(i) is not None]
    if len(rows) < FEWEST:
        return None
    ids = [run.task.ids[n] for n in rows]
    human, model = ([_plain(f, side[i]) for i in ids] for side in (one, other))
    texts = [run.task.texts[n] for n in rows] if f.type == "span" else None
    results = score_field(FieldData(f.type, f.labels, human, model, texts=texts), n_resamples=1).results
    value = results[HEADLINES[f.type][0]].value
    return None if math.isnan(value) else value


def _plain(f: Field, value: Any) -> Any:
    if f.type != "span":
        return value
    spans: Sequence[Mapping[str, Any]] = value
    return [(s["start"], s["end"], s["label"]) for s in spans]
