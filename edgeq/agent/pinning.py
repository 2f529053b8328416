"""CPU frequencies held at one value for a run, and put back whatever happens; see ``guard``."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import subprocess
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.agent import cpufreq, settings, throttle
from edgeq.agent.children import ARCHIVE
from edgeq.agent.ports import FailureError, text_of
from edgeq.agent.settings import Setting

_GUARD_S = 120.0  # a small board under load takes long to start a Python
_FAST = "performance"
_CLOSE = 0.01  # 1500 asked for, 1500.398 listed
_CAPPED = "frequency capped by cooling"


@dataclass
class Pinned:
    """``policies``: the names of those that are held. ``notes``: what could not be put back."""

    policies: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def held(
    mhz: float | None, cpus: tuple[int, ...], folder: Path, root: Path
) -> typing.Iterator[Pinned]:
    """Hold the frequency of the CPUs meanwhile; ``mhz`` None: change nothing, 0: the highest.

    Raises:
        FailureError: wish, when it cannot be done; nothing is changed then.
    """
    if mhz is None:
        yield Pinned()
        return
    folders = _chosen(cpus, root)
    with _guard(folder) as guard:  # from here on no other run changes what is read
        wanted = [one for policy in folders for one in _wanted(policy, mhz)]
        _require_cool(root)
        before = [Setting(one.path, text_of(one.path)) for one in wanted]
        _require_rights(before)
        pinned = Pinned(tuple(map(cpufreq.name_of, folders)))
        try:
            settings.keep(folder, [*before, *_speeds(folders)])
            _set(wanted)
            yield pinned
        finally:
            left = guard.restore(folder)
            if left:
                pinned.notes.append(f"the CPU frequency could not be put back: {left}")
                sys.stderr.write(f"edgeq: {pinned.notes[-1]}\n")


def check(mhz: float | None, cpus: tuple[int, ...], root: Path) -> None:
    """Could it be held? Every file is written as it is; nothing changes.

    Raises:
        FailureError: wish, when it cannot be done.
    """
    if mhz is not None:
        wanted = [one for policy in _chosen(cpus, root) for one in _wanted(policy, mhz)]
        _require_rights([Setting(one.path, text_of(one.path)) for one in wanted])


def _chosen(cpus: tuple[int, ...], root: Path) -> list[Path]:
    found = cpufreq.folders(root)
    if not found:
        message = "the frequency cannot be pinned: this device has no cpufreq in sysfs"
        raise FailureError("wish", message, "leave out --pin-frequency")
    return [one for one in found if not cpus or set(cpufreq.cpus_of(one)) & set(cpus)]


def _wanted(policy: Path, mhz: float) -> list[Setting]:
    """In an order in which the lower limit is never above the upper one."""
    khz = _target_khz(policy, mhz)
    low = Setting(policy / "scaling_min_freq", str(khz))
    high = Setting(policy / "scaling_max_freq", str(khz))
    highest = cpufreq.mhz(high.path)
    limits = [high, low] if highest is not None and khz > 1000 * highest else [low, high]
    governors = text_of(policy / "scaling_available_governors").split()
    fast = [Setting(policy / "scaling_governor", _FAST)] if _FAST in governors else []
    return fast + limits


def _target_khz(policy: Path, mhz: float) -> int:
    name = cpufreq.name_of(policy)
    limit = cpufreq.mhz(policy / "scaling_max_freq")
    lowest = cpufreq.mhz(policy / "cpuinfo_min_freq")
    highest = cpufreq.mhz(policy / "cpuinfo_max_freq") or limit
    if limit is None or highest is None:
        message = f"the frequency cannot be pinned: {name} has no scaling_max_freq"
        raise FailureError("wish", message, "leave out --pin-frequency")
    if mhz == 0:
        return round(1000 * limit)
    steps = [int(word) for word in _steps(policy) if word.isdigit()]
    near = min(steps, key=lambda step: abs(step - 1000 * mhz), default=round(1000 * mhz))
    fits = (lowest or 0.0) <= near / 1000.0 <= highest
    if abs(near - 1000 * mhz) > _CLOSE * 1000 * mhz or not fits:
        shown = ", ".join(f"{step / 1000:g}" for step in sorted(steps))
        words = shown or f"{lowest or 0:g} to {highest:g}"
        message = f"{name} (CPU {cpufreq.listed(cpufreq.cpus_of(policy))}) has no {mhz:g} MHz"
        raise FailureError("wish", message, f"it has {words} MHz; --cpus chooses among CPUs")
    return near


def _steps(policy: Path) -> list[str]:
    names = ("scaling_available_frequencies", "scaling_boost_frequencies")
    return [word for name in names for word in text_of(policy / name).split()]


def _require_cool(root: Path) -> None:
    """While the kernel caps it, the limit that was set cannot be read, and so not be put back."""
    if _CAPPED in (throttle.read(root).words or ()):
        message = "the frequency cannot be pinned while the device is too warm and holds it down"
        raise FailureError("wish", message, "let it cool down first: --cool-to 50")


def _require_rights(before: list[Setting]) -> None:
    """Every value is written as it is."""
    for one in before:
        refusal = settings.write(one) if one.value else "it cannot be read"
        if refusal:
            paths = ", ".join(f"/usr/bin/tee {other.path}" for other in before)
            message = f"--pin-frequency may not write {one.path}: {refusal}; nothing was changed"
            mend = f"log in as root, or allow it with visudo: {_user()} ALL=(root) NOPASSWD: "
            raise FailureError("wish", message, mend + paths)


def _speeds(folders: list[Path]) -> list[Setting]:
    """The governor ``userspace`` forgets its speed when it is left."""
    paths = [one / "scaling_setspeed" for one in folders]
    return [Setting(path, text_of(path)) for path in paths if text_of(path).isdigit()]


def _set(wanted: list[Setting]) -> None:
    for one in wanted:
        refusal = settings.write(one)
        if not refusal and text_of(one.path) != one.value:
            refusal = f"the kernel made {text_of(one.path)} of {one.value}"
        if refusal:
            message = f"--pin-frequency could not write {one.path}: {refusal}; it was put back"
            raise FailureError("wish", message, "leave out --pin-frequency, or name another value")


class _Guard:
    """The agent's end of a running guard."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def hear(self) -> str:
        """Its next line; empty when it is dead or silent."""
        pipe = self._process.stdout
        if pipe is None or not select.select([pipe], [], [], _GUARD_S)[0]:
            return ""
        return os.read(pipe.fileno(), 1 << 16).decode("utf-8", "replace").strip()

    def restore(self, folder: Path) -> str:
        """What could not be put back. If the guard died, it is done here."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        said = self.hear()
        return "" if said == "restored" else " ".join(settings.restore(folder))


@contextlib.contextmanager
def _guard(folder: Path) -> typing.Iterator[_Guard]:
    """A guard that watches already.

    Raises:
        FailureError: busy, when another run holds the frequency.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(ARCHIVE), "guard", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    guard = _Guard(process)
    try:
        said = guard.hear()
        if said == "busy":
            raise FailureError("busy", "another run holds the CPU frequency")
        if said != "ready":
            process.kill()
            raise FailureError("internal", "the process that puts frequencies back did not start")
        yield guard
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"#{os.getuid()}"
