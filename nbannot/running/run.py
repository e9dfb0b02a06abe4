"""Running: the one place where the steps meet. Task + config → prompts → model → answers → folder → scores → tables."""

from __future__ import annotations

import dataclasses
import json
import platform
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Unpack

from nbannot import __version__
from nbannot.asking import ledger
from nbannot.engine import energy
from nbannot.engine.drive import Tick
from nbannot.engine.engine import annotate
from nbannot.engine.job import Outcome, Progress
from nbannot.errors import GO_ON, ConfigError, RunError, RunInterrupted, listed, tidy_interrupt
from nbannot.models.registry import Model
from nbannot.page.shown import watching
from nbannot.record import folder
from nbannot.record.coding import Coding, from_session
from nbannot.record.run import COMPLETE, FAILED, HUMAN_LABELS, PARTIAL, RUNNING, Run, load_run
from nbannot.running.design import Design, Say, as_task, design, dev_by_default
from nbannot.running.scores import labels_text, save_scores, scores_are_saved
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.keywords import Settings
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, read_json, write_atomic, write_json

PACKAGES = ("aiohttp", "codecarbon", "huggingface_hub", "krippendorff", "numpy", "pandas", "polars", "scikit-learn",
            "scipy", "xllamacpp")  # fmt: skip


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
        A `Task`, a bundled name, a folder, ``hf://datasets/owner/name``, or a DataFrame with `codebook`.
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
    task = as_task(task, config, codebook)
    config = dev_by_default(task, config, reason)
    plan, model = design(task, config, say=say)
    while fresh and plan.folder.exists():
        config = config.change(repeat=config.repeat + 1)
        plan, model = design(task, config, model)
    stored = read_json(plan.folder / folder.CONFIG)
    _same_run(stored, plan)
    if stored.get("status") == COMPLETE and retry != "invalid":
        _opened(plan, reason)
        found = load_run(plan.folder, task=task)
        if not scores_are_saved(found):
            save_scores(found)
        if say and (word := _other_country(stored, plan)):
            say(word)
        return found
    folder.make_folder(plan.folder)
    with folder.held(plan.folder):
        if stored == {}:
            _begin(plan)
        done = _work(plan, model, tick, stop, say, ask_again=retry == "invalid", reason=reason)
    if done.outcome is not None and done.outcome.interrupted:
        raise RunInterrupted(
            f"stopped: {done.progress.done:,} of {done.progress.total:,} answers are kept in {plan.folder}.\n"
            f"  {GO_ON}"
        )
    return done


def _same_run(stored: Mapping[str, Any], plan: Design) -> None:
    """Refuse a folder that holds another run than the one asked for."""
    if not stored and plan.folder.exists() and any(p.name != folder.LOCK for p in plan.folder.iterdir()):
        raise RunError(
            f"{plan.folder} exists and holds no config.json of ours.\n  Move it away, or choose another output_root."
        )
    other = stored.get("identity")
    if not stored or other == json.loads(json.dumps(plan.identity)):
        return
    differing = sorted(
        k for k in plan.identity if not isinstance(other, dict) or other.get(k) != plan.identity[k]
    )
    raise RunError(
        f"{plan.folder} holds a run with other settings ({listed(differing)}); nothing was written.\n"
        "  Its config.json was changed, or the folder was moved here: choose another output_root."
    )


def _other_country(stored: Mapping[str, Any], plan: Design) -> str:
    """Return what to say where a finished run was estimated with another carbon intensity; "" where it was not."""
    then, now = (
        code or "the world average" for code in (stored.get("country_iso_code"), plan.config.country_iso_code)
    )
    if not plan.info.energy_measured or then == now:
        return ""
    return (
        f"finished before: its emissions stay estimated with the carbon intensity of {then}, not of {now}. "
        "fresh=True (%%annotate --fresh) asks the model again."
    )


def _begin(plan: Design) -> None:
    """Write what is known before the first call, so that even a killed run can be traced and continued."""
    write_json(plan.folder / folder.CONFIG, _config(plan, RUNNING))
    if plan.task.label_columns:
        write_atomic(plan.folder / HUMAN_LABELS, labels_text(plan.task))


def _work(
    plan: Design,
    model: Model,
    tick: Tick | None,
    stop: threading.Event | None,
    say: Say | None,
    *,
    ask_again: bool,
    reason: str | None = None,
) -> Run:
    book = ledger.Ledger(plan.folder / folder.LEDGER)
    if say:
        for line in plan.info.notes:
            say(line)
    meter = energy.Meter(plan.config.country_iso_code)
    measured = plan.info.energy_measured
    started = time.monotonic()
    try:
        with watching(f"{plan.task.name} · {plan.config.model}", tick) as shown:
            outcome = annotate(
                plan.job,
                model,
                book,
                tick=shown,
                stop=stop,
                ask_again=ask_again,
                kwh=meter.kwh if measured else lambda: 0.0,
                ready=meter.start if measured else lambda: None,
            )
    finally:
        record = meter.stop()
        book.close()
    if not outcome.interrupted:
        plan = _opened(plan, reason)
    return _finish(plan, model, outcome, book.tally, record, time.monotonic() - started)


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
    record: dict[str, Any] | None,
    wall_time: float,
) -> Run:
    """Write the standard files, score, and enter the run into the tidy tables."""
    place = plan.folder
    coding = from_session(plan.task, outcome.answers, plan.run_id)
    status = _status(coding, outcome)
    if record is not None:
        path = place / folder.EMISSIONS
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        write_atomic(path, energy.emissions_csv(earlier, record))
    write_atomic(place / folder.OUTPUT, csv_text(*coding.output_rows()))
    write_json(place / folder.TIMING, _timing(place, tally, outcome.progress, wall_time))
    write_json(place / folder.CHARS, _chars(tally))
    if tally.reasoned or plan.job.kind.reasons:
        _write_traces(plan)
    details = {
        "status": status,
        "stopped": outcome.stopped,
        "capabilities": _capabilities(place, model, outcome.progress),
        "calibration_offsets": {k: list(v) for k, v in outcome.offsets.items()},
        "first_call": tally.first,
        "last_call": tally.last,
    }
    write_json(place / folder.CONFIG, _config(plan, status) | details)
    done = Run(place, read_json(place / folder.CONFIG), plan.task, coding, outcome=outcome)
    if status != RUNNING and not outcome.interrupted:
        save_scores(done)
    return done


def _capabilities(place: Path, model: Model, progress: Progress) -> dict[str, Any]:
    """Return what the model was found to take; a session that sent nothing keeps what an earlier one found."""
    found: dict[str, Any] = getattr(model, "capabilities", {})
    if progress.calls == 0:
        found = read_json(place / folder.CONFIG).get("capabilities") or found
    return found


def _status(coding: Coding, outcome: Outcome) -> str:
    if coding.complete and not outcome.stopped:
        return COMPLETE
    return PARTIAL if coding.count().get("ok") else FAILED


def _timing(place: Path, tally: ledger.Tally, progress: Progress, wall_time: float) -> dict[str, Any]:
    seconds = sorted(tally.seconds)
    total = sum(seconds)
    before = read_json(place / folder.TIMING).get("wall_time", 0.0)
    return {
        "total_inference_time": total,
        "avg_inference_time": total / len(seconds) if seconds else 0.0,
        "inference_count": tally.calls,
        "wall_time": before + wall_time,
        "retry_count": tally.retries,
        "cached_count": progress.cached,
        **{
            f"latency_p{p}": seconds[min(len(seconds) - 1, int(p / 100 * len(seconds)))]
            for p in (50, 90, 99)
            if seconds
        },
    }


def _chars(tally: ledger.Tally) -> dict[str, Any]:
    return {
        "input_chars": tally.input_chars,
        "output_chars": tally.output_chars,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
    }


def _write_traces(plan: Design) -> None:
    """Write one line per call that returned reasoning, its own channel or the answer's ``reasoning`` key."""
    rows = {text_id: number for number, text_id in enumerate(plan.task.ids)}
    by_column = {f.column: f for f in plan.task.codebook}
    lines = []
    for record in ledger.read_lines(plan.folder / folder.LEDGER):
        thought = record.get("reasoning") or _reasoning_in(record.get("raw") or "")
        if "text_id" not in record or not thought:
            continue
        names = [by_column[column] for column in record["columns"]]
        lines.append(
            {
                "text_id": record["text_id"],
                "row_num": rows.get(record["text_id"]),
                "column": "+".join(record["columns"]),
                "annotation_name": "+".join(f.name for f in names),
                "annotation_type": "+".join(f.type for f in names),
                "attempt": record["attempt"],
                "chat_mode": plan.config.chat_mode,
                "prompt_chars": record["input_chars"],
                "response_chars": len(record.get("raw") or ""),
                "inference_time_s": record["seconds"],
                "reasoning": thought,
            }
        )
    if lines:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(plan.folder / folder.TRACES, text)


def _reasoning_in(raw: str) -> str:
    try:
        found = json.loads(raw)
    except json.JSONDecodeError:
        return ""
    thought = found.get("reasoning") if isinstance(found, dict) else None
    return thought if isinstance(thought, str) else ""


def _config(plan: Design, status: str) -> dict[str, Any]:
    """Return the content of ``config.json``: settings first, then where the run came from. Never a secret."""
    task, kind, info = plan.task, plan.job.kind, plan.info
    path = task.path
    return {
        "run_id": plan.run_id,
        "task_name": task.name,
        **plan.config.to_dict(),
        "model_id": plan.model_id,
        "status": status,
        "max_tokens_used": plan.job.max_tokens,
        "answer_mode_used": plan.job.answer_mode,
        "calibration_used": "batch" if plan.job.calibrated else "none",
        "prompt_template": kind.template,
        "prompt_hash": plan.prompt_hash,
        "codebook_path": str(path / "codebook.json") if path else None,
        "ground_truth_path": str(path / "ground-truth.csv") if path else None,
        "n_texts": len(task),
        "id_source": task.id_source,
        "columns_asked": [f.column for f in plan.job.fields],
        "codebook_hash": task.codebook.hash,
        "data_hash": plan.data_hash,
        "model_info": dataclasses.asdict(info),
        "model_digest": info.digest,
        "backend": info.backend,
        "server_version": info.server,
        "energy": _energy_words(plan),
        "nbannot_version": __version__,
        "packages": _versions(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": plan.identity,
        "codebook": task.codebook.source,
    }


def _energy_words(plan: Design) -> str:
    if not plan.info.energy_measured:
        return "not measured: the model runs on another machine"
    if plan.config.country_iso_code is None:
        return f"estimated by CodeCarbon; carbon intensity: world average, {energy.WORLD_AVERAGE_G_PER_KWH:g} g/kWh"
    return f"estimated by CodeCarbon; carbon intensity of {plan.config.country_iso_code}"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
