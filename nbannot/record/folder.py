"""The run folder on disk: the names of its files, and the lock that one process holds while it works there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

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
PROBABILITIES = "probabilities.parquet"
LOCK = ".lock"

FILES: dict[str, str] = {
    OUTPUT: "one row per text: your columns, then one column per field of the codebook",
    PROBABILITIES: "the probability of every option, one row per text, field and option; only where a model gave them",
    CONFIG: "every setting and where the run came from; `%annotate path/to/config.json` runs it again",
    REPORT: "scores against the human labels, to read",
    EMISSIONS: "CodeCarbon's estimate of energy and emissions, one row per session",
    TIMING: "seconds per call and in total, retries, latency percentiles",
    CHARS: "characters and tokens sent and received",
    TRACES: "what a reasoning model thought; only when it returned reasoning",
    LEDGER: "the ledger: one line per model call, as it was sent and answered",
}
"""The files of a run folder and what each is for."""


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
