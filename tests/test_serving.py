"""The server that misbehaves: answers as the mock model does, and meets faults that can be replayed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest
from serving import DATE, FAULTS, OF_THE_WIRE, Serving, in_a_process, place_of_text

from nbannot.asking.request_reply import Request
from nbannot.models.mock import MockModel

SCHEMA = {
    "type": "object",
    "properties": {"response": {"type": "string", "enum": ["for", "against", "neither"]}},
    "required": ["response"],
    "additionalProperties": False,
}


def message(number: int) -> str:
    return f"Code this text.\n\nText:\nThe minister spoke {number} times.\n\nResponse:\n"


def openai_body(number: int, **further: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": message(number)}],
        "response_format": form,
        **further,
    }


def ollama_body(number: int) -> dict[str, Any]:
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": message(number)}],
        "format": SCHEMA,
        "stream": False,
    }


def send(url: str, bodies: list[dict[str, Any]], timeout_s: float = 20) -> list[tuple[int, str]]:
    """Return status and text of the reply to each body, -1 for none; all are sent at once."""

    async def one(session: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[int, str]:
        try:
            async with session.post(url, json=body) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return -1, type(error).__name__

    async def every() -> list[tuple[int, str]]:
        limit = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(timeout=limit) as session:
            return await asyncio.gather(*(one(session, body) for body in bodies))

    return asyncio.run(every())


def said(reply: tuple[int, str]) -> Any:
    data = json.loads(reply[1])
    text = data["choices"][0]["message"]["content"] if "choices" in data else data["message"]["content"]
    return json.loads(text)["response"]


def in_process(number: int) -> Any:
    start, end = place_of_text(message(number))
    text = message(number)
    request = Request("k", ({"role": "user", "content": text},), start, SCHEMA, text=text[start:end])
    return json.loads(asyncio.run(MockModel().ask(request)).text)["response"]


def test_both_apis_answer_as_the_mock_model_does():
    with Serving() as server:
        over_openai = send(server.openai_url + "/chat/completions", [openai_body(i) for i in range(12)])
        over_ollama = send(server.url + "/api/chat", [ollama_body(i) for i in range(12)])
    expected = [in_process(i) for i in range(12)]
    assert [said(reply) for reply in over_openai] == expected
    assert [said(reply) for reply in over_ollama] == expected
    assert len(set(expected)) > 1


def test_a_schema_that_was_refused_still_decides_the_answer():
    with Serving(formats=("text",)) as server:
        url = server.openai_url + "/chat/completions"
        assert send(url, [openai_body(3)])[0][0] == 400
        plain = {k: v for k, v in openai_body(3).items() if k != "response_format"}
        assert said(send(url, [plain])[0]) == in_process(3)


def test_a_remark_after_the_text_changes_no_answer():
    with Serving() as server:
        body = openai_body(5)
        body["messages"][0]["content"] += "(An earlier answer could not be used: not JSON.)\n"
        assert said(send(server.openai_url + "/chat/completions", [body])[0]) == in_process(5)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("hang", "slow")])
def test_every_fault_shows(fault):
    with Serving(faults={fault: 1.0}) as server:
        status, text = send(server.openai_url + "/chat/completions", [openai_body(1)])[0]
        assert server.count == {fault: 1}
    if fault in ("reset", "cut_body"):
        assert status == -1
    elif fault.startswith("http_"):
        assert status == int(fault[-3:])
    elif fault == "schema_400":
        assert status == 400
    elif fault == "not_json":
        assert text.startswith("<html>")
    elif fault == "error_in_200":
        assert "error" in json.loads(text)
    elif fault == "thinking":
        assert json.loads(text)["choices"][0]["message"]["reasoning_content"]
    else:
        answer = json.loads(text)["choices"][0]["message"]["content"]
        assert answer != json.dumps({"response": in_process(1)})


def test_a_hang_lasts_and_a_slow_reply_comes_whole():
    with Serving(faults={"hang": 1.0}) as server:
        assert send(server.openai_url + "/chat/completions", [openai_body(1)], 0.2)[0][0] == -1
    with Serving(faults={"slow": 1.0}, slow_s=0.2) as server:
        url = server.openai_url + "/chat/completions"
        assert said(send(url, [openai_body(1)], 5)[0]) == in_process(1)
        assert send(url, [openai_body(1)], 0.1)[0][0] == -1


def test_faults_follow_from_seed_content_and_how_often_it_came():
    faults = {"http_500": 0.3, "prose": 0.3}

    def run(seed: int) -> list[tuple[int, str]]:
        with Serving(faults=faults, seed=seed) as server:
            url = server.openai_url + "/chat/completions"
            return [reply for _ in range(3) for reply in send(url, [openai_body(i) for i in range(30)])]

    first, again, other = run(1), run(1), run(2)
    assert first == again
    assert first != other
    assert [status for status, _ in first[:30]] != [status for status, _ in first[30:60]]


def test_faults_come_as_often_as_they_should():
    faults = {kind: 0.1 for kind in OF_THE_WIRE if kind != "hang"}
    with Serving(faults=faults) as server:
        url = server.openai_url + "/chat/completions"
        for start in range(0, 500, 100):
            send(url, [openai_body(i) for i in range(start, start + 100)], 10)
        counts = Counter(server.count)
    # 500 draws at 0.1: mean 50, standard deviation 6.7
    assert all(25 <= counts[kind] <= 75 for kind in faults), counts


def test_capacity_queue_and_retry_after():
    with Serving(capacity=2, queue=3, latency_s=0.1) as server:
        replies = send(server.openai_url + "/chat/completions", [openai_body(i) for i in range(10)], 5)
        assert Counter(status for status, _ in replies) == {200: 5, 503: 5}
    for form in ("3", DATE):
        with Serving(faults={"http_429": 1.0}, retry_after=form) as server:

            async def header(url: str = server.openai_url) -> str:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url + "/chat/completions", json=openai_body(1)) as response,
                ):
                    return response.headers["Retry-After"]

            assert asyncio.run(header()) == "3" or form == DATE


def test_runs_in_a_process_of_its_own():
    with in_a_process(models=["big"], latency_s=0.01) as url:
        status, text = send(url + "/v1/chat/completions", [openai_body(1, model="big")], 5)[0]
    assert status == 200, text
