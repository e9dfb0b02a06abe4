"""The settings as keywords, for editors and type checkers; a test holds them equal to the fields of `RunConfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class Settings(TypedDict, total=False):
    """Keywords of `nbannot.run` and `nbannot.plan`: one value for each setting."""

    model: str
    prompt_type: str
    use_examples: bool
    temperature: float
    top_p: float | None
    top_k: int | None
    seed: int | None
    max_tokens: int | None
    context_size: int | None
    chat_mode: str
    reasoning: bool | str | None
    process_textbox: bool
    process_span: bool
    fields: Sequence[str] | None
    fields_per_query: str
    answer_mode: str | None
    calibration: str | None
    option_order: Literal["codebook", "reversed", "random"]
    threshold: float
    scale_answer: Literal["modal", "rounded"]
    text_model: str | None
    retries: int
    retry_strategy: str
    retry_temperature: float
    metadata_columns: Sequence[str] | None
    sample: int | None
    sample_by: str | None
    sample_seed: int
    limit: int | None
    ids: Sequence[str] | None
    split: Literal["dev", "test"] | None
    cluster: Any
    weights: str | None
    repeat: int
    base_url: str | Sequence[str] | None
    threads: int | None
    max_parallel: int | None
    workers: Any
    delivery: Literal["now", "batch", "file"]
    batch_wait: float
    timeout_s: float
    budget: Mapping[str, float] | None
    prices: Mapping[str, float] | None
    local_only: bool
    allowed_hosts: Sequence[str] | None
    find_names: str | None
    country_iso_code: str | None
    output_root: str
    task_root: str | None


class Grid(TypedDict, total=False):
    """Keywords of `nbannot.sweep`: a list where a value belongs makes one run for each of its items."""

    model: str | Sequence[str]
    prompt_type: str | Sequence[str]
    use_examples: bool | Sequence[bool]
    temperature: float | Sequence[float]
    top_p: float | Sequence[float | None] | None
    top_k: int | Sequence[int | None] | None
    seed: int | Sequence[int | None] | None
    max_tokens: int | Sequence[int | None] | None
    context_size: int | Sequence[int | None] | None
    chat_mode: str | Sequence[str]
    reasoning: bool | str | Sequence[bool | str | None] | None
    process_textbox: bool | Sequence[bool]
    process_span: bool | Sequence[bool]
    fields: Sequence[str] | Sequence[Sequence[str] | None] | None
    fields_per_query: str | Sequence[str]
    answer_mode: str | Sequence[str | None] | None
    calibration: str | Sequence[str | None] | None
    option_order: (
        Literal["codebook", "reversed", "random"] | Sequence[Literal["codebook", "reversed", "random"]]
    )
    threshold: float | Sequence[float]
    scale_answer: Literal["modal", "rounded"] | Sequence[Literal["modal", "rounded"]]
    text_model: str | Sequence[str | None] | None
    retries: int | Sequence[int]
    retry_strategy: str | Sequence[str]
    retry_temperature: float | Sequence[float]
    metadata_columns: Sequence[str] | Sequence[Sequence[str] | None] | None
    sample: int | Sequence[int | None] | None
    sample_by: str | Sequence[str | None] | None
    sample_seed: int | Sequence[int]
    limit: int | Sequence[int | None] | None
    ids: Sequence[str] | Sequence[Sequence[str] | None] | None
    split: Literal["dev", "test"] | Sequence[Literal["dev", "test"] | None] | None
    cluster: Any
    weights: str | Sequence[str | None] | None
    repeat: int | Sequence[int]
    base_url: str | Sequence[str | Sequence[str] | None] | None
    threads: int | Sequence[int | None] | None
    max_parallel: int | Sequence[int | None] | None
    workers: Any
    delivery: Literal["now", "batch", "file"] | Sequence[Literal["now", "batch", "file"]]
    batch_wait: float | Sequence[float]
    timeout_s: float | Sequence[float]
    budget: Mapping[str, float] | Sequence[Mapping[str, float] | None] | None
    prices: Mapping[str, float] | Sequence[Mapping[str, float] | None] | None
    local_only: bool | Sequence[bool]
    allowed_hosts: Sequence[str] | Sequence[Sequence[str]] | None
    find_names: str | Sequence[str | None] | None
    country_iso_code: str | Sequence[str | None] | None
    output_root: str
    task_root: str | None
