"""Texas Instruments' INA3221, three rails a chip: what every Jetson measures itself with.

Where: ``/sys/class/hwmon`` and ``/sys/bus/i2c/drivers/ina3221/*/hwmon`` on JetPack 5 and later
(Linux Documentation/hwmon/ina3221.rst: mV, mA, no power file), ``…/ina3221x/*/iio:device*`` on
JetPack 4, whose values may carry their unit. A chip may be seen in several places: it counts once.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_CHANNELS = (1, 2, 3)  # in4-in6 are the shunts' voltages, channel 7 is the sum of the shunts
_NOT_A_RAIL = re.compile(r"(^|[^A-Z])NC([^A-Z]|$)|SUM OF SHUNT")
# NVIDIA Jetson Linux Developer Guide, "Software-Based Power Consumption Modeling": the rail through
# which all of the module (with VDD_MUX: of the board) is fed, of which the others are parts.
_TOTALS = {"VDD_MUX": "board", "VDD_IN": "module", "POM_5V_IN": "module"}
# Modules without such a rail: the rails that stand side by side at the input. AGX Orin's
# VDDQ_VDD2_1V8AO is left out: it shows the 5 V of VIN_SYS_5V0, by which it is fed.
_SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # AGX Thor
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


@dataclass(frozen=True)
class _Rail:
    label: str
    voltage: Path
    current: Path
    shunt_ohm: float | None = None


def probe(root: Path) -> Found:
    """The chips' rails; those that are not connected (``NC``) or switched off are left out."""
    rails: dict[str, _Rail] = {}
    for name, chip in _chips(root).items():
        for rail in _rails(chip):
            taken = rail.label in rails or not rail.label
            label = f"{rail.label or 'channel ' + _digit(rail)} at {name}" if taken else rail.label
            rails[label] = rail
    sensors = [sensor for label, rail in rails.items() for sensor in _sensors(label, rail)]
    if not _TOTALS.keys() & rails.keys():
        sensors += [_sum(labels, rails) for labels in _SUMS if rails.keys() >= set(labels)][:1]
    return Found(tuple(sensors))


def _chips(root: Path) -> dict[str, Path]:
    """Folders with the chips' files, by the name of the hwmon or IIO device."""
    drivers = "sys/bus/i2c/drivers/ina3221*"
    found: dict[str, Path] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if text_of(chip / "name").lower() == "ina3221":
            found[chip.name] = chip if (chip / "in1_input").exists() else chip / "device"
    for chip in sorted(root.glob(f"{drivers}/*-*/hwmon/hwmon*")):
        found.setdefault(chip.name, chip)
    for depth in ("*-*/iio:device*", "*-*/iio_device/iio:device*", "*-*/iio_device", "*-*"):
        for chip in sorted(root.glob(f"{drivers}/{depth}")):
            if (chip / "rail_name_0").exists():
                address = next(part for part in reversed(chip.parts) if "-" in part)
                found.setdefault(address, chip)
    return found


def _rails(chip: Path) -> typing.Iterator[_Rail]:
    jetpack4 = (chip / "rail_name_0").exists()
    for channel in _CHANNELS:
        if jetpack4:
            place = channel - 1
            label = text_of(chip / f"rail_name_{place}")
            files = chip / f"in_voltage{place}_input", chip / f"in_current{place}_input"
        else:
            label = text_of(chip / f"in{channel}_label")
            files = chip / f"in{channel}_input", chip / f"curr{channel}_input"
        off = text_of(chip / f"in{channel}_enable") == "0"
        if off or _NOT_A_RAIL.search(label.upper()) or not all(path.exists() for path in files):
            continue
        microohm = number(text_of(chip / f"shunt{channel}_resistor").encode())
        yield _Rail(label, *files, shunt_ohm=microohm / 1e6 if microohm else None)


def _digit(rail: _Rail) -> str:
    return re.sub(r"\D", "", rail.current.name) or "0"


def _sensors(label: str, rail: _Rail) -> list[Sensor]:
    source = "ina3221 " + label
    total = label in _TOTALS
    coverage = _TOTALS.get(label, "rail")
    return [
        Sensor(
            wire.Channel("power_w", source, coverage, total=total, shunt_ohm=rail.shunt_ohm),
            (rail.voltage, rail.current),
            each(_watts),
        ),
        Sensor(wire.Channel("voltage_v", source, coverage), (rail.voltage,), each(_milli)),
        Sensor(wire.Channel("current_a", source, coverage), (rail.current,), each(_milli)),
    ]


def _sum(labels: typing.Sequence[str], rails: typing.Mapping[str, _Rail]) -> Sensor:
    chosen = [rails[label] for label in labels]
    files = tuple(path for rail in chosen for path in (rail.voltage, rail.current))
    channel = wire.Channel("power_w", "ina3221 " + " + ".join(labels), "module", total=True)
    return Sensor(channel, files, each(_watts))


def _milli(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None else value / 1e3


def _watts(raw: Raw) -> float | None:
    """The sum of volts times amperes, both read one after the other; all of them, or nothing."""
    total = 0.0
    for millivolts, milliamperes in zip(map(number, raw[::2]), map(number, raw[1::2])):
        if millivolts is None or milliamperes is None:
            return None
        total += millivolts * milliamperes / 1e6
    return total
