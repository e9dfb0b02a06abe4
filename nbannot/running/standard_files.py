"""The standard files of a run folder, made from the state of the run and its ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbannot.asking.ledger import Tally
from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.reply_parts import thinking_in
from nbannot.engine import energy
from nbannot.errors import RunError
from nbannot.record import folder
from nbannot.record.coding import Coding
from nbannot.study.task import Task
from nbannot.tools.files import csv_text, read_json, write_atomic, write_json


def output_text(coding: Coding) -> str:
    """Return the content of ``output.csv``."""
    return csv_text(*coding.output_rows())


def write_energy(place: Path, records: Sequence[dict[str, Any]]) -> None:
    """Add what a session used to ``emissions.csv``; what was kept of it in case it is killed is no longer needed."""
    if records:
        energy.add_records(place / folder.EMISSIONS, *records)
        (place / folder.EMISSIONS_SO_FAR).unlink(missing_ok=True)


def write_counts(place: Path, tally: Tally, *, cached: int | None = None, wall_time: float = 0.0) -> None:
    """Write ``timing_data.json`` and ``char_counts.json``; what a lost file alone knew is ``null`` in the new one.

    Parameters
    ----------
    cached
        Answers that the session took from the ledger; as before when left out.
    wall_time
        Seconds to add to those of earlier sessions.
    """
    before = _stored(place / folder.TIMING)
    earlier = before.get("wall_time", None if cached is None else 0.0)
    write_json(
        place / folder.TIMING,
        _timing(tally, before.get("cached_count") if cached is None else cached)
        | {"wall_time": None if earlier is None else earlier + wall_time},
    )
    write_json(
        place / folder.CHARS,
        {
            **tally.char_counts(),
            **(
                {
                    "batch_calls": tally.batched,
                    "batch_input_tokens": tally.batch_input_tokens,
                    "batch_output_tokens": tally.batch_output_tokens,
                    "batch_cached_tokens": tally.batch_cached_tokens,
                    "batch_cache_write_tokens": tally.batch_cache_write_tokens,
                }
                if tally.batched
                else {}
            ),
            **({"by_model": tally.by_model} if len(tally.by_model) > 1 else {}),
            **({"energy_kwh": tally.energy} if tally.energy else {}),
        },
    )


def _stored(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except RunError:
        return {}


def _timing(tally: Tally, cached: int | None) -> dict[str, Any]:
    seconds = sorted(tally.seconds)
    total = None if tally.batched else sum(seconds)  # a call in a batch has no time of its own
    return {
        "total_inference_time": total,
        "avg_inference_time": None if total is None else total / len(seconds) if seconds else 0.0,
        "inference_count": tally.calls,
        "wall_time": None,
        "retry_count": tally.retries,
        "cached_count": cached,
        **{
            f"latency_p{p}": seconds[min(len(seconds) - 1, int(p / 100 * len(seconds)))]
            for p in (50, 90, 99)
            if seconds
        },
    }


def counts_are_whole(place: Path, calls: int) -> bool:
    """Return whether times and characters are there and count as many calls as the ledger has."""
    return _stored(place / folder.TIMING).get("inference_count") == calls and bool(
        _stored(place / folder.CHARS)
    )


def write_traces(task: Task, place: Path, config: Mapping[str, Any]) -> None:
    """Write one line per call that returned reasoning, its own channel or the answer's ``reasoning`` key."""
    rows = {text_id: number for number, text_id in enumerate(task.ids)}
    by_column = {f.column: f for f in task.codebook}
    lines = []
    for record in read_lines(place / folder.LEDGER):
        thought = "\n".join(filter(None, (record.get("reasoning"), thinking_in(record.get("raw") or ""))))
        if "text_id" not in record or not thought:
            continue
        names = [by_column[column] for column in record["columns"]]
        lines.append(
            {
                "text_id": record["text_id"],
                "row_num": rows.get(record["text_id"]),
                "column": "+".join(record["columns"]),
                "annotation_name": "+".join(f.name for f in names),
                "annotation_type": "+".join(f.type for f in names),
                "attempt": record["attempt"],
                "chat_mode": config["chat_mode"],
                "prompt_chars": record["input_chars"],
                "response_chars": len(record.get("raw") or ""),
                "inference_time_s": record["seconds"],
                "reasoning": thought,
            }
        )
    if lines:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(place / folder.TRACES, text)
