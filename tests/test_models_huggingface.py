"""Models of the Hub: the library's client against the server that misbehaves, and its words turned into ours."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from asking import LABELS, SCHEMA, ask, request
from huggingface_hub.errors import HfHubHTTPError
from serving import Serving

from nbannot.asking.request_reply import Model
from nbannot.errors import ModelError
from nbannot.models.huggingface import HuggingFaceModel
from nbannot.models.registry import backends

TOKEN = "hf_plantedPlantedPlanted01"


@pytest.fixture(autouse=True)
def _own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.inference._providers.hf_inference.get_token", lambda: TOKEN)


def model_at(server: Serving, **settings: Any) -> HuggingFaceModel:
    return HuggingFaceModel("tiny", base_url=server.openai_url, **{"timeout_s": 5.0, **settings})


def test_an_endpoint_answers_as_the_mock_model_does():
    with Serving() as server:
        model = model_at(server)
        assert isinstance(model, Model)
        replies = ask(model, *(request(i, top_k=5) for i in range(20)))
        sent, headers = server.calls[0].body, server.calls[0].headers
    assert [reply.error for reply in replies if reply.error] == []
    assert {json.loads(reply.text)["response"] for reply in replies} == set(LABELS)
    assert sent["model"] == "tiny"
    assert (sent["seed"], sent["top_k"], sent["max_tokens"], sent["temperature"]) == (1, 5, 512, 0.0)
    assert sent["response_format"] == {"type": "json_object", "value": SCHEMA}
    assert "authorization" not in headers, "an address in a config is no reason to send it the token"
    assert replies[0].input_tokens == 10
    assert replies[0].seconds > 0


def test_thinking_and_refusals_are_read():
    with Serving() as server:
        assert ask(model_at(server), request(reasoning="low"))[0].reasoning == "The text says so."
    with Serving(faults={"refusal": 1.0}) as server:
        replies = ask(model_at(server), *(request(i) for i in range(8)))
    assert {reply.finish_reason for reply in replies} == {"refusal", "stop"}


@pytest.mark.parametrize(
    ("fault", "words", "retriable"),
    [
        ("http_500", "HTTP 500: llama runner process has terminated", True),
        ("http_503", "HTTP 503: server busy, please try again", True),
        ("http_429", "HTTP 429: Rate limit reached", True),
        ("error_in_200", "HTTP 502: upstream provider failed", True),
        ("not_json", "the server's reply is not JSON", True),
        ("hang", "no reply within 0.3 s", True),
        ("slow", "no reply within 0.3 s", True),
        ("reset", "", True),
        ("cut_body", "", True),
    ],
)
def test_faults_of_the_wire_are_errors_that_may_pass(fault, words, retriable):
    with Serving(faults={fault: 1.0}, slow_s=2.0, retry_after="7") as server:
        reply = ask(model_at(server, timeout_s=0.3 if fault in ("hang", "slow") else 20), request())[0]
    assert reply.error
    assert words in reply.error
    assert reply.retriable is retriable
    assert reply.retry_after_s == (7 if fault == "http_429" else None)


def test_what_is_refused_is_learned():
    with Serving(refuse=("seed", "max_tokens"), formats=("text",)) as server:
        model = model_at(server)
        replies = ask(model, *(request(i) for i in range(20)))
    assert [reply.error for reply in replies if reply.error] == []
    assert set(model.capabilities["dropped"]) == {"seed", "max_tokens"}
    assert model.capabilities["response_format"] == "text"


def test_a_text_that_does_not_fit():
    with Serving(context=5) as server:
        reply = ask(model_at(server), request())[0]
    assert (reply.finish_reason, reply.error) == ("context", "text does not fit: about 10 tokens of 5")


def test_the_token_does_not_show(monkeypatch):
    with Serving(key="another") as server:
        reply = ask(model_at(server), request())[0]
    assert reply.error is not None
    assert reply.error.startswith("HTTP 401: Incorrect API key provided")
    assert "planted" not in reply.error.casefold()
    assert not reply.retriable


# ---- what the Hub says ------------------------------------------------------------------------------------


def hub(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    """Let the Hub answer this, or raise it."""

    def model_info(self: Any, repo_id: str, **_: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def run_by(*providers: str) -> SimpleNamespace:
    mapping = [SimpleNamespace(provider=p, status="live", task="conversational") for p in providers]
    mapping.append(SimpleNamespace(provider="broken", status="error", task="conversational"))
    return SimpleNamespace(sha="abc123", inference_provider_mapping=mapping)


def test_info(monkeypatch):
    assert "hf" in backends()
    hub(monkeypatch, run_by("together", "novita"))
    info = HuggingFaceModel("org/model?provider=together").info()
    assert info.full_name == "hf/org/model?provider=together"
    assert (info.is_local, info.energy_measured, info.digest) == (False, False, None)
    assert info.details == {
        "provider": "together",
        "hub_revision": "abc123",
        "providers": ["novita", "together"],
    }
    assert HuggingFaceModel("org/model").info().details["provider"] == "auto"
    with pytest.raises(ModelError) as raised:
        HuggingFaceModel("org/model?provider=togeter").info()
    assert str(raised.value) == (
        "'togeter' does not run org/model; did you mean 'together'?\n  It is run by: novita, together."
    )


def test_the_token_goes_to_hugging_face_and_where_one_says(monkeypatch):
    for url in ("https://router.huggingface.co/v1", "https://huggingface.co/api"):
        assert HuggingFaceModel("m", base_url=url).key.told() == f"HF_TOKEN goes to {url.split('/')[2]}"
    for url in ("https://x.endpoints.example", "https://someone.hf.space", "http://huggingface.co"):
        assert HuggingFaceModel("m", base_url=url).key.key is None
    monkeypatch.setenv("NBANNOT_KEY_HOSTS", "x.endpoints.example")
    assert HuggingFaceModel("m", base_url="https://x.endpoints.example").key.variable == "HF_TOKEN"
    monkeypatch.setenv("NBANNOT_API_KEY_X_ENDPOINTS_EXAMPLE", "own-key-01")
    assert HuggingFaceModel("m", base_url="https://x.endpoints.example").key.key.reveal() == "own-key-01"


def test_an_endpoint_of_ones_own_is_taken_at_its_word():
    info = HuggingFaceModel("tiny", base_url="http://localhost:8080").info()
    assert (info.is_local, info.energy_measured, info.endpoint) == (True, True, "http://localhost:8080")


def test_what_the_hub_refuses_says_what_to_do(monkeypatch):
    response: Any = SimpleNamespace(headers={}, request=None)
    hub(monkeypatch, HfHubHTTPError("404 Client Error. Repository Not Found", response=response))
    with pytest.raises(
        ModelError, match="the Hub does not give the model 'org/model': 404 Client Error"
    ) as raised:
        HuggingFaceModel("org/model").info()
    assert "https://huggingface.co/org/model" in str(raised.value)
    hub(monkeypatch, ConnectionError("no route"))
    with pytest.raises(ModelError, match="the Hugging Face Hub cannot be reached: no route"):
        HuggingFaceModel("org/model").info()
    hub(monkeypatch, run_by())
    with pytest.raises(ModelError, match="no inference provider runs org/model"):
        HuggingFaceModel("org/model").info()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ModelError, match="Type in a terminal: hf auth login"):
        HuggingFaceModel("org/model").info()


@pytest.mark.parametrize("name", ["", "org/model?provder=x", "org/model?provider="])
def test_names_that_cannot_be_one(name):
    with pytest.raises(ModelError, match=r"hf/<owner>/<model>"):
        HuggingFaceModel(name)


def test_how_many_at_once():
    assert [HuggingFaceModel("o/m", max_parallel=n).parallel for n in (None, 4, 128)] == [32, 4, 100]
