"""Runs whose model is asked by the workers of a Dask cluster: real processes, which are killed for real."""

import asyncio
import contextlib
import csv
import gc
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import DEGREE, GATE, STANCE, codebook_of, task_of
from serving import Serving

import nbannot
from nbannot.asking.ledger_lines import read_lines
from nbannot.doors.cli import main
from nbannot.engine import cluster_link, local_cluster, posts, station
from nbannot.engine.workers import Workers
from nbannot.errors import ConfigError, ModelError, ModelUnreached, RunInterrupted
from nbannot.models import registry
from nbannot.models.http import at_once
from nbannot.models.registry import get_model
from nbannot.running.design import design
from nbannot.study.config import RunConfig

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.xdist_group("workers"),
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL"),
]
KEY = "a-key-of-the-workers-0123"
TASK = task_of(60, codebook_of(GATE, STANCE, DEGREE))
SOON = "mock/?wrong=0.1&slow_s=0.01&parallel=8"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two worker processes for all tests of this file, with a key in their environment and no energy meter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbannot.engine.energy.prewarm", lambda: None)
        patch.setattr("nbannot.engine.energy.Meter.start", lambda self: None)
        patch.setenv("NBANNOT_API_KEY_127_0_0_1", KEY)
        there = local_cluster.local_cluster(2)
        yield there
        there.close()


def annotated(place, **settings):
    settings = {"model": SOON, "retries": 2, "output_root": str(place), **settings}
    return nbannot.run(TASK, **settings)


def calls_of(run):
    return [record for record in read_lines(run.folder / "responses.jsonl") if "text_id" in record]


def asked_twice(run):
    """Return how many answered questions are in the ledger more than once."""
    answered = Counter(
        (c["text_id"], tuple(c["columns"]), c["attempt"]) for c in calls_of(run) if not c.get("error")
    )
    return sum(number - 1 for number in answered.values())


def test_same_run_same_bytes_calibrated_first_with_a_key_that_no_graph_holds(tmp_path, cluster):
    scored = {"model": "mock/?slow_s=0.01&parallel=8", "answer_mode": "score", "calibration": "batch"}
    whole = annotated(tmp_path / "one", **scored)
    run = annotated(tmp_path / "two", workers=2, **scored)
    assert (run.run_id, run.status) == (whole.run_id, "complete")
    for name in ("output.csv", "probabilities.parquet"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert run.config["calibration_offsets"] == whole.config["calibration_offsets"]
    assert run.config["capabilities"] == {"workers": 2}
    assert asked_twice(run) == 0
    # A server as the workers see it, through an object that knows where the cluster is: they have the key.
    with Serving(key=KEY, latency_s=0.005) as server, pytest.MonkeyPatch.context() as patch:
        http = {"model": "openai/tiny", "base_url": server.openai_url}
        right = annotated(tmp_path / "three", **http)
        patch.delenv("NBANNOT_API_KEY_127_0_0_1")
        given = SimpleNamespace(
            scheduler_address=cluster.address, security=_security(cluster), scheduler=None
        )
        run = annotated(tmp_path / "four", workers=given, **http)
        before = server.count["answered"]
        assert annotated(tmp_path / "four", workers=given, **http).status == "complete"
        assert server.count["answered"] == before
    assert run.run_id == right.run_id
    assert (run.folder / "output.csv").read_bytes() == (right.folder / "output.csv").read_bytes()
    assert run.config["workers"] == cluster.address
    assert len(run.config["answered_by"]) == 1
    config = nbannot.RunConfig(workers=2, **http)
    sent = pickle.dumps(Workers(config, get_model(config)).settings)
    assert KEY.encode() not in sent
    assert repr(station.Parcel(["a text of somebody"])) == "<Parcel of 1>"


def _security(cluster):
    from distributed import Security

    return Security(**cluster.keys)


def pids(cluster):
    """Return the processes of the workers that answer; none where one that was just killed holds the answer up."""

    async def asked():
        client = await cluster_link.connected(2, cluster)
        try:
            async with asyncio.timeout(10):
                return list((await client.run(os.getpid, on_error="ignore")).values())
        except TimeoutError:
            return []
        finally:
            await client.close()

    return at_once(asked())


def test_a_worker_that_goes_while_it_loads_the_model_is_not_waited_for(cluster, monkeypatch):
    async def asked():
        client = await cluster_link.connected(2, cluster)
        try:
            settings = RunConfig(model="mock").to_dict()
            await cluster_link.introduced(client, "tls://127.0.0.1:9", "a-session", settings)
        finally:
            await client.close()

    with pytest.raises(
        cluster_link.WorkerLost, match=r"tls://127.0.0.1:9 was lost while it loaded the model"
    ):
        asyncio.run(asked())
    for packages, words in (
        ({"nbannot": None, "distributed": "1.0"}, "has no nbannot"),
        ({"nbannot": "0.1", "distributed": "1.0"}, r"has distributed 1\.0, and this is"),
    ):

        async def told(client, address, packages=packages):
            return packages

        monkeypatch.setattr(cluster_link, "_packages", told)
        with pytest.raises(ModelError, match=f"the worker at tls://127.0.0.1:9 {words}.*\n  Install nbannot"):
            asyncio.run(asked())


def test_a_killed_worker_costs_nothing_but_what_it_had(tmp_path, cluster):
    whole = annotated(tmp_path / "one")
    left = [2]

    def kill(progress):
        if left and progress.calls > 40 * (3 - left[0]) and (there := pids(cluster)):
            os.kill(there[0], signal.SIGKILL)
            left[0] -= 1
            if not left[0]:
                left.clear()

    from distributed import Client

    with Client(cluster.address, security=_security(cluster), set_as_default=False) as client:
        client.run(exec, "from nbannot.engine import station; station.LOOK_S = 0.0")
    run = annotated(tmp_path / "two", workers=2, tick=kill)
    assert not left
    assert re.match(
        r"estimated by CodeCarbon, not in full: \d workers? did not say at the end what was used, "
        "and counted up to the last report",
        run.config["energy"],
    )
    used = [float(row["energy_consumed"]) for row in csv.DictReader((run.folder / "emissions.csv").open())]
    assert len(used) >= 2  # one that was killed, and one that was not
    assert all(used)
    again = annotated(tmp_path / "two", workers=2, retry="invalid")
    assert again.config["energy"] == run.config["energy"]  # what is missing stays missing
    assert run.status == "complete"
    assert (run.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()
    assert asked_twice(run) == 0
    lost = [call for call in calls_of(run) if "worker" in (call.get("error") or "")]
    assert len(lost) <= 2 * 16  # what two workers can have at hand


def test_a_frozen_worker_is_taken_for_lost_and_comes_back(tmp_path, cluster, monkeypatch):
    while len(pids(cluster)) < 2:  # those that another test killed start again
        time.sleep(0.2)
    monkeypatch.setattr(cluster_link, "FROZEN_S", 2.0)
    monkeypatch.setattr(cluster_link, "HEARD_S", 0.2)
    whole = annotated(tmp_path / "one")
    frozen = []

    def freeze(progress):
        if not frozen and progress.calls > 20:
            frozen.append(pids(cluster)[0])
            os.kill(frozen[0], signal.SIGSTOP)

    try:
        run = annotated(tmp_path / "two", workers=2, tick=freeze)
        assert frozen
        assert run.status == "complete"
        lost = [call for call in calls_of(run) if "worker" in (call.get("error") or "")]
        assert 0 < len(lost) <= 16  # what it had at hand
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert asked_twice(run) == 0
    assert (run.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()
    # Nor is one waited for that is frozen when a run begins.
    monkeypatch.setattr(cluster_link, "FROZEN_S", 3600.0)
    monkeypatch.setattr("nbannot.engine.workers.SILENT_S", 1.0)
    os.kill(frozen[0], signal.SIGSTOP)
    try:
        told, model = [], get_model(RunConfig(model=SOON))
        there = Workers(RunConfig(model=SOON, workers=2), model, told.append)
        asyncio.run(_opened_and_closed(there))
        assert there.capabilities == {"workers": 1}
        assert re.fullmatch(
            r"the worker at tls://\S+ gives no sign of life; the run begins without it", *told
        )
    finally:
        os.kill(frozen[0], signal.SIGCONT)
    again = annotated(tmp_path / "three", workers=2)
    assert again.config["capabilities"]["workers"] == 2
    assert (again.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()


async def _opened_and_closed(model):
    await model.open()
    await model.close()


def test_processes_with_a_frozen_worker_end_with_who_started_them(monkeypatch):
    import psutil

    monkeypatch.setattr(local_cluster, "END_S", 0.5)
    there = local_cluster.LocalCluster(2)
    frozen = psutil.Process(pids(there)[0])
    frozen.suspend()
    try:
        there.close()
        assert there.process.poll() is not None
        frozen.wait(10)
    finally:
        if frozen.is_running():
            frozen.kill()


def test_a_corpus_goes_on_block_by_block_through_kill_and_interrupt(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nbannot.running.corpus_design.BLOCK_TEXTS", 25)
    data = TASK.data.clone()
    data[40, "text"] = data[3, "text"]
    data.write_parquet(tmp_path / "x.parquet")

    def done(place, **settings):
        made = nbannot.corpus(tmp_path / "x.parquet", TASK.codebook, name="many")
        return nbannot.run(made, model=SOON, retries=2, output_root=str(tmp_path / place), **settings)

    whole = done("one")
    todo = ["kill", "stop"]

    def end(progress):
        if len(todo) == 2 and progress.calls > 40 and (there := pids(cluster)):
            os.kill(there[0], signal.SIGKILL)
            todo.remove("kill")
        elif len(todo) == 1 and progress.calls > 100:
            todo.clear()
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted):
        done("two", workers=2, tick=end)
    assert not todo
    kept = Counter(_answered(tmp_path / "two"))
    run = done("two", workers=2)
    now = Counter(_answered(tmp_path / "two"))
    assert (run.run_id, run.status, run.n_duplicates) == (whole.run_id, "complete", 1)
    assert kept <= now
    assert set(now.values()) == {1}
    assert (run.folder / "output.parquet").read_bytes() == (whole.folder / "output.parquet").read_bytes()
    assert run.config["capabilities"]["workers"] in (1, 2)  # the killed one may still be starting again


def _answered(place):
    """Return every question that has an answer in a segment of a corpus's ledger, as often as it has one."""
    return [
        (c["text_id"], tuple(c["columns"]), c["attempt"])
        for path in place.glob("*/*/responses/*")
        for c in read_lines(path)
        if "text_id" in c and not c.get("error")
    ]


def test_a_worker_whose_model_answers_at_once_is_sent_larger_parcels():
    info = get_model(RunConfig(model="mock")).info()
    post = posts.Post("tcp://a:1", station.Introduction("a", "a", "1", info, ("generate",), parallel=8))
    assert (post.parcel, post.room) == (4, 16)
    assert not post.took(4, 0.05)  # as it is with servers that take their time
    assert not post.took(1, 0.001)  # not a full one: it says nothing
    assert [(post.took(post.parcel, 0.001), post.parcel, post.room) for _ in range(5)] == [
        (True, 8, 24), (True, 16, 40), (True, 32, 72), (True, 64, 136), (False, 64, 136),
    ]  # fmt: skip
    assert [post.took(64, 1.0) and post.parcel for _ in range(5)] == [32, 16, 8, 4, False]
    assert post.room == 16


def test_energy_of_workers_adds_up_and_a_machine_counts_once():
    def used(host, kwh, of_the_machine=False, minute=0, seconds=30.0):
        record = {"energy_consumed": kwh, "duration": seconds, "timestamp": f"2026-01-01T10:{minute:02}:00"}
        return station.Used(host, of_the_machine, record)

    def kwh(*every):
        return sorted(record["energy_consumed"] for record in posts.in_sum(every))

    assert kwh(used("a", 1.0), used("a", 2.0), used("b", 3.0), station.Used("c")) == [1.0, 2.0, 3.0]
    # Two of one machine at the same time are the same energy; one that came after the other is more of it.
    assert kwh(used("a", 1.0, True), used("a", 2.0, True), used("a", 4.0, True, minute=5)) == [2.0, 4.0]
    assert kwh(used(socket.gethostname(), 1.0, True), used("b", 2.0, True)) == [2.0]
    assert posts.silent_in_words([]) == ""
    assert posts.silent_in_words([used("a", 1.0), None]) == (
        "1 worker did not say at the end what was used, and counted up to the last report; "
        "what 1 worker used is not known"
    )


def test_budget_and_interrupt_hold_and_the_run_goes_on_with_workers_or_without(tmp_path):
    whole = annotated(tmp_path / "one")
    short = annotated(tmp_path / "two", workers=2, budget={"calls": 25})
    assert "budget is spent: calls 25 of 25" in short.config["stopped"]
    assert len(calls_of(short)) == 25

    def stop(progress):
        if progress.calls > 20:
            raise KeyboardInterrupt

    with Serving(latency_s=30) as server:
        slow = {"model": "openai/tiny", "base_url": server.openai_url, "workers": 2}

        def at_once(progress):
            if server.now_at_once:
                raise KeyboardInterrupt

        with pytest.raises(RunInterrupted):
            annotated(tmp_path / "three", tick=at_once, **slow)
        end = time.monotonic() + 10
        while server.now_at_once and time.monotonic() < end:
            time.sleep(0.02)
        assert server.now_at_once == 0  # nobody works on what nobody waits for
    with pytest.raises(RunInterrupted):
        annotated(tmp_path / "two", workers=2, tick=stop)
    run = annotated(tmp_path / "two")
    assert run.status == "complete"
    assert (run.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()
    assert asked_twice(run) == 0


def test_a_scheduler_file_is_waited_for_until_it_is_written_and_names_a_scheduler(
    tmp_path, cluster, monkeypatch, recwarn
):
    monkeypatch.setattr(cluster_link, "CONNECT_S", 0.5)
    monkeypatch.setattr(cluster_link, "WRITTEN_S", 0.0)
    file = tmp_path / "scheduler.json"
    for held, words in (
        ("{", "is not the file of a Dask scheduler: it is not JSON"),
        ("[1]", "is not the file of a Dask scheduler: it holds no address"),
        (None, r"is not the file of a Dask scheduler: it cannot be read \(Is a directory\)"),
        ('{"address": "tcp://127.0.0.1:9"}', r"named in .* cannot be reached: .*\n  Is the job .*squeue"),
    ):
        if held is None:
            file.unlink()
            file.mkdir()
        else:
            if file.is_dir():
                file.rmdir()
            file.write_text(held)
        with pytest.raises(ModelUnreached, match=words):
            at_once(cluster_link.connected(str(file)))
    monkeypatch.setattr(cluster_link, "CONNECT_S", 15.0)
    told = []
    file.write_text("")  # as it is while the scheduler writes it

    def say(words):
        told.append(words)
        keys = file.with_suffix(".pem")
        given = cluster.keys
        keys.write_text(f"{given['tls_client_key']}\n{given['tls_client_cert']}\n")
        file.write_text(f'{{"address": "{cluster.address}"}}')

    async def reached():
        client = await cluster_link.connected(str(file), say=say)
        await client.close()
        return client

    at_once(reached())
    assert told == [f"waiting for the scheduler file {file}"]
    with pytest.raises(ModelUnreached, match="missing port number"):
        at_once(cluster_link.connected("tcp://127.0.0.1"))
    gc.collect()
    assert not [w for w in recwarn if "never awaited" in str(w.message)]


def test_who_has_another_version_or_model_gets_no_text(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("nbannot.engine.cluster_link.__version__", "99.0")
        with pytest.raises(ModelError, match=r"has nbannot .*, and this is 99\.0\.\n  Install the same"):
            annotated(tmp_path, workers=2)
    info = get_model(nbannot.RunConfig(model=SOON)).info()
    other = nbannot.models.registry.ModelInfo(**{**_plain(info), "digest": "sha256:other"})
    with monkeypatch.context() as patch:
        patch.setattr("nbannot.models.mock.MockModel.info", lambda self: other)
        patch.setattr("nbannot.engine.workers.differing", lambda one, another: "the digest of its weights")
        patch.setattr("nbannot.engine.workers.part_in_words", lambda info, what: str(info.digest))
        with pytest.raises(ModelError, match="does not have the same model; the digest of its weights: None"):
            annotated(tmp_path, workers=2)
    with pytest.raises(ModelError, match=r"the scheduler at tcp://127\.0\.0\.1:9 cannot be reached"):
        annotated(tmp_path, workers="tcp://127.0.0.1:9")
    for wrong, words in (
        ({"model": "baseline/majority"}, "learns from labels here"),
        (
            {"delivery": "batch", "model": "openai/x"},
            'delivery = "batch"',
        ),
    ):
        with pytest.raises(ConfigError, match=f"workers do not go with .*{words}"):
            annotated(tmp_path, workers=2, **wrong)
    with pytest.raises(ConfigError, match=r"workers must be a number of processes .* Got 'host'"):
        nbannot.RunConfig(workers="host")


def test_texts_pass_through_no_scheduler_that_is_not_allowed():
    hosts = {"local_only": True, "allowed_hosts": ("gpu1",), "max_tokens": 20, "context_size": 4000}
    at = "tcp://192.0.2.9:8786"
    config = RunConfig(model="openai/tiny", base_url="http://gpu1/v1", workers=at, **hosts)
    there = Workers(config, get_model(config))
    info = registry.ModelInfo("tiny", "openai", endpoint="http://gpu1/v1", is_local=False)
    there._said = station.Introduction("node7", "node7", "1", info, ("generate",), parallel=8)
    there._scheduler = at
    with pytest.raises(ModelError, match=r"would send texts to 192\.0\.2\.9, and local_only"):
        design(TASK, config, there)
    assert (
        design(TASK, config.change(allowed_hosts=("gpu1", "192.0.2.*")), there)[0].info.endpoint
        == info.endpoint
    )
    # A scheduler here, and a worker that is not: texts leave this machine all the same.
    there._said = station.Introduction(
        "node7", "node7", "1", get_model(RunConfig(model="mock")).info(), ("generate",), 8
    )
    there._scheduler = "tls://127.0.0.1:8786"
    assert not there.info().is_local


def _plain(info):
    return {name: getattr(info, name) for name in info.__dataclass_fields__}


SBATCH = """#!{python}
import os, re, subprocess, sys
told = dict(re.findall("^#SBATCH --([a-z-]+)=(.*)$", open(sys.argv[1]).read(), re.M))
os.environ |= {{"SLURM_NTASKS": told["ntasks"], "SLURM_CPUS_PER_TASK": told["cpus-per-task"]}}
os.execvp("bash", ["bash", sys.argv[1]])
"""
SRUN = """#!{python}
import os, subprocess, sys
every = [subprocess.Popen(sys.argv[1:]) for _ in range(int(os.environ["SLURM_NTASKS"]))]
sys.exit(max(one.wait() for one in every))
"""


def test_the_slurm_job_works_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, source in ("sbatch", SBATCH), ("srun", SRUN):
        Path(name).write_text(source.format(python=sys.executable))
        Path(name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "a folder" / "workers.json"
    file.parent.mkdir()
    words = ["--workers", "2", "--cpus", "1", "--scheduler_file", str(file)]
    assert main(["worker-setup", *words, "--output", "job.sh"]) == 0
    assert "submit it with sbatch job.sh" in capsys.readouterr().err
    assert subprocess.run(["bash", "-n", "job.sh"], check=True).returncode == 0
    assert main(["worker-setup", *words, "--time", "1; rm"]) == 1
    whole = annotated(tmp_path / "one")
    with open("job.log", "wb") as log:
        job = subprocess.Popen(["sbatch", "job.sh"], stdout=log, stderr=log)
    try:
        run = annotated(tmp_path / "two", workers=str(file))
        assert file.with_suffix(".pem").stat().st_mode & 0o777 == 0o600
    finally:
        job.terminate()
        job.wait(20)
    assert not file.exists()
    assert run.config["stopped"] == ""
    assert (run.run_id, run.config["workers"]) == (whole.run_id, str(file))
    assert (run.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()


def test_without_its_scheduler_a_run_ends_and_goes_on_later(tmp_path, cluster, monkeypatch):
    whole = annotated(tmp_path / "one")
    monkeypatch.setattr(cluster_link, "CONNECT_S", 3.0)

    def kill(progress):
        if progress.calls > 20 and cluster.is_alive:
            cluster.process.kill()

    run = annotated(tmp_path / "two", workers=2, tick=kill)
    assert run.status != "complete"
    assert "the scheduler at tls://127.0.0.1:" in run.config["stopped"]
    assert "the same run goes on from there" in run.config["stopped"]
    # Processes that are there and do not answer are started anew.
    there, connected = local_cluster.local_cluster(2), cluster_link.connected

    async def hangs(place, processes):
        if processes is there:
            raise ModelUnreached("it hangs")
        return await connected(place, processes)

    monkeypatch.setattr(cluster_link, "connected", hangs)
    run = annotated(tmp_path / "two", workers=2)
    assert not there.is_alive
    local_cluster.local_cluster(2).close()
    assert (run.folder / "output.csv").read_bytes() == (whole.folder / "output.csv").read_bytes()
    assert asked_twice(run) == 0


def test_a_station_that_was_left_answers_nothing_more_instead_of_waiting_without_end():
    there = station.Station(RunConfig(model="mock").to_dict(), 1)
    there.close()
    with pytest.raises(RuntimeError, match="the run has left this worker"):
        there.answer([])
