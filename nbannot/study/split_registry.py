"""Where this user's splits lie, so that a locked task is locked in every working folder.

A task with a folder of its own carries its split with it. A frame, a table, a bundled task or one from the Hub has no
such place: its split lies below the outputs of one project, and a session that works elsewhere would not see it. So
each split is entered here, with a short digest of every text of its test half, and a task is recognised by its texts,
whatever it is called: entries hold no text, no label and no id.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import NbannotError
from nbannot.tools.files import data_folder, read_json, write_json

DIGEST = 8
"""Bytes that stand for a text; of a million texts two share one in one of 37 million cases."""
SAME, ENOUGH, DISTINCT = 0.5, 0.1, 0.9
"""Shares: of texts with a known id that must be the same; of texts that must be known where the ids are other ones;
of a test half's texts that must differ from each other for them to say whose they are."""


@dataclass(frozen=True)
class Entry:
    """One split: the folder with its ``split.json``, the label columns, the digests in the order of its test ids.

    `split_hash` and `created` say which split it was; `earlier` those of the same texts whose ``split.json`` was gone
    when it was made.
    """

    folder: Path
    columns: frozenset[str]
    digests: tuple[str, ...]
    split_hash: str = ""
    created: str = ""
    earlier: tuple[Mapping[str, Any], ...] = ()

    def holds_texts_of(self, mine: Sequence[str]) -> bool:
        """Return whether texts with these digests are those of this split, by the texts alone."""
        known = set(self.digests)
        found = known & set(mine)
        return len(known) >= DISTINCT * len(self.digests) and len(found) >= ENOUGH * min(
            len(known), len(set(mine))
        )

    def test_ids(self, ids: Sequence[str], mine: Sequence[str], stored: Collection[str]) -> set[str]:
        """Return which of a task's ids are texts of this test half; empty if it is not this split's task.

        Parameters
        ----------
        ids, mine
            The ids of the task, and the digests of its texts.
        stored
            The ids of the test half, in the order of ``split.json``.
        """
        if len(stored) != len(self.digests):
            return set()
        digest_of = dict(zip(stored, self.digests, strict=True))
        alike = [(i, d, digest_of[i] == d) for i, d in zip(ids, mine, strict=True) if i in digest_of]
        shared = len({d for _, d, same in alike if same})
        if shared and shared >= SAME * len({d for _, d, _ in alike}):
            return {i for i, *_ in alike}
        known = set(self.digests)
        if not self.holds_texts_of(mine):
            return set()
        return {i for i, d in zip(ids, mine, strict=True) if d in known}


def enter(
    folder: Path,
    split: Mapping[str, Any],
    texts_of: Mapping[str, str],
    columns: Sequence[str],
) -> bool:
    """Enter a split, unless it is there already; return whether it is.

    Parameters
    ----------
    split
        The content of its ``split.json``.
    texts_of
        Id -> text.
    """
    path, split_hash = path_of(folder), split["hash"]["test"]
    with contextlib.suppress(NbannotError):
        if path.exists() and read_json(path).get("test") in (None, split_hash):
            return True
    digests = [digest(texts_of[i]) if i in texts_of else "" for i in split["test_ids"]]
    entry = {
        "folder": str(folder),
        "test": split_hash,
        "created": split.get("created", ""),
        "earlier": list(split.get("earlier") or ()),
        "columns": list(columns),
        "texts": digests,
    }
    with contextlib.suppress(NbannotError):  # a home that takes no files: the split itself is not less locked
        write_json(path, entry)
    return path.exists()


def entries(columns: Collection[str]) -> Iterator[Entry]:
    """Yield the splits that were entered and hide labels of any of these columns, the oldest first."""
    try:
        paths = sorted(_home().glob("*.json"), key=lambda path: (path.stat().st_mtime, path.name))
    except OSError:
        return
    for path in paths:
        try:
            stored: dict[str, Any] = read_json(path)
            entry = Entry(
                Path(stored["folder"]), frozenset(stored["columns"]), tuple(stored["texts"]),
                stored.get("test") or "", stored.get("created") or "", tuple(stored.get("earlier") or ()),
            )  # fmt: skip
        except (NbannotError, KeyError, TypeError):
            continue
        if entry.columns & set(columns):
            yield entry


def digest(text: str) -> str:
    """Return what stands for a text: whitespace at its ends and in a row counts as one blank."""
    words = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(words, digest_size=DIGEST).hexdigest()


def _home() -> Path:
    return data_folder() / "splits"


def path_of(folder: Path) -> Path:
    """Return where the entry of a folder's split is."""
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    return _home() / f"{name}.json"
