"""Look at a device and change nothing: prints ``EDGEQ-FACTS`` and one JSON object on one line.

The host pipes this file to ``python3 -I -`` before anything was sent, so it needs no other file of
edgeq's, writes nothing, and keeps to what Python 3.6 understands, so that it can report a Python
that is too old. What cannot be found out is null. The fields are those of
``edgeq.core.machine.Facts``.
"""

import functools
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
import threading
import time
import typing

ROOT = "/"
PROBE_TIMEOUT_S = 30.0
QUICK_TIMEOUT_S = 10.0
OWN_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 5.0
MIB = float(1 << 20)
OLDEST, NEWEST = 6, 15
AT_ONCE = 8
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
            listed = getattr(sys.modules[module], "get_available_providers", list)()
            said += "\n" + " ".join(listed)
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
runtimes, problems, providers = {}, {}, []
for key, module in MODULES.items():
    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except Exception:
        there = True
    if there:
        said = "+" + installed(key)
        if "quick" not in sys.argv or said == "+":
            said = attempt(key, module)
        if said[0] == "+":
            runtimes[key], _, listed = said[1:].partition("\n")
            providers += listed.split()
        else:
            problems[key] = said[1:]
print("EDGEQ-PYTHON " + json.dumps({
    "path": sys.executable, "version": list(sys.version_info[:3]), "bits": 8 * struct.calcsize("P"),
    "implementation": platform.python_implementation(), "runtimes": runtimes, "problems": problems,
    "packages": packages, "providers": providers,
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
        "model": model(),
        "compatible": [name for name in read("proc/device-tree/compatible").split("\0") if name],
        "clusters": clusters(),
        "cores": cores(),
        "disk_free_mib": disk_free_mib(root if os.path.isdir(root) else home),
        "agents": [
            name[:-4] for name in names(root, "agents") if re.match(r"[0-9a-f]{64}\.pyz$", name)
        ],
        "runtimes": [name for name in names(root, "runtimes") if is_whole(root, name)],
        "gpu": gpu(),
        "sensors": sensors(),
        "sources": {} if QUICK else sources(),
        "throttled": throttled(),
        "throttle_events": throttle_events(),
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


def model() -> typing.Optional[str]:
    """The board, by its device tree, its firmware, or what Android says."""
    said = [
        read("proc/device-tree/model"),
        read("sys/firmware/devicetree/base/model"),
        *re.findall(r"^Model[ \t]*:[ \t]*(.+)$", read("proc/cpuinfo"), re.MULTILINE),
        read("sys/class/dmi/id/product_name"),
    ]
    blank = re.compile(r"O\.E\.M|System Product|Default string|Not (Applicable|Specified)", re.I)
    known = [text for text in said if text and not blank.search(text)]
    if known:
        return " ".join(known[0].split())
    names = [run(["getprop", "ro.product." + key]) for key in ("manufacturer", "model")]
    return " ".join(filter(None, names)) or None


def processor() -> Json:
    """Name and flags of the CPU; the names of all kinds of cores where there are several."""
    text = read("proc/cpuinfo")
    fields = dict(re.findall(r"^([^:\n\t]+?)[ \t]*:[ \t]*(.*)$", text, re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or fields.get("isa") or ""
    kinds = [kind["cpu"] for kind in clusters() if kind["cpu"]]
    said = [
        fields.get(key) for key in ("model name", "uarch", "cpu model", "Hardware", "Processor")
    ]
    return {"cpu": " + ".join(kinds) or next(filter(None, said), None), "cpu_flags": flags.split()}


def clusters() -> typing.List[Json]:
    """ARM's kinds of cores, the fastest first: name, cores, highest frequency; else none."""
    found: typing.Dict[typing.Tuple[int, int], Json] = {}
    for number, kind in arm_cores():
        speed = read(f"sys/devices/system/cpu/cpu{number}/cpufreq/cpuinfo_max_freq")
        one = found.setdefault(kind, {"cpu": arm_name(*kind), "cores": 0, "max_mhz": None})
        one["cores"] += 1
        if speed.isdigit():
            one["max_mhz"] = max(one["max_mhz"] or 0.0, int(speed) / 1000.0)
    # Without frequencies the later cores are the larger ones, by custom.
    kinds = list(found.values())[::-1]
    return sorted(kinds, key=lambda one: -(one["max_mhz"] or 0.0))


def arm_cores() -> typing.List[typing.Tuple[int, typing.Tuple[int, int]]]:
    """Number, implementer and part of each core; old kernels say the part once for all."""
    cores: typing.List[typing.Dict[str, int]] = []
    last: typing.Dict[str, int] = {}
    for line in read("proc/cpuinfo").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            cores.append({"processor": int(value)})
        elif key in ("CPU implementer", "CPU part"):
            last[key] = number_of(value)
            (cores or [{}])[-1][key] = last[key]
    cores = cores or [{"processor": 0}]
    every = [(core["processor"], dict(last, **core)) for core in cores]
    return [
        (number, (core.get("CPU implementer", 0x41), core["CPU part"]))
        for number, core in every
        if "CPU part" in core
    ]


def number_of(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def arm_name(implementer: int, part: int) -> typing.Optional[str]:
    """A core's name, or its numbers where it is not known by name."""
    found = re.search(rf"(?:^|\s){part:x}=(\S+)", ARM_PARTS.get(implementer, ""))
    if found:
        return found.group(1).replace("_", " ")
    return f"ARM core 0x{implementer:02x}/0x{part:03x}" if part >= 0 else None


# Implementer, then part=name: the numbers of the MIDR register, as arch/arm64/include/asm/cputype.h
# of Linux and the makers' manuals give them.
ARM_PARTS = {
    0x41: """b76=ARM1176 c05=Cortex-A5 c07=Cortex-A7 c08=Cortex-A8 c09=Cortex-A9 c0d=Cortex-A12
        c0e=Cortex-A17 c0f=Cortex-A15 d01=Cortex-A32 d02=Cortex-A34 d03=Cortex-A53 d04=Cortex-A35
        d05=Cortex-A55 d06=Cortex-A65 d07=Cortex-A57 d08=Cortex-A72 d09=Cortex-A73 d0a=Cortex-A75
        d0b=Cortex-A76 d0c=Neoverse-N1 d0d=Cortex-A77 d0e=Cortex-A76AE d40=Neoverse-V1
        d41=Cortex-A78 d42=Cortex-A78AE d43=Cortex-A65AE d44=Cortex-X1 d46=Cortex-A510
        d47=Cortex-A710 d48=Cortex-X2 d49=Neoverse-N2 d4a=Neoverse-E1 d4b=Cortex-A78C
        d4c=Cortex-X1C d4d=Cortex-A715 d4e=Cortex-X3 d4f=Neoverse-V2 d80=Cortex-A520
        d81=Cortex-A720 d82=Cortex-X4 d83=Neoverse-V3AE d84=Neoverse-V3 d85=Cortex-X925
        d87=Cortex-A725 d88=Cortex-A520AE d89=Cortex-A720AE d8e=Neoverse-N3 d8f=Cortex-A320""",
    0x42: "f=Brahma-B15 100=Brahma-B53 516=ThunderX2",
    0x43: "a0=ThunderX a1=ThunderX-88XX a2=ThunderX-81XX a3=ThunderX-83XX af=ThunderX2",
    0x46: "1=A64FX",
    0x48: "d01=TSV110 d40=Cortex-A76",
    0x4E: "0=Denver 3=Denver_2 4=Carmel 10=Olympus",
    0x51: """1=Oryon f=Scorpion 2d=Scorpion 4d=Krait 6f=Krait 201=Kryo 205=Kryo 211=Kryo
        800=Kryo_2xx_Gold 801=Kryo_2xx_Silver 802=Kryo_3xx_Gold 803=Kryo_3xx_Silver
        804=Kryo_4xx_Gold 805=Kryo_4xx_Silver c00=Falkor c01=Saphira""",
    0x53: "1=Exynos-M1 2=Exynos-M3 3=Exynos-M4 4=Exynos-M5",
    0x56: "581=PJ4 584=PJ4B",
    0x61: """20=Icestorm 21=Firestorm 22=Icestorm 23=Firestorm 24=Icestorm 25=Firestorm
        28=Icestorm 29=Firestorm 30=Blizzard 31=Avalanche 32=Blizzard 33=Avalanche 34=Blizzard
        35=Avalanche 38=Blizzard 39=Avalanche""",
    0x6D: "d49=Cobalt-100",
    0x70: "660=FTC660 661=FTC661 662=FTC662 663=FTC663",
    0xC0: "ac3=Ampere-1 ac4=Ampere-1a ac5=Ampere-1b",
}


def gpu() -> typing.List[str]:
    """Device files of an NVIDIA GPU, a Jetson's or a card's."""
    paths = ("dev/nvidia0", "dev/nvgpu/igpu0", "dev/nvhost-gpu")
    return ["/" + path for path in paths if os.path.exists(os.path.join(ROOT, path))]


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
    for answer in ask_all(candidates(home)):
        known = [(one["real"], one["prefix"]) for one in found]
        if answer is not None and (answer["real"], answer["prefix"]) not in known:
            found.append(answer)
    found = found or [this_python()]
    return [
        {key: value for key, value in one.items() if key not in ("real", "prefix")} for one in found
    ]


def ask_all(paths: typing.List[str]) -> typing.List[typing.Optional[Json]]:
    """By threads, a few at once; importing concurrent.futures takes a board half a second."""
    answers: typing.List[typing.Optional[Json]] = [None] * len(paths)
    left = iter(range(len(paths)))

    def work() -> None:
        for number in left:
            answers[number] = ask_python(paths[number])

    threads = [threading.Thread(target=work) for _ in paths[:AT_ONCE]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def this_python() -> Json:
    """The one that runs this, where asking took too long: known without."""
    return {
        "path": sys.executable,
        "version": list(sys.version_info[:3]),
        "bits": struct.calcsize("P") * 8,
        "implementation": platform.python_implementation(),
        "problems": {"numpy": "asking for it took too long"},
    }


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
    if path == sys.executable:  # it works, or this would not run: then the machine is busy
        limit_s = OWN_TIMEOUT_S
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
    power = hwmon() + jetpack4() + pmic() + batteries() + odpm() + rapl()
    return power + zones() + policies() + vcgencmd()


def sources() -> typing.Dict[str, typing.List[str]]:
    """The same by the names that a profile's [telemetry] has, the best first."""
    chips = hwmon() + jetpack4()
    power = [("ina2xx", [word for word in chips if re.match("power: ina2", word)])]
    power += [("ina3221", [word for word in chips if word.startswith("power: ina3221")])]
    power += [("pmic", pmic()), ("odpm", odpm())]
    power += [("power_supply", batteries()), ("rapl", rapl())]
    limits = [("vcgencmd", raspberry() is not None), ("thermal_throttle", x86() is not None)]
    limits += [("hwmon", over_current() is not None), ("cooling_device", cooling() is not None)]
    chip = any(word.startswith("temperature: ") for word in chips)
    thermal = ["thermal_zone"] if zones() else ["hwmon"] if chip else []
    return {
        "power": [name for name, found in power if found],
        "thermal": thermal,
        "throttling": [name for name, found in limits if found],
    }


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
    folders = ("iio:device*/", "iio_device/iio:device*/", "")
    paths = [
        path
        for folder in folders
        for path in listing(f"sys/bus/i2c/drivers/ina3221*/*-*/{folder}rail_name_*")
    ]
    rails = [rail for rail in map(read, paths) if rail and "NC" not in rail.upper().split("_")]
    return ["power: ina3221 " + ", ".join(dict.fromkeys(rails))] if rails else []


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
    return ["throttling: vcgencmd"] if vcgencmd_path() else []


def vcgencmd_path() -> typing.Optional[str]:
    """A Raspberry Pi's program; on older systems it is in a folder of its own."""
    return shutil.which("vcgencmd") or shutil.which("/opt/vc/bin/vcgencmd")


@functools.lru_cache(maxsize=None)
def firmware(word: str) -> str:
    """What a Raspberry Pi's firmware answers, asked once; empty on other machines."""
    program = vcgencmd_path() if ROOT == "/" else None
    return run([program, word]) if program else ""


def pmic() -> typing.List[str]:
    """A Raspberry Pi 5's power chip: rails that have a current and a voltage."""
    said = "" if QUICK else firmware("pmic_read_adc")
    rails = set(re.findall(r"^\s*(\S+)_A\s+current", said, re.MULTILINE))
    rails &= set(re.findall(r"^\s*(\S+)_V\s+volt", said, re.MULTILINE))
    return [f"power: pmic, {len(rails)} rails"] if rails else []


def odpm() -> typing.List[str]:
    """The rail meters of Pixel phones."""
    count = len(listing("sys/bus/iio/devices/iio:device*/energy_value"))
    return [f"power: odpm, {count} chips"] if count else []


def throttled() -> typing.Optional[typing.List[str]]:
    """A Raspberry Pi's flags, else whether the kernel holds the frequency down now."""
    flags = raspberry()
    return cooling() if flags is None else flags


def throttle_events() -> typing.List[str]:
    """What the counters of other machines have counted since boot, in words."""
    return (x86() or []) + (over_current() or [])


def raspberry() -> typing.Optional[typing.List[str]]:
    """The firmware's flags, now and since boot; of old, a chip of its own said under-voltage."""
    said = read("sys/devices/platform/soc/soc:firmware/get_throttled")
    said = said or firmware("get_throttled")
    words = ["under-voltage", "frequency capped", "throttled", "soft temperature limit"]
    try:
        bits = int(said.rpartition("=")[2].split()[0], 16)
    except (ValueError, IndexError):
        return rpi_volt()
    now = [word for bit, word in enumerate(words) if bits >> bit & 1]
    return now + ["occurred:" + word for bit, word in enumerate(words) if bits >> (bit + 16) & 1]


def rpi_volt() -> typing.Optional[typing.List[str]]:
    chips = [
        chip for chip in listing("sys/class/hwmon/hwmon*") if read(chip + "/name") == "rpi_volt"
    ]
    alarms = [read(chip + "/in0_lcrit_alarm") for chip in chips]
    alarms = [alarm for alarm in alarms if alarm]
    # The driver polls, and tells what it saw since it last looked.
    return ["occurred:under-voltage" for alarm in alarms if alarm != "0"] if alarms else None


def x86() -> typing.Optional[typing.List[str]]:
    """Intel's counters since boot."""
    flags, known = [], False
    for kind in ("core", "package"):
        paths = listing(f"sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        total = sum(int(text) for text in map(read, paths) if text.isdigit())
        known = known or bool(paths)
        if total:
            flags.append(f"occurred:{kind} throttled {total} times")
    return flags if known else None


def over_current() -> typing.Optional[typing.List[str]]:
    """A Jetson's counters since boot."""
    paths = listing("sys/class/hwmon/hwmon*/oc*_event_cnt")
    counts = [(os.path.basename(path)[: -len("_event_cnt")], read(path)) for path in paths]
    seen = [f"occurred:over-current {name} {count} times" for name, count in counts if count != "0"]
    return seen if paths else None


def cooling() -> typing.Optional[typing.List[str]]:
    """Whether the kernel holds the CPU's frequency down now."""
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
