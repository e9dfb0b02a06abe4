"""Reliability: published and independent values, and what counts as a text on which coders agree."""

from __future__ import annotations

import contextlib
import json
import math
import re

import krippendorff
import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import codebook_of
from made_runs import answer, made_run, made_task

import nbannot
from nbannot.comparing.coder import load_coder
from nbannot.comparing.reliability import agreement
from nbannot.errors import ScoringError

STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti", "neutral"]}
DEGREE = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
QUOTE = {"name": "Quote", "type": "textbox"}
MARKS = {"name": "Marks", "type": "span", "label_options": ["actor", "claim"]}
FAST = {"n_resamples": 300}

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units
KRIPPENDORFF_2011 = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def people(task, column, table):
    """Return one coder per row of the table; ``None`` for not coded."""
    names = ("Ada", "Bo", "Cy", "Di", "Ed")
    return [
        load_coder(
            task,
            pl.DataFrame({"id": task.ids, column: ["" if v is None else str(v) for v in row]}),
            name,
        )
        for name, row in zip(names, table, strict=False)
    ]


def test_krippendorffs_example_is_ordinal_for_a_scale():
    task = made_task([f"t{i}" for i in range(12)], DEGREE)
    found = agreement(people(task, "S_Degree", KRIPPENDORFF_2011), **FAST)
    alpha = found.overall["krippendorff_alpha"]
    assert alpha.value == pytest.approx(0.815, abs=5e-4)  # published
    assert (alpha.n, alpha.n_answered, alpha.ci_method) == (12, 11, "jackknife t")
    assert alpha.ci_low < alpha.value <= alpha.ci_high
    assert found.notes == (
        "alpha ordinal; 11 of 12 texts have two coders or more, 3.4 coders per text; intervals resample texts",
    )
    assert repr(found) == "<Agreement of 4 coders in S_Degree: alpha 0.82>"
    page = str(found)
    assert page.startswith("Agreement (Degree, 4 coders)\n")
    assert "Alpha 0.82 reaches 0.67, but its interval goes below" in page
    assert "quadratic kappa, pair by pair" in page
    assert found._repr_mimebundle_()["text/html"].count("<table") == 5, (
        "four tables, and the scale in the first"
    )
    table = found.to_latex(label="tab:coders")
    assert r"\caption{Agreement of 4 coders: Degree}" in table
    assert re.search(r"^Degree & 0\.82 & \[.*\] & 0\.\d\d & 0\.\d\d & 4 & 11 \\\\$", table, re.MULTILINE), (
        table
    )


def test_labels_are_nominal_and_pairs_are_those_of_scikit_learn():
    import krippendorff
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(4)
    options = STANCE["options"]
    truth = rng.choice(options, 60)
    table = [
        [
            None if rng.random() < 0.2 else str(v)
            for v in np.where(rng.random(60) < 0.7, truth, rng.choice(options, 60))
        ]
        for _ in range(3)
    ]
    task = made_task([f"t{i}" for i in range(60)], STANCE)
    coders = people(task, "S_Stance", table)
    found = agreement(coders, "Stance", **FAST)
    codes = [[np.nan if v is None else options.index(v) for v in row] for row in table]
    assert found.overall["krippendorff_alpha"].value == pytest.approx(
        krippendorff.alpha(codes, level_of_measurement="nominal")
    )
    for (a, b), measures in found.pairs.items():
        one, two = (table[("Ada", "Bo", "Cy").index(name)] for name in (a, b))
        both = [(x, y) for x, y in zip(one, two, strict=True) if x is not None and y is not None]
        assert measures["cohen_kappa"].value == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))
        assert measures["percentage_agreement"].value == pytest.approx(np.mean([x == y for x, y in both]))
        assert measures["percentage_agreement"].ci_method == "Wilson"
        assert measures["cohen_kappa"].n == len(both)
    kappas = [m["cohen_kappa"].value for m in found.pairs.values()]
    assert found.mean("cohen_kappa") == pytest.approx(np.mean(kappas))
    turned = agreement(coders[::-1], "Stance", **FAST)
    assert turned.overall["krippendorff_alpha"].value == pytest.approx(
        found.overall["krippendorff_alpha"].value
    )


def test_each_coder_against_the_majority_of_the_others_with_ties_left_out():
    """Di against Ada, Bo, Cy: 2 of 3 on t0, t1; on t2 all three differ, on t3 one of two is blank, on t4 two tie."""
    table = [
        ["pro", "anti", "pro", "pro", "pro"],
        ["pro", "anti", "anti", None, "anti"],
        ["anti", "pro", "neutral", None, None],
        ["pro", "pro", "pro", "pro", "pro"],
    ]
    task = made_task([f"t{i}" for i in range(5)], STANCE)
    found = agreement(people(task, "S_Stance", table), **FAST)
    # majority: t0 pro (right), t1 anti (wrong), t2 tie, t3 pro (right), t4 tie
    assert (found.majority["Di"].value, found.majority["Di"].n) == (pytest.approx(2 / 3), 3)
    assert agreement(people(task, "S_Stance", table[:2]), **FAST).majority == {}


def test_the_frame_names_everything():
    task = made_task([f"t{i}" for i in range(12)], DEGREE)
    frame = agreement(people(task, "S_Degree", KRIPPENDORFF_2011), **FAST).frame
    assert frame["measure"].value_counts().to_dict() == {
        **dict.fromkeys(("krippendorff_alpha", "percent_agreement", "gwet_ac1", "fleiss_kappa"), 1),
        "krippendorff_alpha_interval": 1,
        **dict.fromkeys(("quadratic_kappa", "cohen_kappa", "percentage_agreement", "scott_pi"), 6),
        "agreement_with_majority": 4,
    }
    first = frame.iloc[0]
    assert first[["column", "coder_a", "coder_b", "measure", "n"]].tolist() == [
        "S_Degree", "all", "all", "krippendorff_alpha", 11
    ]  # fmt: skip
    pair = frame[(frame.coder_a == "Ada") & (frame.coder_b == "Cy") & (frame.measure == "cohen_kappa")]
    assert pair["n"].tolist() == [8]
    assert frame.to_polars().height == len(frame)


def test_runs_and_people_together(tmp_path):
    """What a run could not answer is no rating; human labels of the task play no part."""
    task = made_task([f"t{i}" for i in range(4)], STANCE, Stance=["neutral"] * 4)
    refused = answer("S_Stance", None, "refused")
    run = made_run(
        task, {"Stance": ["pro", "anti", "anti", refused]}, tmp_path, run_id="a1b2c3d4", model_id="m"
    )
    ada = people(task, "S_Stance", [["pro", "anti", "pro", "pro"]])
    pair = agreement([run, *ada], **FAST).pairs["a1b2c3d4", "Ada"]
    assert (pair["percentage_agreement"].value, pair["percentage_agreement"].n) == (pytest.approx(2 / 3), 3)


def test_spans_agree_pairwise_and_on_whether_there_are_any():
    task = made_task(["The council decided.", "Nothing.", "People object.", "Nobody."], MARKS)

    def cells(*spans):
        found = []
        for text, side in zip(task.texts, spans, strict=True):
            rows = [{"start": a, "end": b, "text": text[a:b], "label": label} for a, b, label in side]
            found.append(json.dumps(rows))
        return found

    table = [
        cells([(4, 11, "actor")], [], [(0, 6, "actor")], []),
        cells([(0, 11, "actor")], [], [], []),
        cells([(4, 11, "claim")], [], [(0, 6, "actor")], []),
    ]
    found = agreement(people(task, "S_Marks", table), **FAST)
    # Ada: council, People; Bo: The council; shared 1 of 2 + 2
    assert found.pairs["Ada", "Bo"]["token_f1"].value == pytest.approx(2 / 4)
    assert found.pairs["Ada", "Cy"]["token_f1"].value == pytest.approx(2 / 4)
    assert found.pairs["Bo", "Cy"]["token_f1"].value == 0
    assert found.mean("token_f1") == pytest.approx(1 / 3)
    # Whether there is any: 111, 000, 101, 000; observed 1/3 of 4 texts disagree on 2 of 3 pairs
    # coincidences: ones 5, zeros 7, unlike pairs 2; alpha = 1 - 11 x 2 / (2 x 5 x 7) = 1 - 22/70
    assert found.overall["krippendorff_alpha"].value == pytest.approx(1 - 22 / 70)
    assert found.notes[0].startswith("alpha of whether there is any; 4 of 4 texts")


def test_written_answers_agree_by_similarity():
    task = made_task(["a", "b"], QUOTE)
    found = agreement(people(task, "S_Quote", [["kitten", "same"], ["sitting", "same"]]), **FAST)
    assert found.pairs["Ada", "Bo"]["norm_levenshtein"].value == pytest.approx((4 / 7 + 1) / 2)
    assert math.isnan(found.overall["krippendorff_alpha"].value)
    for name in (
        "krippendorff_alpha",
        "percent_agreement",
        "gwet_ac1",
    ):  # nobody could have been counted otherwise
        assert math.isnan(found.overall[name].value)
        assert "a blank counts as not coded" in found.overall[name].reason


def test_a_low_alpha_is_said_and_the_paradox_too():
    task = made_task([f"t{i}" for i in range(50)], STANCE)
    table = [["pro"] * 49 + ["anti"], ["anti"] + ["pro"] * 49]
    notes = agreement(people(task, "S_Stance", table), **FAST).notes
    assert notes[1].startswith("Alpha is below 0.67: the coders disagree")
    assert notes[2] == "Most labels are the same: alpha is low although agreement is high."


def test_nine_texts_and_one_label_make_no_verdict(tmp_path, monkeypatch):
    """Coders of three texts were said to disagree, those who agree on all to have a low alpha."""
    monkeypatch.chdir(tmp_path)
    for n, said in ((9, "Alpha 0.79 of 9 texts with two coders or more: too few to tell how far they agree"),
                    (10, "Alpha 0.81 reaches 0.67, but its interval goes below")):  # fmt: skip
        task = made_task([f"t{i}" for i in range(n)], STANCE)
        first = ["pro", "anti"] * 5
        found = agreement(people(task, "S_Stance", [first[:n], ["anti", *first[1:n]]]), **FAST)
        assert str(found).splitlines()[2] == said
        assert not any("Alpha is below" in note for note in found.notes)
    task = made_task([f"t{i}" for i in range(12)], STANCE, {**STANCE, "name": "Side"})
    book = [f.column for f in task.codebook]
    rows = {"S_Stance": ["pro"] * 12, "S_Side": ["pro", "anti"] * 6}
    for who in ("ada", "bo"):
        desk = nbannot.code(task, coder=who)
        for i, text_id in enumerate(task.ids):
            for column in book:
                desk.answer(text_id, column, rows[column][i])
    assert str(nbannot.agreement(task)).splitlines()[2] == (
        "1 of 1 field with an alpha of 0.67 or more, none with the whole interval (1 more without an alpha)"
    )


def test_clusters_widen_the_interval():
    task = made_task([f"t{i}" for i in range(60)], STANCE)
    data = task.data.with_columns(pl.Series("author", [f"a{i // 10}" for i in range(60)]))
    clustered = type(task)(data, task.codebook, "demo")
    ada = ["pro", "anti"] * 30
    bo = [v if i < 30 else "neutral" for i, v in enumerate(ada)]
    coders = people(clustered, "S_Stance", [ada, bo])
    alone, together = (agreement(coders, cluster=c, n_resamples=1000) for c in (None, "author"))
    wide, narrow = (
        found.overall["krippendorff_alpha"].ci_high - found.overall["krippendorff_alpha"].ci_low
        for found in (together, alone)
    )
    assert wide > narrow
    assert "only 6 clusters" in together.pairs["Ada", "Bo"]["cohen_kappa"].reason


def test_coders_without_a_text_in_common_and_what_is_refused():
    task = made_task(["a", "b"], STANCE, DEGREE)
    ada, bo = people(task, "S_Stance", [["pro", None], [None, "anti"]])
    pair = agreement([ada, bo], "Stance", **FAST).pairs["Ada", "Bo"]
    assert pair["cohen_kappa"].reason == "no text in common"
    both = load_coder(task, pl.DataFrame({"id": ["t0"], "S_Stance": ["pro"], "S_Degree": ["1"]}), "Cy")
    again = load_coder(task, pl.DataFrame({"id": ["t0"], "S_Stance": ["pro"], "S_Degree": ["1"]}), "Di")
    other = made_task(["x", "b"], STANCE, DEGREE)
    stranger = load_coder(other, pl.DataFrame({"id": ["t0"], "S_Stance": ["pro"]}), "Ed")
    for coders, column, words in (
        ([ada], None, "agreement needs at least two coders. Got 1: Ada."),
        ([ada, ada], None, "a run is given more than once: Ada."),
        ([both, again], None, 'name one field, e.g. column="Stance".\n  All coded: S_Stance, S_Degree.'),
        ([ada, both], "Degree", "not every coder coded S_Degree.\n  All coded: S_Stance."),
        ([ada, stranger], "Stance", "coders have different texts under the id 't0'."),
    ):
        with pytest.raises(ScoringError) as error:
            agreement(coders, column, **FAST)
        assert str(error.value).startswith(words)


def test_numbers_in_a_file_of_coders_are_the_same_with_and_without_decimals(tmp_path):
    table = pd.DataFrame({"id": range(6), "anna": [1, 0, 1, 1, 0, 1], "ben": [1, 0, 1, 0, 0, None]})
    table.to_csv(tmp_path / "coders.csv", index=False)  # pandas writes ben's labels as 1.0
    table.to_excel(tmp_path / "coders.xlsx", index=False)
    expected = krippendorff.alpha(table[["anna", "ben"]].T.to_numpy(float), level_of_measurement="nominal")
    for source in (table, tmp_path / "coders.csv", tmp_path / "coders.xlsx"):
        [found] = nbannot.agreement(source, n_resamples=50).fields.values()
        assert found.overall["krippendorff_alpha"].value == pytest.approx(expected)
    with pytest.raises(ScoringError, match="the table has no rows"):
        nbannot.agreement(table.iloc[:0])


def test_that_coders_found_something_is_not_told_as_agreement_on_what(tmp_path):
    field = {"name": "Quote", "type": "span"}
    texts = ["a quick brown fox", "over the lazy dog"] * 4
    task = nbannot.Task(pd.DataFrame({"id": range(8), "text": texts}), codebook_of(field), id_column="id")
    marks = {"anna": (0, 7), "ben": (2, 13)}
    for coder, (start, end) in marks.items():
        with contextlib.closing(nbannot.code(task, coder, output_root=tmp_path)) as desk:
            for key in desk.items:
                desk.answer(key.text_id, "Quote", [{"start": start, "end": end}])
    found = nbannot.agreement(task, output_root=tmp_path, n_resamples=50)
    assert "Quote, any passage" in str(found)
    assert "mean token F1 of pairs 0." in found.to_latex()
    assert "Quote, any passage" in found.to_latex()
    assert found.summary["of"].tolist() == ["any passage"]
    overall = found.frame[found.frame["coder_a"] == "all"]
    assert all(name.startswith("presence_") for name in overall["measure"])


def test_columns_of_a_wide_table_that_are_no_coders_are_asked_about():
    wide = pd.DataFrame(
        {"id": range(6), "text": list("abcdef"), "ann": ["pro", "anti"] * 3, "bob": ["pro"] * 6}
    )
    with pytest.raises(ScoringError, match=r"'text' stands in no other column.*\n.*coders=\['ann', 'bob'\]"):
        agreement(wide)
    assert agreement(wide.drop(columns="text")).coders == ("ann", "bob")
    slip = wide.drop(columns="text").replace({"bob": {"pro": "Pro "}})
    (note,) = agreement(slip, coders=["ann", "bob"]).notes
    assert note.startswith("label: 'Pro', 'pro' count as different labels")


def test_tables_without_a_field_of_the_codebook_are_refused():
    wide = pd.DataFrame({"id": range(4), "ann": [1, 2, 3, 3], "bob": [1, 2, 2, 3]})
    scale = nbannot.likert("Force", min_value=1, max_value=3)
    one = nbannot.Codebook.build(text_column="text", sections={"S": [scale]})
    two = nbannot.Codebook.build(text_column="text", sections={"S": [scale, nbannot.checkbox("Judges")]})
    assert agreement(wide, coders=["ann", "bob"], codebook=one)["Force"].coders == ("ann", "bob")
    with pytest.raises(ScoringError, match="one of Force, Judges"):
        agreement(wide, coders=["ann", "bob"], codebook=two)
    long = wide.melt("id", var_name="coder", value_name="Farce")
    with pytest.raises(ScoringError, match="Their columns: Farce; its fields: Force, Judges"):
        agreement(long, coder="coder", codebook=two)
    with pytest.raises(ScoringError, match="'x' of coder 'ann', text 0"):
        agreement(wide.astype(object).replace({"ann": {1: "x"}}), coders=["ann", "bob"], level="ordinal")


def test_a_table_may_call_its_columns_as_the_questions_are_called(tmp_path):
    codebook = codebook_of(STANCE, DEGREE, {**STANCE, "name": "source"}, metadata_columns=["source"])
    codebook.save(tmp_path / "codebook.json")
    rows = [f"{i},Text {i}.,press,{'pro' if i % 2 else 'anti'},{i % 5 + 1}" for i in range(12)]
    table = "\n".join(["id,text,source,Stance,Degree", *rows]) + "\n"
    for name in ("ground-truth.csv", "coders/anna.csv", "coders/ben.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(table, "utf-8")
    task = nbannot.load_task(tmp_path / "ground-truth.csv", codebook=codebook)
    assert task.label_columns == ["S_Stance", "S_Degree"], "source is metadata, whatever a field is called"
    frame = pd.read_csv(tmp_path / "coders/anna.csv", dtype="string")
    for labels in (tmp_path / "coders/anna.csv", frame, pl.read_csv(tmp_path / "coders/anna.csv")):
        coder = load_coder(task, labels, "anna")
        assert {column: coder.coding.count(column) for column in ("S_Stance", "S_Degree")} == {
            "S_Stance": {"ok": 12},
            "S_Degree": {"ok": 12},
        }
    folder = nbannot.load_task(tmp_path)
    assert agreement(folder, **FAST)["Stance"].overall["krippendorff_alpha"].value == 1
    # A full name goes before a plain one, and a name that two sections have means neither.
    both = load_coder(task, frame.assign(S_Stance="neutral"), "cy")
    assert {answer.value for answer in both.coding.answers["S_Stance"]} == {"neutral"}
    sections = {section: [nbannot.dropdown("Tone", options=["up", "down"])] for section in ("A", "B")}
    twice = nbannot.Codebook.build(text_column="text", sections=sections)
    assert twice.plainly_named(["Tone", "text"]) == {}
    assert twice.plainly_named(["A_Tone", "Tone"]) == {}


def test_a_standard_error_that_the_resamples_cannot_tell_is_blank_and_not_zero():
    task = made_task([f"t{i}" for i in range(40)], STANCE)
    found = agreement(people(task, "S_Stance", [["pro", "anti"] * 20] * 2), **FAST)
    table = found.frame
    assert found.frame() is table, "scripts from before call it"
    assert len(table[table == table]) == len(table), "pandas calls what can be called"
    assert table["value"].to_list() == [1.0] * len(table)
    assert all(math.isnan(se) for se in table["se"])
    with pytest.raises(ScoringError, match="nothing is coded in it yet"):
        load_coder(task, pl.DataFrame({"id": [], "S_Stance": []}), "Cy")
