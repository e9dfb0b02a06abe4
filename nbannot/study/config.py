"""The settings of a run: one frozen `RunConfig`, read from keywords, TOML or JSON, checked all at once.

Which settings exist, what they may be and what they are for is said in `nbannot.study.settings`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbannot.errors import ConfigError
from nbannot.study.faults import complete, cut, faults_in, plain, refuse, value_fault
from nbannot.study.settings import DEFAULTS, LISTS, SETTINGS, SettingFields
from nbannot.study.toml import as_toml, lines_of, read_toml
from nbannot.tools.given import parse_json

MOST_RUNS = 10_000
"""Of one sweep: each is a folder and a call per text and field."""


@dataclass(frozen=True)
class RunConfig(SettingFields):
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

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in SETTINGS}
        refuse(faults_in(given))
        for name, value in complete(given).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, settings: RunConfig | Mapping[str, Any] | None = None, /, **keywords: Any) -> RunConfig:
        """Return the config with these settings; unknown names are refused with the nearest known one.

        The ``config`` of a run stands for how its texts were asked: `ids` and `split` name texts of its own task and
        are left aside, so that ``run(corpus, final.config)`` annotates the whole corpus in the same way.
        """
        if isinstance(settings, RunConfig):
            return settings.change(**keywords)
        if not isinstance(settings, Mapping | None):
            raise ConfigError(
                f"settings are keywords, a RunConfig or a dictionary. Got {cut(settings)}.\n"
                '  Type for instance: run(task, model="local").'
            )
        if settings and "run_id" in settings and "identity" in settings:
            stored = settings_in(settings)
            settings = {name: value for name, value in stored.items() if name not in ("ids", "split")}
        merged = {**(settings or {}), **keywords}
        refuse(faults_in(merged))
        return cls(**merged)

    @classmethod
    def from_toml(cls, text: str) -> RunConfig:
        """Return the config that a TOML text describes; errors give the line."""
        settings = read_toml(text)
        refuse(faults_in(settings), lines_of(settings, text))
        return cls(**settings)

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Return the config that a JSON text describes; the provenance in a run's ``config.json`` is left aside."""
        try:
            stored = parse_json(text)
        except ValueError as error:
            raise ConfigError(
                f"the settings are not JSON: {error}.\n"
                "  Settings in another form: RunConfig.from_toml, or the keywords of nbannot.run()."
            ) from None
        if not isinstance(stored, dict):
            raise ConfigError(
                f'settings in JSON are one object, {{...}}. Got {cut(stored)}.\n  Write {{"model": "local"}}.'
            )
        return cls.of(settings_in(stored) if "run_id" in stored else stored)

    def change(self, **changes: Any) -> RunConfig:
        """Return the config with some settings changed."""
        refuse(faults_in({**self.to_dict(), **changes}))
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
                lines.append(f"{name} = {as_toml(value)}")
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


def settings_in(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the keys of a ``config.json``, leaving its provenance aside."""
    return {name: stored[name] for name in SETTINGS if name in stored}


def is_many(name: str, value: Any) -> bool:
    """Return whether `value` is a list of values for a sweep rather than one value of the setting."""
    if not isinstance(value, list | tuple | range):
        return False
    if name == "base_url":  # a list of addresses is one value: the servers of one run
        return not all(isinstance(item, str) for item in value)
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
    axes = {name: v for name, v in settings.items() if name in SETTINGS and is_many(name, v)}
    runs = math.prod(len(values) for values in axes.values() if len(values))
    if runs > MOST_RUNS:
        sizes = " × ".join(f"{len(values):,} of {name}" for name, values in axes.items())
        raise ConfigError(
            f"a sweep makes at most {MOST_RUNS:,} runs. Got {runs:,}: {sizes}.\n  Give fewer values, or sweep in parts."
        )
    single = {name: value for name, value in settings.items() if name not in axes}
    faults = faults_in(single)
    for name, values in axes.items():
        faults += [(name, f"{name} is an empty list: give at least one value.")] if not values else []
        faults += [(name, value_fault(name, plain(name, v))) for v in values]
    refuse([fault for fault in faults if fault[1]], lines)
    grid = [
        {**single, **dict(zip(axes, values, strict=True))} for values in itertools.product(*axes.values())
    ]
    refuse([fault for combination in grid for fault in faults_in(combination)], lines)
    return list(dict.fromkeys(RunConfig.of(combination) for combination in grid))
