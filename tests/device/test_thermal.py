"""Heat and clock of an emulated board, through real kernel interfaces and real SSH."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.device.someone import someone
from tests.lab import lab

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/data/badly_scaled/badly_scaled.tflite"
SETTINGS = "cat /sys/devices/system/cpu/cpufreq/policy0/scaling_{governor,min_freq,max_freq}"
HELD = ["performance", "1800000", "1800000"]
LIMIT_S = 240.0


@pytest.fixture(scope="module")
def board():
    machine = lab.up("thermal", "pi4")
    yield machine
    machine.down()


@pytest.fixture(scope="module")
def user(board, tmp_path_factory):
    """Someone whose bundle is made and whose runtime is on the board already."""
    here = someone(tmp_path_factory.mktemp("user"))
    bundle = here.home / "model.edgeq"
    words = ("--device", "pi4", "--precision", "float32", "-o", bundle)
    done = here.run("convert", MODEL, *words)
    assert done.returncode == 0, done.stderr
    assert here.add(board, "board", "pi4").returncode == 0
    return here


@pytest.fixture(autouse=True)
def calm(board):
    board.set(temperature_c=45.0, cap_mhz=0, throttled=0)
    yield
    board.link(up=True)
    board.set(temperature_c=45.0, cap_mhz=0, throttled=0)


class Deploy:
    """``edgeq deploy`` under way; ``steps`` grows as it says what it does."""

    def __init__(self, user, *words):
        self.steps = []
        command = [sys.executable, "-m", "edgeq", "deploy", "model.edgeq", "--device", "board"]
        self.process = subprocess.Popen(
            [*command, "--runs", "64", "--json", "report.json", *words],
            cwd=user.home,
            env=user._environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._report = user.home / "report.json"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.steps.append(line.strip())

    def until(self, step):
        wait_for(lambda: any(step in said for said in self.steps) or self.process.poll(), self)
        assert any(step in said for said in self.steps), self.steps

    def end(self):
        """The report."""
        assert self.process.wait(LIMIT_S) == 0, self.steps
        return json.loads(self._report.read_text())

    def leave(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()


@pytest.fixture
def deploy(user):
    started = []

    def begin(*words):
        started.append(Deploy(user, *words))
        return started[-1]

    yield begin
    for one in started:
        one.leave()


def wait_for(what, why=""):
    end_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end_s, getattr(why, "steps", why)
        time.sleep(0.2)


def cpus_of_the_model(board):
    """Empty between two of the run's processes."""
    status = "grep -h Cpus_allowed_list $(pgrep -f '[p]yz child' | sed 's|.*|/proc/&/status|')"
    return board.root(f"{status} /dev/null 2>/dev/null || true").partition("\t")[2].split("\n")[0]


def settings(board):
    return board.root(f"bash -c '{SETTINGS}'").split()


@pytest.mark.long
def test_a_hot_board_is_measured_when_it_has_cooled_down(board, deploy):
    board.set(temperature_c=80.0)
    running = deploy("--cool-to", "50", "--duration", "1")
    running.until("device: cool down: 80.0 to 50 °C")
    board.set(temperature_c=62.0)
    running.until("device: cool down: 62.0 to 50 °C")
    assert not any("device: run" in step for step in running.steps)
    board.set(temperature_c=49.0)
    found = running.end()
    assert found["cooling"]["reached"] is True
    assert found["cooling"]["worst_start_c"] == 49.0
    assert found["cooling"]["waited_s"] > 1
    assert found["thermal"]["start_c"] == 49.0


@pytest.mark.long
def test_a_board_that_stays_hot_is_measured_and_inconclusive(board, deploy):
    """Also: an old throttle bit is noted and not held against the run."""
    board.set(temperature_c=80.0, throttled=0x50000)
    found = deploy("--cool-to", "50", "--cool-limit", "2", "--duration", "1").end()
    assert found["cooling"]["reached"] is False
    codes = [reason.split(":")[0] for reason in found["verdict"]["reasons"]]
    assert "not-cooled" in codes
    assert "throttled" not in codes
    assert found["thermal"]["throttled"] is False
    assert found["thermal"]["occurred_before"] == ["under-voltage", "throttled"]
    assert any("power supply or cable is too weak" in text for text in found["warnings"])


def test_a_throttle_bit_that_comes_up_in_the_run_makes_it_invalid(board, deploy):
    running = deploy("--duration", "6")
    running.until("device: run")
    board.set(throttled=0x50005)
    board.set(throttled=0x50000)  # over again: the sticky bits stay
    found = running.end()
    assert found["verdict"]["status"] == "invalid"
    assert found["thermal"]["throttled"] is True
    assert found["thermal"]["governor"] not in (None, "performance")
    reasons = " ".join(found["verdict"]["reasons"])
    assert "throttled: under-voltage, so its power supply or cable is too weak" in reasons


@pytest.mark.long
def test_a_clock_that_the_firmware_holds_down_is_named(board, deploy):
    board.set(cap_mhz=600)
    found = deploy("--duration", "6", "--pin-frequency").end()
    assert found["thermal"]["frequency_max_mhz"] == 600.0
    reasons = " ".join(found["verdict"]["reasons"])
    assert "frequency: ran at 600 of 1800 MHz, which it was pinned to" in reasons


def test_the_clock_is_held_on_the_runs_cpus_and_set_back(board, deploy):
    before = settings(board)
    running = deploy("--duration", "5", "--pin-frequency", "--cpus", "2-3")
    running.until("device: run")
    assert settings(board) == HELD
    wait_for(lambda: cpus_of_the_model(board) == "2-3", running)
    found = running.end()
    assert settings(board) == before
    thermal = found["thermal"]
    assert (thermal["pinned"], thermal["governor"]) == (True, "performance")
    assert (thermal["frequency_min_mhz"], thermal["frequency_max_mhz"]) == (1800.0, 1800.0)
    assert thermal["policies"][0]["cpus"] == "0-3"
    assert (found["runtime"]["cpus"], found["runtime"]["cores"]) == ("2-3", "Cortex-A72")


@pytest.mark.long
def test_the_clock_is_set_back_after_ctrl_c(board, deploy):
    before = settings(board)
    running = deploy("--duration", "60", "--pin-frequency")
    wait_for(lambda: settings(board) == HELD, running)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(LIMIT_S) == 130
    wait_for(lambda: settings(board) == before, "not set back")


@pytest.mark.long
def test_another_programs_work_on_the_runs_cpu_is_named(board, deploy):
    board.root(
        "cp /bin/sh /tmp/miner; taskset -c 3 /tmp/miner -c 'while :; do :; done' >/dev/null 2>&1 &"
    )
    try:
        found = deploy("--duration", "3", "--cpus", "3").end()
    finally:
        board.root("pkill -x miner")
    (reason,) = [r for r in found["verdict"]["reasons"] if "other programs" in r]
    share = re.search(r"took (\d+)% of CPU 3's time \(miner ", reason)[1]
    assert 30 <= int(share) <= 70  # both want all of it
