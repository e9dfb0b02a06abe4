"""Models on an Ollama server: what is sent, loading, context, thinking, fetching and starting."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import serving
from asking import LABELS, SCHEMA, ask, request
from serving import OF_THE_ANSWER, OF_THE_WIRE, Serving

import nbannot
from nbannot.asking.request_reply import Model
from nbannot.errors import ModelError
from nbannot.models.ollama import OllamaModel, estimated_tokens, full_name
from nbannot.models.ollama_server import SERVERS, host_address, version_numbers
from nbannot.models.registry import backends

NAME = "tiny:latest"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("NBANNOT_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NBANNOT_OLLAMA_START", "0")


def ollama(**settings: Any) -> Serving:
    return Serving(**{"models": (NAME,), **settings})


def model_at(server: Serving, name: str = "tiny", **settings: Any) -> OllamaModel:
    return OllamaModel(name, base_url=server.url, **{"timeout_s": 5.0, **settings})


# ---- asking -----------------------------------------------------------------------------------------------


def test_what_is_sent():
    with ollama() as server:
        model = model_at(server, threads=3)
        assert isinstance(model, Model)
        reply = ask(model, request(temperature=0.5, top_p=0.9, top_k=5, max_tokens=64, reasoning=False))[0]
        load, sent = server.calls[0].body, server.calls[1].body
    runner = {"num_ctx": 4096, "num_thread": 3}
    assert load == {
        "model": NAME,
        "messages": [],
        "stream": False,
        "keep_alive": "10m",
        "options": runner,
    }
    assert sent == {
        "model": NAME,
        "messages": list(request().messages),
        "stream": False,
        "truncate": False,
        "shift": False,
        "keep_alive": "10m",
        "options": {**runner, "num_predict": 64, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 1},
        "think": False,
        "format": SCHEMA,
    }
    assert json.loads(reply.text)["response"] in LABELS
    assert (reply.error, reply.finish_reason, reply.input_tokens, reply.output_tokens) == (
        None,
        "stop",
        10,
        2,
    )


def test_the_model_is_loaded_once_however_many_ask():
    with ollama(latency_s=0.01) as server:
        replies = ask(model_at(server, max_parallel=64), *(request(i) for i in range(64)))
        assert server.count["loaded"] == 1
    assert [reply.error for reply in replies if reply.error] == []


def test_a_model_that_cannot_be_loaded_says_why():
    words = "model requires more system memory (40.1 GiB) than is available (7.9 GiB)"
    with ollama(load_error=words) as server:
        replies = ask(model_at(server), *(request(i) for i in range(8)))
        assert server.count["loaded"] < 8
        assert server.count["answered"] == 0
    assert {reply.error for reply in replies} == {f"HTTP 500: {words}"}


@pytest.mark.parametrize("fault", OF_THE_WIRE)
def test_faults_of_the_wire_are_errors_that_may_pass(fault):
    with ollama(faults={fault: 1.0}) as server:
        reply = ask(model_at(server, timeout_s=0.3 if fault in ("hang", "slow") else 20), request())[0]
    assert reply.error
    assert reply.retriable


@pytest.mark.parametrize("fault", [f for f in OF_THE_ANSWER if f != "empty"])
def test_faulty_answers_come_through_as_they_are(fault):
    with ollama(faults={fault: 1.0}) as server:
        reply = ask(model_at(server), request())[0]
    assert reply.error is None
    assert reply.text
    assert reply.finish_reason == ("length" if fault == "length" else "stop")


@pytest.mark.parametrize(
    ("formats", "used", "sent"),
    [
        (("json_schema",), "json_schema", SCHEMA),
        (("json_object",), "json_object", "json"),
        ((), "text", None),
    ],
)
def test_the_format_steps_down(formats, used, sent):
    with ollama(formats=formats) as server:
        model = model_at(server)
        replies = ask(model, *(request(i) for i in range(6)))
        assert server.calls[-1].body.get("format") == sent
    assert model.capabilities["response_format"] == used
    assert all(json.loads(reply.text)["response"] in LABELS for reply in replies)


def test_thinking():
    with ollama() as server:
        thought, plain = ask(model_at(server), request(reasoning="low"), request())
        assert {call.body.get("think") for call in server.calls[1:]} == {"low", None}
    assert (thought.reasoning, plain.reasoning) == ("The text says so.", None)
    assert thought.text == plain.text
    with ollama(thinking="") as server:
        reply = ask(model_at(server), request(reasoning=True))[0]
        assert ask(model_at(server), request(reasoning=False))[0].error is None
    assert reply.error == f'HTTP 400: "{NAME}" does not support thinking: leave the setting reasoning out'
    assert not reply.retriable


# ---- context ----------------------------------------------------------------------------------------------


def test_the_window_grows_with_the_prompts_and_never_shrinks():
    with ollama() as server:
        model = model_at(server)
        ask(model, request(), request(text="word " * 4000), request())
        windows = [call.body["options"]["num_ctx"] for call in server.calls if call.body["messages"]]
        assert max(windows) == 8192  # 20,000 bytes: about 6,700 tokens, and 512 for the reply
        assert model.capabilities["num_ctx"] == 8192
        assert server.count["loaded"] == 2


def test_the_window_is_the_one_asked_for_and_never_more_than_the_model_has():
    with ollama(context=6000) as server:
        model = model_at(server)
        assert model.info().context_size == 6000
        ask(model, request(text="word " * 5000))
        assert server.calls[-1].body["options"]["num_ctx"] == 6000
        model = model_at(server, context_size=2048)
        assert model.info().context_size == 2048
        ask(model, request())
        assert server.calls[-1].body["options"]["num_ctx"] == 2048
        assert model_at(server, context_size=99_999).info().context_size == 6000
    with ollama(context=131_072) as server:
        model = model_at(server)
        assert model.info().context_size == 32_768
        ask(model, request(text="word " * 40_000))
        assert server.calls[-1].body["options"]["num_ctx"] == 32_768
        assert model_at(server, context_size=99_999).info().context_size == 99_999


def test_a_text_that_does_not_fit_is_not_cut():
    long = request(text="word " * 5000)
    with ollama(context=4096) as server:
        model = model_at(server)
        model.info()
        reply = ask(model, long)[0]
        assert server.calls[-1].body["truncate"] is False
    assert reply.finish_reason == "context"
    assert reply.error == "text does not fit: about 5,005 tokens of 4,096"
    with ollama(context=4096, ollama_version="0.11.4") as server:
        model = model_at(server)
        model.info()
        reply = ask(model, long)[0]
        assert server.calls == [], "an old server would have cut it"
    assert reply.finish_reason == "context"
    assert reply.error == f"text does not fit: about {estimated_tokens(long.messages):,} tokens of 4,096"


# ---- what it is -------------------------------------------------------------------------------------------


def test_info():
    with ollama(context=32_768) as server:
        info = model_at(server).info()
        assert info.full_name == "ollama/tiny:latest"
        assert info.digest is not None
        assert info.digest.startswith("sha256:")
        assert len(info.digest) == 71
        assert (info.quantization, info.parameters, info.context_size) == ("Q8_0", "268.10M", 32_768)
        assert (info.server, info.endpoint) == ("Ollama 0.32.9", server.url)
        assert (info.is_local, info.energy_measured, info.notes) == (True, True, ())
        assert info.details["capabilities"] == ["completion", "thinking"]
        assert info.details["parameter_count"] == 268_098_176


def test_a_model_of_the_cloud_is_not_local():
    with ollama(remote_host="https://ollama.com:443") as server:
        info = model_at(server).info()
    assert (info.is_local, info.energy_measured) == (False, False)
    assert info.notes == (
        "This model runs at https://ollama.com:443: the texts leave the machine of the server.",
    )


def test_a_missing_model_says_what_to_type():
    with ollama(models=("gemma3:270m", "qwen3:0.6b")) as server, pytest.raises(ModelError) as raised:
        model_at(server, "gema3:270m").info()
    assert str(raised.value) == (
        f"the Ollama server at {server.url} has no model 'gema3:270m'; did you mean 'gemma3:270m'?\n"
        "  Type in a terminal: ollama pull gema3:270m\n"
        "  It has: gemma3:270m, qwen3:0.6b."
    )
    with pytest.raises(ModelError, match="needs a name"):
        OllamaModel("")


def test_fetching_when_asked(monkeypatch):
    said: list[str] = []
    with ollama() as server:
        model = model_at(server, "other", say=said.append)
        with pytest.raises(ModelError):
            model.info()
        model.pull()
        assert model.info().name == "other:latest"
        assert said == [
            "Fetching other:latest: pulling manifest",
            "Fetching other:latest: 10 % of 0 MB",
            "Fetching other:latest: 60 % of 0 MB",
            "Fetching other:latest: 100 % of 0 MB",
            "Fetching other:latest: success",
        ]
        monkeypatch.setenv("NBANNOT_OLLAMA_PULL", "1")
        assert model_at(server, "third:1b").info().name == "third:1b"
        with pytest.raises(ModelError, match="'unknown:latest' could not be fetched: file does not exist"):
            model_at(server, "unknown").info()


# ---- where the server is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":66000", "http://127.0.0.1:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        (" ' 1.2.3.4 ' ", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ],
)
def test_every_form_of_the_address(monkeypatch, value, address):
    assert host_address(value) == address
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert OllamaModel("x").address == address


def test_names_and_versions():
    assert full_name("gemma3:270m") == "gemma3:270m"
    assert full_name("registry.example:5000/library/gemma3") == "registry.example:5000/library/gemma3:latest"
    assert version_numbers("0.9.0") < version_numbers("0.13.0")
    with pytest.raises(ModelError, match="OLLAMA_HOST holds a password") as raised:
        host_address("http://me:topsecret@example.com")
    assert "topsecret" not in str(raised.value)


def test_how_many_at_once(monkeypatch):
    assert OllamaModel("x").parallel == 4
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "8")
    assert OllamaModel("x").parallel == 8
    assert OllamaModel("x", max_parallel=64).parallel == 64


def test_keys_go_to_servers_elsewhere_only(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "planted-key-0123456789")
    assert OllamaModel("x").key.key is None
    elsewhere = OllamaModel("x", base_url="https://ollama.com")
    assert elsewhere.key.key is not None
    assert OllamaModel("x", base_url="https://ollama.com.example").key.key is None
    monkeypatch.setenv("OLLAMA_HOST", "gpu.example:11434")
    assert OllamaModel("x").key.variable == "OLLAMA_API_KEY"
    assert "planted" not in repr(vars(elsewhere))


# ---- starting the server ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def program(folder: Path, script: str) -> None:
    path = folder / "ollama"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for the program")
def test_a_server_that_is_installed_is_started_and_ended(monkeypatch, tmp_path):
    port = free_port()
    settings = json.dumps({"port": port, "models": [NAME]})
    program(
        tmp_path,
        f"import os, sys\n"
        f"assert sys.argv[1:] == ['serve'] and os.environ['OLLAMA_HOST'] == '127.0.0.1:{port}'\n"
        f"os.execv(sys.executable, [sys.executable, {serving.__file__!r}, {settings!r}])\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
    with pytest.raises(ModelError) as raised:
        OllamaModel("tiny").info()
    assert str(raised.value) == (
        f"there is no Ollama server at http://127.0.0.1:{port} "
        f"(no connection to 127.0.0.1:{port}: Connection refused), and NBANNOT_OLLAMA_START=0.\n"
        "  Type in a terminal: ollama serve"
    )
    monkeypatch.delenv("NBANNOT_OLLAMA_START")
    said: list[str] = []
    model = OllamaModel("tiny", say=said.append)
    try:
        assert model.info().name == NAME
        assert said == [f"Starting the Ollama server ({tmp_path}/ollama serve); it ends with Python."]
        assert ask(model, request())[0].error is None
    finally:
        SERVERS.end()
    time.sleep(0.1)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1).close()


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for the program")
def test_a_server_that_does_not_start_says_why(monkeypatch, tmp_path):
    program(tmp_path, "import sys\nsys.exit('Error: mkdir /nowhere: permission denied')\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NBANNOT_OLLAMA_START", "1")
    port = free_port()
    try:
        with pytest.raises(ModelError) as raised:
            OllamaModel("tiny", base_url=f"http://127.0.0.1:{port}").info()
    finally:
        SERVERS.end()
    assert str(raised.value) == (
        f"'ollama serve' was started and does not answer at http://127.0.0.1:{port}: "
        "Error: mkdir /nowhere: permission denied.\n  Type it in a terminal to see what is wrong: ollama serve"
    )


def test_nothing_installed_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        OllamaModel("tiny", base_url="http://127.0.0.1:9").info()
    assert "Ollama is not installed here.\n  Install it from https://ollama.com/download" in str(raised.value)
    assert 'model = "local"' in str(raised.value)


def test_something_else_answers(monkeypatch):
    monkeypatch.setattr("nbannot.models.ollama_server.is_loopback", lambda _: False)
    with pytest.raises(ModelError, match="cannot be reached: no connection"):
        OllamaModel("tiny", base_url="http://127.0.0.1:9").info()
    with Serving(key="wanted") as server, pytest.raises(ModelError, match="cannot be reached: HTTP 401"):
        model_at(server).info()


# ---- a whole run ------------------------------------------------------------------------------------------


def test_a_run_with_faults_gives_the_labels_of_one_without(monkeypatch, tmp_path):
    assert "ollama" in backends()
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.02)
    labels = []
    for faults in ({}, {"http_503": 0.05, "reset": 0.05, "cut_body": 0.05, "prose": 0.2}):
        with ollama(faults=faults) as server:
            run = nbannot.run(
                "policy-sentiment",
                model="ollama/tiny",
                base_url=server.url,
                limit=8,
                retries=6,
                output_root=str(tmp_path / str(len(faults))),
            )
            assert run.status == "complete"
            assert faults == {} or server.count["prose"] > 0
        labels.append(run.labels[["text_id", "column", "value", "status"]])
    assert labels[0].equals(labels[1])


def test_weights_that_change_while_a_run_is_at_work_are_told(tmp_path):
    with Serving(models=("tiny:latest",)) as server:
        task = "policy-sentiment"
        tags = serving._digest
        calls = []

        def digest(name):
            calls.append(name)
            return tags(name) if len(calls) == 1 else "f" * 64

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serving, "_digest", digest)
            run = nbannot.run(
                task, model="ollama/tiny", base_url=server.url, limit=2, output_root=str(tmp_path)
            )
    assert run.status == "complete"
    assert run.config["model_changes"][0].startswith("The weights changed while the run was at work: sha256:")
    assert "The weights changed" in str(run)
