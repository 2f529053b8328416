"""Whether the figures of a run can be trusted, and why not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq import wire
from edgeq.core import conditions, cpulist, telemetry
from edgeq.core.profile import RunProtocol
from edgeq.core.raw import Raw
from edgeq.core.report import Status, VerdictSection

CPU = "CPU"
# What to do about each kind of throttling, by what is in its flags.
_THROTTLED = {
    "under-voltage, so its power supply or cable is too weak: use the one made for the board": (
        "under-voltage",
    ),
    "over-current, so it drew more than its supply or power mode allows": ("over-current",),
    "it was too warm, or capped: cool it, and measure after --cool-to": (
        "throttled",
        "frequency capped",
        "temperature limit",
        "capped it",
    ),
}
_KNOWN_KINDS = tuple(kind for kinds in _THROTTLED.values() for kind in kinds)
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
# What a hypervisor takes lengthens latencies as they are measured: a twentieth is more than noise.
MAX_STOLEN_SHARE = 0.05
# Of the time, programs waited for memory (PSI, "some"); and what was swapped meanwhile.
MAX_STALLED_SHARE = 0.05
MAX_SWAPPED_BYTES = 1 << 20
# A device that is warmer and slower at its end than at its beginning has not settled.
MAX_RISE_C = 5.0
MAX_HOT_SLOWDOWN = 0.05
# Under nine tenths of what it could hold while busy, the clock was held back.
MIN_CLOCK_SHARE = 0.9
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
    if not telemetry.throttled(evidence.raw):
        return
    flags = telemetry.throttle_flags(evidence.raw)
    for words, kinds in _THROTTLED.items():
        found = [flag for flag in flags if any(kind in flag for kind in kinds)]
        if found:
            yield f"throttled: {words} ({', '.join(found)})"
    rest = [flag for flag in flags if not any(kind in flag for kind in _KNOWN_KINDS)]
    if rest:
        yield f"throttled: the device held its clock back or lacked power ({', '.join(rest)})"


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


def _cooled(evidence: Evidence) -> Iterator[str]:
    measured = evidence.raw.measured
    cooled = measured.cooled
    if cooled is None or cooled.reached:
        return
    if cooled.worst_c is None:
        why = measured.missing.get("cooling", "the device has no temperature sensor")
        yield f"not-cooled: {why}, so it is not known whether it was at {cooled.target_c:g} °C"
        return
    yield (
        f"not-cooled: it began at {cooled.worst_c:.1f} °C after {cooled.waited_s:.0f} s of waiting,"
        f" {cooled.target_c:g} °C was asked for"
    )


def _heating(evidence: Evidence) -> Iterator[str]:
    rise_c, slower = conditions.rise_c(evidence.raw), conditions.slowdown(evidence.raw)
    if rise_c is not None and rise_c >= MAX_RISE_C and slower > MAX_HOT_SLOWDOWN:
        yield f"heating: it became {rise_c:.0f} °C warmer and {slower:.0%} slower over the run"


def _clocked(evidence: Evidence) -> Iterator[str]:
    """Where throttle flags tell of it, they have said so already."""
    clock = conditions.clock(evidence.raw)
    if clock is None or clock.share >= MIN_CLOCK_SHARE or telemetry.throttled(evidence.raw):
        return
    policy = clock.policy
    told = f"ran at {clock.ran_mhz:.0f} of {clock.limit_mhz:.0f} MHz"
    if policy.pinned:
        yield f"frequency: {told}, which it was pinned to: the firmware or the hardware holds it"
        return
    governor = f" (governor {policy.governor})" if policy.governor else ""
    yield f"frequency: {told}{governor}; --pin-frequency holds it at the highest"


def _contended(evidence: Evidence) -> Iterator[str]:
    measured = evidence.raw.measured
    found = measured.contention or wire.Contention(
        seconds=0.0,
        busy_s=measured.cpu_busy_s,
        total_s=measured.cpu_total_s,
        names=measured.contenders,
    )
    if found.busy_s is None or not found.total_s or measured.cpu_child_s is None:
        return
    stolen_s = found.stolen_s or 0.0
    # With CPUs of the run's own, the sampler is on the others.
    sampler_s = 0.0 if measured.cpus else measured.sampler_cpu_s
    others_s = found.busy_s - stolen_s - measured.cpu_child_s - sampler_s
    if others_s / found.total_s > MAX_OTHERS_SHARE:
        whose = f"CPU {cpulist.listed(measured.cpus)}'s" if measured.cpus else "the device's CPU"
        share = f"{others_s / found.total_s:.0%}"
        yield f"cpu-contended: other programs took {share} of {whose} time{_names(found)}"
    if found.busy_s > 0 and stolen_s / found.busy_s > MAX_STOLEN_SHARE:
        share = f"{stolen_s / found.busy_s:.0%}"
        yield f"cpu-contended: the hypervisor gave {share} of the CPU time in use to other machines"


def _names(found: wire.Contention) -> str:
    shares = [f" {share:.0%} of a core" for share in found.shares]
    shares += [""] * (len(found.names) - len(shares))
    named = [name + share for name, share in zip(found.names, shares, strict=False)]
    return f" ({', '.join(named[:3])})" if named else ""


def _memory(evidence: Evidence) -> Iterator[str]:
    found = evidence.raw.measured.contention
    if found is None or not found.seconds:
        return
    stalled = (found.stalled_s or 0.0) / found.seconds
    swapped = found.swapped_bytes or 0
    told = []
    if stalled > MAX_STALLED_SHARE:
        told.append(f"programs waited {stalled:.0%} of the time for memory")
    if swapped > MAX_SWAPPED_BYTES:
        told.append(f"{swapped / telemetry.BYTES_PER_MIB:.0f} MiB were swapped in and out")
    if told:
        yield f"memory-pressure: {', '.join(told)}"


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
    _memory,
    _cooled,
    _heating,
    _clocked,
    _sampler,
    _timer,
)
