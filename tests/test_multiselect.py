"""A question to which any number of options may apply: from the codebook to scores, several coders and back."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

import nbannot as nba
from nbannot import displays
from nbannot.asking.answers import read_reply
from nbannot.asking.decisions import Reading, read_decisions, typed_questions
from nbannot.asking.prompts import core_prompt, reply_schema
from nbannot.asking.request_reply import Decision, Reply
from nbannot.errors import CodebookError, DeskError, ScoringError, TaskError
from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.resample import wilson
from nbannot.measures.set_distances import masi_distance

OPTIONS = ["economy", "health", "migration", "war"]
EXAMPLES = [("Taxes rise and clinics close.", ["health", "economy"]), ("Good morning.", [])]


def book(**more: Any) -> nba.Codebook:
    questions = [
        nba.multiselect("Topics", "What is it about?", options=dict.fromkeys(OPTIONS, ""), examples=EXAMPLES, **more),
        nba.likert("Weight", min_value=1, max_value=3, condition=("Topics", "economy")),
    ]  # fmt: skip
    return nba.Codebook.build(text_column="text", sections={"S": questions})


def task_of(cells: list[str], name: str = "topics", **more: Any) -> nba.Task:
    ids = [f"t{i}" for i in range(len(cells))]
    texts = [f"The text {i} on {OPTIONS[i % 4]}." for i in range(len(cells))]
    return nba.Task(pd.DataFrame({"id": ids, "text": texts, "S_Topics": cells}), book(), name=name, **more)


def sets_of(n: int, seed: int, share: float = 0.35) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    return [[option for option in OPTIONS if draw.random() < share] for _ in range(n)]


# ---- the codebook and its cells ---------------------------------------------------------------------------------


def test_a_codebook_with_several_options_is_kept_read_and_told(tmp_path: Path) -> None:
    codebook = nba.Codebook.load(book().save(tmp_path))
    topics, weight = codebook
    assert (topics.type, topics.labels, topics.level) == ("multiselect", tuple(OPTIONS), "set")
    assert [e.response for e in topics.examples] == [["economy", "health"], []]
    assert weight.condition is not None
    assert (weight.condition.column, weight.condition.value) == ("S_Topics", "economy")
    assert "all that apply of" in codebook.to_markdown()
    table = pd.DataFrame({"name": ["Topics", "Weight"], "type": ["multiselect", "likert"], "options": ["a|b", ""],
                          "min": ["", "1"], "max": ["", "3"], "condition": ["", "Topics = b"]})  # fmt: skip
    assert nba.Codebook.from_table(table)["Weight"].condition.value == "b"
    questions = [
        nba.multiselect("None", options=[]),
        nba.multiselect("Topics", options=OPTIONS),
        nba.checkbox("C", condition=("Topics", "sport")),
    ]
    with pytest.raises(
        CodebookError, match=r"(?s)a multiselect needs options.*cannot take that value \(economy"
    ):
        nba.Codebook.build(text_column="text", sections={"S": questions})


def test_cells_conditions_and_blanks() -> None:
    task = task_of(['["health", "economy"]', "[]", "", "war", '["war", "war"]', '["health"]'])
    assert task.human("Topics") == [["economy", "health"], [], None, ["war"], ["war"], ["health"]]
    assert task.human_applies("Weight") == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]  # not coded: nobody says no
    with pytest.raises(TaskError, match=r"holds 'sport', and must be one of economy") as refused:
        task_of(['["sport"]', "economy; war", '{"economy": 1}'])
    assert 'must be a JSON list of the options that apply, such as ["economy", "health"]' in str(
        refused.value
    )
    told = task_of(['["war"]', ""])
    assert any("no text is coded as having none of the options" in notice for notice in told.notices)
    assert task_of(['["war"]', ""], blank_means_no=True).human("Topics") == [["war"], []]


# ---- asking and reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value", "repaired"),
    [
        ('["war", "economy"]', ["economy", "war"], False),
        ("[]", [], False),
        ('["War ", "war", "health"]', ["health", "war"], True),
        ('"war"', ["war"], True),
        ('["war", "sport"]', None, False),
        ("null", None, False),
        ('"war, health"', None, False),
        ('["…", "…"]', None, False),
        ('{"war": true}', None, False),
        ("[[]]", None, False),
    ],
)
def test_nothing_is_invented_from_a_reply(raw: str, value: list[str] | None, repaired: bool) -> None:
    topics = book()["Topics"]
    answer = read_reply([topics], "text", Reply(text=f'{{"response": {raw}}}'))["S_Topics"]
    assert (answer.value, answer.repaired) == (value, repaired)
    assert answer.status == ("invalid" if value is None else "ok")
    if answer.value:
        answer.value.append("added")  # the same reply to the next text is not touched by it
    again = read_reply([topics], "text", Reply(text=f'{{"response": {raw}}}'))["S_Topics"]
    assert (again.value, again.reason) == (value, answer.reason)


def test_it_is_asked_by_schema_and_in_words() -> None:
    topics = book()["Topics"]
    schema = reply_schema([topics], reasons=False)["properties"]["response"]
    assert schema == {"type": "array", "items": {"type": "string", "enum": OPTIONS}, "maxItems": 4}
    prompt = core_prompt([topics], use_examples=True, reasons=False)
    assert (
        'a list of all that apply of "economy", "health", "migration", "war"; an empty list if none' in prompt
    )
    assert '{"response": ["…", …]}' in prompt
    assert '{"response": ["economy", "health"]}' in prompt


def test_a_decision_model_is_asked_for_each_option() -> None:
    topics = book()["Topics"]
    asked = typed_questions([topics])
    assert [(q.kind, q.name) for q in asked] == [("noul", f"Topics: {option}") for option in OPTIONS]
    made = {q.column: Decision((1 - p, p)) for q, p in zip(asked, (0.9, 0.2, 0.5, 0.4), strict=True)}
    assert read_decisions([topics], made, Reading())["S_Topics"].value == ["economy", "migration"]
    assert read_decisions([topics], made, Reading(threshold=0.95))["S_Topics"].value == []
    del made[asked[3].column]
    answer = read_decisions([topics], made, Reading())["S_Topics"]
    assert (answer.status, answer.reason) == ("invalid", "no probability: for 'war'")


# ---- scores -----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_scikit_learn_and_of_the_formulas() -> None:
    human, model = sets_of(80, 1), sets_of(80, 2)
    score = score_field(FieldData("multiselect", tuple(OPTIONS), human, model), n_resamples=200)
    h, m = (np.array([[option in row for option in OPTIONS] for row in side], int) for side in (human, model))
    values = {name: result.value for name, result in score.results.items()}
    options = {"zero_division": 0}
    union = (h | m).sum(1)
    assert values == pytest.approx(values | {
        "f1_macro": sk.f1_score(h, m, average="macro", **options),
        "f1_micro": sk.f1_score(h, m, average="micro", **options),
        "precision_macro": sk.precision_score(h, m, average="macro", **options),
        "recall_micro": sk.recall_score(h, m, average="micro", **options),
        "jaccard": np.where(union > 0, (h & m).sum(1) / np.maximum(union, 1), 1).mean(),
        "percentage_agreement": sk.accuracy_score(h, m),
        "hamming_loss": sk.hamming_loss(h, m),
        "baseline_f1_macro": sk.f1_score(h, np.ones_like(h), average="macro"),
        "both_empty_share": (union == 0).mean(),
    })  # fmt: skip
    ratings = [frozenset(row) for side in (human, model) for row in side]
    observed = np.mean([masi_distance(frozenset(a), frozenset(b)) for a, b in zip(human, model, strict=True)])
    pairs = [masi_distance(ratings[i], ratings[j]) for i, j in product(range(160), repeat=2) if i != j]
    assert values["krippendorff_alpha"] == pytest.approx(1 - observed / np.mean(pairs))
    assert all(result.ci_low <= result.value <= result.ci_high for result in score.results.values())
    f1 = sk.f1_score(h, m, average=None)
    assert [row["f1"] for row in score.per_class] == pytest.approx(list(f1))
    assert [row["support"] for row in score.per_class] == h.sum(0).tolist()


def test_a_multiselect_has_the_names_of_the_contract_and_wilson_limits_per_option() -> None:
    human: list[Any] = [["war"], ["war"], ["health"], [], ["war", "health"]]
    score = score_field(
        FieldData("multiselect", tuple(OPTIONS), human, [*human[:4], ["war"]]), n_resamples=50
    )
    contract = ("f1_macro f1_micro precision_macro recall_macro percentage_agreement jaccard hamming_loss "
                "krippendorff_alpha coverage invalid_rate")  # fmt: skip
    assert set(contract.split()) <= set(score.results)
    assert score.results["krippendorff_alpha"].ci_method == "jackknife t"
    assert score.results["percentage_agreement"].value == score.extra["accuracy_answered"].value == 0.8
    war, health = ({r["label"]: r for r in score.per_class}[name] for name in ("war", "health"))
    assert (war["precision_ci_low"], war["precision_ci_high"]) == pytest.approx(wilson(3, 3))
    assert (health["recall_ci_low"], health["recall_ci_high"]) == pytest.approx(wilson(1, 2))


def test_silence_costs_where_people_chose_nothing_too() -> None:
    human: list[Any] = [["war"], [], [], ["war", "health"]]
    score = score_field(
        FieldData("multiselect", tuple(OPTIONS), human, [["war"], None, [], None]), n_resamples=50
    )
    values = {name: result.value for name, result in score.results.items()}
    assert (values["coverage"], values["percentage_agreement"], values["jaccard"]) == (0.5, 0.5, 0.5)
    assert values["hamming_loss"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert values["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)  # health was missed; the others nobody chose
    assert score.results["f1_macro"].labels_used == ("health", "war")
    empty = score_field(FieldData("multiselect", tuple(OPTIONS), [[], []], [[], []]), n_resamples=50).results
    assert (empty["percentage_agreement"].value, empty["both_empty_share"].value) == (1.0, 1.0)
    assert math.isnan(empty["f1_macro"].value)
    assert empty["f1_macro"].reason == "people chose no option in any text"
    assert empty["krippendorff_alpha"].reason == "no variation"


def test_a_run_from_asking_to_report_and_back(tmp_path: Path) -> None:
    people = sets_of(40, 3)
    task = task_of([json.dumps(row) if i % 8 else "" for i, row in enumerate(people)])
    run = nba.run(task, model="mock/?wrong=0.2", retries=0, output_root=tmp_path)
    invalid = [a for a in run.coding.answers["S_Topics"] if a.status == "invalid"]
    assert invalid
    assert all(a.reason.startswith('not an option: "none of the options"') for a in invalid)
    again = nba.load_run(run.folder)
    assert again.coding.values("S_Topics") == run.coding.values("S_Topics")
    written = pd.read_csv(run.folder / "output.csv", dtype=str, keep_default_na=False)
    expected = [json.dumps(v) if v is not None else "" for v in run.coding.values("S_Topics")]
    assert list(written["S_Topics"]) == expected
    asked = [a.status != "not_applicable" for a in run.coding.answers["S_Weight"] if a.status != "not_asked"]
    assert asked == ["economy" in v for v in run.coding.values("S_Topics") if v is not None]
    other = nba.run(task, model="mock/b", output_root=tmp_path)
    compared = nba.compare([run, other], metric=["f1_macro", "jaccard"], column="Topics", n_resamples=200)
    assert "exactly the options that people did not choose" in str(compared)
    assert "MASI" in str(nba.agreement([run, other], "Topics"))
    shown = [run.report(), run, displays.label_distribution(run, "Topics"), displays.disagreements(run),
             displays.codebook_card(task.codebook), displays.task_card(task)]  # fmt: skip
    assert all("war" in str(one) for one in shown)
    share = nba.prevalence(run, "Topics: war").frame.set_index("label").loc["yes"]
    model, coded = (
        ["war" in v for v in side if v is not None]
        for side in (run.coding.values("S_Topics"), task.human("S_Topics"))
    )
    assert (share["naive"], share["gold_only"]) == pytest.approx((sum(model) / 40, np.mean(coded)))
    assert "Prevalence of Topics: war" in str(nba.prevalence(run, "S_Topics: war"))
    assert set(nba.prevalence(run, "Topics").frame["label"]) == {"none", "any"}
    with pytest.raises(ScoringError, match="is a multiselect, which has several labels"):
        nba.regress("Topics ~ id", run)
    learned = nba.run(task, model="baseline/tfidf-lr", fields=["S_Topics"], output_root=tmp_path)
    assert learned.coding.count("S_Topics")["ok"] == 40
    assert {type(v) for v in learned.coding.values("S_Topics")} == {list}


# ---- several people ---------------------------------------------------------------------------------------------


def test_people_code_agree_and_come_to_one_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = task_of([""] * 5)
    given = {
        "anna": [["war"], [], ["economy", "war"], ["war"], ["health"]],
        "ben": [["war"], [], ["economy"], ["health"], ["health", "war"]],
        "cleo": [["war"], [], ["economy", "health"], ["economy"], ["war", "health"]],
    }
    for coder, values in given.items():
        desk = nba.code(task, coder=coder)
        for text_id, value in zip(task.ids, values, strict=True):
            desk.answer(text_id, "Topics", value)
            if "economy" in value:
                desk.answer(text_id, "Weight", 2)
        with pytest.raises(DeskError, match="holds 'sport'"):
            desk.answer("t0", "Topics", ["sport"])
        with pytest.raises(DeskError, match="takes a list of its options"):
            desk.answer("t0", "Topics", "war")
        desk.close()
    desk = nba.code(task, coder="cleo")  # from the log, as it was
    assert desk.done == 5
    assert list(desk.labels["S_Topics"]) == [
        ["war"],
        [],
        ["economy", "health"],
        ["economy"],
        ["health", "war"],
    ]
    agreed = nba.agreement(task).fields["S_Topics"]
    units = [[frozenset(values[i]) for values in given.values()] for i in range(5)]
    every = [one for unit in units for one in unit]
    within = np.mean(
        [
            masi_distance(a, b)
            for unit in units
            for i, a in enumerate(unit)
            for j, b in enumerate(unit)
            if i != j
        ]
    )
    between = np.mean([masi_distance(every[i], every[j]) for i, j in product(range(15), repeat=2) if i != j])
    assert agreed.overall["krippendorff_alpha"].value == pytest.approx(1 - within / between)
    assert agreed.pairs["anna", "ben"]["percentage_agreement"].value == pytest.approx(0.4)
    found = nba.consensus(task, rule="dawid-skene")
    made = found.made["S_Topics"]
    assert [made[i].label for i in task.ids] == [["war"], [], ["economy"], None, ["health", "war"]]
    assert [made[i].status for i in task.ids] == ["agreed", "agreed", "majority", "tie", "majority"]
    assert any("Dawid-Skene is for one label per text" in note for note in found.notes)
    assert found.task.human("Topics")[4] == ["health", "war"]
    gold = task_of([json.dumps(v) for v in given["anna"]])
    page = nba.class_page(gold)
    assert page.students.set_index("coder")["like the gold"].to_dict() == {
        "anna": 1.0,
        "ben": 0.4,
        "cleo": 0.4,
    }
    assert "war (1), health (1), economy (1)" in set(page.hardest["labels"])
    pair = nba.consensus(task, coders=["anna", "ben"]).made["S_Topics"]
    assert [pair[i].label for i in task.ids] == [["war"], [], None, None, None]  # half is no majority
