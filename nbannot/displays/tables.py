"""Tables of runs: what differs between them, and their headline metrics side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from nbannot.asking.applies import never_asked
from nbannot.page.blocks import Block, Bullets, Cell, Footnotes, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, duration, energy, interval, number
from nbannot.page.fragment import Fragment
from nbannot.report.fields import brief, n_reference, value_cells
from nbannot.report.headline import FROM_CHANCE
from nbannot.report.words import CARD_METRICS, HEADLINES, metric_words, plural, setting_text
from nbannot.study.settings import DEFAULTS, SETTINGS

if TYPE_CHECKING:
    from nbannot.measures.result import FieldScore
    from nbannot.record.run import Run
    from nbannot.record.scoring import Scored
    from nbannot.running.sweep import Runs

PARTLY = "(5/6): of 6 texts with a human label 5 have a valid answer."
VALUE_CHARS = 40
ROWS_SHOWN = 200
METRICS_BESIDE = 3
ALWAYS = ("run_id",)
RESULTS = ("n_texts", "n_labels_valid", "wall_time_s", "total_energy_kwh", "status", "timestamp")
"""Columns that are not settings and are shown where they say something, in this order, at the end."""

HIDDEN = ("label", "experiment_directory", "codebook_path", "ground_truth_path", "n_queries")
"""Columns of the runs table that are found there and in ``config.json``, not on a card."""

HIDDEN_PARTS = ("avg_", "total_", "input_", "output_", "cpu_", "gpu_", "_hash", "_digest", "nbannot_version")
NAMES = {
    "n_texts": "texts",
    "n_labels_valid": "valid answers",
    "wall_time_s": "time",
    "total_energy_kwh": "energy",
}


def runs_table(
    runs_frame: Any, headlines: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None
) -> Fragment:
    """Return runs as a table of the settings in which they differ; what is the same in all is said once.

    Parameters
    ----------
    runs_frame
        The runs table (`nbannot.record.tables.read_runs`), a sweep's frame, pandas or polars, or a list of mappings.
    headlines
        Run id -> column -> ``metric``, ``value``, ``ci_low``, ``ci_high``, ``n``, ``n_answered``, ``note``: shown as a
        column per field.
    """
    rows = _records(runs_frame)
    if not rows:
        return Fragment.of([Heading("Runs", 1), Para("There are no runs yet.")])
    names = list(dict.fromkeys(name for row in rows for name in row))
    settings = [n for n in names if n in SETTINGS or n in ("quantization_type", "split")]
    further = [n for n in names if n not in settings and not _hidden(n) and n not in (*ALWAYS, *RESULTS)]
    differing = [n for n in settings if _differs(rows, n)]
    if "model_id" in further and "model" in names:
        further.remove("model_id")
    results = [n for n in RESULTS if n in names and (_differs(rows, n) or n in ("timestamp", "wall_time_s"))]
    if headlines:  # who, what differs, what it came to, when: the rest is in the frame
        who = "model" if "model" in names else "model_id"
        differing, further = [who, *(n for n in differing if n != who)], []
        results = [n for n in results if n not in ("n_labels_valid", "total_energy_kwh")]
    before = [n for n in (*ALWAYS, *differing, *further) if any(not _blank(row.get(n)) for row in rows)]
    after = [n for n in results if any(not _blank(row.get(n)) for row in rows)]
    shown = rows[-ROWS_SHOWN:]
    numeric = {
        n: all(_is_number(row.get(n)) or _blank(row.get(n)) for row in rows) for n in (*before, *after)
    }
    fields = _headline_columns(rows, headlines or {})
    marks = Footnotes()
    grid = Grid(
        [
            *(NAMES.get(n, n) for n in before),
            *fields.values(),
            *(NAMES.get(n, n) for n in after),
        ],
        [
            [
                *(_cell(n, row.get(n)) for n in before),
                *(
                    _headline_cell((headlines or {}).get(str(row["run_id"]), {}).get(column), marks)
                    for column in fields
                ),
                *(_cell(n, row.get(n)) for n in after),
            ]
            for row in shown
        ],
        "".join("r" if numeric[n] or n in NAMES else "l" for n in before)
        + "i" * len(fields)
        + "".join("r" if numeric[n] or n in NAMES else "i" if n == "timestamp" else "l" for n in after),
    )
    same = [
        f"{n} = {setting_text(_plain(rows[0].get(n)))}"
        for n in settings
        if n not in differing
        and not _blank(rows[0].get(n))
        and not (
            headlines
            and setting_text(_plain(rows[0].get(n))).lower()  # a table may say False
            in ("unset", setting_text(DEFAULTS.get(n)).lower())
        )
    ]
    label = {str(row.get("label")) for row in rows if not _blank(row.get("label"))}
    aside = plural(len(rows), "run") + (f", the last {len(shown)} shown" if len(shown) < len(rows) else "")
    of_shown = [(headlines or {}).get(str(row.get("run_id")), {}) for row in shown]
    partly = any(_given(one) for of_run in of_shown for one in of_run.values())
    grid = replace(grid, notes=[*marks.lines, *([PARTLY] if partly else [])])
    blocks: list[Block] = [Heading(f"Runs of {label.pop()}" if len(label) == 1 else "Runs", 1, aside), grid]
    if same:
        rest = "; all others at their default" if headlines else ""
        blocks.append(
            Para(f"{'The same in all' if len(rows) > 1 else 'Settings'}: {', '.join(same)}{rest}.", "quiet")
        )
    return Fragment.of(blocks)


def _headline_columns(
    rows: Sequence[Mapping[str, Any]], headlines: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, str]:
    """Return column -> heading, the field's name and its metric, of every field that one of the runs has scored."""
    of_runs = [headlines.get(str(row.get("run_id")), {}) for row in rows]
    metrics = {column: one["metric"] for fields in of_runs for column, one in fields.items()}
    names = {column: column.rpartition("_")[2] or column for column in metrics}
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {
        column: f"{column if names[column] in twice else names[column]}, {metric_words(metric)}"
        for column, metric in metrics.items()
    }


def _headline_cell(one: Mapping[str, Any] | None, marks: Footnotes) -> Cell:
    """Return a value and its interval, why that is unreliable, and how many answered where not all did."""
    if one is None or _blank(one["value"]):
        return Cell(NONE, "quiet")
    low = -1.0 if one["metric"] in FROM_CHANCE else 0.0
    between = "" if _blank(one["ci_low"]) else interval(one["ci_low"], one["ci_high"])
    if (
        one.get("n_answered") == 0
    ):  # a zero would read as a verdict, on a field that may not have been asked at all
        return Cell(NONE + _given(one), "quiet")
    note = one.get("note")
    mark = "" if _blank(note) else marks.mark(brief(str(note)))
    return Cell(f"{number(one['value'], low=low)} {between}".rstrip() + mark + _given(one))


def _given(one: Mapping[str, Any]) -> str:
    """Return on how many of the texts with a human label there is a valid answer; "" where on all."""
    n, answered = one.get("n"), one.get("n_answered")
    if (
        _blank(one["value"])
        or n is None
        or answered is None
        or _blank(n)
        or _blank(answered)
        or n == answered
    ):
        return ""
    return f" ({count(answered)}/{count(n)})"


def _records(frame: Any) -> list[dict[str, Any]]:
    """Return a pandas or polars frame, or any sequence of mappings, as rows."""
    if hasattr(frame, "to_dicts"):
        return list(frame.to_dicts())
    if hasattr(frame, "to_dict"):
        return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    return [dict(row) for row in frame]


def _hidden(name: str) -> bool:
    return name in HIDDEN or (name not in RESULTS and any(part in name for part in HIDDEN_PARTS))


def _differs(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({repr(_plain(row.get(name))) for row in rows}) > 1


def _blank(value: Any) -> bool:
    if value is None or value == "":
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any) -> Any:
    """Return a table's value as plain Python: blanks as ``None``, whole floats as integers."""
    if _blank(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _cell(name: str, value: Any) -> Cell:
    value = _plain(value)
    if value is None:
        return Cell("" if name in SETTINGS else NONE, "quiet")
    if name == "wall_time_s":
        return Cell(duration(float(value)))
    if name == "total_energy_kwh":
        return Cell(energy(float(value)))
    if name == "timestamp":
        return Cell(str(value)[:16].replace("T", " "), "quiet")
    if name == "run_id":
        return Cell(str(value), "strong")
    if isinstance(value, float) and name not in SETTINGS:
        return Cell(number(value, 3, low=-math.inf, high=math.inf))
    if isinstance(value, int) and not isinstance(value, bool) and name not in SETTINGS:
        return Cell(count(value))
    words = setting_text(value)
    return Cell(
        words if len(words) <= VALUE_CHARS else f"{words[: VALUE_CHARS - 1]}…",
        title=words if len(words) > VALUE_CHARS else "",
    )


def metric_table(runs: Scored | Sequence[Scored]) -> Fragment:
    """Return the metrics to read, field by field: of one run all headline metrics, of several the first ones each.

    Parameters
    ----------
    runs
        A `Run` (or `Coder`), or several of the same task.
    """
    from nbannot.record.scoring import Scored

    if isinstance(runs, Scored):
        return _metrics_of_one(runs)
    many = list(runs)
    if len(many) == 1:
        return _metrics_of_one(many[0])
    blocks: list[Block] = [Heading("Metrics", 1, plural(len(many), "run"))]
    columns = dict.fromkeys(f.column for run in many for f in run.coding.fields)
    for column in columns:
        having = [run for run in many if column in run.coding.answers]
        f = having[0].task.codebook[column]
        names = CARD_METRICS[f.type][:METRICS_BESIDE]
        notes = Footnotes()
        rows = [
            [
                Cell(name_of(run, many), "strong"),
                *(
                    cell
                    for name in names
                    for cell in value_cells(name, run.scores.fields[column].results[name], notes)
                ),
                Cell(answered_of(run.scores.fields[column]), "quiet"),
            ]
            for run in having
        ]
        header = ["run", *(h for name in names for h in (metric_words(name), "")), "answered"]
        blocks += [
            Heading(f.name, 2, f"{f.type}, {f.level}"),
            Grid(header, rows, "l" + "ri" * len(names) + "r", notes=notes.lines),
        ]
    caption = "These intervals do not tell whether two runs differ: compare(runs) compares them text by text."
    return Fragment.of([*blocks, Para(caption, "quiet")])


def answered_of(score: FieldScore) -> str:
    """Return on how many of the texts with a human label there is a valid answer."""
    return f"{count(score.results['coverage'].n_answered)} of {count(n_reference(score))}"


def _metrics_of_one(run: Scored) -> Fragment:
    notes = Footnotes()
    rows: list[Row] = []
    for f in run.coding.fields:
        results = run.scores.fields[f.column].results
        names = [n for n in HEADLINES[f.type] if n in results and results[n].reason[:12] != "not computed"]
        for place, name in enumerate(names):
            rows.append(
                [
                    Cell("" if place else f.name, "strong", title=f.column),
                    metric_words(name),
                    *value_cells(name, results[name], notes),
                    Cell(count(results[name].n), "quiet"),
                    Cell(name, "quiet"),
                ]
            )
    header = ["field", "metric", "value", "95% interval", "texts", "in the tables"]
    return Fragment.of(
        [Heading("Metrics", 1, label_of(run)), Grid(header, rows, "llrirl", notes=notes.lines)]
    )


def label_of(run: Scored) -> str:
    """Return the run's short name, or the coder's."""
    return str(getattr(run, "model_id", run.coding.coder))


def name_of(run: Scored, others: Sequence[Scored]) -> str:
    """Return the run's short name, with its id where another has the same name."""
    twice = sum(label_of(other) == label_of(run) for other in others) > 1
    return f"{label_of(run)} [{run.coding.coder}]" if twice else label_of(run)


def runs_card(runs: Runs) -> Fragment:
    """Return the runs of a sweep: what differs, how each ended, its headline metric per field, what failed."""
    rows: list[Row] = []
    marks = Footnotes()
    ended = [] if all(run.status == "complete" for run in runs) else ["status"]
    for run in runs:
        settings = [setting_text(run.config.get(name)) for name in runs.differing]
        rows.append([Cell(run.run_id, "strong"), *settings, *_headlines(run, runs, marks),
                     *(run.status for _ in ended), _time(run)])  # fmt: skip
    fields = runs[0].coding.fields if len(runs) else []
    header = ["run_id", *runs.differing, *(f"{f.name}: {metric_words(HEADLINES[f.type][0])}" for f in fields)]
    align = "l" + "l" * len(runs.differing) + "i" * len(fields) + "l" * len(ended) + "r"
    aside = plural(len(runs), "run") + ("" if ended or not rows else ", complete")
    blocks: list[Block] = [Heading("Runs of a sweep", 1, aside)]
    if rows:
        partly = any("/" in str(cell) for row in rows for cell in row[1 + len(runs.differing) : -1])
        notes = [PARTLY] if partly else []
        blocks.append(Grid([*header, *ended, "time"], rows, align, notes=[*marks.lines, *notes]))
    else:
        blocks.append(Para("No run was made."))
    if runs.failures:
        failed = [
            f"{_of_failure(failure.config.to_dict(), runs.differing)}: {failure.error}"
            for failure in runs.failures
        ]
        blocks += [Heading(f"{plural(len(failed), 'config')} without a run", 2), Bullets(failed)]
    if len(rows) > 1:
        caption = (
            "Which of them differ: compare(runs). The best of several, chosen on these texts, looks better "
            "than it is."
        )
        blocks.append(Para(caption, "quiet"))
    return Fragment.of(blocks)


def _headlines(run: Run, runs: Runs, marks: Footnotes) -> list[str]:
    names = []
    for f in runs[0].coding.fields:
        score = run.scores.fields.get(f.column)
        if not score or never_asked(run.coding.answers[f.column]):
            names.append(NONE)
            continue
        name = HEADLINES[f.type][0]
        value = " ".join(cell.text for cell in value_cells(name, score.results[name], marks)).strip() or NONE
        n, answered = n_reference(score), score.results["coverage"].n_answered
        names.append(value if answered == n else f"{value} ({count(answered)}/{count(n)})")
    return names


def _time(run: Run) -> str:
    return duration(run.timing.get("wall_time"))


def _of_failure(config: Mapping[str, Any], differing: Sequence[str]) -> str:
    return ", ".join(f"{name} = {setting_text(config.get(name))}" for name in differing) or "the config"
