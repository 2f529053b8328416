"""What the doctor makes of what was seen: findings, and the mend of each. Pure."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgeq.core.machine import Facts
from edgeq.core.state import State

Level = Literal["ok", "note", "lack"]
# Clocks that differ by more make log files and reports hard to put together.
MAX_SKEW_S = 5.0
# A clock that shows less was never set: 2020.
_NEVER_SET_S = 1_577_836_800.0
# Agent, LiteRT with NumPy, a model and its successor.
GOOD_DISK_MIB = 200.0
GOOD_INODES = 3000
_LEAST_DISK_MIB = 16.0
_LEAST_INODES = 100
# Half of the cores at work for others before anything is measured.
BUSY_SHARE = 0.5
_HOG_CORES = 0.2
_LOW_MEMORY_MIB = 100.0
_PRESSURE_PERCENT = 10.0
_SWAPPING_PAGES_PER_S = 100.0
_WHOLE = 0.99
# These go to full speed under their "powersave" by themselves.
_OWN_MIND = frozenset({"intel_pstate", "amd-pstate-epp", "amd_pstate_epp"})
# The wheels of LiteRT, tflite-runtime and ONNX Runtime are linked with these, and with no other
# that a small system may lack.
_RUNTIMES_NEED = ("libstdc++.so.6", "libgcc_s.so.1")
_PACKAGES = {
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libgomp.so.1": "libgomp1",
}
_TELLING = frozenset({"ro", "rw", "noexec", "nosuid", "nodev"})
_UNDER_VOLTAGE = "under-voltage"


class Finding(BaseModel):
    """One thing looked at. ``lack`` stops a deploy; ``then`` is what edgeq or the user does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    level: Level
    found: str
    then: str = ""


class Needs(BaseModel):
    """What a first deploy puts there: files and their size; None where that is not known."""

    model_config = ConfigDict(frozen=True)

    disk_mib: float | None = None
    largest_mib: float | None = None
    files: int | None = None
    sends_runtime: bool = True


def place(facts: Facts, state: State, needs: Needs) -> Iterator[Finding]:
    """The folder for edgeq's files: can they be written there, can they be run, is there room."""
    yield _home(facts, state)
    yield _code(state, needs)
    yield _disk(facts, state, needs)
    if state.inodes_free is not None:
        yield _inodes(state, state.inodes_free, needs)
    limit = state.file_limit_mib
    if limit is not None and needs.largest_mib is not None and limit < needs.largest_mib:
        found = f"this log-in may write files of at most {limit:.1f} MiB"
        mend = f"edgeq sends one of {needs.largest_mib:.0f} MiB: raise ulimit -f for this user"
        yield Finding(what="file size", level="lack", found=found, then=mend)


def _home(facts: Facts, state: State) -> Finding:
    folder = state.folder or facts.root
    error = state.write_error
    if error is None:
        error = "" if facts.home_writable else "EACCES"
    if not error and facts.home_writable:
        how = f", {state.write_how}" if state.write_how else ""
        return Finding(what="home", level="ok", found=f"{folder} can be written{how}")
    point = state.mount.point if state.mount else "/"
    said = {
        "EROFS": (
            f"{folder} is read-only: {_mounted(state)}",
            f"sudo mount -o remount,rw {point}; dmesg tells why, where it was not meant so",
        ),
        "EDQUOT": (f"the user's quota is used up in {folder}", "quota -s there; delete something"),
        "ENOSPC": (f"the disk of {folder} is full", "delete something: df -h and df -i there"),
        "ENOENT": (f"there is no folder {folder}", _own_home(facts)),
    }
    found, mend = said.get(
        error or "EACCES",
        (f"{facts.user or 'the user'} cannot write to {folder}", _own_home(facts)),
    )
    return Finding(what="home", level="lack", found=found, then=mend)


def _own_home(facts: Facts) -> str:
    return (
        f"as root, there: mkdir -p {facts.home} && chown {facts.user or 'USER'} {facts.home};"
        " is it mounted read-only?"
    )


def _mounted(state: State) -> str:
    if state.mount is None:
        return "its file system"
    options = ",".join(one for one in state.mount.options if one in _TELLING)
    return f"{state.mount.type} at {state.mount.point} ({options})"


def _code(state: State, needs: Needs) -> Finding:
    """Whether libraries can be loaded from there."""
    how = f", {state.map_how}" if state.map_how else ""
    if state.map_error is None:
        return Finding(what="noexec", level="note", found="unknown whether code there may run")
    if not state.map_error:
        return Finding(what="noexec", level="ok", found=f"code there may run{how}")
    point = state.mount.point if state.mount else "/"
    mend = f"sudo mount -o remount,exec {point}, and take noexec out of /etc/fstab"
    if state.mount and "noexec" not in state.mount.options:
        mend = "its security rules (SELinux, AppArmor) forbid it: allow the user to map files"
    if not needs.sends_runtime:
        mend = f"the installed runtime lies elsewhere and runs; for one of edgeq's: {mend}"
    return Finding(
        what="noexec",
        level="lack" if needs.sends_runtime else "note",
        found=f"code in {state.folder} may not run: {_mounted(state)}{how}",
        then=mend,
    )


def _disk(facts: Facts, state: State, needs: Needs) -> Finding:
    free = facts.disk_free_mib if state.disk_free_mib is None else state.disk_free_mib
    if free is None:
        return Finding(what="disk", level="note", found="unknown")
    least = needs.disk_mib or _LEAST_DISK_MIB
    found = f"{free:.0f} MiB free"
    if free < least:
        mend = f"a deploy takes {least:.0f} MiB in {facts.root}: make room there"
        return Finding(what="disk", level="lack", found=found, then=mend)
    if free < GOOD_DISK_MIB:
        mend = f"a first deploy takes up to {GOOD_DISK_MIB:.0f} MiB in ~/.edgeq: make room there"
        return Finding(what="disk", level="note", found=found, then=mend)
    return Finding(what="disk", level="ok", found=found)


def _inodes(state: State, free: int, needs: Needs) -> Finding:
    least = needs.files or _LEAST_INODES
    found = f"{free} inodes free"
    point = state.mount.point if state.mount else state.folder
    mend = f"a deploy makes about {least} files: df -i {point} there; delete many small ones"
    if free < least:
        return Finding(what="inodes", level="lack", found=found, then=mend)
    level: Level = "note" if free < GOOD_INODES else "ok"
    return Finding(what="inodes", level=level, found=found, then=mend if level == "note" else "")


def libraries(state: State, *, sends_runtime: bool) -> Iterator[Finding]:
    """Whether the loader finds what runtimes are linked with."""
    if not state.libraries:
        return
    there = [name for name, error in state.libraries.items() if not error]
    missing = [name for name in _RUNTIMES_NEED if state.libraries.get(name)]
    if not missing:
        yield Finding(what="libraries", level="ok", found=", ".join(there))
        return
    packages = " ".join(_PACKAGES.get(name, name) for name in missing)
    yield Finding(
        what="libraries",
        level="lack" if sends_runtime else "note",
        found=f"missing: {', '.join(missing)}",
        then=f"sudo apt install {packages}",
    )


def package_for(problem: str) -> str:
    """How to install the library that an import misses; empty: it is not that."""
    found = [package for name, package in _PACKAGES.items() if name in problem]
    return f"sudo apt install {found[0]}" if found else ""


def memory(facts: Facts, state: State) -> Iterator[Finding]:
    """Room in memory, and whether the machine is swapping."""
    free = facts.memory_available_mib
    if free is None:
        yield Finding(what="memory", level="note", found="unknown")
    else:
        low = free < _LOW_MEMORY_MIB
        mend = "stop what is not needed: a runtime alone takes about 50 MiB" if low else ""
        found = f"{free:.0f} MiB free"
        yield Finding(what="memory", level="note" if low else "ok", found=found, then=mend)
    if state.swap_size_mib:
        used = state.swap_size_mib - (state.swap_free_mib or 0.0)
        found = f"{used:.0f} of {state.swap_size_mib:.0f} MiB used"
        rate = state.swap_pages_per_s or 0.0
        pressure = state.memory_pressure_percent or 0.0
        busy = rate > _SWAPPING_PAGES_PER_S or pressure > _PRESSURE_PERCENT
        if busy:
            found += f", {rate:.0f} pages/s, processes wait for memory {pressure:.0f} % of the time"
        mend = "it is short of memory: stop what is not needed; figures would not be valid"
        yield Finding(
            what="swap", level="note" if busy else "ok", found=found, then=mend if busy else ""
        )


def clock(facts: Facts, state: State, skew_s: float, doubt_s: float) -> Finding:
    """The device's clock against this machine's."""
    found = f"{skew_s:+.1f} s against this machine, known to {doubt_s:.1f} s"
    if abs(skew_s) - doubt_s <= MAX_SKEW_S:
        return Finding(what="clock", level="ok", found=found)
    mend = "set it: sudo timedatectl set-ntp true; reports keep this machine's time"
    if facts.wall_time_s < _NEVER_SET_S:
        keeper = "" if state.rtc else ", and it has no battery-backed clock"
        found = f"it was never set: it says {_year(facts.wall_time_s)}{keeper}"
        now = int(facts.wall_time_s - skew_s)
        mend = f"set it: sudo timedatectl set-ntp true, or sudo date -s @{now}"
    elif state.clock_synchronized is False:
        found += "; no time server keeps it right"
    return Finding(what="clock", level="note", found=found, then=mend)


def _year(seconds: float) -> int:
    return 1970 + int(seconds // 31_556_952)


def power_supply(facts: Facts) -> Iterator[Finding]:
    """Under-voltage, now or since boot, on boards that tell."""
    if facts.throttled is None:
        return
    now = _UNDER_VOLTAGE in facts.throttled
    since = f"occurred:{_UNDER_VOLTAGE}" in facts.throttled
    if not (now or since):
        yield Finding(
            what="power supply", level="ok", found="no under-voltage since it was started"
        )
        return
    found = "under-voltage now" if now else "there was under-voltage since it was started"
    mend = "use the board's own power supply and a short cable, and unplug USB devices"
    if not now:
        mend += "; a restart clears the mark"
    yield Finding(what="power supply", level="note", found=found, then=mend)


def throttling(facts: Facts) -> Finding:
    """What else holds or held its frequency down."""
    if facts.throttled is None and not facts.throttle_events:
        return Finding(what="throttling", level="note", found="there is no way to know")
    flags = [flag for flag in facts.throttled or () if _UNDER_VOLTAGE not in flag]
    flags += facts.throttle_events
    if not flags:
        return Finding(what="throttling", level="ok", found="none since it was started")
    now = [flag for flag in flags if not flag.startswith("occurred:")]
    since = [flag.removeprefix("occurred:") for flag in flags if flag.startswith("occurred:")]
    parts = [f"now: {', '.join(now)}"] if now else []
    parts += [f"since it was started: {', '.join(since)}"] if since else []
    mend = "check its power supply and cooling: a run that is throttled is not valid"
    return Finding(what="throttling", level="note", found="; ".join(parts), then=mend)


def frequency(state: State) -> Iterator[Finding]:
    """What decides on the processor's frequency."""
    if not state.governors:
        return
    words = [f"governor {', '.join(state.governors)}"]
    words += [f"driver {state.frequency_driver}"] if state.frequency_driver else []
    words += [f"power mode {state.power_mode}"] if state.power_mode else []
    mends = []
    if "powersave" in state.governors and state.frequency_driver not in _OWN_MIND:
        governor = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
        mends.append(
            "it stays slow: edgeq deploy --pin-frequency for a run,"
            f" or echo performance | sudo tee {governor}"
        )
    share = state.frequency_limit_share
    if share is not None and share < _WHOLE:
        words.append(f"held at {share:.0%} of its highest frequency")
        mends.append("scaling_max_freq in /sys/devices/system/cpu/cpufreq was lowered: raise it")
    level: Level = "note" if mends else "ok"
    yield Finding(what="frequency", level=level, found=", ".join(words), then="; ".join(mends))


def work(facts: Facts, state: State) -> Iterator[Finding]:
    """What else the processor does."""
    yield _load(facts)
    if state.watched_s is None:
        return
    hogs = [one for one in state.processes if one.cores >= _HOG_CORES]
    if hogs:
        words = ", ".join(
            f"{one.name} (pid {one.pid}{f', {one.user}' if one.user else ''}) takes"
            f" {one.cores:.0%} of a core"
            for one in hogs
        )
        mend = "stop it while you measure: figures taken beside other work are not trusted"
        yield Finding(what="processes", level="note", found=words, then=mend)
        return
    busy = state.busy_cores or 0.0
    if busy >= _HOG_CORES and state.processes_hidden:
        found = f"{busy:.1f} cores are at work for processes that this user cannot see"
        mend = "look as root: sudo top; figures taken beside other work are not trusted"
        yield Finding(what="processes", level="note", found=found, then=mend)
        return
    if (state.stolen_cores or 0.0) >= _HOG_CORES:
        found = f"the host of this virtual machine holds back {state.stolen_cores:.1f} cores"
        mend = "figures taken there are not trusted"
        yield Finding(what="processes", level="note", found=found, then=mend)
        return
    yield Finding(
        what="processes",
        level="ok",
        found=f"none took more than {_HOG_CORES:.0%} of a core over {state.watched_s:.0f} s",
    )


def _load(facts: Facts) -> Finding:
    if facts.load_1min is None:
        return Finding(what="load", level="note", found="unknown")
    found = f"{facts.load_1min:.1f} over the last minute"
    if facts.cores and facts.load_1min > BUSY_SHARE * facts.cores:
        mend = "stop what runs there: figures taken beside other work are not trusted"
        return Finding(what="load", level="note", found=found, then=mend)
    return Finding(what="load", level="ok", found=found)


def sensors(facts: Facts, state: State) -> Iterator[Finding]:
    """What there is to measure with, and what of it cannot be read."""
    found = ", ".join(facts.sensors)
    if not found:
        lacking = "power, temperature and frequency will be null in reports"
        yield Finding(what="sensors", level="note", found="none", then=lacking)
    elif not facts.sources.power:
        lacking = "power will be null in reports: attach a meter, see docs/measuring.md"
        yield Finding(what="sensors", level="note", found=found, then=lacking)
    else:
        yield Finding(what="sensors", level="ok", found=found)
    for one in state.unreadable:
        mend = _MENDS.get(one.what, f"sudo chmod a+r {one.path}, until the next start")
        yield Finding(
            what="sensors",
            level="note",
            found=f"{one.what} is there, but {facts.user or 'the user'} cannot read it: {one.why}",
            then=mend.format(user=facts.user or "USER"),
        )


_MENDS: Mapping[str, str] = {
    "rapl": "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj, until the next start;"
    " every user there can then watch the power",
    "vcgencmd": "sudo usermod -aG video {user}, then log in anew",
}
