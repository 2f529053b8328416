"""The measured runs on a phone: fresh processes, sensors beside them, then memory and ops."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgeq.core.profile import RunProtocol
from edgeq.core.report import OpTime
from edgeq.errors import TrialError
from edgeq.native import delegates, log, ops, program, run, sampler, sensors
from edgeq.native.delegates import Told
from edgeq.native.log import Log, LogError
from edgeq.native.phone import FOLDER
from edgeq.native.sampler import Readings, Sampler
from edgeq.native.sensors import Battery
from edgeq.ports import Link, OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process: what it printed, and what that says."""

    log: Log
    told: Told
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured.

    Attributes:
        memory: The run of its own for memory; None where the build gives none.
        battery: The gauge, or why its readings say nothing.
        spans_s: Idle times before and after, by the phone's clock.
        throttle: Android's thermal status before and after; None where it tells none.
    """

    processes: tuple[Process, ...]
    memory: Log | None
    ops: tuple[OpTime, ...]
    readings: Readings
    battery: Battery | str
    zones: dict[str, str]
    clocks: tuple[str, ...]
    spans_s: tuple[tuple[float, float], ...]
    throttle: tuple[str | None, str | None]


@dataclass(slots=True)
class _Idle:
    """Idle times, as they are taken."""

    spans_s: list[tuple[float, float]] = field(default_factory=list)

    def take(self, link: Link, seconds: float) -> None:
        start_s = _uptime(link)
        time.sleep(seconds)
        end_s = _uptime(link)
        if start_s is not None and end_s is not None:
            self.spans_s.append((start_s, end_s))


def measure(
    link: Link,
    argv: Sequence[str],
    protocol: RunProtocol,
    sample_hz: float,
    on_progress: OnProgress,
) -> Measured:
    """Run the program as the protocol asks.

    Args:
        link: The open connection.
        argv: The program with model, threads and delegate.
        protocol: How often and how long.
        sample_hz: Of the sensors; 0: none is read.
        on_progress: Hears of processes.

    Raises:
        TrialError: it crashed, hung, or its log makes no sense.
        LinkLostError: the connection broke.
    """
    seen = sampler.survey(link)
    battery = sensors.battery(seen, sampler.dumped_battery(link))
    zones, clocks = sensors.zones(seen), sensors.frequencies(seen)
    paths = (*(battery.paths if isinstance(battery, Battery) else ()), *zones, *clocks)
    before = sampler.thermal_status(link)
    limit_s = program.limit_s(protocol)
    idle = _Idle()
    with _sampled(link, paths if sample_hz else (), sample_hz) as readings:
        if isinstance(battery, Battery) and sample_hz:
            on_progress("idle", 0, 0)
            idle.take(link, protocol.idle_seconds)
        processes = []
        for number in range(protocol.processes):
            on_progress("measure", number, protocol.processes)
            words = [*argv, *program.measuring(protocol)]
            processes.append(_process(run.run(link, FOLDER, words, limit_s), run.program_of(argv)))
        if isinstance(battery, Battery) and sample_hz:
            idle.take(link, protocol.idle_seconds)
    after = sampler.thermal_status(link)
    on_progress("memory and ops", 0, 0)
    return Measured(
        processes=tuple(processes),
        memory=_memory(link, argv, limit_s),
        ops=_ops(link, argv, limit_s),
        readings=readings[0],
        battery=battery,
        zones=zones,
        clocks=clocks,
        spans_s=tuple(idle.spans_s),
        throttle=(before, after),
    )


@contextlib.contextmanager
def _sampled(link: Link, paths: Sequence[str], hertz: float) -> Iterator[list[Readings]]:
    """Read these files meanwhile; what was read stands in the list afterwards."""
    found: list[Readings] = []
    reader = Sampler(link, paths, 1 / hertz if hertz else 1)
    try:
        yield found
    finally:
        found.append(reader.stop())


def _process(ran: run.Ran, name: str) -> Process:
    run.require_success(ran, name)
    try:
        found = log.parse(ran.lines, ran.times_s)
    except LogError as error:
        raise TrialError(f"benchmark_model's log cannot be believed: {error}") from error
    if found.measured is None:
        raise TrialError(
            f"benchmark_model gave no latency: {run.told(ran.lines)[:300]}",
            hint="run it by hand there to see all that it says",
        )
    return Process(log=found, told=delegates.parse(ran.lines), text=ran.text)


def _memory(link: Link, argv: Sequence[str], limit_s: float) -> Log | None:
    """Peak memory, whose polling disturbs latency and so has a run of its own."""
    words = [*argv, *program.short(), "--report_peak_memory_footprint=true"]
    ran = run.run(link, FOLDER, words, limit_s)
    with contextlib.suppress(LogError):
        return log.parse(ran.lines) if ran.status == 0 else None
    return None


def _ops(link: Link, argv: Sequence[str], limit_s: float) -> tuple[OpTime, ...]:
    """Time by op, which disturbs latency too."""
    words = [*argv, *program.short(), "--enable_op_profiling=true"]
    ran = run.run(link, FOLDER, words, limit_s)
    return ops.parse(ran.lines) if ran.status == 0 else ()


def _uptime(link: Link) -> float | None:
    done = link.run(["cat", "/proc/uptime"])
    return sensors.number(done.stdout.decode("ascii", "replace").split(" ")[0])
