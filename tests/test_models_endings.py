"""How replies end: a provider's refusal is final, its failure is asked again, a wait it states is kept to."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import time
import zlib
from urllib.parse import quote

import pytest
from conftest import GATE, codebook_of, task_of
from rawserving import Raw, said

import nbannot
from nbannot.errors import ModelError
from nbannot.models.chat import failed_reply, read_completion, room_left
from nbannot.models.dialect import most_tokens_in
from nbannot.models.endings import ending, refusal_in
from nbannot.models.exchange import Exchange, server_words, wait_in
from nbannot.models.keys import Secret, masked
from nbannot.models.registry import get_model
from nbannot.study.config import RunConfig

WELL = '{"response": true}'


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)
    for name in ("OPENAI_API_KEY", "NBANNOT_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(server, tmp_path, n=6, **settings):
    return nbannot.run(
        task_of(n, codebook_of(GATE)),
        model="openai/tiny",
        base_url=server.url,
        output_root=str(tmp_path),
        **settings,
    )


def ledger(run):
    return [json.loads(line) for line in (run.folder / "responses.jsonl").read_text("utf-8").splitlines()]


# ---- refusals ---------------------------------------------------------------------------------------------------

REFUSALS = [
    (400, {"error": {"code": "content_filter", "message": "Filtered due to our content management policy."}}),
    (400, {"error": {"code": "invalid_prompt", "message": "Invalid prompt: flagged as violating our usage policy."}}),
    (403, {"error": {"code": 403, "message": "Requires moderation; your input was flagged.",
                     "metadata": {"reasons": ["violence"], "flagged_input": "a …"}}}),
    (403, {"code": "forbidden", "error": "Content violates usage guidelines. API key ID: 7, Failed check: SAFETY_X"}),
    (400, {"error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}}),
    (400, {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."}),
    (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "param": None}}),
    (400, {"contentFilter": [{"level": 1, "role": "user"}], "error": {"code": "1301", "message": "可能包含不安全"}}),
    (400, {"error": {"code": "InputTextSensitiveContentDetected", "message": "The request failed."}}),
    (400, {"error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
    (400, {"error": {"code": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}, "message": "x"}}),
    (451, {"detail": "The prompt was blocked."}),
    (200, {"error": {"code": "sensitive", "message": "The text holds what may not be told."}}),
    (200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}),
    (200, {"error_code": 336104, "error_msg": "the user's content violates the rules of content security"}),
    (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    (200, said(None, "content_filter: SAFETY")),
    (200, said("", "PROHIBITED_CONTENT")),
    (200, said("", "sensitive")),
    (400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {"provider_name": "X",
                     "raw": '{"error": {"code": "content_filter", "message": "The response was filtered."}}'}}}),
    (400, {"error": {"message": "The request was rejected because it was considered high risk"}}),
    (400, {"error": {"message": "系统检测到输入内容可能包含不安全或敏感内容"}}),
    (422, {"detail": {"error": "The prompt is NSFW and was rejected by the filter."}}),
    (446, {"error": {"message": "Guardrails triggered", "type": "hooks_failed"}}),
    (200, {"choices": [{"finish_reason": "error", "message": {"content": ""},
                        "error": {"code": "content_filter", "message": "Flagged."}}]}),
    (400, {"error": {"code": 400, "message": "Provider returned error",
                     "metadata": {"error_type": "content_policy_violation"}}}),
    (200, {"choices": [{"finish_reason": "error", "message": {"content": ""}, "error": {
        "code": 400, "message": "Provider returned error", "metadata": {"error_type": "refusal"}}}]}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_providers_refusal_is_refused_final_and_said_in_its_words(status, body, tmp_path):
    asked = []

    def answer(sent):
        text = sent["messages"][-1]["content"]
        asked.append(text)
        return (status, body) if "number 2:" in text else (200, said(WELL))

    with Raw(answer) as server:
        first = run(server, tmp_path)
        second = run(server, tmp_path)
    assert first.coding.count() == second.coding.count() == {"ok": 5, "refused": 1}
    assert first.status == second.status == "complete"
    assert len(asked) == 6, "neither in this session nor in the next is it asked again"
    reason = first.coding.answers["S_Gate"][2].reason
    assert reason.startswith("the server reports a refusal")


FAILURES = [
    (
        401,
        {"error": {"code": "invalid_api_key", "message": "Incorrect API key: content policy of this key."}},
    ),
    (
        403,
        {"error": {"code": "account_deactivated", "message": "Your account was flagged and is deactivated."}},
    ),
    (
        403,
        {"error": {"message": "Your organization's access was suspended for violating our usage policies."}},
    ),
    (
        403,
        {
            "error": {
                "message": "Guardrail budget exceeded",
                "metadata": {"limit_source": "openrouter_guardrail_budget"},
            }
        },
    ),
    (
        400,
        {
            "error": {
                "code": "unsupported_value",
                "message": "Unknown field 'safety_settings': not a valid value.",
            }
        },
    ),
    (400, {"error": {"code": "case_sensitive_name", "message": "Model names are case sensitive."}}),
    (404, {"error": {"message": "No endpoints found matching your data policy."}}),
    (502, {"error": {"type": "connection_refused", "message": "connection refused"}}),
    (500, {"error": {"message": "the moderation service is down"}}),
    (502, {"error": {"code": 60012, "message": "content filter unavailable, try again"}}),
    (502, {"error": {"code": 502, "message": "the input was blocked by a gateway"}}),
]


@pytest.mark.parametrize(("status", "body"), FAILURES)
def test_what_concerns_the_account_or_the_server_is_no_refusal_of_a_text(status, body):
    error = body["error"]
    assert not refusal_in(status, error, server_words(body))


# As the providers document them, read in November 2026.
CLOSED = [
    (429, {"error": {"type": "billing_error", "code": "credit_balance_exhausted", "message": "No credits."}}),
    (429, {"error": {"type": "insufficient_quota", "code": "project_spend_limit_exceeded", "message": "Quota."}}),
    (400, {"type": "error", "error": {"type": "invalid_request_error",
           "message": "Your credit balance is too low to access the Anthropic API."}}),
    (400, {"type": "error", "error": {"type": "invalid_request_error",
           "message": "You have reached your specified workspace API usage limits. You will regain access on …"}}),
    (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "Your organization has reached a limit.",
           "details": {"error_code": "enforced_spend_limit_reached"}}}),
    (403, {"error": {"code": 403, "message": "Guardrail budget exceeded", "metadata": {
           "limit_source": "openrouter_guardrail_budget", "limit_usd": 5, "spend_usd": 5.1}}}),
    (403, {"code": "The caller does not have permission to execute the specified operation",
           "error": "Your team 1 has either used all available credits or reached its monthly spending limit."}),
    (400, {"error": {"code": "organization_restricted", "message": "Organization has been restricted."}}),
    (400, {"error": {"code": "Arrearage", "message": "Access denied, make sure your account is in good standing."}}),
    (400, {"error": {"message": "Budget has been exceeded! Current cost: 5.1, Max budget: 5.0", "code": "400"}}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), CLOSED, ids=range(len(CLOSED)))
def test_an_account_with_nothing_left_ends_the_run_and_refuses_no_text(status, body, tmp_path):
    asked = []

    def answer(sent):
        asked.append(sent)
        return (status, body) if len(asked) > 3 else (200, said(WELL))

    with Raw(answer) as server:
        first = run(server, tmp_path, n=60, max_parallel=1)
        assert first.status == "partial"
        assert first.config["stopped"].startswith(
            "the provider has refused this account 20 times in a row; last: "
        )
        assert len(asked) == 23, "it is not sent again, and not for every text"
        server.answer = lambda sent: (200, said(WELL))
        assert run(server, tmp_path, n=60).coding.count() == {"ok": 60}


def test_credits_that_are_held_for_what_is_in_flight_are_waited_for(tmp_path):
    why = {"reason": "in_flight_budget_exhausted", "limit_source": "openrouter_in_flight_budget"}
    held = {"code": 402, "message": "This request would exceed your available credits", "metadata": why}
    asked = []

    def answer(sent):
        asked.append(sent)
        return (402, {"error": held}, {"Retry-After": "0.01"}) if len(asked) % 3 else (200, said(WELL))

    with Raw(answer) as server:
        assert run(server, tmp_path, max_parallel=1).coding.count() == {"ok": 6}


def test_tokens_of_a_reply_that_broke_off_are_paid_and_counted(tmp_path):
    asked = []

    def answer(sent):
        asked.append(sent)
        part = said('{"respo', "error")
        part["choices"][0]["error"] = {"code": 502, "message": "Provider disconnected"}
        return 200, part if len(asked) == 1 else said(WELL)

    with Raw(answer) as server:
        counts = json.loads((run(server, tmp_path, max_parallel=1).folder / "char_counts.json").read_text())
    assert len(asked) == 7
    assert (counts["input_tokens"], counts["output_tokens"]) == (7 * 9, 7 * 3)


def test_hundreds_of_refused_texts_in_a_row_stop_nothing_in_whatever_words(tmp_path):
    """Texts come sorted by label; the refusal of one says nothing about the next, known words or not."""

    def answer(sent):
        number = int(sent["messages"][-1]["content"].split("number ")[-1].split(":")[0])
        if number < 30:
            return 400, {"error": {"message": "no", "code": "E1"}}
        if number < 60:
            return 403, {"error": {"code": "content_filter", "message": "no"}}
        return 200, said(WELL)

    with Raw(answer) as server:
        done = run(server, tmp_path, 90, max_parallel=1)
    assert done.coding.count() == {"failed": 30, "refused": 30, "ok": 30}


@pytest.mark.parametrize(
    ("words", "shared"),
    [
        ("IMAGE_PROHIBITED_CONTENT guardrail_stop contentFiltered usage_policy_violation", "content_filter"),
        (
            "rate_limit rateLimited RATE_LIMIT_EXCEEDED out_of_memory killed server_shutdown quota_exceeded",
            "error",
        ),
        ("modelError internal crashed upstream_timeout throttled CANCELLED engineOverloaded", "error"),
        ("token_limit_reached max_length too_long maxTokens stop_length OUTPUT_LIMIT truncated", "length"),
        ("refusal model_refusal declined", "refusal"),
    ],
)
def test_a_finish_reason_is_known_by_its_words_however_it_is_written(words, shared):
    assert [str(ending(word)).partition(":")[0] for word in words.split()] == [shared] * len(words.split())
    plain = ("eos_token", "stop_sequence", "tool_calls", "COMPLETE", "end_turn", "OTHER", "pause_turn")
    assert [ending(word) for word in plain] == [*plain]


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ([said(WELL)["choices"][0], said("no")["choices"][0]], f"{WELL}\nno"),
        ([said(WELL)["choices"][0], said(WELL)["choices"][0]], WELL),
        ([{"message": {"content": {"type": "text", "text": WELL}}}], WELL),
        (
            [
                {
                    "message": {
                        "content": None,
                        "tool_calls": [{"function": {"name": "answer", "arguments": WELL}}],
                    }
                }
            ],
            WELL,
        ),
        ([{"message": {"content": "", "function_call": {"arguments": {"response": True}}}}], WELL),
        ([{"message": {"content": "no", "tool_calls": [{"function": {"arguments": WELL}}]}}], "no"),
        ([{"message": {"content": None, "tool_calls": [5, {"function": 5}]}}], ""),
    ],
)
def test_where_the_answer_stands(choices, text):
    assert read_completion(Exchange(200, {"choices": choices})).text == text


def test_a_router_hands_on_what_the_provider_said():
    raw = {
        "error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "slow down, please"}}
    }
    assert server_words(raw) == "Provider returned error: slow down, please"


# ---- failures that come with status 200 -------------------------------------------------------------------------

BROKEN = [
    said('{"respon', "error"),
    said(WELL, "error"),
    said(WELL, "insufficient_system_resource"),
    said("", "abort"),
    said(WELL, "network_error"),
    {**said(WELL), "error": {"code": 502, "message": "Upstream provider error"}},
    {
        "choices": [
            {"message": {"content": WELL}, "finish_reason": "stop", "error": {"code": 503, "message": "gone"}}
        ]
    },
    {
        "choices": [
            {"message": None, "finish_reason": "error", "error": {"code": 429, "message": "Rate limited"}}
        ]
    },
    {"choices": []},
    {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
    {"object": "error", "message": "engine died", "code": 50001},
    {"success": False, "errors": [{"code": 3040, "message": "Capacity temporarily exceeded"}]},
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_a_failure_behind_a_gateway_is_no_answer_and_is_asked_again(body, tmp_path):
    down = [True]
    with Raw(lambda sent: (200, body if down[0] else said(WELL))) as server:
        first = run(server, tmp_path, 2)
        assert first.coding.count() == {"failed": 2}
        assert not any(line.get("error") is None for line in ledger(first) if "text_id" in line)
        down[0] = False
        assert run(server, tmp_path, 2).coding.count() == {"ok": 2}


def test_words_for_the_end_of_a_reply():
    assert [ending(w) for w in ("stop", "Stop", "end_turn", "tool_calls", "eos_token", "")] == [
        "stop", "stop", "end_turn", "tool_calls", "eos_token", None]  # fmt: skip
    assert {ending(w) for w in ("length", "MAX_TOKENS", "max_output_tokens", "model_length")} == {"length"}
    assert ending({"type": "abort", "message": "x"}) == "error: abort"
    assert read_completion(Exchange(200, said("{", "MAX_TOKENS"))).finish_reason == "length"


# ---- waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"message": "Please retry in 4.2s.", "details": [{"retryDelay": "5s"}]}}, 5),
        ({"error": {"message": "Rate limit reached for x. Please try again in 7m12.5s. Need more?"}}, 432.5),
        ({"error": {"message": "Please try again in 120ms."}}, 0.12),
        ({"error": {"message": "Retry after 59 seconds."}}, 59),
        ({"error": {"message": "Too many requests, wait 2 minutes."}}, 120),
        ({"error": "busy", "retry_after_ms": 2500}, 2.5),
        ({"error": {"metadata": {"headers": {"Retry-After": "11"}}}}, 11),
        ({"error": {"details": [{"retryDelay": {"seconds": 9}}]}}, 9),
        ({"error": {"message": "The limit is 30 requests per minute."}}, None),
        ({"error": {"message": "You sent 3 messages in 20 s windows"}}, None),
        ({"error": "busy", "retry_after": True}, None),
        ({"error": "busy", "retryDelay": "soon"}, None),
    ],
)
def test_a_wait_in_the_body_is_read(body, seconds):
    found = wait_in(body, server_words(body))
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_wait_in_the_body_is_kept_to(tmp_path):
    start = []

    def answer(sent):
        start.append(time.monotonic())
        if time.monotonic() - start[0] < 0.8:
            return 429, [{"error": {"code": 429, "details": [{"retryDelay": "0.9s"}], "message": "Quota."}}]
        return 200, said(WELL)

    with Raw(answer) as server:
        done = run(server, tmp_path, 4, max_parallel=2)
    assert done.coding.count() == {"ok": 4}
    assert len(start) <= 6, "it was asked again before the time"


# ---- what is too long -------------------------------------------------------------------------------------------

TOO_LONG = [
    "This model's maximum prompt length is 8192 but the request contains 9000 tokens.",
    "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
    "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model",
    "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
    "Range of input length should be [1, 30720]",
    "Prompt exceeds max length",
    "Invalid request: Your request exceeded model token limit: 8192",
    "Please reduce the length of the messages or completion.",
    "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
    "tokens in the prompt exceed the model's window: 9000 > 8192",
]


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_text_that_is_too_long_is_known_in_the_words_of_many(words):
    body = {"error": {"message": words, "type": "invalid_request_error"}}
    reply = failed_reply(Exchange(400, body, f"HTTP 400: {words}", words=words))
    assert reply.finish_reason == "context"
    assert reply.error.startswith("text does not fit")


@pytest.mark.parametrize(
    "words",
    [
        "You exceeded your current quota",
        "Your messages exceed the limit of your monthly credits",
        "Invalid 'seed': integer above the maximum value",
        "string too long: a user has at most 64 characters",
        "The model is busy for longer than usual",
        "Input should be less than or equal to 4096",
    ],
)
def test_what_is_not_too_long(words):
    assert (
        failed_reply(Exchange(400, {"error": words}, f"HTTP 400: {words}", words=words)).finish_reason
        == "error"
    )


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("Range of max_tokens should be [1, 8192]", 8192),
        (
            "a maxOutputTokens value of 20000 but the supported range is from 1 (inclusive) to 8193 (exclusive).",
            8192,
        ),
        (
            "The maximum tokens you requested exceeds the model limit of 8192. Try a value lower than 8192.",
            8192,
        ),
        ("Unsupported parameter: 'max_tokens' (see https://docs.x/4001). The limit is elsewhere.", 0),
        ("max_tokens is not a number", 0),
        ("This seed exceeds the range 1 to 4000", 0),
    ],
)
def test_the_longest_reply_that_a_server_allows_is_read_in_its_words(words, most):
    assert most_tokens_in(words, 20_000) == most


def test_a_longest_reply_above_the_context_leaves_what_is_left(tmp_path):
    wanted = []

    def answer(sent):
        wanted.append(sent["max_tokens"])
        if 300 + sent["max_tokens"] > 1000:
            words = (
                f"This model's maximum context length is 1000 tokens. You requested {300 + sent['max_tokens']} "
                f"tokens (300 in the messages, {sent['max_tokens']} in the completion)."
            )
            return 400, {"error": {"message": words, "code": 400}}
        return 200, said(WELL)

    with Raw(answer) as server:
        done = run(server, tmp_path, 3, max_tokens=4000, max_parallel=1)
    assert done.coding.count() == {"ok": 3}
    assert wanted == [4000, 700] * 3


@pytest.mark.parametrize(
    ("words", "room"),
    [
        (
            "maximum context length is 4,096 tokens and your request has 3,000 input tokens (2000 > 4096 - 3000)",
            1096,
        ),
        (
            "exceeds the model's maximum context length of 4096 tokens: 3000 tokens from the input messages and 2000",
            1096,
        ),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 2000", 1096),
        ("input length and `max_tokens` exceed context limit: 3000 + 2000 > 4096", 1096),
        (
            "This model's maximum context length is 4096 tokens (4090 in the messages, 2000 in the completion)",
            None,
        ),
        ("maximum context length is 4096 tokens (5000 in the messages, 2000 in the completion)", None),
        ("the server is busy", None),
    ],
)
def test_the_room_that_is_left_in_the_words_of_servers(words, room):
    from asking import request

    assert room_left(words, request(max_tokens=2000)) == room


def test_the_longest_reply_that_a_server_allows_is_learned_once(tmp_path):
    wanted = []

    def answer(sent):
        wanted.append(sent["max_tokens"])
        if sent["max_tokens"] > 512:
            words = f"max_tokens is too large: {sent['max_tokens']}. This model supports at most 512 completion tokens."
            return 400, {"error": {"message": words, "param": "max_tokens", "code": "invalid_value"}}
        return 200, said(WELL)

    with Raw(answer) as server:
        done = run(server, tmp_path, 4, max_tokens=9000, max_parallel=1)
    assert done.coding.count() == {"ok": 4}
    assert wanted == [9000, 512, 512, 512, 512]


# ---- replies that are meant to harm -----------------------------------------------------------------------------


def test_nested_and_huge_replies_are_one_failure_each(tmp_path):
    deep = b'{"detail":' + b"[" * 900 + b"]" * 900 + b"}"
    bomb = gzip.compress(b'{"choices": "' + b"x" * (40 << 20) + b'"}')
    harm = {
        0: (500, deep, {}),
        1: (200, b'{"a":' * 1010 + b"1" + b"}" * 1010, {}),
        2: (200, bomb, {"Content-Encoding": "gzip"}),
        3: (200, zlib.compress(json.dumps(said(WELL)).encode()), {"Content-Encoding": "deflate"}),
        4: (200, b"<" * 300_000, {}),
        5: (502, b"<" * 300_000, {}),
        6: (200, json.dumps(said("[" * 50_000)).encode(), {}),
        7: (200, b"xyz", {"Content-Encoding": "br"}),
    }

    def answer(sent):
        number = int(sent["messages"][-1]["content"].split("number ")[-1].split(":")[0])
        return harm.get(number, (200, said(WELL)))

    with Raw(answer) as server:
        start = time.monotonic()
        done = run(server, tmp_path, 12, retries=0)
        assert time.monotonic() - start < 10
    said_of = [a.status for a in done.coding.answers["S_Gate"]]
    assert said_of == [
        "failed",
        "failed",
        "failed",
        "ok",
        "failed",
        "failed",
        "invalid",
        "failed",
        *["ok"] * 4,
    ]
    assert "larger than 16 MB" in done.coding.answers["S_Gate"][2].reason
    assert len((done.folder / "responses.jsonl").read_bytes()) < 2 << 20


# ---- keys -------------------------------------------------------------------------------------------------------


def test_a_key_cannot_be_pickled_or_copied():
    import copy

    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a key cannot be"):
            act(Secret("sk-abc"))


def spellings(key):
    inside = [base64.b64encode((before + key).encode()).decode() for before in ("", ":", "me:", "Bearer ")]
    coded = quote(key, safe="")
    return {
        *(key, key.upper(), key.encode().hex(), json.dumps(key), repr(key), *inside),
        *(coded, coded.lower(), quote(coded, safe=""), key.replace("/", "&#x2F;").replace("+", "&#43;")),
        *(
            key.replace("/", r"\u002f").replace("+", r"\u002B"),
            key.replace("/", r"\\/"),
            f"...{key[8:]}",
            f"{key[:-4]}***",
        ),
    }


@pytest.mark.parametrize("key", ["sk-ant-api03-PLANTED0key/1234567890+x==", "a8Fq+Zr9/kLpm0Q2==XYZ/wvU7t"])
def test_a_key_is_known_in_every_spelling_and_in_pieces(key):
    for spelling in spellings(key):
        words = f"the key {spelling} is not known"
        left = masked(words, [key])
        rest = left.removeprefix("the key ").removesuffix(" is not known")
        assert "…" in rest
        assert not any(spelling[i : i + 16] in left for i in range(len(spelling) - 15)), (spelling, left)
    innocent = "Bearer of good news: the KEY to /api/ is 100 % patience and 3 + 4 = 7"
    assert masked(innocent, [key]) == innocent


def test_a_key_among_the_names_of_models_is_not_printed(monkeypatch):
    monkeypatch.setenv("NBANNOT_API_KEY", "planted-key-0123456789")
    names = {"data": [{"id": "a-planted-key-0123456789"}]}
    with Raw(
        lambda sent: (404, {}), get=lambda path: (404, {}) if "nope" in path else (200, names)
    ) as server:
        for backend in ("openai", "anthropic"):
            with pytest.raises(ModelError, match="It has: a-…") as caught:
                get_model(RunConfig(model=f"{backend}/nope", base_url=server.url)).info()
            assert "0123" not in str(caught.value)


@pytest.mark.parametrize("key", ["hunter2", "onlyletters", "a/b+c==42", "planted-key-0123456789"])
def test_an_echoed_key_reaches_no_file_whatever_it_looks_like(key, monkeypatch, tmp_path):
    monkeypatch.setenv("NBANNOT_API_KEY", key)

    def answer(sent):
        number = int(sent["messages"][-1]["content"].split("number ")[-1].split(":")[0])
        return [
            (200, said(json.dumps({"response": f"the key is {key}"}))),
            (200, {**said(WELL), "model": key, "system_fingerprint": key}),
            (500, {"error": {"message": f"no {key}"}}),
            (403, {"error": {"code": "content_filter", "message": f"{key} was flagged"}}),
            (200, said(json.dumps({"response": f"see http://x/?k={quote(key, safe='')}"}))),
            (
                200,
                {
                    "choices": [
                        {"message": {"content": WELL, "reasoning": f"{key}!"}, "finish_reason": "stop"}
                    ]
                },
            ),
        ][number % 6]

    book = nbannot.Codebook.build(text_column="text", sections={"S": [nbannot.textbox("Gist")]})
    with Raw(answer) as server:
        done = nbannot.run(
            task_of(6, book), model="openai/tiny", base_url=server.url, output_root=str(tmp_path)
        )
        assert server.headers[-1]["authorization"] == f"Bearer {key}"
    assert done.coding.answers["S_Gist"][0].value == "the key is …"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            assert key not in text, path.name
            assert quote(key, safe="") not in text, path.name


def test_a_key_of_one_letter_hides_no_error_and_no_label(monkeypatch, tmp_path):
    monkeypatch.setenv("NBANNOT_API_KEY", "x")
    too_long = {"error": {"message": "This model's maximum context length is 10 tokens.", "code": 400}}

    def answer(sent):
        return (400, too_long) if "number 1:" in sent["messages"][-1]["content"] else (200, said(WELL))

    with Raw(answer) as server:
        done = run(server, tmp_path, 3)
    assert done.coding.count() == {"ok": 2, "not_asked": 1}
    assert "maximum context length" in done.coding.answers["S_Gate"][1].reason
    assert (
        masked("a context of 8; Authorization: Bearer x", ["x"]) == "a context of 8; Authorization: Bearer …"
    )


# ---- another model ----------------------------------------------------------------------------------------------


def test_a_run_says_when_another_model_answered_midway(tmp_path):
    sent_so_far = []

    def answer(sent):
        sent_so_far.append(sent)
        name = "tiny-2024" if len(sent_so_far) <= 4 else "other-9000"
        return 200, {**said(WELL), "model": name, "system_fingerprint": f"fp_{name}"}

    with Raw(answer) as server:
        done = run(server, tmp_path, 6, max_parallel=1)
    assert done.config["model_changes"] == [
        "More than one model answered: tiny-2024 (4 answers), other-9000 (2 answers)."
    ]
    assert {line["model"] for line in ledger(done) if "text_id" in line} == {"tiny-2024", "other-9000"}
    assert "other-9000 (2 answers)" in str(done)


# ---- the engine -------------------------------------------------------------------------------------------------


def test_an_error_in_tick_ends_the_run_and_loses_no_answer(tmp_path):
    def answer(sent):
        time.sleep(0.05)
        return 200, said(WELL)

    def tick(progress):
        if progress.calls > 3:
            raise ValueError("from tick")

    with Raw(answer) as server:
        with pytest.raises(ValueError, match="from tick"):
            run(server, tmp_path, 60, tick=tick, max_parallel=4)
        taken = server.taken
        time.sleep(0.3)
        assert server.taken == taken, "it goes on behind the caller's back"
        lines = (next(tmp_path.rglob("responses.jsonl"))).read_text("utf-8").splitlines()
        assert sum("text_id" in json.loads(line) for line in lines) == taken < 60
        outputs = next(tmp_path.rglob("output.csv")).read_text("utf-8")
        assert outputs.count("t000") >= taken
        assert run(server, tmp_path, 60).status == "complete"
        assert server.taken == 60, "an answer was asked for twice"


def test_a_request_that_is_sent_again_on_a_new_connection_has_a_line_of_its_own(tmp_path):
    with Raw(lambda sent: (200, said(WELL)), drop_second=True) as server:
        done = run(server, tmp_path, 10, max_parallel=2)
        assert done.coding.count() == {"ok": 10}
        lines = [line for line in ledger(done) if "text_id" in line]
        assert len(lines) == server.taken > 10
    assert done.timing["retry_count"] == len(lines) - 10
    assert {line["error"] for line in lines} == {
        None, "the server closed the connection without a reply; the request was sent again at once"}  # fmt: skip
