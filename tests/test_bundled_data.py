"""The bundled tasks as plain files: every label obeys its codebook, and the guidance gives no text away.

Reads the JSON and CSV with the standard library only, so that a slip in the data cannot hide behind a slip in
the reader.
"""

import csv
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TASKS = Path(__file__).parents[1] / "nbannot" / "study" / "tasks"
EXAMPLE = re.compile(r'Text: \n"(?P<text>.+)"\n\nResponse: \n(?P<response>\{.+\})')
POLICY = "Policy Sentiment_"
EMOTION = "Discrete Emotions_"


class BundledTask(NamedTuple):
    name: str
    codebook: dict[str, Any]
    rows: list[dict[str, str]]

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        return {key: value for key, value in self.codebook.items() if key.startswith("section_")}

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """Fields by column, in file order."""
        return {
            f"{section['section_name']}_{field['name']}": field
            for section in self.sections.values()
            for field in section["annotations"].values()
        }

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows]

    def column_of(self, section_key: str, annotation_key: str) -> str:
        section = self.codebook[section_key]
        return f"{section['section_name']}_{section['annotations'][annotation_key]['name']}"

    def examples(self) -> list[tuple[str, dict[str, Any], str, Any]]:
        """(column, field, text, response) of every worked example."""
        found = []
        for column, field in self.fields.items():
            for block in field["example"].split("\n---\n"):
                match = EXAMPLE.fullmatch(block.strip())
                assert match, f"{column}: not a worked example: {block!r}"
                response = json.loads(match["response"])
                assert list(response) == ["response"]
                found.append((column, field, match["text"], response["response"]))
        return found

    def guidance(self) -> str:
        parts = [section["section_instruction"] for section in self.sections.values()]
        for field in self.fields.values():
            parts += [field["tooltip"], *field.get("option_descriptions", {}).values()]
        return "\n".join(parts)


def read_task(name: str) -> BundledTask:
    codebook = json.loads((TASKS / name / "codebook.json").read_text(encoding="utf-8"))
    with (TASKS / name / "ground-truth.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert all(None not in row and None not in row.values() for row in rows), f"{name}: ragged row"
    return BundledTask(name, codebook, rows)


@pytest.fixture(scope="module", params=["policy-sentiment", "discrete-emotions"])
def task(request: pytest.FixtureRequest) -> BundledTask:
    return read_task(request.param)


@pytest.fixture(scope="module")
def policy() -> BundledTask:
    return read_task("policy-sentiment")


@pytest.fixture(scope="module")
def emotions() -> BundledTask:
    return read_task("discrete-emotions")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def occurs_in(passage: str, text: str) -> bool:
    """Whether the words of the passage stand in the text in the same order, side by side."""
    return f" {' '.join(words(passage))} " in f" {' '.join(words(text))} "


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the two sets of words, 0 to 1."""
    a, b = set(words(first)), set(words(second))
    return len(a & b) / len(a | b)


def check_spans(spans: Any, text: str, labels: list[str | None]) -> None:
    assert isinstance(spans, list)
    end_of_last = 0
    for span in spans:
        assert list(span) == ["start", "end", "text", "label"]
        assert text[span["start"] : span["end"]] == span["text"] != ""
        assert span["label"] in labels
    for span in sorted(spans, key=lambda span: span["start"]):
        assert span["start"] >= end_of_last, f"overlapping spans in {text!r}"
        end_of_last = span["end"]


def check_value(field: dict[str, Any], value: Any, text: str) -> None:
    """Fail unless a typed value (of an example, or of a parsed cell) is one that the field allows."""
    match field["type"]:
        case "checkbox":
            assert type(value) is int
            assert value in (0, 1)
        case "dropdown":
            assert value in field["options"]
        case "likert":
            assert type(value) is int
            assert field["min_value"] <= value <= field["max_value"]
        case "textbox":
            assert value in text
            assert value == value.strip() != ""
            assert text.count(value) == 1, f"ambiguous passage in {text!r}"
        case "span":
            check_spans(value, text, field.get("label_options") or [None])
        case unknown:
            pytest.fail(f"unknown field type {unknown!r}")


def parse_cell(field: dict[str, Any], cell: str) -> Any:
    return json.loads(cell) if field["type"] in ("checkbox", "likert", "span") else cell


def test_field_names_types_and_order(policy: BundledTask, emotions: BundledTask) -> None:
    assert {column: field["type"] for column, field in policy.fields.items()} == {
        f"{POLICY}Explicit evaluation": "checkbox",
        f"{POLICY}Direction": "dropdown",
        f"{POLICY}Intensity": "likert",
        f"{POLICY}Evidence": "textbox",
    }
    assert policy.fields[f"{POLICY}Direction"]["options"] == [
        "positive",
        "negative",
        "mixed",
        "no clear sentiment",
    ]
    assert [field["type"] for field in emotions.fields.values()] == ["dropdown", "likert", "span", "span"]
    assert "label_options" not in emotions.fields[f"{EMOTION}Expression"]
    assert emotions.fields[f"{EMOTION}Roles"]["label_options"] == ["experiencer", "cause"]


def test_columns_are_id_metadata_text_and_labels(task: BundledTask) -> None:
    book = task.codebook
    declared = [book["id_column"], book["header_column"], *book["metadata_columns"], book["text_column"]]
    assert list(task.rows[0]) == declared + list(task.fields)


def test_ids_and_texts_are_unique_and_clean(task: BundledTask) -> None:
    ids = [row["sample_id"] for row in task.rows]
    prefix = ids[0][:2]
    assert ids == [f"{prefix}{number:03d}" for number in range(1, len(ids) + 1)]
    assert len(set(task.texts)) == len(task.texts)
    for row in task.rows:
        assert row["text"] == row["text"].strip() != ""
        assert "\n" not in row["text"]
        assert row["source"] in {"news", "letter", "speech", "post", "interview"}


def test_texts_and_examples_are_not_near_duplicates(task: BundledTask) -> None:
    examples = {text for _, _, text, _ in task.examples()}
    pairs = list(combinations([*task.texts, *sorted(examples)], 2))
    first, second = max(pairs, key=lambda pair: similarity(*pair))
    assert similarity(first, second) < 0.4, (first, second)


def test_every_label_obeys_its_field_and_condition(task: BundledTask) -> None:
    for row in task.rows:
        for column, field in task.fields.items():
            condition = field.get("condition")
            if condition:
                parent = task.column_of(condition["section_key"], condition["annotation_key"])
                if row[parent] != str(condition["value"]):
                    assert row[column] == "", f"{row['sample_id']}: {column} does not apply but is coded"
                    continue
            assert row[column] != "", f"{row['sample_id']}: {column} applies but is blank"
            check_value(field, parse_cell(field, row[column]), row["text"])


def test_examples_obey_their_fields_and_stay_out_of_the_data(task: BundledTask) -> None:
    for _, field, text, response in task.examples():
        check_value(field, response, text)
        assert '"' not in text
        assert text not in task.texts


def values_of(field: dict[str, Any]) -> set[Any]:
    """Every value that a field with a closed list can take; for spans the labels, and finding nothing."""
    match field["type"]:
        case "checkbox":
            return {0, 1}
        case "dropdown":
            return set(field["options"])
        case "likert":
            return set(range(field["min_value"], field["max_value"] + 1))
        case "span":
            return {*(field.get("label_options") or [None]), "nothing found"}
        case _:
            return set()


def test_examples_show_every_value_of_a_closed_field(task: BundledTask) -> None:
    shown: dict[str, set[Any]] = {column: set() for column in task.fields}
    for column, field, _, response in task.examples():
        if field["type"] == "span":
            shown[column] |= {span["label"] for span in response} or {"nothing found"}
        else:
            shown[column].add(response)
    for column, field in task.fields.items():
        assert values_of(field) <= shown[column]
        assert len(field["example"].split("\n---\n")) >= 3


def test_guidance_quotes_no_labelled_passage(task: BundledTask) -> None:
    guidance = task.guidance()
    for row in task.rows:
        passages = [row.get(f"{POLICY}Evidence", "")]
        for column in (f"{EMOTION}Expression", f"{EMOTION}Roles"):
            passages += [span["text"] for span in json.loads(row.get(column, "[]"))]
        for passage in passages:
            if len(words(passage)) >= 2:
                assert not occurs_in(passage, guidance), f"{row['sample_id']}: guidance quotes {passage!r}"


def test_every_option_is_described(task: BundledTask) -> None:
    for field in task.fields.values():
        if field["type"] == "dropdown":
            assert list(field["option_descriptions"]) == field["options"]


def test_policy_classes_are_balanced(policy: BundledTask) -> None:
    direction = Counter(row[f"{POLICY}Direction"] for row in policy.rows)
    explicit = Counter(row[f"{POLICY}Explicit evaluation"] for row in policy.rows)
    intensity = Counter(row[f"{POLICY}Intensity"] for row in policy.rows if row[f"{POLICY}Intensity"])
    assert len(policy.rows) >= 64
    assert set(direction.values()) == {len(policy.rows) // 4}
    assert all(0.4 <= count / len(policy.rows) <= 0.6 for count in explicit.values())
    assert set(intensity) == set("12345")
    assert min(intensity.values()) >= 6


def test_policy_labels_agree_with_each_other(policy: BundledTask) -> None:
    for row in policy.rows:
        if row[f"{POLICY}Direction"] == "no clear sentiment":
            assert row[f"{POLICY}Explicit evaluation"] == "0"
    implied = [row for row in policy.rows if row[f"{POLICY}Explicit evaluation"] == "0"]
    assert set(Counter(row[f"{POLICY}Direction"] for row in implied)) == set(
        policy.fields[f"{POLICY}Direction"]["options"]
    )


def test_emotion_classes_are_balanced(emotions: BundledTask) -> None:
    emotion = Counter(row[f"{EMOTION}Primary emotion"] for row in emotions.rows)
    intensity = Counter(row[f"{EMOTION}Intensity"] for row in emotions.rows)
    assert len(emotions.rows) >= 44
    assert set(emotion) == set(emotions.fields[f"{EMOTION}Primary emotion"]["options"])
    assert set(emotion.values()) == {len(emotions.rows) // 5}
    assert set(intensity) == set("12345")
    assert min(intensity.values()) >= 8


def test_no_emotion_means_intensity_one_and_empty_spans(emotions: BundledTask) -> None:
    for row in emotions.rows:
        none = row[f"{EMOTION}Primary emotion"] == "no emotion"
        assert (row[f"{EMOTION}Intensity"] == "1") == none
        assert (row[f"{EMOTION}Expression"] == "[]") == none
        if none:
            assert row[f"{EMOTION}Roles"] == "[]"
    assert any(
        row[f"{EMOTION}Roles"] == "[]" and row[f"{EMOTION}Expression"] != "[]" for row in emotions.rows
    )


def test_code_points_matter_in_several_texts(emotions: BundledTask) -> None:
    def utf16_start(text: str, start: int) -> int:
        return len(text[:start].encode("utf-16-le")) // 2

    shifted = [
        row["sample_id"]
        for row in emotions.rows
        if any(
            utf16_start(row["text"], span["start"]) != span["start"]
            for column in (f"{EMOTION}Expression", f"{EMOTION}Roles")
            for span in json.loads(row[column])
        )
    ]
    assert len(shifted) == 7  # the number that the task's README gives


def test_any_first_rows_are_balanced(policy: BundledTask, emotions: BundledTask) -> None:
    for task, column, size in ((policy, f"{POLICY}Direction", 4), (emotions, f"{EMOTION}Primary emotion", 5)):
        for start in range(0, len(task.rows), size):
            assert len({row[column] for row in task.rows[start : start + size]}) == size


def test_readme_counts_are_those_of_the_data(task: BundledTask) -> None:
    readme = (TASKS / task.name / "README.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line for line in readme.splitlines() if line.startswith("| `")}
    for column, field in task.fields.items():
        line = lines[field["name"]]
        cells = [row[column] for row in task.rows]
        if field["type"] == "span":
            spans = [span for cell in cells for span in json.loads(cell)]
            assert f"`[]` in {cells.count('[]')}" in line
            assert f"in {len(cells) - cells.count('[]')} texts" in line
            for label, count in Counter(span["label"] for span in spans).items():
                assert (f"{label} ({count})" if label else f"{count} spans in") in line
        elif field["type"] == "textbox":
            assert f"({len(cells) - cells.count('')})" in line
        else:
            for value, count in Counter(filter(None, cells)).items():
                assert f"{value} ({count})" in line
    for source, count in Counter(row["source"] for row in task.rows).items():
        assert f"{source} {count}" in readme
