"""Texas Instruments' current monitors: INA219/226/260 and kin (one rail), INA3221 (three).

Where: ``/sys/class/hwmon`` on current kernels, ``/sys/bus/i2c/drivers/ina3221x/*/iio:device*`` on
JetPack 4. Units: Linux Documentation/hwmon/sysfs-interface (mV, mA, uW); JetPack 4 says mW, and may
append the unit.
"""

from __future__ import annotations

from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_ONE_RAIL = ("ina219", "ina220", "ina226", "ina230", "ina231", "ina232", "ina238", "ina260")
_TOTALS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0_TOTAL")
_INA3221_RAILS = (1, 2, 3)  # 4-6 are the shunts' voltages, 7 the sum of the shunts


def probe(root: Path) -> Found:
    """The chips' rails. INA3221 channels that are not connected (``NC``) are left out."""
    sensors: list[Sensor] = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = text_of(chip / "name")
        if name in _ONE_RAIL:
            sensors += _one_rail(chip, name)
        elif name == "ina3221":
            sensors += _three_rails(chip)
    for folder in _jetpack4(root):
        sensors += _jetpack4_rails(folder)
    return Found(tuple(sensors))


def _one_rail(chip: Path, name: str) -> list[Sensor]:
    """INA2xx: the chip multiplies by itself."""
    label = text_of(chip / "in1_label") or text_of(chip / "device/of_node/label")
    address = (chip / "device").resolve().name if (chip / "device").exists() else ""
    source = " ".join(filter(None, (name, label or address)))
    files = [
        ("power_w", chip / "power1_input", _micro),
        ("voltage_v", chip / "in1_input", _milli),
        ("current_a", chip / "curr1_input", _milli),
    ]
    return [
        Sensor(
            wire.Channel(quantity, source, "rail", total=quantity == "power_w"),
            (path,),
            each(value),
        )
        for quantity, path, value in files
        if path.exists()
    ]


def _three_rails(chip: Path) -> list[Sensor]:
    """INA3221 has no power register: volts times amperes, both read one after the other."""
    sensors: list[Sensor] = []
    for rail in _INA3221_RAILS:
        label = text_of(chip / f"in{rail}_label")
        voltage, current = (chip / part.format(rail) for part in ("in{}_input", "curr{}_input"))
        if "NC" in label.upper().split("_") or not voltage.exists() or not current.exists():
            continue
        sensors += _rail(label or f"channel {rail}", voltage, current)
    return sensors


def _rail(label: str, voltage: Path, current: Path) -> list[Sensor]:
    source = "ina3221 " + label
    total = label in _TOTALS
    coverage = "module" if total else "rail"
    return [
        Sensor(
            wire.Channel("power_w", source, coverage, total=total),
            (voltage, current),
            each(_product),
        ),
        Sensor(wire.Channel("voltage_v", source, coverage), (voltage,), each(_milli)),
        Sensor(wire.Channel("current_a", source, coverage), (current,), each(_milli)),
    ]


def _jetpack4(root: Path) -> list[Path]:
    drivers = root / "sys/bus/i2c/drivers"
    found = {
        folder.resolve(): folder
        for driver in ("ina3221x", "ina3221")
        for depth in ("*-*/iio:device*", "*-*/iio_device/iio:device*", "*-*")
        for folder in drivers.glob(f"{driver}/{depth}")
        if (folder / "rail_name_0").exists()
    }
    return sorted(found.values())


def _jetpack4_rails(folder: Path) -> list[Sensor]:
    sensors: list[Sensor] = []
    for rail in range(3):
        label = text_of(folder / f"rail_name_{rail}")
        voltage = folder / f"in_voltage{rail}_input"
        current = folder / f"in_current{rail}_input"
        if label and "NC" not in label.upper().split("_") and voltage.exists() and current.exists():
            sensors += _rail(label, voltage, current)
    return sensors


def _milli(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None else value / 1e3


def _micro(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None else value / 1e6


def _product(raw: Raw) -> float | None:
    millivolts, milliamperes = number(raw[0]), number(raw[1])
    if millivolts is None or milliamperes is None:
        return None
    return millivolts * milliamperes / 1e6
