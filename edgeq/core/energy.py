"""Energy per inference over windows of a run, gross and net, with what is uncertain about it."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeq.core.meter import NS_PER_S, Meter, Stretch
from edgeq.core.raw import Numbers, Process

CONFIDENCE = 0.95
# MLPerf Tiny's energy runs take five windows of at least ten seconds.
WINDOWS = 5
WINDOW_S = 10.0
# A window's energy rests on so many readings at least.
WINDOW_SAMPLES = 50
# Idle time is cut in so many blocks on each side, to see how steady it is.
_IDLE_BLOCKS = 5
# What is less than this share of the idle power came of reckoning with fractions.
_NOTHING = 1e-6
# Student's t, 97.5 %, for 1, 2, 3, … degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The device at rest.

    Attributes:
        watts: Mean over all the idle time.
        drift_w: After less before; None where one of them was not measured.
        error_w: Standard error of ``watts``, drift included; None where it cannot be told.
        freedom: Its degrees of freedom.
    """

    watts: float
    drift_w: float | None
    error_w: float | None
    freedom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The measured time cut in windows of one length, each with its energy and inferences."""

    seconds: float
    joules: tuple[float, ...]
    inferences: tuple[float, ...]
    samples: int
    """Readings in the window that has the fewest."""

    @property
    def count(self) -> int:
        return len(self.joules)

    def per_inference_mj(self, less_w: float = 0.0) -> float:
        """Over all windows, less a constant power."""
        joules = sum(self.joules) - less_w * self.seconds * self.count
        return joules / sum(self.inferences) * 1e3

    def error_mj(self) -> float:
        """Standard error of the gross energy: how much the windows differ."""
        each = np.array(self.joules) / np.array(self.inferences) * 1e3
        return float(each.std(ddof=1)) / math.sqrt(self.count)

    def why_short(self, wanted: int, wanted_s: float) -> str:
        """Why these windows give no interval; empty when they do."""
        if self.count < wanted or self.seconds < wanted_s * (1 - 1e-9):
            length = f"{self.count} of {self.seconds:.0f} s"
            return f"short: {length}; an interval takes {wanted} windows of {wanted_s:g} s"
        if self.samples < WINDOW_SAMPLES:
            return f"short: {self.samples} readings in a window; it takes {WINDOW_SAMPLES}"
        return ""


def cut(meter: Meter, processes: tuple[Process, ...], wanted_s: float) -> Windows:
    """Windows of ``wanted_s`` or a little more, so that no measured time is left over.

    The processes' measured time is taken as one: a window may end in one process and go on in the
    next. What lies between two processes belongs to none.
    """
    stretches = [_seconds(process) for process in processes]
    total_s = sum(end - start for start, end in stretches)
    count = max(1, math.floor(total_s / wanted_s + 1e-9)) if wanted_s > 0 else 1
    marks = np.linspace(0.0, total_s, count + 1)
    pieces = [_pieces(stretches, float(low), float(high)) for low, high in pairwise(marks)]
    progress = [_progress(process) for process in processes]
    return Windows(
        seconds=total_s / count,
        joules=tuple(sum(meter.energy_j(a, b) for _, (a, b) in own) for own in pieces),
        inferences=tuple(
            sum(_done(progress[place], b) - _done(progress[place], a) for place, (a, b) in own)
            for own in pieces
        ),
        samples=min(meter.samples([stretch for _, stretch in own]) for own in pieces),
    )


def idle(meter: Meter, before: list[Stretch], after: list[Stretch]) -> Idle:
    """Power at rest, from the idle time on both sides or on one.

    Its error has two parts: how much blocks of a side differ among themselves, and how much the
    sides differ, which are then two observations of one level: a quarter of the difference's square
    is the variance of their mean.
    """
    sides = [_blocks_w(meter, side) for side in (before, after) if side]
    both = before + after
    seconds = sum(end - start for start, end in both)
    watts = sum(meter.energy_j(start, end) for start, end in both) / seconds
    means = [float(side.mean()) for side in sides]
    drift_w = means[1] - means[0] if len(means) == 2 else None  # noqa: PLR2004 - both sides
    freedom = sum(len(side) - 1 for side in sides)
    if freedom < 1:
        return Idle(watts=watts, drift_w=drift_w, error_w=None, freedom=0)
    count = sum(len(side) for side in sides)
    scatter = sum(float(((side - side.mean()) ** 2).sum()) for side in sides) / freedom / count
    error_w = math.sqrt(scatter + (drift_w or 0.0) ** 2 / 4)
    return Idle(watts=watts, drift_w=drift_w, error_w=error_w, freedom=freedom)


def why_no_net(mean_w: float | None, rest: Idle, what: str) -> str:
    """Why the power at rest cannot be taken off; empty when it can. ``what``: phone, device."""
    if mean_w is None:
        return ""
    net_w = mean_w - rest.watts
    if net_w <= _NOTHING * rest.watts:
        return f"the run drew no more than the idle {what}"
    drift_w = rest.drift_w or 0.0
    if abs(drift_w) > net_w:
        return (
            f"the idle {what} drew {drift_w:+.3g} W after the run against before it,"
            f" and the run itself only {net_w:.3g} W more than it"
        )
    return ""


def gross_interval_mj(windows: Windows) -> Interval:
    """Student's t over the windows."""
    middle = windows.per_inference_mj()
    half = _t(windows.count - 1) * windows.error_mj()
    return middle - half, middle + half


def net_interval_mj(windows: Windows, rest: Idle) -> Interval | None:
    """The same with the idle power's own error (Welch and Satterthwaite's degrees of freedom)."""
    if rest.error_w is None:
        return None
    share = windows.seconds * windows.count / sum(windows.inferences) * 1e3
    first, second = windows.error_mj() ** 2, (share * rest.error_w) ** 2
    total = first + second
    middle = windows.per_inference_mj(rest.watts)
    if not total:
        return middle, middle
    freedom = total**2 / (first**2 / (windows.count - 1) + second**2 / rest.freedom)
    half = _t(freedom) * math.sqrt(total)
    return middle - half, middle + half


def _t(freedom: float) -> float:
    """For fewer degrees of freedom rather than more: the wider interval."""
    whole = max(1, math.floor(freedom))
    return _T[whole - 1] if whole <= len(_T) else _T[-1]


def _seconds(process: Process) -> Stretch:
    start, end = process.window_ns
    return start / NS_PER_S, end / NS_PER_S


def _pieces(stretches: list[Stretch], low: float, high: float) -> list[tuple[int, Stretch]]:
    """The parts of the stretches, laid end to end, that lie between two marks."""
    found, at = [], 0.0
    for place, (start, end) in enumerate(stretches):
        first, last = max(low, at), min(high, at + end - start)
        if last > first:
            found.append((place, (start + first - at, start + last - at)))
        at += end - start
    return found


def _progress(process: Process) -> tuple[Numbers, Numbers]:
    """Moments and how many inferences were done by then; between the two it goes on evenly."""
    starts = process.starts_ns[process.facts.warmup_runs :] / NS_PER_S
    ends = starts + process.measured_ns / NS_PER_S
    count = np.arange(len(starts), dtype=np.float64)
    moments = np.stack([starts, ends], axis=1).ravel()
    return np.maximum.accumulate(moments), np.stack([count, count + 1], axis=1).ravel()


def _done(progress: tuple[Numbers, Numbers], moment: float) -> float:
    return float(np.interp(moment, *progress))


def _blocks_w(meter: Meter, side: list[Stretch]) -> Numbers:
    """Mean power of each block of idle time."""
    watts = []
    for start, end in side:
        marks = np.linspace(start, end, _IDLE_BLOCKS + 1)
        for low, high in pairwise(marks):
            watts.append(meter.energy_j(float(low), float(high)) / float(high - low))
    return np.array(watts)
