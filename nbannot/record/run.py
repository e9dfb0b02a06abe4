"""A run: a folder on disk and everything that can be said of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.asking.applies import NOT_REACHED
from nbannot.engine import energy
from nbannot.engine.job import Outcome, Progress
from nbannot.models.prices import charged_in, stored_prices
from nbannot.page.blocks import Grid
from nbannot.page.latex import tables_latex
from nbannot.page.shown import Shown, show
from nbannot.record import folder, tables
from nbannot.record.coding import Coding
from nbannot.record.columns import setting_cell
from nbannot.record.differences import same_value
from nbannot.record.probabilities import probability_frame
from nbannot.record.scoring import Scored
from nbannot.study.config import settings_in
from nbannot.study.settings import SETTINGS
from nbannot.study.task import Task
from nbannot.tools.files import read_json

if TYPE_CHECKING:
    from nbannot.page.fragment import Fragment
    from nbannot.tools.frames import Frame

TEST_LOOK = "test_look"
"""In ``config.json``, under ``scoring``: which look at a locked test half the scoring was."""
COMPLETE, PARTIAL, FAILED, RUNNING = "complete", "partial", "failed", "running"


OF_THE_TEXTS = frozenset({"data_hash", "limit", "ids", "split", "sample", "sample_by", "sample_seed"})
"""What in a run's identity says which texts were asked about, not how."""


def hash_of_configuration(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of how a run asks, whatever texts it asks about: dev, test, a corpus."""
    how = {name: value for name, value in identity.items() if name not in OF_THE_TEXTS}
    return hashlib.sha256(json.dumps(how, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


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
    calls
        Number of calls in its ledger.
    unfitting
        How many answers could not be asked for because of a setting or the server, e.g. its context window.
    """

    _display: ClassVar[str] = "run_card"

    folder: Path
    config: Mapping[str, Any]
    task: Task
    coding: Coding
    outcome: Outcome | None = field(default=None, compare=False)
    calls: int = field(default=0, compare=False)
    unfitting: int = field(default=0, compare=False)

    @property
    def run_id(self) -> str:
        """8 hex characters; the name of the folder and the key of the tables."""
        return str(self.config["run_id"])

    @property
    def status(self) -> str:
        """complete, partial (some answers failed or are missing) or failed (none came)."""
        return str(self.config.get("status", COMPLETE))

    @property
    def config_hash(self) -> str:
        """SHA-256 (hex) of all that decides an answer: configurations that looked at a test half are counted by it."""
        identity = self.config.get("identity")
        return hash_of_configuration(identity) if isinstance(identity, dict) else self.run_id

    @property
    def n_texts(self) -> int:
        """Number of texts that the run is about."""
        return len(self.task)

    @property
    def by_status(self) -> dict[str, int]:
        """How many answers have each status, over all fields."""
        return self.coding.count()

    @property
    def n_open(self) -> int:
        """How many answers running again can still bring."""
        return sum(
            answer.status == "failed" or (answer.status == "not_asked" and NOT_REACHED in answer.reason)
            for answers in self.coding.answers.values()
            for answer in answers
        )

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
        return read_json(self.folder / folder.TIMING)

    @cached_property
    def energy(self) -> dict[str, Any]:
        """Total energy (kWh), emissions (kg CO2e) and hardware; empty where nothing was measured.

        `by_model` is there where a decision model and a text model were asked: kWh while each of them was.
        """
        apart = read_json(self.folder / folder.CHARS).get("energy_kwh")
        return energy.totals(self.folder / folder.EMISSIONS) | ({"by_model": apart} if apart else {})

    def report(self, field: str | None = None) -> Fragment:
        """Return the report: scores against the human labels, to read (text, and HTML in a notebook).

        Parameters
        ----------
        field
            Name or column of one field, to report on it alone.

        Raises
        ------
        CodebookError, ScoringError
            If the codebook has no such field, or it was not asked.
        """
        return show("report", self, field)

    def to_latex(self, field: str | None = None, caption: str | None = None, label: str | None = None) -> str:
        """Return the first table of the report as LaTeX for a journal; with `field`, every table on that field.

        Parameters
        ----------
        caption, label
            Of the first table.
        """
        fragment = self.report(field)
        if field is not None:
            return fragment.to_latex(caption, label)
        tables = [block for block in fragment.blocks if isinstance(block, Grid)][:1]
        said = f"{self.task.name}, {self.model_id}: labels of the model against those of people"
        return tables_latex(tables, caption or said, label)

    def show(self, text_id: str) -> Fragment:
        """Return one text: both labels of every field, the probability, and below it every message and reply.

        Raises
        ------
        ScoringError
            If the run has no such text.
        """
        return show("one_text", self, text_id)

    @property
    def scoring(self) -> dict[str, Any]:
        """How the run was scored last, where that was chosen: what belongs together, and what texts count for."""
        kept = self.config.get("scoring")
        if not isinstance(kept, dict):
            return {}
        chosen = {}
        for name, of_task in (("cluster", "of_task"), ("weights", "weights_of_task")):
            column = kept.get(name)
            by_task = kept.get(of_task) and getattr(self.task, name) is not None
            if not by_task and (column == "" or column in self.task.data.columns):
                chosen[name] = column
        return chosen

    def probabilities(self, *, wide: bool = False) -> Frame:
        """Return the probability of every option, as far as the model gave them.

        Parameters
        ----------
        wide
            One row per text with columns ``<column>=<option>``, instead of one per text, field and option.
        """
        return probability_frame(self.coding, wide=wide)

    @property
    def metrics_dir(self) -> Path:
        """Where the task's tidy tables are."""
        return self.folder.parent.parent / "metrics"

    @property
    def cost(self) -> float | None:
        """What the tokens cost, in the unit of the prices; ``None`` where tokens or prices are not known.

        Where the provider itself says what it has charged (OpenRouter), that is it, in US$, unless prices were given.
        Tokens that came in a batch cost what is known of the provider's batches, or as much as any where nothing is.
        """
        counts = read_json(self.folder / folder.CHARS)
        if (charged := charged_in(self.config, counts)) is not None:
            return charged
        prices = stored_prices(self.config)
        return None if prices is None else prices.of_run(counts)

    def table_row(self) -> dict[str, Any]:
        """Return the run's row of the runs table."""
        config, timing = self.config, self.timing
        chars = read_json(self.folder / folder.CHARS)
        n = timing.get("inference_count") or 0
        used = self.energy if energy.in_full(config.get("energy")) else {}
        energy_kwh, emissions = used.get("total_energy_kwh"), used.get("total_emissions_kg")

        def per_query(value: float | None) -> float | None:
            return value / n if n and value is not None else None

        settings = settings_in(config)
        return {
            **{
                name: setting_cell(name, settings.get(name))
                for name in tables.RUNS_COLUMNS
                if name in SETTINGS
            },
            "backend": config["model_info"].get("backend"),
            "cost": self.cost,
            "model_changes": "; ".join(config.get("model_changes") or ()) or None,
            **self._energy_per_label(energy_kwh),
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
            "n_texts": self.n_texts,
            "n_labels_valid": self.by_status.get("ok", 0),
            "input_tokens": chars.get("input_tokens"),
            "output_tokens": chars.get("output_tokens"),
            "wall_time_s": timing.get("wall_time"),
            "cluster": self.scores.settings.get("cluster") or None,
            "weights": self.scores.settings.get("weights") or None,
            **self._look(),
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

    def _look(self) -> dict[str, int | None]:
        """Return which look at a locked test half this run was, and how many configurations had looked by then."""
        lock = self.task.split_lock
        k = lock.look_of(self.run_id) if lock is not None and lock.opened else 0
        return {
            "test_look": max(k, self.kept_look) or None,
            "test_configurations": lock.consulted_by(k) if lock is not None and k else None,
        }

    @property
    def kept_look(self) -> int:
        """Which look at a locked test half it was, by its own ``config.json``, whatever the log says; 0 if none."""
        kept = self.config.get("scoring")
        k = kept.get(TEST_LOOK) if isinstance(kept, dict) else None
        return k if isinstance(k, int) else 0

    def _energy_per_label(self, energy_kwh: float | None) -> dict[str, float | None]:
        """Return the energy (Wh) per valid label, and per label that people agree with.

        The second is the first, divided by the share of the valid labels that people gave too, among those with one.
        """
        valid = self.coding.count().get("ok", 0)
        per_valid = energy_kwh * 1000 / valid if energy_kwh is not None and valid else None
        compared = [
            same_value(f, answer.value, human)
            for f in self.coding.fields
            if f.column in self.task.label_columns
            for answer, human in zip(self.coding.answers[f.column], self.task.human(f.column), strict=True)
            if answer.status == "ok" and human is not None
        ]
        right = sum(compared)
        per_correct = per_valid * len(compared) / right if per_valid is not None and right else None
        return {"energy_wh_per_valid_label": per_valid, "energy_wh_per_correct_label": per_correct}

    def design_frame(self, column: str | None = None, probability: str | None = None) -> Frame:
        """Return one row per text with the model's and people's labels for R's ``dsl`` or Stata; see `design_frame`."""
        from nbannot.record.design_frame import design_frame

        return design_frame(self, column, probability)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of '{self.task.name}': {self.model_id}, {self.status}>"


def status_of(coding: Coding) -> str:
    """Return complete, partial (some answers failed or are missing) or failed (none came)."""
    if coding.complete:
        return COMPLETE
    return PARTIAL if coding.count().get("ok") else FAILED
