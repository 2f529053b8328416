"""The kernel's cpufreq policies: what a group of CPUs runs at, and may. Linux admin-guide, cpufreq.

Nothing is changed here; see ``pinning``.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent import vcgencmd
from edgeq.agent.ports import Found, Raw, Sensor, each, number, numbered, text_of

MOST_POLICIES = 64
_SAMPLED = 16
_CURRENT = ("scaling_cur_freq", "cpuinfo_cur_freq")
_CORE_KEY = re.compile(r"^(processor|CPU implementer|CPU part)\s*:\s*(\w+)", re.MULTILINE)
_ARM = "0x41"
_FIRMWARE = wire.Channel("frequency_mhz", "vcgencmd measure_clock arm")
_MHZ = 1e-6


def folders(root: Path) -> list[Path]:
    """One for each policy; kernels before 4.3 have them under the CPUs instead."""
    cpus = root / "sys/devices/system/cpu"
    found = numbered(cpus / "cpufreq", "policy")
    if not found:
        alone: dict[tuple[int, ...], Path] = {}
        for cpu in numbered(cpus, "cpu"):
            if (cpu / "cpufreq").is_dir():
                alone.setdefault(cpus_of(cpu / "cpufreq"), cpu / "cpufreq")
        found = list(alone.values())
    return found[:MOST_POLICIES]


def name_of(folder: Path) -> str:
    return folder.parent.name if folder.name == "cpufreq" else folder.name


def cpus_of(folder: Path) -> tuple[int, ...]:
    """The CPUs with this clock, those that are off left out."""
    for file in ("affected_cpus", "related_cpus"):
        words = text_of(folder / file).split()
        if words and all(word.isdigit() for word in words):
            return tuple(sorted(map(int, words)))
    digits = re.sub(r"\D", "", name_of(folder))
    return (int(digits),) if digits else ()


def mhz(path: Path) -> float | None:
    value = number(text_of(path).encode())
    return None if value is None or value <= 0 else value / 1000.0


def frequencies(root: Path) -> Found:
    """The current frequency of each policy, for the sampler; and what a Pi's firmware says.

    A Pi's firmware slows the clock down without telling the kernel, whose figure is what it asked
    for.
    """
    sensors = []
    for folder in folders(root)[:_SAMPLED]:
        paths = [folder / name for name in _CURRENT if mhz(folder / name) is not None]
        if paths:
            channel = wire.Channel("frequency_mhz", name_of(folder))
            sensors.append(Sensor(channel, (paths[0],), each(_mhz)))
    firmware = vcgencmd.sensor(root, _FIRMWARE, _MHZ, "measure_clock", "arm")
    sensors += [firmware] if firmware else []
    return Found(tuple(sensors), "" if sensors else "no cpufreq in sysfs")


def policies(root: Path) -> tuple[wire.Policy, ...]:
    """How every policy is set now."""
    kinds = cores(root)
    found = []
    for folder in folders(root):
        cpus = cpus_of(folder)
        found.append(
            wire.Policy(
                name=name_of(folder),
                cpus=cpus,
                governor=text_of(folder / "scaling_governor")[:64],
                driver=text_of(folder / "scaling_driver")[:64],
                core=" + ".join(dict.fromkeys(kinds[cpu] for cpu in cpus if cpu in kinds)),
                min_mhz=mhz(folder / "scaling_min_freq"),
                max_mhz=mhz(folder / "scaling_max_freq"),
                hardware_min_mhz=mhz(folder / "cpuinfo_min_freq"),
                hardware_max_mhz=mhz(folder / "cpuinfo_max_freq"),
                base_mhz=mhz(folder / "base_frequency"),
            )
        )
    return tuple(found)


def cores(root: Path) -> dict[int, str]:
    """The kind of each CPU: ``implementer/part`` of an ARM core, P or E core of a hybrid x86."""
    found: dict[int, str] = {}
    cpu, implementer = 0, _ARM
    for key, value in _CORE_KEY.findall(text_of(root / "proc/cpuinfo")):
        if key == "processor" and value.isdigit():
            cpu = int(value)
        elif key == "CPU implementer":
            implementer = value
        elif key == "CPU part":
            found[cpu] = f"{implementer}/{value}".lower()
    for folder, word in (("cpu_core", "P-core"), ("cpu_atom", "E-core")):
        members = text_of(root / "sys/devices" / folder / "cpus")
        found.update(dict.fromkeys(numbers(members), word))
    return found


def numbers(text: str) -> tuple[int, ...]:
    """A kernel's list of CPUs, such as ``0-3,6``; empty where it is none."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        if not (low.isdigit() and (high or low).isdigit()):
            return ()
        found.update(range(int(low), min(int(high or low), int(low) + 4096) + 1))
    return tuple(sorted(found))


def listed(cpus: typing.Iterable[int]) -> str:
    """The same the other way: ``0-3,6``."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _mhz(raw: Raw) -> float | None:
    value = number(raw[0])
    return None if value is None else value / 1000.0
