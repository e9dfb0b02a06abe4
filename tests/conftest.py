"""What several tests share: small codebooks and tasks, and runs on the mock model."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from nbannot.study.codebook import Codebook
from nbannot.study.task import Task

# How long one example takes says more about the machine than about the code.
# The same examples everywhere, so that a failure can be repeated; HYPOTHESIS_PROFILE=search tries new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

DATA = Path(__file__).parent / "data"
"""Reference values, and reduced samples of real human-coded sets; each SOURCE.md says whose, and the licence."""

MAY_SKIP = (
    r"no embedded model here",
    r"no chromium here|playwright is not installed|notebook is not installed|PICTURES names no folder",
    r"no such extra here",
    r"could not import '(sentence_transformers|bert_score|rouge_score|sparrow_decider|decima|laya|spacy)'",
    r"POSIX|needs RLIMIT_FSIZE|needs SIGKILL|a script stands in for the program|signals work otherwise|root",
)
"""What a test may be skipped for; any other skip fails the run, so that none hides."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Make a failure of a skip for which there is no good reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(re.search(known, reason) for known in MAY_SKIP):
            report.outcome, report.longrepr = "failed", f"unexpected skip: {reason}"
    return report


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun by a script in the background: interrupts are tests here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["NBANNOT_DATA"] = tempfile.mkdtemp(prefix="nbannot-tests-")
os.environ["NBANNOT_PREFIXES"] = "off"  # what one test lets a model read is not read by a later one


@pytest.fixture(autouse=True)
def _own_splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that one test locks is not locked in another one that has the same texts."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    monkeypatch.setenv("NBANNOT_DATA", os.path.join(os.environ["NBANNOT_DATA"], name))


@pytest.fixture(autouse=True)
def _no_country(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBANNOT_COUNTRY", raising=False)


@pytest.fixture
def with_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes `run` use this model, whatever the config names."""

    def use(model: Any) -> Any:
        monkeypatch.setattr("nbannot.running.design.get_model", lambda config, say=None: model)
        return model

    return use


def codebook_of(*annotations: dict[str, Any], **top: Any) -> Codebook:
    """Return a codebook with one section "S" that holds these annotations."""
    section = {
        "section_name": "S",
        "section_instruction": "Read.",
        "annotations": {
            f"annotation_{i}": {"tooltip": "", "example": "", **a} for i, a in enumerate(annotations, 1)
        },
    }
    return Codebook.from_dict({"text_column": "text", "section_1": section, **top})


GATE = {"name": "Gate", "type": "checkbox"}
STANCE = {
    "name": "Stance",
    "type": "dropdown",
    "options": ["pro", "anti", "neutral"],
    "condition": {"section_key": "section_1", "annotation_key": "annotation_1", "value": 1},
}
DEGREE = {"name": "Degree", "type": "likert", "min_value": -2, "max_value": 2}
QUOTE = {"name": "Quote", "type": "textbox"}
MARKS = {"name": "Marks", "type": "span", "label_options": ["actor", "claim"]}


def task_of(n: int, codebook: Codebook | None = None, name: str = "demo", **columns: list[Any]) -> Task:
    """Return a task with `n` made-up texts."""
    import polars as pl

    texts = [
        f"Text number {i}: the council of town {i * 7 % 13} decided about the road, people say."
        for i in range(n)
    ]
    data = {"id": [f"t{i:05d}" for i in range(n)], "text": texts, **columns}
    return Task(pl.DataFrame(data), codebook or codebook_of(GATE, STANCE, DEGREE, QUOTE, MARKS), name)
