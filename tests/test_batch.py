"""Delivery by batch: waves, coming back, what ends otherwise, limits, kills; against providers as documented."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from batching import Provider

import nbannot as nba
from nbannot.asking.batch_lines import batches_in
from nbannot.asking.ledger import Ledger
from nbannot.asking.ledger_lines import read_lines
from nbannot.doors import cli
from nbannot.errors import ConfigError, RunError
from nbannot.models import batch_offers
from nbannot.models.prices import Prices
from nbannot.page.digits import money
from nbannot.tools.files import read_json

NAMES = {"files": "openai/tiny", "messages": "anthropic/claude-small-4", "jobs": "openai/tiny"}
LATER = 'delivery = "batch"'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("NBANNOT_API_KEY", "ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("nbannot.engine.outbox.LATE_S", 0.3)
    monkeypatch.setattr("nbannot.engine.batch.FIRST_LOOK_S", 0.02)


@pytest.fixture(params=list(NAMES))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The three forms of batches: OpenAI's files, Mistral's jobs, Anthropic's messages."""
    if request.param == "jobs":
        from nbannot.models.batch_files import FileBatches

        made = FileBatches.__init__

        def as_mistral(self: FileBatches, model: Any) -> None:
            made(self, model)
            self._jobs, self._path = True, "/batch/jobs"

        monkeypatch.setattr(FileBatches, "__init__", as_mistral)
    return str(request.param)


@cache
def texts() -> nba.Task:
    """The bundled texts without people's labels: nothing is scored."""
    whole = nba.load_task("policy-sentiment")
    return nba.Task(whole.data.select("sample_id", "text"), whole.codebook, name="texts")


def go(server: Provider, place: Path, kind: str = "files", **settings: Any) -> nba.Run:
    given = {"limit": 12, "delivery": "batch", "output_root": str(place), **settings}
    return nba.run(texts(), model=NAMES[kind], base_url=f"{server.url}/v1", **given)


def finished(server: Provider, place: Path, kind: str = "files", calls: int = 9, **settings: Any) -> nba.Run:
    """Return the run once it is complete, each time called anew as from another session."""
    for _ in range(calls):
        run = go(server, place, kind, **settings)
        if run.status == "complete":
            return run
    raise AssertionError(f"not complete: {run.config['stopped']}")


def sent_once(server: Provider) -> bool:
    return max(server.submitted.values()) == 1


def labels(run: nba.Run) -> str:
    return (run.folder / "output.csv").read_text()


def test_waves_are_submitted_left_and_collected_and_give_the_labels_that_asking_now_gives(kind, tmp_path):
    said: list[str] = []
    with Provider(looks=2) as server:
        first = go(server, tmp_path, kind, say=said.append)
        assert (first.status, first.config["out"], len(server.batches)) == ("partial", 24, 1)
        assert "24 requests are out in 1 batch" in said[-1]
        assert "run the same again to collect them" in said[-1]
        assert nba.load_run(first.folder).status == "partial"
        assert not (tmp_path / "metrics").exists(), "nothing came back, and nothing is scored as wrong"
        (tmp_path / "elsewhere").mkdir()
        first.folder.parent.rename(tmp_path / "elsewhere" / first.folder.parent.name)
        run = finished(server, tmp_path / "elsewhere", kind)
        assert len(server.batches) == 2, "conditional fields wait for the answers that they depend on"
        assert sent_once(server)
        assert not server.calls, "nothing was asked at once"
        now = go(server, tmp_path / "now", kind, delivery="now")
    assert labels(run) == labels(now)
    assert run.run_id == now.run_id
    lines = list(read_lines(run.folder / "responses.jsonl"))
    calls = [line for line in lines if "text_id" in line]
    assert {line["batch"] for line in calls} == set(batches_in(lines))
    assert {line["seconds"] for line in calls} == {None}
    assert run.timing["total_inference_time"] is None
    assert run.timing["inference_count"] == len(calls) == len(server.submitted)
    assert sorted(p.name for p in run.folder.iterdir() if p.name.startswith(".")) in ([], [".lock"])


def test_a_call_that_waits_does_all_the_waves(kind, tmp_path):
    with Provider(looks=3) as server:
        assert go(server, tmp_path, kind, batch_wait=1).status == "complete"
        assert sent_once(server)


def test_a_wave_is_cut_to_the_limits_of_the_provider(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_offers, "UNKNOWN", batch_offers.Offer("x", (), None, 5, 9_000))
    with Provider(most=(5, 9_000)) as server:
        finished(server, tmp_path, kind)
        sizes = [len(batch["requests"]) for batch in server.batches.values()]
    assert max(sizes) <= 5
    assert len(sizes) >= 6
    assert sent_once(server)


def test_a_batch_that_the_provider_finds_too_large_is_halved_until_it_is_taken(kind, tmp_path):
    with Provider(most=(7, 10**8)) as server:
        run = finished(server, tmp_path, kind)
        assert max(len(batch["requests"]) for batch in server.batches.values()) <= 7
        assert sent_once(server)
    refused = [line["most"] for line in read_lines(run.folder / "responses.jsonl") if line.get("most")]
    assert refused[0] == 12  # of 24, and remembered by the sessions after it
    assert len(refused) < 6
    assert not list(run.folder.glob(".responses.jsonl.*"))


def test_after_a_batch_that_is_more_than_the_account_may_have_waiting_smaller_ones_are_sent(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("nbannot.engine.outbox.LEAST_QUEUED", 4)
    with Provider(end=lambda number: "failed" if number == 0 else "completed") as server:
        server.why_failed = {
            "code": "token_limit_exceeded",
            "message": "Enqueued token limit reached for gpt-4o-mini",
        }
        go(server, tmp_path)
        assert "the next batches hold at most 12" in go(server, tmp_path).config["stopped"]
        finished(server, tmp_path)
        assert [len(batch["requests"]) for batch in server.batches.values()][:3] == [24, 12, 12]


def test_results_in_any_order_twice_missing_refused_and_faulty(kind, tmp_path):
    """Each is what it would be if it had been asked by itself; what did not come is submitted again."""

    def fate(name: str, body: Any, number: int) -> Any:
        draw = int(name[-2:], 16)
        if number:
            return ""
        if draw < 60:
            return "expired"
        if draw < 90:
            return "missing"
        if draw < 150:
            return "twice"
        return (500, ("api_error", "broken")) if draw < 180 else ""

    with Provider(fate=fate) as server:
        go(server, tmp_path, kind, limit=40, fields=["Explicit evaluation"])
        second = go(server, tmp_path, kind, limit=40, fields=["Explicit evaluation"])
        assert "came back unanswered" in second.config["stopped"]
        n_lost = sum(int(name[-2:], 16) < 90 for name in server.submitted)
        run = finished(server, tmp_path, kind, limit=40, fields=["Explicit evaluation"])
        again = Counter({name[-20:]: 0 for name in server.submitted})
        again.update(name[-20:] for name in server.submitted)
        now = go(server, tmp_path / "now", kind, limit=40, fields=["Explicit evaluation"], delivery="now")
    assert n_lost > 3
    assert labels(run) == labels(now)
    assert len(again) == 40
    lost = {name for name, n in again.items() if n > 1}
    assert all(int(name[-2:], 16) < 180 for name in lost)


@pytest.mark.parametrize("end", ["completed", "expired"])
def test_results_that_are_cut_short_are_never_submitted_again(kind, end, tmp_path):
    """A proxy may end a file early without a word: what is missing may be answered, and is paid for."""
    short, wanted = [True], {"limit": 40, "fields": ["Explicit evaluation"]}

    def taken(run: nba.Run) -> int:
        lines = read_lines(run.folder / "responses.jsonl")
        return sum("text_id" in line and line["attempt"] == 1 for line in lines)

    def cut(content: bytes) -> bytes:
        return content[: len(content) // 2] if short else content

    with Provider(cut=cut, end=lambda number: end if number == 0 else "completed") as server:
        go(server, tmp_path, kind, **wanted)
        second = go(server, tmp_path, kind, **wanted)
        n_good = sum(b'"expired"' not in line and b"batch_expired" not in line for line in server.results(0))
        assert 0 < taken(second) < n_good
        assert second.status == "partial"
        assert "may be answered and paid for" in second.config["stopped"]
        assert sent_once(server)
        assert list(nba.batches(tmp_path)["state"]) == ["in part"]
        assert 0 < nba.batches(tmp_path)["answered"][0] < 40
        short.clear()
        assert taken(go(server, tmp_path, kind, **wanted)) == n_good
        finished(server, tmp_path, kind, **wanted)
        again = Counter(name[-20:] for batch in server.batches.values() for name, _ in batch["requests"])
        assert sum(n > 1 for n in again.values()) == 40 - n_good, "only what was not tried by its own words"


def test_of_two_downloads_that_are_cut_off_the_longer_one_counts(kind, tmp_path):
    cuts = iter([0.8, 0.3, 1.0])
    share = {}

    def cut(content):
        return content[: int(len(content) * share.setdefault(len(share), next(cuts, 1.0)))]

    with Provider(cut=cut) as server:
        go(server, tmp_path, kind)
        second = go(server, tmp_path, kind)
        assert second.status == "partial"
        assert second.coding.count()["ok"] > 12, "the first download had four fifths of 24"
        finished(server, tmp_path, kind)
        assert sent_once(server)


def test_a_batch_whose_rest_was_asked_at_once_is_not_out_any_more(tmp_path, capsys):
    with Provider(cut=lambda content: content[: len(content) // 2]) as server:
        wanted = {"limit": 20, "fields": ["Explicit evaluation"]}
        go(server, tmp_path, **wanted)
        assert go(server, tmp_path, **wanted).status == "partial"
        assert cli.main(["batches", "--output_root", str(tmp_path)]) == 0
        assert 'retry = "failed" with delivery = "now" asks them again' in capsys.readouterr().err
        done = go(server, tmp_path, **wanted, delivery="now", retry="failed")
        assert (done.status, 0 < len(server.calls) < 20) == ("complete", True)
    assert nba.batches(tmp_path).empty
    assert list(nba.batches(tmp_path, ended=True)["state"]) == ["not collected"]


def test_a_batch_that_shows_no_file_of_results_although_it_counts_answers_stays_with_the_provider(tmp_path):
    with Provider() as server:
        go(server, tmp_path)
        shown = server._shown
        server._shown = lambda batch: shown(batch) | {"output_file_id": None, "output_file": None}
        assert "counts 24 results" in go(server, tmp_path).config["stopped"]
        server._shown = shown
        finished(server, tmp_path)
        assert sent_once(server)


@pytest.mark.parametrize("end", ["expired", "cancelled", "failed"])
def test_a_batch_that_ends_otherwise_is_told_and_its_rest_submitted_by_the_next_call_only(end, tmp_path):
    with Provider(end=lambda number: end if number == 0 else "completed") as server:
        go(server, tmp_path, fields=["Explicit evaluation"])
        second = go(server, tmp_path, fields=["Explicit evaluation"], batch_wait=1)
        assert len(server.batches) == 1
        assert f"from a batch that {end}" in second.config["stopped"]
        assert ("line 1 is not JSON" in second.config["stopped"]) is (end == "failed")
        done = second.coding.count().get("ok", 0)
        assert (done == 0) is (end == "failed")
        finished(server, tmp_path, fields=["Explicit evaluation"])
        assert len(server.batches[f"batch_{len(server.batches) - 1}"]["requests"]) == 12 - done


def test_refusals_and_answers_that_are_none_are_read_as_ever_and_asked_again_in_the_next_wave(tmp_path):
    def fate(name: str, body: Any, number: int) -> Any:
        if number == 0 and int(name[-1], 16) < 5:
            return 400, ("content_filter", "The response was filtered: content management policy")
        return ""

    with Provider(fate=fate, variant="?prose=0.5") as server:
        run = finished(server, tmp_path, fields=["Explicit evaluation"], limit=30)
        assert len(server.batches) > 1
        assert sent_once(server)
    counts = run.coding.count()
    assert counts["refused"] > 0
    attempts = Counter(
        line["attempt"] for line in read_lines(run.folder / "responses.jsonl") if "text_id" in line
    )
    assert attempts[1] == 30
    assert 0 < attempts[2] < 30


def test_a_parameter_that_is_refused_is_left_out_of_the_next_wave(tmp_path):
    with Provider(old=True, sampling=False) as server:
        run = finished(server, tmp_path, "messages", fields=["Explicit evaluation"], batch_wait=1, calls=1)
    assert run.coding.count() == {"ok": 12}
    assert set(run.config["capabilities"]["dropped"]) >= {"temperature", "json_schema"}


def test_what_a_model_does_not_take_is_known_to_the_sessions_that_follow(tmp_path):
    """Else each wave of each session would come back refused before it is answered, a day later."""
    with Provider(sampling=False) as server:
        finished(server, tmp_path, "messages")
        sent = ["temperature" in batch["requests"][0][1] for batch in server.batches.values()]
    assert sent == [True, False, False]


def test_conversations_and_calibration_come_wave_by_wave(tmp_path):
    with Provider() as server:
        run = finished(server, tmp_path, "messages", chat_mode="per_text", limit=5)
        assert sent_once(server)
        now = go(server, tmp_path / "now", "messages", chat_mode="per_text", limit=5, delivery="now")
        assert labels(run) == labels(now)
        with pytest.raises(ConfigError, match="cannot go with chat_mode"):
            go(server, tmp_path, chat_mode="continuous")
        with pytest.raises(ConfigError, match="asks one question per request where answers are scored"):
            go(server, tmp_path, answer_mode="score", fields_per_query="all")
        with pytest.raises(ConfigError, match=r"for models of providers that have batches\. Got mock"):
            nba.run("policy-sentiment", model="mock", delivery="batch", output_root=str(tmp_path))


def test_nothing_is_asked_now_while_it_may_be_out(tmp_path):
    with Provider(looks=99) as server:
        go(server, tmp_path)
        with pytest.raises(RunError, match="24 requests of this run may still be out"):
            go(server, tmp_path, delivery="now")
        assert not server.calls


def test_a_budget_bounds_what_is_submitted(tmp_path):
    with Provider() as server:
        run = go(server, tmp_path, budget={"calls": 5})
        assert (run.config["out"], len(server.submitted)) == (5, 5)
        assert "the budget allows no more requests" in run.config["stopped"]
        money = go(server, tmp_path, budget={"money": 0.01}, prices={"input": 1.0, "output": 1.0})
        assert 0 < money.config["out"] < 12
        bound = sum(
            len(json.dumps(body)) + body["max_tokens"] for _, body in server.batches["batch_1"]["requests"]
        )
        assert bound / 1e6 < 0.01
        assert sent_once(server)


def test_a_budget_in_money_bounds_a_batch_by_list_prices_too(tmp_path, monkeypatch):
    """What is kept in a cache for an hour costs twice as much as what is sent."""
    batch = Prices(0.5, 0.5, cached_input=0.05, cache_write=1.0, input_at_most=1.0)
    monkeypatch.setattr(
        "nbannot.running.design.prices_of", lambda config, info: Prices(1.0, 1.0, batch=batch)
    )
    with Provider() as server:
        run = go(server, tmp_path, budget={"money": 0.01})
        assert 0 < run.config["out"] < 24
        bodies = [body for _, body in server.batches["batch_0"]["requests"]]
        bound = sum(batch.at_most(len(json.dumps(body)), body["max_tokens"]) for body in bodies)
        assert 0.005 < bound < 0.01


def test_a_plan_shows_both_prices_and_what_is_out_is_listed(tmp_path, monkeypatch, capsys):
    settings = {"limit": 4, "prices": {"input": 2.0, "output": 8.0}, "output_root": str(tmp_path)}
    plan = nba.plan(texts(), model="openai/x", **settings)
    assert plan.offer is not None
    assert plan.batch_money(plan.money_at_most) == plan.money_at_most / 2
    told = " ".join(str(plan).split())
    assert "50 % of the price, says OpenAI" in told
    assert f"at most {money(plan.money_at_most / 2)}; a pilot" in told
    assert "as a batch" not in str(nba.plan(texts(), model="mock", **settings))
    listed = nba.plan(texts(), model="openai/gpt-4.1-mini", limit=4, output_root=str(tmp_path))
    assert re.search(r"as a batch +at most US\$0\.\d+; a pilot", str(listed))
    with Provider(looks=2) as server:
        run = go(server, tmp_path)
        rows = nba.batches(tmp_path).to_dict("records")
        assert [(row["run_id"], row["batch"], row["requests"], row["state"]) for row in rows] == [
            (run.run_id, "batch_0", 24, "out")
        ]
        assert cli.main(["batches", "--output_root", str(tmp_path)]) == 0
        assert "batch_0" in capsys.readouterr().out
        monkeypatch.setattr(batch_offers, "UNKNOWN", batch_offers.Offer("x", (), 0.5, 99, 10**8))
        done = finished(server, tmp_path, prices={"input": 1e6, "output": 0.0})
    none = nba.batches(tmp_path)
    assert none.empty
    assert repr(none) == none._repr_html_() == f"no batch is out in {tmp_path}"
    assert set(nba.batches(tmp_path, ended=True)["state"]) == {"completed"}
    chars = read_json(done.folder / "char_counts.json")
    assert chars["batch_input_tokens"] == chars["input_tokens"]
    assert done.table_row()["cost"] == chars["input_tokens"] / 2
    assert "of them by batch" in str(done.report())


def test_files_are_written_for_work_elsewhere_and_results_read_when_they_are_whole(tmp_path):
    """As `vllm run-batch` takes and writes them."""
    given = {"model": "openai/tiny", "delivery": "file", "output_root": str(tmp_path), "limit": 12}
    with Provider() as server:
        for wave in (24, 6):
            run = nba.run(texts(), **given)
            assert run.config["out"] == wave
            source = Path(run.config["stopped"].partition("run-batch -i ")[2].split()[0])
            results = source.with_suffix(".results.jsonl")
            assert str(results) in run.config["stopped"]
            lines = [json.loads(line) for line in source.read_bytes().splitlines()]
            assert len(lines) == wave
            made = [
                {"id": f"vllm-{n}", "custom_id": line["custom_id"], "error": None,
                 "response": {"status_code": 200, "request_id": "x", "body": server.completion(line["body"])}}
                for n, line in enumerate(reversed(lines))
            ]  # fmt: skip
            results.write_text("".join(json.dumps(one) + "\n" for one in made[:-1]) + '{"id": "half')
            assert nba.run(texts(), **given).config["out"] == wave
            source.unlink()  # as somebody does who moves it to another machine
            assert nba.run(texts(), **given).config["out"] == wave
            results.write_text("".join(json.dumps(one) + "\n" for one in made))
        run = nba.run(texts(), **given)
        now = go(server, tmp_path / "now", delivery="now")
        assert not server.submitted
    assert run.status == "complete"
    assert labels(run) == labels(now)
    with pytest.raises(ConfigError, match=r"for models behind OpenAI's interface\. Got anthropic"):
        nba.run(texts(), **{**given, "model": "anthropic/x"})


@pytest.mark.parametrize("what", ["batch", "results"])
def test_what_is_not_found_for_a_moment_is_not_submitted_again(kind, what, tmp_path, monkeypatch):
    hidden: list[str] = []
    mark = {"batch": "batch_0", "results": "content" if kind != "messages" else "results"}[what]

    def before(method: str, path: str) -> Any:
        return (
            (404, "not_found_error", "Not Found")
            if method == "GET" and path.endswith(mark) and hidden
            else None
        )

    with Provider(looks=1, before=before) as server:
        go(server, tmp_path, kind)
        hidden.append("for a while")
        for _ in range(3):
            run = go(server, tmp_path, kind)
            assert run.config["out"] == 24
        assert "does not find the batch" in run.config["stopped"]
        hidden.clear()
        assert finished(server, tmp_path, kind).status == "complete"
        assert sent_once(server)
    with Provider(looks=1, before=before) as server:
        go(server, tmp_path / "gone", kind)
        hidden.append("for good")
        go(server, tmp_path / "gone", kind)
        monkeypatch.setattr("nbannot.engine.outbox.GONE_S", 0.0)
        run = go(server, tmp_path / "gone", kind)
        assert "24 came back unanswered from a batch that the provider no longer has" in run.config["stopped"]
        hidden.clear()
        assert finished(server, tmp_path / "gone", kind).status == "complete"


# ---- what is broken off -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_submission_that_is_broken_off_is_looked_for_before_anything_is_sent_again(kind, where, tmp_path):
    """The connection breaks before the provider has the batch, or after: in both cases it gets it once."""
    broken: list[str] = []
    ends = ("/v1/batches", "/v1/batch/jobs", "/v1/messages/batches")

    class Breaking(Provider):
        def _answer(self, method: str, path: str, *rest: Any) -> Any:
            first = method == "POST" and path in ends and not broken
            if first:
                broken.append(path)
                if where == "before":
                    raise ConnectionError
            answer = super()._answer(method, path, *rest)
            if first:
                raise ConnectionError
            return answer

    with Breaking() as server:
        finished(server, tmp_path, kind, fields=["Explicit evaluation"])
        assert broken
        assert len(server.batches) == 1
        assert sent_once(server)


@pytest.mark.parametrize("kind", ["files", "messages"], indirect=True)
def test_a_session_that_ends_at_any_step_of_a_batch_submits_nothing_twice(kind, tmp_path, monkeypatch):
    """It dies just before, or just after, each line that the ledger has of a batch."""
    noted = Ledger.note

    class Died(BaseException):
        pass

    def dying(at: int, written: bool) -> Any:
        count = iter(range(1000))

        def note(self: Ledger, **content: Any) -> None:
            dies = "batch" in content and next(count) == at
            if written or not dies:
                noted(self, **content)
            if dies:
                raise Died

        return note

    with Provider() as server:
        for at in range(4 if kind == "files" else 3):
            for written in (False, True):
                place = tmp_path / f"{at}{written}"
                with monkeypatch.context() as patch:
                    patch.setattr(Ledger, "note", dying(at, written))
                    with pytest.raises(BaseException, match="Died"):
                        finished(server, place, kind, limit=3, fields=["Explicit evaluation"])
                batches, names = len(server.batches), set(server.submitted)
                run = finished(server, place, kind, limit=3, fields=["Explicit evaluation"])
                out_before = at >= (2 if kind == "files" else 1)
                assert len(server.batches) - batches == (0 if out_before else 1), (at, written)
                assert run.coding.count() == {"ok": 3}
                assert len(set(server.submitted) - names) == (0 if out_before else 3)
        assert sent_once(server)


def test_a_provider_that_says_no_is_told_at_once(tmp_path):
    said = 429, "rate_limit_error", "Enqueued token limit reached"
    with Provider(
        before=lambda method, path: said if (method, path) == ("POST", "/v1/batches") else None
    ) as server:
        run = go(server, tmp_path, limit=3)
        assert server.paths["POST /v1/batches"] == 4
    assert "does not take the batch" in run.config["stopped"]
    assert "Enqueued token limit reached" in run.config["stopped"]
    assert run.config["out"] == 0


DRIVER = """
import json, sys
import polars as pl
import nbannot as nba
from nbannot.engine import batch, outbox
from nbannot.models import batch_offers
from nbannot.models.prices import Prices
outbox.LATE_S, batch.FIRST_LOOK_S, batch.LONGEST_LOOK_S = 0.2, 0.02, 0.05
url, model, place, texts, most = json.loads(sys.argv[1])
batch_offers.UNKNOWN = batch_offers.Offer("x", (), None, most, 100_000_000)
frame = pl.DataFrame({"sample_id": [f"t{n}" for n in range(texts)], "text": [f"Text {n}." for n in range(texts)]})
codebook = nba.load_task("policy-sentiment").codebook
run = nba.run(nba.Task(frame, codebook, name="many"), model=model, base_url=url, output_root=place, delivery="batch",
              fields=["Explicit evaluation", "Direction"], batch_wait=5)
print(run.status, run.coding.count())
"""


def killed_until_done(
    server: Provider,
    place: Path,
    kind: str,
    texts: int,
    most: int,
    kills: int,
    longest_s: float,
    seed: int = 1,
) -> tuple[str, int]:
    """Run a process again and again, killed at random moments the first times; return its last words and the kills."""
    draw, done = random.Random(seed), 0
    given = json.dumps([f"{server.url}/v1", NAMES[kind], str(place), texts, most])
    for _ in range(kills + 10):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if done < kills:
            ledger, since = place / "many", time.monotonic()
            while process.poll() is None and not list(ledger.glob("*/responses.jsonl")) and done == 0:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, longest_s))
            if process.poll() is None and time.monotonic() - since < 600:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                continue
        out, errors = process.communicate(timeout=600)
        if out.startswith("complete"):
            return out, done
        assert not errors.strip() or process.returncode == 0, errors[-2000:]
    raise AssertionError(f"not complete after {kills} kills: {out}{errors[-2000:]}")


@pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by a signal")
def test_killed_at_any_moment_each_request_is_submitted_once_and_every_answer_is_kept(tmp_path):
    with Provider(looks=2, most=(300, 100_000_000)) as server:
        out, done = killed_until_done(server, tmp_path, "files", texts=500, most=300, kills=3, longest_s=1.5)
        assert sent_once(server)
        assert done  # how many of three sessions are killed before they end depends on the machine
        assert len(server.submitted) >= 1000 - 500
        answered = Counter(
            (line["text_id"], *line["columns"], line["attempt"])
            for line in read_lines(next(tmp_path.glob("many/*/responses.jsonl")))
            if "text_id" in line
        )
    assert max(answered.values()) == 1
    assert len(answered) == len(server.submitted)
    assert out.startswith("complete")
    frame = pl.read_csv(next(tmp_path.glob("many/*/output.csv")))
    assert frame.height == 500
