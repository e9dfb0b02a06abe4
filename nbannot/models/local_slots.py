"""What a local model has read: the places in which it reads, and the beginnings of prompts kept between sessions.

A beginning that is the same for every text (instructions, codebook and its worked examples; never a text that is
annotated) is kept in the folder ``prefixes`` of the cache, so that the next session does not read it again. It is found
by the weights, the engine's version, the processor and its own tokens, and used only if its content still has the
digest in its name.
``NBANNOT_PREFIXES`` names another folder; ``NBANNOT_PREFIXES=off`` keeps nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from nbannot.models.local_prompts import Tokens
from nbannot.tools.files import cache_folder

KEPT_BYTES = 256 << 20
"""Most that is kept between sessions, of all models together; the longest unused goes first."""

VARIABLE = "NBANNOT_PREFIXES"


@dataclass(slots=True)
class Slot:
    """One place in which the model reads, and what it holds.

    Attributes
    ----------
    tokens, cuts
        What was read there, from the first token on, and where it was cut.
    trusted
        Where the next prompt goes on from what is there: so many tokens must not be read again.
    """

    number: int = 0
    tokens: Tokens = ()
    cuts: tuple[int, ...] = ()
    trusted: int = 0

    def holds(self, tokens: Tokens, cuts: tuple[int, ...]) -> None:
        """Take note of what it holds now."""
        self.tokens, self.cuts, self.trusted = tokens, cuts, 0

    def goes_on_from(self, tokens: Tokens, cuts: list[int]) -> bool:
        """Return whether a prompt can go on from the last of these cuts, with what is there up to it and nothing more.

        The model goes on from everything that it has in common with a prompt. It must part exactly at the cut.
        """
        cut = cuts[-1]
        if self.cuts[: len(cuts)] != tuple(cuts) or self.tokens[:cut] != tokens[:cut]:
            return False
        return len(self.tokens) == cut or self.tokens[cut] != tokens[cut]


class KeptPrefixes:
    """The beginnings of prompts that are kept between sessions, for one model on one kind of machine."""

    def __init__(self, digest: str, engine: str) -> None:
        self._folder = _place()
        self._of = hashlib.sha256(f"{digest}|{engine}|{_processor()}".encode()).hexdigest()[:16]

    def fetch(self, name: str, to: Path) -> bool:
        """Copy a state to where the model can read it; one whose content has changed is removed instead."""
        if self._folder is None:
            return False
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"{self._of}-{name}-*"):
                content = path.read_bytes()
                if path.name.endswith(_digest(content)):
                    to.write_bytes(content)
                    os.utime(path)
                    return True
                path.unlink()
        return False

    def keep(self, name: str, path: Path) -> None:
        """Keep a state for later sessions; what cannot be written is not kept."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self._folder.glob(f"{self._of}-{name}-*")):
                return
            content = path.read_bytes()
            if len(content) > KEPT_BYTES // 4 or shutil.disk_usage(self._folder).free < 4 * KEPT_BYTES:
                return
            part = self._folder / f".{name}.{os.getpid()}.{threading.get_ident()}"  # no two writers share one
            part.write_bytes(content)
            part.chmod(0o600)
            part.replace(self._folder / f"{self._of}-{name}-{_digest(content)}")
            self._make_room(self._folder)

    @staticmethod
    def _make_room(folder: Path) -> None:
        found = [(path.stat(), path) for path in folder.iterdir()]
        size = sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda item: item[0].st_mtime):
            if size <= KEPT_BYTES:
                return
            path.unlink(missing_ok=True)
            size -= stat.st_size


def _place() -> Path | None:
    chosen = os.environ.get(VARIABLE, "")
    if chosen.casefold() in ("off", "0", "none"):
        return None
    return Path(chosen).expanduser() if chosen else cache_folder() / "prefixes"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _processor(cpuinfo: str = "/proc/cpuinfo") -> str:
    """Return what the last digits of a number may depend on: the processor's kind and its instructions."""
    try:
        told = Path(cpuinfo).read_text("utf-8", "replace")
    except OSError:
        told = ""
    flags = re.search(r"^(flags|Features)\s*:(.*)$", told, re.MULTILINE)
    return f"{platform.system()} {platform.machine()} {platform.processor()} {flags[2] if flags else ''}"
