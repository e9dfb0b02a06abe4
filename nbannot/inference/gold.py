"""A corpus with some human labels: what the model and people said of each text, and whether the sample can be used.

The conditions under which a correction holds are checked here, and refused in words: the labelled texts are a random
(or known-probability) sample of the very corpus, the model was asked the same way of both, and the labelled texts did
not shape the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbannot.comparing.coder import Coder
from nbannot.errors import ScoringError, listed
from nbannot.inference.drawn import (
    NOT_APPLICABLE,
    SAMPLED,
    SAMPLED_WORDS,
    UNUSED,
    Measured,
    checked,
    sample_weights,
    weighted_by_label,
    with_losses_made_good,
)
from nbannot.inference.finding import looks_at
from nbannot.measures.result import IntArray
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.study.field import Field
from nbannot.study.task import Task

NONE_AT_ALL, ANY = "none", "any"
NO, YES = "no", "yes"
ASKED_ALIKE = ("model", "prompt_hash", "model_digest", "answer_mode_used", "temperature", "calibration_used")
"""What two runs must have in common for the errors of one to say something of the other's."""
READ_ALIKE: dict[str, tuple[str, Any]] = {
    "checkbox": ("threshold", 0.5),
    "multiselect": ("threshold", 0.5),
    "likert": ("scale_answer", "modal"),
    "textbox": ("text_model", None),
    "span": ("text_model", None),
}
"""Type of a field -> what else decides its labels, though nothing is asked differently, and its default."""


def given_corpus(corpus: Any, formula: Any = "") -> Run:
    """Return the run that was given; a ScoringError where it is none, or stands where the formula belongs."""
    if isinstance(corpus, Run) and isinstance(formula, str):
        return corpus
    if isinstance(corpus, str) and isinstance(formula, Run):
        raise ScoringError(
            f"the formula comes first, then the run. Got a Run and {corpus!r}.\n  Exchange the two."
        )
    if not isinstance(formula, str):
        raise ScoringError(
            f"the formula is a text such as \"Field == 'label' ~ column\". Got {type(formula).__name__}."
        )
    raise ScoringError(
        f"the corpus is a Run of the model on all its texts. Got {type(corpus).__name__}.\n"
        "  Give what nba.run(...) or nba.load_run(folder) returns."
    )


def measured(
    corpus: Run,
    column: str | None,
    *,
    gold: Run | Task | Coder | None = None,
    sampled: str | None = None,
    weights: str | None = None,
    probability: str | None = None,
    groups: str | None = None,
    reason: str | None = None,
) -> Measured:
    """Return one field of a corpus with the human labels that may be used to correct the model's.

    Raises
    ------
    ScoringError
        If the labelled texts are no usable sample of the corpus; the letter says which condition fails.
    """
    corpus = given_corpus(corpus)
    if isinstance(corpus.config.get("corpus"), dict):  # in memory it has the coded texts only
        raise ScoringError(
            f"run {corpus.run_id} is on a corpus, whose texts are on disk; this needs them all at once.\n"
            "  If they fit into memory: run.whole() is the same run with every text."
        )
    if sampled is not None and sampled not in SAMPLED:
        hint = (
            "\n  Texts chosen by hand describe only themselves: no share of a corpus can be corrected with them."
            if sampled == "convenience"
            else ""
        )
        raise ScoringError(f"sampled must be one of {', '.join(SAMPLED)}. Got {sampled!r}.{hint}")
    f = one_option(corpus.coding.fields, column) or corpus.coding.asked(column)
    notes: list[str] = []
    corpus = _joined(corpus, gold, f, notes)
    labels = _labels(f)
    answers = corpus.coding.answers[f.column]
    place = {label: code for code, label in enumerate(labels)}
    model = _codes(f, [a.value for a in answers], place)
    if NOT_APPLICABLE in place:
        closed = np.fromiter((a.status == "not_applicable" for a in answers), dtype=bool, count=len(answers))
        model[closed] = place[NOT_APPLICABLE]
    corpus = _unlocked(corpus, reason) if gold is None else corpus
    human = _human(f, corpus.task, gold, place)
    coded = int((human >= 0).sum())
    human = _usable(corpus.task, human, notes)
    lost = int((human >= 0).sum()) < coded
    if not (human >= 0).any():
        raise ScoringError(
            f"no text of the corpus has a human label in {f.column}, so nothing can be said of the model's errors.\n"
            "  Have a random sample of these texts coded: labels in the data count, and with\n"
            "  gold=nba.consensus(run.task, 'majority').task those that coders gave at the desk."
        )
    weighting, sampled = sample_weights(corpus.task, human, weights, probability, sampled, notes)
    labels_measured = Measured(f, labels, model, human, weighting, True, corpus.task, sampled or "", ())
    chosen = weighting[labels_measured.gold]
    equal = bool(np.ptp(chosen) <= 1e-9 * chosen.max())
    if not equal:
        lost |= any(UNUSED in note for note in notes)
        weighting[labels_measured.gold] = with_losses_made_good(chosen, len(human), lost=lost, notes=notes)
    labels_measured = replace(
        labels_measured, equal=equal, weights=np.ones(len(human)) if equal else weighting
    )
    if sampled in (None, "random"):
        sampled = checked(labels_measured, groups, declared=sampled == "random")
        design = "random" if sampled == "random" else "by label, which nobody declared"
        labels_measured = replace(labels_measured, sampled=design)
    notes.append(SAMPLED_WORDS[sampled])
    if sampled == "by label":
        labels_measured = weighted_by_label(labels_measured, groups)
    return replace(labels_measured, notes=tuple(notes))


def one_option(fields: Iterable[Field], name: str | None) -> Field | None:
    """Return a multiselect as the question whether one of its options applies, where ``"Field: option"`` was named."""
    for f in fields if name else ():
        if f.type == "multiselect":
            for start in (f.name, f.column):
                option = str(name).removeprefix(f"{start}: ")
                if option != name and option in f.options:
                    return replace(f, name=f"{f.name}: {option}", options=(option,))
    return None


def _sides(f: Field) -> tuple[str, str]:
    """Return the two labels of a field of which only is counted whether there is any; of one option no and yes."""
    return (NO, YES) if f.type == "multiselect" and len(f.options) == 1 else (NONE_AT_ALL, ANY)


def _labels(f: Field) -> tuple[str, ...]:
    labels = (
        _sides(f) if f.type in ("textbox", "span", "multiselect") else tuple(str(label) for label in f.labels)
    )
    return (*labels, NOT_APPLICABLE) if f.condition is not None else labels


def _codes(f: Field, values: Sequence[Any], place: dict[str, int]) -> IntArray:
    """Return the position of each value, -1 for none; of texts, spans and sets whether there is anything."""
    if f.type in ("textbox", "span", "multiselect"):
        nothing, something = (place[side] for side in _sides(f))
        row_codes = (-1 if v is None else something if _is_any(f, v) else nothing for v in values)
        return np.fromiter(row_codes, dtype=np.int64, count=len(values))
    codes: dict[Any, int] = {label: place[str(label)] for label in f.labels}
    codes[None] = -1
    return np.fromiter((codes.get(v, -1) for v in values), dtype=np.int64, count=len(values))


def _is_any(f: Field, value: Any) -> bool:
    """Return whether there is anything in a value; of a multiselect one of the field's options."""
    if f.type == "multiselect":
        return any(option in f.options for option in value)
    return bool(value.strip() if f.type == "textbox" else value)


def _human(f: Field, task: Task, gold: Any, place: dict[str, int]) -> IntArray:
    """Return people's labels of the corpus' texts as positions, from the task or from what was given as gold."""
    source = task if gold is None else gold.task if isinstance(gold, Run) else gold
    if isinstance(source, Coder):
        values: Sequence[Any] = source.coding.values(f.column)
        applies = [a.status != "not_applicable" for a in source.coding.answers[f.column]]
        source = source.task
    else:
        values, applies = source.human(f.column), source.human_applies(f.column)
    codes = _codes(f, values, place)
    if NOT_APPLICABLE in place:
        codes[~np.array(applies, dtype=bool)] = place[NOT_APPLICABLE]
    if source is task:
        return codes
    by_id = dict(zip(source.ids, codes.tolist(), strict=True))
    strangers = [i for i, code in by_id.items() if code >= 0 and i not in set(task.ids)]
    if strangers:
        raise ScoringError(
            f"{plural(len(strangers), 'text')} with a human label are not in the corpus: {listed(strangers, 3)}.\n"
            "  A correction holds for the corpus from which the labelled texts were drawn: annotate them with it, or "
            "give the model's Run on them as gold=..."
        )
    own = dict(zip(source.ids, source.texts, strict=True))
    other = [i for i, text in zip(task.ids, task.texts, strict=True) if own.get(i, text) != text]
    if other:
        raise ScoringError(
            f"{plural(len(other), 'text')} of gold are worded differently in the corpus: {listed(other, 3)}.\n"
            "  Ids must mean the same text in both."
        )
    return np.fromiter((by_id.get(i, -1) for i in task.ids), dtype=np.int64, count=len(task))


def _joined(corpus: Run, gold: Any, f: Field, notes: list[str]) -> Run:
    """Return the corpus with the texts of a gold run that it does not hold, if the model was asked the same way."""
    if gold is None:
        return corpus
    if not isinstance(gold, Run | Task | Coder):
        inside = (
            "\n  It holds a task: give its .task." if isinstance(getattr(gold, "task", None), Task) else ""
        )
        raise ScoringError(f"gold is a Run, a Task or a Coder. Got {type(gold).__name__}.{inside}")
    book = gold.codebook if isinstance(gold, Task) else gold.task.codebook
    if book.hash != corpus.task.codebook.hash:
        raise ScoringError("gold and corpus have different codebooks; their labels do not mean the same.")
    if not isinstance(gold, Run):
        notes += looks_at(gold if isinstance(gold, Task) else gold.task)
        return corpus
    if gold.config.get("split") == "dev":
        raise ScoringError(
            f"{gold.run_id} was made on the dev half, whose texts shaped the prompt: the model's errors on them are "
            "fewer than on the corpus.\n  Give the run on the test half."
        )
    differing = [name for name in ASKED_ALIKE if gold.config.get(name) != corpus.config.get(name)]
    if f.type in READ_ALIKE:
        name, default = READ_ALIKE[f.type]
        if gold.config.get(name, default) != corpus.config.get(name, default):
            differing.append(name)
    if differing:
        raise ScoringError(
            f"the model was asked in another way on gold than on the corpus: {listed(differing)} differ "
            f"({gold.run_id}, {corpus.run_id}).\n  Its errors there say nothing about its errors here: annotate the "
            "corpus with gold.config."
        )
    notes += looks_at(gold.task)
    notes.append("Model, prompt and settings are the same on gold and corpus (compared by their hashes).")
    known = set(corpus.task.ids)
    rows = [row for row, i in enumerate(gold.task.ids) if i not in known]
    if not rows:
        return corpus
    import polars as pl

    notes.append(f"{plural(len(rows), 'text')} of the gold run were added to the corpus.")
    added = gold.task.data[rows]
    data = pl.concat([corpus.task.data, added], how="diagonal").fill_null("")
    ids = [*corpus.task.ids, *(gold.task.ids[row] for row in rows)]
    task = replace(corpus.task, data=data, rows=tuple(range(len(ids))))
    task.__dict__["_identified"] = (ids, corpus.task.id_source)
    answers = [*corpus.coding.answers[f.column], *(gold.coding.answers[f.column][row] for row in rows)]
    coding = replace(corpus.coding, task=task, answers={f.column: answers})
    return replace(corpus, task=task, coding=coding)


def _unlocked(corpus: Run, reason: str | None) -> Run:
    """Return a corpus whose split is locked with the labels of its test half, which is a look that is counted.

    Raises
    ------
    ScoringError
        If it is closed and there is no reason to open it.
    """
    lock = corpus.task.split_lock
    if lock is None or lock.opened:
        return corpus
    if reason is None:
        raise ScoringError(
            f"the texts that people coded are locked ({lock.words}): those of dev shaped the prompt, and the labels of "
            'the test half are closed.\n  To use them, say why, and it is counted: reason="the finding of the paper".'
        )
    task = corpus.task.opened(reason, corpus.run_id, corpus.config_hash, "gold labels")
    return replace(corpus, task=task, coding=replace(corpus.coding, task=task))


def _usable(task: Task, human: IntArray, notes: list[str]) -> IntArray:
    """Return the human labels without those of texts that shaped the prompt: dev, and worked examples."""
    lock = task.split_lock
    if lock is not None:
        dev = np.fromiter((i not in lock.test_ids for i in task.ids), dtype=bool, count=len(task)) & (
            human >= 0
        )
        if dev.any():
            notes.append(
                f"{plural(int(dev.sum()), 'text')} of dev, which shaped the prompt: their labels are left out."
            )
        human = np.where(dev, -1, human)
        notes += [note for note in looks_at(task) if note not in notes]
    examples = {e.text.strip() for f in task.codebook for e in f.examples if e.text.strip()}
    if not examples:
        return human
    shown = np.fromiter((t.strip() in examples for t in task.texts), dtype=bool, count=len(task)) & (
        human >= 0
    )
    if shown.any():
        notes.append(
            f"{plural(int(shown.sum()), 'text')} with a human label are examples of the codebook: left out."
        )
    return np.where(shown, -1, human)
