"""Energy: CodeCarbon's estimate of what a session of work used on this machine, silent and without the network.

It measures this machine only; a remote model's energy is unknown and is never written as if it were measured.
"""

from __future__ import annotations

import csv
import io
import logging
import threading
from pathlib import Path
from typing import Any

WORLD_AVERAGE_G_PER_KWH = 475.0
"""CodeCarbon's own default factor: IEA, Global Energy & CO2 Status Report 2019."""

_lock = threading.Lock()
_warm: threading.Thread | None = None


def _tracker(country_iso_code: str | None) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # After the import and before the constructor, or two lines still reach the notebook.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    place: dict[str, Any] = {"force_carbon_intensity_g_co2e_kwh": WORLD_AVERAGE_G_PER_KWH}
    if country_iso_code is not None:
        place = {"country_iso_code": country_iso_code}
    return OfflineEmissionsTracker(
        log_level="error",
        output_methods=[],
        tracking_mode="process",
        allow_multiple_runs=True,
        measure_power_secs=15,
        **place,
    )


def prewarm() -> None:
    """Let CodeCarbon look at the processor in the background, once per process (it takes one to three seconds)."""
    global _warm

    def look() -> None:
        tracker = _tracker(None)
        tracker.start()
        tracker.stop()

    with _lock:
        if _warm is None:
            _warm = threading.Thread(target=look, name="nbannot-energy", daemon=True)
            _warm.start()


class Meter:
    """Measures one session of work, from `start` to `stop`.

    Parameters
    ----------
    country_iso_code
        ISO 3166-1 alpha-3 code for the carbon intensity; ``None`` = world average.
    """

    def __init__(self, country_iso_code: str | None) -> None:
        self._country = country_iso_code
        self._tracker: Any = None

    def start(self) -> None:
        """Begin to measure; waits until CodeCarbon knows the processor."""
        prewarm()
        if _warm is not None:
            _warm.join()
        self._tracker = _tracker(self._country)
        self._tracker.start()

    def kwh(self) -> float:
        """Return the energy used so far, kWh; measured anew at each call."""
        self._tracker.flush()
        # The public record exists only after stop(); the running total has no public name.
        return float(self._tracker._total_energy.kWh)

    def stop(self) -> dict[str, Any] | None:
        """Return CodeCarbon's record of the session: its own columns, kWh, kg CO2e, seconds.

        ``None`` if nothing was measured because it was never started.
        """
        if self._tracker is None:
            return None
        self._tracker.stop()
        return dict(self._tracker.final_emissions_data.values)


def emissions_csv(earlier: str, record: dict[str, Any]) -> str:
    """Return the text of ``emissions.csv`` with one more session; `earlier` is what it held before."""
    rows = list(csv.DictReader(io.StringIO(earlier))) if earlier else []
    out = io.StringIO()
    writer = csv.DictWriter(
        out, fieldnames=list(record), lineterminator="\n", restval="", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows([*rows, record])
    return out.getvalue()


def totals(path: Path) -> dict[str, Any]:
    """Return energy (kWh), emissions (kg CO2e) and the hardware over all sessions in an ``emissions.csv``.

    An empty dictionary where there is no such file: nothing was measured.
    """
    if not path.exists():
        return {}
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    if not rows:
        return {}
    return {
        "total_energy_kwh": sum(float(row["energy_consumed"]) for row in rows),
        "total_emissions_kg": sum(float(row["emissions"]) for row in rows),
        "cpu_model": rows[-1].get("cpu_model") or None,
        "gpu_model": rows[-1].get("gpu_model") or None,
    }
