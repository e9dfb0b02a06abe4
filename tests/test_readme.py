"""The README can be typed from top to bottom: a fresh kernel, an empty folder, not a word on stderr."""

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

README = Path(__file__).parents[1] / "README.md"


def cells() -> list[str]:
    """Return what stands in fences for Python, and in those without a language that begin with a magic."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [body for kind, body in blocks if kind == "python" or (not kind and body.startswith("%"))]


@pytest.mark.model
def test_every_cell_runs(tmp_path):
    pytest.importorskip("sparrow_decider", reason="no such extra here")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells()])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert len(book.cells) > 12
    for cell in book.cells:
        assert not [out for out in cell.outputs if out.get("name") == "stderr"], cell.source


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_the_page_on_r_runs_and_loses_no_zero(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (README.parent / "docs" / "from-r.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(r|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["r", "python", "r"]
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "from-r.md", "exec"), {})
        else:
            told = "cat(labels$id, design$text_id, nrow(joined) > 9)" if "joined" in block else ""
            Path("page.R").write_text(f"{block}\n{told}", encoding="utf-8")
            done = subprocess.run(["Rscript", "page.R"], capture_output=True, text=True, check=True)
    assert done.stdout == "007 008 009 010 007 008 009 010 TRUE"


PAGES = ["from-a-spreadsheet.md", "from-coders-files.md", "coding.md", "corpora.md", "exchange.md"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_for_newcomers_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (README.parent / "docs" / name).read_text(encoding="utf-8")
    known: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        if "recheck" not in block:  # it needs an edit
            exec(compile(block.replace('"local"', '"mock"'), name, "exec"), known)
    assert len(blocks) >= 2
