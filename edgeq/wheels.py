"""Wheels for other machines: which ones a device can take, and how to get them with pip."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.machine import Facts, PythonFacts
from edgeq.errors import FetchError, HostError

_LIMIT_S = 1800.0
# PEP 600: the manylinux tags that came before manylinux_2_x, and the glibc they stand for.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_LEGACY_ONLY_X86 = (12, 5)
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
_OLDEST_GLIBC_ELSEWHERE = 17
# What pip says when it cannot reach an index, as against an index that has no such wheel.
_NO_NETWORK = re.compile(
    r"connection broken|Failed to establish|Temporary failure|timed out|Max retries"
    r"|ConnectionError|SSLError|ProxyError|Network is unreachable|ReadTimeout",
    re.IGNORECASE,
)
_NO_WHEEL = re.compile(r"No matching distribution found", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What wheels must fit: a Python on a machine."""

    architecture: str
    libc: str | None
    libc_version: tuple[int, ...]
    python: tuple[int, int]

    @classmethod
    def of(cls, facts: Facts, python: PythonFacts) -> "Target":
        numbers = re.findall(r"\d+", facts.libc_version or "")
        return cls(
            architecture=facts.architecture,
            libc=facts.libc,
            libc_version=tuple(int(number) for number in numbers[:2]),
            python=python.version[:2],
        )

    @property
    def name(self) -> str:
        libc = f"{self.libc}{'.'.join(map(str, self.libc_version))}"
        return f"cp{self.python[0]}{self.python[1]}-{self.architecture}-{libc}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags, the newest first; none where no wheel of PyPI can run (Android)."""
        return tuple(self._platforms())

    def _platforms(self) -> Iterator[str]:
        if len(self.libc_version) < 2:  # noqa: PLR2004 - major and minor
            return
        major, minor = self.libc_version[:2]
        if self.libc == "musl":
            for older in range(minor, -1, -1):
                yield f"musllinux_{major}_{older}_{self.architecture}"
        elif self.libc == "glibc":
            oldest = _OLDEST_GLIBC.get(self.architecture, _OLDEST_GLIBC_ELSEWHERE)
            for older in range(minor, oldest - 1, -1):
                yield f"manylinux_{major}_{older}_{self.architecture}"
                legacy = _LEGACY.get(older)
                if legacy and (older not in _LEGACY_ONLY_X86 or oldest in _LEGACY_ONLY_X86):
                    yield f"{legacy}_{self.architecture}"
        if self.libc in ("glibc", "musl"):
            # Not allowed on PyPI; the index of Raspberry Pi OS (piwheels) has nothing else.
            yield f"linux_{self.architecture}"

    def takes(self, wheel: str) -> bool:
        """Whether a wheel's name says that it fits."""
        from packaging.tags import compatible_tags, cpython_tags
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            tags = parse_wheel_filename(wheel)[3]
        except InvalidWheelFilename:
            return False
        platforms = list(self.platforms)
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        fitting = {
            *cpython_tags(self.python, [interpreter], platforms),
            *compatible_tags(self.python, interpreter, platforms),
        }
        return not tags.isdisjoint(fitting)


Fetch = Callable[[str, Target, Path], Path | None]
"""Requirement, target and folder to a wheel in that folder; None when there is no such wheel.
Raises FetchError when that cannot be found out."""


def fetch(requirement: str, target: Target, folder: Path) -> Path | None:
    """Get the newest wheel that fits, by the user's own pip settings and mirrors.

    Raises:
        FetchError: the index cannot be reached, or pip fails.
        HostError: the folder cannot be written.
    """
    if not target.platforms:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            done = _pip(requirement, target, Path(scratch))
            found = sorted(Path(scratch).glob("*.whl"))
            if done.returncode == 0 and len(found) == 1:
                return found[0].replace(folder / found[0].name)
    except OSError as error:
        raise HostError(f"cannot write to {folder}: {error.strerror}") from error
    said = done.stdout
    if _NO_WHEEL.search(said) and not _NO_NETWORK.search(said):
        return None
    raise FetchError(
        f"{requirement} for {target.name} could not be fetched: {_reason(said)}",
        hint="is this machine online? pip's own settings (index-url, proxy) are used; what was"
        " fetched once is kept",
    )


def _pip(requirement: str, target: Target, folder: Path) -> "subprocess.CompletedProcess[str]":
    major, minor = target.python
    platforms: Sequence[str] = [
        word for platform in target.platforms for word in ("--platform", platform)
    ]
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--retries=2",
        "--dest", str(folder), *platforms, "--python-version", f"{major}.{minor}",
        "--implementation", "cp", "--abi", f"cp{major}{minor}", requirement,
    ]  # fmt: skip
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
            env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{requirement} could not be fetched within {_LIMIT_S / 60:.0f} minutes",
            hint="is this machine's internet slow? what was fetched once is kept",
        ) from error


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    broken = [line for line in lines if _NO_NETWORK.search(line)]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (broken or errors or lines or ["pip said nothing"])[-1][:300]
