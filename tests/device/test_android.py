"""adb into an arm64 machine with a battery: the stock client, the tests' own device side there.

The machine is Debian with a phone's kernel drivers; ``benchmark_model`` is a script that prints a
known log, with a pause where the measured time lies, so that power and time are the kernel's.
"""

import base64
import json
import os
from pathlib import Path

import pytest

from edgeq.core.inventory import Device
from edgeq.core.parity import Parity
from edgeq.core.profile import RunProtocol
from edgeq.native import figures, judge, phone, sampler, sensors
from edgeq.native.measure import measure
from edgeq.transports import adb
from tests.android.conftest import adb_environment, adb_server  # noqa: F401 - fixtures
from tests.device.someone import someone
from tests.lab import boards

LOGS = Path(__file__).parents[1] / "data" / "benchmark_model"
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_cnn.h5"
PROGRAM = "/data/local/tmp/benchmark_model"
SAME = Parity(samples=8, max_abs_diff=0.0, limit=0.05, identical=True)
PROTOCOL = RunProtocol(processes=2, runs=100, seconds=0, idle_seconds=15, timeout_seconds=120)


def quiet(*_):
    """Progress that nobody looks at."""


def put(machine, path, text):
    packed = base64.b64encode(text.encode()).decode()
    machine.root(
        f"mkdir -p $(dirname {path}) && echo {packed} | base64 -d > {path} && chmod 755 {path}",
        timeout_s=120,
    )


@pytest.fixture
def handset(machines):
    """The machine, and the address where its adbd listens here."""
    machine = machines.up("phone")
    begin, end = (LOGS / "cpu-percentiles.log").read_text().split("INFO: count=67")
    lines = f"cat >&2 <<'E'\n{begin}E\nsleep 15\ncat >&2 <<'E'\nINFO: count=67{end}E\n"
    put(machine, PROGRAM, f"#!/bin/sh\n{lines}")
    return machine, f"127.0.0.1:{machine.forward(5555)}"


def test_a_phone_behind_adb_is_examined_and_its_battery_measured(handset, adb_environment):  # noqa: F811
    machine, address = handset
    device = Device(name="phone", profile="android", transport="adb", serial=address)
    link = adb.make(adb_environment, adb.Limits(settle_s=20, connect_s=40)).connect(device)
    link.run(["mkdir", "-p", phone.FOLDER])
    facts = phone.examine(link, "phone")
    assert (facts.architecture, facts.os, facts.cores) == ("aarch64", "Android 14", 4)
    seen = sampler.survey(link)
    assert len(sensors.frequencies(seen)) == 4
    assert "BIG" in sensors.zones(seen).values()

    machine.set(
        battery={"battery_status": "discharging", "battery_current": -500000,
                 "battery_voltage": 4000000, "usb_online": "off", "ac_online": "off"}
    )  # fmt: skip
    # Once a second: the shell of an emulated machine on a busy computer makes gaps of half of one.
    found = measure(link, [PROGRAM, "--graph=m"], PROTOCOL, 1.0, quiet)
    reckoned = figures.reckon(found)
    assert reckoned.power.mean_w == pytest.approx(2.0, rel=0.01)
    assert reckoned.power.idle_w == pytest.approx(2.0, rel=0.01), reckoned
    seconds = sum(one.log.window_s[1] - one.log.window_s[0] for one in found.processes)
    assert reckoned.power.energy_mj * 134 / 1e3 == pytest.approx(2.0 * seconds, rel=0.01)
    assert reckoned.thermal.max_c is not None
    assert reckoned.thermal.frequency_max_mhz is not None
    assert judge.judge(found, PROTOCOL, SAME, ()).status == "valid"

    machine.set(battery={"battery_status": "charging", "usb_online": "on"})
    why = sensors.battery(sampler.survey(link), {})
    assert "external power" in why
    assert "invalid" in why


@pytest.mark.long
def test_a_deploy_over_adb_says_what_it_could_not_prove(handset, adb_environment, tmp_path):  # noqa: F811
    machine, address = handset
    machine.set(battery={"battery_status": "charging", "usb_online": "on"})
    user = someone(tmp_path)
    os.environ["ANDROID_ADB_SERVER_PORT"] = adb_environment["ANDROID_ADB_SERVER_PORT"]
    try:
        done = user.run("devices", "add", "phone", "--profile", "android", "--serial", address)
        assert done.returncode == 0, done.stderr
        assert boards.board("phone").serial in done.stdout
        done = user.run("deploy", "--device", "phone", DIGITS, "--runs", "90", "--json", "-")
    finally:
        del os.environ["ANDROID_ADB_SERVER_PORT"]
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["parity"] is None
    assert report["unavailable"]["parity"]
    assert report["power"] is None
    assert "external power" in report["unavailable"]["power"]
    assert report["latency"]["runs"] == 201
    state = machine.root(f"cat {phone.FOLDER}/models/digits_cnn/state")
    assert state.startswith("current=1-")
