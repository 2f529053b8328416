"""Environments of their own for libraries that cannot share edgeq's: PyTorch, onnx2tf, training.

``edgeq/requirements/NAME.txt`` lists all that an environment holds, each package pinned and hashed.
It is built when it is first used, in the cache folder, under a name that holds the hash of the
list and the Python's version; it counts only once its stamp, which is written last, is there.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq import builder, packages, pythons
from edgeq.errors import HostError, UsageError
from edgeq.packages import LISTS, Wanted
from edgeq.places import Places
from edgeq.ports import OnProgress

_STAMP = "edgeq-environment.json"
_PYTHON = Path("bin", "python")
_FOLDER = re.compile(r"(?P<name>[a-z0-9-]+)-py(?P<python>3\.\d+)-(?P<key>[0-9a-f]{16})")
_WAIT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An environment on the disk.

    Attributes:
        python: Version, such as ``3.12``.
        complete: False: its building was interrupted; the next use builds it again.
        current: This edgeq uses it; False: it belongs to another version of edgeq.
        created: Seconds of wall time (UTC); None when it is not complete.
        packages: How many; None when it is not complete.
    """

    name: str
    python: str
    folder: Path
    complete: bool
    current: bool
    created: float | None
    packages: int | None
    size_bytes: int

    @property
    def state(self) -> str:
        """In a word or two, for a table."""
        if not self.complete:
            return "interrupted"
        return "ready" if self.current else "of another edgeq"


def ensure(name: str, places: Places, on_progress: OnProgress, *, lists: Path = LISTS) -> Path:
    """The Python of environment ``name``, which is built first if it is not there.

    Of several edgeq at once, one builds and the others wait for it.

    Raises:
        HostError: no fitting Python on this machine, no space, or a package does not install.
        FetchError: the packages cannot be fetched.
    """
    wanted = packages.find(name, lists)
    root = _root(places)
    ready = _ready(root, wanted)
    if ready is not None:
        return ready
    python = pythons.find(name, wanted.python)
    folder = root / f"{name}-py{python.version}-{wanted.key}"
    with _locked(folder, on_progress, f"wait for another edgeq: {name}") as lock:
        if not _is_complete(folder):
            _clear(folder)
            log = places.log / f"environment-{name}.log"
            job = builder.Job(wanted=wanted, python=python, folder=folder, log=log, lock=lock)
            _stamp(folder, builder.build(job, on_progress))
    return folder / _PYTHON


def fingerprint(name: str, *, lists: Path = LISTS) -> str:
    """What identifies the packages of an environment, built or not: part of a cache's key.

    Raises:
        HostError: this edgeq has no such environment.
    """
    return packages.find(name, lists).key


def installed(places: Places, *, lists: Path = LISTS) -> tuple[Installed, ...]:
    """All on the disk, also unfinished ones, sorted by name."""
    return tuple(
        _describe(folder, match, lists)
        for folder in sorted(_root(places).glob("*"))
        if folder.is_dir() and (match := _FOLDER.fullmatch(folder.name))
    )


def remove(places: Places, name: str | None, *, lists: Path = LISTS) -> tuple[Installed, ...]:
    """Delete the environments called ``name``, or all; what was deleted.

    Raises:
        UsageError: there is none of that name.
        HostError: one is in use, or cannot be deleted.
    """
    found = installed(places, lists=lists)
    chosen = tuple(one for one in found if name in (None, one.name))
    if name is not None and not chosen:
        there = ", ".join(sorted({one.name for one in found}))
        raise UsageError(
            f"there is no environment {name!r}", hint=f"there are: {there}" if there else ""
        )
    for one in chosen:
        _refuse_used(one)
        with _lock(one.folder) as lock:
            if lock is None:
                raise HostError(f"the environment {one.name} is being built by another edgeq")
            _clear(one.folder)
            _lock_path(one.folder).unlink(missing_ok=True)
    return chosen


def _root(places: Places) -> Path:
    return places.cache / "environments"


def _ready(root: Path, wanted: Wanted) -> Path | None:
    """One that is complete, found without a look at this machine's Pythons."""
    folders = root.glob(f"{wanted.name}-py*-{wanted.key}")
    complete = [folder for folder in sorted(folders) if _is_complete(folder)]
    return complete[-1] / _PYTHON if complete else None


def _is_complete(folder: Path) -> bool:
    # the link dangles when the Python that it was built with is gone
    return (folder / _STAMP).is_file() and (folder / _PYTHON).exists()


def _clear(folder: Path) -> None:
    """Delete; the stamp goes first, so that what a kill leaves is not taken for whole."""
    try:
        (folder / _STAMP).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise HostError(f"cannot delete {folder}: {error.strerror}") from error


def _stamp(folder: Path, packages: int) -> None:
    facts = {"created": time.time(), "packages": packages, "size_bytes": _size_bytes(folder)}
    part = folder / f"{_STAMP}.part"
    try:
        with part.open("w", encoding="utf-8") as stream:
            json.dump(facts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(folder / _STAMP)
    except OSError as error:
        raise HostError(f"cannot write {folder}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(folder: Path, on_progress: OnProgress, waiting: str) -> Iterator[int]:
    """Hold an environment's lock, as a descriptor; wait for it."""
    while True:
        with _lock(folder) as lock:
            if lock is not None:
                yield lock
                return
        on_progress(waiting, 0, 0)
        time.sleep(_WAIT_S)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """None: another process holds it. The builder's children inherit it: it ends with the last."""
    path = _lock_path(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # whoever removed the environment removed this file too: then it locks nothing
        yield stream.fileno() if _is_still(path, stream.fileno()) else None


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _describe(folder: Path, match: re.Match[str], lists: Path) -> Installed:
    name = match["name"]
    complete = _is_complete(folder)
    facts = json.loads((folder / _STAMP).read_text()) if complete else {}
    known = name in packages.names(lists)
    return Installed(
        name=name,
        python=match["python"],
        folder=folder,
        complete=complete,
        current=known and packages.find(name, lists).key == match["key"],
        created=facts.get("created"),
        packages=facts.get("packages"),
        size_bytes=facts.get("size_bytes") or _size_bytes(folder),
    )


def _size_bytes(folder: Path) -> int:
    """What it takes on the disk; files may vanish meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, file).lstat().st_blocks * 512
    return total


def _refuse_used(one: Installed) -> None:
    import psutil

    prefix = f"{one.folder}{os.sep}"
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(prefix):
            raise HostError(
                f"the environment {one.name} is in use by process {process.info['pid']}",
                hint="wait until it has ended",
            )
