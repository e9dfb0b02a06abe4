"""Run notebooks from top to bottom in an empty folder and store them with their outputs.

    python notebooks/refresh.py notebooks/01_quickstart.ipynb

The tests use `executed` too, so that what is stored is what was tested.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

CELL_TIMEOUT_S = 600
PROJECT = Path(__file__).parent.parent / "pyproject.toml"
SET_UP = """# @title Set-up: run this cell first (on Colab it installs nbannot)
import importlib.util

if importlib.util.find_spec("nbannot") is None:
    %pip install -q "nbannot[local,decide,study,figures] @ git+{repository}"

%load_ext nbannot
import nbannot as nba"""
FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"], "cellView": "form"}
"""How Jupyter, the documentation and Colab are told to fold a cell."""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


class _Manager(AsyncKernelManager):
    """A kernel that is talked to through sockets in files: over TCP it warns on stderr."""

    def __init__(self, **options: Any) -> None:
        self._sockets = (
            tempfile.TemporaryDirectory()
        )  # a short path: that of a socket has at most 107 characters
        super().__init__(transport="ipc", ip=f"{self._sockets.name}/kernel", **options)


def executed(path: Path, folder: Path) -> Any:
    """Return a notebook with the outputs of running it in an empty folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell ends with an error that it does not announce by the tag ``raises-exception``.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_manager_class=_Manager,
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
    )
    client.execute()
    return notebook


def set_up() -> str:
    """Return the first cell of every lesson; where it installs from is said in pyproject.toml, and nowhere else."""
    return SET_UP.format(
        repository=tomllib.loads(PROJECT.read_text("utf-8"))["project"]["urls"]["Repository"]
    )


def with_set_up(notebook: Any) -> Any:
    """Return a lesson with the set-up cell of today, folded."""
    for cell in notebook.cells:
        if 'find_spec("nbannot")' in cell.source:
            cell.source, cell.metadata = set_up(), nbformat.from_dict(FOLDED)
    return notebook


def texts_of(output: Any) -> list[str]:
    """Return everything that one output of a cell shows."""
    data = output.get("data", {})
    return [
        *(str(text) for text in data.values()),
        str(output.get("text", "")),
        str(output.get("evalue", "")),
    ]


MACHINE = re.compile(r"(?<![\w.:/])/(?:home|root|Users|tmp|work|private|var|opt|content|mnt)/[\w.-]+")


def faults(notebook: Any) -> list[str]:
    """Return what a stored notebook must not hold: errors, anything on stderr, and paths of a machine."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            where = f"cell {number} ({cell.source.splitlines()[0]})"
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", ()):
                found.append(f"{where}: {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"{where}: stderr: {output.text}")
            found += [f"{where}: {path}" for text in texts_of(output) for path in MACHINE.findall(text)]
    return found


def main(paths: list[str]) -> int:
    """Refresh the notebooks; 1 if one of them shows what it must not."""
    bad = 0
    for name in paths:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as data:
            os.environ["NBANNOT_DATA"] = data  # nobody has locked anything here before
            nbformat.write(with_set_up(nbformat.read(name, as_version=4)), name)
            notebook = executed(Path(name), Path(folder))
        notebook.metadata = nbformat.from_dict(KERNEL)
        for line in faults(notebook):
            print(f"{name}: {line}", file=sys.stderr)
            bad = 1
        if not bad:
            nbformat.write(notebook, name)
            print(f"stored {name}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
