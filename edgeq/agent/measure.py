"""The supervisor's side of ``Measure``: children one by one, and what the machine did meanwhile."""

from __future__ import annotations

import math
import time
import typing
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq import wire
from edgeq.agent import affinity, cpufreq, meters, pinning, thermal, throttle
from edgeq.agent.children import Answer
from edgeq.agent.cooling import Cooling
from edgeq.agent.ports import FailureError, Sensor
from edgeq.agent.sampler import Sampler
from edgeq.agent.talk import Talk
from edgeq.agent.watch import Watch

Ask = typing.Callable[[wire.Measure], Answer]
_XNNPACK_LINE = "Created TensorFlow Lite XNNPACK delegate for CPU"
_IDLE_STEP_S = 0.5


@dataclass(frozen=True)
class _Children:
    """What the processes brought."""

    runs: tuple[wire.ProcessRun, ...]
    spans: tuple[wire.Span, ...]
    payload: bytes


@dataclass(frozen=True)
class Place:
    """``machine``: "/" but for recorded trees. ``folder``: the agent's own."""

    machine: Path
    folder: Path


def measure(
    request: wire.Measure, ask: Ask, talk: Talk, place: Place
) -> tuple[wire.Measured, bytes]:
    """Carry out a ``Measure`` whose paths are absolute; the payload belongs to the message.

    Raises:
        FailureError: a child failed, see ``children.ask``; wish, for what this device cannot do.
        HostGoneError: the host hung up.
    """
    if request.processes < 1 or request.runs < 1:
        raise FailureError("refused", "measuring takes at least one process and one run")
    affinity.check(request.cpus, place.machine)
    cooling = Cooling(request.cool_to_c, request.cool_limit_s, talk, place.machine)
    cooling.before_run()
    with affinity.beside(request.cpus), pinning.held(
        request.pin_mhz, request.cpus, place.folder, place.machine
    ) as pinned:
        measured, payload = _sampled(request, ask, talk, place.machine, cooling)
        policies = _policies(pinned, place.machine)
    cooled = cooling.result()
    missing = {**measured.missing, **({"cooling": cooling.reason} if cooling.reason else {})}
    return replace(
        measured,
        cooled=cooled,
        policies=policies,
        cpus=request.cpus,
        cores=_cores(request.cpus, place.machine),
        notes=(*measured.notes, *pinned.notes),
        missing=missing,
    ), payload


def _sampled(
    request: wire.Measure, ask: Ask, talk: Talk, root: Path, cooling: Cooling
) -> tuple[wire.Measured, bytes]:
    """The run, with everything that is read meanwhile."""
    sensors, missing = _sensors(root, request.sample_hz)
    flags = throttle.read(root)
    sampler = Sampler(sensors, request.sample_hz) if sensors else None
    idle = request.idle_always or any(_is_power(sensor) for sensor in sensors)
    idle_s = request.idle_s if idle else 0.0
    if sampler is not None:
        sampler.start()
    try:
        before = _idle("idle_before", idle_s, talk)
        watch = Watch(root, request.cpus)
        passing: set[str] = set()

        def between() -> None:
            passing.update(_now(throttle.read(root)))
            cooling.before_process()

        children = _run_children(request, ask, between, watch)
        last = throttle.read(root)
        clock_step_s = watch.clock_step_s()
        after = _idle("idle_after", idle_s, talk)
    finally:
        samples = () if sampler is None else sampler.stop()
    times, contention = watch.cpu_s(), watch.contention()
    missing.update(_unknown(sampler, flags, known=times is not None))
    return wire.Measured(
        payload_bytes=len(children.payload),
        processes=children.runs,
        spans=(*before, *children.spans, *after),
        channels=() if sampler is None else tuple(sensor.channel for sensor in sampler.sensors),
        samples=samples,
        throttle_before=flags.words,
        throttle_after=None if last.words is None else (*last.words, *sorted(passing)),
        cpu_busy_s=times[0] if times else None,
        cpu_total_s=times[1] if times else None,
        cpu_child_s=watch.child_s(),
        contenders=contention.names,
        clock_step_s=clock_step_s,
        sampler_cpu_s=0.0 if sampler is None else sampler.cpu_s,
        missing=missing,
        contention=contention,
    ), children.payload


def _cores(cpus: tuple[int, ...], root: Path) -> tuple[str, ...]:
    kinds = cpufreq.cores(root)
    chosen = (kind for cpu, kind in sorted(kinds.items()) if not cpus or cpu in cpus)
    return tuple(dict.fromkeys(chosen))


def _now(flags: throttle.Flags) -> typing.Iterator[str]:
    """Those that stand at this moment and leave no trace."""
    yield from (word for word in flags.words or () if not word.startswith("occurred:"))


def _policies(pinned: pinning.Pinned, root: Path) -> tuple[wire.Policy, ...]:
    found = cpufreq.policies(root)
    return tuple(replace(one, pinned=one.name in pinned.policies) for one in found)


def _sensors(root: Path, hz: float) -> tuple[list[Sensor], dict[str, str]]:
    """What can be sampled, and why the rest cannot."""
    if hz <= 0:
        return [], dict.fromkeys(
            ("power", "temperature", "frequency"), "not asked for: sample_hz 0"
        )
    missing: dict[str, str] = {}
    sensors: list[Sensor] = []
    for field, found in (
        ("power", meters.find(root)),
        ("temperature", thermal.temperatures(root)),
        ("frequency", thermal.frequencies(root)),
    ):
        sensors += found.sensors
        if found.reason:
            missing[field] = found.reason
    return sensors, missing


def _unknown(sampler: Sampler | None, flags: throttle.Flags, *, known: bool) -> dict[str, str]:
    """Why a field is None, beyond what was known before the run."""
    lost = () if sampler is None else sampler.lost
    reasons = {sensor.channel.source: "its file does not open" for sensor in lost}
    if flags.words is None:
        reasons["throttle"] = flags.reason
    if not known:
        reasons["cpu"] = "/proc/stat cannot be read"
    return reasons


def _run_children(
    request: wire.Measure, ask: Ask, between: typing.Callable[[], None], watch: Watch
) -> _Children:
    """Each fresh process has its share of the runs and seconds; ``between`` comes before each."""
    share = replace(
        request,
        processes=1,
        runs=math.ceil(request.runs / request.processes),
        seconds=request.seconds / request.processes,
    )
    runs, spans, payloads = [], [], []
    for number in range(request.processes):
        between()
        watch.begin()
        answer = ask(share)
        watch.end()
        if not isinstance(answer.message, wire.Measured):
            raise FailureError("internal", f"the model's process answered {answer.message!r}")
        (run,) = answer.message.processes
        if number < request.processes - 1:
            run = replace(run, pss_bytes=None)  # those that wait share its libraries
        runs.append(replace(run, delegate=_delegate(request.runtime, run, answer.stderr)))
        spans += [replace(span, process=number) for span in answer.message.spans]
        payloads.append(answer.payload)
    return _Children(tuple(runs), tuple(spans), b"".join(payloads))


def _delegate(runtime: wire.Runtime, run: wire.ProcessRun, stderr: str) -> str:
    """Who ran the model, in a word."""
    if run.placements:
        return "+".join(one.provider for one in run.placements)
    if runtime.kind == "onnxruntime":
        return "CPU"
    return "XNNPACK" if _XNNPACK_LINE in stderr else "none"


def _idle(phase: str, seconds: float, talk: Talk) -> tuple[wire.Span, ...]:
    """Do nothing, for the meters' sake."""
    if seconds <= 0:
        return ()
    start_ns = time.monotonic_ns()
    end_s = time.monotonic() + seconds
    while True:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return (wire.Span(phase, start_ns, time.monotonic_ns()),)
        talk.send(wire.Progress("idle", int(1000 * (seconds - left_s)), int(1000 * seconds)))
        talk.wait(min(_IDLE_STEP_S, left_s))


def _is_power(sensor: Sensor) -> bool:
    return sensor.channel.quantity in {"power_w", "energy_j"}
