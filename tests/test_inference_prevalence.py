"""Prevalence: worked by hand, its limits, its properties, and the conditions under which it is refused."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import corpus_of, run_of
from made_runs import made_run, made_task

import nbannot as nba
from nbannot.errors import ScoringError
from nbannot.inference.shares import GoldTable, post_stratified, ppi
from nbannot.study.task import Task

KINDS = ("a", "b", "c")


def by_label(found, column="corrected"):
    return dict(zip(found.frame["label"], found.frame[column], strict=True))


def test_two_strata_by_hand(tmp_path):
    # The model says yes of 300 of 1,000 texts. Coded: 70 "no" (7 of them are yes), 30 "yes" (24 are yes).
    found = nba.prevalence(corpus_of([[63, 6], [7, 24]], [700, 300], tmp_path))
    value = 0.7 * 0.1 + 0.3 * 0.8
    r0, r1 = 8 / 72, 25 / 32
    se = math.sqrt(0.49 * r0 * (1 - r0) / 70 * 0.9 + 0.09 * r1 * (1 - r1) / 30 * 0.9)
    row = found.frame.set_index("label").loc["yes"]
    assert row["naive"] == pytest.approx(0.3)
    assert row["corrected"] == pytest.approx(value)
    assert row["se"] == pytest.approx(se)
    assert row["corrected_high"] == pytest.approx(value + 1.959964 * se, abs=1e-6)
    assert row["gold_only"] == pytest.approx(0.31)
    assert (row["n_gold"], row["n_corpus"], row["n_human"]) == (100, 1000, 31)
    assert row["false_positive_rate"] == pytest.approx(6 / 69)
    assert row["false_negative_rate"] == pytest.approx(7 / 31)
    population = nba.prevalence(corpus_of([[63, 6], [7, 24]], [700, 300], tmp_path), target="population")
    wider = math.sqrt(
        0.49 * r0 * (1 - r0) / 70 + 0.09 * r1 * (1 - r1) / 30 + (0.7 * 0.21**2 + 0.3 * 0.49**2) / 1000
    )
    assert population.frame.set_index("label").loc["yes", "se"] == pytest.approx(wider)
    assert "label: " not in str(found)
    for words in (
        "naive",
        "FNR",
        "post-stratified by model label",
        "Where 60 more human labels",
        "random sample",
    ):
        assert words in str(found)
    assert "<table" in found._repr_html_()
    assert "corrected" in found.to_latex()


def test_nine_coded_texts_correct_nothing(tmp_path):
    """The correction of two coded texts was told as a finding: 1.00 [0.36, 1.00] instead of 0.38."""
    nine = nba.prevalence(corpus_of([[4, 2], [1, 2]], [700, 300], tmp_path / "nine"))
    assert nine.verdict.startswith("9 texts with a human label are too few to correct a share by")
    assert nine.frame["n_gold"].tolist() == [9, 9]
    ten = nba.prevalence(corpus_of([[5, 2], [1, 2]], [700, 300], tmp_path / "ten"))
    assert ten.verdict.startswith("Counting the model's labels gives 0.")


def test_answers_that_are_none_are_a_stratum_and_sparse_ones_are_joined(tmp_path):
    found = nba.prevalence(corpus_of([[60, 6, 3], [5, 20, 6]], [650, 260, 90], tmp_path))
    assert by_label(found)["yes"] == pytest.approx(0.65 * 5 / 65 + 0.26 * 20 / 26 + 0.09 * 6 / 9)
    assert by_label(found, "naive") == pytest.approx({"no": 0.65, "yes": 0.26})
    sparse = nba.prevalence(corpus_of([[60, 6, 1], [5, 20, 0]], [650, 330, 20], tmp_path))
    assert by_label(sparse)["yes"] == pytest.approx(
        0.65 * 5 / 65 + 0.35 * 20 / 27
    )  # with the stratum of fewest labels
    assert "joined" in str(sparse)


def test_groups_are_estimated_from_their_own_labels(tmp_path):
    one, two = ([[40, 5], [10, 45]], [500, 500]), ([[80, 2], [8, 10]], [880, 120])
    halves = [corpus_of(*half, tmp_path) for half in (one, two)]
    model = [a.value for run in halves for a in run.coding.answers["S_Kind"]]
    human = [v or "" for run in halves for v in run.task.human("S_Kind")]
    years = ["1997"] * 1000 + ["2001"] * 1000
    found = nba.prevalence(run_of(model, human, tmp_path, ("no", "yes"), year=years), "Kind", by="year")
    alone = [by_label(nba.prevalence(run))["yes"] for run in halves]
    frame = found.frame
    assert frame.columns[0] == "year"
    assert frame[frame["label"] == "yes"]["corrected"].tolist() == pytest.approx(alone)
    assert len(found._fragment().figures) == 2
    with pytest.raises(ScoringError, match="no column 'yaer'; did you mean 'year'"):
        nba.prevalence(run_of(model, human, tmp_path, ("no", "yes"), year=years), by="yaer")


tables = st.tuples(
    st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=4), min_size=3, max_size=3),
    st.lists(st.integers(0, 400), min_size=4, max_size=4),
).filter(lambda t: sum(map(sum, t[0])) >= 2)


@given(tables)
def test_shares_are_shares(drawn):
    gold = np.array(drawn[0], dtype=float)
    found = post_stratified(GoldTable.of_counts(gold, gold.sum(0) + drawn[1]))
    if not np.isnan(found.value).any():
        assert ((found.value >= -1e-12) & (found.value <= 1 + 1e-12)).all()
        assert found.value.sum() == pytest.approx(1)
        assert (found.se >= 0).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 500))
def test_a_constant_model_leaves_gold_only(yes, no, rest):
    gold = np.array([[no, 0, 0], [yes, 0, 0]])
    found = post_stratified(GoldTable.of_counts(gold, [no + yes + rest, 0, 0]))
    assert found.value[0, 1] == pytest.approx(yes / (yes + no))
    value = ppi(GoldTable.of_counts(gold, [no + yes + rest + 1, 0, 0]))[0]
    assert value[0, 1] == pytest.approx(yes / (yes + no))


def test_a_right_model_narrows_and_the_floor_keeps_an_interval():
    right = post_stratified(
        GoldTable.of_counts(np.array([[70, 0, 0], [0, 30, 0]]), [700, 300, 0]), population=True
    )
    wrong = post_stratified(
        GoldTable.of_counts(np.array([[49, 21, 0], [21, 9, 0]]), [700, 300, 0]), population=True
    )
    assert right.se[0, 1] < wrong.se[0, 1]
    assert right.se[0, 1] > 0.01
    p = 32 / 34  # (s + 2) / (n + 4) where the sample shows no error at all
    n, w = 30, 0.3
    floor = w**2 * p * (1 - p) / n + 0.49 * (2 / 74) * (72 / 74) / 70 + (0.7 * 0.3**2 + 0.3 * 0.7**2) / 1000
    assert right.se[0, 1] == pytest.approx(math.sqrt(floor))
    every = post_stratified(GoldTable.of_counts(np.array([[70, 5, 0], [3, 30, 0]]), [73, 35, 0]))
    assert every.se.tolist() == [[0.0, 0.0]]
    assert every.value[0, 1] == pytest.approx(33 / 108)


def test_a_share_that_is_right_by_cancellation_is_called_so(tmp_path):
    found = nba.prevalence(corpus_of([[40, 10], [10, 40]], [500, 500], tmp_path))
    assert "right by cancellation" in str(found)
    honest = nba.prevalence(corpus_of([[49, 1], [1, 49]], [500, 500], tmp_path))
    assert "right by cancellation" not in str(honest)


def test_labels_go_where_the_model_errs(tmp_path):
    found = nba.prevalence(corpus_of([[80, 10], [0, 10]], [800, 200], tmp_path))
    more = found.label_next(40).set_index("model_label")["label_next"]
    assert more.sum() == 40
    assert more["yes"] > more["no"]
    with pytest.raises(ScoringError, match="at least 1"):
        found.label_next(0)


def test_texts_chosen_by_hand_are_refused_and_known_designs_are_not(tmp_path):
    chosen = (
        [[20, 5], [5, 70]],
        [800, 200],
    )  # 75 of 100 coded texts are what the model calls yes, 20 % of the corpus
    with pytest.raises(ScoringError, match="not a random sample"):
        nba.prevalence(corpus_of(*chosen, tmp_path), sampled="random")
    with pytest.raises(ScoringError, match="not a random sample"):
        nba.prevalence(corpus_of([[0, 5], [0, 70]], [800, 200], tmp_path))
    undeclared = nba.prevalence(corpus_of(*chosen, tmp_path))
    assert "not a simple random sample" in str(undeclared)
    drawn = nba.prevalence(corpus_of(*chosen, tmp_path), sampled="by label")
    assert by_label(drawn)["yes"] == pytest.approx(0.8 * 0.2 + 0.2 * 70 / 75)
    assert by_label(drawn, "gold_only")["yes"] == pytest.approx(by_label(drawn)["yes"])
    run = corpus_of(*chosen, tmp_path)
    model = [a.value for a in run.coding.answers["S_Kind"]]
    human = [v or "" for v in run.task.human("S_Kind")]
    chance = [
        str(25 / 800 if m == "no" else 75 / 200) if h else "" for m, h in zip(model, human, strict=True)
    ]
    known = nba.prevalence(run_of(model, human, tmp_path, ("no", "yes"), chance=chance), probability="chance")
    assert by_label(known)["yes"] == pytest.approx(by_label(drawn)["yes"])
    with pytest.raises(ScoringError, match="describe only themselves"):
        nba.prevalence(run, sampled="convenience")  # type: ignore[arg-type]
    with pytest.raises(ScoringError, match="no text of the corpus has a human label"):
        nba.prevalence(run_of(["no"] * 5, [""] * 5, tmp_path, ("no", "yes")))


def test_gold_made_otherwise_is_refused(tmp_path):
    gold = corpus_of(
        [[63, 6], [7, 24]],
        [70, 30],
        tmp_path,
    )
    model = ["no"] * 630 + ["yes"] * 270
    corpus = run_of(model, [""] * 900, tmp_path, ("no", "yes"))
    ids = [f"c{i}" for i in range(900)]

    task = Task(pl.DataFrame({"id": ids, "text": ids}), corpus.task.codebook, "corpus")
    corpus = made_run(task, {"Kind": model}, tmp_path, run_id="b0b0b0b0")
    found = nba.prevalence(corpus, gold=gold)
    assert by_label(found)["yes"] == pytest.approx(0.7 * 0.1 + 0.3 * 0.8)
    assert "added to the corpus" in str(found)
    other = made_run(task, {"Kind": model}, tmp_path, run_id="b0b0b0b0", prompt_hash="another")
    with pytest.raises(ScoringError, match="prompt_hash differ"):
        nba.prevalence(other, gold=gold)
    dev = corpus_of([[63, 6], [7, 24]], [70, 30], tmp_path)
    dev.config["split"] = "dev"  # type: ignore[index]
    with pytest.raises(ScoringError, match="shaped the prompt"):
        nba.prevalence(corpus, gold=dev)
    with pytest.raises(ScoringError, match="not in the corpus"):
        nba.prevalence(corpus, gold=gold.task)


def test_gold_whose_labels_were_cut_at_another_threshold_is_refused(tmp_path):
    tick = {"name": "Tick", "type": "checkbox"}
    of_gold, of_corpus = [f"gold {i}" for i in range(40)], [f"corpus {i}" for i in range(40)]
    labels = [1, 0] * 20
    gold = made_run(made_task(of_gold, tick, Tick=labels), {"Tick": labels}, tmp_path / "gold")
    task = made_task(of_corpus, tick)
    task = Task(
        task.data.with_columns(pl.Series("id", [f"c{i}" for i in range(40)])), task.codebook, task.name
    )
    corpus = made_run(task, {"Tick": labels}, tmp_path / "corpus", threshold=0.5)
    nba.prevalence(corpus, gold=gold)
    corpus = made_run(task, {"Tick": labels}, tmp_path / "corpus", threshold=0.3)
    with pytest.raises(ScoringError, match="threshold differ"):
        nba.prevalence(corpus, gold=gold)


def test_texts_of_one_speaker_are_one_observation(tmp_path):
    rng = np.random.default_rng(4)
    speakers = np.repeat(np.arange(100), 20)
    truth = np.where(rng.random(100) < 0.4, "yes", "no")[speakers]
    model = np.where(rng.random(2000) < 0.7, truth, np.where(truth == "yes", "no", "yes"))
    coded = rng.permutation(100)[:40]
    human = np.where(np.isin(speakers, coded), truth, "")
    run = run_of(model.tolist(), human.tolist(), tmp_path, ("no", "yes"), who=speakers.astype(str).tolist())
    apart = nba.prevalence(run)
    together = nba.prevalence(run, cluster="who")
    assert by_label(together) == by_label(apart)
    assert by_label(together, "se")["yes"] > 2 * by_label(apart, "se")["yes"]


def test_intervals_for_all_labels_at_once_are_wider(tmp_path):
    frame = nba.prevalence(
        corpus_of([[40, 5, 5, 0], [4, 30, 3, 0], [2, 4, 20, 0]], [460, 390, 280, 0], tmp_path, KINDS)
    ).frame
    assert (frame["corrected_low_all"] < frame["corrected_low"]).all()
    assert (frame["corrected_high_all"] > frame["corrected_high"]).all()
    assert frame["naive"].sum() == pytest.approx(1)


def test_a_sample_that_was_drawn_for_people_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = corpus_of([[63, 6], [7, 24]], [700, 300], tmp_path)
    coded = [i for i, v in zip(run.task.ids, run.task.human("Kind"), strict=True) if v is not None]
    place = tmp_path / "outputs" / "demo"
    place.mkdir(parents=True)
    rows = [f"{i},s{n % 2},{0.2 if n % 2 else 0.05}" for n, i in enumerate(coded[:90])]
    (place / "sample.csv").write_text(
        "\n".join(["text_id,stratum,probability", *rows]) + "\n", encoding="utf-8"
    )
    found = nba.prevalence(run)
    said = " ".join(str(found).split())
    assert "Sampling probabilities from sample.csv" in said
    assert "10 texts with a human label are not in sample.csv: left out" in said
    assert found.frame["n_gold"].tolist() == [90, 90]
    weight = [1 / (0.2 if n % 2 else 0.05) for n in range(90)]
    human = dict(zip(run.task.ids, run.task.human("Kind"), strict=True))
    yes = sum(w for w, i in zip(weight, coded, strict=False) if human[i] == "yes") / sum(weight)
    assert by_label(found, "gold_only")["yes"] == pytest.approx(yes)
