"""What others wrote steers nothing: no terminal, no reader of Markdown, no spreadsheet, and no key is written down."""

import contextlib
import csv
import io
import json
import re
import zipfile
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbannot as nba
from nbannot.doors import cli
from nbannot.errors import STEERING, ConfigError, ModelError, NbannotError, TableError, harmless
from nbannot.models.addresses import proxy_for
from nbannot.record.export import defused, to_csv, to_markdown
from nbannot.study.config import MOST_RUNS, RunConfig, expand
from nbannot.study.toml import read_toml
from nbannot.tools.secrets import without_keys

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"
WILD = [
    CLIPBOARD,
    "\x9b31m",
    "\x90x\x9c",
    "a\rb",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\x08\x08",
    "\x00",
    "\x7f",
    "\x85",
]


@pytest.mark.parametrize("wild", ["".join(WILD[:7]), "x".join(WILD)], ids=["no NUL", "all"])
def test_nothing_that_a_codebook_or_a_file_name_holds_steers_a_terminal(wild, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    book = nba.Codebook.build(
        text_column="t",
        sections={"S": [nba.dropdown(f"D{wild}", f"Which{wild}?", options=["a", f"b{wild}"])]},
    )
    book.save("task")
    frame = pd.DataFrame(
        {"id": ["1", "2", "3"], "t": ["one", f"two{wild}", "three"], f"S_D{wild}": ["a", f"b{wild}", "a"]}
    )
    frame.to_csv("task/ground-truth.csv", index=False, quoting=csv.QUOTE_ALL)
    config = tmp_path / "x.toml"
    config.write_text('task = "task"\nmodel = "mock"\n', encoding="utf-8")
    commands = [["run", str(config)], ["plan", str(config)], ["list"], ["list", "--json"],
                ["run", str(config), "--json"],
                ["tasks", "--task_root", "."], ["run", f"no{wild}"], ["list", f"--no{wild}"], [f"no{wild}"],
                ["run", str(config), "--prompt_type", f"no{wild}"], ["score", f"no{wild}"]]  # fmt: skip
    for words in commands:
        with contextlib.suppress(SystemExit):
            cli.main(words)
        said = capsys.readouterr()
        assert not STEERING.search(said.out + said.err), words
    assert capsys.readouterr().out == ""
    (folder,) = (tmp_path / "outputs" / "task").iterdir()
    assert not STEERING.search(str(nba.load_run(folder)) + str(nba.load_run(folder).report()))


def test_json_for_a_terminal_is_the_same_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "a\x9bb\u202e"
    try:
        place.mkdir()
    except OSError:
        pytest.skip("no such names here")
    assert cli.main(["run", "policy-sentiment", "--model", "mock", "--limit", "2", "--fields", "Direction",
                     "--output_root", place.name, "--json", "-q"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert place.name in json.loads(out)["folder"]
    assert not STEERING.search(out)


@given(st.text())
def test_an_error_is_harmless_and_else_what_was_said(text):
    shown = str(NbannotError(text))
    assert not STEERING.search(shown)
    if not STEERING.search(text):
        assert shown == text
    assert harmless(shown) == shown


LINKS = ["http://x.y", "https://", "www.x.org", "WWW.a.b", "me@x.org", "ftp://a", "mailto:a@b.c", "[a](javascript:x)",
         "![a](b)", "<img src=x>", "&lt;", "`", "|", "\n", " ", "a", "\\"]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINKS), max_size=6))
def test_a_markdown_table_makes_no_link_by_itself(parts):
    markdown_it = pytest.importorskip("markdown_it")
    table = to_markdown([{"a": "".join(parts)}])
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(table)
    assert not re.search(r"<(a|img|script)\b", html)
    # What GitHub makes a link of where no mark of Markdown stands: a scheme, www., an address for mail.
    assert not re.search(r"(?i)(https?|ftp)://|mailto:|www\.|(?<!\\)@", table)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", " =1", "＝1", "\u200b=1", '"=1', "'=1"],
)
def test_formulas_are_defused_and_numbers_stay(text):
    assert defused(text) == "'" + text
    assert to_csv([{"a": text, "n": -1.5}], for_spreadsheet=True).splitlines()[-1].endswith(",-1.5")
    assert to_csv([{"a": text}]) != to_csv([{"a": text}], for_spreadsheet=True)


@pytest.mark.parametrize("text", ["-1", "+3", "-1,5", "-1.5e-3", "a = b", "", "word", "5-3"])
def test_what_is_no_formula_stays(text):
    assert defused(text) == text


def cells_of(path):
    """Return the rows of a workbook's sheet: (kind, value) per cell."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as book:
        assert book.testzip() is None
        for name in book.namelist():
            ElementTree.fromstring(book.read(name))
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    return [
        [("text", "".join(c.itertext())) if c.get("t") else ("number", c.findtext(f"{space}v")) for c in row]
        for row in sheet.iter(f"{space}row")
    ]


def test_a_workbook_says_of_each_cell_what_it_is(tmp_path):
    rows = [{"=a": "=HYPERLINK(1)", "n": -0.25, "k": 12, "none": None, "nan": float("nan")},
            {"=a": "<&>\n\x1b\ud800_x0041_\r", "n": float("inf"), "k": 0, "none": 40_000 * "x", "nan": 1}]  # fmt: skip
    path = nba.spreadsheet(rows, tmp_path / "t.xlsx")
    header, first, second = cells_of(path)
    assert header[0] == ("text", "=a")
    assert first[:3] == [("text", "=HYPERLINK(1)"), ("number", "-0.25"), ("number", "12")]
    assert first[3][1] is None
    assert first[4][1] is None
    assert second[0] == ("text", "<&>\n��_x005F_x0041__x000D_")
    assert second[1] == ("text", "inf")
    assert len(second[3][1]) == 32_767
    assert nba.spreadsheet(rows, tmp_path / "u.xlsx").read_bytes() == path.read_bytes()
    with pytest.raises(TableError, match=r"saved as .xlsx or .csv. Got 't.ods'"):
        nba.spreadsheet(rows, tmp_path / "t.ods")


def test_a_run_as_a_spreadsheet(tmp_path):
    book = nba.Codebook.build(text_column="t", sections={"S": [nba.textbox("T")]})
    task = nba.Task(pd.DataFrame({"id": ["1"], "t": ["=cmd()"]}), book, name="demo")
    run = nba.run(task, model="mock", output_root=str(tmp_path))
    read = pd.read_csv(io.BytesIO(nba.spreadsheet(run, tmp_path / "r.csv").read_bytes()), dtype=str)
    assert read["t"].tolist() == ["'=cmd()"]
    assert cells_of(nba.spreadsheet(run, tmp_path / "r.xlsx"))[1][1] == ("text", "=cmd()")


KEY = "sk-proj-A1b2C3d4E5f6G7h8"


@pytest.mark.parametrize(
    "address",
    [f"https://me:{KEY}@host/v1", f"https://{KEY}@host/v1", f"https://host/v1?api_key={KEY}", f"https://host/v1?sig={KEY}",
     f"https://host/v1?x={KEY}", f"https://host/{KEY}/v1", f"https://host/v1#{KEY}", f"https://host/v1#token={KEY}",
     f"https://host/v1;key={KEY}", f"https://host/v1%3Fapi_key%3D{KEY}", f"https://{KEY}.host/v1",
     f"https://host/v1?a=1&Authorization={KEY}"],
)  # fmt: skip
def test_an_address_with_a_key_is_refused_where_it_is_typed_and_never_repeated(address):
    for what in (lambda: RunConfig(base_url=address), lambda: RunConfig.from_toml(f'base_url = "{address}"'),
                 lambda: expand({"base_url": ["http://localhost:1", address]}),
                 lambda: read_toml(f'base_url = "{address}" x')):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            what()
        assert KEY not in str(caught.value)
    assert KEY not in without_keys(f"cannot reach {address}: no route")


@pytest.mark.parametrize(
    "address",
    ["http://localhost:8000/v1", "https://x.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21",
     "https://gateway.ai.cloudflare.com/v1/0123456789abcdef0123456789abcdef/gate/openai", "https://host/token/v1",
     "http://[::1]:8080/v1", "https://sk-hosting.example/v1"],
)  # fmt: skip
def test_other_addresses_are_taken(address):
    assert RunConfig(base_url=address).base_url == address


def test_a_sweep_of_too_many_runs_is_refused_with_their_number():
    with pytest.raises(ConfigError, match=r"at most 10,000 runs. Got 100,000,000: 100,000,000 of seed"):
        expand({"seed": range(10**8)})
    ten = list(range(1, 11))
    with pytest.raises(
        ConfigError,
        match="Got 100,000: 10 of seed × 10 of top_k × 10 of limit × 10 of repeat × 10 of retries",
    ):
        expand({"seed": ten, "top_k": ten, "limit": ten, "repeat": ten, "retries": ten})
    assert MOST_RUNS == 10_000


@pytest.mark.parametrize(
    "line",
    ["x=a" + " " * 100_000 + '"', "?key" * 30_000, "[ " * 50_000, '= "' + "\\" * 100_000, "=" * 100_000],
)
def test_a_long_line_of_settings_is_answered_at_once(line):
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_toml(line)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"seed": ' + "9" * 5_000 + "}", '{"model": "\ud800"}', "nul", "[1]"]
)
def test_settings_in_json_of_any_shape_get_a_letter(text):
    with pytest.raises(ConfigError):
        RunConfig.from_json(text)


@pytest.mark.parametrize("place", ["x" * 300, "a/" + "é" * 200, "d/" * 2_000, "a\0b", "a\nb"])
def test_folders_that_no_system_has(place):
    with pytest.raises(ConfigError, match="output_root must be"):
        RunConfig(output_root=place)


@pytest.mark.parametrize(
    "proxy", ["http://[bad", "http://", "http://host:99999", "host:x", f"http://me:{KEY}@[x"]
)
def test_a_proxy_that_is_no_address_gets_a_letter(proxy, monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"all": proxy})
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: False)
    with pytest.raises(ModelError, match=r"the proxy for 192.0.2.1 is not an address") as caught:
        proxy_for("http://192.0.2.1/v1")
    assert KEY not in str(caught.value)
