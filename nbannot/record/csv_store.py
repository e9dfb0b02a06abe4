"""The store of the tidy tables: rows of whole runs are replaced, from any number of processes at once.

How a write stays whole: one lock per task (``.<task>_metrics_log.lock``) orders the writers. What is about to be
written is first noted in ``.<task>_metrics_log.journal``; a writer that dies half-way leaves the note, and
whoever comes next finishes that write before its own. A run is therefore in the tables whole or not at all. A
last line without its line end that no note explains (another program died) is cut: half a number is a wrong one.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from nbannot.errors import TableError
from nbannot.record.cells import Row, csv_record, lines_of
from nbannot.record.columns import TABLES, Table, table_path
from nbannot.record.csv_file import (
    WINDOW,
    decoded,
    first_record,
    header_columns,
    is_record,
    records,
    whole_part,
)

SEARCHED_ONE_BY_ONE = 8
"""Up to so many run ids are looked for one by one; more are found in one pass over the table."""

LOCK_TIMEOUT_S = 300.0
READ_LOCK_TIMEOUT_S = 10.0


def upsert(
    metrics_dir: str | Path,
    task_name: str,
    *,
    long: Iterable[Row] | None,
    runs: Iterable[Row] | None,
    classes: Iterable[Row] | None,
) -> None:
    """Put the rows of one or more runs into a task's tables, in place of all rows these runs had.

    Any number of processes and threads may do so at once. Rows of other runs keep their bytes, unless the
    table has an older header: then it is brought up to date (missing columns blank, unknown ones kept at the end).

    Parameters
    ----------
    long, runs, classes
        Rows as column name -> value; a column left out is blank. A run named in one of the three loses its
        old rows in all three. ``None`` leaves that table as it is.

    Raises
    ------
    TableError
        If a row does not fit its table, a file is not such a table, or nothing can be written there (no
        right, no space). Every table is then whole, with the old rows.
    """
    given = {"runs": runs, "long": long, "classes": classes}
    lines: dict[str, list[str]] = {}
    ids: set[str] = set()
    for kind, rows in given.items():
        if rows is not None:
            lines[kind], named = lines_of(kind, list(rows))
            ids |= named
    if not ids:
        return
    paths = {kind: table_path(metrics_dir, task_name, kind) for kind in TABLES}
    folder = Path(metrics_dir)
    journal = _hidden(folder, task_name, "journal")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, task_name, LOCK_TIMEOUT_S):
            _finish(paths, journal)
            steps = _planned(paths, lines, ids)
            _carry_out(paths, journal, steps)
    except OSError as error:
        raise _cannot_write(error, task_name, folder) from error


def _hidden(folder: Path, task_name: str, what: str) -> Path:
    return folder / f".{task_name}_metrics_log.{what}"


@contextmanager
def _locked(folder: Path, task_name: str, timeout_s: float) -> Iterator[None]:
    lock = FileLock(_hidden(folder, task_name, "lock"), timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise TableError(
            f"The tables of {task_name!r} in {folder} were busy for {timeout_s:.0f} seconds."
            "\n  Another program is writing to them: wait until it is done or end it, then score the run again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _cannot_write(error: OSError, task_name: str, folder: Path) -> TableError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    if full:
        advice = "Free some space there"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        advice = "Get the right to write there, close the table where another program has it open"
    else:
        advice = "Mend that"
    return TableError(
        f"Cannot write the tables of {task_name!r} in {folder}: {error.strerror or error}."
        f"\n  No row was lost or torn. {advice}, then score the run again."
    )


Step: TypeAlias = dict[str, Any]
"""``{"size": int, "block": str}``: the table, now `size` bytes long, gets `block`; ``{"replace": str}``: the file
of that name, beside the table, takes its place."""


def _planned(paths: Mapping[str, Path], lines: Mapping[str, list[str]], ids: set[str]) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    try:
        for kind, records in lines.items():
            steps[kind] = _plan(paths[kind], TABLES[kind], records, ids)
    except BaseException:
        _drop_replacements(paths, steps)
        raise
    return steps


def _plan(path: Path, table: Table, records: list[str], ids: set[str]) -> Step:
    """Return how the records get in: an append where the runs are new to the table, a replacement otherwise."""
    size = path.stat().st_size if path.exists() else 0
    whole_header = csv_record(table.columns).encode() + b"\n"
    header = first_record(path) if size else b""
    if whole_header.startswith(header) and header != whole_header:
        return {"size": size, "block": whole_header.decode()[size:] + "".join(f"{r}\n" for r in records)}
    header_read = header_columns(path, header)
    columns = [*table.columns, *(name for name in header_read if name not in table.columns)]
    blanks = "," * (len(columns) - len(table.columns))
    block = "".join(f"{record}{blanks}\n" for record in records)
    current = header == csv_record(columns).encode() + b"\n"
    if current and _can_append(path, ids, len(columns)):
        return {"size": size, "block": block}
    data = path.read_bytes()
    kept = _kept_records(path, data, ids) if current else _migrated(path, data, columns, ids)
    return {"replace": _replacement(path, csv_record(columns), kept, block)}


def _can_append(path: Path, ids: set[str], n_columns: int) -> bool:
    """Return whether the table ends with a whole record and holds none of the runs."""
    if len(ids) > SEARCHED_ONE_BY_ONE or not _ends_whole(path, n_columns):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return not any(_holds(data, run_id.encode()) for run_id in ids)


def _holds(data: mmap.mmap, run_id: bytes) -> bool:
    """Return whether a record begins with the run id, plain or in quotes."""
    at = data.find(run_id)
    while at >= 0:
        if data[max(0, at - 2) : at].endswith((b"\n", b'\n"')) and data[at + len(run_id)] in b',"':
            return True
        at = data.find(run_id, at + 1)
    return False


def _ends_whole(path: Path, n_columns: int) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - WINDOW))
        window = file.read()
    if not window.endswith(b"\n"):
        return False
    decoded(path, window if size <= WINDOW else window.partition(b"\n")[2])
    return is_record(window[:-1].rpartition(b"\n")[2], n_columns)


def _kept_records(path: Path, data: bytes, ids: set[str]) -> Iterator[bytes]:
    """Return the records of all other runs, byte for byte, from a table whose header is up to date."""
    decoded(path, data)
    rows = records(whole_part(path, data))
    next(rows)
    gone = {run_id.encode() for run_id in ids}
    for record in rows:
        if record.partition(b",")[0].strip(b'"') not in gone:
            yield record


def _migrated(path: Path, data: bytes, columns: Sequence[str], ids: set[str]) -> Iterator[bytes]:
    """Return the records of all other runs of an older or wider table, laid out under new columns."""
    reader = csv.reader(io.StringIO(decoded(path, whole_part(path, data)), newline=""))
    names = next(reader)
    for cells in reader:
        if len(cells) > len(names):
            raise TableError(
                f"{path} has {len(names)} columns in its first line and {len(cells)} cells in line {reader.line_num}."
                "\n  Nothing was changed. Mend that line, or move the file away and score its runs again."
            )
        row = dict(zip(names, cells, strict=False))
        if cells and row["run_id"] not in ids:
            yield csv_record(row.get(name, "") for name in columns).encode() + b"\n"


def _replacement(path: Path, header: str, kept: Iterable[bytes], block: str) -> str:
    """Write the new table beside the old one and return its file name; nothing is left where that fails."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(header.encode() + b"\n")
            file.writelines(kept)
            file.write(_encoded(block))
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, beside)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside.name


def _encoded(block: str) -> bytes:
    return block.encode("utf-8", "backslashreplace")


def _carry_out(paths: Mapping[str, Path], journal: Path, steps: Mapping[str, Step]) -> None:
    """Note the steps, take them, drop the note; where space or right is missing, put everything back."""
    try:
        journal.write_text(json.dumps(steps), encoding="utf-8")
        for kind, step in steps.items():
            if "block" in step:
                _append(paths[kind], step)
    except BaseException:
        with suppress(OSError):  # what cannot be put back now is finished by the next writer, from the note
            _put_back(paths, steps)
            journal.unlink(missing_ok=True)
        raise
    _take_places(paths, steps)
    journal.unlink()


def _finish(paths: Mapping[str, Path], journal: Path) -> None:
    """Finish the write of a program that died, from the note it left; without a note do nothing."""
    try:
        steps: dict[str, Step] = json.loads(journal.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        steps = {}
    if not isinstance(steps, dict) or not all(isinstance(step, dict) for step in steps.values()) or not steps:
        journal.unlink()  # it died while writing the note: nothing had begun
        return
    for kind, step in steps.items():
        if "block" in step:
            _append(paths[kind], step)
    _take_places(paths, steps)
    journal.unlink()


def _append(path: Path, step: Step) -> None:
    """Write what is still missing of the step's block.

    A program that knows no lock may have added rows in the meantime: then the block goes behind them, or, where
    it had already begun, everything stays as it is.
    """
    block = _encoded(step["block"])
    with path.open("r+b" if path.exists() else "x+b") as file:
        if file.seek(0, os.SEEK_END) < step["size"]:
            return
        file.seek(step["size"])
        there = file.read()
        if block.startswith(there):
            file.write(block[len(there) :])
        elif not there.startswith(block.partition(b"\n")[0]):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _put_back(paths: Mapping[str, Path], steps: Mapping[str, Step]) -> None:
    """Take back what was appended, and nothing that another program added."""
    _drop_replacements(paths, steps)
    for kind, step in steps.items():
        if "block" not in step or not paths[kind].exists():
            continue
        with paths[kind].open("r+b") as file:
            file.seek(step["size"])
            if _encoded(step["block"]).startswith(file.read()):
                file.truncate(step["size"])
        if not paths[kind].stat().st_size:
            paths[kind].unlink()


def _drop_replacements(paths: Mapping[str, Path], steps: Mapping[str, Step]) -> None:
    for kind, step in steps.items():
        if "replace" in step:
            paths[kind].with_name(step["replace"]).unlink(missing_ok=True)


def _take_places(paths: Mapping[str, Path], steps: Mapping[str, Step]) -> None:
    for kind, step in steps.items():
        if "replace" in step:
            with suppress(FileNotFoundError):  # it already stands in the table's place
                os.replace(paths[kind].with_name(step["replace"]), paths[kind])


def finish_if_left_open(folder: Path, task_name: str) -> None:
    """Let a dead writer's tables be finished before they are read, where this process may write there."""
    journal = _hidden(folder, task_name, "journal")
    if journal.exists():
        paths = {kind: table_path(folder, task_name, kind) for kind in TABLES}
        with suppress(OSError, TableError), _locked(folder, task_name, READ_LOCK_TIMEOUT_S):
            _finish(paths, journal)


def rows_of(metrics_dir: str | Path, task_name: str, run_id: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows of one run in the tables of a task, the cells that are not blank, as they stand there."""
    folder = Path(metrics_dir)
    finish_if_left_open(folder, task_name)
    rows: dict[str, list[dict[str, str]]] = {}
    for kind in TABLES:
        rows[kind] = []
        path = table_path(folder, task_name, kind)
        with suppress(FileNotFoundError):
            data = path.read_bytes()
            names = header_columns(path, next(records(data[:WINDOW]), b"")) if data else []
            first, last = (find(b"\n" + run_id.encode() + b",") for find in (data.find, data.rfind))
            if first < 0:
                continue
            end = last + 1
            for record in records(data[first + 1 :]):
                cells = next(csv.reader([record.decode("utf-8", "replace").rstrip("\r\n")]))
                if cells[0] == run_id:
                    rows[kind].append({n: c for n, c in zip(names, cells, strict=False) if c})
                end -= len(record)
                if end <= first:
                    break
    return rows
