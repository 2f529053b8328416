"""Who used the processor: all cores together, and the busiest other processes. From /proc."""

from __future__ import annotations

import os
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq.agent.ports import text_of

CONTENDER_SHARE = 0.05
_MOST_CONTENDERS = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NOT_BUSY = (3, 4)  # idle and iowait: Linux Documentation/filesystems/proc, 1.7
_STAT_FIELDS = 20
_COUNTED = 8  # user nice system idle iowait irq softirq steal; guest time is in user already


@dataclass(frozen=True)
class CpuTimes:
    """Since boot, of all cores, in the kernel's ticks."""

    busy: int
    total: int

    def since(self, earlier: CpuTimes) -> tuple[float, float]:
        """Seconds busy, and seconds in all."""
        ticks = self.busy - earlier.busy, self.total - earlier.total
        return ticks[0] / _TICKS_PER_S, ticks[1] / _TICKS_PER_S


@dataclass(frozen=True)
class Process:
    name: str
    started: int
    cpu_s: float


def times(root: Path) -> CpuTimes | None:
    """None where /proc/stat may not be read (Android)."""
    words = text_of(root / "proc/stat").partition("\n")[0].split()
    if not words or words[0] != "cpu":
        return None
    ticks = [int(word) for word in words[1 : 1 + _COUNTED]]
    idle = sum(ticks[index] for index in _NOT_BUSY if index < len(ticks))
    return CpuTimes(sum(ticks) - idle, sum(ticks))


def processes(root: Path) -> dict[int, Process]:
    """Every process but this one, by its number."""
    found = {}
    for entry in (root / "proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            process = _process(text_of(entry / "stat"))
            if process is not None:
                found[int(entry.name)] = process
    return found


def contenders(
    before: typing.Mapping[int, Process], after: typing.Mapping[int, Process], seconds: float
) -> tuple[str, ...]:
    """Names of those that took more than 5 % of a core meanwhile, the busiest first."""
    used: dict[str, float] = {}
    for number, process in after.items():
        earlier = before.get(number)
        same = earlier is not None and earlier.started == process.started
        spent_s = process.cpu_s - (earlier.cpu_s if earlier is not None and same else 0.0)
        used[process.name] = used.get(process.name, 0.0) + spent_s
    busy = [name for name, spent_s in used.items() if spent_s > CONTENDER_SHARE * seconds]
    return tuple(sorted(busy, key=lambda name: -used[name])[:_MOST_CONTENDERS])


def _process(stat: str) -> Process | None:
    """From /proc/PID/stat, whose second field is a name in parentheses that may hold anything."""
    head, _, tail = stat.rpartition(")")
    fields = tail.split()
    if not head or len(fields) < _STAT_FIELDS:
        return None
    name = head.partition("(")[2]
    # proc_pid_stat(5): utime 14, stime 15, starttime 22; the fields after the name begin with 3
    return Process(name, int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)
