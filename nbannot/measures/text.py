"""Text similarity: normalised Levenshtein, BLEU from n-gram counts, similarity corrected for chance.

Similarity is a diagnostic, not a ground truth: short extracts can mean the same in other words.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from nbannot.measures.classification import ratio
from nbannot.measures.result import NAN, FloatArray, IntArray

MAX_ORDER = 4
BLEU_WIDTH = 2 + 2 * MAX_ORDER
"""Columns of the BLEU statistics: model length, human length, matches of order 1-4, n-grams of order 1-4."""
SHORT_TEXT = 8
"""BLEU counts sequences of four words: in texts of fewer than about twice that it is mostly smoothing."""
CHANCE_PAIRS = 20_000
"""Where there are more pairs of texts, the similarity by chance is the mean of so many random ones."""
_LARGEST_KEY = 2**62
"""Four words are one integer while the product of their numbers fits into 64 bits."""
_ROWS_AT_ONCE = 100_000
"""Bounds the memory of the sorted n-grams."""
_BETWEEN = " \0 "


def nfc(text: str) -> str:
    """Return `text` in Unicode normal form C, so that composed and decomposed accents are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


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


class _Tokens(dict[str, tuple[int, ...]]):
    """The numbers of the tokens of each word between spaces, by one of sacrebleu's tokenisers.

    The rules of 13a look at neighbouring characters within a word only, so each distinct word is tokenised once;
    the two exceptions (a hyphen at a line end, ``<skipped>``) and other tokenisers get the whole text.
    """

    def __init__(self, tokenize: str) -> None:
        from sacrebleu.metrics.bleu import BLEU

        super().__init__()
        self._tokenizer = BLEU(tokenize=tokenize).tokenizer
        self._by_word = tokenize == "13a"
        self._numbers: dict[str, int] = {}

    def __missing__(self, word: str) -> tuple[int, ...]:
        tokens = [word] if word.isalnum() else self._tokenizer(word).split()
        numbers = self[word] = self._numbered(tokens)
        return numbers

    def _numbered(self, tokens: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._numbers.setdefault(token, len(self._numbers)) for token in tokens)

    @property
    def n_distinct(self) -> int:
        """Number of distinct tokens so far."""
        return len(self._numbers)

    def of(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Return the token numbers of all texts in one line, and how many belong to each text."""
        whole = _BETWEEN.join(texts)
        apart = (
            whole.count(_BETWEEN.strip()) == len(texts) - 1
            and "-\n" not in whole
            and "<skipped>" not in whole
        )
        return self._at_once(whole) if self._by_word and apart else self._one_by_one(texts)

    def _at_once(self, whole: str) -> tuple[IntArray, IntArray]:
        """Return the tokens of texts that were joined with a word between them that is in none of them."""
        self[_BETWEEN.strip()] = (-1,)
        words = map(self.__getitem__, whole.split())
        line = np.fromiter(chain.from_iterable(words), dtype=np.int64)
        del self[_BETWEEN.strip()]  # another text may hold it as a word of its own
        ends = np.flatnonzero(line < 0)
        return line[line >= 0], np.diff(np.r_[-1, ends, len(line)]) - 1

    def _one_by_one(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        line = array("q")
        ends = [0]
        for text in texts:
            if not self._by_word or "-\n" in text or "<skipped>" in text:
                line.extend(self._numbered(self._tokenizer(text.rstrip()).split()))
            else:
                line.extend(chain.from_iterable(map(self.__getitem__, text.split())))
            ends.append(len(line))
        return np.array(line, dtype=np.int64), np.diff(np.array(ends)).astype(np.int64)


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
        tokens = _Tokens(tokenize)
        hyp, ref = tokens.of(model[rows]), tokens.of(human[rows])
        _fill(out[rows], hyp, ref, tokens.n_distinct)
    return out


def _fill(
    out: FloatArray, hyp: tuple[IntArray, IntArray], ref: tuple[IntArray, IntArray], n_tokens: int
) -> None:
    """Fill in the statistics of some rows, in halves while the n-gram keys would not fit an integer."""
    n = len(out)
    words = np.concatenate([hyp[0], ref[0]])
    row = np.repeat(np.tile(np.arange(n), 2), np.concatenate([hyp[1], ref[1]]))
    local, size = _local_words(words, row, n_tokens)
    if n * size**MAX_ORDER >= _LARGEST_KEY:
        if n == 1:
            _fill_by_counting(out[0], hyp[0].tolist(), ref[0].tolist())
            return
        for part in (slice(0, n // 2), slice(n // 2, n)):
            _fill(out[part], _rows_of(hyp, part), _rows_of(ref, part), n_tokens)
        return
    n_hyp = len(hyp[0])
    sides = ((local[:n_hyp], row[:n_hyp]), (local[n_hyp:], row[n_hyp:]))
    out[:, 0], out[:, 1] = hyp[1], ref[1]
    key = [r * size + w for w, r in sides]
    for order in range(MAX_ORDER):
        if order:
            key = [_extended(k, w, r, order, size) for k, (w, r) in zip(key, sides, strict=True)]
        out[:, 2 + order] = _clipped_matches(key[0], key[1], n, size ** (order + 1))
        out[:, 2 + MAX_ORDER + order] = np.maximum(hyp[1] - order, 0)


def _rows_of(side: tuple[IntArray, IntArray], rows: slice) -> tuple[IntArray, IntArray]:
    """Return the tokens and lengths of some rows."""
    tokens, lengths = side
    ends = np.r_[0, np.cumsum(lengths)]
    return tokens[ends[rows.start] : ends[rows.stop]], lengths[rows]


def _fill_by_counting(out: FloatArray, hyp: Sequence[int], ref: Sequence[int]) -> None:
    """Fill in the statistics of one row with more different words than the keys have room for."""
    out[:2] = len(hyp), len(ref)
    for order in range(MAX_ORDER):
        one, two = (Counter(zip(*(side[i:] for i in range(order + 1)), strict=False)) for side in (hyp, ref))
        out[2 + order] = (one & two).total()
        out[2 + MAX_ORDER + order] = one.total()


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
    keys = np.sort(np.concatenate([hyp[hyp >= 0] * 2, ref[ref >= 0] * 2 + 1]))
    if not len(keys):
        return np.zeros(n)
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    counts = np.diff(np.r_[starts, len(keys)])
    distinct = keys[starts]
    both = np.flatnonzero((distinct[:-1] % 2 == 0) & (distinct[1:] == distinct[:-1] + 1))
    smaller = np.minimum(counts[both], counts[both + 1]).astype(float)
    return np.bincount(distinct[both] // 2 // per_row, weights=smaller, minlength=n).astype(np.float64)


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
