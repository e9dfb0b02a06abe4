"""Where a corpus comes from: files, frames and datasets of the Hub, whole or cut into segments.

`corpus` takes Parquet, CSV or JSONL files, a polars LazyFrame or a dataset of the Hugging Face Hub; `nbannot.run` and
`nbannot.plan` take what it returns as they take a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import TaskError, listed
from nbannot.study import corpus_files
from nbannot.study.codebook import Codebook
from nbannot.study.corpus import (
    DOCUMENT,
    DUPLICATE_OF,
    END,
    ROW,
    SEGMENT,
    SEGMENT_ID,
    START,
    Corpus,
    Duplicates,
    needed_by,
)
from nbannot.study.corpus_hub import fetched, is_on_hub
from nbannot.study.corpus_rows import ROW_NUMBER
from nbannot.study.reading import as_text
from nbannot.study.segments import cut_by
from nbannot.study.task import OutsideLabels
from nbannot.tools.files import name_fault
from nbannot.tools.imports import load

if TYPE_CHECKING:
    import polars as pl


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
        Paths or patterns of Parquet, CSV or JSONL files (all of one kind; but for text and ids, a column that one of
        them lacks is blank there), a folder of them, a polars LazyFrame, or a dataset of the Hugging Face Hub:
        ``hf://datasets/<owner>/<name>``, with a pattern of its files behind it where not all of them belong to it.
        Parquet is read where it lies; everything else is written as Parquet into the cache first (``NBANNOT_CACHE``).
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
    if outside_labels not in ("error", "not_coded"):
        raise TaskError(f"outside_labels must be 'error' or 'not_coded'. Got {outside_labels!r}.")
    if not isinstance(compress, bool):
        raise TaskError(f"compress must be True or False. Got {compress!r}.")
    for what, given in (("name", name), ("id_column", id_column)):
        if given is not None and not isinstance(given, str):
            raise TaskError(f"{what} must be a text. Got {given!r}.")
    words, files, sources, commit = _read(source, revision, needed_by(book, id_column))
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


def corpus_of_run(config: Mapping[str, Any]) -> Corpus:
    """Return the corpus that a run was made from, by its ``config.json``, read anew from where it lay.

    Raises
    ------
    TaskError
        If it was a frame, which lay nowhere, or its files are gone.
    """
    about = config["corpus"]
    on_hub = is_on_hub(str(about["source"]))
    source = about["source"] if on_hub else [path for path, *_ in about["sources"]]
    if not source:
        raise TaskError(
            f"run {config.get('run_id')} was made from a frame in memory, which lies nowhere.\n"
            "  Run it again from Python, with nba.corpus(frame, codebook)."
        )
    named = about["id_column"] if about["id_column"] in about["columns"] and not about["segment"] else None
    return corpus(
        source,
        config["codebook"],
        name=config["task_name"],
        id_column=None if named == ROW else named,
        segment=about["segment"],
        duplicates=about["duplicates"],
        revision=about["revision"] if on_hub else None,
        compress=about.get("compress", True),
        outside_labels=about.get("outside_labels", "error"),
    )


def _codebook(given: Codebook | Mapping[str, Any] | str | Path) -> Codebook:
    if isinstance(given, Codebook):
        return given
    return Codebook.load(given) if isinstance(given, str | Path) else Codebook.from_dict(given)


def _made(made: Corpus) -> Corpus:
    """Return the corpus, once its columns are those that it needs."""
    if not len(made):
        raise TaskError(f"{made.source} has no rows.\n  It needs one row per text.")
    if ROW in made.columns and made.id_column is None and made.codebook.id_column is None:
        raise TaskError(
            f"{made.source} has a column '{ROW}', which is what made ids are called.\n"
            f"  Name the column that identifies a text: id_column='{ROW}' or another one."
        )
    taken = {f"{f.column}.{what}" for f in made.codebook for what in ("status", "reason", "probability")}
    taken |= {DUPLICATE_OF, ROW_NUMBER}
    if clash := [name for name in made.columns if name in taken]:
        raise TaskError(
            f"{made.source} has columns that its output.parquet bears: {listed(clash)}.\n"
            "  Rename them, or leave them out."
        )
    return made


def _read(
    source: Any, revision: str | None, needed: Mapping[str, str]
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
    elif not isinstance(source, pl.LazyFrame) and not hasattr(source, "columns"):
        raise TaskError(
            f"a corpus is made from files, a frame or a dataset on the Hub. Got {type(source).__name__}.\n"
            "  For example nba.corpus('speeches/*.parquet', codebook)."
        )
    else:
        lazy = source if isinstance(source, pl.LazyFrame) else as_text(source).lazy()
        return "frame", corpus_files.written_by_content(corpus_files.frames_of(lazy, needed)), [], None
    sources = corpus_files.stamp_of(files)
    if files[0].suffix.lower() not in corpus_files.PARQUET:

        def pieces() -> Iterator[pl.DataFrame]:
            for path in files:
                for piece in corpus_files.pieces_of(path):
                    corpus_files.must_have(path, piece.columns, needed)
                    yield piece

        files = corpus_files.written(pieces(), [sources, list(needed)])
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
            yield pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)).hstack(
                piece.select(kept)[of] if kept else []
            )

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
