"""The magics through a real in-process shell."""

import builtins
import re
import subprocess
import sys

import pandas as pd
import polars as pl
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import nbannot
from nbannot.asking import prompts
from nbannot.doors import magic
from nbannot.errors import ConfigError, ModelError, RunInterrupted, TaskError
from nbannot.record.run import Run
from nbannot.running.sweep import Runs
from nbannot.study.settings import SETTINGS

LABEL_FIELDS = 'fields = ["Explicit evaluation", "Direction"]\n'


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbannot.engine.energy.prewarm", lambda: None)
    monkeypatch.setattr(magic, "_told_before", set())
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "nbannot")
    yield shell
    InteractiveShell.clear_instance()


def run_cell(shell, cell):
    """Run a cell; return its result, what it showed as text, and its error."""
    with capture_output() as caught:
        result = shell.run_cell(cell, store_history=False)
    shown = [*(output.data["text/plain"] for output in caught.outputs), caught.stdout, caught.stderr]
    return result.result, "\n".join(part for part in shown if part), result.error_in_exec


def value_of(shell, cell):
    result, _, error = run_cell(shell, cell)
    assert error is None, error
    return result


# ---- what a cell does -------------------------------------------------------------------------------------------


def test_a_cell_gives_the_run_that_the_plain_call_gives(shell):
    run = value_of(shell, f'%%annotate policy-sentiment\nmodel = "mock"\nlimit = 6\n{LABEL_FIELDS}')
    plain = nbannot.run(
        "policy-sentiment", model="mock", limit=6, fields=["Explicit evaluation", "Direction"]
    )
    assert run.run_id == plain.run_id
    assert run.status == "complete"
    assert str(run.folder).startswith("outputs/policy-sentiment/")


def test_every_setting_can_stand_on_the_line(shell):
    in_body = value_of(
        shell, '%%annotate policy-sentiment --plan\nmodel = "mock"\ntemperature = 0.7\nlimit = 3'
    )
    on_line = value_of(shell, "%annotate policy-sentiment --plan --model mock --temperature 0.7 --limit=3")
    assert in_body.run_id == on_line.run_id
    assert {f"--{name}" for name in SETTINGS} <= set(
        magic.NbannotMagics.annotate.parser._option_string_actions
    )


@pytest.mark.parametrize(
    "line",
    [
        "policy-sentiment -o found",
        "policy-sentiment --out=found",
        "found << policy-sentiment",
        "found<< policy-sentiment",
    ],
)
def test_the_result_goes_to_a_variable_and_its_card_is_shown(shell, line):
    result, shown, error = run_cell(
        shell, f'%%annotate {line}\nmodel = "mock"\nlimit = 6\nfields = ["Direction"]'
    )
    assert error is None
    assert result is shell.user_ns["found"]
    assert shown.startswith("Mock model: its answers are made up")
    assert "policy-sentiment · mock" in shown


def test_a_notice_is_told_once_a_session(shell):
    run_cell(shell, "%annotate policy-sentiment --model mock --limit 3 --fields Direction -o a")
    _, shown, _ = run_cell(shell, "%annotate policy-sentiment --model mock --limit 4 --fields Direction -o b")
    assert "its answers are made up" not in shown.split("Settings, time")[0]


def test_quiet_shows_nothing(shell, monkeypatch):
    monkeypatch.delattr(builtins, "_", raising=False)  # of doctests; IPython leaves its own alone then
    _, shown, error = run_cell(shell, "%annotate policy-sentiment --model mock --limit 3 -o a -q")
    assert error is None
    assert shown == ""
    assert shell.user_ns["a"].status == "complete"
    value, shown, error = run_cell(
        shell, '%%annotate policy-sentiment -q\nmodel = "mock"\nlimit = 4\nfields = ["Direction"]'
    )
    assert (value, shown, error) == (None, "", None)
    assert len(shell.user_ns["_"].task) == 4, "made, and at hand"


def test_a_semicolon_shows_nothing(shell):
    assert value_of(shell, "%annotate policy-sentiment --model mock --limit 3 --fields Direction -q;") is None


def test_a_line_magic_can_be_assigned(shell):
    value_of(shell, "mine = %annotate policy-sentiment --model mock --limit 3 --fields Direction -q")
    assert len(shell.user_ns["mine"].task) == 3


def test_braces_and_dollars_are_left_alone(shell):
    shell.user_ns["place"] = "elsewhere"
    _, _, error = run_cell(shell, "%annotate {place}/config.json")
    assert str(error).startswith("cannot read {place}/config.json")


def test_fresh_makes_a_repetition(shell):
    line = "%annotate policy-sentiment --model mock --limit 3 --fields Direction -q"
    first, again, fresh = (value_of(shell, line + option) for option in ("", "", " --fresh"))
    assert first.run_id == again.run_id != fresh.run_id
    assert fresh.config["repeat"] == 2


def test_retry_asks_again_what_is_invalid(shell):
    line = "%annotate policy-sentiment --model mock/?wrong=0.5 --retries 0 --limit 8 --fields Direction -q"
    before = value_of(shell, line).coding.count()
    after = value_of(shell, line + " --retry invalid").coding.count()
    assert after["ok"] > before["ok"]


def test_a_plan_sends_nothing(shell, tmp_path):
    plan = value_of(shell, '%%annotate policy-sentiment --plan\nmodel = "mock"')
    assert (plan.calls_at_least, plan.calls_at_most) == (128, 256)
    assert not (tmp_path / "outputs").exists()


def test_a_plan_sends_a_few_texts_when_asked_for_a_pilot(shell, tmp_path):
    plan = value_of(shell, "%annotate policy-sentiment --plan --pilot 2 --model mock")
    assert plan.pilot_texts == 2
    assert plan.seconds_per_call is not None
    assert not (tmp_path / "outputs").exists()
    for line, why in (("--pilot 2", "--pilot goes with --plan"), ("--plan --pilot 0", "at least 1. Got 0")):
        _, shown, error = run_cell(shell, f"%annotate policy-sentiment --model mock {line}")
        assert why in f"{shown}{error}"


def test_lists_make_a_sweep(shell):
    runs = value_of(
        shell,
        "%%annotate policy-sentiment --limit 3 --fields Direction\n"
        'model = ["mock", "mock/b"]\ntemperature = [0, 0.7]',
    )
    assert [(r.config["model"], r.config["temperature"]) for r in runs] == [
        ("mock", 0.0), ("mock", 0.7), ("mock/b", 0.0), ("mock/b", 0.7)
    ]  # fmt: skip
    assert shell.run_line_magic("report", "").text.startswith(
        f"Report on policy-sentiment: mock/b (run {runs[-1].run_id})"
    )


def test_lists_on_the_line_make_a_sweep_and_are_planned_together(shell):
    result, shown, error = run_cell(
        shell, "%annotate policy-sentiment --plan --model [mock, mock/b] --limit 3 --fields Direction"
    )
    assert error is None
    assert [p.calls_at_most for p in result] == [3, 3]
    assert "Plan of a sweep" in shown


def test_a_config_json_runs_that_again(shell):
    run = value_of(shell, "%annotate policy-sentiment --model mock --limit 4 --fields Direction -q")
    ledger = run.folder / "responses.jsonl"
    before = ledger.read_bytes()
    again = value_of(shell, f"%annotate {run.folder}/config.json -q")
    assert again.run_id == run.run_id
    assert ledger.read_bytes() == before
    other = value_of(shell, f"%annotate {run.folder}/config.json --temperature 0.7 -q")
    assert other.run_id != run.run_id
    assert other.task.ids == run.task.ids


def test_a_toml_file_runs(shell, tmp_path):
    (tmp_path / "study.toml").write_text(
        'task = "policy-sentiment"\nmodel = "mock"\nlimit = 3\nfields = ["Direction"]\n'
    )
    assert len(value_of(shell, "%annotate study.toml -q").task) == 3


CODEBOOK = {
    "text_column": "text",
    "section_1": {
        "section_name": "S",
        "section_instruction": "Read.",
        "annotations": {"annotation_1": {"name": "Good", "type": "checkbox", "tooltip": "", "example": ""}},
    },
}


@pytest.mark.parametrize("library", [pd, pl])
def test_a_dataframe_in_a_variable_is_a_task_of_that_name(shell, library):
    shell.user_ns["speeches"] = library.DataFrame({"text": ["yes", "no", "perhaps"]})
    shell.user_ns["book"] = nbannot.Codebook.from_dict(CODEBOOK)
    run = value_of(shell, "%annotate speeches --codebook book --model mock -q")
    _, _, error = run_cell(shell, "%annotate speeches --codebook bok --model mock -q")
    assert str(error) == "--codebook bok: there is no such variable and no such file; did you mean 'book'?"
    assert run.task.name == "speeches"
    assert run.coding.count() == {"ok": 3}


def test_the_codebook_of_a_dataframe_can_be_a_file(shell, tmp_path):
    import json

    (tmp_path / "my book.json").write_text(json.dumps(CODEBOOK))
    shell.user_ns["speeches"] = pd.DataFrame({"text": ["yes", "no"]})
    assert len(value_of(shell, '%annotate speeches --codebook "my book.json" --model mock -q').task) == 2


def test_a_task_in_a_variable(shell):
    shell.user_ns["mine"] = nbannot.load_task("discrete-emotions").select(limit=2)
    assert len(value_of(shell, "%annotate mine --model mock -q").task) == 2


# ---- errors: one short letter with the line of the cell ------------------------------------------------------------

ERRORS = {
    "a slip": (
        '%%annotate policy-sentiment\nmodel = "mock"\nuse_examples = True',
        ConfigError,
        "line 3, column 16: Invalid value.\n    use_examples = True\n  TOML writes true and false in small letters.",
    ),
    "several settings": (
        '%%annotate policy-sentiment\nmodle = "mock"\n\ntemperature = "low"\nlimit = 0',
        ConfigError,
        "3 settings need a change.\n"
        "  line 2: unknown setting 'modle'; did you mean 'model'?\n"
        "  line 4: temperature must be a number from 0 to 2. Got 'low'.\n"
        "  line 5: limit must be an integer of at least 1. Got 0.",
    ),
    "on the line": (
        '%%annotate policy-sentiment --top_p 7\nmodel = "mock"\nseed = -1',
        ConfigError,
        "2 settings need a change.\n"
        "  line 1: top_p must be a number from 0 to 1. Got 7.0.\n"
        "  line 3: seed must be an integer from 0 to 4294967295. Got -1.",
    ),
    "contradiction": (
        '%%annotate policy-sentiment --temperature 0.5 --model mock\nmodel = "mock"\ntemperature = 0.7',
        ConfigError,
        "line and body of the cell contradict each other.\n"
        "  temperature: line 1 says --temperature 0.5, line 3 says temperature = 0.7.",
    ),
    "prompt type": (
        '%%annotate policy-sentiment\nmodel = "mock"\nprompt_type = "cot"',
        ConfigError,
        "line 3: unknown prompt type 'cot'; did you mean 'CoT'?\n"
        "  Known: standard, persona, CoT. A wording of your own: %%prompt NAME, or nbannot.add_prompt(NAME, TEXT).",
    ),
    "model": (
        '%%annotate policy-sentiment\nmodel = "mocc"',
        ModelError,
        "line 2: unknown model 'mocc'; did you mean",
    ),
    "model option": (
        "%annotate policy-sentiment --model mocc",
        ModelError,
        "line 1: unknown model 'mocc'; did you mean",
    ),
    "task": (
        "%annotate policy-sentimnt",
        TaskError,
        "no task 'policy-sentimnt'; did you mean 'policy-sentiment'?",
    ),
    "variable": (
        "%annotate number",
        TaskError,
        "variable 'number' holds a value of type int, and there is no task of that name.\n"
        "  %annotate takes a Task or a DataFrame: nbannot.load_task(...), Task(frame, codebook).",
    ),
    "frame alone": (
        "%annotate frame",
        TaskError,
        "the DataFrame 'frame' needs a codebook.\n"
        "  Type: %annotate frame --codebook codebook.json (a path, or a variable that holds a Codebook).",
    ),
    "no task": (
        "%annotate",
        UsageError,
        "which task? %annotate TASK: a folder, a variable, or a bundled one (discrete-emotions, policy-sentiment)",
    ),
    "option": (
        "%annotate policy-sentiment --modle x",
        UsageError,
        "unknown option --modle; did you mean '--model'?",
    ),
    "unheard-of option": (
        "%annotate policy-sentiment --xyz",
        UsageError,
        "unknown option --xyz; see %annotate --help",
    ),
    "option without value": (
        "%annotate policy-sentiment --model",
        UsageError,
        "argument --model: expected one argument",
    ),
    "codebook of a task": (
        "%annotate policy-sentiment --codebook b.json",
        UsageError,
        "--codebook goes with a DataFrame; 'policy-sentiment' brings its own codebook",
    ),
    "two variables": (
        "%annotate a << policy-sentiment -o b",
        UsageError,
        "the result goes to one variable: 'a <<' or '--out b', not both",
    ),
    "no variable": (
        "%annotate policy-sentiment -o my-run",
        UsageError,
        "-o takes the name of a variable. Got 'my-run'",
    ),
    "fresh sweep": (
        "%annotate policy-sentiment --fresh --model mock --repeat [1, 2]",
        ConfigError,
        "--fresh is for one run, and lists of values make 2.\n  Further repetitions of a sweep: repeat = [1, 2, 3].",
    ),
    "bad wording": (
        "%%prompt mine\n{{ core_prompt }} {{ txt }}",
        ConfigError,
        "the wording 'mine' needs a change.\n"
        "  unknown place {{ txt }}; did you mean 'text'?\n"
        "  {{ text }} must stand in the wording once. Found 0 times",
    ),
    "nameless wording": ("%%prompt\n{{ core_prompt }}", UsageError, "%%prompt needs a name: %%prompt NAME"),
    "no run yet": ("%report", UsageError, "which run? %report NAME; no cell of this session made one yet"),
    "no such run": (
        "%report nix",
        UsageError,
        "there is no variable 'nix'; give a run or a run folder",
    ),
    "no runs yet": ("%runs", UsageError, "which task? %runs TASK; nothing was annotated in this session yet"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_short_letter_without_a_traceback(shell, name):
    cell, kind, message = ERRORS[name]
    shell.user_ns |= {"number": 3, "frame": pd.DataFrame({"text": ["a"]})}
    _, shown, error = run_cell(shell, cell)
    assert type(error) is kind
    assert str(error).startswith(message)
    assert "Traceback" not in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert f"{kind.__name__}: {message}" in plain
    assert len(plain.strip().splitlines()) <= 7


def test_a_sweep_names_every_line_with_a_bad_value(shell):
    cell = '%%annotate policy-sentiment\nmodel = ["mock", "mocc"]\ntemperature = [0, 9]'
    _, _, error = run_cell(shell, cell)
    assert "line 3: temperature must be a number from 0 to 2. Got 9" in str(error)


def test_an_interrupt_outside_the_asking_is_one_tidy_line(shell, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nbannot.record.scoring.score", interrupted)
    _, shown, error = run_cell(shell, "%annotate policy-sentiment --model mock --limit 3 --fields Direction")
    assert type(error) is RunInterrupted
    assert "Every finished answer is kept.\n  The same cell or script goes on from there." in str(error)
    assert "Traceback" not in shown


# ---- the other magics -----------------------------------------------------------------------------------------------


def test_prompt_stores_a_wording_that_runs_use(shell, monkeypatch):
    monkeypatch.setattr(prompts, "_REGISTRY", dict(prompts._REGISTRY))
    _, shown, error = run_cell(shell, '%%prompt strict --reasons\n{{ core_prompt }} {"a": 1}\n{{ text }}')
    assert error is None
    assert shown == 'The wording is stored: prompt_type = "strict"'
    assert prompts.prompt_type("strict").reasons
    run = value_of(
        shell, "%annotate policy-sentiment --model mock --prompt_type strict --limit 2 --fields Direction -q"
    )
    assert '{"a": 1}' in run.config["prompt_template"]
    _, shown, _ = run_cell(shell, "%prompt strict")
    assert '{"a": 1}' in shown
    _, shown, _ = run_cell(shell, "%prompt")
    assert shown.split() == ["standard", "persona", "CoT", "strict"]


def test_report_shows_the_last_run_a_variable_or_a_folder(shell):
    run = value_of(shell, "%annotate policy-sentiment --model mock --limit 3 --fields Direction -q")
    shell.user_ns["mine"] = run
    shown = {str(value_of(shell, f"%report {which}")) for which in ("", "mine", str(run.folder))}
    assert len(shown) == 1
    assert f"run {run.run_id}" in shown.pop()


def test_compare_takes_runs_and_sweeps(shell):
    value_of(shell, "%annotate policy-sentiment --model mock --limit 12 --fields Direction -o one -q")
    value_of(
        shell, "%annotate policy-sentiment --model [mock/b,mock/c] --limit 12 --fields Direction -o two -q"
    )
    shown = str(value_of(shell, "%compare one two --metric f1_macro --column Direction"))
    assert "Comparison (3 runs, 1 metric, 3 paired comparisons)" in shown


def test_runs_shows_the_runs_of_a_task(shell):
    first = value_of(shell, "%annotate policy-sentiment --model mock --limit 3 --fields Direction -q")
    second = value_of(shell, "%annotate policy-sentiment --model mock/b --limit 3 --fields Direction -q")
    for line in ("", "policy-sentiment", "policy-sentiment --output_root outputs"):
        shown = str(value_of(shell, f"%runs {line}"))
        assert first.run_id in shown
        assert second.run_id in shown


@pytest.mark.parametrize("cell", ["%annotate --help", "%%annotate -h\nmodel = 1"])
def test_help_names_every_setting_with_its_meaning(shell, cell):
    _, shown, error = run_cell(shell, cell)
    assert error is None
    told = " ".join(shown.split())
    for name, setting in SETTINGS.items():
        assert f"--{name} VALUE" in told
        assert setting.meaning.split()[0] in told
    assert "Examples" in told


def test_the_question_mark_shows_the_same_help(shell):
    text = shell.inspector.info(shell.find_line_magic("annotate"))["docstring"]
    assert "%annotate policy-sentiment --model mock --limit 10" in text
    assert "--temperature VALUE" in text


@pytest.mark.parametrize("body", ["", "\n", "\n# nothing yet\n"])
def test_a_body_without_settings_says_what_to_add(shell, body):
    _, shown, error = run_cell(shell, f"%%annotate policy-sentiment{body}")
    assert type(error) is UsageError
    assert 'Add for instance\n  model = "local"' in str(error)
    assert "%annotate policy-sentiment with one %" in str(error)
    assert "Traceback" not in shown
    value_of(shell, f"%%annotate policy-sentiment -q --model mock --limit 2{body}")  # the line says enough


def test_a_variable_stands_for_a_whole_setting(shell):
    np = pytest.importorskip("numpy")
    shell.user_ns |= {"m": "mock/b", "t": np.array([0.0, 0.7]), "n": 3, "which": ("Direction",), "d": "$n"}
    body = "model = $m   # which\ntemperature = $t\nlimit=$n\nfields = $which\n"
    by_variable = value_of(shell, f"%%annotate policy-sentiment\n{body}")
    plain = 'model = "mock/b"\ntemperature = [0, 0.7]\nlimit = 3\nfields = ["Direction"]\n'
    assert [one.run_id for one in value_of(shell, f"%%annotate policy-sentiment\n{plain}")] == [
        one.run_id for one in by_variable
    ]
    line = "%annotate policy-sentiment -q --temperature 0 --model $m --limit=$n --fields $which"
    assert value_of(shell, line).run_id == by_variable[0].run_id
    _, _, error = run_cell(shell, '%%annotate policy-sentiment\nmodel = "mock"\nlimit = $nn\nseed = 1')
    assert str(error) == "line 3: limit = $nn: there is no variable 'nn'; did you mean 'n'?"
    for body, hint in (
        ('model = "$m"', "without quotation marks: model = $m"),
        ("model = $m\n$n", "stands on the first line: %%annotate TASK CONFIG."),
        (
            'model = [$m, "mock"]',
            "stands for a whole setting: model = $models, where models is a value or a list.",
        ),
    ):
        _, _, error = run_cell(shell, f"%%annotate policy-sentiment\n{body}")
        assert str(error).endswith(hint)
    _, _, error = run_cell(shell, "%%annotate policy-sentiment\nmodel = $m\nlimit = $d")
    assert str(error).endswith("line 3: limit must be an integer of at least 1. Got '$n'.")


def test_settings_and_runs_in_variables_are_taken(shell, tmp_path):
    config = nbannot.RunConfig(model="mock", limit=3, fields=["Direction"])
    shell.user_ns |= {"config": config, "settings": {"model": "mock", "limit": 3, "fields": ["Direction"]}}
    _, _, error = run_cell(shell, "%annotate config")
    assert "nothing was annotated in this session yet: %annotate TASK config" in str(error)
    first = value_of(shell, "%annotate policy-sentiment config -q")
    shell.user_ns |= {"run": first, "place": first.folder / "config.json"}
    named = [f"policy-sentiment {what}" for what in ("settings", "run", first.folder / "config.json")]
    same = ["config", "run", "place", *named]
    assert [value_of(shell, f"%annotate {words} -q").run_id for words in same] == [first.run_id] * len(same)
    assert len(value_of(shell, "%%annotate policy-sentiment config\nlimit = 2").task) == 2
    _, _, error = run_cell(shell, "%annotate my task")
    assert str(error).endswith(
        "Got 'task', and there is no such variable; a task with a space in its name stands in quotation marks"
    )


def test_compare_alone_takes_the_last_sweep_or_the_task(shell):
    line = "%annotate policy-sentiment --limit 12 --fields Direction -q --model"
    value_of(shell, f"{line} mock/a")
    _, _, error = run_cell(shell, "%compare")
    assert str(error).startswith("there are not two finished runs of 'policy-sentiment' on the same texts")
    value_of(shell, f"{line} [mock/b,mock/c]")
    assert "Comparison (2 runs" in str(value_of(shell, "%compare"))
    assert "Comparison (3 runs" in str(value_of(shell, "%compare policy-sentiment"))
    value_of(shell, f"{line} mock/d")
    assert "Comparison (4 runs" in str(value_of(shell, "%compare"))
    shown = str(value_of(shell, "%runs"))
    assert re.search(r"run_id +model +Direction, macro F1 +time", shown)
    assert re.search(r"mock/d +0\.\d\d \[0\.\d\d, 0\.\d\d\]¹ +\d", shown)
    assert 'The same in all: limit = 12, fields = ["Direction"]; all others at their default.' in shown
    shell.user_ns["run"] = value_of(
        shell, f"{line} mock/d --seed 2 --sample 4"
    )  # others: the latest that have twins
    assert "Comparison (4 runs" in str(value_of(shell, "%compare"))
    assert completed(shell, "%report run --field |") == ["Direction"]
    shell.user_ns["which_model"] = "mock/d"
    assert len([word for word in completed(shell, "%report out|") if "policy-sentiment" in word]) == 5
    assert completed(shell, "%compare pol|") == ["policy-sentiment"]
    assert completed(shell, "%%annotate policy-sentiment\nmodel = $wh|") == ["$which_model"]


# ---- completion -----------------------------------------------------------------------------------------------------


def completed(shell, text, line=None):
    """Return the completions at | in a cell."""
    before = text.partition("|")[0]
    found = magic.completion.completions(
        text.replace("|", ""), before.count("\n"), len(before.rpartition("\n")[2]), shell.user_ns
    )
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%annotate policy-sentiment --mo|", ["--model"]),
        ("%%annotate policy-sentiment --pl|", ["--plan"]),
        ("%annotate pol|", ["policy-sentiment"]),
        ("%annotate m|", ["mine"]),
        ("%annotate policy-sentiment --model mo|", ["mock"]),
        ("%annotate policy-sentiment --model=lo|", ["local"]),
        ("%annotate policy-sentiment --prompt_type per|", ["persona"]),
        ("%annotate policy-sentiment --chat_mode |", ["per_query", "per_text", "continuous"]),
        ("%annotate policy-sentiment --process_span |", ["true", "false"]),
        ("%annotate policy-sentiment --fields Di|", ["Direction"]),
        ("%annotate policy-sentiment --temperature |", []),
        ("%annotate frame --codebook bo|", ["book"]),
        ("%annotate policy-sentiment -o |", []),
        ("%annotate policy-sentiment con|", ["config"]),
        ("%annotate policy-sentiment --retry |", ["invalid", "failed"]),
        ("%report any_run --f|", ["--field"]),
        ("%compare any_run --metric quad|", ["quadratic_kappa"]),
        ("%%annotate policy-sentiment\nmodel = |", ['"local"', '"mock"']),
        ('%%annotate policy-sentiment\nmodel = "mo|', ['"mock"']),
        ('%%annotate policy-sentiment\nmodel = "mo|"', ['"mock']),
        ('%%annotate policy-sentiment\nmodel = ["local", "mo|', ['"mock"']),
        ("%%annotate policy-sentiment\nuse_ex|", ["use_examples = "]),
        ("%%annotate policy-sentiment\nuse_ex| = true", ["use_examples"]),
        ("%%annotate policy-sentiment\nuse_examples = t|", ["true"]),
        ('%%annotate policy-sentiment\nmodel = "mock"\nmod|', []),
        ("%%annotate policy-sentiment\nsplit = |", ['"dev"', '"test"']),
        ("%%annotate policy-sentiment\nreasoning = |", ["true", "false", '"minimal"', '"low"', '"medium"', '"high"']),
        ('%%annotate policy-sentiment\nfields = ["Ev|', ['"Evidence"']),
        ('%%annotate mine\nfields = ["Pri|', ['"Primary emotion"']),
        ("%report an|", ["any_run"]),
        ("%compare an|", ["any_run", "any_runs"]),
        ("%compare any_run --m|", ["--metric"]),
        ("%runs pol|", ["policy-sentiment"]),
        ("%code pol|", ["policy-sentiment"]),
        ("%code policy-sentiment --cod|", ["--coder", "--codebook"]),
        ("%code policy-sentiment --order r|", ["random"]),
        ("%code policy-sentiment --coder |", []),
        ("%%prompt --re|", ["--reasons"]),
        ("print(mo|", None),
        ("%annotatepol|", None),
        ("%%prompt mine\nmod|", None),
    ],
)  # fmt: skip
def test_completion(shell, text, expected):
    shell.user_ns |= {
        "mine": nbannot.load_task("discrete-emotions"),
        "frame": pd.DataFrame({"text": ["a"]}),
        "book": nbannot.Codebook.from_dict(CODEBOOK),
        "config": nbannot.RunConfig(),
        "any_run": object.__new__(Run),
        "any_runs": object.__new__(Runs),
    }
    found = completed(shell, text)
    if expected and "model" in text and len(expected) == 2:
        assert found[:2] == expected  # further backends may be installed
    else:
        assert found == expected


def test_completion_finds_tasks_in_folders(shell, tmp_path):
    for name in ("studies/one", "studies/two", "studies/three"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "studies" / name / "codebook.json").write_text("{}")
    assert completed(shell, "%annotate stu|") == ["studies/one", "studies/two"]
    assert completed(shell, "%annotate studies/t|") == ["studies/two"]


def test_completion_reaches_the_user_through_ipython(shell):
    cell = '%%annotate policy-sentiment\nchat_mode = "per_'
    with provisionalcompleter():
        found = list(shell.Completer.completions(cell, len(cell)))
    assert [cell[: c.start] + c.text for c in found] == [
        '%%annotate policy-sentiment\nchat_mode = "per_query"',
        '%%annotate policy-sentiment\nchat_mode = "per_text"',
    ]


# ---- coming and going -----------------------------------------------------------------------------------------------


def test_loading_twice_and_unloading(shell):
    magic.load_ipython_extension(shell)
    matchers = [m for m in shell.Completer.custom_matchers if m.matcher_identifier == "nbannot"]
    assert len(matchers) == 1
    shell.run_line_magic("unload_ext", "nbannot")
    assert shell.find_line_magic("annotate") is None
    assert shell.find_cell_magic("annotate") is None
    assert not [m for m in shell.Completer.custom_matchers if m.matcher_identifier == "nbannot"]


def test_codecarbon_looks_at_the_processor_after_the_cell_and_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("nbannot.engine.energy.prewarm", lambda: calls.append(1))
    shell = InteractiveShell.instance()
    try:
        shell.run_line_magic("load_ext", "nbannot")
        assert calls == []
        run_cell(shell, "1")
        run_cell(shell, "2")
        assert calls == [1]
    finally:
        InteractiveShell.clear_instance()


def test_a_desk_opens_from_a_cell_and_is_the_one_of_the_plain_call(shell):
    desk = shell.run_line_magic("code", "policy-sentiment --coder anna --order file")
    desk.answer("ps001", "Direction", "mixed")
    _, shown, error = run_cell(shell, "%code policy-sentiment --coder anna --feedback -o mine")
    assert error is None
    assert "anna: 0 of 64 texts coded; kept in " in shown
    again = shell.user_ns["mine"]
    assert again.labels["Policy Sentiment_Direction"][0] == "mixed"
    with pytest.raises(nbannot.NbannotError, match="opened again; go on there"):
        desk.answer("ps001", "Direction", "mixed")
    for line, words in (
        ("policy-sentiment", "who codes"),
        ("policy-sentiment --coder a --context nowhere", "no column 'nowhere'"),
        ("policy-sentiment --codr a", "did you mean '--coder'"),
    ):
        with pytest.raises((UsageError, nbannot.NbannotError), match=words):
            shell.run_line_magic("code", line)


LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
shell.run_line_magic("load_ext", "nbannot")
heavy = ("pandas", "polars", "sklearn", "scipy", "codecarbon", "numpy", "huggingface_hub", "aiohttp", "xllamacpp")
print([name for name in heavy if name in sys.modules])
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("nbannot.")}))
"""


def test_loading_the_extension_is_light():
    """What it takes is measured by `bench/bench_engine.py start`; here, that nothing comes along."""
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['displays', 'doors', 'errors', 'study', 'tools']"]
