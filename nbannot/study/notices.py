"""What deserves a look before trusting a run on some texts, one sentence each."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nbannot.errors import listed
from nbannot.study.field import Field
from nbannot.study.prompt_marks import marks_notice
from nbannot.study.span_cells import read_marks

UNNAMED = "task"
LIKE = 0.8
"""From this likeness on (difflib), a column is taken for a mistyped label column."""
SAME_TEXTS = 50
"""From one coded text in so many on, texts that are there more than once are told."""
MISSING_WORDS = frozenset(
    "None NA N/A n/a null NULL NaN nan <NA> #N/A #NA -NaN -nan 1.#IND 1.#QNAN -1.#IND -1.#QNAN".split()  # noqa: SIM905
)
"""What pandas.read_csv takes for a missing value unless told otherwise."""
SECOND_HEADER = frozenset({"open-ended response", "response"})
"""What SurveyMonkey writes below the question, in a second header line."""


def notices_of(task: Any) -> Iterator[str]:
    """Yield what deserves a look, most of it about human labels that may not be what was meant."""
    labelled = [task.codebook[column] for column in task.label_columns]
    yield from _like_label_columns(task)
    if task.split_lock is not None:
        yield task.lock_words()
    if task.texts and task.texts[0].strip().casefold() in SECOND_HEADER:
        yield (
            f"The first text reads {task.texts[0].strip()!r}: a second header line of a survey tool? "
            "Then take it out of the data."
        )
    blank = sum(not text.strip() for text in task.texts)
    if blank:
        yield f"{blank:,} of {len(task):,} texts are blank: no model is asked about them."
    yield from marks_notice(task.texts, task.ids)
    if task.name == UNNAMED and task.path is None:
        yield (
            f"The task has no name: its runs are kept under '{UNNAMED}', with those of all others that have none. "
            'Name it: Task(data, codebook, name="...").'
        )
    if words := task.outside_words:
        yield f"Labels outside the codebook count as not coded, as asked for: {words}."
    yield from _same_texts(task, labelled)
    yield from _ticks_only(task, labelled)
    yield from _marks_only(task, labelled)
    yield from _choices_only(task, labelled)
    yield from _unquoted(task, labelled)
    yield from _eaten_options(task, labelled)
    yield from _answers_of_closed_questions(task, labelled)


def notices_of_coded(task: Any) -> Iterator[str]:
    """Yield what deserves a look about the coded texts of a corpus, before it is run."""
    yield from _like_label_columns(task)
    yield from _same_texts(task, [task.codebook[column] for column in task.label_columns])
    yield from always_ticked(task)


def always_ticked(task: Any) -> Iterator[str]:
    """Yield a notice for checkboxes that people only ever ticked, in a task of nothing but coded texts."""
    fields = [task.codebook[column] for column in task.label_columns]
    ticked = [f.column for f in fields if f.type == "checkbox" and set(task.human(f.column)) - {None} == {1}]
    if ticked:
        yield (
            f"In {_columns(ticked)} every coded text has a 1. A blank cell means 'not coded': such texts are not "
            "scored, and always answering 1 looks perfect. If a blank means 'not ticked', write a 0 there."
        )


def _same_texts(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice where many coded texts are the same, which intervals take for so many independent ones."""
    values = [task.human(field.column) for field in labelled]
    rows = zip(task.texts, *values, strict=True)
    coded = [text for text, *of in rows if text.strip() and any(value is not None for value in of)]
    again = len(coded) - len(set(coded))
    if task.cluster is None and again * SAME_TEXTS >= len(coded) > 0:
        yield (
            f"{again:,} of {len(coded):,} coded texts are the same as an earlier one. Intervals take them for "
            f'independent, and are too narrow: score with cluster = "{task.codebook.text_column}".'
        )


def _like_label_columns(task: Any) -> Iterator[str]:
    """Yield a question for every column that looks like the mistyped label column of a field that has none."""
    book = task.codebook
    used = {book.text_column, task.id_source, book.header_column, *book.metadata_columns}
    columns = set(task.data.columns)
    absent = [f for f in book if f.column not in columns]
    for name in task.other_columns:
        word = _plain_name(name).removeprefix("human_")
        named = {_plain_name(form): f.column for f in absent for form in (f.name, f.column)}
        close = difflib.get_close_matches(word, named, n=1, cutoff=LIKE)
        if name not in used and close:
            yield (
                f"The column '{name}' is kept as metadata; human labels stand in '{named[close[0]]}': did you mean "
                "that? Then rename it."
            )


def _plain_name(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _blank(task: Any, field: Field) -> int:
    """Return how many texts have no label in a field that applies to them by the other labels."""
    values, applies = task.human(field.column), task.human_applies(field.column)
    return sum(value is None and asked for value, asked in zip(values, applies, strict=True))


def _only_positive(task: Any, labelled: Sequence[Field], kind: str) -> dict[str, int]:
    """Return column -> blank cells of the fields of a type in which no label says no: neither a 0 nor an empty list."""
    counts: dict[str, int] = {}
    for field in labelled:
        if field.type == kind:
            values = [value for value in task.human(field.column) if value is not None]
            if values and all(values) and (blank := _blank(task, field)):
                counts[field.column] = blank
    return counts


def _ticks_only(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for checkboxes that people only ever ticked, beside blank cells."""
    counts = _only_positive(task, labelled, "checkbox")
    if counts:
        yield (
            f"In {_columns(counts)} every coded text has a 1 and the others are blank ({_counts(counts)}). A blank "
            "cell means 'not coded': these texts are not scored, and always answering 1 looks perfect. If a blank "
            "means 'not ticked', say so: blank_means_no=True in load_task or Task."
        )


def _marks_only(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for span fields in which no text is coded as having no passage, beside blank cells."""
    counts = _only_positive(task, labelled, "span")
    if counts:
        yield (
            f"In {_columns(counts)} texts without a marked passage have a blank cell ({_counts(counts)}), not []. A "
            "blank cell means 'not coded': these texts are not scored, so passages that a model invents there cost "
            "nothing. If a blank means 'no passage', say so: blank_means_no=True in load_task or Task."
        )


def _choices_only(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for multiselects in which no text is coded as having none of the options, beside blank cells."""
    counts = _only_positive(task, labelled, "multiselect")
    if counts:
        yield (
            f"In {_columns(counts)} no text is coded as having none of the options ([]), and others are blank "
            f"({_counts(counts)}). A blank cell means 'not coded': these texts are not scored, so options that a model "
            "invents there cost nothing. If a blank means 'none', say so: blank_means_no=True in load_task or Task."
        )


def _unquoted(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for marks whose place nothing proves: no quote, in texts that programs count differently."""
    odd = [(not text.isascii() and _counts_differ(text)) or "\r\n" in text for text in task.texts]
    counts: dict[str, int] = {}
    for field in labelled if any(odd) else ():
        if field.type == "span":
            cells = zip(task.data[field.column], odd, strict=True)
            if n := sum(_without_quote(str(cell), field) for cell, differs in cells if differs and cell):
                counts[field.column] = n
    if counts:
        yield (
            f"In {_columns(counts)} some marks have offsets without a quote ({_counts(counts)}), in texts with emoji, "
            "decomposed letters or \\r\\n, which programs count differently. They are placed as the quoted marks of "
            "the column are, else by code points, and nothing proves it: export the marked words too."
        )


def _without_quote(cell: str, field: Field) -> int:
    """Return how many marks of a cell have no quote; 0 where it cannot be read, which is said elsewhere."""
    try:
        return sum(mark.quote is None for mark in read_marks(cell, field.label_options) or ())
    except ValueError:
        return 0


def _counts_differ(text: str) -> bool:
    """Return whether UTF-16 or composed letters count another number of characters."""
    return max(text) > "\uffff" or len(unicodedata.normalize("NFC", text)) != len(text)


def _eaten_options(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for options that pandas reads as missing and that no text has, beside blank cells."""
    for field in labelled:
        if field.type != "dropdown":
            continue
        values = task.human(field.column)
        eaten = [word for word in field.options if word.strip() in MISSING_WORDS and word not in values]
        blank = _blank(task, field)
        if eaten and blank:
            yield (
                f"{field.column}: no text has the option {listed(map(repr, eaten))}, and {blank:,} cells are blank. "
                "pandas reads such words as missing values: if the data went through it, read them again with "
                "pd.read_csv(..., dtype=str, keep_default_na=False) or pl.read_csv(..., infer_schema=False)."
            )


def _answers_of_closed_questions(task: Any, labelled: Sequence[Field]) -> Iterator[str]:
    """Yield a notice for labels of a question that does not apply by the label of the question above it."""
    for field in labelled:
        if field.condition is None:
            continue
        values, applies = task.human(field.column), task.human_applies(field.column)
        rows = [i for i, value in enumerate(values) if value not in (None, []) and not applies[i]]
        if rows:
            texts = "1 text has a label" if len(rows) == 1 else f"{len(rows):,} texts have a label"
            yield (
                f"{field.column}: {texts} although '{field.condition.column}' says that the question does not apply "
                f"({listed((task.ids[i] for i in rows), 3)}). Such labels are not scored: correct one of the two."
            )


def _columns(counts: Iterable[str]) -> str:
    return listed((f"'{name}'" for name in counts), 6)


def _counts(by_column: Mapping[str, int]) -> str:
    return listed((f"{n:,}" for n in by_column.values()), 6)


def unused_ids(named: Mapping[str, Sequence[str]], used: str) -> Iterator[str]:
    """Yield a notice for every id column that does not identify the texts.

    Parameters
    ----------
    named
        Column -> its ids, for the columns that would have been taken before the one that is `used`.
    used
        The column that is taken instead, or ``"text"``.
    """
    for column, values in named.items():
        faults = id_faults(values)
        bad = len(values) - len({v for v in values if v.strip()})
        # A table with many rows per document has ids that repeat on purpose, and another column for its rows.
        if bad == len(values) or (used != "text" and bad > len(values) / 10):
            continue
        instead = "Ids are made from the texts instead" if used == "text" else f"'{used}' is used instead"
        yield (
            f"The column '{column}' does not identify the texts: {' and '.join(faults)}. {instead}, so tables that "
            f"go by '{column}' are not joined. Correct them, or name another column: id_column=..."
        )


def id_faults(values: Iterable[str]) -> list[str]:
    """Return what is wrong with some ids, in words: blank ones, repeated ones."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    blank = sum(count for value, count in counts.items() if not value.strip())
    twice = [value for value, count in counts.items() if count > 1 and value.strip()]
    what = [f"{blank} blank"] if blank else []
    return what + ([f"{len(twice)} repeated: {listed(map(repr, twice))}"] if twice else [])
