"""The report, version 1: what one run found.

A field that is unknown is null, and ``unavailable`` says why.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edgeq.core.document import Part
from edgeq.core.searched import SearchSection
from edgeq.errors import HostError

Status = Literal["valid", "invalid", "inconclusive"]
Interval = Annotated[tuple[float, ...], Field(min_length=2, max_length=2)]


class MachineSection(Part):
    """What the device is. ``model``: the board's own words."""

    model: str | None = None
    arch: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_mib: float | None = None
    os: str | None = None
    kernel: str | None = None
    python: str | None = None


class DeviceSection(Part):
    name: str
    profile: str
    machine: MachineSection


class ModelSection(Part):
    """The user's model. ``source``: its format, such as keras-h5."""

    name: str
    sha256: str
    size_bytes: int
    source: str


class ArtifactSection(Part):
    """The converted model. ``compression_ratio``: the model's size by the artifact's."""

    format: str
    precision: str
    sha256: str
    size_bytes: int
    compression_ratio: float | None


class QualitySection(Part):
    """Artifact against float model, on the host."""

    samples: int
    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    float_accuracy: float | None = None
    artifact_accuracy: float | None = None
    accuracy_drop: float | None = None


class ParitySection(Part):
    """The artifact on the device against the same on the host."""

    samples: int
    max_abs_diff: float | None
    identical: bool


class LatencySection(Part):
    """Of one inference. ``runs`` does not count the warm-up."""

    runs: int
    warmup_runs: int
    mean_ms: float | None = None
    std_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    p50_ci_ms: Interval | None = None
    load_ms: float | None = None
    first_ms: float | None = None


class MemorySection(Part):
    """Of the process that runs the model. ``baseline``: runtime imported, no model yet."""

    peak_rss_mib: float | None = None
    pss_mib: float | None = None
    baseline_rss_mib: float | None = None


class PowerSection(Part):
    """``source`` and ``coverage`` say what was measured; energy is per inference.

    ``energy_mj`` is ``mean_w`` over ``measured_s``, by the inferences of that time, and what lies
    between them is counted. ``*_ci_mj``: 95 % intervals over ``windows`` of ``window_s``.
    ``idle_drift_w``: after less before. ``gap_max_s``: the longest time without a reading.
    ``uncertainty_percent``: the most that the sensor may be off by its data sheet. ``clock_*``: the
    device's clock less the meter's, which the readings were corrected by; 0 where it is one clock.
    """

    source: str
    coverage: str | None = None
    mean_w: float | None = None
    idle_w: float | None = None
    idle_drift_w: float | None = None
    energy_mj: float | None = None
    energy_ci_mj: Interval | None = None
    energy_net_mj: float | None = None
    energy_net_ci_mj: Interval | None = None
    measured_s: float | None = None
    windows: int | None = None
    window_s: float | None = None
    sample_hz: float | None = None
    gap_max_s: float | None = None
    uncertainty_percent: float | None = None
    clock_offset_s: float | None = None
    clock_uncertainty_s: float | None = None
    clock_drift_ppm: float | None = None


class PolicySection(Part):
    """CPUs with one clock. ``min_mhz`` and ``max_mhz``: as set; ``hardware_*``: what the chip can.

    ``cpus``: such as ``0-3``. ``pinned``: edgeq held it at one frequency for the run.
    """

    name: str
    cpus: str | None = None
    core: str | None = None
    governor: str | None = None
    min_mhz: float | None = None
    max_mhz: float | None = None
    hardware_min_mhz: float | None = None
    hardware_max_mhz: float | None = None
    pinned: bool = False


class CoolingSection(Part):
    """How ``--cool-to`` went. ``worst_start_c``: the warmest that a process began at."""

    target_c: float
    reached: bool
    waited_s: float
    worst_start_c: float | None = None


class ThermalSection(Part):
    """``rise_c``: the last third of the run against the first. ``governor``: of the run's CPUs.

    ``occurred_before``: throttling since boot, before the run, which does not count against it.
    """

    start_c: float | None = None
    max_c: float | None = None
    throttled: bool | None = None
    frequency_min_mhz: float | None = None
    frequency_max_mhz: float | None = None
    rise_c: float | None = None
    governor: str | None = None
    pinned: bool | None = None
    policies: tuple[PolicySection, ...] = ()
    occurred_before: tuple[str, ...] = ()


class OpTime(Part):
    """One op: ``mean_ms`` of a call, ``share`` of all ops' time, ``calls`` in one inference."""

    type: str
    name: str
    mean_ms: float
    share: float | None = None
    memory_kib: float | None = None
    calls: int | None = None


class BenchmarkSection(Part):
    """What TFLite's ``benchmark_model`` tells beyond the rest, where it is what ran the model.

    ``p5_ms`` and ``p95_ms``: the least and the largest of the processes'; it gives no raw samples.
    ``load_growth`` and ``run_growth``: of its memory until the model was loaded, and until the end.
    ``ops``: time by op, in the order they run, from a run of their own.
    """

    program: str
    sha256: str | None = None
    flags: tuple[str, ...] = ()
    p5_ms: float | None = None
    p95_ms: float | None = None
    load_growth_mib: float | None = None
    run_growth_mib: float | None = None
    ops: tuple[OpTime, ...] = ()


class RuntimeSection(Part):
    """``cpus``: those it was held to, such as ``2-3``; None: all. ``cores``: of which kinds."""

    name: str
    version: str | None = None
    threads: int | None = None
    delegate: str | None = None
    cpus: str | None = None
    cores: str | None = None


class VerdictSection(Part):
    """Whether the figures can be trusted. Each reason begins with a short code and a colon."""

    status: Status
    reasons: tuple[str, ...] = ()


class Gate(Part):
    """A condition of the deploy. An unknown ``value`` does not pass."""

    name: str
    limit: float
    value: float | None
    passed: bool


class TransferSection(Part):
    """``bytes_total``: what the device needs; ``bytes_sent``: what was not there already."""

    bytes_sent: int
    bytes_total: int
    seconds: float


class TimingsSection(Part):
    load: float | None = None
    quantize: float | None = None
    verify: float | None = None
    provision: float | None = None
    push: float | None = None
    run: float | None = None
    total: float | None = None


class Report(Part):
    """One run.

    ``created`` is UTC, ISO 8601. ``search``: with ``--precision auto``. ``benchmark``: with
    benchmark_model. ``cooling``: with ``--cool-to``. ``unavailable``: null
    field, why it is null.
    """

    schema_: Annotated[Literal["edgeq.report/1"], Field(alias="schema")] = "edgeq.report/1"
    run_id: str
    created: str
    device: DeviceSection
    model: ModelSection
    artifact: ArtifactSection
    search: SearchSection | None = None
    quality: QualitySection | None = None
    parity: ParitySection | None = None
    latency: LatencySection | None = None
    memory: MemorySection | None = None
    power: PowerSection | None = None
    thermal: ThermalSection | None = None
    cooling: CoolingSection | None = None
    runtime: RuntimeSection | None = None
    benchmark: BenchmarkSection | None = None
    verdict: VerdictSection
    gates: tuple[Gate, ...] = ()
    transfer: TransferSection | None = None
    timings_s: TimingsSection = TimingsSection()
    warnings: tuple[str, ...] = ()
    unavailable: dict[str, str] = Field(default={})


def dump(report: Report) -> str:
    """The report as indented JSON, with a newline at its end; never NaN or infinity."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"


def run_id(created: datetime, random: bytes) -> str:
    """A run's name, such as ``20261121-091512-3f9a``: its time in UTC and two random bytes."""
    return f"{created:%Y%m%d-%H%M%S}-{random[:2].hex()}"


def load(text: str, origin: str) -> Report:
    """Read a report.

    Raises:
        HostError: it is not one, or a newer edgeq wrote it.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HostError(
            f"{origin} is not a report that this edgeq can read: {where}: {first['msg'].lower()}",
            hint="if a newer edgeq wrote it, update: pip install -U edgeq",
        ) from error
