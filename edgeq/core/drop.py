"""How much accuracy an artifact loses, with an interval that few samples do not fool.

Both models answer the same samples, so the counts are paired: ``losses`` samples that only the
float model gets right, ``gains`` that only the artifact does. The interval for the drop
(losses - gains) / n is Tango's score interval (Statistics in Medicine 17 (1998), 891-908): it holds
every drop that McNemar's test, turned to that drop, does not refuse. It stays right where the
counts are small or 0, as they are for a sound artifact: with none of n samples lost its upper end
is z² / (n + z²), not 0. A share has Wilson's interval, which is the same idea for one count.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

_STEPS = 60  # halvings: below the rounding of a double
_MOST_SAMPLES = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One sample each. ``losses``: only the float model was right; ``gains``: only the artifact."""

    samples: int
    losses: int
    gains: int

    @property
    def drop(self) -> float:
        """Float accuracy less the artifact's."""
        return (self.losses - self.gains) / self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From ``low`` to ``high``. With bounds of 95 % each it is the two-sided interval of 90 %."""

    low: float
    high: float


def drop_interval(counts: Counts, confidence: float) -> Interval:
    """Bounds of the drop, each of which holds with ``confidence`` by itself (one-sided)."""
    n, losses, gains = counts.samples, counts.losses, counts.gains
    z = _z(confidence)
    return Interval(
        low=_root(lambda drop: _score(n, losses, gains, drop) - z),
        high=_root(lambda drop: _score(n, losses, gains, drop) + z),
    )


def share_interval(hits: int, samples: int, confidence: float) -> Interval:
    """Wilson's bounds for a share of ``hits`` in ``samples``, one-sided as in ``drop_interval``."""
    z = _z(confidence)
    share, weight = hits / samples, z * z / samples
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / samples + weight / samples / 4) / (1 + weight)
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == samples else middle + half
    return Interval(low=low, high=high)


def samples_for_drop(limit: float, confidence: float, counts: Counts | None = None) -> int | None:
    """About how many samples prove a drop of at most ``limit``; None: no number does.

    Without ``counts`` the fewest that can, when none is lost; with them as many as it takes if
    losses and gains go on at the same rate.
    """
    if limit <= 0 or (counts and counts.drop >= limit):
        return None
    z = _z(confidence)
    fewest = max(1, math.ceil(z**2 * (1 - limit) / limit))  # from z² / (n + z²) <= limit
    if counts is None or counts.losses + counts.gains == 0:
        return fewest
    losses, gains = counts.losses / counts.samples, counts.gains / counts.samples

    def proves(samples: int) -> bool:
        return _score(samples, losses * samples, gains * samples, limit) <= -z

    most = fewest
    while not proves(most):
        most *= 2
        if most > _MOST_SAMPLES:
            return None
    while most - fewest > 1:
        middle = (most + fewest) // 2
        fewest, most = (fewest, middle) if proves(middle) else (middle, most)
    return most


def samples_for_share(least: float, confidence: float) -> int | None:
    """Fewest samples that can prove a share of at least ``least``, when all are hits."""
    # Wilson's lower end for n of n is n / (n + z²)
    return samples_for_drop(1 - least, confidence)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)


def _score(n: int, losses: float, gains: float, drop: float) -> float:
    """Tango's statistic for a supposed drop: standard normal if it is the true one.

    The chance of a gain, which the drop leaves open, is the likeliest under that drop (his
    equation for q21).
    """
    b = -losses - gains + (2 * n - losses + gains) * drop
    root = math.sqrt(max(0.0, b * b + 8 * n * gains * drop * (1 - drop)))
    gain_chance = (root - b) / (4 * n)
    variance = n * (2 * gain_chance + drop * (1 - drop))
    distance = losses - gains - n * drop
    if variance <= 0:  # no doubt is left: at 0 with equal counts, at 1 and -1
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _root(falling: Callable[[float], float]) -> float:
    """Where a falling function crosses 0 between -1 and 1; the end where it does not."""
    low, high = -1.0, 1.0
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
