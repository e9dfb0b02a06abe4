# ruff: noqa: E501  (the words of providers stand as they are)
"""Providers that speak OpenAI's language with an accent: each a row, as their documentation and their users' reports say.

A real server on the loopback address refuses what the provider refuses, in its words, and answers as it answers. What is
checked is what a run makes of it: every text has its label, nothing is lost to a parameter, and what was left out is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DEGREE, codebook_of, task_of
from rawserving import Raw, said

import nbannot
from nbannot.asking.request_reply import Request
from nbannot.models.dialect import Dialect
from nbannot.models.registry import get_model
from nbannot.study.config import RunConfig

N = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)
    for name in ("OPENAI_API_KEY", "NBANNOT_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def well(body: dict[str, Any]) -> dict[str, Any]:
    return said('{"response": 1}')


def refusing(*names: str, words: Callable[[str], tuple[int, Any]]) -> Callable[[Any], tuple[int, Any]]:
    """Return a server's answer: the words of a refusal for the first of these that a request holds."""

    def answer(sent: dict[str, Any]) -> tuple[int, Any]:
        held = next((name for name in names if name in sent), None)
        return words(held) if held else (200, well(sent))

    return answer


def google(name: str) -> tuple[int, Any]:
    """Gemini's compatible end says it as a list of one error."""
    words = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    return 400, [{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT", "details": [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": words}]}]}}]  # fmt: skip


def mistral(name: str) -> tuple[int, Any]:
    """Mistral forbids what it does not know; its seed is called random_seed."""
    fault = {
        "type": "extra_forbidden",
        "loc": ["body", name],
        "msg": "Extra inputs are not permitted",
        "input": 1,
    }
    return 422, {"object": "error", "message": {"detail": [fault]}, "type": "invalid_request_error", "param": None,
                 "code": None}  # fmt: skip


def deepseek(sent: dict[str, Any]) -> tuple[int, Any]:
    """DeepSeek knows json_object alone, and keeps a waiting connection alive with empty lines before the reply."""
    form = sent.get("response_format", {}).get("type")
    if form == "json_schema":
        return 400, {"error": {"message": "This response_format type is unavailable now", "type": "invalid_request_error",
                               "param": None, "code": "invalid_request_error"}}  # fmt: skip
    if "json" not in json.dumps(sent["messages"]).lower():
        return 400, {"error": {"message": "Prompt must contain the word 'json' in some form"}}
    reply = well(sent)
    reply["choices"][0]["message"]["reasoning_content"] = "It is 2, or 1."
    reply["usage"] |= {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}
    return 200, b"\n\n\n" + json.dumps(reply).encode()


class Groq:
    """Groq: a reply that is no JSON of the schema is an error 400; prompt and max_tokens count against a minute's tokens."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, sent: dict[str, Any]) -> tuple[int, Any]:
        asked = sent.get("max_tokens") or sent.get("max_completion_tokens")
        if asked + 200 > 600:
            words = (
                "Request too large for model `m` in organization `org_1` service tier `on_demand` on tokens per minute "
                f"(TPM): Limit 600, Requested {asked + 200}, please reduce your message size and try again."
            )
            return 413, {"error": {"message": words, "type": "tokens", "code": "rate_limit_exceeded"}}
        if not self.failed:
            self.failed = True
            words = "Failed to validate JSON. Please adjust your prompt. See 'failed_generation' for more details."
            return 400, {"error": {"message": words, "type": "invalid_request_error", "code": "json_validate_failed",
                                   "failed_generation": '{"response": 1'}}  # fmt: skip
        return 200, well(sent)


class OpenRouter:
    """OpenRouter: an upstream failure is a choice with an error inside status 200; spaces come before a slow reply."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, sent: dict[str, Any]) -> tuple[int, Any]:
        self.calls += 1
        if self.calls == 2:
            choice = {"finish_reason": "error", "message": {"content": '{"response": 2}'},
                      "error": {"code": 502, "message": "Upstream error", "metadata": {"provider_name": "Somebody"}}}  # fmt: skip
            return 200, {"choices": [choice], "provider": "Somebody"}
        if self.calls == 3:
            return 200, {
                "error": {"code": 429, "message": "Rate limit exceeded", "metadata": {"raw": "busy"}}
            }
        return 200, b"   \n  \n" + json.dumps(well(sent) | {"provider": "Somebody"}).encode()


def azure(sent: dict[str, Any]) -> tuple[int, Any]:
    """Azure adds the verdicts of its filters to every reply; newer models take max_completion_tokens alone."""
    if "max_tokens" in sent:
        words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return 400, {"error": {"message": words, "type": "invalid_request_error", "param": "max_tokens",
                               "code": "unsupported_parameter"}}  # fmt: skip
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    reply = well(sent) | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe}]}
    reply["choices"][0]["content_filter_results"] = safe
    return 200, reply


ROWS = {
    "gemini": (refusing("top_k", "seed", words=google), {"top_k": 5}, {"dropped": ["seed", "top_k"]}),
    "mistral": (refusing("seed", "top_k", words=mistral), {"top_k": 5}, {"dropped": ["seed", "top_k"]}),
    "deepseek": (deepseek, {}, {"response_format": "json_object"}),
    "groq": (Groq(), {}, {"dropped": []}),
    "openrouter": (OpenRouter(), {}, {"dropped": []}),
    "azure": (azure, {}, {"dropped": ["max_tokens"], "token_limit": "max_completion_tokens"}),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_run_with_a_provider(name, tmp_path):
    answer, settings, told = ROWS[name]
    with Raw(answer) as server:
        run = nbannot.run(
            task_of(N, codebook_of(DEGREE)), model="openai/tiny", base_url=server.url, output_root=str(tmp_path),
            max_parallel=1, **settings,
        )  # fmt: skip
    assert run.coding.values("S_Degree") == [1] * N
    assert run.status == "complete"
    capabilities = dict(run.config["capabilities"])
    capabilities["dropped"] = sorted(capabilities["dropped"])
    assert {key: capabilities[key] for key in told} == told


def test_mistral_is_told_its_seed_by_its_own_name():
    sent = Dialect(seed_name="random_seed")
    request = Request(key="", messages=(), shared=0, schema={}, max_tokens=9, seed=3)
    assert sent.parameters(request)["random_seed"] == 3
    assert "seed" not in sent.parameters(request)
    model = get_model(RunConfig(model="openai/mistral-small-latest", base_url="https://api.mistral.ai/v1"))
    assert model.dialect.seed_name == "random_seed"
