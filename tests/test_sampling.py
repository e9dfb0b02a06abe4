"""The setting `sample`: random, the same every time, and never the head of a sorted file."""

from collections import Counter

import polars as pl
import pytest
from conftest import DEGREE, codebook_of

import nbannot
from nbannot.errors import TaskError
from nbannot.study.sampling import sampled
from nbannot.study.task import Task


def sorted_task(n=200):
    """Return a file that is sorted by its labels: 150 texts of -2, then 40 of 0, then 10 of 2."""
    labels = ["-2"] * (n * 3 // 4) + ["0"] * (n // 5) + ["2"] * (n // 20)
    data = pl.DataFrame(
        {"id": [f"t{i}" for i in range(n)], "text": [f"Text {i}." for i in range(n)], "S_Degree": labels}
    )
    return Task(data, codebook_of(DEGREE), "sorted")


def test_a_sample_of_a_sorted_file_has_what_the_file_has():
    task = sorted_task()
    column = task.label_columns[0]
    chosen = task.select(sample=80)
    found = Counter(chosen.human(column))
    assert len(chosen) == 80
    assert set(found) == {-2, 0, 2}
    assert 45 <= found[-2] <= 75
    assert [task.ids.index(i) for i in chosen.ids] == sorted(task.ids.index(i) for i in chosen.ids)


def test_a_sample_does_not_depend_on_the_order_and_grows():
    task = sorted_task()
    turned = Task(task.data.reverse(), task.codebook, "turned")
    assert set(task.select(sample=30).ids) == set(turned.select(sample=30).ids)
    assert set(task.select(sample=30).ids) < set(task.select(sample=31).ids)
    assert set(task.select(sample=30).ids) != set(task.select(sample=30, sample_seed=2).ids)
    assert task.select(sample=500).ids == task.ids


def test_every_text_is_drawn_as_often_as_every_other():
    """2,000 draws of 5 of 20: each text 500 times, standard deviation 19."""
    ids = [f"id {i}" for i in range(20)]
    drawn = Counter(i for seed in range(2_000) for i in sampled(ids, 5, seed))
    assert min(drawn.values()) > 500 - 4 * 19.4
    assert max(drawn.values()) < 500 + 4 * 19.4


def test_strata_get_their_share_and_one_at_least():
    task = sorted_task()
    column = task.label_columns[0]
    # 20 of 150 + 40 + 10: 15, 4, 1
    assert Counter(task.select(sample=20, sample_by=column).human(column)) == {-2: 15, 0: 4, 2: 1}
    assert Counter(task.select(sample=3, sample_by=column).human(column)) == {-2: 1, 0: 1, 2: 1}
    assert Counter(task.select(sample=2, sample_by=column).human(column)) == {-2: 1, 0: 1}
    with pytest.raises(TaskError, match=r"no column 'S_Degre' \(sample_by\); did you mean 'S_Degree'"):
        task.select(sample=3, sample_by="S_Degre")


def test_a_run_on_a_sample_is_found_again_and_read_back(tmp_path):
    settings = {"model": "mock", "output_root": str(tmp_path)}
    task = sorted_task(40)
    run = nbannot.run(task, sample=8, **settings)
    assert run.task.ids == task.select(sample=8).ids
    assert nbannot.run(task, sample=8, **settings).run_id == run.run_id
    assert nbannot.load_run(run.folder).task.ids == run.task.ids
    others = [
        nbannot.plan(task, **{"sample": 8, **more}, **settings).run_id
        for more in ({"sample_seed": 2}, {"sample": 9})
    ]
    assert len({run.run_id, *others}) == 3
    assert nbannot.plan(task, limit=3, sample=8, **settings).design.task.ids == run.task.ids[:3]
