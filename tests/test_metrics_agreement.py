"""Agreement of several coders and of sets of labels, against krippendorff, statsmodels and worked fractions."""

from __future__ import annotations

import math
from fractions import Fraction as Fr

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import ScoringError
from nbannot.measures import agreement
from nbannot.measures.agreement import CoderTotals, coder_agreement, value_counts
from nbannot.measures.set_distances import sets_agreement

CANON = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def test_krippendorff_2011_with_intervals():
    """The published example: .743 nominal, .815 ordinal, .849 interval; 11 of 12 units are pairable."""
    units = list(zip(*CANON, strict=True))
    for level, alpha in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        found = coder_agreement(units, level, n_resamples=200)["krippendorff_alpha"]
        assert found.value == pytest.approx(alpha, abs=5e-4)
        assert (found.n, found.n_answered) == (12, 11)
        assert found.ci_method == "jackknife t"
        assert found.ci_low < found.value < found.ci_high <= 1


def test_a_value_that_no_unit_changes_has_no_interval():
    """Two coders who never agree: alpha is the same without any one text, and rounding is no interval."""
    alpha = coder_agreement(["pq"] * 6, n_resamples=50)["krippendorff_alpha"]
    assert alpha.value == pytest.approx(-5 / 6)
    assert np.isnan([alpha.ci_low, alpha.ci_high]).all()
    assert alpha.ci_method == ""


def test_three_coders_by_hand():
    """aab, abb, aaa: agreeing pairs 1/3, 1/3, 1; shares a 2/3, b 1/3 -> (5/9 - 5/9) / (4/9) = 0."""
    found = coder_agreement(["aab", "abb", "aaa"], n_resamples=50)
    assert found["percent_agreement"].value == pytest.approx(5 / 9)
    assert found["fleiss_kappa"].value == pytest.approx(0, abs=1e-12)
    assert found["gwet_ac1"].value == pytest.approx(float((Fr(5, 9) - Fr(4, 9)) / (1 - Fr(4, 9))))


def test_no_variation_and_no_pairs():
    same = coder_agreement([[1, 1], [1, 1]], n_resamples=50)
    assert same["percent_agreement"].value == 1
    assert math.isnan(same["krippendorff_alpha"].value)
    assert same["krippendorff_alpha"].reason == "no variation"
    single = coder_agreement([[1, None], [None, 2]], n_resamples=50)
    assert single["krippendorff_alpha"].reason == "no unit with two ratings"


def test_a_share_has_no_limit_below_nothing():
    """Three units, two of which agree: the jackknife's t interval reaches -0.77, a share of pairs does not."""
    a, b = frozenset("a"), frozenset("b")
    for found in (coder_agreement(["aa", "ab", "bb"]), sets_agreement([[a, a], [a, b], [b, b]])):
        assert found["percent_agreement"].value == pytest.approx(2 / 3)
        assert (found["percent_agreement"].ci_low, found["percent_agreement"].ci_high) == (0, 1)


def test_unknown_value_and_level():
    with pytest.raises(ScoringError, match="unit 1 has the value 9"):
        value_counts([[1, 2], [9, 1]], [1, 2])
    with pytest.raises(
        ScoringError, match=r"level must be one of nominal, ordinal, interval, ratio\. Got 'ordinary'"
    ):
        coder_agreement([[1, 2]], "ordinary", n_resamples=5)


ratings = st.lists(
    st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=3, max_size=3), min_size=2, max_size=15
)


@settings(max_examples=150, deadline=None)
@given(ratings, st.sampled_from(agreement.LEVELS))
def test_alpha_equals_krippendorff(units, level):
    import krippendorff

    counts, values = value_counts(units)
    found = float(agreement.krippendorff_alpha(CoderTotals.of_counts(counts), level, values))
    data = np.array(units, dtype=float).T
    pairable = [value for unit in units if sum(v is not None for v in unit) > 1 for value in unit if value]
    if len(set(pairable)) < 2:
        assert math.isnan(found)
        return
    expected = krippendorff.alpha(data, level_of_measurement=level)
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=2, max_size=15), st.randoms())
def test_fleiss_equals_statsmodels_in_any_order_of_coders(units, rng):
    from statsmodels.stats.inter_rater import fleiss_kappa

    counts, _ = value_counts(units, (1, 2, 3))
    found = float(agreement.fleiss_kappa(CoderTotals.of_counts(counts)))
    if len({value for unit in units for value in unit}) == 1:
        assert math.isnan(found)
        return
    assert found == pytest.approx(fleiss_kappa(counts.astype(int)), abs=1e-12)
    shuffled = [rng.sample(unit, len(unit)) for unit in units]
    again = agreement.fleiss_kappa(CoderTotals.of_counts(value_counts(shuffled, (1, 2, 3))[0]))
    assert float(again) == pytest.approx(found, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=9, max_size=9).filter(lambda cells: sum(cells) > 2))
def test_kappa_error_equals_statsmodels(cells):
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.array(cells, dtype=float).reshape(3, 3)
    if (table.sum(0) > 0).sum() < 2 or (table.sum(1) > 0).sum() < 2:
        return
    squared = (np.arange(3.0)[:, None] - np.arange(3.0)) ** 2
    for weights, wt in ((None, None), (squared, "fc")):
        found = agreement.kappa_error(table, weights)
        expected = cohens_kappa(table, wt=wt)
        assert found.kappa == pytest.approx(expected.kappa, abs=1e-12)
        assert found.se == pytest.approx(math.sqrt(max(0, expected.var_kappa)), abs=1e-7)
        assert found.se_null == pytest.approx(math.sqrt(max(0, expected.var_kappa0)), abs=1e-7)


def test_agreement_offers_what_reviewers_ask_for():
    """Worked for 8 texts and 2 coders: po = 5/8; Scott's chance from the pooled shares 7/16, 6/16, 3/16."""
    import krippendorff
    import pandas as pd

    import nbannot as nba

    one, two = [1, 1, 1, 2, 2, 2, 3, 1], [1, 1, 2, 2, 2, 1, 3, 3]
    table = pd.DataFrame({"id": [f"t{i}" for i in range(8)], "ann": one, "bob": two})
    found = nba.agreement(table, level="ordinal", n_resamples=400)
    chance = (7**2 + 6**2 + 3**2) / 16**2
    pi = (5 / 8 - chance) / (1 - chance)
    frame = found.frame.set_index(["coder_a", "measure"])
    assert frame.loc[("all", "fleiss_kappa"), "value"] == pytest.approx(
        pi
    )  # the same for two complete coders
    assert frame.loc[("ann", "scott_pi"), "value"] == pytest.approx(pi)
    for name, level in (("krippendorff_alpha", "ordinal"), ("krippendorff_alpha_interval", "interval")):
        expected = krippendorff.alpha([one, two], level_of_measurement=level)
        assert frame.loc[("all", name), "value"] == pytest.approx(expected, abs=1e-12)
    # A share of n rows has the standard error sqrt(p (1 - p) / n); 400 resamples know it to some percent.
    assert frame.loc[("all", "percent_agreement"), "se"] == pytest.approx(
        math.sqrt(5 / 8 * 3 / 8 / 8), rel=0.15
    )
