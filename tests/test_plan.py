"""The plan: says the price before it is paid, and sends nothing unless a pilot is asked for."""

import pytest
from conftest import DEGREE, GATE, STANCE, codebook_of, task_of

import nbannot
from nbannot.running.estimates import USUAL_REPLY_CHARS
from nbannot.running.plan import plan_all
from nbannot.study.config import RunConfig
from nbannot.tools.files import read_json


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
    from nbannot.asking.ledger_lines import messages_of, prefixes_in, read_lines

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
    assert (after.calls_at_most, after.seconds, after.input_tokens, after.input_tokens_at_most) == (
        0,
        0,
        0,
        0,
    )
    again = nbannot.plan(task, model="mock", repeat=2, output_root=str(tmp_path))
    assert again.seconds == pytest.approx(again.seconds_per_call * 30)
    assert again.seconds_per_call > 0
    other = nbannot.plan(task, model="mock", repeat=2, prompt_type="persona", output_root=str(tmp_path))
    assert (other.seconds, other.money) == (None, None)  # another prompt: no pace to go by


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


@pytest.mark.parametrize("chat_mode", ["per_query", "per_text", "continuous"])
@pytest.mark.parametrize("model", ["mock", "mock/?wrong=0.3&malformed=0.3"])
def test_what_a_run_takes_is_never_above_the_bounds_of_its_plan(chat_mode, model, tmp_path):
    """Without a pilot: calls, tokens and money of the run that then comes, repetitions of invalid answers included."""
    task = task_of(12, codebook_of(GATE, STANCE, DEGREE))
    prices = {"input": 3.0, "output": 9.0}
    settings = {
        "model": model,
        "chat_mode": chat_mode,
        "retries": 2,
        "prices": prices,
        "output_root": str(tmp_path),
    }
    before = nbannot.plan(task, **settings)
    run = nbannot.run(task, **settings)
    used = read_json(run.folder / "char_counts.json")
    first = run.timing["inference_count"] - run.timing["retry_count"]
    assert before.calls_at_least <= first <= before.calls_at_most
    assert used["input_tokens"] <= before.input_tokens_at_most
    assert used["input_chars"] <= before.input_tokens_at_most  # no tokeniser makes more than one of each
    assert used["output_tokens"] <= before.output_tokens_at_most
    assert (used["input_chars"] * 3 + used["output_tokens"] * 9) / 1e6 <= before.money_at_most
    if model == "mock":  # what is sent is about what was said, as long as no answer has to be repeated
        about = before.input_chars - (0 if chat_mode == "per_query" else USUAL_REPLY_CHARS)
        assert 0.5 * about <= used["input_chars"] <= 1.2 * before.input_chars


def test_what_is_answered_costs_nothing(tmp_path):
    task = task_of(10, codebook_of(GATE, DEGREE))
    settings = {"model": "mock", "prices": {"input": 1.0, "output": 1.0}, "output_root": str(tmp_path)}
    whole = nbannot.plan(task, **settings)
    nbannot.run(task, budget={"calls": 6}, **settings)
    left = nbannot.plan(task, **settings)
    assert (whole.calls_at_most, left.calls_at_most, left.state) == (20, 14, "can be continued")
    assert left.money_at_most == pytest.approx(whole.money_at_most * 14 / 20, rel=0.05)
    nbannot.run(task, **settings)
    done = nbannot.plan(task, **settings)
    assert (done.calls_at_most, done.money, done.money_at_most) == (0, 0, 0)


def test_a_plan_needs_no_server_and_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    task = task_of(4, codebook_of(DEGREE))
    asked = nbannot.plan(
        task,
        model="openai/some-model",
        base_url="http://127.0.0.1:9/v1",
        output_root=str(tmp_path),
        prices={"input": 1, "output": 2},
    )
    assert asked.calls_at_most == 4
    assert asked.money_at_most > 0
    assert asked.unreached
    assert "The model was not reached" in " ".join(str(asked).split())
    with pytest.raises(nbannot.NbannotError, match="unknown model 'opnai/x'"):
        nbannot.plan(task, model="opnai/x")


def test_the_plan_of_a_sweep_is_one_table_with_a_sum(tmp_path):
    task = task_of(5, codebook_of(DEGREE))
    configs = [
        RunConfig(
            model="mock", temperature=t, prices={"input": 1e6, "output": 1e6}, output_root=str(tmp_path)
        )
        for t in (0.0, 0.7)
    ]
    plans = plan_all(task, [*configs, configs[0]])  # the same run once more costs nothing more
    frame = plans.frame()
    assert frame["temperature"].tolist()[:3] == [0.0, 0.7, 0.0]
    assert frame["run_id"].tolist()[-1] == "sum"
    assert frame["calls_at_most"].tolist() == [5, 5, 5, 10]
    assert frame["money_at_most"].tolist()[-1] == pytest.approx(
        plans[0].money_at_most + plans[1].money_at_most
    )
    assert "sum" in str(plans)


def test_blank_texts_and_fields_without_their_parent_are_not_planned(tmp_path):
    import polars as pl

    from nbannot.study.task import Task

    task = task_of(4, codebook_of(GATE, DEGREE))
    blank = Task(task.data.with_columns(text=pl.Series(["a", " ", "b", ""])), task.codebook, "blank")
    assert nbannot.plan(blank, model="mock", output_root=str(tmp_path)).calls_at_most == 4
