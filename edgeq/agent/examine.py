"""Look at a device and change nothing: prints ``EDGEQ-FACTS`` and one JSON object on one line.

The host pipes this file to ``python3 -I -`` before anything was sent, so it needs no other file of
edgeq's, writes nothing, and keeps to what Python 3.6 understands, so that it can report a Python
that is too old. What cannot be found out is null. The fields are those of
``edgeq.core.machine.Facts``.
"""

import concurrent.futures
import glob
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import typing

ROOT = "/"
PROBE_TIMEOUT_S = 30.0
QUICK_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 5.0
MIB = float(1 << 20)
OLDEST, NEWEST = 6, 15
# True: a module that is found counts, without the second that its import takes. Whoever relies on
# one tries it before use; ``edgeq.archive`` sets this.
QUICK = False
# True: only the Python that runs this is asked, which is the one to use on the host itself.
ONLY_THIS = False
BITS_32 = 32
Json = typing.Dict[str, typing.Any]

# Runs in the Python that is asked about. Each import in a fork of its own: a library that crashes,
# or that does not bear another one beside it, spoils nothing else.
PROBE = r"""
import importlib.util, json, os, platform, struct, sys
sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]
MODULES = {"numpy": "numpy", "psutil": "psutil", "litert": "ai_edge_litert.interpreter",
           "tflite_runtime": "tflite_runtime.interpreter", "onnxruntime": "onnxruntime"}
NAMES = {"litert": ("ai-edge-litert",), "tflite_runtime": ("tflite-runtime",),
         "onnxruntime": ("onnxruntime-gpu", "onnxruntime")}
packages = {}
def version(key, module):
    package = sys.modules[module.partition(".")[0]]
    return str(getattr(package, "__version__", "") or installed(key) or "unknown")
def installed(key):
    for name in NAMES.get(key, (key,)):
        try:
            from importlib import metadata
            found = metadata.version(name)
            packages[key] = name
            return found
        except Exception:
            pass
    return ""
def attempt(key, module):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            __import__(module)
            said = "+" + version(key, module)
        except BaseException as error:
            said = "-%s: %s" % (type(error).__name__, error)
        os.write(theirs, said[:2000].encode("utf-8", "replace"))
        os._exit(0)
    os.close(theirs)
    said = b""
    while True:
        data = os.read(ours, 4096)
        if not data:
            break
        said += data
    status = os.waitpid(child, 0)[1]
    os.close(ours)
    if said:
        return said.decode("utf-8", "replace")
    return "-importing it ends Python with signal %d" % (status & 127)
runtimes, problems = {}, {}
for key, module in MODULES.items():
    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except Exception:
        there = True
    if there:
        said = "+" + installed(key)
        if "quick" not in sys.argv or said == "+":
            said = attempt(key, module)
        (runtimes if said[0] == "+" else problems)[key] = said[1:]
print("EDGEQ-PYTHON " + json.dumps({
    "path": sys.executable, "version": list(sys.version_info[:3]), "bits": 8 * struct.calcsize("P"),
    "implementation": platform.python_implementation(), "runtimes": runtimes, "problems": problems,
    "packages": packages,
    "real": os.path.realpath(sys.executable), "prefix": sys.prefix}))
"""


def main() -> None:
    """Print the facts."""
    facts = examine()
    sys.stdout.write("EDGEQ-FACTS " + json.dumps(facts) + "\n")


def examine() -> Json:
    """Everything, as a plain object ready for JSON."""
    home = os.path.expanduser("~")
    root = os.environ.get("EDGEQ_ROOT") or os.path.join(home, ".edgeq")
    kind, version = libc()
    facts = {
        "system": platform.system(),
        "architecture": architecture(platform.machine(), struct.calcsize("P") * 8),
        "kernel": platform.release(),
        "home": home,
        "root": root,
        "home_writable": writable(root if os.path.isdir(root) else home),
        "user": user(),
        "libc": kind,
        "libc_version": version,
        "os": operating_system(),
        "model": read("proc/device-tree/model") or read("sys/class/dmi/id/product_name") or None,
        "cores": cores(),
        "disk_free_mib": disk_free_mib(root if os.path.isdir(root) else home),
        "agents": [
            name[:-4] for name in names(root, "agents") if re.match(r"[0-9a-f]{64}\.pyz$", name)
        ],
        "runtimes": [name for name in names(root, "runtimes") if is_whole(root, name)],
        "sensors": sensors(),
        "throttled": throttled(),
        "load_1min": load(),
        "wall_time_s": time.time(),
    }
    facts.update(processor())
    facts.update(memory())
    facts["pythons"] = pythons(home)
    return facts


def read(path: str) -> str:
    """A small file's stripped text; empty where it cannot be read."""
    try:
        with open(os.path.join(ROOT, path), "rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace").strip().strip("\0").strip()
    except OSError:
        return ""


def architecture(machine: str, bits: int) -> str:
    """What programs of this userland are: a 64-bit kernel may carry a 32-bit system."""
    if bits == BITS_32:
        return {"aarch64": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine)


def libc() -> typing.Tuple[typing.Optional[str], typing.Optional[str]]:
    """``glibc``, ``musl`` or ``bionic``, and its version."""
    if os.environ.get("ANDROID_ROOT") or os.path.exists("/system/build.prop"):
        release = run(["getprop", "ro.build.version.sdk"])
        return "bionic", release or None
    try:
        word, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if word == "glibc":
            return "glibc", version
    except (ValueError, OSError):
        pass
    if glob.glob("/lib/ld-musl-*"):
        loader = sorted(glob.glob("/lib/ld-musl-*"))[0]
        found = re.search(r"Version (\S+)", run([loader], errors=True))
        return "musl", found.group(1) if found else None
    return None, None


def operating_system() -> typing.Optional[str]:
    """``PRETTY_NAME`` of os-release, or Android's version."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', read(path), re.MULTILINE)
        if found:
            return found.group(1)
    android = run(["getprop", "ro.build.version.release"])
    return "Android " + android if android else None


def processor() -> Json:
    """Name and flags of the CPU; ARM's cpuinfo gives the part by number only."""
    text = read("proc/cpuinfo")
    fields = dict(re.findall(r"^([^:\n\t]+?)[ \t]*:[ \t]*(.*)$", text, re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or fields.get("isa") or ""
    part = ARM_PARTS.get(fields.get("CPU part", "").lower())
    name = part or fields.get("model name") or fields.get("Hardware") or fields.get("Processor")
    return {"cpu": name or None, "cpu_flags": flags.split()}


# https://github.com/torvalds/linux/blob/master/arch/arm64/include/asm/cputype.h
ARM_PARTS = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
}


def cores() -> typing.Optional[int]:
    """The cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def memory() -> Json:
    sizes = {
        key: int(kib) / 1024.0
        for key, kib in re.findall(r"^(\w+): +(\d+) kB", read("proc/meminfo"), re.MULTILINE)
    }
    return {"memory_mib": sizes.get("MemTotal"), "memory_available_mib": sizes.get("MemAvailable")}


def disk_free_mib(folder: str) -> typing.Optional[float]:
    try:
        stats = os.statvfs(folder)
    except OSError:
        return None
    return stats.f_bavail * stats.f_frsize / MIB


def writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def user() -> typing.Optional[str]:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return os.environ.get("USER")


def load() -> typing.Optional[float]:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def names(root: str, folder: str) -> typing.List[str]:
    try:
        return sorted(os.listdir(os.path.join(root, folder)))
    except OSError:
        return []


def is_whole(root: str, name: str) -> bool:
    """A runtime's folder, not one that is being unpacked."""
    return not name.startswith(".") and os.path.isdir(os.path.join(root, "runtimes", name))


def pythons(home: str) -> typing.List[Json]:
    """Every Python 3 here, once, with the modules that import; all are asked at the same time."""
    found: typing.List[Json] = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        for answer in pool.map(ask_python, candidates(home)):
            known = [(one["real"], one["prefix"]) for one in found]
            if answer is not None and (answer["real"], answer["prefix"]) not in known:
                found.append(answer)
    return [
        {key: value for key, value in one.items() if key not in ("real", "prefix")} for one in found
    ]


def candidates(home: str) -> typing.List[str]:
    """Programs that may be a Python, the usual one first, each file once."""
    named = ["python3"] + [f"python3.{minor}" for minor in range(NEWEST, OLDEST - 1, -1)]
    folders = [
        *os.environ.get("PATH", os.defpath).split(os.pathsep),
        "/usr/bin",
        "/usr/local/bin",
        "/data/data/com.termux/files/usr/bin",
        os.path.join(home, ".local/bin"),
    ]
    paths = [sys.executable] + [os.path.join(folder, name) for folder in folders for name in named]
    paths += sorted(glob.glob("/opt/python*/bin/python3"))
    paths += sorted(glob.glob(os.path.join(home, ".pyenv/versions/*/bin/python3")))
    chosen: typing.Dict[str, str] = {}
    if ONLY_THIS:
        return [sys.executable]
    for path in paths:
        if (
            path.startswith("/")
            and os.access(path, os.X_OK)
            and os.path.isfile(path)
            and (path.endswith("python3") or not is_script(path))
        ):
            chosen.setdefault(identity(path), path)
    return list(chosen.values())


def is_script(path: str) -> bool:
    """Version managers put scripts in front, slow ones; what stands behind them is looked for."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


def identity(path: str) -> str:
    """Paths of one identity are one Python; a virtual environment's link is not its base."""
    folder = os.path.dirname(path)
    if os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg")):
        return folder
    return os.path.realpath(path)


def ask_python(path: str) -> typing.Optional[Json]:
    """What a Python says of itself; None when it is none."""
    # Nothing is to be written, nor told: ONNX Runtime does both when it is imported.
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", ORT_DISABLE_TELEMETRY="1")
    environment.pop("PYTHONPATH", None)
    command = [path, "-B", "-c", PROBE] + (["quick"] if QUICK else [])
    limit_s = QUICK_TIMEOUT_S if QUICK else PROBE_TIMEOUT_S
    said = run(command, timeout_s=limit_s, environment=environment)
    for line in said.splitlines():
        if line.startswith("EDGEQ-PYTHON "):
            answer: Json = json.loads(line[len("EDGEQ-PYTHON ") :])
            answer["path"] = answer["path"] or path  # not a shim, which starts slower
            return answer
    return None


def run(
    argv: typing.List[str],
    timeout_s: float = COMMAND_TIMEOUT_S,
    environment: typing.Optional[typing.Dict[str, str]] = None,
    errors: bool = False,
) -> str:
    """A program's stripped output; empty when it is not there, fails to end, or says nothing."""
    if not shutil.which(argv[0]):
        return ""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        return process.communicate(timeout=timeout_s)[0].decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0].decode("utf-8", "replace").strip()


def sensors() -> typing.List[str]:
    """What there is to measure with, in words."""
    return hwmon() + jetpack4() + batteries() + rapl() + zones() + policies() + vcgencmd()


def listing(pattern: str) -> typing.List[str]:
    """Paths under the root that match, without the root."""
    found = glob.glob(os.path.join(ROOT, pattern))
    return sorted(os.path.relpath(path, ROOT) for path in found)


def hwmon() -> typing.List[str]:
    found = []
    for chip in listing("sys/class/hwmon/hwmon*"):
        name = read(chip + "/name")
        if name == "ina3221":
            labels = [read(chip + f"/in{rail}_label") for rail in (1, 2, 3)]
            rails = [label for label in labels if label and "NC" not in label.upper().split("_")]
            found.append("power: ina3221 " + ", ".join(rails))
        elif re.match(r"ina2\d\d$", name):
            found.append("power: " + name)
        elif name in ("coretemp", "k10temp"):
            found.append("temperature: " + name)
    return found


def jetpack4() -> typing.List[str]:
    rails = [
        read(path) for path in listing("sys/bus/i2c/drivers/ina3221*/*/iio:device*/rail_name_*")
    ]
    rails = [rail for rail in rails if rail and "NC" not in rail.upper().split("_")]
    return ["power: ina3221 " + ", ".join(rails)] if rails else []


def batteries() -> typing.List[str]:
    return [
        "power: battery {} ({})".format(os.path.basename(path), read(path + "/status") or "unknown")
        for path in listing("sys/class/power_supply/*")
        if read(path + "/type") == "Battery"
    ]


def rapl() -> typing.List[str]:
    found = []
    for zone in listing("sys/class/powercap/intel-rapl:*"):
        if os.path.basename(zone).count(":") == 1:
            note = "" if read(zone + "/energy_uj") else " (for root only)"
            found.append("power: rapl {}{}".format(read(zone + "/name"), note))
    return found


def zones() -> typing.List[str]:
    kinds = [read(path) for path in listing("sys/class/thermal/thermal_zone*/type")]
    return ["temperature: " + ", ".join(sorted(set(filter(None, kinds))))] if any(kinds) else []


def policies() -> typing.List[str]:
    count = len(listing("sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq"))
    return [f"frequency: {count} cpufreq policies"] if count else []


def vcgencmd() -> typing.List[str]:
    return ["throttling: vcgencmd"] if shutil.which("vcgencmd") else []


def throttled() -> typing.Optional[typing.List[str]]:
    """A Raspberry Pi's flags, else whether the kernel holds the frequency down now."""
    said = read("sys/devices/platform/soc/soc:firmware/get_throttled")
    said = said or run(["vcgencmd", "get_throttled"])
    words = ["under-voltage", "frequency capped", "throttled", "soft temperature limit"]
    try:
        bits = int(said.rpartition("=")[2], 16)
    except ValueError:
        return cooling()
    now = [word for bit, word in enumerate(words) if bits >> bit & 1]
    return now + ["occurred:" + word for bit, word in enumerate(words) if bits >> (bit + 16) & 1]


def cooling() -> typing.Optional[typing.List[str]]:
    states = [
        read(os.path.dirname(path) + "/cur_state")
        for path in listing("sys/class/thermal/cooling_device*/type")
        if "cpufreq" in read(path) or read(path) == "Processor"
    ]
    if not states:
        return None
    return (
        ["frequency capped by cooling"] if any(state not in ("", "0") for state in states) else []
    )


if __name__ == "__main__":
    main()
