"""The same artifact, the same inputs, two machines: do they answer alike?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Shares of the outputs' range, see docs/decisions/0017-parity.md: of the root mean square of all
# differences, and of the largest one. Quantized kernels of different processors round a step up or
# down here and there; the layers behind and a softmax at the end make up to 13 % of that, in single
# values. One that is wrong is off everywhere.
QUANTIZED_SHARE = (0.05, 0.25)
# Half precision has 11 bits; a sum of products loses a few of them. 16-bit activations are finer.
HALF_SHARE = (0.01, 0.01)
# Single precision sums in another order.
FLOAT_SHARE = (0.001, 0.001)
_SHARES = {
    "int8": QUANTIZED_SHARE,
    "int8-dynamic": QUANTIZED_SHARE,
    # One step of an int4 weight is fixed in the file; what differs are the int8 activations.
    "int4-weights": QUANTIZED_SHARE,
    # Some of its tensors are int8, and those decide.
    "mixed": QUANTIZED_SHARE,
    "int16x8": HALF_SHARE,
    "fp16": HALF_SHARE,
    "float32": FLOAT_SHARE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far the device's outputs are from the host's.

    Attributes:
        max_abs_diff: None when an output is not a finite number, or has another shape.
        limit: Largest difference that is still rounding; smaller where all of them together are
            too large for that.
        identical: Every value is the same.
    """

    samples: int
    max_abs_diff: float | None
    limit: float
    identical: bool


def compare(host: Sequence[Floats], device: Sequence[Floats], precision: str) -> Parity:
    """Compare golden outputs, one array of shape (samples, …) per output of the model.

    With several outputs the figures are those of the one that is farthest off for its range.
    """
    typical, largest = _SHARES[precision]
    samples = len(host[0])
    if len(host) != len(device):
        return Parity(samples=samples, max_abs_diff=None, limit=largest, identical=False)
    pairs = list(zip(host, device, strict=True))
    ranges = [_range(ours) for ours in host]
    differences = [_difference(ours, theirs) for ours, theirs in pairs]
    known = [difference for difference in differences if difference is not None]
    if len(known) != len(differences):
        limit = largest * ranges[0]
        return Parity(samples=samples, max_abs_diff=None, limit=limit, identical=False)
    limits = [
        (largest if found.rms <= typical * size else typical) * size
        for found, size in zip(known, ranges, strict=True)
    ]
    worst = max(range(len(pairs)), key=lambda number: known[number].largest / limits[number])
    return Parity(
        samples=samples,
        max_abs_diff=known[worst].largest,
        limit=limits[worst],
        identical=all(np.array_equal(ours, theirs) for ours, theirs in pairs),
    )


def _range(output: Floats) -> float:
    # Outputs that are all the same have no range: then their size stands for it.
    return float(np.ptp(output)) or float(np.abs(output).max()) or 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """The root mean square of all differences, which is never above the largest one."""

    rms: float
    largest: float


def _difference(ours: Floats, theirs: Floats) -> _Difference | None:
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return None
    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return _Difference(rms=float(np.sqrt(np.mean(apart**2))), largest=float(apart.max()))
