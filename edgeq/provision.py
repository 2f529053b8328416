"""Which runtime a device gets, and getting it there without internet, pip or root on the device."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from edgeq import digest, lacking, parcel, wire
from edgeq.core import health
from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.profile import Format, Profile, RuntimeKind
from edgeq.errors import PreflightError, SpaceError
from edgeq.examination import version_tuple
from edgeq.ports import OnProgress
from edgeq.runtimes import PACKAGES, Package, RuntimeStore, needs_numpy_1, older
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
# Failures of the device at this moment: another version would fare no better.
_OF_THE_MOMENT = frozenset({"hang", "memory", "killed"})
# Libraries of the system's own: without them no other version runs either.
_LACKS = re.compile(r"(lib(?:stdc\+\+|gcc_s|gomp)\.so\.\d+): cannot open shared object file")


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
        name: Of the package on its index.
    """

    kind: RuntimeKind
    origin: Literal["installed", "provisioned", "wheels"]
    version: str
    package: Package | None = None
    send_bytes: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name or PACKAGES[self.kind]} {self.version}, {_ORIGINS[self.origin]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePlan:
    """The Python that runs the agent, and the runtime to try first for a format."""

    python: PythonFacts
    target: Target
    choice: Choice
    threads: int
    format: Format


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
    profile: Profile,
    facts: Facts,
    store: RuntimeStore,
    where: str,
    python: str | None = None,
    *,
    format_: Format | None = None,
) -> RuntimePlan:
    """Choose a Python and a runtime. Nothing is sent; wheels may be fetched to the host.

    Args:
        profile: The device's.
        facts: What the examination found.
        store: The host's cache of runtimes.
        where: The device, as the user calls it.
        python: The only Python that may be used; None: any.
        format_: What it is to run; None: the profile's.

    Raises:
        PreflightError: no runtime can be had for it; with what would help.
        FetchError: wheels have to be fetched, and cannot.
    """
    wanted = format_ or profile.conversion.format
    kinds = lacking.kinds_of(profile, wanted, where)
    usable = _usable(profile, facts, where, python)
    for installed in (True, False):
        for candidate in _gpu_first(usable, profile) if installed else usable:
            target = Target.of(facts, candidate)
            choices = _choices(kinds, facts, store, candidate, installed=installed)
            choice = next(choices, None)
            if choice is not None:
                threads = profile.runtime.threads
                return RuntimePlan(
                    python=candidate, target=target, choice=choice, threads=threads, format=wanted
                )
    raise lacking.none_to_be_had(kinds, facts, usable, where)


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
        runtime = _runtime(choice, paths, plan, profile)
        on_progress(f"try {PACKAGES[choice.kind]}", 0, 0)
        probed = session.probe(runtime)
        if probed.ok:
            return Ready(runtime=runtime, probed=probed, choice=choice, bytes_sent=sent_bytes)
        why = (probed.detail.strip().splitlines() or ["it does not run"])[-1][:200]
        tried.append(f"{PACKAGES[choice.kind]} {choice.version}: {why}")
        lacks = _LACKS.search(probed.detail)
        if lacks is not None:
            raise PreflightError(
                f"the device lacks {lacks[1]}, which {PACKAGES[choice.kind]} needs",
                hint=f"on the device: {health.package_for(probed.detail)}",
            )
        if probed.kind in _OF_THE_MOMENT:
            raise PreflightError(
                f"{PACKAGES[choice.kind]} {choice.version} could not be tried: {why}",
                hint="is the device short of memory, or busy? edgeq doctor tells; then start again",
            )
        if choice.package is not None:
            store.refuse(choice.package, facts, probed.detail)
    names = ", or ".join(PACKAGES[kind] for kind in profile.runtime.kinds_for(plan.format))
    raise PreflightError(
        f"no runtime runs on the device; tried {'; '.join(tried)}",
        hint=f"install one there by hand: pip install {names}",
    )


def _runtime(
    choice: Choice, paths: tuple[str, ...], plan: RuntimePlan, profile: Profile
) -> wire.Runtime:
    runtime = wire.Runtime(kind=choice.kind, paths=paths, threads=plan.threads)
    if choice.kind != "onnxruntime":
        return runtime
    providers, arena = profile.runtime.providers, profile.runtime.arena
    level = profile.runtime.graph_optimization
    return replace(runtime, providers=providers, arena=arena, graph_optimization=level)


def _gpu_first(usable: tuple[PythonFacts, ...], profile: Profile) -> tuple[PythonFacts, ...]:
    """Where a GPU is asked for, the Python with the build that has it; else as they are."""
    if not lacking.asks_for_gpu(profile):
        return usable
    gpu = lacking.GPU_PACKAGE
    return tuple(sorted(usable, key=lambda one: gpu not in one.packages.values()))


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
    kinds: tuple[RuntimeKind, ...],
    facts: Facts,
    store: RuntimeStore,
    python: PythonFacts,
    *,
    installed: bool,
) -> Iterator[Choice]:
    """What is installed, or what the host can send, by the profile's order."""
    target = Target.of(facts, python)
    for kind in kinds:
        if installed:
            version = python.runtimes.get(kind)
            if version and _is_good(kind, version, python):
                name = python.packages.get(kind, "")
                yield Choice(kind=kind, origin="installed", version=version, name=name)
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
    return bool(version) and (not needs_numpy_1(package.kind, package.version) or version < (2,))


def _attempts(
    plan: RuntimePlan, profile: Profile, facts: Facts, store: RuntimeStore
) -> Iterator[Choice]:
    """The plan's choice, then the others: installed ones, then packages with their forerunners."""
    kinds = profile.runtime.kinds_for(plan.format)
    yield plan.choice
    for choice in _choices(kinds, facts, store, plan.python, installed=True):
        if choice != plan.choice:
            yield choice
    for choice in _choices(kinds, facts, store, plan.python, installed=False):
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
