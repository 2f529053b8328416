"""Energy of a real deploy to boards whose rails change as it runs, against the exact integral."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from edgeq.core import raw
from edgeq.stores import sqlite
from tests.device.choosing import some
from tests.device.someone import someone
from tests.lab import lab

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/data/badly_scaled/badly_scaled.tflite"
SECONDS = 30
# Long enough for all that comes before the run, on a busy host too.
STEPS = 300
FOREVER_NS = 1 << 62


@pytest.fixture(scope="module", params=some(("jetson-orin-nano", "pi5"), "jetson-orin-nano"))
def board(request):
    machine = lab.up(f"energy-{request.param}", request.param)
    yield machine
    machine.down()


@pytest.fixture(scope="module")
def user(board, tmp_path_factory):
    here = someone(tmp_path_factory.mktemp("user"))
    assert here.add(board, "board", board.board).returncode == 0
    return here


def staircase(rail, seconds, watts, seed=7):
    """A load that nobody could guess, each level for some seconds."""
    chance = random.Random(seed)
    return [
        (chance.uniform(*seconds), {"rails": {rail: chance.uniform(*watts)}}) for _ in range(STEPS)
    ]


def joules(changes, start_ns, end_ns):
    """The exact integral of a staircase of (ns, watts)."""
    total = 0.0
    for (begin, watts), (end, _) in pairwise([*changes, (FOREVER_NS, 0.0)]):
        total += watts * max(0, min(end, end_ns) - max(begin, start_ns)) / 1e9
    return total


def stored(user, run_id):
    """The samples of a run, as they came from the device."""
    (path,) = user.home.rglob(sqlite.FILE_NAME)
    return raw.unpack(sqlite.make(path).load(run_id)[1])


def deploy(user):
    words = ("--precision", "float32", "--runs", 64, "--duration", SECONDS, "--json", "r.json")
    done = user.run("deploy", MODEL, "--device", "board", *words)
    assert done.returncode == 0, done.stderr
    return json.loads((user.home / "r.json").read_text())


def test_the_energy_of_a_deploy_is_the_integral_of_what_its_rails_were_set_to(board, user):
    jetson = board.board != "pi5"
    # A program takes its time to start, so its rail steps less often than the files'.
    load = ("VDD_IN", (2, 6), (4, 14)) if jetson else ("VDD_CORE", (7, 12), (2.5, 4.5))
    board.play(staircase(*load))
    report = deploy(user)
    while "a gap of" in report["unavailable"].get("power.energy_mj", ""):
        # The emulator stood still for a moment, and edgeq gives no figure for such a run.
        assert board.playing()
        report = deploy(user)
    assert board.playing(), "the load ended before the run"
    power, samples = report["power"], stored(user, report["run_id"])
    changes = board.played()
    rails = ["VDD_IN"] if jetson else list(changes)
    exact = sum(joules(changes[rail], *window) for rail in rails for window in samples.windows_ns)
    runs = sum(len(process.measured_ns) for process in samples.processes)
    assert power["energy_mj"] * runs / 1e3 == pytest.approx(exact, rel=0.01)
    assert power["source"].startswith("ina3221 VDD_IN" if jetson else "pmic_read_adc, sum of 12")
    assert power["coverage"] == ("module" if jetson else "rail")
    # The staircase changed in the run, and idle time was measured on both sides.
    assert len([at for at, _ in changes[load[0]] if at > samples.windows_ns[0][0]]) > 2
    assert power["idle_w"] is not None
    assert report["unavailable"]["power.energy_ci_mj"].startswith("short: ")
