"""How a device is just now, for the doctor: prints ``EDGEQ-STATE`` and one JSON object on one line.

Like ``examine.py`` it is piped to the device's Python, needs no other file of edgeq's, keeps to
Python 3.6, and leaves nothing behind: whether files can be written is tried with one that never has
a name and goes with its descriptor (O_TMPFILE), and where the file system has none, it is not
tried. What cannot be found out is null. The fields are those of ``edgeq.core.state.State``.
"""

import errno
import glob
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import time
import typing

ROOT = "/"
MIB = float(1 << 20)
WATCH_S = 1.0
LEAST_SHARE = 0.05  # of a core; less is no news
MOST_PROCESSES = 5
COMMAND_TIMEOUT_S = 5.0
DLOPEN_TIMEOUT_S = 20.0
PAGE = 4096
LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1")
Json = typing.Dict[str, typing.Any]


def main() -> None:
    """Print the state."""
    sys.stdout.write("EDGEQ-STATE " + json.dumps(checkup()) + "\n")


def checkup() -> Json:
    """Everything, as a plain object ready for JSON."""
    home = os.path.expanduser("~")
    root = os.environ.get("EDGEQ_ROOT") or os.path.join(home, ".edgeq")
    folder = root if os.path.isdir(root) else home
    before = watch()
    state = {
        "folder": folder,
        "mount": mount(folder),
        "libraries": libraries(),
        "unreadable": unreadable(),
        "cores_offline": cores_offline(),
        "file_limit_mib": file_limit_mib(),
        "rtc": bool(listing("sys/class/rtc/rtc*")) if os.path.isdir(at("sys/class")) else None,
        "clock_synchronized": clock_synchronized(),
        "power_mode": power_mode(),
    }
    state.update(disk(folder))
    state.update(writes(folder))
    state.update(maps(home, folder))
    state.update(frequency())
    state.update(swap())
    time.sleep(max(0.0, before["at_s"] + WATCH_S - time.monotonic()))
    state.update(compared(before, watch()))
    return state


def at(path: str) -> str:
    return os.path.join(ROOT, path)


def read(path: str) -> str:
    """A small file's stripped text; empty where it cannot be read."""
    try:
        with open(at(path), "rb") as file:
            return file.read(1 << 18).decode("utf-8", "replace").strip().strip("\0").strip()
    except OSError:
        return ""


def listing(pattern: str) -> typing.List[str]:
    """Paths under the root that match, without the root."""
    return sorted(os.path.relpath(path, ROOT) for path in glob.glob(at(pattern)))


def run(argv: typing.List[str], timeout_s: float = COMMAND_TIMEOUT_S) -> typing.Optional[str]:
    """A program's output and errors; None when it is not there or does not end."""
    if not shutil.which(argv[0]):
        return None
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def word(error: OSError) -> str:
    """``EROFS`` and its kin."""
    return errno.errorcode.get(error.errno or 0, str(error))


# --- the place for edgeq's files


def mount(folder: str) -> typing.Optional[Json]:
    """The file system that holds a folder, from the kernel's table."""
    path = os.path.realpath(folder)
    best = None
    for line in read("proc/self/mounts").splitlines():
        fields = [re.sub(r"\\(\d{3})", lambda o: chr(int(o.group(1), 8)), f) for f in line.split()]
        if len(fields) < 4:  # noqa: PLR2004 - device, point, type, options
            continue
        point = fields[1]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and (best is None or len(point) >= len(best["point"])):
            best = {
                "point": point,
                "device": fields[0],
                "type": fields[2],
                "options": fields[3].split(","),
            }
    return best


def disk(folder: str) -> Json:
    try:
        stats = os.statvfs(folder)
    except OSError:
        return {}
    return {
        "disk_free_mib": stats.f_bavail * stats.f_frsize / MIB,
        "disk_size_mib": stats.f_blocks * stats.f_frsize / MIB,
        # Some file systems make them as they go, and say 0.
        "inodes_free": stats.f_favail if stats.f_files else None,
        "inodes_size": stats.f_files or None,
    }


def writes(folder: str) -> Json:
    """Whether a file can be written; an empty ``write_error`` says that it can."""
    flags = os.O_RDWR | getattr(os, "O_TMPFILE", 0)
    if not getattr(os, "O_TMPFILE", 0):
        return access(folder)
    try:
        descriptor = os.open(folder, flags, 0o600)
    except OSError as error:
        # What a file system or an old kernel says that has no files without a name.
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return access(folder)
        return {"write_error": word(error), "write_how": "tried"}
    try:
        os.write(descriptor, b"\0" * PAGE)
        # Some notice only now that there is no room: quotas, network file systems.
        os.fsync(descriptor)
    except OSError as error:
        return {"write_error": word(error), "write_how": "tried"}
    finally:
        os.close(descriptor)
    return {"write_error": "", "write_how": "tried"}


def access(folder: str) -> Json:
    """By the folder's rights and the mount's options; the kernel says here what it would say."""
    try:
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    except OSError as error:
        return {"write_error": word(error), "write_how": "its rights"}
    if read_only:
        return {"write_error": "EROFS", "write_how": "mount options"}
    allowed = os.access(folder, os.W_OK | os.X_OK)
    return {"write_error": "" if allowed else "EACCES", "write_how": "its rights"}


def maps(home: str, folder: str) -> Json:
    """Whether a file there can be mapped as a program's code is, as a runtime's library must be."""
    device = os.stat(folder).st_dev if os.path.isdir(folder) else None
    for path in sample_files(folder, home):
        try:
            if os.stat(path).st_dev != device or not os.path.getsize(path):
                continue
            with open(path, "rb") as file, mapped(file.fileno()):
                return {"map_error": "", "map_how": "tried on " + path}
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES) and os.access(path, os.R_OK):
                return {"map_error": word(error), "map_how": "tried on " + path}
    found = mount(folder)
    if found is None:
        return {}
    error_word = "EPERM" if "noexec" in found["options"] else ""
    return {"map_error": error_word, "map_how": "mount options"}


def mapped(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 1, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)


def sample_files(folder: str, home: str) -> typing.Iterator[str]:
    """Files that are there anyway."""
    for pattern in ("agents/*.pyz", "runtimes/*/*/*.so", ".*", "*", ".ssh/*"):
        for start in (folder, home):
            for path in sorted(glob.glob(os.path.join(start, pattern)))[:8]:
                if os.path.isfile(path):
                    yield path


def file_limit_mib() -> typing.Optional[float]:
    """The largest file that this log-in may write."""
    try:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    except (ImportError, OSError):
        return None
    return None if soft == resource.RLIM_INFINITY else soft / MIB


def libraries() -> Json:
    """What the dynamic loader says to libraries that runtimes need: empty when it finds them.

    In another process, which a library may spoil.
    """
    script = (
        "import ctypes, json, sys\nfound = {}\nfor name in sys.argv[1:]:\n    try:\n"
        "        ctypes.CDLL(name)\n        found[name] = ''\n    except OSError as error:\n"
        "        found[name] = str(error)[:200]\nprint('FOUND ' + json.dumps(found))\n"
    )
    said = run([sys.executable, "-I", "-c", script, *LIBRARIES], DLOPEN_TIMEOUT_S) or ""
    for line in said.splitlines():
        if line.startswith("FOUND "):
            found: Json = json.loads(line[len("FOUND ") :])
            return found
    return {}


# --- sensors, clock, speed


def unreadable() -> typing.List[Json]:
    """Sensors that are there and refuse themselves to this user."""
    patterns = (
        ("rapl", "sys/class/powercap/intel-rapl:*/energy_uj"),
        ("hwmon", "sys/class/hwmon/hwmon*/power*_input"),
        ("hwmon", "sys/class/hwmon/hwmon*/in*_input"),
        ("hwmon", "sys/class/hwmon/hwmon*/curr*_input"),
        ("battery", "sys/class/power_supply/*/current_now"),
        ("thermal_zone", "sys/class/thermal/thermal_zone*/temp"),
        ("cpufreq", "sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq"),
        ("odpm", "sys/bus/iio/devices/iio:device*/energy_value"),
    )
    found: typing.Dict[str, Json] = {}
    for what, pattern in patterns:
        for path in listing(pattern):
            try:
                with open(at(path), "rb") as file:
                    file.read(64)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    found.setdefault(what, {"what": what, "path": "/" + path, "why": word(error)})
    program = shutil.which("vcgencmd") or shutil.which("/opt/vc/bin/vcgencmd")
    said = run([program, "get_throttled"]) if program and ROOT == "/" else None
    if said is not None and not re.search(r"0x[0-9a-fA-F]+", said):
        why = (said.splitlines() or ["it says nothing"])[-1][:120]
        found["vcgencmd"] = {"what": "vcgencmd", "path": "/dev/vcio", "why": why}
    return list(found.values())


def clock_synchronized() -> typing.Optional[bool]:
    """Whether something keeps the clock right."""
    if os.path.exists(at("run/systemd/timesync/synchronized")):
        return True
    if ROOT != "/":
        return None
    said = run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    return {"yes": True, "no": False}.get(said or "")


def power_mode() -> typing.Optional[str]:
    """A Jetson's, in its tool's words."""
    said = run(["nvpmodel", "-q"]) if ROOT == "/" else None
    found = re.search(r"Power Mode\s*:\s*(\S+)", said or "")
    return found.group(1) if found else None


def cores_offline() -> typing.Optional[int]:
    present, online = (read("sys/devices/system/cpu/" + name) for name in ("present", "online"))
    return count(present) - count(online) if present and online else None


def count(ranges: str) -> int:
    """How many numbers ``0-3,6`` stands for."""
    found = re.findall(r"(\d+)(?:-(\d+))?", ranges)
    return sum(int(last or first) - int(first) + 1 for first, last in found)


def frequency() -> Json:
    """What decides on the CPU's frequency, and how far it lets it go."""
    policies = listing("sys/devices/system/cpu/cpufreq/policy*")
    pairs = [
        (read(path + "/scaling_max_freq"), read(path + "/cpuinfo_max_freq")) for path in policies
    ]
    shares = [
        int(now) / int(top) for now, top in pairs if now.isdigit() and top.isdigit() and top != "0"
    ]
    return {
        "governors": sorted({read(path + "/scaling_governor") for path in policies} - {""}),
        "frequency_driver": next((read(path + "/scaling_driver") for path in policies), None)
        or None,
        "frequency_limit_share": min(shares) if shares else None,
    }


# --- memory and other processes


def swap() -> Json:
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", read("proc/meminfo"), re.MULTILINE))
    pressure = re.search(r"^some avg10=([\d.]+)", read("proc/pressure/memory"))
    mib = {key: int(sizes[key]) / 1024.0 for key in ("SwapTotal", "SwapFree") if key in sizes}
    return {
        "swap_size_mib": mib.get("SwapTotal"),
        "swap_free_mib": mib.get("SwapFree"),
        "memory_pressure_percent": float(pressure.group(1)) if pressure else None,
    }


def watch() -> Json:
    """The counters at one moment."""
    paging = dict(re.findall(r"^(pswpin|pswpout) (\d+)", read("proc/vmstat"), re.MULTILINE))
    return {
        "at_s": time.monotonic(),
        "cpu": cpu_times(),
        "processes": processes(),
        "pages": sum(map(int, paging.values())) if paging else None,
    }


def cpu_times() -> typing.Optional[typing.Tuple[int, int, int]]:
    """Ticks at work, ticks that another guest of this machine's host took, and all."""
    found = re.match(r"cpu +([\d ]+)", read("proc/stat"))
    if not found:
        return None
    ticks = [int(part) for part in found.group(1).split()][:8]
    idle = sum(ticks[3:5])
    stolen = ticks[7] if len(ticks) > 7 else 0  # noqa: PLR2004 - its place in the line
    return sum(ticks) - idle - stolen, stolen, sum(ticks)


def processes() -> typing.Dict[int, typing.Tuple[str, int, str]]:
    """Pid to name, ticks and start, which with the pid tells processes apart."""
    found = {}
    for path in glob.glob(at("proc/[0-9]*/stat")):
        try:
            with open(path, "rb") as file:
                head, _, tail = file.read().decode("utf-8", "replace").rpartition(")")
        except OSError:
            continue  # it ended
        fields = tail.split()
        pid, _, name = head.partition(" (")
        if len(fields) > 19 and pid.strip().isdigit():  # noqa: PLR2004 - starttime's place
            found[int(pid)] = name, int(fields[11]) + int(fields[12]), fields[19]
    return found


def compared(before: Json, after: Json) -> Json:
    """What happened between two moments, edgeq's own examination left out."""
    seconds = max(after["at_s"] - before["at_s"], 1e-3)
    state: Json = {"watched_s": seconds, "processes": busy(before, after, seconds)}
    state["processes_hidden"] = bool(after["processes"]) and 1 not in after["processes"]
    if before["pages"] is not None and after["pages"] is not None:
        state["swap_pages_per_s"] = (after["pages"] - before["pages"]) / seconds
    if before["cpu"] and after["cpu"] and after["cpu"][2] > before["cpu"][2]:
        cores = os.cpu_count() or 1
        every = after["cpu"][2] - before["cpu"][2]
        state["busy_cores"] = cores * (after["cpu"][0] - before["cpu"][0]) / every
        state["stolen_cores"] = cores * (after["cpu"][1] - before["cpu"][1]) / every
    return state


def busy(before: Json, after: Json, seconds: float) -> typing.List[Json]:
    """The processes that took most, with their share of a core."""
    tick_s = 1.0 / (os.sysconf("SC_CLK_TCK") or 100)
    found = []
    for pid, (name, ticks, start) in after["processes"].items():
        earlier = before["processes"].get(pid)
        since = earlier[1] if earlier and earlier[2] == start else 0
        share = (ticks - since) * tick_s / seconds
        if share >= LEAST_SHARE and pid != os.getpid():
            found.append({"pid": pid, "name": name, "user": owner(pid), "cores": share})
    found.sort(key=lambda one: -one["cores"])
    return found[:MOST_PROCESSES]


def owner(pid: int) -> typing.Optional[str]:
    try:
        uid = os.stat(at(f"proc/{pid}")).st_uid
    except OSError:
        return None
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


if __name__ == "__main__":
    main()
