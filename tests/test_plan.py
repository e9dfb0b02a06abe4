"""The plan: says the price before it is paid, and sends nothing unless a pilot is asked for."""

import pytest
from conftest import DEGREE, GATE, STANCE, codebook_of, task_of

import nbannot


@pytest.fixture
def task():
    return task_of(10, codebook_of(GATE, STANCE, DEGREE))


def test_nothing_is_sent_and_nothing_written(task, tmp_path):
    plan = nbannot.plan(task, model="mock", output_root=str(tmp_path))
    assert (plan.calls_at_least, plan.calls_at_most) == (20, 30)
    assert plan.seconds is None
    assert plan.state == "new"
    assert list(tmp_path.iterdir()) == []


def test_the_first_messages_are_those_of_the_run(task, tmp_path):
    plan = nbannot.plan(task, model="mock", output_root=str(tmp_path))
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    from nbannot.asking.ledger import messages_of, prefixes_in, read_lines

    path = run.folder / "responses.jsonl"
    prefixes = prefixes_in(path)
    sent = {
        record["columns"][0]: messages_of(record, prefixes)
        for record in read_lines(path)
        if record.get("text_id") == task.ids[0]
    }
    assert sent.items() <= plan.first_messages.items()
    assert plan.run_id == run.run_id
    after = nbannot.plan(task, model="mock", output_root=str(tmp_path))
    assert after.state == "complete"
    assert after.seconds == pytest.approx(after.seconds_per_call * 30)


def test_the_characters_are_those_that_are_sent(tmp_path):
    task = task_of(7, codebook_of(GATE, DEGREE))
    plan = nbannot.plan(task, model="mock", output_root=str(tmp_path))
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    assert plan.input_chars == nbannot.load_run(run.folder).table_row()["total_input_chars"]


def test_a_pilot_estimates_time_tokens_and_money(task, tmp_path):
    prices = {"input": 2.0, "output": 4.0}
    plan = nbannot.plan(
        task, model="mock/?slow_s=0.01&parallel=1", output_root=str(tmp_path), pilot=3, prices=prices
    )
    assert plan.pilot_texts == 3
    assert plan.seconds_per_call >= 0.01
    assert plan.output_tokens > 0
    assert plan.money == pytest.approx((plan.input_tokens * 2 + plan.output_tokens * 4) / 1e6)
    assert list(tmp_path.iterdir()) == []
