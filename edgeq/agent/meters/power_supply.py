"""A battery's own gauge: Linux Documentation/ABI/testing/sysfs-class-power (uA, uV, uW).

On external power the gauge shows the charger, not the device, so a sample counts only while the
battery says ``Discharging``. Some phones give mA instead of uA, and some turn the sign.
"""

from __future__ import annotations

from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_MILLIAMPERE_BELOW = 10_000.0  # no device that computes draws under 10 mA


def probe(root: Path) -> Found:
    """The first battery that can be read and is discharging."""
    batteries = [
        supply
        for supply in sorted((root / "sys/class/power_supply").glob("*"))
        if text_of(supply / "type") == "Battery" and text_of(supply / "scope") != "Device"
    ]
    reasons = []
    for battery in batteries:
        sensors = _sensors(battery)
        status = text_of(battery / "status")
        if not sensors:
            reasons.append(f"battery {battery.name}: no current or voltage to read")
        elif status != "Discharging":
            said = "on external power ({})".format(status or "status unknown")
            reasons.append(f"battery {battery.name}: {said}")
        else:
            return Found(sensors)
    return Found(reason="; ".join(reasons))


def _sensors(battery: Path) -> tuple[Sensor, ...]:
    status, volts = battery / "status", battery / "voltage_now"
    source = "power_supply " + battery.name
    power, current = battery / "power_now", battery / "current_now"
    if number(text_of(power).encode()) is not None:
        channel = wire.Channel("power_w", source, "battery", total=True)
        return (Sensor(channel, (status, power), each(_power)),)
    amperes = number(text_of(current).encode())
    if amperes is None or number(text_of(volts).encode()) is None:
        return ()
    if 0 < abs(amperes) < _MILLIAMPERE_BELOW:
        source += " (taken as mA, unverified)"
        channel = wire.Channel("power_w", source, "battery", total=True)
        return (Sensor(channel, (status, current, volts), each(_product_milliampere)),)
    channel = wire.Channel("power_w", source, "battery", total=True)
    return (Sensor(channel, (status, current, volts), each(_product)),)


def _power(raw: Raw) -> float | None:
    value = number(raw[1])
    return None if value is None or not _discharging(raw) else abs(value) / 1e6


def _product(raw: Raw) -> float | None:
    current, volts = number(raw[1]), number(raw[2])
    if current is None or volts is None or not _discharging(raw):
        return None
    return abs(current) * volts / 1e12


def _product_milliampere(raw: Raw) -> float | None:
    watts = _product(raw)
    return None if watts is None else watts * 1e3


def _discharging(raw: Raw) -> bool:
    return raw[0].strip() == b"Discharging"
