"""Supervised baselines as ordinary runs, so that every comparison can answer: is a language model needed at all?

``baseline/majority`` says the commonest label; ``baseline/tfidf-lr`` is a logistic regression on word counts;
``baseline/embed-lr`` one on sentence embeddings. They learn from the human labels of the task, which no request
carries: `BaselineModel.fit` is the only place where human labels meet a model.

What a regression says of a text never comes from the text's own label: labelled texts are divided into five folds, and
each is predicted by what was learned from the other four. Texts with the same wording are in the same fold. Texts
without a human label are predicted by what was learned from all labelled ones.

The commonest label is that of all human labels, as in the metric ``baseline_accuracy``. Taken from the other folds
only, it would be wrong more often than drawing lots where labels are balanced, as a label is rarer where its own texts
are left out; one label of many has nothing to overfit.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from nbannot.asking.prompts import reply_text
from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, listed, nearest
from nbannot.study.field import Field
from nbannot.study.task import Task

FOLDS = 5
SEED = 1
REGULARISATION = 10.0
"""scikit-learn's C; weaker than its default of 1, as unit vectors of short texts need large coefficients. Not tuned."""
EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LONG_WORD = 20
"""Mean length of a word, in characters, above which a script without spaces is assumed."""

NOTE = "Supervised baseline: it learns from the human labels of this task."
OUT_OF_FOLD = (
    f" Each text is predicted from the labels of other texts only ({FOLDS} folds, stratified by label)."
)
KINDS = {
    "majority": "the commonest label",
    "tfidf-lr": "logistic regression on TF-IDF of words and pairs of words",
    "embed-lr": "logistic regression on sentence embeddings",
}
LABELLED = ("checkbox", "dropdown", "likert", "multiselect")

Learner = Callable[[Sequence[int], Sequence[int], Sequence[int]], list[int]]
"""(rows to learn from, their classes, rows to predict) -> predicted classes; a class is a position in the labels."""


class BaselineModel:
    """A supervised baseline.

    Parameters
    ----------
    name
        ``majority``, ``tfidf-lr`` or ``embed-lr``; ``embed-lr/<model>`` names another sentence-transformers model or
        the folder of one.

    Attributes
    ----------
    learns_from_labels
        Whether the model is given human labels.

    Raises
    ------
    ModelError
        If there is no such baseline.

    Notes
    -----
    A baseline takes the steps of a likert scale as classes and leaves their order unused. Where several labels are
    equally common, the first in the codebook's order counts as the commonest. Every option of a multiselect is
    predicted for itself: yes or no.

    A question that no baseline can answer (textbox, span, a field without human labels) is not asked: the reply says
    why in the way in which a text says that it does not fit (``finish_reason = "context"``).
    """

    parallel = 32
    answer_modes: tuple[AnswerMode, ...] = ("generate",)
    learns_from_labels = True

    def __init__(self, name: str, **_: Any) -> None:
        kind, _slash, embedding = name.partition("/")
        if kind not in KINDS or (embedding and kind != "embed-lr"):
            raise ModelError(
                f"there is no baseline '{name}'{nearest(kind, KINDS) or '.'}\n"
                f"  Type one of: {listed(f'baseline/{known}' for known in KINDS)}."
            )
        self.name = name
        self._kind = kind
        self._embedding = embedding or EMBEDDING_MODEL
        self._task: Task | None = None
        self._fields: dict[str, Field] = {}
        self._rows: dict[str, int] = {}
        self._predicted: dict[str, list[Any] | str] = {}
        self._vectors: Any = None
        self._learning: asyncio.Lock | None = None

    def fit(self, task: Task, fields: Sequence[Field]) -> None:
        """Take the texts and human labels to learn from; learning itself happens when the first text is asked for.

        Parameters
        ----------
        task
            The task with its human labels. More texts than the run asks for do no harm: every label helps.
        fields
            The fields that the run asks.

        Raises
        ------
        ModelError
            If there is nothing to learn from.
        """
        self._task, self._fields = task, {f.column: f for f in fields}
        self._rows = {text_id: row for row, text_id in enumerate(task.ids)}
        self._predicted.clear()
        self._vectors = None
        if not any(len(self._classes(f)) > 1 for f in fields if f.type in LABELLED):
            raise ModelError(
                f"baseline/{self.name} learns from human labels, and task '{task.name}' has none for it here.\n"
                f"  It needs at least two texts with a human label in a {listed(LABELLED)} field."
            )

    def info(self) -> ModelInfo:
        """Return what the baseline is; its digest covers the labels it learns from, once it has them.

        Raises
        ------
        ModelError
            If what it needs is not installed.
        """
        packages = {"scikit-learn": version("scikit-learn")}
        if self._kind == "embed-lr":
            if importlib.util.find_spec("sentence_transformers") is None:
                raise ModelError(
                    "baseline/embed-lr needs the package sentence-transformers, which is not installed.\n"
                    '  pip install "nbannot[textbox]"'
                )
            packages["sentence-transformers"] = version("sentence-transformers")
        labels = {column: self._classes(f) for column, f in self._fields.items() if f.type in LABELLED}
        details: dict[str, Any] = {
            "learns_from_labels": True,
            "method": KINDS[self._kind],
            "folds": 1 if self._kind == "majority" else FOLDS,
            "n_labels": {column: len(classes) for column, classes in labels.items()},
            "packages": packages,
        }
        if self._kind == "embed-lr":
            details["embedding_model"] = self._embedding
        content = json.dumps([self.name, details, [list(c.items()) for c in labels.values()]], sort_keys=True)
        return ModelInfo(
            name=self.name,
            backend="baseline",
            digest=f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
            if self._task is not None
            else None,
            notes=(NOTE + ("" if self._kind == "majority" else OUT_OF_FOLD),),
            details=details,
        )

    async def open(self) -> None:
        """Get ready in the running event loop."""
        self._learning = asyncio.Lock()

    async def close(self) -> None:
        """Do nothing: what was learned stays."""

    async def ask(self, request: Request) -> Reply:
        """Return the predicted label of the text that the request names in its key."""
        answer, seconds = self._asked(request), 0.0
        if isinstance(answer, str):
            return Reply(error=answer, finish_reason="context")
        row, fields = answer
        values = {}
        for f in fields:
            predicted, took = await self._predictions(f)
            seconds += took
            if isinstance(predicted, str):
                return Reply(error=predicted, finish_reason="context", seconds=seconds)
            values[f.column] = predicted[row]
        if len(fields) == 1:
            text = reply_text(fields[0], values[fields[0].column])
        else:
            text = json.dumps({f.column: f.to_json(values[f.column]) for f in fields}, ensure_ascii=False)
        return Reply(text=text, finish_reason="stop", seconds=seconds)

    def _asked(self, request: Request) -> tuple[int, list[Field]] | str:
        """Return the row and the fields that a request asks for, or why it cannot be answered."""
        if self._task is None:
            return "a baseline learns from human labels, and was given none"
        place = request.key.rpartition("|")[0]
        columns = [name for name in request.schema.get("properties", {}) if name != "reasoning"]
        if columns == ["response"]:
            columns = [
                c for c in self._fields if place.endswith(f"|{c}") and place[: -len(c) - 1] in self._rows
            ]
        fields = [self._fields[c] for c in columns if c in self._fields]
        row = self._rows.get(place.removesuffix(f"|{'+'.join(columns)}"))
        if row is None or not fields:
            return f"not a question of the task: {request.key}"
        unsuited = [f.column for f in fields if f.type not in LABELLED]
        if unsuited:
            return f"not a label field: {listed(unsuited)}; a baseline predicts {listed(LABELLED)} fields"
        return row, fields

    async def _predictions(self, f: Field) -> tuple[list[Any] | str, float]:
        """Return a field's predictions, and the seconds it took to learn; waiting for others' learning is no work."""
        if self._learning is None:
            await self.open()
        assert self._learning is not None
        async with self._learning:
            start = time.perf_counter()
            if f.column not in self._predicted:
                self._predicted[f.column] = await asyncio.to_thread(self._predict, f)
            return self._predicted[f.column], time.perf_counter() - start

    # ---- learning ---------------------------------------------------------------------------------------------

    def _classes(self, f: Field) -> dict[int, int]:
        """Return row -> position in the labels, for the rows with a human label; of a multiselect a bit per option."""
        assert self._task is not None
        values, applies = self._task.human(f.column), self._task.human_applies(f.column)
        position = {label: i for i, label in enumerate(f.labels)}
        pairs = enumerate(zip(values, applies, strict=True))
        if f.type == "multiselect":
            return {
                row: sum(1 << position[option] for option in value)
                for row, (value, yes) in pairs
                if yes and value is not None
            }
        return {row: position[value] for row, (value, yes) in pairs if yes and value is not None}

    def _predict(self, f: Field) -> list[Any] | str:
        """Return the predicted value of every text, or why there is none."""
        assert self._task is not None
        known, texts = self._classes(f), self._task.texts
        if len({texts[row] for row in known}) < 2:
            n = len(known)
            return f"a baseline learns from human labels, and '{f.column}' has {n or 'none'}: two texts are needed"
        try:
            learner = None if self._kind == "majority" else self._learner(texts)
        except (ImportError, OSError, ValueError) as error:
            return f"the embedding model {self._embedding} cannot be used: {str(error).strip().splitlines()[0][:200]}"
        if f.type != "multiselect":
            return [f.labels[c] for c in self._predicted_classes(known, learner)]
        by_option = [
            self._predicted_classes({row: bits >> place & 1 for row, bits in known.items()}, learner)
            for place in range(len(f.options))
        ]
        return [
            [option for option, yes in zip(f.options, row, strict=True) if yes]
            for row in zip(*by_option, strict=True)
        ]

    def _predicted_classes(self, known: Mapping[int, int], learner: Learner | None) -> list[int]:
        """Return the class of every text, of a labelled one from others' labels; without learner the commonest."""
        assert self._task is not None
        texts = self._task.texts
        if learner is None:
            return [_commonest(list(known.values()))] * len(texts)
        predicted = [0] * len(texts)
        fold_of = folds([texts[row] for row in known], list(known.values()))
        rows = list(known)
        for fold in range(max(fold_of) + 1):
            learned = [row for row, own in zip(rows, fold_of, strict=True) if own != fold]
            held_out = [row for row, own in zip(rows, fold_of, strict=True) if own == fold]
            for row, c in zip(held_out, learner(learned, [known[r] for r in learned], held_out), strict=True):
                predicted[row] = c
        others = [row for row in range(len(texts)) if row not in known]
        for row, c in zip(others, learner(rows, list(known.values()), others) if others else [], strict=True):
            predicted[row] = c
        return predicted

    def _learner(self, texts: Sequence[str]) -> Learner:
        if self._kind == "tfidf-lr":
            return lambda rows, classes, asked: _words_regression(texts, rows, classes, asked)
        if self._vectors is None:
            self._vectors = _embedded(self._embedding, texts)
        vectors = self._vectors
        return lambda rows, classes, asked: _regression(vectors[list(rows)], classes, vectors[list(asked)])


def folds(texts: Sequence[str], classes: Sequence[int]) -> list[int]:
    """Return the fold of each labelled text: up to five folds of about the same size, alike in their labels.

    Texts with the same wording come into the same fold; every class is shuffled with a fixed seed and dealt out like
    cards, one class after the other.
    """
    first = dict(reversed(list(zip(texts, classes, strict=True))))
    drawing = random.Random(SEED)
    number = min(FOLDS, len(first))
    dealt: dict[str, int] = {}
    for c in sorted(set(first.values())):
        members = sorted(text for text, own in first.items() if own == c)
        drawing.shuffle(members)
        for text in members:
            dealt[text] = len(dealt) % number
    return [dealt[text] for text in texts]


def _commonest(classes: Sequence[int]) -> int:
    counts = Counter(classes)
    return min(counts, key=lambda c: (-counts[c], c))


def _words_regression(
    texts: Sequence[str], rows: Sequence[int], classes: Sequence[int], held_out: Sequence[int]
) -> list[int]:
    """Return the classes that a logistic regression on TF-IDF predicts; words are weighed by the learned texts only."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    learned = [texts[row] for row in rows]
    words = [word for text in learned for word in text.split()]
    if words and sum(map(len, words)) / len(words) <= LONG_WORD:
        weights = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
    else:  # a script without spaces between words
        weights = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    try:
        counts = weights.fit_transform(learned)
    except ValueError:  # no word in any text
        return [_commonest(classes)] * len(held_out)
    return _regression(counts, classes, weights.transform([texts[row] for row in held_out]))


def _regression(learned: Any, classes: Sequence[int], held_out: Any) -> list[int]:
    """Return the classes that a logistic regression predicts, every class of the learned texts weighing the same."""
    from sklearn.linear_model import LogisticRegression

    if len(set(classes)) == 1:
        return [classes[0]] * held_out.shape[0]
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000)
    return [int(c) for c in model.fit(learned, list(classes)).predict(held_out)]


def _embedded(name: str, texts: Sequence[str]) -> Any:
    """Return the (n, d) sentence embeddings of the texts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(name)
    return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
