"""What each compared run took: seconds, tokens, energy."""

from __future__ import annotations

from nbannot.comparing.align import Compared
from nbannot.engine.energy import in_full
from nbannot.record.run import Run


def seconds_of(run: Compared) -> float | None:
    """Return the seconds of model time a run took; ``None`` for a person."""
    return run.timing.get("total_inference_time") if isinstance(run, Run) else None


def tokens_of(run: Compared) -> int | None:
    """Return the tokens a run sent and received, where the server told them of every answer."""
    if not isinstance(run, Run):
        return None
    from nbannot.record.folder import CHARS
    from nbannot.tools.files import read_json

    counts = read_json(run.folder / CHARS)
    known = [counts.get("input_tokens"), counts.get("output_tokens")]
    whole = None not in known and not counts.get("untold_answers")
    return sum(known) if whole else None  # type: ignore[arg-type]


def energy_of(run: Compared) -> float | None:
    """Return the energy a run took, kWh; ``None`` where it was not measured, or not in all sessions."""
    whole = isinstance(run, Run) and in_full(run.config.get("energy"))
    return run.energy.get("total_energy_kwh") if isinstance(run, Run) and whole else None
