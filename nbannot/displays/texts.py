"""Texts side by side: where model and people differ, and what both wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from nbannot.displays.rows import (
    field_of,
    model_cell,
    probability_cells,
    rows_of,
    shown_value,
    who_of,
)
from nbannot.errors import ScoringError, listed, nearest
from nbannot.page.blocks import Block, Cell, Grid, Heading, Para
from nbannot.page.blocks import Row as Cells
from nbannot.page.digits import NONE, count, number, share
from nbannot.page.fragment import Fragment
from nbannot.page.widths import clipped
from nbannot.record.differences import DISTANCES, SORTS, Difference
from nbannot.record.looks import Disagreements
from nbannot.report.fields import LABEL_TYPES
from nbannot.report.words import plural
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.record.scoring import Scored

TEXT_CHARS = 600
VALUE_CHARS = 200
PAIRS_TOLD = 5
PER_PAGE_AT_MOST = 500


def disagreements(run: Scored, column: str | None = None, **chosen: Any) -> Fragment:
    """Return the texts on which model and people differ, a page at a time: `Scored.disagreements` as a display."""
    return disagreements_page(Disagreements(run, column, **chosen))


def disagreements_page(found: Disagreements) -> Fragment:
    """Return the page of a browser of disagreements that is to be shown.

    Raises
    ------
    ScoringError
        If the field was not asked, there is no such label, status, column, order or page; of 500 texts at most.
    """
    run = cast("Scored", found.of)
    named = field_of(run, found.column) if found.column is not None else None
    if named is not None:
        _known_label(named, found.human)
        _known_label(named, found.model)
    every, rows = found.every, found.rows
    pages = max(1, -(-len(rows) // _whole(found.per_page, PER_PAGE_AT_MOST, "per_page")))
    first = (_whole(found.page, pages, "page") - 1) * found.per_page
    filters = _asked(human=found.human, model=found.model, status=found.status, **(found.where or {}))
    fields = [named] if named is not None else list(run.coding.fields)
    compared = sum(row.human is not None for f in fields for row in rows_of(run, f))
    blocks: list[Block] = [
        Heading(
            "Disagreements" + (f": {named.name}" if named is not None else ""),
            1,
            f"{count(len(every))} of {plural(compared, 'label')} by people ({share(len(every), compared)})"
            + (f"; {count(len(rows))} with {filters}" if filters else ""),
        )
    ]
    if not rows:
        why = "nothing fits" if every else ("none" if compared else "no human labels to differ from")
        return Fragment.of([*blocks, Para(f"{why[0].upper()}{why[1:]}.")])
    if named is not None and not filters and named.type in LABEL_TYPES:
        blocks.append(Para(f"Most frequent (human → {who_of(run)}): {_most_frequent(named, every)}."))
    if found.sort is not None:
        blocks.append(Para(_order_words(found.sort, fields), "quiet"))
    shown = rows[first : first + found.per_page]
    with_distance = found.sort == "distance"
    blocks.append(_page_grid(shown, who_of(run), with_field=named is None, with_distance=with_distance))
    if pages > 1:
        more = f" Next: page={found.page + 1}." if found.page < pages else ""
        narrow = ' Narrow down with human=, model=, status=, where=; sort="distance" or "probability".'
        blocks.append(Para(f"Page {found.page} of {pages}.{more}{narrow}", "quiet"))
    return Fragment.of(blocks)


def _order_words(sort: str, fields: Sequence[Field]) -> str:
    """Return what comes first, and of a distance what it is for the types of these fields."""
    words = f"By {sort}: {SORTS[sort]}."
    if sort != "distance":
        return words
    types = dict.fromkeys(f.type for f in fields)
    means = [
        f"{kind}: {DISTANCES[kind]}" if len(types) > 1 else DISTANCES[kind]
        for kind in types
        if kind in DISTANCES
    ]
    if not means:
        return f"{words} Another label is always 1."
    return f"{words} Distance, from 0 to 1: {'; '.join(means)}."


def _whole(value: int, at_most: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= at_most:
        raise ScoringError(f"{name} must be an integer from 1 to {at_most}. Got {value!r}.")
    return value


def _known_label(f: Field, label: Any) -> None:
    names = [str(known) for known in f.labels]
    if label is not None and f.type in LABEL_TYPES and str(label) not in names:
        raise ScoringError(
            f"'{f.name}' has no label '{label}'{nearest(str(label), names) or '.'}\n  Its labels: {listed(names, 12)}."
        )


def _asked(**filters: Any) -> str:
    return ", ".join(f"{name} = {value}" for name, value in filters.items() if value is not None)


def _most_frequent(f: Field, every: Sequence[Difference]) -> str:
    pairs = Counter((one.human, one.model) for one in every)
    named_pairs = [
        f"{human} → {shown_value(f, model) if model is not None else 'no label'} {count(n)}×"
        for (human, model), n in pairs.most_common(PAIRS_TOLD)
    ]
    return "; ".join(named_pairs)


def _page_grid(found: Sequence[Difference], who: str, *, with_field: bool, with_distance: bool) -> Grid:
    named, sure, align = probability_cells(found)
    if with_distance:
        named, align = ["distance", *named], "r" + align
        apart = [NONE if one.distance is None else number(one.distance) for one in found]
        sure = [[Cell(words, "quiet"), *cells] for words, cells in zip(apart, sure, strict=True)]
    rows: list[Cells] = [
        [
            Cell(one.text_id, "quiet"),
            *([Cell(one.field.name, title=one.field.column)] if with_field else []),
            Cell(clipped(shown_value(one.field, one.human), VALUE_CHARS), "strong"),
            _clipped(model_cell(one.field, one)),
            *cells,
            clipped(one.text, TEXT_CHARS),
        ]
        for one, cells in zip(found, sure, strict=True)
    ]
    header = ["id", *(["field"] if with_field else []), "human", who]
    return Grid([*header, *named, "text"], rows, "l" * len(header) + align + "l")


def _clipped(cell: Cell) -> Cell:
    return Cell(clipped(cell.text, VALUE_CHARS), cell.tone)


def text_pairs(run: Scored, column: str | None = None, *, limit: int = 25) -> Fragment:
    """Return what people and the model wrote, side by side, the least similar first.

    Parameters
    ----------
    limit
        How many texts to show.

    Raises
    ------
    ScoringError
        If the field was not asked or is no textbox.
    """
    f = field_of(run, column, ("textbox",), "text_pairs")
    coded = [row for row in rows_of(run, f) if row.human is not None]
    if not coded:
        coded = [row for row in rows_of(run, f) if row.status == "ok"]
        note = f"No human labels: what {who_of(run, 'the ')} wrote."
        written: list[Cells] = [
            [Cell(r.text_id, "quiet"), clipped(str(r.model), TEXT_CHARS), clipped(r.text, TEXT_CHARS)]
            for r in coded[:limit]
        ]
        grid = Grid(["id", who_of(run), "text"], written, "lll")
        return Fragment.of([Heading(f"Texts: {f.name}", 1, plural(len(coded), "text")), Para(note), grid])
    from nbannot.measures.text import levenshtein_similarity

    like = [
        levenshtein_similarity(str(row.human), str(row.model)) if row.model is not None else -1.0
        for row in coded
    ]
    order = sorted(range(len(coded)), key=lambda i: like[i])
    rows: list[Cells] = [
        [
            Cell(coded[i].text_id, "quiet"),
            number(like[i]) if coded[i].model is not None else NONE,
            Cell(clipped(shown_value(f, coded[i].human), TEXT_CHARS), "strong"),
            model_cell(f, coded[i]),
            Cell(clipped(coded[i].text, VALUE_CHARS), "quiet"),
        ]
        for i in order[:limit]
    ]
    same = sum(row.agrees for row in coded)
    caption = (
        f"The {count(len(rows))} least similar of {count(len(coded))}. Similarity is a diagnostic: short extracts "
        "can mean the same in other words."
    )
    aside = f"{plural(len(coded), 'text')} with a human answer, {count(same)} the same letter for letter"
    grid = Grid(["id", "similarity", "human", who_of(run), "text"], rows, "lrlll")
    return Fragment.of([Heading(f"Texts: {f.name}", 1, aside), grid, Para(caption, "quiet")])
