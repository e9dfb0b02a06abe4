"""After an edit of the codebook: labelled texts asked again, and the share of stale labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import hypergeom

import nbannot as nba
from nbannot.desk.stale import exact_limits
from nbannot.errors import DeskError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def book(guidance: str = "For or against?", **more: str) -> nba.Codebook:
    questions = [
        nba.checkbox("Judges", more.get("judges", "")),
        nba.dropdown("Side", guidance, options=["for", "against"], condition=("Judges", 1)),
        nba.checkbox("Long"),
    ]
    return nba.Codebook.build(text_column="text", sections={"S": questions})


def study(codebook: nba.Codebook, n: int = 30) -> nba.Task:
    ids = [f"t{i}" for i in range(n)]
    return nba.Task(
        pd.DataFrame({"id": ids, "text": [f"the text {i} of all" for i in range(n)]}), codebook, name="study"
    )


def adjudicated(n: int = 16) -> nba.Task:
    """Return a task on which two coders differ everywhere and an adjudicator decided."""
    task = study(book(), n)
    for coder, side in (("anna", "for"), ("ben", "against")):
        desk = nba.code(task, coder=coder)
        for i in task.ids:
            desk.answer(i, "Judges", 1)
            desk.answer(i, "Side", side)
            desk.answer(i, "Long", 0)
        desk.close()
    desk = nba.adjudicate(task, "dora", agreements=0)
    for number, i in enumerate(task.ids):
        desk.answer(i, "Judges", 1)
        desk.answer(i, "Side", "for" if number % 2 else "against")
        desk.answer(i, "Long", 0)
        desk.decide(i, "the codebook")
    desk.close()
    return task


def test_the_touched_questions_are_asked_again_blind_and_the_share_has_an_interval() -> None:
    adjudicated()
    with pytest.raises(DeskError, match="no labelled question has changed"):
        nba.recheck(study(book(), 16))
    task = study(book("For the bill, or against it?"), 16)
    again = nba.recheck(task, n=12, seed=4)
    assert again.columns == ("S_Side",)
    assert again.what == ("Side: 16 adjudicated labels were given under a different wording of the question",)
    assert len(again.ids) == 12
    assert set(again.cases) == set(task.ids)
    assert nba.recheck(task, n=16).ids == again.ids  # the sample of this edit, whatever is asked for later
    with pytest.raises(DeskError, match="'eve' has answered nothing yet"):
        again.stale("eve")
    before = {path: path.read_bytes() for path in Path("outputs/study").glob("*/*.csv")}
    desk = again.code("dora")
    assert [f.name for f in desk.task.codebook] == ["Judges", "Side"]
    assert not desk.task.has_human_labels
    assert desk.labels.dropna(how="all", axis=1).shape[1] <= 1  # nothing of what was decided
    for number, i in enumerate(again.ids[:10]):
        desk.answer(i, "Judges", 0 if number == 0 else 1)
        if number:
            was = again.cases[i]["S_Side"]
            desk.answer(i, "Side", was if number > 3 else {"for": "against", "against": "for"}[was])
    desk.answer(again.ids[10], "Judges", 1)  # Side is open there: not asked yet
    desk.close()
    assert before == {path: path.read_bytes() for path in before}
    found = again.stale("dora")
    (row,) = found.frame.to_dict("records")
    assert (row["labels"], row["asked"], row["changed"], row["share"]) == (16, 10, 4, 0.4)
    assert row["low"] < 0.4 < row["high"]
    assert list(found.changed["text_id"]) == list(again.ids[:4])
    assert found.changed["now"].isna().iloc[0]
    text = str(found)
    assert "does not apply" in text
    assert "A second look moves labels too" in text


def test_a_model_is_held_against_itself_under_the_old_words() -> None:
    old, new = book(), book("Which side does the speaker take, all in all?")
    cells = {"S_Judges": ["1"] * 40, "S_Side": ["for", "against"] * 20, "S_Long": ["0"] * 40}
    task = nba.Task(study(new, 40).to_pandas().assign(**cells), new, name="study")
    with pytest.raises(DeskError, match=r"recheck\(task, before="):
        nba.recheck(task)
    again = nba.recheck(task, before=old)
    assert again.columns == ("S_Side",)
    assert "another guidance" in again.what[0]
    found = again.ask("mock")
    both = [
        nba.run(nba.Task(study(one, 40).to_pandas(), one, name="x"), model="mock", fields=["Judges", "Side"])
        for one in (old, new)
    ]
    sides = [one.coding.values("S_Side") for one in both]
    expected = [a != b for a, b in zip(*sides, strict=True) if a is not None]
    (field,) = found.fields
    assert (field.asked, field.changed) == (len(expected), sum(expected))
    assert "the model's own answer moved" in str(found)


@pytest.mark.parametrize(("n", "of", "stale"), [(60, 300, 6), (60, 300, 150), (19, 20, 1), (40, 45, 9)])
def test_the_interval_covers_whatever_the_truth(n: int, of: int, stale: int) -> None:
    chances = {k: hypergeom.pmf(k, of, stale, n) for k in range(n + 1) if hypergeom.pmf(k, of, stale, n) > 0}
    limits = {k: exact_limits(k, n, of) for k in chances}
    assert sum(p for k, p in chances.items() if limits[k][0] <= stale / of <= limits[k][1]) >= 0.95
