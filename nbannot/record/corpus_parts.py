"""What a run on a corpus keeps, block by block: a segment of the ledger, the labels that it holds, and their sums.

A block is finished when its sums are there; until then its segment of the ledger is the truth, as for a task.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.answers import Answer
from nbannot.asking.applies import NOT_REACHED
from nbannot.asking.ledger import Tally, Usage
from nbannot.errors import RunError
from nbannot.record.coding import Coding
from nbannot.record.folder import LABELS, SEGMENTS
from nbannot.study.field import Field
from nbannot.tools.files import read_json, write_json

if TYPE_CHECKING:
    import polars as pl

STEP = math.log(1.01)
"""Seconds of calls are counted in steps of one percent: their percentiles are right to one percent."""


@dataclass
class Sums(Usage):
    """What the calls of some blocks add up to; of each block, and of all of them.

    `open` counts answers that asking again can still bring, `through` says whether the work on a block came to its end.
    """

    asked: int = 0
    seconds: float = 0.0
    unfitting: int = 0
    open: int = 0
    invalid: int = 0
    through: bool = False
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    latency: dict[str, int] = field(default_factory=dict)
    served: list[list[Any]] = field(default_factory=list)
    offsets: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tally: Tally,
        coding: Coding,
        unfitting: int,
        offsets: Mapping[str, Sequence[float]],
        *,
        through: bool,
    ) -> Sums:
        """Return the sums of one block."""
        every = [answer for answers in coding.answers.values() for answer in answers]
        return cls(
            **{one.name: getattr(tally, one.name) for one in fields(Usage)},
            asked=len(coding.task),
            seconds=sum(tally.seconds),
            unfitting=unfitting,
            through=through,
            open=coding.n_open,
            invalid=sum(a.status in ("invalid", "refused", "truncated") for a in every),
            counts={column: coding.count(column) for column in coding.answers},
            latency=dict(Counter(str(math.ceil(math.log(s) / STEP)) if s > 0 else "" for s in tally.seconds)),
            served=[[*who, n] for who, n in tally.served.items()],
            offsets={column: list(offset) for column, offset in offsets.items()},
        )

    def add(self, other: Sums) -> None:
        """Add the sums of another block."""
        for name in ("asked", *SUMMED, "seconds", "unfitting", "open", "invalid"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.add_tokens(vars(other))
        self.reasoned = self.reasoned or other.reasoned
        self.first = min(filter(None, (self.first, other.first)), default="")
        self.last = max(self.last, other.last)
        for column, counts in other.counts.items():
            self.counts[column] = dict(Counter(self.counts.get(column, {})) + Counter(counts))
        self.latency = dict(Counter(self.latency) + Counter(other.latency))
        served = Counter({tuple(who): n for *who, n in self.served})
        served.update({tuple(who): n for *who, n in other.served})
        self.served = [[*who, n] for who, n in served.items()]
        for model, numbers in other.by_model.items():
            own = self.by_model.setdefault(model, dict.fromkeys(numbers, 0))
            for name, value in numbers.items():
                own[name] += value
        self.offsets = {**other.offsets, **self.offsets}

    def percentile(self, p: int) -> float | None:
        """Return the seconds that this percentage of the calls took at most; ``None`` without a call."""
        wanted = min(self.calls - 1, int(p / 100 * self.calls)) + 1
        for step, n in sorted(self.latency.items(), key=lambda item: int(item[0] or -(10**6))):
            wanted -= n
            if wanted <= 0:
                return math.exp(int(step) * STEP) if step else 0.0
        return None


PARQUET_END = b"PAR1"
SUMMED = ("calls", "retries", "input_chars", "output_chars")


class Parts:
    """The blocks of a run on a corpus, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.labels, self.segments = folder, folder / LABELS, folder / SEGMENTS

    def make(self) -> None:
        """Make the folders."""
        for place in (self.labels, self.segments):
            place.mkdir(exist_ok=True)

    def segment(self, block: int) -> Path:
        """Return the segment of the ledger of a block, as it is written."""
        return self.segments / f"{block:06d}.jsonl"

    def stored_segment(self, block: int) -> Path:
        """Return the segment of a block as it lies there, compressed or not."""
        plain = self.segment(block)
        return plain if plain.exists() else _zipped(plain)

    def sums(self) -> dict[int, Sums]:
        """Return the sums of every block that was written down, and whose labels are still there and whole.

        Others are made again from the ledger when the run goes on.
        """
        paths = sorted(self.labels.glob("[0-9]*.json"))
        return {
            int(path.stem): Sums(**read_json(path))
            for path in paths
            if _is_whole(path.with_suffix(".parquet"))
        }

    def write(self, block: int, coding: Coding, rows: Sequence[int], sums: Sums) -> None:
        """Write down the labels of a block, then its sums.

        Raises
        ------
        RunError
            If they cannot be written; the ledger has the answers all the same.
        """
        path = self.labels / f"{block:06d}.parquet"
        scratch = self.labels / f".{block:06d}.{os.getpid()}"
        try:
            labels_of(coding, rows).write_parquet(scratch)
            os.replace(scratch, path)
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error}.\n  Everything before is kept; make room and run the same again."
            ) from None
        write_json(self.labels / f"{block:06d}.json", dict(vars(sums)))

    def reopen(self, block: int) -> None:
        """Take a finished block up again: its segment can be appended to."""
        plain = self.segment(block)
        if not _zipped(plain).exists():
            return
        scratch = plain.with_name(f".{plain.name}.{os.getpid()}")
        try:
            with gzip.open(_zipped(plain), "rb") as packed, scratch.open("wb") as file:
                shutil.copyfileobj(packed, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            scratch.unlink(missing_ok=True)
            if plain.exists():  # a copy that was being made of it
                _zipped(plain).unlink()
                return
            raise RunError(
                f"{_zipped(plain)} is damaged: {error}.\n"
                "  Put it back from a copy. Without one: move it away, and its texts are asked about anew."
            ) from None
        if not plain.exists() or plain.stat().st_size < scratch.stat().st_size:
            os.replace(scratch, plain)
        scratch.unlink(missing_ok=True)
        _zipped(plain).unlink()

    def compress(self, block: int) -> None:
        """Compress the segment of a finished block; whatever happens, one of the two files is whole."""
        plain = self.segment(block)
        scratch = plain.with_name(f".{plain.name}.gz.{os.getpid()}")
        try:
            with plain.open("rb") as file, gzip.open(scratch, "wb", compresslevel=3) as packed:
                shutil.copyfileobj(file, packed, 2**20)
            with scratch.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(scratch, _zipped(plain))
            plain.unlink()
        except OSError:  # it stays as it is, which costs room and nothing else
            with contextlib.suppress(OSError):
                scratch.unlink()

    def sweep(self) -> None:
        """Remove what a process that was killed left half written; call it while the folder is held."""
        for place in (self.labels, self.segments):
            for path in place.glob(".*") if place.is_dir() else ():
                path.unlink(missing_ok=True)

    def stored(self, rows: Sequence[int] | None = None) -> pl.LazyFrame:
        """Return the labels of every block, or of some rows."""
        import polars as pl

        paths = [path for path in sorted(self.labels.glob("[0-9]*.parquet")) if _is_whole(path)]
        if not paths:
            return pl.LazyFrame(schema={"row": pl.Int64})
        held = pl.scan_parquet(paths)
        return (
            held
            if rows is None
            else held.filter(pl.col("row").is_in(pl.Series(rows, dtype=pl.Int64).implode()))
        )

    def block_labels(self, block: int) -> pl.DataFrame | None:
        """Return the labels of one block; ``None`` where it was not reached."""
        import polars as pl

        path = self.labels / f"{block:06d}.parquet"
        return pl.read_parquet(path) if path.exists() else None


def _is_whole(path: Path) -> bool:
    """Return whether a Parquet file is there with its last bytes."""
    try:
        with path.open("rb") as file:
            file.seek(-len(PARQUET_END), os.SEEK_END)
            return file.read() == PARQUET_END
    except OSError:
        return False


def _zipped(plain: Path) -> Path:
    return plain.with_name(plain.name + ".gz")


def labels_of(coding: Coding, rows: Sequence[int]) -> pl.DataFrame:
    """Return the answers of a block: row, and per field its cell, status, reason, attempt, probabilities."""
    import polars as pl

    columns = [pl.Series("row", rows, dtype=pl.Int64)]
    for f in coding.fields:
        answers = coding.answers[f.column]
        columns += [
            pl.Series(
                f.column, [f.to_cell(a.value) if a.status == "ok" else None for a in answers], dtype=pl.String
            ),
            pl.Series(f"{f.column}.status", [a.status for a in answers], dtype=pl.String),
            pl.Series(f"{f.column}.reason", [a.reason for a in answers], dtype=pl.String),
            pl.Series(f"{f.column}.attempt", [a.attempt for a in answers], dtype=pl.Int32),
            pl.Series(
                f"{f.column}.probabilities",
                [None if a.probabilities is None else list(a.probabilities) for a in answers],
                dtype=pl.List(pl.Float64),
            ),
        ]
    return pl.DataFrame(columns)


def answer_in(f: Field, row: Mapping[str, Any]) -> Answer:
    """Return the answer that a row of `labels_of` holds; a row that is blank was not reached."""
    status = row.get(f"{f.column}.status")
    if status is None:
        return Answer(f.column, "not_asked", reason=NOT_REACHED)
    value: Any = None
    if status == "ok":
        cell = row[f.column]
        # What a person wrote would be put right; what this package wrote is taken as it stands.
        value = json.loads(cell) if f.type == "span" else cell if f.type == "textbox" else f.read(str(cell))
    shares = row.get(f"{f.column}.probabilities")
    return Answer(
        f.column,
        status,
        value,
        reason=row.get(f"{f.column}.reason") or "",
        probabilities=tuple(shares) if shares else None,
        attempt=row.get(f"{f.column}.attempt") or 1,
    )
