"""The house: rooms import only from rooms above them, and the core does not know that notebooks exist."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nbannot"
ROOMS = [
    "errors", "tools", "measures", "page", "study", "exchange", "asking", "models", "engine", "record", "report",
    "running", "comparing", "inference", "displays", "desk", "doors", "__main__",
]  # fmt: skip
"""Reading order; see docs/architecture.md. A room imports from itself and from rooms above it."""

HOP = {"page/shown.py": {"nbannot.displays", "nbannot.displays.live"}}
"""The one place that reaches down on purpose, by name and when it is asked: objects of the core can be shown."""


def modules(path: Path) -> set[str]:
    """Return the names in the package that a file imports from, by whatever kind of import, types alone included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names if is_file(f"{module}.{alias.name}")]
            names += [module] if len(names) < len(node.names) else []
        else:
            continue
        found |= {name for name in names if name.startswith("nbannot.")}
    return found


def is_file(name: str) -> bool:
    """Return whether a dotted name is a module of the package or a room."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imports(path: Path) -> set[str]:
    """Return the rooms that a file of the package imports from."""
    return {name.split(".")[1] for name in modules(path)}


def files() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above(path):
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    here = dotted.split(".")[0]
    assert here in ROOMS, f"{dotted} has no place in the reading order"
    below = {room for room in imports(path) if ROOMS.index(room) > ROOMS.index(here)}
    assert not below


def loaded_by_name(path: Path) -> set[str]:
    """Return the modules of the package that a file hands to `load` by their names."""
    calls = (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    )
    named = {
        one.value
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) in ("load", "load_aside", "import_module")
        for one in call.args
        if isinstance(one, ast.Constant)
    }
    return {name for name in named if isinstance(name, str) and name.startswith("nbannot.")}


def test_one_file_reaches_down_by_name():
    found = {p.relative_to(PACKAGE).as_posix(): loaded_by_name(p) for p in files()}
    order = {name: ROOMS.index(name.partition("/")[0].removesuffix(".py")) for name in found}
    down = {
        name: {one for one in loaded if ROOMS.index(one.split(".")[1]) > order[name]}
        for name, loaded in found.items()
    }
    assert {name: loaded for name, loaded in down.items() if loaded} == HOP


def test_no_files_import_each_other_in_a_circle():
    graph = {
        ".".join(("nbannot", *p.relative_to(PACKAGE).with_suffix("").parts)): modules(p) for p in files()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names them


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


def test_editors_see_the_same_public_names():
    import nbannot

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in ast.walk(block) if isinstance(node, ast.ImportFrom)
            for alias in node.names}  # fmt: skip
    assert seen.pop("displays") == "nbannot"
    assert seen == {name: f"nbannot.{home}" for name, home in nbannot._PUBLIC.items()}
    assert dir(nbannot) == sorted([*nbannot.__all__, "displays"])


def test_no_folder_bears_a_public_name_and_faces_only_hand_on():
    import nbannot

    faces = [p for p in PACKAGE.rglob("__init__.py") if p != PACKAGE / "__init__.py"]
    assert not {p.parent.name for p in faces} & set(nbannot.__all__)
    for face in faces:
        body = ast.parse(face.read_text(encoding="utf-8")).body
        lazily = [n for n in body if isinstance(n, ast.FunctionDef) and n.name in ("__getattr__", "__dir__")]
        kinds = {type(node) for node in body if node not in lazily}
        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign, ast.If}, face


def test_the_displays_are_listed_for_editors_too():
    from nbannot import displays

    tree = ast.parse((PACKAGE / "displays" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in ast.walk(block) if isinstance(node, ast.ImportFrom)
            for alias in node.names}  # fmt: skip
    assert seen == {name: f"nbannot.{home}" for name, home in displays._HOME.items()}
    assert all(callable(getattr(displays, name)) for name in displays.__all__)


def test_every_file_can_be_imported_and_patched_by_its_dotted_name():
    code = """
import importlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    parts = path.relative_to(pathlib.Path(sys.argv[1]).parent).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    if parts[-1] == "__main__":
        continue
    module = importlib.import_module(name)
    found = importlib.import_module("nbannot")
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found is module, name
print("ok")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(PACKAGE)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr
