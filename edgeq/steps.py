"""What runs in worker processes: loading a model and quantizing it."""

from collections.abc import Sequence
from dataclasses import dataclass
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
        # an array is read as a whole anyhow; only of a folder are a few samples cheaper
        limit = _PROBES if request.data.is_dir() else None
        samples = reader.read(request.data, inputs, request.settings, limit)
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
