"""The files of a project as readers see them, and what writers are given."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nbannot.errors import TaskError
from nbannot.exchange.said import slugs
from nbannot.study.codebook import Codebook
from nbannot.tools.given import parse_json

SIDECAR = "nbannot.json"
LARGEST = 2**31
"""Bytes that are unpacked from an archive at most."""


@dataclass
class Folder:
    """Files by their path inside a project, whether it is one file, a folder or a zip archive.

    Attributes
    ----------
    annotators
        The number, file, folder or session that nbannot wrote for a coder -> the coder.
    ids
        Name of a file as nbannot wrote it -> id of its text.
    word_columns
        The columns of the textboxes, where the codebook is known.
    """

    place: Path
    files: dict[str, bytes]
    annotators: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    word_columns: tuple[str, ...] = ()
    _parsed: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Path) -> Folder:
        """Return the files at a place.

        Raises
        ------
        TaskError
            If there is none, or it cannot be read.
        """
        try:
            if place.is_dir():
                paths = (p for p in sorted(place.rglob("*")) if p.is_file() and not p.name.startswith("."))
                return cls(place, {p.relative_to(place).as_posix(): p.read_bytes() for p in paths})
            if zipfile.is_zipfile(place):
                with zipfile.ZipFile(place) as archive:
                    kept = [i for i in archive.infolist() if not i.is_dir() and "__MACOSX" not in i.filename]
                    if sum(i.file_size for i in kept) > LARGEST:
                        raise TaskError(
                            f"{place} unpacks to more than 2 GB.\n  Unpack it, and give the folder."
                        )
                    return cls(place, {i.filename: archive.read(i) for i in kept})
            return cls(place, {place.name: place.read_bytes()})
        except FileNotFoundError:
            raise TaskError(f"no project at {place}.\n  Give a file, a folder or a zip archive.") from None
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise TaskError(f"{place} cannot be read: {error}.") from None

    def ending(self, *suffixes: str) -> list[str]:
        """Return the files whose names end so, nbannot's own left out."""
        return [name for name in self.files if name.endswith(suffixes) and not name.endswith(SIDECAR)]

    def text(self, name: str) -> str:
        """Return a file as text, line ends untouched."""
        try:
            return self.files[name].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TaskError(
                f"{name} is not UTF-8 (byte {error.start:,}).\n  Export it again as UTF-8."
            ) from None

    def items(self, name: str) -> list[Any]:
        """Return what a JSON file holds, as a list; of JSON lines one item each."""
        if name not in self._parsed:
            text = self.text(name)
            try:
                if name.endswith(".jsonl"):
                    items: Any = [parse_json(line) for line in text.split("\n") if line.strip()]
                else:
                    items = parse_json(text)
            except ValueError as error:
                raise TaskError(f"{name} is not valid JSON: {error}.\n  Export it again.") from None
            self._parsed[name] = items if isinstance(items, list) else [items]
        return self._parsed[name]


@dataclass
class WrittenText:
    """One text to be written: coder -> column -> value; the coder "" is the gold."""

    text_id: str
    text: str
    metadata: dict[str, str]
    people: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]


@dataclass
class Written:
    """What is to be written, and the names that annotations were given on the way."""

    name: str
    codebook: Codebook
    texts: list[WrittenText]
    annotators: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def coders(self) -> dict[str, bool]:
        """Return every coder and model, and whether it is a person; in order of appearance."""
        people = {coder: True for text in self.texts for coder in text.people}
        return people | {model: False for text in self.texts for model in text.models}


def one_line(value: Any) -> str:
    """Return a value of a tool's metadata as a cell."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def file_names(written: Written, suffix: str) -> dict[str, str]:
    """Return coder -> the file or folder of what they coded, and note whose each is; the gold is "gold"."""
    coders = list(written.coders()) or [""]
    names = slugs(coder or "gold " for coder in coders)
    by_coder = {coder: names[coder or "gold "] + suffix for coder in coders}
    written.annotators.update({name: coder for coder, name in by_coder.items()})
    return by_coder


def coder_of_file(folder: Folder, path: str, n_files: int) -> str:
    """Return whose file this is: as nbannot wrote it, nobody's where it is the only one, else its name's."""
    name = PurePosixPath(path)
    if name.name in folder.annotators:
        return folder.annotators[name.name]
    return "" if n_files == 1 or name.stem == "all" else name.stem
