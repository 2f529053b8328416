"""From raw samples to latency, memory and temperature; docs/measuring.md has the method in words.

Every function gives a section of the report and, for each of its figures that is None, the reason.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from edgeq.core import conditions
from edgeq.core.raw import Integers, Numbers, Process, Raw
from edgeq.core.report import LatencySection, MemorySection, ThermalSection

SectionT = TypeVar("SectionT")

NS_PER_MS = 1e6
BYTES_PER_MIB = 1 << 20
# Ten runs: one run at least is longer than the 90th percentile.
MIN_RUNS_P90 = 10
# DESIGN: p99 is null below it. MLPerf LoadGen's early stopping asks for 662 at least.
MIN_RUNS_P99 = 1000
MIN_BLOCKS = 8
RESAMPLES = 1000
CONFIDENCE = 0.95
# The same samples give the same interval.
SEED = 20_261_101
# Bins of the histogram in which the bootstrap looks for a median: more runs than this are told
# apart to 1/2048 of their rank, far inside the interval's own width.
_MAX_BINS = 2048


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that is None. ``field`` is its place in the report, such as ``latency.p99_ms``."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found(Generic[SectionT]):
    """A section and the reasons for what it lacks."""

    section: SectionT
    missing: tuple[Missing, ...]


def percentile(values: Integers | Numbers, percent: float) -> float:
    """The ``percent``-th percentile, with linear interpolation between the two nearest values.

    Definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American
    Statistician 50 (1996): the default of NumPy, R and spreadsheets; at 50 it is the usual median.
    """
    return float(np.percentile(values, percent, method="linear"))


def latency(raw: Raw) -> Found[LatencySection]:
    """Of the measured inferences of all processes; load and first are medians over processes."""
    runs = np.concatenate([process.measured_ns for process in raw.processes]) / NS_PER_MS
    count = len(runs)
    interval = p50_interval_ms(raw.processes)
    section = LatencySection(
        runs=count,
        warmup_runs=sum(process.facts.warmup_runs for process in raw.processes),
        mean_ms=float(runs.mean()),
        std_ms=float(runs.std(ddof=1)) if count > 1 else None,
        min_ms=float(runs.min()),
        max_ms=float(runs.max()),
        p50_ms=percentile(runs, 50),
        p90_ms=percentile(runs, 90) if count >= MIN_RUNS_P90 else None,
        p99_ms=percentile(runs, 99) if count >= MIN_RUNS_P99 else None,
        p50_ci_ms=interval,
        load_ms=_median([p.facts.load_ns / NS_PER_MS for p in raw.processes]),
        first_ms=_median([p.facts.first_ns / NS_PER_MS for p in raw.processes]),
    )
    reasons = {
        "std_ms": "one run only",
        "p90_ms": f"{count} runs; it takes {MIN_RUNS_P90}",
        "p99_ms": f"{count} runs; it takes {MIN_RUNS_P99}",
        "p50_ci_ms": f"{count} runs are too few blocks for an interval",
    }
    return Found(section, _missing(section, "latency", reasons))


def p50_interval_ms(processes: tuple[Process, ...]) -> tuple[float, float] | None:
    """A 95 % interval of p50 by a two-stage block bootstrap; None with fewer than 8 blocks.

    Neighbouring latencies resemble each other and processes differ, so runs may not be drawn as if
    they were independent: first processes are drawn with replacement, then blocks of consecutive
    runs within each. Carlstein, Annals of Statistics 14 (1986); Davison and Hinkley, "Bootstrap
    Methods and their Application" (1997), sections 3.8 and 8.2.3.
    """
    blocks = [_blocks(process.measured_ns / NS_PER_MS) for process in processes]
    if sum(map(len, blocks)) < MIN_BLOCKS:
        return None
    runs = np.concatenate([block for own in blocks for block in own])
    edges = np.unique(runs) if len(runs) <= _MAX_BINS else _quantile_edges(runs)
    counts = [np.stack([_histogram(block, edges) for block in own]) for own in blocks]
    medians = edges[_resampled_medians(counts)]
    tail = 100 * (1 - CONFIDENCE) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)


def block_medians_ms(process: Process) -> Numbers:
    """Median of each block of one process, in the order of time."""
    return np.array([np.median(block) for block in _blocks(process.measured_ns / NS_PER_MS)])


def memory(raw: Raw) -> Found[MemorySection]:
    """Peak: the largest of the processes. PSS and baseline: their medians."""
    facts = [process.facts for process in raw.processes]
    peaks = [f.peak_rss_bytes for f in facts if f.peak_rss_bytes is not None]
    section = MemorySection(
        peak_rss_mib=max(peaks) / BYTES_PER_MIB if peaks else None,
        pss_mib=_median([f.pss_bytes / BYTES_PER_MIB for f in facts if f.pss_bytes is not None]),
        baseline_rss_mib=_median(
            [
                f.baseline_rss_bytes / BYTES_PER_MIB
                for f in facts
                if f.baseline_rss_bytes is not None
            ]
        ),
    )
    told = raw.measured.missing
    reasons = {
        "peak_rss_mib": told.get("peak_rss", "the device does not give VmHWM"),
        "pss_mib": told.get("pss", "the device does not give smaps_rollup"),
        "baseline_rss_mib": told.get("baseline_rss", "the device does not give VmRSS"),
    }
    return Found(section, _missing(section, "memory", reasons))


def thermal(raw: Raw) -> Found[ThermalSection]:
    """Of the sensor that became hottest; frequencies over all cores, while the model ran."""
    hottest = conditions.hottest_column(raw)
    frequencies = np.concatenate(
        [np.empty(0), *(c.within(raw.windows_ns) for c in conditions.clock_columns(raw))]
    )
    section = ThermalSection(
        start_c=float(hottest.values[0]) if hottest else None,
        max_c=float(hottest.values.max()) if hottest else None,
        throttled=throttled(raw),
        frequency_min_mhz=float(frequencies.min()) if len(frequencies) else None,
        frequency_max_mhz=float(frequencies.max()) if len(frequencies) else None,
        rise_c=conditions.rise_c(raw),
        governor=conditions.governor(raw),
        pinned=conditions.pinned(raw),
        policies=conditions.policy_sections(raw),
        occurred_before=conditions.old_flags(raw),
    )
    told = raw.measured.missing
    no_sensor = told.get("temperature", "no temperature sensor that this user may read")
    no_frequency = told.get("frequency", "no cpufreq on this device")
    reasons = {
        "start_c": no_sensor,
        "max_c": no_sensor,
        "throttled": told.get("throttle", "this device has no throttle flags"),
        "frequency_min_mhz": no_frequency,
        "frequency_max_mhz": no_frequency,
        "rise_c": no_sensor if hottest is None else "too few readings while the model ran",
        "governor": no_frequency,
        "pinned": no_frequency,
    }
    return Found(section, _missing(section, "thermal", reasons))


def throttled(raw: Raw) -> bool | None:
    """Whether a throttle flag was up or came up; None when there is no way to know."""
    if raw.measured.throttle_before is None or raw.measured.throttle_after is None:
        return None
    return bool(throttle_flags(raw))


def throttle_flags(raw: Raw) -> tuple[str, ...]:
    """Flags that stood before or after the run, and sticky ones that are new; in words, sorted."""
    before = set(raw.measured.throttle_before or ())
    after = set(raw.measured.throttle_after or ())
    current = {flag for flag in before | after if not conditions.is_sticky(flag)}
    return tuple(sorted(current | (after - before)))


def _blocks(runs: Numbers) -> list[Numbers]:
    """Consecutive runs in about as many blocks as each has runs.

    That is longer than the n^(1/3) that is best where dependence is short (Hall, Horowitz and Jing,
    Biometrika 82, 1995), so it errs on the side of the wider interval.
    """
    return list(np.array_split(runs, max(1, round(len(runs) ** 0.5))))


def _quantile_edges(runs: Numbers) -> Numbers:
    return np.unique(np.quantile(runs, np.linspace(0, 1, _MAX_BINS), method="higher"))


def _histogram(block: Numbers, edges: Numbers) -> Numbers:
    """How many of the block fall at each edge or between it and the one before."""
    places = np.searchsorted(edges, block, side="left")
    return np.bincount(places, minlength=len(edges)).astype(np.float64)


def _resampled_medians(counts: list[Numbers]) -> Integers:
    """Where the median of each resample is. ``counts``: (blocks, edges) of each process."""
    generator = np.random.default_rng(SEED)
    totals = np.zeros((RESAMPLES, counts[0].shape[1]))
    drawn = generator.multinomial(len(counts), [1 / len(counts)] * len(counts), size=RESAMPLES)
    for times, own in zip(drawn.T, counts, strict=True):
        weights = generator.multinomial(times * len(own), [1 / len(own)] * len(own))
        totals += weights @ own
    cumulated = np.cumsum(totals, axis=1)
    half = cumulated[:, -1:] / 2
    places: Integers = np.argmax(cumulated >= half, axis=1)
    return places


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _missing(section: object, name: str, reasons: dict[str, str]) -> tuple[Missing, ...]:
    return tuple(
        Missing(f"{name}.{field}", reason)
        for field, reason in reasons.items()
        if getattr(section, field) is None
    )
