"""Anthropic's Messages API: what is sent, what is learned from refusals, what messages are read as, what is cached."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from asking import SCHEMA, ask, request
from batching import Provider
from rawserving import Raw

import nbannot as nba
from nbannot.errors import ModelError
from nbannot.models.anthropic import AnthropicModel
from nbannot.models.anthropic_wire import Dialect, plain_schema, read_message
from nbannot.models.registry import get_model
from nbannot.report.words import settings_refused
from nbannot.tools.files import read_json

KEY = "sk-ant-planted-0123456789"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("NBANNOT_API_KEY", "ANTHROPIC_", "NBANNOT_KEY_HOSTS")):
            monkeypatch.delenv(name)


def model_at(server: Any, name: str = "claude-small-4-20260101", **settings: Any) -> AnthropicModel:
    return AnthropicModel(name, base_url=server.url, **{"timeout_s": 5.0, **settings})


def long_request(number: int, **changes: Any) -> Any:
    start = "Follow the codebook. " * 300
    text = f"The minister spoke {number} times."
    message = {"role": "user", "content": f"{start}\n\nText:\n{text}\n\nResponse:\n"}
    return request(number, messages=(message,), shared=len(start) + 8, text=text, **changes)


def test_what_is_sent_and_what_a_message_says():
    with Provider() as server:
        reply = ask(model_at(server), request(temperature=0.5, top_k=5, max_tokens=64))[0]
        sent, headers = server.calls[0], server.headers[0]
    content = request().messages[0]["content"]
    assert sent == {
        "model": "claude-small-4-20260101",
        "max_tokens": 64,
        "temperature": 0.5,
        "top_k": 5,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": content[:23], "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": content[23:]},
                ],
            }
        ],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }
    assert headers["anthropic-version"] == "2023-06-01"
    assert "x-api-key" not in headers
    assert "authorization" not in headers
    assert json.loads(reply.text)["response"] in SCHEMA["properties"]["response"]["enum"]
    assert (reply.error, reply.finish_reason, reply.output_tokens) == (None, "stop", 5)
    assert reply.model == "claude-small-4-20260101"


def test_what_prompts_share_is_written_to_the_cache_once_and_read_from_it_ever_after():
    with Provider() as server:
        replies = ask(model_at(server), *(long_request(number) for number in range(40)))
    written = [reply for reply in replies if reply.cache_write_tokens]
    assert len(written) == 1
    assert all(
        reply.cached_tokens == written[0].cache_write_tokens for reply in replies if reply not in written
    )
    for reply in replies:
        assert reply.input_tokens == reply.evaluated_tokens + reply.cached_tokens
    assert sum(r.cached_tokens for r in replies) == server.tokens["cached"] > 0.8 * server.tokens["sent"]


@pytest.mark.parametrize(
    ("wanted", "thinking", "config"),
    [
        (None, None, {}),
        (False, {"type": "disabled"}, {}),
        (True, {"type": "adaptive", "display": "summarized"}, {}),
        ("high", {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
    ],
)
def test_thinking_is_asked_for_and_kept_as_a_trace(wanted, thinking, config):
    with Provider() as server:
        model = model_at(server)
        reply = ask(model, request(reasoning=wanted, max_tokens=4096))[0]
        sent = server.calls[-1]
    assert sent.get("thinking") == thinking
    assert sent["output_config"].items() >= config.items()
    assert reply.reasoning == ("The text says so." if wanted else None)
    assert ("temperature" in sent) is (not wanted)
    assert model.capabilities["dropped"]["seed"] == "Anthropic's API takes no seed"


def test_an_older_model_is_asked_in_the_ways_it_knows_and_the_run_says_what_was_left_out():
    with Provider(old=True) as server:
        model = model_at(server)
        plain = ask(model, request(top_p=0.9))[0]
        thought = ask(model, request(reasoning="low", max_tokens=4096))[0]
        thinking = server.calls[-1]
        forced = [call for call in server.calls if "tool_choice" in call]
    assert plain.error is None
    assert json.loads(plain.text)["response"] in SCHEMA["properties"]["response"]["enum"]
    assert forced[-1]["tool_choice"] == {"type": "tool", "name": "answer"}
    assert (thought.error, thought.reasoning) == (None, "The text says so.")
    assert thinking["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    told = model.capabilities
    assert told["response_format"] == "tool"
    assert set(told["dropped"]) == {"json_schema", "top_p", "adaptive thinking", "seed", "temperature"}


@pytest.mark.parametrize(
    ("thinks", "sent", "told"),
    [
        ("between", {"thinking": {"type": "between_tools"}}, []),
        (
            "always",
            {"effort": "low"},
            ["temperature", "reasoning = false (low effort was asked for)"],
        ),
    ],
)
def test_a_model_that_cannot_be_told_not_to_think_is_asked_for_the_least_of_it(thinks, sent, told):
    with Provider(thinks=thinks, sampling=thinks != "always") as server:
        model = model_at(server)
        replies = ask(model, *(request(n, reasoning=False) for n in range(4)))
        last = server.calls[-1]
    assert all(reply.error is None for reply in replies)
    assert (last | last["output_config"]).items() >= sent.items()
    rows = dict(
        settings_refused({"temperature": 0.0, "reasoning": False, "capabilities": model.capabilities})
    )
    assert all(words in rows["not taken"] for words in told)
    again = Dialect()
    again.recall(model.dialect.lessons())
    assert json.loads(again.body(request(reasoning=False), "m")).get("thinking") == sent.get("thinking")


def test_a_model_that_takes_no_sampling_settings_is_sent_none():
    with Provider(sampling=False) as server:
        model = model_at(server)
        assert all(r.error is None for r in ask(model, *(request(n, top_k=3) for n in range(8))))
        assert "temperature" not in server.calls[-1]
    assert "deprecated" in model.capabilities["dropped"]["temperature"]


def test_the_schema_has_no_bounds_that_the_api_does_not_know():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2}}},
    }
    assert plain_schema(schema)["properties"]["a"]["items"] == {"type": "integer", "enum": [0, 1, 2]}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("content", "stop", "expected"),
    [
        ([], "refusal", ("", "content_filter: refusal (bio)")),
        ([said('{"resp')], "max_tokens", ('{"resp', "length")),
        ([said("a")], "model_context_window_exceeded", ("a", "length")),
        ([{"type": "redacted_thinking", "data": "x"}, said("b")], "end_turn", ("b", "stop")),
        ([said("d")], "guardrail_intervened", ("d", "content_filter: guardrail_intervened")),
        ([5, {"type": "text"}, said("c")], None, ("c", None)),
    ],
)
def test_how_messages_end(content, stop, expected):
    reply = read_message({"content": content, "stop_reason": stop, "stop_details": {"category": "bio"}})
    assert (reply.text, reply.finish_reason) == expected
    assert read_message({"content": "x"}).retriable
    broken = read_message({"content": [said("whole")], "stop_reason": "upstream_error"})
    assert (broken.text, broken.retriable) == ("", True)
    assert broken.error == "HTTP 200: the model failed while it wrote (error: upstream_error)"


@pytest.mark.parametrize(
    ("status", "kind", "words", "retriable", "finish"),
    [
        (529, "overloaded_error", "Overloaded", True, "error"),
        (429, "rate_limit_error", "This request would exceed your rate limit", True, "error"),
        (500, "api_error", "Internal server error", True, "error"),
        (401, "authentication_error", "invalid x-api-key", False, "error"),
        (400, "invalid_request_error", "Your credit balance is too low to access the API", False, "account"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 208310 tokens > 200000 maximum",
            False,
            "context",
        ),
        (413, "request_too_large", "Request exceeds the maximum size", False, "context"),
    ],
)
def test_errors(status, kind, words, retriable, finish):
    error = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
    with Raw(lambda body: (status, error, {"retry-after": "7"})) as server:
        reply = ask(model_at(server), request())[0]
    assert (reply.retriable, reply.finish_reason) == (retriable, finish)
    assert words in reply.error or finish == "context"
    assert reply.retry_after_s == (7 if retriable else reply.retry_after_s)


def test_the_key_goes_to_its_own_hosts_alone_and_stays_out_of_every_file(monkeypatch, tmp_path):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert AnthropicModel("m").key.told() == "ANTHROPIC_API_KEY goes to api.anthropic.com"
    assert AnthropicModel("m", base_url="https://anthropic.com.example.org").key.key is None
    with Provider(key=KEY) as server:
        with pytest.raises(ModelError, match="wants a key") as error:
            model_at(server).info()
        assert KEY not in str(error.value)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        run = nba.run(
            "policy-sentiment", model="anthropic/claude-small-4", limit=3, output_root=str(tmp_path)
        )
        assert server.headers[-1]["x-api-key"] == KEY
        assert "authorization" not in server.headers[-1]
    assert run.status == "complete"
    for file in run.folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def test_a_run_pins_the_model_and_counts_what_the_cache_gave(tmp_path):
    settings = {"model": "anthropic/claude-small-4", "limit": 6, "output_root": str(tmp_path)}
    with Provider(least_cached=16) as server:
        run = nba.run(
            "policy-sentiment",
            base_url=server.url,
            reasoning=True,
            fields=["Direction", "Intensity"],
            **settings,
        )
        mock = nba.run(
            "policy-sentiment",
            model="mock",
            answer_mode="generate",
            **{k: v for k, v in settings.items() if k != "model"},
        )
    assert run.config["model_info"]["name"] == "claude-small-4-20260101"
    assert run.status == "complete"
    assert run.config["model_info"]["details"]["asked_as"] == "claude-small-4"
    counts = read_json(run.folder / "char_counts.json")
    assert counts["cached_tokens"] == server.tokens["cached"] > 0
    assert counts["cache_write_tokens"] == server.tokens["stored"] > 0
    assert counts["input_tokens"] == server.tokens["sent"]
    assert "The text says so." in (run.folder / "reasoning_traces.jsonl").read_text()
    column = run.coding.fields[0].column
    assert [a.value for a in run.coding.answers[column]] == [a.value for a in mock.coding.answers[column]]


def test_a_text_that_the_provider_will_not_judge_is_refused_once_and_no_more(tmp_path):
    import polars as pl

    frame = pl.DataFrame({"sample_id": ["a", "b"], "text": ["We decline to say.", "A plain text."]})
    codebook = nba.load_task("policy-sentiment").codebook
    with Provider() as server:
        run = nba.run(frame, codebook=codebook, model="anthropic/claude-small-4", base_url=server.url,
                      fields=["Direction"], output_root=str(tmp_path))  # fmt: skip
        assert len(server.calls) == 2
    answers = run.coding.answers[run.coding.fields[0].column]
    assert [answer.status for answer in answers] == ["refused", "ok"]
    assert "bio" in answers[0].reason


def test_names_and_addresses():
    with Provider() as server:
        with pytest.raises(ModelError, match="has no model 'claude-smal-4'; did you mean"):
            model_at(server, "claude-smal-4").info()
        with pytest.raises(ModelError, match="a model needs a name"):
            model_at(server, "").info()
        assert model_at(server, "claude-small-4").info().context_size == 200_000
    with pytest.raises(ModelError, match="cannot be reached"):
        model_at(server).info()
    for given in ("https://gate.example.org/x", "https://gate.example.org/x/v1/messages"):
        assert AnthropicModel("m", base_url=given).address == "https://gate.example.org/x/v1"
    made = get_model(nba.RunConfig(model="anthropic/claude-small-4", max_parallel=5))
    assert isinstance(made, AnthropicModel)
    assert made.parallel == 5
