"""What runs in worker processes: loading a model and quantizing it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from edgeq import registry
from edgeq.core import calibration, noise
from edgeq.core.model import Artifact, FloatModel, Source
from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import stored
from edgeq.errors import DataError, ModelError
from edgeq.loaders.pivot import RejectedSampleError
from edgeq.ports import (
    Batch,
    Dataset,
    Loader,
    LoadOptions,
    OnProgress,
    Quantizer,
    Recipe,
    TensorSpecs,
)

_PROBES = 8
_SMALL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """``data`` and ``reader``: real inputs for the comparison; None: random ones."""

    source: Source
    loader: str
    folder: Path
    options: LoadOptions
    settings: Input
    data: Path | None
    reader: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """``calibration``: a folder that ``stored.write`` filled."""

    pivot: FloatModel
    recipe: Recipe
    calibration: Path | None
    folder: Path


def load(request: LoadRequest, on_progress: OnProgress) -> FloatModel:
    """Make the pivot in ``request.folder`` and compare it with its source.

    Raises:
        ModelError: the model cannot be used, or its pivot gives other answers.
        DataError: the data cannot be read or used, or the model rejects a sample of it.
    """
    numbers: list[int] = []

    def probe(inputs: TensorSpecs) -> Sequence[Batch]:
        on_progress("compare", 0, 0)
        if request.data is None or request.reader is None:
            return batches(noise.random_samples(inputs, _PROBES), inputs)
        reader = cast("Dataset", registry.find("datasets", request.reader))
        # a small array is read as a whole: that it is usable shows early, with the sample's number
        limit = None if _is_small(reader, request, inputs) else _PROBES
        samples = reader.read(request.data, inputs, request.settings, limit)
        if limit is not None:
            samples = replace(samples, origin=f"{samples.count} samples spread over {request.data}")
        calibration.refuse_unusable(samples, inputs)
        places = spread(samples.count, _PROBES)
        numbers.extend(places.tolist() if limit is None else ())
        return batches(calibration.take(samples, places), inputs)

    loader = cast("Loader", registry.find("loaders", request.loader))
    try:
        return loader.load(request.source, request.folder, request.options, probe)
    except RejectedSampleError as error:
        if request.data is None:
            raise ModelError(error.message, hint=error.hint) from error
        which = f"sample {numbers[error.place]}" if numbers else "a sample"
        raise DataError(
            f"the model rejects {which} of {request.data}: {error.message}",
            hint="do its values mean what the model was trained on?",
        ) from error


def _is_small(reader: Dataset, request: LoadRequest, inputs: TensorSpecs) -> bool:
    if request.data is None or request.data.is_dir():
        return False
    sample_bytes = 4 * sum(math.prod(spec.shape[1:]) for spec in inputs)
    samples = reader.describe(request.data, inputs, request.settings).samples
    return samples * sample_bytes <= _SMALL_BYTES


def quantize(request: QuantizeRequest, on_progress: OnProgress) -> Artifact:
    """Make the artifact in ``request.folder``."""
    on_progress("quantize", 0, 0)
    samples = stored.read(request.calibration, "") if request.calibration else None
    quantizer = cast("Quantizer", registry.find("quantizers", request.pivot.format))
    return quantizer.quantize(request.pivot, request.recipe, samples, request.folder)


def batches(samples: Samples, inputs: TensorSpecs) -> list[Batch]:
    """Each sample as a batch of one, in the inputs' own types."""
    typed = [array.astype(spec.dtype) for array, spec in zip(samples.inputs, inputs, strict=True)]
    return [tuple(array[i : i + 1] for array in typed) for i in range(samples.count)]
