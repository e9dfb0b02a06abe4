"""The replay model gives back exactly what a run recorded, and invents nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nbannot.asking.ledger import Ledger
from nbannot.asking.request_reply import Model, Reply, Request
from nbannot.errors import ModelError
from nbannot.models.replay import ReplayModel

REPLY = Reply(
    text='{"response": "positive"}',
    reasoning="It is “nice” 🏠",
    finish_reason="stop",
    probabilities=(0.75, 0.25),
    input_tokens=10,
    output_tokens=3,
    evaluated_tokens=4,
    seconds=1.25,
)


def request_for(
    text_id: str, text: str, attempt: int = 1, columns: tuple[str, ...] = ("S_A", "S_B")
) -> Request:
    return Request(
        key=f"{text_id}|{'+'.join(columns)}|{attempt}",
        messages=({"role": "user", "content": f"Code this.\n{text}"},),
        shared=11,
        schema={},
        text=text,
    )


def write(folder: Path, *calls: tuple[Request, Reply]) -> Path:
    """Write a run folder with the house's own ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "responses.jsonl")
    for request, reply in calls:
        text_id, columns, attempt = request.key.split("|")
        ledger.append(
            request,
            reply,
            text_id=text_id,
            columns=columns.split("+"),
            attempt=int(attempt),
            repeat=1,
            answers=[],
            time="2026-01-01T00:00:00",
        )
    ledger.note(calibration={"S_A": [0.1, 0.2]})
    ledger.close()
    return folder


def ask(model: ReplayModel, request: Request) -> Reply:
    return asyncio.run(model.ask(request))


def test_gives_back_the_recorded_reply(tmp_path: Path) -> None:
    first, second = request_for("t1", "one"), request_for("t2", "two", attempt=2)
    other = Reply(text="not JSON", finish_reason="length", seconds=0.5)
    model = ReplayModel(str(write(tmp_path / "a1b2c3d4", (first, REPLY), (second, other))))
    assert isinstance(model, Model)
    asyncio.run(model.open())
    assert ask(model, first) == REPLY
    assert ask(model, second) == other
    asyncio.run(model.close())


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (request_for("t3", "one"), "t3|S_A+S_B|1"),
        (request_for("t1", "one", attempt=2), "t1|S_A+S_B|2"),
        (request_for("t1", "one", columns=("S_A",)), "t1|S_A|1"),
        (request_for("t1", "another text"), "t1|S_A+S_B|1 was asked in other words"),
    ],
)
def test_invents_nothing(tmp_path: Path, request_: Request, reason: str) -> None:
    folder = write(tmp_path, (request_for("t1", "one"), REPLY))
    reply = ask(ReplayModel(str(folder)), request_)
    assert reply.error == f"not in the recorded run {folder}: {reason}"
    assert not reply.retriable
    assert reply.text == ""


def test_a_reply_beats_the_errors_before_and_after_it(tmp_path: Path) -> None:
    request = request_for("t1", "one")
    failed = Reply(error="server gone", retriable=True)
    folder = write(tmp_path, (request, failed), (request, REPLY), (request, failed))
    assert ask(ReplayModel(str(folder)), request) == REPLY


def test_a_recorded_error_stays_an_error(tmp_path: Path) -> None:
    request = request_for("t1", "one")
    reply = ask(ReplayModel(str(write(tmp_path, (request, Reply(error="gone", retriable=True))))), request)
    assert reply.error == "gone"
    assert not reply.retriable


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    first, second = request_for("t1", "one"), request_for("t2", "two")
    ledger = write(tmp_path, (first, REPLY), (second, REPLY)) / "responses.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)[:-1]
    ledger.write_bytes(b"".join(lines)[:-20])
    model = ReplayModel(str(tmp_path))
    assert ask(model, first) == REPLY
    assert ask(model, second).error is not None


def test_tells_what_was_recorded(tmp_path: Path) -> None:
    folder = write(tmp_path, (request_for("t1", "one"), REPLY))
    assert "1 recorded replies of an unknown model" in ReplayModel(str(folder)).info().notes[0]
    config: dict[str, Any] = {
        "run_id": "a1b2c3d4",
        "model": "local/smollm2-135m",
        "model_digest": "sha256:ab",
    }
    (folder / "config.json").write_text(json.dumps(config))
    info = ReplayModel(str(folder)).info()
    assert info.digest == "sha256:ab"
    assert info.backend == "replay"
    assert not info.energy_measured
    assert info.notes == (
        f"Replayed from {folder}: 1 recorded replies of local/smollm2-135m; no model was asked.",
    )


def test_no_such_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a1b2c3d4", (request_for("t1", "one"), REPLY))
    with pytest.raises(ModelError) as error:
        ReplayModel("a1b2c3d5").info()
    assert str(error.value) == (
        f"There is no responses.jsonl in 'a1b2c3d5' (looked in {tmp_path}); did you mean 'a1b2c3d4'?\n"
        '  Type model = "replay/outputs/<task>/<run_id>".'
    )
    with pytest.raises(ModelError, match="The replay model needs the folder of a run"):
        ReplayModel("").info()


@pytest.mark.parametrize("content", ['{"text_id": "t1"}\n', "torn\nmore\n"])
def test_a_ledger_that_is_none_of_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "responses.jsonl").write_text(content)
    with pytest.raises(ModelError, match=r"The ledger .* cannot be replayed: "):
        ReplayModel(str(tmp_path)).info()
