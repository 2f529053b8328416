"""Texas Instruments' monitors of one rail: INA219, INA226, INA238, INA260 and kin.

Linux Documentation/hwmon/ina2xx.rst and ina238.rst: ``in1_input`` mV, ``curr1_input`` mA,
``power1_input`` uW; drivers/iio/adc/ina2xx-adc.c: ``in_voltage1``, ``in_current3``, ``in_power2``,
each ``_raw`` times ``_scale`` in mV, mA, mW.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_CHIP = re.compile(r"(ina2(09|1[89]|20|26|28|3[0-4]|37|38|60)|ina7[08]0|sq52206|sy24655)(_|$)")
_INPUT = re.compile(r"(^|[^A-Z])(V?IN|INPUT|VBUS|VCC|SUPPLY|USB-?C|DC-?IN|5V-?IN)([^A-Z]|$)")
_QUANTITIES = ("power_w", "voltage_v", "current_a")
_HWMON = (("power1_input", 1e-6), ("in1_input", 1e-3), ("curr1_input", 1e-3))
_IIO = ("in_power2", "in_voltage1", "in_current3")


@dataclass(frozen=True)
class _Chip:
    """``values``: file and unit of power, voltage and current; None where there is none."""

    name: str
    label: str
    values: tuple[tuple[Path, float] | None, ...]
    shunt_ohm: float | None = None


def probe(root: Path) -> Found:
    """Every chip's rail. Of several, the one that is named as the input stands for the whole."""
    chips = [*_hwmon(root), *_iio(root)]
    named = [chip for chip in chips if _INPUT.search(chip.label.upper())]
    whole = chips if len(chips) == 1 else named if len(named) == 1 else []
    sensors: list[Sensor] = []
    for number_, chip in enumerate(chips):
        coverage = _coverage(root, chip)
        label = chip.label or ("VIN" if coverage == "board" else str(number_) if number_ else "")
        source = " ".join(filter(None, (chip.name, label)))
        sensors += _sensors(chip, source, coverage, total=chip in whole)
    return Found(tuple(sensors))


def _coverage(root: Path, chip: _Chip) -> str:
    """AGX Thor's INA238 is at the input of the carrier board; other boards do not say."""
    jetson = "Jetson" in text_of(root / "proc/device-tree/model")
    thor = any(
        text_of(path) == "VDD_CPU_SOC_MSS"
        for path in (root / "sys/class/hwmon").glob("hwmon*/in*_label")
    )
    return "board" if chip.name == "ina238" and (jetson or thor) else "rail"


def _hwmon(root: Path) -> list[_Chip]:
    found: dict[str, _Chip] = {}
    patterns = ("sys/class/hwmon/hwmon*", "sys/bus/i2c/drivers/ina2*/*-*/hwmon/hwmon*")
    for folder in (path for pattern in patterns for path in sorted(root.glob(pattern))):
        name = text_of(folder / "name").lower()
        if folder.name in found or not _CHIP.match(name):
            continue
        values = tuple(
            (folder / file, unit) if (folder / file).exists() else None for file, unit in _HWMON
        )
        if any(values):
            microohm = number(text_of(folder / "shunt_resistor").encode())
            shunt_ohm = microohm / 1e6 if microohm else None
            found[folder.name] = _Chip(name.partition("_")[0], _label(folder), values, shunt_ohm)
    return list(found.values())


def _label(folder: Path) -> str:
    """The rail's name; else what the chip is called after its type; else its address."""
    suffix = text_of(folder / "name").partition("_")[2]
    device = folder / "device"
    address = device.resolve().name if re.search(r"-00", device.resolve().name) else ""
    texts = (text_of(folder / "in1_label"), text_of(device / "of_node/label"))
    return next(filter(None, (*texts, text_of(folder / "label"), suffix, address)), "")


def _iio(root: Path) -> list[_Chip]:
    chips = []
    for folder in sorted((root / "sys/bus/iio/devices").glob("iio:device*")):
        name = text_of(folder / "name").lower()
        if not _CHIP.match(name) or not (folder / "in_voltage1_raw").exists():
            continue
        values = []
        for quantity in _IIO:
            scale = number(text_of(folder / f"{quantity}_scale").encode())
            path = folder / f"{quantity}_raw"
            values.append((path, scale / 1e3) if scale and path.exists() else None)
        label = text_of(folder / "label") or folder.name
        chips.append(_Chip(name.partition("_")[0], label, tuple(values)))
    return chips


def _sensors(chip: _Chip, source: str, coverage: str, *, total: bool) -> list[Sensor]:
    """The chip multiplies by itself; where its product cannot be had, here."""
    _, voltage, current = chip.values
    sensors = []
    for quantity, value in zip(_QUANTITIES, chip.values):
        channel = wire.Channel(
            quantity, source, coverage, total and quantity == "power_w", chip.shunt_ohm
        )
        if value is not None:
            sensors.append(Sensor(channel, (value[0],), each(_scaled(value[1]))))
        elif quantity == "power_w" and voltage and current:
            files = (voltage[0], current[0])
            sensors.append(Sensor(channel, files, each(_product(voltage[1] * current[1]))))
    return sensors


def _scaled(unit: float) -> typing.Callable[[Raw], float | None]:
    def value(raw: Raw) -> float | None:
        found = number(raw[0])
        return None if found is None else found * unit

    return value


def _product(unit: float) -> typing.Callable[[Raw], float | None]:
    def value(raw: Raw) -> float | None:
        volts, amperes = number(raw[0]), number(raw[1])
        return None if volts is None or amperes is None else volts * amperes * unit

    return value
