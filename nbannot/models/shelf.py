"""A short shelf of small open models that run here: what they are, what their makers claim, and where that stands.

Nobody has measured them on your codebook. The claims are the makers' own. All of it was read on the date of `READ_ON`,
in stored copies of the pages that are named; ``local/hf://...`` asks the Hub what it has now, and tells the size before
it fetches.
"""

from __future__ import annotations

from dataclasses import dataclass

READ_ON = "2026-11-28"


@dataclass(frozen=True, slots=True)
class ShelfModel:
    """A model on the shelf.

    Attributes
    ----------
    name
        What is typed after ``model =``.
    parameters
        How many, in words, as its maker counts them.
    file, size
        A quantisation that fits most laptops, and its size in bytes; 0 where no page said it.
    languages
        As the maker lists them.
    claim
        What the maker says it is good at.
    sources
        Where languages, licence and claim (first) and the size of the file (last) were read.
    """

    name: str
    parameters: str
    file: str
    size: int
    languages: str
    licence: str
    claim: str
    sources: tuple[str, ...]


SHELF = (
    ShelfModel(
        name="local/hf://bartowski/granite-3.1-1b-a400m-instruct-GGUF",
        parameters="1 billion parameters, 0.4 billion at work at a time",
        file="Q4_K_M",
        size=820_000_000,
        languages="12 (en de es fr ja pt ar cs it ko nl zh)",
        licence="Apache 2.0",
        claim="text classification, extraction, summaries, answers to questions; texts of up to 128,000 tokens",
        sources=(
            "https://huggingface.co/ibm-granite/granite-3.1-1b-a400m-base",
            "https://huggingface.co/bartowski/granite-3.1-1b-a400m-instruct-GGUF",
        ),
    ),
    ShelfModel(
        name="local/hf://bartowski/HuggingFaceTB_SmolLM3-3B-GGUF",
        parameters="3 billion parameters",
        file="Q4_K_M",
        size=1_920_000_000,
        languages="6 (en fr es de it pt)",
        licence="Apache 2.0; data and recipe open, too",
        claim="strong performance at the scale of 3 to 4 billion parameters; can reason first (reasoning = true)",
        sources=(
            "https://huggingface.co/HuggingFaceTB/SmolLM3-3B",
            "https://huggingface.co/bartowski/HuggingFaceTB_SmolLM3-3B-GGUF",
        ),
    ),
    ShelfModel(
        name="local/hf://unsloth/Qwen3-4B-Instruct-2507-GGUF",
        parameters="4 billion parameters",
        file="Q4_K_M",
        size=2_490_000_000,
        languages="119 languages and dialects in its training data",
        licence="Apache 2.0",
        claim="better than its predecessor at following instructions and understanding texts; never reasons first",
        sources=(
            "https://huggingface.co/Qwen/Qwen3-4B-Instruct-2507",
            "https://qwenlm.github.io/blog/qwen3/",
            "https://huggingface.co/unsloth/Qwen3-4B-Instruct-2507-GGUF",
        ),
    ),
    ShelfModel(
        name="local/hf://unsloth/Qwen3.5-4B-GGUF",
        parameters="4 billion parameters",
        file="Q4_K_M",
        size=0,
        languages="201 languages and dialects",
        licence="Apache 2.0",
        claim="long texts (262,144 tokens); can reason first (reasoning = true)",
        sources=(
            "https://huggingface.co/Qwen/Qwen3.5-4B",
            "https://huggingface.co/unsloth/Qwen3.5-4B-GGUF",
        ),
    ),
)
"""From small to large."""
