"""Rules of older packages, each a named deviation from ours, so that an old value can be recomputed and explained.

Without any deviation the functions here give our own value; with all of them, that of the CodeBook Lab package.
`explain` names those that are needed to give the old value. What does not reproduce it is not named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from nbannot.comparing.rescoring.evidence import Evidence, Pair
from nbannot.measures import ordinal, text
from nbannot.measures.agreement import CoderTotals, krippendorff_alpha, value_counts
from nbannot.measures.classification import LABEL_METRICS, LabelCounts, label_counts
from nbannot.measures.spans import TOKEN

SAME = 1e-6
"""Two values that differ by no more are the same."""

Faults = frozenset[str]

LABEL_FAULTS = ("position", "unlabelled", "blank", "outside")
FAULTS: dict[str, tuple[str, ...]] = {
    "accuracy": LABEL_FAULTS,
    "percentage_agreement": LABEL_FAULTS,
    "precision_macro": (*LABEL_FAULTS, "union"),
    "recall_macro": (*LABEL_FAULTS, "union"),
    "f1_macro": (*LABEL_FAULTS, "union"),
    "cohen_kappa": LABEL_FAULTS,
    "krippendorff_alpha": (*LABEL_FAULTS, "codes"),
    "spearman_corr": ("position", "unlabelled", "outside"),
    "quadratic_kappa": ("position", "unlabelled", "outside", "scale"),
    "norm_levenshtein": ("position", "unlabelled", "lower", "answered"),
    "bleu": ("position", "unlabelled", "lower", "answered", "plain_bleu"),
    "rouge1_f": ("position", "unlabelled", "answered", "plain_rouge"),
    "rouge2_f": ("position", "unlabelled", "answered", "plain_rouge"),
    "rougeL_f": ("position", "unlabelled", "answered", "plain_rouge"),
    "token_f1": ("position", "unlabelled", "outside", "first", "labels"),
    "exact_match_f1": ("position", "unlabelled", "outside", "labels", "texts", "empty"),
    "char_iou": ("position", "unlabelled", "outside", "first", "texts", "empty"),
}
"""Metric -> the deviations that older programs are known to have in it."""

TEXT_AGREEMENT = ("position", "unlabelled", "lower", "answered")

WORDS = {
    "position": "rows joined by position, not by id",
    "unlabelled": "{unlabelled} without a human label in this field scored, {read}",
    "blank": "{blank} read as {read_blank}",
    "outside": "{outside} outside the codebook counted",
    "union": "macro over all labels seen, not those that people used",
    "codes": "alpha at interval level on alphabetical label codes",
    "scale": "quadratic weights on the labels seen, not on the full scale",
    "lower": "texts put in lower case first",
    "answered": "{blank} left out",
    "plain_bleu": "BLEU from 0 to 1 on white-space tokens, smoothed by 0.1",
    "plain_rouge": "ROUGE on a-z and 0-9 only, with stemming",
    "first": "one label per character: where spans overlap, the first one counts",
    "labels": "mean over the labels seen, not pooled",
    "texts": "mean over texts, not pooled",
    "empty": "{empty} without a span on either side counted as full agreement",
}


def explain(evidence: Evidence, metric: str, old: float) -> list[str] | None:
    """Return deviations that give the old value, in words; ``None`` if none do, an empty list if our rules do.

    If all deviations together give it: those without which they would not. Otherwise, or where these alone do not
    suffice, the fewest that do.
    """
    if evidence.field.type == "multiselect":
        return None  # no older program knew the type
    possible = [fault for fault in _faults(evidence, metric) if _matters(evidence, fault)]

    def gives(chosen: Iterable[str]) -> bool:
        return abs(value_under(evidence, metric, frozenset(chosen)) - old) <= SAME

    if gives(possible) and not gives(()):
        needed = [fault for fault in possible if not gives(other for other in possible if other != fault)]
        if gives(needed):
            return [_worded(evidence, fault) for fault in needed]
    for size in range(len(possible) + 1):
        for chosen in combinations(possible, size):
            if gives(chosen):
                return [_worded(evidence, fault) for fault in chosen]
    return None


def value_under(evidence: Evidence, metric: str, faults: Faults) -> float:
    """Return a metric of a field under some deviations from our rules; nan where it is not defined."""
    pairs: Sequence[Pair] = evidence.by_id
    if "position" in faults and evidence.by_position is not None:
        pairs = evidence.by_position
    if "unlabelled" not in faults:
        pairs = [pair for pair in pairs if pair.human is not None]
    kind = evidence.field.type
    rule: Callable[[Evidence, Sequence[Pair], str, Faults], float] = {"textbox": _text, "span": _span}.get(
        kind, _label
    )
    return rule(evidence, pairs, metric, faults) if pairs else math.nan


def _faults(evidence: Evidence, metric: str) -> tuple[str, ...]:
    if metric == "percentage_agreement" and evidence.field.type == "textbox":
        return TEXT_AGREEMENT
    return FAULTS.get(metric, ())


def _matters(evidence: Evidence, fault: str) -> bool:
    """Return whether a deviation can change anything in these rows."""
    if fault == "position":
        return evidence.by_position is not None
    counts = _counts(evidence)
    return bool(counts[fault]) if fault in counts else fault != "answered" or bool(counts["blank"])


def _counts(evidence: Evidence) -> dict[str, int]:
    pairs = evidence.by_id
    lacking = [pair for pair in pairs if pair.model is None]
    blank = sum(not pair.model_cell.strip() for pair in lacking)
    return {
        "unlabelled": sum(pair.human is None for pair in pairs),
        "blank": blank,
        "outside": len(lacking) - blank,
        "empty": sum(not pair.human and not pair.model for pair in pairs),
    }


def _worded(evidence: Evidence, fault: str) -> str:
    kind = evidence.field.type
    read = {"checkbox": "a blank as 'no'", "textbox": "a blank as a text", "span": "a blank as no spans"}
    counts = _counts(evidence)

    def said(name: str, one: str) -> str:
        return f"{counts[name]:,} {one}{'' if counts[name] == 1 else 's'}"

    return WORDS[fault].format(
        unlabelled=said("unlabelled", "text"),
        blank=said("blank", "blank answer"),
        outside=said("outside", "answer"),
        empty=said("empty", "text"),
        read=read.get(kind, "a blank as a label of its own"),
        read_blank="'no'" if kind == "checkbox" else "a label of its own",
    )


# checkbox, dropdown, likert


def _label(evidence: Evidence, pairs: Sequence[Pair], metric: str, faults: Faults) -> float:
    named = [(_human_label(evidence, pair), _model_label(evidence, pair, faults)) for pair in pairs]
    if metric in ("spearman_corr", "quadratic_kappa"):
        return _numeric(evidence, named, metric, faults)
    known = [str(label) for label in evidence.field.labels]
    seen = {label for pair in named for label in pair if label is not None}
    labels = [*sorted(seen - set(known)), *known]
    if metric == "krippendorff_alpha":
        return _alpha(evidence, named, labels, seen, faults)
    counts = label_counts(_table(named, labels, labels))
    if "union" in faults:
        # sklearn's default: every label that either side used counts
        used = counts.row + counts.col > 0
        counts = LabelCounts(counts.tp[used], counts.row[used], counts.col[used], counts.miss[used])
        return _macro(counts, metric)
    return float(LABEL_METRICS[metric](counts))


def _human_label(evidence: Evidence, pair: Pair) -> str:
    return str(pair.human) if pair.human is not None else _as_label(evidence, pair.human_cell)


def _model_label(evidence: Evidence, pair: Pair, faults: Faults) -> str | None:
    if pair.model is not None:
        return str(pair.model)
    if not pair.model_cell.strip():
        return _as_label(evidence, "") if "blank" in faults else None
    return _as_label(evidence, pair.model_cell) if "outside" in faults else None


def _as_label(evidence: Evidence, cell: str) -> str:
    """Return a cell as the label it is for a program that takes every cell for one: ``3.0`` is ``3``."""
    if evidence.field.type == "checkbox" and not cell.strip():
        return "0"
    try:
        number = float(cell)
    except ValueError:
        return cell
    return str(int(number)) if number.is_integer() else cell


def _table(named: Iterable[tuple[str, str | None]], rows: Sequence[str], columns: Sequence[str]) -> Any:
    """Return the (rows, columns + 1) counts; the last column holds what has no answer."""
    import numpy as np

    row_of = {label: i for i, label in enumerate(rows)}
    column_of: dict[str | None, int] = {label: i for i, label in enumerate(columns)}
    column_of[None] = len(columns)
    table = np.zeros((len(rows), len(columns) + 1))
    for (human, model), n in Counter(named).items():
        table[row_of[human], column_of[model]] += n
    return table


def _macro(counts: LabelCounts, metric: str) -> float:
    import numpy as np

    from nbannot.measures.classification import f1_per_class, precision_per_class, recall_per_class

    per_class = {
        "f1_macro": f1_per_class,
        "precision_macro": precision_per_class,
        "recall_macro": recall_per_class,
    }
    return float(np.nan_to_num(per_class[metric](counts)).mean())


def _alpha(
    evidence: Evidence,
    named: Sequence[tuple[str, str | None]],
    labels: Sequence[str],
    seen: set[str],
    faults: Faults,
) -> float:
    codes = {label: code for code, label in enumerate(sorted(seen) if "codes" in faults else labels)}
    level = "ordinal" if evidence.field.type == "likert" else "nominal"
    ratings = [[codes[h], None if m is None else codes[m]] for h, m in named]
    counts, values = value_counts(ratings, list(codes.values()))
    return float(
        krippendorff_alpha(CoderTotals.of_counts(counts), "interval" if "codes" in faults else level, values)
    )


def _numeric(
    evidence: Evidence, named: Sequence[tuple[str, str | None]], metric: str, faults: Faults
) -> float:
    import numpy as np

    numbers = [(_number(h), _number(m)) for h, m in named]
    answered = [(h, m) for h, m in numbers if h is not None and m is not None]
    seen = {value for pair in answered for value in pair}
    points = sorted(seen if "scale" in faults else {*map(float, evidence.field.labels), *seen})
    if not answered:
        return math.nan
    names = [repr(point) for point in points]
    table = _table(((repr(h), repr(m)) for h, m in answered), names, names)[:, :-1]
    values = np.arange(len(points), dtype=float) if "scale" in faults else np.array(points)
    score = ordinal.spearman(table) if metric == "spearman_corr" else ordinal.quadratic_kappa(table, values)
    return float(score)


def _number(label: str | None) -> float | None:
    try:
        return None if label is None else float(label)
    except ValueError:
        return None


# textbox


def _text(evidence: Evidence, pairs: Sequence[Pair], metric: str, faults: Faults) -> float:
    kept = [pair for pair in pairs if pair.model is not None or "answered" not in faults]
    both = [(text.nfc(str(p.human if p.human is not None else "")), text.nfc(p.model or "")) for p in kept]
    both = [(h, m) for (h, m), p in zip(both, kept, strict=True) if h.strip() or m.strip() or p.model is None]
    if "lower" in faults:
        both = [(h.lower().strip(), m.lower().strip()) for h, m in both]
    if not both:
        return math.nan
    scores = _similarities(metric, [p for p in both if p[0].strip() and p[1].strip()], faults)
    return math.nan if scores is None else float(sum(scores)) / len(both)


def _similarities(metric: str, pairs: Sequence[tuple[str, str]], faults: Faults) -> Iterable[float] | None:
    """Return the similarity of each pair of texts; ``None`` where it cannot be computed here."""
    human, model = [h for h, _ in pairs], [m for _, m in pairs]
    if not pairs:
        return []
    if metric == "percentage_agreement":
        return [float(h.strip() == m.strip()) for h, m in pairs]
    if metric == "norm_levenshtein":
        return list(text.levenshtein_similarities(human, model))
    if metric == "bleu":
        if "plain_bleu" in faults:
            return [_plain_bleu(h.split(), m.split()) for h, m in pairs]
        return list(text.bleu(text.bleu_statistics(human, model), effective_order=True))
    return _rouge(metric, pairs, plain="plain_rouge" in faults)


def _plain_bleu(human: Sequence[str], model: Sequence[str]) -> float:
    """Return sentence BLEU from 0 to 1 with 0.1 for an order without a match (Chen and Cherry 2014, method 1)."""
    logs = 0.0
    for order in range(1, 5):
        grams, wanted = (Counter(zip(*(t[i:] for i in range(order)), strict=False)) for t in (model, human))
        matches, n = sum((grams & wanted).values()), max(1, sum(grams.values()))
        if order == 1 and not matches:
            return 0.0
        logs += math.log((matches or 0.1) / n) / 4
    return math.exp(min(0.0, 1 - len(human) / len(model)) + logs)


def _rouge(metric: str, pairs: Sequence[tuple[str, str]], *, plain: bool) -> list[float] | None:
    from nbannot.measures.text_extras import UnicodeTokenizer

    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        return None
    name = metric.removesuffix("_f")
    tokenizer = None if plain else UnicodeTokenizer()
    scorer = RougeScorer([name], use_stemmer=plain, tokenizer=tokenizer)
    return [scorer.score(h, m)[name].fmeasure for h, m in pairs]


# span

Place = tuple[int, Any]
"""A position in a text and the label it carries."""


def _span(evidence: Evidence, pairs: Sequence[Pair], metric: str, faults: Faults) -> float:
    texts = [(_spans(pair.human), _model_spans(pair, faults), pair.text) for pair in pairs]
    sides: list[tuple[set[Any], ...]]
    if metric == "exact_match_f1":
        sides = [
            tuple({(s["start"], s["end"], s.get("label")) for s in side} for side in t[:2]) for t in texts
        ]
    else:
        at = _tokens if metric == "token_f1" else _characters
        sides = [tuple(_places(at, side, t[2], "first" in faults) for side in t[:2]) for t in texts]
    if "texts" in faults:
        return _mean_of_texts(sides, metric, empty="empty" in faults)
    if "labels" in faults:
        seen = {place[-1] for text_sides in sides for side in text_sides for place in side}
        every = [
            _pooled([tuple({p for p in side if p[-1] == label} for side in t) for t in sides], metric)
            for label in seen
        ]
        return sum(every) / len(every) if every else math.nan
    return _pooled(sides, metric)


def _spans(value: Any) -> list[dict[str, Any]]:
    return list(value or [])


def _model_spans(pair: Pair, faults: Faults) -> list[dict[str, Any]]:
    """Return the model's spans; of an answer that is not valid, its cell if such answers count."""
    if pair.model is not None or "outside" not in faults:
        return _spans(pair.model)
    import json

    try:
        entries = json.loads(pair.model_cell)
    except json.JSONDecodeError:
        return []
    spans = entries if isinstance(entries, list) else []
    return [
        s for s in spans if isinstance(s, dict) and all(isinstance(s.get(k), int) for k in ("start", "end"))
    ]


def _tokens(span: dict[str, Any], content: str) -> Iterable[int]:
    for match in TOKEN.finditer(content):
        if match.start() < span["end"] and match.end() > span["start"]:
            yield match.start()


def _characters(span: dict[str, Any], content: str) -> Iterable[int]:
    return range(span["start"], span["end"])


def _places(
    at: Callable[[dict[str, Any], str], Iterable[int]], spans: list[dict[str, Any]], content: str, first: bool
) -> set[Place]:
    if not first:
        return {(place, span.get("label")) for span in spans for place in at(span, content)}
    labels: dict[int, Any] = {}
    for span in spans:
        for place in at(span, content):
            labels.setdefault(place, span.get("label"))
    return set(labels.items())


def _shared(human: set[Any], model: set[Any], metric: str) -> tuple[int, int]:
    """Return numerator and denominator of F1 or intersection over union."""
    common = len(human & model)
    return (common, len(human | model)) if metric == "char_iou" else (2 * common, len(human) + len(model))


def _pooled(sides: Sequence[tuple[set[Any], ...]], metric: str) -> float:
    parts = [_shared(human, model, metric) for human, model in sides]
    whole = sum(n for _, n in parts)
    return sum(n for n, _ in parts) / whole if whole else math.nan


def _mean_of_texts(sides: Sequence[tuple[set[Any], ...]], metric: str, *, empty: bool) -> float:
    parts = [_shared(human, model, metric) for human, model in sides]
    scores = [n / whole if whole else 1.0 for n, whole in parts if whole or empty]
    return sum(scores) / len(scores) if scores else math.nan
