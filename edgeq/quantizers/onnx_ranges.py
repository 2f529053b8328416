"""The values that a float model's tensors take on the calibration data."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from edgeq.core import ranges as rules
from edgeq.core.ranges import Range, Rule, Seen
from edgeq.core.samples import Samples
from edgeq.errors import DataError, ModelError
from edgeq.formats import Array
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import links

Floats = npt.NDArray[np.float32]


def measure(model: Model, samples: Samples) -> dict[str, Seen]:
    """Ranges and histograms of every float32 tensor of the main graph, over all samples.

    Raises:
        DataError: the model cannot run on a sample.
    """
    ranges: dict[str, Range] = {}
    for values in _values(model, samples):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            old = ranges.get(name)
            ranges[name] = Range(
                low=min(low, old.low) if old else low, high=max(high, old.high) if old else high
            )
    counts = {name: np.zeros(rules.BINS) for name in ranges}
    for values in _values(model, samples):
        for name, value in values.items():
            counts[name] += rules.counted(value, ranges[name])
    return {name: Seen(range=ranges[name], counts=counts[name]) for name in ranges}


def by_rule(seen: Mapping[str, Seen], rule: Rule) -> dict[str, Range]:
    """The range to quantize each tensor in; 0 is always inside."""
    return {name: rules.cut(item, rule) for name, item in seen.items()}


def feeds(model: Model, samples: Samples) -> Iterator[dict[str, Array]]:
    """Each sample as a model takes it, by input name."""
    from onnx import helper

    kinds = {
        item.name: helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        for item in model.graph.input
    }
    for place in range(samples.count):
        yield {
            name: array[place : place + 1].astype(kind)
            for (name, kind), array in zip(kinds.items(), samples.inputs, strict=True)
        }


def _values(model: Model, samples: Samples) -> Iterator[Mapping[str, Floats]]:
    """All float32 tensors of each sample, empty ones left out."""
    seen = _showing_all(model)
    loaded = files.session(seen, "the float model")
    shown = sorted(links(seen).floats)
    for feed in feeds(model, samples):
        try:
            values = {**files.run(loaded, feed), **feed}
        except ModelError as error:
            raise DataError(
                f"the model rejects a sample of the calibration data: {error.message}",
                hint="do its values mean what the model was trained on?",
            ) from error
        arrays = {name: np.asarray(values[name], np.float32) for name in shown if name in values}
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise DataError(
                    f"the model gets NaN or infinite values in {name} for a sample of the "
                    "calibration data",
                    hint="do its values mean what the model was trained on?",
                )
        yield {name: array for name, array in arrays.items() if array.size}


def _showing_all(model: Model) -> Model:
    """The model with every float32 tensor among its outputs."""
    from onnx import TensorProto

    made = files.copy(model)
    facts = links(model)
    for name in sorted(facts.floats & set(facts.makers) - facts.outputs):
        item = made.graph.output.add(name=name)
        item.type.tensor_type.elem_type = TensorProto.FLOAT
    return made
