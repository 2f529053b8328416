"""Samples kept back from training, to see which epoch is best."""

import numpy as np
import numpy.typing as npt

from edgeq.core import calibration
from edgeq.core.samples import Samples
from edgeq.errors import DataError

SHARE = 0.1
LEAST_SAMPLES = 20


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """What trains and what is kept back, a tenth; both keep the source's order.

    With labels each class gives about a tenth, and one sample at least where it has two or more.

    Raises:
        DataError: too few samples.
    """
    if samples.count < LEAST_SAMPLES:
        raise DataError(
            f"{samples.origin} has {samples.count} samples, too few to train on",
            hint=f"give {LEAST_SAMPLES} at the very least; some hundreds are a sensible start",
        )
    random = np.random.default_rng(seed)
    groups = [np.arange(samples.count)]
    if samples.labels is not None:
        groups = [np.flatnonzero(samples.labels == label) for label in np.unique(samples.labels)]
    kept = np.sort(np.concatenate([_some(group, random) for group in groups]))
    if not len(kept):  # classes of one sample each
        kept = np.sort(_some(np.arange(samples.count), random))
    rest = np.setdiff1d(np.arange(samples.count), kept)
    return calibration.take(samples, rest), calibration.take(samples, kept)


def _some(group: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    least = 1 if len(group) > 1 else 0
    count = max(least, round(len(group) * SHARE))
    return random.permutation(group)[:count]
