"""Which settings a model hears, which fields it is asked, and how it answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbannot.asking import prompts
from nbannot.asking.decisions import CLOSED, DECIDED
from nbannot.asking.request_reply import AnswerMode, Model, ModelInfo
from nbannot.errors import ConfigError, listed
from nbannot.models.prices import Prices
from nbannot.models.registry import split_name
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.field import Field
from nbannot.study.settings import DEFAULTS

REPLY_TOKENS = 1024
"""Longest reply where neither the settings nor the model say."""

UNHEARD = ("temperature", "top_p", "top_k", "max_tokens", "reasoning", "prompt_type", "fields_per_query")
"""Settings that a decision model knows nothing of; a second model for texts does."""

READING = ("threshold", "scale_answer")
"""Settings by which probabilities become labels."""


def changed(config: RunConfig, *names: str) -> dict[str, Any]:
    """Return those of the settings that are not at their default."""
    return {name: getattr(config, name) for name in names if getattr(config, name) != DEFAULTS[name]}


def spelled(config: RunConfig, *names: str) -> list[str]:
    """Return those of the settings that are not at their default, as they would be typed."""
    return [f"{name} = {value!r}" for name, value in changed(config, *names).items()]


def check_decisions(config: RunConfig, fields: Sequence[Field], *, decides: bool, writes: bool) -> None:
    """Refuse settings that would change the run's name and not one of its answers."""
    if not decides:
        if given := spelled(config, "text_model"):
            raise ConfigError(
                f"{listed(given)}: only a decision model has this, and {config.model} is none.\n"
                '  Name one, e.g. model = "decide/sparrow", or leave the setting out.'
            )
        return
    faults = spelled(config, "chat_mode") + ([] if writes else spelled(config, *UNHEARD))
    if config.answer_mode == "generate":
        faults += spelled(config, "answer_mode")
    if faults:
        raise ConfigError(
            f"{config.model} is a decision model, which these settings do not reach: {listed(faults, 12)}.\n"
            '  Leave them out, or name a model for texts that they are meant for, e.g. text_model = "local".'
        )
    if not any(f.type in DECIDED for f in fields):
        raise ConfigError(
            f"{config.model} answers {listed(DECIDED)} fields, and none of them is asked.\n"
            '  Ask a language model, e.g. model = "local", or other fields.'
        )


def check_budget(config: RunConfig, info: ModelInfo, prices: Prices | None) -> None:
    """Refuse a budget in money that would bound nothing.

    Raises
    ------
    ConfigError
        If texts go to a model elsewhere whose price is not known.
    """
    if "money" in (config.budget or {}) and prices is None and not info.is_local:
        raise ConfigError(
            f"budget limits money, and what {config.model} at {info.endpoint} costs is not known: it would limit "
            "nothing.\n"
            "  Say what a million tokens cost, e.g. prices = {input = 0.4, output = 1.6}, or limit calls or tokens."
        )


def check_delivery(config: RunConfig, model: Model) -> None:
    """Refuse delivery by batch where there are no batches, or each request would wait for the one before it."""
    if config.delivery == "now":
        return
    if config.delivery == "file" and split_name(config.model)[0] != "openai":
        raise ConfigError(
            f'delivery = "file" is for models behind OpenAI\'s interface. Got {config.model}.\n'
            '  Name one, e.g. model = "openai/Qwen/Qwen3-8B", or leave delivery out.'
        )
    if not hasattr(model, "batches"):
        raise ConfigError(
            f'delivery = "batch" is for models of providers that have batches. Got {config.model}.\n'
            '  Name one, e.g. model = "openai/…" or "anthropic/…", or leave delivery out.'
        )
    if config.chat_mode == "continuous":
        raise ConfigError(
            f'delivery = "{config.delivery}" cannot go with chat_mode = "continuous": every question would wait a day '
            'for the one before it.\n  Use chat_mode = "per_query", or leave delivery out.'
        )


def check_workers(config: RunConfig, model: Model) -> None:
    """Refuse what does not go with workers."""
    given = [
        (hasattr(model, "fit"), f"model = {config.model!r}, which learns from labels here"),
        (config.model.startswith("replay"), f"model = {config.model!r}, which asks nobody"),
        (config.delivery != "now", f'delivery = "{config.delivery}"'),
        (isinstance(config.base_url, tuple), "several addresses as base_url"),
        (config.text_model is not None, "text_model"),
    ]
    if wrong := [words for applies, words in given if applies]:
        raise ConfigError(f"workers do not go with {' and '.join(wrong)}.\n  Leave workers out, or that.")


def answering(
    config: RunConfig, kind: prompts.PromptType, model: Model, info: ModelInfo, fields: Sequence[Field]
) -> tuple[AnswerMode, bool]:
    """Return how the model answers, and whether its scored answers are calibrated."""
    decides = getattr(model, "decides", False)
    modes: tuple[AnswerMode, ...] = ("score",) if decides else model.answer_modes
    one = config.fields_per_query == "one"
    mode = config.answer_mode or (modes[0] if decides or (not kind.reasons and one) else "generate")
    if mode not in modes:
        raise ConfigError(
            f'{info.full_name} cannot answer with answer_mode = "{mode}".\n  It has: {listed(modes)}.'
        )
    if mode == "score" and kind.reasons and not decides:
        raise ConfigError(
            f'answer_mode = "score" leaves no room to reason. Got prompt_type = "{kind.name}", which reasons.'
        )
    scored = mode == "score" and any(f.type in CLOSED for f in fields)
    if config.calibration == "batch" and not scored:
        raise ConfigError(
            f'calibration = "batch" needs scored answers; {info.full_name} answers with "{mode}".'
        )
    if mode != "score" and (given := spelled(config, *READING)):
        raise ConfigError(
            f"{listed(given)}: only scored answers have probabilities, and {info.full_name} writes its answers.\n"
            '  Add answer_mode = "score", or leave the setting out.'
        )
    wanted = config.calibration == "batch" if decides else config.calibration != "none"
    return mode, scored and config.chat_mode == "per_query" and wanted


def reply_tokens_of(model: Model, *, reasons: bool) -> int:
    """Return the longest reply to allow where `max_tokens` is unset; a small model that runs on is cut early."""
    plain: int = getattr(model, "reply_tokens", REPLY_TOKENS)
    return 4 * plain if reasons else plain


def fields_asked(codebook: Codebook, config: RunConfig) -> list[Field]:
    """Return the fields that the settings leave to ask, in the codebook's order; refuse a run that has none."""
    chosen = [codebook[name] for name in config.fields] if config.fields is not None else list(codebook)
    left_out = {"textbox": not config.process_textbox, "span": not config.process_span}
    fields = [f for f in codebook if f in chosen and not left_out.get(f.type)]
    if not fields:
        raise ConfigError("no field is left to ask: see fields, process_textbox and process_span.")
    return fields
