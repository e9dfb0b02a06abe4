"""Write the pages that say what the code says: `python docs/generate.py`; a test checks that they are up to date."""

from __future__ import annotations

from pathlib import Path

from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.record import folder, tables
from nbannot.report.words import metric_words
from nbannot.study.settings import DEFAULTS, SETTINGS
from nbannot.study.task_sources import load_task

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code; do not edit. -->\n\n"

METRICS: dict[str, str] = {
    "accuracy": "share of texts whose label is the human one; a missing answer is an error",
    "precision_macro": "mean over the classes people used of: share of the model's labels that people gave too",
    "recall_macro": "mean over the classes people used of: share of people's labels that the model gave too",
    "f1_macro": "mean over the classes people used of F1 = 2TP / (2TP + FP + FN)",
    "percentage_agreement": "share of texts on which model and people agree; for textbox, the same text",
    "cohen_kappa": "agreement beyond chance, 1 = perfect, 0 = chance; a missing answer agrees with nobody",
    "krippendorff_alpha": "agreement beyond chance, answered texts; nominal for checkbox and dropdown, ordinal for likert",
    "f1_weighted": "F1 of the classes, weighted by how often people used them",
    "balanced_accuracy": "macro recall over the classes people used",
    "mcc": "Matthews correlation of model and human labels, -1 to 1",
    "gwet_ac1": "agreement beyond chance after Gwet, less dependent on rare labels than kappa",
    "coverage": "share of the texts with a human label that have a valid answer",
    "invalid_rate": "share of the texts with a human label where the model was asked, or would have been but for another "
    "answer that was not valid, and there is no valid answer; `coverage` and it add up to 1, on a conditional field "
    "together with the share of texts where people say that it applies and the model that it does not",
    "baseline_accuracy": "accuracy of always giving the commonest human label; multiselect: people's commonest set",
    "baseline_f1_macro": "macro F1 of always giving the commonest human label; multiselect: every option",
    "spearman_corr": "rank correlation over the answered texts; blind to a constant shift",
    "quadratic_kappa": "kappa in which distant errors weigh more, on the codebook's full scale, answered texts",
    "mae": "mean absolute error in scale points, answered texts",
    "bias": "mean of model minus human in scale points, answered texts",
    "within_one": "share of the answered texts within one point",
    "norm_levenshtein": "1 - edit distance / length of the longer text, 0 to 1; a missing or empty answer scores 0",
    "bleu": "mean sentence BLEU with effective order, 0 to 100; not for answers under about eight words",
    "rouge1_f": "ROUGE-1 F, Unicode words, no stemming (extra `textbox`)",
    "rouge2_f": "ROUGE-2 F (extra `textbox`)",
    "rougeL_f": "ROUGE-L F (extra `textbox`)",
    "cosine_similarity": "cosine of sentence embeddings (extra `textbox`); the model is named in the report",
    "bertscore_precision": "BERTScore precision (extra `textbox`)",
    "bertscore_recall": "BERTScore recall (extra `textbox`)",
    "bertscore_f1": "BERTScore F1 (extra `textbox`)",
    "presence_f1": "F1 of having any answer at all (textbox) or any span",
    "token_f1": "F1 of (word, label) pairs, pooled over texts: rewards overlap",
    "exact_match_f1": "F1 of spans with the same boundaries and label",
    "char_iou": "shared over joint (character, label) pairs, pooled over texts",
    "token_precision": "share of the model's marked words that people marked too",
    "token_recall": "share of people's marked words that the model marked too",
    "partial_f1": "F1 in which an overlapping span counts half (SemEval 2013 Task 9.1)",
    "f1_micro": "F1 of all choices of all options pooled",
    "precision_micro": "share of the model's choices that people made too",
    "recall_micro": "share of people's choices that the model made too",
    "jaccard": "mean over the texts of: options that both chose / options that either chose; two empty sets are 1",
    "hamming_loss": "share of (text, option) decisions that are wrong, 1 for a text without an answer; lower is better",
    "alpha_jaccard": "Krippendorff's alpha with Jaccard distance, answered texts",
    "both_empty_share": "share of texts where neither side chose an option, which Jaccard and percentage agreement count as right",
}

EXAMPLES = {
    "checkbox": FieldData("checkbox", (0, 1), [1, 0], [1, 1]),
    "dropdown": FieldData("dropdown", ("a", "b"), ["a", "b"], ["a", "a"]),
    "likert": FieldData("likert", (1, 2, 3), [1, 2], [1, 3]),
    "textbox": FieldData("textbox", (), ["a b"], ["a c"]),
    "span": FieldData("span", ("x",), [[(0, 1, "x")]], [[(0, 1, "x")]], texts=["a b"]),
    "multiselect": FieldData("multiselect", ("a", "b"), [["a"], []], [["a"], ["b"]]),
}


def settings_page() -> str:
    """Return the table of settings."""
    lines = ["# Settings", "", "The same names in a `%%annotate` cell (TOML), in `nbannot.run()`, on the command line "
             "(`--top-p 0.9`) and in `config.json`. A list of values makes a sweep.", "",
             "| setting | default | what it is | part of the run id |", "|---|---|---|---|"]  # fmt: skip
    for name, setting in SETTINGS.items():
        value = DEFAULTS[name]
        default = "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        one_of = f" One of {', '.join(f'`{v}`' for v in setting.values)}." if setting.values else ""
        lines.append(
            f"| `{name}` | {default} | {setting.meaning}.{one_of} | {'yes' if setting.decides else 'no'} |"
        )
    return NOTE + "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return the table of metrics by type of field, as scoring really returns them."""
    by_type = {kind: list(score_field(data, n_resamples=10).results) for kind, data in EXAMPLES.items()}
    names = list(dict.fromkeys(name for found in by_type.values() for name in found))
    lines = ["# Metrics", "",
             "Headline values are strict: rows are all texts with a human label, and a missing or unusable answer is an "
             "error. Macro averages go over the classes that people used. Every value has an interval and its n; an "
             "undefined value is blank and says why. Intervals: Wilson for shares of independent texts; a jackknife for "
             "alpha below 50 texts and for few clusters; otherwise percentiles of a bootstrap of the texts. A macro average "
             "over many rare classes goes over fewer classes in most resamples, so that its percentiles can leave out the "
             "value itself: then the interval is extended to the value and called unreliable. Definitions, edge cases and sources are in the docstrings of "
             "`nbannot.measures`.", "",
             f"| metric | in words | {' | '.join(by_type)} | what it is |", f"|---|---|{'---|' * len(by_type)}---|"]  # fmt: skip
    for name in names:
        marks = " | ".join("✓" if name in found else "" for found in by_type.values())
        lines.append(f"| `{name}` | {metric_words(name)} | {marks} | {METRICS[name]} |")
    return NOTE + "\n".join(lines) + "\n"


def folder_page() -> str:
    """Return what a run leaves on disk."""
    lines = ["# What a run leaves on disk", "",
             "`outputs/<task>/<run_id>/` holds one run. The id is made from everything that decides the answers, so "
             "the same call finds the same folder: a finished run comes back without a call, an interrupted one goes "
             "on.", "", "| file | what it holds |", "|---|---|"]  # fmt: skip
    lines += [f"| `{name}` | {what} |" for name, what in folder.FILES.items()]
    lines += ["", "A run on a [corpus](corpora.md) has, in place of `output.csv` and one `responses.jsonl`:", "",
              "| file or folder | what it holds |", "|---|---|"]  # fmt: skip
    lines += [f"| `{name}` | {what} |" for name, what in folder.OF_A_CORPUS.items()]
    lines += ["", "## Tidy tables", "",
              "`outputs/metrics/` holds three tables per task, joined on `run_id` and on nothing else.", ""]  # fmt: skip
    for what, suffix, columns in (
        ("Long table, one row per run, field and metric", "_metrics_log.csv", tables.LONG_COLUMNS),
        ("Runs table, one row per run", "_metrics_log_runs.csv", tables.RUNS_COLUMNS),
        (
            "Class table, one row per run, field, label and metric",
            "_metrics_log_classes.csv",
            tables.CLASS_COLUMNS,
        ),
    ):
        lines += [f"**{what}**: `<task>{suffix}`", "", ", ".join(f"`{c}`" for c in columns) + ".", ""]
    lines += ["```python", "import pandas as pd",
              'metrics = pd.read_csv("outputs/metrics/policy-sentiment_metrics_log.csv")',
              'runs = pd.read_csv("outputs/metrics/policy-sentiment_metrics_log_runs.csv")',
              'joined = metrics.merge(runs, on="run_id")', "```", "",
              "Options called `None` or `NA` need `keep_default_na=False`, with which the blanks of numbers are texts.", "",
              "## In a spreadsheet", "",
              "The files above hold texts, replies and labels character by character. A spreadsheet that opens a CSV "
              "file runs a cell that begins with `=`, `+`, `-` or `@` as a formula, which a text or a model can have "
              "written. `nbannot.spreadsheet(run, \"run.xlsx\")` writes what `output.csv` holds, or any table, with "
              "every text as a text; with a name that ends in `.csv` such cells get an apostrophe in front."]  # fmt: skip
    return NOTE + "\n".join(lines) + "\n"


SHEET_TEXTS = ("ps008", "ps020", "ps017", "ps044", "ps005", "ps026", "ps037", "ps048", "ps058", "ps060")


def coding_sheet_page() -> str:
    """Return a sheet to print: ten texts of the bundled task, and boxes to tick."""
    task = load_task("policy-sentiment")
    question = task.codebook["Direction"]
    lines = ["# A coding sheet to print", "",
             "Coder: ________________  Date: ____________", "",
             f"**Question.** {question.tooltip}", "",
             "Code alone, in this order, without looking back. Tick one box for each text.", "",
             f"| text | {' | '.join(question.options)} |", f"|---|{':---:|' * len(question.options)}"]  # fmt: skip
    for text_id in SHEET_TEXTS:
        text = task.texts[task.ids.index(text_id)].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {text_id}. {text} |{' ☐ |' * len(question.options)}")
    lines += ["", "Afterwards, in pairs: count the texts on which you ticked the same box: ____ of 10. Then compare with the "
              "labels that came with the texts (`nba.load_task(\"policy-sentiment\").human(\"Direction\")`), and "
              "talk about those on which you differ: is it the text, the question, or one of you?"]  # fmt: skip
    return NOTE + "\n".join(lines) + "\n"


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "run-folder.md": folder_page,
    "coding-sheet.md": coding_sheet_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
