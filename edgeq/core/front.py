"""Which candidate wins on a device: the Pareto front of what it costs there and what it is worth.

A candidate is on the front when no other is at least as good in every figure that is known of both
and better in one, by more than measuring them twice would differ. Of the front the fastest wins;
of those that are as fast the one that takes least energy, then least memory, then the smallest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LATENCY_NOISE = 0.05
"""Medians of the same model differ by so much between runs on an unsettled machine."""

MEMORY_NOISE = 0.02
ENERGY_NOISE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One candidate on a device.

    Attributes:
        spread_ms: Between the largest and the smallest median of its rounds.
        worth: Accuracy, else agreement, else SQNR: larger is better.
        energy_mj: Of one inference; None where no meter is.
    """

    name: str
    p50_ms: float
    spread_ms: float
    worth: float
    size_bytes: int
    peak_rss_mib: float | None = None
    energy_mj: float | None = None


def front(candidates: Sequence[Measured]) -> tuple[int, ...]:
    """Places of those that no other one beats."""
    return tuple(
        place
        for place, one in enumerate(candidates)
        if not any(_beats(other, one) for other in candidates if other is not one)
    )


def winner(candidates: Sequence[Measured]) -> int | None:
    """Place of the one to take; None where nothing was measured."""
    best = front(candidates)
    if not best:
        return None
    fastest = min(best, key=lambda place: candidates[place].p50_ms)
    left = [place for place in best if not _slower(candidates[place], candidates[fastest])]
    left = _least(left, [one.energy_mj for one in candidates], ENERGY_NOISE)
    left = _least(left, [one.peak_rss_mib for one in candidates], MEMORY_NOISE)
    return min(left, key=lambda place: (candidates[place].size_bytes, -candidates[place].worth))


def _least(places: Sequence[int], values: Sequence[float | None], noise: float) -> list[int]:
    """Those that take no more than the least, but for noise; all where not all is known."""
    known = [value for place in places if (value := values[place]) is not None]
    if len(known) < len(places):
        return list(places)
    most = min(known) * (1 + noise)
    return [place for place in places if (value := values[place]) is not None and value <= most]


def _beats(one: Measured, other: Measured) -> bool:
    """At least as good in all, better in one."""
    pairs = [
        _compare(one.peak_rss_mib, other.peak_rss_mib, MEMORY_NOISE),
        _compare(one.energy_mj, other.energy_mj, ENERGY_NOISE),
        1 if _slower(other, one) else -1 if _slower(one, other) else 0,
        1 if one.worth > other.worth else -1 if one.worth < other.worth else 0,
    ]
    return min(pairs) >= 0 and max(pairs) > 0


def _slower(one: Measured, other: Measured) -> bool:
    """By more than noise and than their rounds differ among themselves."""
    noise_ms = max(LATENCY_NOISE * other.p50_ms, (one.spread_ms + other.spread_ms) / 2)
    return one.p50_ms > other.p50_ms + noise_ms


def _compare(one: float | None, other: float | None, noise: float) -> int:
    """1 where ``one`` is less, -1 where it is more; 0 where it is as much or not known."""
    if one is None or other is None or abs(one - other) <= noise * min(one, other):
        return 0
    return 1 if one < other else -1
