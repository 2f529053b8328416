"""Build a virtual environment from lists of pinned, hashed packages."""

import contextlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgeq.errors import HostError
from edgeq.packages import PackageList, Wanted
from edgeq.pip_child import PART, Child, NoPackageError
from edgeq.ports import OnProgress
from edgeq.pythons import Python

_MIB = 1 << 20
_GIB_SHOWN_FROM = 1000
_STEPS = 1000  # of the bar, a package
_FETCHING = re.compile(rb"^(Collecting|Processing) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to build where.

    Attributes:
        folder: Must not exist.
        log: What pip says is appended to it.
        lock: Descriptor of a lock that lives as long as the builders do.
    """

    wanted: Wanted
    python: Python
    folder: Path
    log: Path
    lock: int


def build(job: Job, on_progress: OnProgress) -> int:
    """Make the environment; how many packages it has. What an error leaves is the caller's.

    Raises:
        HostError: no space, or a package does not install.
        FetchError: the packages cannot be fetched.
    """
    wanted = job.wanted
    _require_space(job, wanted.main)
    with _host_errors(job), _log(job.log) as log:
        purpose = f"the environment {wanted.name} for Python {job.python.version}"
        child = Child(purpose=purpose, log=log, log_path=job.log, lock=job.lock)
        on_progress(_phase(wanted.main), 0, 0)
        child.run(_make(job), lambda _: None)
        if wanted.rather:
            with contextlib.suppress(NoPackageError):
                _install(job, wanted.rather, child, on_progress)
        _install(job, wanted.main, child, on_progress)
        if wanted.extra and _needed(job, wanted.extra):
            _require_space(job, wanted.extra)
            _install(job, wanted.extra, child, on_progress)
    return len(list(_installed(job.folder)))


def _phase(packages: PackageList) -> str:
    size_mib = packages.size_mib
    if not size_mib:
        return f"look for {packages.path.stem}"
    size = f"{size_mib / 1024:.1f} GiB" if size_mib >= _GIB_SHOWN_FROM else f"{size_mib} MiB"
    return f"make {packages.path.stem}, once, {size}"


def _require_space(job: Job, packages: PackageList) -> None:
    """Wheels are unpacked from pip's own folder, so for a while they are there twice."""
    parent = next(folder for folder in job.folder.parents if folder.exists())
    free_mib = shutil.disk_usage(parent).free // _MIB
    needed_mib = packages.size_mib * 3 // 2
    if free_mib < needed_mib:
        raise HostError(
            f"the environment {job.wanted.name} needs {needed_mib} MiB, and {parent} has "
            f"{free_mib} free",
            hint="free some space, or set EDGEQ_HOME to a folder on another disk",
        )


@contextlib.contextmanager
def _host_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(
            f"cannot build {job.folder}, whose log is {job.log}: {error.strerror}"
        ) from error


@contextlib.contextmanager
def _log(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as stream:
        yield stream


def _make(job: Job) -> list[str]:
    # without pip: Debian's venv has none unless a package of its own is installed
    return [str(job.python.path), "-I", "-m", "venv", "--without-pip", str(job.folder)]


def _install(job: Job, packages: PackageList, child: Child, on_progress: OnProgress) -> None:
    """With the pip of edgeq's own environment."""
    command = [
        sys.executable, "-m", "pip", "--python", str(job.folder / "bin" / "python"), "install",
        "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-input", "--no-compile",
        "--disable-pip-version-check", "--no-warn-script-location", "--progress-bar=raw",
        "--retries=2",
        "-r", str(packages.path),
    ]  # fmt: skip
    bar = _Bar(job, packages, on_progress)
    child.run(command, bar.feed)
    bar.end()


def _needed(job: Job, extra: PackageList) -> bool:
    """Whether something installed asks for a package of ``extra``, which is not there."""
    there = {canonicalize_name(item.name) for item in _installed(job.folder)}
    lacking = {name for name, _ in extra.packages} - there
    wishes = (text for item in _installed(job.folder) for text in item.requires or ())
    return not lacking.isdisjoint(_applying(job, wishes))


def _applying(job: Job, wishes: Iterable[str]) -> Iterator[str]:
    for wish in map(Requirement, wishes):
        if wish.marker is None or wish.marker.evaluate({**_marks(job), "extra": ""}):
            yield canonicalize_name(wish.name)


def _marks(job: Job) -> dict[str, str]:
    version = job.python.version
    return {"python_version": version, "python_full_version": f"{version}.0"}


def _installed(folder: Path) -> Iterable[Distribution]:
    return distributions(path=[str(path) for path in folder.glob("lib/python3*/site-packages")])


class _Bar:
    """pip's lines as one bar: half of it is fetching, half installing."""

    def __init__(self, job: Job, packages: PackageList, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._folder = job.folder
        self._phase = _phase(packages)
        self._before = len(list(_installed(job.folder)))
        self._packages = max(1, packages.count(_marks(job)))
        self._fetching = 0
        self._part = 0.0
        self._shown = -1

    def feed(self, line: bytes) -> None:
        """A line of output; an empty one for time that has passed."""
        if _FETCHING.match(line):
            self._fetching, self._part = self._fetching + 1, 0.0
        elif part := PART.match(line):
            done_bytes, total_bytes = (int(number) for number in part.groups())
            self._part = done_bytes / total_bytes if total_bytes else 0.0
        fetched = min(max(self._fetching - 1, 0) + self._part, self._packages)
        installed = 0 if line else len(list(_installed(self._folder))) - self._before
        if installed:
            fetched = self._packages
        self._show(int(_STEPS * (fetched + min(installed, self._packages))))

    def end(self) -> None:
        """All of it is done."""
        self._show(2 * _STEPS * self._packages)

    def _show(self, done: int) -> None:
        if done > self._shown:
            self._shown = done
            self._on_progress(self._phase, done, 2 * _STEPS * self._packages)
