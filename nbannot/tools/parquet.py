"""Parquet files, written whole or not at all; what polars says of a disk or file comes as an `OSError`, in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nbannot.tools.imports import load

if TYPE_CHECKING:
    import polars as pl

OF_THE_SYSTEM = re.compile(r"([^:]+) \(os error (\d+)\)")
"""How polars words what the operating system said, e.g. that the disk is full; its error is no `OSError`."""


@contextlib.contextmanager
def as_os_error(path: Path) -> Iterator[None]:
    """Turn an error of polars about a file into an `OSError` with a ``strerror`` of one line.

    Raises
    ------
    OSError
        In place of every error of polars; others pass.
    """
    load("polars")
    import polars as pl

    try:
        yield
    except pl.exceptions.PolarsError as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:200].strip()
        said = OF_THE_SYSTEM.search(words)
        number, what = (int(said[2]), said[1].strip()) if said else (errno.EINVAL, words)
        raise OSError(number, what, str(path)) from None
    except OSError as error:
        if error.strerror:
            raise
        # Those of polars have nothing but words.
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        said = OF_THE_SYSTEM.search(words)
        raise type(error)(error.errno or errno.EIO, said[1].strip() if said else words, str(path)) from None


def write_parquet(table: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write a table whole or not at all: a reader sees the old one or the new one.

    Raises
    ------
    OSError
        If it cannot be written; the old file is untouched.
    """
    import polars as pl

    scratch = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with as_os_error(path):
            if isinstance(table, pl.DataFrame):
                table.write_parquet(scratch)
            else:
                table.sink_parquet(scratch, maintain_order=True)
        os.replace(scratch, path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Return the table of a file.

    Raises
    ------
    OSError
        If it is not there, damaged, or lacks one of these columns.
    """
    load("polars")
    import polars as pl

    with as_os_error(path):
        return pl.read_parquet(path, columns=columns, glob=False)


def scan_parquet(paths: Path | list[Path]) -> pl.LazyFrame:
    """Return files as a frame to be read as needed; their names are names, also with ``[``, ``*`` and ``?`` in them."""
    load("polars")
    import polars as pl

    return pl.scan_parquet(paths, glob=False)
