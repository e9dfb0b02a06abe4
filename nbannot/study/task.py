"""A task: the texts, what identifies each, and what people said of them, under a codebook.

`Task` takes a pandas or polars frame and a codebook; `nbannot.load_task` finds a bundled task, a folder or a Hugging
Face dataset repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nbannot.errors import TaskError, listed, nearest
from nbannot.page.shown import Shown
from nbannot.study.codebook import Codebook
from nbannot.study.human_labels import (
    fields_where_blank_means_no,
    outside_in_words,
    read_labels,
    refuse_outside,
    with_blanks_as_no,
)
from nbannot.study.locked import ALIVE, OWN_LABELS, Lockable
from nbannot.study.notices import UNNAMED, id_faults, notices_of, unused_ids
from nbannot.study.reading import as_text
from nbannot.study.sampling import sampled
from nbannot.study.sampling_weights import SAMPLE, Weighting, sample_file, weighting_of
from nbannot.study.split import Lock, own_places
from nbannot.study.survey_lines import without_foreign_lines

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

ID_COLUMNS = ("sample_id", "doc_id", "item_id", "text_id", "id")

OutsideLabels = Literal["error", "not_coded"]


@dataclass(frozen=True, repr=False, eq=False)
class Task(Lockable, Shown):
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
    cluster
        Column of the data that says which texts belong together (document, author, speaker): the setting that scores,
        comparisons, agreement and findings of this task use unless they are told otherwise.
    weights
        Column of the data with one over the probability with which each text was drawn for people (blank: not drawn):
        every metric and interval is weighted by it. Where none is named, the ``sample.csv`` of `nbannot.sample` says
        it, if it has all coded texts.
    rows
        The positions, in the data that the first task was made from, of the texts that were kept; set by `select`, and
        where lines that are no texts are left out (header lines of survey tools, empty rows). Data given with it are
        taken as they stand.
    blank_means_no
        Whether a blank cell of a checkbox means 0 and one of a span field "no passage", as many tools write them; or
        the names or columns of the fields in which it does. Else a blank cell means "not coded". It stays blank where
        the question did not apply. In these checkboxes a tick may also be an x or the name of the box.

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
    blank_means_no: bool | str | Sequence[str] = False
    split_lock: Lock | None = None
    cluster: str | None = None
    weights: str | Weighting | None = None

    def __post_init__(self) -> None:
        codebook: Any = self.codebook
        if not isinstance(codebook, Codebook):
            codebook = (
                Codebook.load(codebook) if isinstance(codebook, str | Path) else Codebook.from_dict(codebook)
            )
            object.__setattr__(self, "codebook", codebook)
        object.__setattr__(self, "data", as_text(self.data))
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
        if self.cluster is not None and self.cluster not in self.other_columns:
            raise TaskError(
                f"the data has no column '{self.cluster}' (cluster){nearest(self.cluster, self.other_columns) or '.'}\n"
                f"  Its columns: {listed(self.other_columns, 12)}."
            )
        if isinstance(self.weights, str) and self.weights:
            weighting_of(self.data, list(map(str, range(len(self)))), self.weights)
        self.__dict__["_folder"] = self.path
        self._take_lines_out()
        self._fill_blanks()
        _ = self._identified
        if self.split_lock is None:
            self._find_lock(by_name=self.name != UNNAMED)
        self._seal()
        ALIVE[id(self)] = self
        if self.outside_labels not in ("error", "not_coded"):
            raise TaskError(f"outside_labels must be 'error' or 'not_coded'. Got {self.outside_labels!r}.")
        self.read_labels()

    def read_labels(self) -> None:
        """Read the human labels from the data; one outside the codebook is refused, or not coded, as asked for."""
        codebook = self.codebook
        read = read_labels(codebook, self.data, self.texts, self.ids, self.label_columns)
        labels, faults, repaired, self.__dict__["_outside"] = read
        self._human.update(labels)
        self._repaired.update(repaired)
        if self.outside_labels == "error":
            refuse_outside(self.name, faults)

    def _take_lines_out(self) -> None:
        """Leave out lines that are no texts, unless the data are taken as they stand."""
        if self.rows is not None:
            return
        data, kept, notices = without_foreign_lines(self.data, self.codebook.text_column)
        if not data.height:
            raise TaskError("the data has no rows.\n  It needs one row per text.")
        if len(kept) < len(self):
            object.__setattr__(self, "data", data)
            object.__setattr__(self, "rows", tuple(kept))
            self._reading_notices.extend(notices)

    def _fill_blanks(self) -> None:
        """Write "no" into the blank cells that mean it."""
        fields = fields_where_blank_means_no(self.codebook, self.blank_means_no, self.label_columns)
        data, filled = with_blanks_as_no(self.codebook, self.data, fields)
        object.__setattr__(self, "data", data)
        if any(filled.values()):
            counts = listed((f"{n:,} in '{column}'" for column, n in filled.items() if n), 6)
            self._reading_notices.append(f'Blank cells are read as "no", as asked for: {counts}.')
        if self.blank_means_no:
            # A run finds its labels through the folder, where these cells are blank: let it keep a copy of its own.
            object.__setattr__(self, "path", None)

    @cached_property
    def _reading_notices(self) -> list[str]:
        return []

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
        passed: dict[str, list[str]] = {}
        for candidate in ID_COLUMNS:
            if candidate in self.other_columns:
                values = list(self.data[candidate])
                if not id_faults(values):
                    self._reading_notices.extend(unused_ids(passed, candidate))
                    return values, candidate
                passed[candidate] = values
        self._reading_notices.extend(unused_ids(passed, "text"))
        return _ids_of(self.texts), "text"

    def cluster_column(self, asked: str | None = None) -> str | None:
        """Return the column whose texts belong together: the one asked for, else the task's own; none for ``""``."""
        return (self.cluster if asked is None else asked) or None

    def scored_by(self, **changes: Any) -> Task:
        """Return the task with other columns as its `cluster` or `weights`, and with other `data` if given.

        Raises
        ------
        TaskError
            If the data has no such column, or it holds no weights.
        """
        rows = tuple(range(len(self))) if self.rows is None else self.rows
        other = replace(self, rows=rows, **changes)
        for name in ("_identified", "_reading_notices", "_is_part", "_folder", OWN_LABELS):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def weighting(self, asked: str | None = None) -> Weighting | None:
        """Return what each text counts for: by the column asked for, else the task's own, else ``sample.csv``.

        None for ``""``, and where nothing says it.

        Raises
        ------
        TaskError
            If there is no such column, or its cells or the file's are no weights.
        """
        column = self.weights if asked is None else asked
        if isinstance(column, Weighting):
            return column
        if column == "":
            return None
        if column is not None:
            return weighting_of(self.data, self.ids, column)
        probabilities = sample_file(own_places(self._origin, self.name), self.ids)
        if probabilities is None:
            return None
        return Weighting({i: 1 / p for i, p in probabilities.items()}, SAMPLE)

    @property
    def label_columns(self) -> list[str]:
        """The codebook's columns that the data has, in codebook order."""
        columns = set(self.data.columns)
        return [f.column for f in self.codebook if f.column in columns]

    @property
    def other_columns(self) -> list[str]:
        """The columns of the data that are not labels: id, text, metadata, in their order."""
        labels = {f.column for f in self.codebook}
        return [name for name in self.data.columns if name not in labels]

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What deserves a look before trusting a run on these texts, one sentence each."""
        return (*self._reading_notices, *notices_of(self))

    @property
    def has_own_labels(self) -> bool:
        """Whether the human labels are others than those in the task's folder, as those of a consensus are.

        A run on such a task keeps them, and is scored by them when it is loaded.
        """
        return bool(self.__dict__.get(OWN_LABELS))

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
    def outside_words(self) -> str:
        """How many human labels outside the codebook count as not coded (`outside_labels`), and which; "" if none."""
        return outside_in_words(self.__dict__["_outside"])

    @property
    def repaired_spans(self) -> int:
        """How many human spans had no offsets, or such as did not fit their quote, and were placed by the quote."""
        return sum(self._repaired.values())

    def human_applies(self, column: str) -> list[bool]:
        """Return per text whether the field applies by the human labels.

        A field whose parent was not coded counts as applying: nobody said that it does not.
        """
        return list(self._applies[self.codebook[column].column])

    @cached_property
    def _applies(self) -> dict[str, list[bool]]:
        applies: dict[str, list[bool]] = {}
        for field in self.codebook.in_order:
            if field.condition is None:
                applies[field.column] = [True] * len(self)
                continue
            above, parent = applies[field.condition.column], self.human(field.condition.column)
            condition = field.condition
            applies[field.column] = [
                up and (value is None or condition.met_by(value))
                for up, value in zip(above, parent, strict=True)
            ]
        return applies

    def select(
        self,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        split: Literal["dev", "test"] | None = None,
        *,
        sample: int | None = None,
        sample_by: str | None = None,
        sample_seed: int = 1,
        reason: str | None = None,
    ) -> Task:
        """Return the task with only some of its texts, in the same order and with the same ids.

        Parameters
        ----------
        limit
            At most this many texts: the first of those chosen by everything else.
        sample, sample_by, sample_seed
            A random sample of this many of the texts chosen by `ids` and `split`, the same every time; stratified by
            a column of the data where one is named; another seed draws another one.
        ids
            Only these texts.
        split
            Only one half of the split: that of `lock`, else one that the ids alone decide.
        reason
            Why the test half of a locked task is opened; without one its human labels stay blank.

        Raises
        ------
        TaskError
            If an id or a column is unknown, `limit` is negative or `split` is neither ``"dev"`` nor ``"test"``.
        """
        if limit is None and ids is None and split is None and sample is None:
            return self
        if sample is not None and sample < 1:
            raise TaskError(f"sample must be 1 or more texts. Got {sample}.")
        if sample_by is not None and sample_by not in self.data.columns:
            raise TaskError(
                f"the data has no column '{sample_by}' (sample_by){nearest(sample_by, self.data.columns) or '.'}\n"
                f"  Its columns: {listed(self.data.columns, 12)}."
            )
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
        if sample is not None:
            strata = [self.data[sample_by][i] for i in kept] if sample_by is not None else None
            kept = [kept[i] for i in sampled([self.ids[i] for i in kept], sample, sample_seed, strata)]
        kept = kept[:limit]
        frame = self.data[kept] if kept else self.data.clear()
        rows = kept if self.rows is None else [self.rows[i] for i in kept]
        chosen = replace(self, data=frame, rows=tuple(rows))
        # Ids made from texts count occurrences in the whole data: keep the ones given there.
        chosen.__dict__["_identified"] = ([self.ids[i] for i in kept], self.id_source)
        chosen.__dict__["_reading_notices"] = list(self._reading_notices)
        chosen.__dict__["_is_part"] = True
        chosen.__dict__[OWN_LABELS] = self.has_own_labels
        return chosen if reason is None or split != "test" else chosen.opened(reason)

    def selected(self, settings: Mapping[str, Any]) -> Task:
        """Return the task with the texts that the settings of a run choose."""
        names = ("limit", "ids", "split", "sample", "sample_by")
        chosen = {name: settings.get(name) for name in names}
        return self.select(**chosen, sample_seed=settings.get("sample_seed") or 0)

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

    def __repr__(self) -> str:
        return f"<Task '{self.name}': {len(self)} texts, {len(self.codebook)} fields>"


def _refuse_repeated(column: str, values: list[str]) -> None:
    what = id_faults(values)
    if what:
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
