"""Text similarity that needs the extra ``textbox``: ROUGE, cosine of sentence embeddings, BERTScore.

The packages are imported when they are asked for. Without a package, or without the weights of a model, the
numbers stay blank with a reason; nothing else fails.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nbannot.measures.result import FloatArray

ROUGE_NAMES = ("rouge1_f", "rouge2_f", "rougeL_f")
BERTSCORE_NAMES = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
EXTRA_NAMES = (*ROUGE_NAMES, "cosine_similarity", *BERTSCORE_NAMES)
INSTALL = 'pip install "nbannot[textbox]"'
NOT_ASKED = f"not computed: ask for the textbox extras ({INSTALL})"


@dataclass(frozen=True)
class TextExtras:
    """Which optional text metrics are computed, and with which models and options.

    Attributes
    ----------
    metrics : any of ``rouge``, ``cosine``, ``bertscore``.
    embedding_model : a Hugging Face name or a local folder, for the cosine similarity.
    embedding_revision : commit or tag of that model; None: the newest, or what the folder holds.
    bertscore_model : a Hugging Face name or a local folder, for BERTScore.
    bertscore_layers : the layer BERTScore reads; None: the package's choice for a known name, and the last
        layer of a local folder.
    rouge_stemmer : Porter stemmer for ROUGE (English only).
    device : where the models run.
    fetch : whether weights that are not on this machine may be fetched.
    """

    metrics: tuple[str, ...] = ("rouge", "cosine", "bertscore")
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_revision: str | None = None
    bertscore_model: str = "roberta-large"
    bertscore_layers: int | None = None
    rouge_stemmer: bool = False
    device: str = "cpu"
    fetch: bool = True


@dataclass
class ExtraScores:
    """Similarities per pair, and for those that could not be computed the reason.

    Attributes
    ----------
    values : metric -> (n,) similarity of each pair.
    reasons : metric -> why it is blank.
    signature : what decides the numbers: package versions, models, revisions, options.
    """

    values: dict[str, FloatArray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    signature: dict[str, Any] = field(default_factory=dict)


GROUPS = {"rouge": ROUGE_NAMES, "cosine": ("cosine_similarity",), "bertscore": BERTSCORE_NAMES}


def extra_scores(
    human: Sequence[str], model: Sequence[str], options: TextExtras | None = None
) -> ExtraScores:
    """Return the optional similarities of the pairs; the human text is the reference."""
    chosen = options or TextExtras()
    computed = {"rouge": _rouge, "cosine": _cosine, "bertscore": _bertscore}
    scores = ExtraScores(reasons=dict.fromkeys(EXTRA_NAMES, NOT_ASKED))
    for group in chosen.metrics:
        metrics = GROUPS[group]
        try:
            values, signature = computed[group](human, model, chosen)
        except ImportError as error:
            scores.reasons |= dict.fromkeys(
                metrics, f"extra not installed: {error.name or error} ({INSTALL})"
            )
        except Exception as error:  # noqa: BLE001 - whatever a package raises, the other numbers stand
            scores.reasons |= dict.fromkeys(metrics, _no_weights(group, chosen, error))
        else:
            scores.values |= dict(zip(metrics, values, strict=True))
            scores.signature |= signature
            for name in metrics:
                del scores.reasons[name]
    return scores


class UnicodeTokenizer:
    """Words of any script, case folded; rouge-score's own tokeniser keeps ``a-z0-9`` only.

    >>> UnicodeTokenizer().tokenize("Économie: réforme")
    ['économie', 'réforme']
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the words of `text`."""
        return re.findall(r"\w+", text.casefold())


class _StemmingTokenizer(UnicodeTokenizer):
    """The same words with Porter's stemmer on those longer than three characters, as rouge-score does."""

    def __init__(self) -> None:
        porter = import_module("nltk.stem.porter")  # a dependency of rouge-score
        self._stem: Callable[[str], str] = cache(porter.PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        return [self._stem(word) if len(word) > 3 else word for word in super().tokenize(text)]


def _rouge(
    human: Sequence[str], model: Sequence[str], options: TextExtras
) -> tuple[list[FloatArray], dict[str, Any]]:
    from rouge_score import rouge_scorer

    tokenizer = _StemmingTokenizer() if options.rouge_stemmer else UnicodeTokenizer()
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=tokenizer)
    scores = [scorer.score(one, two) for one, two in zip(human, model, strict=True)]
    values = [np.array([s[key].fmeasure for s in scores]) for key in ("rouge1", "rouge2", "rougeL")]
    stemmer = "yes" if options.rouge_stemmer else "no"
    line = rf"rouge-score:{version('rouge-score')}|tok:\w+ casefold|stemmer:{stemmer}"
    return values, {"rouge": line}


def _cosine(
    human: Sequence[str], model: Sequence[str], options: TextExtras
) -> tuple[list[FloatArray], dict[str, Any]]:
    import_module("sentence_transformers")
    _must_be_here(options.embedding_model, options)
    encoder, revision = _encoder(options.embedding_model, options.embedding_revision, options.device)
    signature = {
        "package": f"sentence-transformers {version('sentence-transformers')}",
        "model": _name(options.embedding_model),
        "revision": revision,
        "normalised": True,
    }
    texts = sorted({*human, *model})
    row = {text: index for index, text in enumerate(texts)}
    vectors = np.zeros((0, 1))
    if texts:
        vectors = np.asarray(encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False), float)
    one, two = (vectors[np.array([row[text] for text in side], dtype=int)] for side in (human, model))
    return [(one * two).sum(-1)], {"cosine_similarity": signature}


@cache
def _encoder(name: str, revision: str | None, device: str) -> tuple[Any, str]:
    """Return the sentence encoder and the revision of its weights."""
    from sentence_transformers import SentenceTransformer

    with _no_progress_bar():
        encoder = SentenceTransformer(name, revision=revision, device=device)
    return encoder, revision or _revision(name, encoder[0].auto_model.config)


def _bertscore(
    human: Sequence[str], model: Sequence[str], options: TextExtras
) -> tuple[list[FloatArray], dict[str, Any]]:
    name = options.bertscore_model
    import_module("bert_score")
    _must_be_here(name, options)
    scorer, revision = _scorer(name, options.bertscore_layers, options.device)
    parts = scorer.score(list(model), list(human)) if human else ([], [], [])
    line = str(scorer.hash).replace(name, _name(name))
    signature = {"hash": line, "model": _name(name), "revision": revision}
    return [np.asarray(part, dtype=float) for part in parts], {"bertscore": signature}


@cache
def _scorer(name: str, layers: int | None, device: str) -> tuple[Any, str]:
    """Return the BERTScore scorer (no idf, no rescaling) and the revision of its weights."""
    from bert_score import BERTScorer
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name)
    if layers is None and Path(name).is_dir():
        layers = int(config.num_hidden_layers)
    with _no_progress_bar():
        made = BERTScorer(
            model_type=name, num_layers=layers, device=device, idf=False, rescale_with_baseline=False
        )
    return made, _revision(name, config)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep the bars that loading weights draws out of a notebook."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _must_be_here(name: str, options: TextExtras) -> None:
    """Raise `OSError` where the weights would have to be fetched and that was not asked for."""
    if options.fetch or Path(name).is_dir():
        return
    from huggingface_hub import snapshot_download

    place = Path(snapshot_download(name, local_files_only=True))
    if not any(place.glob("*.safetensors")) and not any(place.glob("*.bin")):
        raise OSError("its weights are not on this machine")


def _name(model: str) -> str:
    """Return the name of a model; of a local folder its own name, without the path to it."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _revision(name: str, config: Any) -> str:
    """Return the commit of downloaded weights, or a digest of the weight file of a local folder."""
    if Path(name).is_dir():
        for path in sorted(Path(name).glob("*.safetensors")) + sorted(Path(name).glob("*.bin")):
            with path.open("rb") as stream:
                return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()[:12]} of {path.name}"
    return str(getattr(config, "_commit_hash", None) or "unknown")


def _no_weights(group: str, options: TextExtras, error: Exception) -> str:
    """Return why a model could not be loaded and what to type next."""
    setting = "embedding_model" if group == "cosine" else "bertscore_model"
    words = str(error).strip().split("\n", maxsplit=1)[0][:160]
    return (
        f"weights not available: {_name(getattr(options, setting))} ({words}); "
        f"name a local folder with TextExtras({setting}=...)"
    )
