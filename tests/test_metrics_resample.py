"""Intervals: Wilson, the table bootstrap against resampled rows, clusters, weights, groups, jackknife, BCa."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.measures import resample
from nbannot.measures.classification import cohen_kappa, f1_macro, label_counts
from nbannot.measures.intervals import Intervals, Settings, standard_error
from nbannot.measures.resample import (
    bootstrap,
    jackknife,
    jackknife_limits,
    percentile_limits,
    sample_cells,
    sample_rows,
    wilson,
)

TABLE = np.array([[44, 7, 4], [6, 33, 9], [2, 5, 40]])


def metrics(totals):
    tables = totals.reshape(-1, 3, 3)
    c = label_counts(np.concatenate([tables, np.zeros((len(tables), 3, 1))], axis=-1))
    return {"f1": f1_macro(c), "kappa": cohen_kappa(c)}


def mean(totals):
    return {"mean": totals[..., 0] / totals[..., 1]}


def cells_of(table):
    return np.repeat(np.arange(table.size), table.ravel())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels(n, share, level):
    from statsmodels.stats.proportion import proportion_confint

    k = round(n * share)
    assert wilson(k, n, level) == pytest.approx(proportion_confint(k, n, 1 - level, "wilson"), abs=1e-12)


def test_wilson_at_the_ends():
    assert wilson(50, 50)[0] == pytest.approx(0.92865, abs=1e-5)
    assert wilson(0, 30) == (0, pytest.approx(0.11351, abs=1e-5))
    assert all(math.isnan(limit) for limit in wilson(0, 0))


def test_table_bootstrap_is_the_bootstrap_of_rows():
    """Rows drawn one by one and counted give the same spread and limits as one multinomial draw."""
    cells = cells_of(TABLE)
    table = bootstrap(sample_cells(cells, 9), metrics, 20_000, 1)
    rng = np.random.default_rng(7)
    rows = np.stack([np.bincount(rng.choice(cells, len(cells)), minlength=9) for _ in range(20_000)]).astype(
        float
    )
    by_rows = metrics(rows)
    for name in ("f1", "kappa"):
        assert standard_error(table[name]) == pytest.approx(standard_error(by_rows[name]), rel=0.03)
        assert percentile_limits(table[name], 0.95)[:2] == pytest.approx(
            percentile_limits(by_rows[name], 0.95)[:2], abs=0.004
        )


def test_kappa_bootstrap_has_the_analytic_error():
    """Fleiss, Cohen and Everitt 1969 for this table: kappa .6698, standard error .0505."""
    drawn = bootstrap(sample_cells(cells_of(TABLE), 9), metrics, 20_000, 1)
    assert standard_error(drawn["kappa"]) == pytest.approx(0.0505, abs=0.001)
    assert standard_error(drawn["f1"]) == pytest.approx(0.0339, abs=0.001)  # delta method, Takahashi 2022


def test_same_seed_same_limits():
    sample = sample_cells(cells_of(TABLE), 9)
    one, two, three = (bootstrap(sample, metrics, 500, seed)["f1"] for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != three).any()


def test_rows_and_cells_are_the_same_sample():
    cells = cells_of(TABLE)
    by_cell, by_row = sample_cells(cells, 9), sample_rows(np.eye(9)[cells])
    assert by_cell.totals().tolist() == by_row.totals().tolist() == TABLE.ravel().tolist()
    assert by_cell.n_units == by_row.n_units == len(cells)


def test_clusters_are_drawn_whole():
    """Two clusters of one kind each: a resample holds 0, 1 or 2 of them, never half a cluster."""
    sample = sample_cells(np.array([0, 0, 0, 1, 1, 1]), 2, clusters=np.array([0, 0, 0, 1, 1, 1]))
    drawn = np.concatenate(list(sample.resampled(400, 1)))
    assert sorted(set(map(tuple, drawn.tolist()))) == [(0, 6), (3, 3), (6, 0)]
    assert sample.n_clusters == 2


def test_clusters_of_one_row_are_rows():
    cells = cells_of(TABLE)
    alone = sample_cells(cells, 9, clusters=np.arange(len(cells)))
    rows = sample_cells(cells, 9)
    one, two = (standard_error(bootstrap(s, metrics, 5_000, 3)["f1"]) for s in (alone, rows))
    assert one == pytest.approx(two, rel=0.05)


def test_weights_multiply_rows():
    sample = sample_cells(np.array([0, 1, 1]), 2, weights=np.array([2.0, 1.0, 0.5]))
    assert sample.totals().tolist() == [2.0, 1.5]
    assert not sample.simple
    drawn = np.concatenate(list(sample.resampled(500, 1)))
    assert set(np.unique(drawn[:, 0])) == {0.0, 2.0, 4.0, 6.0}


def test_random_groups_keep_value_and_spread():
    """50,000 different rows are resampled in 5,000 groups; the standard error is that of the mean."""
    values = np.random.default_rng(2).gamma(1.0, 1.0, 50_000)
    sample = sample_rows(np.column_stack([values, np.ones(50_000)]))
    assert sample.grouped
    assert sample.n_units == 5_000
    assert sample.method == "bootstrap of random groups"
    assert float(mean(sample.totals()[None])["mean"][0]) == pytest.approx(values.mean(), rel=1e-12)
    drawn = bootstrap(sample, mean, 2_000, 1)["mean"]
    assert standard_error(drawn) == pytest.approx(values.std() / math.sqrt(50_000), rel=0.06)


def test_many_equal_rows_need_no_groups():
    sample = sample_rows(np.column_stack([np.arange(50_000) % 5.0, np.ones(50_000)]))
    assert not sample.grouped
    assert len(sample.counts) == 5
    assert sample.n_units == 50_000


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.array([1.0, 2.0, 4.0, 7.0, 7.0])
    left_out, counts = jackknife(sample_rows(np.column_stack([values, np.ones(5)])), mean)["mean"]
    low, high = jackknife_limits(values.mean(), left_out, counts, 0.95, -math.inf, math.inf)
    half = 2.7764451 * values.std(ddof=1) / math.sqrt(5)  # t(4)
    assert (low, high) == (pytest.approx(values.mean() - half), pytest.approx(values.mean() + half))


def test_undefined_resamples_are_left_out_and_counted():
    low, high, share = percentile_limits(np.array([1.0, np.nan, 2.0, 3.0]), 0.95)
    assert share == 0.75
    assert 1 <= low < high <= 3
    assert percentile_limits(np.array([np.nan]), 0.95)[2] == 0


def test_zero_width_is_never_an_interval():
    """All rows right: Wilson for the share, no interval for anything else."""
    sample = sample_cells(np.array([0, 4, 8] * 10), 9, clusters=np.arange(30) // 1)
    found = Intervals(sample, lambda t: metrics(t) | {"share": np.ones(len(t))}, Settings(200))
    share = found.result("share", proportion_of=30)
    assert share.ci_method == "Wilson on units"
    assert (share.ci_low, share.ci_high) == (pytest.approx(30 / (30 + 1.959964**2), abs=1e-6), 1)
    f1 = found.result("f1")
    assert f1.value == 1
    assert math.isnan(f1.ci_low)
    assert f1.reason == "no interval: the value is the same in nearly every resample"


def test_no_units():
    sample = sample_cells(np.zeros(0, dtype=np.int64), 9)
    assert sample.n_units == 0
    assert sample.totals().tolist() == [0.0] * 9


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(30_000), 2)])
def test_memory_stays_in_blocks(clusters):
    """60,000 rows or 30,000 clusters with 40 statistics: no block of resamples holds them all."""
    stats = np.random.default_rng(1).random((60_000, 40))
    sample = sample_rows(stats, clusters)
    assert sample.grouped
    blocks = [len(block) for block in sample.resampled(2_000, 1)]
    assert sum(blocks) == 2_000
    assert max(blocks) * len(sample.counts) <= resample.BLOCK_CELLS


def test_limits_that_coincide_are_no_interval():
    """One rare row in 200 moves the value in few resamples: both percentile limits are still the same number."""
    sample = sample_cells(np.array([0] * 199 + [1]), 2)
    found = Intervals(sample, lambda t: {"rare": (t[:, 1] > 5) * 1.0}, Settings(2_000)).result("rare")
    assert math.isnan(found.ci_low)
    assert found.reason.startswith("no interval")
