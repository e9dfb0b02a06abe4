"""A page printed to PDF by a browser that is on the machine, with every section open: what its own print would give."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nbannot.errors import NbannotError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
            "msedge", "brave-browser")  # fmt: skip
"""Programs of one family, which print in the same words."""
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
"""Where they are on macOS and Windows, which do not have them on the path."""
FLAGS = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-extensions", "--no-pdf-header-footer")  # fmt: skip
SECONDS = 90


def pdf_of(page: str) -> bytes:
    """Return a page as PDF.

    The browser is the one that the environment variable ``CHROMIUM`` names, else the first that is found of Chromium,
    Chrome, Edge and Brave. It gets a profile of its own, which is thrown away, and the page from a private file.

    Raises
    ------
    NbannotError
        If there is no such browser, or it did not print.
    """
    browser = _browser()
    if browser is None:
        raise NbannotError(
            "a PDF is printed by a browser (Chromium, Chrome, Edge), and none was found here.\n"
            "  Name one in the environment variable CHROMIUM, or save('….html') and print that from any browser."
        )
    opened = re.sub(r"<details(?![^>]* open)", "<details open", page)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        source, target = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_text(opened, encoding="utf-8", errors="replace")
        command = [
            browser,
            *FLAGS,
            *_as_root(),
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={target}",
        ]
        try:
            ended = subprocess.run(
                [*command, source.as_uri()], capture_output=True, timeout=SECONDS, check=False
            )
            if target.exists():
                return target.read_bytes()
            reason = f"it ended with {ended.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = (
                f"no answer in {SECONDS} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
            )
    raise NbannotError(
        f"{Path(browser).name} did not print the page: {reason}.\n  save('….html') and print that from any browser."
    )


def _browser() -> str | None:
    if named := os.environ.get("CHROMIUM"):
        return named
    on_path = (shutil.which(name) for name in BROWSERS)
    return next((path for path in on_path if path), next((p for p in PLACES if Path(p).exists()), None))


def _as_root() -> list[str]:
    """Return what a browser wants to be told in a container, where everything runs as root; the page has no script."""
    return ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []
