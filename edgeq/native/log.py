"""What ``benchmark_model`` printed, as figures.

Its lines have changed over the years, and Android's logcat, Abseil or nothing may stand in front
of them; so each is looked for by its own words, wherever it stands. What is found must make sense:
a log that contradicts itself is refused, and a figure that is not in it is None.
The lines: tensorflow/lite/tools/benchmark/benchmark_model.cc, benchmark_tflite_model.cc and
tsl/util/stats_calculator.h, of TensorFlow 1.13 to 2.21; litert/tools/benchmark_litert_model.h.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = re.compile(rf"\b(count|first|curr|min|max|avg|std|p5|median|p95)=({_NUMBER}|-?nan|-?inf)")
_STAT = re.compile(r"(?<![\w(])(?:count|curr)=\d")
# The op profile counts too, and the memory of its ops.
_NOT_LATENCY = ("Timings (microseconds)", "Memory (bytes)")
_BEGIN = re.compile(r"Running benchmark for (?:at least )?\d+ iterations")
_TIMINGS = re.compile(r"[Ii]nference timings in us:\s*(.+)")
_TIMING = re.compile(rf"([A-Za-z][A-Za-z ]*?(?: \(avg\))?):\s*({_NUMBER})")
_SESSION = re.compile(rf"Initialized session in\s*({_NUMBER})\s*ms")
_LITERT_SESSION = re.compile(rf"Model initialization:\s*({_NUMBER})\s*ms")
_FIRST = re.compile(rf"Warmup \(first\):\s*({_NUMBER})\s*ms")
_DELTA = re.compile(rf"footprint[^:=]*\(MB\)[^=]*:\s*init=({_NUMBER})\s+overall=({_NUMBER})")
_INIT_DELTA = re.compile(rf"Init footprint:\s*({_NUMBER})\s*MB")
_RUN_DELTA = re.compile(rf"Overall footprint:\s*({_NUMBER})\s*MB")
_PEAK = re.compile(
    rf"(?:Overall peak memory footprint \(MB\) via periodic monitoring|Peak (?:memory|footprint)"
    rf"[^:=]*):\s*({_NUMBER})\s*(?:MB)?\s*$"
)
_UNCONSUMED = re.compile(r"[Uu]nconsumed (?:cmdline|command.?line) flags:\s*(.+)")
_MOST_DIGITS = 15
# Means are printed with six digits.
_ROUNDING = 1e-4


class LogError(Exception):
    """The log contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One series of inferences, in microseconds; percentiles are None in older builds.

    ``std_us`` is that of the population, cut to a whole number.
    """

    count: int
    first_us: float
    min_us: float
    max_us: float
    mean_us: float
    std_us: float
    p5_us: float | None = None
    median_us: float | None = None
    p95_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One process.

    Attributes:
        load_us: Until the session was initialised.
        init_mib: Growth of memory while the model loaded, ``run_mib`` until the end.
        peak_mib: Largest resident memory, where the build was asked for it.
        unconsumed: Flags that this build does not know, as it says.
        window_s: When the measured series began and ended, by the times in front of the lines.
    """

    load_us: float | None = None
    first_us: float | None = None
    warmup: Stat | None = None
    measured: Stat | None = None
    init_mib: float | None = None
    run_mib: float | None = None
    peak_mib: float | None = None
    unconsumed: tuple[str, ...] = ()
    window_s: tuple[float, float] | None = None


def parse(lines: Sequence[str], times_s: Sequence[float | None] = ()) -> Log:
    """Read a log.

    Args:
        lines: What was printed, output and errors together.
        times_s: When each line came, where that is known.

    Raises:
        LogError: it contradicts itself.
    """
    stats = [(number, stat) for number, line in enumerate(lines) if (stat := _stat(line))]
    timings = _timings(lines)
    begins = [number for number, line in enumerate(lines) if _BEGIN.search(line)]
    # Warm-up comes first. One series alone is the warm-up of a process that then failed.
    measured = stats[-1] if len(stats) > 1 or (stats and len(begins) == 1 and timings) else None
    warmup = stats[-2][1] if len(stats) > 1 else None
    if measured:
        _agree(measured[1], timings)
    session = _first(_SESSION, lines) or _first(_LITERT_SESSION, lines)
    delta = _pair(_DELTA, lines)
    return Log(
        load_us=timings.get("init", session * 1e3 if session is not None else None),
        first_us=_first_inference(timings, warmup, lines),
        warmup=warmup if warmup and warmup.count else None,
        measured=measured[1] if measured and measured[1].count else None,
        init_mib=delta[0] if delta else _first(_INIT_DELTA, lines),
        run_mib=delta[1] if delta else _first(_RUN_DELTA, lines),
        peak_mib=_positive(_first(_PEAK, lines)),
        unconsumed=tuple(flag for line in lines for flag in _flags(line)),
        window_s=_window(begins, measured[0] if measured else None, times_s),
    )


def _stat(line: str) -> Stat | None:
    """The figures of a ``count=…`` line; None for another line."""
    if not _STAT.search(line) or any(words in line for words in _NOT_LATENCY):
        return None
    pairs = dict(_PAIR.findall(line))
    if "count" not in pairs:
        return None
    if not pairs["count"].isdigit() or len(pairs["count"]) > _MOST_DIGITS:
        raise LogError(f"impossible figures: {line.strip()[:200]}")
    count = int(pairs["count"])
    if count == 0:
        return Stat(count=0, first_us=0, min_us=0, max_us=0, mean_us=0, std_us=0)
    if "min" in pairs and "max" in pairs and "avg" in pairs:
        low, high, mean = (float(pairs[key]) for key in ("min", "max", "avg"))
    elif "curr" in pairs:  # one run, or "(all same)"
        low = high = mean = float(pairs["curr"])
    else:
        return None
    stat = Stat(
        count=count,
        first_us=float(pairs.get("first", low)),
        min_us=low,
        max_us=high,
        mean_us=mean,
        std_us=float(pairs.get("std", 0)),
        p5_us=_optional(pairs, "p5"),
        median_us=_optional(pairs, "median"),
        p95_us=_optional(pairs, "p95"),
    )
    _check(stat, line)
    return stat


def _check(stat: Stat, line: str) -> None:
    """Figures that can be.

    Raises:
        LogError: they cannot.
    """
    known = [stat.first_us, stat.min_us, stat.max_us, stat.mean_us, stat.std_us]
    inside = [stat.first_us, stat.mean_us]
    for value in (stat.p5_us, stat.median_us, stat.p95_us):
        if value is not None:
            known.append(value)
            inside.append(value)
    slack = _ROUNDING * max(abs(stat.max_us), 1)
    good = all(math.isfinite(value) and value >= 0 for value in known) and all(
        stat.min_us - slack <= value <= stat.max_us + slack for value in inside
    )
    if not good:
        raise LogError(f"impossible figures: {line.strip()[:200]}")


def _agree(stat: Stat, timings: dict[str, float]) -> None:
    """The summary's mean is the series'.

    Raises:
        LogError: it is another one.
    """
    mean = timings.get("inference")
    if mean is not None and stat.count and abs(mean - stat.mean_us) > 1 + 1e-3 * stat.mean_us:
        raise LogError(f"a mean of {stat.mean_us:g} us in one line, of {mean:g} us in another")


def _timings(lines: Sequence[str]) -> dict[str, float]:
    """The last summary line: init, first inference, warmup, inference."""
    found: dict[str, float] = {}
    for line in lines:
        if matched := _TIMINGS.search(line):
            found = {
                key.strip().lower().removesuffix(" (avg)"): float(value)
                for key, value in _TIMING.findall(matched[1])
                if math.isfinite(float(value))
            }
    if "no stats" in found:
        found.setdefault("inference", found["no stats"])
    return found


def _first_inference(
    timings: dict[str, float], warmup: Stat | None, lines: Sequence[str]
) -> float | None:
    if "first inference" in timings:
        return timings["first inference"]
    if warmup is not None and warmup.count:
        return warmup.first_us
    in_ms = _first(_FIRST, lines)
    return in_ms * 1e3 if in_ms is not None else None


def _window(
    begins: Sequence[int], end: int | None, times_s: Sequence[float | None]
) -> tuple[float, float] | None:
    """From the line that announced the measured series to the one that has its figures."""
    if end is None or not times_s:
        return None
    before = [number for number in begins if number < end]
    start_s = times_s[before[-1]] if before else None
    end_s = times_s[end]
    if start_s is None or end_s is None or end_s <= start_s:
        return None
    return start_s, end_s


def _flags(line: str) -> Iterator[str]:
    if found := _UNCONSUMED.search(line):
        yield from found[1].split()


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> float | None:
    """The last value of a line's one figure."""
    values = [float(found[1]) for line in lines if (found := pattern.search(line))]
    return values[-1] if values and math.isfinite(values[-1]) else None


def _pair(pattern: re.Pattern[str], lines: Sequence[str]) -> tuple[float, float] | None:
    found = [match for line in lines if (match := pattern.search(line))]
    pair = (float(found[-1][1]), float(found[-1][2])) if found else None
    return pair if pair and all(map(math.isfinite, pair)) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _optional(pairs: dict[str, str], key: str) -> float | None:
    return float(pairs[key]) if key in pairs else None
