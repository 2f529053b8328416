"""What a device is, found out without writing there, and whether it is what its profile says."""

import sys
from collections.abc import Mapping
from typing import TypeVar

import pydantic

from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import Profile
from edgeq.core.state import State
from edgeq.endings import start_up_hint
from edgeq.errors import DeviceError, NoPythonError, PreflightError
from edgeq.ports import Link

MARK = b"EDGEQ-FACTS "
STATE_MARK = b"EDGEQ-STATE "
NO_PYTHON = b"EDGEQ-NO-PYTHON"
_Answer = TypeVar("_Answer", Facts, State)
_LIMIT_S = 120.0
_FOLDERS = "/usr/bin /usr/local/bin /data/data/com.termux/files/usr/bin"
_NAMES = "python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python"
# Finds a Python for the examination, which comes on standard input. One line without single quotes,
# backslashes or exclamation marks of its own, so that any login shell passes it on as it is.
_FIND_PYTHON = (
    f"PATH=$PATH:{_FOLDERS.replace(' ', ':')}; t=;"
    ' command -v timeout >/dev/null 2>&1 && t="timeout 30";'
    f' for p in "$@" {_NAMES}; do'
    ' if command -v "$p" >/dev/null 2>&1 &&'
    ' $t "$p" -c "import sys; sys.exit(sys.version_info < (3, 6))" </dev/null >/dev/null 2>&1;'
    ' then exec "$p" -I -B -; fi; done;'
    f" echo; echo {NO_PYTHON.decode()}"
)


def python_hint(device: Device, profile: Profile) -> str | None:
    """The Python to prefer: the device's, the profile's, or here the one that runs edgeq."""
    if device.python or profile.access.python:
        return device.python or profile.access.python
    return sys.executable if device.transport == "local" else None


def examine(link: Link, script: str, hint: str | None, where: str) -> Facts:
    """Look at a device; nothing on it changes.

    Args:
        link: The open connection.
        script: The examination, for the device's Python.
        hint: The Python to prefer.
        where: The device, as the user calls it.

    Raises:
        NoPythonError: it has no Python 3.
        DeviceError: it cannot be examined.
    """
    return _ask(link, script, hint, where, MARK, Facts)


def check_up(link: Link, script: str, hint: str | None, where: str) -> State:
    """How a device is just now; arguments and errors as for ``examine``."""
    return _ask(link, script, hint, where, STATE_MARK, State)


def _ask(
    link: Link, script: str, hint: str | None, where: str, mark: bytes, form: type[_Answer]
) -> _Answer:
    argv = ["sh", "-c", _FIND_PYTHON, "sh", *([hint] if hint else [])]
    done = link.run(argv, stdin=script.encode(), timeout_s=_LIMIT_S)
    lines = done.stdout.splitlines()
    if NO_PYTHON in lines:
        raise NoPythonError(
            f"{where} has no Python 3",
            hint="install one there: sudo apt install python3 (in Termux: pkg install python)",
        )
    # What a login shell printed last may lack its line's end.
    answers = [line.partition(mark)[2] for line in lines if mark in line]
    if not answers:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        why = f": {said[-1][:300]}" if said else f" (status {done.status})"
        raise DeviceError(f"{where} could not be examined{why}", hint=start_up_hint(done.status))
    try:
        return form.model_validate_json(answers[-1])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DeviceError(f"{where}: the examination's answer is wrong at {field}") from error


def check(profile: Profile, facts: Facts, where: str, known: Mapping[str, Profile]) -> None:
    """Is the device what its profile says?

    Args:
        profile: The device's.
        facts: What the examination found.
        where: The device, as the user calls it.
        known: Profiles to choose from; those that fit are named.

    Raises:
        PreflightError: it is not; with what it is.
    """
    problem = _problem(profile, facts)
    if problem is None:
        return
    what, mend = problem
    fitting = [name for name, other in known.items() if _problem(other, facts) is None]
    fits = f"profiles that fit: {', '.join(fitting)}" if fitting else ""
    raise PreflightError(
        f"{where} ({describe(facts)}) is not what its profile says: {what}",
        hint="; ".join(filter(None, (mend, fits))),
    )


def describe(facts: Facts) -> str:
    """A machine in a few words."""
    memory = f"{facts.memory_mib:.0f} MiB" if facts.memory_mib is not None else None
    libc = f"{facts.libc} {facts.libc_version or ''}".strip() if facts.libc else None
    newest = max((python.version for python in facts.pythons), default=None)
    python = f"Python {newest[0]}.{newest[1]}" if newest else None
    words = (facts.model or facts.cpu, facts.architecture, memory, facts.os, libc, python)
    return ", ".join(word for word in words if word)


def version_tuple(text: str) -> tuple[int, ...]:
    """``2.36`` as numbers; what is no number ends it."""
    numbers = []
    for part in text.split("."):
        if not part.isascii() or not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def problems(profile: Profile, facts: Facts) -> dict[str, tuple[str, str]]:
    """What does not fit, by ``system machine libc python home``, and the mend if there is one."""
    checks = {
        "system": _wrong_system,
        "machine": _wrong_machine,
        "libc": _wrong_libc,
        "python": _wrong_python,
        "home": _wrong_home,
    }
    return {name: found for name, one in checks.items() if (found := one(profile, facts))}


def _problem(profile: Profile, facts: Facts) -> tuple[str, str] | None:
    """The first that does not fit."""
    return next(iter(problems(profile, facts).values()), None)


def _wrong_system(_profile: Profile, facts: Facts) -> tuple[str, str] | None:
    if facts.system in ("Linux", "Android"):
        return None
    return f"it runs {facts.system}, and edgeq's devices run Linux", ""


def _wrong_machine(profile: Profile, facts: Facts) -> tuple[str, str] | None:
    wanted = profile.machine.architectures
    if wanted and facts.architecture not in wanted:
        return f"its architecture is {facts.architecture}, not {' or '.join(wanted)}", ""
    least = profile.machine.memory_min_mib
    if least is not None and facts.memory_mib is not None and facts.memory_mib < least:
        return f"it has {facts.memory_mib:.0f} MiB of memory, not at least {least}", ""
    return None


def _wrong_libc(profile: Profile, facts: Facts) -> tuple[str, str] | None:
    least = profile.system.glibc_min
    if profile.system.kind == "android":
        return None if facts.libc in ("bionic", None) else (f"it has {facts.libc}, not Android", "")
    if least is None or facts.libc is None:
        return None
    if facts.libc != "glibc":
        return f"its C library is {facts.libc}, not glibc", ""
    if facts.libc_version and version_tuple(facts.libc_version) < version_tuple(least):
        return f"it has glibc {facts.libc_version}, not at least {least}", ""
    return None


def _wrong_python(profile: Profile, facts: Facts) -> tuple[str, str] | None:
    if profile.runtime.native:  # which is what it is for: a device without Python
        return None
    least = version_tuple(profile.system.python_min)
    if any(python.version[: len(least)] >= least for python in facts.pythons):
        return None
    found = ", ".join(".".join(map(str, python.version)) for python in facts.pythons)
    mend = f"install Python {profile.system.python_min} or newer there"
    if not found:
        return "it has no Python", mend
    return f"it has Python {found}, not at least {profile.system.python_min}", mend


def _wrong_home(_profile: Profile, facts: Facts) -> tuple[str, str] | None:
    if facts.home_writable:
        return None
    mend = f"as root, there: mkdir -p {facts.home} && chown {facts.user or 'USER'} {facts.home}"
    what = f"{facts.user or 'the user'} cannot write to {facts.root}"
    return what, f"is it mounted read-only? else, {mend}"
