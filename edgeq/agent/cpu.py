"""Who used the processor: all cores or some, and the busiest other processes. From /proc."""

from __future__ import annotations

import os
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq.agent import cpufreq
from edgeq.agent.ports import text_of

CONTENDER_SHARE = 0.05
_MOST_CONTENDERS = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NOT_BUSY = (3, 4)  # idle and iowait: Linux Documentation/filesystems/proc, 1.7
_STEAL = 7
_STAT_FIELDS = 20
_COUNTED = 8  # user nice system idle iowait irq softirq steal; guest time is in user already
_MOST_NAME = 64


@dataclass(frozen=True)
class CpuTimes:
    """Since boot, in the kernel's ticks. ``steal``: of the busy ones, what a hypervisor took."""

    busy: int
    total: int
    steal: int = 0

    def since(self, earlier: CpuTimes) -> tuple[float, float]:
        """Seconds busy, and seconds in all."""
        ticks = self.busy - earlier.busy, self.total - earlier.total
        return ticks[0] / _TICKS_PER_S, ticks[1] / _TICKS_PER_S

    def stolen_since(self, earlier: CpuTimes) -> float:
        return max(0, self.steal - earlier.steal) / _TICKS_PER_S


@dataclass(frozen=True)
class Process:
    """``children_s``: what its children had used that are over; ``parent``: its number."""

    name: str
    started: int
    cpu_s: float
    children_s: float = 0.0
    parent: int = 0

    def same(self, other: Process | None) -> bool:
        """Numbers are used again, with another start."""
        return other is not None and other.started == self.started


Processes = typing.Mapping[int, Process]


def times(root: Path, cpus: typing.Collection[int] = ()) -> CpuTimes | None:
    """Of these CPUs, of all where none is named; None where /proc/stat may not be read."""
    wanted = {f"cpu{cpu}" for cpu in cpus} or {"cpu"}
    busy = total = steal = 0
    found = False
    for line in text_of(root / "proc/stat").splitlines():
        words = line.split()
        if not words or words[0] not in wanted:
            continue
        ticks = [int(word) for word in words[1 : 1 + _COUNTED]]
        idle = sum(ticks[index] for index in _NOT_BUSY if index < len(ticks))
        busy, total = busy + sum(ticks) - idle, total + sum(ticks)
        steal += ticks[_STEAL] if len(ticks) > _STEAL else 0
        found = True
    return CpuTimes(busy, total, steal) if found else None


def processes(root: Path) -> dict[int, Process]:
    """Every process but this one, by its number."""
    found = {}
    for entry in (root / "proc").glob("[0-9]*"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            process = _process(text_of(entry / "stat"))
            if process is not None:
                found[int(entry.name)] = process
    return found


def used(before: Processes, after: Processes) -> dict[int, tuple[str, float]]:
    """Name and CPU seconds meanwhile of every process that is still there, children that ended too.

    A child that came and went is seen in its parent once that has waited for it.
    """
    found = {}
    old = used_before(before, after)
    for number, process in after.items():
        earlier = before.get(number)
        if earlier is None or not process.same(earlier):
            earlier = Process(process.name, process.started, 0.0)
        own_s = process.cpu_s - earlier.cpu_s
        ended_s = max(0.0, process.children_s - earlier.children_s - old.get(number, 0.0))
        name = process.name if own_s >= ended_s else f"children of {process.name}"
        found[number] = (name, own_s + ended_s)
    return found


def used_before(before: Processes, after: Processes) -> dict[int, float]:
    """What those that ended meanwhile had used by then, by the nearest ancestor that is left.

    It comes to that one's ``children_s`` when they end, and is no use of this time.
    """
    found: dict[int, float] = {}
    for number, process in before.items():
        heir, seen = number, set()
        while heir in before and heir not in seen and not before[heir].same(after.get(heir)):
            seen.add(heir)
            heir = before[heir].parent
        if heir != number:
            found[heir] = found.get(heir, 0.0) + process.cpu_s + process.children_s
    return found


def contenders(before: Processes, after: Processes, seconds: float) -> tuple[str, ...]:
    """Names of those that took more than 5 % of a core meanwhile, the busiest first."""
    return tuple(name for name, _ in busiest(used(before, after).values(), seconds))


def busiest(
    spent: typing.Iterable[tuple[str, float]], seconds: float
) -> tuple[tuple[str, float], ...]:
    """Names and shares of one core; those of one name together."""
    by_name: dict[str, float] = {}
    for name, spent_s in spent:
        by_name[name] = by_name.get(name, 0.0) + spent_s
    shares = [(name, spent_s / seconds) for name, spent_s in by_name.items() if seconds > 0]
    busy = [one for one in shares if one[1] > CONTENDER_SHARE]
    return tuple(sorted(busy, key=lambda one: -one[1])[:_MOST_CONTENDERS])


def may_run_on(number: int, cpus: typing.Collection[int], root: Path) -> bool:
    """Whether a process may use one of these CPUs; yes where that is not known."""
    for line in text_of(root / f"proc/{number}/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = cpufreq.numbers(line.partition(":")[2])
            return not allowed or bool(set(allowed) & set(cpus))
    return True


def _process(stat: str) -> Process | None:
    """From /proc/PID/stat, whose second field is a name in parentheses that may hold anything."""
    head, _, tail = stat.rpartition(")")
    fields = tail.split()
    if not head or len(fields) < _STAT_FIELDS:
        return None
    name = head.partition("(")[2][:_MOST_NAME]
    # proc_pid_stat(5): ppid 4, utime 14, stime 15, cutime 16, cstime 17, starttime 22; the fields
    # after the name begin with 3
    parent, user, system, ended_user, ended_system, start = (
        int(fields[index]) for index in (1, 11, 12, 13, 14, 19)
    )
    own_s, ended_s = (user + system) / _TICKS_PER_S, (ended_user + ended_system) / _TICKS_PER_S
    return Process(name, start, own_s, ended_s, parent)
