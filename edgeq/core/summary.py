"""The report put together from what each step found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeq.core import conditions, power, telemetry, verdict
from edgeq.core import gates as gating
from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.model import Artifact, Source
from edgeq.core.profile import Budgets, NamedProfile, RunProtocol
from edgeq.core.raw import Raw
from edgeq.core.report import (
    ArtifactSection,
    BenchmarkSection,
    DeviceSection,
    Gate,
    LatencySection,
    MachineSection,
    MemorySection,
    ModelSection,
    ParitySection,
    PowerSection,
    QualitySection,
    Report,
    RuntimeSection,
    ThermalSection,
    TimingsSection,
    TransferSection,
    VerdictSection,
)
from edgeq.core.searched import SearchSection
from edgeq.core.telemetry import BYTES_PER_MIB, Missing

_ACCURACY = {"accuracy": ("float_accuracy", "artifact_accuracy", "accuracy_drop")}
_NO_TIMINGS = TimingsSection()


class QualityFigures(Protocol):
    """What the comparison on the host gives; None where it is not known."""

    @property
    def samples(self) -> int: ...
    @property
    def sqnr_db(self) -> float | None: ...
    @property
    def cosine(self) -> float | None: ...
    @property
    def top1_agreement(self) -> float | None: ...
    @property
    def float_accuracy(self) -> float | None: ...
    @property
    def artifact_accuracy(self) -> float | None: ...
    @property
    def accuracy_drop(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything a report is made of.

    Attributes:
        created: UTC, ISO 8601 with a Z.
        raw: None when nothing was measured.
        gates: Of quality and parity; the budgets' are added here.
        providers: ONNX Runtime's that were asked for; empty with another runtime.
        missing: Reasons that only the caller knows, such as ``Missing("quality", "…")``.
        search: How the artifact was chosen; None: it was asked for.
        trial_failure: How the model failed on the device; None when it did not.
        figures: Reckoned already, of a device that sends no raw samples; and ``judged``.
    """

    run_id: str
    created: str
    device: DeviceSection
    model: ModelSection
    artifact: ArtifactSection
    quality: QualitySection | None
    parity: ParitySection | None
    raw: Raw | None
    runtime: RuntimeSection | None
    budgets: Budgets
    protocol: RunProtocol
    gates: tuple[Gate, ...] = ()
    transfer: TransferSection | None = None
    timings: TimingsSection = _NO_TIMINGS
    providers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    trial_failure: str | None = None
    search: SearchSection | None = None
    figures: "Figures | None" = None
    judged: VerdictSection | None = None
    benchmark: BenchmarkSection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the raw samples say; all None when there are none.

    ``p90_bound_ms``: what p90 does not exceed, where only that is known.
    """

    latency: LatencySection | None = None
    memory: MemorySection | None = None
    power: PowerSection | None = None
    thermal: ThermalSection | None = None
    missing: tuple[Missing, ...] = ()
    p90_bound_ms: float | None = None


def summarise(outcome: Outcome) -> Report:
    """Reckon the figures, judge them, check the budgets and put the report together."""
    figures = outcome.figures or reckon(outcome.raw, outcome.protocol)
    latency, memory, energy = figures.latency, figures.memory, figures.power
    gates = outcome.gates + gating.budget_gates(
        outcome.budgets,
        latency_p90_ms=latency.p90_ms or figures.p90_bound_ms if latency else None,
        peak_memory_mib=memory.peak_rss_mib if memory else None,
        energy_mj=energy.energy_mj if energy else None,
        artifact_mib=outcome.artifact.size_bytes / BYTES_PER_MIB,
    )
    missing = (
        *_quality_missing(outcome.quality),
        *figures.missing,
        *outcome.missing,
        *_gates_missing(gates),
    )
    return Report(
        run_id=outcome.run_id,
        created=outcome.created,
        device=outcome.device,
        model=outcome.model,
        artifact=outcome.artifact,
        search=outcome.search,
        quality=outcome.quality,
        parity=outcome.parity,
        latency=latency,
        memory=memory,
        power=energy,
        thermal=figures.thermal,
        cooling=conditions.cooling_section(outcome.raw) if outcome.raw else None,
        runtime=outcome.runtime,
        benchmark=outcome.benchmark,
        verdict=_verdict(outcome),
        gates=gates,
        transfer=outcome.transfer,
        timings_s=outcome.timings,
        warnings=(*outcome.warnings, *_measuring_warnings(outcome.raw, energy, outcome.protocol)),
        unavailable={item.field: item.reason for item in missing},
    )


def reckon(raw: Raw | None, protocol: RunProtocol | None = None) -> Figures:
    """All figures of the raw samples, with the reasons for those that are None."""
    if raw is None:
        parts = ("latency", "memory", "power", "thermal")
        return Figures(missing=tuple(Missing(part, "nothing was measured") for part in parts))
    latency, memory = telemetry.latency(raw), telemetry.memory(raw)
    energy, thermal = power.power(raw, _method(protocol)), telemetry.thermal(raw)
    return Figures(
        latency=latency.section,
        memory=memory.section,
        power=energy.section,
        thermal=thermal.section,
        missing=(*latency.missing, *memory.missing, *energy.missing, *thermal.missing),
    )


def device_section(
    name: str, profile: NamedProfile, facts: Facts, python: PythonFacts | None
) -> DeviceSection:
    """The device in the report; ``python`` is the one that was used."""
    version = ".".join(map(str, python.version)) if python else None
    machine = MachineSection(
        model=facts.model,
        arch=facts.architecture,
        cpu=facts.cpu,
        cores=facts.cores,
        memory_mib=facts.memory_mib,
        os=facts.os,
        kernel=facts.kernel,
        python=version,
    )
    return DeviceSection(name=name, profile=profile.name, machine=machine)


def model_section(source: Source) -> ModelSection:
    return ModelSection(
        name=source.name, sha256=source.sha256, size_bytes=source.size_bytes, source=source.kind
    )


def artifact_section(artifact: Artifact, source: Source) -> ArtifactSection:
    return ArtifactSection(
        format=artifact.format,
        precision=artifact.precision,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        compression_ratio=ratio(source.size_bytes, artifact.size_bytes),
    )


def quality_section(quality: QualityFigures) -> QualitySection:
    return QualitySection(
        samples=quality.samples,
        sqnr_db=quality.sqnr_db,
        cosine=quality.cosine,
        top1_agreement=quality.top1_agreement,
        float_accuracy=quality.float_accuracy,
        artifact_accuracy=quality.artifact_accuracy,
        accuracy_drop=quality.accuracy_drop,
    )


def quality_missing(reasons: Sequence[str]) -> tuple[Missing, ...]:
    """``Quality.reasons`` (``field: why``) as the report's; ``accuracy`` stands for all three."""
    found = []
    for reason in reasons:
        field, _, why = reason.partition(": ")
        found += [Missing(f"quality.{name}", why) for name in _ACCURACY.get(field, (field,))]
    return tuple(found)


def ratio(before_bytes: int, after_bytes: int) -> float | None:
    """How many times smaller it became; None for an empty file."""
    return before_bytes / after_bytes if after_bytes > 0 else None


def _verdict(outcome: Outcome) -> VerdictSection:
    if outcome.trial_failure is not None:
        return VerdictSection(status="invalid", reasons=(f"trial: {outcome.trial_failure}",))
    if outcome.judged is not None:
        return outcome.judged
    if outcome.raw is None:
        return VerdictSection(status="inconclusive", reasons=("not-measured: nothing was run",))
    parity = [gate.passed for gate in outcome.gates if gate.name == "parity"]
    return verdict.judge(
        verdict.Evidence(
            raw=outcome.raw,
            protocol=outcome.protocol,
            parity_passed=all(parity) if parity else None,
            providers=outcome.providers,
        )
    )


def _quality_missing(quality: QualitySection | None) -> Iterator[Missing]:
    if quality is None:
        return
    no_labels = "no labelled data: give some with --evaluate PATH"
    reasons = {
        "sqnr_db": "no finite value: the answers are the same, or the float model's are all 0",
        "cosine": "no finite value: the answers are all 0",
        "top1_agreement": "the outputs are not the scores of classes",
        "float_accuracy": no_labels,
        "artifact_accuracy": no_labels,
        "accuracy_drop": no_labels,
    }
    for field, reason in reasons.items():
        if getattr(quality, field) is None:
            yield Missing(f"quality.{field}", reason)


def _gates_missing(gates: tuple[Gate, ...]) -> Iterator[Missing]:
    for gate in gates:
        if gate.value is None:
            yield Missing(
                f"gates.{gate.name}", "the figure is not known, so the gate is not passed"
            )


def _method(protocol: RunProtocol | None) -> power.Method:
    if protocol is None:
        return power.Method()
    return power.Method(windows=protocol.energy_windows, window_s=protocol.energy_window_seconds)


def _measuring_warnings(
    raw: Raw | None, energy: PowerSection | None, protocol: RunProtocol
) -> Iterator[str]:
    if raw is None:
        return
    yield from raw.refused
    yield from raw.measured.notes
    yield from conditions.limited(raw)
    yield from _heat_warnings(raw)
    if raw.measured.meter is not None and raw.measured.meter.reason:
        yield f"--meter says nothing of this run: {raw.measured.meter.reason}"
    seconds = sum(end - start for start, end in raw.windows_ns) / power.NS_PER_S
    # Five windows of 10 s: the least for energy figures that are to be compared.
    good_s = protocol.energy_windows * protocol.energy_window_seconds
    if energy is not None and energy.energy_mj is not None and seconds < good_s:
        yield (
            f"energy rests on {seconds:.0f} s;"
            f" for figures to compare measure {good_s:.0f} s: --duration {good_s:.0f}"
        )


def _heat_warnings(raw: Raw) -> Iterator[str]:
    """What is worth knowing and does not count against the run."""
    if old := conditions.old_flags(raw):
        mend = ": its power supply or cable is too weak" if "under-voltage" in old else ""
        yield f"before this run, since the device was started: {', '.join(old)}{mend}"
    rise_c = conditions.rise_c(raw)
    if rise_c is not None and rise_c >= verdict.MAX_RISE_C:
        yield (
            f"the device became {rise_c:.0f} °C warmer over the run;"
            " a longer one (--duration) shows whether it slows down"
        )
