"""Where the weights of decision models come from: a folder, or the cache of the Hugging Face Hub, fetched once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from nbannot.asking.request_reply import ModelInfo
from nbannot.errors import ModelError
from nbannot.tools.imports import load


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


class FetchedDecider:
    """What the engines of this process have in common whose weights lie in a folder or on the Hub.

    A subclass names its package and files, and loads the weights in `_load`.

    Attributes
    ----------
    package, module, extra
        What the package is called where it is installed, in Python, and how it is installed.
    modules
        What is imported first, in a thread that an interrupt does not cut.
    owner
        Whose repository a short name means.
    mark
        The file by which a folder with weights is known.
    below
        Where in a repository they lie; "" at its root.
    files, needed
        What is fetched, and the file without which what lies in the cache is not whole.
    folder_words
        What a folder must hold, for the letter.
    rewritten
        Files that the package itself changes when it loads the weights: no part of their digest.
    """

    package: ClassVar[str]
    module: ClassVar[str]
    modules: ClassVar[Sequence[str]]
    extra: ClassVar[str]
    owner: ClassVar[str]
    mark: ClassVar[str]
    below: ClassVar[str] = ""
    files: ClassVar[Sequence[str]]
    needed: ClassVar[str]
    folder_words: ClassVar[str]
    rewritten: ClassVar[Collection[str]] = ()

    def __init__(self, name: str) -> None:
        if importlib.util.find_spec(self.module) is None:
            raise ModelError(
                f"decide/{name} needs the package {self.package}, which is not installed.\n  {self.extra}"
            )
        self.name = name
        self._info: ModelInfo | None = None
        self.capabilities: dict[str, Any] = {}

    def info(self) -> ModelInfo:
        """Return name, digest and revision of the model; loads it.

        Raises
        ------
        ModelError
            If it cannot be found, fetched or loaded.
        """
        if self._info is None:
            folder, revision = self._found()
            digest = digest_of(folder, without=self.rewritten)
            load(*self.modules)
            try:
                about = self._load(folder)
            except Exception as error:  # each package, and what it stands on, raises its own
                raise ModelError(
                    f"decide/{self.name} cannot be loaded from {folder} ({type(error).__name__}: {error}).\n"
                    "  Remove the folder and run again to fetch it anew."
                ) from error
            details = {
                "package": self.package,
                **about.details,
                **({"revision": revision} if revision else {}),
            }
            self._info = replace(about, digest=f"sha256:{digest}", details=details)
        return self._info

    def _load(self, folder: Path) -> ModelInfo:
        """Load the weights, and return what is known of the model but for digest, package and revision."""
        raise NotImplementedError

    @property
    def _shown_name(self) -> str:
        return Path(self.name).name if self._is_folder() else self.name.partition("@")[0]

    def _is_folder(self) -> bool:
        return (Path(self.name).expanduser() / self.mark).exists()

    def _found(self) -> tuple[Path, str]:
        """Return the folder of the weights, and the commit they are from."""
        if self._is_folder():
            return Path(self.name).expanduser(), ""
        repository, _, revision = self.name.partition("@")
        root = fetched(
            self.name,
            repository if "/" in repository else f"{self.owner}/{repository}",
            revision,
            self.files,
            self.needed,
            self.folder_words,
        )
        return root / self.below, root.name


def digest_of(folder: Path, without: Collection[str] = ()) -> str:
    """Return SHA-256 (hex) of all files of a model, names and contents, but for those of some names."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in without):
        name = path.relative_to(folder).as_posix().replace(os.sep, "/")
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
