"""Energy: CodeCarbon's estimate of what a session of work used on this machine, silent and without the network.

It measures this machine only; a remote model's energy is unknown and is never written as if it were measured.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nbannot.errors import NbannotError, RunError
from nbannot.tools.files import write_atomic, write_json

WORLD_AVERAGE_G_PER_KWH = 475.0
"""CodeCarbon's own default factor: IEA, Global Energy & CO2 Status Report 2019."""

MEASURED_S = 15
KEPT_S = 2 * MEASURED_S
"""So often what was used so far is written down, for a session that is killed."""

_lock = threading.Lock()
_warm: threading.Thread | None = None
_machine_known = threading.Event()


def _tracker(country_iso_code: str | None, *handlers: Any) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # After the import and before the constructor, or two lines still reach the notebook.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    # CodeCarbon reads settings of its own from the environment and from files: what would write a file, post
    # something or divert the measurement is said here; what describes the machine stays the user's.
    place: dict[str, Any] = {"force_carbon_intensity_g_co2e_kwh": WORLD_AVERAGE_G_PER_KWH}
    if country_iso_code is not None:
        place = {"country_iso_code": country_iso_code}
    return OfflineEmissionsTracker(
        log_level="error",
        logging_logger=None,
        output_methods=[],
        output_handlers=[*handlers],
        output_dir=tempfile.gettempdir(),
        output_file="emissions.csv",
        emissions_endpoint=None,
        api_key=None,
        experiment_id=None,
        tracking_mode="process",
        allow_multiple_runs=True,
        measure_power_secs=MEASURED_S,
        api_call_interval=2,  # so many measurements go by between two calls of `live_out`
        **place,
    )


def prewarm() -> None:
    """Let CodeCarbon look at the machine in the background, once per process.

    It takes two to three seconds where it has not seen the processor before, see `processor_known`.
    """
    _look_once()


def _look_once() -> None:
    global _warm

    def look() -> None:
        try:
            with contextlib.suppress(Exception):  # the meter of the run will say what is wrong
                tracker = _tracker(None)
                with processor_known():
                    tracker.start()
                tracker.stop()  # before anybody measures: its first time, it imports half a second of code
        finally:
            _machine_known.set()

    with _lock:
        if _warm is None:
            _warm = threading.Thread(target=look, name="nbannot-energy", daemon=True)
            _warm.start()


@contextlib.contextmanager
def processor_known() -> Iterator[None]:
    """Spare CodeCarbon the search for the processor's power (W) in its list where it has done it before.

    What it found is kept in the cache folder, for this version of CodeCarbon on this machine. It is CodeCarbon that
    asks, and only where the processor does not say itself what it uses.
    """
    cpu: Any = import_module("codecarbon.core.cpu")
    search = cpu.TDP
    place, machine = _processor_file(), _machine()

    def known() -> Any:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(place.read_text(encoding="utf-8"))
            if kept["machine"] == machine:
                return SimpleNamespace(model=kept["model"], tdp=kept["tdp"])
        result = search()
        with contextlib.suppress(NbannotError):
            write_json(place, {"machine": machine, "model": result.model, "tdp": result.tdp})
        return result

    cpu.TDP = known
    try:
        yield
    finally:
        cpu.TDP = search


def _processor_file() -> Path:
    from nbannot.tools.files import cache_folder

    return cache_folder() / "processor.json"


def _machine() -> list[str]:
    """Return what CodeCarbon's answer depends on: its version, the system, the processor and how many there are."""
    named = [platform.platform(), platform.machine(), platform.processor(), str(os.cpu_count())]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named += [line for line in lines if line.startswith(("model name", "Hardware"))][:1]
    return [version("codecarbon"), *named]


def _handler(told: dict[str, Any], kept: Path | None) -> Any:
    """Return what CodeCarbon hands its record to while it measures; it is in `told` then, now and then in a file."""
    from codecarbon.output_methods.base_output import BaseOutput

    class Keeping(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:
            told.update(total.values)

        def live_out(self, total: Any, delta: Any) -> None:
            if kept is not None:
                with contextlib.suppress(
                    NbannotError, OSError
                ):  # the run will say itself that it cannot write
                    write_json(kept, dict(total.values))

    return Keeping()


class Meter:
    """Measures one session of work, from `start` to `stop`; what goes wrong with it never costs the run.

    Parameters
    ----------
    country_iso_code
        ISO 3166-1 alpha-3 code for the carbon intensity; ``None`` = world average.
    kept
        File into which the record goes every 30 seconds, so that a session that is killed is counted by the next one,
        see `take_left`.

    Attributes
    ----------
    problem
        Why nothing was measured; "" while all is well.
    """

    def __init__(self, country_iso_code: str | None, kept: Path | None = None) -> None:
        self._country = country_iso_code
        self._kept = kept
        self._tracker: Any = None
        self._told: dict[str, Any] = {}
        self.problem = ""

    def start(self) -> None:
        """Begin to measure; waits until CodeCarbon knows the machine."""
        _look_once()
        _machine_known.wait()
        try:
            self._tracker = _tracker(self._country, _handler(self._told, self._kept))
            self._tracker.start()
        except Exception as error:  # noqa: BLE001 - its settings and the machine are not ours
            self._failed(error)

    @property
    def of_the_machine(self) -> bool:
        """Whether what is measured is used by the whole machine: by a meter in hardware, or a graphics card."""
        hardware = getattr(self._tracker, "_hardware", ())
        kinds = [type(one).__name__ for one in hardware]
        metered = [getattr(one, "_mode", "") in ("intel_rapl", "intel_power_gadget") for one in hardware]
        return any(metered) or bool({"GPU", "AppleSiliconChip"} & set(kinds))

    def kwh(self) -> float:
        """Return the energy used so far, kWh; measured anew at each call.

        Raises
        ------
        RunError
            If it cannot be measured: a budget in kWh cannot be kept then.
        """
        if (record := self.so_far()) is not None:
            return float(record["energy_consumed"])
        raise RunError(
            f"the budget in kWh cannot be kept: {self.problem or 'nothing is measured'}.\n"
            "  Leave kwh out of the budget, or mend CodeCarbon's settings (CODECARBON_…, .codecarbon.config)."
        )

    def so_far(self) -> dict[str, Any] | None:
        """Return the record as of now, see `stop`; measured anew at each call."""
        if self._tracker is None:
            return None
        try:
            self._tracker.flush()
            return dict(self._told) or None
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            return None

    def stop(self) -> dict[str, Any] | None:
        """Return CodeCarbon's record of the session: its own columns, kWh, kg CO2e, seconds.

        ``None`` if nothing was measured: it was never started, or failed.
        """
        if self._tracker is None:
            return None
        try:
            self._tracker.stop()
            return dict(self._tracker.final_emissions_data.values)
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        self._tracker = None
        self.problem = " ".join(f"CodeCarbon failed ({type(error).__name__}: {error})".split())[:300]


def in_sum(meter: Meter, model: Any) -> Callable[[], float]:
    """Return what returns the energy used so far, kWh: of this process, and of the workers of a model that has some."""
    of_workers = getattr(model, "kwh", lambda: 0.0)
    return lambda: meter.kwh() + of_workers()


def records_of(meter: Meter, model: Any) -> list[dict[str, Any]]:
    """Return the records of a session that has ended: of this process, and of each worker."""
    own = meter.stop()
    return [*([own] if own is not None else []), *getattr(model, "energy_records", ())]


NOT_IN_FULL = "estimated by CodeCarbon, not in full: "


UNMEASURED = "what one session or more used was not measured"
"""A session whose model ran elsewhere, or whose meter failed: the sum says nothing of the whole run."""
NOT_MEASURED = "not measured: "


def problem_in_words(
    problem: str, path: Path, earlier: str = "", *, measured: bool = True, begun: bool = False
) -> str:
    """Return what to tell of energy that was not measured, or not all of it; "" where there is nothing to tell.

    Parameters
    ----------
    path
        The ``emissions.csv``, with what this session used.
    earlier
        What was told after the session before: what it did not measure is missing in the sum for good.
    measured
        Whether this session was to be measured: whether its model ran here, or on workers that tell.
    begun
        Whether earlier sessions asked anything.
    """
    some = bool(totals(path))
    missing = [problem] if problem else []
    if begun and (earlier.startswith(NOT_MEASURED) if measured else some):
        missing.append(UNMEASURED)
    if earlier.startswith(NOT_IN_FULL):
        missing += [
            one for one in earlier.removeprefix(NOT_IN_FULL).split("; ") if not problem or one == UNMEASURED
        ]
    if not missing or not (measured or some):
        return ""
    return f"{NOT_IN_FULL if some else NOT_MEASURED}{'; '.join(dict.fromkeys(missing))}"


def in_full(words: Any) -> bool:
    """Return whether the sum of a run's energy is that of all its sessions, by what `problem_in_words` told."""
    return UNMEASURED not in str(words or "")


KILLED = f"of a session that was killed, what it used last (up to {KEPT_S} seconds) is missing"


def take_left(kept: Path, path: Path) -> str:
    """Bring the record of a session that was killed into ``emissions.csv``, once, and return what to tell of it.

    Parameters
    ----------
    kept
        What a `Meter` wrote while it measured; removed.
    path
        The ``emissions.csv``, with a row for each session that ended.

    Returns
    -------
    str
        "" where no session was killed.
    """
    if not kept.exists():
        return ""
    told = ""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(kept.read_text(encoding="utf-8"))
        known = {row.get("run_id") for row in csv.DictReader(io.StringIO(_stored(path)))}
        if record["run_id"] not in known and float(record["energy_consumed"]) >= 0:
            add_records(path, record)
            told = KILLED
    with contextlib.suppress(OSError):
        kept.unlink()
    return told


def _stored(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def add_records(path: Path, *records: dict[str, Any]) -> None:
    """Add records to an ``emissions.csv``, which is made where there is none."""
    write_atomic(path, emissions_csv(_stored(path), *records))


def emissions_csv(earlier: str, *records: dict[str, Any]) -> str:
    """Return the text of ``emissions.csv`` with more sessions; `earlier` is what it held before."""
    rows = list(csv.DictReader(io.StringIO(earlier))) if earlier else []
    out = io.StringIO()
    writer = csv.DictWriter(
        out, fieldnames=list(records[-1]), lineterminator="\n", restval="", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows([*rows, *records])
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
