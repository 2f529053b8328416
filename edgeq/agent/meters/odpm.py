"""Google Pixel's on-device power monitor: energy counters of the rails of its two power chips.

Its driver (drivers/iio/power/odpm.c) prints ``t=<ms>`` and then, line by line,
``CH3(T=358356)[S2M_VDD_CPUCL2], 761330``: rail and microwatt-seconds since it began. The chip is
asked at most every 20 ms, and ``t`` says when that was. ``enabled_rails`` says what a rail feeds.
"""

from __future__ import annotations

import functools
import re
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, text_of

_TIME = re.compile(rb"^\s*t\s*=\s*(\d+)", re.MULTILINE)
_ENERGY = re.compile(rb"CH(\d+)\s*\([^)\r\n]*\)\s*\[([^\]\r\n]+)\]\s*,\s*(\d+)")
_FEEDS = re.compile(r"CH(\d+)\s*\[([^\]]+)\]\s*:\s*(.*)")
# One rail for each cluster of cores. No rail is a part of another.
_CORES = re.compile(r"CPU", re.IGNORECASE)


def probe(root: Path) -> Found:
    """Every rail's counter, and the sum of those of the CPU's cores, which is a part too."""
    sensors: list[Sensor] = []
    for device in sorted((root / "sys/bus/iio/devices").glob("iio:device*")):
        path = device / "energy_value"
        rails = _counters(text_of(path).encode())[1]
        if not rails:
            continue
        feeds = {name: what.strip() for _, name, what in _FEEDS.findall(_enabled(device))}
        cores = [name for name in rails if _CORES.search(feeds.get(name, name))]
        sensors += [_sensor(path, f"odpm {name}", (name,)) for name in rails]
        if cores:
            source = "odpm CPU: " + " + ".join(cores)
            sensors.append(_sensor(path, source, tuple(cores), total=True))
    return Found(tuple(sensors))


def _enabled(device: Path) -> str:
    return text_of(device / "enabled_rails")


def _sensor(path: Path, source: str, names: tuple[str, ...], *, total: bool = False) -> Sensor:
    channel = wire.Channel("energy_j", source, "rail", total=total)
    return Sensor(channel, (path,), functools.partial(_joules, names), clock=_seconds)


def _seconds(raw: Raw) -> float | None:
    milliseconds = _counters(raw[0])[0]
    return None if milliseconds is None else milliseconds / 1e3


def _joules(names: typing.Sequence[str], rows: typing.Sequence[Raw]) -> list[float | None]:
    """Since the first reading."""
    totals = []
    for raw in rows:
        counters = _counters(raw[0])[1]
        known = all(name in counters for name in names)
        totals.append(sum(counters[name] for name in names) if known else None)
    first = next((total for total in totals if total is not None), 0)
    return [None if total is None else (total - first) / 1e6 for total in totals]


@functools.lru_cache(maxsize=8)
def _counters(text: bytes) -> tuple[int | None, dict[str, int]]:
    """The moment in ms and each rail's microwatt-seconds; many sensors share a reading."""
    time = _TIME.search(text)
    rails = {name.decode("utf-8", "replace"): int(uws) for _, name, uws in _ENERGY.findall(text)}
    return (int(time.group(1)) if time else None), rails
