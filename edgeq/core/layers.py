"""The error of one tensor between a float model and its artifact, over all samples.

With f the float values and a the artifact's, dequantized: SQNR = 10 log10(sum f² / sum (f - a)²)
dB. Equalization divides a channel by a factor and the next layer's weights undo it; then f and a
of a channel differ by a factor k, and the error is reckoned with k undone:
k = sum fa / sum f² is the factor that fits best.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

KEPT = 2048
"""Values of each tensor and sample that the percentile is taken from."""
_RESCALED_DB = 10.0
_RESCALED_FACTOR = 1.15
_ENOUGH = 20  # values of a channel: a factor fitted to n of them explains 1 / n of any noise
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Error:
    """What one tensor's samples came to.

    Attributes:
        sqnr_db: None when both are equal, or the float one is all 0.
        mean_square: Of the float values.
        p999: 99.9 % of the float values' magnitudes are not above it.
        factors: Of each channel, k; None where the channels have the float model's scales.
        clip_noise_share: Of the error's energy, what the end of the range cut off; None: float.
        peaks: Largest magnitude of each channel in the float model.
        dead: Channels that are always 0 in the float model.
        lost: Channels that change in the float model, but never in the artifact.
    """

    sqnr_db: float | None
    max_abs_error: float
    mean_square: float
    low: float
    high: float
    p999: float
    clipped_share: float | None
    clip_noise_share: float | None
    factors: Doubles | None
    peaks: Doubles
    dead: int
    lost: int


class Tally:
    """Takes pairs of tensors, one pair a sample, and sums up.

    Args:
        axis: Of the channels; negative counts from the end.
        limits: Least and largest value of the artifact's type; None: it is float.
    """

    def __init__(self, axis: int, limits: tuple[float, float] | None) -> None:
        self._axis = axis
        self._limits = limits
        self._count = 0
        self._clipped = 0
        self._clip_noise = 0.0
        self._max_error = 0.0
        self._sums: Doubles | None = None
        self._ranges: Doubles | None = None
        self._kept: list[npt.NDArray[np.float32]] = []

    def add(self, plain: npt.NDArray[np.generic], artifact: npt.NDArray[np.generic]) -> None:
        """Take one sample; both of one shape."""
        f, a = (_by_channel(array, self._axis) for array in (plain, artifact))
        noise = (f - a) ** 2
        sums = np.stack([(f * f).sum(0), (a * a).sum(0), (f * a).sum(0), noise.sum(0)])
        ranges = np.stack([-f.min(0), f.max(0), -a.min(0), a.max(0)])
        self._sums = sums if self._sums is None else self._sums + sums
        self._ranges = ranges if self._ranges is None else np.maximum(self._ranges, ranges)
        self._count += f.size
        self._max_error = max(self._max_error, float(np.sqrt(noise.max())))
        self._kept.append(_some(np.abs(f).ravel()))
        if self._limits:
            beyond = f - np.clip(f, *self._limits)
            step = (self._limits[1] - self._limits[0]) * 1e-6
            self._clipped += int(np.count_nonzero(np.abs(beyond) > step))
            self._clip_noise += float((beyond**2).sum())

    def error(self) -> Error | None:
        """None before the first sample."""
        if self._sums is None or self._ranges is None:
            return None
        signal, noise = float(self._sums[0].sum()), float(self._sums[3].sum())
        factors = None
        if self._count >= _ENOUGH * self._sums.shape[1]:
            factors = _factors(self._sums, noise)
        if factors is not None:
            noise = float(_undone(self._sums, factors).sum())
        known = signal > 0 and noise > 0
        moved = self._ranges[0] + self._ranges[1] > 0
        still = self._ranges[2] + self._ranges[3] <= 0
        peaks = np.maximum(np.abs(self._ranges[0]), np.abs(self._ranges[1]))
        exact = self._limits is None or factors is not None
        return Error(
            sqnr_db=float(10 * np.log10(signal / noise)) if known else None,
            max_abs_error=self._max_error,
            mean_square=signal / self._count,
            low=float(-self._ranges[0].max()),
            high=float(self._ranges[1].max()),
            p999=float(np.quantile(np.concatenate(self._kept), 0.999)),
            clipped_share=None if exact else self._clipped / self._count,
            clip_noise_share=None if exact or noise <= 0 else min(1.0, self._clip_noise / noise),
            factors=factors,
            peaks=peaks,
            dead=int(np.count_nonzero(peaks == 0)),
            lost=int(np.count_nonzero(moved & still)),
        )


def _factors(sums: Doubles, noise: float) -> Doubles | None:
    """Of equalized channels; None where undoing factors would not explain most of the error."""
    f2, _, fa, _ = sums
    factors = np.divide(fa, f2, out=np.ones_like(f2), where=(fa > 0) & (f2 > 0))
    odd = np.maximum(factors, 1 / factors).max(initial=1.0) > _RESCALED_FACTOR
    gained = float(_undone(sums, factors).sum()) < noise * 10 ** (-_RESCALED_DB / 10)
    return factors if odd and gained else None


def _undone(sums: Doubles, factors: Doubles) -> Doubles:
    """Energy of each channel's error once its factor is undone: sum (f - a / k)²."""
    f2, a2, fa, _ = sums
    energy: Doubles = np.maximum(0.0, f2 - 2 * fa / factors + a2 / factors**2)
    return energy


def _by_channel(array: npt.NDArray[np.generic], axis: int) -> Doubles:
    """As (values, channels); a scalar or vector of one axis has one channel."""
    wide = np.asarray(array, np.float64)
    if wide.ndim < 2:  # noqa: PLR2004  no axis beside the channels'
        return wide.reshape(-1, 1)
    return np.moveaxis(wide, axis, -1).reshape(-1, wide.shape[axis])


def _some(values: Doubles) -> npt.NDArray[np.float32]:
    """The same places of every sample, drawn once: not every n-th, which may be one channel."""
    if len(values) > KEPT:
        values = values[np.random.default_rng(_SEED).integers(0, len(values), KEPT)]
    return values.astype(np.float32)
