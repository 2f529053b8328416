"""A .npz file: ``features`` and perhaps ``labels``, or an array for each of several inputs."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from edgeq.core.project import Input
from edgeq.core.samples import Samples
from edgeq.datasets import features, rows, tensors
from edgeq.datasets.features import FeatureChunk
from edgeq.datasets.rows import Array, Header
from edgeq.errors import DataError
from edgeq.ports import Chunk, DataFacts, TensorSpecs

_FEATURES = "features"
_LABELS = "labels"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def make() -> "NpzFile":
    return NpzFile()


class NpzFile:
    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".npz"

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        if limit is not None:
            total = self.describe(path, inputs, settings).samples
            batch = features.rows_at_a_time(inputs)
            return features.pick(self.stream(path, inputs, settings, batch), total, limit)
        arrays = _read(path)
        labels = arrays.pop(_LABELS, None)
        names = _names(path, arrays, inputs)
        fitted = tensors.in_order([arrays[name] for name in names], names, inputs, path)
        return Samples(
            inputs=tuple(tensors.preprocess(array, settings, str(path)) for array in fitted),
            labels=(
                None if labels is None else tensors.fit_labels(labels, len(fitted[0]), str(path))
            ),
            origin=str(path),
            sha256="",
        )

    def describe(self, path: Path, inputs: TensorSpecs, settings: Input) -> DataFacts:
        """See ``ports.Dataset``."""
        with _opened(path) as archive, contextlib.ExitStack() as stack:
            members = _inputs(archive, stack, path, inputs)
            headers = [member.header for member in members]
            layout = features.picture_layout(headers, inputs, settings)
            return DataFacts(
                samples=headers[0].samples,
                labelled=_LABELS in _listed(archive),
                picture=(layout.height, layout.width) if layout else None,
            )

    def chunks(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Chunk]:
        """See ``ports.Dataset``. Only the labels are read as a whole."""
        with _opened(path) as archive, contextlib.ExitStack() as stack:
            members = _inputs(archive, stack, path, inputs)
            headers = [member.header for member in members]
            labels = _labels(archive, path, headers[0].samples)
            layout = features.picture_layout(headers, inputs, settings)
            parts = [rows.read_rows(m.stream, m.header, batch, m.origin) for m in members]
            first = 0
            for arrays in zip(*parts, strict=True):
                count = len(arrays[0])
                yield FeatureChunk(
                    arrays=arrays,
                    names=tuple(member.origin for member in members),
                    inputs=inputs,
                    settings=settings,
                    labels=None if labels is None else labels[first : first + count],
                    layout=layout,
                    origin=str(path),
                    first=first,
                )
                first += count

    def stream(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Samples]:
        """See ``ports.Dataset``."""
        for chunk in self.chunks(path, inputs, settings, batch):
            yield chunk.samples()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One array of the zip, open at its data."""

    stream: IO[bytes]
    header: Header
    origin: str


def _names(path: Path, held: Mapping[str, object], inputs: TensorSpecs) -> tuple[str, ...]:
    """What the arrays of the inputs are called."""
    if len(inputs) == 1:
        for name in (_FEATURES, inputs[0].name):
            if name in held:
                return (name,)
        raise DataError(
            f"{path} has no array called {_FEATURES}; it has {', '.join(sorted(held)) or 'none'}",
            hint="save it with numpy.savez(FILE, features=…, labels=…)",
        )
    for spec in inputs:
        if spec.name not in held:
            raise DataError(
                f"{path} has no array called {spec.name}; it has {', '.join(sorted(held))}",
                hint="save one array per input: " + ", ".join(spec.name for spec in inputs),
            )
    return tuple(spec.name for spec in inputs)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except _ZIP_ERRORS as error:
        raise DataError(
            f"{path} is damaged: it is not a whole .npz file",
            hint="save it again with numpy.savez",
        ) from error


def _listed(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {member.filename.removesuffix(".npy"): member for member in archive.infolist()}


def _inputs(
    archive: zipfile.ZipFile, stack: contextlib.ExitStack, path: Path, inputs: TensorSpecs
) -> list[_Member]:
    """The inputs' arrays, checked against them and against what the zip really holds."""
    listed = _listed(archive)
    held = {name: item for name, item in listed.items() if name != _LABELS}
    members = []
    for name, spec in zip(_names(path, held, inputs), inputs, strict=True):
        origin = f"{name} in {path}"
        stream = stack.enter_context(archive.open(listed[name]))
        header = rows.read_header(stream, origin)
        tensors.refuse_shape(header.shape, header.dtype, spec, origin)
        rows.refuse_other_size(header, listed[name].file_size - stream.tell(), origin)
        members.append(_Member(stream=stream, header=header, origin=origin))
    tensors.refuse_lengths([member.header.samples for member in members], inputs, path)
    return members


def _labels(archive: zipfile.ZipFile, path: Path, samples: int) -> npt.NDArray[np.int64] | None:
    listed = _listed(archive)
    if _LABELS not in listed:
        return None
    with archive.open(listed[_LABELS]) as stream:
        array = rows.read_array(stream, f"{_LABELS} in {path}")
    return tensors.fit_labels(array, samples, str(path))


def _read(path: Path) -> dict[str, Array]:
    with _opened(path) as archive:
        members = _listed(archive)
        if sum(member.file_size for member in members.values()) > tensors.MAX_BYTES:
            raise DataError(f"{path} is larger than 4 GiB unpacked", hint="give fewer samples")
        arrays = {}
        for name, member in members.items():
            with archive.open(member) as stream:
                arrays[name] = rows.read_array(stream, f"{name} in {path}")
        return arrays
