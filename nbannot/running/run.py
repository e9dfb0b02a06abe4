"""A run: the one place where the steps meet. Task + config → prompts → model → answers → folder → scores → tables."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from nbannot import __version__
from nbannot.engine import energy
from nbannot.record import folder
from nbannot.asking import ledger
from nbannot.asking import prompts
from nbannot.record import tables
from nbannot.study.codebook import Codebook, Field
from nbannot.record.coding import Coding, from_folder, from_session
from nbannot.study.config import RunConfig, settings_in
from nbannot.engine.engine import Job, Outcome, Progress, Tick, annotate, group_fields
from nbannot.errors import (
    GO_ON,
    ConfigError,
    NbannotError,
    RunError,
    RunInterrupted,
    TaskError,
    listed,
    tidy_interrupt,
)
from nbannot.models import Model, ModelInfo, get_model
from nbannot.record.scoring import Scored
from nbannot.page.shown import Shown, watching
from nbannot.study.task import Task, load_task

Say = Callable[[str], None]
"""Shows one line about what is going on."""

COMPLETE, PARTIAL, FAILED, RUNNING = "complete", "partial", "failed", "running"
PACKAGES = ("aiohttp", "codecarbon", "huggingface_hub", "krippendorff", "numpy", "pandas", "polars", "scikit-learn",
            "scipy", "xllamacpp")  # fmt: skip
HUMAN_LABELS = "human_labels.csv"
REPLY_TOKENS = 1024
"""Longest reply where neither the settings nor the model say."""


@dataclass(frozen=True)
class Design:
    """What a config means for a task and a model: everything that decides the answers, before any is asked for."""

    task: Task
    whole: Task
    config: RunConfig
    info: ModelInfo
    job: Job
    prompt_hash: str

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of ids, texts and metadata that are sent."""
        return self.task.data_hash(self.config.metadata_columns or ())

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The canonical form of everything that decides the answers."""
        decided = {
            name: value
            for name, value in self.config.to_dict().items()
            if name in IDENTITY and name not in ("model", "max_tokens")
        }
        return {
            **decided,
            "model": self.info.full_name,
            "model_digest": self.info.digest,
            "max_tokens": self.job.max_tokens,
            "answer_mode": self.job.answer_mode,
            "calibration": "batch" if self.job.calibrated else "none",
            "fields": [f.column for f in self.job.fields],
            "codebook_hash": self.task.codebook.hash,
            "data_hash": self.data_hash,
            "prompt_hash": self.prompt_hash,
        }

    @cached_property
    def run_id(self) -> str:
        """First 8 hex characters of the SHA-256 of `identity`, none that a table reader takes for a number."""
        text = json.dumps(self.identity, ensure_ascii=False, sort_keys=True)
        number = 0
        while True:
            mark = f"{text}{number}" if number else text
            run_id = hashlib.sha256(mark.encode()).hexdigest()[:8]
            if tables.safe_run_id(run_id):
                return run_id
            number += 1

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return Path(self.config.output_root) / self.task.name / self.run_id

    @property
    def model_id(self) -> str:
        """The run's short readable name."""
        kind = self.job.kind
        return self.config.model_id("" if kind.built_in else kind.hash[:6])


IDENTITY = frozenset(
    name
    for name in (
        "model", "prompt_type", "use_examples", "temperature", "top_p", "top_k", "seed", "max_tokens", "context_size",
        "chat_mode", "reasoning", "process_textbox", "process_span", "fields_per_query", "retries", "retry_strategy",
        "retry_temperature", "metadata_columns", "base_url", "repeat",
    )
)  # fmt: skip
"""The settings that are part of a run's identity as they stand; rows and fields enter by what they select."""


def as_task(
    task: Task | str | Path | Any,
    config: RunConfig,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
) -> Task:
    """Return what `run` was given as a `Task`."""
    if codebook is not None and isinstance(task, Task | str | Path):
        raise TaskError(
            "codebook= goes with a DataFrame; a task or a folder has a codebook of its own.\n"
            "  To use another one: Task(task.data, codebook, name=...)."
        )
    if isinstance(task, Task):
        return task
    if isinstance(task, str | Path):
        return load_task(task, task_root=config.task_root)
    if codebook is None:
        raise TaskError(
            "a DataFrame needs a codebook: run(frame, codebook=...), or make a Task(frame, codebook)."
        )
    return Task(task, cast(Codebook, codebook))  # which makes one of the others


def design(
    task: Task, config: RunConfig, model: Model | None = None, say: Say | None = None
) -> tuple[Design, Model]:
    """Return what the config means for this task, and the model, which is asked what it is.

    Raises
    ------
    ConfigError, ModelError, TaskError
        If the settings do not fit the task or the model.
    """
    chosen = task.select(config.limit, config.ids, config.split)
    if not len(chosen):
        raise TaskError(f"no text of task '{task.name}' is selected by limit, ids and split.")
    fields = _fields(task.codebook, config)
    kind = prompts.prompt_type(config.prompt_type)
    model = model or get_model(config, say)
    learn = getattr(model, "fit", None)
    if learn is not None:  # a supervised baseline: the only kind of model that is given human labels
        learn(task, fields)
    info = model.info()
    mode = config.answer_mode or (
        model.answer_modes[0] if not kind.reasons and config.fields_per_query == "one" else "generate"
    )
    if mode not in model.answer_modes:
        raise ConfigError(
            f'{info.full_name} cannot answer with answer_mode = "{mode}".\n  It has: {listed(model.answer_modes)}.'
        )
    if mode == "score" and kind.reasons:
        raise ConfigError(
            f'answer_mode = "score" leaves no room to reason. Got prompt_type = "{kind.name}", which reasons.'
        )
    scored = mode == "score" and any(f.type in ("checkbox", "dropdown", "likert") for f in fields)
    calibrated = scored and config.chat_mode == "per_query" and config.calibration != "none"
    if config.calibration == "batch" and not scored:
        raise ConfigError(
            f'calibration = "batch" needs scored answers; {info.full_name} answers with "{mode}".'
        )
    missing = [name for name in config.metadata_columns or () if name not in task.other_columns]
    if missing:
        raise ConfigError(
            f"metadata_columns that cannot be sent: {listed(missing)}.\n  There are: {listed(task.other_columns, 12)}."
        )
    texts: Sequence[str] = chosen.texts
    if config.metadata_columns:
        rows = chosen.data.select(list(config.metadata_columns)).iter_rows(named=True)
        texts = [prompts.with_metadata(text, row) for text, row in zip(texts, rows, strict=True)]
    job = Job(
        codebook=task.codebook,
        config=config,
        kind=kind,
        ids=chosen.ids,
        texts=texts,
        originals=chosen.texts,
        groups=group_fields(task.codebook, fields, config.fields_per_query),
        answer_mode=mode,
        calibrated=calibrated,
        max_tokens=config.max_tokens or _reply_tokens(model, reasons=kind.reasons or bool(config.reasoning)),
    )
    wording = [prompts.compose(kind, group, use_examples=config.use_examples) for group in job.groups]
    return Design(chosen, task, config, info, job, prompts.prompt_hash(kind, wording)), model


def _reply_tokens(model: Model, *, reasons: bool) -> int:
    """Return the longest reply to allow where `max_tokens` is unset; a small model that runs on is cut early."""
    plain: int = getattr(model, "reply_tokens", REPLY_TOKENS)
    return 4 * plain if reasons else plain


def _fields(codebook: Codebook, config: RunConfig) -> list[Field]:
    chosen = [codebook[name] for name in config.fields] if config.fields is not None else list(codebook)
    left_out = {"textbox": not config.process_textbox, "span": not config.process_span}
    fields = [f for f in codebook if f in chosen and not left_out.get(f.type)]
    if not fields:
        raise ConfigError("no field is left to ask: see fields, process_textbox and process_span.")
    return fields


@tidy_interrupt()
def run(
    task: Task | str | Path | Any,
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
    fresh: bool = False,
    retry: Literal["invalid", "failed"] | None = None,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    say: Say | None = None,
    **settings: Any,
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
    plan, model = design(task, config, say=say)
    while fresh and plan.folder.exists():
        config = config.change(repeat=config.repeat + 1)
        plan, model = design(task, config, model)
    stored = folder.read_json(plan.folder / folder.CONFIG)
    _same_run(stored, plan)
    if stored.get("status") == COMPLETE and retry != "invalid":
        found = load_run(plan.folder, task=task)
        if not found.scores_are_saved:
            found.save_scores()
        if say and (word := _other_country(stored, plan)):
            say(word)
        return found
    folder.make_folder(plan.folder)
    with folder.held(plan.folder):
        if stored == {}:
            _begin(plan)
        done = _work(plan, model, tick, stop, say, ask_again=retry == "invalid")
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
    folder.write_json(plan.folder / folder.CONFIG, _config(plan, RUNNING))
    if plan.task.label_columns:
        folder.write_atomic(plan.folder / HUMAN_LABELS, _labels_text(plan.task))


def _labels_text(task: Task) -> str:
    """Return the human labels of a task as they stand in its data, one row per text, as CSV."""
    header = ["text_id", *task.label_columns]
    rows = zip(task.ids, *(list(task.data[name]) for name in task.label_columns), strict=True)
    return folder.csv_text(header, [list(row) for row in rows])


def _work(
    plan: Design,
    model: Model,
    tick: Tick | None,
    stop: threading.Event | None,
    say: Say | None,
    *,
    ask_again: bool,
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
    return _finish(plan, model, outcome, book.tally, record, time.monotonic() - started)


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
        folder.write_atomic(path, energy.emissions_csv(earlier, record))
    folder.write_atomic(place / folder.OUTPUT, folder.csv_text(*coding.output_rows()))
    folder.write_json(place / folder.TIMING, _timing(place, tally, outcome.progress, wall_time))
    folder.write_json(place / folder.CHARS, _chars(tally))
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
    folder.write_json(place / folder.CONFIG, _config(plan, status) | details)
    done = Run(place, folder.read_json(place / folder.CONFIG), plan.task, coding, outcome=outcome)
    if status != RUNNING and not outcome.interrupted:
        done.save_scores()
    return done


def _capabilities(place: Path, model: Model, progress: Progress) -> dict[str, Any]:
    """Return what the model was found to take; a session that sent nothing keeps what an earlier one found."""
    found: dict[str, Any] = getattr(model, "capabilities", {})
    if progress.calls == 0:
        found = folder.read_json(place / folder.CONFIG).get("capabilities") or found
    return found


def _status(coding: Coding, outcome: Outcome) -> str:
    if coding.complete and not outcome.stopped:
        return COMPLETE
    return PARTIAL if coding.count().get("ok") else FAILED


def _timing(place: Path, tally: ledger.Tally, progress: Progress, wall_time: float) -> dict[str, Any]:
    seconds = sorted(tally.seconds)
    total = sum(seconds)
    before = folder.read_json(place / folder.TIMING).get("wall_time", 0.0)
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
        folder.write_atomic(plan.folder / folder.TRACES, text)


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


@dataclass(frozen=True, repr=False)
class Run(Scored, Shown):
    """A run and everything that can be said of it; made by `run` or `load_run`.

    Attributes
    ----------
    folder
        Its folder on disk.
    config
        The content of its ``config.json``.
    coding
        Its answers, aligned with the texts.
    """

    _display: ClassVar[str] = "run_card"

    folder: Path
    config: Mapping[str, Any]
    task: Task
    coding: Coding
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def run_id(self) -> str:
        """8 hex characters; the name of the folder and the key of the tables."""
        return str(self.config["run_id"])

    @property
    def status(self) -> str:
        """complete, partial (some answers failed or are missing) or failed (none came)."""
        return str(self.config.get("status", COMPLETE))

    @property
    def model_id(self) -> str:
        """Short readable name of the settings."""
        return str(self.config.get("model_id") or self.config["model"])

    @property
    def progress(self) -> Progress:
        """How this session went; empty for a run that was loaded."""
        return self.outcome.progress if self.outcome else Progress()

    @cached_property
    def timing(self) -> dict[str, Any]:
        """The content of ``timing_data.json``, seconds."""
        return folder.read_json(self.folder / folder.TIMING)

    @cached_property
    def energy(self) -> dict[str, Any]:
        """Total energy (kWh), emissions (kg CO2e) and hardware; empty where nothing was measured."""
        return energy.totals(self.folder / folder.EMISSIONS)

    def report(self) -> Any:
        """Return the report: scores against the human labels, to read (text, and HTML in a notebook)."""
        from nbannot import displays

        return displays.report(self)

    @property
    def scores_are_saved(self) -> bool:
        """Whether report and tables hold the scores against the human labels that the task has now.

        They do not when the run was stopped before it was scored, or when labels were added or corrected since.
        """
        if not (self.folder / folder.REPORT).exists():
            return False
        kept = self.folder / HUMAN_LABELS
        before = kept.read_bytes().decode("utf-8", "surrogatepass") if kept.exists() else ""
        return not self.task.label_columns or before == _labels_text(self.task)

    def save_scores(self) -> None:
        """Score, put the run into the tidy tables in place of its rows, write the report, keep the human labels."""
        from nbannot.report.report import report_text

        tables.upsert(
            self.metrics_dir,
            self.task.name,
            long=self.scores.long_rows(self.run_id),
            runs=[self.table_row()],
            classes=self.scores.class_rows(self.run_id),
        )
        # After the tables, because they say that the tables have the run, and against which labels.
        folder.write_atomic(self.folder / folder.REPORT, report_text(self))
        if self.task.label_columns:
            folder.write_atomic(self.folder / HUMAN_LABELS, _labels_text(self.task))

    @property
    def metrics_dir(self) -> Path:
        """Where the task's tidy tables are."""
        return self.folder.parent.parent / "metrics"

    def table_row(self) -> dict[str, Any]:
        """Return the run's row of the runs table."""
        config, timing = self.config, self.timing
        chars = folder.read_json(self.folder / folder.CHARS)
        n = timing.get("inference_count") or 0
        energy_kwh, emissions = self.energy.get("total_energy_kwh"), self.energy.get("total_emissions_kg")

        def per_query(value: float | None) -> float | None:
            return value / n if n and value is not None else None

        settings = settings_in(config)
        return {
            **{name: settings.get(name) for name in tables.RUNS_COLUMNS if name in settings},
            "run_id": self.run_id,
            "timestamp": config.get("created"),
            "label": self.task.name,
            "model_id": self.model_id,
            "quantization_type": config["model_info"].get("quantization"),
            "codebook_path": config.get("codebook_path"),
            "experiment_directory": str(self.folder),
            "n_queries": n,
            "total_inference_time_s": timing.get("total_inference_time"),
            "avg_inference_time_per_query_s": per_query(timing.get("total_inference_time")),
            "total_input_chars": chars.get("input_chars"),
            "avg_input_chars_per_query": per_query(chars.get("input_chars")),
            "total_output_chars": chars.get("output_chars"),
            "avg_output_chars_per_query": per_query(chars.get("output_chars")),
            "total_energy_kwh": energy_kwh,
            "avg_energy_kwh_per_query": per_query(energy_kwh),
            "total_emissions_kg": emissions,
            "avg_emissions_kg_per_query": per_query(emissions),
            "cpu_model": self.energy.get("cpu_model"),
            "gpu_model": self.energy.get("gpu_model"),
            "ground_truth_path": config.get("ground_truth_path"),
            "n_texts": len(self.task),
            "n_labels_valid": self.coding.count().get("ok", 0),
            "input_tokens": chars.get("input_tokens"),
            "output_tokens": chars.get("output_tokens"),
            "wall_time_s": timing.get("wall_time"),
            **{
                name: config.get(name)
                for name in (
                    "status",
                    "codebook_hash",
                    "data_hash",
                    "prompt_hash",
                    "model_digest",
                    "nbannot_version",
                )
            },
        }

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of '{self.task.name}': {self.model_id}, {self.status}>"


def load_run(place: str | Path, *, task: Task | None = None) -> Run:
    """Return a run from its folder, ready to be scored, shown and compared; no model is needed.

    Parameters
    ----------
    place
        The run folder.
    task
        The task it was made from; found through the folder's ``config.json`` when left out.

    Raises
    ------
    RunError
        If the folder holds no run, or its data cannot be found.
    """
    path = Path(place).expanduser()
    config = folder.read_json(path / folder.CONFIG)
    if "run_id" not in config or not (path / folder.OUTPUT).exists():
        raise RunError(
            f"{path} is not a finished run folder: it has no {folder.OUTPUT} or no {folder.CONFIG}."
        )
    whole = task or _task_of(path, config)
    chosen = whole.select(config.get("limit"), config.get("ids"), config.get("split"))
    coding = from_folder(chosen, path, config["columns_asked"], config["run_id"])
    return Run(path, config, chosen, coding)


def _task_of(path: Path, config: Mapping[str, Any]) -> Task:
    """Return the task a run was made from: its own folder if it is still there and the same, else the run's copy."""
    source = config.get("ground_truth_path")
    if source and Path(source).exists():
        try:
            task = load_task(Path(source).parent)
            chosen = task.select(config.get("limit"), config.get("ids"), config.get("split"))
            same = chosen.data_hash(config.get("metadata_columns") or ()) == config["data_hash"]
            if same and task.codebook.hash == config["codebook_hash"]:
                return task
        except NbannotError:
            pass
    return _task_in_folder(path, config)


def _task_in_folder(path: Path, config: Mapping[str, Any]) -> Task:
    """Return the task as the run folder itself holds it: texts from ``output.csv``, people's labels from its copy."""
    from nbannot.study.task import read_csv

    codebook = Codebook.from_dict(config["codebook"], where=str(path / folder.CONFIG))
    output = read_csv(path / folder.OUTPUT)
    data = output.drop([f.column for f in codebook if f.column in output.columns])
    if (path / HUMAN_LABELS).exists():
        labels = read_csv(path / HUMAN_LABELS).drop("text_id")
        data = data.hstack(labels)
    task = Task(data, codebook, config["task_name"], path=None)
    # The folder holds the selected texts only: selecting again must find them all.
    return dataclasses.replace(task, rows=tuple(range(len(task))))
