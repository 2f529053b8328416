"""A phone's files under /sys, and what their readings mean.

The battery's gauge counts only while nothing else feeds the phone: on a cable it shows the
charger (developer.android.com, BatteryManager). Phones give uA or mA, of either sign.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.core.meter import MIN_SAMPLES, Meter
from edgeq.native.sampler import Readings

_SUPPLY = re.compile(r"/sys/class/power_supply/([^/]+)/(\w+)")
_MILLIAMPERE_BELOW = 10_000.0  # no phone that computes draws under 10 mA
_MILLIVOLT_BELOW = 100_000.0  # no battery has under 0.1 V, none over 100 V
# Zones near what computes, by the names that chip makers give; the rest is charger, modem, camera.
_NEAR = re.compile(r"cpu|soc|cluster|big|little|mid|apc|gpu|npu|tpu|tsens|skin", re.IGNORECASE)
_MOST_ZONES = 4
# A sensor that is off often shows -256 or -40.
_COLDEST_C, _HOTTEST_C = -20.0, 150.0
_MILLI_ABOVE, _DECI_ABOVE = 1000.0, 150.0
# dumpsys battery: BatteryManager's BATTERY_STATUS_DISCHARGING, BATTERY_STATUS_NOT_CHARGING.
_DUMPED_STATUS = {"2": "Charging", "3": "Discharging", "4": "Not charging", "5": "Full"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """A gauge that can be read. ``watts_per``: what its values' product is to be multiplied by."""

    name: str
    files: tuple[str, ...]
    status: str
    chargers: tuple[str, ...]
    watts_per: float
    doubt: str = ""

    @property
    def source(self) -> str:
        return f"power_supply {self.name}" + (f" ({self.doubt}, unverified)" if self.doubt else "")

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.status, *self.files, *self.chargers)


def battery(seen: Mapping[str, str], dumped: Mapping[str, str]) -> Battery | str:
    """The gauge, or why its readings would say nothing.

    Args:
        seen: Files with their values, as ``sampler.survey`` gives them.
        dumped: ``dumpsys battery``, which tells of chargers where files are closed.
    """
    supplies: dict[str, dict[str, str]] = {}
    for path, value in seen.items():
        if found := _SUPPLY.fullmatch(path):
            supplies.setdefault(found[1], {})[found[2]] = value
    own = {name: files for name, files in supplies.items() if files.get("scope") != "Device"}
    batteries = {name: files for name, files in own.items() if _is_battery(name, files)}
    fed = _fed(own, batteries, dumped)
    if fed:
        return f"battery: on external power ({fed}), which makes its readings invalid"
    for name, files in sorted(batteries.items()):
        if gauge := _gauge(name, files, [one for one in own if one not in batteries], own):
            return gauge
    if batteries:
        return f"battery {min(batteries)}: adb's user may not read its current and voltage"
    if dumped:
        return "battery: adb's user may not read its gauge, and dumpsys battery gives no power"
    return "no battery that adb's user can see"


def zones(seen: Mapping[str, str]) -> dict[str, str]:
    """Up to four temperature files, nearest to what computes first, with their names."""
    found = {}
    for path, value in seen.items():
        if path.startswith("/sys/class/thermal/"):
            text, _, name = value.partition(" ")
            if celsius(text) is not None:
                found[path] = name or "unnamed"
    near = {path: name for path, name in found.items() if _NEAR.search(name)}
    return dict(list((near or found).items())[:_MOST_ZONES])


def frequencies(seen: Mapping[str, str]) -> tuple[str, ...]:
    """Files with a core's clock."""
    return tuple(path for path in seen if path.endswith("scaling_cur_freq"))


def celsius(text: str) -> float | None:
    """A zone's value, in thousandths, tenths or whole degrees; None where it cannot be true."""
    value = number(text)
    if value is None:
        return None
    if abs(value) >= _MILLI_ABOVE:
        value /= 1000
    elif abs(value) > _DECI_ABOVE:
        value /= 10
    # Zones that are off show exactly 0, or the lowest number there is.
    return value if _COLDEST_C < value < _HOTTEST_C and value != 0 else None


def meter(gauge: Battery, readings: Readings) -> Meter | str:
    """The battery's watts over time, or why they say nothing."""
    places = {path: place for place, path in enumerate(readings.paths)}
    times, watts = [], []
    for time_s, values in readings.rows:
        if any(values[places[path]] not in ("", "0") for path in gauge.chargers):
            return "battery: a charger was connected during the run, so its readings are invalid"
        if values[places[gauge.status]].lower() != "discharging":
            return (
                f"battery: it was {values[places[gauge.status]] or 'in an unknown state'} during"
                " the run, so its readings are invalid"
            )
        numbers = [number(values[places[path]]) for path in gauge.files]
        if all(value is not None for value in numbers):
            times.append(time_s)
            product = float(np.prod([abs(value) for value in numbers if value is not None]))
            watts.append(product * gauge.watts_per)
    moments, firsts = np.unique(np.array(times), return_index=True)
    if len(moments) < MIN_SAMPLES:
        return f"{len(moments)} readings of {gauge.source}; it takes {MIN_SAMPLES}"
    return Meter(
        source=gauge.source,
        coverage="battery",
        times_s=moments,
        values=np.array(watts)[firsts],
        cumulative=False,
    )


def column(readings: Readings, path: str) -> list[tuple[float, str]]:
    """One file's readings: time and text."""
    if path not in readings.paths:
        return []
    place = readings.paths.index(path)
    return [(time_s, values[place]) for time_s, values in readings.rows]


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _is_battery(name: str, files: Mapping[str, str]) -> bool:
    kind = files.get("type", "").lower()
    return kind == "battery" or (not kind and name.lower().startswith("bat"))


def _fed(
    own: Mapping[str, Mapping[str, str]],
    batteries: Mapping[str, Mapping[str, str]],
    dumped: Mapping[str, str],
) -> str:
    """What feeds the phone beside its battery; empty when nothing does."""
    return next(_feeding(own, batteries, dumped), "")


def _feeding(
    own: Mapping[str, Mapping[str, str]],
    batteries: Mapping[str, Mapping[str, str]],
    dumped: Mapping[str, str],
) -> Iterator[str]:
    for name, files in own.items():
        if name not in batteries and files.get("online", "0") not in ("", "0"):
            yield f"{files.get('type') or name} is online"
    for key, value in dumped.items():
        if key.endswith(" powered") and value == "true":
            yield key.removesuffix(" powered").upper()
    states = [files["status"] for files in batteries.values() if "status" in files]
    told = dumped.get("status")
    if not states and told is not None:
        states = [_DUMPED_STATUS.get(told, "")]
    for state in states:
        if state.lower() != "discharging":
            yield state or "status unknown"


def _gauge(
    name: str, files: Mapping[str, str], others: Sequence[str], own: Mapping[str, Mapping[str, str]]
) -> Battery | None:
    home = f"/sys/class/power_supply/{name}"
    chargers = tuple(
        f"/sys/class/power_supply/{other}/online" for other in others if "online" in own[other]
    )
    watts = number(files.get("power_now", ""))
    amperes, volts = number(files.get("current_now", "")), number(files.get("voltage_now", ""))
    if "status" not in files or files.get("present") == "0":
        return None
    names: tuple[str, ...]
    doubts: list[str] = []
    if watts is not None:
        names, scale = ("power_now",), 1e-6
    elif amperes is not None and volts is not None and volts > 0:
        names, scale = ("current_now", "voltage_now"), 1e-12
        if 0 < abs(amperes) < _MILLIAMPERE_BELOW:
            scale *= 1e3
            doubts.append("taken as mA")
        if volts < _MILLIVOLT_BELOW:
            scale *= 1e3
            doubts.append("taken as mV")
    else:
        return None
    return Battery(
        name=name,
        files=tuple(f"{home}/{one}" for one in names),
        status=f"{home}/status",
        chargers=chargers,
        watts_per=scale,
        doubt=", ".join(doubts),
    )
