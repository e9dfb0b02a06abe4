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
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from nbannot.errors import ConfigError, nearest

ChatMode = Literal["per_query", "per_text", "continuous"]
CHAT_MODES = ("per_query", "per_text", "continuous")
ANSWER_MODES = ("score", "generate")
CALIBRATIONS = ("none", "batch")
SCALE_ANSWERS = ("modal", "rounded")
RETRY_STRATEGIES = ("reprompt", "identical", "temperature")
FIELDS_PER_QUERY = ("one", "section", "all")
SPLITS = ("dev", "test")
BUDGETS = ("calls", "tokens", "money", "minutes", "kwh")
REASONING_WORDS = ("minimal", "low", "medium", "high")
COUNTRY_VARIABLE = "NBANNOT_COUNTRY"
SECRET = re.compile("key|token|passw|secret", re.IGNORECASE)

Check = Callable[[Any], str]
"""Returns what a value must be, or "" if it is fine."""


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """Return a check for a number from `low` to `high`."""
    kind = "an integer" if whole else "a number"
    if high == float("inf"):
        rule = f"must be {kind} of at least {low}"
    else:
        rule = f"must be {kind} from {low} to {high}"

    def check(value: Any) -> str:
        right = isinstance(value, int) if whole else isinstance(value, int | float)
        return "" if right and not isinstance(value, bool) and low <= value <= high else rule

    return check


def one_of(*words: str) -> Check:
    """Return a check for one of these words."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def word(value: Any) -> str:
    """Check for a text that is not blank, on one line."""
    if not isinstance(value, str) or not value.strip() or not _writable(value):
        return "must be a text"
    return "must be a text without line breaks or tabs" if re.search("[\x00-\x1f\x7f]", value) else ""


def _writable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    return not re.search("[\ud800-\udfff]", text)


def address(value: Any) -> str:
    """Check for the address of a server; what it holds is written down, so it may hold no password or key."""
    if word(value) or not re.fullmatch(r"https?://[^/\s]\S*", value):
        return "must be an address such as http://localhost:11434"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "must be an address such as http://localhost:11434"
    if "@" in parts.netloc or any(SECRET.search(name) for name, _ in parse_qsl(parts.query, True)):
        return "is written to config.json and may hold no password or key"
    return ""


def truth(value: Any) -> str:
    """Check for true or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def words(value: Any) -> str:
    """Check for a list of texts that is not empty."""
    right = isinstance(value, tuple) and value and all(isinstance(v, str) and _writable(v) for v in value)
    return "" if right else 'must be a list of texts, e.g. ["a", "b"]'


def amounts(*names: str) -> Check:
    """Return a check for a table of positive numbers with these names."""
    rule = (
        f"must be a table with one or more of {', '.join(names)}, each a number of at least 0, "
        f"e.g. {{{names[0]}=3}}"
    )

    def check(value: Any) -> str:
        right = isinstance(value, dict) and value and set(value) <= set(names)
        fine = right and all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < float("inf")
            for n in value.values()
        )
        return "" if fine else rule

    return check


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
    "seed": Setting(
        number(0, 2**32 - 1, whole=True),
        "seed of the sampling; false: none is sent",
        short="seed",
        optional=True,
    ),
    "max_tokens": Setting(
        number(1, 1_000_000, whole=True),
        "longest reply, in tokens; unset: 1,024, or less for a small model, and four times that with reasoning",
        short="max",
        optional=True,
    ),
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
    "threshold": Setting(
        number(0, 1),
        "a decision model's probability of yes from which on a checkbox is ticked",
        short="threshold",
    ),
    "scale_answer": Setting(
        one_of(*SCALE_ANSWERS),
        "a decision model's answer to a likert question: the most probable level (`modal`) or the expected level, "
        "rounded (`rounded`)",
        short="scale",
        values=SCALE_ANSWERS,
    ),
    "text_model": Setting(
        word,
        "a second model, `<backend>/<name>`, for the textbox and span fields that a decision model cannot answer",
        short="text",
        optional=True,
    ),
    "retries": Setting(
        number(0, 20, whole=True),
        "how often an invalid or refused answer is asked for again (one cut at max_tokens: only with the `temperature` "
        "strategy)",
        short="retries",
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
    "base_url": Setting(address, "address of a model server", short="url", optional=True),
    "threads": Setting(
        number(1, 4096, whole=True), "processor threads of the local model", decides=False, optional=True
    ),
    "max_parallel": Setting(
        number(1, 4096, whole=True), "most requests in flight", decides=False, optional=True
    ),
    "timeout_s": Setting(number(0.001, 86_400), "longest wait for one reply, in seconds", decides=False),
    "budget": Setting(
        amounts(*BUDGETS),
        "stop, resumably, when a session has used this much: calls, tokens, money, minutes or kwh",
        decides=False,
        optional=True,
    ),
    "prices": Setting(
        amounts("input", "output"),
        "money per million tokens, for plan and budget",
        decides=False,
        optional=True,
    ),
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
    max_tokens: int | None = None
    context_size: int | None = None
    chat_mode: str = "per_query"
    reasoning: bool | str | None = None
    process_textbox: bool = True
    process_span: bool = True
    fields: tuple[str, ...] | None = None
    fields_per_query: str = "one"
    answer_mode: str | None = None
    calibration: str | None = None
    threshold: float = 0.5
    scale_answer: Literal["modal", "rounded"] = "modal"
    text_model: str | None = None
    retries: int = 2
    retry_strategy: str = "reprompt"
    retry_temperature: float = 0.7
    metadata_columns: tuple[str, ...] | None = None
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    split: Literal["dev", "test"] | None = None
    repeat: int = 1
    base_url: str | None = None
    threads: int | None = None
    max_parallel: int | None = None
    timeout_s: float = 120.0
    budget: dict[str, float] | None = field(default=None, hash=False)
    prices: dict[str, float] | None = field(default=None, hash=False)
    country_iso_code: str | None = None
    output_root: str = "outputs"
    task_root: str | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in SETTINGS}
        _refuse(faults_in(given))
        for name, value in _complete(given).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, settings: RunConfig | Mapping[str, Any] | None = None, /, **keywords: Any) -> RunConfig:
        """Return the config with these settings; unknown names are refused with the nearest known one."""
        if isinstance(settings, RunConfig):
            return settings.change(**keywords)
        if not isinstance(settings, Mapping | None):
            raise ConfigError(
                f"settings are keywords, a RunConfig or a dictionary. Got {_cut(settings)}.\n"
                '  Type for instance: run(task, model="local").'
            )
        merged = {**(settings or {}), **keywords}
        _refuse(faults_in(merged))
        return cls(**merged)

    @classmethod
    def from_toml(cls, text: str) -> RunConfig:
        """Return the config that a TOML text describes; errors give the line."""
        settings = read_toml(text)
        _refuse(faults_in(settings), lines_of(settings, text))
        return cls(**settings)

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Return the config that a JSON text describes; the provenance in a run's ``config.json`` is left aside."""
        try:
            stored = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"the settings are not JSON: {error.msg}, line {error.lineno}, column {error.colno}.\n"
                "  Settings in another form: RunConfig.from_toml, or the keywords of nbannot.run()."
            ) from None
        if not isinstance(stored, dict):
            raise ConfigError(
                f"settings in JSON are one object, {{...}}. Got {_cut(stored)}.\n"
                '  Write {"model": "local"}.'
            )
        return cls.of(settings_in(stored) if "run_id" in stored else stored)

    def change(self, **changes: Any) -> RunConfig:
        """Return the config with some settings changed."""
        _refuse(faults_in({**self.to_dict(), **changes}))
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as plain data, in the order of `SETTINGS`."""
        plain = {name: getattr(self, name) for name in SETTINGS}
        return {
            name: list(value)
            if isinstance(value, tuple)
            else dict(value)
            if isinstance(value, dict)
            else value
            for name, value in plain.items()
        }

    def to_toml(self, *, all_settings: bool = False) -> str:
        """Return the settings as TOML: those that are not at their default, or all."""
        lines = []
        for name, value in self.to_dict().items():
            if value is None and DEFAULTS[name] is not None:
                value = False  # TOML has no null
            if value is not None and (all_settings or value != DEFAULTS[name]):
                lines.append(f"{name} = {_toml(value)}")
        return "\n".join(lines)

    def model_id(self, prompt_mark: str = "") -> str:
        """Return a short readable name that differs whenever two configs of a task differ in more than `repeat`.

        Settings that decide no answer (`Setting.decides`) are not in it. What cannot be shown as it stands is
        followed by, or is, # and the beginning of its hash.

        Parameters
        ----------
        prompt_mark
            Hash of a prompt wording of one's own, so that a changed wording changes the name.

        Examples
        --------
        >>> RunConfig(model="ollama/gemma3:270m", temperature=0.7).model_id()
        'ollama/gemma3:270m_standard_temp=0.7'
        """
        # The last _ before the first = (or before the end) parts model and prompt: no prompt holds one.
        parts = [_readable(self.model, "_"), _readable(self.prompt_type)]
        if prompt_mark:
            parts[1] += f"#{prompt_mark}"
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if name in ("model", "prompt_type", "repeat") or not setting.decides or value == DEFAULTS[name]:
                continue
            parts.append(f"{setting.short}={_brief(value)}")
        return "_".join(parts)


def _toml(value: Any) -> str:
    """Return a value as TOML: JSON but for tables, and for a character that TOML wants escaped."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(number)}" for name, number in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(RunConfig)}
DECIMAL = ("temperature", "top_p", "retry_temperature", "timeout_s", "threshold")
LISTS = tuple(name for name, setting in SETTINGS.items() if setting.check is words)


def _plain(name: str, value: Any) -> Any:
    """Return a value as it is kept: lists as tuples, decimals as floats, paths and numpy scalars as plain data."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return dict(value)
    if name in LISTS and isinstance(value, list):
        value = tuple(value)
    if name in DECIMAL and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) + 0.0 if abs(value) < 2**53 else value  # + 0.0: no negative zero
    nothing = (name == "seed" and value is False) or (name == "metadata_columns" and value == ())
    return None if nothing else value


def _complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every setting: the one given, else the default or what the environment says."""
    values = {name: _plain(name, settings.get(name, default)) for name, default in DEFAULTS.items()}
    if values["country_iso_code"] is None:
        values["country_iso_code"] = os.environ.get(COUNTRY_VARIABLE, "").strip() or None
    return values


Fault = tuple[str, str]
"""The setting and what is wrong with it."""


def faults_in(settings: Mapping[str, Any]) -> list[Fault]:
    """Return everything that is wrong with some settings: names, values, and contradictions between them."""
    values = _complete(settings)
    faults = [(str(name), _unknown(str(name))) for name in settings if name not in SETTINGS]
    for name, value in values.items():
        why = _value_fault(name, value)
        if why and name == "country_iso_code" and settings.get(name) is None:
            why = f"{COUNTRY_VARIABLE} in the environment: {why}"
        if why:
            faults.append((name, why))
    return faults + list(_contradictions(values))


def _value_fault(name: str, value: Any) -> str:
    setting = SETTINGS[name]
    why = "" if value is None and setting.optional else setting.check(value)
    if not why:
        return ""
    shown = _without_secrets(_cut(list(value) if isinstance(value, tuple) else value))
    return f"{name} {why}. Got {shown}{_nearest_value(name, value) or '.'}"


def _nearest_value(name: str, value: Any) -> str:
    if not isinstance(value, str):
        return ""
    if name != "country_iso_code":
        known = SETTINGS[name].values
        return "" if value in known else nearest(value.casefold(), known)
    import pycountry

    try:
        return f"; did you mean '{pycountry.countries.lookup(value.strip()).alpha_3}'?"
    except LookupError:
        return ""


def _cut(value: Any) -> str:
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return f"one too long to show ({type(value).__name__})"
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _without_secrets(line: str) -> str:
    """Return a line for a message, with what stands in an address before @ and after = left out."""
    line = re.sub(r"//[^/\s@]*@", "//…@", line)
    return re.sub(
        r"([?&][^=&\s]*(?:key|token|passw|secret)[^=&\s]*=)[^&\s\"']+", r"\1…", line, flags=re.IGNORECASE
    )


def _contradictions(values: Mapping[str, Any]) -> Iterable[Fault]:
    calibrated, scored = values["calibration"] == "batch", values["answer_mode"] == "score"
    chat, together = values["chat_mode"], values["fields_per_query"]
    if calibrated and chat in CHAT_MODES and chat != "per_query":
        yield "calibration", f'calibration = "batch" needs chat_mode = "per_query". Got {chat!r}.'
    if calibrated and values["answer_mode"] == "generate":
        yield "calibration", 'calibration = "batch" needs scored answers. Got answer_mode = "generate".'
    name = "answer_mode" if scored else "calibration"
    if (scored or calibrated) and values["prompt_type"] == "CoT":
        yield name, f'{name} = "{values[name]}" leaves no room to reason. Got prompt_type = "CoT".'
    if (scored or calibrated) and together in FIELDS_PER_QUERY and together != "one":
        yield name, f'{name} = "{values[name]}" needs fields_per_query = "one". Got {together!r}.'


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, tuple) or not re.fullmatch(r"[\w.:-]{1,24}", str(value)):
        return _mark(json.dumps(value, ensure_ascii=False))
    return str(value)


def _readable(name: str, further: str = "") -> str:
    """Return a name in letters, digits, ``. / : @ + -`` and `further`; one that had to change is marked."""
    shown = "".join(c if c.isalnum() or c in "./:@+-" + further else "-" for c in name)
    shown = shown if len(shown) <= 60 else "…" + shown[-48:]
    return shown if shown == name else shown + _mark(name)


def _mark(text: str) -> str:
    return "#" + hashlib.sha256(text.encode()).hexdigest()[:8]


def settings_error(faults: Sequence[str]) -> ConfigError:
    """Return the error that lists these faults."""
    number = "1 setting needs" if len(faults) == 1 else f"{len(faults)} settings need"
    return ConfigError("\n".join([f"{number} a change.", *(f"  {fault}" for fault in faults)]))


def _refuse(faults: Iterable[Fault], lines: Mapping[str, int] | None = None) -> None:
    """Raise the error that lists the faults, if there are any, in the order of their lines."""
    at = lines or {}
    every = sorted(dict.fromkeys(faults), key=lambda fault: at.get(fault[0]) or float("inf"))
    if not every:
        return
    error = settings_error([f"line {at[name]}: {what}" if at.get(name) else what for name, what in every])
    if any(name not in SETTINGS and not what.endswith("?") for name, what in every):
        error = ConfigError(f"{error}\n  Known settings: {', '.join(SETTINGS)}.")
    raise error


ELSEWHERE = {
    "num_ctx": "context_size", "n_ctx": "context_size", "context_length": "context_size",
    "max_model_len": "context_size", "num_predict": "max_tokens", "n_predict": "max_tokens",
    "max_new_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens",
    "think": "reasoning", "thinking": "reasoning", "api_base": "base_url", "endpoint": "base_url", "host": "base_url",
    "concurrency": "max_parallel", "workers": "max_parallel", "batch_size": "max_parallel", "timeout": "timeout_s",
    "max_retries": "retries", "columns": "fields", "prompt": "prompt_type", "country": "country_iso_code",
}  # fmt: skip
"""What other tools call a setting -> its name here."""


def _unknown(name: str) -> str:
    plain = name.strip("-").replace("-", "_").casefold()
    known = ELSEWHERE | {setting.short: full for full, setting in SETTINGS.items() if setting.short}
    hint = f"; did you mean '{known[plain]}'?" if plain in known else nearest(plain, SETTINGS)
    return f"unknown setting '{name}'{hint}"


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise `ConfigError` for names that are no settings, each with the nearest known one."""
    _refuse((str(name), _unknown(str(name))) for name in names if name not in SETTINGS)


SLIPS = (
    (re.compile(r"=\s*(True|False|TRUE|FALSE)\b"), "TOML writes true and false in small letters"),
    (re.compile(r"=\s*(None|null)\b"), "TOML has no None: leave the setting out"),
    (re.compile(r"^\s*\w+\s*:"), "TOML separates name and value by =, not by a colon"),
    (re.compile(r"=\s*[“”„‘’«»]"), 'quotation marks are straight ones: name = "text"'),
    (re.compile(r'=\s*"[^"]*\\'), "a path is written with / or in single quotation marks: 'C:\\data'"),
    (re.compile(r"=\s*(\"[^\"]*|'[^']*)$"), "the closing quotation mark is missing"),
    (re.compile(r"=\s*\("), "a list stands in square brackets: [0, 0.7]"),
    (re.compile(r"=\s*[+-]?\.\d"), "a number needs a digit before its point: 0.7"),
    (re.compile(r"=.*,\s*(#.*)?$"), "no comma at the end of a line"),
    (re.compile(r"=\s*[A-Za-z_/~][^\"'\[\]{},#]*\s*(#.*)?$"), 'a text needs quotation marks: name = "text"'),
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
    except RecursionError:
        raise ConfigError(
            "lists in lists in lists, too deep to read.\n  Give one value, or one list."
        ) from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        lines = text.split("\n")
        match = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        last = max((row for row, line in enumerate(lines, start=1) if line.strip()), default=1)
        row, column = (int(match[1]), int(match[2])) if match else (last, len(lines[last - 1]) + 1)
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        if not isinstance(error, tomllib.TOMLDecodeError):
            what = "A number has thousands of digits"
        shown = lines[row - 1].strip() if row <= len(lines) else ""
        if what.startswith("Cannot overwrite"):
            hint = "a setting is given once; several values to try stand in a list: [0, 0.7]"
        else:
            hint = next((why for slip, why in SLIPS if slip.search(shown)), "")
        tail = f"\n    {_line_for_message(shown)}" + (f"\n  {hint}." if hint else "")
        raise ConfigError(f"line {row + first_line - 1}, column {column}: {what}.{tail}") from None


def _line_for_message(line: str) -> str:
    name = re.match(r"[\w.-]*", line)[0]  # type: ignore[index]  # it matches everything
    secret = SECRET.search(name) and name not in SETTINGS
    return f"{name} …" if secret else _without_secrets(line)


def line_of(name: str, text: str) -> int:
    """Return the number (from 1) of the line of a TOML text that sets `name`, or 0."""
    for number_, line in enumerate(text.split("\n"), start=1):
        if re.match(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[].=]", line):
            return number_
    return 0


def lines_of(names: Iterable[str], text: str, first_line: int = 1) -> dict[str, int]:
    """Return the line (counted from `first_line`) of each name that a TOML text sets."""
    found = {name: line_of(name, text) for name in names}
    return {name: line + first_line - 1 for name, line in found.items() if line}


def settings_in(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the keys of a ``config.json``, leaving its provenance aside."""
    return {name: stored[name] for name in SETTINGS if name in stored}


def is_many(name: str, value: Any) -> bool:
    """Return whether `value` is a list of values for a sweep rather than one value of the setting."""
    if not isinstance(value, list | tuple | range):
        return False
    if name in LISTS:
        return bool(value) and all(isinstance(item, list | tuple) for item in value)
    return True


def expand(settings: Mapping[str, Any], lines: Mapping[str, int] | None = None) -> list[RunConfig]:
    """Return one config per combination of the listed values; one config when nothing is a list.

    Parameters
    ----------
    lines
        Where the settings stand in a cell or file (see `lines_of`), for the error.

    Raises
    ------
    ConfigError
        Listing every name, value and contradiction that needs a change, in whichever combination.

    Examples
    --------
    >>> [c.temperature for c in expand({"temperature": [0, 0.7]})]
    [0.0, 0.7]
    """
    axes = {name: list(v) for name, v in settings.items() if name in SETTINGS and is_many(name, v)}
    single = {name: value for name, value in settings.items() if name not in axes}
    faults = faults_in(single)
    for name, values in axes.items():
        faults += [(name, f"{name} is an empty list: give at least one value.")] if not values else []
        faults += [(name, _value_fault(name, _plain(name, v))) for v in values]
    _refuse([fault for fault in faults if fault[1]], lines)
    grid = [
        {**single, **dict(zip(axes, values, strict=True))} for values in itertools.product(*axes.values())
    ]
    _refuse([fault for combination in grid for fault in faults_in(combination)], lines)
    return list(dict.fromkeys(RunConfig.of(combination) for combination in grid))
