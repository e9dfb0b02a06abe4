"""Several people: who codes what, samples, consensus, adjudication, a class, and how far they agree."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbannot as nba
from nbannot.desk.class_page import share_of_labels
from nbannot.desk.sample import allocate
from nbannot.errors import DeskError, ScoringError
from nbannot.measures.coder_pairs import against_majority, pair_matrices
from nbannot.measures.dawid_skene import dawid_skene
from nbannot.study.reading import read_csv

SECTIONS = {
    "S": [
        nba.checkbox("Judges"),
        nba.dropdown("Side", options=["for", "against", "mixed"], condition=("Judges", 1)),
        nba.span("Who"),
    ]
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(n: int = 6, sections: Any = SECTIONS, **columns: Any) -> nba.Task:
    book = nba.Codebook.build(text_column="text", sections=sections)
    ids = [f"t{i}" for i in range(n)]
    return nba.Task(
        pd.DataFrame({"id": ids, "text": [f"the text {i} of all" for i in range(n)], **columns}),
        book,
        name="study",
    )


def coded(task: nba.Task, coder: str, column: str, values: dict[str, Any]) -> None:
    desk = nba.code(task, coder=coder)
    for text_id, value in values.items():
        desk.answer(text_id, column, value)
    desk.close()


# ---- who codes what, and samples --------------------------------------------------------------------------------


def test_an_assignment_shares_deals_out_and_repeats_late_and_unmarked() -> None:
    task = made(30)
    frame = nba.assign(task, ["anna", "ben"], overlap=10, repeat=4, seed=3)
    table = read_csv("outputs/study/coders/assignment.csv")
    assert table.columns == ["text_id", "coder", "order", "repeat"]
    assert table.height == len(frame) == 2 * (10 + 10 + 4)
    of = {
        c: [i for i, r in zip(g.text_id, g.repeat, strict=True) if r == 1] for c, g in frame.groupby("coder")
    }
    assert len(set(of["anna"]) & set(of["ben"])) == 10
    assert set(of["anna"]) | set(of["ben"]) == set(task.ids)
    desk = nba.code(task, coder="anna")
    again = [key for key in desk.items if key.repeat == 2]
    assert len(again) == 4
    for key in again:
        assert desk.items.index(key) > len(of["anna"]) // 2
        assert desk.items.index(key) - desk.items.index(key._replace(repeat=1)) > 1
    for key in desk.items:
        desk.answer(key.text_id, "Judges", 1 if key.repeat == 1 or key == again[0] else 0, repeat=key.repeat)
    assert set(read_csv(desk.path).filter(pl.col("S_Judges") != "")["S_Judges"]) == {
        "1"
    }  # the first coding counts
    coded(task, "ben", "Judges", dict.fromkeys(of["ben"], 1))
    alone = nba.agreement(task, "Judges").alone["anna", "S_Judges"]
    assert (alone.value, alone.n) == (0.25, 4)
    frame_of = nba.agreement(task, "Judges").frame
    [own] = frame_of[frame_of.measure == "agreement_with_oneself"].to_dict("records")
    assert (own["coder_a"], own["value"], own["n"]) == ("anna", 0.25, 4)
    assert nba.assign(task, ["anna", "ben"], overlap=10, repeat=4, seed=3).equals(frame)
    with pytest.raises(DeskError, match="there is another assignment"):
        nba.assign(task, ["anna"], overlap=3)
    with pytest.raises(DeskError, match="gives 'cy' no text; it names anna, ben"):
        nba.code(task, coder="cy")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"coders": "anna"}, 'Write coders=\\["anna"\\]'),
        ({"coders": ["a", "a"]}, "more than once"),
        ({"coders": []}, "coders is empty"),
        ({"overlap": 31}, "overlap is 31, but there are only 30 texts"),
        ({"overlap": True}, "overlap must be a number"),
        ({"repeat": 31}, "repeat is 31, but 'a' gets only 30 texts"),
        ({"texts": ["zz"]}, "no text with the id 'zz'"),
    ],
)
def test_assignments_that_do_not_fit_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(DeskError, match=words):
        nba.assign(made(30), **{"coders": ["a"], **more})


def test_a_sample_knows_its_probabilities_and_does_not_depend_on_the_order_of_the_data() -> None:
    party = ["x"] * 60 + ["y"] * 30 + ["z"] * 10
    task = made(100, party=party)
    frame = nba.sample(task, 20, by="party", seed=5)
    assert frame.groupby("stratum").size().to_dict() == {"x": 12, "y": 6, "z": 2}
    assert dict(zip(frame.stratum, frame.probability, strict=True)) == {"x": 0.2, "y": 0.2, "z": 0.2}
    turned = nba.Task(task.data.reverse(), task.codebook, name="turned")
    assert set(nba.sample(turned, 20, by="party", seed=5).text_id) == set(frame.text_id)
    assert read_csv("outputs/study/sample.csv").height == 20
    with pytest.raises(DeskError, match="another sample"):
        nba.sample(task, 21, seed=5)
    with pytest.raises(DeskError, match="'party' has 3 strata"):  # one of them could never be drawn
        nba.sample(task, 2, by="party", replace=True)
    equal = nba.sample(task, 24, by="party", allocation="equal", replace=True)
    assert equal.groupby("stratum").size().to_dict() == {"x": 8, "y": 8, "z": 8}
    assert set(zip(equal.stratum, equal.probability, strict=True)) == {
        ("x", 8 / 60),
        ("y", 8 / 30),
        ("z", 8 / 10),
    }
    blocks = nba.sample(task, 2, cluster="party", replace=True)
    assert set(blocks.probability) == {2 / 3}
    assert all(party.count(p) == sum(party[int(i[1:])] == p for i in blocks.text_id) for p in
               {party[int(i[1:])] for i in blocks.text_id})  # fmt: skip


def test_every_text_is_drawn_as_often_as_its_probability_says() -> None:
    task = made(12, party=["x"] * 9 + ["y"] * 3)
    drawn: Counter[str] = Counter()
    for seed in range(150):
        drawn.update(nba.sample(task, 5, by="party", seed=seed, replace=True).text_id)
    assert [drawn[f"t{i}"] / 150 for i in range(9)] == pytest.approx([3 / 9] * 9, abs=0.15)
    assert [drawn[f"t{i}"] / 150 for i in range(9, 12)] == pytest.approx([2 / 3] * 3, abs=0.15)


def test_neyman_takes_more_where_the_models_label_is_less_sure() -> None:
    human = ["1"] * 30 + ["0"] * 10 + ["0"] * 40
    task = made(80, {"S": [nba.checkbox("Judges")]}, S_Judges=human)
    run = nba.run(task, model="mock")
    frame = nba.sample(run.task, 20, by="Judges", run=run, allocation="neyman")
    labels = dict(zip(run.task.ids, run.coding.values("S_Judges"), strict=True))
    assert all(str(labels[i]) == s for i, s in zip(frame.text_id, frame.stratum, strict=True))
    sizes, spread = Counter(map(str, labels.values())), {}
    for label in sizes:
        said = [h for i, h in zip(task.ids, human, strict=True) if str(labels[i]) == label]
        r = [(said.count(v) + 1) / (len(said) + 2) for v in "01"]
        spread[label] = math.sqrt(1 - sum(p * p for p in r))
    total = sum(sizes[k] * spread[k] for k in sizes)
    for label, n in frame.groupby("stratum").size().items():
        assert n == pytest.approx(20 * sizes[label] * spread[label] / total, abs=1)
    with pytest.raises(DeskError, match="neyman' needs the model's labels"):
        nba.sample(task, 20, by="Judges", allocation="neyman")


@pytest.mark.parametrize(
    ("n", "sizes", "weights", "wanted"),
    [
        (10, [90, 10], [90, 10], [8, 2]),
        (3, [5, 5, 5], [1, 1, 1], [1, 1, 1]),
        (2, [5, 5, 5], [1, 1, 1], [1, 1, 0]),
        (20, [3, 100], [50, 50], [3, 17]),
        (103, [3, 100], [1, 9], [3, 100]),
        (10, [50, 50], [0, 1], [2, 8]),
    ],
)
def test_allocation_adds_up_and_never_takes_more_than_there_is(
    n: int, sizes: list[int], weights: list[float], wanted: list[int]
) -> None:
    names = "abc"[: len(sizes)]
    found = allocate(n, dict(zip(names, sizes, strict=True)), dict(zip(names, weights, strict=True)))
    assert [found[name] for name in names] == wanted


# ---- consensus and adjudication ---------------------------------------------------------------------------------


def three(task: nba.Task) -> None:
    """t0 all; t1 two of three; t2 two of two differ; t3 one coder; t4 the parent ties; t5 nobody."""
    coded(task, "anna", "Judges", {"t0": 1, "t1": 1, "t2": 1, "t3": 0, "t4": 1})
    coded(task, "ben", "Judges", {"t0": 1, "t1": 1, "t2": 0, "t4": 0})
    coded(task, "cy", "Judges", {"t0": 1, "t1": 0})
    coded(task, "anna", "Side", {"t0": "for", "t1": "for", "t4": "mixed"})
    coded(task, "ben", "Side", {"t0": "against", "t1": "for"})
    coded(task, "cy", "Side", {"t0": "against"})


def test_a_majority_leaves_ties_and_what_depends_on_them_open() -> None:
    task = made()
    three(task)
    gold = nba.consensus(task)
    said = {
        (r.text_id, r.column): (r.label, r.status, r.n_coders, r.n_agree) for r in gold.frame.itertuples()
    }
    assert said == {
        ("t0", "S_Judges"): (1, "agreed", 3, 3), ("t1", "S_Judges"): (1, "majority", 3, 2),
        ("t2", "S_Judges"): (None, "tie", 2, 1), ("t3", "S_Judges"): (0, "one coder", 1, 1),
        ("t4", "S_Judges"): (None, "tie", 2, 1), ("t0", "S_Side"): ("against", "majority", 3, 2),
        ("t1", "S_Side"): ("for", "agreed", 2, 2), ("t4", "S_Side"): (None, "open", 1, 1),
    }  # fmt: skip
    assert gold.task.human("Judges") == [1, 1, None, 0, None, None]
    assert gold.task.human("Side") == ["against", "for", None, None, None, None]
    table = read_csv(gold.path)
    assert list(table["S_Judges"]) == ["1", "1", "", "0", ""]
    assert nba.consensus(task, "unanimity").task.human("Judges") == [1, None, None, 0, None, None]
    soft = nba.consensus(task, "soft").soft
    shares = {(r.text_id, r.label): r.share for r in soft[soft.column == "S_Side"].itertuples()}
    assert shares["t0", "against"] == pytest.approx(2 / 3)
    history = [
        json.loads(line) for line in Path("outputs/study/consensus.log.jsonl").read_text().splitlines()
    ]
    assert [line["rule"] for line in history] == ["majority", "unanimity", "soft"]
    assert "t0,1,against" in history[1]["was"]  # what stood there before is not lost
    for bad in ({"rule": "median"}, {"ties": "first"}):
        with pytest.raises(DeskError):
            nba.consensus(task, **bad)


@pytest.mark.parametrize(
    ("marked", "wanted"),
    [
        (
            [[(0, 3)], [(0, 3)], [(4, 8)]],
            None,
        ),  # (4, 8): two of three left it unmarked; (0, 3): two of three marked it
        (
            [[(0, 3)], [(0, 4)], [(1, 3)]],
            None,
        ),  # all saw something there, no two the same: open, not "nothing"
        ([[(0, 3)], [(0, 3)], []], [(0, 3)]),
        ([[(0, 3)], [], []], []),
        ([[(0, 3)], []], None),
        ([[(0, 3)], [(0, 3)], [(0, 4)]], [(0, 3)]),
        ([[], [], []], []),
    ],
)
def test_spans_are_taken_or_left_out_by_a_majority_and_else_open(marked: list[Any], wanted: Any) -> None:
    task = made(1)
    for name, spans in zip("abc", marked, strict=False):
        coded(task, name, "Who", {"t0": [{"start": a, "end": b} for a, b in spans]})
    label = nba.consensus(task).made["S_Who"]["t0"].label
    if marked[0] == [(0, 3)] and marked[-1] == [(4, 8)]:
        wanted = [(0, 3)]
    assert (None if label is None else [(s["start"], s["end"]) for s in label]) == wanted


def test_dawid_and_skene_leave_open_what_they_cannot_tell() -> None:
    # ten texts, three coders; Dawid and Skene put t5 and t8 at one half, where the majority looks certain
    votes = ["AAB", "AAA", "BBA", "BBB", "ABB", "AAB", "BBB", "ABA", "BBA", "AAA"]
    codes = np.array([["AB".index(c) for c in v] for v in votes])
    fitted = dawid_skene(codes, 2)
    assert fitted.converged
    assert fitted.posterior[:, 0] == pytest.approx([1, 1, 0, 0, 0.5, 1, 0, 0.5, 0, 1], abs=1e-3)
    assert fitted.priors == pytest.approx([0.5, 0.5], abs=1e-3)
    assert fitted.errors[0] == pytest.approx(np.array([[1, 0], [0.2, 0.8]]), abs=1e-3)
    assert fitted.loglik == pytest.approx(-17.480674, abs=1e-3)
    task = made(10, {"S": [nba.dropdown("L", options=["A", "B"])]})
    for place, name in enumerate(["w1", "w2", "w3"]):
        coded(task, name, "L", {f"t{i}": v[place] for i, v in enumerate(votes)})
    gold = nba.consensus(task, "dawid-skene")
    assert gold.task.human("L") == ["A", "A", "B", "B", None, "A", "B", None, "B", "A"]
    assert "Take it as an illustration" in gold.notes[0]


def test_an_adjudicator_answers_blind_then_hears_then_decides() -> None:
    task = made()
    three(task)
    desk = nba.adjudicate(task, "dora", agreements=1.0)
    disputed, agreed = {"t0", "t1", "t2", "t4"}, set()
    assert {key.text_id for key in desk.items} == disputed | agreed
    with pytest.raises(DeskError, match="answer text 't2' first"):
        desk.voices("t2")
    with pytest.raises(DeskError, match="answer text 't2' first"):
        desk.decide("t2", "the text")
    desk.answer("t2", "Judges", 0)
    desk.answer("t2", "Who", [])
    assert sorted(desk.voices("t2")["S_Judges"]) == [0, 1]
    assert "anna" not in str(desk.after(desk.items[0]._replace(text_id="t2")))
    desk.answer("t2", "Judges", 1)
    desk.answer("t2", "Side", "mixed")
    with pytest.raises(DeskError, match="reason must be one of"):
        desk.decide("t2")
    with pytest.raises(DeskError, match="could be 'slip of a coder' or 'slip of the model'"):
        desk.decide("t2", "slip")
    desk.decide("t2", "codebook", "is a question a judgement?")
    assert desk.done == 1
    rows = {r.column: (r.first, r.decision, r.moved, r.reason, r.by) for r in desk.frame.itertuples()}
    why = "the codebook is unclear"
    assert rows["S_Judges"] == (0, 1, True, why, "dora")
    assert rows["S_Side"] == (None, "mixed", True, why, "dora")
    assert desk.proposals == [
        "Judges: 1 decision says that the codebook is unclear; most often 0 / 1 (1). Texts: t2. "
        "is a question a judgement?"
    ]
    gold = nba.consensus(task)
    made_by = gold.frame.set_index(["text_id", "column"]).loc[("t2", "S_Judges")]
    assert (made_by.label, made_by.status, made_by.made_by) == (1, "adjudicated", "dora")
    assert gold.task.human("Side")[2] == "mixed"
    desk.close()
    again = nba.adjudicate(task, "dora", agreements=1.0)
    assert again.done == 1
    again.answer("t2", "Side", "for")  # changed after the decision: not decided any more
    assert again.done == 0
    with pytest.raises(DeskError, match="'anna' is one of the coders"):
        nba.adjudicate(task, "anna")
    assert not (Path("outputs/study/coders") / "dora.csv").exists()


def test_gold_that_changed_after_a_run_says_so() -> None:
    task = made()
    three(task)
    assert not any("Reference revised" in note for note in nba.consensus(task).notes)
    nba.run(task, model="mock")
    coded(task, "cy", "Judges", {"t2": 1})
    for _ in range(2):  # for ever
        gold = nba.consensus(task)
        assert any("Reference revised after model output" in note for note in gold.notes)
    run = nba.run(gold.task, model="mock")
    for seen in (run, run.report("Judges")):
        assert "Reference revised after model output" in " ".join(str(seen).split())


def test_gold_that_came_with_the_task_is_revised_by_other_labels_of_coders() -> None:
    task = made(2, {"S": [nba.checkbox("Judges")]}, S_Judges=["1", "0"])
    nba.run(task, model="mock")
    coded(task, "ann", "Judges", {"t0": 1, "t1": 0})
    assert not any("Reference revised" in note for note in nba.consensus(task).notes)
    coded(task, "ann", "Judges", {"t1": 1})
    Path("outputs/study/consensus.csv").unlink()
    Path("outputs/study/consensus.log.jsonl").unlink()
    assert any("Reference revised" in note for note in nba.consensus(task).notes)


def test_labels_that_the_desk_never_kept_are_told() -> None:
    task = made(3, {"S": [nba.multiselect("Topics", options=["a", "b"]), nba.span("Who")]})
    for name in ("ann", "ben"):
        coded(task, name, "Topics", {"t0": ["b", "a"], "t1": []})
        start = task.texts[0][:1]
        coded(task, name, "Who", {"t0": [{"start": 0, "end": len(start)}]})
    assert nba.agreement(task).notes == ()
    file = Path("outputs/study/coders/ann.csv")
    file.write_text(file.read_text(encoding="utf-8").replace("t1,[]", 't1,"[""a""]"'), encoding="utf-8")
    (note,) = nba.agreement(task).notes
    assert note.startswith("ann.csv has labels that the desk never kept (1 text: t1)")


def test_a_class_learns_after_each_text_and_its_first_answers_stay() -> None:
    task = made(2, {"S": [nba.checkbox("Judges", "look again")]}, S_Judges=["1", "0"])
    coded(task, "ben", "Judges", {"t0": 0, "t1": 0})
    desk = nba.code(task, coder="anna", feedback=True)
    with pytest.raises(DeskError, match="is not finished"):
        desk.feedback("t0")
    desk.answer("t0", "Judges", 0)
    [told] = desk.feedback("t0")
    assert (told["answer"], told["gold"], told["guidance"], told["class_n"], told["class_agreed"]) == (
        0, 1, "look again", 1, 1
    )  # fmt: skip
    with pytest.raises(DeskError, match="the first answer stays"):
        desk.answer("t0", "Judges", 1)
    with pytest.raises(DeskError, match="the first answer stays"):
        desk.undo()
    desk.answer("t1", "Judges", 1)
    page = nba.class_page(task)
    rows = page.students.set_index("coder")
    assert (rows.loc["ben", "like the gold"], rows.loc["anna", "like the gold"]) == (0.5, 0.0)
    assert page.hardest[["text", "labels", "gold"]].values.tolist() == [["t1", "yes (1), no (1)", "no"]]
    assert "The texts that divide the room" in str(page)
    assert rows.loc["ben", ["ci_low", "ci_high", "labels with gold"]].tolist() == [0.0, 1.0, 2]


def test_the_share_like_the_gold_has_an_interval_over_texts_not_labels() -> None:
    """Twenty texts whose three labels are right or wrong together: sixty labels are worth twenty, not sixty."""
    together = share_of_labels([(3, 3)] * 12 + [(0, 3)] * 8)
    single = share_of_labels([(1, 1)] * 12 + [(0, 1)] * 8)
    assert (together.value, together.n, single.n) == (0.6, 60, 20)
    assert (together.ci_low, together.ci_high) == (
        pytest.approx(single.ci_low),
        pytest.approx(single.ci_high),
    )
    assert together.ci_high - together.ci_low > 0.4


# ---- agreement --------------------------------------------------------------------------------------------------


def many(n_units: int = 60, n_coders: int = 5, k: int = 4) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(8)
    truth = rng.integers(0, k, n_units)
    codes = np.where(
        rng.random((n_units, n_coders)) < 0.7, truth[:, None], rng.integers(0, k, (n_units, n_coders))
    )
    return np.where(rng.random(codes.shape) < 0.25, -1, codes)


def test_matrices_of_pairs_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    codes = many()
    found, n = pair_matrices(codes, 4, [1, 2, 4, 9])
    points = np.array([1, 2, 4, 9])
    for a in range(5):
        for b in range(5):
            both = (codes[:, a] >= 0) & (codes[:, b] >= 0)
            x, y = codes[both, a], codes[both, b]
            assert n[a, b] == both.sum()
            assert found["percentage_agreement"][a, b] == pytest.approx((x == y).mean())
            assert found["cohen_kappa"][a, b] == pytest.approx(cohen_kappa_score(x, y))
            apart = ((points[x] - points[y]) ** 2).mean()
            expected = ((points[x][:, None] - points[y][None]) ** 2).mean()
            assert found["quadratic_kappa"][a, b] == pytest.approx(1 - apart / expected)
    one = np.array([[0, 0, -1], [0, 0, -1]])
    assert math.isnan(pair_matrices(one, 2)[0]["cohen_kappa"][0, 1])  # no variation
    assert math.isnan(pair_matrices(one, 2)[0]["percentage_agreement"][0, 2])  # nothing shared


def test_against_the_majority_counts_as_by_hand() -> None:
    codes = many()
    n, same = against_majority(codes, 4)
    for coder in range(5):
        decided = agreed = 0
        for row in codes:
            others = Counter(v for c, v in enumerate(row) if c != coder and v >= 0).most_common(2)
            clear = others and (len(others) == 1 or others[0][1] > others[1][1])
            if row[coder] >= 0 and clear:
                decided += 1
                agreed += row[coder] == others[0][0]
        assert (n[coder], same[coder]) == (decided, agreed)


def test_a_task_finds_its_coders_and_says_the_same_as_coders_given() -> None:
    task = made(
        40, {"S": [nba.dropdown("L", options=["a", "b", "c", "d"])]}, author=[f"w{i % 8}" for i in range(40)]
    )
    codes = many(40, 3)
    for place, name in enumerate(["w10", "w2", "zoe"]):
        coded(task, name, "L", {f"t{i}": "abcd"[c[place]] for i, c in enumerate(codes) if c[place] >= 0})
    (Path("outputs/study/coders") / "assignment.csv").write_text("text_id,coder,order,repeat\n")
    found = nba.agreement(task)
    assert found.coders == ("w2", "w10", "zoe")
    loaded = [nba.load_coder(task, f"outputs/study/coders/{name}.csv") for name in found.coders]
    given = nba.agreement(loaded, "L")
    for name, result in given.overall.items():  # a text that nobody coded is in the coders' tables only
        assert (found["L"].overall[name].value, found["L"].overall[name].n_answered) == (
            result.value,
            result.n_answered,
        )
    assert dict(found["L"].pairs) == dict(given.pairs)
    assert found["L"].frame.equals(found.frame)
    run = nba.run(task, model="mock")
    among = nba.agreement(task, runs=run).runs[run.run_id, "S_L"]
    assert 0 < among.majority.n <= 40
    assert not math.isnan(among.mean_kappa)
    clustered = nba.agreement(task, cluster="author")["L"].overall["krippendorff_alpha"]
    assert (clustered.value, clustered.n_clusters) == (found["L"].overall["krippendorff_alpha"].value, 8)
    text = str(nba.agreement(task, runs=run))
    assert "Cohen's kappa, pair by pair" in text
    assert f"run {run.run_id}" in text
    assert nba.agreement(task, coders=["w2", "zoe"]).coders == ("w2", "zoe")
    for more, words in (({"coders": ["ana"]}, "no labels of 'ana'"), ({"column": "X"}, "no field 'X'")):
        with pytest.raises(nba.NbannotError, match=words):
            nba.agreement(task, **more)


def test_tables_without_texts_or_codebook_say_the_same_in_every_shape() -> None:
    codes = many(30, 3)
    ids = [f"u{i}" for i in range(30)]
    names = ["ann", "bo", "cy"]
    cells = [["" if v < 0 else str(v) for v in codes[:, place]] for place in range(3)]
    wide = pd.DataFrame({"id": ids, **dict(zip(names, cells, strict=True))})
    long = pl.DataFrame(
        [{"unit": i, "annotator": name, "label": cell}
         for name, column in zip(names, cells, strict=True) for i, cell in zip(ids, column, strict=True) if cell]
    )  # fmt: skip
    each = {
        name: pd.DataFrame({"id": ids, "label": column}) for name, column in zip(names, cells, strict=True)
    }
    import krippendorff

    wide.to_csv("wide.csv", index=False)
    found = [
        nba.agreement(wide), nba.agreement(long, id_column="unit"), nba.agreement(each),
        nba.agreement([pl.DataFrame(frame.to_dict("list")) for frame in each.values()]),
        nba.agreement(wide.assign(note="x"), coders=names), nba.agreement("wide.csv"),
    ]  # fmt: skip
    ratings = [[np.nan if v < 0 else v for v in codes[:, place]] for place in range(3)]
    alpha = krippendorff.alpha(ratings, level_of_measurement="nominal")
    assert [a["label"].overall["krippendorff_alpha"].value for a in found] == pytest.approx([alpha] * 6)
    ordinal = nba.agreement(wide, level="ordinal")["label"]
    wanted = krippendorff.alpha(ratings, level_of_measurement="ordinal")
    assert ordinal.overall["krippendorff_alpha"].value == pytest.approx(wanted)
    assert "quadratic_kappa" in ordinal.pairs["ann", "bo"]
    book = nba.Codebook.build(
        text_column="t", sections={"S": [nba.likert("label", min_value=0, max_value=3)]}
    )
    by_book = nba.agreement(each, codebook=book)["label"]
    assert by_book.overall["krippendorff_alpha"].value == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        ({"a": ["1"], "b": ["2"]}, {}, "the table has no id column"),
        (
            {"id": ["1", "1"], "a": ["1", "2"], "b": ["1", "1"]},
            {},
            "coder 'a', row 2: the id '1' is there twice",
        ),
        ({"id": ["1"], "a": ["1"]}, {}, "a column per coder needs two"),
        (
            {"id": ["1", "1"], "coder": ["a", "a"], "x": ["1", "2"]},
            {},
            "coder 'a', row 2: text '1' was coded before",
        ),
        ({"id": ["1"], "a": ["1"], "b": ["x"]}, {"level": "ordinal"}, "level 'ordinal' needs numbers"),
        ({"id": ["1"], "a": ["1"], "b": ["x"]}, {"level": "ordnal"}, "did you mean 'ordinal'"),
        ({"id": ["1"], "coder": ["a"], "x": ["1"]}, {}, "at least two coders. Got 1"),
    ],
)
def test_tables_that_cannot_be_read_are_a_letter(
    table: dict[str, list[str]], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ScoringError, match=words):
        nba.agreement(pd.DataFrame(table), **more)


def test_a_file_that_cannot_be_read_names_coder_file_and_row() -> None:
    task = made()
    folder = Path("outputs/study/coders")
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("id,S_Judges\nt0,1\n")
    with pytest.raises(ScoringError, match=r"at least two coders\. Got 1"):
        nba.agreement(task)
    (folder / "b.csv").write_text("id,S_Judges\nt0,1\nt1,perhaps\n")
    with pytest.raises(
        ScoringError, match=r"(?s)coder 'b'.*b\.csv.*row 3, text t1, Judges: 'perhaps' must be 1 or 0"
    ):
        nba.agreement(task)
    (folder / "b.csv").write_text("id,S_Judges\nt0,1\nt0,0\n")
    with pytest.raises(ScoringError, match=r"coder 'b'.*repeated: 't0' \(rows 2, 3\)"):
        nba.agreement(task)
    (folder / "b.csv").write_text('id,S_Judges\n"t0",1\nt1,\n')
    assert nba.agreement(task)["Judges"].overall["percent_agreement"].value == 1.0
    (folder / "b.csv").write_text("id;S_Judges\n t0\u00a0;1\nzz;0\n")  # what spreadsheets do to ids
    found = nba.agreement(task)
    assert found["Judges"].overall["percent_agreement"].n_answered == 1
    assert found.notes == ("b: 1 row with ids that the task does not have: 'zz', left out.",)
    with pytest.raises(ScoringError, match="nobody coded 'other' yet"):
        nba.agreement(nba.Task(task.data, task.codebook, name="other"))


def test_many_pairs_are_not_bootstrapped_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbannot.comparing import field_agreement

    asked = []
    whole = field_agreement._pair
    monkeypatch.setattr(field_agreement, "_pair", lambda *a: asked.append(1) or whole(*a))
    codes = many(50, 20)
    wide = pd.DataFrame({"id": [f"u{i}" for i in range(50)]} | {f"c{c}": ["" if v < 0 else str(v) for v in codes[:, c]]
                                                               for c in range(20)})  # fmt: skip
    found = nba.agreement(wide)
    assert "190 pairs" in str(found)
    assert len(found.frame) == 4 + 190 * 2 + 20
    assert asked == []
    pair = found["label"].pairs["c0", "c1"]["cohen_kappa"]
    assert asked == [1]
    assert pair.value == pytest.approx(found["label"].matrices["cohen_kappa"][0, 1])
    assert pair.ci_low < pair.value < pair.ci_high


def test_that_there_was_nothing_to_write_is_read_from_the_log() -> None:
    task = made(4, {"S": [nba.checkbox("Judges"), nba.textbox("Why", condition=("Judges", 1))]})
    for name, words in (("ann", ["x", "", "", ""]), ("ben", ["x", "", "y", ""])):
        coded(task, name, "Judges", {f"t{i}": int(i < 3) for i in range(4)})
        coded(task, name, "Why", {f"t{i}": w for i, w in enumerate(words[:3])})
    found = nba.agreement(task)["Why"]
    assert (found.overall["percent_agreement"].value, found.overall["percent_agreement"].n_answered) == (
        2 / 3,
        3,
    )
    assert (
        found.pairs["ann", "ben"]["norm_levenshtein"].value == 0.5
    )  # x and x, nothing and y; nobody's is left out
    coded(task, "cy", "Judges", {"t1": 1, "t2": 1})
    coded(task, "cy", "Why", {"t2": ""})
    gold = nba.consensus(task).frame.set_index(["text_id", "column"])
    assert tuple(gold.loc[("t2", "S_Why"), ["label", "status", "n_coders", "n_agree"]]) == (
        "",
        "majority",
        3,
        2,
    )
    assert tuple(gold.loc[("t1", "S_Why"), ["label", "status"]]) == ("", "agreed")


def test_a_run_is_scored_by_the_gold_it_was_made_with_also_when_it_is_loaded() -> None:
    """The task's folder holds other labels; reading these instead changed every number of the run, silently."""
    task = nba.load_task("policy-sentiment")
    column = task.codebook["Direction"].column
    coded(task, "ann", "Direction", dict.fromkeys(task.ids[:16], "mixed"))
    coded(task, "ben", "Direction", {i: ("mixed", "negative")[k % 2] for k, i in enumerate(task.ids[:16])})
    coded(task, "cy", "Direction", {i: ("mixed", "negative")[k % 2] for k, i in enumerate(task.ids[:16])})
    gold = nba.consensus(task).task
    run = nba.run(gold, model="mock", sample=40)
    n = run.scores.fields[column].results["f1_macro"].n
    assert 0 < n < 16
    assert f"on {n} of 40 texts" in str(run)
    for _ in range(2):  # the second time it has been scored from its folder
        loaded = nba.load_run(run.folder)
        assert loaded.scores.fields[column].results == run.scores.fields[column].results
        assert [loaded.task.human(column), loaded.task.notices] == [run.task.human(column), run.task.notices]
        nba.rescore(run.folder)
    again = nba.run("policy-sentiment", model="mock", sample=40)
    assert again.run_id == run.run_id
    assert nba.load_run(run.folder).scores.fields[column].results["f1_macro"].n == 40


def test_a_revised_reference_is_told_by_runs_that_are_loaded() -> None:
    task = nba.load_task("policy-sentiment")
    nba.run(task, model="mock", sample=10)
    coded(task, "ann", "Direction", dict.fromkeys(task.ids, "mixed"))
    run = nba.run(nba.consensus(task).task, model="mock", sample=10)
    assert "Reference revised after model output" in " ".join(str(nba.load_run(run.folder)).split())
