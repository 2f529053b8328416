"""The CPUs that a run may use, and this process out of its way."""

from __future__ import annotations

import contextlib
import os
import typing
from pathlib import Path

from edgeq.agent import cpufreq
from edgeq.agent.ports import FailureError, text_of


def check(cpus: tuple[int, ...], root: Path) -> None:
    """Can a process of this user run on exactly these?

    Raises:
        FailureError: wish, when one does not exist, is off, or is not given to this session.
    """
    if not cpus:
        return
    text = text_of(root / "sys/devices/system/cpu/online")
    online = cpufreq.numbers(text) or tuple(range(os.cpu_count() or 1))
    absent = set(cpus) - set(online)
    if absent:
        wanted, there = cpufreq.listed(absent), cpufreq.listed(online)
        message = f"CPU {wanted} is not there or off; online: {there}"
        raise FailureError("wish", message, f"choose among them: --cpus {there}")
    given = os.sched_getaffinity(0)
    closed = set(cpus) - given
    if closed:
        wanted, may = cpufreq.listed(closed), cpufreq.listed(given)
        message = f"CPU {wanted} is not given to this session, only {may} (a cpuset or taskset)"
        raise FailureError("wish", message, f"choose among them: --cpus {may}")


def hold(cpus: tuple[int, ...]) -> None:
    """Let this process and what it starts run there only; before it makes threads.

    Raises:
        FailureError: wish, when the kernel does not do it.
    """
    if not cpus:
        return
    with contextlib.suppress(OSError):
        place(0, cpus)
    if os.sched_getaffinity(0) != set(cpus):
        message = f"the kernel does not let the model run on CPU {cpufreq.listed(cpus)} alone"
        raise FailureError("wish", message, "leave out --cpus")


def place(process: int, cpus: tuple[int, ...]) -> None:
    """Let a process, 0 for this one, run there only; none named: where it may."""
    if cpus:
        os.sched_setaffinity(process, cpus)


@contextlib.contextmanager
def beside(cpus: tuple[int, ...]) -> typing.Iterator[None]:
    """This process on the other CPUs meanwhile, if there are any: it reads sensors."""
    before = os.sched_getaffinity(0)
    others = before - set(cpus)
    if cpus and others:
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
