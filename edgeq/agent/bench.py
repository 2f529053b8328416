"""One process's latencies: load, first inference, warm-up until stable, then the run.

Only ``invoke`` is timed, not the copying of inputs and outputs. Times go into arrays made before
the first reading of memory; garbage collection is off; nothing else runs in this process between
two inferences but the clock.
"""

from __future__ import annotations

import array
import gc
import sys
import time
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent import memory, predict, tensors
from edgeq.agent.ports import Array, Runner, RuntimeModule

STABLE_WITHIN = 0.03
MOST_RUNS = 4_000_000  # 64 MB: a run of 10 s ends early only below 3 us per inference
_WINDOW_RUNS = 3
_WINDOW_NS = 50_000_000
_BLOCK_NS = 20_000_000
_PROGRESS_NS = 200_000_000
_CAPACITY = 1 << 16
_NS = 1_000_000_000

OnProgress = typing.Callable[[wire.Message], None]


@dataclass(frozen=True)
class _Footprint:
    peak_rss_bytes: int | None
    pss_bytes: int | None


def _footprint(root: Path) -> _Footprint:
    return _Footprint(memory.status_bytes("VmHWM", root), memory.pss_bytes(root))


@dataclass(frozen=True)
class _WarmUp:
    runs: int
    stable: bool
    median_ns: int


def run(
    request: wire.Measure, module: RuntimeModule, on_progress: OnProgress, root: Path
) -> tuple[wire.Measured, bytes]:
    """Measure; paths are absolute here, ``runs`` and ``seconds`` are this process's share.

    Raises:
        FailureError: runtime, missing, model, refused.
    """
    tensors.check(module, Path(request.model))
    predict.import_runtime(module)
    inputs = tensors.load_inputs(Path(request.inputs)) if request.inputs else None
    times = _Times(root)
    baseline_bytes = memory.status_bytes("VmRSS", root)
    load_start_ns = time.monotonic_ns()
    runner = tensors.start(module, Path(request.model), request.runtime, inputs, observe=True)
    load_ns = time.monotonic_ns() - load_start_ns
    with tensors.running():
        _feed(runner, inputs)
        first_start_ns = time.monotonic_ns()
        runner.invoke()
        first_ns = time.monotonic_ns() - first_start_ns
        placements = runner.placements()
        gc.collect()
        gc.disable()
        spans, warm_up = _timed_phases(runner, request, times, on_progress)
    footprint = times.footprint or _footprint(root)
    payload = times.payload()
    process = wire.ProcessRun(
        runs=times.count,
        warmup_runs=warm_up.runs,
        warmup_stable=warm_up.stable,
        load_ns=load_ns,
        first_ns=first_ns,
        baseline_rss_bytes=baseline_bytes,
        peak_rss_bytes=footprint.peak_rss_bytes,
        pss_bytes=footprint.pss_bytes,
        cpu_ns=time.process_time_ns(),
        placements=placements,
    )
    return wire.Measured(len(payload), (process,), spans), payload


def _feed(runner: Runner, inputs: typing.Sequence[Array] | None) -> None:
    """Set the first sample, or noise; it stays, since a run does not change its inputs."""
    if inputs is None:
        for position, value in enumerate(tensors.random_inputs(runner.inputs)):
            runner.set(position, value)
        return
    shapes = tensors.fitting_shapes(runner.inputs, inputs)
    for position, (samples, tensor, shape) in enumerate(zip(inputs, runner.inputs, shapes)):
        first = tensors.to_input(samples[:1], tensor)
        runner.set(position, first[0].reshape(shape))


def _timed_phases(
    runner: Runner, request: wire.Measure, times: _Times, on_progress: OnProgress
) -> tuple[tuple[wire.Span, ...], _WarmUp]:
    start_ns = time.monotonic_ns()
    warm_up = _warm_up(runner, request, times, on_progress)
    middle_ns = time.monotonic_ns()
    _run(runner, request, times, warm_up, on_progress)
    end_ns = time.monotonic_ns()
    return (
        wire.Span("warmup", start_ns, middle_ns, 0),
        wire.Span("run", middle_ns, end_ns, 0),
    ), warm_up


def _warm_up(
    runner: Runner, request: wire.Measure, times: _Times, on_progress: OnProgress
) -> _WarmUp:
    """Run until the medians of two windows in a row agree within 3 %, within the limits of time."""
    start_ns = time.monotonic_ns()
    least_ns, most_ns = int(request.warmup_s * _NS), int(request.warmup_max_s * _NS)
    before_ns, median_ns, stable = 0, 0, False
    while not stable or time.monotonic_ns() - start_ns < least_ns:
        window_start, window_ns = times.count, time.monotonic_ns()
        while (
            times.count - window_start < _WINDOW_RUNS
            or time.monotonic_ns() - window_ns < _WINDOW_NS
        ):
            times.take(runner.invoke, 1)
        median_ns = times.median_from(window_start)
        stable = abs(median_ns - before_ns) <= STABLE_WITHIN * before_ns
        before_ns = median_ns
        elapsed_ns = time.monotonic_ns() - start_ns
        on_progress(wire.Progress("warmup", elapsed_ns // 1_000_000, most_ns // 1_000_000))
        if elapsed_ns >= max(most_ns, least_ns) or times.count >= MOST_RUNS // 2:
            break
    return _WarmUp(times.count, stable, median_ns)


def _run(
    runner: Runner,
    request: wire.Measure,
    times: _Times,
    warm_up: _WarmUp,
    on_progress: OnProgress,
) -> None:
    """Run in blocks of about 20 ms; clock and progress are looked at between blocks only."""
    block = max(1, min(1000, _BLOCK_NS // max(1, warm_up.median_ns)))
    start_ns = told_ns = time.monotonic_ns()
    end_ns = start_ns + int(request.seconds * _NS)
    runs = max(1, request.runs)
    last = times.count + runs
    while True:
        now_ns = time.monotonic_ns()
        left = last - times.count
        if (left <= 0 and now_ns >= end_ns) or times.count >= MOST_RUNS:
            return
        if now_ns - told_ns > _PROGRESS_NS:
            told_ns = now_ns
            done = min((now_ns - start_ns) / max(1, end_ns - start_ns), 1 - max(0, left) / runs)
            on_progress(wire.Progress("run", int(1000 * done), 1000))
        times.take(runner.invoke, block if now_ns < end_ns else min(block, left))


class _Times:
    """Start times and latencies in nanoseconds; room for 65,536 runs is taken at once.

    ``footprint`` is taken when that is full, so that it is the model's memory and not this.
    """

    def __init__(self, root: Path) -> None:
        self.count = 0
        self.footprint: _Footprint | None = None
        self._root = root
        self._starts = array.array("q", bytes(8 * _CAPACITY))
        self._latencies = array.array("q", bytes(8 * _CAPACITY))

    def take(self, invoke: typing.Callable[[], None], runs: int) -> None:
        """Run and time ``runs`` inferences."""
        end = self.count + runs
        if end > _CAPACITY and self.footprint is None:
            self.footprint = _footprint(self._root)
        if end > len(self._starts):
            self._starts.extend(array.array("q", bytes(8 * _CAPACITY)))
            self._latencies.extend(array.array("q", bytes(8 * _CAPACITY)))
        starts, latencies, clock = self._starts, self._latencies, time.monotonic_ns
        for index in range(self.count, end):
            start = clock()
            invoke()
            latencies[index] = clock() - start
            starts[index] = start
        self.count = end

    def median_from(self, first: int) -> int:
        ordered = sorted(self._latencies[first : self.count])
        return ordered[len(ordered) // 2]

    def payload(self) -> bytes:
        """Little-endian, all starts before all latencies."""
        columns = (self._starts[: self.count], self._latencies[: self.count])
        if sys.byteorder == "big":
            for column in columns:
                column.byteswap()
        return b"".join(column.tobytes() for column in columns)
