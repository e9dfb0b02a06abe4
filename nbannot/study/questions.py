"""Questions for `Codebook.build`: one short function per type of question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbannot.errors import CodebookError, listed, nearest
from nbannot.study.field import FieldType, example_blocks

Question = dict[str, Any]
"""One question for `Codebook.build`: an annotation in Studio's format, its condition by name."""


def checkbox(
    name: str,
    tooltip: str = "",
    *,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a yes-or-no question for `Codebook.build`.

    Parameters
    ----------
    name
        Its name; the column in tables is ``<section>_<name>``.
    tooltip
        The guidance: what the coder should know to answer it.
    examples
        Worked examples, each a text and the response it should get.
    condition
        ``(name or column of another question, its value)``: asked only where that question has that value.

    Examples
    --------
    >>> checkbox("Evaluates", "Does the text judge a policy?", examples=[("A fine law.", 1)])["type"]
    'checkbox'
    """
    return _question("checkbox", name, tooltip, examples, condition)


def dropdown(
    name: str,
    tooltip: str = "",
    *,
    options: Sequence[str] | Mapping[str, str],
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question with one answer out of `options`, a list or option -> description; see `checkbox`.

    >>> dropdown("Direction", options={"positive": "Praise of any kind.", "negative": ""})["options"]
    ['positive', 'negative']
    """
    return _question("dropdown", name, tooltip, examples, condition, **_described("options", options))


def multiselect(
    name: str,
    tooltip: str = "",
    *,
    options: Sequence[str] | Mapping[str, str],
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question to which any number of `options` may apply, or none; see `checkbox` and `dropdown`.

    The response of an example is a list of options; `[]` where none applies. A condition on such a question holds
    where the named option is among those chosen. The type is an addition of ours to Studio's format, which other tools
    do not know.

    >>> multiselect("Topics", options=["economy", "health"], examples=[("Taxes.", ["economy"])])["type"]
    'multiselect'
    """
    return _question("multiselect", name, tooltip, examples, condition, **_described("options", options))


def likert(
    name: str,
    tooltip: str = "",
    *,
    min_value: int,
    max_value: int,
    points: Mapping[int, str] | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered on the scale from `min_value` to `max_value`, both included; see `checkbox`.

    `points` says what some or all points of the scale stand for, e.g. ``{1: "not at all", 5: "entirely"}``.
    """
    ends: dict[str, Any] = {"min_value": min_value, "max_value": max_value}
    if points:
        ends["point_descriptions"] = {str(point): text for point, text in points.items()}
    return _question("likert", name, tooltip, examples, condition, **ends)


def textbox(
    name: str,
    tooltip: str = "",
    *,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered in free words; see `checkbox`."""
    return _question("textbox", name, tooltip, examples, condition)


def span(
    name: str,
    tooltip: str = "",
    *,
    label_options: Sequence[str] | Mapping[str, str] = (),
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered by marking passages, with one of `label_options` each or unlabelled; see `checkbox`.

    The response of an example is a list of passages: ``[{"text": "very angry", "label": "emotion"}]``.
    """
    labels = _described("label_options", label_options)
    return _question("span", name, tooltip, examples, condition, **labels)


def _described(key: str, options: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    if isinstance(options, str):
        return {key: options}  # the reader says that it must be a list
    described: dict[str, Any] = {key: list(options)}
    if isinstance(options, Mapping):
        described["option_descriptions"] = {name: text for name, text in options.items() if text}
    return described


def _question(
    kind: FieldType,
    name: str,
    tooltip: str,
    examples: Sequence[tuple[str, Any]],
    condition: tuple[str, int | str] | None,
    **further: Any,
) -> Question:
    blocks = [
        f'Text: \n"{text}"\n\nResponse: \n{json.dumps({"response": response}, ensure_ascii=False)}'
        for text, response in examples
    ]
    written = "\n\n---\n\n".join(blocks)
    if example_blocks(written) != [block.strip() for block in blocks]:
        raise CodebookError(
            f"the examples of '{name}' cannot be told apart: a text holds a line --- and, above it, what reads as the "
            "end of an example.\n  Shorten that text, or leave its line of dashes out."
        )
    question = {
        "name": name,
        "type": kind,
        "tooltip": tooltip,
        "example": written,
        **further,
    }
    return question if condition is None else {**question, "condition": condition}


def point_conditions(raw: dict[str, Any], faults: list[str]) -> None:
    """Turn every condition by name, ``(name or column, value)``, into Studio's form, in place.

    One that names no question, or several, is taken away and entered among the faults.
    """
    places = [
        (section_key, key, raw[section_key]["section_name"], question)
        for section_key in raw
        if section_key.startswith("section_")
        for key, question in raw[section_key]["annotations"].items()
    ]
    names = [
        name for _, _, section, q in places for name in (f"{section}_{q.get('name')}", str(q.get("name")))
    ]
    for section_key, key, section, question in places:
        condition = question.get("condition")
        where = f"{section_key} / {key} '{question.get('name')}'"
        if condition is None or isinstance(condition, Mapping):
            continue
        del question["condition"]
        if isinstance(condition, str) or not isinstance(condition, Sequence) or len(condition) != 2:
            faults.append(f"{where}: condition must be (name of another question, value). Got {condition!r}")
            continue
        wanted, value = condition
        matches = [p for p in places if wanted == f"{p[2]}_{p[3].get('name')}"]
        matches = matches or [p for p in places if wanted == p[3].get("name")]
        matches = [p for p in matches if p[2] == section] or matches if len(matches) > 1 else matches
        if len(matches) == 1:
            parent = {"section_key": matches[0][0], "annotation_key": matches[0][1]}
            question["condition"] = {**parent, "value": value}
        elif matches:
            columns = listed(f"'{p[2]}_{wanted}'" for p in matches)
            faults.append(
                f"{where}: its condition names '{wanted}', which {len(matches)} questions are called: say {columns}"
            )
        else:
            hint = nearest(str(wanted), names)
            faults.append(f"{where}: its condition names '{wanted}', which does not exist{hint}")
