"""The tables of a corpus: which files they are, and their rows in pieces, never whole.

Parquet is read where it lies. What cannot be read from the middle (CSV, JSONL, a LazyFrame) and documents that are cut
into segments are written once as Parquet, in parts, into the cache; a bad line is found then, before anything is asked.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import TaskError, listed, nearest
from nbannot.study.corpus_index import Digest
from nbannot.study.reading import as_text, csv_pieces, csv_shape
from nbannot.tools.files import cache_folder
from nbannot.tools.imports import load
from nbannot.tools.parquet import as_os_error, scan_parquet, write_parquet
from nbannot.tools.parquet import read_parquet as read_part

if TYPE_CHECKING:
    import polars as pl

PARQUET, CSV, JSONL = (".parquet", ".pq"), (".csv", ".tsv"), (".jsonl", ".ndjson")
KINDS = (*PARQUET, *CSV, *JSONL)
PART_ROWS = 50_000
"""Rows of a part that is written, and of a piece that is read."""
PARTS = "parts.json"
"""The parts that a folder of the cache holds, with their sizes: some that are gone would be texts that are gone."""
OTHER_IDS = " Those that identify a text may be in another one: id_column='…'."
LEFT_AFTER_S = 86_400


def files_of(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files that paths and patterns (``*``, ``**``) name, sorted by name; a folder names its own.

    Raises
    ------
    TaskError
        If there are none, or they are not all of one kind.
    """
    named = [source] if isinstance(source, str | Path) else list(source)
    found: list[Path] = []
    for one in map(str, named):
        place = Path(one).expanduser()
        if place.is_dir():
            matches = [str(p) for p in place.rglob("*") if p.suffix.lower() in KINDS and _is_of(place, p)]
        else:
            matches = [str(place)] if place.is_file() else glob.glob(_pattern(place), recursive=True)
        files = sorted(Path(p).resolve() for p in matches if Path(p).is_file())
        if not files:
            raise TaskError(
                f"no file {one}.\n  A corpus is Parquet, CSV or JSONL: nba.corpus('speeches/*.parquet', codebook)."
            )
        found += [path for path in files if path not in found]
    if not named:
        raise TaskError("no file was named.\n  For example nba.corpus('speeches/*.parquet', codebook).")
    kinds = {_kind(path) for path in found}
    if len(kinds) != 1 or "" in kinds:
        raise TaskError(
            f"the files of a corpus are all Parquet, all CSV or all JSONL. Got {listed((p.name for p in found), 4)}.\n"
            f"  Their names end in {listed(KINDS)}: name those that belong together, e.g. 'speeches/*.parquet'."
        )
    return found


def _is_of(folder: Path, path: Path) -> bool:
    """Return whether a file below a folder is of its corpus: not hidden, and no file or table of a run."""
    below = path.relative_to(folder)
    if any(part.startswith(".") for part in below.parts) or "_metrics_log" in path.name:
        return False
    ledgers = [
        folder / parent / name for parent in below.parents for name in ("responses", "responses.jsonl")
    ]
    return not any(ledger.exists() and ledger.with_name("config.json").exists() for ledger in ledgers)


def _pattern(place: Path) -> str:
    """Return the pattern that a path stands for; folders that are there by these very names are no patterns."""
    named = next((folder for folder in place.parents if folder.is_dir()), Path())
    return str(Path(glob.escape(str(named))) / place.relative_to(named))


def _kind(path: Path) -> str:
    ending = path.suffix.lower()
    return next((kinds[0] for kinds in (PARQUET, CSV, JSONL) if ending in kinds), "")


def stamp_of(files: Sequence[Path]) -> list[list[Any]]:
    """Return what changes when one of the files does: name, size and time of the last change."""
    try:
        return [[str(p), (about := p.stat()).st_size, about.st_mtime_ns] for p in files]
    except OSError as error:
        raise TaskError(f"{error.filename} cannot be read: {error.strerror}.") from None


def columns_of(files: Sequence[Path], needed: Mapping[str, str]) -> list[str]:
    """Return the columns of Parquet files; what one of them does not have is blank there.

    Parameters
    ----------
    needed
        Columns that every file must have; see `must_have`.

    Raises
    ------
    TaskError
        If a file is no Parquet, or lacks a column that it must have.
    """
    names: dict[str, None] = {}
    for path in files:
        try:
            with as_os_error(path):
                own = scan_parquet(path).collect_schema().names()
        except OSError as error:
            raise _unreadable(path, error) from None
        must_have(path, own, needed)
        names |= dict.fromkeys(own)
    return list(names)


def must_have(path: Path | str, columns: Sequence[str], needed: Mapping[str, str]) -> None:
    """Raise if a file of a corpus lacks a column that the text or the ids are in.

    Parameters
    ----------
    needed
        Each such column, and which setting names it.
    """
    for column, what in needed.items():
        if column not in columns:
            raise TaskError(
                f"{path} has no column '{column}' ({what}){nearest(column, columns) or '.'}\n"
                f"  Its columns: {listed(columns, 12)}.{OTHER_IDS if what.endswith('id_column') else ''}"
            )


def _unreadable(path: Path, error: OSError) -> TaskError:
    return TaskError(
        f"{path} cannot be read: {error.strerror}.\n"
        "  It is damaged, or not what its name says: write it again, or leave it out."
    )


def _unwritable(place: Path, error: OSError) -> TaskError:
    return TaskError(
        f"cannot write {place}: {error.strerror}.\n  Make room, or set NBANNOT_CACHE to another folder."
    )


def rows_in(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    import polars as pl

    try:
        with as_os_error(path):
            return int(scan_parquet(path).select(pl.len()).collect().item())
    except OSError as error:
        raise _unreadable(path, error) from None


def read_parquet(
    files: Sequence[Path], heights: Sequence[int], columns: Sequence[str], start: int = 0
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield pieces of the corpus from a row on, as text, with the number of their first row (from 0).

    Raises
    ------
    TaskError
        If a file cannot be read, or has other rows than it had.
    """
    first = 0
    for path, height in zip(files, heights, strict=True):
        skipped = max(0, start - first)
        if skipped < height:
            row = first + skipped
            try:
                for piece in _pieces_of_parquet(path, skipped, columns):
                    yield row, _as_text(piece, path, row - first)
                    row += piece.height
            except OSError as error:
                raise _unreadable(path, error) from None
            if row != first + height:
                raise changed(path)
        first += height


def _pieces_of_parquet(path: Path, skipped: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    import polars as pl

    with as_os_error(path):
        file = scan_parquet(path)
        there = set(file.collect_schema())
        cells = [pl.col(name) if name in there else pl.lit("").alias(name) for name in columns]
        rows = file.slice(skipped).select(cells)
        yield from rows.collect_batches(chunk_size=PART_ROWS, maintain_order=True)


def changed(path: Path) -> TaskError:
    """Return the error of a file that is not what it was."""
    return TaskError(
        f"{path} changed while the run was at work.\n"
        "  Every finished answer is kept. Put the file back to go on, or make the corpus anew as it is now."
    )


def _as_text(piece: pl.DataFrame, path: Path, row: int) -> pl.DataFrame:
    try:
        return as_text(piece)
    except TaskError as error:
        raise TaskError(f"{path}, from row {row + 1} on: {error}") from None


def pieces_of(path: Path) -> Iterator[pl.DataFrame]:
    """Yield a CSV or JSONL file in pieces, as text.

    Raises
    ------
    TaskError
        If a line is not what it should be; it names the file and the line.
    """
    load("polars")
    try:
        if _kind(path) == CSV[0]:
            yield from csv_pieces(path, csv_shape(path, "utf-8-sig", None))
        else:
            yield from _json_lines(path)
    except UnicodeError:
        raise TaskError(
            f"{path} is not UTF-8.\n  Save it as UTF-8; a corpus is read in no other encoding."
        ) from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.") from None


def _json_lines(path: Path) -> Iterator[pl.DataFrame]:
    import polars as pl

    names: list[str] = []
    rows: list[dict[str, Any]] = []

    def frame() -> pl.DataFrame:
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in names:
                names.append(name)
        cells = {name: pl.Series(name, [row.get(name) for row in rows], dtype=pl.Object) for name in names}
        return _as_text(pl.DataFrame(list(cells.values())), path, 0)

    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TaskError(
                    f"{path}, line {number} is not JSON: {error}.\n  JSONL has one object per line."
                ) from None
            if not isinstance(row, dict):
                raise TaskError(
                    f"{path}, line {number} is no JSON object but {type(row).__name__}.\n"
                    '  JSONL has one object per line: {"text": "…"}.'
                )
            rows.append({str(name): value for name, value in row.items()})
            if len(rows) == PART_ROWS:
                yield frame()
                rows = []
    if rows:
        yield frame()


def frames_of(lazy: pl.LazyFrame, needed: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """Yield a LazyFrame in pieces, as text, in its order; it must have some columns, see `must_have`."""
    import polars as pl

    try:
        must_have("the frame", lazy.collect_schema().names(), needed)
        for piece in lazy.collect_batches(chunk_size=PART_ROWS, maintain_order=True):
            yield as_text(piece)
    except pl.exceptions.PolarsError as error:
        raise TaskError(f"the LazyFrame cannot be collected: {str(error).splitlines()[0]}") from None


def written(pieces: Iterator[pl.DataFrame], of: Any) -> list[Path]:
    """Return the parts in the cache that hold these pieces; written whole or not at all, and once.

    Parameters
    ----------
    of
        What the pieces are made from, as JSON data: the same gives the same parts.
    """
    key = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:24]
    place = cache_folder() / "corpora" / key
    if parts := _parts_of(place):
        return parts
    _sweep(place.parent)
    scratch = place.with_name(f".{key}.{os.urandom(4).hex()}")
    try:
        sizes = {path.name: path.stat().st_size for path in _write(pieces, scratch)}
        (scratch / PARTS).write_text(json.dumps(sizes), encoding="utf-8")
        if place.is_dir() and not _parts_of(place):  # who tidies up caches took parts away
            place.rename(place.with_name(f"{scratch.name}.old"))
        try:
            scratch.rename(place)
        except OSError:
            if not _parts_of(place):  # else another process was faster
                raise
    except OSError as error:
        raise _unwritable(place, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(place.with_name(f"{scratch.name}.old"), ignore_errors=True)
    return _parts_of(place)


def _parts_of(place: Path) -> list[Path]:
    """Return the parts in a folder of the cache; none where they are not all there, as long as they were written."""
    try:
        sizes = json.loads((place / PARTS).read_text(encoding="utf-8"))
        paths = [place / name for name in sorted(sizes)]
        return paths if all(path.stat().st_size == sizes[path.name] for path in paths) else []
    except (OSError, ValueError):
        return []


def _sweep(cache: Path) -> None:
    """Remove what processes that were killed left half written, a day later."""
    for left in cache.glob(".*"):
        with contextlib.suppress(OSError):
            if max(path.stat().st_mtime for path in (left, *left.iterdir())) < time.time() - LEFT_AFTER_S:
                shutil.rmtree(left)


def _write(pieces: Iterator[pl.DataFrame], folder: Path) -> list[Path]:
    """Write pieces as parts of `PART_ROWS` rows or less; a column that only later pieces have is blank before."""
    load("polars")
    import polars as pl

    folder.mkdir(parents=True)
    parts: list[Path] = []
    names: list[str] = []
    widths: list[int] = []
    for piece in pieces:
        names += [name for name in piece.columns if name not in names]
        whole = piece.with_columns(pl.lit("").alias(n) for n in names if n not in piece.columns).select(names)
        for part in whole.iter_slices(PART_ROWS):
            parts.append(folder / f"{len(parts):06d}.parquet")
            widths.append(len(names))
            write_parquet(part, parts[-1])
    for path, width in zip(parts, widths, strict=True):
        if width < len(names):
            part = read_part(path)
            lacking = [pl.lit("").alias(n) for n in names if n not in part.columns]
            write_parquet(part.with_columns(lacking).select(names), path)
    return parts


def written_by_content(pieces: Iterator[pl.DataFrame]) -> list[Path]:
    """Return the parts in the cache that hold these pieces, where nothing but their content identifies them."""
    scratch = cache_folder() / "corpora" / f".frame.{os.urandom(4).hex()}"
    digests: dict[str, Digest] = {}

    def read() -> Iterator[pl.DataFrame]:
        for piece in pieces:
            for name in piece.columns:
                digests.setdefault(name, Digest()).add(piece[name])
            yield piece

    try:
        held = map(read_part, _write(read(), scratch))
        return written(held, ["frame", {name: digest.hex() for name, digest in digests.items()}])
    except OSError as error:
        raise _unwritable(scratch, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
