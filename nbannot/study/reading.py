"""Tables as they come: CSV files and pandas or polars frames, read into a polars frame of strings.

Every cell is kept as the text it was; nothing is guessed to be a number or a missing value.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.errors import TaskError, listed, nearest
from nbannot.tools.given import given_path
from nbannot.tools.imports import load

if TYPE_CHECKING:
    import polars as pl

DATA_FILE = "ground-truth.csv"
DELIMITERS = ",;\t|"
WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins the same
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order mark -> the encoding it says."""
LARGEST_EXACT = 2**53
"""From here on not every whole number is a float of its own."""


def no_file(path: Path) -> TaskError:
    """Return the letter of a file that is not there, with the name beside it that comes nearest."""
    try:
        beside = [one.name for one in path.parent.iterdir() if one.is_file()][:10_000]
    except OSError:
        beside = []
    near = nearest(path.name, beside)
    where = "" if path.is_absolute() else f" A relative path begins at {Path.cwd()}."
    return TaskError(f"no file {path}{near or '.'}\n  Look at the spelling.{where}")


def read_csv(path: str | Path, *, encoding: str = "utf-8", delimiter: str | None = ",") -> pl.DataFrame:
    """Return a CSV file as a polars frame of strings, every cell as it stands (a blank is ``""``).

    A file in UTF-16, or with the byte-order mark of UTF-32, is read as such. Columns without a name and without
    a filled cell are left out.

    Parameters
    ----------
    delimiter
        What parts the cells; ``None``: what a first line ``sep=;`` names, else the comma, semicolon, tab or bar that
        the header has most of and that gives every row the same number of cells.

    Raises
    ------
    TaskError
        If the file is missing, empty, has only a header, is in another encoding, or has rows of uneven length.
    """
    load("polars")
    import polars as pl

    try:
        path = given_path(path)
    except ValueError as error:
        raise TaskError(f"no file: {error}.") from None
    codec = _codec(encoding)
    try:
        shape = csv_shape(path, codec, delimiter)
        frames = list(csv_pieces(path, shape))
    except FileNotFoundError:
        hint = f"A task is a folder with codebook.json and {DATA_FILE}."
        raise (
            no_file(Path(path)) if Path(path).name != DATA_FILE else TaskError(f"no file {path}.\n  {hint}")
        ) from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise _wrong_encoding(path, codec, encoding) from None
    if not frames:
        raise TaskError(f"{path} has a header but no texts.\n  It needs one line per text below the header.")
    return _named(pl.concat(frames), path)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a CSV file is written: its encoding, what parts its cells, and how many lines stand above its header."""

    codec: str
    delimiter: str = ","
    above: int = 0


def csv_shape(path: Path, codec: str, delimiter: str | None) -> Shape:
    """Return how a file is written, by its first bytes and its first rows."""
    with path.open("rb") as raw:
        start = raw.read(64)
    if codec == "utf-8-sig":
        codec = next((name for mark, name in WIDE if start.startswith(mark)), _unmarked(start) or codec)
    if delimiter is not None:
        return Shape(codec, delimiter)
    with path.open(encoding=codec, newline="") as lines:
        header = lines.readline()
        if named := re.fullmatch(r'"?sep=(.)"?,*\s*', header, flags=re.IGNORECASE):
            return Shape(codec, named[1], 1)
        while header and not header.strip():
            header = lines.readline()
    plain = re.sub(r'"[^"]*"', "", header)
    known = sorted(filter(plain.count, DELIMITERS), key=plain.count, reverse=True)
    shapes = [Shape(codec, mark) for mark in known] or [Shape(codec)]
    return next((shape for shape in shapes if _even(path, shape)), shapes[0])


def _unmarked(start: bytes) -> str:
    """Return the kind of UTF-16 in which a file without a byte-order mark begins; "" where it does not.

    Latin letters have a zero in every other byte there, and no header in UTF-8 has one at all.
    """
    pairs = len(start) // 2
    zeros = [start[place : 2 * pairs : 2].count(0) for place in (0, 1)]
    if pairs and min(zeros) == 0 and 2 * max(zeros) > pairs:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    return ""


def _even(path: Path, shape: Shape, rows: int = 200) -> bool:
    """Return whether the first rows of a file have as many cells as its header."""
    with path.open(encoding=shape.codec, newline="") as lines:
        try:
            return len({len(row) for row in islice(filter(None, _rows_of(lines, shape)), rows)}) == 1
        except csv.Error:
            return False


def _rows_of(lines: Iterable[str], shape: Shape) -> Any:
    csv.field_size_limit(2**31 - 1)
    return csv.reader(islice(lines, shape.above, None), delimiter=shape.delimiter, strict=True)


def csv_pieces(path: Path, shape: Shape, size: int = 50_000) -> Iterator[pl.DataFrame]:
    """Yield the table in pieces of `size` rows, so that a large file is never held as Python strings.

    A column without a name is called by its place, ``"\\0"`` and its number, which no file can say.
    """
    import polars as pl

    with path.open(encoding=shape.codec, newline="") as lines:
        reader = _rows_of(lines, shape)
        filled = filter(None, reader)
        try:
            header = [name if name.strip() else f"\0{i}" for i, name in enumerate(next(filled, []))]
            _check_header(header, path)
            while rows := list(islice(filled, size)):
                if set(map(len, rows)) != {len(header)}:
                    raise _uneven(path, shape, len(header))
                yield pl.DataFrame(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
        except csv.Error as error:
            raise TaskError(
                f"{path}: line {reader.line_num + shape.above} is not CSV: {error}.\n"
                '  A cell with quotes stands in double quotes, and each quote in it is doubled: "say ""yes""".'
            ) from None


def _named(data: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the table with columns that have no name left out where they are empty; one may hold something."""
    nameless = [name for name in data.columns if name.startswith("\0")]
    empty = [name for name in nameless if not (data[name].str.strip_chars() != "").any()]
    filled = [name for name in nameless if name not in empty]
    if len(filled) > 1:
        raise TaskError(
            f"{path}: the header has {len(filled)} columns without a name.\n  Give each column its own name."
        )
    # A single one stays: R and pandas write the names of rows so.
    return data.drop(empty).rename(dict.fromkeys(filled, ""))


def _uneven(path: Path, shape: Shape, width: int) -> TaskError:
    """Return the error of the first row that has not as many cells as the header."""
    with path.open(encoding=shape.codec, newline="") as lines:
        reader = _rows_of(lines, shape)
        cells = next(len(row) for row in reader if row and len(row) != width)
        what = {",": "commas", ";": "semicolons", "\t": "tabs"}.get(shape.delimiter, f"{shape.delimiter!r}")
        return TaskError(
            f"{path}: line {reader.line_num + shape.above} has {cells} cells, the header has {width}.\n"
            f"  A text with {what} or line breaks must stand in double quotes."
        )


def _check_header(header: list[str], path: Path) -> None:
    if all(name.startswith("\0") for name in header):
        raise TaskError(f"{path} is empty.\n  It needs a header line and one line per text.")
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), None)):
        raise TaskError(
            f"{path}: the header has one column, {header[0]!r}; its cells seem to be separated by {mark!r}.\n"
            "  Save it with commas between the cells, or read it with pandas and pass the frame to nba.Task:\n"
            f"  frame = pd.read_csv({str(path)!r}, sep={mark!r}, dtype=str)"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise TaskError(
            f"{path}: the header has {listed(map(repr, repeated))} more than once.\n  Give each column its own name."
        )


def _codec(encoding: str) -> str:
    """Return the codec of this name; that of UTF-8 also takes a byte-order mark."""
    try:
        name = codecs.lookup(encoding).name
        b"".decode(name)  # base64 and the like are codecs, too, but none of text
    except (LookupError, ValueError):
        raise TaskError(f"unknown encoding {encoding!r}.\n  Try 'utf-8', 'cp1252' or 'latin-1'.") from None
    return "utf-8-sig" if name in ("utf-8", "utf-8-sig") else encoding


def _wrong_encoding(path: Path, codec: str, encoding: str) -> TaskError:
    raw = path.read_bytes()
    place = ""
    try:
        raw.decode(codec)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        place = f": byte 0x{raw[error.start]:02x} in line {line}"
    except UnicodeError as error:
        place = f": {error}"
    wide = next((name for mark, name in WIDE if raw.startswith(mark)), _unmarked(raw[:64])) or "cp1252"
    return TaskError(
        f"{path} is not {encoding}{place}.\n"
        f'  Save it as UTF-8, or say what it is: load_task(..., encoding="{wide}").'
    )


def as_text(data: Any) -> pl.DataFrame:
    """Return a pandas or polars frame as a polars frame of strings; missing values become blanks."""
    load("polars")
    import polars as pl

    if isinstance(data, pl.DataFrame):
        columns = {name: data[name] for name, kind in data.schema.items() if kind != pl.String}
        plain = (pl.Series(name, _cells(name, v), dtype=pl.String) for name, v in columns.items())
        return data.with_columns(plain).fill_null("")
    if any(kind.__module__.startswith("pandas") for kind in type(data).__mro__) and hasattr(data, "columns"):
        return _pandas_as_text(data)
    raise TaskError(
        f"data must be a pandas or polars DataFrame. Got {type(data).__name__}.\n"
        '  A file is read with load_task("folder"), a list of texts with Task(pandas.DataFrame({"text": texts}), …).'
    )


def _pandas_as_text(data: Any) -> pl.DataFrame:
    """Return a pandas frame as text; an index that has a name is a column."""
    import polars as pl

    index = [name for name in data.index.names if name is not None]
    if index and not set(index) & set(data.columns):
        data = data.reset_index()
    names = [str(name) for name in data.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TaskError(
            f"the data has the column {listed(map(repr, repeated))} more than once.\n"
            "  Give each column its own name."
        )
    cells = (_cells(name, data.iloc[:, i]) for i, name in enumerate(names))
    return pl.DataFrame([pl.Series(n, c, dtype=pl.String) for n, c in zip(names, cells, strict=True)])


def _cells(name: str, values: Iterable[Any]) -> list[str]:
    try:
        cells = [_cell(value) for value in values]
    except TypeError as error:
        raise TaskError(f"column '{name}' holds what is no text: {error}.") from None
    for row, cell in enumerate(cells):
        if not cell.isascii() and any("\ud800" <= c <= "\udfff" for c in cell):
            raise TaskError(
                f"column '{name}', row {row + 1}: half a character ({cell[:60]!r}).\n"
                "  The text was cut inside an emoji, or read in a wrong encoding: read it again."
            )
    return cells


def _cell(value: Any) -> str:
    """Return a value as the text it stands for: ``3.0`` as 3, a list of spans as JSON, a missing value as a blank.

    A number too large for every digit of it to be known stays what it is: an id with invented digits is another id.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        raise TypeError("bytes, not text: decode them first")
    value = _plain(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value))
    return "" if str(value) in ("None", "nan", "<NA>", "NaT") else str(value)


def _plain(value: Any) -> Any:
    """Return a numpy or polars value, scalar or array, as Python's own; a date or the like as its text."""
    for method in ("tolist", "to_list"):
        if hasattr(value, method):
            return getattr(value, method)()
    known = value is None or isinstance(value, str | int | float | list | tuple | dict)
    return value if known else str(value)
