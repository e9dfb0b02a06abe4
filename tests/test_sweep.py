"""Sweeps: grids and lists, failures that stay alone, reuse."""

import threading

import pytest
from conftest import DEGREE, GATE, codebook_of, task_of

import nbannot
from nbannot.errors import ConfigError, RunInterrupted
from nbannot.running.sweep import configs_of, sweep
from nbannot.study.config import RunConfig


@pytest.fixture
def task():
    return task_of(6, codebook_of(GATE, DEGREE), S_Degree=["1", "2", "0", "-1", "-2", "1"])


def test_a_grid_makes_one_run_per_combination_and_repeats(task, tmp_path):
    runs = sweep(task, model=["mock/a", "mock/b"], temperature=[0, 0.7], repeats=2, output_root=str(tmp_path))
    assert len({run.run_id for run in runs}) == 8
    assert runs.differing == ["model", "temperature", "repeat"]
    frame = runs.frame("f1_macro")
    assert list(frame.columns) == [
        "run_id",
        "model",
        "temperature",
        "repeat",
        "status",
        "error",
        "S_Gate",
        "S_Degree",
    ]
    assert set(frame["status"]) == {"complete"}


def test_one_failing_config_does_not_stop_the_others(task, tmp_path):
    told = []
    runs = sweep(task, model=["mock", "nosuch/model", "mock/b"], output_root=str(tmp_path), say=told.append)
    assert [run.config["model"] for run in runs] == ["mock", "mock/b"]
    assert [failure.config.model for failure in runs.failures] == ["nosuch/model"]
    assert any("run 2 of 3 failed: unknown model 'nosuch/model'" in line for line in told)
    assert runs.frame()["status"].tolist() == ["complete", "complete", "failed"]


def test_finished_runs_are_reused(task, tmp_path):
    first = sweep(task, model="mock", temperature=[0, 1], output_root=str(tmp_path))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("output.csv")}
    second = sweep(task, model="mock", temperature=[0, 1], output_root=str(tmp_path))
    assert [r.run_id for r in first] == [r.run_id for r in second]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("output.csv")} == before


def test_a_list_of_configs_keeps_its_order():
    configs = configs_of(
        [RunConfig(model="mock/b"), {"model": "mock", "temperature": [0.5, 1]}], 1, {"limit": 3}
    )
    assert [(c.model, c.temperature, c.limit) for c in configs] == [
        ("mock/b", 0, 3),
        ("mock", 0.5, 3),
        ("mock", 1, 3),
    ]


def test_a_wrong_setting_is_found_before_anything_is_sent(task, tmp_path):
    with pytest.raises(ConfigError, match="temperature must be a number from 0 to 2"):
        sweep(task, model="mock", temperature=[0, 9], output_root=str(tmp_path))
    with pytest.raises(ConfigError, match="repeats must be an integer of at least 1"):
        sweep(task, model="mock", repeats=0, output_root=str(tmp_path))
    with pytest.raises(ConfigError, match="temperature is an empty list"):
        sweep(task, model="mock", temperature=[], output_root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_progress_says_which_run(task, tmp_path):
    seen = set()
    nbannot.sweep(
        task, model=["mock", "mock/b"], output_root=str(tmp_path), tick=lambda p: seen.add(p.message)
    )
    assert seen == {"run 1 of 2", "run 2 of 2"}


def test_stop_ends_the_sweep_and_keeps_what_is_done(task, tmp_path):
    stop = threading.Event()

    def after_first(progress):
        if progress.message.startswith("run 2"):
            stop.set()

    long_task = task_of(300, codebook_of(GATE))
    with pytest.raises(RunInterrupted, match="run 2 of 3") as stopped:
        sweep(long_task, model=["mock", "mock/b?slow_s=0.05", "mock/c"], output_root=str(tmp_path),
              tick=after_first, stop=stop)  # fmt: skip
    assert [run.status for run in stopped.value.finished] == ["complete"]
    assert len(list(tmp_path.glob("demo/*/config.json"))) == 2


@pytest.mark.parametrize("door", [nbannot.run, nbannot.sweep])
def test_an_interrupt_before_anything_is_asked_is_tidy(door, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nbannot.study.codebook.Codebook.load", interrupted)
    with pytest.raises(RunInterrupted, match="stopped"):
        door("policy-sentiment", model="mock", output_root=str(tmp_path))


def test_what_an_interrupted_run_got_as_far_as_can_be_looked_at(tmp_path):
    import _thread

    import nbannot as nba

    def tick(progress):
        if progress.done > 5 and not asked:
            asked.append(1)
            _thread.interrupt_main()

    asked: list[int] = []
    with pytest.raises(RunInterrupted) as caught:
        nba.run(
            "policy-sentiment",
            model="mock/a?slow_s=0.05",
            max_parallel=2,
            tick=tick,
            output_root=str(tmp_path),
        )
    found = caught.value.finished
    assert found.status == "partial"
    assert 0 < found.coding.count()["ok"] < 64
    assert "This run is partial" in str(found)
