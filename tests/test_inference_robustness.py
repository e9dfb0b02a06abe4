"""The whole error, tipping points, multiverse, understudy, acceptance sample: worked by hand and against simulation."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from made_corpora import corpus_of, run_of
from made_runs import STANCE, made_run, made_task
from scipy import stats

import nbannot as nba
from nbannot.errors import ScoringError
from nbannot.inference.grid import components
from nbannot.inference.tipping_point import corrected_difference, differential


def grid(tmp_path, prompts=4, models=2, repeats=1, n=120, sd=0.05, seed=1):
    """Runs on one task; each prompt and model has an accuracy of its own."""
    rng = np.random.default_rng(seed)
    people = rng.choice(["pro", "anti"], n).tolist()
    task = made_task([f"Text {i}." for i in range(n)], STANCE, Stance=people)
    of_prompt, of_model = rng.normal(0, sd, prompts), rng.normal(0, sd, models)
    hard = rng.normal(0, 0.15, n)
    runs = []
    for p in range(prompts):
        for m in range(models):
            for r in range(1, repeats + 1):
                right = rng.random(n) < np.clip(0.75 + of_prompt[p] + of_model[m] + hard, 0, 1)
                labels = [v if ok else "neutral" for v, ok in zip(people, right, strict=True)]
                runs.append(
                    made_run(task, {"Stance": labels}, tmp_path, run_id=f"{p:02d}{m:02d}{r:02d}aa", model=f"mock/m{m}",
                             prompt_type=f"p{p}", repeat=r)
                )  # fmt: skip
    return runs


def test_texts_that_nobody_coded_are_none_of_the_texts(tmp_path):
    """Fifteen of sixty texts are coded: what 20 more would bring was reckoned as if there were sixty."""
    rng = np.random.default_rng(4)
    people = rng.choice(["pro", "anti"], 15).tolist()
    said = [[v if rng.random() < share else "neutral" for v in people] for share in (0.9, 0.6)]
    found = {}
    for n in (15, 60):
        rest = n - 15
        task = made_task([f"Text {i}." for i in range(n)], STANCE, Stance=[*people, *[""] * rest])
        runs = [
            made_run(
                task,
                {"Stance": [*labels, *["pro"] * rest]},
                tmp_path / str(n),
                run_id=f"0{i}0000aa",
                prompt_type=f"p{i}",
            )
            for i, labels in enumerate(said)
        ]
        for metric in ("accuracy", "f1_macro"):
            found[n, metric] = nba.total_error(runs, metric, column="Stance", seed=1)
    for metric in ("accuracy", "f1_macro"):
        few, many = found[15, metric], found[60, metric]
        assert (few.n_texts, many.n_texts) == (15, 15)
        assert [one.df for one in many.components] == [one.df for one in few.components]
        assert (many.texts_low, many.texts_high) == pytest.approx((few.texts_low, few.texts_high))
        assert [words for words, *_ in many.designs] == [words for words, *_ in few.designs]


def accuracy(run):
    return float(
        np.mean(
            [v == h for v, h in zip(run.coding.values("S_Stance"), run.task.human("Stance"), strict=True)]
        )
    )


def test_components_are_those_of_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    a, b, r = 5, 4, 3
    y = (rng.normal(0, 2, (a, 1, 1)) + rng.normal(0, 1, (1, b, 1)) + rng.normal(0, 0.7, (a, b, 1))
         + rng.normal(0, 0.5, (a, b, r)))  # fmt: skip
    rows, cols, means, mean = y.mean((1, 2)), y.mean((0, 2)), y.mean(2), y.mean()
    ms_a = b * r * ((rows - mean) ** 2).sum() / (a - 1)
    ms_b = a * r * ((cols - mean) ** 2).sum() / (b - 1)
    ms_ab = r * ((means - rows[:, None] - cols[None] + mean) ** 2).sum() / ((a - 1) * (b - 1))
    ms_e = ((y - means[..., None]) ** 2).sum() / (a * b * (r - 1))
    levels = {
        "prompt": [str(i) for i in range(a) for _ in range(b * r)],
        "model": [str(j) for _ in range(a) for j in range(b) for _ in range(r)],
    }
    sizes, df, rest, negative = components(y.ravel(), levels)
    assert sizes["prompt"] == pytest.approx((ms_a - ms_ab) / (b * r), rel=1e-5)
    assert sizes["model"] == pytest.approx((ms_b - ms_ab) / (a * r), rel=1e-5)
    assert sizes["prompt × model"] == pytest.approx((ms_ab - ms_e) / r, rel=1e-5)
    assert rest == pytest.approx(ms_e, rel=1e-5)
    assert df == {"prompt": 4, "model": 3, "prompt × model": 12}
    assert not negative
    kept = [i for i in range(a * b * r) if i % 7]  # unbalanced: still there, and near
    sizes = components(y.ravel()[kept], {k: [v[i] for i in kept] for k, v in levels.items()})[0]
    assert sizes["prompt"] == pytest.approx((ms_a - ms_ab) / (b * r), rel=0.3)


def test_one_facet_by_hand(tmp_path):
    runs = grid(tmp_path, prompts=5, models=1)
    values = np.array([accuracy(run) for run in runs])
    human = runs[0].task.human("Stance")
    right = np.array(
        [[a.value == h for a, h in zip(run.coding.answers["S_Stance"], human, strict=True)] for run in runs]
    )
    found = nba.total_error(runs)
    text, prompt = right.mean(0).var(ddof=1) / 120, values.var(ddof=1)
    assert found.estimate == pytest.approx(values.mean())
    frame = found.frame.set_index("component")
    assert frame.loc["texts", "variance"] == pytest.approx(text)
    assert frame.loc["prompt", "variance"] == pytest.approx(prompt)
    total = text + prompt / 5
    df = total**2 / (text**2 / 119 + (prompt / 5) ** 2 / 4)
    assert found.df == pytest.approx(df)
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, df) * math.sqrt(total))
    assert found.texts_high < found.high < found.one_run_high
    # The hierarchical bootstrap has the same spread where one facet is crossed with texts, and t where it is short.
    assert found.bootstrap_high - found.estimate == pytest.approx(found.half_width, rel=0.15)
    assert "t with" in str(found)
    many = nba.total_error(grid(tmp_path, prompts=8, models=1))
    assert many.bootstrap_high - many.bootstrap_low == pytest.approx(many.high - many.low, rel=0.25)
    assert "percentiles, 2,000 draws" in " ".join(str(many).split())
    assert [words for *_, words in found.designs] == ["30 labels by people, 150 calls", "120 calls"]
    priced = [
        dataclasses.replace(run, config={**run.config, "prices": {"input": 1000.0, "output": 0.0}})
        for run in runs
    ]
    for run in priced:
        (run.folder / "char_counts.json").write_text(json.dumps({"input_tokens": 240, "output_tokens": 5}))
    at = nba.total_error(priced, label_price=0.5)
    assert [words for *_, words in at.designs] == [
        "30 labels by people (15.00 at 0.5 each), 150 calls (0.30 at 0.002 each)",
        "120 calls (0.24 at 0.002 each)",
    ]
    held = nba.total_error(runs, fixed="prompt")
    assert held.bootstrap_high - held.bootstrap_low == pytest.approx(held.high - held.low, rel=0.1)
    assert (held.low, held.high) == pytest.approx((held.texts_low, held.texts_high))
    assert "Holds fixed: prompt" in str(held)
    only = nba.total_error(runs, fixed="model")  # there is one model: holding it changes nothing
    assert (only.low, only.high, only.df) == (found.low, found.high, found.df)
    pair = nba.total_error(runs[:2])
    assert 0 <= pair.low < pair.estimate < pair.high <= 1
    assert "1.0 degrees of freedom" in " ".join(str(pair).split()) or pair.df > 1
    assert "one more prompt" in str(found)
    assert len(found._fragment().figures) == 1


def test_metrics_shares_functions_and_coders(tmp_path):
    runs = grid(tmp_path, prompts=3, models=2, repeats=2)
    plain = nba.total_error(runs)
    assert set(plain.frame["component"]) == {"texts", "prompt", "model", "prompt × model", "repeat and rest"}
    by_function = nba.total_error(runs, accuracy)
    assert by_function.estimate == pytest.approx(plain.estimate)
    a, b = (one.frame.set_index("component")["variance"] for one in (plain, by_function))
    assert b.drop("texts").tolist() == pytest.approx(a.drop("texts").tolist())
    assert 0.4 < b["texts"] / a["texts"] < 2.5  # by a jackknife over blocks
    assert nba.total_error(runs, "f1_macro").estimate < 1
    shares = nba.total_error(runs, "share: pro")
    assert shares.estimate == pytest.approx(
        np.mean([[v == "pro" for v in run.coding.values("S_Stance")] for run in runs])
    )
    task = runs[0].task
    people = task.human("Stance")
    other = ["anti" if i % 10 == 0 else v for i, v in enumerate(people)]
    coders = [
        nba.load_coder(task, pd.DataFrame({"id": task.ids, "S_Stance": v}), n)
        for n, v in (("a", people), ("b", other))
    ]
    with_people = nba.total_error(runs, coders=coders)
    assert "coders" in set(with_people.frame["component"])
    with pytest.raises(ScoringError, match="at least 2 runs"):
        nba.total_error(runs[:1])
    with pytest.raises(ScoringError, match="no metric"):
        nba.total_error(runs, "acuracy2")
    with pytest.raises(ScoringError, match="fixed= names promt"):
        nba.total_error(runs, fixed="promt")


def test_tipping_points_in_closed_form(tmp_path):
    called, se, sp = (0.3, 0.5), 0.8, 0.9
    assert math.isnan(differential(called, se, sp, "sensitivity"))  # 0.467 apart, half of it above 0.8 + 0.2
    low = differential(called, 0.6, sp, "sensitivity")
    assert low == pytest.approx(2 * 0.5 * 0.2 / 0.6)
    assert corrected_difference(called, (0.6 - low / 2, 0.6 + low / 2), (sp, sp)) == pytest.approx(0)
    near = differential((0.3, 0.34), se, sp, "sensitivity")
    assert corrected_difference((0.3, 0.34), (se - near / 2, se + near / 2), (sp, sp)) == pytest.approx(0)
    other = differential((0.3, 0.34), se, sp, "specificity")
    assert corrected_difference((0.3, 0.34), (se, se), (sp - other / 2, sp + other / 2)) == pytest.approx(0)
    assert math.isnan(differential((0.1, 0.9), 0.95, 0.95, "sensitivity"))


def test_a_finding_with_measured_rates(tmp_path):
    left = corpus_of([[85, 15], [10, 40]], [600, 400], tmp_path)
    right = corpus_of([[80, 16], [12, 42]], [520, 480], tmp_path)
    halves = [left, right]
    model = [a.value for run in halves for a in run.coding.answers["S_Kind"]]
    human = [v or "" for run in halves for v in run.task.human("S_Kind")]
    run = run_of(model, human, tmp_path, ("no", "yes"), party=["left"] * 1000 + ["right"] * 1000)
    found = nba.tipping_point("Kind == 'yes' ~ party", run)
    se, sp = 82 / 104, 165 / 196
    assert found.naive == pytest.approx(0.08)
    assert found.difference == pytest.approx(0.08 / (se + sp - 1))
    tips = found.frame.set_index(["scenario", "what"])["tips_at"]
    a = [0.4 + sp - 1, 0.48 + sp - 1]
    expected = 2 * (se + sp - 1) * (a[1] - a[0]) / (a[1] + a[0])
    assert tips["sensitivity apart", "the sign changes"] == pytest.approx(expected)
    unsure = tips["specificity apart", "the interval reaches 0"]
    changes = tips["specificity apart", "the sign changes"]
    assert 0 < unsure < changes
    rates = {one.group: one.sensitivity for one in found.rates}
    assert rates == {"left": pytest.approx(0.8), "right": pytest.approx(42 / 54)}
    assert "does not show that it is true" in " ".join(str(found).split())
    many = run_of(model, human, tmp_path, ("no", "yes"), party=[str(i % 3) for i in range(2000)])
    with pytest.raises(ScoringError, match="two groups"):
        nba.tipping_point("Kind == 'yes' ~ party", many)


def test_the_tipping_point_of_a_coefficient(tmp_path):
    left = corpus_of([[85, 15], [10, 40]], [600, 400], tmp_path)
    right = corpus_of([[80, 16], [12, 42]], [480, 520], tmp_path)
    model = [a.value for run in (left, right) for a in run.coding.answers["S_Kind"]]
    human = [v or "" for run in (left, right) for v in run.task.human("S_Kind")]
    party = ["left"] * 1000 + ["right"] * 1000
    year = [str(2000 + (7 * i) % 20) for i in range(2000)]
    run = run_of(model, human, tmp_path, ("no", "yes"), party=party, year=year)
    exact = nba.tipping_point("Kind == 'yes' ~ party", run)
    drawn = nba.tipping_point("Kind == 'yes' ~ party", run, term="party[T.right]", draws=8)
    # With one term of two values, the regression is the difference of two shares: the closed form is its limit.
    assert drawn.naive == pytest.approx(exact.naive)
    assert drawn.difference == pytest.approx(exact.difference, abs=0.03)
    want, tips = (one.frame.set_index(["scenario", "what"])["tips_at"] for one in (exact, drawn))
    for scenario in ("sensitivity apart", "specificity apart"):
        key = (scenario, "the sign changes")
        assert tips[key] == pytest.approx(want[key], rel=0.25), key
        assert tips[scenario, "the interval reaches 0"] < tips[key]
    again = nba.tipping_point("Kind == 'yes' ~ party", run, term="party[T.right]", draws=8)
    assert again.frame.equals(drawn.frame)
    both = nba.tipping_point("Kind == 'yes' ~ party + year", run, family="logit", draws=3)
    assert both.term == "party[T.right]"
    said = " ".join(str(both).split())
    assert "The coefficient of party[T.right] is" in said
    assert "seed 1" in said
    with pytest.raises(ScoringError, match="did you mean 'party"):
        nba.tipping_point("Kind == 'yes' ~ party + year", run, term="party[T.rigt]")


def test_rates_of_a_sample_drawn_by_label_are_weighted(tmp_path):
    """100 of 900 and 100 of 100 texts coded: 10 and 90 are so. Sensitivity is 90 / (90 + 10 * 9), not 90 / 100."""
    run = corpus_of([[90, 10], [10, 90]], [900, 100], tmp_path)
    model = [a.value for a in run.coding.answers["S_Kind"]]
    human = [v or "" for v in run.task.human("S_Kind")]
    two = run_of(model * 2, human * 2, tmp_path, ("no", "yes"), party=["a"] * 1000 + ["b"] * 1000)
    found = nba.tipping_point("Kind == 'yes' ~ party", two, sampled="by label")
    assert [one.sensitivity for one in found.rates] == pytest.approx([90 / 180, 90 / 180])


def test_multiverse_keeps_every_run(tmp_path):
    runs = grid(tmp_path, prompts=4, models=1)

    def estimate(run):
        p = int(run.config["prompt_type"][1])
        if p == 3:
            raise ValueError("no solution")
        return {"value": [0.2, 0.1, -0.1][p], "low": [0.1, 0.05, -0.2][p], "high": [0.3, 0.15, 0.05][p]}

    found = nba.multiverse(runs, estimate, gold=(0.15, 0.02))
    frame = found.frame
    assert frame["estimate"].tolist()[:3] == [0.2, 0.1, -0.1]
    assert frame["reason"][3] == "ValueError: no solution"
    assert found.sign_flips == pytest.approx(1 / 3)
    assert found.share_differs == pytest.approx(1 / 3)
    assert found.conclusion == "positive"
    assert "prompt_type" in frame.columns
    assert "33% conclude otherwise than gold" in str(found)
    assert "1 run of 4 gave no estimate" in " ".join(str(found).replace("┃", " ").split())
    assert "no number" in str(nba.multiverse(runs, lambda run: float("nan")))
    assert nba.multiverse(runs, accuracy).sign_flips == 0
    with pytest.raises(ScoringError, match="a function of a run"):
        nba.multiverse(runs, "Stance")
    with pytest.raises(ScoringError, match="an estimator returns"):
        nba.multiverse(runs, lambda run: "high")


def test_an_understudy_is_as_good_within_a_margin(tmp_path):
    runs = grid(tmp_path, prompts=1, models=3, n=400, sd=0.0)
    human = runs[0].task.human("Stance")
    bad = made_run(runs[0].task, {"Stance": ["neutral" if i % 2 else v for i, v in enumerate(human)]}, tmp_path,
                   run_id="badbad00", model="mock/bad")  # fmt: skip
    found = nba.understudy(runs[0], [*runs[1:], bad], margin=0.1, metric="accuracy")
    frame = found.frame.set_index("run")
    assert frame.loc["000101aa", "equivalent"]
    assert not frame.loc["badbad00", "equivalent"]
    assert not frame.loc["badbad00", "not_inferior"]
    assert not nba.understudy(runs[0], runs[1:], margin=0.001, metric="accuracy").frame["equivalent"].any()
    assert "two one-sided tests" in " ".join(str(found).split())
    with pytest.raises(TypeError, match="margin"):
        nba.understudy(runs[0], runs[1:])
    with pytest.raises(ScoringError, match="margin must be"):
        nba.understudy(runs[0], runs[1:], margin=0)


def test_acceptance_sample():
    found = nba.acceptance_sample(20, 4, rates=(0.0, 0.2))
    assert found.rejects == {0.0: 0.0, 0.2: pytest.approx(float(stats.binom.sf(3, 20, 0.2)))}
    small = nba.acceptance_sample(20, 4, corpus=100, rates=(0.2,))
    assert small.rejects[0.2] == pytest.approx(float(stats.hypergeom.sf(3, 100, 20, 20)))
    with pytest.raises(ScoringError, match="c ≤ n"):
        nba.acceptance_sample(3, 4)
