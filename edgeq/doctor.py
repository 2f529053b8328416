"""A device examined: what it is, what it lacks, and what edgeq does about each lack."""

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from edgeq import bare, examination, lacking, parcel, provision, wheels
from edgeq.archive import checkup_script, examine_script
from edgeq.core import health
from edgeq.core.health import Finding, Level, Needs
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import NamedProfile
from edgeq.core.state import State
from edgeq.errors import DeviceError, EdgeqError, LinkLostError, NoPythonError
from edgeq.places import Places
from edgeq.ports import Link
from edgeq.provision import RuntimePlan
from edgeq.runtimes import RuntimeStore

_MIB = 1 << 20
_SPARE_MIB = 16.0
_SPARE_FILES = 50
_SESSION_LIMIT_S = 10.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Diagnosis(_Part):
    """All findings, and everything that was seen."""

    device: str
    profile: str
    findings: tuple[Finding, ...]
    facts: Facts
    state: State = State()

    @property
    def blocked(self) -> bool:
        """Whether a deploy would fail."""
        return any(finding.level == "lack" for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was seen, and when: the device's clock is ``skew_s`` before this machine's."""

    facts: Facts
    state: State
    skew_s: float
    doubt_s: float
    useless: tuple[str, ...] = ()
    trouble: str = ""


def examine(link: Link, device: Device, profile: NamedProfile, places: Places) -> Diagnosis:
    """Look at a device; nothing on it changes.

    Raises:
        DeviceError: it cannot be examined, not even by its shell.
        ConnectError: the connection broke.
    """
    seen = _look(link, device, profile)
    store = RuntimeStore(places.cache / "wheels", wheels.fetch)
    planned = _plan(profile, seen.facts, device, store)
    findings = (*_identity(profile, seen, device), *_runtimes(profile, seen, planned, store))
    findings += tuple(_state(seen, planned, store))
    findings += tuple(_session(link, device))
    return Diagnosis(
        device=device.name,
        profile=profile.name,
        findings=findings,
        facts=seen.facts,
        state=seen.state,
    )


def _look(link: Link, device: Device, profile: NamedProfile) -> _Seen:
    hint = examination.python_hint(device, profile.profile)
    before = time.time()
    try:
        facts = examination.examine(link, examine_script(), hint, device.name)
    except NoPythonError:
        before = time.time()
        facts, state, useless = bare.examine(link, device.name)
        skew_s, doubt_s = _skew(facts, before)
        return _Seen(facts=facts, state=state, skew_s=skew_s, doubt_s=doubt_s, useless=useless)
    skew_s, doubt_s = _skew(facts, before)
    state, trouble = State(), ""
    try:
        state = examination.check_up(link, checkup_script(), hint, device.name)
    except DeviceError as error:
        trouble = error.message
    return _Seen(facts=facts, state=state, skew_s=skew_s, doubt_s=doubt_s, trouble=trouble)


def _skew(facts: Facts, before: float) -> tuple[float, float]:
    """The device looked at its clock somewhere in between."""
    after = time.time()
    return facts.wall_time_s - (before + after) / 2, (after - before) / 2


def _plan(
    profile: NamedProfile, facts: Facts, device: Device, store: RuntimeStore
) -> RuntimePlan | EdgeqError:
    python = device.python or profile.profile.access.python
    try:
        return provision.plan(profile.profile, facts, store, device.name, python)
    except EdgeqError as error:
        return error


def _identity(profile: NamedProfile, seen: _Seen, device: Device) -> Iterator[Finding]:
    """The machine, its C library and its Pythons against the profile."""
    facts = seen.facts
    problems = examination.problems(profile.profile, facts)
    machine = examination.describe(facts)
    found = f"{profile.name} fits: {machine}"
    wrong = problems.get("system") or problems.get("machine")
    if wrong:
        found = f"{device.name} ({machine}) is not what its profile says: {wrong[0]}"
        yield Finding(what="profile", level="lack", found=found, then=_detect(device))
    elif problems.keys() - {"home"}:
        what = ", ".join(problem for problem, _ in problems.values())
        # Each has a line of its own, with the mend.
        yield Finding(what="profile", level="note", found=f"{machine}: {what}")
    else:
        yield Finding(what="profile", level="ok", found=found)
    cores = f"{facts.cores} cores" if facts.cores else "cores unknown"
    offline = f", {seen.state.cores_offline} offline" if seen.state.cores_offline else ""
    yield Finding(what="processor", level="ok", found=f"{facts.architecture}, {cores}{offline}")
    yield _libc(facts, problems.get("libc"))
    yield _python(seen, problems.get("python"))


def _detect(device: Device) -> str:
    return f"edgeq profiles detect --device {device.name} says what it is"


def _libc(facts: Facts, problem: tuple[str, str] | None) -> Finding:
    known = f"{facts.libc or 'unknown'} {facts.libc_version or ''}".strip()
    if problem is None:
        level: Level = "ok" if facts.libc else "note"
        return Finding(what="libc", level=level, found=known)
    mend = "a newer system is needed there; or a profile that allows this one: --profile linux"
    return Finding(what="libc", level="lack", found=problem[0], then=mend)


def _python(seen: _Seen, problem: tuple[str, str] | None) -> Finding:
    facts = seen.facts
    found = ", ".join(f"{'.'.join(map(str, one.version))} ({one.path})" for one in facts.pythons)
    if problem is None:
        return Finding(what="python", level="ok", found=found or "none, and none is needed")
    if not facts.pythons:
        useless = f"; of no use: {', '.join(seen.useless)}" if seen.useless else ""
        mend = "sudo apt install python3 (in Termux: pkg install python)"
        return Finding(what="python", level="lack", found=f"none{useless}", then=mend)
    mend = problem[1]
    if facts.libc == "glibc" and (facts.os or "").startswith("Ubuntu 18.04"):
        # JetPack 4 has 3.6; universe has this one beside it.
        mend = "sudo apt install python3.8"
    return Finding(what="python", level="lack", found=f"too old: {found}", then=mend)


def _runtimes(
    profile: NamedProfile, seen: _Seen, planned: RuntimePlan | EdgeqError, store: RuntimeStore
) -> Iterator[Finding]:
    facts = seen.facts
    installed = sorted(
        {f"{name} {version}" for one in facts.pythons for name, version in one.runtimes.items()}
    )
    yield Finding(what="installed", level="ok", found=", ".join(installed) or "no runtime")
    for name, why in sorted({pair for one in facts.pythons for pair in one.problems.items()}):
        last = (why.strip().splitlines() or ["it says nothing"])[-1][:160]
        yield Finding(
            what="installed",
            level="note",
            found=f"{name} there does not import: {last}",
            then=health.package_for(why) or "edgeq passes it over",
        )
    if not facts.pythons:
        found = "not looked for: there is no Python that could run one"
        if profile.profile.runtime.native:
            found = "benchmark_model, which needs no Python there"
        yield Finding(what="runtime", level="note", found=found)
        return
    yield _runtime(profile, planned)
    yield from health.libraries(seen.state, sends_runtime=_needs(planned, store).sends_runtime)


def _runtime(profile: NamedProfile, plan: RuntimePlan | EdgeqError) -> Finding:
    if isinstance(plan, EdgeqError):
        return Finding(what="runtime", level="lack", found=plan.message, then=plan.hint)
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


def _needs(planned: RuntimePlan | EdgeqError, store: RuntimeStore) -> Needs:
    """What the planned runtime takes there."""
    if isinstance(planned, EdgeqError):
        return Needs()
    package = planned.choice.package
    if package is None or planned.choice.origin != "wheels":
        return Needs(sends_runtime=package is not None)
    path = store.parcel(package)
    size_mib = path.stat().st_size / _MIB
    with zipfile.ZipFile(path) as archive:
        files = len(archive.namelist()) + _SPARE_FILES
    disk_mib = size_mib + parcel.unpacked_bytes(path) / _MIB + _SPARE_MIB
    return Needs(disk_mib=disk_mib, largest_mib=size_mib, files=files)


def _state(
    seen: _Seen, planned: RuntimePlan | EdgeqError, store: RuntimeStore
) -> Iterator[Finding]:
    facts, state = seen.facts, seen.state
    if seen.trouble:
        yield Finding(what="state", level="note", found=seen.trouble)
    yield from health.place(facts, state, _needs(planned, store))
    yield from health.memory(facts, state)
    yield health.clock(facts, state, seen.skew_s, seen.doubt_s)
    yield from health.power_supply(facts)
    yield health.throttling(facts)
    yield from health.frequency(state)
    yield from health.work(facts, state)
    if facts.pythons:
        yield from health.sensors(facts, state)
    else:
        yield Finding(what="sensors", level="note", found="not looked for without a Python")


def _session(link: Link, device: Device) -> Iterator[Finding]:
    """Whether the SSH server allows a second command beside a first; edgeq needs one only."""
    if device.transport != "ssh":
        return
    first = link.open(["cat"])
    try:
        link.run(["true"], timeout_s=_SESSION_LIMIT_S)
        found = "several commands at a time; SFTP is not used"
    except LinkLostError:
        raise
    except DeviceError:
        found = "one command at a time (MaxSessions 1), which is enough; SFTP is not used"
    finally:
        first.close()
    yield Finding(what="ssh", level="ok", found=found)
