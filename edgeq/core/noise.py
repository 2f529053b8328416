"""Random samples, the same each time, for models that came without data."""

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.core.samples import Samples

ORIGIN = "random numbers"
_SEED = 7
_BYTE = 256


def random_samples(inputs: tuple[TensorSpec, ...], count: int) -> Samples:
    """Normally distributed; bytes for 8-bit inputs; 0 and 1 for wider whole numbers.

    Wider whole numbers may be rows of a table of unknown length, where others would be out of it.
    """
    generator = np.random.default_rng(_SEED)
    return Samples(
        inputs=tuple(_random(generator, spec, count) for spec in inputs),
        origin=ORIGIN,
        sha256=f"{ORIGIN} {_SEED} {count}",
    )


def _random(
    generator: np.random.Generator, spec: TensorSpec, count: int
) -> npt.NDArray[np.float32]:
    shape = (count, *spec.shape[1:])
    match spec.dtype:
        case "uint8" | "int8":
            low = np.iinfo(spec.dtype).min
            numbers = generator.integers(low, low + _BYTE, shape)
        case "int16" | "int32" | "int64" | "bool":
            numbers = generator.integers(0, 2, shape)
        case _:
            return generator.standard_normal(shape, np.float32)
    return numbers.astype(np.float32)
