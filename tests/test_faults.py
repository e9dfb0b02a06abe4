"""Whole runs over a server that misbehaves: nothing invented, nothing lost, nothing sent twice, no key anywhere.

The full table, every kind of fault at 5, 20 and 50 %, is `bench/bench_faults.py`.
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import traceback
from collections import Counter

import pytest
from conftest import DEGREE, GATE, codebook_of, task_of
from serving import FAULTS, OF_THE_WIRE, Serving, content_of

import nbannot
from nbannot.asking.ledger_lines import messages_of, prefixes_in, read_lines
from nbannot.engine.sending import GONE_AFTER
from nbannot.errors import NbannotError

QUICK = tuple(kind for kind in FAULTS if kind not in ("hang", "slow"))
SPOILT_REQUEST = ("reset", "schema_400")
"""Faults after which a request may be sent a second time within one call."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("nbannot.engine.energy.prewarm", lambda: None)
    monkeypatch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)


def annotated(server, place, n=40, **settings):
    task = task_of(n, codebook_of(GATE, DEGREE))
    return nbannot.run(
        task, model="openai/tiny", base_url=server.openai_url, output_root=str(place), **settings
    )


def values(run):
    return {
        (column, row): answer.value
        for column, answers in run.coding.answers.items()
        for row, answer in enumerate(answers)
        if answer.status == "ok"
    }


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, Serving() as server:
        patch.setattr("nbannot.engine.energy.prewarm", lambda: None)
        patch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)
        return values(annotated(server, tmp_path_factory.mktemp("right")))


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("kind", [*QUICK, "mixed"])
def test_a_run_through_a_fault_invents_nothing_and_loses_nothing(kind, share, right, tmp_path):
    faults = dict.fromkeys(QUICK, share / len(QUICK)) if kind == "mixed" else {kind: share}
    with Serving(faults=faults) as server:
        run = annotated(server, tmp_path)
        sent = list(server.calls)
    counts = run.coding.count()
    assert sum(counts.values()) == 80
    assert "not_asked" not in counts
    assert (run.status == "complete") == ("failed" not in counts)
    assert values(run).items() <= right.items()
    path = run.folder / "responses.jsonl"
    prefixes = prefixes_in(path)
    calls = [record for record in read_lines(path) if "text_id" in record]
    answered = [record for record in calls if record["error"] is None]
    assert len({(r["text_id"], *r["columns"], r["attempt"]) for r in answered}) == len(answered)
    told, given = (
        Counter(
            content_of("/v1/chat/completions", {"model": "tiny", "messages": messages_of(r, prefixes)})
            for r in answered
        ),
        Counter(call.content for call in sent if call.fault not in (*OF_THE_WIRE, "schema_400")),
    )
    assert told == given
    assert 0 <= len(sent) - len(calls) <= sum(call.fault in SPOILT_REQUEST for call in sent)


def test_what_the_server_was_found_to_take_is_recorded_and_kept(tmp_path):
    with Serving(formats=("json_object", "text"), refuse=("seed",)) as server:
        found = annotated(server, tmp_path, 3, seed=1).config["capabilities"]
        assert "seed" in found["dropped"]
        asked = len(server.calls)
        again = annotated(server, tmp_path, 3, seed=1, retry="invalid")
        assert len(server.calls) == asked
    assert again.config["capabilities"] == found


def test_a_server_that_dies_in_the_middle_leaves_a_partial_run_everywhere(tmp_path):
    with Serving(latency_s=0.002) as server:

        def die(progress):
            if progress.done > 60:
                server.stop()

        run = annotated(server, tmp_path, 400, tick=die, max_parallel=4)
        address = server.port
    assert run.status == "partial"
    times = re.search(r"has not answered (\d+) times in a row", run.config["stopped"])
    assert times
    assert GONE_AFTER <= int(times[1]) < GONE_AFTER + 4  # what was in flight may still come back
    assert "partial" in str(run)
    assert json.loads((run.folder / "config.json").read_text())["status"] == "partial"
    table = nbannot.runs("demo", output_root=tmp_path)
    assert table["status"].tolist() == ["partial"]
    with Serving(port=address) as server:
        whole = annotated(server, tmp_path, 400, max_parallel=4)
        assert whole.status == "complete"
        assert len(server.calls) < 800 - 60


def test_a_server_that_was_never_there_is_one_short_letter_and_no_folder(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with pytest.raises(NbannotError, match="cannot be reached") as raised:
            nbannot.run(task_of(3), model="openai/tiny", base_url=url, output_root=str(tmp_path / "out"))
    assert len(str(raised.value).splitlines()) <= 3
    assert not (tmp_path / "out").exists()


# ---- secrets ----------------------------------------------------------------------------------------------------

KEYS = {
    "NBANNOT_API_KEY": "sk-planted-one-0123456789",
    "OPENAI_API_KEY": "sk-planted-two-0123456789",
    "HF_TOKEN": "hf_plantedThree0123456789",
    "OLLAMA_API_KEY": "planted-four-0123456789",
}


@pytest.fixture
def planted(monkeypatch):
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers, handler])
    monkeypatch.setattr(root, "level", logging.DEBUG)
    return log


def shown_by(run):
    shown = [
        run,
        run.report(),
        run.config,
        run.coding,
        run.outcome,
        nbannot.runs("demo", output_root=run.folder.parents[1]),
    ]
    bundles = [thing._repr_mimebundle_() for thing in (run, run.report())]
    return [*map(repr, shown), *map(str, shown), *(str(bundle) for bundle in bundles)]


def assert_no_key(*said):
    for text in said:
        for key in KEYS.values():
            assert key not in text
            assert key[-16:] not in text


def files_below(place):
    return [p.read_bytes().decode("utf-8", "replace") for p in place.rglob("*") if p.is_file()]


@pytest.mark.parametrize("faults", [{}, {"http_500": 0.3, "prose": 0.2, "reset": 0.2}, {"http_500": 1.0}])
def test_no_key_reaches_a_file_a_log_or_a_display(planted, faults, tmp_path):
    with Serving(key=KEYS["NBANNOT_API_KEY"], faults=faults) as server:
        run = annotated(server, tmp_path, 12)
        assert all(
            call.headers["authorization"] == f"Bearer {KEYS['NBANNOT_API_KEY']}" for call in server.calls
        )
        assert server.calls
    assert run.status == (
        "complete" if not faults else "failed" if faults == {"http_500": 1.0} else run.status
    )
    assert_no_key(planted.getvalue(), *files_below(tmp_path), *shown_by(run))


def test_no_key_stands_in_the_error_or_traceback_of_a_run_that_is_refused(planted, tmp_path, capsys):
    from nbannot.doors import cli

    with Serving(key="another-key-0123456789") as server:
        with pytest.raises(NbannotError) as raised:
            annotated(server, tmp_path, 3)
        told = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        command = ["run", "policy-sentiment", "--model", "openai/tiny", "--base_url", server.openai_url]
        assert cli.main([*command, "--output_root", str(tmp_path)]) == cli.ERROR
    said = capsys.readouterr()
    assert "refuses the key" in said.err
    assert_no_key(
        planted.getvalue(),
        *files_below(tmp_path),
        "".join(told.format()),
        said.out,
        said.err,
        repr(raised.value),
    )
