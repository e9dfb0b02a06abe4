"""Comparison of runs: closed forms, exact and approximate randomisation, same rows, many runs, null behaviour."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import ScoringError
from nbannot.measures import significance as sig
from nbannot.measures.accounting import FieldData
from nbannot.measures.best_run import best_run_corrected
from nbannot.measures.field import score_field
from nbannot.measures.intervals import ONE_SIDED
from nbannot.measures.paired import adjust_family, compare_many, compare_two, paired
from nbannot.measures.paired_statistics import comparable_metrics, runs_statistics
from nbannot.measures.result import NAN

ABC = tuple("abc")
SCALE = (1, 2, 3, 4, 5)


def run(human, model, kind="dropdown", labels=ABC, **more) -> FieldData:
    return FieldData(kind, labels, list(human), list(model), **more)


def noisy(human, labels, right, rng, missing=0.03):
    """Answers that are right with this probability, sometimes missing."""
    return [
        h if rng.random() < right else None if rng.random() < missing else labels[rng.integers(len(labels))]
        for h in human
    ]


# --- closed forms ---------------------------------------------------------------------------------


def test_mcnemar_by_hand():
    """3 against 1: exact 2 (1 + 4) / 16, mid-p takes one 4/16 off; b = c = 1: mid-p 1 - (2/4) / 2."""
    found = sig.mcnemar(3, 1, 10)
    assert found.p_exact == pytest.approx(10 / 16)
    assert found.p_mid == pytest.approx(6 / 16)
    assert found.diff == pytest.approx(0.2)
    assert sig.mcnemar(1, 1, 10).p_mid == pytest.approx(3 / 4)
    assert sig.mcnemar(0, 0, 10).p_mid == 1
    # Bonett-Price: (4 - 2) / 12 and its adjusted Wald error
    half = 1.959964 * math.sqrt((4 / 12 + 2 / 12 - (2 / 12) ** 2) / 12)
    assert (found.ci_low, found.ci_high) == (pytest.approx(2 / 12 - half), pytest.approx(2 / 12 + half))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_exact_mcnemar_equals_statsmodels(b, c):
    from statsmodels.stats.contingency_tables import mcnemar

    if b + c == 0:
        return
    assert sig.mcnemar(b, c, 100).p_exact == pytest.approx(mcnemar([[10, b], [c, 10]], exact=True).pvalue)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_values_equal_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    names = {"holm": "holm", "bh": "fdr_bh", "by": "fdr_by", "bonferroni": "bonferroni"}
    for ours, theirs in names.items():
        assert sig.adjusted(p, ours) == pytest.approx(multipletests(p, method=theirs)[1], abs=1e-12)


def test_undefined_p_values_do_not_count():
    assert sig.adjusted([0.01, NAN, 0.02]).tolist() == pytest.approx([0.02, NAN, 0.02], nan_ok=True)
    with pytest.raises(ScoringError, match="method must be one of holm, bh, by, bonferroni"):
        sig.adjusted([0.1], "sidak")


def test_cochran_q_equals_statsmodels():
    from statsmodels.stats.contingency_tables import cochrans_q

    table = np.random.default_rng(1).random((50, 4)) < [0.5, 0.6, 0.7, 0.6]
    found = sig.cochran_q(table)
    expected = cochrans_q(table.astype(int))
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert math.isnan(sig.cochran_q(np.ones((5, 3))).p)


def test_detectable_difference_is_the_inverse_of_the_sample_size():
    for difference, discordant in ((0.05, 0.15), (0.03, 0.1), (0.02, 0.1)):
        n = sig.texts_to_detect(difference, discordant)
        assert sig.detectable_difference(n, discordant) == pytest.approx(difference, rel=2e-3)
    # without a discordant text so far, the difference is all the discordance there can be
    only = sig.detectable_difference(200, 0.0)
    assert sig.texts_to_detect(only, only) in (200, 201)
    assert math.isnan(sig.detectable_difference(3, 0.5))


# --- two runs -------------------------------------------------------------------------------------


def by_enumeration(human, a, b, metric):
    """Swap the answers in every possible way; the share of differences at least as large."""

    def value(model):
        return score_field(run(human, model), n_resamples=1).results[metric].value

    observed = abs(value(a) - value(b))
    differ = [i for i in range(len(human)) if a[i] != b[i]]
    far = 0
    for swaps in itertools.product((False, True), repeat=len(differ)):
        one, two = list(a), list(b)
        for i, swap in zip(differ, swaps, strict=True):
            if swap:
                one[i], two[i] = two[i], one[i]
        far += abs(value(one) - value(two)) >= observed - 1e-12
    return far / 2 ** len(differ)


@pytest.mark.parametrize("metric", ["f1_macro", "cohen_kappa", "krippendorff_alpha"])
def test_exact_randomisation_equals_full_enumeration(metric):
    human, a, b = "aabbccabca", "aabbcaabac", "abbbccacca"
    found = compare_two(run(human, a), run(human, b), metric, n_resamples=300)
    assert found.p_method == "exact randomisation"
    assert found.p == pytest.approx(by_enumeration(human, a, b, metric))
    assert found.n_discordant == sum(x != y for x, y in zip(a, b, strict=True))


def test_approximate_randomisation_comes_near_the_exact_p(monkeypatch):
    from nbannot.measures import pair_resampling

    human, a, b = "aabbccabcabc", "aabbcaabccbc", "abbbccaccabb"
    exact = compare_two(run(human, a), run(human, b), "f1_macro").p
    monkeypatch.setattr(pair_resampling, "EXHAUSTIVE", 1)
    found = compare_two(run(human, a), run(human, b), "f1_macro")
    assert found.p_method == "approximate randomisation"
    assert found.p == pytest.approx(exact, abs=0.02)


def test_accuracy_gets_mcnemar():
    human = ["a"] * 141
    a = ["a"] * 115 + ["b"] * 26
    b = ["a"] * 100 + ["b"] * 15 + ["a"] * 6 + ["b"] * 20
    found = compare_two(run(human, a), run(human, b), "accuracy", n_resamples=100)
    assert found.p == pytest.approx(0.0524788)
    assert found.p_method == "McNemar mid-p"
    assert (found.diff, found.n_discordant) == (pytest.approx(9 / 141), 21)
    assert (found.ci_low, found.ci_high) == (
        pytest.approx(-0.00198, abs=1e-5),
        pytest.approx(0.12785, abs=1e-5),
    )
    assert found.non_inferior(0.01)
    assert not found.non_inferior(0.001)


def test_a_missing_answer_is_wrong_in_both_runs():
    found = compare_two(
        run("aab", ["a", None, "b"]), run("aab", ["a", "a", None]), "accuracy", n_resamples=50
    )
    assert (found.value_a, found.value_b, found.n) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)


def test_equal_runs():
    found = compare_two(run("abab", "abba"), run("abab", "abba"), "f1_macro", n_resamples=100)
    assert (found.diff, found.p, found.n_discordant) == (0, 1, 0)
    assert math.isnan(found.ci_low)
    assert found.reason == "no interval: the difference is the same in nearly every resample"


@pytest.mark.parametrize("kind", ["checkbox", "dropdown", "likert", "textbox", "span"])
def test_values_equal_those_of_scoring(kind):
    """Every metric that can be compared gives each run the value that scoring gives it."""
    rng = np.random.default_rng(4)
    runs = _runs(kind, rng, 2, 60)
    for metric in comparable_metrics(kind):
        if metric.startswith(("rouge", "cosine", "bertscore")):
            continue
        found = compare_two(*runs, metric, n_resamples=200)
        for value, data in ((found.value_a, runs[0]), (found.value_b, runs[1])):
            scored = score_field(data, n_resamples=20)
            assert value == pytest.approx((scored.results | scored.extra)[metric].value, abs=1e-12), metric
        assert found.ci_low <= found.diff <= found.ci_high, metric
        assert 0 < found.p <= 1


def _runs(kind, rng, n_runs, n):
    if kind in ("checkbox", "dropdown", "likert"):
        labels = {"checkbox": (0, 1), "dropdown": ABC, "likert": SCALE}[kind]
        human = [labels[i] for i in rng.integers(0, len(labels), n)]
        return [run(human, noisy(human, labels, 0.6, rng, 0.2), kind, labels) for _ in range(n_runs)]
    words = ["tax", "cut", "rise", "health", "care", "now"]
    texts = [" ".join(words[i] for i in rng.integers(0, 6, 8)) for _ in range(n)]
    if kind == "textbox":
        human = ["" if rng.random() < 0.1 else text for text in texts]
        models = [
            [None if rng.random() < 0.1 else text[int(rng.integers(0, 20)) :] for text in human]
            for _ in range(n_runs)
        ]
        return [run(human, model, "textbox", ()) for model in models]
    human = [_spans(rng) for _ in range(n)]
    return [
        run(
            human,
            [h if rng.random() < 0.5 else None if rng.random() < 0.1 else _spans(rng) for h in human],
            "span",
            ("x", "y"),
            texts=texts,
        )
        for _ in range(n_runs)
    ]


def _spans(rng):
    starts = rng.integers(0, 15, rng.integers(0, 3)).tolist()
    return [(start, start + int(rng.integers(1, 7)), "xy"[int(rng.integers(2))]) for start in starts]


# --- pairing, clusters ----------------------------------------------------------------------------


def test_pairing_narrows_the_interval():
    """Two good runs with nearly the same errors differ far less than their own intervals are wide."""
    rng = np.random.default_rng(8)
    human = [ABC[i] for i in rng.integers(0, 3, 500)]
    a = noisy(human, ABC, 0.7, rng)
    b = [m if rng.random() < 0.95 else ABC[rng.integers(3)] for m in a]
    pair = compare_two(run(human, a), run(human, b), "f1_macro", n_resamples=2_000)
    alone = score_field(run(human, a), n_resamples=2_000).results["f1_macro"]
    assert pair.ci_high - pair.ci_low < 0.6 * (alone.ci_high - alone.ci_low)


def test_clusters_are_exchanged_and_drawn_whole():
    """All rows of a document agree in who is right: eight documents decide, not eighty rows."""
    human = ["a"] * 80
    a = ["a" if row // 10 < 6 else "b" for row in range(80)]
    b = ["a" if row // 10 >= 6 else "b" for row in range(80)]
    rows = compare_two(run(human, a), run(human, b), "accuracy")
    docs = [row // 10 for row in range(80)]
    clustered = compare_two(run(human, a, clusters=docs), run(human, b, clusters=docs), "accuracy")
    assert rows.p < 1e-5
    # 6 against 2 of 8: |6 - 2| or more, both sides: 2 (1 + 8 + 28) / 256
    assert clustered.p == pytest.approx(2 * 37 / 256)
    assert clustered.p_method == "exact randomisation"
    assert clustered.n_clusters == 8
    assert clustered.reason == "only 8 clusters: interval and p may be too optimistic"


def test_weights_enter_the_difference():
    human, a, b = "aabb", "aaab", "abbb"
    weights = np.array([1.0, 5.0, 2.0, 1.0])
    found = compare_two(
        run(human, a, weights=weights), run(human, b, weights=weights), "accuracy", n_resamples=200
    )
    assert found.diff == pytest.approx((1 + 5 + 1) / 9 - (1 + 2 + 1) / 9)
    assert found.p_method == "exact randomisation"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (run("aab", "aab"), "3 rows instead of 4"),
        (run("aabb", "aaaa", labels=tuple("ab")), "another field type or other labels"),
        (run(["a", "a", "b", None], "aaaa"), r"other rows with a human label \(rows 3\)"),
        (run("aaba", "aaaa"), "other human labels"),
        (run("aabb", "aaaa", clusters=[1, 1, 2, 2]), "other clusters or weights"),
    ],
)
def test_runs_on_different_rows_are_refused(other, reason):
    with pytest.raises(ScoringError, match=f"the runs are not on the same rows: run 1 has {reason}"):
        compare_two(run("aabb", "aabb"), other, "accuracy")


def test_unknown_metric_and_single_run():
    with pytest.raises(
        ScoringError, match="unknown metric 'f1_makro' for a dropdown; did you mean 'f1_macro'"
    ):
        compare_two(run("ab", "ab"), run("ab", "ab"), "f1_makro")
    with pytest.raises(ScoringError, match=r"at least two runs\. Got 1"):
        compare_many([run("ab", "ab")], "accuracy")


# --- many runs ------------------------------------------------------------------------------------


def test_many_runs_rank_and_say_who_is_not_distinguishable():
    rng = np.random.default_rng(2)
    human = [ABC[i] for i in rng.integers(0, 3, 400)]
    runs = [run(human, noisy(human, ABC, right, rng)) for right in (0.9, 0.89, 0.4)]
    names = ("good", "as good", "bad")
    found = compare_many(runs, "f1_macro", n_resamples=2_000, names=names)
    assert [(pair.run_a, pair.run_b) for pair in found.pairs] == list(itertools.combinations(names, 2))
    assert found.not_distinguishable == (0, 1)
    assert found.best in (0, 1)
    assert all(pair.run_a == names[found.best] for pair in found.to_best)
    for pair in found.pairs:
        alone = compare_two(
            *(runs[names.index(name)] for name in (pair.run_a, pair.run_b)), "f1_macro", n_resamples=2_000
        )
        assert pair.diff == pytest.approx(alone.diff)
        assert pair.ci_low <= alone.ci_low + 0.01
        assert pair.p == pytest.approx(alone.p, abs=0.05)
    holm = sig.adjusted([pair.p for pair in found.pairs])
    assert [pair.p_adjusted for pair in found.pairs] == pytest.approx(holm.tolist())
    accuracy = compare_many(runs, "accuracy", n_resamples=100)
    assert accuracy.cochran.df == 2
    assert accuracy.cochran.p < 1e-6


def test_lower_is_better_for_errors():
    human = [1, 2, 3, 4, 5] * 20
    near, far = [min(5, h + 1) for h in human], [min(5, h + 2) for h in human]
    for metric in ("mae", "bias"):
        found = compare_many([run(human, m, "likert", SCALE) for m in (far, near)], metric, n_resamples=500)
        assert found.best == 1
        assert found.not_distinguishable == (1,)


def test_a_run_without_a_value_is_named_not_ranked():
    human = [1, 2, 3, 4] * 5
    runs = [run(human, m, "likert", SCALE) for m in ([*human[1:], 1], [3] * 20)]
    found = compare_many(runs, "spearman_corr", n_resamples=200)
    assert found.pairs[0].reason == "not defined for one of the runs"
    assert math.isnan(found.pairs[0].p_adjusted)
    assert found.not_distinguishable == (0,)


def test_adjusting_over_several_metrics():
    human = "aabbccabca" * 4
    runs = [run(human, "aabbcaabac" * 4), run(human, human)]
    metrics = ("accuracy", "f1_macro", "mcc")
    found = adjust_family([paired(runs, m, n_resamples=300) for m in metrics])
    pairs = [one.pairs[0] for one in found]
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(
        sig.adjusted([compare_two(*runs, m, n_resamples=300).p for m in metrics]).tolist()
    )
    # 12 of 40 texts are wrong in the one run and none in the other: mid-p = .5 ** 12 is the smallest, so that its
    # interval is the one of level 1 - .05 / 3
    assert pairs[0].ci_level == pytest.approx(1 - 0.05 / 3)
    wide, plain = pairs[0], compare_two(*runs, "accuracy")
    assert wide.ci_low < plain.ci_low
    assert plain.ci_high < wide.ci_high
    assert plain.ci_level == 0.95


@pytest.mark.parametrize("method", ["holm", "bh", "bonferroni"])
def test_an_interval_holds_0_exactly_where_p_does_not_tell_two_runs_apart(method):
    rng = np.random.default_rng(11)
    seen = {True: 0, False: 0}
    for _ in range(12):
        human = rng.integers(1, 6, 60).tolist()
        skill = rng.uniform(0.3, 0.85, 4)
        runs = [run(human, noisy(human, SCALE, s, rng), "likert", SCALE) for s in skill]
        metrics = ("accuracy", "quadratic_kappa", "mae", "f1_macro")
        for one in adjust_family([paired(runs, m, n_resamples=2_000) for m in metrics], method):
            for pair in (*one.pairs, *one.to_best):
                different = pair.p_adjusted < 0.05
                assert (pair.ci_low <= 0 <= pair.ci_high) != different, (method, pair)
                assert pair.ci_low <= pair.diff <= pair.ci_high
                seen[different] += 1
            told = {pair.run_b for pair in one.to_best if pair.p_adjusted < 0.05}
            assert told.isdisjoint(one.runs[i] for i in one.not_distinguishable)
    assert min(seen.values()) > 20


def test_two_equally_good_runs_are_rarely_called_different():
    """A null simulation: at most 7 % of 1,000 pairs of equally good runs differ at the 5 % level."""
    rng = np.random.default_rng(6)
    rejected = {"accuracy": 0, "f1_macro": 0}
    for _ in range(1_000):
        human = [ABC[i] for i in rng.integers(0, 3, 80)]
        runs = [run(human, noisy(human, ABC, 0.7, rng)) for _ in range(2)]
        for metric in rejected:
            rejected[metric] += compare_two(*runs, metric, n_resamples=199).p <= 0.05
    assert 10 <= rejected["accuracy"] <= 70
    assert 10 <= rejected["f1_macro"] <= 70


def test_the_best_of_many_equal_runs_is_corrected_downwards():
    rng = np.random.default_rng(9)
    human = [ABC[i] for i in rng.integers(0, 3, 200)]
    runs = [run(human, noisy(human, ABC, 0.7, rng)) for _ in range(15)]
    found = best_run_corrected(runs, "accuracy", n_resamples=400)
    values = [score_field(r, n_resamples=1).results["accuracy"].value for r in runs]
    assert found.selected_on == pytest.approx(max(values))
    assert found.corrected < found.selected_on - 0.01
    assert found.corrected == pytest.approx(np.mean(values), abs=0.03)
    assert sum(found.chosen_share) == pytest.approx(1)


def test_statistics_are_additive():
    """The statistics of two halves of the rows add up to those of all rows."""
    rng = np.random.default_rng(3)
    for kind in ("dropdown", "likert", "textbox", "span"):
        data = _runs(kind, rng, 1, 40)[0]
        metric = {"textbox": "bleu", "span": "token_f1"}.get(kind, "f1_macro")
        stats = runs_statistics([data], metric)[0]
        value = stats.formula(stats.rows[:20].sum(0) + stats.rows[20:].sum(0))
        assert float(value) == pytest.approx(score_field(data, n_resamples=1).results[metric].value)


def test_runs_that_answered_nothing_have_no_rank_correlation():
    human = [1, 2, 3, 4]
    found = compare_two(*(run(human, [None] * 4, "likert", SCALE) for _ in range(2)), "spearman_corr")
    assert math.isnan(found.diff)
    assert found.reason == "not defined for one of the runs"


def test_the_interval_of_a_difference_holds_the_difference():
    """Twenty rare labels: most resamples lack some, so that nearly all differences are smaller than the real one."""
    labels = tuple(map(str, range(20)))
    human = [label for label in labels for _ in range(30 if label == "0" else 1)]
    lazy = ["0"] * len(human)
    found = compare_two(
        FieldData("dropdown", labels, human, human),
        FieldData("dropdown", labels, human, lazy),
        "f1_macro",
        n_resamples=500,
    )
    assert found.ci_low < found.diff == found.ci_high
    assert found.reason == ONE_SIDED
