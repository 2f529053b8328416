"""From readings of power, voltage and current, or an energy counter to energy per inference."""

from dataclasses import dataclass

import numpy as np

from edgeq.core.raw import Column, Numbers, Raw
from edgeq.core.report import PowerSection
from edgeq.core.telemetry import Found, Missing

NS_PER_S = 1e9
# Fewer samples than this say little about a mean.
MIN_SAMPLES = 10
# A gap of more than three sampling periods hides what happened in it.
MAX_GAP_PERIODS = 3.0
# The most that is measured wins: what a source covers, from the whole to a part.
_COVERAGE = ("wall", "board", "module", "battery", "rail", "package")
# RAPL has one zone for each processor socket: they stand side by side and may be added.
_ADDABLE = "package"
_QUANTITIES = frozenset({"power_w", "current_a", "voltage_v", "energy_j"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Meter:
    """One source's readings: watts, or joules where ``cumulative``."""

    source: str
    coverage: str
    times_s: Numbers
    values: Numbers
    cumulative: bool

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy of a stretch of time: a counter's difference, else the trapezoid rule.

        At the ends the readings beside them are interpolated; beyond the first or the last reading
        the nearest one stands.
        """
        if not self.cumulative:
            inner = (self.times_s > start_s) & (self.times_s < end_s)
            times = np.concatenate([[start_s], self.times_s[inner], [end_s]])
            watts = np.interp(times, self.times_s, self.values)
            return float(np.trapezoid(watts, times))
        low, high = max(start_s, self.times_s[0]), min(end_s, self.times_s[-1])
        joules = np.interp([low, high], self.times_s, self.values)
        return float((joules[1] - joules[0]) * (end_s - start_s) / (high - low))

    def trouble(self, windows_s: list[tuple[float, float]]) -> str:
        """Why these windows cannot be reckoned with; empty when they can."""
        inside = sum(int(np.sum((self.times_s >= a) & (self.times_s <= b))) for a, b in windows_s)
        if inside < MIN_SAMPLES:
            return f"{inside} readings of {self.source} in that time; it takes {MIN_SAMPLES}"
        limit_s = MAX_GAP_PERIODS * float(np.median(np.diff(self.times_s)))
        for start, end in windows_s:
            inner = self.times_s[(self.times_s > start) & (self.times_s < end)]
            before = self.times_s[self.times_s <= start][-1:]
            after = self.times_s[self.times_s >= end][:1]
            # Where there is no reading beyond an end, the end itself closes the gap.
            points = np.concatenate(
                [before if len(before) else [start], inner, after if len(after) else [end]]
            )
            widest = float(np.max(np.diff(points)))
            if widest > limit_s:
                return f"a gap of {widest:.2f} s in the readings of {self.source}"
        return ""


def power(raw: Raw) -> Found[PowerSection | None]:
    """Power and energy by the source that covers the most; None, with the reason, without a meter.

    Energy per inference is that of the measured stretch of each process by the inferences in it;
    net is less the idle power for the same time. A total is never added to its parts.
    """
    meters = _meters(raw)
    if not meters:
        return Found(None, (Missing("power", _why_none(raw)),))
    meter = meters[0]
    missing: list[Missing] = []
    windows = [(a / NS_PER_S, b / NS_PER_S) for a, b in raw.windows_ns]
    idle = [(a / NS_PER_S, b / NS_PER_S) for a, b in raw.spans_ns("idle_before", "idle_after")]
    idle_w = _mean_w(meter, idle, "power.idle_w", missing)
    mean_w = _mean_w(meter, windows, "power.mean_w", missing)
    runs = sum(len(process.measured_ns) for process in raw.processes)
    seconds = sum(end - start for start, end in windows)
    gross = None if mean_w is None else mean_w * seconds / runs * 1e3
    net = None
    if mean_w is None:
        why = missing[-1].reason
        missing += [Missing("power.energy_mj", why), Missing("power.energy_net_mj", why)]
    elif idle_w is None:
        missing.append(Missing("power.energy_net_mj", "the idle power is not known"))
    elif mean_w <= idle_w:
        missing.append(Missing("power.energy_net_mj", "the run drew no more than the idle device"))
    else:
        net = (mean_w - idle_w) * seconds / runs * 1e3
    section = PowerSection(
        source=meter.source,
        coverage=meter.coverage or None,
        mean_w=mean_w,
        idle_w=idle_w,
        energy_mj=gross,
        energy_net_mj=net,
        sample_hz=float(1 / np.median(np.diff(meter.times_s))),
    )
    return Found(section, tuple(missing))


def _mean_w(
    meter: Meter, windows_s: list[tuple[float, float]], field: str, missing: list[Missing]
) -> float | None:
    if not windows_s:
        missing.append(Missing(field, "no time was set apart for it"))
        return None
    if trouble := meter.trouble(windows_s):
        missing.append(Missing(field, trouble))
        return None
    seconds = sum(end - start for start, end in windows_s)
    return sum(meter.energy_j(start, end) for start, end in windows_s) / seconds


def _meters(raw: Raw) -> list[Meter]:
    """Sources that stand for a whole, best first."""
    sources: dict[str, list[Column]] = {}
    for column in raw.columns:
        if column.channel.quantity in _QUANTITIES and len(column.values) >= MIN_SAMPLES:
            sources.setdefault(column.channel.source, []).append(column)
    whole = [s for s in sources.values() if any(c.channel.total for c in s)] or (
        list(sources.values()) if len(sources) == 1 else []
    )
    meters = [meter for columns in whole if (meter := _meter(columns)) is not None]
    return sorted(_joined(meters), key=lambda meter: _rank(meter.coverage))


def _meter(columns: list[Column]) -> Meter | None:
    """A source's readings: its power, else its energy counter, else voltage times current."""
    by_quantity = {column.channel.quantity: column for column in reversed(columns)}
    chosen = by_quantity.get("power_w") or by_quantity.get("energy_j")
    if chosen is not None:
        times, values = chosen.times_ns, chosen.values
    else:
        chosen, voltage = by_quantity.get("current_a"), by_quantity.get("voltage_v")
        if chosen is None or voltage is None:
            return None
        times, at_chosen, at_voltage = np.intersect1d(
            chosen.times_ns, voltage.times_ns, return_indices=True
        )
        values = chosen.values[at_chosen] * voltage.values[at_voltage]
    times, places = np.unique(times, return_index=True)
    if len(times) < MIN_SAMPLES:
        return None
    return Meter(
        source=chosen.channel.source,
        coverage=chosen.channel.coverage,
        times_s=times / NS_PER_S,
        values=values[places],
        cumulative=chosen.channel.quantity == "energy_j",
    )


def _joined(meters: list[Meter]) -> list[Meter]:
    """The packages of one machine as one meter, where they were read in the same moments."""
    packages = [m for m in meters if m.coverage == _ADDABLE and m.cumulative]
    if not packages or any(not np.array_equal(m.times_s, packages[0].times_s) for m in packages):
        return meters
    whole = Meter(
        source=" + ".join(m.source for m in packages),
        coverage=_ADDABLE,
        times_s=packages[0].times_s,
        values=np.sum([m.values - m.values[0] for m in packages], axis=0),
        cumulative=True,
    )
    return [m for m in meters if m not in packages] + [whole]


def _rank(coverage: str) -> int:
    return _COVERAGE.index(coverage) if coverage in _COVERAGE else len(_COVERAGE)


def _why_none(raw: Raw) -> str:
    parts = sorted(
        {
            c.channel.source
            for c in raw.columns
            if c.channel.quantity in _QUANTITIES and len(c.values)
        }
    )
    if parts:
        return f"no sensor covers the whole, only parts: {', '.join(parts)}"
    refused = [why for why in raw.refused if any(q in why for q in _QUANTITIES)]
    if refused:
        return refused[0]
    return raw.measured.missing.get("power", "no power sensor that this user may read")
