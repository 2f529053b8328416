"""A .npz file: ``features`` and perhaps ``labels``, or an array for each of several inputs."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import tensors
from edgeq.errors import DataError
from edgeq.ports import TensorSpecs

_FEATURES = "features"
_LABELS = "labels"


def make() -> "NpzFile":
    return NpzFile()


class NpzFile:
    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".npz"

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        arrays = _read(path)
        labels = arrays.pop(_LABELS, None)
        if len(inputs) == 1:
            fitted: tuple[tensors.Floats, ...] = (_only_input(path, arrays, inputs),)
        else:
            fitted = tensors.in_order(arrays, inputs, path)
        chosen = spread(len(fitted[0]), limit)
        numbers = None
        if labels is not None:
            numbers = tensors.fit_labels(labels, len(fitted[0]), str(path))[chosen]
        return Samples(
            inputs=tuple(tensors.preprocess(a[chosen], settings, str(path)) for a in fitted),
            labels=numbers,
            origin=str(path),
            sha256="",
        )


def _only_input(
    path: Path, arrays: dict[str, npt.NDArray[np.generic]], inputs: TensorSpecs
) -> tensors.Floats:
    for name in (_FEATURES, inputs[0].name):
        if name in arrays:
            return tensors.fit(arrays[name], inputs[0], f"{name} in {path}")
    raise DataError(
        f"{path} has no array called {_FEATURES}; it has {', '.join(sorted(arrays)) or 'none'}",
        hint="save it with numpy.savez(FILE, features=…, labels=…)",
    )


def _read(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > tensors.MAX_BYTES:
                raise DataError(f"{path} is larger than 4 GiB unpacked", hint="give fewer samples")
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    arrays[name] = tensors.read_array(stream, f"{name} in {path}")
            return arrays
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{path} is damaged: it is not a whole .npz file",
            hint="save it again with numpy.savez",
        ) from error
