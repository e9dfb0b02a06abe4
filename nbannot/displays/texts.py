"""Texts side by side: where model and people differ, and what both wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from nbannot.asking.answers import STATUSES
from nbannot.displays.rows import (
    Row,
    disagreeing,
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
from nbannot.report.fields import LABEL_TYPES
from nbannot.report.words import plural
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.record.looks import Disagreements
    from nbannot.record.scoring import Scored

TEXT_CHARS = 600
VALUE_CHARS = 200
PAIRS_TOLD = 5
PER_PAGE_AT_MOST = 500


def disagreements(
    run: Scored,
    column: str | None = None,
    *,
    human: Any = None,
    model: Any = None,
    status: str | None = None,
    page: int = 1,
    per_page: int = 25,
) -> Fragment:
    """Return the texts on which model and people differ, a page at a time.

    Parameters
    ----------
    column
        A field's name or column; every scored field when left out.
    human, model
        Only these labels: together they are one cell of the confusion matrix.
    status
        Only answers with this status, e.g. ``"invalid"``.
    page, per_page
        Which part to show; pages count from 1, with 500 texts at most.

    Raises
    ------
    ScoringError
        If the field was not asked, there is no such label, status or page.
    """
    fields = [field_of(run, column)] if column is not None else list(run.coding.fields)
    if column is not None:
        _known_label(fields[0], human)
        _known_label(fields[0], model)
    if status is not None and status not in STATUSES:
        raise ScoringError(
            f"there is no status '{status}'{nearest(status, STATUSES) or '.'}\n  There are: {listed(STATUSES, 10)}."
        )
    every = [(f, row) for f in fields for row in disagreeing(run, f)]
    rows = [
        (f, row)
        for f, row in every
        if _is(row.human, human) and _is(row.model, model) and status in (None, row.status)
    ]
    pages = max(1, -(-len(rows) // _whole(per_page, PER_PAGE_AT_MOST, "per_page")))
    first = (_whole(page, pages, "page") - 1) * per_page
    filters = _asked(human=human, model=model, status=status)
    compared = sum(row.human is not None for f in fields for row in rows_of(run, f))
    what = f": {fields[0].name}" if column is not None else ""
    blocks: list[Block] = [
        Heading(
            f"Disagreements{what}",
            1,
            f"{count(len(every))} of {plural(compared, 'label')} by people ({share(len(every), compared)})"
            + (f"; {count(len(rows))} with {filters}" if filters else ""),
        )
    ]
    if not rows:
        why = "nothing fits" if every else ("none" if compared else "no human labels to differ from")
        return Fragment.of([*blocks, Para(f"{why[0].upper()}{why[1:]}.")])
    if column is not None and not filters and fields[0].type in LABEL_TYPES:
        blocks.append(Para(f"Most frequent (human → {who_of(run)}): {_most_frequent(fields[0], every)}."))
    blocks.append(_page_grid(rows[first : first + per_page], who_of(run), with_field=column is None))
    if pages > 1:
        more = f" Next: page={page + 1}." if page < pages else ""
        blocks.append(
            Para(f"Page {page} of {pages}.{more} Narrow down with human=, model=, status=.", "quiet")
        )
    return Fragment.of(blocks)


def disagreements_page(found: Disagreements) -> Fragment:
    """Return the page of a browser of disagreements that is to be shown."""
    return disagreements(
        cast("Scored", found.of),
        found.column,
        human=found.human,
        model=found.model,
        status=found.status,
        page=found.page,
        per_page=found.per_page,
    )


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


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and not isinstance(wanted, list):
        return wanted is None or str(wanted) in value
    return wanted is None or (value is not None and str(value) == str(wanted))


def _asked(**filters: Any) -> str:
    return ", ".join(f"{name} = {value}" for name, value in filters.items() if value is not None)


def _most_frequent(f: Field, every: Sequence[tuple[Field, Row]]) -> str:
    pairs = Counter((row.human, row.model) for _, row in every)
    named_pairs = [
        f"{human} → {shown_value(f, model) if model is not None else 'no label'} {count(n)}×"
        for (human, model), n in pairs.most_common(PAIRS_TOLD)
    ]
    return "; ".join(named_pairs)


def _page_grid(found: Sequence[tuple[Field, Row]], who: str, *, with_field: bool) -> Grid:
    named, sure, align = probability_cells([row for _, row in found])
    rows: list[Cells] = [
        [
            Cell(row.text_id, "quiet"),
            *([Cell(f.name, title=f.column)] if with_field else []),
            Cell(clipped(shown_value(f, row.human), VALUE_CHARS), "strong"),
            _clipped(model_cell(f, row)),
            *probability,
            clipped(row.text, TEXT_CHARS),
        ]
        for (f, row), probability in zip(found, sure, strict=True)
    ]
    header = ["id", *(["field"] if with_field else []), "human", who]
    return Grid([*header, *named, "text"], rows, "l" * len(header) + align + "l")


def _clipped(cell: Cell) -> Cell:
    return Cell(clipped(cell.text, VALUE_CHARS), cell.tone)


def text_pairs(run: Scored, column: str, *, limit: int = 25) -> Fragment:
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
