"""The lock on the test half: real halves, no label readable before it is opened, every look counted."""

from __future__ import annotations

import io
import json

import pandas as pd
import polars as pl
import pytest
from conftest import codebook_of

import nbannot as nba
from nbannot.errors import ConfigError, ScoringError, TaskError
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti"]}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def frame(n=60, per_speaker=3, about="the road"):
    return pl.DataFrame(
        {
            "id": [f"t{i:03d}" for i in range(n)],
            "text": [f"Speech {i} on {about}." for i in range(n)],
            "who": [f"s{i // per_speaker}" for i in range(n)],
            "S_Stance": ["pro" if i % 3 else "anti" for i in range(n)],
        }
    )


def study(n=60, name="study", about="the road", **options):
    return Task(frame(n, about=about), codebook_of({**STANCE, **options}), name)


def halves(task):
    return [task.select(split=half) for half in ("dev", "test")]


def test_halves_are_halves_alike_and_whole_speakers_stay_together(tmp_path):
    task = study()
    task.lock(0.5, by="who", stratify="Stance")
    dev, test = halves(task)
    assert len(dev) == len(test) == 30
    assert not set(dev.data["who"]) & set(test.data["who"])
    stored = json.loads((tmp_path / "outputs/study/split.json").read_text(encoding="utf-8"))
    assert (stored["seed"], stored["by"], stored["stratify"], stored["test"]) == (1, "who", ["S_Stance"], 0.5)
    assert set(stored["hash"]) == {"dev", "test"}
    alike = study(61, "alike", "schools").lock(0.25, stratify="Stance")
    assert len(alike.select(split="test")) in (15, 16)
    opened = alike.select(split="test", reason="count them").human("Stance")
    assert opened.count("anti") in (5, 6)
    assert (
        study(40, "other", "tax").lock(seed=2).split_lock.test_ids
        != study(40, "third", "health").lock(seed=3).split_lock.test_ids
    )


def test_no_label_of_the_test_half_can_be_read_before_it_is_opened(tmp_path):
    task = study().lock()
    hidden = task.split_lock.test_ids

    def readable(one):
        return {i for i, value in zip(one.ids, one.human("Stance"), strict=True) if value is not None}

    raw = task.to_pandas()
    assert readable(task).isdisjoint(hidden)
    assert len(readable(task)) == 30
    assert set(raw[raw["S_Stance"] != ""]["id"]).isdisjoint(hidden)
    assert not readable(task.select(split="test"))
    assert not readable(task.select(ids=sorted(hidden)))
    again = study()  # the same data in another session
    assert readable(again).isdisjoint(hidden)
    assert again.split_lock.test_ids == hidden
    coder = nba.load_coder(task, frame(), "anna")
    assert readable(coder.task).isdisjoint(hidden)
    assert set(coder.labels.query("status == 'ok'")["text_id"]).isdisjoint(hidden)
    run = nba.run(task, model="mock", output_root="out")
    assert run.config["split"] == "dev"
    assert set(run.task.ids).isdisjoint(hidden)
    every = nba.run(task, model="mock", ids=task.ids, output_root="out")
    assert every.scores.fields["S_Stance"].counts["no_reference"] == 30
    for path in tmp_path.rglob("human_labels.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert set(table[table["S_Stance"] != ""]["text_id"]).isdisjoint(hidden)
    assert not task.split_lock.looks


def test_every_look_needs_a_reason_and_is_counted(tmp_path):
    task = study().lock()
    with pytest.raises(ConfigError, match=r"(?s)never consulted.*reason="):
        nba.run(task, model="mock", split="test", output_root="out")
    with pytest.raises(ConfigError, match="reason"):
        nba.run(task, model="mock", split="test", reason="  ", output_root="out")
    assert nba.plan(task, model="mock", split="test", output_root="out").calls_at_least == 30
    assert not task.split_lock.looks
    final = nba.run(task, model="mock", split="test", reason="final model", output_root="out")
    assert final.scores.fields["S_Stance"].results["accuracy"].n == 30
    look = task.split_lock.looks[0]
    assert set(look) == {"time", "run_id", "config", "metric", "reason", "before"}
    assert (look["run_id"], look["reason"]) == (final.run_id, "final model")
    assert look["config"].startswith(final.run_id) or len(look["config"]) == 64
    nba.run(task, model="mock", split="test", reason="final model", output_root="out")  # the same cell again
    assert task.split_lock.n_looks == 1
    nba.run(task, model="mock", temperature=0.5, split="test", reason="another", output_root="out")
    nba.run(task, model="mock", split="test", reason="one more look", output_root="out")
    assert task.split_lock.words == "test half consulted 3 times by 2 configurations"
    again = nba.load_run(final.folder, task=study())
    assert again.scores.fields["S_Stance"].results["accuracy"].n == 30
    assert nba.load_run(final.folder).scores.fields["S_Stance"].results["accuracy"].n == 30
    said = str(again.report())
    for words in ("consulted 3 times by 2 configurations", "if this were the only look", "97.0%, for look 1"):
        assert words in said
    rows = nba.runs("study", output_root="out").set_index("run_id")
    other = next(look["run_id"] for look in task.split_lock.looks if look["run_id"] != final.run_id)
    assert rows.loc[[final.run_id, other], "test_look"].tolist() == [1, 2]
    assert rows.loc[[final.run_id, other], "test_configurations"].tolist() == [1, 2]
    both = nba.compare([nba.load_run(final.folder.parent / name, task=study()) for name in (final.run_id, other)],
                       n_resamples=50)  # fmt: skip
    for table in (both.to_latex("ranking"), both.to_markdown()):
        assert "Test half consulted 3 times by 2 configurations." in table
    third = nba.run(task, model="mock", temperature=0.9, split="test", reason="a fourth", output_root="out")
    assert "99.8%, for look 4" in str(third.report())
    log = tmp_path / "outputs/study/test_log.jsonl"
    log.write_text(log.read_text(encoding="utf-8") + '{"time": "to', encoding="utf-8")  # a torn last line
    assert task.split_lock.n_looks == 4
    task.split_lock.note("after the tear", "x", "y")
    assert [look["reason"] for look in task.split_lock.looks][-1] == "after the tear"
    assert not task.split_lock.faults


def test_texts_that_belong_together_stay_together_without_being_asked():
    task = Task(frame(), codebook_of(STANCE), "study", cluster="who").lock()
    dev, test = halves(task)
    assert not set(dev.data["who"]) & set(test.data["who"])
    assert task.lock().split_lock.settings["by"] == "who"
    with pytest.raises(TaskError, match="locked before"):
        task.lock(by="")
    apart = Task(frame(about="tax"), codebook_of(STANCE), "apart", cluster="who").lock(by="")
    assert apart.split_lock.settings["by"] is None


def test_a_log_that_is_shortened_or_edited_is_told_with_every_number(tmp_path, monkeypatch):
    task = study().lock()
    for i in range(3):
        final = nba.run(
            task, model="mock", temperature=i / 4, split="test", reason=f"look {i}", output_root="out"
        )
    log, split = (tmp_path / "outputs/study" / name for name in ("test_log.jsonl", "split.json"))
    whole, counted = log.read_text(encoding="utf-8"), split.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    assert not study().split_lock.faults

    def told(text):
        log.write_text(text, encoding="utf-8")
        lock = study().split_lock
        return lock.n_looks, lock.words

    for text, words in (
        ("", "3 of these looks are no longer in test_log.jsonl"),
        ("".join(lines[:1]), "2 of these looks are no longer"),
        (
            whole.replace("look 1", "none"),
            "1 of these looks is no longer in test_log.jsonl as it was written",
        ),
    ):
        assert told(text) == (3 + ("none" in text), told(text)[1])
        assert words in told(text)[1]
    log.unlink()
    again = nba.load_run(final.folder)  # the look still opens what it opened, and is the third
    assert again.table_row()["test_look"] == 3
    names = [look["run_id"] for look in study().split_lock.looks]
    compared = nba.compare([nba.load_run(final.folder.parent / name) for name in names], n_resamples=50)
    share = nba.multiverse([again], lambda run: 1.0)
    for page in (
        str(again.report()),
        compared.to_latex("ranking"),
        compared.to_markdown(),
        share.to_csv(),
        share.to_latex(),
    ):
        assert "no longer in" in page
    assert told(whole)[1] == "test half consulted 3 times by 3 configurations"
    # Another account, or another computer: no copy of the lines, but split.json counts them.
    monkeypatch.setenv("NBANNOT_DATA", str(tmp_path / "another"))
    assert told(whole)[1] == "test half consulted 3 times by 3 configurations"
    assert told("".join(lines[:2])) == (3, told("".join(lines[:2]))[1])
    assert "1 more is counted in split.json" in study().split_lock.words
    assert (
        study().split_lock.look_of(json.loads(lines[1])["run_id"]) == 3
    )  # the lost one may have come before it
    for text in (whole.replace("look 0", "none"), "".join(lines[1:2] + lines[:1] + lines[2:])):
        assert told(text)[0] == 3
        assert "does not follow on the one before it" in told(text)[1]
    assert "last line of test_log.jsonl was edited" in told(whole.replace("look 2", "none"))[1]
    # All of it put back to before the first look: the run itself knows better.
    split.write_text(
        json.dumps({k: v for k, v in json.loads(counted).items() if k != "looks"}), encoding="utf-8"
    )
    told("".join(lines[2:]))
    kept = nba.load_run(final.folder)
    assert kept.table_row()["test_look"] == 3
    page = " ".join(str(kept.report()).replace("┃", " ").split())
    assert "own record says that it was look 3" in page
    assert "99.7%, for look 3" in page


def test_a_split_that_was_thrown_away_is_told_with_the_next_one(tmp_path):
    task = study().lock()
    nba.run(task, model="mock", split="test", reason="final", output_root="out")
    for name in ("split.json", "test_log.jsonl"):
        (tmp_path / "outputs/study" / name).unlink()
    assert any("consulted once; its split.json is gone" in notice for notice in study().notices)
    second = study().lock(seed=2)
    assert "another split before, consulted once, whose split.json is gone" in second.split_lock.words
    hidden = second.split_lock.test_ids
    (tmp_path / "outputs/study/split.json").unlink()
    third = study(name="renamed").lock(seed=3)
    assert "2 other splits before, consulted once" in third.split_lock.words
    assert third.split_lock.test_ids != hidden
    # Another session in another folder hides the half of the newest split, not of the first.
    seen = {i for i, v in zip(study().ids, study().human("Stance"), strict=True) if v is None}
    assert seen == third.split_lock.test_ids


def test_what_lies_in_memory_closes_with_the_lock():
    task, twin = study(), study()
    assert len(task.select(split="test")) == 30  # the half of a task that nobody locked
    coder = nba.load_coder(twin, frame(), "anna")
    run = nba.run(twin, model="mock", output_root="out")
    part = twin.select(limit=40)
    assert run.scores.fields["S_Stance"].results["accuracy"].n == 60
    hidden = task.lock().split_lock.test_ids
    assert set(task.select(split="test").ids) == hidden
    for one in (twin, run.task, run.coding.task, coder.task, part):
        assert {i for i, v in zip(one.ids, one.human("Stance"), strict=True) if v is not None}.isdisjoint(
            hidden
        )
    assert run.scores.fields["S_Stance"].results["accuracy"].n == 30
    assert set(run.disagreements().frame["text_id"]).isdisjoint(hidden)
    assert coder.scores.fields["S_Stance"].results["accuracy"].n == 30
    assert set(coder.labels.query("status == 'ok'")["text_id"]).isdisjoint(hidden)
    assert run.table().set_index("text_id").loc[sorted(hidden), "S_Stance human"].isna().all()


def test_a_locked_task_is_locked_in_every_working_folder_and_under_every_name(tmp_path, monkeypatch):
    hidden = study().lock(output_root="elsewhere/out").split_lock.test_ids
    assert study().lock().split_lock.folder == tmp_path / "elsewhere/out/study"
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    wanted = dict(zip(frame()["id"], frame()["S_Stance"], strict=True))

    def told(task):
        return {i for i, value in zip(task.ids, task.human("Stance"), strict=True) if value is not None}

    codebook = codebook_of(STANCE)
    other_ids = frame().with_columns(pl.Series("id", [f"x{i}" for i in range(60)]))
    padded = frame().with_columns((pl.col("text") + "  ").alias("text"))
    table = tmp_path / "there" / "speeches.csv"
    frame().write_csv(table)
    for task in (
        study(),
        Task(frame(), codebook),
        Task(frame(), codebook, "renamed"),
        Task(padded, codebook, "renamed"),
        Task(frame()[20:], codebook, "a part"),
        load_task(table, codebook=codebook),
    ):
        assert told(task) == {i for i in task.ids if i not in hidden}
    renumbered = Task(other_ids, codebook, "renamed")
    assert {f"t{int(i[1:]):03d}" for i in told(renumbered)} == set(wanted) - hidden
    # What only looks like it: the same ids with other texts, the same texts in another question.
    other = Task(frame().with_columns((pl.col("text") + " No.").alias("text")), codebook, "study")
    question = Task(frame().rename({"S_Stance": "S_Tone"}), codebook_of({**STANCE, "name": "Tone"}), "study")
    assert other.split_lock is None
    assert question.split_lock is None
    # Doors that reach the labels by another way.
    run = nba.run(study(), model="mock", ids=[*frame()["id"]], output_root="out")
    assert run.scores.fields["S_Stance"].results["accuracy"].n == 30
    people = [nba.load_coder(study(), frame(), name) for name in ("anna", "ben")]
    assert {row for coder in people for row in coder.table().dropna()["text_id"]}.isdisjoint(hidden)
    assert nba.compare([run, people[0]], "accuracy", n_resamples=50).own("S_Stance", "accuracy")[0].n == 30
    with pytest.raises(ScoringError, match=r"locked.*never consulted"):
        nba.prevalence(run, "Stance")
    # A look from here is a look for everybody.
    nba.run(study(), model="mock", split="test", reason="final", output_root="out")
    monkeypatch.chdir(tmp_path)
    assert study().split_lock.n_looks == 1


def test_a_lock_that_other_folders_cannot_see_says_so(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("no folder")
    monkeypatch.setenv("NBANNOT_DATA", str(tmp_path / "a file"))
    task = study().lock()
    assert any("will not see that this task is locked" in notice for notice in task.notices)
    assert study().human("Stance").count(None) == 30  # in this folder it is


def test_a_consensus_settles_the_locked_half_and_loses_nothing_of_it(tmp_path):
    blank = Task(frame().with_columns(pl.lit("").alias("S_Stance")), codebook_of(STANCE), "study")
    hidden = blank.lock().split_lock.test_ids
    coders = tmp_path / "outputs/study/coders"
    coders.mkdir(parents=True)
    for name, without in (("anna", ""), ("ben", "t003")):
        frame().filter(pl.col("id") != without).select("id", "S_Stance").write_csv(coders / f"{name}.csv")
    found = nba.consensus(blank)
    assert pl.read_csv(found.path)["S_Stance"].to_list() == frame()["S_Stance"].to_list()
    told = found.frame.set_index("text_id")
    assert {i for i, label in told["label"].items() if label is None} == set(hidden)
    assert set(told.loc[sorted(hidden), "status"]) == {"locked"}
    assert set(found.soft["text_id"]).isdisjoint(hidden)
    assert len(found.open) == 0
    assert any("30 texts of the test half" in note for note in found.notes)
    assert found.task.human("Stance").count(None) == 30
    opened = found.task.select(split="test", reason="final")
    wanted = dict(zip(frame()["id"], frame()["S_Stance"], strict=True))
    assert dict(zip(opened.ids, opened.human("Stance"), strict=True)) == {i: wanted[i] for i in opened.ids}
    final = nba.run(found.task, model="mock", split="test", reason="final model", output_root="out")
    assert final.scores.fields["S_Stance"].results["accuracy"].n == 30


def test_a_split_is_made_once(tmp_path):
    task = study().lock(0.5, stratify="Stance")
    assert task.lock(0.5, stratify="S_Stance") is task
    with pytest.raises(TaskError, match=r"locked before.*test=0.5"):
        study().lock(0.3, stratify="Stance")
    path = tmp_path / "outputs/study/split.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, "test_ids": stored["test_ids"][1:]}), encoding="utf-8")
    with pytest.raises(TaskError, match="was changed"):
        study()
    for wrong, words in (({"test": 1.5}, "between 0 and 1"), ({"by": "whom"}, "did you mean 'who'")):
        with pytest.raises(TaskError, match=words):
            study(name="fresh", about="tax").lock(**wrong)
    with pytest.raises(TaskError, match="whole task"):
        study(name="fresh", about="tax").select(limit=9).lock()


def test_examples_of_the_prompt_come_from_dev(tmp_path):
    late = study(name="late").lock(0.9)
    one = sorted(late.split_lock.test_ids)[0]
    words = f'Text: \n"Speech {int(one[1:])} on the road."\n\nResponse: \n{{"response": "pro"}}'
    words = words.replace("the road", "tax")
    task = study(example=words, about="tax").lock(0.9)
    assert one not in task.split_lock.test_ids
    with_example = study(name="late", example=words.replace("tax", "the road"))
    with pytest.raises(ConfigError, match=f"worked examples: {one}"):
        nba.run(with_example, model="mock", use_examples=True, output_root="out")


def test_a_task_with_a_folder_keeps_its_split_there(tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    codebook_of(STANCE).save(place / "codebook.json")
    frame().write_csv(place / "ground-truth.csv")
    load_task(place).lock()
    assert (place / "split.json").exists()
    task = load_task(place)
    assert task.human("Stance").count(None) == 30
    run = nba.run(task, model="mock", split="test", reason="once", output_root="out")
    assert (place / "test_log.jsonl").exists()
    assert nba.load_run(run.folder).task.human("Stance").count(None) == 0


def test_a_run_from_before_the_lock_shows_no_label_of_the_test_half(tmp_path):
    task = study()
    before = nba.run(task, model="mock", output_root="out")
    hidden = task.lock().split_lock.test_ids
    for loaded in (nba.load_run(before.folder), nba.load_run(before.folder, task=study())):
        human = dict(zip(loaded.task.ids, loaded.task.human("Stance"), strict=True))
        assert {i for i, v in human.items() if v is not None}.isdisjoint(hidden)
        assert loaded.scores.fields["S_Stance"].results["accuracy"].n == 30


def test_only_the_test_half_corrects_a_share_and_that_is_a_look(tmp_path):
    task = study(200).lock()
    corpus = nba.run(task, model="mock", ids=task.ids, output_root="out")
    with pytest.raises(ScoringError, match=r"(?s)locked.*never consulted.*reason="):
        nba.prevalence(corpus, "Stance")
    found = nba.prevalence(corpus, "Stance", reason="share in the paper")
    assert found.frame["n_gold"].tolist() == [100, 100]
    assert found.frame["n_corpus"].tolist() == [200, 200]
    assert task.split_lock.looks[0]["metric"] == "gold labels"
    assert "Locked split: test half consulted once by 1 configuration." in found.to_latex()
    nba.regress("Stance == 'pro' ~ 1", corpus, reason="share in the paper")
    assert task.split_lock.n_looks == 1
    left = nba.prevalence(nba.run(task, model="mock", split="test", reason="x", output_root="out"), "Stance")
    assert left.frame["n_gold"].tolist() == [100, 100]
    assert task.split_lock.words == "test half consulted 2 times by 1 configuration", (
        "the same model, asked alike"
    )
    other = nba.run(task, model="mock/b", ids=task.ids, output_root="out")
    nba.prevalence(other, "Stance", reason="share in the paper")
    assert other.config["prompt_hash"] == corpus.config["prompt_hash"]
    assert task.split_lock.words == "test half consulted 3 times by 2 configurations", (
        "one prompt, two models"
    )


def test_the_study_from_dev_to_a_corpus(tmp_path):
    task = study(120).lock(stratify="Stance")
    runs = nba.sweep(task, model="mock", temperature=[0, 0.7], output_root="out")
    assert [len(run.task) for run in runs] == [60, 60]
    best = runs[1]
    final = nba.run(task, best.config, split="test", reason="final model, chosen on dev")
    assert (len(final.task), final.config["temperature"]) == (60, 0.7)
    texts = {"id": [f"c{i}" for i in range(90)], "text": [f"Other {i}." for i in range(90)]}
    everything = Task(pl.DataFrame(texts), codebook_of(STANCE), "everything")
    corpus = nba.run(everything, final.config)
    assert len(corpus.task) == 90
    assert corpus.config["prompt_hash"] == final.config["prompt_hash"]
    found = nba.prevalence(corpus, "Stance", gold=final)
    assert found.frame["n_corpus"].tolist() == [150, 150]
    assert found.frame["n_gold"].tolist() == [60, 60]
    said = "test half consulted once by 1 configuration"
    everybody = (found, nba.multiverse([final], lambda run: 1.0),
                 nba.regress("Stance == 'pro' ~ 1", corpus, gold=final))  # fmt: skip
    for one in everybody:
        assert said in one.to_latex()
        assert set(pd.read_csv(io.StringIO(one.to_csv()))["looks"]) == {f"Locked split: {said}."}
    assert "looks" not in nba.multiverse(runs, lambda run: 1.0).to_csv()
    with pytest.raises(ScoringError, match="shaped the prompt"):
        nba.prevalence(corpus, "Stance", gold=best)


def test_the_command_line_gives_its_reason_too(tmp_path, capsys):
    from nbannot.doors.cli import main

    place = tmp_path / "mine"
    place.mkdir()
    codebook_of(STANCE).save(place / "codebook.json")
    frame().write_csv(place / "ground-truth.csv")
    load_task(place).lock()
    asked = ["run", str(place), "--model", "mock", "--split", "test", "--output_root", "out", "-q"]
    assert main(asked) != 0
    assert "--reason" in capsys.readouterr().err
    assert main([*asked, "--reason", "final"]) == 0
    assert "test half consulted once" in capsys.readouterr().out
    assert load_task(place).split_lock.looks[0]["reason"] == "final"
