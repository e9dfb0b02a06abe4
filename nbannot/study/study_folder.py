"""The folder of a study: where people's labels of a task lie, and whose they are.

Where a task has a folder of its own that can be written to, that folder; for bundled tasks, frames and tasks from the
Hub ``outputs/<task>/``. Labels are found in both.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from nbannot.errors import ScoringError, listed
from nbannot.study.sampling_weights import SAMPLE as SAMPLE
from nbannot.study.task import Task

CODERS = "coders"
ASSIGNMENT = "assignment.csv"
ADJUDICATION = "adjudication.jsonl"
CONSENSUS = "consensus.csv"
LOG = ".log.jsonl"
OUTPUT_ROOT = "outputs"


def study_folder(task: Task, output_root: str | Path = OUTPUT_ROOT) -> Path:
    """Return the folder that what people do on this task is written to; it may not exist yet."""
    own = _own_folder(task)
    if own is not None and _is_open(own):
        return own
    return Path(output_root).expanduser().absolute() / task.name


def study_folders(task: Task, output_root: str | Path = OUTPUT_ROOT) -> list[Path]:
    """Return every folder in which people's labels of this task may lie, the task's own first."""
    elsewhere = Path(output_root).expanduser().absolute() / task.name
    own = _own_folder(task)
    return [elsewhere] if own is None or own == elsewhere else [own, elsewhere]


def coder_files(task: Task, output_root: str | Path = OUTPUT_ROOT) -> dict[str, Path]:
    """Return coder -> the CSV file with the labels, in order of the names.

    Raises
    ------
    ScoringError
        If one name has a file in two places.
    """
    files: dict[str, Path] = {}
    for folder in study_folders(task, output_root):
        for path in sorted((folder / CODERS).glob("*.csv")):
            if path.name == ASSIGNMENT or path.name.startswith("."):
                continue
            if path.stem in files:
                raise ScoringError(
                    f"coder '{path.stem}' has labels in two places: {files[path.stem]} and {path}.\n"
                    "  Keep one of them in coders/, or give one another name."
                )
            files[path.stem] = path
    return dict(sorted(files.items(), key=lambda item: _natural(item[0])))


def no_coders(task: Task, output_root: str | Path = OUTPUT_ROOT) -> ScoringError:
    """Return the letter of a task that nobody coded."""
    places = listed(str(folder / CODERS) for folder in study_folders(task, output_root))
    return ScoringError(
        f"nobody coded '{task.name}' yet: there is no CSV file in {places}.\n"
        f'  Code it with nba.code(task, coder="anna"), or put one file per coder there.'
    )


def _own_folder(task: Task) -> Path | None:
    """Return the task's own folder; none for one that belongs to the package or to the Hub's cache."""
    if task.path is None:
        return None
    path = task.path.absolute()
    bundled = Path(str(resources.files("nbannot"))).absolute()
    from_hub = "snapshots" in path.parts and any(part.startswith("datasets--") for part in path.parts)
    return None if from_hub or bundled in path.parents else path


def _is_open(folder: Path) -> bool:
    """Return whether a folder takes new files; one that nobody may write to is left alone by the administrator too."""
    try:
        return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)
    except OSError:
        return False


def _natural(name: str) -> tuple[str, int, str]:
    """Return a key that sorts w2 before w10.

    >>> sorted(["w10", "w2", "anna"], key=_natural)
    ['anna', 'w2', 'w10']
    """
    letters = name.rstrip("0123456789")
    digits = name[len(letters) :]
    return letters.casefold(), int(digits or 0), name
