"""What is wrong with some settings: names, values, and contradictions between them, all at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.errors import ConfigError, nearest
from nbannot.study.settings import (
    CHAT_MODES,
    COUNTRY_VARIABLE,
    DECIMAL,
    DEFAULTS,
    FIELDS_PER_QUERY,
    LISTS,
    NAMES_VARIABLE,
    SETTINGS,
)
from nbannot.study.workers import place_of, workers
from nbannot.tools.secrets import without_keys


def plain(name: str, value: Any) -> Any:
    """Return a value as it is kept: lists as tuples, decimals as floats, paths and numpy scalars as plain data."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return dict(value)
    if name in ("workers", "cluster"):
        return place_of(value)
    if name in LISTS and isinstance(value, list):
        value = tuple(value)
    if name == "base_url" and isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if name in DECIMAL and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) + 0.0 if abs(value) < 2**53 else value  # + 0.0: no negative zero
    nothing = (name == "seed" and value is False) or (name == "metadata_columns" and value == ())
    return None if nothing else value


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every setting: the one given, else the default or what the environment says."""
    values = {name: plain(name, settings.get(name, default)) for name, default in DEFAULTS.items()}
    if values["workers"] is None and _is_of_dask(values["cluster"]):
        values["workers"], values["cluster"] = values["cluster"], None
    for name, variable in FROM_ENVIRONMENT.items():
        if values[name] is None:
            values[name] = os.environ.get(variable, "").strip() or None
    return values


def _is_of_dask(cluster: Any) -> bool:
    """Return whether what should be a column can only be a Dask cluster, which has the same name in English."""
    return cluster is not None and not workers(cluster)


FROM_ENVIRONMENT = {"country_iso_code": COUNTRY_VARIABLE, "find_names": NAMES_VARIABLE}
"""Settings that the environment decides where nothing else does."""


Fault = tuple[str, str]
"""The setting and what is wrong with it."""


def faults_in(settings: Mapping[str, Any]) -> list[Fault]:
    """Return everything that is wrong with some settings: names, values, and contradictions between them."""
    values = complete(settings)
    faults = [(str(name), _unknown(str(name))) for name in settings if name not in SETTINGS]
    for name, value in values.items():
        why = value_fault(name, value)
        if why and name in FROM_ENVIRONMENT and settings.get(name) is None:
            why = f"{FROM_ENVIRONMENT[name]} in the environment: {why}"
        if why:
            faults.append((name, why))
    return faults + list(_contradictions(values))


def value_fault(name: str, value: Any) -> str:
    """Return what is wrong with the value of a setting; "" where nothing is."""
    setting = SETTINGS[name]
    why = "" if value is None and setting.optional else setting.check(value)
    if not why:
        return ""
    shown = without_keys(cut(list(value) if isinstance(value, tuple) else value))
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


def cut(value: Any) -> str:
    """Return a value as an error shows it: on one line, long ones cut."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return f"one too long to show ({type(value).__name__})"
    return shown if len(shown) <= 80 else shown[:79] + "…"


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
    if values["workers"] is not None and _is_of_dask(values["cluster"]):
        yield (
            "cluster",
            f"cluster is a column of the data, and workers are given. Got {cut(values['cluster'])}.",
        )
    if calibrated and not scored and together in FIELDS_PER_QUERY and together != "one":
        yield name, f'calibration = "batch" with fields_per_query = {together!r} needs answer_mode = "score".'


def settings_error(faults: Sequence[str]) -> ConfigError:
    """Return the error that lists these faults."""
    number = "1 setting needs" if len(faults) == 1 else f"{len(faults)} settings need"
    return ConfigError("\n".join([f"{number} a change.", *(f"  {fault}" for fault in faults)]))


def refuse(faults: Iterable[Fault], lines: Mapping[str, int] | None = None) -> None:
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
    "concurrency": "max_parallel", "num_workers": "workers", "batch_size": "max_parallel", "timeout": "timeout_s",
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
    refuse((str(name), _unknown(str(name))) for name in names if name not in SETTINGS)
