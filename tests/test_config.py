"""Settings: all faults in one letter, lists that make a grid, names that never collide, a way there and back."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nbannot
from nbannot.errors import ConfigError, TaskError
from nbannot.study.checks import REASONING_WORDS, countries
from nbannot.study.config import RunConfig, expand, is_many, settings_in
from nbannot.study.faults import ELSEWHERE, refuse_unknown
from nbannot.study.settings import CHAT_MODES, DEFAULTS, LISTS, SETTINGS
from nbannot.study.toml import line_of, lines_of, read_toml


@pytest.fixture(autouse=True)
def _no_country(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBANNOT_COUNTRY", raising=False)


def letter(call: Any, *args: Any, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **keywords)
    return str(caught.value)


# ---- strategies -------------------------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, range(32))) + "\x7f"),
    min_size=1,
    max_size=12,
).filter(str.strip)
TRICKY = st.sampled_from(
    [
        "local",
        "a",
        "a_b",
        "b_c",
        "c",
        "a_standard",
        "standard_temp=0.7",
        "x:y",
        "x-y",
        "a=b",
        "temp=1",
        "#",
        "é",
        "e\u0301",
    ]
)
NAMES = st.one_of(TRICKY, WORDS)
ADDRESSES = st.sampled_from(["http://localhost:11434", "http://localhost:11435", "https://h/v1?version=2"])


def amounts(*names: str) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names), st.integers(0, 10**9) | st.floats(0, 1e300), min_size=1)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model": NAMES,
    "prompt_type": NAMES.filter(lambda name: name != "CoT"),
    "use_examples": st.booleans(),
    "temperature": st.floats(0, 2),
    "top_p": st.none() | st.floats(0, 1),
    "top_k": st.none() | st.integers(1, 100),
    "seed": st.none() | st.integers(0, 2**32 - 1),
    "max_tokens": st.integers(1, 1_000_000),
    "context_size": st.none() | st.integers(64, 9999),
    "chat_mode": st.sampled_from(CHAT_MODES),
    "reasoning": st.none() | st.booleans() | st.sampled_from(REASONING_WORDS),
    "process_textbox": st.booleans(),
    "process_span": st.booleans(),
    "fields": st.none() | st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    "fields_per_query": st.sampled_from(["one", "section", "all"]),
    "answer_mode": st.none() | st.just("generate"),
    "calibration": st.none() | st.just("none"),
    "threshold": st.floats(0, 1),
    "option_order": st.sampled_from(["codebook", "reversed", "random"]),
    "scale_answer": st.sampled_from(["modal", "rounded"]),
    "text_model": st.none() | WORDS,
    "retries": st.integers(0, 20),
    "retry_strategy": st.sampled_from(["reprompt", "identical", "temperature"]),
    "retry_temperature": st.floats(0, 2),
    "metadata_columns": st.none() | st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    "sample": st.none() | st.integers(1, 10**12),
    "sample_by": st.none() | NAMES,
    "sample_seed": st.integers(0, 2**32 - 1),
    "limit": st.none() | st.integers(1, 10**12),
    "ids": st.none() | st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    "split": st.none() | st.sampled_from(["dev", "test"]),
    "cluster": st.none() | NAMES,
    "weights": st.none() | NAMES,
    "repeat": st.integers(1, 9),
    "base_url": st.none() | ADDRESSES,
    "threads": st.none() | st.integers(1, 64),
    "max_parallel": st.none() | st.integers(1, 64),
    "workers": st.sampled_from([None, 2, "tcp://host:8786", "scheduler.json"]),
    "delivery": st.sampled_from(["now", "batch", "file"]),
    "batch_wait": st.floats(0, 100_000),
    "timeout_s": st.floats(0.001, 86_400),
    "budget": st.none() | amounts("calls", "tokens", "money", "minutes", "kwh"),
    "prices": st.none() | amounts("input", "output"),
    "local_only": st.booleans(),
    "allowed_hosts": st.none() | st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    "find_names": st.none() | NAMES,
    "country_iso_code": st.none() | st.sampled_from(["DEU", "FRA", "USA"]),
    "output_root": WORDS,
    "task_root": st.none() | WORDS,
}
SOME = st.fixed_dictionaries({}, optional=VALUES)
FEW = st.sets(st.sampled_from(sorted(VALUES)), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)
CONFIGS = st.one_of(SOME, FEW).map(lambda chosen: RunConfig(**chosen))


def test_every_setting_is_known_in_all_places() -> None:
    assert list(SETTINGS) == [f.name for f in fields(RunConfig)] == list(DEFAULTS)
    assert set(VALUES) == set(SETTINGS)
    shorts = [s.short for s in SETTINGS.values() if s.short]
    assert len(set(shorts)) == len(shorts)
    assert not any(set("_=#") & set(short) for short in shorts)
    unnamed = {name for name, s in SETTINGS.items() if s.decides and not s.short}
    assert unnamed == {"model", "prompt_type", "repeat"}
    assert {name for name, s in SETTINGS.items() if not s.decides} == {
        "threads", "max_parallel", "workers", "delivery", "batch_wait", "timeout_s", "budget", "prices", "local_only",
        "allowed_hosts", "find_names", "country_iso_code", "output_root", "task_root", "cluster", "weights",
    }  # fmt: skip
    assert RunConfig() == RunConfig.of() == RunConfig.from_toml("") == RunConfig.from_json("{}")


# ---- errors -----------------------------------------------------------------------------------------------------


def test_everything_wrong_stands_in_one_letter() -> None:
    assert letter(RunConfig.of, modle="x", temperature="low", retries=99, chat_mode="per text") == (
        "4 settings need a change.\n"
        "  unknown setting 'modle'; did you mean 'model'?\n"
        "  temperature must be a number from 0 to 2. Got 'low'.\n"
        "  chat_mode must be one of per_query, per_text, continuous. Got 'per text'; did you mean 'per_text'?\n"
        "  retries must be an integer from 0 to 20. Got 99."
    )


def test_toml_faults_carry_their_lines() -> None:
    text = 'modle = "x"\n\n# a comment\ntemperature = "low"\nids = [1]\nfields = []\n'
    assert letter(RunConfig.from_toml, text) == (
        "4 settings need a change.\n"
        "  line 1: unknown setting 'modle'; did you mean 'model'?\n"
        "  line 4: temperature must be a number from 0 to 2. Got 'low'.\n"
        '  line 5: ids must be a list of texts, e.g. ["a", "b"]. Got [1].\n'
        '  line 6: fields must be a list of texts, e.g. ["a", "b"]. Got [].'
    )


def test_a_name_without_a_likeness_lists_the_settings_and_is_counted_once() -> None:
    said = letter(RunConfig.of, zzz=1, qqq=2, xxx=3)
    assert said.splitlines()[:4] == [
        "3 settings need a change.",
        "  unknown setting 'zzz'",
        "  unknown setting 'qqq'",
        "  unknown setting 'xxx'",
    ]
    assert said.splitlines()[4] == f"  Known settings: {', '.join(SETTINGS)}."


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("modle", "model"), ("top-p", "top_p"), ("Temperature", "temperature"), ("temp", "temperature"),
        ("examples", "use_examples"), ("chatmode", "chat_mode"), ("--limit", "limit"), ("n", "limit"),
        ("max_token", "max_tokens"), ("promt_type", "prompt_type"), ("num_ctx", "context_size"),
        ("max_new_tokens", "max_tokens"), ("think", "reasoning"), ("concurrency", "max_parallel"),
    ],
)  # fmt: skip
def test_nearest_names(wrong: str, right: str) -> None:
    said = f"1 setting needs a change.\n  unknown setting '{wrong}'; did you mean '{right}'?"
    assert letter(RunConfig.of, {wrong: 1}) == said
    assert letter(refuse_unknown, [wrong]) == said
    assert letter(RunConfig().change, **{wrong: 1}) == said
    assert letter(expand, {wrong: [1, 2]}) == said


def test_what_other_tools_call_a_setting_names_one_that_exists() -> None:
    assert set(ELSEWHERE.values()) <= set(SETTINGS)
    assert not set(ELSEWHERE) & set(SETTINGS)


def test_names_that_are_no_texts_are_unknown_too() -> None:
    assert "unknown setting '1'" in letter(RunConfig.of, {1: 2})


COUNTRY = "country_iso_code must be an ISO 3166-1 alpha-3 country code in capitals, such as DEU, FRA or USA. "

PRICES = (
    "prices must be a table with one or more of input, output, each a number of at least 0, e.g. {input=3}. "
)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("model", "  ", "model must be a text. Got '  '."),
        ("model", None, "model must be a text. Got None."),
        ("model", {"name": "x"}, "model must be a text. Got {'name': 'x'}."),
        ("model", "a\ud800", "model must be a text. Got 'a\\ud800'."),
        ("output_root", "C:\new", "output_root must be a text without line breaks or tabs. Got 'C:\\new'."),
        ("use_examples", 1, "use_examples must be true or false. Got 1."),
        ("temperature", True, "temperature must be a number from 0 to 2. Got True."),
        ("temperature", float("nan"), "temperature must be a number from 0 to 2. Got nan."),
        ("temperature", float("inf"), "temperature must be a number from 0 to 2. Got inf."),
        ("temperature", -0.01, "temperature must be a number from 0 to 2. Got -0.01."),
        ("temperature", [0, 1], "temperature must be a number from 0 to 2. Got [0, 1]."),
        ("top_k", 0, "top_k must be an integer from 1 to 1000000. Got 0."),
        ("seed", 1.0, "seed must be an integer from 0 to 4294967295. Got 1.0."),
        ("seed", True, "seed must be an integer from 0 to 4294967295. Got True."),
        ("max_tokens", 0, "max_tokens must be an integer from 1 to 1000000. Got 0."),
        ("limit", 0, "limit must be an integer of at least 1. Got 0."),
        ("split", "all", "split must be one of dev, test. Got 'all'."),
        ("split", "Test", "split must be one of dev, test. Got 'Test'; did you mean 'test'?"),
        ("reasoning", "hard", "reasoning must be true, false or one of minimal, low, medium, high. Got 'hard'."),
        ("fields", "Dir", "fields must be a list of texts, e.g. [\"a\", \"b\"]. Got 'Dir'."),
        ("base_url", "localhost:1", "base_url must be an address such as http://localhost:11434. Got 'localhost:1'."),
        ("base_url", "http://[::1", "base_url must be an address such as http://localhost:11434. Got 'http://[::1'."),
        ("country_iso_code", "Germany", COUNTRY + "Got 'Germany'; did you mean 'DEU'?"),
        ("country_iso_code", "XXX", COUNTRY + "Got 'XXX'."),
        ("country_iso_code", 276, COUNTRY + "Got 276."),
        ("prices", {}, PRICES + "Got {}."),
        ("prices", {"inputs": 1}, PRICES + "Got {'inputs': 1}."),
        ("prices", {"input": float("inf")}, PRICES + "Got {'input': inf}."),
        ("timeout_s", 0, "timeout_s must be a number from 0.001 to 86400. Got 0.0."),
    ],
)  # fmt: skip
def test_what_a_setting_must_be(setting: str, value: Any, said: str) -> None:
    assert letter(RunConfig, **{setting: value}) == f"1 setting needs a change.\n  {said}"


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(sorted(SETTINGS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=6,
    )
)
def test_any_values_make_a_config_or_a_config_error(chosen: dict[str, Any]) -> None:
    for make in (RunConfig.of, expand):
        try:
            made = make(chosen)
        except ConfigError:
            continue
        assert made


def test_contradictions() -> None:
    assert letter(RunConfig, calibration="batch", chat_mode="per_text", answer_mode="generate") == (
        "2 settings need a change.\n"
        '  calibration = "batch" needs chat_mode = "per_query". Got \'per_text\'.\n'
        '  calibration = "batch" needs scored answers. Got answer_mode = "generate".'
    )
    assert letter(RunConfig, answer_mode="score", prompt_type="CoT", fields_per_query="all") == (
        "1 setting needs a change.\n"
        '  answer_mode = "score" leaves no room to reason. Got prompt_type = "CoT".'
    )
    assert letter(RunConfig, calibration="batch", fields_per_query="all") == (
        "1 setting needs a change.\n"
        '  calibration = "batch" with fields_per_query = \'all\' needs answer_mode = "score".'
    )
    assert letter(RunConfig, calibration="batch", prompt_type="CoT") == (
        "1 setting needs a change.\n"
        '  calibration = "batch" leaves no room to reason. Got prompt_type = "CoT".'
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@host/",
        "https://hunter2@host",
        "https://h/v1?api_key=hunter2",
        "https://h/?a=1&token=hunter2",
    ],
)
def test_an_address_holds_no_secret_and_a_message_shows_none(url: str) -> None:
    said = letter(RunConfig, base_url=url)
    assert "base_url is written to config.json and may hold no password or key" in said
    assert "hunter2" not in said
    assert "hunter2" not in letter(RunConfig.from_toml, f"base_url = {url}")


@pytest.mark.parametrize("line", ["api_key = hunter2", 'password = "hunter2', "OPENAI_TOKEN: hunter2"])
def test_a_slip_in_a_line_with_a_key_does_not_show_it(line: str) -> None:
    assert "hunter2" not in letter(read_toml, line)


# ---- countries --------------------------------------------------------------------------------------------------


def test_countries_are_the_iso_ones() -> None:
    assert {"DEU", "FRA", "USA", "TWN", "ALA"} <= countries()
    assert not {"EUR", "XXX", "deu", "DE"} & countries()
    assert 245 <= len(countries()) <= 255  # ISO 3166-1 has 249


def test_country_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANNOT_COUNTRY", " FRA ")
    assert RunConfig().country_iso_code == "FRA"
    assert RunConfig(country_iso_code="DEU").country_iso_code == "DEU"
    assert RunConfig.from_json('{"country_iso_code": null}').country_iso_code == "FRA"
    assert RunConfig().model_id() == "local_standard"
    monkeypatch.setenv("NBANNOT_COUNTRY", "")
    assert RunConfig().country_iso_code is None
    monkeypatch.setenv("NBANNOT_COUNTRY", "gb")
    assert (
        letter(RunConfig)
        == letter(RunConfig.of)
        == (
            "1 setting needs a change.\n"
            "  NBANNOT_COUNTRY in the environment: country_iso_code must be an ISO 3166-1 alpha-3 country code in "
            "capitals, such as DEU, FRA or USA. Got 'gb'; did you mean 'GBR'?"
        )
    )
    assert RunConfig(country_iso_code="GBR").country_iso_code == "GBR"


# ---- values as they are kept ------------------------------------------------------------------------------------


def test_plain_values() -> None:
    config = RunConfig(
        temperature=np.float64(0.5),
        retries=np.int64(1),
        use_examples=np.bool_(False),
        output_root=Path("a/b"),
        ids=["x"],
    )  # type: ignore[arg-type]
    assert (type(config.temperature), type(config.retries), config.use_examples) == (float, int, False)
    assert (config.output_root, config.ids) == (str(Path("a/b")), ("x",))
    assert RunConfig(temperature=1) == RunConfig(temperature=1.0)
    assert json.dumps(RunConfig(temperature=-0.0).to_dict()) == json.dumps(RunConfig().to_dict())
    assert RunConfig(metadata_columns=()) == RunConfig()
    assert hash(config) == hash(config.change())


# ---- there and back ---------------------------------------------------------------------------------------------


@given(CONFIGS)
def test_toml_and_json_round_trips(config: RunConfig) -> None:
    assert RunConfig.from_toml(config.to_toml()) == config
    assert RunConfig.from_toml(config.to_toml(all_settings=True)) == config
    assert RunConfig.from_json(json.dumps(config.to_dict())) == config
    assert RunConfig.of(config.to_dict()) == config
    assert expand(config.to_dict()) == [config]


def test_toml_says_what_is_not_at_its_default() -> None:
    assert RunConfig().to_toml() == ""
    config = RunConfig(model='a"b', seed=None, ids=("1", "é"), use_examples=False, temperature=1e-7)
    assert config.to_toml().splitlines() == [
        'model = "a\\"b"',
        "use_examples = false",
        "temperature = 1e-07",
        "seed = false",
        'ids = ["1", "é"]',
    ]
    assert RunConfig.from_toml("seed = false").seed is None
    assert "model" in RunConfig().to_toml(all_settings=True)


def test_a_table_is_written_read_and_copied() -> None:
    given = {"calls": 5, "money": 0.5}
    config = RunConfig(budget=given)
    given["calls"] = 6
    config.to_dict()["budget"]["calls"] = 7
    assert config.budget == {"calls": 5, "money": 0.5}
    assert config.to_toml() == "budget = { calls = 5, money = 0.5 }"
    assert RunConfig.from_toml("[budget]\ncalls = 5\nmoney = 0.5") == config
    assert expand({"budget": given}) == [RunConfig(budget=given)]
    assert len(expand({"budget": [{"calls": 1}, {"calls": 2}]})) == 2


def test_config_json_of_a_run_leaves_its_provenance_aside_but_other_json_is_read_strictly() -> None:
    stored = {"run_id": "a1b2c3d4", "model_id": "x", "temperature": 1, "python": "3.11"}
    assert RunConfig.from_json(json.dumps(stored)) == RunConfig(temperature=1.0)
    assert settings_in(stored) == {"temperature": 1}
    assert letter(RunConfig.from_json, '{"modle": "x"}') == (
        "1 setting needs a change.\n  unknown setting 'modle'; did you mean 'model'?"
    )


def test_json_that_is_none() -> None:
    assert letter(RunConfig.from_json, '{"model": ') == (
        "the settings are not JSON: Expecting value, line 1, column 11.\n"
        "  Settings in another form: RunConfig.from_toml, or the keywords of nbannot.run()."
    )
    assert letter(RunConfig.from_json, "[1, 2]") == (
        'settings in JSON are one object, {...}. Got [1, 2].\n  Write {"model": "local"}.'
    )


# ---- slips in TOML ----------------------------------------------------------------------------------------------


TEXT = '  a text needs quotation marks: name = "text".'


@pytest.mark.parametrize(
    ("text", "fault", "hint"),
    [
        ("use_examples = True", "Invalid value.", "  TOML writes true and false in small letters."),
        ("seed = None", "Invalid value.", "  TOML has no None: leave the setting out."),
        (
            'model: "x"',
            "Expected '=' after a key in a key/value pair.",
            "  TOML separates name and value by =, not by a colon.",
        ),
        ("model = “x”", "Invalid value.", '  quotation marks are straight ones: name = "text".'),
        ("model = local # here", "Invalid value.", TEXT),
        ("model = mock/?wrong=0.1", "Invalid value.", TEXT),
        ("model = ~/weights.gguf", "Invalid value.", TEXT),
        ("model =", "Invalid value.", "  the value is missing."),
        ('model = "x', "Illegal character '\\n'.", "  the closing quotation mark is missing."),
        (
            'output_root = "C:\\Users"',
            "Invalid hex value.",
            "  a path is written with / or in single quotation marks: 'C:\\data'.",
        ),
        ("temperature = (0, 1)", "Invalid value.", "  a list stands in square brackets: [0, 0.7]."),
        ("top_p = .5", "Invalid value.", "  a number needs a digit before its point: 0.7."),
        (
            "top_k = 1,",
            "Expected newline or end of document after a statement.",
            "  no comma at the end of a line.",
        ),
        (
            "retries = 2",
            "Cannot overwrite a value.",
            "  a setting is given once; several values to try stand in a list: [0, 0.7].",
        ),
        ("temperature 0.5", "Expected '=' after a key in a key/value pair.", None),
    ],
)
def test_slips(text: str, fault: str, hint: str | None) -> None:
    lines = letter(read_toml, f"retries = 1\n\n  {text}\n\n").splitlines()
    assert re.fullmatch(rf"line 3, column \d+: {re.escape(fault)}", lines[0])
    assert lines[1:] == [f"    {text}", *([hint] if hint else [])]


def test_a_slip_at_the_end_is_where_the_last_words_are() -> None:
    assert letter(read_toml, "seed = [1, 2\n\n\n") == "line 1, column 13: Unclosed array.\n    seed = [1, 2"
    assert letter(read_toml, 'model = "x', 5) == (
        'line 5, column 11: Unterminated string.\n    model = "x\n  the closing quotation mark is missing.'
    )


def test_the_line_is_that_of_the_cell() -> None:
    assert letter(read_toml, "\nseed = None", first_line=2).startswith("line 3, column 8: ")
    text = '# model = "no"\n\nmodel = "a"\n"seed" = 1\n[fields]\nx = 1\nlimit.x = 3'
    names = ["model", "seed", "fields", "limit", "top_p"]
    assert [line_of(name, text) for name in names] == [3, 4, 5, 7, 0]
    assert lines_of(names, text, first_line=11) == {"model": 13, "seed": 14, "fields": 15, "limit": 17}


def test_numbers_and_lists_beyond_measure() -> None:
    assert letter(RunConfig, seed=10**5000) == (
        "1 setting needs a change.\n"
        "  seed must be an integer from 0 to 4294967295. Got one too long to show (int)."
    )
    assert letter(RunConfig, temperature=10**400).startswith(
        "1 setting needs a change.\n  temperature must be"
    )
    assert "A number has thousands of digits.\n    seed = 99" in letter(read_toml, "seed = " + "9" * 5000)
    assert letter(read_toml, "seed = " + "[" * 5000) == (
        "lists in lists in lists, too deep to read.\n  Give one value, or one list."
    )


@given(st.text(max_size=40))
def test_any_text_is_toml_or_a_config_error(text: str) -> None:
    try:
        made = RunConfig.from_toml(text)
    except ConfigError:
        return
    assert RunConfig.from_toml(made.to_toml()) == made


# ---- grids ------------------------------------------------------------------------------------------------------


def test_lists_make_a_grid() -> None:
    grid = expand({"model": ["a", "b"], "temperature": (0, 0.7), "repeat": range(1, 3), "retries": 1})
    assert [(c.model, c.temperature, c.repeat) for c in grid] == list(
        itertools.product("ab", (0.0, 0.7), (1, 2))
    )
    assert {c.retries for c in grid} == {1}
    assert expand({}) == [RunConfig()]
    assert expand({"temperature": [0, 0.0]}) == [RunConfig()]
    assert [c.top_p for c in expand({"top_p": [None, 0.9]})] == [None, 0.9]


@pytest.mark.parametrize("name", [name for name in LISTS if name != "base_url"])
def test_settings_that_are_lists_are_a_sweep_only_when_nested(name: str) -> None:
    assert getattr(expand({name: ["a", "b"]})[0], name) == ("a", "b")
    assert [getattr(c, name) for c in expand({name: [["a"], ["a", "b"]]})] == [("a",), ("a", "b")]
    assert is_many(name, [["a"]])
    assert not is_many(name, ["a"])
    assert not is_many(name, [])
    assert "must be a list of texts" in letter(expand, {name: [["a"], "b"]})


def test_a_list_of_addresses_is_the_servers_of_one_run() -> None:
    one, two = "http://gpu1:8000/v1", "http://gpu2:8000/v1"
    assert RunConfig(base_url=[one, two]).base_url == (one, two)
    assert RunConfig(base_url=[one]) == RunConfig(base_url=one)
    assert [c.base_url for c in expand({"base_url": [one, two]})] == [(one, two)]
    assert [c.base_url for c in expand({"base_url": [[one, two], one, None]})] == [(one, two), one, None]
    assert RunConfig.from_toml(RunConfig(base_url=[one, two]).to_toml()).base_url == (one, two)
    assert f"base_url must name every server once. Got ['{one}', '{one}']." in letter(
        RunConfig, base_url=[one, one]
    )
    assert "must be an address such as" in letter(RunConfig, base_url=[one, "gpu2"])


def test_every_fault_of_a_grid_stands_in_one_letter() -> None:
    wrong = {"temperature": [0, 3, "x"], "seed": [], "modle": ["a"], "retries": [1, None]}
    assert letter(expand, wrong, {"temperature": 4, "modle": 2}) == (
        "5 settings need a change.\n"
        "  line 2: unknown setting 'modle'; did you mean 'model'?\n"
        "  line 4: temperature must be a number from 0 to 2. Got 3.0.\n"
        "  line 4: temperature must be a number from 0 to 2. Got 'x'.\n"
        "  seed is an empty list: give at least one value.\n"
        "  retries must be an integer from 0 to 20. Got None."
    )
    assert letter(expand, {"calibration": ["none", "batch"], "chat_mode": ["per_query", "per_text"]}) == (
        '1 setting needs a change.\n  calibration = "batch" needs chat_mode = "per_query". Got \'per_text\'.'
    )


# ---- names of configs -------------------------------------------------------------------------------------------


def deciding(config: RunConfig) -> dict[str, Any]:
    return {n: getattr(config, n) for n, s in SETTINGS.items() if s.decides and n != "repeat"}


@settings(max_examples=400)
@given(CONFIGS, CONFIGS)
def test_two_configs_have_one_name_only_if_they_give_the_same_answers(
    one: RunConfig, other: RunConfig
) -> None:
    assert (one.model_id() == other.model_id()) == (deciding(one) == deciding(other))


@settings(max_examples=300)
@given(CONFIGS, st.sampled_from(sorted(VALUES)), st.data())
def test_one_changed_setting_changes_the_name(config: RunConfig, name: str, data: st.DataObject) -> None:
    changed = config.change(**{name: data.draw(VALUES[name])})
    assume(changed != config)
    same = name == "repeat" or not SETTINGS[name].decides
    assert (config.model_id() == changed.model_id()) == same


def test_names_are_short_and_readable() -> None:
    assert RunConfig().model_id() == "local_standard"
    assert RunConfig(repeat=7, output_root="x").model_id() == "local_standard"
    assert RunConfig(model="ollama/gemma3:270m", temperature=0.7, use_examples=False).model_id() == (
        "ollama/gemma3:270m_standard_examples=false_temp=0.7"
    )
    assert RunConfig(prompt_type="CoT", chat_mode="per_text", seed=None).model_id() == (
        "local_CoT_seed=None_chat=per_text"
    )
    assert RunConfig(prompt_type="mine").model_id("3f2a") == "local_mine#3f2a"
    assert re.fullmatch(r"local_standard_ids=#[0-9a-f]{8}", RunConfig(ids=("a", "b")).model_id())
    long = RunConfig(model="local//srv/" + "x" * 300 + "/SmolLM2-135M-Instruct.Q4_1.gguf").model_id()
    assert len(long) < 80
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in long


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "a_b", "prompt_type": "c"}, {"model": "a", "prompt_type": "b_c"}),
        ({"prompt_type": "standard_temp=0.7"}, {"temperature": 0.7}),
        ({"model": "x:y"}, {"model": "x-y"}),
        ({"model": "x y"}, {"model": "x-y"}),
        ({"temperature": 0.1}, {"temperature": 0.1 + 2**-55}),
        ({"temperature": 0.1}, {"temperature": 0.10000001}),
        ({"ids": ("a,b",)}, {"ids": ("a", "b")}),
        ({"reasoning": True}, {"reasoning": "high"}),
        ({"seed": None}, {"seed": 0}),
    ],
)
def test_names_that_would_collide_if_they_were_merely_joined(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert RunConfig(**one).model_id() != RunConfig(**other).model_id()


def test_a_changed_wording_changes_the_name() -> None:
    config = RunConfig(prompt_type="mine")
    assert len({config.model_id(mark) for mark in ("", "a", "b")}) == 3


@pytest.mark.parametrize("door", [nbannot.run, nbannot.plan, nbannot.sweep])
def test_settings_that_are_none_are_refused_by_every_door(door: Any) -> None:
    with pytest.raises(ConfigError, match="keywords, a RunConfig or a dictionary"):
        door("policy-sentiment", "local")


@pytest.mark.parametrize("door", [nbannot.run, nbannot.plan, nbannot.sweep, nbannot.configure])
def test_a_codebook_beside_a_task_that_has_one_is_not_overlooked(door: Any) -> None:
    with pytest.raises(TaskError, match="a folder has a codebook of its own"):
        door("policy-sentiment", codebook={"text_column": "text"}, model="mock")


def test_a_frame_takes_its_codebook_as_a_dictionary_and_settings_as_one(tmp_path: Path) -> None:
    codebook = {
        "text_column": "text",
        "section_1": {
            "section_name": "P",
            "annotations": {"annotation_1": {"name": "Good", "type": "checkbox"}},
        },
    }
    frame = pandas.DataFrame({"text": ["yes", "no"]})
    settings = {"model": "mock", "output_root": str(tmp_path)}
    run = nbannot.run(frame, settings, codebook=codebook)
    assert nbannot.plan(frame, settings, codebook=codebook).run_id == run.run_id
    assert [r.run_id for r in nbannot.sweep(frame, settings, codebook=codebook)] == [run.run_id]


@pytest.mark.parametrize(
    ("cluster", "workers"),
    [("tcp://host:8786", "tcp://host:8786"), ("local:4", 4), (4, 4), ("place/scheduler.json",) * 2],
)
def test_a_dask_cluster_may_be_called_cluster_too(cluster, workers):
    config = RunConfig.of(cluster=cluster)
    assert (config.workers, config.cluster) == (workers, None)
    assert config == RunConfig.of(workers=cluster) == RunConfig.of(RunConfig(), cluster=cluster)
    assert config.change(cluster="speaker").to_dict()["cluster"] == "speaker"  # a column is a column
    with pytest.raises(ConfigError, match="cluster is a column of the data, and workers are given"):
        RunConfig.of(cluster=cluster, workers=2)
