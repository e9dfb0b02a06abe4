"""The form by its traits, without a browser; what only a browser shows is in tests/browser."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time

import pandas as pd
import pytest
from conftest import GATE, STANCE, codebook_of, task_of
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from serving import Serving
from traitlets.config import Config

import nbannot
from nbannot.doors.form import sources
from nbannot.errors import ConfigError, RunError, RunInterrupted, TaskError
from nbannot.models import weights
from nbannot.record.run import Run
from nbannot.running.sweep import Runs
from nbannot.study.config import RunConfig

SLOW = "mock?slow_s=0.05&parallel=1"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No server, no key, no CodeCarbon, and runs in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbannot.engine.energy.prewarm", lambda: None)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shell():
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "nbannot")
    yield shell
    InteractiveShell.clear_instance()


def form_of(task="policy-sentiment", **defaults):
    return nbannot.configure(task, **{"model": "mock", "limit": 4, **defaults})


def type_in(form, **typed):
    for name, text in typed.items():
        form._entries[name].widget.value = text


def fault(form, name):
    return form._entries[name]._fault.value


def waited(condition, at_most_s=20.0):
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def plan_of(form, words):
    waited(lambda: words in form._plan_box.value)
    return form._plan_box.value


def run_cell(shell, cell):
    with capture_output():
        done = shell.run_cell(cell, store_history=False)
    assert done.error_in_exec is None, done.error_in_exec
    return done.result


# ---- from entries to settings -----------------------------------------------------------------------------------


def test_the_form_begins_with_the_defaults_it_is_given():
    given = {
        "temperature": 0.7, "top_p": 0.9, "seed": None, "chat_mode": "per_text", "reasoning": "low", "retries": 0,
        "prompt_type": "CoT", "use_examples": False, "fields": ("Direction",), "base_url": "http://127.0.0.1:9",
    }  # fmt: skip
    assert form_of(**given).config == RunConfig.of(model="mock", limit=4, **given)
    assert form_of().config == RunConfig(model="mock", limit=4)


def test_a_list_of_defaults_is_a_sweep():
    form = form_of(temperature=[0, 0.7], chat_mode=["per_query", "per_text"], repeats=2)
    assert len(form.config) == 8
    assert {c.repeat for c in form.config} == {1, 2}


def test_several_typed_values_are_a_sweep():
    form = form_of()
    type_in(form, temperature="0, 0.7,", seed="1, false", model="mock, mock/a", repeats="2")
    form._entries["prompt_type"].widget.value = ("standard", "CoT")
    assert len(form.config) == 32
    assert {c.seed for c in form.config} == {1, None}
    assert {c.model for c in form.config} == {"mock", "mock/a"}


def test_an_emptied_entry_is_at_its_default():
    form = form_of(temperature=1.5, limit=3)
    type_in(form, temperature="", limit=" ")
    assert (form.config.temperature, form.config.limit) == (0.0, None)


def test_what_the_form_has_no_entry_for_is_kept():
    form = form_of(retries=5, retry_strategy=["reprompt", "identical"], fields=[["Direction"], ["Intensity"]])
    assert {(c.retries, c.retry_strategy, c.fields) for c in form.config} == {
        (5, strategy, (field,))
        for strategy in ("reprompt", "identical")
        for field in ("Direction", "Intensity")
    }


def test_fields_are_ticked():
    form = form_of()
    boxes = form._entries["fields"].boxes
    boxes["Policy Sentiment_Evidence"].value = False
    assert form.config.fields == ("Explicit evaluation", "Direction", "Intensity")
    for box in boxes.values():
        box.value = False
    assert "tick at least one" in fault(form, "fields")


def test_fields_of_one_name_are_told_apart_by_their_columns():
    book = codebook_of(GATE).source
    book["section_2"] = {**book["section_1"], "section_name": "T"}
    form = form_of(task_of(3, nbannot.Codebook.from_dict(book)))
    form._entries["fields"].boxes["T_Gate"].value = False
    assert form.config.fields == ("S_Gate",)


@pytest.mark.parametrize(
    ("entry", "text", "says"),
    [
        ("temperature", "warm", "temperature must be a number from 0 to 2. Got 'warm'."),
        ("temperature", "0, 3", "temperature must be a number from 0 to 2. Got 3.0."),
        ("top_k", "1.5", "top_k must be an integer from 1"),
        ("limit", "-1", "limit must be an integer of at least 1. Got -1."),
        ("repeats", "0", "repeats must be one integer from 1 to 200. Got '0'."),
        ("repeats", "2, 3", "repeats must be one integer from 1 to 200. Got '2, 3'."),
        ("base_url", "localhost", "must be an address"),
    ],
)
def test_a_fault_stands_beside_its_entry(entry, text, says):
    form = form_of()
    type_in(form, **{entry: text})
    assert says.replace("'", "&#x27;") in fault(form, entry)
    assert form._run.disabled
    assert "1 entry needs a change" in form._status.value
    with pytest.raises(ConfigError, match="1 entry needs a change"):
        form.run()
    type_in(form, **{entry: ""})
    assert fault(form, entry) == form._status.value.replace('<div role="status"></div>', "") == ""
    assert not form._run.disabled


def test_all_faults_are_told_at_once():
    form = form_of()
    type_in(form, temperature="x", top_p="2")
    with pytest.raises(ConfigError) as error:
        _ = form.config
    assert str(error.value) == (
        "2 entries need a change.\n"
        "  temperature must be a number from 0 to 2. Got 'x'.\n"
        "  top_p must be a number from 0 to 1. Got 2.0."
    )


def test_a_contradiction_without_an_entry_of_its_own_is_told_below():
    form = form_of(calibration="batch")
    form._entries["chat_mode"].widget.value = ("per_query", "per_text")
    assert "needs chat_mode = &quot;per_query&quot;" in form._status.value
    assert form._run.disabled


def test_left_to_the_model_is_not_one_of_several():
    form = form_of()
    form._entries["reasoning"].widget.value = (None, True)
    assert "cannot stand among several values" in fault(form, "reasoning")
    form._entries["reasoning"].widget.value = (None,)
    assert form.config.reasoning is None


def test_a_form_makes_no_more_runs_than_can_be_looked_at():
    form = form_of()
    type_in(form, temperature=",".join(f"0.{i}" for i in range(1, 16)), seed=",".join(map(str, range(15))))
    assert "more than 200 runs" in form._status.value


def test_unknown_defaults_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        form_of(temprature=0)
    with pytest.raises(TaskError, match="did you mean 'policy-sentiment'"):
        form_of("policy-sentimen")


# ---- the cell ---------------------------------------------------------------------------------------------------


def test_the_cell_says_what_is_not_at_its_default():
    form = form_of(temperature=[0, 0.7], seed=None, fields=("Direction",), retries=0)
    assert form.cell == (
        "%%annotate policy-sentiment\n"
        'model = "mock"\n'
        "temperature = [0, 0.7]\n"
        "seed = false\n"
        'fields = ["Direction"]\n'
        "retries = 0\n"
        "limit = 4\n"
    )


def test_running_the_cell_gives_the_same_run(shell):
    form = form_of(temperature=0.5, prompt_type="persona", top_k=5, base_url="http://127.0.0.1:9", repeat=3)
    assert run_cell(shell, form.cell).run_id == form.run().run_id


def test_running_the_cell_of_a_sweep_gives_the_same_runs(shell):
    form = form_of(seed=[1, None], use_examples=[True, False], repeats=2, fields=("Direction",), limit=2)
    assert [r.run_id for r in run_cell(shell, form.cell)] == [r.run_id for r in form.run()]


def test_the_cell_of_a_task_in_a_variable(shell):
    shell.user_ns["my_task"] = task_of(3, codebook_of(GATE, STANCE), name="some name")
    form = form_of(shell.user_ns["my_task"])
    assert form.cell.startswith("%%annotate my_task\n")
    assert run_cell(shell, form.cell).run_id == form.run().run_id


def test_the_cell_of_a_frame(shell):
    shell.user_ns["frame"] = pd.DataFrame({"text": ["one", "two"], "S_Gate": ["1", "0"]})
    shell.user_ns["book"] = codebook_of(GATE)
    form = form_of(shell.user_ns["frame"], codebook=shell.user_ns["book"])
    assert form.cell.startswith("%%annotate frame --codebook book\n")
    assert form.task.name == "frame"
    assert run_cell(shell, form.cell).folder == form.run().folder


def test_a_cell_says_when_something_must_be_put_into_a_variable():
    cell = form_of(task_of(2, codebook_of(GATE), name="my study")).cell
    assert cell.startswith(
        "%%annotate my_study\n# first put the task that the form was given into a variable"
    )


def test_the_copy_button_shows_the_cell_and_keeps_it_up_to_date():
    form = form_of()
    assert form._cell_box.layout.display == "none"
    form._copy.click()
    assert form._cell_box.layout.display is None
    assert form._cell_box.value == form.cell
    assert json.dumps(form.cell) in form._clipboard.outputs[0]["data"]["application/javascript"]
    type_in(form, temperature="0.3")
    assert "temperature = 0.3\n" in form._cell_box.value
    type_in(form, temperature="x")
    assert "temperature must be" in form._cell_box.value


# ---- the plan ---------------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_run_and_follows_the_typing():
    form = form_of()
    real = nbannot.plan("policy-sentiment", model="mock", limit=4)
    shown = plan_of(form, real.run_id)
    assert f"8 to 16 calls, about {real.input_tokens:,} tokens" in shown
    assert list(form._first.options) == list(real.first_messages)
    first = real.first_messages[form._first.value][0]["content"]
    assert "You code texts for a study." in first
    assert form._forecast.prompts[form._first.value] == first
    type_in(form, limit="8", temperature="0, 1")
    assert "2 runs, 32 to 64 calls" in plan_of(form, "2 runs")
    table = re.sub("<[^>]+>", " ", form._plan_box.value)
    assert re.search(r"temperature\s+calls\s+tokens\s+0\s+16 to 32\s+[\d,]+\s+1\s+16 to 32\s", table)
    form._entries["prompt_type"].widget.value = ("persona", "CoT")
    plan_of(form, "4 runs")
    assert form._first.options[0] == "persona: Policy Sentiment_Explicit evaluation"


def test_a_plan_asks_no_stranger_and_fetches_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "packaged", lambda *_: pytest.fail("weights were fetched"))
    form = form_of(model="local")
    shown = plan_of(form, "fetched once")
    assert "8 to 16 calls" in shown
    type_in(form, model="openai/some-model", base_url="http://127.0.0.1:9")
    waited(lambda: "fetched once" not in form._plan_box.value)
    assert "8 to 16 calls" in form._plan_box.value
    assert "127.0.0.1" not in form._plan_box.value


def test_an_unknown_model_is_told_beside_its_entry_once_the_typing_pauses():
    form = form_of()
    type_in(form, model="mock, mok")
    waited(lambda: "unknown model" in fault(form, "model"))
    waited(lambda: form._run.disabled)
    assert "when every entry is right" in plan_of(form, "when every entry is right")
    with pytest.raises(ConfigError, match="did you mean 'mock'"):
        form.run()
    assert form.last is None
    type_in(form, model="mock")
    assert fault(form, "model") == ""
    assert not form._run.disabled


def test_a_list_price_is_told_with_its_currency():
    form = form_of(model="anthropic/claude-haiku-4-5", limit=4)
    assert "at most US$" in plan_of(form, "at most")


def test_while_something_is_wrong_there_is_no_plan_of_before():
    form = form_of()
    plan_of(form, "8 to 16 calls")
    type_in(form, temperature="x")
    form._entries["prompt_type"].widget.value = ("persona",)
    assert "calls" not in plan_of(form, "when every entry is right")
    waited(lambda: "experienced researcher" in form._prompt.value)
    type_in(form, temperature="1")
    plan_of(form, "8 to 16 calls")


def test_the_button_says_what_it_will_do():
    form = form_of()
    assert form._run.description == "Run"
    form.run()
    assert form._run.description == "Show"
    assert "Nothing left to ask: this run is complete." in plan_of(form, "Nothing left to ask")
    assert "calls" not in re.sub("<[^>]+>", "", form._plan_box.value)
    type_in(form, temperature="1")
    waited(lambda: form._run.description == "Run")
    assert "Nothing left" not in form._plan_box.value


def test_it_opens_from_an_earlier_run():
    run = nbannot.run("policy-sentiment", model="mock", limit=3, temperature=0.5, fields=["Direction"])
    for earlier in (run, run.folder, run.folder / "config.json", f"{run.folder}/config.json"):
        form = nbannot.configure(earlier)
        assert form.cell == (
            '%%annotate policy-sentiment\nmodel = "mock"\ntemperature = 0.5\nfields = ["Direction"]\nlimit = 3\n'
        )
        assert form._sampling.button.value, "what is not at its default can be seen"
    assert nbannot.plan("policy-sentiment", form.config).run_id == run.run_id
    assert nbannot.configure(run, limit=5).settings["limit"] == 5
    mine = nbannot.run(task_of(4, codebook_of(GATE, STANCE)), model="mock")
    assert nbannot.plan(nbannot.configure(mine).task, model="mock").run_id == mine.run_id


def test_a_fault_that_is_folded_away_opens_its_fold():
    form = form_of()
    assert form._sampling.inside.layout.display == "none"
    type_in(form, top_p="7")
    assert form._sampling.inside.layout.display is None


# ---- what is here -----------------------------------------------------------------------------------------------


class _Ollama(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"models": [{"name": "qwen3:4b"}, {"name": "gemma3:270m"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def test_models_that_are_here_are_listed(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr(sources, "find_spec", lambda name: object())
    form = form_of()
    box = form._entries["model"].widget
    waited(lambda: len(box.options) > 1)
    server.shutdown()
    assert box.options[:4] == ("local", "ollama/gemma3:270m", "ollama/qwen3:4b", "openai/")
    assert box.options[-1] == "mock"
    assert "sk-secret" not in str(box.options)
    type_in(form, model="mock, local,")
    assert form.settings["model"] == ["mock", "local"]


def test_a_silent_server_holds_nobody_up(monkeypatch):
    with http.server.socketserver.TCPServer(("127.0.0.1", 0), None) as silent:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{silent.server_address[1]}")
        started = time.monotonic()
        form = form_of()
        assert form.config.model == "mock"
        names = [name for _, name in sources.models_here()]
        assert time.monotonic() - started < 5
    assert "mock" in names
    assert not [name for name in names if name.startswith("ollama")]


def test_without_the_engine_local_is_not_listed(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    assert "local" not in [name for _, name in sources.models_here()]


def test_another_task_brings_its_fields():
    form = form_of()
    assert "discrete-emotions" in form._entries["task"].widget.options
    type_in(form, task="discrete-emotions")
    assert form.task.name == "discrete-emotions"
    assert list(form._entries["fields"].boxes) == [f.column for f in form.task.codebook]
    assert form.cell.startswith("%%annotate discrete-emotions\n")
    plan_of(form, "16 calls")
    type_in(form, task="policy-sentimen")
    assert "did you mean" in fault(form, "task")
    assert form.task.name == "discrete-emotions"
    assert form._run.disabled
    with pytest.raises(ConfigError, match="did you mean"):
        form.run()
    type_in(form, task="policy-sentiment")
    assert fault(form, "task") == ""
    assert not form._run.disabled
    assert form.task.name == "policy-sentiment"


# ---- running ----------------------------------------------------------------------------------------------------


def test_run_waits_and_returns_the_run():
    form = form_of()
    run = form.run()
    assert isinstance(run, Run)
    assert form.last is run
    assert form.error == ""
    assert run.run_id == nbannot.run("policy-sentiment", model="mock", limit=4).run_id
    assert f"run {run.run_id}: complete" in form._status.value
    assert "policy-sentiment · mock" in form._results.value
    assert "Report on policy-sentiment" in form._results.value


def test_a_sweep_shows_its_runs():
    form = form_of(temperature=[0, 1])
    runs = form.run()
    assert isinstance(runs, Runs)
    assert len(runs) == 2
    assert all(run.run_id in form._results.value for run in runs)
    assert "Nothing left to ask: these runs are complete." in plan_of(form, "Nothing left")
    assert form._run.description == "Show"


def test_the_button_runs_in_the_background_stops_and_goes_on():
    form = form_of(model=SLOW, limit=10)
    started = time.monotonic()
    form._run.click()
    assert time.monotonic() - started < 0.5
    waited(lambda: "of 40 answers" in form._status.value)
    assert form._run.disabled
    assert not form._stop_button.disabled
    with pytest.raises(RunError, match="running already"):
        form.run()
    type_in(form, temperature="0.9")
    waited(
        lambda: "1 of 40" in form._status.value or "2 of 40" in form._status.value or form.last is not None
    )
    form._stop_button.click()
    waited(lambda: not form._run.disabled)
    assert "answers are kept" in form._status.value
    assert "Press Continue" in form._status.value
    assert isinstance(form.last, Run)
    stopped = form.last
    assert stopped.config["temperature"] == 0
    assert stopped.status != "complete"
    type_in(form, temperature="0")
    waited(lambda: form._run.description == "Continue")
    form._run.click()
    waited(lambda: form.last is not stopped and not form._working.locked())
    assert form.last.status == "complete"
    assert form.last.run_id == stopped.run_id
    assert form.last.progress.cached > 0


def test_servers_of_one_run_are_in_one_entry_and_a_sweep_over_servers_is_kept():
    servers = ["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"]
    form = form_of(model="openai/tiny", base_url=servers)
    assert form._entries["base_url"].widget.value == ", ".join(servers)
    assert form.config.base_url == tuple(servers)
    with Serving(models=("tiny",)) as server:
        at_server = form_of(model="openai/tiny", limit=2, base_url=[server.openai_url])
        made = at_server.run()
        assert f"{made.run_id}, complete" in plan_of(at_server, "Nothing left to ask: this run")
    assert at_server._run.description == "Show"
    swept = form_of(model="openai/tiny", base_url=[[servers[0]], [servers[1]]])
    assert swept._entries["base_url"].widget.value == ""
    assert len(swept.config) == 2
    assert swept.settings["base_url"] == [[servers[0]], [servers[1]]]


def test_a_stopped_sweep_says_so():
    form = form_of(model=SLOW, temperature=[0, 1], limit=10)
    threading.Timer(0.7, form._stop.set).start()
    with pytest.raises(RunInterrupted):
        form.run()
    assert "run 1 of 2" in form.error
    assert not form._run.disabled


def test_an_unexpected_error_in_the_background_is_shown(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("somewhere deep")

    form = form_of()
    monkeypatch.setattr("nbannot.running.run.run", broken)
    form._run.click()
    waited(lambda: "somewhere deep" in form.error and not form._working.locked())
    assert "ZeroDivisionError" in form._status.value
    assert not form._run.disabled


def test_a_failed_run_is_shown_and_told():
    form = form_of(model="mock?error=1", limit=2, retries=0)
    run = form.run()
    assert run.status == "failed"
    assert "failed" in form._status.value


# ---- showing ----------------------------------------------------------------------------------------------------


def test_the_form_has_a_twin_in_plain_text_and_an_output_that_stays(shell):
    shell.user_ns["form"] = form_of()
    with capture_output() as caught:
        shell.run_cell("form", store_history=False)
        shell.user_ns["form"].run()
    widget, before, after = caught.outputs
    assert "application/vnd.jupyter.widget-view+json" in widget.data
    assert widget.data["text/plain"].startswith(
        "A form for runs of 'policy-sentiment'; it needs a running kernel."
    )
    assert "%%annotate policy-sentiment" in widget.data["text/plain"]
    assert before.data.keys() == {"text/html", "text/plain"}
    assert "policy-sentiment · mock" in after.data["text/html"]
    assert "policy-sentiment · mock" in after.data["text/plain"]
    assert 'model = "mock"' in after.data["text/plain"]


def test_every_widget_has_a_label_and_every_part_its_class():
    form = form_of()
    for entry in form._entries.values():
        if entry.name != "fields":
            assert entry.widget.description
    classes = {name for part in _parts(form.widget) for name in part._dom_classes}
    assert {
        "nbannot-form", "nbannot-run", "nbannot-stop", "nbannot-copy", "nbannot-status", "nbannot-plan",
        "nbannot-prompt", "nbannot-cell", "nbannot-temperature", "nbannot-fields",
    } <= classes  # fmt: skip


def _parts(widget):
    return [widget, *(part for child in getattr(widget, "children", ()) for part in _parts(child))]


def test_texts_in_the_form_are_escaped():
    book = codebook_of({"name": "<b>x</b>", "type": "checkbox", "tooltip": "<script>1</script>"})
    form = form_of(nbannot.Task(pd.DataFrame({"text": ["<img src=x onerror=alert(1)>"]}), book))
    waited(lambda: "onerror" in form._prompt.value)
    assert "<img" not in form._prompt.value
    assert "<script>" not in form._prompt.value
    type_in(form, temperature="<img src=x>")
    assert "<img" not in fault(form, "temperature")
