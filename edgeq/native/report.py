"""The report of a device whose own program ran the model."""

from dataclasses import dataclass

from edgeq.core import gates, summary
from edgeq.core.machine import Facts
from edgeq.core.parity import Parity
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
from edgeq.errors import TrialError
from edgeq.native import delegates, figures, judge, program
from edgeq.native.measure import Measured
from edgeq.native.program import Ready
from edgeq.package import ProvedBundle

_STEPS = ("load", "quantize", "verify", "provision", "push", "run", "total")
_MEASURED = ("latency", "memory", "power", "thermal")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """A release tried out.

    Attributes:
        compared: Host against phone, why that could not be, or None where it did not come to it.
        failure: How the model failed.
    """

    ready: Ready
    sent_bytes: int
    flags: tuple[str, ...]
    threads: int
    compared: Parity | str | None = None
    measured: Measured | None = None
    failure: TrialError | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """All that a report tells. ``tried``: None when nothing was sent."""

    run_id: str
    created: str
    device: str
    profile: NamedProfile
    protocol: RunProtocol
    budgets: Budgets
    facts: Facts
    proved: ProvedBundle
    tried: Tried | None
    seconds: dict[str, float]


def write(told: Description) -> Report:
    """Put the report together."""
    tried, proved = told.tried, told.proved
    measured = tried.measured if tried else None
    failure = tried.failure.message if tried and tried.failure else None
    found = figures.reckon(measured) if measured else None
    return summary.summarise(
        summary.Outcome(
            run_id=told.run_id,
            created=told.created,
            device=summary.device_section(told.device, told.profile, told.facts, None),
            model=proved.model,
            artifact=proved.artifact,
            search=proved.search,
            quality=proved.quality,
            parity=_parity(tried),
            raw=None,
            runtime=_runtime(tried),
            budgets=told.budgets if measured else Budgets(),
            protocol=told.protocol,
            gates=proved.gates + _gates(tried),
            transfer=_transfer(told),
            timings=TimingsSection(**{step: told.seconds.get(step) for step in _STEPS}),
            warnings=(*proved.warnings, *_warnings(told)),
            missing=(*proved.missing, *_missing(tried, failure)),
            trial_failure=failure,
            figures=found,
            judged=judge.judge(measured, told.protocol, tried.compared or "", tried.flags)
            if tried and measured
            else None,
            benchmark=figures.benchmark(
                measured, tried.ready.shown, tried.ready.sha256, tried.flags
            )
            if tried and measured
            else None,
        )
    )


def _parity(tried: Tried | None) -> ParitySection | None:
    found = tried.compared if tried else None
    if not isinstance(found, Parity):
        return None
    return ParitySection(
        samples=found.samples, max_abs_diff=found.max_abs_diff, identical=found.identical
    )


def _gates(tried: Tried | None) -> tuple[Gate, ...]:
    found = []
    if tried and isinstance(tried.compared, Parity):
        compared = tried.compared
        found.append(gates.parity_gate(max_abs_diff=compared.max_abs_diff, limit=compared.limit))
    if tried and tried.failure:
        found.append(gates.trial_gate(failures=1))
    return tuple(found)


def _missing(tried: Tried | None, failure: str | None) -> list[Missing]:
    found = []
    if tried and isinstance(tried.compared, str):
        found.append(Missing("parity", tried.compared))
    if tried is None or tried.measured is None:
        reason = failure or "it was not run: a gate failed before"
        found += [Missing(part, reason) for part in _MEASURED]
    return found


def _runtime(tried: Tried | None) -> RuntimeSection | None:
    if tried is None:
        return None
    processes = tried.measured.processes if tried.measured else ()
    names = [delegates.used(one.told) for one in processes]
    versions = [program.version(one.text) for one in processes]
    return RuntimeSection(
        name=program.NAME,
        version=next(filter(None, versions), None),
        threads=tried.threads,
        delegate="; ".join(dict.fromkeys(filter(None, names))) or None,
    )


def _warnings(told: Description) -> list[str]:
    found = []
    cores = told.facts.cores
    if told.tried and cores and told.tried.threads > cores:
        found.append(f"{told.tried.threads} threads on {cores} cores wait for each other")
    if told.tried and told.tried.measured:
        unknown = {flag for one in told.tried.measured.processes for flag in one.log.unconsumed}
        found += [f"this build of benchmark_model does not know {one}" for one in sorted(unknown)]
        if told.budgets.latency_p90_ms is not None:
            found.append("p95, which p90 does not exceed, stands for it in the budget")
    return found


def _transfer(told: Description) -> TransferSection | None:
    if told.tried is None:
        return None
    ready = told.tried.ready
    release_bytes = sum(map(len, told.proved.bundle.contents.values()))
    return TransferSection(
        bytes_sent=ready.sent_bytes + told.tried.sent_bytes,
        bytes_total=ready.total_bytes + release_bytes,
        seconds=told.seconds.get("provision", 0.0) + told.seconds.get("push", 0.0),
    )
