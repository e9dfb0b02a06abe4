"""The engine: order of work, what is sent again, calibration, chat modes, budgets."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time

import polars as pl
import pytest
from conftest import DEGREE, GATE, QUOTE, STANCE, codebook_of, task_of
from scripted import Scripted, calls, replying, run_with, well

import nbannot
from nbannot.asking.ledger import Ledger
from nbannot.asking.ledger_lines import messages_of, prefixes_in, read_lines
from nbannot.asking.request_reply import Reply
from nbannot.engine.engine import annotate
from nbannot.engine.job import group_fields
from nbannot.engine.pace import Pace
from nbannot.engine.schedule import CALIBRATION_TEXTS
from nbannot.engine.sending import LONGEST_WAIT_S
from nbannot.errors import ConfigError, RunInterrupted
from nbannot.record.coding import NOT_CALIBRATED
from nbannot.record.loading import load_run
from nbannot.running.design import design
from nbannot.running.run import run as run_it
from nbannot.study.config import RunConfig
from nbannot.study.task import Task


def test_a_conditional_field_is_asked_only_where_its_parent_says_so(tmp_path, with_model):
    def answer(request):
        if request.schema["properties"]["response"]["type"] == "boolean":
            return replying("number 1:" in request.text)
        return well(request)

    model = Scripted(answer)
    run = run_with(model, with_model, task_of(3, codebook_of(GATE, STANCE)), tmp_path)
    assert [a.status for a in run.coding.answers["S_Stance"]] == ["not_applicable", "ok", "not_applicable"]
    assert len(model.requests) == 4


def test_what_depends_on_an_invalid_answer_is_not_asked_and_says_why(tmp_path, with_model):
    def answer(request):
        return (
            Reply(text="hm")
            if request.schema["properties"]["response"]["type"] == "boolean"
            else well(request)
        )

    run = run_with(Scripted(answer), with_model, task_of(1, codebook_of(GATE, STANCE)), tmp_path, retries=1)
    gate, stance = run.coding.answers["S_Gate"][0], run.coding.answers["S_Stance"][0]
    assert (gate.status, gate.reason) == ("invalid", "not JSON: 'hm'")
    assert (stance.status, stance.reason) == ("not_asked", "no valid answer to 'Gate', on which it depends")
    assert run.status == "complete"


def test_a_blank_text_is_never_sent(tmp_path, with_model):
    import polars as pl

    task = nbannot.Task(pl.DataFrame({"id": ["a", "b"], "text": ["  ", "words"]}), codebook_of(GATE), "blank")
    model = Scripted(well)
    run = run_with(model, with_model, task, tmp_path)
    assert [r.text for r in model.requests] == ["words"]
    assert run.coding.answers["S_Gate"][0].reason == "the text is blank"
    assert run.status == "complete"


def test_per_query_questions_are_independent_and_ordered_by_question(tmp_path, with_model):
    model = Scripted(well, parallel=1)
    run_with(model, with_model, task_of(4, codebook_of(DEGREE, QUOTE)), tmp_path)
    assert [r.key.split("|")[1] for r in model.requests] == ["S_Degree"] * 4 + ["S_Quote"] * 4
    assert all(len(r.messages) == 1 for r in model.requests)


def test_shared_beginning_is_the_same_for_every_text(tmp_path, with_model):
    model = Scripted(well)
    run_with(model, with_model, task_of(5, codebook_of(DEGREE)), tmp_path)
    beginnings = {r.messages[-1]["content"][: r.shared] for r in model.requests}
    assert len(beginnings) == 1
    codes = {
        re.match(r"<text ([0-9a-f]{6})>\n", r.messages[-1]["content"][r.shared :])[1] for r in model.requests
    }
    assert len(codes) == 1
    code = codes.pop()
    for r in model.requests:
        fenced = f"<text {code}>\n{r.text}\n</text {code}>\n\nResponse:\n"
        assert r.messages[-1]["content"][r.shared :] == fenced


def test_per_text_sees_earlier_answers_of_the_same_text_only(tmp_path, with_model):
    model = Scripted(well)
    run_with(model, with_model, task_of(2, codebook_of(DEGREE, QUOTE)), tmp_path, chat_mode="per_text")
    second = [r for r in model.requests if "S_Quote" in r.key]
    assert [len(r.messages) for r in second] == [3, 3]
    for request in second:
        assert request.messages[1] == {"role": "assistant", "content": '{"response": -2}'}
        assert request.text in request.messages[0]["content"]
        assert "the same text as above" in request.messages[2]["content"]


def test_continuous_sees_the_whole_run_in_order(tmp_path, with_model):
    model = Scripted(well, parallel=8)
    run_with(model, with_model, task_of(3, codebook_of(DEGREE)), tmp_path, chat_mode="continuous")
    assert [len(r.messages) for r in model.requests] == [1, 3, 5]


def test_a_rejected_answer_never_stays_in_the_conversation(tmp_path, with_model):
    def answer(request):
        if request.schema["properties"]["response"]["type"] == "integer":
            return replying(99)
        return well(request)

    model = Scripted(answer)
    run_with(
        model, with_model, task_of(1, codebook_of(DEGREE, QUOTE)), tmp_path, chat_mode="per_text", retries=2
    )
    last = model.requests[-1]
    assert len(last.messages) == 1
    assert last.text in last.messages[0]["content"]
    assert not any(": 99" in m["content"] for m in last.messages)


@pytest.mark.parametrize(
    ("strategy", "check"),
    [
        (
            "reprompt",
            lambda a, b: "out of range: 99" in b.messages[-1]["content"] and b.temperature == a.temperature,
        ),
        ("identical", lambda a, b: b.messages == a.messages and b.seed != a.seed),
        ("temperature", lambda a, b: b.messages == a.messages and b.temperature == 0.9),
    ],
)
def test_retries_follow_their_strategy_and_the_first_valid_answer_counts(
    tmp_path, with_model, strategy, check
):
    model = Scripted(lambda r: replying(99 if r.key.endswith("|1") else 2))
    run = run_with(model, with_model, task_of(1, codebook_of(DEGREE)), tmp_path, retry_strategy=strategy,
                   retry_temperature=0.9)  # fmt: skip
    answer = run.coding.answers["S_Degree"][0]
    assert (answer.value, answer.attempt) == (2, 2)
    assert check(*model.requests)
    assert [c["attempt"] for c in calls(run)] == [1, 2]


def test_a_transport_failure_is_sent_again_and_a_lasting_one_leaves_a_partial_run(
    tmp_path, with_model, monkeypatch
):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    seen = {}

    def flaky(request):
        seen[request.text] = seen.get(request.text, 0) + 1
        if "number 2:" in request.text or seen[request.text] == 1:
            return Reply(error="HTTP 503", retriable=True)
        return well(request)

    task = task_of(4, codebook_of(GATE))
    run = run_with(Scripted(flaky), with_model, task, tmp_path)
    assert [a.status for a in run.coding.answers["S_Gate"]] == ["ok", "ok", "failed", "ok"]
    assert run.status == "partial"
    assert json.loads((run.folder / "config.json").read_text())["status"] == "partial"
    assert nbannot.load_run(run.folder).status == "partial"
    again = run_with(Scripted(well), with_model, task, tmp_path)
    assert again.status == "complete"
    assert again.progress.calls == 1


def test_a_dead_server_stops_the_run_and_leaves_it_resumable(tmp_path, with_model, monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    task = task_of(200, codebook_of(GATE))
    dead = Scripted(lambda r: Reply(error="connection refused", retriable=True))
    run = run_with(dead, with_model, task, tmp_path)
    assert run.status == "failed"
    assert len(dead.requests) < 60
    assert "has not answered" in run.config["stopped"]
    assert run_with(Scripted(well), with_model, task, tmp_path).status == "complete"


def test_a_refusal_for_good_of_every_request_stops_the_run_at_once(tmp_path, with_model):
    closed = Scripted(lambda r: Reply(error="HTTP 401: no entry"), parallel=32)
    run = run_with(closed, with_model, task_of(500, codebook_of(GATE)), tmp_path)
    assert run.status == "failed"
    assert len(closed.requests) <= 64
    assert "HTTP 401" in run.config["stopped"]


class HalfHanging(Scripted):
    """Every other time a request comes it hangs until it fails; it remembers how many were in flight at once."""

    now = most = 0

    async def ask(self, request):
        self.requests.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        fails = random.Random(f"{request.key} {len(self.requests)}").random() < 0.5
        await asyncio.sleep(0.02 if fails else 0)
        self.now -= 1
        return Reply(error="no reply within 0.02 s", retriable=True) if fails else self.answer(request)


def test_half_of_all_requests_hang_and_the_run_goes_through(tmp_path, with_model, monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    model = HalfHanging(well, parallel=32)
    run = run_with(model, with_model, task_of(150, codebook_of(GATE)), tmp_path)
    assert run.config["stopped"] == ""
    assert set(run.coding.count()) <= {"ok", "failed"}
    assert run.coding.count()["ok"] > 130


def test_a_request_that_waits_to_be_sent_again_leaves_its_place_to_others(tmp_path, with_model, monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.2)
    seen = []

    def once(request):
        again = request.key in seen
        seen.append(request.key)
        return (
            well(request) if again or "number 0:" not in request.text else Reply(error="503", retriable=True)
        )

    run = run_with(Scripted(once, parallel=1), with_model, task_of(9, codebook_of(GATE)), tmp_path)
    assert run.status == "complete"
    assert seen.index("t00000|S_Gate|1", 1) == len(seen) - 1

    model = HalfHanging(well, parallel=32)
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    run_with(model, with_model, task_of(60, codebook_of(DEGREE)), tmp_path, max_parallel=5)
    assert model.most == 5


# ---- calibration --------------------------------------------------------------------------------------------------


def skewed(request):
    """Scored answers that prefer the first option; every third text less so."""
    number = int(request.text.split()[2].rstrip(":"))
    n = len(request.options)
    first = 0.5 if number % 3 == 0 else 0.8
    rest = (1 - first) / (n - 1)
    probabilities = (first, *[rest] * (n - 1))
    return Reply(text=request.options[0], probabilities=probabilities, finish_reason="stop")


def test_calibration_is_frozen_on_the_first_32_texts_and_recorded(tmp_path, with_model):
    book = codebook_of(DEGREE)
    run = run_with(Scripted(skewed, modes=("score",)), with_model, task_of(60, book), tmp_path)
    offset = run.outcome.offsets["S_Degree"]
    thirds = sum(i % 3 == 0 for i in range(CALIBRATION_TEXTS)) / CALIBRATION_TEXTS
    assert offset[0] == pytest.approx(__import__("math").log(0.5 * thirds + 0.8 * (1 - thirds)))
    note = next(r for r in read_lines(run.folder / "responses.jsonl") if "calibration" in r)
    assert note["text_ids"] == [f"t{i:05d}" for i in range(32)]
    # 0.5 / 0.698 < 0.125 / 0.0755: the weaker preference turns into another label, the stronger one stays.
    values = run.coding.values("S_Degree")
    assert [v == -2 for v in values] == [i % 3 != 0 for i in range(60)]
    assert nbannot.load_run(run.folder).coding.values("S_Degree") == values


def test_calibration_does_not_depend_on_order_or_interruption(tmp_path, with_model):
    book, n = codebook_of({**GATE, "name": "Gate"}, STANCE), 120

    def answer(request):
        if len(request.options) == 2:
            yes = random.Random(request.text).uniform(0.4, 0.8)
            return Reply(text=request.options[1], probabilities=(1 - yes, yes))
        return skewed(request)

    whole = run_with(
        Scripted(answer, parallel=1, modes=("score",)), with_model, task_of(n, book), tmp_path / "a"
    )

    stop = threading.Event()

    class Jumpy(Scripted):
        async def ask(self, request):
            if len(self.requests) >= 90 and self.parallel == 9:
                stop.set()
            await asyncio.sleep(random.Random(request.key).random() * 0.06)
            return await super().ask(request)

    with_model(Jumpy(answer, parallel=9, modes=("score",)))
    with pytest.raises(RunInterrupted):
        run_it(task_of(n, book), output_root=str(tmp_path / "b"), stop=stop)
    with_model(Jumpy(answer, parallel=5, modes=("score",)))
    stop.clear()
    resumed = run_it(task_of(n, book), output_root=str(tmp_path / "b"))
    assert len(set(resumed.coding.values("S_Stance"))) > 2
    assert (resumed.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()


def test_no_calibration_below_32_texts(tmp_path, with_model):
    run = run_with(Scripted(skewed, modes=("score",)), with_model, task_of(31, codebook_of(DEGREE)), tmp_path)
    assert run.outcome.offsets == {}
    assert set(run.coding.values("S_Degree")) == {-2}


@pytest.mark.parametrize(("n", "waits"), [(31, False), (32, False), (33, True)])
def test_a_calibration_that_is_still_to_come_is_said_where_there_will_be_one(tmp_path, with_model, n, waits):
    """Only texts that are asked count towards the 32: the first is blank here."""
    task = task_of(n, codebook_of(DEGREE))
    blank = Task(task.data.with_columns(text=pl.Series(["", *task.texts[1:]])), task.codebook, "demo")
    run = run_with(Scripted(skewed, modes=("score",)), with_model, blank, tmp_path)
    ledger = run.folder / "responses.jsonl"
    ledger.write_text("".join(line for line in ledger.open() if '"calibration"' not in line))
    again = load_run(run.folder)
    reasons = {answer.reason for answer in again.coding.answers["S_Degree"][1:]}
    assert reasons == ({NOT_CALIBRATED} if waits else {""})
    assert set(again.coding.values("S_Degree")[1:]) == {-2}


def test_batch_calibration_of_generated_answers_is_refused(tmp_path, with_model):
    with pytest.raises(ConfigError, match="needs scored answers"):
        run_with(Scripted(well), with_model, task_of(2), tmp_path, calibration="batch")


# ---- several fields in one call -----------------------------------------------------------------------------------


def test_fields_are_grouped_by_section_and_depth():
    book = codebook_of(GATE, STANCE, DEGREE)
    names = [[f.name for f in group] for group in group_fields(book, list(book), "all")]
    assert names == [["Gate", "Degree"], ["Stance"]]
    assert [[f.name for f in g] for g in group_fields(book, list(book), "one")] == [
        ["Gate"],
        ["Stance"],
        ["Degree"],
    ]


def test_several_fields_in_one_call_and_only_the_bad_one_is_asked_again(tmp_path, with_model):
    def answer(request):
        if request.key.endswith("|1"):
            return Reply(text=json.dumps({"S_Gate": True, "S_Degree": 7}))
        return replying(1)

    book = codebook_of(GATE, DEGREE)
    model = Scripted(answer)
    run = run_with(model, with_model, task_of(2, book), tmp_path, fields_per_query="all")
    assert [len(c["columns"]) for c in sorted(calls(run), key=lambda c: (c["text_id"], c["attempt"]))] == [
        2,
        1,
        2,
        1,
    ]
    assert run.coding.values("S_Gate") == [1, 1]
    assert run.coding.values("S_Degree") == [1, 1]


# ---- the ledger as evidence ---------------------------------------------------------------------------------------


def test_the_ledger_holds_exactly_what_was_sent(tmp_path, with_model):
    model = Scripted(well)
    run = run_with(model, with_model, task_of(6), tmp_path, chat_mode="per_text")
    path = run.folder / "responses.jsonl"
    prefixes = prefixes_in(path)
    sent = {r.key: list(r.messages) for r in model.requests}
    told = {
        f"{c['text_id']}|{'+'.join(c['columns'])}|{c['attempt']}": messages_of(c, prefixes)
        for c in calls(run)
    }
    assert told == sent


def test_no_label_of_a_person_reaches_a_prompt(tmp_path, with_model):
    n = 4
    labels = {"S_Quote": [f"PLANTED{i}" for i in range(n)], "S_Stance": ["neutral"] * n, "S_Gate": ["1"] * n}
    model = Scripted(well)
    run_with(model, with_model, task_of(n, None, "planted", **labels), tmp_path, chat_mode="continuous")
    everything = json.dumps([r.messages for r in model.requests])
    assert "PLANTED" not in everything


# ---- stopping -----------------------------------------------------------------------------------------------------


# ---- pace, budget, asking again -----------------------------------------------------------------------------------


def test_pace_grows_while_well_and_halves_once_per_round():
    pace = Pace(100)
    assert pace.size == Pace.START
    for _ in range(40):
        pace.well()
    assert pace.size == 72
    sent = time.monotonic()
    pace.trouble(sent)
    pace.trouble(sent)
    assert pace.size == 36
    for _ in range(37):
        pace.well()
    assert pace.size == 37
    for _ in range(10):
        pace.trouble(time.monotonic() + 1)
    assert pace.size == 1


def test_never_more_in_flight_than_max_parallel(tmp_path, with_model):
    now, most = 0, 0

    class Counting(Scripted):
        async def ask(self, request):
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.002)
            now -= 1
            return self.answer(request)

    run_with(
        Counting(well, parallel=50), with_model, task_of(60, codebook_of(GATE)), tmp_path, max_parallel=7
    )
    assert most == 7


@pytest.mark.parametrize("parallel", [1, 16, 50])
def test_places_are_taken_again_before_a_reply_is_written_down(tmp_path, with_model, monkeypatch, parallel):
    """One request of eight is ready meanwhile; never is more in flight, or sent and not written down, than that."""
    drawing, free, unwritten, sent = random.Random(1), [], [], 0

    class Counting(Scripted):
        in_flight = 0

        async def ask(self, request):
            nonlocal sent
            sent, self.in_flight = sent + 1, self.in_flight + 1
            assert self.in_flight <= parallel
            for _ in range(drawing.randint(5, 60)):
                await asyncio.sleep(0)
            self.in_flight -= 1
            return self.answer(request)

    model = Counting(well, parallel=parallel)
    append = Ledger.append

    def noted(self, *args, **named):
        free.append(parallel - model.in_flight)
        unwritten.append(sent - len(free) + 1)
        return append(self, *args, **named)

    monkeypatch.setattr(Ledger, "append", noted)
    run = run_with(model, with_model, task_of(400, codebook_of(GATE)), tmp_path, max_parallel=parallel)
    assert run.status == "complete"
    assert sent == len(calls(run)) == 400
    assert max(unwritten) <= parallel + parallel // 8
    early = free[:300]  # while there is something left to send
    assert sum(places == 0 for places in early) >= 100 if parallel > 1 else set(free) == {1}


def test_a_reply_that_has_come_is_kept_though_the_run_is_stopped_at_once(tmp_path):
    """A stop that falls between a reply and its line in the ledger loses nothing, and nothing is asked after it."""

    def stop_after(rounds, loop, run):
        if rounds:
            loop.call_soon(stop_after, rounds - 1, loop, run)
        else:
            run.cancel()

    class Stopping(Scripted):
        async def ask(self, request):
            self.requests.append(request)
            number = len(self.requests)
            await asyncio.sleep(0)
            if number == 20:
                run = next(task for task in asyncio.all_tasks() if task.get_coro().__name__ == "main")
                stop_after(rounds, asyncio.get_running_loop(), run)
            return self.answer(request)

    for rounds in range(10):
        model = Stopping(well, parallel=16)
        plan, _ = design(task_of(200, codebook_of(GATE, DEGREE)), RunConfig(model="mock"), model)
        book = Ledger(tmp_path / f"{rounds}.jsonl")
        outcome = annotate(plan.job, model, book)
        book.close()
        answered = sum(a is not None for answers in outcome.answers.values() for a in answers)
        assert 0 < answered == book.tally.calls <= len(model.requests) <= answered + 16
        assert len(model.requests) < 200


def test_a_budget_stops_the_run_cleanly_and_resumably(tmp_path, with_model):
    task = task_of(50, codebook_of(GATE))
    model = Scripted(well)
    run = run_with(model, with_model, task, tmp_path, budget={"calls": 20})
    assert run.status == "partial"
    assert "the budget is spent: calls 20 of 20" in run.config["stopped"]
    assert len(model.requests) == 20
    rest = Scripted(well)
    assert run_with(rest, with_model, task, tmp_path).status == "complete"
    assert len(rest.requests) + len(model.requests) == 50


def test_a_budget_in_minutes_ends_a_wait_that_a_server_asks_for(tmp_path, with_model):
    busy = Scripted(lambda r: Reply(error="HTTP 429: busy", retriable=True, retry_after_s=3600))
    run = run_with(busy, with_model, task_of(5, codebook_of(GATE)), tmp_path, budget={"minutes": 0.005})
    assert "the budget is spent: minutes" in run.config["stopped"]
    assert run.timing["wall_time"] < LONGEST_WAIT_S / 2


def test_a_budget_in_money_needs_prices_and_tokens(tmp_path, with_model):
    priced = Scripted(
        lambda r: Reply(text='{"response": true}', input_tokens=1000, output_tokens=500), parallel=1
    )
    run = run_with(priced, with_model, task_of(50, codebook_of(GATE)), tmp_path, budget={"money": 0.01},
                   prices={"input": 1.0, "output": 2.0})  # fmt: skip
    assert len(priced.requests) == 5
    assert "money 0.01 of 0.01" in run.config["stopped"]


def test_scored_answers_leave_no_room_for_a_wording_that_reasons(tmp_path, with_model, monkeypatch):
    from nbannot.asking import prompts

    monkeypatch.setattr(prompts, "_REGISTRY", dict(prompts._REGISTRY))
    prompts.add_prompt("think-first", "{{ core_prompt }}\n{{ text }}", reasons=True)
    with pytest.raises(ConfigError, match="leaves no room to reason"):
        run_with(
            Scripted(skewed, modes=("score", "generate")),
            with_model,
            task_of(2, codebook_of(DEGREE)),
            tmp_path,
            prompt_type="think-first",
            answer_mode="score",
        )


def test_a_conversation_that_no_longer_fits_loses_its_oldest_turns(tmp_path, with_model):
    def answer(request):
        if len(request.messages) > 7:
            return Reply(error="text does not fit: 900 tokens of 800", finish_reason="context")
        return well(request)

    model = Scripted(answer)
    run = run_with(model, with_model, task_of(9, codebook_of(DEGREE)), tmp_path, chat_mode="continuous")
    assert run.status == "complete"
    assert run.coding.count() == {"ok": 9}
    assert max(len(r.messages) for r in model.requests) == 9
    assert all(r.messages[-1]["content"].find(r.text) > 0 for r in model.requests)


def test_a_text_that_does_not_fit_is_a_named_status(tmp_path, with_model):
    too_long = Reply(error="text does not fit: 900 tokens of 800", finish_reason="context")
    model = Scripted(lambda r: too_long if "number 1:" in r.text else well(r))
    run = run_with(model, with_model, task_of(3, codebook_of(DEGREE)), tmp_path, chat_mode="per_text")
    answer = run.coding.answers["S_Degree"][1]
    assert (answer.status, answer.reason) == ("not_asked", "text does not fit: 900 tokens of 800")
    assert run.status == "complete"


def test_metadata_that_was_asked_for_is_sent_and_decides_the_run(tmp_path, with_model):
    task = task_of(2, codebook_of(GATE), party=["red", "blue"], page=["7", ""])
    model = Scripted(well)
    run = run_with(model, with_model, task, tmp_path, metadata_columns=["party", "page"])
    sent = [r.messages[-1]["content"] for r in sorted(model.requests, key=lambda r: r.key)]
    assert "[party: red]\n[page: 7]\nText number 0" in sent[0]
    assert "[party: blue]\nText number 1" in sent[1]
    other = run_with(Scripted(well), with_model, task, tmp_path)
    assert other.run_id != run.run_id
    with pytest.raises(ConfigError, match="metadata_columns that cannot be sent: S_Gate"):
        run_with(Scripted(well), with_model, task_of(1, codebook_of(GATE), S_Gate=["1"]), tmp_path,
                 metadata_columns=["S_Gate"])  # fmt: skip


def test_the_longest_reply_is_what_the_model_says_unless_it_is_set(tmp_path, with_model):
    task = task_of(1, codebook_of(GATE))

    class Small(Scripted):
        reply_tokens = 100

    for number, (model, settings, most) in enumerate(
        [
            (Scripted(well), {}, 1024),
            (Small(well), {}, 100),
            (Small(well), {"reasoning": True}, 400),
            (Small(well), {"max_tokens": 7}, 7),
        ]
    ):
        run = run_with(model, with_model, task, tmp_path / str(number), **settings)
        assert model.requests[0].max_tokens == run.config["max_tokens_used"] == most


def test_a_reply_that_ran_on_is_asked_again_only_warmer(tmp_path, with_model):
    task = task_of(1, codebook_of(GATE))
    cut = Reply(text='{"response": "and so on and so on', finish_reason="length")
    for strategy, calls_made in (("reprompt", 1), ("identical", 1), ("temperature", 3)):
        model = Scripted(lambda r: cut)
        run = run_with(model, with_model, task, tmp_path / strategy, retry_strategy=strategy)
        assert len(model.requests) == calls_made
        assert run.coding.answers["S_Gate"][0].status == "truncated"


def test_a_budget_that_ends_among_the_last_questions_does_not_wait_forever(tmp_path, with_model):
    task = task_of(2, codebook_of(GATE, STANCE, DEGREE))
    run = run_with(Scripted(well, parallel=32), with_model, task, tmp_path, budget={"calls": 3})
    assert run.status == "partial"
    assert "the budget is spent" in run.config["stopped"]


@pytest.mark.parametrize("seed", range(8))
def test_a_budget_spent_while_many_wait_for_a_place_ends_the_run(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.02)
    drawing = random.Random(seed)

    class Troubled(Scripted):
        async def ask(self, request):
            self.requests.append(request)
            await asyncio.sleep(drawing.random() * 0.02)
            return Reply(error="HTTP 503: busy", retriable=True) if drawing.random() < 0.6 else well(request)

    model, stop = Troubled(well, parallel=32), threading.Event()
    guard = threading.Timer(20, stop.set)
    guard.start()
    plan, _ = design(task_of(200, codebook_of(GATE)), RunConfig(model="mock", budget={"calls": 80}), model)
    book = Ledger(tmp_path / "responses.jsonl")
    outcome = annotate(plan.job, model, book, stop=stop)
    book.close()
    guard.cancel()
    assert "the budget is spent" in outcome.stopped
    assert len(model.requests) <= 80


@pytest.mark.parametrize("delivered", ["task", "corpus"])
def test_attempts_that_an_interrupt_cut_off_are_made_when_the_run_goes_on(
    tmp_path, with_model, delivered, monkeypatch
):
    """A run is not complete while a question has an invalid answer and attempts left."""
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))

    def at_second(request):
        soon = request.key.endswith("|2") or request.key.startswith("t00000")
        return well(request) if soon else replying("neither")

    def answers(run):
        if delivered == "task":
            return [(a.status, a.reason) for a in run.coding.answers["S_Degree"]]
        return run.labels.select("S_Degree.status", "S_Degree.reason").collect().rows()

    with_model(Scripted(at_second, parallel=5))
    task = task_of(5, codebook_of(DEGREE))
    if delivered == "corpus":
        task.data.write_parquet(tmp_path / "x.parquet")
        task = nbannot.corpus(tmp_path / "x.parquet", task.codebook, name="many")
    begun = run_it(task, output_root=str(tmp_path), retries=2, budget={"calls": 5})
    so_far = ("invalid", "no valid answer so far: the run ended before its further attempts")
    assert answers(begun) == [("ok", ""), so_far, so_far, so_far, so_far]
    assert begun.status == nbannot.load_run(begun.folder).status == "partial"
    run = run_it(task, output_root=str(tmp_path), retries=2)
    assert run.run_id == begun.run_id
    assert run.status == nbannot.load_run(run.folder).status == "complete"
    assert answers(run) == 5 * [("ok", "")]
    assert run.timing["inference_count"] == 9
