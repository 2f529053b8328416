"""A phone examined: what it is, what it lacks, and what is to be done about each lack."""

import time
from collections.abc import Iterator

from edgeq import examination
from edgeq.core.health import Finding
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import NamedProfile
from edgeq.doctor import Diagnosis
from edgeq.errors import EdgeqError
from edgeq.native import phone, program, sampler, sensors
from edgeq.native.depot import Depot
from edgeq.places import Places
from edgeq.ports import Link

_GOOD_DISK_MIB = 100.0
_MAX_SKEW_S = 5.0


def examine(link: Link, device: Device, profile: NamedProfile, places: Places) -> Diagnosis:  # noqa: ARG001 - as for other devices
    """Look at a phone; nothing on it changes.

    Raises:
        DeviceError: it cannot be examined.
        ConnectError: the connection broke.
    """
    before = time.time()
    facts = phone.examine(link, device.name)
    skew_s = facts.wall_time_s - (before + time.time()) / 2
    seen = sampler.survey(link)
    findings = (
        _fits(profile, facts, device),
        *_room(facts),
        _program(link, profile, facts, device),
        _battery(seen, sampler.dumped_battery(link)),
        _temperature(seen, sampler.thermal_status(link)),
        _clock(skew_s, (time.time() - before) / 2),
    )
    return Diagnosis(device=device.name, profile=profile.name, findings=findings, facts=facts)


def _fits(profile: NamedProfile, facts: Facts, device: Device) -> Finding:
    try:
        phone.check(profile.profile, facts, device.name)
    except EdgeqError as error:
        return Finding(what="profile", level="lack", found=error.message, then=error.hint)
    found = f"{profile.name} fits: {examination.describe(facts)}"
    return Finding(what="profile", level="ok", found=found)


def _room(facts: Facts) -> Iterator[Finding]:
    cores = f"{facts.cores} cores" if facts.cores else "cores unknown"
    yield Finding(what="processor", level="ok", found=f"{facts.architecture}, {cores}")
    memory = facts.memory_available_mib
    known = "unknown" if memory is None else f"{memory:.0f} MiB free"
    yield Finding(what="memory", level="note" if memory is None else "ok", found=known)
    disk = facts.disk_free_mib
    if disk is None:
        yield Finding(what="disk", level="note", found="unknown")
        return
    short = disk < _GOOD_DISK_MIB
    yield Finding(
        what="disk",
        level="note" if short else "ok",
        found=f"{disk:.0f} MiB free in /data",
        then="make room there: a full /data stops a deploy" if short else "",
    )


def _program(link: Link, profile: NamedProfile, facts: Facts, device: Device) -> Finding:
    try:
        found = program.find(device, profile, None)
        program.fits(found, facts, device.name)
        if found.data is None:
            program.there(Depot(link, device.name), found, device.name)
    except EdgeqError as error:
        return Finding(what="benchmark_model", level="lack", found=error.message, then=error.hint)
    then = "edgeq sends it with the first deploy" if found.data is not None else ""
    return Finding(what="benchmark_model", level="ok", found=found.shown, then=then)


def _battery(seen: dict[str, str], dumped: dict[str, str]) -> Finding:
    found = sensors.battery(seen, dumped)
    if isinstance(found, str):
        return Finding(
            what="power",
            level="note",
            found=found,
            then="for energy: adb over Wi-Fi, and no cable; else power is null in reports",
        )
    return Finding(what="power", level="ok", found=found.source)


def _temperature(seen: dict[str, str], status: str | None) -> Finding:
    zones = ", ".join(sorted(set(sensors.zones(seen).values()))) or "no zone to read"
    if status is None:
        return Finding(what="thermal", level="note", found=f"{zones}; throttling is not told")
    hot = status != "none"
    return Finding(
        what="thermal",
        level="note" if hot else "ok",
        found=f"{zones}; thermal status {status}",
        then="let it cool down: a run that is throttled is not valid" if hot else "",
    )


def _clock(skew_s: float, doubt_s: float) -> Finding:
    found = f"{skew_s:+.1f} s against this machine, known to {doubt_s:.1f} s"
    wrong = abs(skew_s) - doubt_s > _MAX_SKEW_S
    return Finding(
        what="clock",
        level="note" if wrong else "ok",
        found=found,
        then="set it in Settings, Date & time; reports keep this machine's time" if wrong else "",
    )
