"""The lab itself: machines that differ, show what their boards show, and break as told."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.device.choosing import some
from tests.lab import boards, faults, lab
from tests.lab.errors import ChannelError, CommandError, LabError

ROOT = Path(__file__).parents[2]
# The Raspberry Pi's firmware asked by its device file, as the board's user.
VCIO = (
    "import fcntl, struct, sys; "
    "message = bytearray(struct.pack('=6I', 1052, 0, 0x30080, 1024, 0, 0)"
    " + sys.argv[1].encode().ljust(1024, bytes(1)) + bytes(4)); "
    "fcntl.ioctl(open('/dev/vcio'), 0xC0086400, message, True); "
    "print(message[24:].partition(bytes(1))[0].decode())"
)
VARIANTS = ("pi4-ina226", "pi4-bullseye", "pi5-trixie")  # like another, but for one thing
WHO = "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname; date +%s"


@pytest.fixture(scope="module")
def pi4(module_machines):
    return module_machines.up("pi4")


@pytest.fixture(scope="module")
def jetson(module_machines):
    return module_machines.up("jetson-orin-nano")


def said(machine, command):
    done = machine.ssh(command, timeout_s=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clones_have_their_own_identity_and_the_right_time(pi4, machines):
    other = machines.up("pi4")
    before = time.time()
    first, second = said(pi4, WHO).split(), said(other, WHO).split()
    assert first[2] == pi4.name
    assert second[2] == other.name
    assert re.fullmatch("[0-9a-f]{32}", first[0])
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert pi4.host_key != other.host_key
    for found in (first, second):
        assert before - 2 <= int(found[3]) <= time.time() + 2
    # The stock client accepts the pinned key only: the other machine's is refused.
    (other.folder / "known_hosts").write_text(f"[{other.host}]:{other.port} {pi4.host_key}\n")
    refused = other.ssh("true", timeout_s=300)
    assert refused.returncode == 255
    assert "verification failed" in refused.stderr


KINDS = [name for name in lab.boards() if name not in VARIANTS]


@pytest.mark.parametrize("name", some(KINDS, "pi4", "jetson-orin-nano", "pi3-32bit"))
def test_a_board_shows_what_the_real_one_shows(name, machines):
    board = boards.board(name)
    machine = machines.up(name)
    text = said(machine, "tr '\\0' '\\n' < /proc/device-tree/compatible; uname -m; nproc")
    assert text.split()[: len(board.compatible)] == board.compatible
    assert text.split()[-2:] == [
        {"arm64": "aarch64", "armhf": "armv7l"}[board.architecture],
        str(board.cores),
    ]
    assert machine.root("tr -d '\\0' < /proc/device-tree/model") == board.model
    cpuinfo = machine.root("cat /proc/cpuinfo")
    parts = set(re.findall(r"CPU part\s*: (0x\w+)", cpuinfo))
    assert parts == {f"0x{board.midr >> 4 & 0xFFF:03x}"}
    flags = re.search(r"Features\s*: (.*)", cpuinfo)[1].split()
    assert not set(flags) & set(board.hidden_flags)
    assert ("asimddp" in flags) == (board.cpu == "cortex-a76")
    zones = machine.root("cat /sys/class/thermal/thermal_zone*/type").split()
    assert set(board.zones) <= set(zones)
    steps = machine.root(
        "cat /sys/devices/system/cpu/cpufreq/policy0/scaling_available_frequencies"
    )
    assert [int(step) for step in steps.split()] == [round(mhz * 1000) for mhz in board.steps_mhz]


def test_32_bit_is_raspbian_with_numpy_from_the_distribution(machines):
    machine = machines.up("pi3-32bit")
    text = said(machine, "cat /etc/os-release; python3 -c 'import numpy; print(numpy.__version__)'")
    assert "ID=raspbian" in text
    assert re.search(r"^1\.24\.", text, re.MULTILINE)


def test_a_raspberry_pi_shows_one_state_in_kernel_files_and_vcgencmd(pi4):
    pi4.set(temperature_c=81.5, cap_mhz=1000, throttled=0x50005)
    text = said(
        pi4,
        "vcgencmd measure_temp; vcgencmd get_throttled; vcgencmd measure_clock arm;"
        " cat /sys/class/thermal/thermal_zone0/temp;"
        " cat /sys/devices/platform/soc/soc:firmware/get_throttled;"
        " sudo cat /sys/devices/system/cpu/cpufreq/policy0/cpuinfo_cur_freq",
    )
    assert text.splitlines() == [
        "temp=81.5'C",
        "throttled=0x50005",
        "frequency(48)=1000000000",
        "81500",
        "50005",
        "1000000",
    ]
    asked = "for word in 'measure_temp' 'get_throttled' 'measure_clock arm'; do python3 -c"
    assert said(pi4, f'{asked} "{VCIO}" "$word"; done').splitlines() == text.splitlines()[:3]
    pi4.set(temperature_c=45, cap_mhz=0, throttled=0)
    assert "throttled=0x0" in said(pi4, "vcgencmd get_throttled")


def test_a_jetson_shows_one_state_in_hwmon_and_tegrastats(jetson):
    shown = jetson.set(rails={"VDD_IN": 7.3, "VDD_CPU_GPU_CV": 2.1, "VDD_SOC": 1.5})
    assert shown["VDD_IN"] == pytest.approx(7.3, rel=0.001)
    chip = "$(dirname $(grep -l ina3221 /sys/class/hwmon/hwmon*/name))"
    text = said(
        jetson,
        f"cd {chip}; cat in1_label in2_label in3_label in1_input curr1_input shunt1_resistor;"
        " timeout 30 tegrastats --interval 500 | head -1",
    )
    labels, numbers, line = text.split()[:3], text.split()[3:6], text.splitlines()[6]
    assert labels == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    watts = int(numbers[0]) * int(numbers[1]) / 1e6
    assert watts == pytest.approx(shown["VDD_IN"])
    assert numbers[2] == "5000"
    assert f" VDD_IN {int(watts * 1000)}mW/{int(watts * 1000)}mW" in line
    assert re.search(r"RAM \d+/\d+MB .* CPU \[.*@\d+.*\] .*cpu@47.5C .*tj@47.5C", line)


@pytest.mark.long
def test_a_jetson_that_is_capped_has_a_lower_maximum_and_a_cooling_state(jetson):
    jetson.set(cap_mhz=800)
    text = said(
        jetson,
        "cat /sys/class/thermal/cooling_device0/type /sys/class/thermal/cooling_device0/cur_state"
        " /sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq; nvpmodel -q",
    )
    assert text.splitlines()[:2] == ["cpufreq-cpu0", "11"]
    assert text.splitlines()[2] == "729600"  # the next step of the table below
    assert "NV Power Mode: 15W" in text
    jetson.set(cap_mhz=0)
    assert "MaxFreq=1510400" in said(jetson, "jetson_clocks --show")


@pytest.mark.long
def test_a_pi5_tells_its_rails_as_its_firmware_does(machines):
    machine = machines.up("pi5")
    machine.set(rails={"VDD_CORE": 2.5})
    lines = said(machine, "vcgencmd pmic_read_adc").splitlines()
    assert len(lines) == 26
    values = {line.split()[0]: float(re.search(r"=([\d.]+)[AV]$", line)[1]) for line in lines}
    assert values["VDD_CORE_A"] * values["VDD_CORE_V"] == pytest.approx(2.5, rel=1e-6)
    assert lines[7].startswith("    VDD_CORE_A current(7)=")
    assert "EXT5V_V" in values


@pytest.mark.long
def test_an_ina226_shows_volts_amperes_and_watts(machines):
    machine = machines.up("pi4-ina226")
    shown = machine.set(rails={"supply": 4.2})["supply"]
    chip = "$(dirname $(grep -l ina226 /sys/class/hwmon/hwmon*/name))"
    text = said(machine, f"cd {chip}; cat in1_input curr1_input power1_input")
    millivolts, milliamperes, microwatts = map(int, text.split())
    assert microwatts / 1e6 == pytest.approx(shown)
    assert shown == pytest.approx(4.2, rel=0.002)
    assert millivolts * milliamperes / 1e6 == pytest.approx(4.2, rel=0.01)


@pytest.mark.long
def test_a_phone_has_a_battery(machines):
    machine = machines.up("phone")
    machine.set(battery={"battery_current": -731000, "battery_capacity": 41})
    battery = "/sys/class/power_supply/battery"
    text = said(machine, f"cat {battery}/current_now {battery}/capacity {battery}/status")
    assert text.split() == ["-731000", "41", "Discharging"]


@pytest.mark.long
def test_a_load_that_is_played_is_written_down_as_it_was_shown(jetson):
    jetson.play([(1.0, {"rails": {"VDD_IN": 5}}), (1.0, {"rails": {"VDD_IN": 12}})])
    while jetson.playing():
        time.sleep(0.5)
    (began, low), (changed, high) = jetson.played()["VDD_IN"][-2:]
    assert low == pytest.approx(5, rel=0.001)
    assert high == pytest.approx(12, rel=0.001)
    assert changed - began > 0.5e9
    now = "in=$(cat in1_input); echo $((in * $(cat curr1_input)))"
    chip = "$(dirname $(grep -l ina3221 /sys/class/hwmon/hwmon*/name))"
    assert int(said(jetson, f"cd {chip}; {now}")) / 1e6 == pytest.approx(high)


def test_a_power_cut_takes_what_was_not_flushed_and_no_more(machines):
    machine = machines.up("pi4")
    key = machine.host_key
    said(machine, "echo kept > kept; sync; echo lost > lost")
    machine.kill()
    assert machine.pid is None
    assert machine.ssh("true").returncode == 255
    machine.start()
    assert said(machine, "cat kept; cat lost 2>/dev/null; hostname").split() == [
        "kept",
        machine.name,
    ]
    assert machine.host_key == key
    assert machine.root("cat /etc/machine-id").strip()


@pytest.mark.long
def test_a_reset_boots_again_with_its_state_and_channel(machines):
    machine = machines.up("pi4")
    machine.set(temperature_c=80)
    before = machine.root("cat /proc/sys/kernel/random/boot_id")
    machine.reset()
    assert machine.root("cat /proc/sys/kernel/random/boot_id") != before
    assert machine.root("cat /proc/1/comm").strip() == "edge-init"
    assert said(machine, "vcgencmd measure_temp") == "temp=48.2'C\n"
    machine.set(temperature_c=60)
    assert said(machine, "vcgencmd measure_temp") == "temp=60.0'C\n"


@pytest.mark.long
def test_without_its_link_a_machine_is_silent_and_then_there_again(pi4):
    pi4.link(False)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            pi4.ssh("true", timeout_s=8)
        assert pi4.root("cat /sys/class/net/e*/carrier").strip() == "0"
    finally:
        pi4.link(True)
    assert pi4.ssh("true", timeout_s=300).returncode == 0


@pytest.mark.long
def test_a_frozen_machine_stands_still_and_goes_on(pi4):
    pi4.freeze()
    try:
        with pytest.raises(ChannelError):
            pi4.root("true", timeout_s=0)
    finally:
        pi4.thaw()
    assert pi4.root("echo on") == "on\n"


@pytest.mark.long
def test_a_slow_network_is_really_slow(pi4):
    def handshake_s():
        began = time.monotonic()
        with socket.create_connection((pi4.host, pi4.port)) as link:
            link.recv(4)
        return time.monotonic() - began

    quick = min(handshake_s() for _ in range(3))
    pi4.network(delay_ms=2000, loss_percent=0)
    try:
        assert handshake_s() - quick > 1.5
    finally:
        pi4.network()
    assert min(handshake_s() for _ in range(3)) < quick + 1.5


def test_a_command_that_fails_as_root_says_so(pi4):
    with pytest.raises(CommandError) as caught:
        pi4.root("echo no; exit 3")
    assert caught.value.code == 3
    assert caught.value.output == "no\n"
    with pytest.raises(CommandError) as caught:
        pi4.root("sleep 60", timeout_s=1)
    assert caught.value.code is None


UNDONE = {
    "fill-disk": ("dd if=/dev/zero of=big bs=1M count=8", 1, 0),
    "no-python": ("python3 -c pass", 127, 0),
    "noexec-home": ("printf '#!/bin/sh\\n' > x; chmod +x x; ./x", 126, 0),
    "read-only-home": ("touch y", 1, 0),
    "busy": ("pgrep -f '[w]hile :; do :; done' > /dev/null; [ $? = 1 ]", 1, 0),
    "clock-1970": ("[ $(date +%Y) != 1970 ]", 1, 0),
    "hot": ("[ $(cat /sys/class/thermal/thermal_zone0/temp) -lt 80000 ]", 1, 0),
}


@pytest.mark.parametrize("name", some(UNDONE, "fill-disk", "hot"))
def test_a_fault_happens_and_is_undone(name, pi4):
    command, broken, whole = UNDONE[name]
    assert pi4.ssh(command, timeout_s=300).returncode == whole
    fault = faults.inject(pi4, name)
    try:
        assert pi4.ssh(command, timeout_s=300).returncode == broken
    finally:
        faults.inject(pi4, fault.undo)
    assert pi4.ssh(command, timeout_s=300).returncode == whole


def test_a_taken_name_and_a_wrong_one_are_refused(pi4):
    with pytest.raises(LabError, match="is up already"):
        lab.up(pi4.name, "pi4")
    with pytest.raises(LabError, match="is no name"):
        lab.up("../x", "pi4")
    with pytest.raises(LabError, match="there is no board 'pi9'"):
        lab.up("x", "pi9")


def test_the_command_line_starts_lists_breaks_and_ends_a_machine(tmp_path):
    name = f"c{os.getpid()}"

    def run(*words, module="tests.lab"):
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"EDGEQ_HOME": str(tmp_path)},
        )

    begun = run("up", name, "--board", "pi4", "--add")
    try:
        assert begun.returncode == 0, begun.stderr
        rows = json.loads(run("list", "--json").stdout)
        row = next(row for row in rows if row["name"] == name)
        assert row["state"] == "on"
        known = run("devices", "show", name, module="edgeq")
        assert str(row["port"]) in known.stdout
        assert run("set", name, "temperature_c=70", "throttled=0x4").returncode == 0
        assert run("ssh", name, "vcgencmd", "get_throttled").stdout == "throttled=0x4\n"
        broken = run("break", name, "freeze")
        assert f"undo: scripts/lab break {name} thaw" in broken.stdout
        assert re.search(rf"{name} +pi4 +frozen", run("list").stdout)
        assert "no option" in run("break", name, "hot", "colour=3").stderr
    finally:
        ended = run("down", name)
    assert ended.returncode == 0
    assert name not in run("list").stdout
    assert run("devices", "show", name, module="edgeq").returncode != 0
