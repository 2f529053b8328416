"""What tells that a device held its clock back: now, or since boot (``occurred:…``).

Counters are part of their word, so that one more event makes another word.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq.agent import vcgencmd
from edgeq.agent.ports import number, numbered, text_of

# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_RASPBERRY_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_STICKY_SHIFT = 16
# soc/soc:firmware, on a Pi 5 soc@107c000000/soc@107c000000:firmware
_RASPBERRY_FILES = (
    "sys/devices/platform/*/*firmware*/get_throttled",
    "sys/devices/platform/*firmware*/get_throttled",
)
# NVIDIA calls the events in software throttle-alert; fans and settings are no throttling.
_CPU_COOLER = re.compile(r"cpufreq|^cpu[-_]|^Processor$|throttle|powerclamp|emergency", re.I)
_WORST_WORDS = 32


@dataclass(frozen=True)
class Flags:
    """``words``: empty when all is well, None where nobody knows, and then the ``reason``."""

    words: tuple[str, ...] | None
    reason: str = ""


_Words = typing.Optional[typing.List[str]]


def read(root: Path) -> Flags:
    """Everything that is known now."""
    raspberry, reason = _raspberry(root)
    sources = (raspberry, _hwmon(root), _x86(root), _cooling(root))
    known = [words for words in sources if words is not None]
    if not known:
        return Flags(None, f"{reason}, no throttle counters in sysfs")
    unique = dict.fromkeys(word for words in known for word in words)
    return Flags(tuple(unique)[:_WORST_WORDS])


def raspberry_flags(bits: int) -> tuple[str, ...]:
    """The words of ``get_throttled``'s number."""
    now = [word for bit, word in _RASPBERRY_BITS.items() if bits >> bit & 1]
    sticky = [
        "occurred:" + word
        for bit, word in _RASPBERRY_BITS.items()
        if bits >> (bit + _STICKY_SHIFT) & 1
    ]
    return (*now, *sticky)


def _raspberry(root: Path) -> tuple[_Words, str]:
    for pattern in _RASPBERRY_FILES:
        for path in root.glob(pattern):
            try:
                bits = int(text_of(path).rpartition("=")[2], 16)
            except ValueError:
                continue
            return list(raspberry_flags(bits)), ""
    text, reason = vcgencmd.ask(root, "get_throttled")
    said = vcgencmd.value(text)
    return (None, reason) if said is None else (list(raspberry_flags(int(said))), "")


def _hwmon(root: Path) -> _Words:
    """Over-current events of a Jetson and the low-voltage alarm of a Raspberry Pi.

    NVIDIA Jetson Linux Developer Guide, "Over-Current Throttling"; Linux, raspberrypi-hwmon.
    """
    words, known = [], False
    for chip in numbered(root / "sys/class/hwmon", "hwmon"):
        name = text_of(chip / "name")
        if name == "rpi_volt":
            alarm = number(text_of(chip / "in0_lcrit_alarm").encode())
            known = known or alarm is not None
            words += ["under-voltage"] if alarm else []
        for path in sorted(chip.glob("*_event_cnt")):
            count = number(text_of(path).encode())
            known = known or count is not None
            event = path.name[: -len("_event_cnt")]
            kind = "over-current" if event.startswith("oc") else "throttle event"
            words += [f"occurred:{kind} {event} {int(count)} times"] if count else []
    return words if known else None


def _x86(root: Path) -> _Words:
    """Intel's counters of thermal throttling: Linux Documentation/ABI, sysfs-devices-system-cpu."""
    counts: dict[str, dict[str, int]] = {"core": {}, "package": {}}
    for cpu in numbered(root / "sys/devices/system/cpu", "cpu"):
        for kind, place in (("core", "core_id"), ("package", "physical_package_id")):
            count = number(text_of(cpu / f"thermal_throttle/{kind}_throttle_count").encode())
            if count is not None:
                # All CPUs of a package show its one counter.
                package = text_of(cpu / "topology/physical_package_id")
                core = text_of(cpu / "topology" / place) or cpu.name
                shared = package if kind == "package" else f"{package} {core}"
                counts[kind][shared] = max(counts[kind].get(shared, 0), int(count))
    if not any(counts.values()):
        return None
    totals = {kind: sum(found.values()) for kind, found in counts.items()}
    return [f"occurred:{kind} throttled {total} times" for kind, total in totals.items() if total]


def _cooling(root: Path) -> _Words:
    """Is the kernel holding the CPU's frequency down now, or was it?"""
    words, known = [], False
    for device in numbered(root / "sys/class/thermal", "cooling_device"):
        kind = text_of(device / "type")
        if not _CPU_COOLER.search(kind):
            continue
        state = number(text_of(device / "cur_state").encode())
        known = known or state is not None
        if state is not None and state > 0:
            words.append("frequency capped by cooling")
        changes = number(text_of(device / "stats/total_trans").encode())
        if changes:
            words.append(f"occurred:{device.name} ({kind[:40]}) capped it, {int(changes)} changes")
    return words if known else None
