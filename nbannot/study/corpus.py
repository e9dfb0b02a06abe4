"""A corpus: more texts than fit into memory, read as they are needed, under a codebook.

`corpus` takes Parquet, CSV or JSONL files, a polars LazyFrame or a dataset of the Hugging Face Hub; `nbannot.run` and
`nbannot.plan` take what it returns as they take a task.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.errors import TaskError, listed, nearest
from nbannot.page.shown import Shown
from nbannot.study import corpus_files
from nbannot.study.codebook import Codebook
from nbannot.study.corpus_hub import fetched, is_on_hub
from nbannot.study.corpus_index import Index, indexed
from nbannot.study.corpus_rows import ROW_NUMBER, Chosen
from nbannot.study.reading import as_text
from nbannot.study.sampling import draw
from nbannot.study.segments import cut_by
from nbannot.study.task import ID_COLUMNS, OutsideLabels, Task
from nbannot.tools.files import name_fault
from nbannot.tools.imports import load

if TYPE_CHECKING:
    import polars as pl

Duplicates = Literal["once", "each"]
ROW = "row"
"""The column of ids that are made: the number of the row in the corpus, from 1."""
DOCUMENT, SEGMENT, START, END = "document_id", "segment", "segment_start", "segment_end"
SEGMENT_ID = "segment_id"
"""The columns of a segment: its document, its number in it (from 1), its characters there (from 0, half open)."""
NOT_FOR_A_CORPUS = {
    "split": "draw the texts that people shall code as a task of their own, and lock that",
    "sample_by": "sample without strata, or draw the stratified sample beforehand: its ids are a setting (ids)",
}
"""Settings of a run that choose texts in a way that needs the whole table, and what to do instead."""


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
        """Every column of the files."""
        return corpus_files.columns_of(self.files[:1])

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


def corpus(
    source: Any,
    codebook: Codebook | Mapping[str, Any] | str | Path,
    *,
    name: str | None = None,
    id_column: str | None = None,
    segment: str | None = None,
    duplicates: Duplicates = "once",
    revision: str | None = None,
    compress: bool = True,
    outside_labels: OutsideLabels = "error",
) -> Corpus:
    """Return a corpus: texts that are read as they are needed, for `run` and `plan`.

    Parameters
    ----------
    source
        Paths or patterns of Parquet, CSV or JSONL files (all of one kind, with the same columns), a folder of them, a
        polars LazyFrame, or a dataset of the Hugging Face Hub: ``hf://datasets/<owner>/<name>``, with a pattern of its
        files behind it where not all of them belong to it. Parquet is read where it lies; everything else is written as
        Parquet into the cache first (``NBANNOT_CACHE``).
    codebook
        A `Codebook`, a dictionary, or the path of a ``codebook.json``.
    name
        Short name, used as the folder of its runs; else made from `source`.
    id_column
        Column that identifies a text; else the codebook's, else the first of sample_id, doc_id, item_id, text_id, id
        that is unique, else the number of the row.
    segment
        Cut long documents: ``"sentences"``, ``"paragraphs"``, ``"200 words"`` or ``"1000 characters"``. Each segment is
        a text of its own, ``<document id>#<number>``, with its characters in the document; see `CorpusRun.documents`.
        People's labels of documents are not labels of segments, and are left out.
    duplicates
        ``"once"``: texts that are the same, with the metadata that is sent, are asked about once, and get the same
        labels, marked as such in ``output.parquet``; ``"each"``: every text is asked about.
    revision
        Branch, tag or commit of a dataset on the Hub; what was read is kept as a commit.
    compress
        Compress the segments of the ledger that are finished (gzip).
    outside_labels
        What to do with a human label that the codebook does not have: ``"error"`` or ``"not_coded"``.

    Raises
    ------
    TaskError
        If there is nothing to read, a line or file is damaged, columns are missing or ids repeat.
    """
    book = _codebook(codebook)
    cut = cut_by(segment) if segment is not None else None
    if duplicates not in ("once", "each"):
        raise TaskError(f"duplicates must be 'once' or 'each'. Got {duplicates!r}.")
    words, files, sources, commit = _read(source, revision)
    name = name or _name_of(words)
    if fault := name_fault(name):
        raise TaskError(
            f"a corpus's name is that of a folder in outputs, and {name[:60]!r} {fault}.\n  Give name=..."
        )
    made = _made(
        Corpus(
            book,
            name,
            tuple(files),
            tuple(map(corpus_files.rows_in, files)),
            words,
            tuple(map(tuple, sources)),
            commit,
            id_column,
            None,
            duplicates,
            compress,
            outside_labels,
        )
    )
    return made if cut is None or segment is None else _segmented(made, segment)


def _codebook(given: Codebook | Mapping[str, Any] | str | Path) -> Codebook:
    if isinstance(given, Codebook):
        return given
    return Codebook.load(given) if isinstance(given, str | Path) else Codebook.from_dict(given)


def _made(made: Corpus) -> Corpus:
    """Return the corpus, once its columns are those that it needs."""
    corpus_files.columns_of(made.files)
    if not len(made):
        raise TaskError(f"{made.source} has no rows.\n  It needs one row per text.")
    text = made.codebook.text_column
    for column, what in ((text, "the codebook's text_column"), (made.id_column, "id_column")):
        if column is not None and column not in made.columns:
            raise TaskError(
                f"{made.source} has no column '{column}' ({what}){nearest(column, made.columns) or '.'}\n"
                f"  Its columns: {listed(made.columns, 12)}."
            )
    if ROW in made.columns and made.id_column is None and made.codebook.id_column is None:
        raise TaskError(
            f"{made.source} has a column '{ROW}', which is what made ids are called.\n"
            f"  Name the column that identifies a text: id_column='{ROW}' or another one."
        )
    return made


def _read(
    source: Any, revision: str | None
) -> tuple[str, Sequence[Path], Sequence[Sequence[Any]], str | None]:
    """Return what was named in words, Parquet files with it, the stamps of what was named, and the commit."""
    load("polars")
    import polars as pl

    commit = None
    if isinstance(source, str) and is_on_hub(source):
        words, (files, commit) = source, fetched(source, revision)
    elif revision is not None:
        raise TaskError("revision goes with a dataset on the Hub: hf://datasets/<owner>/<name>.")
    elif isinstance(source, str | Path | list | tuple):
        words = str(source) if isinstance(source, str | Path) else listed(source, 3)
        files = corpus_files.files_of(source)
    else:
        lazy = source if isinstance(source, pl.LazyFrame) else as_text(source).lazy()
        return "frame", corpus_files.written_by_content(corpus_files.frames_of(lazy)), [], None
    sources = corpus_files.stamp_of(files)
    if files[0].suffix.lower() not in corpus_files.PARQUET:
        every = (piece for path in files for piece in corpus_files.pieces_of(path))
        files = corpus_files.written(every, sources)
    return words, files, sources, commit


def _name_of(words: str) -> str:
    """Return a name for a corpus: the last part of what was named that is no pattern."""
    parts = [part for part in words.replace("\\", "/").split("/") if part and not set("*?[") & set(part)]
    last = parts[-1] if parts else "corpus"
    return last.partition(".")[0] or "corpus"


def _segmented(whole: Corpus, segment: str) -> Corpus:
    """Return the corpus of the segments of these documents."""
    taken = [
        n for n in (DOCUMENT, SEGMENT, START, END, SEGMENT_ID) if n in whole.columns and n != whole.id_source
    ]
    if taken:
        raise TaskError(
            f"{whole.source} has columns that segments bear: {listed(taken)}.\n  Rename them, or cut without segment=."
        )
    text = whole.codebook.text_column
    index = whole.index()
    cut = cut_by(segment)

    def segments() -> Iterator[pl.DataFrame]:
        import polars as pl

        kept = [n for n in whole.other_columns if n not in (text, whole.id_source)]
        for row, piece in whole.pieces():
            ids = (
                piece[index.id_column] if index.id_column else [str(row + i + 1) for i in range(piece.height)]
            )
            rows: dict[str, list[Any]] = {n: [] for n in (SEGMENT_ID, DOCUMENT, SEGMENT, START, END, text)}
            of: list[int] = []
            for i, (document, words) in enumerate(zip(ids, piece[text], strict=True)):
                for number, (begin, end) in enumerate(cut(words), start=1):
                    cells = (
                        f"{document}#{number}",
                        document,
                        str(number),
                        str(begin),
                        str(end),
                        words[begin:end],
                    )
                    for cell, column in zip(cells, rows.values(), strict=True):
                        column.append(cell)
                    of.append(i)
            yield pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)).hstack(piece[kept][of])

    made_from = [corpus_files.stamp_of(whole.files), segment, text, whole.id_source]
    files = corpus_files.written(segments(), made_from)
    remark = (
        [
            f"People's labels of documents are no labels of their segments: {listed(whole.label_columns)} left out."
        ]
        if whole.label_columns
        else []
    )
    return _made(
        Corpus(
            whole.codebook,
            whole.name,
            tuple(files),
            tuple(map(corpus_files.rows_in, files)),
            whole.source,
            whole.sources,
            whole.revision,
            SEGMENT_ID,
            segment,
            whole.duplicates,
            whole.compress,
            whole.outside_labels,
            tuple(remark),
        )
    )
