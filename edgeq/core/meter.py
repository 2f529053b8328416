"""From a device's columns to meters: one source's watts or joules over time."""

from dataclasses import dataclass

import numpy as np

from edgeq.core.raw import Column, Numbers, Raw

NS_PER_S = 1e9
# Fewer samples than this say little about a mean.
MIN_SAMPLES = 10
# A gap of more than three sampling periods hides what happened in it.
MAX_GAP_PERIODS = 3.0
QUANTITIES = frozenset({"power_w", "current_a", "voltage_v", "energy_j"})
# The most that is measured wins: what a source covers, from the whole to a part.
_COVERAGE = ("wall", "board", "module", "battery", "rail", "package")
# RAPL has one zone for each processor socket: they stand side by side and may be added.
_ADDABLE = "package"

Stretch = tuple[float, float]
"""From and to, in seconds of the device's monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Meter:
    """One source's readings: watts, or joules where ``cumulative``."""

    source: str
    coverage: str
    times_s: Numbers
    values: Numbers
    cumulative: bool

    @property
    def period_s(self) -> float:
        return float(np.median(np.diff(self.times_s)))

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

    def samples(self, stretches: list[Stretch]) -> int:
        """Readings within them."""
        return sum(int(np.sum((self.times_s >= a) & (self.times_s <= b))) for a, b in stretches)

    def gap_s(self, stretches: list[Stretch]) -> float:
        """The longest time within them that no reading interrupts."""
        return max(self._gap_s(start, end) for start, end in stretches)

    def trouble(self, stretches: list[Stretch]) -> str:
        """Why these stretches cannot be reckoned with; empty when they can."""
        inside = self.samples(stretches)
        if inside < MIN_SAMPLES:
            return f"{inside} readings of {self.source} in that time; it takes {MIN_SAMPLES}"
        longest_s = MAX_GAP_PERIODS * self.period_s
        missed_s = max(end for _, end in stretches) - float(self.times_s[-1])
        if missed_s > longest_s:
            return f"the readings of {self.source} end {missed_s:.2f} s before that time does"
        widest = self.gap_s(stretches)
        if widest > longest_s:
            return f"a gap of {widest:.2f} s in the readings of {self.source}"
        return ""

    def _gap_s(self, start: float, end: float) -> float:
        inner = self.times_s[(self.times_s > start) & (self.times_s < end)]
        before = self.times_s[self.times_s <= start][-1:]
        after = self.times_s[self.times_s >= end][:1]
        # Where there is no reading beyond an end, the end itself closes the gap.
        points = np.concatenate(
            [before if len(before) else [start], inner, after if len(after) else [end]]
        )
        return float(np.max(np.diff(points)))


def meters(raw: Raw) -> list[Meter]:
    """Sources that stand for a whole, the one that covers the most first.

    A total is never added to its parts; parts alone are none.
    """
    sources = _sources(raw)
    whole = [s for s in sources.values() if any(c.channel.total for c in s)] or (
        list(sources.values()) if len(sources) == 1 else []
    )
    found = [meter for columns in whole if (meter := _meter(columns)) is not None]
    return sorted(_joined(found), key=lambda meter: _rank(meter.coverage))


def of_source(raw: Raw, source: str) -> Meter | None:
    """One source's meter; None with fewer than ten readings."""
    columns = _sources(raw).get(source)
    return None if columns is None else _meter(columns)


def _sources(raw: Raw) -> dict[str, list[Column]]:
    sources: dict[str, list[Column]] = {}
    for column in raw.columns:
        if column.channel.quantity in QUANTITIES and len(column.values) >= MIN_SAMPLES:
            sources.setdefault(column.channel.source, []).append(column)
    return sources


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


def _joined(found: list[Meter]) -> list[Meter]:
    """The packages of one machine as one meter, where they were read in the same moments."""
    packages = [m for m in found if m.coverage == _ADDABLE and m.cumulative]
    if not packages or any(not np.array_equal(m.times_s, packages[0].times_s) for m in packages):
        return found
    whole = Meter(
        source=" + ".join(m.source for m in packages),
        coverage=_ADDABLE,
        times_s=packages[0].times_s,
        values=np.sum([m.values - m.values[0] for m in packages], axis=0),
        cumulative=True,
    )
    return [m for m in found if m not in packages] + [whole]


def _rank(coverage: str) -> int:
    return _COVERAGE.index(coverage) if coverage in _COVERAGE else len(_COVERAGE)
