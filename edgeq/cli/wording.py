"""A report's figures in words: units, three digits, ``n/a`` for what is not known."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.core.report import Report

UNKNOWN = "n/a"


def number(value: float | None, unit: str = "", digits: int = 3) -> str:
    """With so many significant digits, never in powers of ten; ``n/a`` for None."""
    if value is None:
        return UNKNOWN
    if value == 0:
        text = "0"
    else:
        from math import floor, log10

        decimals = max(0, digits - 1 - floor(log10(abs(value))))
        text = f"{value:.{decimals}f}"
    return f"{text} {unit}".rstrip()


def accuracies(float_accuracy: float | None, artifact_accuracy: float | None) -> str | None:
    """Both, or None where they are not known."""
    if float_accuracy is None or artifact_accuracy is None:
        return None
    return f"{float_accuracy:.4f} float, {artifact_accuracy:.4f} artifact"


def rows(found: "Report") -> Iterable[tuple[str, str]]:
    """Label and text of each line; an empty label goes on with the line before."""
    machine = found.device.machine
    yield (
        "device",
        ", ".join(
            filter(
                None,
                (
                    machine.model,
                    machine.cpu if machine.cpu != machine.model else None,
                    machine.arch,
                    f"{machine.cores} cores" if machine.cores else None,
                    number(machine.memory_mib, "MiB", 4) if machine.memory_mib else None,
                    machine.os,
                ),
            )
        ),
    )
    yield "model", f"{found.model.source}, {_size(found.model.size_bytes)}"
    art = found.artifact
    smaller = f", {art.compression_ratio:.2f} times smaller" if art.compression_ratio else ""
    yield "artifact", f"{art.format} {art.precision}, {_size(art.size_bytes)}{smaller}"
    yield from _proof(found)
    yield from _figures(found)
    if found.transfer is not None:
        t = found.transfer
        speed = f" in {t.seconds:.2f} s" if t.bytes_sent else ""
        yield "transfer", f"{_size(t.bytes_sent)} of {_size(t.bytes_total)} sent{speed}"
    times = found.timings_s.model_dump()
    steps = ", ".join(f"{k} {v:.1f}" for k, v in times.items() if v is not None and k != "total")
    if steps:
        total = f"{found.timings_s.total:.1f} s: " if found.timings_s.total is not None else ""
        yield "time", f"{total}{steps}"


def _proof(found: "Report") -> Iterable[tuple[str, str]]:
    if (q := found.quality) is not None:
        if q.artifact_accuracy is not None:
            yield (
                "accuracy",
                f"{_percent(q.artifact_accuracy)}, float {_percent(q.float_accuracy)},"
                f" drop {_percent(q.accuracy_drop, 'points')}",
            )
        yield (
            "quality",
            f"SQNR {number(q.sqnr_db, 'dB')}, cosine {number(q.cosine, digits=4)},"
            f" top-1 agreement {_percent(q.top1_agreement)} on {q.samples} samples",
        )
    if (p := found.parity) is not None:
        words = "identical" if p.identical else f"largest difference {number(p.max_abs_diff)}"
        yield "parity", f"device against host: {words} on {p.samples} samples"


def _figures(found: "Report") -> Iterable[tuple[str, str]]:
    if (t := found.latency) is not None:
        interval = ""
        if t.p50_ci_ms is not None:
            interval = f" (95 %: {number(t.p50_ci_ms[0])} to {number(t.p50_ci_ms[1])})"
        yield (
            "latency",
            f"p50 {number(t.p50_ms, 'ms')}{interval}, p90 {number(t.p90_ms, 'ms')},"
            f" p99 {number(t.p99_ms, 'ms')}",
        )
        yield (
            "",
            f"mean {number(t.mean_ms, 'ms')}, std {number(t.std_ms, 'ms')},"
            f" min {number(t.min_ms, 'ms')}, max {number(t.max_ms, 'ms')}; {t.runs} runs",
        )
        yield "", f"load {number(t.load_ms, 'ms')}, first inference {number(t.first_ms, 'ms')}"
    yield from _benchmark(found)
    if (m := found.memory) is not None:
        yield (
            "memory",
            f"peak RSS {number(m.peak_rss_mib, 'MiB')}, PSS {number(m.pss_mib, 'MiB')},"
            f" before the model {number(m.baseline_rss_mib, 'MiB')}",
        )
    yield from _power(found)
    h = found.thermal
    if h is not None and h.start_c is h.throttled is h.frequency_max_mhz is None:
        yield "thermal", UNKNOWN
    elif h is not None:
        throttled = UNKNOWN if h.throttled is None else "yes" if h.throttled else "no"
        governor = f", governor {h.governor}" if h.governor else ""
        pinned = ", pinned" if h.pinned else ""
        yield (
            "thermal",
            f"start {number(h.start_c, '°C')}, max {number(h.max_c, '°C')}, throttled {throttled},"
            f" clock {_span(h.frequency_min_mhz, h.frequency_max_mhz, 'MHz')}{governor}{pinned}",
        )
    if (c := found.cooling) is not None:
        begun = (
            "at an unknown temperature"
            if c.worst_start_c is None
            else f"at {c.worst_start_c:.1f} °C"
        )
        yield "cooling", f"to {c.target_c:g} °C: waited {c.waited_s:.0f} s, began {begun}"
    if (r := found.runtime) is not None:
        words = (
            f"{r.name} {r.version or ''}".strip(),
            f"{r.threads} thread{'s' if r.threads > 1 else ''}" if r.threads else None,
            f"on CPU {r.cpus}" + (f" ({r.cores})" if r.cores else "") if r.cpus else None,
            r.delegate,
        )
        yield "runtime", ", ".join(filter(None, words))


def _benchmark(found: "Report") -> Iterable[tuple[str, str]]:
    """What benchmark_model tells beyond the rest: percentiles, and the ops that take most time."""
    if (b := found.benchmark) is None:
        return
    if b.p95_ms is not None:
        yield "", f"p5 {number(b.p5_ms, 'ms')}, p95 {number(b.p95_ms, 'ms')}"
    if b.ops:
        ops = sorted(b.ops, key=lambda op: op.share or 0.0, reverse=True)
        shown = ", ".join(f"{op.type} {_percent(op.share)}" for op in ops[:3])
        yield "ops", f"{shown}; of {len(ops)}"


def _power(found: "Report") -> Iterable[tuple[str, str]]:
    if (p := found.power) is None:
        yield "power", UNKNOWN
        return
    yield (
        "power",
        f"{number(p.energy_mj, 'mJ')} per inference{_interval(p.energy_ci_mj)},"
        f" net {number(p.energy_net_mj, 'mJ')}{_interval(p.energy_net_ci_mj)};"
        f" mean {number(p.mean_w, 'W')}{_over(p.measured_s)}, idle {number(p.idle_w, 'W')}"
        f"{_drift(p.idle_w, p.idle_drift_w)}",
    )
    facts = (
        p.source,
        f"covers the {p.coverage}" if p.coverage else None,
        number(p.sample_hz, "Hz") if p.sample_hz else None,
        f"longest gap {number(p.gap_max_s, 's')}" if p.gap_max_s is not None else None,
        f"sensor within {number(p.uncertainty_percent, '%', 2)}" if p.uncertainty_percent else None,
        _clock(p.clock_offset_s, p.clock_uncertainty_s),
    )
    yield "", ", ".join(filter(None, facts))


def _over(seconds: float | None) -> str:
    return "" if seconds is None else f" over {number(seconds, 's')}"


def _drift(idle_w: float | None, drift_w: float | None) -> str:
    """Told where it is more than a twentieth."""
    if not idle_w or drift_w is None or abs(drift_w) <= idle_w / 20:
        return ""
    return f" ({drift_w:+.3g} W after the run)"


def _interval(interval: tuple[float, ...] | None) -> str:
    return "" if interval is None else f" (95 %: {number(interval[0])} to {number(interval[1])})"


def _clock(offset_s: float | None, uncertainty_s: float | None) -> str | None:
    """What was corrected; nothing where there is one clock."""
    if not offset_s or uncertainty_s is None:
        return None
    return f"the device's clock {offset_s:+.3f} s (± {1e3 * uncertainty_s:.1f} ms), corrected"


def _size(size_bytes: int) -> str:
    """In KiB or MiB, whichever reads well."""
    if size_bytes < 1 << 20:
        return f"{size_bytes / (1 << 10):.1f} KiB"
    return f"{size_bytes / (1 << 20):.2f} MiB"


def _percent(share: float | None, unit: str = "%") -> str:
    return UNKNOWN if share is None else f"{100 * share:.2f} {unit}"


def _span(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return UNKNOWN
    return f"{low:.0f} {unit}" if round(low) == round(high) else f"{low:.0f} to {high:.0f} {unit}"
