"""The log of a desk: one line of JSON per action, on disk before anything says that it is kept.

A session holds a lock on its log. A second one is told so; where it takes over, the first notices at its next action,
because the log is longer than what it wrote, and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbannot.comparing.coder_log import Line, read_log
from nbannot.errors import DeskError


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Log:
    """The log of one session: read once, then only appended to; written again whole where somebody deleted it.

    Attributes
    ----------
    session
        A name of this session's own, in each of its lines.
    lines
        What the log held when it was opened.
    unread
        Numbers of the lines that cannot be read.

    Raises
    ------
    DeskError
        If another session holds the log, or its folder cannot be written to.
    """

    def __init__(self, path: Path, whose: str, *, take_over: bool = False) -> None:
        self.path, self.whose = path, whose
        self.session = uuid.uuid4().hex[:8]
        self._lock = FileLock(path.parent / f".{path.name}.lock", thread_local=False)
        self._closed = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            if not take_over:
                raise self._held() from None
        except OSError as error:
            raise self._cannot_write(error) from None
        try:
            self.lines, self.unread = read_log(path)
            self._size, self._unfinished = _end_of(path)
            self._written = bytearray(path.read_bytes() if self._size else b"")
        except BaseException:
            self.close("")
            raise

    def append(self, line: Mapping[str, Any]) -> Line:
        """Write one line to the disk and return it; when this returns, the line is kept.

        Raises
        ------
        DeskError
            If it is not kept: the disk is full or read-only, or another session has taken over.
        """
        if self._closed:
            raise DeskError(self._closed)
        full = {"time": now(), "session": self.session, **line}
        try:
            content = json.dumps(full, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        except UnicodeEncodeError:
            raise DeskError(
                "half a character (a piece of an emoji) cannot be kept.\n  Type or mark it again."
            ) from None
        try:
            if self._size and not self.path.exists():
                self._write_again()
            self._write(content)
        except OSError as error:
            raise self._cannot_write(error) from None
        return full

    def close(self, why: str) -> None:
        """Let the log go; what is appended afterwards is refused with these words."""
        self._closed = (
            self._closed or why or f"the desk of {self.whose} is closed.\n  Open it again: run its cell."
        )
        self._lock.release()

    def _write(self, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, flags, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size != self._size:
                raise self._overtaken()
            if self._unfinished:
                content = b"\n" + content  # what a killed session left stays a line of its own
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size)
                raise
            self._size, self._unfinished = size + len(content), False
            self._written += content
        finally:
            os.close(handle)

    def _write_again(self) -> None:
        """Write what was kept before once more: the folder was deleted while somebody codes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.release()  # of a lock that was deleted with it
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise self._overtaken() from None
        whole, unfinished = bytes(self._written), self._unfinished
        self._written.clear()
        self._size, self._unfinished = 0, False
        try:
            self._write(whole)
        except BaseException:
            self._written[:], self._size = whole, len(whole)
            raise
        finally:
            self._unfinished = unfinished

    def _held(self) -> DeskError:
        opened = [line for line in read_log(self.path)[0] if line.get("action") == "open"]
        who = ""
        if opened:
            last = opened[-1]
            since = str(last.get("time"))[:16].replace("T", " ")
            who = f" since {since} UTC (process {last.get('process')} on {last.get('host')})"
        return DeskError(
            f"{self.whose} is being coded in another session{who}.\n"
            "  Go on there, or close it: restart its kernel. To go on here instead: take_over=True."
        )

    def _overtaken(self) -> DeskError:
        self.close(
            f"the desk of {self.whose} was opened in another session, which has taken over; this answer is not kept.\n"
            "  Go on there, or run this cell again with take_over=True."
        )
        return DeskError(self._closed)

    def _cannot_write(self, error: OSError) -> DeskError:
        return DeskError(
            f"not kept: cannot write {self.path}: {error.strerror}.\n"
            "  Make room on the disk or make the folder writable, then give the answer again; what was kept before is "
            "safe."
        )


def _end_of(path: Path) -> tuple[int, bool]:
    """Return the size of a file, and whether its last line is unfinished."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return size, bool(size) and file.read(1) != b"\n"
    except FileNotFoundError:
        return 0, False


def who_opens() -> Line:
    """Return what the first line of a session says of the machine."""
    return {"action": "open", "process": os.getpid(), "host": socket.gethostname()}
