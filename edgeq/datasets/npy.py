"""A .npy file: an array of samples, without labels."""

from pathlib import Path

from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import tensors
from edgeq.errors import DataError
from edgeq.ports import TensorSpecs


def make() -> "NpyFile":
    return NpyFile()


class NpyFile:
    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".npy"

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        if len(inputs) != 1:
            raise DataError(
                f"{path} is one array, but the model has {len(inputs)} inputs",
                hint="give an .npz with one array for each: " + ", ".join(s.name for s in inputs),
            )
        try:
            with path.open("rb") as stream:
                array = tensors.read_array(stream, str(path))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        samples = tensors.fit(array, inputs[0], str(path))
        chosen = samples[spread(len(samples), limit)]
        return Samples(
            inputs=(tensors.preprocess(chosen, settings, str(path)),), origin=str(path), sha256=""
        )
