"""Energy: silent, adds up over sessions, and never stands where nothing was measured."""

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GATE, codebook_of, task_of
from rawserving import Raw
from scripted import Scripted, well

import nbannot
from nbannot.engine import energy
from nbannot.engine.energy import WORLD_AVERAGE_G_PER_KWH, Meter, emissions_csv, processor_known, totals
from nbannot.errors import RunError
from nbannot.report.report import cost_facts


def test_a_meter_measures_and_is_silent(capfd):
    meter = Meter("FRA")
    meter.start()
    sum(i * i for i in range(2_000_000))
    now = meter.kwh()
    record = meter.stop()
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert 0 < now <= record["energy_consumed"]
    assert record["country_iso_code"] == "FRA"
    assert math.isclose(record["emissions"] / record["energy_consumed"] * 1000, 56.04, rel_tol=0.01)


def test_without_a_country_the_world_average_is_used_and_no_country_named():
    meter = Meter(None)
    meter.start()
    record = meter.stop()
    assert record["country_iso_code"] is None
    assert math.isclose(record["emissions"], record["energy_consumed"] * WORLD_AVERAGE_G_PER_KWH / 1000)


def test_a_meter_that_never_started_has_no_record():
    assert Meter(None).stop() is None


def test_sessions_add_up(tmp_path):
    path = tmp_path / "emissions.csv"
    one = {"energy_consumed": 0.25, "emissions": 0.1, "cpu_model": "A", "gpu_model": ""}
    path.write_text(emissions_csv(emissions_csv("", one), one | {"cpu_model": "B"}), encoding="utf-8")
    found = totals(path)
    assert found == {"total_energy_kwh": 0.5, "total_emissions_kg": 0.2, "cpu_model": "B", "gpu_model": None}
    assert totals(tmp_path / "none.csv") == {}


def test_a_run_has_codecarbons_own_csv_and_totals_per_query(tmp_path):
    run = nbannot.run(
        task_of(4, codebook_of(GATE)), model="mock", output_root=str(tmp_path), country_iso_code="DEU"
    )
    with (run.folder / "emissions.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["country_iso_code"] == "DEU"
    assert row["tracking_mode"] == "process"
    table = nbannot.load_run(run.folder).table_row()
    assert table["total_energy_kwh"] == float(row["energy_consumed"]) > 0
    assert math.isclose(table["avg_energy_kwh_per_query"], table["total_energy_kwh"] / 4)
    assert "carbon intensity of DEU" in run.config["energy"]


class Found:
    """Stands for CodeCarbon's search in its list of processors, and counts."""

    searched = 0
    model, tdp = "A processor", 65.0

    def __init__(self):
        type(self).searched += 1


def powers(cpu):
    """Return what CodeCarbon is told within the block, and whether it searched for it."""
    before = Found.searched
    with processor_known():
        told = cpu.TDP()
    return (told.model, told.tdp), Found.searched > before


def test_the_power_of_a_processor_is_searched_once_per_machine_and_version(tmp_path, monkeypatch):
    from codecarbon.core import cpu

    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "TDP", Found)
    wanted = (Found.model, Found.tdp)
    assert powers(cpu) == (wanted, True)
    assert powers(cpu) == (wanted, False)
    assert cpu.TDP is Found
    with monkeypatch.context() as other:
        other.setattr("nbannot.engine.energy.version", lambda name: "0")
        assert powers(cpu) == (wanted, True)
    assert powers(cpu) == (wanted, True)
    [kept] = (tmp_path / "cache").iterdir()
    for broken in ("", "[]", '{"machine": 1}'):
        kept.write_text(broken)
        assert powers(cpu) == (wanted, True)


def test_where_nothing_can_be_kept_the_power_is_searched_every_time(tmp_path, monkeypatch):
    from codecarbon.core import cpu

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(cpu, "TDP", Found)
    assert [powers(cpu)[1] for _ in range(2)] == [True, True]


def test_codecarbon_itself_asks_through_this_door(tmp_path):
    """What a new process records does not depend on whether the processor is known; only the search is spared."""
    code = """
from codecarbon.core import cpu
search, found = cpu.TDP, []
cpu.TDP = lambda: found.append(search()) or found[0]
from nbannot.engine.energy import Meter
meter = Meter(None)
meter.start()
record = meter.stop()
print(record["cpu_model"], record["cpu_count"], len(found), sep="|")
"""
    env = {**os.environ, "NBANNOT_CACHE": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    first, second = (line.strip().split("|") for line in said)
    assert first[:2] == second[:2]
    assert int(second[2]) == 0


def test_a_finished_run_says_that_its_carbon_intensity_stays(tmp_path):
    from nbannot.running.run import run

    task, said = task_of(2, codebook_of(GATE)), []
    asked = [
        run(task, model="mock", output_root=str(tmp_path), say=said.append, **settings)
        for settings in (
            {"country_iso_code": "DEU"},
            {"country_iso_code": "DEU"},
            {"country_iso_code": "FRA"},
            {},
        )
    ]
    assert len({done.run_id for done in asked}) == 1
    assert [line for line in said if "carbon" in line] == [
        f"finished before: its emissions stay estimated with the carbon intensity of DEU, not of {other}. "
        "fresh=True (%%annotate --fresh) asks the model again."
        for other in ("FRA", "the world average")
    ]


def test_settings_of_codecarbon_itself_neither_cost_a_run_nor_post_anything(tmp_path, monkeypatch):
    with Raw(lambda sent: (200, {})) as server:
        monkeypatch.setenv("CODECARBON_OUTPUT_DIR", str(tmp_path / "not there"))
        monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", server.url)
        monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
        monkeypatch.setenv("CODECARBON_API_ENDPOINT", server.url)
        monkeypatch.setenv("CODECARBON_OUTPUT_METHODS", "csv,api")
        meter = Meter(None)
        meter.start()
        record = meter.stop()
        assert record is not None
        assert meter.problem == ""
        assert server.paths == []
    assert not (tmp_path / "not there").exists()


def test_a_meter_that_fails_costs_no_run_and_a_budget_in_kwh_says_so(tmp_path, monkeypatch):
    def broken(country, *handlers):
        raise OSError("no such sensor")

    monkeypatch.setattr("nbannot.engine.energy._tracker", broken)
    task = task_of(3, codebook_of(GATE))
    run = nbannot.run(task, model="mock", output_root=str(tmp_path))
    assert run.status == "complete"
    assert run.config["energy"] == "not measured: CodeCarbon failed (OSError: no such sensor)"
    with pytest.raises(RunError, match="the budget in kWh cannot be kept: CodeCarbon failed"):
        nbannot.run(task, model="mock", seed=8, output_root=str(tmp_path), budget={"kwh": 1.0})


def test_what_a_killed_session_had_used_is_counted_by_the_next_and_once(tmp_path, monkeypatch):
    """A process ends with no word while it is asking; CodeCarbon's own thread has written down what it used."""
    code = """
import dataclasses, os, sys, time
import nbannot
from conftest import GATE, codebook_of, task_of
from nbannot.engine import energy
from pathlib import Path
from scripted import Scripted, well
from nbannot.running import design

energy.MEASURED_S = 0.1
root, asked = Path(sys.argv[1]), []

def dies(request):
    asked.append(request)
    if len(asked) == 3:
        for _ in range(600):
            if list(root.glob("*/*/.emissions.json")):
                os._exit(9)
            time.sleep(0.05)
    return well(request)

class Here(Scripted):
    def info(self):
        return dataclasses.replace(super().info(), energy_measured=True)

design.get_model = lambda config, say=None: Here(dies)
nbannot.run(task_of(4, codebook_of(GATE)), model="mock", output_root=str(root), max_parallel=1)
"""
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=here, capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    [kept] = tmp_path.glob("*/*/.emissions.json")
    used = json.loads(kept.read_text())["energy_consumed"]
    assert used > 0
    assert not (kept.parent / "emissions.csv").exists()
    left = kept.read_text()

    class Here(Scripted):
        def info(self):
            return dataclasses.replace(super().info(), energy_measured=True)

    monkeypatch.setattr("nbannot.running.design.get_model", lambda config, say=None: Here(well))
    run = nbannot.run(task_of(4, codebook_of(GATE)), model="mock", output_root=str(tmp_path), max_parallel=1)
    assert run.folder == kept.parent
    with (run.folder / "emissions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), float(rows[0]["energy_consumed"])) == (2, used)
    assert "not in full: of a session that was killed" in run.config["energy"]
    assert not kept.exists()
    kept.write_text(left)  # killed between the two steps
    assert energy.take_left(kept, run.folder / "emissions.csv") == ""
    assert (totals(run.folder / "emissions.csv")["total_energy_kwh"], kept.exists()) == (
        sum(float(row["energy_consumed"]) for row in rows), False
    )  # fmt: skip
    kept.write_text("{half")
    assert energy.take_left(kept, run.folder / "emissions.csv") == ""


def test_a_run_of_which_one_session_was_not_measured_has_no_sum(tmp_path, monkeypatch):
    class Here(Scripted):
        def info(self):
            return dataclasses.replace(super().info(), energy_measured=True)

    def annotated(place, model, **settings):
        monkeypatch.setattr("nbannot.running.design.get_model", lambda config, say=None: model(well))
        task = task_of(4, codebook_of(GATE))
        return nbannot.run(task, model="mock", output_root=str(tmp_path / place), max_parallel=1, **settings)

    for place, models in (
        ("one", (Here, Scripted)),
        ("two", (Scripted, Here)),
    ):  # begun here, gone on elsewhere
        begun = annotated(place, models[0], budget={"calls": 2})
        assert (begun.table_row()["total_energy_kwh"] is None) == (models[0] is Scripted)
        run = annotated(place, models[1])
        assert run.status == "complete"
        assert run.config["energy"] == (
            "estimated by CodeCarbon, not in full: what one session or more used was not measured"
        )
        assert run.energy["total_energy_kwh"] > 0
        row = run.table_row()
        assert {row[n] for n in row if "energy" in n or "emissions" in n} == {None}
        assert "not in full" in dict(cost_facts(run))["energy"]
    assert "energy" not in energy.problem_in_words("", tmp_path / "none", measured=False, begun=True)
