"""What one pass over a corpus finds: how much there is, what identifies it, which texts are there more than once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import RunError, listed
from nbannot.study.corpus_rows import ROW_NUMBER
from nbannot.tools.files import cache_folder, read_json, sha256_of, write_json
from nbannot.tools.imports import load
from nbannot.tools.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

VERSION = 4
CODES = 8
"""Codes are tried in one pass over all texts: that each of eight stands in some text does not happen by chance."""
CODED_BY = 1000
"""The code of the marks follows from so many texts, whatever pieces they come in."""
CODE_LENGTH = 6
LENGTH_STEP = 1.05
"""Lengths of texts are counted in steps of five percent."""
FRAMES = ("repeated", "gold")


@dataclass(frozen=True)
class Index:
    """One pass over a corpus.

    Attributes
    ----------
    n
        Number of texts.
    digests
        column -> SHA-256 (hex) of its cells, in order.
    chars, bytes
        Of everything that is sent, over all texts that are not blank.
    longest
        Bytes of what is sent of the longest text, at most.
    lengths
        How many texts are how long: n -> texts with more than 1.05 ** (n - 1) and at most 1.05 ** n characters.
    blank
        Number of blank texts.
    gold
        The texts that people coded in at least one field, whole, with their row number (from 0, `ROW_NUMBER`).
    id_column
        The column that identifies the texts; "" where their row number does.
    code
        The code of the marks that fence the texts; it stands in none of them.
    repeated
        Columns ``row`` and ``first`` (from 0): every text that is the same as another one, with the first of them, the
        first itself included. Blank ones are not in it.
    """

    n: int
    digests: dict[str, str]
    chars: int
    bytes: int
    longest: int
    lengths: dict[str, int]
    blank: int
    id_column: str
    repeated_ids: dict[str, list[str]]
    code: str
    repeated: pl.DataFrame
    gold: pl.DataFrame

    def longer_than(self, chars: float) -> int:
        """Return how many texts are longer than so many characters, to five percent."""
        return sum(n for step, n in self.lengths.items() if LENGTH_STEP ** int(step) > chars)


class Digest:
    """SHA-256 of a column of texts: the same in whatever pieces it comes."""

    def __init__(self) -> None:
        self.lengths, self.content = hashlib.sha256(), hashlib.sha256()

    def add(self, cells: pl.Series) -> None:
        import polars as pl

        self.lengths.update(cells.str.len_bytes().cast(pl.UInt32).to_numpy().astype("<u4").tobytes())
        self.content.update(cells.str.join("").item().encode("utf-8"))

    def hex(self) -> str:
        return hashlib.sha256(self.lengths.digest() + self.content.digest()).hexdigest()


class _Hashes:
    """Two hashes of every value that was seen: 128 bits, so that two that differ are not taken for one."""

    def __init__(self) -> None:
        self.pieces: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []

    def add(self, values: pl.Series) -> None:
        self.pieces.append((values.hash(11).to_numpy(), values.hash(51).to_numpy()))

    def repeated(self, left_out: Iterable[int] = ()) -> pl.DataFrame:
        """Return row and first row of every value that is there more than once."""
        import numpy as np
        import polars as pl

        if not self.pieces:
            return pl.DataFrame(schema={"row": pl.Int64, "first": pl.Int64})
        one = np.concatenate([piece[0] for piece in self.pieces])
        other = np.concatenate([piece[1] for piece in self.pieces])
        self.pieces.clear()
        # Few texts are there twice: sorting one hash alone finds those that may be, without a table of all of them.
        ordered = np.sort(one)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        at = np.searchsorted(twice, one)
        at[at == len(twice)] = 0
        rows = np.flatnonzero(twice[at] == one) if len(twice) else np.array([], dtype=np.int64)
        del at
        found = pl.DataFrame({"row": rows.astype(np.int64), "a": one[rows], "b": other[rows]})
        out = pl.Series(list(left_out), dtype=pl.Int64)
        found = found.filter(~pl.col("row").is_in(out.implode())) if len(out) else found
        found = found.with_columns(
            pl.col("row").min().over("a", "b").alias("first"), pl.len().over("a", "b").alias("n")
        )
        return found.filter(pl.col("n") > 1).select("row", "first").sort("row")


def indexed(
    pieces: Iterator[tuple[int, pl.DataFrame]],
    of: Any,
    *,
    text: str,
    sent: Sequence[str],
    hashed: Sequence[str],
    labels: Sequence[str],
    candidates: Sequence[str],
) -> Index:
    """Return the index of a corpus, from the cache where the files are as they were.

    Parameters
    ----------
    of
        What the corpus is made from (files, sizes, times), as JSON data.
    sent
        Columns that are sent with the text; texts are the same where these are, too.
    candidates
        Columns that may identify the texts, the best first: the first one that is unique and nowhere blank does.
    """
    parts = [VERSION, of, text, list(sent), list(hashed), list(labels), list(candidates)]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    place = cache_folder() / "corpora" / f"{key}.index"
    if (kept := _kept(place)) is not None:
        return kept
    index = _indexed(pieces, text, sent, hashed, labels, candidates)
    about = {name: getattr(index, name) for name in Index.__dataclass_fields__ if name not in FRAMES}
    with contextlib.suppress(OSError, RunError):  # what cannot be kept is found again by the next session
        place.mkdir(parents=True, exist_ok=True)
        for name in FRAMES:
            write_parquet(getattr(index, name), place / f"{name}.parquet")
        about["sha256"] = _seal(about, place)
        write_json(place / "index.json", about)  # last: with it the index is there
    return index


def _kept(place: Path) -> Index | None:
    """Return the index that an earlier session kept; ``None`` where it is not there, or not as it was written."""
    try:
        about = read_json(place / "index.json")
        if about.pop("sha256", None) != _seal(about, place):
            return None
        return Index(**about | {name: read_parquet(place / f"{name}.parquet") for name in FRAMES})
    except (OSError, RunError, TypeError):
        return None


def _seal(about: dict[str, Any], place: Path) -> str:
    """Return what identifies an index as it is kept: a damaged one would give texts the labels of others."""
    content = [about, *(sha256_of(place / f"{name}.parquet") for name in FRAMES)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _indexed(
    pieces: Iterator[tuple[int, pl.DataFrame]],
    text: str,
    sent: Sequence[str],
    hashed: Sequence[str],
    labels: Sequence[str],
    candidates: Sequence[str],
) -> Index:
    load("polars")
    import polars as pl

    digests = {name: Digest() for name in hashed}
    lengths_in_steps: Counter[str] = Counter()
    texts, ids = _Hashes(), {name: _Hashes() for name in candidates}
    blank_ids: dict[str, int] = {}
    blank_rows: list[int] = []
    n = chars = size = longest = 0
    gold: list[pl.DataFrame] = []
    used: set[str] = set()
    first: list[tuple[int, pl.DataFrame]] = []
    while sum(piece.height for _, piece in first) < CODED_BY and (one := next(pieces, None)):
        first.append(one)
    codes = _codes(
        pl.concat([piece[text] for _, piece in first]).head(CODED_BY) if first else pl.Series([""])
    )
    for row, piece in chain(first, pieces):
        n = row + piece.height
        for name, digest in digests.items():
            digest.add(piece[name])
        whole = piece.select(
            pl.concat_str([text, *sent], separator="\x1f") if sent else pl.col(text)
        ).to_series()
        texts.add(whole)
        for name, hashes in ids.items():
            hashes.add(piece[name])
            blank_ids[name] = blank_ids.get(name, 0) + int((piece[name].str.strip_chars() == "").sum())
        blank = piece.select(pl.col(text).str.strip_chars() == "").to_series()
        if blank.any():
            blank_rows += (blank.arg_true() + row).to_list()
        extra = sum(len(name) + 5 for name in sent)  # "[name: value]" and the end of its line
        long = whole.str.len_chars() + extra
        chars += int(long.sum())
        steps = long.filter(~blank & (long > 0)).log(LENGTH_STEP).ceil().cast(pl.Int64).value_counts()
        lengths_in_steps.update({str(step): n for step, n in steps.iter_rows()})
        lengths = whole.str.len_bytes()
        size += int(lengths.sum()) + 4 * extra * piece.height
        longest = max(longest, int(lengths.max() or 0) + 4 * extra)  # type: ignore[arg-type]
        if labels or not gold:
            coded = (
                pl.any_horizontal(pl.col(list(labels)).str.strip_chars() != "") if labels else pl.lit(False)
            )
            found = piece.with_row_index(ROW_NUMBER, row).filter(coded).cast({ROW_NUMBER: pl.Int64})
            gold += [found] if found.height or not gold else []
        if whole.str.contains_any(codes, ascii_case_insensitive=True).any():
            used.update(
                code for code in codes if whole.str.to_lowercase().str.contains(code, literal=True).any()
            )
    repeated_ids = {name: _faults(hashes, blank_ids[name]) for name, hashes in ids.items()}
    return Index(
        n=n,
        digests={name: digest.hex() for name, digest in digests.items()},
        chars=chars,
        bytes=size,
        longest=longest,
        lengths=dict(lengths_in_steps),
        blank=len(blank_rows),
        id_column=next((name for name in candidates if not repeated_ids[name]), ""),
        repeated_ids={name: faults for name, faults in repeated_ids.items() if faults},
        code=next((code for code in codes if code not in used), ""),
        repeated=texts.repeated(blank_rows),
        gold=pl.concat(gold) if gold else pl.DataFrame(schema={ROW_NUMBER: pl.Int64}),
    )


def _codes(texts: pl.Series) -> list[str]:
    """Return codes for the marks that fence texts; they follow from the first texts, as nobody can know beforehand."""
    digest = Digest()
    digest.add(texts)
    start = digest.hex()
    return [hashlib.sha256(f"{start}{i}".encode()).hexdigest()[:CODE_LENGTH] for i in range(CODES)]


def _faults(hashes: _Hashes, blank: int) -> list[str]:
    """Return what is wrong with ids, with the rows (from 1) of the first ones that are there twice."""
    repeated = hashes.repeated()
    faults = [f"{blank:,} blank"] if blank else []
    later = repeated.height - repeated["first"].n_unique()
    if later:
        first = repeated["first"][0]
        rows = repeated.filter(repeated["first"] == first)["row"].head(4) + 1
        faults.append(f"{later:,} that are there before (rows {listed(rows.to_list(), 3)}, for one)")
    return faults
