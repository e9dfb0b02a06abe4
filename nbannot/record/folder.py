"""The run folder on disk: its standard files, written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbannot.errors import RunError

OUTPUT = "output.csv"
CONFIG = "config.json"
REPORT = "classification_reports.txt"
EMISSIONS = "emissions.csv"
TIMING = "timing_data.json"
CHARS = "char_counts.json"
TRACES = "reasoning_traces.jsonl"
LEDGER = "responses.jsonl"
LOCK = ".lock"

FILES: dict[str, str] = {
    OUTPUT: "one row per text: your columns, then one column per field of the codebook",
    CONFIG: "every setting and where the run came from; `%annotate path/to/config.json` runs it again",
    REPORT: "scores against the human labels, to read",
    EMISSIONS: "CodeCarbon's estimate of energy and emissions, one row per session",
    TIMING: "seconds per call and in total, retries, latency percentiles",
    CHARS: "characters and tokens sent and received",
    TRACES: "what a reasoning model thought; only when it returned reasoning",
    LEDGER: "the ledger: one line per model call, as it was sent and answered",
}
"""The files of a run folder and what each is for."""


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is not JSON: {error}.\n  The file was changed by something else.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold one JSON object. Got {type(content).__name__}.")
    return content


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV text (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def make_folder(path: Path) -> None:
    """Make the folder of a run.

    Raises
    ------
    RunError
        If it cannot be made or written into.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as error:
        raise RunError(
            f'cannot write into {path}: {error.strerror}.\n  Choose another folder: output_root = "...".'
        ) from None


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a run folder for writing; a second process is refused.

    Raises
    ------
    RunError
        If another process works on this run.
    """
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"another process is working on run {path.name}.\n"
            "  Wait for it, or start a repetition of your own: --fresh (or fresh=True)."
        ) from None
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (path / LOCK).unlink()


def free_disk(path: Path) -> int:
    """Return the free bytes on the disk of the nearest folder that exists."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def run_folders(output_root: Path, task_name: str | None = None) -> list[Path]:
    """Return the run folders below an output folder, oldest first."""
    if not output_root.is_dir():
        return []
    tasks = (
        [output_root / task_name]
        if task_name
        else sorted(p for p in output_root.iterdir() if p.name != "metrics")
    )
    found = [config.parent for task in tasks if task.is_dir() for config in task.glob(f"*/{CONFIG}")]
    return sorted(found, key=lambda folder: (folder / CONFIG).stat().st_mtime)
