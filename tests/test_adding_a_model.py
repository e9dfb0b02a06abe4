"""The backend that docs/adding-a-model.md shows really runs, through an entry point."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

from conftest import DEGREE, GATE, MARKS, QUOTE, STANCE, codebook_of, task_of

import nbannot
from nbannot.models import registry

PAGE = Path(__file__).parents[1] / "docs" / "adding-a-model.md"


def test_the_page_is_true_and_short(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[1]
    assert code.count("\n") < 40
    (tmp_path / "parrot_of_the_page.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("parrot", "parrot_of_the_page:ParrotModel", registry.GROUP)
    monkeypatch.setattr(registry, "backends", lambda: {"parrot": point})
    task = task_of(3, codebook_of(GATE, STANCE, DEGREE, QUOTE, MARKS))
    run = nbannot.run(task, model="parrot/polly", output_root=str(tmp_path / "out"))
    assert run.coding.count() == {"ok": 15}
    assert run.coding.values("S_Stance") == ["pro"] * 3
    assert run.config["model_info"]["backend"] == "parrot"
