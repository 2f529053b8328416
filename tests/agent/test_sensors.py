"""Meters, zones, frequencies and flags, on trees as the kernel's documents show them."""

import shutil
import time
from pathlib import Path

import pytest

from edgeq.agent import meters, thermal
from edgeq.agent.sampler import Sampler

BOARDS = Path(__file__).parents[1] / "data" / "sysfs"


def readings(found):
    """One sample of each channel: (quantity, source): value."""
    return {
        (sensor.channel.quantity, sensor.channel.source): sensor.parse(
            [tuple(path.read_bytes() for path in sensor.files)]
        )[0]
        for sensor in found.sensors
    }


def wait_for(sampler, rows):
    while len(sampler._turns[0].taken) < rows:
        time.sleep(0.01)


def totals(found):
    return [
        (sensor.channel.quantity, sensor.channel.source, sensor.channel.coverage)
        for sensor in found.sensors
        if sensor.channel.total
    ]


def test_ina3221_of_an_orin_multiplies_volts_and_amperes():
    found = meters.find(BOARDS / "jetson-orin-nano")
    values = readings(found)
    assert values["power_w", "ina3221 VDD_IN"] == pytest.approx(5.032 * 1.016)
    assert values["voltage_v", "ina3221 VDD_SOC"] == pytest.approx(5.024)
    assert values["current_a", "ina3221 VDD_CPU_GPU_CV"] == pytest.approx(0.240)
    assert totals(found) == [("power_w", "ina3221 VDD_IN", "module")]


def test_ina3221_leaves_out_the_sum_of_shunts_and_what_is_not_connected(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "jetson-orin-nano", board)
    (board / "sys/class/hwmon/hwmon1/in3_label").write_text("NC\n")
    sources = {sensor.channel.source for sensor in meters.find(board).sensors}
    assert sources == {"ina3221 VDD_IN", "ina3221 VDD_CPU_GPU_CV"}


def test_jetpack_4_has_its_own_place_and_units_in_the_text():
    found = meters.find(BOARDS / "jetson-nano-jp4")
    values = readings(found)
    assert values["power_w", "ina3221 POM_5V_IN"] == pytest.approx(5.064 * 0.368)
    assert totals(found) == [("power_w", "ina3221 POM_5V_IN", "module")]


def test_ina219_on_a_pi_gives_its_own_power():
    found = meters.find(BOARDS / "pi4-ina219")
    assert readings(found) == {
        ("power_w", "ina219 usb-c"): pytest.approx(3.128),
        ("voltage_v", "ina219 usb-c"): pytest.approx(5.112),
        ("current_a", "ina219 usb-c"): pytest.approx(0.612),
    }


def test_a_discharging_battery_is_a_meter_whatever_its_sign():
    found = meters.find(BOARDS / "phone-battery")
    assert readings(found) == {("power_w", "power_supply battery"): pytest.approx(0.412 * 3.865)}
    assert totals(found) == [("power_w", "power_supply battery", "battery")]


def test_a_charging_battery_is_none_and_says_why():
    found = meters.find(BOARDS / "phone-charging")
    assert found.sensors == ()
    assert found.reason == "battery battery: on external power (Charging)"


def test_a_battery_that_is_plugged_in_meanwhile_has_no_value():
    (sensor,) = meters.find(BOARDS / "phone-battery").sensors
    rows = [
        (b"Discharging\n", b"-412000\n", b"3865000\n"),
        (b"Charging\n", b"900000\n", b"4000000\n"),
    ]
    assert sensor.parse(rows) == [pytest.approx(1.592, abs=1e-3), None]


def test_a_battery_that_counts_in_milliamperes_is_flagged():
    found = meters.find(BOARDS / "phone-milliampere")
    ((quantity, source), value) = next(iter(readings(found).items()))
    assert (quantity, source) == ("power_w", "power_supply battery (taken as mA, unverified)")
    assert value == pytest.approx(0.412 * 3.865)


def test_rapl_counts_joules_across_its_wrap_exactly():
    found = meters.find(BOARDS / "x86-rapl")
    package, platform = found.sensors
    assert (package.channel.source, package.channel.coverage) == ("rapl package-0", "package")
    assert (platform.channel.source, platform.channel.coverage) == ("rapl psys", "board")
    rows = [(b"262143000000\n",), (b"262143328000\n",), (b"",), (b"671150\n",), (b"1671150\n",)]
    assert package.parse(rows) == [0.0, 0.328, None, 1.0, 2.0]


def test_rapl_for_root_only_says_so(tmp_path):
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").mkdir()  # even root cannot read a folder as a file
    found = meters.find(tmp_path)
    assert found.sensors == ()
    assert found.reason.startswith("RAPL: ")
    assert found.reason.endswith("intel-rapl:0/energy_uj is for root only")


def test_no_sensor_is_none_not_zero(tmp_path):
    for found in (
        meters.find(tmp_path),
        thermal.temperatures(tmp_path),
        thermal.frequencies(tmp_path),
    ):
        assert found.sensors == ()
        assert found.reason
    assert thermal.throttled(tmp_path) is None


@pytest.mark.parametrize(
    ("board", "zone", "celsius"),
    [
        ("jetson-orin-nano", "cpu-thermal", 48.531),
        ("jetson-nano-jp4", "CPU-therm", 29.0),
        ("pi4-ina219", "cpu-thermal", 48.199),
        ("phone-battery", "cpu-0-0-usr", 41.0),
        ("x86-rapl", "x86_pkg_temp", 52.0),
    ],
)
def test_the_processors_zone_is_the_temperature(board, zone, celsius):
    found = thermal.temperatures(BOARDS / board)
    assert totals(found) == [("temperature_c", zone, "")]
    assert readings(found)["temperature_c", zone] == pytest.approx(celsius)


def test_a_zone_that_is_offline_is_left_out():
    sources = [s.channel.source for s in thermal.temperatures(BOARDS / "jetson-orin-nano").sensors]
    assert sources == ["cpu-thermal", "soc0-thermal", "tj-thermal"]


def test_a_chip_stands_in_where_there_is_no_zone(tmp_path):
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("k10temp\n")
    (chip / "temp1_input").write_text("61125\n")
    assert readings(thermal.temperatures(tmp_path)) == {("temperature_c", "k10temp"): 61.125}


def test_every_policy_has_its_frequency():
    found = thermal.frequencies(BOARDS / "jetson-orin-nano")
    assert readings(found) == {
        ("frequency_mhz", "policy0"): 1510.4,
        ("frequency_mhz", "policy4"): 1510.4,
    }


def test_a_raspberrys_bits_become_words():
    assert thermal.throttled(BOARDS / "pi4-ina219") == (
        "under-voltage",
        "throttled",
        "occurred:under-voltage",
        "occurred:throttled",
    )
    assert thermal.raspberry_flags(0) == ()
    assert thermal.raspberry_flags(0x80008) == (
        "soft temperature limit",
        "occurred:soft temperature limit",
    )


def test_one_more_event_makes_another_word(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "x86-rapl", board)
    before = thermal.throttled(board)
    assert before == ("occurred:core throttled 1 times",)
    (board / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").write_text("7\n")
    assert thermal.throttled(board) == ("occurred:core throttled 8 times",)


def test_a_jetsons_over_current_events_are_told():
    assert thermal.throttled(BOARDS / "jetson-orin-nano") == ("occurred:over-current oc3 2 times",)


def test_a_cooling_device_at_work_is_told(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "jetson-orin-nano", board)
    (board / "sys/class/thermal/cooling_device0/cur_state").write_text("2\n")
    assert "frequency capped by cooling" in thermal.throttled(board)


def test_the_sampler_reads_every_channel_again_and_again(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "jetson-orin-nano", board)
    found = meters.find(board)
    sampler = Sampler(found.sensors, 200.0)
    sampler.start()
    voltage = board / "sys/class/hwmon/hwmon1/in1_input"
    wait_for(sampler, 5)
    voltage.write_text("4000\n")
    count = len(sampler._turns[0].taken)
    wait_for(sampler, count + 5)
    rows = sampler.stop()
    assert len(rows[0]) == 1 + len(found.sensors)
    assert rows[0][1] == pytest.approx(5.032 * 1.016)
    assert rows[-1][1] == pytest.approx(4.0 * 1.016)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert sampler.cpu_s > 0


def test_the_sampler_keeps_its_files_open(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "jetson-orin-nano", board)
    sampler = Sampler(meters.find(board).sensors, 200.0)
    shutil.rmtree(board)
    sampler.start()
    wait_for(sampler, 5)
    rows = sampler.stop()
    assert sampler.lost == []
    assert rows[-1][1] == pytest.approx(5.032 * 1.016)


def test_a_sensor_that_goes_blank_has_no_value(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "pi4-ina219", board)
    (board / "sys/class/hwmon/hwmon2/power1_input").write_text("")
    sampler = Sampler(meters.find(board).sensors, 100.0)
    sampler.start()
    assert sampler.stop()[0][1] is None


def test_a_sensor_that_does_not_open_is_lost_not_fatal(tmp_path):
    board = tmp_path / "board"
    shutil.copytree(BOARDS / "pi4-ina219", board)
    found = meters.find(board)
    (board / "sys/class/hwmon/hwmon2/power1_input").unlink()
    sampler = Sampler(found.sensors, 100.0)
    assert [sensor.channel.quantity for sensor in sampler.lost] == ["power_w"]
    sampler.start()
    assert len(sampler.stop()[0]) == 3
