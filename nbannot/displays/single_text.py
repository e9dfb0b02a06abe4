"""One text at a time: what people said, what the model said, how sure it was, and exactly what was sent and replied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbannot.asking.ledger_lines import messages_of, read_lines
from nbannot.displays.rows import Row, model_cell, probability_cells, rows_of, shown_value, who_of
from nbannot.displays.spans import Legend, Passage, keys_of, marks_of
from nbannot.errors import ScoringError, listed, nearest
from nbannot.page.blocks import Block, Cell, Facts, Fold, Grid, Heading, Para, Verbatim
from nbannot.page.blocks import Row as Cells
from nbannot.page.digits import NONE, number
from nbannot.page.fragment import Fragment
from nbannot.record.folder import LEDGER
from nbannot.report.words import plural

if TYPE_CHECKING:
    from nbannot.record.run import Run
    from nbannot.study.field import Field

AGREES = {True: "agree", False: "differ"}


def one_text(run: Run, text_id: str) -> Fragment:
    """Return one text of a run with both labels of every field, and below it every message and reply.

    Parameters
    ----------
    text_id
        The id of a text of the run; numbers are taken as they are written.

    Raises
    ------
    ScoringError
        If the run has no such text.
    """
    wanted, ids = str(text_id), run.task.ids
    if wanted not in ids:
        raise ScoringError(
            f"there is no text '{wanted}'{nearest(wanted, ids) or '.'}\n  Its ids: {listed(ids)}."
        )
    rows = [(f, next(row for row in rows_of(run, f) if row.text_id == wanted)) for f in run.coding.fields]
    calls = list(_calls(run, wanted))
    differing = sum(row.human is not None and not row.agrees for _, row in rows)
    known = sum(row.human is not None for _, row in rows)
    aside = (
        f"{differing} of {plural(known, 'label')} {'differs' if known == 1 else 'differ'}"
        if known
        else "no human labels"
    )
    marked = [(f, row) for f, row in rows if f.type == "span" and marks_of(row)]
    blocks: list[Block] = [Heading(f"{run.task.name}: {wanted}", 1, aside)]
    if not marked:
        blocks.append(Verbatim(run.task.texts[ids.index(wanted)]))
    for place, (f, row) in enumerate(marked):
        keys = keys_of(f)
        explained = place and keys == keys_of(marked[place - 1][0])
        blocks += [
            Para(f"{f.name}:", "strong"),
            *([] if explained else [Legend(keys, who_of(run))]),
            Passage(row.text, marks_of(row), keys),
        ]
    return Fragment.of([*blocks, _answers(run, rows), *(_call(run, call) for call in calls)])


def _answers(run: Run, rows: Sequence[tuple[Field, Row]]) -> Grid:
    """Return one row per field: both labels, the model's probability where it gave one, and whether they agree."""
    named, sure, align = probability_cells([row for _, row in rows])
    body: list[Cells] = [
        [
            Cell(f.name, "strong", title=f.column),
            shown_value(f, row.human),
            model_cell(f, row),
            *probability,
            Cell("" if row.human is None else AGREES[row.agrees], "quiet" if row.agrees else "plain"),
        ]
        for (f, row), probability in zip(rows, sure, strict=True)
    ]
    return Grid(["question", "people", who_of(run), *named, ""], body, "lll" + align + "l")


def _calls(run: Run, text_id: str) -> Iterator[dict[str, Any]]:
    """Yield every call about one text, in order, its messages as they were sent."""
    prefixes: dict[str, str] = {}
    for record in read_lines(run.folder / LEDGER):
        if "prefix" in record:
            prefixes[record["prefix"]] = record["content"]
        elif record.get("text_id") == text_id:
            yield {**record, "sent": messages_of(record, prefixes)}


def _call(run: Run, call: Mapping[str, Any]) -> Fold:
    """Return one call, folded: what was sent, what came back, what was made of it."""
    names = ", ".join(run.task.codebook[column].name for column in call["columns"])
    sent = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in call["sent"])
    facts = [
        ("status", str(call.get("status") or NONE)),
        ("seconds", number(call.get("seconds"))),
        *([("error", str(call["error"]))] if call.get("error") else []),
        *([("finish reason", str(call["finish_reason"]))] if call.get("finish_reason") else []),
    ]
    thought: list[Block] = []
    if call.get("reasoning"):
        thought = [Para("Thought:", "quiet"), Verbatim(str(call["reasoning"]))]
    return Fold(
        f"{names}: attempt {call['attempt']}, {call.get('status') or 'no reply'}",
        [
            Para("Sent:", "quiet"),
            Verbatim(sent),
            *thought,
            Para("Replied:", "quiet"),
            Verbatim(str(call.get("raw") or "(nothing)")),
            Facts(facts),
        ],
    )
