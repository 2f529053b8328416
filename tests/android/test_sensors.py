"""A phone's battery, zones and clocks: what counts, in which unit, and when it says nothing."""

import pytest

from edgeq.native import sensors
from edgeq.native.sampler import Readings, parse_dump
from edgeq.native.sensors import Battery

HOME = "/sys/class/power_supply/battery"
DUMP = """\
Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  Max charging current: 0
  status: {status}
  health: 2
  present: true
  level: 84
  voltage: 4063
  temperature: 326
  current now: -321
"""


def supply(**files):
    known = {"type": "Battery", "status": "Discharging", "current_now": "-500000",
             "voltage_now": "4000000", **files}  # fmt: skip
    return {f"{HOME}/{key}": value for key, value in known.items() if value is not None}


def watts(seen, values, dumped=None):
    gauge = sensors.battery(seen, dumped or {})
    assert isinstance(gauge, Battery), gauge
    rows = tuple((100 + n / 5, values) for n in range(20))
    found = sensors.meter(gauge, Readings(paths=gauge.paths, rows=rows))
    assert not isinstance(found, str), found
    return gauge, found


@pytest.mark.parametrize(
    ("current", "voltage", "doubt"),
    [
        ("-500000", "4000000", ""),
        ("500000", "4000000", ""),
        ("-500", "4000000", "taken as mA"),
        ("500", "4000", "taken as mA, taken as mV"),
        ("-500000", "4000", "taken as mV"),
    ],
)
def test_every_unit_and_sign_gives_the_same_watts(current, voltage, doubt):
    seen = supply(current_now=current, voltage_now=voltage)
    gauge, found = watts(seen, ("Discharging", current, voltage))
    assert found.values == pytest.approx([2.0] * 20)
    assert gauge.doubt == doubt
    assert ("unverified" in gauge.source) == bool(doubt)
    assert found.coverage == "battery"


def test_power_now_is_taken_where_it_is():
    seen = supply(power_now="1500000")
    _, found = watts(seen, ("Discharging", "1500000"))
    assert found.values == pytest.approx([1.5] * 20)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", ""])
def test_a_battery_that_is_not_discharging_says_nothing(status):
    found = sensors.battery(supply(status=status), {})
    assert "on external power" in found
    assert "invalid" in found


def test_a_cable_makes_the_readings_invalid():
    usb = {"/sys/class/power_supply/usb/type": "USB", "/sys/class/power_supply/usb/online": "1"}
    assert "USB is online" in sensors.battery(supply() | usb, {})
    dumped = parse_dump(DUMP.format(usb="true", status=3))
    assert "USB" in sensors.battery(supply(), dumped)
    assert "USB" in sensors.battery({}, dumped)


def test_a_cable_that_is_plugged_in_meanwhile_is_noticed():
    usb = {"/sys/class/power_supply/usb/type": "USB", "/sys/class/power_supply/usb/online": "0"}
    gauge = sensors.battery(supply() | usb, {})
    rows = [(100 + n / 5, ("Discharging", "-500000", "4000000", "0")) for n in range(20)]
    rows[15] = (103.0, ("Discharging", "-500000", "4000000", "1"))
    found = sensors.meter(gauge, Readings(paths=gauge.paths, rows=tuple(rows)))
    assert "charger was connected during the run" in found
    rows[15] = (103.0, ("Charging", "500000", "4000000", "0"))
    found = sensors.meter(gauge, Readings(paths=gauge.paths, rows=tuple(rows)))
    assert "Charging during the run" in found


def test_a_gauge_that_is_closed_to_adb_is_told():
    assert "may not read its current" in sensors.battery(supply(current_now=None), {})
    dumped = parse_dump(DUMP.format(usb="false", status=3))
    assert "dumpsys battery gives no power" in sensors.battery({}, dumped)
    assert "on external power (Charging)" in sensors.battery(
        {}, parse_dump(DUMP.format(usb="false", status=2))
    )
    assert sensors.battery({}, {}) == "no battery that adb's user can see"


def test_a_mouse_has_a_battery_too():
    assert "no battery" in sensors.battery(supply(scope="Device"), {})


def test_zones_near_the_processor_come_first():
    seen = {
        f"/sys/class/thermal/thermal_zone{n}/temp": f"{value} {name}"
        for n, (value, name) in enumerate(
            [("31000", "battery"), ("45600", "cpu-0-0"), ("47", "soc_max"), ("-273200", "gpu0"),
             ("0", "cpu-off"), ("403", "skin-therm"), ("30000", "charger"), ("1", "modem")]
        )
    }  # fmt: skip
    assert list(sensors.zones(seen).values()) == ["cpu-0-0", "soc_max", "skin-therm"]
    only = {"/sys/class/thermal/thermal_zone0/temp": "31000 battery"}
    assert list(sensors.zones(only).values()) == ["battery"]


@pytest.mark.parametrize(
    ("text", "celsius"),
    [("45600", 45.6), ("47", 47), ("403", 40.3), ("-256", None), ("0", None), ("x", None),
     ("-273200", None), ("", None)],
)  # fmt: skip
def test_temperatures_come_in_several_units(text, celsius):
    assert sensors.celsius(text) == celsius
