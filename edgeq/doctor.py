"""A device examined: what it is, what it lacks, and what edgeq does about each lack."""

import time
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgeq import examination, lacking, provision, wheels
from edgeq.archive import examine_script
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import NamedProfile
from edgeq.errors import EdgeqError
from edgeq.places import Places
from edgeq.ports import Link
from edgeq.runtimes import RuntimeStore

Level = Literal["ok", "note", "lack"]
# Clocks that differ by more make log files and reports hard to put together.
MAX_SKEW_S = 5.0
# Agent, LiteRT with NumPy, a model and its successor.
GOOD_DISK_MIB = 200.0
# Half of the cores at work for others before anything is measured.
BUSY_SHARE = 0.5


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Part):
    """One thing looked at. ``lack`` stops a deploy; ``then`` is what edgeq or the user does."""

    what: str
    level: Level
    found: str
    then: str = ""


class Diagnosis(_Part):
    """All findings, and everything that was seen."""

    device: str
    profile: str
    findings: tuple[Finding, ...]
    facts: Facts

    @property
    def blocked(self) -> bool:
        """Whether a deploy would fail."""
        return any(finding.level == "lack" for finding in self.findings)


def examine(link: Link, device: Device, profile: NamedProfile, places: Places) -> Diagnosis:
    """Look at a device; nothing on it changes.

    Raises:
        PreflightError: it has no Python.
        ConnectError: the connection broke.
    """
    hint = examination.python_hint(device, profile.profile)
    before = time.time()
    facts = examination.examine(link, examine_script(), hint, device.name)
    # The device looked at its clock somewhere in between.
    skew_s = facts.wall_time_s - (before + time.time()) / 2
    doubt_s = (time.time() - before) / 2
    store = RuntimeStore(places.cache / "wheels", wheels.fetch)
    findings = (
        _fits(profile, facts, device),
        *_seen(facts),
        _runtime(profile, facts, device, store),
        _clock(skew_s, doubt_s),
        _throttling(facts),
        _load(facts),
    )
    return Diagnosis(device=device.name, profile=profile.name, findings=findings, facts=facts)


def _fits(profile: NamedProfile, facts: Facts, device: Device) -> Finding:
    machine = examination.describe(facts)
    try:
        examination.check(profile.profile, facts, device.name, {})
    except EdgeqError as error:
        return Finding(what="profile", level="lack", found=error.message, then=error.hint)
    return Finding(what="profile", level="ok", found=f"{profile.name} fits: {machine}")


def _seen(facts: Facts) -> Iterator[Finding]:
    cores = f"{facts.cores} cores" if facts.cores else "cores unknown"
    yield Finding(what="processor", level="ok", found=f"{facts.architecture}, {cores}")
    yield _room("memory", facts.memory_available_mib, None)
    yield _room("disk", facts.disk_free_mib, GOOD_DISK_MIB)
    pythons = ", ".join(f"{'.'.join(map(str, one.version))} ({one.path})" for one in facts.pythons)
    yield Finding(what="python", level="ok" if pythons else "lack", found=pythons or "none")
    installed = sorted(
        {f"{name} {version}" for one in facts.pythons for name, version in one.runtimes.items()}
    )
    yield Finding(what="installed", level="ok", found=", ".join(installed) or "no runtime")
    sensors = ", ".join(facts.sensors)
    yield Finding(
        what="sensors",
        level="ok" if sensors else "note",
        found=sensors or "none",
        then="" if sensors else "power, temperature and frequency will be null in reports",
    )


def _room(what: str, free_mib: float | None, good_mib: float | None) -> Finding:
    if free_mib is None:
        return Finding(what=what, level="note", found="unknown")
    if good_mib is not None and free_mib < good_mib:
        return Finding(
            what=what,
            level="note",
            found=f"{free_mib:.0f} MiB free",
            then=f"a first deploy takes up to {good_mib:.0f} MiB in ~/.edgeq: make room there",
        )
    return Finding(what=what, level="ok", found=f"{free_mib:.0f} MiB free")


def _runtime(profile: NamedProfile, facts: Facts, device: Device, store: RuntimeStore) -> Finding:
    python = device.python or profile.profile.access.python
    try:
        plan = provision.plan(profile.profile, facts, store, device.name, python)
    except EdgeqError as error:
        return Finding(what="runtime", level="lack", found=error.message, then=error.hint)
    if lacking.asks_for_gpu(profile.profile) and plan.choice.name != lacking.GPU_PACKAGE:
        wanted = ", ".join(profile.profile.runtime.providers)
        return Finding(
            what="runtime",
            level="note",
            found=f"{plan.choice}, for {plan.python.path}",
            then=f"for {wanted} install {lacking.GPU_PACKAGE} there: this one runs on the CPU only",
        )
    size = f", {plan.choice.send_bytes / 1e6:.0f} MB" if plan.choice.send_bytes else ""
    return Finding(
        what="runtime",
        level="ok",
        found=f"{plan.choice}{size}, for {plan.python.path}",
        then="edgeq sends it with the first deploy" if plan.choice.send_bytes else "",
    )


def _clock(skew_s: float, doubt_s: float) -> Finding:
    found = f"{skew_s:+.1f} s against this machine, known to {doubt_s:.1f} s"
    if abs(skew_s) - doubt_s > MAX_SKEW_S:
        mend = "set it: sudo timedatectl set-ntp true; reports keep this machine's time"
        return Finding(what="clock", level="note", found=found, then=mend)
    return Finding(what="clock", level="ok", found=found)


def _throttling(facts: Facts) -> Finding:
    if facts.throttled is None:
        return Finding(what="throttling", level="note", found="there is no way to know")
    if not facts.throttled:
        return Finding(what="throttling", level="ok", found="none since it was started")
    mend = "check its power supply and cooling: a run that is throttled is not valid"
    return Finding(what="throttling", level="note", found=", ".join(facts.throttled), then=mend)


def _load(facts: Facts) -> Finding:
    if facts.load_1min is None:
        return Finding(what="load", level="note", found="unknown")
    found = f"{facts.load_1min:.1f} over the last minute"
    if facts.cores and facts.load_1min > BUSY_SHARE * facts.cores:
        mend = "stop what runs there: figures taken beside other work are not trusted"
        return Finding(what="load", level="note", found=found, then=mend)
    return Finding(what="load", level="ok", found=found)
