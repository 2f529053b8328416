"""Under what conditions a device was measured: its clock, its heat, and what it was told to do."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeq import wire
from edgeq.core import cores, cpulist
from edgeq.core.raw import Column, Numbers, Raw
from edgeq.core.report import CoolingSection, PolicySection

STICKY = "occurred:"
# Fewer samples than that say little about a clock or a temperature.
_MIN_SAMPLES = 6
_FIRMWARE = "vcgencmd "
# Their clock goes far above what it holds, and back; what it holds is base_mhz, where that is told.
_BOOSTING = ("intel_pstate", "intel_cpufreq", "amd-pstate", "amd_pstate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How fast the fastest CPU of the run ran: its median, and what it may run at."""

    policy: wire.Policy
    ran_mhz: float
    limit_mhz: float

    @property
    def share(self) -> float:
        return self.ran_mhz / self.limit_mhz


def policies(raw: Raw) -> tuple[wire.Policy, ...]:
    """Those of the CPUs that the model could use."""
    cpus = set(raw.measured.cpus)
    return tuple(p for p in raw.measured.policies if not cpus or cpus & set(p.cpus))


def policy_sections(raw: Raw) -> tuple[PolicySection, ...]:
    """All of the device's."""
    return tuple(
        PolicySection(
            name=policy.name,
            cpus=cpulist.listed(policy.cpus) or None,
            core=cores.name(policy.core),
            governor=policy.governor or None,
            min_mhz=policy.min_mhz,
            max_mhz=policy.max_mhz,
            hardware_min_mhz=policy.hardware_min_mhz,
            hardware_max_mhz=policy.hardware_max_mhz,
            pinned=policy.pinned,
        )
        for policy in raw.measured.policies
    )


def governor(raw: Raw) -> str | None:
    """Of the run's CPUs; several where they differ."""
    return " + ".join(dict.fromkeys(p.governor for p in policies(raw) if p.governor)) or None


def core_types(raw: Raw) -> str | None:
    """What kinds of cores the model ran on, where that is known."""
    return " + ".join(filter(None, map(cores.name, raw.measured.cores))) or None


def pinned(raw: Raw) -> bool | None:
    found = [policy.pinned for policy in policies(raw)]
    return all(found) if found else None


def cooling_section(raw: Raw) -> CoolingSection | None:
    told = raw.measured.cooled
    if told is None:
        return None
    return CoolingSection(
        target_c=told.target_c,
        reached=told.reached,
        waited_s=told.waited_s,
        worst_start_c=told.worst_c,
    )


def clock(raw: Raw) -> Clock | None:
    """Of the fastest CPU at each moment, since a model need not use them all; None if unknown."""
    known = {p.name: p for p in policies(raw) if _limit(p) is not None}
    columns = clock_columns(raw)
    if any(map(_is_firmwares, columns)):  # a Pi has one policy
        found = [(c, p) for c in columns for p in known.values() if len(known) == 1]
    else:
        found = [(c, known[c.channel.source]) for c in columns if c.channel.source in known]
    limits = [_limit(p) or 0.0 for _, p in found]
    series = [_within(c, raw, limit) for (c, _), limit in zip(found, limits, strict=True)]
    times = np.concatenate([np.empty(0), *(t for t, _ in series)])
    if len(np.unique(times)) < _MIN_SAMPLES:
        return None
    shares = np.concatenate([s for _, s in series])
    moments, places = np.unique(times, return_inverse=True)
    best = np.zeros(len(moments))
    np.maximum.at(best, places, shares)
    share = float(np.median(best))
    means = [float(s.mean()) if len(s) else 0.0 for _, s in series]
    fastest = int(np.argmax(means))
    limit_mhz = limits[fastest]
    return Clock(policy=found[fastest][1], ran_mhz=share * limit_mhz, limit_mhz=limit_mhz)


def clock_columns(raw: Raw) -> list[Column]:
    """The frequencies: what a Pi's firmware says, where it was asked often enough.

    What the kernel says there is only what it wished for.
    """
    columns = of(raw, "frequency_mhz")
    firmwares = [c for c in columns if _is_firmwares(c)]
    if any(len(c.within(raw.windows_ns)) >= _MIN_SAMPLES for c in firmwares):
        return firmwares
    return [c for c in columns if c not in firmwares] or columns


def _is_firmwares(column: Column) -> bool:
    return column.channel.source.startswith(_FIRMWARE)


def rise_c(raw: Raw) -> float | None:
    """How much warmer the hottest sensor was in the last third of the run than in the first."""
    hottest = hottest_column(raw)
    values = np.empty(0) if hottest is None else hottest.within(raw.windows_ns)
    if len(values) < _MIN_SAMPLES:
        return None
    third = len(values) // 3
    return float(np.median(values[-third:]) - np.median(values[:third]))


def slowdown(raw: Raw) -> float:
    """How much longer an inference took in the last third of the run than in the first."""
    runs = np.concatenate([process.measured_ns for process in raw.processes])
    third = len(runs) // 3
    if third < _MIN_SAMPLES:
        return 0.0
    return float(np.median(runs[-third:]) / np.median(runs[:third])) - 1


def old_flags(raw: Raw) -> tuple[str, ...]:
    """What had occurred before the run and is not held against it, in words."""
    before = raw.measured.throttle_before or ()
    after = set(raw.measured.throttle_after or ())
    return tuple(flag.removeprefix(STICKY) for flag in before if flag in after and is_sticky(flag))


def is_sticky(flag: str) -> bool:
    return flag.startswith(STICKY)


def limited(raw: Raw) -> Iterable[str]:
    """Sentences about clocks that the device's own settings hold below what the chip can."""
    for policy in policies(raw):
        top, most = policy.max_mhz, policy.hardware_max_mhz
        if top and most and top < most * 0.99 and not policy.pinned:
            cpus = cpulist.listed(policy.cpus)
            yield (
                f"the device's settings let CPU {cpus} run at {top:.0f} of {most:.0f} MHz"
                " (scaling_max_freq, or its power mode)"
            )


def hottest_column(raw: Raw) -> Column | None:
    """The temperature sensor that became hottest."""
    columns = of(raw, "temperature_c")
    return max(columns, key=lambda column: float(column.values.max()), default=None)


def of(raw: Raw, quantity: str) -> list[Column]:
    """The columns of a quantity that have values."""
    return [c for c in raw.columns if c.channel.quantity == quantity and len(c.values)]


def _limit(policy: wire.Policy) -> float | None:
    """The frequency that it should hold while busy; None where that is not to be known."""
    top = policy.max_mhz or policy.hardware_max_mhz
    if policy.pinned or top is None:
        return top
    if policy.base_mhz is not None:
        return min(top, policy.base_mhz)
    return None if policy.driver.startswith(_BOOSTING) else top


def _within(column: Column, raw: Raw, limit_mhz: float) -> tuple[Numbers, Numbers]:
    """Times and shares of the limit, while the model ran."""
    inside = np.zeros(len(column.times_ns), dtype=bool)
    for start, end in raw.windows_ns:
        inside |= (column.times_ns >= start) & (column.times_ns <= end)
    return column.times_ns[inside], column.values[inside] / limit_mhz
