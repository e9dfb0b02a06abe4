"""Models behind OpenAI's interface: what is sent, what is learned from refusals, what replies are read as."""

from __future__ import annotations

import asyncio
import json
import os
from threading import Thread
from typing import Any

import pytest
from asking import LABELS, SCHEMA, ask, request
from conftest import GATE, codebook_of, task_of
from rawserving import Raw, said
from serving import OF_THE_ANSWER, OF_THE_WIRE, Serving

import nbannot
from nbannot.asking.reply_parts import split_thinking
from nbannot.asking.request_reply import Model
from nbannot.errors import ModelError
from nbannot.models.chat import content_text, is_too_long, read_completion
from nbannot.models.dialect import Dialect
from nbannot.models.exchange import Exchange
from nbannot.models.keys import key_for
from nbannot.models.logprobs import NoScore, option_probabilities
from nbannot.models.openai_compatible import OpenAIModel
from nbannot.models.registry import backends, get_model

KEY = "sk-planted-0123456789abcdef"
OPTIONS = tuple(json.dumps({"response": label}) for label in LABELS)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("NBANNOT_API_KEY", "OPENAI_")):
            monkeypatch.delenv(name)


def model_at(server: Serving, name: str = "tiny", **settings: Any) -> OpenAIModel:
    return OpenAIModel(name, base_url=server.openai_url, **{"timeout_s": 5.0, **settings})


# ---- asking -----------------------------------------------------------------------------------------------


def test_is_a_model_that_the_registry_knows():
    assert "openai" in backends()
    config = nbannot.RunConfig(model="openai/tiny", base_url="http://localhost:1/v1", max_parallel=64)
    model = get_model(config)
    assert isinstance(model, OpenAIModel)
    assert isinstance(model, Model)
    assert model.parallel == 64
    assert OpenAIModel("x").parallel == 32
    assert OpenAIModel("x").answer_modes[0] == "generate"


def test_what_is_sent():
    with Serving() as server:
        reply = ask(model_at(server), request(temperature=0.5, top_p=0.9, top_k=5, max_tokens=64))[0]
        sent = server.calls[0].body
        headers = server.calls[0].headers
    assert sent == {
        "model": "tiny",
        "messages": list(request().messages),
        "stream": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 1,
        "max_tokens": 64,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        },
    }
    assert "authorization" not in headers
    assert json.loads(reply.text)["response"] in LABELS
    assert (reply.error, reply.finish_reason) == (None, "stop")
    assert (reply.input_tokens, reply.output_tokens) == (10, 2)
    assert reply.seconds > 0


def test_any_text_can_be_sent():
    odd = '«Zoë» 🏠 \u2028 \\ " \x00 \ud800'
    message = {"role": "user", "content": odd}
    with Serving() as server:
        reply = ask(model_at(server), request(messages=(message,), shared=0, text=odd))[0]
        assert server.calls[0].body["messages"] == [message]
    assert reply.error is None


def test_every_request_gets_the_reply_to_its_own_text():
    with Serving(latency_s=0.01, capacity=7) as server:
        together = ask(model_at(server, max_parallel=128), *(request(i) for i in range(200)))
        alone = [ask(model_at(server), request(i))[0] for i in range(0, 200, 20)]
    assert [reply.text for reply in together[::20]] == [reply.text for reply in alone]
    assert len({reply.text for reply in together}) == 3


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (None, {}),
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("low", {"reasoning_effort": "low"}),
    ],
)
def test_the_reasoning_switch(wanted, sent):
    assert Dialect(token_limit=None).parameters(request(reasoning=wanted)).items() >= sent.items()
    at_openai = Dialect("max_completion_tokens", "reasoning_effort").parameters(request(reasoning=wanted))
    words = {None: None, True: "medium", False: "none", "low": "low"}
    assert at_openai.get("reasoning_effort") == words[wanted]


def test_the_schema_is_encoded_once_and_the_bodies_stay_right():
    dialect = Dialect()
    for number in range(300):
        schema = {"type": "object", "properties": {"response": {"type": "string", "enum": [str(number)]}}}
        body = json.loads(dialect.body(request(schema=schema, seed=number), "m"))
        assert body["response_format"]["json_schema"]["schema"] == schema
        assert body["seed"] == number


# ---- refusals that teach ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "used"),
    [(("json_schema",), "json_schema"), (("json_object", "text"), "json_object"), (("text",), "text")],
)
def test_the_format_steps_down(formats, used):
    with Serving(formats=formats) as server:
        model = model_at(server)
        first = ask(model, request(1))[0]
        refused = server.count["refused"]
        later = ask(model, *(request(i) for i in range(10)))
        assert server.count["refused"] == refused, "what was learned was forgotten"
    assert refused == ["json_schema", "json_object", "text"].index(used)
    assert model.capabilities["response_format"] == used
    assert all(json.loads(reply.text)["response"] in LABELS for reply in [first, *later])


def test_one_schema_that_is_refused_leaves_the_others_alone():
    other = {"type": "object", "properties": {"response": {"type": "boolean"}}}
    dialect = Dialect()
    refusal = Exchange(400, {"error": "failed to parse grammar"}, "HTTP 400: failed to parse grammar")
    assert dialect.learn(request(), refusal)
    assert dialect.formats.of(SCHEMA) == "json_object"
    assert dialect.formats.of(other) == "json_schema"
    assert dialect.learn(request(), refusal)
    assert dialect.formats.of(SCHEMA) == "text"
    assert not dialect.learn(request(), refusal)


def test_parameters_that_are_refused_are_left_out_and_told():
    refuse = ("seed", "top_k", "temperature", "max_tokens")
    with Serving(refuse=refuse) as server:
        model = model_at(server)
        replies = ask(model, *(request(i, top_k=3) for i in range(40)))
        sent = server.calls[-1].body
    assert [reply.error for reply in replies if reply.error] == []
    assert set(model.capabilities["dropped"]) == set(refuse)
    assert model.capabilities["token_limit"] == "max_completion_tokens"
    assert not set(refuse) & set(sent)
    assert sent["max_completion_tokens"] == 512
    assert "temperature" in model.capabilities["dropped"]["temperature"]


def test_a_failure_is_no_refusal_even_if_another_request_has_just_learned_something():
    dialect, asked, sent = Dialect(), request(), []

    async def send(parameters):
        sent.append(parameters)
        dialect.formats.step_down(asked.schema)  # by another request, while this one was under way
        return Exchange(500, error="HTTP 500: out of memory", retriable=True)

    exchange = dialect.exchange(asked, dialect.parameters, send)
    assert asyncio.run(exchange).status == 500
    assert len(sent) == 1


def test_many_at_once_learn_the_same_thing():
    refuse = ("seed", "top_k", "temperature", "top_p", "max_tokens", "chat_template_kwargs")
    with Serving(refuse=refuse, formats=("text",), latency_s=0.01) as server:
        model = model_at(server)
        schemas = [json.loads(json.dumps(SCHEMA)) for _ in range(16)]
        wanted = {"top_k": 3, "top_p": 0.5, "reasoning": True}
        replies = ask(model, *(request(i, schema=schemas[i % 16], **wanted) for i in range(128)))
    assert [reply.error for reply in replies if reply.error] == []


@pytest.mark.parametrize(
    ("words", "param", "code", "dropped"),
    [
        ("'temperature' does not support 0 with this model.", "temperature", "unsupported_value", {"temperature"}),
        ("Unrecognized request argument supplied: top_k", None, None, {"top_k"}),
        ("body.seed: Extra inputs are not permitted", None, None, {"seed"}),
        ("max_tokens is too large: 99999. This model supports at most 16384", "max_tokens", "invalid_value", set()),
        ("temperature must be at most 1", "temperature", None, set()),
        ("unknown model 'x'", None, "model_not_found", set()),
    ],
)  # fmt: skip
def test_only_what_is_not_supported_is_left_out(words, param, code, dropped):
    dialect = Dialect()
    data = {"error": {"message": words, "param": param, "code": code}}
    learned = dialect.learn(request(top_k=4), Exchange(400, data, f"HTTP 400: {words}"))
    assert learned is bool(dropped)
    assert set(dialect.dropped) == dropped


EFFORT = "Unsupported value: 'reasoning_effort' does not support '{}' with this model."


@pytest.mark.parametrize(
    ("wanted", "known", "words", "sent"),
    [
        (
            False,
            ("low", "medium", "high", "xhigh"),
            EFFORT + " Supported values are: 'low', 'medium' and 'high'.",
            "low",
        ),
        (False, ("minimal", "low"), EFFORT, "minimal"),  # words that name none
        ("minimal", ("high",), EFFORT + " Supported values are: 'high'.", "high"),
        ("high", ("none", "low"), "body.reasoning_effort: Input should be 'none' or 'low', got high", "low"),
        (False, (), "Unrecognized request argument supplied: reasoning_effort", None),
    ],
)
def test_an_effort_that_a_model_does_not_know_becomes_the_nearest_it_knows(wanted, known, words, sent):
    asked = []

    def answer(body):
        effort = body.get("reasoning_effort")
        asked.append(effort)
        if "chat_template_kwargs" in body:
            return 400, {"error": {"message": "Unknown parameter: 'chat_template_kwargs'."}}
        if effort is not None and effort not in known:
            return 400, {"error": {"message": words.format(effort), "param": "reasoning_effort"}}
        return 200, said('{"response": "no"}')

    with Raw(answer) as server:
        model = OpenAIModel("tiny", base_url=server.url)
        model.dialect.switch = "reasoning_effort"
        replies = [ask(model, request(n, reasoning=wanted))[0] for n in range(2)]
    assert [reply.error for reply in replies] == [None, None]
    assert asked[-1] == sent
    assert asked.count(sent) == 2 or sent is None
    again = Dialect(switch="reasoning_effort")
    again.recall(json.loads(json.dumps(model.dialect.lessons())))
    assert again.parameters(request(reasoning=wanted)).get("reasoning_effort") == sent


@pytest.mark.parametrize(
    ("address", "wanted", "sent"),
    [
        ("https://openrouter.ai/api/v1", False, {"reasoning": {"effort": "none"}}),
        ("https://openrouter.ai/api/v1", True, {"reasoning": {"enabled": True}}),
        ("https://api.deepseek.com", False, {"thinking": {"type": "disabled"}}),
        ("https://api.deepseek.com", "low", {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", False, {"enable_thinking": False}),
    ],
)
def test_hosts_that_ignore_what_they_do_not_know_are_told_to_think_in_their_own_way(address, wanted, sent):
    body = json.loads(OpenAIModel("m", base_url=address).body(request(reasoning=wanted)))
    assert {name: body.get(name) for name in sent} == sent
    assert "chat_template_kwargs" not in body


@pytest.mark.parametrize(
    "words",
    ["body.top_logprobs: Input should be less than or equal to 5", "top_logprobs must be in the range [0, 5]",
     "Invalid value for 'top_logprobs': 20 exceeds the maximum of 5"],
)  # fmt: skip
def test_as_many_log_probabilities_are_asked_for_as_a_server_returns(words):
    dialect, scored = Dialect(), request(options=OPTIONS, answer_mode="score")
    assert dialect.learn(
        scored, Exchange(400, {"error": {"message": words}}, f"HTTP 400: {words}", words=words)
    )
    assert dialect.parameters(scored)["top_logprobs"] == 5
    again = Dialect()
    again.recall(dialect.lessons())
    assert again.parameters(scored)["top_logprobs"] == 5
    assert not dialect.learn(
        scored, Exchange(400, {"error": {"message": words}}, f"HTTP 400: {words}", words=words)
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "You are not allowed to request logprobs from this model"),
        (400, "Unsupported parameter: 'logprobs' is not supported with this model."),
    ],
)
def test_a_model_without_log_probabilities_is_not_asked_about_every_text(status, words, tmp_path):
    with Raw(lambda sent: (status, {"error": {"message": words}})) as server:
        run = nbannot.run(
            task_of(40, codebook_of(GATE)), model="openai/tiny", base_url=server.url, answer_mode="score",
            max_parallel=1, output_root=str(tmp_path),
        )  # fmt: skip
        assert server.taken == 20
    assert 'use answer_mode = "generate"' in run.config["stopped"]


def test_a_reasoning_switch_that_no_form_reaches_is_an_error():
    with Serving(refuse=("chat_template_kwargs", "reasoning_effort")) as server:
        reply = ask(model_at(server), request(reasoning=True))[0]
    assert reply.error is not None
    assert "reasoning_effort" in reply.error
    assert not reply.retriable


# ---- replies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["reasoning_content", "reasoning", "tags", "open"])
def test_reasoning_is_told_apart_from_the_answer(style):
    with Serving(thinking=style) as server:
        model = model_at(server)
        thought, plain = ask(model, request(1, reasoning=True)), ask(model, request(1))
        assert model.capabilities["reasoning_seen"]
    assert thought[0].reasoning == "The text says so."
    assert plain[0].reasoning is None
    assert thought[0].text == plain[0].text


def test_thinking_that_is_none_stays():
    for text in ('{"response": "</think>"}', "<think>never ends", "said <think>a</think>b", "", "plain"):
        assert split_thinking(text) == (None, text)
    assert split_thinking("<think>\n</think>\n\n{}") == (None, "{}")
    assert split_thinking("<THINKING>a</THINKING>{}") == ("a", "{}")


@pytest.mark.parametrize("fault", [f for f in OF_THE_ANSWER if f != "empty"])
def test_faulty_answers_come_through_as_they_are(fault):
    with Serving(faults={fault: 1.0}) as server:
        replies = ask(model_at(server), *(request(i) for i in range(8)))
    for reply in replies:
        assert reply.error is None
        assert reply.text
        assert reply.finish_reason in (("refusal", "stop") if fault == "refusal" else ("length", "stop"))
    if fault == "refusal":
        assert {reply.finish_reason for reply in replies} == {"refusal", "stop"}
    if fault == "length":
        assert {reply.finish_reason for reply in replies} == {"length"}


@pytest.mark.parametrize("fault", OF_THE_WIRE)
def test_faults_of_the_wire_are_errors_that_may_pass(fault):
    with Serving(faults={fault: 1.0}) as server:
        reply = ask(model_at(server, timeout_s=0.3 if fault in ("hang", "slow") else 20), request())[0]
        assert len(server.calls) == 1
    assert reply.error
    assert reply.retriable
    assert reply.text == ""


def completion(**message: Any) -> Exchange:
    return Exchange(200, {"choices": [{"message": message, "finish_reason": "stop"}]})


def test_odd_but_legal_replies():
    assert read_completion(completion(content=None)).text == ""
    assert read_completion(completion(content=[{"type": "text", "text": "{}"}])).text == "{}"
    assert content_text(7) == ""
    reply = read_completion(completion(content=None, refusal="I won't."))
    assert (reply.text, reply.finish_reason) == ("I won't.", "refusal")
    for data in ({}, {"choices": []}, {"choices": [None]}, {"choices": [{"text": "x"}]}, {"choices": "x"}):
        reply = read_completion(Exchange(200, data))
        assert reply.error
        assert reply.retriable


def test_tokens():
    usage = {"prompt_tokens": 90, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 64}}
    reply = read_completion(Exchange(200, {**completion(content="x").data, "usage": usage}))
    assert (reply.input_tokens, reply.output_tokens, reply.evaluated_tokens) == (90, 4, 26)
    timings = {"prompt_n": 7, "cache_n": 83}
    reply = read_completion(
        Exchange(200, {**completion(content="x").data, "usage": usage, "timings": timings})
    )
    assert reply.evaluated_tokens == 7
    reply = read_completion(Exchange(200, {**completion(content="x").data, "usage": None}))
    assert (reply.input_tokens, reply.output_tokens, reply.evaluated_tokens) == (None, None, None)


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, 603),  # Gemini
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
          "completion_tokens_details": {"reasoning_tokens": 94}}, 103),  # xAI
        ({"prompt_tokens": 21, "completion_tokens": 0, "completion_tokens_details": {"reasoning_tokens": 60}}, 60),
        ({"prompt_tokens": 90, "completion_tokens": 64, "total_tokens": 154,
          "completion_tokens_details": {"reasoning_tokens": 60}}, 64),  # OpenAI
        ({"prompt_tokens": 90, "completion_tokens": 4, "total_tokens": 4}, 4),
        ({"prompt_tokens": 90, "total_tokens": 90}, None),
    ],
)  # fmt: skip
def test_tokens_of_thinking_are_paid_for_wherever_they_are_counted(usage, written):
    reply = read_completion(Exchange(200, {**completion(content="x").data, "usage": usage}))
    assert reply.output_tokens == written


def test_a_text_that_does_not_fit_has_a_status_of_its_own():
    with Serving(context=5) as server:
        reply = ask(model_at(server), request())[0]
        assert len(server.calls) == 1
    assert reply.finish_reason == "context"
    assert reply.error == "text does not fit: about 10 tokens of 5"
    for words in (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "the request exceeds the available context size, try increasing it",
        "Input is too long for this model",
    ):
        assert is_too_long(Exchange(400, {"error": words}, f"HTTP 400: {words}"))
    assert not is_too_long(Exchange(400, {}, "HTTP 400: max_tokens is too large: 99999"))
    assert not is_too_long(Exchange(429, {}, "HTTP 429: Request too large for tokens per minute"))


# ---- label probabilities ----------------------------------------------------------------------------------


def test_scored_answers():
    with Serving() as server:
        scored = request(options=OPTIONS, answer_mode="score")
        reply, written = ask(model_at(server), scored)[0], ask(model_at(server), request())[0]
        assert server.calls[0].body["top_logprobs"] == 20
    assert reply.probabilities is not None
    assert len(reply.probabilities) == 3
    assert sum(reply.probabilities) == pytest.approx(1)
    assert reply.text == OPTIONS[reply.probabilities.index(max(reply.probabilities))]
    assert written.probabilities is None


def test_a_server_without_log_probabilities_says_so():
    with Serving(logprobs=False) as server:
        reply = ask(model_at(server), request(options=OPTIONS, answer_mode="score"))[0]
    assert reply.error == (
        'no label probabilities: the server returns no log-probabilities; use answer_mode = "generate"'
    )
    assert not reply.retriable


def place(token: str, top: dict[str, float]) -> dict[str, Any]:
    from math import log

    listed = [{"token": t, "logprob": log(p)} for t, p in top.items()]
    return {"token": token, "logprob": log(top.get(token, 1.0)), "top_logprobs": listed}


def test_probabilities_of_tokens_become_those_of_options():
    # P(for) : P(against) : P(neither) = 0.5 : 0.2 + 0.1 : 0.1; 0.1 of the probability begins no option
    top = {'"for': 0.5, '"ag': 0.2, '"against': 0.1, '"neither': 0.1, "null": 0.1}
    tokens = [place('{"response":', {}), place('"for', top), place('"}', {})]
    shares = option_probabilities(tokens, OPTIONS)
    assert shares == pytest.approx((0.5 / 0.9, 0.3 / 0.9, 0.1 / 0.9))
    spread = [place(t, {}) for t in ("{\n ", ' "', "response", '"', ": ", '"')]
    top = {"for": 0.6, "against": 0.3, "neither": 0.1}
    assert option_probabilities([*spread, place("for", top), place('"}', {})], OPTIONS) == pytest.approx(
        (0.6, 0.3, 0.1)
    )


def test_the_tokens_of_llama_cpp():
    """As its server sent them: a fence in front, white space inside, and what the schema forbids among the tokens."""
    spread = [place(t, {}) for t in ("```", "json", "\n", "{", "\n ", ' "', "response", '":', ' "')]
    top = {"The": 0.38, "the": 0.11, "for": 0.03, "against": 0.01, "neither": 0.01}
    tokens = [*spread, place("for", top), place('"', {}), place("\n", {}), place("}", {}), place("```", {})]
    assert option_probabilities(tokens, OPTIONS) == pytest.approx((0.6, 0.2, 0.2))


def test_options_that_begin_alike_are_told_apart_where_they_part():
    options = [json.dumps({"response": n}) for n in (1, 10)]
    head = place('{"response": ', {})
    apart = [head, place("1", {"1": 1.0}), place("}", {"}": 0.75, "0": 0.25})]
    assert option_probabilities(apart, options) == pytest.approx((0.75, 0.25))
    with pytest.raises(NoScore, match="several options begin with the same token"):
        option_probabilities([head, place("10", {"10": 0.5, "1": 0.4, "1}": 0.1})], options)
    truth = [json.dumps({"response": value}) for value in (False, True)]
    assert option_probabilities([head, place("true", {"true": 0.9, "false": 0.1})], truth) == pytest.approx(
        (0.1, 0.9)
    )


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (None, "no log-probabilities"),
        ([], "no log-probabilities"),
        ([{"tok": 1}], "a form that is not known"),
        ([place("Well", {})], "does not begin as one of the options does"),
        ([place('{"response": ', {})], "ends before the options part"),
        ([place('{"response": ', {}), place('"for', {'"for': 0.9, '"against': 0.1})], "1 of 3 options are not among"),
    ],
)  # fmt: skip
def test_what_is_missing_is_not_made_up(tokens, why):
    with pytest.raises(NoScore, match=why):
        option_probabilities(tokens, OPTIONS)


@pytest.mark.parametrize(
    ("logprob", "why"),
    [
        (float("nan"), "tells nan as a log-probability"),
        (float("inf"), "tells inf as a log-probability"),
        (float("-inf"), "tells -inf as a log-probability"),
        ("NaN", "tells nan as a log-probability"),
        (800.0, "tells 800 as a log-probability, which must be finite and at most 0"),
        (1e30, "tells 1e\\+30 as"),
        (0.25, "tells 0.25 as"),
        (-0.02, "probabilities that sum to 1.97, more than 1"),
        (10**400, "a form that is not known"),
        (None, "a form that is not known"),
        (False, "a form that is not known"),
    ],
)
def test_numbers_that_are_no_log_probabilities_choose_no_option(logprob, why):
    best = {"token": '"against', "logprob": -0.01}
    first = {"token": '"for', "logprob": logprob}
    third = {"token": '"neither', "logprob": -9.0}
    head = {"token": '{"response": ', "logprob": 0.0}
    with pytest.raises(NoScore, match=why):
        option_probabilities([head, {**best, "top_logprobs": [first, best, third]}], OPTIONS)
    shares = option_probabilities(
        [head, {**best, "top_logprobs": [{**first, "logprob": "-5"}, best, third]}], OPTIONS
    )
    assert shares.index(max(shares)) == 1


# ---- what the model is ------------------------------------------------------------------------------------


def test_info():
    with Serving(models=("tiny", "large"), context=4096) as server:
        info = model_at(server).info()
        assert info.full_name == "openai/tiny"
        assert info.endpoint == server.openai_url
        assert (info.is_local, info.energy_measured, info.context_size) == (True, True, 4096)
        assert OpenAIModel("tiny", base_url=server.url).info().endpoint == server.openai_url
        with pytest.raises(ModelError) as raised:
            model_at(server, "tinny").info()
        assert str(raised.value) == (
            f"the server at {server.openai_url} has no model 'tinny'; did you mean 'tiny'?\n  It has: large, tiny."
        )
        with pytest.raises(ModelError, match="has several models"):
            model_at(server, "").info()


def test_thinking_is_kept_in_whatever_form_a_server_sends_it():
    answer = '{"response": "for"}'

    def read(content, **further):
        message = {"content": content, **further}
        exchange = Exchange(data={"choices": [{"message": message, "finish_reason": "stop"}]}, status=200)
        reply = read_completion(exchange)
        return reply.text, reply.reasoning

    weighed = {"type": "text", "text": "Weighed."}
    assert read([{"type": "thinking", "thinking": [weighed]}, {"type": "text", "text": answer}]) == (
        answer,
        "Weighed.",
    )
    assert read([{"type": "reasoning", "text": "Weighed."}, answer]) == (answer, "Weighed.")
    assert read(answer, reasoning_details=[{"type": "reasoning.text", "text": "Weighed."}]) == (
        answer,
        "Weighed.",
    )
    assert read(answer, reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}]) == (answer, None)
    assert read(f"<think>Then this.</think>{answer}", reasoning="First.") == (answer, "First.\nThen this.")
    assert read(f"<think>Weighed.</think>{answer}", reasoning_content="") == (answer, "Weighed.")
    assert read(f"[THINK]Weighed.[/THINK]{answer}") == (answer, "Weighed.")
    assert read(None, reasoning_content=answer) == ("", answer)
    assert read(answer, reasoning={"summary": [weighed]}, reasoning_content=3) == (answer, "Weighed.")


def test_the_only_model_needs_no_name():
    with Serving() as server:
        assert model_at(server, "").info().full_name == "openai/tiny"


def test_a_server_that_lists_nothing_is_taken_at_its_word():
    with Serving(lists_models=False) as server:
        info = model_at(server).info()
        assert info.notes == ("The server does not list its models: the name was not checked.",)
        with pytest.raises(ModelError, match="a model needs a name"):
            model_at(server, "").info()


def test_info_works_inside_a_running_loop():
    async def inside(server: Serving) -> str:
        return model_at(server).info().name

    with Serving() as server:
        assert asyncio.run(inside(server)) == "tiny"


def test_a_server_that_is_not_there():
    with pytest.raises(ModelError) as raised:
        OpenAIModel("tiny", base_url="http://127.0.0.1:9/v1").info()
    assert str(raised.value) == (
        "the model server at http://127.0.0.1:9/v1 cannot be reached: no connection to 127.0.0.1:9: "
        "Connection refused.\n  Start the server, or set another base_url."
    )


def test_a_server_far_away_has_no_energy_and_says_when_it_is_not_encrypted(monkeypatch):
    monkeypatch.setattr("nbannot.models.openai_compatible.is_loopback", lambda _: False)
    with Serving() as server:
        info = model_at(server).info()
    assert (info.is_local, info.energy_measured, info.server) == (False, False, None)
    assert info.notes == ("Texts and key go to the server unencrypted (http).",)


# ---- keys -------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment(monkeypatch):
    with Serving(key=KEY) as server:
        with pytest.raises(ModelError) as raised:
            model_at(server).info()
        assert str(raised.value) == (
            f"the server at {server.openai_url} wants a key, and none is there for it.\n"
            "  Set NBANNOT_API_KEY_127_0_0_1 or NBANNOT_API_KEY before Python starts; "
            "never write a key into a notebook."
        )
        monkeypatch.setenv("NBANNOT_API_KEY", KEY)
        assert model_at(server).info().name == "tiny"
        assert ask(model_at(server), request())[0].error is None
        monkeypatch.setenv("NBANNOT_API_KEY", "sk-wrong-0123456789")
        with pytest.raises(ModelError, match="refuses the key in NBANNOT_API_KEY") as raised:
            model_at(server).info()
        assert "wrong-0123456789" not in str(raised.value)
        monkeypatch.setenv("NBANNOT_API_KEY_127_0_0_1", KEY)
        assert model_at(server).info().name == "tiny"


def test_where_no_key_is_set_the_provider_s_own_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu1:8000/v1")
    names = ("NBANNOT_API_KEY", "OPENAI_API_KEY")
    at_provider, at_own = key_for("https://api.openai.com/v1", *names), key_for("http://gpu1:8000/v1", *names)
    assert at_provider.told() == "no key goes to api.openai.com: OPENAI_API_KEY is not set"
    assert at_provider.what_to_set().startswith("  Set OPENAI_API_KEY before Python starts")
    assert at_own.told() == "no key goes to gpu1"
    assert at_own.what_to_set().startswith("  Set NBANNOT_API_KEY_GPU1 or NBANNOT_API_KEY before")


def test_the_key_of_another_program_goes_to_its_own_host_alone(monkeypatch):
    """A config.json from somebody else names the address: that is no reason to send it the key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Serving() as stranger:
        model = model_at(stranger)
        model.info()
        assert ask(model, request())[0].error is None
        assert [call.headers.get("authorization") for call in stranger.calls] == [None] * len(stranger.calls)
        assert model.key.told() == "no key goes to 127.0.0.1 (OPENAI_API_KEY stays here)"
        monkeypatch.setenv("NBANNOT_KEY_HOSTS", "gpu.example, 127.0.0.1")
        assert ask(model_at(stranger), request())[0].error is None
        assert stranger.calls[-1].headers["authorization"] == f"Bearer {KEY}"
        monkeypatch.delenv("NBANNOT_KEY_HOSTS")
        monkeypatch.setenv("OPENAI_BASE_URL", stranger.openai_url)
        assert model_at(stranger).key.variable == "OPENAI_API_KEY"
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        assert model_at(stranger).key.variable == ""
    for url, sent in {
        "https://api.openai.com/v1": True,
        "https://eu.api.openai.com/v1": True,
        "http://api.openai.com/v1": False,
        "https://api.openai.com.evil.example/v1": False,
        "https://evilopenai.com/v1": False,
        "https://router.huggingface.co/v1": False,
    }.items():
        assert bool(OpenAIModel("m", base_url=url).key.key) is sent, url


def test_the_address_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1234/v1/")
    assert OpenAIModel("x").address == "http://localhost:1234/v1"
    for given in (
        "http://localhost:5/v1",
        "http://localhost:5/v1/chat/completions",
        "http://localhost:5/v1/responses",
        "http://localhost:5/v1/",
    ):
        assert OpenAIModel("x", base_url=given).address == "http://localhost:5/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:1234")
    with pytest.raises(ModelError, match="OPENAI_BASE_URL must be an address"):
        OpenAIModel("x")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert OpenAIModel("x").address == "https://api.openai.com/v1"


def test_a_server_without_tls_and_one_without_models_are_called_that():
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as plain:
        Thread(target=plain.serve_forever, daemon=True).start()
        reply = ask(OpenAIModel("tiny", base_url=f"https://127.0.0.1:{plain.server_port}/v1"), request())[0]
        plain.shutdown()
    assert reply.error.endswith("does not speak https: try http:// in the address")
    empty = Raw(lambda sent: (200, said("{}")), get=lambda path: (200, {"data": []}))
    with empty as server, pytest.raises(ModelError, match="It lists none"):
        OpenAIModel("tiny", base_url=server.url).info()


def test_a_path_that_is_not_there_is_a_wrong_address():
    with Serving() as server:
        reply = ask(OpenAIModel("tiny", base_url=f"{server.url}/v2"), request())[0]
    assert reply.error.endswith(f"(/chat/completions at {server.url}/v2; most base_url end in /v1)")


def test_no_key_stays_anywhere(monkeypatch, tmp_path, caplog, capsys):
    """A run against a server that sends the key back in every second reply leaves no trace of it."""
    caplog.set_level(0)
    monkeypatch.setenv("NBANNOT_API_KEY", KEY)
    with Serving(key=KEY, faults={"http_503": 0.1, "prose": 0.2}) as server:
        run = nbannot.run(
            "policy-sentiment",
            model="openai/tiny",
            base_url=server.openai_url,
            limit=4,
            output_root=str(tmp_path),
        )
        shown = f"{run!r}{run.config}{vars(OpenAIModel('tiny', base_url=server.url))}"
    monkeypatch.setenv("NBANNOT_API_KEY", "sk-planted-other-one-77")
    with Serving(key=KEY) as server, pytest.raises(ModelError) as raised:
        model_at(server).info()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "responses.jsonl" for path in files)
    texts = [path.read_text("utf-8", "replace") for path in files]
    out = capsys.readouterr()
    for text in [*texts, shown, caplog.text, out.out, out.err, str(raised.value), repr(raised.value)]:
        assert "planted" not in text


# ---- a whole run ------------------------------------------------------------------------------------------


def test_a_run_over_http_gives_the_labels_of_the_mock_model(tmp_path):
    with Serving() as server:
        over_http = nbannot.run(
            "policy-sentiment",
            model="openai/tiny",
            base_url=server.openai_url,
            limit=12,
            output_root=str(tmp_path / "http"),
        )
    in_process = nbannot.run(
        "policy-sentiment",
        model="mock",
        answer_mode="generate",
        seed=False,
        limit=12,
        output_root=str(tmp_path / "mock"),
    )
    assert over_http.status == in_process.status == "complete"
    columns = ["text_id", "column", "value", "status"]
    assert over_http.labels[columns].equals(in_process.labels[columns])


def test_a_plan_says_which_key_would_go_where(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Serving() as server:
        plan = str(
            nbannot.plan(
                "policy-sentiment",
                model="openai/tiny",
                base_url=server.openai_url,
                limit=2,
                output_root=str(tmp_path),
            )
        )
        assert "no key goes to 127.0.0.1 (OPENAI_API_KEY stays here)" in " ".join(plan.split())
        monkeypatch.setenv("NBANNOT_API_KEY", "own-planted-1")
        plan = nbannot.plan(
            "policy-sentiment",
            model="openai/tiny",
            base_url=server.openai_url,
            limit=2,
            output_root=str(tmp_path),
        )
        assert "NBANNOT_API_KEY goes to 127.0.0.1" in " ".join(str(plan).split())
    assert "planted" not in str(plan)


def test_proxies_that_list_kinds_of_models_and_servers_without_their_version(monkeypatch):
    listing = {"data": [{"id": "openai/*"}, {"id": "other"}]}
    with Raw(lambda sent: (200, said("{}")), get=lambda path: (200, listing)) as server:
        info = OpenAIModel("openai/gpt-5-nano", base_url=server.url).info()
        assert "not by name" in info.notes[0]
        with pytest.raises(ModelError, match="has no model 'mistral/x'"):
            OpenAIModel("mistral/x", base_url=server.url).info()

    def studio(path):
        if path == "/v1/models":
            return 200, {"data": [{"id": "tiny"}]}
        return 200, {"error": f"Unexpected endpoint or method. (GET {path})"}

    with Raw(lambda sent: (200, said('{"response": "for"}')), get=studio) as server:
        root = server.url.removesuffix("/v1")
        for base in (root, f"{root}/", server.url, f"{server.url}/chat/completions", f"{server.url}/models"):
            model = OpenAIModel("tiny", base_url=base)
            assert model.info().name == "tiny"
            assert ask(model, request())[0].error is None
            assert server.paths[-1] == "/v1/chat/completions"
        with pytest.raises(ModelError, match=f'base_url = "{server.url}"'):
            OpenAIModel("tiny", base_url=f"{root}/api/v1").info()

    def azure(path):
        return 404, {"error": {"code": "404", "message": "Resource not found"}}

    with Raw(lambda sent: (200, said('{"response": "for"}')), get=azure) as server:
        base = f"{server.url}/deployments/x/chat/completions?api-version=2024-10-21"
        assert ask(OpenAIModel("x", base_url=base), request())[0].error is None
        assert server.paths == ["/v1/deployments/x/chat/completions?api-version=2024-10-21"]


def test_the_same_model_on_another_port_is_the_same_run(tmp_path):
    where = {"limit": 3, "output_root": str(tmp_path), "fields": ["Policy Sentiment_Direction"]}
    runs = []
    for _ in range(2):
        with Serving() as server:
            runs.append(
                nbannot.run("policy-sentiment", model="openai/tiny", base_url=server.openai_url, **where)
            )
            posts = [call for call in server.calls if call.path.endswith("completions")]
    assert runs[0].run_id == runs[1].run_id
    assert posts == []
    with Serving(models=("other",)) as server:
        other = nbannot.run("policy-sentiment", model="openai/other", base_url=server.openai_url, **where)
    assert other.run_id != runs[0].run_id
