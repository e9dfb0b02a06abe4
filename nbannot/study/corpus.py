"""A corpus: more texts than fit into memory, read as they are needed, under a codebook."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.errors import TaskError, listed
from nbannot.page.shown import Shown
from nbannot.study import corpus_files
from nbannot.study.codebook import Codebook
from nbannot.study.corpus_index import Index, indexed
from nbannot.study.corpus_rows import ROW_NUMBER, Chosen
from nbannot.study.sampling import draw
from nbannot.study.task import ID_COLUMNS, OutsideLabels, Task

if TYPE_CHECKING:
    import polars as pl

Duplicates = Literal["once", "each"]
ROW = "row"
"""The column of ids that are made: the number of the row in the corpus, from 1."""
DOCUMENT, SEGMENT, START, END = "document_id", "segment", "segment_start", "segment_end"
SEGMENT_ID = "segment_id"
"""The columns of a segment: its document, its number in it (from 1), its characters there (from 0, half open)."""
DUPLICATE_OF = "duplicate_of"
"""The column of ``output.parquet`` that names the first text that is the same."""
NOT_FOR_A_CORPUS = {
    "split": "draw the texts that people shall code as a task of their own, and lock that",
    "sample_by": "sample without strata, or draw the stratified sample beforehand: its ids are a setting (ids)",
}
"""Settings of a run that choose texts in a way that needs the whole table, and what to do instead."""


def needed_by(codebook: Codebook, id_column: str | None) -> dict[str, str]:
    """Return the columns that every file of a corpus must have, and which setting names each."""
    ids = id_column or codebook.id_column
    named = {codebook.text_column: "the codebook's text_column"}
    return named | ({ids: "id_column" if id_column else "the codebook's id_column"} if ids else {})


@dataclass(frozen=True, repr=False, eq=False)
class Corpus(Shown):
    """Texts that are read as they are needed; made by `corpus`.

    Attributes
    ----------
    files
        Parquet files with the texts: those that were named, or the parts that were written from what was named.
    heights
        Number of rows of each.
    source
        What was named, in words.
    sources
        The files that were named, with size and time of the last change, as they were then.
    revision
        The commit of a dataset on the Hub; else ``None``.
    id_column
        The column that shall identify the texts; ``None``: the first that can, else their row numbers.
    segment
        What the documents are cut into; ``None``: they are not.
    duplicates
        ``"once"``: texts that are the same are asked about once; ``"each"``: every one.
    compress
        Whether finished segments of the ledger are compressed.
    remarks
        What deserves a look, one sentence each.
    """

    _display: ClassVar[str] = "corpus_card"

    codebook: Codebook
    name: str
    files: tuple[Path, ...]
    heights: tuple[int, ...]
    source: str
    sources: tuple[tuple[Any, ...], ...] = ()
    revision: str | None = None
    id_column: str | None = None
    segment: str | None = None
    duplicates: Duplicates = "once"
    compress: bool = True
    outside_labels: OutsideLabels = "error"
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(self.heights)

    @cached_property
    def columns(self) -> list[str]:
        """Every column of the files, in the order in which they come."""
        return corpus_files.columns_of(self.files, needed_by(self.codebook, self.id_column))

    @property
    def label_columns(self) -> list[str]:
        """The codebook's columns that the files have, in codebook order."""
        return [f.column for f in self.codebook if f.column in self.columns]

    @property
    def other_columns(self) -> list[str]:
        """The columns of the files that are no labels, in their order."""
        labels = {f.column for f in self.codebook}
        return [name for name in self.columns if name not in labels]

    @cached_property
    def indexes(self) -> dict[tuple[str, ...], Index]:
        """What passes over the corpus found, by the metadata that is sent with the texts."""
        return {}

    def index(self, metadata: Sequence[str] = ()) -> Index:
        """Return what one pass over the corpus finds; from the cache where the files are as they were.

        Parameters
        ----------
        metadata
            Columns that are sent with the text.
        """
        key = tuple(metadata)
        if key not in self.indexes:
            named = self.id_column or self.codebook.id_column
            candidates = [named] if named else [c for c in ID_COLUMNS if c in self.other_columns]
            found = indexed(
                self.pieces(),
                corpus_files.stamp_of(self.files),
                text=self.codebook.text_column,
                sent=key,
                hashed=list(dict.fromkeys((self.codebook.text_column, *key, *candidates))),
                labels=self.label_columns,
                candidates=candidates,
            )
            if named and named in found.repeated_ids:
                raise TaskError(
                    f"ids in column '{named}' must be unique and not blank. "
                    f"Got {' and '.join(found.repeated_ids[named])}.\n"
                    "  Labels are joined by id: give every text its own, or name another id_column."
                )
            self.indexes[key] = found
        return self.indexes[key]

    @property
    def id_source(self) -> str:
        """Where the ids come from: a column's name, or ``"row"`` where they are row numbers, from 1."""
        return self._id_column or ROW

    @property
    def _id_column(self) -> str:
        return (next(iter(self.indexes.values()), None) or self.index()).id_column

    @property
    def notices(self) -> tuple[str, ...]:
        """What deserves a look before trusting a run on these texts, one sentence each."""
        repeated = next(iter(self.indexes.values())).repeated_ids if self.indexes else {}
        unused = [
            f"The column '{column}' does not identify the texts: {' and '.join(faults)}. Their ids are "
            f"{'those of ' + repr(self.id_source) if self._id_column else 'row numbers'}."
            for column, faults in repeated.items()
        ]
        return (*self.remarks, *unused)

    def pieces(self, start: int = 0) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows from one on (from 0) in pieces, as text, with the number of their first row."""
        return corpus_files.read_parquet(self.files, self.heights, self.columns, start)

    def check(self) -> None:
        """Raise if a file is not what it was when the corpus was made.

        Raises
        ------
        TaskError
            If one was changed or is gone.
        """
        for path, size, changed_ns in self.sources:
            now = corpus_files.stamp_of([Path(path)])[0]
            if now != [path, size, changed_ns]:
                raise corpus_files.changed(Path(path))

    def chosen(self, settings: Mapping[str, Any]) -> Chosen:
        """Return the rows that the settings of a run choose, and which of their texts are asked about.

        Raises
        ------
        TaskError
            If they choose in a way that needs the whole table, or an id is unknown.
        """
        for name, instead in NOT_FOR_A_CORPUS.items():
            if settings.get(name) is not None:
                raise TaskError(f"{name} does not go with a corpus.\n  Instead: {instead}.")
        metadata = settings.get("metadata_columns") or ()
        missing = [name for name in metadata if name not in self.other_columns]
        if missing:
            raise TaskError(
                f"metadata_columns that cannot be sent: {listed(missing)}.\n"
                f"  There are: {listed(self.other_columns, 12)}."
            )
        index = self.index(metadata)
        rows: list[int] | None = None
        limit, sample, ids = settings.get("limit"), settings.get("sample"), settings.get("ids")
        if ids is not None:
            rows = self._rows_of(list(ids))
        if sample is not None:
            rows = self._sampled(sample, settings.get("sample_seed") or 0, rows)
        if limit is not None:
            rows = list(range(min(limit, index.n))) if rows is None else rows[:limit]
        repeated = index.repeated if self.duplicates == "once" else index.repeated.clear()
        return Chosen.of(index.n, rows, repeated)

    def _ids(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the ids in pieces, with the number of their first row."""
        if not (column := self._id_column):
            n, step = len(self), corpus_files.PART_ROWS
            for row in range(0, n, step):
                yield row, [str(i + 1) for i in range(row, min(row + step, n))]
            return
        for row, piece in corpus_files.read_parquet(self.files, self.heights, [column]):
            yield row, piece[column].to_list()

    def _rows_of(self, wanted: Sequence[str]) -> list[int]:
        left = set(map(str, wanted))
        rows: list[int] = []
        for row, ids in self._ids():
            found = [(row + i, text_id) for i, text_id in enumerate(ids) if text_id in left]
            rows += [number for number, _ in found]
            left.difference_update(text_id for _, text_id in found)
        if left:
            raise TaskError(f"the corpus '{self.name}' has no text {listed(sorted(left), 3)} (ids).")
        return rows

    def _sampled(self, n: int, seed: int, rows: Sequence[int] | None) -> list[int]:
        """Return the rows of the sample that `Task.select` would draw from the same ids."""
        among = None if rows is None else set(rows)
        drawn = (
            (draw(text_id, seed), row + i)
            for row, ids in self._ids()
            for i, text_id in enumerate(ids)
            if among is None or row + i in among
        )
        return sorted(row for _, row in heapq.nsmallest(n, drawn))

    def data_hash(self, chosen: Chosen, metadata: Sequence[str] = ()) -> str:
        """Return SHA-256 (hex) of what decides the answers: ids, texts and metadata that are sent, rows, duplicates."""
        index = self.index(metadata)
        sent = (self.codebook.text_column, *metadata)
        columns = {name: index.digests[name] for name in sent}
        # Files that hold the same texts in the same order are the same corpus, whatever their names and their format.
        decided = [columns, index.n, self._id_digest(), chosen.digest, self.duplicates, self.segment]
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()

    def _id_digest(self) -> str:
        return next(iter(self.indexes.values())).digests[self._id_column] if self._id_column else ROW

    def part(
        self,
        rows: pl.DataFrame,
        numbers: Sequence[int],
        *,
        labels: bool = False,
        cluster: str | None = None,
        weights: str | None = None,
    ) -> Task:
        """Return some rows as a task.

        Parameters
        ----------
        numbers
            Their numbers in the corpus, from 0.
        labels
            Keep people's labels.
        cluster, weights
            Columns by which they are scored, as in `Task`.
        """
        if not labels:
            rows = rows.drop([n for n in self.label_columns if n in rows.columns])
        return Task(
            self.with_ids(rows, numbers),
            self.codebook,
            self.name,
            id_column=self.id_source,
            outside_labels=self.outside_labels,
            rows=tuple(numbers),
            cluster=cluster,
            weights=weights,
        )

    def with_ids(self, rows: pl.DataFrame, numbers: Iterable[int]) -> pl.DataFrame:
        """Return rows with the column that identifies them: their numbers where no other one does."""
        import polars as pl

        if self._id_column:
            return rows
        return rows.with_columns(pl.Series(ROW, [str(number + 1) for number in numbers], dtype=pl.String))

    def gold(self, chosen: Chosen, settings: Mapping[str, Any]) -> Task:
        """Return the chosen texts that people coded, as a task; it may be empty."""
        coded = self.index(settings.get("metadata_columns") or ()).gold
        coded = coded.filter(chosen.has(coded[ROW_NUMBER]))
        by = {name: settings.get(name) or None for name in ("cluster", "weights")}
        return self.part(coded.drop(ROW_NUMBER), coded[ROW_NUMBER].to_list(), labels=True, **by)

    def __repr__(self) -> str:
        return f"<Corpus '{self.name}': {len(self):,} texts, {len(self.codebook)} fields>"
