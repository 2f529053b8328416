"""Whether the figures of a run can be trusted, and why not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq import wire
from edgeq.core import telemetry
from edgeq.core.profile import RunProtocol
from edgeq.core.raw import Raw
from edgeq.core.report import Status, VerdictSection

CPU = "CPU"
# MLPerf LoadGen's early stopping: a bounded 90th percentile takes 64 runs at least.
MIN_RUNS = 64
# A device that becomes slower by a tenth while it is measured has no one latency
# (MegaDetector#34: 196 ms cold, 400 ms hot).
MAX_DRIFT = 0.10
# Block medians of a quiet device lie within a few percent; a quarter hides what is worth knowing.
MAX_SPREAD = 0.25
MIN_BLOCKS_FOR_DRIFT = 6
# Fresh processes on quiet machines differed by 1.5-14 % (docs/measuring.md).
MAX_PROCESS_SPREAD = 0.15
# MLPerf Power: clocks agree within 500 ms.
MAX_CLOCK_STEP_S = 0.5
# A tenth of all cores at work for others takes as much from a single-core device's latency.
MAX_OTHERS_SHARE = 0.10
# The project's own promise: the sampler costs less than 1 % of one core.
MAX_SAMPLER_SHARE = 0.01
# Two clock reads cost 70-90 ns; under 100 times that they are more than 1 % of what is measured.
MIN_P50_NS = 9_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        parity_passed: None when there was nothing to compare.
        providers: ONNX Runtime's execution providers that were asked for, in order; those of
            another runtime are not chosen.
    """

    raw: Raw
    protocol: RunProtocol
    parity_passed: bool | None = None
    providers: tuple[str, ...] = ()


Rule = Callable[[Evidence], Iterator[str]]


def judge(evidence: Evidence) -> VerdictSection:
    """``invalid`` when a figure is wrong, ``inconclusive`` when it may be, else ``valid``."""
    wrong = [reason for rule in INVALID for reason in rule(evidence)]
    doubtful = [reason for rule in INCONCLUSIVE for reason in rule(evidence)]
    status: Status = "invalid" if wrong else "inconclusive" if doubtful else "valid"
    return VerdictSection(status=status, reasons=(*wrong, *doubtful))


def _throttled(evidence: Evidence) -> Iterator[str]:
    if telemetry.throttled(evidence.raw):
        flags = ", ".join(telemetry.throttle_flags(evidence.raw))
        yield f"throttled: the device held its clock back or lacked power ({flags})"


def _fallback(evidence: Evidence) -> Iterator[str]:
    wanted = tuple(provider for provider in evidence.providers if provider != CPU)
    if wanted:
        found = (_missed(wanted, process.facts) for process in evidence.raw.processes)
        yield from (f"fallback: {words}" for words in dict.fromkeys(filter(None, found)))
        return
    used = {process.facts.delegate or "cpu" for process in evidence.raw.processes}
    if len(used) > 1:
        yield f"fallback: the processes ran on different delegates ({', '.join(sorted(used))})"


def _missed(wanted: Sequence[str], run: wire.ProcessRun) -> str:
    """How a process went past the providers that were asked for; empty when it did not.

    The first of them must run nodes, and none may run where nobody asked for it.
    """
    nodes = {placed.provider: placed.nodes for placed in run.placements}
    total = sum(nodes.values())
    if not total:
        return f"{wanted[0]} was asked for, what ran is not known"
    others = [name for name, count in nodes.items() if count and name not in wanted]
    if nodes.get(wanted[0]) and not others:
        return ""
    shares = [f"{name} ran {nodes[name]} of {total} nodes" for name in others or nodes]
    return f"{wanted[0]} was asked for, {', '.join(shares)}"


def _parity(evidence: Evidence) -> Iterator[str]:
    if evidence.parity_passed is False:
        yield "parity: the device's answers differ from the host's"


def _too_few(evidence: Evidence) -> Iterator[str]:
    runs = sum(len(process.measured_ns) for process in evidence.raw.processes)
    if runs < MIN_RUNS:
        yield f"too-few-runs: {runs}; a bounded 90th percentile takes {MIN_RUNS}"
    elif runs < evidence.protocol.runs:
        yield f"too-few-runs: {runs} of the {evidence.protocol.runs} that were asked for"
    asked = evidence.protocol.processes
    if len(evidence.raw.processes) < asked:
        yield f"too-few-runs: {len(evidence.raw.processes)} of {asked} processes"


def _warmup(evidence: Evidence) -> Iterator[str]:
    unstable = sum(not process.facts.warmup_stable for process in evidence.raw.processes)
    if unstable:
        count = len(evidence.raw.processes)
        yield f"warm-up: latency had not settled in {unstable} of {count} processes"


def _drift(evidence: Evidence) -> Iterator[str]:
    drifts = []
    for process in evidence.raw.processes:
        medians = telemetry.block_medians_ms(process)
        if len(medians) >= MIN_BLOCKS_FOR_DRIFT:
            third = len(medians) // 3
            drifts.append(float(np.median(medians[-third:]) / np.median(medians[:third])) - 1)
    worst = max(drifts, key=abs, default=0.0)
    if abs(worst) > MAX_DRIFT:
        word = "slower" if worst > 0 else "faster"
        yield f"unstable: a process became {abs(worst):.0%} {word} while it was measured"


def _spread(evidence: Evidence) -> Iterator[str]:
    spreads = []
    for process in evidence.raw.processes:
        medians = telemetry.block_medians_ms(process)
        if len(medians) >= MIN_BLOCKS_FOR_DRIFT:
            low, middle, high = np.percentile(medians, [10, 50, 90])
            spreads.append(float((high - low) / middle))
    if spreads and max(spreads) > MAX_SPREAD:
        yield f"unstable: latency swings by {max(spreads):.0%} within a process"


def _process_spread(evidence: Evidence) -> Iterator[str]:
    medians = [float(np.median(process.measured_ns)) for process in evidence.raw.processes]
    spread = (max(medians) - min(medians)) / float(np.median(medians))
    if spread > MAX_PROCESS_SPREAD:
        yield f"unstable: p50 differs by {spread:.0%} between processes"


def _clock(evidence: Evidence) -> Iterator[str]:
    step_s = evidence.raw.measured.clock_step_s
    if abs(step_s) > MAX_CLOCK_STEP_S:
        yield f"clock-moved: the device's clock was set by {step_s:+.1f} s during the run"


def _contended(evidence: Evidence) -> Iterator[str]:
    measured = evidence.raw.measured
    busy, total, child = measured.cpu_busy_s, measured.cpu_total_s, measured.cpu_child_s
    if busy is None or not total or child is None:
        return
    share = (busy - child - measured.sampler_cpu_s) / total
    if share > MAX_OTHERS_SHARE:
        names = f" ({', '.join(measured.contenders[:3])})" if measured.contenders else ""
        yield f"cpu-contended: other programs took {share:.0%} of the device's CPU time{names}"


def _sampler(evidence: Evidence) -> Iterator[str]:
    times = [column.times_ns for column in evidence.raw.columns if len(column.times_ns)]
    if not times:
        return
    seconds = float(max(t[-1] for t in times) - min(t[0] for t in times)) / 1e9
    if seconds > 0 and evidence.raw.measured.sampler_cpu_s / seconds > MAX_SAMPLER_SHARE:
        share = evidence.raw.measured.sampler_cpu_s / seconds
        yield f"sampler: reading the sensors took {share:.1%} of a core"


def _timer(evidence: Evidence) -> Iterator[str]:
    runs = np.concatenate([process.measured_ns for process in evidence.raw.processes])
    p50_ns = float(np.median(runs))
    if p50_ns < MIN_P50_NS:
        yield f"timer: an inference of {p50_ns / 1000:.1f} us is short for the device's clock"


INVALID: tuple[Rule, ...] = (_throttled, _fallback, _parity)
INCONCLUSIVE: tuple[Rule, ...] = (
    _too_few,
    _warmup,
    _drift,
    _spread,
    _process_spread,
    _clock,
    _contended,
    _sampler,
    _timer,
)
