"""A deploy to a device without Python: the same flow, with ``benchmark_model`` as the runtime.

Nothing is sent before the model has passed its quality gates, and the release becomes active only
after it has run there.
"""

import contextlib

from edgeq.core.machine import Facts
from edgeq.core.parity import Parity
from edgeq.core.report import dump
from edgeq.deploy import DeployJob, Lines, Result, Tools, unmet
from edgeq.errors import EdgeqError, ModelError, TrialError, UsageError
from edgeq.native import golden, measure, phone, program, report
from edgeq.native.depot import Depot
from edgeq.native.phone import FOLDER
from edgeq.native.program import Program
from edgeq.native.report import Tried
from edgeq.package import ProvedBundle
from edgeq.ports import Link, OnProgress
from edgeq.prepare import prepare
from edgeq.stopwatch import Stopwatch

_REPLAY_LIMIT_S = 120.0


def deploy(job: DeployJob, tools: Tools, lines: Lines) -> Result:
    """Convert, prove, push, run, and commit or go back; the report is kept either way.

    Raises:
        EdgeqError: something failed that no report can tell of; what was active on the device is
            active still.
    """
    watch, where = Stopwatch(), job.device.name
    program.require_possible(job)
    if tools.meter is not None:
        raise UsageError("--meter does not go with benchmark_model yet", hint="leave it out")
    binary = program.find(job.device, job.profile, job.benchmark_model)
    with contextlib.closing(tools.transport.connect(job.device)) as link:
        lines("device")("examine", 0, 0)
        facts = phone.examine(link, where)
        phone.check(job.profile.profile, facts, where)
        program.fits(binary, facts, where)
        depot = Depot(link, where)
        if binary.data is None:
            program.there(depot, binary, where)
        proved = prepare(job.prepare, tools.places, watch, lines("model"))
        lines("model")("proved", 1, 1)
        if unfit := unmet(proved.gates):
            return _keep(job, tools, facts, proved, None, watch, unfit)
        with depot.held(tools.holder):
            tried = _try_out(link, depot, job, binary, proved, watch, lines("device"))
            result = _keep(job, tools, facts, proved, tried, watch, tried.failure)
            _settle(depot, proved, result.failure)
    return result


def _try_out(
    link: Link,
    depot: Depot,
    job: DeployJob,
    binary: Program,
    proved: ProvedBundle,
    watch: Stopwatch,
    on_progress: OnProgress,
) -> Tried:
    """Install without switching, compare with the host, measure.

    A model that crashes, hangs or gives other answers is a finding, not an error.
    """
    bundle, threads = proved.bundle, job.threads or job.profile.profile.runtime.threads
    flags = program.flags(job.profile, threads)
    with watch.step("provision"):
        ready = program.bring(depot, binary, job.device.name, on_progress)
    with watch.step("push"):
        name = bundle.manifest.name
        sent = depot.install(name, bundle.release, bundle.contents, on_progress)
    model = f"{FOLDER}/models/{name}/releases/{bundle.release}/{bundle.manifest.model_file}"
    argv = [*program.prefix(job.protocol), ready.path, f"--graph={model}", *flags]
    compared: Parity | str | None = None
    measured, failure = None, None
    try:
        with watch.step("run"):
            limit_s = max(_REPLAY_LIMIT_S, job.protocol.timeout_seconds)
            compared = golden.compare(
                link, depot, argv, bundle, proved.expected, limit_s, on_progress
            )
            if _agrees(compared):
                hertz = job.profile.profile.telemetry.sample_hz
                measured = measure.measure(link, argv, job.protocol, hertz, on_progress)
    except (TrialError, ModelError) as error:
        failure = TrialError(error.message, hint=error.hint)
    return Tried(
        ready=ready,
        sent_bytes=sent,
        flags=flags,
        threads=threads,
        compared=compared,
        measured=measured,
        failure=failure,
    )


def _agrees(compared: Parity | str) -> bool:
    if isinstance(compared, str):  # it could not be compared, which the verdict says
        return True
    return compared.max_abs_diff is not None and compared.max_abs_diff <= compared.limit


def _keep(
    job: DeployJob,
    tools: Tools,
    facts: Facts,
    proved: ProvedBundle,
    tried: Tried | None,
    watch: Stopwatch,
    failure: EdgeqError | None,
) -> Result:
    told = report.Description(
        run_id=tools.run_id,
        created=tools.created,
        device=job.device.name,
        profile=job.profile,
        protocol=job.protocol,
        budgets=job.prepare.budgets,
        facts=facts,
        proved=proved,
        tried=tried,
        seconds=dict(watch.seconds) | {"total": watch.total},
    )
    written = report.write(told)
    tools.store.save(written.run_id, dump(written), b"")
    return Result(report=written, failure=failure or unmet(written.gates))


def _settle(depot: Depot, proved: ProvedBundle, failure: EdgeqError | None) -> None:
    """Commit, or take the release away again unless it was the active one before."""
    bundle = proved.bundle
    if failure is None:
        depot.commit(bundle.manifest.name, bundle.release)
    else:
        depot.discard(bundle.manifest.name, bundle.release)
