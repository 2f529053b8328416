"""The supervisor's side of ``Measure``: children one by one, and what the machine did meanwhile."""

from __future__ import annotations

import math
import os
import time
import typing
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq import wire
from edgeq.agent import cpu, meters, thermal
from edgeq.agent.children import Answer
from edgeq.agent.ports import FailureError, Sensor
from edgeq.agent.sampler import Sampler
from edgeq.agent.talk import Talk

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
class _Load:
    """The machine around the run. Unknown is None."""

    busy_s: float | None
    total_s: float | None
    child_s: float
    contenders: tuple[str, ...]
    clock_step_s: float


def measure(request: wire.Measure, ask: Ask, talk: Talk, root: Path) -> tuple[wire.Measured, bytes]:
    """Carry out a ``Measure`` whose paths are absolute; the payload belongs to the message.

    Raises:
        FailureError: a child failed; see ``children.ask``.
        HostGoneError: the host hung up.
    """
    if request.processes < 1 or request.runs < 1:
        raise FailureError("refused", "measuring takes at least one process and one run")
    sensors, missing = _sensors(root, request.sample_hz)
    throttle_before = thermal.throttled(root)
    sampler = Sampler(sensors, request.sample_hz) if sensors else None
    idle_s = request.idle_s if any(_is_power(sensor) for sensor in sensors) else 0.0
    if sampler is not None:
        sampler.start()
    try:
        before = _idle("idle_before", idle_s, talk)
        watch = _Watch(root)
        children = _run_children(request, ask)
        load = watch.stop()
        after = _idle("idle_after", idle_s, talk)
    finally:
        samples = () if sampler is None else sampler.stop()
    missing.update(_unknown(sampler, throttle_before, load))
    return wire.Measured(
        payload_bytes=len(children.payload),
        processes=children.runs,
        spans=(*before, *children.spans, *after),
        channels=() if sampler is None else tuple(sensor.channel for sensor in sampler.sensors),
        samples=samples,
        throttle_before=throttle_before,
        throttle_after=thermal.throttled(root),
        cpu_busy_s=load.busy_s,
        cpu_total_s=load.total_s,
        cpu_child_s=load.child_s,
        contenders=load.contenders,
        clock_step_s=load.clock_step_s,
        sampler_cpu_s=0.0 if sampler is None else sampler.cpu_s,
        missing=missing,
    ), children.payload


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


def _unknown(
    sampler: Sampler | None, throttle: tuple[str, ...] | None, load: _Load
) -> dict[str, str]:
    """Why a field is None, beyond what was known before the run."""
    lost = () if sampler is None else sampler.lost
    reasons = {sensor.channel.source: "its file does not open" for sensor in lost}
    if throttle is None:
        reasons["throttle"] = "no vcgencmd, no throttle counters in sysfs"
    if load.busy_s is None:
        reasons["cpu"] = "/proc/stat cannot be read"
    return reasons


def _run_children(request: wire.Measure, ask: Ask) -> _Children:
    """Each fresh process has its share of the runs and seconds."""
    share = replace(
        request,
        processes=1,
        runs=math.ceil(request.runs / request.processes),
        seconds=request.seconds / request.processes,
    )
    runs, spans, payloads = [], [], []
    for number in range(request.processes):
        answer = ask(share)
        if not isinstance(answer.message, wire.Measured):
            raise FailureError("internal", f"the model's process answered {answer.message!r}")
        (run,) = answer.message.processes
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


class _Watch:
    """The machine's own counters, from now until ``stop``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._processes = cpu.processes(root)
        self._times = cpu.times(root)
        self._child_s = _children_s()
        self._wall_s, self._clock_s = time.time(), time.monotonic()

    def stop(self) -> _Load:
        seconds = time.monotonic() - self._clock_s
        step_s = time.time() - self._wall_s - seconds
        now = cpu.times(self._root)
        busy_s = total_s = None
        if self._times is not None and now is not None:
            busy_s, total_s = now.since(self._times)
        names = cpu.contenders(self._processes, cpu.processes(self._root), seconds)
        return _Load(busy_s, total_s, _children_s() - self._child_s, names, step_s)


def _children_s() -> float:
    usage = os.times()
    return usage.children_user + usage.children_system
