"""The processor's temperature. ``root`` is "/" but for recorded trees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent import cpufreq, throttle, vcgencmd
from edgeq.agent.ports import Found, Raw, Sensor, each, number, numbered, text_of

# Zones of the processor: cpu-thermal, CPU-therm, cpu0-gold-usr, soc_thermal, tj-thermal,
# x86_pkg_temp, and what Exynos, Tensor and MediaTek call it. On Qualcomm "soc" alone is how full
# the battery is, and "usb" or "pmic" zones are not the processor's.
_CPU_ZONE = re.compile(
    r"cpu|soc(?!$)|soc-?thermal|pkg|package|^tj|core|^(big|mid|little)$|cluster|tsens|exynos",
    re.IGNORECASE,
)
_OTHER_ZONE = re.compile(r"batt|pmic|charger|usb|wlan|wifi|modem|skin|gpu|ddr", re.IGNORECASE)
_BEST_ZONE = re.compile(r"cpu|pkg|package|^big$", re.IGNORECASE)
_CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "scpi_sensors")
_MOST_ZONES = 4
_OFFLINE_C = -200.0  # a Jetson's sensor that is off says -256 degrees
_OFFLINE_PLAIN = -256
_DEAD_C = 180.0
# Old Qualcomm kernels give degrees, or tenths of them, against the kernel's own rule.
_PLAIN_DEGREES = 200
_TENTHS_ZONE = re.compile(r"^tsens|-usr$", re.IGNORECASE)
_MOST_TENTHS = 2000

_FIRMWARE = wire.Channel("temperature_c", "vcgencmd measure_temp", total=True)


@dataclass(frozen=True)
class Heat:
    """``celsius``: the warmest of the processor's sensors, None where there is none: ``reason``."""

    celsius: float | None
    reason: str = ""


def temperatures(root: Path) -> Found:
    """The processor's zones, else its hwmon chip, else any zone; the first stands for the whole."""
    chosen = _processor(root)
    if not chosen:
        zones = [zone for zone in _zones(root) if _now(zone) is not None]
        chosen = [zone for zone in zones if not _OTHER_ZONE.search(zone[0])]
        firmware = vcgencmd.sensor(root, _FIRMWARE, 1.0, "measure_temp") if not chosen else None
        if firmware is not None:
            return Found((firmware,))
        if not chosen:
            others = ", ".join(name for name, _ in zones[:_MOST_ZONES])
            only = f" of the processor, only {others}," if others else ""
            return Found(reason=f"no thermal zone{only} and no CPU temperature chip in sysfs")
    return Found(
        tuple(
            Sensor(
                wire.Channel("temperature_c", name, total=position == 0),
                (path,),
                each(_tenths if _TENTHS_ZONE.search(name) else _celsius),
            )
            for position, (name, path) in enumerate(chosen[:_MOST_ZONES])
        )
    )


def now(root: Path) -> Heat:
    """How warm the processor is."""
    found = temperatures(root)
    # Where no zone says that it is the processor's, others may be of a part that is always warm.
    sensors = found.sensors if _processor(root) else found.sensors[:1]
    values = [sensor.parse([_raw(sensor)])[0] for sensor in sensors]
    known = [value for value in values if value is not None]
    if known:
        return Heat(max(known))
    return Heat(None, found.reason or "the temperature sensor cannot be read")


def throttled(root: Path) -> tuple[str, ...] | None:
    """See ``throttle.read``."""
    return throttle.read(root).words


raspberry_flags = throttle.raspberry_flags
frequencies = cpufreq.frequencies


def _processor(root: Path) -> list[tuple[str, Path]]:
    zones = [
        zone
        for zone in _zones(root)
        if _CPU_ZONE.search(zone[0]) and not _OTHER_ZONE.search(zone[0]) and _now(zone) is not None
    ]
    # Sorting is stable: the CPU's own come first, else the order is the kernel's.
    best = sorted(zones, key=lambda zone: not _BEST_ZONE.search(zone[0]))
    return best or [chip for chip in _chips(root) if _now(chip) is not None]


def _zones(root: Path) -> list[tuple[str, Path]]:
    return [
        ((text_of(zone / "type") or zone.name)[:64], zone / "temp")
        for zone in numbered(root / "sys/class/thermal", "thermal_zone")
    ]


def _chips(root: Path) -> list[tuple[str, Path]]:
    """Processors' chips in hwmon, by their name; their number means nothing."""
    return [
        (name, chip / "temp1_input")
        for chip in numbered(root / "sys/class/hwmon", "hwmon")
        for name in [text_of(chip / "name")]
        if name in _CPU_CHIPS
    ]


def _raw(sensor: Sensor) -> Raw:
    return (sensor.slow(),) if sensor.slow else tuple(map(_bytes, sensor.files))


def _now(named: tuple[str, Path]) -> float | None:
    name, path = named
    raw = (_bytes(path),)
    return _tenths(raw) if _TENTHS_ZONE.search(name) else _celsius(raw)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # EAGAIN or EIO: a sensor that is asleep
        return b""


def _celsius(raw: Raw) -> float | None:
    value = number(raw[0])
    if value is None:
        return None
    degrees = value if abs(value) <= _PLAIN_DEGREES else value / 1000.0
    offline = value == _OFFLINE_PLAIN or not _OFFLINE_C < degrees < _DEAD_C
    return None if offline else degrees


def _tenths(raw: Raw) -> float | None:
    value = number(raw[0])
    if value is not None and _PLAIN_DEGREES < abs(value) < _MOST_TENTHS:
        return value / 10.0
    return _celsius(raw)
