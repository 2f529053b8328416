"""The ``benchmark_model`` binary: where it is, what it was built for, and its flags."""

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import NamedProfile, RunProtocol
from edgeq.deploy import DeployJob
from edgeq.errors import PreflightError, UsageError
from edgeq.native import delegates
from edgeq.native.depot import Depot
from edgeq.native.phone import FOLDER
from edgeq.ports import OnProgress

NAME = "benchmark_model"
THERE = "device:"
USUAL = f"/data/local/tmp/{NAME}"
_WHERE_FROM = (
    "get android_aarch64_benchmark_model from tensorflow.org/lite/performance/measurement or build"
    ' it, then: --benchmark-model PATH here or with edgeq devices add, benchmark_model = "PATH"'
    f" under [runtime] of the profile, or: adb push PATH {USUAL}"
)
# e_machine of the ELF header, by uname -m; a 64-bit phone mostly runs 32-bit programs too.
_MACHINES = {183: "aarch64", 40: "armv7l", 62: "x86_64", 3: "i686", 243: "riscv64"}
_RUNS = {"aarch64": ("aarch64", "armv7l"), "x86_64": ("x86_64", "i686")}
_MAX_BYTES = 512 << 20
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A binary to send (``data``), or one that is there (``path``)."""

    shown: str
    data: bytes | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A binary that is there; ``sent_bytes`` 0 when it was before, ``sha256`` None if unknown."""

    path: str
    shown: str
    sent_bytes: int
    total_bytes: int
    sha256: str | None


def find(device: Device, profile: NamedProfile, wished: str | None) -> Program:
    """The one that was named: with this command, with the device, or in the profile.

    Raises:
        PreflightError: it is not there, or cannot be read.
    """
    own = profile.profile.runtime.benchmark_model
    named, base = wished or device.benchmark_model or own, Path()
    if named is None:
        return Program(shown=USUAL, path=USUAL)
    if named.startswith(THERE):
        path = named.removeprefix(THERE)
        return Program(shown=path, path=path)
    if named == own and not (wished or device.benchmark_model):
        base = profile.path.parent
    file = base / Path(named).expanduser()
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise PreflightError(f"{file} is too large for {NAME}")
        return Program(shown=str(file), data=file.read_bytes())
    except OSError as error:
        raise PreflightError(
            f"cannot read {NAME} at {file}: {error.strerror}", hint=_WHERE_FROM
        ) from error


def fits(program: Program, facts: Facts, where: str) -> None:
    """A binary that is sent is built for the phone's processor.

    Raises:
        PreflightError: it is built for another.
    """
    head = (program.data or b"")[:20]
    if not head.startswith(_ELF) or len(head) < 20:  # noqa: PLR2004 - up to e_machine
        return
    machine = _MACHINES.get(struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0])
    runs = _RUNS.get(facts.architecture, (facts.architecture,))
    if machine is not None and machine not in runs:
        raise PreflightError(
            f"{program.shown} is built for {machine}, and {where} is {facts.architecture}",
            hint=_WHERE_FROM,
        )


def bring(depot: Depot, program: Program, where: str, on_progress: OnProgress) -> Ready:
    """Send it, if it is not there; hashes are compared either way.

    Raises:
        PreflightError: one that should be there is not.
        SpaceError: /data is full.
    """
    if program.data is None:
        return there(depot, program, where)
    own = place(program.data)
    sent = depot.put(own, program.data, mode="700", on_progress=on_progress)
    return Ready(
        path=f"{FOLDER}/{own}",
        shown=program.shown,
        sent_bytes=sent,
        total_bytes=len(program.data),
        sha256=hashlib.sha256(program.data).hexdigest(),
    )


def there(depot: Depot, program: Program, where: str) -> Ready:
    """One that lies on the phone already.

    Raises:
        PreflightError: it does not.
    """
    path = program.path or USUAL
    known = depot.sums_of(path)
    if known is None:
        raise PreflightError(f"{where} has no {path}", hint=_WHERE_FROM)
    return Ready(path=path, shown=path, sent_bytes=0, total_bytes=0, sha256=known)


def place(data: bytes) -> str:
    """Where one that is sent belongs, under edgeq's folder."""
    return f"bin/{hashlib.sha256(data).hexdigest()[:32]}/{NAME}"


def require_possible(job: DeployJob) -> None:
    """What is asked for can be had without a Python on the device.

    Raises:
        UsageError: it cannot.
    """
    search = job.prepare.search
    if job.prepare.format != "tflite":
        raise UsageError(f"{NAME} runs .tflite models only", hint="leave out --format onnx")
    needs_agent = {
        "--on-device": search is not None and search.thorough,
        "--cool-to": job.conditions.cool_to_c is not None,
        "--pin-frequency": job.conditions.pin_mhz is not None,
    }
    for word, is_asked in needs_agent.items():
        if is_asked:
            raise UsageError(f"{word} needs Python on the device", hint="leave it out")


def prefix(protocol: RunProtocol) -> tuple[str, ...]:
    """What goes before the program, so that it keeps to the CPUs that were asked for."""
    if not protocol.cpus:
        return ()
    return ("taskset", f"{sum(1 << cpu for cpu in set(protocol.cpus)):x}")


def flags(profile: NamedProfile, threads: int) -> tuple[str, ...]:
    """What every run gets: threads, delegate and the profile's own flags."""
    runtime = profile.profile.runtime
    return (f"--num_threads={threads}", *delegates.flags(runtime.delegate), *runtime.flags)


def measuring(protocol: RunProtocol) -> tuple[str, ...]:
    """For one of the protocol's processes."""
    runs = -(-protocol.runs // protocol.processes)
    seconds = protocol.seconds / protocol.processes
    return (
        f"--num_runs={runs}",
        f"--min_secs={seconds:g}",
        f"--max_secs={limit_s(protocol) / 2:g}",
        "--warmup_runs=1",
        f"--warmup_min_secs={protocol.warmup_seconds:g}",
    )


def short() -> tuple[str, ...]:
    """For a run whose latency does not count."""
    return ("--num_runs=10", "--min_secs=0", "--warmup_runs=1", "--warmup_min_secs=0")


def limit_s(protocol: RunProtocol) -> float:
    """After that a process is hung: it says nothing while it measures."""
    seconds = protocol.seconds / protocol.processes
    return 2 * seconds + protocol.warmup_seconds + 2 * protocol.timeout_seconds


def version(text: str) -> str | None:
    """What the program says of itself, where it does."""
    found = re.search(r"TensorFlow Lite (?:runtime )?version[: ]+(\S+)", text)
    return found[1] if found else None


def says(words: Sequence[str]) -> str:
    """Flags as a person would type them."""
    return " ".join(words)
