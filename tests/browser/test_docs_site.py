"""The documentation as a site: axe-core finds no fault in its pages, in light and dark."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
for part in ("sphinx", "furo", "myst_nb", "sphinx_copybutton"):
    pytest.importorskip(part, reason=f"{part} is not installed (make docs)")

HERE = Path(__file__).resolve().parents[2]
PAGES = ("index", "exchange", "coding", "lessons/02_your_own_codebook")
"""A page of each kind: lists, tables, code, a lesson with displays and tables of pandas."""
DARK = PAGES[2:]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build those pages."""
    root = tmp_path_factory.mktemp("site")
    for folder in ("docs", "notebooks"):
        made = shutil.ignore_patterns("_build", "lessons", "api.md", "outputs", "*.png")
        shutil.copytree(HERE / folder, root / folder, ignore=made)
    kept = {f"{page}.md" for page in PAGES} | {f"{page}.ipynb" for page in PAGES}
    others = [
        name
        for folder, prefix in (("docs", ""), ("notebooks", "lessons/"))
        for path in (root / folder).glob("*.*")
        if path.suffix in (".md", ".ipynb") and (name := f"{prefix}{path.name}") not in kept
    ]
    left_out = ",".join([*others, "api.md", "design"])
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-Q", "-D", f"exclude_patterns={left_out}"]
    subprocess.run([*command, "docs", "built"], cwd=root, check=True, timeout=120)
    return root / "built"


def test_axe_finds_no_fault_in_the_documentation(chromium, site: Path):
    script = Path(axe.AXE_FILE_PATH).read_text(encoding="utf-8")
    found = []
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    for scheme, names in (("light", (*PAGES, "search")), ("dark", DARK)):
        page.emulate_media(color_scheme=scheme)
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            page.evaluate(script)
            violations = page.evaluate("() => axe.run()")["violations"]
            found += [
                f"{name}, {scheme}: {violation['id']}: {node['html'][:120]}"
                for violation in violations
                for node in violation["nodes"]
            ]
    page.close()
    assert found == []
