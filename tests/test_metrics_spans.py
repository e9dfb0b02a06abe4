"""Span metrics: worked examples, plain set arithmetic as oracle, nervaluate, order and missing answers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbannot.errors import ScoringError
from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.span_field import SPAN_NAMES
from nbannot.measures.spans import TOKEN, quote_f1, token_bounds

LABELS = ("ACTOR", "CLAIM")


def score(human, model, texts, labels=LABELS, **more):
    return score_field(FieldData("span", labels, human, model, texts=texts, **more), n_resamples=100)


def values(found) -> dict[str, float]:
    return {name: result.value for name, result in (found.results | found.extra).items()}


def test_contract_names_and_order():
    assert " ".join(SPAN_NAMES) == (
        "token_f1 exact_match_f1 char_iou token_precision token_recall partial_f1 presence_f1 coverage"
    )


def test_one_text_by_hand():
    """Human [0,9) "red apple"; model [4,15) "apple fell.": one shared token of 2 and 3, 5 shared of 15 characters."""
    found = values(score([[(0, 9, "ACTOR")]], [[(4, 15, "ACTOR")]], ["red apple fell."]))
    assert found["token_precision"] == pytest.approx(1 / 3)
    assert found["token_recall"] == pytest.approx(1 / 2)
    assert found["token_f1"] == pytest.approx(2 / 5)
    assert found["char_iou"] == pytest.approx(5 / 15)
    assert found["exact_match_f1"] == 0
    assert found["partial_f1"] == pytest.approx(1 / 2)
    assert found["presence_f1"] == 1


def test_the_label_counts():
    found = values(score([[(0, 3, "ACTOR")]], [[(0, 3, "CLAIM")]], ["red apple"]))
    assert found["token_f1"] == found["exact_match_f1"] == found["char_iou"] == 0
    assert found["token_f1_unlabelled"] == found["exact_match_f1_unlabelled"] == 1
    assert found["partial_f1"] == 1  # the SemEval scheme looks at boundaries only
    assert found["partial_f1_labelled"] == found["type_f1"] == 0


def test_touching_spans_do_not_overlap():
    found = values(score([[(0, 2, "ACTOR")]], [[(2, 5, "ACTOR")]], ["ab cd"]))
    assert found["partial_f1"] == 0
    assert found["char_iou"] == 0


def test_two_empty_sides_inflate_nothing():
    human = [[]] * 90 + [[(0, 3, None)]] * 10
    found = score(human, [[]] * 100, ["one span"] * 100, ())
    assert values(found)["char_iou"] == 0
    assert values(found)["token_f1"] == 0
    assert values(found)["presence_f1"] == 0
    assert found.counts["both_empty"] == 90
    assert found.counts["human_only"] == 10
    assert any(note.startswith("In 90% of the texts neither side") for note in found.notes)


def test_nothing_anywhere_is_undefined():
    found = score([[], []], [[], []], ["a", "b"]).results
    for name in SPAN_NAMES[:-1]:
        assert math.isnan(found[name].value)
    assert found["token_f1"].reason == "no spans on either side"
    assert found["token_precision"].reason == "no spans from the model"
    assert found["token_recall"].reason == "no human spans"
    assert found["coverage"].value == 1


def test_a_missing_answer_misses_every_human_span():
    spans = [(0, 3, "ACTOR"), (4, 9, "CLAIM")]
    found = score([spans, spans, None], [spans, None, spans], ["red apple"] * 3)
    assert values(found)["token_f1"] == pytest.approx(2 * 2 / (4 + 2))
    assert values(found)["token_f1_answered"] == 1
    assert values(found)["coverage"] == 0.5
    assert found.counts["no_reference"] == 1
    assert found.counts["unanswered"] == 1


def test_quotes_that_are_nowhere_in_the_text_are_false_positives():
    human = [[(0, 3, "ACTOR")]]
    plain = values(score(human, human, ["red apple"]))
    quoted = score(human, human, ["red apple"], unaligned=[["green pear"]])
    counted = score(human, human, ["red apple"], unaligned=[1])
    assert plain["token_f1"] == plain["exact_match_f1"] == 1
    assert values(quoted)["exact_match_f1"] == pytest.approx(2 / 3)
    assert values(quoted)["token_f1"] == pytest.approx(2 / 4)  # "green pear" is two tokens
    assert values(counted)["token_f1"] == pytest.approx(2 / 3)
    assert quoted.counts["unaligned"] == 1


def test_model_spans_outside_the_text_are_false_positives_too():
    found = score([[(0, 3, "ACTOR")]], [[(0, 3, "ACTOR"), (5, 99, "ACTOR"), (0, 3, "OTHER")]], ["red apple"])
    assert values(found)["exact_match_f1"] == pytest.approx(2 / 4)
    assert found.counts["unaligned"] == 2


def test_human_spans_outside_the_text_stop():
    with pytest.raises(ScoringError, match="1 human spans do not fit their text"):
        score([[(0, 30, "ACTOR")]], [[]], ["red apple"])


def test_code_points_not_bytes_or_utf16():
    """The emoji is one code point (two UTF-16 units): [2,7) is "apple"."""
    found = values(score([[(2, 7, "ACTOR")]], [[(2, 7, "ACTOR")]], ["🍎 apple"]))
    assert found["token_f1"] == 1
    assert found["char_iou"] == 1


def test_identical_spans_count_once():
    found = score([[(0, 3, "ACTOR")]], [[(0, 3, "ACTOR")] * 5], ["red apple"])
    assert values(found)["exact_match_f1"] == 1
    assert found.counts["duplicates"] == 4


def test_spans_whose_words_stand_elsewhere_too_are_counted():
    texts = ["no, no and yes", "aaa"]
    found = score([[(0, 2, "ACTOR")], []], [[(4, 6, "ACTOR"), (11, 14, "CLAIM")], [(0, 2, "ACTOR")]], texts)
    assert found.counts["ambiguous"] == 2
    assert any(
        note.startswith("2 of 3 spans of the model have words that stand more than once")
        for note in found.notes
    )
    assert score([[]], [[(11, 14, "CLAIM")]], texts[:1]).counts["ambiguous"] == 0


def test_per_label_rows():
    human = [[(0, 3, "ACTOR"), (4, 9, "CLAIM")]]
    found = {row["label"]: row for row in score(human, [[(0, 9, "ACTOR")]], ["red apple"]).per_class}
    assert found["ACTOR"]["precision"] == 0.5
    assert found["ACTOR"]["recall"] == 1
    assert found["CLAIM"]["recall"] == 0
    assert math.isnan(found["CLAIM"]["precision"])
    assert found["CLAIM"]["precision_reason"] == "never predicted"
    assert (found["CLAIM"]["support"], found["CLAIM"]["predicted"]) == (1, 0)


def test_quote_f1_without_offsets():
    assert quote_f1("the prime minister", "Prime Minister Smith") == pytest.approx(0.8)
    assert quote_f1("", "") == 1
    assert quote_f1("x", "") == 0
    assert quote_f1("the", "a") == 1  # the English article rule
    assert quote_f1("the", "a", articles=()) == 0


# --- oracles ---------------------------------------------------------------------------------------

words = st.text(alphabet="ab é.,中文\U0001f34e\n", max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(words, max_size=6))
def test_tokens_equal_the_regular_expression(texts):
    start, end = token_bounds(texts)
    expected, offset = [], 0
    for text in texts:
        expected += [(offset + m.start(), offset + m.end()) for m in TOKEN.finditer(text)]
        offset += len(text)
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == expected


def span_lists(length: int):
    span = st.tuples(st.integers(0, length - 1), st.integers(1, 6), st.sampled_from(LABELS)).map(
        lambda s: (s[0], min(length, s[0] + s[1]), s[2])
    )
    return st.lists(span, max_size=4)


TEXT = "The tax, they said, will rise. 中文 no"
documents = st.lists(st.tuples(span_lists(len(TEXT)), span_lists(len(TEXT))), min_size=1, max_size=6)


def by_sets(documents):
    """Token, character and exact counts by plain sets, label by label."""
    tokens = [(m.start(), m.end()) for m in TOKEN.finditer(TEXT)]
    sides = []
    for side in (0, 1):
        exact, token, char = set(), set(), set()
        for number, document in enumerate(documents):
            for start, end, label in document[side]:
                exact.add((number, start, end, label))
                token |= {(number, t, label) for t in tokens if t[0] < end and start < t[1]}
                char |= {(number, c, label) for c in range(start, end)}
        sides.append((exact, token, char))
    return [(len(a & b), len(a), len(b)) for a, b in zip(*sides, strict=True)]


@settings(max_examples=150, deadline=None)
@given(documents, st.randoms(use_true_random=False))
def test_counts_equal_plain_sets_in_any_order(documents, rng):
    human, model = (list(column) for column in zip(*documents, strict=True))
    found = values(score(human, model, [TEXT] * len(documents)))
    (exact, human_n, model_n), (token, human_t, model_t), (char, human_c, model_c) = by_sets(documents)
    expected = {
        "exact_match_f1": (2 * exact, human_n + model_n),
        "token_f1": (2 * token, human_t + model_t),
        "token_precision": (token, model_t),
        "token_recall": (token, human_t),
        "char_iou": (char, human_c + model_c - char),
    }
    for name, (top, bottom) in expected.items():
        assert found[name] == pytest.approx(top / bottom if bottom else math.nan, abs=1e-12, nan_ok=True), (
            name
        )
    shuffled = [rng.sample(spans, len(spans)) for spans in model]
    again = values(score(human, shuffled, [TEXT] * len(documents)))
    assert again == pytest.approx(found, abs=1e-12, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(documents)
def test_exchanging_the_sides_changes_no_f1(documents):
    human, model = (list(column) for column in zip(*documents, strict=True))
    one = values(score(human, model, [TEXT] * len(documents)))
    two = values(score(model, human, [TEXT] * len(documents)))
    for name in ("token_f1", "exact_match_f1", "char_iou", "presence_f1"):
        assert one[name] == pytest.approx(two[name], abs=1e-12, nan_ok=True)
    assert one["token_precision"] == pytest.approx(two["token_recall"], abs=1e-12, nan_ok=True)


def test_partial_and_type_f1_equal_nervaluate_on_disjoint_spans():
    """nervaluate's ends are inclusive, and its matching follows the list order: disjoint, sorted spans."""
    from nervaluate.evaluator import Evaluator

    rng = random.Random(4)
    human, model = ([_disjoint(rng) for _ in range(60)] for _ in range(2))
    entities = [
        [[{"label": label, "start": start, "end": end - 1} for start, end, label in spans] for spans in side]
        for side in (human, model)
    ]
    reference = Evaluator(*entities, tags=list(LABELS), loader="dict", min_overlap_percentage=1.0).evaluate()
    overall = reference["overall"]
    found = values(score(human, model, ["x" * 60] * 60))
    assert found["partial_f1"] == pytest.approx(overall["partial"].f1)
    assert found["exact_match_f1"] == pytest.approx(overall["strict"].f1)
    assert found["exact_match_f1_unlabelled"] == pytest.approx(overall["exact"].f1)


def _disjoint(rng: random.Random):
    spans, position = [], 0
    for _ in range(rng.randrange(4)):
        start = position + rng.randrange(1, 8)
        position = start + rng.randrange(1, 8)
        spans.append((start, position, rng.choice(LABELS)))
    return spans
