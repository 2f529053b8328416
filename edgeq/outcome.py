"""What a deploy found, and the report made of it."""

from dataclasses import dataclass

from edgeq import wire
from edgeq.core import conditions, cpulist, gates, summary
from edgeq.core.machine import Facts
from edgeq.core.profile import Budgets, NamedProfile, RunProtocol
from edgeq.core.report import (
    Gate,
    ParitySection,
    Report,
    RuntimeSection,
    TimingsSection,
    TransferSection,
)
from edgeq.core.telemetry import Missing
from edgeq.package import ProvedBundle
from edgeq.provision import Ready, RuntimePlan
from edgeq.runtimes import RuntimeStore
from edgeq.trial import Trial

_STEPS = ("load", "quantize", "verify", "provision", "push", "run", "total")
_MEASURED = ("latency", "memory", "power", "thermal")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A device that is what its profile says, the runtime it will get, and the bundle for it."""

    facts: Facts
    plan: RuntimePlan
    proved: ProvedBundle
    runtimes: RuntimeStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """A device that is ready to run the model."""

    ready: Ready
    agent_bytes: int
    agent_bytes_sent: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """All that a report tells.

    Attributes:
        station: None when nothing was sent.
        trial: Likewise.
        seconds: Of each step, by its name in the report.
    """

    run_id: str
    created: str
    device: str
    profile: NamedProfile
    protocol: RunProtocol
    budgets: Budgets
    found: Found
    station: Station | None
    trial: Trial | None
    seconds: dict[str, float]


def write_report(told: Description) -> Report:
    """Put the report together."""
    found, trial = told.found, told.trial
    failure = trial.failure.message if trial and trial.failure else None
    reason = failure or "it was not run: a gate failed before"
    measured = trial.measurement if trial else None
    return summary.summarise(
        summary.Outcome(
            run_id=told.run_id,
            created=told.created,
            device=summary.device_section(
                told.device, told.profile, found.facts, found.plan.python
            ),
            model=found.proved.model,
            artifact=found.proved.artifact,
            search=found.proved.search,
            quality=found.proved.quality,
            parity=_parity(trial),
            raw=measured.raw if measured else None,
            runtime=_runtime(told),
            budgets=told.budgets if measured else Budgets(),
            protocol=told.protocol,
            gates=found.proved.gates + _trial_gates(trial),
            transfer=_transfer(told),
            timings=TimingsSection(**{step: told.seconds.get(step) for step in _STEPS}),
            warnings=(*found.proved.warnings, *_thread_warnings(told), *_provider_warnings(told)),
            providers=_providers(told),
            missing=(
                *found.proved.missing,
                *(Missing(part, reason) for part in _MEASURED if not measured),
            ),
            trial_failure=failure,
        )
    )


def _thread_warnings(told: Description) -> tuple[str, ...]:
    cores = told.found.facts.cores
    threads = told.station.ready.runtime.threads if told.station else 0
    if cores and threads > cores:
        return (f"{threads} threads on {cores} cores wait for each other",)
    return ()


def _providers(told: Description) -> tuple[str, ...]:
    return told.station.ready.runtime.providers if told.station else ()


def _provider_warnings(told: Description) -> tuple[str, ...]:
    """Providers that were asked for and that this build of ONNX Runtime has not."""
    if told.station is None:
        return ()
    ready = told.station.ready
    lacking = [name for name in ready.runtime.providers if name not in ready.probed.providers]
    if not lacking:
        return ()
    has = ", ".join(ready.probed.providers)
    mend = "; install a build that has it there, such as onnxruntime-gpu for TensorRT and CUDA"
    return (f"{ready.choice} has no {', '.join(lacking)}, but {has}{mend}",)


def _parity(trial: Trial | None) -> ParitySection | None:
    if trial is None or trial.parity is None:
        return None
    found = trial.parity
    return ParitySection(
        samples=found.samples, max_abs_diff=found.max_abs_diff, identical=found.identical
    )


def _trial_gates(trial: Trial | None) -> tuple[Gate, ...]:
    found = []
    if trial and trial.parity:
        compared = trial.parity
        found.append(gates.parity_gate(max_abs_diff=compared.max_abs_diff, limit=compared.limit))
    if trial and trial.failure:
        found.append(gates.trial_gate(failures=1))
    return tuple(found)


def _runtime(told: Description) -> RuntimeSection | None:
    if told.station is None:
        return None
    ready = told.station.ready
    measured = told.trial.measurement if told.trial else None
    runs = measured.raw.measured.processes if measured else ()
    cpus = measured.raw.measured.cpus if measured else ()
    return RuntimeSection(
        name=ready.probed.name,
        version=ready.probed.version or None,
        threads=ready.runtime.threads,
        delegate="; ".join(dict.fromkeys(filter(None, map(_delegate, runs)))) or None,
        cpus=cpulist.listed(cpus) or None,
        cores=conditions.core_types(measured.raw) if measured else None,
    )


def _delegate(run: wire.ProcessRun) -> str:
    """Who ran the model; with the share of each where it was more than one."""
    if len(run.placements) <= 1:
        return run.delegate
    return ", ".join(f"{placed.provider} {placed.nodes} nodes" for placed in run.placements)


def _transfer(told: Description) -> TransferSection | None:
    if told.station is None or told.trial is None:
        return None
    station, found = told.station, told.found
    package = station.ready.choice.package
    runtime_bytes = found.runtimes.parcel(package).stat().st_size if package else 0
    release_bytes = sum(map(len, found.proved.bundle.contents.values()))
    sent = (station.agent_bytes_sent, station.ready.bytes_sent, told.trial.bytes_sent)
    return TransferSection(
        bytes_sent=sum(sent),
        bytes_total=station.agent_bytes + runtime_bytes + release_bytes,
        seconds=told.seconds.get("provision", 0.0) + told.seconds.get("push", 0.0),
    )
