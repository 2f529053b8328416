"""Heat, throttling and company: by a real agent on real files, by trees as devices show them."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeq import wire
from edgeq.agent import affinity, cpu, thermal, throttle, vcgencmd
from edgeq.agent.ports import FailureError
from tests.fakes import machine, tiny_model

RUNTIME = wire.Runtime("litert")
BUSY = """
import os, sys
open("/proc/self/comm", "w").write("hog")
os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    pass
"""


@pytest.fixture
def device(tmp_path):
    return machine.build(tmp_path / "machine")


@pytest.fixture
def agent(archive, device, root):
    started = machine.start(archive, device, root)
    started.receive()
    assert started.put("scratch/model.tflite", tiny_model.wide_model()) == wire.Done()
    yield started
    started.kill()


def request(**options):
    options = {"processes": 1, "runs": 20, "seconds": 0.1, "warmup_s": 0.0, **options}
    return wire.Measure("scratch/model.tflite", "", RUNTIME, **options)


def measure(agent, **options):
    measured = agent.ask(request(**options))
    assert isinstance(measured, wire.Measured), measured
    agent.payload(measured.payload_bytes)
    return measured


def zone(root, number, kind, value):
    machine.write(root / f"sys/class/thermal/thermal_zone{number}/type", kind)
    machine.write(root / f"sys/class/thermal/thermal_zone{number}/temp", value)


def named(root):
    return [sensor.channel.source for sensor in thermal.temperatures(root).sensors]


# Cooling down


def test_a_hot_device_is_measured_only_when_it_has_cooled_down(agent, device):
    machine.heat(device, 80.0)
    agent.send(request(cool_to_c=50.0))
    shown = [agent._next() for _ in range(2)]
    assert [(told.phase, told.done, told.total) for told in shown] == [("cool down", 800, 500)] * 2
    machine.heat(device, 61.5)
    while (told := agent._next()).done == 800:
        pass
    assert (told.phase, told.done, told.total) == ("cool down", 615, 500)
    machine.heat(device, 49.9)
    measured = agent.receive()
    assert (measured.cooled.reached, measured.cooled.worst_c) == (True, 49.9)
    assert measured.cooled.waited_s > 1.0
    assert "cool down" not in {told.phase for told in agent.progress if told.done <= 500}


def test_a_device_that_does_not_cool_is_measured_after_the_limit(agent, device):
    machine.heat(device, 80.0)
    measured = measure(agent, cool_to_c=50.0, cool_limit_s=1.5, processes=2)
    assert measured.cooled == wire.Cooled(50.0, False, measured.cooled.waited_s, 80.0)
    assert measured.cooled.waited_s >= 1.5
    assert len(measured.processes) == 2


def test_every_process_begins_cool(agent, device):
    machine.heat(device, 40.0)
    agent.send(request(cool_to_c=50.0, processes=2, seconds=1.0))
    while agent._next().phase != "run":
        pass
    machine.heat(device, 70.0)
    while (told := agent._next()).phase != "cool down":
        pass
    assert told.done == 700
    machine.heat(device, 50.0)
    measured = agent.receive()
    assert (measured.cooled.reached, measured.cooled.worst_c) == (True, 50.0)


def test_a_device_without_a_sensor_says_so(agent, device):
    (device / "sys/class/thermal/thermal_zone0/type").unlink()
    (device / "sys/class/thermal/thermal_zone0/temp").unlink()
    measured = measure(agent, cool_to_c=50.0)
    assert (measured.cooled.reached, measured.cooled.worst_c) == (False, None)
    assert "no thermal zone" in measured.missing["cooling"]


def test_nobody_waits_unless_it_is_asked_for(agent, device):
    machine.heat(device, 99.0)
    assert measure(agent).cooled is None


def test_the_wait_ends_with_the_host(agent, device):
    machine.heat(device, 80.0)
    agent.send(request(cool_to_c=50.0, cool_limit_s=10_000.0))
    assert agent._next().phase == "cool down"
    agent.process.stdin.close()
    assert agent.process.wait(60) == 1


# Throttling


def test_a_flag_that_comes_up_between_two_processes_is_not_lost(agent, device):
    cooler = device / "sys/class/thermal/cooling_device0"
    machine.write(cooler / "type", "cpufreq-cpu0")
    machine.write(cooler / "cur_state", "0")
    agent.send(request(processes=3, seconds=3.0))
    while agent._next().phase != "run":
        pass
    machine.write(cooler / "cur_state", "1")
    while agent._next().phase != "warmup":
        pass
    machine.write(cooler / "cur_state", "0")
    measured = agent.receive()
    assert measured.throttle_before == ()
    assert measured.throttle_after == ("frequency capped by cooling",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sys/devices/platform/soc/soc:firmware/get_throttled": "0"}, ()),
        (
            {"sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "80008"},
            ("soft temperature limit", "occurred:soft temperature limit"),
        ),
        (
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "throttled=0x50000"},
            ("occurred:under-voltage", "occurred:throttled"),
        ),
        (
            {
                "sys/class/hwmon/hwmon7/name": "rpi_volt",
                "sys/class/hwmon/hwmon7/in0_lcrit_alarm": "1",
            },
            ("under-voltage",),
        ),
        (
            {
                "sys/class/hwmon/hwmon2/name": "soctherm_oc",
                "sys/class/hwmon/hwmon2/oc1_event_cnt": "0",
                "sys/class/hwmon/hwmon2/oc2_event_cnt": "14",
                "sys/class/hwmon/hwmon2/throttle_event_cnt": "3",
            },
            ("occurred:over-current oc2 14 times", "occurred:throttle event throttle 3 times"),
        ),
        (
            {
                "sys/class/thermal/cooling_device0/type": "pwm-fan",
                "sys/class/thermal/cooling_device0/cur_state": "3",
                "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert",
                "sys/class/thermal/cooling_device1/cur_state": "1",
            },
            ("frequency capped by cooling",),
        ),
        (
            {
                "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0",
                "sys/class/thermal/cooling_device0/cur_state": "0",
                "sys/class/thermal/cooling_device0/stats/total_trans": "8",
            },
            ("occurred:cooling_device0 (thermal-cpufreq-0) capped it, 8 changes",),
        ),
        (
            {
                f"sys/devices/system/cpu/cpu{number}/{file}": text
                for number, core in enumerate("0011")
                for file, text in {
                    "topology/physical_package_id": "0",
                    "topology/core_id": core,
                    "thermal_throttle/core_throttle_count": str(int(core) + 1),
                    "thermal_throttle/package_throttle_count": "5",
                }.items()
            },
            ("occurred:core throttled 3 times", "occurred:package throttled 5 times"),
        ),
    ],
)
def test_throttling_is_read_from_each_source(tmp_path, files, words):
    for path, text in files.items():
        machine.write(tmp_path / path, text)
    assert throttle.read(tmp_path).words == words


def test_sources_that_do_not_answer_are_unknown_not_fine(tmp_path):
    (tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled").mkdir(parents=True)
    machine.write(tmp_path / "sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
    found = throttle.read(tmp_path)
    assert found.words is None
    assert found.reason == "no vcgencmd, no throttle counters in sysfs"


def firmware(root, text):
    program = root / "usr/bin/vcgencmd"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_the_firmware_of_a_raspberry_is_asked(tmp_path):
    firmware(
        tmp_path,
        'case $1 in get_throttled) echo throttled=0x50005;; measure_temp) echo "temp=48.2\'C";;\n'
        'measure_clock) echo "frequency(48)=1500000000";; esac',
    )
    assert throttle.read(tmp_path).words == thermal.raspberry_flags(0x50005)
    assert thermal.now(tmp_path) == thermal.Heat(48.2)
    (sensor,) = thermal.frequencies(tmp_path).sensors
    assert sensor.parse([(sensor.slow(),), (b"",)]) == [1500.0, None]


def test_firmware_that_refuses_says_why(tmp_path):
    firmware(tmp_path, 'echo "VCHI initialization failed" >&2; exit 255')
    found = throttle.read(tmp_path)
    assert found.words is None
    assert "VCHI initialization failed (is this user in the group video?)" in found.reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("temp=48.2'C", 48.2),
        ("frequency(48)=1500000000", 1.5e9),
        ("frequency(0)=600117184", 600117184.0),
        ("throttled=0xE0000", 0xE0000),
        ("throttled = 0x0", 0.0),
        ("volt=0.8600V", 0.86),
        ("temp=-3.5'C", -3.5),
        ("error=1 error_msg=x", 1.0),
        ("no answer", None),
    ],
)
def test_answers_of_the_firmware_are_numbers_whatever_their_unit(text, value):
    assert vcgencmd.value(text) == value


# Temperatures


@pytest.mark.parametrize(
    ("zones", "sources", "celsius"),
    [
        ([("GPU-therm", "60000"), ("CPU-therm", "41500")], ["CPU-therm"], 41.5),
        (
            [("gpu-thermal", "-256000"), ("tj-thermal", "51000"), ("cpu-thermal", "50500")],
            ["cpu-thermal", "tj-thermal"],
            51.0,
        ),
        ([("cpu-thermal", "-256"), ("tj-thermal", "49000")], ["tj-thermal"], 49.0),
        ([("battery", "30000"), ("soc", "87"), ("cpu0-gold-usr", "415")], ["cpu0-gold-usr"], 41.5),
        ([("tsens_tz_sensor3", "44")], ["tsens_tz_sensor3"], 44.0),
        ([("BIG", "47000"), ("LITTLE", "45000"), ("usb_pwr_therm", "30000")], None, 47.0),
        ([("mtktscpu", "52300"), ("mtktspmic", "40000")], ["mtktscpu"], 52.3),
        ([("soc_thermal", "43000")], ["soc_thermal"], 43.0),
        ([("acpitz", "27800"), ("x86_pkg_temp", "52000")], ["x86_pkg_temp"], 52.0),
        ([("cpu-thermal", "48531 mC")], ["cpu-thermal"], 48.531),
        ([("cpu-thermal", "48.5")], ["cpu-thermal"], 48.5),
    ],
)
def test_the_processors_own_zone_counts(tmp_path, zones, sources, celsius):
    for number, (kind, value) in enumerate(zones):
        zone(tmp_path, number, kind, value)
    assert thermal.now(tmp_path).celsius == pytest.approx(celsius)
    assert sources is None or named(tmp_path) == sources


def test_a_zone_that_cannot_be_read_is_passed_over(tmp_path):
    zone(tmp_path, 0, "cpu-thermal", "50000")
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").unlink()
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").mkdir()  # EISDIR, as EIO would be
    zone(tmp_path, 1, "tj-thermal", "47000")
    assert named(tmp_path) == ["tj-thermal"]


def test_a_battery_is_not_the_processor(tmp_path):
    zone(tmp_path, 0, "battery", "30500")
    found = thermal.temperatures(tmp_path)
    assert found.sensors == ()
    assert "only battery" in found.reason


def test_a_processors_chip_is_better_than_the_boards_zone(tmp_path):
    zone(tmp_path, 0, "acpitz", "27800")
    machine.write(tmp_path / "sys/class/hwmon/hwmon3/name", "nvme")
    machine.write(tmp_path / "sys/class/hwmon/hwmon3/temp1_input", "70000")
    machine.write(tmp_path / "sys/class/hwmon/hwmon11/name", "coretemp")
    machine.write(tmp_path / "sys/class/hwmon/hwmon11/temp1_input", "55000")
    assert named(tmp_path) == ["coretemp"]
    assert thermal.now(tmp_path) == thermal.Heat(55.0)


# CPUs and company


def test_the_model_runs_on_the_wished_cpus_only(agent):
    chosen = max(os.sched_getaffinity(0))
    agent.send(request(cpus=(chosen,), seconds=1.0))
    while agent._next().phase != "run":
        pass
    pid = agent.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert [os.sched_getaffinity(int(child)) for child in children] == [{chosen}]
    measured = agent.receive()
    assert measured.cpus == (chosen,)
    agent.payload(measured.payload_bytes)
    measure(agent)
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)


def test_cpus_that_are_not_there_are_refused_with_those_that_are(agent):
    refused = agent.ask(request(cpus=(0, 77)))
    assert (refused.kind, refused.message.split(";")[0]) == ("wish", "CPU 77 is not there or off")
    assert refused.detail.startswith("choose among them: --cpus 0")


def test_cpus_that_a_cpuset_keeps_are_refused(tmp_path):
    own = os.sched_getaffinity(0)
    machine.write(tmp_path / "sys/devices/system/cpu/online", "0-63")
    absent = next(number for number in range(64) if number not in own)
    with pytest.raises(FailureError, match="is not given to this session"):
        affinity.check((absent,), tmp_path)


@contextlib.contextmanager
def hog(cpu_number):
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(cpu_number)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_who_contends_for_the_runs_cpus_is_named_with_its_share(agent):
    mine, *_ = sorted(os.sched_getaffinity(0))
    with hog(mine):
        measured = measure(agent, cpus=(mine,), seconds=2.0)
    found = measured.contention
    assert dict(zip(found.names, found.shares, strict=True))["hog"] > 0.1
    assert 0 < found.busy_s <= found.total_s * 1.05
    assert found.busy_s - measured.cpu_child_s > 0.1 * found.total_s


def test_programs_on_other_cpus_are_not_the_runs_company():
    with hog(min(os.sched_getaffinity(0))) as process:
        until_pinned(process.pid)
        root = Path("/")
        own = min(os.sched_getaffinity(0))
        assert cpu.may_run_on(process.pid, (own,), root)
        assert not cpu.may_run_on(process.pid, (own + 1,), root)
        assert cpu.may_run_on(1 << 30, (own,), root)


def until_pinned(pid):
    while len(os.sched_getaffinity(pid)) > 1:
        time.sleep(0.01)


def test_short_lived_programs_are_seen_in_their_parent():
    """A shell that starts one busy program after another."""
    script = "while :; do python3 -c 'sum(range(3000000))'; done"
    shell = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    try:
        before = cpu.processes(Path("/"))
        began = time.monotonic()
        ended = threading.Event()
        ended.wait(2.0)
        seconds = time.monotonic() - began
        spent = cpu.used(before, cpu.processes(Path("/")))
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()
    name, used_s = spent[shell.pid]
    assert name == "children of sh"
    assert 0.1 < used_s <= seconds * 1.1


def test_what_a_child_had_used_before_is_not_counted():
    parent = cpu.Process("make", 1, 1.0, 5.0, 1)
    before = {10: parent, 11: cpu.Process("cc1", 5, 40.0, 2.0, 10)}
    after = {10: cpu.Process("make", 1, 1.0, 50.0, 1)}
    assert cpu.used(before, after) == {10: ("children of make", 3.0)}
    before[12] = cpu.Process("as", 6, 1.5, 0.5, 11)  # a grandchild, which ended too
    assert cpu.used(before, after) == {10: ("children of make", 1.0)}


def test_what_a_hypervisor_takes_is_told_apart(tmp_path):
    machine.write(tmp_path / "proc/stat", "cpu 100 0 0 800 0 0 0 50\ncpu1 60 0 0 10 0 0 0 30 5")
    assert cpu.times(tmp_path, (1,)) == cpu.CpuTimes(busy=90, total=100, steal=30)
    assert cpu.times(tmp_path, (3,)) is None
    later = cpu.CpuTimes(busy=190, total=300, steal=80)
    assert later.stolen_since(cpu.CpuTimes(90, 100, 30)) == pytest.approx(0.5)


def test_memory_pressure_and_swapping_are_told(archive, tmp_path, root):
    device = machine.build(tmp_path / "machine")
    (device / "proc").unlink()
    machine.write(device / "proc/vmstat", "pswpin 10\npswpout 5\npgmajfault 3")
    pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 total=7"
    machine.write(device / "proc/pressure/memory", pressure.format(1_000_000))
    agent = machine.start(archive, device, root)
    agent.receive()
    agent.put("scratch/model.tflite", tiny_model.wide_model())
    agent.send(request(seconds=2.0))
    while agent._next().phase != "run":
        pass
    machine.write(device / "proc/pressure/memory", pressure.format(1_750_000))
    machine.write(device / "proc/vmstat", "pswpin 110\npswpout 205\npgmajfault 3")
    measured = agent.receive()
    agent.kill()
    assert measured.contention.stalled_s == pytest.approx(0.75)
    assert measured.contention.swapped_bytes == 300 * os.sysconf("SC_PAGE_SIZE")
    assert measured.contention.busy_s is None
