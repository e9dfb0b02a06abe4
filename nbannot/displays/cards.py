"""Cards: what a codebook asks, what a task holds, what a run would send, and what runs and people said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.comparing.ceiling import bands_of
from nbannot.displays.rows import shown_value, who_of
from nbannot.page.blocks import Block, Bullets, Cell, Facts, Fold, Footnotes, Grid, Heading, Para, Row
from nbannot.page.digits import NONE, count, share
from nbannot.page.fragment import Fragment
from nbannot.page.widths import clipped
from nbannot.report.fields import LABEL_TYPES, baseline_value, n_reference, reasons_of, value_cells
from nbannot.report.headline import look_blocks, more_labels, verdict, without_any_answer
from nbannot.report.report import corpus_blocks, cost_facts, model_name, model_words, status_blocks
from nbannot.report.words import (
    CARD_METRICS,
    by_number,
    metric_words,
    model_notes,
    plural,
    settings_refused,
    settings_shown,
    state_of,
    statuses,
    variation_of,
    weighted_counts,
)
from nbannot.tools.files import seen_from_here

if TYPE_CHECKING:
    from nbannot.comparing.coder import Coder
    from nbannot.measures.result import FieldScore
    from nbannot.record.run import Run
    from nbannot.record.scoring import Scored
    from nbannot.study.codebook import Codebook
    from nbannot.study.corpus import Corpus
    from nbannot.study.field import Field
    from nbannot.study.task import Task

LABELS_ON_A_CARD = 6
BADGE_CHARS = 60
BASELINE_NOTE = "majority: what always giving the most frequent human label would score"
TEXTS_ON_A_CARD = 3
TEXT_CHARS = 400


def run_card(run: Run) -> Fragment:
    """Return a run's card: what its labels are worth in one look; everything else is folded below."""
    return Fragment.of(
        [
            Heading(f"{run.task.name} · {model_name(run)}", 1, _badges(run)),
            *corpus_blocks(run),
            Para(verdict(run), "verdict"),
            *(Para(notice, "notice") for notice in run.task.notices),
            *status_blocks(run),
            *look_blocks(run, bands_of(run)),
            *([] if run.task.has_human_labels or without_any_answer(run) else _answers_to_look_at(run)),
            _all_numbers(run),
            Fold(
                f"Settings, time, energy, folder: run {run.run_id}",
                [
                    *(Para(note, "notice") for note in model_notes(run.config)),
                    Facts(
                        [
                            ("run", f"{run.run_id}, {state_of(run)[0]}"),
                            ("model", model_words(run)),
                            ("settings", settings_line(run.config)),
                            *settings_refused(run.config),
                            ("texts", f"{count(run.n_texts)} × {plural(len(run.coding.fields), 'field')}"),
                            *_flips(run),
                            *cost_facts(run),
                            ("folder", str(run.folder)),
                        ]
                    ),
                ],
            ),
        ]
    )


def _all_numbers(run: Run) -> Fold:
    answers = Facts([("answers", _answers(run)), *_more(run)])
    if without_any_answer(run) or not run.task.has_human_labels:
        return Fold("Answers", [answers])
    return Fold("All metrics, labels and answers", [answers, *_scores(run, answered=False)])


def _more(run: Run) -> list[tuple[str, str]]:
    """Return what more human labels would bring."""
    more = more_labels(run) if run.task.has_human_labels and not without_any_answer(run) else ""
    return [("more labels", more)] if more else []


def _badges(run: Run) -> str:
    """Return what stands beside the title: the state, and what the model says of itself, cut to its first words."""
    notes = [clipped(re.split(r"[.:]", note)[0], BADGE_CHARS) for note in model_notes(run.config)]
    return " · ".join([run.status, *notes])


def _flips(run: Run) -> list[tuple[str, str]]:
    """Return how often answers changed over the repetitions of a run; nothing for one that was not repeated."""
    from nbannot.comparing.stability import flip_rate, flip_words, repetitions

    if run.config.get("repeat", 1) == 1 or len(runs := repetitions(run)) < 2:
        return []
    rows = flip_rate(runs).to_dict("records")
    return [(f"changed: {run.task.codebook[row['column']].name}", flip_words(row)) for row in rows]


def coder_card(coder: Coder) -> Fragment:
    """Return a person's card: how many texts the person coded, and the scores against the task's labels."""
    counts = coder.coding.count()
    return Fragment.of(
        [
            Heading(f"{coder.task.name}: {coder.model_id}", 1, plural(len(coder.task), "text")),
            Facts(
                [
                    (
                        "labels",
                        f"{count(counts.get('ok', 0))} in {plural(len(coder.coding.fields), 'field')}",
                    ),
                    *([("texts", f"{count(len(coder.task))} of {count(coder.n_given)} of the task")]),
                    *([("answers", statuses(counts))] if not coder.by_person else []),
                    *([("left out", coder.left_out)] if coder.left_out else []),
                ]
            ),
            *_scores(coder),
        ]
    )


def settings_line(config: Mapping[str, Any]) -> str:
    """Return the settings of a run on one line, the model left out."""
    return ", ".join(f"{name} = {value}" for name, value in settings_shown(config) if name != "model")


def _answers(run: Run) -> str:
    counts = statuses(run.by_status)
    reasons: dict[str, int] = {}
    for f in run.coding.fields:
        for reason, n in reasons_of(run, f).items():
            reasons[reason] = reasons.get(reason, 0) + n
    return f"{counts} ({'; '.join(by_number(reasons, 4))})" if reasons else counts


def _scores(of: Scored, *, answered: bool = True) -> list[Block]:
    """Return every metric of a card in a table, with how many texts were answered unless a table before it says so.

    That stands below the name of the field, in view on a phone as well.
    """
    if not of.task.has_human_labels:
        notice = "No human labels: the answers can be looked at, not scored."
        return [Para(notice, "notice"), *_answers_to_look_at(of)]
    notes = Footnotes()
    rows: list[Row | str] = []
    for f in of.coding.fields:
        rows += _field_rows(f, of.scores.fields[f.column], notes, who_of(of), answered=answered)
    header = ["field", "metric", "value", "95% interval", "majority"]
    return [Grid(header, rows, "llrir", notes=[*notes.lines, _baseline_note(of)])]


def _answers_to_look_at(of: Scored) -> list[Block]:
    """Return which labels were given, per field, where nobody else's stand beside them."""
    answers: list[Row] = [
        [Cell(f.name, "strong"), _spread(_model_counts(of, f))] for f in of.coding.fields if f.labels
    ]
    return [Grid(["", ""], answers, "ll")] if answers else []


def _baseline_note(of: Scored) -> str:
    several = any(f.type == "multiselect" for f in of.coding.fields)
    every = "of a multiselect, always every option, for percentage agreement people's commonest set"
    return f"{BASELINE_NOTE}; {every}" if several else BASELINE_NOTE


def _field_rows(
    f: Field, score: FieldScore, notes: Footnotes, who: str, *, answered: bool
) -> list[Row | str]:
    n = n_reference(score)
    if not n:
        return [[Cell(f.name, "strong"), "no human labels", "", "", ""]]
    n_answered = f"{count(score.results['coverage'].n_answered)} of {count(n)} answered" if answered else ""
    below = [Cell(f.name, "strong"), Cell(n_answered, "quiet")]
    rows: list[Row | str] = []
    for place, name in enumerate(CARD_METRICS[f.type]):
        result = score.results[name]
        baseline = baseline_value(score, name) if f.type in (*LABEL_TYPES, "multiselect") else ""
        rows.append(
            [
                below[place] if place < len(below) else "",
                metric_words(name).replace("model", who),
                *value_cells(name, result, notes),
                Cell(baseline, "quiet") if baseline else "",
            ]
        )
    if f.type == "multiselect":
        of_people, of_model = (_options_spread(score, side) for side in (0, 1))
        rows.append(f"people: {of_people} | {who}: {of_model} (texts with the option)")
    if f.type in LABEL_TYPES:
        given = [(str(entry["label"]), weighted_counts(entry)) for entry in score.per_class]
        people, model = ([(label, sides[side]) for label, sides in given] for side in (0, 1))
        rows.append(f"people: {_spread(people)} | {who}: {_spread(model)}")
        rows += [words] if (words := variation_of(score)) else []
    return rows


def _options_spread(score: FieldScore, side: int) -> str:
    """Return in which share of the texts people (0), or the model where it answered (1), chose each option."""
    n = n_reference(score)
    counts = [(str(entry["label"]), weighted_counts(entry, n)) for entry in score.per_class]
    whole = max((of for _, (_, _, of) in counts), default=0.0)
    total = whole * score.results["coverage"].value if side else whole
    return options_spread([(label, sides[side]) for label, sides in counts], total)


def options_spread(counts: Sequence[tuple[str, float]], total: float) -> str:
    """Return options with the share of texts that have them on one line; the shares need not add up to 1."""
    shown = sorted(counts, key=lambda item: -item[1])[:LABELS_ON_A_CARD]
    more = len(counts) - len(shown)
    words = ", ".join(f"{label}: {share(n, total)}" for label, n in counts if (label, n) in shown)
    return f"{words}, {more} rarer ones" if more else words


def _model_counts(of: Scored, f: Field) -> list[tuple[str, int]]:
    values = of.coding.values(f.column)
    if f.type == "multiselect":
        chosen = [value for value in values if value is not None]
        return [(label, sum(label in value for value in chosen)) for label in f.options]
    return [(str(label), values.count(label)) for label in f.labels] if f.type in LABEL_TYPES else []


def _spread(counts: Sequence[tuple[str, float]]) -> str:
    """Return labels with their shares on one line; the rarest ones of many together."""
    total = sum(n for _, n in counts)
    if not total:
        return "nothing"
    shown = list(counts)
    if len(counts) > LABELS_ON_A_CARD:
        kept = sorted(counts, key=lambda item: -item[1])[: LABELS_ON_A_CARD - 1]
        shown = [*kept, (f"{len(counts) - len(kept)} others", total - sum(n for _, n in kept))]
    return ", ".join(f"{label}: {share(n, total)}" for label, n in shown)


def codebook_card(codebook: Codebook) -> Fragment:
    """Return a codebook's card: every question with its type, its values and when it is asked."""
    named = [codebook.codebook_id, codebook.version and f"version {codebook.version}", codebook.language]
    aside = ", ".join(part for part in named if part)
    blocks: list[Block] = [Heading("Codebook", 1, aside), Facts(_codebook_facts(codebook))]
    for section in codebook.sections:
        blocks.append(Heading(section.name, 2, plural(len(section.fields), "field")))
        if section.instruction:
            blocks.append(Para(section.instruction))
        rows: list[Row] = [
            [
                Cell(f.name, "strong"),
                f.type,
                values_of(f),
                _asked_when(f, codebook),
                Cell(_example_count(f), "quiet"),
            ]
            for f in section.fields
        ]
        blocks.append(Grid(["field", "type", "values", "asked", "examples"], rows, "llllr"))
        blocks += [
            Fold(f"{f.name}: guidance and examples", details)
            for f in section.fields
            if (details := _guidance(f))
        ]
    if codebook.notes:
        blocks += [Heading("Read in a particular way", 3), Bullets(codebook.notes)]
    return Fragment.of(blocks)


def _codebook_facts(codebook: Codebook) -> list[tuple[str, str]]:
    facts = [("text column", codebook.text_column)]
    if codebook.id_column:
        facts.append(("id column", codebook.id_column))
    described = [name for name in (codebook.header_column, *codebook.metadata_columns) if name]
    if described:
        facts.append(("not sent", ", ".join(described)))
    return facts


def values_of(f: Field) -> str:
    """Return in words what values a field can take."""
    if f.type == "checkbox":
        return "yes or no (1 or 0)"
    if f.type == "likert":
        return f"{f.min_value} to {f.max_value}"
    if f.type == "textbox":
        return "text"
    labels = ", ".join(map(str, f.labels))
    if f.type == "multiselect":
        return f"all that apply of: {labels}"
    return labels if f.type == "dropdown" else (f"passages: {labels}" if labels else "passages")


def _asked_when(f: Field, codebook: Codebook) -> str:
    if f.condition is None:
        return "always"
    names = [field.name for field in codebook]
    parent = codebook[f.condition.column]
    return f"where {parent.name if names.count(parent.name) == 1 else parent.column} = {f.condition.value}"


def _example_count(f: Field) -> str:
    return str(len(f.examples)) if f.examples else NONE


def _guidance(f: Field) -> list[Block]:
    blocks: list[Block] = [Para(f.tooltip)] if f.tooltip else []
    if f.option_descriptions:
        blocks.append(Facts([(option, words) for option, words in f.option_descriptions]))
    if f.examples:
        rows = [[clipped(e.text or e.raw, TEXT_CHARS), shown_value(f, e.response)] for e in f.examples]
        blocks.append(Grid(["example", "answer"], rows, "ll"))
    return blocks


def task_card(task: Task) -> Fragment:
    """Return a task's card: texts, ids, human labels and their distribution, the first texts."""
    lengths = sorted(map(len, task.texts))
    named = (task.codebook.text_column, task.id_source)
    facts = [
        ("texts", _lengths(lengths)),
        ("ids", f"from {task.id_source}" if task.id_source != "text" else "made from the texts"),
        ("other columns", ", ".join(c for c in task.other_columns if c not in named) or NONE),
    ]
    if task.path is not None:
        facts.append(("folder", _shown_place(task)))
    blocks: list[Block] = [
        Heading(task.name, 1, f"{plural(len(task), 'text')}, {plural(len(task.codebook), 'field')}"),
        Facts(facts),
    ]
    blocks += [Para(notice, "notice") for notice in task.notices]
    if not task.has_human_labels:
        blocks.append(Para("No human labels: runs can be made and looked at, not scored.", "notice"))
    rows: list[Row] = [
        [
            Cell(f.name, "strong", title=f.column),
            f.type,
            _asked_when(f, task.codebook),
            _coded(task, f),
            _people(task, f),
        ]
        for f in task.codebook
    ]
    header = ["field", "type", "asked", "coded by people", "their labels"]
    blocks.append(Grid(header, rows, "lllrl"))
    if task.repaired_spans:
        blocks.append(
            Para(
                f"{plural(task.repaired_spans, 'human span')} had no offsets, or such as did not fit the quote: "
                "placed by the quote."
            )
        )
    first: list[Row] = [
        [Cell(text_id, "quiet"), clipped(text, TEXT_CHARS)]
        for text_id, text in zip(task.ids[:TEXTS_ON_A_CARD], task.texts, strict=False)
    ]
    if first:
        blocks.append(Grid(["id", "the first texts"], first, "ll"))
    return Fragment.of(blocks)


def corpus_card(corpus: Corpus) -> Fragment:
    """Return a corpus's card: what was named, how many texts, ids, segments; the texts are not read for it."""
    known = next(iter(corpus.indexes.values()), None)
    facts = [
        ("source", corpus.source),
        *([("commit", corpus.revision)] if corpus.revision else []),
        ("files", plural(len(corpus.files), "file")),
        *([("cut into", corpus.segment)] if corpus.segment else []),
        ("same texts", "asked about once" if corpus.duplicates == "once" else "each asked about"),
        (
            "other columns",
            ", ".join(c for c in corpus.other_columns if c != corpus.codebook.text_column) or NONE,
        ),
        ("labels of people", ", ".join(corpus.label_columns) or NONE),
    ]
    if known is not None:
        repeated = known.repeated.height - known.repeated["first"].n_unique()
        facts += [
            ("ids", f"from {known.id_column}" if known.id_column else "row numbers"),
            ("characters", f"{count(known.chars)}; {plural(known.blank, 'text')} blank"),
            ("the same as an earlier one", plural(repeated, "text")),
            ("coded by people", plural(known.gold.height, "text")),
        ]
    return Fragment.of(
        [
            Heading(
                corpus.name, 1, f"{plural(len(corpus), 'text')}, {plural(len(corpus.codebook), 'field')}"
            ),
            Facts(facts),
            *(Para(notice, "notice") for notice in corpus.notices),
            *([] if known else [Para("The texts are read when a plan or a run needs them.", "quiet")]),
        ]
    )


def _shown_place(task: Task) -> str:
    """Return where a task lies, seen from here; of a bundled one not where the package happens to be."""
    from nbannot.study.task_sources import bundled_folder

    place = Path(str(task.path))
    return "bundled with nbannot" if place == bundled_folder(task.name) else seen_from_here(place)


def _lengths(lengths: Sequence[int]) -> str:
    if not lengths:
        return "0"
    middle = lengths[len(lengths) // 2]
    span = f"{count(lengths[0])} to {count(lengths[-1])} characters, half of them up to {count(middle)}"
    return f"{count(len(lengths))}, {span}"


def _coded(task: Task, f: Field) -> str:
    n = sum(value is not None for value in task.human(f.column))
    return count(n) if n else NONE


def _people(task: Task, f: Field) -> str:
    values = [value for value in task.human(f.column) if value is not None]
    if not values:
        return NONE
    if f.type in LABEL_TYPES:
        return _spread([(str(label), values.count(label)) for label in f.labels])
    if f.type == "multiselect":
        chosen = [(str(label), sum(label in value for value in values)) for label in f.labels]
        return f"{options_spread(chosen, len(values))} (of {count(len(values))} texts)"
    if f.type == "span":
        marked = sum(bool(value) for value in values)
        return f"{plural(sum(map(len, values)), 'span')} in {plural(marked, 'text')}"
    return f"{plural(sum(bool(value) for value in values), 'text')} with something written"
