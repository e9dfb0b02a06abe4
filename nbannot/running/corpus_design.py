"""What a run on a corpus will do, before any answer is asked for: its blocks, what is left, its ``config.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbannot.asking import prompts
from nbannot.asking.request_reply import Model
from nbannot.engine.job import Job, prompt_for
from nbannot.errors import ConfigError, TaskError, listed
from nbannot.record import folder
from nbannot.record.corpus_output import again_in, blocks_of
from nbannot.record.corpus_parts import Parts, Sums
from nbannot.running.design import Design, Say, design
from nbannot.running.estimates import Load, all_open, load_of, load_of_many
from nbannot.running.run_config import config_of
from nbannot.study.config import RunConfig
from nbannot.study.corpus import Corpus
from nbannot.study.corpus_rows import ROW_NUMBER, Chosen
from nbannot.study.notices import always_ticked
from nbannot.study.task import Task
from nbannot.tools.files import read_json

if TYPE_CHECKING:
    import polars as pl

BLOCK_TEXTS = 50_000
BLOCK_CHARS = 50_000_000
"""A block has so many texts, or fewer where they are long: about so many characters."""


@dataclass(frozen=True)
class CorpusDesign:
    """What a config means for a corpus and a model.

    Attributes
    ----------
    head
        The design for the first block; its id and folder are those of the run.
    gold
        The chosen texts that people coded.
    size
        Texts of a block, duplicates included.
    """

    corpus: Corpus
    chosen: Chosen
    head: Design
    gold: Task
    size: int

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.chosen.n // self.size)

    @property
    def asked(self) -> int:
        """Number of texts that are asked about, blank ones included."""
        return self.chosen.n - len(self.chosen.again)


def design_corpus(
    corpus: Corpus, config: RunConfig, model: Model | None = None, say: Say | None = None
) -> tuple[CorpusDesign, Model]:
    """Return what the config means for this corpus, and the model, which is asked what it is.

    Raises
    ------
    ConfigError, ModelError, TaskError
        If the settings do not fit the corpus or the model.
    """
    if config.chat_mode == "continuous":
        raise ConfigError(
            'chat_mode = "continuous" is one conversation about every text, which no corpus fits into.\n'
            '  Use "per_query" or "per_text".'
        )
    if config.delivery == "batch":
        raise ConfigError(
            'delivery = "batch" does not go with a corpus: it is asked about block by block.\n'
            "  Make a Task of the texts, or ask at once: leave delivery out."
        )
    corpus.check()
    metadata = config.metadata_columns or ()
    chosen, index = corpus.chosen(config.to_dict()), corpus.index(metadata)
    if not chosen.n:
        raise TaskError(f"no text of corpus '{corpus.name}' is selected by sample, limit and ids.")
    gold = corpus.gold(chosen, config.to_dict())
    size = max(1, min(BLOCK_TEXTS, BLOCK_CHARS * index.n // max(1, index.chars)))
    _, block = next(blocks_of(corpus, chosen, size))
    first = asked_of(corpus, chosen, block)
    plain = config.change(limit=None, ids=None, sample=None, sample_by=None, split=None)
    head, model = design(first, plain, model, say)
    if getattr(model, "learns_from_labels", False):
        raise ConfigError(
            f"{config.model} learns from human labels, for which it needs a task in memory.\n"
            "  Make a Task of the coded texts, or name another model."
        )
    code = index.code or head.job.code
    job = dataclasses.replace(head.job, code=code, config=config)
    wording = [prompt_for(job, group) for group in job.groups]
    head = dataclasses.replace(
        head, config=config, job=job, prompt_hash=prompts.prompt_hash(job.kind, wording)
    )
    head.__dict__["data_hash"] = corpus.data_hash(chosen, metadata)
    if (words := head.personal_data) and len(first) < chosen.n:
        head.__dict__["personal_data"] = (
            f"Looked for in the first {len(first):,} of {chosen.n:,} texts: {words}"
        )
    return CorpusDesign(corpus, chosen, head, gold, size), model


def asked_of(corpus: Corpus, chosen: Chosen, block: pl.DataFrame) -> Task:
    """Return the texts of a block that are asked about, as a task."""
    import polars as pl

    again, _ = again_in(chosen, block)
    own = (
        block.filter(~pl.col(ROW_NUMBER).is_in(pl.Series(again, dtype=pl.Int64).implode()))
        if len(again)
        else block
    )
    return corpus.part(own.drop(ROW_NUMBER), own[ROW_NUMBER].to_list())


def job_of(plan: CorpusDesign, task: Task, config: RunConfig) -> Job:
    """Return the questions about one block."""
    texts = task.texts
    if config.metadata_columns:
        rows = task.data.select(list(config.metadata_columns)).iter_rows(named=True)
        texts = [prompts.with_metadata(text, row) for text, row in zip(task.texts, rows, strict=True)]
    return dataclasses.replace(plan.head.job, config=config, ids=task.ids, texts=texts, originals=task.texts)


def open_blocks(left: list[int], plan: CorpusDesign) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the blocks that are to be worked on; those after a gap are read from where they begin."""
    at = 0
    while at < len(left):
        for number, block in blocks_of(plan.corpus, plan.chosen, plan.size, left[at]):
            if number != left[at]:
                break
            yield number, block
            at += 1
            if at == len(left):
                return


def other_versions(plan: CorpusDesign) -> list[str]:
    """Return what to say where the same files had other content in an earlier run: this one is new, and asks anew."""
    ours = {path: [size, changed] for path, size, changed in plan.corpus.sources}
    lines = []
    for place in folder.run_folders(Path(plan.head.config.output_root), plan.corpus.name):
        stored = read_json(place / folder.CONFIG)
        earlier = {path: rest for path, *rest in (stored.get("corpus") or {}).get("sources", ())}
        if stored.get("data_hash") == plan.head.data_hash or not set(ours) & set(earlier):
            continue
        changed = [Path(path).name for path in ours if path in earlier and earlier[path] != ours[path]]
        others = [Path(path).name for path in set(ours) ^ set(earlier)]
        if changed or others:
            what = [f"{listed(changed)} changed"] if changed else []
            what += [f"{listed(sorted(others))} came or went"] if others else []
            lines.append(
                f"since run {stored.get('run_id')}: {' and '.join(what)}. "
                "This is a new run; its texts are asked about anew."
            )
    return lines


def duplicates_in_words(plan: CorpusDesign) -> list[str]:
    """Return what is to be said of texts that are there more than once."""
    if not (n := len(plan.chosen.again)):
        return []
    return [
        f"{n:,} of {plan.chosen.n:,} texts are the same as an earlier one: they are not asked about and get its labels."
    ]


def load_of_corpus(plan: CorpusDesign) -> Load:
    """Return what is left to be sent: of all texts as one pass over them counted, else of the blocks that are open."""
    import polars as pl

    job, metadata = plan.head.job, plan.head.config.metadata_columns or ()
    index, sums = plan.corpus.index(metadata), Parts(plan.head.folder).sums()
    if job.config.chat_mode != "per_query":
        loads = [load_of(of, all_open(of)) for _, of in _open_jobs(plan, sums)]
        return Load(*(sum(getattr(load, name) for load in loads) for name in Load.__dataclass_fields__))
    if plan.chosen.rows is None and not sums and not len(plan.chosen.again):
        return load_of_many(job, index.n - index.blank, index.chars, index.bytes)
    texts = chars = size = 0
    left = [n for n in range(plan.blocks) if n not in sums or sums[n].open]
    for _, block in open_blocks(left, plan):
        again = pl.Series(again_in(plan.chosen, block)[0], dtype=pl.Int64)
        own = block.filter(~pl.col(ROW_NUMBER).is_in(again.implode()))
        sent = own.select([plan.corpus.codebook.text_column, *metadata]).filter(
            pl.col(plan.corpus.codebook.text_column).str.strip_chars() != ""
        )
        extra = sum(len(name) + 5 for name in metadata) * sent.height
        texts += sent.height
        chars += extra + sum(int(column.str.len_chars().sum()) for column in sent)
        size += 4 * extra + sum(int(column.str.len_bytes().sum()) for column in sent)
    return load_of_many(job, texts, chars, size)


def _open_jobs(plan: CorpusDesign, sums: Mapping[int, Sums]) -> Iterator[tuple[int, Job]]:
    left = [n for n in range(plan.blocks) if n not in sums or sums[n].open]
    for number, block in open_blocks(left, plan):
        if len(task := asked_of(plan.corpus, plan.chosen, block)):
            yield number, job_of(plan, task, plan.head.config)


def scored_by(stored: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Return by which columns a run is scored: as the settings say, else as before."""
    given = {name: getattr(config, name) for name in ("cluster", "weights")}
    return {name: stored.get(name) if column is None else column or None for name, column in given.items()}


def corpus_config(plan: CorpusDesign, status: str) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    corpus, chosen, index = (
        plan.corpus,
        plan.chosen,
        plan.corpus.index(plan.head.config.metadata_columns or ()),
    )
    return config_of(plan.head, status) | {
        "n_texts": chosen.n,
        "id_source": corpus.id_source,
        "corpus": {
            "source": corpus.source,
            "sources": [list(one) for one in corpus.sources],
            "revision": corpus.revision,
            "segment": corpus.segment,
            "duplicates": corpus.duplicates,
            "compress": corpus.compress,
            "outside_labels": corpus.outside_labels,
            "n_texts": chosen.n,
            "n_duplicates": len(chosen.again),
            "n_in_corpus": index.n,
            "id_column": corpus.id_source,
            "columns": [
                *corpus.other_columns,
                *([] if corpus.id_source in corpus.other_columns else [corpus.id_source]),
            ],
            "notices": [*corpus.notices, *always_ticked(plan.gold)],
            "block": plan.size,
        },
    }
