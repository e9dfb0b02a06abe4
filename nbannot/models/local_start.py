"""llama.cpp in this process: whether it can run here, and how it is started."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from nbannot.errors import ModelError
from nbannot.models.gguf import Weights

INSTALL = 'pip install "nbannot[local]"'
BATCH = 512


def engine_version() -> str:
    """Return the version of xllamacpp.

    Raises
    ------
    ModelError
        If it is not installed, or this processor lacks instructions that it needs.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("xllamacpp")
    except PackageNotFoundError:
        raise ModelError(
            "Local models need the package xllamacpp, which is not installed here.\n"
            f"  Type: {INSTALL}\n"
            '  Or use a model that needs nothing: model = "mock".'
        ) from None
    if missing := _missing_instructions():
        raise ModelError(
            f"This computer's processor lacks {', '.join(missing)}, which local models need.\n"
            '  Use a model on a server, e.g. model = "ollama/<name>", or none: model = "mock".'
        )
    return installed


def engine_build() -> str:
    """Return what tells one build of xllamacpp from another: version and files, and which cards it may use.

    Builds for graphics cards have the same version and other numbers in their last digits.
    """
    from importlib.metadata import distribution

    installed = distribution("xllamacpp")
    cards = [os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return f"{installed.version}|{installed.read_text('RECORD') or ''}|{cards}"


def _missing_instructions(cpuinfo: str = "/proc/cpuinfo") -> list[str]:
    """Return which instruction sets of the x86 builds are missing; unknown (empty) elsewhere than on Linux."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path(cpuinfo).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return []
    return [name for name in ("avx2", "fma", "bmi2") if flags and name not in flags[1].split()]


def started(weights: Weights, context_size: int, threads: int, at_once: int, key: str, states: str) -> Any:
    """Return a running xllamacpp server for so many prompts at a time, each with memory of its own."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # read when the library is loaded: shared CPUs must not spin
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = weights.path
    settings.n_ctx = context_size * at_once
    settings.n_parallel = at_once
    settings.kv_unified = False  # in a shared memory, numbers would depend on the neighbours
    settings.n_batch = settings.n_ubatch = BATCH
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.swa_full = True
    settings.ctx_shift = False
    settings.warmup = False
    settings.cache_ram_mib = 0
    settings.slot_save_path = states + os.sep
    settings.api_keys = [key]
    settings.ui = False
    settings.verbosity = -1
    try:
        return xllamacpp.Server(settings)
    except RuntimeError as error:
        size = f"{weights.size / 1e6:,.0f} MB"
        raise ModelError(
            f"The model '{weights.path}' ({size}) could not be loaded.\n"
            "  The file may be cut short, of a kind this version does not know, or too large for the memory here.\n"
            f"  Try a smaller context_size (now {context_size}), download it again, or use another .gguf file."
        ) from error
