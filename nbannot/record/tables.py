"""The tidy tables: every run's settings and numbers as rows that any program can join on ``run_id``.

A task has three tables in ``outputs/metrics``: *long* (one row per metric of a column), *runs* (one row per
run) and *classes* (one row per metric of a label). `upsert` replaces the rows of whole runs, from any number of
processes at once; `read_long`, `read_runs`, `read_classes` and `joined` give frames back.

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
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from filelock import FileLock, Timeout

from nbannot.errors import TableError, listed, nearest

Frame: TypeAlias = Any
"""A pandas data frame, or a polars one where `polars=True` was asked for."""

Row: TypeAlias = Mapping[str, object]

LONG_COLUMNS = (
    *("run_id", "column", "annotation_type", "metric", "value"),
    *("n", "n_answered", "ci_low", "ci_high", "ci_method", "reason"),
)
RUNS_COLUMNS = (
    *("run_id", "timestamp", "label", "model_id", "quantization_type", "temperature", "top_p", "prompt_type"),
    *("use_examples", "chat_mode", "reasoning", "process_textbox", "process_span", "codebook_path"),
    *("experiment_directory", "n_queries", "total_inference_time_s", "avg_inference_time_per_query_s"),
    *("total_input_chars", "avg_input_chars_per_query", "total_output_chars", "avg_output_chars_per_query"),
    *("total_energy_kwh", "avg_energy_kwh_per_query", "total_emissions_kg", "avg_emissions_kg_per_query"),
    *("cpu_model", "gpu_model"),
    *("ground_truth_path", "seed", "repeat", "split", "n_texts", "n_labels_valid", "input_tokens"),
    *("output_tokens", "wall_time_s", "status", "codebook_hash", "data_hash", "prompt_hash", "model_digest"),
    "nbannot_version",
)
CLASS_COLUMNS = (
    *("run_id", "column", "annotation_type", "label", "metric", "value"),
    *("n", "ci_low", "ci_high", "reason"),
)

LOWER_CASE_BOOLEANS = frozenset({"process_textbox", "process_span"})
"""Written ``true`` / ``false``; every other truth value is ``True`` / ``False``, as in older logs."""

FLAGS = frozenset({"use_examples", "reasoning", "process_textbox", "process_span"})
MEASURES = frozenset({"value", "ci_low", "ci_high"})
INTEGERS = frozenset(
    {
        *("n", "n_answered", "n_queries", "total_input_chars", "total_output_chars", "seed", "repeat"),
        *("n_texts", "n_labels_valid", "input_tokens", "output_tokens"),
    }
)
FLOATS = frozenset(
    {"temperature", "top_p", "wall_time_s"}
    | {"total_inference_time_s", "total_energy_kwh", "total_emissions_kg"}
    | {name for name in RUNS_COLUMNS if name.startswith("avg_")}
)

OLD_METRIC_NAMES = {"precision": "precision_macro", "recall": "recall_macro", "f1": "f1_macro"}
LABEL_TYPES = frozenset({"checkbox", "dropdown", "likert"})

SEARCHED_ONE_BY_ONE = 8
"""Up to so many run ids are looked for one by one; more are found in one pass over the table."""

WINDOW = 1 << 16  # bytes looked at for the first and the last line
LOCK_TIMEOUT_S = 300.0
READ_LOCK_TIMEOUT_S = 10.0

_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


class _Table(NamedTuple):
    """One kind of table: its file name after the task's name, its columns, and what makes a row unique."""

    suffix: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


TABLES = {
    "runs": _Table("_metrics_log_runs.csv", RUNS_COLUMNS, ("run_id",)),
    "long": _Table("_metrics_log.csv", LONG_COLUMNS, ("run_id", "column", "annotation_type", "metric")),
    "classes": _Table(
        "_metrics_log_classes.csv", CLASS_COLUMNS, ("run_id", "column", "annotation_type", "label", "metric")
    ),
}  # in writing order: whoever sees a run's metrics finds its settings too


def table_path(metrics_dir: str | Path, task_name: str, kind: str) -> Path:
    """Return where the ``"long"``, ``"runs"`` or ``"classes"`` table of a task is kept."""
    if not task_name or task_name != Path(task_name).name or "\\" in task_name:
        raise TableError(
            f"A task name is one folder name. Got {task_name!r}."
            "\n  Give the name alone, such as 'policy-sentiment'."
        )
    return Path(metrics_dir) / f"{task_name}{TABLES[kind].suffix}"


def safe_run_id(run_id: str) -> bool:
    """Return whether a run id is 8 lower-case hex characters that no table reader takes for a number.

    ``12345678`` is read as an integer, ``1e000010`` and ``10e00009`` as the same float (so that two runs become
    one), ``1e234567`` by some as infinity: that is what a plain ``read_csv`` of pandas or polars makes of a column,
    or of the part of it that is looked at, with only such ids. A merge then joins wrong rows or none. ``d`` as an
    exponent (Stata, Fortran) and ``d`` or ``f`` as a suffix (Java) are avoided as well.

    >>> [safe_run_id(name) for name in ("a1b2c3d4", "12345678", "1e234567", "A1B2C3D4", "a1b2")]
    [True, False, False, False, False]
    """
    return bool(
        re.fullmatch(r"[0-9a-f]{8}", run_id) and not re.fullmatch(r"[0-9]+(?:[de][0-9]*)?[df]?", run_id)
    )


def canonical_metric(run_id: str, annotation_type: str, metric: str) -> str:
    """Return today's name of a metric: ``precision``, ``recall``, ``f1`` of labels are macro values in older runs.

    A run id that is not 8 lower-case hex characters is an older one.

    >>> canonical_metric("run_2026-11-23_18-41-08_8c6016e4", "dropdown", "f1")
    'f1_macro'
    >>> canonical_metric("a1b2c3d4", "dropdown", "f1")
    'f1'
    """
    if annotation_type in LABEL_TYPES and not re.fullmatch(r"[0-9a-f]{8}", run_id):
        return OLD_METRIC_NAMES.get(metric, metric)
    return metric


# Rows to text


def csv_record(cells: Iterable[str]) -> str:
    """Return one RFC 4180 record without its line end; cells with a comma, quote or line break are quoted.

    >>> print(csv_record(["a", "b, c", 'the "d" row', "", "e"]))
    a,"b, c","the ""d"" row",,e
    """
    row = list(cells)
    if _NEEDS_QUOTES.search("".join(row)):
        row = [_quoted(cell) if _NEEDS_QUOTES.search(cell) else cell for cell in row]
    return ",".join(row)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def cell_text(column: str, value: object) -> str:
    """Return how a value stands in a cell: blank for ``None`` and nan, else the shortest text that reads back.

    >>> [cell_text("value", value) for value in (None, float("nan"), 0.1, 3)]
    ['', '', '0.1', '3']
    >>> cell_text("use_examples", True), cell_text("process_span", True)
    ('True', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower() if column in LOWER_CASE_BOOLEANS else str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return "" if value != value else float.__repr__(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return cell_text(column, value.item())
    raise TableError(
        f"A cell holds text, a number, true or false, or nothing. Got a {type(value).__name__} in {column!r}."
        "\n  Turn it into text first, for example with json.dumps()."
    )


def _lines(kind: str, rows: Sequence[Row]) -> tuple[list[str], set[str]]:
    """Return the rows as records of a table's own columns, and the run ids in them."""
    table = TABLES[kind]
    records: list[str] = []
    keys: set[tuple[str, ...]] = set()
    ids: set[str] = set()
    for row in rows:
        for name in row:
            if name not in table.columns:
                raise TableError(
                    f"The {kind} table has no column {name!r}{nearest(name, table.columns) or '.'}"
                    f"\n  Its columns are {', '.join(table.columns)}."
                )
        cells = {name: cell_text(name, row.get(name)) for name in table.columns}
        key = tuple(cells[name] for name in table.key)
        if key in keys:
            raise TableError(
                f"The {kind} table takes one row per {', '.join(table.key)}. Got two for {', '.join(key)}."
                "\n  Keep one of them."
            )
        keys.add(key)
        ids.add(_checked_run_id(cells["run_id"]))
        records.append(csv_record(cells.values()))
    return records, ids


def _checked_run_id(run_id: str) -> str:
    if not run_id or run_id != run_id.strip() or _NEEDS_QUOTES.search(run_id):
        raise TableError(
            f"A run id is a name without commas, quotes, line breaks or outer spaces. Got {run_id!r}."
            "\n  Give the name of the run's folder."
        )
    return run_id


# Writing


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
            lines[kind], named = _lines(kind, list(rows))
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


def _plan(path: Path, table: _Table, records: list[str], ids: set[str]) -> Step:
    """Return how the records get in: an append where the runs are new to the table, a replacement otherwise."""
    size = path.stat().st_size if path.exists() else 0
    whole_header = csv_record(table.columns).encode() + b"\n"
    header = _first_record(path) if size else b""
    if whole_header.startswith(header) and header != whole_header:
        return {"size": size, "block": whole_header.decode()[size:] + "".join(f"{r}\n" for r in records)}
    found = _header_columns(path, header)
    columns = [*table.columns, *(name for name in found if name not in table.columns)]
    blanks = "," * (len(columns) - len(table.columns))
    block = "".join(f"{record}{blanks}\n" for record in records)
    current = header == csv_record(columns).encode() + b"\n"
    if current and _can_append(path, ids, len(columns)):
        return {"size": size, "block": block}
    data = path.read_bytes()
    kept = _kept_records(path, data, ids) if current else _migrated(path, data, columns, ids)
    return {"replace": _replacement(path, csv_record(columns), kept, block)}


def _first_record(path: Path) -> bytes:
    """Return the header as it stands in the file; without a line end where the file stops before one."""
    with path.open("rb") as file:
        data = file.read(WINDOW)
    return next(_records(data), data)


def _header_columns(path: Path, header: bytes) -> list[str]:
    """Return the column names of a header record; a `TableError` says why it is not one of a tidy table."""
    try:
        names = next(csv.reader([header.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        names = []
    if "run_id" not in names:
        hint = " Its cells seem to be separated by ';'." if header.startswith(b"run_id;") else ""
        raise TableError(
            f"{path} is not a tidy table: its first line has no column run_id. It begins {_shown(header)}.{hint}"
            "\n  Nothing was changed. Move that file away, or give another task name or outputs folder."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(
            f"{path} names a column twice: {listed(twice)}."
            "\n  Nothing was changed. Rename one of them in its first line."
        )
    return names


def _shown(data: bytes) -> str:
    """Return the beginning of some bytes for an error message."""
    return repr(data.split(b"\n", 1)[0][:60].decode("utf-8", "replace").rstrip("\r"))


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
    _decoded(path, window if size <= WINDOW else window.partition(b"\n")[2])
    return _is_record(window[:-1].rpartition(b"\n")[2], n_columns)


def _is_record(line: bytes, n_columns: int) -> bool:
    """Return whether one line is a whole record by itself."""
    if line.count(b'"') % 2:
        return False
    cells = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")]), [])
    return len(cells) == n_columns


def _records(data: bytes) -> Iterator[bytes]:
    """Return the whole records of a table one by one, with their line ends; a torn last one is left out."""
    begun: list[bytes] = []
    for line in io.BytesIO(data):
        odd = line.count(b'"') % 2 == 1
        if not begun and not odd:
            if line.endswith(b"\n"):
                yield line
            continue
        begun.append(line)
        if odd and len(begun) > 1 and line.endswith(b"\n"):
            yield b"".join(begun)
            begun = []


def _kept_records(path: Path, data: bytes, ids: set[str]) -> Iterator[bytes]:
    """Return the records of all other runs, byte for byte, from a table whose header is up to date."""
    _decoded(path, data)
    records = _records(_whole_part(path, data))
    next(records)
    gone = {run_id.encode() for run_id in ids}
    for record in records:
        if record.partition(b",")[0].strip(b'"') not in gone:
            yield record


def _migrated(path: Path, data: bytes, columns: Sequence[str], ids: set[str]) -> Iterator[bytes]:
    """Return the records of all other runs of an older or wider table, laid out under new columns."""
    reader = csv.reader(io.StringIO(_decoded(path, _whole_part(path, data)), newline=""))
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


def _whole_part(path: Path, data: bytes) -> bytes:
    """Return a table without a torn last record.

    Raises
    ------
    TableError
        If what would be cut holds whole records: a quote was opened and never closed.
    """
    if data.endswith(b"\n") and data.count(b'"') % 2 == 0:
        return data
    whole = sum(map(len, _records(data)))
    n_columns = len(_header_columns(path, data[: data.find(b"\n") + 1]))
    if any(_is_record(line, n_columns) for line in data[whole:].split(b"\n")[1:] if line):
        number = data[:whole].count(b"\n") + 1
        raise TableError(
            f"{path} opens a quote in line {number} and never closes it; the line begins {_shown(data[whole:])}."
            "\n  Nothing was changed. Close the quote in that line."
        )
    return data[:whole]


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[data.rfind(b"\n", 0, error.start) + 1 :]
        raise TableError(
            f"{path} is not UTF-8 text: byte 0x{data[error.start]:02x} in the line that begins {_shown(line)}."
            "\n  Nothing was changed. Save that file as UTF-8, or move it away and score its runs again."
        ) from error


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
    except ValueError:
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


# Reading


def read_long(
    metrics_dir: str | Path, task_name: str, *, canonical: bool = False, polars: bool = False
) -> Frame:
    """Return the long table of a task: one row per run, column, annotation type and metric.

    `run_id` is always text, ``value``, ``ci_low`` and ``ci_high`` are floats (nan where blank), counts are
    integers, `reason` is ``""`` where nothing needs one. An older table is given with the columns it has.

    Parameters
    ----------
    canonical
        Give the ``precision``, ``recall``, ``f1`` of older runs their names of today (`canonical_metric`).
    polars
        Return a polars frame; pandas otherwise.

    Raises
    ------
    TableError
        If the task has no such table yet, or the file is not one.
    """
    frame = _read(metrics_dir, task_name, "long", polars)
    return _with_canonical_metrics(frame, polars) if canonical else frame


def read_runs(metrics_dir: str | Path, task_name: str, *, polars: bool = False) -> Frame:
    """Return the runs table of a task: one row of settings, times and counts per run; types as in `read_long`."""
    return _read(metrics_dir, task_name, "runs", polars)


def read_classes(metrics_dir: str | Path, task_name: str, *, polars: bool = False) -> Frame:
    """Return the class table of a task: one row per run, column, label and metric; labels are always text.

    Tasks scored by older packages only have no such table: the frame is then empty.
    """
    return _read(metrics_dir, task_name, "classes", polars)


def joined(
    metrics_dir: str | Path, task_name: str, *, canonical: bool = False, polars: bool = False
) -> Frame:
    """Return the long table with every run's settings beside each metric (inner join on `run_id`).

    Raises
    ------
    TableError
        As `read_long`; also where the runs table has a run twice, which would double its metrics.
    """
    metrics = read_long(metrics_dir, task_name, canonical=canonical, polars=polars)
    runs = read_runs(metrics_dir, task_name, polars=polars)
    ids = runs["run_id"].to_list()
    if len(set(ids)) < len(ids):
        twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
        raise TableError(
            f"{table_path(metrics_dir, task_name, 'runs')} has more than one row for {listed(twice)}."
            "\n  Keep one row per run_id; scoring the run again does that."
        )
    if polars:
        return metrics.join(runs, on="run_id", how="inner", maintain_order="left")
    return metrics.merge(runs, on="run_id")


def _read(metrics_dir: str | Path, task_name: str, kind: str, polars: bool) -> Frame:
    path = table_path(metrics_dir, task_name, kind)
    _finish_if_left_open(Path(metrics_dir), task_name)
    if not path.exists():
        if kind != "classes" or not table_path(metrics_dir, task_name, "long").exists():
            raise _no_table(path, task_name, kind)
        data = csv_record(CLASS_COLUMNS).encode() + b"\n"
    else:
        data = path.read_bytes()
    _header_columns(path, next(_records(data[:WINDOW]), data[:WINDOW]))
    data = _whole_part(path, data).removeprefix(b"\xef\xbb\xbf")
    if not data.isascii():
        _decoded(path, data)
    try:
        return _polars_frame(data) if polars else _pandas_frame(data)
    except _Unreadable as error:
        raise TableError(f"{path} cannot be read: {error}.\n  Mend it, or score its runs again.") from error


def _finish_if_left_open(folder: Path, task_name: str) -> None:
    """Let a dead writer's tables be finished before they are read, where this process may write there."""
    journal = _hidden(folder, task_name, "journal")
    if journal.exists():
        paths = {kind: table_path(folder, task_name, kind) for kind in TABLES}
        with suppress(OSError, TableError), _locked(folder, task_name, READ_LOCK_TIMEOUT_S):
            _finish(paths, journal)


def _no_table(path: Path, task_name: str, kind: str) -> TableError:
    suffix = TABLES[kind].suffix
    others = sorted(p.name.removesuffix(suffix) for p in path.parent.glob(f"*{suffix}"))
    there = f"Tasks with one: {listed(others)}" if others else "There is none of any task"
    return TableError(
        f"Task {task_name!r} has no {kind} table in {path.parent}{nearest(task_name, others) or '.'} {there}."
        "\n  Run and score the task first, or give the outputs folder where you did."
    )


class _Unreadable(Exception):
    """A table reader's own complaint, on its way to a `TableError`."""


def _pandas_frame(data: bytes) -> Frame:
    import pandas as pd

    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, na_values=[""])
    except pd.errors.ParserError as error:
        raise _Unreadable(error) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise _Unreadable("its rows have more cells than its first line has columns")
    for name in frame.columns:
        if name in MEASURES | FLOATS:
            frame[name] = _pandas_cast(frame[name], "float64", needed=name in MEASURES)
        elif name in INTEGERS:
            frame[name] = _pandas_cast(frame[name], "Int64", needed=False)
        elif name in FLAGS:
            words = frame[name].str.lower()
            if words.isin(["true", "false"]).eq(words.notna()).all():
                frame[name] = words.map({"true": True, "false": False}).astype("boolean")
        elif name == "reason":
            frame[name] = frame[name].fillna("")
    return frame


def _pandas_cast(cells: Frame, dtype: str, *, needed: bool) -> Frame:
    """Return the cells as numbers; as they are where one of them is no such number and none is needed."""
    try:
        return cells.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        if needed:
            raise _Unreadable(error) from error
        return cells


def _polars_frame(data: bytes) -> Frame:
    import polars as pl

    try:
        frame = pl.read_csv(data, infer_schema=False, null_values=[""])
    except pl.exceptions.PolarsError as error:
        raise _Unreadable(error) from error
    casts: list[pl.Series] = []
    for cells in frame:
        if cells.name in MEASURES | FLOATS:
            casts.append(_polars_cast(cells, pl.Float64, needed=cells.name in MEASURES))
        elif cells.name in INTEGERS:
            casts.append(_polars_cast(cells, pl.Int64, needed=False))
        elif cells.name in FLAGS:
            words = cells.str.to_lowercase()
            if words.drop_nulls().is_in(["true", "false"]).all():
                casts.append(words.eq("true"))
        elif cells.name == "reason":
            casts.append(cells.fill_null(""))
    return frame.with_columns(casts)


def _polars_cast(cells: Frame, dtype: Any, *, needed: bool) -> Frame:
    import polars as pl

    try:
        return cells.cast(dtype)
    except pl.exceptions.PolarsError as error:
        if needed:
            raise _Unreadable(error) from error
        return cells


def _with_canonical_metrics(frame: Frame, polars: bool) -> Frame:
    columns = (frame[name].to_list() for name in ("run_id", "annotation_type", "metric"))
    names = [canonical_metric(*cells) for cells in zip(*columns, strict=True)]
    if polars:
        import polars as pl

        return frame.with_columns(pl.Series("metric", names))
    return frame.assign(metric=names)
