"""The settings of a run: one frozen `RunConfig`, read from keywords, TOML or JSON, checked all at once.

The table `SETTINGS` is the only place that says which settings exist, what they may be and what they are for; the
documentation, the completion in notebooks and the command line are made from it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nbannot.errors import ConfigError, nearest

ChatMode = Literal["per_query", "per_text", "continuous"]
CHAT_MODES = ("per_query", "per_text", "continuous")
ANSWER_MODES = ("score", "generate")
CALIBRATIONS = ("none", "batch")
RETRY_STRATEGIES = ("reprompt", "identical", "temperature")
FIELDS_PER_QUERY = ("one", "section", "all")
SPLITS = ("dev", "test")
REASONING_WORDS = ("minimal", "low", "medium", "high")

Check = Callable[[Any], str]
"""Returns what a value must be, or "" if it is fine."""


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """Return a check for a number from `low` to `high`."""
    kind = "an integer" if whole else "a number"
    if high == float("inf"):
        rule = f"must be {kind} of at least {low:g}"
    else:
        rule = f"must be {kind} from {low:g} to {high:g}"

    def check(value: Any) -> str:
        right = isinstance(value, int) if whole else isinstance(value, int | float)
        return "" if right and not isinstance(value, bool) and low <= value <= high else rule

    return check


def one_of(*words: str) -> Check:
    """Return a check for one of these words."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def word(value: Any) -> str:
    """Check for a text that is not blank."""
    return "" if isinstance(value, str) and value.strip() else "must be a text"


def truth(value: Any) -> str:
    """Check for true or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def words(value: Any) -> str:
    """Check for a list of texts."""
    right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return "" if right else "must be a list of texts"


def reasoning_word(value: Any) -> str:
    """Check for true, false or an effort word."""
    right = isinstance(value, bool) or value in REASONING_WORDS
    return "" if right else f"must be true, false or one of {', '.join(REASONING_WORDS)}"


@cache
def countries() -> frozenset[str]:
    """Return the ISO 3166-1 alpha-3 codes (pycountry comes with CodeCarbon)."""
    import pycountry

    return frozenset(country.alpha_3 for country in pycountry.countries)


def country(value: Any) -> str:
    """Check for a real ISO 3166-1 alpha-3 country code."""
    if isinstance(value, str) and re.fullmatch("[A-Z]{3}", value) and value in countries():
        return ""
    return "must be an ISO 3166-1 alpha-3 country code in capitals, such as DEU, FRA or USA"


@dataclass(frozen=True, slots=True)
class Setting:
    """What one setting may be and what it is for.

    Attributes
    ----------
    decides
        Whether it can change an answer, and so is part of a run's identity.
    short
        How it appears in a `model_id` when it is not at its default.
    """

    check: Check
    meaning: str
    decides: bool = True
    short: str = ""
    optional: bool = False
    values: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "model": Setting(word, "the model, `<backend>/<name>`; `local` is the embedded one"),
    "prompt_type": Setting(word, "wording of the prompt: `standard`, `persona`, `CoT`, or one of your own"),
    "use_examples": Setting(truth, "whether the codebook's worked examples are sent", short="examples"),
    "temperature": Setting(
        number(0, 2), "randomness of sampling; 0 takes the most probable answer", short="temp"
    ),
    "top_p": Setting(
        number(0, 1), "nucleus sampling: share of probability kept", short="topp", optional=True
    ),
    "top_k": Setting(
        number(1, 1_000_000, whole=True), "how many next words are considered", short="topk", optional=True
    ),
    "seed": Setting(number(0, 2**32 - 1, whole=True), "seed of the sampling", short="seed", optional=True),
    "max_tokens": Setting(number(1, 1_000_000, whole=True), "longest reply, in tokens", short="max"),
    "context_size": Setting(
        number(64, 10_000_000, whole=True), "context window to ask for, in tokens", short="ctx", optional=True
    ),
    "chat_mode": Setting(
        one_of(*CHAT_MODES),
        "what a question sees of earlier ones: nothing (`per_query`), those on the same text (`per_text`), "
        "all of the run (`continuous`)",
        short="chat",
        values=CHAT_MODES,
    ),
    "reasoning": Setting(
        reasoning_word,
        "ask a reasoning model to think: true, false or an effort word",
        short="reasoning",
        optional=True,
        values=("true", "false", *REASONING_WORDS),
    ),
    "process_textbox": Setting(truth, "whether textbox fields are asked", short="textbox"),
    "process_span": Setting(truth, "whether span fields are asked", short="span"),
    "fields": Setting(words, "only these fields (names or columns)", short="fields", optional=True),
    "fields_per_query": Setting(
        one_of(*FIELDS_PER_QUERY), "how many fields one call asks", short="fpq", values=FIELDS_PER_QUERY
    ),
    "answer_mode": Setting(
        one_of(*ANSWER_MODES),
        "`score` compares the probabilities of the possible answers, `generate` lets the model write; "
        "unset: what suits the model best",
        short="answer",
        optional=True,
        values=ANSWER_MODES,
    ),
    "calibration": Setting(
        one_of(*CALIBRATIONS),
        "`batch` corrects scored answers for the model's general preference for some labels, measured on the "
        "first 32 texts; unset: `batch` where answers are scored",
        short="calibration",
        optional=True,
        values=CALIBRATIONS,
    ),
    "retries": Setting(
        number(0, 20, whole=True), "how often an invalid answer is asked for again", short="retries"
    ),
    "retry_strategy": Setting(
        one_of(*RETRY_STRATEGIES),
        "asking again: naming the fault (`reprompt`), unchanged but for the seed (`identical`), or warmer "
        "(`temperature`)",
        short="retry",
        values=RETRY_STRATEGIES,
    ),
    "retry_temperature": Setting(
        number(0, 2), "temperature of the `temperature` strategy", short="retrytemp"
    ),
    "metadata_columns": Setting(
        words, "columns of the data sent along with the text", short="meta", optional=True
    ),
    "limit": Setting(
        number(1, float("inf"), whole=True), "at most this many texts", short="n", optional=True
    ),
    "ids": Setting(words, "only the texts with these ids", short="ids", optional=True),
    "split": Setting(
        one_of(*SPLITS),
        "only one half of the texts, fixed by their ids",
        short="split",
        optional=True,
        values=SPLITS,
    ),
    "repeat": Setting(number(1, 1_000_000, whole=True), "counts repetitions of the same settings"),
    "base_url": Setting(word, "address of a model server", short="url", optional=True),
    "threads": Setting(
        number(1, 4096, whole=True), "processor threads of the local model", decides=False, optional=True
    ),
    "max_parallel": Setting(
        number(1, 4096, whole=True), "most requests in flight", decides=False, optional=True
    ),
    "timeout_s": Setting(number(0.001, 86_400), "longest wait for one reply, in seconds", decides=False),
    "country_iso_code": Setting(
        country,
        "where the electricity comes from (also `NBANNOT_COUNTRY`); unset: world average",
        decides=False,
        optional=True,
    ),
    "output_root": Setting(word, "folder of the runs", decides=False),
    "task_root": Setting(word, "folder of your own tasks", decides=False, optional=True),
}


@dataclass(frozen=True)
class RunConfig:
    """Every setting of one run. Make it with `RunConfig.of`, `from_toml` or `from_json`; it checks itself.

    The meaning of each setting is in `SETTINGS` and in ``docs/settings.md``.

    Raises
    ------
    ConfigError
        Listing every setting that needs a change.

    Examples
    --------
    >>> RunConfig(temperature=0.7).temperature
    0.7
    """

    model: str = "local"
    prompt_type: str = "standard"
    use_examples: bool = True
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = 1
    max_tokens: int = 512
    context_size: int | None = None
    chat_mode: str = "per_query"
    reasoning: bool | str | None = None
    process_textbox: bool = True
    process_span: bool = True
    fields: tuple[str, ...] | None = None
    fields_per_query: str = "one"
    answer_mode: str | None = None
    calibration: str | None = None
    retries: int = 2
    retry_strategy: str = "reprompt"
    retry_temperature: float = 0.7
    metadata_columns: tuple[str, ...] | None = None
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    split: str | None = None
    repeat: int = 1
    base_url: str | None = None
    threads: int | None = None
    max_parallel: int | None = None
    timeout_s: float = 120.0
    country_iso_code: str | None = None
    output_root: str = "outputs"
    task_root: str | None = None

    def __post_init__(self) -> None:
        if self.country_iso_code is None and os.environ.get("NBANNOT_COUNTRY"):
            object.__setattr__(self, "country_iso_code", os.environ["NBANNOT_COUNTRY"])
        for name in ("fields", "ids", "metadata_columns"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("temperature", "retry_temperature", "timeout_s", "top_p"):
            if isinstance(getattr(self, name), int) and not isinstance(getattr(self, name), bool):
                object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("output_root", "task_root"):
            if isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        faults = [f"{name} {why}. Got {getattr(self, name)!r}." for name, why in self._faults()]
        faults += _contradictions(self)
        if faults:
            raise settings_error(faults)

    def _faults(self) -> Iterable[tuple[str, str]]:
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if value is None and setting.optional:
                continue
            why = setting.check(value)
            if why:
                yield name, why

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None = None, /, **keywords: Any) -> RunConfig:
        """Return the config with these settings; unknown names are refused with the nearest known one."""
        merged = {**(settings or {}), **keywords}
        refuse_unknown(merged)
        return cls(**merged)

    @classmethod
    def from_toml(cls, text: str) -> RunConfig:
        """Return the config that a TOML text describes; errors give the line."""
        return cls.of(read_toml(text))

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Return the config that a ``config.json`` describes; its provenance is left aside."""
        return cls.of(settings_in(json.loads(text)))

    def change(self, **changes: Any) -> RunConfig:
        """Return the config with some settings changed."""
        refuse_unknown(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as plain data, in the order of `SETTINGS`."""
        plain = {name: getattr(self, name) for name in SETTINGS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def to_toml(self, *, all_settings: bool = False) -> str:
        """Return the settings as TOML: those that are not at their default, or all."""
        lines = []
        for name, value in self.to_dict().items():
            if value is not None and (all_settings or value != DEFAULTS[name]):
                lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
        return "\n".join(lines)

    def model_id(self, prompt_mark: str = "") -> str:
        """Return a short readable name that differs whenever two configs of a task differ in more than `repeat`.

        Parameters
        ----------
        prompt_mark
            Hash of a prompt wording of one's own, so that a changed wording changes the name.
        """
        parts = [self.model.replace(":", "-"), self.prompt_type + (f"-{prompt_mark}" if prompt_mark else "")]
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if name in ("model", "prompt_type", "repeat") or not setting.decides or value == DEFAULTS[name]:
                continue
            parts.append(f"{setting.short}={_brief(value)}")
        if self.model != parts[0]:  # a colon was replaced: keep names that differ only there apart
            parts.append(_mark(self.model))
        return "_".join(parts)


DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(RunConfig)}


def _contradictions(config: RunConfig) -> Iterable[str]:
    if config.calibration == "batch" and config.chat_mode != "per_query":
        yield f'calibration = "batch" needs chat_mode = "per_query". Got {config.chat_mode!r}.'
    if config.calibration == "batch" and config.answer_mode == "generate":
        yield 'calibration = "batch" needs scored answers. Got answer_mode = "generate".'
    if config.answer_mode == "score" and config.prompt_type == "CoT":
        yield 'answer_mode = "score" leaves no room to reason. Got prompt_type = "CoT".'
    if config.answer_mode == "score" and config.fields_per_query != "one":
        yield f'answer_mode = "score" needs fields_per_query = "one". Got {config.fields_per_query!r}.'


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) or len(str(value)) > 24 or not re.fullmatch(r"[\w.:-]+", str(value)):
        return _mark(json.dumps(value, ensure_ascii=False))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def settings_error(faults: Sequence[str]) -> ConfigError:
    """Return the error that lists these faults."""
    number = "1 setting needs" if len(faults) == 1 else f"{len(faults)} settings need"
    return ConfigError("\n".join([f"{number} a change.", *(f"  {fault}" for fault in faults)]))


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise `ConfigError` for names that are no settings, each with the nearest known one."""
    faults = [f"unknown setting '{name}'{nearest(name, SETTINGS)}" for name in names if name not in SETTINGS]
    if faults:
        raise settings_error(
            [*faults, f"known settings: {', '.join(SETTINGS)}"] if len(faults) > 2 else faults
        )


SLIPS = (
    (re.compile(r"=\s*(True|False)\b"), "TOML writes true and false in small letters"),
    (re.compile(r"=\s*None\b"), "TOML has no None: leave the setting out"),
    (re.compile(r"^\s*\w+\s*:"), "TOML separates name and value by =, not by a colon"),
    (re.compile(r"=\s*[A-Za-z_/][^\"'\[\]{}=,#]*\s*(#.*)?$"), 'a text needs quotation marks: name = "text"'),
    (re.compile(r"=\s*$"), "the value is missing"),
)


def read_toml(text: str, first_line: int = 1) -> dict[str, Any]:
    """Return the settings in a TOML text; `first_line` is the number of its first line in the cell or file.

    Raises
    ------
    ConfigError
        With line and column, and a sentence of its own for the commonest slips.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines()
        match = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        row, column = (int(match[1]), int(match[2])) if match else (len(lines), 1)
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        shown = lines[row - 1] if 0 < row <= len(lines) else ""
        hint = next((why for slip, why in SLIPS if slip.search(shown)), "")
        tail = f"\n    {shown.strip()}" + (f"\n  {hint}." if hint else "")
        raise ConfigError(f"line {row + first_line - 1}, column {column}: {what}.{tail}") from None


def line_of(name: str, text: str) -> int:
    """Return the number (from 1) of the line of a TOML text that sets `name`, or 0."""
    for number_, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line):
            return number_
    return 0


def settings_in(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the keys of a ``config.json``, leaving its provenance aside."""
    return {name: stored[name] for name in SETTINGS if name in stored}


def is_many(name: str, value: Any) -> bool:
    """Return whether `value` is a list of values for a sweep rather than one value of the setting."""
    if not isinstance(value, list | tuple):
        return False
    if SETTINGS[name].check is words:
        return bool(value) and all(isinstance(item, list | tuple) for item in value)
    return True


def expand(settings: Mapping[str, Any]) -> list[RunConfig]:
    """Return one config per combination of the listed values; one config when nothing is a list.

    >>> [c.temperature for c in expand({"temperature": [0, 0.7]})]
    [0.0, 0.7]
    """
    refuse_unknown(settings)
    axes = {name: list(value) for name, value in settings.items() if is_many(name, value)}
    empty = [
        f"{name} is an empty list: give at least one value." for name, values in axes.items() if not values
    ]
    if empty:
        raise settings_error(empty)
    single = {name: value for name, value in settings.items() if name not in axes}
    return [
        RunConfig.of({**single, **dict(zip(axes, combination, strict=True))})
        for combination in itertools.product(*axes.values())
    ]
