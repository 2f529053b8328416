"""Memory of this process and of a child, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from edgeq.agent.ports import text_of

_KIB = 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def status_bytes(field: str, root: Path) -> int | None:
    """``VmRSS`` or ``VmHWM`` of this process; None where the kernel does not say."""
    return _field(text_of(root / "proc/self/status"), field)


def pss_bytes(root: Path) -> int | None:
    """Proportional set size of this process; None before Linux 4.14, or where it is secret."""
    return _field(text_of(root / "proc/self/smaps_rollup"), "Pss")


def oom_kills(root: Path = Path("/")) -> int | None:
    """Processes that the kernel killed for memory since it was started; None before Linux 4.13."""
    for line in text_of(root / "proc/vmstat").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return None


def available_bytes(root: Path) -> int | None:
    """What programs can have without swapping; None before Linux 3.14."""
    return _field(text_of(root / "proc/meminfo"), "MemAvailable")


def resident_bytes(pid: int) -> int:
    """What a child holds in memory now; 0 once it is gone."""
    words = text_of(Path("/proc") / str(pid) / "statm").split()
    return int(words[1]) * _PAGE_BYTES if len(words) > 1 else 0


def _field(text: str, field: str) -> int | None:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * _KIB
    return None
