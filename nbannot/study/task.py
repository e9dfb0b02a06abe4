"""A task: the texts, what identifies each, and what people said of them, under a codebook.

`load_task` finds a bundled task, a folder or a Hugging Face dataset repository; `Task` also takes a pandas or polars
frame and a codebook. Every cell is kept as the text it was; nothing is guessed to be a number or a missing value.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.errors import TaskError, listed, nearest, problems
from nbannot.page.shown import Shown
from nbannot.study import split as halves
from nbannot.study.codebook import Codebook, Field
from nbannot.study.spans import read_spans
from nbannot.tools.imports import load

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

ID_COLUMNS = ("sample_id", "doc_id", "item_id", "text_id", "id")
DATA_FILE = "ground-truth.csv"
UNNAMED = "task"
LARGEST_EXACT = 2**53
"""From here on not every whole number is a float of its own."""
LIKE = 0.8
"""From this likeness on (difflib), a column is taken for a mistyped label column."""

OutsideLabels = Literal["error", "not_coded"]


@dataclass(frozen=True, repr=False, eq=False)
class Task(Shown):
    """The texts of a study with their human labels, ready to be annotated.

    Parameters
    ----------
    data
        pandas or polars DataFrame with the codebook's text column; label columns are those of the codebook
        (``<section_name>_<name>``), all others are kept as metadata.
    codebook
        A `Codebook`, a dictionary in Studio's format, or the path of a ``codebook.json``.
    name
        Short name, used as the folder of its runs.
    id_column
        Column that identifies a text; else the codebook's, else the first of sample_id, doc_id, item_id, text_id, id
        that is unique, else an id made from the text.
    outside_labels
        What to do with a human label that the codebook does not have: ``"error"`` or ``"not_coded"``.

    rows
        Set by `select`: the positions, in the data that the first task was made from, of the texts that were kept.

    Raises
    ------
    TaskError
        If there are no rows, the text column is missing, ids repeat, or a human label is outside the codebook.

    Examples
    --------
    >>> import pandas as pd
    >>> codebook = {"text_column": "t", "section_1": {"section_name": "S", "annotations":
    ...     {"annotation_1": {"name": "Good", "type": "checkbox"}}}}
    >>> task = Task(pd.DataFrame({"t": ["yes!", "no"], "S_Good": ["1", ""]}), codebook, name="demo")
    >>> len(task), task.human("S_Good")
    (2, [1, None])
    """

    _display: ClassVar[str] = "task_card"

    data: Any
    codebook: Codebook
    name: str = UNNAMED
    id_column: str | None = None
    outside_labels: OutsideLabels = "error"
    path: Path | None = None
    rows: tuple[int, ...] | None = None
    split_lock: halves.Lock | None = None

    def __post_init__(self) -> None:
        codebook: Any = self.codebook
        if not isinstance(codebook, Codebook):
            codebook = (
                Codebook.load(codebook) if isinstance(codebook, str | Path) else Codebook.from_dict(codebook)
            )
            object.__setattr__(self, "codebook", codebook)
        object.__setattr__(self, "data", _as_text(self.data))
        if not self.name or any(c in self.name for c in '/\\:*?"<>|') or self.name.startswith("."):
            raise TaskError(
                f"a task's name is used as a folder name. Got {self.name!r}.\n  Use letters, digits, - and _."
            )
        if codebook.text_column not in self.data.columns:
            hint = nearest(codebook.text_column, self.data.columns)
            raise TaskError(
                f"the data has no column '{codebook.text_column}' (the codebook's text_column){hint or '.'}\n"
                f"  Its columns: {listed(self.data.columns, 12)}."
            )
        if not len(self) and self.rows is None:
            raise TaskError("the data has no rows.\n  It needs one row per text.")
        _ = self._identified
        self._seal()
        self._check_labels()

    def _seal(self) -> None:
        """Blank the labels of a test half that is locked, so that nothing reads them."""
        lock = self.split_lock
        if lock is None and self.rows is None and self.name != UNNAMED:
            place = halves.place_of(self.path, self.name)
            lock = halves.find_lock(place, self.ids, self.data, self.label_columns)
            object.__setattr__(self, "split_lock", lock)
        if lock is not None:
            object.__setattr__(self, "data", lock.sealed(self.data, self.ids, self.label_columns))

    def lock(
        self,
        test: float = 0.5,
        *,
        by: str | None = None,
        stratify: str | Sequence[str] | None = None,
        seed: int = 1,
        output_root: str | Path = halves.OUTPUTS,
    ) -> Task:
        """Split the texts into a dev and a test half, once for all, and hide the human labels of the test half.

        From here on the labels of the test half are blank wherever they could be read, runs are made on dev unless
        ``split="test"`` is asked for with a ``reason``, and every look at the test half is counted.

        Parameters
        ----------
        test
            Share of the texts in the test half, between 0 and 1.
        by
            Column of the data whose values stay together in one half (document, author, speaker).
        stratify
            Fields or columns that both halves shall have alike.
        seed
            Another one makes another split.
        output_root
            Where the split is kept if the task has no folder of its own: ``<output_root>/<task>/split.json``.

        Returns
        -------
        Task
            This task, which is changed in place.

        Raises
        ------
        TaskError
            If the task was locked in another way, is a part of a task, or a column does not exist.
        """
        if self.rows is not None:
            raise TaskError("only a whole task can be locked: this one holds some of its texts.")
        if not isinstance(test, int | float) or isinstance(test, bool) or not 0 < test < 1:
            raise TaskError(f"test must be a share between 0 and 1. Got {test!r}.")
        named = [] if stratify is None else [stratify] if isinstance(stratify, str) else list(stratify)
        alike = [self._column(name) for name in named]
        wanted = {"test": test, "by": by, "stratify": alike, "seed": seed}
        if self.split_lock is not None:
            halves.refuse_other_settings(self.split_lock, wanted)
            return self
        labelled = [any(cells) for cells in zip(*(self.data[c] for c in self.label_columns), strict=True)]
        columns = [list(self.data[name]) for name in alike]
        strata = [json.dumps(row) for row in zip(labelled or [False] * len(self), *columns, strict=True)]
        units = self.ids if by is None else list(self.data[self._column(by)])
        place = halves.place_of(self.path, self.name, output_root)
        found = halves.make_lock(
            place, self.ids, self.data, self.label_columns, wanted, units, strata, self.examples()
        )
        object.__setattr__(self, "split_lock", found)
        object.__setattr__(self, "data", found.sealed(self.data, self.ids, self.label_columns))
        for name in ("_human", "_repaired", "notices"):
            self.__dict__.pop(name, None)
        self._check_labels()
        return self

    def _column(self, name: str) -> str:
        """Return the column that a field's or a column's name means."""
        if name in self.data.columns:
            return name
        known = {f.name: f.column for f in self.codebook if f.column in self.data.columns}
        if name not in known:
            raise TaskError(
                f"the data has no column '{name}'{nearest(name, [*self.data.columns, *known]) or '.'}\n"
                f"  Its columns: {listed(self.data.columns, 12)}."
            )
        return known[name]

    def examples(self) -> set[str]:
        """Return the ids of texts that stand in the codebook as worked examples."""
        shown = {example.text.strip() for f in self.codebook for example in f.examples} - {""}
        return {i for i, text in zip(self.ids, self.texts, strict=True) if text.strip() in shown}

    def opened(self, reason: str, run_id: str = "", config: str = "", metric: str = "all") -> Task:
        """Return the task with the human labels of its test half, and record the look in ``test_log.jsonl``.

        Raises
        ------
        TaskError
            If there is no reason, or the look cannot be recorded.
        """
        if self.split_lock is None or self.split_lock.opened:
            return self
        self.split_lock.note(reason, run_id, config, metric)
        return self._with_test_labels(self.split_lock)

    def as_opened_for(self, run_id: str) -> Task:
        """Return the task as it was opened for a run before; as it is if it never was."""
        lock = self.split_lock
        return (
            self if lock is None or lock.opened or not lock.look_of(run_id) else self._with_test_labels(lock)
        )

    def _with_test_labels(self, lock: halves.Lock) -> Task:
        found = replace(self, data=lock.restored(self.data, self.ids), rows=self.rows or tuple(range(len(self))),
                        split_lock=lock.open())  # fmt: skip
        found.__dict__["_identified"] = self._identified
        return found

    def __len__(self) -> int:
        return int(self.data.height)

    @cached_property
    def texts(self) -> list[str]:
        """The texts, in input order."""
        return list(self.data[self.codebook.text_column])

    @property
    def ids(self) -> list[str]:
        """What identifies each text, in input order; unique."""
        return self._identified[0]

    @property
    def id_source(self) -> str:
        """Where the ids come from: a column's name, or ``"text"`` when they were made from the texts."""
        return self._identified[1]

    @cached_property
    def _identified(self) -> tuple[list[str], str]:
        named = self.id_column or self.codebook.id_column
        if named:
            if named not in self.data.columns:
                raise TaskError(
                    f"the data has no column '{named}' (the id_column){nearest(named, self.data.columns) or '.'}\n"
                    f"  Its columns: {listed(self.data.columns, 12)}."
                )
            if named in self.label_columns:
                raise TaskError(
                    f"'{named}' holds the labels of a field and cannot identify texts.\n  Name another id_column."
                )
            values = list(self.data[named])
            _refuse_repeated(named, values)
            return values, named
        for candidate in ID_COLUMNS:
            if candidate in self.other_columns:
                values = list(self.data[candidate])
                if all(v.strip() for v in values) and len(set(values)) == len(values):
                    return values, candidate
        return _ids_of(self.texts), "text"

    @property
    def label_columns(self) -> list[str]:
        """The codebook's columns that the data has, in codebook order."""
        return [f.column for f in self.codebook if f.column in self.data.columns]

    @property
    def other_columns(self) -> list[str]:
        """The columns of the data that are not labels: id, text, metadata, in their order."""
        labels = {f.column for f in self.codebook}
        return [name for name in self.data.columns if name not in labels]

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What deserves a look before trusting a run on these texts, one sentence each."""
        found = [*self._like_label_columns()]
        blank = sum(not text.strip() for text in self.texts)
        if blank:
            found.append(f"{blank:,} of {len(self):,} texts are blank: no model is asked about them.")
        if self.split_lock is not None:
            found.append(self._lock_words())
        if self.name == UNNAMED and self.path is None:
            found.append(
                f"The task has no name: its runs are kept under '{UNNAMED}', with those of all others that have none. "
                'Name it: Task(data, codebook, name="...").'
            )
        return tuple(found)

    def _lock_words(self) -> str:
        lock = self.split_lock
        assert lock is not None
        held = sum(i in lock.test_ids for i in self.ids)
        where = (
            "dev half"
            if not held
            else "test half"
            if held == len(self)
            else f"{held:,} texts of the test half"
        )
        state = "" if not held or lock.opened else ", human labels hidden"
        return f"Locked split, {where}{state}: {lock.words}."

    def _like_label_columns(self) -> Iterator[str]:
        """Yield a question for every column that looks like the mistyped label column of a field that has none."""
        book = self.codebook
        used = {book.text_column, self.id_source, book.header_column, *book.metadata_columns}
        absent = [f for f in book if f.column not in self.data.columns]
        for name in self.other_columns:
            word = _plain_name(name).removeprefix("human_")
            named = {_plain_name(form): f.column for f in absent for form in (f.name, f.column)}
            close = difflib.get_close_matches(word, named, n=1, cutoff=LIKE)
            if name not in used and close:
                yield (
                    f"The column '{name}' is kept as metadata; human labels stand in '{named[close[0]]}': did you mean "
                    "that? Then rename it."
                )

    @property
    def has_human_labels(self) -> bool:
        """Whether people coded at least one text."""
        return any(value is not None for name in self.label_columns for value in self.human(name))

    def human(self, column: str) -> list[Any]:
        """Return the human values of one field, one per text; ``None`` = not coded (or no such column).

        Raises
        ------
        CodebookError
            If the codebook has no such field.
        """
        return list(self._human.get(self.codebook[column].column) or [None] * len(self))

    @cached_property
    def _human(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def _repaired(self) -> dict[str, int]:
        return {}

    @property
    def repaired_spans(self) -> int:
        """How many human spans had offsets that did not fit their quote and were put right."""
        return sum(self._repaired.values())

    def human_applies(self, column: str) -> list[bool]:
        """Return per text whether the field applies by the human labels.

        A field whose parent was not coded counts as applying: nobody said that it does not.
        """
        field = self.codebook[column]
        if field.condition is None:
            return [True] * len(self)
        above = self.human_applies(field.condition.column)
        parent = self.human(field.condition.column)
        wanted = field.condition.value
        return [up and (value is None or value == wanted) for up, value in zip(above, parent, strict=True)]

    def select(
        self,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        split: Literal["dev", "test"] | None = None,
        *,
        reason: str | None = None,
    ) -> Task:
        """Return the task with only some of its texts, in the same order and with the same ids.

        Parameters
        ----------
        limit
            At most this many texts: the first of those chosen by `ids` and `split`.
        ids
            Only these texts.
        split
            Only one half of the split: that of `lock`, else one that the ids alone decide.
        reason
            Why the test half of a locked task is opened; without one its human labels stay blank.

        Raises
        ------
        TaskError
            If an id is unknown, `limit` is negative or `split` is neither ``"dev"`` nor ``"test"``.
        """
        if limit is None and ids is None and split is None:
            return self
        if limit is not None and limit < 0:
            raise TaskError(f"limit must be 0 or more texts. Got {limit}.")
        if split not in (None, "dev", "test"):
            raise TaskError(f"split must be 'dev' or 'test'. Got {split!r}.")
        kept = list(range(len(self)))
        if ids is not None:
            wanted = {ids} if isinstance(ids, str) else {str(i) for i in ids}
            unknown = wanted - set(self.ids)
            if unknown:
                raise TaskError(
                    f"the task '{self.name}' has no text with the id {listed(sorted(unknown))}.\n"
                    f"  Its ids are in task.ids: {listed(self.ids, 3)}."
                )
            kept = [i for i in kept if self.ids[i] in wanted]
        if split is not None:
            kept = [i for i in kept if (self.ids[i] in self._test_ids) == (split == "test")]
        kept = kept[:limit]
        frame = self.data[kept] if kept else self.data.clear()
        rows = kept if self.rows is None else [self.rows[i] for i in kept]
        chosen = replace(self, data=frame, rows=tuple(rows))
        # Ids made from texts count occurrences in the whole data: keep the ones given there.
        chosen.__dict__["_identified"] = ([self.ids[i] for i in kept], self.id_source)
        return chosen if reason is None or split != "test" else chosen.opened(reason)

    @cached_property
    def _test_ids(self) -> Collection[str]:
        return halves.test_half(self.ids) if self.split_lock is None else self.split_lock.test_ids

    def data_hash(self, columns: Iterable[str] = ()) -> str:
        """Return SHA-256 (hex) of the ids, the texts and the given further columns, in order."""
        digest = hashlib.sha256()
        further = [list(self.data[name]) for name in columns]
        for row in zip(self.ids, self.texts, *further, strict=True):
            digest.update("".join(f"{len(cell)}:{cell}" for cell in row).encode())
        return digest.hexdigest()

    def to_pandas(self) -> pd.DataFrame:
        """Return the data as a pandas DataFrame; every cell is a string."""
        import pandas as pd

        return pd.DataFrame(self.data.to_dict(as_series=False), dtype=str)

    def to_polars(self) -> pl.DataFrame:
        """Return the data as a polars DataFrame; every cell is a string."""
        return self.data  # type: ignore[no-any-return]

    def _read(self, field: Field) -> tuple[list[Any], list[str], int]:
        """Return values, faults and the number of repaired spans of one label column."""
        cells = list(self.data[field.column])
        if field.type == "span":
            return self._read_spans(field, cells)
        known: dict[str, Any] = {}
        faults: dict[str, str] = {}
        for cell in dict.fromkeys(cells):
            try:
                known[cell] = field.read(cell)
            except ValueError as error:
                known[cell], faults[cell] = None, str(error)
        wrong = [(cell, faults[cell], i) for i, cell in enumerate(cells) if cell in faults] if faults else []
        return [known[cell] for cell in cells], self._faults(field, wrong), 0

    def _read_spans(self, field: Field, cells: list[str]) -> tuple[list[Any], list[str], int]:
        values: list[Any] = []
        wrong: list[tuple[str, str, int]] = []
        repaired = 0
        for i, (cell, text) in enumerate(zip(cells, self.texts, strict=True)):
            try:
                spans, moved = read_spans(cell, text, field.label_options)
            except ValueError as error:
                spans, moved = None, 0
                wrong.append((cell, str(error), i))
            values.append(spans)
            repaired += moved
        return values, self._faults(field, wrong), repaired

    def _faults(self, field: Field, wrong: list[tuple[str, str, int]]) -> list[str]:
        """Return one line per (cell, why), with the ids of the texts that have it."""
        rows: dict[tuple[str, str], list[int]] = {}
        for cell, why, row in wrong:
            rows.setdefault((cell, why), []).append(row)
        lines = []
        for (cell, why), where in rows.items():
            shown = cell if len(cell) <= 60 else cell[:57] + "…"
            texts = "text" if len(where) == 1 else f"{len(where)} texts"
            lines.append(
                f"{field.column}: {shown!r} {why}; {texts} {listed((self.ids[i] for i in where), 3)}"
            )
        return lines

    def _check_labels(self) -> None:
        if self.outside_labels not in ("error", "not_coded"):
            raise TaskError(f"outside_labels must be 'error' or 'not_coded'. Got {self.outside_labels!r}.")
        faults: list[str] = []
        for column in self.label_columns:
            self._human[column], found, self._repaired[column] = self._read(self.codebook[column])
            faults += found
        if faults and self.outside_labels == "error":
            raise TaskError(
                problems(f"human labels of task '{self.name}' are outside the codebook", faults)
                + '\n  Correct them, or pass outside_labels="not_coded" to treat them as not coded.'
            )

    def __repr__(self) -> str:
        return f"<Task '{self.name}': {len(self)} texts, {len(self.codebook)} fields>"


def bundled_tasks() -> list[str]:
    """Return the names of the tasks that come with nbannot."""
    folder = resources.files("nbannot.study") / "tasks"
    return sorted(item.name for item in folder.iterdir() if (item / "codebook.json").is_file())


def bundled_folder(name: str) -> Path:
    """Return where a bundled task of this name lies."""
    return Path(str(resources.files("nbannot.study") / "tasks" / name))


def load_task(
    source: str | Path,
    *,
    encoding: str = "utf-8",
    id_column: str | None = None,
    outside_labels: OutsideLabels = "error",
    task_root: str | Path | None = None,
) -> Task:
    """Return the task of this name or place.

    Parameters
    ----------
    source
        A bundled name (`bundled_tasks`), a folder with ``codebook.json`` and ``ground-truth.csv``, the name of such a
        folder below `task_root`, or ``hf://datasets/<owner>/<name>``.
    encoding
        Encoding of ``ground-truth.csv``; UTF-8 with or without byte-order mark by default.

    Raises
    ------
    TaskError, CodebookError
        If there is no such task, or it cannot be used.
    """
    text = str(source)
    if text.startswith("hf://"):
        folder, name = _from_hub(text), text.rsplit("/", 1)[-1]
    else:
        folder = _find_folder(text, task_root)
        name = folder.name
    codebook = Codebook.load(folder)
    data = read_csv(folder / DATA_FILE, encoding=encoding)
    return Task(data, codebook, name, id_column, outside_labels, path=folder)


def _find_folder(text: str, task_root: str | Path | None) -> Path:
    direct = Path(text).expanduser()
    places = [direct, *([Path(task_root).expanduser() / text] if task_root else [])]
    for place in places:
        if (place / "codebook.json").is_file():
            return place.resolve()
    names = bundled_tasks()
    if text in names:
        return bundled_folder(text)
    for place in places:
        if place.is_dir():
            raise TaskError(
                f"the folder {place} is no task: it has no codebook.json.\n"
                f"  A task is a folder with codebook.json and {DATA_FILE}."
            )
    raise TaskError(
        f"no task '{text}'{nearest(text, names) or '.'}\n"
        f"  Bundled tasks: {listed(names)}. A task of your own is a folder with codebook.json and {DATA_FILE}."
    )


def _from_hub(address: str) -> Path:
    parts = address.removeprefix("hf://").split("/")
    if len(parts) != 3 or parts[0] != "datasets" or not all(parts):
        raise TaskError(f"a task on the Hub is hf://datasets/<owner>/<name>. Got '{address}'.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            "/".join(parts[1:]), repo_type="dataset", allow_patterns=["codebook.json", DATA_FILE, "README.md"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TaskError(
            f"cannot fetch {address} from the Hugging Face Hub: {str(error).splitlines()[0]}\n"
            "  Check the name and the connection; a private one needs `hf auth login`."
        ) from None
    place = Path(folder)
    if not (place / DATA_FILE).exists():
        raise TaskError(f"{address} has no {DATA_FILE}.\n  A task is codebook.json and {DATA_FILE}.")
    return place


def read_csv(path: str | Path, *, encoding: str = "utf-8") -> pl.DataFrame:
    """Return a CSV file as a polars frame of strings, every cell as it stands (a blank is ``""``).

    Raises
    ------
    TaskError
        If the file is missing, empty, has only a header, is in another encoding, or has rows of uneven length.
    """
    load("polars")
    import polars as pl

    path = Path(path)
    codec = _codec(encoding)
    try:
        frames = list(_chunks(path, codec))
    except FileNotFoundError:
        raise TaskError(
            f"no file {path}.\n  A task is a folder with codebook.json and {DATA_FILE}."
        ) from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise _wrong_encoding(path, codec, encoding) from None
    if not frames:
        raise TaskError(f"{path} has a header but no texts.\n  It needs one line per text below the header.")
    return pl.concat(frames)


def _chunks(path: Path, codec: str, size: int = 50_000) -> Iterator[pl.DataFrame]:
    """Yield the table in pieces of `size` rows, so that a large file is never held as Python strings."""
    import polars as pl

    csv.field_size_limit(2**31 - 1)
    with path.open(encoding=codec, newline="") as lines:
        reader = csv.reader(lines, strict=True)
        filled = filter(None, reader)
        try:
            header = next(filled, [])
            _check_header(header, path)
            while rows := list(islice(filled, size)):
                if set(map(len, rows)) != {len(header)}:
                    raise _uneven(path, codec, len(header))
                yield pl.DataFrame(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
        except csv.Error as error:
            raise TaskError(
                f"{path}: line {reader.line_num} is not CSV: {error}.\n"
                '  A cell with quotes stands in double quotes, and each quote in it is doubled: "say ""yes""".'
            ) from None


def _uneven(path: Path, codec: str, width: int) -> TaskError:
    """Return the error of the first row that has not as many cells as the header."""
    with path.open(encoding=codec, newline="") as lines:
        reader = csv.reader(lines, strict=True)
        cells = next(len(row) for row in reader if row and len(row) != width)
        return TaskError(
            f"{path}: line {reader.line_num} has {cells} cells, the header has {width}.\n"
            "  A text with commas or line breaks must stand in double quotes."
        )


def _check_header(header: list[str], path: Path) -> None:
    if not any(name.strip() for name in header):
        raise TaskError(f"{path} is empty.\n  It needs a header line and one line per text.")
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), None)):
        raise TaskError(
            f"{path}: the header has one column, {header[0]!r}; its cells seem to be separated by {mark!r}.\n"
            "  Save it with commas between the cells, or read it with pandas and pass the frame to nba.Task:\n"
            f"  frame = pd.read_csv({str(path)!r}, sep={mark!r}, dtype=str)"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise TaskError(
            f"{path}: the header has {listed(map(repr, repeated))} more than once.\n  Give each column its own name."
        )


def _codec(encoding: str) -> str:
    """Return the codec of this name; that of UTF-8 also takes a byte-order mark."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise TaskError(f"unknown encoding '{encoding}'.\n  Try 'utf-8', 'cp1252' or 'latin-1'.") from None
    return "utf-8-sig" if name == "utf-8" else encoding


def _wrong_encoding(path: Path, codec: str, encoding: str) -> TaskError:
    raw = path.read_bytes()
    place = ""
    try:
        raw.decode(codec)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        place = f": byte 0x{raw[error.start]:02x} in line {line}"
    except UnicodeError as error:
        place = f": {error}"
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return TaskError(
        f"{path} is not {encoding}{place}.\n"
        f'  Save it as UTF-8, or say what it is: load_task(..., encoding="{"utf-16" if wide else "cp1252"}").'
    )


def _as_text(data: Any) -> pl.DataFrame:
    """Return a pandas or polars frame as a polars frame of strings; missing values become blanks."""
    load("polars")
    import polars as pl

    if isinstance(data, pl.DataFrame):
        columns = {name: data[name] for name, kind in data.schema.items() if kind != pl.String}
        plain = (pl.Series(name, _cells(name, v), dtype=pl.String) for name, v in columns.items())
        return data.with_columns(plain).fill_null("")
    if any(kind.__module__.startswith("pandas") for kind in type(data).__mro__) and hasattr(data, "columns"):
        return _pandas_as_text(data)
    raise TaskError(
        f"data must be a pandas or polars DataFrame. Got {type(data).__name__}.\n"
        '  A file is read with load_task("folder"), a list of texts with Task(pandas.DataFrame({"text": texts}), …).'
    )


def _pandas_as_text(data: Any) -> pl.DataFrame:
    """Return a pandas frame as text; an index that has a name is a column."""
    import polars as pl

    index = [name for name in data.index.names if name is not None]
    if index and not set(index) & set(data.columns):
        data = data.reset_index()
    names = [str(name) for name in data.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TaskError(
            f"the data has the column {listed(map(repr, repeated))} more than once.\n"
            "  Give each column its own name."
        )
    cells = (_cells(name, data.iloc[:, i]) for i, name in enumerate(names))
    return pl.DataFrame([pl.Series(n, c, dtype=pl.String) for n, c in zip(names, cells, strict=True)])


def _cells(name: str, values: Iterable[Any]) -> list[str]:
    cells = [_cell(value) for value in values]
    for row, cell in enumerate(cells):
        if not cell.isascii() and any("\ud800" <= c <= "\udfff" for c in cell):
            raise TaskError(
                f"column '{name}', row {row + 1}: half a character ({cell[:60]!r}).\n"
                "  The text was cut inside an emoji, or read in a wrong encoding: read it again."
            )
    return cells


def _cell(value: Any) -> str:
    """Return a value as the text it stands for: ``3.0`` as 3, a list of spans as JSON, a missing value as a blank.

    A number too large for every digit of it to be known stays what it is: an id with invented digits is another id.
    """
    if isinstance(value, str):
        return value
    value = _plain(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value))
    return "" if str(value) in ("None", "nan", "<NA>", "NaT") else str(value)


def _plain(value: Any) -> Any:
    """Return a numpy or polars value, scalar or array, as Python's own; a date or the like as its text."""
    for method in ("tolist", "to_list"):
        if hasattr(value, method):
            return getattr(value, method)()
    known = value is None or isinstance(value, str | int | float | list | tuple | dict)
    return value if known else str(value)


def _plain_name(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _refuse_repeated(column: str, values: list[str]) -> None:
    blank = sum(not v.strip() for v in values)
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    twice = [value for value, count in counts.items() if count > 1 and value.strip()]
    if blank or twice:
        what = [f"{blank} blank"] if blank else []
        what += [f"{len(twice)} repeated: {listed(map(repr, twice))}"] if twice else []
        raise TaskError(
            f"ids in column '{column}' must be unique and not blank. Got {' and '.join(what)}.\n"
            "  Labels are joined by id: give every text its own, or name another id_column."
        )


def _ids_of(texts: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    ids = []
    for text in texts:
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        ids.append(f"{key}-{seen[key]}")
    return ids
