"""A corpus: read as it is needed, asked about block by block, and whatever ends a session, no answer is lost."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from conftest import DEGREE, GATE, MARKS, QUOTE, STANCE, codebook_of
from scripted import Scripted, replying, run_it, well

import nbannot
from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.request_reply import Reply
from nbannot.errors import RunError, RunInterrupted, ScoringError, TaskError
from nbannot.models.mock import MockModel
from nbannot.models.prices import Prices
from nbannot.record import folder
from nbannot.record.corpus_run import CorpusRun
from nbannot.record.loading import load_run
from nbannot.running import corpus_design
from nbannot.running.plan import plan
from nbannot.study.corpus_sources import corpus, corpus_of_run
from nbannot.study.segments import cut_by
from nbannot.study.task import Task
from nbannot.tools.parquet import as_os_error, read_parquet

BOOK = codebook_of(GATE, STANCE, DEGREE, QUOTE, MARKS)
N = 60
SAME = {11: 2, 37: 2, 38: 5, 59: 11}
"""Row -> an earlier row with the same text."""


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_design, "BLOCK_TEXTS", 7)


def texts() -> pl.DataFrame:
    words = [f"Text {i}: the council of town {i * 7 % 13} decided about the road." for i in range(N)]
    for row, first in SAME.items():
        words[row] = words[first]
    words[20] = "  "
    gate = ["1" if i % 3 else "0" for i in range(N)]
    coded = [label if i % 2 == 0 else "" for i, label in enumerate(gate)]
    ids = [f"t{i:03d}" for i in range(N)]
    return pl.DataFrame({"id": ids, "text": words, "party": ["A", "B"] * (N // 2), "S_Gate": coded})


def files(place: Path) -> str:
    """Write the texts as two Parquet files; return the pattern that names them."""
    place.mkdir(parents=True, exist_ok=True)
    texts().head(25).write_parquet(place / "a.parquet")
    texts().tail(N - 25).write_parquet(place / "b.parquet")
    return str(place / "*.parquet")


def asked_in(run: CorpusRun) -> Counter:
    """Return how often each question about each text is in the ledger's segments."""
    return Counter(
        (record["text_id"], *record["columns"], record["attempt"])
        for path in sorted((run.folder / "responses").iterdir())
        for record in read_lines(path)
        if "text_id" in record
    )


def output(run: CorpusRun) -> list[dict]:
    return run.labels.collect().to_dicts()


def refusal(call, *given, **named) -> str:
    with pytest.raises(TaskError) as caught:
        call(*given, **named)
    return str(caught.value)


class TestLabels:
    @pytest.mark.parametrize("mode", ["per_query", "per_text"])
    def test_blocks_say_what_a_task_says(self, tmp_path, with_model, mode):
        """Conditional fields, blank texts, duplicates: as if the texts had been in memory, each asked about once."""

        def answer(request):
            if "boolean" in json.dumps(request.schema):
                return replying("town 5" in request.text or "town 8" in request.text)
            return well(request)

        data = texts()
        with_model(Scripted(answer))
        whole = run_it(Task(data, BOOK, "whole"), output_root=str(tmp_path / "out"), chat_mode=mode)
        model = with_model(Scripted(answer))
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        said: list[str] = []
        run = run_it(made, output_root=str(tmp_path / "out"), chat_mode=mode, say=said.append)
        assert (run.status, run.n_texts, run.n_duplicates) == ("complete", N, len(SAME))
        assert (
            "4 of 60 texts are the same as an earlier one: they are not asked about and get its labels."
            in said
        )
        rows = output(run)
        assert [row["id"] for row in rows] == data["id"].to_list()
        for f in BOOK:
            answers = whole.coding.answers[f.column]
            assert [row[f"{f.column}.status"] for row in rows] == [a.status for a in answers]
            cells = ["" if row[f.column] is None else str(row[f.column]) for row in rows]
            assert cells == [f.to_cell(a.value) for a in answers]
            assert run.counts[f.column] == whole.coding.count(f.column)
        assert {i: row["duplicate_of"] for i, row in enumerate(rows) if row["duplicate_of"]} == {
            11: "t002", 37: "t002", 38: "t005", 59: "t002"
        }  # fmt: skip
        assert set(asked_in(run).values()) == {1}
        assert not {f"t{i:03d}" for i in (*SAME, 20)} & {key[0] for key in asked_in(run)}
        assert len(model.requests) == sum(asked_in(run).values())
        # People's labels are scored as those of a task are, and copied labels count for their text.
        assert run.metrics.equals(whole.metrics)
        coded = whole.task.select(ids=list(run.task.ids))
        assert len(run.task) == len(coded) == N // 2
        again = load_run(run.folder)
        assert isinstance(again, CorpusRun)
        assert again.counts == run.counts
        assert again.metrics.equals(run.metrics)
        assert run.whole().coding.answers["S_Marks"] == whole.coding.answers["S_Marks"]

    def test_weights_and_clusters_hold_for_the_coded_texts(self, tmp_path, with_model):
        data = texts().with_columns(pl.Series("w", [str(1 + i % 4) for i in range(N)]))
        with_model(Scripted(well))
        settings = {
            "output_root": str(tmp_path / "out"),
            "fields": ["Gate"],
            "weights": "w",
            "cluster": "party",
        }
        run = run_it(corpus(data, BOOK, name="many"), **settings)
        whole = run_it(Task(data, BOOK, "whole"), **settings)
        assert run.metrics.equals(whole.metrics)
        assert load_run(run.folder).metrics.equals(whole.metrics)
        plain = run_it(corpus(data, BOOK, name="plain"), output_root=str(tmp_path / "out"), fields=["Gate"])
        assert not run.metrics.equals(plain.metrics)
        # A finished run is scored as it is asked to be, and so are files and tables; who says nothing changes nothing.
        silent = {name: value for name, value in settings.items() if name not in ("weights", "cluster")}
        for more in (settings, silent):
            model = with_model(Scripted(well))
            again = run_it(corpus(data, BOOK, name="plain"), **more)
            assert (again.run_id, model.requests) == (plain.run_id, [])
            assert again.metrics.equals(whole.metrics)
            assert again.table_row()["weights"] == "w"
            assert load_run(again.folder).metrics.equals(whole.metrics)
        for name in (folder.REPORT, folder.CHARS):
            (again.folder / name).unlink()
            run_it(corpus(data, BOOK, name="plain"), **settings)
            assert (again.folder / name).exists()
        even = data.with_columns(pl.lit("1").alias("w"))
        changed = run_it(corpus(even, BOOK, name="plain"), **settings)
        assert (changed.run_id, model.requests) == (plain.run_id, [])
        assert not changed.metrics.equals(whole.metrics)
        # Files without people's labels do not take away those that the folder holds.
        bare = run_it(corpus(data.drop("S_Gate"), BOOK, name="plain"), **silent, retry="invalid")
        assert bare.metrics.equals(changed.metrics)

    def test_a_whole_run_has_what_a_task_has(self, tmp_path):
        """Probabilities of all options, labels outside the codebook, duplicates: shares and scores as of a task."""
        outside = pl.when(pl.col("id") == "t004").then(pl.lit("perhaps")).otherwise("S_Gate")
        data = texts().with_columns(outside.alias("S_Gate"))
        settings = {
            "model": "mock",
            "output_root": str(tmp_path / "out"),
            "answer_mode": "score",
            "calibration": "none",
        }
        made = corpus(data, BOOK, name="many", duplicates="each", outside_labels="not_coded")
        whole = run_it(made, **settings).whole()
        task = run_it(Task(data, BOOK, "plain", outside_labels="not_coded"), **settings)
        assert whole.coding.answers == task.coding.answers
        assert whole.metrics.equals(task.metrics)
        shares = nbannot.prevalence(whole, "Gate", sampled="random").frame()
        assert shares.equals(nbannot.prevalence(task, "Gate", sampled="random").frame())
        data.write_parquet(tmp_path / "x.parquet")
        asked = corpus(tmp_path / "x.parquet", BOOK, name="once", outside_labels="not_coded", compress=False)
        once = run_it(asked, **settings)
        answers = once.whole().coding.answers["S_Degree"]
        assert all(answers[row] == answers[first] for row, first in SAME.items())
        again = corpus_of_run(once.config)
        assert (again.outside_labels, again.compress) == ("not_coded", False)
        assert run_it(again, **settings).run_id == once.run_id

    def test_where_personal_data_was_looked_for_is_said(self, tmp_path, with_model):
        class Remote(Scripted):
            def info(self):
                return replace(super().info(), is_local=False)

        with_model(Remote(well))
        words = [f"write to ada{i}@example.org" for i in range(20)]
        made, said = corpus(pl.DataFrame({"text": words}), codebook_of(GATE), name="many"), []
        run = run_it(made, output_root=str(tmp_path / "out"), say=said.append)
        start = "Looked for in the first 7 of 20 texts: 7 of 7 texts seem to hold personal data: 7 e-mail addresses"
        assert any(line.startswith(start) for line in said)
        assert start in run.config["personal_data"]

    def test_a_block_of_nothing_but_duplicates(self, tmp_path, with_model):
        words = [f"text {i % 7}" if i < 14 else f"text {i}" for i in range(21)]
        model = with_model(Scripted(well))
        made = corpus(pl.DataFrame({"text": words}), codebook_of(GATE), name="many")
        run = run_it(made, output_root=str(tmp_path / "out"))
        assert (run.status, len(model.requests), run.counts) == ("complete", 14, {"S_Gate": {"ok": 21}})
        of = [row["duplicate_of"] for row in output(run)]
        assert of == [None] * 7 + [str(i + 1) for i in range(7)] + [None] * 7

    def test_the_same_texts_in_another_format_are_the_same_run(self, tmp_path):
        data = texts()
        pandas = pd.DataFrame(data.to_dict(as_series=False))
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        first = run_it(made, model="mock", output_root=str(tmp_path / "out"))
        data.write_csv(tmp_path / "texts.csv")
        data.write_ndjson(tmp_path / "texts.jsonl")
        for source in (tmp_path / "texts.csv", tmp_path / "texts.jsonl", data.lazy(), pandas):
            other = corpus(source, BOOK, name="many")
            assert plan(other, model="mock", output_root=str(tmp_path / "out")).state == "complete"
            assert run_it(other, model="mock", output_root=str(tmp_path / "out")).run_id == first.run_id
        each = corpus(data.lazy(), BOOK, name="many", duplicates="each")
        assert plan(each, model="mock", output_root=str(tmp_path / "out")).run_id != first.run_id

    def test_the_calibration_of_the_first_block_holds_for_all(self, tmp_path, monkeypatch):
        monkeypatch.setattr(corpus_design, "BLOCK_TEXTS", 40)
        book = codebook_of({**GATE, "name": "Good"}, {**DEGREE, "name": "Rare"})
        made = corpus(files(tmp_path / "in"), book, name="many")
        settings = {"model": "mock", "answer_mode": "score", "calibration": "batch"}
        run = run_it(made, output_root=str(tmp_path / "out"), **settings)
        assert run.status == "complete"
        offsets = run.config["calibration_offsets"]
        assert set(offsets) == {"S_Good", "S_Rare"}
        one, other = (
            run.folder / "responses" / "000000.jsonl.gz",
            run.folder / "responses" / "000001.jsonl.gz",
        )
        notes = [[r for r in read_lines(path) if "calibration" in r] for path in (one, other)]
        assert [n.get("frozen") for n in notes[0]] == [None, None]
        assert {n["calibration"]: n["offset"] for n in notes[1]} == offsets
        assert all(n["frozen"] for n in notes[1])
        calibrated = [row for row in output(run) if row["S_Good.status"] == "ok"]
        assert all(row["S_Good.probability"] is not None and not row["S_Good.reason"] for row in calibrated)

    def test_what_people_coded_is_looked_at_before_anything_is_asked(self, tmp_path):
        """Label columns that look mistyped, texts that were coded twice, boxes that were only ever ticked."""
        settings = {"model": "mock", "output_root": str(tmp_path / "out")}
        data = texts().with_columns(
            pl.when(pl.col("S_Gate") == "1").then(pl.lit("1")).otherwise(pl.lit("")).alias("S_Gate")
        )
        twice = pl.concat([data, data.with_columns(pl.col("id") + "b")])
        made = corpus(twice.rename({"party": "Degree"}), BOOK, name="many")
        said = plan(made, **settings).remarks
        n = data.filter(pl.col("S_Gate") == "1").height - 1  # one of them is blank
        same = next(line for line in said if "coded texts are the same" in line)
        assert same.startswith(f"{n} of {2 * n} coded texts are the same as an earlier one. Intervals")
        assert any("The column 'Degree' is kept as metadata" in line for line in said)
        ticked = next(line for line in said if "every coded text has a 1" in line)
        run = run_it(made, **settings, fields=["Gate"])
        card = " ".join(str(run).replace("┃", " ").split())
        assert all(" ".join(line.split()) in card for line in (same, ticked))
        assert same in Task(twice, BOOK, "whole").notices
        wider = run_it(made, **settings, fields=["Gate"], cluster="text")
        assert "coded texts are the same" not in str(wider)
        assert plan(corpus(texts(), BOOK, name="few"), **settings).remarks[1:] == ()

    def test_texts_that_people_coded_later_are_scored_without_a_call(self, tmp_path, with_model):
        place = tmp_path / "in"
        data = texts().drop("S_Gate")
        place.mkdir()
        data.write_parquet(place / "x.parquet")
        with_model(Scripted(well))
        first = run_it(corpus(place, BOOK, name="many"), output_root=str(tmp_path / "out"))
        assert "none of them was coded by people" in str(first.report())
        texts().write_parquet(place / "x.parquet")
        model = with_model(Scripted(well))
        second = run_it(corpus(place, BOOK, name="many"), output_root=str(tmp_path / "out"))
        assert (second.run_id, model.requests) == (first.run_id, [])
        assert len(second.task) == N // 2
        text = str(second.report())
        assert "A corpus of 60 texts, of which 4 are the same as an earlier one: 56 were asked about" in text
        assert "scored on the 30 that people coded" in text
        assert "on 30 texts" in text


class TestSessions:
    def test_kills_lose_nothing_and_ask_nothing_twice(self, tmp_path):
        """kill -9 at random moments, with failures, blocks, and segments that are being compressed."""
        pattern = files(tmp_path / "in")
        script = tmp_path / "session.py"
        script.write_text(
            "import sys, nbannot as nba\n"
            "from conftest import *\n"
            "from nbannot.running import corpus_design\n"
            "corpus_design.BLOCK_TEXTS = 7\n"
            "book = codebook_of(GATE, STANCE, DEGREE, QUOTE, MARKS)\n"
            "made = nba.corpus(sys.argv[1], book, name='many')\n"
            "print('begins', flush=True)\n"
            "nba.run(made, model='mock/?slow_s=0.01&parallel=4', output_root=sys.argv[2])\n"
        )
        out = tmp_path / "out"
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        chance = random.Random(5)
        kills = 0
        for _ in range(40):
            process = subprocess.Popen(
                [sys.executable, str(script), pattern, str(out)],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.6))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            if kills == 3:
                break
        settings = {"model": "mock/?slow_s=0.01&parallel=4", "output_root": str(out)}
        run = run_it(corpus(pattern, BOOK, name="many"), **settings)
        assert kills > 0
        assert run.status == "complete"
        assert set(asked_in(run).values()) == {1}  # nothing that was answered was asked again
        untouched = run_it(
            corpus(pattern, BOOK, name="many"), **{**settings, "output_root": str(tmp_path / "other")}
        )
        assert output(run) == output(untouched)
        assert (
            run.timing["inference_count"]
            == sum(asked_in(run).values())
            == untouched.timing["inference_count"]
        )

    def test_a_budget_stops_it_and_it_goes_on(self, tmp_path):
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        settings = {"model": "mock", "output_root": str(tmp_path / "out"), "fields": ["Gate"]}
        part = run_it(made, **settings, budget={"calls": 20})
        assert part.status == "partial"
        assert part.config["stopped"] == "the budget is spent: calls 20 of 20"
        assert sum(asked_in(part).values()) == 20
        assert part.sums.counts["S_Gate"]["ok"] == 20
        left = plan(made, **settings)
        assert left.calls_at_most == N - len(SAME) - 1 - 19  # the block that was begun counts whole
        rows = output(part)
        assert [row["id"] for row in rows] == texts()["id"].to_list()[: len(rows)]
        assert 20 <= sum(row["S_Gate.status"] == "ok" for row in rows) < N

    def test_a_budget_in_money_holds_over_all_blocks_by_list_prices(self, tmp_path, monkeypatch):
        told = {"input_tokens": 1_000, "output_tokens": 10, "cached_tokens": 400, "cache_write_tokens": 500}
        prices = Prices(1.0, 10.0, cached_input=0.1, cache_write=2.0)
        each = prices.of(1_000, 10, 400, 500)
        monkeypatch.setattr("nbannot.running.design.prices_of", lambda config, info: prices)
        ask = MockModel.ask

        async def paid(self, request):
            return replace(await ask(self, request), **told)

        monkeypatch.setattr(MockModel, "ask", paid)
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        settings = {"model": "mock/?parallel=1", "output_root": str(tmp_path / "out"), "fields": ["Gate"]}
        part = run_it(made, **settings, budget={"money": 19.5 * each})
        assert part.config["stopped"].startswith("the budget is spent: money")
        assert part.sums.calls == 20
        assert part.cost == pytest.approx(20 * each)
        done = run_it(made, **settings)
        assert (done.run_id, done.status) == (part.run_id, "complete")
        assert set(asked_in(done).values()) == {1}
        assert len(output(done)) == N
        assert plan(made, **settings).calls_at_most == 0

    def test_an_interrupt_keeps_what_is_done(self, tmp_path, with_model):
        class Ended(Scripted):
            async def ask(self, request):
                if len(self.requests) == 30:
                    os.kill(os.getpid(), signal.SIGINT)
                return await super().ask(request)

        with_model(Ended(well))
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        with pytest.raises(RunInterrupted, match="answers are kept"):
            run_it(made, output_root=str(tmp_path / "out"))
        with_model(Scripted(well))
        done = run_it(made, output_root=str(tmp_path / "out"))
        assert done.status == "complete"
        assert set(asked_in(done).values()) == {1}

    def test_what_failed_or_was_invalid_is_asked_again_in_a_finished_block(self, tmp_path, with_model):
        def sulking(request):
            if "Text 3:" in request.text:
                return Reply(error="HTTP 400: no", finish_reason="error")
            return replying("perhaps") if "Text 9:" in request.text else well(request)

        made = corpus(files(tmp_path / "in"), codebook_of(GATE), name="many")
        with_model(Scripted(sulking))
        part = run_it(made, output_root=str(tmp_path / "out"), retries=0)
        assert part.status == "partial"
        assert part.counts["S_Gate"] == {"ok": N - 3, "failed": 1, "invalid": 1, "not_asked": 1}
        assert "1 answer of 60 still open" in str(part)
        model = with_model(Scripted(well))
        done = run_it(made, output_root=str(tmp_path / "out"), retries=0, retry="invalid")
        assert done.counts["S_Gate"] == {"ok": N - 1, "not_asked": 1}
        assert sorted(r.text.split(":")[0] for r in model.requests) == ["Text 3", "Text 9"]
        assert all(path.suffix == ".gz" for path in (done.folder / "responses").iterdir())

    def test_a_sample_is_that_of_a_task(self, tmp_path):
        settings = {"model": "mock", "output_root": str(tmp_path / "out")}
        made = corpus(files(tmp_path / "in"), BOOK, name="many")
        for chosen in (
            {"limit": 30},
            {"sample": 15, "sample_seed": 3},
            {"ids": ["t041", "t003", "t037"]},
            {"sample": 20, "limit": 9, "sample_seed": 3},
        ):
            run = run_it(made, **settings, **chosen)
            wanted = Task(texts(), BOOK, "x").selected(chosen)
            rows = output(run)
            assert [row["id"] for row in rows] == wanted.ids
            assert all(row["S_Gate.status"] in ("ok", "invalid") or not row["text"].strip() for row in rows)
            assert run.task.ids == [
                i for i, g in zip(wanted.ids, wanted.human("Gate"), strict=True) if g is not None
            ]
        assert "sample_by does not go with a corpus" in refusal(
            run_it, made, sample=5, sample_by="party", **settings
        )
        assert refusal(run_it, made, ids=["t003", "nobody"], **settings) == (
            "the corpus 'many' has no text nobody (ids)."
        )


class TestFiles:
    def test_a_file_that_changed_is_noticed(self, tmp_path, with_model):
        pattern, out = files(tmp_path / "in"), str(tmp_path / "out")
        made = corpus(pattern, BOOK, name="many")
        with_model(Scripted(well))
        first = run_it(made, output_root=out)
        texts().tail(N - 26).write_parquet(tmp_path / "in" / "b.parquet")
        assert "b.parquet changed while the run was at work." in refusal(run_it, made, output_root=out)
        said: list[str] = []
        other = corpus(pattern, BOOK, name="many")
        line = (
            f"since run {first.run_id}: b.parquet changed. This is a new run; its texts are asked about anew."
        )
        assert line in plan(other, output_root=out).remarks
        second = run_it(other, output_root=out, say=said.append)
        assert line in said
        assert second.run_id != first.run_id

    def test_a_file_that_changes_in_the_middle_stops_the_run(self, tmp_path, with_model):
        pattern, out = files(tmp_path / "in"), str(tmp_path / "out")

        class Meddling(Scripted):
            async def ask(self, request):
                if len(self.requests) == 10:
                    os.utime(tmp_path / "in" / "b.parquet", ns=(1, 1))
                return await super().ask(request)

        with_model(Meddling(well))
        with pytest.raises(TaskError, match=r"b\.parquet changed while the run was at work"):
            run_it(corpus(pattern, codebook_of(GATE), name="many"), output_root=out)
        with_model(Scripted(well))
        done = run_it(corpus(pattern, codebook_of(GATE), name="many"), output_root=out)
        assert done.status == "complete"
        assert set(asked_in(done).values()) == {1}

    @pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
    def test_people_coded_the_texts_of_one_file_only(self, tmp_path, with_model, ending):
        """The files need not have the same columns, and no label is lost where only a later file has them."""
        place = tmp_path / "in"
        place.mkdir()
        write = {"parquet": "write_parquet", "csv": "write_csv", "jsonl": "write_ndjson"}[ending]
        for name, part in (("a", texts().head(25).drop("S_Gate")), ("b", texts().tail(N - 25))):
            getattr(part, write)(place / f"{name}.{ending}")
        with_model(Scripted(well))
        run = run_it(corpus(place, BOOK, name="many"), output_root=str(tmp_path / "out"), fields=["Gate"])
        coded = texts().tail(N - 25).filter(pl.col("S_Gate") != "")
        assert run.task.data.select("id", "S_Gate").equals(coded.select("id", "S_Gate"))
        assert run.labels.collect()["party"].to_list() == texts()["party"].to_list()

    def test_a_plan_knows_the_longest_text_of_every_block(self, tmp_path, monkeypatch):
        prices = Prices(1.0, 10.0, long_from=8_000, long_input=2.0, long_output=20.0)
        monkeypatch.setattr("nbannot.running.design.prices_of", lambda config, info: prices)
        settings = {"model": "mock", "output_root": str(tmp_path / "out"), "fields": ["Gate"]}
        short = plan(corpus(texts(), BOOK, name="short"), **settings)
        assert short.money_at_most == prices.at_most(short.input_tokens_at_most, short.output_tokens_at_most)
        words = texts()["text"].to_list()
        words[-1] = "ü" * 4_000
        long = plan(corpus(texts().with_columns(pl.Series("text", words)), BOOK, name="long"), **settings)
        assert long.money_at_most == prices.at_most(
            long.input_tokens_at_most, long.output_tokens_at_most, 8_000
        )

    def test_names_with_brackets_and_stars_are_names(self, tmp_path, monkeypatch):
        """In folders of texts, of the cache and of runs; and a folder's own runs and hidden files are not its texts."""
        place = tmp_path / "Study [2024] *x?"
        monkeypatch.setenv("NBANNOT_CACHE", str(place / "cache [1]"))
        (place / "in").mkdir(parents=True)
        (place / "in" / "a[1].parquet").write_bytes(
            Path(files(tmp_path / "x")).with_name("a.parquet").read_bytes()
        )
        (place / "in" / "._a[1].parquet").write_bytes(b"of a file system")
        for source in (place / "in" / "a[1].parquet", place / "in", str(place / "in" / "*.parquet")):
            run = run_it(
                corpus(source, BOOK, name="many"), model="mock", output_root=str(place / "in" / "out")
            )
            assert run.whole().status == load_run(run.folder).status == "complete"
            assert run.labels.collect().height == 25
        assert len(corpus(texts(), BOOK, segment="3 words")) > N

    def test_a_plan_counts_the_texts_that_may_not_fit(self, tmp_path, with_model):
        """As that of a task does; where no window is known, or every text has room, it says nothing."""

        class Small(Scripted):
            window: int | None = None

            def info(self):
                return replace(super().info(), context_size=self.window)

        model = with_model(Small(well))
        words = [f"{i:02d}{'x' * (100 if i % 5 else 6_000)}" for i in range(20)]
        data, settings = pl.DataFrame({"text": words}), {"output_root": str(tmp_path / "out")}
        for window, said in ((1_800, 1), (None, 0), (10_000, 0)):
            model.window = window
            for texts_of in (corpus(data, BOOK, name="many"), Task(data, BOOK, "whole")):
                remarks = [line for line in plan(texts_of, **settings).remarks if "too long" in line]
                assert len(remarks) == said
                assert all(line.startswith("About 4 of 20 texts may be too long") for line in remarks)
                assert all("context of 1,800 tokens" in line for line in remarks)
        assert model.requests == []

    def test_letters_name_the_file_and_the_line(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,text\n1,one\n2,two,three\n")
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": \n')
        (tmp_path / "b.jsonl").write_text('{"text": "one"}\n["two"]\n')
        (tmp_path / "a.parquet").write_bytes(b"PAR1 no such thing")
        (tmp_path / "p").mkdir()
        texts().write_parquet(tmp_path / "p" / "a.parquet")
        texts().drop("text").write_parquet(tmp_path / "p" / "b.parquet")
        texts().with_columns(pl.lit("t").alias("id")).write_parquet(tmp_path / "twice.parquet")
        assert "a.csv: line 3 has 3 cells, the header has 2." in refusal(corpus, tmp_path / "a.csv", BOOK)
        assert "a.jsonl, line 3 is not JSON" in refusal(corpus, tmp_path / "a.jsonl", BOOK)
        assert "b.jsonl, line 2 is no JSON object but list" in refusal(corpus, tmp_path / "b.jsonl", BOOK)
        assert "a.parquet cannot be read: " in refusal(corpus, tmp_path / "a.parquet", BOOK)
        assert (
            "b.parquet has no column 'text' (the codebook's text_column).\n  Its columns: id, party"
            in refusal(corpus, tmp_path / "p", BOOK)
        )
        (tmp_path / "c").mkdir()
        texts().write_csv(tmp_path / "c" / "a.csv")
        texts().rename({"text": "txt"}).write_csv(tmp_path / "c" / "b.csv")
        assert "b.csv has no column 'text' (the codebook's text_column); did you mean 'txt'?" in refusal(
            corpus, tmp_path / "c", BOOK
        )
        for wrong in ({"name": 5}, {"id_column": 5}, {"compress": "no"}, {"outside_labels": "x"}):
            assert f"{next(iter(wrong))} must be " in refusal(corpus, texts(), BOOK, **wrong)
        assert "Got int." in refusal(corpus, 5, BOOK)
        assert "no file was named" in refusal(corpus, [], BOOK)
        clash = texts().rename({"party": "S_Gate.status"})
        assert "bears: S_Gate.status." in refusal(corpus, clash, BOOK)
        assert "all Parquet, all CSV or all JSONL" in refusal(corpus, str(tmp_path / "a.*"), BOOK)
        named = codebook_of(GATE, id_column="code")
        assert "has no column 'code' (the codebook's id_column)" in refusal(
            corpus, tmp_path / "twice.parquet", named
        )
        assert refusal(corpus, tmp_path / "no.parquet", BOOK).startswith(
            f"no file {tmp_path / 'no.parquet'}."
        )
        assert "the frame has no column 'code'" in refusal(corpus, texts(), named)
        assert "may be in another one: id_column=" in refusal(corpus, texts(), named)
        assert "cannot be collected" in refusal(corpus, texts().lazy().select("nothing"), BOOK)
        twice = corpus(tmp_path / "twice.parquet", BOOK, id_column="id")
        assert refusal(plan, twice, model="mock").startswith(
            "ids in column 'id' must be unique and not blank. Got 59 that are there before (rows 1, 2, 3 and 1 more, "
        )
        rows = corpus(tmp_path / "twice.parquet", BOOK)
        assert run_it(rows, model="mock", output_root=str(tmp_path / "o")).labels.collect()["row"][-1] == str(
            N
        )
        assert "The column 'id' does not identify the texts: 59 that are there before" in rows.notices[0]
        wrong = texts().with_columns(pl.lit("maybe").alias("S_Gate"))
        wrong.write_parquet(tmp_path / "wrong.parquet")
        with pytest.raises(TaskError, match="maybe"):
            plan(corpus(tmp_path / "wrong.parquet", BOOK), model="mock")

    def test_a_dataset_on_the_hub_is_read_at_one_commit(self, tmp_path, monkeypatch):
        files(tmp_path / "data")
        asked = []

        class Hub:
            def dataset_info(self, repository, revision=None):
                asked.append((repository, revision))
                names = ["README.md", "data/b.parquet", "data/a.parquet", "other.csv"]
                return type(
                    "Info",
                    (),
                    {"sha": "c0ffee", "siblings": [type("F", (), {"rfilename": n}) for n in names]},
                )

        def download(repository, name, repo_type, revision):
            assert (repository, repo_type, revision) == ("o/many", "dataset", "c0ffee")
            return str(tmp_path / name)

        monkeypatch.setattr("huggingface_hub.HfApi", Hub)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        made = corpus("hf://datasets/o/many", BOOK, revision="v1")
        assert (len(made), made.revision, made.name, asked) == (N, "c0ffee", "many", [("o/many", "v1")])
        assert len(corpus("hf://datasets/o/many/data/a.*", BOOK)) == 25


class TestSegments:
    def test_segments_are_stretches_of_their_document(self):
        text = "One. “Two!” Three?\n\nDr. No\n  \n終わり。次 the end"
        for how in ("sentences", "paragraphs", "2 words", "5 characters", "1 character", "900 characters"):
            cut = list(cut_by(how)(text))
            assert "".join("".join(text[a:b].split()) for a, b in cut) == "".join(text.split()), how
            assert all(text[a:b] == text[a:b].strip() != "" for a, b in cut)
            assert all(b <= c for (_, b), (c, _) in itertools.pairwise(cut))
        assert [text[a:b] for a, b in cut_by("paragraphs")(text)] == [
            "One. “Two!” Three?",
            "Dr. No",
            "終わり。次 the end",
        ]
        assert [text[a:b] for a, b in cut_by("sentences")(text)][:3] == ["One.", "“Two!”", "Three?"]
        assert "Got 'lines'." in refusal(cut_by, "lines")

    def test_documents_join_up_again(self, tmp_path, with_model):
        documents = ["The road is bad. We pay for it. No more!", "", "Roads, roads. The road ends."]
        frame = pl.DataFrame({"id": ["x", "y", "z"], "text": documents, "year": ["1", "2", "3"]})
        book = codebook_of(GATE, {**STANCE, "condition": None}, DEGREE, MARKS)

        def answer(request):
            schema = request.schema["properties"]["response"]
            if schema.get("type") == "array":
                quotes = [{"text": "road", "label": "actor"}] if "road" in request.text else []
                return replying(quotes)
            if schema.get("type") == "boolean":
                return replying("road" in request.text)
            return well(request)

        with_model(Scripted(answer))
        made = corpus(frame, book, name="docs", segment="sentences")
        run = run_it(made, output_root=str(tmp_path / "out"))
        rows = output(run)
        assert [row["segment_id"] for row in rows] == ["x#1", "x#2", "x#3", "z#1", "z#2"]
        for row in rows:
            document = documents["xyz".index(row["document_id"])]
            assert document[int(row["segment_start"]) : int(row["segment_end"])] == row["text"]
        joined = run.documents().to_dicts()
        assert [(d["document_id"], d["segments"], d["S_Gate"]) for d in joined] == [
            ("x", 3, 1 / 3),
            ("z", 2, 1.0),
        ]
        assert [(d["S_Stance"], d["S_Stance.share"], d["S_Degree"]) for d in joined] == [
            ("pro", 1.0, -2.0)
        ] * 2
        spans = [json.loads(d["S_Marks"]) for d in joined]
        for spans_of, document in zip(spans, (documents[0], documents[2]), strict=True):
            assert spans_of
            assert all(document[s["start"] : s["end"]] == s["text"] == "road" for s in spans_of)
        assert spans[1][-1]["start"] == documents[2].rindex("road")
        bare = corpus(frame.select("id", "text"), book, name="bare", segment="sentences")
        assert bare.columns[:2] == ["segment_id", "document_id"]
        assert len(bare) == 5
        whole = run_it(corpus(frame, book, name="docs"), output_root=str(tmp_path / "out"))
        with pytest.raises(ScoringError, match="are whole documents"):
            whole.documents()


def test_what_needs_every_text_in_memory_says_so(tmp_path):
    made = corpus(files(tmp_path / "in"), BOOK, name="many")
    run = run_it(made, model="mock", output_root=str(tmp_path / "out"))
    with pytest.raises(ScoringError, match="whole"):
        nbannot.prevalence(run, "Gate")
    with pytest.raises(TaskError, match="is a corpus"):
        nbannot.sample(made, 5)
    assert "60 texts" in str(made)
    assert "from id" in str(made)
    with pytest.raises(RunError, match="partial"):
        run_it(made, model="mock/b", output_root=str(tmp_path / "out"), budget={"calls": 5}).whole()


def test_damaged_labels_and_segments_of_a_finished_run_are_made_again_from_the_ledger(tmp_path):
    def done():
        return nbannot.run(
            corpus(files(tmp_path / "x"), BOOK, name="many", compress=True),
            model="mock",
            output_root=str(tmp_path),
        )

    run = done()
    whole, asked = (run.folder / "output.parquet").read_bytes(), asked_in(run)
    labels = sorted((run.folder / "labels").glob("*.parquet"))
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])):
        damage(labels[1])
        assert nbannot.load_run(run.folder).status == "partial"
        assert done().status == nbannot.load_run(run.folder).status == "complete"
        assert (run.folder / "output.parquet").read_bytes() == whole
        assert asked_in(run) == asked
    packed = sorted((run.folder / "responses").glob("*.gz"))[0]
    plain = packed.with_suffix("")
    plain.write_bytes(gzip.decompress(packed.read_bytes())[:40])  # a power cut while it was unpacked
    labels[0].unlink()
    done()
    assert asked_in(run) == asked
    packed = sorted((run.folder / "responses").glob("*.gz"))[1]
    packed.write_bytes(packed.read_bytes()[:-20])
    labels[1].unlink()
    with pytest.raises(RunError, match=r"000001.jsonl.gz is damaged"):
        done()


def _middle_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def test_what_is_damaged_is_told_and_made_again_without_a_call(tmp_path, with_model):
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-9])

    def another(path: Path) -> None:
        pl.DataFrame({"x": [1]}).write_parquet(path)

    settings = {"output_root": str(tmp_path / "out"), "fields": ["Gate"]}
    with_model(Scripted(well))
    run = run_it(corpus(files(tmp_path / "in"), BOOK, name="many"), **settings)
    labels, metrics = run.labels.collect(), run.metrics
    for name, damage in (
        *itertools.product(("output.parquet", "gold.parquet"), (Path.unlink, cut, another)),
        ("output.parquet", _middle_changed),
        *itertools.product(("labels/000001.parquet",), (_middle_changed, another)),
        ("labels/000001.json", cut),
    ):
        path = run.folder / name
        written = pl.read_parquet(path) if path.suffix == ".parquet" else None
        damage(path)
        with pytest.raises(RunError, match=r"output.parquet is n|gold.parquet, the texts|is partial"):
            load_run(run.folder).whole()
        if name == "output.parquet" and damage is not _middle_changed:
            with pytest.raises(RunError, match="Run the same again"):
                load_run(run.folder).failures
        model = with_model(Scripted(well))
        again = run_it(corpus(tmp_path / "in", BOOK, name="many"), **settings)
        assert (again.status, model.requests) == ("complete", [])
        assert again.labels.collect().equals(labels)
        assert again.metrics.equals(metrics)
        assert written is None or pl.read_parquet(path).equals(written)
        assert load_run(run.folder).whole().coding.answers["S_Gate"]


def test_a_segment_that_is_gone_or_cut_is_not_paid_for_anew_unasked(tmp_path, with_model):
    """What a session that tries again would ask once more is said first; nothing is asked before that."""

    def unsure(request):
        return replying("perhaps") if "Text 9:" in request.text else well(request)

    settings = {"output_root": str(tmp_path / "out"), "retries": 0, "fields": ["Gate"]}
    made = corpus(files(tmp_path / "in"), BOOK, name="many", compress=False)
    with_model(Scripted(unsure))
    run = run_it(made, **settings)
    segment = run.folder / "responses" / "000001.jsonl"
    whole, labels = segment.read_bytes(), (run.folder / "output.parquet").read_bytes()
    for left, said in ((None, r"\(.gz\) is gone"), (b"".join(whole.splitlines(True)[:4]), " was cut: ")):
        segment.unlink() if left is None else segment.write_bytes(left)
        model = with_model(Scripted(well))
        assert run_it(made, **settings).status == "complete"
        with pytest.raises(RunError, match=rf"000001.jsonl{said}(?s:.)*remove .*000001.json and"):
            run_it(made, retry="invalid", **settings)
        assert model.requests == []
        assert (run.folder / "output.parquet").read_bytes() == labels
        assert not segment.exists() or segment.read_bytes() == left
    segment.write_bytes(whole)
    # A session that asks again and is killed: the answers that came count, though the block had been finished before.
    kept = {path: path.read_bytes() for path in (run.folder / "labels").iterdir()}
    told = (run.folder / "config.json").read_bytes(), (run.folder / "output.parquet").read_bytes()
    better = run_it(made, retry="invalid", **settings)
    assert len(model.requests) == 1
    for path, content in kept.items():
        path.write_bytes(content)
    (run.folder / "config.json").write_bytes(told[0])
    (run.folder / "output.parquet").write_bytes(told[1])
    assert load_run(run.folder).counts["S_Gate"]["invalid"] == 1
    after = run_it(made, **settings)
    assert len(model.requests) == 1
    assert after.counts == better.counts == {"S_Gate": {"ok": N - 1, "not_asked": 1}}
    assert after.labels.collect().equals(better.labels.collect())


def test_parts_and_passes_that_are_gone_from_the_cache_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("nbannot.study.corpus_files.PART_ROWS", 20)
    texts().write_csv(tmp_path / "x.csv")
    settings = {"model": "mock", "output_root": str(tmp_path / "out")}

    def planned():
        made = corpus(tmp_path / "x.csv", BOOK, name="many")
        return len(made), plan(made, **settings).run_id

    whole = planned()
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    # Three parts, and what they are.
    assert len([path for path in kept if path.parent.suffix != ".index"]) == 4
    for path in kept:
        for damage in (Path.unlink, _middle_changed, lambda path: path.write_bytes(path.read_bytes()[:-9])):
            if path.exists() and not (damage is _middle_changed and path.parent.suffix != ".index"):
                damage(path)
                assert planned() == whole, path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_of_the_system_though_polars_has_another_name_for_it(tmp_path):
    with pytest.raises(OSError, match="No space left on device"), as_os_error(tmp_path):
        texts().write_parquet("/dev/full")
    (tmp_path / "x").write_bytes(b"no table")
    with pytest.raises(OSError, match="parquet") as caught:
        read_parquet(tmp_path / "x")
    assert caught.value.strerror
