"""Planning: a sample of the size that is named gives the interval that was asked for."""

import pytest

import nbannot as nba
from nbannot.errors import ScoringError
from nbannot.measures.resample import wilson


@pytest.mark.parametrize(("share", "half"), [(0.7, 0.04), (0.02, 0.01), (0.5, 0.2)])
def test_the_smallest_sample_that_is_enough(share, half):
    n = nba.how_many(half_width=half, share=share).n
    widths = [(high - low) / 2 for low, high in (wilson(share * m, m) for m in (n, n - 1))]
    assert widths[0] <= half < widths[1]
    assert nba.how_many(half_width=half, share=share, level=0.9).n < n


def test_the_models_labels_save_work_as_far_as_they_are_right():
    none, some, all_ = (
        nba.how_many(half_width=0.02, share=0.3, phi=phi, corpus=50_000) for phi in (0, 0.8, 1)
    )
    assert none.n == none.without_model
    assert all_.n < some.n < none.n
    assert "without the model's labels" in str(some)
    assert int(some) == some.n == some.frame["n"][0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "say what is wanted"),
        ({"half_width": 2}, "between 0 and 1"),
        ({"half_width": 0.1, "table": [[1, 2, 3]]}, "square"),
        ({"half_width": 0.1, "table": [[9, 0], [0, 0]]}, "not defined"),
        ({"difference": 0.1}, "discordant"),
        ({"half_width": 0.1, "phi": 0.5}, "go together"),
        ({"half_width": 0.1, "phi": 1.5, "corpus": 10}, "from -1 to 1"),
        ({"half_width": 1e-6}, "wider interval"),
    ],
)
def test_letters(wrong, words):
    with pytest.raises(ScoringError, match=words):
        nba.how_many(**wrong)
