"""What a run on a corpus keeps, block by block: a segment of the ledger, the labels that it holds, and their sums.

A block is finished when its sums are there; until then its segment of the ledger is the truth, as for a task.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
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
from nbannot.tools.files import read_json, sha256_while_unchanged, write_json
from nbannot.tools.parquet import read_parquet, scan_parquet, write_parquet

if TYPE_CHECKING:
    import polars as pl

STEP = math.log(1.01)
"""Seconds of calls are counted in steps of one percent: their percentiles are right to one percent."""


@dataclass
class Sums(Usage):
    """What the calls of some blocks add up to; of each block, and of all of them.

    `open` counts answers that asking again can still bring, `through` says whether the work on a block came to its end,
    `labels` is the SHA-256 of the file with the labels of a block, `ledger_bytes` the size of its segment, unpacked.
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
    by_server: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, list[float]] = field(default_factory=dict)
    labels: str = ""
    ledger_bytes: int = 0

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
            by_server=dict(tally.by_server),
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
        for server, n in other.by_server.items():
            self.by_server[server] = self.by_server.get(server, 0) + n
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
SUMMED = ("calls", "retries", "input_chars", "output_chars", "untold", "unbilled")


class Parts:
    """The blocks of a run on a corpus, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.labels, self.segments = folder, folder / LABELS, folder / SEGMENTS

    def make(self) -> None:
        """Make the folders.

        Raises
        ------
        RunError
            If they cannot be made.
        """
        try:
            for place in (self.labels, self.segments):
                place.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make {error.filename}: {error.strerror}.\n  Make room, or choose another output_root."
            ) from None

    def segment(self, block: int) -> Path:
        """Return the segment of the ledger of a block, as it is written."""
        return self.segments / f"{block:06d}.jsonl"

    def stored_segment(self, block: int) -> Path:
        """Return the segment of a block as it lies there, compressed or not."""
        plain = self.segment(block)
        return plain if plain.exists() else _zipped(plain)

    def sums(self) -> dict[int, Sums]:
        """Return the sums of every block that was written down, and whose labels are still there as they were written.

        Others are made again from the ledger when the run goes on.
        """
        known = {}
        for path in sorted(self.labels.glob("[0-9]*.json")):
            try:
                kept = read_json(path)
                sums = Sums(**kept)
            except (RunError, TypeError):  # damaged: as if it were not there
                continue
            if kept and _is_whole(path.with_suffix(".parquet"), sums.labels):
                known[int(path.stem)] = sums
        return known

    def write(self, block: int, coding: Coding, rows: Sequence[int], sums: Sums) -> None:
        """Write down the labels of a block, then its sums.

        Raises
        ------
        RunError
            If they cannot be written; the ledger has the answers all the same.
        """
        path = self.labels / f"{block:06d}.parquet"
        try:
            write_parquet(labels_of(coding, rows), path)
            sums.labels = sha256_while_unchanged(path)
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error.strerror}.\n  Every answer is kept; make room and run the same again."
            ) from None
        write_json(self.labels / f"{block:06d}.json", dict(vars(sums)))

    def digest(self) -> str:
        """Return what identifies the labels of all blocks, as they are now."""
        labels = sorted((block, sums.labels) for block, sums in self.sums().items())
        return hashlib.sha256(json.dumps(labels).encode()).hexdigest()

    def goes_on(self, block: int, sums: Sums) -> bool:
        """Return whether a segment was added to after its block was written down: a session was killed meanwhile."""
        plain = self.segment(block)
        return bool(sums.ledger_bytes) and plain.exists() and plain.stat().st_size > sums.ledger_bytes

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
        """Return the labels of every block that `sums` knows, or of some rows."""
        import polars as pl

        paths = [self.labels / f"{block:06d}.parquet" for block in self.sums()]
        if not paths:
            return pl.LazyFrame(schema={"row": pl.Int64})
        held = scan_parquet(paths)
        return (
            held
            if rows is None
            else held.filter(pl.col("row").is_in(pl.Series(rows, dtype=pl.Int64).implode()))
        )

    def block_labels(self, block: int) -> pl.DataFrame | None:
        """Return the labels of one block; ``None`` where it was not reached.

        Raises
        ------
        OSError
            If they cannot be read.
        """
        path = self.labels / f"{block:06d}.parquet"
        return read_parquet(path) if path.exists() else None


def _is_whole(path: Path, digest: str) -> bool:
    """Return whether a Parquet file is there as it was written; without a digest, with its last bytes."""
    try:
        if digest:
            return sha256_while_unchanged(path) == digest
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
