"""Text similarity: normalised Levenshtein, BLEU from n-gram counts, similarity corrected for chance.

Similarity is a diagnostic, not a ground truth: short extracts can mean the same in other words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from nbannot.metrics.classification import ratio
from nbannot.metrics.result import NAN, FloatArray, IntArray

MAX_ORDER = 4
BLEU_WIDTH = 2 + 2 * MAX_ORDER
"""Columns of the BLEU statistics: model length, human length, matches of order 1-4, n-grams of order 1-4."""
SHORT_TEXT = 8
CHANCE_PAIRS = 20_000
_LARGEST_KEY = 2**62
_ROWS_AT_ONCE = 100_000


def nfc(text: str) -> str:
    """Return `text` in Unicode normal form C, so that composed and decomposed accents are equal."""
    return unicodedata.normalize("NFC", text)


def levenshtein_similarity(human: str, model: str) -> float:
    """Return 1 - distance / length of the longer text, on code points after NFC; 1 for two empty texts.

    >>> round(levenshtein_similarity("kitten", "sitting"), 4)
    0.5714
    """
    return float(levenshtein_similarities([human], [model])[0])


def levenshtein_similarities(human: Sequence[str], model: Sequence[str]) -> FloatArray:
    """Return (n,) normalised Levenshtein similarities of the pairs."""
    from Levenshtein import distance

    one, two = [nfc(text) for text in human], [nfc(text) for text in model]
    longest = np.array([max(len(a), len(b)) for a, b in zip(one, two, strict=True)], dtype=float)
    distances = np.fromiter(map(distance, one, two), dtype=float, count=len(one))
    return np.where(longest > 0, 1 - distances / np.maximum(longest, 1), 1.0)


class _Words(dict[str, tuple[str, ...]]):
    """The tokens of each word between spaces, by sacrebleu's tokeniser; each word is tokenised once."""

    def __init__(self, tokenizer: Callable[[str], str]) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, word: str) -> tuple[str, ...]:
        tokens = self[word] = (word,) if word.isalnum() else tuple(self.tokenizer(word).split())
        return tokens


def tokenized(texts: Sequence[str], tokenize: str = "13a") -> list[list[str]]:
    """Return the tokens of each text by sacrebleu's tokeniser of that name.

    The rules of 13a look at neighbouring characters within a word only, so it is run once per distinct word;
    the two exceptions (a hyphen at a line end, ``<skipped>``) and other tokenisers get the whole text.
    """
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(tokenize=tokenize).tokenizer
    words = _Words(tokenizer)
    by_word = tokenize == "13a"
    return [
        [token for word in text.split() for token in words[word]]
        if by_word and "-\n" not in text and "<skipped>" not in text
        else tokenizer(text.rstrip()).split()
        for text in texts
    ]


def bleu_signature(tokenize: str = "13a", *, sentence: bool = True) -> str:
    """Return sacrebleu's signature of sentence BLEU (effective order) or corpus BLEU."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=sentence, tokenize=tokenize)
    scorer.corpus_score(["a"], [["a"]])  # a signature needs one use, to know the number of references
    return str(scorer.get_signature())


def bleu_statistics(human: Sequence[str], model: Sequence[str], tokenize: str = "13a") -> FloatArray:
    """Return the (n, 10) additive BLEU statistics of the pairs; the human text is the reference."""
    out = np.zeros((len(human), BLEU_WIDTH))
    for first in range(0, len(human), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        _fill(out[rows], tokenized(human[rows], tokenize), tokenized(model[rows], tokenize))
    return out


def _fill(out: FloatArray, refs: Sequence[list[str]], hyps: Sequence[list[str]]) -> None:
    """Fill in the statistics of some rows, in halves while the n-gram keys would not fit an integer."""
    vocabulary: dict[str, int] = {}
    flat = [vocabulary.setdefault(t, len(vocabulary)) for side in (hyps, refs) for row in side for t in row]
    words = np.array(flat, dtype=np.int64)
    n = len(refs)
    lengths = np.array([[len(row) for row in side] for side in (hyps, refs)], dtype=np.int64).reshape(2, n)
    row = np.repeat(np.tile(np.arange(n), 2), lengths.ravel())
    local, size = _local_words(words, row, len(vocabulary))
    if n > 1 and n * size**MAX_ORDER >= _LARGEST_KEY:
        half = n // 2
        _fill(out[:half], refs[:half], hyps[:half])
        _fill(out[half:], refs[half:], hyps[half:])
        return
    n_hyp = int(lengths[0].sum())
    sides = ((local[:n_hyp], row[:n_hyp]), (local[n_hyp:], row[n_hyp:]))
    out[:, :2] = lengths.T
    key = [r * size + w for w, r in sides]
    for order in range(MAX_ORDER):
        if order:
            key = [_extended(k, w, r, order, size) for k, (w, r) in zip(key, sides, strict=True)]
        matches = _clipped_matches(key[0], key[1], n, size ** (order + 1))
        out[:, 2 + order] = matches
        out[:, 2 + MAX_ORDER + order] = np.maximum(lengths[0] - order, 0)


def _local_words(words: IntArray, row: IntArray, n_words: int) -> tuple[IntArray, int]:
    """Return each word's number among the distinct words of its row (both sides), and the most there are."""
    if not len(words):
        return words, 1
    distinct, inverse = np.unique(row * n_words + words, return_inverse=True)
    row_of = distinct // n_words
    first = np.searchsorted(row_of, row_of)
    number = np.arange(len(distinct)) - first
    return number[inverse], int(number.max()) + 1


def _extended(key: IntArray, words: IntArray, row: IntArray, order: int, size: int) -> IntArray:
    """Return the keys of n-grams one word longer; -1 where the text ends before."""
    longer = np.full(len(key), -1, dtype=np.int64)
    if len(key) > order:
        same = (row[order:] == row[: len(row) - order]) & (key[: len(key) - order] >= 0)
        longer[: len(key) - order][same] = (key[: len(key) - order] * size + words[order:])[same]
    return longer


def _clipped_matches(hyp: IntArray, ref: IntArray, n: int, per_row: int) -> FloatArray:
    """Return per row the sum over n-grams of the smaller of both counts."""
    one, one_counts = np.unique(hyp[hyp >= 0], return_counts=True)
    two, two_counts = np.unique(ref[ref >= 0], return_counts=True)
    shared, i, j = np.intersect1d(one, two, assume_unique=True, return_indices=True)
    smaller = np.minimum(one_counts[i], two_counts[j]).astype(float)
    return np.bincount(shared // per_row, weights=smaller, minlength=n).astype(np.float64)


def bleu(statistics: FloatArray, *, effective_order: bool) -> FloatArray:
    """Return BLEU (0-100) of (..., 10) statistics with exponential smoothing (Papineni 2002, Post 2018).

    Parameters
    ----------
    effective_order : True for single texts: orders longer than the model's text are left out; False for the
        pooled counts of a corpus, where they make the score 0.
    """
    hyp, ref = statistics[..., 0], statistics[..., 1]
    correct = statistics[..., 2 : 2 + MAX_ORDER]
    total = statistics[..., 2 + MAX_ORDER :]
    possible = total > 0
    unmatched = possible & (correct == 0)
    smoothed = np.where(unmatched, 0.5 ** np.cumsum(unmatched, axis=-1), correct)
    logs = np.where(possible, np.log(np.where(possible, smoothed / np.where(possible, total, 1), 1)), 0.0)
    orders = possible.sum(-1) if effective_order else np.full(possible.shape[:-1], MAX_ORDER)
    mean = logs.sum(-1) / np.maximum(orders, 1)
    shorter = (hyp < ref) & (hyp > 0)
    brevity = np.where(shorter, 1 - ref / np.where(hyp > 0, hyp, 1), 0.0)
    counted = (correct > 0).any(-1) & (possible.all(-1) | effective_order)
    return np.where(counted, 100 * np.exp(mean + brevity), 0.0)


def sentence_bleu(human: str, model: str, tokenize: str = "13a") -> float:
    """Return sacrebleu's sentence BLEU with effective order (0-100).

    >>> round(sentence_bleu("economic policy", "economic policy"), 6)
    100.0
    """
    return float(bleu(bleu_statistics([human], [model], tokenize), effective_order=True)[0])


def corpus_bleu(human: Sequence[str], model: Sequence[str], tokenize: str = "13a") -> float:
    """Return sacrebleu's corpus BLEU (0-100), from pooled n-gram counts; not the mean of sentence BLEU."""
    return float(bleu(bleu_statistics(human, model, tokenize).sum(0), effective_order=False))


def chance_similarity(
    human: Sequence[str],
    model: Sequence[str],
    similarities: Callable[[Sequence[str], Sequence[str]], FloatArray],
    seed: int = 1,
) -> float:
    """Return the mean similarity of all human x model pairs, or of 20,000 random ones when there are more."""
    n = len(human)
    if not n:
        return NAN
    if n * n <= CHANCE_PAIRS:
        one, two = np.divmod(np.arange(n * n), n)
    else:
        one, two = np.random.default_rng(seed).integers(0, n, (2, CHANCE_PAIRS))
    return float(similarities([human[i] for i in one], [model[j] for j in two]).mean())


def chance_corrected(similarity: FloatArray, chance: float) -> FloatArray:
    """Return 1 - (1 - similarity) / (1 - chance): 0 for texts paired at random, 1 for equal texts."""
    return 1 - ratio(1 - similarity, np.asarray(1 - chance))
