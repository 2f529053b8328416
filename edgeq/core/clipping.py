"""How far weights may reach before it is better to cut them off."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_ROUNDS = 50
_SETTLED = 1e-5


def octav_limits(rows: Floats, bits: int) -> Floats:
    """The magnitude at which to clip each row so that its mean square error is least.

    Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation for Improved
    Quantization-aware Training", equation 7: s = E|w| over |w| > s, over (4^-bits / 3) P(0 < |w| <=
    s) + P(|w| > s), iterated by Newton's method from the mean magnitude.

    Args:
        rows: Of shape ``(channels, weights)``.
        bits: Of the quantized weights.

    Returns:
        One per channel, no larger than the largest magnitude; 0 for a channel of zeros.
    """
    sizes = np.abs(rows.astype(np.float64))
    largest = sizes.max(axis=1, initial=0.0)
    limit = sizes.mean(axis=1) if sizes.size else largest
    noise = 4.0**-bits / 3
    for _ in range(_ROUNDS):
        outside = sizes > limit[:, None]
        inside = (sizes > 0) & ~outside
        weight = noise * inside.sum(axis=1) + outside.sum(axis=1)
        total = (sizes * outside).sum(axis=1)
        new = np.divide(total, weight, out=limit.copy(), where=(weight > 0) & (total > 0))
        settled = np.allclose(new, limit, rtol=_SETTLED, atol=0)
        limit = new
        if settled:
            break
    clipped: Floats = np.minimum(limit, largest).astype(np.float32)
    return clipped
