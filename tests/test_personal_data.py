"""Personal data that a program can see: what has a shape and passes its check, and what only looks like it."""

from __future__ import annotations

import pandas as pd
import pytest

import nbannot
from nbannot.errors import ConfigError
from nbannot.study.personal_data import kinds_in, personal_data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Mail ada.l+x@mail.example.co.uk!", {"e-mail address": 1}),
        ("DE89 3704 0044 0532 0130 00 and GB29NWBK60161331926819", {"bank account": 2}),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFFXXX", {"bank account": 1}),
        ("de89370400440532013000, CH93 0076 2011 6238 5295 7.", {"bank account": 2}),
        ("jörg@müller.de", {"e-mail address": 1}),
        ("756.9217.0769.85, 390.533.447-05, 85.07.30-033.28", {"number of identity": 3}),
        ("211062-5629; 15108695088; 44051401359; QQ 12 34 56 C, AB 12 34 56 C", {"number of identity": 4}),
        ("4111 1111 1111 1111", {"payment card": 1}),
        ("536-90-4399", {"number of identity": 1}),
        ("811228-9874", {"number of identity": 1}),
        ("131052-308T", {"number of identity": 1}),
        ("RCCMNL83S18D969H", {"number of identity": 1}),
        ("2 95 10 99 126 111 93", {"number of identity": 1}),
        ("54362315K", {"number of identity": 1}),
        ("+49 30 901820, +1 (202) 555-0143; Tel. 020 7946 0958", {"telephone number": 3}),
        ("téléphone 01 42 68 53 00", {"telephone number": 1}),
    ],
)
def test_what_is_seen(text, kinds):
    assert kinds_in(text) == kinds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DE89 3704 0044 0532 0130 01",  # the check digits are wrong
        "4111 1111 1111 1112",
        "54362315A",
        "756.9217.0769.84, 390.533.447-06, 85.07.30-033.29, 311162-5629, 15108695089, 44051401358",
        "the phone 2019-2020 survey",
        "2019-12-31, 100000-2000 pages, 1,000,000,000 euros",
        "ISBN 978-3-16-148410-0, ORCID 0000-0002-1825-0097",
        "@party said 1234567 people call for reform in 2014",
        "3,141,592,653,589,793",
    ],
)
def test_what_only_looks_like_it(text):
    assert kinds_in(text) == {}


def test_names_are_looked_for_where_the_environment_says_so(monkeypatch):
    assert personal_data(["Ada came."]).names is None
    monkeypatch.setenv("NBANNOT_FIND_NAMES", "xx_no_such_pipeline")
    with pytest.raises(ConfigError, match="xx_no_such_pipeline"):
        personal_data(["Ada came."])


def test_the_data_themselves_are_neither_kept_nor_shown():
    task = nbannot.Task(
        pd.DataFrame(
            {"id": [f"t{i}" for i in range(30)], "text": [f"from: someone{i}@example.org" for i in range(30)]}
        ),
        nbannot.Codebook.build(text_column="text", id_column="id", sections={"S": [nbannot.checkbox("x")]}),
    )
    seen = personal_data(task)
    assert (seen.n_texts, seen.counts) == (30, {"e-mail address": 30})
    assert list(seen.by_text) == task.ids
    for shown in (repr(seen), seen.words, str(seen), nbannot.displays.personal_data_card(seen).html):
        assert "someone" not in shown
    assert "30 of 30 texts seem to hold personal data: 30 e-mail addresses" in seen.words
    assert personal_data(["nothing here"]).words == ""
