"""Where the weights of decision models come from: a folder, or the cache of the Hugging Face Hub, fetched once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nbannot.errors import ModelError


def fetched(
    name: str, repository: str, revision: str, patterns: Sequence[str], needed: str, folder_words: str
) -> Path:
    """Return the folder of a repository's files, from the cache where they are there, else from the Hub.

    Parameters
    ----------
    name
        The model as it was asked for, for the letter.
    revision
        Branch, tag or commit; "" for the newest.
    patterns
        The files that are wanted.
    needed
        One of them, without which what lies in the cache is not whole.
    folder_words
        What a folder with weights must hold, for the letter.

    Raises
    ------
    ModelError
        If they cannot be had.
    """
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {"revision": revision or None, "allow_patterns": list(patterns)}
    try:
        root = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if not (root / needed).exists():
            raise FileNotFoundError(needed)
    except Exception:  # noqa: BLE001 - whatever is missing here is asked of the Hub
        try:
            root = Path(snapshot_download(repository, **wanted))
        except Exception as error:  # noqa: BLE001 - the Hub, the network and the name have errors of many kinds
            raise ModelError(
                f"the weights of decide/{name} cannot be had ({type(error).__name__}).\n"
                f"  Look at https://huggingface.co/{repository}, or name a folder with them: {folder_words}"
            ) from None
    return root


def digest_of(folder: Path, without: Collection[str] = ()) -> str:
    """Return SHA-256 (hex) of all files of a model, names and contents, but for those of some names."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in without):
        name = path.relative_to(folder).as_posix().replace(os.sep, "/")
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
