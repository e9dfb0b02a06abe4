"""A desk in a real Chromium whose kernel, browser or both are killed (SIGKILL) at random moments while keys are typed.

An answer counts as confirmed when the screen has said "kept". After each kill the log must hold every confirmed answer,
in order, and at most the keys that were under way besides; opened again, the CSV must equal the log.
Run: python bench/bench_browser_kills.py [kills] [seed]      (needs chromium, notebook, playwright)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, sync_playwright

import nbannot as nba
from nbannot.comparing.coder_log import read_log
from nbannot.desk.kept_csv import cells_of
from nbannot.desk.labels import Key, Ledger, row_of
from nbannot.study.reading import read_csv

N_TEXTS = 2_000
TOPICS = ["war", "tax", "road", "school"]
SIDES = ["for", "against", "mixed"]
CELL = """
import os, sys
sys.path.insert(0, {bench!r})
from bench_browser_kills import made
import nbannot as nba
open("kernel.pid", "w").write(str(os.getpid()))
desk = nba.code(made(), coder="anna", order="file", take_over=True)
desk
"""
READY = """async () => {
  const app = window.jupyterapp; await app.started; await app.restored;
  for (let i = 0; i < 1200; i++) {
    const w = app.shell.currentWidget;
    if (w && w.sessionContext && w.sessionContext.session?.kernel) { await w.context.ready; return; }
    await new Promise(r => setTimeout(r, 50));
  }
}"""
DISMISS = "() => document.querySelectorAll('.jp-Dialog .jp-mod-accept').forEach(button => button.click())"
"""What Jupyter says of a kernel that died lies above the page until it is clicked away."""
NEW = "() => document.querySelector('.nba-root:not(.before):not(.dead)')"
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
WATCH = """() => {
  const root = document.querySelector('.nba-root:not(.before)');
  window.keptOf = []; window.lastSaid = '';
  const say = root.querySelector('.nba-status');
  new MutationObserver(() => {
    window.lastSaid = say.textContent;
    if (say.textContent.startsWith('kept')) window.keptOf.push(say.textContent);
  }).observe(say, { childList: true });
  root.focus();
  return root.querySelector('.nba-text').textContent;
}"""
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-sync", "--disable-background-networking", "--disable-component-update"]  # fmt: skip
Answer = tuple[str, str, Any]


def made() -> nba.Task:
    """Return a task with three questions about every text."""
    import pandas as pd

    questions = [
        nba.checkbox("Judges"),
        nba.dropdown("Side", options=SIDES),
        nba.multiselect("Topics", options=TOPICS),
    ]
    book = nba.Codebook.build(text_column="text", sections={"S": questions})
    ids = [f"t{i}" for i in range(N_TEXTS)]
    texts = [f"text {i} 👍🏽 end" for i in range(N_TEXTS)]
    return nba.Task(pd.DataFrame({"id": ids, "text": texts}), book, name="kills")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def reached(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(900):
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer")


class Lab:
    """A Jupyter server with one notebook, a Chromium, and the page that a coder types in."""

    def __init__(self, root: Path, driver: Any) -> None:
        self.root, self._driver, self.page = root, driver, None
        self.log = root / "outputs/kills/coders/anna.log.jsonl"
        import nbformat.v4 as v4

        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        cell = v4.new_code_cell(CELL.format(bench=str(Path(__file__).parent)))
        (root / "desk.ipynb").write_text(v4.writes(v4.new_notebook(cells=[cell], metadata=kernel)))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        home = {
            n: str(root / "home" / n) for n in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }
        command = [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", f"--port={port}",
                   "--ip=127.0.0.1", "--ServerApp.disable_check_xsrf=True", "--IdentityProvider.token=",
                   "--LabApp.expose_app_in_browser=True",
                   "--JupyterNotebookApp.expose_app_in_browser=True"]  # fmt: skip
        with (root / "server.log").open("w") as out:
            self._server = subprocess.Popen(
                command, cwd=root, env={**os.environ, **home}, stdout=out, stderr=out
            )
        reached(self.url + "api")
        self._chromium: subprocess.Popen[bytes] | None = None

    def browser(self) -> None:
        """Start a Chromium of its own process group and open the notebook in it."""
        port = free_port()
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
        profile = tempfile.mkdtemp(dir=self.root)
        self._chromium = subprocess.Popen(
            [program, *FLAGS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        reached(f"http://127.0.0.1:{port}/json/version")
        context = self._driver.chromium.connect_over_cdp(f"http://127.0.0.1:{port}").contexts[0]
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(self.url + "notebooks/desk.ipynb")
        self.page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell")

    def desk(self) -> None:
        """Run the cell until a new desk is on the screen, and watch what it says."""
        pid = self.root / "kernel.pid"
        for _ in range(60):
            pid.unlink(missing_ok=True)
            self.page.evaluate(READY)
            self.page.evaluate(
                "() => document.querySelectorAll('.nba-root').forEach(e => e.classList.add('before'))"
            )
            self.page.evaluate(RUN)
            try:
                self.page.wait_for_function(NEW, timeout=20_000)
            except Error:
                continue
            if pid.exists():
                self.page.evaluate(DISMISS)
                self.page.evaluate(WATCH)
                return
        raise RuntimeError("the desk does not come back")

    def kill(self, kind: str) -> None:
        """Kill what is to be killed, with SIGKILL."""
        if kind in ("browser", "both") and self._chromium is not None:
            os.killpg(self._chromium.pid, signal.SIGKILL)
        if kind in ("kernel", "both"):
            os.kill(int((self.root / "kernel.pid").read_text()), signal.SIGKILL)

    def end(self) -> None:
        """End server and browser."""
        if self._chromium is not None and self._chromium.poll() is None:
            os.killpg(self._chromium.pid, signal.SIGKILL)
        self._server.terminate()


def planned(lab: Lab, draw: random.Random) -> Any:
    """Yield (answer, keys) from the first open question on, as a coder who goes on and on."""
    task = made()
    ledger = Ledger(read_log(lab.log)[0])
    for i in task.ids:
        given = ledger.of(Key(i)).values
        for column in ("S_Judges", "S_Side", "S_Topics"):
            if column in given:
                continue
            if column == "S_Judges":
                value: Any = draw.randrange(2)
                keys = [str(value)]
            elif column == "S_Side":
                place = draw.randrange(3)
                value, keys = SIDES[place], [str(place + 1)]
            else:
                places = sorted(draw.sample(range(4), draw.randrange(5)))
                value, keys = [TOPICS[p] for p in places], [str(p + 1) for p in places]
            yield (i, column, value), [*keys, "Enter"]


def typed(lab: Lab, draw: random.Random) -> tuple[list[Answer], int]:
    """Type until something dies; return what was typed, in order, and how much of it the screen had confirmed."""
    given: list[Answer] = []
    kept = 0
    ahead = draw.choice([1, 1, 4])  # one after the other, or keys that run ahead of the kernel
    for answer, keys in planned(lab, draw):
        given.append(answer)
        try:
            for key in keys:
                lab.page.keyboard.press(key)
            if len(given) % ahead:
                continue
            lab.page.wait_for_function(
                f"() => window.keptOf.length >= {len(given)} || window.lastSaid.startsWith('NOT KEPT')",
                timeout=15_000,
            )
            kept, last = lab.page.evaluate("() => [window.keptOf.length, window.lastSaid]")
        except Error:
            return given, kept
        if last.startswith("NOT KEPT"):
            return given, kept
    return given, kept


def answers(lab: Lab) -> list[Answer]:
    """Return the answers in the log since the desk was opened last."""
    lines = read_log(lab.log)[0]
    last = max(n for n, line in enumerate(lines) if line["action"] == "open")
    kept = [line for line in lines[last:] if line["action"] == "answer"]
    return [(line["text_id"], line["column"], line["value"]) for line in kept]


def csv_differs(lab: Lab) -> bool:
    """Return whether the CSV is another than the log makes."""
    book, ledger = made().codebook, Ledger(read_log(lab.log)[0])
    rows = {row[0]: list(row[1:]) for row in read_csv(lab.log.with_name("anna.csv")).iter_rows()}
    wanted = {key.text_id: cells_of(book, row_of(book, coded.values)) for key, coded in ledger.coded.items()}
    blank = [""] * len(book)
    return any(rows.get(i, blank) != wanted.get(i, blank) for i in {*rows, *wanted})


def main(kills: int, seed: int) -> None:
    """Kill so many times, and compare after each."""
    lost = invented = unlike = confirmed = kept_unconfirmed = 0
    kinds: Counter[str] = Counter()
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        lab = Lab(Path(place), driver)
        try:
            lab.browser()
            for number in range(kills):
                lab.desk()
                unlike += csv_differs(lab)
                kind = ("kernel", "browser", "both")[number % 3]
                kinds[kind] += 1
                timer = threading.Timer(0.2 + draw.random() * 2.5, lab.kill, [kind])
                timer.start()
                given, kept = typed(lab, draw)
                timer.join()
                found = answers(lab)
                confirmed += kept
                lost += sum(a != b for a, b in zip(given[:kept], found, strict=False)) + max(
                    0, kept - len(found)
                )
                invented += sum(a != b for a, b in zip(given, found, strict=False)) + max(
                    0, len(found) - len(given)
                )
                kept_unconfirmed += max(0, len(found) - kept)
                print(json.dumps({"kill": number + 1, "what": kind, "confirmed": kept, "in the log": len(found),
                                  "typed": len(given)}), flush=True)  # fmt: skip
                if kind != "kernel":
                    lab.browser()
            lab.desk()
            unlike += csv_differs(lab)
        finally:
            lab.end()
    print(f"{kills} kills ({dict(kinds)}), {confirmed:,} answers confirmed on the screen:")
    print(f"  {lost} lost, {invented} invented, {kept_unconfirmed} kept that the screen had not said yet, "
          f"{unlike} times the CSV was unlike the log")  # fmt: skip


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*(numbers + [100, 1][len(numbers) :]))
