"""A tidy table as it stands in its file: records, header, and whether it is whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from nbannot.errors import TableError, listed

WINDOW = 1 << 16  # bytes looked at for the first and the last line


def first_record(path: Path) -> bytes:
    """Return the header as it stands in the file; without a line end where the file stops before one."""
    with path.open("rb") as file:
        data = file.read(WINDOW)
    return next(records(data), data)


def header_columns(path: Path, header: bytes) -> list[str]:
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


def is_record(line: bytes, n_columns: int) -> bool:
    """Return whether one line is a whole record by itself."""
    if line.count(b'"') % 2:
        return False
    cells = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")]), [])
    return len(cells) == n_columns


def records(data: bytes) -> Iterator[bytes]:
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


def whole_part(path: Path, data: bytes) -> bytes:
    """Return a table without a torn last record.

    Raises
    ------
    TableError
        If what would be cut holds whole records: a quote was opened and never closed.
    """
    if data.endswith(b"\n") and data.count(b'"') % 2 == 0:
        return data
    whole = sum(map(len, records(data)))
    n_columns = len(header_columns(path, data[: data.find(b"\n") + 1]))
    if any(is_record(line, n_columns) for line in data[whole:].split(b"\n")[1:] if line):
        number = data[:whole].count(b"\n") + 1
        raise TableError(
            f"{path} opens a quote in line {number} and never closes it; the line begins {_shown(data[whole:])}."
            "\n  Nothing was changed. Close the quote in that line."
        )
    return data[:whole]


def decoded(path: Path, data: bytes) -> str:
    """Return the text of a table; raise `TableError` where it is not UTF-8, with the line."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[data.rfind(b"\n", 0, error.start) + 1 :]
        raise TableError(
            f"{path} is not UTF-8 text: byte 0x{data[error.start]:02x} in the line that begins {_shown(line)}."
            "\n  Nothing was changed. Save that file as UTF-8, or move it away and score its runs again."
        ) from error
