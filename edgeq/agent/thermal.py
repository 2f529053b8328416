"""Temperatures, CPU frequencies and throttle flags. ``root`` is "/" but for recorded trees."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, each, number, text_of

_CPU_ZONE = re.compile(r"cpu|soc|pkg|package|tj|core", re.IGNORECASE)
_CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_MOST_ZONES = 4
_MOST_POLICIES = 16
_OFFLINE_C = -200.0  # a Jetson's sensor that is off says -256 degrees
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_RASPBERRY_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_STICKY_SHIFT = 16
_RASPBERRY_FILES = ("sys/devices/platform/soc/soc:firmware/get_throttled",)
_VCGENCMD_TIMEOUT_S = 5.0


def temperatures(root: Path) -> Found:
    """The processor's thermal zones, else all, else its hwmon chip; the first is the whole's."""
    zones = _numbered(root / "sys/class/thermal", "thermal_zone")
    named = [(text_of(zone / "type") or zone.name, zone / "temp") for zone in zones]
    chosen = [item for item in named if _CPU_ZONE.search(item[0])] or named
    chosen = [item for item in chosen if _celsius((text_of(item[1]).encode(),)) is not None]
    if not chosen:
        chosen = [
            (name, chip / "temp1_input")
            for chip in _numbered(root / "sys/class/hwmon", "hwmon")
            for name in [text_of(chip / "name")]
            if name in _CPU_CHIPS and (chip / "temp1_input").exists()
        ]
    if not chosen:
        return Found(reason="no thermal zone and no CPU temperature chip in sysfs")
    return Found(
        tuple(
            Sensor(
                wire.Channel("temperature_c", name, total=position == 0), (path,), each(_celsius)
            )
            for position, (name, path) in enumerate(chosen[:_MOST_ZONES])
        )
    )


def frequencies(root: Path) -> Found:
    """The current frequency of each cpufreq policy."""
    policies = _numbered(root / "sys/devices/system/cpu/cpufreq", "policy")
    sensors = tuple(
        Sensor(
            wire.Channel("frequency_mhz", policy.name), (policy / "scaling_cur_freq",), each(_mhz)
        )
        for policy in policies[:_MOST_POLICIES]
        if (policy / "scaling_cur_freq").exists()
    )
    return Found(sensors, "" if sensors else "no cpufreq in sysfs")


def throttled(root: Path) -> tuple[str, ...] | None:
    """Flags in words, since boot as ``occurred:…``; empty when all is well, None if nobody knows.

    Counters are part of their word, so that one more event makes another word.
    """
    sources = (_raspberry(root), _x86(root), _jetson(root), _cooling(root))
    known = [flags for flags in sources if flags is not None]
    return tuple(flag for flags in known for flag in flags) if known else None


def raspberry_flags(bits: int) -> tuple[str, ...]:
    """The words of ``get_throttled``'s number."""
    now = [word for bit, word in _RASPBERRY_BITS.items() if bits >> bit & 1]
    sticky = [
        "occurred:" + word
        for bit, word in _RASPBERRY_BITS.items()
        if bits >> (bit + _STICKY_SHIFT) & 1
    ]
    return (*now, *sticky)


def _raspberry(root: Path) -> tuple[str, ...] | None:
    texts = [text_of(root / path) for path in _RASPBERRY_FILES]
    if str(root) == "/" and not any(texts):
        texts.append(_vcgencmd())
    for text in filter(None, texts):
        try:
            return raspberry_flags(int(text.rpartition("=")[2], 16))
        except ValueError:
            continue
    return None


def _vcgencmd() -> str:
    program = shutil.which("vcgencmd")
    if program is None:
        return ""
    try:
        ended = subprocess.run(
            [program, "get_throttled"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_VCGENCMD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.decode("ascii", "replace").strip()


def _x86(root: Path) -> tuple[str, ...] | None:
    """Intel's counters of thermal throttling: Linux Documentation/ABI, sysfs-devices-system-cpu."""
    flags, known = [], False
    for kind in ("core", "package"):
        pattern = f"sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{kind}_throttle_count"
        counts = [number(text_of(path).encode()) for path in root.glob(pattern)]
        known = known or bool(counts)
        total = int(sum(filter(None, counts)))
        if total:
            flags.append(f"occurred:{kind} throttled {total} times")
    return tuple(flags) if known else None


def _jetson(root: Path) -> tuple[str, ...] | None:
    """Over-current events; NVIDIA Jetson Linux Developer Guide, "Over-Current Throttling"."""
    counters = sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    if not counters:
        return None
    counts = [
        (path.name[: -len("_event_cnt")], number(text_of(path).encode())) for path in counters
    ]
    return tuple(
        f"occurred:over-current {name} {int(count)} times" for name, count in counts if count
    )


def _cooling(root: Path) -> tuple[str, ...] | None:
    """Is the kernel holding the CPU's frequency down now?"""
    devices = [
        device
        for device in _numbered(root / "sys/class/thermal", "cooling_device")
        if "cpufreq" in text_of(device / "type") or text_of(device / "type") == "Processor"
    ]
    if not devices:
        return None
    states = [number(text_of(device / "cur_state").encode()) for device in devices]
    return ("frequency capped by cooling",) if any(state and state > 0 for state in states) else ()


def _celsius(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None or value / 1000.0 < _OFFLINE_C else value / 1000.0


def _mhz(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None else value / 1000.0


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """The entries ``<prefix><number>`` in their numbers' order."""
    found = [
        (int(path.name[len(prefix) :]), path)
        for path in folder.glob(prefix + "*")
        if path.name[len(prefix) :].isdigit()
    ]
    return [path for _, path in sorted(found)]
