"""Imports that an interrupt cannot cut in half."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from nbannot.tools import imports
from nbannot.tools.imports import load

SLOW = "import os, time\nwhile not os.path.exists({path!r}): time.sleep(0.01)\nvalue = 1\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_is_loaded_is_there(modules: Path) -> None:
    (modules / "nba_quick.py").write_text("import threading\nwhere = threading.current_thread().name\n")
    load("nba_quick", "json")
    assert sys.modules["nba_quick"].where == "nbannot-imports"


def test_a_thread_imports_by_itself(modules: Path) -> None:
    (modules / "nba_aside.py").write_text("import threading\nwhere = threading.current_thread().name\n")
    thread = threading.Thread(target=load, args=("nba_aside",), name="other")
    thread.start()
    thread.join()
    assert sys.modules["nba_aside"].where == "other"


def test_a_fault_of_the_import_arrives(modules: Path) -> None:
    (modules / "nba_broken.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load("nba_broken")
    with pytest.raises(ModuleNotFoundError, match="nba_absent"):
        load("nba_absent")


def test_an_interrupt_ends_the_waiting_and_not_the_import(modules: Path) -> None:
    go_on = modules / "go_on"
    (modules / "nba_slow.py").write_text(SLOW.format(path=str(go_on)))
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        load("nba_slow")
    go_on.touch()  # until now the import could not have ended
    load("nba_slow")
    assert sys.modules["nba_slow"].value == 1


@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.4, 0.6])
def test_a_first_run_that_is_interrupted_while_it_imports_can_be_run_again(
    after_s: float, tmp_path: Path
) -> None:
    script = f"""
import _thread, threading
import nbannot as nba
threading.Timer({after_s}, _thread.interrupt_main).start()
try:
    nba.run("policy-sentiment", model="mock?slow_s=0.05&parallel=1", limit=12)
    raise SystemExit("was not interrupted")
except nba.NbannotError as letter:
    assert "stopped" in str(letter), letter
except KeyboardInterrupt:
    pass  # before the door was open
print(nba.run("policy-sentiment", model="mock?slow_s=0.05&parallel=1", limit=12).status)
import sys
assert "aiohttp" not in sys.modules, "a model of this process needs no client"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("complete\n", 0), done.stderr


@pytest.mark.parametrize("ask", [load, import_module], ids=["load", "import"])
def test_an_import_in_slices_hurries_when_somebody_waits_for_it(
    modules: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object]
) -> None:
    """Left alone it would rest between its modules; how long is made up here, so that nothing depends on the clock."""
    rested = threading.Event()

    class Clock:
        worked = 0.0
        monotonic = staticmethod(time.monotonic)

        def thread_time(self) -> float:
            self.worked += 3600
            return self.worked

        def sleep(self, seconds: float) -> None:
            rested.set()
            time.sleep(seconds)

    name = f"nba_tree_{ask.__name__}"
    (modules / f"{name}_leaf.py").write_text("value = 1\n")
    (modules / f"{name}.py").write_text(f"import {name}_leaf as leaf\nvalue = leaf.value + 1\n")
    monkeypatch.setattr(imports, "time", Clock())
    finders = list(sys.meta_path)
    imports.load_aside(name)
    assert rested.wait(60)
    assert getattr(sys.modules.get(name), "value", None) is None
    ask(name)  # would take hours
    assert sys.modules[name].value == 2
    assert sys.meta_path == finders
