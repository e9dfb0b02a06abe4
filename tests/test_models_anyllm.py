"""The back door through any-llm: the same labels as through our own door, and its errors told apart like ours."""

from __future__ import annotations

import pytest
from conftest import GATE, codebook_of, task_of
from rawserving import Raw, said
from serving import Serving

import nbannot
from nbannot.errors import ModelError
from nbannot.models.registry import get_model
from nbannot.study.config import RunConfig

pytest.importorskip("any_llm", reason="no such extra here")
KEY = "sk-a-secret-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(server_url, tmp_path, model="anyllm/openai/tiny", n=6, **settings):
    task = task_of(n, codebook_of(GATE))
    return nbannot.run(task, model=model, base_url=server_url, output_root=str(tmp_path), **settings)


def test_the_labels_are_those_of_our_own_door(tmp_path):
    with Serving() as server:
        through = nbannot.run("policy-sentiment", model="anyllm/openai/tiny", base_url=server.openai_url, limit=8,
                              output_root=str(tmp_path))  # fmt: skip
        own = nbannot.run("policy-sentiment", model="openai/tiny", base_url=server.openai_url, limit=8,
                          output_root=str(tmp_path))  # fmt: skip
    assert through.status == "complete"
    columns = ["text_id", "column", "value", "status"]
    assert through.labels[columns].equals(own.labels[columns])
    assert through.run_id != own.run_id
    assert "any-llm" in str(through)


def test_refusals_limits_and_failures_are_told_apart(tmp_path):
    tried: dict[str, int] = {}

    def answer(sent):
        number = sent["messages"][-1]["content"].partition("Text number ")[2].partition(":")[0]
        tried[number] = tried.get(number, 0) + 1
        if number == "1":
            return 400, {"error": {"code": "content_filter", "message": f"Filtered. Your key is {KEY}."}}
        if number == "2" and tried[number] == 1:
            return 429, {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}
        if number == "3" and tried[number] == 1:
            return 503, {"error": {"message": "overloaded"}}
        if number == "4":
            return 400, {
                "error": {"code": "context_length_exceeded", "message": "maximum context length is 10 tokens"}
            }
        if "seed" in sent:
            return 400, {"error": {"message": "Unsupported parameter: 'seed'", "param": "seed",
                                   "code": "unsupported_parameter"}}  # fmt: skip
        return 200, said('{"response": true}') | {"id": "1", "created": 1, "model": "tiny"}

    with Raw(answer) as server:
        done = run(server.url, tmp_path, max_parallel=1)
    statuses = [a.status for a in done.coding.answers["S_Gate"]]
    assert statuses == ["ok", "refused", "ok", "ok", "not_asked", "ok"]
    assert "seed" in done.config["capabilities"]["dropped"]
    assert KEY not in (done.folder / "responses.jsonl").read_text()
    assert KEY not in (done.folder / "config.json").read_text()


@pytest.mark.parametrize("name", ["", "openai", "openai/", "nobody/x"])
def test_a_name_that_names_nothing(name):
    with pytest.raises(ModelError, match=r"names no provider that any-llm knows"):
        get_model(RunConfig(model=f"anyllm/{name}"))


def test_without_its_key_or_away_from_here_nothing_is_sent(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="nothing was sent"):
        run(None, tmp_path, local_only=True)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ModelError, match="any-llm cannot make a client for openai"):
        run("http://127.0.0.1:9/v1", tmp_path)
