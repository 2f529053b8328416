"""What a device is, as the examination found it. Input from outside: parsed once, then frozen."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PythonFacts(_Facts):
    """One Python; ``runtimes`` holds the versions of those that import.

    Keys are litert, tflite_runtime, onnxruntime, numpy, psutil; ``problems`` has those that fail
    to, ``packages`` the names they were installed by, which tell onnxruntime-gpu, ``providers``
    what ONNX Runtime was built with.
    """

    path: str
    version: tuple[int, int, int]
    implementation: str = "CPython"
    bits: int = 64
    runtimes: dict[str, str] = {}
    problems: dict[str, str] = {}
    packages: dict[str, str] = {}
    providers: tuple[str, ...] = ()


class Cluster(_Facts):
    """Cores of one kind, of which a big.LITTLE processor has two or three."""

    cpu: str | None = None
    cores: int = 0
    max_mhz: float | None = None


class Sources(_Facts):
    """What there is to measure with, by the names of a profile's ``[telemetry]``."""

    power: tuple[str, ...] = ()
    thermal: tuple[str, ...] = ()
    throttling: tuple[str, ...] = ()


class Facts(_Facts):
    """The examination's answer; printed by ``edgeq/agent/examine.py``. Unknown is None.

    Attributes:
        architecture: ``uname -m``, mended where a 32-bit userland runs on a 64-bit kernel.
        libc: ``glibc``, ``musl``, ``bionic``.
        root: The agent's folder on the device (``$HOME/.edgeq``), absolute.
        agents: SHA-256 of the agent archives there.
        runtimes: Names of the folders under ``runtimes/``.
        sensors: What the meters, thermal and throttle sources found: words for people.
        wall_time_s: Device's Unix time when examined.
        throttled: Flags in words; empty when fine, None when there is no way to know.
        throttle_events: What other counters have counted since boot.
        clusters: ARM's kinds of cores, the fastest first; empty for other processors.
        gpu: Device files of an NVIDIA GPU.
        compatible: The device tree's names of the board and its chip.
    """

    system: str
    architecture: str
    kernel: str
    os: str | None = None
    model: str | None = None
    cpu: str | None = None
    cpu_flags: tuple[str, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    compatible: tuple[str, ...] = ()
    cores: Annotated[int, Field(ge=1)] | None = None
    memory_mib: float | None = None
    memory_available_mib: float | None = None
    disk_free_mib: float | None = None
    libc: str | None = None
    libc_version: str | None = None
    home: str
    root: str
    home_writable: bool = True
    user: str | None = None
    pythons: tuple[PythonFacts, ...] = ()
    agents: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    gpu: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    sources: Sources = Sources()
    throttled: tuple[str, ...] | None = None
    throttle_events: tuple[str, ...] = ()
    load_1min: float | None = None
    wall_time_s: float
