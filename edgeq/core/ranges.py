"""Where to cut off the values that a tensor takes, before they are quantized.

The smallest and largest value are safe; but a few rare ones may cost all the others half of the
steps. How much to cut off differs by model (measured: nothing to 6 dB), so rules are tried.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rule = Literal["minmax", "0.001%", "0.01%", "error"]
RULES: tuple[Rule, ...] = ("minmax", "0.001%", "0.01%", "error")
"""``minmax`` cuts off nothing; the next two so much at each end; ``error`` so much that the mean
square of what rounding and cutting off change is least."""

_SHARES: dict[Rule, float] = {"0.001%": 1e-5, "0.01%": 1e-4}
BINS = 2048
_STEPS = 255
_SHRINKS = np.linspace(1.0, 0.3, 36)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Smallest and largest value."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What was measured of one tensor.

    Attributes:
        counts: How many values fell into each of ``BINS`` equal parts of the range.
    """

    range: Range
    counts: Doubles


def cut(seen: Seen, rule: Rule) -> Range:
    """The range to quantize a tensor in; 0 is always inside."""
    low, high = seen.range.low, seen.range.high
    if rule != "minmax" and high > low:
        low, high = _of_least_error(seen) if rule == "error" else _of_share(seen, _SHARES[rule])
    return Range(low=min(low, 0.0), high=max(high, 0.0))


def counted(value: Floats, within: Range) -> npt.NDArray[np.int64]:
    """How many values fall into each of ``BINS`` equal parts of a range that holds them all."""
    if within.high <= within.low:
        return np.bincount([0], [value.size], BINS).astype(np.int64)
    # np.histogram takes four times as long
    scaled = (value.ravel() - np.float32(within.low)) * np.float32(
        BINS / (within.high - within.low)
    )
    return np.bincount(np.clip(scaled, 0, BINS - 1).astype(np.int32), minlength=BINS)


def _of_share(seen: Seen, share: float) -> tuple[float, float]:
    """Without that share of the values at each end; an end at 0 stays, as after a ReLU."""
    edges = np.linspace(seen.range.low, seen.range.high, BINS + 1)
    reached = np.cumsum(seen.counts) / seen.counts.sum()
    high = float(edges[1:][np.searchsorted(reached, 1 - share)])
    low = float(edges[:-1][np.searchsorted(reached, share, side="right")])
    return (low if seen.range.low < 0 else seen.range.low), high


def _of_least_error(seen: Seen) -> tuple[float, float]:
    """Each end is drawn in by itself and both together; rounding errs by step² / 12."""
    edges = np.linspace(seen.range.low, seen.range.high, BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    ends = [
        (min(seen.range.low * left, 0.0), max(seen.range.high * right, 0.0))
        for shrink in _SHRINKS
        for left, right in ((shrink, shrink), (1.0, shrink), (shrink, 1.0))
    ]

    def error(pair: tuple[float, float]) -> float:
        low, high = pair
        beyond = np.maximum(middles - high, 0) + np.maximum(low - middles, 0)
        rounding = ((high - low) / _STEPS) ** 2 / 12
        return float((seen.counts * np.where(beyond > 0, beyond**2, rounding)).sum())

    return min(ends, key=error)
