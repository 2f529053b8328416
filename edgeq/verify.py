"""The proof that an artifact gives its float model's answers, and the golden set."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import cache
from edgeq.cache import Cache
from edgeq.convert import Converted
from edgeq.core import noise, quality
from edgeq.core.quality import Quality, QualitySource
from edgeq.core.samples import Samples, spread
from edgeq.places import Places
from edgeq.ports import Array, Floats, OnProgress, Predict

GOLDEN_SAMPLES = 8
_RANDOM_SAMPLES = 32
_GOLDEN = "golden.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The comparison, and the golden set: inputs in the model's types, the artifact's outputs.

    Arrays have the shape ``(samples, …)``, one per input or output. ``warnings``: plain sentences,
    for the report.
    """

    quality: Quality
    golden_inputs: tuple[Array, ...]
    golden_outputs: tuple[Floats, ...]
    cached: bool
    warnings: tuple[str, ...] = ()


def verify(
    converted: Converted, predict: Predict, *, places: Places, on_progress: OnProgress
) -> Verified:
    """Run the float model and the artifact on the best samples there are, and compare.

    Evaluation data is best, then what calibration left over, what it used, random numbers.

    Raises:
        ModelError: NaN in the outputs.
        DataError: labels that the model has no class for.
    """
    on_progress("verify", 0, 0)
    samples, source = _verification_samples(converted)
    parts = {
        **cache.versions(),
        "pivot": converted.pivot.sha256,
        "artifact": converted.artifact.sha256,
        "samples": samples.sha256,
        "source": source,
    }
    make = partial(_verify, converted, samples, source, predict)
    entry = Cache(places.cache).entry("quality", parts, make)
    inputs, outputs = _read_golden(entry.folder, len(samples.inputs))
    compared = cache.read(Quality, entry.folder)
    return Verified(
        quality=compared,
        golden_inputs=inputs,
        golden_outputs=outputs,
        cached=entry.cached,
        warnings=tuple(_warnings(compared, converted)),
    )


def _warnings(compared: Quality, converted: Converted) -> Iterator[str]:
    classes = quality.classes_of(converted.pivot.outputs, converted.pivot.inputs)
    if compared.float_accuracy is not None and quality.guesses(compared, classes):
        yield (
            f"the float model itself is right on only {compared.float_accuracy:.0%} of "
            f"{compared.samples} samples: is the preprocessing in edgeq.toml right, and the order "
            "of the classes?"
        )


def _verification_samples(converted: Converted) -> tuple[Samples, QualitySource]:
    if converted.evaluation:
        return converted.evaluation, "evaluation"
    for samples in (converted.spare, converted.calibration):
        if samples:
            # its labels are for choosing samples; a figure called accuracy needs data kept apart
            return replace(samples, labels=None), "calibration"
    return noise.random_samples(converted.pivot.inputs, _RANDOM_SAMPLES), "random"


def _verify(
    converted: Converted,
    samples: Samples,
    source: QualitySource,
    predict: Predict,
    folder: Path,
) -> None:
    inputs = [
        array.astype(spec.dtype)
        for array, spec in zip(samples.inputs, converted.pivot.inputs, strict=True)
    ]
    expected = predict(converted.pivot.path, inputs)
    outputs = predict(converted.artifact.path, inputs)
    compared = quality.compare(
        expected, outputs, samples.labels, source=source, inputs=converted.pivot.inputs
    )
    cache.write(compared, folder)
    places = spread(samples.count, GOLDEN_SAMPLES)
    golden: dict[str, Any] = {f"input_{i}": array[places] for i, array in enumerate(inputs)}
    golden |= {f"output_{i}": array[places] for i, array in enumerate(outputs)}
    np.savez(folder / _GOLDEN, **golden)


def _read_golden(folder: Path, inputs: int) -> tuple[tuple[Array, ...], tuple[Floats, ...]]:
    with np.load(folder / _GOLDEN, allow_pickle=False) as arrays:
        outputs = len(arrays.files) - inputs
        return (
            tuple(arrays[f"input_{i}"] for i in range(inputs)),
            tuple(arrays[f"output_{i}"] for i in range(outputs)),
        )
