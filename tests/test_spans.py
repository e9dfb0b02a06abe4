"""Spans: what coders leave in cells, what browsers count, and where quotes stand in a text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbannot.study.spans import find_all, locate, make_span, read_spans

HORSE = "🐎 a horse, a 🐎 horse"
PIECES = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        " ",
        "  ",
        "\n",
        "É",
        "e\u0301",
        "🐎",
        "👩🏽\u200d🚀",
        "“",
        '"',
        "’",
        "ß",
        "İ",
        "한",
        "が",
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=25).map("".join)


def cell(*spans, **more):
    return json.dumps([{**span, **more} for span in spans], ensure_ascii=False)


def utf16(text, index):
    """Units before the code point at `index`, as JavaScript counts them."""
    return sum(2 if ord(c) > 0xFFFF else 1 for c in text[:index])


@st.composite
def text_and_places(draw):
    text = draw(TEXTS)
    cuts = draw(st.lists(st.tuples(*[st.integers(0, len(text))] * 2), max_size=4))
    return text, [(min(c), max(c)) for c in cuts if c[0] != c[1]]


class TestReadSpans:
    def test_blank_is_not_coded_and_an_empty_list_is_coded_as_nothing(self):
        assert read_spans("", "text", ()) == (None, 0)
        assert read_spans(" \n", "text", ()) == (None, 0)
        assert read_spans("[]", "text", ()) == ([], 0)

    @given(text_and_places())
    def test_code_point_offsets_are_kept(self, given_text):
        text, places = given_text
        spans = [make_span(text, a, b, "x") for a, b in places]
        assert read_spans(cell(*spans), text, ("x",)) == (spans, 0)

    @given(text_and_places())
    def test_utf16_offsets_come_back_as_passages_with_the_same_words(self, given_text):
        text, places = given_text
        browser = [
            {"start": utf16(text, a), "end": utf16(text, b), "text": text[a:b], "label": None}
            for a, b in places
        ]
        spans, repaired = read_spans(cell(*browser), text, ())
        assert [s["text"] for s in spans] == [text[a:b] for a, b in places]
        assert all(text[s["start"] : s["end"]] == s["text"] for s in spans)
        moved = [
            (s["start"], s["end"]) != (b["start"], b["end"]) for s, b in zip(spans, browser, strict=True)
        ]
        assert repaired == sum(moved)

    @given(text_and_places())
    def test_utf16_offsets_of_distinct_words_are_repaired_exactly(self, given_text):
        text, places = given_text
        marked = "".join(f"{c}{i}." for i, c in enumerate(text))  # no passage occurs twice
        # every place is moved to the marked text by counting the marks before it
        at = [0]
        for i, c in enumerate(text):
            at.append(at[-1] + len(f"{c}{i}."))
        spans = [make_span(marked, at[a], at[b], None) for a, b in places]
        browser = [{**s, "start": utf16(marked, s["start"]), "end": utf16(marked, s["end"])} for s in spans]
        assert read_spans(cell(*browser), marked, ())[0] == spans

    def test_utf16_after_an_emoji_is_repaired_and_counted(self):
        # 🐎 is two UTF-16 units: "a horse" stands at 2–9 in code points and at 3–10 in a browser
        spans, repaired = read_spans(cell({"start": 3, "end": 10, "text": "a horse"}), HORSE, ())
        assert (spans, repaired) == ([make_span(HORSE, 2, 9, None)], 1)

    def test_one_cell_is_counted_in_one_unit(self):
        # In "😀aab" the browser's 2–3 is the first a, but as code points 2–3 is the second, also an a.
        # The other span of the cell, b at 4–5, fits only as UTF-16, so both are read that way.
        text = "😀aab"
        browser = cell({"start": 2, "end": 3, "text": "a"}, {"start": 4, "end": 5, "text": "b"})
        assert read_spans(browser, text, ()) == (
            [make_span(text, 1, 2, None), make_span(text, 3, 4, None)],
            2,
        )

    def test_spans_of_one_cell_that_fit_neither_unit_together_are_repaired_one_by_one(self):
        spans, repaired = read_spans(
            cell({"start": 0, "end": 1, "text": "🐎"}, {"start": 3, "end": 10, "text": "a horse"}), HORSE, ()
        )
        assert ([s["start"] for s in spans], repaired) == ([0, 2], 1)

    @pytest.mark.parametrize(("start", "place"), [(0, 0), (1, 0), (3, 2), (5, 4), (99, 4), (None, 0)])
    def test_a_wrong_offset_goes_to_the_nearest_occurrence_also_an_overlapping_one(self, start, place):
        end = None if start is None else start + 7
        spans, repaired = read_spans(cell({"start": start, "end": end, "text": "haha"}), "hahahaha", ())
        assert (spans[0]["start"], repaired) == (place, 1)

    def test_offsets_that_a_table_made_floats_are_offsets(self):
        text = "no no no"
        assert read_spans(cell({"start": 6.0, "end": 8.0, "text": "no"}), text, ()) == (
            [make_span(text, 6, 8, None)],
            0,
        )

    def test_offsets_without_a_quote_are_taken_as_they_are(self):
        assert read_spans('[{"start": 0, "end": 2}]', "horse", ()) == ([make_span("horse", 0, 2, None)], 0)

    def test_a_quote_that_differs_in_white_space_takes_the_words_of_the_text(self):
        spans, repaired = read_spans(cell({"start": 0, "end": 3, "text": "a\nb"}), "a\r\nb", ())
        assert (spans, repaired) == ([make_span("a\r\nb", 0, 4, None)], 1)

    def test_an_unlabelled_field_has_no_labels(self):
        assert read_spans('[{"start": 0, "end": 1, "text": "h", "label": "mark"}]', "horse", ())[0] == [
            make_span("horse", 0, 1, None)
        ]

    @pytest.mark.parametrize(
        ("written", "why"),
        [
            ("horse", "is not JSON (Expecting value)"),
            ("[{", "is not JSON (Expecting property name enclosed in double quotes)"),
            ('{"text": "a"}', 'must be a JSON list of {"start", "end", "text", "label"}'),
            ('["a"]', 'must be a JSON list of {"start", "end", "text", "label"}'),
            ('[{"start": 0, "end": 5, "text": "horse", "label": "cow"}]', "label 'cow' is not one of animal"),
            ('[{"start": 0, "end": 5, "text": "horse"}]', "label None is not one of animal"),
            ('[{"text": "cow", "label": "animal"}]', "the quote 'cow' is not in the text"),
            ('[{"text": "", "label": "animal"}]', "the quote '' is not in the text"),
            ('[{"text": 5, "label": "animal"}]', "the quote 5 is not a text"),
            (
                '[{"start": 0, "end": 6, "label": "animal"}]',
                "offsets 0–6 are outside the text (5 characters)",
            ),
            (
                '[{"start": -1, "end": 3, "label": "animal"}]',
                "offsets -1–3 are outside the text (5 characters)",
            ),
            (
                '[{"start": 2, "end": 2, "label": "animal"}]',
                "offsets 2–2 are outside the text (5 characters)",
            ),
            (
                '[{"start": true, "end": 2, "label": "animal"}]',
                "offsets None–2 are outside the text (5 characters)",
            ),
        ],
    )
    def test_what_cannot_be_read_says_why(self, written, why):
        with pytest.raises(ValueError) as caught:
            read_spans(written, "horse", ("animal",))
        assert str(caught.value) == why


class TestFindAll:
    @given(text_and_places())
    def test_every_passage_is_found_where_it_was_cut(self, given_text):
        text, places = given_text
        for a, b in places:
            found = find_all(text, text[a:b], overlapping=True)
            assert (a, b) in found or not text[a:b].strip()

    @given(TEXTS, TEXTS)
    def test_places_are_in_the_text_in_order_and_apart(self, text, quote):
        places = find_all(text, quote)
        assert all(0 <= a < b <= len(text) for a, b in places)
        assert all(first[1] <= second[0] for first, second in pairwise(places))

    @pytest.mark.parametrize(
        ("text", "quote", "places"),
        [
            ("aaa", "a", [(0, 1), (1, 2), (2, 3)]),
            ("aaaa", "aa", [(0, 2), (2, 4)]),
            ("A horse. a horse", "a horse", [(9, 16)]),  # exact places hide the merely similar
            ("A HORSE", "a horse", [(0, 7)]),
            ("a \t\n horse", "a horse", [(0, 10)]),
            ("a\u00a0horse", "a horse", [(0, 7)]),
            ("“Nay”, he said", '"nay"', [(0, 5)]),
            ("don’t", "don't", [(0, 5)]),
            ("cafe\u0301 noir", "café noir", [(0, 10)]),
            ("café noir", "cafe\u0301 noir", [(0, 9)]),
            ("がく", "か\u3099く", [(0, 2)]),
            ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", [(0, 2)]),
            ("Straße", "STRASSE", [(0, 6)]),
            ("ß", "S", []),  # half of what ß folds to is no passage
            ("a horse", "  a horse \n", [(0, 7)]),
            ("a horse", "a house", []),
            ("a horse", "", []),
            ("a horse", "  ", []),
            ("", "a", []),
            ("a.b", "a?b", []),
        ],
    )
    def test_examples(self, text, quote, places):
        assert find_all(text, quote) == places

    def test_overlapping_places_on_request(self):
        assert find_all("aaaa", "aa", overlapping=True) == [(0, 2), (1, 3), (2, 4)]
        assert find_all("AAA", "aa", overlapping=True) == [(0, 2), (1, 3)]


class TestLocate:
    def test_a_repeated_quote_takes_the_next_place(self):
        found = locate("ha and ha", [{"text": "ha"}, {"text": "ha"}])
        assert ([s["start"] for s in found.spans], found.missing, found.ambiguous) == ([0, 7], [], 2)

    def test_a_quote_given_more_often_than_it_occurs_counts_once(self):
        found = locate("ha!", [{"text": "ha"}, {"text": "ha"}])
        assert (len(found.spans), found.missing, found.ambiguous) == (1, [], 0)

    def test_the_start_chooses_the_place(self):
        found = locate("ha and ha", [{"text": "ha", "start": 6}])
        assert found.spans == [make_span("ha and ha", 7, 9, None)]

    def test_the_same_quote_with_the_same_start_is_one_span(self):
        found = locate("ha and ha", [{"text": "ha", "start": 0}, {"text": "ha", "start": 0}])
        assert found.spans == [make_span("ha and ha", 0, 2, None)]

    def test_two_labels_may_stand_on_one_passage(self):
        found = locate("ha and ha", [{"text": "ha", "label": "x"}, {"text": "ha", "label": "y"}])
        assert [(s["start"], s["label"]) for s in found.spans] == [(0, "x"), (0, "y")]

    def test_what_is_not_there_is_named_and_the_rest_is_in_text_order(self):
        found = locate("one two", [{"text": "two"}, {"text": "three"}, {"text": "one", "label": ""}])
        assert found.missing == ["three"]
        assert found.spans == [make_span("one two", 0, 3, None), make_span("one two", 4, 7, None)]

    @given(text_and_places())
    def test_spans_are_passages_of_the_text_and_no_quote_is_both_placed_and_missing(self, given_text):
        text, places = given_text
        quotes = [{"text": text[a:b]} for a, b in places]
        found = locate(text, quotes)
        assert all(text[s["start"] : s["end"]] == s["text"] for s in found.spans)
        assert not [quote for quote in found.missing if quote.strip()]
        assert len({(s["start"], s["end"]) for s in found.spans}) == len(found.spans)


def test_the_label_of_a_span_is_the_same_however_its_accents_are_encoded():
    cell = json.dumps([{"start": 0, "end": 3, "text": "the", "label": "re\u0301gion"}])
    spans, repaired = read_spans(cell, "the horse", ["r\u00e9gion"])
    assert ([span["label"] for span in spans], repaired) == (["r\u00e9gion"], 0)
