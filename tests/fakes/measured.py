"""A device's raw samples, made to order."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq import wire
from edgeq.core import raw

MS = 1_000_000
S = 1_000_000_000
START_NS = 5_000 * S


@dataclass(frozen=True)
class Sensor:
    """A channel and its value at each time in seconds since the first inference; None: not read."""

    channel: wire.Channel
    values: Sequence[float | None]


def process_run(runs: int, warmup: int = 0, **changes) -> wire.ProcessRun:
    facts = wire.ProcessRun(
        runs=runs,
        warmup_runs=warmup,
        warmup_stable=True,
        load_ns=10 * MS,
        first_ns=20 * MS,
        baseline_rss_bytes=20 << 20,
        peak_rss_bytes=60 << 20,
        pss_bytes=50 << 20,
        cpu_ns=S,
        delegate="xnnpack",
    )
    return dataclasses.replace(facts, **changes)


def measure(
    latencies_ns: Sequence[Sequence[int]],
    *,
    warmup: int = 0,
    sensors: Sequence[Sensor] = (),
    sensor_times_s: Sequence[float] = (),
    spans: Sequence[wire.Span] = (),
    pause_ns: int = S,
    facts: Sequence[dict] = (),
    **changes,
) -> tuple[wire.Measured, bytes]:
    """One process for each list of latencies, back to back with ``pause_ns`` between processes."""
    payload, runs, at = b"", [], START_NS
    for index, own in enumerate(latencies_ns):
        latency = np.array(own, dtype=np.int64)
        starts = at + np.concatenate([[0], np.cumsum(latency[:-1])]).astype(np.int64)
        payload += starts.astype("<i8").tobytes() + latency.astype("<i8").tobytes()
        runs.append(process_run(len(own), warmup, **(facts[index] if facts else {})))
        at = int(starts[-1] + latency[-1]) + pause_ns
    rows = tuple(
        (START_NS + t * S, *(sensor.values[i] for sensor in sensors))
        for i, t in enumerate(sensor_times_s)
    )
    measured = wire.Measured(
        payload_bytes=len(payload),
        processes=tuple(runs),
        spans=tuple(spans),
        channels=tuple(sensor.channel for sensor in sensors),
        samples=rows,
    )
    return dataclasses.replace(measured, **changes), payload


def samples(latencies_ns: Sequence[Sequence[int]], **options) -> raw.Raw:
    """The same, read as the host reads it."""
    return raw.read(*measure(latencies_ns, **options))


def steady(runs: int = 200, latency_ns: int = 5 * MS, jitter: float = 0.01, seed: int = 1):
    """Latencies of a quiet device."""
    noise = np.random.default_rng(seed).normal(1, jitter, runs)
    return np.maximum(1, (latency_ns * noise)).astype(np.int64).tolist()


def span(phase: str, start_s: float, end_s: float) -> wire.Span:
    return wire.Span(phase, int(START_NS + start_s * S), int(START_NS + end_s * S))
