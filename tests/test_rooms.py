"""The house: rooms import only from rooms above them, and the core does not know that notebooks exist."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nbannot"
ROOMS = [
    "errors", "imports", "shown", "frames", "wire", "codebook", "spans", "task", "config", "models.base", "prompts",
    "answers", "models", "ledger", "engine", "folder", "energy", "metrics", "coding", "scoring", "tables", "export",
    "lab", "run", "plan", "views", "report", "sweep", "compare", "stability", "reliability", "rescore", "inference",
    "displays", "doctor", "doors", "live", "completion", "magic", "widget", "cli", "__main__",
]  # fmt: skip
"""Reading order; see docs/architecture.md."""

HOPS = {
    ("shown", "displays"),
    ("shown", "live"),
    ("run", "report"),
    ("run", "displays"),
    ("models", "ledger"),
}
"""Imports that go down on purpose, inside a function, each said in its own words where it stands."""


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    if parts[:2] == ["models", "base"]:
        return "models.base"
    return parts[0]


def imports(path: Path) -> set[str]:
    """Return the rooms that a file of the package imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "nbannot":
            names = [
                f"nbannot.{alias.name}"
                for alias in node.names
                if (PACKAGE / alias.name).exists() or (PACKAGE / f"{alias.name}.py").exists()
            ]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {room_of(name.removeprefix("nbannot.")) for name in names if name.startswith("nbannot.")}
    return found


def files() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above(path):
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    here = room_of(dotted)
    assert here in ROOMS, f"{dotted} has no place in the reading order"
    below = {
        room for room in imports(path) if ROOMS.index(room) > ROOMS.index(here) and (here, room) not in HOPS
    }
    assert not below


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("IPython", "ipywidgets"):
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Block())
import nbannot
run = nbannot.run("policy-sentiment", model="mock", limit=4, output_root=sys.argv[1])
run.report()
print(run.status)
"""


def test_the_core_works_without_ipython(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "complete", done.stderr


def test_import_is_light():
    heavy = ("pandas", "polars", "sklearn", "scipy", "codecarbon", "numpy")
    code = f"import sys, nbannot; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    code = "import nbannot\nfor n in nbannot.__all__: assert getattr(nbannot, n) is not None, n\nprint('ok')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_a_room_does_not_hide_the_function_of_its_name():
    import nbannot
    import nbannot.run as room  # noqa: F401

    assert callable(nbannot.run)
    assert nbannot.run.__name__ == "run"
