"""Regression: statsmodels on the pseudo-outcome as an oracle, its limits, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from conftest import codebook_of
from made_corpora import run_of
from made_runs import made_run

import nbannot as nba
from nbannot.errors import ScoringError
from nbannot.study.task import Task

OPTIONS = ("no", "yes")


def made(seed=1, n=900, coded=180, effect=0.2, biased=0.15, silent=0.0):
    """A corpus in which one party says yes more often, and the model more wrongly of that party."""
    rng = np.random.default_rng(seed)
    left = rng.random(n) < 0.5
    year = rng.integers(1990, 2000, n)
    truth = rng.random(n) < 0.3 + effect * left
    wrong = rng.random(n) < 0.1 + biased * left
    model = np.where(truth ^ wrong, "yes", "no").astype(object)
    model[rng.random(n) < silent] = None
    gold = np.zeros(n, dtype=bool)
    gold[rng.permutation(n)[:coded]] = True
    human = np.where(gold, np.where(truth, "yes", "no"), "")
    party = np.where(left, "left", "right")
    return model.tolist(), human.tolist(), party.tolist(), year, gold, truth


def corpus(tmp_path, **options):
    model, human, party, year, *rest = made(**options)
    run = run_of(model, human, tmp_path, OPTIONS, party=party, year=[str(y) for y in year],
                 doc=[str(i // 3) for i in range(len(model))])  # fmt: skip
    x = np.column_stack([np.ones(len(model)), np.array(party) == "right", year]).astype(float)
    return (
        run,
        x,
        np.array([m == "yes" for m in model], dtype=float),
        np.array([h == "yes" for h in human]),
        *rest,
    )


def pseudo(yhat, y, gold):
    return yhat + gold / gold.mean() * (y - yhat)


def test_least_squares_on_the_pseudo_outcome(tmp_path):
    run, x, yhat, y, gold, _ = corpus(tmp_path)
    found = nba.regress("Kind == 'yes' ~ party + year", run)
    frame = found.frame
    assert frame["term"].tolist() == ["Intercept", "party[T.right]", "year"]
    for name, fit in (
        ("corrected", sm.OLS(pseudo(yhat, y, gold), x).fit(cov_type="HC2")),
        ("naive", sm.OLS(yhat, x).fit(cov_type="HC2")),
        ("gold_only", sm.OLS(y[gold].astype(float), x[gold]).fit(cov_type="HC2")),
    ):
        assert frame[f"{name}_estimate"].tolist() == pytest.approx(fit.params.tolist(), rel=1e-6)
        assert frame[f"{name}_se"].tolist() == pytest.approx(fit.bse.tolist(), rel=1e-6)
        assert (frame[f"{name}_low"] < frame[f"{name}_estimate"]).all()
    clustered = nba.regress("Kind == 'yes' ~ party + year", run, cluster="doc").frame
    docs = np.arange(len(x)) // 3
    fit = sm.OLS(pseudo(yhat, y, gold), x).fit(cov_type="cluster", cov_kwds={"groups": docs})
    assert clustered["corrected_se"].tolist() == pytest.approx(fit.bse.tolist(), rel=1e-6)
    said = str(found)
    for words in ("corrected", "naive", "gold only", "not people's disagreement", "least squares"):
        assert words in said
    assert len(found._fragment().figures) == 1
    assert r"\toprule" in found.to_latex()


@pytest.mark.parametrize("family", ["logit", "poisson"])
def test_generalised_models(tmp_path, family):
    run, x, yhat, y, gold, _ = corpus(tmp_path, n=3000, coded=900)
    frame = nba.regress("Kind == 'yes' ~ party", run, family=family).frame
    kind = sm.families.Binomial() if family == "logit" else sm.families.Poisson()
    for name, outcome, rows in (("naive", yhat, slice(None)), ("gold_only", y.astype(float), gold)):
        fit = sm.GLM(outcome[rows], x[rows][:, :2], family=kind).fit(cov_type="HC1")
        assert frame[f"{name}_estimate"].tolist() == pytest.approx(fit.params.tolist(), rel=1e-6)
        assert frame[f"{name}_se"].tolist() == pytest.approx(fit.bse.tolist(), rel=2e-3)
    link = (lambda p: np.log(p / (1 - p))) if family == "logit" else np.log
    corrected = pseudo(yhat, y, gold)
    shares = [corrected[x[:, 1] == side].mean() for side in (0, 1)]  # a saturated model fits the means
    estimate = frame["corrected_estimate"].tolist()
    assert estimate == pytest.approx([link(shares[0]), link(shares[1]) - link(shares[0])], rel=1e-6)


def test_the_errors_of_the_model_do_not_move_the_corrected_coefficient(tmp_path):
    run, *_, truth = corpus(tmp_path, n=8000, coded=2500, biased=0.25, silent=0.05)
    frame = nba.regress("Kind == 'yes' ~ party", run).frame.set_index("term").loc["party[T.right]"]
    party = np.array(list(run.task.data["party"]))
    true = truth[party == "right"].mean() - truth[party == "left"].mean()
    assert abs(frame["corrected_estimate"] - true) < 2.5 * frame["corrected_se"]
    assert abs(frame["naive_estimate"] - true) > 3 * frame["naive_se"]
    assert frame["corrected_se"] < frame["gold_only_se"]
    assert "surrogate" in str(nba.regress("Kind == 'yes' ~ party", run))


def test_a_right_model_gives_the_naive_coefficients(tmp_path):
    rng = np.random.default_rng(3)
    labels = rng.choice(OPTIONS, 500).tolist()
    human = [v if i % 5 == 0 else "" for i, v in enumerate(labels)]
    run = run_of(labels, human, tmp_path, OPTIONS, group=rng.choice(["a", "b", "c"], 500).tolist())
    frame = nba.regress("Kind == 'yes' ~ group", run).frame
    assert frame["corrected_estimate"].tolist() == pytest.approx(frame["naive_estimate"].tolist())
    # 100 coded texts without an error leave up to 3% of errors possible: more than nothing, less than without a model.
    assert (frame["corrected_se"] > 1.05 * frame["naive_se"]).all()
    assert (frame["corrected_se"] < 0.8 * frame["gold_only_se"]).all()


def test_a_label_among_the_terms(tmp_path):
    rng = np.random.default_rng(7)
    n = 6000
    truth = rng.random(n) < 0.4
    wrong = rng.random(n) < 0.2
    votes = 1.0 + 2.0 * truth + rng.normal(0, 1, n)
    gold = np.zeros(n, dtype=bool)
    gold[rng.permutation(n)[:1500]] = True
    run = run_of(
        np.where(truth ^ wrong, "yes", "no").tolist(), np.where(gold, np.where(truth, "yes", "no"), "").tolist(),
        tmp_path, OPTIONS, votes=[repr(float(v)) for v in votes],
    )  # fmt: skip
    frame = nba.regress("votes ~ Kind", run).frame.set_index("term").loc["Kind[T.yes]"]
    assert frame["naive_estimate"] < 1.5
    assert abs(frame["corrected_estimate"] - 2) < 3 * frame["corrected_se"]
    by_hand = votes[gold & truth].mean() - votes[gold & ~truth].mean()
    assert frame["gold_only_estimate"] == pytest.approx(by_hand)


def test_weights_of_a_known_design(tmp_path):
    rng = np.random.default_rng(9)
    n = 4000
    truth = rng.random(n) < 0.3
    chance = np.where(truth, 0.5, 0.1)
    gold = rng.random(n) < chance
    model = np.where(truth ^ (rng.random(n) < 0.15), "yes", "no")
    human = np.where(gold, np.where(truth, "yes", "no"), "")
    run = run_of(model.tolist(), human.tolist(), tmp_path, OPTIONS, chance=[repr(float(c)) for c in chance])
    frame = nba.regress("Kind == 'yes' ~ 1", run, probability="chance").frame.iloc[0]
    assert abs(frame["corrected_estimate"] - truth.mean()) < 3 * frame["corrected_se"]
    weighted = (truth[gold] / chance[gold]).sum() / (1 / chance[gold]).sum()
    assert frame["gold_only_estimate"] == pytest.approx(weighted)


def test_letters(tmp_path):
    run, *_ = corpus(tmp_path, n=120, coded=40)
    for formula, words in (
        ("Kind ~ party", "labels that are not numbers"),
        ("Kind == 'maybe' ~ party", "is not a label of Kind"),
        ("Knid == 'yes' ~ party", "did you mean 'Kind'"),
        ("Kind == 'yes' ~ partei", "did you mean 'party'"),
        ("year ~ party", "names no field"),
        ("Kind == 'yes'", "a formula is"),
        ("Kind == 'yes' ~ party +", "cannot be read"),
    ):
        with pytest.raises(ScoringError, match=words):
            nba.regress(formula, run)
    with pytest.raises(ScoringError, match="family must be"):
        nba.regress("Kind == 'yes' ~ party", run, family="probit")  # type: ignore[arg-type]
    few = nba.regress("Kind == 'yes' ~ C(doc)", run)
    assert few.frame["corrected_estimate"].isna().all()
    assert "coded texts for" in str(few)


def test_two_fields_and_a_scale(tmp_path):
    scale = {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5}
    tick = {"name": "Tick", "type": "checkbox"}
    rng = np.random.default_rng(5)
    n = 400
    degree, ticked = rng.integers(1, 6, n), rng.integers(0, 2, n)
    coded = np.arange(n) % 4 == 0
    data = {
        "id": [f"t{i}" for i in range(n)],
        "text": ["x"] * n,
        "S_Degree": [str(v) if c else "" for v, c in zip(degree, coded, strict=True)],
        "S_Tick": [str(v) if c else "" for v, c in zip(ticked, coded, strict=True)],
    }
    task = Task(pl.DataFrame(data), codebook_of(scale, tick), "two")
    run = made_run(task, {"Degree": degree.tolist(), "Tick": ticked.tolist()}, tmp_path)
    frame = nba.regress("Degree ~ Tick", run).frame.set_index("term")
    slope = degree[ticked == 1].mean() - degree[ticked == 0].mean()
    assert frame.loc["Tick", "corrected_estimate"] == pytest.approx(slope)
    assert frame.loc["Tick", "naive_estimate"] == pytest.approx(slope)


def test_the_frame_for_other_programs(tmp_path):
    run, x, yhat, y, gold, _ = corpus(tmp_path, n=300, coded=60)
    frame = run.design_frame("Kind")
    assert frame["dsl_yes"].to_numpy() == pytest.approx(pseudo(yhat, y, gold))
    fit = sm.OLS(frame["dsl_yes"], x[:, :2]).fit(cov_type="HC2")
    found = nba.regress("Kind == 'yes' ~ party", run).frame
    assert found["corrected_estimate"].tolist() == pytest.approx(fit.params.tolist())
    assert frame["coded"].sum() == 60
    assert set(frame["probability"]) == {0.2}
    assert {"party", "year", "human_no"} <= set(frame.columns)


def test_an_option_of_several_is_an_outcome_like_a_label_of_its_own(tmp_path):
    model, human, party, *_ = made()
    plain = run_of(model, human, tmp_path / "one", OPTIONS, party=party)
    sets = {"yes": ["yes", "no"], "no": ["no"]}
    field = {"name": "Said", "type": "multiselect", "options": list(OPTIONS)}
    cells = ["" if h == "" else json.dumps(sets[h]) for h in human]
    frame = pl.DataFrame({"text": [f"text {i}" for i in range(len(model))], "S_Said": cells, "party": party})
    several = made_run(
        Task(frame, codebook_of(field)), {"Said": [sets[m] for m in model]}, tmp_path / "several"
    )
    expected = nba.regress("Kind == 'yes' ~ party", plain)
    for name in ("Said: yes ~ party", "`S_Said: yes` ~ party"):
        assert nba.regress(name, several).frame.equals(expected.frame)
    assert "Said: yes" in str(nba.tipping_point("Said: yes ~ party", several))
    with pytest.raises(ScoringError, match=r'an outcome is one of its options:\n  "Said: no ~ party"'):
        nba.regress("Said ~ party", several)
    with pytest.raises(ScoringError, match="cannot be explained by its own field"):
        nba.regress("Said: yes ~ Said", several)


def test_few_errors_in_the_sample_make_no_narrow_interval(tmp_path):
    rng = np.random.default_rng(5)
    n = 3000
    labels = rng.choice(OPTIONS, n)
    party = rng.choice(["a", "b"], n).tolist()
    party[-1] = "c"  # of which nothing was coded
    human = np.where(np.arange(n) < 8, labels, "")
    run = run_of(
        labels.tolist(), human.tolist(), tmp_path, OPTIONS, party=party, doc=[str(i // 8) for i in range(n)]
    )
    found = nba.regress("Kind == 'yes' ~ 1", run)
    row = found.frame.iloc[0]
    # Eight texts without an error: a model that errs in 15% of the texts is no surprise. Before: 0.5 +/- 0.02.
    assert row["corrected_high"] - row["corrected_low"] > 0.3
    assert row["corrected_high"] - row["corrected_low"] < row["gold_only_high"] - row["gold_only_low"]
    assert any(
        "Few errors of the model among the coded texts bear on Intercept" in note for note in found.notes
    )
    by_party = nba.regress("Kind == 'yes' ~ party", run)
    frame = by_party.frame.set_index("term")
    assert frame.loc["party[T.c]", ["corrected_estimate", "corrected_low", "corrected_se"]].isna().all()
    assert frame.loc["party[T.b]", ["corrected_estimate", "corrected_low"]].notna().all()
    assert any("No corrected coefficient for party[T.c]" in note for note in by_party.notes)
    assert "–" in str(by_party)
    assert by_party.verdict.startswith("8 texts with a human label are too few to correct a coefficient by")
    # Eight texts of one document are one observation, whatever number of documents the corpus has.
    assert "one cluster" in nba.regress("Kind == 'yes' ~ 1", run, cluster="doc").verdict
    human = np.where(np.arange(n) % 1000 < 8, labels, "")
    run = run_of(labels.tolist(), human.tolist(), tmp_path, OPTIONS, doc=[str(i // 8) for i in range(n)])
    few = nba.regress("Kind == 'yes' ~ 1", run, cluster="doc")
    assert few.fits["corrected"].df == 2
    assert any("only 3 clusters" in note for note in few.notes)


def test_where_every_text_is_coded_nothing_is_left_to_chance(tmp_path):
    rng = np.random.default_rng(6)
    truth = rng.choice(OPTIONS, 400)
    model = np.where(rng.random(400) < 0.99, truth, "no")
    x = rng.choice(["a", "b"], 400)
    run = run_of(model.tolist(), truth.tolist(), tmp_path, OPTIONS, x=x.tolist())
    frame = nba.regress("Kind == 'yes' ~ x", run).frame
    fit = sm.OLS((truth == "yes").astype(float), np.column_stack([np.ones(400), x == "b"]).astype(float)).fit(
        cov_type="HC2"
    )
    assert frame["corrected_estimate"].tolist() == pytest.approx(fit.params.tolist())
    assert frame["corrected_se"].tolist() == pytest.approx(fit.bse.tolist())


def test_what_has_no_interval_leaves_nothing_out(tmp_path):
    """The verdict named a coefficient that nobody could estimate as one whose interval leaves out 0."""
    n = 300
    labels = np.where(np.arange(n) % 2 == 0, "yes", "no")
    party = np.where(np.arange(n) % 3 == 0, "a", "b").tolist()
    party[-2:] = ["c", "d"]  # one text each, and nothing coded of either
    human = np.where(np.arange(n) < 40, np.where(np.arange(n) % 5 == 0, "no", labels), "")
    found = nba.regress(
        "Kind == 'yes' ~ party", run_of(labels.tolist(), human.tolist(), tmp_path, OPTIONS, party=party)
    )
    assert found.verdict == "No corrected interval leaves out 0."
    frame = found.frame.set_index("term")
    assert (
        frame.loc[["party[T.c]", "party[T.d]"], ["corrected_estimate", "corrected_p"]].isna().all(axis=None)
    )
    assert frame["naive_high"].sub(frame["naive_low"]).min() > 0.01, (
        "one text of a party is no interval of width 0"
    )
    every = run_of(
        ["yes"] * 60, ["yes", "no"] * 10 + [""] * 40, tmp_path / "same", OPTIONS, party=["a", "b", "b"] * 20
    )
    same = nba.regress("Kind == 'yes' ~ party", every).frame
    assert same["naive_estimate"].tolist() == pytest.approx([1, 0])
    assert same[["naive_low", "naive_high", "naive_p"]].isna().all(axis=None), "it was [1.000, 1.000]"


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("Kind == 'yes' ~ party | year", "several designs"),
        ("Kind == 'yes' ~ Kind", "cannot be explained by its own field"),
        ("Kind == 'yes' ~ log(zero)", "not finite"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_terms_that_make_no_regression(tmp_path, formula, words):
    run = run_of(["no", "yes"] * 30, ["no", "yes"] * 30, tmp_path, OPTIONS, party=["a", "b", "b"] * 20,
                 year=["1", "2", "3"] * 20, zero=["0", "1", "2"] * 20)  # fmt: skip
    with pytest.raises(ScoringError, match=words):
        nba.regress(formula, run)


def test_texts_that_were_drawn_and_do_not_count_take_no_correction_away(tmp_path):
    rng = np.random.default_rng(9)
    n = 4000
    truth = rng.random(n) < 0.3
    model = np.where(truth | (rng.random(n) < 0.3), "yes", "no")
    probability = np.where(model == "yes", 0.5, 0.25)
    drawn = rng.random(n) < probability
    used = drawn & (rng.random(n) < 0.5)  # the others of the sample were dev, or are not coded yet
    human = np.where(used, np.where(truth, "yes", "no"), "")
    run = run_of(model.tolist(), human.tolist(), tmp_path, OPTIONS, p=probability.astype(str).tolist())
    found = nba.regress("Kind == 'yes' ~ 1", run, probability="p")
    row = found.frame.iloc[0]
    assert row["naive_estimate"] > 0.48
    assert row["corrected_estimate"] == pytest.approx(
        truth.mean(), abs=0.04
    )  # .40 with half of the correction
    assert any("scaled to the corpus" in note for note in found.notes)
    frame = run.design_frame("Kind", probability="p")  # for R and Stata: the same correction
    assert frame["dsl_yes"].mean() == pytest.approx(row["corrected_estimate"])
    assert "probability is scaled" in frame.attrs["note"]
