"""The keywords that editors know are the settings, with their types."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from nbannot.study.config import RunConfig
from nbannot.study.keywords import Grid, Settings


def test_every_setting_is_a_keyword_and_no_other():
    names = [f.name for f in dataclasses.fields(RunConfig)]
    assert list(get_type_hints(Settings)) == names
    assert list(get_type_hints(Grid)) == names


def test_a_type_checker_sees_slips_and_what_comes_back(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "typed.py"
    script.write_text(
        "import nbannot as nba\n"
        'run = nba.run("x", modle="mock")\n'
        'nba.sweep("x", temperature=["low"])\n'
        "reveal_type(run)\n"
        "reveal_type(run.labels)\n"
        "reveal_type(run.report())\n"
        'reveal_type(nba.metrics("x"))\n',
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env={"MYPYPATH": str(Path(__file__).parents[1]), "PATH": ""},
    )
    said = done.stdout
    assert 'Unexpected keyword argument "modle" for "run"' in said
    assert "typed.py:3: error" in said
    shown = [line.rsplit('"', 2)[1] for line in said.splitlines() if "Revealed type" in line]
    assert shown[:3] == [
        "nbannot.record.run.Run",
        "nbannot.tools.frames.Frame",
        "nbannot.page.fragment.Fragment",
    ]
    assert shown[3].startswith("pandas")
    assert shown[3].endswith("DataFrame")
