"""The whole flow: a model in, a measured and committed release on a device out.

While the model converts, the host fetches what the device lacks. Nothing is sent before the model
has passed its quality gates, and nothing on the device is switched before the release has proved
itself there.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

from edgeq import examination, metering, provision, wheels
from edgeq.archive import agent_archive, examine_script
from edgeq.contest import decide
from edgeq.core import gates
from edgeq.core import raw as samples
from edgeq.core.bundle import Bundle
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile, RunProtocol
from edgeq.core.report import Gate, Report, dump
from edgeq.errors import EdgeqError, GateError
from edgeq.outcome import Description, Found, Station, write_report
from edgeq.places import Places
from edgeq.ports import Link, OnProgress, PowerMeter, Store, Transport
from edgeq.prepare import PrepareJob, prepare
from edgeq.provision import Ready, RuntimePlan
from edgeq.runtimes import RuntimeStore
from edgeq.session import Session, open_session
from edgeq.stopwatch import Stopwatch
from edgeq.trial import UNCHANGED, Conditions, Load, Trial, try_out

WorkT = TypeVar("WorkT")
_HINTS = {
    "accuracy_drop": "better calibration samples, another --precision, or a larger --max-drop",
    "top1_agreement": "better calibration samples, another --precision, or a smaller"
    " --min-agreement",
    "sqnr_db": "better calibration samples, another --precision, or a smaller --min-sqnr",
    "latency_p90_ms": "more --threads, another --precision, or a larger --budget",
    "peak_memory_mib": "a smaller model, or a larger --budget",
    "energy_mj": "another --precision, or a larger --budget",
    "artifact_mib": "a smaller --precision, or a larger --budget",
    "parity": "its runtime computes something else: another --precision or --format, or another"
    " runtime first in the profile's [runtime] kinds",
}

Lines = Callable[[str], OnProgress]
"""Progress of one line of work: ``model`` or ``device``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployJob:
    """What to deploy, where to, and how to measure it.

    Attributes:
        protocol: The profile's, with what the user wished instead.
        threads: None: the profile's.
        benchmark_model: That program, where it is the runtime; None: the device's or the profile's.
    """

    prepare: PrepareJob
    device: Device
    profile: NamedProfile
    protocol: RunProtocol
    threads: int | None = None
    conditions: Conditions = UNCHANGED
    benchmark_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The world, as far as a deploy needs it.

    Attributes:
        profiles: All that are known, to say which would fit.
        holder: Who deploys, for others who find the device busy.
        run_id: Of the report; sortable by time.
        created: UTC, ISO 8601.
        meter: At this machine; None: the device's own sensors.
    """

    transport: Transport
    store: Store
    places: Places
    profiles: Mapping[str, NamedProfile]
    holder: str
    run_id: str
    created: str
    meter: PowerMeter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The report, and why the release did not become active if it did not."""

    report: Report
    failure: EdgeqError | None


def deploy(job: DeployJob, tools: Tools, lines: Lines) -> Result:
    """Convert, prove, push, run, and commit or go back; the report is kept either way.

    Raises:
        EdgeqError: something failed that no report can tell of; what was active on the device is
            active still.
    """
    watch = Stopwatch()
    with (
        metering.started(tools.meter),
        contextlib.closing(tools.transport.connect(job.device)) as link,
    ):
        found = survey(link, job, tools, watch, lines)
        unfit = unmet(found.proved.gates)
        if unfit:
            report = write_report(_describe(job, tools, found, watch))
            return _keep(report, None, unfit, tools)
        agent = agent_archive()
        with _start_agent(link, job, found, agent, tools.holder, watch) as session:
            ready = _provide(session, job, found, watch, lines("device"))
            load = _load(job, ready)
            proved = decide(
                session, job.prepare, found.proved, load, tools.places, watch, lines("device")
            )
            found = replace(found, proved=proved)
            station = Station(
                ready=ready, agent_bytes=len(agent), agent_bytes_sent=session.agent_bytes_sent
            )
            trial, was_active = _try_out(session, found, load, watch, lines("device"), tools.meter)
            description = _describe(job, tools, found, watch, station, trial)
            report = write_report(description)
            failure = trial.failure or unmet(report.gates)
            _settle(session, found.proved.bundle, trial, failure, was_active=was_active)
    return _keep(report, trial, failure, tools)


def survey(link: Link, job: DeployJob, tools: Tools, watch: Stopwatch, lines: Lines) -> Found:
    """Examine the device, and prepare the model and the device's runtime; changes nothing there.

    Raises:
        PreflightError: the device is not what its profile says, or no runtime can be had for it.
        RejectedError: the model or its data cannot be used.
    """
    profile, where = job.profile.profile, job.device.name
    lines("device")("examine", 0, 0)
    hint = examination.python_hint(job.device, profile)
    script = examine_script(quick=True, only_this=job.device.transport == "local")
    facts = examination.examine(link, script, hint, where)
    known = {
        name: one.profile
        for name, one in tools.profiles.items()
        if one.profile.access.transport == job.device.transport
    }
    examination.check(profile, facts, where, known)
    runtimes = RuntimeStore(tools.places.cache / "wheels", wheels.fetch)
    lines("device")("choose runtime", 0, 0)
    python = job.device.python or profile.access.python

    def plan() -> RuntimePlan:
        chosen = provision.plan(profile, facts, runtimes, where, python, format_=job.prepare.format)
        lines("device")("choose runtime", 1, 1)
        return chosen

    planned = _beside(plan)
    proved = prepare(job.prepare, tools.places, watch, _unless_failed(planned, lines("model")))
    lines("model")("proved", 1, 1)
    return Found(facts=facts, plan=planned.result(), proved=proved, runtimes=runtimes)


def _start_agent(
    link: Link, job: DeployJob, found: Found, agent: bytes, holder: str, watch: Stopwatch
) -> Session:
    with watch.step("provision"):
        session = open_session(
            link,
            found.facts,
            python=found.plan.python.path,
            agent=agent,
            where=job.device.name,
        )
        try:
            session.lock(holder)
            if job.protocol.cpus or job.conditions.pin_mhz is not None:
                session.wish(job.protocol.cpus, job.conditions.pin_mhz)
        except BaseException:
            session.close()
            raise
    return session


def _provide(
    session: Session,
    job: DeployJob,
    found: Found,
    watch: Stopwatch,
    on_progress: OnProgress,
) -> Ready:
    """Give the device its runtime."""
    profile = job.profile.profile
    plan = replace(found.plan, threads=job.threads or found.plan.threads)
    with watch.step("provision"):
        return provision.ensure(session, plan, profile, found.facts, found.runtimes, on_progress)


def _load(job: DeployJob, ready: Ready) -> Load:
    return Load(
        runtime=ready.runtime,
        protocol=job.protocol,
        sample_hz=job.profile.profile.telemetry.sample_hz,
        conditions=job.conditions,
    )


def _try_out(
    session: Session,
    found: Found,
    load: Load,
    watch: Stopwatch,
    on_progress: OnProgress,
    meter: PowerMeter | None,
) -> tuple[Trial, bool]:
    """The trial, and whether the release was the active one before."""
    bundle = found.proved.bundle
    active = {one.current for one in session.releases(bundle.manifest.name)}
    was_active = bundle.release in active
    # Whatever breaks this off (Ctrl-C, the link): the agent drops what was not committed.
    return try_out(session, found.proved, load, watch, on_progress, meter), was_active


def _settle(
    session: Session,
    bundle: Bundle,
    trial: Trial,
    failure: EdgeqError | None,
    *,
    was_active: bool,
) -> None:
    """Commit, or go back.

    A release that was active before is given up only for a wrong answer or a crash, not because
    a budget was missed this time.
    """
    name = bundle.manifest.name
    if failure is None:
        session.commit(name, bundle.release)
    elif not was_active or trial.measurement is None:
        session.discard(name, bundle.release, failure.message)


def _describe(
    job: DeployJob,
    tools: Tools,
    found: Found,
    watch: Stopwatch,
    station: Station | None = None,
    trial: Trial | None = None,
) -> Description:
    return Description(
        run_id=tools.run_id,
        created=tools.created,
        device=job.device.name,
        profile=job.profile,
        protocol=job.protocol,
        budgets=job.prepare.budgets,
        found=found,
        station=station,
        trial=trial,
        seconds=dict(watch.seconds) | {"total": watch.total},
    )


def _keep(report: Report, trial: Trial | None, failure: EdgeqError | None, tools: Tools) -> Result:
    raw = b""
    if trial and trial.measurement:
        raw = samples.pack(trial.measurement.raw.measured, trial.measurement.payload)
    tools.store.save(report.run_id, dump(report), raw)
    return Result(report=report, failure=failure)


def unmet(gates_: Sequence[Gate]) -> GateError | None:
    """The error of the gates that did not pass; None when all did."""
    failures = gates.failures(gates_)
    if not failures:
        return None
    names = [gate.name for gate in gates_ if not gate.passed]
    return GateError(f"a gate failed: {'; '.join(failures)}", hint=_HINTS.get(names[0], ""))


def _beside(work: Callable[[], WorkT]) -> "Future[WorkT]":
    """Start work in a thread that does not hold up the program's end."""
    future: Future[WorkT] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _unless_failed(other: "Future[WorkT]", on_progress: OnProgress) -> OnProgress:
    """Progress that stops this line of work when the other one has failed."""

    def report(phase: str, done: int, total: int) -> None:
        if other.done():
            other.result()
        on_progress(phase, done, total)

    return report
