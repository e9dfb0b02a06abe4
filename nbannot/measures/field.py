"""The one entry point of scoring: all numbers of one field of one run."""

from __future__ import annotations

from nbannot.errors import ScoringError
from nbannot.measures.accounting import LABEL_TYPES, FieldData
from nbannot.measures.intervals import Settings
from nbannot.measures.label_field import score_labels
from nbannot.measures.result import FieldScore, Result
from nbannot.measures.set_field import score_sets
from nbannot.measures.span_field import score_spans
from nbannot.measures.text_extras import TextExtras
from nbannot.measures.text_field import score_text

__all__ = ["FieldData", "FieldScore", "Result", "TextExtras", "score_field"]


def score_field(
    data: FieldData,
    *,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    extras: bool | TextExtras = False,
    bleu_tokenize: str = "13a",
) -> FieldScore:
    """Return all numbers of one field of one run.

    Parameters
    ----------
    data : the field's human and model values, row i the same text everywhere.
    n_resamples, seed, level : of the intervals; the same seed gives the same limits.
    extras : textbox: also compute what the extra ``textbox`` offers (ROUGE, cosine, BERTScore), with the
        models named in a `TextExtras`.
    bleu_tokenize : sacrebleu's name of a tokeniser, for scripts without spaces (zh, ja-mecab, ko-mecab).

    Raises
    ------
    ScoringError
        A human label is not in the codebook, columns differ in length, or a setting is out of range.
    """
    if n_resamples < 1 or not 0 < level < 1:
        raise ScoringError(
            f"n_resamples must be at least 1 and level between 0 and 1. Got {n_resamples} and {level}."
        )
    settings = Settings(n_resamples, seed, level)
    if data.type in LABEL_TYPES:
        return score_labels(data, settings)
    if data.type == "textbox":
        return score_text(data, settings, extras, bleu_tokenize)
    return score_sets(data, settings) if data.type == "multiselect" else score_spans(data, settings)
