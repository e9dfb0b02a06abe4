"""The decision models of `laya` in this process: PyTorch, all questions of a text in one pass.

``decide/laya`` (English), ``decide/laya-multilingual`` and ``decide/laya-typed-decisions``, each also at a revision
(``decide/laya@<commit>``), or the path of a folder with a checkpoint. The files are looked for in the cache of
`huggingface_hub` first, fetched once, and identified by the digest of all of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot.asking.decisions import as_system_one
from nbannot.asking.request_reply import ModelInfo, Question
from nbannot.errors import ModelError
from nbannot.models.decide_weights import digest_of, fetched
from nbannot.tools.imports import load

OWNER = "convaiinnovations"
CONFIG = "rl_agent_config.json"
FILES = (CONFIG, "model.safetensors", "tokenizer/*", "encoder/*")
"""Of the repository that holds several checkpoints, only the one at its root."""
REWRITTEN = ("tokenizer_config.json",)
"""What laya mends in place when it loads a checkpoint: its content says nothing of the weights."""


class Laya:
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

    def __init__(self, name: str, **_: Any) -> None:
        if importlib.util.find_spec("laya") is None:
            raise ModelError(
                f"decide/{name} needs the package laya, which is not installed.\n"
                '  pip install "nbannot[laya]" (with PyTorch, some gigabytes)'
            )
        self.name = name
        self._agent: Any = None
        self._info: ModelInfo | None = None
        self._told: tuple[str, dict[str, Any]] = ("", {})
        self.capabilities: dict[str, Any] = {}

    def info(self) -> ModelInfo:
        """Return name, digest and revision of the model; loads it.

        Raises
        ------
        ModelError
            If it cannot be found, fetched or loaded.
        """
        if self._info is None:
            folder, revision = self._found()
            digest = digest_of(folder, without=REWRITTEN)
            load("numpy", "torch", "transformers", "laya")
            import laya

            try:
                self._agent = laya.load(str(folder))
            except Exception as error:  # torch, transformers and laya each raise their own
                raise ModelError(
                    f"decide/{self.name} cannot be loaded from {folder} ({type(error).__name__}: {error}).\n"
                    "  Remove the folder and run again to fetch it anew."
                ) from error
            self._info = ModelInfo(
                name=Path(self.name).name if self._is_folder() else self.name.partition("@")[0],
                backend="decide",
                digest=f"sha256:{digest}",
                context_size=int(self._agent.cfg.get("max_len", 512)),
                server=f"laya {version('laya')}",
                details={
                    "package": "laya",
                    "device": str(self._agent.device),
                    **({"revision": revision} if revision else {}),
                },
            )
        return self._info

    def _is_folder(self) -> bool:
        return (Path(self.name).expanduser() / CONFIG).exists()

    def _found(self) -> tuple[Path, str]:
        """Return the folder of the weights, and the commit they are from."""
        if self._is_folder():
            return Path(self.name).expanduser(), ""
        repository, _, revision = self.name.partition("@")
        root = fetched(
            self.name,
            repository if "/" in repository else f"{OWNER}/{repository}",
            revision,
            FILES,
            "model.safetensors",
            f'model = "decide/laya-…/path" needs {CONFIG}, model.safetensors, tokenizer/ and encoder/.',
        )
        return root, root.name

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
