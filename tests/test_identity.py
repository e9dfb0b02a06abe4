"""The identity of a run: every setting that decides answers is in it, and no other."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from conftest import DEGREE, GATE, MARKS, QUOTE, codebook_of, task_of

from nbannot.asking.request_reply import ModelInfo
from nbannot.models.addresses import served_from
from nbannot.running.design import _id_of, design
from nbannot.study.config import RunConfig
from nbannot.study.settings import SETTINGS

BASE = {"model": "mock", "seed": 7, "answer_mode": "score", "base_url": "http://one.example.org:1/v1"}
PLACE = {"name": "Place", "type": "dropdown", "options": ["town", "river", "sea", "road", "hill"]}
PLAIN = RunConfig(model="mock")
OTHER = {
    "model": ["mock/other"],
    "prompt_type": ["persona", "CoT"],
    "use_examples": [not PLAIN.use_examples],
    "temperature": [0.3, 1.0],
    "top_p": [0.5, 0.9],
    "top_k": [1, 40],
    "seed": [8, None],
    "max_tokens": [64, 65],
    "context_size": [2048, 8192],
    "chat_mode": ["per_text", "continuous"],
    "reasoning": [False, True, "low", "high"],
    "process_textbox": [False],
    "process_span": [False],
    "fields": [["Gate"], ["Degree"]],
    "fields_per_query": ["section", "all"],
    "answer_mode": ["generate"],
    "calibration": ["none"],
    "retries": [0, 7],
    "retry_strategy": ["identical", "temperature"],
    "retry_temperature": [0.11, 0.99],
    "metadata_columns": [["author"], ["author", "year"]],
    "limit": [3, 4],
    "ids": [["t00001"], ["t00002", "t00003"]],
    "split": ["dev", "test"],
    "sample": [2, 4],
    "sample_by": ["author", "year"],
    "sample_seed": [2, 3],
    "option_order": ["reversed", "random"],
    "threshold": [0.4, 0.6],
    "scale_answer": ["rounded"],
    "text_model": ["mock/second"],
    "repeat": [2, 3],
    "base_url": ["http://two.example.org:1/v1", "http://one.example.org:1/eu/v1", None],
}
OF_DECISIONS = {"threshold", "scale_answer", "text_model"}
"""Refused for other models; see the tests of decision models."""
WITHOUT = {
    "threads": [2],
    "max_parallel": [3],
    "workers": [2],
    "delivery": ["batch"],
    "batch_wait": [5.0],
    "timeout_s": [5.0],
    "budget": [{"calls": 5}],
    "prices": [{"input": 1.0}],
    "local_only": [True],
    "allowed_hosts": [["gpu1"]],
    "find_names": ["de_core_news_sm"],
    "country_iso_code": ["DEU"],
    "output_root": ["elsewhere"],
    "task_root": ["tasks"],
    "cluster": ["author"],
    "weights": ["year"],
    "base_url": ["http://one.example.org:2/v1", "http://one.example.org:1", "https://one.example.org/v1/"],
}


class Still:
    """A model that is only looked at."""

    parallel, answer_modes = 1, ("score", "generate")

    def __init__(self, name, digest):
        self.name, self.digest = name, digest

    def info(self):
        return ModelInfo(self.name, "mock", digest=self.digest, energy_measured=False)


NEEDS: dict[str, dict[str, object]] = {
    "sample_by": {"sample": 12},
    "sample_seed": {"sample": 4},
    **{name: {"decides": True} for name in ("threshold", "scale_answer", "text_model")},
}
"""Setting -> what must be there for it to decide anything."""


def identified(digest="sha256:1", decides=False, **settings):
    task = task_of(
        40,
        codebook_of(GATE, DEGREE, QUOTE, MARKS, PLACE),
        author=["a", "b"] * 20,
        year=["1", "1", "2", "3"] * 10,
    )
    given = {**BASE, **settings}
    if given.get("reasoning") or given.get("prompt_type") == "CoT" or "fields_per_query" in given:
        given["answer_mode"] = None
    config = RunConfig(**given)
    model = Still(config.model.partition("/")[2], digest)
    model.decides, model.batches = decides, None
    return design(task, config, model)[0].run_id


def test_every_setting_that_decides_answers_has_values_here():
    assert {name for name, setting in SETTINGS.items() if setting.decides} <= {*OTHER, *OF_DECISIONS}
    assert {name for name, setting in SETTINGS.items() if not setting.decides} <= set(WITHOUT)


@pytest.mark.parametrize("name", [name for name in OTHER if name in SETTINGS])
def test_another_value_of_a_deciding_setting_is_another_run(name):
    needs = NEEDS.get(name, {})
    ids = [identified(**needs), *(identified(**needs, **{name: value}) for value in OTHER[name])]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", [name for name in WITHOUT if name in SETTINGS])
def test_another_value_of_any_other_setting_is_the_same_run(name):
    assert {identified(), *(identified(**{name: value}) for value in WITHOUT[name])} == {identified()}


def test_a_run_on_several_servers_knows_no_address_and_goes_on_with_one_more_or_less(tmp_path):
    two, other = (
        ["http://gpu1:8000/v1", "http://gpu2:8000/v1"],
        ["http://gpu9:1/v1", "http://gpu8/v1", "http://gpu7/v1"],
    )
    here = {"output_root": str(tmp_path)}
    assert identified(base_url=two) == identified(base_url=other) != identified(base_url=two[0])
    assert identified(base_url=["http://localhost:1", "http://localhost:2"]) == identified(
        base_url="http://127.0.0.1:3"
    )

    def begin(**settings):
        run_id = identified(**settings, **here)
        (tmp_path / "demo" / run_id).mkdir(parents=True)
        (tmp_path / "demo" / run_id / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        return run_id

    several = begin(base_url=two, seed=7)
    assert identified(base_url=two[1], seed=7, **here) == several
    assert identified(base_url=other[0], seed=7, **here) != several
    alone = begin(base_url=two[0], seed=8)
    assert identified(base_url=two, seed=8, **here) == alone
    assert identified(base_url=other, seed=8, **here) != alone


def test_other_weights_are_another_run():
    assert identified(digest="sha256:2") != identified()


def test_a_place_is_told_without_port_scheme_and_user():
    places = ["http://[::1]:5/v1", "localhost:11434", "http://127.1.2.3", "http://0.0.0.0:80/"]
    assert {served_from(place) for place in places} == {"this machine"}
    assert served_from("https://key@Host.example:1/a/b/") == "host.example/a/b"


def test_the_id_is_the_beginning_of_the_hash_and_never_looks_like_a_number():
    """Written once more, step by step: table readers take 12345678, 1234e567 and 1234567d for numbers."""
    passed_over = 0
    for n in range(400):
        text = json.dumps({"n": n, "ä": "é"}, ensure_ascii=False, sort_keys=True)
        for attempt in ("", "1", "2", "3"):
            expected = hashlib.sha256((text + attempt).encode()).hexdigest()[:8]
            if not re.fullmatch(r"\d+([de]\d*)?[df]?", expected):
                break
            passed_over += 1
        assert _id_of({"ä": "é", "n": n}) == expected
    assert passed_over > 0


def test_a_run_that_was_kept_under_its_port_keeps_its_id(tmp_path):
    task = task_of(4, codebook_of(GATE), name="kept")
    settings = {"model": "mock", "base_url": "http://one.example.org:1/v1", "output_root": str(tmp_path)}
    new = design(task, RunConfig(**settings), Still("m", None))[0]
    old = {**new.identity, "base_url": settings["base_url"]}
    place = tmp_path / "kept" / _id_of(old)
    place.mkdir(parents=True)
    assert design(task, RunConfig(**settings), Still("m", None))[0].run_id == new.run_id
    (place / "config.json").write_text("{}", encoding="utf-8")
    assert design(task, RunConfig(**settings), Still("m", None))[0].run_id == place.name
