"""Every setting of a run, said once: default, type, range, meaning, short name, and whether it decides answers.

The settings are the fields of `SettingFields`, each with its `Setting` as metadata. `SETTINGS`, the defaults, the
checks, the options of the command line and of the magics, the form, a run's identity and the docs follow from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nbannot.study.checks import (
    REASONING_WORDS,
    Check,
    addresses,
    amounts,
    country,
    folder,
    number,
    one_of,
    reasoning_word,
    truth,
    word,
    words,
)
from nbannot.study.workers import workers

CHAT_MODES = ("per_query", "per_text", "continuous")
ANSWER_MODES = ("score", "generate")
CALIBRATIONS = ("none", "batch")
SCALE_ANSWERS = ("modal", "rounded")
OPTION_ORDERS = ("codebook", "reversed", "random")
RETRY_STRATEGIES = ("reprompt", "identical", "temperature")
FIELDS_PER_QUERY = ("one", "section", "all")
DELIVERIES = ("now", "batch", "file")
SPLITS = ("dev", "test")
BUDGETS = ("calls", "tokens", "money", "minutes", "kwh")
COUNTRY_VARIABLE = "NBANNOT_COUNTRY"
NAMES_VARIABLE = "NBANNOT_FIND_NAMES"


@dataclass(frozen=True, slots=True)
class Setting:
    """What one setting may be and what it is for.

    Attributes
    ----------
    decides
        Whether it can change an answer, and so is part of a run's identity.
    short
        How it appears in a `model_id` when it is not at its default.
    table
        Whether its value is a dictionary.
    """

    check: Check
    meaning: str
    decides: bool = True
    short: str = ""
    optional: bool = False
    values: tuple[str, ...] = ()
    table: bool = False


def setting(default: Any, check: Check, meaning: str, **more: Any) -> Any:
    """Return the field of a setting: its default, and a `Setting` as its metadata."""
    kept = Setting(check, meaning, **more)
    return field(default=default, hash=not kept.table, metadata={"setting": kept})


@dataclass(frozen=True)
class SettingFields:
    """The settings with their defaults, not yet checked; see `nbannot.study.config.RunConfig`."""

    model: str = setting("local", word, "the model, `<backend>/<name>`; `local` is the embedded one")
    prompt_type: str = setting(
        "standard", word, "wording of the prompt: `standard`, `persona`, `CoT`, or one of your own"
    )
    use_examples: bool = setting(
        True, truth, "whether the codebook's worked examples are sent", short="examples"
    )
    temperature: float = setting(
        0.0, number(0, 2), "randomness of sampling; 0 takes the most probable answer", short="temp"
    )
    top_p: float | None = setting(
        None, number(0, 1), "nucleus sampling: share of probability kept", short="topp", optional=True
    )
    top_k: int | None = setting(
        None,
        number(1, 1_000_000, whole=True),
        "how many next words are considered",
        short="topk",
        optional=True,
    )
    seed: int | None = setting(
        1,
        number(0, 2**32 - 1, whole=True),
        "seed of the sampling; false: none is sent",
        short="seed",
        optional=True,
    )
    max_tokens: int | None = setting(
        None,
        number(1, 1_000_000, whole=True),
        "longest reply, in tokens; unset: 1,024, or less for a small model, and four times that with reasoning",
        short="max",
        optional=True,
    )
    context_size: int | None = setting(
        None,
        number(64, 10_000_000, whole=True),
        "context window to ask for, in tokens",
        short="ctx",
        optional=True,
    )
    chat_mode: str = setting(
        "per_query",
        one_of(*CHAT_MODES),
        "what a question sees of earlier ones: nothing (`per_query`), those on the same text (`per_text`), "
        "all of the run (`continuous`)",
        short="chat",
        values=CHAT_MODES,
    )
    reasoning: bool | str | None = setting(
        None,
        reasoning_word,
        "ask a reasoning model to think: true, false or an effort word",
        short="reasoning",
        optional=True,
        values=("true", "false", *REASONING_WORDS),
    )
    process_textbox: bool = setting(True, truth, "whether textbox fields are asked", short="textbox")
    process_span: bool = setting(True, truth, "whether span fields are asked", short="span")
    fields: tuple[str, ...] | None = setting(
        None, words, "only these fields (names or columns)", short="fields", optional=True
    )
    fields_per_query: str = setting(
        "one",
        one_of(*FIELDS_PER_QUERY),
        "how many fields one call asks; where answers are scored, its closed fields are asked one after the other "
        "behind the same beginning, which is read once",
        short="fpq",
        values=FIELDS_PER_QUERY,
    )
    answer_mode: str | None = setting(
        None,
        one_of(*ANSWER_MODES),
        "`score` compares the probabilities of the possible answers, `generate` lets the model write; "
        "unset: what suits the model best",
        short="answer",
        optional=True,
        values=ANSWER_MODES,
    )
    calibration: str | None = setting(
        None,
        one_of(*CALIBRATIONS),
        "`batch` corrects scored answers for the model's general preference for some labels, measured on the "
        "first 32 texts; unset: `batch` where a language model's answers are scored",
        short="calibration",
        optional=True,
        values=CALIBRATIONS,
    )
    option_order: Literal["codebook", "reversed", "random"] = setting(
        "codebook",
        one_of(*OPTION_ORDERS),
        "in which order a model is told the options of a dropdown: as in the codebook, `reversed`, or `random` (drawn "
        "once per run and field by `seed`); labels and tables keep the codebook's",
        short="order",
        values=OPTION_ORDERS,
    )
    threshold: float = setting(
        0.5,
        number(0, 1),
        'where answers have probabilities (decision models, `answer_mode = "score"`): that of yes from which on a '
        "checkbox is ticked",
        short="threshold",
    )
    scale_answer: Literal["modal", "rounded"] = setting(
        "modal",
        one_of(*SCALE_ANSWERS),
        "where answers have probabilities: the answer to a likert question is the most probable level (`modal`) or the "
        "expected level, rounded (`rounded`)",
        short="scale",
        values=SCALE_ANSWERS,
    )
    text_model: str | None = setting(
        None,
        word,
        "a second model, `<backend>/<name>`, for the textbox and span fields that a decision model cannot answer",
        short="text",
        optional=True,
    )
    retries: int = setting(
        2,
        number(0, 20, whole=True),
        "how often an invalid or refused answer is asked for again (one cut at max_tokens: only with the `temperature` "
        "strategy)",
        short="retries",
    )
    retry_strategy: str = setting(
        "reprompt",
        one_of(*RETRY_STRATEGIES),
        "asking again: naming the fault (`reprompt`), unchanged but for the seed (`identical`), or warmer "
        "(`temperature`)",
        short="retry",
        values=RETRY_STRATEGIES,
    )
    retry_temperature: float = setting(
        0.7, number(0, 2), "temperature of the `temperature` strategy", short="retrytemp"
    )
    metadata_columns: tuple[str, ...] | None = setting(
        None, words, "columns of the data sent along with the text", short="meta", optional=True
    )
    sample: int | None = setting(
        None,
        number(1, float("inf"), whole=True),
        "a random sample of this many texts, the same every time, whatever the order of the file",
        short="sample",
        optional=True,
    )
    sample_by: str | None = setting(
        None,
        word,
        "column by which the sample is stratified: each of its values gets its share, and one text at least",
        short="by",
        optional=True,
    )
    sample_seed: int = setting(
        1, number(0, 2**32 - 1, whole=True), "another number draws another sample", short="draw"
    )
    limit: int | None = setting(
        None,
        number(1, float("inf"), whole=True),
        "at most this many texts, the first of the file (to try something; to judge by, `sample`)",
        short="n",
        optional=True,
    )
    ids: tuple[str, ...] | None = setting(
        None, words, "only the texts with these ids", short="ids", optional=True
    )
    split: Literal["dev", "test"] | None = setting(
        None,
        one_of(*SPLITS),
        "only one half of the texts, fixed by their ids",
        short="split",
        optional=True,
        values=SPLITS,
    )
    cluster: str | None = setting(
        None,
        word,
        "column that says which texts belong together (document, author, speaker): intervals resample them together. "
        "What `workers` may be (a Dask cluster, `local:4`) is taken as that here, too",
        decides=False,
        optional=True,
    )
    weights: str | None = setting(
        None,
        word,
        "column with one over the probability with which each text was drawn for people: scores are weighted by it; "
        "unset: as `sample.csv` says, where the task has one",
        decides=False,
        optional=True,
    )
    repeat: int = setting(1, number(1, 1_000_000, whole=True), "counts repetitions of the same settings")
    base_url: str | tuple[str, ...] | None = setting(
        None,
        addresses,
        "address of a model server, or a list with those of several servers of the same model",
        short="url",
        optional=True,
    )
    threads: int | None = setting(
        None,
        number(1, 4096, whole=True),
        "processor threads of the local model",
        decides=False,
        optional=True,
    )
    max_parallel: int | None = setting(
        None,
        number(1, 4096, whole=True),
        "most requests in flight, at each server where there are several",
        decides=False,
        optional=True,
    )
    workers: int | str | None = setting(
        None,
        workers,
        "who asks the model: this many processes of this machine (4 or `local:4`), or the workers of a Dask cluster, "
        "named by the address of its scheduler, its scheduler file, or a client or cluster object; unset: this process",
        decides=False,
        optional=True,
    )
    delivery: Literal["now", "batch", "file"] = setting(
        "now",
        one_of(*DELIVERIES),
        "`batch` submits the requests as a batch of the provider, at a lower price: the labels come later, and the "
        "same run collects them; `file` writes them into the run's folder, e.g. for `vllm run-batch`",
        decides=False,
        values=DELIVERIES,
    )
    batch_wait: float = setting(
        0.0,
        number(0, 100_000),
        "how long a call waits for its batches before it returns, in minutes; they go on without it",
        decides=False,
    )
    timeout_s: float = setting(
        120.0, number(0.001, 86_400), "longest wait for one reply, in seconds", decides=False
    )
    budget: dict[str, float] | None = setting(
        None,
        amounts(*BUDGETS),
        "stop, resumably, when a session has used this much: calls, tokens, money, minutes or kwh",
        decides=False,
        optional=True,
        table=True,
    )
    prices: dict[str, float] | None = setting(
        None,
        amounts("input", "output"),
        "money per million tokens, for plan and budget",
        decides=False,
        optional=True,
        table=True,
    )
    local_only: bool = setting(
        False,
        truth,
        "refuse every model whose server is neither this machine nor one of `allowed_hosts` (for everybody on a "
        "machine: `NBANNOT_LOCAL_ONLY=1`, which no setting undoes)",
        decides=False,
    )
    allowed_hosts: tuple[str, ...] | None = setting(
        None,
        words,
        "hosts that `local_only` allows, e.g. `gpu1` or `*.example.edu` (also `NBANNOT_ALLOWED_HOSTS`)",
        decides=False,
        optional=True,
    )
    find_names: str | None = setting(
        None,
        word,
        "a spaCy pipeline, installed or a folder, that looks for names of people here before texts leave this machine, "
        "e.g. `de_core_news_sm` (also `NBANNOT_FIND_NAMES`); it stops nothing; unset: names are not looked for",
        decides=False,
        optional=True,
    )
    country_iso_code: str | None = setting(
        None,
        country,
        "where the electricity comes from (also `NBANNOT_COUNTRY`); unset: world average",
        decides=False,
        optional=True,
    )
    output_root: str = setting("outputs", folder, "folder of the runs", decides=False)
    task_root: str | None = setting(None, folder, "folder of your own tasks", decides=False, optional=True)


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in fields(SettingFields)}
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(SettingFields)}
DECIMAL = tuple(f.name for f in fields(SettingFields) if str(f.type).startswith("float"))
LISTS = tuple(f.name for f in fields(SettingFields) if "tuple" in str(f.type))
