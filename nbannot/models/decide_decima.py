"""The decision models of `decima-ai` in this process: ONNX on the CPU, weights from the Hugging Face Hub.

``decide/decima-small``, ``decide/decima-base`` and others of their maker by their short names, each also at a revision
(``decide/decima-small@<commit>``), or the path of a folder with an exported model. The files are looked for in the
cache of `huggingface_hub` first, fetched once, and identified by the digest of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot.asking.decisions import as_system_one
from nbannot.asking.request_reply import ModelInfo, Question
from nbannot.models.decide_local import asked_as_choice
from nbannot.models.decide_weights import FetchedDecider

OWNER = "amyrmahdy"
WEIGHTS = "onnx/int8"
MOST_LEVELS = 10
"""Most levels of a scale that decima takes; a longer scale is asked as a choice."""


class Decima(FetchedDecider):
    """A model of `decima-ai`.

    Parameters
    ----------
    name
        ``decima`` (the small one), ``decima-<size>``, each with ``@<revision>`` or without, or the path of a folder
        with ``encoder.onnx``, ``scorer.onnx``, ``decima.json`` and ``tokenizer/``.

    Raises
    ------
    ModelError
        If the package is not installed.
    """

    package, module = "decima-ai", "decima"
    modules = ("numpy", "onnxruntime", "decima.runtime")
    extra = 'pip install "nbannot[decima]"'
    owner, mark, below = OWNER, "decima.json", WEIGHTS
    files = (f"{WEIGHTS}/*", f"{WEIGHTS}/tokenizer/*")
    needed = f"{WEIGHTS}/scorer.onnx"
    folder_words = (
        'model = "decide/decima-…/path" needs encoder.onnx, scorer.onnx, decima.json and tokenizer/.'
    )

    def __init__(self, name: str, *, threads: int | None = None, **_: Any) -> None:
        super().__init__(name)
        self.name = "decima-small" if name == "decima" else name
        self._threads = threads or 1
        self._model: Any = None

    def _load(self, folder: Path) -> ModelInfo:
        from decima.runtime import DecimaOnnx

        self._model = DecimaOnnx(folder, threads=self._threads)
        return ModelInfo(
            name=self._shown_name,
            backend="decide",
            quantization="int8" if folder.name == "int8" else None,
            context_size=int(self._model.cfg["max_state_tokens"]),
            server=f"decima-ai {version('decima-ai')}",
        )

    def too_long(self, text: str, questions: Sequence[Question]) -> str:
        """Return why the model would not read all of the text; "" if it does."""
        most = int(self._model.cfg["max_state_tokens"])
        longest = max(
            len(self._model.tok(self._model._state(text, self._asked(question)))["input_ids"])
            for question in questions
        )
        return f"{longest:,} tokens of {most:,} with its question" if longest > most else ""

    def _asked(self, question: Question) -> Any:
        from decima.systemone import to_question

        form = asked_as_choice(question, MOST_LEVELS, self.capabilities) or as_system_one(question)
        return to_question(question.name, form)[1]

    def probabilities(self, text: str, question: Question) -> Sequence[float]:
        """Return one number per option of the question, in order."""
        shares = [
            float(share) for share in self._model.decide(text, self._asked(question), decode=False).probs
        ]
        return shares[::-1] if question.kind == "noul" else shares  # decima tells yes before no
