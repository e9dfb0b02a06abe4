"""Running: the one place where the steps meet. Task + config → prompts → model → answers → folder → scores → tables."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from nbannot.asking import ledger
from nbannot.asking.batch_lines import batches_in
from nbannot.asking.request_reply import Model
from nbannot.engine import energy
from nbannot.engine.drive import Tick
from nbannot.engine.engine import annotate
from nbannot.engine.job import Outcome, Progress
from nbannot.engine.served import answered_by, served_by
from nbannot.errors import ConfigError, NbannotError, RunError, RunInterrupted, listed, tidy_interrupt
from nbannot.page.shown import watching
from nbannot.record import folder
from nbannot.record.loading import load_run
from nbannot.record.probabilities import save_probabilities
from nbannot.record.run import COMPLETE, PARTIAL, RUNNING, Run, status_of
from nbannot.record.scoring import SCORING
from nbannot.record.state import read_state
from nbannot.running.design import Design, Say, as_task, design, dev_by_default
from nbannot.running.mending import mend, what_is_wrong
from nbannot.running.run_config import (
    another_server,
    capabilities_of,
    config_of,
    model_changes,
    other_country,
    same_run,
)
from nbannot.running.scores import KEPT, labels_text, save_scores
from nbannot.running.standard_files import output_text, write_counts, write_energy, write_traces
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.corpus import Corpus
from nbannot.study.keywords import Settings
from nbannot.study.task import Task
from nbannot.tools.either import Either
from nbannot.tools.files import read_json, write_atomic, write_json
from nbannot.tools.imports import load_aside


@tidy_interrupt()
def run(
    task: Task | str | Path | Any,
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
    fresh: bool = False,
    retry: Literal["invalid", "failed"] | None = None,
    reason: str | None = None,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    say: Say | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Annotate a task's texts and score the labels against people's. The same call finds, or continues, the same run.

    Parameters
    ----------
    task
        A `Task`, a bundled name, a folder, ``hf://datasets/owner/name``, a DataFrame with `codebook`, or a `corpus`.
    config, settings
        The settings (`RunConfig`); keywords override.
    fresh
        Make a new repetition instead of returning or continuing the run that exists.
    retry
        Ask again what a finished run left without a valid answer: ``"invalid"`` gives those questions another round
        of attempts, ``"failed"`` sends again what the model never answered (which a plain call does too).
    reason
        Why the test half of a locked task is looked at (``split="test"``); it is kept with the count of the looks.
    tick
        Called about ten times a second with the `Progress`.
    stop
        An event that another thread sets to end the work early; what is done is kept.
    say
        Called with lines worth telling, e.g. that a model is being fetched.

    Returns
    -------
    Run
        Its folder is complete, or partial if the model stopped answering; see `Run.status`.

    Raises
    ------
    RunInterrupted
        If the user stopped it. Every finished answer is in the folder.
    NbannotError
        If the task, the settings, the model or the folder cannot be used.
    """
    if retry not in (None, "invalid", "failed"):
        raise ConfigError(f"retry must be 'invalid' or 'failed'. Got {retry!r}.")
    config = RunConfig.of(config, **settings)
    energy.prewarm()
    if isinstance(task, Corpus):
        from nbannot.running.corpus_run import run_corpus

        return run_corpus(task, config, fresh=fresh, retry=retry, tick=tick, stop=stop, say=say)
    task = as_task(task, config, codebook)
    config = dev_by_default(task, config, reason)
    plan, model = design(task, config, say=say)
    while fresh and not folder.claim(plan.folder):
        config = config.change(repeat=config.repeat + 1)
        plan, model = design(task, config, model)
    if finished := _finished(plan, task, retry, say, reason=reason):
        return finished
    folder.make_folder(plan.folder)
    with folder.held(plan.folder):
        # Looked at again: another process may have been at work until now.
        if finished := _finished(plan, task, retry, say, holding=True, reason=reason):
            return finished
        if not read_json(plan.folder / folder.CONFIG):
            _begin(plan)
        done = _work(
            plan, model, tick, stop, say, ask_again=retry == "invalid", again=retry == "failed", reason=reason
        )
    if done.outcome is not None and done.outcome.raised is not None:
        raise done.outcome.raised
    if done.outcome is not None and done.outcome.interrupted:
        finished = done if done.coding.count().get("ok") else None
        raise RunInterrupted.after(done.progress, plan.folder, finished)
    return done


def _finished(
    plan: Design,
    task: Task,
    retry: str | None,
    say: Say | None,
    *,
    holding: bool = False,
    reason: str | None = None,
) -> Run | None:
    """Return the run if it is finished, with every file as its ledger has it; ``None`` if there is work to do."""
    stored = read_json(plan.folder / folder.CONFIG)
    same_run(stored, plan)
    if stored.get("status") != COMPLETE or retry == "invalid":
        return None
    _opened(plan, reason)
    finished = load_run(plan.folder, task=task)
    if finished.status != COMPLETE:
        return None
    if finished.unfitting and (retry == "failed" or another_server(stored, plan)):
        return None
    if wrong := what_is_wrong(finished):
        with contextlib.nullcontext() if holding else folder.held(plan.folder):
            mend(finished, wrong)
        if say and (words := listed(sorted(wrong & folder.FILES.keys()), 12)):
            say(f"written again from the ledger: {words}")
        finished = dataclasses.replace(finished, config=read_json(plan.folder / folder.CONFIG))
    if say and (word := other_country(stored, plan)):
        say(word)
    return finished


def _begin(plan: Design) -> None:
    """Write what is known before the first call, so that even a killed run can be traced and continued."""
    write_json(plan.folder / folder.CONFIG, config_of(plan, RUNNING))
    if plan.task.label_columns:
        write_atomic(plan.folder / folder.HUMAN_LABELS, labels_text(plan.task))


def _work(
    plan: Design,
    model: Model,
    tick: Tick | None,
    stop: threading.Event | None,
    say: Say | None,
    *,
    ask_again: bool,
    again: bool = False,
    reason: str | None = None,
) -> Run:
    book = ledger.Ledger(plan.folder / folder.LEDGER)
    if plan.config.delivery == "now" and not again:
        _refuse_what_is_out(plan, book)
    if say:
        for line in plan.opening_lines:
            say(line)
    kept = plan.folder / folder.EMISSIONS_SO_FAR
    killed = energy.take_left(kept, plan.folder / folder.EMISSIONS)
    meter = energy.Meter(plan.config.country_iso_code, kept)
    measured = plan.info.energy_measured
    started = time.monotonic()
    end = Either(stop)

    ends: list[Outcome] = []
    to_load = list(SCORING) if plan.task.has_human_labels else []

    def ended(outcome: Outcome) -> Run:
        ends.append(outcome)
        records = energy.records_of(meter, model)
        outcome.energy_problem = meter.problem or getattr(model, "energy_gap", "") or killed
        book.close()
        if say and outcome.out and not outcome.interrupted:
            say(outcome.stopped)
        scored = plan if outcome.interrupted or outcome.out else _opened(plan, reason)
        return _finish(scored, model, outcome, book.tally, records, time.monotonic() - started)

    try:
        with watching(f"{plan.task.name} · {plan.config.model}", tick) as shown:

            def look(progress: Progress) -> None:
                if progress.calls and to_load:
                    load_aside(to_load.pop())
                try:
                    book.check()
                except RunError:
                    end.set()  # the ledger says it again when it is closed
                if shown:
                    shown(progress)

            outcome = annotate(
                plan.job,
                model,
                book,
                tick=look,
                stop=end,
                ask_again=ask_again,
                kwh=energy.in_sum(meter, model) if measured else lambda: 0.0,
                ready=meter.start if measured else lambda: None,
            )
        return ended(outcome)
    except BaseException as error:  # what came before it is in the files, and raised again
        if book.tally.calls and not book.lost:
            with contextlib.suppress(NbannotError, OSError):
                if ends:  # while the files were written: times and energy are not counted twice
                    left = load_run(plan.folder, task=plan.whole)
                    mend(left, what_is_wrong(left))
                else:
                    ended(Outcome({}, Progress(), stopped=str(error)))
        raise
    finally:
        meter.stop()
        book.let_go()


def _refuse_what_is_out(plan: Design, book: ledger.Ledger) -> None:
    """Refuse to ask at once what a provider is still working on in a batch: it would be paid for twice."""
    out = [batch for batch in batches_in(book.notes).values() if batch.is_out]
    if out:
        book.let_go()
        raise RunError(
            f"{sum(len(batch.names) for batch in out):,} requests of this run may still be out in a batch.\n"
            '  Run it with delivery = "batch" to collect them; retry = "failed" asks them now all the same.'
        )


def _opened(plan: Design, reason: str | None) -> Design:
    """Return the plan with the labels of a locked test half, which are about to be scored: a look that is counted."""
    if plan.config.split != "test" or plan.task.split_lock is None:
        return plan
    return dataclasses.replace(plan, task=plan.task.opened(reason or "", plan.run_id, plan.config_hash))


def _finish(
    plan: Design,
    model: Model,
    outcome: Outcome,
    tally: ledger.Tally,
    records: Sequence[dict[str, Any]],
    wall_time: float,
) -> Run:
    """Write the standard files as the ledger has it, score, and enter the run into the tidy tables."""
    place = plan.folder
    config = config_of(plan, RUNNING)
    through = not (outcome.stopped or outcome.out or outcome.raised)
    state = read_state(plan.task, place / folder.LEDGER, config, plan.run_id, through=through)
    status = PARTIAL if outcome.out else status_of(state.coding)
    write_energy(place, records)
    output = output_text(state.coding)
    write_atomic(place / folder.OUTPUT, output)
    save_probabilities(state.coding, place)
    write_counts(place, tally, cached=outcome.progress.cached, wall_time=wall_time)
    if tally.reasoned or plan.job.kind.reasons:
        write_traces(plan.task, place, config)
    details = {
        "status": status,
        "stopped": outcome.stopped,
        "out": outcome.out,
        "capabilities": capabilities_of(place, model, outcome.progress),
        "calibration_offsets": {k: list(v) for k, v in state.offsets.items()},
        "served_by": served_by(tally.served),
        **answered_by(tally.by_server),
        "model_changes": model_changes(place, tally.served, plan.info.digest, outcome.digest, outcome.notes),
        "first_call": tally.first,
        "last_call": tally.last,
    }
    before = read_json(place / folder.CONFIG)
    if words := energy.problem_in_words(
        outcome.energy_problem,
        place / folder.EMISSIONS,
        str(before.get("energy") or ""),
        measured=plan.info.energy_measured,
        begun=tally.calls > outcome.progress.calls,
    ):
        details["energy"] = words
    kept = {
        name: before.get(name, {}) for name in KEPT
    }  # empty until the scores are saved for the first time
    write_json(place / folder.CONFIG, config | details | kept)
    done = Run(
        place,
        read_json(place / folder.CONFIG),
        plan.task,
        state.coding,
        outcome,
        state.calls,
        state.unfitting,
    )
    if outcome.out and not state.coding.count().get("ok"):
        return (
            done  # nothing has come back so far: there is nothing to score, and nothing to enter into tables
        )
    save_scores(done, output)
    written = dataclasses.replace(done, config=read_json(place / folder.CONFIG))
    if (
        "scores" in done.__dict__
    ):  # resampling a second time would take longer than a fast model takes to answer
        written.__dict__["scores"] = done.scores
    return written
