"""Span metrics from additive counts per text: exact, token, character, partial and presence agreement.

A span is ``(start, end, label)``, half-open, in Unicode code points of the exact stored text. Counts are pooled
over texts (micro), so texts where nobody marked anything inflate nothing, and a bootstrap by text is free.
Sets decide, not the order: identical spans count once.

Tokens are ``\\w+`` or single characters that are neither word nor space; Han and kana characters stand alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbannot.errors import ScoringError, listed
from nbannot.measures.classification import ratio
from nbannot.measures.result import BoolArray, FloatArray, IntArray
from nbannot.measures.span_metrics import COLUMNS, presence_counts

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")
_WORD, _SINGLE, _SPACE = range(3)

Span = tuple[int, int, Any]


@dataclass(frozen=True)
class Spans:
    """All valid spans of one coder in all texts, identical ones once, sorted by text, start, end, label.

    Attributes
    ----------
    doc, start, end, label : (s,) text number, offsets in its text, position of the label (0 without labels).
    rejected : (n,) spans per text that are no spans of the text (offsets outside, or a label not in the codebook).
    duplicates : number of identical spans left out.
    """

    doc: IntArray
    start: IntArray
    end: IntArray
    label: IntArray
    rejected: IntArray
    duplicates: int


def collect(rows: Sequence[Sequence[Span] | None], lengths: IntArray, labels: Sequence[Any]) -> Spans:
    """Return the valid spans of each text; `lengths` are the texts' code points, None rows have no spans."""
    position = {label: index for index, label in enumerate(labels)}
    flat = [
        (doc, start, end, position.get(label, -1) if labels else 0)
        for doc, spans in enumerate(rows)
        if spans
        for start, end, label in spans
    ]
    doc, start, end, label = np.array(flat, dtype=np.int64).reshape(-1, 4).T
    valid = (start >= 0) & (start < end) & (end <= lengths[doc]) & (label >= 0)
    rejected = np.bincount(doc[~valid], minlength=len(rows)).astype(np.int64)
    every = np.column_stack([doc, start, end, label])[valid]
    order = np.lexsort(every.T[::-1])
    every = every[order]
    fresh = np.ones(len(every), dtype=bool)
    fresh[1:] = (every[1:] != every[:-1]).any(axis=1)
    kept = every[fresh].T
    return Spans(kept[0], kept[1], kept[2], kept[3], rejected, int((~fresh).sum()))


def refuse_rejected(human: Spans, rows: Sequence[Sequence[Span] | None], row_names: Sequence[int]) -> None:
    """Raise a ScoringError when a human span is no span of its text."""
    bad = np.flatnonzero(human.rejected).tolist()
    if bad:
        raise ScoringError(
            f"{int(human.rejected.sum())} human spans do not fit their text or the codebook.\n"
            f"  rows: {listed(row_names[doc] for doc in bad)}; first: {rows[bad[0]]!r}\n"
            "  A span needs 0 <= start < end <= length of the text (code points) and a label of the codebook."
        )


def token_bounds(texts: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Return start and end of every token in the concatenation of `texts`; no token spans two texts."""
    joined = "".join(texts)
    if not joined:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kind = _kinds(points)
    first = np.zeros(len(points), dtype=bool)
    ends = np.cumsum([len(text) for text in texts])[:-1]
    first[0] = True
    first[ends[ends < len(points)]] = True
    starts = (kind == _SINGLE) | ((kind == _WORD) & (first | np.r_[True, kind[:-1] != _WORD]))
    closes = np.r_[starts[1:] | (kind[1:] == _SPACE) | first[1:], True] & (kind != _SPACE)
    return np.flatnonzero(starts), np.flatnonzero(closes) + 1


def _kinds(points: Any) -> Any:
    """Return per code point whether it is part of a word, a token of its own, or space."""
    table = np.full(0x110000, _SPACE, dtype=np.int8)
    for point in np.flatnonzero(np.bincount(points, minlength=1)).tolist():
        match = TOKEN.match(chr(point))
        if match:
            alone = re.match(f"[{_ALONE}]", chr(point)) or not re.match(r"\w", chr(point))
            table[point] = _SINGLE if alone else _WORD
    return table[points]


def covered(start: IntArray, end: IntArray, group: IntArray, line: int, n_groups: int) -> FloatArray:
    """Return (n_groups,) how many positions the union of half-open intervals covers in each group.

    `line` is longer than any position; intervals of different groups do not cover each other.
    """
    order = np.argsort(start + group * line, kind="stable")
    begin = (start + group * line)[order]
    reach = np.maximum.accumulate((end + group * line)[order])
    before = np.r_[np.int64(-1), reach[:-1]]
    fresh = np.maximum(0, reach - np.maximum(begin, before)).astype(np.float64)
    return np.bincount(group[order], weights=fresh, minlength=n_groups).astype(np.float64)


def span_statistics(
    human: Spans,
    model: Spans,
    texts: Sequence[str],
    n_labels: int,
    answered: BoolArray,
    unaligned: FloatArray,
) -> FloatArray:
    """Return the (n, d) additive statistics of the texts: `COLUMNS`, then token counts per label.

    Parameters
    ----------
    answered : (n,) False where the model has no valid answer; its human spans are all missed.
    unaligned : (n, 3) spans, tokens and characters of the model that are nowhere in the text: false positives.
    """
    n = len(texts)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    offsets = np.cumsum(lengths) - lengths
    sides = (human, model)
    chars = [(s.start + offsets[s.doc], s.end + offsets[s.doc]) for s in sides]
    token_start, token_end = token_bounds(texts)
    tokens = [
        (np.searchsorted(token_end, start, "right"), np.searchsorted(token_start, end, "left"))
        for start, end in chars
    ]
    out: dict[str, FloatArray] = {}
    for name, intervals in (("char", chars), ("token", tokens)):
        line = int(lengths.sum()) + 1
        alone = [np.zeros_like(s.label) for s in sides]
        out |= _union_counts(f"{name}_unlabelled", intervals, [s.doc for s in sides], alone, line, n, 1)
        out |= _union_counts(
            name, intervals, [s.doc for s in sides], [s.label for s in sides], line, n, n_labels
        )
    for suffix, n_kinds in (("", n_labels), ("_unlabelled", 1)):
        out |= _exact_counts(suffix, human, model, offsets, n, n_kinds)
    for suffix, n_kinds in (("", 1), ("_labelled", n_labels)):
        exact, overlap = _partial_counts(human, model, offsets, n, n_kinds)
        out[f"partial_exact{suffix}"], out[f"partial_overlap{suffix}"] = exact, overlap
    for column, name in enumerate(("exact", "token", "char")):
        for suffix in ("", "_unlabelled"):
            out[f"{name}_model{suffix}"] = out[f"{name}_model{suffix}"] + unaligned[:, column]
    union = out["char_human"] + out["char_model"] - out["char_tp"]
    out["iou_sum"], out["iou_docs"] = (
        np.nan_to_num(ratio(out["char_tp"], union)),
        (union > 0).astype(np.float64),
    )
    for name in ("exact", "token"):
        out[f"{name}_human_missing"] = np.where(answered, 0.0, out[f"{name}_human"])
    out |= presence_counts(out["exact_human"] > 0, out["exact_model"] > 0, answered)
    per_label = [out[f"token_label_{part}"] for part in ("tp", "human", "model")]
    return np.hstack([np.column_stack([out[name] for name in COLUMNS]), *per_label])


def _union_counts(
    name: str,
    intervals: Sequence[tuple[IntArray, IntArray]],
    docs: Sequence[IntArray],
    labels: Sequence[IntArray],
    line: int,
    n: int,
    n_labels: int,
) -> dict[str, FloatArray]:
    """Return shared, human and model positions per text (summed over labels, and per label)."""
    level, _, suffix = name.partition("_")
    suffix = f"_{suffix}" if suffix else ""
    group = [label * n + doc for doc, label in zip(docs, labels, strict=True)]
    both = (
        np.concatenate([intervals[0][0], intervals[1][0]]),
        np.concatenate([intervals[0][1], intervals[1][1]]),
    )
    size = n * n_labels
    human, model = (covered(*i, g, line, size) for i, g in zip(intervals, group, strict=True))
    either = covered(*both, np.concatenate(group), line, size)
    parts = {"tp": human + model - either, "human": human, "model": model}
    counts = {f"{level}_{part}{suffix}": v.reshape(n_labels, n).sum(0) for part, v in parts.items()}
    if not suffix:
        counts |= {f"{level}_label_{part}": v.reshape(n_labels, n).T for part, v in parts.items()}
    return counts


def _keys(spans: Spans, offsets: IntArray, longest: int, n_kinds: int) -> IntArray:
    """Return one integer per span, equal for equal texts, offsets and (where `n_kinds` > 1) labels."""
    key = (offsets[spans.doc] + spans.start) * longest + spans.end - spans.start
    return key * n_kinds + spans.label if n_kinds > 1 else key


def _longest(*sides: Spans) -> int:
    return max(int((side.end - side.start).max(initial=0)) for side in sides) + 1


def _exact_counts(
    suffix: str, human: Spans, model: Spans, offsets: IntArray, n: int, n_kinds: int
) -> dict[str, FloatArray]:
    """Return identical, human and model spans per text; equal ones count once."""
    longest = _longest(human, model)
    (h, h_first), (m, m_first) = (
        np.unique(_keys(side, offsets, longest, n_kinds), return_index=True) for side in (human, model)
    )
    h_doc, m_doc = human.doc[h_first], model.doc[m_first]
    shared = np.isin(h, m, assume_unique=True)
    docs = {"tp": h_doc[shared], "human": h_doc, "model": m_doc}
    return {f"exact_{part}{suffix}": np.bincount(d, minlength=n).astype(float) for part, d in docs.items()}


def _partial_counts(
    human: Spans, model: Spans, offsets: IntArray, n: int, n_kinds: int
) -> tuple[FloatArray, FloatArray]:
    """Return per text the one-to-one matches with equal boundaries, and then those that overlap.

    Equal boundaries are matched first, then overlaps from left to right; with `n_kinds` > 1 only spans of
    the same label match. No order of the spans changes the result.
    """
    longest = _longest(human, model)
    numbered = []
    for side in (human, model):
        key = _keys(side, offsets, longest, n_kinds)
        order = np.argsort(key, kind="stable")
        _, first, inverse = np.unique(key[order], return_index=True, return_inverse=True)
        nth = np.empty(len(key), dtype=np.int64)
        nth[order] = np.arange(len(key)) - first[inverse]
        numbered.append(key * (max(len(human.doc), len(model.doc)) + 1) + nth)
    h_same, m_same = np.isin(numbered[0], numbered[1]), np.isin(numbered[1], numbered[0])
    exact = np.bincount(human.doc[h_same], minlength=n).astype(float)
    overlap = np.zeros(n)
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for doc, kind, start, end in _rest(human, ~h_same, n_kinds):
        groups.setdefault((doc, kind), []).append((start, end))
    for doc, kind, start, end in _rest(model, ~m_same, n_kinds):
        others = groups.get((doc, kind), [])
        for index, (other_start, other_end) in enumerate(others):
            if start < other_end and other_start < end:
                overlap[doc] += 1
                del others[index]
                break
    return exact, overlap


def _rest(spans: Spans, left: BoolArray, n_kinds: int) -> list[tuple[int, int, int, int]]:
    kind = spans.label[left] if n_kinds > 1 else np.zeros(int(left.sum()), dtype=np.int64)
    return list(
        zip(
            spans.doc[left].tolist(),
            kind.tolist(),
            spans.start[left].tolist(),
            spans.end[left].tolist(),
            strict=True,
        )
    )


def quote_f1(human: str, model: str, articles: Sequence[str] = ("a", "an", "the")) -> float:
    """Return the token F1 of two quotes without offsets (SQuAD's formula): 1 when both are empty.

    Parameters
    ----------
    articles : words to leave out; the default is English only, ``()`` for other languages.
    """
    one, two = (
        Counter(word for word in re.findall(r"\w+", quote.lower()) if word not in articles)
        for quote in (human, model)
    )
    if not one or not two:
        return float(one == two)
    return 2 * (one & two).total() / (one.total() + two.total())
