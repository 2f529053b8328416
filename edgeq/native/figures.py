"""From benchmark_model's logs and a phone's sensors to the report's sections.

benchmark_model gives no raw samples: what cannot be had from its sums is None, with the reason.
"""

import math
from collections.abc import Iterator

import numpy as np

from edgeq.core import energy
from edgeq.core.meter import Meter
from edgeq.core.report import (
    BenchmarkSection,
    LatencySection,
    MemorySection,
    PowerSection,
    ThermalSection,
)
from edgeq.core.summary import Figures
from edgeq.core.telemetry import Missing
from edgeq.native import sensors
from edgeq.native.log import Stat
from edgeq.native.measure import Measured
from edgeq.native.sensors import Battery

_US_PER_MS = 1e3
_KHZ_PER_MHZ = 1e3
_NO_SAMPLES = "benchmark_model gives no raw samples"
_OLD = "this build of benchmark_model gives no percentiles"
_NONE_HERE = "not looked at over adb"


def reckon(measured: Measured) -> Figures:
    """All figures, with the reasons for those that are None."""
    missing: list[Missing] = []
    latency = _latency(measured, missing)
    return Figures(
        latency=latency,
        memory=_memory(measured, missing),
        power=_power(measured, missing),
        thermal=_thermal(measured, missing),
        missing=tuple(missing),
        p90_bound_ms=_p95_ms(measured),
    )


def benchmark(
    measured: Measured, shown: str, sha256: str | None, flags: tuple[str, ...]
) -> BenchmarkSection:
    """What the program tells beyond the other sections."""
    stats = _stats(measured)
    lows = [stat.p5_us for stat in stats if stat.p5_us is not None]
    logs = [process.log for process in measured.processes]
    init = [one.init_mib for one in logs if one.init_mib is not None]
    whole = [one.run_mib for one in logs if one.run_mib is not None]
    return BenchmarkSection(
        program=shown,
        sha256=sha256,
        flags=flags,
        p5_ms=min(lows) / _US_PER_MS if len(lows) == len(stats) else None,
        p95_ms=_p95_ms(measured),
        load_growth_mib=float(np.median(init)) if init else None,
        run_growth_mib=float(np.median(whole)) if whole else None,
        ops=measured.ops,
    )


def _latency(measured: Measured, missing: list[Missing]) -> LatencySection:
    stats = _stats(measured)
    count = sum(stat.count for stat in stats)
    mean_us = sum(stat.count * stat.mean_us for stat in stats) / count
    logs = [process.log for process in measured.processes]
    loads = [one.load_us for one in logs if one.load_us is not None]
    firsts = [one.first_us for one in logs if one.first_us is not None]
    medians = [stat.median_us for stat in stats if stat.median_us is not None]
    section = LatencySection(
        runs=count,
        warmup_runs=sum(one.warmup.count for one in logs if one.warmup),
        mean_ms=mean_us / _US_PER_MS,
        std_ms=_pooled_us(stats, mean_us) / _US_PER_MS if count > 1 else None,
        min_ms=min(stat.min_us for stat in stats) / _US_PER_MS,
        max_ms=max(stat.max_us for stat in stats) / _US_PER_MS,
        p50_ms=float(np.median(medians)) / _US_PER_MS if len(medians) == len(stats) else None,
        load_ms=float(np.median(loads)) / _US_PER_MS if loads else None,
        first_ms=float(np.median(firsts)) / _US_PER_MS if firsts else None,
    )
    reasons = {
        "std_ms": "one run only",
        "p50_ms": _OLD,
        "p90_ms": f"{_NO_SAMPLES}, and no 90th percentile (newer builds give p5, p50, p95)",
        "p99_ms": _NO_SAMPLES,
        "p50_ci_ms": _NO_SAMPLES,
        "load_ms": "benchmark_model's log does not say",
        "first_ms": "benchmark_model's log does not say",
    }
    missing += _lacking(section, "latency", reasons)
    return section


def _pooled_us(stats: list[Stat], mean_us: float) -> float:
    """Standard deviation over all processes, of a sample."""
    count = sum(stat.count for stat in stats)
    squares = sum(stat.count * (stat.std_us**2 + (stat.mean_us - mean_us) ** 2) for stat in stats)
    return math.sqrt(squares / (count - 1))


def _memory(measured: Measured, missing: list[Missing]) -> MemorySection:
    peak = measured.memory.peak_mib if measured.memory else None
    section = MemorySection(peak_rss_mib=peak)
    reasons = {
        "peak_rss_mib": "this build of benchmark_model does not report peak memory",
        "pss_mib": "benchmark_model does not give it",
        "baseline_rss_mib": "benchmark_model does not give it",
    }
    missing += _lacking(section, "memory", reasons)
    return section


def _power(measured: Measured, missing: list[Missing]) -> PowerSection | None:
    gauge = measured.battery
    found = sensors.meter(gauge, measured.readings) if isinstance(gauge, Battery) else gauge
    if isinstance(found, str):
        missing.append(Missing("power", found))
        return None
    windows = [one.log.window_s for one in measured.processes if one.log.window_s]
    if len(windows) < len(measured.processes):
        missing.append(
            Missing("power", "the phone does not tell the time of benchmark_model's runs")
        )
        return None
    return _energy(measured, found, windows, missing)


def _energy(
    measured: Measured, meter: Meter, windows: list[tuple[float, float]], missing: list[Missing]
) -> PowerSection:
    """Mean power of the measured time, and energy per inference, gross and net."""
    seconds = sum(end - start for start, end in windows)
    runs = sum(stat.count for stat in _stats(measured))
    trouble = meter.trouble(windows)
    mean_w = None if trouble else sum(meter.energy_j(a, b) for a, b in windows) / seconds
    idle_trouble, rest = _rest(meter, measured)
    why_no_net = trouble or idle_trouble
    if rest and not why_no_net:
        why_no_net = energy.why_no_net(mean_w, rest, "phone")
    net_w = mean_w - rest.watts if mean_w is not None and rest and not why_no_net else None
    section = PowerSection(
        source=meter.source,
        coverage=meter.coverage,
        mean_w=mean_w,
        idle_w=rest.watts if rest else None,
        idle_drift_w=rest.drift_w if rest else None,
        energy_mj=None if mean_w is None else mean_w * seconds / runs * 1e3,
        energy_net_mj=None if net_w is None else net_w * seconds / runs * 1e3,
        measured_s=None if mean_w is None else seconds,
        sample_hz=1 / meter.period_s,
        gap_max_s=meter.gap_s(windows),
        clock_offset_s=0.0,
    )
    reasons = {
        "mean_w": trouble,
        "energy_mj": trouble,
        "measured_s": trouble,
        "idle_w": idle_trouble,
        "idle_drift_w": idle_trouble,
        "energy_net_mj": why_no_net,
        "uncertainty_percent": "a phone's gauge comes without a data sheet",
    }
    missing += _lacking(section, "power", reasons, rest=_NO_SAMPLES)
    return section


def _rest(meter: Meter, measured: Measured) -> tuple[str, energy.Idle | None]:
    """The phone at rest, or why that is not known."""
    spans = list(measured.spans_s)
    if not spans:
        return "no time was set apart for it", None
    if trouble := meter.trouble(spans):
        return trouble, None
    return "", energy.idle(meter, spans[:1], spans[1:])


def _thermal(measured: Measured, missing: list[Missing]) -> ThermalSection:
    traces = [_trace(measured, path) for path in measured.zones]
    hottest = max((one for one in traces if one), key=max, default=None)
    clocks = list(_clocks(measured))
    section = ThermalSection(
        start_c=hottest[0] if hottest else None,
        max_c=max(hottest) if hottest else None,
        throttled=throttled(measured),
        frequency_min_mhz=min(clocks) if clocks else None,
        frequency_max_mhz=max(clocks) if clocks else None,
    )
    no_zone = "no thermal zone that adb's user may read"
    no_clock = "no cpufreq that adb's user may read"
    reasons = {
        "start_c": no_zone,
        "max_c": no_zone,
        "throttled": "Android does not tell its thermal status (dumpsys thermalservice)",
        "frequency_min_mhz": no_clock,
        "frequency_max_mhz": no_clock,
    }
    missing += _lacking(section, "thermal", reasons, rest=_NONE_HERE)
    return section


def throttled(measured: Measured) -> bool | None:
    """Whether Android said so before or after; None where it says nothing."""
    states = [state for state in measured.throttle if state is not None]
    return any(state != "none" for state in states) if states else None


def _trace(measured: Measured, path: str) -> list[float]:
    found = (sensors.celsius(text) for _, text in sensors.column(measured.readings, path))
    return [value for value in found if value is not None]


def _clocks(measured: Measured) -> Iterator[float]:
    """Of all cores, while the model ran."""
    windows = [one.log.window_s for one in measured.processes if one.log.window_s]
    for path in measured.clocks:
        for time_s, text in sensors.column(measured.readings, path):
            value = sensors.number(text)
            if value is not None and any(start <= time_s <= end for start, end in windows):
                yield value / _KHZ_PER_MHZ


def _p95_ms(measured: Measured) -> float | None:
    """The largest of the processes', which none of their 90th percentiles exceeds."""
    stats = _stats(measured)
    found = [stat.p95_us for stat in stats if stat.p95_us is not None]
    return max(found) / _US_PER_MS if len(found) == len(stats) else None


def _stats(measured: Measured) -> list[Stat]:
    return [one.log.measured for one in measured.processes if one.log.measured]


def _lacking(
    section: object, name: str, reasons: dict[str, str], rest: str = ""
) -> Iterator[Missing]:
    """Reasons for the fields of a section that are None; ``rest`` for those not named."""
    for field in type(section).model_fields:  # type: ignore[attr-defined]  # a pydantic model's
        why = reasons.get(field, rest)
        if getattr(section, field) is None and why:
            yield Missing(f"{name}.{field}", why)
