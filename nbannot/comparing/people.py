"""People's labels of a task as they lie in files, read fast and without a task of each coder's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbannot.comparing.study_folder import OUTPUT_ROOT, coder_files, no_coders
from nbannot.errors import ScoringError, TaskError, listed, nearest, problems
from nbannot.study.codebook import Codebook, Field
from nbannot.study.spans import read_spans
from nbannot.study.task import ID_COLUMNS, Task, read_csv

Row = dict[str, Any]
"""column -> value of one text, only of fields that were coded."""
Labels = dict[str, Row]
"""text id -> its row."""


def people_of(
    task: Task, coders: Iterable[str] | None = None, output_root: str | Path = OUTPUT_ROOT
) -> dict[str, Labels]:
    """Return coder -> labels of everybody who coded the task, or of these.

    Raises
    ------
    ScoringError
        If there is nobody, a name is unknown, or a file cannot be read: with coder, file and row.
    """
    files = coder_files(task, output_root)
    if not files:
        raise no_coders(task, output_root)
    if coders is not None:
        wanted = [coders] if isinstance(coders, str) else [str(name) for name in coders]
        unknown = [name for name in wanted if name not in files]
        if unknown:
            raise ScoringError(
                f"no labels of {listed(map(repr, unknown))}{nearest(unknown[0], files) or '.'}\n"
                f"  There are labels of {listed(files, 12)}."
            )
        files = {name: files[name] for name in wanted}
    reader = LabelReader(task)
    return {name: reader.read(path, name) for name, path in files.items()}


class LabelReader:
    """Reads coders' files of one task; a cell that was understood once is not read again.

    Parameters
    ----------
    all_texts
        Keep the rows of texts that the task does not have, too.
    """

    def __init__(self, task: Task, *, all_texts: bool = False) -> None:
        self.task, self._all = task, all_texts
        self._gated = any(f.condition is not None for f in task.codebook)
        self._texts = dict(zip(task.ids, task.texts, strict=True))
        self._known: dict[tuple[str, str], Any] = {}

    def read(self, path: Path, coder: str) -> Labels:
        """Return a coder's labels; rows of texts that the task does not have are left out.

        Raises
        ------
        ScoringError
            If the file has no ids or no labels, an id repeats, or a label is outside the codebook.
        """
        try:
            data = read_csv(path)
        except TaskError as error:
            if "has a header but no texts" in str(error):
                return {}
            raise ScoringError(f"coder '{coder}': {error}") from None
        id_column = self._id_column(list(data.columns), coder, path)
        fields = [f for f in self.task.codebook if f.column in data.columns]
        if not fields:
            columns = listed((f.column for f in self.task.codebook), 12)
            raise ScoringError(
                f"coder '{coder}': {path} has no label column of task '{self.task.name}'.\n"
                f"  Its columns: {listed(data.columns, 12)}; the labels are in {columns}."
            )
        ids = data[id_column].to_list()
        found: Labels = {text_id: {} for text_id in ids}
        wrong: list[str] = []
        if len(found) < len(ids):
            seen: set[str] = set()
            twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
            raise ScoringError(
                f"coder '{coder}': {path} has the id {listed(map(repr, dict.fromkeys(twice)), 3)} more than once.\n"
                "  One row per text: which of them counts?"
            )
        for f in fields:
            for number, (text_id, cell) in enumerate(
                zip(ids, data[f.column].to_list(), strict=True), start=2
            ):
                try:
                    value = self._value(f, cell, text_id)
                except ValueError as error:
                    wrong.append(f"row {number}, text {text_id}, {f.name}: {cell[:60]!r} {error}")
                    continue
                if value is not None:
                    found[text_id][f.column] = value
        if wrong:
            raise ScoringError(problems(f"coder '{coder}': labels in {path} are outside the codebook", wrong))
        return {
            i: of_applying(self.task.codebook, row) if self._gated else row
            for i, row in found.items()
            if self._all or i in self._texts
        }

    def _id_column(self, names: list[str], coder: str, path: Path) -> str:
        wanted = "text_id" if self.task.id_source == "text" else self.task.id_source
        found = next((name for name in (wanted, *ID_COLUMNS) if name in names), None)
        if found is None:
            raise ScoringError(
                f"coder '{coder}': {path} has no id column '{wanted}' or {listed(ID_COLUMNS)}.\n"
                f"  Its columns: {listed(names, 12)}."
            )
        return found

    def _value(self, f: Field, cell: str, text_id: str) -> Any:
        if f.type == "span":
            text = self._texts.get(text_id)
            return None if text is None else read_spans(cell, text, f.label_options)[0]
        key = (f.column, cell)
        if key not in self._known:
            self._known[key] = f.read(cell)
        return self._known[key]


def of_applying(codebook: Codebook, row: Mapping[str, Any]) -> Row:
    """Return the labels of fields that apply; a field whose parent was not coded counts as applying."""
    return {column: value for column, value in row.items() if _may_apply(codebook, codebook[column], row)}


def _may_apply(codebook: Codebook, f: Field, row: Mapping[str, Any]) -> bool:
    if f.condition is None:
        return True
    parent = codebook[f.condition.column]
    said = row.get(parent.column)
    return (said is None or said == f.condition.value) and _may_apply(codebook, parent, row)
