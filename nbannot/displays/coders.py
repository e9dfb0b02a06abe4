"""What people's labels come to: how far coders agree, and the labels that several of them make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from nbannot.errors import listed
from nbannot.page.blocks import Block, Bullets, Cell, Fold, Grid, Heading, Para, Row, Scale
from nbannot.page.digits import MINUS, NONE, count, decimals, duration, interval, number
from nbannot.page.fragment import Fragment
from nbannot.report.confusion import with_numbers
from nbannot.report.words import metric_words, plural
from nbannot.tools.files import seen_from_here

if TYPE_CHECKING:
    from nbannot.comparing.field_agreement import Agreement
    from nbannot.comparing.reliability import Agreements
    from nbannot.measures.result import Result

MATRIX_UP_TO = 12
"""More coders are shown as a list of the pairs that agree least and most."""
PAIRS_SHOWN = 5
SPAN_PAIRS_UP_TO = 66
"""Pairs of spans and texts take long; more of them are made only when they are looked at."""

EACH = (("", "l"), ("with the others' majority", "r"), ("95% interval", "i"), ("texts", "r"), ("with oneself", "r"),
        ("95% interval", "i"), ("mean kappa with people", "r"), ("time per text", "r"))  # fmt: skip
"""The columns of the table of coders and runs; those that nobody fills are left out."""


def agreement_card(found: Agreements) -> Fragment:
    """Return how far coders agree: alpha per field, every pair as a heat map, each coder against the others."""
    blocks: list[Block] = [
        Heading("Agreement", 1, f"{found.name}, {plural(len(found.coders), 'coder')}"),
        Para(_verdict(found), "verdict"),
        _alphas(found),
    ]
    for agreed in found.fields.values():
        blocks += _field(found, agreed)
    blocks += [Para(note, "quiet") for note in found.notes]
    return Fragment.of(blocks)


def field_agreement_card(agreed: Agreement) -> Fragment:
    """Return how far coders agree in one field: what `agreement_card` says of it."""
    from nbannot.comparing.reliability import Agreements

    f = agreed.field
    return agreement_card(Agreements(f.name, agreed.coders, {f.column: agreed}, {}, {}, {}))


def _verdict(agreements: Agreements) -> str:
    """Return in one sentence how many fields reach the lowest alpha for tentative conclusions.

    Of passages and texts alpha tells only whether there is any; such a field is not counted, nor is one in which fewer
    than 10 texts have two coders, or without an alpha because everybody gave one label.
    """
    from nbannot.comparing.field_agreement import FEWEST_TEXTS, LOW_ALPHA

    every = list(agreements.fields.values())
    labels = [agreed.overall["krippendorff_alpha"] for agreed in every if not agreed.presence]
    known = [alpha for alpha in labels if alpha.defined]
    if not labels:
        pairs = [words for agreed in every if (words := _of_pairs(agreed))]
        one = len(every) == 1 and pairs
        return (
            f"{every[0].field.name}: {pairs[0]}"
            if one
            else f"{plural(len(every), 'field')} of passages or texts"
        )
    if not known:
        return f"Alpha is not defined: {labels[0].reason}"
    enough = [alpha for alpha in known if alpha.n_answered >= FEWEST_TEXTS]
    if not enough:
        most = plural(max(alpha.n_answered for alpha in known), "text")
        start = f"Alpha {number(known[0].value, 2, low=-1.0)} of" if len(every) == 1 else "At most"
        return f"{start} {most} with two coders or more: too few to tell how far they agree"
    reached = sum(alpha.value >= LOW_ALPHA for alpha in enough)
    sure = sum(
        alpha.ci_low >= LOW_ALPHA and not alpha.unreliable for alpha in enough
    )  # no interval: not sure
    if len(every) == 1:
        how = "with its whole interval" if sure else "but its interval goes below"
        how = "but has no interval" if math.isnan(known[0].ci_low) else how
        how = (
            f"reaches {LOW_ALPHA:.2f}{'' if sure else ','} {how}" if reached else f"is below {LOW_ALPHA:.2f}"
        )
        return f"Alpha {number(known[0].value, 2, low=-1.0)} {how}"
    words = f"{reached or 'None'} of {plural(len(enough), 'field')} with an alpha of {LOW_ALPHA:.2f} or more"
    words += f", {sure or 'none'} with the whole interval" if reached else ""
    others = (
        (len(known) - len(enough), "of too few texts"),
        (len(labels) - len(known), "without an alpha"),
        (len(every) - len(labels), "of passages or texts"),
    )
    more = ", ".join(f"{n} more {what}" for n, what in others if n)
    return words + (f" ({more})" if more else "")


def _alphas(agreements: Agreements) -> Grid:
    from nbannot.comparing.field_agreement import LOW_ALPHA

    rows: list[Row | str] = []
    every = [agreed.overall["krippendorff_alpha"] for agreed in agreements.fields.values()]
    ends = (-1.0 if any(alpha.ci_low < 0 for alpha in every) else 0.0, 1.0)
    for agreed in agreements.fields.values():
        alpha, percent, ac1 = (
            agreed.overall[n] for n in ("krippendorff_alpha", "percent_agreement", "gwet_ac1")
        )
        digits = decimals(alpha.n_answered)
        name = f"{agreed.field.name}, {agreed.presence}" if agreed.presence else agreed.field.name
        rows.append(
            [Cell(name, "strong"), *_value(alpha, digits), _drawn(alpha, ends, LOW_ALPHA),
             _plain(percent, digits), _plain(ac1, digits),
             count(len(agreed.coders)), count(alpha.n_answered)]
        )  # fmt: skip
        remark = "; ".join(filter(None, (alpha.reason, _of_pairs(agreed))))
        rows += [remark] if remark else []
    low, high = (f"{end:g}".replace("-", MINUS) for end in ends)
    header = ["field", "alpha", "95% interval", f"{low} to {high}", "agreement", "AC1", "coders", "texts"]
    notes = [f"an alpha of {LOW_ALPHA:.2f}, the tick, is the lowest for tentative conclusions (Krippendorff)"]
    return Grid(header, rows, "lriirrrr", caption="All coders together", notes=notes)


def _drawn(alpha: Result, ends: tuple[float, float], tick: float) -> Cell:
    """Return a value with its interval on a scale."""
    value = f"{number(alpha.value, 2, low=-1.0)} {interval(alpha.ci_low, alpha.ci_high, 2)}"
    words = f"{value}, tick at {tick:.2f}"
    return Cell(
        words if alpha.defined else "not defined",
        scale=Scale(*ends, alpha.value, (alpha.ci_low, alpha.ci_high), tick),
    )


def _of_pairs(agreed: Agreement) -> str:
    """Return how alike passages and texts are, which agreement on whether there are any does not tell."""
    from nbannot.comparing.field_agreement import PAIRWISE

    if not agreed.presence or (agreed.shared is None and len(agreed.pairs) > SPAN_PAIRS_UP_TO):
        return ""
    measure = PAIRWISE[agreed.field.type][0]
    return f"mean {metric_words(measure)} of pairs {number(agreed.mean(measure), 2)}"


def _field(agreements: Agreements, agreed: Agreement) -> list[Block]:
    from nbannot.comparing.field_agreement import PAIRWISE  # which loads numpy

    measure = PAIRWISE[agreed.field.type][0]
    first = agreed.notes[0]
    alone = len(agreements.fields) == 1
    blocks: list[Block] = [Para(first, "quiet") if alone else Heading(agreed.field.name, 2, first)]
    blocks += [Para(note, "notice") for note in agreed.notes[1:]]
    blocks += _pairs(agreed, measure)
    each = _each(agreements, agreed)
    return [
        *blocks,
        *([each] if each.rows else []),
        Fold("More measures, with standard errors", [_more(agreed)]),
    ]


MORE = {
    "krippendorff_alpha": "Krippendorff's alpha",
    "krippendorff_alpha_interval": "Krippendorff's alpha, interval",
    "alpha_jaccard": "Krippendorff's alpha, Jaccard distance",
    "fleiss_kappa": "Fleiss' kappa",
    "scott_pi": "Scott's pi",
    "gwet_ac1": "Gwet's AC1",
    "percent_agreement": "percent agreement",
}


def _more(agreed: Agreement) -> Grid:
    """Return every measure over all coders with its standard error; of two coders also Scott's pi."""
    results = dict(agreed.overall)
    if len(agreed.coders) == 2:
        results |= {name: r for name, r in next(iter(agreed.pairs.values())).items() if name == "scott_pi"}
    rows: list[Row] = []
    for name, words in MORE.items():
        if name in results:
            one = results[name]
            digits = decimals(one.n_answered)
            error = number(one.se, digits + 1) if one.defined else NONE
            rows.append([words, *_value(one, digits), error, one.reason])
    return Grid(["measure", "value", "95% interval", "SE", ""], rows, "lrirl")


def _pairs(agreed: Agreement, measure: str) -> list[Block]:
    """Return the pairs: all of them as a heat map, or of many the extremes."""
    names, n = agreed.coders, len(agreed.coders)
    if agreed.shared is None and len(agreed.pairs) > SPAN_PAIRS_UP_TO:
        return [Para(f"{count(len(agreed.pairs))} pairs; look at one: .pairs[a, b].", "quiet")]
    values: dict[tuple[int, int], float] = {}
    for a, b in combinations(range(n), 2):
        if agreed.shared is None:
            values[a, b] = agreed.pairs[names[a], names[b]][measure].value
        else:
            values[a, b] = float(agreed.matrices[measure][a, b])
    words = metric_words(measure)
    if n > MATRIX_UP_TO:
        return [_extremes(agreed, values, words)]
    rows: list[Row] = []
    for a, name in enumerate(names):
        cells = [_tinted(values.get((min(a, b), max(a, b)), math.nan), a == b) for b in range(n)]
        rows.append([name, *cells])
    matrix = Grid(["", *names], rows, "l" + "r" * n, caption=f"{words}, pair by pair")
    return [with_numbers(matrix, n)]


def _tinted(value: float, own: bool) -> Cell:
    if own or math.isnan(value):
        return Cell("" if own else NONE, "quiet")
    return Cell(number(value, 2, low=-1.0), tint=max(-1.0, min(1.0, value)))


def _extremes(agreed: Agreement, values: Mapping[tuple[int, int], float], words: str) -> Block:
    defined = sorted((v, pair) for pair, v in values.items() if not math.isnan(v))
    if not defined:
        return Para(f"{words}: not defined in any of {count(len(values))} pairs.", "quiet")
    middle = defined[len(defined) // 2][0]
    shown = [*defined[:PAIRS_SHOWN], *defined[-PAIRS_SHOWN:]] if len(defined) > 2 * PAIRS_SHOWN else defined
    rows: list[Row] = []
    for v, (a, b) in shown:
        n = "" if agreed.shared is None else count(agreed.shared[a, b])
        rows.append(
            [agreed.coders[a], agreed.coders[b], Cell(number(v, 2, low=-1.0), tint=max(-1.0, min(1.0, v))), n]
        )
    title = f"{words}: {count(len(values))} pairs, median {number(middle, 2, low=-1.0)}; the lowest and the highest"
    return Fold(title, [Grid(["coder", "coder", words, "texts"], rows, "llrr")])


def _each(agreements: Agreements, agreed: Agreement) -> Grid:
    """Return every coder against the majority of the others and alone, and the runs."""
    column = agreed.field.column
    rows: list[Row] = []
    for name in agreed.coders:
        majority, alone = agreed.majority.get(name), agreements.alone.get((name, column))
        if majority is None and alone is None and name not in agreements.seconds:
            continue
        rows.append([name, *_value(majority), count(majority.n) if majority else "", *_value(alone), "",
                     duration(agreements.seconds[name]) if name in agreements.seconds else ""])  # fmt: skip
    for (run, of_column), among in agreements.runs.items():
        if of_column == column:
            kappa = NONE if math.isnan(among.mean_kappa) else number(among.mean_kappa, 2, low=-1.0)
            rows.append(
                [
                    Cell(f"run {run}", "strong"),
                    *_value(among.majority),
                    count(among.majority.n),
                    "",
                    "",
                    kappa,
                    "",
                ]
            )
    used = [k for k, (name, _) in enumerate(EACH) if not name or any(row[k] != "" for row in rows)]
    kept: list[Row] = [[row[k] for k in used] for row in rows]
    return Grid([EACH[k][0] for k in used], kept, "".join(EACH[k][1] for k in used), caption="Each coder")


def _value(result: Result | None, digits: int = 2) -> list[Cell | str]:
    """Return a value and its interval as two cells."""
    if result is None:
        return ["", ""]
    if not result.defined:
        return [Cell(NONE, title=result.reason), ""]
    return [number(result.value, digits, low=-1.0), interval(result.ci_low, result.ci_high, digits)]


def _plain(result: Result, digits: int) -> Cell | str:
    return number(result.value, digits, low=-1.0) if result.defined else Cell(NONE, title=result.reason)


def consensus_card(found: Any) -> Fragment:
    """Return how the labels of several people came to one: per field how many by which way, and what is open."""
    blocks: list[Block] = [
        Heading("Consensus", 1, f"{found.base.name}, {plural(len(found.coders), 'coder')}, by {found.rule}"),
        _records(found.counts, "How the labels came about"),
        *(Para(note, "notice") for note in found.notes),
        Para(f"Kept in {seen_from_here(found.path)}.", "quiet"),
    ]
    return Fragment.of(blocks)


MOVES_SHOWN = 4
TEXTS_SHOWN = 8


def stale_labels_card(found: Any) -> Fragment:
    """Return which share of the labels an edit of the codebook made stale: per field, with interval and what moved."""
    rows: list[Row] = []
    moved: list[Row] = []
    for one in found.fields:
        digits = decimals(one.asked or 1)
        share_of = number(one.share, digits) if one.asked else NONE
        limits = interval(one.low, one.high, digits) if one.asked else ""
        ends = [round(end * one.labels) for end in (one.low, one.high)] if one.asked else []
        about = " to ".join(count(end) for end in dict.fromkeys(ends)) or NONE
        rows.append([Cell(one.field.name, "strong"), share_of, Cell(limits, "quiet"), count(one.changed),
                     count(one.asked), count(one.labels), about])  # fmt: skip
        for words, n in one.moves[:MOVES_SHOWN]:
            moved.append([one.field.name, words, count(n)])
    header = ["field", "stale", "95% interval", "changed", "of asked", "labels", "stale labels in all"]
    blocks: list[Block] = [
        Heading("Stale labels", 1, f"asked again: {found.who}"),
        Bullets(found.what),
        Grid(header, rows, "lrirrrr", caption="Labels that would be different under today's codebook"),
        *([Grid(["field", "was → is", "labels"], moved, "llr", caption="What moved")] if moved else []),
    ]
    texts = list(dict.fromkeys(found.changed["text_id"]))
    if texts:
        blocks.append(Para(f"Look at these texts first: {listed(texts, TEXTS_SHOWN)}."))
    blocks += [Para(note, "quiet") for note in found.notes]
    return Fragment.of(blocks)


def class_card(page: Any) -> Fragment:
    """Return how a class coded: how far everybody is, against the gold, and the texts that divide the room."""
    blocks: list[Block] = [
        Heading("Class", 1, f"{page.task.name}, {plural(len(page.agreements.coders), 'coder')}"),
        _students(page.students),
        _records(page.hardest, "The texts that divide the room"),
        _alphas(page.agreements),
    ]
    return Fragment.of(blocks)


def _students(frame: Any) -> Grid:
    """Return everybody with the share of labels like the gold, its interval, and of how many labels."""
    rows: list[Row] = []
    for coder, texts, gold, low, high, n_gold, others, n_others, seconds in frame.itertuples(index=False):
        rows.append(
            [
                str(coder),
                count(texts),
                number(gold, 2),
                Cell(interval(low, high, 2), "quiet"),
                Cell(count(n_gold), "quiet"),
                number(others, 2),
                Cell(count(n_others), "quiet"),
                duration(None if math.isnan(seconds) else seconds),
            ]
        )
    header = [
        "coder",
        "texts",
        "like the gold",
        "95% interval",
        "labels",
        "like the others",
        "labels",
        "time per text",
    ]
    notes = [
        "like the gold: the share of the labels for which there is a gold one; the interval resamples texts."
    ]
    return Grid(header, rows, "lrrirrrr", caption="Everybody", notes=notes)


def _records(frame: Any, caption: str) -> Grid:
    """Return a small frame as a table."""
    columns = [str(name) for name in frame.columns]
    rows: list[Row] = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    numeric = [all(isinstance(value, int | float) for value in frame[name]) for name in frame.columns]
    return Grid(columns, rows, "".join("r" if right else "l" for right in numeric), caption=caption)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return NONE if math.isnan(value) else number(value, 2, low=-1.0)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return count(value) if isinstance(value, int) else str(value)
