"""The weights of two operators side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.core.graph import Op, Tensor
from edgeq.inspection.tensors import Array, Doubles, real


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Constants of an artifact and of its float model, as they are stored, by tensor number."""

    tensors: tuple[Tensor, ...]
    constants: Mapping[int, Array]
    plain: Mapping[int, Array]

    def decibels(self, op: Op, other: Op) -> float | None:
        """SQNR of the largest quantized constant; None where there is none, or it is exact."""
        found = self._largest(op, other)
        if found is None:
            return None
        ours, theirs = found
        noise, signal = float(((ours - theirs) ** 2).sum()), float((theirs**2).sum())
        return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None

    def likeness(self, op: Op, other: Op) -> float:
        """Correlation of the largest constants; 1 where there are none to compare."""
        found = self._largest(op, other)
        if found is None:
            return 1.0
        ours, theirs = found
        length = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
        return float((ours * theirs).sum()) / length if length > 0 else 0.0

    def _largest(self, op: Op, other: Op) -> tuple[Doubles, Doubles] | None:
        return max(self._both(op, other), key=lambda pair: pair[0].size, default=None)

    def _both(self, op: Op, other: Op) -> Iterator[tuple[Doubles, Doubles]]:
        """Constants at the same places of both, as real numbers; biases are not among them."""
        for ours, theirs in zip(op.inputs, other.inputs, strict=False):
            one, two = self.constants.get(ours), self.plain.get(theirs)
            if one is None or two is None or one.shape != two.shape or two.dtype.kind != "f":
                continue
            tensor = self.tensors[ours]
            if tensor.quantization and tensor.dtype != "int32":
                yield real(tensor, one), np.asarray(two, np.float64)
