"""Energy: silent, adds up over sessions, and never stands where nothing was measured."""

import csv
import math

from conftest import GATE, codebook_of, task_of

import nbannot
from nbannot.energy import WORLD_AVERAGE_G_PER_KWH, Meter, emissions_csv, totals


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
