"""A task: the texts, what identifies each, and what people said of them, under a codebook.

`Task` takes a pandas or polars frame and a codebook; `nbannot.load_task` finds a bundled task, a folder or a Hugging
Face dataset repository.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.errors import TaskError, listed, nearest, problems
from nbannot.page.shown import Shown
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field
from nbannot.study.reading import as_text
from nbannot.study.spans import read_spans

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

ID_COLUMNS = ("sample_id", "doc_id", "item_id", "text_id", "id")
UNNAMED = "task"
LIKE = 0.8
"""From this likeness on (difflib), a column is taken for a mistyped label column."""

OutsideLabels = Literal["error", "not_coded"]


@dataclass(frozen=True, repr=False, eq=False)
class Task(Shown):
    """The texts of a study with their human labels, ready to be annotated.

    Parameters
    ----------
    data
        pandas or polars DataFrame with the codebook's text column; label columns are those of the codebook
        (``<section_name>_<name>``), all others are kept as metadata.
    codebook
        A `Codebook`, a dictionary in Studio's format, or the path of a ``codebook.json``.
    name
        Short name, used as the folder of its runs.
    id_column
        Column that identifies a text; else the codebook's, else the first of sample_id, doc_id, item_id, text_id, id
        that is unique, else an id made from the text.
    outside_labels
        What to do with a human label that the codebook does not have: ``"error"`` or ``"not_coded"``.

    rows
        Set by `select`: the positions, in the data that the first task was made from, of the texts that were kept.

    Raises
    ------
    TaskError
        If there are no rows, the text column is missing, ids repeat, or a human label is outside the codebook.

    Examples
    --------
    >>> import pandas as pd
    >>> codebook = {"text_column": "t", "section_1": {"section_name": "S", "annotations":
    ...     {"annotation_1": {"name": "Good", "type": "checkbox"}}}}
    >>> task = Task(pd.DataFrame({"t": ["yes!", "no"], "S_Good": ["1", ""]}), codebook, name="demo")
    >>> len(task), task.human("S_Good")
    (2, [1, None])
    """

    _display: ClassVar[str] = "task_card"

    data: Any
    codebook: Codebook
    name: str = UNNAMED
    id_column: str | None = None
    outside_labels: OutsideLabels = "error"
    path: Path | None = None
    rows: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        codebook: Any = self.codebook
        if not isinstance(codebook, Codebook):
            codebook = (
                Codebook.load(codebook) if isinstance(codebook, str | Path) else Codebook.from_dict(codebook)
            )
            object.__setattr__(self, "codebook", codebook)
        object.__setattr__(self, "data", as_text(self.data))
        if not self.name or any(c in self.name for c in '/\\:*?"<>|') or self.name.startswith("."):
            raise TaskError(
                f"a task's name is used as a folder name. Got {self.name!r}.\n  Use letters, digits, - and _."
            )
        if codebook.text_column not in self.data.columns:
            hint = nearest(codebook.text_column, self.data.columns)
            raise TaskError(
                f"the data has no column '{codebook.text_column}' (the codebook's text_column){hint or '.'}\n"
                f"  Its columns: {listed(self.data.columns, 12)}."
            )
        if not len(self) and self.rows is None:
            raise TaskError("the data has no rows.\n  It needs one row per text.")
        _ = self._identified
        self._check_labels()

    def __len__(self) -> int:
        return int(self.data.height)

    @cached_property
    def texts(self) -> list[str]:
        """The texts, in input order."""
        return list(self.data[self.codebook.text_column])

    @property
    def ids(self) -> list[str]:
        """What identifies each text, in input order; unique."""
        return self._identified[0]

    @property
    def id_source(self) -> str:
        """Where the ids come from: a column's name, or ``"text"`` when they were made from the texts."""
        return self._identified[1]

    @cached_property
    def _identified(self) -> tuple[list[str], str]:
        named = self.id_column or self.codebook.id_column
        if named:
            if named not in self.data.columns:
                raise TaskError(
                    f"the data has no column '{named}' (the id_column){nearest(named, self.data.columns) or '.'}\n"
                    f"  Its columns: {listed(self.data.columns, 12)}."
                )
            if named in self.label_columns:
                raise TaskError(
                    f"'{named}' holds the labels of a field and cannot identify texts.\n  Name another id_column."
                )
            values = list(self.data[named])
            _refuse_repeated(named, values)
            return values, named
        for candidate in ID_COLUMNS:
            if candidate in self.other_columns:
                values = list(self.data[candidate])
                if all(v.strip() for v in values) and len(set(values)) == len(values):
                    return values, candidate
        return _ids_of(self.texts), "text"

    @property
    def label_columns(self) -> list[str]:
        """The codebook's columns that the data has, in codebook order."""
        return [f.column for f in self.codebook if f.column in self.data.columns]

    @property
    def other_columns(self) -> list[str]:
        """The columns of the data that are not labels: id, text, metadata, in their order."""
        labels = {f.column for f in self.codebook}
        return [name for name in self.data.columns if name not in labels]

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What deserves a look before trusting a run on these texts, one sentence each."""
        found = [*self._like_label_columns()]
        blank = sum(not text.strip() for text in self.texts)
        if blank:
            found.append(f"{blank:,} of {len(self):,} texts are blank: no model is asked about them.")
        if self.name == UNNAMED and self.path is None:
            found.append(
                f"The task has no name: its runs are kept under '{UNNAMED}', with those of all others that have none. "
                'Name it: Task(data, codebook, name="...").'
            )
        return tuple(found)

    def _like_label_columns(self) -> Iterator[str]:
        """Yield a question for every column that looks like the mistyped label column of a field that has none."""
        book = self.codebook
        used = {book.text_column, self.id_source, book.header_column, *book.metadata_columns}
        absent = [f for f in book if f.column not in self.data.columns]
        for name in self.other_columns:
            word = _plain_name(name).removeprefix("human_")
            named = {_plain_name(form): f.column for f in absent for form in (f.name, f.column)}
            close = difflib.get_close_matches(word, named, n=1, cutoff=LIKE)
            if name not in used and close:
                yield (
                    f"The column '{name}' is kept as metadata; human labels stand in '{named[close[0]]}': did you mean "
                    "that? Then rename it."
                )

    @property
    def has_human_labels(self) -> bool:
        """Whether people coded at least one text."""
        return any(value is not None for name in self.label_columns for value in self.human(name))

    def human(self, column: str) -> list[Any]:
        """Return the human values of one field, one per text; ``None`` = not coded (or no such column).

        Raises
        ------
        CodebookError
            If the codebook has no such field.
        """
        return list(self._human.get(self.codebook[column].column) or [None] * len(self))

    @cached_property
    def _human(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def _repaired(self) -> dict[str, int]:
        return {}

    @property
    def repaired_spans(self) -> int:
        """How many human spans had offsets that did not fit their quote and were put right."""
        return sum(self._repaired.values())

    def human_applies(self, column: str) -> list[bool]:
        """Return per text whether the field applies by the human labels.

        A field whose parent was not coded counts as applying: nobody said that it does not.
        """
        field = self.codebook[column]
        if field.condition is None:
            return [True] * len(self)
        above = self.human_applies(field.condition.column)
        parent = self.human(field.condition.column)
        wanted = field.condition.value
        return [up and (value is None or value == wanted) for up, value in zip(above, parent, strict=True)]

    def select(
        self,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        split: Literal["dev", "test"] | None = None,
    ) -> Task:
        """Return the task with only some of its texts, in the same order and with the same ids.

        Parameters
        ----------
        limit
            At most this many texts: the first of those chosen by `ids` and `split`.
        ids
            Only these texts.
        split
            Only one half of the fixed split; see `split_of`.

        Raises
        ------
        TaskError
            If an id is unknown, `limit` is negative or `split` is neither ``"dev"`` nor ``"test"``.
        """
        if limit is None and ids is None and split is None:
            return self
        if limit is not None and limit < 0:
            raise TaskError(f"limit must be 0 or more texts. Got {limit}.")
        if split not in (None, "dev", "test"):
            raise TaskError(f"split must be 'dev' or 'test'. Got {split!r}.")
        kept = list(range(len(self)))
        if ids is not None:
            wanted = {ids} if isinstance(ids, str) else {str(i) for i in ids}
            unknown = wanted - set(self.ids)
            if unknown:
                raise TaskError(
                    f"the task '{self.name}' has no text with the id {listed(sorted(unknown))}.\n"
                    f"  Its ids are in task.ids: {listed(self.ids, 3)}."
                )
            kept = [i for i in kept if self.ids[i] in wanted]
        if split is not None:
            kept = [i for i in kept if split_of(self.ids[i]) == split]
        kept = kept[:limit]
        frame = self.data[kept] if kept else self.data.clear()
        rows = kept if self.rows is None else [self.rows[i] for i in kept]
        chosen = replace(self, data=frame, rows=tuple(rows))
        # Ids made from texts count occurrences in the whole data: keep the ones given there.
        chosen.__dict__["_identified"] = ([self.ids[i] for i in kept], self.id_source)
        return chosen

    def data_hash(self, columns: Iterable[str] = ()) -> str:
        """Return SHA-256 (hex) of the ids, the texts and the given further columns, in order."""
        digest = hashlib.sha256()
        further = [list(self.data[name]) for name in columns]
        for row in zip(self.ids, self.texts, *further, strict=True):
            digest.update("".join(f"{len(cell)}:{cell}" for cell in row).encode())
        return digest.hexdigest()

    def to_pandas(self) -> pd.DataFrame:
        """Return the data as a pandas DataFrame; every cell is a string."""
        import pandas as pd

        return pd.DataFrame(self.data.to_dict(as_series=False), dtype=str)

    def to_polars(self) -> pl.DataFrame:
        """Return the data as a polars DataFrame; every cell is a string."""
        return self.data  # type: ignore[no-any-return]

    def _read(self, field: Field) -> tuple[list[Any], list[str], int]:
        """Return values, faults and the number of repaired spans of one label column."""
        cells = list(self.data[field.column])
        if field.type == "span":
            return self._read_spans(field, cells)
        known: dict[str, Any] = {}
        faults: dict[str, str] = {}
        for cell in dict.fromkeys(cells):
            try:
                known[cell] = field.read(cell)
            except ValueError as error:
                known[cell], faults[cell] = None, str(error)
        wrong = [(cell, faults[cell], i) for i, cell in enumerate(cells) if cell in faults] if faults else []
        return [known[cell] for cell in cells], self._faults(field, wrong), 0

    def _read_spans(self, field: Field, cells: list[str]) -> tuple[list[Any], list[str], int]:
        values: list[Any] = []
        wrong: list[tuple[str, str, int]] = []
        repaired = 0
        for i, (cell, text) in enumerate(zip(cells, self.texts, strict=True)):
            try:
                spans, moved = read_spans(cell, text, field.label_options)
            except ValueError as error:
                spans, moved = None, 0
                wrong.append((cell, str(error), i))
            values.append(spans)
            repaired += moved
        return values, self._faults(field, wrong), repaired

    def _faults(self, field: Field, wrong: list[tuple[str, str, int]]) -> list[str]:
        """Return one line per (cell, why), with the ids of the texts that have it."""
        rows: dict[tuple[str, str], list[int]] = {}
        for cell, why, row in wrong:
            rows.setdefault((cell, why), []).append(row)
        lines = []
        for (cell, why), where in rows.items():
            shown = cell if len(cell) <= 60 else cell[:57] + "…"
            texts = "text" if len(where) == 1 else f"{len(where)} texts"
            lines.append(
                f"{field.column}: {shown!r} {why}; {texts} {listed((self.ids[i] for i in where), 3)}"
            )
        return lines

    def _check_labels(self) -> None:
        if self.outside_labels not in ("error", "not_coded"):
            raise TaskError(f"outside_labels must be 'error' or 'not_coded'. Got {self.outside_labels!r}.")
        faults: list[str] = []
        for column in self.label_columns:
            self._human[column], found, self._repaired[column] = self._read(self.codebook[column])
            faults += found
        if faults and self.outside_labels == "error":
            raise TaskError(
                problems(f"human labels of task '{self.name}' are outside the codebook", faults)
                + '\n  Correct them, or pass outside_labels="not_coded" to treat them as not coded.'
            )

    def __repr__(self) -> str:
        return f"<Task '{self.name}': {len(self)} texts, {len(self.codebook)} fields>"


def split_of(text_id: str) -> Literal["dev", "test"]:
    """Return the half that a text belongs to, fixed by its id alone: ``"dev"`` or ``"test"``, about 50:50."""
    return "dev" if hashlib.sha256(f"nbannot-split:{text_id}".encode()).digest()[0] < 128 else "test"


def _plain_name(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _refuse_repeated(column: str, values: list[str]) -> None:
    blank = sum(not v.strip() for v in values)
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    twice = [value for value, count in counts.items() if count > 1 and value.strip()]
    if blank or twice:
        what = [f"{blank} blank"] if blank else []
        what += [f"{len(twice)} repeated: {listed(map(repr, twice))}"] if twice else []
        raise TaskError(
            f"ids in column '{column}' must be unique and not blank. Got {' and '.join(what)}.\n"
            "  Labels are joined by id: give every text its own, or name another id_column."
        )


def _ids_of(texts: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    ids = []
    for text in texts:
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        ids.append(f"{key}-{seen[key]}")
    return ids
