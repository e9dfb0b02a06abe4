"""The pool: one exchange each, every way it can end, and no key or text where it does not belong."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from email.utils import formatdate
from typing import Any

import pytest
from serving import DATE, Serving

from nbannot.errors import ModelError
from nbannot.models.addresses import checked_address, is_loopback, proxy_for
from nbannot.models.exchange import Exchange, retry_after, server_words
from nbannot.models.http import Pool, at_once, parallel_for
from nbannot.models.keys import Secret, key_from, masked

KEY = "sk-planted-0123456789abcdef"


def body(number: int = 1) -> bytes:
    message = {"role": "user", "content": f"Text {number}"}
    schema = {"type": "object", "properties": {"response": {"type": "boolean"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return json.dumps({"model": "tiny", "messages": [message], "response_format": form}).encode()


def post(server: Serving | str, number: int = 1, **settings: Any) -> Exchange:
    address = server if isinstance(server, str) else server.openai_url

    async def one() -> Exchange:
        pool = Pool(address, **settings)
        await pool.open()
        try:
            return await pool.post("/chat/completions", body(number))
        finally:
            await pool.close()

    return asyncio.run(one())


# ---- how an exchange ends -----------------------------------------------------------------------------------------


def test_a_reply_is_data():
    with Serving() as server:
        found = post(server)
    assert (found.status, found.error, found.retriable) == (200, None, False)
    assert found.data["choices"]
    assert 0 < found.seconds < 5


@pytest.mark.parametrize(
    ("fault", "words", "retriable"),
    [
        ("http_500", "HTTP 500: llama runner|HTTP 500: ", True),
        ("http_503", "HTTP 503: server busy", True),
        ("http_429", "HTTP 429: Rate limit reached", True),
        ("schema_400", "HTTP 400: failed to parse grammar", False),
        ("error_in_200", "HTTP 502: upstream provider failed", True),
        ("not_json", "the server's reply is not JSON: '<html>", True),
        ("cut_body", "the connection broke in the middle of the reply", True),
        ("reset", "the connection broke before the reply", True),
        ("hang", "no reply within 0.3 s", True),
        ("slow", "no reply within 0.3 s", True),
    ],
)
def test_every_fault_of_the_wire_is_named(fault, words, retriable):
    with Serving(faults={fault: 1.0}, slow_s=2.0) as server:
        found = post(server, timeout_s=0.3 if fault in ("hang", "slow") else 20)
        assert len(server.calls) <= 1 or fault in ("hang", "slow")
    assert found.error is not None
    assert re.match(words, found.error), found.error
    assert found.retriable is retriable
    assert found.failed().error == found.error
    assert found.failed().retriable is retriable


def test_a_whole_reply_of_ten_slow_pieces_is_taken():
    with Serving(faults={"slow": 1.0}, slow_s=0.2) as server:
        found = post(server)
    assert found.error is None
    assert found.seconds >= 0.18


def test_the_time_out_is_total_and_not_rounded_up():
    with Serving(faults={"slow": 1.0}, slow_s=30.0) as server:
        start = time.monotonic()
        found = post(server, timeout_s=1.2)
        assert 1.1 < time.monotonic() - start < 1.9
    assert found.error == "no reply within 1.2 s"


def test_a_server_that_is_not_there():
    found = post("http://127.0.0.1:9/v1")
    assert found.error == "no connection to 127.0.0.1:9: Connection refused"
    assert found.retriable
    found = post("http://no-such-host.invalid/v1")
    assert found.error == "there is no server called no-such-host.invalid"


def test_nothing_left_on_the_account_is_not_worth_waiting_for():
    data = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    found = reply_with(429, json.dumps(data).encode())
    assert found.error == "HTTP 429: You exceeded your current quota"
    assert not found.retriable


def test_redirections_are_refused():
    found = reply_with(307, b"", "Location: https://elsewhere.example/v1\r\n")
    assert found.error == "the server redirects to https://elsewhere.example/v1; give that as base_url"
    assert not found.retriable


@pytest.mark.parametrize("raw", [b"", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_no_reply(raw):
    found = reply_with(200, raw)
    assert found.error
    assert found.retriable


def reply_with(status: int, raw: bytes, headers: str = "", key: Secret | None = None) -> Exchange:
    """Return what the pool makes of this very reply."""

    async def one() -> Exchange:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\n{headers}\r\n".encode() + raw)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", key=key)
        await pool.open()
        try:
            return await pool.post("/chat/completions", b"{}")
        finally:
            await pool.close()
            server.close()

    return asyncio.run(one())


def test_retry_after_comes_in_both_forms():
    with Serving(faults={"http_429": 1.0}, retry_after="7") as server:
        assert post(server).retry_after_s == 7
    with Serving(faults={"http_429": 1.0}, retry_after=DATE) as server:
        wait = post(server).retry_after_s
    assert wait is not None
    assert 0 <= wait <= 1
    now = 1_800_000_000.0
    assert retry_after({"Retry-After": formatdate(now + 90, usegmt=True)}, now) == 90
    assert retry_after({"Retry-After": formatdate(now - 90, usegmt=True)}, now) == 0
    for value in ("", "soon", "-3", "inf", "nan", "1e9", "9" * 400, "Wed, 99 Foo 2026 00:00:00 GMT"):
        assert retry_after({"Retry-After": value}) is None


# ---- connections --------------------------------------------------------------------------------------------------


def many(server: Serving, waits: list[float], at_once_: int = 1) -> list[Exchange]:
    async def run() -> list[Exchange]:
        pool = Pool(server.openai_url, timeout_s=5)
        await pool.open()
        found = []
        try:
            for wait in waits:
                found += await asyncio.gather(
                    *(pool.post("/chat/completions", body(n)) for n in range(at_once_))
                )
                await asyncio.sleep(wait)
        finally:
            await pool.close()
        return found

    return asyncio.run(run())


def test_connections_are_used_again():
    with Serving() as server:
        assert not [found.error for found in many(server, [0] * 20) if found.error]
        assert server.connections == 1


@pytest.mark.parametrize("settings", [{"idle_close_s": 0.02}, {"replies_per_connection": 3}])
def test_connections_that_the_server_closed_lose_no_request(settings):
    with Serving(**settings) as server:
        found = many(server, [0.0195, 0.02, 0.0205] * 15, at_once_=4)
        assert [one.error for one in found if one.error] == []
        assert len(server.calls) == len(found), "a request was sent twice"


def test_a_reset_on_a_new_connection_is_not_sent_again():
    with Serving(faults={"reset": 1.0}) as server:
        assert post(server).error
        assert server.count["reset"] == 1


def test_cancelled_requests_leave_the_server_at_once():
    with Serving(faults={"hang": 1.0}) as server:

        async def run() -> float:
            pool = Pool(server.openai_url)
            await pool.open()
            tasks = [asyncio.create_task(pool.post("/chat/completions", body(n))) for n in range(128)]
            while server.now_at_once < 128:
                await asyncio.sleep(0.01)
            start = time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while server.now_at_once:
                await asyncio.sleep(0.005)
            await pool.close()
            return time.monotonic() - start

        assert asyncio.run(run()) < 2


def test_a_pool_can_be_opened_again_in_another_loop():
    with Serving() as server:
        pool = Pool(server.openai_url)

        async def one() -> Exchange:
            await pool.open()
            try:
                return await pool.post("/chat/completions", body())
            finally:
                await pool.close()

        assert asyncio.run(one()).error is None
        assert asyncio.run(one()).error is None


# ---- addresses and proxies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://localhost:11434", True),
        ("http://127.0.0.1", True),
        ("http://127.8.9.10:80/v1", True),
        ("http://[::1]:8000", True),
        ("http://model.localhost:8000", True),
        ("http://192.168.1.5:8000", False),
        ("https://api.openai.com/v1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_what_this_machine_is(address, local):
    assert is_loopback(address) is local


def test_proxies_come_from_the_environment_and_never_stand_before_this_machine(monkeypatch):
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxy_for("https://api.example.com/v1") is None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    assert proxy_for("https://api.example.com/v1") == "http://proxy.example:3128"
    assert proxy_for("http://gpu.example:8000/v1") == "http://proxy.example:3128"
    assert proxy_for("http://127.0.0.1:8000/v1") is None
    assert proxy_for("http://localhost:8000/v1") is None
    monkeypatch.setenv("no_proxy", "gpu.example,.inside.example")
    assert proxy_for("http://gpu.example:8000/v1") is None
    assert proxy_for("https://a.inside.example") is None
    monkeypatch.setenv("https_proxy", "socks5://proxy.example:1080")
    with pytest.raises(ModelError, match="of the kind 'socks5'"):
        proxy_for("https://api.example.com/v1")


def test_requests_go_through_the_proxy(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    seen: list[bytes] = []

    async def run() -> Exchange:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"choices":[]}')
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        pool = Pool("http://gpu.example:8000/v1")
        await pool.open()
        try:
            return await pool.post("/chat/completions", b"{}")
        finally:
            await pool.close()
            server.close()

    assert asyncio.run(run()).error is None
    assert seen == [b"POST http://gpu.example:8000/v1/chat/completions HTTP/1.1"]


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ModelError, match="base_url must be an address such as"):
        checked_address(address, "base_url")


def test_an_address_holds_no_password():
    with pytest.raises(ModelError, match="holds a password") as raised:
        checked_address("https://me:topsecret@example.com/v1", "OPENAI_BASE_URL")
    assert "topsecret" not in str(raised.value)
    azure = "https://my.openai.azure.com/openai/deployments/gpt-x?api-version=2024-10-21"
    assert checked_address(f" {azure} ", "base_url") == azure
    assert checked_address(" https://example.com/v1/ ", "base_url") == "https://example.com/v1"


@pytest.mark.parametrize(
    "address",
    [
        "https://host/v1?api_key=hunter2",
        "https://host/v1?x=1&Subscription-Key=abc",
        "https://host/v1?sig=abc",
        "https://host/v1?x=sk-Abcdef0123456789",
        "https://host/sk-Abcdef0123456789/v1",
        "https://host/v1/hf_AbcdefGhijklmnop",
        "https://host/x/planted%2Dword/v1",
        "https://host/v1#planted-word",
        "https://host/v1?next=planted-word",
    ],
)
def test_an_address_holds_no_key(monkeypatch, address):
    monkeypatch.setenv("NBANNOT_API_KEY", "planted-word")
    with pytest.raises(ModelError, match=r"config\.json") as raised:
        checked_address(address, "base_url")
    assert not re.search("hunter2|abc|planted|Abcdef", str(raised.value))


# ---- keys ---------------------------------------------------------------------------------------------------------


def test_keys_come_from_the_environment_and_do_not_show(monkeypatch):
    monkeypatch.setenv("NBANNOT_API_KEY", f"  {KEY}\n")
    key = key_from("NBANNOT_API_KEY", "OPENAI_API_KEY")
    assert key is not None
    assert key.reveal() == KEY
    assert KEY not in repr(key) + str(key) + f"{key}"
    monkeypatch.setenv("NBANNOT_API_KEY", "sk-with space")
    with pytest.raises(ModelError, match="NBANNOT_API_KEY holds a character that no key has") as raised:
        key_from("NBANNOT_API_KEY")
    assert "with space" not in str(raised.value)
    monkeypatch.delenv("NBANNOT_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert key_from("NBANNOT_API_KEY", "OPENAI_API_KEY") is None


def test_a_key_that_the_server_sends_back_is_masked(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTHER", "x")
    with Serving(key="another-key") as server:
        found = post(server, key=Secret(KEY))
    assert found.error == "HTTP 401: Incorrect API key provided: …."
    found = reply_with(500, b"x" * 290 + KEY.encode(), key=Secret(KEY))
    assert found.error is not None
    assert "planted" not in found.error
    assert KEY not in caplog.text


def test_a_short_key_does_not_change_answers():
    answer = {"choices": [{"message": {"content": "the answer is not-needed"}}]}
    found = reply_with(200, json.dumps(answer).encode(), key=Secret("not-needed"))
    assert found.data == answer


def test_masking(monkeypatch):
    monkeypatch.setenv("NBANNOT_API_KEY_API_EXAMPLE_COM", "deep-secret-9")
    assert masked("key deep-secret-9 was refused") == "key … was refused"
    assert masked("see http://me:word@proxy:3128/x") == "see http://…@proxy:3128/x"
    assert masked("hf_abcdefghijk and sk-proj-abc***xyz1") == "hf_… and sk-…"
    assert masked("no key in here") == "no key in here"


# ---- the rest -----------------------------------------------------------------------------------------------------


def test_the_servers_own_words():
    assert server_words({"error": "model 'x' not found"}) == "model 'x' not found"
    assert server_words({"error": '{"error":{"message":"too long"}}'}) == "too long"
    assert server_words({"detail": "Not Found"}) == "Not Found"
    assert server_words(None, "<html><b>Bad</b> gateway</html>") == "Bad gateway"
    assert server_words(None, "") == ""


def test_at_once_works_inside_a_running_loop():
    async def answer() -> int:
        return 42

    async def outer() -> int:
        return at_once(answer())

    async def wrong() -> None:
        raise ModelError("as it is")

    assert asyncio.run(outer()) == 42
    with pytest.raises(ModelError, match="as it is"):
        at_once(wrong())


def test_how_many_at_once():
    assert [parallel_for(n) for n in (None, 4, 64, 1000)] == [32, 4, 64, 128]
