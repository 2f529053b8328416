"""A device without a Python, looked at with its shell alone, in one command."""

import re
from collections.abc import Iterable, Mapping

from edgeq.core.machine import Facts
from edgeq.core.state import Mount, State
from edgeq.errors import DeviceError
from edgeq.ports import Link

_MARK = "EDGEQ-SHELL "
_LIMIT_S = 60.0
_BITS_32 = "32"
_DF_FIELDS = 6
# What is not there says nothing. Its input is closed for each program: the script itself comes
# on standard input.
_SCRIPT = r"""
say() { [ -n "$2" ] && printf 'EDGEQ-SHELL %s %s\n' "$1" "$2"; }
PATH=$PATH:/usr/bin:/usr/local/bin:/data/data/com.termux/files/usr/bin
# A shell over adb has no home to speak of.
[ "$HOME" = / ] || [ ! -w "$HOME" ] && [ -d /data/local/tmp ] && HOME=/data/local/tmp
say system "$(uname -s)"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say user "$(id -un 2>/dev/null)"
say home "$HOME"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
say ldd "$(ldd --version 2>&1 </dev/null | head -n 2 | tr '\n' ' ')"
for loader in /lib/ld-musl-*; do
  [ -e "$loader" ] && say musl "$("$loader" 2>&1 </dev/null | tr '\n' ' ')"
done
for file in /system/build.prop /system/bin/linker64 /system/bin/linker; do
  [ -e "$file" ] && say bionic "sdk $(getprop ro.build.version.sdk 2>/dev/null)"
done
say android "$(getprop ro.build.version.release 2>/dev/null)"
say os "$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
say model "$(cat /proc/device-tree/model 2>/dev/null | tr -d '\000')"
say maker "$(getprop ro.product.manufacturer 2>/dev/null)"
say product "$(getprop ro.product.model 2>/dev/null)"
say clock "$(date +%s 2>/dev/null)"
say cores "$(grep -c '^processor' /proc/cpuinfo 2>/dev/null)"
say load "$(cat /proc/loadavg 2>/dev/null)"
say features "$(grep -E -m 1 '^(Features|flags)' /proc/cpuinfo 2>/dev/null)"
say name "$(grep -E -m 1 '^(model name|Hardware)' /proc/cpuinfo 2>/dev/null)"
for key in MemTotal MemAvailable SwapTotal SwapFree; do
  say "$key" "$(grep "^$key:" /proc/meminfo 2>/dev/null)"
done
folder=$HOME
[ -d "$HOME/.edgeq" ] && folder=$HOME/.edgeq
say folder "$folder"
say disk "$(df -Pk "$folder" 2>/dev/null | tail -n 1)"
say inodes "$(df -Pi "$folder" 2>/dev/null | tail -n 1)"
[ -w "$folder" ] && say writable yes
say mounts "$(cat /proc/mounts 2>/dev/null | tr '\n' '|')"
for python in python3 python3.5 python python2; do
  command -v "$python" >/dev/null 2>&1 &&
    say python "$("$python" --version 2>&1 </dev/null | head -n 1) ($(command -v "$python"))"
done
say throttled "$(vcgencmd get_throttled 2>/dev/null </dev/null)"
say end yes
"""


def examine(link: Link, where: str) -> tuple[Facts, State, tuple[str, ...]]:
    """What a shell can tell; nothing there changes. Last: the Pythons that are no help.

    Raises:
        DeviceError: not even that.
    """
    done = link.run(["sh", "-s"], stdin=_SCRIPT.encode(), timeout_s=_LIMIT_S)
    said, pythons = read(done.stdout.decode("utf-8", "replace").splitlines())
    if "machine" not in said or "home" not in said:
        raise DeviceError(f"{where} could not be examined: its shell does not run a script")
    return _facts(said), _state(said), pythons


def read(lines: Iterable[str]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The script's answers by key, and the Pythons."""
    pairs = [line.partition(_MARK)[2].partition(" ")[::2] for line in lines if _MARK in line]
    pythons = dict.fromkeys(value for key, value in pairs if key == "python")
    return {key: value.strip() for key, value in pairs if key != "python"}, tuple(pythons)


def _facts(said: Mapping[str, str]) -> Facts:
    libc, version = _libc(said)
    home = said["home"]
    flags = said.get("features", "").partition(":")[2].split()
    return Facts(
        system="Android" if libc == "bionic" else said.get("system", "Linux"),
        architecture=_architecture(said["machine"], said.get("bits", "")),
        kernel=said.get("kernel", ""),
        os=said.get("os") or (f"Android {said['android']}" if "android" in said else None),
        model=said.get("model") or _phone(said),
        cpu=said.get("name", "").partition(":")[2].strip() or None,
        cpu_flags=tuple(flags),
        cores=int(_number(said.get("cores")) or 0) or None,
        memory_mib=_kib(said.get("MemTotal")),
        memory_available_mib=_kib(said.get("MemAvailable")),
        disk_free_mib=_df(said.get("disk"), 3, 1 / 1024),
        libc=libc,
        libc_version=version,
        home=home,
        root=f"{home}/.edgeq",
        home_writable="writable" in said,
        user=said.get("user"),
        throttled=throttled(said.get("throttled", "")),
        load_1min=_number(said.get("load", "").partition(" ")[0]),
        wall_time_s=_number(said.get("clock")) or 0.0,
    )


def _state(said: Mapping[str, str]) -> State:
    mount = _mount(said)
    error = "" if "writable" in said else "EACCES"
    if mount and "ro" in mount.options:
        error = "EROFS"
    free, size = _df(said.get("inodes"), 3, 1), _df(said.get("inodes"), 1, 1)
    return State(
        folder=said.get("folder", said["home"]),
        mount=mount,
        disk_free_mib=_df(said.get("disk"), 3, 1 / 1024),
        disk_size_mib=_df(said.get("disk"), 1, 1 / 1024),
        inodes_free=int(free) if free is not None and size else None,
        inodes_size=int(size) if size else None,
        write_error=error,
        write_how="its rights",
        map_error=None if mount is None else "EPERM" if "noexec" in mount.options else "",
        map_how="mount options",
        swap_size_mib=_kib(said.get("SwapTotal")),
        swap_free_mib=_kib(said.get("SwapFree")),
    )


def _phone(said: Mapping[str, str]) -> str | None:
    return " ".join(said[key] for key in ("maker", "product") if key in said) or None


def _libc(said: Mapping[str, str]) -> tuple[str | None, str | None]:
    if "bionic" in said:
        return "bionic", said["bionic"].removeprefix("sdk").strip() or None
    if "musl" in said:
        found = re.search(r"Version (\S+)", said["musl"])
        return "musl", found.group(1) if found else None
    if said.get("glibc", "").startswith("glibc "):
        return "glibc", said["glibc"].split()[1]
    # A C library of glibc's kind names itself in the first line of ldd.
    found = re.search(r"(?:GLIBC|GNU libc)\D*?(\d+\.\d+)", said.get("ldd", ""))
    return ("glibc", found.group(1)) if found else (None, None)


def _architecture(machine: str, bits: str) -> str:
    if bits == _BITS_32:
        return {"aarch64": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l"}.get(machine, machine)


def throttled(said: str) -> tuple[str, ...] | None:
    """The words of ``vcgencmd get_throttled``; None where it says none."""
    found = re.search(r"=\s*(?:0x)?([0-9a-fA-F]+)\s*$", said)
    if not found:
        return None
    bits = int(found.group(1), 16)
    words = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
    now = [word for bit, word in enumerate(words) if bits >> bit & 1]
    since = ["occurred:" + word for bit, word in enumerate(words) if bits >> (bit + 16) & 1]
    return (*now, *since)


def _mount(said: Mapping[str, str]) -> Mount | None:
    """By the mount point that ``df`` named, which may be hidden by a later one."""
    fields = said.get("disk", "").split(None, _DF_FIELDS - 1)
    if len(fields) < _DF_FIELDS:
        return None
    lines = [line.split(" ") for line in said.get("mounts", "").split("|")]
    found = [line for line in lines if len(line) >= 4 and line[1] == fields[5]]  # noqa: PLR2004
    if not found:
        return None
    device, point, kind, options = found[-1][:4]
    return Mount(point=point, device=device, type=kind, options=tuple(options.split(",")))


def _df(line: str | None, column: int, factor: float) -> float | None:
    fields = (line or "").split()
    number = _number(fields[column]) if len(fields) > column else None
    return None if number is None else number * factor


def _kib(line: str | None) -> float | None:
    found = re.search(r"(\d+) *kB", line or "")
    return int(found.group(1)) / 1024 if found else None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
