"""A device's raw samples, checked: they are input from outside, and a device may lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq import wire
from edgeq.errors import AgentError

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

PHASES = frozenset({"idle_before", "warmup", "run", "idle_after"})
_DAY_NS = 86_400 * 10**9
_MOST = 1 << 62
_MOST_NAME = 200
_MOST_WORDS = 1000
_MOST_NOTES, _MOST_NOTE = 20, 4000
# One inference ends before the next begins. The slack covers the clock reads between the two.
_OVERLAP_SLACK = 0.01
_OVERLAP_SLACK_NS = 10_000

# What no small computer's sensor can truly show; beyond it the channel is refused (a sensor that is
# offline on a Jetson gives -256 degrees).
_BOUNDS = {
    "power_w": (-0.5, 10_000.0),  # a rail at rest may read a little less than nothing
    "current_a": (-100.0, 100.0),
    "voltage_v": (0.0, 1_000.0),
    "energy_j": (0.0, 1e12),
    "temperature_c": (-60.0, 200.0),
    "frequency_mhz": (0.0, 20_000.0),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Process:
    """One child. The first ``warmup_runs`` of the arrays are warm-up."""

    facts: wire.ProcessRun
    starts_ns: Integers
    latencies_ns: Integers

    @property
    def measured_ns(self) -> Integers:
        """Latencies without the warm-up, in the order they were taken."""
        return self.latencies_ns[self.facts.warmup_runs :]

    @property
    def window_ns(self) -> tuple[int, int]:
        """From the start of the first measured inference to the end of the last."""
        first = self.facts.warmup_runs
        return int(self.starts_ns[first]), int(self.starts_ns[-1] + self.latencies_ns[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """The samples of one channel that are there. Times in nanoseconds, rising."""

    channel: wire.Channel
    times_ns: Numbers
    values: Numbers

    def within(self, windows: tuple[tuple[float, float], ...]) -> Numbers:
        """Values sampled inside any of the windows."""
        inside = np.zeros(len(self.times_ns), dtype=bool)
        for start, end in windows:
            inside |= (self.times_ns >= start) & (self.times_ns <= end)
        return self.values[inside]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """Everything a device measured, fit to be reckoned with.

    Attributes:
        refused: Channels whose values cannot be, as sentences.
    """

    measured: wire.Measured
    processes: tuple[Process, ...]
    columns: tuple[Column, ...]
    refused: tuple[str, ...]

    @property
    def windows_ns(self) -> tuple[tuple[float, float], ...]:
        return tuple(process.window_ns for process in self.processes)

    def spans_ns(self, *phases: str) -> tuple[tuple[float, float], ...]:
        return tuple((s.start_ns, s.end_ns) for s in self.measured.spans if s.phase in phases)


def read(measured: wire.Measured, payload: bytes) -> Raw:
    """Check what a device sent and give it shape.

    Raises:
        AgentError: it cannot be true: sizes that do not fit, negative times, runs that overlap.
    """
    if not measured.processes:
        raise _nonsense("no process ran")
    for run in measured.processes:
        _check_process(run)
    total = sum(run.runs for run in measured.processes)
    if len(payload) != 16 * total:
        raise _nonsense(f"{len(payload)} bytes of raw samples for {total} runs")
    _check_spans(measured.spans)
    _check_scalars(measured)
    processes = _split(measured.processes, np.frombuffer(payload, dtype="<i8").astype(np.int64))
    for number, process in enumerate(processes):
        _check_times(process, number)
    columns, refused = _columns(measured)
    return Raw(measured=measured, processes=processes, columns=columns, refused=refused)


def pack(measured: wire.Measured, payload: bytes) -> bytes:
    """One run's raw samples as bytes for the store: the message's line, then the payload."""
    return wire.encode(measured) + payload


def unpack(data: bytes) -> Raw:
    """What ``pack`` gave, checked again.

    Raises:
        AgentError: it is damaged.
    """
    line, _, payload = data.partition(b"\n")
    try:
        message = wire.decode(line)
    except wire.WireError as error:
        raise _nonsense(str(error)) from error
    if not isinstance(message, wire.Measured):
        raise _nonsense(f"a {type(message).__name__} instead of samples")
    return read(message, payload)


def _check_process(run: wire.ProcessRun) -> None:
    if not 0 <= run.warmup_runs < run.runs:
        raise _nonsense(f"{run.runs} runs, {run.warmup_runs} of them warm-up")
    for what, value in (("load", run.load_ns), ("first inference", run.first_ns)):
        if not 0 < value < _DAY_NS:
            raise _nonsense(f"{what} in {value} ns")
    for amount in (run.baseline_rss_bytes, run.peak_rss_bytes, run.pss_bytes, run.cpu_ns):
        if amount is not None and not 0 <= amount < _MOST:
            raise _nonsense(f"memory or CPU time of {amount}")
    _check_delegate(run)


def _check_delegate(run: wire.ProcessRun) -> None:
    for placed in run.placements:
        if not 0 <= placed.nodes < _MOST:
            raise _nonsense(f"{placed.nodes} nodes on {placed.provider[:80]!r}")
    names = (run.delegate, *(placed.provider for placed in run.placements))
    if not all(len(name) <= _MOST_NAME and name.isprintable() for name in names):
        raise _nonsense(f"a delegate called {max(names, key=len)[:80]!r}")


def _check_spans(spans: tuple[wire.Span, ...]) -> None:
    for span in spans:
        if span.phase not in PHASES or not 0 <= span.start_ns <= span.end_ns:
            raise _nonsense(f"a span {span.phase!r} from {span.start_ns} to {span.end_ns} ns")


def _check_scalars(measured: wire.Measured) -> None:
    times = (
        measured.cpu_busy_s,
        measured.cpu_total_s,
        measured.cpu_child_s,
        measured.sampler_cpu_s,
    )
    for value in times:
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise _nonsense(f"{value} s of CPU time")
    if not math.isfinite(measured.clock_step_s):
        raise _nonsense(f"a clock step of {measured.clock_step_s} s")
    _check_conditions(measured)


def _check_conditions(measured: wire.Measured) -> None:
    """Whoever measured may also lie about what was around it."""
    cooled = measured.cooled
    if cooled is not None and not (
        math.isfinite(cooled.target_c) and math.isfinite(cooled.worst_c or 0.0)
    ):
        raise _nonsense("a temperature that is no number")
    for number in _condition_numbers(measured):
        if number is not None and not 0 <= number < _MOST:
            raise _nonsense(f"{number} where a frequency, a time or a CPU is due")
    words = [*measured.cores, *(measured.contention.names if measured.contention else ())]
    for policy in measured.policies:
        words += [policy.name, policy.governor, policy.driver, policy.core]
    if len(words) > _MOST_WORDS or any(len(word) > _MOST_NAME for word in words):
        raise _nonsense("names that are too long or too many")
    if len(measured.notes) > _MOST_NOTES or any(len(note) > _MOST_NOTE for note in measured.notes):
        raise _nonsense("notes that are too long or too many")


def _condition_numbers(measured: wire.Measured) -> Iterator[float | None]:
    """Those that cannot be negative."""
    yield from measured.cpus
    if measured.cooled is not None:
        yield measured.cooled.waited_s
    for policy in measured.policies:
        yield from (policy.min_mhz, policy.max_mhz, policy.base_mhz, *policy.cpus)
        yield from (policy.hardware_min_mhz, policy.hardware_max_mhz)
    if measured.contention is not None:
        found = measured.contention
        yield from (found.seconds, found.busy_s, found.total_s, found.stolen_s)
        yield from (found.stalled_s, found.swapped_bytes, *found.shares)


def _split(runs: tuple[wire.ProcessRun, ...], numbers: Integers) -> tuple[Process, ...]:
    processes = []
    offset = 0
    for run in runs:
        starts = numbers[offset : offset + run.runs]
        latencies = numbers[offset + run.runs : offset + 2 * run.runs]
        processes.append(Process(facts=run, starts_ns=starts, latencies_ns=latencies))
        offset += 2 * run.runs
    return tuple(processes)


def _check_times(process: Process, number: int) -> None:
    starts, latencies = process.starts_ns, process.latencies_ns
    if latencies.min() <= 0 or latencies.max() >= _DAY_NS:
        raise _nonsense(f"an inference of {latencies.min()} to {latencies.max()} ns")
    if starts.min() < 0 or starts.max() >= _MOST:
        raise _nonsense(f"process {number} has an inference that starts at {starts.min()} ns")
    slack = (latencies[:-1] * _OVERLAP_SLACK).astype(np.int64) + _OVERLAP_SLACK_NS
    if bool(np.any(starts[1:] + slack < starts[:-1] + latencies[:-1])):
        raise _nonsense(f"process {number} has inferences that overlap")


def _columns(measured: wire.Measured) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    width = 1 + len(measured.channels)
    if any(len(row) != width or row[0] is None for row in measured.samples):
        raise _nonsense(f"a row of samples that has not {width} values")
    table = np.array(
        [[math.nan if v is None else v for v in row] for row in measured.samples], dtype=np.float64
    ).reshape(len(measured.samples), width)
    times = table[:, 0]
    if not np.all(np.isfinite(times)) or bool(np.any(np.diff(times) < 0)):
        raise _nonsense("samples whose times do not rise")
    # A value that was sent as NaN is told from one that was not read.
    absent = np.array([[v is None for v in row] for row in measured.samples], dtype=bool).reshape(
        table.shape
    )
    columns, refused = [], []
    for index, channel in enumerate(measured.channels, 1):
        there = ~absent[:, index]
        values = table[there, index]
        if wrong := _wrong(channel, values):
            refused.append(f"{channel.source}: refused, {wrong}")
        else:
            columns.append(Column(channel=channel, times_ns=times[there], values=values))
    return tuple(columns), tuple(refused)


def _wrong(channel: wire.Channel, values: Numbers) -> str:
    """Why a channel cannot be true; empty when it can."""
    bounds = _BOUNDS.get(channel.quantity)
    if bounds is None:
        return f"{channel.quantity!r} is no quantity"
    impossible = ~((values >= bounds[0]) & (values <= bounds[1]))
    if bool(impossible.any()):
        return f"it gave {channel.quantity} = {values[impossible][0]:g}"
    if channel.quantity == "energy_j" and bool(np.any(np.diff(values) < 0)):
        return "its counter went backwards"
    return ""


def _nonsense(what: str) -> AgentError:
    return AgentError(
        f"the device sent figures that cannot be: {what}",
        hint="run it again; if it happens again, the agent on the device may be damaged",
    )
