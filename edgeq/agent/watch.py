"""What the machine did while the model's processes ran: sums that leave out the pauses."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from edgeq import wire
from edgeq.agent import cpu
from edgeq.agent.cpu import CpuTimes, Processes
from edgeq.agent.ports import text_of

_STALL = re.compile(r"^some .*total=(\d+)", re.MULTILINE)  # us: Linux Documentation/accounting/psi
_SWAPPED = re.compile(r"^pswp(?:in|out) (\d+)", re.MULTILINE)  # pages
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_US = 1e6


class _Mark:
    """The machine's own counters at one moment; listing the processes, which takes long, is not.

    ``opens``: it is done before, else after, so that what it takes lies outside what is watched.
    """

    def __init__(self, root: Path, cpus: tuple[int, ...], *, opens: bool) -> None:
        listed = cpu.processes(root) if opens else None
        self.all: CpuTimes | None = cpu.times(root)
        self.chosen: CpuTimes | None = cpu.times(root, cpus)
        self.child_s = _children_s()
        stall = _STALL.search(text_of(root / "proc/pressure/memory"))
        self.stalled_s = int(stall.group(1)) / _US if stall else None
        pages = _SWAPPED.findall(text_of(root / "proc/vmstat"))
        self.swapped_bytes = sum(map(int, pages)) * _PAGE_BYTES if pages else None
        self.at_s = time.monotonic()
        self.processes: Processes = cpu.processes(root) if listed is None else listed


class Watch:
    """``begin`` and ``end`` around each process of the model's; then the sums."""

    def __init__(self, root: Path, cpus: tuple[int, ...]) -> None:
        self._root = root
        self._cpus = cpus
        self._pairs: list[tuple[_Mark, _Mark]] = []
        self._spent: dict[str, float] = {}
        self._open: _Mark | None = None
        self._wall_s, self._clock_s = time.time(), time.monotonic()

    def begin(self) -> None:
        self._open = _Mark(self._root, self._cpus, opens=True)

    def end(self) -> None:
        before, after = self._open, _Mark(self._root, self._cpus, opens=False)
        if before is None:
            return
        self._pairs.append((before, after))
        for number, (name, spent_s) in cpu.used(before.processes, after.processes).items():
            if spent_s > 0 and (not self._cpus or cpu.may_run_on(number, self._cpus, self._root)):
                self._spent[name] = self._spent.get(name, 0.0) + spent_s

    def clock_step_s(self) -> float:
        """How far the wall clock was set since the beginning."""
        return time.time() - self._wall_s - (time.monotonic() - self._clock_s)

    def cpu_s(self) -> tuple[float, float] | None:
        """Busy and total time of all cores; None where it is not known."""
        pairs = [(one.all, two.all) for one, two in self._pairs]
        times = [after.since(before) for before, after in pairs if before and after]
        if not times or len(times) < len(self._pairs):
            return None
        return sum(busy for busy, _ in times), sum(total for _, total in times)

    def child_s(self) -> float:
        """Without what they had used before, when they were started ahead."""
        mine = os.getpid()
        return sum(
            after.child_s
            - before.child_s
            - cpu.used_before(before.processes, after.processes).get(mine, 0.0)
            for before, after in self._pairs
        )

    def contention(self) -> wire.Contention:
        """Of the CPUs that the model could use."""
        seconds = sum(after.at_s - before.at_s for before, after in self._pairs)
        pairs = [(one.chosen, two.chosen) for one, two in self._pairs]
        known = [(before, after) for before, after in pairs if before and after]
        complete = bool(known) and len(known) == len(pairs)
        times = [after.since(before) for before, after in known]
        busiest = cpu.busiest(self._spent.items(), seconds)
        swapped = _sum([(one.swapped_bytes, two.swapped_bytes) for one, two in self._pairs])
        return wire.Contention(
            seconds=seconds,
            busy_s=sum(busy for busy, _ in times) if complete else None,
            total_s=sum(total for _, total in times) if complete else None,
            stolen_s=sum(two.stolen_since(one) for one, two in known) if complete else None,
            stalled_s=_sum([(one.stalled_s, two.stalled_s) for one, two in self._pairs]),
            swapped_bytes=None if swapped is None else int(swapped),
            names=tuple(name for name, _ in busiest),
            shares=tuple(share for _, share in busiest),
        )


def _sum(pairs: list[tuple[float | None, float | None]]) -> float | None:
    """Of the differences; None where one is not known."""
    known = [after - before for before, after in pairs if before is not None and after is not None]
    return sum(known) if known and len(known) == len(pairs) else None


def _children_s() -> float:
    usage = os.times()
    return usage.children_user + usage.children_system
