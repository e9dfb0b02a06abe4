"""The measures as a whole: what they import."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = importlib.import_module("nbannot.measures")
MODULES = [f"nbannot.measures.{module.name}" for module in pkgutil.iter_modules(PACKAGE.__path__)]
HEAVY = (
    "scipy",
    "sklearn",
    "krippendorff",
    "Levenshtein",
    "sacrebleu",
    "rouge_score",
    "pandas",
    "polars",
    "torch",
)


def test_importing_the_metrics_imports_no_heavy_package():
    code = f"import sys; [__import__(name) for name in {MODULES!r}]; print([n for n in {HEAVY!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("path", sorted(Path(PACKAGE.__path__[0]).glob("*.py")), ids=lambda path: path.stem)
def test_the_metrics_know_nothing_of_the_project_but_its_errors(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    own = {name for name in imported if name.startswith("nbannot")}
    assert all(name == "nbannot.errors" or name.startswith("nbannot.measures") for name in own)
