"""Files written whole or not at all, and read with a word about what is wrong."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError, RunError

LONGEST_NAME = 180
"""Bytes of a name, so that what is added to it (``_metrics_log_classes.csv`` and a temporary ending) fits 255."""

NOT_IN_A_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]')
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def name_fault(name: str) -> str:
    """Return why a name cannot be that of a folder on every operating system; "" if it can.

    >>> name_fault("policy-sentiment"), name_fault("con.txt")
    ('', 'is the name of a device on Windows')
    """
    if not name.strip(" ."):
        return "is empty"
    if bad := NOT_IN_A_NAME.search(name):
        return f"has {bad[0]!r} in it, which no folder name can have on every operating system"
    if DEVICES.fullmatch(name):
        return "is the name of a device on Windows"
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a blank, or ends with a dot, which Windows takes away"
    if len(name.encode("utf-8")) > LONGEST_NAME:
        return f"has {len(name.encode('utf-8')):,} bytes; a folder name here has at most {LONGEST_NAME}"
    return ""


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
        long = error.errno in (errno.ENAMETOOLONG, errno.EINVAL)
        hint = (
            "Choose another output_root."
            if long
            else "Get the right to read it, or choose another output_root."
        )
        raise RunError(f"cannot read {str(path)[:300]}: {error.strerror}.\n  {hint}") from None
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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_while_unchanged(path: Path) -> str:
    """Return the SHA-256 of a file, in hex; read once in this process while size and time of change stay."""
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256_of(path)


def seen_from_here(path: Path) -> str:
    """Return a path as it is shown: from the working folder where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


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


def data_folder() -> Path:
    """Return the folder for what is kept of a user across projects: ``$NBANNOT_DATA``, else the user's."""
    chosen = os.environ.get("NBANNOT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("nbannot", appauthor=False))


def write_for_user(target: Path, content: bytes) -> None:
    """Write a file where a person asked for it.

    Raises
    ------
    NbannotError
        If it cannot be written.
    """
    try:
        target.write_bytes(content)
    except OSError as error:
        raise NbannotError(f"cannot write {target}: {error.strerror}.\n  Choose another path.") from None
