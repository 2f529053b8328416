"""The Pythons of this machine: which one an environment can be built with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from edgeq.errors import HostError

_MINORS = range(15, 9, -1)
_LIMIT_S = 20.0
_ASK = (
    "import sys, venv; "
    "sys.implementation.name == 'cpython' and sys.maxsize > 2**32 or sys.exit(1); "
    "print(*sys.version_info[:3], sep='.'); print(sys.executable)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """``version``: such as ``3.12``."""

    version: str
    path: Path


def find(
    name: str,
    wanted: SpecifierSet,
    *,
    environ: Mapping[str, str] = os.environ,
    own: Path | None = Path(sys.executable),
) -> Python:
    """A CPython for environment ``name``: edgeq's own if it fits, else the newest that is found.

    Looked at: ``PATH``, pyenv's versions and uv's.

    Args:
        name: For the error.
        wanted: Versions that fit.
        environ: ``PATH``, ``HOME``, ``PYENV_ROOT``, ``UV_PYTHON_INSTALL_DIR``.
        own: Looked at first; None: not at all.

    Raises:
        HostError: there is none; the hint says what to install.
    """
    for candidate in _candidates(environ, own):
        version = _version(candidate)
        if version and wanted.contains(version[0]):
            major, minor = version[0].split(".")[:2]
            return Python(version=f"{major}.{minor}", path=version[1])
    raise HostError(
        f"the environment {name} needs Python {_words(wanted)}, and this machine has none",
        hint=f"install one: sudo apt-get install python{_example(wanted)} "
        f"python{_example(wanted)}-venv, or: uv python install {_example(wanted)}, or: "
        f"pyenv install {_example(wanted)}",
    )


def _candidates(environ: Mapping[str, str], own: Path | None) -> Iterator[Path]:
    if own is not None:
        yield own
    path = environ.get("PATH", os.defpath)
    names = [f"python3.{minor}" for minor in _MINORS]
    for name in names:
        if found := shutil.which(name, path=path):
            yield Path(found)
    home = Path(environ.get("HOME", "~")).expanduser()
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    uv = Path(environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    for name in names:
        for folder in (pyenv, uv):
            yield from sorted(folder.glob(f"*/bin/{name}"), reverse=True)


def _version(candidate: Path) -> tuple[str, Path] | None:
    """Version and path as it says them itself; None: no CPython of 64 bits with venv."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [str(candidate), "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    lines = done.stdout.splitlines()
    # pyenv's stand-ins end with an error where no version is chosen
    if done.returncode != 0 or len(lines) != 2:  # noqa: PLR2004 - version and path
        return None
    return lines[0], Path(lines[1])


def _words(wanted: SpecifierSet) -> str:
    ends = {item.operator: item.version for item in wanted}
    least = ends.get(">=", "3.11")
    return f"{least} or newer" + (f", older than {ends['<']}" if "<" in ends else "")


def _example(wanted: SpecifierSet) -> str:
    return next((item.version for item in wanted if item.operator == ">="), "3.12")
