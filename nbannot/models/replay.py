"""The replay model: answers from an earlier run's ledger, so that a study can be gone through again without its model.

``replay/<run folder>`` gives back, for a request with the same key and the same messages, exactly the stored reply:
raw text, reasoning, probabilities, finish reason, token counts and seconds. Nothing is invented: a request that the
run did not make is answered with an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbannot.asking.ledger import FILE
from nbannot.asking.ledger_lines import messages_hash, read_lines, reply_of
from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, RunError, nearest
from nbannot.tools.given import path_or

PARALLEL = 32


class ReplayModel:
    """The replies of an earlier run.

    Where a call was made more than once (it failed and was sent again), the last reply without an error counts.

    Parameters
    ----------
    name
        The run folder, e.g. ``outputs/policy-sentiment/a1b2c3d4``; ``~`` is the home folder.
    """

    parallel = PARALLEL
    answer_modes: tuple[AnswerMode, ...] = ("score", "generate")

    def __init__(self, name: str = "", **_: Any) -> None:
        self.name = name
        self.folder = path_or(ModelError, name)
        self._replies: dict[tuple[str, str], Reply] | None = None

    @property
    def decides(self) -> bool:
        """Whether the recorded model was a decision model."""
        return bool(self._config().get("decides"))

    @property
    def writes(self) -> bool:
        """Whether a decision model's open questions were answered too, by the second model of the recorded run."""
        return bool(self._config().get("text_model"))

    def info(self) -> ModelInfo:
        """Return what the recorded run said of its model, as far as its ``config.json`` tells.

        Raises
        ------
        ModelError
            If the folder has no readable ledger.
        """
        number = len(self._recorded())
        config = self._config()
        model = config.get("model") or "an unknown model"
        return ModelInfo(
            name=self.name,
            backend="replay",
            digest=config.get("model_digest"),
            quantization=config.get("quantization_type"),
            energy_measured=False,
            notes=(
                f"Replayed from {self.folder}: {number} recorded replies of {model}; no model was asked.",
            ),
            details={"recorded_model": config.get("model"), "recorded_run": config.get("run_id")},
        )

    async def open(self) -> None:
        """Read the ledger.

        Raises
        ------
        ModelError
            If the folder has no readable ledger.
        """
        self._recorded()

    async def close(self) -> None:
        """Do nothing: the replies stay in memory."""

    async def ask(self, request: Request) -> Reply:
        """Return the recorded reply to this request, or an error if the run made no such request."""
        reply = self._recorded().get((request.key, messages_hash(request.messages)))
        if reply is None:
            return Reply(error=self._missing(request), retriable=False, finish_reason="error")
        return reply

    def _missing(self, request: Request) -> str:
        if any(key == request.key for key, _ in self._recorded()):
            return f"not in the recorded run {self.folder}: {request.key} was asked in other words"
        return f"not in the recorded run {self.folder}: {request.key}"

    def _recorded(self) -> dict[tuple[str, str], Reply]:
        if self._replies is None:
            self._replies = self._read()
        return self._replies

    def _read(self) -> dict[tuple[str, str], Reply]:
        ledger = self.folder / FILE
        if not ledger.is_file():
            raise ModelError(self._no_ledger())
        replies: dict[tuple[str, str], Reply] = {}
        try:
            for record in read_lines(ledger):
                if "text_id" not in record:
                    continue
                key = f"{record['text_id']}|{'+'.join(record['columns'])}|{record['attempt']}"
                reply = reply_of(record)
                if reply.error is None or (key, record["messages_hash"]) not in replies:
                    replies[key, record["messages_hash"]] = reply
        except (RunError, OSError, KeyError, TypeError) as error:
            reason = f"a line has no {error}" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"The ledger '{ledger}' cannot be replayed: {reason}") from error
        return replies

    def _no_ledger(self) -> str:
        if not self.name:
            what, near = "The replay model needs the folder of a run.", ""
        else:
            what = f"There is no {FILE} in '{self.folder}' (looked in {Path.cwd()})."
            beside = self.folder.parent
            runs = [folder.name for folder in beside.iterdir()] if beside.is_dir() else []
            near = nearest(self.folder.name, runs)
        return f'{what[:-1]}{near or "."}\n  Type model = "replay/outputs/<task>/<run_id>".'

    def _config(self) -> dict[str, Any]:
        try:
            config = json.loads((self.folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return config if isinstance(config, dict) else {}
