"""Import paths from before the rooms."""

import importlib
import subprocess
import sys

import pytest

from nbannot.tools.moved import MOVED


@pytest.mark.parametrize(("old", "homes"), MOVED.items())
def test_an_old_path_leads_to_the_names_and_says_where_they_are(old, homes):
    module = importlib.import_module(f"nbannot.{old}")
    for home in homes:
        room = importlib.import_module(f"nbannot.{home}")
        name = next(n for n, v in vars(room).items() if getattr(v, "__module__", "") == room.__name__)
        with pytest.warns(DeprecationWarning, match=r"is in nbannot\.\w+\.\w+ now"):
            assert getattr(module, name) is getattr(room, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing


def test_a_mistyped_name_is_told_with_the_nearest():
    nba = importlib.import_module("nbannot")
    with pytest.raises(AttributeError, match=r"no attribute 'prevalance'; did you mean 'prevalence'"):
        nba.prevalance
    assert not hasattr(nba, "__nothing__")


def test_an_old_import_line_still_works_and_hides_no_function():
    code = (
        "from nbannot.codebook import Codebook, checkbox, dropdown\n"
        "from nbannot.answers import read_reply\n"
        "from nbannot.models.base import Reply\n"
        "import nbannot as nba\n"
        "assert nba.Codebook is Codebook and callable(nba.run) and callable(nba.compare)\n"
        "print('ok')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ok", done.stderr
