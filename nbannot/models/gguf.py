"""What a GGUF file says of itself (quantisation, size, context, control tokens), remembered with its hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import ModelError
from nbannot.tools.files import cache_folder, sha256_of

Say = Callable[[str], None]

SLOW_TO_HASH = 500_000_000


@dataclass(frozen=True, slots=True)
class Weights:
    """What a GGUF file is and says of itself.

    Attributes
    ----------
    digest
        ``"sha256:..."`` of the whole file.
    parameters
        Number of weights in all tensors.
    trained_context
        Longest context, in tokens, the model was trained for.
    control_tokens
        The spellings that stand for control tokens (``<|im_end|>``); a text may contain them by accident.
    """

    path: str
    size: int
    mtime_ns: int
    digest: str
    architecture: str | None
    title: str | None
    quantization: str | None
    parameters: int
    trained_context: int | None
    has_chat_template: bool
    control_tokens: tuple[str, ...]


def describe(path: Path, say: Say | None = None) -> Weights:
    """Return what is known of a GGUF file; its hash and header are read once and remembered.

    The memory lies in the cache folder, one small file per path, and holds as long as the size and the time of
    the last change stay the same.

    Raises
    ------
    ModelError
        If the file cannot be read or is not GGUF.
    """
    try:
        state = path.stat()
        known = _remembered(path, state)
        if known is not None:
            return known
        if say and state.st_size > SLOW_TO_HASH:
            say(f"Reading {path.name} ({state.st_size / 1e9:.1f} GB) once, to know it again by its hash.")
        digest = "sha256:" + sha256_of(path)
        weights = Weights(str(path), state.st_size, state.st_mtime_ns, digest, **_header(path))
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error.strerror or error}.") from error
    _remember(path, weights)
    return weights


def _remembered(path: Path, state: os.stat_result) -> Weights | None:
    try:
        known = json.loads(_memory(path).read_text("utf-8"))
        known["control_tokens"] = tuple(known["control_tokens"])
        weights = Weights(**known)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    unchanged = (weights.size, weights.mtime_ns, weights.path) == (
        state.st_size,
        state.st_mtime_ns,
        str(path),
    )
    return weights if unchanged else None


def _remember(path: Path, weights: Weights) -> None:
    memory = _memory(path)
    with contextlib.suppress(OSError):  # a read-only cache only costs the time of hashing again
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, encoding="utf-8", delete=False) as file:
            json.dump(asdict(weights), file, ensure_ascii=False)
        os.replace(file.name, memory)


def _memory(path: Path) -> Path:
    return cache_folder() / "weights" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"


_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_CONTROL_TOKEN = 3

# general.file_type of the GGUF format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_QUANTIZATIONS = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Header(data).read()
    except (ValueError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise ModelError(
            f"'{path}' is not a whole GGUF model file ({path.stat().st_size:,} bytes).\n"
            f"  Download it again, or give the path of another .gguf file."
        ) from error


@dataclass(slots=True)
class _Header:
    """Reads the key-value part and the tensor list at the beginning of a GGUF file."""

    data: mmap.mmap
    at: int = 0

    def read(self) -> dict[str, Any]:
        magic, version, tensors, entries = self._take("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"magic {magic!r}, version {version}")
        values = {self._string(): self._value() for _ in range(entries)}
        parameters = sum(self._tensor() for _ in range(tensors))
        architecture = values.get("general.architecture")
        tokens = values.get("tokenizer.ggml.tokens", [])
        kinds = values.get("tokenizer.ggml.token_type", [])
        control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL_TOKEN]
        return {
            "architecture": architecture,
            "title": values.get("general.name"),
            "quantization": _QUANTIZATIONS.get(values.get("general.file_type", -1)),
            "parameters": parameters,
            "trained_context": values.get(f"{architecture}.context_length"),
            "has_chat_template": bool(values.get("tokenizer.chat_template")),
            "control_tokens": tuple(token for token in control if token),
        }

    def _take(self, form: str) -> tuple[Any, ...]:
        taken = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return taken

    def _string(self) -> str:
        (length,) = self._take("<Q")
        if length > len(self.data) - self.at:
            raise ValueError("a string longer than the file")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def _value(self, kind: int | None = None) -> Any:
        if kind is None:
            (kind,) = self._take("<I")
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._take(f"<{_NUMBERS[kind]}")[0]
        item, length = self._take("<IQ")
        if length > len(self.data) - self.at:
            raise ValueError("an array longer than the file")
        if item in _NUMBERS:
            return self._take(f"<{length}{_NUMBERS[item]}")
        return [self._value(item) for _ in range(length)]

    def _tensor(self) -> int:
        self._string()
        (dimensions,) = self._take("<I")
        shape = self._take(f"<{dimensions}Q")
        self._take("<IQ")
        return math.prod(shape)
