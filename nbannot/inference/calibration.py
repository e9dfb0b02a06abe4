"""Can the probabilities of a model be believed? And what would a temperature or a threshold fitted on dev change?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbannot.asking.answers import batch_offset, calibrate
from nbannot.asking.decisions import Reading, label_of
from nbannot.errors import ScoringError, listed
from nbannot.inference.calibration_page import Bin, Calibrated, Calibration
from nbannot.inference.finding import in_range, looks_at, not_weighted
from nbannot.inference.gold import ASKED_ALIKE
from nbannot.measures import calibration as measure
from nbannot.measures.resample import wilson
from nbannot.measures.result import FloatArray, IntArray
from nbannot.record.run import Run
from nbannot.report.words import plural
from nbannot.study.field import Field

AS_TOLD = "as told"
FEWEST = 10
"""Fewer labels than this are no basis for a fit, nor for a statement about calibration."""


@dataclass(frozen=True)
class Told:
    """Probabilities of one run beside people's labels: (n, K) shares, (n,) positions of the given and true labels."""

    ids: tuple[str, ...]
    shares: FloatArray
    given: IntArray
    truth: IntArray


def calibration(
    run: Run,
    column: str | None = None,
    *,
    dev: Run | None = None,
    reason: str | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 1,
) -> Calibration:
    """Return how well a model's probabilities fit how often it is right, with a reliability table and plot.

    Parameters
    ----------
    run
        A run whose model gave a probability for every option: ``decide/...``, or ``answer_mode = "score"``.
    column
        A checkbox, dropdown or likert field; may be left out where one was asked.
    dev
        A run with the same model and prompt on other texts (the dev half). Three fits are made on its texts and only
        tried on those of `run`: one temperature; the mean of each option's probability divided out (batch
        calibration; needs no labels); and for a checkbox the threshold with the highest kappa.
    reason
        Why the labels of a locked test half are used; the look is counted.
    level
        Of the intervals: Wilson for shares, percentile bootstrap over texts for the Brier score.
    n_resamples, seed
        Of that bootstrap, and of the draws for the null ECE.

    Raises
    ------
    ScoringError
        If there are no probabilities or too few human labels, the test half is closed, or the dev run was asked in
        another way or shares texts with `run`.
    """
    for given in (run, *([] if dev is None else [dev])):
        if not isinstance(given, Run):
            raise ScoringError(
                f"calibration takes Runs. Got {type(given).__name__}.\n  nba.load_run(folder) returns one."
            )
    level = in_range("level", level, 0, 1)
    if not isinstance(n_resamples, int) or isinstance(n_resamples, bool) or n_resamples < 100:
        raise ScoringError(f"n_resamples must be a whole number of at least 100. Got {n_resamples!r}.")
    f = run.coding.asked(column)
    if f.type in ("textbox", "span", "multiselect"):
        raise ScoringError(
            f"'{f.name}' is a {f.type}: only checkbox, dropdown and likert have probabilities."
        )
    if dev is not None:
        _refuse_other_dev(run, dev, f)
    notes: list[str] = []
    opened = _opened(run, reason)
    told = told_of(opened, f, notes)
    make = _Maker(f, level, n_resamples, seed)
    made = [make.form(AS_TOLD, told)]
    temperature = threshold = math.nan
    if dev is not None:
        learned = told_of(dev, f, [])
        n = len(learned.ids)
        temperature = measure.fitted_temperature(learned.shares, learned.truth)
        softer = replace(told, shares=measure.at_temperature(told.shares, temperature))
        made.append(make.form(f"temperature {temperature:.2f}", softer, n, temperature))
        if not measure.TEMPERATURES[0] * 1.01 < temperature < measure.TEMPERATURES[1] / 1.01:
            notes.append(
                f"The temperature is at the {'upper' if temperature > 1 else 'lower'} end of what is tried: "
                + (
                    "on dev the probabilities said no more of people's labels than equal ones do. A small ECE then "
                    "comes of probabilities that are all but equal, not of a model that knows."
                    if temperature > 1
                    else "on dev all but every label was right, which too few texts can show by chance."
                )
            )
        made.append(make.form("batch calibration", _batch(f, told, learned, run), n))
        if f.type == "checkbox":
            threshold = measure.fitted_threshold(learned.shares[:, 1], learned.truth)
            ticked = (told.shares[:, 1] >= threshold).astype(np.int64)
            made.append(make.form(f"threshold {threshold:.2f}", replace(told, given=ticked), n, threshold))
            notes.append(
                f"threshold = {threshold:.3g} was chosen on dev; it becomes labels in a run with that setting."
            )
        notes.append(f"Fits were made on the {n:,} labelled texts of {dev.run_id} and on none of these.")
    if run.config.get("calibration_used") == "batch":
        notes.append(
            "These probabilities are batch-calibrated already, on texts of the run and without labels."
        )
    notes += [*not_weighted(opened.task, "calibration"), *looks_at(opened.task)]
    forms, bins = zip(*made, strict=True)
    return Calibration(
        f,
        run.run_id,
        level,
        forms,
        tuple(b for own in bins for b in own),
        temperature,
        threshold,
        tuple(notes),
    )


def told_of(run: Run, f: Field, notes: list[str]) -> Told:
    """Return the texts of a run that have a probability per option and a human label.

    Raises
    ------
    ScoringError
        If they are fewer than 10; the letter says what is missing.
    """
    answers, place = run.coding.answers[f.column], {label: i for i, label in enumerate(f.labels)}
    human, applies = run.task.human(f.column), run.task.human_applies(f.column)
    with_shares = [a.probabilities is not None and a.value in place for a in answers]
    if not any(with_shares):
        raise ScoringError(
            f"{run.run_id} holds no probabilities for '{f.name}'.\n"
            "  Models that give them: decide/sparrow and others that decide; local and some servers with "
            'answer_mode = "score".'
        )
    labelled = [yes and value in place for yes, value in zip(applies, human, strict=True)]
    rows = [i for i, both in enumerate(zip(with_shares, labelled, strict=True)) if all(both)]
    if len(rows) < FEWEST:
        raise ScoringError(
            f"{run.run_id} has {plural(len(rows), 'text')} with both a probability and a human label of '{f.name}'; "
            f"calibration needs at least {FEWEST}, and says little below 100."
        )
    without = sum(labelled) - len(rows)
    if without:
        notes.append(f"{plural(without, 'text')} with a human label and no valid answer: left out.")
    shares = np.array([answers[i].probabilities for i in rows], dtype=float)
    given = np.array([place[answers[i].value] for i in rows])
    truth = np.array([place[human[i]] for i in rows])
    return Told(tuple(run.task.ids[i] for i in rows), shares, given, truth)


def _batch(f: Field, told: Told, learned: Told, run: Run) -> Told:
    """Return the probabilities after batch calibration, with the labels that the run's settings make of them."""
    reading = Reading(run.config.get("threshold", 0.5), run.config.get("scale_answer", "modal"))
    offset = batch_offset(learned.shares.tolist())
    place = {label: i for i, label in enumerate(f.labels)}
    pairs = [calibrate(f, row, offset) for row in told.shares.tolist()]
    given = [place[label_of(f, shares, reading, best)] for best, shares in pairs]
    return replace(told, shares=np.array([shares for _, shares in pairs]), given=np.array(given))


@dataclass(frozen=True)
class _Maker:
    """Numbers of one form of the probabilities."""

    field: Field
    level: float
    n_resamples: int
    seed: int

    def form(
        self, name: str, told: Told, fitted_on: int = 0, parameter: float = math.nan
    ) -> tuple[Calibrated, list[Bin]]:
        n = len(told.ids)
        rows = np.arange(n)
        sure, right = told.shares[rows, told.given], told.given == told.truth
        widths, masses = measure.equal_width(sure), measure.equal_mass(sure)
        hit = np.zeros_like(told.shares)
        hit[rows, told.truth] = 1
        each = ((told.shares - hit) ** 2).sum(1)
        draw = np.random.default_rng(self.seed)
        means = [each[draw.integers(0, n, n)].mean() for _ in range(self.n_resamples)]
        low, high = np.quantile(means, [(1 - self.level) / 2, (1 + self.level) / 2])
        one = Calibrated(
            name, fitted_on, parameter, n, float(right.mean()), *wilson(int(right.sum()), n, self.level),
            float(sure.mean()),
            measure.calibration_error(sure, right, widths), measure.null_error(sure, seed=self.seed),
            measure.calibration_error(sure, right, masses),
            measure.null_error(sure, measure.equal_mass, seed=self.seed),
            measure.brier(told.shares, told.truth), float(low), float(high),
            measure.log_loss(told.shares, told.truth), measure.auroc(sure, right),
        )  # fmt: skip
        return one, [self._bin(name, b, sure[widths == b], right[widths == b]) for b in np.unique(widths)]

    def _bin(self, name: str, place: int, sure: FloatArray, right: Sequence[bool]) -> Bin:
        n, hits = len(sure), int(np.sum(right))
        edges = float(place) / measure.BINS, float(place + 1) / measure.BINS
        return Bin(name, *edges, n, float(sure.mean()), hits / n, *wilson(hits, n, self.level))


def _refuse_other_dev(run: Run, dev: Run, f: Field) -> None:
    """Raise unless what is fitted on `dev` may be tried on `run`."""
    faults = []
    if run.task.codebook.hash != dev.task.codebook.hash or f.column not in dev.coding.answers:
        faults.append(f"{dev.run_id} does not answer '{f.column}' of the same codebook")
    differing = [name for name in ASKED_ALIKE if run.config.get(name) != dev.config.get(name)]
    if differing:
        faults.append(f"the model was asked in another way on dev: {listed(differing)} differ")
    shared = set(run.task.ids) & set(dev.task.ids)
    if shared:
        faults.append(
            f"{plural(len(shared), 'text')} are in both: a fit tried on its own texts flatters; give runs with "
            'split = "dev" and split = "test"'
        )
    lock = run.task.split_lock
    if lock is not None and any(i in lock.test_ids for i in dev.task.ids):
        faults.append(f"{dev.run_id} holds texts of the locked test half")
    if faults:
        raise ScoringError(
            "these runs cannot serve as dev and test:\n" + "\n".join(f"  {one}." for one in faults)
        )


def _opened(run: Run, reason: str | None) -> Run:
    """Return a run whose texts are in a locked test half with their labels, which is a look that is counted."""
    task = run.task.as_opened_for(run.run_id)
    lock = task.split_lock
    if lock is None or lock.opened or not any(i in lock.test_ids for i in task.ids):
        return run
    if reason is None:
        raise ScoringError(
            f"the labels of the test half are closed ({lock.words}).\n"
            '  To use them, say why, and it is counted: reason="calibration for the paper".'
        )
    task = task.opened(reason, run.run_id, run.config_hash, "calibration")
    return replace(run, task=task, coding=replace(run.coding, task=task))
