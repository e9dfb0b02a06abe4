"""Weights from the Hugging Face Hub: a file that was named, or the one of a repository that fits this machine.

``hf://owner/repository/file.gguf`` is that file. ``hf://owner/repository`` is whichever file of the repository was
fetched before; where there is none, the most precise one that takes no more than half of this machine's memory. The
Hub is asked one question to find out, and the size is told before anything is fetched. What was chosen is known by its
hash in every run, so that a choice that falls out differently on another machine makes another run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbannot.errors import ModelError, listed
from nbannot.models.gguf import Say
from nbannot.tools.files import free_disk

SHARE_OF_MEMORY = 0.5
"""What a model may take of the memory; the rest is for the system, the notebook and the browser."""
WORKING_FACTOR, WORKING_SPACE = 1.1, 600_000_000
"""A model of b bytes is taken to need about 1.1 b + 0.6 GB: weights, context and buffers. A rule of thumb."""
LEFT_FREE = 500_000_000
"""Bytes that are to be left on the disk."""
UNQUANTISED = re.compile(r"[-_.](?:BF16|F16|FP16|F32|FP32)\b", re.IGNORECASE)
NO_MODEL = re.compile(r"mmproj|imatrix|-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
"""Names of files that are no model of their own: image encoders, calibration data, parts of a file."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; its size is in bytes."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} ({gigabytes(self.size)})"


def fetched(name: str, say: Say) -> Path:
    """Return the file that ``hf://...`` stands for, fetched if need be.

    Raises
    ------
    ModelError
        If the name is none of the Hub, no file of the repository fits, or it cannot be fetched.
    """
    place = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+\.gguf))?", name)
    if place is None:
        raise ModelError(
            f"'{name}' does not name a model on the Hugging Face Hub.\n"
            '  Type model = "local/hf://owner/repository", or "local/hf://owner/repository/file.gguf".'
        )
    repository, revision, file_name = place.groups()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _in_our_words(name, repository, revision):
        if file_name is None:
            here = _here(repository, revision)
            if here is not None:
                return here
            file = _chosen(name, repository, _files_of(repository, revision), say)
            return Path(hf_hub_download(repository, file.name, revision=revision))
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(repository, file_name, revision=revision, local_files_only=True))
        say(f"Fetching {file_name} of {repository} from the Hugging Face Hub.")
        return Path(hf_hub_download(repository, file_name, revision=revision))


def _here(repository: str, revision: str | None) -> Path | None:
    """Return the largest model of a repository that was fetched before; nobody is asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    files = [file for file in folder.rglob("*.gguf") if not NO_MODEL.search(file.name) and file.is_file()]
    return max(files, key=lambda file: (file.stat().st_size, file.name), default=None)


def _files_of(repository: str, revision: str | None) -> list[HubFile]:
    """Ask the Hub which models a repository has, and how large they are."""
    from huggingface_hub import HfApi

    about = HfApi().model_info(repository, revision=revision, files_metadata=True)
    return [
        HubFile(one.rfilename, one.size)
        for one in about.siblings or ()
        if one.rfilename.lower().endswith(".gguf") and one.size and not NO_MODEL.search(one.rfilename)
    ]


def _chosen(name: str, repository: str, files: Sequence[HubFile], say: Say) -> HubFile:
    """Return the file to fetch, and say its size.

    Raises
    ------
    ModelError
        If there is none, none fits into memory, or the disk is too full.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    files = sorted(files, key=lambda file: (-file.size, file.name))
    if not files:
        raise hub_error(
            name,
            "has no model in the format GGUF",
            f"Look for a repository whose name ends in GGUF, or at https://huggingface.co/{repository}/tree/main",
        )
    memory = machine_memory()
    fitting = [file for file in files if memory_of(file.size) <= SHARE_OF_MEMORY * memory]
    quantised = [file for file in fitting if not UNQUANTISED.search(file.name)]
    smallest, needed = files[-1], gigabytes(memory_of(files[-1].size))
    if not fitting:
        raise hub_error(
            name,
            f"is too large: its smallest file, {smallest}, would take about {needed}, and of "
            f"the {gigabytes(memory)} of memory here half is for a model",
            f"Choose a smaller model (nbannot models), or try all the same: local/hf://{repository}/{smallest.name}",
        )
    file = (quantised or fitting)[0]
    free = free_disk(Path(HF_HUB_CACHE))
    if file.size + LEFT_FREE > free:
        raise hub_error(
            name,
            f"does not fit on the disk: {file}, and {gigabytes(free)} are free in '{HF_HUB_CACHE}'",
            "Make room there, or set HF_HOME to a folder on another disk",
        )
    others = listed([str(other) for other in files if other is not file], 4)
    say(
        f"Fetching {file} of {repository} from the Hugging Face Hub: the most precise quantisation for "
        f"{gigabytes(memory)} of memory." + (f" Also there: {others}." if others else "")
    )
    return file


def machine_memory() -> int:
    """Return the memory of this machine in bytes; in a container, what the container may use."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            total = min(total, int(Path(limit).read_text()))
    return total


def memory_of(size: int) -> float:
    """Return about how many bytes of memory a model takes whose file has `size` bytes."""
    return WORKING_FACTOR * size + WORKING_SPACE


def gigabytes(size: float) -> str:
    """Return bytes in words.

    >>> gigabytes(98_362_432), gigabytes(4_280_000_000)
    ('98 MB', '4.3 GB')
    """
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


@contextlib.contextmanager
def _in_our_words(name: str, repository: str, revision: str | None) -> Iterator[None]:
    """Turn what the library raises into a letter."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise hub_error(
            name,
            "asks you to accept its terms first",
            f"Accept them at https://huggingface.co/{repository}, then type 'hf auth login' in a terminal",
        ) from error
    except OfflineModeIsEnabled as error:
        raise hub_error(
            name,
            "is not in the cache, and HF_HUB_OFFLINE forbids asking the Hub",
            "Unset HF_HUB_OFFLINE, or give the path of a .gguf file you have",
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(name) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise hub_error(
            name,
            "is not on the Hub, or is private",
            f"Look at https://huggingface.co/{repository}/tree/{revision or 'main'} for the exact file name",
        ) from error
    except Exception as error:
        # the library's version decides whose errors these are; those of requests are OSErrors as well
        if type(error).__module__.startswith(("httpx", "requests")):
            raise _unreachable(name) from error
        if isinstance(error, HfHubHTTPError | OSError):
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise hub_error(name, f"could not be fetched: {first_line}", "Try again later") from error
        raise


def _unreachable(name: str) -> ModelError:
    return hub_error(
        name,
        "is not in the cache, and the Hub cannot be reached",
        "Try again with a network, or give the path of a .gguf file you have",
    )


def hub_error(name: str, what: str, todo: str) -> ModelError:
    """Return the letter about a model of the Hub."""
    return ModelError(f"'{name}' {what}.\n  {todo}.")


def fetched_before() -> list[tuple[str, int]]:
    """Return the models of the Hub that are in its cache on this machine, as name and size in bytes."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError):
        return []
    files = {
        (f"local/hf://{repository.repo_id}/{file.file_name}", file.size_on_disk)
        for repository in repositories
        if repository.repo_type == "model"
        for revision in repository.revisions
        for file in revision.files
        if file.file_name.lower().endswith(".gguf") and not NO_MODEL.search(file.file_name)
    }
    return sorted(files)
