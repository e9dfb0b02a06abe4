"""Datasets of the Hugging Face Hub as files of a corpus: at one commit, fetched into the Hub's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from nbannot.errors import TaskError
from nbannot.study.corpus_files import KINDS, PARQUET

START = "hf://datasets/"


def is_on_hub(source: str) -> bool:
    """Return whether this is an address of the Hub."""
    return source.startswith("hf://")


def fetched(address: str, revision: str | None) -> tuple[Sequence[Path], str]:
    """Return the files of a dataset, in the order of their names, and the commit that they are from.

    Parameters
    ----------
    address
        ``hf://datasets/<owner>/<name>``, ``@<revision>`` and a pattern of files behind it where wanted. Without a
        pattern: every Parquet file, else every CSV or JSONL file.

    Raises
    ------
    TaskError
        If it cannot be fetched, or has no such files.
    """
    parts = address.removeprefix(START).split("/", 2)
    if not address.startswith(START) or len(parts) < 2 or not all(parts[:2]):
        raise TaskError(f"a dataset on the Hub is hf://datasets/<owner>/<name>. Got '{address}'.")
    name, _, named = parts[1].partition("@")
    if named and revision and named != revision:
        raise TaskError(f"two revisions: '{named}' in the address, and revision={revision!r}.")
    repository, pattern = f"{parts[0]}/{name}", parts[2] if len(parts) == 3 else ""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        about = HfApi().dataset_info(repository, revision=revision or named or None)
        commit = str(about.sha)
        names = _wanted([one.rfilename for one in about.siblings or ()], pattern)
        files = [Path(hf_hub_download(repository, n, repo_type="dataset", revision=commit)) for n in names]
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TaskError(
            f"cannot fetch {address} from the Hugging Face Hub: {str(error).splitlines()[0]}\n"
            "  Check the name and the connection; a private one needs `hf auth login`."
        ) from None
    if not files:
        raise TaskError(
            f"{address} has no Parquet, CSV or JSONL file{' of that name' if pattern else ''}.\n"
            "  Name its files: hf://datasets/<owner>/<name>/data/*.parquet."
        )
    return files, commit


def _wanted(names: Sequence[str], pattern: str) -> list[str]:
    tables = sorted(name for name in names if Path(name).suffix.lower() in KINDS)
    if pattern:
        return [name for name in tables if fnmatch(name, pattern)]
    return [name for name in tables if Path(name).suffix.lower() in PARQUET] or tables
