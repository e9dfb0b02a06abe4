"""The numbers of a span field: pooled counts per text, with intervals that resample texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.measures import classification as cls
from nbannot.measures.accounting import Account, FieldData, account, units_of
from nbannot.measures.intervals import SMALL_CLASS, Intervals, Settings, class_row
from nbannot.measures.resample import sample_rows
from nbannot.measures.result import NAN, BoolArray, FieldScore, FloatArray, Result
from nbannot.measures.span_metrics import (
    COLUMNS,
    EXTRA_SPAN_METRICS,
    SPAN_METRICS,
    f1_of,
    presence_label_counts,
)
from nbannot.measures.spans import TOKEN, Spans, collect, refuse_rejected, span_statistics

SPAN_NAMES = (
    *("token_f1", "exact_match_f1", "char_iou"),
    *("token_precision", "token_recall", "partial_f1", "presence_f1", "coverage"),
)
"""The metrics of the outputs contract, in its order."""
CONVENTIONS = (
    r"strict (missing=nothing found) · pooled over texts (micro) · tokens \w+ or one sign (Han, kana: each) · "
    "half-open code points · a quote that is nowhere in the text is a false positive"
)


def score_spans(data: FieldData, settings: Settings) -> FieldScore:
    """Return all numbers of a span field."""
    rows = account(data)
    stats, human, model, outside = row_statistics(data, rows)
    used = rows.reference
    labels = tuple(str(label) for label in data.labels) or ("span",)
    sample = sample_rows(
        stats,
        *units_of(data, used),
        settings.seed,
    )
    blank = Result(NAN, n=int(used.sum()), n_answered=rows.counts["scored"], labels_used=labels)
    bare = Intervals(sample, lambda totals: evaluate(totals, len(labels)), settings, blank)
    intervals = replace(bare, blank=replace(blank, conventions=f"{CONVENTIONS} · {bare.line()}"))
    with_spans = int(stats[:, COLUMNS.index("presence_human")].sum())
    warning = f"interval unreliable: {with_spans} texts with human spans" if with_spans < SMALL_CLASS else ""
    counts = rows.counts | _more_counts(stats, human, model, outside)
    counts["ambiguous"] = _ambiguous(
        model, [data.texts[row] for row in np.flatnonzero(used).tolist()] if data.texts else []
    )
    return FieldScore(
        results={name: _result(intervals, name, warning) for name in SPAN_NAMES},
        extra={name: _result(intervals, name, warning) for name in _extra_names(data)},
        per_class=_per_class(data, intervals, human, model) if data.labels else [],
        counts=counts,
        missing_by_reason=rows.missing_by_reason,
        confusion=None,
        notes=_notes(counts, warning, intervals),
        conventions=intervals.blank.conventions,
        signature={"tokens": TOKEN.pattern, "labels": [str(label) for label in data.labels]},
    )


def row_statistics(data: FieldData, rows: Account) -> tuple[FloatArray, Spans, Spans, FloatArray]:
    """Return per reference row the additive statistics, both sides' spans, and what is nowhere in the text."""
    used = np.flatnonzero(rows.reference).tolist()
    answered = rows.model[rows.reference] >= 0
    texts = [data.texts[row] for row in used] if data.texts is not None else []
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    human_rows = [data.human[row] for row in used]
    model_rows = [data.model[row] if ok else None for row, ok in zip(used, answered.tolist(), strict=True)]
    human, model = (collect(side, lengths, data.labels) for side in (human_rows, model_rows))
    refuse_rejected(human, human_rows, used)
    outside = _unaligned(data, used, answered) + model.rejected[:, None]
    stats = span_statistics(human, model, texts, max(1, len(data.labels)), answered, outside)
    return stats, human, model, outside


def _unaligned(data: FieldData, used: list[int], answered: BoolArray) -> FloatArray:
    """Return (n, 3) spans, tokens and characters that the model quoted but that are nowhere in the text.

    A bare number of quotes counts one token and one character each, the least they can be.
    """
    counts = np.zeros((len(used), 3))
    if data.unaligned is None:
        return counts
    for index, row in enumerate(used):
        quotes = data.unaligned[row]
        if isinstance(quotes, int | np.integer):
            counts[index] = quotes
        else:
            counts[index, 0] = len(quotes)
            counts[index, 1] = sum(max(1, len(TOKEN.findall(quote))) for quote in quotes)
            counts[index, 2] = sum(max(1, len(quote)) for quote in quotes)
    return np.where(answered[:, None], counts, 0.0)


def _ambiguous(model: Spans, texts: Sequence[str]) -> int:
    """Return how many of the model's passages say what stands elsewhere in their text as well."""
    places = zip(model.doc.tolist(), model.start.tolist(), model.end.tolist(), strict=True)
    passages = ((texts[doc], texts[doc][start:end]) for doc, start, end in places)
    return sum(text.find(passage) != text.rfind(passage) for text, passage in passages)


def evaluate(totals: FloatArray, n_labels: int) -> Mapping[str, FloatArray]:
    """Return every span metric of (..., d) totals."""
    column = {name: totals[..., index] for index, name in enumerate(COLUMNS)}
    values = {
        name: formula(*(column[needed] for needed in columns))
        for name, (columns, formula) in (SPAN_METRICS | EXTRA_SPAN_METRICS).items()
    }
    presence = presence_label_counts(column)
    first = len(COLUMNS)
    tp, human, model = (totals[..., first + i * n_labels : first + (i + 1) * n_labels] for i in range(3))
    return values | {
        "coverage": cls.coverage(presence),
        "presence_agreement": cls.accuracy(presence),
        "presence_kappa": cls.cohen_kappa(presence),
        "label_precision": cls.ratio(tp, model),
        "label_recall": cls.ratio(tp, human),
        "label_f1": f1_of(tp, human, model),
        "token_f1_macro": cls.supported_mean(f1_of(tp, human, model), human),
    }


def _extra_names(data: FieldData) -> list[str]:
    always = ["presence_agreement", "presence_kappa"]
    if len(data.labels) > 1:
        return [*EXTRA_SPAN_METRICS, *always, "token_f1_macro"]
    unlabelled = ("unlabelled", "labelled", "type_f1")
    return [name for name in EXTRA_SPAN_METRICS if not name.endswith(unlabelled)] + always


def _result(intervals: Intervals, name: str, warning: str) -> Result:
    share = name in ("coverage", "presence_agreement")
    reason = "no spans on either side"
    if intervals.blank.n == 0:
        reason = "no human labels"
    elif name.startswith("presence_kappa"):
        reason = "no variation"
    elif name.endswith("precision"):
        reason = "no spans from the model"
    elif name.endswith("recall"):
        reason = "no human spans"
    return intervals.result(
        name,
        proportion_of=intervals.blank.n if share else None,
        bounds=(-1.0, 1.0) if name.endswith("kappa") else (0.0, 1.0),
        if_undefined=reason,
        warning="" if share else warning,
    )


def _per_class(data: FieldData, intervals: Intervals, human: Spans, model: Spans) -> list[dict[str, Any]]:
    """Return per label token precision, recall and F1; support and predicted count spans."""
    never = {"precision": "never predicted", "recall": "no human instance", "f1": "never used"}
    rows = []
    for index, label in enumerate(data.labels):
        parts = {name: intervals.result(f"label_{name}", index, if_undefined=never[name]) for name in never}
        support, predicted = (int((side.label == index).sum()) for side in (human, model))
        rows.append(class_row(label, parts, support, predicted))
    return rows


def _more_counts(stats: FloatArray, human: Spans, model: Spans, outside: FloatArray) -> dict[str, int]:
    column = {name: stats[:, index] for index, name in enumerate(COLUMNS)}
    answered = column["presence_model"] + column["absence_model"]
    return {
        "both_empty": int(column["absence_tp"].sum()),
        "human_only": int((column["presence_human"] * column["absence_model"]).sum()),
        "model_only": int((column["absence_human"] * column["presence_model"]).sum()),
        "both": int(column["presence_tp"].sum()),
        "unanswered": int((answered == 0).sum()),
        "human_spans": len(human.doc),
        "model_spans": len(model.doc),
        "unaligned": int(outside[:, 0].sum()),
        "duplicates": human.duplicates + model.duplicates,
    }


def _notes(counts: dict[str, int], warning: str, intervals: Intervals) -> list[str]:
    notes = [
        "token_f1 is the headline (it rewards overlap); exact_match_f1 when boundaries matter; char_iou when "
        "near misses should show."
    ]
    n = intervals.blank.n
    if n and counts["both_empty"]:
        share = counts["both_empty"] / n
        notes.append(
            f"In {share:.0%} of the texts neither side marked anything; they count in no span metric."
        )
    if counts["unaligned"]:
        notes.append(f"{counts['unaligned']} spans of the model are nowhere in their text: false positives.")
    if counts["ambiguous"]:
        notes.append(
            f"{counts['ambiguous']} of {counts['model_spans']} spans of the model have words that stand more than once "
            "in their text: where a reply gave only the words, the first free place was taken."
        )
    if warning:
        notes.append(f"{warning.capitalize()}.")
    if intervals.few_units:
        notes.append(f"{intervals.few_units.capitalize()}.")
    return notes
