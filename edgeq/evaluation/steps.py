"""What runs in worker processes: a look into a model file, and metrics of the user's."""

import importlib
import json
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

import numpy as np

from edgeq import formats
from edgeq.core.model import TensorSpec
from edgeq.core.profile import Format
from edgeq.errors import UsageError
from edgeq.formats import onnx, tflite
from edgeq.ports import Array, OnProgress
from edgeq.quantizers.onnx_edges import IO_KEY

METRICS = "edgeq.metrics"
"""Group of entry points; each is a function of outputs and labels."""

Metric = Callable[[list[Array], Array | None], float | Mapping[str, float]]
_QUANTIZED_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinear")
_INTEGER_OPS = frozenset({"ConvInteger", "MatMulInteger", "MatMulNBits"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamineRequest:
    """``folder``: the caller's, for a copy."""

    path: Path
    format: Format
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is in a model file.

    Attributes:
        quantized: Some of its weights or activations are no longer float32.
        runs: The file to run: the model's own, or a copy that says the scales of its inputs and
            outputs where an agent looks for them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quantized: bool
    runs: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FindRequest:
    """``metrics``: names of entry points, or ``package.module:function``."""

    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """``metrics``: as in ``FindRequest``. The files are .npy; none where a model did not answer."""

    metrics: tuple[str, ...]
    float_outputs: tuple[Path, ...]
    artifact_outputs: tuple[Path, ...]
    labels: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a metric gave; None: that model did not answer, or the number was not finite."""

    name: str
    float_value: float | None
    artifact_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    scores: tuple[Score, ...]


def examine(request: ExamineRequest, on_progress: OnProgress) -> Examined:
    """Load a model file and look at its tensors.

    Raises:
        ModelError: its runtime cannot load it.
    """
    on_progress("examine", 0, 0)
    # the runtime's own check comes first: what reads the file afterwards trusts every offset
    tensors = formats.find(request.format).runner(request.path).tensors
    return Examined(
        inputs=tensors.inputs,
        outputs=tensors.outputs,
        quantized=_is_quantized(request.path, request.format),
        runs=_with_scales(request, (*tensors.inputs, *tensors.outputs)),
    )


def find(request: FindRequest, on_progress: OnProgress) -> bool:
    """Import all metrics.

    Raises:
        UsageError: there is no such metric.
    """
    on_progress("find metrics", 0, 0)
    return all(callable(_find(name)) for name in request.metrics)


def score(request: ScoreRequest, on_progress: OnProgress) -> Scored:
    """Run metrics over all outputs; they are mapped into memory, not read.

    Raises:
        UsageError: a metric is not there, or gives no numbers.
    """
    labels = None if request.labels is None else np.load(request.labels, mmap_mode="r")
    scores = []
    for name in request.metrics:
        on_progress(f"metric {name}", 0, 0)
        found = [
            _values(name, outputs, labels)
            for outputs in (request.float_outputs, request.artifact_outputs)
        ]
        scores += [
            Score(name=key, float_value=found[0].get(key), artifact_value=found[1].get(key))
            for key in dict.fromkeys((*found[0], *found[1]))
        ]
    return Scored(scores=tuple(scores))


def _values(name: str, outputs: tuple[Path, ...], labels: Array | None) -> dict[str, float | None]:
    if not outputs:
        return {}
    found: object = _find(name)([np.load(path, mmap_mode="r") for path in outputs], labels)
    if not isinstance(found, Mapping):
        return {name: _number(found, name)}
    return {f"{name}.{key}": _number(value, name) for key, value in found.items()}


def _is_quantized(path: Path, format_: Format) -> bool:
    if format_ == "tflite":
        return tflite.read_contents(path).quantized
    names = formats.find(format_).op_names(path)
    return any(name.startswith(_QUANTIZED_OPS) or name in _INTEGER_OPS for name in names)


def _with_scales(request: ExamineRequest, specs: tuple[TensorSpec, ...]) -> Path:
    """ONNX has no scale for an input of whole numbers; edgeq's own files say it in metadata."""
    scales = {spec.name: (spec.scale, spec.zero_point) for spec in specs if spec.scale is not None}
    if request.format != "onnx" or not scales:
        return request.path
    model = onnx.read(request.path)
    if any(item.key == IO_KEY for item in model.metadata_props):
        return request.path
    model.metadata_props.add(key=IO_KEY, value=json.dumps(scales))
    copy = request.folder / f"with-scales-{request.path.name}"
    onnx.write(model, copy)
    return copy


def _find(name: str) -> Metric:
    module, colon, function = name.partition(":")
    if not colon:
        found = {point.name: point for point in entry_points(group=METRICS)}
        if name not in found:
            known = f"there are: {', '.join(sorted(found))}" if found else f"none is in {METRICS}"
            raise UsageError(
                f"no metric is called {name!r}",
                hint=f"{known}; or name a function as package.module:function",
            )
        return cast("Metric", found[name].load())
    try:
        metric = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"the metric {name!r} cannot be imported: {error}",
            hint="is its folder on PYTHONPATH? it is imported in edgeq's own environment",
        ) from error
    return cast("Metric", metric)


def _number(value: object, metric: str) -> float | None:
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise UsageError(
            f"the metric {metric!r} gave {type(value).__name__}, not a number",
            hint="it returns a float, or a dict of names and floats",
        )
    number = float(value)
    return number if math.isfinite(number) else None
