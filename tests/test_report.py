"""The report: what it says, that its numbers are those of the scores, and that it stays on the page."""

import math
import re

import pytest
from made_runs import DEGREE, MARKS, QUOTE, STANCE, answer, hostile_run, made_run, made_task, stance_run

from nbannot.measures.result import Result
from nbannot.page.blocks import WIDTH, Cell, Fold, Grid, Heading, Para, Verbatim, bar, page_lines
from nbannot.page.digits import interval, interval_of, number, value_of
from nbannot.page.widths import clean, width_of, wrap
from nbannot.report.confusion import confusion_grid
from nbannot.report.fields import class_grid, metric_grid
from nbannot.report.report import report_blocks, report_text
from nbannot.report.words import settings_shown, state_of


def text_of(grid):
    return "\n".join(grid.lines())


def test_the_report_of_a_small_run(tmp_path):
    assert report_text(stance_run(tmp_path)) == REPORT


REPORT = """\
Report on demo: mock (run a1b2c3d4)
══════════════════════════════════════════════════════════════════════════════════════════════════════════════
Stance not better than the baseline on 20 texts

┃ A model for tests.

field   metric    value  95% interval   0 to 1                 baseline  answered
──────  ────────  ─────  ─────────────  ─────────────────────  ────────  ────────
Stance  macro F1   0.61  [0.36, 0.81]¹  ·······━━|━━●━━━━━···    0.45 ≈  18 of 20
  People gave no text the label neutral: no agreement measure says anything about it here.
¹ interval unreliable: some labels have fewer than 10 human labels
baseline: the better of always giving the commonest label and dealing out the labels at random; ≈ the interval
contains the baseline

Stance (dropdown, nominal)
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
Read.

column S_Stance

metric                value  95% interval   majority  answered only     texts  in the tables
────────────────────  ─────  ─────────────  ────────  ─────────────  ────────  ────────────────────
macro F1               0.61  [0.36, 0.81]¹      0.38           0.64        20  f1_macro
percentage agreement   0.60  [0.39, 0.78]       0.60           0.67        20  percentage_agreement
Cohen's kappa          0.26  [−0.09, 0.60]                     0.31        20  cohen_kappa
Krippendorff's alpha   0.32  [−0.13, 0.78]                           18 of 20  krippendorff_alpha
macro precision        0.68  [0.38, 0.92]¹                                 20  precision_macro
macro recall           0.56  [0.35, 0.78]¹                                 20  recall_macro
Gwet's AC1             0.47  [0.16, 0.75]                      0.56        20  gwet_ac1
¹ interval unreliable: some labels have fewer than 10 human labels

Coverage: a valid answer for 18 of 20 texts with a human label (90%). Majority baseline: always answering
“pro” would reach an accuracy of 0.60 and a macro F1 of 0.38.

Per label (support: human labels; predicted: the model's)
label     precision                recall                  F1                support       predicted
────────  ─────────  ────────────  ──────  ────────────  ────  ────────────  ───────  ───  ─────────  ───
pro            0.75  [0.47, 0.91]    0.75  [0.47, 0.91]  0.75  [0.50, 0.92]       12  60%         12  67%
anti¹          0.60  [0.23, 0.88]    0.38  [0.14, 0.69]  0.46  [0.00, 0.75]        8  40%          5  28%
neutral²       0.00  [0.00, 0.79]      –³                0.00  –⁴                  0   0%          1   6%
¹ too few to estimate: fewer than 10 human labels
² predicted 1 times, never used by humans
³ no human instance
⁴ no interval: the value is the same in nearly every resample

Confusion matrix
human ↓ model →  pro  anti  neutral  no label  texts
───────────────  ───  ────  ───────  ────────  ─────
pro                9     2        ·         1     12
anti               3     3        1         1      8
neutral            ·     ·        ·         ·      0
Rows: human labels; columns: the model's. Cells are texts.
no label: no valid answer, or the model said that it does not apply.

answers          18 valid · 2 invalid
no valid answer  2 × invalid: not an option
rows             20 = 18 scored + 2 without a valid answer

• People gave no text the label neutral: no agreement measure says anything about it here.
• Look at F1 and percentage agreement first; per-class precision and recall where labels are rare.
• Interval for macro F1 unreliable: class anti has n=8.
• neutral was predicted but never used by humans; it is not in the macro averages.

Further numbers
  metric                              value  95% interval   texts  in the tables
  ──────────────────────────────────  ─────  ─────────────  ─────  ─────────────────
  accuracy                             0.60  [0.39, 0.78]      20  accuracy
  weighted F1                          0.63  [0.40, 0.84]      20  f1_weighted
  balanced accuracy                    0.56  [0.35, 0.78]¹     20  balanced_accuracy
  Matthews correlation                 0.27  [−0.09, 0.63]     20  mcc
  coverage                             0.90  [0.70, 0.97]      20  coverage
  share asked without a valid answer   0.10  [0.03, 0.30]      20  invalid_rate
  micro F1                             0.63  [0.41, 0.84]      20
  PABAK (Brennan-Prediger)             0.40  [0.10, 0.70]      20
  ¹ interval unreliable: some labels have fewer than 10 human labels

Conventions: strict (missing=error) · macro over 2/3 codebook classes with human labels · alpha nominal,
answered rows · 95% multinomial bootstrap, B=10,000, seed 1, resampling unit=row; proportions: Wilson

What the intervals cover
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
• The intervals say how far the numbers would move with other texts of the same kind. They do not cover chance
  in the model or the wording of the prompt (repeat the run, vary the prompt), nor errors in the human labels.
• They hold for a corpus only if the labelled texts are a random sample of it; otherwise they describe these
  texts only. Texts are taken as independent: where several come from one document or author, score with
  cluster= that column, or the intervals are too narrow.
• 200 more human labels would narrow Stance from ±0.23 to about ±0.07, drawn like these.
• A run that was chosen because it scored best on these texts scores too well here: judge it on texts that
  played no part in the choice.

How the run was made
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
run         a1b2c3d4, mock_standard
model       mock
texts       20 × 1 field; 18 valid · 2 invalid
status      complete
date        2026-01-02 03:04 UTC
settings    model = mock, prompt_type = standard, use_examples = true, temperature = 0, chat_mode = per_query
texts went  they stayed on this machine
time        0 calls in –
energy      not measured
"""


def test_every_line_fits_the_page(tmp_path):
    for run in (stance_run(tmp_path), hostile_run(tmp_path)):
        assert max(map(width_of, report_text(run).splitlines())) <= WIDTH


def test_undefined_numbers_are_dashes_with_their_reason(tmp_path):
    task = made_task(["a", "b", "c"], STANCE, Stance=["pro"] * 3)
    run = made_run(task, {"Stance": ["pro"] * 3}, tmp_path)
    score = run.scores.fields["S_Stance"]
    assert math.isnan(score.results["cohen_kappa"].value)
    shown = text_of(metric_grid("dropdown", score))
    assert re.search(r"Cohen's kappa +–² +", shown)
    assert "² no variation" in shown
    shown = text_of(class_grid(score))
    assert re.search(r"pro¹ .* 1.00  –² ", shown)
    assert "² no interval: the value is the same" in shown
    assert re.search(r"anti +–³ +–⁴ +–³ ", shown)
    assert "³ no human instance" in text_of(class_grid(score))


def test_a_class_that_people_never_used_is_named(tmp_path):
    shown = text_of(class_grid(stance_run(tmp_path).scores.fields["S_Stance"]))
    assert "predicted 1 times, never used by humans" in shown
    assert "too few to estimate: fewer than 10 human labels" in shown


def test_three_decimals_from_a_thousand_texts_on(tmp_path):
    n = 1000
    task = made_task([f"t{i}" for i in range(n)], STANCE, Stance=["pro", "anti"] * (n // 2))
    run = made_run(task, {"Stance": ["pro"] * n}, tmp_path)
    assert "0.500  [0.469, 0.531]" in text_of(metric_grid("dropdown", run.scores.fields["S_Stance"]))


def test_without_human_labels_it_shows_what_the_model_answered(tmp_path):
    task = made_task(["a", "b", "c", "d"], STANCE, QUOTE)
    run = made_run(task, {"Stance": ["pro", "pro", "anti", None], "Quote": ["x", "", "", "y"]}, tmp_path)
    said = report_text(run)
    assert "No human labels on" in said
    assert re.search(r"pro +2 +67% +████████", said)
    assert "It wrote something in 2 of 4 texts." in said
    assert "What the intervals cover" not in said
    assert "0.00" not in said


def test_a_partial_run_says_how_to_go_on(tmp_path):
    task = made_task(["a", "b", "c"], STANCE, Stance=["pro"] * 3)
    late = answer("S_Stance", None, "not_asked", "the run did not get this far")
    lost = answer("S_Stance", None, "failed", "HTTP 500")
    run = made_run(
        task, {"Stance": ["pro", lost, late]}, tmp_path, status="partial", stopped="the server is gone"
    )
    said = " ".join(report_text(run).replace("┃ ", "").split())
    assert (
        "This run is partial, 2 answers of 3 still open: the server is gone. "
        "Calls without a reply: 1 × HTTP 500." in said
    )
    assert "Run the same cell or script again" in said
    assert (
        state_of(made_run(task, {"Stance": [lost] * 3}, tmp_path, status="failed"))[0]
        == "failed, no valid answer came"
    )


def test_the_answers_without_a_value_are_counted_by_reason(tmp_path):
    said = report_text(stance_run(tmp_path))
    assert "18 valid · 2 invalid" in said
    assert "2 × invalid: not an option" in said
    assert "20 = 18 scored + 2 without a valid answer" in said


def test_many_labels_give_the_most_frequent_confusions(tmp_path):
    options = [f"label {i}" for i in range(14)]
    field = {"name": "Topic", "type": "dropdown", "options": options}
    people = [options[i % 14] for i in range(42)]
    model = [options[(i + (i % 14 == 3)) % 14] for i in range(42)]
    run = made_run(made_task([f"t{i}" for i in range(42)], field, Topic=people), {"Topic": model}, tmp_path)
    f = run.task.codebook["Topic"]
    lines = text_of(confusion_grid(f, run.scores.fields[f.column])).splitlines()
    assert lines[0] == "Most frequent confusions (of 14 labels)"
    assert lines[-1].split("  ")[:2] == ["label 3", "label 4"]
    assert lines[-1].split()[-2:] == ["3", "100%"]


def test_likert_report_shows_the_bias_with_its_sign(tmp_path):
    task = made_task(["a"] * 6, DEGREE, Degree=[1, 2, 3, 2, 3, 4])
    run = made_run(task, {"Degree": [2, 3, 4, 3, 4, 5]}, tmp_path)
    assert re.search(r"bias \(model − human\) +\+1\.00 ", report_text(run))


def test_spans_are_counted_on_both_sides(tmp_path):
    spans = '[{"start": 0, "end": 3, "text": "The", "label": "actor"}]'
    task = made_task(["The end.", "The start."], MARKS, Marks=[spans, "[]"])
    one = [{"start": 0, "end": 3, "text": "The", "label": "claim"}]
    said = report_text(made_run(task, {"Marks": [one, one]}, tmp_path))
    assert "Spans: 1 by people, 2 by the model." in said
    assert re.search(r"only the model marked something +1 +50%", said)


def test_the_html_report_has_every_word_of_the_text(tmp_path):
    from nbannot.displays import report

    fragment = report(stance_run(tmp_path))
    assert fragment.text == report_text(stance_run(tmp_path))
    for word in ("Krippendorff", "0.60", "[0.39, 0.78]", "Conventions:", "A model for tests."):
        assert word in fragment.html
        assert word in fragment.text


def test_the_html_report_is_small(tmp_path):
    from nbannot.displays import report

    labels = {f"F{i}": ["pro", "anti"] * 20 for i in range(5)}
    fields = [{**STANCE, "name": name} for name in labels]
    task = made_task([f"t{i}" for i in range(40)], *fields, **labels)
    assert len(report(made_run(task, labels, tmp_path)).html.encode()) < 100_000


def test_settings_off_their_default_are_shown():
    from nbannot.study.config import RunConfig

    shown = dict(settings_shown(RunConfig(model="mock", seed=7, process_textbox=False, limit=5).to_dict()))
    assert shown == {"model": "mock", "prompt_type": "standard", "use_examples": "true", "temperature": "0",
                     "chat_mode": "per_query", "seed": "7", "limit": "5", "process_textbox": "false"}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (1.0, "1.00"),
        (0.004, "<0.01"),
        (0.9951, ">0.99"),
        (0.995, "0.99"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_are_not_rounded_to_the_ends_of_their_range(value, shown):
    assert number(value) == shown


def test_how_metrics_are_shown():
    assert value_of("cohen_kappa", Result(-0.004, n=50)) == "0.00"
    assert value_of("mae", Result(1.0, n=50)) == "1.00"
    assert value_of("bias", Result(-0.5, n=50)) == "−0.50"
    assert value_of("bias", Result(0.0, n=50)) == "0.00"
    assert value_of("bleu", Result(24.64, n=50)) == "24.6"
    assert value_of("bleu", Result(99.97, n=50)) == ">99.9"
    assert interval_of("bleu", Result(24.6, 10.0, 30.0, n=2000)) == "[10.00, 30.00]"
    assert interval(math.nan, 1.0) == "–"


def test_a_table_that_is_too_wide_wraps_words_not_numbers():
    grid = Grid(["name", "value", "interval"], [["word " * 30, "0.123", "[0.00, 1.00]"]], "lri")
    lines = grid.lines(60)
    assert max(map(len, lines)) <= 60
    assert "[0.00, 1.00]" in lines[2]


def test_wide_and_combining_characters_are_counted_as_they_stand():
    grid = Grid(["a", "n"], [["日本", "1"], ["e\u0301", "2"], ["👍", "3"]], "lr")
    assert len({width_of(line) for line in grid.lines()[2:]}) == 1


def test_controls_and_direction_marks_are_made_visible():
    assert clean("a\x1b[31m\u202eb\tc\nd") == "a�[31m�b c d"
    assert "\x1b" not in "".join(Verbatim("a\x1b[0m\n  b").lines())
    assert Verbatim("a\n  b").lines() == ["    a", "      b"]


def test_right_to_left_is_isolated_in_its_cell():
    lines = Grid(["x", "n"], [["שלום", "1"]], "lr").lines()
    assert lines[-1].startswith("\u2068שלום\u2069")


def test_blocks_as_text():
    blocks = [
        Heading("Title", 1),
        Para("one", "notice"),
        Fold("more", [Para("two")]),
        Grid(["a"], [[Cell("", bar=0.5)], "below"], "l"),
    ]
    assert page_lines(blocks, 12) == [
        "Title", "════════════", "┃ one", "", "more", "  two", "", "a", "──────", "██████", "  below",
    ]  # fmt: skip


def test_long_words_are_cut_at_a_seam():
    assert wrap("ollama/gemma3:270m_standard_temp=0.7", 20) == ["ollama/gemma3:270m_", "standard_temp=0.7"]
    assert bar(1.0, 3) == "███"
    assert wrap("", 5) == [""]


def test_the_report_is_made_of_blocks_that_displays_can_show(tmp_path):
    from nbannot.page.html import as_html

    for block in report_blocks(hostile_run(tmp_path)):
        assert "<script" not in as_html(block)
