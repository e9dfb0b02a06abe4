"""Every lesson runs from top to bottom in an empty folder, and is stored with outputs that anyone may see."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))


def _refresh():
    spec = importlib.util.spec_from_file_location("refresh", NOTEBOOKS / "refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = _refresh()


def lesson(path):
    marks = [pytest.mark.slow, pytest.mark.xdist_group("notebooks")]
    if re.search(r'model\s*=\s*\\"local\b', path.read_text(encoding="utf-8")):
        marks.append(pytest.mark.model)
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [lesson(path) for path in LESSONS])
def test_a_lesson_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = refresh.executed(path, tmp_path)
    assert refresh.faults(notebook) == []
    assert [cell.source for cell in notebook.cells] == [
        cell.source for cell in nbformat.read(path, as_version=4).cells
    ]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_stored_with_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert refresh.faults(notebook) == []
    assert path.stat().st_size < 500_000
    numbers = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if re.match(r"%%annotate .*-o", cell.source):
            assert "<progress" in str(cell.outputs)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_begins_with_the_folded_set_up_and_asks_before_it_shows(path):
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if 'find_spec("nbannot")' in c.source]
    assert cell.source == refresh.set_up()
    assert "git+https://" in cell.source
    assert cell.metadata.jupyter.source_hidden
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    words = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert "**Predict first" in words
    assert "nba.check_guess(guess, " in code
    assert "<details><summary>Answers</summary>" in words or words.count("<details>") >= 5
    shown = str(notebook.cells)
    assert "image/svg+xml" in shown or "image/png" in shown or "../docs/images/" in words
    assert not re.search(r"^\s*(from|import) nbannot\.", code, re.MULTILINE)


def cell_with(**output):
    cell = nbformat.v4.new_code_cell("do()")
    cell.outputs = [nbformat.v4.new_output(**output)]
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ({"output_type": "stream", "name": "stderr", "text": "oh"}, "cell 0 (do()): stderr: oh"),
        (
            {"output_type": "error", "ename": "E", "evalue": "no", "traceback": []},
            "cell 0 (do()): E: no",
        ),
        (
            {"output_type": "display_data", "data": {"text/html": "<p>in /home/ann/x</p>"}},
            "cell 0 (do()): /home/ann",
        ),
        ({"output_type": "stream", "name": "stdout", "text": "outputs/tmp/x and http://a.org/home/x"}, None),
    ],
)
def test_what_must_not_be_stored_is_found(output, fault):
    assert refresh.faults(cell_with(**output)) == ([fault] if fault else [])
