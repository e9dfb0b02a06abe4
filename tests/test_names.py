"""Names of people before texts leave: a pipeline of the user's own, made here, finds those that it knows."""

import sys

import pandas as pd
import pytest
from conftest import GATE, codebook_of
from scripted import Scripted, run_it, well

import nbannot
from nbannot.asking.request_reply import ModelInfo
from nbannot.errors import ConfigError
from nbannot.study import names
from nbannot.study.config import RunConfig
from nbannot.study.personal_data import personal_data

TEXTS = ["Ada Lovelace met Grace Hopper.", "Nobody.", "Write to Ada Lovelace: ada@example.org"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("de")
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": "PER", "pattern": "Ada Lovelace"}, {"label": "persName", "pattern": "Grace Hopper"},
         {"label": "LOC", "pattern": "Nobody"}]
    )  # fmt: skip
    nlp.meta |= {"name": "people", "version": "1.2.3"}
    place = tmp_path_factory.mktemp("pipelines") / "people"
    nlp.to_disk(place)
    return str(place)


class Away(Scripted):
    def info(self):
        return ModelInfo(
            "m", "openai", endpoint="https://api.mistral.ai/v1", is_local=False, energy_measured=False
        )


def letters(texts):
    data = pd.DataFrame({"id": [f"t{n}" for n in range(len(texts))], "text": texts})
    return nbannot.Task(data, codebook_of(GATE), "letters")


def test_names_are_counted_in_plan_run_and_report_and_never_written(tmp_path, with_model, pipeline):
    with_model(Away(well))
    task, root = letters(TEXTS), str(tmp_path / "out")
    told = (
        "1 of 3 texts seem to hold personal data: 1 e-mail address (t2). Addresses are not looked for. What looks like "
        "names of people was seen in 2 of 3 texts (t0, t2) by de_people 1.2.3 (spaCy "
    )
    plan = nbannot.plan(task, model="openai/m", output_root=root, find_names=pipeline)
    said: list[str] = []
    run = run_it(task, model="openai/m", output_root=root, find_names=pipeline, say=said.append)
    for shown in (str(plan), " ".join(said), str(run), str(run.report()), str(nbannot.load_run(run.folder))):
        assert told in " ".join(shown.split())
    assert "Take them out first" in " ".join(said)
    assert not any(
        b"Lovelace" in path.read_bytes() for path in run.folder.rglob("*") if path.name == "config.json"
    )
    assert run_it(task, model="openai/m", output_root=root).run_id == run.run_id
    card = nbannot.displays.personal_data_card(personal_data(task, find_names=pipeline))
    assert "1 e-mail address, 1 name of a person" in card.text
    assert "2 names of a person" in card.text
    assert "Lovelace" not in card.html


def test_where_none_is_seen_that_is_said_without_advice(tmp_path, with_model, pipeline, monkeypatch):
    monkeypatch.setenv("NBANNOT_FIND_NAMES", pipeline)
    with_model(Away(well))
    said: list[str] = []
    run_it(letters(["Nobody."]), model="openai/m", output_root=str(tmp_path), say=said.append)
    line = next(line for line in said if "names of people" in line)
    assert line.startswith("What looks like names of people was seen in 0 of 1 text by de_people 1.2.3")
    assert "Take them out" not in line


def test_of_much_text_a_random_sample_is_read_and_long_texts_in_pieces(pipeline, monkeypatch):
    long = "word " * 30 + "Ada Lovelace " * 3
    assert personal_data([long], find_names=pipeline).names.by_text == {"1": 3}
    monkeypatch.setattr(names, "PIECE_CHARS", 16)
    names._SEEN.clear()
    assert personal_data([long], find_names=pipeline).names.by_text == {"1": 3}
    monkeypatch.setattr(names, "MOST_CHARS", 100)
    many = [f"Ada Lovelace {n:02}" for n in range(50)]
    seen = personal_data(many, find_names=pipeline)
    assert (seen.names.n_texts, len(seen.names.by_text)) == (6, 6)
    assert seen.names.by_text == personal_data(many, find_names=pipeline).names.by_text
    assert "in 6 of 6 texts" in seen.words
    assert ", a random sample of 50, by" in seen.words
    assert "the first 100 characters of it" in personal_data([long], find_names=pipeline).words


def test_a_trained_component_needs_no_tagger_and_is_found_by_its_labels(tmp_path):
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger").add_label("NN")
    nlp.add_pipe("ner").add_label("PERSON")
    nlp.initialize()
    nlp.to_disk(tmp_path / "both")
    assert names.finder_of(str(tmp_path / "both"))[0].pipe_names == ["ner"]
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "ORG", "pattern": "EU"}])
    nlp.to_disk(tmp_path / "org")
    with pytest.raises(ConfigError, match="this pipeline knows only ORG, and no people"):
        names.finder_of(str(tmp_path / "org"))
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ConfigError, match="has no component that finds names"):
        names.finder_of(str(tmp_path / "blank"))
    with pytest.raises(ConfigError, match="cannot be loaded by spaCy"):
        names.finder_of(str(tmp_path))


def test_a_pipeline_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path, with_model, monkeypatch
):
    model = with_model(Away(well))
    settings = {"model": "openai/m", "output_root": str(tmp_path), "find_names": "de_core_news_sm"}
    monkeypatch.setitem(sys.modules, "spacy", None)
    names.finder_of.cache_clear()
    with pytest.raises(ConfigError, match=r'pip install "nbannot\[names\]".*\n?.*download de_core_news_sm'):
        run_it(letters(TEXTS), **settings)
    assert (model.requests, list(tmp_path.iterdir())) == ([], [])
    with_model(Scripted(well))
    assert run_it(letters(TEXTS), **{**settings, "model": "mock"})  # texts stay here: nothing is looked for
    monkeypatch.undo()


def test_a_missing_pipeline_is_told_how_to_fetch():
    pytest.importorskip("spacy")
    with pytest.raises(ConfigError, match="python -m spacy download xy_no_such_sm "):
        names.finder_of("xy_no_such_sm")
    with pytest.raises(ConfigError, match="find_names must be a text"):
        RunConfig(find_names="")
