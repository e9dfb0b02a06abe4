"""Texts drawn with known, unequal probabilities: every number counts each by the inverse of its own."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from conftest import codebook_of

import nbannot as nba
from nbannot import displays
from nbannot.doors.cli import main
from nbannot.errors import TaskError
from nbannot.report import headline
from nbannot.study.sampling_weights import Weighting

STANCE = {"name": "Stance", "type": "dropdown", "options": ["pro", "anti", "neutral"]}
DEGREE = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
N = 240


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def truth():
    rng = np.random.default_rng(4)
    return rng.choice(STANCE["options"], N, p=[0.6, 0.3, 0.1]).tolist(), rng.integers(1, 6, N).tolist()


def frame(coded=None, **columns):
    stance, degree = truth()
    kept = set(range(N) if coded is None else coded)
    return pl.DataFrame(
        {
            "id": [f"t{i:03d}" for i in range(N)],
            "text": [f"Speech {i} on the road." for i in range(N)],
            "party": [("left", "right", "small")[min(i % 8, 2)] for i in range(N)],
            "S_Stance": [s if i in kept else "" for i, s in enumerate(stance)],
            "S_Degree": [str(d) if i in kept else "" for i, d in enumerate(degree)],
            **columns,
        }
    )


def task_of(data, **options):
    return nba.Task(data, codebook_of(STANCE, DEGREE), "study", **options)


def drawn():
    """A sample that has as many of a small stratum as of a large one."""
    rows = nba.sample(task_of(frame([])), n=60, by="party", allocation="equal", seed=3)
    return dict(zip(rows["text_id"], rows["probability"], strict=True))


def by_hand(run, chances):
    """Return what scikit-learn makes of the coded texts with sample_weight."""
    at = [row for row, i in enumerate(run.task.ids) if i in chances]
    weight = np.array([1 / chances[run.task.ids[row]] for row in at])
    human, model = ([values[row] for row in at] for values in
                    (run.task.human("Stance"), run.coding.values("S_Stance")))  # fmt: skip
    scale, given = ([values[row] for row in at] for values in
                    (run.task.human("Degree"), run.coding.values("S_Degree")))  # fmt: skip
    labels = STANCE["options"]
    macro = {"labels": labels, "average": "macro", "sample_weight": weight, "zero_division": 0}
    w = weight / weight.sum()
    off = np.abs(np.array(scale) - np.array(given))
    return (
        {
            ("S_Stance", "accuracy"): sk.accuracy_score(human, model, sample_weight=weight),
            ("S_Stance", "f1_macro"): sk.f1_score(human, model, **macro),
            ("S_Stance", "cohen_kappa"): sk.cohen_kappa_score(human, model, sample_weight=weight),
            ("S_Stance", "mcc"): sk.matthews_corrcoef(human, model, sample_weight=weight),
            ("S_Stance", "balanced_accuracy"): sk.recall_score(human, model, **macro),
            ("S_Degree", "quadratic_kappa"): sk.cohen_kappa_score(
                scale, given, labels=range(1, 6), weights="quadratic", sample_weight=weight
            ),
            ("S_Degree", "mae"): float((w * off).sum()),
            ("S_Degree", "within_one"): float((w * (off <= 1)).sum()),
        },
        weight.sum() ** 2 / (weight**2).sum(),
        weight,
    )


def values(metrics):
    return {(c, m): v for c, m, v in zip(metrics["column"], metrics["metric"], metrics["value"], strict=True)}


def test_a_drawn_sample_weights_card_report_tables_comparison_and_a_later_score(tmp_path, monkeypatch):
    chances = drawn()
    task = task_of(frame([int(i[1:]) for i in chances]))
    run = nba.run(task, model="mock")
    wanted, effective, weight = by_hand(run, chances)
    own = values(run.metrics)
    for key, value in wanted.items():
        assert own[key] == pytest.approx(value), key
    said = f"(sample.csv); effective n {effective:,.0f} of 60."
    assert "Weighted by the inverse of the known probabilities" in " ".join(run.report().text.split())
    assert said in " ".join(run.report().text.split())
    assert said in " ".join(str(run).split())
    assert values(nba.metrics("study")) == pytest.approx(own, nan_ok=True)
    assert nba.runs("study")["weights"].tolist() == ["sample.csv"]
    # The interval of a weighted share is about as wide as that of so many texts of equal weight.
    row = run.scores.fields["S_Stance"].results["accuracy"]
    right = np.array(
        [a == b for a, b in zip(run.task.human("Stance"), run.coding.values("S_Stance"), strict=True)]
    )
    right = right[[row for row, i in enumerate(run.task.ids) if i in chances]]
    se = np.sqrt((weight**2 * (right - row.value) ** 2).sum()) / weight.sum()
    assert (row.ci_high - row.ci_low) / (2 * 1.96 * se) == pytest.approx(1, abs=0.1)
    other = nba.run(task, model="mock", temperature=0.7)
    both = nba.compare([run, other], "accuracy", "Stance", n_resamples=200)
    assert both.own("S_Stance", "accuracy")[0].value == pytest.approx(wanted["S_Stance", "accuracy"])
    assert "effective n" in both.to_latex()
    plain = nba.compare([run, other], "accuracy", "Stance", n_resamples=200, weights="")
    assert plain.own("S_Stance", "accuracy")[0].value == pytest.approx(right.mean())
    chance = run.design_frame("Stance").set_index("text_id")["probability"]
    assert {i: chance[i] for i in chances} == pytest.approx(chances)
    # A session elsewhere knows the run folder alone, and no sample.csv.
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert main(["score", str(tmp_path / run.folder)]) == 0
    assert nba.runs("study", output_root=tmp_path / "outputs")["weights"].tolist() == ["sample.csv"] * 2
    later = nba.load_run(tmp_path / run.folder)
    assert values(later.metrics) == pytest.approx(own, nan_ok=True)
    assert "effective n" in later.report().text


def test_options_of_a_run_name_both_columns(tmp_path, capsys):
    weights = [str(1 + i % 4) for i in range(N)]
    data = frame(weight=weights)
    (tmp_path / "mine").mkdir()
    codebook_of(STANCE, DEGREE).save(tmp_path / "mine/codebook.json")
    data.write_csv(tmp_path / "mine/ground-truth.csv")
    plain = nba.run("mine", model="mock")
    options = ["run", "mine", "--model", "mock", "--cluster", "party", "--weights", "weight", "-q"]
    assert main(options) == 0
    runs = nba.runs("mine")
    assert runs[["cluster", "weights"]].to_numpy().tolist() == [["party", "weight"]]
    assert runs["run_id"].tolist() == [plain.run_id]  # how it is scored makes no other run
    again = nba.load_run(plain.folder)
    wanted, *_ = by_hand(again, {f"t{i:03d}": 1 / (1 + i % 4) for i in range(N)})
    assert values(again.metrics)["S_Stance", "f1_macro"] == pytest.approx(wanted["S_Stance", "f1_macro"])
    assert again.scores.settings["cluster"] == "party"
    assert main(["score", str(plain.folder)]) == 0
    assert nba.runs("mine")[["cluster", "weights"]].to_numpy().tolist() == [["party", "weight"]]
    assert main(["run", "mine", "--model", "mock", "--weights", "wieght", "-q"]) != 0
    assert "did you mean 'weight'" in capsys.readouterr().err
    with pytest.raises(TaskError, match="numbers above 0"):
        task_of(data, weights="party")


def test_people_agree_by_the_weights_of_their_texts():
    weights = np.array([1.0 + i % 4 for i in range(N)])
    data = frame(weight=[str(w) for w in weights])
    task = task_of(data, weights="weight")
    slips = np.random.default_rng(1).random(N) < 0.25
    other = [("anti" if slip else s) for s, slip in zip(data["S_Stance"], slips, strict=True)]
    anna = nba.load_coder(task, data, "anna")
    ben = nba.load_coder(task, data.with_columns(pl.Series("S_Stance", other)), "ben")
    found = nba.agreement([anna, ben], "Stance", n_resamples=200)
    pair = found.pairs["anna", "ben"]
    human = list(data["S_Stance"])
    kappa = sk.cohen_kappa_score(human, other, sample_weight=weights)
    assert pair["cohen_kappa"].value == pytest.approx(kappa)
    assert found.matrices["cohen_kappa"][0, 1] == pytest.approx(kappa)
    same = np.array([a == b for a, b in zip(human, other, strict=True)])
    assert found.overall["percent_agreement"].value == pytest.approx((weights * same).sum() / weights.sum())
    assert found.shared[0, 1] == N
    assert "effective n" in found.notes[-1]
    unweighted = nba.agreement([anna, ben], "Stance", n_resamples=200, weights="")
    assert unweighted.pairs["anna", "ben"]["cohen_kappa"].value == pytest.approx(
        sk.cohen_kappa_score(human, other)
    )


def test_when_texts_are_not_weighted_it_is_said():
    ids = [f"t{i}" for i in range(10)]
    assert Weighting(dict.fromkeys(ids, 4.0), "x").on(ids, [True] * 10) == (None, "")
    part = Weighting({i: 1.0 + n for n, i in enumerate(ids[:8])}, "sample.csv")
    weights, words = part.on(ids, [True] * 10)
    assert weights is None
    assert "Not weighted: 2 of 10 texts" in words
    weights, words = part.on(ids, [i in part.of for i in ids])
    assert sum(weights[:8]) == pytest.approx(8)
    assert "effective n 6 of 8" in words  # 36² / 204


def test_the_words_on_card_and_report_are_weighted_like_the_numbers(tmp_path):
    """Each of the few texts from the large stratum stands for many: its label is people's most frequent one."""
    n = 40
    topics = {"name": "Topics", "type": "multiselect", "options": ["war", "health"]}
    stance = ["pro"] * 30 + ["anti"] * 10
    sets = ['["war"]'] * 30 + ['["war", "health"]'] * 10
    data = pl.DataFrame(
        {
            "id": [f"t{i}" for i in range(n)],
            "text": [f"Speech {i}." for i in range(n)],
            "S_Stance": stance,
            "S_Topics": sets,
            "w": ["1"] * 30 + ["90"] * 10,
        }
    )
    task = nba.Task(data, codebook_of(STANCE, topics), "study", weights="w")
    run = nba.run(task, model="mock", output_root=tmp_path)
    card, report = str(run), str(run.report())
    assert "people: pro: 3%, anti: 97%, neutral: 0%" in card
    assert "people: war: 100%, health: 97%" in card
    assert "always answering “anti” would reach an accuracy of 0.97" in " ".join(report.split())
    assert run.scores.fields["S_Topics"].results["baseline_accuracy"].value == pytest.approx(900 / 930)
    assert "effective n only 11 of 40: the interval may be too narrow" in card
    assert "count texts, each once" in report
    assert "not weighted" in str(displays.label_distribution(run, "Stance"))


def test_one_text_cannot_carry_an_interval_in_silence(tmp_path):
    few = nba.Task(
        frame(range(20), w=[str(1 + i % 9) for i in range(N)]), codebook_of(STANCE), "s", weights="w"
    )
    run = nba.run(few, model="mock", output_root=tmp_path)
    assert "effective n only" not in str(run), "of 20 texts nothing is said without weights either"


def test_a_verdict_is_as_cautious_as_its_interval():
    right = truth()[0]
    for heavy, verdict in (("1", "Stance better than"), ("20000", "Stance not shown to be better than")):
        data = frame(w=[*["1", "2"] * (N // 2 - 1), "1", heavy])
        task = nba.Task(data, codebook_of(STANCE), "study", weights="w")
        given = {name: pl.DataFrame({"id": data["id"], "S_Stance": labels}) for name, labels in
                 (("Ada", [*["anti"] * 40, *right[40:]]), ("Ben", [*["pro"] * 200, *right[200:]]))}  # fmt: skip
        ada, ben = (nba.load_coder(task, table, name) for name, table in given.items())
        assert verdict in headline.verdict(ada)
        told = str(nba.compare([ada, ben], "accuracy", "Stance"))
        assert ("effective n only" in told) == (heavy != "1")
