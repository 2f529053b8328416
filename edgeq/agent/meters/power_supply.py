"""A battery's own gauge: Linux Documentation/ABI/testing/sysfs-class-power (uA, uV, uW).

On external power the gauge shows the charger, not the device, so a sample counts only while the
battery says ``Discharging`` and no charger is online. Some phones give mA and mV, some turn the
sign: the value counts without it.
"""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_MILLIAMPERE_BELOW = 10_000.0  # no device that computes draws under 10 mA
_MILLIVOLT_BELOW = 100_000.0  # no battery has under 0.1 V, none over 100 V
_OFFLINE = (b"", b"0")


@dataclass(frozen=True)
class _Gauge:
    """A battery's files after its status, and what their product in watts is to be divided by."""

    name: str
    status: Path
    files: tuple[Path, ...]
    unit: float
    doubt: str = ""


def probe(root: Path) -> Found:
    """All batteries that can be read, added up, while nothing else feeds the device."""
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    own = [supply for supply in supplies if text_of(supply / "scope") != "Device"]
    batteries = [supply for supply in own if _is_battery(supply)]
    chargers = [supply / "online" for supply in own if not _is_battery(supply)]
    chargers = [path for path in chargers if text_of(path)]
    gauges = [gauge for gauge in map(_gauge, batteries) if gauge is not None]
    if not gauges:
        words = "battery {}: no current or voltage to read"
        return Found(reason="; ".join(words.format(battery.name) for battery in batteries))
    states = [text_of(gauge.status) for gauge in gauges]
    fed = next((path.parent.name for path in chargers if text_of(path) not in ("", "0")), "")
    names = " + ".join(gauge.name for gauge in gauges)
    if fed or not any(map(_discharging, states)):
        said = next((state for state in states if not _discharging(state)), f"{fed} is online")
        return Found(reason=f"battery {names}: on external power ({said or 'status unknown'})")
    doubts = sorted({gauge.doubt for gauge in gauges} - {""})
    source = f"power_supply {names}" + (f" ({', '.join(doubts)}, unverified)" if doubts else "")
    files = (*(path for gauge in gauges for path in (gauge.status, *gauge.files)), *chargers)
    channel = wire.Channel("power_w", source, "battery", total=True)
    watts = functools.partial(_watts, gauges)
    return Found((Sensor(channel, files, each(watts)),))


def _is_battery(supply: Path) -> bool:
    kind = text_of(supply / "type").lower()
    return kind == "battery" or (not kind and supply.name.lower().startswith(("bat", "cw2")))


def _gauge(battery: Path) -> _Gauge | None:
    power, current, volts = (battery / f"{what}_now" for what in ("power", "current", "voltage"))
    if text_of(battery / "present") == "0":
        return None
    if _value(power) is not None:
        return _Gauge(battery.name, battery / "status", (power,), 1e6)
    amperes, voltage = _value(current), _value(volts)
    if amperes is None or voltage is None or voltage <= 0:
        return None
    doubts = []
    milliamperes = 0 < abs(amperes) < _MILLIAMPERE_BELOW
    millivolts = voltage < _MILLIVOLT_BELOW
    if milliamperes:
        doubts.append("taken as mA")
    if millivolts:
        doubts.append("taken as mV")
    unit = (1e3 if milliamperes else 1e6) * (1e3 if millivolts else 1e6)
    return _Gauge(battery.name, battery / "status", (current, volts), unit, ", ".join(doubts))


def _watts(gauges: typing.Sequence[_Gauge], raw: Raw) -> float | None:
    """What the batteries give that are discharging; None when none is, or a charger is online."""
    total, place, found = 0.0, 0, False
    for gauge in gauges:
        status, *values = raw[place : place + 1 + len(gauge.files)]
        place += 1 + len(gauge.files)
        if not _discharging(status.decode("ascii", "replace").strip()):
            continue
        product = 1.0
        for value in map(number, values):
            if value is None:
                return None
            product *= abs(value)
        total += product / gauge.unit
        found = True
    fed = any(value.strip() not in _OFFLINE for value in raw[place:])
    return total if found and not fed else None


def _value(path: Path) -> float | None:
    return number(text_of(path).encode())


def _discharging(status: str) -> bool:
    return status.strip().lower() == "discharging"
