"""Every power meter on a tree as its kernel, and its tool, show it."""

import shutil
from pathlib import Path

import pytest

from edgeq.agent import meters
from edgeq.agent.meters import odpm, pmic
from edgeq.agent.ports import number

BOARDS = Path(__file__).parents[1] / "data" / "sysfs"


@pytest.fixture
def copy(tmp_path):
    """A board's tree that may be changed."""

    def make(board):
        shutil.copytree(BOARDS / board, tmp_path / board)
        return tmp_path / board

    return make


def raw(sensor):
    return (sensor.slow(),) if sensor.slow else tuple(path.read_bytes() for path in sensor.files)


def watts(root):
    """Power of each source."""
    return {
        sensor.channel.source: sensor.parse([raw(sensor)])[0]
        for sensor in meters.find(root).sensors
        if sensor.channel.quantity == "power_w"
    }


def wholes(root):
    """Sources that stand for a whole, with what they cover."""
    return {
        sensor.channel.source: sensor.channel.coverage
        for sensor in meters.find(root).sensors
        if sensor.channel.total
    }


def test_an_agx_orin_has_no_input_rail_so_three_rails_are_added_and_the_memorys_is_not():
    total = "ina3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert wholes(BOARDS / "jetson-agx-orin") == {total: "module"}
    found = watts(BOARDS / "jetson-agx-orin")
    assert found[total] == pytest.approx(19.568 * 0.164 + 19.568 * 0.041 + 4.968 * 0.980)
    assert found["ina3221 VDDQ_VDD2_1V8AO"] == pytest.approx(4.968 * 0.080)


def test_a_chip_that_is_seen_by_class_and_by_driver_counts_once():
    sources = [s.channel.source for s in meters.find(BOARDS / "jetson-agx-orin").sensors]
    assert sources.count("ina3221 VDD_GPU_SOC") == 3  # power, voltage and current
    assert len(sources) == 4 * 3 + 1


def test_a_sum_with_a_rail_that_does_not_answer_is_no_sum(copy):
    board = copy("jetson-agx-orin")
    (board / "sys/class/hwmon/hwmon3/curr2_input").write_text("")
    assert watts(board)["ina3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"] is None


def test_rails_that_are_not_all_there_have_no_sum(copy):
    board = copy("jetson-agx-orin")
    (board / "sys/class/hwmon/hwmon3/in3_label").write_text("NC\n")
    shutil.rmtree(board / "sys/bus")
    assert wholes(board) == {}


def test_an_agx_xavier_adds_its_six_rails_of_two_chips():
    total = "ina3221 GPU + CPU + SOC + CV + VDDRQ + SYS5V"
    assert wholes(BOARDS / "jetson-agx-xavier") == {total: "module"}
    millis = (40, 80, 120, 8, 40, 160)
    assert watts(BOARDS / "jetson-agx-xavier")[total] == pytest.approx(19e-3 * sum(millis))


def test_a_thor_measures_the_board_beside_the_module_and_a_sleeping_gpu_below_nothing():
    assert wholes(BOARDS / "jetson-agx-thor") == {
        "ina238 VIN": "board",
        "ina3221 VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0": "module",
    }
    found = watts(BOARDS / "jetson-agx-thor")
    assert found["ina238 VIN"] == pytest.approx(23.14216)
    assert found["ina3221 VDD_GPU"] == pytest.approx(-0.3912)


def test_a_tx2_on_jetpack_4_has_two_chips_and_one_of_them_the_input():
    assert wholes(BOARDS / "jetson-tx2-jp4") == {"ina3221 VDD_IN": "module"}
    found = watts(BOARDS / "jetson-tx2-jp4")
    assert found["ina3221 VDD_IN"] == pytest.approx(19.080 * 0.180)
    assert found["ina3221 VDD_SYS_GPU"] == pytest.approx(19.080 * 0.008)


def test_rails_without_a_label_are_told_apart_by_their_chip(copy):
    board = copy("jetson-agx-xavier")
    for label in board.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/*/in1_label"):
        label.unlink()
    found = watts(board)
    assert found["ina3221 channel 1 at hwmon4"] == pytest.approx(19 * 0.040)
    assert found["ina3221 channel 1 at hwmon5"] == pytest.approx(19 * 0.008)
    assert wholes(board) == {}


@pytest.mark.parametrize("label", ["NC", "NC_1", "nc", "VDD_NC", "sum of shunt voltages"])
def test_labels_of_what_is_no_rail(copy, label):
    board = copy("jetson-orin-nano")
    (board / "sys/class/hwmon/hwmon1/in2_label").write_text(f"{label}\r\n")
    assert set(watts(board)) == {"ina3221 VDD_IN", "ina3221 VDD_SOC"}


def test_a_label_that_only_sounds_like_it_is_a_rail(copy):
    board = copy("jetson-orin-nano")
    (board / "sys/class/hwmon/hwmon1/in2_label").write_text("VDD_SYNC\n")
    assert "ina3221 VDD_SYNC" in watts(board)


def test_the_shunt_is_told_for_the_sake_of_the_accuracy():
    found = meters.find(BOARDS / "jetson-agx-orin").sensors
    shunts = {s.channel.source: s.channel.shunt_ohm for s in found if s.channel.shunt_ohm}
    assert shunts["ina3221 VDD_CPU_CV"] == 0.002


@pytest.mark.parametrize(
    ("board", "source", "expected"),
    [
        ("pi4-ina260", "ina260", 4.32),
        ("bone-ina226-iio", "ina226 iio:device0", 131 * 12.5e-3),
        ("pi4-ina219", "ina219 usb-c", 3.128),
    ],
)
def test_a_monitor_of_one_rail_stands_for_that_rail(board, source, expected):
    assert wholes(BOARDS / board) == {source: "rail"}
    assert watts(BOARDS / board)[source] == pytest.approx(expected)


def test_of_many_monitors_none_is_the_whole_unless_it_is_named_as_the_input(copy):
    board = copy("zcu102-ina226")
    assert wholes(board) == {}
    assert set(watts(board)) == {"ina226 u76", "ina226 u77"}
    (board / "sys/class/hwmon/hwmon2/in1_label").write_text("VIN\n")
    assert wholes(board) == {"ina226 VIN": "rail"}


def test_a_monitor_without_a_power_file_is_volts_times_amperes(copy):
    board = copy("pi4-ina260")
    (board / "sys/class/hwmon/hwmon3/power1_input").unlink()
    assert watts(board)["ina260"] == pytest.approx(5.085 * 0.850)


def test_the_pi_5_adds_twelve_rails_and_says_what_it_leaves_out():
    ((source, value),) = watts(BOARDS / "pi5").items()
    assert value == pytest.approx(2.282210431627175)
    assert source.startswith("pmic_read_adc, sum of 12 rails, without what is fed from 5 V (USB")
    assert wholes(BOARDS / "pi5") == {source: "rail"}


def test_a_pi_5_reading_that_lacks_a_rail_is_none():
    (sensor,) = meters.find(BOARDS / "pi5").sensors
    text = (BOARDS / "pi5/pmic_read_adc.txt").read_bytes()
    short = b"\n".join(line for line in text.splitlines() if b"HDMI_V" not in line)
    windows = text.replace(b"\n", b"\r\n")
    spoiled = text.replace(b"=1.11625000A", b"=nanA")
    assert sensor.parse([(text,), (windows,)]) == [pytest.approx(2.28221)] * 2
    assert sensor.parse([(short,), (spoiled,), (b"",)]) == [None, None, None]


def test_external_voltage_and_battery_are_no_rails_for_they_have_no_current():
    rails = pmic._rails(b"  A_A current(0)=2A\n A_V volt(1)=3V\n EXT5V_V volt(24)=5.1V\n")
    assert rails == {"A": 6.0}


def test_a_pi_4_says_that_it_has_no_sensor():
    found = meters.find(BOARDS / "pi4")
    assert found.sensors == ()
    assert found.reason == "Raspberry Pi 4 Model B Rev 1.4 has no power sensor of its own"


def test_a_pi_5_whose_firmware_does_not_answer_says_so(copy):
    board = copy("pi5")
    (board / "usr/bin/vcgencmd").write_text("#!/bin/sh\nexit 255\n")
    assert meters.find(board).reason == "PMIC: vcgencmd pmic_read_adc: no answer"


def test_a_battery_under_a_charger_is_no_meter_even_when_it_says_discharging():
    found = meters.find(BOARDS / "phone-on-usb")
    assert found.sensors == ()
    assert found.reason == "battery battery: on external power (usb is online)"


def test_a_charger_that_is_plugged_in_meanwhile_spoils_the_sample():
    (sensor,) = meters.find(BOARDS / "phone-millivolts").sensors
    rows = [
        (b"Discharging\r\n", b"-412\n", b"3865\n", b"0\n"),
        (b"Discharging\n", b"412\n", b"3865\n", b"1\n"),
        (b"Not charging\n", b"-412\n", b"3865\n", b"0\n"),
        (b"Discharging\n", b"", b"3865\n", b"0\n"),
    ]
    assert sensor.parse(rows) == [pytest.approx(1.59238), None, None, None]
    assert sensor.channel.source == "power_supply battery (taken as mA, taken as mV, unverified)"


def test_two_batteries_are_added_and_a_mouses_is_not_theirs():
    assert watts(BOARDS / "laptop-two-batteries") == {"power_supply BAT0 + BAT1": 8.25}


def test_a_pixel_counts_energy_rail_by_rail_and_its_cores_together():
    found = {s.channel.source: s for s in meters.find(BOARDS / "pixel-6").sensors}
    cores = "odpm CPU: S4M_VDD_CPUCL0 + S3M_VDD_CPUCL1 + S2M_VDD_CPUCL2"
    assert set(found) == {
        "odpm VSYS_PWR_MODEM", "odpm S4M_VDD_CPUCL0", "odpm S3M_VDD_CPUCL1",
        "odpm S2M_VDD_CPUCL2", "odpm S5M_VDD_INT", "odpm VSYS_PWR_RFFE", "odpm S2S_VDD_G3D", cores,
    }  # fmt: skip
    assert wholes(BOARDS / "pixel-6") == {cores: "rail"}
    first = raw(found[cores])[0]
    later = first.replace(b"761330", b"1761330").replace(b"t=359356", b"t=359856")
    assert found[cores].parse([(first,), (b"",), (later,)]) == [0.0, None, 1.0]
    assert found["odpm S2M_VDD_CPUCL2"].parse([(first,), (later,)]) == [0.0, 1.0]
    assert found[cores].clock((later,)) == pytest.approx(359.856)
    assert found[cores].clock((b"",)) is None


def test_a_pixels_text_is_read_with_any_line_end_and_spacing():
    text = b" t=12\r\nCH0(T=3)[VSYS_PWR_A], 5\r\n CH10( T=3 )[B_C] ,  70\r\n"
    assert odpm._counters(text) == (12, {"VSYS_PWR_A": 5, "B_C": 70})


def test_rapl_without_a_range_knows_nothing_after_its_counter_began_again(copy):
    board = copy("x86-rapl")
    (board / "sys/class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    package = meters.find(board).sensors[0]
    assert package.parse([(b"5000000",), (b"7000000",), (b"10",), (b"99",)]) == [0, 2, None, None]


def test_the_memory_mapped_view_of_a_package_is_not_another_package(copy):
    board = copy("x86-rapl")
    shutil.copytree(
        board / "sys/class/powercap/intel-rapl:0", board / "sys/class/powercap/intel-rapl-mmio:0"
    )
    assert [s.channel.source for s in meters.find(board).sensors] == ["rapl package-0", "rapl psys"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"5032\n", 5032.0),
        (b"  5032 mV\r\n", 5032.0),
        (b"5032mV\0", 5032.0),
        (b"-12", -12.0),
        (b"", None),
        (b"nan", None),
        (b"inf", None),
        (b"1_0", None),
        (b"0x50", None),
        (b"N/A", None),
        (b"18446744073709551615", None),
    ],
)
def test_a_number_is_what_a_file_begins_with(text, value):
    assert number(text) == value


def test_a_folder_that_may_not_be_looked_into_is_a_reason_and_hides_no_other_meter(monkeypatch):
    def refuse(_root):
        raise PermissionError(13, "Permission denied", "/sys/bus/iio/devices/iio:device0")

    monkeypatch.setattr(odpm, "probe", refuse)
    assert wholes(BOARDS / "jetson-orin-nano") == {"ina3221 VDD_IN": "module"}
    assert "odpm: /sys/bus/iio/devices/iio:device0: Permission denied" in (
        meters.find(BOARDS / "pi4").reason
    )
