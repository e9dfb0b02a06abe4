"""``output.parquet``: every text of a corpus with its labels, written in a stream."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import RunError
from nbannot.record import folder
from nbannot.record.corpus_parts import Parts
from nbannot.study.corpus import DUPLICATE_OF, Corpus
from nbannot.study.corpus_rows import ROW_NUMBER, Chosen
from nbannot.study.field import Field
from nbannot.tools.files import sha256_while_unchanged
from nbannot.tools.parquet import as_os_error, scan_parquet, write_parquet

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def blocks_of(
    corpus: Corpus, chosen: Chosen, size: int, start: int = 0
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the chosen texts in blocks, from one on: its number, and its rows with ``row``, their numbers from 0."""
    import polars as pl

    if start * size >= chosen.n:
        return
    waiting: list[pl.DataFrame] = []
    block, height = start, 0
    for row, piece in corpus.pieces(chosen.number(start * size)):
        numbered = _numbered(piece, row, chosen, start * size)
        while height + numbered.height >= size:
            head = numbered.head(size - height)
            yield block, pl.concat([*waiting, head])
            block, waiting, numbered, height = block + 1, [], numbered.tail(numbered.height - head.height), 0
        if numbered.height:
            waiting.append(numbered)
            height += numbered.height
        if block * size + height >= chosen.n:
            break
    if waiting:
        yield block, pl.concat(waiting)


def _numbered(piece: pl.DataFrame, row: int, chosen: Chosen, skipped: int) -> pl.DataFrame:
    """Return the chosen rows of a piece with their numbers."""
    import polars as pl

    if chosen.rows is None:
        return piece.head(max(0, chosen.n - row)).with_columns(
            pl.int_range(row, row + pl.len(), dtype=pl.Int64).alias(ROW_NUMBER)
        )
    rows = chosen.rows[skipped:]
    begin, end = rows.searchsorted([row, row + piece.height])
    numbers = rows[begin:end]
    held: pl.DataFrame = piece[(numbers - row).tolist()]
    return held.with_columns(pl.Series(ROW_NUMBER, numbers, dtype=pl.Int64))


def again_in(chosen: Chosen, block: pl.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the rows of a block whose text stands before them, and where it stands first."""
    numbers = block[ROW_NUMBER]
    begin, end = chosen.again.searchsorted([numbers[0], numbers[-1] + 1])
    return chosen.again[begin:end], chosen.first[begin:end]


@dataclass(frozen=True)
class Written:
    """What ``config.json`` keeps of an ``output.parquet``, so that another file in its place is noticed.

    Attributes
    ----------
    bytes, sha256
        Of the file, as it was written.
    labels
        What identifies the labels of the blocks that it was made from; see `Parts.digest`.
    """

    bytes: int
    sha256: str
    labels: str

    @classmethod
    def of(cls, place: Path, parts: Parts) -> Written:
        """Return what is to be kept of the file that was just written."""
        return cls(place.stat().st_size, sha256_while_unchanged(place), parts.digest())


def output_fault(place: Path, kept: Mapping[str, Any] | None, *, whole: bool = False) -> str:
    """Return what is wrong with ``output.parquet``; "" if it is what was written.

    Parameters
    ----------
    kept
        What ``config.json`` says of it; ``None`` in runs that say nothing yet.
    whole
        Read all of it, not its length and its end alone.
    """
    if place.is_dir():
        return "it is a folder"
    try:
        with as_os_error(place):
            scan_parquet(place).collect_schema()
        if kept and place.stat().st_size != kept["bytes"]:
            return f"it has {place.stat().st_size:,} bytes and was written with {kept['bytes']:,}"
        if kept and whole and sha256_while_unchanged(place) != kept["sha256"]:
            return "its content is not what was written"
    except OSError as error:
        return str(error.strerror)
    return ""


def write_output(
    corpus: Corpus, chosen: Chosen, size: int, parts: Parts, fields: list[Field]
) -> tuple[dict[str, Any], Written | None]:
    """Write ``output.parquet`` as far as the run has got.

    Returns
    -------
    dict, Written
        Column -> status -> number of texts, and what is to be kept of the file; ``None`` where no block was reached.

    Raises
    ------
    RunError
        If it cannot be written; an old one is untouched.
    """
    place = parts.folder / folder.OUTPUT_TABLE
    scratch = place.with_name(f".{place.name}.{os.urandom(4).hex()}")
    counts: dict[str, dict[str, int]] = {f.column: {} for f in fields}
    try:
        scratch.mkdir()
        pieces = []
        for number, piece in enumerate(_pieces(corpus, chosen, size, parts, fields)):
            for f in fields:
                for status, n in piece[f"{f.column}.status"].value_counts().iter_rows():
                    counts[f.column][status] = counts[f.column].get(status, 0) + n
            pieces.append(scratch / f"{number:06d}.parquet")
            write_parquet(piece, pieces[-1])
        if pieces:
            write_parquet(scan_parquet(pieces), place)
        written = Written.of(place, parts) if pieces else None
    except OSError as error:
        raise RunError(
            f"cannot write {place}: {error.strerror}.\n  Every answer is kept; make room and run the same again."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return counts, written


def _pieces(
    corpus: Corpus, chosen: Chosen, size: int, parts: Parts, fields: list[Field]
) -> Iterator[pl.DataFrame]:
    """Yield the rows of every block that was reached, with labels; duplicates have those of the first of them."""
    import polars as pl

    wanted = pl.Series(chosen.first, dtype=pl.Int64).unique()
    kept: list[pl.DataFrame] = []  # the answers that later texts have, too
    there = parts.sums()
    last = max(there, default=-1)
    for number, block in blocks_of(corpus, chosen, size):
        again, first = again_in(chosen, block)
        if number > last and len(again) < block.height:
            return  # not reached; a block of which nothing is asked has its labels from those before
        own = parts.block_labels(number) if number in there else None
        if own is None and not kept:
            return
        own = kept[0].clear().drop(DUPLICATE_OF) if own is None else own
        with_id = corpus.with_ids(block.drop(ROW_NUMBER), block[ROW_NUMBER])
        own = own.join(
            pl.DataFrame({"row": block[ROW_NUMBER], DUPLICATE_OF: with_id[corpus.id_source]}),
            on="row",
            how="left",
        )
        needed = own.filter(pl.col("row").is_in(wanted.implode()))
        if needed.height:
            kept.append(needed)
        known = pl.concat([own, *kept[:-1]] if needed.height else [own, *kept])
        firsts = pl.DataFrame({ROW_NUMBER: again, "by": first}, schema={ROW_NUMBER: pl.Int64, "by": pl.Int64})
        rows = block.select(ROW_NUMBER).join(firsts, on=ROW_NUMBER, how="left", maintain_order="left")
        rows = rows.with_columns(pl.col("by").fill_null(pl.col(ROW_NUMBER)).alias("row"))
        labelled = rows.join(known, on="row", how="left", maintain_order="left")
        yield _laid_out(
            corpus,
            with_id,
            labelled.with_columns(pl.when(pl.col("by").is_not_null()).then(DUPLICATE_OF)),
            fields,
        )


def _laid_out(corpus: Corpus, texts: pl.DataFrame, labels: pl.DataFrame, fields: list[Field]) -> pl.DataFrame:
    """Return input columns, a column per field of the codebook, then per field that was asked what there is to know."""
    import polars as pl

    asked = {f.column for f in fields}
    columns = [texts[name] for name in texts.columns if name not in corpus.label_columns]
    for f in corpus.codebook:
        kind = pl.Int64 if f.type in ("checkbox", "likert") else pl.String
        cells = labels[f.column] if f.column in asked else pl.Series([None] * texts.height, dtype=pl.String)
        columns.append(cells.cast(kind).alias(f.column))
    for f in fields:
        columns += [labels[f"{f.column}.status"].fill_null("not_asked"), labels[f"{f.column}.reason"]]
        columns.append(_probability(f, labels).alias(f"{f.column}.probability"))
    return pl.DataFrame([*columns, labels[DUPLICATE_OF]])


def _probability(f: Field, labels: pl.DataFrame) -> pl.Series:
    """Return the probability of the label that was given; null where no model told it."""
    import polars as pl

    places = {f.to_cell(label): i for i, label in enumerate(f.labels or ())}
    shares, cells = labels[f"{f.column}.probabilities"], labels[f.column]
    if not places or shares.null_count() == len(shares):
        return pl.Series([None] * labels.height, dtype=pl.Float64)
    given = [
        None if of is None or cell not in places else of[places[cell]]
        for of, cell in zip(shares, cells, strict=True)
    ]
    return pl.Series(given, dtype=pl.Float64)
