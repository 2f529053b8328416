"""Which runtime a device gets, and getting it there without internet, pip or root on the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edgeq import digest, parcel, wire
from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.profile import Profile, RuntimeKind
from edgeq.errors import PreflightError, SpaceError
from edgeq.examination import version_tuple
from edgeq.ports import OnProgress
from edgeq.runtimes import PACKAGES, Package, RuntimeStore, older
from edgeq.wheels import Target

# What is older fails on operators of today's converter.
OLDEST_GOOD: dict[RuntimeKind, tuple[int, ...]] = {
    "litert": (2, 0),
    "tflite_runtime": (2, 13),
    "onnxruntime": (1, 15),
}
_MIB = 1 << 20
_SPARE_MIB = 16.0
_MOST_OLDER = 3


class Remote(Protocol):
    """What provisioning needs of a session."""

    def put(self, path: str, data: Path | bytes, sha256: str, on_progress: OnProgress) -> int: ...
    def unpack(self, path: str, into: str, on_progress: OnProgress) -> None: ...
    def probe(self, runtime: wire.Runtime) -> wire.Probed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to a runtime.

    Attributes:
        origin: ``installed`` by the device's owner, ``provisioned`` by edgeq before, or ``wheels``
            that are to be sent.
        package: What is or will be in ``runtimes/``; None when installed.
        send_bytes: What has to be sent.
    """

    kind: RuntimeKind
    origin: Literal["installed", "provisioned", "wheels"]
    version: str
    package: Package | None = None
    send_bytes: int = 0

    def __str__(self) -> str:
        return f"{PACKAGES[self.kind]} {self.version}, {_ORIGINS[self.origin]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePlan:
    """The Python that runs the agent, and the runtime to try first."""

    python: PythonFacts
    target: Target
    choice: Choice
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A runtime that runs there. ``choice`` differs from the plan's when that one failed."""

    runtime: wire.Runtime
    probed: wire.Probed
    choice: Choice
    bytes_sent: int


_ORIGINS = {
    "installed": "installed there",
    "provisioned": "sent before",
    "wheels": "to be sent",
}


def plan(
    profile: Profile, facts: Facts, store: RuntimeStore, where: str, python: str | None = None
) -> RuntimePlan:
    """Choose a Python and a runtime. Nothing is sent; wheels may be fetched to the host.

    Args:
        profile: The device's.
        facts: What the examination found.
        store: The host's cache of runtimes.
        where: The device, as the user calls it.
        python: The only Python that may be used; None: any.

    Raises:
        PreflightError: no runtime can be had for it; with what would help.
        FetchError: wheels have to be fetched, and cannot.
    """
    usable = _usable(profile, facts, where, python)
    for candidate in usable:
        target = Target.of(facts, candidate)
        choice = next(_choices(profile, facts, store, candidate, installed=True), None)
        if choice is not None:
            return _plan(profile, candidate, target, choice)
    for candidate in usable:
        target = Target.of(facts, candidate)
        choice = next(_choices(profile, facts, store, candidate, installed=False), None)
        if choice is not None:
            return _plan(profile, candidate, target, choice)
    raise _none_to_be_had(profile, facts, usable, where)


def agent_python(profile: Profile, facts: Facts, where: str, python: str | None) -> str:
    """The Python that runs the agent where no runtime is needed.

    Raises:
        PreflightError: there is none.
    """
    return _usable(profile, facts, where, python)[0].path


def ensure(
    session: Remote,
    plan: RuntimePlan,
    profile: Profile,
    facts: Facts,
    store: RuntimeStore,
    on_progress: OnProgress,
) -> Ready:
    """Make the planned runtime work on the device; where it does not import, another one.

    Raises:
        PreflightError: none runs; with all that were tried.
        SpaceError: the device's disk has no room for it.
        FetchError: another one has to be fetched, and cannot.
    """
    tried: list[str] = []
    sent_bytes = 0
    for choice in _attempts(plan, profile, facts, store):
        if choice.package is not None and choice.origin == "wheels":
            sent_bytes += _send(session, choice.package, facts, store, on_progress)
        paths = (f"runtimes/{choice.package.folder}",) if choice.package else ()
        runtime = wire.Runtime(kind=choice.kind, paths=paths, threads=plan.threads)
        on_progress(f"try {PACKAGES[choice.kind]}", 0, 0)
        probed = session.probe(runtime)
        if probed.ok:
            return Ready(runtime=runtime, probed=probed, choice=choice, bytes_sent=sent_bytes)
        why = (probed.detail.strip().splitlines() or ["it does not run"])[-1][:200]
        tried.append(f"{PACKAGES[choice.kind]} {choice.version}: {why}")
        if choice.package is not None:
            store.refuse(choice.package, facts, probed.detail)
    raise PreflightError(
        f"no runtime runs on the device; tried {'; '.join(tried)}",
        hint="install one there by hand: pip install ai-edge-litert, or tflite-runtime",
    )


def _plan(profile: Profile, python: PythonFacts, target: Target, choice: Choice) -> RuntimePlan:
    threads = profile.runtime.threads
    return RuntimePlan(python=python, target=target, choice=choice, threads=threads)


def _usable(
    profile: Profile, facts: Facts, where: str, python: str | None
) -> tuple[PythonFacts, ...]:
    least = version_tuple(profile.system.python_min)
    usable = tuple(
        one
        for one in facts.pythons
        if one.implementation == "CPython" and one.version[: len(least)] >= least
    )
    chosen = tuple(one for one in usable if python is None or _is_called(one.path, python))
    if not chosen:
        found = ", ".join(one.path for one in usable) or "none"
        raise PreflightError(
            f"{where} has no usable Python{' ' + python if python else ''}",
            hint=f"Python {profile.system.python_min} or newer is needed; found: {found}",
        )
    return chosen


def _is_called(path: str, python: str) -> bool:
    """A bare name stands for what the device's PATH made of it."""
    return path == python if "/" in python else Path(path).name == python


def _choices(
    profile: Profile,
    facts: Facts,
    store: RuntimeStore,
    python: PythonFacts,
    *,
    installed: bool,
) -> Iterator[Choice]:
    """What is installed, or what the host can send, by the profile's order."""
    target = Target.of(facts, python)
    for kind in profile.runtime.kinds:
        if installed:
            version = python.runtimes.get(kind)
            if version and _is_good(kind, version, python):
                yield Choice(kind=kind, origin="installed", version=version)
            continue
        package = store.find(kind, target)
        while package is not None and store.is_refused(package, facts):
            package = store.find(kind, target, below=package.version)
        if package is not None and _numpy_is_there(package, python):
            yield _packaged(package, facts, store)


def _packaged(package: Package, facts: Facts, store: RuntimeStore) -> Choice:
    there = package.folder in facts.runtimes
    return Choice(
        kind=package.kind,
        origin="provisioned" if there else "wheels",
        version=package.version,
        package=package,
        send_bytes=0 if there else store.parcel(package).stat().st_size,
    )


def _is_good(kind: RuntimeKind, version: str, python: PythonFacts) -> bool:
    known = version_tuple(version)
    return "numpy" in python.runtimes and (not known or known >= OLDEST_GOOD[kind])


def _numpy_is_there(package: Package, python: PythonFacts) -> bool:
    if package.with_numpy:
        return True
    version = version_tuple(python.runtimes.get("numpy", ""))
    return bool(version) and (package.kind != "tflite_runtime" or version < (2,))


def _attempts(
    plan: RuntimePlan, profile: Profile, facts: Facts, store: RuntimeStore
) -> Iterator[Choice]:
    """The plan's choice, then the others: installed ones, then packages with their forerunners."""
    yield plan.choice
    for choice in _choices(profile, facts, store, plan.python, installed=True):
        if choice != plan.choice:
            yield choice
    for choice in _choices(profile, facts, store, plan.python, installed=False):
        if choice.package is None:
            continue
        if choice != plan.choice:
            yield choice
        for package in older(store, choice.package, plan.target, _MOST_OLDER):
            if not store.is_refused(package, facts) and _numpy_is_there(package, plan.python):
                yield _packaged(package, facts, store)


def _send(
    session: Remote,
    package: Package,
    facts: Facts,
    store: RuntimeStore,
    on_progress: OnProgress,
) -> int:
    path = store.parcel(package)
    needed_mib = (path.stat().st_size + parcel.unpacked_bytes(path)) / _MIB + _SPARE_MIB
    if facts.disk_free_mib is not None and facts.disk_free_mib < needed_mib:
        raise SpaceError(
            f"the device's disk has {facts.disk_free_mib:.0f} MiB free in {facts.root},"
            f" {PACKAGES[package.kind]} takes {needed_mib:.0f} MiB",
            hint="make room there, then start again",
        )
    place = f"runtimes/runtime-{package.folder}.zip"
    sent_bytes = session.put(place, path, digest.of_file(path), on_progress)
    session.unpack(place, f"runtimes/{package.folder}", on_progress)
    return sent_bytes


def _none_to_be_had(
    profile: Profile, facts: Facts, pythons: tuple[PythonFacts, ...], where: str
) -> PreflightError:
    kinds = " or ".join(PACKAGES[kind] for kind in profile.runtime.kinds)
    versions = ", ".join(".".join(map(str, python.version[:2])) for python in pythons)
    problems = [
        f"{kind} there does not import: {python.problems[kind].strip().splitlines()[-1][:120]}"
        for python in pythons
        for kind in profile.runtime.kinds
        if python.problems.get(kind, "").strip()
    ]
    what = f"there is no {kinds} for Python {versions} on {facts.architecture}"
    if facts.libc:
        what += f" with {facts.libc} {facts.libc_version or ''}".rstrip()
    return PreflightError(f"{where}: {'; '.join([what, *problems])}", hint=_mend(facts, pythons))


def _mend(facts: Facts, pythons: tuple[PythonFacts, ...]) -> str:
    if facts.libc == "bionic":
        return "in Termux: pkg install python-numpy python-tflite-runtime"
    lacks_numpy = not any("numpy" in python.runtimes for python in pythons)
    if facts.architecture.startswith("armv") and lacks_numpy:
        return "there is no wheel of numpy for it; on the device: sudo apt install python3-numpy"
    return "a Python from 3.9 to 3.13 on a 64-bit glibc system can be served; install one there"
