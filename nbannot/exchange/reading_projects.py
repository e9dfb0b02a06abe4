"""A project of another tool read to a task with its coders: a folder with codebook, texts and a file per coder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbannot.errors import RunError, TaskError, listed
from nbannot.exchange.files import SIDECAR, Folder
from nbannot.exchange.formats import found_format, module_of
from nbannot.exchange.said import GivenText, Project, Reader, Said, codebook_of, slug
from nbannot.study.codebook import Codebook
from nbannot.study.reading import DATA_FILE
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task
from nbannot.tools.files import csv_text, name_fault, write_atomic
from nbannot.tools.given import parse_json, path_or

ID = "sample_id"
TOLD = "notes.txt"
SHAPELESS = (LookupError, TypeError, ValueError, AttributeError, zipfile.BadZipFile)
"""What reading raises where a file has the marks of a tool, and not the shape that the tool documents."""


def read_project(
    path: str | Path,
    format: str | None = None,  # noqa: A002 - the word people look for
    *,
    codebook: Codebook | Mapping[str, Any] | str | Path | None = None,
    to: str | Path | None = None,
    blank_means_no: bool = False,
) -> Task:
    """Return the task that a project of another coding tool is, with its coders beside it.

    The task is written as a folder with ``codebook.json``, ``ground-truth.csv`` and ``coders/<name>.csv`` (models'
    labels: ``models/<name>.csv``), so that `agreement`, `consensus`, `load_coder` and `load_outputs` find them. Every
    passage is proven against its quote, where the tool keeps one.

    Parameters
    ----------
    path
        A file, a folder or a zip archive as the tool exports it.
    format
        ``"label_studio"``, ``"doccano"``, ``"prodigy"``, ``"brat"``, …; found by the content when left out.
    codebook
        What the labels mean; else the one that nbannot wrote with the project, else one made from the controls and
        labels that are there.
    to
        The folder to write; by default ``tasks/<name of the project>``. One with other content is not touched.
    blank_means_no
        Whether a text without any mark was looked at and has none, in tools that do not tell (doccano, brat,
        REFI-QDA). Else it counts as not coded.

    Raises
    ------
    TaskError, CodebookError
        If the project cannot be read, a label is not in the codebook or a passage is not where it is said to be.
    RunError
        If the folder cannot be written, or holds something else.
    """
    place = path_or(TaskError, path)
    folder = Folder.of(place)
    ours = _sidecar(folder)
    tool = format or found_format(folder)
    module = module_of(tool)
    known: Codebook | None = _given(codebook, ours)
    folder.annotators = ours.get("annotators", {})
    folder.ids = ours.get("ids", {})
    if known is not None:
        folder.word_columns = tuple(f.column for f in known if f.type == "textbox")
    try:
        project: Project = module.read(folder)
    except SHAPELESS as error:
        raise TaskError(
            f"{place} is not a {tool} project that can be read here: {type(error).__name__}: {str(error)[:120]}.\n"
            "  Export it again, or name its tool with format=..."
        ) from None
    if not project.texts:
        raise TaskError(f"{place} holds no texts.\n  Export the project with its documents.")
    order = {text_id: number for number, text_id in enumerate(ours.get("texts", ()))}
    project.texts.sort(key=lambda text: order.get(text.text_id, len(order)))
    boxes: dict[str, list[str]] = {}
    if known is None:
        known, boxes = codebook_of(project)
    name = ours.get("name") or slug(place.stem)
    target = path_or(TaskError, to) if to is not None else Path("tasks") / name
    tables = _Tables(project, known, ours, boxes, blank_means_no, str(name))
    return _written(target, tables)


def _sidecar(folder: Folder) -> dict[str, Any]:
    names = [name for name in folder.files if name.rsplit("/", 1)[-1] == SIDECAR]
    if not names:
        return {}
    try:
        sidecar = parse_json(folder.text(names[0]))
    except ValueError as error:
        raise TaskError(
            f"{names[0]} is not valid JSON: {error}.\n  Remove it: the project can be read without it."
        ) from None
    return sidecar if isinstance(sidecar, dict) else {}


def _given(codebook: Any, ours: Mapping[str, Any]) -> Codebook | None:
    if isinstance(codebook, Codebook):
        return codebook
    if isinstance(codebook, str | Path):
        return Codebook.load(codebook)
    given = codebook if codebook is not None else ours.get("codebook")
    return None if given is None else Codebook.from_dict(given)


class _Tables:
    """The cells of a project: per person and model, text id -> column -> cell."""

    def __init__(
        self,
        project: Project,
        codebook: Codebook,
        ours: Mapping[str, Any],
        boxes: Mapping[str, list[str]],
        blank_means_no: bool,
        name: str,
    ) -> None:
        self.project, self.codebook, self.name = project, codebook, name
        self.ours: Mapping[str, Any] = ours.get("texts", {})
        self.id_column = str(ours.get("id_column") or codebook.id_column or ID)
        self.spans = [f for f in codebook if f.type == "span"]
        self.sets = [f for f in codebook if f.type == "multiselect"]
        self.told = project.told or blank_means_no
        self.blank_means_no = blank_means_no
        self.boxes = boxes
        self.people: dict[str, dict[str, dict[str, str]]] = {}
        self.models: dict[str, dict[str, dict[str, str]]] = {}
        reader = Reader(codebook)
        models = set(ours.get("models", ()))
        everybody = {coder for text in project.texts for coder in text.people}
        for text in project.texts:
            if project.silent:
                looked = {c for c, columns in self._empty(text).items() if columns}
                for coder in looked | (everybody if blank_means_no else set()):
                    text.people.setdefault(coder, [])
            for given, own in ((text.people, self.people), (text.models, self.models)):
                for coder, said in given.items():
                    into = self.models if coder in models else own
                    cells = self._cells(reader, text, coder, said)
                    if cells is not None:
                        into.setdefault(coder, {})[text.text_id] = cells
        reader.refuse_faults(name)
        alone = [coder for coder in self.people if coder]
        if not ours and len(alone) == 1 and "" not in self.people:
            self.people[""] = self.people[alone[0]]
            project.notices.append(f"'{alone[0]}' is the only coder: these labels stand as the human labels.")

    def _cells(
        self, reader: Reader, text: GivenText, coder: str, said: Iterable[Said]
    ) -> dict[str, str] | None:
        said = list(said)
        cells = reader.cells(said, f"text {text.text_id}")
        for names in self.boxes.values():
            columns = [self.codebook[name].column for name in names]
            if any(cells.get(column) for column in columns):
                cells.update({column: "0" for column in columns if not cells.get(column)})
        ours = self._empty(text)
        for f in (*self.spans, *self.sets):
            if f.column in cells:
                continue
            told = self.told if f.type == "span" else self.blank_means_no  # no tool proves that none applies
            empty = f.column in ours[coder] if coder in ours else told
            cells[f.column] = "[]" if empty else ""
        values = {f.column: self._value(f.column, cells) for f in self.codebook}
        for f in (*self.spans, *self.sets):
            if cells[f.column] == "[]" and f.condition is not None and not self.codebook.applies(f, values):
                cells[f.column] = ""
        return cells if any(cells.values()) else None

    def _value(self, column: str, cells: Mapping[str, str]) -> Any:
        f, cell = self.codebook[column], cells.get(column, "")
        try:
            return None if f.type == "span" else f.read(cell)
        except ValueError:
            return None

    def files(self) -> dict[str, str]:
        """Return the files of the task's folder."""
        files = {"codebook.json": json.dumps(self.codebook.source, ensure_ascii=False, indent=2) + "\n"}
        texts = self.project.texts
        kept = dict.fromkeys(key for t in texts for key in self._metadata(t))
        taken = {self.id_column, self.codebook.text_column, *(f.column for f in self.codebook)}
        kept = dict.fromkeys(key for key in kept if key not in taken)
        gold = self.people.get("", {})
        columns = [f.column for f in self.codebook if any(cells.get(f.column) for cells in gold.values())]
        header = [self.id_column, *kept, self.codebook.text_column, *columns]
        rows = [
            [
                t.text_id,
                *(self._metadata(t).get(key, "") for key in kept),
                t.text,
                *(gold.get(t.text_id, {}).get(column, "") for column in columns),
            ]
            for t in texts
        ]
        files[DATA_FILE] = csv_text(header, rows)
        for kind, own in (("coders", self.people), ("models", self.models)):
            for coder, cells in own.items():
                if coder:
                    files[f"{kind}/{self._file_name(coder)}.csv"] = self._table(cells)
        if self.project.notices:
            files[TOLD] = "\n".join(dict.fromkeys(self.project.notices)) + "\n"
        return files

    def _empty(self, text: GivenText) -> Mapping[str, list[str]]:
        """Return coder -> span columns in which they found nothing, as nbannot wrote it down."""
        return self.ours.get(text.text_id, {}).get("empty", {})  # type: ignore[no-any-return]

    def _metadata(self, text: GivenText) -> Mapping[str, str]:
        return self.ours.get(text.text_id, {}).get("metadata", text.metadata)  # type: ignore[no-any-return]

    def _table(self, cells: Mapping[str, Mapping[str, str]]) -> str:
        columns = [f.column for f in self.codebook if any(own.get(f.column) for own in cells.values())]
        rows = [
            [t.text_id, *(cells[t.text_id].get(column, "") for column in columns)]
            for t in self.project.texts
            if t.text_id in cells
        ]
        return csv_text([ID, *columns], rows)

    @staticmethod
    def _file_name(coder: str) -> str:
        return slug(coder) if name_fault(coder) else coder


def _written(target: Path, tables: _Tables) -> Task:
    files = tables.files()
    others = [
        name
        for name, content in files.items()
        if (target / name).exists()
        and (target / name).read_bytes() != content.encode("utf-8", "surrogatepass")
    ]
    if others:
        raise RunError(
            f"{target} holds other content: {listed(others, 4)}.\n  Nothing was written: choose a folder with to=..."
        )
    _check(tables)
    for name, content in files.items():
        write_atomic(target / name, content)
    return load_task(target, id_column=tables.id_column)


def _check(tables: _Tables) -> None:
    """Read every coder's labels as a task does, which proves each passage, before anything is written."""
    import polars as pl

    for coder, cells in {**tables.models, **tables.people}.items():
        texts = [t for t in tables.project.texts if t.text_id in cells]
        data = {ID: [t.text_id for t in texts], tables.codebook.text_column: [t.text for t in texts]}
        data |= {f.column: [cells[t.text_id].get(f.column, "") for t in texts] for f in tables.codebook}
        task = Task(pl.DataFrame(data), tables.codebook, slug(coder or tables.name), id_column=ID)
        for f in tables.spans:
            for text_id, value in zip(task.ids, task.human(f.column), strict=True):
                cells[text_id][f.column] = f.to_cell(value)
