"""The probe: what a model can do, told from its replies and from nothing else."""

from __future__ import annotations

import json

import pytest
from serving import Serving

from nbannot.asking.request_reply import Reply
from nbannot.errors import ModelError
from nbannot.models.mock import MockModel
from nbannot.models.ollama import OllamaModel
from nbannot.models.openai_compatible import OpenAIModel
from nbannot.models.probe import _obeyed, _reasoned, _seeded, probe


def test_a_model_that_can_do_everything():
    with Serving(context=8192) as server:
        found = probe(OpenAIModel("tiny", base_url=server.openai_url))
        assert len(server.calls) == 7
    assert found["model"] == "openai/tiny"
    assert found["context_size"] == 8192
    assert found["schema_obeyed"] is True
    assert found["label_probabilities"] is True
    assert found["reasoning_on"] is True
    assert found["reasoning_off"] is True
    assert found["tokens_counted"] is True
    assert found["seconds"] > 0
    assert found["problems"] == []
    assert found["capabilities"]["response_format"] == "json_schema"
    json.dumps(found)


def test_a_server_that_can_do_little_says_so():
    refuse = ("seed", "chat_template_kwargs", "reasoning_effort")
    with Serving(formats=("text",), faults={"prose": 1.0}, logprobs=False, refuse=refuse) as server:
        found = probe(OpenAIModel("tiny", base_url=server.openai_url))
    assert found["schema_obeyed"] is False
    assert found["label_probabilities"] is False
    assert (found["reasoning_on"], found["reasoning_off"]) == (None, None)
    assert found["capabilities"]["response_format"] == "text"
    assert {"seed", "reasoning_effort"} <= set(found["capabilities"]["dropped"])
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "reasoning on",
        "probabilities",
    ]


def test_a_model_in_process_and_one_of_ollama():
    found = probe(MockModel(""))
    assert (found["schema_obeyed"], found["label_probabilities"], found["problems"]) == (True, True, [])
    assert found["seed_obeyed"] is True
    assert found["capabilities"] == {}
    with Serving(models=("tiny:latest",), thinking="") as server:
        found = probe(OllamaModel("tiny", base_url=server.url))
    assert found["label_probabilities"] is False
    assert found["reasoning_on"] is None
    assert "does not support thinking" in found["problems"][0]


def test_a_model_that_is_not_there():
    with pytest.raises(ModelError, match="cannot be reached"):
        probe(OpenAIModel("tiny", base_url="http://127.0.0.1:9/v1"))


def test_what_the_replies_tell():
    failed, a, b = Reply(error="no"), Reply(text="a"), Reply(text="b")
    assert [_seeded(a, a, b), _seeded(a, b, b), _seeded(a, a, a), _seeded(a, failed, b)] == [
        True,
        False,
        None,
        None,
    ]
    texts = ['{"response": "red"}', '{"response": "cat"}', "cat", '{"response": "red", "x": 1}', "[]"]
    assert [_obeyed(Reply(text=text)) for text in texts] == [True, False, False, False, False]
    assert _obeyed(failed) is None
    assert [_reasoned(failed), _reasoned(a), _reasoned(Reply(text="a", reasoning="hm"))] == [
        None,
        False,
        True,
    ]
