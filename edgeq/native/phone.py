"""What a phone is, found out by its shell, without writing there."""

import re
from collections.abc import Mapping

from edgeq import examination
from edgeq.core.machine import Facts
from edgeq.core.profile import Profile
from edgeq.errors import DeviceError, PreflightError
from edgeq.ports import Link

FOLDER = "/data/local/tmp/edgeq"
_LIMIT_S = 60.0
_MARK = "edgeq-facts"
_EXAMINE = r"""
for k in ro.product.manufacturer ro.product.model ro.build.version.release ro.soc.model ro.hardware
do echo "$k=$(getprop $k 2>/dev/null)"; done
echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"; echo "cores=$(nproc 2>/dev/null)"
echo "user=$(id -un 2>/dev/null)"; echo "time=$(date +%s)"
for w in "$1" "${1%/*}"; do [ -e "$w" ] && break; done
[ -d "$w" ] && [ -w "$w" ] && echo writable=yes || echo writable=no
echo "free=$({ df -P -k "$w" || df -k "$w"; } 2>/dev/null | tail -n 1)"
if [ -e /system/bin/linker64 ] || [ -e /system/bin/linker ]; then echo libc=bionic; fi
while read -r k v u; do case $k in MemTotal:|MemAvailable:) echo "$k=$v";; esac; done </proc/meminfo
while IFS=: read -r k v; do case $k in
  Features*|flags*) f=$v;; Hardware*|"model name"*) h=$v;; esac; done </proc/cpuinfo
echo "flags=$f"; echo "cpu=$h"
read -r l r </proc/loadavg && echo "load=$l"
echo edgeq-facts
"""
# uname -m on Android says armv8l where a 64-bit kernel shows a 32-bit shell.
_ARCHITECTURES = {"armv8l": "armv7l", "arm64": "aarch64", "amd64": "x86_64"}
_MIB_KIB = 1024.0


def examine(link: Link, where: str) -> Facts:
    """Look at a phone; nothing on it changes.

    Raises:
        DeviceError: it cannot be examined.
        LinkLostError: the connection broke.
    """
    done = link.run(["sh", "-c", _EXAMINE, "sh", FOLDER], timeout_s=_LIMIT_S)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if _MARK not in lines:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DeviceError(
            f"{where} could not be examined: {said[-1][:200] if said else 'no answer'}"
        )
    told = {key: value.strip() for key, found, value in (x.partition("=") for x in lines) if found}
    if not told.get("machine") or not (told.get("time") or "").isdigit():
        raise DeviceError(f"{where} could not be examined: it does not say what machine it is")
    return _facts(told)


def check(profile: Profile, facts: Facts, where: str) -> None:
    """Is the phone what its profile says, and is there room to work?

    Raises:
        PreflightError: it is not; with what it is.
    """
    examination.check(profile, facts, where, {})
    if not facts.home_writable:
        raise PreflightError(
            f"{where}: adb's user {facts.user or ''} cannot write to {facts.home}".replace(
                "  ", " "
            ),
            hint=f"look at it: adb shell ls -ld {facts.home}; Android lets adb write there",
        )


def _facts(told: Mapping[str, str]) -> Facts:
    version = told.get("ro.build.version.release")
    names = (told.get("ro.product.manufacturer"), told.get("ro.product.model"))
    chip = told.get("ro.soc.model") or told.get("ro.hardware") or told.get("cpu")
    machine = told["machine"]
    return Facts(
        system="Android" if version else "Linux",
        architecture=_ARCHITECTURES.get(machine, machine),
        kernel=told.get("kernel", ""),
        os=f"Android {version}" if version else None,
        model=" ".join(filter(None, names)) or None,
        cpu=chip or None,
        cpu_flags=tuple(told.get("flags", "").split()),
        cores=int(told["cores"]) if told.get("cores", "").isdigit() else None,
        memory_mib=_kib(told.get("MemTotal:")),
        memory_available_mib=_kib(told.get("MemAvailable:")),
        disk_free_mib=_free_mib(told.get("free", "")),
        libc=told.get("libc"),
        home=FOLDER.rpartition("/")[0],
        root=FOLDER,
        home_writable=told.get("writable") == "yes",
        user=told.get("user") or None,
        load_1min=_number(told.get("load")),
        wall_time_s=float(told["time"]),
    )


def _kib(text: str | None) -> float | None:
    number = _number(text)
    return None if number is None else number / _MIB_KIB


def _free_mib(line: str) -> float | None:
    """Of the last line of df: the number before the share in use."""
    found = re.search(r"(\d+)\s+\d+%", line)
    return int(found[1]) / _MIB_KIB if found else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
