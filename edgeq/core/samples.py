"""Samples: model inputs that came from the user's data, preprocessed."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Inputs in the source's order.

    Attributes:
        inputs: One array per model input, each float32 of shape ``(count, …)``, preprocessed.
        labels: int64 of shape ``(count,)``, or None.
        label_names: Class names by number; empty when labels are bare numbers.
        origin: What the user named.
        sha256: Of contents, labels and preprocessing.
        warnings: What the audit found.
    """

    inputs: tuple[npt.NDArray[np.float32], ...]
    labels: npt.NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ()
    origin: str
    sha256: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        return len(self.inputs[0])


def spread(total: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Places of ``limit`` items spread evenly over ``total``."""
    if limit is None or limit >= total:
        return np.arange(total, dtype=np.int64)
    return (np.arange(limit, dtype=np.int64) * total) // limit
