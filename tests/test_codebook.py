"""The codebook: Studio's format read strictly, conditions, the hash, and codebooks written in Python."""

# ruff: noqa: E501 (messages are written as people read them)

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbannot.errors import CodebookError
from nbannot.study.codebook import Codebook
from nbannot.study.field import Condition, Field, read_example
from nbannot.study.questions import checkbox, dropdown, likert, span, textbox
from nbannot.study.task_sources import bundled_tasks, load_task

DATA = Path(__file__).parent / "data"
YES_NO = {"name": "C", "type": "checkbox"}


def raw(*annotations, **top):
    numbered = {f"annotation_{n}": a for n, a in enumerate(annotations, start=1)}
    return {"text_column": "text", **top, "section_1": {"section_name": "S", "annotations": numbered}}


def on(key, value, section="section_1"):
    return {"section_key": section, "annotation_key": key, "value": value}


def one(kind, **more):
    return Codebook.from_dict(raw({"name": "F", "type": kind, **more})).fields[0]


def message(source):
    with pytest.raises(CodebookError) as caught:
        Codebook.from_dict(source)
    return f"CodebookError: {caught.value}"


FIELDS = {
    "checkbox": one("checkbox"),
    "dropdown": one("dropdown", options=["None", "NA", "null", "No", "1", "nan", "no", " blank "]),
    "likert": one("likert", min_value=-2, max_value=2),
    "textbox": one("textbox"),
    "span": one("span", label_options=["x", "y"]),
    "highlight": one("span"),
}


class TestReading:
    def test_a_codebook_of_the_contract_loads(self):
        source = {
            "header_column": "title",
            "text_column": "text",
            "metadata_columns": ["date", "source"],
            "codebook_id": "c",
            "version": 2,
            "some_other_tool": {"keeps": "this"},
            "section_1": {
                "section_name": "Policy Sentiment",
                "section_instruction": "Read it all.",
                "annotations": {
                    "annotation_10": {"name": "Last", "type": "textbox", "tooltip": "", "example": ""},
                    "annotation_2": {
                        "name": "Direction",
                        "type": "dropdown",
                        "tooltip": "Which way?",
                        "options": ["up", "down"],
                        "option_descriptions": {"up": "upwards"},
                        "condition": on("annotation_1", 1),
                    },
                    "annotation_1": {"name": "Evaluates", "type": "checkbox"},
                },
            },
            "section_0": {
                "section_name": "B",
                "annotations": {"annotation_1": {"name": "Who", "type": "span"}},
            },
        }
        codebook = Codebook.from_dict(source)
        assert [f.column for f in codebook] == [
            "Policy Sentiment_Evaluates",
            "Policy Sentiment_Direction",
            "Policy Sentiment_Last",
            "B_Who",
        ]
        direction = codebook["Direction"]
        assert direction == codebook["Policy Sentiment_Direction"]
        assert (direction.instruction, direction.tooltip, direction.where) == (
            "Read it all.",
            "Which way?",
            "section_1 / annotation_2",
        )
        assert direction.option_descriptions == (("up", "upwards"),)
        assert direction.condition == Condition("Policy Sentiment_Evaluates", 1)
        assert (codebook.text_column, codebook.header_column) == ("text", "title")
        assert codebook.metadata_columns == ("date", "source")
        assert (codebook.id_column, codebook.codebook_id, codebook.version) == (None, "c", "2")
        assert (len(codebook), repr(codebook)) == (4, "<Codebook: 2 sections, 4 fields>")
        assert codebook.to_dict() == source

    @pytest.mark.parametrize("name", bundled_tasks())
    def test_bundled_codebooks_load_with_every_example_understood(self, name):
        codebook = load_task(name).codebook
        assert codebook.notes == ()
        assert all(e.response is not None for f in codebook for e in f.examples)

    @pytest.mark.parametrize(
        "path", sorted(DATA.rglob("codebook.json")), ids=lambda p: str(p.relative_to(DATA))
    )
    def test_codebooks_from_studio_load_unchanged(self, path):
        codebook = Codebook.load(path)
        assert codebook.to_dict() == json.loads(path.read_text(encoding="utf-8"))
        assert codebook.notes == ()

    def test_a_folder_or_a_file_with_byte_order_mark(self, tmp_path):
        written = json.dumps(raw({"name": "Größe", "type": "checkbox"}), ensure_ascii=False)
        (tmp_path / "codebook.json").write_text(written, encoding="utf-8-sig")
        assert Codebook.load(tmp_path) == Codebook.load(str(tmp_path / "codebook.json"))
        assert Codebook.load(tmp_path).fields[0].column == "S_Größe"

    def test_the_codebook_does_not_change_with_the_dictionary_it_came_from(self):
        source = raw(copy.deepcopy(YES_NO))
        codebook = Codebook.from_dict(source)
        source["section_1"]["annotations"]["annotation_1"]["name"] = "other"
        codebook.to_dict()["section_1"]["section_name"] = "other"
        assert codebook.to_dict() == raw(YES_NO)

    def test_names_that_several_fields_have_need_the_column(self):
        codebook = Codebook.build(text_column="t", sections={"A": [checkbox("X")], "B": [checkbox("X")]})
        assert codebook["B_X"].section == "B"
        with pytest.raises(CodebookError) as caught:
            codebook["X"]
        assert str(caught.value) == "2 fields are called 'X'.\n  Use the column: A_X, B_X."

    def test_an_unknown_field_is_answered_with_the_nearest(self):
        with pytest.raises(CodebookError) as caught:
            load_task("policy-sentiment").codebook["Direktion"]
        assert str(caught.value) == (
            "the codebook has no field 'Direktion'; did you mean 'Direction'?\n"
            "  Its fields: Policy Sentiment_Explicit evaluation, Policy Sentiment_Direction, "
            "Policy Sentiment_Intensity, Policy Sentiment_Evidence."
        )


class TestFields:
    @pytest.mark.parametrize(
        ("kind", "level", "labels", "schema"),
        [
            ("checkbox", "nominal", (0, 1), {"type": "boolean"}),
            ("likert", "ordinal", (-2, -1, 0, 1, 2), {"type": "integer", "minimum": -2, "maximum": 2}),
            ("textbox", "text", (), {"type": "string"}),
            (
                "span",
                "unitizing",
                ("x", "y"),
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "text": {"type": "string"},
                            "label": {"type": "string", "enum": ["x", "y"]},
                        },
                        "required": ["text", "label"],
                        "additionalProperties": False,
                    },
                },
            ),
            (
                "highlight",
                "unitizing",
                (),
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"text": {"type": "string"}},
                        "required": ["text"],
                        "additionalProperties": False,
                    },
                },
            ),
        ],
    )
    def test_level_labels_and_schema(self, kind, level, labels, schema):
        field = FIELDS[kind]
        assert (field.level, field.labels, field.schema) == (level, labels, schema)

    def test_a_dropdown_asks_for_one_of_its_options(self):
        assert one("dropdown", options=["b", "a"]).schema == {"type": "string", "enum": ["b", "a"]}

    @pytest.mark.parametrize(
        ("kind", "cell", "value"),
        [
            *[("checkbox", c, 1) for c in ("1", "true", "TRUE", "yes", " Yes ", "1.0", "1,0")],
            *[("checkbox", c, 0) for c in ("0", "false", "False", "no", "NO", "0.0")],
            *[("likert", c, 2) for c in ("2", "+2", " 2 ", "2.0", "2.00", "02")],
            ("likert", "-2", -2),
            ("likert", "-0", 0),
            *[("dropdown", c, c) for c in ("None", "NA", "null", "No", "1", "nan", "no", " blank ")],
            ("dropdown", " NA\n", "NA"),
            ("dropdown", "blank", " blank "),
            ("textbox", " as it is \n", " as it is \n"),
            ("textbox", "NA", "NA"),
            *[(kind, blank, None) for kind in FIELDS for blank in ("", "  ", "\t\n")],
        ],
    )
    def test_cells_that_hold_a_value(self, kind, cell, value):
        read = FIELDS[kind].read(cell)
        assert (read, type(read)) == (value, type(value))

    @pytest.mark.parametrize(
        ("kind", "cell", "why"),
        [
            ("checkbox", "2", "must be 1 or 0 (or true/false, yes/no)"),
            ("checkbox", "maybe", "must be 1 or 0 (or true/false, yes/no)"),
            ("likert", "3", "must be an integer from -2 to 2"),
            ("likert", "1.5", "must be an integer from -2 to 2"),
            ("likert", "1e0", "must be an integer from -2 to 2"),
            ("likert", "9" * 400, "must be an integer from -2 to 2"),
            ("likert", "nan", "must be an integer from -2 to 2"),
            ("likert", "true", "must be an integer from -2 to 2"),
            ("dropdown", "NULL", "must be one of None, NA, null, No, 1, nan, no,  blank "),
            (
                "dropdown",
                "nul",
                "must be one of None, NA, null, No, 1, nan, no,  blank ; did you mean 'null'?",
            ),
            ("dropdown", "1.0", "must be one of None, NA, null, No, 1, nan, no,  blank "),
            ("span", "[]", "is read together with its text: nbannot.study.spans.read_spans"),
        ],
    )
    def test_cells_that_hold_none_say_what_is_allowed(self, kind, cell, why):
        with pytest.raises(ValueError) as caught:
            FIELDS[kind].read(cell)
        assert str(caught.value) == why

    def test_an_option_is_the_same_however_its_accents_are_encoded(self):
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        for option, cell in ((composed, decomposed), (decomposed, composed), (composed, f" {decomposed} ")):
            assert one("dropdown", options=[option, "tea"]).read(cell) == option
        with pytest.raises(CodebookError, match="more than once"):
            one("dropdown", options=[composed, decomposed])

    @given(st.sampled_from(["checkbox", "likert", "dropdown"]), st.data())
    def test_what_is_written_in_a_cell_is_read_back(self, kind, data):
        value = data.draw(st.sampled_from(FIELDS[kind].labels))
        assert FIELDS[kind].read(FIELDS[kind].to_cell(value)) == value

    @given(st.sampled_from(sorted(FIELDS)), st.text())
    def test_any_cell_is_a_value_a_blank_or_a_reason(self, kind, cell):
        field = FIELDS[kind]
        try:
            value = field.read(cell)
        except ValueError:
            assert cell.strip()
        else:
            is_value = value in field.labels or (field.type == "textbox" and value == cell)
            assert is_value if cell.strip() else value is None

    @pytest.mark.parametrize(
        ("kind", "value", "in_json", "in_cell"),
        [
            ("checkbox", 1, True, "1"),
            ("checkbox", True, True, "1"),
            ("checkbox", 0, False, "0"),
            ("likert", -2, -2, "-2"),
            ("dropdown", "None", "None", "None"),
            ("textbox", "", "", ""),
            (
                "span",
                [{"start": 0, "end": 1, "text": "ä", "label": "x"}],
                [{"text": "ä", "label": "x"}],
                '[{"start": 0, "end": 1, "text": "ä", "label": "x"}]',
            ),
            (
                "highlight",
                [{"start": 0, "end": 1, "text": "ä", "label": None}],
                [{"text": "ä"}],
                '[{"start": 0, "end": 1, "text": "ä", "label": null}]',
            ),
            ("span", [], [], "[]"),
            *[(kind, None, None, "") for kind in FIELDS],
        ],
    )
    def test_a_value_in_json_and_in_a_cell(self, kind, value, in_json, in_cell):
        found = FIELDS[kind].to_json(value)
        assert (found, type(found)) == (in_json, type(in_json))
        assert FIELDS[kind].to_cell(value) == in_cell


class TestExamples:
    @pytest.mark.parametrize(
        ("kind", "response", "value"),
        [
            ("checkbox", "1", 1),
            ("checkbox", "false", 0),
            ("likert", "-2", -2),
            ("likert", '"2"', 2),
            ("dropdown", '"None"', "None"),
            ("textbox", '""', ""),
            ("textbox", '"said {so}"', "said {so}"),
            ("span", '[{"start": 0, "end": 1, "text": "a", "label": "x"}]', None),
            ("highlight", "[]", []),
        ],
    )
    def test_a_response_that_fits_is_a_value(self, kind, response, value):
        block = f'Text: \n"It is so."\n\nResponse: \n{{"response": {response}}}'
        example = read_example(FIELDS[kind], block)
        expected = json.loads(response) if kind == "span" else value
        assert (example.text, example.response, example.raw) == ("It is so.", expected, block)

    @pytest.mark.parametrize(
        ("kind", "response"),
        [
            ("dropdown", "null"),  # not the option "None"
            ("textbox", "null"),
            ("checkbox", "null"),
            ("dropdown", '"other"'),
            ("dropdown", '["NA"]'),
            ("likert", "3"),
            ("likert", "true"),
            ("span", '[{"text": "a", "label": "z"}]'),
            ("span", '"a"'),
            ("highlight", "[1]"),
            ("textbox", "{"),
        ],
    )
    def test_a_response_that_does_not_fit_is_no_value(self, kind, response):
        example = read_example(FIELDS[kind], f'Text: "a"\nResponse: {{"response": {response}}}')
        assert (example.text, example.response) == ("a", None)

    def test_a_block_without_the_two_words_is_sent_as_it_stands_and_noted(self):
        field = {
            "name": "F",
            "type": "checkbox",
            "example": 'just words\n---\nText: a\nResponse: {"response": 1}',
        }
        codebook = Codebook.from_dict(raw(field))
        assert [(e.text, e.response, e.raw) for e in codebook["F"].examples] == [
            ("", None, "just words"),
            ("a", 1, 'Text: a\nResponse: {"response": 1}'),
        ]
        assert codebook.notes == (
            "section_1 / annotation_1 'F': 1 of 2 examples are sent as they stand "
            "(no JSON response that fits the field)",
        )

    def test_a_text_that_speaks_of_a_response_itself(self):
        block = 'Text: "Response: none. Text: none."\nResponse: {"response": "Response: fine"}'
        example = read_example(FIELDS["textbox"], block)
        assert (example.text, example.response) == ("Response: none. Text: none.", "Response: fine")

    def test_line_breaks_of_windows(self):
        field = one(
            "checkbox",
            example='Text: \r\n"a"\r\n\r\nResponse: \r\n{"response": 1}\r\n---\r\nText: b\r\nResponse: 0',
        )
        assert [(e.text, e.response) for e in field.examples] == [("a", 1), ("b", None)]


class TestConditions:
    def chain(self):
        return Codebook.from_dict(
            raw(
                {"name": "Third", "type": "textbox", "condition": on("annotation_2", "up")},
                {
                    "name": "Second",
                    "type": "dropdown",
                    "options": ["up", "down"],
                    "condition": on("annotation_3", "4.0"),
                },
                {"name": "First", "type": "likert", "min_value": 1, "max_value": 5},
                {"name": "Fourth", "type": "span", "condition": on("annotation_1", "said so")},
            )
        )

    def test_a_parent_may_stand_later_in_the_file(self):
        codebook = self.chain()
        assert [f.name for f in codebook.fields] == ["Third", "Second", "First", "Fourth"]
        assert [f.name for f in codebook.in_order] == ["First", "Second", "Third", "Fourth"]
        assert {f.name: codebook.depth(f) for f in codebook} == {
            "First": 0,
            "Second": 1,
            "Third": 2,
            "Fourth": 3,
        }
        assert codebook["Second"].condition == Condition("S_First", 4)

    @pytest.mark.parametrize(
        ("values", "applying"),
        [
            ({}, ["First"]),
            ({"S_First": 3}, ["First"]),
            ({"S_First": 4}, ["First", "Second"]),
            ({"S_First": 4, "S_Second": "up"}, ["First", "Second", "Third"]),
            ({"S_First": 3, "S_Second": "up", "S_Third": "said so"}, ["First"]),  # the parent does not apply
            ({"S_Second": "up"}, ["First"]),
            (
                {"S_First": 4, "S_Second": "up", "S_Third": "said so"},
                ["First", "Second", "Third", "Fourth"],
            ),
            ({"S_First": 4, "S_Second": "up", "S_Third": "Said so"}, ["First", "Second", "Third"]),
        ],
    )
    def test_a_field_applies_where_everything_above_it_does(self, values, applying):
        codebook = self.chain()
        assert [f.name for f in codebook.in_order if codebook.applies(f, values)] == applying

    @pytest.mark.parametrize("written", [1, "1", True, "true", "yes", 1.0])
    def test_a_checkbox_value_in_any_spelling(self, written):
        codebook = Codebook.from_dict(
            raw(YES_NO, {"name": "D", "type": "textbox", "condition": on("annotation_1", written)})
        )
        assert codebook["D"].condition == Condition("S_C", 1)

    @pytest.mark.parametrize("none", [None, {}, ""])
    def test_an_empty_condition_is_none(self, none):
        assert one("checkbox", condition=none).condition is None

    @given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.randoms(use_true_random=False))
    def test_any_forest_is_ordered_parents_first_and_any_circle_is_an_error(self, parents, random):
        size = len(parents)
        order = list(range(size))
        random.shuffle(order)
        # the field order[i] hangs on order[parents[i]], where that comes before it
        annotations = {i: {"name": f"F{i}", "type": "checkbox"} for i in range(size)}
        for position, parent in enumerate(parents):
            if parent < position:
                annotations[order[position]]["condition"] = on(f"annotation_{order[parent] + 1}", 1)
        source = raw(*[annotations[i] for i in range(size)])
        codebook = Codebook.from_dict(source)
        places = {f.column: i for i, f in enumerate(codebook.in_order)}
        assert sorted(places) == sorted(f.column for f in codebook)
        hanging = [f for f in codebook if f.condition]
        assert all(places[f.condition.column] < places[f.column] for f in hanging)
        assert all(codebook.depth(f) == codebook.depth(codebook[f.condition.column]) + 1 for f in hanging)
        if hanging:
            top = next(
                f
                for f in codebook.in_order
                if codebook.depth(f) == 0 and f.column == self.root(codebook, hanging[0])
            )
            source["section_1"]["annotations"][top.where.split(" / ")[1]]["condition"] = on(
                hanging[0].where.split(" / ")[1], 1
            )
            with pytest.raises(CodebookError, match=re.escape(f"'{hanging[0].name}'")):
                Codebook.from_dict(source)

    @staticmethod
    def root(codebook, field):
        while field.condition:
            field = codebook[field.condition.column]
        return field.column


class TestHash:
    BASE = raw(
        {"name": "C", "type": "checkbox", "tooltip": "t", "example": 'Text: a\nResponse: {"response": 1}'},
        {
            "name": "D",
            "type": "dropdown",
            "options": ["a", "b"],
            "option_descriptions": {"a": "x"},
            "condition": on("annotation_1", 1),
        },
        {"name": "L", "type": "likert", "min_value": 1, "max_value": 5},
        {"name": "P", "type": "span", "label_options": ["x"]},
    )

    def changed(self, *path, to):
        source = copy.deepcopy(self.BASE)
        place = source
        for key in path[:-1]:
            place = place[key]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to
        return Codebook.from_dict(source).hash

    def test_it_is_stable(self):
        assert Codebook.from_dict(self.BASE).hash == (
            "64872ff4595aacda62548945a6d0fc73645e3785577fc834cad9874d1f176e60"
        )

    @pytest.mark.parametrize(
        ("path", "to"),
        [
            (("text_column",), "body"),
            (("section_1", "section_name"), "T"),
            (("section_1", "section_instruction"), "Read."),
            (("section_1", "annotations", "annotation_1", "name"), "Other"),
            (("section_1", "annotations", "annotation_1", "type"), "textbox"),
            (("section_1", "annotations", "annotation_1", "tooltip"), "t."),
            (("section_1", "annotations", "annotation_1", "example"), ""),
            (("section_1", "annotations", "annotation_1", "example"), 'Text: a\nResponse: {"response": 0}'),
            (("section_1", "annotations", "annotation_2", "options"), ["b", "a"]),
            (("section_1", "annotations", "annotation_2", "options"), ["a", "b", "c"]),
            (("section_1", "annotations", "annotation_2", "option_descriptions"), {"b": "x"}),
            (("section_1", "annotations", "annotation_2", "condition"), None),
            (("section_1", "annotations", "annotation_2", "condition", "value"), 0),
            (("section_1", "annotations", "annotation_2", "condition"), on("annotation_3", 1)),
            (("section_1", "annotations", "annotation_3", "min_value"), 0),
            (("section_1", "annotations", "annotation_3", "max_value"), 7),
            (("section_1", "annotations", "annotation_4", "label_options"), []),
            (("section_1", "annotations", "annotation_4"), None),
            (("section_1", "annotations", "annotation_0"), {"name": "New", "type": "textbox"}),
        ],
    )
    def test_it_changes_with_whatever_can_change_an_answer(self, path, to):
        assert self.changed(*path, to=to) != Codebook.from_dict(self.BASE).hash

    @pytest.mark.parametrize(
        ("path", "to"),
        [
            (("codebook_id",), "c"),
            (("version",), "9"),
            (("id_column",), "id"),
            (("other_tool",), {"colour": "red"}),
            (("section_1", "colour"), "red"),
            (("section_1", "annotations", "annotation_1", "colour"), "red"),
            (("section_1", "annotations", "annotation_2", "condition", "value"), "true"),
            (("section_1", "annotations", "annotation_3", "max_value"), "5"),
        ],
    )
    def test_it_stays_with_whatever_cannot(self, path, to):
        assert self.changed(*path, to=to) == Codebook.from_dict(self.BASE).hash

    def test_the_numbers_of_annotations_do_not_matter_only_their_order(self):
        source = copy.deepcopy(self.BASE)
        annotations = source["section_1"]["annotations"]
        annotations["annotation_40"] = annotations.pop("annotation_4")
        assert Codebook.from_dict(source).hash == Codebook.from_dict(self.BASE).hash


ERRORS = {
    "everything at once": (
        {
            "section_1": {
                "section_name": "S",
                "annotations": {
                    "annotation_1": {"name": "D", "type": "dropdown"},
                    "annotation_2": {"name": "L", "type": "likert", "min_value": 5, "max_value": 1},
                    "annotation_3": YES_NO,
                    "annotation_4": YES_NO,
                    "annotation_5": {"name": "X", "type": "likrt"},
                },
            }
        },
        """\
CodebookError: codebook cannot be used: 5 problems.
  text_column is missing: name the column that holds the text
  section_1 / annotation_1 'D': a dropdown needs options
  section_1 / annotation_2 'L': min_value must be below max_value. Got 5 and 1
  section_1 / annotation_5 'X': type must be one of checkbox, dropdown, likert, textbox, span, multiselect. Got 'likrt'; did you mean 'likert'?
  section_1 / annotation_3 and section_1 / annotation_4 have the same column 'S_C'""",
    ),
    "missing text_column": (
        {**raw(YES_NO), "text_column": " "},
        """\
CodebookError: codebook cannot be used: 1 problem.
  text_column is missing: name the column that holds the text""",
    ),
    "same column from two sections": (
        {
            "text_column": "t",
            "section_1": {
                "section_name": "A_B",
                "annotations": {"annotation_1": {"name": "C", "type": "checkbox"}},
            },
            "section_2": {
                "section_name": "A",
                "annotations": {"annotation_1": {"name": "B_C", "type": "checkbox"}},
            },
        },
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_1 and section_2 / annotation_1 have the same column 'A_B_C'""",
    ),
    "type missing": (
        raw({"name": "X"}),
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_1 'X': type must be one of checkbox, dropdown, likert, textbox, span, multiselect. Got None""",
    ),
    "scales": (
        raw(
            {"name": "A", "type": "likert", "min_value": 3, "max_value": 3},
            {"name": "B", "type": "likert", "min_value": 1},
            {"name": "C", "type": "likert", "min_value": "one", "max_value": 5},
            {"name": "D", "type": "likert", "min_value": True, "max_value": 5},
            {"name": "E", "type": "likert", "min_value": 1.5, "max_value": 5},
            {"name": "F", "type": "likert", "min_value": 0, "max_value": 1000000},
        ),
        """\
CodebookError: codebook cannot be used: 6 problems.
  section_1 / annotation_1 'A': min_value must be below max_value. Got 3 and 3
  section_1 / annotation_2 'B': max_value must be an integer. Got None
  section_1 / annotation_3 'C': min_value must be an integer. Got 'one'
  section_1 / annotation_4 'D': min_value must be an integer. Got True
  section_1 / annotation_5 'E': min_value must be an integer. Got 1.5
  section_1 / annotation_6 'F': a scale has at most 10,001 points. Got 0 to 1000000; use a textbox for open numbers""",
    ),
    "options": (
        raw(
            {"name": "A", "type": "dropdown", "options": []},
            {"name": "B", "type": "dropdown", "options": "yes"},
            {"name": "C", "type": "dropdown", "options": ["a", 1]},
            {"name": "D", "type": "dropdown", "options": ["a", "b", "a", "b "]},
            {"name": "E", "type": "dropdown", "options": ["a", " "]},
            {"name": "F", "type": "span", "label_options": "x"},
            {"name": "G", "type": "dropdown", "options": ["a"], "option_descriptions": {"b": "x"}},
            {"name": "H", "type": "dropdown", "options": ["a"], "option_descriptions": ["x"]},
        ),
        """\
CodebookError: codebook cannot be used: 8 problems.
  section_1 / annotation_1 'A': a dropdown needs options
  section_1 / annotation_2 'B': options must be a list of strings. Got 'yes'
  section_1 / annotation_3 'C': options must be a list of strings. Got ['a', 1]
  section_1 / annotation_4 'D': options lists 'a', 'b', 'b ' more than once (blanks around it and how accents are encoded do not count)
  section_1 / annotation_5 'E': options holds a blank entry; a blank cell means 'not coded'
  section_1 / annotation_6 'F': label_options must be a list of strings. Got 'x'
  section_1 / annotation_7 'G': option_descriptions names what is no option: b
  section_1 / annotation_8 'H': option_descriptions must be an object, option: text. Got ['x']""",
    ),
    "shape": (
        {
            "text_column": "t",
            "header_column": ["a"],
            "metadata_columns": "date",
            "section_1": 3,
            "section_2": {"section_name": "", "annotations": [YES_NO]},
            "section_3": {
                "section_name": "S",
                "annotations": {
                    "annotation_1": "why",
                    "annotation_2": {"type": "checkbox", "example": ["x"]},
                    "annotation_3": {"name": " ", "type": "textbox"},
                },
            },
        },
        """\
CodebookError: codebook cannot be used: 9 problems.
  section_1 must be an object with section_name and annotations
  section_2 has no section_name
  section_2: annotations must be an object of annotation_1, annotation_2, …
  section_3 / annotation_1 must be an object
  section_3 / annotation_2 has no name
  section_3 / annotation_2 'annotation_2': example must be one string. Got list
  section_3 / annotation_3 has no name
  header_column must be a string. Got ['a']
  metadata_columns must be a list of columns. Got 'date'""",
    ),
    "no section": (
        {"text_column": "t"},
        """\
CodebookError: codebook cannot be used: 1 problem.
  there is no section: keys like 'section_1' hold the questions""",
    ),
    "no question": (
        {"text_column": "t", "section_1": {"section_name": "S", "annotations": {}}},
        """\
CodebookError: codebook cannot be used: 1 problem.
  no section has annotations (section_1): there is nothing to ask""",
    ),
    "not an object": ([1], "CodebookError: codebook must hold one JSON object. Got list."),
    "a label column that is also something else": (
        {
            **raw({"name": "A", "type": "textbox"}, {"name": "B", "type": "textbox"}),
            "text_column": "S_A",
            "metadata_columns": ["S_B"],
        },
        """\
CodebookError: codebook cannot be used: 2 problems.
  section_1 / annotation_1 'A': its column 'S_A' is also named in text_column, where no label may stand
  section_1 / annotation_2 'B': its column 'S_B' is also named in metadata_columns, where no label may stand""",
    ),
    "condition in a circle": (
        raw(
            {"name": "A", "type": "checkbox", "condition": on("annotation_3", 1)},
            {"name": "B", "type": "checkbox", "condition": on("annotation_1", 1)},
            {"name": "C", "type": "checkbox", "condition": on("annotation_2", 1)},
            {"name": "D", "type": "checkbox", "condition": on("annotation_2", 1)},
        ),
        """\
CodebookError: codebook cannot be used: 1 problem.
  conditions go in a circle: section_1 / annotation_1 'A' → section_1 / annotation_3 'C' → section_1 / annotation_2 'B' → section_1 / annotation_1 'A'""",
    ),
    "condition on itself": (
        raw({"name": "A", "type": "checkbox", "condition": on("annotation_1", 1)}),
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_1 'A': its condition is on section_1 / annotation_1 'A', itself""",
    ),
    "condition on a missing field": (
        raw(YES_NO, {"name": "A", "type": "checkbox", "condition": on("annotation_1", 1, "section_2")}),
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_2 'A': its condition names section_2 / annotation_1, which does not exist""",
    ),
    "condition on an impossible value": (
        raw(
            YES_NO,
            {"name": "D", "type": "dropdown", "options": ["yes", "no"]},
            {"name": "L", "type": "likert", "min_value": 1, "max_value": 3},
            {"name": "T", "type": "textbox"},
            {"name": "P", "type": "span"},
            {"name": "A", "type": "checkbox", "condition": on("annotation_1", 2)},
            {"name": "B", "type": "checkbox", "condition": on("annotation_2", "maybe")},
            {"name": "E", "type": "checkbox", "condition": on("annotation_3", 1.5)},
            {"name": "F", "type": "checkbox", "condition": on("annotation_4", "")},
            {"name": "G", "type": "checkbox", "condition": on("annotation_5", "x")},
            {"name": "H", "type": "checkbox", "condition": on("annotation_2", None)},
            {"name": "I", "type": "checkbox", "condition": on("annotation_2", ["yes"])},
        ),
        """\
CodebookError: codebook cannot be used: 7 problems.
  section_1 / annotation_6 'A': its condition wants 2 of section_1 / annotation_1 'C', which cannot take that value (0, 1)
  section_1 / annotation_7 'B': its condition wants 'maybe' of section_1 / annotation_2 'D', which cannot take that value (yes, no)
  section_1 / annotation_8 'E': its condition wants 1.5 of section_1 / annotation_3 'L', which cannot take that value (1 to 3)
  section_1 / annotation_9 'F': its condition wants '' of section_1 / annotation_4 'T', which cannot take that value (a text)
  section_1 / annotation_10 'G': its condition wants 'x' of section_1 / annotation_5 'P', which cannot take that value (a condition cannot be on a span field)
  section_1 / annotation_11 'H': its condition wants None of section_1 / annotation_2 'D', which cannot take that value (yes, no)
  section_1 / annotation_12 'I': its condition wants ['yes'] of section_1 / annotation_2 'D', which cannot take that value (yes, no)""",
    ),
    "condition of the wrong shape": (
        raw(YES_NO, {"name": "A", "type": "checkbox", "condition": {"section_key": "section_1"}}),
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_2 'A': condition needs section_key, annotation_key and value. Got {'section_key': 'section_1'}""",
    ),
    "condition on a field with a fault of its own": (
        raw(
            {"name": "X", "type": "tickbox"},
            {"name": "A", "type": "checkbox", "condition": on("annotation_1", 1)},
        ),
        """\
CodebookError: codebook cannot be used: 1 problem.
  section_1 / annotation_1 'X': type must be one of checkbox, dropdown, likert, textbox, span, multiselect. Got 'tickbox'; did you mean 'checkbox'?""",
    ),
}


class TestErrors:
    @pytest.mark.parametrize(("source", "text"), ERRORS.values(), ids=ERRORS)
    def test_every_problem_is_in_one_short_letter(self, source, text):
        assert message(source) == text

    def test_no_problem_is_cut_off(self):
        names = [f"F{i}" for i in range(30)]
        found = message(raw(*[{"name": n, "type": "dropdown"} for n in names]))
        assert all(f"'{n}': a dropdown needs options" in found for n in names)

    def test_what_json_cannot_hold(self):
        assert message(raw({**YES_NO, "tooltip": {1, 2}})) == (
            "CodebookError: codebook holds something that JSON cannot: Object of type set is not JSON serializable.\n"
            "  Use strings, numbers, lists and dictionaries."
        )

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (
                b'{"text_column": }',
                "{p} is not JSON: Expecting value, line 1, column 17.\n  Export it again, or correct that line.",
            ),
            (b'{"text_column": "\xe4"}', "{p} is not UTF-8 (byte 17).\n  Save it as UTF-8."),
            (
                b'{"section_1": {"annotations": {"annotation_1": {}, "annotation_1": {}}}}',
                "{p} has the key 'annotation_1' twice in one object, so that one of them would be lost.\n"
                "  Give each section and annotation its own number.",
            ),
            (b"[]", "{p} must hold one JSON object. Got list."),
            (
                None,
                "no codebook at {p}.\n  Give a codebook.json or its folder; nbannot.build_codebook() writes one.",
            ),
        ],
    )
    def test_files_that_are_no_codebook(self, tmp_path, content, text):
        path = tmp_path / "codebook.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CodebookError) as caught:
            Codebook.load(tmp_path)
        assert str(caught.value) == text.format(p=path)

    def test_a_file_that_cannot_be_read(self, tmp_path):
        (tmp_path / "codebook.json").mkdir()
        with pytest.raises(CodebookError, match=r"codebook.json cannot be read: Is a directory\."):
            Codebook.load(tmp_path)


class TestBuild:
    def tone(self, **more):
        return Codebook.build(
            text_column="text",
            id_column="id",
            metadata_columns=["date"],
            language="en",
            instructions={"Tone": "Read it all."},
            sections={
                "Tone": [
                    checkbox(
                        "Evaluates", "Does it judge?", examples=[("A fine law.", 1), ('"So" they say', 0)]
                    ),
                    dropdown(
                        "Direction",
                        options={"up": "praise", "down": ""},
                        condition=("Evaluates", True),
                        examples=[("Fine.", "up")],
                    ),
                    likert(
                        "Intensity",
                        min_value=1,
                        max_value=5,
                        condition=("Tone_Direction", "up"),
                        examples=[("Fine.", 3)],
                    ),
                    textbox("Evidence", "Quote it.", examples=[("Fine.", "")]),
                ],
                "Who": [
                    span(
                        "Actors",
                        label_options=["state", "firm"],
                        examples=[("The state.", [{"text": "The state", "label": "state"}])],
                    ),
                    span("Marks"),
                ],
            },
            **more,
        )

    def test_every_type_and_every_setting_arrives(self):
        codebook = self.tone()
        assert [(f.column, f.type) for f in codebook] == [
            ("Tone_Evaluates", "checkbox"),
            ("Tone_Direction", "dropdown"),
            ("Tone_Intensity", "likert"),
            ("Tone_Evidence", "textbox"),
            ("Who_Actors", "span"),
            ("Who_Marks", "span"),
        ]
        assert (codebook.text_column, codebook.id_column, codebook.language) == ("text", "id", "en")
        assert codebook.metadata_columns == ("date",)
        assert [s.instruction for s in codebook.sections] == ["Read it all.", ""]
        assert codebook["Direction"].options == ("up", "down")
        assert codebook["Direction"].option_descriptions == (("up", "praise"),)
        assert codebook["Direction"].condition == Condition("Tone_Evaluates", 1)
        assert codebook["Intensity"].labels == (1, 2, 3, 4, 5)
        assert codebook["Intensity"].condition == Condition("Tone_Direction", "up")
        assert codebook["Actors"].label_options == ("state", "firm")
        assert codebook["Marks"].label_options == ()
        assert codebook.notes == ()

    def test_examples_arrive_with_their_texts_and_values(self):
        codebook = self.tone()
        assert [(e.text, e.response) for f in codebook for e in f.examples] == [
            ("A fine law.", 1),
            ('"So" they say', 0),
            ("Fine.", "up"),
            ("Fine.", 3),
            ("Fine.", ""),
            ("The state.", [{"text": "The state", "label": "state"}]),
        ]

    @pytest.mark.parametrize("where", ["mine", "mine/codebook.json", "deep/er/other.json"])
    def test_saved_and_loaded_it_is_the_same(self, tmp_path, where):
        codebook = self.tone()
        path = codebook.save(tmp_path / where)
        assert path == tmp_path / (where if where.endswith(".json") else f"{where}/codebook.json")
        loaded = Codebook.load(path)
        assert loaded == codebook
        assert (loaded.hash, loaded.to_dict()) == (codebook.hash, codebook.to_dict())

    def test_a_saved_file_keeps_what_other_tools_keep_in_it(self, tmp_path):
        source = raw({**YES_NO, "colour": "rot"}, tool={"größe": 1.5})
        path = Codebook.from_dict(source).save(tmp_path)
        assert json.loads(path.read_text(encoding="utf-8")) == source
        assert "größe" in path.read_text(encoding="utf-8")

    def test_a_question_used_twice_is_not_changed(self):
        question = checkbox("B", condition=("A", 1))
        for _ in range(2):
            codebook = Codebook.build(text_column="t", sections={"S": [checkbox("A"), question]})
            assert codebook["B"].condition == Condition("S_A", 1)
        assert question["condition"] == ("A", 1)

    def test_a_name_in_two_sections_means_the_one_of_the_same_section(self):
        codebook = Codebook.build(
            text_column="t",
            sections={"S": [checkbox("A")], "T": [checkbox("A"), checkbox("B", condition=("A", 1))]},
        )
        assert codebook["B"].condition == Condition("T_A", 1)

    def test_problems_of_names_are_in_one_letter(self):
        with pytest.raises(CodebookError) as caught:
            Codebook.build(
                text_column="t",
                instructions={"U": "Read."},
                sections={
                    "S": [checkbox("A")],
                    "T": [checkbox("A"), checkbox("Direction")],
                    "V": [
                        checkbox("B", condition=("A", 1)),
                        checkbox("C", condition=("Direktion", 1)),
                        checkbox("D", condition="A"),
                        dropdown("E", options="yes"),
                    ],
                },
            )
        assert (
            str(caught.value)
            == """\
codebook cannot be used: 5 problems.
  instructions for 'U', which is no section
  section_3 / annotation_1 'B': its condition names 'A', which 2 questions are called: say 'S_A', 'T_A'
  section_3 / annotation_2 'C': its condition names 'Direktion', which does not exist; did you mean 'Direction'?
  section_3 / annotation_3 'D': condition must be (name of another question, value). Got 'A'
  section_3 / annotation_4 'E': options must be a list of strings. Got 'yes'"""
        )

    def test_what_is_wrong_with_a_question_is_said_by_the_reader(self):
        with pytest.raises(CodebookError) as caught:
            Codebook.build(
                text_column="",
                sections={"S": [dropdown("D", options="yes"), checkbox("A", condition=("A", 1))]},
            )
        assert (
            str(caught.value)
            == """\
codebook cannot be used: 3 problems.
  text_column is missing: name the column that holds the text
  section_1 / annotation_1 'D': options must be a list of strings. Got 'yes'
  section_1 / annotation_2 'A': its condition is on section_1 / annotation_2 'A', itself"""
        )


def test_a_field_can_be_made_by_hand():
    field = Field("S_F", "F", "S", "", "likert", "here", min_value=1, max_value=2)
    assert (field.labels, field.read("2")) == ((1, 2), 2)


def test_half_a_character_anywhere_in_a_codebook_is_told_with_its_place(tmp_path):
    half = "cut \ud83d"
    raw = {
        "text_column": "text",
        "header_column": half,
        "section_1": {
            "section_name": "S",
            "section_instruction": half,
            "annotations": {
                "annotation_1": {
                    "name": "C",
                    "type": "checkbox",
                    "tooltip": "x" * 100 + half,
                    "note": {half: 1},
                },
                "annotation_2": {"name": "D", "type": "dropdown", "options": ["whole \U0001f600", half]},
            },
        },
    }
    (tmp_path / "codebook.json").write_text(json.dumps(raw))
    with pytest.raises(CodebookError) as caught:
        Codebook.load(tmp_path)
    said = str(caught.value)
    said.encode()
    assert "5 problems" in said
    assert "  header_column: half a character ('cut �')" in said
    assert "  section_1 / section_instruction: half a character" in said
    assert "  section_1 / annotations / annotation_1 / tooltip: half a character ('…xxx" in said
    assert "  section_1 / annotations / annotation_1 / note: half a character" in said
    assert "  section_1 / annotations / annotation_2 / options: half a character" in said
    whole = json.loads(json.dumps(raw).replace("cut \\ud83d", "cut \\ud83d\\ude00"))
    assert Codebook.from_dict(whole)["D"].options == ("whole \U0001f600", "cut \U0001f600")


def test_a_codebook_nested_deeper_than_python_reads_is_refused(tmp_path):
    (tmp_path / "codebook.json").write_text('{"text_column": ' + "[" * 100_000)
    with pytest.raises(CodebookError, match="too deep"):
        Codebook.load(tmp_path)
