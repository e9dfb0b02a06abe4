"""The design of a run: what task and settings mean for a model, before any answer is asked for, and the run's id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from nbannot.asking import prompts
from nbannot.asking.applies import NOT_DECIDED
from nbannot.asking.decisions import CLOSED, DECIDED, Reading
from nbannot.asking.request_reply import Model, ModelInfo
from nbannot.engine.job import Job, group_apart, group_fields, prompt_for
from nbannot.errors import ConfigError, TaskError, listed
from nbannot.models.addresses import is_loopback, served_from
from nbannot.models.pair import Pair
from nbannot.models.place import check_place
from nbannot.models.prices import prices_of
from nbannot.models.registry import get_model, split_name
from nbannot.models.several import Several
from nbannot.models.together import Together
from nbannot.record import tables
from nbannot.record.folder import CONFIG, METRICS
from nbannot.record.run import hash_of_configuration
from nbannot.running.answering import (
    READING,
    answering,
    changed,
    check_budget,
    check_decisions,
    check_delivery,
    check_workers,
    fields_asked,
    reply_tokens_of,
)
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.corpus import Corpus
from nbannot.study.names import finder_of
from nbannot.study.personal_data import REPLACE_IT, PersonalData, personal_data
from nbannot.study.settings import SETTINGS
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task
from nbannot.tools.files import name_fault, read_json

Say = Callable[[str], None]
"""Shows one line about what is going on."""

SEVERAL = "several servers"
"""What stands for the address in the identity of a run on several servers: they serve the same, wherever they are."""


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
    def searched(self) -> PersonalData:
        """What looks like personal data in the texts that would leave this machine: nothing if none would."""
        if self.info.is_local:
            return PersonalData(0, {})
        return personal_data(self.task, find_names=self.config.find_names)

    @cached_property
    def personal_data(self) -> str:
        """That in words; "" if there is nothing to say."""
        return self.searched.words

    @property
    def opening_lines(self) -> tuple[str, ...]:
        """What is said before the first call: of the model, of personal data, and of what is not asked."""
        advice = f"{self.personal_data} {REPLACE_IT}" if self.searched.seen else self.personal_data
        unasked = f"{listed(self.job.unasked)}: not asked; {NOT_DECIDED}." if self.job.unasked else ""
        return (*self.info.notes, *filter(None, (advice, unasked)))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The canonical form of everything that decides the answers.

        The same model on another port is the same; a run that was kept under its port before keeps its id.
        """
        several = isinstance(self.config.base_url, tuple)
        named = (
            list(self.config.base_url) if isinstance(self.config.base_url, tuple) else self.config.base_url
        )
        typed = self._identity(named)
        if named is None or (not several and self._begun(typed)):
            return typed
        places = self._places()
        own = self._identity(places[0] if len(places) == 1 else SEVERAL + self._other_name())
        if self._begun(own):
            return own
        if len(places) > 1:  # begun at one of them alone, before the others were added
            return next((one for place in places if self._begun(one := self._identity(place))), own)
        before = self._identity(SEVERAL + self._other_name())  # begun at this server and others
        kept = read_json(self._folder_of(before) / CONFIG).get("base_url") or []
        return before if places[0] in self._places(kept) else own

    def _begun(self, identity: Mapping[str, Any]) -> bool:
        """Return whether there is a run with this identity."""
        return (self._folder_of(identity) / CONFIG).exists()

    def _places(self, addresses: Any = None) -> list[str]:
        """Return the servers' addresses without their ports, each once, and what the model is there if named otherwise.

        Parameters
        ----------
        addresses
            Those of another run; its own when left out.
        """
        addresses = self.config.base_url if addresses is None else addresses
        every = [addresses] if isinstance(addresses, str) else addresses
        return list(dict.fromkeys(f"{served_from(str(one))}{self._other_name()}" for one in every))

    def _other_name(self) -> str:
        root = self.info.details.get("root")
        return f"#{root}" if root and root != self.info.name else ""

    def _identity(self, base_url: Any) -> dict[str, Any]:
        decided = {
            name: value
            for name, value in self.config.to_dict().items()
            if SETTINGS[name].decides and name not in RESOLVED
        }
        return {
            **decided,
            "base_url": base_url,
            "model": self.info.full_name,
            "model_digest": self.info.digest,
            "max_tokens": self.job.max_tokens,
            "answer_mode": self.job.answer_mode,
            "calibration": "batch" if self.job.calibrated else "none",
            "fields": [f.column for f in self.job.fields],
            "codebook_hash": self.task.codebook.hash,
            "data_hash": self.data_hash,
            "prompt_hash": self.prompt_hash,
            "text_code": self.job.code,
            **self._decided_by(),
        }

    def _decided_by(self) -> dict[str, Any]:
        """Return what further decides the answers where they are decisions, or are read as no most probable label."""
        if not self.job.decides:
            return {name: getattr(self.config, name) for name in changed(self.config, *READING)}
        reading, second = self.job.reading, self.info.details.get("text_model")
        decided = {"threshold": reading.threshold, "scale_answer": reading.scale}
        if second:
            decided |= {"text_model": second["full_name"], "text_model_digest": second["digest"]}
        return decided

    @cached_property
    def run_id(self) -> str:
        """First 8 hex characters of the SHA-256 of `identity`, none that a table reader takes for a number."""
        return _id_of(self.identity)

    def _folder_of(self, identity: Mapping[str, Any]) -> Path:
        return Path(self.config.output_root) / self.task.name / _id_of(identity)

    @property
    def config_hash(self) -> str:
        """SHA-256 (hex) of how it asks: what is frozen before the test half is looked at."""
        return hash_of_configuration(self.identity)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self._folder_of(self.identity)

    @property
    def model_id(self) -> str:
        """The run's short readable name."""
        kind = self.job.kind
        return self.config.model_id("" if kind.built_in else kind.hash[:6])


def _id_of(identity: Mapping[str, Any]) -> str:
    text = json.dumps(identity, ensure_ascii=False, sort_keys=True)
    number = 0
    while True:
        mark = f"{text}{number}" if number else text
        run_id = hashlib.sha256(mark.encode()).hexdigest()[:8]
        if tables.safe_run_id(run_id):
            return run_id
        number += 1


RESOLVED = {
    "model": "its full name and the digest of its weights",
    "max_tokens": "the longest reply that is allowed, also where it is unset",
    "answer_mode": "the mode that is used",
    "calibration": "whether answers are calibrated",
    "fields": "the columns that are asked",
    "limit": "the rows, in the hash of the data",
    "ids": "the rows, in the hash of the data",
    "split": "the rows, in the hash of the data",
    "sample": "the rows, in the hash of the data",
    "sample_by": "the rows, in the hash of the data",
    "sample_seed": "the rows, in the hash of the data",
    "threshold": "how probabilities become labels, where a decision model gives them or it is not the default",
    "scale_answer": "how probabilities become labels, where a decision model gives them or it is not the default",
    "text_model": "its full name and the digest of its weights",
    "option_order": "the wording, in the hash of the prompt, where a dropdown is asked",
    "base_url": "the host and its path: the same model on another port is the same model",
}
"""Settings that decide answers and do not enter the identity of a run as they stand, and what does in their place."""


def as_task(
    task: Task | str | Path | Any,
    config: RunConfig,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
) -> Task:
    """Return what `run` was given as a `Task`."""
    own = {name: column for name in ("cluster", "weights") if (column := getattr(config, name)) is not None}
    if own and not (codebook is not None and isinstance(task, Task | str | Path)):
        whole = as_task(task, config.change(cluster=None, weights=None), codebook)
        return whole if all(getattr(whole, n) == c for n, c in own.items()) else whole.scored_by(**own)
    if codebook is not None and isinstance(task, Task | str | Path):
        raise TaskError(
            "codebook= goes with a DataFrame; a task or a folder has a codebook of its own.\n"
            "  To use another one: Task(task.data, codebook, name=...)."
        )
    if isinstance(task, Task):
        return task
    if isinstance(task, Corpus):
        raise TaskError(
            f"'{task.name}' is a corpus, which is read as it is needed; this takes a task in memory.\n"
            "  A corpus goes into run, plan, sweep and %annotate; load_run(...).whole() has its texts in memory."
        )
    if isinstance(task, str | Path):
        return load_task(task, task_root=config.task_root)
    if codebook is None:
        raise TaskError(
            "a DataFrame needs a codebook: run(frame, codebook=...), or make a Task(frame, codebook)."
        )
    return Task(task, cast(Codebook, codebook))  # which makes one of the others


def dev_by_default(
    task: Task, config: RunConfig, reason: str | None = None, *, asks: bool = True
) -> RunConfig:
    """Return the settings for a task whose split is locked: dev where nothing is said, test only with a reason.

    Parameters
    ----------
    asks
        Whether the labels will be scored; looking at what would be sent needs no reason.

    Raises
    ------
    ConfigError
        If the test half is asked for without a reason, or a worked example of the prompt is one of its texts.
    """
    lock = task.sealed(config.output_root).split_lock
    if lock is None:
        return config
    if config.split is None and config.ids is None and not lock.test_ids.issuperset(task.ids):
        config = config.change(split="dev")
    if config.split == "test" and asks and not (reason and reason.strip()):
        raise ConfigError(
            f"the test half of '{task.name}' is locked ({lock.words}): prompts are chosen on dev.\n"
            '  To look at it, say why, and it is counted: run(task, config, split="test", '
            'reason="final model, chosen on dev"); in a cell or on the command line --reason "…".'
        )
    shown = sorted(task.examples() & lock.test_ids) if config.use_examples else []
    if shown:
        raise ConfigError(
            f"the codebook has texts of the test half as worked examples: {listed(shown, 3)}.\n"
            "  Examples come from dev: take others, or use_examples=False."
        )
    return config


def design(
    task: Task, config: RunConfig, model: Model | None = None, say: Say | None = None
) -> tuple[Design, Model]:
    """Return what the config means for this task, and the model, which is asked what it is.

    Raises
    ------
    ConfigError, ModelError, TaskError
        If the settings do not fit the task or the model.
    """
    if fault := _name_fault(task.name, config.output_root):
        raise fault
    chosen = task.selected(config.to_dict())
    if not len(chosen):
        raise TaskError(f"no text of task '{task.name}' is selected by sample, limit, ids and split.")
    fields = fields_asked(task.codebook, config)
    kind = prompts.prompt_type(config.prompt_type)
    if model is None:
        model = get_model(config, say)
        if config.workers is not None:
            check_workers(config, model)
            from nbannot.engine.workers import Workers

            model = cast(Model, Workers(config, model, say))
    learn = getattr(model, "fit", None)
    if learn is not None:  # a supervised baseline: the only kind of model that is given human labels
        learn(task, fields)
    decides = getattr(model, "decides", False)
    writes = bool(config.text_model) or getattr(model, "writes", not decides)
    check_decisions(config, fields, decides=decides, writes=writes)
    if decides and config.text_model and isinstance(config.base_url, tuple):
        raise ConfigError(
            "text_model goes with one base_url, not with several.\n"
            "  Ask the closed fields of several servers, and the others in a run of their own (fields = [...])."
        )
    if decides and config.text_model and not isinstance(model, Pair):
        model = Pair(model, _writer(config, say))
    check_delivery(config, model)
    info = _written_only(config) if config.delivery == "file" else model.info()
    if config.delivery != "file" and not isinstance(model, Several):  # whose addresses were all looked at
        for one in (model.decider, model.writer) if isinstance(model, Pair) else (model,):
            about = one.info()
            through = [place] if (place := getattr(one, "through", None)) else []
            check_place(config, about.full_name, through + ([] if about.is_local else [_outside(about)]))
    if config.find_names and not info.is_local:
        finder_of(config.find_names)  # refused before anything is asked or written
    mode, calibrated = answering(config, kind, model, info, fields)
    together = mode == "score" and not decides and config.fields_per_query != "one"
    if together and config.delivery != "now":
        raise ConfigError(
            f'delivery = "{config.delivery}" asks one question per request where answers are scored. Got '
            f'fields_per_query = "{config.fields_per_query}" with answer_mode = "score".\n'
            '  Use fields_per_query = "one", or answer_mode = "generate".'
        )
    if together and isinstance(model, Several):
        raise ConfigError(
            "fields that are scored behind one beginning are asked of one server. Got a list as base_url.\n"
            '  Give one address, or use fields_per_query = "one".'
        )
    if together and config.workers is None and not isinstance(model, Together):
        model = Together(model)
    closed_how = config.fields_per_query
    if decides:
        closed_how = "one" if config.calibration == "batch" else "all"
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
        groups=group_apart(
            task.codebook, fields, DECIDED if decides else CLOSED, closed_how, config.fields_per_query
        )
        if decides or together
        else group_fields(task.codebook, fields, config.fields_per_query),
        answer_mode=mode,
        calibrated=calibrated,
        decides=decides,
        together=together,
        reading=Reading(config.threshold, config.scale_answer, config.option_order, config.seed),
        unasked={f.column: NOT_DECIDED for f in fields if f.type not in DECIDED} if not writes else {},
        code=prompts.text_code(task.texts, texts if config.metadata_columns else ()),
        max_tokens=config.max_tokens
        or reply_tokens_of(model, reasons=kind.reasons or bool(config.reasoning)),
        prices=None if isinstance(model, Pair) and not config.prices else prices_of(config, info),
    )
    check_budget(config, info, job.prices)
    wording = [prompt_for(job, group) for group in job.groups]
    return Design(chosen, task, config, info, job, prompts.prompt_hash(kind, wording)), model


def _outside(info: ModelInfo) -> str | None:
    """Return where a model is that is not on this machine; ``None`` for one that a server here reaches elsewhere."""
    return None if info.endpoint and is_loopback(info.endpoint) else info.endpoint


def _name_fault(name: str, output_root: str) -> ConfigError | TaskError | None:
    """Return what is wrong with the names of the folders that a run makes."""
    if "\0" in str(output_root):
        return ConfigError(f"output_root must be the name of a folder. Got {str(output_root)[:60]!r}.")
    fault = name_fault(name)
    if name.casefold() == METRICS:
        fault = f"is the name of the folder of the tidy tables, outputs/{METRICS}"
    if not fault:
        return None
    return TaskError(
        f"a task's name is that of a folder in outputs, and {name[:60]!r} {fault}.\n"
        "  Rename its folder, or give another name: Task(..., name=...)."
    )


def _writer(config: RunConfig, say: Say | None) -> Model:
    """Return the model that answers the open questions beside a decision model; the address is not its own."""
    assert config.text_model is not None
    writer = get_model(config.change(model=config.text_model, base_url=None), say)
    if getattr(writer, "decides", False) or getattr(writer, "learns_from_labels", False):
        raise ConfigError(
            f"text_model = {config.text_model!r} writes no texts and quotes no passages.\n"
            '  Name a language model, e.g. text_model = "local".'
        )
    return writer


def _written_only(config: RunConfig) -> ModelInfo:
    """Return what is known of a model whose requests are written to files: nobody is asked."""
    backend, name = split_name(config.model)
    note = "Requests are written to files in the run's folder; nothing is sent from here."
    return ModelInfo(
        name,
        backend,
        endpoint=config.base_url if isinstance(config.base_url, str) else None,
        is_local=True,
        energy_measured=False,
        notes=(note,),
    )
