"""Samples from arrays, a few rows at a time: what .npy and .npz have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import tensors
from edgeq.datasets.rows import Header
from edgeq.errors import DataError
from edgeq.ports import Alter, Array, Floats, TensorSpecs

_BYTE = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureChunk:
    """Rows of each input's array; see ``ports.Chunk``.

    Attributes:
        names: What each array is called in a message.
        layout: How pictures lie in the array; None when its numbers are no pixels.
        first: Number of the first row.
    """

    arrays: tuple[Array, ...]
    names: tuple[str, ...]
    inputs: TensorSpecs
    settings: Input
    labels: npt.NDArray[np.int64] | None
    layout: tensors.ImageLayout | None
    origin: str
    first: int

    def samples(self, alter: Alter | None = None) -> Samples:
        """See ``ports.Chunk``."""
        return Samples(
            inputs=tuple(
                tensors.preprocess(self._raw(place, alter), self.settings, self.origin)
                for place in range(len(self.arrays))
            ),
            labels=self.labels,
            origin=self.origin,
            sha256="",
        )

    def _raw(self, place: int, alter: Alter | None) -> Floats:
        raw = tensors.fit(self.arrays[place], self.inputs[place], self.names[place], self.first)
        if alter is None:
            return raw
        if self.layout is None:
            return alter(raw, self.first, place)
        images = alter(self.layout.as_images(raw), self.first, place)
        return np.ascontiguousarray(self.layout.arrange(images))


def picture_layout(
    headers: Sequence[Header], inputs: TensorSpecs, settings: Input
) -> tensors.ImageLayout | None:
    """How the pictures lie when there is one input that takes them, and its array holds bytes."""
    if len(inputs) != 1 or headers[0].dtype != _BYTE:
        return None
    try:
        return tensors.image_layout(inputs[0], settings)
    except DataError:
        return None  # the input takes no pictures, so the bytes are other numbers


def pick(chunks: Iterator[Samples], total: int, limit: int) -> Samples:
    """``limit`` samples spread evenly over ``total``, which come in chunks."""
    wanted = spread(total, limit)
    taken: list[Samples] = []
    first = 0
    for chunk in chunks:
        places = wanted[(wanted >= first) & (wanted < first + chunk.count)] - first
        first += chunk.count
        if len(places):
            taken.append(_take(chunk, places))
    labels = [chunk.labels for chunk in taken if chunk.labels is not None]
    return Samples(
        inputs=tuple(
            np.concatenate([chunk.inputs[place] for chunk in taken])
            for place in range(len(taken[0].inputs))
        ),
        labels=np.concatenate(labels) if labels else None,
        label_names=taken[0].label_names,
        origin=taken[0].origin,
        sha256="",
        warnings=taken[0].warnings,
    )


def rows_at_a_time(inputs: Sequence[TensorSpec]) -> int:
    """How many samples are read together where nobody says: about 8 MiB."""
    sample_bytes = 4 * sum(int(np.prod(spec.shape[1:])) for spec in inputs)
    return max(1, (8 << 20) // max(sample_bytes, 1))


def _take(chunk: Samples, places: npt.NDArray[np.int64]) -> Samples:
    return Samples(
        inputs=tuple(array[places] for array in chunk.inputs),
        labels=None if chunk.labels is None else chunk.labels[places],
        label_names=chunk.label_names,
        origin=chunk.origin,
        sha256="",
        warnings=chunk.warnings,
    )
