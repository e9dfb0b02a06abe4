"""Files written whole or not at all, and read with a word about what is wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.errors import RunError

CHANGED = "The file was changed by something else; put it back, or remove it and run the same again, which writes it."


def write_atomic(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a reader sees the old one or the new one.

    Raises
    ------
    RunError
        If it cannot be written; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="", errors="surrogatepass") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}.\n  Make room, or choose another output_root."
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_atomic(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run folder; an empty dictionary if it does not exist.

    Raises
    ------
    RunError
        If it is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        why = "it is empty" if path.stat().st_size == 0 else str(error)
        raise RunError(f"{path} is not JSON: {why}.\n  {CHANGED}") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}.\n  {CHANGED}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold one JSON object. Got {type(content).__name__}.\n  {CHANGED}")
    return content


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV text (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def free_disk(path: Path) -> int:
    """Return the free bytes on the disk of the nearest folder that exists."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def cache_folder() -> Path:
    """Return the folder for what is fetched or found once, weights above all: ``$NBANNOT_CACHE``, else the user's."""
    chosen = os.environ.get("NBANNOT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("nbannot", appauthor=False))
