"""A run on a corpus: its labels in a table on disk, and the texts that people coded as a run of their own in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking.answers import Answer
from nbannot.errors import RunError, ScoringError
from nbannot.record import folder
from nbannot.record.coding import Coding
from nbannot.record.corpus_output import output_fault
from nbannot.record.corpus_parts import Parts, Sums, answer_in
from nbannot.record.run import COMPLETE, PARTIAL, Run
from nbannot.study.codebook import Codebook
from nbannot.study.corpus import DOCUMENT, DUPLICATE_OF, END, START
from nbannot.study.corpus_rows import ROW_NUMBER, Chosen
from nbannot.study.field import Field
from nbannot.study.task import Task
from nbannot.tools.imports import load
from nbannot.tools.parquet import read_parquet, scan_parquet, write_parquet

if TYPE_CHECKING:
    import polars as pl

ANSWERED_BY = "\0answered_by"
"""In ``gold.parquet``: the row whose answers a text has, its own or that of the first text that is the same."""
NO_LABEL = ("invalid", "refused", "truncated", "failed", "not_asked")


@dataclass(frozen=True, repr=False)
class CorpusRun(Run):
    """A run on a corpus; made by `run` or `load_run`.

    Scores, report and everything else that compares with people is that of the texts that people coded, `task`; the
    labels of all texts are in `labels`, a table on disk.

    Attributes
    ----------
    sums
        What the blocks of the corpus add up to: answers by status, calls, characters, tokens.
    """

    sums: Sums = field(default_factory=Sums, compare=False)

    @property
    def about(self) -> Mapping[str, Any]:
        """What ``config.json`` says of the corpus: its files, number of texts, duplicates, counts of labels."""
        about: Mapping[str, Any] = self.config["corpus"]
        return about

    @property
    def n_texts(self) -> int:
        """Number of texts of the corpus that the run is about."""
        return int(self.about["n_texts"])

    @property
    def n_duplicates(self) -> int:
        """How many of them are the same as an earlier one: not asked about, they have its labels."""
        return int(self.about["n_duplicates"])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Column -> status -> number of texts, duplicates included; what was not reached yet is not in it."""
        counts: dict[str, dict[str, int]] = self.about.get("counts") or self.sums.counts
        return counts

    @property
    def by_status(self) -> dict[str, int]:
        """How many answers have each status, over all fields and texts, duplicates included."""
        total: Counter[str] = Counter()
        for of in self.counts.values():
            total.update(of)
        return dict(total)

    @property
    def n_open(self) -> int:
        """How many answers running again can still bring; duplicates have no answers of their own."""
        fields = len(self.coding.fields)
        return self.sums.open + fields * max(0, self.n_texts - self.n_duplicates - self.sums.asked)

    @property
    def table_path(self) -> Path:
        """``output.parquet``."""
        return self.folder / folder.OUTPUT_TABLE

    @property
    def labels(self) -> pl.LazyFrame:  # type: ignore[override]
        """``output.parquet``, to be read as needed (polars): one row per text, one column per field, statuses.

        Raises
        ------
        RunError
            If the run has not been far enough to write it, or another file is in its place.
        """
        if not self.table_path.exists():
            raise RunError(
                f"{self.table_path} is not there yet: it is written when a session ends that was not stopped by hand.\n"
                "  Run the same again; every finished answer is kept."
            )
        self._must_be_whole()
        return scan_parquet(self.table_path)

    def _must_be_whole(self, *, content: bool = False) -> None:
        """Raise if ``output.parquet`` is not what was written."""
        if fault := output_fault(self.table_path, self.about.get("output"), whole=content):
            raise RunError(
                f"{self.table_path} is not what this run wrote: {fault}.\n"
                "  Run the same again: it is written anew, and nothing is asked. "
                "(A table that you change, keep under another name.)"
            )

    @property
    def failures(self) -> pl.LazyFrame:  # type: ignore[override]
        """The texts with an answer that is neither valid nor not applicable (polars, to be read as needed)."""
        import polars as pl

        wrong = [pl.col(f"{f.column}.status").is_in(NO_LABEL) for f in self.coding.fields]
        return self.labels.filter(pl.any_horizontal(wrong))

    def documents(self) -> pl.DataFrame:
        """Return one row per document of a corpus that was cut into segments: what was said of its segments.

        Returns
        -------
        polars.DataFrame
            ``document_id``, ``segments``, and per field ``<column>.n`` (segments with a valid answer) and: of a
            checkbox the share of them with a 1; of a scale the mean; of a dropdown the most frequent option (the first
            of the codebook where two are as frequent) and its share, ``<column>.share``; of a textbox the answers and
            of a span field the passages with their characters *in the document*, both as a JSON list.

        Raises
        ------
        ScoringError
            If the corpus was not cut.
        """
        import polars as pl

        if not self.about.get("segment"):
            raise ScoringError(
                "the texts of this corpus are whole documents.\n  To cut them: nba.corpus(..., segment='sentences')."
            )
        shown = self.labels.with_columns(pl.col(START).cast(pl.Int64), pl.col(END).cast(pl.Int64))
        parts = [pl.len().alias("segments")]
        for f in self.coding.fields:
            parts += _of_document(f)
        grouped = shown.group_by(DOCUMENT, maintain_order=True).agg(parts)
        return grouped.collect(engine="streaming")

    def whole(self) -> Run:
        """Return the run with every text in memory, for what needs them all at once (shares, regressions).

        Raises
        ------
        RunError
            If the run is not complete.
        """
        if self.status != "complete":
            raise RunError(
                f"run {self.run_id} is {self.status}.\n  Run the same again first: it goes on from here."
            )
        labels, task, ids = self.labels, self.task, self.about["id_column"]
        self._must_be_whole(content=True)
        held = labels.collect()
        texts = held.select([name for name in held.columns if name in self.about["columns"]])
        if task.label_columns:
            people = task.data.select([ids, *task.label_columns])
            texts = texts.join(people, on=ids, how="left", maintain_order="left")
        by: dict[str, Any] = {"cluster": task.cluster, "weights": task.weights}
        rows, outside = tuple(range(held.height)), task.outside_labels
        whole = Task(texts, task.codebook, task.name, id_column=ids, rows=rows, outside_labels=outside, **by)
        config = {name: value for name, value in self.config.items() if name != "corpus"}
        coding = _coding(whole, [f.column for f in self.coding.fields], self._answers(held), self.run_id)
        return Run(self.folder, config, whole, coding, self.outcome, self.calls, self.unfitting)

    def _answers(self, held: pl.DataFrame) -> pl.DataFrame:
        """Return what the blocks say of each row of ``output.parquet``: all options' probabilities, attempts, too."""
        import polars as pl

        ids = self.about["id_column"]
        parts, kept = Parts(self.folder), self.about.get("output")
        stored = parts.stored().sort("row").collect()
        own = held.filter(pl.col(DUPLICATE_OF).is_null())[ids].alias(ANSWERED_BY)
        if len(own) != stored.height or (kept and kept["labels"] != parts.digest()):
            raise RunError(
                f"{self.table_path} and the folder {folder.LABELS} beside it do not belong together.\n"
                "  Run the same again: the table is written anew, and nothing is asked."
            )
        by = held.select(pl.coalesce(DUPLICATE_OF, ids).alias(ANSWERED_BY))
        return by.join(stored.with_columns(own), on=ANSWERED_BY, how="left", maintain_order="left")

    def _energy_per_label(self, energy_kwh: float | None) -> dict[str, float | None]:
        """Return the energy (Wh) per valid label that was asked for; see `Run`."""
        valid = sum(of.get("ok", 0) for of in self.sums.counts.values())
        gold = super()._energy_per_label(1.0)
        right = None
        if gold["energy_wh_per_correct_label"]:  # its share of right labels, of the coded texts
            right = (gold["energy_wh_per_valid_label"] or 0) / gold["energy_wh_per_correct_label"]
        per_valid = energy_kwh * 1000 / valid if energy_kwh is not None and valid else None
        return {
            "energy_wh_per_valid_label": per_valid,
            "energy_wh_per_correct_label": per_valid / right if per_valid is not None and right else None,
        }

    def __repr__(self) -> str:
        about = f"'{self.task.name}': {self.n_texts:,} texts, {self.model_id}, {self.status}"
        return f"<CorpusRun {self.run_id} of {about}>"


def _coding(task: Task, columns: Sequence[str], held: pl.DataFrame, coder: str) -> Coding:
    """Return the answers that a table holds, one row per text of the task."""
    fields = [f for f in task.codebook if f.column in columns]
    answers: dict[str, list[Answer]] = {f.column: [] for f in fields}
    for row in held.iter_rows(named=True):
        for f in fields:
            answers[f.column].append(answer_in(f, row))
    return Coding(task, answers, coder)


def load_corpus_run(place: Path, config: Mapping[str, Any], gold: Task | None = None) -> CorpusRun:
    """Return a run on a corpus from its folder; the corpus itself is not needed.

    Parameters
    ----------
    gold
        The texts that people coded, where their labels are others than when the run was scored.

    Raises
    ------
    RunError
        If its ``gold.parquet`` is gone or damaged.
    """
    load("polars")
    import polars as pl

    parts, about = Parts(place), config["corpus"]
    sums = Sums()
    for block in parts.sums().values():
        sums.add(block)
    if config.get("status") == COMPLETE and sums.asked < about["n_texts"] - about["n_duplicates"]:
        config = {**config, "status": PARTIAL}  # the labels of a block are gone; running it again makes them
    coded = read_gold(place)
    ids = about["id_column"]
    if gold is None:
        book = Codebook.from_dict(config["codebook"], where=str(place / folder.CONFIG))
        rows, texts = tuple(coded[ROW_NUMBER]), coded.drop(ROW_NUMBER, ANSWERED_BY)
        by: dict[str, Any] = {name: config.get(name) or None for name in ("cluster", "weights")}
        name = config["task_name"]
        gold = Task(texts, book, name, id_column=ids, rows=rows, outside_labels="not_coded", **by)
    stored = parts.stored(coded[ANSWERED_BY].to_list()).collect()
    held = coded.select(pl.col(ANSWERED_BY).alias("row")).join(
        stored, on="row", how="left", maintain_order="left"
    )
    coding = _coding(gold, config["columns_asked"], held, str(config["run_id"]))
    return CorpusRun(place, config, gold, coding, calls=sums.calls, unfitting=sums.unfitting, sums=sums)


def save_gold(place: Path, gold: Task, chosen: Chosen) -> None:
    """Write the texts that people coded, with the row whose answers each has.

    Raises
    ------
    RunError
        If they cannot be written; an old file is untouched.
    """
    import polars as pl

    rows = pl.Series(ROW_NUMBER, gold.rows or (), dtype=pl.Int64)
    firsts = pl.DataFrame(
        {ROW_NUMBER: chosen.again, ANSWERED_BY: chosen.first},
        schema={ROW_NUMBER: pl.Int64, ANSWERED_BY: pl.Int64},
    )
    answered_by = pl.DataFrame(rows).join(firsts, on=ROW_NUMBER, how="left", maintain_order="left")
    coded = gold.data.with_columns(rows, answered_by[ANSWERED_BY].fill_null(rows))
    try:
        write_parquet(coded, place / folder.GOLD)
    except OSError as error:
        raise RunError(
            f"cannot write {place / folder.GOLD}: {error.strerror}.\n"
            "  Every answer is kept; make room and run the same again."
        ) from None


def read_gold(place: Path) -> pl.DataFrame:
    """Return the texts that people coded, as `save_gold` wrote them.

    Raises
    ------
    RunError
        If the file is gone, damaged or another one.
    """
    path = place / folder.GOLD
    try:
        coded = read_parquet(path)
        fault = "" if {ROW_NUMBER, ANSWERED_BY} <= set(coded.columns) else "its columns are not those"
    except OSError as error:
        fault = str(error.strerror)
    if fault:
        raise RunError(
            f"{path}, the texts that people coded, cannot be read: {fault}.\n"
            "  Run the same again: it is written anew from the corpus, and nothing is asked."
        )
    return coded


def _of_document(f: Field) -> list[pl.Expr]:
    import polars as pl

    valid = pl.col(f"{f.column}.status") == "ok"
    answers = pl.col(f.column).filter(valid)
    n = valid.sum().alias(f"{f.column}.n")
    if f.type in ("checkbox", "likert"):
        return [n, answers.cast(pl.Float64).mean().alias(f.column)]
    if f.type == "dropdown":
        place = {option: i for i, option in enumerate(f.labels)}

        def most(cells: pl.Series) -> str | None:
            counts = dict(cells.value_counts().iter_rows())
            return min(counts, key=lambda o: (-counts[o], place.get(o, 0)), default=None)

        def share(cells: pl.Series) -> float | None:
            counts = [count for _, count in cells.value_counts().iter_rows()]
            return max(counts) / sum(counts) if counts else None

        return [
            n,
            answers.map_batches(most, returns_scalar=True, return_dtype=pl.String).alias(f.column),
            answers.map_batches(share, returns_scalar=True, return_dtype=pl.Float64).alias(
                f"{f.column}.share"
            ),
        ]
    if f.type == "span":
        pairs = pl.struct(pl.col(START).filter(valid).alias("at"), answers.alias("spans"))
        return [n, pairs.map_batches(_moved, returns_scalar=True, return_dtype=pl.String).alias(f.column)]

    def together(cells: pl.Series) -> str:
        return json.dumps(cells.to_list(), ensure_ascii=False)

    return [n, answers.map_batches(together, returns_scalar=True, return_dtype=pl.String).alias(f.column)]


def _moved(pairs: pl.Series) -> str:
    """Return the spans of the segments of one document with their characters in the document."""
    moved = [
        {**span, "start": span["start"] + pair["at"], "end": span["end"] + pair["at"]}
        for pair in pairs
        for span in json.loads(pair["spans"])
    ]
    return json.dumps(moved, ensure_ascii=False)
