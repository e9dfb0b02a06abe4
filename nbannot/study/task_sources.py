"""Where tasks come from: a bundled name, a folder, a Hugging Face dataset repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nbannot.errors import TaskError, listed, nearest
from nbannot.study.codebook import Codebook
from nbannot.study.reading import DATA_FILE, no_file, read_csv
from nbannot.study.spreadsheets import QUESTIONS, TABLES, WORKBOOKS, read_table
from nbannot.study.task import OutsideLabels, Task
from nbannot.tools.given import given_path

"""Endings of tables of texts."""
"""Names of the sheet of a workbook that holds the questions about the texts of its first one."""


def bundled_tasks() -> list[str]:
    """Return the names of the tasks that come with nbannot."""
    folder = resources.files("nbannot.study") / "tasks"
    return sorted(item.name for item in folder.iterdir() if (item / "codebook.json").is_file())


def bundled_folder(name: str) -> Path:
    """Return where a bundled task of this name lies."""
    return Path(str(resources.files("nbannot.study") / "tasks" / name))


def load_task(
    source: str | Path,
    *,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
    encoding: str = "utf-8",
    id_column: str | None = None,
    outside_labels: OutsideLabels = "error",
    blank_means_no: bool | str | Sequence[str] = False,
    task_root: str | Path | None = None,
    cluster: str | None = None,
    weights: str | None = None,
) -> Task:
    """Return the task of this name or place.

    Parameters
    ----------
    source
        A bundled name (`bundled_tasks`), a folder with ``codebook.json`` and ``ground-truth.csv``, the name of such a
        folder below `task_root`, ``hf://datasets/<owner>/<name>``, or, with a codebook, a table of texts: a CSV file or
        an Excel workbook (its first sheet).
    codebook
        The codebook of a table of texts: a `Codebook`, a dictionary, the path of a ``codebook.json``, or a table of
        questions (``.csv``, ``.xlsx``; see `Codebook.from_table`). Left out: the sheet ``codebook`` (or ``questions``)
        of a workbook, else a ``codebook.json`` beside the table. A folder has its own.
    encoding
        Encoding of ``ground-truth.csv``; UTF-8 with or without byte-order mark by default, UTF-16 with one.
    id_column, outside_labels, blank_means_no, cluster, weights
        As in `Task`.

    Raises
    ------
    TaskError, CodebookError
        If there is no such task, or it cannot be used.
    """
    text = str(source)
    options: dict[str, Any] = {
        "id_column": id_column,
        "outside_labels": outside_labels,
        "blank_means_no": blank_means_no,
        "cluster": cluster,
        "weights": weights,
    }
    if Path(text).suffix.lower() in TABLES:
        return _from_table(text, codebook, encoding, options)
    if codebook is not None:
        raise TaskError(
            f"codebook=... goes with a table of texts ({listed(TABLES)}). Got '{text}', which has its own."
        )
    if text.startswith("hf://"):
        folder, name = _from_hub(text), text.rsplit("/", 1)[-1]
    else:
        folder = _find_folder(text, task_root)
        name = folder.name
    own = Codebook.load(folder)
    data = read_csv(folder / DATA_FILE, encoding=encoding, delimiter=None)
    return Task(data, own, name, path=folder, **options)


def _from_table(
    text: str,
    codebook: Codebook | Mapping[str, Any] | str | Path | None,
    encoding: str,
    options: Mapping[str, Any],
) -> Task:
    try:
        place = given_path(text)
    except ValueError as error:
        raise TaskError(f"no task: {error}.") from None
    if not place.exists():
        raise no_file(place)
    if codebook is None:
        codebook = _beside(place)
    if codebook is None:
        raise TaskError(
            f"{text} is a table of texts, and needs a codebook.\n"
            f"  load_task('{text}', codebook='codebook.json'), or a second sheet 'codebook' of a workbook with one row "
            "per question, or a codebook.json in its folder. nba.build_codebook() writes one."
        )
    data = read_table(place, encoding=encoding, besides=QUESTIONS)
    if isinstance(codebook, str | Path) and Path(codebook).suffix.lower() in TABLES:
        codebook = Codebook.from_table(codebook, encoding=encoding)
    elif isinstance(codebook, str | Path):
        codebook = Codebook.load(codebook)
    elif not isinstance(codebook, Codebook):
        codebook = Codebook.from_dict(codebook)
    # Who keeps a table of texts names its columns as the questions are called, not as our files do.
    named = [
        name
        for name in data.columns
        if name not in {options.get(key) for key in ("id_column", "cluster", "weights")}
    ]
    data = data.rename(codebook.plainly_named(named))
    return Task(data, codebook, place.stem, **options)


def _beside(place: Path) -> Codebook | None:
    """Return the codebook that goes with a table: a sheet of it, else ``codebook.json`` beside it."""
    if place.suffix.lower() in WORKBOOKS and (sheet := read_table(place, sheet=QUESTIONS)) is not None:
        return Codebook.from_table(sheet)
    own = place.with_name("codebook.json")
    return Codebook.load(own) if own.is_file() else None


def _find_folder(text: str, task_root: str | Path | None) -> Path:
    try:
        places = [given_path(text), *([given_path(task_root) / given_path(text)] if task_root else [])]
    except ValueError as error:
        raise TaskError(
            f"no task: {error}.\n  Bundled tasks: {listed(bundled_tasks())}. A task of your own is a folder with "
            f"codebook.json and {DATA_FILE}."
        ) from None
    for place in places:
        if (place / "codebook.json").is_file():
            return place.resolve()
    names = bundled_tasks()
    if text in names:
        return bundled_folder(text)
    for place in places:
        if place.is_dir():
            raise TaskError(
                f"the folder {place} is no task: it has no codebook.json.\n"
                f"  A task is a folder with codebook.json and {DATA_FILE}."
            )
    raise TaskError(
        f"no task '{text}'{nearest(text, names) or '.'}\n"
        f"  Bundled tasks: {listed(names)}. A task of your own is a folder with codebook.json and {DATA_FILE}."
    )


def _from_hub(address: str) -> Path:
    parts = address.removeprefix("hf://").split("/")
    if len(parts) != 3 or parts[0] != "datasets" or not all(parts):
        raise TaskError(f"a task on the Hub is hf://datasets/<owner>/<name>. Got '{address}'.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            "/".join(parts[1:]), repo_type="dataset", allow_patterns=["codebook.json", DATA_FILE, "README.md"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TaskError(
            f"cannot fetch {address} from the Hugging Face Hub: {str(error).splitlines()[0]}\n"
            "  Check the name and the connection; a private one needs `hf auth login`."
        ) from None
    place = Path(folder)
    if not (place / DATA_FILE).exists():
        raise TaskError(f"{address} has no {DATA_FILE}.\n  A task is codebook.json and {DATA_FILE}.")
    return place
