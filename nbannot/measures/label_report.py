"""What is said about a label field beside its numbers: the per-class rows and the sentences that guide and warn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nbannot.errors import listed
from nbannot.measures.accounting import Account, FieldData
from nbannot.measures.classification import (
    LabelCounts,
    f1_per_class,
    precision_per_class,
    recall_per_class,
)
from nbannot.measures.intervals import SMALL_CLASS, Intervals, class_row
from nbannot.measures.result import IntArray

IMBALANCED = 0.8
"""From this share of one human label on, the field is called imbalanced."""

NAMED = 20
"""So many classes are named in one sentence."""


def small_classes(data: FieldData, rows: Account) -> list[str]:
    """Return the classes that humans used, but too rarely, as ``class X has n=3``."""
    n_k = np.bincount(rows.human[rows.reference], minlength=len(data.labels))
    small = [
        f"class {label} has n={n}" for label, n in zip(data.labels, n_k, strict=True) if 0 < n < SMALL_CLASS
    ]
    return (
        [*small[:NAMED], f"{len(small) - NAMED:,} more have fewer than {SMALL_CLASS}"]
        if len(small) > NAMED + 1
        else small
    )


def variation_words(support: Sequence[tuple[str, int]]) -> str:
    """Return what the labels that people used leave open, as a sentence; nothing where they used all of them.

    Parameters
    ----------
    support : (label, number of texts to which people gave it), in codebook order.

    >>> variation_words([("yes", 40), ("no", 0)])
    'People gave all 40 texts the same label (yes): no agreement measure means anything here.'
    """
    used = [(label, n) for label, n in support if n]
    absent = [label for label, n in support if not n]
    if not used or not absent:
        return ""
    if len(used) == 1:
        label, n = used[0]
        texts = "the only text its" if n == 1 else f"all {n:,} texts the same"
        return f"People gave {texts} label ({label}): no agreement measure means anything here."
    return f"People gave no text the label {listed(absent, 4)}: no agreement measure says anything about it here."


def class_rows(
    data: FieldData, headline: Intervals, counts: LabelCounts, rows: Account, classes: IntArray
) -> Iterator[dict[str, Any]]:
    """Yield one dictionary per codebook label; of those outside `classes`, without resampled limits."""
    used, k = rows.reference, len(data.labels)
    supports = np.bincount(rows.human[used], minlength=k).tolist()
    predictions = np.bincount(rows.model[used & (rows.model >= 0)], minlength=k).tolist()
    place = {index: number for number, index in enumerate(classes.tolist())}
    whole = [metric(counts).tolist() for metric in (precision_per_class, recall_per_class, f1_per_class)]
    no_instance = "no human instance"
    for index, label in enumerate(data.labels):
        support, predicted = supports[index], predictions[index]
        never = "never predicted" if support else f"{no_instance}, never predicted"
        neither = f"{no_instance}, never predicted"
        if index in place:
            at = place[index]
            parts = {
                "precision": headline.result(
                    "precision_per_class", at, proportion_of=predicted, if_undefined=never
                ),
                "recall": headline.result(
                    "recall_per_class", at, proportion_of=support, if_undefined=no_instance
                ),
                "f1": headline.result("f1_per_class", at, if_undefined=neither),
            }
        else:
            precision, recall, f1 = (of_label[index] for of_label in whole)
            parts = {
                "precision": headline.share(precision, predicted, never),
                "recall": headline.share(recall, support, no_instance),
                "f1": headline.share(f1, 0, neither),
            }
        row = class_row(label, parts, support, predicted)
        if data.weights is not None:
            row["weights"] = float(counts.row[index]), float(counts.col[index]), float(counts.n)
        yield row


def notes_of(
    data: FieldData, rows: Account, counts: LabelCounts, headline: Intervals, small: list[str]
) -> list[str]:
    """Return guidance and warnings, one sentence each."""
    notes = [
        "Likert: read Spearman, quadratic kappa and ordinal alpha beside exact agreement and the bias; "
        "a neighbour is a smaller error than the other end of the scale."
        if data.type == "likert"
        else "Look at F1 and percentage agreement first; per-class precision and recall where labels are rare."
    ]
    n_k = np.bincount(rows.human[rows.reference], minlength=len(data.labels)).tolist()
    variation = variation_words([(str(label), k) for label, k in zip(data.labels, n_k, strict=True)])
    if variation:
        notes.insert(0, variation)
    n = float(counts.n)
    most = int(counts.row.argmax())
    if n and counts.row[most] / n >= IMBALANCED:
        share = counts.row[most] / n
        notes.append(
            f"Imbalanced: {share:.0%} of the human labels are {data.labels[most]!s}; always answering it would "
            f"score an accuracy of {share:.2f}."
        )
    if small:
        notes.append(f"Interval for macro F1 unreliable: {'; '.join(small)}.")
    never = [
        label for label, row, col in zip(data.labels, counts.row, counts.col, strict=True) if row == 0 < col
    ]
    notes += [
        f"{label!s} was predicted but never used by humans; it is not in the macro averages."
        for label in never[:NAMED]
    ]
    if len(never) > NAMED:
        notes.append(f"{len(never) - NAMED:,} more labels were predicted but never used by humans either.")
    if data.type == "likert" and n and float(headline.values["coverage"]) < 1:
        notes.append("Rank and distance metrics are of the answered rows; read them with the coverage.")
    if headline.few_units:
        notes.append(f"{headline.few_units.capitalize()}.")
    if rows.ignored_human:
        notes.append(f"{rows.ignored_human} human labels where the field does not apply were not used.")
    return notes
