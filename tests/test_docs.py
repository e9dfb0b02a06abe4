"""The documentation says what the code says."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import nbannot
from nbannot.study.settings import SETTINGS

ROOT = Path(__file__).parents[1]
PAGES = ["settings.md", "metrics.md", "run-folder.md", "coding-sheet.md"]


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generator().PAGES[name](), (
        "python docs/generate.py"
    )


def markdown():
    skipped = {".venv", "node_modules", ".pytest_cache", "build", "lessons"}
    return [p for p in ROOT.rglob("*.md") if not skipped & set(p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("path", markdown(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_readme_opens_with_the_two_commands_and_names_no_unknown_setting():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < 3000
    assert text.index("make test") < 3000
    for block in re.findall(r"```\n%%annotate.*?\n(.*?)```", text, flags=re.DOTALL):
        names = re.findall(r"^(\w+)\s*=", block, flags=re.MULTILINE)
        assert set(names) <= set(SETTINGS)


def test_the_version_is_one():
    assert 'path = "nbannot/__init__.py"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {nbannot.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_every_room_with_public_names_has_a_heading_in_the_reference():
    tree = ast.parse((ROOT / "docs/conf.py").read_text(encoding="utf-8"))
    [rooms] = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "ROOMS"]
    assert {home.split(".")[0] for home in nbannot._PUBLIC.values()} <= ast.literal_eval(rooms).keys()
