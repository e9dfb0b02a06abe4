"""The run folder on disk: the names of its files, and the lock that one process holds while it works there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbannot.errors import RunError, listed
from nbannot.tools.files import read_json

OUTPUT = "output.csv"
CONFIG = "config.json"
REPORT = "classification_reports.txt"
EMISSIONS = "emissions.csv"
TIMING = "timing_data.json"
CHARS = "char_counts.json"
TRACES = "reasoning_traces.jsonl"
LEDGER = "responses.jsonl"
PROBABILITIES = "probabilities.parquet"
HUMAN_LABELS = "human_labels.csv"
LOCK = ".lock"
EMISSIONS_SO_FAR = ".emissions.json"
"""What the session at work has used so far; there only while it works, or after it was killed."""
OUTPUT_TABLE = "output.parquet"
SEGMENTS = "responses"
LABELS = "labels"
GOLD = "gold.parquet"
METRICS = "metrics"
"""The folder of the tidy tables, beside those of the tasks."""

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
    HUMAN_LABELS: "people's labels as they were when the run was last scored; only where there are any",
}
"""The files of a run folder and what each is for."""

OF_A_CORPUS: dict[str, str] = {
    OUTPUT_TABLE: "one row per text: your columns, one column per field, the status of each answer, duplicates marked",
    SEGMENTS: "the ledger in segments, one per block of texts; finished ones are compressed (`zcat` reads them)",
    LABELS: "labels and sums of every block: what a run that was stopped goes on from",
    GOLD: "the texts that people coded, with their labels; only where there are any",
}
"""What the folder of a run on a corpus has besides, in place of ``output.csv`` and one ledger."""


TEMPORARY = re.compile(
    rf"\.(?:{'|'.join(map(re.escape, (*FILES, *OF_A_CORPUS, EMISSIONS_SO_FAR)))})\.[a-z0-9_]{{8}}|\.writable\.[0-9a-f]+"
)
"""What a process that was killed while it wrote leaves behind; see `nbannot.tools.files.write_atomic`."""

NEEDED = {"run_id": str, "task_name": str, "columns_asked": list, "codebook": dict, "data_hash": str,
          "codebook_hash": str, "model": str, "model_info": dict}  # fmt: skip
"""What ``config.json`` must have for its run to be read, and the type of each."""
NEEDED_BESIDE_A_TASK = ("run_id", "columns_asked", "model")
"""What is left of that where the task is at hand, which has the rest."""


def read_config(path: Path, *, beside_a_task: bool = False) -> dict[str, Any]:
    """Return the ``config.json`` of a run folder; beside its task a small one, made by hand, is enough.

    Raises
    ------
    RunError
        If there is none, or it was changed so that its run cannot be read.
    """
    config = read_json(path / CONFIG)
    if not config:
        raise RunError(
            f"{path} is not a finished run folder: it has no {CONFIG}.\n  Give the folder of one run."
        )
    needed = NEEDED_BESIDE_A_TASK if beside_a_task else tuple(NEEDED)
    given = [name for name in NEEDED if name in needed or name in config]
    wrong = [name for name in given if not isinstance(config.get(name), NEEDED[name])]
    if wrong:
        raise RunError(
            f"{path / CONFIG} does not say of its run: {listed(wrong, 12)}.\n"
            "  The file was changed by something else; put it back, or start again with fresh = true."
        )
    return config


def claim(path: Path) -> bool:
    """Make the folder of a new run; return whether it is ours alone: no other process made it before."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_write(path, error) from None
    return True


def make_folder(path: Path) -> None:
    """Make the folder of a run where there is none.

    Raises
    ------
    RunError
        If it cannot be made or written into.
    """
    probe = path / f".writable.{os.urandom(6).hex()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"1")
        probe.unlink(missing_ok=True)  # whoever holds the folder meanwhile sweeps it
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f'cannot write into {path}: {error.strerror}.\n  Choose another folder: output_root = "...".'
    )


def strangers(path: Path) -> list[str]:
    """Return the names in a folder that no run of ours puts there."""
    if not path.is_dir():
        return []
    names = sorted(p.name for p in path.iterdir())
    return [
        name
        for name in names
        if name not in (*FILES, *OF_A_CORPUS, LOCK, EMISSIONS_SO_FAR) and not TEMPORARY.fullmatch(name)
    ]


def sweep(path: Path) -> None:
    """Remove what processes that were killed left half written; call it while the folder is held."""
    for place in path.iterdir():
        if TEMPORARY.fullmatch(place.name):
            with contextlib.suppress(OSError):
                shutil.rmtree(place) if place.is_dir() else place.unlink()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a run folder for writing, and sweep it; a second process is refused.

    The lock's file stays: to remove it would let a process that has it open, and one that makes it anew, both hold it.

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
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        sweep(path)
        yield
    finally:
        lock.release()


def run_folders(output_root: Path, task_name: str | None = None) -> list[Path]:
    """Return the run folders below an output folder, oldest first."""
    if not output_root.is_dir():
        return []
    tasks = (
        [output_root / task_name]
        if task_name
        else sorted(p for p in output_root.iterdir() if p.name != METRICS)
    )
    folders = [config.parent for task in tasks if task.is_dir() for config in task.glob(f"*/{CONFIG}")]
    return sorted(folders, key=lambda folder: (folder / CONFIG).stat().st_mtime)
