"""Label metrics: worked fractions, edge cases, row accounting, and equality with the reference packages."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction as Fr

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import ScoringError
from nbannot.measures import classification as cls
from nbannot.measures import ordinal
from nbannot.measures.accounting import STATUS_NAMES, FieldData
from nbannot.measures.field import score_field
from nbannot.measures.label_field import LABEL_NAMES, LIKERT_NAMES
from nbannot.measures.result import NAN, FieldScore

LABELS = ("anti", "neutral", "pro", "unclear")
HUMAN = [LABELS[i] for i in (2, 2, 0, 1, 1, 0, 2, 1, 0, 2, 1, 1)]
MODEL = [LABELS[i] if i < 4 else None for i in (2, 1, 0, 1, 2, 0, 2, 3, 4, 2, 1, 4)]


def score(human, model, labels=LABELS, kind="dropdown", **more) -> FieldScore:
    data = FieldData(kind, tuple(labels), human, list(model), **more)
    return score_field(data, n_resamples=200)


def value(result: FieldScore, name: str) -> float:
    return (result.results | result.extra)[name].value


# --- worked by hand -------------------------------------------------------------------------------


def test_twelve_texts_by_hand():
    """Humans: anti 3, neutral 5, pro 4. Model: anti 2, neutral 3, pro 4, unclear 1, two missing."""
    found = score(HUMAN, MODEL)
    f1 = {"anti": Fr(2 * 2, 3 + 2), "neutral": Fr(2 * 2, 5 + 3), "pro": Fr(2 * 3, 4 + 4)}
    expected = {
        "accuracy": Fr(7, 12),
        "percentage_agreement": Fr(7, 12),
        "accuracy_answered": Fr(7, 10),
        "f1_macro": sum(f1.values()) / 3,
        "precision_macro": (Fr(2, 2) + Fr(2, 3) + Fr(3, 4)) / 3,
        "recall_macro": (Fr(2, 3) + Fr(2, 5) + Fr(3, 4)) / 3,
        "f1_weighted": (3 * f1["anti"] + 5 * f1["neutral"] + 4 * f1["pro"]) / 12,
        "f1_micro": Fr(2 * 7, 12 + 10),
        # chance: (3*2 + 5*3 + 4*4) / 144; the two missing rows add nothing to it
        "cohen_kappa": (Fr(7, 12) - Fr(37, 144)) / (1 - Fr(37, 144)),
        "coverage": Fr(10, 12),
        "invalid_rate": Fr(2, 12),
        "baseline_accuracy": Fr(5, 12),
        "baseline_f1_macro": Fr(2 * 5, 5 + 12) / 3,
    }
    for name, fraction in expected.items():
        assert value(found, name) == pytest.approx(float(fraction), abs=1e-12), name
    assert found.results["accuracy"].n == 12
    assert found.results["accuracy"].n_answered == 10
    assert found.results["f1_macro"].labels_used == ("anti", "neutral", "pro")


def test_per_class_table():
    found = {row["label"]: row for row in score(HUMAN, MODEL).per_class}
    assert [found[label]["support"] for label in LABELS] == [3, 5, 4, 0]
    assert [found[label]["predicted"] for label in LABELS] == [2, 3, 4, 1]
    unclear = found["unclear"]
    assert unclear["precision"] == 0
    assert math.isnan(unclear["recall"])
    assert unclear["recall_reason"] == "no human instance"
    assert unclear["f1"] == 0
    assert unclear["reason"] == "predicted 1 times, never used by humans"
    assert found["anti"]["reason"] == "too few to estimate (n=3)"
    low, high = found["anti"]["recall_ci_low"], found["anti"]["recall_ci_high"]
    # Wilson for 2 of 3: centre (2/3 + z2/6) / (1 + z2/3), z2 = 3.8415
    assert (low, high) == (pytest.approx(0.20766, abs=1e-5), pytest.approx(0.93851, abs=1e-5))


def test_never_predicted_class():
    """a a b answered a a a: precision of b is not defined but counts 0 in the macro: (2/3 + 0) / 2."""
    found = score(list("aab"), list("aaa"), "ab")
    assert value(found, "precision_macro") == pytest.approx(1 / 3)
    assert value(found, "f1_macro") == pytest.approx((4 / 5 + 0) / 2)
    assert found.per_class[1]["f1"] == 0
    assert math.isnan(found.per_class[1]["precision"])
    assert found.per_class[1]["precision_reason"] == "never predicted"


def test_macro_goes_over_human_labels_not_over_stray_predictions():
    human = ["a"] * 10 + ["b"] * 10
    model_a, model_b = list(human), list(human)
    model_a[9], model_b[9] = "b", "c"
    assert value(score(human, model_a, "abc"), "f1_macro") == pytest.approx((18 / 19 + 20 / 21) / 2)
    assert value(score(human, model_b, "abc"), "f1_macro") == pytest.approx((18 / 19 + 1) / 2)


def test_kappa_paradox_needs_the_other_numbers():
    """118 5 / 2 0: agreement .944, kappa below 0, AC1 .94."""
    found = score(*_pairs([[118, 5], [2, 0]]), (0, 1), "checkbox")
    chance = Fr(123 * 120 + 2 * 5, 125 * 125)
    assert value(found, "cohen_kappa") == pytest.approx(float((Fr(118, 125) - chance) / (1 - chance)))
    share = Fr(123 + 120, 250)
    chance = 2 * share * (1 - share)
    assert value(found, "gwet_ac1") == pytest.approx(float((Fr(118, 125) - chance) / (1 - chance)))
    assert value(found, "pabak") == pytest.approx(2 * 118 / 125 - 1)
    assert any(note.startswith("Imbalanced: 98%") for note in found.notes)


def test_alpha_nominal_by_hand():
    """Krippendorff 2011, section A: 10 units, 4 disagree; D_o = 8/20, values 14 x 0 and 6 x 1, alpha .095."""
    one, two = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    expected = 1 - Fr(19 * 4, 14 * 6)
    assert value(score(one, two, (0, 1), "checkbox"), "krippendorff_alpha") == pytest.approx(float(expected))


def test_likert_shift_is_seen_by_bias_not_by_spearman():
    human, model = [1, 2, 3, 4, 1, 2, 3, 4, 5, 3], [2, 3, 4, 5, 2, 3, 4, 5, 5, 3]
    found = score(human, model, range(1, 6), "likert")
    assert value(found, "bias") == pytest.approx(0.8)
    assert value(found, "mae") == pytest.approx(0.8)
    assert value(found, "within_one") == 1
    assert value(found, "accuracy") == pytest.approx(0.2)
    # sum of squared differences 8; expected: sum over all pairs of (h - m)^2, 344 / 10
    assert value(found, "quadratic_kappa") == pytest.approx(1 - 8 / 34.4)


# --- undefined values and intervals ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("human", "model", "kappa", "alpha", "reason"),
    [
        ("aaaaa", "aaaaa", NAN, NAN, "no variation"),
        ("aaaaa", "bbbbb", 0, -0.8, ""),
        ("aabba", "aaaaa", 0, -0.125, ""),
        ("", "", NAN, NAN, "no human labels"),
    ],
)
def test_degenerate_kappa_and_alpha(human, model, kappa, alpha, reason):
    found = score(list(human), list(model), "ab").results
    assert found["cohen_kappa"].value == pytest.approx(kappa, nan_ok=True)
    assert found["krippendorff_alpha"].value == pytest.approx(alpha, nan_ok=True)
    if reason:
        assert found["cohen_kappa"].reason == reason
        assert math.isnan(found["cohen_kappa"].ci_low)


def test_nobody_answered():
    found = score([1, 2, 3, 3], [None] * 4, range(1, 6), "likert").results
    assert found["accuracy"].value == 0
    assert found["f1_macro"].value == 0
    assert found["coverage"].value == 0
    for name in ("spearman_corr", "quadratic_kappa", "krippendorff_alpha", "mae", "bias", "within_one"):
        assert math.isnan(found[name].value)
        assert found[name].reason == "no answer"


def test_no_rows_at_all():
    found = score([], [])
    assert {result.reason for result in found.results.values()} == {"no human labels"}
    assert all(math.isnan(result.value) for result in found.results.values())


def test_perfect_agreement_has_wilson_and_no_zero_width_interval():
    found = score(["a", "b"] * 25, ["a", "b"] * 25, "ab").results
    assert found["accuracy"].ci_low == pytest.approx(0.9286524, abs=1e-6)
    assert found["accuracy"].ci_high == 1
    for name in ("f1_macro", "cohen_kappa", "krippendorff_alpha", "mcc", "gwet_ac1"):
        assert found[name].value == 1
        assert math.isnan(found[name].ci_low)
        assert found[name].reason.endswith("no interval: the value is the same in nearly every resample")


@pytest.mark.parametrize("kind", ["dropdown", "likert"])
def test_every_number_has_an_interval_or_a_reason(kind):
    rng = np.random.default_rng(5)
    human = rng.integers(1, 6, 80).tolist()
    model = [None if rng.random() < 0.1 else min(5, h + int(rng.random() < 0.3)) for h in human]
    found = score(human, model, range(1, 6), kind)
    assert tuple(found.results) == (LIKERT_NAMES if kind == "likert" else LABEL_NAMES)
    for name, result in (found.results | found.extra).items():
        assert result.ci_low <= result.value <= result.ci_high or "no interval" in result.reason, name
        assert result.ci_method
        assert "seed 1" in result.conventions
        assert result.n == 80


OLDER = "accuracy precision_macro recall_macro f1_macro percentage_agreement cohen_kappa krippendorff_alpha"
OURS = "f1_weighted balanced_accuracy mcc gwet_ac1 coverage invalid_rate baseline_accuracy baseline_f1_macro"


def test_contract_names_and_order():
    assert " ".join(LABEL_NAMES) == f"{OLDER} {OURS}"
    assert " ".join(LIKERT_NAMES) == f"{OLDER} spearman_corr quadratic_kappa {OURS} mae bias within_one"


def test_small_class_is_flagged():
    human = ["a"] * 40 + ["b"] * 3
    found = score(human, ["a"] * 41 + ["b"] * 2, "abc")
    assert found.results["f1_macro"].reason == "interval unreliable: class b has n=3"
    assert "Interval for macro F1 unreliable: class b has n=3." in found.notes


# --- row accounting -------------------------------------------------------------------------------


def test_conditional_field_eight_rows():
    """Stance asked only when the gate is open; the human opens 5 gates, the run 6 (one of them in vain)."""
    human = ["pro", "anti", "pro", None, None, None, "anti", "neutral"]
    model = ["pro", "pro", None, None, "anti", None, "anti", None]
    human_gate = np.array([1, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    model_gate = np.array([1, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
    found = score(
        human, model, ("anti", "neutral", "pro"), human_applies=human_gate, model_applies=model_gate
    )
    assert {name: found.counts[name] for name in STATUS_NAMES} == {
        "scored": 3,
        "missing": 1,
        "no_reference": 0,
        "na_na": 2,
        "missed_gate": 1,
        "spurious": 1,
    }
    expected = {
        "accuracy": 2 / 5,
        "f1_macro": (2 / 3 + 0 + 1 / 2) / 3,
        "accuracy_given_both": 2 / 4,
        "accuracy_end_to_end": 4 / 8,
        "f1_macro_end_to_end": (1 / 2 + 0 + 1 / 2) / 3,
        "cohen_kappa_end_to_end": (1 / 2 - 17 / 64) / (1 - 17 / 64),
        "gate_accuracy": 6 / 8,
        "gate_kappa": (6 / 8 - 34 / 64) / (1 - 34 / 64),
        "coverage": 3 / 5,
        "invalid_rate": 1 / 5,
    }
    for name, number in expected.items():
        assert value(found, name) == pytest.approx(number), name
    assert found.confusion.tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 2]]


def test_reasons_of_missing_answers():
    found = score(
        list("abab"),
        ["a", None, "other", None],
        "ab",
        missing_reason=["", "refused", "", ""],
    )
    assert found.missing_by_reason == {"refused": 1, "invalid: not an option": 1, "no answer": 1}
    assert found.counts["missing"] == 3


def test_values_that_are_no_labels_at_all_are_missing():
    found = score(["a", "b", "a"], [["a"], float("nan"), {"x": 1}], "ab")
    assert found.missing_by_reason == {"invalid: not an option": 2, "no answer": 1}


def test_rows_without_a_human_label_are_left_out():
    found = score(["a", None, "b"], ["a", "b", None], "ab")
    assert found.counts["no_reference"] == 1
    assert found.results["accuracy"].n == 2
    assert found.results["accuracy"].value == 0.5


def test_human_label_outside_the_codebook_stops():
    with pytest.raises(ScoringError, match=r"2 human labels are not in the codebook: 'x'.*\n.*rows: 1, 3"):
        score(list("axbx"), list("aabb"), "ab")


def test_columns_of_different_length_are_refused():
    with pytest.raises(ScoringError, match="`model` has 1 rows; the human labels have 2"):
        FieldData("dropdown", ("a",), ["a", "a"], ["a"])


def test_coded_input_gives_the_same_numbers():
    position = {label: i for i, label in enumerate(LABELS)}
    coded = FieldData(
        "dropdown",
        LABELS,
        human_codes=np.array([position[h] for h in HUMAN], dtype=np.int32),
        model_codes=np.array([position.get(m, -1) for m in MODEL], dtype=np.int32),
    )
    # As text: no number equals what is not a number, since Python 3.13 in objects that hold one either.
    assert repr(score_field(coded, n_resamples=200).results) == repr(score(HUMAN, MODEL).results)


def test_labels_named_like_missing_values_are_labels():
    found = score(["None", "NA", "None"], ["None", "NA", "NA"], ("None", "NA"))
    assert found.results["accuracy"].value == pytest.approx(2 / 3)
    assert found.counts["missing"] == 0


# --- clusters and weights -------------------------------------------------------------------------


def test_clusters_widen_the_interval_and_say_when_they_are_few():
    rng = np.random.default_rng(3)
    human, model, cluster = [], [], []
    for group in range(40):
        right = rng.random() < 0.5
        for _ in range(10):
            label = "ab"[rng.integers(2)]
            human.append(label)
            model.append(label if right else "ab"[label == "a"])
            cluster.append(f"doc{group}")
    rows = score(human, model, "ab").results["accuracy"]
    docs = score(human, model, "ab", clusters=cluster).results["accuracy"]
    assert docs.value == rows.value
    assert docs.n_clusters == 40
    assert docs.ci_method == "cluster bootstrap"
    # everything right or wrong together: the standard error is that of 40 documents, sqrt(10) times as wide
    assert (docs.ci_high - docs.ci_low) / (rows.ci_high - rows.ci_low) == pytest.approx(
        math.sqrt(10), rel=0.1
    )
    few = score(human[:120], model[:120], "ab", clusters=cluster[:120]).results["accuracy"]
    assert few.ci_method == "jackknife t"
    assert few.reason == "only 12 clusters: the interval may be too narrow"


def test_weights_are_inverse_sampling_probabilities():
    """Weight 3 on one row is that row three times."""
    human, model = list("aabbab"), list("abbaab")
    weights = np.array([3, 1, 2, 1, 1, 1.0])
    repeated = [i for i, w in enumerate(weights) for _ in range(int(w))]
    weighted = score(human, model, "ab", weights=weights).results
    plain = score([human[i] for i in repeated], [model[i] for i in repeated], "ab").results
    for name in LABEL_NAMES:
        assert weighted[name].value == pytest.approx(plain[name].value), name
    assert weighted["accuracy"].ci_method == "multinomial bootstrap"
    assert weighted["accuracy"].n == 6


# --- reference packages ---------------------------------------------------------------------------

tables = st.integers(2, 5).flatmap(
    lambda k: st.lists(
        st.tuples(st.integers(0, k - 1), st.one_of(st.none(), st.integers(0, k - 1))), min_size=1, max_size=40
    ).map(lambda rows: (k, rows))
)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_label_metrics_equal_scikit_learn(case):
    from sklearn import metrics as sk

    k, rows = case
    human, model = [h for h, _ in rows], [k if m is None else m for _, m in rows]
    c = cls.label_counts(_table(rows, k)[None])
    used = sorted(set(human))
    average = {"labels": used, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(human, model),
            "precision_macro": sk.precision_score(human, model, average="macro", **average),
            "recall_macro": sk.recall_score(human, model, average="macro", **average),
            "f1_macro": sk.f1_score(human, model, average="macro", **average),
            "f1_weighted": sk.f1_score(human, model, average="weighted", **average),
            "cohen_kappa": sk.cohen_kappa_score(human, model, labels=range(k + 1)),
        }
        if len(used) > 1 and len(set(model)) > 1:
            expected["mcc"] = sk.matthews_corrcoef(human, model)
    for name, number in expected.items():
        assert cls.LABEL_METRICS[name](c)[0] == pytest.approx(number, abs=1e-12, nan_ok=True), name
    assert cls.accuracy(c)[0] == pytest.approx(
        np.nan_to_num(cls.accuracy(c.answered())[0]) * cls.coverage(c)[0], abs=1e-12
    )


@settings(max_examples=150, deadline=None)
@given(tables)
def test_alpha_and_rank_metrics_equal_krippendorff_scipy_and_scikit_learn(case):
    import krippendorff
    from scipy import stats
    from sklearn import metrics as sk

    k, rows = case
    human = [float(h + 1) for h, _ in rows]
    model = [NAN if m is None else m + 1.0 for _, m in rows]
    square = _table(rows, k)[None, :, :k]
    points = np.arange(1.0, k + 1)
    found = {
        "nominal": cls.alpha_nominal(cls.label_counts(_table(rows, k)[None]))[0],
        "ordinal": ordinal.alpha_ordinal(square)[0],
        "interval": ordinal.alpha_interval(square, points)[0],
    }
    for level, number in found.items():
        expected = NAN
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len({v for h, m in zip(human, model, strict=True) if m == m for v in (h, m)}) > 1:
                expected = krippendorff.alpha([human, model], level_of_measurement=level)
        assert number == pytest.approx(expected, abs=1e-12, nan_ok=True), level
    pairs = [(h, m) for h, m in zip(human, model, strict=True) if m == m]
    if not pairs:
        return
    one, two = (list(side) for side in zip(*pairs, strict=True))
    scale = range(1, k + 1)
    whole = {"labels": scale}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = len(one) > 1
        expected = [
            (
                ordinal.quadratic_kappa(square, points),
                sk.cohen_kappa_score(one, two, weights="quadratic", **whole),
            ),
            (ordinal.linear_kappa(square, points), sk.cohen_kappa_score(one, two, weights="linear", **whole)),
            (ordinal.spearman(square), stats.spearmanr(one, two).statistic if several else NAN),
            (ordinal.kendall_tau_b(square), stats.kendalltau(one, two).statistic if several else NAN),
            (ordinal.mean_absolute_error(square, points), sk.mean_absolute_error(one, two)),
        ]
    for number, reference in expected:
        assert number[0] == pytest.approx(reference, abs=1e-12, nan_ok=True)


# --- properties -----------------------------------------------------------------------------------

NOMINAL = (
    *("accuracy", "precision_macro", "recall_macro", "f1_macro", "cohen_kappa", "krippendorff_alpha"),
    *("f1_weighted", "mcc", "gwet_ac1", "coverage", "baseline_accuracy", "baseline_f1_macro"),
)
SYMMETRIC = ("accuracy", "cohen_kappa", "krippendorff_alpha", "mcc", "gwet_ac1")
NEVER_RAISED = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "coverage")


@settings(max_examples=100, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_renaming_labels_changes_nothing(case, random):
    k, rows = case
    names = list(range(k))
    random.shuffle(names)
    renamed = [(names[h], None if m is None else names[m]) for h, m in rows]
    before, after = (cls.label_counts(_table(r, k)[None]) for r in (rows, renamed))
    for name in NOMINAL:
        metric = cls.LABEL_METRICS[name]
        assert metric(after)[0] == pytest.approx(metric(before)[0], abs=1e-12, nan_ok=True), name


@settings(max_examples=100, deadline=None)
@given(tables)
def test_exchanging_the_coders_changes_nothing_without_missing_answers(case):
    k, rows = case
    complete = [(h, m) for h, m in rows if m is not None]
    before, after = _table(complete, k)[None], _table([(m, h) for h, m in complete], k)[None]
    for name in SYMMETRIC:
        metric = cls.LABEL_METRICS[name]
        one, two = (metric(cls.label_counts(table))[0] for table in (before, after))
        assert one == pytest.approx(two, abs=1e-12, nan_ok=True), name
    points = np.arange(k, dtype=float)
    for metric in (ordinal.spearman, ordinal.alpha_ordinal, ordinal.kendall_tau_b):
        one, two = (metric(table[..., :k])[0] for table in (before, after))
        assert one == pytest.approx(two, abs=1e-12, nan_ok=True)
    one, two = (ordinal.quadratic_kappa(table[..., :k], points)[0] for table in (before, after))
    assert one == pytest.approx(two, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(0, 4), min_size=2, max_size=30))
def test_perfect_agreement_is_one(k, labels):
    labels = [label % k for label in labels]
    c = cls.label_counts(_table([(label, label) for label in labels], k)[None])
    varied = len(set(labels)) > 1
    for name in ("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_weighted", "gwet_ac1"):
        assert cls.LABEL_METRICS[name](c)[0] == pytest.approx(1, abs=1e-12)
    for name in ("cohen_kappa", "krippendorff_alpha", "mcc"):
        assert cls.LABEL_METRICS[name](c)[0] == pytest.approx(1 if varied else NAN, abs=1e-12, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(tables, st.integers(0, 4))
def test_an_unanswered_row_never_raises_a_strict_value(case, label):
    """True for these; not for kappa, AC1, MCC and weighted F1, whose chance term or weights move as well."""
    k, rows = case
    before, after = (cls.label_counts(_table(r, k)[None]) for r in (rows, [*rows, (label % k, None)]))
    for name in NEVER_RAISED:
        assert cls.LABEL_METRICS[name](after)[0] <= cls.LABEL_METRICS[name](before)[0] + 1e-12, name


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", None]),
            st.sampled_from(["a", "b", None, "zzz"]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_the_audit_line_adds_up(rows):
    human, model, human_gate, model_gate = (
        (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 4
    )
    data = FieldData(
        "dropdown",
        ("a", "b"),
        human,
        model,
        human_applies=np.array(human_gate, dtype=bool),
        model_applies=np.array(model_gate, dtype=bool),
    )
    found = score_field(data, n_resamples=20)
    assert found.counts["n_rows"] == len(rows) == sum(found.counts[name] for name in STATUS_NAMES)
    assert sum(found.missing_by_reason.values()) == found.counts["missing"]
    assert found.confusion.sum() == len(rows) - found.counts["no_reference"]


def _pairs(table):
    """Return human and model labels 0..K-1 that give this table."""
    cells = [(h, m) for h, row in enumerate(table) for m, count in enumerate(row) for _ in range(count)]
    return [h for h, _ in cells], [m for _, m in cells]


def _table(rows, k):
    """Return the (K, K+1) table of (human, model or None) pairs, counted one by one."""
    table = np.zeros((k, k + 1))
    for human, model in rows:
        table[human, k if model is None else model] += 1
    return table


def test_every_interval_holds_its_value_and_says_how_it_was_made():
    import random

    from nbannot.measures.intervals import ONE_SIDED

    rng = random.Random(5)
    extended = 0
    for _ in range(60):
        n, k = rng.randint(5, 40), rng.choice([2, 5, 20])
        labels = tuple("abcdefghijklmnopqrst"[:k])
        human = rng.choices(labels, [rng.random() ** 4 + 0.001 for _ in labels], k=n)
        model = [rng.choice([h, h, h, rng.choice(labels), None]) for h in human]
        score = score_field(FieldData("dropdown", labels, human, model), n_resamples=200)
        for result in (*score.results.values(), *score.extra.values()):
            if math.isnan(result.ci_low):
                assert result.reason
                assert not result.ci_method
            else:
                assert result.ci_method
                assert result.ci_low - 1e-9 <= result.value <= result.ci_high + 1e-9
            extended += ONE_SIDED in result.reason
    assert extended


def test_an_interval_of_a_few_answered_texts_is_called_unreliable():
    """Two answers of twenty have three possible resamples: their percentiles are no interval of anything."""
    human = [1, 2, 3, 4, 5] * 4
    score = score_field(FieldData("likert", (1, 2, 3, 4, 5), human, [2, 2, *[None] * 18]), n_resamples=200)
    for name in ("mae", "bias", "quadratic_kappa"):
        assert "interval unreliable: only 2 of 20 texts answered" in score.results[name].reason
    all_of_few = score_field(FieldData("likert", (1, 2, 3, 4, 5), [1, 5, 3], [2, 4, 3]), n_resamples=200)
    assert "answered" not in all_of_few.results["mae"].reason
