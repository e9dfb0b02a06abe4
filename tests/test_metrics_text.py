"""Text metrics: worked examples, empties and missing answers, equality with rapidfuzz, sacrebleu, rouge-score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbannot.measures import text
from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.text_extras import EXTRA_NAMES, TextExtras, UnicodeTokenizer, extra_scores
from nbannot.measures.text_field import TEXT_NAMES


def score(human, model, **more):
    return score_field(FieldData("textbox", (), human, model), n_resamples=100, **more)


def test_contract_names_and_order():
    assert " ".join(TEXT_NAMES) == (
        "percentage_agreement norm_levenshtein bleu rouge1_f rouge2_f rougeL_f cosine_similarity "
        "bertscore_precision bertscore_recall bertscore_f1 coverage presence_f1"
    )


def test_levenshtein_by_hand():
    assert text.levenshtein_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert text.levenshtein_similarity("", "") == 1
    assert text.levenshtein_similarity("", "abc") == 0


def test_composed_and_decomposed_accents_are_equal():
    assert text.levenshtein_similarity("café", "cafe\u0301") == 1
    found = score(["café"], ["cafe\u0301 "])
    assert found.results["percentage_agreement"].value == 1


def test_bleu_by_hand():
    """7 times "the" against "the cat is on the mat": 2 of 7 words match; the brevity penalty is 1."""
    counts = text.bleu_statistics(["the cat is on the mat"], ["the the the the the the the"])[0]
    assert counts.tolist() == [7, 6, 2, 0, 0, 0, 7, 6, 5, 4]
    precisions = [2 / 7, 1 / (2 * 6), 1 / (4 * 5), 1 / (8 * 4)]
    expected = 100 * math.prod(precisions) ** 0.25
    assert text.bleu(counts, effective_order=True) == pytest.approx(expected)


def test_one_word_answers():
    assert text.sentence_bleu("yes", "yes") == pytest.approx(100)
    assert text.corpus_bleu(["yes"], ["yes"]) == 0


def test_row_rule_for_empty_and_missing_texts():
    """Both empty: left out. One side empty, or no valid answer: 0. Two equal texts of four scored."""
    human = ["a b", "a b", "", "x", "", "a b", None]
    model = ["a b", "", "", None, "y", "a b", "z"]
    found = score(human, model)
    assert found.results["norm_levenshtein"].value == pytest.approx(2 / 5)
    assert found.results["norm_levenshtein"].n == 5
    assert found.results["norm_levenshtein"].n_answered == 4
    assert found.extra["norm_levenshtein_answered"].value == pytest.approx(2 / 4)
    assert found.results["percentage_agreement"].value == pytest.approx(2 / 5)
    assert found.results["coverage"].value == pytest.approx(5 / 6)
    # something written: human 4 of 6, model 3 (the missing answer counts for neither side), both 2
    assert found.results["presence_f1"].value == pytest.approx(2 * 2 / (4 + 3))
    assert {k: found.counts[k] for k in ("both_empty", "human_only", "model_only", "both", "unanswered")} == {
        "both_empty": 1,
        "human_only": 1,
        "model_only": 1,
        "both": 2,
        "unanswered": 1,
    }
    assert found.counts["no_reference"] == 1


def test_nothing_but_empty_texts():
    found = score(["", " "], ["", ""]).results
    for name in ("norm_levenshtein", "bleu", "percentage_agreement"):
        assert math.isnan(found[name].value)
        assert found[name].reason == "no text on either side"
    assert found["coverage"].value == 1


def test_chance_correction_by_hand():
    """Equal pairs of two texts that share nothing: chance is 1/2, so 1 stays 1; crossed pairs go to -1."""
    assert score(["aa", "bb"], ["aa", "bb"]).extra["norm_levenshtein_chance_corrected"].value == 1
    assert score(["aa", "bb"], ["bb", "aa"]).extra["norm_levenshtein_chance_corrected"].value == -1


def test_short_texts_get_a_warning_about_bleu():
    assert any(note.startswith("BLEU is unsuitable here") for note in score(["yes"] * 3, ["no"] * 3).notes)
    long = ["this text has more than eight words in all of it"] * 3
    assert not any("BLEU is unsuitable" in note for note in score(long, long).notes)
    assert any(
        "without spaces" in note
        for note in score(["政府昨天宣布了一项新的税收政策以帮助小企业"], ["是"]).notes
    )


def test_signatures_are_recorded():
    found = score(["a"], ["a"]).signature
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:")
    assert found["bleu_corpus"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_an_unanswered_row_never_raises_a_mean():
    human, model = ["a b c", "d e"], ["a b", "d e"]
    before, after = score(human, model).results, score([*human, "f"], [*model, None]).results
    for name in ("norm_levenshtein", "bleu", "percentage_agreement", "presence_f1", "coverage"):
        assert after[name].value <= before[name].value + 1e-12


def test_intervals_of_means_are_those_of_the_mean():
    rng = np.random.default_rng(1)
    human = ["abcdefghij"] * 300
    model = ["abcdefghij"[: int(k)] for k in rng.integers(1, 11, 300)]
    found = score_field(FieldData("textbox", (), human, model)).results["norm_levenshtein"]
    each = text.levenshtein_similarities(human, model)
    half = 1.96 * each.std() / math.sqrt(300)
    assert found.ci_low == pytest.approx(each.mean() - half, abs=2e-3)
    assert found.ci_high == pytest.approx(each.mean() + half, abs=2e-3)


# --- reference packages ---------------------------------------------------------------------------

pieces = [
    "tax",
    "cut",
    "don't",
    "U.S.",
    "3.5",
    "a,b",
    "-5",
    "10-20",
    "(yes)",
    "end.",
    "&amp;",
    "é",
    "\u00a0",
    "x",
    ".",
]
sentences = st.lists(st.sampled_from(pieces), max_size=9).map(" ".join)
any_text = st.one_of(sentences, st.text(max_size=20), st.text(alphabet="a.,-5 \n&<>;", max_size=15))


@settings(max_examples=300, deadline=None)
@given(any_text, any_text)
@example("\x00", "0")
@example("\x00", "")
def test_sentence_bleu_equals_sacrebleu(human, model):
    from sacrebleu.metrics.bleu import BLEU

    expected = BLEU(effective_order=True).sentence_score(model, [human]).score
    assert text.sentence_bleu(human, model) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(any_text, any_text), min_size=1, max_size=6),
    st.sampled_from(["13a", "char", "none", "intl"]),
)
def test_corpus_bleu_equals_sacrebleu(pairs, tokenize):
    from sacrebleu.metrics.bleu import BLEU

    human, model = (list(side) for side in zip(*pairs, strict=True))
    expected = BLEU(tokenize=tokenize).corpus_score(model, [human]).score
    assert text.corpus_bleu(human, model, tokenize) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n_words", [50_000, 60_000])
def test_long_texts_whose_keys_do_not_fit_one_integer(n_words):
    """So many different words to the fourth power times three rows is beyond 2**62; 60,000 even in one row."""
    words = [f"w{i}" for i in range(n_words)]
    human = [" ".join(words), "a b c d e", " ".join(words[:10])]
    model = [" ".join(words[:40_000]), "a b c d", " ".join(words[5:15])]
    whole = text.bleu_statistics(human, model)
    assert whole[0].tolist() == [40_000, n_words, *range(40_000, 39_996, -1), *range(40_000, 39_996, -1)]
    for row in (1, 2):
        assert whole[row].tolist() == text.bleu_statistics([human[row]], [model[row]])[0].tolist()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_levenshtein_equals_rapidfuzz(human, model):
    from rapidfuzz.distance import Levenshtein

    expected = Levenshtein.normalized_similarity(text.nfc(human), text.nfc(model))
    assert text.levenshtein_similarity(human, model) == pytest.approx(expected, abs=1e-12)


ascii_words = st.lists(st.sampled_from(["tax", "taxes", "taxed", "the", "rich", "42"]), max_size=8).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(ascii_words, ascii_words, st.booleans())
def test_rouge_equals_rouge_score_on_plain_words(human, model, stemmer):
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    reference = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stemmer).score(
        human, model
    )
    found = extra_scores([human], [model], TextExtras(("rouge",), rouge_stemmer=stemmer)).values
    for name, expected in reference.items():
        assert found[f"{name}_f"][0] == pytest.approx(expected.fmeasure, abs=1e-12)


# --- extras ---------------------------------------------------------------------------------------


def test_rouge_keeps_letters_of_every_script():
    pytest.importorskip("rouge_score")
    found = extra_scores(
        ["налоговая реформа", "Économie d’été"],
        ["налоговая реформа", "économie d’été"],
        TextExtras(("rouge",)),
    )
    assert found.values["rouge1_f"].tolist() == [1, 1]
    assert found.signature["rouge"].endswith(r"|tok:\w+ casefold|stemmer:no")
    assert UnicodeTokenizer().tokenize("L’été, 2 fois") == ["l", "été", "2", "fois"]


def test_extras_stay_blank_with_a_reason_when_not_asked_for():
    found = score(["a b"], ["a c"]).results
    for name in EXTRA_NAMES:
        assert math.isnan(found[name].value)
        assert "nbannot[textbox]" in found[name].reason


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rouge_score", None)
    found = score(["a b"], ["a c"], extras=TextExtras(("rouge",))).results["rouge1_f"]
    assert math.isnan(found.value)
    assert found.reason.startswith("extra not installed: rouge_score")


def test_rouge_in_the_field():
    pytest.importorskip("rouge_score")
    found = score(["a b", "c d", "", "e"], ["a b", "c x", "", None], extras=TextExtras(("rouge",))).results[
        "rouge1_f"
    ]
    assert found.value == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found.n == 3
