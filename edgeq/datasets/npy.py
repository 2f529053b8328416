"""A .npy file: an array of samples, without labels."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edgeq.core.project import Input
from edgeq.core.samples import Samples
from edgeq.datasets import features, rows, tensors
from edgeq.datasets.features import FeatureChunk
from edgeq.datasets.rows import Header
from edgeq.errors import DataError
from edgeq.ports import Chunk, DataFacts, TensorSpecs


def make() -> "NpyFile":
    return NpyFile()


class NpyFile:
    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".npy"

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        if limit is not None:
            total = self.describe(path, inputs, settings).samples
            batch = features.rows_at_a_time(inputs)
            return features.pick(self.stream(path, inputs, settings, batch), total, limit)
        _refuse_several(path, inputs)
        with _opened(path) as stream:
            array = rows.read_array(stream, str(path))
        samples = tensors.fit(array, inputs[0], str(path))
        return Samples(
            inputs=(tensors.preprocess(samples, settings, str(path)),), origin=str(path), sha256=""
        )

    def describe(self, path: Path, inputs: TensorSpecs, settings: Input) -> DataFacts:
        """See ``ports.Dataset``."""
        with _opened(path) as stream:
            header = _header(stream, path, inputs)
        layout = features.picture_layout([header], inputs, settings)
        return DataFacts(
            samples=header.samples,
            labelled=False,
            picture=(layout.height, layout.width) if layout else None,
        )

    def chunks(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Chunk]:
        """See ``ports.Dataset``."""
        with _opened(path) as stream:
            header = _header(stream, path, inputs)
            first = 0
            for array in rows.read_rows(stream, header, batch, str(path)):
                yield FeatureChunk(
                    arrays=(array,),
                    names=(str(path),),
                    inputs=inputs,
                    settings=settings,
                    labels=None,
                    layout=features.picture_layout([header], inputs, settings),
                    origin=str(path),
                    first=first,
                )
                first += len(array)

    def stream(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Samples]:
        """See ``ports.Dataset``."""
        for chunk in self.chunks(path, inputs, settings, batch):
            yield chunk.samples()


def _refuse_several(path: Path, inputs: TensorSpecs) -> None:
    if len(inputs) != 1:
        raise DataError(
            f"{path} is one array, but the model has {len(inputs)} inputs",
            hint="give an .npz with one array for each: " + ", ".join(s.name for s in inputs),
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with stream:
        yield stream


def _header(stream: IO[bytes], path: Path, inputs: TensorSpecs) -> Header:
    """Checked against the input and against what the file really holds."""
    _refuse_several(path, inputs)
    header = rows.read_header(stream, str(path))
    tensors.refuse_shape(header.shape, header.dtype, inputs[0], str(path))
    rows.refuse_other_size(header, path.stat().st_size - stream.tell(), str(path))
    return header
