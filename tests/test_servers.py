"""Several servers of one model: who gets what, who is left out, and nothing lost; real HTTP servers throughout."""

import asyncio
import json
import re
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from conftest import DEGREE, GATE, codebook_of, task_of
from scripted import Scripted, well
from serving import Serving

import nbannot
from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.request_reply import Reply
from nbannot.doors.cli import main
from nbannot.errors import ConfigError, ModelError
from nbannot.models.exchange import BROKE
from nbannot.models.registry import get_model
from nbannot.models.several import Several
from nbannot.report.report import cost_facts
from nbannot.report.words import where_texts_went
from nbannot.study.config import RunConfig

TASK = task_of(150, codebook_of(GATE, DEGREE))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("nbannot.engine.servers.FIRST_LOOK_S", 0.01)
    monkeypatch.setattr("nbannot.engine.energy.prewarm", lambda: None)
    monkeypatch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)


def annotated(place, *servers, model="openai/tiny", **settings):
    addresses = [server if isinstance(server, str) else server.openai_url for server in servers]
    return nbannot.run(TASK, model=model, base_url=addresses, output_root=str(place), **settings)


def ledger_of(run):
    return [record for record in read_lines(run.folder / "responses.jsonl") if "text_id" in record]


def test_the_one_with_the_fewest_in_flight_is_asked_and_no_answer_depends_on_it(tmp_path):
    with Serving() as alone:
        right = annotated(tmp_path / "one", alone)
    with Serving(latency_s=0.002, key="k" * 12) as quick, Serving(latency_s=0.04) as slow:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"NBANNOT_API_KEY_{'127.0.0.1'.replace('.', '_')}", "k" * 12)
            run = annotated(tmp_path / "two", quick, slow, max_parallel=8)
        assert slow.most_at_once <= 8
        assert quick.most_at_once <= 8
        assert 4 <= slow.count["answered"] < quick.count["answered"]
    assert run.run_id == right.run_id
    assert (run.folder / "output.csv").read_bytes() == (right.folder / "output.csv").read_bytes()
    asked = Counter(record["server"] for record in ledger_of(run))
    assert asked == run.config["answered_by"]
    assert asked == {quick.openai_url: quick.count["answered"], slow.openai_url: slow.count["answered"]}
    assert "server" not in ledger_of(right)[0]


def test_one_that_dies_is_left_out_and_comes_back_and_nothing_is_lost(tmp_path):
    with Serving() as alone:
        right = annotated(tmp_path / "one", alone)
    steady, dying = Serving(latency_s=0.01, capacity=8), Serving(latency_s=0.01, capacity=8)
    again = []

    def mishap():
        while dying.count["answered"] < 20:
            time.sleep(0.002)
        dying.stop()
        time.sleep(0.15)
        again.append(Serving(latency_s=0.01, port=dying.port).__enter__())

    with steady, dying:
        end = threading.Thread(target=mishap)
        end.start()
        run = annotated(tmp_path / "two", steady, dying, max_parallel=4)
        end.join()
    again[0].stop()
    assert run.status == "complete"
    assert again[0].count["answered"] > 0
    assert (run.folder / "output.csv").read_bytes() == (right.folder / "output.csv").read_bytes()
    answered = Counter((r["text_id"], *r["columns"]) for r in ledger_of(run) if r["error"] is None)
    assert len(answered) == 300
    assert max(answered.values()) == 1
    failed = [record for record in ledger_of(run) if record["error"] is not None]
    assert 0 < len(failed) <= 12
    assert {record["server"] for record in failed} == {dying.openai_url}


def test_one_that_serves_something_else_is_refused_before_the_first_text_and_when_it_comes_back(tmp_path):
    with Serving(models=("a",)) as one, Serving(models=("b",)) as other:
        with pytest.raises(ModelError) as caught:
            annotated(tmp_path, one, other, model="openai/")
        assert str(caught.value) == (
            f"the servers of base_url do not serve the same; the model: a at {one.openai_url}, "
            f"b at {other.openai_url}.\n"
            "  Leave one out, or start both with the same model and the same options."
        )
        assert one.count["answered"] == other.count["answered"] == 0
    with Serving(latency_s=0.02, capacity=8) as steady, Serving(latency_s=0.02) as dying:
        swapped = []

        def mishap():
            while dying.count["answered"] < 10:
                time.sleep(0.002)
            dying.stop()
            time.sleep(0.1)  # as no server is there again within the time that a connection takes to break
            swapped.append(Serving(port=dying.port, context=4_096).__enter__())

        end = threading.Thread(target=mishap)
        end.start()
        run = annotated(tmp_path, steady, dying, max_parallel=4)
        end.join()
        swapped[0].stop()
    assert run.status == "complete"
    assert swapped[0].count["answered"] == 0
    assert run.config["model_changes"] == [
        f"{dying.openai_url} came back with something else (the context window: 4096, not 100000) and got no more texts"
    ]


@pytest.mark.parametrize("delivered", ["task", "corpus"])
def test_a_connection_that_breaks_counts_also_where_a_later_request_was_answered_before(
    tmp_path, with_model, monkeypatch, delivered
):
    monkeypatch.setattr("nbannot.running.corpus_design.BLOCK_TEXTS", 50)

    class Steady(Scripted):
        async def ask(self, request):
            await asyncio.sleep(0.002)
            return well(request)

    class Breaking(Scripted):
        """The first request is answered, the second breaks when a third is on its way, and any other is too late."""

        third = late = made = 0

        def __init__(self, answer):
            super().__init__(answer)
            Breaking.made += 1
            self.number, self.context = 0, 4096 * Breaking.made

        def info(self):
            return replace(super().info(), context_size=self.context)

        async def ask(self, request):
            self.number += 1
            match self.number:
                case 2:
                    while not Breaking.third:
                        await asyncio.sleep(0.001)
                    return Reply(error=f"{BROKE} before the reply", retriable=True, finish_reason="error")
                case 3:
                    Breaking.third = 1
                    await asyncio.sleep(0.02)
            Breaking.late += self.number > 3
            return well(request)

    with_model(
        Several(
            lambda address: (Steady if address == "http://a" else Breaking)(well), ["http://a", "http://b"]
        )
    )
    task = TASK
    if delivered == "corpus":  # of three blocks
        TASK.data.write_parquet(tmp_path / "texts.parquet")
        task = nbannot.corpus(tmp_path / "texts.parquet", TASK.codebook)
    run = nbannot.run(task, model="mock", max_parallel=2, output_root=str(tmp_path))
    assert run.status == "complete"
    assert (Breaking.third, Breaking.late) == (1, 0)
    assert "came back with something else" in run.config["model_changes"][0]


def test_one_that_is_not_there_at_the_start_is_left_out_and_all_gone_is_said_and_resumed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("nbannot.engine.servers.LOOKS", 3)
    gone = "http://127.0.0.1:9/v1"
    with Serving() as there:
        run = annotated(tmp_path / "a", gone, there)
        assert run.status == "complete"
        assert f"{gone} cannot be reached and is left out until it can." in run.config["model_info"]["notes"]
    with pytest.raises(ModelError, match="cannot be reached"):
        annotated(tmp_path / "a", gone, "http://127.0.0.1:10/v1", seed=2)
    one, two = Serving(latency_s=0.01), Serving(latency_s=0.01)

    def mishap():
        while one.count["answered"] < 20 or two.count["answered"] < 20:
            time.sleep(0.002)
        one.stop()
        two.stop()

    with one, two:
        end = threading.Thread(target=mishap)
        end.start()
        stopped = annotated(tmp_path / "b", one, two, max_parallel=4)
        end.join()
    assert stopped.status == "partial"
    assert stopped.config["stopped"].startswith("no server has answered for a while; http://127.0.0.1")
    kept = {(r["text_id"], *r["columns"]) for r in ledger_of(stopped) if r["error"] is None}
    with Serving() as back:
        run = annotated(tmp_path / "b", back)
        assert run.run_id == stopped.run_id
        assert run.status == "complete"
        assert back.count["answered"] == 300 - len(kept)


def test_one_whose_key_is_refused_answers_nothing_and_costs_nothing(tmp_path):
    with Serving() as there, Serving(latency_s=0.01) as locked:
        locked._models = ["tiny"]
        before = there.behaviour

        def lock():
            while locked.count["answered"] < 5:
                time.sleep(0.001)
            locked.behaviour = type(before)(**{**before.__dict__, "key": "secret-of-it", "port": locked.port})

        end = threading.Thread(target=lock)
        end.start()
        run = annotated(tmp_path, there, locked, max_parallel=4)
        end.join()
    assert run.status == "complete"
    assert run.coding.count().get("failed", 0) == 0
    assert {r["server"] for r in ledger_of(run) if r["error"]} == {locked.openai_url}


def test_the_doors_take_a_list_an_option_twice_and_commas(tmp_path, capsys):
    with Serving() as one, Serving() as two:
        addresses = [one.openai_url, two.openai_url]
        common = [
            "run",
            "policy-sentiment",
            "--limit=20",
            "--fields=Direction",
            "--model=openai/tiny",
            "-q",
            "--json",
        ]
        typed = (
            ["--base_url", addresses[0], "--base_url", addresses[1]],
            ["--base-url", ",".join(addresses)],
        )
        told = []
        for number, options in enumerate(typed):
            assert main([*common, *options, "--output_root", str(tmp_path / str(number))]) == 0
            told.append(json.loads(capsys.readouterr().out))
        assert one.count["answered"] + two.count["answered"] == 40
        assert min(one.count["answered"], two.count["answered"]) > 0
    configs = [json.loads(path.read_text()) for path in tmp_path.glob("*/policy-sentiment/*/config.json")]
    assert [config["base_url"] for config in configs] == [addresses] * 2
    assert len({config["run_id"] for config in configs}) == 1
    with pytest.raises(ConfigError, match="text_model goes with one base_url"):
        nbannot.run(
            TASK, model="decide/x", base_url=["http://localhost:1", "http://localhost:2"], text_model="mock"
        )


def test_every_server_that_was_sent_texts_is_named_also_one_of_an_earlier_session(tmp_path):
    with Serving() as one, Serving() as other, Serving(faults={"http_500": 1.0}) as failing:
        begun = annotated(tmp_path, one, other, failing, budget={"calls": 60})
        asked = begun.config["answered_by"]
        assert asked[failing.openai_url] == 0
        assert min(asked[one.openai_url], asked[other.openai_url]) > 0
        assert "before" not in _texts_went(begun)
        run = annotated(tmp_path, one, failing)
        assert (run.run_id, run.status) == (begun.run_id, "complete")
        assert _texts_went(run) == (
            f"{one.openai_url}, {failing.openai_url} (on this machine); before: {other.openai_url} (on this machine)"
        )
        elsewhere = {"endpoint": "http://gpu1/v1", "is_local": False}
        asked = {"http://gpu2/v1": 1, "http://gpu1/v1/": 1, "node7": 2}
        assert where_texts_went({"model_info": elsewhere, "answered_by": asked}) == (
            "http://gpu1/v1 (another machine); before: http://gpu2/v1 (another machine)"
        )
        # A corpus counts over its blocks, and nobody is named twice.
        TASK.data.write_parquet(tmp_path / "x.parquet")
        made = nbannot.corpus(tmp_path / "x.parquet", TASK.codebook, name="many")
        several = [one.openai_url, other.openai_url]
        done = nbannot.run(made, model="openai/tiny", base_url=several, output_root=str(tmp_path))
        assert sum(done.config["answered_by"].values()) == 2 * len(TASK)
        for again in (f"{one.openai_url}/", one.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(ModelError, match=r"base_url names one server twice: .*\n  Leave one"):
                annotated(tmp_path, one, again)
    with pytest.raises(ConfigError, match=r'must be one address; several are a list, \["http://gpu1'):
        RunConfig(base_url="http://a:1/v1, http://b:2/v1")


def _texts_went(run):
    return dict(cost_facts(run))["texts went"]


def test_the_doctor_asks_every_server_and_says_which_one_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr("nbannot.doors.doctor.ollama_models", lambda address: None)
    with Serving() as one, Serving() as other, Serving(context=4096) as third:
        several = [one.openai_url, other.openai_url]
        assert main(["doctor", "openai/tiny", "--base_url", ",".join(several)]) == 0
        told = capsys.readouterr().out
        assert [f"ok  answer of {address}  " in told for address in several] == [True, True]
        dead = "http://127.0.0.1:9/v1"
        assert main(["doctor", "openai/tiny", "--base_url", dead, "--base_url", one.openai_url]) == 1
        told = capsys.readouterr().out
        assert re.search(
            rf"^!!  answer of {dead} +the model server at {dead} cannot be reached", told, re.MULTILINE
        )
        assert re.search(rf"^ok  answer of {one.openai_url} ", told, re.MULTILINE)
        assert main(["doctor", "openai/tiny", "--base_url", f"{one.openai_url},{third.openai_url}"]) == 1
        assert "do not serve the same; the context window" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_yet_counts_in_where_texts_go():
    with Serving() as server:
        here = f"{server.url}/v1"
        info = get_model(RunConfig(model="openai/tiny", base_url=["http://gpu.invalid:8000/v1", here])).info()
        assert info.endpoint == f"http://gpu.invalid:8000/v1, {here}"
        assert not info.is_local
        assert not info.energy_measured
        both = [here, "http://127.0.0.1:9/v1"]
        assert get_model(RunConfig(model="openai/tiny", base_url=both)).info().is_local
