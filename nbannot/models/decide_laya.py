"""The decision models of `laya` in this process: PyTorch, all questions of a text in one pass.

``decide/laya`` (English), ``decide/laya-multilingual`` and ``decide/laya-typed-decisions``, each also at a revision
(``decide/laya@<commit>``), or the path of a folder with a checkpoint. The files are looked for in the cache of
`huggingface_hub` first, fetched once, and identified by the digest of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot.asking.decisions import as_system_one
from nbannot.asking.request_reply import ModelInfo, Question
from nbannot.models.decide_weights import FetchedDecider

OWNER = "convaiinnovations"
CONFIG = "rl_agent_config.json"
FILES = (CONFIG, "model.safetensors", "tokenizer/*", "encoder/*")
"""Of the repository that holds several checkpoints, only the one at its root."""
REWRITTEN = ("tokenizer_config.json",)
"""What laya mends in place when it loads a checkpoint: its content says nothing of the weights."""


class Laya(FetchedDecider):
    """A model of `laya`.

    Parameters
    ----------
    name
        ``laya``, ``laya-multilingual``, ``laya-typed-decisions``, each with ``@<revision>`` or without, or the path of
        a folder with ``rl_agent_config.json``, ``model.safetensors``, ``tokenizer/`` and ``encoder/``.

    Raises
    ------
    ModelError
        If the package is not installed.
    """

    package = module = "laya"
    modules = ("numpy", "torch", "transformers", "laya")
    extra = 'pip install "nbannot[laya]" (with PyTorch, some gigabytes)'
    owner, mark, files, needed = OWNER, CONFIG, FILES, "model.safetensors"
    folder_words = f'model = "decide/laya-…/path" needs {CONFIG}, model.safetensors, tokenizer/ and encoder/.'
    rewritten = REWRITTEN

    def __init__(self, name: str, **_: Any) -> None:
        super().__init__(name)
        self._agent: Any = None
        self._told: tuple[str, dict[str, Any]] = ("", {})

    def _load(self, folder: Path) -> ModelInfo:
        import laya

        self._agent = laya.load(str(folder))
        return ModelInfo(
            name=self._shown_name,
            backend="decide",
            context_size=int(self._agent.cfg.get("max_len", 512)),
            server=f"laya {version('laya')}",
            details={"device": str(self._agent.device)},
        )

    def too_long(self, text: str, questions: Sequence[Question]) -> str:
        """Return why the model would not read all of the text; "" if it does."""
        usage: dict[str, Any] = {"truncated": False}
        try:
            usage = self._asked(text, questions)["usage"]
        except ValueError:
            if len(questions) > 1:  # one of them cannot be asked at all, and says so when it is its turn
                reasons = (self.too_long(text, [question]) for question in questions)
                return next(filter(None, reasons), "")
        if usage["truncated"]:
            return f"{usage['state_tokens_dropped']:,} of {usage['state_tokens']:,} tokens would be cut off"
        return ""

    def _asked(self, text: str, questions: Sequence[Question]) -> dict[str, Any]:
        """Return what the model says to all questions, which the last one asked is remembered of."""
        told: dict[str, Any] = self._agent.predict_batch(
            [text], {question.name: as_system_one(question) for question in questions}
        )[0]
        self._told = text, told
        return told

    def probabilities(self, text: str, question: Question) -> Sequence[float]:
        """Return one number per option of the question, in order."""
        of, told = self._told
        if of != text or question.name not in told["answers"]:
            told = self._asked(text, [question])
        if cut := told["usage"].get("options", {}).get(question.name):
            raise ValueError(
                f"its options are cut to {cut['tokens_per_option']} tokens each, by which the model tells "
                f"{cut['distinct']} of {cut['total']} apart"
            )
        answer = told["answers"][question.name]
        if question.kind == "noul":
            return [1 - answer["noul"], answer["noul"]]
        return list(answer["probabilities"].values())
