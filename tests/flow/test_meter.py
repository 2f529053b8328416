"""``--meter``: the whole flow with a logger that writes a known load beside it."""

import math
import threading
import time
from pathlib import Path

import pytest

from edgeq.core import raw
from edgeq.stores import sqlite

MODEL = Path(__file__).parents[1] / "data/badly_scaled/badly_scaled.tflite"
PERIOD_S = 3.0


def watts(wall_s):
    return 6.0 + 3.0 * math.sin(2 * math.pi * wall_s / PERIOD_S)


def joules(start_s, end_s):
    """The exact integral of ``watts``."""
    share = PERIOD_S / (2 * math.pi)
    waves = math.cos(start_s / share) - math.cos(end_s / share)
    return 6.0 * (end_s - start_s) + 3.0 * share * waves


@pytest.fixture
def log(tmp_path):
    """A CSV file that grows fifty times a second, as a logger's does, a few rows at a time."""
    path = tmp_path / "log.csv"
    over = threading.Event()

    def write():
        with path.open("w") as file:
            file.write("timestamp,voltage_v,current_ma\n")
            row_s = time.time()
            while not over.wait(0.1):
                # An instrument keeps its rate however busy this machine is.
                while row_s < time.time():
                    file.write(f"{row_s:.6f},5.0,{watts(row_s) * 200:.6f}\n")
                    row_s += 0.02
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    yield path
    over.set()
    writer.join()


def test_the_energy_is_the_integral_of_what_the_logger_wrote(user, log):
    words = ("--device", "host", "--precision", "float32", "--duration", 4)
    report = user.report("deploy", MODEL, *words, "--meter", f"csv:{log}")
    power = report["power"]
    assert (power["source"], power["coverage"]) == ("csv log.csv", "wall")
    # Both clocks are this machine's.
    assert abs(power["clock_offset_s"]) < 0.5
    assert 0 < power["clock_uncertainty_s"] < 0.5
    (path,) = user.home.rglob(sqlite.FILE_NAME)
    samples = raw.unpack(sqlite.make(path).load(report["run_id"])[1])
    offset_s = time.time() - time.monotonic()
    exact = sum(joules(a / 1e9 + offset_s, b / 1e9 + offset_s) for a, b in samples.windows_ns)
    runs = sum(len(process.measured_ns) for process in samples.processes)
    assert power["energy_mj"] * runs / 1e3 == pytest.approx(exact, rel=0.01)
    assert report["unavailable"]["power.energy_ci_mj"].startswith("short: ")


def test_a_meter_that_is_not_there_is_told_before_anything_is_done(user, tmp_path):
    said = user.fails(1, "deploy", MODEL, "--device", "host", "--meter", f"csv:{tmp_path}/no.csv")
    assert "no.csv is not there" in said
