"""Runtimes for devices, kept in the host's cache: what was resolved once needs no network."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pydantic
from pydantic import BaseModel, ConfigDict

from edgeq import digest, parcel
from edgeq.core.machine import Facts
from edgeq.core.profile import RuntimeKind
from edgeq.errors import HostError
from edgeq.wheels import Fetch, Target

PACKAGES: dict[RuntimeKind, str] = {
    "litert": "ai-edge-litert",
    "tflite_runtime": "tflite-runtime",
    "onnxruntime": "onnxruntime",
}
# tflite-runtime was built for NumPy 1 and does not say so in its metadata. ONNX Runtime takes
# NumPy 2 from 1.19 on: github.com/microsoft/onnxruntime/releases/tag/v1.19.0
_FIRST_ONNXRUNTIME_FOR_NUMPY_2 = "1.19"
_NEGATIVE_LIFE_S = 86_400.0
_MAX_OLDER = 8


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Wheel(_Stored):
    """One wheel of a package; ``file`` is its name in the cache."""

    file: str
    name: str
    version: str
    sha256: str
    size_bytes: int


class Package(_Stored):
    """A runtime for a target. Without a wheel of numpy the device's own is needed."""

    kind: RuntimeKind
    wheels: tuple[Wheel, ...]

    @property
    def version(self) -> str:
        return self.wheels[0].version

    @property
    def with_numpy(self) -> bool:
        return any(wheel.name == "numpy" for wheel in self.wheels)

    @property
    def folder(self) -> str:
        """Name of its folder on a device: the same wheels, the same name."""
        text = json.dumps([parcel.RULES, *sorted(wheel.sha256 for wheel in self.wheels)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Found(_Stored):
    package: Package | None


class RuntimeStore:
    """The cache of wheels, resolutions and parcels in one folder."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        self._folder = folder
        self._fetch = fetch

    def find(self, kind: RuntimeKind, target: Target, below: str | None = None) -> Package | None:
        """The best package for a target; None when there is none.

        Args:
            kind: Which runtime.
            target: For whom.
            below: Only versions older than this one.

        Raises:
            FetchError: it has to be fetched and cannot.
        """
        note = self._folder / f"{kind}-{target.name}{f'-below-{below}' if below else ''}.json"
        known = _read(note)
        if known is not None and (known.package is None or self._has(known.package)):
            return known.package
        package = self._resolve(kind, target, below)
        _write(note, _Found(package=package).model_dump_json(indent=1))
        return package

    def parcel(self, package: Package) -> Path:
        """The zip to send; its name holds the package's.

        Raises:
            FetchError: a wheel is damaged.
        """
        path = self._folder / f"runtime-{package.folder}.zip"
        if not path.is_file():
            parcel.build([self._folder / wheel.file for wheel in package.wheels], path)
        return path

    def refuse(self, package: Package, facts: Facts, why: str) -> None:
        """Remember that a package does not run on this kind of machine."""
        _write(self._refusal(package, facts), why)

    def is_refused(self, package: Package, facts: Facts) -> bool:
        return self._refusal(package, facts).is_file()

    def _refusal(self, package: Package, facts: Facts) -> Path:
        machine = json.dumps(
            [facts.architecture, facts.cpu, facts.cpu_flags, facts.libc, facts.libc_version]
        )
        name = hashlib.sha256(machine.encode()).hexdigest()[:16]
        return self._folder / f"refused-{package.folder}-{name}.txt"

    def _has(self, package: Package) -> bool:
        """Its parcel or all of its wheels are still there, of the sizes they had."""
        if (self._folder / f"runtime-{package.folder}.zip").is_file():
            return True
        paths = [(self._folder / wheel.file, wheel.size_bytes) for wheel in package.wheels]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def _resolve(self, kind: RuntimeKind, target: Target, below: str | None) -> Package | None:
        runtime = self._newest(_wishes(kind, below), target)
        if runtime is None:
            return None
        old = needs_numpy_1(kind, runtime.version)
        numpy = self._newest(["numpy<2" if old else "numpy"], target)
        return Package(kind=kind, wheels=(runtime, *([numpy] if numpy else [])))

    def _newest(self, wishes: list[str], target: Target) -> Wheel | None:
        """The first wish that there is in a version which the device's glibc satisfies."""
        for wish in wishes:
            requirement = wish
            for _ in range(_MAX_OLDER):
                path = self._fetch(requirement, target, self._folder)
                if path is None:
                    break
                wheel = _wheel(path)
                if target.takes(path.name) and _loads(path, target):
                    return wheel
                if "==" in wish:
                    break
                requirement = f"{wheel.name}<{wheel.version}"
        return None


def needs_numpy_1(kind: RuntimeKind, version: str) -> bool:
    """Whether a runtime fails to import beside NumPy 2."""
    from packaging.version import InvalidVersion, Version

    if kind != "onnxruntime":
        return kind == "tflite_runtime"
    try:
        return Version(version) < Version(_FIRST_ONNXRUNTIME_FOR_NUMPY_2)
    except InvalidVersion:
        return False


def _wishes(kind: RuntimeKind, below: str | None) -> list[str]:
    """Requirements, the best first: the host's own version gives exactly the host's answers."""
    name = PACKAGES[kind]
    if below is not None:
        return [f"{name}<{below}"]
    if kind != "tflite_runtime":
        own = metadata.version(name)
        return [f"{name}=={own}", f"{name}<{own}"]
    return [name]


def _loads(path: Path, target: Target) -> bool:
    """By what its libraries need: litert 2.3.0 for aarch64 is tagged glibc 2.27 and needs 2.34."""
    return target.libc != "glibc" or parcel.glibc_needed(path) <= target.libc_version


def _wheel(path: Path) -> Wheel:
    from packaging.utils import parse_wheel_filename

    name, version, _, _ = parse_wheel_filename(path.name)
    return Wheel(
        file=path.name,
        name=str(name),
        version=str(version),
        sha256=digest.of_file(path),
        size_bytes=path.stat().st_size,
    )


def _read(note: Path) -> _Found | None:
    """An earlier resolution; one that found nothing is believed for a day."""
    try:
        found = _Found.model_validate_json(note.read_bytes())
        age_s = time.time() - note.stat().st_mtime
    except (OSError, pydantic.ValidationError):
        return None
    return found if found.package is not None or 0 <= age_s < _NEGATIVE_LIFE_S else None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def older(store: RuntimeStore, package: Package, target: Target, most: int) -> Iterator[Package]:
    """Up to ``most`` older packages of the same kind, the newest first; raises as ``find`` does."""
    for _ in range(most):
        found = store.find(package.kind, target, below=package.version)
        if found is None:
            return
        yield found
        package = found
