"""The command line: what it prints where, its exit codes, and that a signal loses nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import nbannot
from nbannot.doors import arguments, cli, doctor
from nbannot.study.settings import SETTINGS

QUICK = ["--model", "mock", "--limit", "6", "--fields", "Direction"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys):
    """Run a command line in this process; return exit code, stdout and stderr."""

    def go(*words):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return go


# ---- run ------------------------------------------------------------------------------------------------------------


def test_run_prints_the_report_and_where_the_run_is(command):
    code, out, err = command("run", "policy-sentiment", *QUICK)
    assert code == 0
    assert out.startswith("Report on policy-sentiment: mock (run ")
    assert re.fullmatch(
        r"run [0-9a-f]{8}: complete; 6 texts, 6 valid; outputs/policy-sentiment/[0-9a-f]{8}",
        out.splitlines()[-1],
    )
    assert (
        err
        == "Mock model: its answers are made up for tests and demonstrations, and no label of it means anything.\n"
    )


def test_run_as_json_for_scripts(command):
    code, out, err = command("run", "policy-sentiment", *QUICK, "--json", "-q")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["status"] == "complete"
    assert told["answers"] == {"ok": 6}
    headline = told["headline"]["Policy Sentiment_Direction"]
    run = nbannot.run("policy-sentiment", model="mock", limit=6, fields=["Direction"])
    assert told["run_id"] == run.run_id
    assert headline["value"] == run.scores.fields["Policy Sentiment_Direction"].results["f1_macro"].value
    assert headline["n"] == 6


def test_numbers_that_are_not_defined_are_null_in_json(command):
    _, out, _ = command(
        "run", "policy-sentiment", "--model", "mock/?silent=1", "--retries", 0, "--limit", 3, "--json", "-q"
    )
    kappa = json.loads(out)["headline"]["Policy Sentiment_Intensity"]
    assert (kappa["metric"], kappa["value"], kappa["reason"]) == ("quadratic_kappa", None, "no answer")


def test_a_toml_file_runs_and_options_override_it(command, tmp_path):
    (tmp_path / "study.toml").write_text(
        'task = "policy-sentiment"\nmodel = "mock"\nlimit = 6\nfields = ["Direction"]\n'
    )
    _, plain, _ = command("run", "study.toml", "--json", "-q")
    _, same, _ = command("run", "policy-sentiment", *QUICK, "--json", "-q")
    _, fewer, _ = command("run", "study.toml", "--limit", "2", "--json", "-q")
    assert json.loads(plain)["run_id"] == json.loads(same)["run_id"]
    assert json.loads(fewer)["n_texts"] == 2


def test_a_config_json_runs_again(command):
    _, out, _ = command("run", "policy-sentiment", *QUICK, "--json", "-q")
    first = json.loads(out)
    _, out, _ = command("run", f"{first['folder']}/config.json", "--json", "-q")
    assert json.loads(out)["run_id"] == first["run_id"]


def test_fresh_and_dashes(command):
    words = ["run", "policy-sentiment", *QUICK, "--use-examples", "false", "--json", "-q"]
    ids = {json.loads(command(*words, *more)[1])["run_id"] for more in ([], [], ["--fresh"])}
    assert len(ids) == 2


def test_lists_make_a_sweep(command):
    code, out, _ = command("run", "policy-sentiment", *QUICK, "--temperature", "[0, 0.7]", "-q")
    assert code == 0
    assert len(re.findall(r"^run [0-9a-f]{8}: complete", out, re.MULTILINE)) == 2
    code, out, _ = command("run", "policy-sentiment", *QUICK, "--temperature", "[0, 0.7]", "-q", "--json")
    assert [one["status"] for one in json.loads(out)] == ["complete", "complete"]


def test_plan_sends_nothing(command, tmp_path):
    code, out, _ = command("plan", "policy-sentiment", "--model", "mock")
    assert code == 0
    assert "256" in out
    assert not (tmp_path / "outputs").exists()


# ---- exit codes and messages ----------------------------------------------------------------------------------------


def test_a_model_that_fails_ends_with_3_and_no_page_of_zeros(command):
    code, out, _ = command("run", "policy-sentiment", "--model", "mock/?error=1", "--limit", "3", "-q")
    assert code == 3
    assert re.match(r"run [0-9a-f]{8}: failed, no valid answer came: the model has not answered", out)
    assert "Report" not in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["run", "polcy-sentiment"],
            1,
            "TaskError: no task 'polcy-sentiment'; did you mean 'policy-sentiment'?",
        ),
        (
            ["run", "policy-sentiment", "--temperature", "hot", "--top_p", "2"],
            1,
            "ConfigError: 2 settings need a change.\n"
            "  temperature must be a number from 0 to 2. Got 'hot'.\n"
            "  top_p must be a number from 0 to 1. Got 2",
        ),
        (
            ["run", "policy-sentiment", "--model", "mocc"],
            1,
            "ModelError: unknown model 'mocc'; did you mean 'mock'?",
        ),
        (
            ["run", "nowhere.toml"],
            1,
            "ConfigError: cannot read nowhere.toml: No such file or directory.\n"
            "  A run is started from a task, a TOML file with its settings, or the config.json of an earlier run.\n",
        ),
        (
            ["run", "bad.toml"],
            1,
            "ConfigError: bad.toml: 2 settings need a change.\n  line 2: unknown setting 'modle'",
        ),
        (
            ["run", "slip.toml"],
            1,
            "ConfigError: slip.toml: line 1, column 16: Invalid value.\n    use_examples = True\n  TOML writes true",
        ),
        (
            ["run", "taskless.toml"],
            1,
            'TaskError: taskless.toml names no task.\n  Add a line: task = "policy-sentiment".\n',
        ),
        (["run", "config.json"], 1, "ConfigError: config.json is not JSON: "),
        (["score", "nowhere"], 1, "RunError: nowhere is not a finished run folder"),
        (
            ["run", "policy-sentiment", "--modle", "mock"],
            2,
            "unrecognized arguments: --modle mock; did you mean '--model'?",
        ),
        (["run"], 2, "the following arguments are required: CONFIG|TASK"),
        (["--limit"], 2, "the following arguments are required: COMMAND"),
        (
            ["run", "policy-sentiment", "--fresh", "--repeat", "[1,2]"],
            2,
            "--fresh and --retry are for one run",
        ),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(command, tmp_path, words, code, message):
    (tmp_path / "bad.toml").write_text('task = "policy-sentiment"\nmodle = "mock"\nlimit = 0\n')
    (tmp_path / "slip.toml").write_text("use_examples = True\n")
    (tmp_path / "taskless.toml").write_text('model = "mock"\n')
    (tmp_path / "config.json").write_text("{")
    found, out, err = command(*words)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_alone_it_lists_its_commands_with_one_line_each(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = command()
    assert (code, out) == (2, "")
    listed = re.findall(r"^    ([a-z-]+) +(\S.*)$", err, re.M)
    assert [name for name, _ in listed] == [
        "run", "corpus", "plan", "score", "compare", "list", "batches", "worker-setup", "models", "tasks", "doctor",
    ]  # fmt: skip
    assert not re.search(r"^ {8}", err, re.M), "a command takes more than one line"


def test_the_help_tells_every_exit_code_and_every_setting(command):
    code, out, _ = command("--help")
    assert code == 0
    for number, meaning in arguments.EXIT_CODES.items():
        assert f"{number}  {meaning}" in out
    for name in ("run", "corpus", "plan"):
        _, out, _ = command(name, "--help")
        for setting in SETTINGS:
            assert f"--{setting} VALUE" in out
        assert "exit codes:" in out


def test_version(command):
    assert command("--version") == (0, f"nbannot {nbannot.__version__}\n", "")


SLOWLY = "mock/?slow_s=0.1&parallel=1"


def started(tmp_path, *words):
    """Return a run of 64 texts that takes seconds, once it has answers in its ledger."""
    line = [*(words or ("run", "policy-sentiment")), "--model", SLOWLY]
    process = subprocess.Popen(
        [sys.executable, "-m", "nbannot", *line],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not any(
        path.read_bytes().count(b"\n") > 5
        for ledger in ("responses.jsonl", "responses/*.jsonl")
        for path in tmp_path.glob(f"outputs/*/*/{ledger}")
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done_and_the_same_command_goes_on(tmp_path, command, kind):
    process = started(tmp_path)
    process.send_signal(kind)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert re.search(
        r"stopped: [1-9]\d* of 256 answers are kept in outputs/policy-sentiment/[0-9a-f]{8}\.\n", err
    )
    assert err.endswith("  The same command goes on from there.\n")
    assert "Traceback" not in err
    ledger = next(tmp_path.glob("outputs/*/*/responses.jsonl"))
    kept = ledger.read_text()
    (run,) = cli.runs_in(Path("outputs"))
    assert run["status"] != "complete"
    assert len(kept.splitlines()) > 5


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_corpus_is_planned_stopped_and_continued_by_the_same_command(tmp_path, command):
    """Two CSV files that together are the bundled task: the run is the one that Python makes of them."""
    task = nbannot.load_task("policy-sentiment")
    (tmp_path / "parts").mkdir()
    for number, rows in enumerate((task.data[:40], task.data[40:])):
        rows.write_csv(tmp_path / "parts" / f"{number}.csv")
    (tmp_path / "codebook.json").write_text(json.dumps(task.codebook.to_dict()))
    (tmp_path / "settings.toml").write_text('fields = ["Direction"]\ntemperature = 0.5\n')
    words = ("corpus", "parts/*.csv", "--codebook", "codebook.json", "--config", "settings.toml",
             "--name", "speeches", "--temperature", "0")  # fmt: skip
    code, out, _ = command(*words, "--plan", "--model", SLOWLY)
    assert code == 0
    assert not (tmp_path / "outputs").exists()
    process = started(tmp_path, *words)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"stopped: [1-9]\d* of 64 answers are kept in outputs/speeches/[0-9a-f]{8}\.\n", err)
    (place,) = (tmp_path / "outputs" / "speeches").iterdir()
    assert place.name in out, "the plan names the run"
    (ledger,) = (place / "responses").glob("*.jsonl")
    before = [line for line in ledger.read_text().splitlines() if "text_id" in line]
    code, out, err = command("run", place / "config.json", "--json")
    assert (code, json.loads(out)["n_texts"], json.loads(out)["answers"]) == (0, 64, {"ok": 64}), err
    assert (
        command(*words, "--model", SLOWLY, "--quiet")[1]
        .splitlines()[-1]
        .endswith(f"outputs/speeches/{place.name}")
    )
    run = nbannot.load_run(place)
    assert run.calls == 64, "what was answered before the signal was not asked again"
    assert 0 < len(before) < 64
    same = nbannot.run(nbannot.corpus("parts/*.csv", "codebook.json", name="speeches"), model=SLOWLY,
                       fields=["Direction"], temperature=0)  # fmt: skip
    assert same.run_id == place.name
    code, out, err = command("corpus", "parts/*.csv", "--codebook", "nowhere.json")
    assert (code, "nowhere.json" in err, "Traceback" in err) == (1, True, False)


# ---- the other commands ---------------------------------------------------------------------------------------------


def test_list_shows_the_runs_with_their_first_metrics(command):
    _, out, _ = command("run", "policy-sentiment", *QUICK, "--json", "-q")
    first = json.loads(out)
    command("run", "discrete-emotions", "--model", "mock", "--limit", "2", "--fields", "Intensity", "-q")
    code, out, _ = command("list")
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["run", "id", "task", "model", "id", "status", "n", "texts", "headline"]
    assert [line.split()[1] for line in lines] == ["policy-sentiment", "discrete-emotions"]
    _, out, _ = command("list", "--task", "policy-sentiment", "--json")
    (row,) = json.loads(out)
    assert row["run_id"] == first["run_id"]
    value = row["headline"]["Policy Sentiment_Direction"]["value"]
    assert value == pytest.approx(first["headline"]["Policy Sentiment_Direction"]["value"])
    assert f"Direction {value:.2f}" in lines[0]


def test_list_of_nothing(command):
    assert command("list") == (0, "", "no run in outputs\n")


def test_score_writes_the_tables_again(command, tmp_path):
    _, out, _ = command("run", "policy-sentiment", *QUICK, "--json", "-q")
    folder = json.loads(out)["folder"]
    table = tmp_path / "outputs/metrics/policy-sentiment_metrics_log.csv"
    before = table.read_text()
    table.unlink()
    code, out, _ = command("score", folder)
    assert code == 0
    assert "Direction: macro F1" in out
    assert table.read_text() == before


def test_compare_prints_who_is_better(command):
    words = ["run", "policy-sentiment", *QUICK, "--json", "-q"]
    folders = [json.loads(command(*words, "--model", m)[1])["folder"] for m in ("mock", "mock/b")]
    code, out, _ = command("compare", *folders, "--metric", "f1_macro")
    assert code == 0
    assert out.startswith("Comparison (2 runs, 1 metric, 1 paired comparison)")
    code, _, err = command("compare", folders[0])
    assert code == 1
    assert "a comparison needs at least two runs" in err


def test_tasks_lists_bundled_ones_and_ones_own(command, tmp_path):
    (tmp_path / "mine/broken").mkdir(parents=True)
    (tmp_path / "mine/broken/codebook.json").write_text("{")
    code, out, _ = command("tasks", "--task_root", "mine")
    assert code == 0
    assert re.search(
        r"^policy-sentiment +64 +Explicit evaluation \(checkbox\), Direction \(dropdown\)", out, re.MULTILINE
    )
    assert re.search(r"^mine/broken +cannot be used: ", out, re.MULTILINE)


def test_models_lists_every_backend(command):
    from nbannot.models.registry import backends

    code, out, _ = command("models")
    assert code == 0
    table, _, shelf = out.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(backends())
    assert "Q4_K_M 1.9 GB, takes about 2.7 GB of memory" in shelf
    assert shelf.count('model = "local/hf://') == shelf.count("claim: ") == shelf.count("licence: ") >= 4


# ---- doctor ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_servers(monkeypatch):
    monkeypatch.setattr(doctor, "ollama_models", lambda address: None)


@pytest.mark.usefixtures("_no_servers")
def test_doctor_never_shows_a_key(command, monkeypatch):
    for name in doctor.KEYS:
        monkeypatch.setenv(name, "sk-very-secret")
    code, out, err = command("doctor")
    assert code == 0
    for name in doctor.KEYS:
        assert re.search(rf"^ok  {name} +set$", out, re.MULTILINE)
    assert "very-secret" not in out + err


@pytest.mark.usefixtures("_no_servers")
def test_doctor_says_where_texts_may_go_and_for_which_hosts_there_are_keys(command, monkeypatch):
    monkeypatch.delenv("NBANNOT_LOCAL_ONLY", raising=False)
    monkeypatch.delenv("NBANNOT_ALLOWED_HOSTS", raising=False)
    monkeypatch.setenv("NBANNOT_API_KEY_GPU1", "sk-very-secret")
    _, out, err = command("doctor")
    assert re.search(r"^--  NBANNOT_LOCAL_ONLY +not set: texts go where the model is$", out, re.MULTILINE)
    assert re.search(r"^ok  NBANNOT_API_KEY_GPU1 +set$", out, re.MULTILINE)
    assert "very-secret" not in out + err
    monkeypatch.setenv("NBANNOT_LOCAL_ONLY", "1")
    monkeypatch.setenv("NBANNOT_ALLOWED_HOSTS", "gpu1, *.example.edu")
    _, out, _ = command("doctor")
    words = r"set: texts go to this machine and gpu1, \*\.example\.edu alone"
    assert re.search(rf"^ok  NBANNOT_LOCAL_ONLY +{words}$", out, re.MULTILINE)


@pytest.mark.usefixtures("_no_servers")
def test_doctor_says_what_to_do(command, monkeypatch, tmp_path):
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NBANNOT_COUNTRY", "DE")
    monkeypatch.setitem(doctor.EXTRAS, "textbox", ("no_such_module",))
    code, out, _ = command("doctor")
    assert code == 1
    assert re.search(
        r"^!!  NBANNOT_COUNTRY +DE: must be an ISO 3166-1 alpha-3 country code", out, re.MULTILINE
    )
    assert re.search(
        r'^--  extra textbox +not installed\n +→ pip install "nbannot\[textbox\]"', out, re.MULTILINE
    )
    assert re.search(r"^--  embedded model .*: fetched when it is first used \(98 MB\)", out, re.MULTILINE)
    assert re.search(r"^ok  output folder +outputs \(made when it is needed\)", out, re.MULTILINE)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.usefixtures("_no_servers")
def test_doctor_finds_a_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, _ = command("doctor", "--output_root", "file")
    assert code == 1
    assert re.search(r"^!!  output folder +file: cannot write \(Not a directory\)", out, re.MULTILINE)


@pytest.mark.usefixtures("_no_servers")
def test_doctor_asks_a_model_something(command):
    code, out, _ = command("doctor", "mock")
    assert code == 0
    assert re.search(r"^ok  model +mock$", out, re.MULTILINE)
    assert re.search(
        r"^ok  answer +'(positive|negative|mixed|no clear sentiment)', after \d+\.\d s", out, re.MULTILINE
    )
    code, out, _ = command("doctor", "mock/?prose=1")
    assert code == 1
    assert re.search(r"^!!  answer +invalid: ", out, re.MULTILINE)


@pytest.mark.usefixtures("_no_servers")
def test_doctor_can_find_out_what_a_model_can_do(command):
    _, out, _ = command("doctor", "mock", "--probe")
    assert re.search(r"^ok  keeps to the asked form +yes$", out, re.MULTILINE)
    assert re.search(r"^ok  tells label probabilities +yes$", out, re.MULTILINE)


@pytest.mark.usefixtures("_no_servers")
def test_doctor_asks_the_same_again_and_counts_what_changed(command):
    words = ("doctor", "mock", "--determinism", "--texts", "8", "--repeats", "2")
    code, out, _ = command(*words)
    assert code == 0
    line = r"^ok  same answer again: Explicit evaluation +0 of 8 texts changed in 2 repetitions \(0% \[0%, 32%\]\)$"
    assert re.search(line, out, re.MULTILINE)
    assert not Path("outputs").exists()
    code, _, err = command("doctor", "--determinism")
    assert code == cli.USAGE
    assert "which model?" in err
    code, _, err = command("doctor", "mock", "--determinism", "--repeats", "1")
    assert code == cli.USAGE
    assert "a whole number of at least 2 is needed. Got '1'" in err


def test_a_plan_with_a_pilot_estimates_from_what_it_sent(command):
    code, out, _ = command(
        "plan", "policy-sentiment", *QUICK, "--pilot", "2", "--prices", "{input=1,output=2}"
    )
    assert code == 0
    assert "2 texts sent as a pilot" in out
    assert "a call as in the pilot" in out
    assert re.search(r"^ *money +about ", out, re.MULTILINE)
    assert not Path("outputs").exists()


def test_doctor_lists_the_models_of_a_running_ollama(command, monkeypatch):
    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"models": [{"name": "gemma3:270m"}]}).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
        _, out, _ = command("doctor")
        server.shutdown()
    assert re.search(r"^ok  Ollama +answers at http://127.0.0.1:\d+; models: gemma3:270m$", out, re.MULTILINE)


def test_doctor_shows_no_password_of_an_address(command, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "http://ann:very-secret@box")
    code, out, err = command("doctor")
    assert code == 1
    assert re.search(r"^!!  Ollama ", out, re.MULTILINE)
    assert "very-secret" not in out + err


def test_score_of_older_folders_compares_and_saves_only_where_told(tmp_path, capsys):
    from conftest import DATA

    root = tmp_path / "old"
    shutil.copytree(DATA / "codebook_lab_logs", root)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    table = root / "1.4.0" / "metrics" / "restaurant_cebab_metrics_log.csv"
    one = next((root / "1.4.0" / "restaurant_cebab").iterdir())
    assert cli.main(["score", str(one)]) == 0
    shown = capsys.readouterr().out
    assert "written by CodeBook Lab" in shown
    assert re.search(r"metric +old +new", shown)
    for place in (table, one.parent):
        assert cli.main(["score", str(place)]) == 0
        assert capsys.readouterr().out.count("Scored again: restaurant_cebab") == 2
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    assert cli.main(["score", str(one), "--metrics-dir", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / table.name).is_file()
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
