"""Settings of the kernel that are changed for a run: how they are written, kept and put back.

``frequency.json`` in the agent's folder holds the old values while others are set. After a reboot
the kernel's own apply, so those of an earlier boot are forgotten.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

STATE = "frequency.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Nothing else is ever written, whatever stands in the file.
_OURS = re.compile(r"/sys/devices/system/cpu/[a-z0-9/]*cpufreq[a-z0-9/]*/scaling_[a-z_]+")
_SUDO_S = 10.0
_ROUNDS = 3  # a limit may have to wait for the other one


@dataclass(frozen=True)
class Setting:
    """A file, and the value that it has or is to have."""

    path: Path
    value: str


def write(setting: Setting) -> str:
    """Write it, by sudo where this user may not; empty, or why it was not written."""
    try:
        descriptor = os.open(str(setting.path), os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, setting.value.encode())
        finally:
            os.close(descriptor)
    except PermissionError:
        return _by_sudo(setting)
    except OSError as error:
        return f"{error.strerror}"
    return ""


def _by_sudo(setting: Setting) -> str:
    try:
        ended = subprocess.run(
            ["sudo", "-n", "tee", str(setting.path)],  # noqa: S607 - sudo has its place per system
            input=setting.value.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_SUDO_S,
            check=False,
        )
    except FileNotFoundError:
        return "not permitted, and there is no sudo"
    except (OSError, subprocess.TimeoutExpired):
        return "not permitted, and sudo does not answer"
    if ended.returncode == 0:
        return ""
    said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
    return "not permitted, and `sudo -n tee` says: " + (said[-1][:200] if said else "no")


def keep(folder: Path, settings: list[Setting]) -> None:
    """Note the old values, lasting, before any is changed.

    Raises:
        OSError: the disk is full or broken.
    """
    fields = {
        "boot": text_of(_BOOT),
        "settings": [[str(one.path), one.value] for one in settings],
    }
    from edgeq.agent.durable import Disk  # not for the guard, which is to start fast

    Disk().write_json(folder / STATE, fields)


def restore(folder: Path) -> list[str]:
    """Put back what was kept, and look whether it is so; sentences about what is not.

    What could not be put back stays noted, for the next try.
    """
    settings = _kept(folder)
    for _ in range(_ROUNDS):
        for one in settings:
            if text_of(one.path) != one.value:
                write(one)
    left = [one for one in settings if text_of(one.path) != one.value]
    if not left:
        (folder / STATE).unlink(missing_ok=True)
    return [
        f"{one.path} is {text_of(one.path) or 'not to be read'} and was {one.value};"
        f" set it back: echo {one.value} | sudo tee {one.path}"
        for one in left
    ]


def text_of(path: Path) -> str:
    """A file's stripped text; empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _kept(folder: Path) -> list[Setting]:
    try:
        fields = json.loads((folder / STATE).read_bytes())
        known = [Setting(Path(path), str(value)) for path, value in fields["settings"]]
        same_boot = fields["boot"] == text_of(_BOOT)
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [one for one in known if same_boot and _OURS.search(str(one.path))]
