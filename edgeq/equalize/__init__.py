"""Cross-layer equalization of float model files: one file a format, named by its suffix.

``core.equalization`` has the rule; a file here finds the layers and pairs in its format.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from edgeq import formats
from edgeq.core import noise
from edgeq.core.equalization import Doubles, Pair
from edgeq.core.model import TensorSpec
from edgeq.ports import Batch

TOLERANCE = 1e-4
"""Largest difference of an output, relative to its largest value: the same sums of float32 numbers
that were rounded once more."""
_PROBES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was scaled.

    Attributes:
        pairs: Names of the two layers' outputs.
        channels: How many channels were scaled.
        largest_scale: The furthest that one was scaled, up or down; 1.0 when none was.
    """

    pairs: tuple[tuple[str, str], ...]
    channels: int
    largest_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Equalized:
    """What came of it.

    Attributes:
        changes: None when the file is as it was, and ``reason`` says why.
        max_relative_diff: Of the outputs before and after; 0.0 without changes.
    """

    changes: Changes | None
    reason: str = ""
    max_relative_diff: float = 0.0


class Module(Protocol):
    """A file of this package."""

    def scale(self, content: bytes) -> tuple[bytes, Changes]:
        """The file with equalized channels.

        Raises:
            ModelError: the file is damaged.
        """


def equalize(pivot: Path, out: Path, batches: Sequence[Batch] | None = None) -> Equalized:
    """Write ``out``: the pivot with equalized channels, or just as it was.

    Args:
        pivot: A float model.
        out: Of the same suffix.
        batches: Inputs for the comparison of the outputs; None: random ones.

    Raises:
        ModelError: the pivot is damaged or cannot run.
    """
    module = cast("Module", importlib.import_module(f"{__name__}.{pivot.suffix[1:]}"))
    before = pivot.read_bytes()
    after, changes = module.scale(before)
    if not changes.channels:
        out.write_bytes(before)
        return Equalized(changes=None, reason="no two layers with channels to equalize")
    out.write_bytes(after)
    difference = _difference(pivot, out, batches)
    if not difference <= TOLERANCE:  # NaN too
        out.write_bytes(before)
        return Equalized(
            changes=None, reason=f"equalized, the float outputs differ by {difference:.2g}"
        )
    return Equalized(changes=changes, max_relative_diff=difference)


def changes_of(names: Sequence[str], pairs: Sequence[Pair], scales: Sequence[Doubles]) -> Changes:
    """What pairs of layers, named by ``names``, were scaled by."""
    every = np.concatenate([np.ones(1), *scales])
    return Changes(
        pairs=tuple((names[pair.first], names[pair.second]) for pair in pairs),
        channels=int(np.count_nonzero(every != 1)),
        largest_scale=float(np.max(np.maximum(every, 1 / every))),
    )


def _difference(before: Path, after: Path, batches: Sequence[Batch] | None) -> float:
    """Largest difference of an output, relative to its largest value."""
    old, new = formats.of(before).runner(before), formats.of(after).runner(after)
    count = len(old.tensors.outputs)
    scales, differences = [TOLERANCE] * count, [0.0] * count
    for batch in _random(old) if batches is None else batches:
        for i, pair in enumerate(zip(old.run(batch), new.run(batch), strict=True)):
            want, got = (np.asarray(array, np.float64) for array in pair)
            scales[i] = max(scales[i], float(np.max(np.abs(want), initial=0.0)))
            largest = np.max(np.abs(want - got), initial=0.0)
            differences[i] = float(np.maximum(differences[i], largest))  # max() drops a NaN
    shares = [one / scale for one, scale in zip(differences, scales, strict=True)]
    return float(np.max(shares, initial=0.0))


def _random(runner: formats.Runner) -> list[Batch]:
    inputs = runner.tensors.inputs
    samples = noise.random_samples(inputs, _PROBES)
    return [
        tuple(
            (array[i : i + 1] * _size(spec, i)).astype(spec.dtype)
            for array, spec in zip(samples.inputs, inputs, strict=True)
        )
        for i in range(_PROBES)
    ]


def _size(spec: TensorSpec, place: int) -> float:
    """Ever smaller: a softmax of large numbers is 0 or 1 whatever went wrong before it."""
    return 10.0 ** -(place // 2) if spec.dtype == "float32" else 1.0
