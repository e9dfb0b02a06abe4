"""JSON as bytes, as fast as it goes: what is sent to servers, hashed, and written into the ledger.

orjson does the work; the standard library what orjson refuses: half of a surrogate pair in a reply, a number of more
than 64 bits.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def packed(value: Any, *, sort_keys: bool = False) -> bytes:
    """Return JSON without spaces, in UTF-8 where the text allows it, otherwise in ASCII.

    >>> packed({"b": "é", "a": [1, 0.5]}, sort_keys=True)
    b'{"a":[1,0.5],"b":"\\xc3\\xa9"}'
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, default=dict).encode("ascii")


def unpacked(raw: bytes | str) -> Any:
    """Return the value that JSON holds.

    Raises
    ------
    ValueError
        If it is no JSON.
    RecursionError
        If it is nested too deeply.
    """
    try:
        return orjson.loads(raw)
    except ValueError:
        return json.loads(raw)
