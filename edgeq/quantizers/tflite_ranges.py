"""Calibration: the values that the tensors of a float .tflite take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core import ranges as rules
from edgeq.core.ranges import Range, Rule, Seen
from edgeq.errors import DataError
from edgeq.formats import Array
from edgeq.formats.tflite_graph import Graph, interpreter, run
from edgeq.ports import Batch

Ranges = dict[str, dict[str, npt.NDArray[np.float32]]]
"""ai-edge-quantizer's own form: a tensor's name to its ``min`` and ``max``, each of the tensor's
rank with all sides 1."""

# An infinite padding constant (bfloat16's lowest value) is no range: ai-edge-quantizer's own limit.
_LARGEST = 3e38


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """One float tensor; ``rank`` is the number of its axes."""

    seen: Seen
    rank: int


def measure(content: bytes, batches: Sequence[Batch]) -> Mapping[str, Measured]:
    """All float tensors that the graph computes or is given, by name, over all batches.

    Not ai-edge-quantizer's own calibrator: its default, a moving average, forgets extremes and
    costs 4 to 7 dB of SQNR, and its other modes keep copies of all tensors.

    Raises:
        DataError: a tensor is NaN for a batch.
        ValueError, RuntimeError: LiteRT cannot run it, or hides a tensor (in unrolled loops).
    """
    loaded = interpreter(content, preserve=True)
    watched = dict(_watched(loaded, content))
    found: dict[int, Range] = {}
    for number, values in _values(loaded, batches, watched):
        low, high = _ends(values, watched[number].name)
        old = found.get(number, Range(low=low, high=high))
        found[number] = Range(low=min(low, old.low), high=max(high, old.high))
    counts = {number: np.zeros(rules.BINS) for number in found}
    for number, values in _values(loaded, batches, watched):
        counts[number] += rules.counted(_finite(values), found[number])
    return {
        tensor.name: Measured(
            seen=Seen(range=found[number], counts=counts[number]), rank=tensor.rank
        )
        for number, tensor in watched.items()
    }


def by_rule(measured: Mapping[str, Measured], rule: Rule) -> Ranges:
    """The range to quantize each tensor in."""
    return {name: _form(rules.cut(item.seen, rule), item.rank) for name, item in measured.items()}


def answers(content: bytes, batches: Sequence[Batch]) -> list[list[Array]]:
    """The outputs for each batch.

    Raises:
        ValueError, RuntimeError: LiteRT cannot run it.
    """
    loaded = interpreter(content, preserve=False)
    places = [int(detail["index"]) for detail in loaded.get_output_details()]
    found = []
    for batch in batches:
        run(loaded, batch)
        found.append([np.array(loaded.get_tensor(place)) for place in places])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    name: str
    rank: int


def _watched(
    loaded: Any,  # noqa: ANN401  no types
    content: bytes,
) -> Iterator[tuple[int, _Tensor]]:
    """By number: each float tensor that the graph computes or is given."""
    graph = Graph(content)
    shapes = {int(d["index"]): d["shape"] for d in loaded.get_tensor_details()}
    for number in dict.fromkeys((*graph.inputs, *(n for op in graph.ops for n in op.outputs))):
        tensor = graph.tensors[number]
        shape = shapes.get(number)
        if tensor.dtype == "float32" and shape is not None and np.all(shape):
            yield number, _Tensor(name=tensor.name, rank=len(shape))


def _values(
    loaded: Any,  # noqa: ANN401  no types
    batches: Sequence[Batch],
    watched: Mapping[int, _Tensor],
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for batch in batches:
        run(loaded, batch)
        for number in watched:
            yield number, loaded.get_tensor(number)


def _ends(values: npt.NDArray[np.float32], name: str) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        raise DataError(
            f"the model gets NaN in {name} for a sample of the calibration data",
            hint="do its values mean what the model was trained on?",
        )
    if low > -_LARGEST and high < _LARGEST:
        return low, high
    inside = _finite(values)
    return (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)


def _finite(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[np.abs(values) < _LARGEST]


def _form(of: Range, rank: int) -> dict[str, npt.NDArray[np.float32]]:
    shape = (1,) * rank
    return {
        "min": np.full(shape, of.low, np.float32),
        "max": np.full(shape, of.high, np.float32),
    }
