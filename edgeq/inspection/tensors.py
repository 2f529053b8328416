"""Between real numbers and what stands in a tensor."""

import numpy as np
import numpy.typing as npt

from edgeq.core.fusion import RANGES
from edgeq.core.graph import Quantization, Tensor

Array = npt.NDArray[np.generic]
Doubles = npt.NDArray[np.float64]
_KINDS = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}


def real(tensor: Tensor, stored: Array) -> Doubles:
    """Real values of a tensor's stored ones; float ones are themselves."""
    values = np.asarray(stored, np.float64)
    found = tensor.quantization
    if found is None or not found.scales or stored.dtype.kind == "f":
        return values
    scale, zero_point = _shaped(found, values.shape)
    return (values - zero_point) * scale


def stored(tensor: Tensor, values: Doubles) -> Array:
    """What a tensor would hold for real values: rounded and cut off where its type ends."""
    found = tensor.quantization
    if found is None or not found.scales or tensor.dtype not in RANGES:
        kind = np.dtype(tensor.dtype)
        return np.rint(values).astype(kind) if kind.kind in "iu" else values.astype(kind)
    low, high = RANGES[tensor.dtype]
    scale, zero_point = _shaped(found, values.shape)
    # runtimes divide in float32 and round halves to even or away: half a step either way
    steps = np.rint(values / scale) + zero_point
    return np.clip(steps, low, high).astype(_KINDS.get(tensor.dtype, tensor.dtype))


def _shaped(found: Quantization, shape: tuple[int, ...]) -> tuple[Doubles, Doubles]:
    """Scales and zero points so that they broadcast."""
    scale = np.asarray(found.scales, np.float64)
    zero_point = np.asarray(found.zero_points, np.float64)
    if found.axis is None or len(scale) == 1 or not shape:
        return scale.reshape(-1)[0], zero_point.reshape(-1)[0]
    sides = [1] * len(shape)
    sides[found.axis] = -1
    zero = zero_point.reshape(sides) if len(zero_point) > 1 else zero_point[0]
    return scale.reshape(sides), np.asarray(zero)
