"""Spans: what coders leave in cells, what browsers count, and where quotes stand in a text."""

import json
import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbannot.study.spans import find_all, locate, make_span, read_span_column, read_spans

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
    return text, list(dict.fromkeys((min(c), max(c)) for c in cuts if c[0] != c[1]))


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
        try:
            spans, repaired = read_spans(cell(*browser), text, ())
        except ValueError as error:  # by chance another way of counting fits as well: nothing is proven
            if "ways" not in str(error):
                raise
            return
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

    def test_a_place_that_no_way_of_counting_proves_is_refused_unless_it_is_the_only_one(self):
        # a horse at 3–10 is UTF-16, a 🐎 at 0–1 is not: no way of counting fits both, and there are two 🐎
        mixed = cell({"start": 0, "end": 1, "text": "🐎"}, {"start": 3, "end": 10, "text": "a horse"})
        with pytest.raises(
            ValueError, match="'🐎' stands 2 times in the text and does not stand at its offsets 0–1"
        ):
            read_spans(mixed, HORSE, ())
        once = mixed.replace("🐎", "🐎 horse").replace('"end": 1,', '"end": 2,')
        spans, repaired = read_spans(once, HORSE, ())
        assert ([s["start"] for s in spans], repaired) == ([13, 2], 2)

    @pytest.mark.parametrize("start", [0, 1, 3, 5, 99])
    def test_a_wrong_offset_is_no_reason_to_take_the_nearest_place(self, start):
        with pytest.raises(
            ValueError, match=f"'haha' stands 3 times .* offsets {start}–{start + 7}: count code points"
        ):
            read_spans(cell({"start": start, "end": start + 7, "text": "haha"}), "hahahaha", ())

    def test_a_quote_without_offsets_needs_to_stand_there_once(self):
        assert read_spans(cell({"text": "horse,"}), HORSE, ())[0] == [make_span(HORSE, 4, 10, None)]
        with pytest.raises(ValueError, match="'horse' stands 2 times in the text and has no offsets"):
            read_spans(cell({"text": "horse"}), HORSE, ())

    def test_two_marks_never_stand_on_one_place(self):
        same = {"start": 0, "end": 1, "text": "🐎"}
        assert read_spans(cell(same, same), HORSE, ())[0] == [make_span(HORSE, 0, 1, None)]
        with pytest.raises(ValueError, match="two marks stand at the same place, 4–10: 'horse,'"):
            read_spans(cell({"text": "horse,", "start": 1, "end": 7}, {"text": "horse,"}), HORSE, ())

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


INTERVIEW = "".join(
    f"F: Waru\u0308m {i}? \U0001f914\U0001f914\r\nA: {'ja' if i % 2 else 'nein'}\r\n" for i in range(40)
)
COUNTED = {
    "line breaks as one": lambda t: t.replace("\r\n", "\n"),
    "composed": lambda t: unicodedata.normalize("NFC", t),
    "composed, line breaks as one": lambda t: unicodedata.normalize("NFC", t.replace("\r\n", "\n")),
    "white space run together": lambda t: re.sub(r"\s+", " ", t).strip(),
}
LENGTH = {
    "code points": len,
    "UTF-16": lambda t: len(t.encode("utf-16-le")) // 2,
    "bytes": lambda t: len(t.encode()),
}


class TestWaysOfCounting:
    """A tool that saw another text, or counted in another unit: the last five marks of an interview of 40 answers."""

    @staticmethod
    def marks(seen, length, *, first=0, inside=0):
        found = [m.start() for m in re.finditer("ja", seen)][-5:]
        at = [(length(seen[:n]) + first, length(seen[: n + 2]) - inside) for n in found]
        return cell(*({"start": a, "end": b, "text": "ja"} for a, b in at))

    RIGHT = tuple(m.start() for m in re.finditer("ja", INTERVIEW))[-5:]

    @pytest.mark.parametrize("unit", LENGTH)
    @pytest.mark.parametrize("seen", COUNTED)
    def test_marks_stand_where_they_were(self, seen, unit):
        spans, repaired = read_spans(self.marks(COUNTED[seen](INTERVIEW), LENGTH[unit]), INTERVIEW, ())
        assert tuple(s["start"] for s in spans) == self.RIGHT
        assert [s["text"] for s in spans] == ["ja"] * 5
        assert repaired == 5

    @pytest.mark.parametrize(("first", "inside"), [(0, 1), (1, 0)])
    @pytest.mark.parametrize("seen", ["line breaks as one", None])
    def test_from_one_or_with_the_end_inside(self, first, inside, seen):
        text = COUNTED[seen](INTERVIEW) if seen else INTERVIEW
        spans, repaired = read_spans(self.marks(text, len, first=first, inside=inside), INTERVIEW, ())
        assert tuple(s["start"] for s in spans) == self.RIGHT
        assert repaired == 5

    def test_decomposed_by_the_other_tool(self):
        text = unicodedata.normalize("NFC", INTERVIEW).replace("\r\n", "\n")
        spans, _ = read_spans(self.marks(unicodedata.normalize("NFD", text), len), text, ())
        assert tuple(s["start"] for s in spans) == tuple(m.start() for m in re.finditer("ja", text))[-5:]
        windows = text.replace("\n", "\r\n")
        spans, _ = read_spans(self.marks(windows, LENGTH["UTF-16"]), text, ())
        assert tuple(s["start"] for s in spans) == tuple(m.start() for m in re.finditer("ja", text))[-5:]

    def test_the_column_proves_what_a_cell_cannot(self):
        # In the first text the offsets of the third ja happen to be those of the second, counted with \r\n.
        text = "ja\r\nja\r\nja\r\n-ja"  # ja at 0, 4, 8, 13; with \n at 0, 3, 6, 10
        lone = "so\r\nso\r\nja\r\nok"  # with \n: ja at 6
        by_chance = "a\r\n\r\nja ja"  # ja at 5 and 8; with \n at 3 and 6
        shifted = "ok\r\n\r\n\r\nja ja"  # ja at 8 and 11; with \n at 5 and 8: also 8 as contracted
        column = read_span_column(
            [cell({"start": n, "end": n + 2, "text": "ja"}) for n in (10, 6, 3, 8)],
            [text, lone, by_chance, shifted],
            (),
        )
        assert [spans[0]["start"] for spans, _ in column] == [13, 8, 5, 11]
        alone = read_spans(cell({"start": 8, "end": 10, "text": "ja"}), shifted, ())
        assert alone == ([make_span(shifted, 8, 10, None)], 0)

    def test_two_ways_that_put_a_mark_elsewhere_prove_nothing(self):
        text = (
            "\U0001f914\r\njxj"  # 4 is the j at 3 in UTF-16, and the j at 5 with one character a line break
        )
        with pytest.raises(ValueError, match=r"2 ways \(in UTF-16 units or in code points, line breaks as"):
            read_spans(cell({"start": 4, "end": 5, "text": "j"}), text, ())
        spans, _ = read_spans(
            cell({"start": 4, "end": 5, "text": "j"}, {"start": 5, "end": 6, "text": "x"}), text, ()
        )
        assert [s["start"] for s in spans] == [3, 4]

    def test_one_bad_cell_does_not_take_its_proof_from_the_others(self):
        text = INTERVIEW
        good = self.marks(COUNTED["line breaks as one"](text), len)
        column = read_span_column(
            [good, cell({"start": 0, "end": 2, "text": "jo"}), "", "[]", "{"], [text] * 5, ()
        )
        assert [s["start"] for s in column[0][0]] == list(self.RIGHT)
        assert [type(found) for found in column] == [tuple, ValueError, tuple, tuple, ValueError]
        assert column[2:4] == [(None, 0), ([], 0)]


class TestOtherTools:
    TEXT = "no. " * 10 + "Yes, no doubt."

    @pytest.mark.parametrize(
        "item",
        [
            {"start": 20, "end": 22, "text": "no", "label": "X"},
            {"start": "20", "end": " 22.0", "text": "no", "label": "X"},
            {"start_offset": 20, "end_offset": 22, "text": "no", "label": "X"},
            {"startOffset": 20, "endOffset": 22, "quote": "no", "tag": "X"},
            {"start_char": 20, "end_char": 22, "label": "X"},
            {"begin": 20, "end": 22, "covered_text": "no", "category": "X"},
            {"start": 20, "end": 21, "text": "no", "label": "X"},
            {"start": 21, "end": 22, "text": "no", "label": "X"},
            {"start": 20, "end": None, "text": "no", "label": "X"},
            {"offset": 20, "length": 2, "text": "no", "label": "X"},
            {"value": {"start": 20, "end": 22, "text": "no", "labels": ["X"]}, "type": "labels", "id": "a1"},
            {"start": "/p[1]", "globalOffsets": {"start": 20, "end": 22}, "text": "no", "labels": ["X"]},
            {"label": ["X"], "points": [{"start": 20, "end": 21, "text": "no"}]},
            [20, 22, "X"],
        ],
    )  # fmt: skip
    def test_the_sixth_no(self, item):
        written = json.dumps([item])
        assert read_spans(written, self.TEXT, ("X", "Y"))[0] == [make_span(self.TEXT, 20, 22, "X")]

    def test_several_labels_are_several_spans(self):
        spans, _ = read_spans('[{"start": 20, "end": 22, "labels": ["X", "Y"]}]', self.TEXT, ("X", "Y"))
        assert [(s["start"], s["label"]) for s in spans] == [(20, "X"), (20, "Y")]
        with pytest.raises(ValueError, match="label 'Z' is not one of X, Y"):
            read_spans('[{"start": 20, "end": 22, "labels": ["X", "Z"]}]', self.TEXT, ("X", "Y"))

    @pytest.mark.parametrize(
        "item",
        [
            {"von": 20, "bis": 22, "text": "no", "label": "X"},
            {"start": "twenty", "end": 22, "text": "no", "label": "X"},
            {"start": float("nan"), "end": float("inf"), "text": "no", "label": "X"},
            {"start": True, "end": 22, "text": "no", "label": "X"},
            {"start": 1e300, "end": 2e300, "text": "no", "label": "X"},
        ],
    )
    def test_what_proves_no_place_is_refused(self, item):
        with pytest.raises(ValueError, match="'no' stands 11 times in the text"):
            read_spans(json.dumps([item]), self.TEXT, ("X",))

    def test_a_cell_nested_deeper_than_python_reads_is_refused(self):
        with pytest.raises(ValueError, match="is not JSON"):
            read_spans("[" * 100_000, self.TEXT, ())


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
    def test_many_quotes_are_looked_for_in_one_pass_over_the_text(self):
        text = "Nothing but words, and many of them. " * 3_000
        began = time.process_time()
        found = locate(text, [{"text": f"unfound {n}"} for n in range(300)])
        again = locate("ha " * 20_000, [{"text": "ha"} for _ in range(5_000)])
        assert time.process_time() - began < 3
        assert (len(found.missing), found.spans) == (300, [])
        assert [s["start"] for s in again.spans] == list(range(0, 15_000, 3))

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
