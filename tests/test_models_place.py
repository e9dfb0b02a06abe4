"""Where texts may go: `local_only`, the hosts it allows, a switch for everybody, and what a card says of the place."""

from __future__ import annotations

import pandas as pd
import pytest
from conftest import GATE, codebook_of, task_of
from scripted import Scripted, run_it, run_with, well
from serving import Serving

import nbannot
from nbannot.asking.request_reply import ModelInfo
from nbannot.errors import ModelError
from nbannot.models.registry import get_model
from nbannot.study.config import RunConfig

AWAY = [
    {"model": "openai/x"},
    {"model": "openai/x", "base_url": "http://gpu1:8000/v1"},
    {"model": "hf/owner/name"},
    {"model": "hf/owner/name", "base_url": "https://x.endpoints.huggingface.cloud"},
    {"model": "ollama/gemma3:270m", "base_url": "http://gpu1:11434"},
    {"model": "decide/jev", "base_url": "http://gpu1:8000/v1"},
]
HERE = [
    {"model": "mock"},
    {"model": "local"},
    {"model": "baseline/majority"},
    {"model": "decide/sparrow"},
    {"model": "openai/x", "base_url": "http://localhost:8000/v1"},
    {"model": "ollama/gemma3:270m"},
]


@pytest.mark.parametrize("settings", AWAY, ids=str)
def test_a_model_elsewhere_is_refused_before_it_is_asked_anything(settings, monkeypatch):
    with pytest.raises(ModelError, match=r"would send texts to .*: nothing was sent"):
        get_model(RunConfig(local_only=True, **settings))
    monkeypatch.setenv("NBANNOT_LOCAL_ONLY", "1")
    with pytest.raises(ModelError, match="NBANNOT_LOCAL_ONLY is set on this machine"):
        get_model(RunConfig(**settings))


@pytest.mark.parametrize("settings", HERE, ids=str)
def test_a_model_here_is_not(settings, monkeypatch):
    monkeypatch.setenv("NBANNOT_LOCAL_ONLY", "1")
    assert get_model(RunConfig(**settings))


def test_hosts_are_allowed_by_setting_or_for_everybody(monkeypatch):
    one = {"model": "openai/x", "base_url": "http://gpu1.stats.example.edu/v1"}
    assert get_model(RunConfig(local_only=True, allowed_hosts=["*.EXAMPLE.edu"], **one))
    with pytest.raises(ModelError, match=r"allowed_hosts = \[\"gpu1\.stats\.example\.edu\"\]"):
        get_model(RunConfig(local_only=True, allowed_hosts=["gpu1"], **one))
    monkeypatch.setenv("NBANNOT_LOCAL_ONLY", "yes")
    with pytest.raises(ModelError, match="ask whoever set it"):  # the switch is not undone by a setting
        get_model(RunConfig(allowed_hosts=["*.example.edu"], **one))
    monkeypatch.setenv("NBANNOT_ALLOWED_HOSTS", "gpu2, *.example.edu")
    assert get_model(RunConfig(**one))
    monkeypatch.setenv("NBANNOT_LOCAL_ONLY", "0")
    assert get_model(RunConfig(model="openai/x"))


def test_a_run_over_http_here_goes_on_and_the_id_is_the_same(tmp_path):
    task = task_of(3, codebook_of(GATE))
    with Serving() as server:
        settings = {"model": "openai/tiny", "base_url": server.openai_url, "output_root": str(tmp_path)}
        assert run_it(task, **settings, local_only=True).run_id == run_it(task, **settings).run_id


def test_a_model_that_a_server_here_reaches_elsewhere_is_elsewhere(tmp_path, with_model):
    """Ollama's cloud models answer at this machine's address."""

    class Cloud(Scripted):
        def info(self):
            return ModelInfo("big", "ollama", endpoint="http://localhost:11434", is_local=False)

    model = Cloud(well)
    with pytest.raises(ModelError, match="a place it does not name"):
        run_with(model, with_model, task_of(2, codebook_of(GATE)), tmp_path, local_only=True)
    assert model.requests == []
    assert list(tmp_path.iterdir()) == []


def test_what_looks_like_personal_data_is_told_before_texts_leave_and_only_then(tmp_path, with_model):
    class Away(Scripted):
        def info(self):
            return ModelInfo("m", "openai", endpoint="https://api.mistral.ai/v1", is_local=False,
                             energy_measured=False)  # fmt: skip

    texts = ["write to ada@example.org", "nothing", "call 020 7946 0958"]
    task = nbannot.Task(pd.DataFrame({"id": ["a", "b", "c"], "text": texts}), codebook_of(GATE), "letters")
    with_model(Away(well))
    words = "2 of 3 texts seem to hold personal data: 1 e-mail address, 1 telephone number (a, c)"
    plan = nbannot.plan(task, model="openai/m", output_root=str(tmp_path))
    assert words in " ".join(str(plan).split())
    assert "https://api.mistral.ai/v1 (Mistral AI, France)" in str(plan)
    said: list[str] = []
    run = run_it(task, model="openai/m", output_root=str(tmp_path), say=said.append)
    assert any(words in line for line in said)
    for shown in (run, run.report(), nbannot.load_run(run.folder)):
        assert words in " ".join(str(shown).split())
    assert "ada@" not in (run.folder / "config.json").read_text()
    here = run_with(Scripted(well), with_model, task, tmp_path / "here")
    assert "personal data" not in str(here)
